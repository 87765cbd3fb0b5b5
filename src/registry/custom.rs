//! Layouts that people describe themselves: where in their own tree the entries of a service are, and how one is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::layout::namespaced;
use super::parse::{Reading, Source};
use super::place::{Category, LayoutKind, List, decoded, entry_of, instance_lists, list_at};
use crate::types::{PathError, ZnodePath, Zxid};

/// Roots that a layout of one's own cannot have: those that mean something already.
const TAKEN: [&str; 8] =
    ["services", "ns", "dubbo", "motan", "microservices", "serverset", "roost", "zookeeper"];

/// What the list is called beside which rules of Dubbo are, and what they are in.
const PROVIDERS: &str = "providers";
const CONFIGURATORS: &str = "configurators";

/// One element of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Element {
    /// This name.
    Name(Arc<str>),
    /// Any one name.
    Any,
    Service,
    Namespace,
    Group,
}

/// Where entries are: `/our/{namespace}/{service}/nodes/{id}`. `*` stands for any one element; before `{id}`, which comes last,
/// may be what the names of entries begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    root: Arc<str>,
    /// Those of the list.
    elements: Vec<Element>,
    /// What the names of entries begin with.
    begins: Arc<str>,
}

impl Template {
    /// Reads a template. The error is a sentence for a person.
    pub fn parse(text: &str) -> Result<Template, String> {
        ZnodePath::parse(text).map_err(|why| why.reason)?;
        let mut elements: Vec<&str> = text[1..].split('/').collect();
        let last = elements.pop().unwrap_or_default();
        let begins = last.strip_suffix("{id}").filter(|begins| !begins.contains(['{', '}', '*']));
        let begins = begins.ok_or("it does not end with {id}, the name of an entry")?;
        let element = |text: &&str| match *text {
            "{service}" => Ok(Element::Service),
            "{namespace}" => Ok(Element::Namespace),
            "{group}" => Ok(Element::Group),
            "*" => Ok(Element::Any),
            name if name.contains(['{', '}', '*']) => Err(format!(
                "{name:?} is none of {{service}}, {{namespace}}, {{group}}, *, and a plain name"
            )),
            name => Ok(Element::Name(Arc::from(name))),
        };
        let elements = elements.iter().map(element).collect::<Result<Vec<Element>, String>>()?;
        for (element, name) in [
            (Element::Service, "{service}"),
            (Element::Namespace, "{namespace}"),
            (Element::Group, "{group}"),
        ] {
            match elements.iter().filter(|other| **other == element).count() {
                0 if element == Element::Service => return Err(format!("it has no {name}")),
                0 | 1 => {}
                _ => return Err(format!("it has {name} more than once")),
            }
        }
        match elements.first() {
            Some(Element::Name(root)) if TAKEN.contains(&&**root) => {
                Err(format!("/{root} has a layout already"))
            }
            Some(Element::Name(root)) => {
                Ok(Template { root: Arc::clone(root), elements, begins: Arc::from(begins) })
            }
            _ => Err("it does not begin with a name".to_owned()),
        }
    }

    /// Returns it as a pattern of paths, with `*` for what differs.
    pub fn pattern(&self) -> String {
        let names = self.elements.iter().map(|element| match element {
            Element::Name(name) => &**name,
            _ => "*",
        });
        names.chain(["*"]).flat_map(|name| ["/", name]).collect()
    }

    /// Returns whether it says the namespace itself; else it is the same in each.
    fn has_namespace(&self) -> bool {
        self.elements.contains(&Element::Namespace)
    }
}

/// A layout, its name, and how its entries are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomLayout {
    /// As people call it.
    pub name: Arc<str>,
    /// Where its entries are.
    pub template: Template,
    /// What they say.
    pub reading: Reading,
}

impl CustomLayout {
    /// Returns whether a child of a list is an entry, by its name.
    pub(super) fn is_entry(&self, name: &str) -> bool {
        name.starts_with(&*self.template.begins)
    }

    /// Returns whether its entries are providers as Dubbo writes them, at another place: then so are rules beside their list.
    pub(super) fn has_rules(&self) -> bool {
        let Template { elements, begins, .. } = &self.template;
        let is_providers = matches!(elements.last(), Some(Element::Name(it)) if **it == *PROVIDERS);
        is_providers && begins.is_empty() && self.reading == Reading::Url(Source::Name)
    }

