//! Leaving in good order: an instance is announced as draining, everybody who follows it is told, and it goes at a deadline.
//!
//! One transaction notes the drain ([`Drain`](crate::traffic::Drain)) and shows it, as an override would: so whoever looks after
//! it sees an instance without weight, through every door. Each node remembers whom it had to tell, and is asked how far that
//! has come ([`Node::drain_progress`]): a stream has been told when it has taken the change, a ZooKeeper connection when it has taken
//! its notices. When the note's TTL is over, the leader takes out the registration together with it, whoever leads then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use serde::{Deserialize, Serialize};

use super::lines::Lines;
use super::{Consistency, Node, Request, effects};
use crate::codec;
use crate::identity::permits;
use crate::limits::{DRAINS_MAX, PEER_PAYLOAD_BYTES_MAX};
use crate::peer::Kind;
use crate::registry::is_health_note;
use crate::traffic::{DRAINS, Drain};
use crate::tree::{Lifetime, Tree, Znode};
use crate::types::{
    AclId, Code, CreateMode, Data, Error, Event, EventKind, NodeId, Op, Perms, SessionId,
    ZnodePath, Zxid,
};
use crate::watch::{Hub, SubscriberId, WatcherId};

/// How often a drain is planned anew when others change the same znodes at the same time.
const ATTEMPTS_MAX: usize = 6;
/// How long a peer may take to say how far it is.
const ASK_PATIENCE: Duration = Duration::from_secs(1);

/// Which registration leaves, for whom, and until when.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// The registration.
    pub path: ZnodePath,
    /// On whose behalf; its own session may always.
    pub session: SessionId,
    /// Whom the client has proved to be.
    pub authority: Vec<AclId>,
    /// When it is removed at the latest, ms from now by the cluster's clock.
    pub deadline_ms: u64,
    /// Who says so, for people.
    pub set_by: String,
    /// Why, for people.
    pub reason: String,
}

/// A drain under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draining {
    /// The registration.
    pub path: ZnodePath,
    /// The incarnation that leaves: the zxid at which it was created.
    pub czxid: Zxid,
    /// The transaction that announced it.
    pub zxid: Zxid,
}

/// How far the news of a drain has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Subscribers and connections that have been told.
    pub notified: u64,
    /// Those that are still connected and have not.
    pub lagging: u64,
    /// Nodes that cannot say: they do not answer, are behind, or took over a snapshot since.
    pub unknown: Vec<NodeId>,
}

/// Whom this node had to tell of one drain and has not told yet.
struct Waiting {
    zxid: Zxid,
    told: u64,
    streams: BTreeSet<SubscriberId>,
    lines: BTreeSet<WatcherId>,
}

/// Whom this node had to tell of which drains. Behind the lock under which apply tells them.
#[derive(Default)]
pub(super) struct Drains {
    waiting: BTreeMap<(ZnodePath, Zxid), Waiting>,
    /// The oldest first.
    order: VecDeque<(ZnodePath, Zxid)>,
}

