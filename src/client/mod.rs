//! The Rust client of the HTTP door: typed calls, retries that are safe, and watch streams that resume.
//!
//! A [`Client`] holds a list of endpoints and speaks to one of them until it fails, then to the next. What
//! may be sent again, and when, is decided in one place (`request`):
//!
//! - An endpoint that cannot be connected to, or that answers 503 or 429 `busy`, has done nothing: the next
//!   one is tried. After each round of all endpoints the client waits, twice as long each time and with
//!   jitter, so that a crowd of clients does not knock in step.
//! - A request that was sent and not answered may have been carried out. Reads are sent again; so are
//!   writes, because each carries an `Idempotency-Key` under which the cluster remembers its first answer.
//!   Calls about the cluster itself have no key and are not repeated.
//! - Every call ends within the client's timeout. When all endpoints refuse connections it ends sooner:
//!   waiting would hide a mistyped address.
//! - Everything else is the cluster's answer and is returned as it is.
//!
//! A [`Watch`] never skips a change silently: after a broken connection it resumes behind the last zxid it
//! has handed out, on another endpoint, and when the node no longer knows that point it says so (`Reset`)
//! and sends a snapshot. A [`ServiceWatch`] is the same for the instances of services, in whatever layout they are.
//!
//! Departures from ZooKeeper's clients: no session is needed to read, write or watch; a session is a token
//! that any node accepts, so nothing is re-attached after a failover, and renewing it is the caller's
//! business.
//!
//! What it deliberately lacks: TLS, a cache, and background tasks ([`sdk`](crate::sdk) has the latter two). Nothing runs
//! unless a call of it is being awaited.

mod audit;
mod call;
mod cluster;
mod error;
pub mod model;
mod policies;
mod protection;
mod request;
mod service_watch;
mod services;
mod sessions;
mod sse;
mod stream;
mod traffic;
mod watch;
mod znodes;

#[cfg(test)]
mod tests;

pub use crate::probe::{Probe, ProbeFailure};
pub use call::encode_path;
pub use error::{Error, Refusal};
pub use request::{Client, jittered};
pub use service_watch::ServiceWatch;
pub use sse::{SseMessage, SseOverflow, SseParser};
pub use watch::{Watch, WatchFilter, WatchKind};
pub use znodes::ReadOptions;
