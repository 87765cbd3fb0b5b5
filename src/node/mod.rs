//! The node: the one handle that the doors use. It knows how a request becomes part of the log and how an applied entry
//! becomes answers and news; it knows no protocol of a door, no openraft and no sled.
//!
//! # A write
//!
//! ```text
//! submit ─▶ Outbox (seq given) ─▶ forward ─▶ leader's batcher ─▶ Consensus ─▶ every node applies
//!              ▲                                                                   │
//!              └────────── answer, from this node's own apply ◀── Stage ◀──────────┘
//! ```
//!
//! The node that a client speaks to keeps the transaction until it sees it applied in its own state, and sends it to whoever
//! leads for as long as that takes. No answer travels back from the leader. If the leader dies, everything unanswered goes
//! to the next one, in order; the tree takes each sequence number of an origin once and without a gap. So a client notices
//! a failover as a pause. Only if its own node dies is the outcome unknown.
//!
//! # Order
//!
//! - Transactions of one node are applied in the order in which [`Node::submit`] was called.
//! - Apply publishes the root, then wakes watchers, then completes writes: what an answer implies has been sent before it.
//!
//! # Why nothing grows without bound
//!
//! The outbox is bounded in count and bytes (then `Busy`). The stream to the leader is read into lanes of bounded length
//! (then it is not read, and the origin's outbox fills). Entries in flight are bounded (then the lanes fill). Waiting reads,
//! renewals and subscriptions are bounded (then `Busy`); a slow subscriber's mailbox is bounded (then it is reset).
//!
//! # What it deliberately lacks
//!
//! Timeouts for writes beyond [`REQUEST_PATIENCE`]; retries for a client whose node died; any say in what a txn means.

mod admit;
mod audit;
mod audit_file;
mod batcher;
mod cluster;
mod configurators;
mod counters;
mod departure;
mod drain;
mod effects;
mod ensemble;
mod expirer;
mod followers;
mod forward;
mod gauges;
mod health;
mod identity;
mod line;
mod lines;
mod liveness;
mod outbox;
mod overridden;
mod pacing;
mod peers;
mod probing;
mod protection;
mod read;
mod recent;
mod rounds;
mod serve;
mod spread;
mod stage;
mod start;
mod subscription;
#[cfg(test)]
pub(crate) mod testing;
mod time;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::RngCore;
use rand::rngs::StdRng;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use outbox::Waiter;

use crate::blocking;
use crate::identity::SuperDigest;
use crate::raft::{Consensus, Leadership, Snapshots};
use crate::storage::WalHandle;
use crate::tree::Tree;
use crate::types::{
    AclId, ClusterId, Error, Failure, NodeId, Op, Origin, Owner, Password, Reply, SessionId, Txn,
    Zxid,
};

pub use admit::reach_of;
pub use audit::AuditLine;
pub use audit_file::AuditFile;
pub use counters::{Measures, Tasks};
pub use departure::grace_ms;
pub use drain::{Draining, Leaving, Told};
pub use effects::plan as planned_effects;
pub use followers::{Follower, Followers};
pub use identity::Identity;
pub use line::{Line, OwnWatches};
pub use lines::{Ended, Inbox};
pub use protection::StillSilent;
pub use start::{CommitTime, NodeOptions, Storage};
pub use subscription::{Delivery, ResetReason, Subscription};

/// How long a write or a linearizable read may wait for a leader and a majority.
pub const REQUEST_PATIENCE: Duration = Duration::from_secs(30);
/// How long a node has to be without a leader before it refuses writes at once instead of keeping them.
pub const LEADERLESS_PATIENCE: Duration = Duration::from_secs(10);

/// A client's wish, as a door hands it over.
#[derive(Clone, Debug)]
pub struct Request {
    /// On whose behalf; [`SessionId::NONE`] without a session.
    pub session: SessionId,
    /// Through which connection the session speaks, for sessions that belong to one.
    pub owner: Option<Owner>,
    /// Whom the client has proved to be.
    pub authority: Vec<AclId>,
    /// The client's own name for this request.
    pub idempotency_key: Option<String>,
    /// The wish.
    pub op: Op,
}

impl Request {
    /// Returns the transaction that this asks for. It is made of the request's own values, which are empty until they are
    /// taken back: nothing is copied.
    fn lend(&mut self, origin: Origin) -> Txn {
        Txn {
            origin,
            session: self.session,
            owner: self.owner,
            authority: std::mem::take(&mut self.authority),
            idempotency_key: self.idempotency_key.take(),
            op: std::mem::replace(&mut self.op, Op::Reap { paths: Vec::new() }),
        }
    }

