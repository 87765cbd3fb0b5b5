//! Linearizable reads by read index, many per round.
//!
//! A reader needs to know how far it must have applied so that its read is not older than any write that was acknowledged
//! before it began. Only a leader that a quorum has confirmed during the read can say. Readers that arrive while a round
//! is on its way share the next one, so that the cost is per round and not per read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::peers::Peers;
use super::stage::Stage;
use crate::latest;
use crate::limits::READ_WAITERS_MAX;
use crate::peer::Kind;
use crate::raft::{Consensus, Leadership, Refused};
use crate::types::Error;

/// Rounds on their way at once: a second one starts while the first waits for the network.
const ROUNDS_MAX: usize = 4;
/// Pause before a round is tried again, when no leadership change comes first.
const RETRY: Duration = Duration::from_millis(10);
/// How long one attempt waits for a remote leader's answer.
const ATTEMPT: Duration = Duration::from_secs(1);

type Waiter = oneshot::Sender<u64>;

/// Asks for read indexes. A clone is cheap.
#[derive(Clone)]
pub(super) struct Barrier {
    queue: mpsc::Sender<Waiter>,
}

impl Barrier {
    /// Returns how many readers wait in the queue.
    pub(super) fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Returns the log index up to which a read that begins now must have applied. Waits for as long as there is no leader;
    /// the caller bounds the time.
    pub(super) async fn read_index(&self) -> Result<u64, Error> {
        let (waiter, index) = oneshot::channel();
        match self.queue.try_send(waiter) {
            Ok(()) => index.await.map_err(|_| Error::Stopping),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Error::Busy {
                what: "the node's queue of linearizable reads",
                retry_after_ms: 100,
            }),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Error::Stopping),
        }
    }
}

/// Starts the task that runs the rounds.
pub(super) fn start(
    stage: Arc<Stage>,
    consensus: Consensus,
    peers: Arc<Peers>,
    stop: CancellationToken,
) -> (Barrier, impl Future<Output = ()>) {
    let (queue, mut waiting) = mpsc::channel::<Waiter>(READ_WAITERS_MAX);
    let rounds = Arc::new(Semaphore::new(ROUNDS_MAX));
    let run = async move {
        loop {
            let Ok(permit) = rounds.clone().acquire_owned().await else { return };
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => None,
                first = waiting.recv() => first,
            };
            let Some(first) = first else { return };
            let mut waiters = vec![first];
            while let Ok(more) = waiting.try_recv() {
                waiters.push(more);
            }
            let round =
                round(stage.clone(), consensus.clone(), peers.clone(), consensus.leadership());
            let stop = stop.clone();
            tokio::spawn(async move {
                if let Some(Ok(index)) = stop.run_until_cancelled(round).await {
                    for waiter in waiters {
                        // A reader that has gone away does not matter to the others.
                        let _ = waiter.send(index);
                    }
                }
                drop(permit);
            });
        }
    };
    (Barrier { queue }, run)
}

/// Tries until a leader has answered.
async fn round(
    stage: Arc<Stage>,
    consensus: Consensus,
    peers: Arc<Peers>,
    mut leadership: latest::Receiver<Leadership>,
) -> Result<u64, Error> {
    loop {
        let leader = leadership.borrow_and_update().leader;
        let attempt = match leader {
            None => None,
            Some(leader) if leader == stage.node => match consensus.read_index().await {
                Err(Refused::Stopped) => return Err(Error::Stopping),
                answer => answer.ok(),
            },
            Some(leader) => {
                let answer = peers.call(leader, Kind::ReadIndex, Bytes::new(), ATTEMPT).await.ok();
                answer.and_then(|answer| Some(u64::from_le_bytes(answer.as_ref().try_into().ok()?)))
            }
        };
        if let Some(index) = attempt {
            return Ok(index);
        }
        tokio::select! {
            biased;
            changed = leadership.changed() => changed.map_err(|_| Error::Stopping)?,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}
