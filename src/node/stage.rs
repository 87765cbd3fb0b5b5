//! Where the log meets the node: what consensus applies is published here, told to watchers, and answered to clients, in
//! this order and synchronously, so that whoever has an answer can read what it speaks of.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Answer;
use super::audit::Audit;
use super::counters::Counters;
use super::drain::Drains;
use super::lines::Lines;
use super::outbox::Outbox;
use super::spread;
use crate::clock::Clock;
use crate::latest;
use crate::limits::PACING_MESSAGES_PER_NOTICE;
use crate::policy::{self, Kind, Urgency};
use crate::raft::ApplySink;
use crate::session::ExpiryQueue;
use crate::traffic::{SUSPECTS, Suspect};
use crate::tree::Tree;
use crate::types::{Event, EventKind, NodeId, Op, Outcome, Reply, Txn, ZnodePath, Zxid};
use crate::watch::{Ahead, Bounds, Hub, Pace, Pacer, Rate};

/// How far this node has applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The log index.
    pub(super) index: Option<u64>,
    /// The transaction.
    pub(super) zxid: Zxid,
}

/// Everyone who has to hear of what is applied.
pub(super) struct Audience {
    /// The subscribers of streams.
    pub(super) hub: Hub,
    /// The connections that answer in order.
    pub(super) lines: Lines,
    /// Whom of these had to be told who leaves.
    pub(super) drains: Drains,
    /// How far apart one of them is told things.
    pub(super) pacer: Pacer,
    /// How many events there are.
    pub(super) events: Rate,
    /// How the cluster's clock, which decides about turns, stands to this node's.
    pub(super) ahead: Ahead,
    /// Where something urgent has happened since who waits was last looked through.
    urgent: HashSet<ZnodePath>,
}

/// What there is to tell of one transaction.
struct News {
    zxid: Zxid,
    events: Vec<Event>,
    urgency: Urgency,
}

impl Audience {
    /// Tells of one transaction, which led to this state or is one of those that did.
    fn tell(&mut self, now_ms: u64, tree: &Tree, news: News) {
        let News { zxid, events, urgency } = news;
        let events_per_s = self.events.note(now_ms, events.len());
        let waves = spread::waves(tree.policies(), &events, urgency, events_per_s);
        let pace = Pace {
            at: self.ahead.moment(now_ms),
            window_ms: self.pacer.note(now_ms, 0),
            waves: &waves,
        };
        if urgency != Urgency::default() {
            // A watch that has fired already does not fire for this.
            let exempt = waves.iter().zip(&events).filter(|(waves, _)| waves.is_none());
            let paths =
                exempt.flat_map(|(_, event)| [Some(event.path.clone()), event.path.parent()]);
            self.urgent.extend(paths.flatten());
        }
        let is_turned = |event: &Event| {
            policy::at(event.path.as_str()).is_some_and(|(kind, _)| kind == Kind::Notify)
        };
        let is_turned = events.iter().any(is_turned);
        let notices = self.lines.fire(zxid, &events, &pace);
        self.drains.note(zxid, &events, &self.hub, &self.lines);
        let told = mutant!(M28, without_deletions(events), events);
        let messages = self.hub.publish(zxid, told, &pace);
        self.pacer.note(now_ms, notices * PACING_MESSAGES_PER_NOTICE + messages);
        if is_turned {
            // Who waits for a wave that may not come any more does not.
            self.release_until(u64::MAX, now_ms);
        }
    }

    /// Lets those go who are held back until then or earlier.
    pub(super) fn release_until(&mut self, until_ms: u64, now_ms: u64) {
        self.lines.release_until(until_ms);
        self.hub.release_until(until_ms, self.ahead.moment(now_ms));
    }

    /// Returns when the next one has been; `None` while nobody is held back.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        let both = [self.lines.next_due_ms(), self.hub.next_due_ms()];
        both.into_iter().flatten().min()
    }
}

/// The shared state that apply writes and everything else reads.
pub(super) struct Stage {
    pub(super) node: NodeId,
    pub(super) incarnation: u64,
    pub(super) clock: Clock,
    pub(super) audit: Audit,
    root: ArcSwap<Tree>,
    /// Locked while the root is published, its changes are told and its answers are given, so that whoever looks under it
    /// sees all of that or nothing. Taken before `outbox` where both are.
    pub(super) audience: Mutex<Audience>,
    pub(super) outbox: Mutex<Outbox>,
    /// Rung when somebody is held back for a shorter time than all who were before.
    pub(super) due_sooner: Notify,
    /// Counts the lines that were ever opened.
    pub(super) connections: AtomicU64,
    /// Rung when the outbox has something new to send.
    pub(super) outbox_grew: Notify,
    /// Rung when the tree met a gap in what this node sent.
    pub(super) outbox_rewound: Notify,
    pub(super) expiry: Mutex<ExpiryQueue>,
    /// Counts the sessions that ended by silence, by what was known of it.
    pub(super) expired: [AtomicU64; 4],
    progress: latest::Sender<Progress>,
    /// Bytes of log applied since the node started; the snapshot trigger compares it with its own mark.
    pub(super) log_bytes: AtomicU64,
    /// How often this node, leading, gave every session its full timeout again.
    pub(super) restarts: AtomicU64,
    pub(super) counters: Counters,
}

