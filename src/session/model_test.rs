//! Random histories of a leader against what is true of each session.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Decision, ExpiryGate, ExpiryQueue, Observation};
use crate::types::SessionId;

const TICK_MS: u64 = 100;
const GAP_MS: u64 = 250;
const ACK_AGE_MS: u64 = 300;
const RETRY_MS: u64 = 700;

/// What happens to a leader's expiry.
#[derive(Clone, Debug)]
enum Step {
    /// A session is opened, with this timeout.
    Open(u64, u32),
    /// A session is reported.
    Hear(u64),
    /// A session's connection has ended, and it has this much time left.
    Hasten(u64, u32),
    /// A session's `CloseSession` is applied, if it was proposed.
    Close(u64),
    /// Time passes, less than a pause.
    Tick(u64),
    /// The process stands still for longer than the gate allows.
    Pause(u64),
    /// Another term begins under the same leader's feet.
    NewTerm,
    /// The leadership is lost for one tick.
    Resign,
    /// The quorum goes silent or comes back.
    Quorum(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let session = 1..6u64;
    prop_oneof![
        3 => (session.clone(), 100..2_000u32).prop_map(|(s, t)| Step::Open(s, t)),
        6 => session.clone().prop_map(Step::Hear),
        1 => (session.clone(), 1..1_000u32).prop_map(|(s, grace)| Step::Hasten(s, grace)),
        2 => session.prop_map(Step::Close),
        16 => (1..GAP_MS + 1).prop_map(Step::Tick),
        1 => (GAP_MS + 1..3_000).prop_map(Step::Pause),
        1 => Just(Step::NewTerm),
        1 => Just(Step::Resign),
        1 => any::<bool>().prop_map(Step::Quorum),
    ]
}

/// What is true of a session: when its silence began to count, for how long it may last, and when it was
/// named since deadlines last began anew.
struct Truth {
    timeout_ms: u64,
    full_until_ms: u64,
    named_ms: Option<u64>,
    /// In which term, if what was proposed then may still end it.
    ending_in: Option<u64>,
}

/// A leader, and the truth about each session and about what the gate was told.
struct World {
    queue: ExpiryQueue,
    gate: ExpiryGate,
    now_ms: u64,
    term: u64,
    is_leader: bool,
    acked_ms: Option<u64>,
    has_quorum: bool,
    truth: BTreeMap<SessionId, Truth>,
    /// Something since the last tick at which expiry was allowed or restarted that makes deadlines worthless.
    is_disturbed: bool,
}

impl World {
    fn new() -> World {
        World {
            queue: ExpiryQueue::new(TICK_MS, RETRY_MS),
            gate: ExpiryGate::new(GAP_MS, ACK_AGE_MS),
            now_ms: 0,
            term: 1,
            is_leader: true,
            acked_ms: None,
            has_quorum: true,
            truth: BTreeMap::new(),
            is_disturbed: true,
        }
    }

