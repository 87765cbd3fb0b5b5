use super::{Lifetime, Tree};
use crate::policy::{self, Kind, Policies, Policy};
use crate::registry::Layouts;
use crate::types::{ZnodePath, Zxid};

impl Tree {
    /// Returns the policies at this point of history: those whose znodes parse.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Returns the layouts in which services are, at this point of history.
    pub fn layouts(&self) -> &Layouts {
        self.policies.layouts()
    }

    /// Brings the policies in step with the znode at a path, which was created, changed or deleted, and what follows from them.
    pub(super) fn follow_policy(&mut self, path: &ZnodePath) {
        let Some((kind, _)) = policy::at(path.as_str()) else { return };
        self.read_policy(path);
        if kind == Kind::Layout {
            let before = self.layouts().clone();
            self.policies.follow_layouts(self.layouts_changed());
            if before != *self.layouts() {
                self.follow_layouts(&before);
            }
        }
    }

    fn read_policy(&mut self, path: &ZnodePath) {
        let Some((kind, name)) = policy::at(path.as_str()) else { return };
        // Doors let nothing in that does not parse or cannot end; whatever comes past them is as if it were not there.
        let policy = self.get(path.as_str()).and_then(|znode| {
            let policy = Policy::parse(kind, znode.data()?).ok()?;
            let is_ttl = matches!(znode.lifetime(), Lifetime::Ttl { .. });
            policy::check_end(kind, &policy, is_ttl).ok().map(|()| policy)
        });
        match policy {
            Some(policy) => self.policies.set(kind, name, policy),
            None => self.policies.remove(kind, name),
        }
    }

    /// Returns the zxid of the newest change of the policies that describe layouts. Cost: O(policies of the kind).
    fn layouts_changed(&self) -> Zxid {
        let folder = self.get(&policy::folder_of(Kind::Layout));
        folder.map_or(Zxid(0), |folder| {
            let all = folder.children().filter_map(|path| self.get(path.as_str()));
            all.map(|policy| policy.mzxid).fold(folder.pzxid, Zxid::max)
        })
    }

    /// Finds all policies: for a tree that was loaded. Cost: O(policies).
    pub(super) fn find_policies(&mut self) {
        let below = self.descendants(policy::ROOT).map(|(path, _)| path.clone());
        let below: Vec<ZnodePath> = below.collect();
        below.iter().for_each(|path| self.read_policy(path));
        self.policies.follow_layouts(self.layouts_changed());
    }
}
