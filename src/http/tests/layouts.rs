//! Services as the frameworks write them: one view of them all.

use axum::body::BodyDataStream;
use futures::StreamExt;
use serde_json::{Value, json};

use super::health::found_at;
use super::increments::{Copy, open, sign_of};
use super::{Bed, event, pass_until};
use crate::tree::{Loader, SnapshotWriter};

const INTERFACE: &str = "org.apache.dubbo.demo.DemoService";
const PROVIDER: &str = "dubbo%3A%2F%2F192.168.2.147%3A20880%2Forg.apache.dubbo.demo.DemoService%3Fanyhost%3Dtrue%26\
    application%3Ddemo-provider%26background%3Dfalse%26deprecated%3Dfalse%26dubbo%3D2.0.2%26dynamic%3Dtrue%26generic%3D\
    false%26interface%3Dorg.apache.dubbo.demo.DemoService%26methods%3DsayHello%2CsayHelloAsync%26release%3D3.1.4%26side%3D\
    provider%26timestamp%3D1673276136517";
const SPRING: &str = r#"{"name":"shop","id":"5c8a","address":"192.168.2.9","port":8080,"sslPort":null,"payload":{"@class":
    "org.springframework.cloud.zookeeper.discovery.ZookeeperInstance","id":"shop","name":"shop","metadata":{
    "instance_status":"OUT_OF_SERVICE","zone":"b"}},"registrationTimeUTC":1573000000000,"serviceType":"DYNAMIC","uriSpec":
    null}"#;

/// Creates an ephemeral znode and what is above it, as a framework does.
pub(super) async fn write(bed: &Bed, token: &str, path: &str, data: &str) {
    let escaped = path.replace('%', "%25");
    let uri = format!("POST /v1/znodes{escaped}?mode=ephemeral&parents=true");
    let got = bed.send(&uri, &[("roost-session", token)], data.to_owned()).await;
    assert_eq!(got.status, 201, "{path}: {}", got.json());
}

async fn service(bed: &Bed, name: &str) -> Value {
    let got = bed.get(&format!("/v1/services/{name}")).await;
    assert_eq!(got.status, 200, "{name}: {}", got.json());
    got.json()
}

