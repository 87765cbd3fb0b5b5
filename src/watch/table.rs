use std::collections::HashMap;

use super::{Filter, Selection, SubscriberId, WatchKind};
use crate::types::{Event, EventKind, ZnodePath};

/// The subscribers of each watched path, ascending. Paths without any have no entry.
type Audiences = HashMap<ZnodePath, Vec<SubscriberId>>;

/// The events of one change that a watched path matches.
struct Hit<'a> {
    audience: &'a [SubscriberId],
    events: Vec<u32>,
}

/// Who watches what. Finding the audience of an event costs O(depth of its path + audience), however many
/// subscribers there are.
#[derive(Default)]
pub(super) struct Table {
    data: Audiences,
    children: Audiences,
    children_data: Audiences,
    subtree: Audiences,
}

impl Table {
    /// Enters a subscriber, whose id is above all earlier ones. The filters hold no doubles. Cost:
    /// O(filters).
    pub(super) fn insert(&mut self, id: SubscriberId, filters: &[Filter]) {
        for filter in filters {
            let audience = self.audiences_mut(filter.kind).entry(filter.path.clone()).or_default();
            debug_assert!(audience.last() < Some(&id), "{id:?} is not the newest subscriber");
            audience.push(id);
        }
    }

    /// Takes a subscriber out again, given the filters that it was entered with. Cost: O(audience) per
    /// filter.
    pub(super) fn remove(&mut self, id: SubscriberId, filters: &[Filter]) {
        for filter in filters {
            let audiences = self.audiences_mut(filter.kind);
            let Some(audience) = audiences.get_mut(&filter.path) else { continue };
            if let Ok(at) = audience.binary_search(&id) {
                audience.remove(at);
            }
            if audience.is_empty() {
                audiences.remove(&filter.path);
            }
        }
    }

    /// Returns whether one of the subscriber's filters matches the event. Cost: O(depth · log audience).
    pub(super) fn sees(&self, id: SubscriberId, event: &Event) -> bool {
        let mut seen = false;
        self.visit(event, |_, _, audience| seen = seen || audience.binary_search(&id).is_ok());
        seen
    }

    /// Returns everyone whose filters match one of a change's events, in the order of their ids, each once,
    /// with the matching events. Cost: O(events · depth + the sum of the audiences); the matching events are
    /// put together once per different set of watched paths, not once per subscriber.
    pub(super) fn select(&self, events: &[Event]) -> Vec<(SubscriberId, Selection)> {
        let hits = self.hits(events);
        let mut pairs: Vec<(SubscriberId, usize)> = Vec::new();
        for (index, hit) in hits.iter().enumerate() {
            pairs.extend(hit.audience.iter().map(|id| (*id, index)));
        }
        pairs.sort_unstable();
        let mut known: HashMap<Vec<usize>, Selection> = HashMap::new();
        let mut paths = Vec::new();
        let mut selected = Vec::new();
        for group in pairs.chunk_by(|a, b| a.0 == b.0) {
            paths.clear();
            paths.extend(group.iter().map(|pair| pair.1));
            let selection = match known.get(&paths) {
                Some(selection) => selection.clone(),
                None => {
                    let selection = merge(&hits, &paths, events.len());
                    known.insert(paths.clone(), selection.clone());
                    selection
                }
            };
            selected.push((group[0].0, selection));
        }
        selected
    }

    /// Returns the watched paths that the events match, in the order in which they are met.
    fn hits<'a>(&'a self, events: &'a [Event]) -> Vec<Hit<'a>> {
        let mut hits = Vec::new();
        let mut known: HashMap<(WatchKind, &str), usize> = HashMap::new();
        for (index, event) in (0u32..).zip(events) {
            self.visit(event, |kind, path, audience| {
                let at = *known.entry((kind, path)).or_insert(hits.len());
                if at == hits.len() {
                    hits.push(Hit { audience, events: Vec::new() });
                }
                hits[at].events.push(index);
            });
        }
        hits
    }

    /// Calls `found` for each watched path that the event matches, each once. What the kinds of watch mean is
    /// decided here and nowhere else.
    fn visit<'a>(
        &'a self,
        event: &'a Event,
        mut found: impl FnMut(WatchKind, &'a str, &'a [SubscriberId]),
    ) {
        let mut look = |kind: WatchKind, path: &'a str| {
            if let Some(audience) = self.audiences(kind).get(path) {
                found(kind, path, audience);
            }
        };
        let path = event.path.as_str();
        let comes_or_goes = event.kind != EventKind::DataChanged;
        look(WatchKind::Data, path);
        if comes_or_goes {
            look(WatchKind::Children, path);
            look(WatchKind::ChildrenData, path);
        }
        if let Some(parent) = event.path.parent_str() {
            look(WatchKind::ChildrenData, parent);
            if comes_or_goes {
                look(WatchKind::Children, parent);
            }
        }
        for ancestor in event.path.self_and_ancestors() {
            look(WatchKind::Subtree, ancestor);
        }
    }

    fn audiences(&self, kind: WatchKind) -> &Audiences {
        match kind {
            WatchKind::Data => &self.data,
            WatchKind::Children => &self.children,
            WatchKind::ChildrenData => &self.children_data,
            WatchKind::Subtree => &self.subtree,
        }
    }

    fn audiences_mut(&mut self, kind: WatchKind) -> &mut Audiences {
        match kind {
            WatchKind::Data => &mut self.data,
            WatchKind::Children => &mut self.children,
            WatchKind::ChildrenData => &mut self.children_data,
            WatchKind::Subtree => &mut self.subtree,
        }
    }
}

