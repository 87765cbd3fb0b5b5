use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::instance::Instance;
use super::list::{Origin, ServiceList};
use crate::registry::Layouts;

/// How the lists of several registries become one. The registries are in the order of their priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MergeRule {
    /// All instances of all registries. Of one that is in several, told by its address, the first registry's word counts.
    #[default]
    Union,
    /// The list of the first registry in which somebody wants traffic, as it says now; where none says so, of the first in
    /// which somebody did when it was last known: those of a list from the disk, and those who all fell silent. If there is
    /// nobody at all, as `Union`. For a room that uses another's providers only while it has none of its own.
    FirstWithTraffic,
}

/// Returns which of these lists the one list is made of.
pub(super) fn sources(lists: &[&ServiceList], rule: MergeRule) -> Range<usize> {
    let has_traffic = |list: &ServiceList| list.shown().any(|member| member.wants_traffic());
    let one = match rule {
        MergeRule::Union => None,
        MergeRule::FirstWithTraffic => lists
            .iter()
            .position(|list| is_heard(list) && has_traffic(list))
            .or_else(|| lists.iter().position(|list| has_traffic(list))),
    };
    one.map_or(0..lists.len(), |at| at..at + 1)
}

/// Returns whether a list is what its registry says, and not what it said before, or what it does not believe itself. A
/// registry that cannot be reached for a while leaves its list as it is.
fn is_heard(list: &ServiceList) -> bool {
    !list.is_guarded() && list.origin() == Origin::Registry
}

/// Returns the one list of these, by id and address.
pub fn merged(lists: &[&ServiceList], rule: MergeRule) -> Vec<Arc<Instance>> {
    let lists = &lists[sources(lists, rule)];
    let mut by_address: BTreeMap<(&str, u16), (usize, &Arc<Instance>)> = BTreeMap::new();
    // A registry that can be heard knows better than what another one said before it fell silent.
    let heard = lists.iter().filter(|list| is_heard(list));
    let unheard = lists.iter().filter(|list| !is_heard(list));
    for (at, list) in heard.chain(unheard).enumerate() {
        for member in list.shown() {
            let known = by_address.entry((&member.host, member.port)).or_insert((at, member));
            if known.0 == at && supersedes(member, known.1) {
                known.1 = member;
            }
        }
    }
    let mut all: Vec<Arc<Instance>> =
        by_address.into_values().map(|(_, member)| member.clone()).collect();
    all.sort_by(|a, b| (&a.id, &a.host, a.port).cmp(&(&b.id, &b.host, b.port)));
    all
}

/// Returns whether the first of two at one address in one registry is the one to call. What several layouts tell of is one
/// instance, of which the registry shows what the first of them says; within a layout the one that came last has the address.
fn supersedes(one: &Instance, other: &Instance) -> bool {
    // Those that are built in come before what people have described themselves, which only the registry knows.
    let layouts = Layouts::default();
    let layout = |instance: &Instance| {
        let list = instance.path.rsplit_once('/').and_then(|(list, _)| layouts.list_at(list));
        list.map_or(usize::MAX, |list| list.layout.rank().0)
    };
    match layout(one).cmp(&layout(other)) {
        Ordering::Equal => one.incarnation > other.incarnation,
        order => order == Ordering::Less,
    }
}

#[cfg(test)]
mod tests {
    use super::super::instance::Entries;
    use super::super::instance::tests::instance;
    use super::{Instance, MergeRule, ServiceList, merged};

    fn list(members: Vec<Instance>) -> ServiceList {
        let mut list = ServiceList::default();
        list.replace(1, members, 0);
        list
    }

    fn weights(all: &[std::sync::Arc<Instance>]) -> Vec<(&str, u32)> {
        all.iter().map(|member| (member.id.as_str(), member.weight)).collect()
    }

