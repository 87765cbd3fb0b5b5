use super::apply::{Client, check_no_finding, check_permitted};
use super::{BUILT_IN, Tree};
use crate::traffic::{TOMBSTONES, Tombstone, address_prefix, scope_of};
use crate::types::{AclId, Code, Data, Event, Perms, Reply, ZnodePath, Zxid};

impl Tree {
    /// Deletes those of the candidates that are still what they were when they were chosen, or none if one of them may not
    /// be deleted. What has gone, come anew or got a child meanwhile stays as it is.
    pub(super) fn deregister(
        &mut self,
        client: Client<'_>,
        candidates: &[(ZnodePath, Zxid)],
        events: &mut Vec<Event>,
    ) -> Result<Reply, Code> {
        let mut doomed = Vec::with_capacity(candidates.len().min(self.nodes.len()));
        for (path, czxid) in candidates {
            if BUILT_IN.contains(&path.as_str()) {
                return Err(Code::BadArguments);
            }
            check_no_finding(path)?;
            let is_same = |znode: &super::Znode| znode.czxid == *czxid && znode.num_children() == 0;
            if !self.get(path.as_str()).is_some_and(|znode| is_same(znode)) {
                continue;
            }
            let parent = path.parent_str().and_then(|parent| self.get(parent));
            check_permitted(parent.ok_or(Code::NoNode)?, client, Perms::DELETE)?;
            doomed.push(path.clone());
        }
        // One that is named twice goes once.
        doomed.retain(|path| match self.unlink(path) {
            Some(event) => {
                events.push(event);
                true
            }
            None => false,
        });
        Ok(Reply::Deregistered { paths: doomed })
    }

