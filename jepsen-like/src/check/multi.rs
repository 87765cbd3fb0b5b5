//! A transaction is seen whole or not at all. The writers of a group set all its znodes to one value in one
//! transaction; whoever reads the group from one state must see one value.
//!
//! It needs no zxids, and so is a second opinion beside `witness`. Cost: O(n).

use super::Verdict;
use crate::history::kv::{KvAnswer, KvCall, KvOp};

/// Demands of each read of several znodes that all have the same value, or none is there.
pub fn check(history: &[KvOp]) -> Verdict {
    let mut violations = Vec::new();
    for op in history {
        let (KvCall::ReadAll { keys }, Some(KvAnswer::ReadAll { zxid, seen })) =
            (&op.call, op.answer())
        else {
            continue;
        };
        let mut values = seen.iter().map(|seen| seen.map(|seen| seen.value));
        let first = values.next();
        if values.any(|value| Some(value) != first) {
            violations.push(format!(
                "process {} saw half a transaction at zxid {zxid} on node {}: {keys:?} were {seen:?}",
                op.process, op.node
            ));
        }
    }
    Verdict::of(violations)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::history::kv::{KvAnswer, KvCall, Seen};
    use crate::history::{Op, Outcome};

    #[test]
    fn a_mix_of_two_transactions_is_found() {
        let read = |values: [Option<u64>; 2]| {
            let seen = values
                .map(|value| value.map(|value| Seen { value, version: 1, czxid: 1, mzxid: 2 }));
            let outcome = Outcome::Ok(KvAnswer::ReadAll { zxid: 3, seen: seen.to_vec() });
            let call = KvCall::ReadAll { keys: vec!["/a".into(), "/b".into()] };
            check(&[Op { process: 1, node: 1, start_us: 0, end_us: 1, call, outcome }])
        };
        assert!(read([Some(4), Some(4)]).is_ok() && read([None, None]).is_ok());
        assert!(read([Some(4), Some(5)]).is_violated());
        assert!(read([Some(4), None]).is_violated());
    }
}
