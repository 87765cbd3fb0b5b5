//! Measures of a registry, of whatever kind, under the registry workload. Nothing here is a verdict: a registry that
//! chose availability is expected to answer with old lists, one that chose consistency to refuse, and both are shown.
//!
//! Words. A provider *works* from `Up` to `Down`. It *must be listed* at a moment when it works and a registration or
//! renewal of it that was sent less than the timeout before was acknowledged: that much every registry promised it. A
//! *ghost* is listed and does not work. A provider that must be listed and is not, is *missing*. A ping is no renewal: a
//! node that is cut off answers it. Only long after the last fault, when every node is heard, is it as good as one. A
//! provider that asked for its own id to be freed and was not told what came of that, must never be listed again: the
//! request may arrive late.
//!
//! | measure | what it is |
//! |---|---|
//! | failed calls | a consumer's call whose first attempt failed, and whose retries failed as well: what users feel |
//! | ghosts, missing | per consumer, over time; their integrals in provider-seconds |
//! | stale reads | lists that lacked what must be listed when they were asked for, or held what had deregistered; and since when |
//! | lost | providers that had to be listed for a whole timeout before the end and are not in every consumer's list |
//! | availability | answered share of requests per second, by node and by site, and kind (writes, reads, subscriptions) |
//! | convergence | from the last fault's end until every node's list is the truth, and stays so |
//! | notification | from the acknowledgement of a change to the moment at which a consumer holds it |
//! | detection | from a crash to the moment at which a consumer no longer holds the provider |
//!
//! Cost: O(events · providers): a run has thousands of the one and tens of the other.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::life::{Life, Lives, lives};
use crate::history::registry::{Answered, Asked, End, Event, Noted};

/// Distance of the points of a curve, µs.
pub const CURVE_STEP_US: u64 = 250_000;

/// What a run was, beside its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// When the workload began, µs.
    pub start_us: u64,
    /// When the last fault ended, µs.
    pub healed_us: u64,
    /// When the workload ended, µs.
    pub end_us: u64,
    /// The sessions' timeout, µs.
    pub timeout_us: u64,
    /// Consumers, numbered from 0.
    pub consumers: u32,
    /// Nodes, numbered from 1.
    pub nodes: u8,
}

/// Some figures of a number of values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// All of them, sorted.
    pub values: Vec<f64>,
}

impl Distribution {
    /// Returns the distribution of these values.
    pub fn of(mut values: Vec<f64>) -> Distribution {
        values.sort_by(f64::total_cmp);
        Distribution { values }
    }

    /// Returns the value below which this share of them lies, `None` when there are none.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let last = self.values.len().checked_sub(1)?;
        let at = (share * last as f64).round() as usize;
        self.values.get(at.min(last)).copied()
    }
}

/// Answered and all requests of one second.
pub type Answers = (u32, u32);

/// Answered and all requests per second, of each node or each site, by its number.
pub type Strips = BTreeMap<u8, Vec<Answers>>;

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Calls by consumers.
    pub calls: u64,
    /// Of which the first attempt failed.
    pub failed_first: u64,
    /// Of which all attempts failed.
    pub failed_all: u64,
    /// Per second of the run: calls, failed first, failed all.
    pub calls_by_second: Vec<(u32, u32, u32)>,
    /// Mean ghosts per consumer, every [`CURVE_STEP_US`].
    pub ghosts: Vec<f64>,
    /// Mean missing per consumer, likewise.
    pub missing: Vec<f64>,
    /// Integral of `ghosts`.
    pub ghost_provider_seconds: f64,
    /// Integral of `missing`.
    pub missing_provider_seconds: f64,
    /// Lists asked for by consumers and answered.
    pub reads: u64,
    /// How stale the stale ones were, ms.
    pub staleness_ms: Distribution,
    /// Providers that some consumer lacks at the end, though they must be listed.
    pub lost: Vec<String>,
    /// Ghosts that some consumer holds at the end.
    pub ghosts_at_end: Vec<String>,
    /// Per node, for writes: per second.
    pub writes: Strips,
    /// Likewise for lists.
    pub lists: Strips,
    /// Likewise for subscriptions.
    pub subscribes: Strips,
    /// Per site of clients, whichever nodes they asked, for writes: per second.
    #[serde(default)]
    pub site_writes: Strips,
    /// Likewise for lists.
    #[serde(default)]
    pub site_lists: Strips,
    /// Likewise for subscriptions.
    #[serde(default)]
    pub site_subscribes: Strips,
    /// From the last fault's end to all nodes having the truth, ms; `None`: not within the run.
    pub converged_ms: Option<f64>,
    /// Change acknowledged → consumer has it, ms.
    pub notification_ms: Distribution,
    /// Changes that a consumer never got, although they held until the end.
    pub never_notified: u64,
    /// Crash → consumer has noticed, ms.
    pub detection_ms: Distribution,
}

