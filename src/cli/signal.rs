//! The signals that end a command.

use tokio::signal::unix::{SignalKind, signal};

/// Returns at the next SIGINT or SIGTERM. From the first call on these no longer end the process by
/// themselves.
pub(super) async fn interrupted() {
    let listen = |kind| signal(kind).expect("the runtime was built with signals");
    let mut interrupt = listen(SignalKind::interrupt());
    let mut terminate = listen(SignalKind::terminate());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
