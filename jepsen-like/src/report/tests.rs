use std::collections::BTreeMap;

use super::html;
use crate::check::Verdict;
use crate::check::registry::{Distribution, Frame, Measures};
use crate::judge::{ACTED, ENOUGH, LINEARIZABLE, WITNESS};
use crate::run::{Band, RunResult};
use crate::workload::Workload;

pub(crate) fn result(target: &str, failed_first: u64, lost: &[&str]) -> RunResult {
    let strip = |answers| BTreeMap::from([(1, vec![answers; 10]), (2, vec![(2, 2); 10])]);
    let measures = Measures {
        calls: 1_000,
        failed_first,
        calls_by_second: vec![(100, (failed_first / 10) as u32, 1); 10],
        ghosts: vec![0.5; 40],
        missing: vec![0.0; 40],
        lost: lost.iter().map(|id| (*id).to_owned()).collect(),
        reads: 10,
        staleness_ms: Distribution::of(vec![40.0, 900.0]),
        writes: strip((1, 2)),
        lists: strip((2, 2)),
        subscribes: strip((0, 0)),
        notification_ms: Distribution::of(vec![3.0, 20.0, 1_500.0]),
        ..Measures::default()
    };
    RunResult {
        target: target.into(),
        workload: Workload::Registry,
        seed: 7,
        frame: Frame {
            start_us: 0,
            healed_us: 8_000_000,
            end_us: 10_000_000,
            timeout_us: 3_000_000,
            consumers: 6,
            nodes: 2,
        },
        bands: vec![Band { from_ms: 2_000, until_ms: 6_000, fault: "partition n1 | rest".into() }],
        measures: Some(measures),
        requests: (500, 10, 3),
        verdicts: BTreeMap::from([("enough happened".into(), Verdict::Ok)]),
        unpromised: Default::default(),
        figures: BTreeMap::new(),
        timer_lag_ms: Distribution::of(vec![1.0, 2.0]),
    }
}

#[test]
fn the_page_stands_alone_and_has_every_part() {
    let page = html(&[result("roost", 20, &[]), result("ap-described", 60, &["p<1>"])]);
    for part in [
        "What it shows",
        "Side by side",
        "Over time",
        "How long things took",
        "What the checkers say",
        "partition n1 | rest",
        "n1 writes",
        "p&lt;1&gt;",
    ] {
        assert!(page.contains(part), "{part} is missing");
    }
    for outside in ["http:", "https:", "<script", "src=", "@import", "p<1>"] {
        assert!(!page.contains(outside), "{outside} is in it");
    }
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
}

#[test]
fn the_conclusion_follows_from_the_numbers() {
    let page = html(&[result("roost", 20, &[]), result("ap-described", 60, &["p1"])]);
    assert!(page.contains("least with roost and most with ap-described"), "{page}");
    assert!(page.contains("ap-described lost registrations") && page.contains("lost by roost."));
    let turned = html(&[result("roost", 60, &[]), result("ap-careful", 20, &[])]);
    assert!(turned.contains("least with ap-careful and most with roost"));
    let equal = html(&[result("roost", 50, &[]), result("ap-careful", 52, &[])]);
    assert!(equal.contains("about the same with all"));
}

#[test]
fn a_run_in_which_too_little_happened_is_said_to_prove_nothing() {
    let mut void = result("roost", 0, &[]);
    void.verdicts.insert("enough happened".into(), Verdict::Unknown("nothing".into()));
    let page = html(&[void]);
    assert!(page.contains("Too little happened in the runs of roost"));
    assert!(html(&[]).contains("There were no runs to compare"));
}

#[test]
fn a_run_whose_faults_were_not_seen_to_act_proves_nothing_either() {
    let mut unseen = result("ap-careful", 0, &[]);
    unseen.verdicts.insert(ACTED.into(), Verdict::Unknown("`ring` at 3000 ms".into()));
    let page = html(&[result("roost", 20, &[]), unseen, result("ap-described", 60, &[])]);
    assert!(page.contains("In the runs of ap-careful a fault was not seen to act"), "{page}");
    assert!(page.contains("least with roost") && page.contains("ap-careful (faults not seen)"));
    let mut register = result("roost", 0, &[]);
    (register.workload, register.measures) = (Workload::Register, None);
    register.verdicts.extend([WITNESS, LINEARIZABLE].map(|name| (name.into(), Verdict::Ok)));
    let of = |register: &RunResult| html(&[result("roost", 20, &[]), register.clone()]);
    assert!(of(&register).contains("<td>linearizability violations</td><td>0</td>"));
    register.verdicts.insert(ENOUGH.into(), Verdict::Unknown("nothing".into()));
    let page = of(&register);
    assert!(page.contains("<td>linearizability violations</td><td>—</td>"), "{page}");
    assert!(page.contains("Too little happened in the runs of roost (register)"));
}

