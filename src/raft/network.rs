use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::consensus::quorum_ack_age_ms;
use super::snapshot::{self, SnapshotData};
use super::typ::{Raft, Snapshot, TypeConfig, Vote};
use crate::codec;
use crate::limits::PEER_FRAME_BYTES_MAX;
use crate::peer::{Kind, Peer};
use crate::types::{Member, NodeId};

/// How long a follower may take to store entries. openraft would allow one heartbeat interval, after which it sends the same
/// again: behind a slow link or disk nothing would ever be acknowledged. A dead connection is noticed sooner than this.
const APPEND_PATIENCE: Duration = Duration::from_secs(10);

type Rpc<T> = Result<T, RPCError<TypeConfig>>;

/// Makes connections to the other members; each call gives a connection of its own.
pub type Dial = Arc<dyn Fn(NodeId, &str) -> Peer + Send + Sync>;

/// How consensus reaches its peers.
pub struct Network {
    dial: Dial,
    raft: Arc<OnceLock<Raft>>,
}

/// What goes to a follower: a leader's message, and how long ago, ms, a quorum last acknowledged that leader. One that was
/// cut off together with its leader must not believe that it is up to date.
pub(super) type Append = (Option<u64>, AppendEntriesRequest<TypeConfig>);

impl Network {
    /// Returns a network that connects by the given function.
    pub fn new(dial: Dial) -> Network {
        Network { dial, raft: Arc::default() }
    }

    /// Returns where the node that speaks is put once it has started.
    pub(super) fn raft(&self) -> Arc<OnceLock<Raft>> {
        self.raft.clone()
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: NodeId, member: &Member) -> Link {
        Link { peer: (self.dial)(target, &member.peer_addr), raft: self.raft.clone() }
    }
}

/// One connection to one peer. openraft asks for separate ones for replication, heartbeats and snapshots.
pub struct Link {
    peer: Peer,
    raft: Arc<OnceLock<Raft>>,
}

impl Link {
    async fn call<A: DeserializeOwned>(
        &self,
        kind: Kind,
        rpc: &impl Serialize,
        patience: Duration,
    ) -> Rpc<A> {
        let answer =
            self.peer.call(kind, codec::encode(rpc).into(), patience).await.map_err(unreachable)?;
        codec::decode(&answer, PEER_FRAME_BYTES_MAX)
            .map_err(|why| Unreachable::from_string(why).into())
    }
}

/// Every failure counts as unreachable, which makes openraft back off: an immediate retry would storm a node that is down.
fn unreachable(err: crate::peer::PeerError) -> RPCError<TypeConfig> {
    Unreachable::from_string(err).into()
}

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<TypeConfig>> {
        let patience = if rpc.entries.is_empty() { option.hard_ttl() } else { APPEND_PATIENCE };
        let message: Append = (self.raft.get().and_then(quorum_ack_age_ms), rpc);
        self.call(Kind::Append, &message, patience).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        self.call(Kind::Vote, &rpc, option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        self.call(Kind::PreVote, &rpc, option.hard_ttl()).await
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        self.call(Kind::TransferLeader, &rpc, option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let sent = snapshot::send(&self.peer, vote, snapshot);
        let answer: Bytes = tokio::select! {
            biased;
            closed = cancel => return Err(closed.into()),
            answer = sent => answer.map_err(|why| StreamingError::Unreachable(Unreachable::from_string(why)))?,
        };
        codec::decode(&answer, PEER_FRAME_BYTES_MAX)
            .map_err(|why| StreamingError::Unreachable(Unreachable::from_string(why)))
    }
}