    fn take_back(&mut self, txn: Txn) {
        self.authority = txn.authority;
        self.idempotency_key = txn.idempotency_key;
        self.op = txn.op;
    }
}

/// What became of it, as replicated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The transaction.
    pub zxid: Zxid,
    /// Its result.
    pub result: Result<Reply, Failure>,
}

/// How fresh a read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Not older than any write acknowledged anywhere before the read began. Needs a majority.
    Linearizable,
    /// This node's state, not older than a given zxid.
    Sequential,
    /// This node's state, whatever it is.
    Stale,
}

/// The state that a read sees: one zxid, whole and unchanging.
#[derive(Clone)]
pub struct View {
    /// The state.
    pub tree: Arc<Tree>,
    /// For stale reads, how old it may be, ms; `None` if this node has never heard from a leader since it started.
    pub age_ms: Option<u64>,
}

/// A running node. A clone is another handle to it.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    stage: Arc<stage::Stage>,
    consensus: Consensus,
    peers: Arc<peers::Peers>,
    barrier: read::Barrier,
    reports: Arc<liveness::Reports>,
    cluster_time: Arc<time::ClusterTime>,
    membership: cluster::Membership,
    timeouts_ms: (u32, u32),
    super_digest: Option<SuperDigest>,
    prober: Option<Arc<dyn crate::probe::Prober>>,
    random: Mutex<StdRng>,
    wal: WalHandle,
    snapshots: Arc<Snapshots>,
    /// How long the start took, ms.
    start_ms: u64,
    stop: CancellationToken,
    tasks: TaskTracker,
    #[cfg(test)]
    rivals: Mutex<Vec<Request>>,
}

impl Node {
    /// Returns this node's id.
    pub fn id(&self) -> NodeId {
        self.inner.stage.node
    }

