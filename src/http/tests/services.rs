use serde_json::{Value, json};

use super::Bed;
use crate::types::{CreateMode, Data, Op, SessionId, ZnodePath};

#[tokio::test]
async fn a_provider_registers_again_under_its_own_session_only() {
    let bed = Bed::new().await;
    let ((mine, token), (_, rival)) = (bed.session().await, bed.session().await);
    let (auth, other) = ([("roost-session", token.as_str())], [("roost-session", rival.as_str())]);
    let uri = "POST /v1/services/web/providers";
    let body = json!({"host": "10.0.0.1", "port": 80, "metadata": {"zone": "a"}}).to_string();
    assert_eq!(bed.send(uri, &[], body.clone()).await.error(), (400, "bad_arguments".to_owned()));
    let first = bed.send(uri, &auth, body.clone()).await;
    assert_eq!((first.status, &first.json()["id"]), (201, &json!("10.0.0.1:80")));
    assert_eq!(first.json()["path"], "/services/web/providers/10.0.0.1:80");
    assert_eq!(bed.send(uri, &auth, body.clone()).await.status, 200);
    let held = bed.send(uri, &other, body).await;
    assert_eq!(held.error(), (409, "node_exists".to_owned()));
    assert!(held.json()["message"].as_str().unwrap().contains(&mine), "{}", held.json());

    let consumer = bed.send("PUT /v1/services/web/consumers/c1", &auth, "").await;
    assert_eq!(consumer.status, 201);
    bed.post("/v1/znodes/services/web/providers/odd", "10.0.0.2:80").await;
    let shown = bed.get("/v1/services/web").await.json();
    let provider = &shown["providers"][0];
    assert_eq!((&provider["weight"], &provider["status"]), (&json!(100), &json!("up")));
    assert_eq!((&provider["session"], &provider["version"]), (&json!(mine), &json!(1)));
    assert_eq!(
        (&shown["consumers"][0]["id"], &shown["unparsable"][0]["id"]),
        (&json!("c1"), &json!("odd"))
    );
    let list = bed.get("/v1/services").await.json();
    let web = json!({"name": "web", "providers": 2, "consumers": 1, "layouts": ["roost"]});
    assert_eq!(list["services"], json!([web]));

    let delete = "DELETE /v1/services/web/providers/10.0.0.1:80";
    assert_eq!(bed.send(delete, &other, "").await.error(), (403, "no_auth".to_owned()));
    assert_eq!(bed.send(delete, &auth, "").await.status, 200);
    assert_eq!(bed.send(delete, &auth, "").await.error(), (404, "no_node".to_owned()));
    let consumer = "DELETE /v1/services/web/consumers/c1";
    assert_eq!(bed.send(consumer, &other, "").await.error(), (403, "no_auth".to_owned()));
    assert_eq!(bed.send(consumer, &auth, "").await.status, 200);
    assert_eq!(bed.get("/v1/services/web").await.json()["consumers"], json!([]));
    let force = "DELETE /v1/services/web/providers/odd?force=true";
    assert_eq!(bed.send(force, &other, "").await.status, 200);
    assert_eq!(bed.get("/v1/services/none").await.error(), (404, "no_node".to_owned()));
}

#[tokio::test]
async fn a_provider_that_starts_anew_takes_its_registration_over_with_the_token_of_its_last_session()
 {
    let bed = Bed::new().await;
    let ((old, old_token), (new, new_token)) = (bed.session().await, bed.session().await);
    let (_, stranger) = bed.session().await;
    let uri = "POST /v1/services/web/providers";
    let register = async |token: &str, takes_over: Option<&str>| {
        let body = json!({"id": "i", "host": "h", "port": 1, "takes_over": takes_over});
        bed.send(uri, &[("roost-session", token)], body.to_string()).await
    };
    let holder =
        async || bed.get("/v1/services/web").await.json()["providers"][0]["session"].clone();
    assert_eq!(register(&old_token, None).await.status, 201);
    let forged = format!("{old}.{}", "0".repeat(32));
    for (token, refusal) in [
        (None, (409, "node_exists")),
        (Some(forged.as_str()), (401, "auth_failed")),
        (Some(stranger.as_str()), (409, "node_exists")),
    ] {
        let (status, code) = register(&new_token, token).await.error();
        assert_eq!((status, code.as_str()), refusal);
        assert_eq!(holder().await, old, "nothing is done");
    }
    let before = bed.node.local().zxid();
    assert_eq!(register(&new_token, Some(&old_token)).await.status, 201);
    assert_eq!(holder().await, new);
    assert_eq!(bed.node.local().zxid().0, before.0 + 1, "nobody sees a moment without it");
    assert_eq!(register(&new_token, Some(&old_token)).await.status, 200, "it has its own by now");
    // What the last run had is gone from it: its end takes nothing along.
    let close = format!("DELETE /v1/sessions/{old}");
    assert_eq!(bed.send(&close, &[("roost-session", &old_token)], "").await.status, 200);
    assert_eq!(holder().await, new);
    // And where it has ended there is nothing to take over.
    let close = format!("DELETE /v1/sessions/{new}");
    assert_eq!(bed.send(&close, &[("roost-session", &new_token)], "").await.status, 200);
    assert_eq!(register(&stranger, Some(&new_token)).await.status, 201);
    // Many at once likewise, each with its own proof.
    let (_, last) = bed.session().await;
    let one = |token: &str| json!({"service": "web", "id": "i", "host": "h", "port": 1, "takes_over": token});
    let send = async |token: &str| {
        let body = json!({"providers": [one(token)]}).to_string();
        bed.send("POST /v1/register", &[("roost-session", last.as_str())], body).await
    };
    assert_eq!(send(&new_token).await.error(), (409, "node_exists".to_owned()));
    assert_eq!(send(&stranger).await.json()["providers"][0]["created"], true);
}

