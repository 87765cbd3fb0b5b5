//! A full queue refuses, and keeps what it has taken.

use std::collections::BTreeMap;

use roost::limits::OUTBOX_TXNS_MAX;
use roost::node::Node;
use roost::types::{Error, Op};

use crate::harness::{Cluster, Setup, in_time};
use crate::ops::{Pipeline, create, done, request, set, stat_of};

fn raise(node: &Node, version: usize) -> Op {
    set(&format!("/counter-{}", node.id()), b"", Some(version as i32))
}

/// Submits until the node is full. Each write succeeds only if all before it were done, once.
fn fill(node: &Node) -> Pipeline<usize> {
    let mut pipeline = Pipeline::new(node.clone());
    for version in 0..=OUTBOX_TXNS_MAX {
        match pipeline.submit(version, request(raise(node, version))) {
            Ok(()) => {}
            Err(Error::Busy { retry_after_ms, .. }) => {
                assert_eq!(version, OUTBOX_TXNS_MAX, "node {} is full early", node.id());
                assert!(retry_after_ms > 0);
                return pipeline;
            }
            Err(err) => panic!("node {}, {version}: {err}", node.id()),
        }
    }
    panic!("node {} takes more than {OUTBOX_TXNS_MAX} writes", node.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_every_queue_fills_up_then_refuses_and_loses_nothing() {
    let cluster = Cluster::start(3, Setup { seed: 91, ..Setup::default() }).await;
    for id in 1..=3 {
        done(&cluster.node(1), request(create(&format!("/counter-{id}"), b""))).await;
    }
    cluster.settled().await;
    for id in 1..=3 {
        cluster.isolate(id);
    }
    let mut pipelines = BTreeMap::new();
    for id in 1..=3 {
        pipelines.insert(id, fill(&cluster.node(id)));
    }
    for id in 1..=3 {
        cluster.rejoin(id);
    }
    for (id, mut pipeline) in pipelines {
        while let Some((version, outcome)) = in_time("an answer", pipeline.next()).await {
            let answer = outcome.unwrap_or_else(|err| panic!("node {id}, {version}: {err}"));
            let reply = answer.result.unwrap_or_else(|why| panic!("node {id}, {version}: {why:?}"));
            assert_eq!(stat_of(&reply).version, version as i32 + 1, "node {id}");
        }
        let node = cluster.node(id);
        done(&node, request(raise(&node, OUTBOX_TXNS_MAX))).await;
    }
    cluster.settled().await;
}
