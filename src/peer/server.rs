//! The answering side: accepts connections, lets in who may, and hands calls and streams to a handler.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::io::AsyncRead;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::{PEER_CONNECTIONS_MAX, PEER_IN_FLIGHT_MAX, PEER_PAYLOAD_BYTES_MAX};

use super::error::PeerError;
use super::frame::FrameReader;
use super::handshake::{Admission, Hello, Identity, Opened, Purpose, take_in};
use super::message::{Kind, Message};
use super::net::{Acceptor, Duplex};
use super::outbox::{Outbox, outbox};
use super::stream::{self, StreamReceiver, StreamSender};

/// Pause after a failed accept, which most often means that the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a node does with what its peers send. Its futures are dropped at their next await when the server
/// stops, and only then: neither a caller that gives up nor a lost connection cancels them.
pub trait Handler: Send + Sync + 'static {
    /// Answers a call; an error's text goes to the caller. Calls of one connection run concurrently, at most
    /// `PEER_IN_FLIGHT_MAX`, and begin (up to the return of the future) in the order in which they were sent.
    /// The payload is a slice of a read buffer: copy what is kept for long. The answer is at most
    /// `PEER_PAYLOAD_BYTES_MAX`. The caller is as it was when it connected.
    fn call(
        &self,
        caller: &Hello,
        kind: Kind,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>>;

    /// Takes part in a stream that a peer has opened. It ends when both halves are dropped.
    fn stream(
        &self,
        caller: &Hello,
        kind: Kind,
        sender: StreamSender,
        receiver: StreamReceiver,
    ) -> BoxFuture<'static, ()>;
}

struct Server {
    identity: Identity,
    admission: Arc<dyn Admission>,
    handler: Arc<dyn Handler>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// Serves peers until the token is cancelled, and returns when every connection and handler has ended.
/// Connections beyond `PEER_CONNECTIONS_MAX` are closed at once.
pub async fn serve(
    mut acceptor: Box<dyn Acceptor>,
    identity: Identity,
    admission: Arc<dyn Admission>,
    handler: Arc<dyn Handler>,
    shutdown: CancellationToken,
) {
    let tasks = TaskTracker::new();
    let server = Arc::new(Server { identity, admission, handler, tasks: tasks.clone(), shutdown });
    let places = Arc::new(Semaphore::new(PEER_CONNECTIONS_MAX));
    while let Some(accepted) = server.shutdown.run_until_cancelled(acceptor.accept()).await {
        match (accepted, places.clone().try_acquire_owned()) {
            (Ok((io, remote)), Ok(place)) => {
                let server = server.clone();
                tasks.spawn(async move {
                    let connection = server.connection(io, &remote);
                    server.shutdown.run_until_cancelled(connection).await;
                    drop(place);
                });
            }
            (Ok((_, remote)), Err(_)) => {
                tracing::warn!(remote, limit = PEER_CONNECTIONS_MAX, "too many peer connections");
            }
            (Err(error), _) => {
                tracing::warn!(%error, "cannot accept a peer connection");
                server.shutdown.run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE)).await;
            }
        }
    }
    // First, so that nobody waits in the backlog of a listener that accepts no more.
    drop(acceptor);
    tasks.close();
    tasks.wait().await;
}

impl Server {
    async fn connection(&self, io: Box<dyn Duplex>, remote: &str) {
        let (hello, opened) = match take_in(io, &self.identity, &*self.admission).await {
            Ok(known) => known,
            Err(error) => return tracing::warn!(remote, %error, "peer not let in"),
        };
        tracing::debug!(remote, node = hello.from, purpose = ?hello.purpose, "peer connected");
        match hello.purpose {
            Purpose::Calls => {
                let error = self.calls(opened, &hello).await;
                tracing::debug!(remote, node = hello.from, %error, "peer connection ended");
            }
            Purpose::Stream(kind) => {
                let (sender, receiver) = stream::start(opened, &self.tasks, self.shutdown.clone());
                self.handler.stream(&hello, kind, sender, receiver).await;
            }
        }
    }

    /// Serves the calls of one connection until it is lost, and returns why.
    async fn calls(&self, opened: Opened, caller: &Hello) -> PeerError {
        let Opened { mut reader, mut writer } = opened;
        let (outbox, mut queue) = outbox();
        let write = async { Ok(writer.drain(&mut queue).await?) };
        match tokio::try_join!(self.read(&mut reader, caller, outbox), write) {
            Err(error) => error,
            Ok(_) => PeerError::Unreachable("the connection is closed".to_owned()),
        }
    }

    async fn read<R: AsyncRead + Unpin>(
        &self,
        reader: &mut FrameReader<R>,
        caller: &Hello,
        outbox: Outbox,
    ) -> Result<(), PeerError> {
        let slots = Arc::new(Semaphore::new(PEER_IN_FLIGHT_MAX));
        loop {
            let (kind, id, payload) = match Message::decode(reader.next().await?) {
                Some(Message::Call { kind, id, payload }) => (kind, id, payload),
                Some(Message::Ping) => continue,
                _ => return Err(PeerError::Unreachable("a message has no place here".to_owned())),
            };
            let slot = slots.clone().acquire_owned().await.expect("nobody closes it");
            // A node that belonged to no cluster let in everybody. Once it belongs to one, whoever is of another, or was of
            // none when it connected, has to connect again and is told.
            self.admission.admit(caller).map_err(PeerError::Refused)?;
            let work = Kind::from_number(kind).map(|kind| self.handler.call(caller, kind, payload));
            let (outbox, shutdown) = (outbox.clone(), self.shutdown.clone());
            self.tasks.spawn(async move {
                let answer = async {
                    let outcome = match work {
                        Some(work) => work.await,
                        None => Err(format!("no call of kind {kind} is known here")),
                    };
                    // Fails when the connection is gone, and with it whoever asked.
                    outbox.push(answer(id, outcome)).await.ok();
                };
                shutdown.run_until_cancelled(answer).await;
                drop(slot);
            });
        }
    }
}

fn answer(id: u64, outcome: Result<Bytes, String>) -> Message {
    match outcome {
        Ok(payload) if payload.len() > PEER_PAYLOAD_BYTES_MAX => {
            let reason = format!("the answer has {} bytes, which is too large", payload.len());
            Message::Failure { id, reason }
        }
        Ok(payload) => Message::Answer { id, payload },
        Err(reason) => Message::Failure { id, reason },
    }
}
