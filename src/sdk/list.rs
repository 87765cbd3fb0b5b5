use std::collections::BTreeMap;
use std::sync::Arc;

use super::instance::{Entries, Instance, sign};
use crate::limits::DEPARTED_INSTANCES_MAX;

/// Where a list comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nothing has ever been told.
    #[default]
    Unknown,
    /// It was read from the disk and no registry has said anything yet, or the registry that said it does not say any more.
    Cache,
    /// A registry said so.
    Registry,
}

/// Members that left without a word longer ago than this are not among those that an empty list falls back on, ms: a
/// network that breaks takes all sessions within their timeouts of each other.
const DEPARTED_TOGETHER_MS: u64 = 60_000;

/// What one registry has said of one service: a snapshot and the changes since. Times are ms from any fixed moment.
///
/// The guard: when the last member goes without having announced it, those that fell silent within the last minute stay
/// in the list that is shown, until somebody is there again or the guard is told to end.
#[derive(Clone, Debug, Default)]
pub struct ServiceList {
    origin: Origin,
    /// Newest state that is merged in.
    zxid: u64,
    /// By the paths of their znodes.
    members: BTreeMap<String, Arc<Instance>>,
    /// Registrations that describe nobody, with what they add to the sign.
    opaque: BTreeMap<String, u64>,
    /// Who left without a word, and when.
    departed: BTreeMap<String, (u64, Arc<Instance>)>,
    /// Since when the departed stand in for nobody.
    guarded_since_ms: Option<u64>,
}

impl ServiceList {
    /// Returns where the list comes from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Returns the zxid of the newest state that is merged in.
    pub fn zxid(&self) -> u64 {
        self.zxid
    }

    /// Returns the sign of what the registry said, the guard aside.
    pub fn sign(&self) -> u64 {
        let members = sign(self.members.values().map(|member| &**member));
        self.opaque.values().fold(members, |sum, one| sum.wrapping_add(*one))
    }

    /// Returns whether those who are shown have gone, as far as the registry knows.
    pub fn is_guarded(&self) -> bool {
        self.guarded_since_ms.is_some()
    }

    /// Yields who is to be shown, by path.
    pub fn shown(&self) -> impl Iterator<Item = &Arc<Instance>> {
        let kept = self.departed.values().filter(|_| self.is_guarded()).map(|(_, kept)| kept);
        self.members.values().chain(kept)
    }

    /// Yields who is there as far as the registry knows, by path.
    pub fn members(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.members.values()
    }

    /// Takes a list from the disk, unless a registry has spoken already. Returns whether anything is new.
    pub fn restore(&mut self, zxid: u64, members: Vec<Instance>) -> bool {
        if self.origin != Origin::Unknown {
            return false;
        }
        self.origin = Origin::Cache;
        self.zxid = zxid;
        self.members = by_path(members);
        true
    }

    /// Takes a snapshot: what is there at this zxid. Returns whether what is shown has changed.
    pub fn replace(&mut self, zxid: u64, entries: impl Into<Entries>, now_ms: u64) -> bool {
        let entries = entries.into();
        let was_known = self.origin == Origin::Registry;
        let before = std::mem::replace(&mut self.members, by_path(entries.instances));
        self.opaque = entries.opaque.into_iter().collect();
        self.origin = Origin::Registry;
        self.zxid = zxid;
        let is_same = before == self.members;
        for (path, gone) in before {
            if !self.members.contains_key(&path) {
                self.depart(path, gone, now_ms);
            }
        }
        self.settle(now_ms);
        !(was_known && is_same)
    }

    /// Takes changes up to this zxid: who came or changed, and the paths of those that went. Changes that are merged in
    /// already change nothing. Returns whether what is shown has changed.
    pub fn change(
        &mut self,
        zxid: u64,
        upserts: impl Into<Entries>,
        removes: &[String],
        now_ms: u64,
    ) -> bool {
        if zxid <= self.zxid {
            return false;
        }
        self.zxid = zxid;
        let upserts = upserts.into();
        let mut is_changed = false;
        let silent = upserts.opaque.iter().map(|(path, _)| path);
        for path in removes.iter().chain(silent) {
            self.opaque.remove(path);
            if let Some(gone) = self.members.remove(path) {
                self.depart(path.clone(), gone, now_ms);
                is_changed = true;
            }
        }
        self.opaque.extend(upserts.opaque);
        for member in upserts.instances {
            self.departed.remove(&member.path);
            self.opaque.remove(&member.path);
            let before = self.members.insert(member.path.clone(), Arc::new(member.clone()));
            is_changed |= before.is_none_or(|before| *before != member);
        }
        self.settle(now_ms);
        is_changed
    }

