use std::collections::VecDeque;
use std::sync::Arc;

use super::Change;
use crate::types::Zxid;

/// The recent changes of this node, by zxid. Every change whose zxid is above [`Ring::floor`] and not above
/// [`Ring::last`] is here; transactions without events have no entry. Beyond its bounds the oldest changes go
/// and the floor rises; the newest always stays, however large.
#[derive(Debug)]
pub struct Ring {
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    floor: Zxid,
    last: Zxid,
    txns_max: usize,
    bytes_max: usize,
}

/// Says that the ring does not reach back to the wanted zxid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOld {
    /// The least zxid that it does reach back to.
    pub floor: Zxid,
}

impl Ring {
    /// Returns an empty ring that begins after `floor`. It keeps at most `txns_max` changes and about
    /// `bytes_max` bytes.
    pub(super) fn new(floor: Zxid, txns_max: usize, bytes_max: usize) -> Ring {
        Ring { changes: VecDeque::new(), bytes: 0, floor, last: floor, txns_max, bytes_max }
    }

    /// Returns the zxid that all kept changes are above, and that none that is missing is above.
    pub fn floor(&self) -> Zxid {
        self.floor
    }

    /// Returns the zxid of the latest transaction, whether it had events or not.
    pub fn last(&self) -> Zxid {
        self.last
    }

    /// Returns the number of changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Returns whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Returns about how many bytes the changes occupy.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Yields the changes above `zxid`, oldest first; none when `zxid` is at or above [`Ring::last`]. Cost:
    /// O(log changes) and the changes taken.
    pub fn since(&self, zxid: Zxid) -> Result<impl Iterator<Item = &Arc<Change>>, TooOld> {
        if zxid < self.floor {
            return Err(TooOld { floor: self.floor });
        }
        let start = self.changes.partition_point(|change| change.zxid() <= zxid);
        Ok(self.changes.range(start..))
    }

    /// Returns the change of this transaction, if it had events and is still here. Cost: O(log changes).
    pub fn get(&self, zxid: Zxid) -> Option<&Arc<Change>> {
        let index = self.changes.binary_search_by_key(&zxid, |change| change.zxid()).ok()?;
        self.changes.get(index)
    }

    /// Takes up a transaction without events.
    pub(super) fn advance(&mut self, zxid: Zxid) {
        debug_assert!(zxid > self.last, "{zxid} does not follow {}", self.last);
        self.last = zxid;
    }

    /// Takes up a transaction with events.
    pub(super) fn push(&mut self, change: Arc<Change>) {
        self.advance(change.zxid());
        self.bytes += change.bytes();
        self.changes.push_back(change);
        while self.changes.len() > 1
            && (self.changes.len() > self.txns_max || self.bytes > self.bytes_max)
        {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.bytes -= oldest.bytes();
            self.floor = oldest.zxid();
        }
    }

    /// Forgets everything: the state has become that of `floor` in one step, and what led there is unknown.
    pub(super) fn reset(&mut self, floor: Zxid) {
        *self = Ring::new(floor, self.txns_max, self.bytes_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::EventKind::Created;
    use crate::watch::hub::tests::event;

    fn change(zxid: u64) -> Arc<Change> {
        Arc::new(Change::new(Zxid(zxid), vec![event(Created, "/a")]))
    }

    fn zxids(ring: &Ring, since: u64) -> Result<Vec<u64>, u64> {
        match ring.since(Zxid(since)) {
            Ok(changes) => Ok(changes.map(|change| change.zxid().0).collect()),
            Err(TooOld { floor }) => Err(floor.0),
        }
    }

    #[test]
    fn since_yields_exactly_what_is_above_and_refuses_what_is_below_the_floor() {
        let mut ring = Ring::new(Zxid(10), 3, usize::MAX);
        assert_eq!((zxids(&ring, 10), zxids(&ring, 9)), (Ok(vec![]), Err(10)));
        ring.push(change(12));
        ring.advance(Zxid(13));
        ring.push(change(15));
        assert_eq!(zxids(&ring, 10), Ok(vec![12, 15]));
        assert_eq!(zxids(&ring, 12), Ok(vec![15]));
        assert_eq!(zxids(&ring, 13), Ok(vec![15]));
        assert_eq!(zxids(&ring, 99), Ok(vec![]));
        assert_eq!(ring.last(), Zxid(15));
    }

    #[test]
    fn beyond_its_transactions_the_floor_is_the_last_one_dropped() {
        let mut ring = Ring::new(Zxid(0), 2, usize::MAX);
        (1..=4).for_each(|zxid| ring.push(change(zxid)));
        assert_eq!((ring.floor(), ring.len()), (Zxid(2), 2));
        assert_eq!((zxids(&ring, 2), zxids(&ring, 1)), (Ok(vec![3, 4]), Err(2)));
        assert!(ring.get(Zxid(2)).is_none() && ring.get(Zxid(3)).is_some());
    }

    #[test]
    fn beyond_its_bytes_the_oldest_go_but_never_the_newest() {
        let one = change(1).bytes();
        let mut ring = Ring::new(Zxid(0), 100, 2 * one);
        (1..=3).for_each(|zxid| ring.push(change(zxid)));
        assert_eq!((ring.floor(), ring.bytes()), (Zxid(1), 2 * one));
        let large = (0..9).map(|_| event(Created, "/a")).collect();
        ring.push(Arc::new(Change::new(Zxid(4), large)));
        assert_eq!((zxids(&ring, 3), ring.bytes()), (Ok(vec![4]), 9 * one));
    }

    #[test]
    fn a_reset_ring_begins_at_the_snapshot() {
        let mut ring = Ring::new(Zxid(0), 9, usize::MAX);
        ring.push(change(1));
        ring.reset(Zxid(50));
        assert_eq!((zxids(&ring, 49), zxids(&ring, 50)), (Err(50), Ok(vec![])));
        assert_eq!((ring.is_empty(), ring.bytes(), ring.last()), (true, 0, Zxid(50)));
    }
}
