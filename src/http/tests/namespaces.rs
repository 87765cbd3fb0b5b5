//! Namespaces through this door: by no operation that there is does whoever is not let into one learn what is in it, or how
//! much. The operations are those of the document, so that a new one fails here until it is thought of.

use std::collections::BTreeSet;

use axum::body::to_bytes;
use serde_json::{Value, json};

use super::health::found_at;
use super::protection::{silent, suspects};
use super::{Bed, event, pass_until};
use crate::types::AclId;

/// Who is let into namespace a, into namespace b, and who operates the registry: `a:a`, `b:b`, `ops:ops`.
const A: (&str, &str) = ("authorization", "Basic YTph");
const B: (&str, &str) = ("authorization", "Basic Yjpi");
const OPS: (&str, &str) = ("authorization", "Basic b3BzOm9wcw==");
/// What nobody outside of namespace b is to hear.
const SECRETS: [&str; 4] = ["hidden-service", "hidden-instance", "hidden-data", "10.66.66.66"];
const SERVICE: &str = "/ns/b/services/hidden-service";
const INSTANCE: &str = "/ns/b/services/hidden-service/providers/hidden-instance";

/// What concerns the cluster and its nodes, and no path of the tree.
const OF_THE_CLUSTER: [&str; 5] = [
    "post /v1/cluster/init",
    "post /v1/cluster/learners",
    "post /v1/cluster/promote",
    "post /v1/cluster/remove",
    "post /v1/cluster/transfer",
];

/// A bed with the namespaces and the sessions of the two who are let into one each.
struct Two {
    bed: Bed,
    a: String,
    b: (String, String),
}

fn provider(id: &str, host: &str, label: &str) -> String {
    json!({"id": id, "host": host, "port": 80, "metadata": {"k": label}}).to_string()
}

/// Two namespaces, each closed by nothing but the list of its own znode, and a closed place for what the registry notes.
async fn two() -> Two {
    let bed = Bed::new().await;
    let own = r#"{"acl":[{"perms":"cdrwa","scheme":"auth","id":""}]}"#;
    for (path, who) in [("roost", OPS), ("ns/a", A), ("ns/b", B)] {
        let made = bed.post(&format!("/v1/znodes/{path}?parents=true"), "").await;
        assert_eq!(made.status, 201, "{path}");
        assert_eq!(bed.send(&format!("PUT /v1/acl/{path}"), &[who], own).await.status, 200);
    }
    let ((_, a), b) = (bed.session().await, bed.session().await);
    let (_, rival) = bed.session().await;
    let as_b = [B, ("roost-session", b.1.as_str())];
    let uri = "/v1/ns/b/services/hidden-service";
    let one = provider("hidden-instance", "10.66.66.66", "hidden-data");
    let (post, rivals) = (format!("POST {uri}/providers"), [B, ("roost-session", rival.as_str())]);
    // Another session has the same address, so that there is a conflict.
    let other = provider("hidden-instance-too", "10.66.66.66", "hidden-data");
    assert_eq!(bed.send(&post, &as_b, one).await.status, 201);
    assert_eq!(bed.send(&post, &rivals, other).await.status, 201);
    let consumer = format!("PUT {uri}/consumers/hidden-instance");
    assert_eq!(bed.send(&consumer, &as_b, "{}").await.status, 201);
    let metadata = "PUT /v1/services/hidden-service/metadata/r1?namespace=b";
    assert_eq!(bed.send(metadata, &as_b, "hidden-data").await.status, 201);
    found_at(&bed, INSTANCE, false).await;
    let drain =
        json!({"deadline_ms": 600_000, "wait": "none", "reason": "hidden-data"}).to_string();
    let drained = bed.send(&format!("{post}/hidden-instance-too/drain"), &as_b, drain).await;
    assert_eq!(drained.status, 200, "{}", drained.json());
    let as_a = [A, ("roost-session", a.as_str())];
    let made = provider("instance", "10.0.0.1", "data");
    assert_eq!(bed.send("POST /v1/ns/a/services/web/providers", &as_a, made).await.status, 201);
    Two { bed, a, b }
}

impl Two {
    /// Asks as somebody, and returns the status, and the body or the first event of a stream as text.
    async fn ask(&self, who: (&str, &str), token: &str, what: &str, body: &str) -> (u16, String) {
        let headers = [who, ("roost-session", token)];
        let response = self.bed.raw(what, &headers, body.to_owned()).await;
        let status = response.status().as_u16();
        let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap());
        if kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
            let mut stream = response.into_body().into_data_stream();
            let (kind, _, data) = event(&mut stream, &mut String::new()).await;
            return (status, format!("{kind} {data}"));
        }
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

