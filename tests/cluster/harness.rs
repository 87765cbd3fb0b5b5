//! A cluster of nodes in memory, and what can befall it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use roost::clock::Clock;
use roost::node::{Node, NodeOptions, Storage};
use roost::peer::{MemoryLinks, Net, Secret};
use roost::probe::Prober;
use roost::raft;
use roost::storage::{MemoryDisk, MemoryDisks};
use roost::types::{Member, NodeId};
use roost::watch::Bounds;
use tokio::runtime::{Builder, Runtime};

/// How long a condition may take to come true; only a test that fails waits for so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The granularity of expiry in these clusters.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// Puts something between a node and its network.
pub(crate) type Wrap = fn(Arc<dyn Net>) -> Arc<dyn Net>;

/// What differs between the clusters of the tests.
#[derive(Clone)]
pub(crate) struct Setup {
    /// The first part of the addresses, for several clusters on one network.
    pub(crate) name: &'static str,
    pub(crate) secret: &'static [u8],
    pub(crate) raft: raft::Options,
    pub(crate) snapshot_log_bytes: u64,
    pub(crate) watch_bounds: Bounds,
    pub(crate) seed: u64,
    /// Replaces the network as a node sees it.
    pub(crate) wrap: Option<Wrap>,
    pub(crate) prober: Option<Arc<dyn Prober>>,
    /// How far apart one listener is told things, whatever the load.
    pub(crate) window_ms: Option<u64>,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            name: "node",
            secret: b"the secret of these tests",
            raft: raft::Options {
                heartbeat_ms: 50,
                election_ms_min: 250,
                election_ms_max: 500,
                log_entries_kept: 50_000,
                restore_leader: false,
            },
            snapshot_log_bytes: 1 << 30,
            watch_bounds: Bounds::default(),
            seed: 1,
            wrap: None,
            prober: None,
            window_ms: None,
        }
    }
}

/// Nodes, running or not, and the network between them.
pub(crate) struct Cluster {
    pub(crate) links: MemoryLinks,
    pub(crate) clock: Clock,
    setup: Setup,
    places: Mutex<BTreeMap<NodeId, Place>>,
    isolated: Mutex<BTreeSet<NodeId>>,
}

/// Where a node lives: what a crash leaves, and the node while it runs.
struct Place {
    disk: Arc<MemoryDisk>,
    snapshots: MemoryDisks,
    starts: u64,
    running: Option<Running>,
}

impl Place {
    fn new() -> Place {
        Place {
            disk: Arc::new(MemoryDisk::new()),
            snapshots: MemoryDisks::new(),
            starts: 0,
            running: None,
        }
    }
}

struct Running {
    node: Node,
    runtime: Runtime,
}

impl Cluster {
    /// Makes a cluster without nodes.
    pub(crate) fn empty(links: MemoryLinks, setup: Setup) -> Cluster {
        println!("seed {}", setup.seed);
        Cluster {
            links,
            clock: Clock::system(),
            setup,
            places: Mutex::default(),
            isolated: Mutex::default(),
        }
    }

    /// Starts nodes 1 to `count` as the voters of a new cluster, and returns once they have a leader.
    pub(crate) async fn start(count: NodeId, setup: Setup) -> Arc<Cluster> {
        let cluster = Arc::new(Cluster::empty(MemoryLinks::default(), setup));
        for id in 1..=count {
            cluster.boot(id).await;
        }
        cluster.init(1..=count).await.expect("a fresh cluster can be initialised");
        cluster.leader().await;
        cluster
    }

    /// Bootstraps a cluster of these nodes through the first of them.
    pub(crate) async fn init(
        &self,
        ids: impl IntoIterator<Item = NodeId>,
    ) -> Result<u128, roost::types::Error> {
        let members: Vec<Member> = ids.into_iter().map(|id| self.member(id)).collect();
        let first = members[0].node;
        self.on(first, move |node| async move { node.init(members).await }).await
    }

