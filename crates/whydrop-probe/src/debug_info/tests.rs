//! On files of `fixtures/debug_info`, in folders laid out as distributions do.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use whydrop_model::CallSite;

use super::*;

const KERNEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/debug_info/vmlinux");
const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/debug_info/udp.ko");

/// Where the kernel of these tests was loaded to.
const TEXT: u64 = 0xffff_ffff_9a00_0000;

/// Return addresses in the linked file, from its `_stext` on; in the module they are from the begin
/// of their sections on.
const AFTER_MERGED_DROP: u64 = 0x39;
const AFTER_DROP_IN_SLOW_PATH: u64 = 0x49;

/// The note that shows a build id in `/sys`, among others.
fn notes(id: [u8; 8]) -> Vec<u8> {
    let note = |name: &[u8; 4], kind: u32, desc: &[u8]| {
        let header = [4, desc.len() as u32, kind].map(u32::to_ne_bytes).concat();
        [&header, &name[..], desc].concat()
    };
    [note(b"Xen\0", 3, &[1, 2, 3, 4]), note(b"GNU\0", 3, &id)].concat()
}

/// A host that runs the kernel and has loaded the module.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().expect("a folder"));
        host.write("sys/kernel/notes", notes([1, 2, 3, 4, 5, 6, 7, 8]));
        let id = notes([0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18]);
        host.write("sys/module/nf_udp/notes/.note.gnu.build-id", id);
        host.write("sys/module/nf_udp/sections/.text.udp_rcv", "0xffffffffc0100000\n");
        host.write("sys/module/nf_udp/sections/.text.unlikely", "0xffffffffc0104000\n");
        host.write("sys/module/nf_udp/sections/.bss", "0xffffffffc0100000\n");
        let list = "kernel/lib/crc.ko.zst:\nkernel/net/nf-udp.ko.xz: kernel/lib/crc.ko.zst\n";
        host.write("lib/modules/6.1.0-test/modules.dep", list);
        host
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("written");
    }

    /// Installs a file.
    fn has(self, path: &str, file: &str) -> Self {
        self.write(path, fs::read(file).expect("a fixture"));
        self
    }

    fn places(&self) -> Places {
        Places::new(self.0.path(), "6.1.0-test")
    }

    fn debug_info(&self) -> DebugInfo {
        DebugInfo::new(self.places(), Some(TEXT))
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path)
    }
}

/// What is told of a return address, as text: merged functions from the inside out, then the line.
fn told(info: &mut DebugInfo, return_address: u64, module: Option<&str>) -> Vec<String> {
    let site = CallSite { symbol: "udp_rcv".into(), offset: 0, module: module.map(str::to_owned) };
    let mut frame = Frame::from(site);
    info.annotate_call(return_address, &mut frame);
    let line = |line: &Option<SourceLine>| line.as_ref().map_or("-".into(), ToString::to_string);
    let inlined = frame.inlined.iter().map(|it| format!("{} {}", it.symbol, line(&it.line)));
    inlined.chain([line(&frame.line)]).collect()
}

const MERGED: [&str; 3] =
    ["kfree_skb_reason include/linux/skbuff.h:6", "udp_drop net/ipv4/udp.c:6", "net/ipv4/udp.c:13"];

#[test]
fn the_kernel_tells_lines_and_merged_functions_wherever_it_was_loaded() {
    for path in [
        "usr/lib/debug/boot/vmlinux-6.1.0-test",
        "usr/lib/debug/lib/modules/6.1.0-test/vmlinux",
        "usr/lib/debug/.build-id/01/02030405060708.debug",
        "lib/modules/6.1.0-test/build/vmlinux",
    ] {
        let host = Host::new().has(path, KERNEL);
        assert_eq!(host.places().kernel(), Ok(host.path(path)));
        let mut info = host.debug_info();
        for _ in 0..2 {
            assert_eq!(told(&mut info, TEXT + AFTER_MERGED_DROP, None), MERGED, "{path}");
        }
        assert_eq!(told(&mut info, TEXT + AFTER_DROP_IN_SLOW_PATH, None), ["net/ipv4/udp.c:19"]);
        // Code that no unit describes.
        assert_eq!(told(&mut info, TEXT + 0x10_0000, None), ["-"]);
        assert_eq!(told(&mut info, 1, None), ["-"]);
        assert_eq!(info.refused(), Vec::<&Unusable>::new());
    }
}

