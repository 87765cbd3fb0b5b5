//! The notify switch: who listens to a service that flaps is told in waves, what is urgent goes to all at once, reads see the
//! truth, and it ends by itself whoever leads.
//!
//! Deliveries are counted, and compared with what there would be without the switch: every change, to everybody.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use roost::node::{Delivery, Inbox, Line, Node};
use roost::tree::Tree;
use roost::types::{CreateMode, Data, Event, EventKind, Op, Reply, SessionId, ZnodePath};
use roost::watch::{Bounds, Filter, WatchKind, WatchMode, turn_of};

use crate::harness::{Cluster, Setup, until};
use crate::ops::{create, delete, done, path, request};

const LIST: &str = "/services/web/providers";
const LISTENERS: usize = 100;
const INSTANCES: u64 = 20;
/// Fewer than there are changes in a round.
const MAILBOX_MESSAGES: usize = 16;
const WAVES: u64 = 10;
const INTERVAL_MS: u64 = 300;
/// So long that no wave but the present one runs while a test does.
const LONG_INTERVAL_MS: u64 = 60_000;
/// How often a connection shows that it lives.
const TOUCH: Duration = Duration::from_secs(5);
const POLICY: &str = "/roost/policies/notify/calm";

/// One consumer of the service.
#[derive(Default)]
struct Listener {
    /// The names that it knows.
    known: Mutex<BTreeSet<String>>,
    /// How often it was told something, and how often of those it was the whole list.
    told: AtomicU64,
    resets: AtomicU64,
}

fn names(tree: &Tree) -> BTreeSet<String> {
    let list = tree.get(LIST).into_iter().flat_map(|list| list.children());
    list.map(|path| path.name().to_owned()).collect()
}

/// Opens a connection with a session, as a ZooKeeper client has one.
async fn connect(node: &Node) -> (Line, SessionId) {
    let mut line = node.open_line(Vec::new()).unwrap();
    let (owner, password) = (Some(line.owner()), node.new_password());
    let op = Op::OpenSession { timeout_ms: 60_000, password, owner };
    assert!(line.submit(Box::new(op)).is_ok());
    let mut inbox = Inbox::default();
    while inbox.answers.is_empty() {
        line.rung().await;
        line.look(&mut inbox, true, |_, _, _| ((), true));
    }
    match inbox.answers.pop_front().flatten().unwrap().result {
        Ok(Reply::Session { session, .. }) => {
            line.bind(session);
            (line, session)
        }
        other => panic!("{other:?}"),
    }
}

/// Reads the list and watches it, and again whenever it is told: what Curator and kazoo do.
async fn watch_list(
    node: Node,
    listener: Arc<Listener>,
    is_ready: tokio::sync::oneshot::Sender<()>,
) {
    let (line, session) = connect(&node).await;
    let (mut inbox, list) = (Inbox::default(), path(LIST));
    let mut read = || {
        line.look(&mut inbox, true, |tree, _, mut watches| {
            watches.add(&list, WatchMode::Child).unwrap();
            *listener.known.lock() = names(tree);
            ((), true)
        });
        std::mem::take(&mut inbox.notices).len()
    };
    read();
    let _ = is_ready.send(());
    loop {
        node.touch(session);
        let _ = tokio::time::timeout(TOUCH, line.rung()).await;
        let mut inbox = Inbox::default();
        line.look(&mut inbox, true, |_, _, _| ((), false));
        assert_eq!(inbox.ended, None);
        if !inbox.notices.is_empty() {
            listener.told.fetch_add(1, Ordering::Relaxed);
            read();
        }
    }
}

