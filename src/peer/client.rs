//! The calling side: one remote node, one connection for calls, and streams on connections of their own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::limits::{
    PEER_BACKOFF_MS_MAX, PEER_BACKOFF_MS_MIN, PEER_IN_FLIGHT_MAX, PEER_PAYLOAD_BYTES_MAX,
};
use crate::types::NodeId;

use super::error::PeerError;
use super::frame::FrameReader;
use super::handshake::{Identity, Opened, Purpose, call_out};
use super::message::{Kind, Message};
use super::net::Net;
use super::outbox::{Outbox, Queue, outbox};
use super::stream::{self, StreamReceiver, StreamSender};

/// Another node, seen from this one. A clone is another handle to the same; calls of all handles share one
/// connection, which is made when the first call needs it, made anew when a call finds it lost, and closed
/// with the last handle.
#[derive(Clone)]
pub struct Peer {
    shared: Arc<Shared>,
}

struct Shared {
    dialer: Dialer,
    link: Arc<Mutex<Link>>,
    slots: Semaphore,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    calls: DropGuard,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({} at {})", self.shared.dialer.to, self.shared.dialer.addr)
    }
}

impl Peer {
    /// Makes a handle to node `to` (0: whichever answers) at an address of that net. Connects to nobody yet.
    /// Must be used within a tokio runtime. The token stops it; so does [`Peer::close`].
    pub fn new(
        net: Arc<dyn Net>,
        identity: Identity,
        to: NodeId,
        addr: &str,
        shutdown: &CancellationToken,
    ) -> Peer {
        let shutdown = shutdown.child_token();
        let shared = Shared {
            dialer: Dialer { net, identity, to, addr: addr.to_owned() },
            link: Arc::default(),
            slots: Semaphore::new(PEER_IN_FLIGHT_MAX),
            tasks: TaskTracker::new(),
            calls: shutdown.child_token().drop_guard(),
            shutdown,
        };
        Peer { shared: Arc::new(shared) }
    }

    /// Returns the remote node's id.
    pub fn node(&self) -> NodeId {
        self.shared.dialer.to
    }

    /// Sends a request and waits for its answer, at most `timeout` in all: for one of `PEER_IN_FLIGHT_MAX`
    /// slots, the connection, and the remote handler. The payload is at most `PEER_PAYLOAD_BYTES_MAX` long.
    /// The answer is a slice of a read buffer: copy what is kept for long. While an earlier failure to
    /// connect is fresh, fails at once with the same. A call that is dropped or times out may still be done.
    pub async fn call(
        &self,
        kind: Kind,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, PeerError> {
        if payload.len() > PEER_PAYLOAD_BYTES_MAX {
            return Err(PeerError::TooLarge(payload.len()));
        }
        let exchange = self.shared.exchange(kind, payload);
        tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(PeerError::Timeout))
    }

    /// Opens a stream on a connection of its own. Takes as long as connecting and a handshake may. The stream
    /// outlives this handle, but not [`Peer::close`].
    pub async fn open_stream(
        &self,
        kind: Kind,
    ) -> Result<(StreamSender, StreamReceiver), PeerError> {
        let Shared { dialer, tasks, shutdown, .. } = &*self.shared;
        let opening = shutdown.run_until_cancelled(dialer.dial(Purpose::Stream(kind)));
        let opened = opening.await.unwrap_or(Err(PeerError::Stopping))?;
        Ok(stream::start(opened, tasks, shutdown.clone()))
    }