#[tokio::test]
async fn services_of_every_framework_are_shown_without_any_configuration() {
    let bed = Bed::new().await;
    let (session, token) = bed.session().await;
    let motan = "motan://10.0.0.8:8002/s?group=g&version=1.0&weight=3";
    let kratos = r#"{"id":"k1","name":"k","version":"v3","endpoints":["grpc://10.0.0.7:9000?isSecure=false"]}"#;
    let member = r#"{"serviceEndpoint":{"host":"10.0.0.6","port":1},"additionalEndpoints":{},"status":"ALIVE","shard":0}"#;
    for (path, data) in [
        (format!("/dubbo/{INTERFACE}/providers/{PROVIDER}"), "192.168.2.147"),
        ("/services/shop/5c8a".to_owned(), SPRING),
        ("/motan/g/s/server/10.0.0.8:8002".to_owned(), motan),
        ("/motan/g/s/unavailableServer/10.0.0.9:8002".to_owned(), "motan://10.0.0.9:8002/s"),
        ("/motan/g/s/client/10.0.0.1".to_owned(), "motan://10.0.0.1:0/s"),
        ("/microservices/k/k1".to_owned(), kratos),
        ("/serverset/role/job/member_0000000001".to_owned(), member),
        ("/services/shop/broken".to_owned(), "10.0.0.1:80"),
    ] {
        write(&bed, &token, &path, data).await;
    }
    let dubbo = service(&bed, INTERFACE).await;
    let provider = &dubbo["providers"][0];
    assert_eq!(
        (&provider["host"], &provider["port"], &provider["layout"]),
        (&json!("192.168.2.147"), &json!(20880), &json!("dubbo"))
    );
    assert_eq!(provider["metadata"]["methods"], "sayHello,sayHelloAsync");
    assert_eq!(provider["session"], json!(session));

    let shop = service(&bed, "shop").await;
    let spring = &shop["providers"][0];
    assert_eq!(
        (&spring["layout"], &spring["status"]),
        (&json!("spring"), &json!("out_of_service"))
    );
    let broken = &shop["unparsable"][0];
    assert_eq!(
        (&broken["id"], &broken["path"]),
        (&json!("broken"), &json!("/services/shop/broken"))
    );
    assert!(broken["reason"].as_str().unwrap().contains("JSON"), "{broken}");

    let motan = service(&bed, "s").await;
    let shown: Vec<_> = motan["providers"].as_array().unwrap().iter().collect();
    assert_eq!((&shown[0]["group"], &shown[0]["weight"]), (&json!("g"), &json!(3)));
    assert_eq!(shown[1]["status"], "starting", "registered, and not serving yet");
    assert_eq!(service(&bed, "k").await["providers"][0]["release"], "v3");
    assert_eq!(service(&bed, "role%2Fjob").await["providers"][0]["port"], 1);

    let list = |query: &str| format!("/v1/services{query}");
    let names = async |query: &str| -> Vec<String> {
        let got = bed.get(&list(query)).await.json();
        let all = got["services"].as_array().unwrap_or_else(|| panic!("{got}")).clone();
        all.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("").await, ["k", INTERFACE, "role/job", "s", "shop"]);
    assert_eq!(names("?prefix=s").await, ["s", "shop"]);
    assert_eq!(names("?prefix=s&after=s").await, ["shop"]);
    assert_eq!(names("?limit=2&after=k").await, [INTERFACE, "role/job"]);
    assert_eq!(names("?layout=spring").await, ["shop"]);
    assert_eq!(names("?layout=dubbo_application").await, [""; 0]);
    for uri in ["/v1/services?layout=nosuch", "/v1/services/shop?layout=nosuch"] {
        let got = bed.get(uri).await;
        assert_eq!(got.error(), (400, "bad_arguments".to_owned()), "{uri}");
        assert!(got.json()["message"].as_str().unwrap().contains("nosuch"), "{}", got.json());
    }
    let none = bed.get("/v1/sd/prometheus?service=").await;
    assert!(none.json()["message"].as_str().unwrap().starts_with("service is"), "{}", none.json());
    assert_eq!(names("?group=g").await, ["s"]);
    assert_eq!(names("?label=zone%3Db").await, ["shop"]);
    assert_eq!(bed.get("/v1/services?label=zone").await.error(), (400, "bad_arguments".to_owned()));
    assert_eq!(names("?namespace=red").await, [""; 0]);

    let targets = bed.get(&format!("/v1/sd/prometheus?service={INTERFACE},shop")).await.json();
    assert_eq!(targets[0]["targets"][0], "192.168.2.147:20880");
    assert_eq!(targets[1]["labels"]["__meta_roost_status"], "out_of_service");
}

#[tokio::test]
async fn an_instance_that_is_registered_in_two_layouts_is_one_with_two_origins() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    let by_name = "dubbo%3A%2F%2F10.0.0.5%3A20880%2Fpay%3Fweight%3D7%26side%3Dprovider";
    write(&bed, &token, &format!("/dubbo/pay/providers/{by_name}"), "").await;
    let payload = json!({"metadata": {"dubbo.metadata.revision": "r1"}});
    let entry = json!({"address": "10.0.0.5", "port": 20880, "payload": payload}).to_string();
    write(&bed, &token, "/services/pay/10.0.0.5:20880", &entry).await;
    let pay = service(&bed, "pay").await;
    assert_eq!(pay["providers"].as_array().unwrap().len(), 1, "{pay}");
    let one = &pay["providers"][0];
    assert_eq!((&one["layout"], &one["weight"]), (&json!("dubbo"), &json!(7)));
    assert_eq!(one["origins"][0]["layout"], "dubbo_application");
    assert_eq!(one["origins"][0]["path"], "/services/pay/10.0.0.5:20880");
    assert_eq!(pay["conflicts"], json!([]));
    let only = bed.get("/v1/services/pay?layout=curator").await.json();
    assert_eq!(only["providers"][0]["metadata_revision"], "r1");
    assert_eq!(bed.get("/v1/services/pay?layout=motan").await.status, 404);

    // What people who run Dubbo write to take traffic from a host.
    let rule =
        "override%3A%2F%2F10.0.0.5%2Fpay%3Fcategory%3Dconfigurators%26dynamic%3Dfalse%26weight%3D0";
    write(&bed, &token, &format!("/dubbo/pay/configurators/{rule}"), "").await;
    assert_eq!(service(&bed, "pay").await["providers"][0]["weight"], 0);
}