    /// Returns the list at a path, given the namespace below which that begins.
    fn list_at<'a>(&'a self, below: &'a str, path: &'a str) -> Option<List<'a>> {
        let (mut namespace, mut service, mut group) = (below, "", None);
        let mut category = Category::Provider;
        let mut names = path.split('/').skip(1);
        let mut elements = self.template.elements.iter().peekable();
        while let Some(element) = elements.next() {
            let name = names.next()?;
            let is_last = elements.peek().is_none();
            let is_rules = || is_last && name == CONFIGURATORS && self.has_rules();
            match element {
                Element::Any => {}
                Element::Name(wanted) if **wanted == *name => {}
                Element::Name(_) if is_rules() => category = Category::Configurator,
                Element::Name(_) => return None,
                Element::Service => service = name,
                Element::Namespace if !below.is_empty() => return None,
                Element::Namespace => namespace = name,
                Element::Group => group = Some(name),
            }
        }
        if names.next().is_some() {
            return None;
        }
        Some(List {
            layout: LayoutKind::Custom(self),
            category,
            namespace,
            service: decoded(service),
            group,
        })
    }

    /// Returns the list of a service, where its name and its namespace alone say where that is.
    fn list_of(&self, namespace: &str, service: &str) -> Option<Result<ZnodePath, PathError>> {
        let Template { elements, .. } = &self.template;
        let is_open = elements.iter().any(|it| matches!(it, Element::Any | Element::Group));
        let has_namespace = self.template.has_namespace();
        if is_open || service.contains('/') || has_namespace && namespace.is_empty() {
            return None;
        }
        let names = elements.iter().map(|element| match element {
            Element::Name(name) => &**name,
            Element::Namespace => namespace,
            _ => service,
        });
        let path: String = names.flat_map(|name| ["/", name]).collect();
        let below = if has_namespace { "" } else { namespace };
        Some(ZnodePath::parse(&path).and_then(|path| namespaced(below, &path)))
    }
}

/// All layouts, those that are built in among them. A clone is O(1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layouts {
    custom: Arc<BTreeMap<Arc<str>, Vec<Arc<CustomLayout>>>>,
    /// Zxid of the newest change of any of the custom ones; zero without.
    changed: Zxid,
}

impl Layouts {
    /// Returns these and the built-in ones. Where two of these mean one list, the first has it. `changed` is the zxid of the
    /// newest change of them, of one that went too.
    pub fn new(custom: impl IntoIterator<Item = Arc<CustomLayout>>, changed: Zxid) -> Layouts {
        let mut by_root: BTreeMap<Arc<str>, Vec<Arc<CustomLayout>>> = BTreeMap::new();
        for layout in custom {
            by_root.entry(Arc::clone(&layout.template.root)).or_default().push(layout);
        }
        let changed = if by_root.is_empty() { Zxid(0) } else { changed };
        Layouts { custom: Arc::new(by_root), changed }
    }

    /// Returns since which zxid the entries of a list are read as they are; zero for a layout that is built in. Any change of
    /// the custom layouts counts for all of these: where two mean one list, one decides whether the other has it.
    pub fn read_since(&self, layout: LayoutKind<'_>) -> Zxid {
        match layout {
            LayoutKind::Custom(_) => self.changed,
            _ => Zxid(0),
        }
    }

    /// Returns which list of which service the znode at a path is, by the path alone. Cost: O(length) for each layout with its
    /// root; next to nothing for a path that is below none.
    pub fn list_at<'a>(&'a self, path: &'a str) -> Option<List<'a>> {
        if let Some(list) = list_at(path) {
            return Some(list);
        }
        if self.custom.is_empty() {
            return None;
        }
        let (below, path) = match path.strip_prefix("/ns/") {
            None => ("", path),
            Some(rest) => rest.split_at(rest.find('/')?),
        };
        let (root, _) = path.strip_prefix('/')?.split_once('/')?;
        self.custom.get(root)?.iter().find_map(|layout| layout.list_at(below, path))
    }

