//! The tree against a naive model: the same random transactions must give the same answers, events and
//! states.
//!
//! `ROOST_CASES` sets the number of cases.

#[path = "model/health.rs"]
mod health;
#[path = "model/naive.rs"]
mod naive;
#[path = "model/protection.rs"]
mod protection;

use std::collections::BTreeSet;

use naive::Naive;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{
    BoxedStrategy, Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof,
    proptest,
};
use proptest::test_runner::TestCaseError;
use roost::codec;
use roost::tree::{Lifetime, Loader, Session, SnapshotWriter, Tree};
use roost::types::{
    Acl, AclId, CreateMode, Data, Op, Origin, Outcome, Owner, Password, Perms, Reply, SessionId,
    Silence, Stat, Txn, TxnTime, ZnodePath, Zxid,
};

/// Everything that can be seen of one znode.
type ZnodeDump = (String, Option<Vec<u8>>, Stat, Vec<Acl>, Lifetime, Vec<String>);
/// Everything that can be seen of one session.
type SessionDump = (SessionId, u32, Password, Option<Owner>, Vec<String>);

fn dump(tree: &Tree) -> (Vec<ZnodeDump>, Vec<SessionDump>) {
    let texts = |path: &ZnodePath| path.as_str().to_owned();
    let root = ZnodePath::root();
    let all = tree.get("/").into_iter().map(|znode| (&root, znode)).chain(tree.descendants("/"));
    let mut znodes: Vec<ZnodeDump> = all
        .map(|(path, znode)| {
            let data = znode.data().map(|data| data.to_vec());
            let children = znode.children().map(texts).collect();
            (texts(path), data, znode.stat(), znode.acl().to_vec(), znode.lifetime(), children)
        })
        .collect();
    znodes.sort_by(|a, b| a.0.cmp(&b.0));
    let sessions = tree.sessions().map(|(id, session)| {
        let ephemerals = session.ephemerals().map(texts).collect();
        (id, session.timeout_ms(), *session.password(), session.owner(), ephemerals)
    });
    (znodes, sessions.collect())
}

/// A transaction before it is known which sessions exist and which seq comes next.
#[derive(Clone, Debug)]
struct Step {
    passed_ms: u64,
    node: u64,
    /// Which seq: the next one mostly.
    turn: Turn,
    /// 0 for none, [`LOST`] for one that is perhaps not alive, else one of the live ones.
    session: u64,
    /// Instead of the session's own.
    owner: Option<Option<Owner>>,
    authority: Vec<AclId>,
    key: Option<String>,
    op: Op,
}

/// See [`Step::session`].
const LOST: u64 = 99;

#[derive(Clone, Copy, Debug)]
enum Turn {
    Next,
    Again,
    TooEarly,
    Restarted,
    RestartedTooEarly,
    Outdated,
}

impl Step {
    fn resolve(self, tree: &Tree, opened: &[SessionId]) -> Txn {
        let live: Vec<SessionId> = tree.sessions().map(|(id, _)| id).collect();
        let resolve = |n: SessionId| match n.0 {
            LOST => opened.first().copied().unwrap_or(SessionId(LOST)),
            n if n == 0 || live.is_empty() => SessionId::NONE,
            n => live[n as usize % live.len()],
        };
        let (incarnation, seq) = tree.origin_last(self.node).unwrap_or((1, 0));
        let (incarnation, seq) = match self.turn {
            Turn::Next => (incarnation, seq + 1),
            Turn::Again => (incarnation, seq),
            Turn::TooEarly => (incarnation, seq + 3),
            Turn::Restarted => (incarnation + 2, 1),
            Turn::RestartedTooEarly => (incarnation + 1, 2),
            Turn::Outdated => (incarnation.saturating_sub(1), seq + 1),
        };
        let op = match self.op {
            Op::AttachSession { session, password, owner, timeout_ms } => {
                Op::AttachSession { session: resolve(session), password, owner, timeout_ms }
            }
            Op::CloseSession { session, unless_moved_from } => {
                Op::CloseSession { session: resolve(session), unless_moved_from }
            }
            Op::Expire { session, unless_moved_from, why, term } => {
                Op::Expire { session: resolve(session), unless_moved_from, why, term }
            }
            op => op,
        };
        let session = resolve(SessionId(self.session));
        let owner = tree.session(session).and_then(Session::owner);
        Txn {
            origin: Origin { node: self.node, incarnation, seq },
            session,
            owner: self.owner.unwrap_or(owner),
            authority: self.authority,
            idempotency_key: self.key,
            op,
        }
    }
}

