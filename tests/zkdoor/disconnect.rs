//! What it means that a client ends its connection: nothing, unless a policy says otherwise.

use roost::jute::Request;

use crate::client::{Client, cluster, create, fresh, set};
use crate::harness::until;

const POLICY: &str = r#"{"set_by":"a test","reason":"providers that die shall go at once","pattern":"/quick/**","grace_ms":200}"#;
/// Long against the grace and short against the patience of a test.
const TIMEOUT_MS: i32 = 4_000;

fn policy(data: &str) -> Request {
    let Request::Write(roost::jute::WriteOp::Create(mut made)) =
        create("/roost/policies/disconnect/quick", 0)
    else {
        unreachable!("it creates")
    };
    made.data = Some(roost::types::Data::new(data.as_bytes()));
    Request::Write(roost::jute::WriteOp::Create(made))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_client_has_left_ends_after_its_grace_where_a_policy_says_so() {
    let (cluster, doors) = cluster(3).await;
    let mut admin = Client::connect(doors[0], fresh(60_000)).await.unwrap();
    for path in ["/roost", "/roost/policies", "/roost/policies/disconnect", "/quick", "/slow"] {
        admin.ask(create(path, 0)).await.unwrap();
    }
    admin.ask(policy(POLICY)).await.unwrap();
    assert!(admin.ask(set("/roost/policies/disconnect/quick", "{}")).await.is_err(), "no policy");
    cluster.settled().await;
    // A node that stood still for a second does not count what its clients do for a while: then it is tried again.
    for round in 0.. {
        assert!(round < 15, "the node never was well for as long as a session's timeout");
        let connect = async |door: usize, path: &str| {
            let mut client = Client::connect(doors[door], fresh(TIMEOUT_MS)).await.unwrap();
            client.ask(create(&format!("{path}-{round}-{door}"), 1)).await.unwrap();
            client
        };
        let mut slow = connect(0, "/slow/one").await;
        let mut quick = Vec::new();
        for door in 0..3 {
            quick.push(connect(door, "/quick/one").await);
        }
        // One comes back through another node before its grace is over, and one stays.
        let back = connect(1, "/quick/back").await;
        let sessions: Vec<_> = quick.iter().map(|client| client.session).collect();
        let lasting = slow.session;
        let again = back.again(0);
        drop(quick);
        drop(back);
        let mut back = Client::connect(doors[2], again).await.unwrap();
        until("they have all ended", || {
            let tree = cluster.node(1).local();
            sessions.iter().all(|session| tree.session(*session).is_none()).then_some(())
        })
        .await;
        // It was dropped by nobody and is silent: had the others had their timeout, it would have ended before them.
        let is_early = cluster.node(1).local().session(lasting).is_some();
        if is_early {
            back.ask(set("/quick", "the one that came back lives")).await.unwrap();
            slow.ask(set("/slow", "and the one that stayed")).await.unwrap();
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_that_observes_would_shorten_is_noted_and_not_shortened() {
    let (cluster, doors) = cluster(1).await;
    let mut admin = Client::connect(doors[0], fresh(60_000)).await.unwrap();
    for path in ["/roost", "/roost/policies", "/roost/policies/disconnect", "/quick"] {
        admin.ask(create(path, 0)).await.unwrap();
    }
    admin.ask(policy(&POLICY.replacen('{', r#"{"mode":"observe","#, 1))).await.unwrap();
    let noted = || {
        let lines = cluster.node(1).audit_after(0, usize::MAX);
        lines.iter().find(|line| line.op == "disconnect").cloned()
    };
    // Until the node has been well for as long as the session's timeout.
    let (mut sessions, mut at) = (Vec::new(), 0);
    let line = loop {
        let mut client = Client::connect(doors[0], fresh(1_000)).await.unwrap();
        client.ask(create(&format!("/quick/{at}"), 1)).await.unwrap();
        sessions.push(client.session.to_string());
        let grace_ms = roost::node::grace_ms(&cluster.node(1).local(), client.session);
        assert_eq!(grace_ms, None);
        drop(client);
        // It does something else, so that the end of the connection is seen meanwhile.
        admin.ask(set("/quick", "x")).await.unwrap();
        if let Some(line) = noted() {
            break line;
        }
        at += 1;
    };
    assert_eq!((line.result, line.rule.as_deref()), ("observed", Some("quick")));
    assert!(sessions.contains(&line.session.clone().unwrap()) && line.path.starts_with("/quick/"));
    assert!(line.why.as_ref().unwrap().contains("200 ms"), "{line:?}");
}
