//! The network between simulated nodes. What is written arrives after a while, in order, as with TCP: a message that is lost
//! is sent again and is only late; a connection breaks or hangs, but never swallows something in its middle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use roost::peer::{Acceptor, Duplex, Net};
use roost::types::NodeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

/// Bytes under way in one direction of a connection; beyond, the writer waits.
const PIPE_BYTES_MAX: usize = 64 << 10;
/// Connections that wait to be accepted.
const BACKLOG_MAX: usize = 64;
/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_millis(1_000);

/// The whole network. A clone is the same one.
#[derive(Clone)]
pub(crate) struct Links {
    state: Arc<Mutex<State>>,
}

struct State {
    now_us: u64,
    random: StdRng,
    listeners: BTreeMap<NodeId, mpsc::Sender<(Stream, String)>>,
    /// Directions in which nothing arrives.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Directions in which everything takes so much longer, µs.
    slow: BTreeMap<(NodeId, NodeId), u64>,
    /// One in so many messages is lost and sent again.
    loss: u32,
    pipes: Vec<Weak<Mutex<Pipe>>>,
}

/// One direction of a connection.
struct Pipe {
    from: NodeId,
    to: NodeId,
    /// What is under way, with the moment of its arrival; an empty chunk is the end.
    travelling: VecDeque<(u64, Bytes)>,
    arrived: VecDeque<Bytes>,
    bytes: usize,
    last_arrival_us: u64,
    ended: bool,
    broken: bool,
    /// The writer lost its power: it sends nothing any more, not even that.
    silent: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn new(from: NodeId, to: NodeId) -> Arc<Mutex<Pipe>> {
        Arc::new(Mutex::new(Pipe {
            from,
            to,
            travelling: VecDeque::new(),
            arrived: VecDeque::new(),
            bytes: 0,
            last_arrival_us: 0,
            ended: false,
            broken: false,
            silent: false,
            reader: None,
            writer: None,
        }))
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    fn cut(&mut self) {
        self.broken = true;
        self.travelling.clear();
        self.arrived.clear();
        self.wake();
    }
}

impl Links {
    pub(crate) fn new(seed: u64) -> Links {
        let state = State {
            now_us: 0,
            random: StdRng::seed_from_u64(seed ^ 0x006e_6574),
            listeners: BTreeMap::new(),
            cut: BTreeSet::new(),
            slow: BTreeMap::new(),
            loss: 0,
            pipes: Vec::new(),
        };
        Links { state: Arc::new(Mutex::new(state)) }
    }

    /// Returns the network as one node sees it.
    pub(crate) fn at(&self, node: NodeId) -> Arc<dyn Net> {
        Arc::new(Place { links: self.clone(), node })
    }

    /// Cuts one direction, or lets through again what was held up there.
    pub(crate) fn set_cut(&self, from: NodeId, to: NodeId, is_cut: bool) {
        let mut state = self.state.lock();
        match is_cut {
            true => state.cut.insert((from, to)),
            false => state.cut.remove(&(from, to)),
        };
    }

    /// Makes one direction slower by so many µs; 0 undoes it.
    pub(crate) fn set_slow(&self, from: NodeId, to: NodeId, us: u64) {
        self.state.lock().slow.insert((from, to), us);
    }

    /// Loses one in so many messages; 0 for none.
    pub(crate) fn set_loss(&self, one_in: u32) {
        self.state.lock().loss = one_in;
    }

    /// Breaks every connection between two nodes.
    pub(crate) fn reset(&self, one: NodeId, other: NodeId) {
        for pipe in self.pipes() {
            let mut pipe = pipe.lock();
            if (pipe.from, pipe.to) == (one, other) || (pipe.from, pipe.to) == (other, one) {
                pipe.cut();
            }
        }
    }

    /// Takes a node's side of its connections away: they end, or with its power gone they hang until it is back. Done here,
    /// connection by connection, since the tasks of a runtime that is dropped go in an order that no seed knows.
    pub(crate) fn leave(&self, node: NodeId, power: bool) {
        for pipe in self.pipes() {
            let mut pipe = pipe.lock();
            if power {
                pipe.silent |= pipe.from == node || pipe.to == node;
            }
            if pipe.from == node && !pipe.ended {
                self.end(&mut pipe);
            } else if pipe.to == node && !power {
                pipe.cut();
            }
        }
    }

    fn end(&self, pipe: &mut Pipe) {
        if !pipe.ended {
            pipe.ended = true;
            let due_us = self.arrival(pipe);
            pipe.travelling.push_back((due_us, Bytes::new()));
        }
    }

    /// Breaks the connections that hang since a node lost its power: it is back and does not know them.
    pub(crate) fn refuse_silenced(&self, node: NodeId) {
        for pipe in self.pipes() {
            let mut pipe = pipe.lock();
            if pipe.silent && (pipe.from == node || pipe.to == node) {
                pipe.cut();
            }
        }
    }

    fn pipes(&self) -> Vec<Arc<Mutex<Pipe>>> {
        self.state.lock().pipes.iter().filter_map(Weak::upgrade).collect()
    }

