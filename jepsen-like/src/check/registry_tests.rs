use std::collections::{BTreeMap, BTreeSet};

use super::{Distribution, Frame, Measures, measure};
use crate::history::registry::{Answered, Asked, End, Event, Noted};

const SECOND: u64 = 1_000_000;

fn frame() -> Frame {
    Frame {
        start_us: 0,
        healed_us: 10 * SECOND,
        end_us: 20 * SECOND,
        timeout_us: 3 * SECOND,
        consumers: 1,
        nodes: 1,
    }
}

fn at(second: u64, what: Event) -> Noted {
    Noted { at_us: second * SECOND, what }
}

fn ids(list: &[&str]) -> BTreeSet<String> {
    list.iter().map(|id| (*id).to_owned()).collect()
}

fn asked(second: u64, what: Asked, provider: &str, result: Answered) -> Noted {
    let start_us = second * SECOND;
    at(second, Event::Asked { node: 1, site: 1, what, provider: provider.into(), start_us, result })
}

fn held(second: u64, list: &[&str]) -> Noted {
    at(second, Event::Held { consumer: 0, providers: ids(list) })
}

fn listed(second: u64, consumer: Option<u32>, list: &[&str]) -> Noted {
    let start_us = second * SECOND;
    at(second, Event::Listed { node: 1, consumer, start_us, providers: ids(list) })
}

/// A provider that works from second 1 on, registered at 2 and renewed every second.
fn provider(id: &str) -> Vec<Noted> {
    let mut events =
        vec![at(1, Event::Up { provider: id.into() }), asked(2, Asked::Register, id, Answered::Ok)];
    events.extend((3..=20).map(|second| asked(second, Asked::Renew, id, Answered::Ok)));
    events
}

fn measured(mut events: Vec<Noted>) -> Measures {
    events.sort_by_key(|noted| noted.at_us);
    measure(&events, &frame())
}

#[test]
fn a_provider_that_is_listed_all_the_time_is_neither_ghost_nor_missing() {
    let measures = measured([provider("a"), vec![held(2, &["a"])]].concat());
    assert_eq!((measures.ghost_provider_seconds, measures.missing_provider_seconds), (0.0, 0.0));
    assert!(measures.lost.is_empty() && measures.ghosts_at_end.is_empty());
    assert_eq!(measures.notification_ms.values, vec![0.0]);
    assert_eq!(measures.writes[&1][5], (1, 1));
}

#[test]
fn a_crashed_provider_is_a_ghost_until_the_consumer_lets_it_go() {
    let crash = at(5, Event::Down { provider: "a".into(), end: End::Crashed });
    let measures = measured([provider("a"), vec![held(2, &["a"]), crash, held(9, &[])]].concat());
    assert_eq!(measures.ghost_provider_seconds, 4.0);
    assert_eq!(measures.detection_ms.values, vec![4_000.0]);
    assert!(measures.ghosts_at_end.is_empty());
}

#[test]
fn a_registration_that_was_acknowledged_and_is_in_no_list_is_lost() {
    let measures = measured([provider("a"), vec![held(2, &[])]].concat());
    assert_eq!(measures.lost, vec!["a".to_owned()]);
    assert_eq!((measures.missing_provider_seconds, measures.never_notified), (18.0, 1));
}

#[test]
fn one_whose_renewals_are_not_acknowledged_need_not_be_listed() {
    let mut events = provider("a");
    events.retain(|noted| noted.at_us <= 5 * SECOND);
    events.extend((6..20).map(|second| asked(second, Asked::Renew, "a", Answered::Failed)));
    let measures = measured([events, vec![held(2, &["a"]), held(8, &[])]].concat());
    assert!(measures.lost.is_empty() && measures.missing_provider_seconds == 0.0, "{measures:?}");
    assert_eq!(measures.writes[&1][7], (0, 1));
}

#[test]
fn a_stale_list_is_as_stale_as_the_oldest_change_that_it_lacks() {
    let mut events = [provider("a"), provider("b")].concat();
    events.push(asked(6, Asked::Deregister, "b", Answered::Ok));
    let good = listed(5, Some(0), &["a", "b"]);
    let stale = listed(8, Some(0), &["a", "b"]);
    let staler = listed(9, Some(0), &["b"]);
    let measures = measured([events, vec![good, stale, staler]].concat());
    assert_eq!(measures.reads, 3);
    assert_eq!(measures.staleness_ms.values, vec![2_000.0, 7_000.0]);
}

