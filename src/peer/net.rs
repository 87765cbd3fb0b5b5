//! The seam between this module and whatever carries its bytes.

use std::io;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::limits::PEER_CONNECT_MS_MAX;

/// A connected stream of bytes each way.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {}

/// A way to reach other nodes.
pub trait Net: Send + Sync + 'static {
    /// Connects to a listener's address. Takes at most `PEER_CONNECT_MS_MAX`.
    fn connect(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Duplex>>>;

    /// Listens on an address until the acceptor is dropped.
    fn listen(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Acceptor>>>;
}

/// A listener.
pub trait Acceptor: Send + 'static {
    /// Waits for the next connection and returns it with a name for its far side, for logs. Cancelling loses
    /// none.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Duplex>, String)>>;

    /// Returns the address to connect to, with the port that was chosen when port 0 was asked for.
    fn addr(&self) -> String;
}

/// TCP. Addresses are `host:port`, resolved anew for each connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpNet;

impl Net for TcpNet {
    fn connect(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Duplex>>> {
        let addr = addr.to_owned();
        async move {
            let patience = Duration::from_millis(PEER_CONNECT_MS_MAX);
            let stream = timeout(patience, TcpStream::connect(addr)).await??;
            // Frames are gathered before they are written; waiting for more would only add latency.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        }
        .boxed()
    }

    fn listen(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Acceptor>>> {
        let addr = addr.to_owned();
        async move {
            let listener = TcpListener::bind(addr).await?;
            let addr = listener.local_addr()?.to_string();
            Ok(Box::new(TcpAcceptor { listener, addr }) as Box<dyn Acceptor>)
        }
        .boxed()
    }
}

struct TcpAcceptor {
    listener: TcpListener,
    addr: String,
}

impl Acceptor for TcpAcceptor {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Duplex>, String)>> {
        async move {
            let (stream, remote) = self.listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Box<dyn Duplex>, remote.to_string()))
        }
        .boxed()
    }

    fn addr(&self) -> String {
        self.addr.clone()
    }
}
