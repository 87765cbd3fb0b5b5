//! What a service is, as a reading of the tree: it stores nothing.
//!
//! A service named `web` is the znode `/services/web`. Its providers are the children of
//! `/services/web/providers`, each an ephemeral znode whose name is the provider's id and whose data is
//! JSON; its consumers are the children of `/services/web/consumers`. That is the whole model: whoever
//! writes such znodes, through any door, is part of the service, and whoever's session ends is not any more.
//! There is no index of services beside the tree, so nothing can disagree with it.
//!
//! What follows from it:
//!
//! - Reading is lenient, for others write these znodes too: fields that are not known are passed over, those
//!   that may be missing have defaults, and what cannot be understood is reported beside the list with the
//!   reason instead of spoiling it.
//! - Writing is strict: a provider that registers here has a name, a host and a port that mean something.
//!
//! What it lacks on purpose: health checks, other layouts, access control, and any knowledge of HTTP or
//! sessions.

mod layout;

pub use layout::{
    Consumer, Layout, Provider, STATUS_DEFAULT, WEIGHT_DEFAULT, consumers_path, providers_path,
    service_path, services_path,
};
