use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;
use xxhash_rust::xxh3::xxh3_64;

use crate::codec;
use crate::limits::{IDEMPOTENCY_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, IDEMPOTENCY_RESULTS_MAX};
use crate::types::{Failure, Reply, SessionId, Zxid};

/// One result, kept for its key.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) session: SessionId,
    pub(super) key: Arc<str>,
    pub(super) result: Arc<Result<Reply, Failure>>,
    /// Of the encoded record.
    hash: u64,
    /// Likewise.
    bytes: u64,
}

impl Kept {
    pub(super) fn new(
        zxid: Zxid,
        session: SessionId,
        key: &str,
        result: &Result<Reply, Failure>,
    ) -> Kept {
        let encoded = codec::encode(&(zxid, session, key, result));
        Kept {
            session,
            key: Arc::from(key),
            result: Arc::new(result.clone()),
            hash: xxh3_64(&encoded),
            bytes: encoded.len() as u64,
        }
    }

    /// Returns the hash of the record, not trusting the one at hand.
    pub(super) fn recomputed_hash(&self, zxid: Zxid) -> u64 {
        xxh3_64(&codec::encode(&(zxid, self.session, &*self.key, &*self.result)))
    }
}

/// The results that are kept for idempotency keys: the latest ones, bounded in number and bytes over all
/// sessions. They do not end with their session, since the retry that needs one may come after it.
#[derive(Clone, Default)]
pub(super) struct Results {
    /// By the zxid of the transaction, which is also the order of age.
    by_zxid: OrdMap<Zxid, Kept>,
    by_key: OrdMap<(SessionId, Arc<str>), Zxid>,
    bytes: u64,
}

impl Results {
    /// Returns the zxid and the result of the first transaction with this session and key.
    pub(super) fn get(
        &self,
        session: SessionId,
        key: &str,
    ) -> Option<(Zxid, &Result<Reply, Failure>)> {
        let zxid = *self.by_key.get(&(session, Arc::from(key)))?;
        self.by_zxid.get(&zxid).map(|kept| (zxid, &*kept.result))
    }

    /// Adds the result of the latest transaction and drops the oldest ones beyond the bounds. Returns by
    /// how much the sum of the hashes changed, wrapping.
    pub(super) fn insert(&mut self, zxid: Zxid, kept: Kept) -> u64 {
        let mut change = kept.hash;
        self.bytes += kept.bytes;
        self.by_key.insert((kept.session, Arc::clone(&kept.key)), zxid);
        self.by_zxid.insert(zxid, kept);
        while self.by_zxid.len() > IDEMPOTENCY_RESULTS_MAX
            || self.bytes > IDEMPOTENCY_BYTES_MAX as u64
        {
            let Some((oldest, _)) = self.by_zxid.get_min() else { break };
            let oldest = *oldest;
            if let Some(kept) = self.by_zxid.remove(&oldest) {
                change = change.wrapping_sub(kept.hash);
                self.bytes -= kept.bytes;
                self.by_key.remove(&(kept.session, kept.key));
            }
        }
        change
    }

    /// Yields those that are younger than this zxid, oldest first.
    pub(super) fn iter_after(&self, zxid: Zxid) -> impl Iterator<Item = (&Zxid, &Kept)> {
        self.by_zxid.range((Bound::Excluded(zxid), Bound::Unbounded))
    }

    pub(super) fn last_zxid(&self) -> Option<Zxid> {
        self.by_zxid.get_max().map(|(zxid, _)| *zxid)
    }

    pub(super) fn len(&self) -> usize {
        self.by_zxid.len()
    }
}

/// Returns whether a transaction may carry this key.
pub(super) fn is_valid(key: Option<&str>) -> bool {
    key.is_none_or(|key| key.len() <= IDEMPOTENCY_KEY_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::{Kept, Results};
    use crate::codec;
    use crate::limits::{IDEMPOTENCY_BYTES_MAX, IDEMPOTENCY_RESULTS_MAX};
    use crate::types::{Reply, SessionId, Stat, ZnodePath, Zxid};

    fn insert(results: &mut Results, n: u64, reply: Reply) -> u64 {
        let kept = Kept::new(Zxid(n), SessionId(1), &n.to_string(), &Ok(reply));
        results.insert(Zxid(n), kept)
    }

    /// Returns the keys that are still known, and checks both directions.
    fn known(results: &Results, up_to: u64) -> Vec<u64> {
        let known = (1..=up_to).filter(|n| results.get(SessionId(1), &n.to_string()).is_some());
        let known: Vec<u64> = known.collect();
        assert!(results.iter_after(Zxid(0)).map(|(zxid, _)| zxid.0).eq(known.iter().copied()));
        known
    }

    #[test]
    fn the_oldest_results_go_when_there_are_too_many() {
        let mut results = Results::default();
        let count = IDEMPOTENCY_RESULTS_MAX as u64 + 3;
        let sum = (1..=count)
            .fold(0u64, |sum, n| sum.wrapping_add(insert(&mut results, n, Reply::Deleted)));
        assert_eq!(known(&results, count), Vec::from_iter(4..=count));
        let hashes = results.iter_after(Zxid(0)).map(|(zxid, kept)| kept.recomputed_hash(*zxid));
        assert_eq!(sum, hashes.fold(0, u64::wrapping_add));
    }

    #[test]
    fn the_oldest_results_go_when_they_take_too_many_bytes() {
        let mut results = Results::default();
        let path = ZnodePath::parse(&format!("/{}", "x".repeat(4000))).unwrap();
        let created = Reply::Created { path, stat: Stat::default() };
        let bytes = codec::encode(&created).len();
        let part = |n| Reply::Multi(vec![created.clone(); IDEMPOTENCY_BYTES_MAX / n / bytes + 1]);
        for n in 1..=4 {
            insert(&mut results, n, part(3));
        }
        // Each being more than a third, two fit.
        assert_eq!(known(&results, 4), [3, 4]);
        insert(&mut results, 5, part(1));
        assert!(known(&results, 5).is_empty());
        assert_eq!((results.bytes, results.len()), (0, 0));
    }
}