/// Follows the list as a stream does, which resets when the list is shorter than its news.
async fn stream_list(node: Node, listener: Arc<Listener>, turn: u64) {
    let filter = Filter { path: path(LIST), kind: WatchKind::Children };
    let mut stream = node.subscribe(vec![filter], None, turn).unwrap();
    let mut is_first = true;
    while let Some(delivery) = stream.next(Duration::from_secs(600)).await {
        match delivery {
            Delivery::Snapshot { tree, reset } => {
                assert_eq!(reset.is_none(), is_first, "a reset says that it is one");
                *listener.known.lock() = names(&tree);
                listener.resets.fetch_add(u64::from(!is_first), Ordering::Relaxed);
            }
            Delivery::Messages { messages, .. } => {
                let mut known = listener.known.lock();
                for message in &messages {
                    message.events().for_each(|(_, event)| follow(&mut known, event));
                }
            }
            Delivery::Idle { .. } => continue,
        }
        if !std::mem::take(&mut is_first) {
            listener.told.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn follow(known: &mut BTreeSet<String>, event: &Event) {
    let name = event.path.name().to_owned();
    match event.kind {
        EventKind::Created => assert!(known.insert(name), "{event:?}"),
        EventKind::Deleted => assert!(known.remove(&name), "{event:?}"),
        EventKind::DataChanged => {}
    }
}

struct World {
    cluster: Arc<Cluster>,
    /// The node at which everybody listens and is written to.
    node: Node,
    listeners: Vec<Arc<Listener>>,
    changes: u64,
}

impl World {
    /// Starts three nodes, and a hundred listeners at one that does not lead.
    async fn start() -> World {
        let watch_bounds = Bounds { mailbox_messages_max: MAILBOX_MESSAGES, ..Bounds::default() };
        let setup = Setup { seed: 91, window_ms: Some(0), watch_bounds, ..Setup::default() };
        let cluster = Cluster::start(3, setup).await;
        let leader = cluster.leader().await;
        let at = cluster.others(leader)[0];
        let node = cluster.node(at);
        let folders = ["/services", "/services/web", LIST];
        let own = ["/roost", "/roost/policies", "/roost/policies/notify", "/roost/effects"];
        for folder in folders.into_iter().chain(own) {
            done(&node, request(create(folder, b""))).await;
        }
        let listeners: Vec<Arc<Listener>> = (0..LISTENERS).map(|_| Arc::default()).collect();
        for (index, listener) in listeners.iter().enumerate() {
            let (listener, number) = (listener.clone(), index as u64);
            let (is_ready, ready) = tokio::sync::oneshot::channel();
            cluster
                .on(at, move |node| async move {
                    match number % 2 {
                        0 => drop(tokio::spawn(watch_list(node, listener, is_ready))),
                        _ => {
                            let turn = turn_of(&number.to_le_bytes());
                            tokio::spawn(stream_list(node, listener, turn));
                            let _ = is_ready.send(());
                        }
                    }
                })
                .await;
            ready.await.unwrap();
        }
        until("the streams have begun", || {
            (gauge(&node, "roost_subscriptions") == (LISTENERS / 2) as f64).then_some(())
        })
        .await;
        World { cluster, node, listeners, changes: 0 }
    }

    /// Lets one instance come, or go.
    async fn flap(&mut self) {
        let at = format!("{LIST}/{}", self.changes % INSTANCES);
        let is_there = self.node.local().get(&at).is_some();
        let op = if is_there { delete(&at) } else { create(&at, b"") };
        done(&self.node, request(op)).await;
        self.changes += 1;
    }

    /// Sets the switch for so many ms.
    async fn switch_on(&self, interval_ms: u64, ttl_ms: u64) {
        let json = format!(
            r#"{{"set_by":"a test","reason":"flapping","expires_at_ms":1,"pattern":"/services/**","ratio_permille":100,"wave_interval_ms":{interval_ms}}}"#
        );
        let at: ZnodePath = path(POLICY);
        let (parent, name) = (at.parent().unwrap(), at.name().to_owned());
        let (data, mode) = (Some(Data::new(json.as_bytes())), CreateMode::Ttl(ttl_ms));
        done(&self.node, request(Op::Create { parent, name, data, acl: Vec::new(), mode })).await;
    }

    fn told(&self) -> u64 {
        self.listeners.iter().map(|listener| listener.told.load(Ordering::Relaxed)).sum()
    }

    /// Returns how many know the list as it is.
    fn right(&self) -> usize {
        let names = names(&self.node.local());
        self.listeners.iter().filter(|listener| *listener.known.lock() == names).count()
    }

    async fn all_right(&self, when: &str) {
        until(when, || (self.right() == LISTENERS).then_some(())).await;
    }
}

fn gauge(node: &Node, wanted: &str) -> f64 {
    let found = node.gauges().into_iter().find(|(name, ..)| *name == wanted);
    found.expect("there is such a gauge").2
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenth_is_told_in_each_wave_and_everybody_in_the_end() {
    let mut world = World::start().await;
    for _ in 0..5 {
        let before = world.told();
        world.flap().await;
        world.all_right("each change is told to everybody at once").await;
        assert!(world.told() - before >= LISTENERS as u64 / 2, "{}", world.told() - before);
    }
    world.switch_on(INTERVAL_MS, 600_000).await;
    world.all_right("nobody is behind").await;
    world.listeners.iter().for_each(|listener| listener.told.store(0, Ordering::Relaxed));
    let changes = world.changes;
    let start_ms = world.node.local().cluster_ms();
    // More changes in a round than a mailbox has room for: whoever has lost some waits for its wave all the same.
    let ran_ms = loop {
        world.flap().await;
        let ran_ms = world.node.local().cluster_ms() - start_ms;
        if ran_ms > 2 * WAVES * INTERVAL_MS && world.changes - changes >= 200 {
            break ran_ms;
        }
    };
    let most = world.listeners.iter().map(|listener| listener.told.load(Ordering::Relaxed)).max();
    let (told, changes) = (world.told(), world.changes - changes);
    let without = changes * LISTENERS as u64;
    assert!(told * 100 <= without * 12, "{told} of {without} in {ran_ms} ms");
    assert!(told >= LISTENERS as u64, "each has had its wave, and was told: {told}");
    let rounds = ran_ms / (WAVES * INTERVAL_MS);
    assert!(most <= Some(rounds + 2), "{most:?} times in {rounds} rounds");
    world.all_right("everybody has been told after a round").await;
    let resets = world.listeners.iter().map(|listener| listener.resets.load(Ordering::Relaxed));
    assert!(resets.sum::<u64>() > 0, "a list is less than the news of more changes");
    assert_eq!(gauge(&world.node, "roost_notify_active"), 1.0);
    done(&world.node, request(delete(POLICY))).await;
    until("nobody waits", || (gauge(&world.node, "roost_notify_deferred") == 0.0).then_some(()))
        .await;
    assert_eq!(gauge(&world.node, "roost_notify_active"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_urgent_goes_to_all_and_the_switch_outlives_a_leader_but_not_its_time() {
    let mut world = World::start().await;
    world.switch_on(LONG_INTERVAL_MS, 600_000).await;
    world.flap().await;
    let waits = || LISTENERS - world.right();
    assert!(waits() > LISTENERS / 2, "but for one wave they wait, while a read sees the change");
    assert!(gauge(&world.node, "roost_notify_deferred") > 50.0);
    let note = Op::Create {
        parent: path("/roost/effects"),
        name: "note".to_owned(),
        data: None,
        acl: Vec::new(),
        mode: CreateMode::Persistent,
    };
    let override_ = vec![create(&format!("{LIST}/overridden"), b""), note];
    done(&world.node, request(Op::Multi(override_))).await;
    world.all_right("what an override does is told to everybody").await;

    let leader = world.cluster.leader().await;
    world.cluster.crash(leader, 0).await;
    world.cluster.leader().await;
    world.flap().await;
    assert!(LISTENERS - world.right() > LISTENERS / 2, "it is still on");
    assert_eq!(gauge(&world.node, "roost_notify_active"), 1.0);
    // The same, for a time that ends.
    done(&world.node, request(delete(POLICY))).await;
    world.all_right("without it everybody is told").await;
    world.switch_on(LONG_INTERVAL_MS, 500).await;
    world.flap().await;
    world.all_right("its time is over").await;
    assert!(world.node.local().get(POLICY).is_none());
}
