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
//! the sender of the good direction never has to stop; nothing is corrupted or reordered, which TCP would hide anyway.

mod owner;
mod ports;
mod proxy;

pub use ports::Ports;
pub use proxy::{Proxy, Source};

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::schedule::{End, Network};

/// The present state of the network, shared by all proxies and by clients that call each other directly.
#[derive(Clone, Debug)]
pub struct Links {
    state: Arc<watch::Sender<Network>>,
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

impl Default for Links {
    fn default() -> Links {
        Links { state: Arc::new(watch::Sender::new(Network::default())), tallies: Arc::default() }
    }
}

impl Links {
    /// Puts another state in force.
    pub fn set(&self, network: Network) {
        self.state.send_replace(network);
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
