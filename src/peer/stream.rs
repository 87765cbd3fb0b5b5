//! One stream of frames each way over a connection of its own.
//!
//! Each direction ends by itself, with an end message when the sender is dropped. The connection stays until
//! both have ended, and for a moment after both of one side's halves were dropped, so that the last item gets
//! through before the socket is closed under it.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::{PEER_PAYLOAD_BYTES_MAX, PEER_PING_MS};

use super::error::PeerError;
use super::frame::{FrameError, FrameReader};
use super::handshake::Opened;
use super::message::Message;
use super::outbox::{FrameWriter, Outbox, Queue, outbox};

/// Reads that a receiver may be behind, each of which is one frame or one read buffer of small ones. Beyond:
/// the socket is not read any more, and the sender waits.
const BATCHES_MAX: usize = 2;

/// The sending half of a stream. Dropping it ends this direction after what was sent.
pub struct StreamSender {
    outbox: Outbox,
    failure: Arc<OnceLock<PeerError>>,
}

impl StreamSender {
    /// Queues the next item, after waiting for room; many small ones share a write. Success does not say that
    /// the item arrived. Once the connection is lost, or the other side has dropped both of its halves, every
    /// send fails. The payload is at most `PEER_PAYLOAD_BYTES_MAX` long. Cancelling the wait sends nothing.
    pub async fn send(&self, payload: Bytes) -> Result<(), PeerError> {
        if payload.len() > PEER_PAYLOAD_BYTES_MAX {
            return Err(PeerError::TooLarge(payload.len()));
        }
        self.outbox.push(Message::Item(payload)).await.map_err(|_| lost(&self.failure))
    }
}

/// The receiving half of a stream. Dropping it discards what still comes.
pub struct StreamReceiver {
    arriving: mpsc::Receiver<Arrival>,
    arrived: VecDeque<Bytes>,
    over: bool,
    failure: Arc<OnceLock<PeerError>>,
}

enum Arrival {
    Items(Vec<Bytes>),
    End,
}

impl StreamReceiver {
    /// Waits for the next item. None: the other side has ended its direction and all of it was received. An
    /// error: the connection was lost before that; afterwards none. Items are slices of a read buffer: copy
    /// what is kept for long. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Option<Result<Bytes, PeerError>> {
        while self.arrived.is_empty() && !self.over {
            match self.arriving.recv().await {
                Some(Arrival::Items(items)) => self.arrived.extend(items),
                Some(Arrival::End) => self.over = true,
                None => {
                    self.over = true;
                    return Some(Err(lost(&self.failure)));
                }
            }
        }
        self.arrived.pop_front().map(Ok)
    }
}

fn lost(failure: &OnceLock<PeerError>) -> PeerError {
    failure.get().cloned().unwrap_or(PeerError::Unreachable("the stream is closed".to_owned()))
}

/// Makes a connection a stream, driven by a task that ends with the stream or the token.
pub(super) fn start(
    opened: Opened,
    tasks: &TaskTracker,
    shutdown: CancellationToken,
) -> (StreamSender, StreamReceiver) {
    let (outbox, queue) = outbox();
    let (arrivals, arriving) = mpsc::channel(BATCHES_MAX);
    let failure = Arc::new(OnceLock::new());
    let sender = StreamSender { outbox, failure: failure.clone() };
    let receiver = StreamReceiver {
        arriving,
        arrived: VecDeque::new(),
        over: false,
        failure: failure.clone(),
    };
    tasks.spawn(async move {
        // The queues are held here, and so are dropped, which the halves notice, after the reason is known.
        let (mut queue, arrivals) = (queue, arrivals);
        let error = tokio::select! {
            biased;
            () = shutdown.cancelled() => Some(PeerError::Stopping),
            outcome = run(opened, &mut queue, &arrivals) => outcome.err(),
        };
        if let Some(error) = error {
            failure.get_or_init(|| error);
        }
    });
    (sender, receiver)
}

async fn run(
    opened: Opened,
    queue: &mut Queue,
    arrivals: &mpsc::Sender<Arrival>,
) -> Result<(), PeerError> {
    let Opened { mut reader, mut writer } = opened;
    let ended = CancellationToken::new();
    tokio::try_join!(
        read(&mut reader, arrivals, &ended),
        write(&mut writer, queue, arrivals, &ended)
    )?;
    Ok(())
}

/// Delivers what arrives, says when the other side has ended its direction, and then waits for it to hang up.
async fn read<R: AsyncRead + Unpin>(
    reader: &mut FrameReader<R>,
    arrivals: &mpsc::Sender<Arrival>,
    ended: &CancellationToken,
) -> Result<(), PeerError> {
    loop {
        let mut body = match reader.next().await {
            Err(FrameError::Closed) if ended.is_cancelled() => return Ok(()),
            body => Some(body?),
        };
        let mut items = Vec::new();
        while let Some(frame) = body {
            match Message::decode(frame) {
                Some(Message::Item(item)) if !ended.is_cancelled() => items.push(item),
                Some(Message::End) if !ended.is_cancelled() => ended.cancel(),
                Some(Message::Ping) => {}
                _ => return Err(PeerError::Unreachable("a message has no place here".to_owned())),
            }
            body = reader.next_arrived()?;
        }
        let end = ended.is_cancelled().then_some(Arrival::End);
        let items = Some(items).filter(|items| !items.is_empty()).map(Arrival::Items);
        for arrival in items.into_iter().chain(end) {
            // Fails when the receiver was dropped: then nobody wants it.
            arrivals.send(arrival).await.ok();
        }
    }
}

/// Writes what is sent and the end, then keeps the connection alive until the other side has ended too, and
/// hangs up.
async fn write<W: AsyncWrite + Unpin>(
    writer: &mut FrameWriter<W>,
    queue: &mut Queue,
    arrivals: &mpsc::Sender<Arrival>,
    ended: &CancellationToken,
) -> Result<(), PeerError> {
    writer.drain(queue).await?;
    writer.write(Message::End).await?;
    let deserted = async {
        arrivals.closed().await;
        tokio::time::sleep(Duration::from_millis(PEER_PING_MS)).await;
    };
    tokio::select! {
        biased;
        () = ended.cancelled() => Ok(writer.shutdown().await?),
        err = writer.idle() => Err(err.into()),
        () = deserted => Err(PeerError::Unreachable("both halves of the stream were dropped".to_owned())),
    }
}
