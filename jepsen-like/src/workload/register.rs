//! The register workload: a few znodes, read and written by clients at all sites.
//!
//! Keys are of three kinds. *Registers* are created first and then read, set, and set conditionally. *Flickering* keys
//! are created and deleted. *Groups* are always set together, in one transaction. Values are unique in a run. A part
//! of the reads is stale; the witness checks that those are old and not wrong. Two clients per site hand their last
//! zxid along and change nodes: what they see must not go back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use roost::client::model::{Create, MultiOp, Payload, Stat};
use roost::client::{Client, Error, ReadOptions};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{World, answered};
use crate::history::kv::{KvAnswer, KvCall, KvOp, Refusal, Seen};
use crate::history::registry::Answered;
use crate::history::{Outcome, Recorder};

const ROOT: &str = "/register";
const REGISTERS: u64 = 4;
const FLICKERING: u64 = 2;
const GROUP: u64 = 3;
/// Clients at each site; the first two of each are monotonic.
const CLIENTS: u32 = 3;
const PAUSE_MS_MAX: u64 = 60;
/// Attempts to create what the workload needs.
const SETUP_ATTEMPTS: u32 = 20;

/// What happened, and which processes must be monotonic.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// All requests.
    pub history: Vec<KvOp>,
    /// Those that hand their zxid along.
    pub monotonic: BTreeSet<u32>,
}

/// Runs the workload to its end.
pub async fn run(world: &World) -> Result<Recorded, String> {
    let recorder: Recorder<KvCall, KvAnswer> = Recorder::new(world.clock);
    let values = Arc::new(AtomicU64::new(1));
    set_up(world, &recorder, &values).await?;
    let mut tasks: JoinSet<Result<(), String>> = JoinSet::new();
    let mut monotonic = BTreeSet::new();
    for number in 0..CLIENTS * u32::from(world.nodes) {
        let site = (number % u32::from(world.nodes)) as u8 + 1;
        let is_monotonic = number / u32::from(world.nodes) < 2;
        if is_monotonic {
            monotonic.insert(number + 1);
        }
        let client = KvClient {
            world: world.clone(),
            recorder: recorder.clone(),
            values: Arc::clone(&values),
            process: number + 1,
            clients: world.clients(site)?,
            at: 0,
            zxid: 0,
            is_monotonic,
        };
        tasks.spawn(client.live());
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|err| format!("a client failed: {err}"))??;
    }
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
    let clients = world.clients(1)?;
    let (node, client) = clients.first().ok_or("a site has a node")?;
    let failed = |error: Error| format!("setting up: {error}");
    let parent = Create { path: ROOT.into(), ..Create::default() };
    for attempt in 0.. {
        match client.create(&parent).await {
            Ok(_) => break,
            Err(error) if error.is("node_exists") => break,
            Err(error) if attempt == SETUP_ATTEMPTS => return Err(failed(error)),
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    }
    for key in (0..REGISTERS).map(|number| key("r", number)).chain(group()) {
        let value = values.fetch_add(1, Ordering::Relaxed);
        let begun = recorder.begin(0, *node, KvCall::Create { key: key.clone(), value });
        let data = value.to_string().into_bytes();
        let created = client.create(&Create { path: key, data, ..Create::default() }).await;
        let created = created.map_err(failed)?;
        recorder.end(begun, done(created.zxid, Some(0)));
    }
    // Whoever reads the group from now on finds one value in all of it.
    let value = values.fetch_add(1, Ordering::Relaxed);
    let writes: Vec<_> = group().into_iter().map(|key| (key, value)).collect();
    let begun = recorder.begin(0, *node, KvCall::SetAll { writes: writes.clone() });
    recorder.end(begun, Outcome::Ok(set_all(client, &writes).await.map_err(failed)?));
    Ok(())
}

fn done(zxid: u64, version: Option<i32>) -> Outcome<KvAnswer> {
    Outcome::Ok(KvAnswer::Done { zxid, version })
}

struct KvClient {
    world: World,
    recorder: Recorder<KvCall, KvAnswer>,
    values: Arc<AtomicU64>,
    process: u32,
    clients: Vec<(u8, Client)>,
    at: usize,
    /// The newest zxid that it was answered.
    zxid: u64,
    is_monotonic: bool,
}

impl KvClient {
    async fn live(mut self) -> Result<(), String> {
        let mut random = StdRng::seed_from_u64(self.world.seed ^ (u64::from(self.process) << 16));
        while !self.world.is_over() {
            let call = self.next(&mut random);
            self.request(call).await;
            if self.is_monotonic && random.random_bool(0.2) {
                self.at = random.random_range(0..self.clients.len());
            }
            sleep(Duration::from_millis(random.random_range(0..=PAUSE_MS_MAX))).await;
        }
        Ok(())
    }

