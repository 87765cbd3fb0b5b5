use super::Claim;
use crate::policy::{Overrides, Target};

/// Returns whether an override means the instance at this path, which claims this.
pub fn means(overrides: &Overrides, path: &str, claim: &Claim) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    match &overrides.target {
        Target::All => true,
        Target::Instance(id) => {
            let says = |(host, port): &(String, Option<u16>)| {
                port.is_some_and(|port| *id == format!("{host}:{port}"))
            };
            name == id || claim.addresses.iter().any(says)
        }
        Target::Address(host, port) => claim.is_at(host, *port),
        Target::Selector(labels) => claim.has(labels),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn an_override_means_all_or_one_or_those_of_an_address_or_with_labels() {
        let labels = |key: &str| BTreeMap::from([(key.to_owned(), "v".to_owned())]);
        let claim = Claim {
            addresses: vec![("10.0.0.5".to_owned(), Some(80))],
            labels: labels("k"),
            is_no_instance: false,
        };
        let host = |host: &str, port| Target::Address(host.to_owned(), port);
        for (target, expected) in [
            (Target::All, true),
            (Target::Instance("a".to_owned()), true),
            (Target::Instance("10.0.0.5:80".to_owned()), true),
            (Target::Instance("10.0.0.5".to_owned()), false),
            (host("10.0.0.5", None), true),
            (host("10.0.0.5", Some(81)), false),
            (host("10.0.0.6", None), false),
            (Target::Selector(labels("k")), true),
            (Target::Selector(labels("other")), false),
        ] {
            let overrides = Overrides {
                target: target.clone(),
                status: None,
                weight: Some(0),
                labels: BTreeMap::new(),
            };
            assert_eq!(
                means(&overrides, "/services/web/providers/a", &claim),
                expected,
                "{target:?}"
            );
        }
    }
}