    /// Returns the list that the znode at a path is an entry of, and the path of that list.
    pub fn entry_at<'a>(&'a self, path: &'a ZnodePath) -> Option<(List<'a>, &'a str)> {
        entry_of(path, |parent| self.list_at(parent))
    }

    /// Returns the lists of instances that a service of this name may have, whether they exist or not; those of which the name
    /// does not say the path, as of Motan, are not among them. A name that no layout can have is an error.
    pub fn instance_lists(
        &self,
        namespace: &str,
        service: &str,
    ) -> Result<Vec<ZnodePath>, PathError> {
        let mut lists = instance_lists(namespace, service)?;
        for layout in self.custom.values().flatten() {
            lists.extend(layout.list_of(namespace, service).transpose()?);
        }
        Ok(lists)
    }

    /// Yields the paths below which custom layouts are, but for other namespaces.
    pub fn custom_roots(&self) -> impl Iterator<Item = String> {
        self.custom.keys().map(|root| format!("/{root}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layouts(templates: &[&str]) -> Layouts {
        let layout = |text: &&str| {
            let template = Template::parse(text).unwrap();
            let reading = Reading::Address(Source::Data);
            Arc::new(CustomLayout { name: Arc::from(*text), template, reading })
        };
        Layouts::new(templates.iter().map(layout), Zxid(1))
    }

    #[test]
    fn a_list_is_recognised_by_the_captures_of_its_template() {
        let flat = "/our/{service}/n-{id}";
        let deep = "/our/*/{group}/{service}/live/{id}";
        let named = "/tenants/{namespace}/{service}/{id}";
        let all = layouts(&[flat, deep, named]);
        let at = |path: &str| {
            all.list_at(path).map(|list| {
                let layout = list.layout.name().to_owned();
                let group = list.group.map(str::to_owned);
                (layout, list.namespace.to_owned(), list.service.into_owned(), group)
            })
        };
        let found = |layout: &str, namespace: &str, service: &str, group: Option<&str>| {
            let group = group.map(str::to_owned);
            Some((layout.to_owned(), namespace.to_owned(), service.to_owned(), group))
        };
        assert_eq!(at("/our/web"), found(flat, "", "web", None));
        assert_eq!(at("/our/a%2Fb"), found(flat, "", "a/b", None));
        assert_eq!(at("/ns/red/our/web"), found(flat, "red", "web", None));
        assert_eq!(at("/our/x/g/web/live"), found(deep, "", "web", Some("g")));
        assert_eq!(at("/tenants/red/web"), found(named, "red", "web", None));
        assert_eq!(at("/dubbo/x/providers"), found("dubbo", "", "x", None), "as built in");
        for path in ["/our", "/our/x/g/web/dead", "/other/web", "/ns/red/tenants/blue/web", "/ns"] {
            assert_eq!(at(path), None, "{path}");
        }
        let entry = |path: &str| {
            let path = ZnodePath::parse(path).unwrap();
            all.entry_at(&path).map(|(_, list)| list.to_owned())
        };
        assert_eq!(entry("/our/web/n-1").as_deref(), Some("/our/web"));
        assert_eq!(entry("/our/web/leader"), None);
        assert_eq!(entry("/dubbo/x/providers/y").as_deref(), Some("/dubbo/x/providers"));
    }

    #[test]
    fn rules_are_beside_providers_that_are_written_as_dubbo_does() {
        let category = |text: &str, reading: Reading, path: &str| {
            let template = Template::parse(text).unwrap();
            let layout = CustomLayout { name: Arc::from("rpc"), template, reading };
            let all = Layouts::new([Arc::new(layout)], Zxid(0));
            all.list_at(path).map(|list| (list.category, list.service.into_owned()))
        };
        let url = || Reading::Url(Source::Name);
        let (at, rules) = ("/rpc/{service}/providers/{id}", "/rpc/web/configurators");
        let web = |category: Category| Some((category, "web".to_owned()));
        assert_eq!(category(at, url(), "/rpc/web/providers"), web(Category::Provider));
        assert_eq!(category(at, url(), rules), web(Category::Configurator));
        let below = format!("/ns/red{rules}");
        assert_eq!(category(at, url(), &below), web(Category::Configurator));
        assert_eq!(category(at, url(), "/rpc/web/routers"), None);
        assert_eq!(category(at, Reading::Url(Source::Data), rules), None);
        assert_eq!(category("/rpc/{service}/live/{id}", url(), rules), None);
    }

    #[test]
    fn the_lists_that_a_name_says_are_lists_of_that_name() {
        let all = layouts(&[
            "/our/{service}/{id}",
            "/by/{namespace}/{service}/{id}",
            "/a/*/{service}/{id}",
        ]);
        let custom = |namespace: &str| -> Vec<String> {
            let lists = all.instance_lists(namespace, "web").unwrap();
            for path in &lists {
                let list = all.list_at(path.as_str()).unwrap();
                assert_eq!((list.namespace, &*list.service), (namespace, "web"), "{path}");
            }
            lists[5..].iter().map(ToString::to_string).collect()
        };
        assert_eq!(custom(""), ["/our/web"]);
        assert_eq!(custom("red"), ["/by/red/web", "/ns/red/our/web"]);
        assert!(all.instance_lists("", "..").is_err());
    }

    #[test]
    fn what_is_no_template_is_refused_with_what_is_wrong() {
        for (text, word) in [
            ("our/{service}/{id}", "/"),
            ("/our/{service}", "{id}"),
            ("/our/{id}/{service}", "{id}"),
            ("/our/{service}/{id}x", "{id}"),
            ("/our/{id}", "{service}"),
            ("/our/{service}/{service}/{id}", "more than once"),
            ("/our/{colour}/{service}/{id}", "colour"),
            ("/our/x*/{service}/{id}", "x*"),
            ("/{service}/{id}", "begin"),
            ("/services/{service}/x/{id}", "/services"),
            ("/ns/{namespace}/{service}/{id}", "/ns"),
        ] {
            let why = Template::parse(text).unwrap_err();
            assert!(why.contains(word), "{text}: {why}");
        }
        let template = Template::parse("/our/*/{group}/{service}/n-{id}").unwrap();
        assert_eq!(template.pattern(), "/our/*/*/*/*");
    }
}
