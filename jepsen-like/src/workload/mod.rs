//! The clients of a run: what they do is drawn from the run's seed, what they see is recorded.
//!
//! A client belongs to a *site*, the neighbourhood of the node of that number, and asks that node first; when it fails
//! it goes on to the next. Each request is sent once and has one second: what was not answered is recorded as unknown,
//! and whether to ask again is the workload's decision, in the open.
//!
//! - `registry`: providers come, go, crash and hang; consumers hold lists and call them. Runs on every registry.
//! - `register`: reads, writes and conditional writes of a few znodes, with transactions and stale reads among them.
//!   Only for what promises linearizability.
//!
//! What it deliberately lacks: verdicts. Those are in `check`.

pub mod register;
pub mod registry;

mod consumer;
mod observer;
mod provider;

use std::collections::BTreeMap;
use std::time::Duration;

use roost::client::{Client, Error};

use crate::clock::Clock;
use crate::history::registry::Answered;
use crate::net::Links;
use crate::target::{Cluster, client};

/// How long a client waits for an answer.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// What every client of a run is given.
#[derive(Clone, Debug)]
pub struct World {
    /// The run's clock.
    pub clock: Clock,
    /// The run's seed.
    pub seed: u64,
    /// The network, for clients that call each other.
    pub links: Links,
    /// Nodes, and as many sites.
    pub nodes: u8,
    /// When the workload ends, ms.
    pub end_ms: u64,
    /// Timeout of sessions, ms.
    pub timeout_ms: u64,
    doors: BTreeMap<(u8, u8), String>,
}

impl World {
    /// Returns the world around a cluster.
    pub fn new(cluster: &Cluster, clock: Clock, seed: u64, end_ms: u64, timeout_ms: u64) -> World {
        let nodes = cluster.nodes();
        let pairs = (1..=nodes).flat_map(|site| (1..=nodes).map(move |node| (site, node)));
        let doors = pairs.map(|(site, node)| ((site, node), cluster.door(site, node))).collect();
        World { clock, seed, links: cluster.links().clone(), nodes, end_ms, timeout_ms, doors }
    }

    /// Returns clients of a site, one for each node, beginning with its own.
    pub(crate) fn clients(&self, site: u8) -> Result<Vec<(u8, Client)>, String> {
        let order = (0..self.nodes).map(|offset| (site - 1 + offset) % self.nodes + 1);
        let made = order.map(|node| {
            client(&self.doors[&(site, node)], REQUEST_TIMEOUT).map(|client| (node, client))
        });
        made.collect()
    }

    /// Returns whether the workload is over.
    pub(crate) fn is_over(&self) -> bool {
        self.clock.now_ms() >= self.end_ms
    }
}

/// Returns what is known of a request after its error. `is_write`: a read has no effect that could be unknown.
pub(crate) fn answered(error: &Error, is_write: bool) -> Answered {
    match error {
        // It was not accepted: nothing of it was done.
        Error::Refused(refusal) if refusal.status == 429 => Answered::Failed,
        Error::Refused(refusal) if refusal.status < 500 => Answered::Refused,
        Error::Refused(refusal) if refusal.code == "no_leader" => Answered::Failed,
        Error::Unreachable(_) | Error::Invalid(_) => Answered::Failed,
        _ if is_write => Answered::Unknown,
        _ => Answered::Failed,
    }
}
