//! Instances that are asked all the time: what the probes find is every node's truth, whoever leads, and nobody else's.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use roost::node::Node;
use roost::probe::{Found, Probe, Prober};
use roost::tree::Health;
use roost::types::{CreateMode, Data, Op, Zxid};

use crate::harness::{Cluster, Setup, until};
use crate::ops::{by, create, delete, done, open_session, path, request};

const PROVIDERS: &str = "/services/web/providers";
const POLICY: &str = "/roost/policies/probe/web";

/// Answers for all addresses but those that are down.
#[derive(Default)]
struct Places {
    down: Mutex<BTreeSet<SocketAddr>>,
    asked: Mutex<BTreeSet<SocketAddr>>,
    probes: AtomicU64,
}

impl Prober for Places {
    fn allows(&self, ip: IpAddr) -> bool {
        ip != IpAddr::from([10, 0, 0, 9])
    }

    fn probe(&self, at: SocketAddr, _: Probe, _: Duration) -> BoxFuture<'static, Found> {
        self.probes.fetch_add(1, Ordering::Relaxed);
        self.asked.lock().insert(at);
        let found = if self.down.lock().contains(&at) { Found::Silent } else { Found::Answers };
        async move { found }.boxed()
    }
}

fn place(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}

fn instance(last: u8) -> String {
    format!("{PROVIDERS}/i{last}")
}

fn health(node: &Node, last: u8) -> Option<(Health, Zxid)> {
    let (at, tree) = (path(&instance(last)), node.local());
    Some(tree.health(&at, tree.get(at.as_str())?.stat().czxid))
}

/// Returns since which zxid every node says this of an instance, once they do.
async fn all_say(cluster: &Cluster, last: u8, wanted: Health) -> Zxid {
    let mut since = BTreeSet::new();
    for node in cluster.reachable() {
        let said = || health(&node, last).filter(|(health, _)| *health == wanted);
        let what = format!("node {} says of {last} that it is {}", node.id(), wanted.name());
        since.insert(until(&what, said).await.1);
    }
    assert_eq!(since.len(), 1, "it is one transaction: {since:?}");
    since.into_iter().next().unwrap()
}

fn made(at: &str, data: &str, mode: CreateMode) -> Op {
    let at = path(at);
    let (parent, name) = (at.parent().unwrap(), at.name().to_owned());
    let data = Some(Data::new(data.as_bytes()));
    Op::Create { parent, name, data, acl: Vec::new(), mode }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_probes_find_is_said_by_every_node_and_outlives_the_leader_that_found_it() {
    let places = Arc::new(Places::default());
    let setup = Setup { seed: 96, prober: Some(places.clone()), ..Setup::default() };
    let cluster = Cluster::start(3, setup).await;
    let node = cluster.node(1);
    for at in ["/services", "/services/web", PROVIDERS, "/roost", "/roost/policies"] {
        done(&node, request(create(at, b""))).await;
    }
    done(&node, request(create("/roost/policies/probe", b""))).await;
    let policy = r#"{"set_by":"a test","reason":"it is one","pattern":"/services/*/providers","probe":"tcp",
        "on":"continuous","interval_ms":200,"timeout_ms":100,"rise":2,"fall":2,"networks":["10.0.0.0/8"]}"#;
    done(&node, request(create(POLICY, policy.as_bytes()))).await;
    let session = open_session(&node, 600_000).await;
    for last in [1, 2, 9] {
        let data = format!(r#"{{"host":"10.0.0.{last}","port":80}}"#);
        let op = made(&instance(last), &data, CreateMode::Ephemeral);
        done(&node, by(session, op)).await;
    }
    let both = BTreeSet::from([place(1), place(2)]);
    until("those who may be asked are", || (*places.asked.lock() == both).then_some(())).await;
    assert_eq!(health(&node, 1), Some((Health::Healthy, Zxid(0))), "which is no news to anybody");

    places.down.lock().insert(place(1));
    let since = all_say(&cluster, 1, Health::Unhealthy).await;
    let first = cluster.leader().await;
    cluster.crash(first, 0).await;
    let second = cluster.leader().await;
    // The next leader has asked them both, more often than it takes, and has nothing to add.
    let before = places.probes.load(Ordering::Relaxed);
    let again = || (places.probes.load(Ordering::Relaxed) >= before + 8).then_some(());
    until("it asks", again).await;
    let leader = cluster.node(second);
    done(&leader, request(create("/mark", b""))).await;
    assert_eq!(health(&leader, 1), Some((Health::Unhealthy, since)));
    assert_eq!(health(&leader, 2), Some((Health::Healthy, Zxid(0))));

    places.down.lock().clear();
    assert!(all_say(&cluster, 1, Health::Healthy).await > since);
    // Nobody asks any more: then nobody is noted against.
    places.down.lock().insert(place(2));
    all_say(&cluster, 2, Health::Unhealthy).await;
    done(&leader, request(delete(POLICY))).await;
    all_say(&cluster, 2, Health::Healthy).await;
    done(&leader, request(Op::CloseSession { session, unless_moved_from: None })).await;
    let left = leader.local();
    let notes = left
        .descendants("/roost/health")
        .filter(|(_, it)| it.data().is_some_and(|it| !it.is_empty()));
    assert_eq!(notes.count(), 0, "they go with the instances");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_leader_found_changes_nothing_and_a_leader_that_may_ask_nobody_takes_it_back()
 {
    let cluster = Cluster::start(1, Setup { seed: 97, ..Setup::default() }).await;
    let node = cluster.node(1);
    done(&node, request(create("/i", br#"{"host":"10.0.0.1","port":80}"#))).await;
    let czxid = node.local().get("/i").unwrap().stat().czxid;
    let term = node.leadership().term;
    let found = |term| Op::SetHealth { path: path("/i"), czxid, works: false, term };
    done(&node, request(found(term - 1))).await;
    assert_eq!(node.local().health(&path("/i"), czxid), Default::default());
    // As if it had been allowed to ask when it noted that.
    done(&node, request(found(term))).await;
    let taken_back = || {
        let (health, since) = node.local().health(&path("/i"), czxid);
        (health == Health::Healthy && since > czxid).then_some(())
    };
    until("nothing is noted against whom nobody asks", taken_back).await;
}
