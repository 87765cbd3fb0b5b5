//! Following services by what changes of them.

use std::collections::BTreeMap;

use axum::body::BodyDataStream;
use futures::StreamExt;
use serde_json::{Value, json};

use super::{Bed, event};
use crate::limits::{DATA_BYTES_MAX, LAYOUTS_MAX, MAILBOX_MESSAGES_MAX, STREAM_SERVICES_MAX};
use crate::registry;

/// A copy of a list, kept as docs/SERVICES.md says.
#[derive(Default)]
pub(super) struct Copy(BTreeMap<String, (String, u64, u64)>);

impl Copy {
    pub(super) fn take(&mut self, told: &Value) {
        if told["full"] == true {
            self.0.clear();
        }
        for part in ["upsert", "unparsable"] {
            for one in told[part].as_array().unwrap() {
                let text = |name: &str| one[name].as_str().unwrap().to_owned();
                let number = |name: &str| one[name].as_u64().unwrap();
                let entry = (text("id"), number("incarnation"), number("modified"));
                self.0.insert(text("path"), entry);
            }
        }
        for path in told["remove"].as_array().unwrap() {
            self.0.remove(path.as_str().unwrap());
        }
    }

    pub(super) fn sign(&self) -> String {
        let signs =
            self.0.values().map(|(id, created, modified)| registry::sign(id, *created, *modified));
        format!("{:016x}", signs.fold(0, u64::wrapping_add))
    }
}

pub(super) async fn register(bed: &Bed, token: &str, service: &str, id: &str, weight: u32) {
    let provider = json!({"id": id, "host": "10.0.0.1", "port": 80, "weight": weight});
    let got = bed.register(token, service, provider).await;
    assert!(got.status < 300, "{}", got.json());
}

pub(super) async fn deregister(bed: &Bed, service: &str, id: &str) {
    let uri = format!("DELETE /v1/services/{service}/providers/{id}?force=true");
    assert_eq!(bed.send(&uri, &[], "").await.status, 200);
}

pub(super) async fn open(bed: &Bed, services: Value) -> (BodyDataStream, String) {
    let body = json!({ "services": services }).to_string();
    let response = bed.raw("POST /v1/watch", &[], body).await;
    assert_eq!(response.status(), 200);
    (response.into_body().into_data_stream(), String::new())
}

/// Registers an instance of a service, and returns a stream of it with what it has told so far.
async fn followed(bed: &Bed, token: &str) -> (BodyDataStream, String, Copy) {
    register(bed, token, "web", "a", 1).await;
    let (mut stream, mut buffer) = open(bed, json!([{"name": "web"}])).await;
    let mut copy = Copy::default();
    copy.take(&event(&mut stream, &mut buffer).await.2);
    (stream, buffer, copy)
}

pub(super) async fn sign_of(bed: &Bed, service: &str) -> String {
    let asked = json!({ "services": [service] }).to_string();
    let got = bed.post("/v1/versions", asked).await.json();
    got["versions"][service]["sign"].as_str().unwrap_or_else(|| panic!("{got}")).to_owned()
}

#[tokio::test]
async fn a_question_since_a_zxid_is_answered_with_what_came_and_what_went() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    for id in ["a", "b", "c"] {
        register(&bed, &token, "web", id, 1).await;
    }
    let mut copy = Copy::default();
    let whole = bed.get("/v1/services/web?since=99999").await.json();
    assert_eq!((&whole["full"], whole["upsert"].as_array().unwrap().len()), (&json!(true), 3));
    copy.take(&whole);
    let mut since = whole["to"].as_u64().unwrap();
    bed.post("/v1/znodes/elsewhere", "").await;
    let ask = async |since: u64| bed.get(&format!("/v1/services/web?since={since}")).await;
    let calm = ask(since).await;
    assert_eq!((calm.status, calm.body.len()), (304, 0));
    since = calm.header("roost-zxid").unwrap().parse().unwrap();

    register(&bed, &token, "web", "a", 2).await;
    deregister(&bed, "web", "b").await;
    // Went and came back: what counts is that it is there.
    deregister(&bed, "web", "c").await;
    register(&bed, &token, "web", "c", 3).await;
    bed.post("/v1/znodes/services/web/providers/odd", "?").await;
    let delta = ask(since).await.json();
    assert_eq!((&delta["full"], &delta["from"]), (&json!(false), &json!(since)));
    assert_eq!(delta["remove"], json!(["/services/web/providers/b"]));
    assert_eq!(delta["unparsable"][0]["id"], "odd");
    let weights: Vec<_> =
        delta["upsert"].as_array().unwrap().iter().map(|it| (&it["id"], &it["weight"])).collect();
    assert_eq!(weights, [(&json!("a"), &json!(2)), (&json!("c"), &json!(3))]);
    copy.take(&delta);
    assert_eq!((copy.sign(), copy.0.len()), (delta["sign"].as_str().unwrap().to_owned(), 3));
    assert_eq!(copy.sign(), sign_of(&bed, "web").await);

    // Longer ago than the node remembers: all of it, unless the tag says that nothing has changed.
    for _ in 0..12 {
        bed.send("PUT /v1/znodes/elsewhere", &[], vec![b'x'; DATA_BYTES_MAX]).await;
    }
    let old = ask(since).await;
    assert_eq!((&old.json()["full"], &old.json()["sign"]), (&json!(true), &delta["sign"]));
    let tag = [("if-none-match", old.header("etag").unwrap())];
    let uri = format!("GET /v1/services/web?since={since}");
    assert_eq!(bed.send(&uri, &tag, "").await.status, 304);
    assert_eq!(bed.get("/v1/services/none?since=1").await.status, 404);
}

