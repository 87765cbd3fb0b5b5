//! What it means that a client has ended its connection.

use super::Node;
use super::liveness::Lost;
use crate::limits::EPHEMERALS_SEEN_MAX;
use crate::policy::{Kind, Mode, Terms};
use crate::tree::Tree;
use crate::types::{Owner, SessionId, ZnodePath};

impl Node {
    /// Notes that the client's side has ended the connection which a session belongs to. If a policy speaks of what the
    /// session owns, and this node was well for as long as the session's timeout, the leader leaves the session only the
    /// policy's grace. Source: nothing in ZooKeeper does this.
    pub fn connection_lost(&self, session: SessionId, owner: Owner) {
        let root = self.local();
        let Some(timeout_ms) = root
            .session(session)
            .filter(|record| record.owner() == Some(owner))
            .map(|record| record.timeout_ms())
        else {
            return;
        };
        let Some(grace_ms) = grace_ms(&root, session) else { return };
        let now_ms = self.inner.stage.clock.now_ms();
        let steady_ms = self.inner.reports.steady_ms(now_ms);
        if steady_ms < u64::from(timeout_ms) {
            tracing::debug!(%session, steady_ms, "its connection has ended, perhaps because of this node");
            return;
        }
        self.inner.reports.lose(Lost { session, owner, grace_ms });
    }
}

/// Returns the shortest grace, ms, that a policy has for what a session owns, if any has. Cost: O(its ephemerals), bounded.
pub fn grace_ms(tree: &Tree, session: SessionId) -> Option<u32> {
    let policies = tree.policies();
    if policies.has_none(Kind::Disconnect) {
        return None;
    }
    let of_path = |path: &ZnodePath| {
        let (_, policy) = policies.prevailing(Kind::Disconnect, path.as_str())?;
        match policy.terms {
            Terms::Disconnect(disconnect) if policy.mode == Mode::Enforce => {
                Some(disconnect.grace_ms)
            }
            _ => None,
        }
    };
    tree.ephemerals(session).take(EPHEMERALS_SEEN_MAX).filter_map(of_path).min()
}
