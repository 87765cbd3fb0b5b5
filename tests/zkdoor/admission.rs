//! Who may register what, through this door; and the audit, which is the same through whichever door a switch came.

use roost::jute::{Create, Ops, Request, Response, SetWatches, WriteOp};
use roost::node::AuditLine;
use roost::types::{Code, Data};

use crate::client::{
    Client, add_watch, children, cluster, create, delete, everyone, exists, get, set,
};
use crate::harness::Cluster;

/// Only from the address of the client, which is that of this machine.
const POLICY: &str = r#"{"set_by":"a test","reason":"no strangers","pattern":"/dubbo/*/providers/*",
    "allow":[{"id":"hall","who":["anyone"],"host":["peer"]}]}"#;
const NO_AUTH: i32 = -102;

fn made(path: &str, data: &str, flags: i32) -> WriteOp {
    let (path, data) = (path.to_owned(), Some(Data::new(data.as_bytes())));
    WriteOp::Create(Create { path, data, acl: everyone(), flags })
}

fn provider(host: &str) -> String {
    format!("/dubbo/Demo/providers/dubbo%3A%2F%2F{host}%3A20880%2FDemo")
}

fn audit(cluster: &Cluster, id: u64, of: impl Fn(&AuditLine) -> bool) -> Vec<AuditLine> {
    let lines = cluster.node(id).audit_after(0, usize::MAX);
    let of_one = |line: &AuditLine| AuditLine { seq: 0, ..line.clone() };
    lines.iter().map(|line| of_one(line)).filter(|line| of(line)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_with_an_address_that_is_not_allowed_is_not_registered() {
    let (cluster, doors) = cluster(1).await;
    let mut client = Client::new(doors[0]).await;
    for path in ["/roost", "/roost/policies", "/roost/policies/admission"] {
        client.ask(create(path, 0)).await.unwrap();
    }
    for path in ["/dubbo", "/dubbo/Demo", "/dubbo/Demo/providers"] {
        client.ask(create(path, 0)).await.unwrap();
    }
    let policy = made("/roost/policies/admission/dubbo", POLICY, 0);
    client.ask(Request::Write(policy)).await.unwrap();

    let good = Request::Write(made(&provider("127.0.0.1"), "", 1));
    let bad = || made(&provider("10.9.9.9"), "", 1);
    client.ask(good).await.unwrap();
    assert_eq!(client.ask(Request::Write(bad())).await, Err(NO_AUTH));
    let inside = Ops(vec![made("/dubbo/other", "", 0), bad()]);
    let refused = Response::failed_multi(2, 1, Code::NoAuth);
    assert_eq!(client.ask(Request::Multi(inside)).await, Ok(refused));
    let listed = client.ask(children("/dubbo/Demo/providers", false)).await;
    let only = provider("127.0.0.1").rsplit('/').next().unwrap().to_owned();
    assert_eq!(listed, Ok(Response::Names(vec![only])));
    assert!(cluster.node(1).local().get("/dubbo/other").is_none(), "a multi is all or nothing");

    let denied = audit(&cluster, 1, |line| line.result == "denied");
    assert_eq!(denied.len(), 2, "{denied:?}");
    for line in denied {
        assert_eq!((line.rule.as_deref(), line.path), (Some("dubbo"), provider("10.9.9.9")));
        assert!(line.why.unwrap().contains("hall") && line.session.is_some());
    }
}

/// Only to the shop, which is not where this client is.
const READERS: &str = r#"{"set_by":"a test","reason":"only the shop","pattern":"/dubbo/*/providers/*",
    "allow":[{"what":"subscribe","who":["10.0.0.0/8"]}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_follow_a_list_has_no_watch_on_it_in_whichever_way_it_asks() {
    let (cluster, doors) = cluster(1).await;
    let mut client = Client::new(doors[0]).await;
    for path in ["/roost", "/roost/policies", "/roost/policies/admission"] {
        client.ask(create(path, 0)).await.unwrap();
    }
    let list = "/dubbo/Demo/providers";
    for path in ["/dubbo", "/dubbo/Demo", list] {
        client.ask(create(path, 0)).await.unwrap();
    }
    let policy = "/roost/policies/admission/readers";
    client.ask(Request::Write(made(policy, READERS, 0))).await.unwrap();
    let entry = provider("127.0.0.1");
    client.ask(Request::Write(made(&entry, "", 1))).await.unwrap();

    let ways = || {
        let single = [children(list, true), get(&entry, true), exists(&entry, true)];
        let lasting = [add_watch(list, 0), add_watch(&entry, 0), add_watch("/dubbo", 1)];
        single.into_iter().chain(lasting)
    };
    for way in ways() {
        assert_eq!(client.ask(way.clone()).await, Err(NO_AUTH), "{way:?}");
    }
    // Whoever says that it watched it before is not let in by that, and keeps what it may watch.
    let again = SetWatches {
        relative_zxid: i64::MAX,
        data: vec![entry.clone()],
        exist: vec![],
        child: vec![list.to_owned(), "/dubbo".to_owned()],
    };
    client.ask(Request::SetWatches(again)).await.unwrap();
    assert_eq!(cluster.node(1).watch_counts(), (1, 1, 1));
    assert!(client.ask(children(list, false)).await.is_ok(), "to look once is not to follow");
    client.ask(delete(&entry)).await.unwrap();
    assert_eq!(client.events, []);
    let of = |result: &'static str| {
        audit(&cluster, 1, |line| line.op == "subscribe" && line.result == result)
    };
    let denied = of("denied");
    assert_eq!(denied.len(), ways().count() + 2, "{denied:?}");
    assert!(denied.iter().all(|line| line.rule.as_deref() == Some("readers")), "{denied:?}");

    let observing = READERS.replacen('{', r#"{"mode":"observe","#, 1);
    client.ask(set(policy, &observing)).await.unwrap();
    client.ask(Request::Write(made(&entry, "", 1))).await.unwrap();
    for way in ways() {
        assert!(client.ask(way.clone()).await.is_ok(), "{way:?}");
    }
    client.ask(delete(&entry)).await.unwrap();
    assert!(client.events.iter().any(|(.., path)| path == list), "{:?}", client.events);
    assert_eq!(of("observed").len(), ways().count());
}

#[tokio::test(flavor = "multi_thread")]
async fn switches_through_either_door_are_in_the_audit_of_every_node_with_one_zxid() {
    let (cluster, doors) = cluster(3).await;
    let served = cluster
        .on(2, |node| async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (annex, closing) = (std::sync::Arc::new(roost::http::NoAnnex), Default::default());
            tokio::spawn(roost::http::serve(listener, node, annex, closing));
            address
        })
        .await;
    let http = roost::client::Client::new(vec![format!("http://{served}")]).unwrap();
    let policy: serde_json::Value = serde_json::from_str(POLICY).unwrap();
    let done = http.set_policy("admission", "over-http", &policy).await.unwrap();
    let mut client = Client::new(doors[0]).await;
    client.ask(Request::Write(made("/roost/policies/admission/over-zk", POLICY, 0))).await.unwrap();
    let zxid = cluster.settled().await;

    let all = [1, 2, 3].map(|id| audit(&cluster, id, |line| line.op != "restore"));
    assert!(all[0] == all[1] && all[1] == all[2], "{zxid:?}: {all:?}");
    let about = |name: &str| {
        let path = format!("/roost/policies/admission/{name}");
        all[0].iter().find(|line| line.path == path).unwrap_or_else(|| panic!("{all:?}")).clone()
    };
    let (over_http, over_zk) = (about("over-http"), about("over-zk"));
    assert_eq!((over_http.zxid, over_http.node), (done.zxid, 2));
    assert_eq!((over_zk.node, over_zk.session.clone()), (1, Some(client.session.to_string())));
    for line in [over_http, over_zk] {
        assert_eq!(line.who, ["ip:127.0.0.1"]);
        assert_eq!(
            (line.set_by.as_deref(), line.reason.as_deref()),
            (Some("a test"), Some("no strangers"))
        );
    }
}
