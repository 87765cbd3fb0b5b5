//! The view of services where there are very many: what it says is right, and what it costs depends on what is asked for alone.
//!
//! The cost is counted, in znodes that are looked up: asked of a tree in which nothing but the service is, the same question
//! costs the same.

use std::ops::Range;

use serde_json::{Value, json};

use super::super::service_body::service_body;
use super::super::service_delta::DeltaBody;
use super::super::service_view::{ServiceView, counts};
use super::super::service_wanted::Wanted;
use super::Bed;
use crate::node::Node;
use crate::registry;
use crate::tree::{Tree, looked_up};
use crate::types::{
    CreateMode, Data, Op, Outcome, Reply, SessionId, Txn, TxnTime, ZnodePath, Zxid,
};

const SERVICES: usize = 5_000;
/// Providers of each: 100,000 together.
const EACH: usize = 20;
/// Of so many services one is of Dubbo's layout, the others of roost's own.
const OF_DUBBO: usize = 4;
const PAGE: usize = 1_000;

/// Applies an op of a session.
pub(super) fn apply(tree: &mut Tree, session: SessionId, op: Op) -> Reply {
    let (origin, owner, authority) = (Default::default(), None, Vec::new());
    let txn = Txn { origin, session, owner, authority, idempotency_key: None, op };
    match tree.apply(TxnTime::default(), &txn) {
        Outcome::Applied(applied) => applied.result.unwrap(),
        other => unreachable!("an untracked origin is always applied: {other:?}"),
    }
}

pub(super) fn open(tree: &mut Tree) -> SessionId {
    let op = Op::OpenSession { timeout_ms: 600_000, password: [0; 16], owner: None };
    match apply(tree, SessionId::NONE, op) {
        Reply::Session { session, .. } => session,
        other => unreachable!("{other:?}"),
    }
}

/// Creates a znode and what is missing above it: an ephemeral of the session, if one is given.
pub(super) fn create(tree: &mut Tree, session: SessionId, path: &str, data: &str) {
    let path = ZnodePath::parse(path).unwrap();
    let mut missing: Vec<_> = path.self_and_ancestors().skip(1).collect();
    missing.retain(|above| tree.get(above).is_none());
    let folders = missing.iter().rev().map(|above| ZnodePath::parse(above).unwrap());
    for folder in folders.collect::<Vec<_>>() {
        make(tree, SessionId::NONE, &folder, None, CreateMode::Persistent);
    }
    let mode = match session.is_none() {
        true => CreateMode::Persistent,
        false => CreateMode::Ephemeral,
    };
    make(tree, session, &path, Some(Data::new(data.as_bytes())), mode);
}

fn make(
    tree: &mut Tree,
    session: SessionId,
    path: &ZnodePath,
    data: Option<Data>,
    mode: CreateMode,
) {
    let (parent, name) = (path.parent().unwrap(), path.name().to_owned());
    apply(tree, session, Op::Create { parent, name, data, acl: Vec::new(), mode });
}

fn name(service: usize) -> String {
    format!("service-{service:04}")
}

fn host(service: usize, instance: usize) -> String {
    format!("10.{}.{}.{instance}", service / 250, service % 250)
}

fn list(service: usize) -> String {
    let name = name(service);
    match service % OF_DUBBO {
        0 => format!("/dubbo/{name}/providers"),
        _ => format!("/services/{name}/providers"),
    }
}

fn entry(service: usize, instance: usize) -> (String, String) {
    let (list, host) = (list(service), host(service, instance));
    match service % OF_DUBBO {
        0 => (format!("{list}/dubbo%3A%2F%2F{host}%3A20880%2F{}", name(service)), String::new()),
        _ => (format!("{list}/i{instance:02}"), json!({"host": host, "port": 20880}).to_string()),
    }
}

/// Returns a tree with these services.
fn holding(services: Range<usize>) -> Tree {
    let mut tree = Tree::new();
    let sessions: Vec<SessionId> = (0..EACH).map(|_| open(&mut tree)).collect();
    for service in services {
        for (instance, session) in sessions.iter().enumerate() {
            let (path, data) = entry(service, instance);
            create(&mut tree, *session, &path, &data);
        }
    }
    tree
}

fn wanted(service: usize) -> Wanted {
    Wanted { service: name(service), ..Wanted::default() }
}

/// Returns the view of a service and all that has changed of it since a zxid, and what each costs.
fn view(tree: &Tree, service: usize, since: Zxid) -> ((Value, u64), (Value, u64)) {
    let whole = looked_up::during(|| {
        let view = ServiceView::of(tree, &[], wanted(service)).unwrap();
        serde_json::to_value(service_body(&view, false, tree.zxid().0)).unwrap()
    });
    let delta = looked_up::during(|| {
        let view = ServiceView::of(tree, &[], wanted(service)).unwrap();
        serde_json::to_value(DeltaBody::new(&view, Some(since), Some(&[]), tree.zxid())).unwrap()
    });
    (whole, delta)
}

/// Returns the sign of the registrations that a view shows, made as docs/SERVICES.md says.
fn sign_of(view: &Value) -> String {
    let signs = view["providers"].as_array().unwrap().iter().map(|one| {
        let number = |field: &str| one[field].as_u64().unwrap();
        registry::sign(one["id"].as_str().unwrap(), number("incarnation"), number("modified"))
    });
    format!("{:016x}", signs.fold(0, u64::wrapping_add))
}

