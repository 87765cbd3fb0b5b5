use std::collections::BTreeMap;
use std::sync::Arc;

use super::instance::{Instance, sign};
use crate::limits::DEPARTED_INSTANCES_MAX;
use crate::registry::Finding;

/// Where a list comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nothing has ever been told.
    #[default]
    Unknown,
    /// It was read from the disk, and no registry has said anything yet.
    Cache,
    /// A registry said so.
    Registry,
}

/// What one transaction says of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Who came or changed.
    pub upserts: Vec<Instance>,
    /// The ids of those who went.
    pub removes: Vec<String>,
    /// How instances stand, by id, each with the zxid since which it does.
    pub findings: Vec<(String, Finding, u64)>,
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
    members: BTreeMap<String, Arc<Instance>>,
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
        sign(self.members.values().map(|member| &**member))
    }

    /// Returns whether those who are shown have gone, as far as the registry knows.
    pub fn is_guarded(&self) -> bool {
        self.guarded_since_ms.is_some()
    }

    /// Yields who is to be shown, by id.
    pub fn shown(&self) -> impl Iterator<Item = &Arc<Instance>> {
        let kept = self.departed.values().filter(|_| self.is_guarded()).map(|(_, kept)| kept);
        self.members.values().chain(kept)
    }

    /// Yields who is there as far as the registry knows, by id.
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
        self.members = by_id(members);
        true
    }

    /// Takes a snapshot: what is there at this zxid. Returns whether what is shown has changed.
    pub fn replace(&mut self, zxid: u64, members: Vec<Instance>, now_ms: u64) -> bool {
        let was_known = self.origin == Origin::Registry;
        let before = std::mem::replace(&mut self.members, by_id(members));
        self.origin = Origin::Registry;
        self.zxid = zxid;
        let is_same = before == self.members;
        for (id, gone) in before {
            if !self.members.contains_key(&id) {
                self.depart(id, gone, now_ms);
            }
        }
        self.settle(now_ms);
        !(was_known && is_same)
    }

    /// Takes a snapshot that came on another way than the changes: only if it is not older than what is merged in.
    /// Returns whether what is shown has changed.
    pub fn adopt(&mut self, zxid: u64, members: Vec<Instance>, now_ms: u64) -> bool {
        (zxid >= self.zxid || self.origin != Origin::Registry)
            && self.replace(zxid, members, now_ms)
    }

    /// Takes the changes of one transaction; those of one that is merged in already change nothing. Returns whether what
    /// is shown has changed.
    pub fn change(&mut self, zxid: u64, said: Said, now_ms: u64) -> bool {
        if zxid <= self.zxid {
            return false;
        }
        self.zxid = zxid;
        let mut is_changed = false;
        for id in said.removes {
            if let Some(gone) = self.members.remove(&id) {
                self.depart(id, gone, now_ms);
                is_changed = true;
            }
        }
        for mut member in said.upserts {
            self.departed.remove(&member.id);
            let before = self.members.get(&member.id);
            // What a registration says says nothing of its health.
            if let Some(same) = before.filter(|it| it.incarnation == member.incarnation) {
                member.health = same.health;
            }
            is_changed |= before.is_none_or(|before| **before != member);
            self.members.insert(member.id.clone(), Arc::new(member));
        }
        for (id, finding, since) in said.findings {
            let Some(member) = self.members.get_mut(&id) else { continue };
            let before = member.clone();
            Arc::make_mut(member).stand(finding, since);
            is_changed |= before != *member;
        }
        self.settle(now_ms);
        is_changed
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

    fn depart(&mut self, id: String, gone: Arc<Instance>, now_ms: u64) {
        if !gone.has_announced_leave() && self.departed.len() < DEPARTED_INSTANCES_MAX {
            self.departed.insert(id, (now_ms, gone));
        }
    }

    /// Begins or ends the guard, as the members are.
    fn settle(&mut self, now_ms: u64) {
        let members = &self.members;
        self.departed.retain(|id, _| !members.contains_key(id));
        if self.is_guarded() && members.is_empty() {
            return;
        }
        let oldest = now_ms.saturating_sub(DEPARTED_TOGETHER_MS);
        self.departed.retain(|_, (left_ms, _)| *left_ms >= oldest);
        let stands_in = members.is_empty() && !self.departed.is_empty();
        self.guarded_since_ms = stands_in.then_some(now_ms);
    }
}

