use std::collections::BTreeMap;
use std::sync::Arc;

use super::accrual::{Accrual, AccrualOptions};
use super::instance::Instance;

/// Whom to call next, among the instances of one service. Times are ms from any fixed moment; random numbers are the
/// caller's.
///
/// Chosen are those that want traffic (weight above 0, neither starting, draining nor out of service), whose calls do not
/// fail, and whom the registry's probes do not find `unhealthy`. What calls have told counts for more than what the registry
/// thinks, and neither leaves nobody to choose: a consumer that has lost its network must not conclude
/// that nobody is left.
#[derive(Clone, Debug, Default)]
pub struct Balancer {
    options: AccrualOptions,
    targets: BTreeMap<String, Target>,
}

#[derive(Clone, Debug)]
struct Target {
    instance: Arc<Instance>,
    accrual: Accrual,
    /// Credit of the smooth weighted round robin.
    credit: i64,
}

impl Target {
    fn weight(&self) -> i64 {
        i64::from(self.instance.weight)
    }
}

impl Balancer {
    /// Returns a balancer that knows nobody.
    pub fn new(options: AccrualOptions) -> Balancer {
        Balancer { options, targets: BTreeMap::new() }
    }

    /// Takes the list as it is now. What is known of those that stay is kept; a new incarnation at the same address has a
    /// clean record.
    pub fn update(&mut self, instances: &[Arc<Instance>]) {
        let mut before = std::mem::take(&mut self.targets);
        for instance in instances {
            let addr = instance.addr();
            let known = before.remove(&addr);
            let same = known.filter(|known| known.instance.incarnation == instance.incarnation);
            let (accrual, credit) =
                same.map_or_else(Default::default, |known| (known.accrual, known.credit));
            self.targets.insert(addr, Target { instance: instance.clone(), accrual, credit });
        }
        // Credit of greater weights is worth a round at most: or one would be called, or passed over, as often as it had weight.
        let total: i64 = self.targets.values().map(Target::weight).sum();
        for target in self.targets.values_mut() {
            target.credit = target.credit.clamp(-total, total);
        }
    }

    /// Returns the next by smooth weighted round robin: each gets its share, and the turns of a heavy one are spread among
    /// those of the others. `None` when nobody wants traffic. Cost: linear in the number of instances.
    pub fn pick(&mut self) -> Option<Arc<Instance>> {
        self.pick_except(&[])
    }

    /// As [`pick`](Balancer::pick), but none of these addresses unless no other is left: for a second attempt.
    pub fn pick_except(&mut self, tried: &[String]) -> Option<Arc<Instance>> {
        let eligible = self.eligible(tried);
        let total: i64 = eligible.iter().map(|addr| self.targets[addr].weight()).sum();
        let mut best: Option<(i64, &String)> = None;
        for addr in &eligible {
            let target = self.targets.get_mut(addr)?;
            target.credit += target.weight();
            if best.is_none_or(|(credit, _)| target.credit > credit) {
                best = Some((target.credit, addr));
            }
        }
        let target = self.targets.get_mut(best?.1)?;
        target.credit -= total;
        Some(target.instance.clone())
    }

    /// Returns one at random, by weight, from a random number that may be anything. `None` when nobody wants traffic.
    pub fn pick_random(&self, random: u64) -> Option<Arc<Instance>> {
        let eligible = self.eligible(&[]);
        let total: u64 =
            eligible.iter().map(|addr| u64::from(self.targets[addr].instance.weight)).sum();
        let mut left = random.checked_rem(total)?;
        for addr in &eligible {
            let instance = &self.targets[addr].instance;
            match left.checked_sub(u64::from(instance.weight)) {
                Some(rest) => left = rest,
                None => return Some(instance.clone()),
            }
        }
        None
    }

    /// Notes how a call of this instance ended. Returns whether this took it out of the choice or brought it back. A call that
    /// another process at the same address had answers for, which has gone, says nothing.
    pub fn report(&mut self, called: &Instance, is_ok: bool, now_ms: u64) -> bool {
        let options = self.options;
        let target = self.targets.get_mut(&called.addr());
        let target = target.filter(|target| target.instance.incarnation == called.incarnation);
        target.is_some_and(|target| match is_ok {
            true => target.accrual.succeeded(),
            false => target.accrual.failed(options, now_ms),
        })
    }

    /// Returns whom to probe now; each is due again an interval later.
    pub fn due(&mut self, now_ms: u64) -> Vec<Arc<Instance>> {
        let options = self.options;
        let due =
            |target: &&mut Target| target.accrual.probe_at_ms().is_some_and(|at| at <= now_ms);
        let probed = self.targets.values_mut().filter(due).map(|target| {
            target.accrual.probing(options, now_ms);
            target.instance.clone()
        });
        probed.collect()
    }

    /// Returns when somebody is to be probed next, ms.
    pub fn next_probe_ms(&self) -> Option<u64> {
        self.targets.values().filter_map(|target| target.accrual.probe_at_ms()).min()
    }

