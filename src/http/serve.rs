use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::extract::Peer;
use super::{Annex, Door, router};
use crate::limits::{
    HTTP_CONNECTIONS_MAX, HTTP_DRAIN_MS_MAX, HTTP_IDLE_MS_MAX, HTTP_UNSENT_BYTES_MAX,
};
use crate::node::Node;

/// Pause after an accept that failed for want of something (such as file descriptors), ms.
const ACCEPT_PAUSE_MS: u64 = 50;

/// Serves HTTP/1.1 on this socket until `shutdown`: then it stops accepting, streams and polls end at once,
/// requests under way get [`HTTP_DRAIN_MS_MAX`] to finish, and what is left is cut off. `annex` is
/// what another door contributes. Returns when no connection is left. Errors: the address of the socket cannot be read.
pub async fn serve(
    listener: TcpListener,
    node: Node,
    annex: Arc<dyn Annex>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, "serving HTTP");
    let router = router(Door::new(node, shutdown.clone()).with_annex(annex));
    let places = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
    let cut = CancellationToken::new();
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept HTTP connections");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                continue;
            }
        };
        // Beyond the bound the connection is dropped, which closes it.
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let connection = connection(stream, peer, router.clone(), shutdown.clone());
        let cut = cut.clone();
        connections.spawn(async move {
            tokio::select! {
                () = connection => {}
                () = cut.cancelled() => {}
            }
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    let drain = Duration::from_millis(HTTP_DRAIN_MS_MAX);
    if tokio::time::timeout(drain, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "cutting off HTTP connections");
        cut.cancel();
        connections.wait().await;
    }
    Ok(())
}

/// Returns whether an accept failed because of the connection it was for, which says nothing about the next.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Serves one connection until either side closes it.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    shutdown: CancellationToken,
) {
    // Answers are small and complete: waiting to fill a packet would only add latency.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "cannot set TCP_NODELAY");
    }
    // Or the kernel takes megabytes for a client that reads nothing, which then seems to have been told.
    #[cfg(target_os = "linux")]
    if let Err(error) = SockRef::from(&stream).set_tcp_notsent_lowat(HTTP_UNSENT_BYTES_MAX as u32) {
        tracing::debug!(%error, %peer, "cannot set TCP_NOTSENT_LOWAT");
    }
    let peer_id = Peer(Arc::from(canonical(peer.ip()).to_string()));
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer_id.clone());
        router.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    http.header_read_timeout(Duration::from_millis(HTTP_IDLE_MS_MAX));
    // Not `pipeline_flush`: with it hyper takes all that a body has, whether the client reads or not.
    http.max_buf_size(HTTP_UNSENT_BYTES_MAX);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, %peer, "HTTP connection ended");
    }
}

/// Returns an IPv4 address that came through an IPv6 socket as what it is, so that rules for it hold.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpSocket;
    use tokio::task::JoinHandle;

    use super::*;

    /// Reads until the text has come so many times.
    async fn read_until(stream: &mut TcpStream, text: &str, times: usize) -> String {
        let mut seen = String::new();
        while seen.matches(text).count() < times {
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).await.unwrap();
            assert!(count > 0, "the connection ended after {seen}");
            seen.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
        seen
    }

    async fn ask(address: SocketAddr, requests: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(requests.as_bytes()).await.unwrap();
        stream
    }

    /// Serves a node until it is stopped.
    async fn served(node: Node) -> (SocketAddr, CancellationToken, JoinHandle<io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let annex = Arc::new(crate::http::NoAnnex);
        (address, stop.clone(), tokio::spawn(serve(listener, node, annex, stop)))
    }

    #[tokio::test]
    async fn connections_are_kept_and_end_with_the_node() {
        let (address, stop, served) = served(Node::in_memory().await).await;

        let twice = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2);
        let mut idle = ask(address, &twice).await;
        read_until(&mut idle, "HTTP/1.1 200 OK", 2).await;
        let watch = "GET /v1/watch?watch=subtree:/ HTTP/1.1\r\nhost: x\r\n\r\n";
        let mut streaming = ask(address, watch).await;
        read_until(&mut streaming, "event: snapshot", 1).await;

        stop.cancel();
        served.await.unwrap().unwrap();
        assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
        let mut rest = Vec::new();
        streaming.read_to_end(&mut rest).await.unwrap();
        assert!(rest.ends_with(b"0\r\n\r\n"), "the stream ends properly: {}", rest.escape_ascii());
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    }

    /// How many messages subscribers have taken.
    fn taken(node: &Node) -> f64 {
        let found = node.gauges().into_iter().find(|(name, ..)| *name == "roost_watch_messages");
        found.expect("there is such a gauge").2
    }

    #[tokio::test]
    async fn what_a_client_does_not_read_waits_as_messages_and_nowhere_else() {
        const WRITES: usize = 64;
        let node = Node::in_memory().await;
        let (address, stop, served) = served(node.clone()).await;
        let create = "POST /v1/znodes/a HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
        let mut writer = ask(address, create).await;
        read_until(&mut writer, "HTTP/1.1 201", 1).await;

        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut hung = socket.connect(address).await.unwrap();
        let watch = "GET /v1/watch?watch=data:/a HTTP/1.1\r\nhost: x\r\n\r\n";
        hung.write_all(watch.as_bytes()).await.unwrap();
        read_until(&mut hung, "event: snapshot", 1).await;
        let data = "x".repeat(60_000);
        let write =
            format!("PUT /v1/znodes/a HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n{data}");
        for _ in 0..WRITES {
            writer.write_all(write.as_bytes()).await.unwrap();
            read_until(&mut writer, "HTTP/1.1 200", 1).await;
        }
        let taken = taken(&node);
        assert!(
            taken < WRITES as f64 / 2.0,
            "{taken} of {WRITES} were taken though it reads nothing"
        );

        stop.cancel();
        drop(hung);
        served.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_address_of_the_client_is_its_identity() {
        let (address, stop, served) = served(Node::in_memory().await).await;
        for (ip, status) in [("127.0.0.1", "200"), ("127.0.0.2", "403")] {
            let create = "POST /v1/znodes/a HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
            let body = format!(r#"{{"acl":[{{"perms":"rda","scheme":"ip","id":"{ip}"}}]}}"#);
            let length = body.len();
            let rule = format!(
                "PUT /v1/acl/a HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            let read = "HEAD /v1/znodes/a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            let mut stream = ask(address, &format!("{create}{rule}{read}")).await;
            let mut answers = String::new();
            stream.read_to_string(&mut answers).await.unwrap();
            let last = answers.rsplit("HTTP/1.1 ").next().unwrap();
            assert!(last.starts_with(status), "{ip}: {answers}");
        }
        stop.cancel();
        served.await.unwrap().unwrap();
    }

    #[test]
    fn an_ipv4_client_of_an_ipv6_socket_is_an_ipv4_client() {
        assert_eq!(canonical("::ffff:10.0.0.1".parse().unwrap()).to_string(), "10.0.0.1");
        assert_eq!(canonical("::1".parse().unwrap()).to_string(), "::1");
    }
}
