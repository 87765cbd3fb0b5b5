//! Clients with a seed. Each has one request on its way, through one node or another, and tells the checker what it saw.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use roost::node::{Answer, Consistency, Node, Request};
use roost::tree::Tree;
use roost::types::{CreateMode, Data, Error, NodeId, Op, Reply, SessionId, ZnodePath, Zxid};

use crate::check::{Checker, Seen};
use crate::world::{Slot, World};

/// The znodes that are written over and over.
pub(crate) const KEYS: [&str; 4] = ["/k/0", "/k/1", "/k/2", "/k/3"];

/// What a client is there for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Reads, writes and deletes single znodes, and pairs of them.
    Register,
    /// Adds to a list under a key of its own, and asks again until it knows that it has.
    Append,
    /// Keeps sessions with an ephemeral each.
    Session,
}

enum Outcome {
    Wrote(Result<Answer, Error>),
    Read(Result<Arc<Tree>, Error>),
    Renewed(Result<bool, Error>),
}

#[derive(Clone)]
enum What {
    /// Puts this data at these paths.
    Write(Vec<String>, Vec<u8>),
    Read(Consistency, Zxid),
    Append(Vec<u8>),
    Open(u64),
    Ephemeral(SessionId, String),
    Ttl(String, u64),
    Renew(SessionId, u64),
    Close,
}

struct Pending {
    node: NodeId,
    start: u64,
    call_us: u64,
    what: What,
    slot: Slot<Outcome>,
}

struct Session {
    id: SessionId,
    opened: u64,
    timeout_us: u64,
    renew_at_us: u64,
    has_ephemeral: bool,
    /// How often it is renewed before its client forgets it.
    renewals: u32,
}

/// One client.
pub(crate) struct Client {
    name: usize,
    role: Role,
    random: StdRng,
    home: NodeId,
    free_at_us: u64,
    made: u64,
    /// What it has not got an answer to, and when it first asked.
    unsure: Option<(Vec<u8>, u64)>,
    seen: Zxid,
    session: Option<Session>,
    pending: Option<Pending>,
}

fn request(op: Op) -> Request {
    Request {
        session: SessionId::NONE,
        owner: None,
        authority: Vec::new(),
        idempotency_key: None,
        op,
    }
}

fn path(text: &str) -> ZnodePath {
    ZnodePath::parse(text).expect("the paths here are valid")
}

/// Creates a znode.
pub(crate) fn create(text: &str, data: &[u8], mode: CreateMode) -> Op {
    let (parent, name) = ZnodePath::parse_sequential(text).expect("the paths here are valid");
    Op::Create { parent, name, data: Some(Data::new(data)), acl: Vec::new(), mode }
}

/// Carries out a write that nothing refuses.
pub(crate) async fn done(node: Node, op: Op) -> Reply {
    let what = format!("{op:?}");
    let answer = node.submit(request(op)).await.unwrap_or_else(|err| panic!("{what}: {err}"));
    answer.result.unwrap_or_else(|failure| panic!("{what}: {failure:?}"))
}

/// Sets the data of a znode.
pub(crate) fn set(text: &str, data: &[u8], version: Option<i32>) -> Op {
    Op::SetData { path: path(text), data: Some(Data::new(data)), version }
}

fn value(tree: &Tree, path: &str) -> Option<(Vec<u8>, i32)> {
    let znode = tree.get(path)?;
    Some((znode.data().map(|data| data.to_vec()).unwrap_or_default(), znode.stat().version))
}

impl Client {
    pub(crate) fn new(seed: u64, name: usize, role: Role, home: NodeId) -> Client {
        Client {
            name,
            role,
            random: StdRng::seed_from_u64(seed ^ (name as u64 + 1) << 32),
            home,
            free_at_us: 0,
            made: 0,
            unsure: None,
            seen: Zxid(0),
            session: None,
            pending: None,
        }
    }

    /// Hears the answer to what it asked, or asks something. With `ask` false it only finishes what it has begun.
    pub(crate) fn step(&mut self, world: &World, checker: &mut Checker, ask: bool) {
        if let Some(pending) = self.pending.take() {
            let outcome = pending.slot.lock().take();
            let lives = world.is_up(pending.node) && world.starts(pending.node) == pending.start;
            match outcome {
                Some(outcome) => self.hear(world.now_us, pending, outcome, checker),
                None if lives => self.pending = Some(pending),
                None => self.rest(world.now_us),
            }
        } else if world.now_us >= self.free_at_us && (ask || self.unsure.is_some()) {
            self.ask(world, checker);
        }
    }

