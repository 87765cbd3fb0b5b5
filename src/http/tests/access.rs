use serde_json::json;

use super::{Bed, event};
use crate::identity;

#[tokio::test]
async fn access_control_holds_for_reads_and_watches() {
    let bed = Bed::new().await;
    bed.post("/v1/znodes/open", "").await;
    bed.post("/v1/znodes/open/shut", "secret").await;
    let rules = json!({"acl": [{"perms": "wa", "scheme": "ip", "id": "127.0.0.1"}]}).to_string();
    let set = bed.send("PUT /v1/acl/open/shut", &[], rules).await;
    assert_eq!((set.status, &set.json()["stat"]["aversion"]), (200, &json!(1)));
    for uri in ["/v1/znodes/open/shut", "/v1/children/open/shut", "/v1/watch?watch=data:/open/shut"]
    {
        assert_eq!(bed.get(uri).await.error(), (403, "no_auth".to_owned()), "{uri}");
    }
    assert_eq!(bed.get("/v1/acl/open/shut").await.status, 200, "who may change a list may read it");
    let children = bed.get("/v1/children/open?values=true").await.json();
    assert_eq!(children["children"], json!([{"name": "shut"}]), "the name but not the data");
    let seen = bed.get("/v1/poll?watch=subtree:/open").await.json();
    assert_eq!(seen["snapshot"]["watches"][0]["znodes"].as_array().unwrap().len(), 1);
    let since = seen["zxid"].as_u64().unwrap();
    assert_eq!(bed.send("PUT /v1/znodes/open/shut", &[], "x").await.status, 200, "the ip rule");
    let after = bed.get(&format!("/v1/poll?watch=subtree:/open&since={since}")).await.json();
    assert_eq!((&after["changes"], &after["zxid"]), (&json!([]), &json!(since + 1)));
}

#[tokio::test]
async fn a_list_that_is_closed_to_its_watcher_tells_it_nothing_any_more() {
    let bed = Bed::new().await;
    for path in ["/v1/znodes/p", "/v1/znodes/p/a"] {
        assert_eq!(bed.post(path, "").await.status, 201);
    }
    let watches = ["children:/p", "children_data:/p", "data:/p/a", "subtree:/p"];
    let since = bed.get("/v1/poll?watch=data:/p").await.json()["zxid"].as_u64().unwrap();
    let mut streams = Vec::new();
    for watch in watches {
        let response =
            bed.raw(&format!("GET /v1/watch?watch={watch}&since={since}"), &[], "").await;
        assert_eq!(response.status(), 200);
        streams.push(response.into_body().into_data_stream());
    }
    let rules = json!({"acl": [{"perms": "cdwa", "scheme": "ip", "id": "127.0.0.1"}]}).to_string();
    assert_eq!(bed.send("PUT /v1/acl/p", &[], rules).await.status, 200);
    assert_eq!(bed.send("PUT /v1/znodes/p/a", &[], "x").await.status, 200);
    assert_eq!(bed.post("/v1/znodes/p/b", "").await.status, 201);
    let last = bed.send("PUT /v1/znodes/p", &[], "x").await.json()["zxid"].as_u64().unwrap();
    tokio::time::pause();
    let mut heard = Vec::new();
    for mut stream in streams {
        let (mut paths, mut buffer) = (Vec::new(), String::new());
        loop {
            let (kind, id, data) = event(&mut stream, &mut buffer).await;
            if kind == "progress" && id >= Some(last) {
                break;
            }
            let changes = data["changes"].as_array().cloned().unwrap_or_default();
            paths.extend(changes.iter().map(|change| change["path"].as_str().unwrap().to_owned()));
        }
        heard.push(paths);
    }
    // What is open itself is heard of by its own path, and below a subtree.
    assert_eq!(heard, [vec![], vec![], vec!["/p/a"], vec!["/p/a", "/p/b"]]);
}

#[tokio::test]
async fn a_name_and_password_are_an_identity_that_lists_can_name() {
    let bed = Bed::new().await;
    // alice:secret, bob:secret, super:test
    let alice = [("authorization", "Basic YWxpY2U6c2VjcmV0")];
    let bob = [("authorization", "Basic Ym9iOnNlY3JldA==")];
    let root = [("authorization", "Basic c3VwZXI6dGVzdA==")];
    bed.post("/v1/znodes/mine", "secret").await;
    let rules = json!({"acl": [
        {"perms": "cdrwa", "scheme": "auth", "id": ""},
        {"perms": "r", "scheme": "digest", "id": identity::digest_of("bob:secret")},
    ]});
    let nobody = bed.send("PUT /v1/acl/mine", &[], rules.to_string()).await;
    assert_eq!(nobody.error(), (400, "invalid_acl".to_owned()), "`auth` of nobody");
    assert_eq!(bed.send("PUT /v1/acl/mine", &alice, rules.to_string()).await.status, 200);

    let get = "GET /v1/znodes/mine";
    for (who, read, write) in
        [(&[][..], 403, 403), (&alice[..], 200, 200), (&bob[..], 200, 403), (&root[..], 200, 200)]
    {
        assert_eq!(bed.send(get, who, "").await.status, read, "{who:?}");
        assert_eq!(bed.send("PUT /v1/znodes/mine", who, "x").await.status, write, "{who:?}");
    }
    let ids = |got: super::Got| -> Vec<String> {
        let list = got.json()["acl"].as_array().unwrap().clone();
        list.iter().map(|rule| rule["id"].as_str().unwrap().to_owned()).collect()
    };
    let whole = ["alice:secret", "bob:secret"].map(identity::digest_of);
    assert_eq!(ids(bed.send("GET /v1/acl/mine", &alice, "").await), whole);
    assert_eq!(ids(bed.send("GET /v1/acl/mine", &bob, "").await), ["alice:x", "bob:x"]);
    assert_eq!(bed.get("/v1/acl/mine").await.error(), (403, "no_auth".to_owned()));

    let watch = "GET /v1/poll?watch=data:/mine&since=0";
    assert_eq!(bed.send(watch, &bob, "").await.json()["changes"].as_array().unwrap().len(), 3);
    let forged = [("authorization", "Bearer YWxpY2U6c2VjcmV0")];
    assert_eq!(bed.send(get, &forged, "").await.error(), (401, "auth_failed".to_owned()));
}