    fn hear(&mut self, session: SessionId, timeout_ms: Option<u32>) {
        let now_ms = self.now_ms;
        let Some(truth) = self.truth.get_mut(&session) else { return };
        truth.timeout_ms = timeout_ms.map_or(truth.timeout_ms, u64::from);
        truth.full_until_ms = truth.full_until_ms.max(now_ms + truth.timeout_ms);
        (truth.named_ms, truth.ending_in) = (None, None);
        self.queue.touch(session, truth.timeout_ms as u32, now_ms);
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Open(session, timeout_ms) => {
                let session = SessionId(session);
                if self.truth.contains_key(&session) {
                    return self.hear(session, Some(timeout_ms));
                }
                let full_until_ms = self.now_ms + u64::from(timeout_ms);
                let truth = Truth {
                    timeout_ms: timeout_ms.into(),
                    full_until_ms,
                    named_ms: None,
                    ending_in: None,
                };
                self.truth.insert(session, truth);
                self.queue.insert(session, timeout_ms, self.now_ms);
            }
            Step::Hear(session) => self.hear(SessionId(session), None),
            Step::Hasten(session, grace_ms) => {
                let session = SessionId(session);
                let truth = self.truth.get_mut(&session).filter(|truth| truth.ending_in.is_none());
                if let Some(truth) = truth {
                    let left_until_ms = self.now_ms + u64::from(grace_ms);
                    truth.full_until_ms = truth.full_until_ms.min(left_until_ms);
                    assert!(self.queue.hasten(session, grace_ms, self.now_ms));
                }
            }
            Step::Close(session) => {
                let session = SessionId(session);
                if self.truth.get(&session).is_some_and(|truth| truth.ending_in.is_some()) {
                    self.truth.remove(&session);
                    assert!(self.queue.remove(session));
                }
            }
            Step::Tick(elapsed_ms) => self.tick(elapsed_ms),
            Step::Pause(elapsed_ms) => {
                self.is_disturbed = true;
                self.tick(elapsed_ms);
            }
            Step::NewTerm => (self.term, self.is_disturbed) = (self.term + 1, true),
            Step::Resign => {
                self.is_leader = false;
                self.tick(TICK_MS);
                self.is_leader = true;
                self.is_disturbed = true;
            }
            Step::Quorum(has_quorum) => self.has_quorum = has_quorum,
        }
    }

    fn tick(&mut self, elapsed_ms: u64) {
        self.now_ms += elapsed_ms;
        if self.has_quorum {
            self.acked_ms = Some(self.now_ms);
        }
        let quorum_ack_age_ms = self.acked_ms.map(|acked_ms| self.now_ms - acked_ms);
        let leads = quorum_ack_age_ms.is_some_and(|age_ms| age_ms <= ACK_AGE_MS) && self.is_leader;
        let leading_term = self.is_leader.then_some(self.term);
        let seen = Observation { now_ms: self.now_ms, leading_term, quorum_ack_age_ms };
        match self.gate.tick(seen) {
            Decision::Hold => {
                assert!(!leads, "held at {} without a reason", self.now_ms);
                self.is_disturbed = true;
            }
            Decision::Restart => {
                assert!(leads && self.is_disturbed, "restarted at {} for nothing", self.now_ms);
                self.is_disturbed = false;
                self.queue.restart_all(self.now_ms, self.term);
                for (session, truth) in &mut self.truth {
                    let full_until_ms = self.now_ms + truth.timeout_ms;
                    truth.full_until_ms = truth.full_until_ms.max(full_until_ms);
                    truth.named_ms = None;
                    truth.ending_in = truth.ending_in.filter(|term| *term == self.term);
                    assert_eq!(self.queue.is_closing(*session), truth.ending_in.is_some());
                }
            }
            Decision::Expire => {
                assert!(leads && !self.is_disturbed, "expired at {} though", self.now_ms);
                self.expire();
            }
        }
    }

    fn expire(&mut self) {
        for session in self.queue.expired(self.now_ms, usize::MAX) {
            let truth = self.truth.get_mut(&session).expect("only known sessions expire");
            assert!(self.now_ms >= truth.full_until_ms, "{session} early at {}", self.now_ms);
            truth.ending_in = Some(self.term);
            if let Some(named_ms) = truth.named_ms.replace(self.now_ms) {
                assert!(self.now_ms >= named_ms + RETRY_MS, "{session} named too often");
            }
        }
        for (session, truth) in &self.truth {
            let is_late = truth.named_ms.is_none() && self.now_ms >= truth.full_until_ms + TICK_MS;
            assert!(!is_late, "{session} is more than a tick late at {}", self.now_ms);
        }
        assert!(self.queue.next_deadline().is_none_or(|due_ms| due_ms > self.now_ms));
        assert_eq!(self.queue.len(), self.truth.len());
    }
}

proptest! {
    #[test]
    fn no_history_expires_a_session_early_or_more_than_a_tick_late(
        steps in prop::collection::vec(step(), 1..200)
    ) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.run(step));
    }
}
