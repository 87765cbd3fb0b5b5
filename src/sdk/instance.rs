use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::registry::{self, Finding, Health};

/// One provider as consumers see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Unique within its service.
    pub id: String,
    /// Where to reach it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its share of traffic, relative to the others; 0 takes it out.
    pub weight: u32,
    /// `up`, `starting`, `draining`, `out_of_service`, or what the service's people agree on.
    pub status: String,
    /// Anything else that it wants known.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// The zxid of its registration: another number is another process, whatever the address.
    pub incarnation: u64,
    /// The zxid of the last change of what it says, or of its health.
    pub version: u64,
    /// How it stands, whatever it says.
    #[serde(default, skip_serializing_if = "Health::is_healthy")]
    pub health: Health,
}

impl Instance {
    /// Returns `host:port`, the host in brackets if it is an IPv6 address.
    pub fn addr(&self) -> String {
        match self.host.contains(':') && !self.host.starts_with('[') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// Takes up what is noted of it since this zxid, unless another registration is meant.
    pub(super) fn stand(&mut self, finding: Finding, since: u64) {
        if finding.czxid == self.incarnation {
            self.health = finding.health();
            self.version = self.version.max(since);
        }
    }

    /// Returns whether it has said that it takes no (more) calls.
    pub fn has_announced_leave(&self) -> bool {
        matches!(self.status.as_str(), "draining" | "out_of_service")
    }

    /// Returns whether it wants traffic: a weight above 0, and neither starting nor leaving.
    pub fn wants_traffic(&self) -> bool {
        self.weight > 0 && !self.has_announced_leave() && self.status != "starting"
    }
}

/// Returns a number that is the same for the same instances in the same versions, in whatever order: the sum of a hash
/// of each.
pub fn sign<'a>(instances: impl IntoIterator<Item = &'a Instance>) -> u64 {
    let one = |it: &Instance| registry::sign(&it.id, it.incarnation, it.version);
    instances.into_iter().fold(0, |sum: u64, instance| sum.wrapping_add(one(instance)))
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::{Health, Instance, sign};

    /// Returns an instance at port 80 that is up.
    pub(crate) fn instance(id: &str, version: u64) -> Instance {
        Instance {
            id: id.to_owned(),
            host: format!("host-{id}"),
            port: 80,
            weight: 100,
            status: "up".to_owned(),
            metadata: BTreeMap::new(),
            incarnation: 1,
            version,
            health: Health::Healthy,
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
    fn an_ipv6_host_stands_in_brackets() {
        let v6 = Instance { host: "::1".to_owned(), ..instance("a", 1) };
        assert_eq!(
            (v6.addr().as_str(), instance("a", 1).addr().as_str()),
            ("[::1]:80", "host-a:80")
        );
    }
}
