use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::extract::Peer;
use super::{Door, router};
use crate::limits::{HTTP_CONNECTIONS_MAX, HTTP_DRAIN_MS_MAX, HTTP_IDLE_MS_MAX};
use crate::node::Node;

/// Pause after an accept that failed for want of something (such as file descriptors), ms.
const ACCEPT_PAUSE_MS: u64 = 50;

/// Serves HTTP/1.1 on this socket until `shutdown`: then it stops accepting, streams and polls end at once, requests
/// under way get [`HTTP_DRAIN_MS_MAX`] to finish, and what is left is cut off. Returns when no connection is left.
/// Errors: the address of the socket cannot be read.
pub async fn serve(
    listener: TcpListener,
    node: Node,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, "serving HTTP");
    let router = router(Door::new(node, shutdown.clone()));
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
    let peer_id = Peer(Arc::from(canonical(peer.ip()).to_string()));
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer_id.clone());
        router.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    http.header_read_timeout(Duration::from_millis(HTTP_IDLE_MS_MAX));
    http.pipeline_flush(true);
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