impl Drains {
    /// Notes who has to be told of a transaction that announces drains: it has been left to lines, and is not published to
    /// subscribers yet. One that announces none costs O(events).
    pub(super) fn note(&mut self, zxid: Zxid, events: &[Event], hub: &Hub, lines: &Lines) {
        for event in events.iter().filter(|event| event.kind == EventKind::Deleted) {
            // It is over, or nothing of it: what is announced of the same instance later is another drain.
            let Some(path) = Drain::target_of(&event.path) else { continue };
            let is_renewed = |it: &Event| it.kind == EventKind::Created && it.path == event.path;
            if events.iter().any(is_renewed) {
                continue;
            }
            self.waiting.retain(|(of, _), _| *of != path);
            self.order.retain(|(of, _)| *of != path);
        }
        for event in events.iter().filter(|event| event.kind == EventKind::Created) {
            let Some(path) = Drain::target_of(&event.path) else { continue };
            let drain = event.data.as_deref().and_then(Drain::read);
            let Some(czxid) = drain.map(|drain| Zxid(drain.czxid)) else { continue };
            let key = (path, czxid);
            if self.waiting.contains_key(&key) {
                // Its deadline was changed: who had to be told is known.
                continue;
            }
            if self.order.len() == DRAINS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.waiting.remove(&oldest);
            }
            // What follows services hears of what has changed of an instance beside its data by its note.
            let is_told = |path: &ZnodePath| !is_own(path) || is_health_note(path.as_str());
            let shown = events.iter().filter(|event| is_told(&event.path)).cloned();
            let streams = hub.audience(&shown.collect::<Vec<_>>());
            // A watch that has fired already and is held back does not fire for this, but hears of it no sooner.
            let shown: BTreeSet<&str> = events
                .iter()
                .filter(|event| !is_own(&event.path))
                .flat_map(|event| event.path.self_and_ancestors().take(2))
                .collect();
            let lines =
                lines.noticed(zxid, |path| !is_own(path), |path| shown.contains(path.as_str()));
            self.order.push_back(key.clone());
            self.waiting.insert(key, Waiting { zxid, told: 0, streams, lines });
        }
    }

    /// Returns how many have been told of a drain and how many have not; `None` when it is not known here.
    fn progress(
        &mut self,
        path: &ZnodePath,
        czxid: Zxid,
        hub: &Hub,
        lines: &Lines,
    ) -> Option<(u64, u64)> {
        let waiting = self.waiting.get_mut(&(path.clone(), czxid))?;
        let zxid = waiting.zxid;
        let mut told = 0;
        // Who has gone need not be told.
        waiting.streams.retain(|id| match hub.told(*id) {
            None => false,
            Some(upto) if upto >= zxid => {
                told += 1;
                false
            }
            Some(_) => true,
        });
        waiting.lines.retain(|id| match lines.has_taken(*id, zxid) {
            None => false,
            Some(true) => {
                told += 1;
                false
            }
            Some(false) => true,
        });
        waiting.told += told;
        Some((waiting.told, (waiting.streams.len() + waiting.lines.len()) as u64))
    }
}

fn is_own(path: &ZnodePath) -> bool {
    path.as_str().starts_with("/roost/")
}

/// Returns the authority that a node lends: whoever may drain need not be permitted to write what others read.
pub(super) fn lent() -> AclId {
    AclId { scheme: "super".to_owned(), id: "lent".to_owned() }
}

impl Node {
    /// Announces that an instance leaves. Returns when that is committed and applied on this node. To say it again sets another
    /// deadline. Errors: the code `NoNode` without such a znode, `BadArguments` for one that registers no instance, `NoAuth` for one of another session whose parent does
    /// not permit to delete it, `Unimplemented` for one of which nothing can be shown, so that nobody would be told before it goes,
    /// and those of [`Node::submit`].
    pub async fn drain(&self, leaving: &Leaving) -> Result<Result<Draining, Code>, Error> {
        for _ in 0..ATTEMPTS_MAX {
            let tree = self.read(Consistency::Linearizable, Zxid(0)).await?.tree;
            let (draining, op) = match plan(&tree, leaving, self.wall_ms()) {
                Ok(planned) => planned,
                Err(code) => return Ok(Err(code)),
            };
            let mut authority = leaving.authority.clone();
            authority.push(lent());
            let session = leaving.session;
            let request = Request { session, owner: None, authority, idempotency_key: None, op };
            let answer = self.submit(request).await?;
            match answer.result {
                Ok(_) => return Ok(Ok(Draining { zxid: answer.zxid, ..draining })),
                // What it was planned on has changed meanwhile.
                Err(failure)
                    if matches!(
                        failure.code,
                        Code::NoNode | Code::NodeExists | Code::BadVersion | Code::NotEmpty
                    ) => {}
                Err(failure) => return Ok(Err(failure.code)),
            }
        }
        let what = "the number of attempts on an instance that others keep changing";
        Err(Error::Busy { what, retry_after_ms: 50 })
    }

    /// Returns the drain of a registration that is under way in this node's state, if there is one.
    pub fn draining(&self, path: &ZnodePath) -> Option<Draining> {
        let tree = self.local();
        let note = tree.get(Drain::note_of(path).ok()?.as_str())?;
        let drain = Drain::read(note.data()?)?;
        let (czxid, zxid) = (Zxid(drain.czxid), note.stat().czxid);
        Some(Draining { path: path.clone(), czxid, zxid })
    }

