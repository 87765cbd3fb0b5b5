use std::sync::Arc;

use imbl::OrdMap;

use super::pattern::upwards;
use super::{Kind, Policy};

/// A policy and its name.
pub type Named<'a> = (&'a Arc<str>, &'a Policy);

/// The policies of one kind, by the literal beginning of their pattern and by name.
type ByPrefix = OrdMap<Arc<str>, OrdMap<Arc<str>, Arc<Policy>>>;

/// All policies at one point of history. A clone is O(1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    all: OrdMap<(Kind, Arc<str>), Arc<Policy>>,
    by_prefix: OrdMap<Kind, ByPrefix>,
}

impl Policies {
    /// Enters a policy, in place of one with its kind and name. Cost: O(log n).
    pub fn set(&mut self, kind: Kind, name: &str, policy: Policy) {
        self.remove(kind, name);
        let (name, policy): (Arc<str>, _) = (Arc::from(name), Arc::new(policy));
        let by_prefix = self.by_prefix.entry(kind).or_default();
        let prefix = Arc::clone(policy.pattern.prefix());
        by_prefix.entry(prefix).or_default().insert(Arc::clone(&name), Arc::clone(&policy));
        self.all.insert((kind, name), policy);
    }

    /// Removes a policy. Cost: O(log n).
    pub fn remove(&mut self, kind: Kind, name: &str) {
        let Some(policy) = self.all.remove(&(kind, Arc::from(name))) else { return };
        let Some(by_prefix) = self.by_prefix.get_mut(&kind) else { return };
        let prefix = policy.pattern.prefix();
        let Some(named) = by_prefix.get_mut(prefix) else { return };
        named.remove(name);
        if named.is_empty() {
            by_prefix.remove(prefix);
        }
        if by_prefix.is_empty() {
            self.by_prefix.remove(&kind);
        }
    }

    /// Returns a policy by its kind and name.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Policy> {
        self.all.get(&(kind, Arc::from(name))).map(Arc::as_ref)
    }

    /// Yields all, by kind and name.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, Named<'_>)> {
        self.all.iter().map(|((kind, name), policy)| (*kind, (name, policy.as_ref())))
    }

    /// Returns whether there is none of a kind.
    pub fn has_none(&self, kind: Kind) -> bool {
        !self.by_prefix.contains_key(&kind)
    }

    /// Yields the policies of a kind whose pattern matches a path. Cost: O(depth · log n + those with the same literal
    /// beginning).
    pub fn matching<'a>(&'a self, kind: Kind, path: &'a str) -> impl Iterator<Item = Named<'a>> {
        let by_prefix = self.by_prefix.get(&kind).into_iter();
        let named = by_prefix.flat_map(move |by| upwards(path).filter_map(|prefix| by.get(prefix)));
        let policies = named.flat_map(|named| named.iter());
        policies
            .filter(move |(_, policy)| policy.pattern.matches(path))
            .map(|(name, policy)| (name, policy.as_ref()))
    }

    /// Returns the policy of a kind that holds for a path where one alone can hold: one that will end by itself before
    /// those that stay, then the one with the most special pattern, and of equal ones the first by name.
    pub fn prevailing<'a>(&'a self, kind: Kind, path: &'a str) -> Option<Named<'a>> {
        self.matching(kind, path).max_by(|(a_name, a), (b_name, b)| {
            let rank =
                |policy: &Policy| (policy.expires_at_ms.is_some(), policy.pattern.specificity());
            rank(a).cmp(&rank(b)).then_with(|| b_name.cmp(a_name))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Policies, Policy};

    fn policy(pattern: &str, ends: bool) -> Policy {
        let ends = if ends { r#""expires_at_ms":1,"# } else { "" };
        let data =
            format!(r#"{{"set_by":"a","reason":"b",{ends}"pattern":"{pattern}","grace_ms":250}}"#);
        Policy::parse(Kind::Disconnect, data.as_bytes()).unwrap()
    }

    fn holds<'a>(policies: &'a Policies, path: &'a str) -> Option<&'a str> {
        policies.prevailing(Kind::Disconnect, path).map(|(name, _)| &**name)
    }

    #[test]
    fn what_ends_by_itself_comes_first_then_what_is_most_special_then_the_first_name() {
        let path = "/services/web/providers";
        let mut policies = Policies::default();
        assert_eq!(holds(&policies, path), None);
        for (name, pattern, ends, expected) in [
            ("m", "/**", false, "m"),
            ("a", "/**", false, "a"),
            ("web", "/services/web/**", false, "web"),
            ("other", "/services/other/**", true, "web"),
            ("pause", "/**", true, "pause"),
        ] {
            policies.set(Kind::Disconnect, name, policy(pattern, ends));
            assert_eq!(holds(&policies, path), Some(expected), "with {name}");
        }
        assert_eq!(policies.prevailing(Kind::Admission, path), None);
        for (name, left) in [("pause", "web"), ("web", "a"), ("a", "m")] {
            policies.remove(Kind::Disconnect, name);
            assert_eq!(holds(&policies, path), Some(left), "without {name}");
        }
        for name in ["m", "other", "never"] {
            policies.remove(Kind::Disconnect, name);
        }
        assert_eq!(policies, Policies::default());
    }

    #[test]
    fn a_policy_takes_the_place_of_one_of_its_name_whatever_the_patterns() {
        let mut policies = Policies::default();
        policies.set(Kind::Disconnect, "p", policy("/a/**", false));
        policies.set(Kind::Disconnect, "p", policy("/b/**", false));
        assert_eq!((holds(&policies, "/a/x"), holds(&policies, "/b/x")), (None, Some("p")));
        assert_eq!(policies.iter().count(), 1);
    }
}
