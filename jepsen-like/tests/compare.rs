//! The suite as a user runs it, over the AP registry, which needs nothing but this program.

use std::fs;
use std::path::Path;
use std::process::Command;

use roost_jepsen::schedule::Schedule;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_roost-jepsen");

/// Cuts the nodes into sides while providers come and go, so that two nodes publish at the same time.
const SCHEDULE: &str = "\
schedule seed 3 nodes 3 duration 14s
at 2s for 7s partition n1 c1 | n2 c2 n3 c3
at 4s for 1s kill n3
at 6s for 1s pause n2
";

fn run(out: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).arg("--out").arg(out);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), said.into_owned())
}

fn results(out: &Path) -> Vec<Value> {
    serde_json::from_str(&fs::read_to_string(out.join("summary.json")).unwrap()).unwrap()
}

#[test]
fn both_forms_of_the_ap_registry_run_and_are_compared_in_one_report() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("schedule");
    fs::write(&file, SCHEDULE).unwrap();
    let targets = "--target=ap-described,ap-careful";
    let schedule = format!("--schedule={}", file.display());
    let (code, said) = run(dir.path(), &["compare", targets, &schedule]);
    assert_eq!(code, 0, "{said}");
    let results = results(dir.path());
    assert_eq!(results.len(), 2, "registers are no business of an AP registry");
    for result in &results {
        let measures = &result["measures"];
        assert!(measures["calls"].as_u64().unwrap() > 100, "{said}");
        assert_eq!(result["bands"].as_array().unwrap().len(), 3, "{said}");
        // Every node, and the clients of every site, are asked for subscriptions all the time.
        for strips in ["subscribes", "site_subscribes"] {
            for number in ["1", "2", "3"] {
                let strip = measures[strips][number].as_array().unwrap();
                let asked = strip.iter().filter(|second| second[1].as_u64().unwrap() > 0).count();
                assert!(asked * 2 > strip.len(), "{strips} {number}: {strip:?}");
            }
        }
        // The cut was felt: somebody's request was not answered while it lasted.
        assert!(result["requests"][2].as_u64().unwrap() > 0, "{said}");
    }
    assert_eq!(results[1]["target"], "ap-careful");
    let lost = results[1]["measures"]["lost"].as_array().unwrap();
    assert!(lost.is_empty(), "the careful form lost {lost:?}: {said}");
    let report = fs::read_to_string(dir.path().join("report.html")).unwrap();
    assert!(report.contains("ap-described") && report.contains("partition n1 c1 | n2 c2 n3 c3"));

    // What was recorded is enough to draw it again.
    let again = Command::new(PROGRAM).arg("report").arg(dir.path()).output().unwrap();
    assert!(again.status.success(), "{again:?}");
    assert_eq!(fs::read_to_string(dir.path().join("report.html")).unwrap(), report);
}

/// Returns the processes that a process has started and that still run.
fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name, which may hold anything: the state and the parent.
        let mut words = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(1);
        words.next().and_then(|word| word.parse().ok()) == Some(parent)
    };
    pids.filter(is_child).collect()
}

#[test]
fn a_run_that_is_told_to_stop_leaves_no_process_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["run", "--target=ap-careful", "--duration=50s", "--out"]).arg(dir.path());
    let mut run = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut nodes = children(run.id());
    while nodes.len() < 3 {
        assert!(run.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(20));
        nodes = children(run.id());
    }
    let pid = nix::unistd::Pid::from_raw(run.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(2));
    let left = nodes.iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(left.count(), 0, "{nodes:?}");
}

#[test]
fn what_cannot_be_run_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("schedule");
    fs::write(&file, "schedule seed 3 nodes 3 duration 9s\nat 1s for 1s explode n1\n").unwrap();
    let schedule = format!("--schedule={}", file.display());
    for (arguments, named) in [
        (vec!["run", "--target=zebra"], "\"zebra\" is no target"),
        (vec!["run", "--target=ap-careful", schedule.as_str()], "line 2: \"explode n1\""),
        (vec!["run", "--target=ap-careful", "--nodes=0"], "--nodes"),
        (vec!["run", "--target=roost", "--roost=/nowhere/roost"], "is not there"),
    ] {
        let (code, said) = run(dir.path(), &arguments);
        assert_eq!(code, 2, "{said}");
        assert!(said.lines().count() == 1 && said.contains(named), "{arguments:?}: {said}");
    }
}

#[test]
fn the_schedule_of_a_seed_is_printed_as_it_can_be_read() {
    let print = || Command::new(PROGRAM).args(["schedule", "--seed=7"]).output().unwrap().stdout;
    let text = String::from_utf8(print()).unwrap();
    assert_eq!(text.as_bytes(), print());
    assert!(text.starts_with("schedule seed 7 nodes 3 duration 60s\n") && text.lines().count() > 5);
    assert_eq!(text.parse::<Schedule>().unwrap().to_string(), text);
}
