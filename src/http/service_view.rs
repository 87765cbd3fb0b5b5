//! What a service is made of at one point of history: the one place of this door that reads the entries of lists, in
//! whatever layout they are.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Door;
use super::error::Failed;
use super::extract::Caller;
use super::read;
use super::service_wanted::{Wanted, is_of_application};
use crate::policy::{self, Asked, Reach};
use crate::registry::{
    self, Category, Health, Instance, LayoutKind, List, Rules, namespaced, providers_path,
};
use crate::traffic::Effect;
use crate::tree::{Lists, Tree, Znode, permits};
use crate::types::{AclId, Code, Perms, SessionId, Stat, ZnodePath, Zxid, normal_host};

/// Why an entry is listed by its name only.
pub(crate) const NOT_PERMITTED: &str = "its access control list does not permit to read it";

/// A znode that is an entry of a service, or claims to be.
pub(crate) struct Entry<'a> {
    pub(crate) path: &'a ZnodePath,
    pub(crate) list: List<'a>,
    /// How it stands, and since which zxid it does and is read as it is.
    pub(crate) health: (Health, Zxid),
    znode: &'a Znode,
    may_read: bool,
}

impl<'a> Entry<'a> {
    pub(crate) fn stat(&self) -> Stat {
        self.znode.stat()
    }

    /// Returns its data if the caller may see them.
    fn data(&self) -> Result<Option<&'a [u8]>, String> {
        match self.may_read {
            true => Ok(self.znode.data().map(|data| &data[..])),
            false => Err(NOT_PERMITTED.to_owned()),
        }
    }

    /// Returns what it says if it is of a list of consumers.
    pub(crate) fn consumer(&self) -> Result<BTreeMap<String, String>, String> {
        registry::consumer(&self.list, self.path.name(), self.data()?)
    }

    /// Returns what it says itself if it is of a list of instances.
    fn instance(&self) -> Result<Instance, String> {
        registry::instance(&self.list, self.path.name(), self.data()?)
    }
}

/// An instance and the znode that says so.
pub(crate) struct Registered<'a> {
    pub(crate) path: &'a ZnodePath,
    pub(crate) kind: LayoutKind<'a>,
    pub(crate) stat: Stat,
    pub(crate) health: (Health, Zxid),
    pub(crate) instance: Instance,
}

impl Registered<'_> {
    fn owner(&self) -> Option<SessionId> {
        Some(self.stat.ephemeral_owner).filter(|owner| !owner.is_none())
    }
}

/// The instances of a service.
#[derive(Default)]
pub(crate) struct Instances<'a> {
    /// Each with what else says the same in other layouts, ordered by id.
    pub(crate) all: Vec<(Registered<'a>, Vec<Registered<'a>>)>,
    /// Those whose address another session has taken since: with the winner's path.
    pub(crate) conflicts: Vec<(Registered<'a>, &'a ZnodePath)>,
    /// Entries that describe no instance, and why.
    pub(crate) unparsable: Vec<(Entry<'a>, String)>,
}

/// A service at one point of history, as somebody with this authority may see it.
pub(crate) struct ServiceView<'a> {
    tree: &'a Tree,
    authority: &'a [AclId],
    wanted: Wanted,
    lists: Vec<(&'a ZnodePath, List<'a>)>,
    /// Dubbo's, by what they and the list that they mean are below; read when somebody asks for them.
    rules: OnceCell<BTreeMap<&'a str, Rules>>,
}