/// What a random history begins with, lest most of it meets nothing.
fn first_steps() -> Vec<Step> {
    let open = |owner| Op::OpenSession { timeout_ms: 5, password: [3; 16], owner };
    let create = |parent: &str, name: &str, mode| Op::Create {
        parent: ZnodePath::parse(parent).unwrap(),
        name: name.to_owned(),
        data: None,
        acl: Vec::new(),
        mode,
    };
    let ops = [
        open(None),
        open(Some(Owner { node: 1, generation: 1 })),
        create("/", "a", CreateMode::Persistent),
        create("/", "b", CreateMode::Container),
        create("/a", "a", CreateMode::Ttl(200)),
        create("/a", "b", CreateMode::Container),
        create("/zookeeper/quota", "a", CreateMode::Persistent),
        create("/zookeeper/quota/a", "zookeeper_limits", CreateMode::Persistent),
        create("/zookeeper/quota/a", "zookeeper_stats", CreateMode::Persistent),
        create("/zookeeper/quota/a", "a", CreateMode::Persistent),
        create("/", "services", CreateMode::Persistent),
        create("/services", "a", CreateMode::Persistent),
        create("/services/a", "providers", CreateMode::Persistent),
        create("/", "dubbo", CreateMode::Persistent),
        create("/dubbo", "a", CreateMode::Persistent),
        create("/dubbo/a", "providers", CreateMode::Container),
        create("/", "ns", CreateMode::Persistent),
        create("/ns", "a", CreateMode::Persistent),
    ];
    let step = |op| Step {
        passed_ms: 1,
        node: 0,
        turn: Turn::Next,
        session: 0,
        owner: None,
        authority: Vec::new(),
        key: None,
        op,
    };
    ops.into_iter().map(step).collect()
}

fn sessions() -> impl Strategy<Value = u64> {
    prop_oneof![6 => Just(0), 12 => 1..4u64, 1 => Just(LOST)]
}

fn names() -> impl Strategy<Value = String> {
    let fixed =
        ["a", "b", "c", "", "a0000000000", "a0000000001", "0000000002", "zookeeper", "quota"];
    let quota = ["zookeeper_limits", "zookeeper_stats"];
    prop_oneof![
        20 => proptest::sample::select(fixed[..2].to_vec()),
        2 => proptest::sample::select(vec!["services", "providers", "consumers"]),
        4 => proptest::sample::select(fixed.to_vec()),
        3 => proptest::sample::select(quota.to_vec()),
        1 => Just("a/b"),
        1 => Just("."),
    ]
    .prop_map(str::to_owned)
}

fn paths() -> impl Strategy<Value = ZnodePath> {
    let name = prop_oneof![
        8 => Just("a"),
        6 => Just("b"),
        2 => Just("a0000000000"),
        2 => Just("a0000000001"),
        1 => Just("zookeeper"),
    ];
    vec(name, 0..4).prop_map(|names| ZnodePath::parse(&format!("/{}", names.join("/"))).unwrap())
}

/// Paths of which some are about quotas, and some are at the places of services.
fn any_paths() -> impl Strategy<Value = ZnodePath> {
    let quota = [
        "/zookeeper/quota",
        "/zookeeper/quota/a",
        "/zookeeper/quota/a/a",
        "/zookeeper/quota/a/zookeeper_limits",
        "/zookeeper/quota/a/zookeeper_stats",
        "/zookeeper/quota/a/a/zookeeper_limits",
        "/zookeeper/quota/a/a/zookeeper_stats",
    ];
    let services = [
        "/services",
        "/services/a",
        "/services/a/a",
        "/services/a/b",
        "/services/a/providers",
        "/services/a/providers/a",
        "/services/a/consumers",
        "/dubbo/a",
        "/dubbo/a/providers",
        "/dubbo/a/providers/b",
        "/ns/a",
        "/ns/a/services",
        "/ns/a/services/a",
    ];
    let parse = |path| ZnodePath::parse(path).unwrap();
    let quota = proptest::sample::select(quota.to_vec()).prop_map(parse);
    let services = proptest::sample::select(services.to_vec()).prop_map(parse);
    prop_oneof![8 => paths(), 2 => quota, 3 => services]
}

