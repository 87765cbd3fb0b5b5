//! One run: a world, its clients and faults, from its seed alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Once};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use roost::node::{Delivery, Node};
use roost::types::{CreateMode, NodeId, Op, Zxid};
use roost::watch::{Filter, Message, WatchKind};

use crate::check::Checker;
use crate::clients::{Client, KEYS, Role, create, done};
use crate::faults::Faults;
use crate::world::{Setup, World};

/// For how long faults happen, s of the world's time.
const FAULTS_S: u64 = 8;
/// How long everything may take to be well again once they are over, µs.
const RECOVERY_US: u64 = 20_000_000;

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) violations: Vec<String>,
    /// Tells apart runs that are not the same, step by step.
    pub(crate) trace: u64,
    pub(crate) acknowledged: u64,
    pub(crate) reads: u64,
    pub(crate) reads_checked: u64,
    pub(crate) changes_told: u64,
    pub(crate) faults: u64,
    pub(crate) terms: usize,
    pub(crate) simulated_ms: u64,
}

thread_local! {
    /// What has panicked on this thread, which is within a task of some node.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn watch_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
            usual(info);
        }));
    });
    PANICS.take();
}

/// What a subscriber passes on.
enum Told {
    Snapshot(u64),
    Messages(Vec<Message>, u64),
}

/// A subscriber to everything at one node, which resumes where it was when that node is back.
struct Subscriber {
    node: NodeId,
    start: u64,
    upto: Option<u64>,
    told: Arc<Mutex<Vec<Told>>>,
    /// How long it lingers between two deliveries, ms.
    pace_ms: u64,
}

impl Subscriber {
    fn step(&mut self, world: &World, checker: &mut Checker) {
        let told = std::mem::take(&mut *self.told.lock());
        for told in told {
            match told {
                Told::Snapshot(zxid) => {
                    checker.told_snapshot(self.node, zxid);
                    self.upto = Some(zxid);
                }
                Told::Messages(messages, upto) => {
                    checker.told(self.node, &messages, upto);
                    self.upto = Some(upto);
                }
            }
        }
        if self.start != world.starts(self.node)
            && let Some(node) = world.node(self.node)
        {
            self.start = world.starts(self.node);
            self.told = Arc::default();
            let (told, since, pace_ms) = (self.told.clone(), self.upto.map(Zxid), self.pace_ms);
            drop(world.spawn_on(self.node, |_| subscribe(node, since, told, pace_ms)));
        }
    }
}

async fn subscribe(node: Node, since: Option<Zxid>, told: Arc<Mutex<Vec<Told>>>, pace_ms: u64) {
    let everything = Filter { path: roost::types::ZnodePath::root(), kind: WatchKind::Subtree };
    let Ok(mut subscription) = node.subscribe(vec![everything], since, 0) else { return };
    while let Some(delivery) = subscription.next(Duration::from_millis(100)).await {
        let news = match delivery {
            Delivery::Snapshot { tree, .. } => Told::Snapshot(tree.zxid().0),
            Delivery::Messages { messages, upto, .. } => Told::Messages(messages, upto.0),
            Delivery::Idle { upto } => Told::Messages(Vec::new(), upto.0),
        };
        told.lock().push(news);
        if pace_ms > 0 {
            // In the time of the simulation.
            tokio::time::sleep(Duration::from_millis(pace_ms)).await;
        }
    }
}

struct Run {
    world: World,
    checker: Checker,
    clients: Vec<Client>,
    subscribers: Vec<Subscriber>,
    leading: BTreeMap<NodeId, u64>,
}

/// Runs one seed.
pub(crate) fn run(seed: u64) -> Report {
    watch_for_panics();
    let mut random = StdRng::seed_from_u64(seed ^ 0x7365_7475);
    let mut setup = Setup::default();
    if random.random_range(0..4) == 0 {
        setup.nodes = 5;
    }
    if random.random_range(0..3) == 0 {
        // Snapshots all the time, and no log behind them.
        setup.snapshot_log_bytes = 4 << 10;
        setup.raft.log_entries_kept = 0;
    }
    if random.random_range(0..4) == 0 {
        setup.commit_us = (3_000, 20_000);
    }
    let mut run = Run::begin(seed, setup, &mut random);
    let mut faults = Faults::new(seed, run.world.now_us + 300_000);
    let until_us = run.world.now_us + FAULTS_S * 1_000_000;
    while run.world.now_us < until_us && run.checker.violations.is_empty() {
        faults.step(&mut run.world, &mut run.checker);
        run.step(true);
    }
    faults.end(&mut run.world);
    let faults = faults.begun;
    run.recover();
    run.report(faults)
}

