//! Clients that write without pause, and keep a ledger of what they are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use roost::client::model::{Create, Mode};
use roost::client::{Client, Error, ReadOptions};
use tokio::sync::RwLock;
use tokio::task::JoinHandle;

use crate::ledger::{Lease, Ledger};

/// What one call may take: longer than an election, shorter than a test's patience.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const SESSION_TIMEOUT_MS: u64 = 5_000;
const KEYS: u32 = 4;

/// What all workers share.
#[derive(Default)]
pub(crate) struct Load {
    /// How many requests were acknowledged.
    pub(crate) acked: AtomicU64,
    /// Held for reading by each request, so that a check can have the cluster to itself.
    pub(crate) gate: RwLock<()>,
    stop: AtomicBool,
}

impl Load {
    pub(crate) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Tells all workers to end after what they are doing.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One client with znodes of its own under `/crash/<name>`.
pub(crate) struct Worker {
    name: String,
    client: Client,
    random: StdRng,
    ledger: Arc<Mutex<Ledger>>,
    load: Arc<Load>,
    /// Grows with every name and value, so that none is used twice.
    counter: u64,
    session: Option<String>,
}

impl Worker {
    /// Creates the worker's znode and starts it.
    pub(crate) async fn start(
        name: String,
        client: Client,
        seed: u64,
        load: Arc<Load>,
    ) -> (Arc<Mutex<Ledger>>, JoinHandle<()>) {
        let path = format!("/crash/{name}");
        client.create(&Create { path, parents: true, ..Create::default() }).await.unwrap();
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let random = StdRng::seed_from_u64(seed);
        let client = client.with_timeout(CALL_TIMEOUT);
        let mut worker = Worker {
            name,
            client,
            random,
            ledger: ledger.clone(),
            load,
            counter: 0,
            session: None,
        };
        let task = tokio::spawn(async move {
            let load = worker.load.clone();
            while !load.stop.load(Ordering::Relaxed) {
                let _pass = load.gate.read().await;
                worker.step().await;
            }
        });
        (ledger, task)
    }

    async fn step(&mut self) {
        self.counter += 1;
        match self.random.random_range(0..10) {
            0..=3 => self.set().await,
            4 => self.create().await,
            5 => self.delete().await,
            6 | 7 => self.append().await,
            8 => self.bind().await,
            _ => self.renew_or_close().await,
        }
    }

    /// Notes that the request was acknowledged, or that it is not known what became of it.
    fn note<T>(&self, outcome: Result<T, Error>) -> Option<T> {
        match outcome {
            Ok(answer) => {
                self.load.acked.fetch_add(1, Ordering::Relaxed);
                Some(answer)
            }
            Err(error) => {
                let mut ledger = self.ledger.lock();
                ledger.unknown += 1;
                // No request of a worker can be refused for what it asks.
                if error.status().is_some_and(|status| status < 500 && status != 429) {
                    ledger.wrong.push(format!("{}: {error}", self.name));
                }
                None
            }
        }
    }

    /// Reads a chain's end, which an earlier request may have moved, and adds to it.
    async fn set(&mut self) {
        let name = format!("k{}", self.random.random_range(0..KEYS));
        let path = format!("/crash/{}/{name}", self.name);
        let value = self.counter;
        let version = match self.client.get(&path, ReadOptions::Linearizable).await {
            Ok(znode) => {
                let data = String::from_utf8(znode.payload.0.unwrap_or_default()).unwrap();
                self.learn(&name, znode.stat.version, data.parse().unwrap_or(u64::MAX));
                znode.stat.version
            }
            Err(error) if error.is("no_node") => -1,
            Err(_) => return,
        };
        let uncertain = {
            let mut ledger = self.ledger.lock();
            let chain = ledger.chains.entry(name.clone()).or_default();
            chain.attempt(version, value);
            chain.is_uncertain()
        };
        let data = value.to_string().into_bytes();
        let outcome = if version == -1 {
            let created = self.client.create(&Create { path, data, ..Create::default() }).await;
            created.map(|created| created.stat)
        } else {
            self.client.set(&path, data, Some(version)).await.map(|changed| changed.stat)
        };
        // An earlier request whose answer was lost may have come in between.
        let overtaken = |error: &Error| error.is("bad_version") || error.is("node_exists");
        if uncertain && outcome.as_ref().is_err_and(overtaken) {
            return;
        }
        if let Some(stat) = self.note(outcome) {
            self.learn(&name, stat.version, value);
        }
    }

