//! The HTTP door: the part of roost's API that registries share, and the two requests of nodes among themselves.
//!
//! Versions stand where roost has zxids. They are this node's own and mean nothing elsewhere, so a subscription that
//! moves to another node begins with a snapshot whatever it was told before. Any token of the right form is believed.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use futures::stream::{self, Stream};
use roost::client::Refusal;
use roost::client::model::{
    Change as ToldChange, ChangeKind, ClosedSession, Done, OpenedSession, Payload, Provider,
    Registered, Registration, RenewedSession, Service, ServiceSummary, Services, Snapshot,
    WatchState, WatchedZnode, ZnodeChange,
};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;

use super::record::{Change, Instance, Key};
use super::replica::{Pull, Push};
use super::serve::{Node, Shown};

/// The range of timeouts, ms, as roost has it.
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 1_000..=600_000;

type Answer<T> = Result<T, Refused>;

/// A refusal as the API has it.
struct Refused(StatusCode, &'static str, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Refused(status, code, message) = self;
        let refusal = Refusal { code: code.into(), message, ..Refusal::default() };
        (status, Json(refusal)).into_response()
    }
}

/// Returns all routes of a node.
pub(super) fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/v1/sessions", post(open_session))
        .route("/v1/sessions/{session}", put(renew_session).delete(close_session))
        .route("/v1/services", get(services))
        .route("/v1/services/{name}", get(service))
        .route("/v1/services/{name}/providers", post(register))
        .route("/v1/services/{name}/providers/{id}", delete(deregister))
        .route("/v1/services/{name}/subscribe", get(subscribe))
        .route("/v1/watch", get(watch_path))
        .route("/healthz", get(healthy))
        .route("/readyz", get(healthy))
        .route("/ap/push", post(push))
        .route("/ap/pull", post(pull))
        .with_state(node)
}

async fn healthy(State(node): State<Arc<Node>>) -> Response {
    Json(json!({ "status": "ok", "zxid": node.shown().borrow().version })).into_response()
}

async fn push(State(node): State<Arc<Node>>, Json(pushes): Json<Vec<Push>>) -> StatusCode {
    node.with(|replica, now| pushes.into_iter().for_each(|push| replica.receive(push, now)));
    StatusCode::NO_CONTENT
}

async fn pull(State(node): State<Arc<Node>>, Json(pull): Json<Pull>) -> Answer<Response> {
    let pulled = node.with(|replica, now| replica.answer(&pull, now));
    let other =
        || Refused(StatusCode::CONFLICT, "refused", "this node is of the other form".into());
    Ok(Json(pulled.ok_or_else(other)?).into_response())
}

#[derive(Deserialize)]
struct Opening {
    timeout_ms: u64,
}

async fn open_session(State(node): State<Arc<Node>>, Json(opening): Json<Opening>) -> Response {
    let timeout_ms = opening.timeout_ms.clamp(*TIMEOUT_MS.start(), *TIMEOUT_MS.end());
    // Unique without agreement: who gave it, and 56 random bits.
    let session = format!("{:#018x}", u64::from(node.id) << 56 | rand::random::<u64>() >> 8);
    node.with(|replica, now| replica.leases.hear(&session, timeout_ms, now.ms));
    let token = format!("{session}.ap");
    let opened = OpenedSession { session, token, timeout_ms, zxid: version(&node) };
    (StatusCode::CREATED, Json(opened)).into_response()
}

fn version(node: &Node) -> u64 {
    node.shown().borrow().version
}

/// Returns the session of a request and its timeout, and notes that it was heard.
fn heard(node: &Node, headers: &HeaderMap) -> Answer<(String, u64)> {
    let token = headers.get("Roost-Session").and_then(|token| token.to_str().ok());
    let bad = |why: &str| Refused(StatusCode::BAD_REQUEST, "bad_arguments", why.into());
    let token = token.ok_or_else(|| bad("the header Roost-Session is missing"))?;
    let (session, _) = token.split_once('.').ok_or_else(|| bad("the token is malformed"))?;
    let timeout_ms = node.with(|replica, now| {
        let timeout_ms = replica.leases.timeout_ms(session, now.ms);
        timeout_ms.inspect(|timeout_ms| replica.leases.hear(session, *timeout_ms, now.ms))
    });
    let gone = || {
        let why = format!("this node has not heard of session {session} in time");
        Refused(StatusCode::GONE, "session_expired", why)
    };
    Ok((session.to_owned(), timeout_ms.ok_or_else(gone)?))
}

