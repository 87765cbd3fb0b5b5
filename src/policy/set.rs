use std::sync::Arc;

use imbl::OrdMap;

use super::index::{Found, Place};
use super::{Kind, Layout, Mode, Policy, Reach, Removal, Terms};
use crate::limits::LAYOUTS_MAX;
use crate::registry::{CustomLayout, Layouts};
use crate::types::Zxid;

/// A policy and its name.
pub type Named<'a> = (&'a Arc<str>, &'a Policy);

/// The patterns of the policies of removal that are there from the start, with the names by which they can be replaced:
/// the paths whose children are providers, in each layout that is built in, in the default namespace and in the others.
const PROTECTED: [(&str, &str); 12] = [
    ("default-services", "/services/*/providers"),
    ("default-dubbo", "/dubbo/*/providers"),
    ("default-curator", "/services/*"),
    ("default-motan", "/motan/*/*/server"),
    ("default-kratos", "/microservices/*"),
    ("default-serverset", "/serverset/**"),
    ("default-namespaces", "/ns/*/services/*/providers"),
    ("default-namespaces-dubbo", "/ns/*/dubbo/*/providers"),
    ("default-namespaces-curator", "/ns/*/services/*"),
    ("default-namespaces-motan", "/ns/*/motan/*/*/server"),
    ("default-namespaces-kratos", "/ns/*/microservices/*"),
    ("default-namespaces-serverset", "/ns/*/serverset/**"),
];

/// All policies at one point of history, the built-in ones among them. A clone is O(1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policies {
    all: OrdMap<(Kind, Arc<str>), Arc<Policy>>,
    by_pattern: OrdMap<Kind, Place>,
    /// Those that say who may follow what.
    about_following: Place,
    /// What those of the kind `layout` describe, and since when they do.
    layouts: Layouts,
}

impl Default for Policies {
    fn default() -> Policies {
        Policies::new()
    }
}

impl Policies {
    /// Returns those that are built in.
    pub fn new() -> Policies {
        let mut policies = Policies {
            all: OrdMap::new(),
            by_pattern: OrdMap::new(),
            about_following: Place::default(),
            layouts: Layouts::default(),
        };
        for (name, _) in PROTECTED {
            policies.remove(Kind::Removal, name);
        }
        policies
    }

    /// Enters a policy, in place of one with its kind and name. Cost: O(log n).
    pub fn set(&mut self, kind: Kind, name: &str, policy: Policy) {
        self.take_out(kind, name);
        let (name, policy): (Arc<str>, _) = (Arc::from(name), Arc::new(policy));
        self.by_pattern.entry(kind).or_default().enter(&name, &policy);
        if policy.is_about_following() {
            self.about_following.enter(&name, &policy);
        }
        self.all.insert((kind, name), policy);
    }

    /// Removes a policy; a built-in one of its kind and name holds again. Cost: O(log n).
    pub fn remove(&mut self, kind: Kind, name: &str) {
        self.take_out(kind, name);
        if let Some(built_in) = built_in(kind, name) {
            self.set(kind, name, built_in);
        }
    }

    fn take_out(&mut self, kind: Kind, name: &str) {
        let Some(policy) = self.all.remove(&(kind, Arc::from(name))) else { return };
        if policy.is_about_following() {
            self.about_following.leave(name, &policy.pattern);
        }
        let Some(by_pattern) = self.by_pattern.get_mut(&kind) else { return };
        by_pattern.leave(name, &policy.pattern);
        if *by_pattern == Place::default() {
            self.by_pattern.remove(&kind);
        }
    }

    /// Brings the layouts in step with the policies of their kind, of which this is the zxid of the newest change. Cost:
    /// O(policies of the kind).
    pub fn follow_layouts(&mut self, changed: Zxid) {
        let all = self.all.range((Kind::Layout, Arc::from(""))..);
        let of_kind = all.take_while(|((of, _), _)| *of == Kind::Layout);
        let layouts = of_kind.filter_map(|((_, name), policy)| match &policy.terms {
            Terms::Layout(Layout { template, reading }) if policy.mode == Mode::Enforce => {
                let (template, reading) = (template.clone(), reading.clone());
                Some(Arc::new(CustomLayout { name: Arc::clone(name), template, reading }))
            }
            _ => None,
        });
        self.layouts = Layouts::new(layouts.take(LAYOUTS_MAX), changed);
    }

    /// Returns the layouts in which services are, as [`Policies::follow_layouts`] found them last.
    pub fn layouts(&self) -> &Layouts {
        &self.layouts
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
        !self.by_pattern.contains_key(&kind)
    }

    /// Returns whether none says who may follow what.
    pub fn has_none_about_following(&self) -> bool {
        self.about_following == Place::default()
    }

