//! Who follows the children of a znode, on all nodes, and how far each has been told.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use serde::{Deserialize, Serialize};

use super::Node;
use crate::codec;
use crate::limits::{FOLLOWERS_MAX, PEER_PAYLOAD_BYTES_MAX};
use crate::peer::Kind;
use crate::types::{Event, EventKind, NodeId, SessionId, Stat, ZnodePath, Zxid};

/// How long a peer may take to answer.
const ASK_PATIENCE: Duration = Duration::from_secs(1);

/// One of those who follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follower {
    /// Through which node.
    pub node: NodeId,
    /// The session of a ZooKeeper client that watches; `None` for a stream.
    pub session: Option<SessionId>,
    /// It has been told of everything that concerns it up to here, at least.
    pub upto: Zxid,
}

/// All who follow, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followers {
    /// By node; streams first.
    pub all: Vec<Follower>,
    /// Whether a node has more than [`FOLLOWERS_MAX`].
    pub more: bool,
    /// Nodes that do not answer.
    pub unknown: Vec<NodeId>,
}

impl Node {
    /// Asks every member who follows the children of a znode. Cost: a call to each.
    pub async fn followers(&self, parent: &ZnodePath) -> Followers {
        let members = self.inner.consensus.status().members;
        let others = members.iter().map(|status| status.member.node).filter(|id| *id != self.id());
        let payload = Bytes::from(codec::encode(parent));
        let asked = join_all(others.map(|id| {
            let payload = payload.clone();
            async move {
                let kind = Kind::Followers;
                let answer = self.inner.peers.call(id, kind, payload, ASK_PATIENCE).await.ok();
                let decoded =
                    answer.map(|it| codec::decode::<Followers>(&it, PEER_PAYLOAD_BYTES_MAX));
                (id, decoded.and_then(Result::ok))
            }
        }));
        let mut all = asked.await;
        all.push((self.id(), Some(self.followers_here(parent))));
        all.sort_unstable_by_key(|(id, _)| *id);
        let mut sum = Followers::default();
        for (id, found) in all {
            match found {
                Some(found) => {
                    sum.all.extend(found.all);
                    sum.more |= found.more;
                }
                None => sum.unknown.push(id),
            }
        }
        sum
    }

    fn followers_here(&self, parent: &ZnodePath) -> Followers {
        // Whoever would be told of another child follows.
        let Ok(path) = parent.child("child") else { return Followers::default() };
        let (acl, parent_acl) = ([].into(), [].into());
        let (kind, stat) = (EventKind::Created, Stat::default());
        let event = Event { kind, path, data: None, stat, acl, parent_acl };
        let node = self.id();
        let audience = self.inner.stage.audience.lock();
        let at = self.inner.stage.root().zxid();
        let streams =
            audience.hub.audience(&[event]).into_iter().filter_map(|id| {
                Some(Follower { node, session: None, upto: audience.hub.told(id)? })
            });
        let lines = audience.lines.following(parent.as_str());
        let lines = lines.into_iter().map(|(session, waits)| {
            let upto = waits.map_or(at, |zxid| Zxid(zxid.0.saturating_sub(1)));
            Follower { node, session: Some(session), upto }
        });
        let mut all: Vec<Follower> = streams.chain(lines).take(FOLLOWERS_MAX + 1).collect();
        let more = all.len() > FOLLOWERS_MAX;
        all.truncate(FOLLOWERS_MAX);
        Followers { all, more, unknown: Vec::new() }
    }
}

/// Answers a peer that asks who follows.
pub(super) fn serve_followers(node: &Node, payload: &[u8]) -> Result<Bytes, String> {
    let parent: ZnodePath = codec::decode(payload, PEER_PAYLOAD_BYTES_MAX)?;
    Ok(codec::encode(&node.followers_here(&parent)).into())
}
