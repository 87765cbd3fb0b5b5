//! Who has been told that an instance leaves, over all nodes, and that it goes at its deadline whoever leads then.

use std::time::Duration;

use roost::node::{Delivery, Inbox, Leaving, Line, Node, Subscription};
use roost::types::{AclId, SessionId};
use roost::watch::{Filter, WatchKind, WatchMode};

use crate::harness::{Cluster, Setup, in_time, until};
use crate::ops::{by, create, done, open_session, path, request};

const PROVIDERS: &str = "/services/web/providers";
const PROVIDER: &str = r#"{"host":"10.0.0.5","port":80,"weight":3,"status":"up"}"#;

fn leaving(deadline_ms: u64) -> Leaving {
    Leaving {
        path: path(&format!("{PROVIDERS}/a")),
        session: SessionId::NONE,
        authority: vec![AclId { scheme: "ip".into(), id: "10.0.0.1".into() }],
        deadline_ms,
        set_by: "a test".into(),
        reason: "a restart".into(),
    }
}

async fn registered(cluster: &Cluster) {
    let node = cluster.node(1);
    for at in ["/services", "/services/web", PROVIDERS] {
        done(&node, request(create(at, b""))).await;
    }
    let session = open_session(&node, 60_000).await;
    let mut op = create(&format!("{PROVIDERS}/a"), PROVIDER.as_bytes());
    if let roost::types::Op::Create { mode, .. } = &mut op {
        *mode = roost::types::CreateMode::Ephemeral;
    }
    done(&node, by(session, op)).await;
    cluster.settled().await;
}

async fn subscriber(node: &Node) -> Subscription {
    let filter = Filter { path: path(PROVIDERS), kind: WatchKind::ChildrenData };
    let mut subscription = node.subscribe(vec![filter], None, 0).unwrap();
    let first = in_time("a snapshot", subscription.next(Duration::from_secs(60))).await;
    assert!(matches!(first, Some(Delivery::Snapshot { .. })));
    subscription
}

/// A connection of the ZooKeeper door that watches the provider's data.
fn watcher(node: &Node) -> Line {
    let line = node.open_line(Vec::new()).unwrap();
    line.look(&mut Inbox::default(), true, |_, _, mut watches| {
        watches.add(&path(&format!("{PROVIDERS}/a")), WatchMode::Data).unwrap();
        ((), true)
    });
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_an_instance_on_any_node_is_counted_once_he_has_been_told() {
    let cluster = Cluster::start(3, Setup { seed: 91, ..Setup::default() }).await;
    registered(&cluster).await;
    let nodes = [1, 2, 3].map(|id| cluster.node(id));
    let mut streams = Vec::new();
    for node in &nodes {
        streams.push(subscriber(node).await);
    }
    let line = watcher(&nodes[2]);
    let elsewhere = nodes[1].open_line(Vec::new()).unwrap();
    elsewhere.look(&mut Inbox::default(), true, |_, _, mut watches| {
        watches.add(&path("/services"), WatchMode::Recursive).unwrap();
        watches.add(&path(PROVIDERS), WatchMode::Data).unwrap();
        ((), true)
    });
    let found = nodes[1].followers(&path(PROVIDERS)).await;
    let of = |node: u64| found.all.iter().filter(|one| one.node == node).count();
    // Who watches one provider does not follow the list; who watches all below does.
    assert_eq!((of(1), of(2), of(3), found.unknown), (1, 2, 1, vec![]));
    elsewhere.look(&mut Inbox::default(), true, |_, _, mut watches| {
        assert!(watches.remove("/services", WatchMode::Recursive));
        assert!(watches.remove(PROVIDERS, WatchMode::Data));
        ((), true)
    });
    let draining = nodes[0].drain(&leaving(600_000)).await.unwrap().unwrap();
    cluster.settled().await;
    let told = nodes[0].drain_progress(&draining).await;
    assert_eq!((told.notified, told.lagging, told.unknown), (0, 4, vec![]));
    for stream in &mut streams[..2] {
        let next = in_time("the change", stream.next(Duration::from_secs(60))).await;
        assert!(matches!(next, Some(Delivery::Messages { .. })));
    }
    let mut inbox = Inbox::default();
    line.look(&mut inbox, true, |_, _, _| ((), true));
    assert_eq!(inbox.notices.len(), 1);
    let told = nodes[1].drain_progress(&draining).await;
    assert_eq!((told.notified, told.lagging, told.unknown), (3, 1, vec![]));
    // Whoever goes need not be told; a node that does not answer cannot say.
    drop(streams.pop());
    let told = nodes[0].drain_progress(&draining).await;
    assert_eq!((told.notified, told.lagging), (3, 0));
    drop((line, elsewhere));
    drop(streams);
    cluster.crash(3, 0).await;
    let told = nodes[0].drain_progress(&draining).await;
    assert_eq!((told.notified, told.unknown), (2, vec![3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_goes_at_its_deadline_though_the_leader_dies_before() {
    let cluster = Cluster::start(3, Setup { seed: 92, ..Setup::default() }).await;
    registered(&cluster).await;
    let first = cluster.leader().await;
    let other = cluster.node(cluster.others(first)[0]);
    other.drain(&leaving(6_000)).await.unwrap().unwrap();
    let at = format!("{PROVIDERS}/a");
    let shown =
        String::from_utf8(other.local().get(&at).unwrap().data().unwrap().to_vec()).unwrap();
    assert!(shown.contains("draining"), "{shown}");
    cluster.crash(first, 0).await;
    until("it has gone", || other.local().get(&at).is_none().then_some(())).await;
    until("nothing is left of it", || {
        let tree = other.local();
        let left = |path| tree.get(path).map_or(0, |all| all.num_children());
        (left("/roost/drains") + left("/roost/effects") == 0).then_some(())
    })
    .await;
}
