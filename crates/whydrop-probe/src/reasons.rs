//! Names of drop reasons, from the type information of the running kernel.
//!
//! The numbers differ from kernel to kernel (`NO_SOCKET` is 2 on 6.1 and 3 on 6.12), so no number
//! is written down here. Core reasons are the members of `enum skb_drop_reason` (5.17). Since 6.3
//! a subsystem may have reasons of its own, told apart by the upper 16 bits
//! (`include/net/dropreason.h`); its enum lies in the image or in the BTF of its module.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::btf::Btf;

const CORE_ENUM: &str = "skb_drop_reason";
const SUBSYSTEM_ENUM: &str = "skb_drop_reason_subsys";
/// The name of every reason on a kernel that has none, and of the reason for "none given".
const NOT_SPECIFIED: &str = "NOT_SPECIFIED";

/// One drop reason of the running kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Its number on this kernel.
    pub value: u32,
    /// Its name, without `SKB_DROP_REASON_`.
    pub name: String,
    /// The subsystem it belongs to, by its name in `enum skb_drop_reason_subsys`, without the
    /// prefix; `None` for core reasons.
    pub subsystem: Option<String>,
}

/// The drop reasons of the running kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reasons {
    by_value: BTreeMap<u32, Reason>,
    subsystems: BTreeMap<u32, String>,
}

impl Reasons {
    /// Reads the reasons from the kernel's BTF, and from that of the modules that lie beside it.
    ///
    /// Fails only if the kernel's own cannot be read; a module's that cannot costs its reasons.
    pub fn read(btf: &Path) -> Result<Self, Error> {
        let base = Btf::read(btf)?;
        let modules = modules_beside(btf).into_iter().filter_map(|module| {
            let bytes = fs::read(module).ok().filter(|bytes| mentions_reasons(bytes))?;
            Btf::parse_module(bytes, &base).ok()
        });
        Ok(Self::of(&base, modules))
    }

    /// Those of a kernel image and of its modules, which are read only if they can have any.
    pub(crate) fn of(base: &Btf, modules: impl Iterator<Item = Btf>) -> Self {
        let mut reasons = Self::default();
        reasons.take_core(base);
        reasons.take_subsystems(base);
        if !reasons.subsystems.is_empty() {
            modules.for_each(|module| reasons.take_subsystems(&module));
        }
        reasons
    }

    fn take_core(&mut self, btf: &Btf) {
        for found in btf.enums() {
            let members = found.members().filter_map(|(name, value)| {
                Some((
                    name.strip_prefix("SKB_DROP_REASON_").unwrap_or(name),
                    value.try_into().ok()?,
                ))
            });
            match found.name() {
                CORE_ENUM => {
                    for (name, value) in members.filter(|(name, _)| !is_bound(name)) {
                        self.insert(value, name, None);
                    }
                }
                SUBSYSTEM_ENUM => {
                    self.subsystems = members
                        .filter_map(|(name, value)| Some((value, name.strip_prefix("SUBSYS_")?)))
                        .filter(|(_, name)| !matches!(*name, "CORE" | "NUM"))
                        .map(|(value, name)| (value, name.to_owned()))
                        .collect();
                }
                _ => {}
            }
        }
    }

    /// Takes every enum that looks like a subsystem's reasons.
    fn take_subsystems(&mut self, btf: &Btf) {
        let enums = btf
            .enums()
            .filter(|found| found.name().ends_with("_drop_reason") && found.name() != CORE_ENUM);
        for (name, value) in enums.flat_map(|found| found.members()) {
            let Ok(value) = u32::try_from(value) else { continue };
            let Some(subsystem) = self.subsystems.get(&(value >> 16)).cloned() else { continue };
            // Members that open and close the list begin with underscores.
            if !name.starts_with('_') && !is_bound(name) {
                self.insert(value, name, Some(subsystem));
            }
        }
    }

    fn insert(&mut self, value: u32, name: &str, subsystem: Option<String>) {
        let reason = Reason { value, name: name.to_owned(), subsystem };
        self.by_value.entry(value).or_insert(reason);
    }

    /// The name of a reason; `UNKNOWN_<number>` if the kernel's BTF does not have it. On a kernel
    /// without reasons (before 5.17) everything is `NOT_SPECIFIED`.
    pub fn name(&self, value: u32) -> String {
        match self.by_value.get(&value) {
            Some(reason) => reason.name.clone(),
            None if self.by_value.is_empty() => NOT_SPECIFIED.to_owned(),
            None => format!("UNKNOWN_{value}"),
        }
    }

    /// All reasons by number.
    pub fn iter(&self) -> impl Iterator<Item = &Reason> {
        self.by_value.values()
    }

    /// Names of the subsystems that this kernel can tell apart, whether or not their reasons are
    /// known.
    pub fn subsystems(&self) -> impl Iterator<Item = &str> {
        self.subsystems.values().map(String::as_str)
    }

