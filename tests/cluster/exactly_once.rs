//! What a node has accepted is done once, in order, whoever leads meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use roost::node::{Consistency, Node};
use roost::types::{Error, NodeId, Op, Reply, Zxid};

use crate::harness::{Cluster, Setup, in_time, until};
use crate::ops::{Pipeline, create, create_sequential, done, request, set, stat_of};

const ROUNDS: usize = 20;
/// Writes that a writer has on their way.
const WINDOW: usize = 32;

/// What all writers of one round share.
#[derive(Default)]
struct Progress {
    acks: AtomicU64,
    enough: AtomicBool,
}

/// What a writer notes of a write: the how many-th of its counter.
#[derive(Clone, Copy, Debug)]
enum Note {
    Count(i32),
    Append(i32),
}

/// What became of one writer's round.
struct Written {
    /// The counter as the last acknowledged write left it.
    version: i32,
    /// Acknowledged sequential znodes: what they hold, and their names.
    appended: BTreeMap<String, String>,
    /// How far the counter may have been raised by writes whose outcome is unknown; the writer's node died.
    died: Option<i32>,
}

fn counter(id: NodeId) -> String {
    format!("/counter-{id}")
}

/// The transaction that raises the counter from `version`: it succeeds only if all before it were done, once.
fn raise(id: NodeId, version: i32) -> Op {
    set(&counter(id), (version + 1).to_string().as_bytes(), Some(version))
}

/// Writes through one node until it is enough.
async fn write(node: Node, from: i32, progress: Arc<Progress>) -> Written {
    let id = node.id();
    let mut pipeline = Pipeline::new(node.clone());
    let mut next = from;
    let mut written = Written { version: from, appended: BTreeMap::new(), died: None };
    let mut last_zxid = Zxid(0);
    let mut is_stopped = false;
    loop {
        is_stopped |= progress.enough.load(Ordering::Relaxed) || written.died.is_some();
        while !is_stopped && pipeline.len() < WINDOW {
            let accepted = pipeline.submit(Note::Count(next), request(raise(id, next)));
            let appended = match accepted {
                Ok(()) => {
                    let data = format!("{id}:{next}");
                    next += 1;
                    let append = request(create_sequential("/log/", data.as_bytes()));
                    pipeline.submit(Note::Append(next - 1), append)
                }
                refused => refused,
            };
            if let Err(err) = appended {
                assert_eq!(err, Error::Stopping, "node {id}");
                is_stopped = true;
            }
        }
        let Some((note, outcome)) = pipeline.next().await else { return written };
        let answer = match outcome {
            Ok(answer) => answer,
            Err(Error::OutcomeUnknown) => {
                written.died = Some(next);
                continue;
            }
            Err(err) => panic!("node {id}, {note:?}: {err}"),
        };
        assert!(written.died.is_none(), "node {id}, {note:?}: done after one before was not");
        assert!(answer.zxid > last_zxid, "node {id}, {note:?}: out of order");
        assert!(node.local().zxid() >= answer.zxid, "node {id}, {note:?}: answered before applied");
        last_zxid = answer.zxid;
        progress.acks.fetch_add(1, Ordering::Relaxed);
        let reply = answer.result.unwrap_or_else(|why| panic!("node {id}, {note:?}: {why:?}"));
        match note {
            Note::Count(at) => {
                assert_eq!(stat_of(&reply).version, at + 1, "node {id}");
                written.version = at + 1;
            }
            Note::Append(at) => {
                let Reply::Created { path, .. } = reply else { panic!("{reply:?}") };
                let again = written.appended.insert(format!("{id}:{at}"), path.name().to_owned());
                assert_eq!(again, None);
            }
        }
    }
}

/// What the whole test knows has been done.
#[derive(Default)]
struct Truth {
    versions: BTreeMap<NodeId, i32>,
    appended: BTreeMap<String, String>,
    /// What may have been appended, as its outcome is unknown.
    perhaps: BTreeSet<String>,
}