    fn learn(&self, name: &str, version: i32, value: u64) {
        let mut ledger = self.ledger.lock();
        if let Err(why) = ledger.chains.entry(name.to_owned()).or_default().learn(version, value) {
            ledger.wrong.push(format!("{}/{name}: {why}", self.name));
        }
    }

    async fn create(&mut self) {
        let name = format!("c{}", self.counter);
        let path = format!("/crash/{}/{name}", self.name);
        let outcome = self.client.create(&Create { path, ..Create::default() }).await;
        if self.note(outcome).is_some() {
            self.ledger.lock().created.insert(name);
        }
    }

    async fn delete(&mut self) {
        // Taken out first: what became of a delete without an answer is not known.
        let Some(name) = self.ledger.lock().created.pop_first() else { return };
        let outcome = self.client.delete(&format!("/crash/{}/{name}", self.name), None).await;
        if self.note(outcome).is_some() {
            self.ledger.lock().deleted.insert(name);
        }
    }

    async fn append(&mut self) {
        let create = Create { path: "/crash/seq/n-".into(), sequential: true, ..Create::default() };
        let outcome = self.client.create(&create).await;
        if let Some(created) = self.note(outcome) {
            self.ledger.lock().sequential.push(created.path);
        }
    }

    /// Binds an ephemeral to the worker's session, opening one when there is none.
    async fn bind(&mut self) {
        let Some(session) = self.session.clone() else {
            let outcome = self.client.open_session(SESSION_TIMEOUT_MS).await;
            if let Some(opened) = self.note(outcome) {
                let lease =
                    Lease { token: opened.token, ephemerals: Default::default(), has_ended: false };
                self.ledger.lock().leases.insert(opened.session.clone(), lease);
                self.session = Some(opened.session);
            }
            return;
        };
        let name = format!("{}-{}", self.name, self.counter);
        let path = format!("/crash/eph/{name}");
        let token = self.ledger.lock().leases[&session].token.clone();
        let create = Create { path, mode: Mode::Ephemeral, ..Create::default() };
        let outcome = self.client.with_session(&token).create(&create).await;
        if self.has_expired(&session, &outcome) {
            return;
        }
        if self.note(outcome).is_some() {
            self.lease(&session, |lease| lease.ephemerals.extend([name]));
        }
    }

    async fn renew_or_close(&mut self) {
        let Some(session) = self.session.clone() else { return };
        let token = self.ledger.lock().leases[&session].token.clone();
        if self.random.random_range(0..4) > 0 {
            let outcome = self.client.renew_session(&token).await;
            if !self.has_expired(&session, &outcome) {
                self.note(outcome);
            }
            return;
        }
        self.session = None;
        let outcome = self.client.close_session(&token).await;
        if !self.has_expired(&session, &outcome) && self.note(outcome).is_some() {
            self.lease(&session, |lease| lease.has_ended = true);
        }
    }

    fn has_expired<T>(&mut self, session: &str, outcome: &Result<T, Error>) -> bool {
        let has_expired = outcome.as_ref().err().is_some_and(|error| error.is("session_expired"));
        if has_expired {
            self.lease(session, |lease| lease.has_ended = true);
            self.session = None;
        }
        has_expired
    }

    fn lease(&self, session: &str, change: impl FnOnce(&mut Lease)) {
        change(self.ledger.lock().leases.get_mut(session).expect("a session of this worker"));
    }
}
