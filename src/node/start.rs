//! Puts a node together from its parts, in order, and starts its tasks.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::audit::Audit;
use super::audit_file::{AuditFile, Writer};
use super::cluster::Membership;
use super::expirer::{self, Pace};
use super::identity::Identity;
use super::liveness::{self, Reports};
use super::peers::Peers;
use super::probing::Probing;
use super::serve::{Dispatch, Doorkeeper};
use super::stage::Stage;
use super::time::ClusterTime;
use super::{Inner, Node, batcher, forward, health, pacing, read};
use crate::blocking;
use crate::clock::Clock;
use crate::identity::SuperDigest;
use crate::limits::SLED_CACHE_BYTES;
use crate::peer::{self, Acceptor, Net};
use crate::probe::Prober;
use crate::raft::{self, Consensus, LogStore, Network, Snapshots, StateMachine};
use crate::session::ExpiryQueue;
use crate::storage::{
    self, Disk, Log, MemoryDisk, MemoryDisks, SledDisk, SnapshotStore, WalHandle, Write,
    spawn_writer,
};
use crate::tree::Tree;
use crate::types::NodeId;
use crate::watch::{Bounds, Pacer};

/// Where a node keeps its log and snapshots.
#[derive(Clone)]
pub enum Storage {
    /// In sled, below a directory.
    Directory(PathBuf),
    /// In memory, for tests that crash nodes without processes.
    Memory(Arc<MemoryDisk>, MemoryDisks),
    /// In memory and without a thread, for simulations: each commit takes as long as it is told, in tokio's time.
    Simulated(Arc<MemoryDisk>, MemoryDisks, CommitTime),
}

/// Says how long the next commit takes.
pub type CommitTime = Arc<dyn Fn() -> Duration + Send + Sync>;

/// All that a node is made of, as values.
pub struct NodeOptions {
    /// Its id.
    pub node: NodeId,
    /// What it shares with its cluster.
    pub secret: peer::Secret,
    /// How it reaches its peers.
    pub net: Arc<dyn Net>,
    /// Where its peers reach it.
    pub acceptor: Box<dyn Acceptor>,
    /// Where it keeps its log.
    pub storage: Storage,
    /// Its time.
    pub clock: Clock,
    /// Seed of everything random in it, but the nonces of handshakes.
    pub seed: u64,
    /// Timing of consensus.
    pub raft: raft::Options,
    /// Granularity of expiry.
    pub tick: Duration,
    /// Time between two looks for container and TTL znodes that are due; rounded up to the granularity of expiry.
    pub check_interval: Duration,
    /// Shortest and longest session timeout, ms.
    pub timeouts_ms: (u32, u32),
    /// Whose name and password make a client `super`; `None` for nobody's.
    pub super_digest: Option<SuperDigest>,
    /// Bytes of log after which a snapshot is taken, at least.
    pub snapshot_log_bytes: u64,
    /// What those who watch may hold.
    pub watch_bounds: Bounds,
    /// How it asks silent providers, where a policy says so; `None` for never.
    pub prober: Option<Arc<dyn Prober>>,
    /// Where the audit is written; `None` keeps it in memory only.
    pub audit: Option<AuditFile>,
    /// How far apart one listener is told things, ms, whatever the load: for tests. `None` goes by the load.
    pub window_ms: Option<u64>,
    /// The state that it begins with: another bound than the product's is to be met, or much is to be there already.
    #[cfg(test)]
    pub(crate) tree: Tree,
}

