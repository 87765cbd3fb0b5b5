//! Who takes traffic: where an instance says it is, and what keeps it from coming back.
//!
//! A registry is told of instances in many ways: a URL as the name of a znode, JSON as its data, an address as the name.
//! [`Layouts::claim`](crate::registry::Layouts::claim), which is the registry's, reads from any of them the one thing that
//! traffic control needs, *where* the instance says it is, and its labels.
//!
//! A [`Tombstone`] says what may not be created for a while: the znode at a path, or any registration at (or from) an
//! address below a pattern. It is a TTL znode below [`TOMBSTONES`] whose *name* says all that decides, so that the tree
//! looks one up by its name and parses nothing; its data is a note for people: who set it, and why.
//!
//! An *override* is a policy that says how an instance stands, whatever it says itself ([`means`] says of whom). What it has
//! changed in the tree, and what was there before, is an [`Effect`], noted in a znode below [`EFFECTS`].
//!
//! A service that would lose too many providers at once by silence keeps them for a while: whose end is put off is a
//! [`Suspect`], and what was lost is a [`Loss`]; both are znodes that the tree itself writes.
//! That an instance is leaving is a [`Drain`], noted in a TTL znode below [`DRAINS`]: an override for this one registration, and
//! its end.
//!
//! What it keeps to:
//!
//! - Pure: the tree asks these functions while it applies a transaction, so the same bytes give the same answer on every
//!   node. JSON is only looked at for a text and a number; floats are read by nobody.
//! - Lenient: what cannot be understood claims nothing, and nothing is kept from being created because of it.
//! - Whoever subscribes to a service is not an instance of it: `consumer://` and the URLs by which Dubbo is governed
//!   (`override://`, `route://` and the like) claim nothing.
//!
//! What it lacks on purpose: the state (a tombstone is in force for as long as its znode exists, which is the tree's
//! business), and who may set one (the access control list of [`TOMBSTONES`] says so, as for any znode).

mod drain;
mod effect;
mod overlay;
mod protection;
mod tombstone;

pub use crate::registry::Claim;
pub use drain::{DRAINS, Drain};
pub use effect::{EFFECTS, Effect};
pub use overlay::means;
pub use protection::{LOSSES, Loss, SUSPECTS, Suspect};
pub use tombstone::{TOMBSTONES, Tombstone, address_prefix, scope_of};
