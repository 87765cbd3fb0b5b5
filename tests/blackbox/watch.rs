//! A subscriber whose node is killed goes on at another, and has missed nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use roost::client::model::{Change, ChangeKind, Create, WatchEvent};
use roost::client::{Client, ReadOptions, WatchFilter, WatchKind};

use crate::harness::{Cluster, eventually};

const WRITERS: u64 = 3;
const KILLS: u64 = 5;
/// Changes of each writer that must have come between two kills.
const CHANGES: u64 = 15;

/// Each writer's counter goes 0, 1, 2, …: a change that is missed or doubled shows.
async fn count(client: Client, path: String, stop: Arc<AtomicBool>) -> u64 {
    let mut value = 0;
    while !stop.load(Ordering::Relaxed) {
        value += 1;
        let data = value.to_string().into_bytes();
        client.set(&path, data, Some(value as i32 - 1)).await.unwrap();
        // Something that comes and goes in between.
        let child = format!("{path}/{value}");
        client.create(&Create { path: child.clone(), ..Create::default() }).await.unwrap();
        client.delete(&child, None).await.unwrap();
    }
    value
}

/// The state as the stream tells it.
#[derive(Default)]
struct Rebuilt {
    counters: BTreeMap<String, u64>,
    zxid: u64,
    snapshots: u64,
}

impl Rebuilt {
    fn take(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Snapshot(snapshot) => {
                self.snapshots += 1;
                self.zxid = snapshot.zxid;
                for znode in &snapshot.watches[0].znodes {
                    let data = znode.payload.0.clone().unwrap_or_default();
                    let value = String::from_utf8(data).unwrap().parse().unwrap_or(0);
                    self.counters.insert(znode.path.clone(), value);
                }
            }
            WatchEvent::Change(change) => self.change(&change),
            WatchEvent::Progress { zxid } => {
                assert!(zxid >= self.zxid, "progress goes back from {} to {zxid}", self.zxid);
            }
            WatchEvent::Reset(reset) => panic!("changes were skipped: {reset:?}"),
        }
    }

    fn change(&mut self, change: &Change) {
        assert!(change.zxid > self.zxid, "{} comes after {}", change.zxid, self.zxid);
        self.zxid = change.zxid;
        for change in &change.changes {
            match change.kind {
                ChangeKind::Created => assert!(
                    self.counters.insert(change.path.clone(), 0).is_none(),
                    "{} is created twice",
                    change.path
                ),
                ChangeKind::Deleted => assert!(
                    self.counters.remove(&change.path).is_some(),
                    "{} is deleted and was not there",
                    change.path
                ),
                ChangeKind::Changed => {
                    let data = change.payload.0.clone().unwrap();
                    let value = String::from_utf8(data).unwrap().parse().unwrap();
                    let before = self.counters.insert(change.path.clone(), value);
                    assert_eq!(before.map(|before| before + 1), Some(value), "{}", change.path);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_whose_node_is_killed_resumes_elsewhere_and_misses_nothing() {
    let mut cluster = Cluster::start(3).await;
    let setup = cluster.client_from(0);
    setup.create(&Create { path: "/w".into(), ..Create::default() }).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let path = format!("/w/{writer}");
        setup.create(&Create { path: path.clone(), ..Create::default() }).await.unwrap();
        // Their own connections and endpoints: they shall survive what the subscriber survives.
        let client = cluster.client_from(writer as usize % 3);
        writers.push(tokio::spawn(count(client, path, stop.clone())));
    }

    let subscriber = cluster.client_from(1);
    let filter = WatchFilter { kind: WatchKind::Subtree, path: "/w".into() };
    let mut watch = subscriber.watch(&[filter], None);
    let zxid = Arc::new(AtomicU64::new(0));
    let seen = zxid.clone();
    let last = Arc::new(AtomicU64::new(u64::MAX));
    let end = last.clone();
    let reading = tokio::spawn(async move {
        let mut rebuilt = Rebuilt::default();
        while rebuilt.zxid < end.load(Ordering::Relaxed) {
            let event = watch.next().await.unwrap();
            rebuilt.take(event);
            seen.store(rebuilt.zxid, Ordering::Relaxed);
        }
        rebuilt
    });

    for _ in 0..KILLS {
        let goal = zxid.load(Ordering::Relaxed) + 3 * WRITERS * CHANGES;
        eventually("more changes", async || {
            let is_there = zxid.load(Ordering::Relaxed) >= goal;
            (is_there || reading.is_finished()).then_some(())
        })
        .await;
        let endpoint = subscriber.endpoint();
        let place = cluster.nodes.iter().position(|node| node.url("") == endpoint).unwrap();
        cluster.nodes[place].kill9();
        eventually("a connection elsewhere", async || {
            (subscriber.endpoint() != endpoint || reading.is_finished()).then_some(())
        })
        .await;
        cluster.nodes[place].spawn();
        cluster.nodes[place].ready().await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut counters = BTreeMap::from([("/w".to_owned(), 0)]);
    for (index, writer) in writers.into_iter().enumerate() {
        counters.insert(format!("/w/{index}"), writer.await.unwrap());
    }
    // The last change of all, which ends the reading.
    let done = setup.set("/w", b"1".to_vec(), None).await.unwrap();
    counters.insert("/w".to_owned(), 1);
    last.store(done.zxid, Ordering::Relaxed);
    let rebuilt = reading.await.unwrap();
    assert_eq!(rebuilt.counters, counters);
    assert_eq!(rebuilt.snapshots, 1, "everything after the first snapshot came as changes");
    let found = setup.children("/w", true, false, ReadOptions::Linearizable).await.unwrap();
    assert_eq!(found.children.len() as u64, WRITERS);
}
