//! No service loses too many providers at once by silence, whoever leads meanwhile; and nothing but that is put off.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use roost::node::{Delivery, Node};
use roost::probe::{Found, Probe, Prober};
use roost::types::{CreateMode, Data, EventKind, Op, SessionId, Silence, Zxid};
use roost::watch::{Filter, Message, WatchKind};
use tokio::task::JoinHandle;

use crate::harness::{Cluster, Setup, until};
use crate::ops::{by, create, create_ephemeral, done, open_session, path, refused, request};

const PROVIDERS: &str = "/services/web/providers";
const MANY: usize = 20;
/// A fifth of them may go.
const KEPT: usize = 16;
const TIMEOUT_MS: u32 = 1_500;

fn made(at: &str, data: &str, mode: CreateMode) -> Op {
    let at = path(at);
    let data = Some(Data::new(data.as_bytes()));
    let name = at.name().to_owned();
    Op::Create { parent: at.parent().unwrap(), name, data, acl: Vec::new(), mode }
}

async fn folders(node: &Node) {
    for at in [
        "/services",
        "/services/web",
        PROVIDERS,
        "/roost",
        "/roost/policies",
        "/roost/policies/removal",
    ] {
        done(node, request(create(at, b""))).await;
    }
}

/// Opens so many sessions, each with a provider.
async fn register(node: &Node, many: usize, timeout_ms: u32) -> Vec<SessionId> {
    let mut sessions = Vec::new();
    for at in 0..many {
        let session = open_session(node, timeout_ms).await;
        let data = format!(r#"{{"host":"10.0.0.{at}","port":80}}"#);
        let provider = made(&format!("{PROVIDERS}/{session}"), &data, CreateMode::Ephemeral);
        done(node, by(session, provider)).await;
        sessions.push(session);
    }
    sessions
}

fn listed(node: &Node) -> BTreeMap<String, Zxid> {
    let tree = node.local();
    let all = tree.get(PROVIDERS).into_iter().flat_map(|all| all.children());
    all.map(|path| (path.to_string(), tree.get(path.as_str()).unwrap().stat().czxid)).collect()
}

/// Speaks for sessions, through whichever nodes there are, until it is told to be silent.
fn speak(cluster: &Arc<Cluster>, sessions: Vec<SessionId>) -> (Arc<AtomicBool>, JoinHandle<()>) {
    let (cluster, silent) = (cluster.clone(), Arc::new(AtomicBool::new(false)));
    let told = silent.clone();
    let speaking = tokio::spawn(async move {
        while !told.load(Ordering::Relaxed) {
            for node in cluster.reachable() {
                sessions.iter().for_each(|session| node.touch(*session));
            }
            // A heartbeat is what this is.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    (silent, speaking)
}

async fn policy(node: &Node, name: &str, rest: &str, mode: CreateMode) {
    let data = format!(r#"{{"set_by":"a test","reason":"it is one",{rest}}}"#);
    let at = format!("/roost/policies/removal/{name}");
    done(node, request(made(&at, &data, mode))).await;
}

async fn suspects(node: &Node, many: usize) {
    let are_there = || (node.local().suspect_count() == many).then_some(());
    until(&format!("{many} sessions are suspect"), are_there).await;
}

/// A consumer that is told of every change until the end: returns how many providers it knew when it knew the fewest.
async fn fewest(node: Node, end: Arc<AtomicBool>) -> usize {
    let filter = Filter { path: path(PROVIDERS), kind: WatchKind::Children };
    let mut stream = node.subscribe(vec![filter], None, 0).unwrap();
    let (mut known, mut fewest) = (BTreeSet::new(), usize::MAX);
    while !end.load(Ordering::Relaxed) {
        match stream.next(Duration::from_millis(50)).await.expect("its node lives") {
            Delivery::Snapshot { tree, reset } => {
                assert!(reset.is_none(), "it would not know what was in between");
                known = tree.get(PROVIDERS).unwrap().children().cloned().collect();
            }
            Delivery::Messages { messages, .. } => {
                for (_, event) in messages.iter().flat_map(Message::events) {
                    match event.kind {
                        EventKind::Created => drop(known.insert(event.path.clone())),
                        EventKind::Deleted => drop(known.remove(&event.path)),
                        EventKind::DataChanged => {}
                    }
                    fewest = fewest.min(known.len());
                }
            }
            Delivery::Idle { .. } => {}
        }
        fewest = fewest.min(known.len());
    }
    fewest
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_silent_providers_sixteen_stay_though_the_leader_dies_and_come_back_as_they_were()
{
    let cluster = Cluster::start(3, Setup { seed: 91, ..Setup::default() }).await;
    let node = cluster.node(1);
    folders(&node).await;
    let sessions = register(&node, MANY, TIMEOUT_MS).await;
    let (silent, speaking) = speak(&cluster, sessions.clone());
    let first = cluster.leader().await;
    let other = cluster.node(cluster.others(first)[0]);
    silent.store(true, Ordering::Relaxed);
    speaking.await.unwrap();
    let end = Arc::new(AtomicBool::new(false));
    let consumer = tokio::spawn(fewest(other.clone(), end.clone()));
    suspects(&other, KEPT).await;
    assert_eq!(listed(&other).len(), KEPT);

    cluster.crash(first, 0).await;
    let second = cluster.leader().await;
    let leader = cluster.node(second);
    // The next one gives all their full timeout, and then finds them as silent as the last one did.
    let begun_ms = cluster.clock.now_ms();
    let passed = || (cluster.clock.now_ms() > begun_ms + 3 * u64::from(TIMEOUT_MS)).then_some(());
    until("every session's time is up again", passed).await;
    done(&leader, request(create("/mark", b""))).await;
    assert_eq!((listed(&leader).len(), leader.local().suspect_count()), (KEPT, KEPT));

    let before = listed(&leader);
    let standing = leader.local();
    let standing = standing.standing(PROVIDERS, standing.cluster_ms()).unwrap();
    assert_eq!((standing.present, standing.lost), (KEPT as u64, (MANY - KEPT) as u64));
    let (silent, speaking) = speak(&cluster, sessions.clone());
    suspects(&leader, 0).await;
    assert_eq!(listed(&leader), before, "nobody had to register again");
    let back = sessions.iter().filter(|it| leader.local().session(**it).is_some());
    assert_eq!(back.count(), KEPT);
    end.store(true, Ordering::Relaxed);
    assert_eq!(consumer.await.unwrap(), KEPT);

    // For a planned shut-down it is switched off.
    let off = r#""pattern":"/services/**","mode":"off","expires_at_ms":1"#;
    policy(&leader, "move", off, CreateMode::Ttl(600_000)).await;
    silent.store(true, Ordering::Relaxed);
    speaking.await.unwrap();
    until("all are gone", || listed(&leader).is_empty().then_some(())).await;
    assert_eq!(leader.local().suspect_count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_silence_of_providers_is_put_off_and_not_for_ever() {
    let cluster = Cluster::start(1, Setup { seed: 92, ..Setup::default() }).await;
    let node = cluster.node(1);
    folders(&node).await;
    // Who says that it goes goes, and all the others with it.
    for session in register(&node, MANY, 60_000).await {
        done(&node, request(Op::CloseSession { session, unless_moved_from: None })).await;
    }
    assert!(listed(&node).is_empty());

    let sessions = register(&node, MANY, TIMEOUT_MS).await;
    let lock = open_session(&node, TIMEOUT_MS).await;
    done(&node, by(lock, create_ephemeral("/lock"))).await;
    let confirm = |session| Op::Expire {
        session,
        unless_moved_from: None,
        why: Silence::Confirmed,
        term: None,
    };
    assert_eq!(refused(&node, request(confirm(lock))).await, roost::types::Code::NoNode);
    suspects(&node, KEPT).await;
    until("the lock is free", || node.local().get("/lock").is_none().then_some(())).await;
    let suspect = |it: &&SessionId| node.local().suspect(**it).is_some();
    let held: Vec<SessionId> = sessions.iter().filter(suspect).copied().collect();
    done(&node, request(confirm(held[0]))).await;
    assert_eq!((listed(&node).len(), node.local().suspect_count()), (KEPT - 1, KEPT - 1));

    // A hold that is over already.
    let brief = r#""pattern":"/services/web/providers","max_hold_s":1"#;
    policy(&node, "brief", brief, CreateMode::Persistent).await;
    until("nobody is held", || listed(&node).is_empty().then_some(())).await;
    let tree = node.local();
    assert_eq!((tree.suspect_count(), tree.session_count()), (0, 0));
}

/// Says of every address what it is told to, and notes whom it was asked about.
struct Told {
    found: Mutex<Found>,
    asked: Mutex<BTreeSet<SocketAddr>>,
}

impl Prober for Told {
    fn allows(&self, ip: IpAddr) -> bool {
        ip != IpAddr::from([10, 0, 0, 1])
    }

    fn probe(&self, at: SocketAddr, _: Probe, _: Duration) -> BoxFuture<'static, Found> {
        self.asked.lock().insert(at);
        let found = *self.found.lock();
        async move { found }.boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_answers_a_probe_is_held_and_who_refuses_it_goes_at_once() {
    let told = Told { found: Mutex::new(Found::Answers), asked: Mutex::default() };
    let told = Arc::new(told);
    let setup = Setup { seed: 93, prober: Some(told.clone()), ..Setup::default() };
    let cluster = Cluster::start(1, setup).await;
    let node = cluster.node(1);
    folders(&node).await;
    done(&node, request(create("/roost/policies/probe", b""))).await;
    // None would be held by the share, and all but the addresses 0 and 1 may be asked.
    policy(
        &node,
        "all",
        r#""pattern":"/services/*/providers","max_ratio":1"#,
        CreateMode::Persistent,
    )
    .await;
    let probe = r#"{"set_by":"a test","reason":"it is one","pattern":"/services/*/providers","probe":"tcp",
        "networks":["10.0.0.1","10.0.0.2/31","10.0.0.4/30"]}"#;
    done(&node, request(made("/roost/policies/probe/all", probe, CreateMode::Persistent))).await;
    let sessions = register(&node, 8, TIMEOUT_MS).await;
    let name = open_session(&node, TIMEOUT_MS).await;
    let named = made(
        &format!("{PROVIDERS}/{name}"),
        r#"{"host":"localhost","port":80}"#,
        CreateMode::Ephemeral,
    );
    done(&node, by(name, named)).await;
    suspects(&node, 6).await;
    until("those who are not asked are gone", || (listed(&node).len() == 6).then_some(())).await;
    let left: Vec<bool> =
        sessions.iter().map(|it| node.local().suspect(*it).is_some_and(|it| it.answers)).collect();
    assert_eq!(left, [false, false, true, true, true, true, true, true]);
    let asked: Vec<String> = told.asked.lock().iter().map(SocketAddr::to_string).collect();
    assert_eq!(asked, (2..8).map(|at| format!("10.0.0.{at}:80")).collect::<Vec<_>>());

    // One of them is heard of: it is no longer asked about and no longer suspect.
    let (silent, speaking) = speak(&cluster, vec![sessions[2]]);
    suspects(&node, 5).await;
    *told.found.lock() = Found::Refuses;
    until("they are gone", || (listed(&node).len() == 1).then_some(())).await;
    assert!(node.local().session(sessions[2]).is_some() && node.local().suspect_count() == 0);
    let standing = node.local();
    assert_eq!(
        standing.providers(PROVIDERS, standing.cluster_ms()).1,
        3,
        "refusals use up nothing"
    );
    *told.found.lock() = Found::Silent;
    silent.store(true, Ordering::Relaxed);
    speaking.await.unwrap();
    until("all are gone", || listed(&node).is_empty().then_some(())).await;
}
