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
//! - *loss*: a segment that is lost comes 200 ms later, and all behind it wait.
//!
//! Differences from a real network: a connect to a port without listener succeeds and is then reset, so a client cannot
//! tell that its request was not read and must record it as unknown; acknowledgements are not lost in a one-way cut, so
//! the sender of the good direction never has to stop; nothing is corrupted or reordered, which TCP would hide anyway: what
//! comes out of order only comes later.

mod owner;
mod ports;
mod proxy;

pub use ports::Ports;
pub use proxy::{Proxy, Source};

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;

use crate::schedule::{End, Network};

/// Spreads numbers that are near each other.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The present state of the network, shared by all proxies and by clients that call each other directly.
#[derive(Clone, Debug)]
pub struct Links {
    state: Arc<watch::Sender<Network>>,
    dice: Arc<Mutex<Dice>>,
    tallies: Arc<Mutex<BTreeMap<(End, End), Tally>>>,
}

/// What faults did to the bytes of one link, since the run began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections and segments that had to wait because the link was cut.
    pub held: u64,
    /// Segments that were sent again because one was lost.
    pub lost: u64,
    /// Segments that came while the link was lossy.
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
        Links { state, dice: Arc::new(Mutex::new(dice)), tallies: Arc::default() }
    }

    /// Puts another state in force.
    pub fn set(&self, network: Network) {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        dice.changes += 1;
        dice.links.clear();
        self.state.send_replace(network);
    }

    /// Draws a number for the next segment on a link.
    fn draw(&self, ends: (End, End), from: RangeInclusive<u64>) -> u64 {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner).of(ends).random_range(from)
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