#[tokio::test]
async fn a_registration_survives_whatever_rivals_do_to_its_parents() {
    let bed = Bed::new().await;
    let (session, token) = bed.session().await;
    let auth = [("roost-session", token.as_str()), ("idempotency-key", "r")];
    let create = |parent: &str, name: &str, mode| Op::Create {
        parent: ZnodePath::parse(parent).unwrap(),
        name: name.to_owned(),
        data: Some(Data::new(b"{}")),
        acl: Vec::new(),
        mode,
    };
    bed.node.before_next(SessionId::NONE, create("/", "services", CreateMode::Persistent));
    let uri = "POST /v1/services/web/providers";
    let body = r#"{"id":"i","host":"h","port":1}"#;
    let first = bed.send(uri, &auth, body).await;
    assert_eq!(first.status, 201);
    let again = bed.send(uri, &auth, body).await;
    assert_eq!((again.status, again.json()), (201, first.json()), "a retry gets the first answer");

    let named = r#"{"service":"other","id":"i","host":"h","port":1}"#;
    assert_eq!(bed.send(uri, &auth[..1], named).await.error(), (400, "bad_arguments".to_owned()));

    // Between plan and commit the same session's other request deletes what is to be replaced.
    let session: SessionId = session.parse().unwrap();
    let path = ZnodePath::parse("/services/web/providers/i").unwrap();
    bed.node.before_next(session, Op::Delete { path: path.clone(), version: None });
    assert_eq!(bed.send(uri, &auth[..1], body).await.status, 201);
    // Or changes it.
    bed.node.before_next(session, Op::SetData { path, data: None, version: None });
    assert_eq!(bed.send(uri, &auth[..1], body).await.status, 200);
}

#[tokio::test]
async fn many_registrations_are_all_or_nothing() {
    let bed = Bed::new().await;
    let ((_, token), (_, rival)) = (bed.session().await, bed.session().await);
    let (auth, other) = ([("roost-session", token.as_str())], [("roost-session", rival.as_str())]);
    let one =
        |service: &str, id: &str| json!({"service": service, "id": id, "host": "h", "port": 1});
    let all = |list: Vec<Value>| json!({ "providers": list }).to_string();
    let done = bed.send("POST /v1/register", &auth, all(vec![one("a", "1"), one("b", "2")])).await;
    assert_eq!((done.status, &done.json()["providers"][1]["created"]), (200, &json!(true)));
    let clash =
        bed.send("POST /v1/register", &other, all(vec![one("c", "3"), one("b", "2")])).await;
    assert_eq!(
        (clash.error(), &clash.json()["multi_index"]),
        ((409, "node_exists".to_owned()), &json!(1))
    );
    assert_eq!(bed.get("/v1/services/c").await.status, 404);
    let twice = bed.send("POST /v1/register", &auth, all(vec![one("d", "1"), one("d", "1")])).await;
    assert_eq!(twice.error(), (400, "bad_arguments".to_owned()));
    let names = r#"{"providers":[{"service":"a","id":"1"},{"service":"b","id":"2"}]}"#;
    assert_eq!(
        bed.send("POST /v1/deregister", &other, names).await.error(),
        (403, "no_auth".to_owned())
    );
    assert_eq!(bed.send("POST /v1/deregister", &auth, names).await.status, 200);
    let gone = bed.send("POST /v1/deregister", &auth, names).await;
    assert_eq!(
        (gone.error(), &gone.json()["multi_index"]),
        ((404, "no_node".to_owned()), &json!(0))
    );
}

#[tokio::test]
async fn a_registration_that_another_session_took_over_is_not_deregistered() {
    let bed = Bed::new().await;
    let ((mine, token), (theirs, _)) = (bed.session().await, bed.session().await);
    let (mine, theirs): (SessionId, SessionId) = (mine.parse().unwrap(), theirs.parse().unwrap());
    let auth = [("roost-session", token.as_str())];
    let path = ZnodePath::parse("/services/web/providers/i").unwrap();
    let body = r#"{"id":"i","host":"h","port":1}"#;
    let many = r#"{"providers":[{"service":"web","id":"i"}]}"#;
    for (what, body_of) in
        [("DELETE /v1/services/web/providers/i", ""), ("POST /v1/deregister", many)]
    {
        bed.send("POST /v1/services/web/providers", &auth, body).await;
        // The session itself gives it up and the other one takes it, while the deregistration is on its way.
        let give_up = Op::Delete { path: path.clone(), version: None };
        bed.node.before_next(mine, give_up);
        bed.node.before_next(
            theirs,
            Op::Create {
                parent: path.parent().unwrap(),
                name: "i".to_owned(),
                data: None,
                acl: Vec::new(),
                mode: CreateMode::Ephemeral,
            },
        );
        let got = bed.send(what, &auth, body_of).await;
        assert_eq!(got.error(), (403, "no_auth".to_owned()), "{what}");
        let owner = bed.node.local().get(path.as_str()).unwrap().ephemeral_owner();
        assert_eq!(owner, Some(theirs));
        let force = "DELETE /v1/services/web/providers/i?force=true";
        assert_eq!(bed.send(force, &[], "").await.status, 200);
    }
}