fn by_id(members: Vec<Instance>) -> BTreeMap<String, Arc<Instance>> {
    members.into_iter().map(|member| (member.id.clone(), Arc::new(member))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{Strategy, prop_oneof, proptest};

    use super::super::instance::tests::instance;
    use super::{Finding, Instance, Origin, Said, ServiceList};
    use crate::registry::Health;

    fn shown(list: &ServiceList) -> Vec<&str> {
        list.shown().map(|member| member.id.as_str()).collect()
    }

    fn came(upserts: Vec<Instance>) -> Said {
        Said { upserts, ..Said::default() }
    }

    fn went(ids: &[&str]) -> Said {
        Said { removes: ids.iter().map(|&id| id.to_owned()).collect(), ..Said::default() }
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
        assert!(!list.adopt(1, vec![], 0), "what is older is not taken");
        assert!(!list.replace(3, vec![instance("b", 2)], 0), "nothing new");
    }

    #[test]
    fn all_who_fall_silent_together_stay_and_those_who_said_goodbye_do_not() {
        let mut list = ServiceList::default();
        list.replace(1, vec![instance("a", 1), instance("b", 1), instance("c", 1)], 0);
        let leaving = Instance { status: "draining".to_owned(), ..instance("c", 2) };
        list.change(2, came(vec![leaving]), 0);
        list.change(3, went(&["c"]), 0);
        list.change(4, went(&["a"]), 1_000);
        assert_eq!((shown(&list), list.is_guarded()), (vec!["b"], false));
        list.change(5, went(&["b"]), 2_000);
        assert_eq!((shown(&list), list.is_guarded()), (vec!["a", "b"], true));
        assert_eq!(list.sign(), 0, "the sign is of what the registry says");
        assert!(!list.end_guard(601_000, 600_000));
        list.change(6, came(vec![instance("b", 6)]), 5_000);
        assert_eq!((shown(&list), list.is_guarded()), (vec!["b"], false));

        list.change(7, went(&["b"]), 100_000);
        assert_eq!((shown(&list), list.is_guarded()), (vec!["b"], true), "a left long before");
        assert!(list.end_guard(700_000, 600_000));
        assert!(shown(&list).is_empty() && !list.is_guarded());
    }

    #[test]
    fn a_service_whose_last_provider_announced_its_leave_is_empty() {
        let mut list = ServiceList::default();
        let leaving = Instance { status: "draining".to_owned(), ..instance("a", 2) };
        list.replace(1, vec![leaving], 0);
        assert!(list.change(2, went(&["a"]), 0));
        assert!(shown(&list).is_empty() && !list.is_guarded());
    }

    #[test]
    fn health_stays_with_a_registration_and_moves_the_sign() {
        let mut list = ServiceList::default();
        list.replace(1, vec![instance("a", 1), instance("b", 1)], 0);
        let noted = |id: &str, czxid, unhealthy, since| {
            let finding = Finding { czxid, unhealthy, suspect: false };
            Said { findings: vec![(id.to_owned(), finding, since)], ..Said::default() }
        };
        let before = list.sign();
        assert!(list.change(5, noted("a", 1, true, 5), 0));
        let a = list.members().next().unwrap();
        assert_eq!((a.health, a.version), (Health::Unhealthy, 5));
        assert_ne!(list.sign(), before);
        // It says something else, and works no better for it.
        assert!(list.change(6, came(vec![instance("a", 6)]), 0));
        let a = list.members().next().unwrap();
        assert_eq!((a.health, a.version), (Health::Unhealthy, 6));
        assert!(!list.change(7, noted("b", 9, true, 7), 0), "of another registration");
        assert!(!list.change(8, noted("c", 1, true, 8), 0), "of nobody");
        let anew = Instance { incarnation: 9, ..instance("a", 9) };
        assert!(list.change(9, came(vec![anew]), 0));
        assert_eq!(list.members().next().unwrap().health, Health::Healthy);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Upsert(u8),
        Remove(u8),
        Snapshot,
        Repeat,
        Adopt,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u8..5).prop_map(Step::Upsert),
            (0_u8..5).prop_map(Step::Remove),
            proptest::strategy::Just(Step::Snapshot),
            proptest::strategy::Just(Step::Repeat),
            proptest::strategy::Just(Step::Adopt),
        ]
    }

    proptest! {
        /// Whatever is told, in part twice or by a second way: the members are those of a plain map, and the list that
        /// is shown is empty only when nobody was ever there.
        #[test]
        fn the_list_is_what_the_registry_has(steps in proptest::collection::vec(step(), 1..60)) {
            let mut truth: BTreeMap<String, u64> = BTreeMap::new();
            let mut list = ServiceList::default();
            list.replace(0, Vec::new(), 0);
            let mut was_anybody = false;
            let mut told: Vec<(u64, Said)> = Vec::new();
            for (zxid, step) in (1_u64..).zip(steps) {
                let now_ms = zxid;
                let all = |truth: &BTreeMap<String, u64>| -> Vec<Instance> {
                    truth.iter().map(|(id, version)| instance(id, *version)).collect()
                };
                match step {
                    Step::Upsert(id) => {
                        truth.insert(id.to_string(), zxid);
                        told.push((zxid, came(vec![instance(&id.to_string(), zxid)])));
                    }
                    Step::Remove(id) => {
                        truth.remove(&id.to_string());
                        told.push((zxid, went(&[&id.to_string()])));
                    }
                    Step::Snapshot => { list.replace(zxid, all(&truth), now_ms); }
                    Step::Adopt => { list.adopt(zxid, all(&truth), now_ms); }
                    Step::Repeat => {
                        for (zxid, said) in told.iter().rev().take(5).rev() {
                            list.change(*zxid, said.clone(), now_ms);
                        }
                    }
                }
                if let Some((at, said)) = told.last().filter(|told| told.0 == zxid) {
                    list.change(*at, said.clone(), now_ms);
                }
                was_anybody |= !truth.is_empty();
                let members: BTreeMap<_, _> =
                    list.members().map(|member| (member.id.clone(), member.version)).collect();
                assert_eq!(members, truth);
                assert_eq!(list.sign(), super::sign(&all(&truth)));
                assert_eq!(list.shown().next().is_some(), was_anybody);
                assert_eq!(list.is_guarded(), truth.is_empty() && was_anybody);
            }
        }
    }
}