#[test]
fn each_section_of_a_module_is_looked_up_where_it_was_loaded() {
    for path in [
        "usr/lib/debug/lib/modules/6.1.0-test/kernel/net/nf-udp.ko.debug",
        "usr/lib/debug/lib/modules/6.1.0-test/kernel/net/nf-udp.ko",
        "usr/lib/debug/.build-id/11/12131415161718.debug",
        "lib/modules/6.1.0-test/kernel/net/nf-udp.ko",
    ] {
        let host = Host::new().has(path, MODULE);
        let mut info = host.debug_info();
        let module = Some("nf_udp");
        // udp_rcv begins 0x20 behind _stext in the linked file, its slow path at 0x43.
        let merged = 0xffff_ffff_c010_0000 + AFTER_MERGED_DROP - 0x20;
        assert_eq!(told(&mut info, merged, module), MERGED, "{path}");
        let slow = 0xffff_ffff_c010_4000 + AFTER_DROP_IN_SLOW_PATH - 0x43;
        assert_eq!(told(&mut info, slow, module), ["net/ipv4/udp.c:19"], "{path}");
        // Behind the end of the section.
        assert_eq!(told(&mut info, 0xffff_ffff_c010_5000, module), ["-"]);
        assert_eq!(told(&mut info, merged + 1, Some("other")), ["-"]);
    }
}

#[test]
fn the_file_of_another_build_is_refused() {
    let path = "usr/lib/debug/boot/vmlinux-6.1.0-test";
    let host = Host::new().has(path, MODULE);
    let what = "the kernel".to_owned();
    assert_eq!(host.places().kernel(), Err(Unusable::OtherBuild { path: host.path(path), what }));
    let mut info = host.debug_info();
    assert_eq!(told(&mut info, TEXT + AFTER_MERGED_DROP, None), ["-"]);
    let [why] = info.refused()[..] else { panic!("{:?}", info.refused()) };
    let said = "vmlinux-6.1.0-test is of another build than the kernel, which is running";
    assert!(why.to_string().ends_with(said), "{why}");
    // One that is right is found behind it.
    let good = "lib/modules/6.1.0-test/build/vmlinux";
    let host = host.has(good, KERNEL);
    assert_eq!(host.places().kernel(), Ok(host.path(good)));
}

#[test]
fn what_runs_without_debug_information_is_passed_over() {
    let host = Host::new();
    let mut stripped = fs::read(MODULE).expect("a fixture");
    let name = b".debug_info\0";
    let at = stripped.windows(name.len()).position(|it| it == name).expect("its name");
    stripped[at + 1] = b'-';
    for path in ["lib/modules/6.1.0-test/kernel/net/nf-udp.ko", "boot/vmlinux-6.1.0-test"] {
        host.write(path, &stripped);
    }
    let mut info = host.debug_info();
    assert_eq!(told(&mut info, 0xffff_ffff_c010_0001, Some("nf_udp")), ["-"]);
    assert_eq!(told(&mut info, TEXT + AFTER_MERGED_DROP, None), ["-"]);
    assert_eq!(info.refused(), Vec::<&Unusable>::new());
}

#[test]
fn what_cannot_be_compared_or_read_is_not_used() {
    let path = "usr/lib/debug/boot/vmlinux-6.1.0-test";
    let host = Host::new();
    let none = Unusable::NotInstalled { what: "the kernel".into() };
    assert_eq!(host.places().kernel(), Err(none));
    assert_eq!(host.debug_info().refused(), Vec::<&Unusable>::new());

    let host = Host::new().has(path, KERNEL);
    host.write("sys/kernel/notes", "");
    let why = host.places().kernel().expect_err("not compared").to_string();
    assert!(why.ends_with("sys/kernel/notes: the running build has no build id"), "{why}");

    let host = Host::new();
    host.write(path, "no ELF file");
    let why = host.places().kernel().expect_err("no ELF file");
    assert!(matches!(why, Unusable::Unreadable { .. }), "{why:?}");

    // Cut off in the middle of its debug information.
    let host = Host::new();
    let whole = fs::read(KERNEL).expect("a fixture");
    for length in (0..whole.len()).step_by(97) {
        host.write(path, &whole[..length]);
        let mut info = host.debug_info();
        assert_eq!(told(&mut info, TEXT + AFTER_MERGED_DROP, None), ["-"], "{length} bytes");
    }
}

#[test]
fn damaged_files_tell_nothing_and_break_nothing() {
    for (path, file, address, module) in [
        ("usr/lib/debug/boot/vmlinux-6.1.0-test", KERNEL, TEXT + AFTER_MERGED_DROP, None),
        (
            "lib/modules/6.1.0-test/kernel/net/nf-udp.ko",
            MODULE,
            0xffff_ffff_c010_0000 + AFTER_MERGED_DROP - 0x20,
            Some("nf_udp"),
        ),
    ] {
        let host = Host::new();
        let whole = fs::read(Path::new(file)).expect("a fixture");
        for at in (0..whole.len()).step_by(13) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            host.write(path, &damaged);
            let told = told(&mut host.debug_info(), address, module);
            assert!(!told.is_empty(), "byte {at}");
        }
    }
}
