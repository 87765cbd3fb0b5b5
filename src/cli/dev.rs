//! `roost dev`: a real cluster on this machine, one process per node, for trying things out.
//!
//! Each node is this same program run as `roost serve` with a configuration of its own, so what is tried is
//! what runs in production. A node lives no longer than this command, even if that is killed: it stops at
//! the end of its stdin.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rand::Rng;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::args::{DevArgs, GlobalArgs};
use super::output::Failure;
use super::signal::interrupted;
use crate::client::model::Member;
use crate::client::{Client, jittered};

const POLL_INTERVAL: Duration = Duration::from_millis(20);
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the cluster may take to become ready before this command gives up.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a node may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// A node that ran longer than this and then died is restarted as at its first death.
const STEADY: Duration = Duration::from_secs(10);
/// Deaths of one node, each soon after its start, after which a cluster that was never ready is given up.
const EARLY_DEATHS_MAX: u32 = 5;
/// Peer ports lie this much below the HTTP ports.
const PEER_PORT_OFFSET: u16 = 1_000;
/// Ports for ZooKeeper clients lie this much above the HTTP ports.
const ZK_PORT_OFFSET: u16 = 10;

/// The configuration of one node as `roost serve` reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct NodeToml {
    node: NodeSection,
    http: ListenSection,
    peer: ListenSection,
    zk: ListenSection,
    cluster: ClusterSection,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct NodeSection {
    id: u64,
    data_dir: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ListenSection {
    listen: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ClusterSection {
    secret: String,
}

/// One node: its directory and what its configuration says.
#[derive(Clone, Debug)]
struct DevNode {
    dir: PathBuf,
    toml: NodeToml,
}

impl DevNode {
    fn config_file(&self) -> PathBuf {
        self.dir.join("node.toml")
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn member(&self) -> Member {
        Member {
            node: self.toml.node.id,
            peer_addr: self.toml.peer.listen.to_string(),
            http_addr: self.toml.http.listen.to_string(),
            zk_addr: Some(self.toml.zk.listen.to_string()),
        }
    }

    /// Returns a client that asks this node once, for polling.
    fn probe(&self) -> Result<Client, Failure> {
        let client = Client::new(vec![self.toml.http.listen.to_string()])?;
        Ok(client.with_timeout(PROBE_TIMEOUT).impatient())
    }
}

/// How far the cluster has come.
#[derive(Clone, Debug, Default)]
struct Phase {
    /// Cancelled once every node was ready.
    ready: CancellationToken,
    /// Cancelled when every node shall stop.
    stop: CancellationToken,
}

/// Runs the cluster until interrupted.
pub(super) async fn execute(args: DevArgs, global: &GlobalArgs) -> Result<(), Failure> {
    let temporary = if args.ephemeral {
        Some(
            tempfile::Builder::new()
                .prefix("roost-dev-")
                .tempdir()
                .map_err(|err| local("a temporary directory", &err))?,
        )
    } else {
        None
    };
    let dir = temporary.as_ref().map_or(args.dir.as_path(), tempfile::TempDir::path);
    let nodes = prepare(dir, args.nodes, args.base_port)?;
    check_ports(&nodes)?;
    let phase = Phase::default();
    let mut supervisors = JoinSet::new();
    for node in &nodes {
        supervisors.spawn(supervise(node.clone(), phase.clone()));
    }
    let result = tokio::select! {
        result = bring_up(&nodes, &phase, global) => result,
        () = interrupted() => Ok(()),
        _ = supervisors.join_next() => {
            Err(Failure::Local("the cluster is given up: a node cannot start, its log says why".to_owned()))
        }
    };
    phase.stop.cancel();
    while supervisors.join_next().await.is_some() {}
    if let Some(temporary) = temporary {
        temporary.close().map_err(|err| local("removing the temporary directory", &err))?;
    }
    result
}

fn local(what: &str, err: &std::io::Error) -> Failure {
    Failure::Local(format!("{what}: {err}"))
}

/// Writes the configurations of a new cluster, or reads and checks those of the one that the directory holds.
fn prepare(dir: &Path, count: u16, base_port: u16) -> Result<Vec<DevNode>, Failure> {
    fs::create_dir_all(dir).map_err(|err| local(&dir.display().to_string(), &err))?;
    let dir = dir.canonicalize().map_err(|err| local(&dir.display().to_string(), &err))?;
    let first = dir.join("1/node.toml");
    let known = first.exists().then(|| read_toml(&first)).transpose()?;
    let secret = known.as_ref().map_or_else(new_secret, |toml| toml.cluster.secret.clone());
    let nodes: Vec<DevNode> =
        (0..count).map(|index| plan(&dir, index, base_port, &secret)).collect();
    if known.is_some() {
        let same = nodes
            .iter()
            .all(|node| read_toml(&node.config_file()).is_ok_and(|toml| toml == node.toml));
        if !same || dir.join((count + 1).to_string()).exists() {
            return Err(Failure::Usage(format!(
                "{} holds a cluster of other --nodes or --base-port: give the same, or another --dir",
                dir.display()
            )));
        }
        return Ok(nodes);
    }
    for node in &nodes {
        write_toml(node).map_err(|err| local(&node.config_file().display().to_string(), &err))?;
    }
    Ok(nodes)
}

fn plan(dir: &Path, index: u16, base_port: u16, secret: &str) -> DevNode {
    let dir = dir.join((index + 1).to_string());
    let listen = |port| ListenSection { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) };
    let toml = NodeToml {
        node: NodeSection { id: u64::from(index) + 1, data_dir: dir.join("data") },
        http: listen(base_port + index),
        peer: listen(base_port - PEER_PORT_OFFSET + index),
        zk: listen(base_port + ZK_PORT_OFFSET + index),
        cluster: ClusterSection { secret: secret.to_owned() },
    };
    DevNode { dir, toml }
}

fn new_secret() -> String {
    format!("{:032x}{:032x}", rand::rng().random::<u128>(), rand::rng().random::<u128>())
}

fn read_toml(file: &Path) -> Result<NodeToml, Failure> {
    let text = fs::read_to_string(file).map_err(|err| local(&file.display().to_string(), &err))?;
    toml::from_str(&text)
        .map_err(|err| Failure::Local(format!("{}: {}", file.display(), err.message())))
}

fn write_toml(node: &DevNode) -> std::io::Result<()> {
    fs::create_dir_all(&node.dir)?;
    let text = toml::to_string(&node.toml).map_err(std::io::Error::other)?;
    // It holds the secret: nobody else may read it.
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(node.config_file())?;
    file.write_all(text.as_bytes())
}

fn check_ports(nodes: &[DevNode]) -> Result<(), Failure> {
    let doors = |toml: &NodeToml| [toml.http.listen, toml.peer.listen, toml.zk.listen];
    for listen in nodes.iter().flat_map(|node| doors(&node.toml)) {
        TcpListener::bind(listen).map_err(|err| {
            let port = listen.port();
            Failure::Local(format!(
                "port {port} cannot be used ({err}): choose other ports with --base-port"
            ))
        })?;
    }
    Ok(())
}

/// Initialises the cluster if it is new, waits until every node is ready, and says so. Then waits for ever.
async fn bring_up(nodes: &[DevNode], phase: &Phase, global: &GlobalArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let ready = async {
        initialize(nodes).await?;
        for node in nodes {
            let probe = node.probe()?;
            while probe.ready().await.is_err() {
                sleep(POLL_INTERVAL).await;
            }
        }
        Ok::<(), Failure>(())
    };
    match timeout(READY_TIMEOUT, ready).await {
        Ok(result) => result?,
        Err(_) => {
            let logs: Vec<_> =
                nodes.iter().map(|node| node.log_file().display().to_string()).collect();
            let secs = READY_TIMEOUT.as_secs();
            return Err(Failure::Local(format!(
                "not ready after {secs} s: see {}",
                logs.join(", ")
            )));
        }
    }
    phase.ready.cancel();
    announce(nodes, started.elapsed(), global)?;
    std::future::pending().await
}

/// Makes one cluster of the nodes unless they are one already.
async fn initialize(nodes: &[DevNode]) -> Result<(), Failure> {
    let members: Vec<Member> = nodes.iter().map(DevNode::member).collect();
    let first = nodes[0].probe()?;
    let is_new = loop {
        match first.cluster().await {
            // An init that was cut off leaves an id without members; repeating it completes it.
            Ok(cluster) => break cluster.cluster_id.is_none() || cluster.members.is_empty(),
            Err(error) if error.is("not_initialized") => break true,
            Err(_) => sleep(POLL_INTERVAL).await,
        }
    };
    if !is_new {
        return Ok(());
    }
    // The others must listen before they can be voted into a cluster; a refusal to speak to them would be
    // final.
    for node in nodes {
        let probe = node.probe()?;
        while matches!(probe.digest().await, Err(crate::client::Error::Unreachable(_))) {
            sleep(POLL_INTERVAL).await;
        }
    }
    first.with_timeout(READY_TIMEOUT).init_cluster(&members).await?;
    Ok(())
}

fn announce(nodes: &[DevNode], took: Duration, global: &GlobalArgs) -> Result<(), Failure> {
    let endpoints: Vec<String> =
        nodes.iter().map(|node| format!("http://{}", node.toml.http.listen)).collect();
    let zk: Vec<String> = nodes.iter().map(|node| node.toml.zk.listen.to_string()).collect();
    let zk = zk.join(",");
    let value = serde_json::json!({
        "endpoints": endpoints,
        "zk": zk,
        "ready_ms": took.as_millis() as u64,
    });
    let text = || {
        let mut text = format!("{} nodes are ready after {} ms\n", nodes.len(), took.as_millis());
        for (node, endpoint) in nodes.iter().zip(&endpoints) {
            text += &format!(
                "  node {}  {endpoint}  log {}\n",
                node.toml.node.id,
                node.log_file().display()
            );
        }
        let endpoints = endpoints.join(",");
        text += &format!(
            "Try, in another terminal:\n  export ROOST_ENDPOINTS={endpoints}\n  roost status\n  \
             roost watch /services/web\n  \
             roost run --service web --addr 127.0.0.1:9001 -- sleep 60\n\
             ZooKeeper clients connect to {zk}\nCtrl-C stops the cluster.\n"
        );
        text.into_bytes()
    };
    super::Output { json: global.json }.result(&value, text)
}

/// Keeps one node running until told to stop. Returns earlier only if it dies again and again before the
/// cluster was ready.
async fn supervise(node: DevNode, phase: Phase) {
    let id = node.toml.node.id;
    let mut deaths = 0;
    while !phase.stop.is_cancelled() {
        let started = Instant::now();
        let why = match start(&node) {
            Err(err) => format!("cannot be started: {err}"),
            Ok((mut child, stdin)) => {
                let status = tokio::select! {
                    status = child.wait() => status,
                    () = phase.stop.cancelled() => return end(child, stdin, id).await,
                };
                status.map_or_else(|err| err.to_string(), |status| format!("ended ({status})"))
            }
        };
        deaths = if started.elapsed() > STEADY { 1 } else { deaths + 1 };
        let log = node.log_file().display().to_string();
        if deaths >= EARLY_DEATHS_MAX && !phase.ready.is_cancelled() {
            eprintln!("roost: node {id} {why} {deaths} times in a row, see {log}");
            return;
        }
        let wait = jittered(deaths);
        let ms = wait.as_millis();
        eprintln!("roost: node {id} {why}; starting it again in {ms} ms, see {log}");
        tokio::select! {
            () = sleep(wait) => {}
            () = phase.stop.cancelled() => {}
        }
    }
}

fn start(node: &DevNode) -> std::io::Result<(Child, ChildStdin)> {
    let log: File = OpenOptions::new().create(true).append(true).open(node.log_file())?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("serve")
        .arg("--config")
        .arg(node.config_file())
        .arg("--stop-on-stdin-eof")
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        // The terminal's Ctrl-C is for this process, which then stops the nodes in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    // Waiting for a child closes its stdin, which would stop it, unless it is held elsewhere.
    let stdin = child.stdin.take().ok_or_else(|| std::io::Error::other("no stdin"))?;
    Ok((child, stdin))
}

/// Asks a node to stop by closing its stdin, and kills it when it does not.
async fn end(mut child: Child, stdin: ChildStdin, id: u64) {
    drop(stdin);
    if timeout(STOP_TIMEOUT, child.wait()).await.is_err() {
        eprintln!(
            "roost: node {id} did not stop within {} s and is killed",
            STOP_TIMEOUT.as_secs()
        );
        // An error means that it has just ended.
        let _ = child.kill().await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::{check_ports, prepare, read_toml};

    #[test]
    fn a_directory_keeps_its_secret_and_refuses_another_shape() {
        let dir = tempfile::tempdir().unwrap();
        let nodes = prepare(dir.path(), 3, 8081).unwrap();
        let toml = read_toml(&nodes[2].config_file()).unwrap();
        assert_eq!(
            (toml.node.id, toml.http.listen.port(), toml.peer.listen.port()),
            (3, 8083, 7083)
        );
        assert_eq!(toml.cluster.secret.len(), 64);
        let again = prepare(dir.path(), 3, 8081).unwrap();
        assert_eq!(again[0].toml, nodes[0].toml);
        for (count, base_port) in [(2, 8081), (4, 8081), (3, 9081)] {
            let failure = prepare(dir.path(), count, base_port).unwrap_err();
            assert_eq!(failure.exit_code(), 2, "{count} {base_port}");
        }
    }

    #[test]
    fn a_port_in_use_is_named_with_the_flag_that_changes_it() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut nodes = prepare(dir.path(), 1, 8081).unwrap();
        nodes[0].toml.http.listen = taken.local_addr().unwrap();
        let text = check_ports(&nodes).unwrap_err().to_string();
        assert!(text.contains(&nodes[0].toml.http.listen.port().to_string()), "{text}");
        assert!(text.contains("--base-port"), "{text}");
    }
}
