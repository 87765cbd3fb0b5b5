//! When a frame leaves a switch, and how often: decided by the state of the network and its dice, without a clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use tokio::sync::watch;

use crate::net::Links;
use crate::schedule::{End, Link, Network};

use super::HOST;

/// Frames under way through a switch; what comes beyond them is lost, as at any switch.
const FRAMES_MAX: usize = 16_384;

/// Frames that would wait longer than this for a link that carries little are dropped: what a router keeps.
const QUEUE_US_MAX: u64 = 1_000_000;

/// The frames that are under way.
#[derive(Debug)]
pub(super) struct Exchange {
    links: Links,
    state: watch::Receiver<Network>,
    under_way: BinaryHeap<Reverse<Frame>>,
    lanes: BTreeMap<(u8, u8), Lane>,
    /// How many frames were taken so far.
    taken: u64,
}

/// One direction of a link.
#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    /// When the last frame that was not held back leaves.
    last_due_us: u64,
    /// The number of the newest frame that has left.
    newest: u64,
}

/// Ordered by when it leaves, and then by when it came.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Frame {
    due_us: u64,
    number: u64,
    from: u8,
    to: u8,
    bytes: Vec<u8>,
}

impl Exchange {
    /// Returns one without frames.
    pub(super) fn new(links: Links) -> Exchange {
        let state = links.watch();
        Exchange { links, state, under_way: BinaryHeap::new(), lanes: BTreeMap::new(), taken: 0 }
    }

    /// Takes a frame on its way from one port to another.
    pub(super) fn take(&mut self, now_us: u64, from: u8, to: u8, bytes: &[u8]) {
        self.taken += 1;
        let link = self.link(from, to);
        let ends = (End::Node(from), End::Node(to));
        if link.is_cut {
            return self.links.count(ends, |tally| tally.held += 1);
        }
        let happens =
            |percent: u8| percent > 0 && self.links.draw(ends, 0..=99) < u64::from(percent);
        let (is_lost, is_held_back) = (happens(link.loss_percent), happens(link.reorder_percent));
        let is_doubled = happens(link.duplicate_percent);
        if link.loss_percent > 0 || link.reorder_percent > 0 || link.duplicate_percent > 0 {
            self.links.count(ends, |tally| {
                tally.exposed += 1;
                tally.lost += u64::from(is_lost);
                tally.doubled += u64::from(is_doubled && !is_lost);
            });
        }
        if is_lost {
            return;
        }
        let mut delay_us = link.delay_ms * 1_000;
        if link.jitter_ms > 0 {
            delay_us += self.links.draw(ends, 0..=link.jitter_ms * 1_000);
        }
        if link.kb_per_second > 0 {
            let load = (bytes.len(), link.kb_per_second);
            let wait_us = self.links.queue_us(ends, now_us, load, QUEUE_US_MAX);
            self.links.count(ends, |tally| {
                tally.exposed += 1;
                tally.queued += u64::from(wait_us.is_some());
                tally.lost += u64::from(wait_us.is_none());
            });
            let Some(wait_us) = wait_us else { return };
            delay_us += wait_us;
        }
        let lane = self.lanes.entry((from, to)).or_default();
        let mut due_us = lane.last_due_us.max(now_us.saturating_add(delay_us));
        match is_held_back {
            true => due_us += link.reorder_ms * 1_000,
            false => lane.last_due_us = due_us,
        }
        for _ in 0..1 + u8::from(is_doubled) {
            if self.under_way.len() < FRAMES_MAX {
                let (number, bytes) = (self.taken, bytes.to_vec());
                self.under_way.push(Reverse(Frame { due_us, number, from, to, bytes }));
            }
        }
    }

    /// Returns when the next frame leaves.
    pub(super) fn next_due_us(&self) -> Option<u64> {
        self.under_way.peek().map(|Reverse(frame)| frame.due_us)
    }

    /// Returns a frame that leaves by now, with its port.
    pub(super) fn due(&mut self, now_us: u64) -> Option<(u8, Vec<u8>)> {
        while self.next_due_us().is_some_and(|due_us| due_us <= now_us) {
            let Reverse(Frame { number, from, to, bytes, .. }) = self.under_way.pop()?;
            let ends = (End::Node(from), End::Node(to));
            if self.link(from, to).is_cut {
                self.links.count(ends, |tally| tally.held += 1);
                continue;
            }
            let lane = self.lanes.entry((from, to)).or_default();
            if number < lane.newest {
                self.links.count(ends, |tally| tally.overtaken += 1);
            }
            lane.newest = lane.newest.max(number);
            return Some((to, bytes));
        }
        None
    }

