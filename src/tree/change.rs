//! The edits of the znodes: the only code that touches the links between a znode, its parent, its session,
//! the index of what is due, the usage of quotas, the policies, the number of providers, the lists of services, and the
//! rolling digest.

use std::sync::Arc;

use super::health::Noted;
use super::{Lifetime, Tree, Znode, digest, idempotency, lists};
use crate::types::{
    Acl, Data, Event, EventKind, Failure, NodeId, Reply, SessionId, Stat, ZnodePath, Zxid,
};

impl Tree {
    /// Makes a znode, with its event, below a parent that exists, where there is none. Returns its stat.
    pub(super) fn make(
        &mut self,
        path: &ZnodePath,
        data: Option<Data>,
        rules: Vec<Acl>,
        lifetime: Lifetime,
        events: &mut Vec<Event>,
    ) -> Stat {
        let znode = Znode {
            data,
            acl: lists::intern(&mut self.acls, rules),
            czxid: self.zxid,
            mzxid: self.zxid,
            pzxid: self.zxid,
            ctime_ms: self.time.wall_ms,
            mtime_ms: self.time.wall_ms,
            lifetime,
            ..Znode::default()
        };
        let stat = znode.stat();
        events.push(self.event(EventKind::Created, path, &znode));
        self.link(path, znode, true);
        stat
    }

    /// Adds a znode below its parent, which exists, and to its session. `counted` says whether the parent
    /// counts it as created, which the built-in ones are not.
    pub(super) fn link(&mut self, path: &ZnodePath, znode: Znode, counted: bool) {
        debug_assert!(!self.nodes.contains_key(path.as_str()), "the path is free");
        let zxid = znode.czxid;
        if let Some(parent) = path.parent_str() {
            self.update(parent, |parent| {
                parent.children.insert(path.clone());
                parent.pzxid = zxid;
                parent.created = parent.created.wrapping_add(i32::from(counted));
            });
        }
        if let Some(owner) = znode.ephemeral_owner() {
            self.update_session(owner, |session| session.ephemerals.insert(path.clone()));
        }
        let bytes = znode.data().map_or(0, |data| data.len());
        self.count_provider(path, &znode, 1);
        let (stamp, noted) = (znode.stamp(), Noted::of(path, &znode));
        self.put(path.clone(), znode);
        self.count_usage(path, (0, 0), (1, bytes));
        self.follow_limits(path);
        self.follow_policy(path);
        self.follow_services(path, None, Some(stamp));
        self.follow_health(None, noted);
    }

    /// Enters a znode into the table and the sums, without linking it to its parent or session.
    pub(super) fn put(&mut self, path: ZnodePath, znode: Znode) {
        self.rolling = self
            .rolling
            .wrapping_add(digest::of_content(&path, znode.data()))
            .wrapping_add(digest::of_meta(&path, &znode));
        self.data_bytes += (path.as_str().len() + znode.data().map_or(0, |data| data.len())) as u64;
        self.ephemerals += u64::from(znode.ephemeral_owner().is_some());
        if let Some(due_ms) = znode.due_ms() {
            self.due.insert((due_ms, path.clone()));
        }
        self.nodes.insert(path, Arc::new(znode));
    }

    /// Removes a childless znode from everywhere and returns the event of it; `None` when there is no such
    /// znode.
    pub(super) fn unlink(&mut self, path: &ZnodePath) -> Option<Event> {
        let znode = self.nodes.remove(path.as_str())?;
        debug_assert_eq!(znode.num_children(), 0, "only leaves are removed");
        self.rolling = self
            .rolling
            .wrapping_sub(digest::of_content(path, znode.data()))
            .wrapping_sub(digest::of_meta(path, &znode));
        self.data_bytes -= (path.as_str().len() + znode.data().map_or(0, |data| data.len())) as u64;
        self.ephemerals -= u64::from(znode.ephemeral_owner().is_some());
        if let Some(due_ms) = znode.due_ms() {
            self.due.remove(&(due_ms, path.clone()));
        }
        lists::release(&mut self.acls, &znode.acl);
        if let Some(owner) = znode.ephemeral_owner() {
            self.update_session(owner, |session| session.ephemerals.remove(path.as_str()));
        }
        let zxid = self.zxid;
        if let Some(parent) = path.parent_str() {
            self.update(parent, |parent| {
                parent.children.remove(path.as_str());
                parent.pzxid = zxid;
            });
        }
        self.count_provider(path, &znode, -1);
        self.count_usage(path, (1, znode.data().map_or(0, |data| data.len())), (0, 0));
        self.follow_limits(path);
        self.follow_policy(path);
        self.follow_services(path, Some(znode.stamp()), None);
        self.follow_health(Noted::of(path, &znode), None);
        Some(self.event(EventKind::Deleted, path, &znode))
    }

    /// Changes anything of a znode but its data and its ephemeral owner.
    pub(super) fn update(&mut self, path: &str, change: impl FnOnce(&mut Znode)) {
        let Some((path, slot)) = self.nodes.get_key_value_mut(path) else { return };
        self.rolling = self.rolling.wrapping_sub(digest::of_meta(path, slot));
        let due_before = slot.due_ms();
        change(Arc::make_mut(slot));
        let due_after = slot.due_ms();
        self.rolling = self.rolling.wrapping_add(digest::of_meta(path, slot));
        if due_before != due_after {
            let path = path.clone();
            due_before.map(|due_ms| self.due.remove(&(due_ms, path.clone())));
            due_after.map(|due_ms| self.due.insert((due_ms, path)));
        }
    }

