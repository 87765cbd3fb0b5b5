//! The program: a node, its bus and its door.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::bus::{Bus, bus, start};
use super::door;
use super::record::{Instance, Key};
use super::replica::{Form, Now, Replica};
use crate::clock::{Clock, wall_ms};

/// How to run a node.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who it is, 1 to 255, unique among the nodes.
    pub node: u8,
    /// Which replication; the same on all nodes.
    pub form: Form,
    /// Where clients and other nodes reach it.
    pub listen: SocketAddr,
    /// Where it reaches the others, `host:port` each.
    pub peers: Vec<String>,
}

/// What a node shows at a moment.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Grows with every change of what is shown; this node's own.
    pub(super) version: u64,
    pub(super) list: BTreeMap<Key, Instance>,
}

/// A running node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: u8,
    pub(super) bus: Bus,
    replica: Mutex<Replica>,
    shown: watch::Sender<Arc<Shown>>,
    clock: Clock,
}

impl Node {
    /// Works on the state, and tells subscribers if what is shown has changed by it.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Replica, Now) -> T) -> T {
        // A request that panicked has left a state that is whole: every step of the replica is.
        let mut replica = self.replica.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Now { ms: self.clock.now_ms(), wall_ms: wall_ms() };
        let answer = work(&mut replica, now);
        let list = replica.shown(now);
        self.shown.send_if_modified(|shown| {
            let is_news = shown.list != list;
            if is_news {
                *shown = Arc::new(Shown { version: shown.version + 1, list });
            }
            is_news
        });
        answer
    }

    /// Returns what the node shows now, and a way to wait for changes.
    pub(super) fn shown(&self) -> watch::Receiver<Arc<Shown>> {
        self.with(|_, _| ());
        self.shown.subscribe()
    }
}

/// Runs a node until the process ends. Error: one line that says what to do.
pub async fn serve(options: Options) -> Result<(), String> {
    let Options { node, form, listen, peers } = options;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|err| format!("cannot listen on {listen}: {err}"))?;
    let (bus, ends) = bus(&peers);
    let node = Arc::new(Node {
        id: node,
        bus,
        replica: Mutex::new(Replica::new(form, node)),
        shown: watch::Sender::new(Arc::default()),
        clock: Clock::start(),
    });
    start(&node, ends)?;
    axum::serve(listener, door::router(node)).await.map_err(|err| format!("the door failed: {err}"))
}
