//! What a node refuses, at whichever door it came in: before the log policies that are none, and writes that a policy of
//! admission forbids; before anything is installed, to follow what such a policy forbids. It asks the policies of this node's own state, so one that is set holds for a node from the moment at
//! which that has applied it.

use std::sync::atomic::Ordering;

use super::Node;
use super::audit::Denied;
use crate::policy::{self, Asked, Denial, Proposed, Reach};
use crate::traffic::{DRAINS, LOSSES, SUSPECTS};
use crate::tree::{Lifetime, Tree, is_health_note};
use crate::types::{AclId, Error, Op, SessionId};
use crate::watch::{WatchKind, WatchMode};

/// What a denial is of, as the audit and the log say it.
const WRITE: &str = "write";
const SUBSCRIBE: &str = "subscribe";

/// Returns what a subscriber of this kind hears of.
pub fn reach_of(kind: WatchKind) -> Reach {
    match kind {
        WatchKind::Data => Reach::Znode,
        WatchKind::Children => Reach::Children,
        WatchKind::ChildrenData => Reach::Entries,
        WatchKind::Subtree => Reach::Subtree,
    }
}

/// Returns what a connection hears of by a watch of this mode.
pub(super) fn reach_of_watch(mode: WatchMode) -> Reach {
    match mode {
        WatchMode::Data => Reach::Znode,
        WatchMode::Child | WatchMode::Persistent => Reach::Children,
        WatchMode::Recursive => Reach::Subtree,
    }
}

impl Node {
    /// Returns whether somebody may propose an op, and notes it in the audit when a policy speaks against it. Errors: `Invalid`
    /// and `Forbidden`.
    pub(super) fn admit(
        &self,
        session: SessionId,
        authority: &[AclId],
        op: &Op,
    ) -> Result<(), Error> {
        let stage = &self.inner.stage;
        let note = |root: &Tree, path: &str, denial: &Denial| {
            self.note_denial(root, session, authority, (WRITE, path), denial);
        };
        match op {
            Op::Multi(ops) => {
                let root = stage.root();
                let mut ops = ops.iter().enumerate();
                ops.try_for_each(|(index, op)| {
                    admit_one(&root, authority, op, u32::try_from(index).ok(), &note)
                })
            }
            Op::Create { .. } | Op::SetData { .. } | Op::SetOwn { .. } => {
                admit_one(&stage.root(), authority, op, None, &note)
            }
            _ => Ok(()),
        }
    }

    /// Returns whether somebody may follow a path, and notes it when a policy speaks against it. Error: `Forbidden`.
    pub fn admit_subscription(
        &self,
        session: SessionId,
        authority: &[AclId],
        path: &str,
        reach: Reach,
    ) -> Result<(), Error> {
        let root = self.inner.stage.root();
        let asked = Asked { path, reach, authority };
        let Some(denial) = policy::following_denial(root.policies(), &asked) else {
            return Ok(());
        };
        self.note_denial(&root, session, authority, (SUBSCRIBE, path), &denial);
        let Denial { rule, why, is_enforced } = denial;
        if is_enforced { Err(Error::Forbidden { rule, why, multi_index: None }) } else { Ok(()) }
    }

    /// Notes what a policy that observes would have done: at a znode, as the audit names it.
    pub(super) fn note_observed(
        &self,
        root: &Tree,
        session: SessionId,
        did: (&'static str, &str),
        policy: &str,
        why: String,
    ) {
        let observed = Denial { rule: policy.to_owned(), why, is_enforced: false };
        self.note_denial(root, session, &[], did, &observed);
    }

    /// Counts a denial and notes it in the audit and in the log.
    fn note_denial(
        &self,
        root: &Tree,
        session: SessionId,
        authority: &[AclId],
        (op, path): (&'static str, &str),
        Denial { rule, why, is_enforced }: &Denial,
    ) {
        let stage = &self.inner.stage;
        let (rule, why, is_enforced) = (rule.as_str(), why.as_str(), *is_enforced);
        let counter = match is_enforced {
            true => &stage.counters.denied,
            false => &stage.counters.observed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let denied = Denied { authority, op, path, rule, why, is_enforced };
        stage.audit.denied((root.zxid(), stage.clock.wall_ms()), session, &denied);
        match is_enforced {
            true => tracing::info!(op, rule, path, ?authority, why, "a policy forbids it"),
            false => tracing::info!(op, rule, path, ?authority, why, "a policy only observes it"),
        }
    }
}

fn admit_one(
    root: &Tree,
    authority: &[AclId],
    op: &Op,
    multi_index: Option<u32>,
    note: &dyn Fn(&Tree, &str, &Denial),
) -> Result<(), Error> {
    let (path, data, is_folder, is_ttl) = match op {
        Op::Create { parent, name, data, mode, .. } => {
            let parent = if parent.is_root() { "" } else { parent.as_str() };
            // Which number it gets is not known yet, and no matter to a pattern. One that could be a port is as good to read.
            let number = if mode.is_sequential() { "0000000001" } else { "" };
            let has_data = data.as_ref().is_some_and(|data| !data.is_empty());
            let is_folder = !has_data && !mode.is_ephemeral();
            (format!("{parent}/{name}{number}"), data, is_folder, mode.ttl_ms().is_some())
        }
        Op::SetData { path, data, .. } | Op::SetOwn { path, data } => {
            let lifetime = root.get(path.as_str()).map(|znode| znode.lifetime());
            let is_ttl = matches!(lifetime, Some(Lifetime::Ttl { .. }));
            (path.as_str().to_owned(), data, false, is_ttl)
        }
        _ => return Ok(()),
    };
    let is_super = authority.iter().any(|id| id.scheme == "super");
    let is_below = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
    let is_note = [DRAINS, SUSPECTS, LOSSES].into_iter().any(is_below) || is_health_note(&path);
    if is_note && !is_super {
        // What a note means is done by the leader, whom no list keeps from it.
        let why = "path: what lies here is noted by the registry itself; an instance is let leave by POST /v1/drain";
        return Err(Error::Invalid { why: why.to_owned(), multi_index });
    }
    let data = data.as_deref();
    policy::check_write(&path, data, is_ttl)
        .map_err(|wrong| Error::Invalid { why: wrong.to_string(), multi_index })?;
    let proposed = Proposed { path: &path, data, is_folder, authority };
    let Some(denial) = policy::denial(root.policies(), &proposed) else { return Ok(()) };
    note(root, &path, &denial);
    let Denial { rule, why, is_enforced } = denial;
    if is_enforced { Err(Error::Forbidden { rule, why, multi_index }) } else { Ok(()) }
}
