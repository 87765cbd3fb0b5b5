//! How instances stand against a plain table: whatever comes, goes, falls silent, is found by probes and tries to write where only
//! the tree does, the notes are those of the table, go with their instances, and move the signs and revisions of their lists.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::test_runner::TestCaseError;
use roost::registry::{self, HEALTH, Health, health_note, noted_at};
use roost::traffic::SUSPECTS;
use roost::tree::Tree;
use roost::types::{
    Acl, AclId, Applied, Code, CreateMode, Data, Op, Outcome, Perms, Reply, SessionId, Silence,
    Txn, TxnTime, ZnodePath, Zxid,
};

use super::{dump, reload};

/// The last is the list of no service.
const LISTS: [&str; 3] = ["/services/web/providers", "/dubbo/a/providers", "/elsewhere"];

#[derive(Clone, Debug)]
enum Act {
    /// A session comes with an instance in this list.
    Come(usize),
    /// The instance with this number says where it is, or nothing of the kind.
    Say(usize, bool),
    /// A probe has found that it works or not; of this registration, or of another.
    Found(usize, bool, bool),
    /// It goes.
    Leave(usize),
    /// It goes and comes back at once, and is found not to work before or not at all.
    Replace(usize),
    Silent(usize),
    /// The note of its session's silence is taken back, or overwritten with nothing.
    Heard(usize, bool),
    Attach(usize),
    Close(usize),
    /// Its list is closed to some.
    Acl(usize),
    /// Somebody writes where its note is.
    Forge(usize, u8),
}

fn acts() -> impl Strategy<Value = Act> {
    let at = || 0..64usize;
    prop_oneof![
        6 => (0..LISTS.len()).prop_map(Act::Come),
        2 => (at(), any::<bool>()).prop_map(|(at, is_place)| Act::Say(at, is_place)),
        8 => (at(), any::<bool>(), proptest::bool::weighted(0.9))
            .prop_map(|(at, works, is_this)| Act::Found(at, works, is_this)),
        1 => at().prop_map(Act::Leave),
        1 => at().prop_map(Act::Replace),
        4 => at().prop_map(Act::Silent),
        3 => (at(), any::<bool>()).prop_map(|(at, is_gone)| Act::Heard(at, is_gone)),
        1 => at().prop_map(Act::Attach),
        1 => at().prop_map(Act::Close),
        1 => at().prop_map(Act::Acl),
        2 => (at(), any::<u8>()).prop_map(|(at, how)| Act::Forge(at, how)),
    ]
}

/// What the table has of an instance.
#[derive(Clone, Debug)]
struct Row {
    session: SessionId,
    czxid: Zxid,
    is_place: bool,
    unhealthy: bool,
    suspect: bool,
    since: Zxid,
}

impl Row {
    fn health(&self) -> Health {
        match (self.unhealthy, self.suspect) {
            (true, _) => Health::Unhealthy,
            (false, true) => Health::Suspect,
            _ => Health::Healthy,
        }
    }
}

struct World {
    tree: Tree,
    rows: BTreeMap<ZnodePath, Row>,
    now_ms: u64,
}

impl World {
    fn new() -> World {
        let mut world = World { tree: Tree::new(), rows: BTreeMap::new(), now_ms: 0 };
        let folders =
            ["/services", "/services/web", LISTS[0], "/dubbo", "/dubbo/a", LISTS[1], LISTS[2]];
        for folder in folders {
            let made = create(&path(folder), b"", CreateMode::Persistent);
            world.apply(SessionId::NONE, made).result.unwrap();
        }
        world
    }

    fn apply(&mut self, session: SessionId, op: Op) -> Applied {
        self.now_ms += 7;
        let txn = Txn {
            origin: Default::default(),
            session,
            owner: None,
            authority: vec![AclId { scheme: "super".to_owned(), id: String::new() }],
            idempotency_key: None,
            op,
        };
        let time = TxnTime { wall_ms: self.now_ms, cluster_ms: self.now_ms };
        let Outcome::Applied(applied) = self.tree.apply(time, &txn) else {
            panic!("it is taken up")
        };
        // Of whom it is said anew, or no more, that their session is suspect, with the transaction that says so.
        let notes = applied.events.iter().filter(|event| event.path.parent_str() == Some(SUSPECTS));
        let turned: Vec<&str> = notes.map(|event| event.path.name()).collect();
        for row in self.rows.values_mut() {
            let is_suspect = self.tree.suspect(row.session).is_some();
            let turns = turned.contains(&row.session.to_string().as_str());
            if turns && row.suspect != is_suspect && (row.is_place || !is_suspect) {
                (row.suspect, row.since) = (is_suspect, applied.zxid);
            }
        }
        let tree = &self.tree;
        self.rows.retain(|path, row| {
            tree.get(path.as_str()).is_some_and(|znode| znode.stat().czxid == row.czxid)
        });
        applied
    }

