//! The comparison with ZooKeeper: one random history of requests, from several sessions, to both; every
//! answer, stat and event must be the same, zxids and times apart. What may differ stands in `allowed.rs`, by
//! name and with its reason.
//!
//! The history is a function of a seed. Each step is taken on both sides before the next one begins, so
//! events have a determined place: those of a step reach every other session before that session's next
//! answer.
//!
//! The runs are the same every time: `ROOST_OPS` and `ROOST_SEED` change them;
//! `ROOST_DIFFERENCES` lets them go on after the first. `ROOST_RIVAL=zookeeper` compares ZooKeeper with another ZooKeeper, which shows whether a
//! difference is the test's own.

mod allowed;
mod compare;
mod connection;
mod generate;
mod history;
mod servers;

use history::History;
use servers::{Server, is_zookeeper_installed};

fn from_env(name: &str, normal: u64) -> u64 {
    std::env::var(name).map_or(normal, |text| text.parse().expect("a number"))
}

#[test]
fn roost_answers_as_zookeeper_does() {
    compare(1, 1, 10_000);
}

#[test]
fn three_nodes_answer_as_one_zookeeper_does() {
    compare(3, 2, 4_000);
}

/// Compares ZooKeeper with so many nodes of roost, by a history of this seed and length unless the environment says otherwise.
fn compare(nodes: u64, seed: u64, ops: u64) {
    if !is_zookeeper_installed() {
        let why = "ZooKeeper is not installed; scripts/install-zookeeper.sh does it on Debian";
        assert!(std::env::var_os("CI").is_none(), "{why}");
        eprintln!("skipped: {why}");
        return;
    }
    let (seed, ops) = (from_env("ROOST_SEED", seed), from_env("ROOST_OPS", ops));
    println!("ROOST_SEED={seed} ROOST_OPS={ops}, nodes: {nodes}");
    let dir = tempfile::tempdir().unwrap();
    let zookeeper = Server::zookeeper(&dir.path().join("zookeeper"));
    let ours = match std::env::var("ROOST_RIVAL").as_deref() {
        Ok("zookeeper") => Server::zookeeper(&dir.path().join("rival")),
        _ => Server::roost(&dir.path().join("roost"), nodes),
    };
    let differences_max = from_env("ROOST_DIFFERENCES", 1) as usize;
    let mut history = History::new(seed, &ours, &zookeeper, differences_max);
    history.run(ops);
    println!("{}", history.summary());
}
