//! Sequential znodes: clients at all sites add values below one parent and delete a part of what they added; when all is
//! quiet the children are listed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::Rng;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{World, all_of};
use crate::check::set::{AddOp, Added, RemoveOp};
use crate::door::{Trouble, number};
use crate::history::kv::KvCall;
use crate::history::{Outcome, Recorder};

const ROOT: &str = "/set";
/// Clients at each site.
const CLIENTS: u32 = 2;
const PAUSE_MS_MAX: u64 = 100;
/// Of what was added so much is deleted again.
const DELETED_SHARE: f64 = 0.15;

/// What happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recorded {
    /// What was added.
    pub adds: Vec<AddOp>,
    /// What was deleted.
    pub removes: Vec<RemoveOp>,
    /// What was there in the end, names and values; `None` when nobody could say.
    pub found: Option<BTreeMap<String, u64>>,
}

/// Runs the workload to its end.
pub async fn run(world: &World) -> Result<Recorded, String> {
    let adds: Recorder<u64, Added> = Recorder::new(world.clock);
    let removes: Recorder<String, ()> = Recorder::new(world.clock);
    let values = Arc::new(AtomicU64::new(1));
    let mut doors = world.begin(ROOT).await?;
    let mut clients: JoinSet<Result<(), String>> = JoinSet::new();
    for number in 0..CLIENTS * u32::from(world.nodes) {
        let (world, adds, removes) = (world.clone(), adds.clone(), removes.clone());
        clients.spawn(live(world, number + 1, adds, removes, Arc::clone(&values)));
    }
    all_of(clients).await?;
    let found = doors.insist(|door| async move { door.children(ROOT, false).await }).await;
    let found = found.ok().map(|state| {
        let values = state.children.into_iter().map(|(name, data)| (name, number(&data)));
        values.collect()
    });
    Ok(Recorded { adds: adds.history(), removes: removes.history(), found })
}

async fn live(
    world: World,
    process: u32,
    adds: Recorder<u64, Added>,
    removes: Recorder<String, ()>,
    values: Arc<AtomicU64>,
) -> Result<(), String> {
    let mut random = world.random(process);
    let mut doors = world.doors(world.site(process))?;
    while !world.is_over() {
        let door = doors.door();
        let value = values.fetch_add(1, Ordering::Relaxed);
        let begun = adds.begin(process, door.node(), value);
        let reply = door.add(ROOT, value).await;
        doors.judge(&reply);
        let added = reply.as_ref().ok().map(|added| added.name.clone());
        adds.end(begun, reply.map_or_else(|trouble| trouble.outcome(), Outcome::Ok));
        if let Some(name) = added.filter(|_| random.random_bool(DELETED_SHARE)) {
            let door = doors.door();
            let call = KvCall::Delete { key: format!("{ROOT}/{name}") };
            let begun = removes.begin(process, door.node(), name);
            let reply = door.kv(&call, 0).await;
            doors.judge(&reply);
            let outcome = |trouble: Trouble| trouble.outcome();
            removes.end(begun, reply.map_or_else(outcome, |_| Outcome::Ok(())));
        }
        sleep(Duration::from_millis(random.random_range(0..=PAUSE_MS_MAX))).await;
    }
    Ok(())
}
