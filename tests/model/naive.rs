//! The semantics of the tree written as plainly as possible: one map of texts, counts by scanning, copies
//! instead of undo. Shares nothing with the tree but the vocabulary.

use std::collections::BTreeMap;

use roost::tree::Lifetime;
use roost::types::{
    Acl, AclId, Applied, Code, CreateMode, Data, Event, EventKind, Failure, Op, Outcome, Owner,
    Password, Perms, Reply, SessionId, Silence, Stat, Txn, TxnTime, ZnodePath, Zxid,
};

use super::{SessionDump, ZnodeDump};

#[derive(Clone, Debug)]
struct Node {
    data: Option<Data>,
    acl: Vec<Acl>,
    czxid: u64,
    mzxid: u64,
    pzxid: u64,
    ctime: u64,
    mtime: u64,
    version: i32,
    aversion: i32,
    /// Children ever created and ever deleted, less the built-in ones.
    creations: i32,
    deletions: i32,
    lifetime: Lifetime,
}

type Kept = (SessionId, String, u64, Result<Reply, Failure>);

#[derive(Clone, Debug)]
pub(crate) struct Naive {
    nodes: BTreeMap<String, Node>,
    sessions: BTreeMap<SessionId, (u32, Password, Option<Owner>)>,
    origins: BTreeMap<u64, (u64, u64)>,
    kept: Vec<Kept>,
    zxid: u64,
    opened: u64,
    wall: u64,
    cluster: u64,
}

impl Naive {
    pub(crate) fn new() -> Naive {
        let node = |acl, built_in_children: i32| Node {
            data: Some(Data::new(b"")),
            acl,
            czxid: 0,
            mzxid: 0,
            pzxid: 0,
            ctime: 0,
            mtime: 0,
            version: 0,
            aversion: 0,
            creations: 0,
            deletions: -built_in_children,
            lifetime: Lifetime::Persistent,
        };
        let anyone = AclId { scheme: "world".to_owned(), id: "anyone".to_owned() };
        let read_only = vec![Acl { perms: Perms::READ, id: anyone }];
        let nodes = [
            ("/", node(vec![], 1)),
            ("/zookeeper", node(vec![], 2)),
            ("/zookeeper/quota", node(vec![], 0)),
            ("/zookeeper/config", node(read_only, 0)),
        ];
        Naive {
            nodes: nodes.into_iter().map(|(path, node)| (path.to_owned(), node)).collect(),
            sessions: BTreeMap::new(),
            origins: BTreeMap::new(),
            kept: Vec::new(),
            zxid: 0,
            opened: 0,
            wall: 0,
            cluster: 0,
        }
    }

    pub(crate) fn apply(&mut self, time: TxnTime, txn: &Txn) -> Outcome {
        let origin = txn.origin;
        if origin.node != 0 {
            let (incarnation, last) = self.origins.get(&origin.node).copied().unwrap_or((0, 0));
            let expected = if origin.incarnation > incarnation { 1 } else { last + 1 };
            if origin.incarnation < incarnation
                || origin.incarnation == incarnation && origin.seq <= last
            {
                return Outcome::Duplicate;
            }
            if origin.seq != expected {
                return Outcome::Gap { expected };
            }
            self.origins.insert(origin.node, (origin.incarnation, origin.seq));
        }
        self.zxid += 1;
        self.wall = self.wall.max(time.wall_ms);
        self.cluster = self.cluster.max(time.cluster_ms);
        let key = txn.idempotency_key.clone();
        let same = |kept: &&Kept| kept.0 == txn.session && Some(&kept.1) == key.as_ref();
        if let Some((_, _, zxid, result)) = self.kept.iter().find(same) {
            return Outcome::Applied(Applied {
                zxid: Zxid(*zxid),
                result: result.clone(),
                events: vec![],
            });
        }
        let mut events = Vec::new();
        let moved = |session: &(u32, Password, Option<Owner>)| {
            session.2.is_some() && session.2 != txn.owner
        };
        let refusal = match self.sessions.get(&txn.session) {
            _ if txn.session == SessionId(0) => None,
            None => Some(Code::SessionExpired),
            Some(session) if moved(session) => Some(Code::SessionMoved),
            Some(_) => None,
        };
        let before = self.clone();
        let result = match refusal {
            Some(code) => Err(Failure { code, multi_index: None }),
            None => {
                let result = self.run(txn, &mut events);
                if result.is_err() {
                    *self = before;
                    events.clear();
                }
                self.kept.extend(key.map(|key| (txn.session, key, self.zxid, result.clone())));
                result
            }
        };
        Outcome::Applied(Applied { zxid: Zxid(self.zxid), result, events })
    }