fn owners() -> impl Strategy<Value = Option<Owner>> {
    option::of((1..3u64, 1..3u64).prop_map(|(node, generation)| Owner { node, generation }))
}

fn identities() -> impl Strategy<Value = AclId> {
    let pairs = [
        ("digest", "u:h"),
        ("digest", "v:h"),
        ("ip", "10.0.0.1"),
        ("ip", "10.0.1.1"),
        ("x509", "CN=u"),
        ("super", ""),
    ];
    proptest::sample::select(pairs.to_vec())
        .prop_map(|(scheme, id)| AclId { scheme: scheme.to_owned(), id: id.to_owned() })
}

fn acls() -> impl Strategy<Value = Vec<Acl>> {
    let pairs = [
        ("world", "anyone"),
        ("digest", "u:h"),
        ("ip", "10.0.0.0/24"),
        ("ip", "10.0.0.1"),
        ("auth", ""),
        ("x509", "CN=u"),
    ];
    let wrong = [("digest", "u"), ("ip", "10.0.0.0/33"), ("super", ""), ("token", "red")];
    let pair = prop_oneof![
        20 => proptest::sample::select(pairs.to_vec()),
        1 => proptest::sample::select(wrong.to_vec())
    ];
    let perms = prop_oneof![20 => Just(31u32), 20 => 0..32u32, 1 => Just(32)];
    let rule = (pair, perms).prop_map(|((scheme, id), perms)| Acl {
        perms: Perms(perms),
        id: AclId { scheme: scheme.to_owned(), id: id.to_owned() },
    });
    prop_oneof![4 => Just(Vec::new()), 1 => vec(rule, 1..4)]
}

fn versions() -> impl Strategy<Value = Option<i32>> {
    prop_oneof![12 => Just(None), 3 => (0..3i32).prop_map(Some), 1 => Just(Some(-1))]
}

fn data() -> impl Strategy<Value = Option<Data>> {
    let limits = [
        "count=1,bytes=-1",
        "count=-1,bytes=-1=;countHardLimit=3",
        "bytes=2=;byteHardLimit=4;countHardLimit=-1",
        "count=0,bytes=0=;byteHardLimit=0;countHardLimit=0",
        "enforceQuota=false",
    ];
    let limits =
        proptest::sample::select(limits.to_vec()).prop_map(|text| Data::new(text.as_bytes()));
    let bytes = vec(any::<u8>(), 0..3).prop_map(|bytes| Data::new(&bytes));
    option::of(prop_oneof![6 => bytes, 1 => limits])
}

fn modes() -> impl Strategy<Value = CreateMode> {
    prop_oneof![
        8 => Just(CreateMode::Persistent),
        9 => Just(CreateMode::Ephemeral),
        6 => Just(CreateMode::Container),
        2 => Just(CreateMode::PersistentSequential),
        2 => Just(CreateMode::EphemeralSequential),
        6 => (0..300u64).prop_map(CreateMode::Ttl),
        2 => (0..300u64).prop_map(CreateMode::TtlSequential),
        1 => Just(CreateMode::Ttl(1 << 40)),
    ]
}

fn znode_ops() -> BoxedStrategy<Op> {
    prop_oneof![
        8 => (any_paths(), names(), data(), acls(), modes())
            .prop_map(|(parent, name, data, acl, mode)| Op::Create { parent, name, data, acl, mode }),
        6 => (any_paths(), versions()).prop_map(|(path, version)| Op::Delete { path, version }),
        2 => any_paths().prop_map(|path| Op::DeleteOwn { path }),
        2 => (any_paths(), data()).prop_map(|(path, data)| Op::SetOwn { path, data }),
        3 => (any_paths(), data(), versions())
            .prop_map(|(path, data, version)| Op::SetData { path, data, version }),
        1 => (any_paths(), acls(), versions())
            .prop_map(|(path, acl, aversion)| Op::SetAcl { path, acl, aversion }),
        1 => (any_paths(), versions()).prop_map(|(path, version)| Op::Check { path, version }),
        1 => any_paths().prop_map(|path| Op::CheckDue { path }),
        1 => (any_paths(), 0..60u64)
            .prop_map(|(path, czxid)| Op::Deregister { candidates: vec![(path, Zxid(czxid))] }),
    ]
    .boxed()
}

