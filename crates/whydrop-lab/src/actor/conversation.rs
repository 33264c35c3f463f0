//! Plays the connections of crafted peers. Their handshake is as it should be; after it they say
//! what their script says, right or wrong, and acknowledge nothing of their own accord.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::crafted::Peers;
use super::segment::{ACK, FIN, Segment, selective, timestamps};
use crate::part::Tally;
use crate::part::conversation::{Conversation, Step, Until};

/// A peer's clock when it sends its SYN.
const CLOCK: u32 = 0x4000_0000;
/// Longest wait for what a step waits for.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection as its peer sees it.
struct Connection {
    /// Where the peer's data begins.
    own: u32,
    /// Where the server's data begins.
    heard_from: u32,
    /// What the peer expects next.
    next: u32,
    /// The server's clock when it was last heard; `None` without timestamps.
    clock: Option<u32>,
    /// Something came again.
    again: bool,
    finished: bool,
    /// What all segments have in common.
    blank: Segment,
}

/// Opens all connections, then takes step after step. Those that were answered count as done.
pub(super) fn converse(to: SocketAddr, plan: &Conversation) -> io::Result<Tally> {
    let mut peers = Peers::new(to)?;
    let syns = (0..plan.connections).map(|number| (number, syn(&peers, plan, number))).collect();
    let answers = peers.open(&syns)?;
    let mut connections: BTreeMap<SocketAddr, Connection> = answers
        .values()
        .map(|answer| (answer.destination, Connection::new(answer, plan.timestamps)))
        .collect();
    if !plan.half_open {
        let last = Step { acknowledgment: Some(0), ..Step::plain() };
        take(&mut peers, &mut connections, &last)?;
    }
    for step in &plan.step {
        take(&mut peers, &mut connections, step)?;
    }
    // Read to the end, so that nothing is traced as a drop of the namespace.
    peers.ignore_answers()?;
    let done = connections.len() as u64;
    Ok(Tally { done, pending: u64::from(plan.connections) - done, failed: 0 })
}

fn syn(peers: &Peers, plan: &Conversation, number: u16) -> Segment {
    let mut syn = peers.syn_of(number);
    if plan.timestamps {
        syn.options.extend(timestamps(CLOCK, 0));
    }
    syn.options.extend(&plan.syn_options.0);
    syn.data = plan.syn_data.into();
    syn
}

fn take(
    peers: &mut Peers,
    connections: &mut BTreeMap<SocketAddr, Connection>,
    step: &Step,
) -> io::Result<()> {
    if let Some(until) = step.until {
        let deadline = Instant::now() + PATIENCE;
        while !connections.values().all(|one| one.has(until)) {
            let Some(segment) = peers.hear(deadline)? else {
                return Err(io::Error::other(format!("the server never sent {until:?}")));
            };
            if let Some(connection) = connections.get_mut(&segment.destination) {
                connection.hear(&segment);
            }
        }
    }
    for connection in connections.values() {
        for round in 0..step.repeat {
            peers.send(&connection.segment(step, round))?;
        }
    }
    Ok(())
}

impl Connection {
    fn new(answer: &Segment, timestamps: bool) -> Self {
        let heard_from = answer.sequence.wrapping_add(1);
        Self {
            own: answer.acknowledgment,
            heard_from,
            next: heard_from,
            clock: answer.timestamp().filter(|_| timestamps),
            again: false,
            finished: false,
            blank: Segment {
                source: answer.destination,
                destination: answer.source,
                sequence: 0,
                acknowledgment: 0,
                flags: ACK,
                window: u16::MAX,
                options: Vec::new(),
                data: 0,
            },
        }
    }

    fn hear(&mut self, segment: &Segment) {
        if self.clock.is_some() {
            self.clock = segment.timestamp().or(self.clock);
        }
        // What comes again, or too early, changes nothing.
        if segment.sequence == self.next {
            self.next = self.next.wrapping_add(segment.length());
            self.finished |= segment.flags & FIN != 0;
        } else if segment.data > 0 && segment.sequence.wrapping_sub(self.next).cast_signed() < 0 {
            self.again = true;
        }
    }

    fn has(&self, until: Until) -> bool {
        match until {
            Until::Data(bytes) => self.next.wrapping_sub(self.heard_from) >= bytes,
            Until::Again => self.again,
            Until::Fin => self.finished,
        }
    }

    fn segment(&self, step: &Step, round: u16) -> Segment {
        // Numbers wrap as those of TCP do.
        let place = step.sequence.wrapping_add(step.stride.wrapping_mul(i32::from(round)));
        let mut options = Vec::new();
        if let Some(clock) = self.clock {
            let own = CLOCK.wrapping_add_signed(step.timestamp);
            options.extend(timestamps(own, clock.wrapping_add_signed(step.echo)));
        }
        if step.twice > 0 {
            let end = self.heard_from.wrapping_add(step.twice.into());
            options.extend(selective(self.heard_from, end));
        }
        options.extend(&step.options.0);
        Segment {
            sequence: self.own.wrapping_add_signed(place),
            acknowledgment: match step.acknowledgment {
                Some(place) => self.heard_from.wrapping_add_signed(place),
                None => self.next,
            },
            flags: step.flags.unwrap_or(ACK),
            window: step.window.unwrap_or(u16::MAX).wrapping_sub(round),
            options,
            data: step.data.into(),
            ..self.blank.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Segment {
        Segment {
            source: "10.99.0.2:9000".parse().unwrap(),
            destination: "10.99.77.1:20000".parse().unwrap(),
            sequence: u32::MAX,
            acknowledgment: 1000,
            flags: 0x12,
            window: 100,
            options: timestamps(50, CLOCK).to_vec(),
            data: 0,
        }
    }

    #[test]
    fn numbers_count_from_the_first_byte() {
        let mut connection = Connection::new(&answer(), true);
        let data = Segment { sequence: 0, flags: ACK | FIN, data: 10, ..answer() };
        connection.hear(&Segment { sequence: 10, ..data.clone() });
        assert!(!connection.has(Until::Data(1)) && !connection.has(Until::Fin));
        connection.hear(&data);
        assert!(connection.has(Until::Data(11)) && connection.has(Until::Fin));
        let step = Step { sequence: -5, stride: 7, timestamp: -1, ..Step::plain() };
        let sent = connection.segment(&step, 2);
        assert_eq!((sent.sequence, sent.acknowledgment), (1009, 11));
        assert_eq!(sent.timestamp(), Some(CLOCK - 1));
        assert_eq!((sent.source, sent.destination), (answer().destination, answer().source));
        let old = Step { acknowledgment: Some(-20), ..Step::plain() };
        assert_eq!(connection.segment(&old, 0).acknowledgment, u32::MAX - 19);
    }

    #[test]
    fn without_timestamps_there_is_no_option() {
        let connection = Connection::new(&answer(), false);
        assert!(connection.segment(&Step::plain(), 0).options.is_empty());
    }
}
