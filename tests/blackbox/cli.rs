//! The command line as a user types it.

use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::harness::{Cluster, Node, Ports, Process, ROOST, Shell, eventually, log_in};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn znodes_sessions_watches_and_services_work_from_the_command_line() {
    let mut cluster = Cluster::start(3).await;
    let shell = Shell { endpoints: cluster.endpoints() };
    znodes(&shell).await;
    access(&shell).await;
    sessions(&shell).await;
    services(&shell).await;
    watches(&cluster, &shell).await;
    lines(&cluster).await;
    let status = shell.json("status").await;
    assert_eq!(status["cluster"]["members"].as_array().unwrap().len(), 3);
    assert_eq!(status["nodes"].as_array().unwrap().len(), 3);
    let table = shell.ok("status").await;
    assert!(table.lines().count() == 5 && table.contains("leader"), "{table}");
    let leader = status["cluster"]["leader"].as_u64().unwrap();
    let next = leader % 3 + 1;
    shell.ok(&format!("transfer --to {next}")).await;
    eventually("the transfer", async || {
        (shell.json("status").await["cluster"]["leader"] == next).then_some(())
    })
    .await;
    // One that is away does not keep the others from being shown.
    let away = usize::try_from(next % 3).unwrap();
    cluster.nodes[away].kill9();
    let status = shell.json("status").await;
    for (place, node) in status["nodes"].as_array().unwrap().iter().enumerate() {
        let (is_away, is_known) = (node["code"] == "unreachable", node["digest"].is_string());
        assert_eq!((is_away, is_known), (place == away, place != away), "{status}");
    }
    let table = shell.ok("status").await;
    assert!(table.lines().nth(2 + away).unwrap().ends_with(" unreachable"), "{table}");
}

async fn access(shell: &Shell) {
    let ann = "--auth ann:p:w";
    shell.ok(&format!("{ann} create --acl auth::cdrwa /hers secret")).await;
    shell.fails(1, "get /hers", &["no_auth"]).await;
    shell.fails(1, "--auth ann:wrong get /hers", &["no_auth"]).await;
    assert_eq!(shell.ok(&format!("{ann} get /hers")).await, "secret\n");
    let acl = shell.ok(&format!("{ann} getacl /hers")).await;
    assert!(acl.starts_with("digest:ann:") && acl.ends_with(":cdrwa\n"), "{acl}");
    let both = format!("{},world:anyone:r", acl.trim());
    shell.fails(1, &format!("setacl /hers {both}"), &["no_auth"]).await;
    shell.fails(5, &format!("{ann} setacl -v 7 /hers {both}"), &["bad_version"]).await;
    shell.ok(&format!("{ann} setacl -v 0 /hers {both}")).await;
    assert_eq!(shell.ok("get /hers").await, "secret\n");
    shell.fails(1, "set /hers x", &["no_auth"]).await;
    shell.fails(1, "create --acl world:anyone:q /bad", &["invalid_acl"]).await;
    shell.ok(&format!("{ann} rm /hers")).await;
}

