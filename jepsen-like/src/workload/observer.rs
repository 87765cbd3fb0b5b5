//! Who asks without needing the answer: probers, for the availability of each node, and the observer of the truth.

use std::collections::BTreeSet;
use std::time::Duration;

use roost::client::ReadOptions;
use roost::client::model::Registration;
use tokio::time::{MissedTickBehavior, interval};

use super::registry::{Log, SERVICE};
use super::{World, answered};
use crate::history::registry::{Answered, Asked, Event};
use crate::target::Place;

const PROBE_EVERY: Duration = Duration::from_millis(500);

/// Writes to and reads from one node only, from its own site.
pub(super) async fn probe(world: World, log: Log, node: u8) -> Result<(), String> {
    let clients = world.clients(node)?;
    let (_, client) = clients.first().ok_or("a site has a node")?;
    let registration = Registration {
        id: Some(format!("probe-{node}")),
        host: "127.0.0.1".into(),
        port: 1,
        ..Registration::default()
    };
    let mut token: Option<String> = None;
    let mut ticks = interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !world.is_over() {
        ticks.tick().await;
        let start_us = world.clock.now_us();
        let write = match &token {
            None => client.open_session(world.timeout_ms).await.map(|opened| {
                token = Some(opened.token);
            }),
            Some(mine) => {
                let mine = client.with_session(mine);
                mine.register("probe", &registration).await.map(|_| ())
            }
        };
        let what = if token.is_some() { Asked::Register } else { Asked::Open };
        let outcome = write.as_ref().map_or_else(|error| answered(error, true), |()| Answered::Ok);
        log.asked(node, what, "", start_us, outcome);
        if outcome == Answered::Refused {
            token = None;
        }
        let start_us = world.clock.now_us();
        let read = client.service_with(SERVICE, ReadOptions::Stale).await;
        let outcome = read.as_ref().map_or_else(|error| answered(error, false), |_| Answered::Ok);
        log.asked(node, Asked::List, "", start_us, outcome);
    }
    Ok(())
}

/// Reads one node's list past all faults of the network.
pub(super) async fn observe(world: World, log: Log, place: Place) -> Result<(), String> {
    let client = place.observer()?;
    let mut ticks = interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !world.is_over() {
        ticks.tick().await;
        let start_us = world.clock.now_us();
        let Ok(service) = client.service_with(SERVICE, ReadOptions::Stale).await else { continue };
        let providers: BTreeSet<String> =
            service.providers.into_iter().map(|provider| provider.id).collect();
        log.note(Event::Listed { node: place.node, consumer: None, start_us, providers });
    }
    Ok(())
}