#[tokio::test]
async fn versions_tell_who_has_to_ask_at_all() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    register(&bed, &token, "web", "a", 1).await;
    let response = bed.raw("GET /v1/version/watch", &[], "").await;
    let (mut stream, mut buffer) = (response.into_body().into_data_stream(), String::new());
    let (_, id, data) = event(&mut stream, &mut buffer).await;
    let before = bed.get("/v1/version").await.json()["zxid"].as_u64();
    assert_eq!((id, data["zxid"].as_u64()), (before, before));
    let sign = sign_of(&bed, "web").await;
    register(&bed, &token, "api", "a", 1).await;
    let (_, id, _) = event(&mut stream, &mut buffer).await;
    assert!(id > before, "{id:?} {before:?}");
    assert_eq!(sign_of(&bed, "web").await, sign, "the other service has not changed");

    let asked = json!({"services": ["web", "none"], "layout": "roost"}).to_string();
    let got = bed.post("/v1/versions", asked).await.json();
    assert_eq!(got["versions"]["web"]["sign"], json!(sign));
    assert!(got["versions"].get("none").is_none(), "{got}");
    let closed = r#"{"acl":[{"perms":"cdrwa","scheme":"digest","id":"u:h"}]}"#;
    bed.send("PUT /v1/acl/services/web/providers", &[], closed).await;
    let refused = bed.post("/v1/versions", r#"{"services":["api","web"]}"#).await;
    assert_eq!(refused.error(), (403, "no_auth".to_owned()));
    let many: Vec<String> = (0..1025).map(|n| n.to_string()).collect();
    let refused = bed.post("/v1/versions", json!({"services": many}).to_string()).await;
    assert_eq!(refused.error(), (400, "bad_arguments".to_owned()));
}

#[tokio::test]
async fn many_streams_of_a_flapping_instance_cost_a_fiftieth_of_whole_lists() {
    const INSTANCES: usize = 1_000;
    const FLAPS: usize = 200;
    const STREAMS: usize = 20;
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    let one = |n: usize| {
        json!({"service": "web", "id": format!("i{n:04}"), "host": "10.0.0.1", "port": n + 1,
        "metadata": {"zone": "a", "release": "2026-11-30"}})
    };
    let all = json!({"providers": (0..INSTANCES).map(one).collect::<Vec<_>>()}).to_string();
    assert_eq!(bed.send("POST /v1/register", &[("roost-session", &token)], all).await.status, 200);
    let whole = bed.get("/v1/services/web").await.body.len();

    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let (mut stream, mut buffer) = open(&bed, json!([{"name": "web"}])).await;
        let (kind, _, data) = event(&mut stream, &mut buffer).await;
        assert_eq!(
            (kind.as_str(), data["upsert"].as_array().unwrap().len()),
            ("snapshot", INSTANCES)
        );
        let mut copy = Copy::default();
        copy.take(&data);
        streams.push((stream, buffer, copy));
    }
    let (mut told, mut last) = (0, String::new());
    for flap in 0..FLAPS {
        match flap % 2 {
            0 => deregister(&bed, "web", "i0500").await,
            _ => register(&bed, &token, "web", "i0500", 100).await,
        }
        last = sign_of(&bed, "web").await;
        for (stream, buffer, copy) in &mut streams {
            let (kind, id, data) = event(stream, buffer).await;
            assert_eq!((kind.as_str(), &data["sign"]), ("delta", &json!(last)));
            // What an event has beside its data: the names of its fields, its id and its end.
            told += data.to_string().len() + 40 + id.map_or(0, |id| id.to_string().len());
            copy.take(&data);
        }
    }
    for (_, _, copy) in &streams {
        assert_eq!((copy.sign(), copy.0.len()), (last.clone(), INSTANCES));
    }
    let lists = whole * FLAPS * STREAMS;
    println!(
        "{told} bytes of deltas, {lists} of lists: {:.3} %",
        told as f64 * 100.0 / lists as f64
    );
    assert!(told * 50 <= lists, "{told} of {lists}");
}

