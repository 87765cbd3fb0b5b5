//! Who somebody is, and what a list of rules lets them do: one set of rules for all doors.
//!
//! A client has an *authority*: the identities it has proved, as [`AclId`](crate::types::AclId)s. Its address
//! is one of them ([`of_address`]), each accepted proof adds more ([`prove`], [`of_password`]). A znode has a list of
//! rules, checked and brought into its stored form when it is set ([`fix_up`]), asked whenever somebody
//! wants something ([`permits`]), and shown without its secrets to those who may not change it
//! ([`masked`]).
//!
//! What holds here:
//!
//! - The same text gives the same identity at every door: a name and a password over HTTP are the `digest`
//!   identity that the same name and password give in ZooKeeper's `addauth`.
//! - The empty list is open to everyone; `world:anyone:cdrwa` is stored as it. `super` may do everything and
//!   is never stored.
//! - The schemes are `world`, `auth`, `digest`, `ip` and `x509`. A rule of any other would speak of nobody,
//!   so it is refused when it is set.
//! - A reason travels in the authority, beside the identities ([`because`]), to whoever writes down what was done: it is
//!   no identity, and as no list can name its scheme it permits nothing.
//! - Nothing here panics, whatever arrives, and passwords are compared in a time that does not tell where
//!   they differ.
//!
//! What it lacks on purpose: sessions (a session's secret is no identity), I/O, certificates (whoever has
//! checked one adds its name as `x509`), and a choice of digest: it is SHA-1, which a strong password
//! survives and a weak one does not, because that is what is in the lists that clients send.
//!
//! Sources: ZooKeeper `PrepRequestProcessor.fixupACL`, `ZooKeeperServer.checkACL`,
//! `DigestAuthenticationProvider`, `IPAuthenticationProvider`.

mod network;
mod proof;
mod reason;
mod rules;

pub use network::{Network, of_address};
pub use proof::{SuperDigest, digest_of, of_password, prove};
pub use reason::{because, name_of, reason_of};
pub use rules::{fix_up, masked, permits, received};