impl Stage {
    pub(super) fn new(
        node: NodeId,
        incarnation: u64,
        clock: Clock,
        audit: Audit,
        bounds: Bounds,
        pacer: Pacer,
        expiry: ExpiryQueue,
    ) -> Arc<Stage> {
        Arc::new(Stage {
            node,
            incarnation,
            clock,
            audit,
            root: ArcSwap::from_pointee(Tree::new()),
            audience: Mutex::new(Audience {
                hub: Hub::new(Zxid(0), bounds),
                lines: Lines::new(bounds),
                drains: Drains::default(),
                pacer,
                events: Rate::default(),
                ahead: Ahead::default(),
                urgent: HashSet::new(),
            }),
            due_sooner: Notify::new(),
            connections: AtomicU64::new(1),
            outbox: Mutex::new(Outbox::new()),
            outbox_grew: Notify::new(),
            outbox_rewound: Notify::new(),
            expiry: Mutex::new(expiry),
            expired: Default::default(),
            progress: latest::channel(Progress::default()).0,
            log_bytes: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            counters: Counters::default(),
        })
    }

    /// Returns the state after the last applied entry.
    pub(super) fn root(&self) -> Arc<Tree> {
        self.root.load_full()
    }

    pub(super) fn progress(&self) -> latest::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Publishes the root and tells of the changes that led to it.
    fn publish(&self, audience: &mut Audience, now_ms: u64, tree: &Tree, changes: Vec<News>) {
        self.root.store(Arc::new(tree.clone()));
        let next_due_ms = audience.next_due_ms();
        for news in changes {
            audience.tell(now_ms, tree, news);
        }
        let Audience { lines, urgent, .. } = audience;
        lines.release_waiting(urgent);
        urgent.clear();
        audience.hub.publish(tree.zxid(), Vec::new(), &Pace::default());
        let sooner =
            audience.next_due_ms().filter(|due_ms| next_due_ms.is_none_or(|it| *due_ms < it));
        if sooner.is_some() {
            self.due_sooner.notify_one();
        }
    }

    /// Answers those of this node's own clients whose transactions were applied.
    fn answer(&self, audience: &mut Audience, answers: Vec<(u64, Answer)>, gaps: Vec<u64>) {
        if answers.is_empty() && gaps.is_empty() {
            return;
        }
        let mut outbox = self.outbox.lock();
        for (seq, answer) in answers {
            outbox.applied(seq, answer, &mut audience.lines);
        }
        for seq in gaps {
            if outbox.gap(seq) {
                self.outbox_rewound.notify_one();
            }
        }
    }

    /// Forgets what waits to be sent: whoever waits for it learns that the outcome is unknown.
    pub(super) fn abandon_outbox(&self) {
        let ringing = {
            let mut audience = self.audience.lock();
            self.outbox.lock().clear(&mut audience.lines);
            audience.lines.take_ringing()
        };
        ringing.iter().for_each(|bell| bell.notify_one());
    }

    /// Keeps the expiry queue in step with the sessions of the tree, on every node: whoever becomes leader has it complete.
    fn follow_session(&self, expiry: &mut ExpiryQueue, txn: &Txn, reply: &Reply, now_ms: u64) {
        match (&txn.op, reply) {
            (
                Op::OpenSession { .. } | Op::AttachSession { .. },
                Reply::Session { session, timeout_ms },
            ) => {
                expiry.insert(*session, *timeout_ms, now_ms);
            }
            (Op::CloseSession { session, .. }, Reply::Removed { .. }) => {
                expiry.remove(*session);
            }
            (Op::Expire { session, why, .. }, Reply::Removed { .. }) => {
                expiry.remove(*session);
                self.expired[*why as usize].fetch_add(1, Ordering::Relaxed);
            }
            (Op::Expire { session, .. }, Reply::Held { for_ms }) => {
                expiry.hold(*session, now_ms.saturating_add(*for_ms));
            }
            _ => {}
        }
    }
}

