//! Messages to bytes: the bounded queue in front of a connection and the one place that writes to it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::limits::{PEER_PING_MS, PEER_QUEUE_BYTES_MAX};

use super::frame::{FRAME_HEADER_BYTES, frame_header};
use super::message::Message;

/// What a queued message costs beside its payload, bytes: roughly its size in memory.
const MESSAGE_BYTES: usize = 64;
/// Queued messages are gathered into one write until it has this many bytes.
const WRITE_BYTES: usize = 64 << 10;
/// A payload of at least this many bytes is written from where it is instead of being copied.
const PAYLOAD_BYTES_COPIED_MAX: usize = 16 << 10;

/// The sending end of a connection's queue, bounded by bytes. The queue ends when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Outbox {
    messages: mpsc::UnboundedSender<Message>,
    room: Arc<Semaphore>,
}

/// The connection's end of the queue. Dropping it fails all who send or wait to.
pub(super) struct Queue {
    messages: mpsc::UnboundedReceiver<Message>,
    room: Arc<Semaphore>,
}

/// The connection behind an outbox is gone.
#[derive(Debug)]
pub(super) struct Gone;

/// Makes a queue of at most `PEER_QUEUE_BYTES_MAX` bytes.
pub(super) fn outbox() -> (Outbox, Queue) {
    // The channel itself needs no bound: nothing enters it without having taken its bytes of the room.
    let (sender, receiver) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(PEER_QUEUE_BYTES_MAX));
    (Outbox { messages: sender, room: room.clone() }, Queue { messages: receiver, room })
}

fn cost(message: &Message) -> usize {
    (message.payload_bytes() + MESSAGE_BYTES).min(PEER_QUEUE_BYTES_MAX)
}

impl Outbox {
    /// Queues a message, in order, after waiting for room. Cancelling the wait leaves nothing queued.
    pub(super) async fn push(&self, message: Message) -> Result<(), Gone> {
        let room = self.room.acquire_many(cost(&message) as u32).await.map_err(|_| Gone)?;
        self.messages.send(message).map_err(|_| Gone)?;
        // Given back by the writer once the message is on its way.
        room.forget();
        Ok(())
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.room.close();
    }
}

/// Writes frames, many small ones at a time.
pub(super) struct FrameWriter<W> {
    pub(super) io: W,
    buffer: BytesMut,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes to `io`.
    pub(super) fn new(io: W) -> FrameWriter<W> {
        FrameWriter { io, buffer: BytesMut::new() }
    }

    /// Writes one frame with this body at once.
    pub(super) async fn write_body(&mut self, body: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(&frame_header([body, &[]]));
        self.buffer.extend_from_slice(body);
        self.flush().await
    }

    /// Writes one message at once.
    pub(super) async fn write(&mut self, message: Message) -> io::Result<()> {
        self.gather(message).await?;
        self.flush().await
    }

    /// Writes what is queued until the queue ends, and a ping whenever there has been nothing for a while.
    pub(super) async fn drain(&mut self, queue: &mut Queue) -> io::Result<()> {
        loop {
            let idle = Duration::from_millis(PEER_PING_MS);
            match timeout(idle, queue.messages.recv()).await {
                Err(_) => self.write(Message::Ping).await?,
                Ok(None) => return Ok(()),
                Ok(Some(first)) => {
                    // Lets others that are ready to send do so first: they share the write.
                    tokio::task::yield_now().await;
                    self.write_batch(first, queue).await?;
                }
            }
        }
    }

    /// Says nothing but that this side is alive, for ever.
    pub(super) async fn idle(&mut self) -> io::Error {
        loop {
            tokio::time::sleep(Duration::from_millis(PEER_PING_MS)).await;
            if let Err(err) = self.write(Message::Ping).await {
                return err;
            }
        }
    }

    /// Tells the other side that nothing more will be written.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.io.shutdown().await
    }

    async fn write_batch(&mut self, first: Message, queue: &mut Queue) -> io::Result<()> {
        let mut spent = 0;
        let mut next = Some(first);
        while let Some(message) = next {
            spent += cost(&message);
            self.gather(message).await?;
            if self.buffer.len() >= WRITE_BYTES {
                break;
            }
            next = queue.messages.try_recv().ok();
        }
        self.flush().await?;
        queue.room.add_permits(spent);
        Ok(())
    }

    /// Puts a message into the buffer; the payload only if it is small, otherwise all goes out at once.
    async fn gather(&mut self, message: Message) -> io::Result<()> {
        let start = self.buffer.len();
        self.buffer.put_bytes(0, FRAME_HEADER_BYTES);
        let payload = message.split(&mut self.buffer);
        let (_, frame) = self.buffer.split_at_mut(start);
        let (header, opening) = frame.split_at_mut(FRAME_HEADER_BYTES);
        header.copy_from_slice(&frame_header([opening, &payload]));
        if payload.len() < PAYLOAD_BYTES_COPIED_MAX {
            self.buffer.extend_from_slice(&payload);
            return Ok(());
        }
        self.flush().await?;
        self.io.write_all(&payload).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.io.write_all(&self.buffer).await?;
        self.buffer.clear();
        self.io.flush().await
    }
}