async fn znodes(shell: &Shell) {
    assert_eq!(shell.ok("create /app hello").await, "Created /app\n");
    assert_eq!(shell.ok("get /app").await, "hello\n");
    assert_eq!(shell.ok("set /app world").await, "");
    assert!(shell.ok("get -s /app").await.starts_with("world\ncZxid = 0x"));
    assert!(shell.ok("stat /app").await.contains("dataVersion = 1\n"));
    assert_eq!(shell.json("get /app").await["data"], "world");
    assert_eq!(shell.json("stat /app").await["version"], 1);
    assert_eq!(shell.json("set -v 1 /app x").await["stat"]["version"], 2);
    assert_eq!(shell.ok("create -s /app/n-").await, "Created /app/n-0000000000\n");
    assert_eq!(shell.ok("create -s /app/n-").await, "Created /app/n-0000000001\n");
    assert_eq!(shell.ok("create -p /app/a/b deep").await, "Created /app/a/b\n");
    assert_eq!(shell.ok("ls /app").await, "[a, n-0000000000, n-0000000001]\n");
    assert_eq!(
        shell.ok("ls -R /app").await,
        "/app\n/app/a\n/app/a/b\n/app/n-0000000000\n/app/n-0000000001\n"
    );
    shell.fails(1, "create /app again", &["node_exists"]).await;
    shell.fails(1, "rm /app", &["not_empty"]).await;
    shell.fails(4, "get /nothing", &["no_node"]).await;
    shell.fails(4, "create /nothing/below x", &["no_node"]).await;
    shell.fails(5, "set -v 9 /app x", &["bad_version"]).await;
    shell.fails(5, "rm -v 9 /app/a/b", &["bad_version"]).await;
    shell.fails(1, "create /bad//path x", &["bad_arguments"]).await;
    shell.fails(2, "get relative", &["slash"]).await;
    shell.fails(4, "--json get /nothing", &["{\"code\":\"no_node\""]).await;
    for usage in ["frobnicate", "get", "create -e -c /x", "create --acl x /x", "--auth x ls"] {
        let ran = shell.run(usage).await;
        assert!(ran.code == 2 && ran.out.is_empty(), "{usage}: {ran:?}");
    }
    assert_eq!(shell.ok("rm -r /app").await, "");
    shell.fails(4, "stat /app", &["no_node"]).await;
    let nobody = Shell { endpoints: "127.0.0.1:1".into() };
    nobody.fails(3, "get /x", &["unreachable", "127.0.0.1:1"]).await;
}

async fn sessions(shell: &Shell) {
    let opened = shell.json("session open --timeout-ms 60000").await;
    let (session, token) = (opened["session"].as_str().unwrap(), opened["token"].as_str().unwrap());
    shell.ok(&format!("create -e --session {token} /mine x")).await;
    let stat = shell.json("stat /mine").await;
    assert_eq!(stat["ephemeral_owner"], session);
    assert!(shell.ok(&format!("session renew {token}")).await.contains("60000 ms"));
    assert!(shell.ok("session ls").await.contains(session));
    assert!(shell.ok(&format!("session show {session}")).await.ends_with("/mine\n"));
    shell.fails(1, "create -e --session 0x1.forged /other x", &["auth_failed"]).await;
    assert_eq!(shell.ok(&format!("session close {token}")).await, "closed, 1 ephemerals removed\n");
    shell.fails(4, "get /mine", &["no_node"]).await;
    shell.fails(1, &format!("session renew {token}"), &["session_expired"]).await;
}

async fn services(shell: &Shell) {
    let token = shell.ok("session open --timeout-ms 60000").await;
    let token = token.trim();
    let register = format!("service register web --addr 10.0.0.1:80 --weight 5 --session {token}");
    assert!(shell.ok(&register).await.contains("/services/web/providers/10.0.0.1:80"));
    let services = shell.json("services").await;
    assert_eq!(services["services"][0]["name"], "web");
    assert_eq!(services["services"][0]["providers"], 1);
    let table = shell.ok("services").await;
    assert!(table.starts_with("SERVICE") && table.contains("web"), "{table}");
    let service = shell.json("service get web").await;
    assert_eq!(service["providers"][0]["weight"], 5);
    shell.fails(4, "service get other", &["no_node"]).await;
    shell.ok(&format!("service deregister web 10.0.0.1:80 --session {token}")).await;
    assert_eq!(shell.json("service get web").await["providers"], Value::Array(vec![]));
    let register =
        format!("service register api --namespace red --addr 10.0.0.2:80 --session {token}");
    assert!(shell.ok(&register).await.contains("/ns/red/services/api/providers/10.0.0.2:80"));
    assert_eq!(shell.json("services --namespace red").await["services"][0]["name"], "api");
    let service = shell.json("service get api --namespace red").await;
    assert_eq!(service["providers"][0]["host"], "10.0.0.2");
    shell.fails(4, "service get api", &["no_node"]).await;
    let deregister = format!("service deregister api 10.0.0.2:80 --session {token}");
    shell.fails(4, &deregister, &["no_node"]).await;
    shell.ok(&format!("{deregister} --namespace red")).await;
    shell.ok(&format!("session close {token}")).await;
}