    /// Replaces the data of a znode; what else changes with it is for `change`.
    pub(super) fn update_data(
        &mut self,
        path: &ZnodePath,
        data: Option<Data>,
        change: impl FnOnce(&mut Znode),
    ) {
        let len = data.as_ref().map_or(0, |data| data.len());
        let ephemeral = |tree: &Tree| {
            tree.nodes.get(path.as_str()).filter(|it| it.ephemeral_owner().is_some()).cloned()
        };
        if let Some(znode) = ephemeral(self) {
            self.count_provider(path, &znode, -1);
        }
        let noted = |tree: &Tree| Noted::of(path, tree.nodes.get(path.as_str())?);
        let noted_before = noted(self);
        let added = digest::of_content(path, data.as_ref());
        let mut before = None;
        let mut stamps = None;
        self.update(path.as_str(), |znode| {
            let stamp = znode.stamp();
            before = std::mem::replace(&mut znode.data, data);
            change(znode);
            stamps = Some((stamp, znode.stamp()));
        });
        self.rolling = self
            .rolling
            .wrapping_sub(digest::of_content(path, before.as_ref()))
            .wrapping_add(added);
        let len_before = before.map_or(0, |data| data.len());
        self.data_bytes += len as u64;
        self.data_bytes -= len_before as u64;
        if let Some(znode) = ephemeral(self) {
            self.count_provider(path, &znode, 1);
        }
        self.count_usage(path, (1, len_before), (1, len));
        self.follow_limits(path);
        self.follow_policy(path);
        self.follow_services(path, stamps.map(|it| it.0), stamps.map(|it| it.1));
        let noted = noted(self);
        self.follow_health(noted_before, noted);
    }

    /// Changes a session that exists.
    pub(super) fn update_session(
        &mut self,
        id: SessionId,
        change: impl FnOnce(&mut super::Session),
    ) {
        let Some(slot) = self.sessions.get_mut(&id) else { return };
        self.rolling = self.rolling.wrapping_sub(digest::of_session(id, slot));
        change(Arc::make_mut(slot));
        self.rolling = self.rolling.wrapping_add(digest::of_session(id, slot));
    }

    /// Enters a session.
    pub(super) fn put_session(&mut self, id: SessionId, session: super::Session) {
        self.rolling = self.rolling.wrapping_add(digest::of_session(id, &session));
        self.sessions.insert(id, Arc::new(session));
    }

    /// Removes a session, whose ephemerals are gone already.
    pub(super) fn remove_session(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.remove(&id) {
            debug_assert_eq!(session.ephemerals.len(), 0, "ephemerals go before their session");
            self.rolling = self.rolling.wrapping_sub(digest::of_session(id, &session));
        }
    }

    /// Remembers the incarnation and the last seq of an origin.
    pub(super) fn set_origin(&mut self, node: NodeId, last: (u64, u64)) {
        if let Some(before) = self.origins.insert(node, last) {
            self.rolling = self.rolling.wrapping_sub(digest::of_origin(node, before));
        }
        self.rolling = self.rolling.wrapping_add(digest::of_origin(node, last));
    }

    /// Keeps the result of a transaction for its idempotency key.
    pub(super) fn keep_result(
        &mut self,
        zxid: Zxid,
        session: SessionId,
        key: &str,
        result: &Result<Reply, Failure>,
    ) {
        let kept = idempotency::Kept::new(zxid, session, key, result);
        let change = self.results.insert(zxid, kept);
        self.rolling = self.rolling.wrapping_add(change);
    }

    /// Returns the event of a change of this znode, whose parent exists.
    pub(super) fn event(&self, kind: EventKind, path: &ZnodePath, znode: &Znode) -> Event {
        let parent = path.parent_str().and_then(|parent| self.get(parent));
        Event {
            kind,
            path: path.clone(),
            data: znode.data.clone(),
            stat: znode.stat(),
            acl: Arc::clone(&znode.acl),
            parent_acl: Arc::clone(parent.map_or(&znode.acl, |parent| &parent.acl)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Tree, Znode, lists};
    use crate::types::{Acl, AclId, Perms, ZnodePath};

    #[test]
    fn equal_lists_are_one_list_which_goes_with_its_last_user() {
        let mut tree = Tree::new();
        let lists_before = tree.acls.len();
        let id = AclId { scheme: "x509".to_owned(), id: "CN=a".to_owned() };
        let rules = vec![Acl { perms: Perms::READ, id }];
        let paths = ["/a", "/b"].map(|path| ZnodePath::parse(path).unwrap());
        for path in &paths {
            let acl = lists::intern(&mut tree.acls, rules.clone());
            tree.link(path, Znode { acl, ..Znode::default() }, true);
        }
        let lists = ["/a", "/b"].map(|path| tree.get(path).unwrap().acl());
        assert!(Arc::ptr_eq(lists[0], lists[1]));
        assert_eq!(tree.acls.get(rules.as_slice()), Some(&2));
        paths.iter().for_each(|path| assert!(tree.unlink(path).is_some()));
        assert_eq!(tree.acls.len(), lists_before);
    }
}