/// Computes all measures.
pub fn measure(events: &[Noted], frame: &Frame) -> Measures {
    let lives = lives(events);
    let held = held(events);
    let mut measures = Measures::default();
    calls(events, frame, &mut measures);
    curves(&lives, &held, frame, &mut measures);
    stale_reads(events, &lives, frame, &mut measures);
    at_the_end(&lives, &held, frame, &mut measures);
    availability(events, frame, &mut measures);
    measures.converged_ms = convergence(events, &lives, frame);
    delays(&lives, &held, frame, &mut measures);
    measures
}

/// Each consumer's lists, in the order of time.
type Held<'a> = BTreeMap<u32, Vec<(u64, &'a BTreeSet<String>)>>;

fn held(events: &[Noted]) -> Held<'_> {
    let mut held = Held::new();
    for Noted { at_us, what } in events {
        if let Event::Held { consumer, providers } = what {
            held.entry(*consumer).or_default().push((*at_us, providers));
        }
    }
    held
}

fn seconds(frame: &Frame) -> usize {
    (frame.end_us.saturating_sub(frame.start_us) / 1_000_000) as usize + 1
}

fn second_of(at_us: u64, frame: &Frame) -> usize {
    let second = (at_us.saturating_sub(frame.start_us) / 1_000_000) as usize;
    second.min(seconds(frame) - 1)
}

fn calls(events: &[Noted], frame: &Frame, measures: &mut Measures) {
    measures.calls_by_second = vec![(0, 0, 0); seconds(frame)];
    for Noted { what, .. } in events {
        let Event::Called { start_us, first, any, .. } = what else { continue };
        measures.calls += 1;
        measures.failed_first += u64::from(!first);
        measures.failed_all += u64::from(!any);
        let second = &mut measures.calls_by_second[second_of(*start_us, frame)];
        *second = (second.0 + 1, second.1 + u32::from(!first), second.2 + u32::from(!any));
    }
}

fn curves(lives: &Lives, held: &Held<'_>, frame: &Frame, measures: &mut Measures) {
    let consumers = f64::from(frame.consumers.max(1));
    let mut at_us = frame.start_us;
    while at_us < frame.end_us {
        let (mut ghosts, mut missing) = (0_usize, 0_usize);
        for consumer in 0..frame.consumers {
            let list = list_at(held, consumer, at_us);
            let holds = |id: &String| list.is_some_and(|list| list.contains(id));
            ghosts += lives.iter().filter(|(id, life)| holds(id) && !life.works(at_us)).count();
            let due = |life: &Life| life.must_be_listed(at_us, frame);
            missing += lives.iter().filter(|(id, life)| due(life) && !holds(id)).count();
        }
        measures.ghosts.push(ghosts as f64 / consumers);
        measures.missing.push(missing as f64 / consumers);
        at_us += CURVE_STEP_US;
    }
    let step = CURVE_STEP_US as f64 / 1e6;
    measures.ghost_provider_seconds = measures.ghosts.iter().sum::<f64>() * step;
    measures.missing_provider_seconds = measures.missing.iter().sum::<f64>() * step;
}

fn list_at<'a>(held: &Held<'a>, consumer: u32, at_us: u64) -> Option<&'a BTreeSet<String>> {
    let lists = held.get(&consumer)?;
    let after = lists.partition_point(|(since, _)| *since <= at_us);
    after.checked_sub(1).map(|at| lists[at].1)
}

fn stale_reads(events: &[Noted], lives: &Lives, frame: &Frame, measures: &mut Measures) {
    let mut staleness = Vec::new();
    for Noted { at_us, what } in events {
        let Event::Listed { consumer: Some(_), start_us, providers, .. } = what else { continue };
        measures.reads += 1;
        let lacks = lives.iter().filter(|(id, life)| {
            let due = |at| life.must_be_listed(at, frame);
            !providers.contains(*id) && due(*start_us) && due(*at_us)
        });
        let lacks = lacks.filter_map(|(_, life)| life.registered_us);
        let left = lives.iter().filter(|(id, _)| providers.contains(*id));
        let left = left.filter_map(|(_, life)| life.left_us).filter(|left| left < start_us);
        if let Some(since) = lacks.chain(left).min() {
            staleness.push((start_us - since.min(*start_us)) as f64 / 1e3);
        }
    }
    measures.staleness_ms = Distribution::of(staleness);
}

