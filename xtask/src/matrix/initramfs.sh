# Builds the file system that a kernel of the matrix boots from: initramfs.sh KERNEL PROGRAM INIT QUESTIONS OUT
# KERNEL is an unpacked kernel package, PROGRAM is whydrop, the next two are the guest's scripts.
set -eu
kernel=$1 program=$2 init=$3 questions=$4 out=$5
export PATH=$PATH:/usr/sbin:/sbin
modules=$(find "$kernel" -type d -path '*lib/modules/*' -prune)
release=$(basename "$modules")
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,sbin,usr/sbin,proc,sys,dev,run,tmp,etc,root,lib64} "$root/usr/lib/modules/$release/kernel"
ln -s usr/lib "$root/lib"

# Not busybox's shell: that one prefers its own `ip` to the real one.
cp "$(command -v busybox)" "$root/bin/busybox"
for applet in cat grep kill mkdir mount ps poweroff rm sed sleep sysctl zcat; do
    ln -s busybox "$root/bin/$applet"
done
# add FILE NAME: a program with the libraries that it needs; a static one needs none.
add() {
    install -D "$1" "$root/$2"
    { ldd "$1" 2>/dev/null || true; } | { grep -o '/[^ ]*' || true; } | while read -r library; do
        install -D "$(readlink -f "$library")" "$root/usr/lib/x86_64-linux-gnu/${library##*/}"
    done
}
for name in dash ip nft tc bridge kmod strace; do
    add "$(readlink -f "$(command -v $name)")" "usr/sbin/$name"
done
add "$program" bin/whydrop
cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
ln -s ../usr/sbin/dash "$root/bin/sh"
# The kernel itself asks for modules by this name.
ln -s ../usr/sbin/kmod "$root/sbin/modprobe"

for part in net drivers/net crypto lib arch; do
    [ -d "$modules/kernel/$part" ] || continue
    mkdir -p "$root/usr/lib/modules/$release/kernel/$part"
    cp -r "$modules/kernel/$part/." "$root/usr/lib/modules/$release/kernel/$part"
done
rm -rf "$root/usr/lib/modules/$release/kernel/drivers/net/ethernet"
# Since 7.0 these lie beside the image, not beside the modules.
for list in order builtin builtin.modinfo; do
    file=$(find "$kernel" -name "modules.$list" -type f | head -n 1)
    if [ -n "$file" ]; then cp "$file" "$root/usr/lib/modules/$release/"; fi
done
depmod -b "$root" "$release"

install "$init" "$root/init"
install -m 644 "$questions" "$root/questions"
(cd "$root" && find . | cpio -o -H newc --quiet) >"$out"
