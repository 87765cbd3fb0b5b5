//! Simulated nodes and their time. Each node has a runtime of its own on the one thread, whose clock stands still unless the
//! world moves it: a step of the world is a step of every node that is not paused, in an order that the seed decides.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use roost::clock::Clock;
use roost::node::{CommitTime, Node, NodeOptions, Storage};
use roost::peer::Secret;
use roost::raft;
use roost::storage::{MemoryDisk, MemoryDisks};
use roost::types::{Member, NodeId};
use roost::watch::Bounds;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use crate::net::Links;

/// What one step of the world takes, µs.
pub(crate) const STEP_US: u64 = 1_000;
/// What the wall clocks show when the world begins, ms.
const WALL_MS: u64 = 1_700_000_000_000;

/// Where something that a node does leaves its outcome.
pub(crate) type Slot<T> = Arc<Mutex<Option<T>>>;

/// What differs between worlds.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) nodes: NodeId,
    pub(crate) raft: raft::Options,
    pub(crate) snapshot_log_bytes: u64,
    /// A commit takes between these, µs; now and then ten times as long.
    pub(crate) commit_us: (u64, u64),
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            nodes: 3,
            raft: raft::Options {
                heartbeat_ms: 50,
                election_ms_min: 200,
                election_ms_max: 400,
                log_entries_kept: 20,
                restore_leader: false,
            },
            snapshot_log_bytes: 24 << 10,
            commit_us: (500, 3_000),
        }
    }
}

/// Where a node lives: what a crash leaves, and the node while it runs.
struct Place {
    disk: Arc<MemoryDisk>,
    snapshots: MemoryDisks,
    starts: u64,
    running: Option<Running>,
}

struct Running {
    runtime: Runtime,
    started: Slot<Result<Node, String>>,
    clock: Clock,
    /// Its clock at the world's time `booted_us`, which a pause that stops the clock moves on.
    origin: Instant,
    booted_us: u64,
    paused: bool,
}

/// All nodes, the network between them, and the time.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) now_us: u64,
    pub(crate) random: StdRng,
    pub(crate) links: Links,
    setup: Setup,
    places: BTreeMap<NodeId, Place>,
}

impl World {
    /// Starts the nodes of a world as one cluster, and returns once it has a leader.
    pub(crate) fn start(seed: u64, setup: Setup) -> World {
        let mut world = World {
            seed,
            now_us: 0,
            random: StdRng::seed_from_u64(seed),
            links: Links::new(seed),
            setup,
            places: BTreeMap::new(),
        };
        let ids = 1..=world.setup.nodes;
        ids.clone().for_each(|id| world.boot(id));
        world.until("every node has started", |world| {
            ids.clone().all(|id| world.node(id).is_some())
        });
        let members: Vec<Member> = ids.clone().map(World::member).collect();
        let done = world.run_on(1, |node| async move { node.init(members).await });
        done.expect("a fresh cluster can be initialised");
        world.until("there is a leader", |world| world.leader().is_some());
        world
    }

    pub(crate) fn member(id: NodeId) -> Member {
        Member {
            node: id,
            peer_addr: format!("{id}:1"),
            http_addr: format!("{id}:2"),
            zk_addr: None,
        }
    }

