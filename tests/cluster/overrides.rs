//! What overrides do to the tree is brought about and taken back, whoever leads meanwhile.

use std::sync::Arc;

use roost::node::Node;
use roost::tree::Tree;
use roost::types::{CreateMode, Data, Op, ZnodePath};

use crate::harness::{Cluster, Setup, until};
use crate::ops::{by, create, done, open_session, path, request};

const POLICY: &str =
    r#"{"set_by":"a test","reason":"it is slow","pattern":"/dubbo/*/providers/*","weight":0}"#;
const PROVIDER: &str = "dubbo%3A%2F%2F10.0.0.5%3A20880%2Fcom.a.Demo%3Fside%3Dprovider";

fn made(at: &str, data: &str, mode: CreateMode) -> Op {
    let at: ZnodePath = path(at);
    let data = Some(Data::new(data.as_bytes()));
    Op::Create {
        parent: at.parent().unwrap(),
        name: at.name().to_owned(),
        data,
        acl: Vec::new(),
        mode,
    }
}

/// Starts three nodes, whose state has what providers and policies are put below. Returns the first of them too.
async fn with_folders(seed: u64) -> (Arc<Cluster>, Node) {
    let cluster = Cluster::start(3, Setup { seed, ..Setup::default() }).await;
    let node = cluster.node(1);
    for at in [
        "/dubbo",
        "/dubbo/com.a.Demo",
        "/dubbo/com.a.Demo/providers",
        "/roost",
        "/roost/policies",
        "/roost/policies/overrides",
    ] {
        done(&node, request(create(at, b""))).await;
    }
    (cluster, node)
}

fn configurators(tree: &Arc<Tree>) -> usize {
    tree.get("/dubbo/com.a.Demo/configurators").map_or(0, |all| all.num_children())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_takes_hold_and_expires_with_all_that_it_did_though_leaders_change() {
    let (cluster, node) = with_folders(73).await;
    let session = open_session(&node, 60_000).await;
    let provider = format!("/dubbo/com.a.Demo/providers/{PROVIDER}");
    done(&node, by(session, made(&provider, "", CreateMode::Ephemeral))).await;
    let first = cluster.leader().await;
    let second = cluster.others(first)[0];
    // Set for long enough that a leader can be killed meanwhile, on a slow machine too.
    let policy = "/roost/policies/overrides/slow";
    done(&node, request(made(policy, POLICY, CreateMode::Ttl(8_000)))).await;
    let other = cluster.node(second);
    until("consumers are told", || (configurators(&other.local()) == 1).then_some(())).await;
    cluster.crash(first, 0).await;
    cluster.leader().await;
    until("the override has expired", || other.local().get(policy).is_none().then_some(())).await;
    until("what it did is gone", || (configurators(&other.local()) == 0).then_some(())).await;
    let tree = other.local();
    assert_eq!(tree.get("/roost/effects").unwrap().num_children(), 0);
    assert!(tree.get(&provider).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dubbo_provider_that_restarts_while_its_weight_is_0_stays_without_traffic() {
    let (_cluster, node) = with_folders(74).await;
    let provider = format!("/dubbo/com.a.Demo/providers/{PROVIDER}");
    let register = || made(&provider, "", CreateMode::Ephemeral);
    let mut session = open_session(&node, 60_000).await;
    done(&node, by(session, register())).await;
    let policy = "/roost/policies/overrides/slow";
    done(&node, request(made(policy, POLICY, CreateMode::Persistent))).await;
    until("consumers are told", || (configurators(&node.local()) == 1).then_some(())).await;
    let tree = node.local();
    let first = tree.get("/dubbo/com.a.Demo/configurators").unwrap().children().next().unwrap();
    let made_at = tree.get(first.as_str()).unwrap().stat().czxid;
    for _ in 0..3 {
        done(&node, request(Op::CloseSession { session, unless_moved_from: None })).await;
        session = open_session(&node, 60_000).await;
        done(&node, by(session, register())).await;
    }
    // Once the consumers of another one are told too, the leader has looked after the restarts.
    let another = provider.replace("20880", "20881");
    done(&node, by(session, made(&another, "", CreateMode::Ephemeral))).await;
    until("both are there", || (configurators(&node.local()) == 2).then_some(())).await;
    let now = node.local().get(first.as_str()).map(|znode| znode.stat().czxid);
    assert_eq!(now, Some(made_at), "consumers were told of it all the while");
    assert!(node.local().get(&provider).is_some());
}
