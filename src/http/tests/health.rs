//! How instances stand, whatever they say: what the view, its signs and its streams make of it.

use serde_json::{Value, json};

use super::increments::{Copy, deregister, open, register, sign_of};
use super::{Bed, event, pass_until, settled};
use crate::node::Request;
use crate::types::{Op, SessionId, ZnodePath};

const WEB: &str = "/services/web/providers";

async fn found(bed: &Bed, id: &str, works: bool) {
    found_at(bed, &format!("{WEB}/{id}"), works).await;
}

/// Notes what a probe has found, as the leader does.
pub(super) async fn found_at(bed: &Bed, path: &str, works: bool) {
    let path = ZnodePath::parse(path).unwrap();
    let czxid = bed.node.local().get(path.as_str()).unwrap().stat().czxid;
    let term = bed.node.leadership().term;
    let op = Op::SetHealth { path, czxid, works, term };
    let (session, authority) = (SessionId::NONE, Vec::new());
    let request = Request { session, owner: None, authority, idempotency_key: None, op };
    bed.node.submit(request).await.unwrap().result.unwrap();
}

async fn three() -> (Bed, String) {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    for id in ["a", "b", "c"] {
        register(&bed, &token, "web", id, 1).await;
    }
    (bed, token)
}

/// Returns what a list says of each: id and health.
fn healths(list: &Value) -> Vec<(String, String)> {
    let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
    let all = list.as_array().unwrap().iter();
    all.map(|one| (text(one, "id"), text(one, "health"))).collect()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(id, health)| ((*id).to_owned(), (*health).to_owned())).collect()
}

#[tokio::test]
async fn health_is_shown_and_whoever_follows_by_whatever_means_is_told() {
    let (bed, token) = three().await;
    let whole = bed.get("/v1/services/web").await;
    let healthy = pairs(&[("a", "healthy"), ("b", "healthy"), ("c", "healthy")]);
    assert_eq!(healths(&whole.json()["providers"]), healthy);
    let tag = [("if-none-match", whole.header("etag").unwrap())];
    assert_eq!(bed.send("GET /v1/services/web", &tag, "").await.status, 304);
    let (mut stream, mut buffer) = open(&bed, json!([{"name": "web"}])).await;
    let mut copy = Copy::default();
    copy.take(&event(&mut stream, &mut buffer).await.2);
    let since = bed.get("/v1/version").await.json()["zxid"].as_u64().unwrap();
    let before = sign_of(&bed, "web").await;

    found(&bed, "b", false).await;
    let changed = bed.send("GET /v1/services/web", &tag, "").await;
    assert_eq!(changed.status, 200, "the tag is another");
    assert_eq!(healths(&changed.json()["providers"])[1], ("b".to_owned(), "unhealthy".to_owned()));
    let delta = bed.get(&format!("/v1/services/web?since={since}")).await.json();
    assert_eq!(
        (&delta["full"], healths(&delta["upsert"])),
        (&json!(false), pairs(&[("b", "unhealthy")]))
    );
    assert_eq!(delta["revision"], json!(since + 1));
    let (kind, _, told) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), healths(&told["upsert"])), ("delta", pairs(&[("b", "unhealthy")])));
    copy.take(&told);
    let after = sign_of(&bed, "web").await;
    assert_eq!((&copy.sign(), told["sign"].as_str()), (&after, Some(after.as_str())));
    assert_ne!(before, after);

    // What it says of itself says nothing of its health, and nothing of it is lost on the way.
    register(&bed, &token, "web", "b", 2).await;
    let (_, _, told) = event(&mut stream, &mut buffer).await;
    assert_eq!(healths(&told["upsert"]), pairs(&[("b", "unhealthy")]));
    assert_eq!(told["upsert"][0]["weight"], 2);
    copy.take(&told);
    assert_eq!(copy.sign(), sign_of(&bed, "web").await);

    found(&bed, "b", true).await;
    let (_, _, told) = event(&mut stream, &mut buffer).await;
    assert_eq!(healths(&told["upsert"]), pairs(&[("b", "healthy")]));
    copy.take(&told);
    assert_eq!(copy.sign(), sign_of(&bed, "web").await);

    // With the instance goes what is known of it; who comes in its place has a clean record.
    found(&bed, "b", false).await;
    copy.take(&event(&mut stream, &mut buffer).await.2);
    deregister(&bed, "web", "b").await;
    let (_, _, told) = event(&mut stream, &mut buffer).await;
    assert_eq!((&told["remove"], &told["upsert"]), (&json!([format!("{WEB}/b")]), &json!([])));
    copy.take(&told);
    register(&bed, &token, "web", "b", 1).await;
    copy.take(&event(&mut stream, &mut buffer).await.2);
    assert_eq!(healths(&bed.get("/v1/services/web").await.json()["providers"]), healthy);
    assert_eq!(copy.sign(), sign_of(&bed, "web").await);
    assert!(bed.node.local().descendants("/roost/health").all(|(_, it)| it.num_children() == 0));
}

