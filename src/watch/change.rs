use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::Pace;
use crate::types::{Event, Zxid};

/// What one event occupies apart from its path and data, bytes: the event, its slot, and the fixed part of a
/// textual encoding (names of fields, eleven numbers of the stat).
const EVENT_BYTES: usize = 512;

/// The events of one applied transaction, shared by everyone who is told of it.
#[derive(Debug)]
pub struct Change {
    zxid: Zxid,
    events: Vec<Event>,
    encoded: Box<[OnceLock<Bytes>]>,
    /// Made for the first of those who are told in other words.
    told: OnceLock<Box<[OnceLock<Bytes>]>>,
    published_ms: u64,
    is_spread: bool,
}

impl Change {
    /// Wraps the events of one transaction, in the order in which they were applied.
    pub fn new(zxid: Zxid, events: Vec<Event>) -> Change {
        let encoded = events.iter().map(|_| OnceLock::new()).collect();
        Change { zxid, events, encoded, told: OnceLock::new(), published_ms: 0, is_spread: false }
    }

    /// Returns the same, published now at this pace.
    pub(super) fn published(self, pace: &Pace<'_>) -> Change {
        let is_spread = !pace.waves.is_empty() && pace.waves.iter().all(Option::is_some);
        Change { published_ms: pace.at.now_ms, is_spread, ..self }
    }

    /// Returns when this node published it, ms.
    pub(super) fn published_ms(&self) -> u64 {
        self.published_ms
    }

    /// Returns whether all of it is told in waves.
    pub(super) fn is_spread(&self) -> bool {
        self.is_spread
    }

    /// Returns the transaction's zxid.
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// Returns the events, in the order in which they were applied.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Returns the encoding of one event: `encode` runs for the first caller, the others share its result.
    /// Hence all callers must encode alike; an encoding that depends on the subscriber does not belong here.
    /// Panics when there is no event with this index.
    pub fn encoded(&self, index: usize, encode: impl FnOnce(Zxid, &Event) -> Bytes) -> Bytes {
        self.encoded[index].get_or_init(|| encode(self.zxid, &self.events[index])).clone()
    }

    /// Returns a second encoding of one event, for subscribers who are told in other words: as
    /// [`encoded`](Change::encoded), shared in the same way.
    pub fn told(&self, index: usize, encode: impl FnOnce(&Event) -> Bytes) -> Bytes {
        let all = self.told.get_or_init(|| self.events.iter().map(|_| OnceLock::new()).collect());
        all[index].get_or_init(|| encode(&self.events[index])).clone()
    }

    /// Returns about how many bytes this occupies once it is encoded, never much less: path and data count
    /// for the event and again for each of two encodings, in which data may be base64. Cost: O(events).
    pub fn bytes(&self) -> usize {
        let event_bytes = |event: &Event| {
            let data_bytes = event.data.as_ref().map_or(0, |data| data.len());
            EVENT_BYTES + 4 * event.path.as_str().len() + data_bytes + data_bytes.div_ceil(3) * 8
        };
        self.events.iter().map(event_bytes).sum()
    }
}

/// Which events of a change concern a subscriber: at least one. A clone is O(1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of them, which is the rule: most transactions have one event.
    All,
    /// Those with these indexes, ascending. Subscribers with the same filters share them.
    Only(Arc<[u32]>),
}

impl Selection {
    /// Returns the selection of these indexes, ascending and without doubles, out of `events` events.
    pub(super) fn new(indexes: Vec<u32>, events: usize) -> Selection {
        if indexes.len() == events { Selection::All } else { Selection::Only(indexes.into()) }
    }
}

/// What a subscriber is told of one transaction.
#[derive(Clone, Debug)]
pub struct Message {
    /// The transaction.
    pub change: Arc<Change>,
    /// Which of its events.
    pub which: Selection,
}

impl Message {
    /// Yields the selected events in the order in which they were applied, each with its index in the change.
    pub fn events(&self) -> impl Iterator<Item = (usize, &Event)> {
        let (all, only): (_, &[u32]) = match &self.which {
            Selection::All => (0..self.change.events.len(), &[]),
            Selection::Only(indexes) => (0..0, indexes),
        };
        let indexes = all.chain(only.iter().map(|index| *index as usize));
        indexes.map(|index| (index, &self.change.events[index]))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::types::EventKind::{Created, Deleted};
    use crate::watch::hub::tests::event;

    #[test]
    fn an_event_is_encoded_once_and_shared() {
        let change = Change::new(Zxid(7), vec![event(Created, "/a"), event(Deleted, "/b")]);
        let calls = Cell::new(0);
        let encode = |zxid: Zxid, event: &Event| {
            calls.set(calls.get() + 1);
            Bytes::from(format!("{zxid} {}", event.path))
        };
        let first = change.encoded(1, encode);
        let again = change.encoded(1, encode);
        assert_eq!((&first[..], calls.get()), (&b"7 /b"[..], 1));
        assert_eq!(first.as_ptr(), again.as_ptr(), "the same bytes, not a copy");
        assert_eq!(&change.encoded(0, encode)[..], b"7 /a");
        let told = |event: &Event| Bytes::from(format!("so {}", event.path));
        assert_eq!(&change.told(1, told)[..], b"so /b");
        assert_eq!(change.told(1, told).as_ptr(), change.told(1, told).as_ptr());
        assert_eq!(&change.encoded(1, encode)[..], b"7 /b", "each has its own");
    }

    #[test]
    fn a_message_yields_only_its_events_with_their_indexes() {
        let events = vec![event(Created, "/a"), event(Created, "/b"), event(Created, "/c")];
        let change = Arc::new(Change::new(Zxid(1), events));
        let indexes = |which| {
            let message = Message { change: change.clone(), which };
            message
                .events()
                .map(|(index, event)| (index, event.path.to_string()))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            indexes(Selection::new(vec![0, 2], 3)),
            [(0, "/a".to_owned()), (2, "/c".to_owned())]
        );
        assert_eq!(indexes(Selection::new(vec![0, 1, 2], 3)).len(), 3);
        assert_eq!(Selection::new(vec![0, 1, 2], 3), Selection::All);
    }
}
