//! Where frameworks keep their instances: which znode is a list of a service, and which of its children are entries.

use std::borrow::Cow;
use std::collections::BTreeSet;

use percent_encoding::percent_decode_str;

use super::custom::CustomLayout;
use super::layout::namespaced;
use crate::limits::MAPPED_APPLICATIONS_MAX;
use crate::types::{PathError, ZnodePath};

/// What the znodes of the layouts that are built in are below.
pub const ROOTS: [&str; 6] =
    ["/services", "/ns", "/dubbo", "/motan", "/microservices", "/serverset"];
/// Children of `/services/<name>` that are directories of roost's own layout, not instances.
const DIRECTORIES: [&str; 3] = ["providers", "consumers", "metadata"];
/// What the names of entries of a serverset begin with.
const MEMBER: &str = "member_";

/// How a framework arranges a service in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutKind<'a> {
    /// `/services/<name>/{providers,consumers}/<id>`: roost's own.
    Roost,
    /// `/dubbo/<interface>/{providers,consumers,configurators,routers}/<url>`: Dubbo by interface.
    Dubbo,
    /// `/services/<name>/<id>`: Curator, and who builds on it: Spring Cloud Zookeeper, Dubbo by application.
    Curator,
    /// `/motan/<group>/<name>/{server,unavailableServer,client}/<address>`.
    Motan,
    /// `/microservices/<name>/<id>`.
    Kratos,
    /// `/serverset/<path>/member_<number>`; the path is the name.
    Serverset,
    /// One that people have described themselves.
    Custom(&'a CustomLayout),
}

impl<'a> LayoutKind<'a> {
    /// Those that are built in.
    pub const BUILT_IN: [LayoutKind<'static>; 6] = [
        LayoutKind::Roost,
        LayoutKind::Dubbo,
        LayoutKind::Curator,
        LayoutKind::Motan,
        LayoutKind::Kratos,
        LayoutKind::Serverset,
    ];

    /// Returns its name in queries and answers.
    pub fn name(self) -> &'a str {
        match self {
            LayoutKind::Roost => "roost",
            LayoutKind::Dubbo => "dubbo",
            LayoutKind::Curator => "curator",
            LayoutKind::Motan => "motan",
            LayoutKind::Kratos => "kratos",
            LayoutKind::Serverset => "serverset",
            LayoutKind::Custom(layout) => &layout.name,
        }
    }

    /// Returns which of several that tell of the same instance comes first: the least.
    pub fn rank(self) -> (usize, &'a str) {
        let place = match self {
            LayoutKind::Roost => 0,
            LayoutKind::Dubbo => 1,
            LayoutKind::Curator => 2,
            LayoutKind::Motan => 3,
            LayoutKind::Kratos => 4,
            LayoutKind::Serverset => 5,
            LayoutKind::Custom(_) => 6,
        };
        (place, self.name())
    }

    /// Returns whether rules beside a list of this layout change what its instances say, as Dubbo's do.
    pub fn has_rules(self) -> bool {
        match self {
            LayoutKind::Dubbo => true,
            LayoutKind::Custom(layout) => layout.has_rules(),
            _ => false,
        }
    }

    /// Returns whether a child of a list of this layout is an entry of it, by its name.
    pub fn is_entry(self, name: &str) -> bool {
        match self {
            LayoutKind::Curator => !DIRECTORIES.contains(&name),
            LayoutKind::Serverset => name.starts_with(MEMBER),
            LayoutKind::Custom(layout) => layout.is_entry(name),
            _ => true,
        }
    }
}

/// What the entries of a list are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// Instances that serve.
    Provider,
    /// Instances that are registered and do not serve yet.
    Unavailable,
    /// Who subscribes.
    Consumer,
    /// Rules that change what instances say of themselves.
    Configurator,
    /// Rules about who calls whom.
    Router,
    /// None: its data name the applications whose instances are those of the service.
    Mapping,
}

impl Category {
    /// Returns whether its entries are instances.
    pub fn is_instances(self) -> bool {
        matches!(self, Category::Provider | Category::Unavailable)
    }
}

/// A znode whose children are entries of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<'a> {
    /// Whose arrangement it is.
    pub layout: LayoutKind<'a>,
    /// What the entries are.
    pub category: Category,
    /// Empty for the default one, whose layouts begin at the root; those of another begin at `/ns/<namespace>`.
    pub namespace: &'a str,
    /// Name of the service, decoded.
    pub service: Cow<'a, str>,
    /// The group, where the layout has it in the path.
    pub group: Option<&'a str>,
}

