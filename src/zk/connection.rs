//! The socket of one connection: bytes in, bytes out, and when to close it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Door;
use super::conversation::{Conversation, Errand, Next};
use super::handshake::{Greeting, greet};
use super::meters::Place;
use super::reconfig;
use super::words::{self, Word};
use crate::jute::{ConnectRequest, Reader, split_frame};
use crate::limits::{
    ZK_HANDSHAKE_BYTES_MAX, ZK_HANDSHAKE_MS_MAX, ZK_INPUT_BYTES_AT_ONCE, ZK_OUTPUT_BYTES_MAX,
};
use crate::node::{Consistency, Line, Node};
use crate::types::{Error, Zxid};

/// Pause before writes that the node could not take are handed to it again.
const RETRY: Duration = Duration::from_millis(10);
/// How long the last bytes of a connection may take to go out.
const FAREWELL: Duration = Duration::from_secs(1);
/// A buffer that a burst has grown beyond this is given back.
const BUFFER_BYTES_KEPT: usize = 64 << 10;

/// Serves one connection until it has to be closed, and returns why.
pub(super) async fn connection(door: &Door, mut stream: TcpStream, place: &Place) -> &'static str {
    // Replies are gathered here: waiting to fill a packet would only add latency.
    if stream.set_nodelay(true).is_err() {
        return "the socket is gone";
    }
    let mut input = BytesMut::new();
    let limit = Duration::from_millis(ZK_HANDSHAKE_MS_MAX);
    let hello = match tokio::time::timeout(limit, hello(&mut stream, &mut input)).await {
        Ok(Ok(Hello::Connect(request))) => request,
        Ok(Ok(Hello::Word(word))) => {
            farewell(&mut stream, words::answer(door, word).as_bytes()).await;
            return "it was told its word";
        }
        Ok(Err(why)) => {
            door.meters().sessionless.fetch_add(1, Relaxed);
            return why;
        }
        Err(_) => {
            door.meters().sessionless.fetch_add(1, Relaxed);
            return "it said nothing";
        }
    };
    let peer = place.tally.peer.ip();
    let (line, timeout_ms, reply, told) = match greet(door, peer, hello).await {
        Greeting::Welcome { line, timeout_ms, reply, told } => (line, timeout_ms, reply, told),
        Greeting::Expired(reply) => {
            farewell(&mut stream, &reply).await;
            return "its session has expired";
        }
        Greeting::Closed(why) => return why,
    };
    place.tally.attached(line.session(), timeout_ms, door.node().wall_ms());
    let mut conversation = Conversation::new(door.clone(), line, place.tally.clone(), told);
    conversation.output().extend_from_slice(&reply);
    let mut socket = Socket { stream, input, sent: 0, has_sent: false, client_left: false };
    let why = socket.serve(door, &mut conversation, timeout_ms).await;
    if socket.client_left {
        door.node().connection_lost(conversation.line().session(), conversation.line().owner());
    }
    farewell(&mut socket.stream, conversation.output().get(socket.sent..).unwrap_or_default())
        .await;
    why
}

/// What a connection begins with.
enum Hello {
    Connect(ConnectRequest),
    Word(Word),
}

/// Reads what a connection begins with. A word is no length that would be taken.
async fn hello(stream: &mut TcpStream, input: &mut BytesMut) -> Result<Hello, &'static str> {
    loop {
        if let Some(word) = input.first_chunk::<4>().and_then(|bytes| Word::parse(bytes)) {
            return Ok(Hello::Word(word));
        }
        match split_frame(input, ZK_HANDSHAKE_BYTES_MAX) {
            Ok(Some(body)) => {
                let request = Reader::new(body).read().map_err(|_| "its first request is none")?;
                let length = 4 + body.len();
                input.advance(length);
                return Ok(Hello::Connect(request));
            }
            Ok(None) => {}
            Err(_) => return Err("its first request is none"),
        }
        input.reserve(ZK_HANDSHAKE_BYTES_MAX);
        stream.readable().await.map_err(|_| "the socket is gone")?;
        match stream.try_read_buf(input) {
            Ok(0) => return Err("it left before it had a session"),
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err("the socket is gone"),
        }
    }
}

/// Sends the last bytes, if the client takes them.
async fn farewell(stream: &mut TcpStream, bytes: &[u8]) {
    let sending = async {
        // A client that has gone does not need them.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
    };
    let _ = tokio::time::timeout(FAREWELL, sending).await;
}

/// What became of an errand.
enum Done {
    Barrier(usize),
    Reconfig(Result<(), i32>),
    Stopping,
}

type Running = Pin<Box<dyn Future<Output = Done> + Send>>;

/// Begins an errand.
fn run(node: &Node, line: &Line, errand: Errand) -> Running {
    let node = node.clone();
    match errand {
        Errand::Barrier(count) => Box::pin(async move {
            match barrier(node).await {
                Ok(()) => Done::Barrier(count),
                Err(_) => Done::Stopping,
            }
        }),
        Errand::Reconfig(wanted) => {
            let authority = line.authority().to_vec();
            Box::pin(
                async move { Done::Reconfig(reconfig::carry_out(node, authority, *wanted).await) },
            )
        }
    }
}

