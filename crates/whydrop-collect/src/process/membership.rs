//! The control groups of a process, and what their names tell: systemd unit, container, pod.
//!
//! Names are all there is without asking a daemon, so these are the habits of systemd, Docker,
//! Podman, containerd, CRI-O, LXC and the kubelet. A name that follows none of them tells nothing.

use std::collections::BTreeMap;

use whydrop_model::{Pod, Process};

/// What `/proc/PID/cgroup` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Membership {
    /// Path in the v2 hierarchy; `None` if there is none.
    pub(crate) unified: Option<String>,
    /// Path by v1 controller, `name=systemd` among them.
    pub(crate) controllers: BTreeMap<String, String>,
}

/// Ids of containers are the hexadecimal digits of a SHA-256.
const ID: usize = 64;
/// What runtimes put before the id of a container.
const RUNTIMES: [&str; 4] = ["docker-", "cri-containerd-", "crio-", "libpod-"];

impl Membership {
    /// Lines such as `4:memory:/docker/...` and, for v2, `0::/system.slice/...`.
    pub(crate) fn parse(text: &str) -> Self {
        let mut membership = Self::default();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if !path.starts_with('/') {
                continue;
            }
            // The kernel's mark for a group that was removed while the process lingers in it.
            let path = path.strip_suffix(" (deleted)").unwrap_or(path);
            if controllers.is_empty() {
                membership.unified = Some(path.to_owned());
            }
            for controller in controllers.split(',').filter(|name| !name.is_empty()) {
                membership.controllers.insert(controller.to_owned(), path.to_owned());
            }
        }
        membership
    }

    /// Writes what the names tell into the process.
    pub(crate) fn tell(self, process: &mut Process) {
        let Some(path) = self.telling() else { return };
        let path = path.to_owned();
        process.unit = unit(&path);
        process.container = container(&path);
        process.pod = pod_uid(&path).map(|uid| Pod { uid, ..Pod::default() });
        process.cgroup_of = self
            .controllers
            .into_iter()
            .filter(|(controller, of)| ["cpu", "memory"].contains(&&**controller) && *of != path)
            .collect();
        process.cgroup = Some(path);
    }

    /// The path whose names tell most: the first that tells anything of that of v2, that of systemd
    /// and the rest; if none does, the first that is not the root.
    fn telling(&self) -> Option<&str> {
        let systemd = self.controllers.get("name=systemd");
        let paths = || self.unified.iter().chain(systemd).chain(self.controllers.values());
        let tells = |path: &&String| {
            unit(path).is_some() || container(path).is_some() || pod_uid(path).is_some()
        };
        let path = paths().find(tells).or_else(|| paths().find(|path| *path != "/"));
        path.or_else(|| paths().next()).map(String::as_str)
    }
}

/// The innermost unit with processes of its own.
fn unit(path: &str) -> Option<String> {
    let is_unit = |name: &&str| {
        name.rsplit_once('.').is_some_and(|(_, kind)| ["service", "scope"].contains(&kind))
    };
    path.rsplit('/').find(is_unit).map(str::to_owned)
}

/// Id of the innermost container or, for LXC and systemd-nspawn, its name.
fn container(path: &str) -> Option<String> {
    let mut outer: Vec<&str> = path.split('/').collect();
    while let Some(name) = outer.pop() {
        if let Some(id) = container_id(name) {
            return Some(id.to_owned());
        }
        let named = name
            .strip_prefix("lxc.payload.")
            .or_else(|| name.strip_prefix("machine-")?.strip_suffix(".scope"))
            .or_else(|| (outer.last() == Some(&"lxc")).then_some(name));
        if let Some(named) = named.filter(|named| !named.is_empty()) {
            return Some(named.to_owned());
        }
    }
    None
}

