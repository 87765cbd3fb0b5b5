//! Input that no well-meaning client sends: each gets a clear error, and nothing is harmed.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use reqwest::{Client, Method};
use roost::client::model::{Child, Create, Stat};
use serde_json::Value;

use crate::harness::{Cluster, seed};

struct Door {
    http: Client,
    url: String,
}

impl Door {
    /// Sends a request that must be refused with this status and code, and a message that says this.
    async fn refuses(&self, request: (&str, &str, Vec<u8>), status: u16, code: &str, says: &str) {
        let (method, path, body) = request;
        let method: Method = method.parse().unwrap();
        let request = self.http.request(method.clone(), format!("{}{path}", self.url)).body(body);
        let response = request.send().await.unwrap();
        self.expect(response, status, code, says, &format!("{method} {path}")).await;
    }

    async fn expect(
        &self,
        response: reqwest::Response,
        status: u16,
        code: &str,
        says: &str,
        what: &str,
    ) {
        let found = response.status().as_u16();
        let text = response.text().await.unwrap();
        assert_eq!(found, status, "{what}: {text}");
        let error: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{what}: {text}"));
        assert_eq!(error["code"], code, "{what}: {text}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(says) && !message.contains('\n'), "{what}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_get_clear_errors_and_change_nothing() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client_from(0);
    client.create(&Create { path: "/kept".into(), ..Create::default() }).await.unwrap();
    let before = contents(&client).await;
    let http = Client::builder().no_proxy().build().unwrap();
    let door = Door { http, url: cluster.nodes[0].url("") };

    let text = |text: &str| text.as_bytes().to_vec();
    for (method, path, body, status, code, says) in [
        ("POST", "/v1/sessions", "{\"timeout_ms\":", 400, "bad_request", "line 1"),
        ("POST", "/v1/sessions", "[1,2", 400, "bad_request", ""),
        ("POST", "/v1/sessions", "{\"timeout\":1}", 400, "bad_request", "timeout"),
        ("POST", "/v1/sessions", "{\"timeout_ms\":-1}", 400, "bad_request", ""),
        (
            "POST",
            "/v1/multi",
            "{\"ops\":[{\"op\":\"fly\",\"path\":\"/x\"}]}",
            400,
            "bad_request",
            "fly",
        ),
        (
            "POST",
            "/v1/multi",
            "{\"ops\":[{\"op\":\"check\",\"path\":\"x\"}]}",
            400,
            "bad_arguments",
            "",
        ),
        ("POST", "/v1/znodes/a//b", "", 400, "bad_arguments", ""),
        ("POST", "/v1/znodes/a/..%2fb", "", 400, "bad_arguments", ""),
        ("POST", "/v1/znodes/a%00b", "", 400, "bad_arguments", ""),
        ("POST", "/v1/znodes/a%ffb", "", 400, "bad_arguments", "UTF-8"),
        ("POST", "/v1/znodes/a?mode=forever", "", 400, "bad_request", "mode"),
        ("POST", "/v1/znodes/a?colour=red", "", 400, "bad_request", "colour"),
        ("POST", "/v1/znodes/a?mode=ephemeral", "", 400, "bad_arguments", "session"),
        ("GET", "/v1/znodes/kept?consistency=wrong", "", 400, "bad_request", "consistency"),
        ("GET", "/v1/children/?limit=0", "", 400, "bad_arguments", "limit"),
        ("GET", "/v1/watch?watch=smell:/x", "", 400, "bad_arguments", "smell"),
        ("GET", "/v1/sessions/nonsense", "", 400, "bad_arguments", "nonsense"),
        ("GET", "/v1/nothing", "", 404, "not_found", "/v1/nothing"),
        ("GET", "/", "", 404, "not_found", "/openapi.json"),
        ("PATCH", "/v1/znodes/kept", "", 405, "method_not_allowed", "Allow"),
        ("DELETE", "/v1/znodes/", "", 400, "bad_arguments", ""),
        ("DELETE", "/v1/znodes/none", "", 404, "no_node", ""),
    ] {
        door.refuses((method, path, text(body)), status, code, says).await;
    }
    let too_large = vec![b'x'; 1_048_001];
    door.refuses(("PUT", "/v1/znodes/kept", too_large), 413, "too_large", "").await;
    let too_large = vec![b' '; (12 << 20) + 1];
    door.refuses(("POST", "/v1/multi", too_large), 413, "too_large", "").await;
    let too_long = format!("/v1/znodes/{}", "x".repeat(5_000));
    door.refuses(("POST", &too_long, vec![]), 400, "bad_arguments", "").await;

    headers(&cluster, &door).await;
    assert_eq!(contents(&client).await, before, "something was changed");
    client.create(&Create { path: "/more".into(), ..Create::default() }).await.unwrap();
}

/// Returns what is in the tree at its top, with the stats of all.
async fn contents(client: &roost::client::Client) -> (Stat, Vec<Child>) {
    let children = client.children("/", true, true, Default::default()).await.unwrap();
    (children.stat, children.children)
}

/// Headers, and tokens of sessions that are none.
async fn headers(cluster: &Cluster, door: &Door) {
    let url = format!("{}/v1/znodes/kept", door.url);
    for (name, value, status, code) in [
        ("Roost-Session", "nonsense", 401, "auth_failed"),
        (
            "Roost-Session",
            "0x0100000000000001.00000000000000000000000000000000",
            410,
            "session_expired",
        ),
        ("If-Match", "\"seven\"", 400, "bad_arguments"),
        ("If-Match", "\"7\"", 412, "bad_version"),
        ("Idempotency-Key", &"k".repeat(129), 400, "bad_arguments"),
    ] {
        let request = door.http.put(&url).header(name, value).body("x");
        let what = format!("{name}: {value}");
        door.expect(request.send().await.unwrap(), status, code, "", &what).await;
    }
    // A living session under another secret, and one that has ended.
    let client = cluster.client_from(0);
    let session = client.open_session(60_000).await.unwrap();
    let forged = format!("{}.{}", session.session, "0".repeat(32));
    let request = door.http.put(&url).header("Roost-Session", forged).body("x");
    door.expect(request.send().await.unwrap(), 401, "auth_failed", "", "a forged token").await;
    client.close_session(&session.token).await.unwrap();
    let request = door.http.put(&url).header("Roost-Session", &session.token).body("x");
    door.expect(request.send().await.unwrap(), 410, "session_expired", "", "an old token").await;
    assert_eq!(client.get("/kept", Default::default()).await.unwrap().stat.version, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_either_port_is_cut_off_and_harms_nobody() {
    let mut cluster = Cluster::start(3).await;
    let mut random = StdRng::seed_from_u64(seed());
    let client = cluster.client_from(0);
    client.create(&Create { path: "/kept".into(), ..Create::default() }).await.unwrap();
    for round in 0..30 {
        let node = &cluster.nodes[round % 3];
        let port = if round % 2 == 0 { node.peer } else { node.http };
        let mut bytes = vec![0; random.random_range(1..5_000)];
        random.fill_bytes(&mut bytes);
        match round % 6 {
            // A length of nearly 4 GiB.
            0 => bytes.splice(0..0, [0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0]).for_each(drop),
            // A frame within the bounds of a handshake, with a wrong checksum.
            2 => bytes.splice(0..0, [100, 0, 0, 0, 0, 0, 0, 0]).for_each(drop),
            1 => bytes = b"GET /v1/znodes/kept HTTP/9.9\r\n\r\n".to_vec(),
            3 => bytes = b"POST /v1/multi HTTP/1.1\r\nContent-Length: x\r\n\r\n".to_vec(),
            _ => {}
        }
        tokio::task::spawn_blocking(move || cut_off(port, &bytes)).await.unwrap();
    }
    for node in &mut cluster.nodes {
        assert!(node.process().ended().is_none());
        assert!(!node.process().output().contains("panicked"));
    }
    client.set("/kept", b"x".to_vec(), Some(0)).await.unwrap();
    cluster.agree().await;
}

/// Sends the bytes and waits for the other side to close the connection.
fn cut_off(port: u16, bytes: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // The other side may close before it has all.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(err) => assert_eq!(err.kind(), ErrorKind::ConnectionReset, "{bytes:?}"),
    }
    assert!(answer.len() < 4096, "{} bytes", answer.len());
}
