//! What a node refuses before the log, at whichever door it came in: policies that are none, and writes that a policy of
//! admission forbids. It asks the policies of this node's own state, so one that is set holds for a node from the moment at
//! which that has applied it.

use super::Node;
use crate::policy::{self, Denial, Proposed};
use crate::tree::{Lifetime, Tree};
use crate::types::{AclId, Error, Op};

impl Node {
    /// Returns whether somebody may propose an op. Errors: `Invalid` and `Forbidden`.
    pub(super) fn admit(&self, authority: &[AclId], op: &Op) -> Result<(), Error> {
        match op {
            Op::Multi(ops) => {
                let root = self.inner.stage.root();
                let mut ops = ops.iter().enumerate();
                ops.try_for_each(|(index, op)| {
                    admit_one(&root, authority, op, u32::try_from(index).ok())
                })
            }
            Op::Create { .. } | Op::SetData { .. } | Op::SetOwn { .. } => {
                admit_one(&self.inner.stage.root(), authority, op, None)
            }
            _ => Ok(()),
        }
    }
}

fn admit_one(
    root: &Tree,
    authority: &[AclId],
    op: &Op,
    multi_index: Option<u32>,
) -> Result<(), Error> {
    let (path, data, is_folder, mode) = match op {
        Op::Create { parent, name, data, mode, .. } => {
            let parent = if parent.is_root() { "" } else { parent.as_str() };
            // Which number it gets is not known yet, and no matter to a pattern.
            let number = if mode.is_sequential() { "0000000000" } else { "" };
            let has_data = data.as_ref().is_some_and(|data| !data.is_empty());
            let is_folder = !has_data && !mode.is_ephemeral();
            (format!("{parent}/{name}{number}"), data, is_folder, Some(mode))
        }
        Op::SetData { path, data, .. } | Op::SetOwn { path, data } => {
            (path.as_str().to_owned(), data, false, None)
        }
        _ => return Ok(()),
    };
    let data = data.as_deref();
    let ends = || match (mode, root.get(&path)) {
        (Some(mode), _) => mode.ttl_ms().is_some(),
        (None, Some(znode)) => matches!(znode.lifetime(), Lifetime::Ttl { .. }),
        // It is made in the same transaction, which is judged there, or there is nothing to set.
        (None, None) => true,
    };
    policy::check_write(&path, data, ends)
        .map_err(|wrong| Error::Invalid { why: wrong.to_string(), multi_index })?;
    let proposed = Proposed { path: &path, data, is_folder, authority };
    match policy::denial(root.policies(), &proposed) {
        None => Ok(()),
        Some(Denial { rule, why, is_enforced: true }) => {
            tracing::info!(rule, path, ?authority, why, "a policy forbids a write");
            Err(Error::Forbidden { rule, why, multi_index })
        }
        Some(Denial { rule, why, .. }) => {
            tracing::info!(
                rule,
                path,
                ?authority,
                why,
                "a policy that observes would forbid a write"
            );
            Ok(())
        }
    }
}
