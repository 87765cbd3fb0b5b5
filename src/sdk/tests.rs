//! The tasks of the SDK against a small registry in this process, and pools of fixed targets.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::stream;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::keeper::Keeper;
use super::{
    AccrualOptions, Discovery, Incarnations, Instance, LookupError, PoolOptions, Registrar,
    RegistrarOptions, RegistrationState, Registry, Service, ServicePool, Subscription,
    SubscriptionOptions, sign,
};
use crate::client::model::Registration;

/// Nobody listens at port 1 of an address of the loopback network that nobody uses.
const DEAD: &str = "127.255.255.254:1";

fn registry(seed: &str) -> Registry {
    Registry::new("test", &[seed.to_owned()]).unwrap()
}

fn service(name: &str) -> Service {
    let registration = Registration { host: "a".to_owned(), port: 1, ..Registration::default() };
    Service { name: name.to_owned(), registration }
}

/// A registry that answers every call and notes it, and by which session a registration is taken over; the second renewal
/// finds the session expired. Ends with the test.
struct Fake {
    endpoint: String,
    calls: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    async fn start() -> Fake {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let router = axum::Router::new().fallback(answer).with_state(calls.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Fake { endpoint, calls, task }
    }

    /// Returns the calls about sessions and services.
    fn calls(&self) -> Vec<String> {
        let calls = self.calls.lock();
        calls.iter().filter(|call| !call.contains("/v1/cluster")).cloned().collect()
    }
}

async fn answer(calls: State<Arc<Mutex<Vec<String>>>>, request: Request) -> (StatusCode, String) {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let takes_over = body["takes_over"].as_str().map(|token| format!(" takes over {token}"));
    let mut calls = calls.lock();
    calls.push(format!("{method} {}{}", uri.path(), takes_over.unwrap_or_default()));
    let of = |start: &str| calls.iter().filter(|call| call.starts_with(start)).count();
    if method == Method::PUT && of("PUT") == 2 {
        return (StatusCode::GONE, r#"{"code":"session_expired","message":"gone"}"#.to_owned());
    }
    if uri.path().ends_with("/drain") || uri.path() == "/v1/cluster" {
        return (
            StatusCode::NOT_FOUND,
            r#"{"code":"not_found","message":"no such route"}"#.to_owned(),
        );
    }
    let opened = of("POST /v1/sessions");
    let body = format!(
        r#"{{"session":"0x{opened}","token":"0x{opened}.x","timeout_ms":5000,"zxid":1,
            "name":"web","id":"a:1","path":"/p","removed":1}}"#
    );
    (StatusCode::OK, body)
}

