//! Events that are held back, by a window that is there whatever the load: never so long that a client could see more than
//! it has been told.

use roost::jute::{EventType, Ops, Request, Response, WatcherKind, WriteOp, errors, xids};

use crate::client::{Client, Message, add_watch, children, cluster_with, create, exists, get, set};
use crate::harness::Setup;

fn held(window_ms: u64) -> Setup {
    Setup { window_ms: Some(window_ms), ..Setup::default() }
}

/// Longer than any test takes.
const FOR_EVER_MS: u64 = 3_600_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_held_event_stays_behind_pings_and_comes_before_any_reply_that_could_show_the_state() {
    let (_cluster, doors) = cluster_with(1, held(FOR_EVER_MS)).await;
    let (mut client, mut other) = (Client::new(doors[0]).await, Client::new(doors[0]).await);
    other.ask(create("/h", 0)).await.unwrap();
    client.ask(create("/own", 0)).await.unwrap();
    // Who has not been told anything is not held back.
    client.ask(get("/h", true)).await.unwrap();
    other.ask(set("/h", "first")).await.unwrap();
    assert_eq!(client.event().await.1, EventType::NodeDataChanged);
    let showing = [
        get("/h", true),
        exists("/none", false),
        children("/", false),
        Request::Sync("/h".to_owned()),
        set("/own", "x"),
        create("/h", 0),
        get("/none", false),
        add_watch("/other", 0),
        add_watch("/h", 7),
        Request::CheckWatches(of_data("/h")),
        Request::RemoveWatches(of_data("/h")),
        create("no path", 0),
        Request::Multi(Ops(vec![no_path()])),
        Request::CloseSession,
    ];
    for request in showing {
        check_held(&mut client, &mut other, request).await;
    }
    assert_eq!(client.rest().await, []);
}

fn of_data(path: &str) -> WatcherKind {
    WatcherKind { path: path.to_owned(), kind: 2 }
}

fn no_path() -> WriteOp {
    match create("no path", 0) {
        Request::Write(op) => op,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_watch_is_removed_no_event_of_it_comes_and_what_is_denied_has_been_told() {
    let (_cluster, doors) = cluster_with(1, held(FOR_EVER_MS)).await;
    let (mut client, mut other) = (Client::new(doors[0]).await, Client::new(doors[0]).await);
    other.ask(create("/h", 0)).await.unwrap();
    client.ask(add_watch("/h", 0)).await.unwrap();
    other.ask(set("/h", "first")).await.unwrap();
    assert_eq!(client.event().await.1, EventType::NodeDataChanged);
    // This one is held back.
    other.ask(set("/h", "second")).await.unwrap();
    let persistent = WatcherKind { path: "/h".to_owned(), kind: 4 };
    client.send(&[Request::RemoveWatches(persistent)]).await;
    assert_eq!(client.event().await.1, EventType::NodeDataChanged);
    assert_eq!(client.reply().await.1, Ok(Response::Empty));
    other.ask(set("/h", "third")).await.unwrap();
    client.ask(get("/h", true)).await.unwrap();
    assert_eq!(client.events, [], "it was removed");
    other.ask(set("/h", "fourth")).await.unwrap();
    client.send(&[Request::CheckWatches(of_data("/h"))]).await;
    assert_eq!(client.event().await.1, EventType::NodeDataChanged);
    assert_eq!(client.reply().await.1, Err(errors::NO_WATCHER));
}

/// Holds back the event of a change, and lets this request be answered.
async fn check_held(client: &mut Client, other: &mut Client, request: Request) {
    client.ask(get("/h", true)).await.unwrap();
    other.send(&[set("/h", "again")]).await;
    let (changed, outcome) = other.reply().await;
    outcome.unwrap();
    client.send(&[Request::Ping, Request::Ping]).await;
    for _ in 0..2 {
        match client.next().await.unwrap() {
            Message::Reply { xid: xids::PING, zxid, .. } => {
                assert!(zxid < changed, "{zxid} says that everything up to {changed} is told");
            }
            early => panic!("it is held back: {early:?}"),
        }
    }
    let shown = format!("{request:?}");
    client.send(&[request]).await;
    match client.next().await.unwrap() {
        Message::Event { zxid, kind, path } => {
            assert_eq!((zxid, kind), (changed, EventType::NodeDataChanged));
            assert_eq!(path, "/h");
        }
        reply => panic!("the event comes before {reply:?} to {shown}"),
    }
    let Message::Reply { zxid, .. } = client.next().await.unwrap() else {
        panic!("{shown} is answered")
    };
    assert!(zxid >= changed, "{shown}: {zxid} after an event of {changed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_event_comes_when_its_time_has_come_though_nothing_is_asked() {
    let (_cluster, doors) = cluster_with(1, held(100)).await;
    let (mut client, mut other) = (Client::new(doors[0]).await, Client::new(doors[0]).await);
    other.ask(create("/h", 0)).await.unwrap();
    for _ in 0..5 {
        client.ask(get("/h", true)).await.unwrap();
        other.ask(set("/h", "x")).await.unwrap();
        assert_eq!(client.event().await.1, EventType::NodeDataChanged);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_order_hold_while_events_are_held_back() {
    super::order::check_own_events(cluster_with(3, held(30)).await).await;
    super::order::check_reads_and_watches(cluster_with(3, held(10)).await).await;
    super::order::check_zxids(cluster_with(3, held(30)).await).await;
}
