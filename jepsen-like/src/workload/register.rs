//! The register workload and its two relatives: a few znodes, read and written by clients at all sites.
//!
//! Keys are of three kinds. *Registers* are created first and then read, set, and set conditionally. *Flickering* keys
//! are created and deleted. *Groups* are always set together, in one transaction. Values are unique in a run. A part
//! of the reads is stale; the witness checks that those are old and not wrong. Two clients per site hand their last
//! zxid along and change nodes: what they see must not go back. The third one only reads, linearizably, and stays where it
//! is answered: it notices what a node says that does not know yet that it leads nobody. What is asked how often is the
//! [`Mix`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Doors, World, all_of, not_set_up};
use crate::door::Trouble;
use crate::history::kv::{KvAnswer, KvCall, KvOp, Refusal, Seen};
use crate::history::{Outcome, Recorder};

const ROOT: &str = "/register";
const REGISTERS: u64 = 4;
const FLICKERING: u64 = 2;
const GROUP: u64 = 3;
/// Clients at each site; the first two of each are monotonic, the third only reads.
const CLIENTS: u32 = 3;
const PAUSE_MS_MAX: u64 = 60;

/// What is asked how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Everything.
    All,
    /// Transactions, and reads of all that they write.
    Multi,
    /// Stale reads and writes of registers, at another node almost every time.
    Monotonic,
}

/// What happened, and which processes must be monotonic.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// All requests.
    pub history: Vec<KvOp>,
    /// Those that hand their zxid along.
    pub monotonic: BTreeSet<u32>,
}

/// Runs the workload to its end.
pub async fn run(world: &World, mix: Mix) -> Result<Recorded, String> {
    let recorder: Recorder<KvCall, KvAnswer> = Recorder::new(world.clock);
    let values = Arc::new(AtomicU64::new(1));
    set_up(world, &recorder, &values).await?;
    let mut clients: JoinSet<Result<(), String>> = JoinSet::new();
    let mut monotonic = BTreeSet::new();
    for number in 0..CLIENTS * u32::from(world.nodes) {
        let is_monotonic = number / u32::from(world.nodes) < 2;
        if is_monotonic {
            monotonic.insert(number + 1);
        }
        let client = KvClient {
            world: world.clone(),
            recorder: recorder.clone(),
            values: Arc::clone(&values),
            process: number + 1,
            doors: world.doors(world.site(number))?,
            zxid: 0,
            is_monotonic,
            mix,
        };
        clients.spawn(client.live());
    }
    all_of(clients).await?;
    Ok(Recorded { history: recorder.history(), monotonic })
}

fn key(kind: &str, number: u64) -> String {
    format!("{ROOT}/{kind}{number}")
}

fn group() -> Vec<String> {
    (0..GROUP).map(|number| key("g", number)).collect()
}

/// Creates the keys that are never deleted. No fault is active yet, so what cannot be done after some attempts will not
/// be.
async fn set_up(
    world: &World,
    recorder: &Recorder<KvCall, KvAnswer>,
    values: &AtomicU64,
) -> Result<(), String> {
    let door = world.begin(ROOT).await?.door();
    let value = || values.fetch_add(1, Ordering::Relaxed);
    let keys = (0..REGISTERS).map(|number| key("r", number)).chain(group());
    let creates = keys.map(|key| KvCall::Create { key, value: value() });
    let mut calls: Vec<KvCall> = creates.collect();
    // Whoever reads the group from now on finds one value in all of it.
    let together = value();
    let writes = group().into_iter().map(|key| (key, together)).collect();
    calls.push(KvCall::SetAll { writes });
    for call in calls {
        let begun = recorder.begin(0, door.node(), call.clone());
        recorder.end(begun, Outcome::Ok(door.kv(&call, 0).await.map_err(not_set_up)?));
    }
    Ok(())
}

struct KvClient {
    world: World,
    recorder: Recorder<KvCall, KvAnswer>,
    values: Arc<AtomicU64>,
    process: u32,
    doors: Doors,
    /// The newest zxid that it was answered.
    zxid: u64,
    is_monotonic: bool,
    mix: Mix,
}

