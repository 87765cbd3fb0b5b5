//! One listener in front of one node.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Links, owner};
use crate::schedule::{End, Network};

/// How long a connection may wait for a cut link before it is reset: what clients allow for a connect.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);
/// When a lost segment is sent again: the kernel's shortest.
const RESEND: Duration = Duration::from_millis(200);
const SEGMENT_BYTES: usize = 16 * 1_024;
/// Segments under way in one direction; beyond it the sender has to wait, as with a full window.
const SEGMENTS_MAX: usize = 64;

/// Whose connections come in at a proxy.
#[derive(Clone, Debug)]
pub enum Source {
    /// The clients of a site.
    Site(u8),
    /// Nodes, told apart by the processes that they are: shared, since a node that is started again is another.
    Nodes(Arc<Mutex<BTreeMap<u8, u32>>>),
}

/// A running proxy. Dropping it closes its connections.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy on a free port in front of a node's own address.
    pub async fn start(
        links: &Links,
        source: Source,
        to: u8,
        node: SocketAddr,
    ) -> io::Result<Proxy> {
        Proxy::start_at("127.0.0.1:0", links, source, to, node).await
    }

    /// As [`start`](Proxy::start), on an address that is chosen by the caller.
    pub async fn start_at(
        listen: &str,
        links: &Links,
        source: Source,
        to: u8,
        node: SocketAddr,
    ) -> io::Result<Proxy> {
        let listener = TcpListener::bind(listen).await?;
        let addr = listener.local_addr()?;
        let links = links.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((client, far_end)) = accepted else { continue };
                        let (links, source) = (links.clone(), source.clone());
                        connections.spawn(async move {
                            if let Some(from) = source.find(far_end).await {
                                let ends = (from, End::Node(to));
                                connect(client, node, ends, links).await;
                            }
                        });
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Proxy { addr, task })
    }

    /// Returns where to connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Source {
    async fn find(self, far_end: SocketAddr) -> Option<End> {
        match self {
            Source::Site(site) => Some(End::Site(site)),
            Source::Nodes(nodes) => {
                let pids = nodes.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // It reads files of the kernel, which can take a while on a machine with many sockets.
                let found = tokio::task::spawn_blocking(move || {
                    let pid = owner::owner(far_end, pids.values().copied())?;
                    pids.into_iter().find(|(_, its)| *its == pid).map(|(node, _)| node)
                });
                found.await.ok().flatten().map(End::Node)
            }
        }
    }
}

/// Waits until bytes pass from one end to the other. Fails when the run is over.
async fn until_open(
    links: &mut watch::Receiver<Network>,
    is_open: impl Fn(&Network) -> bool,
) -> Result<(), ()> {
    links.wait_for(is_open).await.map(|_| ()).map_err(|_| ())
}

async fn connect(client: TcpStream, addr: SocketAddr, (from, to): (End, End), links: Links) {
    let mut state = links.watch();
    if !state.borrow().is_open(from, to) {
        links.count((from, to), |tally| tally.held += 1);
    }
    let open = until_open(&mut state, |network| network.is_open(from, to));
    let is_open = timeout(CONNECT_PATIENCE, open).await.is_ok_and(|open| open.is_ok());
    let node = match is_open {
        true => TcpStream::connect(addr).await.ok(),
        false => None,
    };
    let Some(node) = node else {
        // Closed with a reset, as a port without listener answers.
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), node.set_nodelay(true));
    let (client_in, client_out) = client.into_split();
    let (node_in, node_out) = node.into_split();
    let there = pump(client_in, node_out, (from, to), &links);
    let back = pump(node_in, client_out, (to, from), &links);
    // An end of one direction is passed on; a failure of one ends both.
    let _ = tokio::try_join!(there, back);
}

/// A piece of a stream on its way; `None` is its end.
type Segment = (Instant, Option<Vec<u8>>);

async fn pump(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    ends: (End, End),
    links: &Links,
) -> Result<(), ()> {
    let (sender, receiver) = mpsc::channel(SEGMENTS_MAX);
    let sending = send(from, sender, ends, links);
    tokio::try_join!(sending, deliver(to, receiver, ends, links)).map(|_| ())
}

#[allow(clippy::disallowed_methods, reason = "when a segment arrives is decided here")]
async fn send(
    mut from: OwnedReadHalf,
    under_way: mpsc::Sender<Segment>,
    ends: (End, End),
    links: &Links,
) -> Result<(), ()> {
    let mut state = links.watch();
    let mut buffer = vec![0; SEGMENT_BYTES];
    loop {
        let count = from.read(&mut buffer).await.map_err(|_| ())?;
        squeeze(count, &mut state, ends, links).await;
        let link = state.borrow().link(ends.0, ends.1);
        let mut delay = Duration::from_millis(link.delay_ms);
        if link.jitter_ms > 0 {
            delay += Duration::from_millis(links.draw(ends, 0..=link.jitter_ms));
        }
        if link.loss_percent > 0 {
            let is_lost = links.draw(ends, 0..=99) < u64::from(link.loss_percent);
            links.count(ends, |tally| {
                tally.exposed += 1;
                tally.lost += u64::from(is_lost);
            });
            delay += if is_lost { RESEND } else { Duration::ZERO };
        }
        let segment = (count > 0).then(|| buffer[..count].to_vec());
        let is_end = segment.is_none();
        under_way.send((Instant::now() + delay, segment)).await.map_err(|_| ())?;
        if is_end {
            return Ok(());
        }
    }
}

