//! What a service is, as a reading of the tree: it stores nothing.
//!
//! A service named `web` is the znode `/services/web`. Its providers are the children of `/services/web/providers`, each an
//! ephemeral znode whose name is the provider's id and whose data is JSON; its consumers are the children of
//! `/services/web/consumers`. Whoever writes such znodes, through any door, is part of the service, and whoever's session
//! ends is not any more.
//!
//! That is roost's own layout (`layout`). Frameworks that were written for ZooKeeper have theirs, and are part of the same
//! services: `place` says by the path alone which znode is a list of which service, `parse` what an entry of a list says.
//! People can describe more of them (`custom`); [`Layouts`] are all there are.
//! [`claim`] reads the little that everybody asks for, where an instance says it is, without knowing of which list it is.
//! A list has a sign ([`sign`]), by which two holders of it learn that they hold the same. How an instance stands, whatever it
//! says itself, is noted in a znode of its own (`health`).
//!
//! What follows from it:
//!
//! - Reading is lenient, for others write these znodes too: fields that are not known are passed over, those that may be
//!   missing have defaults, and what cannot be understood is reported beside the list with the reason instead of spoiling
//!   it.
//! - Writing is strict: a provider that registers here has a name, a host and a port that mean something.
//! - Pure: the tree asks for places and signs while it applies a transaction, to keep its index of lists in step.
//!
//! What it lacks on purpose: asking instances how they are, access control, and any knowledge of HTTP or sessions.

mod claim;
mod custom;
mod health;
mod layout;
mod parse;
mod place;
mod sign;

pub use claim::{Claim, claim, said};
pub use custom::{CustomLayout, Layouts, Template};
pub use health::{Finding, HEALTH, Health, health_note, health_notes, is_health_note, noted_at};
pub use layout::{
    Consumer, Layout, Provider, STATUS_DEFAULT, WEIGHT_DEFAULT, consumers_path, metadata_path,
    namespaced, providers_path, service_path, services_path,
};
pub use parse::{
    DUBBO_APPLICATION, Endpoint, Instance, JsonFields, Keys, RULE_STATUS, Reading, Rule, Rules,
    Source, addr, consumer, instance, is_of_rule, rule,
};
pub use place::{Category, LayoutKind, List, ROOTS, mapped, mapping_path};
pub use sign::sign;
