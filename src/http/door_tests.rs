//! The door as a client meets it: requests in, answers out, over a cluster of one node in memory.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use futures::{FutureExt, StreamExt};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::extract::Peer;
use super::{Door, router};
use crate::limits::{DATA_BYTES_MAX, HTTP_REQUESTS_MAX, MAILBOX_MESSAGES_MAX};
use crate::node::Node;
use crate::types::{CreateMode, Data, Op, SessionId, ZnodePath};

/// A door and the node behind it.
struct Bed {
    node: Node,
    door: Door,
    stop: CancellationToken,
    router: Router,
}

/// What came back.
struct Got {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|why| panic!("{why}: {:?}", self.body.escape_ascii().to_string()))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Returns the status and the code of an error.
    fn error(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().unwrap_or_default().to_owned())
    }
}

impl Bed {
    async fn new() -> Bed {
        Bed::over(Node::in_memory().await)
    }

    fn over(node: Node) -> Bed {
        let stop = CancellationToken::new();
        let door = Door::new(node.clone(), stop.clone());
        Bed { router: router(door.clone()), node, door, stop }
    }

    /// Sends a request, `"GET /v1/… "` with headers, from 127.0.0.1.
    async fn raw(
        &self,
        what: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> axum::response::Response {
        let (method, uri) = what.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(body.into()).unwrap();
        request.extensions_mut().insert(Peer("127.0.0.1".into()));
        TowerToHyperService::new(self.router.clone()).call(request).await.unwrap()
    }

    async fn send(&self, what: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Got {
        let response = self.raw(what, headers, body).await;
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Got { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn get(&self, uri: &str) -> Got {
        self.send(&format!("GET {uri}"), &[], "").await
    }

    async fn post(&self, uri: &str, body: impl Into<Body>) -> Got {
        self.send(&format!("POST {uri}"), &[], body).await
    }

    async fn session(&self) -> (String, String) {
        let got = self.post("/v1/sessions", r#"{"timeout_ms":5000}"#).await;
        assert_eq!(got.status, 201);
        let text = |name: &str| got.json()[name].as_str().unwrap().to_owned();
        (text("session"), text("token"))
    }
}

#[tokio::test]
async fn a_znode_is_created_read_changed_and_deleted() {
    let bed = Bed::new().await;
    let created = bed.post("/v1/znodes/a", "one").await;
    assert_eq!((created.status, &created.json()["path"]), (201, &json!("/a")));
    assert_eq!(created.header("roost-node"), Some("1"));
    assert_eq!(created.header("roost-zxid"), Some(created.json()["zxid"].to_string().as_str()));

    let read = bed.get("/v1/znodes/a").await;
    assert_eq!((read.status, read.header("etag")), (200, Some("\"0\"")));
    let body = read.json();
    assert_eq!((&body["data"], &body["encoding"]), (&json!("one"), &json!("utf8")));
    assert_eq!(body["stat"]["data_length"], 3);
    assert_eq!(body["stat"]["ephemeral_owner"], Value::Null);

    let raw = bed.send("GET /v1/znodes/a", &[("accept", "application/octet-stream")], "").await;
    assert_eq!((raw.body.as_slice(), raw.header("etag")), (&b"one"[..], Some("\"0\"")));
    assert_eq!(bed.get("/v1/znodes/a?raw=true").await.body, b"one");

    let set = bed.send("PUT /v1/znodes/a", &[("if-match", "\"0\"")], vec![0xff]).await;
    assert_eq!((set.status, &set.json()["stat"]["version"]), (200, &json!(1)));
    assert_eq!(bed.get("/v1/znodes/a").await.json()["data"], "/w==");
    let stale = bed.send("PUT /v1/znodes/a", &[("if-match", "\"0\"")], "x").await;
    assert_eq!(stale.error(), (412, "bad_version".to_owned()));
    assert_eq!(stale.json()["zk_code"], -103);

    let head = bed.send("HEAD /v1/znodes/a", &[], "").await;
    assert_eq!((head.status, head.header("etag"), head.body.len()), (200, Some("\"1\""), 0));
    assert_eq!(bed.send("DELETE /v1/znodes/a", &[], "").await.status, 200);
    assert_eq!(bed.get("/v1/znodes/a").await.error(), (404, "no_node".to_owned()));
    assert_eq!(bed.send("HEAD /v1/znodes/a", &[], "").await.status, 404);
}

#[tokio::test]
async fn the_root_is_a_znode_like_others() {
    let bed = Bed::new().await;
    assert_eq!(bed.get("/v1/znodes/").await.json()["path"], "/");
    assert_eq!(bed.get("/v1/children/").await.json()["children"][0]["name"], "zookeeper");
    assert_eq!(bed.get("/v1/acl/").await.json()["acl"][0]["scheme"], "world");
    assert_eq!(bed.post("/v1/znodes/", "").await.error(), (409, "node_exists".to_owned()));
    assert_eq!(
        bed.send("DELETE /v1/znodes/", &[], "").await.error(),
        (400, "bad_arguments".to_owned())
    );
}

#[tokio::test]
async fn what_a_url_cannot_mean_is_refused_as_json() {
    let bed = Bed::new().await;
    for (what, expected) in [
        ("GET /nowhere", (404, "not_found")),
        ("GET /v1/znodes", (404, "not_found")),
        ("PATCH /v1/znodes/a", (405, "method_not_allowed")),
        ("DELETE /v1/multi", (405, "method_not_allowed")),
        ("GET /v1/znodes/a?rw=true", (400, "bad_request")),
        ("GET /v1/znodes/a?consistency=eventual", (400, "bad_request")),
        ("PUT /v1/znodes/a?version=1", (400, "bad_request")),
        ("GET /v1/znodes/a/../b", (400, "bad_arguments")),
        ("GET /v1/children/?limit=0", (400, "bad_arguments")),
        ("GET /v1/sessions/7", (400, "bad_arguments")),
        ("GET /v1/services/a%2Fb", (400, "bad_arguments")),
        ("GET /v1/services/%FF", (400, "bad_arguments")),
        ("POST /v1/sessions", (400, "bad_request")),
    ] {
        let got = bed.send(what, &[], "").await;
        assert_eq!(got.error(), (expected.0, expected.1.to_owned()), "{what}");
        assert!(got.header("roost-node").is_some() && got.header("roost-zxid").is_some(), "{what}");
    }
    let allow = bed.send("PATCH /v1/multi", &[], "").await;
    assert_eq!(allow.header("allow"), Some("POST"));
    let large = bed.post("/v1/znodes/a", vec![b'x'; DATA_BYTES_MAX + 1]).await;
    assert_eq!(large.error(), (413, "too_large".to_owned()));
}

#[tokio::test]
async fn children_come_in_pages_sorted_by_name() {
    let bed = Bed::new().await;
    for path in ["/v1/znodes/p", "/v1/znodes/p/c", "/v1/znodes/p/a", "/v1/znodes/p/b"] {
        assert_eq!(bed.post(path, "v").await.status, 201);
    }
    let first = bed.get("/v1/children/p?limit=2").await.json();
    assert_eq!(first["children"], json!([{"name": "a"}, {"name": "b"}]));
    assert_eq!((&first["next"], &first["stat"]["num_children"]), (&json!("b"), &json!(3)));
    let second = bed.get("/v1/children/p?limit=2&after=b&values=true&stats=true").await.json();
    assert_eq!(second["children"][0]["data"], "v");
    assert_eq!(second["children"][0]["stat"]["version"], 0);
    assert_eq!(second["next"], Value::Null);
}

#[tokio::test]
async fn missing_parents_are_created_also_when_a_rival_creates_them_first() {
    let bed = Bed::new().await;
    assert_eq!(bed.post("/v1/znodes/a/b/c", "").await.error(), (404, "no_node".to_owned()));
    assert_eq!(bed.post("/v1/znodes/a/b/c?parents=true", "").await.status, 201);
    let rival = |parent: &str, name: &str| Op::Create {
        parent: ZnodePath::parse(parent).unwrap(),
        name: name.to_owned(),
        data: None,
        acl: Vec::new(),
        mode: CreateMode::Persistent,
    };
    bed.node.before_next(SessionId::NONE, rival("/", "x"));
    let key = [("idempotency-key", "k")];
    let got = bed.send("POST /v1/znodes/x/y/z?parents=true", &key, "mine").await;
    assert_eq!(got.status, 201);
    let again = bed.send("POST /v1/znodes/x/y/z?parents=true", &key, "mine").await;
    assert_eq!((again.status, again.json()), (201, got.json()), "a retry gets the first answer");
    let exists = bed.post("/v1/znodes/x/y/z?parents=true", "").await;
    assert_eq!(exists.error(), (409, "node_exists".to_owned()));
    assert_eq!(exists.json()["multi_index"], Value::Null);
}

#[tokio::test]
async fn a_retry_with_the_same_key_does_nothing_twice() {
    let bed = Bed::new().await;
    bed.post("/v1/znodes/q", "").await;
    let key = [("idempotency-key", "once")];
    let first = bed.send("POST /v1/znodes/q/n-?sequential=true", &key, "").await;
    let again = bed.send("POST /v1/znodes/q/n-?sequential=true", &key, "").await;
    assert_eq!(first.json(), again.json());
    assert_eq!(first.json()["path"], "/q/n-0000000000");
    assert_eq!(bed.get("/v1/children/q").await.json()["stat"]["num_children"], 1);
    let other = bed.send("DELETE /v1/znodes/q", &key, "").await;
    assert_eq!(
        other.error(),
        (400, "bad_arguments".to_owned()),
        "the key of another kind of request"
    );
    let key = [("idempotency-key", "session")];
    let open = r#"{"timeout_ms":5000}"#;
    let first = bed.send("POST /v1/sessions", &key, open).await;
    let again = bed.send("POST /v1/sessions", &key, open).await;
    assert_eq!(
        first.json()["token"],
        again.json()["token"],
        "the token works, so it is the first one's"
    );
}

#[tokio::test]
async fn a_multi_does_all_or_nothing_and_names_the_op_that_failed() {
    let bed = Bed::new().await;
    let body = |last: Value| {
        json!({"ops": [{"op": "create", "path": "/m", "data": "x"}, last]}).to_string()
    };
    let failed = bed.post("/v1/multi", body(json!({"op": "check", "path": "/none"}))).await;
    assert_eq!(
        (failed.error(), &failed.json()["multi_index"]),
        ((404, "no_node".to_owned()), &json!(1))
    );
    assert_eq!(bed.get("/v1/znodes/m").await.status, 404);
    let malformed = bed.post("/v1/multi", body(json!({"op": "delete", "path": "none"}))).await;
    assert_eq!(malformed.json()["multi_index"], 1);
    let done =
        bed.post("/v1/multi", body(json!({"op": "delete", "path": "/m", "version": 0}))).await;
    assert_eq!(done.status, 200);
    assert_eq!(
        (&done.json()["results"][0]["path"], &done.json()["results"][1]),
        (&json!("/m"), &json!({}))
    );
}

#[tokio::test]
async fn a_session_lives_by_its_token_and_takes_its_ephemerals_with_it() {
    let bed = Bed::new().await;
    let (id, token) = bed.session().await;
    let auth = [("roost-session", token.as_str())];
    let bare = bed.post("/v1/znodes/e?mode=ephemeral", "").await;
    assert_eq!(bare.error(), (400, "bad_arguments".to_owned()));
    assert_eq!(bed.send("POST /v1/znodes/e?mode=ephemeral", &auth, "").await.status, 201);
    assert_eq!(bed.get("/v1/znodes/e").await.json()["stat"]["ephemeral_owner"], id.as_str());
    let shown = bed.get(&format!("/v1/sessions/{id}")).await.json();
    assert_eq!((&shown["timeout_ms"], &shown["ephemerals"]), (&json!(5000), &json!(["/e"])));
    let list = bed.get("/v1/sessions").await.json();
    assert_eq!(list["sessions"], json!([{"session": id, "timeout_ms": 5000, "ephemerals": 1}]));
    assert_eq!(bed.get(&format!("/v1/sessions?after={id}")).await.json()["sessions"], json!([]));

    let renewed = bed.send(&format!("PUT /v1/sessions/{id}"), &auth, "").await;
    assert_eq!((renewed.status, &renewed.json()["timeout_ms"]), (200, &json!(5000)));
    let other = bed.send("PUT /v1/sessions/0x01", &auth, "").await;
    assert_eq!(other.error(), (401, "auth_failed".to_owned()));

    let closed = bed.send(&format!("DELETE /v1/sessions/{id}"), &auth, "").await;
    assert_eq!((closed.status, &closed.json()["removed"]), (200, &json!(1)));
    assert_eq!(bed.get("/v1/znodes/e").await.status, 404);
    let gone = bed.send("GET /v1/znodes/", &auth, "").await;
    assert_eq!(gone.error(), (410, "session_expired".to_owned()));
    assert_eq!(
        bed.get(&format!("/v1/sessions/{id}")).await.error(),
        (410, "session_expired".to_owned())
    );
}

#[tokio::test]
async fn a_wrong_token_is_refused_even_for_a_read() {
    let bed = Bed::new().await;
    let (id, token) = bed.session().await;
    let last = if token.ends_with('0') { "1" } else { "0" };
    let forged = format!("{}{last}", &token[..token.len() - 1]);
    for token in [forged.as_str(), id.as_str(), "x", ""] {
        let got = bed.send("GET /v1/znodes/", &[("roost-session", token)], "").await;
        assert_eq!(got.error(), (401, "auth_failed".to_owned()), "{token:?}");
    }
}

/// Lets time pass without waiting for it. Nothing may be on its way to the disk, which time does not wait for.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::sleep(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_request_with_a_token_keeps_its_session_alive_and_one_with_a_forged_token_does_not() {
    let bed = Bed::new().await;
    let ((mine, token), (other, _)) = (bed.session().await, bed.session().await);
    let is_there = |id: &str| bed.node.local().session(id.parse().unwrap()).is_some();
    let forged = format!("{other}.{}", "0".repeat(32));
    for _ in 0..2 {
        pass(Duration::from_secs(3)).await;
        let auth = [("roost-session", token.as_str())];
        assert_eq!(bed.send("GET /v1/znodes/", &auth, "").await.status, 200);
        let auth = [("roost-session", forged.as_str())];
        let refused = bed.send("GET /v1/znodes/", &auth, "").await.status;
        assert!(refused == 401 || refused == 410, "{refused}");
    }
    while is_there(&other) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(is_there(&mine));
    pass(Duration::from_secs(6)).await;
    while is_there(&mine) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn access_control_holds_for_reads_and_watches() {
    let bed = Bed::new().await;
    bed.post("/v1/znodes/open", "").await;
    bed.post("/v1/znodes/open/shut", "secret").await;
    let rules = json!({"acl": [{"perms": "wa", "scheme": "ip", "id": "127.0.0.1"}]}).to_string();
    let set = bed.send("PUT /v1/acl/open/shut", &[], rules).await;
    assert_eq!((set.status, &set.json()["stat"]["aversion"]), (200, &json!(1)));
    for uri in [
        "/v1/znodes/open/shut",
        "/v1/children/open/shut",
        "/v1/acl/open/shut",
        "/v1/watch?watch=data:/open/shut",
    ] {
        assert_eq!(bed.get(uri).await.error(), (403, "no_auth".to_owned()), "{uri}");
    }
    let children = bed.get("/v1/children/open?values=true").await.json();
    assert_eq!(children["children"], json!([{"name": "shut"}]), "the name but not the data");
    let seen = bed.get("/v1/poll?watch=subtree:/open").await.json();
    assert_eq!(seen["snapshot"]["watches"][0]["znodes"].as_array().unwrap().len(), 1);
    let since = seen["zxid"].as_u64().unwrap();
    assert_eq!(bed.send("PUT /v1/znodes/open/shut", &[], "x").await.status, 200, "the ip rule");
    let after = bed.get(&format!("/v1/poll?watch=subtree:/open&since={since}")).await.json();
    assert_eq!((&after["changes"], &after["zxid"]), (&json!([]), &json!(since + 1)));
}

#[tokio::test]
async fn a_read_says_how_fresh_it_is() {
    let bed = Bed::new().await;
    let stale = bed.get("/v1/znodes/?consistency=stale").await;
    assert!(stale.header("roost-age-ms").unwrap().parse::<u64>().is_ok());
    assert_eq!(bed.get("/v1/znodes/").await.header("roost-age-ms"), None);
    tokio::time::pause();
    let ahead = bed.get("/v1/znodes/?consistency=sequential&min_zxid=9").await;
    assert_eq!(
        (ahead.error(), ahead.header("retry-after")),
        ((503, "timeout".to_owned()), Some("1"))
    );
}

#[tokio::test]
async fn a_provider_registers_again_under_its_own_session_only() {
    let bed = Bed::new().await;
    let ((mine, token), (_, rival)) = (bed.session().await, bed.session().await);
    let (auth, other) = ([("roost-session", token.as_str())], [("roost-session", rival.as_str())]);
    let uri = "POST /v1/services/web/providers";
    let body = json!({"host": "10.0.0.1", "port": 80, "metadata": {"zone": "a"}}).to_string();
    assert_eq!(bed.send(uri, &[], body.clone()).await.error(), (400, "bad_arguments".to_owned()));
    let first = bed.send(uri, &auth, body.clone()).await;
    assert_eq!((first.status, &first.json()["id"]), (201, &json!("10.0.0.1:80")));
    assert_eq!(first.json()["path"], "/services/web/providers/10.0.0.1:80");
    assert_eq!(bed.send(uri, &auth, body.clone()).await.status, 200);
    let held = bed.send(uri, &other, body).await;
    assert_eq!(held.error(), (409, "node_exists".to_owned()));
    assert!(held.json()["message"].as_str().unwrap().contains(&mine), "{}", held.json());

    let consumer = bed.send("PUT /v1/services/web/consumers/c1", &auth, "").await;
    assert_eq!(consumer.status, 201);
    bed.post("/v1/znodes/services/web/providers/odd", "10.0.0.2:80").await;
    let shown = bed.get("/v1/services/web").await.json();
    let provider = &shown["providers"][0];
    assert_eq!((&provider["weight"], &provider["status"]), (&json!(100), &json!("up")));
    assert_eq!((&provider["session"], &provider["version"]), (&json!(mine), &json!(1)));
    assert_eq!(
        (&shown["consumers"][0]["id"], &shown["unparsable"][0]["id"]),
        (&json!("c1"), &json!("odd"))
    );
    let list = bed.get("/v1/services").await.json();
    assert_eq!(list["services"], json!([{"name": "web", "providers": 2, "consumers": 1}]));

    let delete = "DELETE /v1/services/web/providers/10.0.0.1:80";
    assert_eq!(bed.send(delete, &other, "").await.error(), (403, "no_auth".to_owned()));
    assert_eq!(bed.send(delete, &auth, "").await.status, 200);
    assert_eq!(bed.send(delete, &auth, "").await.error(), (404, "no_node".to_owned()));
    let force = "DELETE /v1/services/web/providers/odd?force=true";
    assert_eq!(bed.send(force, &other, "").await.status, 200);
    assert_eq!(bed.get("/v1/services/none").await.error(), (404, "no_node".to_owned()));
}

#[tokio::test]
async fn a_registration_survives_whatever_rivals_do_to_its_parents() {
    let bed = Bed::new().await;
    let (session, token) = bed.session().await;
    let auth = [("roost-session", token.as_str()), ("idempotency-key", "r")];
    let create = |parent: &str, name: &str, mode| Op::Create {
        parent: ZnodePath::parse(parent).unwrap(),
        name: name.to_owned(),
        data: Some(Data::new(b"{}")),
        acl: Vec::new(),
        mode,
    };
    bed.node.before_next(SessionId::NONE, create("/", "services", CreateMode::Persistent));
    let uri = "POST /v1/services/web/providers";
    let body = r#"{"id":"i","host":"h","port":1}"#;
    let first = bed.send(uri, &auth, body).await;
    assert_eq!(first.status, 201);
    let again = bed.send(uri, &auth, body).await;
    assert_eq!((again.status, again.json()), (201, first.json()), "a retry gets the first answer");

    // Between plan and commit the same session's other request deletes what is to be replaced.
    let session: SessionId = session.parse().unwrap();
    let path = ZnodePath::parse("/services/web/providers/i").unwrap();
    bed.node.before_next(session, Op::Delete { path: path.clone(), version: None });
    assert_eq!(bed.send(uri, &auth[..1], body).await.status, 201);
    // Or changes it.
    bed.node.before_next(session, Op::SetData { path, data: None, version: None });
    assert_eq!(bed.send(uri, &auth[..1], body).await.status, 200);
}

#[tokio::test]
async fn many_registrations_are_all_or_nothing() {
    let bed = Bed::new().await;
    let ((_, token), (_, rival)) = (bed.session().await, bed.session().await);
    let (auth, other) = ([("roost-session", token.as_str())], [("roost-session", rival.as_str())]);
    let one =
        |service: &str, id: &str| json!({"service": service, "id": id, "host": "h", "port": 1});
    let all = |list: Vec<Value>| json!({ "providers": list }).to_string();
    let done = bed.send("POST /v1/register", &auth, all(vec![one("a", "1"), one("b", "2")])).await;
    assert_eq!((done.status, &done.json()["providers"][1]["created"]), (200, &json!(true)));
    let clash =
        bed.send("POST /v1/register", &other, all(vec![one("c", "3"), one("b", "2")])).await;
    assert_eq!(
        (clash.error(), &clash.json()["multi_index"]),
        ((409, "node_exists".to_owned()), &json!(1))
    );
    assert_eq!(bed.get("/v1/services/c").await.status, 404);
    let twice = bed.send("POST /v1/register", &auth, all(vec![one("d", "1"), one("d", "1")])).await;
    assert_eq!(twice.error(), (400, "bad_arguments".to_owned()));
    let names = r#"{"providers":[{"service":"a","id":"1"},{"service":"b","id":"2"}]}"#;
    assert_eq!(
        bed.send("POST /v1/deregister", &other, names).await.error(),
        (403, "no_auth".to_owned())
    );
    assert_eq!(bed.send("POST /v1/deregister", &auth, names).await.status, 200);
    let gone = bed.send("POST /v1/deregister", &auth, names).await;
    assert_eq!(
        (gone.error(), &gone.json()["multi_index"]),
        ((404, "no_node".to_owned()), &json!(0))
    );
}

/// Reads a stream up to the end of the next event, passing over the hint about reconnecting.
async fn event(
    stream: &mut axum::body::BodyDataStream,
    buffer: &mut String,
) -> (String, Option<u64>, Value) {
    loop {
        if let Some((text, rest)) = buffer.split_once("\n\n") {
            let field = |name: &str| {
                text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
            };
            let (kind, id, data) = (field("event: "), field("id: "), field("data: "));
            *buffer = rest.to_owned();
            if let (Some(kind), Some(data)) = (kind, data) {
                let id = id.map(|id| id.parse().unwrap());
                return (kind, id, serde_json::from_str(&data).unwrap());
            }
            continue;
        }
        let piece = stream.next().await.expect("the stream goes on").unwrap();
        buffer.push_str(std::str::from_utf8(&piece).unwrap());
    }
}

#[tokio::test]
async fn a_stream_is_a_snapshot_then_changes_then_progress_and_resumes_exactly() {
    let bed = Bed::new().await;
    bed.post("/v1/znodes/w", "").await;
    bed.post("/v1/znodes/w/a", "1").await;
    let response = bed.raw("GET /v1/watch?watch=children_data:/w&watch=data:/none", &[], "").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (mut stream, mut buffer) = (response.into_body().into_data_stream(), String::new());
    let (kind, id, data) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), id), ("snapshot", Some(2)));
    let znodes = &data["watches"][0]["znodes"];
    assert_eq!((&znodes[0]["path"], &znodes[0]["data"]), (&json!("/w/a"), &json!("1")));
    assert_eq!(
        (&data["watches"][0]["exists"], &data["watches"][1]["exists"]),
        (&json!(true), &json!(false))
    );

    bed.send("PUT /v1/znodes/w/a", &[], "2").await;
    bed.post("/v1/znodes/elsewhere", "").await;
    bed.post(
        "/v1/multi",
        r#"{"ops":[{"op":"delete","path":"/w/a"},{"op":"create","path":"/w/b","data":"3"}]}"#,
    )
    .await;
    let (kind, id, data) = event(&mut stream, &mut buffer).await;
    assert_eq!(
        (kind.as_str(), id, &data["changes"][0]["kind"]),
        ("change", Some(3), &json!("changed"))
    );
    assert_eq!(
        (&data["changes"][0]["data"], &data["changes"][0]["stat"]["version"]),
        (&json!("2"), &json!(1))
    );
    let (_, id, both) = event(&mut stream, &mut buffer).await;
    assert_eq!(
        (id, both["changes"].as_array().unwrap().len()),
        (Some(5), 2),
        "one transaction, one event"
    );
    assert_eq!(both["changes"][0], json!({"kind": "deleted", "path": "/w/a"}));
    tokio::time::pause();
    let (kind, id, data) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), id, data), ("progress", Some(5), json!({"zxid": 5})));

    let last = [("last-event-id", "3")];
    let resumed = bed.raw("GET /v1/watch?watch=children_data:/w&since=0", &last, "").await;
    let (mut stream, mut buffer) = (resumed.into_body().into_data_stream(), String::new());
    assert_eq!(event(&mut stream, &mut buffer).await, ("change".to_owned(), Some(5), both));
}

