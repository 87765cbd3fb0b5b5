//! Who is told what: from the events of applied transactions to the messages of each subscriber.
//!
//! A node has one [`Hub`], under one mutex. For every transaction it applies it first publishes the new root
//! of the tree and then calls [`Hub::publish`] with the zxid and the events. A subscriber is one stream of a
//! door (an SSE response, a long poll): it names [`Filter`]s when it subscribes, is woken when there is
//! something, and takes [`Message`]s. Two things hold what it has not taken yet:
//!
//! - The [`Ring`] holds the recent [`Change`]s of this node, all of them, once. It alone owns them, so its
//!   bounds are the bounds of everything that slow subscribers can make a node keep.
//! - A mailbox holds, for one subscriber, the zxids of those changes that its filters match, and which of
//!   their events.
//!
//! Invariants, for a subscriber that has been told everything up to `upto`:
//!
//! 1. The messages it takes are exactly the changes after `upto` that its filters match, in the order of
//!    zxids, each once, each with all the matching events of that transaction in their order. A multi is one
//!    message.
//! 2. Or it is *lost*: it takes nothing more, and says so, until [`Hub::restart`] puts it behind a fresh
//!    snapshot. There is no third possibility, hence never a gap. It gets lost when its mailbox overflows,
//!    when the ring no longer reaches back to where it stands, and when the node installs a snapshot of the
//!    state ([`Hub::reset_all`]).
//! 3. It is woken at most once until it has taken everything, and at least once if there is anything to take: at
//!    once, or after a while during which more comes together ([`Pace`]). Held back it keeps what waits for it, as far
//!    as its mailbox does: one that is told in waves ([`Waves`]) and gets lost learns that when it is its turn.
//!
//! How a door serves one stream:
//!
//! ```text
//! (id, start) = hub.subscribe(filters, since, wake)
//! loop { taken = hub.take(id, n)
//!        if taken.lost  { root = published root; send reset + snapshot of root; hub.restart(id, root.zxid) }
//!        send taken.messages; the client may resume from taken.upto
//!        if !taken.more && !taken.lost { wait for wake, or for the heartbeat } }
//! ```
//!
//! The snapshot may be taken before, after or while the hub's mutex is held, and one snapshot may serve many
//! subscribers: `restart` is told the zxid it stands for, replays from the ring what came after it and passes
//! over what it contains. The same rule lets a client resume on a node that lags behind what it has seen
//! elsewhere. Zxids are the same on all nodes, so a stream may continue on any of them.
//!
//! Deliberately absent: replication (each node tells its own subscribers), access control (each event carries
//! the list that decides; the door asks before it sends), encoding (a change has a slot per event, which the
//! door fills once for all its subscribers), timers (time is passed in), and any merging of changes.

mod agenda;
mod bounds;
mod change;
mod filter;
mod hub;
mod notice;
mod pacer;
mod ring;
mod stream;
mod subscriber;
mod table;
mod watches;
mod waves;

#[cfg(test)]
mod model_test;
#[cfg(test)]
mod watches_test;

pub use agenda::{Agenda, Hold, Moment, Pace};
pub use bounds::{Bounds, Counters};
pub use change::{Change, Message, Selection};
pub use filter::{Filter, WatchKind};
pub use hub::Hub;
pub use notice::{Notice, NoticeKind, WATCH_MODES, WatchMode, WatchesFull, Whose};
pub use pacer::{Pacer, Rate};
pub use ring::{Ring, TooOld};
pub use stream::{Since, Start, Taken};
pub use subscriber::{SubscriberId, Wake};
pub use watches::{WatcherId, Watches};
pub use waves::{Ahead, Wait, Waves, turn_of};