/// Boxed, as its parts: as one value it would take most of a test's stack.
fn ops() -> BoxedStrategy<Op> {
    let sessions = || sessions().prop_map(SessionId);
    let nested = prop_oneof![20 => znode_ops(), 1 => Just(Op::Multi(Vec::new()))];
    prop_oneof![
        12 => znode_ops(),
        4 => vec(nested, 0..5).prop_map(Op::Multi),
        1 => (1..9u32, owners())
            .prop_map(|(timeout_ms, owner)| Op::OpenSession { timeout_ms, password: [3; 16], owner }),
        1 => (sessions(), 3..5u8, owners(), 1..9u32).prop_map(|(session, byte, owner, timeout_ms)| {
            let mut password = [3; 16];
            password[15] = byte;
            Op::AttachSession { session, password, owner, timeout_ms }
        }),
        1 => (sessions(), prop_oneof![3 => Just(None), 1 => owners().prop_map(Some)])
            .prop_map(|(session, unless_moved_from)| Op::CloseSession { session, unless_moved_from }),
        1 => (sessions(), owners(), any::<bool>()).prop_map(|(session, owner, is_confirmed)| {
            let why = if is_confirmed { Silence::Confirmed } else { Silence::Silent };
            Op::Expire { session, unless_moved_from: owner, why, term: None }
        }),
        1 => vec(paths(), 0..5).prop_map(|paths| Op::Reap { paths }),
        1 => proptest::sample::select(vec!["", "server.1=a:1:1:participant;a:2\n"])
            .prop_map(|lines| Op::SetMembers { lines: lines.to_owned() }),
    ]
    .boxed()
}

fn steps() -> impl Strategy<Value = Step> {
    let turn = prop_oneof![
        40 => Just(Turn::Next),
        1 => Just(Turn::Again),
        1 => Just(Turn::TooEarly),
        1 => Just(Turn::Restarted),
        1 => Just(Turn::RestartedTooEarly),
        1 => Just(Turn::Outdated),
    ];
    let key = prop_oneof![6 => Just(None), 2 => (0..3u8).prop_map(|n| Some(n.to_string()))];
    let owner = prop_oneof![9 => Just(None), 1 => owners().prop_map(Some)];
    let identity = prop_oneof![1 => Just(Vec::new()), 1 => vec(identities(), 1..3)];
    (0..200u64, 0..3u64, turn, sessions(), owner, identity, key, ops()).prop_map(
        |(passed_ms, node, turn, session, owner, authority, key, op)| Step {
            passed_ms,
            node,
            turn,
            session,
            owner,
            authority,
            key,
            op,
        },
    )
}

fn reload(tree: &Tree) -> Result<Tree, String> {
    let mut writer = SnapshotWriter::new(tree.clone());
    let mut loader = Loader::new();
    while let Some(chunk) = writer.next_chunk() {
        loader.push(&chunk)?;
    }
    loader.finish()
}

fn check_invariants(tree: &Tree) -> Result<(), TestCaseError> {
    prop_assert_eq!(tree.digest(), tree.recomputed_digest());
    prop_assert_eq!(tree.services(), &tree.found_services());
    let all: BTreeSet<&str> =
        tree.descendants("/").map(|(path, _)| path.as_str()).chain(["/"]).collect();
    prop_assert_eq!(all.len(), tree.znode_count());
    let (mut bytes, mut ephemerals, mut due) = (1, 0, Vec::new());
    bytes += tree.get("/").unwrap().data().map_or(0, |data| data.len());
    for (path, znode) in tree.descendants("/") {
        bytes += path.as_str().len() + znode.data().map_or(0, |data| data.len());
        let parent = tree.get(path.parent_str().unwrap());
        prop_assert!(parent.is_some_and(|parent| parent.children().any(|child| child == path)));
        let lists =
            tree.sessions().filter(|(_, session)| session.ephemerals().any(|other| other == path));
        let lists: Vec<_> = lists.map(|(id, _)| id).collect();
        prop_assert_eq!(lists, Vec::from_iter(znode.ephemeral_owner()));
        if znode.ephemeral_owner().is_some() {
            ephemerals += 1;
            prop_assert_eq!(znode.num_children(), 0);
        }
        let is_due = match znode.lifetime() {
            Lifetime::Container => znode.stat().cversion > 0,
            Lifetime::Ttl { ttl_ms, renewed_ms } => tree.cluster_ms() - renewed_ms > ttl_ms,
            _ => false,
        };
        if is_due && znode.num_children() == 0 {
            due.push(path.clone());
        }
    }
    let listed: u64 = tree.sessions().map(|(_, session)| session.num_ephemerals() as u64).sum();
    prop_assert_eq!((listed, tree.ephemeral_count()), (ephemerals, ephemerals));
    prop_assert_eq!(tree.data_bytes(), bytes as u64);
    due.sort();
    prop_assert_eq!(tree.reapable(tree.cluster_ms(), usize::MAX), due);
    for (top, quota) in tree.quotas() {
        let counted = tree.descendants("/").filter(|(path, _)| top.contains(path.as_str()));
        let sizes = counted.map(|(_, znode)| znode.data().map_or(0, |data| data.len() as u64));
        let sizes: Vec<u64> = sizes.collect();
        prop_assert_eq!((quota.znodes, quota.bytes), (sizes.len() as u64, sizes.iter().sum()));
        if let Some(shown) = tree.get(&format!("/zookeeper/quota{top}/zookeeper_stats")) {
            let expected = format!("count={},bytes={}", quota.znodes, quota.bytes);
            prop_assert_eq!(&shown.data().unwrap()[..], expected.as_bytes());
        }
    }
    Ok(())
}