    /// Fails all calls, closes all connections, and waits until that is done. Later calls fail with
    /// `Stopping`.
    pub async fn close(&self) {
        self.shared.shutdown.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

#[derive(Clone)]
struct Dialer {
    net: Arc<dyn Net>,
    identity: Identity,
    to: NodeId,
    addr: String,
}

impl Dialer {
    async fn dial(&self, purpose: Purpose) -> Result<Opened, PeerError> {
        let io = self.net.connect(&self.addr).await?;
        call_out(io, &self.identity, self.to, purpose).await
    }
}

/// The one connection for calls: absent, or present from the moment that a call needs it until it is lost.
#[derive(Default)]
struct Link {
    connection: Option<Arc<Connection>>,
    /// Failures to connect in a row.
    failures: u32,
    /// After a failure: what to tell callers instead of trying again, and until when.
    pause: Option<(Instant, PeerError)>,
}

impl Link {
    fn lost(&mut self, error: &PeerError, was_open: bool) {
        self.connection = None;
        self.failures = if was_open { 0 } else { self.failures + 1 };
        self.pause = (!was_open).then(|| {
            let doublings = (self.failures - 1).min(16);
            let ms = (PEER_BACKOFF_MS_MIN << doublings).min(PEER_BACKOFF_MS_MAX);
            (Instant::now() + Duration::from_millis(ms), error.clone())
        });
    }
}

impl Shared {
    async fn exchange(&self, kind: Kind, payload: Bytes) -> Result<Bytes, PeerError> {
        let _slot = self.slots.acquire().await.expect("nobody closes it");
        let connection = self.connection()?;
        let mut waiting = connection.enter()?;
        let message = Message::Call { kind: kind.number(), id: waiting.id, payload };
        connection.outbox.push(message).await.map_err(|_| connection.failure())?;
        (&mut waiting.answer).await.unwrap_or_else(|_| Err(connection.failure()))
    }

    /// Returns the connection, made now if there is none: it takes calls at once, while it is still being
    /// opened.
    fn connection(&self) -> Result<Arc<Connection>, PeerError> {
        let mut link = self.link.lock();
        if let Some(connection) = &link.connection {
            return Ok(connection.clone());
        }
        if self.shutdown.is_cancelled() {
            return Err(PeerError::Stopping);
        }
        if let Some((until, error)) = &link.pause
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        let (outbox, queue) = outbox();
        let connection = Arc::new(Connection { outbox, calls: Mutex::default() });
        link.connection = Some(connection.clone());
        let stop = self.calls.token().clone();
        let (dialer, link) = (self.dialer.clone(), self.link.clone());
        let task = drive(dialer, link, connection.clone(), queue, stop);
        self.tasks.spawn(task);
        Ok(connection)
    }
}

/// A connection's task, from before it is open until it is lost.
async fn drive(
    dialer: Dialer,
    link: Arc<Mutex<Link>>,
    connection: Arc<Connection>,
    mut queue: Queue,
    stop: CancellationToken,
) {
    let mut was_open = false;
    let life = async {
        let Opened { mut reader, mut writer } = dialer.dial(Purpose::Calls).await?;
        was_open = true;
        let write = async { Ok(writer.drain(&mut queue).await?) };
        tokio::try_join!(connection.read(&mut reader), write)
    };
    let error = match stop.run_until_cancelled(life).await {
        None => PeerError::Stopping,
        Some(Err(error)) => error,
        Some(Ok(_)) => PeerError::Unreachable("the connection is closed".to_owned()),
    };
    tracing::debug!(node = dialer.to, addr = dialer.addr, %error, "connection to peer ended");
    // In this order: whoever sees a call fail and calls again must find the way free.
    link.lock().lost(&error, was_open);
    connection.fail(error);
}

struct Connection {
    outbox: Outbox,
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    last_id: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Result<Bytes, PeerError>>>,
    /// Why the connection was lost. From then on nothing waits.
    failure: Option<PeerError>,
}

/// A call's entry among those that wait; dropping it takes it out.
struct Waiting<'a> {
    connection: &'a Connection,
    id: u64,
    answer: oneshot::Receiver<Result<Bytes, PeerError>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.connection.calls.lock().waiting.remove(&self.id);
    }
}

impl Connection {
    fn enter(&self) -> Result<Waiting<'_>, PeerError> {
        let mut calls = self.calls.lock();
        if let Some(failure) = &calls.failure {
            return Err(failure.clone());
        }
        calls.last_id += 1;
        let id = calls.last_id;
        let (sender, answer) = oneshot::channel();
        calls.waiting.insert(id, sender);
        Ok(Waiting { connection: self, id, answer })
    }

    fn fail(&self, error: PeerError) {
        let mut calls = self.calls.lock();
        calls.failure = Some(error);
        // Each waiting call notices that its sender is dropped.
        calls.waiting.clear();
    }

    fn failure(&self) -> PeerError {
        let failure = self.calls.lock().failure.clone();
        failure.unwrap_or(PeerError::Unreachable("the connection is closed".to_owned()))
    }

    async fn read<R: AsyncRead + Unpin>(
        &self,
        reader: &mut FrameReader<R>,
    ) -> Result<(), PeerError> {
        loop {
            let (id, outcome) = match Message::decode(reader.next().await?) {
                Some(Message::Answer { id, payload }) => (id, Ok(payload)),
                Some(Message::Failure { id, reason }) => (id, Err(PeerError::Failed(reason))),
                Some(Message::Ping) => continue,
                _ => return Err(PeerError::Unreachable("a message has no place here".to_owned())),
            };
            // No entry: the caller has given up. A failed send: it is just doing so.
            if let Some(waiting) = self.calls.lock().waiting.remove(&id) {
                waiting.send(outcome).ok();
            }
        }
    }
}
