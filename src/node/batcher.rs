//! The leader's side of writing: puts everything that waits into one Raft entry as soon as that entry may go.
//!
//! There is no timer. An idle leader proposes a lone transaction at once. Beside an entry in flight the next one goes when it
//! carries at least as many transactions, or is full: so under load two entries of equal size are under way, one being
//! written while the other is answered, and what an entry costs (a commit on each node, two round trips) is shared by as
//! many transactions as possible. [`BATCHES_IN_FLIGHT_MAX`] bounds it.
//!
//! Transactions arrive in lanes, one per origin's stream (and one for the node's own). Order within a lane is kept. When an
//! entry is refused, all its lanes are broken: nothing more is taken from them, and each origin opens a new lane and sends
//! again from what it knows to be applied. What a broken lane has in flight behind the refused entry meets a gap in the
//! tree and is ignored there.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::batch;
use crate::limits::{BATCH_BYTES_MAX, BATCH_TXNS_MAX, BATCHES_IN_FLIGHT_MAX, LANE_CHUNKS_MAX};
use crate::raft::Consensus;

use super::stage::Stage;
use super::time::ClusterTime;

/// One ordered stream of transactions into the batcher.
#[derive(Clone)]
pub(super) struct Lane {
    broken: CancellationToken,
}

impl Lane {
    pub(super) fn new() -> Lane {
        Lane { broken: CancellationToken::new() }
    }

    /// Resolves once a transaction of this lane may have been lost.
    pub(super) async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Returns whether nothing more is taken from this lane.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_cancelled()
    }
}

struct Chunk {
    lane: Lane,
    txns: Vec<Bytes>,
}

/// The way in. A clone is cheap.
#[derive(Clone)]
pub(super) struct BatcherHandle {
    queue: mpsc::Sender<Chunk>,
}

impl BatcherHandle {
    /// Hands over transactions of a lane, waiting while the queue of [`LANE_CHUNKS_MAX`] chunks is full. Returns false when
    /// the node is stopping.
    pub(super) async fn push(&self, lane: &Lane, txns: Vec<Bytes>) -> bool {
        self.queue.send(Chunk { lane: lane.clone(), txns }).await.is_ok()
    }
}

/// Starts the batcher.
pub(super) fn start(
    stage: Arc<Stage>,
    consensus: Consensus,
    time: Arc<ClusterTime>,
    stop: CancellationToken,
) -> (BatcherHandle, impl Future<Output = ()>) {
    let (queue, chunks) = mpsc::channel(LANE_CHUNKS_MAX);
    (BatcherHandle { queue }, run(stage, consensus, chunks, time, stop))
}

async fn run(
    stage: Arc<Stage>,
    consensus: Consensus,
    mut chunks: mpsc::Receiver<Chunk>,
    time: Arc<ClusterTime>,
    stop: CancellationToken,
) {
    let mut in_flight = JoinSet::new();
    let mut pending = Pending::default();
    let mut latest_txns = 0;
    loop {
        while pending.has_room() {
            match chunks.try_recv() {
                Ok(chunk) => pending.add(chunk),
                Err(_) => break,
            }
        }
        let may_go = match in_flight.len() {
            0 => !pending.is_empty(),
            BATCHES_IN_FLIGHT_MAX.. => false,
            _ => pending.txns >= latest_txns || !pending.has_room(),
        };
        if !may_go {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                chunk = chunks.recv(), if pending.has_room() => match chunk {
                    Some(chunk) => pending.add(chunk),
                    None => return,
                },
                _ = in_flight.join_next(), if !in_flight.is_empty() => {}
            }
            continue;
        }
        let (txns, lanes) = pending.take_batch();
        if txns.is_empty() {
            continue;
        }
        latest_txns = txns.len();
        let encoded = batch::encode(time.now(), &txns);
        stage.counters.proposals.lock().size(encoded.len() as u64);
        let (stage, began_us) = (stage.clone(), stage.clock.now_micros());
        let proposal = consensus.propose(encoded).await;
        in_flight.spawn(async move {
            let accepted = match proposal {
                Ok(outcome) => outcome.await.is_ok(),
                Err(_) => false,
            };
            if accepted {
                let took_us = stage.clock.now_micros().saturating_sub(began_us);
                stage.counters.proposals.lock().took(took_us);
            }
            if !accepted {
                for lane in lanes {
                    lane.broken.cancel();
                }
            }
        });
    }
}