impl Run {
    fn begin(seed: u64, setup: Setup, random: &mut StdRng) -> Run {
        let mut world = World::start(seed, setup);
        let leader = world.leader().expect("there is one");
        world.run_on(leader, |node| async move {
            let places = ["/k", "/m", "/q", "/e", "/t"].into_iter().chain(KEYS);
            let places = places.chain(["/m/a", "/m/b"]);
            let creates = places.map(|path| create(path, b"", CreateMode::Persistent)).collect();
            done(node, Op::Multi(creates)).await;
        });
        let ids = world.ids();
        let roles = [Role::Register, Role::Register, Role::Register, Role::Append, Role::Append]
            .into_iter()
            .chain([Role::Session; 4]);
        let clients = roles
            .enumerate()
            .map(|(name, role)| Client::new(seed, name, role, ids[name % ids.len()]))
            .collect();
        let subscribers = ids.iter().map(|id| Subscriber {
            node: *id,
            start: 0,
            upto: None,
            told: Arc::default(),
            pace_ms: if random.random_range(0..3) == 0 { random.random_range(1..400) } else { 0 },
        });
        let subscribers = subscribers.collect();
        let told_all = std::env::var_os("ROOST_SIM_TRACE").map(|_| Vec::new());
        let mut checker = Checker::default();
        checker.told_all = told_all;
        Run { world, checker, clients, subscribers, leading: BTreeMap::new() }
    }

    /// One step of the world, and what everybody sees of it.
    fn step(&mut self, ask: bool) {
        self.world.step();
        let now_us = self.world.now_us;
        for id in self.world.ids() {
            let Some(node) = self.world.node(id) else { continue };
            if let Some(why) = node.fatal() {
                self.checker.violations.push(format!("node {id} has stopped by itself: {why}"));
            }
            self.checker.look(now_us, id, self.world.starts(id), &node.local());
            let leadership = node.leadership();
            if leadership.leader == Some(id)
                && self.leading.insert(id, leadership.term) != Some(leadership.term)
            {
                self.checker.leads(id, leadership.term);
                self.checker.note((now_us, id, leadership.term));
            }
        }
        for client in &mut self.clients {
            client.step(&self.world, &mut self.checker, ask);
        }
        for subscriber in &mut self.subscribers {
            subscriber.step(&self.world, &mut self.checker);
        }
        for panic in PANICS.take() {
            self.checker.violations.push(panic);
        }
    }

    /// Returns the nodes' common zxid, when they have one.
    fn common_zxid(&self) -> Option<u64> {
        let zxid = |id| Some(self.world.node(id)?.local().zxid().0);
        let all: Option<Vec<u64>> = self.world.ids().into_iter().map(zxid).collect();
        let all = all?;
        all.iter().all(|zxid| *zxid == all[0]).then_some(all[0])
    }

    /// The faults are over: now everything has to work again.
    fn recover(&mut self) {
        let late_us = self.world.now_us + RECOVERY_US;
        loop {
            if !self.checker.violations.is_empty() {
                return;
            }
            let zxid = self.common_zxid();
            let is_told =
                |subscriber: &Subscriber| subscriber.upto.is_some() && subscriber.upto == zxid;
            if self.clients.iter().all(Client::is_idle)
                && self.world.leader().is_some()
                && self.subscribers.iter().all(is_told)
            {
                break;
            }
            if self.world.now_us > late_us {
                let idle = self.clients.iter().filter(|client| client.is_idle()).count();
                let told: Vec<_> = self.subscribers.iter().map(|it| it.upto).collect();
                let leader = self.world.leader();
                self.checker.violations.push(format!(
                    "the faults are over for long: leader {leader:?}, common zxid {zxid:?}, subscribers at {told:?}, {idle} of {} clients idle",
                    self.clients.len()
                ));
                return;
            }
            self.step(false);
        }
        let node = self.world.node(1).expect("all nodes run");
        self.checker.finish(&node.local());
    }

    fn report(self, faults: u64) -> Report {
        if let (Some(told), Ok(file)) = (&self.checker.told_all, std::env::var("ROOST_SIM_TRACE")) {
            std::fs::write(&file, told.join("\n")).expect("the trace can be written");
        }
        Report {
            trace: self.checker.trace(),
            acknowledged: self.checker.acknowledged,
            reads: self.checker.reads,
            reads_checked: self.checker.reads_checked,
            changes_told: self.checker.changes_told,
            terms: self.checker.terms(),
            faults,
            simulated_ms: self.world.now_us / 1_000,
            violations: self.checker.violations,
        }
    }
}