/// Every operation, asked about namespace b, with the status for who is not let in: the operation, the rest of the URI behind
/// `/v1` or all of it, the body.
fn asked(session: &str) -> Vec<(&'static str, String, String, u16)> {
    let mut rows = Vec::new();
    let mut row = |operation, uri: &str, body: &str, status| {
        rows.push((operation, uri.to_owned(), body.to_owned(), status));
    };
    let (svc, at) = ("/v1/services/hidden-service", "/v1/ns/b/services/hidden-service");
    let list = format!("{SERVICE}/providers");

    let znode = format!("/v1/znodes{INSTANCE}");
    row("get /v1/znodes/{path}", &znode, "", 403);
    row("head /v1/znodes/{path}", &znode, "", 403);
    row("post /v1/znodes/{path}", &format!("/v1/znodes{list}/x"), "", 403);
    row("post /v1/znodes/{path}", "/v1/znodes/ns/b/x/y?parents=true", "", 403);
    row("put /v1/znodes/{path}", &znode, "x", 403);
    row("delete /v1/znodes/{path}", &znode, "", 403);
    for closed in ["/ns/b", &list, "/roost", "/roost/health", "/roost/drains", "/roost/effects"] {
        row("get /v1/children/{path}", &format!("/v1/children{closed}"), "", 403);
    }
    row("get /v1/children/{path}", "/v1/children/ns?values=true&stats=true", "", 200);
    let acl = r#"{"acl":[{"perms":"cdrwa","scheme":"world","id":"anyone"}]}"#;
    for path in ["/ns/b", INSTANCE] {
        row("get /v1/acl/{path}", &format!("/v1/acl{path}"), "", 403);
        row("put /v1/acl/{path}", &format!("/v1/acl{path}"), acl, 403);
    }
    let check = json!({"ops": [{"op": "check", "path": INSTANCE}]}).to_string();
    row("post /v1/multi", "/v1/multi", &check, 403);
    for (kind, of, status) in
        [("children_data", &*list, 403), ("subtree", "/ns/b", 403), ("subtree", "/", 200)]
    {
        row("get /v1/watch", &format!("/v1/watch?watch={kind}:{of}"), "", status);
        row("get /v1/poll", &format!("/v1/poll?watch={kind}:{of}"), "", status);
        row("get /v1/poll", &format!("/v1/poll?watch={kind}:{of}&since=1"), "", status);
    }

    row("post /v1/sessions", "/v1/sessions", r#"{"timeout_ms":5000}"#, 201);
    row("get /v1/sessions", "/v1/sessions", "", 200);
    let own = format!("/v1/sessions/{session}");
    row("get /v1/sessions/{session}", &own, "", 200);
    row("put /v1/sessions/{session}", &own, "", 401);
    row("delete /v1/sessions/{session}", &own, "", 401);

    for uri in ["/v1/services?namespace=b", "/v1/services?namespace=b&label=k%3Dhidden-data"] {
        row("get /v1/services", uri, "", 200);
    }
    row("get /v1/services/{name}", &format!("{svc}?namespace=b"), "", 403);
    row("get /v1/services/{name}", &format!("{svc}?namespace=b&since=1"), "", 403);
    row("get /v1/conflicts", "/v1/conflicts?namespace=b", "", 200);
    let (put, get) =
        (format!("{svc}/metadata/r2?namespace=b"), format!("{svc}/metadata/r1?namespace=b"));
    row("put /v1/services/{name}/metadata/{revision}", &put, "x", 403);
    row("get /v1/services/{name}/metadata/{revision}", &get, "", 403);
    row("get /v1/ns/{namespace}/services", "/v1/ns/b/services", "", 200);
    row("get /v1/ns/{namespace}/services/{name}", at, "", 403);
    row("get /v1/services/{name}/subscribers", &format!("{svc}/subscribers?namespace=b"), "", 403);
    let body = json!({"services": [{"name": "hidden-service", "namespace": "b"}]}).to_string();
    row("post /v1/watch", "/v1/watch", &body, 403);
    let body = json!({"services": ["hidden-service"], "namespace": "b"}).to_string();
    row("post /v1/versions", "/v1/versions", &body, 200);
    row("get /v1/sd/prometheus", "/v1/sd/prometheus?service=hidden-service&namespace=b", "", 403);
    row("get /v1/sd/nginx", "/v1/sd/nginx?upstream=hidden-service&namespace=b", "", 403);

    let new = provider("new", "10.0.0.9", "x");
    let post = "post /v1/ns/{namespace}/services/{name}/providers";
    row(post, &format!("{at}/providers"), &new, 403);
    row(post, "/v1/ns/b/services/another/providers", &new, 403);
    let named = json!({"host": "h", "port": 1, "namespace": "b"});
    row("post /v1/services/{name}/providers", &format!("{svc}/providers"), &named.to_string(), 403);
    let mut many = named;
    many["service"] = json!("hidden-service");
    row("post /v1/register", "/v1/register", &json!({ "providers": [many] }).to_string(), 403);
    let one = format!("{at}/providers/hidden-instance");
    let delete = "delete /v1/ns/{namespace}/services/{name}/providers/{id}";
    row(delete, &format!("{one}?force=true"), "", 403);
    let consumer = "put /v1/ns/{namespace}/services/{name}/consumers/{id}";
    row(consumer, &format!("{at}/consumers/c"), "{}", 403);
    let consumer = "delete /v1/ns/{namespace}/services/{name}/consumers/{id}";
    row(consumer, &format!("{at}/consumers/hidden-instance?force=true"), "", 403);
    let subscribe = "get /v1/ns/{namespace}/services/{name}/subscribe";
    row(subscribe, &format!("{at}/subscribe"), "", 403);
    let drain = r#"{"wait":"none","reason":"r"}"#;
    row(
        "post /v1/ns/{namespace}/services/{name}/providers/{id}/drain",
        &format!("{one}/drain"),
        drain,
        403,
    );
    row(
        "get /v1/ns/{namespace}/services/{name}/providers/{id}/drain",
        &format!("{one}-too/drain"),
        "",
        403,
    );
    let body = json!({"instance": INSTANCE, "wait": "none", "reason": "r"}).to_string();
    row("post /v1/drain", "/v1/drain", &body, 403);
    // A trial says no more than the deed would.
    let wishes = [
        json!({"ip": "10.66.66.66"}),
        json!({"selector": {"k": "hidden-data"}, "pattern": "/ns/b/**"}),
        json!({"instance": INSTANCE}),
        json!({"session": session}),
    ];
    for mut wish in wishes {
        for dry_run in [true, false] {
            wish["dry_run"] = json!(dry_run);
            row("post /v1/deregister", "/v1/deregister", &wish.to_string(), 403);
        }
    }
    // Those of the default namespace by the same name.
    let one = format!("{svc}/providers/hidden-instance");
    let delete = "delete /v1/services/{name}/providers/{id}";
    row(delete, &format!("{one}?force=true"), "", 404);
    row("put /v1/services/{name}/consumers/{id}", "/v1/services/own/consumers/c", "{}", 201);
    row("delete /v1/services/{name}/consumers/{id}", "/v1/services/own/consumers/c", "", 200);
    row("post /v1/services/{name}/providers/{id}/drain", &format!("{one}/drain"), drain, 404);
    row("get /v1/services/{name}/providers/{id}/drain", &format!("{one}/drain"), "", 404);
    row("get /v1/services/{name}/subscribe", &format!("{svc}/subscribe"), "", 200);

    for uri in ["/v1/overrides", "/v1/overrides?below=/ns/b"] {
        row("get /v1/overrides", uri, "", 200);
    }
    let policy = json!({"reason": "r", "pattern": "/ns/b/**", "weight": 1});
    let at = "/v1/policies/overrides/mine";
    row("get /v1/policies", "/v1/policies", "", 200);
    row("get /v1/policies/{kind}/{name}", "/v1/policies/overrides/of-b", "", 403);
    row("put /v1/policies/{kind}/{name}", at, &policy.to_string(), 403);
    row("delete /v1/policies/{kind}/{name}", "/v1/policies/overrides/of-b?reason=r", "", 403);
    let removal = json!({"reason": "r", "pattern": "/ns/b/services/*/providers", "max_ratio": 0.5});
    let disconnect =
        json!({"reason": "r", "pattern": "/ns/b/services/*/providers/*", "grace_ms": 500});
    for (kind, policy) in
        [("overrides", &policy), ("removal", &removal), ("disconnect", &disconnect)]
    {
        let body = json!({"kind": kind, "policy": policy}).to_string();
        row("post /v1/policies/test", "/v1/policies/test", &body, 200);
    }
    row("get /v1/audit", "/v1/audit", "", 200);
    row("get /v1/protection", "/v1/protection", "", 200);
    let body = json!({"service": list, "reason": "r"}).to_string();
    row("post /v1/protection/confirm", "/v1/protection/confirm", &body, 200);

    for (operation, uri) in [
        ("get /v1/version", "/v1/version"),
        ("get /v1/version/watch", "/v1/version/watch"),
        ("get /v1/cluster", "/v1/cluster"),
        ("get /v1/digest", "/v1/digest"),
        ("get /healthz", "/healthz"),
        ("get /readyz", "/readyz"),
        ("get /metrics", "/metrics"),
        ("get /commands", "/commands"),
        ("get /commands/{name}", "/commands/dump"),
        ("get /openapi.json", "/openapi.json"),
    ] {
        row(operation, uri, "", 200);
    }
    rows
}

/// Returns what somebody was told that he did not say himself.
fn told(said: &str, answer: &str) -> Vec<&'static str> {
    let is_told = |secret: &&str| answer.contains(*secret) && !said.contains(*secret);
    SECRETS.into_iter().filter(is_told).collect()
}

