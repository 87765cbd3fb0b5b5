use super::{Lifetime, Tree, Znode};
use crate::policy::{self, Policies, Policy};
use crate::types::ZnodePath;

impl Tree {
    /// Returns the policies at this point of history: those whose znodes parse.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Brings the policies in step with the znode at a path, which was created, changed or deleted.
    pub(super) fn follow_policy(&mut self, path: &ZnodePath) {
        let Some((kind, name)) = policy::at(path.as_str()) else { return };
        let znode = self.get(path.as_str());
        let ends = |znode: &Znode| matches!(znode.lifetime(), Lifetime::Ttl { .. });
        let znode = znode.filter(|znode| !kind.must_end() || ends(znode));
        let data = znode.and_then(|znode| znode.data());
        // Doors let nothing in that does not parse; whatever comes past them is as if it were not there.
        match data.and_then(|data| Policy::parse(kind, data).ok()) {
            Some(policy) => self.policies.set(kind, name, policy),
            None => self.policies.remove(kind, name),
        }
    }

    /// Finds all policies: for a tree that was loaded. Cost: O(policies).
    pub(super) fn find_policies(&mut self) {
        let below = self.descendants(policy::ROOT).map(|(path, _)| path.clone());
        let below: Vec<ZnodePath> = below.collect();
        below.iter().for_each(|path| self.follow_policy(path));
    }
}
