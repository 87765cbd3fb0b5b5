use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::Instant;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::impls::OneshotResponder;
use openraft::raft::{TransferLeaderRequest, VoteRequest};
use openraft::{ReadPolicy, ServerState, SnapshotPolicy};
use parking_lot::Mutex;

use super::log_store::LogStore;
use super::network::{Append, Network};
use super::snapshot::SnapshotData;
use super::state_machine::StateMachine;
use super::typ::{EncodedBatch, Raft, SnapshotMeta, TypeConfig, Vote};
use crate::clock::Clock;
use crate::codec;
use crate::latest;
use crate::limits::PEER_FRAME_BYTES_MAX;
use crate::peer::Kind;
use crate::types::{ClusterStatus, Digest, Error, Member, MemberStatus, NodeId, Zxid};

/// Timing of consensus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How often a leader shows that it lives, ms.
    pub heartbeat_ms: u64,
    /// Shortest wait of a follower before it stands for election, ms; each draws its own between this and the longest.
    pub election_ms_min: u64,
    /// Longest wait, ms; also how long a leader's lease lasts.
    pub election_ms_max: u64,
    /// Entries that stay in the log behind a snapshot, for followers that are only a little behind.
    pub log_entries_kept: u64,
    /// Whether a restarted leader resumes leadership without an election. Only tests of what that breaks set it.
    pub restore_leader: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            heartbeat_ms: 100,
            election_ms_min: 400,
            election_ms_max: 800,
            log_entries_kept: 2_000,
            restore_leader: false,
        }
    }
}

/// Who leads, as this node knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The term.
    pub term: u64,
    /// The leader of that term, once known.
    pub leader: Option<NodeId>,
}

/// Why consensus did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// This node does not lead, or cannot be sure that it still does. What was asked may or may not have been done.
    NotLeader,
    /// Consensus has stopped on this node.
    Stopped,
    /// The request itself is refused; the text says why.
    Invalid(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::NotLeader => f.write_str("this node does not lead"),
            Refused::Stopped => f.write_str("consensus has stopped on this node"),
            Refused::Invalid(why) => f.write_str(why),
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Error {
        match refused {
            Refused::NotLeader => Error::NoLeader,
            Refused::Stopped => Error::Stopping,
            Refused::Invalid(why) => Error::Refused(why),
        }
    }
}

/// Proof of being up to date, for the age of stale reads.
#[derive(Default)]
struct Freshness {
    /// When a quorum had last acknowledged the leader that told its commit index, and that index.
    heard: Option<(u64, Option<u64>)>,
    /// The latest such moment whose index has been applied here.
    fresh_at_ms: Option<u64>,
}

/// Returns how long ago, ms, a quorum last acknowledged this node as leader; `None` when it does not lead.
pub(super) fn quorum_ack_age_ms(raft: &Raft) -> Option<u64> {
    // A sole voter is its own quorum. Nobody acknowledges it, so openraft notes nothing while nothing is proposed.
    let node = raft.node_id();
    if raft.is_leader() && raft.voter_ids().all(|voter| voter == *node) {
        return Some(0);
    }
    let metrics = raft.data_metrics();
    let metrics = metrics.borrow_watched();
    metrics.last_quorum_acked.as_ref().map(|at| at.elapsed().as_millis() as u64)
}

/// A running Raft node. A clone is a handle to the same one.
#[derive(Clone)]
pub struct Consensus {
    raft: Raft,
    clock: Clock,
    leadership: latest::Receiver<Leadership>,
    freshness: Arc<Mutex<Freshness>>,
}