    #[test]
    fn the_first_registry_has_the_last_word_on_an_instance_of_two() {
        let near = list(vec![Instance { weight: 7, ..instance("a", 1) }]);
        let far = list(vec![instance("a", 9), instance("b", 9)]);
        let union = merged(&[&near, &far], MergeRule::Union);
        assert_eq!(weights(&union), [("a", 7), ("b", 100)]);
        let first = merged(&[&near, &far], MergeRule::FirstWithTraffic);
        assert_eq!(weights(&first), [("a", 7)]);
        let none = list(vec![Instance { weight: 0, ..instance("a", 1) }]);
        let first = merged(&[&none, &far], MergeRule::FirstWithTraffic);
        assert_eq!(weights(&first), [("a", 100), ("b", 100)]);
    }

    #[test]
    fn of_two_at_one_address_the_one_that_came_last_is_called() {
        let at = |id: &str, incarnation| Instance {
            host: "drifted".to_owned(),
            incarnation,
            ..instance(id, 1)
        };
        for order in [["a", "b"], ["b", "a"]] {
            let both = list(vec![at(order[0], 5), at(order[1], 7)]);
            for rule in [MergeRule::Union, MergeRule::FirstWithTraffic] {
                assert_eq!(weights(&merged(&[&both], rule)), [(order[1], 100)], "{rule:?}");
            }
        }
    }

    #[test]
    fn of_one_that_is_registered_in_two_layouts_the_registry_s_own_order_decides() {
        let at = |path: &str, weight, incarnation| Instance {
            host: "one".to_owned(),
            path: path.to_owned(),
            weight,
            incarnation,
            ..instance("i", 1)
        };
        let dubbo = at("/dubbo/pay/providers/dubbo%3A%2F%2Fone%3A80", 7, 3);
        for all in [
            vec![dubbo.clone(), at("/services/pay/one:80", 100, 9)],
            vec![at("/services/pay/one:80", 100, 9), dubbo],
        ] {
            assert_eq!(weights(&merged(&[&list(all)], MergeRule::Union)), [("i", 7)]);
        }
    }

    #[test]
    fn a_registry_that_lists_somebody_is_believed_before_one_that_only_remembers() {
        let mut near = list(vec![Instance { weight: 7, ..instance("a", 1) }]);
        near.change(2, Entries::default(), &["a".to_owned()], 0);
        assert!(near.is_guarded());
        let far = list(vec![instance("a", 9)]);
        assert_eq!(weights(&merged(&[&near, &far], MergeRule::Union)), [("a", 100)]);
        assert_eq!(weights(&merged(&[&near], MergeRule::Union)), [("a", 7)]);
    }

    #[test]
    fn one_that_is_there_is_called_before_all_who_were_there_once_in_whichever_registry() {
        let alone = |weight, id: &str| list(vec![Instance { weight, ..instance(id, 1) }]);
        let mut silent = alone(7, "a");
        silent.change(2, Entries::default(), &["a".to_owned()], 0);
        let mut cached = ServiceList::default();
        cached.restore(1, vec![Instance { weight: 8, ..instance("a", 1) }]);
        let (live, idle) = (alone(9, "b"), alone(0, "b"));
        let first = |lists: &[&ServiceList]| merged(lists, MergeRule::FirstWithTraffic)[0].weight;
        for once in [&silent, &cached] {
            assert_eq!(first(&[once, &live]), 9);
            assert_eq!(first(&[&live, once]), 9);
            assert_eq!(first(&[once, &idle, &live]), 9);
        }
        // Nobody is there to be called.
        assert_eq!((first(&[&silent, &idle]), first(&[&idle, &cached])), (7, 8));
        assert_eq!((first(&[&silent, &cached]), first(&[&cached, &silent])), (7, 8));
        silent.change(3, vec![Instance { weight: 6, ..instance("a", 3) }], &[], 0);
        assert_eq!(first(&[&silent, &live]), 6, "it is there again");
    }
}
