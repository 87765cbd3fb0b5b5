//! What a batch of the log does to the tree: the one way from its bytes to their outcome, for the node that lives by it and
//! for whoever looks at the log of a stopped one.

use bytes::Bytes;

use crate::batch;
use crate::tree::Tree;
use crate::types::{Op, Outcome, Txn, TxnTime};

/// Returns the time of a batch and its transactions as they were written. The error says what this version of the program
/// does not understand; whoever applies the log must stop there, since replicas which skip it are no longer equal to those
/// that do understand it.
pub fn read_batch(encoded: &Bytes) -> Result<(TxnTime, Vec<Txn>), String> {
    let read = || {
        let (time, txns) = batch::decode(encoded)?;
        let txns = txns.iter().map(|txn| batch::decode_txn(txn)).collect::<Result<_, _>>()?;
        Ok((time, txns))
    };
    read().map_err(|why: String| {
        format!("written by a newer version of roost: upgrade this node ({why})")
    })
}

/// Applies a transaction of a batch in an entry of this term, having made it what it comes to there. Returns what it did.
pub fn apply_txn(tree: &mut Tree, entry_term: u64, time: TxnTime, txn: &mut Txn) -> Outcome {
    if !is_in_force(&txn.op, entry_term) {
        txn.op = Op::Reap { paths: Vec::new() };
    }
    if let Op::ExpireSession { session, unless_moved_from, .. } = txn.op {
        // In the log of a version that protected nothing: it means what it meant.
        txn.op = Op::CloseSession { session, unless_moved_from: Some(unless_moved_from) };
    }
    tree.apply(mutant!(M15, at_random(time), time), txn)
}

/// Returns whether an op counts in an entry of this term. What an earlier leader has found does nothing.
pub fn is_in_force(op: &Op, entry_term: u64) -> bool {
    match *op {
        Op::ExpireSession { term, .. }
        | Op::Expire { term: Some(term), .. }
        | Op::SetHealth { term, .. } => {
            mutant!(M20, true, term == entry_term)
        }
        _ => true,
    }
}

/// Returns the time with something that no two nodes have in common.
#[cfg(feature = "mutants")]
fn at_random(time: TxnTime) -> TxnTime {
    TxnTime { wall_ms: time.wall_ms + rand::random::<u64>() % 2, ..time }
}
