//! What happened lately, for doors that tell of differences: which znodes went or changed, and how far the node has come.

use std::sync::Arc;

use super::Node;
use super::stage::Progress;
use crate::latest;
use crate::limits::DELTA_CHANGES_MAX;
use crate::types::{Event, ZnodePath, Zxid};
use crate::watch::Change;

impl Node {
    /// Returns the znodes that wanted events after this zxid are about, oldest first, each with the transaction. `None` when
    /// that is longer ago than this node remembers, or than it looks back for one answer. Cost: O(changes since).
    pub fn events_since(
        &self,
        since: Zxid,
        is_wanted: impl Fn(&Event) -> bool,
    ) -> Option<Vec<(Zxid, ZnodePath)>> {
        let changes: Vec<Arc<Change>> = {
            let audience = self.inner.stage.audience.lock();
            let changes = audience.hub.ring().since(since).ok()?;
            changes.take(DELTA_CHANGES_MAX + 1).cloned().collect()
        };
        if changes.len() > DELTA_CHANGES_MAX {
            return None;
        }
        let mut found = Vec::new();
        for change in &changes {
            let wanted = change.events().iter().filter(|event| is_wanted(event));
            found.extend(wanted.map(|event| (change.zxid(), event.path.clone())));
        }
        Some(found)
    }

    /// Returns the zxids that this node reaches from now on.
    pub fn zxids(&self) -> Zxids {
        Zxids { progress: self.inner.stage.progress(), last: Zxid(0) }
    }
}

/// The zxids that a node reaches, the present one first. Whoever is slow misses those in between.
pub struct Zxids {
    progress: latest::Receiver<Progress>,
    last: Zxid,
}

impl Zxids {
    /// Waits for a zxid above the last one. `None` when the node is gone. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Zxid> {
        loop {
            let zxid = self.progress.borrow_and_update().zxid;
            if zxid > self.last {
                self.last = zxid;
                return Some(zxid);
            }
            self.progress.changed().await.ok()?;
        }
    }
}
