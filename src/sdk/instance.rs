use std::collections::BTreeMap;

pub use crate::client::model::Instance;
use crate::client::model::{Opaque, ServiceDelta};
use crate::registry;

impl Instance {
    /// Returns one that no registry has named: as a provider is that says no more than where it is, with its address for an id
    /// and a path, in the layout `static`.
    pub fn fixed(host: &str, port: u16) -> Instance {
        let mut instance = Instance {
            id: String::new(),
            host: host.to_owned(),
            port,
            weight: registry::WEIGHT_DEFAULT,
            status: registry::STATUS_DEFAULT.to_owned(),
            health: None,
            metadata: BTreeMap::new(),
            group: None,
            path: String::new(),
            layout: "static".to_owned(),
            incarnation: 0,
            modified: 0,
        };
        instance.id = instance.addr();
        instance.path = instance.addr();
        instance
    }

    /// Returns `host:port`, the host in brackets if it is an IPv6 address.
    pub fn addr(&self) -> String {
        registry::addr(&self.host, self.port)
    }

    /// Returns whether it has said that it takes no (more) calls.
    pub fn has_announced_leave(&self) -> bool {
        matches!(self.status.as_str(), "draining" | "out_of_service")
    }

    /// Returns whether it wants traffic: a weight above 0, and neither starting nor leaving.
    pub fn wants_traffic(&self) -> bool {
        self.weight > 0 && !self.has_announced_leave() && self.status != "starting"
    }

    /// Returns whether the registry has no reason to doubt that it works.
    pub fn is_healthy(&self) -> bool {
        !matches!(self.health.as_deref(), Some("unhealthy" | "suspect"))
    }
}

/// Registrations of a service as a registry lists them, in whatever layout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Those that describe an instance.
    pub instances: Vec<Instance>,
    /// Those that describe none: nobody to call, but a part of the list's sign. The path, and what it adds to the sign.
    pub opaque: Vec<(String, u64)>,
}

impl From<Vec<Instance>> for Entries {
    fn from(instances: Vec<Instance>) -> Entries {
        Entries { instances, opaque: Vec::new() }
    }
}

impl Entries {
    /// Returns what came or changed, and the paths of those that went.
    pub(super) fn of(told: ServiceDelta) -> (Entries, Vec<String>) {
        let opaque = |it: Opaque| (it.path, registry::sign(&it.id, it.incarnation, it.modified));
        let entries = Entries {
            instances: told.upsert,
            opaque: told.unparsable.into_iter().map(opaque).collect(),
        };
        (entries, told.remove)
    }
}

/// Returns a number that is the same for the same instances in the same versions, in whatever order: the sum of a hash
/// of each.
pub fn sign<'a>(instances: impl IntoIterator<Item = &'a Instance>) -> u64 {
    let one = |it: &Instance| registry::sign(&it.id, it.incarnation, it.modified);
    instances.into_iter().fold(0, |sum: u64, instance| sum.wrapping_add(one(instance)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Instance, sign};

    /// Returns an instance at port 80 that is up; its znode is named like it.
    pub(crate) fn instance(id: &str, modified: u64) -> Instance {
        Instance {
            id: id.to_owned(),
            path: id.to_owned(),
            layout: "roost".to_owned(),
            incarnation: 1,
            modified,
            ..Instance::fixed(&format!("host-{id}"), 80)
        }
    }

    #[test]
    fn the_sign_is_of_the_set_and_not_of_its_order() {
        let (a, b) = (instance("a", 1), instance("b", 2));
        assert_eq!(sign([&a, &b]), sign([&b, &a]));
        assert_ne!(sign([&a, &b]), sign([&a]));
        assert_ne!(sign([&a, &b]), sign([&a, &instance("b", 3)]));
        assert_ne!(sign([&a]), sign([&Instance { incarnation: 2, ..a.clone() }]));
        assert_eq!(sign([]), 0);
    }
}