#[tokio::test]
async fn no_operation_tells_of_a_namespace_that_one_is_not_let_into() {
    let two = two().await;
    let (session, b) = &two.b;
    let override_of_b =
        json!({"reason": "hidden-data", "pattern": "/ns/b/**", "ip": "10.66.66.66", "weight": 1});
    let set = "PUT /v1/policies/overrides/of-b";
    let set = two.bed.send(set, &[OPS], override_of_b.to_string()).await;
    assert_eq!(set.status, 200, "{}", set.json());
    let is_done =
        || two.bed.node.local().get("/roost/effects").is_some_and(|all| all.num_children() > 0);
    pass_until(&two.bed.node, "the override has its effect", is_done).await;

    let document = two.bed.get("/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(template, item)| {
        let methods = item.as_object().unwrap().keys();
        methods.map(move |method| format!("{method} {template}"))
    });
    let rows = asked(session);
    let thought_of = rows.iter().map(|(operation, ..)| *operation).chain(OF_THE_CLUSTER);
    let thought_of: BTreeSet<String> = thought_of.map(str::to_owned).collect();
    assert_eq!(
        operations.collect::<BTreeSet<_>>(),
        thought_of,
        "each has a row, and each row is one"
    );
    for (operation, uri, body, status) in rows {
        let method = operation.split(' ').next().unwrap().to_uppercase();
        let (got, answer) = two.ask(A, &two.a, &format!("{method} {uri}"), &body).await;
        assert_eq!(got, status, "{operation}: {uri} {body}: {answer}");
        let said = format!("{uri} {body}");
        assert_eq!(told(&said, &answer), [""; 0], "{operation}: {uri} {body}: {answer}");
    }

    let numbers = async |who, token: &str| {
        let list = two.ask(who, token, "GET /v1/ns/b/services", "").await.1;
        let services: Value = serde_json::from_str(&list).unwrap();
        let children = two.ask(who, token, "GET /v1/children/ns?stats=true", "").await.1;
        let children: Value = serde_json::from_str(&children).unwrap();
        let below = children["children"][1]["stat"]["num_children"].clone();
        (services["services"].as_array().unwrap().len(), below)
    };
    assert_eq!(numbers(A, &two.a).await, (0, Value::Null));
    assert_eq!(numbers(B, b).await, (1, json!(1)));
    // There was something to be told.
    for uri in [
        "/v1/ns/b/services".to_owned(),
        "/v1/ns/b/services/hidden-service".to_owned(),
        "/v1/conflicts?namespace=b".to_owned(),
        "/v1/sd/prometheus?service=hidden-service&namespace=b".to_owned(),
        "/v1/overrides".to_owned(),
        "/v1/poll?watch=subtree:/".to_owned(),
        format!("/v1/sessions/{session}"),
    ] {
        let (status, answer) = two.ask(B, b, &format!("GET {uri}"), "").await;
        assert_eq!(status, 200, "{uri}: {answer}");
        assert_ne!(told(&uri, &answer), [""; 0], "{uri}: {answer}");
    }
}