/// Waits until a link that carries little has taken so many bytes, or carries another amount.
async fn squeeze(
    bytes: usize,
    state: &mut watch::Receiver<Network>,
    ends: (End, End),
    links: &Links,
) {
    let kb_per_second = state.borrow().link(ends.0, ends.1).kb_per_second;
    if kb_per_second == 0 {
        return;
    }
    links.count(ends, |tally| {
        tally.exposed += 1;
        tally.queued += 1;
    });
    let wait = links.queue_us(ends, links.clock.now_us(), (bytes, kb_per_second), u64::MAX);
    let wait = Duration::from_micros(wait.unwrap_or(0));
    let is_other = |network: &Network| network.link(ends.0, ends.1).kb_per_second != kb_per_second;
    let _ = timeout(wait, state.wait_for(is_other)).await;
}

async fn deliver(
    mut to: OwnedWriteHalf,
    mut under_way: mpsc::Receiver<Segment>,
    ends: (End, End),
    links: &Links,
) -> Result<(), ()> {
    let mut state = links.watch();
    while let Some((at, segment)) = under_way.recv().await {
        sleep_until(at).await;
        if state.borrow().link(ends.0, ends.1).is_cut {
            links.count(ends, |tally| tally.held += 1);
        }
        until_open(&mut state, |network| !network.link(ends.0, ends.1).is_cut).await?;
        match segment {
            Some(bytes) => to.write_all(&bytes).await.map_err(|_| ())?,
            None => return to.shutdown().await.map_err(|_| ()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Links, Proxy, Source, TcpListener, TcpStream};
    use crate::schedule::{End, Fault, Network};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A node that says back what it hears, and a connection of site 1 to it.
    async fn echo() -> (Links, Proxy, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        let links = Links::default();
        let proxy = Proxy::start(&links, Source::Site(1), 1, addr).await.unwrap();
        let stream = TcpStream::connect(proxy.addr()).await.unwrap();
        (links, proxy, stream)
    }

    fn network(fault: &str) -> Network {
        Network::under([&fault.parse::<Fault>().unwrap()], 3)
    }

    async fn say(stream: &mut TcpStream, word: &[u8; 4]) {
        stream.write_all(word).await.unwrap();
    }

    async fn hear(stream: &mut TcpStream) -> [u8; 4] {
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        word
    }

    #[tokio::test]
    async fn bytes_wait_while_a_link_is_cut_and_arrive_when_it_is_healed() {
        let (links, _proxy, mut stream) = echo().await;
        say(&mut stream, b"one!").await;
        assert_eq!(hear(&mut stream).await, *b"one!");
        for fault in ["partition c1 | n1", "one-way c1 -> n1", "one-way n1 -> c1"] {
            links.set(network(fault));
            say(&mut stream, b"two!").await;
            let mut word = [0; 4];
            let silence = std::time::Duration::from_millis(100);
            let heard = tokio::time::timeout(silence, stream.read_exact(&mut word)).await;
            assert!(heard.is_err(), "{fault}: {heard:?}");
            links.set(Network::default());
            assert_eq!(hear(&mut stream).await, *b"two!", "{fault}");
        }
        // Each way was cut once together with the other and once alone.
        let held = |from, to| links.tally(from, to).held;
        assert_eq!((held(End::Site(1), End::Node(1)), held(End::Node(1), End::Site(1))), (2, 1));
    }

    #[tokio::test]
    async fn another_link_is_not_affected() {
        let (links, _proxy, mut stream) = echo().await;
        links.set(network("partition c2 | n1"));
        say(&mut stream, b"one!").await;
        assert_eq!(hear(&mut stream).await, *b"one!");
    }

    #[tokio::test]
    async fn a_slow_and_lossy_link_keeps_bytes_whole_and_in_order() {
        let (links, _proxy, stream) = echo().await;
        let mut both = network("delay n1 2ms jitter 3ms");
        links.set(both.clone());
        let (mut from, mut to) = stream.into_split();
        let sent: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let copy = sent.clone();
        let writing = tokio::spawn(async move {
            to.write_all(&copy).await.unwrap();
            to.shutdown().await.unwrap();
        });
        both = network("loss n1 10%");
        links.set(both);
        let mut heard = Vec::new();
        from.read_to_end(&mut heard).await.unwrap();
        writing.await.unwrap();
        assert!(heard == sent, "{} bytes of {}", heard.len(), sent.len());
    }

    #[tokio::test]
    async fn a_link_that_carries_little_takes_its_time() {
        let (links, _proxy, mut stream) = echo().await;
        links.set(network("slow c1 100kB/s"));
        let clock = crate::clock::Clock::start();
        stream.write_all(&[7; 10_000]).await.unwrap();
        let mut heard = [0; 10_000];
        stream.read_exact(&mut heard).await.unwrap();
        // A tenth of a second there and as much back, of which the one may be under way while the other begins.
        assert!(clock.now_ms() >= 100, "{} ms", clock.now_ms());
        assert!(links.tally(End::Site(1), End::Node(1)).queued > 0);
        links.set(Network::default());
        say(&mut stream, b"one!").await;
        assert_eq!(hear(&mut stream).await, *b"one!");
    }

    #[tokio::test]
    async fn a_connection_that_finds_its_link_cut_is_reset_after_a_while() {
        let (links, proxy, _stream) = echo().await;
        links.set(network("partition c1 | n1"));
        let mut late = TcpStream::connect(proxy.addr()).await.unwrap();
        let mut word = [0; 4];
        let error = late.read_exact(&mut word).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}
