//! Every collector.
//!
//! To add one: write `collectors/<name>.rs` with its `COLLECTOR` and its tests, and name it in the
//! two lists here. Nothing else needs to know it, unless it fills a new kind of fact: then
//! `collector::Facts` and `merge` get a field.

use crate::collector::Collector;

pub(crate) mod addresses;
pub(crate) mod half_open;
pub(crate) mod links;
pub(crate) mod listeners;
pub(crate) mod netstat;
pub(crate) mod snmp;
pub(crate) mod snmp6;
pub(crate) mod softnet_stat;
pub(crate) mod sysctls;

/// All collectors, in the order in which they read.
pub(crate) const COLLECTORS: &[Collector] = &[
    softnet_stat::COLLECTOR,
    snmp::COLLECTOR,
    netstat::COLLECTOR,
    snmp6::COLLECTOR,
    links::COLLECTOR,
    addresses::COLLECTOR,
    sysctls::COLLECTOR,
    listeners::COLLECTOR,
    half_open::COLLECTOR,
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::COLLECTORS;

    #[test]
    fn every_file_in_the_folder_is_in_the_list() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/collectors");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        let mut listed: Vec<&str> = COLLECTORS.iter().map(|collector| collector.name).collect();
        files.sort();
        listed.sort_unstable();
        assert_eq!(files, listed);
    }
}
