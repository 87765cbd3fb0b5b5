//! A leader that restarts within its term (openraft #1511).
//!
//! Each write is committed with the next one's record of it: the commit index that a leader finds on its disk after a power
//! cut may lie before writes that it has acknowledged. If it resumes leadership (`enable_leader_restore`, openraft's default)
//! then its read index is the greater of that commit index and the first entry of its term. A quorum of heartbeats confirms
//! it as leader, which it is, and it answers from the past, until the first append to a follower is acknowledged and it
//! learns what is committed. Usually that takes as long as a heartbeat; but appends have a connection of their own, and
//! here it is too slow for a large one: [`Narrow`] passes so many bytes per connection, which is enough for heartbeats.
//!
//! The remedy is not to resume: the leader of a later term answers no read before an entry of its own term is committed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use roost::node::Consistency;
use roost::peer::{Acceptor, Duplex, Net};
use roost::raft;
use roost::types::Zxid;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::harness::{Cluster, Setup, in_time};
use crate::ops::{create, done, request, set};

/// What a narrow connection lets through: a handshake and many heartbeats.
const BYTES_MAX: usize = 48 << 10;

/// A network whose connections, where asked for, swallow what exceeds [`BYTES_MAX`].
struct Narrow {
    net: Arc<dyn Net>,
    is_wide: &'static AtomicBool,
}

impl Net for Narrow {
    fn connect(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Duplex>>> {
        let connecting = self.net.connect(addr);
        let is_wide = self.is_wide;
        async move {
            let stream = connecting.await?;
            Ok(Box::new(NarrowStream { stream, is_wide, passed: 0 }) as Box<dyn Duplex>)
        }
        .boxed()
    }

    fn listen(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Acceptor>>> {
        self.net.listen(addr)
    }
}

struct NarrowStream {
    stream: Box<dyn Duplex>,
    is_wide: &'static AtomicBool,
    passed: usize,
}

impl AsyncRead for NarrowStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for NarrowStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.is_wide.load(Ordering::SeqCst) && self.passed + bytes.len() > BYTES_MAX {
            // Nobody wakes it: the connection stands still until it is given up.
            return Poll::Pending;
        }
        let passed = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(bytes)) = passed {
            self.passed += bytes;
        }
        passed
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Restarts a leader after a power cut that took its last record of what is committed, behind narrow connections, and
/// returns what a linearizable read through it says was written last: `old` or `new`.
async fn read_after_restart(
    restore_leader: bool,
    is_wide: &'static AtomicBool,
    wrap: fn(Arc<dyn Net>) -> Arc<dyn Net>,
) -> String {
    let raft = raft::Options {
        // Long enough that the followers wait for their leader's return.
        election_ms_min: 3_000,
        election_ms_max: 4_000,
        restore_leader,
        ..Setup::default().raft
    };
    let setup = Setup { seed: 51, raft, wrap: Some(wrap), ..Setup::default() };
    let cluster = Cluster::start(3, setup).await;
    let leader = cluster.leader().await;
    let node = cluster.node(leader);
    done(&node, request(create("/register", b"old"))).await;
    done(&node, request(create("/large", b""))).await;
    done(&node, request(set("/large", &vec![7; 200_000], None))).await;
    done(&node, request(set("/register", b"old", None))).await;
    cluster.settled().await;
    // The followers answer after the leader's own disk has, so that what it notes of the commit comes in a later write.
    for follower in cluster.others(leader) {
        cluster.delay(leader, follower, Duration::from_millis(10));
    }
    let mut new = vec![b' '; 100_000];
    new[..3].copy_from_slice(b"new");
    done(&node, request(set("/register", &new, None))).await;

    is_wide.store(false, Ordering::SeqCst);
    cluster.crash(leader, 0).await;
    let node = cluster.boot(leader).await;
    let recovered = node.local().get("/register").map(|znode| znode.data().unwrap().to_vec());
    assert_eq!(recovered.as_deref(), Some(&b"old"[..]), "the power cut took the commit index");
    let mut reading =
        tokio::spawn(async move { node.read(Consistency::Linearizable, Zxid(0)).await });
    let early = tokio::time::timeout(Duration::from_secs(1), &mut reading).await;
    is_wide.store(true, Ordering::SeqCst);
    let view = match early {
        Ok(view) => view,
        Err(_) => in_time("the read", reading).await,
    };
    let data = view.unwrap().unwrap().tree.get("/register").unwrap().data().unwrap().to_vec();
    String::from_utf8(data[..3].to_vec()).unwrap()
}

static WITH: AtomicBool = AtomicBool::new(true);
static WITHOUT: AtomicBool = AtomicBool::new(true);

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_resumed_after_a_power_cut_would_answer_linearizable_reads_from_the_past() {
    let read = read_after_restart(true, &WITH, |net| Arc::new(Narrow { net, is_wide: &WITH }));
    assert_eq!(read.await, "old", "restoring leaders has become safe: the remedy can go");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_restarts_after_a_power_cut_answers_linearizable_reads_from_the_present() {
    let read =
        read_after_restart(false, &WITHOUT, |net| Arc::new(Narrow { net, is_wide: &WITHOUT }));
    assert_eq!(read.await, "new");
}
