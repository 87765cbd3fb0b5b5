use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use roost::jute::{EventType, Request, Response};
use tokio::task::JoinSet;

use crate::client::{Client, Message, children, cluster, create, data, get, set, stat};
use crate::harness::Cluster;

/// Nodes, and the addresses of their doors.
type Doors = (Arc<Cluster>, Vec<SocketAddr>);

/// Requests that one client has under way.
const PIPELINED: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn a_read_sees_the_writes_before_it_and_not_those_behind_it() {
    let (_cluster, doors) = cluster(3).await;
    for door in doors {
        let mut client = Client::new(door).await;
        let path = format!("/order-{}", client.session.0);
        client.ask(create(&path, 0)).await.unwrap();
        let requests: Vec<Request> = (0..PIPELINED)
            .flat_map(|n| [set(&path, &n.to_string()), get(&path, false), get(&path, false)])
            .collect();
        client.send(&requests).await;
        for n in 0..PIPELINED {
            assert_eq!(stat(client.reply().await.1).version, n as i32 + 1);
            for _ in 0..2 {
                assert_eq!(data(client.reply().await.1).0, n.to_string());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_zxids_of_replies_do_not_go_back_when_writes_follow_a_sync_without_waiting() {
    let (_cluster, doors) = cluster(3).await;
    let mut client = Client::new(doors[0]).await;
    client.ask(create("/z", 0)).await.unwrap();
    let mut last = 0;
    for _ in 0..PIPELINED {
        client
            .send(&[set("/z", "a"), Request::Sync("/z".into()), set("/z", "b"), set("/z", "c")])
            .await;
        for _ in 0..4 {
            let (zxid, result) = client.reply().await;
            result.unwrap();
            assert!(zxid >= last, "{zxid} after {last}");
            last = zxid;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_comes_before_the_reply_of_its_own_write_and_before_any_reply_that_shows_it() {
    check_own_events(cluster(3).await).await;
}

pub(crate) async fn check_own_events((_cluster, doors): Doors) {
    let mut client = Client::new(doors[1]).await;
    client.ask(create("/e", 0)).await.unwrap();
    for n in 0..50 {
        client.ask(get("/e", true)).await.unwrap();
        client.ask(children("/e", true)).await.unwrap();
        let child = format!("/e/{n}");
        client.send(&[set("/e", "x"), create(&child, 0), get("/e", false)]).await;
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(client.next().await.unwrap());
        }
        let [changed, reply, grown, created, read] = seen.try_into().unwrap();
        let (Message::Event { zxid, kind: EventType::NodeDataChanged, .. }, own) =
            (changed, &reply)
        else {
            panic!("the event of a write comes first: {reply:?}");
        };
        assert!(matches!(own, Message::Reply { zxid: own, .. } if *own == zxid), "{own:?}");
        let (Message::Event { zxid, kind: EventType::NodeChildrenChanged, .. }, own) =
            (grown, &created)
        else {
            panic!("the event of a create comes first: {created:?}");
        };
        assert!(matches!(own, Message::Reply { zxid: own, .. } if *own == zxid), "{own:?}");
        assert!(matches!(read, Message::Reply { result: Ok(Response::Data(_)), .. }), "{read:?}");
    }
}

/// While others write as fast as they can, each event has to be the one of the first write behind what was read: one that
/// is earlier would precede the reply, one that is later would mean that a change was missed.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_and_the_watch_that_it_sets_are_of_one_moment() {
    check_reads_and_watches(cluster(3).await).await;
}

pub(crate) async fn check_reads_and_watches((_cluster, doors): Doors) {
    const WRITES: usize = 600;
    let mut first = Client::new(doors[0]).await;
    first.ask(create("/m", 0)).await.unwrap();
    let mut writers = JoinSet::new();
    for door in doors.iter().copied().cycle().take(4) {
        writers.spawn(async move {
            let mut writer = Client::new(door).await;
            let mut written = BTreeMap::new();
            for _ in 0..WRITES / 20 {
                writer.send(&vec![set("/m", "x"); 20]).await;
                for _ in 0..20 {
                    let (zxid, result) = writer.reply().await;
                    written.insert(stat(result).version, zxid);
                }
            }
            written
        });
    }
    let mut watchers = JoinSet::new();
    for door in doors {
        watchers.spawn(async move {
            let mut watcher = Client::new(door).await;
            let mut seen = Vec::new();
            loop {
                let (_, read) = data(watcher.ask(get("/m", true)).await);
                if read.version == 4 * WRITES as i32 {
                    return seen;
                }
                let (zxid, kind, _) = watcher.event().await;
                assert_eq!(kind, EventType::NodeDataChanged);
                seen.push((read.version, zxid));
            }
        });
    }
    let mut written = BTreeMap::new();
    while let Some(part) = writers.join_next().await {
        written.extend(part.unwrap());
    }
    assert_eq!(written.len(), 4 * WRITES, "each write made its own version");
    while let Some(seen) = watchers.join_next().await {
        for (version, zxid) in seen.unwrap() {
            assert_eq!(written[&(version + 1)], zxid, "the change behind version {version}");
        }
    }
}

/// Replies and events as one client sees them never go back in zxid.
#[tokio::test(flavor = "multi_thread")]
async fn zxids_of_replies_and_events_never_go_back() {
    check_zxids(cluster(3).await).await;
}

pub(crate) async fn check_zxids((_cluster, doors): Doors) {
    let mut other = Client::new(doors[2]).await;
    other.ask(create("/z", 0)).await.unwrap();
    let mut client = Client::new(doors[0]).await;
    client.ask(crate::client::add_watch("/z", 1)).await.unwrap();
    let writing = tokio::spawn(async move {
        for _ in 0..20 {
            other.send(&vec![set("/z", "other"); 20]).await;
            for _ in 0..20 {
                other.reply().await.1.unwrap();
            }
        }
    });
    let mut last = 0;
    let mut events = 0;
    for _ in 0..20 {
        let refused = || create("no path", 0);
        let mine = [
            refused(),
            set("/z", "mine"),
            refused(),
            get("/z", false),
            Request::Ping,
            get("/none", true),
        ];
        client.send(&mine).await;
        let mut replies = 0;
        while replies < mine.len() {
            match client.next().await.unwrap() {
                Message::Reply { xid: roost::jute::xids::PING, .. } => replies += 1,
                Message::Reply { zxid, .. } => {
                    assert!(zxid >= last, "a reply of {zxid} behind {last}");
                    (last, replies) = (zxid, replies + 1);
                }
                Message::Event { zxid, .. } => {
                    assert!(zxid >= last, "an event of {zxid} behind {last}");
                    (last, events) = (zxid, events + 1);
                }
            }
        }
    }
    writing.await.unwrap();
    while events < 420 {
        assert!(
            matches!(client.next().await.unwrap(), Message::Event { zxid, .. } if zxid >= last)
        );
        events += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_is_answered_while_writes_wait_for_a_leader() {
    let (cluster, doors) = cluster(3).await;
    let leader = cluster.leader().await;
    let follower = (1..=3).find(|id| *id != leader).unwrap();
    let mut client = Client::new(doors[follower as usize - 1]).await;
    client.ask(create("/p", 0)).await.unwrap();
    cluster.isolate(follower);
    client.send(&[set("/p", "x"), Request::Ping]).await;
    let ping = client.next().await.unwrap();
    assert!(matches!(ping, Message::Reply { xid: roost::jute::xids::PING, .. }), "{ping:?}");
    cluster.rejoin(follower);
    assert_eq!(stat(client.reply().await.1).version, 1);
}