    /// Moves time on, and hands over what has arrived by then.
    pub(crate) fn advance(&self, now_us: u64) {
        let cut = {
            let mut state = self.state.lock();
            state.now_us = now_us;
            state.pipes.retain(|pipe| pipe.strong_count() > 0);
            state.cut.clone()
        };
        for pipe in self.pipes() {
            let mut pipe = pipe.lock();
            if pipe.silent || cut.contains(&(pipe.from, pipe.to)) {
                continue;
            }
            while pipe.travelling.front().is_some_and(|(due_us, _)| *due_us <= now_us) {
                let chunk = pipe.travelling.pop_front().expect("it is there").1;
                pipe.arrived.push_back(chunk);
                pipe.reader.take().into_iter().for_each(Waker::wake);
            }
        }
    }

    fn connect(&self, from: NodeId, to: NodeId) -> io::Result<Stream> {
        let refusal = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let (there, back) = (Pipe::new(from, to), Pipe::new(to, from));
        let listener = {
            let mut state = self.state.lock();
            state.pipes.extend([Arc::downgrade(&there), Arc::downgrade(&back)]);
            state.listeners.get(&to).cloned()
        };
        let stream = |incoming: &Arc<Mutex<Pipe>>, outgoing: &Arc<Mutex<Pipe>>| Stream {
            links: self.clone(),
            incoming: incoming.clone(),
            outgoing: outgoing.clone(),
        };
        let far = (stream(&there, &back), format!("node {from}"));
        listener.ok_or_else(refusal)?.try_send(far).map_err(|_| refusal())?;
        Ok(stream(&back, &there))
    }

    /// Returns the moment at which a message that is sent now arrives.
    fn arrival(&self, pipe: &Pipe) -> u64 {
        let mut state = self.state.lock();
        let slow = state.slow.get(&(pipe.from, pipe.to)).copied().unwrap_or(0);
        let usual = state.random.random_range(100..1_500);
        let loss = state.loss;
        let again = match loss > 0 && state.random.random_range(0..loss) == 0 {
            true => state.random.random_range(20_000..250_000),
            false => 0,
        };
        (state.now_us + usual + again + slow).max(pipe.last_arrival_us)
    }
}

struct Place {
    links: Links,
    node: NodeId,
}

fn number(addr: &str) -> io::Result<NodeId> {
    let id = addr.split(':').next().and_then(|id| id.parse().ok());
    id.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

impl Net for Place {
    fn connect(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Duplex>>> {
        let (links, from, to) = (self.links.clone(), self.node, number(addr));
        async move {
            let to = to?;
            tokio::time::sleep(Duration::from_millis(1)).await;
            let hangs = {
                let state = links.state.lock();
                state.cut.contains(&(from, to)) || state.cut.contains(&(to, from))
            };
            if hangs {
                // In the time of the simulation.
                tokio::time::sleep(CONNECT_MAX).await;
                return Err(io::Error::from(io::ErrorKind::TimedOut));
            }
            Ok(Box::new(links.connect(from, to)?) as Box<dyn Duplex>)
        }
        .boxed()
    }

    fn listen(&self, _: &str) -> BoxFuture<'static, io::Result<Box<dyn Acceptor>>> {
        let (links, node) = (self.links.clone(), self.node);
        async move {
            let (sender, incoming) = mpsc::channel(BACKLOG_MAX);
            links.state.lock().listeners.insert(node, sender);
            Ok(Box::new(Backlog { incoming, node }) as Box<dyn Acceptor>)
        }
        .boxed()
    }
}

struct Backlog {
    incoming: mpsc::Receiver<(Stream, String)>,
    node: NodeId,
}

impl Acceptor for Backlog {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Duplex>, String)>> {
        async move {
            match self.incoming.recv().await {
                Some((stream, remote)) => Ok((Box::new(stream) as Box<dyn Duplex>, remote)),
                None => std::future::pending().await,
            }
        }
        .boxed()
    }

    fn addr(&self) -> String {
        format!("{}:1", self.node)
    }
}

/// One side of a connection.
struct Stream {
    links: Links,
    incoming: Arc<Mutex<Pipe>>,
    outgoing: Arc<Mutex<Pipe>>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.links.end(&mut self.outgoing.lock());
        let mut incoming = self.incoming.lock();
        if !incoming.silent {
            incoming.cut();
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut pipe = self.incoming.lock();
        if pipe.broken {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionReset)));
        }
        let Some(chunk) = pipe.arrived.front_mut() else {
            pipe.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        if chunk.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let taken = chunk.len().min(into.remaining());
        into.put_slice(&chunk[..taken]);
        chunk.advance(taken);
        if chunk.is_empty() {
            pipe.arrived.pop_front();
        }
        pipe.bytes -= taken;
        pipe.writer.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.outgoing.lock();
        if pipe.broken || pipe.ended {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::BrokenPipe)));
        }
        let taken = bytes.len().min(PIPE_BYTES_MAX - pipe.bytes);
        if taken == 0 && !bytes.is_empty() {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        if taken > 0 {
            let due_us = self.links.arrival(&pipe);
            pipe.last_arrival_us = due_us;
            pipe.travelling.push_back((due_us, Bytes::copy_from_slice(&bytes[..taken])));
            pipe.bytes += taken;
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.links.end(&mut self.outgoing.lock());
        Poll::Ready(Ok(()))
    }
}
