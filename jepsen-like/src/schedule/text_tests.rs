//! What is printed is parsed, and mistakes are named.

use super::super::Schedule;

const ALL: &str = "\
schedule seed 7 nodes 3 duration 60s from network damage
at 1s for 2.5s kill n1 n2
at 2s for 0.25s kill-all
at 3s for 1s wipe n3
at 4s for 1s pause leader
at 5s for 10s partition leader c-leader | rest
at 6s for 1s partition n1 c1 | n2 c2 | n3
at 7s for 1s one-way n1 -> c2
at 8s for 1s bridge n2
at 9s for 1s ring
at 10s for 1s delay n1 c-follower 50ms jitter 20ms
at 11s for 1.007s loss follower 20%
at 12s for 1s clock n1 +3600s
at 13s for 1s clock leader -0.5s
at 14s for 1s rate n2 150%
at 15s for 1s fsync-fail n1
at 16s for 1s fsync-slow follower 50ms
at 17s for 1s disk-full n3
at 18s for 1s power-cut n1 n3
at 19s for 1s power-cut-all
at 20s for 1s tear n1 4096
at 21s for 1s flip n1 3
at 22s for 1s leave leader
at 23s for 1s transfer n2
at 24s for 1s duplicate n1 leader 10%
at 25s for 1s slow n1 c-leader 64kB/s
at 26s for 1s reorder follower 25% 20ms
";

#[test]
fn every_fault_is_printed_as_it_is_parsed() {
    let schedule: Schedule = ALL.parse().unwrap();
    assert_eq!(schedule.steps.len(), 26);
    assert_eq!(schedule.to_string(), ALL);
}

#[test]
fn comments_and_order_do_not_matter() {
    let text = "# by hand\nschedule seed 1 nodes 3 duration 9s\n\nat 5s for 1s ring # late\nat 2s for 1s kill n1";
    let schedule: Schedule = text.parse().unwrap();
    assert_eq!(schedule.steps[0].at_ms, 2_000);
}

#[test]
fn a_mistake_is_named_with_its_line() {
    for (wrong, named) in [
        ("at 1s for 1s kill n0", "\"n0\" is no node"),
        ("at 1s for 1s kill", "names nobody"),
        ("at 1 for 1s ring", "\"1\" is not a time"),
        ("at 1.2345s for 1s ring", "is not a time"),
        ("at 1s for 1s partition n1 n2", "two or more groups"),
        ("at 1s for 1s partition rest | rest", "at most one"),
        ("at 1s for 1s loss n1 101%", "is not a share"),
        ("at 1s for 1s slow n1 0kB/s", "is no bandwidth"),
        ("at 1s for 1s slow n1 5MB/s", "is no bandwidth"),
        ("at 1s for 1s duplicate c1 10%", "\"c1\" is no node"),
        ("at 1s for 1s reorder 25% 20ms", "names nobody"),
        ("at 1s for 1s reorder n1 25 20ms", "is not a share"),
        ("at 1s for 1s explode n1", "is no fault"),
        ("at 1s for 1s explode n1 2", "is no fault"),
        ("at 1s for 1s clock n1 10s", "is no jump"),
        ("at 1s for 1s rate n1 0%", "is no rate"),
        ("at 1s for 1s flip n1 256", "expected a number"),
        ("at 1s for 1s tear n1 0", "expected a number"),
        ("at 1s for 1s leave n0", "\"n0\" is no node"),
        ("at 1s ring", "expected `at"),
    ] {
        let text = format!("schedule seed 1 nodes 3 duration 9s\n{wrong}\n");
        let error = text.parse::<Schedule>().unwrap_err();
        assert!(error.starts_with("line 2: ") && error.contains(named), "{wrong}: {error}");
    }
}
