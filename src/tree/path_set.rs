use std::ops::Bound;

use imbl::OrdSet;

use crate::types::ZnodePath;

/// Beyond so many paths a set becomes a search tree.
const FEW_MAX: usize = 16;
/// Below so many it becomes an array again; lower than the other bound lest a set at the edge flips with
/// each change.
const MANY_MIN: usize = 8;

/// An ordered set of paths that costs nothing when empty, little when small, and whose clone is cheap when
/// large: most znodes have no children, most sessions a few ephemerals, and some parents a million
/// children. Children share their path with the table of znodes; below one parent the order of paths is the
/// order of names.
#[derive(Clone, Debug)]
pub(super) enum PathSet {
    Few(Vec<ZnodePath>),
    Many(OrdSet<ZnodePath>),
}

impl Default for PathSet {
    fn default() -> PathSet {
        PathSet::Few(Vec::new())
    }
}

impl PartialEq for PathSet {
    /// However they have become what they are.
    fn eq(&self, other: &PathSet) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for PathSet {}

impl PathSet {
    /// Makes a set of ascending paths.
    pub(super) fn from_sorted(paths: Vec<ZnodePath>) -> PathSet {
        debug_assert!(paths.is_sorted(), "paths arrive in order");
        if paths.len() <= FEW_MAX {
            let mut paths = paths;
            paths.shrink_to_fit();
            PathSet::Few(paths)
        } else {
            PathSet::Many(paths.into_iter().collect())
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            PathSet::Few(paths) => paths.len(),
            PathSet::Many(paths) => paths.len(),
        }
    }

    pub(super) fn insert(&mut self, path: ZnodePath) {
        match self {
            PathSet::Few(paths) => {
                let Err(at) = paths.binary_search(&path) else { return };
                // Most sets stay at one or two paths, for which doubling would waste most of the array.
                if paths.len() < 4 {
                    paths.reserve_exact(1);
                }
                paths.insert(at, path);
                if paths.len() > FEW_MAX {
                    *self = PathSet::Many(paths.drain(..).collect());
                }
            }
            PathSet::Many(paths) => {
                paths.insert(path);
            }
        }
    }

    pub(super) fn remove(&mut self, path: &str) {
        match self {
            PathSet::Few(paths) => {
                if let Ok(at) = paths.binary_search_by(|probe| probe.as_str().cmp(path)) {
                    paths.remove(at);
                }
            }
            PathSet::Many(paths) => {
                paths.remove(path);
                if paths.len() < MANY_MIN {
                    *self = PathSet::Few(paths.iter().cloned().collect());
                }
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &ZnodePath> {
        let (few, many) = match self {
            PathSet::Few(paths) => (paths.as_slice(), None),
            PathSet::Many(paths) => (&[][..], Some(paths)),
        };
        few.iter().chain(many.into_iter().flatten())
    }

    /// Yields the paths that come after this one.
    pub(super) fn iter_after(&self, path: &str) -> impl Iterator<Item = &ZnodePath> {
        let after = (Bound::Excluded(path), Bound::Unbounded);
        let (few, many) = match self {
            PathSet::Few(paths) => {
                (&paths[paths.partition_point(|probe| probe.as_str() <= path)..], None)
            }
            PathSet::Many(paths) => (&[][..], Some(paths.range::<_, str>(after))),
        };
        few.iter().chain(many.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::{FEW_MAX, PathSet};
    use crate::types::ZnodePath;

    fn path(n: usize) -> ZnodePath {
        ZnodePath::parse(&format!("/{n:03}")).unwrap()
    }

    #[test]
    fn a_set_stays_ordered_while_it_grows_into_a_tree_and_shrinks_back() {
        let mut set = PathSet::default();
        let mut expected = std::collections::BTreeSet::new();
        let order = (0..60).map(|n| (n * 37) % 60);
        for n in order.clone().chain([3, 3]) {
            set.insert(path(n));
            expected.insert(path(n));
            assert!(set.iter().eq(expected.iter()));
        }
        assert!(matches!(set, PathSet::Many(_)));
        for n in order.clone() {
            assert!(set.iter_after(path(n).as_str()).eq(expected.range(path(n)..).skip(1)));
        }
        for n in order.chain([3]) {
            set.remove(path(n).as_str());
            expected.remove(&path(n));
            assert!(set.iter().eq(expected.iter()));
            assert!(
                set.iter_after("/030").eq(expected.iter().filter(|path| path.as_str() > "/030"))
            );
        }
        assert!(matches!(set, PathSet::Few(_)));
    }

    #[test]
    fn a_set_made_of_sorted_paths_equals_one_made_step_by_step() {
        for len in [0, 1, FEW_MAX, FEW_MAX + 1, 100] {
            let paths: Vec<_> = (0..len).map(path).collect();
            assert!(PathSet::from_sorted(paths.clone()).iter().eq(paths.iter()));
        }
    }
}
