use serde_json::{Value, json};

use super::{Bed, pass, pass_until};
use crate::policy::Kind;
use std::time::Duration;

const SUPER: [(&str, &str); 1] = [("authorization", "Basic c3VwZXI6dGVzdA==")];

async fn put(bed: &Bed, kind: &str, name: &str, policy: Value) -> super::Got {
    bed.send(&format!("PUT /v1/policies/{kind}/{name}"), &[], policy.to_string()).await
}

fn disconnect() -> Value {
    json!({"reason": "small", "pattern": "/services/web/providers", "grace_ms": 500})
}

fn disconnect_data() -> String {
    let mut policy = disconnect();
    policy["set_by"] = json!("ops");
    policy.to_string()
}

#[tokio::test]
async fn a_policy_is_a_znode_that_says_who_set_it_and_why() {
    let bed = Bed::new().await;
    assert_eq!(put(&bed, "disconnect", "web", disconnect()).await.status, 200);
    let got = bed.get("/v1/policies/disconnect/web").await.json();
    assert_eq!(
        (&got["policy"]["set_by"], &got["policy"]["reason"]),
        (&json!("ip:127.0.0.1"), &json!("small"))
    );
    assert!(got["policy"]["set_at_ms"].as_u64().unwrap() > 0);
    let data = bed.get("/v1/znodes/roost/policies/disconnect/web").await.json();
    let data: Value = serde_json::from_str(data["data"].as_str().unwrap()).unwrap();
    assert_eq!(data, got["policy"]);
    let mut again = disconnect();
    again["set_by"] = json!("ops");
    assert_eq!(put(&bed, "disconnect", "web", again).await.status, 200);
    let got = bed.get("/v1/policies/disconnect/web").await.json();
    assert_eq!(got["policy"]["set_by"], "ops");
    let listed = bed.get("/v1/policies?kind=disconnect").await.json();
    let names: Vec<_> =
        listed["policies"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["web"]);
    let gone = bed.send("DELETE /v1/policies/disconnect/web", &[], "").await;
    assert_eq!(gone.status, 200);
    assert_eq!(bed.get("/v1/policies/disconnect/web").await.error(), (404, "no_node".to_owned()));
}

#[tokio::test]
async fn what_is_wrong_with_a_policy_is_named_at_every_way_in() {
    let bed = Bed::new().await;
    for (field, value, word) in [
        ("pattern", json!("services"), "pattern"),
        ("grace_ms", json!(-2), "grace_ms"),
        ("colour", json!("red"), "colour"),
        ("mode", json!("on"), "mode"),
        ("ttl_s", json!(0), "ttl_s"),
        ("set_at_ms", json!(1), "set_at_ms"),
        ("reason", Value::Null, "reason"),
    ] {
        let mut policy = disconnect();
        policy[field] = value;
        let test = json!({"kind": "disconnect", "policy": policy}).to_string();
        for got in [
            put(&bed, "disconnect", "web", policy).await,
            bed.post("/v1/policies/test", test).await,
        ] {
            assert_eq!(got.error(), (400, "bad_arguments".to_owned()), "{field}");
            assert!(got.json()["message"].as_str().unwrap().starts_with(word), "{}", got.json());
        }
    }
    assert_eq!(put(&bed, "colour", "web", disconnect()).await.error().0, 400);
    // Through the doors of the tree too, one by one and in a multi.
    bed.post("/v1/znodes/roost/policies/disconnect?parents=true", "").await;
    let raw = bed.post("/v1/znodes/roost/policies/disconnect/web", "{}").await;
    assert_eq!((raw.status, &raw.json()["zk_code"]), (400, &json!(-8)));
    let ops = json!([{"op": "check", "path": "/"}, {"op": "create", "path": "/roost/policies/x"}]);
    let multi = bed.post("/v1/multi", json!({ "ops": ops }).to_string()).await;
    assert_eq!((multi.status, &multi.json()["multi_index"]), (400, &json!(1)));
    assert_eq!(bed.node.local().get("/roost/policies").unwrap().num_children(), 1);
}

