//! One subscriber of a door: waits for what the hub has for it, and fetches a snapshot when the hub cannot tell it all.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::stage::Stage;
use super::{Consistency, Node};
use crate::limits::MESSAGES_PER_DELIVERY_MAX;
use crate::tree::Tree;
use crate::types::{Error, Zxid};
use crate::watch::{Filter, Message, Since, Start, SubscriberId};

/// How long a fresh subscription may wait, at least, to learn whether the zxid that it begins with exists.
const AHEAD_PATIENCE: Duration = Duration::from_secs(1);

/// Why a subscriber is sent a snapshot although it had been told more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// It wanted to resume from a zxid whose followers are no longer kept.
    TooOld,
    /// It wanted to resume from a zxid that the cluster has not reached: made up, or of another cluster.
    NotReached,
    /// It was too slow, this node took over a snapshot from the leader, or a policy spreads the news and the state is less
    /// than what waited.
    Skipped,
}

/// What a subscriber is told next.
pub enum Delivery {
    /// The state to start from: at first, and whenever changes were skipped.
    Snapshot {
        /// The state; changes follow from its zxid on.
        tree: Arc<Tree>,
        /// Set when something was skipped.
        reset: Option<ResetReason>,
    },
    /// Changes, in order.
    Messages {
        /// The changes.
        messages: Vec<Message>,
        /// Everything up to here has been told with them.
        upto: Zxid,
        /// The state of exactly that zxid, when there is nothing more to take.
        tree: Option<Arc<Tree>>,
    },
    /// Nothing came within the wait.
    Idle {
        /// Everything up to here has been told.
        upto: Zxid,
    },
}

/// A subscription; dropping it ends it.
pub struct Subscription {
    node: Node,
    stage: Arc<Stage>,
    id: SubscriberId,
    woken: Arc<Notify>,
    stop: CancellationToken,
    /// Has nothing to take until it is woken.
    drained: bool,
    /// The zxid that it wants to resume from, while it is not known whether the cluster is that far.
    ahead: Option<Zxid>,
    /// It begins with a snapshot, and has not begun.
    takes_snapshot: bool,
    /// The first reset of a fresh subscription is its beginning, and of a resumed one the sign that it came too late.
    reset: Option<ResetReason>,
}

impl Node {
    /// Subscribes to paths: from now on, beginning with a snapshot, or after what the client has seen already. Its `turn`
    /// ([`turn_of`](crate::watch::turn_of)) decides when it is told where a policy spreads the news. Errors: `Busy` and
    /// `Refused` at the bounds of the hub.
    pub fn subscribe(
        &self,
        filters: Vec<Filter>,
        since: Option<Zxid>,
        turn: u64,
    ) -> Result<Subscription, Error> {
        self.enter(filters, since, turn, false)
    }

    /// As [`Node::subscribe`], but that it always begins with a snapshot, of which the client takes what it has not `seen`.
    pub fn subscribe_by_snapshot(
        &self,
        filters: Vec<Filter>,
        seen: Option<Zxid>,
        turn: u64,
    ) -> Result<Subscription, Error> {
        self.enter(filters, seen, turn, true)
    }

    fn enter(
        &self,
        filters: Vec<Filter>,
        since: Option<Zxid>,
        turn: u64,
        takes_snapshot: bool,
    ) -> Result<Subscription, Error> {
        let woken = Arc::new(Notify::new());
        let wake = {
            let woken = woken.clone();
            Box::new(move || woken.notify_one())
        };
        let stage = &self.inner.stage;
        let now_ms = stage.clock.now_ms();
        let mut audience = stage.audience.lock();
        // What it missed is news too. What it asks for without saying what it has seen is not.
        let wait = since.and_then(|_| audience.wait(&stage.root(), &filters, turn, now_ms));
        let after = since.map_or(Since::Now, Since::After);
        let (id, start) = audience.hub.subscribe(filters, after, turn, wake)?;
        let is_held = wait.is_some_and(|wait| audience.hub.defer(id, wait, now_ms));
        drop(audience);
        if is_held {
            stage.due_sooner.notify_one();
        }
        let since = since.filter(|_| !takes_snapshot);
        let ahead = since.filter(|_| start == Start::Ahead);
        Ok(Subscription {
            node: self.clone(),
            stage: stage.clone(),
            id,
            woken,
            stop: self.inner.stop.clone(),
            drained: ahead.is_some() || is_held,
            ahead,
            takes_snapshot,
            reset: since.map(|_| ResetReason::TooOld),
        })
    }
}

