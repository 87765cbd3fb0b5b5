//! What is taken out by hand goes as a whole or not at all, whoever dies meanwhile, and stays away for as long as said.

use std::time::Duration;

use roost::node::{Node, Request};
use roost::traffic::{TOMBSTONES, Tombstone, address_prefix};
use roost::types::{Code, CreateMode, Data, Error, Op, Reply, SessionId, ZnodePath, Zxid};

use crate::harness::{Cluster, Setup, in_time, until};
use crate::ops::{by, create, done, open_session, path, refused, request};

const INSTANCES: usize = 20;
const DATA: &[u8] = br#"{"host":"10.0.0.5","port":80}"#;

fn instance(at: usize) -> Op {
    Op::Create {
        parent: path("/services"),
        name: at.to_string(),
        data: Some(Data::new(DATA)),
        acl: Vec::new(),
        mode: CreateMode::Ephemeral,
    }
}

fn tombstone() -> ZnodePath {
    let scope = roost::policy::Pattern::parse("/**").unwrap();
    Tombstone::Address { host: "10.0.0.5".to_owned(), port: None, scope }.path().unwrap()
}

/// What takes all instances out, and keeps them away for so long.
fn deregister(node: &Node, block_ms: u64, key: &str) -> Request {
    let tree = node.local();
    let chosen = tree.get("/services").unwrap().children();
    let candidates =
        chosen.map(|path| (path.clone(), tree.get(path.as_str()).unwrap().stat().czxid));
    let deregister = Op::Deregister { candidates: candidates.collect() };
    let bury = Op::Create {
        parent: path(TOMBSTONES),
        name: tombstone().name().to_owned(),
        data: None,
        acl: Vec::new(),
        mode: CreateMode::Ttl(block_ms),
    };
    let ops = Op::Multi(vec![bury, deregister]);
    Request { idempotency_key: Some(key.to_owned()), ..request(ops) }
}

async fn parents(node: &Node) {
    for at in ["/services", "/roost", TOMBSTONES] {
        done(node, request(create(at, b""))).await;
    }
}

/// Tries until it is possible again; checks that it was not before the time was over.
async fn register_all(node: &Node, session: SessionId) {
    for at in 0..INSTANCES {
        let wish = || by(session, instance(at));
        let registering = async {
            while node.submit(wish()).await.unwrap().result.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        in_time("an instance may come back", registering).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_deregistration_is_whole_and_done_once_though_the_leader_is_killed_meanwhile() {
    let cluster = Cluster::start(3, Setup { seed: 71, ..Setup::default() }).await;
    let mut first = true;
    for round in 0..6 {
        let leader = cluster.leader().await;
        let (node, other) = (cluster.node(leader), cluster.others(leader)[0]);
        if std::mem::take(&mut first) {
            parents(&node).await;
        }
        let session = open_session(&node, 60_000).await;
        register_all(&node, session).await;
        let key = format!("round-{round}");
        let wish = deregister(&node, 300, &key);
        let asking = tokio::spawn({
            let (node, wish) = (node.clone(), wish.clone());
            async move { node.submit(wish).await }
        });
        // Now and then it has already been answered, which is a case too.
        tokio::time::sleep(Duration::from_millis(round % 4)).await;
        cluster.crash(leader, 0).await;
        let first_answer = in_time("the answer", asking).await.unwrap();
        cluster.leader().await;
        let other = cluster.node(other);
        let retried = other.submit(wish).await.unwrap();
        let Ok(Reply::Multi(replies)) = &retried.result else { panic!("{:?}", retried.result) };
        let Some(Reply::Deregistered { paths }) = replies.last() else { panic!("{replies:?}") };
        assert_eq!(paths.len(), INSTANCES, "all of them in one transaction");
        match first_answer {
            Ok(answer) => assert_eq!(answer, retried, "a retry gets the first answer"),
            Err(err) => assert!(matches!(err, Error::OutcomeUnknown | Error::Stopping), "{err}"),
        }
        cluster.boot(leader).await;
        let tree = cluster.settled().await;
        assert_eq!(tree.get("/services").unwrap().num_children(), 0);
        let went: Zxid = tree.get("/services").unwrap().stat().pzxid;
        assert_eq!(went, retried.zxid, "with one zxid");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_out_is_refused_through_every_node_until_its_tombstone_goes_by_itself() {
    let cluster = Cluster::start(3, Setup { seed: 72, ..Setup::default() }).await;
    let node = cluster.node(1);
    parents(&node).await;
    let session = open_session(&node, 60_000).await;
    register_all(&node, session).await;
    done(&node, deregister(&node, 2_000, "k")).await;
    let buried_ms = cluster.clock.now_ms();
    assert!(tombstone().as_str().starts_with(&address_prefix("10.0.0.5", None)));
    for id in 1..=3 {
        let code = refused(&cluster.node(id), by(session, instance(0))).await;
        assert_eq!(code, Code::NoAuth, "through node {id}");
    }
    // The leader that reaps it need not be the one that buried it.
    let leader = cluster.leader().await;
    cluster.crash(leader, 0).await;
    cluster.leader().await;
    let node = cluster.node(cluster.others(leader)[0]);
    let gone = || node.local().get(tombstone().as_str()).is_none().then_some(());
    until("the tombstone has gone", gone).await;
    let waited_ms = cluster.clock.now_ms() - buried_ms;
    assert!(waited_ms >= 1_500, "after {waited_ms} ms");
    register_all(&node, session).await;
}