#[tokio::test]
async fn a_policy_with_a_ttl_goes_by_itself() {
    let bed = Bed::new().await;
    let mut brief = disconnect();
    brief["ttl_s"] = json!(60);
    assert_eq!(put(&bed, "disconnect", "web", brief).await.status, 200);
    let shown = bed.get("/v1/policies/disconnect/web").await.json();
    let policy = &shown["policy"];
    let lives = policy["expires_at_ms"].as_u64().unwrap() - policy["set_at_ms"].as_u64().unwrap();
    assert_eq!(lives, 60_000);
    // What says that it ends cannot be kept for good, whichever way it comes.
    let stays = bed.post("/v1/znodes/roost/policies/disconnect/x", policy.to_string()).await;
    assert_eq!(stays.error(), (400, "bad_arguments".to_owned()));
    assert!(stays.json()["message"].as_str().unwrap().contains("TTL"), "{}", stays.json());
    let ops = [("create", disconnect_data()), ("set", policy.to_string())];
    let ops = ops
        .map(|(op, data)| json!({"op": op, "path": "/roost/policies/disconnect/x", "data": data}));
    assert_eq!(bed.post("/v1/multi", json!({ "ops": ops }).to_string()).await.status, 400);
    let ends = "/v1/znodes/roost/policies/disconnect/x?mode=ttl&ttl_ms=60000";
    assert_eq!(bed.post(ends, policy.to_string()).await.status, 201);
    let holds = || bed.node.local().policies().get(Kind::Disconnect, "web").is_some();
    assert!(holds());
    pass(Duration::from_secs(61)).await;
    while holds() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let gone = bed.get("/v1/policies/disconnect/web").await;
    assert_eq!(gone.error(), (404, "no_node".to_owned()));
}

#[tokio::test]
async fn a_policy_changes_how_long_it_lives_and_keeps_its_access_control_list() {
    let bed = Bed::new().await;
    put(&bed, "disconnect", "web", disconnect()).await;
    let acl = r#"{"acl":[{"perms":"r","scheme":"world","id":"anyone"}]}"#;
    assert_eq!(bed.send("PUT /v1/acl/roost/policies/disconnect/web", &[], acl).await.status, 200);
    assert_eq!(
        put(&bed, "disconnect", "web", disconnect()).await.error(),
        (403, "no_auth".to_owned())
    );
    let mut brief = disconnect();
    brief["ttl_s"] = json!(100);
    let url = "PUT /v1/policies/disconnect/web";
    assert_eq!(bed.send(url, &SUPER, brief.to_string()).await.status, 200);
    assert_eq!(bed.send(url, &SUPER, disconnect().to_string()).await.status, 200);
    let got = bed.get("/v1/policies/disconnect/web").await.json();
    assert_eq!(got["policy"]["expires_at_ms"], Value::Null);
    let shown = bed.get("/v1/acl/roost/policies/disconnect/web").await.json();
    assert_eq!(shown["acl"][0]["perms"], "r");
}

#[tokio::test]
async fn a_rule_of_admission_decides_who_registers_what_and_is_named_when_it_denies() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    let register = |host: &str| {
        let provider = json!({"host": host, "port": 1, "metadata": {"env": "prod"}});
        bed.register(&token, "web", provider)
    };
    let rule = json!([{"who": ["127.0.0.0/8"], "host": ["peer"], "labels": {"env": "prod"}}]);
    let policy = json!({"reason": "r", "pattern": "/services/*/providers/**", "allow": rule});
    let write = json!({"path": "/services/web/providers/a", "data": "{\"host\":\"127.0.0.1\"}"});
    let test = json!({"kind": "admission", "policy": policy, "write": write});
    let tested = bed.post("/v1/policies/test", test.to_string()).await.json();
    assert_eq!(tested["denied"]["rule"], "test", "{tested}");
    assert!(tested["denied"]["why"].as_str().unwrap().contains("env"), "{tested}");
    assert_eq!(register("10.0.0.9").await.status, 201, "a test sets nothing");

    assert_eq!(put(&bed, "admission", "prod", policy.clone()).await.status, 200);
    let denied = register("10.0.0.8").await;
    assert_eq!(denied.error(), (403, "no_auth".to_owned()));
    let body = denied.json();
    assert_eq!((&body["rule"], &body["zk_code"]), (&json!("prod"), &json!(-102)));
    assert_eq!(body.get("multi_index"), None, "the client numbered nothing");
    assert!(body["message"].as_str().unwrap().contains("10.0.0.8"), "{body}");
    assert_eq!(register("127.0.0.1").await.status, 201);
    // What was there before may not be set anew either.
    assert_eq!(register("10.0.0.9").await.status, 403);
    assert_eq!(bed.post("/v1/znodes/services/web/providers/x", "").await.status, 201, "a folder");
    let ops =
        json!([{"op": "create", "path": "/a"}, {"op": "set", "path": "/services/web/providers/x"}]);
    let multi = bed.post("/v1/multi", json!({ "ops": ops }).to_string()).await;
    assert_eq!((multi.status, &multi.json()["multi_index"]), (403, &json!(1)));

    let mut observing = policy;
    observing["mode"] = json!("observe");
    assert_eq!(put(&bed, "admission", "prod", observing).await.status, 200);
    assert_eq!(register("10.0.0.8").await.status, 201, "what observes denies nothing");
}

