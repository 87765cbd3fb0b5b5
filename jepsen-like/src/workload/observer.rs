//! Who asks without needing the answer: probers, for the availability of each node, and the observer of the truth.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use roost::client::model::Registration;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::registry::{Log, SERVICE};
use super::{REQUEST_TIMEOUT, World};
use crate::door::{Door, Session, answered, providers_path};
use crate::history::registry::{Answered, Asked, Event};

const PROBE_EVERY: Duration = Duration::from_millis(500);

/// Writes to and reads from one node only, from its own site.
pub(super) async fn probe(world: World, log: Log, node: u8) -> Result<(), String> {
    let door = world.doors(node)?.door();
    let registration = Registration {
        id: Some(format!("probe-{node}")),
        host: "127.0.0.1".into(),
        port: 1,
        ..Registration::default()
    };
    let mut session: Option<Session> = None;
    let mut ticks = interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !world.is_over() {
        ticks.tick().await;
        let start_us = world.clock.now_us();
        let (what, write) = match &session {
            None => {
                let opened = door.open(world.timeout_ms).await;
                (Asked::Open, opened.map(|opened| session = Some(opened)))
            }
            Some(mine) => (Asked::Register, door.register(mine, "probe", &registration).await),
        };
        let outcome = answered(&write);
        log.asked((node, node), what, "", start_us, outcome);
        if outcome == Answered::Refused {
            session = None;
        }
        let start_us = world.clock.now_us();
        let read = door.providers(SERVICE).await;
        log.asked((node, node), Asked::List, "", start_us, answered(&read));
    }
    Ok(())
}

/// Opens one subscription after the other at one node only, from its own site, and waits for the first news of each.
pub(super) async fn probe_subscriptions(world: World, log: Log, node: u8) -> Result<(), String> {
    let door = world.doors(node)?.door();
    let mut ticks = interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !world.is_over() {
        ticks.tick().await;
        let start_us = world.clock.now_us();
        let mut subscription = door.watch(&providers_path(SERVICE), None);
        let first = timeout(REQUEST_TIMEOUT, subscription.next()).await;
        let outcome = first.as_ref().map_or(Answered::Failed, answered);
        log.asked((node, node), Asked::Subscribe, "", start_us, outcome);
    }
    Ok(())
}

/// Reads one node's list past all faults of the network.
pub(super) async fn observe(world: World, log: Log, door: Arc<dyn Door>) -> Result<(), String> {
    let mut ticks = interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !world.is_over() {
        ticks.tick().await;
        let start_us = world.clock.now_us();
        let Ok(found) = door.providers(SERVICE).await else { continue };
        let providers: BTreeSet<String> = found.list.into_keys().collect();
        log.note(Event::Listed { node: door.node(), consumer: None, start_us, providers });
    }
    Ok(())
}
