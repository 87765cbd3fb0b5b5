use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Action, BUDGET, Found, Step, check, decide, search};
use crate::check::Verdict;
use crate::history::kv::{KvAnswer, KvCall, KvOp, Refusal, Seen};
use crate::history::{Op, Outcome};

const KEY: &str = "/r/a";

fn op(process: u32, times: (u64, u64), call: KvCall, outcome: Outcome<KvAnswer>) -> KvOp {
    Op { process, node: 1, start_us: times.0, end_us: times.1, call, outcome }
}

fn done() -> Outcome<KvAnswer> {
    Outcome::Ok(KvAnswer::Done { zxid: 0, version: None })
}

fn unknown() -> Outcome<KvAnswer> {
    Outcome::Unknown("no answer".into())
}

fn create(process: u32, times: (u64, u64), value: u64) -> KvOp {
    op(process, times, KvCall::Create { key: KEY.into(), value }, done())
}

fn set(process: u32, times: (u64, u64), value: u64, outcome: Outcome<KvAnswer>) -> KvOp {
    op(process, times, KvCall::Set { key: KEY.into(), value }, outcome)
}

fn cas(process: u32, times: (u64, u64), from: u64, to: u64, outcome: Outcome<KvAnswer>) -> KvOp {
    op(process, times, KvCall::Cas { key: KEY.into(), version: 0, from, to }, outcome)
}

fn read(process: u32, times: (u64, u64), value: Option<u64>) -> KvOp {
    let seen = value.map(|value| Seen { value, version: 0, czxid: 0, mzxid: 0 });
    let outcome = Outcome::Ok(KvAnswer::Read { zxid: 0, seen });
    op(process, times, KvCall::Read { key: KEY.into() }, outcome)
}

#[test]
fn a_read_may_see_either_side_of_a_write_that_it_overlaps() {
    for value in [1, 2] {
        let history =
            [create(1, (0, 1), 1), set(2, (5, 9), 2, done()), read(1, (6, 7), Some(value))];
        assert_eq!(check(&history), Verdict::Ok);
    }
}

#[test]
fn a_stale_read_is_found_and_named() {
    let history = [create(1, (0, 1), 1), set(2, (2, 3), 2, done()), read(3, (4, 5), Some(1))];
    let Verdict::Violated(lines) = check(&history) else { panic!("not found") };
    assert!(lines[0].contains(KEY) && lines[0].contains("process 3"), "{lines:?}");
}

#[test]
fn a_value_that_was_seen_must_not_disappear_again() {
    let bad = [
        create(1, (0, 1), 1),
        set(2, (2, 20), 2, done()),
        read(3, (4, 5), Some(2)),
        read(4, (6, 7), Some(1)),
    ];
    assert!(check(&bad).is_violated());
}

#[test]
fn an_unknown_write_may_take_effect_late_or_never_but_only_once() {
    let start = [create(1, (0, 1), 1), set(2, (2, 3), 2, unknown())];
    let with = |more: &[KvOp]| check(&[&start[..], more].concat());
    assert!(with(&[read(3, (4, 5), Some(1)), read(3, (90, 91), Some(2))]).is_ok(), "late");
    assert!(with(&[read(3, (4, 5), Some(1)), read(3, (90, 91), Some(1))]).is_ok(), "never");
    let twice = [
        read(3, (4, 5), Some(2)),
        set(3, (6, 7), 3, done()),
        read(3, (8, 9), Some(3)),
        read(3, (10, 11), Some(2)),
    ];
    assert!(with(&twice).is_violated(), "twice");
}

#[test]
fn of_two_conditional_writes_on_one_value_one_succeeds() {
    let two = |second: Outcome<KvAnswer>| {
        check(&[
            create(1, (0, 1), 1),
            cas(2, (2, 9), 1, 2, done()),
            cas(3, (3, 8), 1, 3, second),
            read(1, (10, 11), Some(2)),
        ])
    };
    assert!(two(Outcome::Ok(KvAnswer::Refused(Refusal::BadVersion))).is_ok());
    assert!(two(done()).is_violated());
}

