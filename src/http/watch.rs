use std::collections::VecDeque;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::Door;
use super::answer;
use super::dto::{Encoding, StatBody};
use super::error::Failed;
use super::extract::{Caller, LastEventId, Params, Segments};
use super::read;
use super::snapshot::{Sending, SnapshotText, TooSlow, kind_name, piece, put};
use super::stream::{Events, Viewer};
use crate::limits::{PAGE_BYTES_MAX, POLL_WAIT_MS_MAX, WATCHED_PATHS_MAX};
use crate::node::{Delivery, Subscription, reach_of};
use crate::registry::{namespaced, providers_path};
use crate::tree::Tree;
use crate::types::{Code, Error, ZnodePath, Zxid};
use crate::watch::{Filter, Message, WatchKind, turn_of};

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// What a stream or poll asks for.
#[derive(Debug, Default, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WatchParams {
    /// `<kind>:<path>`, repeatable; the kinds are `data`, `children`, `children_data` and `subtree`.
    #[param(example = json!(["children_data:/services/web/providers"]))]
    watch: Vec<String>,
    /// Begin with the changes after this zxid instead of a snapshot.
    since: Option<u64>,
}

#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
struct PollParams {
    /// How long to wait for a change, ms; 0 when left out, at most 60000.
    #[allow(
        dead_code,
        reason = "describes the parameter to the OpenAPI document; `Asked` reads it"
    )]
    wait_ms: Option<u64>,
}

/// The query of a stream or poll. Not derived: a parameter that repeats is beyond the derived parser.
#[derive(Debug, Default)]
struct Asked {
    watches: WatchParams,
    wait_ms: u64,
}

impl Asked {
    /// Reads the query; `known` are the parameters that this operation has.
    fn parse(query: Vec<(String, String)>, known: &[&str]) -> Result<Asked, Failed> {
        let mut asked = Asked::default();
        for (name, value) in query {
            if !known.contains(&name.as_str()) {
                return Err(Failed::bad_request(format!(
                    "in the query: unknown parameter {name:?}, expected one of {}",
                    known.join(", ")
                )));
            }
            match name.as_str() {
                "watch" => asked.watches.watch.push(value),
                "since" => asked.watches.since = Some(number("since", &value)?),
                _ => asked.wait_ms = number("wait_ms", &value)?,
            }
        }
        if asked.wait_ms > POLL_WAIT_MS_MAX {
            let wait_ms = asked.wait_ms;
            return Err(Failed::bad_arguments(format!(
                "wait_ms is {wait_ms}: at most {POLL_WAIT_MS_MAX}"
            )));
        }
        Ok(asked)
    }

    fn filters(&self) -> Result<Vec<Filter>, Failed> {
        let count = self.watches.watch.len();
        if count == 0 || count > WATCHED_PATHS_MAX {
            return Err(Failed::bad_arguments(format!(
                "{count} parameters named watch: there must be 1 to {WATCHED_PATHS_MAX}"
            )));
        }
        self.watches.watch.iter().map(|text| parse_filter(text)).collect()
    }
}

fn number(name: &str, value: &str) -> Result<u64, Failed> {
    u64::from_str(value).map_err(|_| {
        Failed::bad_request(format!("in the query: {name} is {value:?}, not a number"))
    })
}

const KINDS: [WatchKind; 4] =
    [WatchKind::Data, WatchKind::Children, WatchKind::ChildrenData, WatchKind::Subtree];

/// Parses `<kind>:<path>`.
fn parse_filter(text: &str) -> Result<Filter, Failed> {
    let named = text.split_once(':');
    let found = named.and_then(|(name, path)| Some((kind(name).ok()?, path)));
    let Some((kind, path)) = found else {
        let kinds = KINDS.map(kind_name).join(", ");
        return Err(Failed::bad_arguments(format!(
            "watch is {text:?}: expected a kind ({kinds}), a colon and a path"
        )));
    };
    Ok(Filter { path: ZnodePath::parse(path)?, kind })
}

/// Parses the name of a kind.
pub(super) fn kind(name: &str) -> Result<WatchKind, Failed> {
    let found = KINDS.into_iter().find(|kind| kind_name(*kind) == name);
    found.ok_or_else(|| {
        let kinds = KINDS.map(kind_name).join(", ");
        Failed::bad_arguments(format!("kind is {name:?}: it is none of {kinds}"))
    })
}

/// Refuses to watch a znode that the caller may not read. One that does not exist (yet) may be watched.
fn check_readable(tree: &Tree, filters: &[Filter], caller: &Caller) -> Result<(), Failed> {
    for filter in filters {
        if tree
            .readable(filter.path.as_str(), &caller.authority)
            .is_err_and(|code| code == Code::NoAuth)
        {
            let why = format!("not permitted to read {}", filter.path);
            return Err(Failed::because(Code::NoAuth, why).at(tree.zxid()));
        }
    }
    Ok(())
}

