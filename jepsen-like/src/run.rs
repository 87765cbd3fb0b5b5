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
use crate::fault::{Net, Rig, Tormented, torment};
use crate::history::{Outcome, save};
use crate::schedule::Schedule;
use crate::target::{Cluster, System};
use crate::workload::{World, register, registry};

pub use crate::fault::Band;

/// Fewer answered requests than this per second of a run say nothing.
const ANSWERED_PER_SECOND_MIN: usize = 3;
/// How long nodes may take to agree after a run.
const AGREE_ATTEMPTS: u32 = 200;
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
    net: Net,
    dir: &Path,
) -> Result<RunResult, String> {
    let nodes_dir = tempfile::tempdir().map_err(|err| format!("no directory for nodes: {err}"))?;
    let mut rig = Rig::build(schedule, system.as_ref(), nodes_dir.path(), net)?;
    let starting =
        Cluster::start(Arc::clone(&system), schedule.nodes, nodes_dir.path(), rig.surroundings());
    let mut cluster = starting.await?;
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
    let tormenting = torment(&mut cluster, &mut rig, schedule, clock);
    match workload {
        Workload::Registry => {
            let (events, tormented) = tokio::join!(registry::run(&world, &places), tormenting);
            let events = events?;
            judge_faults(tormented?, &mut result);
            saved(save(&history, &events))?;
            judge_registry(&events, &mut result);
        }
        Workload::Register => {
            let (recorded, tormented) = tokio::join!(register::run(&world), tormenting);
            let recorded = recorded?;
            judge_faults(tormented?, &mut result);
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

fn judge_faults(tormented: Tormented, result: &mut RunResult) {
    let Tormented { bands, breaches, unseen } = tormented;
    result.bands = bands;
    result.verdicts.insert("nodes come through their faults".into(), Verdict::of(breaches));
    let acted = match unseen.is_empty() {
        true => Verdict::Ok,
        false => Verdict::Unknown(format!("not seen to act: {}", unseen.join(", "))),
    };
    result.verdicts.insert("faults acted".into(), acted);
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
