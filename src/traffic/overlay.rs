use std::collections::BTreeMap;
use std::sync::Arc;

use super::Claim;
use crate::policy::{Kind, Mode, Overrides, Policies, Policy, Target, Terms};

/// How an instance stands with those who look for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// `up`, or why it should get no new traffic.
    pub status: String,
    /// Share of the traffic.
    pub weight: u32,
    /// What it can be chosen by.
    pub labels: BTreeMap<String, String>,
}

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

/// Lays the overrides that hold for the instance at a path over how it stands by itself. Where two say something of the
/// same, the one with the more special pattern holds, of equal ones the later by name. Returns how it stands then, and the
/// names of those that were laid over, the last one being the strongest; `None` if none holds. Cost: see
/// [`Policies::matching`].
pub fn overlaid(
    policies: &Policies,
    path: &str,
    claim: &Claim,
    before: &Standing,
) -> Option<(Standing, Vec<Arc<str>>)> {
    if policies.has_none(Kind::Overrides) {
        return None;
    }
    let holding = |(name, policy): (&Arc<str>, &Policy)| match &policy.terms {
        Terms::Overrides(overrides)
            if policy.mode == Mode::Enforce && means(overrides, path, claim) =>
        {
            Some((policy.pattern.specificity(), name.clone(), overrides.clone()))
        }
        _ => None,
    };
    let mut holding: Vec<_> =
        policies.matching(Kind::Overrides, path).filter_map(holding).collect();
    holding.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
    if holding.is_empty() {
        return None;
    }
    let mut standing = before.clone();
    let mut names = Vec::with_capacity(holding.len());
    for (_, name, overrides) in holding {
        standing.status = overrides.status.unwrap_or(standing.status);
        standing.weight = overrides.weight.unwrap_or(standing.weight);
        standing.labels.extend(overrides.labels);
        names.push(name);
    }
    Some((standing, names))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(pattern: &str, terms: &str) -> Policy {
        let json = format!(r#"{{"set_by":"a","reason":"b","pattern":"{pattern}",{terms}}}"#);
        Policy::parse(Kind::Overrides, json.as_bytes()).unwrap()
    }

    #[test]
    fn the_most_special_override_of_those_that_hold_is_the_last_word() {
        let mut policies = Policies::new();
        let path = "/services/web/providers/a";
        let claim =
            Claim { addresses: vec![("10.0.0.5".to_owned(), Some(80))], labels: BTreeMap::new() };
        let before = Standing { status: "up".to_owned(), weight: 100, labels: BTreeMap::new() };
        assert_eq!(overlaid(&policies, path, &claim, &before), None);
        policies.set(
            Kind::Overrides,
            "host",
            policy("/services/**", r#""ip":"10.0.0.5","weight":0"#),
        );
        policies.set(
            Kind::Overrides,
            "other",
            policy("/services/**", r#""ip":"10.0.0.6","weight":7"#),
        );
        let off = r#""weight":9,"mode":"off""#;
        policies.set(Kind::Overrides, "off", policy("/services/web/providers/a", off));
        let one = r#""instance":"10.0.0.5:80","weight":50,"labels":{"zone":"b"}"#;
        let (standing, names) = overlaid(&policies, path, &claim, &before).unwrap();
        assert_eq!((standing.weight, names.len()), (0, 1));
        policies.set(Kind::Overrides, "a-one", policy("/services/web/providers/*", one));
        let (standing, names) = overlaid(&policies, path, &claim, &before).unwrap();
        assert_eq!((standing.weight, standing.status.as_str()), (50, "up"));
        assert_eq!((&*names[0], &*names[1]), ("host", "a-one"));
        assert_eq!(standing.labels.get("zone").map(String::as_str), Some("b"));
        assert_eq!(overlaid(&policies, "/other/a", &claim, &before), None);
    }
}
