//! One run: a new cluster, a workload, and the faults of a schedule meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::check::registry::{Distribution, Frame, Measures, measure};
use crate::check::{Verdict, enough, monotonic, multi, wgl, witness};
use crate::clock::Clock;
use crate::history::{Outcome, save};
use crate::schedule::{Fault, Network, Schedule, Who, resolve};
use crate::target::{Cluster, System};
use crate::workload::{World, register, registry};

/// Fewer answered requests than this per second of a run say nothing.
const ANSWERED_PER_SECOND_MIN: usize = 3;
/// How long nodes may take to agree after a run.
const AGREE_ATTEMPTS: u32 = 200;
/// So long before a fault of a role it is looked for who has it, so that the fault is in time.
const LOOK_FOR_LEADER_MS: u64 = 500;
/// How often timers are checked, ms.
const LAG_INTERVAL_MS: u64 = 50;
const AGREE_INTERVAL: Duration = Duration::from_millis(50);

/// What the clients of a run do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// Providers and consumers; on every registry.
    Registry,
    /// Linearizable registers; on what promises them.
    Register,
}

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
    /// How late timers of this program were, ms: on a machine that is too busy, times measure the machine.
    pub timer_lag_ms: Distribution,
}

impl RunResult {
    /// Returns whether every promise of the system was kept, for certain.
    pub fn is_good(&self) -> bool {
        self.verdicts.values().all(Verdict::is_ok)
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
    let places = cluster.places().to_vec();
    let name = format!("{}-{}", system.name(), workload_name(workload));
    let history = dir.join(format!("{name}.jsonl"));
    let saved =
        |result: std::io::Result<()>| result.map_err(|err| format!("{}: {err}", history.display()));
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
        timer_lag_ms: Distribution::default(),
    };
    let lag = tokio::spawn(timer_lag(clock, schedule.duration_ms));
    match workload {
        Workload::Registry => {
            let (events, tormented) = tokio::join!(
                registry::run(&world, &places),
                torment(&mut cluster, schedule, clock)
            );
            let events = events?;
            result.bands = tormented?;
            saved(save(&history, &events))?;
            judge_registry(&events, &mut result);
        }
        Workload::Register => {
            let (recorded, tormented) =
                tokio::join!(register::run(&world), torment(&mut cluster, schedule, clock));
            let recorded = recorded?;
            result.bands = tormented?;
            saved(save(&history, &recorded.history))?;
            judge_register(&recorded, schedule, &mut result);
        }
    }
    result.timer_lag_ms = lag.await.map_err(|err| format!("a task failed: {err}"))?;
    let ended = cluster.ended();
    let ended = ended.iter().map(|(node, why)| format!("node {node} ended by itself: {why}"));
    result.verdicts.insert("nodes keep running".into(), Verdict::of(ended.collect()));
    if system.is_linearizable() {
        result.verdicts.insert("nodes agree".into(), agree(&cluster).await?);
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

/// Returns the name of a workload in file names and on the command line.
pub fn workload_name(workload: Workload) -> &'static str {
    match workload {
        Workload::Registry => "registry",
        Workload::Register => "register",
    }
}

fn judge_registry(events: &[crate::history::registry::Noted], result: &mut RunResult) {
    use crate::history::registry::{Answered, Event};
    for noted in events {
        if let Event::Asked { result: answer, .. } = noted.what {
            match answer {
                Answered::Ok | Answered::Refused => result.requests.0 += 1,
                Answered::Failed => result.requests.1 += 1,
                Answered::Unknown => result.requests.2 += 1,
            }
        }
    }
    let measures = measure(events, &result.frame);
    let seconds = (result.frame.end_us / 1_000_000) as usize;
    let too_little = result.requests.0 < seconds * ANSWERED_PER_SECOND_MIN || measures.calls == 0;
    let verdict = match too_little {
        true => Verdict::Unknown("too little happened to say anything".into()),
        false => Verdict::Ok,
    };
    result.verdicts.insert("enough happened".into(), verdict);
    result.measures = Some(measures);
}

fn judge_register(recorded: &register::Recorded, schedule: &Schedule, result: &mut RunResult) {
    let register::Recorded { history, monotonic: processes } = recorded;
    let count = |is: fn(&Outcome<_>) -> bool| history.iter().filter(|op| is(&op.outcome)).count();
    result.requests = (
        count(|outcome| matches!(outcome, Outcome::Ok(_))),
        count(|outcome| matches!(outcome, Outcome::Failed(_))),
        count(|outcome| matches!(outcome, Outcome::Unknown(_))),
    );
    let seconds = (schedule.duration_ms / 1_000) as usize;
    let verdicts = [
        ("enough happened", enough(history, seconds * ANSWERED_PER_SECOND_MIN)),
        ("one history in zxid order (witness)", witness::check(history)),
        ("each key is linearizable (search)", wgl::check(history)),
        ("transactions are whole", multi::check(history)),
        ("no client's view goes back", monotonic::check(history, processes)),
    ];
    for (name, verdict) in verdicts {
        result.verdicts.insert(name.into(), verdict);
    }
}

/// Compares the nodes' digests, as soon as all stand at one zxid.
async fn agree(cluster: &Cluster) -> Result<Verdict, String> {
    for _ in 0..AGREE_ATTEMPTS {
        let mut answers = Vec::new();
        for place in cluster.places() {
            answers.extend(place.observer()?.digest().await.ok());
        }
        let zxids: BTreeSet<u64> = answers.iter().map(|answer| answer.zxid).collect();
        if answers.len() == cluster.places().len() && zxids.len() == 1 {
            let digests: BTreeSet<&String> = answers.iter().map(|answer| &answer.digest).collect();
            return Ok(match digests.len() {
                1 => Verdict::Ok,
                _ => Verdict::of(vec![format!("the nodes' states differ: {answers:?}")]),
            });
        }
        sleep(AGREE_INTERVAL).await;
    }
    Ok(Verdict::Unknown("the nodes did not come to one zxid in time".into()))
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