    /// Asks every member how far the news of a drain has come. Cost: a call to each.
    pub async fn drain_progress(&self, draining: &Draining) -> Told {
        let own = self.told_here(draining);
        let members = self.inner.consensus.status().members;
        let others = members.iter().map(|status| status.member.node).filter(|id| *id != self.id());
        let payload = Bytes::from(codec::encode(draining));
        let asked = join_all(others.map(|id| {
            let payload = payload.clone();
            async move {
                let answer = self.inner.peers.call(id, Kind::Told, payload, ASK_PATIENCE).await;
                let decoded = answer.ok().and_then(|bytes| {
                    codec::decode::<Option<(u64, u64)>>(&bytes, PEER_PAYLOAD_BYTES_MAX).ok()
                });
                (id, decoded.flatten())
            }
        }));
        let mut all = asked.await;
        all.push((self.id(), own));
        all.sort_unstable_by_key(|(id, _)| *id);
        let mut sum = Told::default();
        for (id, told) in all {
            match told {
                Some((notified, lagging)) => {
                    sum.notified += notified;
                    sum.lagging += lagging;
                }
                None => sum.unknown.push(id),
            }
        }
        sum
    }

    /// Returns how many of this node's subscribers and connections have been told of a drain, and how many have not; `None`
    /// when this node has not come to it, or does not know whom it had.
    fn told_here(&self, draining: &Draining) -> Option<(u64, u64)> {
        let mut audience = self.inner.stage.audience.lock();
        let audience = &mut *audience;
        let (hub, lines) = (&audience.hub, &audience.lines);
        audience.drains.progress(&draining.path, draining.czxid, hub, lines)
    }
}

/// Answers a peer that asks how far this node is with a drain.
pub(super) fn serve_told(node: &Node, payload: &[u8]) -> Result<Bytes, String> {
    let draining: Draining = codec::decode(payload, PEER_PAYLOAD_BYTES_MAX)?;
    Ok(codec::encode(&node.told_here(&draining)).into())
}

/// Returns what announces that an instance leaves, when the tree is this.
fn plan(tree: &Tree, leaving: &Leaving, wall_ms: u64) -> Result<(Draining, Op), Code> {
    let path = &leaving.path;
    let znode = tree.get(path.as_str()).ok_or(Code::NoNode)?;
    let is_own = !leaving.session.is_none()
        && matches!(znode.lifetime(), Lifetime::Ephemeral(owner) if owner == leaving.session);
    if !is_own {
        let parent = path.parent().and_then(|parent| tree.get(parent.as_str()));
        let acl = parent.ok_or(Code::BadArguments)?.acl();
        if !permits(acl, &leaving.authority, Perms::DELETE) {
            return Err(Code::NoAuth);
        }
    }
    if !is_registration(tree, path, znode) {
        return Err(Code::BadArguments);
    }
    let czxid = znode.stat().czxid;
    let note = Drain::note_of(path).map_err(|_| Code::BadArguments)?;
    let drain = Drain {
        czxid: czxid.0,
        set_by: leaving.set_by.clone(),
        reason: leaving.reason.clone(),
        expires_at_ms: wall_ms.saturating_add(leaving.deadline_ms),
    };
    let mut ops = vec![Op::Check { path: path.clone(), version: Some(znode.stat().version) }];
    ops.extend(effects::missing(tree, &note));
    // A TTL is for life: one that was set before gives way to this one.
    let before = tree.get(note.as_str()).map(|_| Op::Delete { path: note.clone(), version: None });
    ops.extend(before);
    let parent = ZnodePath::parse(DRAINS).map_err(|_| Code::BadArguments)?;
    ops.push(Op::Create {
        acl: tree.rules_below(&parent),
        parent,
        name: note.name().to_owned(),
        data: Some(Data::new(&drain.to_data())),
        mode: CreateMode::Ttl(leaving.deadline_ms),
    });
    ops.extend(effects::of_drain(tree, path, &drain).ok_or(Code::Unimplemented)?);
    let draining = Draining { path: path.clone(), czxid, zxid: Zxid(0) };
    Ok((draining, Op::Multi(each_once(ops))))
}

/// Returns whether a znode is the registration of an instance.
fn is_registration(tree: &Tree, path: &ZnodePath, znode: &Znode) -> bool {
    let data = znode.data().map(|data| &data[..]);
    !is_own(path) && tree.layouts().claim(path.as_str(), data).is_some()
}

/// Leaves out what creates a parent that an op before it creates already.
fn each_once(ops: Vec<Op>) -> Vec<Op> {
    let mut made = BTreeSet::new();
    let mut is_new = |op: &Op| match op {
        Op::Create { parent, name, .. } => made.insert((parent.clone(), name.clone())),
        _ => true,
    };
    ops.into_iter().filter(|op| is_new(op)).collect()
}

