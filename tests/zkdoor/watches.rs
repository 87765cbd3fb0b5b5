use roost::jute::{
    Auth, Create, EventType, Request, Response, SetWatches, SetWatches2, WatcherKind, WriteOp,
    errors,
};
use roost::types::{Acl, AclId, Code, Data, Perms};

use crate::client::{
    Client, Message, add_watch, children, cluster, create, delete, exists, get, set,
};

fn kind(path: &str, kind: i32) -> WatcherKind {
    WatcherKind { path: path.to_owned(), kind }
}

fn texts(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_fires_once_and_a_missing_znode_can_be_awaited() {
    let (_cluster, doors) = cluster(1).await;
    let mut client = Client::new(doors[0]).await;
    assert_eq!(client.ask(exists("/w", true)).await, Err(Code::NoNode.number()));
    assert_eq!(client.ask(get("/w", true)).await, Err(Code::NoNode.number()));
    for request in [create("/w", 0), set("/w", "1"), set("/w", "2"), delete("/w")] {
        client.ask(request).await.unwrap();
    }
    let seen: Vec<_> = client.events.drain(..).map(|(_, kind, _)| kind).collect();
    assert_eq!(seen, [EventType::NodeCreated]);
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_stay_stay_beside_those_that_fire_once() {
    let (_cluster, doors) = cluster(1).await;
    let mut client = Client::new(doors[0]).await;
    client.ask(create("/w", 0)).await.unwrap();
    assert_eq!(client.ask(add_watch("/w", 0)).await, Ok(Response::Number(0)));
    client.ask(get("/w", true)).await.unwrap();
    for request in [set("/w", "1"), set("/w", "2"), create("/w/c", 0), set("/w/c", "3")] {
        client.ask(request).await.unwrap();
    }
    let seen: Vec<_> = client.events.drain(..).map(|(_, kind, path)| (kind, path)).collect();
    let at = |kind| (kind, "/w".to_owned());
    let changed = at(EventType::NodeDataChanged);
    assert_eq!(seen, [changed.clone(), changed, at(EventType::NodeChildrenChanged)]);

    assert_eq!(client.ask(add_watch("/w", 1)).await, Ok(Response::Number(0)));
    for wanted in [4, 5, 3] {
        assert!(client.ask(Request::CheckWatches(kind("/w", wanted))).await.is_ok(), "{wanted}");
    }
    assert!(client.ask(Request::RemoveWatches(kind("/w", 4))).await.is_ok());
    let none = Err(errors::NO_WATCHER);
    assert_eq!(client.ask(Request::RemoveWatches(kind("/w", 4))).await, none);
    for request in [set("/w/c", "4"), delete("/w/c"), set("/w", "5")] {
        client.ask(request).await.unwrap();
    }
    let seen: Vec<_> = client.events.drain(..).map(|(_, kind, path)| (kind, path)).collect();
    let below = |kind| (kind, "/w/c".to_owned());
    let (changed, deleted) = (EventType::NodeDataChanged, EventType::NodeDeleted);
    assert_eq!(seen, [below(changed), below(deleted), at(changed)]);
    assert!(client.ask(Request::RemoveWatches(kind("/w", 3))).await.is_ok());
    assert_eq!(client.ask(Request::CheckWatches(kind("/w", 3))).await, none);
    let wrong = Err(Code::MarshallingError.number());
    assert_eq!(client.ask(Request::CheckWatches(kind("/w", 9))).await, wrong);
    assert_eq!(client.ask(add_watch("/w", 2)).await, wrong);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_is_told_what_it_missed_before_its_watches_are_set_again() {
    let (_cluster, doors) = cluster(3).await;
    let mut writer = Client::new(doors[0]).await;
    for path in ["/same", "/changed", "/deleted", "/grown", "/quiet"] {
        writer.ask(create(path, 0)).await.unwrap();
    }
    let mut client = Client::new(doors[1]).await;
    client.send(&[Request::Sync("/".to_owned())]).await;
    let (known, _) = client.reply().await;
    let hello = client.again(known);
    drop(client);
    for request in
        [set("/changed", "x"), delete("/deleted"), create("/grown/c", 0), create("/born", 0)]
    {
        writer.ask(request).await.unwrap();
    }
    let mut client = Client::connect(doors[2], hello).await.unwrap();
    let one_shot = SetWatches {
        relative_zxid: known,
        data: texts(&["/same", "/changed", "/deleted"]),
        exist: texts(&["/born", "/unborn"]),
        child: texts(&["/grown", "/quiet", "/deleted"]),
    };
    client.send(&[Request::Sync("/".to_owned())]).await;
    client.reply().await.1.unwrap();
    let (persistent, persistent_recursive) = (texts(&["/stays"]), Vec::new());
    let again = SetWatches2 { one_shot, persistent, persistent_recursive };
    client.send(&[Request::SetWatches2(again)]).await;
    let mut missed = Vec::new();
    loop {
        match client.next().await.unwrap() {
            Message::Event { zxid, kind, path } => {
                assert_eq!(zxid, -1);
                missed.push((kind, path));
            }
            Message::Reply { xid, result, .. } => {
                assert_eq!((xid, result), (-8, Ok(Response::Empty)));
                break;
            }
        }
    }
    let expected = [
        (EventType::NodeDataChanged, "/changed"),
        (EventType::NodeDeleted, "/deleted"),
        (EventType::NodeCreated, "/born"),
        (EventType::NodeChildrenChanged, "/grown"),
        (EventType::NodeDeleted, "/deleted"),
    ];
    assert_eq!(missed, expected.map(|(kind, path)| (kind, path.to_owned())));
    for (request, expected) in [
        (set("/same", "y"), (EventType::NodeDataChanged, "/same")),
        (create("/unborn", 0), (EventType::NodeCreated, "/unborn")),
        (create("/quiet/c", 0), (EventType::NodeChildrenChanged, "/quiet")),
        (create("/stays", 0), (EventType::NodeCreated, "/stays")),
    ] {
        writer.ask(request).await.unwrap();
        let (_, kind, path) = client.event().await;
        assert_eq!((kind, path.as_str()), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_watches_are_set_again_and_fire() {
    const COUNT: usize = 5_000;
    let (_cluster, doors) = cluster(1).await;
    let mut client = Client::new(doors[0]).await;
    client.ask(create("/many", 0)).await.unwrap();
    let paths: Vec<String> = (0..COUNT).map(|n| format!("/many/{n}")).collect();
    client.send(&paths.iter().map(|path| create(path, 0)).collect::<Vec<_>>()).await;
    for _ in 0..COUNT {
        client.reply().await.1.unwrap();
    }
    // Half of them are said to have been deleted when the client was away.
    let gone: Vec<String> = (0..COUNT).map(|n| format!("/gone/{n}")).collect();
    let data = paths.iter().chain(&gone).cloned().collect();
    let again = SetWatches { relative_zxid: i64::MAX, data, exist: vec![], child: vec![] };
    assert_eq!(client.ask(Request::SetWatches(again)).await, Ok(Response::Empty));
    assert_eq!(client.events.len(), COUNT);
    client.events.clear();
    client.send(&paths.iter().map(|path| delete(path)).collect::<Vec<_>>()).await;
    for _ in 0..COUNT {
        client.reply().await.1.unwrap();
    }
    assert_eq!(client.events.len(), COUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_is_not_told() {
    let (_cluster, doors) = cluster(1).await;
    let mut owner = Client::new(doors[0]).await;
    let mut stranger = Client::new(doors[0]).await;
    let auth =
        Auth { kind: 0, scheme: "digest".to_owned(), auth: Some(Data::new(b"user:password")) };
    assert_eq!(owner.ask(Request::Auth(auth.clone())).await, Ok(Response::Empty));
    let id = AclId { scheme: "auth".to_owned(), id: String::new() };
    let acl = vec![Acl { perms: Perms::ALL, id }];
    let secret = Create { path: "/secret".to_owned(), data: None, acl, flags: 0 };
    assert!(stranger.ask(add_watch("/secret", 1)).await.is_ok());
    assert!(owner.ask(add_watch("/secret", 1)).await.is_ok());
    owner.ask(Request::Write(WriteOp::Create(secret))).await.unwrap();
    owner.ask(set("/secret", "x")).await.unwrap();
    assert_eq!(owner.events.len(), 2);
    assert_eq!(stranger.ask(get("/secret", true)).await, Err(Code::NoAuth.number()));
    assert_eq!(stranger.ask(exists("/secret", true)).await, Err(Code::NoAuth.number()));
    assert_eq!(stranger.events, []);
    assert_eq!(stranger.ask(Request::Auth(auth)).await, Ok(Response::Empty));
    assert!(stranger.ask(get("/secret", false)).await.is_ok());
    owner.ask(set("/secret", "y")).await.unwrap();
    assert_eq!(stranger.event().await.1, EventType::NodeDataChanged);
    assert!(stranger.ask(children("/secret", false)).await.is_ok());
}
