use std::time::Duration;

use serde_json::{Value, json};

use super::{Bed, pass};
use crate::node::{Delivery, Subscription};
use crate::types::ZnodePath;
use crate::watch::{Filter, WatchKind};

const PATH: &str = "/services/web/providers/a";
const DRAIN: &str = "POST /v1/services/web/providers/a/drain";

async fn register(bed: &Bed, token: &str) {
    let provider = json!({"id": "a", "host": "10.0.0.1", "port": 1, "weight": 7});
    let got = bed.register(token, "web", provider).await;
    assert!(got.status < 300, "{}", got.json());
}

async fn provider(bed: &Bed) -> Value {
    bed.get("/v1/services/web").await.json()["providers"][0].clone()
}

/// Subscribes to the providers, and takes the snapshot.
async fn subscriber(bed: &Bed) -> Subscription {
    subscriber_to(bed, "/services/web/providers").await
}

async fn subscriber_to(bed: &Bed, list: &str) -> Subscription {
    let path = ZnodePath::parse(list).unwrap();
    let filter = Filter { path, kind: WatchKind::ChildrenData };
    let mut subscription = bed.node.subscribe(vec![filter], None, 0).unwrap();
    let first = subscription.next(Duration::from_secs(30)).await;
    assert!(matches!(first, Some(Delivery::Snapshot { .. })));
    subscription
}

/// Returns whether each subscriber has seen the latest change.
async fn seen_by(bed: &Bed) -> Vec<bool> {
    let got = bed.get("/v1/services/web/subscribers").await.json();
    assert_eq!(got["subscribers"][0]["list"], "/services/web/providers", "{got}");
    let all = got["subscribers"].as_array().unwrap();
    all.iter().map(|one| one["has_seen"].as_bool().unwrap()).collect()
}

fn counts(told: &Value) -> (u64, u64) {
    assert_eq!(told["unknown"], json!([]), "{told}");
    (told["notified"].as_u64().unwrap(), told["lagging"].as_u64().unwrap())
}

