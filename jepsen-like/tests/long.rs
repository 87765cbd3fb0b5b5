//! The script of the long run, with a program in the place of the suite's that only says how runs have ended.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Ends as the workload's name wants it.
const PROGRAM: &str = r#"#!/usr/bin/env bash
printf '%s\n' "$*" >>"$(dirname "$0")/asked"
while [ $# -gt 1 ]; do [ "$1" = --workload ] && workload=$2; shift; done
ran() { printf 'at 1s for 1s kill n1\nat 3s for 1s kill n2\n  requests: 40 answered, 3 failed, 2 unknown\n'; }
case $workload in
    set) ran ;;
    lock) ran; echo '  a promise: Violated(["x"])'; exit 1 ;;
    watch) ran; echo '  a promise: Unknown("y")'; exit 1 ;;
    session) echo 'roost-jepsen: there is no room' >&2; exit 2 ;;
    multi) exec sleep 60 ;;
esac
"#;

/// Returns whether the script was content, and what it said.
fn chaos(dir: &Path, workloads: &str, more: &[&str]) -> (bool, String) {
    let program = dir.join("roost-jepsen");
    fs::write(&program, PROGRAM).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/chaos");
    let mut command = Command::new(script);
    command.args(["--rounds", "2", "--faults", "power,full", "--nodes", "5", "--limit", "2"]);
    command.args(["--workload", workloads, "--target", "roost,roost-zk"]);
    command.arg("--programs").arg(dir).arg("--out").arg(dir.join("out")).args(more);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

#[test]
fn runs_that_end_in_different_ways_are_counted_apart_and_none_ends_the_loop() {
    let dir = tempfile::tempdir().unwrap();
    let (is_content, said) = chaos(dir.path(), "set,lock,watch,session,multi", &[]);
    assert!(!is_content, "{said}");
    for row in [
        "| roost | set | power,full | 2 | 2 | 0 | 0 | 0 | 4 | 80 | 4 |",
        "| roost | lock | power,full | 2 | 0 | 2 | 0 | 0 | 4 | 80 | 4 |",
        "| roost | watch | power,full | 2 | 0 | 0 | 2 | 0 | 4 | 80 | 4 |",
        "| roost | session | power,full | 2 | 0 | 0 | 0 | 2 | 0 | 0 | 0 |",
        "| roost-zk | multi | power,full | 2 | 0 | 0 | 0 | 2 | 0 | 0 | 0 |",
        "DID NOT RUN: seed 1, roost session power,full: ",
        "there is no room",
        "not over after 2 s",
    ] {
        assert!(said.contains(row), "{row} is missing: {said}");
    }
    let asked = fs::read_to_string(dir.path().join("asked")).unwrap();
    assert!(asked.lines().count() == 20 && asked.lines().all(|line| line.contains("--nodes 5")));
    let kept = fs::read_dir(dir.path().join("out")).unwrap().count();
    assert_eq!(kept, 16, "what was good leaves nothing behind");
}

#[test]
fn what_only_a_switch_does_is_run_on_one() {
    let dir = tempfile::tempdir().unwrap();
    for (faults, net) in
        [("network,packet", "switch"), ("packet", "switch"), ("network", "namespaces")]
    {
        let (is_content, said) =
            chaos(dir.path(), "set", &["--faults", faults, "--net", "namespaces"]);
        assert!(is_content, "{said}");
        let asked = fs::read_to_string(dir.path().join("asked")).unwrap();
        let last = asked.lines().last().unwrap();
        assert!(last.contains(&format!("--faults {faults} ")), "{last}");
        assert!(last.contains(&format!("--net {net} ")), "{last}");
    }
}

#[test]
fn the_script_is_content_with_promises_kept_and_runs_not_judged_but_not_with_runs_that_did_not_run()
{
    for (workload, expected) in
        [("set", true), ("set,watch", true), ("set,lock", false), ("set,session", false)]
    {
        let dir = tempfile::tempdir().unwrap();
        let (is_content, said) = chaos(dir.path(), workload, &[]);
        assert_eq!(is_content, expected, "{workload}: {said}");
    }
}
