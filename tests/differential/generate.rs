//! The random history: which session does what next. Requests are well formed but for a few, and speak of few
//! paths, so that they meet.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use roost::jute::{
    AddWatch, Auth, Create, CreateTtl, Ops, PathVersion, PathWatch, ReadOp, Request, SetAcl,
    SetData, SetWatches, SetWatches2, WatcherKind, WriteOp, opcodes,
};
use roost::types::{Acl, AclId, Data, Perms, ZnodePath};

/// Below it, access control lists are varied; elsewhere everything is open.
const CLOSED: &str = "/acl";
/// Where no znode ever is.
const NOWHERE: &str = "/nowhere";
/// Two identities with their passwords, and what ZooKeeper's digest makes of them.
const USERS: [(&str, &str); 2] =
    [("u1:p1", "u1:fpT/y03U+EjItKZOSLGvjnJlyng="), ("u2:p2", "u2:o9NxcCGDPOlcV7JVhmKHOf5ctVE=")];
/// Sequential znodes that are remembered, to be used again.
const KNOWN_MAX: usize = 40;

/// What happens next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The session in this slot sends these, all at once.
    Ask(usize, Vec<Request>),
    /// It sends the items of one kind of multi under the opcode of the other.
    AskMixed(usize, Request, i32),
    /// It asks what does not exist; the server closes the connection.
    AskNothing(usize, i32),
    /// It sends a request that ends within a value.
    AskHalf(usize, Request),
    /// It shows credentials of a sort that does not exist; the server closes the connection.
    AuthWrongly(usize),
    /// It ends, and another takes its slot.
    Close(usize),
    /// Its connection breaks.
    Break(usize),
    /// It connects again and restores watches; if it is still connected, the older connection has to end.
    Attach(usize, SetWatches2),
    /// Somebody tries its id with a wrong password. Not while it is connected: ZooKeeper then closes its
    /// connection.
    Impersonate(usize),
}

/// How a session may watch a path. ZooKeeper before 3.9 keeps one mode for a session and a path and forgets
/// the other (ZOOKEEPER-4466), so each path has one mode in each session.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    OneShot,
    Persistent,
    Recursive,
}