    fn enter(&mut self, at: ZnodePath, session: SessionId) {
        let czxid = self.tree.zxid();
        let (is_place, unhealthy, suspect, since) = (true, false, false, Zxid(0));
        self.rows.insert(at, Row { session, czxid, is_place, unhealthy, suspect, since });
    }

    fn pick(&self, at: usize) -> Option<(ZnodePath, Row)> {
        let (path, row) = self.rows.iter().nth(at % self.rows.len().max(1))?;
        Some((path.clone(), row.clone()))
    }

    fn act(&mut self, act: Act) -> Result<(), TestCaseError> {
        let at = match act {
            Act::Come(list) => {
                let open = Op::OpenSession { timeout_ms: 5, password: [3; 16], owner: None };
                let opened = self.apply(SessionId::NONE, open).result;
                let Ok(Reply::Session { session, .. }) = opened else { panic!("it opens") };
                let at = path(&format!("{}/{session}", LISTS[list]));
                let made = create(&at, place(), CreateMode::Ephemeral);
                prop_assert!(self.apply(session, made).result.is_ok());
                self.enter(at, session);
                return Ok(());
            }
            Act::Say(at, _)
            | Act::Found(at, ..)
            | Act::Leave(at)
            | Act::Replace(at)
            | Act::Silent(at)
            | Act::Heard(at, _)
            | Act::Attach(at)
            | Act::Close(at)
            | Act::Acl(at)
            | Act::Forge(at, _) => at,
        };
        let Some((at, row)) = self.pick(at) else { return Ok(()) };
        let note = path(&format!("{SUSPECTS}/{}", row.session));
        let op = match act {
            Act::Come(_) => return Ok(()),
            Act::Found(_, works, is_this) => {
                let czxid = if is_this { row.czxid } else { Zxid(row.czxid.0 + 1) };
                let set = Op::SetHealth { path: at.clone(), czxid, works, term: 1 };
                let Applied { zxid, result, .. } = self.apply(SessionId::NONE, set);
                match result {
                    Err(failure) => prop_assert_eq!((failure.code, is_this), (Code::NoNode, false)),
                    Ok(Reply::Checked) => prop_assert_eq!(row.unhealthy, !works),
                    Ok(_) => {
                        prop_assert_eq!(row.unhealthy, works);
                        let row = self.rows.get_mut(&at).unwrap();
                        (row.unhealthy, row.since) = (!works, zxid);
                    }
                }
                return Ok(());
            }
            Act::Say(_, is_place) => {
                let data = Some(Data::new(if is_place { place() } else { b"nothing" }));
                self.rows.get_mut(&at).unwrap().is_place = is_place;
                Op::SetData { path: at, data, version: None }
            }
            Act::Leave(_) => Op::Delete { path: at, version: None },
            Act::Replace(_) => {
                let gone = Op::Delete { path: at.clone(), version: None };
                let made = create(&at, place(), CreateMode::Ephemeral);
                let replaced = self.apply(row.session, Op::Multi(vec![gone, made]));
                prop_assert!(replaced.result.is_ok());
                self.enter(at, row.session);
                return Ok(());
            }
            Act::Silent(_) => expire(row.session),
            Act::Heard(_, true) => Op::Delete { path: note, version: None },
            Act::Heard(_, false) => Op::SetData { path: note, data: None, version: None },
            Act::Attach(_) => {
                let (session, password) = (row.session, [3; 16]);
                Op::AttachSession { session, password, owner: None, timeout_ms: 5 }
            }
            Act::Close(_) => Op::CloseSession { session: row.session, unless_moved_from: None },
            Act::Acl(at) => {
                let id = AclId { scheme: "ip".to_owned(), id: format!("10.0.0.{}", at % 3) };
                let acl = vec![Acl { perms: Perms::READ, id }];
                Op::SetAcl { path: path(LISTS[at % LISTS.len()]), acl, aversion: None }
            }
            Act::Forge(_, how) => {
                let note = health_note(&at).unwrap();
                let (data, folder) = (Some(Data::new(b"{}")), note.parent().unwrap());
                let czxid = self.tree.get(note.as_str()).map_or(Zxid(9), |it| it.stat().czxid);
                let forged = match how % 5 {
                    0 => create(&note, b"{}", CreateMode::Persistent),
                    1 => Op::SetData { path: note, data, version: None },
                    2 => Op::Delete { path: note, version: None },
                    3 => Op::Deregister { candidates: vec![(note, czxid)] },
                    _ => create(&folder, b"", CreateMode::Persistent),
                };
                let result = self.apply(SessionId::NONE, forged).result;
                prop_assert_eq!(result.unwrap_err().code, Code::BadArguments);
                return Ok(());
            }
        };
        // A note of silence that is not there cannot be touched: that is no matter here.
        self.apply(SessionId::NONE, op);
        Ok(())
    }

