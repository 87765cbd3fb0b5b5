//! Which service somebody asks for, and where in the tree that is.

use std::collections::BTreeSet;

use super::error::Failed;
use super::service_delta::describes_layout;
use super::service_view::is_admitted;
use crate::registry::{
    Category, DUBBO_APPLICATION, Instance, LayoutKind, List, health_notes, mapped, mapping_path,
};
use crate::tree::Tree;
use crate::types::{AclId, ZnodePath};
use crate::watch::{Filter, WatchKind};

/// Which service, and which part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Empty for the default one.
    pub(crate) namespace: String,
    pub(crate) service: String,
    /// Only lists of this layout, or instances of this framework.
    pub(crate) layout: Option<String>,
    /// Only instances of this group.
    pub(crate) group: Option<String>,
    /// Only instances with this label.
    pub(crate) label: Option<(String, String)>,
    /// Applications whose instances are those of the service too: see [`Wanted::resolved`].
    pub(crate) applications: Vec<String>,
}

impl Wanted {
    /// Returns it with the applications that offer the service by interface, as Dubbo's mapping says.
    pub(crate) fn resolved(mut self, tree: &Tree) -> Wanted {
        let mapping = mapping_path(&self.namespace, &self.service).ok();
        let mapping = mapping.filter(|_| self.takes(LayoutKind::Curator));
        let znode = mapping.and_then(|mapping| tree.get(mapping.as_str()));
        self.applications =
            znode.and_then(|znode| znode.data()).map_or_else(Vec::new, |data| mapped(data));
        self.applications.retain(|name| *name != self.service);
        self
    }

    /// Returns the lists that it has, those of the applications behind its own.
    pub(super) fn lists<'a>(&self, tree: &'a Tree) -> Vec<(&'a ZnodePath, List<'a>)> {
        let names = [&self.service].into_iter().chain(&self.applications);
        let paths = names.flat_map(|name| tree.services().lists(&self.namespace, name).iter());
        let lists = paths.filter_map(|path| Some((path, tree.layouts().list_at(path.as_str())?)));
        let is_wanted = |(_, list): &(&ZnodePath, List<'_>)| match list.category {
            Category::Mapping => list.service == self.service && self.takes(LayoutKind::Curator),
            _ if list.service == self.service => self.takes(list.layout),
            _ => self.has(list),
        };
        lists.filter(is_wanted).collect()
    }

    /// Returns what somebody follows who follows it: its lists that exist, and those that may come and that policies let it
    /// follow. A name that no layout can have is an error.
    pub(crate) fn filters(&self, tree: &Tree, authority: &[AclId]) -> Result<Vec<Filter>, Failed> {
        let places = tree.layouts().instance_lists(&self.namespace, &self.service)?.into_iter();
        let mut paths: BTreeSet<ZnodePath> =
            places.filter(|path| is_admitted(tree, authority, path)).collect();
        // Beside those there are some whose place the name alone does not tell.
        let present = self.lists(tree).into_iter();
        let present = present.filter(|(_, list)| list.category.is_instances());
        paths.extend(present.map(|(path, _)| path.clone()));
        // A list whose path is so long that nothing can be noted of its instances has no notes.
        let notes: Vec<ZnodePath> =
            paths.iter().filter_map(|list| health_notes(list.as_str()).ok()).collect();
        let kind = WatchKind::ChildrenData;
        let mut filters: Vec<Filter> =
            paths.into_iter().chain(notes).map(|path| Filter { path, kind }).collect();
        // For the list of applications it does not matter whether there is one yet.
        let mapping = mapping_path(&self.namespace, &self.service).ok();
        let mapping = mapping.filter(|path| is_admitted(tree, authority, path));
        filters.extend(mapping.map(|path| Filter { path, kind: WatchKind::Data }));
        Ok(filters)
    }

    /// Returns whether this is a list of instances of the service.
    pub(crate) fn has(&self, list: &List<'_>) -> bool {
        let is_of_application = || {
            list.layout == LayoutKind::Curator
                && self.applications.iter().any(|name| *name == list.service)
        };
        list.category.is_instances()
            && list.namespace == self.namespace
            && (list.service == self.service || is_of_application())
            && self.takes(list.layout)
    }

    /// Returns whether a change of this znode may make other instances those of the service.
    pub(crate) fn is_moved_by(&self, path: &ZnodePath) -> bool {
        let is_mapping = || {
            let mapping = mapping_path(&self.namespace, &self.service);
            mapping.is_ok_and(|mapping| mapping == *path)
        };
        describes_layout(path) || is_mapping()
    }

    /// Returns whether it has instances in a layout that a policy describes.
    pub(crate) fn is_described(&self, tree: &Tree) -> bool {
        let lists = self.lists(tree);
        lists.iter().any(|(_, list)| matches!(list.layout, LayoutKind::Custom(_)))
    }

    /// Returns whether lists of this layout may have what is wanted.
    fn takes(&self, layout: LayoutKind<'_>) -> bool {
        self.layout.as_ref().is_none_or(|name| {
            let is_curators = matches!(layout, LayoutKind::Curator);
            name == layout.name() || (is_curators && is_on_curator(name))
        })
    }

    pub(super) fn is_met(&self, instance: &Instance) -> bool {
        // The lists of a layout have been chosen already; who builds on Curator is told by what the entry says.
        let framework = |name: &String| !is_on_curator(name) || *name == instance.layout;
        self.layout.as_ref().is_none_or(framework)
            && self.group.as_ref().is_none_or(|group| instance.group.as_ref() == Some(group))
            && self
                .label
                .as_ref()
                .is_none_or(|(key, value)| instance.metadata.get(key) == Some(value))
    }
}

/// Parses `key=value`.
pub(crate) fn label(text: &str) -> Result<(String, String), Failed> {
    let pair = text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    pair.ok_or_else(|| Failed::bad_arguments(format!("label is {text:?}: expected key=value")))
}

/// Returns whether an instance is that of an application of Dubbo, which offers interfaces.
pub(super) fn is_of_application(instance: &Instance) -> bool {
    instance.layout == DUBBO_APPLICATION
}

/// Returns whether a name is that of a framework whose layout is Curator's.
fn is_on_curator(name: &str) -> bool {
    matches!(name, "spring" | DUBBO_APPLICATION)
}