    /// Returns the addresses that are out of the choice because calls to them failed.
    pub fn unavailable(&self) -> Vec<String> {
        let out = self.targets.iter().filter(|(_, target)| !target.accrual.is_available());
        out.map(|(addr, _)| addr.clone()).collect()
    }

    /// Returns the addresses to choose from: the best kind that is not empty.
    fn eligible(&self, tried: &[String]) -> Vec<String> {
        // What matters, and in this order: that it was not tried, that its calls succeed, that it is said to be healthy.
        let kind = |(addr, target): (&String, &Target)| {
            let is_new = !tried.contains(addr);
            (is_new, target.accrual.is_available(), target.instance.is_healthy())
        };
        let wanting = || self.targets.iter().filter(|(_, target)| target.instance.wants_traffic());
        let best = wanting().map(kind).max();
        let of_best = wanting().filter(|one| Some(kind(*one)) == best);
        of_best.map(|(addr, _)| addr.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::{any, proptest};

    use super::super::instance::tests::instance;
    use super::{Accrual, AccrualOptions, Balancer, Instance};

    const OPTIONS: AccrualOptions = AccrualOptions { failures: 3, probe_interval_ms: 5_000 };

    fn weighted(weights: &[(&str, u32)]) -> Vec<Arc<Instance>> {
        let one = |&(id, weight): &(&str, u32)| Arc::new(Instance { weight, ..instance(id, 1) });
        weights.iter().map(one).collect()
    }

    fn balancer(weights: &[(&str, u32)]) -> Balancer {
        let mut balancer = Balancer::default();
        balancer.update(&weighted(weights));
        balancer
    }

    #[test]
    fn turns_are_shared_by_weight_and_spread() {
        let mut balancer = balancer(&[("a", 5), ("b", 1), ("c", 1)]);
        let turns: String = (0..14).map(|_| balancer.pick().unwrap().id.clone()).collect();
        assert_eq!(turns, "aabacaaaabacaa");
    }

    #[test]
    fn who_does_not_want_traffic_gets_none() {
        let mut list = weighted(&[("a", 0), ("b", 1)]);
        for (id, status) in [("c", "draining"), ("d", "out_of_service"), ("e", "starting")] {
            list.push(Arc::new(Instance { status: status.to_owned(), ..instance(id, 1) }));
        }
        let mut balancer = Balancer::default();
        balancer.update(&list);
        for random in 0..50 {
            assert_eq!(balancer.pick().unwrap().id, "b");
            assert_eq!(balancer.pick_random(random).unwrap().id, "b");
        }
        balancer.update(&list[2..]);
        assert!(balancer.pick().is_none() && balancer.pick_random(3).is_none());
    }

    #[test]
    fn who_is_unhealthy_is_called_only_when_nobody_else_is_left_and_who_is_suspect_as_any_other() {
        let health = |id: &str, health: &str| {
            Arc::new(Instance { health: Some(health.to_owned()), ..instance(id, 1) })
        };
        let (bad, worse) = (health("a", "unhealthy"), health("d", "unhealthy"));
        let (suspect, fine) = (health("b", "suspect"), health("c", "healthy"));
        let picks = |balancer: &mut Balancer| -> String {
            (0..4).map(|_| balancer.pick().unwrap().id.clone()).collect()
        };
        let mut balancer = Balancer::new(AccrualOptions { failures: 1, ..OPTIONS });
        balancer.update(&[bad.clone(), suspect.clone(), fine.clone()]);
        assert_eq!(picks(&mut balancer), "bcbc");
        balancer.update(&[bad.clone(), suspect]);
        assert_eq!(picks(&mut balancer), "bbbb", "whoever else is suspect too");
        balancer.update(&[bad.clone(), fine.clone()]);
        assert_eq!(picks(&mut balancer), "cccc");
        assert_eq!(balancer.pick_random(0).unwrap().id, "c");
        assert!(balancer.pick_except(&["host-c:80".to_owned()]).unwrap().id != "c");
        // Whose calls fail is worse than who is said to be ill.
        balancer.report(&fine, false, 0);
        assert!(!picks(&mut balancer).contains('c'));
        balancer.report(&fine, true, 0);
        assert_eq!(picks(&mut balancer), "cccc");
        balancer.update(&[bad, worse]);
        assert_eq!(picks(&mut balancer).matches('a').count(), 2, "all are unhealthy, so none is");
    }

    #[test]
    fn one_that_refuses_costs_three_errors_and_is_back_after_a_probe() {
        let mut balancer = balancer(&[("a", 1), ("b", 1), ("c", 1)]);
        let mut errors = 0;
        for now_ms in 0..300 {
            let picked = balancer.pick().unwrap();
            let is_ok = picked.id != "b";
            errors += u32::from(!is_ok);
            balancer.report(&picked, is_ok, now_ms);
        }
        assert_eq!((errors, balancer.unavailable()), (3, vec!["host-b:80".to_owned()]));
        let at = balancer.next_probe_ms().unwrap();
        assert!(balancer.due(at - 1).is_empty());
        let due = balancer.due(at);
        assert_eq!(due[0].id, "b");
        assert_eq!(balancer.next_probe_ms(), Some(at + 5_000), "a probe that fails is repeated");
        assert!(balancer.report(&due[0], true, at + 1));
        assert!(balancer.unavailable().is_empty() && balancer.next_probe_ms().is_none());
        let back = (0..3).filter(|_| balancer.pick().unwrap().id == "b").count();
        assert_eq!(back, 1);
    }

    #[test]
    fn a_second_attempt_goes_elsewhere_while_there_is_an_elsewhere() {
        let mut balancer = balancer(&[("a", 100), ("b", 1)]);
        let tried = ["host-a:80".to_owned()];
        assert!((0..10).all(|_| balancer.pick_except(&tried).unwrap().id == "b"));
        balancer.update(&weighted(&[("a", 100)]));
        assert_eq!(balancer.pick_except(&tried).unwrap().id, "a");
    }

    #[test]
    fn another_process_at_the_same_address_has_a_clean_record_and_no_share_in_the_calls_of_the_first()
     {
        let mut balancer = balancer(&[("a", 1)]);
        let first = instance("a", 1);
        for _ in 0..3 {
            balancer.report(&first, false, 0);
        }
        balancer.update(&weighted(&[("a", 1)]));
        assert_eq!(balancer.unavailable().len(), 1);
        let second = Instance { incarnation: 2, ..instance("a", 5) };
        balancer.update(&[Arc::new(second.clone())]);
        assert!(balancer.unavailable().is_empty());
        for now_ms in 0..9 {
            assert!(
                !balancer.report(&first, false, now_ms),
                "that call was on its way to the first"
            );
        }
        assert!(!balancer.report(&second, false, 9) && !balancer.report(&second, false, 10));
        balancer.report(&first, true, 11);
        assert!(balancer.report(&second, false, 12));
    }

    #[test]
    fn after_weights_have_become_small_the_turns_are_shared_by_them_at_once() {
        let mut balancer = balancer(&[("a", 10_000), ("b", 10_000)]);
        assert_eq!(balancer.pick().unwrap().id, "a");
        balancer.update(&weighted(&[("a", 1), ("b", 1)]));
        let turns: String = (0..6).map(|_| balancer.pick().unwrap().id.clone()).collect();
        assert_eq!(turns, "bbabab");
        // Of those that went, too.
        let mut balancer = Balancer::default();
        balancer.update(&weighted(&[("a", 3), ("b", 3), ("c", 10_000)]));
        (0..1_500).for_each(|_| drop(balancer.pick()));
        balancer.update(&weighted(&[("a", 3), ("b", 3)]));
        let turns: String = (0..6).map(|_| balancer.pick().unwrap().id.clone()).collect();
        assert!(turns.matches('a').count() >= 2 && turns.matches('b').count() >= 2, "{turns}");
    }

    proptest! {
        /// Shares are exact over a whole round, whatever the weights, and a list that wants traffic is never empty, however
        /// many calls fail.
        #[test]
        fn shares_are_exact_and_the_choice_is_never_empty(
            weights in proptest::collection::vec(0_u32..20, 1..8),
            outcomes in proptest::collection::vec(any::<bool>(), 0..200),
        ) {
            let ids: Vec<String> = (0..weights.len()).map(|index| format!("i{index}")).collect();
            let list: Vec<(&str, u32)> = ids.iter().map(String::as_str).zip(weights.iter().copied()).collect();
            let mut round = balancer(&list);
            let mut turns: BTreeMap<String, u32> = BTreeMap::new();
            let total: u32 = weights.iter().sum();
            for _ in 0..total {
                *turns.entry(round.pick().unwrap().id.clone()).or_default() += 1;
            }
            for (id, weight) in &list {
                assert_eq!(turns.get(*id).copied().unwrap_or(0), *weight);
            }

            let mut failing = Balancer::new(AccrualOptions { failures: 2, probe_interval_ms: 10 });
            failing.update(&weighted(&list));
            let mut naive: BTreeMap<String, Accrual> = BTreeMap::new();
            for (now_ms, is_ok) in (0_u64..).zip(outcomes) {
                let Some(picked) = failing.pick() else {
                    assert_eq!(total, 0);
                    break;
                };
                let all_out = list.iter().filter(|(_, weight)| *weight > 0).all(|(id, _)| {
                    naive.get(*id).is_some_and(|accrual| !accrual.is_available())
                });
                let record = naive.entry(picked.id.clone()).or_default();
                assert!(record.is_available() || all_out);
                match is_ok {
                    true => { record.succeeded(); }
                    false => { record.failed(failing.options, now_ms); }
                }
                failing.report(&picked, is_ok, now_ms);
            }
        }
    }
}
