use std::time::Duration;

use roost::jute::{Request, Response};
use roost::types::{Data, SessionId};

use crate::client::{
    Client, Message, children, cluster, create, data, exists, fresh, get, open, options, set,
};
use crate::harness::{eventually, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_moves_to_another_node_and_its_old_connection_is_closed() {
    let (cluster, doors) = cluster(3).await;
    let mut old = Client::new(doors[0]).await;
    old.ask(create("/moving", 1)).await.unwrap();
    let mut new = Client::connect(doors[1], old.again(0)).await.unwrap();
    assert_eq!(new.session, old.session);
    // Whether it is refused or the connection is closed before: no reply, and nothing is written.
    old.send(&[set("/moving", "through the old connection")]).await;
    assert_eq!(old.rest().await, []);
    assert_eq!(data(new.ask(get("/moving", false)).await).0, "data");
    new.ask(set("/moving", "through the new one")).await.unwrap();
    assert_eq!(cluster.settled().await.ephemerals(new.session).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_comes_back_to_its_node_takes_the_place_of_its_old_connection() {
    let (_cluster, doors) = cluster(1).await;
    let mut old = Client::new(doors[0]).await;
    let mut new = Client::connect(doors[0], old.again(0)).await.unwrap();
    assert_eq!(old.rest().await, []);
    new.ask(create("/again", 1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_know_the_password_is_told_that_the_session_has_expired() {
    let (_cluster, doors) = cluster(1).await;
    let owner = Client::new(doors[0]).await;
    let unknown = SessionId(owner.session.0 + 1);
    for (session, password) in [
        (owner.session, Some(Data::new(&[7; 16]))),
        (owner.session, Some(Data::new(b"short"))),
        (owner.session, None),
        (unknown, owner.password.clone()),
    ] {
        let hello = roost::jute::ConnectRequest { session, password, ..fresh(10_000) };
        let mut refused = Client::connect(doors[0], hello).await.unwrap();
        assert_eq!((refused.timeout_ms, refused.session), (0, SessionId::NONE));
        assert_eq!(refused.password.as_deref(), Some(&[0; 16][..]));
        assert_eq!(refused.rest().await, []);
    }
    assert!(Client::connect(doors[0], owner.again(0)).await.unwrap().timeout_ms > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_is_said_only_where_the_znodes_of_the_session_are_gone() {
    let (cluster, doors) = cluster(3).await;
    for round in 0..3 {
        let mut owner = Client::connect(doors[round], fresh(500)).await.unwrap();
        let path = format!("/dying-{round}");
        owner.ask(create(&path, 1)).await.unwrap();
        let (session, hello) = (owner.session, owner.again(0));
        // Nobody speaks for it any more: it expires, somewhere and sometime.
        until("the session ends on some node", || {
            let nodes = cluster.reachable();
            nodes.iter().any(|node| node.local().session(session).is_none()).then_some(())
        })
        .await;
        assert_eq!(owner.rest().await, [], "the connection of an expired session is closed");
        for (at, door) in doors.iter().enumerate() {
            let told = Client::connect(*door, hello.clone()).await.unwrap();
            assert_eq!(told.timeout_ms, 0);
            let tree = cluster.node(at as u64 + 1).local();
            assert!(tree.get(&path).is_none(), "node {} has it still", at + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_heard_of_keeps_its_session_and_a_lost_connection_does_not_end_it() {
    let (cluster, doors) = cluster(1).await;
    let mut client = Client::connect(doors[0], fresh(2_000)).await.unwrap();
    client.ask(create("/alive", 1)).await.unwrap();
    // Three times the timeout, which is what the test is about. Twenty pings may be late by as much as a timeout.
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.send(&[Request::Ping]).await;
        assert!(matches!(client.next().await, Some(Message::Reply { .. })));
    }
    let hello = client.again(0);
    drop(client);
    let mut client = Client::connect(doors[0], hello).await.unwrap();
    assert!(client.ask(exists("/alive", false)).await.is_ok());
    assert_eq!(client.ask(Request::CloseSession).await, Ok(Response::Empty));
    assert_eq!(client.rest().await, []);
    assert!(cluster.node(1).local().get("/alive").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_dies_costs_neither_the_connection_nor_a_request() {
    let (cluster, doors) = cluster(3).await;
    let leader = cluster.leader().await;
    let follower = (1..=3).find(|id| *id != leader).unwrap();
    let mut client = Client::new(doors[follower as usize - 1]).await;
    client.ask(create("/f", 0)).await.unwrap();
    let requests: Vec<Request> = (0..400).map(|_| create("/f/n-", 2)).collect();
    client.send(&requests[..100]).await;
    client.reply().await.1.unwrap();
    cluster.crash(leader, 0).await;
    client.send(&requests[100..]).await;
    for n in 1..400 {
        let (_, result) = client.reply().await;
        assert_eq!(result, Ok(Response::Path(format!("/f/n-{n:010}"))));
    }
    let Ok(Response::Names(names)) = client.ask(children("/f", false)).await else {
        panic!("the names of the children")
    };
    assert_eq!(names.len(), 400, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_seen_more_waits_for_a_node_that_lags_and_is_refused_by_another_cluster()
{
    let (cluster, doors) = cluster(3).await;
    let leader = cluster.leader().await;
    let lagging = (1..=3).find(|id| *id != leader).unwrap();
    let mut client = Client::new(doors[leader as usize - 1]).await;
    client.ask(create("/seen", 0)).await.unwrap();
    cluster.isolate(lagging);
    client.send(&[set("/seen", "late")]).await;
    let (seen, _) = client.reply().await;
    assert!((cluster.node(lagging).local().zxid().0 as i64) < seen);
    let door = doors[lagging as usize - 1];
    let coming = tokio::spawn(Client::connect(door, client.again(seen)));
    cluster.rejoin(lagging);
    let mut back = coming.await.unwrap().expect("it is welcome once the node has caught up");
    assert_eq!(data(back.ask(get("/seen", false)).await).0, "late");
    assert!(Client::connect(door, back.again(seen + 1_000_000)).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_leader_for_longer_than_the_timeout_lets_its_clients_go() {
    let (cluster, doors) = cluster(3).await;
    let leader = cluster.leader().await;
    let cut_off = (1..=3).find(|id| *id != leader).unwrap();
    let mut client = Client::connect(doors[cut_off as usize - 1], fresh(1_000)).await.unwrap();
    let mut patient = Client::connect(doors[cut_off as usize - 1], fresh(60_000)).await.unwrap();
    cluster.isolate(cut_off);
    assert_eq!(client.rest().await, []);
    assert!(patient.ask(exists("/", false)).await.is_ok(), "the longer timeout is not over");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_behind_a_sync_is_not_older_than_what_anybody_was_told_before() {
    let (cluster, doors) = cluster(3).await;
    let leader = cluster.leader().await;
    let slow = (1..=3).find(|id| *id != leader).unwrap();
    let mut writer = Client::new(doors[leader as usize - 1]).await;
    let mut reader = Client::new(doors[slow as usize - 1]).await;
    writer.ask(create("/s", 0)).await.unwrap();
    cluster.delay(leader, slow, Duration::from_millis(30));
    for n in 0..20 {
        writer.ask(set("/s", &n.to_string())).await.unwrap();
        reader.send(&[Request::Sync("/s".to_owned()), get("/s", false)]).await;
        assert_eq!(reader.reply().await.1, Ok(Response::Path("/s".to_owned())));
        assert_eq!(data(reader.reply().await.1).0, n.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_again_takes_back_the_sessions_of_its_clients() {
    let (cluster, doors) = cluster(3).await;
    let mut client = Client::new(doors[0]).await;
    client.ask(create("/kept", 1)).await.unwrap();
    cluster.crash(1, 0).await;
    assert_eq!(client.rest().await, []);
    cluster.boot(1).await;
    let door = open(&cluster, 1, options()).await;
    let hello = client.again(0);
    let mut back =
        eventually("the node takes it back", async || Client::connect(door, hello.clone()).await)
            .await;
    assert_eq!(back.session, client.session);
    back.ask(set("/kept", "still mine")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_end_is_put_off_is_taken_up_again_as_it_was() {
    let (cluster, doors) = cluster(1).await;
    let node = cluster.node(1);
    let mut first = Client::new(doors[0]).await;
    for folder in ["/services", "/services/web"] {
        first.ask(create(folder, 0)).await.unwrap();
    }
    let mut providers = Vec::new();
    for at in 1..=2 {
        let mut provider = Client::connect(doors[0], fresh(500)).await.unwrap();
        let path = format!("/services/web/10.0.0.{at}:80");
        provider.ask(create(&path, 1)).await.unwrap();
        providers.push((provider, path));
    }
    // Of two providers one may go by silence.
    until("one is suspect", || (node.local().suspect_count() == 1).then_some(())).await;
    let is_left =
        |(provider, _): &(Client, String)| node.local().session(provider.session).is_some();
    let left = providers.into_iter().filter(is_left).collect::<Vec<_>>();
    let [(provider, path)] = left.try_into().unwrap_or_else(|_| panic!("one has gone"));
    let created = node.local().get(&path).unwrap().stat().czxid;
    let (session, hello) = (provider.session, provider.again(0));
    drop(provider);
    let mut provider = Client::connect(doors[0], hello).await.unwrap();
    assert_eq!(provider.session, session);
    assert!(provider.ask(exists(&path, false)).await.is_ok());
    let tree = node.local();
    assert_eq!((tree.get(&path).unwrap().stat().czxid, tree.suspect_count()), (created, 0));
}