    fn link(&self, from: u8, to: u8) -> Link {
        match from == HOST || to == HOST {
            true => Link::default(),
            false => self.state.borrow().link(End::Node(from), End::Node(to)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Exchange, FRAMES_MAX, HOST};
    use crate::net::{Links, Tally};
    use crate::schedule::{End, Fault, Network};

    fn network(faults: &[&str]) -> Network {
        let faults: Vec<Fault> = faults.iter().map(|fault| fault.parse().unwrap()).collect();
        Network::under(&faults, 3)
    }

    /// Sends so many frames from node 1 to node 2, one a ms, and returns when each that arrived did, ms, with its number.
    fn pass(seed: u64, faults: &[&str], count: u8) -> (Vec<(u64, u8)>, Tally) {
        let links = Links::seeded(seed);
        links.set(network(faults));
        let mut exchange = Exchange::new(links.clone());
        let mut arrived = Vec::new();
        for now in 0..2_000_u64 {
            if let Ok(number) = u8::try_from(now)
                && number < count
            {
                exchange.take(now * 1_000, 1, 2, &[number]);
            }
            while let Some((to, frame)) = exchange.due(now * 1_000) {
                assert_eq!(to, 2);
                arrived.push((now, frame[0]));
            }
        }
        assert_eq!(exchange.next_due_us(), None);
        (arrived, links.tally(End::Node(1), End::Node(2)))
    }

    #[test]
    fn on_a_link_that_is_well_frames_leave_as_they_come() {
        let (arrived, tally) = pass(7, &["loss n3 50%"], 200);
        assert_eq!(arrived, (0..200).map(|number| (u64::from(number), number)).collect::<Vec<_>>());
        assert_eq!(tally, Tally::default());
    }

    #[test]
    fn a_cut_link_drops_what_comes_and_what_is_under_way_and_the_other_direction_does_not() {
        let (arrived, tally) = pass(7, &["one-way n1 -> n2"], 200);
        assert_eq!((arrived.len(), tally.held), (0, 200));
        assert_eq!(pass(7, &["one-way n2 -> n1"], 200).0.len(), 200);
        let links = Links::default();
        links.set(network(&["delay n1 5ms jitter 0ms"]));
        let mut exchange = Exchange::new(links.clone());
        exchange.take(0, 1, 2, &[1]);
        links.set(network(&["partition n1 | rest"]));
        assert_eq!(exchange.due(5_000), None);
        assert_eq!(links.tally(End::Node(1), End::Node(2)).held, 1);
    }

    #[test]
    fn a_slow_link_is_as_slow_as_it_says_and_keeps_the_order() {
        let (arrived, _) = pass(7, &["delay n1 50ms jitter 20ms"], 200);
        let numbers: Vec<u8> = arrived.iter().map(|(_, number)| *number).collect();
        assert_eq!(numbers, (0..200).collect::<Vec<_>>());
        let took = arrived.iter().map(|(at, number)| at - u64::from(*number));
        assert!(took.clone().all(|took| (50..=70).contains(&took)));
        assert!(took.clone().max() > took.min(), "there is no jitter");
    }

    #[test]
    fn a_frame_that_is_held_back_is_overtaken_and_the_others_are_not_late() {
        let (arrived, tally) = pass(7, &["reorder n1 20% 8ms"], 200);
        let late = |&&(at, number): &&(u64, u8)| at != u64::from(number);
        let held_back: Vec<_> = arrived.iter().filter(late).collect();
        assert!(held_back.iter().all(|(at, number)| *at == u64::from(*number) + 8));
        assert_eq!((arrived.len(), tally.exposed), (200, 200));
        let newest = |before: &[(u64, u8)]| before.iter().map(|(_, number)| *number).max();
        let overtaken = (0..200).filter(|at| newest(&arrived[..*at]) > Some(arrived[*at].1));
        assert_eq!(tally.overtaken, overtaken.count() as u64);
        // Nobody came behind those at the end.
        assert!(tally.overtaken + 8 >= held_back.len() as u64);
        assert!((20..=60).contains(&tally.overtaken), "{tally:?}");
    }

    #[test]
    fn a_link_that_carries_little_makes_frames_wait_and_drops_those_that_would_wait_too_long() {
        let links = Links::default();
        links.set(network(&["slow n1 10kB/s"]));
        let mut exchange = Exchange::new(links.clone());
        // Each takes a tenth of a second.
        (0..15).for_each(|number| exchange.take(0, 1, 2, &[number; 1_000]));
        for tenth in 1..=10 {
            assert_eq!(exchange.next_due_us(), Some(tenth * 100_000));
            assert_eq!(exchange.due(tenth * 100_000), Some((2, vec![tenth as u8 - 1; 1_000])));
        }
        let tally = links.tally(End::Node(1), End::Node(2));
        assert_eq!((exchange.next_due_us(), tally.queued, tally.lost), (None, 10, 5));
    }

    #[test]
    fn frames_are_doubled_and_lost_as_often_as_it_says() {
        let (arrived, tally) = pass(7, &["duplicate n1 25%", "loss n2 30%"], 200);
        assert!((30..=90).contains(&tally.lost) && (15..=65).contains(&tally.doubled), "{tally:?}");
        assert_eq!(arrived.len() as u64, 200 - tally.lost + tally.doubled);
    }

    #[test]
    fn what_happens_to_each_frame_is_decided_by_the_seed() {
        let faults = ["duplicate n1 25%", "reorder n1 30% 9ms", "delay n2 3ms jitter 4ms"];
        assert_eq!(pass(7, &faults, 200), pass(7, &faults, 200));
        assert_ne!(pass(7, &faults, 200).0, pass(8, &faults, 200).0);
    }

    #[test]
    fn the_port_of_this_host_is_always_well_and_frames_under_way_are_bounded() {
        let links = Links::default();
        links.set(network(&["partition n1 | rest", "delay n2 9ms jitter 0ms"]));
        let mut exchange = Exchange::new(links);
        exchange.take(0, 1, HOST, &[1]);
        assert_eq!(exchange.due(0), Some((HOST, vec![1])));
        (0..FRAMES_MAX + 9).for_each(|_| exchange.take(0, 3, 2, &[1]));
        assert_eq!(std::iter::from_fn(|| exchange.due(9_000)).count(), FRAMES_MAX);
    }
}
