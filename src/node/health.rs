//! Instances are asked all the time whether they work, where a policy says so. What is found becomes the cluster's truth only
//! when it changes: after so many probes in a row that speak against what is noted, the leader proposes the other, and every
//! node shows it from that transaction on.
//!
//! The leader alone asks. It decides about silence too; one row of probes per instance needs no agreement among nodes that find
//! different things; and what a probe costs, a connection now and then, it can bear. How long the rows are nobody else knows:
//! the next leader starts from what is noted. A leader that has lost its quorum asks nobody, for it might be the one that
//! nobody can be reached from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Node;
use super::expirer::{leading_term, propose_as_super};
use super::probing::{add_addresses, ask_all};
use super::rounds::{Asking, Heard, Plan};
use crate::blocking;
use crate::clock::Clock;
use crate::limits::{
    FINDINGS_DROPPED_AT_ONCE_MAX, INSTANCES_PROBED_AT_ONCE_MAX, INSTANCES_PROBED_MAX,
    INSTANCES_SOUGHT_MAX,
};
use crate::policy::{Kind, Mode, Policy, Probing, Rounds, Terms, tops};
use crate::probe::{Found, Prober};
use crate::raft::Consensus;
use crate::tree::{Health, Tree};
use crate::types::{Op, ZnodePath, Zxid};

/// Time between two looks at who is to be asked, ms, at least.
const LOOK_INTERVAL_MS_MIN: u64 = 200;
/// So many times as long as a look takes nobody looks again, so that the largest cluster costs a fiftieth of a core.
const LOOK_REST: u64 = 50;

/// What one look at the state has found.
#[derive(Debug, PartialEq, Eq)]
struct Sight {
    /// Who is asked from now on.
    wanted: BTreeMap<ZnodePath, Asking>,
    /// Whether that is everybody whom the policies want to be asked.
    is_whole: bool,
    /// Those whom nobody asks any more, although it is noted that they do not work; with their registrations.
    dropped: Vec<(ZnodePath, Zxid)>,
}

impl Sight {
    /// Nobody is asked without a prober. Cost: O(znodes below the patterns of such policies), of which it walks at most
    /// `sought_max`, to find `probed_max` instances.
    fn of(
        tree: &Tree,
        prober: Option<&dyn Prober>,
        (sought_max, probed_max): (usize, usize),
    ) -> Sight {
        let mut wanted = BTreeMap::new();
        let found = prober.map(|prober| instances(tree, prober));
        let mut found = found.into_iter().flatten();
        let mut is_whole = true;
        for instance in found.by_ref().take(sought_max) {
            let Some((path, asking)) = instance else { continue };
            if wanted.len() >= probed_max {
                is_whole = false;
                break;
            }
            wanted.insert(path, asking);
        }
        is_whole &= found.next().is_none();
        let dropped = tree.unhealthy().filter(|(path, _)| !wanted.contains_key(path));
        let dropped = dropped.take(FINDINGS_DROPPED_AT_ONCE_MAX).collect();
        Sight { wanted, is_whole, dropped }
    }
}

/// Yields, for each znode that a policy might mean, whether it is an instance that is to be asked all the time, and how. Lazy.
fn instances<'a>(
    tree: &'a Tree,
    prober: &'a dyn Prober,
) -> impl Iterator<Item = Option<(ZnodePath, Asking)>> + 'a {
    // Of several policies the one counts that prevails, whether it is the one that has led here or says to ask nobody.
    let mut last: Option<(&str, Option<(&Probing, Rounds)>)> = None;
    let mut governing = move |list: &'a str| match last {
        Some((known, found)) if known == list => found,
        _ => last.insert((list, prevailing(tree, list))).1,
    };
    places(tree).into_iter().flat_map(|top| tree.descendants(top)).map(move |(path, znode)| {
        let (probing, rounds) = governing(path.parent_str()?)?;
        let claimed = tree.layouts().claim(path.as_str(), znode.data().map(|data| &data[..]))?;
        let mut targets = Vec::new();
        add_addresses(&mut targets, &claimed, probing, prober);
        let asking = Asking { czxid: znode.stat().czxid, targets, rounds };
        (!asking.targets.is_empty()).then(|| (path.clone(), asking))
    })
}

/// Returns where to look for whom policies want to be asked all the time.
fn places(tree: &Tree) -> Vec<&str> {
    let asks = |policy: &Policy| {
        policy.mode == Mode::Enforce
            && matches!(&policy.terms, Terms::Probe(Probing { rounds: Some(_), .. }))
    };
    let policies = tree.policies().iter().map(|(_, (_, policy))| policy);
    tops(policies.filter(|policy| asks(policy)).map(|policy| &policy.pattern))
}

fn prevailing<'a>(tree: &'a Tree, list: &'a str) -> Option<(&'a Probing, Rounds)> {
    match tree.policies().prevailing(Kind::Probe, list)?.1 {
        policy if policy.mode != Mode::Enforce => None,
        policy => match &policy.terms {
            Terms::Probe(probing) => Some((probing, probing.rounds?)),
            _ => None,
        },
    }
}

/// What the leader of a term knows of those whom it asks.
struct Leading {
    term: u64,
    plan: Plan,
    /// The state at the last look, and when the next is.
    seen: Option<Zxid>,
    look_at_ms: u64,
    /// Whether the last look has found everybody.
    is_whole: bool,
}

impl Leading {
    fn new(term: u64, now_ms: u64) -> Leading {
        Leading { term, plan: Plan::default(), seen: None, look_at_ms: now_ms, is_whole: true }
    }

