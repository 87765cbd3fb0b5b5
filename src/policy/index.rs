//! Policies by their patterns: those that speak of a path are found by walking its elements, whatever the number of the others.

use std::sync::Arc;

use imbl::OrdMap;

use super::pattern::{Part, Pattern};
use super::{Named, Policy};

/// What somebody hears of who follows a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The znode there.
    Znode,
    /// Also the names of its children.
    Children,
    /// Also their data.
    Entries,
    /// All that is below it.
    Subtree,
}

/// What was found, and how many places of the index were looked at for it.
#[derive(Debug, Default)]
pub(super) struct Found<'a> {
    pub(super) policies: Vec<Named<'a>>,
    pub(super) steps: usize,
}

type ByName = OrdMap<Arc<str>, Arc<Policy>>;

/// A place in the index: what patterns that begin with the same elements have behind them. A clone is O(1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Of those that end here.
    here: ByName,
    /// Of those that end here with any rest, which may be empty.
    rest: ByName,
    /// Where they go on with a name.
    names: OrdMap<Arc<str>, Arc<Place>>,
    /// Where they go on with any one name.
    any: Option<Arc<Place>>,
}

impl Place {
    /// Enters a policy below its pattern. Cost: O(elements · log n).
    pub(super) fn enter(&mut self, name: &Arc<str>, policy: &Arc<Policy>) {
        let pattern = &policy.pattern;
        let change = |at: &mut ByName| {
            at.insert(Arc::clone(name), Arc::clone(policy));
        };
        self.change(pattern.parts(), pattern, &change);
    }

    /// Takes a policy out. Cost: as to enter it.
    pub(super) fn leave(&mut self, name: &str, pattern: &Pattern) {
        let change = |at: &mut ByName| {
            at.remove(name);
        };
        self.change(pattern.parts(), pattern, &change);
    }

    /// Changes what is at the end of these parts; a place where nothing is left goes.
    fn change(&mut self, parts: &[Part], pattern: &Pattern, change: &dyn Fn(&mut ByName)) {
        let changed = |place: Option<&Arc<Place>>, parts: &[Part]| {
            let mut place = place.map(|place| Place::clone(place)).unwrap_or_default();
            place.change(parts, pattern, change);
            (place != Place::default()).then(|| Arc::new(place))
        };
        match parts.split_first() {
            None if pattern.has_rest() => change(&mut self.rest),
            None => change(&mut self.here),
            Some((Part::One, parts)) => self.any = changed(self.any.as_ref(), parts),
            Some((Part::Name(name), parts)) => match changed(self.names.get(name), parts) {
                Some(place) => drop(self.names.insert(Arc::clone(name), place)),
                None => drop(self.names.remove(name)),
            },
        }
    }

    /// Finds the policies that speak of what somebody hears of who follows a path. Of a list of children those do that mean
    /// *all* of them; of their data those that mean any. Cost: O(places that the elements of the path lead to), and of a
    /// subtree all that is in it.
    pub(super) fn find<'a>(&'a self, path: &str, reach: Reach, found: &mut Found<'a>) {
        found.steps += 1;
        found.take(&self.rest);
        let Some((name, path)) = first(path) else {
            found.take(&self.here);
            self.find_below(reach, found);
            return;
        };
        let next = [self.names.get(name), self.any.as_ref()];
        next.into_iter().flatten().for_each(|place| place.find(path, reach, found));
    }

    fn find_below<'a>(&'a self, reach: Reach, found: &mut Found<'a>) {
        let named =
            self.names.values().filter(|_| matches!(reach, Reach::Entries | Reach::Subtree));
        let any = self.any.as_ref().filter(|_| reach != Reach::Znode);
        for place in named.chain(any) {
            found.steps += 1;
            found.take(&place.rest);
            found.take(&place.here);
            if reach == Reach::Subtree {
                place.find_below(reach, found);
            }
        }
    }
}

impl<'a> Found<'a> {
    fn take(&mut self, policies: &'a ByName) {
        self.policies.extend(policies.iter().map(|(name, policy)| (name, policy.as_ref())));
    }
}

/// Returns the first element of a path and what follows it; `None` for none.
fn first(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let end = path.find('/').unwrap_or(path.len());
    (!path.is_empty()).then(|| path.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Policy};
    use super::*;

    const PATTERNS: [&str; 10] =
        ["/", "/**", "/a", "/a/*", "/a/**", "/a/b", "/*/b", "/a/*/c", "/a/secret/**", "/a/b/c/d"];

    fn policy(pattern: &str) -> Arc<Policy> {
        let json = format!(r#"{{"set_by":"a","reason":"b","pattern":"{pattern}","grace_ms":500}}"#);
        Arc::new(Policy::parse(Kind::Disconnect, json.as_bytes()).unwrap())
    }

    fn index(patterns: &[&str]) -> Place {
        let mut index = Place::default();
        patterns.iter().for_each(|it| index.enter(&Arc::from(*it), &policy(it)));
        index
    }

    fn find(index: &Place, path: &str, reach: Reach) -> Vec<String> {
        let mut found = Found::default();
        index.find(path, reach, &mut found);
        let mut names: Vec<String> = found.policies.iter().map(|(it, _)| it.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_found_is_what_matches_and_nothing_is_left_of_what_went() {
        let index = index(&PATTERNS);
        for path in ["/", "/a", "/b", "/a/b", "/x/b", "/a/b/c", "/a/secret", "/a/secret/x/y"] {
            let mut matching: Vec<String> = PATTERNS.map(str::to_owned).to_vec();
            matching.retain(|pattern| Pattern::parse(pattern).unwrap().matches(path));
            matching.sort();
            assert_eq!(find(&index, path, Reach::Znode), matching, "{path}");
        }
        let mut emptied = index;
        for pattern in PATTERNS {
            emptied.leave(pattern, &Pattern::parse(pattern).unwrap());
        }
        assert_eq!(emptied, Place::default());
    }

    #[test]
    fn who_follows_a_list_meets_what_means_all_of_it_and_who_follows_data_what_means_any() {
        let index = index(&PATTERNS);
        let more = |path: &str, reach: Reach| {
            let less = find(&index, path, Reach::Znode);
            let mut more = find(&index, path, reach);
            more.retain(|one| !less.contains(one));
            more
        };
        assert_eq!(more("/a", Reach::Children), ["/a/*"]);
        assert_eq!(more("/a", Reach::Entries), ["/*/b", "/a/*", "/a/b", "/a/secret/**"]);
        let below = ["/*/b", "/a/*", "/a/*/c", "/a/b", "/a/b/c/d", "/a/secret/**"];
        assert_eq!(more("/a", Reach::Subtree), below);
        assert_eq!(more("/a/b", Reach::Children), [""; 0]);
        assert_eq!(more("/a/b", Reach::Subtree), ["/a/*/c", "/a/b/c/d"]);
        assert_eq!(more("/a/x", Reach::Entries), ["/a/*/c"]);
    }
}