#[tokio::test]
async fn lists_for_balancing_leave_out_the_unhealthy_unless_that_is_all() {
    let (bed, _) = three().await;
    let listed = async |query: &str| {
        let got = bed.get(&format!("/v1/services/web{query}")).await.json();
        healths(&got["providers"]).into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    let servers = async || {
        let got = bed.get("/v1/sd/nginx?upstream=web").await;
        String::from_utf8(got.body).unwrap().matches("server ").count()
    };
    found(&bed, "a", false).await;
    found(&bed, "c", false).await;
    assert_eq!(listed("").await, ["a", "b", "c"]);
    assert_eq!(listed("?healthy_only=true").await, ["b"]);
    // All three are at one address, so nginx gets as many lines as there are instances.
    assert_eq!(servers().await, 1);
    let targets = bed.get("/v1/sd/prometheus?service=web").await.json();
    let health = &targets[0]["labels"]["__meta_roost_health"];
    assert_eq!((targets.as_array().unwrap().len(), health), (3, &json!("unhealthy")));
    let metrics = String::from_utf8(bed.get("/metrics").await.body).unwrap();
    assert!(metrics.lines().any(|line| line == "roost_unhealthy_instances 2.0"), "{metrics}");
    found(&bed, "b", false).await;
    assert_eq!((listed("?healthy_only=true").await.len(), servers().await), (3, 3));
    let both = bed.get("/v1/services/web?healthy_only=true&since=1").await;
    assert_eq!(both.error(), (400, "bad_arguments".to_owned()));
}

#[tokio::test]
async fn who_is_held_is_suspect_until_it_is_heard_of() {
    let bed = Bed::new().await;
    let mut tokens = Vec::new();
    for port in 1..=3 {
        let (session, token) = bed.session().await;
        let provider = json!({"id": format!("p{port}"), "host": "10.0.0.5", "port": port});
        let got = bed.register(&token, "web", provider).await;
        assert_eq!(got.status, 201);
        tokens.push((session, token));
    }
    let since = bed.get("/v1/version").await.json()["zxid"].as_u64().unwrap();
    let before = bed.get("/v1/services/web").await.json();
    pass_until(&bed.node, "two are held", || bed.node.local().suspect_count() == 2).await;
    let held = bed.get("/v1/services/web").await.json();
    let all = healths(&held["providers"]);
    assert!(all.len() == 2 && all.iter().all(|(_, health)| health == "suspect"), "{all:?}");
    assert_ne!(held["sign"], before["sign"]);
    let delta = bed.get(&format!("/v1/services/web?since={since}")).await.json();
    assert_eq!((&delta["full"], healths(&delta["upsert"])), (&json!(false), all.clone()));
    let listed = bed.get("/v1/services/web?healthy_only=true").await.json();
    assert_eq!(healths(&listed["providers"]), all, "they are likely to be alive");

    let (session, token) = tokens
        .iter()
        .find(|(session, _)| held["providers"][0]["session"] == json!(session))
        .unwrap();
    let (renew, proof) =
        (format!("PUT /v1/sessions/{session}"), [("roost-session", token.as_str())]);
    assert_eq!(bed.send(&renew, &proof, "").await.status, 200);
    pass_until(&bed.node, "it is heard of", || bed.node.local().suspect_count() == 1).await;
    settled(&bed.node).await;
    let now = healths(&bed.get("/v1/services/web").await.json()["providers"]);
    let id = &all[0].0;
    assert_eq!(now.iter().find(|(it, _)| it == id).unwrap().1, "healthy");
}

#[tokio::test]
async fn nobody_but_the_tree_writes_how_instances_stand() {
    let (bed, _) = three().await;
    found(&bed, "a", false).await;
    let note = "/roost/health/%252Fservices%252Fweb%252Fproviders/a";
    let shown = bed.get(&format!("/v1/znodes{note}")).await;
    assert_eq!(shown.status, 200);
    let proof = [("authorization", "Basic c3VwZXI6dGVzdA==")];
    for (method, at) in [
        ("PUT /v1/znodes", note),
        ("DELETE /v1/znodes", note),
        ("POST /v1/znodes", "/roost/health/%252Fservices%252Fweb%252Fproviders/z"),
        ("POST /v1/znodes", "/roost/health/x"),
    ] {
        for headers in [&[][..], &proof[..]] {
            let got = bed.send(&format!("{method}{at}"), headers, "{}").await;
            assert_eq!(got.error(), (400, "bad_arguments".to_owned()), "{method}{at}");
        }
    }
    // Who may not read a list does not learn here who is in it.
    let closed = r#"{"acl":[{"perms":"cdrwa","scheme":"digest","id":"u:h"}]}"#;
    assert_eq!(bed.send(&format!("PUT /v1/acl{WEB}"), &[], closed).await.status, 200);
    let folder = "/v1/znodes/roost/health/%252Fservices%252Fweb%252Fproviders";
    assert_eq!(bed.get(folder).await.status, 403);
}
