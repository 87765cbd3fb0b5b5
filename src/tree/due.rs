use super::{Tree, Znode};
use crate::types::{Event, Reply, ZnodePath};

impl Tree {
    /// Returns up to `limit` container and TTL znodes that may be deleted at this time of the cluster's
    /// clock, in path order: what a `Reap` should name. Those that have been due longest come first under
    /// the limit. Cost: O(limit · log limit).
    pub fn reapable(&self, cluster_ms: u64, limit: usize) -> Vec<ZnodePath> {
        let due = self.due.iter().take_while(|(due_ms, _)| *due_ms <= cluster_ms);
        let mut paths: Vec<_> = due.take(limit).map(|(_, path)| path.clone()).collect();
        paths.sort();
        paths
    }

    /// Returns the time of the cluster's clock from which some container or TTL znode may be deleted; 0
    /// when a container may be already. `None` when there is nothing to wait for. Cost: O(log n).
    pub fn next_due_ms(&self) -> Option<u64> {
        self.due.get_min().map(|(due_ms, _)| *due_ms)
    }

    /// Deletes those candidates that are due at the tree's own clock. What has got a child, new data or
    /// another lifetime since it was proposed stays. Built-in znodes are persistent, hence never due.
    pub(super) fn reap(&mut self, paths: &[ZnodePath], events: &mut Vec<Event>) -> Reply {
        let before = events.len();
        for path in paths {
            if self.get(path.as_str()).is_some_and(|znode| self.is_due(znode)) {
                events.extend(self.unlink(path));
            }
        }
        Reply::Removed { znodes: (events.len() - before) as u32 }
    }

    /// Returns whether the time of a container or TTL znode is over at the tree's own clock.
    pub(super) fn is_due(&self, znode: &Znode) -> bool {
        znode.due_ms().is_some_and(|due_ms| due_ms <= self.time.cluster_ms)
    }
}
