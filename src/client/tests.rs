//! The client against a small server in this process which answers by script.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::model::{Create, Mode, ServiceEvent, WatchEvent, WatchedService};
use super::{Client, Error, ReadOptions, WatchFilter, WatchKind};

const NO_LEADER: &str = r#"{"code":"no_leader","message":"none","retry_after_ms":1}"#;
const STAT: &str = r#"{"czxid":1,"mzxid":1,"ctime_ms":0,"mtime_ms":0,"version":0,"cversion":0,"aversion":0,
    "ephemeral_owner":null,"data_length":0,"num_children":0,"pzxid":1}"#;

/// A request as the server saw it.
#[derive(Clone, Debug)]
struct Seen {
    line: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// What the server answers next: status, content type, body.
type Script = VecDeque<(u16, &'static str, String)>;

#[derive(Clone, Default)]
struct Shared {
    script: Arc<Mutex<Script>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// A server that answers each request with the next answer of its script. Ends with the test.
struct Server {
    endpoint: String,
    shared: Shared,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(script: &[(u16, &str)]) -> Server {
        let json = |&(status, body): &(u16, &str)| (status, "application/json", body.to_owned());
        Server::start_with(script.iter().map(json).collect()).await
    }

    async fn start_with(script: Script) -> Server {
        let shared = Shared { script: Arc::new(Mutex::new(script)), ..Shared::default() };
        let router = axum::Router::new().fallback(answer).with_state(shared.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Server { endpoint, shared, task }
    }

    fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().clone()
    }

    fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let line = format!("{} {}", request.method(), request.uri());
    let headers = request.headers().clone();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap().to_vec();
    shared.seen.lock().push(Seen { line, headers, body });
    match shared.script.lock().pop_front() {
        Some((status, content_type, body)) => {
            (StatusCode::from_u16(status).unwrap(), [("content-type", content_type)], body)
                .into_response()
        }
        None => StatusCode::IM_A_TEAPOT.into_response(),
    }
}

/// Nobody listens at port 1 of an address of the loopback network that nobody uses.
const DEAD: &str = "127.255.255.254:1";

fn client(servers: &[&str]) -> Client {
    Client::new(servers.iter().map(|&endpoint| endpoint.to_owned()).collect()).unwrap()
}

#[tokio::test]
async fn a_write_refused_with_503_is_sent_again_under_the_same_key() {
    let done = format!(r#"{{"stat":{STAT},"zxid":7}}"#);
    let server = Server::start(&[(503, NO_LEADER), (503, NO_LEADER), (200, &done)]).await;
    let changed = client(&[&server.endpoint]).set("/a b", b"x".to_vec(), Some(3)).await.unwrap();
    assert_eq!(changed.zxid, 7);
    let seen = server.seen();
    assert_eq!(server.lines(), ["PUT /v1/znodes/a%20b"; 3]);
    let key = seen[0].header("idempotency-key").unwrap();
    assert!(key.len() >= 16 && seen.iter().all(|seen| seen.header("idempotency-key") == Some(key)));
    assert!(seen.iter().all(|seen| seen.header("if-match") == Some("\"3\"") && seen.body == b"x"));
}

#[tokio::test]
async fn another_endpoint_is_tried_when_the_first_is_dead_and_kept_afterwards() {
    let body = format!(r#"{{"path":"/a","data":"x","stat":{STAT},"zxid":7}}"#);
    let server = Server::start(&[(200, &body), (200, &body)]).await;
    let client = client(&[DEAD, &server.endpoint]);
    for _ in 0..2 {
        let znode = client.get("/a", ReadOptions::Stale).await.unwrap();
        assert_eq!(znode.payload.0.as_deref(), Some(&b"x"[..]));
    }
    assert_eq!(server.lines(), ["GET /v1/znodes/a?consistency=stale"; 2]);
    assert_eq!(client.endpoint(), format!("http://{}", server.endpoint));
}

#[tokio::test]
async fn an_unknown_outcome_is_asked_again_elsewhere_but_a_refusal_is_final() {
    let unknown = r#"{"code":"outcome_unknown","message":"?"}"#;
    let exists = r#"{"code":"node_exists","message":"it exists","zk_code":-110}"#;
    let (one, two) =
        (Server::start(&[(500, unknown)]).await, Server::start(&[(409, exists)]).await);
    let client = client(&[&one.endpoint, &two.endpoint]).with_session("0x1.s");
    let create = Create { path: "/e".to_owned(), mode: Mode::Ephemeral, ..Create::default() };
    let error = client.create(&create).await.unwrap_err();
    assert_eq!(
        (error.code(), error.status(), error.message()),
        ("node_exists", Some(409), "it exists")
    );
    let (first, second) = (one.seen().remove(0), two.seen().remove(0));
    assert_eq!(first.line, "POST /v1/znodes/e?mode=ephemeral");
    assert_eq!(first.header("idempotency-key"), second.header("idempotency-key"));
    assert_eq!(second.header("roost-session"), Some("0x1.s"));
}

#[tokio::test]
async fn a_cluster_call_is_not_repeated_after_an_unknown_outcome() {
    let unknown = r#"{"code":"outcome_unknown","message":"?"}"#;
    let server = Server::start(&[(500, unknown), (200, "{}")]).await;
    let error = client(&[&server.endpoint]).promote(2).await.unwrap_err();
    assert!(error.is("outcome_unknown"));
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn nobody_listening_is_unreachable_long_before_the_timeout() {
    let client = client(&[DEAD]).with_timeout(Duration::from_secs(3600));
    let error = client.get("/", ReadOptions::Linearizable).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn a_cluster_not_initialized_says_so_at_once_and_busy_waits_as_told() {
    let server =
        Server::start(&[(503, r#"{"code":"not_initialized","message":"run init"}"#)]).await;
    let error = client(&[&server.endpoint]).services().await.unwrap_err();
    assert!(error.is("not_initialized"));
    assert_eq!(server.lines().len(), 1);

    let busy = r#"{"code":"busy","message":"full","retry_after_ms":1}"#;
    let server = Server::start(&[(429, busy), (200, r#"{"services":[],"zxid":1}"#)]).await;
    assert!(client(&[&server.endpoint]).services().await.is_ok());
}

#[tokio::test]
async fn children_are_gathered_from_all_pages() {
    let page = |name: &str, next: &str| {
        format!(r#"{{"path":"/a","stat":{STAT},"children":[{{"name":"{name}"}}]{next},"zxid":4}}"#)
    };
    let (one, two) = (page("b", r#","next":"b""#), page("c", ""));
    let server = Server::start(&[(200, &one), (200, &two)]).await;
    let children = client(&[&server.endpoint])
        .children("/a", true, false, ReadOptions::Linearizable)
        .await
        .unwrap();
    let names: Vec<_> = children.children.iter().map(|child| child.name.as_str()).collect();
    assert_eq!(names, ["b", "c"]);
    assert_eq!(
        server.lines(),
        ["GET /v1/children/a?values=true", "GET /v1/children/a?values=true&after=b"]
    );
}

fn stream(body: &str) -> (u16, &'static str, String) {
    (200, "text/event-stream", body.to_owned())
}

fn filter() -> [WatchFilter; 1] {
    [WatchFilter { kind: WatchKind::ChildrenData, path: "/s".to_owned() }]
}

#[tokio::test]
async fn a_broken_watch_resumes_at_another_endpoint_behind_what_was_handed_out() {
    let first = "retry: 100\n\nid: 41\nevent: snapshot\ndata: {\"zxid\":41,\"watches\":[]}\n\n\
                 id: 42\nevent: change\ndata: {\"zxid\":42,\"changes\":[{\"kind\":\"deleted\",\"path\":\"/s/a\"}]}\n\n\
                 id: 43\nevent: change\ndata: {\"zxid\":43,";
    let second = "id: 45\nevent: progress\n\n: comment\n\nid: 46\nevent: change\ndata: {\"zxid\":46,\"changes\":[]}\n\n";
    let one = Server::start_with(VecDeque::from([stream(first)])).await;
    let two = Server::start_with(VecDeque::from([stream(second)])).await;
    let mut watch = client(&[&one.endpoint, &two.endpoint]).watch(&filter(), None);
    let mut zxids = Vec::new();
    for _ in 0..4 {
        zxids.push(match watch.next().await.unwrap() {
            WatchEvent::Snapshot(snapshot) => ("snapshot", snapshot.zxid),
            WatchEvent::Change(change) => ("change", change.zxid),
            WatchEvent::Progress { zxid } => ("progress", zxid),
            WatchEvent::Reset(reset) => ("reset", reset.zxid),
        });
    }
    assert_eq!(zxids, [("snapshot", 41), ("change", 42), ("progress", 45), ("change", 46)]);
    assert_eq!(watch.since(), Some(46));
    assert_eq!(one.seen()[0].header("last-event-id"), None);
    assert_eq!(one.seen()[0].line, "GET /v1/watch?watch=children_data%3A/s");
    assert_eq!(two.seen()[0].header("last-event-id"), Some("42"));
}

#[tokio::test]
async fn a_watch_broken_between_a_reset_and_its_snapshot_asks_for_the_snapshot() {
    let first = "id: 90\nevent: reset\ndata: {\"zxid\":90,\"reason\":\"too_old\"}\n\n";
    let second = "id: 91\nevent: snapshot\ndata: {\"zxid\":91,\"watches\":[]}\n\n";
    let server = Server::start_with(VecDeque::from([stream(first), stream(second)])).await;
    let mut watch = client(&[&server.endpoint]).watch(&filter(), Some(5));
    assert!(
        matches!(watch.next().await, Ok(WatchEvent::Reset(reset)) if reset.reason == "too_old")
    );
    assert!(
        matches!(watch.next().await, Ok(WatchEvent::Snapshot(snapshot)) if snapshot.zxid == 91)
    );
    let ids: Vec<_> =
        server.seen().iter().map(|seen| seen.header("last-event-id").map(str::to_owned)).collect();
    assert_eq!(ids, [Some("5".to_owned()), None]);
}

#[tokio::test]
async fn a_broken_stream_of_services_goes_on_behind_the_last_event_that_completes_a_state() {
    let delta = |event: &str, service: &str, to: u64| {
        format!(
            "event: {event}\ndata: {{\"service\":\"{service}\",\"namespace\":\"\",\"to\":{to},\"upsert\":[],\
             \"unparsable\":[],\"remove\":[\"/x\"]}}\n\n"
        )
    };
    let began = delta("snapshot", "a", 41);
    let reset = "event: reset\ndata: {\"zxid\":50,\"reason\":\"too_old\"}\n\n";
    let whole =
        format!("{reset}{}id: 50\n{}", delta("snapshot", "a", 50), delta("snapshot", "b", 50));
    let later = format!(
        "{}id: 52\n{}id: 60\nevent: progress\n\n",
        delta("delta", "a", 52),
        delta("delta", "b", 52)
    );
    let refused =
        "event: error\ndata: {\"service\":\"b\",\"namespace\":\"\",\"code\":\"no_auth\"}\n\n";
    let server = Server::start_with(VecDeque::from(
        [began, whole, delta("delta", "a", 51), later, refused.to_owned()]
            .map(|text| stream(&text)),
    ))
    .await;
    let asked = [("a", None), ("b", Some(7))]
        .map(|(name, since)| WatchedService { name: name.to_owned(), since });
    let mut watch = client(&[&server.endpoint]).watch_services(&asked);
    let mut heard = Vec::new();
    for _ in 0..9 {
        let event = watch.next().await.unwrap();
        heard.push((
            match event {
                ServiceEvent::Snapshot(all) => format!("{}={}", all.service, all.to),
                ServiceEvent::Delta(delta) => {
                    format!("{}+{}{}", delta.service, delta.to, delta.remove[0])
                }
                ServiceEvent::Reset(reset) => reset.reason,
                ServiceEvent::Refused(refusal) => refusal.code,
                ServiceEvent::Progress { zxid } => zxid.to_string(),
            },
            watch.since(),
        ));
    }
    let expected = [
        ("a=41", None),
        ("too_old", None),
        ("a=50", None),
        ("b=50", Some(50)),
        ("a+51/x", Some(50)),
        ("a+52/x", Some(50)),
        ("b+52/x", Some(52)),
        ("60", Some(60)),
        ("no_auth", Some(60)),
    ];
    assert_eq!(heard, expected.map(|(text, since)| (text.to_owned(), since)));
    let seen = server.seen();
    let ids: Vec<_> =
        seen.iter().map(|seen| seen.header("last-event-id").map(str::to_owned)).collect();
    assert_eq!(ids[..5], [None, None, Some("50".into()), Some("50".into()), Some("60".into())]);
    for seen in seen {
        assert_eq!(seen.line, "POST /v1/watch");
        assert_eq!(seen.body, br#"{"services":[{"name":"a"},{"name":"b","since":7}]}"#);
    }
}

#[tokio::test]
async fn a_watch_that_is_refused_says_why_and_one_without_a_cluster_gives_up_in_time() {
    let server = Server::start(&[(400, r#"{"code":"bad_request","message":"no"}"#)]).await;
    let error = client(&[&server.endpoint]).watch(&filter(), None).next().await.unwrap_err();
    assert!(error.is("bad_request"));
    let client = client(&[DEAD]).with_timeout(Duration::from_millis(1));
    let error = client.watch(&filter(), None).next().await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error}");
}

#[test]
fn only_http_addresses_are_endpoints() {
    for bad in ["", "https://a:1", "http://", "a b:1"] {
        assert!(Client::new(vec![bad.to_owned()]).is_err(), "{bad:?}");
    }
    assert!(Client::new(Vec::new()).is_err());
    let client = client(&["a:1", "http://b:2/"]);
    assert_eq!(client.endpoints(), ["http://a:1", "http://b:2"]);
}