    /// Runs something on a node's own runtime, where what it starts dies with the node.
    pub(crate) async fn on<F: Future<Output: Send> + Send + 'static>(
        &self,
        id: NodeId,
        work: impl FnOnce(Node) -> F,
    ) -> F::Output {
        let task = {
            let places = self.places.lock();
            let running = places[&id].running.as_ref().expect("the node runs");
            running.runtime.spawn(work(running.node.clone()))
        };
        task.await.expect("the node lives on meanwhile")
    }

    /// Returns how a node is reached.
    pub(crate) fn member(&self, id: NodeId) -> Member {
        let http_addr = format!("{}-{id}:2", self.setup.name);
        Member { node: id, peer_addr: self.addr(id), http_addr, zk_addr: None }
    }

    fn addr(&self, id: NodeId) -> String {
        format!("{}-{id}:1", self.setup.name)
    }

    /// Starts a node on whatever its disk holds.
    pub(crate) async fn boot(&self, id: NodeId) -> Node {
        self.boot_with(id, &self.setup).await
    }

    /// Starts a node with another setup than the cluster's.
    pub(crate) async fn boot_with(&self, id: NodeId, setup: &Setup) -> Node {
        let addr = self.addr(id);
        let (storage, starts) = {
            let mut places = self.places.lock();
            let place = places.entry(id).or_insert_with(Place::new);
            assert!(place.running.is_none(), "node {id} runs already");
            place.starts += 1;
            (Storage::Memory(place.disk.clone(), place.snapshots.clone()), place.starts)
        };
        let net = self.links.at(&addr);
        let acceptor =
            eventually("the address of a node is free", async || net.listen(&addr).await.ok());
        let net: Arc<dyn Net> = Arc::new(net.clone());
        let options = NodeOptions {
            node: id,
            secret: Secret::new(setup.secret),
            net: setup.wrap.map_or(net.clone(), |wrap| wrap(net)),
            acceptor: acceptor.await,
            storage,
            clock: Clock::system(),
            seed: setup.seed << 16 | id << 8 | starts,
            raft: setup.raft.clone(),
            tick: TICK,
            check_interval: Duration::from_millis(100),
            timeouts_ms: (500, 60_000),
            super_digest: None,
            snapshot_log_bytes: setup.snapshot_log_bytes,
            watch_bounds: setup.watch_bounds,
            prober: setup.prober.clone(),
            audit: None,
            window_ms: setup.window_ms,
        };
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let node = runtime.spawn(Node::start(options)).await.unwrap().expect("the node starts");
        let running = Running { node: node.clone(), runtime };
        self.places.lock().get_mut(&id).unwrap().running = Some(running);
        node
    }

    /// Returns a running node.
    pub(crate) fn node(&self, id: NodeId) -> Node {
        self.running(id).unwrap_or_else(|| panic!("node {id} does not run"))
    }

    /// Returns a node if it runs.
    pub(crate) fn running(&self, id: NodeId) -> Option<Node> {
        Some(self.places.lock().get(&id)?.running.as_ref()?.node.clone())
    }

    /// Returns the running nodes that are not isolated, by id.
    pub(crate) fn reachable(&self) -> Vec<Node> {
        let isolated = self.isolated.lock();
        let places = self.places.lock();
        let running = places.iter().filter(|(id, _)| !isolated.contains(id));
        running.filter_map(|(_, place)| Some(place.running.as_ref()?.node.clone())).collect()
    }

    /// Stops a node as an operator would.
    pub(crate) async fn stop(&self, id: NodeId) {
        let running = self.take(id);
        running.node.stop().await;
        running.runtime.shutdown_background();
    }

    /// Kills a node and cuts the power of its disk, of whose lazy writes the first `kept` survive.
    pub(crate) async fn crash(&self, id: NodeId, kept: usize) {
        let Running { node, runtime } = self.take(id);
        runtime.shutdown_background();
        // What is left of it is only its log's thread, which must not write to the disk of its successor.
        node.stop().await;
        let places = self.places.lock();
        places[&id].disk.crash(kept);
        places[&id].snapshots.crash(kept);
    }

    /// Takes away what a node that does not run has stored.
    pub(crate) fn wipe(&self, id: NodeId) {
        let mut places = self.places.lock();
        assert!(places[&id].running.is_none(), "node {id} runs");
        places.insert(id, Place::new());
    }

    fn take(&self, id: NodeId) -> Running {
        let mut places = self.places.lock();
        let place = places.get_mut(&id).expect("the node exists");
        place.running.take().unwrap_or_else(|| panic!("node {id} does not run"))
    }

    /// Cuts a node off from all the others.
    pub(crate) fn isolate(&self, id: NodeId) {
        self.isolated.lock().insert(id);
        self.link_all(id, false);
    }

    /// Cuts some nodes off from all the others, but not from each other.
    pub(crate) fn isolate_together(&self, ids: &[NodeId]) {
        ids.iter().for_each(|id| self.isolate(*id));
        for one in ids {
            for other in ids.iter().filter(|other| *other != one) {
                self.links.set_link(&self.addr(*one), &self.addr(*other), true);
            }
        }
    }

    /// Keeps the others from reaching a node, which reaches them: it hears nothing of the log, and its writes get into it.
    pub(crate) fn deafen(&self, id: NodeId) {
        for other in self.others(id) {
            self.links.set_link(&self.addr(other), &self.addr(id), false);
        }
    }

    /// Undoes [`Cluster::isolate`] and [`Cluster::deafen`].
    pub(crate) fn rejoin(&self, id: NodeId) {
        self.isolated.lock().remove(&id);
        self.link_all(id, true);
    }

    fn link_all(&self, id: NodeId, up: bool) {
        for other in self.others(id) {
            self.links.set_link(&self.addr(id), &self.addr(other), up);
            self.links.set_link(&self.addr(other), &self.addr(id), up);
        }
    }

    /// Makes everything between two nodes take this long each way.
    pub(crate) fn delay(&self, one: NodeId, other: NodeId, delay: Duration) {
        self.links.set_delay(&self.addr(one), &self.addr(other), delay);
        self.links.set_delay(&self.addr(other), &self.addr(one), delay);
    }

    /// Returns the ids of the other nodes, running or not.
    pub(crate) fn others(&self, id: NodeId) -> Vec<NodeId> {
        self.places.lock().keys().copied().filter(|other| *other != id).collect()
    }

    /// Returns the leader once the reachable nodes have one that knows it itself.
    pub(crate) async fn leader(&self) -> NodeId {
        until("there is a leader", || {
            let nodes = self.reachable();
            let term = nodes.iter().map(|node| node.leadership().term).max()?;
            let leads = |node: &&Node| {
                let now = node.leadership();
                now.term == term && now.leader == Some(node.id())
            };
            nodes.iter().find(leads).map(Node::id)
        })
        .await
    }

    /// Waits until the reachable nodes have applied the same, and checks that their states are then the same: the digests
    /// agree with each other and with what they stand for. Returns the state.
    pub(crate) async fn settled(&self) -> Arc<roost::tree::Tree> {
        let trees = until("the nodes have applied the same", || {
            let trees: Vec<_> = self.reachable().iter().map(Node::local).collect();
            let last = trees.iter().map(|tree| tree.zxid()).max()?;
            trees.iter().all(|tree| tree.zxid() == last).then_some(trees)
        })
        .await;
        for tree in &trees {
            assert_eq!(tree.digest(), trees[0].digest(), "digests at zxid {}", tree.zxid());
            assert_eq!(tree.digest(), tree.recomputed_digest(), "at zxid {}", tree.zxid());
        }
        trees[0].clone()
    }
}

impl Drop for Cluster {
    /// Ends the nodes without waiting: a test that panicked must not hang.
    fn drop(&mut self) {
        for place in self.places.get_mut().values_mut() {
            if let Some(running) = place.running.take() {
                running.runtime.shutdown_background();
            }
        }
    }
}

/// Waits until a condition yields something; panics with its name after [`PATIENCE`].
pub(crate) async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = condition() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(found) => found,
        Err(_) => panic!("it takes more than {PATIENCE:?} until {what}"),
    }
}

/// As [`until`], for a condition that has to ask.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    in_time(what, looking).await
}

/// Waits for something that must end; panics with its name after [`PATIENCE`].
pub(crate) async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => panic!("it takes more than {PATIENCE:?}: {what}"),
    }
}