#[tokio::test]
async fn a_provider_that_leaves_is_shown_as_draining_counts_who_knows_and_goes_at_its_deadline() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    let auth = [("roost-session", token.as_str())];
    register(&bed, &token).await;
    let mut hears = subscriber(&bed).await;
    let hangs = subscriber(&bed).await;
    let asked = r#"{"deadline_ms":600000,"wait":"none","reason":"a restart"}"#;
    assert_eq!(seen_by(&bed).await, [true, true]);
    let drained = bed.send(DRAIN, &auth, asked).await.json();
    assert_eq!(counts(&drained), (0, 2), "{drained}");
    let shown = provider(&bed).await;
    assert_eq!((&shown["status"], &shown["weight"]), (&json!("draining"), &json!(0)));
    let told = hears.next(Duration::from_secs(30)).await;
    assert!(matches!(told, Some(Delivery::Messages { .. })));
    assert_eq!(seen_by(&bed).await, [true, false]);
    let progress = || bed.get("/v1/services/web/providers/a/drain");
    let seen = progress().await.json();
    assert_eq!((counts(&seen), &seen["zxid"]), ((1, 1), &drained["zxid"]));
    // Whoever hangs does not hold up the answer for longer than was asked for.
    let again = bed.send(DRAIN, &auth, r#"{"deadline_ms":600000,"wait_ms":100}"#).await.json();
    assert_eq!(counts(&again), (1, 1));
    assert!(again["zxid"].as_u64() > drained["zxid"].as_u64(), "another deadline: {again}");
    // Registering again does not bring it back.
    register(&bed, &token).await;
    let line = bed.get("/v1/audit").await.json();
    assert!(line.to_string().contains("a restart"), "{line}");
    assert!(!line.to_string().contains("super"), "what the node lends is not the client's: {line}");
    let sooner = bed.send(DRAIN, &auth, r#"{"deadline_ms":1000,"wait":"none"}"#).await;
    assert_eq!(sooner.status, 200);
    drop(hangs);
    while bed.node.local().get(PATH).is_some() {
        bed.send("GET /v1/services/web", &auth, "").await;
        pass(Duration::from_millis(100)).await;
    }
    assert_eq!(progress().await.error(), (404, "no_node".to_owned()));
    assert_eq!(bed.node.local().get("/roost/drains").unwrap().num_children(), 0);
    register(&bed, &token).await;
    let back = provider(&bed).await;
    assert_eq!((&back["status"], &back["weight"]), (&json!("up"), &json!(7)), "it is another one");
}

#[tokio::test]
async fn another_incarnation_under_the_same_id_is_not_hit() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    let auth = [("roost-session", token.as_str())];
    register(&bed, &token).await;
    bed.send(DRAIN, &auth, r#"{"deadline_ms":1000,"wait":"none"}"#).await;
    bed.send("DELETE /v1/services/web/providers/a", &auth, "").await;
    register(&bed, &token).await;
    while bed.node.local().get("/roost/drains").unwrap().num_children() > 0 {
        pass(Duration::from_millis(100)).await;
    }
    let back = provider(&bed).await;
    assert_eq!((&back["status"], &back["weight"]), (&json!("up"), &json!(7)));
}

#[tokio::test]
async fn a_dubbo_provider_that_leaves_is_governed_by_a_configurator_until_it_has_gone() {
    let bed = Bed::new().await;
    let path = "/dubbo/Demo/providers/dubbo%3A%2F%2F10.0.0.1%3A20880%2FDemo";
    let url = format!("/v1/znodes{}?parents=true", path.replace('%', "%25"));
    assert_eq!(bed.post(&url, "").await.status, 201);
    let drain = json!({"instance": path, "deadline_ms": 1000, "wait": "none"}).to_string();
    assert_eq!(bed.post("/v1/drain", drain).await.status, 200);
    let governed = |bed: &Bed| {
        let tree = bed.node.local();
        let names = tree.get("/dubbo/Demo/configurators").unwrap().children();
        names.map(|path| path.name().to_owned()).collect::<Vec<_>>()
    };
    let names = governed(&bed);
    assert!(names.len() == 1 && names[0].contains("weight%3D0"), "{names:?}");
    while !governed(&bed).is_empty() {
        pass(Duration::from_millis(100)).await;
    }
    assert!(bed.node.local().get(path).is_none());
    assert_eq!(bed.node.local().get("/roost/effects").unwrap().num_children(), 0);
}

#[tokio::test]
async fn an_instance_of_a_namespace_leaves_as_one_of_the_default_one_and_it_is_known_who_follows() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    let auth = [("roost-session", token.as_str())];
    let list = "/ns/red/dubbo/com.a.Demo/providers";
    let dubbo = format!("{list}/dubbo%3A%2F%2F10.0.0.5%3A20880%2Fcom.a.Demo");
    let escaped = dubbo.replace('%', "%25");
    let create = format!("POST /v1/znodes{escaped}?mode=ephemeral&parents=true");
    assert_eq!(bed.send(&create, &auth, "").await.status, 201);
    let _follows = subscriber_to(&bed, list).await;
    let got = bed.get("/v1/services/com.a.Demo/subscribers?namespace=red").await.json();
    let all = got["subscribers"].as_array().unwrap();
    assert_eq!((all.len(), &all[0]["list"], &all[0]["has_seen"]), (1, &json!(list), &json!(true)));
    let elsewhere = bed.get("/v1/services/com.a.Demo/subscribers").await;
    assert_eq!(elsewhere.error(), (404, "no_node".to_owned()));

    let asked = json!({"instance": dubbo, "wait": "none"}).to_string();
    assert_eq!(bed.send("POST /v1/drain", &auth, asked).await.status, 200);
    let shown = bed.get("/v1/ns/red/services/com.a.Demo").await.json();
    assert_eq!(shown["providers"][0]["weight"], 0, "{shown}");

    let body = json!({"id": "a", "host": "10.0.0.1", "port": 1}).to_string();
    assert_eq!(bed.send("POST /v1/ns/red/services/web/providers", &auth, body).await.status, 201);
    let drain = "/v1/ns/red/services/web/providers/a/drain";
    assert_eq!(bed.get(drain).await.error(), (404, "no_node".to_owned()));
    let asked = r#"{"wait":"none"}"#;
    assert_eq!(bed.send(&format!("POST {drain}"), &auth, asked).await.status, 200);
    assert_eq!(bed.get(drain).await.json()["path"], "/ns/red/services/web/providers/a");
    let shown = bed.get("/v1/ns/red/services/web").await.json();
    assert_eq!(shown["providers"][0]["status"], "draining", "{shown}");
}

