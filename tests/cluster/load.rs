//! Random writers: creates, sets, deletes, multis, and sessions that come and go with their ephemerals.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use roost::node::{Node, Request};
use roost::types::{Error, NodeId, Op, Reply, SessionId};

use crate::harness::{Cluster, until};
use crate::ops::{Pipeline, by, create, create_ephemeral, delete, done, request, set};

/// Directories below `/w`, and the names in each that are used over and over.
pub(crate) const DIRECTORIES: u32 = 6;
const NAMES: u32 = 10;
/// Writes that a writer has on their way.
const WINDOW: usize = 128;
/// Sessions that a writer holds.
const SESSIONS: usize = 6;

/// What the writers share.
#[derive(Default)]
pub(crate) struct Load {
    /// Changes of znodes that were acknowledged.
    pub(crate) events: AtomicU64,
    /// Tells the writers to end.
    pub(crate) enough: AtomicBool,
}

impl Load {
    /// Waits until so many changes have been acknowledged, from the start.
    pub(crate) async fn reach(&self, events: u64) {
        let reached = || (self.events.load(Ordering::Relaxed) >= events).then_some(());
        until("enough is written", reached).await;
    }
}

/// Makes the directories in which the writers write.
pub(crate) async fn prepare(node: &Node) {
    done(node, request(create("/w", b""))).await;
    for directory in 0..DIRECTORIES {
        done(node, request(create(&format!("/w/{directory}"), b""))).await;
    }
}

/// Starts a writer through each of these nodes; one whose node is down waits for it.
pub(crate) fn start(
    cluster: &Arc<Cluster>,
    ids: impl IntoIterator<Item = NodeId>,
    seed: u64,
) -> (Arc<Load>, Vec<tokio::task::JoinHandle<()>>) {
    let load = Arc::new(Load::default());
    let writer = |id| {
        let writer = Writer {
            random: StdRng::seed_from_u64(seed << 8 | id),
            name: format!("n{id}"),
            made: 0,
            sessions: VecDeque::new(),
        };
        tokio::spawn(writer.run(cluster.clone(), id, load.clone()))
    };
    let writers = ids.into_iter().map(writer).collect();
    (load, writers)
}

struct Writer {
    random: StdRng,
    name: String,
    made: u64,
    sessions: VecDeque<SessionId>,
}

impl Writer {
    async fn run(mut self, cluster: Arc<Cluster>, id: NodeId, load: Arc<Load>) {
        while !load.enough.load(Ordering::Relaxed) {
            let ready = || cluster.running(id);
            let mut pipeline = Pipeline::new(until("the writer's node runs", ready).await);
            let mut alive = true;
            loop {
                alive &= !load.enough.load(Ordering::Relaxed);
                while alive && pipeline.len() < WINDOW {
                    let next = self.next();
                    alive = pipeline.submit((), next).is_ok();
                }
                match pipeline.next().await {
                    Some(((), Ok(answer))) => {
                        if let Ok(reply) = &answer.result {
                            load.events.fetch_add(self.hear(reply), Ordering::Relaxed);
                        }
                    }
                    Some(((), Err(Error::OutcomeUnknown))) => alive = false,
                    Some(((), Err(err))) => panic!("node {id}: {err}"),
                    None => break,
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Notes a session that was opened, and returns how many znodes changed.
    fn hear(&mut self, reply: &Reply) -> u64 {
        match reply {
            Reply::Created { .. } | Reply::Deleted | Reply::DataSet { .. } => 1,
            Reply::Multi(replies) => replies.iter().map(|reply| self.hear(reply)).sum(),
            Reply::Removed { znodes } => u64::from(*znodes),
            Reply::Session { session, .. } => {
                self.sessions.push_back(*session);
                0
            }
            _ => 0,
        }
    }

    fn directory(&mut self) -> String {
        format!("/w/{}", self.random.random_range(0..DIRECTORIES))
    }

    fn path(&mut self) -> String {
        let directory = self.directory();
        format!("{directory}/{}", self.random.random_range(0..NAMES))
    }

    fn next(&mut self) -> Request {
        let path = self.path();
        let data = self.random.random::<u32>().to_string();
        match self.random.random_range(0..100) {
            0..45 => request(set(&path, data.as_bytes(), None)),
            45..65 => request(create(&path, data.as_bytes())),
            65..77 => request(delete(&path)),
            77..90 => request(self.multi(&data)),
            90..93 if self.sessions.len() < SESSIONS => {
                request(Op::OpenSession { timeout_ms: 3_600_000, password: [7; 16], owner: None })
            }
            90..98 => {
                self.made += 1;
                let path = format!("{}/e-{}-{}", self.directory(), self.name, self.made);
                match self.sessions.back() {
                    Some(session) => by(*session, create_ephemeral(&path)),
                    None => request(set(&path, b"", None)),
                }
            }
            _ => match self.sessions.pop_front() {
                Some(session) => request(Op::CloseSession { session, unless_moved_from: None }),
                None => request(set(&path, data.as_bytes(), None)),
            },
        }
    }

    /// Several changes at once, one of which undoes another.
    fn multi(&mut self, data: &str) -> Op {
        self.made += 1;
        let directory = self.directory();
        let fresh = format!("{directory}/m-{}-{}", self.name, self.made);
        Op::Multi(vec![
            set(&directory, data.as_bytes(), None),
            create(&fresh, data.as_bytes()),
            set(&fresh, b"again", Some(0)),
            delete(&fresh),
        ])
    }
}

/// Ends the writers.
pub(crate) async fn finish(load: &Load, writers: Vec<tokio::task::JoinHandle<()>>) {
    load.enough.store(true, Ordering::Relaxed);
    for writer in writers {
        crate::harness::in_time("a writer ends", writer).await.unwrap();
    }
}
