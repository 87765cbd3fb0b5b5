//! The table of watches against a naive one that keeps a list of triples and knows ZooKeeper's rules by heart.

use proptest::prelude::*;

use super::hub::tests::event;
use super::{Bounds, NoticeKind, WATCH_MODES, WatchMode, WatcherId, Watches, WatchesFull};
use crate::types::{Event, EventKind, ZnodePath};

const PATHS: [&str; 6] = ["/", "/a", "/a/b", "/a/b/c", "/ab", "/d"];

fn path(at: usize) -> ZnodePath {
    ZnodePath::parse(PATHS[at]).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Add(usize, usize, WatchMode),
    Remove(usize, usize, WatchMode),
    Fire(EventKind, usize),
    /// A connection goes, in pieces of so many watches, and another comes.
    Replace(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (who, at) = (0..4usize, 0..PATHS.len());
    let mode = prop::sample::select(WATCH_MODES.to_vec());
    let kind =
        prop::sample::select(vec![EventKind::Created, EventKind::Deleted, EventKind::DataChanged]);
    prop_oneof![
        6 => (who.clone(), at.clone(), mode.clone()).prop_map(|(w, p, m)| Step::Add(w, p, m)),
        2 => (who.clone(), at.clone(), mode).prop_map(|(w, p, m)| Step::Remove(w, p, m)),
        6 => (kind, at).prop_map(|(k, p)| Step::Fire(k, p)),
        1 => (who, 1..4usize).prop_map(|(w, piece)| Step::Replace(w, piece)),
    ]
}

type Told = Vec<(WatcherId, NoticeKind, ZnodePath)>;

/// What the table is meant to be.
#[derive(Default)]
struct Naive(Vec<(WatcherId, ZnodePath, WatchMode)>);

impl Naive {
    /// Returns who watches a znode's data, and forgets those who wanted to hear of it once.
    fn data(&mut self, at: &ZnodePath) -> Vec<WatcherId> {
        let hears = |(_, path, mode): &&(WatcherId, ZnodePath, WatchMode)| match mode {
            WatchMode::Data | WatchMode::Persistent => path == at,
            WatchMode::Recursive => path.contains(at.as_str()),
            WatchMode::Child => false,
        };
        let told = self.0.iter().filter(hears).map(|(id, ..)| *id).collect();
        self.0.retain(|(_, path, mode)| path != at || *mode != WatchMode::Data);
        sorted(told)
    }

    /// As above, of its children.
    fn child(&mut self, at: &ZnodePath) -> Vec<WatcherId> {
        let hears = |(_, path, mode): &&(WatcherId, ZnodePath, WatchMode)| {
            path == at && matches!(mode, WatchMode::Child | WatchMode::Persistent)
        };
        let told = self.0.iter().filter(hears).map(|(id, ..)| *id).collect();
        self.0.retain(|(_, path, mode)| path != at || *mode != WatchMode::Child);
        sorted(told)
    }

    fn fire(&mut self, event: &Event) -> Told {
        let path = &event.path;
        let mut told = Vec::new();
        let mut tell = |ids: Vec<WatcherId>, kind, path: &ZnodePath| {
            told.extend(ids.into_iter().map(|id| (id, kind, path.clone())));
        };
        match event.kind {
            EventKind::DataChanged => tell(self.data(path), NoticeKind::DataChanged, path),
            EventKind::Created => tell(self.data(path), NoticeKind::Created, path),
            EventKind::Deleted => {
                let first = self.data(path);
                let second = self.child(path).into_iter().filter(|id| !first.contains(id));
                let second = second.collect();
                tell(first, NoticeKind::Deleted, path);
                tell(second, NoticeKind::Deleted, path);
            }
        }
        if event.kind != EventKind::DataChanged
            && let Some(parent) = path.parent()
        {
            tell(self.child(&parent), NoticeKind::ChildrenChanged, &parent);
        }
        told
    }
}

fn sorted(mut ids: Vec<WatcherId>) -> Vec<WatcherId> {
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn fire(watches: &mut Watches, event: &Event) -> Told {
    let mut told = Vec::new();
    watches.fire(event, |id, kind, path, _| told.push((id, kind, path.clone())));
    told
}

proptest! {
    #[test]
    fn everyone_is_told_what_zookeepers_rules_say(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let (mut watches, mut naive) = (Watches::new(Bounds::default()), Naive::default());
        let mut ids: Vec<WatcherId> = (0..4).map(|_| watches.enter().unwrap()).collect();
        for step in steps {
            match step {
                Step::Add(who, at, mode) => {
                    watches.add(ids[who], &path(at), mode).unwrap();
                    let watch = (ids[who], path(at), mode);
                    if !naive.0.contains(&watch) {
                        naive.0.push(watch);
                    }
                }
                Step::Remove(who, at, mode) => {
                    let watch = (ids[who], path(at), mode);
                    let was_there = naive.0.contains(&watch);
                    naive.0.retain(|other| *other != watch);
                    prop_assert_eq!(watches.remove(ids[who], PATHS[at], mode), was_there);
                }
                Step::Fire(kind, at) => {
                    let event = event(kind, PATHS[at]);
                    prop_assert_eq!(fire(&mut watches, &event), naive.fire(&event));
                }
                Step::Replace(who, piece) => {
                    while !watches.leave(ids[who], piece) {}
                    naive.0.retain(|(id, ..)| *id != ids[who]);
                    ids[who] = watches.enter().unwrap();
                }
            }
            let paths: std::collections::BTreeSet<_> =
                naive.0.iter().map(|(_, path, _)| path.clone()).collect();
            prop_assert_eq!((watches.len(), watches.paths()), (naive.0.len(), paths.len()));
            for (id, path, mode) in &naive.0 {
                prop_assert!(watches.has(*id, path.as_str(), *mode));
            }
        }
        for id in ids {
            while !watches.leave(id, 1) {}
        }
        prop_assert!(watches.is_empty() && watches.paths() == 0 && watches.watching() == 0);
    }
}

#[test]
fn a_deletion_is_told_once_to_who_watches_data_and_children() {
    let mut watches = Watches::new(Bounds::default());
    let (both, child) = (watches.enter().unwrap(), watches.enter().unwrap());
    for mode in [WatchMode::Data, WatchMode::Child] {
        watches.add(both, &path(2), mode).unwrap();
    }
    watches.add(child, &path(2), WatchMode::Child).unwrap();
    watches.add(child, &path(1), WatchMode::Persistent).unwrap();
    let told = fire(&mut watches, &event(EventKind::Deleted, "/a/b"));
    assert_eq!(
        told,
        [
            (both, NoticeKind::Deleted, path(2)),
            (child, NoticeKind::Deleted, path(2)),
            (child, NoticeKind::ChildrenChanged, path(1)),
        ]
    );
    assert_eq!(watches.paths_of(both), Vec::<&ZnodePath>::new());
    assert_eq!(watches.paths_of(child), [&path(1)]);
}

#[test]
fn a_connection_and_all_of_them_have_so_many_watches_and_one_that_goes_makes_room() {
    let bounds = Bounds { watches_max: 5, watches_per_line_max: 3, ..Bounds::default() };
    let mut watches = Watches::new(bounds);
    let [one, other] = [(); 2].map(|()| watches.enter().unwrap());
    for mode in [WatchMode::Data, WatchMode::Child, WatchMode::Persistent] {
        assert_eq!(watches.add(one, &path(1), mode), Ok(()));
    }
    assert_eq!(watches.add(one, &path(2), WatchMode::Data), Err(WatchesFull), "its own bound");
    assert_eq!(watches.add(one, &path(1), WatchMode::Data), Ok(()), "it is set already");
    for mode in [WatchMode::Data, WatchMode::Child] {
        assert_eq!(watches.add(other, &path(3), mode), Ok(()));
    }
    let third = watches.add(other, &path(4), WatchMode::Data);
    assert_eq!(third, Err(WatchesFull), "the bound of all");
    assert!(watches.remove(one, path(1).as_str(), WatchMode::Data));
    assert_eq!(watches.add(other, &path(4), WatchMode::Data), Ok(()));
    assert_eq!(watches.add(one, &path(2), WatchMode::Data), Err(WatchesFull));
    assert!(watches.leave(other, usize::MAX));
    assert_eq!(watches.add(one, &path(2), WatchMode::Data), Ok(()));
}
