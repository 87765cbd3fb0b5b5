//! One run: a new cluster, a workload, and the faults of a schedule meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::check::Verdict;
use crate::check::registry::{Distribution, Frame, Measures};
use crate::clock::Clock;
use crate::door::Door;
use crate::fault::{Net, Rig, Tormented, torment};
use crate::history::save;
use crate::judge;
use crate::net::Links;
use crate::schedule::Schedule;
use crate::target::{Cluster, System};
use crate::workload::{Workload, World, lock, register, registry, session, set, watch};

pub use crate::fault::Band;

/// How long nodes may take to agree after a run.
const AGREE_ATTEMPTS: u32 = 200;
/// How often timers are checked, ms.
const LAG_INTERVAL_MS: u64 = 50;
const AGREE_INTERVAL: Duration = Duration::from_millis(50);

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Name of the system.
    pub target: String,
    /// What the clients did.
    pub workload: Workload,
    /// The seed of schedule and workload.
    pub seed: u64,
    /// Times of the run; those of `measures` are on the same clock.
    pub frame: Frame,
    /// What went wrong, and when.
    pub bands: Vec<Band>,
    /// Of the registry workload.
    pub measures: Option<Measures>,
    /// Requests of the clients: answered, certainly failed, unknown.
    pub requests: (usize, usize, usize),
    /// What the checkers say, by their names.
    pub verdicts: BTreeMap<String, Verdict>,
    /// Those verdicts that the system does not promise: shown, and no failure.
    #[serde(default)]
    pub unpromised: BTreeSet<String>,
    /// Other figures of the run, by their names.
    #[serde(default)]
    pub figures: BTreeMap<String, f64>,
    /// How late timers of this program were, ms: on a machine that is too busy, times measure the machine.
    pub timer_lag_ms: Distribution,
}

impl RunResult {
    /// Returns whether too little happened to say anything.
    pub fn is_empty(&self) -> bool {
        matches!(self.verdicts.get(judge::ENOUGH), Some(Verdict::Unknown(_)))
    }

    /// Returns whether it proves nothing: too little happened, or a fault was not seen to act.
    pub fn is_void(&self) -> bool {
        self.is_empty() || matches!(self.verdicts.get(judge::ACTED), Some(Verdict::Unknown(_)))
    }

    /// Returns whether every promise of the system was kept, for certain.
    pub fn is_good(&self) -> bool {
        let mut promised =
            self.verdicts.iter().filter(|(name, _)| !self.unpromised.contains(*name));
        promised.all(|(_, verdict)| verdict.is_ok())
    }
}

/// Runs a workload on a new cluster of a system, with the faults of a schedule; files go to `dir`.
/// Errors: the cluster does not start, or a fault cannot be made.
pub async fn run(
    system: Arc<dyn System>,
    schedule: &Schedule,
    workload: Workload,
    timeout_ms: u64,
    net: Net,
    dir: &Path,
) -> Result<RunResult, String> {
    if !system.runs(workload) {
        return Err(format!("{} has not what {} needs", system.name(), workload.name()));
    }
    let nodes_dir = tempfile::tempdir().map_err(|err| format!("no directory for nodes: {err}"))?;
    let links = Links::seeded(schedule.seed);
    let mut rig = Rig::build(schedule, system.as_ref(), nodes_dir.path(), net, &links)?;
    let mut cluster = Cluster::start(
        Arc::clone(&system),
        schedule.nodes,
        nodes_dir.path(),
        rig.surroundings(),
        links,
    )
    .await?;
    let clock = Clock::start();
    let world = World::new(&cluster, clock, schedule.seed, schedule.duration_ms, timeout_ms);
    let history = dir.join(format!("{}-{}.jsonl", system.name(), workload.name()));
    let mut result = RunResult {
        target: system.name(),
        workload,
        seed: schedule.seed,
        frame: Frame {
            start_us: 0,
            // Known when the faults have happened.
            healed_us: 0,
            end_us: schedule.duration_ms * 1_000,
            timeout_us: timeout_ms * 1_000,
            consumers: registry::consumers(schedule.nodes),
            nodes: schedule.nodes,
        },
        bands: Vec::new(),
        measures: None,
        requests: (0, 0, 0),
        verdicts: BTreeMap::new(),
        unpromised: system.unpromised().iter().map(|name| (*name).to_owned()).collect(),
        figures: BTreeMap::new(),
        timer_lag_ms: Distribution::default(),
    };
    let lag = tokio::spawn(timer_lag(clock, schedule.duration_ms));
    let observers = cluster.observers()?;
    let faults = torment(&mut cluster, &mut rig, schedule, clock);
    work(&world, observers, faults, &history, &mut result).await?;
    result.timer_lag_ms = lag.await.map_err(|err| format!("a task failed: {err}"))?;
    let ended = cluster.ended();
    let ended = ended.iter().map(|(node, why)| format!("node {node} ended by itself: {why}"));
    result.verdicts.insert("nodes keep running".into(), Verdict::of(ended.collect()));
    if let Some(verdict) = agree(&cluster).await {
        result.verdicts.insert("nodes agree".into(), verdict);
    }
    Ok(result)
}

