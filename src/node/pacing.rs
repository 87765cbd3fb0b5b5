//! Lets those go who are held back: when their time has come, and not only when something else happens.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::stage::Stage;

/// Runs until the node stops.
pub(super) async fn run(stage: Arc<Stage>, stop: CancellationToken) {
    loop {
        let now_ms = stage.clock.now_ms();
        let (next_due_ms, ringing) = {
            let mut audience = stage.audience.lock();
            audience.release_until(now_ms, now_ms);
            (audience.next_due_ms(), audience.lines.take_ringing())
        };
        ringing.iter().for_each(|bell| bell.notify_one());
        let due = async {
            match next_due_ms {
                Some(due_ms) => {
                    tokio::time::sleep(Duration::from_millis(due_ms.saturating_sub(now_ms))).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = stage.due_sooner.notified() => {}
            () = due => {}
        }
    }
}
