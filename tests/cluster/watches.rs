//! Subscribers that go from node to node while leaders fall, and know everything: no gap, nothing twice, in order.
//!
//! Each keeps a copy of what it watches, made of nothing but what it was told. A gap or a repetition shows at once: a znode
//! is created only where none is, deleted only where one is, and its version goes up by one. And whenever a node's state
//! stands exactly where a copy does, the two are compared.
//!
//! `ROOST_EVENTS` sets the number of changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use roost::node::{Delivery, Node};
use roost::tree::{Tree, Znode};
use roost::types::{Digest, Event, EventKind, Zxid};
use roost::watch::{Filter, Message, WatchKind};

use crate::harness::{Cluster, Setup, in_time, until};
use crate::load;
use crate::ops::{create, done, path, request, set};

/// A znode as a copy has it; without data where only its existence is watched.
type Copied = Option<(i32, Zxid, Vec<u8>)>;

/// What a subscriber knows.
struct Copy {
    filters: Vec<Filter>,
    /// For each filter, by path.
    shown: Vec<BTreeMap<String, Copied>>,
    upto: Option<Zxid>,
    events: u64,
    resets: u64,
    compared: u64,
}

/// Whether a filter concerns an event.
fn sees(filter: &Filter, event: &Event) -> bool {
    let is_self = event.path == filter.path;
    let is_child = event.path.parent_str() == Some(filter.path.as_str());
    let is_data = event.kind == EventKind::DataChanged;
    match filter.kind {
        WatchKind::Data => is_self,
        WatchKind::Children => !is_data && (is_self || is_child),
        WatchKind::ChildrenData => (is_self && !is_data) || is_child,
        WatchKind::Subtree => filter.path.contains(event.path.as_str()),
    }
}

/// Whether a filter shows the data of a znode, or only that it exists.
fn shows_data(filter: &Filter, path: &str) -> bool {
    match filter.kind {
        WatchKind::Data | WatchKind::Subtree => true,
        WatchKind::Children => false,
        WatchKind::ChildrenData => path != filter.path.as_str(),
    }
}

/// Returns what a filter shows of a state.
fn expected(tree: &Tree, filter: &Filter) -> BTreeMap<String, Copied> {
    let at = filter.path.as_str();
    let Some(own) = tree.get(at) else { return BTreeMap::new() };
    let show = |path: &str, znode: &Znode| {
        let data = || znode.data().map(|data| data.to_vec()).unwrap_or_default();
        let stat = znode.stat();
        let shown = shows_data(filter, path).then(|| (stat.version, stat.mzxid, data()));
        (path.to_owned(), shown)
    };
    let below: Vec<_> = match filter.kind {
        WatchKind::Data => Vec::new(),
        WatchKind::Subtree => {
            tree.descendants(at).map(|(path, znode)| show(path.as_str(), znode)).collect()
        }
        WatchKind::Children | WatchKind::ChildrenData => own
            .children()
            .map(|path| show(path.as_str(), tree.get(path.as_str()).unwrap()))
            .collect(),
    };
    below.into_iter().chain([show(at, own)]).collect()
}

impl Copy {
    fn new(filters: Vec<Filter>) -> Copy {
        let shown = filters.iter().map(|_| BTreeMap::new()).collect();
        Copy { filters, shown, upto: None, events: 0, resets: 0, compared: 0 }
    }

