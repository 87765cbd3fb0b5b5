//! When a session has been silent for too long: the leader's bookkeeping of liveness.
//!
//! Liveness is not in the log. Nodes report to the leader which sessions they have heard from; the leader
//! keeps one deadline per session in an [`ExpiryQueue`] and, when an [`ExpiryGate`] allows it, proposes
//! `CloseSession` for those whose deadline has passed. A session ends only by that committed entry, never by
//! what is written down here.
//!
//! Lateness is always safe, earliness never: a lock whose holder still believes in it must not be given away,
//! while a provider that lingers is merely a failed call. Hence the rules, in the order in which they matter:
//!
//! 1. Never early: a session is not named before its full timeout has passed since it was last heard of.
//! 2. Late by at most one tick, as long as nothing below interferes: deadlines are rounded *up* to a multiple
//!    of the tick, so that thousands of sessions share a bucket and one batch closes them.
//! 3. A new leader knows nothing of what its predecessor heard: every session gets its full timeout again.
//! 4. A leader that was paused (its ticks are too far apart) has not read the reports that were sent
//!    meanwhile: again.
//! 5. A leader that lost its quorum may have been cut off from the nodes that report: nothing expires while
//!    it has none, and when it is back: again.
//!
//! One exception to the first, which has to be asked for: where a policy says so, a session whose connection its client has
//! ended has only a *grace* left, unless it is heard of again ([`ExpiryQueue::hasten`]). The node that had the connection
//! reports that only if it was itself well for as long as the session's timeout ([`Steadiness`]): clients leave a node
//! that stood still or was cut off, and that is no fault of theirs.
//!
//! How often a client should renew is told to it with each renewal ([`next_renew_ms`]).
//!
//! How the leader uses the two, on each tick and in this order:
//!
//! ```text
//! touch everything that was reported
//! match gate.tick(observation at now) {
//!     Hold    => nothing (not leading: drop the queue)
//!     Restart => on a new term fill the queue from the tree's sessions; queue.restart_all(now, term)
//!     Expire  => propose CloseSession for queue.expired(now, n) }
//! ```
//!
//! A session stays in the queue until its `CloseSession` is applied and [`ExpiryQueue::remove`] is called;
//! should the proposal be lost, it is named again after a while. Nobody may be told in between that it lives, not even once
//! the deadlines have begun anew, but in another term, in which the proposal does not count.
//!
//! Deliberately absent: clocks (time is passed in, ms of a monotonic clock), the sessions themselves (the
//! tree has them), and protection against mass expiry, which decides about services and not about sessions.
//! Departure from ZooKeeper, whose `SessionTrackerImpl` this resembles: it drops a session from its queue
//! when it expires and so forgets it when the proposal fails, and it does not notice that it was paused.

mod expiry;
mod gate;
mod renewal;
mod steadiness;

#[cfg(test)]
mod model_test;

pub use expiry::ExpiryQueue;
pub use gate::{Decision, ExpiryGate, Observation};
pub use renewal::{MISSES_DEFAULT, MISSES_MAX, MISSES_MIN, next_renew_ms};
pub use steadiness::Steadiness;