/// Returns what decides about a caller's turn: its session, or its address, which it keeps when it comes back.
pub(super) fn turn(caller: &Caller) -> u64 {
    let address = caller.authority.iter().find(|id| id.scheme == "ip");
    match caller.session.is_none() {
        true => turn_of(address.map(|id| id.id.as_bytes()).unwrap_or_default()),
        false => turn_of(&caller.session.0.to_le_bytes()),
    }
}

/// Subscribes for this caller.
fn subscribe(
    door: &Door,
    caller: Caller,
    filters: Vec<Filter>,
    since: Option<u64>,
) -> Result<(Subscription, Viewer), Failed> {
    check_readable(&door.node().local(), &filters, &caller)?;
    for Filter { path, kind } in &filters {
        read::admit(door, &caller, path.as_str(), reach_of(*kind))?;
    }
    let subscription = door.node().subscribe(filters.clone(), since.map(Zxid), turn(&caller))?;
    Ok((subscription, Viewer { filters, authority: Arc::from(caller.authority) }))
}

/// Answers with a stream of events after `since`.
fn stream(
    door: &Door,
    caller: Caller,
    filters: Vec<Filter>,
    since: Option<u64>,
) -> Result<Response, Failed> {
    let (subscription, viewer) = subscribe(door, caller, filters, since)?;
    Ok(event_stream(Events::body(subscription, viewer, door.stop().clone())))
}

/// Returns a response whose body is a stream of events.
pub(crate) fn event_stream(body: Body) -> Response {
    let mut response = answer::with_type(StatusCode::OK, EVENT_STREAM, body);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that buffer answers would hold the events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Watches znodes: a stream of events.
#[utoipa::path(get, path = "/v1/watch", tag = "watch",
    params(WatchParams, ("Last-Event-ID" = Option<u64>, Header, description = "As `since`, and before it")),
    responses((status = 200, description = "Events `snapshot`, `change`, `reset` and `progress`",
        body = String, content_type = "text/event-stream")))]
pub(crate) async fn watch(
    State(door): State<Door>,
    Params(query): Params<Vec<(String, String)>>,
    caller: Caller,
    LastEventId(seen): LastEventId,
) -> Result<Response, Failed> {
    let asked = Asked::parse(query, &["watch", "since"])?;
    // A client that reconnects repeats its URL: what it saw last is newer than the `since` therein.
    stream(&door, caller, asked.filters()?, seen.or(asked.watches.since))
}

/// Watches the providers of a service and their data.
#[utoipa::path(get, path = "/v1/services/{name}/subscribe", tag = "services",
    params(("name" = String, Path, description = "The service's name"),
        ("since" = Option<u64>, Query, description = "Begin after this zxid instead of with a snapshot"),
        ("Last-Event-ID" = Option<u64>, Header, description = "As `since`, and before it")),
    responses((status = 200, description = "Events `snapshot`, `change`, `reset` and `progress`",
        body = String, content_type = "text/event-stream")))]
pub(crate) async fn subscribe_service(
    State(door): State<Door>,
    Segments(name): Segments<String>,
    Params(query): Params<Vec<(String, String)>>,
    caller: Caller,
    LastEventId(seen): LastEventId,
) -> Result<Response, Failed> {
    subscribe_to_service(&door, caller, ("", &name), query, seen)
}

/// Watches the providers of a service of a namespace; the empty one is the default one.
pub(crate) fn subscribe_to_service(
    door: &Door,
    caller: Caller,
    (namespace, name): (&str, &str),
    query: Vec<(String, String)>,
    seen: Option<u64>,
) -> Result<Response, Failed> {
    let asked = Asked::parse(query, &["since"])?;
    let path = namespaced(namespace, &providers_path(name)?)?;
    let filter = Filter { path, kind: WatchKind::ChildrenData };
    stream(door, caller, vec![filter], seen.or(asked.watches.since))
}

/// One change of one znode, for the document: the stream writes it by hand.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
pub(crate) struct EventBody {
    /// `created`, `changed` or `deleted`.
    kind: String,
    path: String,
    /// Left out for `deleted`, and where only the list of children is watched.
    data: Option<String>,
    encoding: Option<Encoding>,
    /// Left out for `deleted`.
    stat: Option<StatBody>,
}

/// What one transaction changed.
#[derive(Serialize, ToSchema)]
#[schema(as = Change)]
pub(crate) struct ChangeBody {
    zxid: u64,
    changes: Vec<EventBody>,
}

/// What one watch sees at one zxid.
#[derive(Serialize, ToSchema)]
#[schema(as = Watched)]
pub(crate) struct WatchedBody {
    kind: String,
    path: String,
    /// Whether the znode at `path` exists.
    exists: bool,
    znodes: Vec<WatchedZnodeBody>,
}