impl Node {
    /// Starts a node; returns when its state is rebuilt from its disk and it takes part in its cluster. The error is a
    /// sentence for the operator.
    pub async fn start(options: NodeOptions) -> Result<Node, String> {
        let NodeOptions { node, clock, .. } = &options;
        let (node, clock) = (*node, clock.clone());
        let started_ms = clock.now_ms();
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();

        let opened = open_storage(&options.storage, node, &clock).await?;
        let Opened { wal, snapshots, log, identity } = opened;
        let peer_identity = peer::Identity::new(node, identity.cluster_id, options.secret.clone());
        let membership =
            Membership::new(identity, peer_identity.clone(), wal.clone(), clock.clone());
        let peers = Arc::new(Peers::new(options.net.clone(), peer_identity.clone(), stop.clone()));

        let tick_ms = options.tick.as_millis() as u64;
        // A close that was lost with a leader is proposed again after a second.
        let expiry = ExpiryQueue::new(tick_ms, 1_000);
        let file = options.audit.clone().map(Writer::start).transpose()?;
        let audit = Audit::new(peer_identity.clone(), file);
        let (bounds, pacer) = (options.watch_bounds, Pacer::new(options.window_ms));
        let stage =
            Stage::new(node, identity.incarnation, clock.clone(), audit, bounds, pacer, expiry);

        let dialing = peers.clone();
        let network = Network::new(Arc::new(move |node, addr: &str| dialing.dial(node, addr)));
        #[cfg(test)]
        let tree = options.tree.clone();
        #[cfg(not(test))]
        let tree = Tree::new();
        let state_machine = StateMachine::new(snapshots.clone(), stage.clone(), tree);
        let starting = Consensus::start(
            node,
            "roost".into(),
            &options.raft,
            clock.clone(),
            log,
            state_machine,
            network,
        );
        // Boxed: it is large, and would be moved over the stack once more.
        let starting = raft::seeded(options.seed, Box::pin(starting));
        let consensus = starting.await.map_err(|err| err.to_string())?;
        peers.set_consensus(consensus.clone());

        let cluster_time = Arc::new(ClusterTime::new(stage.clone(), consensus.leadership()));
        let (batcher, batching) =
            batcher::start(stage.clone(), consensus.clone(), cluster_time.clone(), stop.clone());
        let (barrier, reading) =
            read::start(stage.clone(), consensus.clone(), peers.clone(), stop.clone());
        let reports = Arc::new(Reports::default());
        let this = Node {
            inner: Arc::new(Inner {
                stage: stage.clone(),
                consensus: consensus.clone(),
                peers: peers.clone(),
                barrier,
                reports: reports.clone(),
                cluster_time,
                membership: membership.clone(),
                timeouts_ms: options.timeouts_ms,
                super_digest: options.super_digest,
                prober: options.prober.clone(),
                random: Mutex::new(StdRng::seed_from_u64(options.seed)),
                wal,
                snapshots: snapshots.clone(),
                start_ms: clock.now_ms().saturating_sub(started_ms),
                stop: stop.clone(),
                tasks: tasks.clone(),
                #[cfg(test)]
                rivals: Mutex::default(),
            }),
        };

        let handler = Dispatch {
            node: Arc::new(OnceLock::from(this.clone())),
            batcher: batcher.clone(),
            snapshots,
            membership: membership.clone(),
        };
        let admission = Arc::new(Doorkeeper { membership: membership.clone() });
        tasks.spawn(peer::serve(
            options.acceptor,
            peer_identity,
            admission,
            Arc::new(handler),
            stop.clone(),
        ));
        tasks.spawn(pacing::run(stage.clone(), stop.clone()));
        tasks.spawn(batching);
        tasks.spawn(reading);
        tasks.spawn(membership.follow(consensus.leadership(), stage.clone()));
        tasks.spawn(forward::run(
            stage.clone(),
            batcher,
            peers.clone(),
            consensus.leadership(),
            stop.clone(),
        ));
        tasks.spawn(liveness::report(
            stage.clone(),
            reports,
            peers,
            consensus.clone(),
            options.tick / 2,
            stop.clone(),
        ));
        let pace = Pace {
            tick: options.tick,
            check_interval: options.check_interval,
            quorum_ack_age_ms_max: options.raft.election_ms_max,
        };
        tasks.spawn(health::run(
            this.clone(),
            options.prober.clone(),
            consensus.clone(),
            pace.quorum_ack_age_ms_max,
            stop.clone(),
        ));
        let probing = Probing::new(options.prober);
        tasks.spawn(expirer::run(this.clone(), consensus.clone(), pace, probing, stop.clone()));
        tasks.spawn(expirer::show_overrides(
            this.clone(),
            consensus.clone(),
            pace.quorum_ack_age_ms_max,
            stop.clone(),
        ));
        tasks.spawn(snapshot_when_due(
            stage,
            consensus,
            options.snapshot_log_bytes,
            options.tick,
            stop,
        ));
        Ok(this)
    }
}

