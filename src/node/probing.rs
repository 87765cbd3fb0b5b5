//! Before the leader believes the silence of a provider it asks the provider itself, where a policy says so: whoever answers
//! is held, whose host says that nothing listens there ends at once, and anything else is as if nobody had been asked. A
//! probe never makes or renews anything.
//!
//! A session that is being asked about is held in the queue meanwhile, so that it counts if it is heard of. What was found
//! makes it due, and the next tick proposes its end with that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::Node;
use crate::limits::{
    EPHEMERALS_SEEN_MAX, PROBED_ADDRESSES_MAX, PROBED_SESSIONS_MAX, SESSIONS_PROBED_AT_ONCE_MAX,
};
use crate::policy::{Kind, Manner, Mode, Terms};
use crate::probe::{Found, Probe, Prober};
use crate::traffic::claim;
use crate::tree::Tree;
use crate::types::{SessionId, Silence};

/// How long a session is held for what its probe finds, ms; then it is seen whether that goes on.
const PATIENCE_MS: u64 = 60_000;
/// Time between two probes of a session whose end is put off, ms.
const AGAIN_MS: u64 = 5_000;

/// One address of a provider and how to ask it.
type Target = (SocketAddr, Probe, Duration);

/// Whom a session's probe asks.
struct Targets {
    all: Vec<Target>,
    /// Whether that is everything which the session has registered: only then do refusals mean that all of it is gone.
    is_complete: bool,
}

/// The probes that the leader makes.
pub(super) struct Probing {
    prober: Option<Arc<dyn Prober>>,
    shared: Arc<Mutex<State>>,
    permits: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    /// Whom the leader is asking about.
    asking: BTreeSet<SessionId>,
    /// When it was last asked about each session whose end is put off.
    asked_ms: BTreeMap<SessionId, u64>,
    /// What was found of those that are due for it.
    found: BTreeMap<SessionId, Silence>,
}

impl Probing {
    pub(super) fn new(prober: Option<Arc<dyn Prober>>) -> Probing {
        let permits = Arc::new(Semaphore::new(SESSIONS_PROBED_AT_ONCE_MAX));
        Probing { prober, shared: Arc::default(), permits }
    }

    /// Forgets everything: what was found under another leadership means nothing any more.
    pub(super) fn clear(&self) {
        *self.shared.lock() = State::default();
    }

    /// Takes what was found of a session that is due. It counts only if the session `is_held` still: one that was heard of
    /// since is another matter.
    pub(super) fn take(&self, session: SessionId, is_held: bool) -> Option<Silence> {
        self.shared.lock().found.remove(&session).filter(|_| is_held)
    }

    /// Returns whether the leader is asking about a session.
    pub(super) fn is_asking(&self, session: SessionId) -> bool {
        self.shared.lock().asking.contains(&session)
    }

    /// Returns whether there is anybody to ask about a session. Cost: O(its ephemerals).
    pub(super) fn may_ask(&self, tree: &Tree, session: SessionId) -> bool {
        let may_ask = |prober: &Arc<dyn Prober>| {
            !tree.policies().has_none(Kind::Probe)
                && !targets(tree, session, prober.as_ref()).all.is_empty()
        };
        self.prober.as_ref().is_some_and(may_ask)
    }

    /// Begins to ask about a session that is due, and holds it meanwhile. Returns whether there is anybody to ask.
    pub(super) fn begin(&self, node: &Node, tree: &Tree, session: SessionId, now_ms: u64) -> bool {
        if self.is_asking(session) {
            return node.inner.stage.expiry.lock().hold(session, now_ms + AGAIN_MS);
        }
        self.ask(node, tree, session, None, now_ms)
    }

    /// Asks again about a session whose end is put off, now and then; `answers` says whether that is because it answered.
    pub(super) fn again(
        &self,
        node: &Node,
        tree: &Tree,
        session: SessionId,
        answers: bool,
        now_ms: u64,
    ) {
        if self.prober.is_none() || tree.policies().has_none(Kind::Probe) {
            return;
        }
        let is_recent = |asked_ms: u64| asked_ms + AGAIN_MS > now_ms;
        {
            let mut shared = self.shared.lock();
            if shared.asked_ms.get(&session).is_some_and(|asked_ms| is_recent(*asked_ms)) {
                return;
            }
            if shared.asked_ms.len() >= PROBED_SESSIONS_MAX {
                shared.asked_ms.retain(|_, asked_ms| is_recent(*asked_ms));
            }
            if shared.asked_ms.len() >= PROBED_SESSIONS_MAX || shared.asking.contains(&session) {
                return;
            }
            shared.asked_ms.insert(session, now_ms);
        }
        self.ask(node, tree, session, Some(answers), now_ms);
    }

