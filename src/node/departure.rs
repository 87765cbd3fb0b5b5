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
        let enforced = shortest(&root, session, Mode::Enforce);
        let observed = shortest(&root, session, Mode::Observe);
        if enforced.is_none() && observed.is_none() {
            return;
        }
        let now_ms = self.inner.stage.clock.now_ms();
        let steady_ms = self.inner.reports.steady_ms(now_ms);
        if steady_ms < u64::from(timeout_ms) {
            tracing::debug!(%session, steady_ms, "its connection has ended, perhaps because of this node");
            return;
        }
        if let Some((grace_ms, policy, path)) = observed {
            let why = format!("its session would live on for {grace_ms} ms only");
            self.note_observed(&root, session, (DISCONNECT, path.as_str()), policy, why);
        }
        if let Some((grace_ms, ..)) = enforced {
            self.inner.reports.lose(Lost { session, owner, grace_ms });
        }
    }
}

/// What is observed, as the audit says it.
const DISCONNECT: &str = "disconnect";

/// Returns the shortest grace, ms, that a policy has for what a session owns, if any has. Cost: O(its ephemerals), bounded.
pub fn grace_ms(tree: &Tree, session: SessionId) -> Option<u32> {
    shortest(tree, session, Mode::Enforce).map(|(grace_ms, ..)| grace_ms)
}

/// Returns the shortest grace, ms, that a policy in this mode has for what a session owns, the policy, and the znode.
fn shortest(tree: &Tree, session: SessionId, mode: Mode) -> Option<(u32, &str, &ZnodePath)> {
    let policies = tree.policies();
    if policies.has_none(Kind::Disconnect) {
        return None;
    }
    let of_path = |path| {
        let (name, policy) = policies.prevailing(Kind::Disconnect, ZnodePath::as_str(path))?;
        match policy.terms {
            Terms::Disconnect(disconnect) if policy.mode == mode => {
                Some((disconnect.grace_ms, &**name, path))
            }
            _ => None,
        }
    };
    let graces = tree.ephemerals(session).take(EPHEMERALS_SEEN_MAX).filter_map(of_path);
    graces.min_by_key(|(grace_ms, ..)| *grace_ms)
}
