use std::collections::BTreeMap;

pub use crate::client::model::Instance;
use crate::client::model::{Opaque, ServiceDelta};
use crate::registry::{self, DUBBO_APPLICATION, Layouts};

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

    /// Returns whether the registry's probes of it do not fail. Whoever is `suspect` is only silent, and most of those who fall
    /// silent together work: to leave them out would put their load on the others.
    pub fn is_healthy(&self) -> bool {
        self.health.as_deref() != Some("unhealthy")
    }
}

impl Instance {
    /// Returns whether it is of a service in whose list it is told of. Of the applications that offer an interface all
    /// registrations are told, and those of Dubbo alone offer it.
    fn offers(&self, service: &str) -> bool {
        let parent = self.path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let layouts = Layouts::default();
        let list = layouts.list_at(parent);
        list.is_none_or(|list| list.service == service) || self.layout == DUBBO_APPLICATION
    }
}

/// Registrations of a service as a registry lists them, in whatever layout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Those that describe an instance.
    pub instances: Vec<Instance>,
    /// Those that describe none of the service: nobody to call, but a part of the list's sign. The path, and what it adds to the
    /// sign.
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
        let (instances, others): (Vec<Instance>, Vec<Instance>) =
            told.upsert.into_iter().partition(|it| it.offers(&told.service));
        let mut entries =
            Entries { instances, opaque: told.unparsable.into_iter().map(opaque).collect() };
        entries.opaque.extend(others.into_iter().map(|it| {
            let sign = sign([&it]);
            (it.path, sign)
        }));
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
    use serde_json::json;

    use super::{Entries, Instance, registry, sign};
    use crate::client::model::ServiceDelta;

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

    #[test]
    fn of_an_application_that_offers_an_interface_only_what_is_of_dubbo_is_called() {
        let one = |path: &str, layout: &str| {
            json!({"id": path.rsplit('/').next(), "host": "h", "port": 1, "weight": 1, "status": "up",
                "path": path, "layout": layout, "incarnation": 1, "modified": 2})
        };
        let told = json!({"service": "org.Pay", "namespace": "red", "to": 3, "full": true, "remove": [],
        "unparsable": [{"id": "u", "reason": "r", "path": "/ns/red/services/shop/u", "incarnation": 1, "modified": 2}],
        "upsert": [
            one("/ns/red/dubbo/org.Pay/providers/a", "dubbo"),
            one("/ns/red/services/org.Pay/b", "spring"),
            one("/ns/red/services/shop/c", "dubbo_application"),
            one("/ns/red/services/shop/d", "spring"),
            one("/mesh/org.Pay/e", "mesh"),
        ]});
        let told: ServiceDelta = serde_json::from_value(told).unwrap();
        let (entries, _) = Entries::of(told);
        let ids: Vec<&str> = entries.instances.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "c", "e"]);
        let opaque: Vec<(&str, u64)> =
            entries.opaque.iter().map(|(path, sign)| (path.as_str(), *sign)).collect();
        let expected = ["u", "d"].map(|id| registry::sign(id, 1, 2));
        assert_eq!(
            opaque,
            [("/ns/red/services/shop/u", expected[0]), ("/ns/red/services/shop/d", expected[1])],
            "they count for the sign"
        );
    }
}
