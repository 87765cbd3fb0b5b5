//! How a fault is seen to have acted.

use tokio::task::JoinHandle;

use super::clock::ask;
use super::rig::Rig;
use crate::clock::Clock;
use crate::net::Tally;
use crate::schedule::{End, Fault, Network};
use crate::target::Cluster;

/// Links on which chance was to act on fewer segments need not have shown it.
const STROKES_EXPECTED_MIN: u64 = 5;

/// What was found out at the beginning of a fault, to be compared with its end.
#[derive(Debug)]
pub(super) enum Evidence {
    /// It is known already.
    Known(bool),
    /// Links that are cut: how much they had held up before, and a request over one of them that must get no answer.
    /// In namespaces also a connection from one node to another, which must not come about.
    Cut {
        links: Vec<(End, End)>,
        held: u64,
        probe: Option<JoinHandle<Option<String>>>,
        dial: Option<JoinHandle<bool>>,
    },
    /// A link that is slow: how long a request over it took, ms, which must not be less than this. On a switch also a
    /// connection from one node to another: none may have come about within that time.
    Slow { probe: JoinHandle<u64>, ms_min: u64, dial: Option<JoinHandle<u64>> },
    /// Links on which chance acts: segments on which it did and on which it might have, before.
    Chance { links: Vec<(End, End)>, strokes: fn(Tally) -> u64, before: (u64, u64), percent: u64 },
    /// The node will have looked at the clock that it was given.
    Clock(u8),
    /// Strace will have written it down.
    Traced(u8),
    /// A command to the cluster.
    Command(JoinHandle<()>),
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The fault acted.
    Seen,
    /// It was not seen to act.
    Unseen,
    /// It cannot have acted as it should.
    Broken(String),
}

impl Evidence {
    /// Begins to observe a resolved fault of links, which is in force by now.
    pub(super) fn of_links(fault: &Fault, cluster: &Cluster, rig: &Rig) -> Evidence {
        let network = Network::under([fault], cluster.nodes());
        let ill: Vec<_> = network.ill().collect();
        let links: Vec<_> = ill.iter().map(|(from, to, _)| (*from, *to)).collect();
        let doors = ill.iter().filter_map(|(from, to, link)| match (from, to) {
            (End::Site(site), End::Node(node)) => Some((cluster.door(*site, *node), *link)),
            _ => None,
        });
        let door = doors.into_iter().next();
        let between = ill.iter().find_map(|(from, to, _)| match (from, to) {
            (End::Node(from), End::Node(to)) => Some((*from, cluster.place(*to).ok()?)),
            _ => None,
        });
        let dial = between.and_then(|(from, to)| rig.dial(from, &to.host, to.peer));
        let chance = |percent: &u8, strokes: fn(Tally) -> u64| {
            let before = strokes_on(&links, strokes, cluster);
            let (links, percent) = (links.clone(), u64::from(*percent));
            Evidence::Chance { links, strokes, before, percent }
        };
        match fault {
            Fault::Delay { ms, .. } => {
                let addr = door.map(|(addr, _)| addr).unwrap_or_default();
                let probe = tokio::spawn(async move {
                    let clock = Clock::start();
                    let answer = ask(&addr).await;
                    answer.map_or(0, |_| clock.now_ms())
                });
                let dial = dial.filter(|_| rig.has_switch()).map(|mut dial| {
                    tokio::task::spawn_blocking(move || {
                        let clock = Clock::start();
                        let is_there = dial.status().is_ok_and(|end| end.success());
                        if is_there { clock.now_ms() } else { 0 }
                    })
                });
                Evidence::Slow { probe, ms_min: *ms, dial }
            }
            Fault::Loss { percent, .. } => chance(percent, |tally| tally.lost),
            Fault::Slow { .. } => chance(&100, |tally| tally.queued),
            Fault::Duplicate { percent, .. } => chance(percent, |tally| tally.doubled),
            Fault::Reorder { percent, .. } => chance(percent, |tally| tally.overtaken),
            _ => {
                let held = held(&links, cluster);
                let probe = door.map(|(addr, _)| tokio::spawn(async move { ask(&addr).await }));
                let dial = dial.map(|mut dial| {
                    tokio::task::spawn_blocking(move || {
                        dial.status().is_ok_and(|end| end.success())
                    })
                });
                Evidence::Cut { links, held, probe, dial }
            }
        }
    }

    /// Judges while the fault is still in force.
    pub(super) async fn judge(self, fault: &Fault, cluster: &Cluster, rig: &mut Rig) -> Finding {
        let seen = match self {
            Evidence::Known(seen) => seen,
            Evidence::Cut { links, held: before, probe, dial } => {
                if let Some(probe) = probe
                    && probe.is_finished()
                    && let Ok(Some(answer)) = probe.await
                    && !answer.is_empty()
                {
                    return Finding::Broken(format!("`{fault}` let an answer pass: {answer:?}"));
                }
                // One that still waits has not come about.
                match dial {
                    Some(dial) => {
                        if dial.is_finished() && matches!(dial.await, Ok(true)) {
                            return Finding::Broken(format!("`{fault}` let a connection pass"));
                        }
                        true
                    }
                    None => held(&links, cluster) > before,
                }
            }
            Evidence::Slow { probe, ms_min, dial } => {
                let mut is_late = false;
                for probe in [Some(probe), dial].into_iter().flatten() {
                    // What still waits proves nothing, nor does what failed.
                    let took = if probe.is_finished() { probe.await.unwrap_or(0) } else { 0 };
                    if (1..ms_min).contains(&took) {
                        return Finding::Broken(format!("`{fault}`: an answer took {took} ms"));
                    }
                    is_late |= took >= ms_min && took > 0;
                }
                is_late
            }
            Evidence::Chance { links, strokes, before, percent } => {
                let (struck, exposed) = strokes_on(&links, strokes, cluster);
                let expected = (exposed - before.1) * percent / 100;
                struck > before.0 || expected < STROKES_EXPECTED_MIN
            }
            Evidence::Clock(node) => rig.has_read_clock(node),
            Evidence::Traced(node) => rig.has_traced(node),
            Evidence::Command(task) => {
                let is_done = task.is_finished();
                task.abort();
                is_done
            }
        };
        if seen { Finding::Seen } else { Finding::Unseen }
    }
}

fn held(links: &[(End, End)], cluster: &Cluster) -> u64 {
    links.iter().map(|(from, to)| cluster.links().tally(*from, *to).held).sum()
}

/// On how many segments chance has acted so, and on how many it might have.
fn strokes_on(links: &[(End, End)], of: fn(Tally) -> u64, cluster: &Cluster) -> (u64, u64) {
    let tallies = links.iter().map(|(from, to)| cluster.links().tally(*from, *to));
    tallies.fold((0, 0), |(struck, all), tally| (struck + of(tally), all + tally.exposed))
}
