use std::sync::Arc;

use super::znode::next_version;
use super::{BUILT_IN, CONFIG, Lifetime, Tree, Znode, lists};
use crate::identity::{fix_up, permits};
use crate::limits::{DATA_BYTES_MAX, TTL_MS_MAX};
use crate::registry::{HEALTH, is_health_note};
use crate::types::{
    Acl, AclId, Code, CreateMode, Data, Event, EventKind, Failure, Op, Perms, Reply, SessionId,
    Txn, ZnodePath, Zxid,
};

/// On whose behalf an op is done.
#[derive(Clone, Copy)]
pub(super) struct Client<'a> {
    pub(super) session: SessionId,
    pub(super) authority: &'a [AclId],
}

/// What a `Create` asks for.
pub(super) struct Creation<'a> {
    parent: &'a ZnodePath,
    name: &'a str,
    data: Option<&'a Data>,
    acl: &'a [Acl],
    mode: CreateMode,
}

impl Tree {
    /// Does what a transaction wants, or nothing at all.
    pub(super) fn carry_out(
        &mut self,
        txn: &Txn,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Failure> {
        let client = Client { session: txn.session, authority: &txn.authority };
        match &txn.op {
            Op::Multi(ops) => return self.multi(client, ops, events),
            Op::OpenSession { timeout_ms, password, owner } => {
                self.open_session(txn.origin.node, *timeout_ms, *password, *owner)
            }
            Op::AttachSession { session, password, owner, timeout_ms } => {
                self.attach_session(*session, password, *owner, *timeout_ms, events)
            }
            Op::CloseSession { session, unless_moved_from } => {
                self.close_session(*session, *unless_moved_from, events)
            }
            Op::Expire { session, unless_moved_from, why, .. } => {
                self.expire_session(*session, *unless_moved_from, *why, events)
            }
            Op::Reap { paths } => Ok(self.reap(paths, events)),
            Op::SetMembers { lines } => self.set_members(lines, events),
            Op::SetHealth { path, czxid, works, .. } => {
                self.set_health(path, *czxid, *works, events)
            }
            op => self.change_znode(client, op, events),
        }
        .map_err(Failure::from)
    }

    /// Does an op that may be part of a multi; the others are `BadArguments`. Changes nothing when it
    /// refuses.
    pub(super) fn change_znode(
        &mut self,
        client: Client<'_>,
        op: &Op,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Code> {
        match op {
            Op::Create { parent, name, data, acl, mode } => {
                let wanted = Creation { parent, name, data: data.as_ref(), acl, mode: *mode };
                self.create(client, &wanted, events)
            }
            Op::Delete { path, version } => self.delete(client, path, *version, events),
            Op::DeleteOwn { path } => {
                self.check_own(client, path)?;
                self.delete(client, path, None, events)
            }
            Op::SetOwn { path, data } => {
                self.check_own(client, path)?;
                self.set_data(client, path, data.as_ref(), None, events)
            }
            Op::SetData { path, data, version } => {
                self.set_data(client, path, data.as_ref(), *version, events)
            }
            Op::SetAcl { path, acl, aversion } => self.set_acl(client, path, acl, *aversion),
            Op::Check { path, version } => self.check(client, path, *version),
            Op::CheckDue { path } => self.check_due(client, path),
            Op::Deregister { candidates } => self.deregister(client, candidates, events),
            Op::Multi(_)
            | Op::OpenSession { .. }
            | Op::AttachSession { .. }
            | Op::CloseSession { .. }
            | Op::Reap { .. }
            | Op::SetMembers { .. }
            | Op::ExpireSession { .. }
            | Op::Expire { .. }
            | Op::SetHealth { .. } => Err(Code::BadArguments),
        }
    }

    /// Source of the order of checks: ZooKeeper `PrepRequestProcessor.pRequest2TxnCreate`.
    fn create(
        &mut self,
        client: Client<'_>,
        wanted: &Creation<'_>,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Code> {
        check_data(wanted.data)?;
        if wanted.parent.as_str() == HEALTH {
            return Err(Code::BadArguments);
        }
        check_no_finding(wanted.parent)?;
        let lifetime = self.lifetime(wanted.mode, client.session)?;
        let rules = fix_up(wanted.acl, client.authority)?;
        let parent = self.existing(wanted.parent)?;
        check_permitted(parent, client, Perms::CREATE)?;
        let name = match wanted.mode.is_sequential() {
            true => {
                let number = mutant!(M33, parent.children.len() as i32, parent.created);
                format!("{}{number:010}", wanted.name)
            }
            false => wanted.name.to_owned(),
        };
        let path = wanted.parent.child(&name).map_err(|_| Code::BadArguments)?;
        if self.nodes.contains_key(path.as_str()) {
            return Err(Code::NodeExists);
        }
        if parent.ephemeral_owner().is_some() {
            return Err(Code::NoChildrenForEphemerals);
        }
        let is_ephemeral = matches!(lifetime, Lifetime::Ephemeral(_));
        if self.tombstone_of(&path, wanted.data, is_ephemeral, client.authority).is_some() {
            return Err(Code::NoAuth);
        }
        self.check_quota(&path, 1, wanted.data.map_or(0, |data| data.len()) as u64)?;
        let data = self.data_for(&path, wanted.data);
        let stat = self.make(&path, data, rules, lifetime, events);
        Ok(Reply::Created { path, stat })
    }

    /// Returns the lifetime that a mode stands for. Errors: `BadArguments` for an ephemeral without a
    /// session and for a TTL out of range.
    fn lifetime(&self, mode: CreateMode, session: SessionId) -> Result<Lifetime, Code> {
        match mode {
            CreateMode::Persistent | CreateMode::PersistentSequential => Ok(Lifetime::Persistent),
            CreateMode::Container => Ok(Lifetime::Container),
            CreateMode::Ephemeral | CreateMode::EphemeralSequential if !session.is_none() => {
                Ok(Lifetime::Ephemeral(session))
            }
            CreateMode::Ttl(ttl_ms) | CreateMode::TtlSequential(ttl_ms)
                if (1..=TTL_MS_MAX).contains(&ttl_ms) =>
            {
                Ok(Lifetime::Ttl { ttl_ms, renewed_ms: self.time.cluster_ms })
            }
            _ => Err(Code::BadArguments),
        }
    }

    /// Source: ZooKeeper `PrepRequestProcessor.pRequest2Txn`, case delete.
    fn delete(
        &mut self,
        client: Client<'_>,
        path: &ZnodePath,
        version: Option<i32>,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Code> {
        if BUILT_IN.contains(&path.as_str()) {
            return Err(Code::BadArguments);
        }
        check_no_finding(path)?;
        let parent = path.parent_str().and_then(|parent| self.get(parent)).ok_or(Code::NoNode)?;
        check_permitted(parent, client, Perms::DELETE)?;
        let znode = self.existing(path)?;
        check_version(version, znode.version)?;
        if znode.num_children() > 0 {
            return Err(Code::NotEmpty);
        }
        events.extend(self.unlink(path));
        Ok(Reply::Deleted)
    }

    /// Whose it is is asked here and not by who proposes it: a session may end and another take its name in between.
    fn check_own(&self, client: Client<'_>, path: &ZnodePath) -> Result<(), Code> {
        match self.existing(path)?.ephemeral_owner() {
            Some(owner) if owner == client.session => Ok(()),
            _ => Err(Code::NoAuth),
        }
    }

    fn set_data(
        &mut self,
        client: Client<'_>,
        path: &ZnodePath,
        data: Option<&Data>,
        version: Option<i32>,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Code> {
        check_data(data)?;
        check_no_finding(path)?;
        let znode = self.existing(path)?;
        check_permitted(znode, client, Perms::WRITE)?;
        let len = |data: Option<&Data>| data.map_or(0, |data| data.len());
        let more = len(data).saturating_sub(len(znode.data()));
        self.check_quota(path, 0, more as u64)?;
        check_version(mutant!(M34, None, version), znode.version)?;
        self.replace_data(path, self.data_for(path, data), events)
    }

    /// Sets the data of a znode that exists, nobody being asked.
    pub(super) fn replace_data(
        &mut self,
        path: &ZnodePath,
        data: Option<Data>,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Code> {
        let (zxid, time) = (self.zxid, self.time);
        self.update_data(path, data, |znode| {
            znode.version = next_version(znode.version);
            znode.mzxid = zxid;
            znode.mtime_ms = time.wall_ms;
            if let Lifetime::Ttl { renewed_ms, .. } = &mut znode.lifetime {
                *renewed_ms = time.cluster_ms;
            }
        });
        let znode = self.existing(path)?;
        events.push(self.event(EventKind::DataChanged, path, znode));
        Ok(Reply::DataSet { stat: znode.stat() })
    }

    /// See [`Op::SetMembers`].
    fn set_members(&mut self, lines: &str, events: &mut Vec<Event>) -> Result<Reply, Code> {
        if self.shows_members(lines) {
            return Ok(Reply::Checked);
        }
        let data = Some(members_data(lines, self.zxid));
        check_data(data.as_ref())?;
        let (path, _) = self.nodes.get_key_value(CONFIG).ok_or(Code::NoNode)?;
        self.replace_data(&path.clone(), data, events)
    }

    /// Returns whether `/zookeeper/config` shows just these members.
    pub fn shows_members(&self, lines: &str) -> bool {
        let shown = self.get(CONFIG);
        shown.is_some_and(|znode| znode.data == Some(members_data(lines, znode.mzxid)))
    }

    fn set_acl(
        &mut self,
        client: Client<'_>,
        path: &ZnodePath,
        rules: &[Acl],
        aversion: Option<i32>,
    ) -> Result<Reply, Code> {
        check_no_finding(path)?;
        let rules = fix_up(rules, client.authority)?;
        let znode = self.existing(path)?;
        check_permitted(znode, client, Perms::ADMIN)?;
        check_version(aversion, znode.aversion)?;
        self.replace_acl(path, rules);
        self.follow_acl(path);
        Ok(Reply::AclSet { stat: self.existing(path)?.stat() })
    }

    /// Sets the access control list of a znode that exists, nobody being asked.
    pub(super) fn replace_acl(&mut self, path: &ZnodePath, rules: Vec<Acl>) {
        let Some(before) = self.get(path.as_str()).map(|znode| Arc::clone(&znode.acl)) else {
            return;
        };
        let list = lists::intern(&mut self.acls, rules);
        lists::release(&mut self.acls, &before);
        self.update(path.as_str(), |znode| {
            znode.acl = list;
            znode.aversion = next_version(znode.aversion);
        });
    }

    fn check(
        &self,
        client: Client<'_>,
        path: &ZnodePath,
        version: Option<i32>,
    ) -> Result<Reply, Code> {
        let znode = self.existing(path)?;
        check_permitted(znode, client, Perms::READ)?;
        check_version(version, znode.version)?;
        Ok(Reply::Checked)
    }

    fn check_due(&self, client: Client<'_>, path: &ZnodePath) -> Result<Reply, Code> {
        let znode = self.existing(path)?;
        check_permitted(znode, client, Perms::READ)?;
        if self.is_due(znode) { Ok(Reply::Checked) } else { Err(Code::BadVersion) }
    }

    fn existing(&self, path: &ZnodePath) -> Result<&Znode, Code> {
        self.get(path.as_str()).map(Arc::as_ref).ok_or(Code::NoNode)
    }
}

/// Returns the data of `/zookeeper/config` that has shown these members since this zxid; empty for none, as it is from
/// the start. Source: ZooKeeper `QuorumMaj.toString`.
fn members_data(lines: &str, since: Zxid) -> Data {
    match lines {
        "" => Data::new(&[]),
        lines => Data::new(format!("{lines}version={:x}", since.0).as_bytes()),
    }
}

fn check_data(data: Option<&Data>) -> Result<(), Code> {
    if data.is_some_and(|data| data.len() > DATA_BYTES_MAX) {
        Err(Code::BadArguments)
    } else {
        Ok(())
    }
}

/// Checks that a path is not below what the tree alone writes.
pub(super) fn check_no_finding(path: &ZnodePath) -> Result<(), Code> {
    if is_health_note(path.as_str()) { Err(Code::BadArguments) } else { Ok(()) }
}

pub(super) fn check_permitted(
    znode: &Znode,
    client: Client<'_>,
    wanted: Perms,
) -> Result<(), Code> {
    if permits(&znode.acl, client.authority, wanted) { Ok(()) } else { Err(Code::NoAuth) }
}

fn check_version(expected: Option<i32>, present: i32) -> Result<(), Code> {
    if expected.is_none_or(|expected| expected == present) { Ok(()) } else { Err(Code::BadVersion) }
}

#[cfg(test)]
mod tests {
    use super::Tree;
    use crate::types::{CreateMode, Op, Outcome, Reply, Txn, TxnTime, ZnodePath};

    fn apply(tree: &mut Tree, op: Op) -> Reply {
        let txn = Txn {
            origin: Default::default(),
            session: Default::default(),
            owner: None,
            authority: Vec::new(),
            idempotency_key: None,
            op,
        };
        match tree.apply(TxnTime::default(), &txn) {
            Outcome::Applied(applied) => applied.result.expect("it is carried out"),
            other => panic!("{other:?}"),
        }
    }

    fn create(tree: &mut Tree, mode: CreateMode, name: &str) -> String {
        let op = Op::Create {
            parent: ZnodePath::root(),
            name: name.to_owned(),
            data: None,
            acl: Vec::new(),
            mode,
        };
        match apply(tree, op) {
            Reply::Created { path, .. } => path.as_str().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sequence_numbers_wrap_to_negative_ones_as_in_zookeeper() {
        let mut tree = Tree::new();
        tree.update("/", |root| root.created = i32::MAX);
        assert_eq!(create(&mut tree, CreateMode::PersistentSequential, "n"), "/n2147483647");
        assert_eq!(create(&mut tree, CreateMode::PersistentSequential, "n"), "/n-2147483648");
        tree.update("/", |root| root.created = -7);
        assert_eq!(create(&mut tree, CreateMode::PersistentSequential, "n"), "/n-000000007");
        assert_eq!(tree.digest(), tree.recomputed_digest());
    }

    #[test]
    fn versions_skip_minus_one_when_they_wrap() {
        let mut tree = Tree::new();
        create(&mut tree, CreateMode::Persistent, "a");
        let mut next = |version| {
            tree.update("/a", |znode| (znode.version, znode.aversion) = (version, version));
            let path = ZnodePath::parse("/a").unwrap();
            apply(
                &mut tree,
                Op::SetData { path: path.clone(), data: None, version: Some(version) },
            );
            apply(&mut tree, Op::SetAcl { path, acl: Vec::new(), aversion: Some(version) });
            let stat = tree.get("/a").unwrap().stat();
            assert_eq!(stat.version, stat.aversion);
            stat.version
        };
        assert_eq!((next(i32::MAX), next(-2), next(-3)), (i32::MIN, 0, -2));
    }
}
