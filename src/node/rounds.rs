//! Who is asked when, of those who are asked all the time, and how many probes in a row have spoken against what is noted. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::probing::Target;
use crate::policy::Rounds;
use crate::types::{ZnodePath, Zxid};

/// How an instance is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asking {
    /// Which registration it is.
    pub(super) czxid: Zxid,
    pub(super) targets: Vec<Target>,
    pub(super) rounds: Rounds,
}

/// What was heard of an instance, and in answer to which question; `None` when nothing was learnt.
pub(super) type Heard = (ZnodePath, u64, Option<bool>);

/// Who is asked when, and how many probes in a row have spoken against what is noted. Knows no clock: time is ms from any fixed
/// moment.
#[derive(Default)]
pub(super) struct Plan {
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
    pub(super) fn follow(&mut self, wanted: BTreeMap<ZnodePath, Asking>, now_ms: u64) {
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
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.agenda.first().map(|(at_ms, _)| *at_ms)
    }

    /// Returns one who is to be asked by now, with the number of the question.
    pub(super) fn due(&mut self, now_ms: u64) -> Option<(ZnodePath, u64, Vec<Target>)> {
        self.agenda.first().filter(|(at_ms, _)| *at_ms <= now_ms)?;
        let (_, path) = self.agenda.pop_first()?;
        let asked = self.asked.get_mut(&path)?;
        self.questions += 1;
        asked.question = Some(self.questions);
        Some((path, self.questions, asked.asking.targets.clone()))
    }

    /// Takes up what was heard of an instance of which `noted` says, by its registration, whether it is noted to work. Returns
    /// what has to be noted now. An answer to any but the latest question counts for nothing.
    pub(super) fn hear(
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
        if asked.row < if works { rise } else { fall } {
            return None;
        }
        // Should it be lost, or not be possible to note, another whole row says it again.
        asked.row = 0;
        Some((path, asked.asking.czxid, works))
    }
}

fn phase(path: &ZnodePath) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.as_str().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::testing::path;

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
        // It was not noted: another row says it again.
        hear(Some(false), true, &[]);
        hear(Some(false), true, &[]);
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