impl Subscription {
    /// Waits for the next delivery, at most `wait`. `None` when the node is stopping. Cancelling loses nothing.
    pub async fn next(&mut self, wait: Duration) -> Option<Delivery> {
        if let Some(since) = self.ahead {
            let asked = self.node.read(Consistency::Linearizable, Zxid(0));
            match tokio::time::timeout(wait.max(AHEAD_PATIENCE), asked).await {
                Ok(Ok(_)) => self.ahead = None,
                // Nobody knows at present: the client is told nothing new, and it is asked again.
                Err(_) => return Some(Delivery::Idle { upto: since }),
                Ok(Err(_)) => {
                    self.stop.run_until_cancelled(tokio::time::sleep(wait)).await?;
                    return Some(Delivery::Idle { upto: since });
                }
            }
            if let Some(snapshot) = self.begin_again_unless_reached(since) {
                return snapshot;
            }
        }
        let mut patience = std::pin::pin!(tokio::time::sleep(wait));
        loop {
            if self.drained {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return None,
                    () = self.woken.notified() => {}
                    () = patience.as_mut() => {
                        let upto = self.stage.audience.lock().hub.tell_upto(self.id)?;
                        return Some(Delivery::Idle { upto });
                    }
                }
            }
            if let Some(delivery) = self.take()? {
                return Some(delivery);
            }
            // There may be many steps through the ring without anything for this subscriber.
            tokio::task::yield_now().await;
        }
    }

    /// Takes what is there: `Some(None)` when that is nothing, `None` when the subscription is gone.
    fn take(&mut self) -> Option<Option<Delivery>> {
        let now_ms = self.stage.clock.now_ms();
        let mut audience = self.stage.audience.lock();
        if std::mem::take(&mut self.takes_snapshot) {
            audience.hub.skip(self.id);
        } else if audience.is_state_less(&self.stage.root(), self.id, now_ms) {
            audience.hub.skip(self.id);
            self.reset = Some(ResetReason::Skipped);
        }
        let hub = &mut audience.hub;
        let taken = hub.take(self.id, MESSAGES_PER_DELIVERY_MAX)?;
        if taken.lost {
            // Under the hub's lock the root is exactly what has been published.
            let tree = self.stage.root();
            hub.restart(self.id, tree.zxid())?;
            // So nothing waits, and what comes next may have to wait for its wave.
            self.drained = hub.last_zxid() == tree.zxid();
            let reset = self.reset.replace(ResetReason::Skipped);
            return Some(Some(Delivery::Snapshot { tree, reset }));
        }
        self.reset = Some(ResetReason::Skipped);
        self.drained = !taken.more;
        Some(match taken.messages.is_empty() {
            false => {
                // Under the hub's lock the root is what has been published; a subscriber that has seen more on another
                // node, or has more to take, is told of another state than that.
                let tree = Some(self.stage.root());
                let tree = tree.filter(|tree| self.drained && tree.zxid() == taken.upto);
                Some(Delivery::Messages { messages: taken.messages, upto: taken.upto, tree })
            }
            true => None,
        })
    }
}

impl Subscription {
    /// Whoever was told of a zxid was told after it was committed, so this node, which has just made sure to have what was
    /// committed, has reached it too. If not there is no such zxid yet, and to wait for it would be to skip, silently,
    /// everything up to it.
    fn begin_again_unless_reached(&mut self, since: Zxid) -> Option<Option<Delivery>> {
        let mut audience = self.stage.audience.lock();
        let hub = &mut audience.hub;
        let tree = self.stage.root();
        if tree.zxid() >= since {
            return None;
        }
        self.drained = false;
        self.reset = Some(ResetReason::Skipped);
        let begun = hub.restart(self.id, tree.zxid());
        Some(begun.map(|_| Delivery::Snapshot { tree, reset: Some(ResetReason::NotReached) }))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.stage.audience.lock().hub.unsubscribe(self.id);
    }
}