fn at_the_end(lives: &Lives, held: &Held<'_>, frame: &Frame, measures: &mut Measures) {
    let lists: Vec<_> =
        (0..frame.consumers).map(|consumer| list_at(held, consumer, frame.end_us)).collect();
    for (id, life) in lives {
        let holds = |list: &Option<&BTreeSet<String>>| list.is_some_and(|list| list.contains(id));
        if life.must_be_listed_at_the_end(frame) && !lists.iter().all(holds) {
            measures.lost.push(id.clone());
        }
        if !life.works(frame.end_us) && lists.iter().any(holds) {
            measures.ghosts_at_end.push(id.clone());
        }
    }
}

fn availability(events: &[Noted], frame: &Frame, measures: &mut Measures) {
    let empty = vec![(0, 0); seconds(frame)];
    let Measures { writes, lists, subscribes, site_writes, site_lists, site_subscribes, .. } =
        measures;
    let kinds = [(writes, site_writes), (lists, site_lists), (subscribes, site_subscribes)];
    let [writes, lists, subscribes] = kinds.map(|(by_node, by_site)| {
        for number in 1..=frame.nodes {
            by_node.insert(number, empty.clone());
            by_site.insert(number, empty.clone());
        }
        (by_node, by_site)
    });
    for Noted { what, .. } in events {
        let Event::Asked { node, site, what, start_us, result, .. } = what else { continue };
        let (by_node, by_site) = match what {
            Asked::List => (&mut *lists.0, &mut *lists.1),
            Asked::Subscribe => (&mut *subscribes.0, &mut *subscribes.1),
            what if what.is_write() => (&mut *writes.0, &mut *writes.1),
            _ => continue,
        };
        for strip in [by_node.get_mut(node), by_site.get_mut(site)].into_iter().flatten() {
            let (answered, all) = &mut strip[second_of(*start_us, frame)];
            *all += 1;
            *answered += u32::from(matches!(result, Answered::Ok | Answered::Refused));
        }
    }
}

/// Returns from when on the observer found the truth at every node until the end.
fn convergence(events: &[Noted], lives: &Lives, frame: &Frame) -> Option<f64> {
    let mut right_since: BTreeMap<u8, Option<u64>> =
        (1..=frame.nodes).map(|node| (node, None)).collect();
    for Noted { at_us, what } in events {
        let Event::Listed { node, consumer: None, start_us, providers } = what else { continue };
        if *start_us < frame.healed_us || *at_us > frame.end_us {
            continue;
        }
        let lacks = lives.iter().any(|(id, life)| {
            let due = |at| life.must_be_listed(at, frame);
            !providers.contains(id) && due(*start_us) && due(*at_us)
        });
        // What stopped a moment ago may still be listed: its timeout runs.
        let ghosts = providers
            .iter()
            .filter_map(|id| lives.get(id))
            .any(|life| life.down.is_some_and(|(down, _)| down + 2 * frame.timeout_us < *start_us));
        if let Some(since) = right_since.get_mut(node) {
            *since = if lacks || ghosts { None } else { since.or(Some(*at_us)) };
        }
    }
    let latest = right_since.values().copied().collect::<Option<Vec<u64>>>()?.into_iter().max()?;
    Some(latest.saturating_sub(frame.healed_us) as f64 / 1e3)
}

fn delays(lives: &Lives, held: &Held<'_>, frame: &Frame, measures: &mut Measures) {
    let (mut notified, mut detected) = (Vec::new(), Vec::new());
    for (id, life) in lives {
        for consumer in 0..frame.consumers {
            let lists = held.get(&consumer).map_or(&[][..], Vec::as_slice);
            if let Some(registered) = life.registered_us.filter(|at| *at < frame.end_us) {
                let got = lists.iter().find(|(_, list)| list.contains(id)).map(|(at, _)| *at);
                match got {
                    Some(at) => notified.push(at.saturating_sub(registered) as f64 / 1e3),
                    None if life.must_be_listed(frame.end_us, frame) => {
                        measures.never_notified += 1;
                    }
                    None => {}
                }
            }
            if list_at(held, consumer, life.down.map_or(0, |(down, _)| down))
                .is_some_and(|list| list.contains(id))
                && let Some((down, End::Crashed)) = life.down
            {
                let later = lists.iter().filter(|(at, _)| *at > down);
                let gone = later.clone().find(|(_, list)| !list.contains(id));
                detected.extend(gone.map(|(at, _)| (at - down) as f64 / 1e3));
            }
        }
    }
    measures.notification_ms = Distribution::of(notified);
    measures.detection_ms = Distribution::of(detected);
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
