//! Removal protection against a naive count: the same histories of providers that come, fall silent, come back and leave
//! must end and hold the same sessions, and no service may ever lose more by silence than its share.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::test_runner::TestCaseError;
use roost::tree::Tree;
use roost::types::{
    Acl, AclId, Code, CreateMode, Data, Failure, Op, Outcome, Perms, Reply, SessionId, Silence,
    Txn, TxnTime, ZnodePath,
};

use super::{dump, reload};

const WINDOW_MS: u64 = 5_000;
const HOLD_MS: u64 = 12_000;
const POLICY: &str =
    r#"{"set_by":"a","reason":"b","pattern":"/s/*","max_ratio":0.2,"window_s":5,"max_hold_s":12}"#;
/// Below the last of these nothing is protected.
const SERVICES: [&str; 3] = ["/s/a", "/s/b", "/locks"];

#[derive(Clone, Debug)]
enum Act {
    /// A session comes with a provider of each of these services.
    Come(Vec<usize>),
    /// The one with this number, of those that live, is found silent.
    Silent(usize),
    /// So are this many, one after the other.
    AllSilent(usize),
    Refused(usize),
    Answers(usize),
    Confirmed(usize),
    Attach(usize),
    Close(usize),
}

fn acts() -> impl Strategy<Value = Act> {
    let at = || 0..64usize;
    prop_oneof![
        8 => vec(0..SERVICES.len(), 1..3).prop_map(Act::Come),
        6 => at().prop_map(Act::Silent),
        2 => at().prop_map(Act::AllSilent),
        1 => at().prop_map(Act::Refused),
        1 => at().prop_map(Act::Answers),
        1 => at().prop_map(Act::Confirmed),
        2 => at().prop_map(Act::Attach),
        1 => at().prop_map(Act::Close),
    ]
}

/// A session as the count has it.
#[derive(Clone, Debug)]
struct Session {
    /// How many providers of each service.
    of: BTreeMap<&'static str, u64>,
    suspect_since_ms: Option<u64>,
}