/// Returns which list of which service, in a layout that is built in, the znode at a path is, by the path alone. Cost:
/// O(length); next to nothing for a path that is below no layout.
pub(super) fn list_at(path: &str) -> Option<List<'_>> {
    let (namespace, path) = match path.strip_prefix("/ns/") {
        None => ("", path),
        Some(rest) => rest.split_at(rest.find('/')?),
    };
    let (root, rest) = path.strip_prefix('/')?.split_once('/')?;
    let mut group = None;
    let mut elements = rest.split('/');
    let (layout, service, category) = match root {
        "services" => {
            let service = elements.next()?;
            match elements.next() {
                None => (LayoutKind::Curator, service, Category::Provider),
                Some("providers") => (LayoutKind::Roost, service, Category::Provider),
                Some("consumers") => (LayoutKind::Roost, service, Category::Consumer),
                Some(_) => return None,
            }
        }
        "dubbo" => match (elements.next()?, elements.next()?) {
            ("mapping", service) => (LayoutKind::Dubbo, service, Category::Mapping),
            (service, "providers") => (LayoutKind::Dubbo, service, Category::Provider),
            (service, "consumers") => (LayoutKind::Dubbo, service, Category::Consumer),
            (service, "configurators") => (LayoutKind::Dubbo, service, Category::Configurator),
            (service, "routers") => (LayoutKind::Dubbo, service, Category::Router),
            _ => return None,
        },
        "motan" => {
            group = elements.next();
            let service = elements.next()?;
            let category = match elements.next()? {
                "server" => Category::Provider,
                "unavailableServer" => Category::Unavailable,
                "client" => Category::Consumer,
                _ => return None,
            };
            (LayoutKind::Motan, service, category)
        }
        "microservices" => (LayoutKind::Kratos, elements.next()?, Category::Provider),
        "serverset" => {
            let is_entry = elements.next_back().is_some_and(|name| name.starts_with(MEMBER));
            // Whatever its depth, all of the path is the name.
            let _ = elements.by_ref().count();
            (LayoutKind::Serverset, (!is_entry).then_some(rest)?, Category::Provider)
        }
        _ => return None,
    };
    if elements.next().is_some() {
        return None;
    }
    Some(List { layout, category, namespace, service: decoded(service), group })
}

/// Returns the name of a service as it is shown: what is no UTF-8 behind its escapes as it stands.
pub(super) fn decoded(service: &str) -> Cow<'_, str> {
    percent_decode_str(service).decode_utf8().unwrap_or(Cow::Borrowed(service))
}

/// Returns the list that the znode at a path is an entry of, and the path of that list.
pub(super) fn entry_of<'a>(
    path: &'a ZnodePath,
    list_at: impl Fn(&'a str) -> Option<List<'a>>,
) -> Option<(List<'a>, &'a str)> {
    let parent = path.parent_str()?;
    let list = list_at(parent)?;
    list.layout.is_entry(path.name()).then_some((list, parent))
}

/// Returns the applications that the data of a mapping name, each once.
pub fn mapped(data: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(data).unwrap_or_default();
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let names: BTreeSet<&str> = names.take(MAPPED_APPLICATIONS_MAX).collect();
    names.into_iter().map(str::to_owned).collect()
}

/// Returns the znode that names the applications which offer a service by interface. A name that cannot be is an error.
pub fn mapping_path(namespace: &str, service: &str) -> Result<ZnodePath, PathError> {
    namespaced(namespace, &ZnodePath::parse("/dubbo/mapping")?.child(service)?)
}