impl<'a> ServiceView<'a> {
    /// Returns the service. Errors: `no_node` when it has no list, `no_auth` when one may not be read: a list without those
    /// whom the caller may not see would look like an outage.
    pub(crate) fn of(
        tree: &'a Tree,
        authority: &'a [AclId],
        wanted: Wanted,
    ) -> Result<ServiceView<'a>, Failed> {
        let wanted = wanted.resolved(tree);
        let lists = wanted.lists(tree);
        for (path, _) in &lists {
            let readable = tree.readable(path.as_str(), authority);
            readable.map_err(|code| Failed::code(code).at(tree.zxid()))?;
        }
        if lists.is_empty() {
            return Err(Failed::code(Code::NoNode).at(tree.zxid()));
        }
        Ok(ServiceView { tree, authority, wanted, lists, rules: OnceCell::new() })
    }

    /// Returns the service as [`ServiceView::of`] does, to somebody who follows it: `no_auth` also where policies do not allow
    /// that any more.
    pub(crate) fn followed(
        tree: &'a Tree,
        authority: &'a [AclId],
        wanted: Wanted,
    ) -> Result<ServiceView<'a>, Failed> {
        let service = ServiceView::of(tree, authority, wanted)?;
        let may_follow = |(path, list): &(&ZnodePath, List<'_>)| {
            !list.category.is_instances() || is_admitted(tree, authority, path)
        };
        match service.lists.iter().all(may_follow) {
            true => Ok(service),
            false => Err(Failed::code(Code::NoAuth).at(tree.zxid())),
        }
    }

    /// Returns what an instance says itself where overrides have changed its data, or rules of Dubbo what it shows, by JSON
    /// pointer.
    pub(crate) fn declared(&self, one: &Registered<'a>) -> BTreeMap<String, Value> {
        if one.kind.has_rules() {
            let entry = self.entry_at(one.path).filter(|_| self.rules_for(one.path).is_some());
            let own = entry.and_then(|entry| entry.instance().ok());
            return own.map_or_else(BTreeMap::new, |own| own.hidden_by(&one.instance));
        }
        let note = Effect::note_of(one.path).ok();
        let note = note.and_then(|note| self.tree.get(note.as_str())?.data());
        match note.and_then(|data| Effect::read(data)) {
            Some(Effect::Patched { before, .. }) => before,
            _ => BTreeMap::new(),
        }
    }

    /// Returns whether there is such a znode at this point of history.
    pub(crate) fn exists(&self, path: &ZnodePath) -> bool {
        self.tree.get(path.as_str()).is_some()
    }

    /// Returns which list the znode at a path is.
    pub(crate) fn list_at<'p>(&'p self, path: &'p str) -> Option<List<'p>> {
        self.tree.layouts().list_at(path)
    }

    /// Returns when it was said last which applications offer the service; 0 when it is not.
    pub(crate) fn mapped_at(&self) -> Zxid {
        let mappings = self.lists.iter().filter(|(_, list)| list.category == Category::Mapping);
        let zxids = mappings.filter_map(|(path, _)| self.tree.get(path.as_str()));
        zxids.map(|znode| znode.stat().mzxid).max().unwrap_or_default()
    }

    /// Returns the lists of instances that those who use the service follow: not what is one of Curator by its path alone.
    pub(crate) fn followed_lists(&self) -> Vec<&'a ZnodePath> {
        let is_one = |path: &ZnodePath, list: &List<'_>| {
            let state = self.tree.services().list(path.as_str());
            let has_entries = state.is_some_and(|state| state.entries > 0);
            list.category.is_instances() && (list.layout != LayoutKind::Curator || has_entries)
        };
        let lists = self.lists.iter().filter(|(path, list)| is_one(path, list));
        lists.map(|(path, _)| *path).collect()
    }

    /// Returns what was asked for.
    pub(crate) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Returns the zxid of the newest change and the sign of its lists of instances, or of all its lists. Cost: O(lists).
    pub(crate) fn state(&self, of_instances: bool) -> (Zxid, u64) {
        let counted =
            self.lists.iter().filter(|(_, list)| !of_instances || list.category.is_instances());
        let states = counted.filter_map(|(path, _)| self.tree.services().list(path.as_str()));
        states.fold((self.mapped_at(), 0), |(revision, sign), state| {
            (revision.max(state.revision), state.sign.wrapping_add(sign))
        })
    }

    /// Yields the entries of its lists of a category, by list and by name.
    pub(crate) fn entries(
        &self,
        is_wanted: fn(Category) -> bool,
    ) -> impl Iterator<Item = Entry<'a>> {
        let lists = self.lists.iter().filter(move |(_, list)| is_wanted(list.category));
        lists.flat_map(|(path, list)| {
            let children = self.tree.get(path.as_str()).into_iter().flat_map(|it| it.children());
            children.filter(|path| list.layout.is_entry(path.name())).filter_map(|path| {
                let znode = self.tree.get(path.as_str())?;
                Some(self.entry(path, list.clone(), znode))
            })
        })
    }

    /// Returns the entry at a path, if it is one of the lists of instances.
    pub(crate) fn entry_at(&self, path: &'a ZnodePath) -> Option<Entry<'a>> {
        let (list, _) = self.tree.layouts().entry_at(path)?;
        let znode = self.tree.get(path.as_str()).filter(|_| self.wanted.has(&list))?;
        Some(self.entry(path, list, znode))
    }

    fn entry(&self, path: &'a ZnodePath, list: List<'a>, znode: &'a Znode) -> Entry<'a> {
        let may_read = permits(znode.acl(), self.authority, Perms::READ);
        let health = self.tree.seen(path, list.layout, znode.stat().czxid);
        Entry { path, list, health, znode, may_read }
    }

    /// Returns what an entry of its lists of instances shows: what it says, and for one of Dubbo what the rules make of it.
    pub(crate) fn instance(&self, entry: &Entry<'_>) -> Result<Instance, String> {
        let mut instance = entry.instance()?;
        if entry.list.layout.has_rules()
            && let Some(rules) = self.rules_for(entry.path)
        {
            rules.apply(&mut instance);
        }
        Ok(instance)
    }

    /// Returns the rules beside the list of an entry, if there are any that say something.
    fn rules_for(&self, entry: &ZnodePath) -> Option<&Rules> {
        let all = self.rules.get_or_init(|| {
            let mut all: BTreeMap<&str, Vec<_>> = BTreeMap::new();
            for entry in self.entries(|category| category == Category::Configurator) {
                if let (Some(at), Ok(rule)) =
                    (above_list(entry.path), registry::rule(entry.path.name()))
                {
                    all.entry(at).or_default().push(rule);
                }
            }
            all.into_iter().map(|(at, rules)| (at, Rules::new(rules))).collect()
        });
        all.get(above_list(entry)?).filter(|rules| !rules.is_empty())
    }

    /// Returns its instances: Dubbo's rules applied to those of Dubbo, those that several layouts tell of once, and of an
    /// address that several sessions claim only the newest. Cost: O(entries).
    pub(crate) fn instances(&self) -> Instances<'a> {
        let mut found = Instances::default();
        let mut by_address: BTreeMap<(String, u16), Vec<Registered<'a>>> = BTreeMap::new();
        for entry in self.entries(Category::is_instances) {
            let is_own = entry.list.service == self.wanted.service;
            match self.instance(&entry) {
                // Of an application that offers it only what is Dubbo's.
                found if !is_own && !found.as_ref().is_ok_and(is_of_application) => {}
                Err(reason) => found.unparsable.push((entry, reason)),
                Ok(instance) => {
                    let kind = entry.list.layout;
                    if self.wanted.is_met(&instance) {
                        let address = (normal_host(&instance.host), instance.port);
                        let (path, stat, health) = (entry.path, entry.stat(), entry.health);
                        let one = Registered { path, kind, stat, health, instance };
                        by_address.entry(address).or_default().push(one);
                    }
                }
            }
        }
        for registered in by_address.into_values() {
            let first = found.all.len();
            for one in found.without_rivals(registered) {
                match found.all.get_mut(first) {
                    Some((main, others)) if main.kind != one.kind => {
                        // Whatever is known against one of the registrations is known against the instance.
                        main.health.0 = main.health.0.max(one.health.0);
                        others.push(one);
                    }
                    _ => found.all.push((one, Vec::new())),
                }
            }
        }
        found.all.sort_by(|(a, _), (b, _)| (a.path.name(), a.path).cmp(&(b.path.name(), b.path)));
        found
    }
}

