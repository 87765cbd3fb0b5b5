//! What a node counts of its own duties since its start, for those who watch it.

use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use super::Node;
use crate::types::{SessionId, Zxid};

/// How often something was done, how long that took in all, and how large it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    /// How often.
    pub count: u64,
    /// The time of all together, µs.
    pub us: u64,
    /// Bytes of the last, the smallest and the largest; `None` where there was none, or where they are not measured.
    pub bytes: Option<(u64, u64, u64)>,
}

impl Tasks {
    /// Notes the size of one.
    pub(super) fn size(&mut self, bytes: u64) {
        let (_, min, max) = self.bytes.unwrap_or((bytes, bytes, bytes));
        self.bytes = Some((bytes, min.min(bytes), max.max(bytes)));
    }

    /// Notes how long one took.
    pub(super) fn took(&mut self, us: u64) {
        self.count += 1;
        self.us += us;
    }
}

/// The counters themselves.
#[derive(Default)]
pub(super) struct Counters {
    /// Each time that this node came to know another leader, and for how long it knew none before.
    pub(super) elections: Mutex<Tasks>,
    /// The entries that it proposed as the leader and that were applied.
    pub(super) proposals: Mutex<Tasks>,
    /// Sessions that it ended as the leader.
    pub(super) expired: Mutex<u64>,
    /// What policies have denied here.
    pub(super) denied: AtomicU64,
    /// What policies that observe would have denied, or done.
    pub(super) observed: AtomicU64,
}

/// What a node has counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measures {
    /// Leaders that it came to know, and for how long it knew none before each.
    pub elections: Tasks,
    /// Entries that it proposed as the leader, until they were applied here.
    pub proposals: Tasks,
    /// Durable commits of the log.
    pub log_commits: Tasks,
    /// Snapshots of its state.
    pub snapshots: Tasks,
    /// The newest of these: the last transaction in it, and when it was done, ms since 1970.
    pub last_snapshot: Option<(Zxid, u64)>,
    /// Sessions that it ended as the leader because nobody had heard of them.
    pub expired: u64,
    /// Linearizable reads that wait for a read index.
    pub reads_waiting: usize,
    /// For how long it has led, ms; `None` while it does not.
    pub leading_ms: Option<u64>,
}

impl Measures {
    /// Returns the bytes of the last, the smallest and the largest entry that was proposed, while the node leads: -1 each before
    /// there is one.
    pub fn leading_proposal_bytes(&self) -> Option<(i64, i64, i64)> {
        let signed = |(last, min, max): (u64, u64, u64)| (last as i64, min as i64, max as i64);
        self.leading_ms.map(|_| self.proposals.bytes.map_or((-1, -1, -1), signed))
    }
}

impl Node {
    /// Returns when which sessions end unless they are heard of, ms of this node's monotonic clock, the earliest first. Nobody
    /// but the leader knows. Cost: O(sessions).
    pub fn deadlines(&self) -> Vec<(u64, Vec<SessionId>)> {
        if self.leadership().leader != Some(self.id()) {
            return Vec::new();
        }
        let expiry = self.inner.stage.expiry.lock();
        let all = expiry.deadlines();
        all.map(|(due_ms, sessions)| (due_ms, sessions.iter().copied().collect())).collect()
    }

    /// Returns what this node has counted since its start.
    pub fn measures(&self) -> Measures {
        let counters = &self.inner.stage.counters;
        let log = self.inner.wal.stats();
        let (snapshots, snapshot_us) = self.inner.snapshots.built();
        let leads = self.leadership().leader == Some(self.id());
        Measures {
            elections: *counters.elections.lock(),
            proposals: *counters.proposals.lock(),
            log_commits: Tasks { count: log.commits, us: log.commit_micros_sum, bytes: None },
            last_snapshot: self.inner.snapshots.last_built(),
            snapshots: Tasks { count: snapshots, us: snapshot_us, bytes: None },
            expired: *counters.expired.lock(),
            reads_waiting: self.inner.barrier.waiting(),
            leading_ms: leads.then(|| self.inner.membership.unchanged_for().as_millis() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tasks;

    #[test]
    fn sizes_are_the_last_the_smallest_and_the_largest() {
        let mut tasks = Tasks::default();
        for (bytes, expected) in [(5, (5, 5, 5)), (9, (9, 5, 9)), (7, (7, 5, 9)), (1, (1, 1, 9))] {
            tasks.size(bytes);
            assert_eq!(tasks.bytes, Some(expected));
        }
        tasks.took(3);
        tasks.took(4);
        assert_eq!((tasks.count, tasks.us), (2, 7));
    }
}