    fn take(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Snapshot { tree, reset } => {
                assert_eq!(reset.is_some(), self.upto.is_some(), "a reset says that it is one");
                self.resets += u64::from(reset.is_some());
                self.advance(tree.zxid());
                let shown = self.filters.iter().map(|filter| expected(&tree, filter));
                self.shown = shown.collect();
            }
            Delivery::Messages { messages, upto, .. } => {
                for message in &messages {
                    self.take_message(message);
                }
                self.advance(upto);
            }
            Delivery::Idle { upto } => self.advance(upto),
        }
    }

    fn advance(&mut self, upto: Zxid) {
        assert!(self.upto <= Some(upto), "from {:?} back to {upto}", self.upto);
        self.upto = Some(upto);
    }

    fn take_message(&mut self, message: &Message) {
        let zxid = message.change.zxid();
        assert!(Some(zxid) > self.upto, "{zxid} after {:?}", self.upto);
        self.upto = Some(zxid);
        let mut last = None;
        for (index, event) in message.events() {
            assert!(last < Some(index), "events of {zxid} out of order");
            last = Some(index);
            self.take_event(event);
        }
        assert!(last.is_some(), "{zxid} says nothing");
    }

    fn take_event(&mut self, event: &Event) {
        let data = event.data.as_ref().map(|data| data.to_vec()).unwrap_or_default();
        let text = event.path.as_str();
        let mut is_wanted = false;
        for (filter, shown) in self.filters.iter().zip(&mut self.shown) {
            if !sees(filter, event) {
                continue;
            }
            is_wanted = true;
            let stat = &event.stat;
            let now = shows_data(filter, text).then(|| (stat.version, stat.mzxid, data.clone()));
            let before = match event.kind {
                EventKind::Deleted => shown.remove(text),
                _ => shown.insert(text.to_owned(), now.clone()),
            };
            match event.kind {
                EventKind::Created => assert_eq!(before, None, "{event:?}"),
                EventKind::Deleted => assert_eq!(before, Some(now), "{event:?}"),
                EventKind::DataChanged => {
                    let version = before.flatten().map(|(version, ..)| version + 1);
                    assert_eq!(version, Some(stat.version), "{event:?}");
                }
            }
        }
        assert!(is_wanted, "{event:?} concerns none of {:?}", self.filters);
        self.events += 1;
    }

    /// Compares with a state if it stands where this does.
    fn compare(&mut self, tree: &Tree) {
        if self.upto == Some(tree.zxid()) {
            for (filter, shown) in self.filters.iter().zip(&self.shown) {
                let expected = expected(tree, filter);
                let wrong = shown.iter().find(|(path, copied)| expected.get(*path) != Some(copied));
                let missing = expected.keys().find(|path| !shown.contains_key(*path));
                let at = tree.zxid();
                assert!(
                    wrong.is_none() && missing.is_none(),
                    "{filter:?} at {at}: {wrong:?}, {missing:?}"
                );
            }
            self.compared += 1;
        }
    }
}

/// What the subscribers wait for.
#[derive(Default)]
struct Goal {
    /// Where to end, once it is known.
    end: AtomicU64,
}

impl Goal {
    fn is_reached(&self, copy: &Copy) -> bool {
        let end = self.end.load(Ordering::Relaxed);
        end > 0 && copy.upto >= Some(Zxid(end))
    }
}

/// Follows some paths, on one node after the other, up to the end. A slow one takes nothing until it is far behind.
async fn follow(
    cluster: Arc<Cluster>,
    filters: Vec<Filter>,
    seed: u64,
    is_slow: bool,
    goal: Arc<Goal>,
) -> Copy {
    let mut random = StdRng::seed_from_u64(seed);
    let mut copy = Copy::new(filters.clone());
    let mut last = 0;
    while !goal.is_reached(&copy) {
        let nodes = cluster.reachable();
        let node = nodes[random.random_range(0..nodes.len())].clone();
        if node.id() == last && nodes.len() > 1 {
            continue;
        }
        last = node.id();
        let mut subscription = node.subscribe(filters.clone(), copy.upto, 0).unwrap();
        for _ in 0..random.random_range(5..300) {
            if is_slow && copy.upto.is_some() {
                fall_behind(&node, &copy, &goal).await;
            }
            let Some(delivery) = subscription.next(Duration::from_millis(50)).await else { break };
            copy.take(delivery);
            copy.compare(&node.local());
            if goal.is_reached(&copy) {
                break;
            }
        }
    }
    copy
}

async fn fall_behind(node: &Node, copy: &Copy, goal: &Goal) {
    let upto = copy.upto.map_or(0, |upto| upto.0);
    let is_far_behind = || {
        let is_over = goal.end.load(Ordering::Relaxed) > 0;
        // A node that has stopped, or is cut off, goes no further.
        let is_stuck = node.readiness().is_err();
        (is_over || is_stuck || node.local().zxid().0 > upto + 15_000).then_some(())
    };
    until("a slow subscriber is far behind", is_far_behind).await;
}

/// All kinds of subscriptions, each several times.
fn subscriptions() -> Vec<(Vec<Filter>, bool)> {
    use WatchKind::{Children, ChildrenData, Data, Subtree};
    let filter = |text: &str, kind| Filter { path: path(text), kind };
    let mut all = Vec::new();
    for at in 0..3 {
        all.push((vec![filter(&format!("/w/{at}/0"), Data)], false));
        all.push((vec![filter(&format!("/w/{at}"), Children)], false));
        all.push((vec![filter(&format!("/w/{}", at + 1), ChildrenData)], false));
        all.push((vec![filter(["/w", "/w/0", "/"][at], Subtree)], false));
    }
    all.push((
        vec![filter("/w/1/1", Data), filter("/w/2", Children), filter("/w/3", Subtree)],
        false,
    ));
    all.push((vec![filter("/w", ChildrenData), filter("/w/4/4", Data)], false));
    all.push((vec![filter("/w", Subtree)], true));
    all.push((vec![filter("/", Subtree)], true));
    all
}

