//! A network within the process: no sockets, no tasks, and faults at will.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::limits::PEER_CONNECT_MS_MAX;

use super::net::{Acceptor, Duplex, Net};

/// Bytes under way in one direction of a connection. Beyond: the writer waits.
const PIPE_BYTES_MAX: usize = 256 << 10;
/// Connections that wait to be accepted. Beyond: refused.
const BACKLOG_MAX: usize = 64;

/// All links of a memory network. A link is directed: it carries the connections that one label makes to one
/// address, with the bytes of both of their directions. Links are up and without delay until told otherwise.
#[derive(Clone, Default)]
pub struct MemoryLinks {
    state: Arc<Mutex<Links>>,
}

/// A memory network seen from one place of it.
#[derive(Clone)]
pub struct MemoryNet {
    links: MemoryLinks,
    label: String,
}

#[derive(Default)]
struct Links {
    listeners: BTreeMap<String, mpsc::Sender<(MemoryStream, String)>>,
    links: BTreeMap<(String, String), Link>,
}

#[derive(Default)]
struct Link {
    down: bool,
    delay: Duration,
    pipes: Vec<Arc<Mutex<Pipe>>>,
}

impl MemoryLinks {
    /// Returns the network as seen by the node of that label.
    pub fn at(&self, label: &str) -> MemoryNet {
        MemoryNet { links: self.clone(), label: label.to_owned() }
    }

    /// Takes a link up or down. Down resets its connections and refuses new ones. Cost: O(its connections).
    pub fn set_link(&self, from: &str, to: &str, up: bool) {
        self.change(from, to, |link| {
            link.down = !up;
            if link.down {
                link.pipes.drain(..).for_each(|pipe| pipe.lock().cut());
            }
        });
    }

    /// Makes everything on a link take this long, also what is under way: a delay of hours is a link that
    /// swallows everything, until it is set back. Cost: O(its connections).
    pub fn set_delay(&self, from: &str, to: &str, delay: Duration) {
        self.change(from, to, |link| {
            link.delay = delay;
            link.pipes.iter().for_each(|pipe| pipe.lock().set_delay(delay));
        });
    }

    fn change(&self, from: &str, to: &str, change: impl FnOnce(&mut Link)) {
        change(self.state.lock().links.entry((from.to_owned(), to.to_owned())).or_default());
    }

    fn delay(&self, from: &str, to: &str) -> Duration {
        let state = self.state.lock();
        state.links.get(&(from.to_owned(), to.to_owned())).map_or(Duration::ZERO, |link| link.delay)
    }

    fn connect(&self, from: &str, to: &str) -> io::Result<MemoryStream> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let link = state.links.entry((from.to_owned(), to.to_owned())).or_default();
        let listener = state.listeners.get(to).filter(|_| !link.down);
        let refusal = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let pipe = || Arc::new(Mutex::new(Pipe { delay: link.delay, ..Pipe::default() }));
        let (there, back) = (pipe(), pipe());
        let far = MemoryStream::new(there.clone(), back.clone());
        listener.ok_or_else(refusal)?.try_send((far, from.to_owned())).map_err(|_| refusal())?;
        // Connections that are gone have left their pipe with this one owner.
        link.pipes.retain(|pipe| Arc::strong_count(pipe) > 1);
        link.pipes.extend([there.clone(), back.clone()]);
        Ok(MemoryStream::new(back, there))
    }
}

impl Net for MemoryNet {
    fn connect(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Duplex>>> {
        let (net, addr) = (self.clone(), addr.to_owned());
        async move {
            let delay = net.links.delay(&net.label, &addr);
            let patience = Duration::from_millis(PEER_CONNECT_MS_MAX);
            timeout(patience, tokio::time::sleep(delay)).await?;
            let stream = net.links.connect(&net.label, &addr)?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        }
        .boxed()
    }

    fn listen(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Acceptor>>> {
        let (net, addr) = (self.clone(), addr.to_owned());
        async move {
            let mut state = net.links.state.lock();
            if state.listeners.get(&addr).is_some_and(|listener| !listener.is_closed()) {
                return Err(io::Error::from(io::ErrorKind::AddrInUse));
            }
            let (sender, incoming) = mpsc::channel(BACKLOG_MAX);
            state.listeners.insert(addr.clone(), sender);
            Ok(Box::new(MemoryAcceptor { incoming, addr }) as Box<dyn Acceptor>)
        }
        .boxed()
    }
}

struct MemoryAcceptor {
    incoming: mpsc::Receiver<(MemoryStream, String)>,
    addr: String,
}

impl Acceptor for MemoryAcceptor {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Duplex>, String)>> {
        async move {
            let Some((stream, remote)) = self.incoming.recv().await else {
                // The network is gone: nobody can connect any more.
                return std::future::pending().await;
            };
            Ok((Box::new(stream) as Box<dyn Duplex>, remote))
        }
        .boxed()
    }

    fn addr(&self) -> String {
        self.addr.clone()
    }
}

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    /// What was written and not read, and when it was written. An empty chunk is the end.
    chunks: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    delay: Duration,
    /// No more will be written.
    ended: bool,
    /// The link was cut, or the reader is gone.
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    fn cut(&mut self) {
        self.broken = true;
        self.chunks.clear();
        self.wake();
    }

    fn set_delay(&mut self, delay: Duration) {
        self.delay = delay;
        self.wake();
    }

    fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            self.chunks.push_back((Instant::now(), Bytes::new()));
            self.wake();
        }
    }
}

/// One side of a connection.
struct MemoryStream {
    incoming: Arc<Mutex<Pipe>>,
    outgoing: Arc<Mutex<Pipe>>,
    /// Wakes the reader when the oldest bytes have been under way for long enough.
    arrival: Option<Pin<Box<Sleep>>>,
}

impl MemoryStream {
    fn new(incoming: Arc<Mutex<Pipe>>, outgoing: Arc<Mutex<Pipe>>) -> MemoryStream {
        MemoryStream { incoming, outgoing, arrival: None }
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.outgoing.lock().end();
        self.incoming.lock().cut();
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut pipe = this.incoming.lock();
        if pipe.broken {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionReset)));
        }
        pipe.reader = Some(context.waker().clone());
        let delay = pipe.delay;
        let Some((written, chunk)) = pipe.chunks.front_mut() else {
            return Poll::Pending;
        };
        let due = *written + delay;
        if due > Instant::now() {
            let arrival = this.arrival.insert(Box::pin(sleep_until(due)));
            if arrival.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        if chunk.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let taken = chunk.len().min(into.remaining());
        into.put_slice(&chunk[..taken]);
        chunk.advance(taken);
        if chunk.is_empty() {
            pipe.chunks.pop_front();
        }
        pipe.bytes -= taken;
        pipe.writer.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MemoryStream {
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
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if taken == 0 {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        pipe.chunks.push_back((Instant::now(), Bytes::copy_from_slice(&bytes[..taken])));
        pipe.bytes += taken;
        pipe.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.lock().end();
        Poll::Ready(Ok(()))
    }
}