#[tokio::test]
async fn who_watches_all_there_is_hears_nothing_of_a_namespace_that_he_is_not_let_into() {
    let two = two().await;
    let since = two.bed.get("/v1/version").await.json()["zxid"].as_u64().unwrap();
    let (_, b) = &two.b;
    let uri = "/v1/ns/b/services/hidden-service/providers";
    let made = provider("hidden-instance", "10.66.66.66", "hidden-data-2");
    assert_eq!(two.ask(B, b, &format!("POST {uri}"), &made).await.0, 200);
    let new = provider("new", "10.66.66.66", "hidden-data");
    assert_eq!(two.ask(B, b, &format!("POST {uri}"), &new).await.0, 201);
    assert_eq!(two.ask(B, b, "POST /v1/ns/b/services/other/providers", &new).await.0, 201);
    found_at(&two.bed, INSTANCE, true).await;
    assert_eq!(two.ask(B, b, &format!("POST {uri}/new/drain"), r#"{"wait":"none"}"#).await.0, 200);
    let gone =
        json!({"instance": format!("{SERVICE}/providers/new"), "block_ms": 1_000}).to_string();
    let refused = two.ask(B, b, "POST /v1/deregister", &gone).await;
    assert_eq!(
        refused.0, 403,
        "who has a namespace may not leave marks outside of it: {}",
        refused.1
    );
    let by_ops = two.ask(OPS, b, "POST /v1/deregister", &gone).await;
    assert_eq!(by_ops.0, 403, "nor do operators in it: {}", by_ops.1);
    assert_eq!(two.ask(B, b, &format!("DELETE {uri}/hidden-instance"), "").await.0, 200);

    for kind in ["subtree:/", "subtree:/ns", "children:/ns"] {
        let poll = format!("GET /v1/poll?watch={kind}&since={since}");
        let (status, answer) = two.ask(A, &two.a, &poll, "").await;
        assert_eq!((status, told("", &answer)), (200, vec![]), "{answer}");
        let heard: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(heard["changes"], json!([]), "{kind}: nor that something happened at all");
        let seen = two.ask(B, b, &poll, "").await.1;
        assert!(kind == "children:/ns" || !told("", &seen).is_empty(), "{kind}: {seen}");
    }
}

#[tokio::test]
async fn who_may_not_read_a_service_does_not_learn_which_of_its_sessions_are_held() {
    let bed = silent(5).await;
    suspects(&bed, 4).await;
    let shown = async |headers: &[(&str, &str)]| {
        let told = bed.send("GET /v1/protection", headers, "").await.json();
        let services = told["suspects"].as_array().unwrap().iter();
        let services: usize = services.map(|it| it["services"].as_array().unwrap().len()).sum();
        (
            told["suspects"].as_array().unwrap().len(),
            services,
            told["services"].as_array().unwrap().len(),
        )
    };
    assert_eq!(shown(&[]).await, (4, 4, 1));
    let own = r#"{"acl":[{"perms":"cdrwa","scheme":"auth","id":""}]}"#;
    bed.send("PUT /v1/acl/services/web/providers", &[B], own).await;
    assert_eq!(shown(&[A]).await, (4, 0, 0));
    assert_eq!(shown(&[B]).await, (4, 4, 1));
}

#[tokio::test]
async fn a_namespace_that_has_used_up_its_quota_refuses_registrations_and_leaves_the_others_theirs()
{
    let two = two().await;
    let used = two.bed.node.local().found_count("/ns/b", &[super_one()]) + 1;
    let limits = format!("count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit={}", used + 1);
    two.bed.post("/v1/znodes/zookeeper/quota/ns/b/zookeeper_limits?parents=true", limits).await;
    let (_, b) = &two.b;
    let register = async |who, token: &str, name: &str, id: &str| {
        let headers = [who, ("roost-session", token)];
        let uri = format!("POST /v1/ns/{name}/services/hidden-service/providers");
        two.bed.send(&uri, &headers, provider(id, "10.0.0.2", "x")).await
    };
    assert_eq!(register(B, b, "b", "sixth").await.status, 201);
    let refused = register(B, b, "b", "seventh").await;
    assert_eq!(refused.error(), (429, "quota_exceeded".to_owned()));
    assert_eq!(refused.json()["zk_code"], -125);
    assert!(refused.header("retry-after").is_some(), "{}", refused.json());
    for id in 0..10 {
        assert_eq!(register(A, &two.a, "a", &id.to_string()).await.status, 201);
    }
    let gone = "DELETE /v1/ns/b/services/hidden-service/providers/sixth";
    assert_eq!(two.ask(B, b, gone, "").await.0, 200);
    assert_eq!(register(B, b, "b", "seventh").await.status, 201);
}

fn super_one() -> AclId {
    AclId { scheme: "super".to_owned(), id: String::new() }
}
