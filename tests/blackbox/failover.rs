//! kill -9 of the leader: clients of the other nodes notice a pause, never an error, and each of their writes is done
//! exactly once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use reqwest::{Response, StatusCode};
use roost::client::ReadOptions;
use roost::client::model::Create;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::harness::{Cluster, eventually, from_env};

const CLIENTS_PER_NODE: usize = 4;
/// Acknowledgements that each client must have before and after each kill.
const STEPS: u64 = 5;

/// A client that repeats nothing by itself: every answer but success ends the test.
struct Counter {
    http: reqwest::Client,
    name: String,
    /// Version and value of its znode.
    count: u64,
    /// Paths that it was given.
    given: Vec<String>,
    acked: Arc<AtomicU64>,
}

impl Counter {
    async fn run(mut self, node: String, stop: Arc<AtomicBool>) -> Counter {
        while !stop.load(Ordering::Relaxed) {
            self.step(&node).await;
            self.acked.fetch_add(1, Ordering::Relaxed);
        }
        self
    }

    async fn step(&mut self, node: &str) {
        // Holds once only: done twice, it would be answered with bad_version.
        let request = self.http.put(format!("{node}/v1/znodes/failover/{}", self.name));
        let request = request.header("If-Match", format!("\"{}\"", self.count));
        let response = request.body((self.count + 1).to_string()).send().await.unwrap();
        self.count += 1;
        let etag = response.headers()["etag"].to_str().unwrap().to_owned();
        expect(response, StatusCode::OK).await;
        assert_eq!(etag, format!("\"{}\"", self.count), "{}", self.name);

        // Under one key, sent twice: one znode.
        let key = format!("{}-{}", self.name, self.count);
        let url = format!("{node}/v1/znodes/failover/seq/{}-?sequential=true", self.name);
        let send = async || {
            let request = self.http.post(&url).header("Idempotency-Key", &key);
            let answer = expect(request.send().await.unwrap(), StatusCode::CREATED).await;
            answer["path"].as_str().unwrap().to_owned()
        };
        let (first, second) = (send().await, send().await);
        assert_eq!(first, second);
        self.given.push(first);

        // Without a key: only the node itself repeats it, and must not do it twice.
        let url = format!("{node}/v1/znodes/failover/seq/{}-bare-?sequential=true", self.name);
        let answer = expect(self.http.post(&url).send().await.unwrap(), StatusCode::CREATED).await;
        self.given.push(answer["path"].as_str().unwrap().to_owned());
    }
}

async fn expect(response: Response, status: StatusCode) -> Value {
    let (found, url) = (response.status(), response.url().clone());
    let text = response.text().await.unwrap();
    assert_eq!(found, status, "{url}: {text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_leader_under_load_is_a_pause_without_an_error_and_every_write_is_done_once() {
    let failovers = from_env("ROOST_FAILOVERS", 20);
    let mut cluster = Cluster::start(3).await;
    let setup = cluster.client_from(0);
    let mut counters = Vec::new();
    let path = "/failover/seq".to_owned();
    setup.create(&Create { path, parents: true, ..Create::default() }).await.unwrap();
    for index in 0..2 * CLIENTS_PER_NODE {
        let name = format!("c{index}");
        let path = format!("/failover/{name}");
        setup.create(&Create { path, ..Create::default() }).await.unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        counters.push(Counter { http, name, count: 0, given: vec![], acked: Default::default() });
    }
    let mut done = 0;
    while done < failovers {
        let leader = cluster.leader().await;
        let (killed, after) = fail_over(&mut cluster, leader, counters).await;
        counters = after;
        done += u64::from(killed);
        cluster.nodes[leader].spawn();
        cluster.nodes[leader].ready().await;
    }
    verify(&cluster, &counters).await;
    let acked: u64 = counters.iter().map(|counter| counter.acked.load(Ordering::Relaxed)).sum();
    println!("{done} failovers, {} writes, each done once", 3 * acked);
}

/// Kills a node under load of clients of the others. Returns whether it led until then.
async fn fail_over(
    cluster: &mut Cluster,
    victim: usize,
    counters: Vec<Counter>,
) -> (bool, Vec<Counter>) {
    let stop = Arc::new(AtomicBool::new(false));
    let acked: Vec<_> = counters.iter().map(|counter| counter.acked.clone()).collect();
    let mut tasks = Vec::new();
    for (index, counter) in counters.into_iter().enumerate() {
        let node = &cluster.nodes[(victim + 1 + index % 2) % 3];
        tasks.push(tokio::spawn(counter.run(node.url(""), stop.clone())));
    }
    progress(&acked, &tasks).await;
    let before = cluster.nodes[victim].client().cluster().await.unwrap();
    cluster.nodes[victim].kill9();
    progress(&acked, &tasks).await;
    stop.store(true, Ordering::Relaxed);
    let mut counters = Vec::new();
    for task in tasks {
        counters.push(task.await.unwrap());
    }
    (before.leader == Some(before.node), counters)
}

/// Waits until each client has got on by some steps.
async fn progress(acked: &[Arc<AtomicU64>], tasks: &[JoinHandle<Counter>]) {
    let now = |acked: &AtomicU64| acked.load(Ordering::Relaxed);
    let goals: Vec<u64> = acked.iter().map(|acked| now(acked) + STEPS).collect();
    eventually("progress of every client", async || {
        let mut goals = acked.iter().zip(&goals);
        // A client that has ended has met an error; waiting for it tells which.
        let is_there = goals.all(|(acked, goal)| now(acked) >= *goal);
        (is_there || tasks.iter().any(JoinHandle::is_finished)).then_some(())
    })
    .await;
}

async fn verify(cluster: &Cluster, counters: &[Counter]) {
    cluster.agree().await;
    let client = cluster.client_from(0);
    for counter in counters {
        let path = format!("/failover/{}", counter.name);
        let znode = client.get(&path, ReadOptions::Linearizable).await.unwrap();
        assert_eq!(znode.stat.version as u64, counter.count, "{}", counter.name);
    }
    let given: BTreeSet<_> = counters.iter().flat_map(|counter| &counter.given).cloned().collect();
    let count: usize = counters.iter().map(|counter| counter.given.len()).sum();
    assert_eq!(given.len(), count, "a path was given twice");
    let found = client.children("/failover/seq", false, false, ReadOptions::Linearizable).await;
    let found: BTreeSet<_> = found
        .unwrap()
        .children
        .into_iter()
        .map(|child| format!("/failover/seq/{}", child.name))
        .collect();
    assert_eq!(found, given);
}
