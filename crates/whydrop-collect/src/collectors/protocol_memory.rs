//! Memory of all TCP and all UDP sockets of the host, from `/proc/net/sockstat`, against `tcp_mem`
//! and `udp_mem`. The kernel keeps one number for all namespaces (`net/ipv4/proc.c`), so one
//! namespace is read. It moves quickly, so it is read at each look.

use whydrop_model::{Pair, ProtocolMemory};

use crate::collector::{Collector, Place, Read};

pub(crate) const COLLECTOR: Collector = Collector {
    name: "protocol_memory",
    what: "memory of all TCP and UDP sockets",
    read: Read::Looks,
};

const PROTOCOLS: [(&str, &str); 2] = [("TCP", "net.ipv4.tcp_mem"), ("UDP", "net.ipv4.udp_mem")];

/// The course of the memory through the window.
#[derive(Debug, Default)]
pub(crate) struct Course(Vec<ProtocolMemory>);

impl Course {
    /// Takes in one look: `sockstat` of any namespace.
    pub(crate) fn look(&mut self, text: &str) {
        for (protocol, _) in PROTOCOLS {
            let Some(pages) = pages(text, protocol) else { continue };
            match self.0.iter_mut().find(|known| known.protocol == protocol) {
                Some(known) => {
                    known.pages.after = pages;
                    known.peak = known.peak.max(pages);
                    known.looks += 1;
                }
                None => self.0.push(ProtocolMemory {
                    protocol: protocol.to_owned(),
                    pages: Pair { before: pages, after: pages },
                    peak: pages,
                    looks: 1,
                    limits: None,
                }),
            }
        }
    }

    /// What the window showed, with the limits as they are now. `place` is the initial namespace:
    /// others do not have them.
    pub(crate) fn finish(mut self, place: &mut Place<'_>) -> Vec<ProtocolMemory> {
        for memory in &mut self.0 {
            let sysctl = PROTOCOLS.iter().find(|it| it.0 == memory.protocol).map(|it| it.1);
            memory.limits = sysctl
                .and_then(|name| place.sysctl(name).ok().flatten())
                .and_then(|text| limits(&text));
        }
        self.0
    }
}

/// The number after `mem` in a line such as `TCP: inuse 1 orphan 0 tw 5 alloc 1 mem 40`.
pub(crate) fn pages(text: &str, protocol: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(protocol)?.strip_prefix(':'))?;
    let mut words = line.split_ascii_whitespace();
    words.find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

pub(crate) fn limits(text: &str) -> Option<[u64; 3]> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some([next()?, next()?, next()?])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;
    use crate::netlink::Buffer;

    const TEXT: &str = "sockets: used 20\nTCP: inuse 1 orphan 0 tw 5 alloc 1 mem 40\n\
        UDP: inuse 0 mem 3\nUDPLITE: inuse 0\n";

    #[test]
    fn numbers_are_found_by_name() {
        assert_eq!(pages(TEXT, "TCP"), Some(40));
        assert_eq!(pages(TEXT, "UDP"), Some(3));
        assert_eq!(pages(TEXT, "UDPLITE"), None);
        assert_eq!(pages("", "TCP"), None);
        assert_eq!(limits("1\t22 333\n"), Some([1, 22, 333]));
        for odd in ["", "1 2", "1 x 3"] {
            assert_eq!(limits(odd), None, "{odd}");
        }
    }

    #[test]
    fn this_host_tells_its_memory() {
        let (roots, mut buffer) = (crate::Roots::default(), Buffer::new());
        let mut place = Place::here(&roots, &mut buffer);
        let mut course = Course::default();
        let text = place.table("sockstat").unwrap().unwrap();
        course.look(&text);
        course.look(&text);
        let told = course.finish(&mut place);
        let names: Vec<&str> = told.iter().map(|it| it.protocol.as_str()).collect();
        assert_eq!(names, ["TCP", "UDP"]);
        assert!(told.iter().all(|it| it.looks == 2 && it.peak >= it.pages.after));
    }

    #[test]
    fn limits_come_from_the_settings() {
        let (roots, mut buffer) = (fixture::roots("linux-6.18"), Buffer::new());
        let mut place = Place::here(&roots, &mut buffer);
        let memory = |protocol: &str| ProtocolMemory {
            protocol: protocol.into(),
            pages: Pair::default(),
            peak: 0,
            looks: 1,
            limits: None,
        };
        let told = Course(vec![memory("TCP"), memory("UDP")]).finish(&mut place);
        assert!(told.iter().all(|it| it.limits.is_some_and(|it| it[0] < it[2])), "{told:?}");
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,80}", odd in "(TCP|mem|[0-9 :\n]){0,30}") {
            for text in [&text, &odd] {
                pages(text, "TCP");
                limits(text);
            }
        }
    }
}
