//! Instances are asked all the time whether they work, where a policy says so. What is found becomes the cluster's truth only
//! when it changes: after so many probes in a row that speak against what is noted, the leader proposes the other, and every
//! node shows it from that transaction on.
//!
//! The leader alone asks. It decides about silence too; one row of probes per instance needs no agreement among nodes that find
//! different things; and what a probe costs, a connection now and then, it can bear. How long the rows are nobody else knows:
//! the next leader starts from what is noted. A leader that has lost its quorum asks nobody, for it might be the one that
//! nobody can be reached from.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Node;
use super::expirer::{leading_term, propose_as_super};
use super::probing::{Target, add_addresses, ask_all};
use crate::limits::{
    FINDINGS_DROPPED_AT_ONCE_MAX, INSTANCES_PROBED_AT_ONCE_MAX, INSTANCES_PROBED_MAX,
    INSTANCES_SOUGHT_MAX,
};
use crate::policy::{Kind, Mode, Probing, Rounds, Terms};
use crate::probe::{Found, Prober};
use crate::raft::Consensus;
use crate::tree::{Health, Tree};
use crate::types::{Op, ZnodePath, Zxid};

/// Time between two looks at who is to be asked, ms, at least.
const LOOK_INTERVAL_MS_MIN: u64 = 200;
/// So many times as long as a look takes nobody looks again, so that the largest cluster costs a fiftieth of a core.
const LOOK_REST: u64 = 50;

/// How an instance is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asking {
    /// Which registration it is.
    czxid: Zxid,
    targets: Vec<Target>,
    rounds: Rounds,
}

/// What was heard of an instance, and in answer to which question; `None` when nothing was learnt.
type Heard = (ZnodePath, u64, Option<bool>);

/// Who is asked when, and how many probes in a row have spoken against what is noted. Knows no clock: time is ms from any fixed
/// moment.
#[derive(Default)]
struct Plan {
    asked: BTreeMap<ZnodePath, Asked>,
    /// Who is to be asked, and when; those who are being asked are not among them.
    agenda: BTreeSet<(u64, ZnodePath)>,
    /// Counts the questions.
    questions: u64,
}

struct Asked {
    asking: Asking,
    /// When it is asked next, or was asked last.
    at_ms: u64,
    /// The question that is out.
    question: Option<u64>,
    row: u64,
}

impl Plan {
    /// Asks these from now on, and nobody else. Of those that are new each begins at its own moment of its interval, which
    /// follows from its path: they are never all asked at once.
    fn follow(&mut self, wanted: BTreeMap<ZnodePath, Asking>, now_ms: u64) {
        let agenda = &mut self.agenda;
        self.asked.retain(|path, asked| {
            let stays = wanted.get(path) == Some(&asked.asking);
            if !stays {
                agenda.remove(&(asked.at_ms, path.clone()));
            }
            stays
        });
        for (path, asking) in wanted {
            if !self.asked.contains_key(&path) {
                let at_ms = now_ms + phase(&path) % asking.rounds.interval_ms;
                self.agenda.insert((at_ms, path.clone()));
                self.asked.insert(path, Asked { asking, at_ms, question: None, row: 0 });
            }
        }
    }

    /// Returns when somebody is to be asked next.
    fn next_ms(&self) -> Option<u64> {
        self.agenda.first().map(|(at_ms, _)| *at_ms)
    }

    /// Returns one who is to be asked by now, with the number of the question.
    fn due(&mut self, now_ms: u64) -> Option<(ZnodePath, u64, Vec<Target>)> {
        self.agenda.first().filter(|(at_ms, _)| *at_ms <= now_ms)?;
        let (_, path) = self.agenda.pop_first()?;
        let asked = self.asked.get_mut(&path)?;
        self.questions += 1;
        asked.question = Some(self.questions);
        Some((path, self.questions, asked.asking.targets.clone()))
    }

    /// Takes up what was heard of an instance of which `noted` says, by its registration, whether it is noted to work. Returns
    /// what has to be noted now. An answer to any but the latest question counts for nothing.
    fn hear(
        &mut self,
        (path, question, works): Heard,
        noted: impl Fn(&ZnodePath, Zxid) -> bool,
        now_ms: u64,
    ) -> Option<(ZnodePath, Zxid, bool)> {
        let asked = self.asked.get_mut(&path).filter(|it| it.question == Some(question))?;
        let Rounds { interval_ms, rise, fall } = asked.asking.rounds;
        asked.question = None;
        asked.at_ms = (asked.at_ms + interval_ms).max(now_ms);
        self.agenda.insert((asked.at_ms, path.clone()));
        let works = works?;
        if works == noted(&path, asked.asking.czxid) {
            asked.row = 0;
            return None;
        }
        asked.row += 1;
        // What was proposed before and has been lost is proposed again.
        let is_enough = asked.row >= if works { rise } else { fall };
        is_enough.then_some((path, asked.asking.czxid, works))
    }
}

