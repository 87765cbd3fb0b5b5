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
    AccrualOptions, Discovery, Incarnations, Instance, LookupError, MergeRule, PoolOptions,
    Providers, Registrar, RegistrarOptions, RegistrationState, Registry, Service, ServicePool,
    Subscription, SubscriptionOptions, sign,
};
use crate::client::model::Registration;

/// Nobody listens at port 1 of an address of the loopback network that nobody uses.
const DEAD: &str = "127.255.255.254:1";
const PATIENCE: Duration = Duration::from_secs(60);

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

/// A registry whose streams are scripts: each request for one gets the next, which then stays open; which answers so when it
/// is asked for versions, and lets nobody follow what it names there as refused. Notes the bodies of the requests for streams.
struct Scripted {
    scripts: Mutex<VecDeque<String>>,
    versions: Mutex<serde_json::Value>,
    asked: Mutex<Vec<serde_json::Value>>,
    /// How often it was asked for versions.
    compared: watch::Sender<u64>,
}

/// A [`Scripted`] registry that answers. Ends with the test.
struct Registered {
    endpoint: String,
    registry: Arc<Scripted>,
    task: JoinHandle<()>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Registered {
    async fn start(
        scripts: impl IntoIterator<Item = String>,
        versions: serde_json::Value,
    ) -> Registered {
        let registry = Arc::new(Scripted {
            scripts: Mutex::new(scripts.into_iter().collect()),
            versions: Mutex::new(versions),
            asked: Mutex::default(),
            compared: watch::channel(0).0,
        });
        let router = axum::Router::new().fallback(scripted).with_state(registry.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Registered { endpoint, registry, task }
    }

    /// Follows these services, and compares them with the registry's so often.
    async fn follow(&self, services: &[&str], compare: Duration) -> Subscription {
        let options = SubscriptionOptions { compare, ..SubscriptionOptions::default() };
        let services: Vec<String> = services.iter().map(|&name| name.to_owned()).collect();
        Subscription::start(&[registry(&self.endpoint)], &services, options).await.unwrap()
    }

    /// Answers so from now on, and returns when it has done that several times.
    async fn compared(&self, versions: serde_json::Value) {
        *self.registry.versions.lock() = versions;
        let mut compared = self.registry.compared.subscribe();
        let enough = *compared.borrow_and_update() + 4;
        compared.wait_for(|count| *count >= enough).await.unwrap();
    }

    fn asked(&self) -> Vec<serde_json::Value> {
        self.registry.asked.lock().clone()
    }
}

async fn scripted(registry: State<Arc<Scripted>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
    match path.as_str() {
        "/v1/watch" => {
            let asked: serde_json::Value = serde_json::from_slice(&body).unwrap();
            registry.asked.lock().push(asked.clone());
            let refused = registry.versions.lock()["refused"].clone();
            let is_refused = |one: &serde_json::Value| {
                one["name"].as_str().is_some_and(|name| refused.get(name).is_some())
            };
            if asked["services"].as_array().unwrap().iter().any(is_refused) {
                let refusal = r#"{"code":"no_auth","message":"one of them is closed"}"#;
                return (StatusCode::FORBIDDEN, refusal).into_response();
            }
            let script = registry.scripts.lock().pop_front().unwrap_or_default();
            let told = stream::iter([Ok::<_, Infallible>(script)]).chain(stream::pending());
            ([("content-type", "text/event-stream")], Body::from_stream(told)).into_response()
        }
        "/v1/versions" => {
            registry.compared.send_modify(|count| *count += 1);
            registry.versions.lock().to_string().into_response()
        }
        _ => (StatusCode::NOT_FOUND, r#"{"code":"not_found","message":"no"}"#).into_response(),
    }
}

/// Returns when this holds of what a subscription lists of a service.
async fn until(subscription: &Subscription, service: &str, holds: impl Fn(&Providers) -> bool) {
    let mut changes = subscription.changes();
    let waiting = async {
        while !subscription.providers(service).is_ok_and(|providers| holds(&providers)) {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it is so in time");
}

fn version(revision: u64, sign: u64) -> serde_json::Value {
    serde_json::json!({"revision": revision, "sign": format!("{sign:016x}")})
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
    let versions = serde_json::json!({
        "versions": {"api": version(5, one), "web": version(7, both)}, "zxid": 7,
    });
    let registered = Registered::start([first, second], versions).await;
    let subscription = registered.follow(&["web", "api"], Duration::from_secs(3_600)).await;
    until(&subscription, "web", |it| it.instances.len() == 2).await;
    assert!(!subscription.providers("api").unwrap().is_stale);
    assert_eq!(
        registered.asked(),
        [
            serde_json::json!({"services": [{"name": "api"}, {"name": "web"}]}),
            serde_json::json!({"services": [{"name": "api", "since": 7}, {"name": "web"}]}),
        ]
    );
}

#[tokio::test]
async fn a_service_that_may_not_be_followed_keeps_no_other_from_being_told_and_is_asked_for_again()
{
    let (a, b) =
        (super::instance::tests::instance("a", 1), super::instance::tests::instance("b", 2));
    let without = told("snapshot", Some(5), "api", 5, &[&a], sign([&a]));
    let with = told("snapshot", Some(9), "web", 9, &[&b], sign([&b]));
    let api = version(5, sign([&a]));
    let versions = serde_json::json!({
        "versions": {"api": api}, "refused": {"web": "only the shop may"}, "zxid": 5,
    });
    let registered = Registered::start([without, with], versions).await;
    let subscription = registered.follow(&["api", "web"], Duration::from_millis(50)).await;
    until(&subscription, "api", |it| it.instances.len() == 1).await;
    assert!(!subscription.providers("api").unwrap().is_stale);
    let error = subscription.providers("web").unwrap_err();
    let LookupError::NoKnownProviders { why: Some(why), .. } = &error else { panic!("{error}") };
    assert_eq!((why.code(), why.message()), ("no_auth", "only the shop may"));

    *registered.registry.versions.lock() = serde_json::json!({
        "versions": {"api": api, "web": version(9, sign([&b]))}, "refused": {}, "zxid": 9,
    });
    until(&subscription, "web", |it| it.instances.len() == 1).await;
    assert_eq!(
        registered.asked(),
        [
            serde_json::json!({"services": [{"name": "api"}, {"name": "web"}]}),
            serde_json::json!({"services": [{"name": "api"}]}),
            serde_json::json!({"services": [{"name": "api", "since": 5}, {"name": "web"}]}),
        ]
    );
}

#[tokio::test]
async fn changes_that_have_not_been_told_yet_are_no_reason_to_ask_for_a_list_anew() {
    let (a, b) =
        (super::instance::tests::instance("a", 1), super::instance::tests::instance("b", 2));
    let (one, both) = (sign([&a]), sign([&a, &b]));
    let first = told("snapshot", None, "api", 5, &[&a], one)
        + &told("snapshot", Some(5), "web", 5, &[&a], one);
    let second = told("snapshot", Some(5), "api", 5, &[], 0);
    let versions = |api: serde_json::Value, web, zxid: u64| {
        let mut versions = serde_json::json!({"versions": {"web": web}, "zxid": zxid});
        if api.is_object() {
            versions["versions"]["api"] = api;
        }
        versions
    };
    let same = version(5, one);
    let registered =
        Registered::start([first, second], versions(same.clone(), same.clone(), 5)).await;
    let subscription = registered.follow(&["api", "web"], Duration::from_millis(10)).await;
    until(&subscription, "api", |it| it.instances.len() == 1).await;
    until(&subscription, "web", |it| it.instances.len() == 1).await;
    // Both have changed, and nobody has told of it yet: one has another instance, the other has none any more.
    registered.compared(versions(same.clone(), version(9, both), 9)).await;
    registered.compared(versions(serde_json::Value::Null, version(9, both), 9)).await;
    assert_eq!(registered.asked().len(), 1);
    // Everything up to here has been told, and what was said of one of them has been lost.
    registered.compared(versions(same.clone(), same.clone(), 5)).await;
    registered.compared(versions(serde_json::Value::Null, same, 5)).await;
    until(&subscription, "api", |it| it.is_guarded).await;
    assert_eq!(
        registered.asked()[1..],
        [serde_json::json!({"services": [{"name": "api"}, {"name": "web", "since": 5}]})]
    );
}

#[tokio::test]
async fn of_two_registries_the_one_in_which_somebody_is_there_is_asked_before_one_that_remembers_all()
 {
    let (a, b) =
        (super::instance::tests::instance("a", 1), super::instance::tests::instance("b", 2));
    let none = serde_json::json!({"versions": {}, "zxid": 6});
    let snapshot = |service: &str, zxid, all: &[&Instance]| {
        told("snapshot", Some(zxid), service, zxid, all, 0)
    };
    // All of both have fallen silent.
    let silent = ["api", "web"]
        .map(|service| snapshot(service, 5, &[&a]) + &snapshot(service, 6, &[]))
        .concat();
    let near = Registered::start([silent], none.clone()).await;
    let far = Registered::start([snapshot("api", 5, &[]) + &snapshot("web", 5, &[&b])], none).await;
    let registries = [registry(&near.endpoint), registry(&far.endpoint)];
    let services = ["api".to_owned(), "web".to_owned()];
    let merge = MergeRule::FirstWithTraffic;
    let compare = Duration::from_secs(3_600);
    let options = SubscriptionOptions { merge, compare, ..SubscriptionOptions::default() };
    let subscription = Subscription::start(&registries, &services, options).await.unwrap();
    let is = |it: &Providers, id: &str, is_guarded: bool| {
        it.instances.len() == 1
            && it.instances[0].id == id
            && (it.is_guarded, it.is_stale) == (is_guarded, false)
    };
    // Only the far one has nothing of `api`, once it has spoken of `web`, and the near one has lost both.
    until(&subscription, "api", |it| is(it, "a", true)).await;
    until(&subscription, "web", |it| is(it, "b", false)).await;
    assert!(is(&subscription.providers("api").unwrap(), "a", true));
}

#[tokio::test]
async fn who_is_not_listed_any_more_is_not_looked_after_though_nobody_picks() {
    let gone = Instance { incarnation: 1, modified: 1, ..Instance::fixed("127.255.255.254", 1) };
    let stays = super::instance::tests::instance("b", 1);
    let (one, both) = (sign([&stays]), sign([&gone, &stays]));
    let first = told("snapshot", Some(5), "web", 5, &[&gone, &stays], both);
    let second = told("snapshot", Some(6), "web", 6, &[&stays], one);
    let versions = serde_json::json!({"versions": {"web": version(5, both)}, "zxid": 5});
    let registered = Registered::start([first, second], versions).await;
    let subscription = registered.follow(&["web"], Duration::from_millis(10)).await;
    until(&subscription, "web", |it| it.instances.len() == 2).await;
    let accrual = AccrualOptions { failures: 1, probe_interval_ms: 5 };
    let options = PoolOptions { accrual, ..PoolOptions::default() };
    let pool = ServicePool::new(&subscription, "web", options);
    pool.pick_except(&[stays.addr()]).unwrap().failed();
    assert_eq!(pool.unavailable(), [gone.addr()]);
    *registered.registry.versions.lock() =
        serde_json::json!({"versions": {"web": version(5, one)}, "zxid": 6});
    until(&subscription, "web", |it| it.instances.len() == 1).await;
    let forgotten = async {
        while !pool.unavailable().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, forgotten).await.expect("there is nobody to look after");
}