    /// Asks from now on whom a look has found, and takes back what is noted against those whom nobody asks any more.
    fn follow(&mut self, node: &Node, sight: Sight, now_ms: u64) {
        if !sight.dropped.is_empty() {
            // There may be more, and what is proposed may be refused.
            self.seen = None;
        }
        for (path, czxid) in sight.dropped {
            self.note(node, path, czxid, true);
        }
        if self.is_whole && !sight.is_whole {
            tracing::warn!(asked = sight.wanted.len(), "too many instances to ask all the time");
        } else if !self.is_whole && sight.is_whole {
            tracing::info!(asked = sight.wanted.len(), "all instances are asked again");
        }
        self.is_whole = sight.is_whole;
        self.plan.follow(sight.wanted, now_ms);
    }

    fn hear(&mut self, node: &Node, heard: Heard, now_ms: u64) {
        let root = node.inner.stage.root();
        let noted = |path: &ZnodePath, czxid| root.health(path, czxid).0 != Health::Unhealthy;
        if let Some((path, czxid, works)) = self.plan.hear(heard, noted, now_ms) {
            tracing::info!(instance = %path, works, "the probes of an instance say something else");
            self.note(node, path, czxid, works);
        }
    }

    fn note(&self, node: &Node, path: ZnodePath, czxid: Zxid, works: bool) {
        propose_as_super(node, Op::SetHealth { path, czxid, works, term: self.term });
    }
}

/// Returns whether an instance works of whose addresses this was found; `None` when that was not learnt.
fn works(found: &[Found]) -> Option<bool> {
    let answers = found.contains(&Found::Answers);
    (answers || !found.contains(&Found::Unasked)).then_some(answers)
}

fn look(
    looks: &mut JoinSet<Looked>,
    root: Arc<Tree>,
    prober: Option<Arc<dyn Prober>>,
    clock: Clock,
) {
    let looking = blocking::run(move || {
        let begun_us = clock.now_micros();
        let bounds = (INSTANCES_SOUGHT_MAX, INSTANCES_PROBED_MAX);
        let sight = Sight::of(&root, prober.as_deref(), bounds);
        (sight, clock.now_micros().saturating_sub(begun_us))
    });
    looks.spawn(async { looking.await.ok() });
}

/// What a look has found, and how long it took, µs; `None` if it came to no end.
type Looked = Option<(Sight, u64)>;

/// Asks until the node stops, while it leads and a quorum has acknowledged it within this time, ms. One that may ask nobody, for
/// it has no prober, takes back what leaders that may have noted.
///
/// A look at a large cluster takes a while, so it has a thread of its own; there is one at a time.
pub(super) async fn run(
    node: Node,
    prober: Option<Arc<dyn Prober>>,
    consensus: Consensus,
    quorum_ack_age_ms_max: u64,
    stop: CancellationToken,
) {
    let leadership = consensus.leadership();
    let clock = node.inner.stage.clock.clone();
    let mut leading: Option<Leading> = None;
    let mut probes: JoinSet<Heard> = JoinSet::new();
    let mut looks: JoinSet<Looked> = JoinSet::new();
    loop {
        let now_ms = clock.now_ms();
        let is_heard = consensus.quorum_ack_age_ms().is_some_and(|it| it <= quorum_ack_age_ms_max);
        let term = leading_term(&node, *leadership.borrow()).filter(|_| is_heard);
        if term != leading.as_ref().map(|it| it.term) {
            // What another leadership asked is of no interest any more: it ends here.
            (probes, looks) = (JoinSet::new(), JoinSet::new());
            leading = term.map(|term| Leading::new(term, now_ms));
        }
        let mut next_ms = now_ms + LOOK_INTERVAL_MS_MIN;
        if let Some(leading) = &mut leading {
            if leading.look_at_ms <= now_ms && looks.is_empty() {
                leading.look_at_ms = now_ms + LOOK_INTERVAL_MS_MIN;
                let root = node.inner.stage.root();
                if leading.seen.replace(root.zxid()) != Some(root.zxid()) {
                    look(&mut looks, root, prober.clone(), clock.clone());
                }
            }
            while probes.len() < INSTANCES_PROBED_AT_ONCE_MAX
                && let Some(prober) = prober.clone()
                && let Some((path, question, targets)) = leading.plan.due(now_ms)
            {
                probes.spawn(async move {
                    let found = ask_all(prober.as_ref(), targets).await;
                    (path, question, found.and_then(|found| works(&found)))
                });
            }
            if looks.is_empty() {
                next_ms = next_ms.min(leading.look_at_ms);
            }
            if probes.len() < INSTANCES_PROBED_AT_ONCE_MAX {
                next_ms = next_ms.min(leading.plan.next_ms().unwrap_or(next_ms));
            }
        }
        let pause = Duration::from_millis(next_ms.saturating_sub(now_ms));
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some(Ok(Some((sight, took_us)))) = looks.join_next() => {
                if let Some(leading) = &mut leading {
                    let now_ms = clock.now_ms();
                    let rest_ms = LOOK_REST * took_us / 1_000;
                    leading.look_at_ms = now_ms + rest_ms.max(LOOK_INTERVAL_MS_MIN);
                    leading.follow(&node, sight, now_ms);
                }
            }
            Some(Ok(heard)) = probes.join_next() => {
                if let Some(leading) = &mut leading {
                    leading.hear(&node, heard, clock.now_ms());
                }
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
}

#[cfg(test)]
#[path = "health_test.rs"]
mod health_test;