#[tokio::test]
async fn a_watch_of_children_alone_carries_no_data() {
    let bed = Bed::new().await;
    bed.post("/v1/znodes/w", "").await;
    bed.post("/v1/znodes/w/a", "1").await;
    let got = bed.get("/v1/poll?watch=children:/w").await.json();
    let seen = &got["snapshot"]["watches"][0]["znodes"][0];
    assert!(seen.get("data").is_none() && seen["stat"]["data_length"] == 1, "{seen}");
    let with = bed.raw("GET /v1/watch?watch=children_data:/w&since=1", &[], "").await;
    let without = bed.get("/v1/poll?watch=children:/w&since=1").await.json();
    let change = &without["changes"][0]["changes"][0];
    assert!(change.get("data").is_none() && change["stat"]["version"] == 0, "{change}");
    let (mut stream, mut buffer) = (with.into_body().into_data_stream(), String::new());
    let (_, _, data) = event(&mut stream, &mut buffer).await;
    assert_eq!(data["changes"][0]["data"], "1", "both from the one encoding of the change");
}

#[tokio::test]
async fn a_stream_that_lost_changes_says_so_and_begins_again() {
    let bed = Bed::new().await;
    let response = bed.raw("GET /v1/watch?watch=data:/", &[], "").await;
    let (mut stream, mut buffer) = (response.into_body().into_data_stream(), String::new());
    assert_eq!(event(&mut stream, &mut buffer).await.0, "snapshot");
    let puts = (0..=MAILBOX_MESSAGES_MAX).map(|_| bed.send("PUT /v1/znodes/", &[], "x"));
    for put in futures::future::join_all(puts).await {
        assert_eq!(put.status, 200);
    }
    let (kind, id, data) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), id, &data["reason"]), ("reset", None, &json!("skipped")));
    let (kind, id, _) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), id), ("snapshot", Some(1 + MAILBOX_MESSAGES_MAX as u64)));
}