#[derive(Default)]
struct Count {
    now_ms: u64,
    sessions: BTreeMap<SessionId, Session>,
    /// Of each service and second: the last loss in it, and how many there were.
    lost: BTreeMap<(&'static str, u64), (u64, u64)>,
    /// Of each loss by silence, but of those that were held long enough: when, of which service, and how many.
    losses: Vec<(u64, &'static str, u64)>,
}

impl Count {
    fn present(&self, service: &str) -> u64 {
        self.sessions.values().filter_map(|session| session.of.get(service)).sum()
    }

    fn lost(&self, service: &str) -> u64 {
        let in_window = |at_ms: u64| at_ms + WINDOW_MS >= self.now_ms;
        let of = self
            .lost
            .iter()
            .filter(|((name, _), (at_ms, _))| *name == service && in_window(*at_ms));
        of.map(|(_, (_, count))| count).sum()
    }

    /// Says what becomes of a session, and does it. `None`: it ends. Else for how long it is held.
    fn expire(&mut self, id: SessionId, why: Silence) -> Option<u64> {
        let session = self.sessions[&id].clone();
        let stakes: Vec<(&'static str, u64)> = session
            .of
            .iter()
            .filter(|(service, _)| service.starts_with("/s/"))
            .map(|(service, count)| (*service, *count))
            .collect();
        let since_ms = session.suspect_since_ms.unwrap_or(self.now_ms);
        let left_ms = (since_ms + HOLD_MS).saturating_sub(self.now_ms);
        let room = |service: &str, more: u64| {
            let (present, lost) = (self.present(service), self.lost(service));
            lost == 0 || lost + more <= (present + lost) / 5
        };
        let fits = stakes.iter().all(|(service, more)| room(service, *more));
        let is_held = match why {
            Silence::Silent => !fits,
            Silence::Answers => !stakes.is_empty(),
            Silence::Refused | Silence::Confirmed => false,
        };
        if is_held && left_ms > 0 {
            self.sessions.get_mut(&id).unwrap().suspect_since_ms = Some(since_ms);
            return Some(left_ms);
        }
        if matches!(why, Silence::Silent | Silence::Answers) {
            for (service, more) in &stakes {
                let could = self.present(service) + self.lost(service);
                if why == Silence::Silent && fits {
                    self.losses.push((self.now_ms, service, *more));
                    let (lost, sessions) = self.lost_in_window(service);
                    let is_within = sessions == 1 || lost <= could / 5;
                    assert!(is_within, "{service} has lost {lost} of {could} with {sessions}");
                }
                let second = self.lost.entry((service, self.now_ms / 1000)).or_default();
                *second = (self.now_ms, second.1 + more);
            }
        }
        self.sessions.remove(&id);
        None
    }

    /// Returns how many providers a service has lost within the window that ends now, and with how many sessions.
    fn lost_in_window(&self, service: &str) -> (u64, usize) {
        let in_window = |(then_ms, name, _): &&(u64, &str, u64)| {
            *name == service && then_ms + WINDOW_MS > self.now_ms
        };
        let counts = self.losses.iter().filter(in_window).map(|(_, _, count)| count);
        (counts.clone().sum(), counts.count())
    }
}

fn apply(tree: &mut Tree, now_ms: u64, session: SessionId, op: Op) -> Result<Reply, Failure> {
    let txn = Txn {
        origin: Default::default(),
        session,
        owner: None,
        authority: Vec::new(),
        idempotency_key: None,
        op,
    };
    match tree.apply(TxnTime { wall_ms: now_ms, cluster_ms: now_ms }, &txn) {
        Outcome::Applied(applied) => applied.result,
        other => panic!("{other:?}"),
    }
}

fn create(path: &str, data: &str, mode: CreateMode) -> Op {
    let path = ZnodePath::parse(path).unwrap();
    Op::Create {
        parent: path.parent().unwrap(),
        name: path.name().to_owned(),
        data: Some(Data::new(data.as_bytes())),
        acl: Vec::new(),
        mode,
    }
}

fn expire(session: SessionId, why: Silence) -> Op {
    Op::Expire { session, unless_moved_from: None, why, term: None }
}

fn tree() -> Tree {
    let mut tree = Tree::new();
    let folders =
        ["/s", "/s/a", "/s/b", "/locks", "/roost", "/roost/policies", "/roost/policies/removal"];
    for path in folders {
        apply(&mut tree, 0, SessionId::NONE, create(path, "", CreateMode::Persistent)).unwrap();
    }
    let policy = create("/roost/policies/removal/all", POLICY, CreateMode::Persistent);
    apply(&mut tree, 0, SessionId::NONE, policy).unwrap();
    tree
}

#[test]
fn notes_are_closed_to_whom_what_lies_above_them_is() {
    let mut tree = tree();
    let [gone, first] = [0, 1].map(|_| come(&mut tree, 1, &[0]).0);
    apply(&mut tree, 1, SessionId::NONE, expire(gone, Silence::Silent)).unwrap();
    let id = AclId { scheme: "world".to_owned(), id: "anyone".to_owned() };
    let acl = vec![Acl { perms: Perms::READ, id }];
    let roost = ZnodePath::parse("/roost").unwrap();
    let closing = Op::SetAcl { path: roost, acl: acl.clone(), aversion: None };
    apply(&mut tree, 1, SessionId::NONE, closing).unwrap();
    let held = apply(&mut tree, 1, SessionId::NONE, expire(first, Silence::Silent));
    assert!(matches!(held, Ok(Reply::Held { .. })), "{held:?}");
    let note = format!("/roost/suspects/{first}");
    for path in ["/roost/suspects", &note] {
        assert_eq!(tree.get(path).unwrap().acl()[..], acl[..], "{path}");
    }
    assert_eq!(tree.digest(), tree.recomputed_digest());
}

/// Opens a session with a provider of each of these services, and a lock.
fn come(tree: &mut Tree, now_ms: u64, services: &[usize]) -> (SessionId, Session) {
    let open = Op::OpenSession { timeout_ms: 5, password: [3; 16], owner: None };
    let Ok(Reply::Session { session, .. }) = apply(tree, now_ms, SessionId::NONE, open) else {
        panic!("it opens")
    };
    let mut of = BTreeMap::new();
    for (at, service) in services.iter().map(|at| SERVICES[*at]).enumerate() {
        let path = format!("{service}/{session}-{at}");
        let made = create(&path, r#"{"host":"10.0.0.1","port":80}"#, CreateMode::Ephemeral);
        apply(tree, now_ms, session, made).unwrap();
        *of.entry(service).or_default() += 1;
    }
    let lock = create(&format!("/s/a/{session}-lock"), "no provider", CreateMode::Ephemeral);
    apply(tree, now_ms, session, lock).unwrap();
    (session, Session { of, suspect_since_ms: None })
}

fn check_expiry(
    tree: &mut Tree,
    count: &mut Count,
    id: SessionId,
    why: Silence,
) -> Result<(), TestCaseError> {
    let was_suspect = count.sessions[&id].suspect_since_ms.is_some();
    let got = apply(tree, count.now_ms, SessionId::NONE, expire(id, why));
    if why == Silence::Confirmed && !was_suspect {
        prop_assert_eq!(got.unwrap_err().code, Code::NoNode);
        return Ok(());
    }
    match count.expire(id, why) {
        Some(for_ms) => prop_assert_eq!(got, Ok(Reply::Held { for_ms })),
        None => prop_assert!(matches!(got, Ok(Reply::Removed { .. })), "{got:?} is no end"),
    }
    Ok(())
}

fn check(tree: &Tree, count: &Count) -> Result<(), TestCaseError> {
    for service in ["/s/a", "/s/b"] {
        let standing = tree.standing(service, count.now_ms).unwrap();
        prop_assert_eq!(standing.present, count.present(service), "of {}", service);
        prop_assert_eq!(standing.lost, count.lost(service), "of {}", service);
    }
    let sessions: Vec<SessionId> = tree.sessions().map(|(id, _)| id).collect();
    prop_assert_eq!(sessions, count.sessions.keys().copied().collect::<Vec<_>>());
    for (id, session) in &count.sessions {
        let noted = tree.suspect(*id).map(|suspect| suspect.since_cluster_ms);
        prop_assert_eq!(noted, session.suspect_since_ms);
    }
    prop_assert_eq!(tree.digest(), tree.recomputed_digest());
    Ok(())
}

fn run(steps: Vec<(u64, Act)>) -> Result<(), TestCaseError> {
    let (mut tree, mut count) = (tree(), Count { now_ms: 1, ..Count::default() });
    for (passed_ms, act) in steps {
        count.now_ms += passed_ms;
        let now_ms = count.now_ms;
        // The cluster's clock is that of the last transaction.
        let reap = Op::Reap { paths: tree.reapable(now_ms, 9) };
        apply(&mut tree, now_ms, SessionId::NONE, reap).unwrap();
        let live: Vec<SessionId> = count.sessions.keys().copied().collect();
        let pick = |at: usize| live.get(at % live.len().max(1)).copied();
        match act {
            Act::Come(services) => {
                let (id, session) = come(&mut tree, now_ms, &services);
                count.sessions.insert(id, session);
            }
            Act::AllSilent(most) => {
                for id in live.into_iter().take(most) {
                    check_expiry(&mut tree, &mut count, id, Silence::Silent)?;
                }
            }
            Act::Silent(at) | Act::Refused(at) | Act::Answers(at) | Act::Confirmed(at) => {
                let why = match act {
                    Act::Silent(_) => Silence::Silent,
                    Act::Refused(_) => Silence::Refused,
                    Act::Answers(_) => Silence::Answers,
                    _ => Silence::Confirmed,
                };
                if let Some(id) = pick(at) {
                    check_expiry(&mut tree, &mut count, id, why)?;
                }
            }
            Act::Attach(at) => {
                let Some(session) = pick(at) else { continue };
                let attach =
                    Op::AttachSession { session, password: [3; 16], owner: None, timeout_ms: 5 };
                prop_assert!(apply(&mut tree, now_ms, SessionId::NONE, attach).is_ok());
                count.sessions.get_mut(&session).unwrap().suspect_since_ms = None;
            }
            Act::Close(at) => {
                let Some(session) = pick(at) else { continue };
                let close = Op::CloseSession { session, unless_moved_from: None };
                let closed = apply(&mut tree, now_ms, SessionId::NONE, close);
                prop_assert!(matches!(closed, Ok(Reply::Removed { .. })), "{closed:?}");
                count.sessions.remove(&session);
            }
        }
        check(&tree, &count)?;
    }
    // Who goes on from a snapshot goes on with the same budgets.
    let loaded = reload(&tree).map_err(TestCaseError::fail)?;
    check(&loaded, &count)?;
    prop_assert_eq!(dump(&loaded), dump(&tree));
    Ok(())
}

proptest! {
    #![proptest_config(super::config())]

    #[test]
    fn no_service_loses_more_than_its_share_by_silence(
        steps in vec((prop_oneof![3 => 0..400u64, 1 => 0..9_000u64], acts()), 1..80),
    ) {
        run(steps)?;
    }
}

/// Returns a tree with so many providers of `/s/a`.
fn with_providers(many: usize) -> (Tree, Vec<SessionId>) {
    let mut tree = tree();
    let sessions = (0..many).map(|_| come(&mut tree, 0, &[0]).0).collect();
    (tree, sessions)
}

#[test]
fn whatever_somebody_has_put_where_the_notes_go_nothing_breaks() {
    let (mut tree, sessions) = with_providers(20);
    let owner = sessions[19];
    // An ephemeral where the notes would go: nobody can be noted, so nobody is held for ever.
    apply(&mut tree, 0, owner, create("/roost/suspects", "", CreateMode::Ephemeral)).unwrap();
    for session in &sessions[..6] {
        let got = apply(&mut tree, 0, SessionId::NONE, expire(*session, Silence::Silent));
        assert!(matches!(got, Ok(Reply::Removed { .. })), "{got:?}");
    }
    let path = ZnodePath::parse("/roost/suspects").unwrap();
    apply(&mut tree, 0, SessionId::NONE, Op::Delete { path, version: None }).unwrap();
    let held = sessions[7];
    let note = format!("/roost/suspects/{}", sessions[6]);
    apply(&mut tree, 0, SessionId::NONE, expire(sessions[6], Silence::Silent)).unwrap();
    assert!(tree.get(&note).is_some(), "20 may lose 4");
    // A child of a note keeps it, and nothing else.
    apply(&mut tree, 0, SessionId::NONE, create(&format!("{note}/x"), "", CreateMode::Persistent))
        .unwrap();
    let close = Op::CloseSession { session: sessions[6], unless_moved_from: None };
    apply(&mut tree, 0, SessionId::NONE, close).unwrap();
    assert!(tree.get(&note).is_some() && tree.session(sessions[6]).is_none());
    // What a note says is nobody's to trust.
    let lie = create(&format!("/roost/suspects/{held}"), "{}", CreateMode::Persistent);
    apply(&mut tree, 0, SessionId::NONE, lie).unwrap();
    let got = apply(&mut tree, 0, SessionId::NONE, expire(held, Silence::Confirmed));
    assert_eq!(got.unwrap_err().code, Code::NoNode);
    let got = apply(&mut tree, 0, SessionId::NONE, expire(held, Silence::Silent));
    assert!(matches!(got, Ok(Reply::Held { .. })), "{got:?}");
    assert_eq!(tree.digest(), tree.recomputed_digest());
}

#[test]
fn one_session_of_a_small_service_goes_in_a_window_though_it_has_several_providers() {
    let mut tree = tree();
    let sessions: Vec<SessionId> = (0..3).map(|_| come(&mut tree, 0, &[0, 0]).0).collect();
    let mut silent = |session: SessionId, now_ms| {
        apply(&mut tree, now_ms, SessionId::NONE, expire(session, Silence::Silent)).unwrap()
    };
    assert!(matches!(silent(sessions[0], 0), Reply::Removed { .. }), "it is the first");
    assert_eq!(silent(sessions[1], 1), Reply::Held { for_ms: HOLD_MS });
    let over_ms = WINDOW_MS + 1;
    assert!(matches!(silent(sessions[1], over_ms), Reply::Removed { .. }), "the next window");
    assert_eq!(silent(sessions[2], over_ms), Reply::Held { for_ms: HOLD_MS });
}

#[test]
fn data_that_begin_or_cease_to_say_an_address_make_and_unmake_a_provider() {
    let (mut tree, sessions) = with_providers(1);
    let path = ZnodePath::parse(&format!("/s/a/{}-0", sessions[0])).unwrap();
    let present = |tree: &Tree| tree.standing("/s/a", 0).unwrap().present;
    assert_eq!(present(&tree), 1);
    for (data, expected) in [("nothing", 0), (r#"{"host":"h"}"#, 1), (r#"{"host":"i"}"#, 1)] {
        let data = Some(Data::new(data.as_bytes()));
        let op = Op::SetData { path: path.clone(), data, version: None };
        apply(&mut tree, 0, SessionId::NONE, op).unwrap();
        assert_eq!(present(&tree), expected);
    }
}
