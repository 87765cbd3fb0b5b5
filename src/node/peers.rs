//! Connections to the other nodes for everything but consensus itself, one shared connection per node, made when needed.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::peer::{Identity, Kind, Net, Peer, PeerError, StreamReceiver, StreamSender};
use crate::raft::Consensus;
use crate::types::NodeId;

/// Makes and keeps the connections.
pub(super) struct Peers {
    net: Arc<dyn Net>,
    identity: Identity,
    stop: CancellationToken,
    /// Set once consensus runs; it knows the members' addresses.
    consensus: OnceLock<Consensus>,
    /// By node, with the address it was made for: a member that moved gets a new one.
    peers: Mutex<BTreeMap<NodeId, (String, Peer)>>,
}

impl Peers {
    pub(super) fn new(net: Arc<dyn Net>, identity: Identity, stop: CancellationToken) -> Peers {
        Peers { net, identity, stop, consensus: OnceLock::new(), peers: Mutex::default() }
    }

    pub(super) fn set_consensus(&self, consensus: Consensus) {
        let first = self.consensus.set(consensus).is_ok();
        assert!(first, "a node starts consensus once");
    }

    /// Makes a connection of its own to a node at an address.
    pub(super) fn dial(&self, node: NodeId, addr: &str) -> Peer {
        Peer::new(self.net.clone(), self.identity.clone(), node, addr, &self.stop)
    }

    fn peer(&self, node: NodeId) -> Result<Peer, PeerError> {
        let member = self.consensus.get().and_then(|consensus| consensus.member(node));
        let addr = member
            .ok_or_else(|| PeerError::Unreachable(format!("node {node} is not a member")))?
            .peer_addr;
        let mut peers = self.peers.lock();
        match peers.get(&node) {
            Some((known, peer)) if *known == addr => Ok(peer.clone()),
            _ => {
                let peer = self.dial(node, &addr);
                peers.insert(node, (addr, peer.clone()));
                Ok(peer)
            }
        }
    }

    /// Calls a member.
    pub(super) async fn call(
        &self,
        node: NodeId,
        kind: Kind,
        payload: Bytes,
        patience: Duration,
    ) -> Result<Bytes, PeerError> {
        self.peer(node)?.call(kind, payload, patience).await
    }

    /// Opens a stream to a member, on a connection of its own.
    pub(super) async fn open_stream(
        &self,
        node: NodeId,
        kind: Kind,
    ) -> Result<(StreamSender, StreamReceiver), PeerError> {
        self.peer(node)?.open_stream(kind).await
    }
}
