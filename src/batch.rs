//! What one Raft entry carries: the leader's time and the transactions of many clients, each still in the bytes that its
//! origin encoded. The leader concatenates; every node decodes when it applies.
//!
//! Layout: `format u8 · wall_ms u64 · cluster_ms u64 · count u32 · (length u32 · bytes)*`, little-endian.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec;
use crate::limits::TXN_BYTES_MAX;
use crate::types::{Origin, Txn, TxnTime};

const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 1 + 8 + 8 + 4;
/// `Txn.origin` is the first field and `seq` its last, both fixed in width: that is where [`set_seq`] writes.
const SEQ_AT: usize = 16;

/// Encodes a transaction as it travels to the leader and lies in the log.
pub fn encode_txn(txn: &Txn) -> Vec<u8> {
    codec::encode(txn)
}

/// Decodes a transaction.
pub fn decode_txn(bytes: &[u8]) -> Result<Txn, String> {
    codec::decode(bytes, TXN_BYTES_MAX)
}

/// Replaces the sequence number inside an encoded transaction, so that the expensive encoding happens before the origin's
/// queue is locked and the number is given inside. Panics when the bytes are too short to be a transaction.
pub fn set_seq(encoded: &mut [u8], seq: u64) {
    encoded[SEQ_AT..SEQ_AT + 8].copy_from_slice(&seq.to_le_bytes());
}

/// Returns the origin of an encoded transaction without decoding the rest; `None` if it is too short to have one.
pub fn origin_of(encoded: &[u8]) -> Option<Origin> {
    let word = |at: usize| Some(u64::from_le_bytes(encoded.get(at..at + 8)?.try_into().ok()?));
    Some(Origin { node: word(0)?, incarnation: word(8)?, seq: word(SEQ_AT)? })
}

/// Joins encoded transactions into a batch.
pub fn encode(time: TxnTime, txns: &[Bytes]) -> Bytes {
    let size = HEADER_BYTES + txns.iter().map(|txn| 4 + txn.len()).sum::<usize>();
    let mut out = BytesMut::with_capacity(size);
    out.put_u8(FORMAT);
    out.put_u64_le(time.wall_ms);
    out.put_u64_le(time.cluster_ms);
    out.put_u32_le(txns.len() as u32);
    for txn in txns {
        out.put_u32_le(txn.len() as u32);
        out.put_slice(txn);
    }
    out.freeze()
}

/// Splits a batch into its time and the still encoded transactions. The error names what is wrong.
pub fn decode(batch: &Bytes) -> Result<(TxnTime, Vec<Bytes>), String> {
    let mut reader = Reader { batch, at: 0 };
    let format = reader.take(1)?[0];
    if format != FORMAT {
        return Err(format!("batch format {format}, this program knows {FORMAT}"));
    }
    let wall_ms = reader.u64()?;
    let cluster_ms = reader.u64()?;
    let count = reader.u32()?;
    let mut txns = Vec::with_capacity((count as usize).min(batch.len() / 4));
    for _ in 0..count {
        let length = reader.u32()? as usize;
        txns.push(reader.take(length)?);
    }
    if reader.at != batch.len() {
        return Err(format!("{} bytes after the last transaction", batch.len() - reader.at));
    }
    Ok((TxnTime { wall_ms, cluster_ms }, txns))
}

struct Reader<'a> {
    batch: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Result<Bytes, String> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.batch.len());
        let end = end.ok_or_else(|| format!("batch cut off at byte {}", self.batch.len()))?;
        let piece = self.batch.slice(self.at..end);
        self.at = end;
        Ok(piece)
    }

    fn u32(&mut self) -> Result<u32, String> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn u64(&mut self) -> Result<u64, String> {
        let low = self.u32()?;
        let high = self.u32()?;
        Ok(u64::from(low) | u64::from(high) << 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{AclId, Op, SessionId, ZnodePath};

    fn txn(seq: u64) -> Txn {
        Txn {
            origin: Origin { node: 3, incarnation: 7, seq },
            session: SessionId(9),
            owner: None,
            authority: vec![AclId { scheme: "ip".into(), id: "127.0.0.1".into() }],
            idempotency_key: Some("k".into()),
            op: Op::Delete { path: ZnodePath::parse("/a").unwrap(), version: Some(-1) },
        }
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        let txns: Vec<Bytes> = (1..=3).map(|seq| encode_txn(&txn(seq)).into()).collect();
        let time = TxnTime { wall_ms: 5, cluster_ms: u64::MAX };
        let (got_time, got) = decode(&encode(time, &txns)).unwrap();
        assert_eq!((got_time, &got), (time, &txns));
        assert_eq!(decode_txn(&got[1]).unwrap(), txn(2));
    }

    #[test]
    fn the_sequence_number_is_where_set_seq_writes() {
        let mut encoded = encode_txn(&txn(1));
        set_seq(&mut encoded, 0x0102_0304_0506_0708);
        assert_eq!(decode_txn(&encoded).unwrap(), txn(0x0102_0304_0506_0708));
        assert_eq!(origin_of(&encoded), Some(txn(0x0102_0304_0506_0708).origin));
    }

    #[test]
    fn every_prefix_and_every_wrong_format_is_refused() {
        let batch = encode(TxnTime::default(), &[encode_txn(&txn(1)).into()]);
        for end in 0..batch.len() {
            assert!(decode(&batch.slice(..end)).is_err(), "prefix of {end} bytes");
        }
        let mut other = batch.to_vec();
        other[0] = FORMAT + 1;
        assert!(decode(&other.into()).unwrap_err().contains("format"));
    }
}