#[tokio::test]
async fn a_registration_that_another_session_took_over_is_not_overwritten() {
    let bed = Bed::new().await;
    let ((mine, token), (theirs, _)) = (bed.session().await, bed.session().await);
    let (mine, theirs): (SessionId, SessionId) = (mine.parse().unwrap(), theirs.parse().unwrap());
    let auth = [("roost-session", token.as_str())];
    let path = ZnodePath::parse("/services/web/providers/i").unwrap();
    let one = r#"{"id":"i","host":"h","port":1}"#;
    let many = r#"{"providers":[{"service":"web","id":"i","host":"h","port":1}]}"#;
    for (what, body) in [("POST /v1/services/web/providers", one), ("POST /v1/register", many)] {
        assert_eq!(bed.send("POST /v1/services/web/providers", &auth, one).await.status, 201);
        // The session itself gives it up and the other one takes it, while the registration is on its way. The new znode
        // has the version that the old one had.
        bed.node.before_next(mine, Op::Delete { path: path.clone(), version: None });
        let (parent, name) = (path.parent().unwrap(), "i".to_owned());
        let data = Some(Data::new(b"theirs"));
        let mode = CreateMode::Ephemeral;
        bed.node.before_next(theirs, Op::Create { parent, name, data, acl: Vec::new(), mode });
        let got = bed.send(what, &auth, body).await;
        assert_eq!(got.error(), (409, "node_exists".to_owned()), "{what}");
        let left = bed.node.local();
        let left = left.get(path.as_str()).unwrap();
        assert_eq!(
            (left.ephemeral_owner(), &left.data().unwrap()[..]),
            (Some(theirs), &b"theirs"[..])
        );
        let force = "DELETE /v1/services/web/providers/i?force=true";
        assert_eq!(bed.send(force, &[], "").await.status, 200);
    }
}

#[tokio::test]
async fn a_registration_that_its_list_forbids_to_change_is_refused_as_that() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    let auth = [("roost-session", token.as_str())];
    let (uri, body) = ("POST /v1/services/web/providers", r#"{"id":"i","host":"h","port":1}"#);
    assert_eq!(bed.send(uri, &auth, body).await.status, 201);
    let rules = r#"{"acl":[{"perms":"r","scheme":"world","id":"anyone"}]}"#;
    bed.send("PUT /v1/acl/services/web/providers/i", &[], rules).await;
    assert_eq!(bed.send(uri, &auth, body).await.error(), (403, "no_auth".to_owned()));
}

#[tokio::test]
async fn other_programs_get_the_providers_in_their_own_words() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    let auth = [("roost-session", token.as_str())];
    for (id, host, status) in [("a", "10.0.0.1", "up"), ("b", "10.0.0.2", "draining")] {
        let body = json!({"id": id, "host": host, "port": 80, "status": status}).to_string();
        assert_eq!(bed.send("POST /v1/services/web/providers", &auth, body).await.status, 201);
    }
    bed.post("/v1/znodes/services/web/providers/odd", "10.0.0.3:80").await;
    let targets = bed.get("/v1/sd/prometheus?service=web,none").await;
    assert_eq!((targets.status, targets.header("content-type")), (200, Some("application/json")));
    let all = targets.json();
    let shown: Vec<_> = all.as_array().unwrap().iter().map(|group| &group["targets"][0]).collect();
    assert_eq!(
        shown,
        ["10.0.0.1:80", "10.0.0.2:80"],
        "also those that take no traffic are scraped"
    );
    assert_eq!(all[1]["labels"]["__meta_roost_status"], "draining");

    let text = |got: super::Got| String::from_utf8(got.body).unwrap();
    let block = text(bed.get("/v1/sd/nginx?upstream=web").await);
    assert_eq!(block, "upstream web {\n    server 10.0.0.1:80 weight=100;\n}\n");
    let none = bed.get("/v1/sd/nginx?upstream=no%2Fne&name=none").await;
    assert_eq!(none.error(), (400, "bad_arguments".to_owned()));
    assert!(text(bed.get("/v1/sd/nginx?upstream=none").await).contains("down;"));
    for bad in ["upstream=web&name=a%20b", "upstream="] {
        let refused = bed.get(&format!("/v1/sd/nginx?{bad}")).await;
        assert_eq!(refused.error(), (400, "bad_arguments".to_owned()), "{bad}");
    }
}