async fn renew_session(State(node): State<Arc<Node>>, headers: HeaderMap) -> Answer<Response> {
    let (session, timeout_ms) = heard(&node, &headers)?;
    Ok(Json(RenewedSession { session, timeout_ms, next_renew_ms: None }).into_response())
}

async fn close_session(State(node): State<Arc<Node>>, headers: HeaderMap) -> Answer<Response> {
    let (session, _) = heard(&node, &headers)?;
    let pushes = node.with(|replica, now| {
        let keys = replica.of_session(&session);
        replica.leases.end(&session);
        let gone = keys.into_iter().map(|key| Change { key, instance: None });
        gone.map(|change| replica.publish(change, now)).collect::<Vec<_>>()
    });
    pushes.iter().for_each(|push| node.bus.push(push));
    let removed = pushes.len() as u64;
    Ok(Json(ClosedSession { removed, zxid: version(&node) }).into_response())
}

async fn register(
    State(node): State<Arc<Node>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Json(registration): Json<Registration>,
) -> Answer<Response> {
    let (session, timeout_ms) = heard(&node, &headers)?;
    let Registration { id, host, port, weight, metadata, status, takes_over: _ } = registration;
    let id = id.unwrap_or_else(|| format!("{host}:{port}"));
    let instance = Instance {
        host,
        port,
        weight: weight.unwrap_or(100),
        metadata,
        status: status.unwrap_or_else(|| "up".into()),
        session,
        timeout_ms,
    };
    let key: Key = (name.clone(), id.clone());
    let change = Change { key, instance: Some(instance) };
    let push = node.with(|replica, now| replica.publish(change, now));
    node.bus.push(&push);
    let path = format!("/services/{name}/providers/{id}");
    let registered = Registered { name, id, path, incarnation: 0, zxid: version(&node) };
    Ok((StatusCode::CREATED, Json(registered)).into_response())
}

#[derive(Deserialize)]
struct Force {
    #[serde(default)]
    force: bool,
}

async fn deregister(
    State(node): State<Arc<Node>>,
    Path(key): Path<Key>,
    Query(Force { force }): Query<Force>,
    headers: HeaderMap,
) -> Answer<Response> {
    let session = match force {
        true => None,
        false => Some(heard(&node, &headers)?.0),
    };
    let push = node.with(|replica, now| {
        let Some(instance) = replica.get(&key) else {
            let why = format!("{} has no provider {}", key.0, key.1);
            return Err(Refused(StatusCode::NOT_FOUND, "no_node", why));
        };
        if session.is_some_and(|session| session != instance.session) {
            let why = format!("it belongs to session {}", instance.session);
            return Err(Refused(StatusCode::FORBIDDEN, "no_auth", why));
        }
        Ok(replica.publish(Change { key, instance: None }, now))
    })?;
    node.bus.push(&push);
    Ok(Json(Done { zxid: version(&node) }).into_response())
}

async fn services(State(node): State<Arc<Node>>) -> Response {
    let shown = node.shown().borrow().clone();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    shown.list.keys().for_each(|(name, _)| *counts.entry(name).or_default() += 1);
    let summary = |(name, providers): (&str, u64)| ServiceSummary {
        name: name.to_owned(),
        providers,
        consumers: 0,
    };
    let services = counts.into_iter().map(summary).collect();
    Json(Services { services, next: None, zxid: shown.version }).into_response()
}

async fn service(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Response {
    let shown = node.shown().borrow().clone();
    let providers = of_service(&shown, &name).map(|(id, instance)| Provider {
        id: id.clone(),
        host: instance.host.clone(),
        port: instance.port,
        weight: instance.weight,
        metadata: instance.metadata.clone(),
        status: instance.status.clone(),
        health: String::new(),
        session: Some(instance.session.clone()),
        czxid: 0,
        version: 0,
    });
    let providers = providers.collect();
    let (consumers, unparsable) = (Vec::new(), Vec::new());
    Json(Service { name, providers, consumers, unparsable, zxid: shown.version }).into_response()
}

fn of_service<'a>(
    shown: &'a Shown,
    name: &'a str,
) -> impl Iterator<Item = (&'a String, &'a Instance)> {
    let is_its = move |key: &&Key| key.0 == name;
    let list = shown.list.iter().filter(move |(key, _)| is_its(key));
    list.map(|((_, id), instance)| (id, instance))
}

