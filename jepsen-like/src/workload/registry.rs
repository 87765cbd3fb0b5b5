//! The registry workload: providers that come and go, consumers that call them.
//!
//! Each site has some *slots* of providers and some consumers. The provider of a slot registers, renews, and some time
//! later leaves in order, crashes, or hangs; then the slot's next one comes, under a new id. When and how is drawn from
//! the seed alone, so every registry gets the same. In every run there are also one prober per node, which registers
//! and reads at that node alone, and an observer that reads every node's list past all faults of the network.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use super::{World, all_of, consumer, observer, provider};
use crate::door::Door;
use crate::history::registry::{Answered, Asked, End, Event, Noted};

/// The service that is provided.
pub(super) const SERVICE: &str = "web";
/// Slots of providers at each site.
const SLOTS: u32 = 3;
/// Consumers at each site.
const CONSUMERS: u32 = 2;

/// Returns how many consumers a run with so many nodes has.
pub fn consumers(nodes: u8) -> u32 {
    u32::from(nodes) * CONSUMERS
}

/// Collects events; clones share the collection.
#[derive(Clone)]
pub(super) struct Log {
    world: World,
    events: Arc<std::sync::Mutex<Vec<Noted>>>,
}

impl Log {
    pub(super) fn note(&self, what: Event) {
        let mut events = self.events.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Taken under the lock, so that events are in the order of their times.
        events.push(Noted { at_us: self.world.clock.now_us(), what });
    }

    /// Notes what came of a question from a site to a node.
    pub(super) fn asked(
        &self,
        (site, node): (u8, u8),
        what: Asked,
        provider: &str,
        start_us: u64,
        result: Answered,
    ) {
        let provider = provider.to_owned();
        self.note(Event::Asked { node, site, what, provider, start_us, result });
    }
}

/// One provider's life as planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) id: String,
    pub(super) site: u8,
    pub(super) from_ms: u64,
    /// When and how it ends; `None` with the run.
    pub(super) end: Option<(u64, End)>,
}

/// Returns the lives of all providers. The last fifth of the time sees no comings and goings, so that things can
/// become right.
fn plans(seed: u64, nodes: u8, begin_ms: u64, end_ms: u64) -> Vec<Plan> {
    let calm_ms = end_ms - (end_ms - begin_ms) / 5;
    let mut plans = Vec::new();
    for slot in 0..u32::from(nodes) * SLOTS {
        let mut random = StdRng::seed_from_u64(seed ^ ((u64::from(slot) + 1) << 32));
        let site = (slot % u32::from(nodes)) as u8 + 1;
        let mut from_ms = begin_ms + u64::from(random.random_range(0..300_u32));
        for generation in 0.. {
            let until_ms = from_ms + random.random_range(5_000..=20_000);
            let how = match random.random_range(0..10) {
                0..=4 => End::Left,
                5..=7 => End::Crashed,
                _ => End::Hung,
            };
            let end = (until_ms < calm_ms).then_some((until_ms, how));
            plans.push(Plan { id: format!("p{slot}-{generation}"), site, from_ms, end });
            if end.is_none() {
                break;
            }
            from_ms = until_ms + random.random_range(300..=1_500);
            if from_ms >= calm_ms {
                break;
            }
        }
    }
    plans
}

/// Runs the workload to its end and returns what happened. `observers` lead to the nodes past all faults.
pub async fn run(world: &World, observers: Vec<Arc<dyn Door>>) -> Result<Vec<Noted>, String> {
    let log = Log { world: world.clone(), events: Arc::default() };
    let mut tasks: JoinSet<Result<(), String>> = JoinSet::new();
    for plan in plans(world.seed, world.nodes, world.clock.now_ms(), world.end_ms) {
        tasks.spawn(provider::live(world.clone(), log.clone(), plan));
    }
    for number in 0..consumers(world.nodes) {
        let site = world.site(number);
        tasks.spawn(consumer::live(world.clone(), log.clone(), number, site));
    }
    for door in observers {
        tasks.spawn(observer::probe(world.clone(), log.clone(), door.node()));
        tasks.spawn(observer::probe_subscriptions(world.clone(), log.clone(), door.node()));
        tasks.spawn(observer::observe(world.clone(), log.clone(), door));
    }
    all_of(tasks).await?;
    let events = log.events.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(events.clone())
}

#[cfg(test)]
mod tests {
    use super::plans;

    #[test]
    fn providers_come_and_go_by_the_seed_alone_and_not_at_the_end() {
        let lives = plans(7, 3, 1_000, 61_000);
        assert_eq!(lives, plans(7, 3, 1_000, 61_000));
        assert_ne!(lives, plans(8, 3, 1_000, 61_000));
        assert!(lives.len() > 20, "{}", lives.len());
        assert_eq!(lives.iter().filter(|plan| plan.end.is_none()).count(), 9);
        assert!(lives.iter().filter_map(|plan| plan.end).all(|(end_ms, _)| end_ms < 49_000));
    }
}