#[tokio::test]
async fn a_test_counts_what_a_pattern_matches() {
    let bed = Bed::new().await;
    for path in ["/v1/znodes/services/a/providers/1", "/v1/znodes/services/b/providers"] {
        bed.post(&format!("{path}?parents=true"), "").await;
    }
    let policy = json!({"reason": "r", "pattern": "/services/*/providers", "grace_ms": 500});
    let test = json!({"kind": "disconnect", "policy": policy}).to_string();
    let tested = bed.post("/v1/policies/test", test).await.json();
    let expected = json!(["/services/a/providers", "/services/b/providers"]);
    assert_eq!((&tested["matches"], &tested["more"]), (&json!(2), &json!(false)));
    assert_eq!(tested["examples"], expected);
    assert!(bed.node.local().get("/roost").is_none());
}

#[tokio::test]
async fn a_test_tells_whom_a_policy_would_concern_and_changes_nothing() {
    let bed = Bed::new().await;
    let (session, token) = bed.session().await;
    let provider = json!({"id": "a", "host": "10.0.0.1", "port": 1, "weight": 7});
    bed.register(&token, "web", provider).await;
    let pattern = "/services/web/providers/*";
    for mode in ["enforce", "observe"] {
        let policy = json!({"reason": "r", "pattern": pattern, "mode": mode, "weight": 0});
        let test = json!({"kind": "overrides", "policy": policy}).to_string();
        let tested = bed.post("/v1/policies/test", test).await.json();
        let [change] = &tested["changes"].as_array().unwrap()[..] else { panic!("{tested}") };
        assert_eq!(
            (&change["op"], &change["path"]),
            (&json!("set"), &json!("/services/web/providers/a"))
        );
        let weight = |of: &str| {
            let data: Value = serde_json::from_str(change[of].as_str().unwrap()).unwrap();
            data["weight"].clone()
        };
        assert_eq!((weight("before"), weight("after")), (json!(7), json!(0)), "{mode}");
    }
    let policy = json!({"reason": "r", "pattern": pattern, "grace_ms": 300, "ttl_s": 5});
    let test = json!({"kind": "disconnect", "policy": policy}).to_string();
    let tested = bed.post("/v1/policies/test", test).await.json();
    assert_eq!(tested["sessions"], json!([{"session": session, "grace_ms": 300}]), "{tested}");
    let set = bed.node.local().policies().iter().filter(|(_, (_, it))| !it.is_built_in).count();
    assert_eq!(set, 0);
    assert_eq!(bed.get("/v1/services/web").await.json()["providers"][0]["weight"], 7);
}