    /// Starts a probe. `held` says of a session whose end is put off whether that is because it answered. Returns whether
    /// there is anybody to ask.
    fn ask(
        &self,
        node: &Node,
        tree: &Tree,
        session: SessionId,
        held: Option<bool>,
        now_ms: u64,
    ) -> bool {
        let Some(prober) = self.prober.clone() else { return false };
        if tree.policies().has_none(Kind::Probe) {
            return false;
        }
        let targets = targets(tree, session, prober.as_ref());
        if targets.all.is_empty() || self.shared.lock().asking.len() >= PROBED_SESSIONS_MAX {
            return false;
        }
        self.shared.lock().asking.insert(session);
        if held.is_none() {
            // Before anything can be found.
            node.inner.stage.expiry.lock().hold(session, now_ms + PATIENCE_MS);
        }
        let (node, shared, permits) = (node.clone(), self.shared.clone(), self.permits.clone());
        let (stop, tasks) = (node.inner.stop.clone(), node.inner.tasks.clone());
        let asking = async move {
            let Ok(_permit) = permits.acquire_owned().await else { return };
            let why = find(prober.as_ref(), targets).await;
            // Of one that is held only what is new is of interest.
            let is_news = match held {
                None => true,
                Some(answers) => why == Silence::Refused || (answers && why == Silence::Silent),
            };
            let now_ms = node.inner.stage.clock.now_ms();
            let mut shared = shared.lock();
            shared.asking.remove(&session);
            if is_news && node.inner.stage.expiry.lock().release(session, now_ms) {
                if shared.found.len() >= PROBED_SESSIONS_MAX {
                    // Of those that were heard of in between. Any other is asked again.
                    shared.found.clear();
                }
                shared.found.insert(session, why);
            }
        };
        tasks.spawn(async move { stop.run_until_cancelled(asking).await });
        true
    }
}

async fn find(prober: &dyn Prober, targets: Targets) -> Silence {
    let Targets { all, is_complete } = targets;
    let found =
        join_all(all.into_iter().map(|(at, probe, within)| prober.probe(at, probe, within)));
    let found = found.await;
    if found.contains(&Found::Answers) {
        Silence::Answers
    } else if is_complete && found.iter().all(|found| *found == Found::Refuses) {
        Silence::Refused
    } else {
        Silence::Silent
    }
}

/// Returns the addresses of a session's providers that may be asked. A host name is none: whoever controls it could make
/// this node connect to wherever it likes.
fn targets(tree: &Tree, session: SessionId, prober: &dyn Prober) -> Targets {
    let mut targets = Targets { all: Vec::new(), is_complete: true };
    for (at, path) in tree.ephemerals(session).enumerate() {
        if at >= EPHEMERALS_SEEN_MAX {
            targets.is_complete = false;
            break;
        }
        let Some(znode) = tree.get(path.as_str()) else { continue };
        let Some(claimed) = claim(path.name(), znode.data().map(|data| &data[..])) else {
            continue;
        };
        let service = path.parent_str().unwrap_or("/");
        let prevailing = tree.policies().prevailing(Kind::Probe, service);
        let probing = match prevailing.map(|(_, policy)| (policy.mode, &policy.terms)) {
            Some((Mode::Enforce, Terms::Probe(probing))) => probing,
            _ => {
                targets.is_complete = false;
                continue;
            }
        };
        for (host, port) in &claimed.addresses {
            let ip = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
            let ip = ip.filter(|ip| probing.allows(*ip) && prober.allows(*ip));
            match (ip, port) {
                (Some(ip), Some(port)) if targets.all.len() < PROBED_ADDRESSES_MAX => {
                    let at = SocketAddr::new(ip, *port);
                    let probe = match &probing.manner {
                        Manner::Tcp => Probe::Tcp { addr: at.to_string() },
                        Manner::Http(path) => Probe::Http { url: format!("http://{at}{path}") },
                        Manner::Grpc(service) => {
                            Probe::Grpc { addr: at.to_string(), service: service.clone() }
                        }
                    };
                    targets.all.push((at, probe, Duration::from_millis(probing.timeout_ms)));
                }
                _ => targets.is_complete = false,
            }
        }
    }
    targets
}
