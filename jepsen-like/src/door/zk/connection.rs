//! One connection to a server of ZooKeeper's protocol: what is asked is matched with what is answered, by a task that
//! reads.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use roost::jute::{
    ConnectRequest, ConnectResponse, Jute, Reader, ReplyHeader, Request, Response, WatcherEvent,
    append_frame, append_request, opcodes, split_frame, xids,
};
use roost::types::{Code, Data, SessionId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::door::{Reply, Session, Trouble};
use crate::history::kv::Refusal;

/// The largest answer that is taken: a list of what a run has written.
const FRAME_BYTES_MAX: usize = 64 << 20;
const CHUNK_BYTES: usize = 64 << 10;
/// Events that nobody has taken yet; those beyond are not needed, since each only says "look again".
const EVENTS_MAX: usize = 256;

/// A reply and the zxid in its header.
pub(super) type Answer = (u64, Response);

/// One that is waited for: its xid, its opcode, and who waits.
type Waiting = (i32, i32, oneshot::Sender<Reply<Answer>>);

/// `None` when the connection has ended.
type Queue = Arc<Mutex<Option<VecDeque<Waiting>>>>;

/// An attached connection. It is closed when this is dropped; its session lives on.
pub(super) struct Connection {
    session: Session,
    writing: tokio::sync::Mutex<(OwnedWriteHalf, i32)>,
    waiting: Queue,
    reading: JoinHandle<()>,
    patience: Duration,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

fn queue(waiting: &Queue) -> std::sync::MutexGuard<'_, Option<VecDeque<Waiting>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// Connects and attaches to a session, or to a new one of so many ms. The receiver gets a word after each event.
    /// Troubles: [`Trouble::Expired`]; anything else leaves a new session possible and nothing else.
    pub(super) async fn open(
        addr: &str,
        patience: Duration,
        attach: Result<&Session, u64>,
        seen_zxid: u64,
    ) -> Reply<(Connection, mpsc::Receiver<()>)> {
        let opening = Self::shake_hands(addr, attach, seen_zxid);
        let failed = |why: String| Trouble::unanswered(attach.is_err(), why);
        let opened = timeout(patience, opening).await;
        let (stream, answer, arrived) =
            opened.map_err(|_| failed(format!("no session at {addr} in time")))??;
        let session = Session {
            id: answer.session.to_string(),
            secret: answer.password.map(|password| password.to_vec()).unwrap_or_default(),
            timeout_ms: u64::try_from(answer.timeout_ms).unwrap_or(0),
        };
        if answer.session.is_none() || session.timeout_ms == 0 {
            return Err(Trouble::Expired);
        }
        let (from, to) = stream.into_split();
        let waiting: Queue = Arc::new(Mutex::new(Some(VecDeque::new())));
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let reading = tokio::spawn(read(from, arrived, Arc::clone(&waiting), sender));
        let writing = tokio::sync::Mutex::new((to, 0));
        Ok((Connection { session, writing, waiting, reading, patience }, events))
    }

    async fn shake_hands(
        addr: &str,
        attach: Result<&Session, u64>,
        seen_zxid: u64,
    ) -> Reply<(TcpStream, ConnectResponse, Vec<u8>)> {
        let lost = |why: String| Trouble::unanswered(attach.is_err(), format!("{addr}: {why}"));
        let stream = TcpStream::connect(addr).await;
        let mut stream = stream.map_err(|err| Trouble::Failed(format!("{addr}: {err}")))?;
        let _ = stream.set_nodelay(true);
        let id = |session: &Session| session.id.parse().unwrap_or(SessionId::NONE);
        let timeout_ms = attach.map_or_else(|ms| ms, |session| session.timeout_ms);
        let hello = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: i64::try_from(seen_zxid).unwrap_or(i64::MAX),
            timeout_ms: i32::try_from(timeout_ms).unwrap_or(i32::MAX),
            session: attach.map_or(SessionId::NONE, id),
            password: attach.ok().map(|session| Data::new(&session.secret)),
            read_only: Some(false),
        };
        let mut bytes = Vec::new();
        append_frame(&mut bytes, |writer| hello.write(writer));
        stream.write_all(&bytes).await.map_err(|err| lost(err.to_string()))?;
        let mut arrived = Vec::new();
        loop {
            let frame =
                split_frame(&arrived, FRAME_BYTES_MAX).map_err(|err| lost(err.to_string()))?;
            if let Some(frame) = frame {
                let used = frame.len() + 4;
                let answer = Reader::new(frame).read().map_err(|err| lost(err.to_string()))?;
                arrived.drain(..used);
                return Ok((stream, answer, arrived));
            }
            match stream.read_buf(&mut arrived).await {
                Ok(0) => return Err(lost("closed without an answer".into())),
                Ok(_) => {}
                Err(err) => return Err(lost(err.to_string())),
            }
        }
    }

    /// Returns the session that it is attached to.
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Returns whether it can still be used.
    pub(super) fn is_open(&self) -> bool {
        queue(&self.waiting).is_some()
    }

    /// Ends it: what is still waited for is not answered.
    fn end(&self) {
        self.reading.abort();
        queue(&self.waiting).take();
    }

    /// Sends a request and waits for its reply. A connection that does not answer in time is ended.
    pub(super) async fn ask(&self, request: &Request, is_write: bool) -> Reply<Answer> {
        let asking = async { self.send(request, is_write).await?.await };
        let silent = || Trouble::unanswered(is_write, "no answer in time".into());
        let reply = timeout(self.patience, asking).await.unwrap_or_else(|_| Err(silent()));
        if reply.as_ref().is_err_and(|trouble| !trouble.is_answer()) {
            self.end();
        }
        reply
    }

    /// Sends requests at once and waits for the reply to the last.
    pub(super) async fn ask_in_a_row(&self, requests: &[Request]) -> Reply<Answer> {
        let asking = async {
            let mut last = Err(Trouble::Failed("nothing was asked".into()));
            let mut replies = Vec::new();
            for request in requests {
                replies.push(self.send(request, false).await?);
            }
            for reply in replies {
                last = reply.await;
                last.as_ref().map_err(Clone::clone)?;
            }
            last
        };
        let silent = || Trouble::Failed("no answer in time".into());
        let reply = timeout(self.patience, asking).await.unwrap_or_else(|_| Err(silent()));
        if reply.as_ref().is_err_and(|trouble| !trouble.is_answer()) {
            self.end();
        }
        reply
    }

    /// Sends a request, and returns a way to wait for its reply.
    async fn send(
        &self,
        request: &Request,
        is_write: bool,
    ) -> Reply<impl Future<Output = Reply<Answer>> + use<>> {
        let closed = || Trouble::Failed("the connection has ended".into());
        let mut writing = self.writing.lock().await;
        let (to, last) = &mut *writing;
        let xid = match request {
            Request::Ping => xids::PING,
            _ => {
                *last += 1;
                *last
            }
        };
        let (sender, receiver) = oneshot::channel();
        let entry = (xid, request.opcode(), sender);
        queue(&self.waiting).as_mut().ok_or_else(closed)?.push_back(entry);
        let mut bytes = Vec::new();
        append_request(&mut bytes, xid, request);
        to.write_all(&bytes).await.map_err(|err| Trouble::unanswered(is_write, err.to_string()))?;
        let lost = move || Trouble::unanswered(is_write, "the connection broke".into());
        Ok(async move { receiver.await.unwrap_or_else(|_| Err(lost())) })
    }
}

