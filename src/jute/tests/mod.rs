//! Bytes that ZooKeeper's own classes made, random values there and back, and bytes that nobody should send.

mod golden;
mod hostile;
mod random;

use super::{DecodeError, Jute, Reader, Writer};

/// Returns a value as bytes.
fn encoded(value: &impl Jute) -> Vec<u8> {
    bytes(|writer| value.write(writer))
}

/// Returns what a function writes.
fn bytes(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut Writer::new(&mut out));
    out
}

/// Reads a value from all of these bytes.
fn decoded<T: Jute>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes);
    let value = reader.read()?;
    assert!(reader.rest().is_empty(), "{} bytes were left", reader.rest().len());
    Ok(value)
}
