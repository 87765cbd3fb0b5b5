//! The comparison with ZooKeeper: one random history of requests, from several sessions, to both; every
//! answer, stat and event must be the same, zxids and times apart. What may differ stands in `allowed.rs`, by
//! name and with its reason.
//!
//! The history is a function of a seed. Each step is taken on both sides before the next one begins, so
//! events have a determined place: those of a step reach every other session before that session's next
//! answer.
//!
//! The run is the same every time: `ROOST_OPS`, `ROOST_SEED` and `ROOST_NODES` (1 or 3) change it;
//! `ROOST_DIFFERENCES` lets it go on after the first. `ROOST_RIVAL=zookeeper` compares ZooKeeper with another ZooKeeper, which shows whether a
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
    if !is_zookeeper_installed() {
        eprintln!(
            "skipped: ZooKeeper is not installed; scripts/install-zookeeper.sh does it on Debian"
        );
        return;
    }
    let seed = from_env("ROOST_SEED", 1);
    let (ops, nodes) = (from_env("ROOST_OPS", 10_000), from_env("ROOST_NODES", 1));
    println!("ROOST_SEED={seed} ROOST_OPS={ops} ROOST_NODES={nodes}");
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