    /// True on a kernel that gives no reasons.
    pub fn is_empty(&self) -> bool {
        self.by_value.is_empty()
    }

    /// How many reasons are known.
    pub fn len(&self) -> usize {
        self.by_value.len()
    }
}

/// True for members that are no reasons: the end of a list and the mask of the subsystem.
fn is_bound(name: &str) -> bool {
    name == "MAX" || name == "SUBSYS_MASK" || name.ends_with("_DROP_MAX")
}

/// The other files in the folder of `btf`, if that is where the kernel shows its own.
fn modules_beside(btf: &Path) -> Vec<PathBuf> {
    if btf.file_name().is_none_or(|name| name != "vmlinux") {
        return Vec::new();
    }
    let Some(Ok(folder)) = btf.parent().map(fs::read_dir) else { return Vec::new() };
    let mut modules: Vec<_> =
        folder.flatten().map(|entry| entry.path()).filter(|path| path != btf).collect();
    modules.sort();
    modules
}

/// A quick look before parsing: there may be hundreds of modules.
fn mentions_reasons(bytes: &[u8]) -> bool {
    let wanted = b"_drop_reason\0";
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btf::tests::Builder;

    fn core() -> Builder {
        Builder::new()
            .enumeration(
                "skb_drop_reason",
                &[
                    ("SKB_NOT_DROPPED_YET", 0),
                    ("SKB_DROP_REASON_NOT_SPECIFIED", 2),
                    ("SKB_DROP_REASON_NO_SOCKET", 3),
                    ("SKB_DROP_REASON_MAX", 4),
                    ("SKB_DROP_REASON_SUBSYS_MASK", 0xffff_0000),
                ],
            )
            .enumeration(
                "skb_drop_reason_subsys",
                &[
                    ("SKB_DROP_REASON_SUBSYS_CORE", 0),
                    ("SKB_DROP_REASON_SUBSYS_OPENVSWITCH", 2),
                    ("SKB_DROP_REASON_SUBSYS_NUM", 3),
                ],
            )
    }

    /// A folder as `/sys/kernel/btf`, gone when dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new(test: &str) -> Self {
            let name = format!("whydrop-reasons-{test}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, bytes).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn core_reasons_without_prefix_and_bounds() {
        let folder = Folder::new("core");
        let reasons = Reasons::read(&folder.write("vmlinux", &core().bytes())).unwrap();
        let names: Vec<_> = reasons.iter().map(|reason| reason.name.as_str()).collect();
        assert_eq!(names, ["SKB_NOT_DROPPED_YET", "NOT_SPECIFIED", "NO_SOCKET"]);
        assert_eq!(reasons.name(3), "NO_SOCKET");
        assert_eq!(reasons.name(4), "UNKNOWN_4");
        assert_eq!(reasons.subsystems().collect::<Vec<_>>(), ["OPENVSWITCH"]);
    }

    #[test]
    fn a_module_adds_its_reasons_and_a_broken_one_costs_only_its_own() {
        let folder = Folder::new("modules");
        let base = core().bytes();
        let image = folder.write("vmlinux", &base);
        let members = [
            ("__OVS_DROP_REASON", 2 << 16),
            ("OVS_DROP_LAST_ACTION", (2 << 16) + 1),
            ("__OVS_DROP_MAX", (2 << 16) + 2),
            ("FOREIGN", 7 << 16 | 1),
        ];
        let module = Builder::on(&base).enumeration("ovs_drop_reason", &members).bytes();
        folder.write("openvswitch", &module);
        folder.write("broken", &module[..module.len() - 20]);
        folder.write("empty", b"");
        let reasons = Reasons::read(&image).unwrap();
        assert_eq!(reasons.len(), 4);
        let reason = reasons.iter().last().unwrap();
        assert_eq!(reason.name, "OVS_DROP_LAST_ACTION");
        assert_eq!(reason.subsystem.as_deref(), Some("OPENVSWITCH"));
    }

    #[test]
    fn a_kernel_without_reasons_has_one_name() {
        let folder = Folder::new("none");
        let bytes = Builder::new().enumeration("colour", &[("RED", 1)]).bytes();
        let reasons = Reasons::read(&folder.write("vmlinux", &bytes)).unwrap();
        assert!(reasons.is_empty());
        assert_eq!(reasons.name(0), "NOT_SPECIFIED");
        assert_eq!(reasons.name(77), "NOT_SPECIFIED");
    }

    #[test]
    fn missing_and_corrupt_files_are_told_apart() {
        let folder = Folder::new("corrupt");
        let missing = Reasons::read(&folder.0.join("none")).unwrap_err();
        assert!(matches!(missing, Error::NoBtf { .. }), "{missing}");
        let corrupt = Reasons::read(&folder.write("vmlinux", b"hello")).unwrap_err();
        assert!(matches!(corrupt, Error::BadBtf { .. }), "{corrupt}");
    }
}
