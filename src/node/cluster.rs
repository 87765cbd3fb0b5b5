//! Membership: how a cluster begins, grows, shrinks, and what it looks like. Any node takes these requests; what only the
//! leader can do is handed to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Node;
use super::identity::Identity;
use super::peers::Peers;
use super::stage::Stage;
use crate::clock::Clock;
use crate::codec;
use crate::latest;
use crate::limits::PEER_PAYLOAD_BYTES_MAX;
use crate::peer::{self, Kind};
use crate::raft::{Leadership, Refused};
use crate::storage::{WalHandle, Write};
use crate::types::{ClusterId, ClusterStatus, Error, Member, MemberStatus, NodeId};

/// How long a question to another node may take.
const ASK: Duration = Duration::from_secs(2);
/// How long a change of the membership may take: a learner first has to receive everything.
const CHANGE: Duration = Duration::from_secs(120);

/// What a node asks another to become.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Invitation {
    cluster_id: ClusterId,
    node: NodeId,
}

/// What a node asks the leader.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Question {
    Members,
    AddLearner(Member),
    Promote(NodeId),
    Remove(NodeId),
    Transfer(NodeId),
}

type Answer = Result<Vec<MemberStatus>, (bool, String)>;

/// This node's place in a cluster. A clone is the same one.
#[derive(Clone)]
pub(super) struct Membership {
    shared: Arc<Shared>,
}

struct Shared {
    identity: Mutex<Identity>,
    peer_identity: peer::Identity,
    wal: WalHandle,
    clock: Clock,
    /// When the leadership that this node knows last changed, by the clock, ms.
    changed_at_ms: Mutex<u64>,
}

impl Membership {
    pub(super) fn new(
        identity: Identity,
        peer_identity: peer::Identity,
        wal: WalHandle,
        clock: Clock,
    ) -> Membership {
        let changed_at_ms = Mutex::new(clock.now_ms());
        let shared =
            Shared { identity: Mutex::new(identity), peer_identity, wal, clock, changed_at_ms };
        Membership { shared: Arc::new(shared) }
    }

    pub(super) fn cluster_id(&self) -> Option<ClusterId> {
        Some(self.shared.identity.lock().cluster_id).filter(|id| *id != 0)
    }

    /// Follows the leadership, to know for how long it has been as it is.
    pub(super) async fn follow(
        self,
        mut leadership: latest::Receiver<Leadership>,
        stage: Arc<Stage>,
    ) {
        let clock = &self.shared.clock;
        let (mut before, mut alone_since_us) = (None, None);
        while leadership.changed().await.is_ok() {
            let (leader, now_us) = (leadership.borrow().leader, clock.now_micros());
            if leader.is_none() {
                // Elections that come to nothing begin terms of their own.
                alone_since_us = alone_since_us.or(Some(now_us));
            } else if leader != before {
                let alone_us = alone_since_us.take().map_or(0, |since_us| now_us - since_us);
                stage.counters.elections.lock().took(alone_us);
            }
            before = leader;
            *self.shared.changed_at_ms.lock() = clock.now_ms();
        }
    }

    /// Returns for how long this node has known the same leader, or none.
    pub(super) fn unchanged_for(&self) -> Duration {
        let changed_at_ms = *self.shared.changed_at_ms.lock();
        Duration::from_millis(self.shared.clock.now_ms().saturating_sub(changed_at_ms))
    }

    /// Takes on a cluster, durably. Refused when this node belongs to another one.
    async fn adopt(&self, cluster_id: ClusterId) -> Result<(), String> {
        let identity = {
            let identity = self.shared.identity.lock();
            match identity.cluster_id {
                own if own == cluster_id => return Ok(()),
                0 => Identity { cluster_id, ..*identity },
                own => {
                    return Err(format!(
                        "node {} belongs to cluster {own:032x} already",
                        identity.node
                    ));
                }
            }
        };
        let write = Write::Identity(identity.encode().into());
        let (done, stored) = tokio::sync::oneshot::channel();
        // The receiver waits below, unless the caller gave up.
        self.shared.wal.submit(vec![write], Box::new(move |outcome| drop(done.send(outcome))));
        match stored.await {
            Ok(Ok(())) => {}
            Ok(Err(err)) => return Err(format!("cannot store the cluster's id: {err}")),
            Err(_) => return Err("this node is stopping".into()),
        }
        *self.shared.identity.lock() = identity;
        self.shared.peer_identity.set_cluster(cluster_id);
        Ok(())
    }

