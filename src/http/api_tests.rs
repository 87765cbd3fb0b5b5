//! The served OpenAPI document against a real node over TCP: whatever it promises is done and answered as it says, and
//! whatever is sent to it otherwise is refused as it says.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::hostile_tests::hostile;
use super::serve;
use crate::node::Node;
use crate::peer::MemoryLinks;

/// Requests of one run of hostile ones; ROOST_API_CASES asks for more.
const HOSTILE_CASES: u64 = 1_500;
/// The statuses that docs/HTTP.md has for requests that are at fault.
const REFUSALS: [u16; 10] = [400, 401, 403, 404, 405, 409, 410, 412, 413, 429];

/// Two nodes, of which the first has an open door and is a cluster of its own.
struct Bed {
    nodes: [Node; 2],
    address: SocketAddr,
    http: Client,
    document: Value,
    stop: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Bed {
    async fn new() -> Bed {
        let links = MemoryLinks::default();
        let nodes = [Node::lone_at(&links, 1).await, Node::lone_at(&links, 2).await];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let annex = std::sync::Arc::new(crate::http::NoAnnex);
        let serving = tokio::spawn(serve(listener, nodes[0].clone(), annex, stop.clone()));
        let http = Client::new();
        let document = http.get(format!("http://{address}/openapi.json")).send().await.unwrap();
        let document = document.json().await.unwrap();
        Bed { nodes, address, http, document, stop, serving }
    }

    async fn send(&self, call: &Call) -> Response {
        let method = call.method.to_uppercase().parse().unwrap();
        let mut request = self.http.request(method, format!("http://{}{}", self.address, call.uri));
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        request.body(call.body.clone()).send().await.unwrap()
    }

    /// Checks an answer against the document. Returns its JSON, null for what is not JSON.
    async fn check(&self, call: &Call, response: Response) -> Value {
        let status = response.status().as_u16();
        for name in ["roost-zxid", "roost-node"] {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            assert!(
                value.is_some_and(|it| it.parse::<u64>().is_ok()),
                "{call:?}: {name} {value:?}"
            );
        }
        let item = &self.document["paths"][call.template];
        let responses = &item[call.method]["responses"];
        let described = match responses.get(status.to_string()) {
            Some(described) => described,
            None => {
                assert!(!(200..300).contains(&status), "{call:?}: {status} is not in the document");
                // Of a method that the URL does not have there is nothing in the document but what holds for all.
                responses
                    .get("default")
                    .unwrap_or(&self.document["paths"]["/healthz"]["get"]["responses"]["default"])
            }
        };
        let kind =
            response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        if call.method == "head" {
            return Value::Null;
        }
        let kind = kind.unwrap_or_else(|| panic!("{call:?}: {status} without a content type"));
        let documented =
            described["content"].as_object().unwrap_or_else(|| panic!("{call:?}: {status}"));
        let found = documented.iter().find(|(name, _)| kind.starts_with(name.as_str()));
        let (name, content) =
            found.unwrap_or_else(|| panic!("{call:?}: {status} {kind} is not in the document"));
        if name == "text/event-stream" {
            return Value::Null;
        }
        let body = response.bytes().await.unwrap();
        if name != "application/json" {
            return Value::Null;
        }
        let body: Value = serde_json::from_slice(&body).unwrap();
        let errors = self.errors(&content["schema"], &body);
        assert!(errors.is_empty(), "{call:?}: {status} {body}: {errors:?}");
        body
    }

    fn errors(&self, schema: &Value, body: &Value) -> Vec<String> {
        let mut whole = self.document.clone();
        for (name, value) in schema.as_object().unwrap() {
            whole[name] = value.clone();
        }
        let validator = jsonschema::draft202012::new(&whole).unwrap();
        validator.iter_errors(body).map(|error| error.to_string()).collect()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap().unwrap();
        for node in self.nodes {
            node.stop().await;
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: &'static str,
    pub(super) template: &'static str,
    pub(super) uri: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// Returns the call `"put /v1/znodes/{path}"` of that URI.
fn call(operation: &'static str, uri: &str, body: impl Into<Vec<u8>>) -> Call {
    let (method, template) = operation.split_once(' ').unwrap();
    Call { method, template, uri: uri.to_owned(), headers: Vec::new(), body: body.into() }
}

impl Call {
    pub(super) fn with(mut self, name: &str, value: &str) -> Call {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// Everything that a new cluster and its first client do: each operation once at least.
fn valid_calls() -> Vec<Call> {
    let member =
        |node: u64| json!({"node": node, "peer_addr": format!("{node}:1"), "http_addr": "h:1"});
    let one = |node: u64| json!({ "node": node }).to_string();
    let provider = |id: &str| json!({"id": id, "host": "h", "port": 1, "metadata": {"a": "b"}});
    let mut many = provider("p2");
    many["service"] = json!("web");
    let multi = json!({"ops": [
        {"op": "create", "path": "/m", "data": "AAEC", "encoding": "base64", "mode": "ttl", "ttl_ms": 100_000},
        {"op": "check", "path": "/m", "version": 0},
        {"op": "set", "path": "/m", "data": null},
        {"op": "delete", "path": "/m", "version": 1},
    ]});
    let acl = json!({"acl": [{"perms": "cdrwa", "scheme": "world", "id": "anyone"}]});
    let policy = json!({"reason": "r", "pattern": "/services/*/providers/*", "grace_ms": 500});
    let test =
        json!({"kind": "disconnect", "policy": policy, "write": {"path": "/a", "data": "x"}});
    vec![
        call(
            "post /v1/cluster/init",
            "/v1/cluster/init",
            json!({"members": [member(1)]}).to_string(),
        ),
        call("post /v1/sessions", "/v1/sessions", r#"{"timeout_ms":60000}"#),
        call("post /v1/znodes/{path}", "/v1/znodes/a", "text").with("idempotency-key", "k"),
        call(
            "post /v1/znodes/{path}",
            "/v1/znodes/a/b/n-?sequential=true&parents=true",
            vec![0xff],
        ),
        call("post /v1/znodes/{path}", "/v1/znodes/e?mode=ephemeral", "x"),
        call("get /v1/znodes/{path}", "/v1/znodes/a", ""),
        call("get /v1/znodes/{path}", "/v1/znodes/a/b?consistency=stale", ""),
        call("get /v1/znodes/{path}", "/v1/znodes/a?raw=true", ""),
        call("head /v1/znodes/{path}", "/v1/znodes/a", ""),
        call("put /v1/znodes/{path}", "/v1/znodes/a", "new").with("if-match", "\"0\""),
        call("get /v1/children/{path}", "/v1/children/?values=true&stats=true&limit=2", ""),
        call("get /v1/acl/{path}", "/v1/acl/a", ""),
        call("put /v1/acl/{path}", "/v1/acl/a", acl.to_string()),
        call("post /v1/multi", "/v1/multi", multi.to_string()),
        call("get /v1/sessions", "/v1/sessions?limit=10", ""),
        call("get /v1/sessions/{session}", "/v1/sessions/SESSION", ""),
        call("put /v1/sessions/{session}", "/v1/sessions/SESSION", ""),
        call("put /v1/sessions/{session}", "/v1/sessions/SESSION?misses=5", ""),
        call(
            "post /v1/services/{name}/providers",
            "/v1/services/web/providers",
            provider("p1").to_string(),
        ),
        call(
            "post /v1/services/{name}/providers",
            "/v1/services/web/providers",
            provider("p1").to_string(),
        ),
        call("put /v1/services/{name}/consumers/{id}", "/v1/services/web/consumers/c", "{}"),
        call("post /v1/register", "/v1/register", json!({"providers": [many]}).to_string()),
        call("post /v1/znodes/{path}", "/v1/znodes/services/web/providers/odd", "?"),
        call("get /v1/services", "/v1/services", ""),
        call("get /v1/services", "/v1/services?prefix=w&layout=roost&label=a%3Db&after=a", ""),
        call("get /v1/services/{name}", "/v1/services/web", ""),
        call("get /v1/services/{name}", "/v1/services/web?since=1", ""),
        call("get /v1/services/{name}", "/v1/services/web?since=99999", ""),
        call("get /v1/version", "/v1/version?consistency=stale", ""),
        call("get /v1/version/watch", "/v1/version/watch", ""),
        call("post /v1/versions", "/v1/versions", r#"{"services":["web","none"]}"#),
        call(
            "post /v1/watch",
            "/v1/watch",
            r#"{"services":[{"name":"web"},{"name":"b","since":1}]}"#,
        ),
        call("get /v1/conflicts", "/v1/conflicts?service=web", ""),
        call(
            "put /v1/services/{name}/metadata/{revision}",
            "/v1/services/web/metadata/r1",
            "what all have in common",
        ),
        call(
            "put /v1/services/{name}/metadata/{revision}",
            "/v1/services/web/metadata/r1",
            "what all have in common",
        ),
        call("get /v1/services/{name}/metadata/{revision}", "/v1/services/web/metadata/r1", ""),
        call(
            "post /v1/ns/{namespace}/services/{name}/providers",
            "/v1/ns/red/services/web/providers",
            provider("p1").to_string(),
        ),
        call(
            "put /v1/ns/{namespace}/services/{name}/consumers/{id}",
            "/v1/ns/red/services/web/consumers/c",
            "{}",
        ),
        call(
            "get /v1/ns/{namespace}/services/{name}/subscribe",
            "/v1/ns/red/services/web/subscribe",
            "",
        ),
        call("get /v1/services/{name}", "/v1/services/web?namespace=red", ""),
        call("get /v1/ns/{namespace}/services", "/v1/ns/red/services", ""),
        call("get /v1/ns/{namespace}/services/{name}", "/v1/ns/red/services/web", ""),
        call(
            "post /v1/ns/{namespace}/services/{name}/providers/{id}/drain",
            "/v1/ns/red/services/web/providers/p1/drain",
            r#"{"deadline_ms":60000,"wait":"none"}"#,
        ),
        call(
            "get /v1/ns/{namespace}/services/{name}/providers/{id}/drain",
            "/v1/ns/red/services/web/providers/p1/drain",
            "",
        ),
        call(
            "delete /v1/ns/{namespace}/services/{name}/providers/{id}",
            "/v1/ns/red/services/web/providers/p1",
            "",
        ),
        call(
            "delete /v1/ns/{namespace}/services/{name}/consumers/{id}",
            "/v1/ns/red/services/web/consumers/c",
            "",
        ),
        call("get /v1/services/{name}/subscribers", "/v1/services/web/subscribers", ""),
        call("get /v1/services/{name}/subscribe", "/v1/services/web/subscribe", ""),
        call(
            "post /v1/services/{name}/providers/{id}/drain",
            "/v1/services/web/providers/p1/drain",
            r#"{"deadline_ms":60000,"wait":"none"}"#,
        ),
        call(
            "get /v1/services/{name}/providers/{id}/drain",
            "/v1/services/web/providers/p1/drain",
            "",
        ),
        call(
            "post /v1/drain",
            "/v1/drain",
            r#"{"instance":"/services/web/providers/p1","wait_ms":1,"reason":"r"}"#,
        ),
        call("delete /v1/services/{name}/providers/{id}", "/v1/services/web/providers/p1", ""),
        call("delete /v1/services/{name}/consumers/{id}", "/v1/services/web/consumers/c", ""),
        call(
            "post /v1/deregister",
            "/v1/deregister",
            r#"{"providers":[{"service":"web","id":"p2"}]}"#,
        ),
        call(
            "post /v1/deregister",
            "/v1/deregister",
            r#"{"ip":"10.0.0.1","services":["web"],"pattern":"/dubbo/**","block_ms":1000,"reason":"r"}"#,
        ),
        call("get /v1/sd/prometheus", "/v1/sd/prometheus?service=web", ""),
        call("get /v1/sd/nginx", "/v1/sd/nginx?upstream=web", ""),
        call("get /v1/overrides", "/v1/overrides?below=/services&limit=5", ""),
        call("get /v1/watch", "/v1/watch?watch=subtree:/", ""),
        call("get /v1/poll", "/v1/poll?watch=subtree:/", ""),
        call("get /v1/poll", "/v1/poll?watch=subtree:/&watch=data:/none&since=0", ""),
        call("get /v1/poll", "/v1/poll?watch=children:/a&since=1", ""),
        call("put /v1/policies/{kind}/{name}", "/v1/policies/disconnect/p", policy.to_string()),
        call("get /v1/protection", "/v1/protection?limit=5", ""),
        call(
            "post /v1/protection/confirm",
            "/v1/protection/confirm",
            r#"{"all":true,"reason":"r"}"#,
        ),
        call("get /v1/policies", "/v1/policies?kind=disconnect", ""),
        call("get /v1/policies/{kind}/{name}", "/v1/policies/disconnect/p", ""),
        call("post /v1/policies/test", "/v1/policies/test", test.to_string()),
        call("delete /v1/policies/{kind}/{name}", "/v1/policies/disconnect/p?reason=r", ""),
        call("get /v1/audit", "/v1/audit?after=1&limit=100", ""),
        call("delete /v1/znodes/{path}", "/v1/znodes/e", ""),
        call("delete /v1/sessions/{session}", "/v1/sessions/SESSION", ""),
        call("post /v1/cluster/learners", "/v1/cluster/learners", member(2).to_string()),
        call("post /v1/cluster/promote", "/v1/cluster/promote", one(2)),
        call("get /v1/cluster", "/v1/cluster", ""),
        call("post /v1/cluster/transfer", "/v1/cluster/transfer", one(2)),
        call("post /v1/cluster/transfer", "/v1/cluster/transfer", one(1)),
        call("post /v1/cluster/remove", "/v1/cluster/remove", one(2)),
        call("get /v1/digest", "/v1/digest", ""),
        call("get /healthz", "/healthz", ""),
        call("get /readyz", "/readyz", ""),
        call("get /metrics", "/metrics", ""),
        call("get /commands", "/commands", ""),
        call("get /commands/{name}", "/commands/srvr", ""),
        call("get /openapi.json", "/openapi.json", ""),
    ]
}

#[tokio::test]
async fn every_operation_of_the_document_works_and_answers_as_it_says() {
    let bed = Bed::new().await;
    let (mut session, mut token) = (String::new(), String::new());
    let mut called = BTreeSet::new();
    for mut call in valid_calls() {
        called.insert((call.template.to_owned(), call.method.to_owned()));
        call.uri = call.uri.replace("SESSION", &session);
        if !token.is_empty() {
            call = call.with("roost-session", &token);
        }
        let response = loop {
            let response = bed.send(&call).await;
            // While leadership moves the document's answer is to come back later.
            if response.status() != 503 {
                break response;
            }
            bed.check(&call, response).await;
        };
        let status = response.status();
        let body = bed.check(&call, response).await;
        assert!(status.is_success(), "{call:?}: {status} {body}");
        if let Some(text) = body["token"].as_str() {
            (token, session) = (text.to_owned(), body["session"].as_str().unwrap().to_owned());
        }
        if call.method == "delete" && call.template == "/v1/sessions/{session}" {
            token.clear();
        }
    }
    let documented: BTreeSet<_> = operations(&bed.document).collect();
    assert_eq!(called, documented);
    bed.stop().await;
}

/// Yields template and method of each operation.
fn operations(document: &Value) -> impl Iterator<Item = (String, String)> {
    let paths = document["paths"].as_object().unwrap();
    paths.iter().flat_map(|(template, item)| {
        item.as_object().unwrap().keys().map(|method| (template.clone(), method.clone()))
    })
}

#[tokio::test]
async fn whatever_is_sent_is_answered_as_documented_and_never_breaks_the_node() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().map_or(default, |text| text.parse().expect(name))
    };
    let (seed, cases) = (number("ROOST_SEED", 1), number("ROOST_API_CASES", HOSTILE_CASES));
    eprintln!("ROOST_SEED={seed} ROOST_API_CASES={cases}");
    let mut rng = StdRng::seed_from_u64(seed);
    let bed = Bed::new().await;
    let calls = valid_calls();
    let mut opened = Value::Null;
    for call in &calls[..3] {
        let response = bed.send(call).await;
        let body = bed.check(call, response).await;
        if body["token"].is_string() {
            opened = body;
        }
    }
    let token = opened["token"].as_str().unwrap();
    let mut refused = 0;
    for case in 0..cases {
        let call = calls.choose(&mut rng).unwrap().clone();
        // Valid changes of the membership would take the node away from under the test.
        let is_change = call.template.starts_with("/v1/cluster/");
        let mut call = hostile(&mut rng, &bed.document, call, token);
        if is_change
            && serde_json::from_slice::<Value>(&call.body).is_ok_and(|body| body["node"].is_u64())
        {
            call.body = br#"{"node":0}"#.to_vec();
        }
        let response = bed.send(&call).await;
        let status = response.status().as_u16();
        assert!(
            (200..300).contains(&status) || REFUSALS.contains(&status),
            "case {case}: {call:?}: {status} {:?}",
            response.text().await
        );
        refused += u64::from(status >= 400);
        bed.check(&call, response).await;
    }
    assert!(refused > cases / 3, "{refused} of {cases} were refused: they are not hostile enough");
    assert!(refused < cases, "nothing got through");
    let alive = call("post /v1/znodes/{path}", "/v1/znodes/still-here", "");
    assert_eq!(bed.send(&alive).await.status(), 201);
    bed.stop().await;
}