#[tokio::test]
async fn a_stream_has_room_for_all_services_that_it_may_follow_whether_they_exist_or_not() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    let names: Vec<String> = (0..STREAM_SERVICES_MAX).map(|n| format!("s{n}")).collect();
    let asked: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
    // Each has one more place for every layout that says where a name is.
    for n in 0..LAYOUTS_MAX {
        let pattern = format!("/own{n}/{{service}}/{{id}}");
        let policy = json!({"reason": "r", "pattern": pattern, "read": "address_data"}).to_string();
        let set = bed.send(&format!("PUT /v1/policies/layout/l{n}"), &[], policy).await;
        assert_eq!(set.status, 200, "{}", set.json());
    }
    drop(open(&bed, json!(asked)).await);
    for name in &names {
        register(&bed, &token, name, "a", 1).await;
    }
    drop(open(&bed, json!(asked)).await);
}

#[tokio::test]
async fn a_stream_that_is_too_late_gets_one_reset_and_the_whole_lists() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    register(&bed, &token, "web", "a", 1).await;
    let services = json!([{"name": "web"}, {"name": "later"}]);
    let (mut stream, mut buffer) = open(&bed, services).await;
    let (kind, id, _) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), id), ("snapshot", None), "there is more to come from this state");
    let (kind, id, data) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), &data["upsert"]), ("snapshot", &json!([])));
    assert!(id.is_some());
    register(&bed, &token, "later", "l", 1).await;
    let (kind, _, data) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), &data["upsert"][0]["id"]), ("delta", &json!("l")));

    let path = "PUT /v1/znodes/services/web/providers/a";
    let data = |n: usize| json!({"host": "h", "port": 1, "weight": n}).to_string();
    let puts = (0..=MAILBOX_MESSAGES_MAX).map(|n| bed.send(path, &[], data(n)));
    for put in futures::future::join_all(puts).await {
        assert_eq!(put.status, 200);
    }
    let (kind, _, data) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), &data["reason"]), ("reset", &json!("skipped")));
    let mut copies = BTreeMap::new();
    for _ in 0..2 {
        let (kind, _, data) = event(&mut stream, &mut buffer).await;
        assert_eq!(kind, "snapshot");
        let mut copy = Copy::default();
        copy.take(&data);
        copies.insert(data["service"].as_str().unwrap().to_owned(), copy.sign());
    }
    assert_eq!(copies["web"], sign_of(&bed, "web").await);
    register(&bed, &token, "web", "b", 1).await;
    assert_eq!(event(&mut stream, &mut buffer).await.0, "delta", "one reset, and it goes on");

    // Who comes back with a zxid gets the difference, nothing, or a reset when it made that up.
    let zxid = bed.get("/v1/version").await.json()["zxid"].as_u64().unwrap();
    deregister(&bed, "web", "b").await;
    let again = json!([{"name": "web", "since": zxid}, {"name": "later", "since": zxid}]);
    let (mut stream, mut buffer) = open(&bed, again).await;
    let (kind, id, data) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), &data["remove"]), ("delta", &json!(["/services/web/providers/b"])));
    assert_eq!(id, None);
    let (kind, id, _) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), id), ("progress", Some(zxid + 1)));
    let (mut stream, mut buffer) = open(&bed, json!([{"name": "web", "since": 99_999}])).await;
    let (kind, _, data) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), &data["reason"]), ("reset", &json!("not_reached")));
    assert_eq!(event(&mut stream, &mut buffer).await.0, "snapshot");
}

