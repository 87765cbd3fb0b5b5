//! Two nodes and what can go wrong between them.

mod calls;
mod faults;
mod handshakes;
mod hostile;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::types::NodeId;

use super::*;

/// Long enough never to be reached unless something hangs.
const LONG: Duration = Duration::from_secs(60);
const CLUSTER: u128 = 7;

fn secret() -> Secret {
    Secret::new(b"correct horse battery staple")
}

fn identity(node: NodeId) -> Identity {
    Identity::new(node, CLUSTER, secret())
}

/// Lets in nodes of the test's cluster.
struct Members;

impl Admission for Members {
    fn admit(&self, hello: &Hello) -> Result<(), String> {
        match hello.cluster {
            CLUSTER => Ok(()),
            other => Err(format!("cluster {other} is\nnot this one")),
        }
    }
}

/// Does something different for each kind.
struct Fixture {
    /// Calls of kind `Append` wait for one permit each.
    gate: Arc<Semaphore>,
    /// Gets one permit for each call of kind `Append` that has begun.
    begun: Arc<Semaphore>,
}

impl Handler for Fixture {
    fn call(
        &self,
        caller: &Hello,
        kind: Kind,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        let (gate, begun, from) = (self.gate.clone(), self.begun.clone(), caller.from);
        async move {
            match kind {
                Kind::Status => Ok(Bytes::from(format!("hello {from}"))),
                Kind::Join => Err("the cluster is full".to_owned()),
                Kind::Append => {
                    begun.add_permits(1);
                    gate.acquire().await.expect("nobody closes it").forget();
                    Ok(payload)
                }
                Kind::Snapshot => Ok(Bytes::from(vec![0; 17 << 20])),
                _ => Ok(payload),
            }
        }
        .boxed()
    }

    fn stream(
        &self,
        _: &Hello,
        kind: Kind,
        sender: StreamSender,
        mut receiver: StreamReceiver,
    ) -> BoxFuture<'static, ()> {
        async move {
            let mut bytes = 0;
            while let Some(Ok(item)) = receiver.next().await {
                bytes += item.len();
                match kind {
                    // Fails in tests that hang up.
                    Kind::Submit => sender.send(item).await.unwrap_or_default(),
                    Kind::Touch => return,
                    _ => {}
                }
            }
            // Fails in tests that cut the connection.
            sender.send(Bytes::from(bytes.to_string())).await.ok();
        }
        .boxed()
    }
}

/// A node that serves the fixture.
struct Node {
    addr: String,
    gate: Arc<Semaphore>,
    begun: Arc<Semaphore>,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Node {
    async fn start(net: &dyn Net, addr: &str, id: NodeId) -> Node {
        Node::admitting(net, addr, identity(id), Arc::new(Members)).await
    }

    async fn admitting(
        net: &dyn Net,
        addr: &str,
        identity: Identity,
        admission: Arc<dyn Admission>,
    ) -> Node {
        let acceptor = net.listen(addr).await.unwrap();
        let addr = acceptor.addr();
        let shutdown = CancellationToken::new();
        let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let fixture = Fixture { gate: gate.clone(), begun: begun.clone() };
        let serving = serve(acceptor, identity, admission, Arc::new(fixture), shutdown.clone());
        Node { addr, gate, begun, shutdown, serving: tokio::spawn(serving) }
    }

    async fn tcp() -> Node {
        Node::start(&TcpNet, "127.0.0.1:0", 2).await
    }

    /// Node 1's handle to this node, which it takes for node 2.
    fn peer(&self) -> Peer {
        self.peer_as(identity(1), 2)
    }

    fn peer_as(&self, identity: Identity, to: NodeId) -> Peer {
        Peer::new(Arc::new(TcpNet), identity, to, &self.addr, &CancellationToken::new())
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.unwrap();
    }
}

async fn echo(peer: &Peer, payload: &[u8]) -> Result<Bytes, PeerError> {
    peer.call(Kind::Vote, Bytes::copy_from_slice(payload), LONG).await
}