/// Reads until the connection ends, and then lets nobody wait any longer.
async fn read(
    mut from: OwnedReadHalf,
    mut arrived: Vec<u8>,
    waiting: Queue,
    events: mpsc::Sender<()>,
) {
    loop {
        while let Ok(Some(frame)) = split_frame(&arrived, FRAME_BYTES_MAX) {
            let used = frame.len() + 4;
            if take(frame, &waiting, &events).is_none() {
                queue(&waiting).take();
                return;
            }
            arrived.drain(..used);
        }
        arrived.reserve(CHUNK_BYTES);
        match from.read_buf(&mut arrived).await {
            Ok(count) if count > 0 => {}
            _ => {
                queue(&waiting).take();
                return;
            }
        }
    }
}

/// Hands a frame to whom it is for; `None` when it makes no sense.
fn take(frame: &[u8], waiting: &Queue, events: &mpsc::Sender<()>) -> Option<()> {
    let mut reader = Reader::new(frame);
    let ReplyHeader { xid, zxid, err } = reader.read().ok()?;
    if xid == xids::EVENT {
        reader.read::<WatcherEvent>().ok()?;
        // A full queue holds a word already that makes its reader look again.
        let _ = events.try_send(());
        return Some(());
    }
    let (opcode, sender) = {
        let mut queue = queue(waiting);
        let queue = queue.as_mut()?;
        let at = queue.iter().position(|(waits, _, _)| *waits == xid)?;
        let (_, opcode, sender) = queue.remove(at)?;
        (opcode, sender)
    };
    let reply = match err {
        0 => {
            let zxid = u64::try_from(zxid).unwrap_or(0);
            Ok((zxid, Response::decode(opcode, reader.rest()).ok()?))
        }
        err => Err(refusal(err, opcode)),
    };
    // Whoever has lost patience does not hear it.
    let _ = sender.send(reply);
    Some(())
}

/// Returns what an error number says.
pub(super) fn refusal(err: i32, opcode: i32) -> Trouble {
    let is = |code: Code| err == code.number();
    if is(Code::NoNode) {
        Trouble::Refused(Refusal::NoNode)
    } else if is(Code::NodeExists) {
        Trouble::Refused(Refusal::NodeExists)
    } else if is(Code::BadVersion) {
        Trouble::Refused(Refusal::BadVersion)
    } else if is(Code::SessionExpired) {
        Trouble::Expired
    } else if err < Code::NoNode.number() {
        // An answer of the tree or of the door, which came before anything was done.
        Trouble::Denied(format!("error {err}"))
    } else {
        // Errors of the system: the outcome may be anything.
        let is_read = matches!(
            opcode,
            opcodes::GET_DATA | opcodes::EXISTS | opcodes::GET_CHILDREN | opcodes::MULTI_READ
        );
        Trouble::unanswered(!is_read, format!("error {err}"))
    }
}