#[tokio::test]
async fn a_stream_from_a_zxid_that_the_cluster_never_reached_begins_again() {
    let bed = Bed::new().await;
    bed.post("/v1/znodes/w", "1").await;
    let response = bed.raw("GET /v1/watch?watch=data:/w&since=2", &[], "").await;
    let (mut stream, mut buffer) = (response.into_body().into_data_stream(), String::new());
    let (kind, id, data) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), id, &data["reason"]), ("reset", None, &json!("not_reached")));
    assert_eq!(event(&mut stream, &mut buffer).await.1, Some(1));
    bed.send("PUT /v1/znodes/w", &[], "2").await;
    let (kind, id, _) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), id), ("change", Some(2)), "and goes on from there");
    let poll = bed.get("/v1/poll?watch=data:/w&since=18446744073709551615").await.json();
    assert_eq!((&poll["reset"], &poll["snapshot"]["zxid"]), (&json!(true), &json!(2)));
    let known = bed.get("/v1/poll?watch=data:/w&since=2").await.json();
    assert_eq!(known["reset"], false, "the latest zxid is not beyond the cluster");
}

#[tokio::test]
async fn streams_and_polls_end_when_the_node_stops() {
    let bed = Bed::new().await;
    let response = bed.raw("GET /v1/watch?watch=subtree:/", &[], "").await;
    let (mut stream, mut buffer) = (response.into_body().into_data_stream(), String::new());
    assert_eq!(event(&mut stream, &mut buffer).await.0, "snapshot");
    assert!(
        stream.next().now_or_never().is_none(),
        "a snapshot is not followed by news of nothing"
    );
    bed.stop.cancel();
    assert!(stream.next().await.is_none());
    let poll = bed.get("/v1/poll?watch=data:/&since=0&wait_ms=60000").await;
    assert_eq!(poll.error(), (503, "stopping".to_owned()));
    assert_eq!(bed.get("/readyz").await.error(), (503, "stopping".to_owned()));
}