#[tokio::test]
async fn who_may_follow_a_service_is_ruled_at_every_way_to_follow_it() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    let register =
        |id: &str| bed.register(&token, "web", json!({"id": id, "host": "127.0.0.1", "port": 1}));
    assert_eq!(register("a").await.status, 201);
    let policy = |mode: &str| {
        json!({"reason": "only the shop", "mode": mode, "pattern": "/services/web/**",
            "allow": [{"what": "subscribe", "who": ["10.0.0.0/8"]}]})
    };
    let list = "/services/web/providers";
    let both = r#"{"services":[{"name":"other"},{"name":"web"}]}"#;
    let ways = [
        ("GET /v1/services/web".to_owned(), ""),
        ("GET /v1/services/web?since=1".to_owned(), ""),
        ("GET /v1/services/web/subscribe".to_owned(), ""),
        ("GET /v1/sd/nginx?upstream=web".to_owned(), ""),
        ("GET /v1/sd/prometheus?service=web".to_owned(), ""),
        (format!("GET /v1/children{list}"), ""),
        (format!("GET /v1/znodes{list}/a"), ""),
        (format!("HEAD /v1/znodes{list}/a"), ""),
        (format!("GET /v1/poll?watch=children:{list}"), ""),
        (format!("GET /v1/watch?watch=data:{list}/a"), ""),
        ("GET /v1/watch?watch=subtree:/services".to_owned(), ""),
        ("POST /v1/watch".to_owned(), both),
        ("POST /v1/versions".to_owned(), r#"{"services":["web"]}"#),
    ];
    let gauge = |name: &str| {
        let all = bed.node.gauges();
        all.iter().find(|(known, ..)| *known == name).map(|(.., value)| *value).unwrap()
    };
    let noted = |result: &str| {
        let lines = bed.node.audit_after(0, usize::MAX);
        let of = |line: &&std::sync::Arc<crate::node::AuditLine>| {
            (line.op, line.result) == ("subscribe", result)
        };
        lines.iter().filter(of).count()
    };
    assert_eq!(put(&bed, "admission", "shop", policy("observe")).await.status, 200);
    for (way, body) in &ways {
        let got = bed.raw(way, &[], *body).await;
        assert_eq!(got.status(), 200, "what observes lets through: {way}");
    }
    // A service with two lists that are spoken of is noted for both.
    assert!(noted("observed") >= ways.len() && noted("denied") == 0);
    assert_eq!(gauge("roost_policy_observed"), noted("observed") as f64);
    assert_eq!(gauge("roost_subscriptions"), 0.0, "the streams are gone again");

    assert_eq!(put(&bed, "admission", "shop", policy("enforce")).await.status, 200);
    for (way, body) in &ways {
        let got = bed.send(way, &[], *body).await;
        assert_eq!(got.status, 403, "{way}");
        if !way.starts_with("HEAD") {
            assert_eq!(got.json()["rule"], "shop", "{way}");
        }
    }
    assert_eq!((noted("denied"), gauge("roost_policy_denied")), (ways.len(), ways.len() as f64));
    assert_eq!(gauge("roost_subscriptions"), 0.0, "nothing was installed");
    // Other services, the list of services, and registering are not spoken of.
    assert_eq!(register("b").await.status, 201);
    for way in ["/v1/services/web2", "/v1/children/services", "/v1/services?prefix=w"] {
        assert_ne!(bed.get(way).await.status, 403, "{way}");
    }
    let list_of_others = bed.raw("POST /v1/watch", &[], r#"{"services":[{"name":"other"}]}"#).await;
    assert_eq!(list_of_others.status(), 200);

    let test = |address: &str| {
        json!({"kind": "admission", "follow": {"path": list, "address": address}}).to_string()
    };
    let tested = bed.post("/v1/policies/test", test("127.0.0.1")).await.json();
    assert_eq!(tested["denied"]["rule"], "shop", "{tested}");
    let tested = bed.post("/v1/policies/test", test("10.0.0.1")).await.json();
    assert_eq!(tested["denied"], Value::Null, "{tested}");
}

#[tokio::test]
async fn a_service_that_does_not_exist_yet_is_not_followed_past_a_policy() {
    let bed = Bed::new().await;
    let rule = |pattern: &str| {
        json!({"reason": "r", "pattern": pattern,
            "deny": [{"what": "subscribe", "who": ["anyone"]}]})
    };
    assert_eq!(put(&bed, "admission", "late", rule("/services/late/**")).await.status, 200);
    let follow = |name: &str| {
        let body = json!({"services": [{"name": name}]}).to_string();
        async { bed.raw("POST /v1/watch", &[], body).await.status() }
    };
    assert_eq!(follow("late").await, 403);
    // A layout that nobody may follow keeps nobody from a service that is not in it.
    assert_eq!(put(&bed, "admission", "dubbo", rule("/dubbo/**")).await.status, 200);
    assert_eq!(follow("web").await, 200);
    bed.post("/v1/znodes/dubbo/web/providers?parents=true", "").await;
    assert_eq!(follow("web").await, 403);
}

#[tokio::test]
async fn what_an_override_that_observes_would_change_is_noted_once_for_each_instance() {
    let bed = Bed::new().await;
    let policy = json!({"reason": "r", "pattern": "/services/web/providers/*", "mode": "observe", "weight": 0});
    assert_eq!(put(&bed, "overrides", "calm", policy).await.status, 200);
    let (_, token) = bed.session().await;
    let noted = || {
        let lines = bed.node.audit_after(0, usize::MAX);
        let of = |line: &&std::sync::Arc<crate::node::AuditLine>| line.op == "override";
        let texts = lines
            .iter()
            .filter(of)
            .map(|line| (line.path.clone(), line.rule.clone().unwrap(), line.result));
        texts.collect::<Vec<_>>()
    };
    let line = |id: &str| (format!("/services/web/providers/{id}"), "calm".to_owned(), "observed");
    for (id, expected) in [("a", vec![line("a")]), ("b", vec![line("a"), line("b")])] {
        let provider = json!({"id": id, "host": "10.0.0.1", "port": 1, "weight": 7});
        bed.register(&token, "web", provider).await;
        pass_until(&bed.node, "it is noted", || noted() == expected).await;
    }
    assert_eq!(bed.get("/v1/services/web").await.json()["providers"][0]["weight"], 7);
}

/// So long that no wave but the first runs while a test does.
fn notify() -> Value {
    json!({"reason": "flapping", "pattern": "/services/**", "wave_interval_ms": 60_000, "ttl_s": 600})
}

#[tokio::test]
async fn a_switch_that_has_to_end_is_refused_without_an_end_at_every_way_in() {
    let bed = Bed::new().await;
    let mut endless = notify();
    endless["ttl_s"] = Value::Null;
    let got = put(&bed, "notify", "calm", endless.clone()).await;
    assert_eq!(got.error(), (400, "bad_arguments".to_owned()));
    assert!(got.json()["message"].as_str().unwrap().starts_with("ttl_s"), "{}", got.json());
    endless.as_object_mut().unwrap().remove("ttl_s");
    endless["set_by"] = json!("a client");
    let (at, data) = ("/v1/znodes/roost/policies/notify/calm", endless.to_string());
    bed.post("/v1/znodes/roost/policies/notify?parents=true", "").await;
    assert_eq!(bed.post(at, data.clone()).await.status, 400);
    assert_eq!(bed.post(&format!("{at}?mode=ttl&ttl_ms=600000"), data.clone()).await.status, 201);
    assert_eq!(bed.send(&format!("PUT {at}"), &[], data).await.status, 200);
    assert!(bed.node.local().policies().get(Kind::Notify, "calm").is_some());
    let test = json!({"kind": "notify", "policy": notify()}).to_string();
    let spread = bed.post("/v1/policies/test", test).await.json()["spread"].clone();
    let expected = json!({"waves": 10, "round_ms": 600_000, "connections": 0, "subscriptions": 0});
    assert_eq!(spread, expected);
}

#[tokio::test]
async fn polls_that_miss_their_wave_are_told_at_the_end_of_a_round() {
    const ROUND: Duration = Duration::from_secs(10);
    let bed = Bed::new().await;
    bed.post("/v1/znodes/services/web/providers?parents=true", "").await;
    let mut brief = notify();
    brief["wave_interval_ms"] = json!(1_000);
    assert_eq!(put(&bed, "notify", "calm", brief).await.status, 200);
    // The wave of this address is the fifth of ten.
    let is_past = || bed.node.local().cluster_ms() % 10_000 >= 5_000;
    pass_until(&bed.node, "its wave is over", is_past).await;
    let since = bed.node.local().zxid().0;
    bed.post("/v1/znodes/services/web/providers/a", "").await;
    let poll = format!("/v1/poll?watch=children:/services/web/providers&since={since}");
    let polled = bed.get(&poll).await.json();
    assert_eq!((&polled["changes"], &polled["zxid"]), (&json!([]), &json!(since)));
    pass(ROUND).await;
    let polled = bed.get(&poll).await.json();
    assert_eq!(polled["changes"].as_array().map(Vec::len), Some(1), "{polled}");
}

#[tokio::test]
async fn a_poll_waits_for_its_wave_unless_something_urgent_happened_and_a_read_never_does() {
    let bed = Bed::new().await;
    bed.post("/v1/znodes/services/web/providers?parents=true", "").await;
    bed.post("/v1/znodes/roost/effects?parents=true", "").await;
    assert_eq!(put(&bed, "notify", "calm", notify()).await.status, 200);
    let since = bed.node.local().zxid().0;
    bed.post("/v1/znodes/services/web/providers/a", "").await;
    let poll = format!("/v1/poll?watch=children:/services/web/providers&since={since}");
    // This address has another wave than the first.
    let polled = bed.get(&poll).await.json();
    assert_eq!((&polled["changes"], &polled["zxid"]), (&json!([]), &json!(since)));
    let listed = bed.get("/v1/children/services/web/providers").await.json();
    assert_eq!(listed["children"].as_array().map(Vec::len), Some(1), "{listed}");
    let ops = json!([{"op": "create", "path": "/services/web/providers/b"},
        {"op": "create", "path": "/roost/effects/b"}]);
    bed.post("/v1/multi", json!({ "ops": ops }).to_string()).await;
    let polled = bed.get(&poll).await.json();
    assert_eq!(polled["changes"].as_array().map(Vec::len), Some(2), "{polled}");
}
