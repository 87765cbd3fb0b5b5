//! How a fault is seen to have acted.

use tokio::task::JoinHandle;

use super::clock::ask;
use super::rig::Rig;
use crate::clock::Clock;
use crate::schedule::{End, Fault, Network};
use crate::target::Cluster;

/// A lossy link on which fewer segments were to be lost need not have lost one.
const LOSSES_EXPECTED_MIN: u64 = 5;

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
    /// A link that is slow: how long a request over it took, ms, which must not be less than this.
    Slow { probe: JoinHandle<u64>, ms_min: u64 },
    /// Links that are lossy: segments that were lost and that might have been, before.
    Lossy { links: Vec<(End, End)>, lost: u64, exposed: u64, percent: u64 },
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
                let between = links.iter().find_map(|ends| match ends {
                    (End::Node(from), End::Node(to)) => Some((*from, cluster.place(*to).ok()?)),
                    _ => None,
                });
                let dial = between.and_then(|(from, to)| rig.dial(from, &to.host, to.peer));
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

fn losses(links: &[(End, End)], cluster: &Cluster) -> (u64, u64) {
    let tallies = links.iter().map(|(from, to)| cluster.links().tally(*from, *to));
    tallies.fold((0, 0), |(lost, exposed), tally| (lost + tally.lost, exposed + tally.exposed))
}