#[tokio::test]
async fn a_poll_answers_with_a_change_or_at_the_end_of_its_wait() {
    let bed = Bed::new().await;
    tokio::time::pause();
    let quiet = bed.get("/v1/poll?watch=data:/p&since=0&wait_ms=60000").await.json();
    tokio::time::resume();
    assert_eq!(quiet, json!({"zxid": 0, "reset": false, "changes": []}));
    let waiting = bed.get("/v1/poll?watch=data:/p&since=0&wait_ms=60000");
    let (changed, _) = tokio::join!(waiting, bed.post("/v1/znodes/p", "x"));
    let changed = changed.json();
    assert_eq!(
        (&changed["zxid"], &changed["changes"][0]["changes"][0]["data"]),
        (&json!(1), &json!("x"))
    );
}

#[tokio::test]
async fn a_malformed_watch_is_refused() {
    let bed = Bed::new().await;
    for (query, code) in [
        ("", "bad_arguments"),
        ("watch=/a", "bad_arguments"),
        ("watch=all:/a", "bad_arguments"),
        ("watch=data:a", "bad_arguments"),
        ("watch=data:/a&since=x", "bad_request"),
        ("watch=data:/a&filter=1", "bad_request"),
    ] {
        assert_eq!(
            bed.get(&format!("/v1/watch?{query}")).await.error(),
            (400, code.to_owned()),
            "{query}"
        );
    }
    let long = bed.get("/v1/poll?watch=data:/a&wait_ms=60001").await;
    assert_eq!(long.error(), (400, "bad_arguments".to_owned()));
}

