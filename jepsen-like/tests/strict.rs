//! Is the suite too strict, or too weak? It must find nothing wrong with etcd's keys under faults, and must find that a
//! read behind ZooKeeper's `sync` may be stale, which is known. Without these programs there is nothing to compare with.

use std::fs;
use std::path::Path;
use std::process::Command;

use roost_jepsen::check::Verdict;
use roost_jepsen::judge::{ENOUGH, LINEARIZABLE, MONOTONIC, WHOLE, WITNESS};
use roost_jepsen::run::RunResult;
use roost_jepsen::target::{Etcd, ZooKeeper};

const PROGRAM: &str = env!("CARGO_BIN_EXE_roost-jepsen");

/// The leader is cut off with its clients, killed, paused; then everything at once is killed.
const HARD: &str = "\
schedule seed 11 nodes 3 duration 20s
at 2s for 4s partition leader c-leader | rest
at 6.5s for 2s kill leader
at 9s for 3s pause leader
at 12.5s for 2s one-way leader -> follower
at 13s for 1s kill last
at 15s for 1s kill-all
";

/// The leader is cut off, and the others lose it at once, because they are killed: until it has given them up itself,
/// which takes four ticks of four seconds, two servers lead. It goes on to answer `sync` and read to clients at its side.
const DEPOSED: &str = "\
schedule seed 5 nodes 3 duration 27s
at 4s for 20s partition leader c-leader | rest
at 4.2s for 100ms kill follower last
";

fn run(schedule: &str, arguments: &[&str]) -> RunResult {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("schedule");
    fs::write(&file, schedule).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["run", "--workload=register", "--timeout=4s"]).args(arguments);
    command.arg(path("--schedule=", &file)).arg(path("--out=", dir.path()));
    let output = command.output().unwrap();
    let summary = fs::read_to_string(dir.path().join("summary.json"));
    let summary = summary.unwrap_or_else(|err| panic!("{err}: {output:?}"));
    let mut results: Vec<RunResult> = serde_json::from_str(&summary).unwrap();
    let result = results.remove(0);
    assert_eq!(output.status.success(), result.is_good(), "{output:?}");
    result
}

fn path(option: &str, path: &Path) -> String {
    format!("{option}{}", path.display())
}

#[test]
fn the_suite_is_not_too_strict_for_etcd() {
    if let Some(why) = Etcd::missing() {
        eprintln!("skipped: {why}");
        return;
    }
    let result = run(HARD, &["--target=etcd"]);
    for name in [ENOUGH, WITNESS, LINEARIZABLE, WHOLE, MONOTONIC] {
        assert_eq!(result.verdicts[name], Verdict::Ok, "{name}");
    }
}

#[test]
fn the_suite_is_not_too_weak_for_the_sync_of_zookeeper() {
    if let Some(why) = ZooKeeper::missing() {
        eprintln!("skipped: {why}");
        return;
    }
    let result = run(DEPOSED, &["--target=zookeeper", "--zk-tick=4s"]);
    assert_eq!(result.verdicts[ENOUGH], Verdict::Ok);
    // That the server says so itself, by its zxids, and that clients can tell without believing it.
    assert!(result.verdicts[WITNESS].is_violated(), "{:?}", result.verdicts);
    assert!(result.verdicts[LINEARIZABLE].is_violated(), "{:?}", result.verdicts);
    assert!(result.is_good(), "it is not promised, and all else was kept: {:?}", result.verdicts);
}