    fn check(&self, tree: &Tree) -> Result<(), TestCaseError> {
        prop_assert_eq!(tree.digest(), tree.recomputed_digest());
        prop_assert_eq!(tree.services(), &tree.found_services());
        let mut noted = 0;
        for (path, row) in &self.rows {
            let expected = (row.health(), row.since);
            prop_assert_eq!(tree.health(path, row.czxid), expected, "of {}", path);
            prop_assert_eq!(tree.health(path, Zxid(row.czxid.0 + 1)), Default::default());
            let note = tree.get(health_note(path).unwrap().as_str());
            prop_assert_eq!(note.is_some(), row.since > Zxid(0), "the note of {}", path);
            noted += usize::from(note.is_some());
            let list = path.parent_str().and_then(|list| tree.get(list));
            if let Some(folder) =
                note.and_then(|_| tree.get(health_note(path).unwrap().parent_str()?))
            {
                prop_assert_eq!(folder.acl(), list.unwrap().acl());
            }
        }
        let notes = tree.descendants(HEALTH).filter(|(path, _)| {
            noted_at(path.as_str()).is_some_and(|it| self.rows.contains_key(&it))
        });
        prop_assert_eq!(notes.count(), noted);
        let leaves = tree
            .descendants(HEALTH)
            .filter(|(_, znode)| znode.data().is_some_and(|it| !it.is_empty()));
        prop_assert_eq!(leaves.count(), noted, "a note outlives its instance");
        let unhealthy = self.rows.iter().filter(|(_, row)| row.unhealthy);
        let unhealthy: Vec<_> = unhealthy.map(|(path, row)| (path.clone(), row.czxid)).collect();
        let mut found: Vec<_> = tree.unhealthy().collect();
        found.sort();
        prop_assert_eq!(found, unhealthy);
        for list in &LISTS[..2] {
            let of_list = self.rows.iter().filter(|(path, _)| path.parent_str() == Some(list));
            let mut sign = 0u64;
            for (path, row) in of_list {
                let modified = tree.get(path.as_str()).unwrap().stat().mzxid.max(row.since);
                let one = registry::sign(path.name(), row.czxid.0, modified.0);
                sign = sign.wrapping_add(one);
                prop_assert!(tree.services().list(list).unwrap().revision >= modified);
            }
            prop_assert_eq!(tree.services().list(list).unwrap().sign, sign, "of {}", list);
        }
        Ok(())
    }
}

fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).unwrap()
}

fn place() -> &'static [u8] {
    br#"{"host":"10.0.0.1","port":80}"#
}

fn create(path: &ZnodePath, data: &[u8], mode: CreateMode) -> Op {
    let (parent, name) = (path.parent().unwrap(), path.name().to_owned());
    Op::Create { parent, name, data: Some(Data::new(data)), acl: Vec::new(), mode }
}

fn expire(session: SessionId) -> Op {
    Op::Expire { session, unless_moved_from: None, why: Silence::Silent, term: None }
}

proptest! {
    #![proptest_config(super::config())]

    #[test]
    fn what_is_known_of_instances_is_what_was_found_and_goes_with_them(
        steps in vec(acts(), 1..80),
    ) {
        let mut world = World::new();
        for act in steps {
            let before = world.tree.zxid();
            let act_text = format!("{act:?}");
            world.act(act)?;
            world.check(&world.tree)
                .map_err(|why| TestCaseError::fail(format!("after {act_text} at {before}: {why}")))?;
        }
        let loaded = reload(&world.tree).map_err(TestCaseError::fail)?;
        world.check(&loaded)?;
        prop_assert_eq!(loaded.services(), world.tree.services());
        prop_assert_eq!(dump(&loaded), dump(&world.tree));
    }
}

#[test]
fn what_cannot_be_noted_is_refused_and_hurts_nobody() {
    let mut world = World::new();
    let long = path(&format!("/elsewhere/{}", "x".repeat(4_080)));
    let made = create(&long, place(), CreateMode::Persistent);
    world.apply(SessionId::NONE, made).result.unwrap();
    let czxid = world.tree.zxid();
    let set = |path: &ZnodePath, czxid| Op::SetHealth {
        path: path.clone(),
        czxid,
        works: false,
        term: 1,
    };
    let refused = world.apply(SessionId::NONE, set(&long, czxid)).result.unwrap_err();
    assert_eq!(refused.code, Code::BadArguments);
    // A note is no instance.
    world.act(Act::Come(0)).unwrap();
    let (at, row) = world.pick(0).unwrap();
    world.apply(SessionId::NONE, set(&at, row.czxid)).result.unwrap();
    let note = health_note(&at).unwrap();
    let czxid = world.tree.get(note.as_str()).unwrap().stat().czxid;
    let refused = world.apply(SessionId::NONE, set(&note, czxid)).result.unwrap_err();
    assert_eq!(refused.code, Code::BadArguments);
    // It is done by nobody as one of several.
    let refused = world.apply(SessionId::NONE, Op::Multi(vec![set(&at, row.czxid)]));
    assert_eq!(refused.result.unwrap_err().code, Code::BadArguments);
}