/// Transactions taken from the queue and not proposed yet, in order.
#[derive(Default)]
struct Pending {
    chunks: std::collections::VecDeque<Chunk>,
    txns: usize,
    bytes: usize,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Returns whether one entry could carry more than this.
    fn has_room(&self) -> bool {
        self.txns < BATCH_TXNS_MAX && self.bytes < BATCH_BYTES_MAX
    }

    fn add(&mut self, chunk: Chunk) {
        if chunk.lane.is_broken() {
            return;
        }
        self.txns += chunk.txns.len();
        self.bytes += chunk.txns.iter().map(Bytes::len).sum::<usize>();
        self.chunks.push_back(chunk);
    }

    /// Takes the first transactions up to the bounds of one entry, at least one, leaving out lanes that broke meanwhile.
    fn take_batch(&mut self) -> (Vec<Bytes>, Vec<Lane>) {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut lanes = Vec::new();
        while let Some(chunk) = self.chunks.front_mut() {
            let dropped = chunk.lane.is_broken();
            let room =
                |bytes: usize, txn: &Bytes| bytes == 0 || bytes + txn.len() <= BATCH_BYTES_MAX;
            let mut taken = 0;
            for txn in &chunk.txns {
                if !dropped && (batch.len() == BATCH_TXNS_MAX || !room(bytes, txn)) {
                    break;
                }
                self.txns -= 1;
                self.bytes -= txn.len();
                taken += 1;
                if !dropped {
                    bytes += txn.len();
                    batch.push(txn.clone());
                }
            }
            if taken > 0 && !dropped {
                lanes.push(chunk.lane.clone());
            }
            if taken < chunk.txns.len() {
                chunk.txns.drain(..taken);
                break;
            }
            self.chunks.pop_front();
        }
        (batch, lanes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(lane: &Lane, sizes: &[usize]) -> Chunk {
        Chunk {
            lane: lane.clone(),
            txns: sizes.iter().map(|size| Bytes::from(vec![0; *size])).collect(),
        }
    }

    #[test]
    fn a_batch_stops_at_its_bounds_and_the_rest_follows_in_order() {
        let lane = Lane::new();
        let mut pending = Pending::default();
        pending.add(chunk(&lane, &vec![1; BATCH_TXNS_MAX - 1]));
        pending.add(chunk(&lane, &[2, 3, 4]));
        assert_eq!(pending.take_batch().0.len(), BATCH_TXNS_MAX);
        let rest: Vec<usize> = pending.take_batch().0.iter().map(Bytes::len).collect();
        assert_eq!(rest, [3, 4]);
        assert!(pending.is_empty() && pending.txns == 0 && pending.bytes == 0);
    }

    #[test]
    fn a_transaction_larger_than_a_batch_goes_alone() {
        let lane = Lane::new();
        let mut pending = Pending::default();
        pending.add(chunk(&lane, &[1, BATCH_BYTES_MAX + 1, 1]));
        let sizes: Vec<usize> = (0..3).map(|_| pending.take_batch().0.len()).collect();
        assert_eq!(sizes, [1, 1, 1]);
    }

    #[test]
    fn nothing_is_taken_from_a_broken_lane() {
        let (broken, whole) = (Lane::new(), Lane::new());
        let mut pending = Pending::default();
        pending.add(chunk(&broken, &[1, 1]));
        pending.add(chunk(&whole, &[7]));
        broken.broken.cancel();
        pending.add(chunk(&broken, &[1]));
        let (txns, lanes) = pending.take_batch();
        assert_eq!((txns.len(), txns[0].len(), lanes.len()), (1, 7, 1));
        assert!(pending.is_empty() && pending.txns == 0 && pending.bytes == 0);
    }
}