/// Returns the events that at least one of these hits has.
fn merge(hits: &[Hit<'_>], paths: &[usize], events: usize) -> Selection {
    let mut indexes: Vec<u32> =
        paths.iter().flat_map(|at| hits[*at].events.iter().copied()).collect();
    indexes.sort_unstable();
    indexes.dedup();
    Selection::new(indexes, events)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::EventKind::{Created, DataChanged, Deleted};
    use crate::watch::hub::tests::{event, filter};

    const KINDS: [EventKind; 3] = [Created, Deleted, DataChanged];

    /// The events, out of every kind at every path around `/a/b`, that a watch of this kind on `/a/b` sees.
    fn seen(kind: WatchKind) -> Vec<String> {
        let mut table = Table::default();
        table.insert(SubscriberId(1), &[filter(kind, "/a/b")]);
        let mut seen = Vec::new();
        for path in ["/", "/a", "/a/b", "/a/bb", "/a/b/c", "/a/b/c/d", "/x"] {
            for kind in KINDS {
                let event = event(kind, path);
                let selected = !table.select(std::slice::from_ref(&event)).is_empty();
                assert_eq!(selected, table.sees(SubscriberId(1), &event), "{event:?}");
                if selected {
                    seen.push(format!("{kind:?} {path}"));
                }
            }
        }
        seen
    }

    #[test]
    fn a_data_watch_sees_its_znode_only() {
        let expected = ["Created /a/b", "Deleted /a/b", "DataChanged /a/b"];
        assert_eq!(seen(WatchKind::Data), expected);
    }

    #[test]
    fn a_children_watch_sees_the_list_change_and_the_znode_come_and_go() {
        let expected = ["Created /a/b", "Deleted /a/b", "Created /a/b/c", "Deleted /a/b/c"];
        assert_eq!(seen(WatchKind::Children), expected);
    }

    #[test]
    fn a_children_data_watch_also_sees_the_data_of_children() {
        let expected = [
            "Created /a/b",
            "Deleted /a/b",
            "Created /a/b/c",
            "Deleted /a/b/c",
            "DataChanged /a/b/c",
        ];
        assert_eq!(seen(WatchKind::ChildrenData), expected);
    }

    #[test]
    fn a_subtree_watch_sees_everything_at_and_below_but_no_namesake() {
        let below = ["/a/b", "/a/b/c", "/a/b/c/d"];
        let expected: Vec<String> =
            below.iter().flat_map(|path| KINDS.map(|kind| format!("{kind:?} {path}"))).collect();
        assert_eq!(seen(WatchKind::Subtree), expected);
    }

    #[test]
    fn the_root_can_be_watched_in_every_way() {
        let mut table = Table::default();
        let kinds =
            [WatchKind::Data, WatchKind::Children, WatchKind::ChildrenData, WatchKind::Subtree];
        for (id, kind) in (1..).zip(kinds) {
            table.insert(SubscriberId(id), &[filter(kind, "/")]);
        }
        let ids = |kind, path| {
            table.select(&[event(kind, path)]).iter().map(|(id, _)| id.0).collect::<Vec<_>>()
        };
        assert_eq!(ids(DataChanged, "/"), [1, 4]);
        assert_eq!(ids(Created, "/a"), [2, 3, 4]);
        assert_eq!(ids(DataChanged, "/a"), [3, 4]);
        assert_eq!(ids(Created, "/a/b"), [4]);
    }

    #[test]
    fn a_multi_gives_each_subscriber_its_events_once_and_in_order() {
        let mut table = Table::default();
        let overlapping = [filter(WatchKind::Subtree, "/a"), filter(WatchKind::Children, "/a")];
        table.insert(SubscriberId(1), &overlapping);
        table.insert(SubscriberId(2), &overlapping);
        table.insert(SubscriberId(3), &[filter(WatchKind::Subtree, "/")]);
        table.insert(SubscriberId(4), &[filter(WatchKind::Data, "/z")]);
        let events = [
            event(Created, "/a/x"),
            event(Created, "/b"),
            event(DataChanged, "/a"),
            event(Deleted, "/a/x"),
        ];
        let selected = table.select(&events);
        let only = Selection::Only(Arc::from([0, 2, 3]));
        assert_eq!(
            selected,
            [
                (SubscriberId(1), only.clone()),
                (SubscriberId(2), only),
                (SubscriberId(3), Selection::All)
            ]
        );
        let (Selection::Only(one), Selection::Only(two)) = (&selected[0].1, &selected[1].1) else {
            panic!("partial selections: {selected:?}");
        };
        assert!(Arc::ptr_eq(one, two), "equal subscriptions share their selection");
    }

    #[test]
    fn a_removed_subscriber_leaves_nothing_behind() {
        let mut table = Table::default();
        let filters = [filter(WatchKind::Subtree, "/a"), filter(WatchKind::Data, "/a")];
        table.insert(SubscriberId(1), &filters);
        table.insert(SubscriberId(2), &filters[..1]);
        table.remove(SubscriberId(1), &filters);
        assert_eq!(table.select(&[event(Created, "/a")]), [(SubscriberId(2), Selection::All)]);
        table.remove(SubscriberId(2), &filters[..1]);
        assert!(table.data.is_empty() && table.subtree.is_empty());
    }
}