impl KvClient {
    async fn live(mut self) -> Result<(), String> {
        let mut random = self.world.random(self.process);
        let wanders = if self.mix == Mix::Monotonic { 0.8 } else { 0.2 };
        while !self.world.is_over() {
            let call = self.next(&mut random);
            self.request(call).await;
            if self.is_monotonic && random.random_bool(wanders) {
                self.doors.take(random.random_range(0..usize::from(self.world.nodes)));
            }
            sleep(Duration::from_millis(random.random_range(0..=PAUSE_MS_MAX))).await;
        }
        Ok(())
    }

    fn next(&self, random: &mut StdRng) -> KvCall {
        let value = || self.values.fetch_add(1, Ordering::Relaxed);
        let register = key("r", random.random_range(0..REGISTERS));
        let flickering = key("f", random.random_range(0..FLICKERING));
        let turn = match self.mix {
            Mix::All if !self.is_monotonic => 0,
            Mix::All => random.random_range(0..20),
            Mix::Multi => random.random_range(16..20),
            Mix::Monotonic => random.random_range(3..9),
        };
        match turn {
            0..=3 => KvCall::Read { key: register },
            4..=6 => KvCall::ReadStale { key: register },
            7..=9 => KvCall::Set { key: register, value: value() },
            // From what it will read first.
            10..=12 => KvCall::Cas { key: register, version: 0, from: 0, to: value() },
            13 => KvCall::Create { key: flickering, value: value() },
            14 => KvCall::Delete { key: flickering },
            // A list says of which state it is even when nothing is there.
            15 => KvCall::ReadAll { keys: vec![flickering] },
            16 | 17 => {
                let value = value();
                KvCall::SetAll { writes: group().into_iter().map(|key| (key, value)).collect() }
            }
            _ => KvCall::ReadAll { keys: group() },
        }
    }

    /// Sends a request, which for a conditional write is a read and then the write.
    async fn request(&mut self, call: KvCall) {
        let KvCall::Cas { key, to, .. } = call else {
            self.send(call).await;
            return;
        };
        let seen = self.send(KvCall::Read { key: key.clone() }).await;
        if let Some(KvAnswer::Read { seen: Some(seen), .. }) = seen {
            let Seen { version, value: from, .. } = seen;
            self.send(KvCall::Cas { key, version, from, to }).await;
        }
    }

    async fn send(&mut self, call: KvCall) -> Option<KvAnswer> {
        let door = self.doors.door();
        let begun = self.recorder.begin(self.process, door.node(), call.clone());
        let seen_zxid = if self.is_monotonic { self.zxid } else { 0 };
        let reply = door.kv(&call, seen_zxid).await;
        let outcome = outcome(&call, reply);
        if let Outcome::Failed(_) | Outcome::Unknown(_) = outcome {
            self.doors.leave();
        }
        let answer = match &outcome {
            Outcome::Ok(answer) => Some(answer.clone()),
            _ => None,
        };
        if let Some(
            KvAnswer::Read { zxid, .. }
            | KvAnswer::ReadAll { zxid, .. }
            | KvAnswer::Done { zxid, .. },
        ) = &answer
        {
            self.zxid = self.zxid.max(*zxid);
        }
        self.recorder.end(begun, outcome);
        answer
    }
}

/// Returns what is known of a request: that the state did not allow it is an observation, but of a stale read, which
/// does not say of which state.
pub(super) fn outcome(call: &KvCall, reply: Result<KvAnswer, Trouble>) -> Outcome<KvAnswer> {
    match reply {
        Ok(answer) => Outcome::Ok(answer),
        Err(Trouble::Refused(refusal)) if !matches!(call, KvCall::ReadStale { .. }) => {
            observed(refusal)
        }
        Err(trouble) => trouble.outcome(),
    }
}

fn observed(refusal: Refusal) -> Outcome<KvAnswer> {
    Outcome::Ok(KvAnswer::Refused(refusal))
}
