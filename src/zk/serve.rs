use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Door;
use super::connection::connection;
use crate::limits::ZK_CONNECTIONS_MAX;

/// Pause after an accept that failed for want of something (such as file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves ZooKeeper's protocol on this socket until `shutdown`, which closes all connections: their clients go on with
/// another node, and their sessions live. Returns when no connection is left.
pub async fn serve(listener: TcpListener, door: Door, shutdown: CancellationToken) {
    tracing::info!(address = %door.address(), "serving ZooKeeper clients");
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, SocketAddr::new(peer.ip().to_canonical(), peer.port())),
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept ZooKeeper connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Beyond the bounds the connection is dropped, which closes it.
        let per_address_max = door.options().connections_per_address_max;
        let Some(place) = door.meters().enter(peer, ZK_CONNECTIONS_MAX, per_address_max) else {
            tracing::debug!(%peer, "too many connections");
            continue;
        };
        let (door, shutdown) = (door.clone(), shutdown.clone());
        connections.spawn(async move {
            tokio::select! {
                why = connection(&door, stream, &place) => {
                    tracing::debug!(%peer, session = %place.tally.session(), why, "a ZooKeeper connection ends");
                }
                () = shutdown.cancelled() => {}
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
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