fn mode(slot: usize, path: &str) -> Mode {
    let hash = path.bytes().fold(0xcbf2_9ce4_8422_2325 + slot as u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    match (hash >> 32) % 4 {
        0 => Mode::Persistent,
        1 => Mode::Recursive,
        _ => Mode::OneShot,
    }
}

/// Returns whether a path lies where access control lists are varied.
pub(crate) fn is_closed(path: &str) -> bool {
    path.starts_with(CLOSED)
}

/// The source of steps.
pub(crate) struct Generator {
    rng: StdRng,
    known: Vec<String>,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Generator {
        Generator { rng: StdRng::seed_from_u64(seed), known: Vec::new() }
    }

    /// Remembers a znode with a name that the server chose.
    pub(crate) fn learn(&mut self, path: &str) {
        if path.ends_with(|last: char| last.is_ascii_digit()) {
            if self.known.len() == KNOWN_MAX {
                self.known.remove(0);
            }
            self.known.push(path.to_owned());
        }
    }

    /// Returns the next step; `connected` says so of each slot.
    pub(crate) fn step(&mut self, connected: &[bool]) -> Step {
        let slot = self.rng.random_range(0..connected.len());
        if !connected[slot] {
            return match self.rng.random_range(0..6) {
                0 => Step::Impersonate(slot),
                _ => Step::Attach(slot, self.set_watches(slot)),
            };
        }
        match self.rng.random_range(0..1000) {
            0..8 => Step::Close(slot),
            8..20 => Step::Break(slot),
            20..24 => Step::Attach(slot, self.set_watches(slot)),
            24..26 => Step::AskNothing(slot, *[0, -1, 10, 999].choose(&mut self.rng).unwrap()),
            26..32 => Step::AskHalf(slot, self.half()),
            32..34 => Step::AuthWrongly(slot),
            900..906 => self.mixed(slot),
            34..150 => {
                let count = self.rng.random_range(2..8);
                let mut requests: Vec<_> = (0..count).map(|_| self.request(slot)).collect();
                // Servers may answer these before what was asked earlier.
                requests.retain(|request| !matches!(request, Request::Auth(_) | Request::Ping));
                Step::Ask(slot, requests)
            }
            _ => Step::Ask(slot, vec![self.request(slot)]),
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all.choose(&mut self.rng).expect("a choice").clone()
    }

    /// A path of few: mostly valid, mostly open, mostly two deep.
    fn path(&mut self) -> String {
        match self.rng.random_range(0..100) {
            0..3 => "/".into(),
            3..5 => self.one_of(&["/zookeeper", "/zookeeper/quota"]).into(),
            5..7 => self.malformed().into(),
            7..20 => format!("{CLOSED}{}", self.below(0..2)),
            20..32 if !self.known.is_empty() => {
                let known = self.known.clone();
                self.one_of(&known)
            }
            _ => self.below(1..4),
        }
    }

    fn malformed(&mut self) -> &'static str {
        self.one_of(&["", "a", "//", "/a/", "/a//b", "/a/..", "/./a", "/a/\u{1}", "/\u{e000}"])
    }

    fn below(&mut self, depth: std::ops::Range<usize>) -> String {
        let depth = self.rng.random_range(depth);
        (0..depth).map(|_| format!("/{}", self.one_of(&["a", "b", "c", "é"]))).collect()
    }

    fn data(&mut self) -> Option<Data> {
        match self.rng.random_range(0..10) {
            0 => None,
            1 => Some(Data::new(&[])),
            2 => Some(Data::new(&[7; 3000])),
            _ => Some(Data::new(self.rng.random::<u32>().to_string().as_bytes())),
        }
    }

    fn version(&mut self) -> i32 {
        if self.chance(70) { -1 } else { self.rng.random_range(0..4) }
    }

    fn acl(&mut self, path: &str) -> Vec<Acl> {
        let rule = |perms, scheme: &str, id: &str| Acl {
            perms: Perms(perms),
            id: AclId { scheme: scheme.into(), id: id.into() },
        };
        let world = |perms| rule(perms, "world", "anyone");
        if self.chance(3) {
            return self.one_of(&[
                vec![],
                vec![rule(31, "nobody", "knows")],
                vec![rule(31, "digest", "without-a-colon")],
                vec![rule(31, "ip", "not an address")],
                vec![rule(31, "world", "someone")],
            ]);
        }
        if !is_closed(path) {
            return vec![world(31)];
        }
        let perms = self.one_of(&[31, 31, 1, 3, 5, 7, 8, 13, 16, 17]);
        let user = self.one_of(&USERS).1;
        match self.rng.random_range(0..8) {
            0 => vec![world(perms)],
            1 => vec![rule(31, "digest", user), world(1)],
            2 => vec![rule(perms, "digest", user)],
            3 => vec![rule(31, "auth", "")],
            4 => vec![rule(31, "ip", "127.0.0.1"), rule(perms, "digest", user)],
            5 => vec![rule(31, "ip", "10.0.0.0/8"), world(perms)],
            6 => vec![world(31), world(31)],
            _ => vec![world(31)],
        }
    }

    fn create(&mut self, flags: &[i32]) -> Create {
        let (mut path, flags) = (self.path(), self.one_of(flags));
        if [2, 3, 6].contains(&flags) && self.chance(60) {
            path += self.one_of(&["/", "-", "/n", "/.", "/.."]);
        }
        let acl = self.acl(&path);
        Create { path, data: self.data(), acl, flags }
    }

    fn write(&mut self) -> WriteOp {
        match self.rng.random_range(0..100) {
            0..25 => WriteOp::Create2(self.create(&[0, 0, 0, 1, 1, 2, 3])),
            25..40 => WriteOp::Create(self.create(&[0, 0, 0, 1, 1, 2, 3])),
            40..44 => WriteOp::CreateContainer(self.create(&[4])),
            44..50 => {
                let ttl_ms = self.one_of(&[86_400_000, 3_600_000, (1 << 40) - 1]);
                WriteOp::CreateTtl(CreateTtl { create: self.create(&[5, 6]), ttl_ms })
            }
            50..75 => WriteOp::Delete(self.path_version()),
            75..94 => {
                let (path, data, version) = (self.path(), self.data(), self.version());
                WriteOp::SetData(SetData { path, data, version })
            }
            _ => WriteOp::Check(self.path_version()),
        }
    }

    /// A change that may be asked for by itself: sometimes one that makes no sense.
    fn single_write(&mut self) -> Request {
        if self.chance(2) {
            let create = self.create(&[5, 6, 7, -1]);
            return Request::Write(if self.chance(50) {
                WriteOp::Create(create)
            } else {
                WriteOp::Create2(create)
            });
        }
        if self.chance(2) {
            let (create, ttl_ms) = (self.create(&[5, 6]), self.one_of(&[0, -1, 1 << 40, i64::MIN]));
            return Request::Write(WriteOp::CreateTtl(CreateTtl { create, ttl_ms }));
        }
        if self.chance(2) {
            return Request::Write(self.odd_kind());
        }
        loop {
            let op = self.write();
            if !matches!(op, WriteOp::Check(_)) {
                return Request::Write(op);
            }
        }
    }

    /// A kind that ZooKeeper makes something of and roost refuses, where neither can make a znode.
    fn odd_kind(&mut self) -> WriteOp {
        let mut create = self.create(&[0]);
        create.path = format!("{NOWHERE}{}", self.below(1..3));
        match self.one_of(&[true, false]) {
            true => {
                create.flags = self.one_of(&[0, 1, 2, 3]);
                WriteOp::CreateContainer(create)
            }
            false => {
                create.flags = 4;
                self.one_of(&[WriteOp::Create(create.clone()), WriteOp::Create2(create)])
            }
        }
    }

    fn path_version(&mut self) -> PathVersion {
        PathVersion { path: self.path(), version: self.version() }
    }

    fn watch(&mut self, slot: usize) -> PathWatch {
        let path = self.path();
        let watch = self.chance(75) && mode(slot, &path) == Mode::OneShot;
        PathWatch { path, watch }
    }

    fn exists(&mut self, slot: usize) -> PathWatch {
        let PathWatch { path, watch } = self.watch(slot);
        let watch = watch && !is_closed(&path);
        PathWatch { path, watch }
    }

    /// A path that may exist.
    fn valid_path(&mut self) -> String {
        loop {
            let path = self.path();
            if ZnodePath::parse(&path).is_ok() {
                return path;
            }
        }
    }

    fn kind(&mut self, slot: usize) -> WatcherKind {
        let path = self.valid_path();
        let kinds: &[i32] = if mode(slot, &path) == Mode::OneShot { &[1, 2, 3] } else { &[3] };
        WatcherKind { path, kind: self.one_of(kinds) }
    }

    fn read(&mut self, slot: usize) -> ReadOp {
        let watch = self.watch(slot);
        if self.chance(60) { ReadOp::GetData(watch) } else { ReadOp::GetChildren(watch) }
    }

    fn add_watch(&mut self, slot: usize) -> Request {
        let path = self.valid_path();
        match mode(slot, &path) {
            Mode::OneShot => Request::Exists(PathWatch { watch: !is_closed(&path), path }),
            Mode::Persistent => Request::AddWatch(AddWatch { path, mode: 0 }),
            Mode::Recursive => Request::AddWatch(AddWatch { path, mode: 1 }),
        }
    }

    fn paths(&mut self, slot: usize, wanted: Mode) -> Vec<String> {
        let count = self.rng.random_range(0..8);
        let mut paths: Vec<_> = (0..count).map(|_| self.below(1..4)).collect();
        paths.retain(|path| mode(slot, path) == wanted);
        paths.sort();
        paths.dedup();
        paths
    }

    fn set_watches(&mut self, slot: usize) -> SetWatches2 {
        SetWatches2 {
            one_shot: SetWatches {
                relative_zxid: 0,
                data: self.paths(slot, Mode::OneShot),
                exist: self.paths(slot, Mode::OneShot),
                child: self.paths(slot, Mode::OneShot),
            },
            persistent: self.paths(slot, Mode::Persistent),
            persistent_recursive: self.paths(slot, Mode::Recursive),
        }
    }

    fn multi(&mut self) -> Request {
        let count = self.rng.random_range(0..6);
        let mut ops: Vec<WriteOp> = (0..count).map(|_| self.write()).collect();
        if self.chance(6) {
            // A number that is no kind of znode, or a kind that the op does not make.
            let create = self.create(&[7, -1, i32::MAX, 5, 6]);
            let (plain, ttl) = (create.flags < 5 || create.flags > 6, 3_600_000);
            let odd = match self.rng.random_range(0..4) {
                0 => WriteOp::Create(create),
                1 => WriteOp::Create2(create),
                2 if plain => WriteOp::CreateContainer(create),
                _ if plain => WriteOp::CreateTtl(CreateTtl { create, ttl_ms: ttl }),
                _ => {
                    WriteOp::CreateTtl(CreateTtl { create, ttl_ms: self.one_of(&[0, -1, 1 << 40]) })
                }
            };
            ops.insert(self.rng.random_range(0..=ops.len()), odd);
        }
        Request::Multi(Ops(ops))
    }

    /// Items that have no place in the multi in which they stand.
    fn mixed(&mut self, slot: usize) -> Step {
        let read = self.read(slot);
        let (reads, write) = (Request::MultiRead(Ops(vec![read])), self.write());
        match self.one_of(&[true, false]) {
            true => Step::AskMixed(slot, reads, opcodes::MULTI),
            false => Step::AskMixed(slot, Request::Multi(Ops(vec![write])), opcodes::MULTI_READ),
        }
    }

    fn multi_read(&mut self, slot: usize) -> Request {
        let count = self.rng.random_range(0..5);
        let read = |generator: &mut Generator| match generator.read(slot) {
            ReadOp::GetData(watch) => ReadOp::GetData(PathWatch { watch: false, ..watch }),
            ReadOp::GetChildren(watch) => ReadOp::GetChildren(PathWatch { watch: false, ..watch }),
        };
        Request::MultiRead(Ops((0..count).map(|_| read(self)).collect()))
    }

    fn request(&mut self, slot: usize) -> Request {
        match self.rng.random_range(0..1000) {
            0..420 => self.single_write(),
            420..500 => self.multi(),
            500..580 => Request::Exists(self.exists(slot)),
            580..700 => Request::Read(self.read(slot)),
            700..760 => Request::GetChildren2(self.watch(slot)),
            760..790 => Request::GetAcl(self.path()),
            790..830 => {
                let path = self.path();
                let (acl, version) = (self.acl(&path), self.version());
                Request::SetAcl(SetAcl { path, acl, version })
            }
            830..850 => Request::Sync(self.path()),
            850..880 => self.multi_read(slot),
            880..930 => self.add_watch(slot),
            930..940 => Request::RemoveWatches(self.kind(slot)),
            940..950 => Request::CheckWatches(self.kind(slot)),
            950..962 => {
                Request::GetEphemerals(self.one_of(&["", "/", "/a", "/b/", "/nowhere"]).into())
            }
            962..974 => Request::GetAllChildrenNumber(self.path()),
            974..980 => Request::WhoAmI,
            980..990 => {
                let auth = Some(Data::new(self.one_of(&USERS).0.as_bytes()));
                Request::Auth(Auth { kind: 0, scheme: "digest".into(), auth })
            }
            990..996 => Request::SetWatches2(self.set_watches(slot)),
            _ => Request::Ping,
        }
    }

    fn half(&mut self) -> Request {
        self.one_of(&[
            Request::GetAcl("/a".into()),
            Request::Write(WriteOp::Delete(PathVersion { path: "/a".into(), version: -1 })),
            Request::Read(ReadOp::GetData(PathWatch { path: "/a".into(), watch: true })),
            Request::GetAllChildrenNumber("/a".into()),
        ])
    }
}
