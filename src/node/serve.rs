//! What this node does with what its peers send.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::cluster::{self, Membership};
use super::{Node, drain, followers, forward, liveness, protection};
use crate::node::batcher::BatcherHandle;
use crate::peer::{Admission, Handler, Hello, Kind, StreamReceiver, StreamSender};
use crate::raft::{self, Snapshots};

/// Lets in whoever belongs to this node's cluster. A node that belongs to none lets in everyone who knows the secret, but
/// only to be asked to join.
pub(super) struct Doorkeeper {
    pub(super) membership: Membership,
}

impl Admission for Doorkeeper {
    fn admit(&self, hello: &Hello) -> Result<(), String> {
        match self.membership.cluster_id() {
            Some(own) if hello.cluster != own => Err(format!(
                "this node belongs to cluster {own:032x}, the caller to {:032x}: correct the address or the configuration",
                hello.cluster
            )),
            _ => Ok(()),
        }
    }
}

/// Dispatches by kind.
pub(super) struct Dispatch {
    pub(super) node: Arc<OnceLock<Node>>,
    pub(super) batcher: BatcherHandle,
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) membership: Membership,
}

impl Dispatch {
    /// Returns the node once it may take part in what the caller's cluster does: when it has started and belongs to it. A
    /// connection may be older than this node's membership, and then nobody has compared the two.
    fn member(&self, caller: &Hello) -> Result<Node, String> {
        let node = self.node.get().cloned().ok_or("this node is still starting")?;
        match self.membership.cluster_id() {
            Some(own) if own == caller.cluster => Ok(node),
            Some(own) => Err(format!("this node belongs to cluster {own:032x}")),
            None => Err(
                "this node belongs to no cluster: if its disk was lost, remove it and let it join under a new id".into()
            ),
        }
    }
}

impl Handler for Dispatch {
    fn call(
        &self,
        caller: &Hello,
        kind: Kind,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        let member = self.member(caller);
        let from = caller.from;
        match kind {
            Kind::Append | Kind::Vote | Kind::PreVote | Kind::TransferLeader => {
                async move { member?.consensus().serve(kind, payload).await }.boxed()
            }
            Kind::ReadIndex => async move {
                let index = member?
                    .consensus()
                    .read_index()
                    .await
                    .map_err(|refused| refused.to_string())?;
                Ok(Bytes::copy_from_slice(&index.to_le_bytes()))
            }
            .boxed(),
            Kind::Touch => async move { liveness::serve_report(&member?, &payload).await }.boxed(),
            Kind::Lost => {
                std::future::ready(member.and_then(|it| liveness::serve_lost(&it, &payload)))
                    .boxed()
            }
            Kind::Told => {
                std::future::ready(member.and_then(|it| drain::serve_told(&it, &payload))).boxed()
            }
            Kind::Followers => {
                std::future::ready(member.and_then(|it| followers::serve_followers(&it, &payload)))
                    .boxed()
            }
            Kind::Silent => {
                std::future::ready(member.and_then(|it| protection::serve_silent(&it, &payload)))
                    .boxed()
            }
            Kind::Status => async move { cluster::serve(&member?, &payload).await }.boxed(),
            Kind::Join => {
                let membership = self.membership.clone();
                async move { membership.serve_join(from, &payload).await }.boxed()
            }
            Kind::Submit | Kind::Snapshot => {
                std::future::ready(Err(format!("{kind:?} is a stream, not a call"))).boxed()
            }
        }
    }

    fn stream(
        &self,
        caller: &Hello,
        kind: Kind,
        sender: StreamSender,
        receiver: StreamReceiver,
    ) -> BoxFuture<'static, ()> {
        let member = self.member(caller);
        let from = caller.from;
        let batcher = self.batcher.clone();
        let snapshots = self.snapshots.clone();
        async move {
            let outcome = match (member, kind) {
                (Ok(_), Kind::Submit) => {
                    // Kept until the end: dropping it would tell the origin that the lane is broken.
                    let _open = sender;
                    forward::receive(batcher, receiver).await;
                    Ok(())
                }
                (Ok(node), Kind::Snapshot) => {
                    raft::receive_snapshot(snapshots, node.consensus().clone(), sender, receiver)
                        .await
                }
                (Ok(_), other) => Err(format!("{other:?} is a call, not a stream")),
                (Err(why), _) => Err(why),
            };
            if let Err(why) = outcome {
                tracing::warn!(from, ?kind, %why, "a stream from a peer failed");
            }
        }
        .boxed()
    }
}
