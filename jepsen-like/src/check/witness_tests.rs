use super::check;
use crate::check::Verdict;
use crate::history::kv::{KvAnswer, KvCall, KvOp, Seen};
use crate::history::{Op, Outcome};

fn op(times: (u64, u64), call: KvCall, outcome: Outcome<KvAnswer>) -> KvOp {
    Op { process: 1, node: 1, start_us: times.0, end_us: times.1, call, outcome }
}

fn done(zxid: u64, version: i32) -> Outcome<KvAnswer> {
    Outcome::Ok(KvAnswer::Done { zxid, version: Some(version) })
}

fn create(times: (u64, u64), key: &str, value: u64, zxid: u64) -> KvOp {
    op(times, KvCall::Create { key: key.into(), value }, done(zxid, 0))
}

fn set(times: (u64, u64), key: &str, value: u64, outcome: Outcome<KvAnswer>) -> KvOp {
    op(times, KvCall::Set { key: key.into(), value }, outcome)
}

fn saw(value: u64, version: i32, czxid: u64, mzxid: u64) -> Option<Seen> {
    Some(Seen { value, version, czxid, mzxid })
}

fn read(times: (u64, u64), key: &str, zxid: u64, seen: Option<Seen>) -> KvOp {
    let answer = Outcome::Ok(KvAnswer::Read { zxid, seen });
    op(times, KvCall::Read { key: key.into() }, answer)
}

fn stale(times: (u64, u64), key: &str, zxid: u64, seen: Option<Seen>) -> KvOp {
    let answer = Outcome::Ok(KvAnswer::Read { zxid, seen });
    op(times, KvCall::ReadStale { key: key.into() }, answer)
}

fn says(history: &[KvOp], text: &str) {
    let Verdict::Violated(lines) = check(history) else { panic!("nothing found: {history:?}") };
    assert!(lines.iter().any(|line| line.contains(text)), "{text:?} is not said: {lines:?}");
}

#[test]
fn a_history_in_its_own_order_is_good() {
    let history = [
        create((0, 1), "/a", 1, 10),
        create((0, 2), "/b", 2, 11),
        set((3, 9), "/a", 3, done(14, 1)),
        read((4, 5), "/a", 12, saw(1, 0, 10, 10)),
        read((6, 8), "/a", 14, saw(3, 1, 10, 14)),
        read((10, 11), "/c", 14, None),
        stale((12, 13), "/a", 11, saw(1, 0, 10, 10)),
        op((14, 15), KvCall::Delete { key: "/b".into() }, done(15, 0)),
        read((16, 17), "/b", 15, None),
    ];
    assert_eq!(check(&history), Verdict::Ok);
}

#[test]
fn an_older_state_than_was_answered_before_is_a_violation_even_when_no_value_shows_it() {
    // Only another key changed in between: no checker of values can see this.
    let start = [create((0, 1), "/a", 1, 10), create((2, 3), "/b", 2, 11)];
    let read = read((4, 5), "/a", 10, saw(1, 0, 10, 10));
    says(&[&start[..], &[read]].concat(), "had been answered before it began");
    let stale = stale((4, 5), "/a", 10, saw(1, 0, 10, 10));
    assert_eq!(check(&[&start[..], &[stale]].concat()), Verdict::Ok);
}

#[test]
fn a_stale_state_may_be_old_but_not_wrong() {
    let history = [create((0, 1), "/a", 1, 10), stale((2, 3), "/a", 10, None)];
    says(&history, "where it was Some");
}

#[test]
fn two_writes_with_one_zxid_are_a_violation() {
    says(&[create((0, 5), "/a", 1, 10), create((0, 5), "/b", 2, 10)], "was given to");
}

#[test]
fn a_write_that_was_acknowledged_and_is_not_there_is_a_violation() {
    let history = [
        create((0, 1), "/a", 1, 10),
        set((2, 3), "/a", 2, done(11, 1)),
        read((4, 5), "/a", 20, saw(1, 0, 10, 10)),
    ];
    says(&history, "saw Some(Seen { value: 1");
}

#[test]
fn a_conditional_write_that_met_another_version_is_a_violation() {
    let cas = KvCall::Cas { key: "/a".into(), version: 0, from: 1, to: 3 };
    let history = [
        create((0, 1), "/a", 1, 10),
        set((2, 9), "/a", 2, done(11, 1)),
        op((3, 8), cas, done(12, 1)),
    ];
    says(&history, "has version 1 after");
}

