//! How a fault is seen to have acted.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::clock::{ahead_s, ask};
use super::rig::Rig;
use crate::clock::Clock;
use crate::schedule::{End, Fault, Network};
use crate::target::Cluster;

/// A jump is recognised when it is that much longer than what rounding and waiting make, s.
const CLOCK_TOLERANCE_S: i64 = 2;
/// A lossy link on which fewer segments were to be lost need not have lost one.
const LOSSES_EXPECTED_MIN: u64 = 5;

/// What was found out at the beginning of a fault, to be compared with its end.
#[derive(Debug)]
pub(super) enum Evidence {
    /// It is known already.
    Known(bool),
    /// Links that are cut: how much they had held up before, and a request over one of them that must get no answer.
    Cut { links: Vec<(End, End)>, held: u64, probe: Option<JoinHandle<Option<String>>> },
    /// A link that is slow: how long a request over it took, ms, which must not be less than this.
    Slow { probe: JoinHandle<u64>, ms_min: u64 },
    /// Links that are lossy: segments that were lost and that might have been, before.
    Lossy { links: Vec<(End, End)>, lost: u64, exposed: u64, percent: u64 },
    /// How far the node's clock was ahead, s.
    Clock { node: u8, ahead_s: Option<i64> },
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
    pub(super) fn of_links(fault: &Fault, cluster: &Cluster) -> Evidence {
        let network = Network::under([fault], cluster.nodes());
        let ill: Vec<_> = network.ill().collect();
        let ends = || ill.iter().map(|(from, to, _)| (*from, *to)).collect::<Vec<_>>();
        let doors = ill.iter().filter_map(|(from, to, link)| match (from, to) {
            (End::Site(site), End::Node(node)) => Some((cluster.door(*site, *node), *link)),
            _ => None,
        });
        let door = doors.into_iter().next();
        match fault {
            Fault::Delay { ms, .. } => {
                let addr = door.map(|(addr, _)| addr).unwrap_or_default();
                let probe = tokio::spawn(async move {
                    let clock = Clock::start();
                    let answer = ask(&addr).await;
                    answer.map_or(0, |_| clock.now_ms())
                });
                Evidence::Slow { probe, ms_min: *ms }
            }
            Fault::Loss { percent, .. } => {
                let links = ends();
                let (lost, exposed) = losses(&links, cluster);
                Evidence::Lossy { links, lost, exposed, percent: u64::from(*percent) }
            }
            _ => {
                let links = ends();
                let held = held(&links, cluster);
                let probe = door.map(|(addr, _)| tokio::spawn(async move { ask(&addr).await }));
                Evidence::Cut { links, held, probe }
            }
        }
    }

    /// Begins to observe a resolved fault of a clock, which is not in force yet.
    pub(super) async fn of_clock(node: u8, cluster: &Cluster) -> Evidence {
        Evidence::Clock { node, ahead_s: clock_of(node, cluster).await }
    }

    /// Judges while the fault is still in force, after it was so for this long.
    pub(super) async fn judge(
        self,
        fault: &Fault,
        lasted: Duration,
        cluster: &Cluster,
        rig: &Rig,
    ) -> Finding {
        let seen = match self {
            Evidence::Known(seen) => seen,
            Evidence::Cut { links, held: before, probe } => {
                if let Some(probe) = probe
                    && probe.is_finished()
                    && let Ok(Some(answer)) = probe.await
                    && !answer.is_empty()
                {
                    return Finding::Broken(format!("`{fault}` let an answer pass: {answer:?}"));
                }
                held(&links, cluster) > before
            }
            Evidence::Slow { probe, ms_min } => {
                if !probe.is_finished() {
                    return Finding::Unseen;
                }
                match probe.await {
                    Ok(took @ 1..) if took < ms_min => {
                        return Finding::Broken(format!("`{fault}`: an answer took {took} ms"));
                    }
                    Ok(took) => took >= ms_min,
                    Err(_) => false,
                }
            }
            Evidence::Lossy { links, lost: lost_before, exposed: exposed_before, percent } => {
                let (lost, exposed) = losses(&links, cluster);
                let expected = (exposed - exposed_before) * percent / 100;
                lost > lost_before || expected < LOSSES_EXPECTED_MIN
            }
            Evidence::Clock { node, ahead_s: before } => {
                let now = clock_of(node, cluster).await;
                let drift = match fault {
                    Fault::Clock { ms, .. } => ms / 1_000,
                    Fault::Rate { percent, .. } => {
                        let lasted_s = i64::try_from(lasted.as_secs()).unwrap_or(0);
                        lasted_s * (i64::from(*percent) - 100) / 100
                    }
                    _ => 0,
                };
                // Less cannot be told from rounding.
                let is_small = drift.abs() <= CLOCK_TOLERANCE_S;
                let moved = before.zip(now).map(|(before, now)| now - before);
                is_small || moved.is_some_and(|moved| (moved - drift).abs() <= CLOCK_TOLERANCE_S)
            }
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

async fn clock_of(node: u8, cluster: &Cluster) -> Option<i64> {
    let place = cluster.place(node).ok()?;
    ahead_s(&format!("127.0.0.1:{}", place.http)).await
}

fn held(links: &[(End, End)], cluster: &Cluster) -> u64 {
    links.iter().map(|(from, to)| cluster.links().tally(*from, *to).held).sum()
}

fn losses(links: &[(End, End)], cluster: &Cluster) -> (u64, u64) {
    let tallies = links.iter().map(|(from, to)| cluster.links().tally(*from, *to));
    tallies.fold((0, 0), |(lost, exposed), tally| (lost + tally.lost, exposed + tally.exposed))
}
