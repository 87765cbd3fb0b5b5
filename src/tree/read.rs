use std::ops::Bound;
use std::sync::Arc;

use super::{Session, Tree, Znode};
use crate::identity::{masked, permits};
use crate::types::{
    Acl, AclId, Code, Failure, NodeId, Perms, Reply, SessionId, TxnTime, ZnodePath, Zxid,
};

impl Tree {
    /// Returns the znode at a path. A text that is no valid path has none.
    pub fn get(&self, path: &str) -> Option<&Arc<Znode>> {
        #[cfg(test)]
        looked_up::count();
        self.nodes.get(path)
    }

    /// Returns the znode at a path to somebody with this authority who wants to know that it exists, its data
    /// or its children. Errors: `NoNode`, and `NoAuth` without the permission READ. Source: ZooKeeper
    /// `FinalRequestProcessor`, which asks for it in `exists` too since 3.9.2.
    pub fn readable(&self, path: &str, authority: &[AclId]) -> Result<&Arc<Znode>, Code> {
        let znode = self.get(path).ok_or(Code::NoNode)?;
        if permits(&znode.acl, authority, Perms::READ) { Ok(znode) } else { Err(Code::NoAuth) }
    }

    /// Returns whether somebody with this authority would find a path by going down the tree from its root: whatever there is
    /// above it may be listed. Cost: O(depth).
    pub fn is_found(&self, path: &ZnodePath, authority: &[AclId]) -> bool {
        let mut above = path.self_and_ancestors().skip(1).filter_map(|above| self.get(above));
        above.all(|znode| permits(&znode.acl, authority, Perms::READ))
    }

    /// Returns the znode at a path, and its access control list as somebody with this authority may see it:
    /// without the permission ADMIN the hashes of passwords are shown as `x`. Empty means open to everyone.
    /// Errors: `NoNode`, and `NoAuth` with neither READ nor ADMIN.
    pub fn visible_acl(
        &self,
        path: &str,
        authority: &[AclId],
    ) -> Result<(Vec<Acl>, &Arc<Znode>), Code> {
        let znode = self.get(path).ok_or(Code::NoNode)?;
        let either = Perms(Perms::READ.0 | Perms::ADMIN.0);
        match permits(&znode.acl, authority, either) {
            true => Ok((masked(&znode.acl, authority), znode)),
            false => Err(Code::NoAuth),
        }
    }

    /// Returns a live session.
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id).map(Arc::as_ref)
    }

    /// Yields the live sessions in the order of their ids.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.sessions.iter().map(|(id, session)| (*id, session.as_ref()))
    }

    /// Yields the live sessions behind this id, in the order of their ids. Cost: O(log n) for the first.
    pub fn sessions_after(&self, id: SessionId) -> impl Iterator<Item = (SessionId, &Session)> {
        let later = self.sessions.range((Bound::Excluded(id), Bound::Unbounded));
        later.map(|(id, session)| (*id, session.as_ref()))
    }

    /// Yields the ephemerals of a session in path order; none when there is no such session.
    pub fn ephemerals(&self, id: SessionId) -> impl Iterator<Item = &ZnodePath> {
        self.session(id).into_iter().flat_map(Session::ephemerals)
    }

    /// Yields the znodes below a path, each before its children, siblings ordered by name; none when
    /// nothing is there. Lazy: O(depth · log n) for each step.
    pub fn descendants(&self, path: &str) -> impl Iterator<Item = (&ZnodePath, &Arc<Znode>)> {
        let top = self.nodes.get_key_value(path).map(|(top, _)| top);
        let mut at = top;
        std::iter::from_fn(move || {
            at = self.next_in_preorder(top?, at?);
            self.nodes.get_key_value(at?.as_str())
        })
    }

    /// As [`Tree::descendants`], and the znode itself before them.
    pub fn subtree(&self, path: &str) -> impl Iterator<Item = (&ZnodePath, &Arc<Znode>)> {
        self.nodes.get_key_value(path).into_iter().chain(self.descendants(path))
    }

    /// Returns what follows a znode when those below `top` are walked parents first. The znode is `top` or
    /// below it.
    pub(super) fn next_in_preorder(
        &self,
        top: &ZnodePath,
        after: &ZnodePath,
    ) -> Option<&ZnodePath> {
        if let Some(first) = self.nodes.get(after.as_str())?.children().next() {
            return Some(first);
        }
        let mut at = after.as_str();
        for parent in after.self_and_ancestors().skip(1) {
            if at == top.as_str() {
                return None;
            }
            if let Some(sibling) = self.nodes.get(parent)?.children_after(at).next() {
                return Some(sibling);
            }
            at = parent;
        }
        None
    }

    /// Returns the zxid of the latest transaction.
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// Returns the latest time that a transaction carried.
    pub fn time(&self) -> TxnTime {
        self.time
    }

    /// Returns the cluster's clock at the latest transaction, ms.
    pub fn cluster_ms(&self) -> u64 {
        self.time.cluster_ms
    }

    /// Returns the leader's wall clock at the latest transaction, ms since 1970.
    pub fn wall_ms(&self) -> u64 {
        self.time.wall_ms
    }

    /// Returns the number of znodes, the built-in ones included.
    pub fn znode_count(&self) -> usize {
        self.nodes.len()
    }

    /// Returns the number of ephemeral znodes.
    pub fn ephemeral_count(&self) -> u64 {
        self.ephemerals
    }

    /// Returns the number of live sessions.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Returns the bytes of all paths and data. Source: ZooKeeper `DataTree.approximateDataSize`.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Returns the access control list for what is made below a path in nobody's name: open to everyone, but where what lies
    /// above may not be read by everyone, that one's. So whoever closes a subtree closes what comes to be there later.
    pub fn rules_below(&self, parent: &ZnodePath) -> Vec<Acl> {
        let above = parent.self_and_ancestors().find_map(|path| self.get(path));
        let closed = above.filter(|znode| !permits(&znode.acl, &[], Perms::READ));
        closed.map_or_else(Vec::new, |znode| znode.acl.to_vec())
    }

    /// Returns the number of znodes that somebody with this authority finds below a path: what is below one that may not be
    /// read counts nothing. Cost: O(result).
    pub fn found_count(&self, path: &str, authority: &[AclId]) -> usize {
        let (mut count, mut open) = (0, vec![path]);
        while let Some(znode) = open.pop().and_then(|at| self.readable(at, authority).ok()) {
            count += znode.num_children();
            open.extend(znode.children().map(ZnodePath::as_str).filter(|child| {
                self.readable(child, authority).is_ok_and(|child| child.num_children() > 0)
            }));
        }
        count
    }

    /// Returns what the first transaction of this session with this idempotency key came to, and its zxid, as long as that
    /// is kept.
    pub fn kept_result(
        &self,
        session: SessionId,
        key: &str,
    ) -> Option<(Zxid, &Result<Reply, Failure>)> {
        self.results.get(session, key)
    }

    /// Returns the incarnation of an origin and the last seq of it that was taken up.
    pub fn origin_last(&self, node: NodeId) -> Option<(u64, u64)> {
        self.origins.get(&node).copied()
    }
}

/// Counts how often znodes are looked up by their path, for tests that have to know how much a question costs.
#[cfg(test)]
pub(crate) mod looked_up {
    use std::cell::Cell;

    thread_local! {
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn count() {
        COUNT.set(COUNT.get() + 1);
    }

    /// Returns what some work gives, and how many times it has looked up a znode.
    pub(crate) fn during<T>(work: impl FnOnce() -> T) -> (T, u64) {
        let before = COUNT.get();
        let done = work();
        (done, COUNT.get() - before)
    }
}
