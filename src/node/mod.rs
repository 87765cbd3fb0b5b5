//! Scaffold: one tree in memory behind the interface of the node, so that the doors compile and can be tested before the
//! node exists. Replaced at the merge.
#![allow(missing_docs, clippy::unimplemented, reason = "a scaffold that is replaced at the merge")]

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::limits::{SESSION_TIMEOUT_MS_MAX, SESSION_TIMEOUT_MS_MIN};
use crate::tree::Tree;
use crate::types::{
    AclId, Digest, Error, Failure, NodeId, Op, Origin, Outcome, Owner, Password, Reply, SessionId,
    Txn, TxnTime, Zxid,
};
use crate::watch::{Bounds, Filter, Hub, Message, Since, Start, SubscriberId};

#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
}

struct State {
    tree: Arc<Tree>,
    hub: Hub,
    seq: u64,
    /// Ops applied just before the next submitted one: what other clients do at the same time.
    rivals: Vec<(SessionId, Op)>,
    touched: Vec<SessionId>,
}

pub struct Request {
    pub session: SessionId,
    pub owner: Option<Owner>,
    pub authority: Vec<AclId>,
    pub idempotency_key: Option<String>,
    pub op: Op,
}

pub struct Answer {
    pub zxid: Zxid,
    pub result: Result<Reply, Failure>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    Linearizable,
    Sequential,
    Stale,
}

pub struct View {
    pub tree: Arc<Tree>,
    pub age_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub node: NodeId,
    pub peer_addr: String,
    pub http_addr: String,
}

pub struct MemberStatus {
    pub member: Member,
    pub voter: bool,
    pub matched: Option<u64>,
    pub lag: Option<u64>,
}

pub struct ClusterStatus {
    pub cluster_id: Option<u128>,
    pub node: NodeId,
    pub leader: Option<NodeId>,
    pub term: u64,
    pub state: &'static str,
    pub members: Vec<MemberStatus>,
    pub last_log: Option<u64>,
    pub committed: Option<u64>,
    pub applied: Option<u64>,
    pub snapshot: Option<u64>,
    pub purged: Option<u64>,
    pub zxid: Zxid,
    pub digest: Digest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    TooOld,
    Overflow,
    SnapshotInstalled,
}

pub enum Delivery {
    Snapshot { tree: Arc<Tree>, reset: Option<ResetReason> },
    Messages { messages: Vec<Message>, upto: Zxid },
    Idle { upto: Zxid },
}

pub struct Subscription {
    node: Node,
    id: SubscriberId,
    wake: Arc<Notify>,
    fresh: bool,
    upto: Zxid,
}

impl Node {
    pub fn in_memory() -> Node {
        let tree = Arc::new(Tree::new());
        let hub = Hub::new(tree.zxid(), Bounds::default());
        let state = State { tree, hub, seq: 0, rivals: Vec::new(), touched: Vec::new() };
        Node(Arc::new(Inner { state: Mutex::new(state) }))
    }

    pub fn before_next(&self, session: SessionId, op: Op) {
        self.0.state.lock().rivals.push((session, op));
    }

    pub fn touched(&self) -> Vec<SessionId> {
        self.0.state.lock().touched.clone()
    }

    pub fn lose(&self) {
        let mut state = self.0.state.lock();
        let zxid = state.tree.zxid();
        state.hub.reset_all(zxid.next());
    }

    pub fn id(&self) -> NodeId {
        1
    }

    pub async fn submit(&self, request: Request) -> Result<Answer, Error> {
        let mut state = self.0.state.lock();
        for (session, op) in std::mem::take(&mut state.rivals) {
            let request =
                Request { session, owner: None, authority: Vec::new(), idempotency_key: None, op };
            state.apply(request);
        }
        Ok(state.apply(request))
    }

    pub async fn read(&self, consistency: Consistency, min_zxid: Zxid) -> Result<View, Error> {
        let tree = self.local();
        if min_zxid > tree.zxid() && consistency != Consistency::Stale {
            return Err(Error::Timeout("waiting for min_zxid"));
        }
        let age_ms = (consistency == Consistency::Stale).then_some(3);
        Ok(View { tree, age_ms })
    }

    pub fn local(&self) -> Arc<Tree> {
        self.0.state.lock().tree.clone()
    }