/// A znode in a snapshot.
#[derive(Serialize, ToSchema)]
#[schema(as = WatchedZnode)]
pub(crate) struct WatchedZnodeBody {
    path: String,
    /// Left out where only the list of children is watched.
    data: Option<String>,
    encoding: Option<Encoding>,
    stat: StatBody,
}

/// The state that changes follow on.
#[derive(Serialize, ToSchema)]
#[schema(as = Snapshot)]
pub(crate) struct SnapshotBody {
    zxid: u64,
    watches: Vec<WatchedBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Polled)]
pub(crate) struct PolledBody {
    /// The `since` of the next poll.
    zxid: u64,
    /// Whether changes were skipped; then there is a snapshot.
    reset: bool,
    changes: Vec<ChangeBody>,
    /// When there was no `since`, or a reset.
    snapshot: Option<SnapshotBody>,
}

/// Watches znodes: waits for one answer.
#[utoipa::path(get, path = "/v1/poll", tag = "watch", params(WatchParams, PollParams),
    responses((status = 200, description = "Changes, or none by the end of the wait", body = PolledBody)))]
pub(crate) async fn poll(
    State(door): State<Door>,
    Params(query): Params<Vec<(String, String)>>,
    caller: Caller,
) -> Result<Response, Failed> {
    let asked = Asked::parse(query, &["watch", "since", "wait_ms"])?;
    let deadline = Instant::now() + Duration::from_millis(asked.wait_ms);
    let (mut subscription, viewer) =
        subscribe(&door, caller, asked.filters()?, asked.watches.since)?;
    loop {
        let wait = deadline.saturating_duration_since(Instant::now());
        let delivery = tokio::select! {
            delivery = subscription.next(wait) => delivery,
            () = door.stop().cancelled() => None,
        };
        match delivery.ok_or(Error::Stopping)? {
            Delivery::Snapshot { tree, reset } => {
                return Ok(polled_snapshot(tree, reset.is_some(), viewer));
            }
            Delivery::Messages { messages, upto, .. } => {
                let (changes, upto) = polled_changes(messages, upto, &viewer);
                if !changes.is_empty() || deadline <= Instant::now() {
                    return Ok(polled(upto, &changes));
                }
            }
            Delivery::Idle { upto } if deadline <= Instant::now() => return Ok(polled(upto, b"")),
            Delivery::Idle { .. } => {}
        }
    }
}

/// Returns the JSON of as many changes as one answer may have, separated by commas, and the zxid up to which
/// they tell everything.
fn polled_changes(messages: Vec<Message>, upto: Zxid, viewer: &Viewer) -> (Vec<u8>, Zxid) {
    let mut out = Vec::new();
    let mut messages = VecDeque::from(messages);
    while let Some(message) = messages.pop_front() {
        let begun = out.len();
        if begun > 0 {
            out.push(b',');
        }
        if !viewer.write_change(&message, &mut out) {
            out.truncate(begun);
        }
        if out.len() >= PAGE_BYTES_MAX && !messages.is_empty() {
            return (out, message.change.zxid());
        }
    }
    (out, upto)
}

fn polled(zxid: Zxid, changes: &[u8]) -> Response {
    let mut out = Vec::with_capacity(changes.len() + 64);
    put(&mut out, format_args!("{{\"zxid\":{zxid},\"reset\":false,\"changes\":["));
    out.extend_from_slice(changes);
    out.extend_from_slice(b"]}");
    json_body(zxid, Body::from(out))
}

fn polled_snapshot(tree: Arc<Tree>, reset: bool, viewer: Viewer) -> Response {
    let zxid = tree.zxid();
    let mut out = Vec::new();
    put(&mut out, format_args!("{{\"zxid\":{zxid},\"reset\":{reset},\"changes\":[],\"snapshot\":"));
    let text = Sending::new(SnapshotText::new(tree, viewer.filters, viewer.authority));
    let pieces = futures::stream::unfold((out, Some(text)), |(mut out, text)| async {
        let mut text = text?;
        match text.write(&mut out) {
            Ok(true) => Some((Ok(piece(&mut out)), (out, Some(text)))),
            Ok(false) => {
                out.push(b'}');
                Some((Ok(piece(&mut out)), (out, None)))
            }
            // Breaks the connection, lest half an answer be taken for one.
            Err(TooSlow) => Some((Err(std::io::Error::other("read too slowly")), (out, None))),
        }
    });
    json_body(zxid, Body::from_stream(pieces))
}

fn json_body(zxid: Zxid, body: Body) -> Response {
    let json = HeaderValue::from_static("application/json");
    let mut response = answer::with_type(StatusCode::OK, json, body);
    response.headers_mut().insert(answer::ZXID, HeaderValue::from(zxid.0));
    response
}