    /// Yields the policies of a kind whose pattern matches a path. Cost: O(places of the index that the path leads to), which
    /// are at most those that patterns with its elements, or `*` in their place, have.
    pub fn matching<'a>(&'a self, kind: Kind, path: &str) -> impl Iterator<Item = Named<'a>> {
        self.find(kind, path).policies.into_iter()
    }

    pub(super) fn find<'a>(&'a self, kind: Kind, path: &str) -> Found<'a> {
        let mut found = Found::default();
        if let Some(index) = self.by_pattern.get(&kind) {
            index.find(path, Reach::Znode, &mut found);
        }
        found
    }

    /// Finds the policies about following that speak of what somebody hears of a path.
    pub(super) fn find_about_following<'a>(&'a self, path: &str, reach: Reach) -> Found<'a> {
        let mut found = Found::default();
        self.about_following.find(path, reach, &mut found);
        found
    }

    /// Returns the policy of a kind that holds for a path where one alone can hold: one that will end by itself before
    /// those that stay, one that was set before those that are built in, then the one with the most special pattern, and
    /// of equal ones the first by name.
    pub fn prevailing<'a>(&'a self, kind: Kind, path: &str) -> Option<Named<'a>> {
        self.matching(kind, path).max_by(|(a_name, a), (b_name, b)| {
            let rank = |policy: &Policy| {
                (policy.expires_at_ms.is_some(), !policy.is_built_in, policy.pattern.specificity())
            };
            rank(a).cmp(&rank(b)).then_with(|| b_name.cmp(a_name))
        })
    }

    /// Returns the name and the terms of the policy of removal that holds where the providers of a service are the children
    /// of this path, and its mode; `None` where none holds or it is off.
    pub fn removal<'a>(&'a self, parent: &str) -> Option<(&'a str, &'a Removal, Mode)> {
        let (name, policy) = self.prevailing(Kind::Removal, parent)?;
        match &policy.terms {
            Terms::Removal(removal) if policy.mode != Mode::Off => {
                Some((name, removal, policy.mode))
            }
            _ => None,
        }
    }
}

/// Returns the data of the policy that is there from the start under this name, if any: what its znode would hold.
pub fn built_in_data(kind: Kind, name: &str) -> Option<String> {
    let (_, pattern) =
        PROTECTED.iter().find(|(known, _)| kind == Kind::Removal && *known == name)?;
    Some(format!(
        r#"{{"set_by":"roost","reason":"built in","pattern":"{pattern}","max_ratio":0.2,"window_s":300,"max_hold_s":600}}"#
    ))
}

fn built_in(kind: Kind, name: &str) -> Option<Policy> {
    let data = built_in_data(kind, name)?;
    let policy = Policy::parse(kind, data.as_bytes()).expect("the built-in policies are valid");
    Some(Policy { is_built_in: true, ..policy })
}

#[cfg(test)]
mod tests {
    use super::super::Pattern;
    use crate::registry::{Category, Layouts};

    use super::{Kind, Mode, PROTECTED, Policies, Policy, Removal, Terms, built_in};

    fn policy(pattern: &str, mode: Mode, expires_at_ms: Option<u64>) -> Policy {
        let any = built_in(Kind::Removal, PROTECTED[0].0).unwrap();
        let pattern = Pattern::parse(pattern).unwrap();
        Policy { is_built_in: false, pattern, mode, expires_at_ms, ..any }
    }

    fn holds<'a>(policies: &'a Policies, path: &'a str) -> Option<&'a str> {
        policies.prevailing(Kind::Removal, path).map(|(name, _)| &**name)
    }

    #[test]
    fn services_are_protected_from_the_start_and_what_is_set_comes_first() {
        let path = "/services/web/providers";
        let mut policies = Policies::new();
        assert_eq!(holds(&policies, path), Some("default-services"));
        assert_eq!(holds(&policies, "/locks/a"), None);
        let built_in = built_in(Kind::Removal, PROTECTED[0].0).unwrap();
        assert_eq!(built_in.terms, Terms::Removal(Removal::default()));
        policies.set(Kind::Removal, "all", policy("/**", Mode::Observe, None));
        assert_eq!(holds(&policies, path), Some("all"));
        policies.set(Kind::Removal, "web", policy("/services/web/**", Mode::Enforce, None));
        assert_eq!(holds(&policies, path), Some("web"));
        policies.set(Kind::Removal, "pause", policy("/**", Mode::Off, Some(1)));
        assert_eq!(holds(&policies, path), Some("pause"), "what ends by itself is an exception");
        assert_eq!(policies.removal(path), None);
        for name in ["pause", "web", "all"] {
            policies.remove(Kind::Removal, name);
        }
        assert_eq!(policies, Policies::new());
    }

    #[test]
    fn each_layout_is_protected_from_the_start_in_every_namespace() {
        let (policies, layouts) = (Policies::new(), Layouts::default());
        for (layout, list) in [
            ("services", "/services/web/providers"),
            ("dubbo", "/dubbo/com.a.B/providers"),
            ("curator", "/services/web"),
            ("motan", "/motan/group/web/server"),
            ("kratos", "/microservices/web"),
            ("serverset", "/serverset/role/env/job"),
        ] {
            assert_eq!(holds(&policies, list), Some(&*format!("default-{layout}")));
            let below = format!("/ns/red{list}");
            let expected = match layout {
                "services" => "default-namespaces".to_owned(),
                layout => format!("default-namespaces-{layout}"),
            };
            assert_eq!(holds(&policies, &below), Some(&*expected));
            for list in [list, &below] {
                let list = layouts.list_at(list).map(|list| list.category);
                assert_eq!(list, Some(Category::Provider), "{layout}");
            }
        }
        for path in ["/motan/group/web/client", "/dubbo/com.a.B/consumers", "/ns/red/locks/a"] {
            assert_eq!(holds(&policies, path), None, "{path}");
        }
    }

    #[test]
    fn a_built_in_policy_is_replaced_by_name_and_comes_back() {
        let mut policies = Policies::new();
        let name = PROTECTED[0].0;
        policies.set(Kind::Removal, name, policy("/services/*/providers", Mode::Off, None));
        assert_eq!(policies.removal("/services/web/providers"), None);
        policies.remove(Kind::Removal, name);
        assert_eq!(policies, Policies::new());
        policies.remove(Kind::Admission, name);
        assert_eq!(policies, Policies::new());
    }
}