/// Returns what the list of an entry is below.
fn above_list(entry: &ZnodePath) -> Option<&str> {
    Some(entry.parent_str()?.rsplit_once('/')?.0)
}

impl<'a> Instances<'a> {
    /// Leaves out those whose probes fail, unless that would leave nobody: then the probes may be wrong, and somebody is better
    /// than nobody.
    pub(crate) fn only_healthy(&mut self) {
        let works = |(main, _): &(Registered<'a>, _)| main.health.0 != Health::Unhealthy;
        if self.all.iter().any(works) {
            self.all.retain(works);
        }
    }

    /// Returns those at one address that are not superseded, by layout; notes the others. Two sessions that claim one address
    /// in one layout are rivals, unless they speak of another group or release: whoever came last has it.
    fn without_rivals(&mut self, mut registered: Vec<Registered<'a>>) -> Vec<Registered<'a>> {
        registered.sort_by_key(|one| (one.kind.rank(), std::cmp::Reverse(one.stat.czxid)));
        let mut kept: Vec<Registered<'a>> = Vec::with_capacity(registered.len());
        for one in registered {
            let is_rival = |other: &&Registered<'a>| {
                let same =
                    |a: &Instance, b: &Instance| a.group == b.group && a.release == b.release;
                one.kind == other.kind
                    && same(&one.instance, &other.instance)
                    && one.owner().zip(other.owner()).is_some_and(|(a, b)| a != b)
            };
            match kept.iter().find(is_rival).map(|winner| winner.path) {
                Some(winner) => self.conflicts.push((one, winner)),
                None => kept.push(one),
            }
        }
        kept
    }
}

/// Returns whether policies let the caller follow a service: each list of instances that it has.
pub(crate) fn admit(
    door: &Door,
    caller: &Caller,
    tree: &Tree,
    wanted: &Wanted,
) -> Result<(), Failed> {
    let lists = wanted.clone().resolved(tree).lists(tree);
    let mut lists = lists.iter().filter(|(_, list)| list.category.is_instances());
    lists.try_for_each(|(path, _)| read::admit(door, caller, path.as_str(), Reach::Entries))
}

/// Returns whether policies let the caller follow the list in which a service that has none yet would begin: that of roost's
/// own layout, if the name can be one of it.
pub(crate) fn admit_first(
    door: &Door,
    caller: &Caller,
    tree: &Tree,
    wanted: &Wanted,
) -> Result<(), Failed> {
    let own = providers_path(&wanted.service).and_then(|own| namespaced(&wanted.namespace, &own));
    match own {
        Ok(own) if tree.services().list(own.as_str()).is_none() => {
            read::admit(door, caller, own.as_str(), Reach::Entries)
        }
        _ => Ok(()),
    }
}

/// Returns whether policies let somebody follow a list of instances. Notes nothing.
pub(crate) fn is_admitted(tree: &Tree, authority: &[AclId], path: &ZnodePath) -> bool {
    let asked = Asked { path: path.as_str(), reach: Reach::Entries, authority };
    policy::following_denial(tree.policies(), &asked).is_none_or(|denial| !denial.is_enforced)
}

/// Returns whether lists are those of a service, and not only a step on the way to a serverset. Cost: O(lists).
pub(crate) fn is_service(tree: &Tree, lists: Lists<'_>) -> bool {
    lists.iter().any(|path| {
        let list = tree.layouts().list_at(path.as_str());
        list.is_none_or(|list| list.layout != LayoutKind::Serverset)
            || tree.services().list(path.as_str()).is_some_and(|state| state.entries > 0)
    })
}

/// Returns whether somebody would find a service by going down the tree from its root: one of its lists, and all that is above
/// it, may be listed. Cost: O(lists).
pub(crate) fn is_shown(tree: &Tree, authority: &[AclId], lists: Lists<'_>) -> bool {
    let may_list = |path: &str| tree.readable(path, authority).is_ok();
    lists.iter().any(|list| list.self_and_ancestors().all(may_list))
}

/// Counts the entries of a service that the caller may list: instances and consumers. Cost: O(lists).
pub(crate) fn counts<'a>(
    tree: &'a Tree,
    authority: &[AclId],
    wanted: &Wanted,
) -> (usize, usize, BTreeSet<&'a str>) {
    let (mut instances, mut consumers, mut layouts) = (0, 0, BTreeSet::new());
    for (path, list) in wanted.clone().resolved(tree).lists(tree) {
        let Some(state) = tree.services().list(path.as_str()) else { continue };
        if tree.readable(path.as_str(), authority).is_err() || state.entries == 0 {
            continue;
        }
        match list.category {
            Category::Consumer => consumers += state.entries,
            category if category.is_instances() => instances += state.entries,
            _ => continue,
        }
        layouts.insert(list.layout.name());
    }
    (instances, consumers, layouts)
}