    /// Returns whether it waits for nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_none() && self.unsure.is_none()
    }

    fn rest(&mut self, now_us: u64) {
        self.free_at_us = now_us + self.random.random_range(0..30_000);
    }

    fn ask(&mut self, world: &World, checker: &mut Checker) {
        let ids = world.ids();
        let node = match self.random.random_range(0..5) {
            0 => ids[self.random.random_range(0..ids.len())],
            _ => self.home,
        };
        let Some(handle) = world.node(node).filter(|_| !world.is_paused(node)) else {
            self.home = ids[self.random.random_range(0..ids.len())];
            return self.rest(world.now_us);
        };
        let Some((what, work)) = self.next(world, &handle, checker) else {
            return self.rest(world.now_us);
        };
        let slot = world.spawn_on(node, |_| work);
        let start = world.starts(node);
        self.pending = Some(Pending { node, start, call_us: world.now_us, what, slot });
    }

    fn next(
        &mut self,
        world: &World,
        node: &Node,
        checker: &mut Checker,
    ) -> Option<(What, BoxFuture<'static, Outcome>)> {
        match self.role {
            Role::Register => Some(self.next_of_register(node)),
            Role::Append => {
                let (payload, _) = self.unsure.get_or_insert_with(|| {
                    self.made += 1;
                    (format!("{}-{}", self.name, self.made).into_bytes(), world.now_us)
                });
                let payload = payload.clone();
                checker.appended(&payload, None);
                let op = create("/q/x-", &payload, CreateMode::PersistentSequential);
                let key = Some(String::from_utf8_lossy(&payload).into_owned());
                let request = Request { idempotency_key: key, ..request(op) };
                Some((What::Append(payload), write(node, request)))
            }
            Role::Session => self.next_of_session(world.now_us, node, checker),
        }
    }

    fn next_of_register(&mut self, node: &Node) -> (What, BoxFuture<'static, Outcome>) {
        self.made += 1;
        let data = format!("{}-{}", self.name, self.made).into_bytes();
        let key = KEYS[self.random.random_range(0..KEYS.len())];
        let version = node.local().get(key).map(|znode| znode.stat().version);
        let what = What::Write(vec![key.to_owned()], data.clone());
        match self.random.random_range(0..100) {
            0..25 => (what, write(node, request(set(key, &data, None)))),
            25..35 => (what, write(node, request(set(key, &data, version)))),
            35..40 => (what, write(node, request(create(key, &data, CreateMode::Persistent)))),
            40..44 => {
                let op = Op::Delete { path: path(key), version };
                (What::Write(Vec::new(), data), write(node, request(op)))
            }
            44..54 => {
                let both = ["/m/a", "/m/b"];
                let mut ops: Vec<Op> = both.iter().map(|path| set(path, &data, None)).collect();
                if self.random.random_range(0..2) == 0 {
                    // It fails, or makes sure that the key is there: then all of it is done, or nothing.
                    ops.push(Op::Check { path: path(key), version });
                }
                let what = What::Write(both.map(str::to_owned).to_vec(), data);
                (what, write(node, request(Op::Multi(ops))))
            }
            54..57 => {
                let ttl_ms = self.random.random_range(300..1_500);
                let path = format!("/t/{}-{}", self.name, self.made);
                let op = create(&path, &data, CreateMode::Ttl(ttl_ms));
                (What::Ttl(path, ttl_ms * 1_000), write(node, request(op)))
            }
            _ => {
                let consistency = match self.random.random_range(0..10) {
                    0..7 => Consistency::Linearizable,
                    7..9 => Consistency::Sequential,
                    _ => Consistency::Stale,
                };
                let (node, seen) = (node.clone(), self.seen);
                let work = async move {
                    Outcome::Read(node.read(consistency, seen).await.map(|view| view.tree))
                };
                (What::Read(consistency, seen), work.boxed())
            }
        }
    }

    fn next_of_session(
        &mut self,
        now_us: u64,
        node: &Node,
        checker: &mut Checker,
    ) -> Option<(What, BoxFuture<'static, Outcome>)> {
        let Some(session) = &mut self.session else {
            let timeout_ms = self.random.random_range(400..2_500);
            let password = node.new_password();
            let op = Op::OpenSession { timeout_ms, password, owner: None };
            return Some((What::Open(u64::from(timeout_ms) * 1_000), write(node, request(op))));
        };
        let id = session.id;
        if !session.has_ephemeral {
            session.has_ephemeral = true;
            self.made += 1;
            let path = format!("/e/{}-{}", self.name, self.made);
            let op = create(&path, b"", CreateMode::Ephemeral);
            return Some((
                What::Ephemeral(id, path),
                write(node, Request { session: id, ..request(op) }),
            ));
        }
        if now_us < session.renew_at_us {
            return None;
        }
        if session.renewals == 0 {
            self.session = None;
            if self.random.random_range(0..2) == 0 {
                return None;
            }
            checker.closing(id);
            let op = Op::CloseSession { session: id, unless_moved_from: None };
            return Some((What::Close, write(node, request(op))));
        }
        session.renewals -= 1;
        session.renew_at_us = now_us + session.timeout_us / 3;
        let (node, timeout_us) = (node.clone(), session.timeout_us);
        let work = async move { Outcome::Renewed(node.renew(id).await) };
        Some((What::Renew(id, timeout_us), work.boxed()))
    }

    fn hear(&mut self, now_us: u64, pending: Pending, outcome: Outcome, checker: &mut Checker) {
        self.rest(now_us);
        let Pending { call_us, what, .. } = pending;
        match (what, outcome) {
            (what, Outcome::Wrote(Ok(answer))) => {
                self.hear_write(now_us, call_us, what, answer, checker)
            }
            (What::Read(consistency, least), Outcome::Read(Ok(tree))) => {
                let zxid = tree.zxid();
                let is_linearizable = consistency == Consistency::Linearizable;
                checker.ended("a read", call_us, now_us, zxid.0, is_linearizable);
                if consistency != Consistency::Stale && zxid < least {
                    checker
                        .violations
                        .push(format!("a read at {zxid} of one that had seen {least}"));
                }
                self.seen = self.seen.max(zxid);
                let all = KEYS.into_iter().chain(["/m/a", "/m/b"]);
                let seen: Vec<Seen> =
                    all.map(|path| (path.to_owned(), value(&tree, path))).collect();
                checker.read(zxid.0, seen);
            }
            (What::Renew(session, timeout_us), Outcome::Renewed(Ok(lives))) => {
                checker.note(("renewed", now_us, session, lives));
                match (lives, &self.session) {
                    (true, Some(held)) => {
                        checker.promised(session, held.opened, call_us + timeout_us)
                    }
                    _ => self.session = None,
                }
            }
            _ => checker.note(("nothing", now_us, self.name)),
        }
    }

    fn hear_write(
        &mut self,
        now_us: u64,
        call_us: u64,
        what: What,
        answer: Answer,
        checker: &mut Checker,
    ) {
        let zxid = answer.zxid.0;
        // The answer to what was asked before is of the first time.
        let began_us = match (&what, self.unsure.take()) {
            (What::Append(_), Some((_, first_us))) => first_us,
            _ => call_us,
        };
        checker.ended("a write", began_us, now_us, zxid, true);
        self.seen = self.seen.max(answer.zxid);
        let Ok(reply) = answer.result else { return };
        match (what, reply) {
            (What::Write(paths, data), _) => {
                paths.iter().for_each(|path| checker.wrote(zxid, path, &data));
            }
            (What::Append(payload), Reply::Created { path, .. }) => {
                checker.appended(&payload, Some(path.to_string()));
                checker.wrote(zxid, path.as_str(), &payload);
            }
            (What::Open(timeout_us), Reply::Session { session, .. }) => {
                checker.promised(session, zxid, call_us + timeout_us);
                self.session = Some(Session {
                    id: session,
                    opened: zxid,
                    timeout_us,
                    renew_at_us: now_us + timeout_us / 3,
                    has_ephemeral: false,
                    renewals: self.random.random_range(0..12),
                });
            }
            (What::Ephemeral(session, path), _) => checker.guard(path, zxid, Ok(session)),
            (What::Ttl(path, ttl_us), _) => checker.guard(path, zxid, Err(call_us + ttl_us)),
            _ => {}
        }
    }
}

fn write(node: &Node, request: Request) -> BoxFuture<'static, Outcome> {
    let node = node.clone();
    async move { Outcome::Wrote(node.submit(request).await) }.boxed()
}
