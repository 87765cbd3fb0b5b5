//! Whom overrides mean.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::limits::OVERRIDDEN_SEEN_MAX;
use crate::policy::{Kind, Mode, Overrides, Policy, Terms, path_of, tops};
use crate::traffic::{Claim, means};
use crate::tree::{Tree, Znode};
use crate::types::ZnodePath;

/// An instance that an override means.
pub(super) struct Meant<'a> {
    pub(super) path: &'a ZnodePath,
    pub(super) znode: &'a Znode,
    pub(super) claimed: Arc<Claim>,
    pub(super) overrides: &'a Overrides,
    /// The override's name, and when it was set.
    pub(super) by: (&'a str, u64),
}

/// Returns whom the overrides in this mode mean, those with a later word behind. Each znode is read once.
pub(super) fn meant(tree: &Tree, mode: Mode) -> Vec<Meant<'_>> {
    let all = overrides(tree, mode);
    let places: BTreeMap<&str, (usize, u64)> =
        all.iter().enumerate().map(|(at, (name, ..))| (*name, (at, set_at(tree, name)))).collect();
    let tops = tops(all.iter().map(|(_, policy, _)| &policy.pattern));
    let below = tops.into_iter().flat_map(|top| tree.subtree(top)).take(OVERRIDDEN_SEEN_MAX);
    let mut found = Vec::new();
    for (path, znode) in below {
        let matching = tree.policies().matching(Kind::Overrides, path.as_str());
        let mut matching = matching
            .filter_map(|(name, _)| places.get(&**name).map(|place| (&**name, *place)))
            .peekable();
        if matching.peek().is_none() {
            continue;
        }
        let Some(claimed) = claimed(tree, path, znode) else { continue };
        for (name, (at, set_at)) in matching {
            let (_, _, overrides) = all[at];
            if means(overrides, path.as_str(), &claimed) {
                let (claimed, by) = (claimed.clone(), (name, set_at));
                found.push((at, Meant { path, znode, claimed, overrides, by }));
            }
        }
    }
    // Of one override in the order of their paths, as they were found.
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, meant)| meant).collect()
}

/// Returns where a znode says that somebody is, if it does.
pub(super) fn claimed(tree: &Tree, path: &ZnodePath, znode: &Znode) -> Option<Arc<Claim>> {
    tree.layouts().claim(path.as_str(), znode.data().map(|data| &data[..])).map(Arc::new)
}

/// Returns the overrides in this mode, the more special ones behind the others, of equal ones by name: the later one has the
/// last word.
pub(super) fn overrides(tree: &Tree, mode: Mode) -> Vec<(&str, &Policy, &Overrides)> {
    let overrides = tree.policies().iter().filter_map(|(_, (name, policy))| match &policy.terms {
        Terms::Overrides(overrides) if policy.mode == mode => Some((&**name, policy, overrides)),
        _ => None,
    });
    let mut overrides: Vec<_> = overrides.collect();
    overrides.sort_by_key(|(name, policy, _)| (policy.pattern.specificity(), *name));
    overrides
}

/// Returns when an override was set last.
pub(super) fn set_at(tree: &Tree, name: &str) -> u64 {
    tree.get(&path_of(Kind::Overrides, name)).map_or(0, |it| it.stat().mzxid.0)
}
