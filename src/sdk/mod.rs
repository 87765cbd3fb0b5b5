//! What a program links that provides or uses a service: it stays registered, it has a list that is there when the
//! registry is not, and it calls somebody who answers.
//!
//! [`client`](crate::client) is one call at a time; this layer is what has to go on between calls. Its parts can be
//! used alone:
//!
//! - [`Registry`] is one cluster: several seeds at first, then the members that the cluster itself names.
//! - [`Registrar`] keeps providers registered with one registry or many: it renews the session, registers again under
//!   the same id when the session is lost, says when it is late or lost, and leaves in good order.
//! - [`Subscription`] holds the lists of many services, from one registry or many, over one stream for each registry.
//! - [`ServicePool`] picks an instance by weight, takes those out that fail, and looks after them until they answer.
//!
//! Invariants:
//!
//! - The rules are values without clock or I/O ([`ServiceList`], [`Balancer`], [`Accrual`], [`Backoff`], `merged`); the
//!   tasks around them only move bytes and ask what time it is.
//! - A registry that is away never takes anything from a program that runs: its lists stay, its registration is tried
//!   again for ever, its calls go on. Whether a program may *start* without one is its own choice.
//! - "Nothing is known" and "there are none" are two answers ([`LookupError`]). Nobody should mistake a registry that is
//!   down for a service that has no providers.
//! - A list is what the registry said at one zxid and all changes since, in order. What was told twice is merged once, and
//!   an occasional comparison with the registry replaces whatever should have gone astray all the same.
//! - A list does not become empty because everybody fell silent at once: that is more often a broken network than the
//!   end of a service. Those who announced that they leave do leave.
//! - Failures of calls take an instance out of the choice, never the last one.
//! - One attempt at a time for each registry, and after a failure a random part of a growing time: a crowd of clients
//!   that lose a registry together do not come back together.
//!
//! Everything that is dropped ends: there is nothing to close, except that a provider who is dropped without
//! [`Registrar::shutdown`] is listed until its session's timeout.
//!
//! What it deliberately lacks: protocols (it hands out addresses), a global instance, and configuration files.

mod accrual;
mod backoff;
mod balancer;
mod cache;
mod feed;
mod follow;
mod incarnations;
mod instance;
mod keeper;
mod list;
mod lookup;
mod merge;
mod pool;
mod registrar;
mod registry;
mod subscription;

#[cfg(test)]
mod tests;

pub use accrual::{Accrual, AccrualOptions};
pub use backoff::{Backoff, renew_after};
pub use balancer::Balancer;
pub use cache::{Cached, DiskCache};
pub use incarnations::Incarnations;
pub use instance::{Instance, sign};
pub use list::{Origin, Said, ServiceList};
pub use lookup::{LookupError, NotReady};
pub use merge::{MergeRule, merged};
pub use pool::{CallError, Picked, PoolOptions, ServicePool};
pub use registrar::{
    Left, Registrar, RegistrarOptions, RegistrationState, Service, ShutdownOptions,
};
pub use registry::Registry;
pub use subscription::{Discovery, Providers, Subscription, SubscriptionOptions};