/// Returns the lists of instances of the layouts that are built in which a service of this name may have.
pub(super) fn instance_lists(namespace: &str, service: &str) -> Result<Vec<ZnodePath>, PathError> {
    let at = |path: String| namespaced(namespace, &ZnodePath::parse(&path)?);
    let mut lists = vec![at(format!("/serverset/{service}"))?];
    if !service.contains('/') {
        lists.push(at(format!("/services/{service}/providers"))?);
        lists.push(at(format!("/services/{service}"))?);
        lists.push(at(format!("/dubbo/{service}/providers"))?);
        lists.push(at(format!("/microservices/{service}"))?);
    }
    Ok(lists)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_recognised_by_its_path_in_every_namespace() {
        use Category::{Configurator, Consumer, Mapping, Provider, Router, Unavailable};
        use LayoutKind::{Curator, Dubbo, Kratos, Motan, Roost, Serverset};
        for (path, layout, category, service, group) in [
            ("/services/web/providers", Roost, Provider, "web", None),
            ("/services/web/consumers", Roost, Consumer, "web", None),
            ("/services/app", Curator, Provider, "app", None),
            ("/dubbo/org.Demo/providers", Dubbo, Provider, "org.Demo", None),
            ("/dubbo/a%2Fb/consumers", Dubbo, Consumer, "a/b", None),
            ("/dubbo/org.Demo/configurators", Dubbo, Configurator, "org.Demo", None),
            ("/dubbo/org.Demo/routers", Dubbo, Router, "org.Demo", None),
            ("/dubbo/mapping/org.Demo", Dubbo, Mapping, "org.Demo", None),
            ("/motan/g/s/server", Motan, Provider, "s", Some("g")),
            ("/motan/g/s/unavailableServer", Motan, Unavailable, "s", Some("g")),
            ("/motan/g/s/client", Motan, Consumer, "s", Some("g")),
            ("/microservices/k", Kratos, Provider, "k", None),
            ("/serverset/role/env/job", Serverset, Provider, "role/env/job", None),
        ] {
            let list = List { layout, category, namespace: "", service: service.into(), group };
            assert_eq!(list_at(path), Some(list.clone()), "{path}");
            let below = format!("/ns/red{path}");
            assert_eq!(list_at(&below), Some(List { namespace: "red", ..list }), "{below}");
        }
    }

    #[test]
    fn what_no_layout_has_is_only_a_tree() {
        for path in [
            "/",
            "/services",
            "/services/web/metadata",
            "/services/web/providers/a",
            "/dubbo/mapping",
            "/dubbo/mapping/x/y",
            "/dubbo/metadata/app/1",
            "/dubbo/org.Demo",
            "/motan/g/command",
            "/microservices/k/id",
            "/serverset/a/member_01",
            "/servicesx/web/providers",
            "/ns",
            "/ns/services",
            "/ns/red/blue/services/web",
            "/config/a/b",
        ] {
            assert_eq!(list_at(path), None, "{path}");
        }
    }

    #[test]
    fn a_directory_is_no_instance_of_the_service_that_it_belongs_to() {
        let entry = |path: &str| {
            let path = ZnodePath::parse(path).unwrap();
            let found = entry_of(&path, list_at);
            found.map(|(list, parent)| (list.layout.name().to_owned(), parent.to_owned()))
        };
        let at = |layout: LayoutKind<'_>, parent: &str| {
            Some((layout.name().to_owned(), parent.to_owned()))
        };
        assert_eq!(entry("/services/web/i"), at(LayoutKind::Curator, "/services/web"));
        assert_eq!(entry("/services/web/metadata"), None);
        assert_eq!(
            entry("/services/web/providers/providers"),
            at(LayoutKind::Roost, "/services/web/providers")
        );
        assert_eq!(entry("/serverset/a/member_7"), at(LayoutKind::Serverset, "/serverset/a"));
        assert_eq!(entry("/serverset/a/b"), None);
    }

    #[test]
    fn a_mapping_names_applications_each_once() {
        assert_eq!(mapped(b"shop, pay,,shop"), ["pay", "shop"]);
        assert_eq!(mapped(b""), [""; 0]);
        assert_eq!(mapped(b"\xff"), [""; 0]);
        assert_eq!(mapped("a,".repeat(9_999).as_bytes()), ["a"]);
        assert_eq!(mapping_path("red", "x").unwrap().as_str(), "/ns/red/dubbo/mapping/x");
    }

    #[test]
    fn the_lists_that_a_name_may_have_are_lists_of_that_name() {
        for namespace in ["", "red"] {
            let lists = instance_lists(namespace, "web").unwrap();
            assert_eq!(lists.len(), 5);
            for path in lists {
                let list = list_at(path.as_str()).unwrap();
                assert_eq!((list.namespace, &*list.service), (namespace, "web"), "{path}");
                assert!(list.category.is_instances());
            }
        }
        assert_eq!(instance_lists("", "a/b").unwrap().len(), 1);
        for (namespace, service) in [("a/b", "web"), ("", ""), ("", "a//b"), ("", "..")] {
            assert!(instance_lists(namespace, service).is_err(), "{namespace:?} {service:?}");
        }
    }
}