#[test]
fn a_ping_is_no_write_and_keeps_nobody_listed_before_things_are_calm() {
    // Registered at 2 and then only pinged; the last fault ends at 10, the timeout is 3.
    let mut events = provider("a");
    events.retain(|noted| noted.at_us <= 2 * SECOND);
    events.extend((3..=20).map(|second| asked(second, Asked::Ping, "a", Answered::Ok)));
    let nobody = [events.clone(), vec![held(2, &["a"]), held(8, &[])]].concat();
    let measures = measured(nobody);
    assert_eq!(measures.writes[&1].iter().map(|second| second.1).sum::<u32>(), 1);
    assert_eq!(measures.lost, ["a"], "who is heard long after the last fault has to be listed");
    // From 16 on: a ping of then is a promise.
    assert_eq!(measures.missing_provider_seconds, 4.0);
    assert!(measured([events, vec![held(17, &["a"])]].concat()).lost.is_empty());
}

#[test]
fn who_may_have_been_freed_by_a_late_request_of_its_own_is_not_called_lost() {
    let lost_after = |result| {
        let events = [provider("a"), vec![asked(4, Asked::Free, "a", result), held(5, &[])]];
        measured(events.concat()).lost
    };
    assert_eq!(lost_after(Answered::Ok), ["a"], "it registered after that");
    assert!(lost_after(Answered::Unknown).is_empty());
}

#[test]
fn who_registered_a_moment_before_the_end_is_not_called_lost() {
    let registered = |second| {
        let up = at(second, Event::Up { provider: "a".into() });
        let renewals = (second..=20).map(|second| asked(second, Asked::Renew, "a", Answered::Ok));
        let register = asked(second, Asked::Register, "a", Answered::Ok);
        measured([vec![up, register, held(1, &[])], renewals.collect()].concat()).lost
    };
    assert!(registered(18).is_empty());
    assert_eq!(registered(17), ["a"]);
}

#[test]
fn availability_is_by_the_node_that_was_asked_and_by_the_site_that_asked() {
    let mut frame = frame();
    frame.nodes = 2;
    let from = |site, node, result| {
        let (what, start_us, provider) = (Asked::List, 4 * SECOND, String::new());
        at(4, Event::Asked { node, site, what, provider, start_us, result })
    };
    let events = [from(1, 1, Answered::Ok), from(1, 2, Answered::Failed), from(2, 2, Answered::Ok)];
    let measures = measure(&events, &frame);
    let second = |strips: &BTreeMap<u8, Vec<(u32, u32)>>, number| strips[&number][4];
    assert_eq!((second(&measures.lists, 1), second(&measures.lists, 2)), ((1, 1), (1, 2)));
    assert_eq!(
        (second(&measures.site_lists, 1), second(&measures.site_lists, 2)),
        ((1, 2), (1, 1))
    );
}

#[test]
fn convergence_counts_from_the_last_fault_to_the_last_node_that_had_it_wrong() {
    let watched = |wrong: &[u64]| {
        let lists = (1..20).map(|second| {
            let list: &[&str] = if wrong.contains(&second) { &[] } else { &["a"] };
            listed(second, None, list)
        });
        measured([provider("a"), lists.collect()].concat()).converged_ms
    };
    assert_eq!(watched(&[4, 9]), Some(0.0));
    assert_eq!(watched(&[9, 11, 12]), Some(3_000.0));
    assert_eq!(watched(&[19]), None);
}

#[test]
fn failed_calls_are_counted_with_and_without_retries() {
    let call = |second, first, any| {
        let start_us = second * SECOND;
        at(second, Event::Called { consumer: 0, start_us, first, any })
    };
    let measures = measured(vec![call(1, true, true), call(1, false, true), call(2, false, false)]);
    assert_eq!((measures.calls, measures.failed_first, measures.failed_all), (3, 2, 1));
    assert_eq!(measures.calls_by_second[1], (2, 1, 0));
}

#[test]
fn quantiles_are_values_that_occurred() {
    let distribution = Distribution::of(vec![5.0, 1.0, 3.0]);
    assert_eq!(distribution.quantile(0.5), Some(3.0));
    assert_eq!(distribution.quantile(1.0), Some(5.0));
    assert_eq!(Distribution::default().quantile(0.5), None);
}