#[test]
fn a_refusal_is_an_observation() {
    let refused = |refusal| Outcome::Ok(KvAnswer::Refused(refusal));
    let exists = [create(1, (0, 1), 1), set(2, (2, 3), 9, refused(Refusal::NoNode))];
    assert!(check(&exists).is_violated());
    let equal = [create(1, (0, 1), 1), cas(2, (2, 3), 1, 2, refused(Refusal::BadVersion))];
    assert!(check(&equal).is_violated());
}

#[test]
fn a_search_that_is_too_long_is_unknown_and_never_ok() {
    // Twelve concurrent writes, and a read afterwards of what nobody wrote: all orders would have to be tried.
    let mut steps: Vec<Step> = (0..12)
        .map(|n| {
            step((n, Some(100 + n)), if n == 0 { Action::Create(1) } else { Action::Set(n + 1) })
        })
        .collect();
    steps.push(step((200, Some(201)), Action::Saw(Some(99))));
    assert!(matches!(search(&steps, 1_000), Found::BudgetSpent));
    assert!(matches!(search(&steps, BUDGET), Found::Nothing(_)));
}

fn step((start_us, end_us): (u64, Option<u64>), action: Action) -> Step {
    Step { start_us, end_us, action, process: 1 }
}

/// Tries all orders.
fn brute_force(steps: &[Step], taken: &mut Vec<usize>, state: Option<u64>) -> bool {
    let is_left = |at: &usize| !taken.contains(at);
    if (0..steps.len()).filter(is_left).all(|at| steps[at].end_us.is_none()) {
        return true;
    }
    let horizon = (0..steps.len()).filter(is_left).filter_map(|at| steps[at].end_us).min();
    let candidates: Vec<usize> = (0..steps.len())
        .filter(is_left)
        .filter(|at| horizon.is_none_or(|end| steps[*at].start_us <= end))
        .collect();
    candidates.into_iter().any(|at| {
        let Some(after) = steps[at].action.step(state) else { return false };
        taken.push(at);
        let found = brute_force(steps, taken, after);
        taken.pop();
        found
    })
}

#[test]
fn it_agrees_with_trying_all_orders_on_random_histories() {
    let mut random = StdRng::seed_from_u64(11);
    let mut verdicts = [0, 0];
    for round in 0..6_000 {
        let count = random.random_range(2..=6);
        let steps: Vec<Step> = (0..count)
            .map(|_| {
                let start = random.random_range(0..14);
                let end = start + random.random_range(0..6);
                let value = random.random_range(1..=3);
                let action = match random.random_range(0..9) {
                    0 => Action::Saw(None),
                    1 | 2 => Action::Saw(Some(value)),
                    3 => Action::SawSome,
                    4 => Action::SawOther(value),
                    5 => Action::Create(value),
                    6 => Action::Cas(random.random_range(1..=3), value),
                    7 => Action::Delete,
                    _ => Action::Set(value),
                };
                let known = action.only_observes() || random.random_bool(0.8);
                step((start, known.then_some(end)), action)
            })
            .collect();
        let expected = brute_force(&steps, &mut Vec::new(), None);
        let found = matches!(search(&steps, BUDGET), Found::Order);
        assert_eq!(found, expected, "round {round}: {steps:?}");
        let decided = matches!(decide(&steps, BUDGET), Found::Order);
        assert_eq!(decided, expected, "round {round}: {steps:?}");
        verdicts[usize::from(found)] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 300), "both kinds must occur: {verdicts:?}");
}

#[test]
fn unknown_writes_that_nobody_saw_do_not_make_a_good_history_hard() {
    let mut steps = vec![step((0, Some(1)), Action::Create(1))];
    for n in 0..40 {
        steps.push(step((2 + n, None), Action::Set(100 + n)));
        steps.push(step((50 + n * 2, Some(51 + n * 2)), Action::Set(200 + n)));
        steps.push(step((50 + n * 2, Some(52 + n * 2)), Action::SawSome));
    }
    steps.push(step((300, Some(301)), Action::Saw(Some(239))));
    assert!(matches!(decide(&steps, 1_000), Found::Order));
    // The refusal of a conditional write can have no other reason than one of them: then they count.
    let steps = [
        step((0, Some(1)), Action::Create(1)),
        step((2, None), Action::Set(7)),
        step((3, Some(4)), Action::SawOther(1)),
    ];
    assert!(matches!(decide(&steps, 1_000), Found::Order));
}