    fn run(&mut self, txn: &Txn, events: &mut Vec<Event>) -> Result<Reply, Failure> {
        let Op::Multi(ops) = &txn.op else {
            return self
                .op(txn, &txn.op, events)
                .map_err(|code| Failure { code, multi_index: None });
        };
        let mut replies = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            let fits = matches!(
                op,
                Op::Create { .. }
                    | Op::Delete { .. }
                    | Op::DeleteOwn { .. }
                    | Op::SetData { .. }
                    | Op::SetOwn { .. }
                    | Op::SetAcl { .. }
                    | Op::Check { .. }
                    | Op::CheckDue { .. }
                    | Op::Deregister { .. }
            );
            let result = if fits { self.op(txn, op, events) } else { Err(Code::BadArguments) };
            replies.push(result.map_err(|code| Failure { code, multi_index: Some(index as u32) })?);
        }
        Ok(Reply::Multi(replies))
    }

    fn is_due(&self, path: &str) -> bool {
        let is_over = self.nodes.get(path).is_some_and(|node| match node.lifetime {
            Lifetime::Container => node.creations > 0,
            Lifetime::Ttl { ttl_ms, renewed_ms } => self.cluster - renewed_ms > ttl_ms,
            _ => false,
        });
        is_over && self.children(path).is_empty()
    }

    fn op(&mut self, txn: &Txn, op: &Op, events: &mut Vec<Event>) -> Result<Reply, Code> {
        match op {
            Op::Create { parent, name, data, acl, mode } => {
                let create = (parent.as_str(), name.as_str(), data.clone(), acl.as_slice(), *mode);
                self.create(txn, create, events)
            }
            Op::Delete { path, version } => {
                let path = path.as_str();
                if ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"].contains(&path) {
                    return Err(Code::BadArguments);
                }
                let parent = self.nodes.get(parent_of(path)).ok_or(Code::NoNode)?;
                may(parent, txn, Perms::DELETE)?;
                let node = self.nodes.get(path).ok_or(Code::NoNode)?;
                expect(*version, node.version)?;
                if !self.children(path).is_empty() {
                    return Err(Code::NotEmpty);
                }
                self.remove(path, events);
                Ok(Reply::Deleted)
            }
            Op::DeleteOwn { path } => {
                let node = self.nodes.get(path.as_str()).ok_or(Code::NoNode)?;
                if node.lifetime != Lifetime::Ephemeral(txn.session) {
                    return Err(Code::NoAuth);
                }
                self.op(txn, &Op::Delete { path: path.clone(), version: None }, events)
            }
            Op::SetData { path, data, version } => {
                let (zxid, wall, cluster) = (self.zxid, self.wall, self.cluster);
                let node = self.nodes.get_mut(path.as_str()).ok_or(Code::NoNode)?;
                may(node, txn, Perms::WRITE)?;
                let len = |data: &Option<Data>| data.as_ref().map_or(0, |data| data.len());
                let more = len(data).saturating_sub(len(&node.data));
                self.has_room(path.as_str(), 0, more)?;
                let node = self.nodes.get_mut(path.as_str()).unwrap();
                expect(*version, node.version)?;
                (node.data, node.mzxid, node.mtime) = (data.clone(), zxid, wall);
                node.version += 1;
                if let Lifetime::Ttl { ttl_ms, .. } = node.lifetime {
                    node.lifetime = Lifetime::Ttl { ttl_ms, renewed_ms: cluster };
                }
                self.show_usage();
                events.push(self.event(EventKind::DataChanged, path.as_str()));
                Ok(Reply::DataSet { stat: self.stat(path.as_str()) })
            }
            Op::SetOwn { path, data } => {
                let node = self.nodes.get(path.as_str()).ok_or(Code::NoNode)?;
                if node.lifetime != Lifetime::Ephemeral(txn.session) {
                    return Err(Code::NoAuth);
                }
                let (path, data) = (path.clone(), data.clone());
                self.op(txn, &Op::SetData { path, data, version: None }, events)
            }
            Op::SetAcl { path, acl, aversion } => {
                let acl = stored_acl(acl, &txn.authority)?;
                let node = self.nodes.get_mut(path.as_str()).ok_or(Code::NoNode)?;
                may(node, txn, Perms::ADMIN)?;
                expect(*aversion, node.aversion)?;
                node.acl = acl;
                node.aversion += 1;
                Ok(Reply::AclSet { stat: self.stat(path.as_str()) })
            }
            Op::Check { path, version } => {
                let node = self.nodes.get(path.as_str()).ok_or(Code::NoNode)?;
                may(node, txn, Perms::READ)?;
                expect(*version, node.version)?;
                Ok(Reply::Checked)
            }
            Op::CheckDue { path } => {
                may(self.nodes.get(path.as_str()).ok_or(Code::NoNode)?, txn, Perms::READ)?;
                if self.is_due(path.as_str()) { Ok(Reply::Checked) } else { Err(Code::BadVersion) }
            }
            Op::Deregister { candidates } => {
                let mut gone = Vec::new();
                for (path, czxid) in candidates {
                    let path = path.as_str();
                    if ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"].contains(&path)
                    {
                        return Err(Code::BadArguments);
                    }
                    let node = self.nodes.get(path);
                    if node.is_some_and(|node| node.czxid == czxid.0)
                        && self.children(path).is_empty()
                    {
                        may(&self.nodes[parent_of(path)], txn, Perms::DELETE)?;
                        gone.push(ZnodePath::parse(path).unwrap());
                    }
                }
                gone.dedup();
                gone.iter().for_each(|path| self.remove(path.as_str(), events));
                Ok(Reply::Deregistered { paths: gone })
            }
            Op::OpenSession { timeout_ms, password, owner } => {
                self.opened += 1;
                let session = SessionId((txn.origin.node.max(1) << 56) + self.opened);
                self.sessions.insert(session, (*timeout_ms, *password, *owner));
                Ok(Reply::Session { session, timeout_ms: *timeout_ms })
            }
            Op::AttachSession { session, password, owner, timeout_ms } => {
                match self.sessions.get_mut(session) {
                    Some(known) if known.1 == *password => {
                        *known = (*timeout_ms, *password, *owner)
                    }
                    _ => return Err(Code::SessionExpired),
                }
                Ok(Reply::Session { session: *session, timeout_ms: *timeout_ms })
            }
            Op::CloseSession { session, unless_moved_from } => {
                let (_, _, owner) = self.sessions.get(session).ok_or(Code::SessionExpired)?;
                if unless_moved_from.is_some() && *unless_moved_from != Some(*owner) {
                    return Err(Code::SessionMoved);
                }
                let ephemerals = self.ephemerals(*session);
                ephemerals.iter().for_each(|path| self.remove(path, events));
                self.sessions.remove(session);
                Ok(Reply::Removed { znodes: ephemerals.len() as u32 })
            }
            // The log settles it before any tree sees it.
            Op::ExpireSession { .. } => Err(Code::BadArguments),
            // It is in none of these histories: `health.rs` has it.
            Op::SetHealth { .. } => Err(Code::NoNode),
            // Nothing in these histories is a provider: `protection.rs` has those.
            Op::Expire { session, unless_moved_from, why, .. } => {
                let (_, _, owner) = self.sessions.get(session).ok_or(Code::SessionExpired)?;
                if unless_moved_from != owner {
                    return Err(Code::SessionMoved);
                }
                if *why == Silence::Confirmed {
                    return Err(Code::NoNode);
                }
                let ephemerals = self.ephemerals(*session);
                ephemerals.iter().for_each(|path| self.remove(path, events));
                self.sessions.remove(session);
                Ok(Reply::Removed { znodes: ephemerals.len() as u32 })
            }
            Op::Reap { paths } => {
                for path in paths {
                    if self.is_due(path.as_str()) {
                        self.remove(path.as_str(), events);
                    }
                }
                Ok(Reply::Removed { znodes: events.len() as u32 })
            }
            Op::SetMembers { lines } => {
                let (zxid, wall) = (self.zxid, self.wall);
                let node = self.nodes.get_mut("/zookeeper/config").unwrap();
                let text = |zxid: u64| match lines.as_str() {
                    "" => Some(Data::new(b"")),
                    lines => Some(Data::new(format!("{lines}version={zxid:x}").as_bytes())),
                };
                if node.data == text(node.mzxid) {
                    return Ok(Reply::Checked);
                }
                (node.data, node.mzxid, node.mtime) = (text(zxid), zxid, wall);
                node.version += 1;
                events.push(self.event(EventKind::DataChanged, "/zookeeper/config"));
                Ok(Reply::DataSet { stat: self.stat("/zookeeper/config") })
            }
            Op::Multi(_) => unreachable!("handled by the caller"),
        }
    }

    fn create(
        &mut self,
        txn: &Txn,
        (parent_path, name, data, acl, mode): (&str, &str, Option<Data>, &[Acl], CreateMode),
        events: &mut Vec<Event>,
    ) -> Result<Reply, Code> {
        let lifetime = match mode {
            CreateMode::Persistent | CreateMode::PersistentSequential => Lifetime::Persistent,
            CreateMode::Ephemeral | CreateMode::EphemeralSequential => {
                Lifetime::Ephemeral(txn.session)
            }
            CreateMode::Container => Lifetime::Container,
            CreateMode::Ttl(ttl_ms) | CreateMode::TtlSequential(ttl_ms) => {
                Lifetime::Ttl { ttl_ms, renewed_ms: self.cluster }
            }
        };
        if let Lifetime::Ephemeral(SessionId(0)) = lifetime {
            return Err(Code::BadArguments);
        }
        if mode.ttl_ms().is_some_and(|ms| ms == 0 || ms >= 1 << 40) {
            return Err(Code::BadArguments);
        }
        let acl = stored_acl(acl, &txn.authority)?;
        let parent = self.nodes.get(parent_path).ok_or(Code::NoNode)?.clone();
        may(&parent, txn, Perms::CREATE)?;
        let suffix =
            if mode.is_sequential() { format!("{:010}", parent.creations) } else { String::new() };
        let text = format!("{}/{name}{suffix}", parent_path.trim_end_matches('/'));
        let path = ZnodePath::parse(&text).map_err(|_| Code::BadArguments)?;
        if name.contains('/') {
            return Err(Code::BadArguments);
        }
        if self.nodes.contains_key(path.as_str()) {
            return Err(Code::NodeExists);
        }
        if matches!(parent.lifetime, Lifetime::Ephemeral(_)) {
            return Err(Code::NoChildrenForEphemerals);
        }
        self.has_room(path.as_str(), 1, data.as_ref().map_or(0, |data| data.len()))?;
        let (czxid, ctime) = (self.zxid, self.wall);
        let node = Node {
            data,
            acl,
            czxid,
            mzxid: czxid,
            pzxid: czxid,
            ctime,
            mtime: ctime,
            version: 0,
            aversion: 0,
            creations: 0,
            deletions: 0,
            lifetime,
        };
        self.nodes.insert(text, node);
        let parent = self.nodes.get_mut(parent_path).unwrap();
        parent.creations += 1;
        parent.pzxid = czxid;
        self.show_usage();
        events.push(self.event(EventKind::Created, path.as_str()));
        let stat = self.stat(path.as_str());
        Ok(Reply::Created { path, stat })
    }

    fn remove(&mut self, path: &str, events: &mut Vec<Event>) {
        events.push(self.event(EventKind::Deleted, path));
        self.nodes.remove(path);
        let zxid = self.zxid;
        let parent = self.nodes.get_mut(parent_of(path)).unwrap();
        parent.deletions += 1;
        parent.pzxid = zxid;
        self.show_usage();
    }

    /// The path of each quota, and its limits as pairs.
    fn quotas(&self) -> Vec<(String, BTreeMap<String, i64>)> {
        let quota = |(path, node): (&String, &Node)| {
            let path = path.strip_prefix("/zookeeper/quota")?.strip_suffix("/zookeeper_limits")?;
            if path.is_empty() || path == "/zookeeper" || path.starts_with("/zookeeper/") {
                return None;
            }
            let text = node
                .data
                .as_ref()
                .map_or(String::new(), |data| String::from_utf8(data.to_vec()).unwrap_or_default());
            let pair = |pair: &str| {
                let (key, value) = pair.trim_end_matches('=').split_once('=')?;
                Some((key.to_owned(), value.parse().ok()?))
            };
            let pairs: Option<_> =
                text.split([',', ';']).filter(|text| !text.is_empty()).map(pair).collect();
            Some((path.to_owned(), pairs.unwrap_or_default()))
        };
        self.nodes.iter().filter_map(quota).collect()
    }

    fn usage(&self, top: &str) -> (i64, i64) {
        let below = |path: &str| path == top || path.starts_with(&format!("{top}/"));
        let counted = self.nodes.iter().filter(|(path, _)| below(path));
        counted.fold((0, 0), |(count, bytes), (_, node)| {
            (count + 1, bytes + node.data.as_ref().map_or(0, |data| data.len()) as i64)
        })
    }

    fn has_room(&self, path: &str, znodes: i64, bytes: usize) -> Result<(), Code> {
        let switch = self.nodes["/zookeeper/quota"].data.as_deref();
        if switch == Some(b"enforceQuota=false") {
            return Ok(());
        }
        for (top, limits) in self.quotas() {
            if path != top && !path.starts_with(&format!("{top}/")) {
                continue;
            }
            let (used_znodes, used_bytes) = self.usage(&top);
            let wanted = [
                ("countHardLimit", used_znodes, znodes),
                ("byteHardLimit", used_bytes, bytes as i64),
            ];
            for (key, used, more) in wanted {
                let max = limits.get(key).copied().unwrap_or(-1);
                if more > 0 && max >= 0 && used + more > max {
                    return Err(Code::QuotaExceeded);
                }
            }
        }
        Ok(())
    }

    fn show_usage(&mut self) {
        for (top, _) in self.quotas() {
            let (count, bytes) = self.usage(&top);
            if let Some(node) =
                self.nodes.get_mut(&format!("/zookeeper/quota{top}/zookeeper_stats"))
            {
                node.data = Some(Data::new(format!("count={count},bytes={bytes}").as_bytes()));
            }
        }
    }

    fn event(&self, kind: EventKind, path: &str) -> Event {
        let node = &self.nodes[path];
        let acl = node.acl.as_slice().into();
        let parent = if path == "/" { "/" } else { parent_of(path) };
        let parent_acl = self.nodes[parent].acl.as_slice().into();
        let (data, stat) = (node.data.clone(), self.stat(path));
        let path = ZnodePath::parse(path).unwrap();
        Event { kind, data, stat, acl, parent_acl, path }
    }

    fn stat(&self, path: &str) -> Stat {
        let node = &self.nodes[path];
        Stat {
            czxid: Zxid(node.czxid),
            mzxid: Zxid(node.mzxid),
            ctime_ms: node.ctime,
            mtime_ms: node.mtime,
            version: node.version,
            cversion: node.creations + node.deletions,
            aversion: node.aversion,
            ephemeral_owner: match node.lifetime {
                Lifetime::Ephemeral(session) => session,
                _ => SessionId(0),
            },
            data_length: node.data.as_ref().map_or(0, |data| data.len() as u32),
            num_children: self.children(path).len() as u32,
            pzxid: Zxid(node.pzxid),
        }
    }

    fn children(&self, path: &str) -> Vec<String> {
        self.nodes.keys().filter(|key| *key != "/" && parent_of(key) == path).cloned().collect()
    }

    fn ephemerals(&self, session: SessionId) -> Vec<String> {
        let mine = |node: &Node| node.lifetime == Lifetime::Ephemeral(session);
        self.nodes.iter().filter(|(_, node)| mine(node)).map(|(path, _)| path.clone()).collect()
    }

    pub(crate) fn dump(&self) -> (Vec<ZnodeDump>, Vec<SessionDump>) {
        let znode = |(path, node): (&String, &Node)| {
            let data = node.data.as_ref().map(|data| data.to_vec());
            (
                path.clone(),
                data,
                self.stat(path),
                node.acl.clone(),
                node.lifetime,
                self.children(path),
            )
        };
        let sessions = self.sessions.iter().map(|(id, (timeout, password, owner))| {
            (*id, *timeout, *password, *owner, self.ephemerals(*id))
        });
        (self.nodes.iter().map(znode).collect(), sessions.collect())
    }
}