async fn watches(cluster: &Cluster, shell: &Shell) {
    shell.ok("create /watched").await;
    shell.ok("create /watched/old 1").await;
    let log = log_in(cluster.dir.path(), "watch.log");
    let mut watch = Process::roost(&["watch", "/watched"], &cluster.endpoints(), &log);
    watch.says("+ /watched \n+ /watched/old 1\n").await;
    // An ephemeral of the command itself lives until it is interrupted.
    let log = log_in(cluster.dir.path(), "create.log");
    let args = ["create", "-e", "/watched/new", "2"];
    let mut create = Process::roost(&args, &cluster.endpoints(), &log);
    watch.says("+ /watched/new 2\n").await;
    shell.ok("set /watched/old 3").await;
    watch.says("~ /watched/old 3\n").await;
    create.says("Created /watched/new").await;
    create.signal(Signal::SIGINT);
    assert_eq!(create.exit().await.code(), Some(0));
    watch.says("- /watched/new\n").await;
    watch.signal(Signal::SIGINT);
    assert_eq!(watch.exit().await.code(), Some(0));
    assert_eq!(
        watch.output(),
        "+ /watched \n+ /watched/old 1\n+ /watched/new 2\n~ /watched/old 3\n- /watched/new\n"
    );
}

/// What is typed into `roost shell`: a mistake does not end it, and its ephemerals go with it.
async fn lines(cluster: &Cluster) {
    let typed = "create -e /typed 'two words'\nget /typed\nget /nothing\nfly\n--json get /typed\nget '\nquit\nls /\n";
    let state = cluster.dir.path().join("state");
    let mut command = tokio::process::Command::new(ROOST);
    command.arg("shell").env("ROOST_ENDPOINTS", cluster.endpoints()).env("XDG_STATE_HOME", &state);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    for said in ["Created /typed\n", "two words\n", "\"data\":\"two words\""] {
        assert!(out.contains(said), "{said:?} is not in: {out}");
    }
    for said in ["roost: no_node", "fly", "a quote is not closed"] {
        assert!(err.contains(said), "{said:?} is not in: {err}");
    }
    assert!(!out.contains("[typed"), "what is behind quit is not done: {out}");
    let history = std::fs::read_to_string(state.join("roost/history")).unwrap();
    assert!(history.contains("get /typed\n"), "{history}");
    let gone = cluster.client_from(0).get("/typed", Default::default()).await.unwrap_err();
    assert!(gone.is("no_node"), "{gone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_becomes_a_voter_and_leaves() {
    let mut cluster = Cluster::start(1).await;
    let shell = Shell { endpoints: cluster.endpoints() };
    shell.ok("create /before x").await;
    let mut second = Node::new(2, cluster.dir.path(), &cluster.ports);
    second.spawn();
    second.up().await;
    let (peer, http) = (second.peer, second.endpoint());
    let join = format!("join --node 2 --peer 127.0.0.1:{peer} --http {http}");
    assert_eq!(shell.ok(&join).await, "node 2 is a voter\n");
    cluster.nodes.push(second);
    cluster.all_ready().await;
    cluster.agree().await;
    shell.fails(1, "promote --node 9", &["add it as a learner first"]).await;
    assert_eq!(shell.ok("promote --node 2").await, "node 2 is a voter\n");
    assert_eq!(shell.ok(&format!("-e {http} get /before")).await, "x\n");
    assert_eq!(shell.ok("leave --node 2").await, "node 2 is no longer a member\n");
    shell.ok("set /before y").await;
    let status = shell.json("status").await;
    assert_eq!(status["cluster"]["members"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_cluster_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let ports = Ports::reserve();
    let mut node = Node::new(1, dir.path(), &ports);
    node.spawn();
    node.up().await;
    let shell = Shell { endpoints: node.endpoint() };
    shell.fails(1, "create /x y", &["not_initialized", "roost init"]).await;
    shell.fails(1, "get /", &["not_initialized"]).await;
    let response = reqwest::get(node.url("/readyz")).await.unwrap();
    assert_eq!(response.status(), 503);
    for (url, body) in [("/v1/znodes/x", ""), ("/v1/sessions", "{\"timeout_ms\":1000}")] {
        let request = reqwest::Client::new().post(node.url(url)).body(body);
        let response = request.send().await.unwrap();
        let retry_after = response.headers().contains_key("retry-after");
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status == 503 && retry_after && text.contains("not_initialized"), "{url}: {text}");
    }
    node.stop().await;
}
