//! What to install where debug information of the kernel is missing.

use std::fs;

use super::Places;

/// How each distribution family calls the package, by the names in `os-release(5)`. `{}` is the release
/// of the kernel.
const PACKAGES: [(&str, &str); 6] = [
    ("ubuntu", "apt install linux-image-{}-dbgsym, from ddebs.ubuntu.com"),
    ("debian", "apt install linux-image-{}-dbg"),
    ("fedora", "dnf debuginfo-install kernel-core-{}"),
    ("rhel", "dnf debuginfo-install kernel-core-{}"),
    ("opensuse", "zypper install kernel-default-debuginfo, from the debug repository"),
    ("suse", "zypper install kernel-default-debuginfo, from the debug repository"),
];

impl Places {
    /// What would bring debug information of the running kernel: a package, if the kernel came with
    /// one, else its own `vmlinux`.
    pub(crate) fn advice(&self) -> String {
        let release = &self.release;
        let own =
            || format!("put the vmlinux of its build at /usr/lib/debug/boot/vmlinux-{release}");
        // Package managers put the image there; a kernel that something else booted is not theirs.
        let images = [format!("boot/vmlinuz-{release}"), format!("lib/modules/{release}/vmlinuz")];
        if !images.iter().any(|image| self.at(image).is_file()) {
            return own();
        }
        let text = fs::read_to_string(self.at("etc/os-release")).unwrap_or_default();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.unwrap_or_default().trim_matches('"').to_owned()
        };
        let names = format!("{} {}", value("ID"), value("ID_LIKE"));
        let known = names
            .split_whitespace()
            .flat_map(|name| name.split('-'))
            .find_map(|name| PACKAGES.iter().find(|(known, _)| *known == name));
        known.map_or_else(own, |(_, package)| package.replace("{}", release))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_the_package_of_the_distribution() {
        for (os, image, expected) in [
            ("ID=debian\n", "boot/vmlinuz-6.1", "apt install linux-image-6.1-dbg"),
            (
                "NAME=\"Linux Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n",
                "boot/vmlinuz-6.1",
                "apt install linux-image-6.1-dbgsym, from ddebs.ubuntu.com",
            ),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                "lib/modules/6.1/vmlinuz",
                "dnf debuginfo-install kernel-core-6.1",
            ),
            (
                "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n",
                "boot/vmlinuz-6.1",
                "zypper install kernel-default-debuginfo, from the debug repository",
            ),
            (
                "ID=debian\n",
                "boot/vmlinuz-5.10",
                "put the vmlinux of its build at /usr/lib/debug/boot/vmlinux-6.1",
            ),
            (
                "ID=gentoo\n",
                "boot/vmlinuz-6.1",
                "put the vmlinux of its build at /usr/lib/debug/boot/vmlinux-6.1",
            ),
        ] {
            let root = tempfile::tempdir().expect("a folder");
            for (path, text) in [("etc/os-release", os), (image, "")] {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                fs::write(path, text).expect("written");
            }
            assert_eq!(Places::new(root.path(), "6.1").advice(), expected);
        }
    }
}