impl Stage {
    /// Ends the holds of those of whom it is noted no more that they are suspect, on every node: whoever becomes leader knows.
    fn follow_suspects(&self, events: &[Event], now_ms: u64) {
        let notes = events.iter().filter(|event| {
            event.kind == EventKind::Deleted && event.path.parent_str() == Some(SUSPECTS)
        });
        for session in notes.filter_map(|event| Suspect::session_of(&event.path)) {
            self.expiry.lock().unhold(session, now_ms);
        }
    }
}

/// Returns the events but for those that tell of an end.
#[cfg(feature = "mutants")]
fn without_deletions(mut events: Vec<Event>) -> Vec<Event> {
    events.retain(|event| event.kind != EventKind::Deleted);
    events
}

impl ApplySink for Stage {
    fn applied(&self, index: u64, bytes: u64, tree: &Tree, txns: Vec<(Txn, Outcome)>) {
        self.log_bytes.fetch_add(bytes, Ordering::Relaxed);
        let now_ms = self.clock.now_ms();
        // One without transactions has no time.
        let has_time = !txns.is_empty();
        let mut changes = Vec::new();
        let mut answers = Vec::new();
        let mut gaps = Vec::new();
        let mut sessions = Vec::new();
        for (txn, outcome) in txns {
            let is_own = txn.origin.node == self.node && txn.origin.incarnation == self.incarnation;
            let urgency = spread::urgency(&txn.op);
            match outcome {
                Outcome::Applied(applied) => {
                    self.audit.applied(&txn, &applied, tree.wall_ms());
                    if let Ok(reply) = &applied.result {
                        // Only a few of many transactions concern sessions; the lock is not held for the others.
                        if matches!(
                            reply,
                            Reply::Session { .. } | Reply::Removed { .. } | Reply::Held { .. }
                        ) {
                            let is_end = matches!(reply, Reply::Removed { .. });
                            if is_own && is_end && matches!(txn.op, Op::Expire { .. }) {
                                *self.counters.expired.lock() += 1;
                            }
                            self.follow_session(&mut self.expiry.lock(), &txn, reply, now_ms);
                            sessions.push((txn.op, reply.clone()));
                        }
                    }
                    if !applied.events.is_empty() {
                        let (zxid, events) = (applied.zxid, applied.events);
                        self.follow_suspects(&events, now_ms);
                        changes.push(News { zxid, events, urgency });
                    }
                    if is_own {
                        answers.push((
                            txn.origin.seq,
                            Answer { zxid: applied.zxid, result: applied.result },
                        ));
                    }
                }
                Outcome::Gap { .. } if is_own => gaps.push(txn.origin.seq),
                Outcome::Gap { .. } | Outcome::Duplicate => {}
            }
        }
        let ringing = {
            let mut audience = self.audience.lock();
            if has_time {
                audience.ahead.note(now_ms, tree.cluster_ms());
            }
            self.publish(&mut audience, now_ms, tree, changes);
            for (op, reply) in &sessions {
                audience.lines.follow(op, reply);
            }
            self.answer(&mut audience, answers, gaps);
            audience.lines.take_ringing()
        };
        ringing.iter().for_each(|bell| bell.notify_one());
        self.progress.set(Progress { index: Some(index), zxid: tree.zxid() });
    }

    fn restored(&self, index: Option<u64>, tree: &Tree) {
        self.audit.restored(tree.zxid(), tree.wall_ms());
        let ringing = {
            let mut audience = self.audience.lock();
            self.root.store(Arc::new(tree.clone()));
            audience.hub.reset_all(tree.zxid());
            audience.lines.end_all();
            // Whether a drain ended and began anew in between is not known.
            audience.drains = Drains::default();
            if let Some((incarnation, seq)) = tree.origin_last(self.node)
                && incarnation == self.incarnation
            {
                let kept = |session, key: &str| {
                    let (zxid, result) = tree.kept_result(session, key)?;
                    Some(Answer { zxid, result: result.clone() })
                };
                self.outbox.lock().skipped_to(seq, kept, &mut audience.lines);
                self.outbox_rewound.notify_one();
            }
            audience.lines.take_ringing()
        };
        ringing.iter().for_each(|bell| bell.notify_one());
        {
            let now_ms = self.clock.now_ms();
            let mut expiry = self.expiry.lock();
            expiry.clear();
            for (session, record) in tree.sessions() {
                expiry.insert(session, record.timeout_ms(), now_ms);
            }
            for (_, session) in tree.suspects_after("") {
                let until_ms = tree.suspect(session).map(|it| it.hold_until_cluster_ms);
                let for_ms = until_ms.unwrap_or(0).saturating_sub(tree.cluster_ms());
                let timeout_ms = tree.session(session).map_or(0, |it| u64::from(it.timeout_ms()));
                expiry.hold(session, now_ms.saturating_add(for_ms.max(timeout_ms)));
            }
        }
        self.progress.set(Progress { index, zxid: tree.zxid() });
    }
}