#[tokio::test]
async fn what_an_override_hides_is_shown_beside_it() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    let data = r#"{"host":"10.0.0.5","port":80,"weight":70}"#;
    write(&bed, &token, "/services/web/providers/a", data).await;
    assert!(service(&bed, "web").await["providers"][0].get("declared").is_none());
    let policy = json!({"reason": "it burns", "pattern": "/services/web/providers/*", "weight": 0});
    let set = bed.send("PUT /v1/policies/overrides/o", &[], policy.to_string()).await;
    assert_eq!(set.status, 200, "{}", set.json());
    let is_noted =
        || bed.node.local().get("/roost/effects").is_some_and(|all| all.num_children() == 1);
    pass_until(&bed.node, "the override has its effect", is_noted).await;
    let shown = service(&bed, "web").await["providers"][0].clone();
    assert_eq!((&shown["weight"], &shown["declared"]), (&json!(0), &json!({"/weight": 70})));
    let effect = bed.get("/v1/overrides").await.json()["effects"][0].clone();
    assert_eq!((&effect["before"], &effect["made_by"]), (&json!({"/weight": 70}), &json!(["o"])));
}

#[tokio::test]
async fn a_namespace_is_a_registry_of_its_own() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    let auth = [("roost-session", token.as_str())];
    let body = |host: &str| json!({"host": host, "port": 80, "group": "blue"}).to_string();
    let uri = "POST /v1/ns/red/services/web/providers";
    let made = bed.send(uri, &auth, body("10.0.0.1")).await;
    assert_eq!(
        (made.status, &made.json()["path"]),
        (201, &json!("/ns/red/services/web/providers/10.0.0.1:80"))
    );
    assert_eq!(made.json()["incarnation"], made.json()["zxid"]);
    let again = bed.send(uri, &auth, body("10.0.0.1")).await;
    assert_eq!((again.status, &again.json()["incarnation"]), (200, &made.json()["incarnation"]));
    bed.send("POST /v1/services/web/providers", &auth, body("10.0.0.2")).await;
    let mut many: Value = serde_json::from_str(&body("10.0.0.3")).unwrap();
    many["service"] = json!("web");
    many["namespace"] = json!("red");
    let many = json!({"providers": [many]}).to_string();
    assert_eq!(bed.send("POST /v1/register", &auth, many).await.status, 200);
    assert_eq!(bed.send("PUT /v1/ns/red/services/web/consumers/c", &auth, "{}").await.status, 201);
    write(&bed, &token, "/ns/red/dubbo/web/providers/tri%3A%2F%2F10.0.0.4%3A1%2Fweb", "").await;

    let hosts = |got: Value| -> Vec<String> {
        let all = got["providers"].as_array().unwrap_or_else(|| panic!("{got}")).clone();
        all.iter().map(|it| it["host"].as_str().unwrap().to_owned()).collect()
    };
    let red = bed.get("/v1/services/web?namespace=red").await.json();
    assert_eq!((&red["namespace"], &red["consumers"][0]["id"]), (&json!("red"), &json!("c")));
    assert_eq!(hosts(red), ["10.0.0.1", "10.0.0.3", "10.0.0.4"]);
    assert_eq!(hosts(service(&bed, "web").await), ["10.0.0.2"]);
    for query in ["", "?namespace=red"] {
        let same = bed.get(&format!("/v1/ns/red/services/web{query}")).await.json();
        assert_eq!(hosts(same), ["10.0.0.1", "10.0.0.3", "10.0.0.4"], "{query}");
    }
    let group = bed.get("/v1/ns/red/services/web?group=blue").await.json();
    assert_eq!(hosts(group), ["10.0.0.1", "10.0.0.3"]);
    assert_eq!(bed.get("/v1/ns/green/services/web").await.status, 404);
    let other = bed.get("/v1/ns/red/services/web?namespace=green").await;
    assert_eq!(other.error(), (400, "bad_arguments".to_owned()));
    for (namespace, host) in [("red", "10.0.0.1:80"), ("", "10.0.0.2:80"), ("green", "down")] {
        let uri = format!("/v1/sd/nginx?upstream=web&namespace={namespace}");
        let block = String::from_utf8(bed.get(&uri).await.body).unwrap();
        assert!(block.contains(host), "{namespace:?}: {block}");
    }
    let targets = bed.get("/v1/sd/prometheus?service=web&namespace=red").await.json();
    assert_eq!(targets.as_array().unwrap().len(), 3, "{targets}");
    let list = bed.get("/v1/ns/red/services").await.json();
    assert_eq!(
        (&list["services"][0]["name"], &list["services"][0]["providers"]),
        (&json!("web"), &json!(3))
    );
    let wrong = json!({"host": "h", "port": 1, "namespace": "green"}).to_string();
    assert_eq!(bed.send(uri, &auth, wrong).await.error(), (400, "bad_arguments".to_owned()));
    let gone = "DELETE /v1/ns/red/services/web/providers/10.0.0.1:80";
    assert_eq!(bed.send(gone, &auth, "").await.status, 200);
    assert_eq!(bed.send(gone, &auth, "").await.status, 404);
    let gone = "DELETE /v1/ns/red/services/web/consumers/c";
    assert_eq!(bed.send(gone, &auth, "").await.status, 200);
    assert_eq!(bed.send(gone, &auth, "").await.status, 404);

    // Who may not read a namespace learns nothing of it, not even how much there is.
    let closed = r#"{"acl":[{"perms":"cdrwa","scheme":"digest","id":"u:h"}]}"#;
    for path in ["services/web/providers", "services/web", "dubbo/web/providers"] {
        bed.send(&format!("PUT /v1/acl/ns/red/{path}"), &[], closed).await;
    }
    let refused = bed.get("/v1/services/web?namespace=red").await;
    assert_eq!(refused.error(), (403, "no_auth".to_owned()));
    let listed = async || bed.get("/v1/ns/red/services").await.json()["services"].clone();
    assert_eq!(listed().await, json!([]));

    // Nor who may not go down to it, though what is below is open.
    let open = r#"{"acl":[{"perms":"cdrwa","scheme":"world","id":"anyone"}]}"#;
    write(&bed, &token, "/ns/red/microservices/k/a", r#"{"endpoints":["grpc://10.0.0.7:9"]}"#)
        .await;
    assert_eq!(listed().await[0]["name"], "k");
    let hidden = r#"{"acl":[{"perms":"cdwa","scheme":"world","id":"anyone"}]}"#;
    for (at, acl, shown) in [("", hidden, 0), ("", open, 1), ("/microservices", hidden, 0)] {
        bed.send(&format!("PUT /v1/acl/ns/red{at}"), &[], acl).await;
        assert_eq!(listed().await.as_array().unwrap().len(), shown, "{at} {acl}");
    }
}