/// Splits the znodes whose time is over: notes of drains, each with what ends it, and others.
pub(super) fn ends(tree: &Tree, due: Vec<ZnodePath>) -> (Vec<Op>, Vec<ZnodePath>) {
    let mut ops = Vec::new();
    let others = due.into_iter().filter(|note| {
        let Some(target) = Drain::target_of(note) else { return true };
        let drain = tree.get(note.as_str()).and_then(|it| Drain::read(it.data()?));
        let Some(drain) = drain else { return true };
        let is_meant = tree.get(target.as_str()).is_some_and(|znode| {
            znode.stat().czxid.0 == drain.czxid && is_registration(tree, &target, znode)
        });
        let candidates = vec![(target, Zxid(drain.czxid))];
        let gone = is_meant.then_some(Op::Deregister { candidates });
        // Somebody may set another deadline before this is applied, which is another note with the same version.
        let is_over = Op::CheckDue { path: note.clone() };
        let note = Op::Delete { path: note.clone(), version: None };
        ops.push(Op::Multi([is_over].into_iter().chain(gone).chain([note]).collect()));
        false
    });
    let others = others.collect();
    (ops, others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::testing::{create, path};
    use crate::raft::ApplySink;
    use crate::types::{Failure, Outcome, Reply, Txn, TxnTime};

    const INSTANCE: &str = r#"{"host":"10.0.0.5","port":80,"weight":3,"status":"up"}"#;

    fn leaving(deadline_ms: u64) -> Leaving {
        Leaving {
            path: path("/s/a"),
            session: SessionId::NONE,
            authority: vec![lent()],
            deadline_ms,
            set_by: "a test".to_owned(),
            reason: "a restart".to_owned(),
        }
    }

    fn apply(tree: &mut Tree, cluster_ms: u64, op: Op) -> Result<Reply, Failure> {
        let txn = Txn {
            origin: Default::default(),
            session: SessionId::NONE,
            owner: None,
            authority: vec![lent()],
            idempotency_key: None,
            op,
        };
        match tree.apply(TxnTime { wall_ms: 0, cluster_ms }, &txn) {
            Outcome::Applied(applied) => applied.result,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_to_end_a_drain_at_its_first_deadline_does_not_end_it_before_another_one() {
        let mut tree = Tree::new();
        for (at, data) in [("/s", ""), ("/s/a", INSTANCE)] {
            apply(&mut tree, 0, create(at, data)).unwrap();
        }
        let (_, op) = plan(&tree, &leaving(1_000), 0).unwrap();
        apply(&mut tree, 0, op).unwrap();
        let (ended, others) = ends(&tree, tree.reapable(1_001, 9));
        assert_eq!((ended.len(), others.len()), (1, 0));
        let (_, op) = plan(&tree, &leaving(5_000), 0).unwrap();
        apply(&mut tree, 1_001, op).unwrap();
        let failure = apply(&mut tree, 1_002, ended[0].clone()).unwrap_err();
        assert_eq!((failure.code, failure.multi_index), (Code::BadVersion, Some(0)));
        assert!(tree.get("/s/a").is_some() && tree.reapable(6_001, 9).is_empty());
        let (ended, _) = ends(&tree, tree.reapable(6_002, 9));
        apply(&mut tree, 6_002, ended[0].clone()).unwrap();
        assert!(tree.get("/s/a").is_none());
        assert_eq!(tree.get(DRAINS).unwrap().num_children(), 0);
    }

    #[tokio::test]
    async fn a_node_that_took_over_a_snapshot_does_not_know_whom_it_had_to_tell() {
        let node = Node::in_memory().await;
        for (at, data) in [("/s", ""), ("/s/a", INSTANCE)] {
            let request = Request {
                session: SessionId::NONE,
                owner: None,
                authority: Vec::new(),
                idempotency_key: None,
                op: create(at, data),
            };
            node.submit(request).await.unwrap().result.unwrap();
        }
        let draining = node.drain(&leaving(600_000)).await.unwrap().unwrap();
        assert_eq!(node.drain_progress(&draining).await, Told::default());
        let index = node.inner.stage.progress().borrow_and_update().index;
        node.inner.stage.restored(index, &node.local());
        assert_eq!(node.drain_progress(&draining).await.unknown, [1]);
        node.stop().await;
    }
}
