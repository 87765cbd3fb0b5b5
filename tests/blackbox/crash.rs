//! kill -9 of any nodes at any time, under load, loses nothing acknowledged and leaves no ephemeral without its session.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use roost::client::model::Create;
use roost::client::{Client, ReadOptions};

use crate::harness::{Cluster, eventually, from_env, seed};
use crate::ledger::{Ledger, Living};
use crate::load::{Load, Worker};

const WORKERS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_loop_loses_no_acknowledged_write_and_orphans_no_ephemeral() {
    let rounds = from_env("ROOST_CRASH_ROUNDS", 6);
    let seed = seed();
    let mut cluster = Cluster::start(3).await;
    let load = Arc::new(Load::default());
    let setup = cluster.client_from(0);
    for path in ["/crash/seq", "/crash/eph"] {
        let create = Create { path: path.into(), parents: true, ..Create::default() };
        setup.create(&create).await.unwrap();
    }
    let mut workers = Vec::new();
    for index in 0..WORKERS {
        let client = cluster.client_from(index % 3);
        let seed = seed.wrapping_add(index as u64 + 1);
        workers.push(Worker::start(format!("w{index}"), client, seed, load.clone()).await);
    }
    let (ledgers, tasks): (Vec<_>, Vec<_>) = workers.into_iter().unzip();

    let mut random = StdRng::seed_from_u64(seed);
    let mut kills = 0;
    for round in 0..rounds {
        kills += crash(&mut cluster, &load, &mut random).await;
        let _alone = load.gate.write().await;
        let state = cluster.agree().await;
        check(&cluster.client_from(random.random_range(0..3)), &ledgers).await;
        println!("round {round}: {kills} kills, {} acknowledged, {state:?}", load.acked());
    }
    load.stop();
    for task in tasks {
        task.await.unwrap();
    }
    let unknown: u64 = ledgers.iter().map(|ledger| ledger.lock().unknown).sum();
    println!("{rounds} rounds, {kills} kills, {} acknowledged, {unknown} unknown", load.acked());
}

/// Kills some nodes, or all, and starts them again, perhaps killing one in the middle of that. Returns the kills.
async fn crash(cluster: &mut Cluster, load: &Load, random: &mut StdRng) -> u64 {
    await_acks(load, random.random_range(20..150)).await;
    let mut victims = vec![0, 1, 2];
    victims.shuffle(random);
    victims.truncate(random.random_range(1..=3));
    let mut kills = victims.len() as u64;
    for victim in &victims {
        cluster.nodes[*victim].kill9();
    }
    if victims.len() == 1 && random.random() {
        await_acks(load, 20).await;
    }
    for victim in &victims {
        let node = &mut cluster.nodes[*victim];
        node.spawn();
        if random.random_range(0..3) == 0 {
            // Anywhere within its start.
            tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
            node.kill9();
            node.spawn();
            kills += 1;
        }
    }
    cluster.all_ready().await;
    await_acks(load, 20).await;
    kills
}

/// Waits for so many acknowledgements more.
async fn await_acks(load: &Load, count: u64) {
    let goal = load.acked() + count;
    eventually("more acknowledged writes", async || (load.acked() >= goal).then_some(())).await;
}

/// Compares what the cluster holds with what all clients were told. Nothing else writes meanwhile.
async fn check(client: &Client, ledgers: &[Arc<Mutex<Ledger>>]) {
    let living = living(client).await;
    for (name, owner) in &living.ephemerals {
        assert!(living.sessions_before.contains(owner), "{name} has no session {owner}");
    }
    let sequential = client.children("/crash/seq", false, false, ReadOptions::Linearizable).await;
    let sequential: BTreeSet<String> = sequential
        .unwrap()
        .children
        .into_iter()
        .map(|child| format!("/crash/seq/{}", child.name))
        .collect();
    let (mut given, mut unknown) = (BTreeSet::new(), 0);
    for (index, ledger) in ledgers.iter().enumerate() {
        let path = format!("/crash/w{index}");
        let own = client.children(&path, true, true, ReadOptions::Linearizable).await.unwrap();
        let mut ledger = ledger.lock();
        ledger.check_own(&own.children);
        ledger.check_leases(&living);
        for path in &ledger.sequential {
            assert!(given.insert(path.clone()), "{path} was given twice");
            assert!(sequential.contains(path), "{path} was acknowledged and is lost");
        }
        unknown += ledger.unknown;
        assert!(ledger.wrong.is_empty(), "w{index}: {:#?}", ledger.wrong);
    }
    let extra = sequential.len() - given.len();
    assert!(extra as u64 <= unknown, "{extra} sequential znodes more than {unknown} lost answers");
}

async fn living(client: &Client) -> Living {
    let sessions = async || {
        let sessions = client.sessions().await.unwrap().sessions;
        sessions.into_iter().map(|session| session.session).collect::<BTreeSet<_>>()
    };
    let sessions_before = sessions().await;
    let children = client.children("/crash/eph", false, true, ReadOptions::Linearizable).await;
    let owner = |stat: Option<roost::client::model::Stat>| stat.unwrap().ephemeral_owner.unwrap();
    let ephemerals: BTreeMap<String, String> = children
        .unwrap()
        .children
        .into_iter()
        .map(|child| (child.name, owner(child.stat)))
        .collect();
    Living { sessions_before, ephemerals, sessions_after: sessions().await }
}
