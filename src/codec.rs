//! The only place that knows bincode: values to bytes and back, little-endian, fixed-width integers, bounded.
//!
//! The layout is not self-describing. Whoever stores or sends such bytes puts a format version in front.

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding()
}

/// Encodes a value. Cannot fail for the types of this crate: they hold no unsized sequences and no floats.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    options().serialize(value).expect("the crate's own types always encode")
}

/// Decodes a value from exactly these bytes. Trailing bytes, a length that exceeds `limit` bytes, or a value that its
/// type refuses (such as a malformed path) is an error with the reason. Allocates at most about `limit` bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, String> {
    if bytes.len() > limit {
        return Err(format!("{} bytes, the limit is {limit}", bytes.len()));
    }
    options().with_limit(limit as u64).deserialize(bytes).map_err(|err| err.to_string())
}