impl Truth {
    /// Takes up what a writer has done; for one whose node died, the counter tells how much more was done.
    async fn take(&mut self, cluster: &Cluster, id: NodeId, written: Written) {
        self.appended.extend(written.appended);
        let mut version = written.version;
        if let Some(submitted) = written.died {
            let view = cluster.node(id).read(Consistency::Linearizable, Zxid(0)).await.unwrap();
            version = view.tree.get(&counter(id)).unwrap().stat().version;
            let possible = written.version..=submitted;
            assert!(possible.contains(&version), "node {id}: {version}, not in {possible:?}");
            for at in written.version - 1..version {
                self.perhaps.insert(format!("{id}:{at}"));
            }
        }
        self.versions.insert(id, version);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_is_done_once_and_in_order_while_the_leader_is_killed_or_cut_off_20_times() {
    let cluster = Cluster::start(3, Setup { seed: 11, ..Setup::default() }).await;
    let mut truth = Truth::default();
    done(&cluster.node(1), request(create("/log", b""))).await;
    for id in 1..=3 {
        done(&cluster.node(1), request(create(&counter(id), b"0"))).await;
        truth.versions.insert(id, 0);
    }
    for round in 0..ROUNDS {
        let leader = cluster.leader().await;
        let progress = Arc::new(Progress::default());
        let acks = |wanted: u64| {
            let progress = progress.clone();
            async move {
                let before = progress.acks.load(Ordering::Relaxed);
                let enough = || {
                    let acks = progress.acks.load(Ordering::Relaxed) - before;
                    (acks >= wanted).then_some(())
                };
                until("enough writes are acknowledged", enough).await;
            }
        };
        let mut writers = BTreeMap::new();
        for id in 1..=3 {
            let writing = write(cluster.node(id), truth.versions[&id], progress.clone());
            writers.insert(id, tokio::spawn(writing));
        }
        acks(100).await;
        let is_killed = round % 2 == 0;
        match is_killed {
            true => cluster.crash(leader, round % 3).await,
            false => cluster.isolate(leader),
        }
        let successor = cluster.leader().await;
        assert_ne!(successor, leader, "somebody else leads");
        acks(200).await;
        match is_killed {
            true => drop(cluster.boot(leader).await),
            false => cluster.rejoin(leader),
        }
        progress.enough.store(true, Ordering::Relaxed);
        for (id, writer) in writers {
            let written = in_time("a writer ends", writer).await.unwrap();
            let may_die = is_killed && id == leader;
            assert!(may_die || written.died.is_none(), "round {round}: node {id} lost writes");
            truth.take(&cluster, id, written).await;
        }
    }
    check(&cluster, &truth).await;
}

async fn check(cluster: &Cluster, truth: &Truth) {
    let tree = cluster.settled().await;
    for (id, version) in &truth.versions {
        let znode = tree.get(&counter(*id)).unwrap();
        assert_eq!(znode.stat().version, *version, "counter of node {id}");
        assert_eq!(&znode.data().unwrap()[..], version.to_string().as_bytes());
    }
    let mut found = BTreeMap::new();
    for child in tree.get("/log").unwrap().children() {
        let data = tree.get(child.as_str()).unwrap().data().unwrap().to_vec();
        let data = String::from_utf8(data).unwrap();
        let again = found.insert(data.clone(), child.name().to_owned());
        assert_eq!(again, None, "{data} was appended twice");
    }
    for (data, name) in &truth.appended {
        assert_eq!(found.remove(data).as_ref(), Some(name), "{data} is acknowledged");
    }
    found.retain(|data, _| !truth.perhaps.contains(data));
    assert_eq!(found, BTreeMap::new(), "appended though it never was submitted, or was refused");
    println!("{} writes acknowledged", truth.versions.values().sum::<i32>());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_idempotency_key_used_through_all_nodes_at_once_is_applied_once() {
    let cluster = Cluster::start(3, Setup { seed: 12, ..Setup::default() }).await;
    done(&cluster.node(1), request(create("/keys", b""))).await;
    const KEYS: usize = 60;
    for key in 0..KEYS {
        let attempts = (1..=3).map(|id| {
            let node = cluster.node(id);
            let mut request = request(create_sequential("/keys/", id.to_string().as_bytes()));
            request.idempotency_key = Some(format!("key {key}"));
            async move { node.submit(request).await.unwrap() }
        });
        if key % 20 == 10 {
            let leader = cluster.leader().await;
            let attempts = futures::future::join_all(attempts);
            let cut = async {
                cluster.isolate(leader);
                cluster.leader().await;
                cluster.rejoin(leader);
            };
            let (answers, ()) = futures::join!(attempts, cut);
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        } else {
            let answers = futures::future::join_all(attempts).await;
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
            assert!(answers[0].result.is_ok());
        }
    }
    let tree = cluster.settled().await;
    assert_eq!(tree.get("/keys").unwrap().num_children(), KEYS);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_slower_than_the_heartbeat_delay_writes_and_do_not_prevent_them() {
    let cluster = Cluster::start(3, Setup { seed: 28, ..Setup::default() }).await;
    let heartbeat_ms = Setup::default().raft.heartbeat_ms;
    for (one, other) in [(1, 2), (1, 3), (2, 3)] {
        cluster.delay(one, other, Duration::from_millis(heartbeat_ms * 4 / 5));
    }
    let node = cluster.node(1);
    done(&node, request(create(&counter(1), b"0"))).await;
    for version in 0..5 {
        let (_, reply) = done(&node, request(raise(1, version))).await;
        assert_eq!(stat_of(&reply).version, version + 1);
    }
    cluster.settled().await;
}