/// Waits until everything that was committed before is applied on this node, however long there is no leader.
async fn barrier(node: Node) -> Result<(), Error> {
    loop {
        let consistency = mutant!(M07, Consistency::Stale, Consistency::Linearizable);
        match node.read(consistency, Zxid(0)).await {
            Ok(_) => return Ok(()),
            Err(err @ (Error::Stopping | Error::NotInitialized)) => return Err(err),
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

struct Socket {
    stream: TcpStream,
    input: BytesMut,
    /// Of the output, so many bytes are sent.
    sent: usize,
    /// The client has taken some of it since that was looked at last.
    has_sent: bool,
    /// The client's side has ended the connection: its process closed it, or is gone. A network that swallows everything
    /// does not look like that.
    client_left: bool,
}

impl Socket {
    /// Serves until the connection has to be closed, and returns why.
    async fn serve(
        &mut self,
        door: &Door,
        conversation: &mut Conversation,
        timeout_ms: u32,
    ) -> &'static str {
        let node = door.node();
        let check = Duration::from_millis(u64::from(timeout_ms / 4).clamp(50, 5_000));
        let mut next_check = std::pin::pin!(tokio::time::sleep(check));
        let mut errand: Option<Running> = None;
        loop {
            let now_us = node.now_micros();
            let taken = self.take_frames(conversation, door.options().frame_bytes_max, now_us);
            if let Next::Close(why) = conversation.advance(node.now_micros()) {
                return why;
            }
            // What came before is answered, as far as that does not take any waiting.
            if let Err(why) = self.send(conversation.output()).and(taken) {
                return why;
            }
            let has_more =
                conversation.takes_requests() && self.has_frame(door.options().frame_bytes_max);
            if has_more || conversation.has_room_again() {
                tokio::task::yield_now().await;
                continue;
            }
            if errand.is_none() {
                errand = conversation.errand().map(|wanted| run(node, conversation.line(), wanted));
            }
            let is_read = conversation.takes_requests();
            let interest = match (is_read, conversation.output().is_empty()) {
                (true, true) => Some(Interest::READABLE),
                (true, false) => Some(Interest::READABLE | Interest::WRITABLE),
                (false, false) => Some(Interest::WRITABLE),
                (false, true) => None,
            };
            let running = async {
                match &mut errand {
                    Some(errand) => errand.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ready = ready(&self.stream, interest) => {
                    if is_read && ready.is_ok_and(|ready| ready.is_readable()) {
                        match self.receive() {
                            Ok(()) => mutant!(M21, (), node.touch(conversation.line().session())),
                            Err(why) => return why,
                        }
                    }
                }
                () = conversation.line().rung() => {}
                done = running => {
                    errand = None;
                    match done {
                        Done::Barrier(count) => conversation.pass_syncs(count),
                        Done::Reconfig(result) => conversation.reconfigured(result),
                        Done::Stopping => return "this node does not serve",
                    }
                }
                () = tokio::time::sleep(RETRY), if conversation.is_held_up() => {}
                () = next_check.as_mut() => {
                    next_check.as_mut().reset(Instant::now() + check);
                    // Beyond that the leader may have given the session's locks to others.
                    if node.leaderless_ms() > u64::from(timeout_ms) {
                        return "this node has been without a leader for longer than its session's timeout";
                    }
                    // That it is not read is no fault of the client, unless that is because it takes nothing: a process
                    // that hangs does not either.
                    let takes = std::mem::take(&mut self.has_sent) || conversation.has_room();
                    if !is_read && takes {
                        node.touch(conversation.line().session());
                    }
                }
            }
        }
    }

    /// Hands the frames that have arrived to the conversation, as long as it takes them.
    fn take_frames(
        &mut self,
        conversation: &mut Conversation,
        frame_bytes_max: usize,
        now_us: u64,
    ) -> Result<(), &'static str> {
        while conversation.takes_requests() {
            let length = match split_frame(&self.input, frame_bytes_max) {
                Ok(Some(body)) => {
                    if let Next::Close(why) = conversation.take(body, now_us) {
                        return Err(why);
                    }
                    4 + body.len()
                }
                Ok(None) => break,
                Err(_) => return Err("a frame of a length that is not taken"),
            };
            self.input.advance(length);
        }
        if self.input.is_empty() {
            // An idle connection keeps no buffer.
            self.input = BytesMut::new();
        }
        Ok(())
    }

    fn has_frame(&self, frame_bytes_max: usize) -> bool {
        !matches!(split_frame(&self.input, frame_bytes_max), Ok(None))
    }

    /// Reads what has arrived, up to a bound.
    fn receive(&mut self) -> Result<(), &'static str> {
        let mut received = 0;
        while received < ZK_INPUT_BYTES_AT_ONCE {
            self.input.reserve(16 << 10);
            match self.stream.try_read_buf(&mut self.input) {
                Ok(0) => {
                    self.client_left = true;
                    return Err("its client has closed it");
                }
                Ok(count) => received += count,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
                Err(err) => {
                    self.client_left = err.kind() == io::ErrorKind::ConnectionReset;
                    return Err("the socket is gone");
                }
            }
        }
        Ok(())
    }

    /// Writes what the socket takes.
    fn send(&mut self, output: &mut Vec<u8>) -> Result<(), &'static str> {
        while self.sent < output.len() {
            match self.stream.try_write(&output[self.sent..]) {
                Ok(count) => {
                    self.sent += count;
                    self.has_sent = true;
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Err("the socket is gone"),
            }
        }
        if self.sent == output.len() {
            self.sent = 0;
            output.clear();
            output.shrink_to(BUFFER_BYTES_KEPT);
        } else if self.sent >= ZK_OUTPUT_BYTES_MAX {
            output.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }
}

/// Waits until the socket is ready for what is wanted of it.
async fn ready(stream: &TcpStream, interest: Option<Interest>) -> io::Result<tokio::io::Ready> {
    match interest {
        Some(interest) => stream.ready(interest).await,
        None => std::future::pending().await,
    }
}