async fn subscribe(State(node): State<Arc<Node>>, Path(name): Path<String>) -> Response {
    stream_of(&node, name)
}

#[derive(Deserialize)]
struct Watched {
    watch: String,
}

/// The path of a subscription as roost's general watch has it.
async fn watch_path(
    State(node): State<Arc<Node>>,
    Query(Watched { watch }): Query<Watched>,
) -> Answer<Response> {
    let name = watch.strip_prefix("children_data:/services/");
    let name = name.and_then(|rest| rest.strip_suffix("/providers"));
    let only = "only children_data:/services/<name>/providers can be watched here";
    let bad = || Refused(StatusCode::BAD_REQUEST, "unimplemented", only.into());
    Ok(stream_of(&node, name.ok_or_else(bad)?.to_owned()))
}

/// A subscription under way.
struct Subscription {
    name: String,
    shown: watch::Receiver<Arc<Shown>>,
    /// What the subscriber has; `None` before the snapshot.
    told: Option<BTreeMap<String, Instance>>,
}

fn stream_of(node: &Node, name: String) -> Response {
    let subscription = Subscription { name, shown: node.shown(), told: None };
    Sse::new(events(subscription)).keep_alive(KeepAlive::default()).into_response()
}

type SseEvent = axum::response::sse::Event;

fn events(subscription: Subscription) -> impl Stream<Item = Result<SseEvent, Infallible>> {
    stream::unfold(subscription, |mut subscription| async move {
        loop {
            if subscription.told.is_some() && subscription.shown.changed().await.is_err() {
                return None;
            }
            let shown = subscription.shown.borrow_and_update().clone();
            if let Some(event) = subscription.next(&shown) {
                return Some((Ok(event), subscription));
            }
        }
    })
}

impl Subscription {
    /// Returns what the subscriber lacks of what is shown, if anything.
    fn next(&mut self, shown: &Shown) -> Option<SseEvent> {
        let zxid = shown.version;
        let now: BTreeMap<String, Instance> = of_service(shown, &self.name)
            .map(|(id, instance)| (id.clone(), instance.clone()))
            .collect();
        let parent = format!("/services/{}/providers", self.name);
        let path = |id: &str| format!("{parent}/{id}");
        let before = self.told.replace(now.clone());
        let (event, data) = match before {
            None => {
                let znodes = now.iter().map(|(id, instance)| WatchedZnode {
                    path: path(id),
                    payload: payload(instance),
                    stat: None,
                });
                let znodes: Vec<WatchedZnode> = znodes.collect();
                let exists = !znodes.is_empty();
                let kind = "children_data".to_owned();
                let watches = vec![WatchState { kind, path: parent.clone(), exists, znodes }];
                ("snapshot", serde_json::to_string(&Snapshot { zxid, watches }))
            }
            Some(before) => {
                let changes = difference(&before, &now, path);
                if changes.is_empty() {
                    return None;
                }
                ("change", serde_json::to_string(&ToldChange { zxid, changes }))
            }
        };
        let data = data.expect("the API's own types are JSON");
        Some(SseEvent::default().event(event).id(zxid.to_string()).data(data))
    }
}

fn payload(instance: &Instance) -> Payload {
    let Instance { host, port, weight, metadata, status, .. } = instance;
    let data = json!({
        "host": host, "port": port, "weight": weight, "metadata": metadata, "status": status,
    });
    Payload(Some(data.to_string().into_bytes()))
}

fn difference(
    before: &BTreeMap<String, Instance>,
    now: &BTreeMap<String, Instance>,
    path: impl Fn(&str) -> String,
) -> Vec<ZnodeChange> {
    let ids: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let changes = ids.into_iter().filter_map(|id| {
        let (kind, instance) = match (before.get(id), now.get(id)) {
            (None, Some(instance)) => (ChangeKind::Created, Some(instance)),
            (Some(_), None) => (ChangeKind::Deleted, None),
            (Some(old), Some(new)) if old != new => (ChangeKind::Changed, Some(new)),
            _ => return None,
        };
        let payload = instance.map_or(Payload(None), payload);
        Some(ZnodeChange { kind, path: path(id), payload, stat: None })
    });
    changes.collect()
}
