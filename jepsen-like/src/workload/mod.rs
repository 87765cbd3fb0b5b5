//! The clients of a run: what they do is drawn from the run's seed, what they see is recorded.
//!
//! A client belongs to a *site*, the neighbourhood of the node of that number, and asks that node first; when it fails
//! it goes on to the next. Each request is sent once and has one second: what was not answered is recorded as unknown,
//! and whether to ask again is the workload's decision, in the open.
//!
//! - `registry`: providers come, go, crash and hang; consumers hold lists and call them. Runs on every registry. The
//!   others are only for what promises more:
//! - `register`: reads, writes and conditional writes of a few znodes, with transactions and stale reads among them.
//! - `multi`: nothing but transactions over three znodes, and reads of all three from one state.
//! - `monotonic`: clients that change nodes with almost every request and hand along what they have seen.
//! - `set`: sequential znodes below one parent, added by everybody and listed at the end.
//! - `lock`: two locks made of ephemerals, which holders renew, release, or leave to the end of their session.
//! - `session`: sessions that are kept, moved, closed and forgotten, while others look whether their znodes are there.
//! - `watch`: writers of a few znodes, and subscribers at every site whose replay must equal what was written.
//!
//! All of them speak to a [`Door`], and so run over every protocol that has the words they need. What this module
//! deliberately lacks: verdicts. Those are in `check`.

pub mod lock;
pub mod register;
pub mod registry;
pub mod session;
pub mod set;
pub mod watch;

mod consumer;
mod observer;
mod provider;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::door::{Door, Reply, Trouble};
use crate::net::Links;
use crate::target::{Cluster, System};

/// How long a client waits for an answer.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Attempts at something that is needed and not part of what is tested, and the time between two.
const ATTEMPTS: u32 = 60;
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(200);

/// What the clients of a run do.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Workload {
    /// Providers and consumers.
    Registry,
    /// Linearizable registers.
    Register,
    /// Transactions.
    Multi,
    /// What a client sees does not go back.
    Monotonic,
    /// Sequential znodes.
    Set,
    /// A lock.
    Lock,
    /// Sessions.
    Session,
    /// Watches.
    Watch,
}

impl Workload {
    /// Returns its name in file names and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Registry => "registry",
            Workload::Register => "register",
            Workload::Multi => "multi",
            Workload::Monotonic => "monotonic",
            Workload::Set => "set",
            Workload::Lock => "lock",
            Workload::Session => "session",
            Workload::Watch => "watch",
        }
    }
}

/// What every client of a run is given.
#[derive(Clone)]
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
    system: Arc<dyn System>,
    addrs: BTreeMap<(u8, u8), String>,
}

impl World {
    /// Returns the world around a cluster.
    pub fn new(cluster: &Cluster, clock: Clock, seed: u64, end_ms: u64, timeout_ms: u64) -> World {
        let nodes = cluster.nodes();
        let pairs = (1..=nodes).flat_map(|site| (1..=nodes).map(move |node| (site, node)));
        let addrs = pairs.map(|(site, node)| ((site, node), cluster.door(site, node))).collect();
        let (links, system) = (cluster.links().clone(), Arc::clone(cluster.system()));
        World { clock, seed, links, nodes, end_ms, timeout_ms, system, addrs }
    }

    /// Returns a client of a site: its ways to the nodes, beginning with its own.
    pub(crate) fn doors(&self, site: u8) -> Result<Doors, String> {
        let order = (0..self.nodes).map(|offset| (site - 1 + offset) % self.nodes + 1);
        let made = order.map(|node| self.system.door(node, &self.addrs[&(site, node)]));
        Ok(Doors { all: made.collect::<Result<_, _>>()?, at: 0 })
    }

    /// Makes the znode below which a workload has its own. Returns ways to the nodes, beginning with one that answers.
    pub(crate) async fn begin(&self, root: &'static str) -> Result<Doors, String> {
        let mut doors = self.doors(1)?;
        let ensured = doors.insist(|door| async move { door.ensure(root).await }).await;
        ensured.map_err(not_set_up)?;
        Ok(doors)
    }

    /// Returns whether the workload is over.
    pub(crate) fn is_over(&self) -> bool {
        self.clock.now_ms() >= self.end_ms
    }

    /// Returns the source of chance of one client.
    pub(crate) fn random(&self, process: u32) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ (u64::from(process) << 16))
    }

    /// Returns the site of a client.
    pub(crate) fn site(&self, process: u32) -> u8 {
        (process % u32::from(self.nodes)) as u8 + 1
    }
}

/// One client's ways to all nodes, of which one is in use.
#[derive(Clone)]
pub(crate) struct Doors {
    all: Vec<Arc<dyn Door>>,
    at: usize,
}

impl Doors {
    /// Returns the one in use.
    pub(crate) fn door(&self) -> Arc<dyn Door> {
        Arc::clone(&self.all[self.at])
    }

    /// Returns all, beginning with the own site's.
    pub(crate) fn all(&self) -> &[Arc<dyn Door>] {
        &self.all
    }

    /// Goes on to the next.
    pub(crate) fn leave(&mut self) {
        self.at = (self.at + 1) % self.all.len();
    }

    /// Takes another, or the same.
    pub(crate) fn take(&mut self, at: usize) {
        self.at = at % self.all.len();
    }

    /// Goes on to the next node if this one did not answer.
    pub(crate) fn judge<T>(&mut self, reply: &Reply<T>) {
        if reply.as_ref().is_err_and(|trouble| !trouble.is_answer()) {
            self.leave();
        }
    }

    /// Asks one node after the other until one answers. Error: what the last one said, after half a minute at most.
    pub(crate) async fn insist<T, F>(&mut self, ask: impl Fn(Arc<dyn Door>) -> F) -> Reply<T>
    where
        F: Future<Output = Reply<T>>,
    {
        let mut last = Trouble::Failed("nobody was asked".into());
        for _ in 0..ATTEMPTS {
            match ask(self.door()).await {
                Ok(answer) => return Ok(answer),
                Err(trouble) => last = trouble,
            }
            self.leave();
            sleep(ATTEMPT_INTERVAL).await;
        }
        Err(last)
    }
}

/// Returns why a workload cannot begin.
fn not_set_up(trouble: Trouble) -> String {
    format!("setting up: {trouble}")
}

/// Waits for all clients of a workload. Error: one of them failed.
pub(crate) async fn all_of<T: 'static>(
    mut clients: JoinSet<Result<T, String>>,
) -> Result<Vec<T>, String> {
    let mut results = Vec::new();
    while let Some(ended) = clients.join_next().await {
        results.push(ended.map_err(|err| format!("a client failed: {err}"))??);
    }
    Ok(results)
}
