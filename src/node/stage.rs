//! Where the log meets the node: what consensus applies is published here, told to watchers, and answered to clients, in
//! this order and synchronously, so that whoever has an answer can read what it speaks of.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::Answer;
use super::outbox::Outbox;
use crate::clock::Clock;
use crate::raft::ApplySink;
use crate::session::ExpiryQueue;
use crate::tree::Tree;
use crate::types::{NodeId, Op, Outcome, Reply, Txn, Zxid};
use crate::watch::Hub;

/// How far this node has applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The log index.
    pub(super) index: Option<u64>,
    /// The transaction.
    pub(super) zxid: Zxid,
}

/// The shared state that apply writes and everything else reads.
pub(super) struct Stage {
    pub(super) node: NodeId,
    pub(super) incarnation: u64,
    pub(super) clock: Clock,
    root: ArcSwap<Tree>,
    /// Locked while the root is published, so that a subscriber's first snapshot and its first change fit together.
    pub(super) hub: Mutex<Hub>,
    pub(super) outbox: Mutex<Outbox>,
    /// Rung when the outbox has something new to send.
    pub(super) outbox_grew: Notify,
    /// Rung when the tree met a gap in what this node sent.
    pub(super) outbox_rewound: Notify,
    pub(super) expiry: Mutex<ExpiryQueue>,
    progress: watch::Sender<Progress>,
    /// Bytes of log applied since the node started; the snapshot trigger compares it with its own mark.
    pub(super) log_bytes: AtomicU64,
}

impl Stage {
    pub(super) fn new(
        node: NodeId,
        incarnation: u64,
        clock: Clock,
        hub: Hub,
        expiry: ExpiryQueue,
    ) -> Arc<Stage> {
        Arc::new(Stage {
            node,
            incarnation,
            clock,
            root: ArcSwap::from_pointee(Tree::new()),
            hub: Mutex::new(hub),
            outbox: Mutex::new(Outbox::new()),
            outbox_grew: Notify::new(),
            outbox_rewound: Notify::new(),
            expiry: Mutex::new(expiry),
            progress: watch::channel(Progress::default()).0,
            log_bytes: AtomicU64::new(0),
        })
    }

    /// Returns the state after the last applied entry.
    pub(super) fn root(&self) -> Arc<Tree> {
        self.root.load_full()
    }

    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    fn publish(&self, tree: &Tree, changes: Vec<(Zxid, Vec<crate::types::Event>)>) {
        let mut hub = self.hub.lock();
        self.root.store(Arc::new(tree.clone()));
        for (zxid, events) in changes {
            hub.publish(zxid, events);
        }
        hub.publish(tree.zxid(), Vec::new());
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
            _ => {}
        }
    }
}

impl ApplySink for Stage {
    fn applied(&self, index: u64, bytes: u64, tree: &Tree, txns: Vec<(Txn, Outcome)>) {
        self.log_bytes.fetch_add(bytes, Ordering::Relaxed);
        let now_ms = self.clock.now_ms();
        let mut changes = Vec::new();
        let mut answers = Vec::new();
        let mut gaps = Vec::new();
        for (txn, outcome) in txns {
            let is_own = txn.origin.node == self.node && txn.origin.incarnation == self.incarnation;
            match outcome {
                Outcome::Applied(applied) => {
                    if let Ok(reply) = &applied.result {
                        // Only a few of many transactions concern sessions; the lock is not held for the others.
                        if matches!(reply, Reply::Session { .. } | Reply::Removed { .. }) {
                            self.follow_session(&mut self.expiry.lock(), &txn, reply, now_ms);
                        }
                    }
                    if !applied.events.is_empty() {
                        changes.push((applied.zxid, applied.events));
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
        self.publish(tree, changes);
        if !answers.is_empty() || !gaps.is_empty() {
            let mut outbox = self.outbox.lock();
            for (seq, answer) in answers {
                outbox.applied(seq, answer);
            }
            for seq in gaps {
                if outbox.gap(seq) {
                    self.outbox_rewound.notify_one();
                }
            }
        }
        self.progress.send_replace(Progress { index: Some(index), zxid: tree.zxid() });
    }

    fn restored(&self, index: Option<u64>, tree: &Tree) {
        {
            let mut hub = self.hub.lock();
            self.root.store(Arc::new(tree.clone()));
            hub.reset_all(tree.zxid());
        }
        {
            let now_ms = self.clock.now_ms();
            let mut expiry = self.expiry.lock();
            expiry.clear();
            for (session, record) in tree.sessions() {
                expiry.insert(session, record.timeout_ms(), now_ms);
            }
        }
        if let Some((incarnation, seq)) = tree.origin_last(self.node)
            && incarnation == self.incarnation
        {
            self.outbox.lock().skipped_to(seq);
        }
        self.progress.send_replace(Progress { index, zxid: tree.zxid() });
    }
}
