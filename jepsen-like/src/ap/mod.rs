//! An AP service registry: the message-bus design that articles on large registries describe, as a working program
//! (`roost-jepsen ap-serve`), so that what it gains and what it costs can be measured beside roost.
//!
//! Every node takes every request and answers it alone: registrations, renewals, lists, subscriptions. A change becomes
//! a message that is pushed to the other nodes at once, and fetched by them on a timer when the push was lost. The
//! whole list is in memory, and nothing is on disk. Providers renew sessions (leases); every node hears of every
//! renewal, directly or from the others, and stops showing an instance whose session it has not heard of for a
//! timeout. Consumers hold lists of their own, so a node that is gone costs them nothing but news.
//!
//! There are two forms. They differ only in replication, that is, in what is pushed and pulled and what a node makes
//! of it; door, sessions and subscriptions are the same.
//!
//! - *described* (`described.rs`): one growing version. A change gets the version after the node's own; a node
//!   replays only what is newer than its own version, and asks the others for that. With one publisher at a time this
//!   is a log. With two it is not: two nodes that take a change each while they cannot see each other give out the
//!   same versions, and each drops the other's as old.
//! - *careful* (`careful.rs`): a stamp per instance from a hybrid logical clock, tombstones for what was removed,
//!   and anti-entropy: nodes compare digests and exchange what differs. Merging is commutative, associative and
//!   idempotent, so any order, loss and repetition of messages leads to the same state.
//!
//! Layers: `record` (what is replicated), `described` and `careful` (pure), `lease` (pure), `replica` (either form
//! and the leases, pure: time is passed in), `bus` (sends and fetches), `door` (HTTP), `serve` (puts them together).
//!
//! The door speaks the subset of roost's HTTP API that registries share: sessions, registration, lists, and
//! subscriptions, so that the same client drives both. What it deliberately lacks: everything that needs agreement
//! (znodes, multi, locks, conditional writes), security, and persistence.

mod bus;
mod careful;
mod described;
mod door;
mod lease;
mod record;
mod replica;
mod serve;

pub use replica::Form;
pub use serve::{Options, serve};