    /// Returns this node's cluster, once it belongs to one.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.inner.membership.cluster_id()
    }

    /// Returns this node's present state. Never waits.
    pub fn local(&self) -> Arc<Tree> {
        self.inner.stage.root()
    }

    /// Returns the last log index in this node's state. Read it before [`Node::local`], which is then at least as new.
    pub fn applied(&self) -> Option<u64> {
        self.inner.stage.progress().borrow().index
    }

    /// Returns whose name and password make a client `super`, if anybody's.
    pub fn super_digest(&self) -> Option<&SuperDigest> {
        self.inner.super_digest.as_ref()
    }

    /// Returns a secret for a new session.
    pub fn new_password(&self) -> Password {
        let mut password = Password::default();
        self.inner.random.lock().fill_bytes(&mut password);
        password
    }

    /// Returns a random number, from the node's one seeded source.
    pub fn random(&self) -> u64 {
        self.inner.random.lock().next_u64()
    }

    /// Returns the timeout, ms, that a session gets when its client wishes this one.
    pub fn negotiate_timeout_ms(&self, wish: u32) -> u32 {
        wish.clamp(self.inner.timeouts_ms.0, self.inner.timeouts_ms.1)
    }

    /// Carries out a write: returns when it is committed and applied on this node. Errors: `Busy` and `NoLeader` mean that
    /// nothing was done; `OutcomeUnknown` that it may still be.
    pub async fn submit(&self, mut request: Request) -> Result<Answer, Error> {
        self.admit_writes()?;
        self.admit(request.session, &request.authority, &request.op)?;
        #[cfg(test)]
        self.let_rivals_go_first();
        let (waiter, answer) = tokio::sync::oneshot::channel();
        self.enqueue(&mut request, Waiter::Once(waiter))?;
        match tokio::time::timeout(REQUEST_PATIENCE, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(Error::OutcomeUnknown),
        }
    }

    /// Refuses writes that would only wait: before the cluster exists, while stopping, and after a long time without leader.
    fn admit_writes(&self) -> Result<(), Error> {
        if self.inner.stop.is_cancelled() {
            return Err(Error::Stopping);
        }
        if self.cluster_id().is_none() {
            return Err(Error::NotInitialized);
        }
        if self.leaderless_for() > LEADERLESS_PATIENCE {
            return Err(Error::NoLeader);
        }
        Ok(())
    }

    /// Puts a request into the outbox. It is as before afterwards, so that it can be tried again.
    fn enqueue(&self, request: &mut Request, waiter: Waiter) -> Result<(), Error> {
        let origin = Origin {
            node: self.inner.stage.node,
            incarnation: self.inner.stage.incarnation,
            seq: 0,
        };
        let txn = request.lend(origin);
        let encoded = outbox::encode(&txn);
        request.take_back(txn);
        self.inner.stage.outbox.lock().push(encoded?, waiter)?;
        self.inner.stage.outbox_grew.notify_one();
        Ok(())
    }

    /// Returns a state to read from. `min_zxid` holds for every consistency but `Stale`: the read waits until this node has
    /// applied it. Errors: `NoLeader` or `Timeout` when that takes too long.
    pub async fn read(&self, consistency: Consistency, min_zxid: Zxid) -> Result<View, Error> {
        if consistency == Consistency::Stale {
            return Ok(View { tree: self.local(), age_ms: self.inner.consensus.age_ms() });
        }
        if self.cluster_id().is_none() {
            return Err(Error::NotInitialized);
        }
        let reading = async {
            let index = match consistency {
                Consistency::Linearizable => {
                    mutant!(M05, None, Some(self.inner.barrier.read_index().await?))
                }
                _ => None,
            };
            let mut progress = self.inner.stage.progress();
            let is_there = |now: &stage::Progress| now.index >= index && now.zxid >= min_zxid;
            progress.wait_for(is_there).await.map_err(|_| Error::Stopping)
        };
        match tokio::time::timeout(REQUEST_PATIENCE, reading).await {
            Ok(Ok(())) => Ok(View { tree: self.local(), age_ms: None }),
            Ok(Err(err)) => Err(err),
            Err(_) if self.leadership().leader.is_none() => Err(Error::NoLeader),
            Err(_) => Err(Error::Timeout("the read")),
        }
    }

    /// Notes that a session was heard from; the leader learns of it within half a tick.
    pub fn touch(&self, session: SessionId) {
        self.inner.reports.touch(session);
    }

    /// Renews a session: true means that the leader has noted it, and the session has its full timeout from the moment this
    /// was called; false that the session has ended and its znodes are gone in this node's state.
    pub async fn renew(&self, session: SessionId) -> Result<bool, Error> {
        let renewing = async {
            loop {
                if self.inner.reports.renew(session).await? {
                    return Ok(true);
                }
                // The leader may not have applied a session that was opened through this node a moment ago.
                let view = self.read(Consistency::Linearizable, Zxid(0)).await?;
                if view.tree.session(session).is_none() {
                    return Ok(false);
                }
            }
        };
        match tokio::time::timeout(REQUEST_PATIENCE, renewing).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::NoLeader),
        }
    }

    /// Returns who leads, as this node knows it.
    pub fn leadership(&self) -> Leadership {
        *self.inner.consensus.leadership().borrow()
    }

    pub(crate) fn consensus(&self) -> &Consensus {
        &self.inner.consensus
    }

    /// Returns whether this node can serve: it belongs to a cluster, knows a leader and has caught up with it, or why not.
    pub fn readiness(&self) -> Result<(), String> {
        if self.cluster_id().is_none() {
            return Err(Error::NotInitialized.to_string());
        }
        if let Some(why) = self.inner.consensus.fatal() {
            return Err(format!("consensus has stopped: {why}"));
        }
        if self.leadership().leader.is_none() {
            return Err("no leader is known".into());
        }
        match self.inner.consensus.age_ms() {
            Some(age_ms) if age_ms <= 5_000 => Ok(()),
            Some(age_ms) => Err(format!("this node's state is {age_ms} ms old")),
            None => Err("this node has not caught up with the leader yet".into()),
        }
    }

    /// Returns why the node cannot go on, if consensus or the store has failed.
    pub fn fatal(&self) -> Option<String> {
        self.inner.consensus.fatal()
    }

    /// Stops the node and waits for its tasks. Waiting writes end as `OutcomeUnknown`.
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        self.inner.consensus.shutdown().await;
        self.inner.stage.abandon_outbox();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        let (wal, stage) = (self.inner.wal.clone(), self.inner.stage.clone());
        // Their threads finish what they have; waiting for them would block this thread.
        let closing = blocking::run(move || {
            wal.close();
            stage.audit.close();
        });
        drop(closing.await);
    }
}
