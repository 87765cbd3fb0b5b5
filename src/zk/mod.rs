//! The ZooKeeper door: existing clients of ZooKeeper, unmodified. docs/ZOOKEEPER.md is its contract.
//!
//! A connection is one task and owns its socket. What it speaks is a `Conversation`, which knows no socket:
//!
//! ```text
//! bytes ─▶ frame ─▶ jute::Request ─▶ Op ──────▶ Line::submit ─ ─ ─ ┐  the log, and this node's own apply
//!                        │                                         ▼
//!                        └─▶ question ─▶ Tree ◀── Line::look: root, notices, answers
//!                                         │
//! bytes ◀──── replies and events, one queue ◀┘
//! ```
//!
//! # Order
//!
//! All that a client is told goes through one queue of bytes, and what goes into it when follows from five rules:
//!
//! 1. Replies come in the order of the requests. Only a ping may overtake: it says nothing of the state.
//! 2. Writes are submitted without waiting for each other. A read waits for the writes before it, and a write behind such
//!    a read waits for the read, which must not see it.
//! 3. A connection looks at the root, its notices and its answers under one lock, the lock under which apply publishes
//!    all three. So it holds every notice up to that root and none beyond; or none, while they are held back and it has
//!    nothing to say but that it lives.
//! 4. Before a reply of transaction Z it sends the notices up to Z; before the answer to a read, all there are; before a
//!    reply that is known at once, those of the state that there was then, which has none of the writes behind it. So an
//!    event precedes every reply that could show the state after it, and none comes of a watch after its removal is
//!    answered. While notices are held back the zxid up to which everything has been told, which is what the reply to a
//!    ping says, stays where it is.
//! 5. A read sets its watch under the same look that gives it its root. So an event neither precedes the reply that
//!    registered it nor gets lost.
//!
//! # What it keeps to
//!
//! - Whatever can be known to be wrong with a request is refused before the log.
//! - Sizes and numbers have bounds, in `limits` and in the configuration; beyond them a client gets the protocol's own
//!   error or its connection is closed, never silence.
//! - "Session expired" is said by the answer of a transaction that this node has applied: its znodes are gone here.
//! - A session lives as long as it is heard from, by whatever connection owns it; that a connection breaks means nothing,
//!   unless a policy says so of what the session owns and it was the client's side that ended it.
//!
//! # What it lacks on purpose
//!
//! TLS, SASL, read-only mode and local sessions; any rule of the tree; any knowledge of consensus or of the other door.

mod admin;
mod connection;
mod conversation;
mod events;
mod handshake;
mod intake;
mod measures;
mod meters;
mod pending;
mod plan;
mod reads;
mod rearm;
mod reconfig;
mod report;
mod serve;
mod words;
mod writes;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::node::Node;
use crate::types::AclId;
use meters::Meters;

pub use serve::serve;
pub use words::{WORDS_DEFAULT, Word, parse_words};

/// What an operator can choose.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of one request. Beyond: the connection is closed. Source: ZooKeeper `jute.maxbuffer`.
    pub frame_bytes_max: usize,
    /// Connections from one address, 0 for any number. Beyond: closed at accept. Source: ZooKeeper `maxClientCnxns`.
    pub connections_per_address_max: usize,
    /// The four-letter words that are answered. Source: ZooKeeper `4lw.commands.whitelist`.
    pub words: Vec<Word>,
    /// Whether clients may change the members. Source: ZooKeeper `reconfigEnabled`.
    pub reconfig: bool,
    /// Where the node keeps log and snapshots, to be shown.
    pub data_dir: String,
    /// Granularity of expiry, ms, to be shown.
    pub tick_ms: u64,
    /// Shortest and longest session timeout, ms, to be shown.
    pub timeouts_ms: (u32, u32),
}

/// What all connections share. A clone is O(1).
#[derive(Clone)]
pub struct Door(Arc<Inner>);

struct Inner {
    node: Node,
    options: Options,
    meters: Arc<Meters>,
    address: SocketAddr,
    opened_us: u64,
}

impl Door {
    /// Returns the shared part of a door to this node at this address.
    pub fn new(node: Node, options: Options, address: SocketAddr) -> Door {
        let opened_us = node.now_micros();
        Door(Arc::new(Inner { node, options, meters: Arc::default(), address, opened_us }))
    }

    /// Returns the door to a node of a test.
    #[cfg(test)]
    fn of(node: Node) -> Door {
        let options = Options {
            frame_bytes_max: 1 << 20,
            connections_per_address_max: 0,
            words: Vec::new(),
            reconfig: false,
            data_dir: "data".to_owned(),
            tick_ms: 100,
            timeouts_ms: (1_000, 600_000),
        };
        Door::new(node, options, SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    /// Returns what the door measures, under ZooKeeper's names: name, what it means, value.
    pub fn gauges(&self) -> Vec<(&'static str, &'static str, f64)> {
        measures::for_prometheus(self)
    }

    /// Returns the answer to a command of ZooKeeper's AdminServer, by any of its names; for the empty name, all names. It has the
    /// paths that somebody with this authority could find in the tree.
    pub fn command(&self, name: &str, authority: &[AclId]) -> serde_json::Value {
        match name {
            "" => serde_json::json!({ "commands": admin::COMMANDS.map(|names| names[0]) }),
            name => admin::answer(self, name, authority),
        }
    }

    fn node(&self) -> &Node {
        &self.0.node
    }

    fn options(&self) -> &Options {
        &self.0.options
    }

    fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Returns how many connections come from this machine, and how many from elsewhere.
    fn connections_by_origin(&self) -> (usize, usize) {
        let tallies = self.meters().tallies();
        let here = self.address().ip();
        let is_local = |ip: std::net::IpAddr| ip.to_canonical().is_loopback() || ip == here;
        let local = tallies.iter().filter(|tally| is_local(tally.peer.ip())).count();
        (local, tallies.len() - local)
    }

    fn uptime_ms(&self) -> u64 {
        self.0.node.now_micros().saturating_sub(self.0.opened_us) / 1_000
    }

    fn meters(&self) -> &Arc<Meters> {
        &self.0.meters
    }
}