fn config() -> ProptestConfig {
    let cases =
        std::env::var("ROOST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(256);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_tree_equals_the_naive_model_after_every_transaction(steps in vec(steps(), 1..80)) {
        let (mut tree, mut model) = (Tree::new(), Naive::new());
        let mut opened = Vec::new();
        let mut time = TxnTime::default();
        for step in first_steps().into_iter().chain(steps) {
            time.cluster_ms += step.passed_ms;
            time.wall_ms += step.passed_ms / 2;
            let passed_ms = step.passed_ms;
            let txn = step.resolve(&tree, &opened);
            let before = tree.clone();
            let outcome = tree.apply(time, &txn);
            prop_assert_eq!(&outcome, &model.apply(time, &txn));
            if let Outcome::Applied(applied) = &outcome {
                prop_assert_eq!(tree.zxid(), before.zxid().next());
                let is_open = matches!(txn.op, Op::OpenSession { .. });
                if let (Ok(Reply::Session { session, .. }), true) = (&applied.result, is_open) {
                    opened.push(*session);
                }
                if applied.result.is_err() {
                    prop_assert_eq!(dump(&tree), dump(&before));
                }
            } else {
                prop_assert_eq!(tree.digest(), before.digest());
            }
            prop_assert_eq!(dump(&tree), model.dump());
            check_invariants(&tree)?;
            let loaded = reload(&tree).map_err(TestCaseError::fail)?;
            prop_assert_eq!(loaded.digest(), tree.digest());
            prop_assert_eq!(dump(&loaded), dump(&tree));
            check_invariants(&loaded)?;
            tree = if passed_ms % 4 == 0 { loaded } else { tree };
        }
    }

    #[test]
    fn no_transaction_however_absurd_makes_the_tree_panic(txns in vec(absurd(), 1..40)) {
        let mut tree = Tree::new();
        for (time, txn, flips) in txns {
            tree.apply(time, &txn);
            // The same as a damaged log would give it.
            let mut bytes = codec::encode(&txn);
            let len = bytes.len();
            for (at, byte) in flips {
                bytes[at as usize % len] = byte;
            }
            if let Ok(txn) = codec::decode::<Txn>(&bytes, len) {
                tree.apply(time, &txn);
            }
        }
        check_invariants_of_absurd(&tree)?;
    }

    #[test]
    fn a_damaged_snapshot_is_refused_and_never_panics(
        steps in vec(steps(), 1..30),
        flips in vec((any::<u32>(), any::<u8>()), 1..4),
        cut in option::of(any::<u32>()),
    ) {
        let mut tree = Tree::new();
        for step in first_steps().into_iter().chain(steps) {
            let time = TxnTime { cluster_ms: step.passed_ms, wall_ms: 0 };
            let txn = step.resolve(&tree, &[]);
            tree.apply(time, &txn);
        }
        let mut writer = SnapshotWriter::new(tree.clone());
        let whole: Vec<u8> = std::iter::from_fn(|| writer.next_chunk()).flatten().collect();
        let mut bytes = whole.clone();
        for (at, byte) in flips {
            let at = at as usize % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(cut.map_or(whole.len(), |cut| cut as usize % whole.len()));
        let mut loader = Loader::new();
        let pushed: Result<(), String> = bytes.chunks(7).try_for_each(|chunk| loader.push(chunk));
        let loaded = pushed.and_then(|()| loader.finish());
        prop_assert_eq!(loaded.is_ok(), bytes == whole);
    }
}

fn absurd() -> impl Strategy<Value = (TxnTime, Txn, Vec<(u16, u8)>)> {
    let edges = || prop_oneof![Just(0), Just(1), Just(2), Just(u64::MAX), any::<u64>()];
    let text = || prop_oneof![names(), ".{0,9}", Just("x".repeat(5000))];
    let time = (edges(), edges()).prop_map(|(wall_ms, cluster_ms)| TxnTime { wall_ms, cluster_ms });
    let owner =
        || option::of((edges(), edges()).prop_map(|(node, generation)| Owner { node, generation }));
    let id = (text(), text()).prop_map(|(scheme, id)| AclId { scheme, id });
    let rule = (any::<u32>(), prop_oneof![identities(), id])
        .prop_map(|(perms, id)| Acl { perms: Perms(perms), id });
    let acl = || prop_oneof![4 => Just(Vec::new()), 1 => vec(rule.clone(), 0..3), 1 => vec(rule.clone(), 130)];
    let large = || prop_oneof![4 => data(), 1 => Just(Some(Data::new(&[0; 1_048_001])))];
    let version = || option::of(any::<i32>());
    let mode = prop_oneof![modes(), edges().prop_map(CreateMode::TtlSequential)];
    let znode = prop_oneof![
        (paths(), text(), large(), acl(), mode).prop_map(|(parent, name, data, acl, mode)| {
            Op::Create { parent, name, data, acl, mode }
        }),
        (paths(), large(), version()).prop_map(|(path, data, version)| Op::SetData {
            path,
            data,
            version
        }),
        (paths(), acl(), version()).prop_map(|(path, acl, aversion)| Op::SetAcl {
            path,
            acl,
            aversion
        }),
        (paths(), version()).prop_map(|(path, version)| Op::Delete { path, version }),
    ]
    .boxed();
    let session = || prop_oneof![Just(0u64), Just(1 << 56 | 1), edges()].prop_map(SessionId);
    let op = prop_oneof![
        8 => znode.clone(),
        2 => vec(prop_oneof![znode, ops()], 0..6).prop_map(Op::Multi),
        1 => Just(Op::Multi(vec![Op::Check { path: ZnodePath::root(), version: None }; 10_001])),
        3 => (any::<u32>(), any::<Password>(), owner())
            .prop_map(|(timeout_ms, password, owner)| Op::OpenSession { timeout_ms, password, owner }),
        1 => (session(), any::<Password>(), owner(), any::<u32>()).prop_map(
            |(session, password, owner, timeout_ms)| {
                Op::AttachSession { session, password, owner, timeout_ms }
            }
        ),
        1 => (session(), option::of(owner()))
            .prop_map(|(session, unless_moved_from)| Op::CloseSession { session, unless_moved_from }),
        1 => vec(paths(), 0..9).prop_map(|paths| Op::Reap { paths }),
    ]
    .boxed();
    let origin = (edges(), edges(), edges()).prop_map(|(node, incarnation, seq)| Origin {
        node,
        incarnation,
        seq,
    });
    let key = option::of(prop_oneof!["k{0,2}", Just("k".repeat(200))]);
    let txn = (origin, session(), owner(), vec(identities(), 0..2), key, op).prop_map(
        |(origin, session, owner, authority, idempotency_key, op)| Txn {
            origin,
            session,
            owner,
            authority,
            idempotency_key,
            op,
        },
    );
    (time, txn, vec((any::<u16>(), any::<u8>()), 0..4))
}

/// As the others, but without the clock's arithmetic, which absurd times overflow in the check itself.
fn check_invariants_of_absurd(tree: &Tree) -> Result<(), TestCaseError> {
    prop_assert_eq!(tree.digest(), tree.recomputed_digest());
    prop_assert_eq!(tree.descendants("/").count() + 1, tree.znode_count());
    let loaded = reload(tree).map_err(TestCaseError::fail)?;
    prop_assert_eq!(dump(&loaded), dump(tree));
    Ok(())
}