    fn next(&self, random: &mut StdRng) -> KvCall {
        let value = || self.values.fetch_add(1, Ordering::Relaxed);
        let register = key("r", random.random_range(0..REGISTERS));
        let flickering = key("f", random.random_range(0..FLICKERING));
        match random.random_range(0..20) {
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
        let (node, client) = self.clients[self.at].clone();
        let begun = self.recorder.begin(self.process, node, call.clone());
        let result = self.carry_out(&client, &call).await;
        let outcome = match result {
            Ok(answer) => Outcome::Ok(answer),
            Err(error) => failure(&call, &error),
        };
        let answer = match &outcome {
            Outcome::Ok(answer) => Some(answer.clone()),
            Outcome::Failed(_) | Outcome::Unknown(_) => None,
        };
        self.recorder.end(begun, outcome);
        match answer {
            None => self.at = (self.at + 1) % self.clients.len(),
            Some(
                KvAnswer::Read { zxid, .. }
                | KvAnswer::ReadAll { zxid, .. }
                | KvAnswer::Done { zxid, .. },
            ) => self.zxid = self.zxid.max(zxid),
            Some(KvAnswer::Refused(_)) => {}
        }
        answer
    }

    async fn carry_out(&self, client: &Client, call: &KvCall) -> Result<KvAnswer, Error> {
        let stale = match self.is_monotonic {
            true => ReadOptions::Sequential { min_zxid: self.zxid },
            false => ReadOptions::Stale,
        };
        match call {
            KvCall::Read { key } => read(client, key, ReadOptions::Linearizable).await,
            KvCall::ReadStale { key } => read(client, key, stale).await,
            KvCall::Create { key, value } => {
                let data = value.to_string().into_bytes();
                let create = Create { path: key.clone(), data, ..Create::default() };
                let created = client.create(&create).await?;
                Ok(KvAnswer::Done { zxid: created.zxid, version: Some(created.stat.version) })
            }
            KvCall::Set { key, value } => set(client, key, *value, None).await,
            KvCall::Cas { key, version, to, .. } => set(client, key, *to, Some(*version)).await,
            KvCall::Delete { key } => {
                let deleted = client.delete(key, None).await?;
                Ok(KvAnswer::Done { zxid: deleted.zxid, version: None })
            }
            KvCall::SetAll { writes } => set_all(client, writes).await,
            KvCall::ReadAll { keys } => {
                // A list of the parent's children with their data is of one state.
                let children = client.children(ROOT, true, true, ReadOptions::Linearizable).await?;
                let seen = keys.iter().map(|key| {
                    let name = key.rsplit('/').next().unwrap_or_default();
                    let child = children.children.iter().find(|child| child.name == name)?;
                    seen(&child.payload, child.stat.as_ref()?)
                });
                Ok(KvAnswer::ReadAll { zxid: children.zxid, seen: seen.collect() })
            }
        }
    }
}

async fn read(client: &Client, key: &str, options: ReadOptions) -> Result<KvAnswer, Error> {
    let znode = client.get(key, options).await?;
    Ok(KvAnswer::Read { zxid: znode.zxid, seen: seen(&znode.payload, &znode.stat) })
}

fn seen(payload: &Payload, stat: &Stat) -> Option<Seen> {
    let text = String::from_utf8(payload.0.clone()?).ok()?;
    // What is no number was written by nobody: 0 is no value of the workload.
    let value = text.parse().unwrap_or(0);
    Some(Seen { value, version: stat.version, czxid: stat.czxid, mzxid: stat.mzxid })
}

async fn set(
    client: &Client,
    key: &str,
    value: u64,
    version: Option<i32>,
) -> Result<KvAnswer, Error> {
    let changed = client.set(key, value.to_string().into_bytes(), version).await?;
    Ok(KvAnswer::Done { zxid: changed.zxid, version: Some(changed.stat.version) })
}

async fn set_all(client: &Client, writes: &[(String, u64)]) -> Result<KvAnswer, Error> {
    let op = |(path, value): &(String, u64)| MultiOp::Set {
        path: path.clone(),
        payload: Payload(Some(value.to_string().into_bytes())),
        version: None,
    };
    let done = client.multi(&writes.iter().map(op).collect::<Vec<_>>()).await?;
    // Znodes that are always set together have the same version.
    let mut versions = done.results.iter().map(|one| one.stat.as_ref().map(|stat| stat.version));
    let first = versions.next().flatten();
    let version = first.filter(|_| versions.all(|version| version == first));
    Ok(KvAnswer::Done { zxid: done.zxid, version })
}

fn failure(call: &KvCall, error: &Error) -> Outcome<KvAnswer> {
    let refusal = match error.code() {
        "no_node" => Some(Refusal::NoNode),
        "node_exists" => Some(Refusal::NodeExists),
        "bad_version" => Some(Refusal::BadVersion),
        _ => None,
    };
    let is_read =
        matches!(call, KvCall::Read { .. } | KvCall::ReadStale { .. } | KvCall::ReadAll { .. });
    let is_stale = matches!(call, KvCall::ReadStale { .. });
    match (refusal, answered(error, !is_read)) {
        (Some(refusal), _) if !is_stale => Outcome::Ok(KvAnswer::Refused(refusal)),
        (_, Answered::Unknown) => Outcome::Unknown(error.to_string()),
        _ => Outcome::Failed(error.to_string()),
    }
}