/// Measures until the end of a run how much later than asked a timer of this program fires.
async fn timer_lag(clock: Clock, end_ms: u64) -> Distribution {
    let mut lags = Vec::new();
    let mut due_ms = clock.now_ms();
    while due_ms + LAG_INTERVAL_MS < end_ms {
        due_ms = clock.now_ms() + LAG_INTERVAL_MS;
        clock.sleep_until_ms(due_ms).await;
        lags.push(clock.now_us() as f64 / 1e3 - due_ms as f64);
    }
    Distribution::of(lags)
}

/// Runs the clients of a workload while the faults happen, keeps what they saw in a file, and judges it.
async fn work(
    world: &World,
    observers: Vec<Arc<dyn Door>>,
    faults: impl Future<Output = Result<Tormented, String>>,
    history: &Path,
    result: &mut RunResult,
) -> Result<(), String> {
    let failed = |err: std::io::Error| format!("{}: {err}", history.display());
    match result.workload {
        Workload::Registry => {
            let (events, tormented) = tokio::join!(registry::run(world, observers), faults);
            let events = events?;
            judge::faults(tormented?, result);
            save(history, &events).map_err(failed)?;
            judge::registry(&events, result);
        }
        Workload::Register | Workload::Multi | Workload::Monotonic => {
            let mix = match result.workload {
                Workload::Multi => register::Mix::Multi,
                Workload::Monotonic => register::Mix::Monotonic,
                _ => register::Mix::All,
            };
            let (recorded, tormented) = tokio::join!(register::run(world, mix), faults);
            let recorded = recorded?;
            judge::faults(tormented?, result);
            save(history, &recorded.history).map_err(failed)?;
            judge::register(&recorded, result);
        }
        Workload::Set => {
            let (recorded, tormented) = tokio::join!(set::run(world), faults);
            let recorded = recorded?;
            judge::faults(tormented?, result);
            save(history, std::slice::from_ref(&recorded)).map_err(failed)?;
            judge::set(&recorded, result);
        }
        Workload::Lock => {
            let (recorded, tormented) = tokio::join!(lock::run(world), faults);
            let recorded = recorded?;
            judge::faults(tormented?, result);
            save(history, &recorded.held).map_err(failed)?;
            judge::lock(&recorded, result);
        }
        Workload::Session => {
            let (recorded, tormented) = tokio::join!(session::run(world), faults);
            let recorded = recorded?;
            judge::faults(tormented?, result);
            save(history, &recorded.lives).map_err(failed)?;
            judge::session(&recorded, result);
        }
        Workload::Watch => {
            let (recorded, tormented) = tokio::join!(watch::run(world), faults);
            let recorded = recorded?;
            judge::faults(tormented?, result);
            save(history, std::slice::from_ref(&recorded)).map_err(failed)?;
            judge::watch(&recorded, result);
        }
    }
    Ok(())
}

/// Compares the nodes' states, as soon as all stand at one zxid; `None` when the system does not show them.
async fn agree(cluster: &Cluster) -> Option<Verdict> {
    for _ in 0..AGREE_ATTEMPTS {
        let digests = cluster.system().digests(cluster.places()).await?;
        let zxids: BTreeSet<u64> = digests.iter().map(|(zxid, _)| *zxid).collect();
        if digests.len() == cluster.places().len() && zxids.len() == 1 {
            let different: BTreeSet<&String> = digests.iter().map(|(_, digest)| digest).collect();
            return Some(match different.len() {
                1 => Verdict::Ok,
                _ => Verdict::of(vec![format!("the nodes' states differ: {digests:?}")]),
            });
        }
        sleep(AGREE_INTERVAL).await;
    }
    Some(Verdict::Unknown("the nodes did not come to one zxid in time".into()))
}
