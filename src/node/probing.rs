//! Before the leader believes the silence of a provider it asks the provider itself, where a policy says so: whoever answers
//! is held, whose host says that nothing listens there ends at once, and anything else is as if nobody had been asked. A
//! probe never makes or renews anything.
//!
//! A session that is being asked about is held in the queue meanwhile, so that it counts if it is heard of. What was found
//! makes it due, and the next tick proposes its end with that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Node;
use crate::identity::Network;
use crate::limits::{
    EPHEMERALS_SEEN_MAX, PROBED_ADDRESSES_MAX, PROBED_SESSIONS_MAX, SESSIONS_PROBED_AT_ONCE_MAX,
};
use crate::policy::{Kind, Manner, Mode, Probing as Policy, Terms};
use crate::probe::{Found, Probe, Prober};
use crate::traffic::Claim;
use crate::tree::Tree;
use crate::types::{SessionId, Silence};

/// How long a session is held for what its probe finds, ms; then it is seen whether that goes on.
const PATIENCE_MS: u64 = 60_000;
/// Time between two probes of a session whose end is put off, ms.
const AGAIN_MS: u64 = 5_000;

/// One address of a provider and how to ask it.
pub(super) type Target = (SocketAddr, Probe, Duration);

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
    /// Ends with the leadership in which the probes began that are under way: what they find counts no more then.
    generation: CancellationToken,
    /// Whom the leader is asking about.
    asking: BTreeSet<SessionId>,
    /// When it was last asked about each session whose end is put off.
    asked_ms: BTreeMap<SessionId, u64>,
    /// What was found of those that are due for it.
    found: BTreeMap<SessionId, Silence>,
}

impl Node {
    /// Returns whether this node may probe some of the addresses in these networks.
    pub fn may_probe(&self, networks: &[Network]) -> bool {
        let prober = self.inner.prober.as_ref();
        prober.is_some_and(|prober| networks.iter().any(|network| prober.allows_some(*network)))
    }
}

impl Probing {
    pub(super) fn new(prober: Option<Arc<dyn Prober>>) -> Probing {
        let permits = Arc::new(Semaphore::new(SESSIONS_PROBED_AT_ONCE_MAX));
        Probing { prober, shared: Arc::default(), permits }
    }

    /// Forgets everything, and ends the probes that are under way: what is found under another leadership means nothing.
    pub(super) fn clear(&self) {
        let mut shared = self.shared.lock();
        shared.generation.cancel();
        *shared = State::default();
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
        let generation = {
            let mut shared = self.shared.lock();
            shared.asking.insert(session);
            shared.generation.clone()
        };
        if held.is_none() {
            // Before anything can be found.
            node.inner.stage.expiry.lock().hold(session, now_ms + PATIENCE_MS);
        }
        let (node, shared, permits) = (node.clone(), self.shared.clone(), self.permits.clone());
        let (stop, tasks) = (node.inner.stop.clone(), node.inner.tasks.clone());
        let ended = generation.clone();
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
            if generation.is_cancelled() {
                // This began before the present leadership, which asks for itself.
                return;
            }
            shared.asking.remove(&session);
            if is_news && node.inner.stage.expiry.lock().release(session, now_ms) {
                if shared.found.len() >= PROBED_SESSIONS_MAX {
                    // Of those that were heard of in between. Any other is asked again.
                    shared.found.clear();
                }
                shared.found.insert(session, why);
            }
        };
        tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = ended.cancelled() => {}
                () = asking => {}
            }
        });
        true
    }
}

/// Asks all of these at once. `None`: nothing was learnt, for the prober itself has failed.
pub(super) async fn ask_all(prober: &dyn Prober, targets: Vec<Target>) -> Option<Vec<Found>> {
    let asking = async {
        let one = |(at, probe, within)| prober.probe(at, probe, within);
        join_all(targets.into_iter().map(one)).await
    };
    // Whoever waits for what is found must not wait for ever because a prober panics.
    let found = AssertUnwindSafe(asking).catch_unwind().await.ok();
    if found.is_none() {
        tracing::error!("a probe has panicked");
    }
    found
}

async fn find(prober: &dyn Prober, targets: Targets) -> Silence {
    let Targets { all, is_complete } = targets;
    let Some(found) = ask_all(prober, all).await else { return Silence::Silent };
    if found.contains(&Found::Answers) {
        Silence::Answers
    } else if is_complete && found.iter().all(|found| *found == Found::Refuses) {
        Silence::Refused
    } else {
        Silence::Silent
    }
}