    /// Notes that the registry does not say any more who is there. Returns whether it did before.
    pub fn unconfirm(&mut self) -> bool {
        let was_confirmed = self.origin == Origin::Registry;
        if was_confirmed {
            self.origin = Origin::Cache;
        }
        was_confirmed
    }

    /// Ends a guard that has lasted so long. Returns whether it did.
    pub fn end_guard(&mut self, now_ms: u64, hold_ms: u64) -> bool {
        let is_over =
            self.guarded_since_ms.is_some_and(|since| now_ms.saturating_sub(since) >= hold_ms);
        if is_over {
            self.guarded_since_ms = None;
            self.departed.clear();
        }
        is_over
    }

    fn depart(&mut self, path: String, gone: Arc<Instance>, now_ms: u64) {
        if !gone.has_announced_leave() && self.departed.len() < DEPARTED_INSTANCES_MAX {
            self.departed.insert(path, (now_ms, gone));
        }
    }

    /// Begins or ends the guard, as the members are.
    fn settle(&mut self, now_ms: u64) {
        let members = &self.members;
        self.departed.retain(|path, _| !members.contains_key(path));
        if self.is_guarded() && members.is_empty() {
            return;
        }
        let oldest = now_ms.saturating_sub(DEPARTED_TOGETHER_MS);
        self.departed.retain(|_, (left_ms, _)| *left_ms >= oldest);
        let stands_in = members.is_empty() && !self.departed.is_empty();
        self.guarded_since_ms = stands_in.then_some(now_ms);
    }
}

