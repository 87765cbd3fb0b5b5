//! Watches: a writer at each site creates, sets and deletes a few znodes; subscribers at all sites are told, and go from
//! node to node, taking along how far they are. In the end each one's replay must be the tree.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::register::outcome;
use super::{Doors, World, all_of};
use crate::check::watch::{Told, replay};
use crate::door::{News, number};
use crate::history::Recorder;
use crate::history::kv::{KvAnswer, KvCall, KvOp};

const ROOT: &str = "/watch";
const KEYS: u64 = 5;
const WRITE_PAUSE_MS_MAX: u64 = 40;
/// Subscribers at each site.
const SUBSCRIBERS: u32 = 2;
/// How long a subscriber stays with a node.
const STAY_MS: std::ops::RangeInclusive<u64> = 1_500..=8_000;
/// How long one that was told nothing good waits before it tries the next node.
const RETRY: Duration = Duration::from_millis(100);
/// How long subscribers may take to be where the tree is, when all is quiet: looks, and the time between two.
const ARRIVAL_LOOKS: u32 = 75;
const ARRIVAL_INTERVAL: Duration = Duration::from_millis(200);

/// What happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recorded {
    /// What was written.
    pub writes: Vec<KvOp>,
    /// What each subscriber was told.
    pub streams: Vec<Vec<Told>>,
    /// What was there in the end; `None` when nobody could say.
    pub tree: Option<BTreeMap<String, u64>>,
}

type Stream = Arc<Mutex<Vec<Told>>>;

/// Runs the workload to its end.
pub async fn run(world: &World) -> Result<Recorded, String> {
    let mut doors = world.begin(ROOT).await?;
    let mut streams: Vec<Stream> = Vec::new();
    let mut subscribers = JoinSet::new();
    for number in 0..SUBSCRIBERS * u32::from(world.nodes) {
        let stream = Stream::default();
        streams.push(Arc::clone(&stream));
        let (doors, random) = (world.doors(world.site(number))?, world.random(1_000 + number));
        subscribers.spawn(subscribe(world.clone(), doors, random, stream));
    }
    let recorder: Recorder<KvCall, KvAnswer> = Recorder::new(world.clock);
    let values = Arc::new(AtomicU64::new(1));
    let mut writers: JoinSet<Result<(), String>> = JoinSet::new();
    for process in 1..=u32::from(world.nodes) {
        writers.spawn(write(world.clone(), process, recorder.clone(), Arc::clone(&values)));
    }
    all_of(writers).await?;
    let told = || streams.iter().map(all_told).collect::<Vec<_>>();
    let mut tree = None;
    for _ in 0..ARRIVAL_LOOKS {
        if let Ok(state) = doors.door().children(ROOT, false).await {
            let values = state.children.into_iter().map(|(name, data)| (name, number(&data)));
            let now: BTreeMap<String, u64> = values.collect();
            let is_there = told().iter().all(|stream| replay(stream).as_ref() == Some(&now));
            tree = Some(now);
            if is_there {
                break;
            }
        } else {
            doors.leave();
        }
        sleep(ARRIVAL_INTERVAL).await;
    }
    subscribers.shutdown().await;
    Ok(Recorded { writes: recorder.history(), streams: told(), tree })
}

fn all_told(stream: &Stream) -> Vec<Told> {
    stream.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

async fn write(
    world: World,
    process: u32,
    recorder: Recorder<KvCall, KvAnswer>,
    values: Arc<AtomicU64>,
) -> Result<(), String> {
    let mut random = world.random(process);
    let mut doors = world.doors(world.site(process))?;
    while !world.is_over() {
        let key = format!("{ROOT}/w{}", random.random_range(0..KEYS));
        let value = values.fetch_add(1, Ordering::Relaxed);
        let call = match random.random_range(0..10) {
            0..=2 => KvCall::Create { key, value },
            3..=7 => KvCall::Set { key, value },
            _ => KvCall::Delete { key },
        };
        let door = doors.door();
        let begun = recorder.begin(process, door.node(), call.clone());
        let reply = door.kv(&call, 0).await;
        doors.judge(&reply);
        recorder.end(begun, outcome(&call, reply));
        sleep(Duration::from_millis(random.random_range(0..=WRITE_PAUSE_MS_MAX))).await;
    }
    Ok(())
}

/// Listens for ever, at one node after the other.
async fn subscribe(world: World, mut doors: Doors, mut random: StdRng, stream: Stream) {
    let mut since: Option<u64> = None;
    loop {
        let until_ms = world.clock.now_ms() + random.random_range(STAY_MS);
        let mut subscription = doors.door().watch(ROOT, since);
        // When the writers are done there is no more reason to go elsewhere.
        while world.clock.now_ms() < until_ms || world.is_over() {
            let stay = Duration::from_millis(until_ms.saturating_sub(world.clock.now_ms()).max(50));
            let news = match timeout(stay, subscription.next()).await {
                Ok(Ok(news)) => news,
                Ok(Err(_)) => break,
                Err(_) => continue,
            };
            since = reached(&news);
            stream.lock().unwrap_or_else(PoisonError::into_inner).push(told(news));
        }
        doors.leave();
        sleep(RETRY).await;
    }
}

/// Returns from where somebody goes on who has been told this.
fn reached(news: &News) -> Option<u64> {
    match news {
        News::Snapshot(state) => Some(state.zxid),
        News::Change { zxid, .. } | News::Progress(zxid) => Some(*zxid),
        News::Reset => None,
    }
}

fn told(news: News) -> Told {
    match news {
        News::Snapshot(state) => {
            let values = state.children.into_iter().map(|(name, data)| (name, number(&data)));
            Told::Snapshot { zxid: state.zxid, values: values.collect() }
        }
        News::Change { zxid, changes } => {
            let changes = changes.into_iter();
            let changes = changes.map(|(name, data)| (name, data.as_deref().map(number)));
            Told::Change { zxid, changes: changes.collect() }
        }
        News::Reset => Told::Reset,
        News::Progress(zxid) => Told::Progress { zxid },
    }
}