fn phase(path: &ZnodePath) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.as_str().hash(&mut hasher);
    hasher.finish()
}

/// Returns whom the policies want to be asked all the time, and whether that is all of them: nobody without a prober. Cost:
/// O(znodes below the patterns of such policies), bounded.
fn wanted(tree: &Tree, prober: Option<&dyn Prober>) -> (BTreeMap<ZnodePath, Asking>, bool) {
    let mut wanted = BTreeMap::new();
    let Some(prober) = prober else { return (wanted, true) };
    let mut sought = 0;
    for (_, (_, policy)) in tree.policies().iter() {
        if policy.mode != Mode::Enforce
            || !matches!(&policy.terms, Terms::Probe(Probing { rounds: Some(_), .. }))
        {
            continue;
        }
        for (path, znode) in tree.descendants(policy.pattern.prefix()) {
            sought += 1;
            if sought > INSTANCES_SOUGHT_MAX || wanted.len() >= INSTANCES_PROBED_MAX {
                return (wanted, false);
            }
            let Some(list) = path.parent_str().filter(|it| policy.pattern.matches(it)) else {
                continue;
            };
            let Some(claimed) =
                tree.layouts().claim(path.as_str(), znode.data().map(|data| &data[..]))
            else {
                continue;
            };
            // Of several policies the one counts that prevails, whether it is this one or says to ask nobody.
            let Some((probing, rounds)) = prevailing(tree, list) else { continue };
            let mut targets = Vec::new();
            add_addresses(&mut targets, &claimed, probing, prober);
            if !targets.is_empty() {
                let czxid = znode.stat().czxid;
                wanted.insert(path.clone(), Asking { czxid, targets, rounds });
            }
        }
    }
    (wanted, true)
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
}

