//! Whether a question would make the kernel load a module.
//!
//! A kernel that has nftables as a module loads it when somebody asks for its rules. Watching changes
//! nothing on the host, so what is not there is not asked for: it has nothing to tell anyway.

use std::fs;

use crate::Roots;

/// True if this is a module that is not loaded. In doubt it is none.
pub(crate) fn is_absent(roots: &Roots, name: &str) -> bool {
    let Ok(loaded) = fs::read_to_string(roots.proc.join("modules")) else {
        // A kernel that has no modules.
        return false;
    };
    if loaded.lines().any(|line| line.split(' ').next() == Some(name)) {
        return false;
    }
    let Ok(release) = fs::read_to_string(roots.proc.join("sys/kernel/osrelease")) else {
        return false;
    };
    let list = roots.modules.join(release.trim_end()).join("modules.builtin");
    // Lines as `kernel/net/netfilter/nf_tables.ko`.
    fs::read_to_string(list).is_ok_and(|built_in| {
        !built_in.lines().any(|line| {
            let file = line.rsplit('/').next().unwrap_or(line);
            file.trim_end_matches(".ko").replace('-', "_") == name
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn loaded_built_in_and_absent() {
        let roots = fixture::roots("linux-4.19");
        assert!(!is_absent(&roots, "nf_tables"), "loaded");
        assert!(!is_absent(&roots, "xfrm_user"), "built in");
        assert!(is_absent(&roots, "nf_conntrack_netlink"));
        assert!(!is_absent(&fixture::roots("linux-6.18"), "nf_tables"), "no modules at all");
        let roots = Roots { modules: "/nonexistent".into(), ..roots };
        assert!(!is_absent(&roots, "nf_conntrack_netlink"), "nobody knows");
    }
}