fn container_id(name: &str) -> Option<&str> {
    // containerd's mix of both drivers: `kubepods-pod<uid>.slice:cri-containerd:<id>`.
    let name = name.rsplit(':').next().unwrap_or(name);
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let name = RUNTIMES.iter().find_map(|runtime| name.strip_prefix(runtime)).unwrap_or(name);
    (name.len() == ID && name.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(name)
}

/// The uid in `.../pod<uid>/...` or `...-pod<uid>.slice`, which writes `_` for `-`.
fn pod_uid(path: &str) -> Option<String> {
    path.split(['/', ':']).filter(|_| path.contains("kubepods")).find_map(|name| {
        let name = name.strip_suffix(".slice").unwrap_or(name);
        let uid = match name.strip_prefix("pod") {
            Some(uid) => uid,
            None => name.strip_prefix("kubepods")?.rsplit_once("-pod")?.1,
        };
        let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
        let dashes = uid.bytes().filter(|byte| matches!(byte, b'-' | b'_')).count();
        // A UUID, or the MD5 sum by which the kubelet calls a static pod.
        let known = digits == 32 && (dashes == 4 || dashes == 0) && digits + dashes == uid.len();
        known.then(|| uid.replace('_', "-"))
    })
}

/// Adds what the kubelet's log folder tells: `NAMESPACE_NAME_UID` in `pods`.
pub(crate) fn name_pod(pod: &mut Pod, entries: impl Iterator<Item = String>) {
    for entry in entries {
        let mut fields = entry.splitn(3, '_');
        let (Some(namespace), Some(name), Some(uid)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if uid == pod.uid {
            pod.namespace = Some(namespace.to_owned());
            pod.name = Some(name.to_owned());
            return;
        }
    }
}

/// Adds what the links beside it tell: `NAME_NAMESPACE_CONTAINER-ID.log` in `containers`.
pub(crate) fn name_container(pod: &mut Pod, id: &str, entries: impl Iterator<Item = String>) {
    let ending = format!("-{id}.log");
    for entry in entries {
        let Some(names) = entry.strip_suffix(&ending) else { continue };
        if let Some(container) = names.splitn(3, '_').nth(2) {
            pod.container = Some(container.to_owned());
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const POD: &str = "1b2c3d4e-0000-1111-2222-333344445555";

    fn told(text: &str) -> Process {
        let mut process = Process::default();
        Membership::parse(text).tell(&mut process);
        process
    }

    /// Unit, container and pod by the path in v2.
    fn at(path: &str) -> (Option<String>, Option<String>, Option<String>) {
        let text = path.replace("ID", CONTAINER).replace("POD", POD);
        let process = told(&format!("0::{}\n", text.replace("P_D", &POD.replace('-', "_"))));
        (process.unit, process.container, process.pod.map(|pod| pod.uid))
    }

    #[test]
    fn units_of_systemd() {
        let unit = |path: &str| at(path).0;
        assert_eq!(unit("/system.slice/nginx.service").as_deref(), Some("nginx.service"));
        assert_eq!(
            unit("/user.slice/user-1000.slice/user@1000.service/app.slice/a.service").as_deref(),
            Some("a.service")
        );
        assert_eq!(
            unit("/system.slice/system-getty.slice/getty@tty1.service/x").as_deref(),
            Some("getty@tty1.service")
        );
        assert_eq!(
            unit("/user.slice/user-0.slice/session-3.scope").as_deref(),
            Some("session-3.scope")
        );
        assert_eq!(at("/"), (None, None, None));
        assert_eq!(at("/system.slice"), (None, None, None));
    }

    #[test]
    fn containers_of_all_runtimes() {
        let id = Some(CONTAINER.to_owned());
        for path in [
            "/docker/ID",
            "/system.slice/docker-ID.scope",
            "/machine.slice/libpod-ID.scope",
            "/machine.slice/libpod-ID.scope/container",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
            "/ecs/0123456789/ID",
            "/docker/ffff/docker/ID",
            "/../ID",
        ] {
            let (_, container, pod) = at(path);
            assert_eq!((container, pod), (id.clone(), None), "{path}");
        }
        for (path, name) in [
            ("/lxc.payload.web", "web"),
            ("/lxc.payload.web/system.slice", "web"),
            ("/lxc/web", "web"),
            ("/machine.slice/machine-web.scope/payload", "web"),
        ] {
            assert_eq!(at(path).1.as_deref(), Some(name), "{path}");
        }
        for path in [
            "/machine.slice/libpod-conmon-ID.scope",
            "/system.slice/crio-conmon-ID.scope",
            "/docker/0123",
            "/system.slice/docker.service",
        ] {
            assert_eq!(at(path).1, None, "{path}");
        }
    }

    #[test]
    fn pods_of_both_drivers() {
        for path in [
            "/kubepods/besteffort/podPOD/ID",
            "/kubepods/podPOD/ID",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podP_D.slice/cri-containerd-ID.scope",
            "/kubepods.slice/kubepods-podP_D.slice/crio-ID.scope",
            "/kubepods.slice/kubepods-podP_D.slice/crio-ID.scope/container",
            "/system.slice/containerd.service/kubepods-burstable-podP_D.slice:cri-containerd:ID",
            "/kubelet.slice/kubelet-kubepods.slice/podPOD/ID",
        ] {
            let (_, container, pod) = at(path);
            assert_eq!(container.as_deref(), Some(CONTAINER), "{path}");
            assert_eq!(pod.as_deref(), Some(POD), "{path}");
        }
        let fixed = "/kubepods.slice/kubepods-pod0123456789abcdef0123456789abcdef.slice/x";
        assert_eq!(at(fixed).2.as_deref(), Some("0123456789abcdef0123456789abcdef"));
        assert_eq!(at("/kubepods/podium/ID").2, None);
        assert_eq!(at("/podPOD/ID").2, None, "not the kubelet's");
    }

    #[test]
    fn the_hierarchy_that_tells_most_is_taken() {
        let process = told(
            "9:name=systemd:/system.slice/a.service\n4:memory:/other\n1:cpu,cpuacct:/system.slice/a.service\n0::/\n",
        );
        assert_eq!(process.cgroup.as_deref(), Some("/system.slice/a.service"));
        assert_eq!(process.unit.as_deref(), Some("a.service"));
        assert_eq!(process.cgroup_of, BTreeMap::from([("memory".into(), "/other".into())]));

        let process = told(&format!("4:memory:/docker/{CONTAINER}\n1:cpu:/\n"));
        assert_eq!(process.container.as_deref(), Some(CONTAINER));
        assert_eq!(process.cgroup_of, BTreeMap::from([("cpu".into(), "/".into())]));
        assert_eq!(told("0::/\n").cgroup.as_deref(), Some("/"));
        let process = told("4:memory:/a/b\n1:cpu:/x.slice/x.service\n0::/y\n");
        assert_eq!(process.unit.as_deref(), Some("x.service"));
        assert_eq!(process.cgroup_of, BTreeMap::from([("memory".into(), "/a/b".into())]));
        assert_eq!(told("4:memory:/a\n0::/\n").cgroup.as_deref(), Some("/a"));
        assert_eq!(told(""), Process::default());
        assert_eq!(
            told("0::/a.service (deleted)").cgroup.as_deref(),
            Some("/a.service"),
            "it was removed"
        );
    }

    #[test]
    fn the_kubelets_logs_name_the_pod() {
        let mut pod = Pod { uid: POD.into(), ..Pod::default() };
        let entries = ["noise".to_owned(), "a_b_c".to_owned(), format!("shop_web-7d9_{POD}")];
        name_pod(&mut pod, entries.into_iter());
        assert_eq!(
            (pod.namespace.as_deref(), pod.name.as_deref()),
            (Some("shop"), Some("web-7d9"))
        );
        let entries = ["x.log".to_owned(), format!("web-7d9_shop_app-{CONTAINER}.log")];
        name_container(&mut pod, CONTAINER, entries.into_iter());
        assert_eq!(pod.container.as_deref(), Some("app"));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,120}", odd in "([0-9]:|cpu|/|kubepods|-pod|:|[a-f0-9]{32}|\\.scope|\n){0,12}") {
            for text in [&text, &odd] {
                told(text);
                let mut pod = Pod::default();
                name_pod(&mut pod, std::iter::once(text.clone()));
                name_container(&mut pod, "", std::iter::once(text.clone()));
            }
        }
    }
}