fn hosts(list: &Value) -> Vec<&str> {
    let mut hosts: Vec<_> =
        list.as_array().unwrap().iter().map(|one| one["host"].as_str().unwrap()).collect();
    hosts.sort_unstable();
    hosts
}

#[tokio::test]
async fn a_question_about_one_of_five_thousand_services_is_answered_right_and_costs_what_is_asked_for()
 {
    let tree = holding(0..SERVICES);
    assert_eq!(tree.ephemeral_count(), (SERVICES * EACH) as u64);
    assert_eq!(tree.services(), &tree.found_services());
    let last = tree.zxid();
    for service in [0, 1, 2_500, 2_501, SERVICES - 2, SERVICES - 1] {
        let ((whole, cost), (delta, delta_cost)) = view(&tree, service, last);
        let mut expected: Vec<String> = (0..EACH).map(|instance| host(service, instance)).collect();
        expected.sort();
        assert_eq!(hosts(&whole["providers"]), expected, "{service}");
        assert_eq!((&whole["unparsable"], &whole["conflicts"]), (&json!([]), &json!([])));
        let providers = whole["providers"].as_array().unwrap().iter();
        let newest = providers.map(|one| one["modified"].as_u64().unwrap()).max();
        assert_eq!((whole["revision"].as_u64(), &whole["sign"]), (newest, &json!(sign_of(&whole))));
        assert_eq!((&delta["upsert"], &delta["remove"]), (&json!([]), &json!([])), "{service}");
        assert_eq!(delta["sign"], whole["sign"]);

        let alone = holding(service..service + 1);
        let ((_, alone_cost), (_, alone_delta)) = view(&alone, service, alone.zxid());
        assert_eq!(
            (cost, delta_cost),
            (alone_cost, alone_delta),
            "{service}: no other is looked at"
        );
        assert!(cost < 10 * EACH as u64, "{cost} lookups");
    }

    // One page of names with their numbers costs as much as these services do.
    let cost_of = |tree: &Tree, after: &str| {
        looked_up::during(|| {
            let named = tree.services().named("", "", after).take(100);
            let name = |name: &str| Wanted { service: name.to_owned(), ..Wanted::default() };
            named.map(|(service, _)| counts(tree, &[], &name(service)).0).sum::<usize>()
        })
    };
    let some = holding(2_501..2_601);
    let page = cost_of(&tree, &name(2_500));
    assert_eq!(page, cost_of(&some, ""));
    assert_eq!(page.0, 100 * EACH);

    // The same through the door, page by page.
    let bed = Bed::over(Node::holding(tree).await);
    let mut names = Vec::new();
    let mut after = String::new();
    loop {
        let page = bed.get(&format!("/v1/services?limit={PAGE}&after={after}")).await.json();
        let services = page["services"].as_array().unwrap();
        assert!(services.len() <= PAGE);
        for one in services {
            assert_eq!((&one["providers"], &one["consumers"]), (&json!(EACH), &json!(0)), "{one}");
            names.push(one["name"].as_str().unwrap().to_owned());
        }
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(names, (0..SERVICES).map(name).collect::<Vec<_>>());
    let some = bed.get("/v1/services?prefix=service-49&limit=10000").await.json();
    assert_eq!(some["services"].as_array().unwrap().len(), 100);

    // What changes of one service is told of that one, and moves the version of no other.
    let versions = async || {
        let body = json!({"services": names[1_000..1_100]}).to_string();
        bed.post("/v1/versions", body).await.json()["versions"].clone()
    };
    let (before, changed) = (versions().await, 1_001);
    let since = bed.get("/v1/version").await.json()["zxid"].as_u64().unwrap();
    let at = |instance: usize| format!("/v1/znodes{}", entry(changed, instance).0);
    let moved = json!({"host": "10.99.0.1", "port": 20880}).to_string();
    assert_eq!(bed.send(&format!("PUT {}", at(3)), &[], moved.clone()).await.status, 200);
    assert_eq!(bed.send(&format!("DELETE {}", at(7)), &[], "").await.status, 200);
    assert_eq!(bed.post(&at(EACH), moved.replace("99.0.1", "99.0.2")).await.status, 201);
    let uri = format!("/v1/services/{}", name(changed));
    let delta = bed.get(&format!("{uri}?since={since}")).await.json();
    assert_eq!(hosts(&delta["upsert"]), ["10.99.0.1", "10.99.0.2"]);
    assert_eq!(delta["remove"], json!([entry(changed, 7).0]));
    let whole = bed.get(&uri).await.json();
    assert_eq!(whole["providers"].as_array().unwrap().len(), EACH);
    assert_eq!((&delta["full"], &delta["sign"]), (&json!(false), &json!(sign_of(&whole))));
    let after = versions().await;
    let versions = |of: &Value| of.as_object().unwrap().clone();
    let (before, after) = (versions(&before), versions(&after));
    let differing: Vec<_> = after.iter().filter(|(name, now)| before[*name] != **now).collect();
    assert_eq!(differing.len(), 1, "{differing:?}");
    assert_eq!((differing[0].0, &differing[0].1["sign"]), (&name(changed), &whole["sign"]));
}