#[tokio::test]
async fn metadata_are_kept_once_under_a_revision_that_never_changes() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    let uri = "/v1/services/web/metadata/r1";
    let put = async |data: &str| bed.send(&format!("PUT {uri}"), &[], data.to_owned()).await;
    assert_eq!(put("interfaces").await.status, 201);
    let zxid = bed.node.local().get("/services/web/metadata/r1").unwrap().stat().mzxid;
    assert_eq!(put("interfaces").await.status, 200);
    assert_eq!(put("others").await.error(), (409, "node_exists".to_owned()));
    let znode = bed.node.local().get("/services/web/metadata/r1").unwrap().stat();
    assert_eq!((znode.mzxid, znode.version), (zxid, 0), "nothing was written");
    for id in ["a", "b"] {
        let provider = json!({"id": id, "host": id, "port": 80, "metadata_revision": "r1"});
        assert_eq!(bed.register(&token, "web", provider).await.status, 201);
    }
    let web = service(&bed, "web").await;
    assert_eq!(web["providers"][1]["metadata_revision"], "r1");
    assert_eq!(web["unparsable"], json!([]), "the directory is no instance");
    let got = bed.get(uri).await.json();
    assert_eq!((&got["data"], &got["encoding"]), (&json!("interfaces"), &json!("utf8")));
    bed.post("/v1/znodes/dubbo/metadata/app/r9?parents=true", "{}").await;
    let dubbo = bed.get("/v1/services/app/metadata/r9").await.json();
    assert_eq!(dubbo["path"], "/dubbo/metadata/app/r9");
    assert_eq!(bed.get("/v1/services/web/metadata/none").await.status, 404);
}