/// Returns the addresses of a session's providers that may be asked.
fn targets(tree: &Tree, session: SessionId, prober: &dyn Prober) -> Targets {
    let mut targets = Targets { all: Vec::new(), is_complete: true };
    for (at, path) in tree.ephemerals(session).enumerate() {
        if at >= EPHEMERALS_SEEN_MAX {
            targets.is_complete = false;
            break;
        }
        let Some(znode) = tree.get(path.as_str()) else { continue };
        let Some(claimed) = tree.layouts().claim(path.as_str(), znode.data().map(|data| &data[..]))
        else {
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
        targets.is_complete &= add_addresses(&mut targets.all, &claimed, probing, prober);
    }
    targets
}

/// Adds the addresses of an instance that may be asked, as far as there is room for them. Returns whether that is all of them.
/// A host name is none: whoever controls it could make this node connect to wherever it likes.
pub(super) fn add_addresses(
    targets: &mut Vec<Target>,
    claimed: &Claim,
    policy: &Policy,
    prober: &dyn Prober,
) -> bool {
    let mut is_all = true;
    for (host, port) in &claimed.addresses {
        let ip = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        let ip = ip.filter(|ip| policy.allows(*ip) && prober.allows(*ip));
        match (ip, port) {
            (Some(ip), Some(port)) if targets.len() < PROBED_ADDRESSES_MAX => {
                let at = SocketAddr::new(ip, *port);
                let probe = match &policy.manner {
                    Manner::Tcp => Probe::Tcp { addr: at.to_string() },
                    Manner::Http(path) => Probe::Http { url: format!("http://{at}{path}") },
                    Manner::Grpc(service) => {
                        Probe::Grpc { addr: at.to_string(), service: service.clone() }
                    }
                };
                targets.push((at, probe, Duration::from_millis(policy.timeout_ms)));
            }
            _ => is_all = false,
        }
    }
    is_all
}

#[cfg(test)]
mod tests {
    use futures::future::BoxFuture;
    use tokio::sync::mpsc::{self, UnboundedReceiver};
    use tokio::time::timeout;

    use super::*;
    use crate::node::Request;
    use crate::types::{CreateMode, Data, Op, Reply, ZnodePath};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Answers never, or panics; says that it was asked, and when nobody waits for it any more.
    struct Odd {
        panics: bool,
        told: mpsc::UnboundedSender<&'static str>,
    }

    struct Waited(mpsc::UnboundedSender<&'static str>);

    impl Drop for Waited {
        fn drop(&mut self) {
            // Whoever listens no more has seen enough.
            let _ = self.0.send("given up");
        }
    }

    impl Prober for Odd {
        fn allows(&self, _: IpAddr) -> bool {
            true
        }

        fn probe(&self, _: SocketAddr, _: Probe, _: Duration) -> BoxFuture<'static, Found> {
            let _ = self.told.send("asked");
            assert!(!self.panics, "as it is meant to");
            let waited = Waited(self.told.clone());
            async move {
                let _waited = waited;
                std::future::pending().await
            }
            .boxed()
        }
    }

    async fn done(node: &Node, session: SessionId, op: Op) -> Reply {
        let authority = Vec::new();
        let request = Request { session, owner: None, authority, idempotency_key: None, op };
        node.submit(request).await.unwrap().result.unwrap()
    }

    /// Returns a node with a provider that may be asked, and its session.
    async fn with_provider() -> (Node, SessionId) {
        let node = Node::in_memory().await;
        let open = Op::OpenSession { timeout_ms: 60_000, password: [0; 16], owner: None };
        let Reply::Session { session, .. } = done(&node, SessionId::NONE, open).await else {
            panic!("it opens")
        };
        let policy =
            r#"{"set_by":"a","reason":"b","pattern":"/s","probe":"tcp","networks":["10.0.0.0/8"]}"#;
        for (at, data, mode) in [
            ("/roost", "", CreateMode::Persistent),
            ("/roost/policies", "", CreateMode::Persistent),
            ("/roost/policies/probe", "", CreateMode::Persistent),
            ("/roost/policies/probe/s", policy, CreateMode::Persistent),
            ("/s", "", CreateMode::Persistent),
            ("/s/10.0.0.1:80", "", CreateMode::Ephemeral),
        ] {
            let at = ZnodePath::parse(at).unwrap();
            let (parent, name) = (at.parent().unwrap(), at.name().to_owned());
            let data = Some(Data::new(data.as_bytes()));
            let op = Op::Create { parent, name, data, acl: Vec::new(), mode };
            done(&node, session, op).await;
        }
        (node, session)
    }

    async fn hear(told: &mut UnboundedReceiver<&'static str>) -> &'static str {
        timeout(PATIENCE, told.recv()).await.expect("it says so in time").unwrap()
    }

    /// Returns a node with a provider who is being asked, and what tells of that.
    async fn asked(panics: bool) -> (Node, SessionId, Probing, UnboundedReceiver<&'static str>) {
        let (node, session) = with_provider().await;
        let (told, mut heard) = mpsc::unbounded_channel();
        let probing = Probing::new(Some(Arc::new(Odd { panics, told })));
        assert!(probing.begin(&node, &node.local(), session, 0));
        assert_eq!(hear(&mut heard).await, "asked");
        (node, session, probing, heard)
    }

    #[tokio::test]
    async fn a_prober_that_panics_has_learnt_nothing_and_the_session_is_asked_about_no_more() {
        let (_node, session, probing, _) = asked(true).await;
        let ended = async {
            while probing.is_asking(session) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, ended).await.expect("it ends");
        assert_eq!(probing.take(session, true), Some(Silence::Silent));
    }

    #[tokio::test]
    async fn the_probes_of_another_leadership_end_with_it_and_find_nothing_for_this_one() {
        let (node, session, probing, mut heard) = asked(false).await;
        probing.clear();
        assert!(!probing.is_asking(session));
        assert_eq!(hear(&mut heard).await, "given up");
        // The next one asks anew, and nothing of before takes that away.
        assert!(probing.begin(&node, &node.local(), session, 0));
        assert_eq!(hear(&mut heard).await, "asked");
        assert!(probing.is_asking(session));
        assert_eq!(probing.take(session, true), None);
    }
}