#[tokio::test]
async fn a_large_snapshot_comes_in_pieces_and_whole() {
    let bed = Bed::new().await;
    bed.post("/v1/znodes/big", "").await;
    let data = "x".repeat(1000);
    let create = |n: usize| json!({"op": "create", "path": format!("/big/{n:04}"), "data": data});
    let body = json!({"ops": (0..500).map(create).collect::<Vec<_>>()}).to_string();
    assert_eq!(bed.post("/v1/multi", body).await.status, 200);
    let response = bed.raw("GET /v1/poll?watch=subtree:/big&watch=children:/big", &[], "").await;
    let pieces: Vec<_> =
        response.into_body().into_data_stream().map(Result::unwrap).collect().await;
    assert!(pieces.len() > 5, "{} pieces", pieces.len());
    let whole: Value = serde_json::from_slice(&pieces.concat()).unwrap();
    let count =
        |watch: usize| whole["snapshot"]["watches"][watch]["znodes"].as_array().unwrap().len();
    assert_eq!((count(0), count(1)), (501, 500));
}

#[tokio::test]
async fn a_full_node_refuses_requests_but_not_those_who_look_at_it() {
    let bed = Bed::new().await;
    let places: Vec<_> =
        (0..HTTP_REQUESTS_MAX).map(|_| bed.door.meters().enter(HTTP_REQUESTS_MAX)).collect();
    let busy = bed.get("/v1/znodes/").await;
    assert_eq!((busy.error(), busy.header("retry-after")), ((429, "busy".to_owned()), Some("1")));
    for uri in ["/healthz", "/readyz", "/metrics", "/v1/cluster", "/v1/digest", "/openapi.json"] {
        assert_eq!(bed.get(uri).await.status, 200, "{uri}");
    }
    drop(places);
    assert_eq!(bed.get("/v1/znodes/").await.status, 200);
}