impl Consensus {
    /// Starts consensus over a recovered store. Returns once the state is rebuilt from snapshot and committed
    /// log, and `status` tells what the store holds.
    pub async fn start(
        node: NodeId,
        cluster_name: String,
        options: &Options,
        clock: Clock,
        log: LogStore,
        state_machine: StateMachine,
        network: Network,
    ) -> Result<Consensus, Error> {
        let config = openraft::Config {
            cluster_name,
            heartbeat_interval: options.heartbeat_ms,
            election_timeout_min: options.election_ms_min,
            election_timeout_max: options.election_ms_max,
            enable_pre_vote: Some(mutant!(M38, false, true)),
            enable_leader_restore: Some(mutant!(M04, true, options.restore_leader)),
            max_payload_entries: 2048,
            purge_batch_size: 256,
            max_in_snapshot_log_to_keep: options.log_entries_kept,
            replication_lag_threshold: 1_000_000,
            snapshot_policy: SnapshotPolicy::Never,
            install_snapshot_timeout: 60_000,
            ..openraft::Config::default()
        };
        let config =
            config.validate().map_err(|err| Error::Refused(format!("raft timing: {err}")))?;
        let speaker = network.raft();
        let raft = Raft::new(node, Arc::new(config), network, log, state_machine)
            .await
            .map_err(|err| Error::Io(format!("consensus did not start: {err}")))?;
        // The network lives no longer than the node's core, which ends with `shutdown`.
        drop(speaker.set(raft.clone()));
        // Until its task has run once, its metrics are those of a node that is in no cluster. It answers after that.
        raft.is_initialized()
            .await
            .map_err(|err| Error::Io(format!("consensus did not start: {err}")))?;
        let leadership = follow_leadership(&raft);
        Ok(Consensus { raft, clock, leadership, freshness: Arc::default() })
    }

    /// Returns a receiver that always holds the present leadership.
    pub fn leadership(&self) -> latest::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Puts a batch into the log if this node leads. Proposals are ordered by the return of this call; the returned future
    /// ends when the batch is applied here, or when it may have been lost.
    pub async fn propose(
        &self,
        batch: Bytes,
    ) -> Result<impl Future<Output = Result<(), Refused>> + use<>, Refused> {
        let (responder, outcome) = OneshotResponder::new_pair();
        self.raft
            .client_write_ff(EncodedBatch(batch), Some(responder))
            .await
            .map_err(|_| Refused::Stopped)?;
        Ok(async move {
            match outcome.await {
                Ok(Ok(_applied)) => Ok(()),
                Ok(Err(err)) => Err(refusal(&err)),
                Err(_) => Err(Refused::Stopped),
            }
        })
    }