/// Collects the digests of all nodes while they change, and checks that no zxid has two.
async fn compare_digests(cluster: Arc<Cluster>, digests: Arc<Mutex<BTreeMap<Zxid, Digest>>>) {
    let mut seen = BTreeSet::new();
    loop {
        for node in cluster.reachable() {
            let tree = node.local();
            if seen.insert((node.id(), tree.zxid())) {
                let digest = *digests.lock().entry(tree.zxid()).or_insert(tree.digest());
                assert_eq!(digest, tree.digest(), "node {} at zxid {}", node.id(), tree.zxid());
            }
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_that_go_from_node_to_node_miss_nothing_while_leaders_fall() {
    let events = std::env::var("ROOST_EVENTS").map_or(100_000, |text| text.parse().unwrap());
    let seed = 61;
    let cluster = Cluster::start(3, Setup { seed, ..Setup::default() }).await;
    load::prepare(&cluster.node(1)).await;
    let (load, writers) = load::start(&cluster, 1..=3, seed);
    let goal = Arc::new(Goal::default());
    let subscriptions = subscriptions();
    let followers: Vec<_> = (0..)
        .zip(subscriptions)
        .map(|(at, (filters, is_slow))| {
            let goal = goal.clone();
            tokio::spawn(follow(cluster.clone(), filters, seed + at, is_slow, goal))
        })
        .collect();
    let digests = tokio::spawn(compare_digests(cluster.clone(), Arc::default()));
    for fall in 1..=4 {
        load.reach(events * fall / 5).await;
        let leader = cluster.leader().await;
        match fall % 2 {
            1 => {
                cluster.crash(leader, 1).await;
                cluster.leader().await;
                cluster.boot(leader).await;
            }
            _ => {
                cluster.isolate(leader);
                cluster.leader().await;
                cluster.rejoin(leader);
            }
        }
    }
    load.reach(events).await;
    load::finish(&load, writers).await;
    let tree = cluster.settled().await;
    goal.end.store(tree.zxid().0, Ordering::Relaxed);
    let (mut told, mut resets, mut compared) = (0, 0, 0);
    for follower in followers {
        let mut copy = in_time("a subscriber knows everything", follower).await.unwrap();
        let before = copy.compared;
        let tree = cluster.settled().await;
        copy.compare(&tree);
        assert_eq!(copy.compared, before + 1, "the copy stands at the end");
        told += copy.events;
        resets += copy.resets;
        compared += copy.compared;
    }
    digests.abort();
    assert!(digests.await.unwrap_err().is_cancelled(), "two nodes had different states");
    let changed = load.events.load(Ordering::Relaxed);
    println!("{changed} changes, {told} told, {resets} resets, {compared} comparisons");
    assert!(resets > 0, "the slow subscribers were too fast");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_the_answer_to_a_write_reads_it_and_has_been_told_of_it() {
    let cluster = Cluster::start(3, Setup { seed: 62, ..Setup::default() }).await;
    done(&cluster.node(1), request(create("/told", b""))).await;
    cluster.settled().await;
    for round in 0..60 {
        let node = cluster.node(round % 3 + 1);
        let filters = vec![Filter { path: path("/told"), kind: WatchKind::Data }];
        let mut subscription = node.subscribe(filters, None, 0).unwrap();
        let first = subscription.next(Duration::ZERO).await;
        assert!(matches!(first, Some(Delivery::Snapshot { reset: None, .. })));
        let (zxid, _) = done(&node, request(set("/told", b"", None))).await;
        assert!(node.local().zxid() >= zxid, "the answer came before the state");
        let told = subscription.next(Duration::ZERO).await;
        let Some(Delivery::Messages { messages, upto, .. }) = told else {
            panic!("round {round}: the answer came before the news");
        };
        // A follower may have begun before the write of the last round.
        assert_eq!(messages.last().map(|message| message.change.zxid()), Some(zxid));
        assert!(upto >= zxid);
    }
}