impl Leading {
    /// Looks who is to be asked, and takes back what is noted against those whom nobody asks any more.
    fn look(&mut self, node: &Node, prober: Option<&dyn Prober>, now_ms: u64) {
        let root = node.inner.stage.root();
        if self.seen == Some(root.zxid()) {
            return;
        }
        self.seen = Some(root.zxid());
        let (wanted, is_whole) = wanted(&root, prober);
        if is_whole {
            let dropped = root.unhealthy().filter(|(path, _)| !wanted.contains_key(path));
            for (path, czxid) in dropped.take(FINDINGS_DROPPED_AT_ONCE_MAX) {
                self.note(node, path, czxid, true);
            }
        } else {
            tracing::warn!(asked = wanted.len(), "too many instances to ask all the time");
        }
        self.plan.follow(wanted, now_ms);
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

/// Asks until the node stops, while it leads and a quorum has acknowledged it within this time, ms. One that may ask nobody, for
/// it has no prober, takes back what leaders that may have noted.
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
    loop {
        let now_ms = clock.now_ms();
        let is_heard = consensus.quorum_ack_age_ms().is_some_and(|it| it <= quorum_ack_age_ms_max);
        let term = leading_term(&node, *leadership.borrow()).filter(|_| is_heard);
        if term != leading.as_ref().map(|it| it.term) {
            // What another leadership asked is of no interest any more: it ends here.
            probes = JoinSet::new();
            let plan = Plan::default();
            leading = term.map(|term| Leading { term, plan, seen: None, look_at_ms: now_ms });
        }
        let mut next_ms = now_ms + LOOK_INTERVAL_MS_MIN;
        if let Some(leading) = &mut leading {
            if leading.look_at_ms <= now_ms {
                let begun_us = clock.now_micros();
                leading.look(&node, prober.as_deref(), now_ms);
                let rest_ms = LOOK_REST * clock.now_micros().saturating_sub(begun_us) / 1_000;
                leading.look_at_ms = now_ms + rest_ms.max(LOOK_INTERVAL_MS_MIN);
            }
            while probes.len() < INSTANCES_PROBED_AT_ONCE_MAX
                && let Some(prober) = prober.clone()
                && let Some((path, question, targets)) = leading.plan.due(now_ms)
            {
                probes.spawn(async move {
                    let found = ask_all(prober.as_ref(), targets).await;
                    (path, question, found.map(|found| found.contains(&Found::Answers)))
                });
            }
            next_ms = leading.look_at_ms;
            if probes.len() < INSTANCES_PROBED_AT_ONCE_MAX {
                next_ms = next_ms.min(leading.plan.next_ms().unwrap_or(next_ms));
            }
        }
        let pause = Duration::from_millis(next_ms.saturating_sub(now_ms));
        tokio::select! {
            () = stop.cancelled() => return,
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
mod tests {
    use super::*;

    fn path(text: &str) -> ZnodePath {
        ZnodePath::parse(text).unwrap()
    }

    fn asking(czxid: u64) -> Asking {
        let rounds = Rounds { interval_ms: 1_000, rise: 2, fall: 3 };
        Asking { czxid: Zxid(czxid), targets: Vec::new(), rounds }
    }

    /// Asks everybody who is due, hears the same of each, and returns what has to be noted.
    fn round(
        plan: &mut Plan,
        now_ms: u64,
        works: Option<bool>,
        is_noted_to_work: bool,
    ) -> Vec<(ZnodePath, Zxid, bool)> {
        let due: Vec<_> = std::iter::from_fn(|| plan.due(now_ms)).collect();
        let heard = due.into_iter().map(|(path, question, _)| (path, question, works));
        heard.filter_map(|it| plan.hear(it, |_, _| is_noted_to_work, now_ms)).collect()
    }

    #[test]
    fn only_a_whole_row_of_probes_that_speak_against_what_is_noted_counts() {
        let mut plan = Plan::default();
        plan.follow(BTreeMap::from([(path("/a"), asking(7))]), 0);
        let down = vec![(path("/a"), Zxid(7), false)];
        let mut now_ms = 0;
        let mut hear = |works, is_noted_to_work, expected: &[(ZnodePath, Zxid, bool)]| {
            now_ms += 1_000;
            assert_eq!(round(&mut plan, now_ms, works, is_noted_to_work), expected);
        };
        for works in [Some(true), Some(false), Some(false), Some(true), Some(false), Some(false)] {
            hear(works, true, &[]);
        }
        // Nothing was learnt: that neither counts nor breaks the row.
        hear(None, true, &[]);
        hear(Some(false), true, &down);
        hear(Some(false), true, &down);
        for works in [Some(false), Some(true), Some(false), Some(true)] {
            hear(works, false, &[]);
        }
        hear(Some(true), false, &[(path("/a"), Zxid(7), true)]);
        hear(Some(true), true, &[]);
    }

    #[test]
    fn a_thousand_new_instances_are_asked_over_an_interval_and_each_once_in_each() {
        let mut plan = Plan::default();
        let all = |count| (0..count).map(|n| (path(&format!("/s/i{n}")), asking(1))).collect();
        plan.follow(all(1_000), 5_000);
        let mut counts = Vec::new();
        for now_ms in (5_000..7_000).step_by(100) {
            let due: Vec<_> = std::iter::from_fn(|| plan.due(now_ms + 99)).collect();
            counts.push(due.len());
            for (path, question, _) in due {
                plan.hear((path, question, Some(true)), |_, _| true, now_ms + 99);
            }
        }
        assert!(counts.iter().all(|count| (50..200).contains(count)), "{counts:?}");
        assert_eq!(counts.iter().sum::<usize>(), 2_000);
        // Who is still wanted keeps its moment.
        let before = plan.agenda.clone();
        plan.follow(all(1_000), 7_000);
        assert_eq!(plan.agenda, before);
        plan.follow(all(10), 7_000);
        assert_eq!((plan.agenda.len(), plan.asked.len()), (10, 10));
    }

    #[test]
    fn an_answer_about_another_registration_or_of_long_ago_counts_for_nothing() {
        let mut plan = Plan::default();
        let one = |czxid| BTreeMap::from([(path("/a"), asking(czxid))]);
        plan.follow(one(7), 0);
        assert!(round(&mut plan, 1_000, Some(false), true).is_empty());
        assert!(round(&mut plan, 2_000, Some(false), true).is_empty());
        let (at, question, _) = plan.due(3_000).unwrap();
        assert_eq!((plan.next_ms(), plan.due(9_000)), (None, None), "it is asked once at a time");
        // It comes anew while the third answer is on its way.
        plan.follow(one(8), 3_000);
        assert_eq!(plan.hear((at, question, Some(false)), |_, _| true, 3_000), None);
        for now_ms in [4_000, 5_000] {
            assert!(round(&mut plan, now_ms, Some(false), true).is_empty());
        }
        let noted = round(&mut plan, 6_000, Some(false), true);
        assert_eq!(noted, [(path("/a"), Zxid(8), false)]);
    }
}
