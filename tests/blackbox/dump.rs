//! `roost dump` of a stopped node prints what the node had.

use std::process::{Command, Stdio};

use roost::client::model::{Create, Mode};
use serde_json::Value;

use crate::harness::{Cluster, ROOST, eventually, roost};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_of_a_stopped_node_has_the_zxid_and_the_digest_that_the_node_had() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client_from(1);
    let path = "/a \u{e9}".to_owned();
    let data = b"\x00binary".to_vec();
    client.create(&Create { path: path.clone(), data, ..Create::default() }).await.unwrap();
    for value in 0..50 {
        client.set(&path, value.to_string().into_bytes(), None).await.unwrap();
    }
    client.create(&Create { path: path.clone(), ..Create::default() }).await.unwrap_err();
    let session = client.open_session(600_000).await.unwrap();
    // One that expires: what the leader wrote of it is not what the tree applies.
    let short = client.open_session(1_000).await.unwrap();
    let gone = Create { path: "/gone".into(), mode: Mode::Ephemeral, ..Create::default() };
    client.with_session(&short.token).create(&gone).await.unwrap();
    eventually("the end of a session", async || {
        client.get("/gone", Default::default()).await.is_err().then_some(())
    })
    .await;
    let said = cluster.agree().await;

    // While it runs it is left alone.
    let dir = cluster.nodes[0].data_dir().display().to_string();
    let refused = roost("", &["dump", &dir]).await;
    refused.fails_in_one_line(1, &["in use by another process", &dir]);

    for node in &mut cluster.nodes {
        node.stop().await;
    }
    for node in &cluster.nodes {
        let dir = node.data_dir().display().to_string();
        let text = roost("", &["dump", &dir]).await;
        assert!(text.code == 0 && text.err.is_empty(), "{}", text.err);
        let state = format!("tree: zxid={} digest={} ", said.zxid, said.digest);
        assert!(text.out.contains(&state), "{state}, but: {}", text.out);
        assert!(text.out.contains(&format!("session {}", session.session)));
        let expiry = text.out.lines().find(|line| line.contains("Expire {"));
        assert!(expiry.is_some_and(|line| line.contains("Removed")), "{expiry:?}");
        assert!(!text.out.contains(&format!("session {} ", short.session)), "{}", text.out);
        assert!(text.out.contains("\"49\""), "{}", text.out);

        let json = roost("", &["--json", "dump", &dir]).await;
        let lines: Vec<Value> =
            json.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let state = lines.iter().find(|line| line["digest"].is_string()).unwrap();
        assert_eq!(
            (&state["zxid"], &state["digest"]),
            (&said.zxid.into(), &said.digest.clone().into())
        );
        let zxids: Vec<u64> = lines
            .iter()
            .filter(|line| line["index"].is_u64())
            .filter_map(|line| line["zxid"].as_u64())
            .collect();
        assert!(zxids.windows(2).all(|pair| pair[0] < pair[1]), "{zxids:?}");
        assert_eq!(zxids.last(), Some(&said.zxid));

        let tree = roost("", &["dump", "--no-log", &dir]).await;
        assert!(tree.out.starts_with("tree: "), "{}", tree.out);
        let log = roost("", &["dump", "--no-tree", &dir]).await;
        assert!(!log.out.contains("tree: ") && log.out.contains("SetData"), "{}", log.out);
    }
    let dir = cluster.nodes[0].data_dir().display().to_string();
    ends_quietly_when_nobody_reads(&["dump", &dir]);
    let nothing = cluster.dir.path().join("nothing").display().to_string();
    roost("", &["dump", &nothing]).await.fails_in_one_line(1, &["no node's data directory"]);
    let is_made = cluster.dir.path().join("nothing").exists();
    assert!(!is_made, "looking at it must not make it");

    // A dump changes nothing: the nodes go on from there.
    for node in &mut cluster.nodes {
        node.spawn();
    }
    cluster.all_ready().await;
    assert!(cluster.agree().await.zxid >= said.zxid);
    client.session(&session.session).await.unwrap();
}

/// As in `roost dump … | head`, which goes away in the middle.
fn ends_quietly_when_nobody_reads(args: &[&str]) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = Command::new(ROOST);
    command.args(args).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    drop((command, reader));
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && err.is_empty(), "{}: {err}", output.status);
}