fn parent_of(path: &str) -> &str {
    match path.rfind('/').unwrap() {
        0 => "/",
        at => &path[..at],
    }
}

fn expect(expected: Option<i32>, present: i32) -> Result<(), Code> {
    if expected.unwrap_or(present) == present { Ok(()) } else { Err(Code::BadVersion) }
}

/// Knows the networks that the generator uses: one address and one /24.
fn may(node: &Node, txn: &Txn, wanted: Perms) -> Result<(), Code> {
    let names = |rule: &AclId, who: &AclId| match (rule.scheme.as_str(), rule.id.as_str()) {
        ("world", _) => true,
        ("ip", "10.0.0.0/24") => who.scheme == "ip" && who.id.starts_with("10.0.0."),
        _ => rule == who,
    };
    let nobody = AclId { scheme: String::new(), id: String::new() };
    let everyone: Vec<&AclId> = txn.authority.iter().chain([&nobody]).collect();
    let is_super = everyone.iter().any(|who| who.scheme == "super");
    let granted = |rule: &&Acl| everyone.iter().any(|who| names(&rule.id, who));
    let granted = node.acl.iter().filter(granted).any(|rule| rule.perms.0 & wanted.0 != 0);
    if node.acl.is_empty() || is_super || granted { Ok(()) } else { Err(Code::NoAuth) }
}

fn stored_acl(rules: &[Acl], authority: &[AclId]) -> Result<Vec<Acl>, Code> {
    let mut stored: Vec<Acl> = Vec::new();
    for rule in rules {
        let pair = (rule.id.scheme.as_str(), rule.id.id.as_str());
        let expanded: Vec<AclId> = match pair {
            ("auth", _) => authority
                .iter()
                .filter(|who| ["digest", "x509"].contains(&&*who.scheme))
                .cloned()
                .collect(),
            ("digest", "u") | ("ip", "10.0.0.0/33") | ("super" | "token", _) => vec![],
            _ => vec![rule.id.clone()],
        };
        if expanded.is_empty() || rule.perms.0 > 31 {
            return Err(Code::InvalidAcl);
        }
        for id in expanded {
            let rule = Acl { perms: rule.perms, id };
            if !stored.contains(&rule) {
                stored.push(rule);
            }
        }
    }
    let is_open = stored.len() == 1 && stored[0].id.scheme == "world" && stored[0].perms.0 == 31;
    Ok(if is_open { vec![] } else { stored })
}