    /// The invited node's side of [`invite`].
    pub(super) async fn serve_join(&self, from: NodeId, payload: &[u8]) -> Result<Bytes, String> {
        let invitation: Invitation = codec::decode(payload, PEER_PAYLOAD_BYTES_MAX)?;
        let own = self.shared.identity.lock().node;
        if invitation.node != own {
            return Err(format!("this is node {own}, not node {}", invitation.node));
        }
        self.adopt(invitation.cluster_id).await?;
        tracing::info!(from, cluster = %format!("{:032x}", invitation.cluster_id), "this node joins a cluster");
        Ok(Bytes::new())
    }
}

/// Asks a node to belong to the cluster. Repeating it does no harm.
async fn invite(peers: &Peers, cluster_id: ClusterId, member: &Member) -> Result<(), Error> {
    let payload = codec::encode(&Invitation { cluster_id, node: member.node }).into();
    let asked = peers.dial(member.node, &member.peer_addr).call(Kind::Join, payload, ASK).await;
    asked.map(drop).map_err(|why| {
        Error::Refused(format!("node {} at {}: {why}", member.node, member.peer_addr))
    })
}

impl Node {
    pub(super) fn leaderless_for(&self) -> Duration {
        let unchanged = self.inner.membership.unchanged_for();
        match self.leadership().leader {
            // With pre-vote a node does not forget a leader that it no longer hears; the age of its state tells. After a
            // change of leader that age may still be from long ago.
            Some(_) => {
                unchanged.min(Duration::from_millis(self.inner.consensus.age_ms().unwrap_or(0)))
            }
            None => unchanged,
        }
    }

    /// Bootstraps a cluster of these voters, this node among them, and returns its id. Errors: `Refused` when one of them
    /// cannot be reached or belongs to a cluster already; what is half done then is completed by repeating the call.
    pub async fn init(&self, members: Vec<Member>) -> Result<ClusterId, Error> {
        check_members(&members)?;
        if !members.iter().any(|member| member.node == self.id()) {
            return Err(Error::Refused(format!(
                "this is node {}: it must be one of the members",
                self.id()
            )));
        }
        if self.inner.consensus.is_initialized().await? {
            return Err(Error::Refused("this node belongs to a running cluster already".into()));
        }
        let fresh = || ClusterId::from(self.random()) << 64 | ClusterId::from(self.random()) | 1;
        let cluster_id = self.cluster_id().unwrap_or_else(fresh);
        self.inner.membership.adopt(cluster_id).await.map_err(Error::Refused)?;
        for member in members.iter().filter(|member| member.node != self.id()) {
            invite(&self.inner.peers, cluster_id, member).await?;
        }
        let members: BTreeMap<NodeId, Member> =
            members.into_iter().map(|member| (member.node, member)).collect();
        self.inner.consensus.initialize(members).await?;
        Ok(cluster_id)
    }

    /// Adds a learner and waits until it has what the cluster has.
    pub async fn add_learner(&self, member: Member) -> Result<(), Error> {
        check_members(std::slice::from_ref(&member))?;
        self.ask_leader(&Question::AddLearner(member), CHANGE).await.map(drop)
    }

    /// Makes a learner a voter.
    pub async fn promote(&self, node: NodeId) -> Result<(), Error> {
        self.ask_leader(&Question::Promote(node), CHANGE).await.map(drop)
    }

    /// Removes a member.
    pub async fn remove(&self, node: NodeId) -> Result<(), Error> {
        self.ask_leader(&Question::Remove(node), CHANGE).await.map(drop)
    }

    /// Hands leadership to a voter.
    pub async fn transfer(&self, node: NodeId) -> Result<(), Error> {
        self.ask_leader(&Question::Transfer(node), CHANGE).await.map(drop)
    }

