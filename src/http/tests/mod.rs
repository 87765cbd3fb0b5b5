//! The door as a client meets it: requests in, answers out, over a cluster of one node in memory.

mod access;
mod audit;
mod document;
mod drain;
mod health;
mod identity;
mod increments;
mod layouts;
mod metadata;
mod namespaces;
mod node;
mod policies;
mod protection;
mod rules;
mod scale;
mod services;
mod sessions;
mod traffic;
mod watch;
mod znodes;

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use futures::StreamExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::extract::Peer;
use super::{Door, router};
use crate::node::{Node, Request as Wish};
use crate::types::{Op, SessionId};

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

    /// Registers a provider of a service.
    async fn register(&self, token: &str, service: &str, provider: Value) -> Got {
        let uri = format!("POST /v1/services/{service}/providers");
        self.send(&uri, &[("roost-session", token)], provider.to_string()).await
    }
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

/// Returns once everything that the node has asked of itself by now is applied: one node's transactions are applied in order.
async fn settled(node: &Node) {
    let op = Op::Reap { paths: Vec::new() };
    let request = Wish {
        session: SessionId::NONE,
        owner: None,
        authority: Vec::new(),
        idempotency_key: None,
        op,
    };
    node.submit(request).await.expect("the node lives").result.expect("it does nothing");
}

/// Lets time pass, a second at a time, until something is so; within a minute, which is not waited for.
async fn pass_until(node: &Node, what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..60 {
        settled(node).await;
        if is_so() {
            return;
        }
        pass(Duration::from_secs(1)).await;
    }
    panic!("it takes more than a minute until {what}");
}

/// Lets time pass without waiting for it. Nothing may be on its way to the disk, which time does not wait for.
async fn pass(time: Duration) {
    tokio::time::pause();
    // Costs nothing while the clock is paused.
    tokio::time::sleep(time).await;
    tokio::time::resume();
}