    /// Returns the log index that this leader, confirmed by a quorum during the call, had committed: whoever has applied up
    /// to it reads linearizably. Source: Raft thesis §6.4.
    pub async fn read_index(&self) -> Result<u64, Refused> {
        let policy = mutant!(M06, ReadPolicy::LeaseRead, ReadPolicy::ReadIndex);
        match self.raft.get_read_log_id(policy).await {
            Ok((read, _)) => Ok(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => {
                Err(Refused::NotLeader)
            }
            Err(RaftError::APIError(_)) => Err(Refused::NotLeader),
            Err(RaftError::Fatal(_)) => Err(Refused::Stopped),
        }
    }

    /// Answers a peer's Raft message of kind `Append`, `Vote`, `PreVote` or `TransferLeader`.
    pub async fn serve(&self, kind: Kind, payload: Bytes) -> Result<Bytes, String> {
        match kind {
            Kind::Append => {
                let (age_ms, rpc): Append = codec::decode(&payload, PEER_FRAME_BYTES_MAX)?;
                let commit = rpc.leader_commit.map(|id| id.index);
                let answer = self.raft.append_entries(rpc).await.map_err(|err| err.to_string())?;
                if answer.is_success()
                    && let Some(age_ms) = age_ms
                {
                    self.heard_from_leader(age_ms, commit);
                }
                Ok(codec::encode(&answer).into())
            }
            Kind::Vote | Kind::PreVote => {
                let rpc: VoteRequest<TypeConfig> = codec::decode(&payload, PEER_FRAME_BYTES_MAX)?;
                let answer = match kind {
                    Kind::Vote => self.raft.vote(rpc).await,
                    _ => self.raft.pre_vote(rpc).await,
                };
                answer.map(|answer| codec::encode(&answer).into()).map_err(|err| err.to_string())
            }
            Kind::TransferLeader => {
                let rpc: TransferLeaderRequest<TypeConfig> =
                    codec::decode(&payload, PEER_FRAME_BYTES_MAX)?;
                let answer =
                    self.raft.handle_transfer_leader(rpc).await.map_err(|err| err.to_string())?;
                Ok(codec::encode(&answer).into())
            }
            other => Err(format!("{other:?} is not a message of consensus")),
        }
    }

    /// Hands over a snapshot that was received from a leader; returns the encoded answer.
    pub(super) async fn install(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        data: SnapshotData,
    ) -> Result<Bytes, String> {
        let snapshot = openraft::storage::Snapshot { meta, snapshot: data };
        let answer =
            self.raft.install_full_snapshot(vote, snapshot).await.map_err(|err| err.to_string())?;
        Ok(codec::encode(&answer).into())
    }

    /// Notes that a leader, `age_ms` after a quorum last acknowledged it, told its commit index.
    fn heard_from_leader(&self, age_ms: u64, commit: Option<u64>) {
        let told_ms = self.clock.now_ms().saturating_sub(age_ms);
        let mut freshness = self.freshness.lock();
        self.settle(&mut freshness);
        if freshness.heard.is_none() {
            freshness.heard = Some((told_ms, commit));
        }
        self.settle(&mut freshness);
    }

    fn settle(&self, freshness: &mut Freshness) {
        if let Some((at_ms, commit)) = freshness.heard
            && self.applied_index() >= commit
        {
            freshness.fresh_at_ms = freshness.fresh_at_ms.max(Some(at_ms));
            freshness.heard = None;
        }
    }

    /// Returns for how long, ms, this node's state may have been out of date: the time since a quorum last confirmed it as
    /// leader, or last confirmed the leader that told it a commit index that it has applied. `None` when that never happened.
    pub fn age_ms(&self) -> Option<u64> {
        let acked = self.quorum_ack_age_ms();
        if self.is_leading() {
            return acked;
        }
        let mut freshness = self.freshness.lock();
        self.settle(&mut freshness);
        freshness.fresh_at_ms.map(|at_ms| self.clock.now_ms().saturating_sub(at_ms))
    }

    /// Returns how long ago, ms, a quorum last acknowledged this node as leader; `None` when it does not lead.
    pub fn quorum_ack_age_ms(&self) -> Option<u64> {
        quorum_ack_age_ms(&self.raft)
    }

    fn is_leading(&self) -> bool {
        self.raft.is_leader()
    }

    fn applied_index(&self) -> Option<u64> {
        self.raft.data_metrics().borrow_watched().last_applied.map(|id| id.index)
    }

    /// Returns the term of the last entry that is applied here.
    pub fn applied_term(&self) -> Option<u64> {
        self.raft
            .data_metrics()
            .borrow_watched()
            .last_applied
            .map(|id| id.committed_leader_id().term)
    }

    /// Returns how to reach a member, as far as this node's membership tells.
    pub fn member(&self, node: NodeId) -> Option<Member> {
        self.raft
            .server_metrics()
            .borrow_watched()
            .membership_config
            .membership()
            .get_node(&node)
            .cloned()
    }

    /// Returns whether the node is part of the membership that this node knows.
    pub fn is_member(&self, node: NodeId) -> bool {
        self.member(node).is_some()
    }

    /// Returns the cluster as this node sees it; only a leader knows `matched` and `lag`. Identity, zxid and digest are left
    /// empty.
    pub fn status(&self) -> ClusterStatus {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        let members = membership
            .nodes()
            .map(|(node, member)| {
                let matched = match &metrics.replication {
                    Some(_) if *node == metrics.id => metrics.last_log_index,
                    Some(replication) => replication.get(node).and_then(|id| id.map(|id| id.index)),
                    None => None,
                };
                let lag = matched
                    .map(|matched| metrics.last_log_index.unwrap_or(0).saturating_sub(matched));
                MemberStatus { member: member.clone(), voter: voters.contains(node), matched, lag }
            })
            .collect();
        ClusterStatus {
            cluster_id: None,
            node: metrics.id,
            leader: metrics.current_leader,
            term: metrics.current_term,
            state: match metrics.state {
                _ if metrics.running_state.is_err() => "stopped",
                ServerState::Leader => "leader",
                ServerState::Follower => "follower",
                ServerState::Candidate => "candidate",
                ServerState::Learner => "learner",
                ServerState::Shutdown => "stopped",
            },
            members,
            last_log: metrics.last_log_index,
            committed: metrics.local_committed.map(|id| id.index),
            applied: metrics.last_applied.map(|id| id.index),
            snapshot: metrics.snapshot.map(|id| id.index),
            purged: metrics.purged.map(|id| id.index),
            zxid: Zxid::default(),
            digest: Digest::default(),
        }
    }

    /// Returns whether this node has ever been part of a cluster.
    pub async fn is_initialized(&self) -> Result<bool, Refused> {
        self.raft.is_initialized().await.map_err(|_| Refused::Stopped)
    }

    /// Bootstraps a cluster of these voters. Done on one of them, once.
    pub async fn initialize(&self, members: BTreeMap<NodeId, Member>) -> Result<(), Refused> {
        match self.raft.initialize(members).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(err)) => Err(Refused::Invalid(err.to_string())),
            Err(RaftError::Fatal(_)) => Err(Refused::Stopped),
        }
    }

    /// Adds a learner and waits until it has the log.
    pub async fn add_learner(&self, member: Member) -> Result<(), Refused> {
        self.raft
            .add_learner(member.node, member, true)
            .await
            .map(drop)
            .map_err(|err| refused(&err))
    }

    /// Makes a learner a voter.
    pub async fn promote(&self, node: NodeId) -> Result<(), Refused> {
        let change = openraft::ChangeMembers::AddVoterIds(BTreeSet::from([node]));
        self.raft.change_membership(change, false).await.map(drop).map_err(|err| refused(&err))
    }

    /// Removes a voter or learner.
    pub async fn remove(&self, node: NodeId) -> Result<(), Refused> {
        let is_voter = self.raft.voter_ids().any(|voter| voter == node);
        let change = match is_voter {
            true => openraft::ChangeMembers::RemoveVoters(BTreeSet::from([node])),
            false => openraft::ChangeMembers::RemoveNodes(BTreeSet::from([node])),
        };
        self.raft.change_membership(change, false).await.map(drop).map_err(|err| refused(&err))
    }

    /// Hands leadership to a voter and waits, at most for some elections, until it leads.
    pub async fn transfer(&self, node: NodeId) -> Result<(), Refused> {
        if !self.raft.voter_ids().any(|voter| voter == node) {
            return Err(Refused::Invalid(format!("node {node} is not a voter of this cluster")));
        }
        self.raft.trigger().transfer_leader(node).await.map_err(|_| Refused::Stopped)?;
        let mut leadership = self.leadership();
        let leads = leadership.wait_for(|now| now.leader == Some(node));
        match tokio::time::timeout(Duration::from_secs(5), leads).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Refused::Stopped),
            Err(_) => Err(Refused::Invalid(format!(
                "node {node} did not take over: it may be down or far behind"
            ))),
        }
    }

    /// Stands for election now instead of after the election timeout.
    pub async fn campaign(&self) -> Result<(), Refused> {
        self.raft.trigger().elect(true).await.map_err(|_| Refused::Stopped)
    }

    /// Asks for a snapshot; it is built in the background.
    pub async fn snapshot(&self) -> Result<(), Refused> {
        self.raft.trigger().snapshot().await.map_err(|_| Refused::Stopped)
    }

    /// Stops consensus on this node and waits for it.
    pub async fn shutdown(&self) {
        // Its tasks may have ended already after a fatal error, which is as good.
        let _ = self.raft.shutdown().await;
    }

    /// Returns why consensus has stopped by itself, if it has.
    pub fn fatal(&self) -> Option<String> {
        self.raft.metrics().borrow_watched().running_state.as_ref().err().map(ToString::to_string)
    }
}

fn refusal(err: &ClientWriteError<TypeConfig>) -> Refused {
    match err {
        ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_) => {
            Refused::NotLeader
        }
        other => Refused::Invalid(other.to_string()),
    }
}

fn refused(err: &RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Refused {
    match err {
        RaftError::APIError(err) => refusal(err),
        RaftError::Fatal(_) => Refused::Stopped,
    }
}

/// Mirrors openraft's metrics into a channel that holds only who leads.
fn follow_leadership(raft: &Raft) -> latest::Receiver<Leadership> {
    let mut metrics = raft.server_metrics();
    let read = |metrics: &openraft::metrics::RaftServerMetrics<TypeConfig>| Leadership {
        term: metrics.vote.leader_id.term,
        leader: metrics.current_leader,
    };
    let (present, leadership) = latest::channel(read(&metrics.borrow_watched()));
    tokio::spawn(async move {
        while metrics.changed().await.is_ok() {
            let now = read(&metrics.borrow_watched());
            present.send_if_modified(|old| std::mem::replace(old, now) != now);
        }
    });
    leadership
}