#[tokio::test]
async fn a_delta_that_was_dropped_on_the_way_is_found_by_the_next_sign() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    let (mut stream, mut buffer, mut copy) = followed(&bed, &token).await;
    register(&bed, &token, "web", "lost", 1).await;
    drop(event(&mut stream, &mut buffer).await);
    register(&bed, &token, "web", "c", 1).await;
    let (_, _, data) = event(&mut stream, &mut buffer).await;
    copy.take(&data);
    assert_ne!(json!(copy.sign()), data["sign"], "it has missed something");
    assert_ne!(copy.sign(), sign_of(&bed, "web").await);
    let whole = bed.get("/v1/services/web?since=18446744073709551615").await.json();
    copy.take(&whole);
    assert_eq!(copy.sign(), sign_of(&bed, "web").await);
}

#[tokio::test]
async fn a_stream_of_services_that_comes_back_waits_for_its_wave() {
    let bed = Bed::new().await;
    bed.post("/v1/znodes/roost/effects?parents=true", "").await;
    // Of no session: time passes here.
    let (list, data) = ("/v1/znodes/services/web/providers", r#"{"host":"10.0.0.1","port":80}"#);
    bed.post(&format!("{list}/a?parents=true"), data).await;
    // So long that no wave but the first runs while a test does; this address has another one.
    let calm = r#"{"reason":"r","pattern":"/services/**","wave_interval_ms":60000,"ttl_s":600}"#;
    assert_eq!(bed.send("PUT /v1/policies/notify/calm", &[], calm).await.status, 200);
    let since = bed.node.local().zxid().0;
    assert_eq!(bed.post(&format!("{list}/b"), data).await.status, 201);
    let known = json!({"name": "web", "since": since});
    let (mut both, mut buffer) = open(&bed, json!([known, {"name": "other"}])).await;
    let (kind, _, data) = event(&mut both, &mut buffer).await;
    assert_eq!(
        (kind.as_str(), &data["service"]),
        ("delta", &json!("web")),
        "one is asked for anew"
    );

    let (mut stream, mut buffer) = open(&bed, json!([known])).await;
    tokio::time::pause();
    let silence = stream.next().await.unwrap().unwrap();
    tokio::time::resume();
    assert_eq!(&silence[..], b":\n\n", "it stands where it stood");
    let ops = json!([{"op": "create", "path": "/services/web/providers/c"},
        {"op": "create", "path": "/roost/effects/c"}]);
    assert_eq!(bed.post("/v1/multi", json!({ "ops": ops }).to_string()).await.status, 200);
    let (kind, id, data) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), id), ("delta", Some(bed.node.local().zxid().0)), "what is urgent");
    assert_eq!((&data["full"], data["upsert"].as_array().unwrap().len()), (&json!(false), 1));
}

#[tokio::test]
async fn a_stream_shows_what_its_reader_may_read() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    let (mut stream, mut buffer, mut copy) = followed(&bed, &token).await;
    let root = [("authorization", "Basic c3VwZXI6dGVzdA==")];
    let closed = r#"{"acl":[{"perms":"cdrwa","scheme":"digest","id":"u:h"}]}"#;
    assert_eq!(bed.send("PUT /v1/acl/services/web/providers/a", &root, closed).await.status, 200);
    let data = r#"{"host":"secret","port":1}"#;
    let put = bed.send("PUT /v1/znodes/services/web/providers/a", &root, data).await;
    assert_eq!(put.status, 200);
    let (_, _, data) = event(&mut stream, &mut buffer).await;
    assert_eq!((&data["upsert"], &data["unparsable"][0]["id"]), (&json!([]), &json!("a")));
    assert!(!data.to_string().contains("secret"), "{data}");
    copy.take(&data);
    let whole = bed.get("/v1/services/web?since=99999").await.json();
    assert_eq!(
        (&whole["unparsable"][0]["id"], copy.sign()),
        (&json!("a"), whole["sign"].as_str().unwrap().to_owned())
    );
    // A list that is closed says no more, and does not look empty to who asks anew.
    bed.send("PUT /v1/acl/services/web/providers", &[], closed).await;
    let asked = json!({"services": [{"name": "web"}]}).to_string();
    assert_eq!(bed.post("/v1/watch", asked).await.error(), (403, "no_auth".to_owned()));
    let many = json!({"services": vec![json!({"name": "a"}); 201]}).to_string();
    assert_eq!(bed.post("/v1/watch", many).await.error(), (400, "bad_arguments".to_owned()));
}