#[tokio::test]
async fn an_instance_whose_layout_cannot_say_that_it_leaves_is_refused_and_stays() {
    let bed = Bed::new().await;
    for (path, data) in [
        ("/microservices/k/a", r#"{"id":"a","endpoints":["grpc://10.0.0.1:9000"]}"#),
        ("/services/curator/a", r#"{"name":"curator","id":"a","address":"10.0.0.1","port":1}"#),
        ("/serverset/s/member_1", r#"{"serviceEndpoint":{"host":"10.0.0.1","port":1}}"#),
        ("/motan/g/s/server/10.0.0.1:1", "motan://10.0.0.1:1/s?group=g"),
        ("/dubbo/Demo/providers/dubbo%3A%2F%2F10.0.0.1%2FDemo", ""),
    ] {
        let url = format!("/v1/znodes{}?parents=true", path.replace('%', "%25"));
        assert_eq!(bed.post(&url, data.to_owned()).await.status, 201, "{path}");
        for wait in ["all_subscribers", "none"] {
            let asked = json!({"instance": path, "deadline_ms": 1, "wait": wait}).to_string();
            let got = bed.post("/v1/drain", asked).await;
            assert_eq!(got.error(), (400, "unimplemented".to_owned()), "{path}");
            assert!(got.json()["message"].as_str().unwrap().contains("deregister"), "{path}");
        }
    }
    assert!(bed.node.local().get("/roost/drains").is_none(), "nothing will be removed");
}

#[tokio::test]
async fn only_its_session_or_whoever_may_delete_it_lets_a_provider_leave() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    let auth = [("roost-session", token.as_str())];
    register(&bed, &token).await;
    let acl = r#"{"acl":[{"perms":"cr","scheme":"world","id":"anyone"}]}"#;
    assert_eq!(bed.send("PUT /v1/acl/services/web/providers", &[], acl).await.status, 200);
    assert_eq!(bed.send(DRAIN, &[], "{}").await.error(), (403, "no_auth".to_owned()));
    assert_eq!(provider(&bed).await["status"], "up");
    // Nor is there a way around that.
    let note = bed.post("/v1/znodes/roost/drains/%252Fa?parents=true", "{}").await;
    assert_eq!(note.error(), (400, "bad_arguments".to_owned()));
    for other in ["/services", "/zookeeper/config", "/zookeeper"] {
        let got = bed.post("/v1/drain", json!({ "instance": other }).to_string()).await;
        assert_eq!(got.error(), (400, "bad_arguments".to_owned()), "{other} is no instance");
    }
    let missing = bed.post("/v1/services/web/providers/b/drain", "{}").await;
    assert_eq!(missing.error(), (404, "no_node".to_owned()));
    for (body, word) in [
        (r#"{"deadline_ms":0}"#, "deadline_ms"),
        (r#"{"deadline_ms":90000000}"#, "deadline_ms"),
        (r#"{"wait_ms":60001}"#, "wait_ms"),
        (r#"{"wait":"half"}"#, "half"),
        (r#"{"deadline":1}"#, "deadline"),
    ] {
        let got = bed.send(DRAIN, &auth, body).await;
        assert_eq!(got.status, 400, "{body}");
        assert!(got.json()["message"].as_str().unwrap().contains(word), "{}", got.json());
    }
    let got = bed.get("/v1/services/web/providers/a/drain").await;
    assert_eq!(got.error(), (404, "no_node".to_owned()), "it is not leaving");
    assert_eq!(bed.send(DRAIN, &auth, r#"{"wait":"none"}"#).await.status, 200);
}