#[tokio::test]
async fn a_view_that_has_not_changed_is_not_sent_again() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    write(&bed, &token, "/services/web/providers/a", r#"{"host":"h","port":1}"#).await;
    let first = bed.get("/v1/services/web").await;
    let tag = first.header("etag").unwrap().to_owned();
    let again = async || bed.send("GET /v1/services/web", &[("if-none-match", &tag)], "").await;
    bed.post("/v1/znodes/elsewhere", "").await;
    let same = again().await;
    assert_eq!((same.status, same.body.len(), same.header("etag")), (304, 0, Some(tag.as_str())));
    write(&bed, &token, "/services/web/consumers/c", "{}").await;
    let other = again().await;
    assert_eq!((other.status, &other.json()["sign"]), (200, &first.json()["sign"]));
    bed.send("PUT /v1/znodes/services/web/providers/a", &[], r#"{"host":"h","port":2}"#).await;
    let other = again().await.json();
    assert_ne!(other["sign"], first.json()["sign"]);
    assert_eq!(other["providers"][0]["port"], 2);
}

const MESH: &str = "/mesh/{namespace}/{group}/{service}/nodes/n-{id}";

fn mesh() -> Value {
    json!({"reason": "our own", "pattern": MESH, "read": "json",
        "fields": {"address": "/net/addr", "status": "state", "metadata": "tags"}})
}

/// Checks that the index of services is what the znodes and the layouts say, and that both follow from a snapshot.
fn is_in_step(bed: &Bed) {
    let tree = bed.node.local();
    assert_eq!(tree.found_services(), *tree.services());
    let mut writer = SnapshotWriter::new((*tree).clone());
    let mut loader = Loader::new();
    while let Some(chunk) = writer.next_chunk() {
        loader.push(&chunk).unwrap();
    }
    let loaded = loader.finish().unwrap();
    assert_eq!((loaded.layouts(), loaded.services()), (tree.layouts(), tree.services()));
}

/// Reads a stream until it ends, and checks that it tells of no instance on the way.
async fn ends(mut stream: BodyDataStream) {
    while let Some(piece) = stream.next().await {
        let text = String::from_utf8_lossy(&piece.unwrap()).into_owned();
        assert!(!text.contains("delta") && !text.contains("snapshot"), "{text}");
    }
}

#[tokio::test]
async fn who_follows_a_service_learns_of_every_change_of_the_layout_that_it_is_in() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    write(&bed, &token, "/mesh/pay/a", "10.0.0.5:80").await;
    write(&bed, &token, "/services/pay/providers/b", r#"{"host":"h","port":1}"#).await;
    write(&bed, &token, "/services/web/providers/w", r#"{"host":"h","port":2}"#).await;
    let (mut web, mut web_buffer) = open(&bed, json!([{"name": "web"}])).await;
    assert_eq!(event(&mut web, &mut web_buffer).await.0, "snapshot");
    let layout = |name: &str, read: &str| {
        let policy = json!({"reason": "r", "pattern": "/mesh/{service}/{id}", "read": read});
        (format!("PUT /v1/policies/layout/{name}"), policy.to_string())
    };
    let delete = |name: &str| (format!("DELETE /v1/policies/layout/{name}"), String::new());
    let mut addresses = Vec::new();
    for (uri, body) in [
        layout("mesh", "json"),
        layout("mesh", "address_data"),
        // Where two mean one list the first by name has it, however old the other is.
        layout("a", "json"),
        delete("a"),
        delete("mesh"),
    ] {
        found_at(&bed, "/mesh/pay/a", addresses.len() % 2 == 0).await;
        is_in_step(&bed);
        let whole = bed.get("/v1/services/pay?since=99999").await;
        let (mut polled, mut streamed) = (Copy::default(), Copy::default());
        polled.take(&whole.json());
        let since = whole.json()["to"].as_u64().unwrap();
        let tag = bed.get("/v1/services/pay").await.header("etag").unwrap().to_owned();
        let (mut stream, mut buffer) = open(&bed, json!([{"name": "pay", "since": since}])).await;
        assert_eq!(event(&mut stream, &mut buffer).await.0, "progress");
        let before = sign_of(&bed, "pay").await;

        assert_eq!(bed.send(&uri, &[], body).await.status, 200, "{uri}");
        is_in_step(&bed);
        let sign = sign_of(&bed, "pay").await;
        assert_ne!(sign, before, "{uri}");
        let shown = bed.send("GET /v1/services/pay", &[("if-none-match", &tag)], "").await;
        assert_eq!(shown.status, 200, "{uri}");
        let providers = shown.json()["providers"].as_array().unwrap().clone();
        addresses.push(providers.iter().map(|it| it["host"].to_string()).collect::<String>());
        let polled_now = bed.get(&format!("/v1/services/pay?since={since}")).await.json();
        polled.take(&polled_now);
        assert_eq!(polled.sign(), sign, "{uri}: {polled_now}");
        ends(stream).await;
        let (mut stream, mut buffer) = open(&bed, json!([{"name": "pay", "since": since}])).await;
        let (_, _, told) = event(&mut stream, &mut buffer).await;
        streamed.take(&told);
        assert_eq!(streamed.sign(), sign, "{uri}: {told}");
        assert_eq!(told["upsert"].as_array().unwrap().len(), providers.len());
    }
    let (both, own) = (r#""10.0.0.5""h""#, r#""h""#);
    assert_eq!(addresses, [own, both, own, both, own]);
    // To whom it is nothing they go on.
    write(&bed, &token, "/services/web/providers/x", r#"{"host":"h","port":3}"#).await;
    let mut told = event(&mut web, &mut web_buffer).await;
    while told.0 == "progress" {
        told = event(&mut web, &mut web_buffer).await;
    }
    assert_eq!((told.0.as_str(), &told.2["upsert"][0]["id"]), ("delta", &json!("x")));
}

/// Returns how many providers of a list removal protection counts.
fn counted(bed: &Bed, list: &str) -> u64 {
    bed.node.local().providers(list, 0).0
}

#[tokio::test]
async fn a_layout_of_ones_own_is_tried_and_then_in_the_view_of_services_until_it_goes() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    let entry = json!({"net": {"addr": "10.0.0.5:80"}, "state": "UP", "tags": {"zone": "b"}});
    let list = "/mesh/red/g/pay/nodes";
    write(&bed, &token, &format!("{list}/n-1"), &entry.to_string()).await;
    write(&bed, &token, &format!("{list}/n-2"), "10.0.0.6:80").await;
    write(&bed, &token, &format!("{list}/leader"), &entry.to_string()).await;
    let other = json!({"path": "/mesh/red/g/pay/n-3", "data": "x"});
    let test = json!({"kind": "layout", "policy": mesh(), "write": other}).to_string();
    let tested = bed.post("/v1/policies/test", test).await.json();
    let read = tested["entries"].as_array().unwrap();
    let of = |id: &str| read.iter().find(|it| it["path"].as_str().unwrap().ends_with(id)).unwrap();
    assert_eq!((&of("n-1")["address"], &of("n-1")["group"]), (&json!("10.0.0.5:80"), &json!("g")));
    assert_eq!((&of("n-1")["service"], &of("n-1")["namespace"]), (&json!("pay"), &json!("red")));
    for (id, word) in [("n-2", "JSON"), ("n-3", "path"), ("leader", "path")] {
        assert!(of(id)["reason"].as_str().unwrap().contains(word), "{tested}");
    }
    assert_eq!(bed.get("/v1/services/pay?namespace=red").await.status, 404, "a test sets nothing");

    let url = "/v1/policies/layout/mesh";
    assert_eq!(counted(&bed, list), 0);
    assert_eq!(bed.send(&format!("PUT {url}"), &[], mesh().to_string()).await.status, 200);
    is_in_step(&bed);
    assert_eq!(counted(&bed, list), 1, "what is listed is protected");
    let pay = async || bed.get("/v1/services/pay?namespace=red").await;
    let shown = pay().await.json();
    let [one] = &shown["providers"].as_array().unwrap()[..] else { panic!("{shown}") };
    assert_eq!((&one["host"], &one["port"]), (&json!("10.0.0.5"), &json!(80)));
    assert_eq!((&one["layout"], &one["status"]), (&json!("mesh"), &json!("up")));
    assert_eq!((&one["group"], &one["metadata"]["zone"]), (&json!("g"), &json!("b")));
    assert_eq!(shown["unparsable"][0]["path"], format!("{list}/n-2"));
    let listed = bed.get("/v1/services?namespace=red&layout=mesh&group=g").await.json();
    assert_eq!(listed["services"][0]["name"], "pay", "{listed}");
    assert_eq!(listed["services"][0]["layouts"], json!(["mesh"]));

    // Who follows it hears of it.
    let body = json!({"services": [{"name": "pay", "namespace": "red"}]}).to_string();
    let mut stream = bed.raw("POST /v1/watch", &[], body).await.into_body().into_data_stream();
    let mut buffer = String::new();
    assert_eq!(event(&mut stream, &mut buffer).await.0, "snapshot");
    write(&bed, &token, &format!("{list}/n-3"), &entry.to_string()).await;
    let (kind, _, delta) = event(&mut stream, &mut buffer).await;
    let upsert = &delta["upsert"][0];
    assert_eq!(
        (kind.as_str(), &upsert["id"], &upsert["layout"]),
        ("delta", &json!("n-3"), &json!("mesh"))
    );
    assert_eq!(delta["sign"], pay().await.json()["sign"]);
    is_in_step(&bed);

    // Another pattern takes the place of the first, and none is left when it goes.
    let mut moved = mesh();
    moved["pattern"] = json!("/mesh/*/*/{service}/{id}/n-{id}");
    assert_eq!(bed.send(&format!("PUT {url}"), &[], moved.to_string()).await.status, 400);
    moved["pattern"] = json!("/mesh/*/{service}/*/nodes/{id}");
    assert_eq!(bed.send(&format!("PUT {url}"), &[], moved.to_string()).await.status, 200);
    is_in_step(&bed);
    assert_eq!(pay().await.status, 404);
    assert_eq!(service(&bed, "g").await["providers"].as_array().unwrap().len(), 3);
    assert_eq!(counted(&bed, list), 3);
    assert_eq!(bed.send(&format!("DELETE {url}"), &[], "").await.status, 200);
    is_in_step(&bed);
    assert_eq!(counted(&bed, list), 0);
    assert_eq!(bed.get("/v1/services/g").await.status, 404);
    assert_eq!(bed.get(&format!("/v1/children{list}")).await.status, 200, "the znodes stay");
}

#[tokio::test]
async fn an_interface_has_the_instances_of_the_applications_that_its_mapping_names() {
    let bed = Bed::new().await;
    let (_, token) = bed.session().await;
    let mapping = "/v1/znodes/dubbo/mapping/org.Pay";
    assert_eq!(bed.post(&format!("{mapping}?parents=true"), "shop").await.status, 201);
    let pay = async |query: &str| bed.get(&format!("/v1/services/org.Pay{query}")).await;
    assert_eq!(pay("").await.json()["providers"], json!([]), "nobody offers it yet");
    let of_dubbo = |port: u16| {
        let payload = json!({"metadata": {"dubbo.metadata.revision": "r1"}});
        json!({"address": "10.0.0.5", "port": port, "payload": payload}).to_string()
    };
    write(&bed, &token, "/services/shop/10.0.0.5:20880", &of_dubbo(20880)).await;
    write(&bed, &token, "/services/shop/5c8a", SPRING).await;
    write(&bed, &token, "/services/till/10.0.0.5:20881", &of_dubbo(20881)).await;
    let ports = |shown: &Value| -> Vec<Value> {
        shown["providers"].as_array().unwrap().iter().map(|it| it["port"].clone()).collect()
    };
    let shown = pay("").await.json();
    assert_eq!(ports(&shown), [20880], "what is not Dubbo's does not offer it");
    assert_eq!(shown["providers"][0]["layout"], "dubbo_application");
    let listed = bed.get("/v1/services?prefix=org.Pay").await.json();
    assert_eq!(listed["services"][0]["layouts"], json!(["curator"]), "{listed}");

    // Registered by interface too it is one, with both origins.
    let url = "dubbo%3A%2F%2F10.0.0.5%3A20880%2Forg.Pay%3Fweight%3D7";
    write(&bed, &token, &format!("/dubbo/org.Pay/providers/{url}"), "").await;
    let both = pay("").await.json();
    let one = &both["providers"][0];
    assert_eq!((ports(&both).len(), &one["layout"]), (1, &json!("dubbo")));
    assert_eq!(one["origins"][0]["path"], "/services/shop/10.0.0.5:20880");

    // Whose it is changes: who has a list is given all of it, and who follows it comes back.
    let since = bed.node.local().zxid().0;
    let body = r#"{"services":[{"name":"org.Pay"}]}"#;
    let mut stream = bed.raw("POST /v1/watch", &[], body).await.into_body().into_data_stream();
    let mut buffer = String::new();
    let (_, _, snapshot) = event(&mut stream, &mut buffer).await;
    assert_eq!(snapshot["upsert"].as_array().unwrap().len(), 3, "{snapshot}");
    assert_eq!(snapshot["sign"], both["sign"]);
    assert_eq!(pay(&format!("?since={since}")).await.status, 304);
    assert_eq!(bed.send(&format!("PUT {mapping}"), &[], "shop,till").await.status, 200);
    ends(stream).await;
    let delta = pay(&format!("?since={since}")).await.json();
    assert_eq!((&delta["full"], delta["upsert"].as_array().unwrap().len()), (&json!(true), 4));
    assert_eq!(ports(&pay("").await.json()), [20881, 20880], "by id");
    is_in_step(&bed);
    let since = bed.node.local().zxid().0;
    let known = json!([{"name": "org.Pay", "since": since}]);
    let (mut stream, mut buffer) = open(&bed, known.clone()).await;
    assert_eq!(event(&mut stream, &mut buffer).await.0, "progress");
    assert_eq!(bed.send("DELETE /v1/znodes/dubbo/mapping/org.Pay", &[], "").await.status, 200);
    assert_eq!(ports(&pay("").await.json()), [20880]);
    ends(stream).await;
    let delta = pay(&format!("?since={since}")).await.json();
    let (mut stream, mut buffer) = open(&bed, known).await;
    let (kind, _, told) = event(&mut stream, &mut buffer).await;
    assert_eq!((kind.as_str(), &told), ("snapshot", &delta), "of the applications nothing is left");
    assert_eq!((&delta["full"], delta["upsert"].as_array().unwrap().len()), (&json!(true), 1));
}