    /// Returns the tombstone that keeps a znode from being created, if one does. Cost: a lookup while there are none; else
    /// O(tombstones of its address + length of its data).
    pub fn tombstone_of(
        &self,
        path: &ZnodePath,
        data: Option<&Data>,
        is_ephemeral: bool,
        authority: &[AclId],
    ) -> Option<&ZnodePath> {
        let all = self.get(TOMBSTONES).filter(|all| all.num_children() > 0)?;
        let own = Tombstone::Path(path.clone()).path().ok();
        if let Some((own, _)) = own.and_then(|own| self.nodes.get_key_value(own.as_str())) {
            return Some(own);
        }
        let of_addresses = format!("{TOMBSTONES}/ip=");
        let first = all.children_after(&of_addresses).next()?;
        if !is_ephemeral || !first.as_str().starts_with(&of_addresses) {
            return None;
        }
        let claimed = self.layouts().claim(path.as_str(), data.map(|data| &data[..]))?;
        let hosts = claimed.addresses.iter().map(|(host, _)| address_prefix(host, None));
        let ports = claimed.addresses.iter().filter(|(_, port)| port.is_some());
        let ports = ports.map(|(host, port)| address_prefix(host, *port));
        let peers = authority.iter().filter(|who| who.scheme == "ip");
        let peers = peers.map(|who| address_prefix(&who.id, None));
        hosts.chain(ports).chain(peers).find_map(|prefix| {
            let found = all
                .children_after(&prefix)
                .map_while(|it| Some((it, it.as_str().strip_prefix(&prefix)?)));
            let in_force = |(_, scope): &(&ZnodePath, &str)| {
                scope_of(scope).is_some_and(|scope| scope.matches(path.as_str()))
            };
            let mut in_force = found.filter(in_force);
            in_force.next().map(|(tombstone, _)| tombstone)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{CreateMode, Failure, Op, Outcome, SessionId, Txn, TxnTime};

    fn path(text: &str) -> ZnodePath {
        ZnodePath::parse(text).unwrap()
    }

    fn apply(tree: &mut Tree, session: SessionId, op: Op) -> Result<Reply, Failure> {
        let ip = AclId { scheme: "ip".to_owned(), id: "10.0.0.9".to_owned() };
        let txn = Txn {
            origin: Default::default(),
            session,
            owner: None,
            authority: vec![ip],
            idempotency_key: None,
            op,
        };
        match tree.apply(TxnTime::default(), &txn) {
            Outcome::Applied(applied) => applied.result,
            other => panic!("{other:?}"),
        }
    }

    fn create(at: &str, data: &str, mode: CreateMode) -> Op {
        let at = path(at);
        let data = Some(Data::new(data.as_bytes()));
        let name = at.name().to_owned();
        Op::Create { parent: at.parent().unwrap(), name, data, acl: Vec::new(), mode }
    }

    /// A tree with a session and the parents of services.
    fn tree() -> (Tree, SessionId) {
        let mut tree = Tree::new();
        for at in ["/roost", TOMBSTONES, "/services", "/services/web", "/other"] {
            apply(&mut tree, SessionId::NONE, create(at, "", CreateMode::Persistent)).unwrap();
        }
        let open = Op::OpenSession { timeout_ms: 1_000, password: [0; 16], owner: None };
        let Ok(Reply::Session { session, .. }) = apply(&mut tree, SessionId::NONE, open) else {
            panic!()
        };
        (tree, session)
    }

    fn bury(tree: &mut Tree, tombstone: &Tombstone) {
        let at = tombstone.path().unwrap();
        apply(tree, SessionId::NONE, create(at.as_str(), "", CreateMode::Ttl(1_000))).unwrap();
    }

    const AT_5: &str = r#"{"host":"10.0.0.5","port":80}"#;
    const AT_6: &str = r#"{"host":"10.0.0.6","port":80}"#;

    #[test]
    fn what_a_tombstone_names_is_not_created_and_all_else_is() {
        let (mut tree, session) = tree();
        let scope = |text: &str| crate::policy::Pattern::parse(text).unwrap();
        bury(&mut tree, &Tombstone::Path(path("/services/web/a")));
        let host = "10.0.0.5".to_owned();
        bury(&mut tree, &Tombstone::Address { host, port: Some(80), scope: scope("/services/**") });
        let mut creates = |at: &str, data: &str, mode| {
            apply(&mut tree, session, create(at, data, mode))
                .map(drop)
                .map_err(|failure| failure.code)
        };
        let ephemeral = CreateMode::Ephemeral;
        assert_eq!(creates("/services/web/a", AT_6, ephemeral), Err(Code::NoAuth));
        assert_eq!(creates("/services/web/a", "", CreateMode::Persistent), Err(Code::NoAuth));
        assert_eq!(creates("/services/web/b", AT_6, ephemeral), Ok(()));
        assert_eq!(creates("/services/web/c", AT_5, ephemeral), Err(Code::NoAuth));
        assert_eq!(
            creates("/services/web/d", r#"{"host":"10.0.0.5","port":81}"#, ephemeral),
            Ok(())
        );
        assert_eq!(creates("/other/c", AT_5, ephemeral), Ok(()), "out of scope");
        assert_eq!(creates("/services/web/lock", "10.0.0.5", ephemeral), Ok(()), "no registration");

        // Whence a registration comes counts too, but not for a tombstone of a port.
        let host = "10.0.0.9".to_owned();
        bury(
            &mut tree,
            &Tombstone::Address { host: host.clone(), port: Some(80), scope: scope("/**") },
        );
        let e = create("/services/web/e", AT_6, ephemeral);
        assert!(apply(&mut tree, session, e.clone()).is_ok());
        bury(&mut tree, &Tombstone::Address { host, port: None, scope: scope("/**") });
        let f = create("/services/web/f", AT_6, ephemeral);
        assert_eq!(apply(&mut tree, session, f).unwrap_err().code, Code::NoAuth);
    }

    #[test]
    fn only_what_was_chosen_goes_and_nothing_if_anything_may_not() {
        let (mut tree, session) = tree();
        for at in ["/services/web/a", "/services/web/b", "/other/c"] {
            apply(&mut tree, session, create(at, AT_5, CreateMode::Ephemeral)).unwrap();
        }
        let chosen = |tree: &Tree, at: &str| (path(at), tree.get(at).unwrap().stat().czxid);
        let (a, b, c) = (
            chosen(&tree, "/services/web/a"),
            chosen(&tree, "/services/web/b"),
            chosen(&tree, "/other/c"),
        );
        // It has come anew since it was chosen.
        apply(&mut tree, session, Op::Delete { path: b.0.clone(), version: None }).unwrap();
        apply(&mut tree, session, create("/services/web/b", AT_6, CreateMode::Ephemeral)).unwrap();
        let rules = crate::types::Acl {
            perms: Perms::READ,
            id: AclId { scheme: "world".to_owned(), id: "anyone".to_owned() },
        };
        let op = Op::SetAcl { path: path("/other"), acl: vec![rules], aversion: None };
        apply(&mut tree, SessionId::NONE, op).unwrap();

        let all = Op::Deregister { candidates: vec![a.clone(), b.clone(), c] };
        assert_eq!(apply(&mut tree, SessionId::NONE, all).unwrap_err().code, Code::NoAuth);
        assert_eq!(tree.ephemeral_count(), 3);
        let gone = (path("/services/none"), Zxid(1));
        let some = Op::Deregister { candidates: vec![a.clone(), b, a.clone(), gone] };
        let reply = apply(&mut tree, SessionId::NONE, some).unwrap();
        assert_eq!(reply, Reply::Deregistered { paths: vec![a.0] });
        assert_eq!(tree.ephemeral_count(), 2);
        assert_eq!(tree.digest(), tree.recomputed_digest());
    }
}
