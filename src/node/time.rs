//! The clocks: a node's own, and the cluster's, as the leader continues it.
//!
//! Every batch carries the latter. It goes on from where the applied state has it, at the pace of the leader's monotonic clock, so it
//! never goes back and a wall clock that jumps does not touch it. TTLs are decided by it, so while there are any the leader
//! writes it every few seconds even when nobody else writes (`expirer`).

use std::sync::Arc;

use parking_lot::Mutex;

use super::Node;
use super::stage::Stage;
use crate::latest;
use crate::raft::Leadership;
use crate::types::TxnTime;

/// Gives the time for batches.
pub(super) struct ClusterTime {
    stage: Arc<Stage>,
    leadership: latest::Receiver<Leadership>,
    anchor: Mutex<Anchor>,
}

/// Where this term's clock started.
#[derive(Default)]
struct Anchor {
    term: u64,
    cluster_ms: u64,
    now_ms: u64,
}

impl Node {
    /// Returns the wall clock, ms since 1970, for people to read.
    pub fn wall_ms(&self) -> u64 {
        self.inner.stage.clock.wall_ms()
    }

    /// Returns a monotonic time in µs, for measuring.
    pub fn now_micros(&self) -> u64 {
        self.inner.stage.clock.now_micros()
    }
}

impl ClusterTime {
    pub(super) fn new(stage: Arc<Stage>, leadership: latest::Receiver<Leadership>) -> ClusterTime {
        ClusterTime { stage, leadership, anchor: Mutex::default() }
    }

    /// Returns the time to put into a batch now.
    pub(super) fn now(&self) -> TxnTime {
        let clock = &self.stage.clock;
        let now_ms = clock.now_ms();
        let term = self.leadership.borrow().term;
        let mut anchor = self.anchor.lock();
        if anchor.term != term {
            *anchor = Anchor { term, cluster_ms: self.stage.root().cluster_ms(), now_ms };
        }
        TxnTime {
            wall_ms: clock.wall_ms(),
            cluster_ms: anchor.cluster_ms + now_ms.saturating_sub(anchor.now_ms),
        }
    }
}