    /// Returns the cluster as this node sees it, with what the leader knows of each member where it can be asked.
    pub async fn cluster(&self) -> Result<ClusterStatus, Error> {
        let mut status = self.inner.consensus.status();
        if let Ok(members) = self.ask_leader(&Question::Members, ASK).await {
            status.members = members;
        }
        let tree = self.local();
        Ok(ClusterStatus {
            cluster_id: self.cluster_id(),
            zxid: tree.zxid(),
            digest: tree.digest(),
            ..status
        })
    }

    /// Returns the cluster as this node sees it without asking anybody; identity, zxid and digest are left empty.
    pub fn local_status(&self) -> ClusterStatus {
        self.inner.consensus.status()
    }

    async fn ask_leader(
        &self,
        question: &Question,
        patience: Duration,
    ) -> Result<Vec<MemberStatus>, Error> {
        if self.cluster_id().is_none() {
            return Err(Error::NotInitialized);
        }
        let leader = self.leadership().leader.ok_or(Error::NoLeader)?;
        let answer = if leader == self.id() {
            answer(self, question).await
        } else {
            let payload = codec::encode(question).into();
            let answer = self.inner.peers.call(leader, Kind::Status, payload, patience).await;
            let answer =
                answer.map_err(|why| Error::Io(format!("the leader, node {leader}: {why}")))?;
            codec::decode::<Answer>(&answer, PEER_PAYLOAD_BYTES_MAX).map_err(Error::Io)?
        };
        answer.map_err(|(retry, why)| if retry { Error::NoLeader } else { Error::Refused(why) })
    }
}

/// The leader's side of a question.
pub(super) async fn serve(node: &Node, payload: &[u8]) -> Result<Bytes, String> {
    let question: Question = codec::decode(payload, PEER_PAYLOAD_BYTES_MAX)?;
    Ok(codec::encode(&answer(node, &question).await).into())
}

async fn answer(node: &Node, question: &Question) -> Answer {
    let done = match question {
        Question::Members if node.leadership().leader == Some(node.id()) => Ok(()),
        Question::Members => Err(Refused::NotLeader),
        Question::AddLearner(member) => add_learner(node, member).await,
        Question::Promote(id) => promote(node, *id).await,
        Question::Remove(id) => remove(node, *id).await,
        Question::Transfer(id) => node.inner.consensus.transfer(*id).await,
    };
    match done {
        Ok(()) => Ok(node.inner.consensus.status().members),
        Err(refused) => Err((refused == Refused::NotLeader, refused.to_string())),
    }
}

async fn add_learner(node: &Node, member: &Member) -> Result<(), Refused> {
    if node.inner.consensus.is_member(member.node) {
        return Err(Refused::Invalid(format!("node {} is a member already", member.node)));
    }
    if node.local().origin_last(member.node).is_some() {
        // Its disk may have been wiped: it would have forgotten its votes, and its writes would count as old ones.
        return Err(Refused::Invalid(format!(
            "node id {} was used in this cluster before: join under a new id",
            member.node
        )));
    }
    let cluster_id = node.cluster_id().ok_or(Refused::NotLeader)?;
    invite(&node.inner.peers, cluster_id, member)
        .await
        .map_err(|err| Refused::Invalid(err.to_string()))?;
    node.inner.consensus.add_learner(member.clone()).await
}

async fn promote(node: &Node, id: NodeId) -> Result<(), Refused> {
    if !node.inner.consensus.is_member(id) {
        return Err(Refused::Invalid(format!("node {id} is no member: add it as a learner first")));
    }
    node.inner.consensus.promote(id).await
}

async fn remove(node: &Node, id: NodeId) -> Result<(), Refused> {
    if !node.inner.consensus.is_member(id) {
        return Err(Refused::Invalid(format!("node {id} is no member of this cluster")));
    }
    node.inner.consensus.remove(id).await
}

fn check_members(members: &[Member]) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::Refused(why));
    let mut seen = BTreeSet::new();
    for member in members {
        if !(1..=255).contains(&member.node) {
            return refuse(format!("node id {} is not within 1 to 255", member.node));
        }
        if !seen.insert(member.node) {
            return refuse(format!("node {} is named twice", member.node));
        }
        for addr in [&member.peer_addr, &member.http_addr].into_iter().chain(&member.zk_addr) {
            let port = addr.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none_or(|port| port == 0) {
                return refuse(format!("node {}: {addr:?} is not host:port", member.node));
            }
        }
    }
    Ok(())
}