struct Opened {
    wal: WalHandle,
    snapshots: Arc<Snapshots>,
    log: LogStore,
    identity: Identity,
}

/// Opens the store and makes this start's incarnation durable before anything else happens.
async fn open_storage(storage: &Storage, node: NodeId, clock: &Clock) -> Result<Opened, String> {
    let storage = storage.clone();
    let clock = clock.clone();
    let opening = blocking::run(move || {
        let disk: Arc<dyn Disk> = match &storage {
            Storage::Directory(dir) => Arc::new(
                SledDisk::open(&dir.join("raft"), SLED_CACHE_BYTES)
                    .map_err(|err| err.to_string())?,
            ),
            Storage::Memory(disk, _) | Storage::Simulated(disk, ..) => disk.clone(),
        };
        let (mut log, recovered) = Log::open(disk).map_err(|err| err.to_string())?;
        let identity = Identity::next(node, recovered.identity.as_deref())?;
        log.write_now(vec![Write::Identity(identity.encode().into())])
            .map_err(|err| err.to_string())?;
        let generation = recovered.snapshot.as_ref().map(|pointer| pointer.generation);
        let store = match &storage {
            Storage::Directory(dir) => SnapshotStore::open(&dir.join("snap"), generation),
            Storage::Memory(_, disks) | Storage::Simulated(_, disks, _) => {
                SnapshotStore::in_memory(disks.clone(), generation)
            }
        };
        let store = store.map_err(|err| err.to_string())?;
        let snapshot_clock = clock.clone();
        let clock = Box::new(move || clock.now_micros());
        let wal = match storage {
            Storage::Simulated(.., commit_time) => simulate_writer(log, clock, commit_time),
            _ => spawn_writer(log, clock).map_err(|err| err.to_string())?,
        };
        let log = LogStore::new(wal.clone(), &recovered)?;
        let snapshots = Snapshots::new(store, wal.clone(), recovered.snapshot, snapshot_clock);
        Ok(Opened { wal, snapshots, log, identity })
    });
    opening.await.map_err(|err| format!("opening the store failed: {err}"))?
}

/// Starts a task that writes this log, each commit a while after it was asked for. It ends with the log's last handle.
fn simulate_writer(log: Log, clock: storage::Clock, commit_time: CommitTime) -> WalHandle {
    let bell = Arc::new(Notify::new());
    let to_ring = bell.clone();
    let (handle, mut writer) = storage::wal(log, clock, Box::new(move || to_ring.notify_one()));
    tokio::spawn(async move {
        loop {
            bell.notified().await;
            let closed = writer.is_closed();
            tokio::time::sleep(commit_time()).await;
            while writer.step() {}
            while writer.trim() {}
            if closed {
                return;
            }
        }
    });
    handle
}

/// Asks for a snapshot whenever enough log has been applied since the last: so many bytes, or as many as the state has if that is
/// more, so that the cost of snapshots stays a constant share of the cost of writes. Nodes with neighbouring ids wait a little
/// longer than each other: the cluster should not write all its snapshots at once.
async fn snapshot_when_due(
    stage: Arc<Stage>,
    consensus: Consensus,
    log_bytes_min: u64,
    interval: Duration,
    stop: CancellationToken,
) {
    let mut mark = 0;
    while stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
        let applied = stage.log_bytes.load(std::sync::atomic::Ordering::Relaxed);
        let due = log_bytes_min.max(stage.root().data_bytes());
        let due = due + due / 8 * (stage.node % 4);
        if applied - mark >= due {
            mark = applied;
            if consensus.snapshot().await.is_err() {
                return;
            }
        }
    }
}
