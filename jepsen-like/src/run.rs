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
use crate::history::save;
use crate::judge;
use crate::schedule::{Fault, Network, Schedule, Who, resolve};
use crate::target::{Cluster, System};
use crate::workload::{Workload, World, lock, register, registry, session, set, watch};

/// How long nodes may take to agree after a run.
const AGREE_ATTEMPTS: u32 = 200;
/// So long before a fault of a role it is looked for who has it, so that the fault is in time.
const LOOK_FOR_LEADER_MS: u64 = 500;
/// How often timers are checked, ms.
const LAG_INTERVAL_MS: u64 = 50;
const AGREE_INTERVAL: Duration = Duration::from_millis(50);

/// A fault as it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Band {
    /// From the start of the workload, ms.
    pub from_ms: u64,
    /// Likewise.
    pub until_ms: u64,
    /// The fault, with numbers in the place of roles.
    pub fault: String,
}

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
    dir: &Path,
) -> Result<RunResult, String> {
    if !system.runs(workload) {
        return Err(format!("{} has not what {} needs", system.name(), workload.name()));
    }
    let wipes = schedule.steps.iter().any(|step| matches!(step.fault, Fault::Wipe(_)));
    if wipes && !system.survives_wipe() {
        return Err(format!(
            "a node of {} does not come back from a wipe by itself",
            system.name()
        ));
    }
    let nodes_dir = tempfile::tempdir().map_err(|err| format!("no directory for nodes: {err}"))?;
    let mut cluster = Cluster::start(Arc::clone(&system), schedule.nodes, nodes_dir.path()).await?;
    let clock = Clock::start();
    let world = World::new(&cluster, clock, schedule.seed, schedule.duration_ms, timeout_ms);
    let history = dir.join(format!("{}-{}.jsonl", system.name(), workload.name()));
    let mut result = RunResult {
        target: system.name(),
        workload,
        seed: schedule.seed,
        frame: Frame {
            start_us: 0,
            healed_us: schedule.healed_ms() * 1_000,
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
    let faults = torment(&mut cluster, schedule, clock);
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
    faults: impl Future<Output = Result<Vec<Band>, String>>,
    history: &Path,
    result: &mut RunResult,
) -> Result<(), String> {
    let failed = |err: std::io::Error| format!("{}: {err}", history.display());
    match result.workload {
        Workload::Registry => {
            let (events, tormented) = tokio::join!(registry::run(world, observers), faults);
            let events = events?;
            result.bands = tormented?;
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
            result.bands = tormented?;
            save(history, &recorded.history).map_err(failed)?;
            judge::register(&recorded, result);
        }
        Workload::Set => {
            let (recorded, tormented) = tokio::join!(set::run(world), faults);
            let recorded = recorded?;
            result.bands = tormented?;
            save(history, std::slice::from_ref(&recorded)).map_err(failed)?;
            judge::set(&recorded, result);
        }
        Workload::Lock => {
            let (recorded, tormented) = tokio::join!(lock::run(world), faults);
            let recorded = recorded?;
            result.bands = tormented?;
            save(history, &recorded.held).map_err(failed)?;
            judge::lock(&recorded, result);
        }
        Workload::Session => {
            let (recorded, tormented) = tokio::join!(session::run(world), faults);
            let recorded = recorded?;
            result.bands = tormented?;
            save(history, &recorded.lives).map_err(failed)?;
            judge::session(&recorded, result);
        }
        Workload::Watch => {
            let (recorded, tormented) = tokio::join!(watch::run(world), faults);
            let recorded = recorded?;
            result.bands = tormented?;
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

/// Which nodes a resolved fault wants down, and which paused.
fn wanted(fault: &Fault, nodes: u8) -> (BTreeSet<u8>, BTreeSet<u8>) {
    let numbers = |all: &[Who]| {
        let number = |who: &Who| match who {
            Who::Number(node) => Some(*node),
            Who::Leader | Who::Follower => None,
        };
        all.iter().filter_map(number).collect::<BTreeSet<u8>>()
    };
    match fault {
        Fault::Kill(all) => (numbers(all), BTreeSet::new()),
        Fault::Wipe(one) => (numbers(&[*one]), BTreeSet::new()),
        Fault::KillAll => ((1..=nodes).collect(), BTreeSet::new()),
        Fault::Pause(all) => (BTreeSet::new(), numbers(all)),
        _ => Default::default(),
    }
}

/// Makes the faults of a schedule happen, and returns them as they did. All are over when it returns.
async fn torment(
    cluster: &mut Cluster,
    schedule: &Schedule,
    clock: Clock,
) -> Result<Vec<Band>, String> {
    let nodes = schedule.nodes;
    let begins = schedule.steps.iter().enumerate().map(|(at, step)| (step.at_ms, true, at));
    let ends = schedule.steps.iter().enumerate().map(|(at, step)| (step.until_ms(), false, at));
    let mut changes: Vec<(u64, bool, usize)> = begins.chain(ends).collect();
    // What ends at a moment makes room for what begins then.
    changes.sort_unstable();
    let mut active: BTreeMap<usize, (Fault, u64)> = BTreeMap::new();
    let (mut down, mut paused) = (BTreeSet::new(), BTreeSet::new());
    let mut bands = Vec::new();
    for (at_ms, is_begin, at) in changes {
        let fault = &schedule.steps[at].fault;
        let has_role = *fault != resolve(fault, 0, nodes);
        let leader = if is_begin && has_role {
            clock.sleep_until_ms(at_ms.saturating_sub(LOOK_FOR_LEADER_MS)).await;
            cluster.leader().await
        } else {
            1
        };
        clock.sleep_until_ms(at_ms).await;
        if is_begin {
            active.insert(at, (resolve(fault, leader, nodes), clock.now_ms()));
        } else if let Some((fault, from_ms)) = active.remove(&at) {
            if let Fault::Wipe(Who::Number(node)) = fault {
                cluster.wipe(node)?;
            }
            let until_ms = clock.now_ms();
            bands.push(Band { from_ms, until_ms, fault: fault.to_string() });
        }
        cluster.links().set(Network::under(active.values().map(|(fault, _)| fault), nodes));
        let wants = active.values().map(|(fault, _)| wanted(fault, nodes));
        let (want_down, want_paused): (Vec<_>, Vec<_>) = wants.unzip();
        let want_down: BTreeSet<u8> = want_down.into_iter().flatten().collect();
        let want_paused: BTreeSet<u8> = want_paused.into_iter().flatten().collect();
        want_down.difference(&down).for_each(|node| cluster.kill(*node));
        for node in down.difference(&want_down) {
            cluster.start_node(*node)?;
            cluster.pause(*node, want_paused.contains(node));
        }
        want_paused.difference(&paused).for_each(|node| cluster.pause(*node, true));
        paused.difference(&want_paused).for_each(|node| cluster.pause(*node, false));
        (down, paused) = (want_down, want_paused);
    }
    bands.sort_by_key(|band| band.from_ms);
    Ok(bands)
}
