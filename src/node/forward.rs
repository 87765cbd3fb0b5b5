//! Carries this node's outbox to whoever leads: into its own batcher, or over one stream to the leader's.
//!
//! Whenever something may have been lost on the way (another leader or term, a broken lane, a closed stream, a gap that the
//! tree met) it starts over from the first transaction that is not applied here. The tree ignores what it has seen.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::sync::CancellationToken;

use super::batcher::{BatcherHandle, Lane};
use super::peers::Peers;
use super::stage::Stage;
use crate::batch;
use crate::latest;
use crate::limits::{CHUNK_BYTES_MAX, CHUNK_TXNS_MAX};
use crate::peer::{Kind, StreamReceiver, StreamSender};
use crate::raft::Leadership;

/// Pause before the same leader is tried again after a refusal: a new leader refuses until a quorum has confirmed it.
const RETRY: Duration = Duration::from_millis(10);
/// Pause before a stream is closed in which this node does not understand something.
const UNKNOWN_RETRY: Duration = Duration::from_secs(1);

/// Runs until the node stops.
pub(super) async fn run(
    stage: Arc<Stage>,
    batcher: BatcherHandle,
    peers: Arc<Peers>,
    mut leadership: latest::Receiver<Leadership>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let Leadership { leader, .. } = *leadership.borrow_and_update();
        let sending = async {
            match leader {
                None => std::future::pending().await,
                Some(leader) if leader == stage.node => feed(&stage, &batcher).await,
                Some(leader) => match peers.open_stream(leader, Kind::Submit).await {
                    Ok((sender, receiver)) => send(&stage, sender, receiver).await,
                    Err(why) => tracing::debug!(leader, %why, "cannot send writes to the leader"),
                },
            }
            tokio::time::sleep(RETRY).await;
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = leadership.changed() => if changed.is_err() { return },
            () = sending => {}
        }
    }
}

/// Feeds the own batcher until the lane breaks or a gap shows.
async fn feed(stage: &Stage, batcher: &BatcherHandle) {
    let lane = Lane::new();
    let feeding = async {
        loop {
            let chunk = next_chunk(stage).await;
            if !batcher.push(&lane, chunk).await {
                return;
            }
        }
    };
    start_over(stage);
    tokio::select! {
        biased;
        () = lane.broken() => {}
        () = stage.outbox_rewound.notified() => {}
        () = feeding => {}
    }
}

/// Sends over a stream until it ends or a gap shows. The leader never sends anything back: it closes.
async fn send(stage: &Stage, sender: StreamSender, mut receiver: StreamReceiver) {
    let sending = async {
        loop {
            let chunk = next_chunk(stage).await;
            if sender.send(encode_chunk(&chunk)).await.is_err() {
                return;
            }
        }
    };
    start_over(stage);
    tokio::select! {
        biased;
        _ = receiver.next() => {}
        () = stage.outbox_rewound.notified() => {}
        () = sending => {}
    }
}

fn start_over(stage: &Stage) {
    stage.outbox.lock().rewind();
}

async fn next_chunk(stage: &Stage) -> Vec<Bytes> {
    loop {
        let chunk = stage.outbox.lock().take_unsent(CHUNK_TXNS_MAX, CHUNK_BYTES_MAX);
        if !chunk.is_empty() {
            return chunk;
        }
        stage.outbox_grew.notified().await;
    }
}

/// The leader's end of a stream of writes: feeds a lane of its batcher. Returns, and so closes the stream, when the lane is
/// broken, the origin is gone or sends what does not parse. What this node does not understand never enters the log, where
/// it would stop every node of this version: it waits at its origin until a node leads that does.
pub(super) async fn receive(batcher: BatcherHandle, mut receiver: StreamReceiver) {
    let lane = Lane::new();
    let feeding = async {
        while let Some(Ok(payload)) = receiver.next().await {
            let Some(mut chunk) = decode_chunk(payload) else { return };
            let unknown = chunk.iter().position(|txn| batch::decode_txn(txn).is_err());
            chunk.truncate(unknown.unwrap_or(chunk.len()));
            if !batcher.push(&lane, chunk).await {
                return;
            }
            if unknown.is_some() {
                tracing::warn!(
                    "a node sends writes that this one does not understand: it runs a newer version of roost"
                );
                // The origin comes back at once with the same.
                tokio::time::sleep(UNKNOWN_RETRY).await;
                return;
            }
        }
    };
    tokio::select! {
        biased;
        () = lane.broken() => {}
        () = feeding => {}
    }
}

fn encode_chunk(txns: &[Bytes]) -> Bytes {
    let mut out = BytesMut::with_capacity(txns.iter().map(|txn| 4 + txn.len()).sum());
    for txn in txns {
        out.put_u32_le(txn.len() as u32);
        out.put_slice(txn);
    }
    out.freeze()
}

fn decode_chunk(mut payload: Bytes) -> Option<Vec<Bytes>> {
    let mut txns = Vec::new();
    while !payload.is_empty() {
        if payload.len() < 4 {
            return None;
        }
        let length = payload.get_u32_le() as usize;
        if length > payload.len() || length > crate::limits::TXN_BYTES_MAX {
            return None;
        }
        txns.push(payload.split_to(length));
    }
    Some(txns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_survives_the_wire_and_a_broken_one_is_refused() {
        let txns = vec![Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"three")];
        let encoded = encode_chunk(&txns);
        assert_eq!(decode_chunk(encoded.clone()), Some(txns));
        assert_eq!(decode_chunk(encoded.slice(..encoded.len() - 1)), None);
        assert_eq!(decode_chunk(Bytes::from_static(&[1, 0])), None);
        assert_eq!(decode_chunk(Bytes::from_static(&[255, 255, 255, 255, 0])), None);
    }
}
