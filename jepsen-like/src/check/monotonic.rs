//! What one client sees never goes back, whichever nodes it asks: of its ops, in the order in which it did them, none
//! speaks of an older state than one before. With zxids this covers monotonic reads, reading one's own writes, and
//! writes in order. It holds for clients that hand their last zxid along (`consistency=sequential`), and is checked
//! for the processes named.
//!
//! Cost: O(n log n).

use std::collections::{BTreeMap, BTreeSet};

use super::Verdict;
use crate::history::kv::{KvAnswer, KvOp};

/// Demands of each of these processes that the zxids of its answers never go back.
pub fn check(history: &[KvOp], processes: &BTreeSet<u32>) -> Verdict {
    let mut newest: BTreeMap<u32, u64> = BTreeMap::new();
    let mut violations = Vec::new();
    let mut ops: Vec<&KvOp> = history.iter().filter(|op| processes.contains(&op.process)).collect();
    ops.sort_by_key(|op| op.end_us);
    for op in ops {
        let Some(
            KvAnswer::Read { zxid, .. }
            | KvAnswer::ReadAll { zxid, .. }
            | KvAnswer::Done { zxid, .. },
        ) = op.answer()
        else {
            continue;
        };
        let seen = newest.entry(op.process).or_default();
        if zxid < seen {
            violations.push(format!(
                "process {} had seen zxid {seen}, then node {} answered {:?} from zxid {zxid}",
                op.process, op.node, op.call
            ));
        }
        *seen = (*seen).max(*zxid);
    }
    Verdict::of(violations)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::check;
    use crate::history::kv::{KvAnswer, KvCall, KvOp};
    use crate::history::{Op, Outcome};

    fn read(process: u32, node: u8, at: u64, zxid: u64) -> KvOp {
        let outcome = Outcome::Ok(KvAnswer::Read { zxid, seen: None });
        let call = KvCall::ReadStale { key: "/a".into() };
        Op { process, node, start_us: at, end_us: at + 1, call, outcome }
    }

    #[test]
    fn a_client_that_moves_to_a_node_which_lags_is_found_unless_it_promised_nothing() {
        let history = [read(1, 1, 0, 10), read(2, 1, 1, 12), read(1, 2, 5, 9), read(2, 2, 6, 12)];
        assert!(check(&history, &BTreeSet::from([2])).is_ok());
        assert!(check(&history, &BTreeSet::from([1, 2])).is_violated());
    }
}
