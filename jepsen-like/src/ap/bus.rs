//! Messages between nodes: pushed at once and at most once, fetched on a timer. Nothing here waits for another node.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::replica::{Pulled, Push};
use super::serve::Node;

/// Pushes that wait for one peer. Beyond it they are dropped: the next pull makes it good.
const PUSHES_MAX: usize = 1_024;
/// Pushes in one request.
const BATCH_MAX: usize = 256;
const PULL_EVERY: Duration = Duration::from_secs(1);
/// How often the sessions heard here are told to the others: several times per shortest timeout.
const HEARD_EVERY: Duration = Duration::from_millis(250);
const EXPIRE_EVERY: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_millis(1_000);

/// The ways to the other nodes.
#[derive(Debug, Default)]
pub(super) struct Bus {
    peers: Vec<mpsc::Sender<Push>>,
}

impl Bus {
    /// Tells all other nodes, as far as they listen.
    pub(super) fn push(&self, push: &Push) {
        for peer in &self.peers {
            // A full queue belongs to a peer that is away.
            let _ = peer.try_send(push.clone());
        }
    }
}

/// The ends of the queues that [`start`] serves, with the peers' addresses.
pub(super) type Ends = Vec<(String, mpsc::Receiver<Push>)>;

/// Returns a bus to these addresses and what has to be given to [`start`].
pub(super) fn bus(peers: &[String]) -> (Bus, Ends) {
    let (senders, ends) = peers
        .iter()
        .map(|peer| {
            let (sender, receiver) = mpsc::channel(PUSHES_MAX);
            (sender, (peer.clone(), receiver))
        })
        .unzip();
    (Bus { peers: senders }, ends)
}

/// Starts what sends, fetches and expires. Ends with the process.
pub(super) fn start(node: &Arc<Node>, ends: Ends) -> Result<(), String> {
    let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build();
    let http = http.map_err(|err| format!("cannot make an HTTP client: {err}"))?;
    for (peer, pushes) in ends {
        tokio::spawn(send(http.clone(), format!("http://{peer}/ap/push"), pushes));
        tokio::spawn(fetch(Arc::clone(node), http.clone(), format!("http://{peer}")));
    }
    tokio::spawn(tell_heard(Arc::clone(node)));
    tokio::spawn(expire(Arc::clone(node)));
    Ok(())
}

async fn send(http: reqwest::Client, url: String, mut pushes: mpsc::Receiver<Push>) {
    let mut batch = Vec::new();
    while pushes.recv_many(&mut batch, BATCH_MAX).await > 0 {
        // What does not arrive is lost, as on any bus without memory.
        let _ = http.post(&url).json(&batch).send().await;
        batch.clear();
    }
}

async fn fetch(node: Arc<Node>, http: reqwest::Client, peer: String) {
    let mut ticks = interval(PULL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let pull = node.with(|replica, _| replica.pull());
        let answer = http.post(format!("{peer}/ap/pull")).json(&pull).send().await;
        let Ok(answer) = answer else { continue };
        let Ok(pulled) = answer.json::<Pulled>().await else { continue };
        let missing = node.with(|replica, now| replica.take(pulled, now));
        if !missing.is_empty() {
            let _ = http.post(format!("{peer}/ap/push")).json(&missing).send().await;
        }
    }
}

async fn tell_heard(node: Arc<Node>) {
    let mut ticks = interval(HEARD_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let heard = node.with(|replica, _| replica.leases.take_direct());
        if !heard.is_empty() {
            node.bus.push(&Push::Heard(heard));
        }
    }
}

async fn expire(node: Arc<Node>) {
    let mut ticks = interval(EXPIRE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        node.with(|replica, now| replica.expire(now));
    }
}
