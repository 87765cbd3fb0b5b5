//! What tests of the doors and of a node's tasks need: a whole node in memory, rivals that act at the worst moment, and trees.

use std::sync::Arc;
use std::time::Duration;

use super::effects::missing;
use super::outbox::Waiter;
use super::{Node, NodeOptions, Request, Storage};
use crate::clock::Clock;
use crate::identity::SuperDigest;
use crate::limits::SESSIONS_MAX;
use crate::peer::{MemoryLinks, Net, Secret};
use crate::raft;
use crate::storage::{MemoryDisk, MemoryDisks};
use crate::tree::Tree;
use crate::types::{
    AclId, CreateMode, Data, Member, NodeId, Op, Outcome, Reply, SessionId, Txn, TxnTime, ZnodePath,
};
use crate::watch::Bounds;

impl Node {
    /// Starts node 1 in memory. It belongs to no cluster.
    pub(crate) async fn lone() -> Node {
        Node::lone_at(&MemoryLinks::default(), 1).await
    }

    /// Starts a node in memory, whose `super` has the password `test`, that its peers reach at `"<id>:1"` of these links.
    pub(crate) async fn lone_at(links: &MemoryLinks, id: NodeId) -> Node {
        Node::lone_with(links, id, Tree::new()).await
    }

    async fn lone_with(links: &MemoryLinks, id: NodeId, tree: Tree) -> Node {
        let addr = format!("{id}:1");
        let net = links.at(&addr);
        let acceptor = net.listen(&addr).await.unwrap();
        let options = NodeOptions {
            node: id,
            secret: Secret::new(b"a secret of tests"),
            net: Arc::new(net),
            acceptor,
            storage: Storage::Memory(Arc::new(MemoryDisk::new()), MemoryDisks::new()),
            clock: Clock::simulated(1_700_000_000_000),
            seed: id,
            raft: raft::Options {
                heartbeat_ms: 50,
                election_ms_min: 200,
                election_ms_max: 400,
                ..raft::Options::default()
            },
            tick: Duration::from_millis(100),
            check_interval: Duration::from_millis(100),
            timeouts_ms: (1_000, 600_000),
            super_digest: SuperDigest::parse("super:D/InIHSb7yEEbrWz8b9l71RjZJU=").ok(),
            snapshot_log_bytes: 64 << 20,
            watch_bounds: Bounds::default(),
            prober: None,
            audit: None,
            window_ms: None,
            tree,
        };
        Node::start(options).await.unwrap()
    }

    /// Starts a cluster of one node, in memory, and waits until it leads.
    pub(crate) async fn in_memory() -> Node {
        Node::with_room_for(SESSIONS_MAX).await
    }

    /// As [`Node::in_memory`], of a cluster that may have so many sessions.
    pub(crate) async fn with_room_for(sessions_max: usize) -> Node {
        Node::holding(Tree::with_room_for(sessions_max)).await
    }

    /// As [`Node::in_memory`], of a cluster whose first state is this.
    pub(crate) async fn holding(tree: Tree) -> Node {
        let node = Node::lone_with(&MemoryLinks::default(), 1, tree).await;
        let member =
            Member { node: 1, peer_addr: "1:1".into(), http_addr: "1:2".into(), zk_addr: None };
        node.init(vec![member]).await.unwrap();
        let mut leadership = node.consensus().leadership();
        leadership.wait_for(|now| now.leader == Some(1)).await.unwrap();
        node
    }

    /// Puts this op of a session right before the next write that is submitted, behind those put there already.
    pub(crate) fn before_next(&self, session: SessionId, op: Op) {
        let rival =
            Request { session, owner: None, authority: Vec::new(), idempotency_key: None, op };
        self.inner.rivals.lock().push(rival);
    }

    pub(super) fn let_rivals_go_first(&self) {
        for mut rival in std::mem::take(&mut *self.inner.rivals.lock()) {
            let (nobody, _) = tokio::sync::oneshot::channel();
            self.enqueue(&mut rival, Waiter::Once(nobody)).unwrap();
        }
    }
}

/// Applies an op for nobody in particular, whatever access control lists say.
pub(crate) fn apply(tree: &mut Tree, session: SessionId, op: Op) -> Reply {
    let who = AclId { scheme: "super".to_owned(), id: String::new() };
    let txn = Txn {
        origin: Default::default(),
        session,
        owner: None,
        authority: vec![who],
        idempotency_key: None,
        op,
    };
    match tree.apply(TxnTime::default(), &txn) {
        Outcome::Applied(applied) => {
            applied.result.unwrap_or_else(|why| panic!("{why:?}: {:?}", txn.op))
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).unwrap()
}

/// Returns the op that creates a persistent znode.
pub(crate) fn create(path: &str, data: &str) -> Op {
    let path = ZnodePath::parse(path).unwrap();
    Op::Create {
        parent: path.parent().unwrap(),
        name: path.name().to_owned(),
        data: Some(Data::new(data.as_bytes())),
        acl: Vec::new(),
        mode: CreateMode::Persistent,
    }
}

/// Creates a znode, ephemeral if it is a session's, and what is missing above it.
pub(crate) fn put(tree: &mut Tree, session: SessionId, at: &str, data: &str) {
    let at = path(at);
    for op in missing(tree, &at) {
        apply(tree, SessionId::NONE, op);
    }
    let mode = if session.is_none() { CreateMode::Persistent } else { CreateMode::Ephemeral };
    let (parent, name) = (at.parent().unwrap(), at.name().to_owned());
    let data = Some(Data::new(data.as_bytes()));
    apply(tree, session, Op::Create { parent, name, data, acl: Vec::new(), mode });
}

/// Returns a tree with a session.
pub(crate) fn with_session() -> (Tree, SessionId) {
    let mut tree = Tree::new();
    let open = Op::OpenSession { timeout_ms: 1_000, password: [0; 16], owner: None };
    let Reply::Session { session, .. } = apply(&mut tree, SessionId::NONE, open) else { panic!() };
    (tree, session)
}