#[tokio::test]
async fn a_lost_session_is_replaced_and_the_providers_registered_again_under_their_ids() {
    let fake = Fake::start().await;
    let first = (Arc::from("test"), RegistrationState::Registering(None));
    let (states, seen) = watch::channel(vec![first]);
    let services = vec![service("web"), service("api")];
    let mut keeper = Keeper::new(
        registry(&fake.endpoint),
        services,
        &RegistrarOptions { ttl: Duration::from_secs(5), ..RegistrarOptions::default() },
        states,
        0,
        Incarnations::default(),
    );
    let mut told = Vec::new();
    for _ in 0..8 {
        keeper.step().await;
        let state = seen.borrow()[0].1.clone();
        told.push(match state {
            RegistrationState::Registering(_) => "registering",
            RegistrationState::Registered { .. } => "registered",
            state if state.is_alarm() => "alarm",
            _ => "other",
        });
    }
    assert_eq!(
        fake.calls(),
        [
            "POST /v1/sessions",
            "POST /v1/services/web/providers",
            "POST /v1/services/api/providers",
            "PUT /v1/sessions/0x1",
            "PUT /v1/sessions/0x1",
            "POST /v1/sessions",
            "POST /v1/services/web/providers",
            "POST /v1/services/api/providers",
        ]
    );
    let expected = [
        "registering",
        "registering",
        "registered",
        "registered",
        "alarm",
        "alarm",
        "alarm",
        "registered",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn who_comes_after_a_provider_that_did_not_leave_takes_its_registration_over() {
    let fake = Fake::start().await;
    let options = RegistrarOptions::default();
    let begin = || {
        let services = vec![service("web"), service("api")];
        Registrar::start(&[registry(&fake.endpoint)], services, &options)
    };
    let first = begin();
    first.registered(Duration::from_secs(30)).await.unwrap();
    drop(first);
    let second = begin();
    second.registered(Duration::from_secs(30)).await.unwrap();
    // The session of the one that left in order has nothing any more.
    assert!(second.withdraw().await[0].error.is_none());
    begin().registered(Duration::from_secs(30)).await.unwrap();
    assert_eq!(
        fake.calls()[3..],
        [
            "PUT /v1/sessions/0x1",
            "POST /v1/sessions",
            "POST /v1/services/web/providers takes over 0x1.x",
            "POST /v1/services/api/providers takes over 0x1.x",
            "DELETE /v1/sessions/0x2",
            "POST /v1/sessions",
            "POST /v1/services/web/providers",
            "POST /v1/services/api/providers",
        ]
    );
}

#[tokio::test]
async fn a_provider_leaves_in_order_where_draining_is_not_known_too() {
    let fake = Fake::start().await;
    let registrar = Registrar::start(
        &[registry(&fake.endpoint)],
        vec![service("web")],
        &RegistrarOptions::default(),
    );
    registrar.registered(Duration::from_secs(30)).await.unwrap();
    let options =
        super::ShutdownOptions { drain: Duration::from_secs(30), grace: Duration::from_millis(1) };
    let left = registrar.shutdown(options).await;
    assert!(left[0].error.is_none() && left[0].drained.is_empty(), "{left:?}");
    assert_eq!(
        fake.calls(),
        [
            "POST /v1/sessions",
            "POST /v1/services/web/providers",
            "POST /v1/services/web/providers/a%3A1/drain",
            "POST /v1/services/web/providers",
            "DELETE /v1/sessions/0x1",
        ]
    );
}

#[tokio::test]
async fn a_service_of_which_nothing_is_known_is_not_one_without_providers() {
    let lazy = Subscription::start(&[registry(DEAD)], &[], SubscriptionOptions::default()).await;
    let lazy = lazy.unwrap();
    let error = lazy.discover("web", Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, LookupError::NoKnownProviders { .. }), "{error}");

    let discovery = |fail_fast| Discovery::Eager { wait: Duration::from_millis(50), fail_fast };
    let options =
        |fail_fast| SubscriptionOptions { discovery: discovery(fail_fast), ..Default::default() };
    let services = ["web".to_owned()];
    let refused =
        Subscription::start(&[registry(DEAD)], &services, options(true)).await.unwrap_err();
    assert_eq!(refused.0.len(), 1, "{refused}");
    assert!(Subscription::start(&[registry(DEAD)], &services, options(false)).await.is_ok());
}

/// Accepts connections until dropped, and then refuses them.
struct Listening(JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listening {
    fn on(listener: TcpListener) -> Listening {
        Listening(tokio::spawn(async move {
            loop {
                let _ = listener.accept().await;
            }
        }))
    }

    async fn stop(mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }
}

#[tokio::test]
async fn one_of_three_that_refuses_costs_three_errors_and_takes_calls_again_when_it_heals() {
    let mut addrs = Vec::new();
    let mut servers = Vec::new();
    for _ in 0..3 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addrs.push(listener.local_addr().unwrap().to_string());
        servers.push(Listening::on(listener));
    }
    let accrual = AccrualOptions { failures: 3, probe_interval_ms: 20 };
    let options = PoolOptions { accrual, ..PoolOptions::default() };
    let pool = ServicePool::fixed(&format!("static://{}", addrs.join(",")), options).unwrap();
    let connect = |addr: String| async move { TcpStream::connect(addr).await.map(drop) };

    servers.remove(0).stop().await;
    let (mut errors, mut retried) = (0, 0);
    for _ in 0..60 {
        let picked = pool.pick().unwrap();
        match connect(picked.addr()).await {
            Ok(()) => picked.succeeded(),
            Err(_) => {
                errors += 1;
                picked.failed();
            }
        }
        // With a second attempt nobody notices.
        retried += u32::from(pool.call(2, |picked| connect(picked.addr())).await.is_err());
    }
    assert!(errors <= 3 && retried == 0, "{errors} errors, {retried} with a second attempt");
    assert_eq!(pool.unavailable(), addrs[..1]);

    let _healed = Listening::on(TcpListener::bind(&addrs[0]).await.unwrap());
    while !pool.unavailable().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let picked: std::collections::BTreeSet<String> =
        (0..3).map(|_| pool.pick().unwrap().addr()).collect();
    assert_eq!(picked.len(), 3);
}

/// A registry whose streams are scripts: each request for one gets the next, which then stays open; and which has these
/// signs. Notes the bodies of the requests. Ends with the test.
struct Scripted {
    scripts: Mutex<VecDeque<String>>,
    signs: serde_json::Value,
    asked: Mutex<Vec<serde_json::Value>>,
}

async fn scripted(registry: State<Arc<Scripted>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
    match path.as_str() {
        "/v1/watch" => {
            registry.asked.lock().push(serde_json::from_slice(&body).unwrap());
            let script = registry.scripts.lock().pop_front().unwrap_or_default();
            let told = stream::iter([Ok::<_, Infallible>(script)]).chain(stream::pending());
            ([("content-type", "text/event-stream")], Body::from_stream(told)).into_response()
        }
        "/v1/versions" => registry.signs.to_string().into_response(),
        _ => (StatusCode::NOT_FOUND, r#"{"code":"not_found","message":"no"}"#).into_response(),
    }
}

/// Returns an event of a stream about the service, with these instances.
fn told(
    event: &str,
    id: Option<u64>,
    service: &str,
    to: u64,
    all: &[&Instance],
    sign: u64,
) -> String {
    let upsert: Vec<_> = all
        .iter()
        .map(|it| {
            serde_json::json!({"id": it.id, "host": it.host, "port": it.port, "weight": it.weight,
                "status": it.status, "metadata": {}, "path": it.path, "layout": it.layout,
                "incarnation": it.incarnation, "modified": it.modified, "session": null})
        })
        .collect();
    let data = serde_json::json!({"service": service, "namespace": "", "to": to, "upsert": upsert,
        "unparsable": [], "remove": [], "sign": format!("{sign:016x}")});
    let id = id.map_or_else(String::new, |id| format!("id: {id}\n"));
    format!("{id}event: {event}\ndata: {data}\n\n")
}

#[tokio::test]
async fn a_list_that_went_astray_is_found_by_its_sign_and_asked_for_anew_without_the_others() {
    let (a, b) =
        (super::instance::tests::instance("a", 1), super::instance::tests::instance("b", 2));
    let (one, both) = (sign([&a]), sign([&a, &b]));
    // Somebody has lost what was told of b.
    let first = told("snapshot", None, "api", 5, &[&a], one)
        + &told("snapshot", Some(5), "web", 5, &[&a], one)
        + &told("delta", Some(7), "web", 7, &[], both);
    let second = told("snapshot", Some(7), "web", 7, &[&a, &b], both);
    let sign = |sign: u64| serde_json::json!({"revision": 7, "sign": format!("{sign:016x}")});
    let registry = Arc::new(Scripted {
        scripts: Mutex::new(VecDeque::from([first, second])),
        signs: serde_json::json!({"versions": {"api": sign(one), "web": sign(both)}, "zxid": 7}),
        asked: Mutex::default(),
    });
    let router = axum::Router::new().fallback(scripted).with_state(registry.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

    let compare = Duration::from_secs(3_600);
    let options = SubscriptionOptions { compare, ..SubscriptionOptions::default() };
    let services = ["web".to_owned(), "api".to_owned()];
    let main = Registry::new("main", &[endpoint]).unwrap();
    let subscription = Subscription::start(&[main], &services, options).await.unwrap();
    let mut changes = subscription.changes();
    while subscription.providers("web").map_or(0, |providers| providers.instances.len()) < 2 {
        changes.changed().await.unwrap();
    }
    assert!(!subscription.providers("api").unwrap().is_stale);
    assert_eq!(
        *registry.asked.lock(),
        [
            serde_json::json!({"services": [{"name": "api"}, {"name": "web"}]}),
            serde_json::json!({"services": [{"name": "api", "since": 7}, {"name": "web"}]}),
        ]
    );
    serving.abort();
}
