//! The composition root: reads the configuration, opens the doors, starts the node, and stops everything in order.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rand::RngCore;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::clock::Clock;
use crate::config::{Config, ZkConfig};
use crate::http::{self, Annex, NoAnnex};
use crate::limits::HTTP_DRAIN_MS_MAX;
use crate::node::{AuditFile, Node, NodeOptions, Storage};
use crate::peer::{Net, Secret, TcpNet};
use crate::probe::{NetProber, Prober};
use crate::raft;
use crate::types::AclId;
use crate::zk;

/// How long open HTTP requests may take to finish when the node stops.
const STOP_PATIENCE: Duration = Duration::from_millis(HTTP_DRAIN_MS_MAX + 1_000);
/// How often a node looks whether consensus or its store has failed for good.
const HEALTH_INTERVAL: Duration = Duration::from_millis(200);

/// Runs one node until it is told to stop by SIGINT, SIGTERM or, if wanted, the end of standard input. The error is one
/// line that says what to do; a node that finds its store failing ends with one too, since it must not acknowledge any more.
pub async fn run(config: &Path, stop_on_stdin_eof: bool) -> Result<(), String> {
    let config = Config::load(config)?;
    let filter =
        EnvFilter::try_from_env("RUST_LOG").or_else(|_| EnvFilter::try_new(&config.log.filter));
    let filter = filter.map_err(|err| format!("log.filter: {err}"))?;
    let is_terminal = std::io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(is_terminal);
    // A second subscriber in one process is a test's business.
    let _ = subscriber.with_writer(std::io::stderr).try_init();

    let http_listener = TcpListener::bind(config.http.listen)
        .await
        .map_err(|err| format!("http.listen: cannot listen on {}: {err}", config.http.listen))?;
    let zk_listener = match &config.zk {
        Some(zk) => {
            let listener = TcpListener::bind(zk.listen).await;
            Some(
                listener
                    .map_err(|err| format!("zk.listen: cannot listen on {}: {err}", zk.listen))?,
            )
        }
        None => None,
    };
    let peer_addr = config.peer.listen.to_string();
    let acceptor = TcpNet
        .listen(&peer_addr)
        .await
        .map_err(|err| format!("peer.listen: cannot listen on {peer_addr}: {err}"))?;
    let node = Node::start(options(&config, acceptor)).await?;
    tracing::info!(node = node.id(), http = %config.http.listen, peer = %peer_addr, "the node is up");

    let closing = CancellationToken::new();
    let zk_door = match (&config.zk, &zk_listener) {
        (Some(zk), Some(listener)) => {
            let address = listener.local_addr().map_err(|err| format!("zk.listen: {err}"))?;
            Some(zk::Door::new(node.clone(), zk_options(&config, zk)?, address))
        }
        _ => None,
    };
    let annex: Arc<dyn Annex> = match &zk_door {
        Some(door) => Arc::new(ZkAnnex(door.clone())),
        None => Arc::new(NoAnnex),
    };
    let serving = tokio::spawn(http::serve(http_listener, node.clone(), annex, closing.clone()));
    let zk = zk_listener
        .zip(zk_door)
        .map(|(listener, door)| tokio::spawn(zk::serve(listener, door, closing.clone())));
    let outcome = tokio::select! {
        reason = told_to_stop(stop_on_stdin_eof) => {
            tracing::info!(reason, "stopping");
            Ok(())
        }
        why = failed(&node) => Err(format!("the node cannot go on: {why}")),
    };
    closing.cancel();
    let served = tokio::time::timeout(STOP_PATIENCE, serving).await;
    if served.is_err() {
        tracing::warn!("some HTTP requests did not finish in time");
    }
    if let Some(zk) = zk {
        // An error was a panic of its accept loop, which has been printed.
        let _ = zk.await;
    }
    node.stop().await;
    outcome
}

/// What the ZooKeeper door contributes to the HTTP door.
struct ZkAnnex(zk::Door);

impl Annex for ZkAnnex {
    fn gauges(&self) -> Vec<(&'static str, &'static str, f64)> {
        self.0.gauges()
    }

    fn command(&self, name: &str, authority: &[AclId]) -> serde_json::Value {
        self.0.command(name, authority)
    }
}

fn zk_options(config: &Config, zk: &ZkConfig) -> Result<zk::Options, String> {
    Ok(zk::Options {
        frame_bytes_max: zk.frame_bytes_max,
        connections_per_address_max: zk.connections_per_address_max,
        words: zk::parse_words(&zk.words).map_err(|why| format!("zk.words: {why}"))?,
        reconfig: zk.reconfig,
        data_dir: config.node.data_dir.display().to_string(),
        tick_ms: config.sessions.tick_ms,
        timeouts_ms: (config.sessions.timeout_ms_min, config.sessions.timeout_ms_max),
    })
}

fn options(config: &Config, acceptor: Box<dyn crate::peer::Acceptor>) -> NodeOptions {
    NodeOptions {
        node: config.node.id,
        secret: Secret::new(config.cluster.secret.as_bytes()),
        net: Arc::new(TcpNet),
        acceptor,
        storage: Storage::Directory(config.node.data_dir.clone()),
        clock: Clock::system(),
        seed: rand::rng().next_u64(),
        raft: raft::Options {
            heartbeat_ms: config.raft.heartbeat_ms,
            election_ms_min: config.raft.election_ms_min,
            election_ms_max: config.raft.election_ms_max,
            log_entries_kept: config.raft.log_entries_kept,
            restore_leader: false,
        },
        tick: Duration::from_millis(config.sessions.tick_ms),
        check_interval: Duration::from_millis(config.znodes.check_interval_ms),
        timeouts_ms: (config.sessions.timeout_ms_min, config.sessions.timeout_ms_max),
        super_digest: config.access.super_digest.clone(),
        snapshot_log_bytes: config.raft.snapshot_log_bytes,
        watch_bounds: Default::default(),
        prober: NetProber::new(config.probe.networks.clone())
            .map(|prober| Arc::new(prober) as Arc<dyn Prober>),
        audit: (!config.audit.path.as_os_str().is_empty()).then(|| AuditFile {
            path: config.node.data_dir.join(&config.audit.path),
            bytes_max: config.audit.bytes_max,
            kept: config.audit.files_kept,
        }),
        window_ms: None,
        #[cfg(test)]
        tree: Default::default(),
    }
}

async fn told_to_stop(stop_on_stdin_eof: bool) -> &'static str {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => drop(signals.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    let abandoned = async {
        if !stop_on_stdin_eof {
            std::future::pending::<()>().await;
        }
        let mut ignored = [0; 256];
        let mut stdin = tokio::io::stdin();
        while stdin.read(&mut ignored).await.is_ok_and(|count| count > 0) {}
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => "interrupted",
        () = terminated => "terminated",
        () = abandoned => "standard input has ended",
    }
}

async fn failed(node: &Node) -> String {
    loop {
        tokio::time::sleep(HEALTH_INTERVAL).await;
        if let Some(why) = node.fatal() {
            return why;
        }
    }
}