#[test]
fn an_unknown_write_has_the_place_where_it_was_seen() {
    let unknown = || Outcome::Unknown("no answer".into());
    let start = [create((0, 1), "/a", 1, 10), set((2, 3), "/a", 2, unknown())];
    let with = |more: &[KvOp]| check(&[&start[..], more].concat());
    assert_eq!(with(&[read((90, 91), "/a", 13, saw(2, 1, 10, 12))]), Verdict::Ok);
    assert_eq!(with(&[read((90, 91), "/a", 13, saw(1, 0, 10, 10))]), Verdict::Ok);
    // It was overwritten before anybody saw it: the version says that something was there.
    assert_eq!(with(&[set((4, 5), "/a", 3, done(15, 2))]), Verdict::Ok);
    assert!(with(&[set((4, 5), "/a", 3, done(15, 3))]).is_violated());
    // Nothing can be in two places.
    let twice = [
        read((10, 11), "/a", 12, saw(2, 1, 10, 12)),
        set((12, 13), "/a", 3, done(14, 2)),
        read((14, 15), "/a", 16, saw(2, 3, 10, 16)),
    ];
    assert!(with(&twice).is_violated());
}

#[test]
fn a_value_that_nobody_wrote_is_a_violation() {
    says(&[create((0, 1), "/a", 1, 10), read((2, 3), "/a", 12, saw(9, 1, 10, 11))], "value: 9");
}

#[test]
fn half_a_transaction_is_a_violation() {
    let both = KvCall::SetAll { writes: vec![("/a".into(), 5), ("/b".into(), 6)] };
    let both = op((4, 5), both, Outcome::Ok(KvAnswer::Done { zxid: 12, version: None }));
    let start = [create((0, 1), "/a", 1, 10), create((2, 3), "/b", 2, 11), both];
    let pair = |a, b| {
        let call = KvCall::ReadAll { keys: vec!["/a".into(), "/b".into()] };
        let answer = KvAnswer::ReadAll { zxid: 12, seen: vec![a, b] };
        let read = op((6, 7), call, Outcome::Ok(answer));
        check(&[&start[..], &[read]].concat())
    };
    assert_eq!(pair(saw(5, 1, 10, 12), saw(6, 1, 11, 12)), Verdict::Ok);
    assert!(pair(saw(5, 1, 10, 12), saw(2, 0, 11, 11)).is_violated());
}

#[test]
fn an_unknown_transaction_that_nobody_saw_leaves_its_trace_in_the_versions() {
    let call = |value| KvCall::SetAll { writes: vec![("/a".into(), value), ("/b".into(), value)] };
    let next = |version| {
        let done = Outcome::Ok(KvAnswer::Done { zxid: 14, version: Some(version) });
        check(&[
            create((0, 1), "/a", 1, 10),
            create((2, 3), "/b", 2, 11),
            op((4, 5), call(5), Outcome::Unknown("no answer".into())),
            op((6, 7), call(6), done),
            read((8, 9), "/b", 14, saw(6, version, 11, 14)),
        ])
    };
    assert_eq!((next(1), next(2)), (Verdict::Ok, Verdict::Ok));
    assert!(next(3).is_violated());
}

#[test]
fn a_read_of_an_unknown_transaction_tells_the_version_of_each_key() {
    let call = |value| KvCall::SetAll { writes: vec![("/a".into(), value), ("/b".into(), value)] };
    let unknown = || Outcome::Unknown("no answer".into());
    let keys = vec!["/a".into(), "/b".into()];
    let answer = KvAnswer::ReadAll { zxid: 14, seen: vec![saw(6, 2, 10, 14), saw(6, 2, 11, 14)] };
    let history = [
        create((0, 1), "/a", 1, 10),
        create((2, 3), "/b", 2, 11),
        // Nobody saw this one, but the versions of the next say that it was done.
        op((4, 5), call(5), unknown()),
        op((6, 7), call(6), unknown()),
        op((8, 9), KvCall::ReadAll { keys }, Outcome::Ok(answer)),
    ];
    assert_eq!(check(&history), Verdict::Ok);
}
