//! The network between nodes and clients, with faults: a TCP proxy per node and per site of clients, in this process.
//! It needs no root and no help from the programs under test.
//!
//! A node is told one address for each other node, the same for all: that of a proxy. Who connects there is found out
//! from the kernel (`owner`): the connection's local port leads to a socket's inode, and that to the process that has
//! it open, which is one of the nodes that the suite started. So the proxy knows both ends of every link although all
//! of them see one address; that works for any program that is told addresses, also when these are replicated among the
//! nodes. Clients have a proxy per site and node.
//!
//! What a [`Link`](crate::schedule::Link) does to bytes (`proxy`), in each direction by itself:
//! - *cut*: what was read waits and is delivered when the link is well again, as TCP does by sending again; the ends
//!   see silence, not an error. A connection that is made meanwhile is accepted and, if the link is not well within a
//!   second, reset, which is how a client's connect ends in a real network.
//! - *delay, jitter*: bytes wait so much longer; order is kept, and the link holds as much as a window.
//! - *little bandwidth*: bytes of all its connections wait for each other.
//! - *loss*: a segment that is lost comes 200 ms later, and all behind it wait.
//!
//! Differences from a real network: a connect to a port without listener succeeds and is then reset, so a client cannot
//! tell that its request was not read and must record it as unknown; acknowledgements are not lost in a one-way cut, so
//! the sender of the good direction never has to stop; nothing comes twice or in another order, which TCP hides from a
//! proxy. Where nodes have networks of their own, the links between them are those of a [`Switch`] instead, which has none of
//! these differences.

mod owner;
mod ports;
mod proxy;
mod switch;

pub use ports::Ports;
pub use proxy::{Proxy, Source};
pub use switch::{HOST, Switch};

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::schedule::{End, Network};

/// Spreads numbers that are near each other.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The present state of the network, shared by all proxies and by clients that call each other directly.
#[derive(Clone, Debug)]
pub struct Links {
    state: Arc<watch::Sender<Network>>,
    dice: Arc<Mutex<Dice>>,
    tallies: Arc<Mutex<BTreeMap<(End, End), Tally>>>,
    /// Until when links that carry little are busy with what they have, µs.
    busy: Arc<Mutex<BTreeMap<(End, End), u64>>>,
    clock: Clock,
}

/// What faults did to the bytes of one link, since the run began. A segment is what a proxy read at once, or a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections and segments that had to wait because the link was cut, and frames that were dropped because of it.
    pub held: u64,
    /// Segments that were lost.
    pub lost: u64,
    /// Segments that waited for those before them, since the link carries little.
    pub queued: u64,
    /// Frames that were handed on twice.
    pub doubled: u64,
    /// Frames that left behind one that had come after them.
    pub overtaken: u64,
    /// Segments that came while chance decided what happens to them, or the link carried little.
    pub exposed: u64,
}

/// Where chance on links comes from: the seed, how many states of the network there were, and the link. So what happens to
/// the n-th segment on a link after a change is the same in every run of a schedule.
#[derive(Debug)]
struct Dice {
    seed: u64,
    changes: u64,
    links: BTreeMap<(End, End), StdRng>,
}

impl Dice {
    fn of(&mut self, (from, to): (End, End)) -> &mut StdRng {
        let number = |end| match end {
            End::Node(node) => u64::from(node),
            End::Site(site) => 128 | u64::from(site),
        };
        let place = self.changes << 16 | number(from) << 8 | number(to);
        let seed = self.seed ^ place.wrapping_mul(ODD);
        self.links.entry((from, to)).or_insert_with(|| StdRng::seed_from_u64(seed))
    }
}

impl Default for Links {
    fn default() -> Links {
        Links::seeded(0)
    }
}

impl Links {
    /// Returns links that are well; what happens by chance when they are not is decided by this seed.
    pub fn seeded(seed: u64) -> Links {
        let dice = Dice { seed, changes: 0, links: BTreeMap::new() };
        let state = Arc::new(watch::Sender::new(Network::default()));
        let (tallies, busy, clock) = (Arc::default(), Arc::default(), Clock::start());
        Links { state, dice: Arc::new(Mutex::new(dice)), tallies, busy, clock }
    }

    /// Puts another state in force.
    pub fn set(&self, network: Network) {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        dice.changes += 1;
        dice.links.clear();
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.state.send_replace(network);
    }

    /// Draws a number for the next segment on a link.
    fn draw(&self, ends: (End, End), from: RangeInclusive<u64>) -> u64 {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).of(ends).random_range(from)
    }

    /// Puts bytes behind those that a link has to carry, and returns how long it takes until it has, µs; `None`, and they are
    /// not carried, if that is longer than they may wait. The time is that of whoever serves the link.
    fn queue_us(
        &self,
        ends: (End, End),
        now_us: u64,
        (bytes, kb_per_second): (usize, u32),
        wait_us_max: u64,
    ) -> Option<u64> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let busy_until_us = busy.entry(ends).or_default();
        let takes_us = bytes as u64 * 1_000 / u64::from(kb_per_second.max(1));
        let until_us = now_us.max(*busy_until_us) + takes_us;
        let wait_us = until_us - now_us;
        (wait_us <= wait_us_max).then(|| {
            *busy_until_us = until_us;
            wait_us
        })
    }

    /// Returns the present state, and a way to wait for another.
    pub fn watch(&self) -> watch::Receiver<Network> {
        self.state.subscribe()
    }

    /// Returns what was done to a link so far.
    pub fn tally(&self, from: End, to: End) -> Tally {
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.get(&(from, to)).copied().unwrap_or_default()
    }

    fn count(&self, ends: (End, End), change: impl FnOnce(&mut Tally)) {
        change(
            self.tallies.lock().unwrap_or_else(PoisonError::into_inner).entry(ends).or_default(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::Links;
    use crate::schedule::{End, Network};

    #[test]
    fn a_link_that_carries_little_takes_as_long_as_all_that_is_before() {
        let links = Links::default();
        let (one, other) = ((End::Node(1), End::Node(2)), (End::Node(2), End::Node(1)));
        let queue = |ends, now_us| links.queue_us(ends, now_us, (500, 10), 100_000);
        assert_eq!(queue(one, 0), Some(50_000));
        assert_eq!(queue(one, 20_000), Some(80_000));
        assert_eq!(queue(one, 20_000), None, "it would wait too long");
        assert_eq!(queue(one, 50_000), Some(100_000), "what was not carried is not in the way");
        assert_eq!(queue(other, 20_000), Some(50_000));
        assert_eq!(queue(one, 900_000), Some(50_000), "it was idle");
        links.set(Network::default());
        assert_eq!(queue(one, 900_000), Some(50_000), "that was another state");
    }

    #[test]
    fn what_happens_by_chance_is_decided_by_the_seed_the_change_and_the_link() {
        let drawn = |seed, changes: u32, ends| {
            let links = Links::seeded(seed);
            (0..changes).for_each(|_| links.set(Network::default()));
            (0..8).map(|_| links.draw(ends, 0..=u64::MAX)).collect::<Vec<_>>()
        };
        let there = (End::Node(1), End::Site(2));
        let one = drawn(7, 3, there);
        assert_eq!(one, drawn(7, 3, there));
        for other in [
            drawn(8, 3, there),
            drawn(7, 4, there),
            drawn(7, 3, (End::Site(2), End::Node(1))),
            drawn(7, 3, (End::Node(1), End::Node(2))),
        ] {
            assert_ne!(one, other);
        }
    }
}