    pub async fn renew(&self, session: SessionId) -> Result<bool, Error> {
        Ok(self.local().session(session).is_some())
    }

    pub fn touch(&self, session: SessionId) {
        self.0.state.lock().touched.push(session);
    }

    pub fn new_password(&self) -> Password {
        rand::random()
    }

    pub fn negotiate_timeout_ms(&self, wish: u32) -> u32 {
        wish.clamp(SESSION_TIMEOUT_MS_MIN, SESSION_TIMEOUT_MS_MAX)
    }

    pub fn subscribe(
        &self,
        filters: Vec<Filter>,
        since: Option<Zxid>,
    ) -> Result<Subscription, Error> {
        let wake = Arc::new(Notify::new());
        let waker = wake.clone();
        let mut state = self.0.state.lock();
        let from = since.map_or(Since::Now, Since::After);
        let (id, start) =
            state.hub.subscribe(filters, from, Box::new(move || waker.notify_one()))?;
        let fresh = since.is_none() && start == Start::Reset;
        Ok(Subscription { node: self.clone(), id, wake, fresh, upto: since.unwrap_or_default() })
    }

    pub async fn cluster(&self) -> Result<ClusterStatus, Error> {
        let tree = self.local();
        let member = Member { node: 1, peer_addr: "p:1".into(), http_addr: "h:1".into() };
        Ok(ClusterStatus {
            cluster_id: Some(0xabc),
            node: 1,
            leader: Some(1),
            term: 1,
            state: "leader",
            members: vec![MemberStatus { member, voter: true, matched: Some(9), lag: Some(0) }],
            last_log: Some(9),
            committed: Some(9),
            applied: Some(9),
            snapshot: None,
            purged: None,
            zxid: tree.zxid(),
            digest: tree.digest(),
        })
    }

    pub async fn init(&self, _members: Vec<Member>) -> Result<u128, Error> {
        Ok(0xabc)
    }

    pub async fn add_learner(&self, _member: Member) -> Result<(), Error> {
        Ok(())
    }

    pub async fn promote(&self, _node: NodeId) -> Result<(), Error> {
        Ok(())
    }

    pub async fn remove(&self, _node: NodeId) -> Result<(), Error> {
        Ok(())
    }

    pub async fn transfer(&self, _node: NodeId) -> Result<(), Error> {
        Ok(())
    }

    pub fn readiness(&self) -> Result<(), String> {
        Ok(())
    }

    pub fn gauges(&self) -> Vec<(&'static str, &'static str, f64)> {
        vec![("roost_zxid", "The latest transaction", self.local().zxid().0 as f64)]
    }

    pub fn wall_ms(&self) -> u64 {
        0
    }

    pub fn applied(&self) -> Option<u64> {
        Some(9)
    }
}

impl State {
    fn apply(&mut self, request: Request) -> Answer {
        let Request { session, owner, authority, idempotency_key, op } = request;
        self.seq += 1;
        let origin = Origin { node: 1, incarnation: 1, seq: self.seq };
        let txn = Txn { origin, session, owner, authority, idempotency_key, op };
        let tree = Arc::make_mut(&mut self.tree);
        match tree.apply(TxnTime::default(), &txn) {
            Outcome::Applied(applied) => {
                self.hub.publish(tree.zxid(), applied.events);
                Answer { zxid: applied.zxid, result: applied.result }
            }
            other => unimplemented!("{other:?}"),
        }
    }
}

impl Subscription {
    pub async fn next(&mut self, wait: Duration) -> Option<Delivery> {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            {
                let mut state = self.node.0.state.lock();
                let taken = state.hub.take(self.id, 1000)?;
                if taken.lost {
                    let tree = state.tree.clone();
                    state.hub.restart(self.id, tree.zxid());
                    let reset = (!self.fresh).then_some(ResetReason::Overflow);
                    self.fresh = false;
                    return Some(Delivery::Snapshot { tree, reset });
                }
                self.upto = taken.upto;
                if !taken.messages.is_empty() {
                    return Some(Delivery::Messages { messages: taken.messages, upto: taken.upto });
                }
            }
            if tokio::time::timeout_at(deadline, self.wake.notified()).await.is_err() {
                return Some(Delivery::Idle { upto: self.upto });
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.node.0.state.lock().hub.unsubscribe(self.id);
    }
}