fn by_path(members: Vec<Instance>) -> BTreeMap<String, Arc<Instance>> {
    members.into_iter().map(|member| (member.path.clone(), Arc::new(member))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{Strategy, prop_oneof, proptest};

    use super::super::instance::tests::instance;
    use super::{Entries, Instance, Origin, ServiceList};

    fn shown(list: &ServiceList) -> Vec<&str> {
        list.shown().map(|member| member.id.as_str()).collect()
    }

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|&id| id.to_owned()).collect()
    }

    #[test]
    fn a_cached_list_gives_way_to_the_registry_and_never_comes_back() {
        let mut list = ServiceList::default();
        assert_eq!(list.origin(), Origin::Unknown);
        assert!(list.restore(7, vec![instance("a", 7)]));
        assert_eq!((list.origin(), shown(&list)), (Origin::Cache, vec!["a"]));
        // A registry that was set up anew counts from the beginning.
        assert!(list.replace(2, vec![instance("b", 2)], 0));
        assert_eq!((list.origin(), shown(&list)), (Origin::Registry, vec!["b"]));
        assert!(!list.restore(9, vec![instance("c", 9)]));
        assert!(!list.replace(3, vec![instance("b", 2)], 0), "nothing new");
        // Somebody who may not ask any more has the list, and nobody who confirms it.
        assert!(list.unconfirm() && !list.unconfirm());
        assert_eq!((list.origin(), shown(&list)), (Origin::Cache, vec!["b"]));
        assert!(list.replace(4, vec![instance("b", 2)], 0), "it is confirmed again");
    }

    #[test]
    fn all_who_fall_silent_together_stay_and_those_who_said_goodbye_do_not() {
        let mut list = ServiceList::default();
        list.replace(1, vec![instance("a", 1), instance("b", 1), instance("c", 1)], 0);
        let leaving = Instance { status: "draining".to_owned(), ..instance("c", 2) };
        list.change(2, vec![leaving], &[], 0);
        list.change(3, Entries::default(), &ids(&["c"]), 0);
        list.change(4, Entries::default(), &ids(&["a"]), 1_000);
        assert_eq!((shown(&list), list.is_guarded()), (vec!["b"], false));
        list.change(5, Entries::default(), &ids(&["b"]), 2_000);
        assert_eq!((shown(&list), list.is_guarded()), (vec!["a", "b"], true));
        assert_eq!(list.sign(), 0, "the sign is of what the registry says");
        assert!(!list.end_guard(601_000, 600_000));
        list.change(6, vec![instance("b", 6)], &[], 5_000);
        assert_eq!((shown(&list), list.is_guarded()), (vec!["b"], false));

        list.change(7, Entries::default(), &ids(&["b"]), 100_000);
        assert_eq!((shown(&list), list.is_guarded()), (vec!["b"], true), "a left long before");
        assert!(list.end_guard(700_000, 600_000));
        assert!(shown(&list).is_empty() && !list.is_guarded());
    }

    #[test]
    fn a_service_whose_last_provider_announced_its_leave_is_empty() {
        let mut list = ServiceList::default();
        let leaving = Instance { status: "draining".to_owned(), ..instance("a", 2) };
        list.replace(1, vec![leaving], 0);
        assert!(list.change(2, Entries::default(), &ids(&["a"]), 0));
        assert!(shown(&list).is_empty() && !list.is_guarded());
    }

    #[test]
    fn registrations_that_describe_nobody_are_a_part_of_the_sign_and_of_nothing_else() {
        let opaque = |path: &str, mark| Entries {
            opaque: vec![(path.to_owned(), mark)],
            ..Entries::default()
        };
        let mut list = ServiceList::default();
        let one = super::sign([&instance("a", 1)]);
        list.replace(
            1,
            Entries { opaque: vec![("x".to_owned(), 7)], ..vec![instance("a", 1)].into() },
            0,
        );
        assert_eq!((shown(&list), list.sign()), (vec!["a"], one.wrapping_add(7)));
        assert!(!list.change(2, opaque("x", 8), &[], 0), "nobody sees a difference");
        assert_eq!(list.sign(), one.wrapping_add(8));
        // One that stops to describe anybody is nobody to call any more; one that begins to is.
        assert!(list.change(3, opaque("a", 9), &[], 0));
        assert_eq!(list.sign(), 17);
        assert!(list.change(4, vec![instance("a", 4), instance("x", 4)], &[], 0));
        assert_eq!(list.sign(), super::sign([&instance("a", 4), &instance("x", 4)]));
        list.change(5, opaque("y", 5), &[], 0);
        assert!(list.change(6, Entries::default(), &ids(&["x", "y"]), 0));
        assert_eq!((shown(&list), list.sign()), (vec!["a"], super::sign([&instance("a", 4)])));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Upsert(u8),
        Remove(u8),
        Snapshot,
        Repeat,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u8..5).prop_map(Step::Upsert),
            (0_u8..5).prop_map(Step::Remove),
            proptest::strategy::Just(Step::Snapshot),
            proptest::strategy::Just(Step::Repeat),
        ]
    }

    proptest! {
        /// Whatever is told, in part twice: the members are those of a plain map, and the list that
        /// is shown is empty only when nobody was ever there.
        #[test]
        fn the_list_is_what_the_registry_has(steps in proptest::collection::vec(step(), 1..60)) {
            let mut truth: BTreeMap<String, u64> = BTreeMap::new();
            let mut list = ServiceList::default();
            list.replace(0, Entries::default(), 0);
            let mut was_anybody = false;
            let mut told: Vec<(u64, Vec<Instance>, Vec<String>)> = Vec::new();
            for (zxid, step) in (1_u64..).zip(steps) {
                let now_ms = zxid;
                let all = |truth: &BTreeMap<String, u64>| -> Vec<Instance> {
                    truth.iter().map(|(id, version)| instance(id, *version)).collect()
                };
                match step {
                    Step::Upsert(id) => {
                        truth.insert(id.to_string(), zxid);
                        told.push((zxid, vec![instance(&id.to_string(), zxid)], vec![]));
                    }
                    Step::Remove(id) => {
                        truth.remove(&id.to_string());
                        told.push((zxid, vec![], vec![id.to_string()]));
                    }
                    Step::Snapshot => { list.replace(zxid, all(&truth), now_ms); }
                    Step::Repeat => {
                        for (zxid, upserts, removes) in told.iter().rev().take(5).rev() {
                            list.change(*zxid, upserts.clone(), removes, now_ms);
                        }
                    }
                }
                if let Some((at, upserts, removes)) = told.last().filter(|told| told.0 == zxid) {
                    list.change(*at, upserts.clone(), removes, now_ms);
                }
                was_anybody |= !truth.is_empty();
                let members: BTreeMap<_, _> =
                    list.members().map(|member| (member.id.clone(), member.modified)).collect();
                assert_eq!(members, truth);
                assert_eq!(list.sign(), super::sign(&all(&truth)));
                assert_eq!(list.shown().next().is_some(), was_anybody);
                assert_eq!(list.is_guarded(), truth.is_empty() && was_anybody);
            }
        }
    }
}