    /// Returns the ids of all nodes, running or not.
    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.places.keys().copied().collect()
    }

    /// Starts a node on whatever its disk holds. It takes part after some steps.
    pub(crate) fn boot(&mut self, id: NodeId) {
        let place = self.places.entry(id).or_insert_with(|| Place {
            disk: Arc::new(MemoryDisk::new()),
            snapshots: MemoryDisks::new(),
            starts: 0,
            running: None,
        });
        assert!(place.running.is_none(), "node {id} runs already");
        place.starts += 1;
        self.links.refuse_silenced(id);
        let seed = self.seed << 16 | id << 12 | place.starts;
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O can be made");
        let (clock, origin) = {
            let _inside = runtime.enter();
            (Clock::simulated(WALL_MS + self.now_us / 1_000), Instant::now())
        };
        let started: Slot<Result<Node, String>> = Slot::default();
        let starting = start(StartOf {
            id,
            seed,
            setup: self.setup.clone(),
            links: self.links.clone(),
            clock: clock.clone(),
            disk: place.disk.clone(),
            snapshots: place.snapshots.clone(),
        });
        let to_fill = started.clone();
        runtime.spawn(async move {
            let outcome = starting.await;
            *to_fill.lock() = Some(outcome);
        });
        let booted_us = self.now_us;
        place.running = Some(Running { runtime, started, clock, origin, booted_us, paused: false });
    }

    /// Returns whether a node runs, be it that it is still starting.
    pub(crate) fn is_up(&self, id: NodeId) -> bool {
        self.places[&id].running.is_some()
    }

    /// Returns how often a node was started: what was asked of an earlier start is never answered.
    pub(crate) fn starts(&self, id: NodeId) -> u64 {
        self.places[&id].starts
    }

    /// Returns a node that runs and has started.
    pub(crate) fn node(&self, id: NodeId) -> Option<Node> {
        let running = self.places[&id].running.as_ref()?;
        match &*running.started.lock() {
            Some(Ok(node)) => Some(node.clone()),
            Some(Err(why)) => panic!("node {id} does not start: {why}"),
            None => None,
        }
    }

    /// Kills a node. What it had written without a sync is kept up to the first `kept` batches; with its power gone its
    /// connections hang until it is back, otherwise they end.
    pub(crate) fn crash(&mut self, id: NodeId, kept: usize, power: bool) {
        self.links.leave(id, power);
        let place = self.places.get_mut(&id).expect("the node exists");
        drop(place.running.take());
        place.disk.crash(kept);
        place.snapshots.crash(kept);
    }

    /// Stops giving a node time.
    pub(crate) fn pause(&mut self, id: NodeId) {
        if let Some(running) = &mut self.places.get_mut(&id).expect("the node exists").running {
            running.paused = true;
        }
    }

    /// Lets a node that was paused go on. Its clock has gone on meanwhile, or has stood still as that of a machine that was
    /// suspended.
    pub(crate) fn resume(&mut self, id: NodeId, clock_went_on: bool) {
        let now_us = self.now_us;
        let Some(running) = &mut self.places.get_mut(&id).expect("the node exists").running else {
            return;
        };
        if !std::mem::replace(&mut running.paused, false) {
            return;
        }
        let behind = running.behind(now_us);
        match clock_went_on {
            true => running.runtime.block_on(tokio::time::advance(behind)),
            false => running.booted_us += behind.as_micros() as u64,
        }
    }

    /// Returns whether a node is paused.
    pub(crate) fn is_paused(&self, id: NodeId) -> bool {
        self.places[&id].running.as_ref().is_some_and(|running| running.paused)
    }

    /// Makes the wall clock of a node jump.
    pub(crate) fn jump_wall(&self, id: NodeId, ms: i64) {
        if let Some(running) = &self.places[&id].running {
            running.clock.jump_wall(ms);
        }
    }

    /// Lets one step of time pass everywhere.
    pub(crate) fn step(&mut self) {
        self.now_us += STEP_US;
        self.links.advance(self.now_us);
        let mut order = self.ids();
        order.shuffle(&mut self.random);
        for id in order {
            if let Some(running) = &self.places[&id].running
                && !running.paused
            {
                let until = running.origin + Duration::from_micros(self.now_us - running.booted_us);
                running.runtime.block_on(async { tokio::time::sleep_until(until).await });
            }
        }
    }

    /// Steps until a condition holds; panics with its name after a minute of the world's time.
    pub(crate) fn until(&mut self, what: &str, is_so: impl Fn(&World) -> bool) {
        let late_us = self.now_us + 60_000_000;
        while !is_so(self) {
            assert!(self.now_us < late_us, "it takes more than a minute until {what}");
            self.step();
        }
    }

    /// Lets so many ms pass.
    pub(crate) fn pass(&mut self, ms: u64) {
        (0..ms * 1_000 / STEP_US).for_each(|_| self.step());
    }

    /// Starts something on a node; its outcome comes into the slot, unless the node dies before.
    pub(crate) fn spawn_on<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        id: NodeId,
        work: impl FnOnce(Node) -> F,
    ) -> Slot<T> {
        let node = self.node(id).expect("the node runs");
        let slot = Slot::default();
        let to_fill: Slot<T> = slot.clone();
        let work = work(node);
        let running = self.places[&id].running.as_ref().expect("the node runs");
        running.runtime.spawn(async move {
            let outcome = work.await;
            *to_fill.lock() = Some(outcome);
        });
        slot
    }

    /// Carries something out on a node while the world goes on, and returns its outcome.
    pub(crate) fn run_on<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &mut self,
        id: NodeId,
        work: impl FnOnce(Node) -> F,
    ) -> T {
        let slot = self.spawn_on(id, work);
        self.until("a node has done what it was asked", |_| slot.lock().is_some());
        slot.lock().take().expect("it is there")
    }

    /// Returns the leader, once it knows it and no running node knows a later term.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let nodes: Vec<Node> = self.ids().into_iter().filter_map(|id| self.node(id)).collect();
        let term = nodes.iter().map(|node| node.leadership().term).max()?;
        let leads = |node: &&Node| {
            let now = node.leadership();
            now.term == term && now.leader == Some(node.id())
        };
        nodes.iter().find(leads).map(Node::id)
    }
}

impl Running {
    /// Returns by how much its clock is behind the world's.
    fn behind(&self, now_us: u64) -> Duration {
        let own = self.runtime.block_on(async { Instant::now() }) - self.origin;
        Duration::from_micros(now_us - self.booted_us).saturating_sub(own)
    }
}

struct StartOf {
    id: NodeId,
    seed: u64,
    setup: Setup,
    links: Links,
    clock: Clock,
    disk: Arc<MemoryDisk>,
    snapshots: MemoryDisks,
}

async fn start(of: StartOf) -> Result<Node, String> {
    let net = of.links.at(of.id);
    let acceptor = net.listen("").await.map_err(|err| err.to_string())?;
    let random = Mutex::new(StdRng::seed_from_u64(of.seed ^ 0x6469_736b));
    let (least, most) = of.setup.commit_us;
    let commit_time: CommitTime = Arc::new(move || {
        let mut random = random.lock();
        let is_slow = random.random_range(0..50) == 0;
        let us = random.random_range(least..=most) * if is_slow { 10 } else { 1 };
        Duration::from_micros(us)
    });
    let options = NodeOptions {
        node: of.id,
        secret: Secret::new(b"the secret of these tests"),
        net,
        acceptor,
        storage: Storage::Simulated(of.disk, of.snapshots, commit_time),
        clock: of.clock,
        seed: of.seed,
        raft: of.setup.raft,
        tick: Duration::from_millis(50),
        check_interval: Duration::from_millis(100),
        timeouts_ms: (200, 60_000),
        super_digest: None,
        snapshot_log_bytes: of.setup.snapshot_log_bytes,
        watch_bounds: Bounds::default(),
        prober: None,
        audit: None,
        window_ms: None,
    };
    Node::start(options).await
}