#[test]
fn what_a_node_did_beside_its_lists_is_said_too() {
    let mut run = result("roost", 20, &[]);
    run.verdicts.insert("nodes agree".into(), Verdict::Unknown("in time".into()));
    let page = html(std::slice::from_ref(&run));
    assert!(page.contains("Of roost this could not be judged: nodes agree."), "{page}");
    run.verdicts.insert("nodes agree".into(), Verdict::of(vec!["they differ".into()]));
    assert!(html(&[run]).contains("roost BROKE this in the registry run: nodes agree."));
}

#[test]
fn a_run_in_which_too_little_happened_is_neither_the_best_nor_the_worst() {
    let mut void = result("ap-careful", 0, &[]);
    void.verdicts.insert("enough happened".into(), Verdict::Unknown("nothing".into()));
    let page = html(&[result("roost", 20, &[]), void, result("ap-described", 60, &[])]);
    assert!(page.contains("least with roost and most with ap-described"), "{page}");
    assert!(page.contains("<th>ap-careful (too little happened)</th>"));
    let row =
        "<td>failed at first</td><td class=\"best\">20</td><td>0</td><td class=\"worst\">60</td>";
    assert!(page.contains(row), "{page}");
}

#[test]
fn who_never_had_the_truth_again_is_said_so_and_is_the_worst() {
    let mut soon = result("roost", 0, &[]);
    soon.measures.as_mut().unwrap().converged_ms = Some(1_500.0);
    let page = html(&[soon, result("ap-described", 0, &[])]);
    assert!(page.contains("<td class=\"best\">1500</td><td class=\"worst\">never</td>"), "{page}");
    assert!(page.contains("roost after 1.5 s and ap-described never within the run"), "{page}");
}

#[test]
fn staleness_notification_and_the_two_sides_of_a_partition_are_said_in_words() {
    let mut run = result("roost", 0, &[]);
    run.frame.nodes = 3;
    run.bands[0].fault = "partition n1 c1 | n2 c2 n3 c3".into();
    let measures = run.measures.as_mut().unwrap();
    let strips = |cut_off| BTreeMap::from([(1, vec![cut_off; 10]), (2, vec![(9, 10); 10])]);
    (measures.site_writes, measures.site_lists) = (strips((0, 5)), strips((4, 5)));
    let page = html(&[run]);
    for said in [
        "roost 0 % of writes and 80 % of lists against 90 % and 90 %",
        "roost 20.0 %, up to 0.9 s (p99)",
        "roost after 20 ms (p50) and 1500 ms (p99)",
        "cut off: writes",
        "fill-opacity",
    ] {
        assert!(page.contains(said), "{said} is missing: {page}");
    }
}

#[test]
fn a_broken_promise_is_said_as_such() {
    let mut broken = result("roost", 0, &[]);
    (broken.workload, broken.measures) = (Workload::Register, None);
    broken.verdicts.insert("witness".into(), Verdict::of(vec!["op 4 saw op 3 < op 2".into()]));
    let page = html(&[broken]);
    assert!(page.contains("roost BROKE 1 of its stronger promises"), "{page}");
    assert!(page.contains("broken: op 4 saw op 3 &lt; op 2"));
}

#[test]
fn what_was_not_promised_is_shown_and_is_no_broken_promise() {
    let registry = result("zookeeper", 0, &[]);
    let mut broken = result("zookeeper", 0, &[]);
    (broken.workload, broken.measures) = (Workload::Register, None);
    let stale = Verdict::of(vec!["op 4".into(), "op 5".into()]);
    broken.verdicts.insert(WITNESS.into(), stale);
    broken.verdicts.insert(LINEARIZABLE.into(), Verdict::Ok);
    broken.unpromised.insert(WITNESS.into());
    let page = html(&[registry, broken.clone()]);
    assert!(!page.contains("BROKE"), "{page}");
    assert!(page.contains("zookeeper does not promise") && page.contains("(not promised)"));
    assert!(page.contains("<tr><td>linearizability violations</td><td>2</td></tr>"), "{page}");
    assert!(broken.is_good());
    broken.unpromised.clear();
    assert!(!broken.is_good() && html(&[broken]).contains("zookeeper BROKE 1"));
}

#[test]
fn times_from_a_machine_that_was_too_busy_are_not_presented_as_those_of_the_registries() {
    let mut late = result("roost", 20, &[]);
    assert!(!html(std::slice::from_ref(&late)).contains("too busy"));
    late.timer_lag_ms = Distribution::of(vec![1.0, 180.0]);
    assert!(html(&[late]).contains("too busy for times"));
}