#[tokio::test]
async fn the_cluster_is_shown_and_changed_with_checked_arguments() {
    let bed = Bed::new().await;
    let shown = bed.get("/v1/cluster").await.json();
    let id = shown["cluster_id"].as_str().unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!((&shown["leader"], &shown["members"][0]["role"]), (&json!(1), &json!("voter")));
    let digest = bed.get("/v1/digest").await.json();
    assert_eq!((&digest["digest"], &digest["applied"]), (&shown["digest"], &shown["applied"]));
    let member = |node: u64| json!({"node": node, "peer_addr": "a:1", "http_addr": "a:2"});
    let init =
        |members: Value| bed.post("/v1/cluster/init", json!({ "members": members }).to_string());
    assert_eq!(init(json!([member(1), member(2)])).await.error(), (409, "refused".to_owned()));
    assert_eq!(init(json!([member(2)])).await.error(), (400, "bad_arguments".to_owned()));
    assert_eq!(
        init(json!([member(1), member(1)])).await.error(),
        (400, "bad_arguments".to_owned())
    );
    let nobody = bed.post("/v1/cluster/learners", member(4).to_string()).await;
    assert_eq!(nobody.error(), (409, "refused".to_owned()));
    assert!(nobody.json()["message"].as_str().unwrap().contains("a:1"), "{}", nobody.json());
    let refused = (409, "refused".to_owned());
    assert_eq!(bed.post("/v1/cluster/promote", r#"{"node":4}"#).await.error(), refused);
    assert_eq!(bed.post("/v1/cluster/transfer", r#"{"node":4}"#).await.error(), refused);
    // A mistyped id must not look like success.
    assert_eq!(bed.post("/v1/cluster/remove", r#"{"node":4}"#).await.error(), refused);
    for action in ["promote", "remove", "transfer"] {
        let none = bed.post(&format!("/v1/cluster/{action}"), r#"{"node":0}"#).await;
        assert_eq!(none.error(), (400, "bad_arguments".to_owned()), "{action}");
    }
}

#[tokio::test]
async fn a_node_without_a_cluster_says_so_until_it_is_given_one() {
    let bed = Bed::over(Node::lone().await);
    for what in ["GET /v1/znodes/", "POST /v1/znodes/a"] {
        let got = bed.send(what, &[], "").await;
        assert_eq!(got.error(), (503, "not_initialized".to_owned()), "{what}");
    }
    assert_eq!(bed.get("/readyz").await.error(), (503, "not_ready".to_owned()));
    assert_eq!(bed.get("/v1/cluster").await.json()["cluster_id"], Value::Null);
    let member = json!({"node": 1, "peer_addr": "1:1", "http_addr": "1:2"});
    let init = bed.post("/v1/cluster/init", json!({ "members": [member] }).to_string()).await;
    assert_eq!(init.status, 200);
    assert_eq!(bed.post("/v1/znodes/a", "").await.status, 201, "it waits for the election");
    assert_eq!(bed.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_registration_that_another_session_took_over_is_not_deregistered() {
    let bed = Bed::new().await;
    let ((mine, token), (theirs, _)) = (bed.session().await, bed.session().await);
    let (mine, theirs): (SessionId, SessionId) = (mine.parse().unwrap(), theirs.parse().unwrap());
    let auth = [("roost-session", token.as_str())];
    let path = ZnodePath::parse("/services/web/providers/i").unwrap();
    let body = r#"{"id":"i","host":"h","port":1}"#;
    let many = r#"{"providers":[{"service":"web","id":"i"}]}"#;
    for (what, body_of) in
        [("DELETE /v1/services/web/providers/i", ""), ("POST /v1/deregister", many)]
    {
        bed.send("POST /v1/services/web/providers", &auth, body).await;
        // The session itself gives it up and the other one takes it, while the deregistration is on its way.
        let give_up = Op::Delete { path: path.clone(), version: None };
        bed.node.before_next(mine, give_up);
        bed.node.before_next(
            theirs,
            Op::Create {
                parent: path.parent().unwrap(),
                name: "i".to_owned(),
                data: None,
                acl: Vec::new(),
                mode: CreateMode::Ephemeral,
            },
        );
        let got = bed.send(what, &auth, body_of).await;
        assert_eq!(got.error(), (403, "no_auth".to_owned()), "{what}");
        let owner = bed.node.local().get(path.as_str()).unwrap().ephemeral_owner();
        assert_eq!(owner, Some(theirs));
        let force = "DELETE /v1/services/web/providers/i?force=true";
        assert_eq!(bed.send(force, &[], "").await.status, 200);
    }
}

#[tokio::test]
async fn sessions_come_in_pages() {
    let bed = Bed::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(bed.session().await.0);
    }
    let first = bed.get("/v1/sessions?limit=2").await.json();
    assert_eq!(
        (&first["next"], &first["sessions"][1]["session"]),
        (&json!(ids[1]), &json!(ids[1]))
    );
    let second = bed.get(&format!("/v1/sessions?limit=2&after={}", ids[1])).await.json();
    assert_eq!(second["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&second["next"], &second["sessions"][0]["session"]),
        (&Value::Null, &json!(ids[2]))
    );
}

#[tokio::test]
async fn requests_are_counted_by_route() {
    let bed = Bed::new().await;
    bed.get("/v1/znodes/a/b").await;
    bed.get("/v1/znodes/").await;
    let page = String::from_utf8(bed.get("/metrics").await.body).unwrap();
    for line in [
        r#"roost_http_requests_total{route="/v1/znodes/{path}",method="GET",status="4xx"} 1"#,
        r#"roost_http_requests_total{route="/v1/znodes/{path}",method="GET",status="2xx"} 1"#,
        "roost_zxid 0.0",
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line} is not in\n{page}");
    }
}

#[tokio::test]
async fn the_document_and_the_router_have_the_same_operations() {
    let bed = Bed::new().await;
    let document = bed.get("/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 20, "{}", paths.len());
    for (template, item) in paths {
        let url = template.replace(['{', '}'], "");
        // A method that no operation has: the refusal lists those there are.
        let got = bed.send(&format!("TRACE {url}"), &[], "").await;
        assert_eq!(got.status, 405, "{template}");
        let mut allowed: Vec<_> =
            got.header("allow").unwrap().split(',').map(str::to_ascii_lowercase).collect();
        let mut described: Vec<_> = item.as_object().unwrap().keys().cloned().collect();
        if described.contains(&"get".to_owned()) && !described.contains(&"head".to_owned()) {
            described.push("head".to_owned());
        }
        allowed.sort();
        described.sort();
        assert_eq!(allowed, described, "{template}");
    }
    let page = bed.door.meters().templates();
    assert_eq!(page.len(), paths.len());
    for template in page {
        assert!(paths.contains_key(&template), "{template} is a route without an operation");
    }
}

#[tokio::test]
async fn the_document_is_complete() {
    let bed = Bed::new().await;
    let document = bed.get("/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = std::collections::BTreeSet::new();
    for (template, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = format!("{method} {template}");
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{name}");
            assert!(operation["summary"].is_string(), "{name}");
            let responses = operation["responses"].as_object().unwrap();
            let error = &responses["default"]["content"]["application/json"]["schema"]["$ref"];
            assert_eq!(error, "#/components/schemas/Error", "{name}");
            let ok: Vec<_> = responses.keys().filter(|status| status.starts_with('2')).collect();
            assert!(!ok.is_empty(), "{name}");
            for status in ok {
                assert!(responses[status]["headers"]["Roost-Zxid"].is_object(), "{name}");
                assert!(method == "head" || responses[status]["content"].is_object(), "{name}");
            }
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            for part in template.split('{').skip(1) {
                let part = part.split('}').next().unwrap();
                let declared = parameters.iter().any(|p| p["name"] == part && p["in"] == "path");
                assert!(declared, "{name} does not declare {part}");
            }
            let mut names: Vec<_> =
                parameters.iter().map(|p| (p["in"].to_string(), p["name"].to_string())).collect();
            names.sort();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{name}: {names:?}");
        }
    }
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn collect_references(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "$ref" => into.push(text.clone()),
                    _ => collect_references(value, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, into)),
        _ => {}
    }
}

#[tokio::test]
async fn answers_are_what_the_document_promises() {
    let bed = Bed::new().await;
    let (id, token) = bed.session().await;
    let auth = [("roost-session", token.as_str())];
    bed.post("/v1/znodes/a", "x").await;
    bed.post("/v1/znodes/a/b", vec![0xff]).await;
    let provider = r#"{"host":"h","port":1}"#;
    bed.send("POST /v1/services/web/providers", &auth, provider).await;
    let document = bed.get("/openapi.json").await.json();
    for (what, template) in [
        ("GET /v1/znodes/a", "/v1/znodes/{path}"),
        ("GET /v1/children/a?values=true&stats=true", "/v1/children/{path}"),
        ("GET /v1/acl/a", "/v1/acl/{path}"),
        ("POST /v1/znodes/c", "/v1/znodes/{path}"),
        ("PUT /v1/znodes/c", "/v1/znodes/{path}"),
        ("DELETE /v1/znodes/c", "/v1/znodes/{path}"),
        ("GET /v1/znodes/none", "/v1/znodes/{path}"),
        ("GET /v1/sessions", "/v1/sessions"),
        (&format!("GET /v1/sessions/{id}"), "/v1/sessions/{session}"),
        (&format!("PUT /v1/sessions/{id}"), "/v1/sessions/{session}"),
        ("GET /v1/services", "/v1/services"),
        ("GET /v1/services/web", "/v1/services/{name}"),
        ("GET /v1/poll?watch=subtree:/", "/v1/poll"),
        ("GET /v1/poll?watch=subtree:/&since=0", "/v1/poll"),
        ("GET /v1/cluster", "/v1/cluster"),
        ("GET /v1/digest", "/v1/digest"),
        ("GET /healthz", "/healthz"),
        ("GET /readyz", "/readyz"),
        (&format!("DELETE /v1/sessions/{id}"), "/v1/sessions/{session}"),
    ] {
        let got = bed.send(what, &auth, "").await;
        let method = what.split(' ').next().unwrap().to_ascii_lowercase();
        let responses = &document["paths"][template][&method]["responses"];
        let described = responses.get(got.status.to_string()).unwrap_or(&responses["default"]);
        let schema = &described["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{what} answers {} without a schema", got.status);
        let mut whole = document.clone();
        whole["$ref"] = schema["$ref"].clone();
        let validator = jsonschema::draft202012::new(&whole).unwrap();
        let errors: Vec<_> = validator.iter_errors(&got.json()).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{what}: {errors:?} in {}", got.json());
    }
}
