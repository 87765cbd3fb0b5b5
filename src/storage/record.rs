//! The bytes on the disk: keys, sealed records, and chunks of log entries.
//!
//! ```text
//! 00 name                     crc32(name, value) | value                    one of the records beside the log
//! 01 first:u64be 0000         (index:u64 len:u32 crc:u32 bytes)*            a packed chunk of entries
//! 01 index:u64be part:u16be   index:u64 len:u32 crc:u32 fragment            part 1.. of an entry too large for a chunk
//! ```
//!
//! A key's first byte says whether it is one of the records or of the series, see [`Disk`](super::Disk).
//!
//! Integers in values are little-endian. `len` is that of the whole entry; `crc` covers index, len, part and bytes, so
//! that a record in the wrong place is noticed as well as a wrong one.

use bytes::{Buf, BufMut, Bytes};

use super::disk::{RECORDS, SERIES};
use super::log::LogEntry;
use crate::limits::STORE_VALUE_BYTES_MAX;

/// Version of everything in this file. A store with a greater one is refused.
pub(super) const FORMAT: u32 = 2;

const META: u8 = RECORDS;
const ENTRIES: u8 = SERIES;

const HEADER_BYTES: usize = 8 + 4 + 4;

/// The largest entry that a packed chunk takes, and the size of the fragments of larger ones.
pub(super) const FRAGMENT_BYTES_MAX: usize = STORE_VALUE_BYTES_MAX - HEADER_BYTES;

/// A key of the log's store.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Key<'a> {
    /// A record beside the log.
    Meta(&'a str),
    /// A packed chunk (part 0), or a part (from 1) of one large entry.
    Chunk { first: u64, part: u16 },
}

pub(super) fn meta_key(name: &str) -> Vec<u8> {
    let mut key = vec![META];
    key.extend_from_slice(name.as_bytes());
    key
}

pub(super) fn chunk_key(first: u64, part: u16) -> Vec<u8> {
    let mut key = vec![ENTRIES];
    key.put_u64(first);
    key.put_u16(part);
    key
}

pub(super) fn parse_key(key: &[u8]) -> Option<Key<'_>> {
    match key.split_first()? {
        (&META, name) => str::from_utf8(name).ok().map(Key::Meta),
        (&ENTRIES, mut rest) if rest.len() == 10 => {
            Some(Key::Chunk { first: rest.get_u64(), part: rest.get_u16() })
        }
        _ => None,
    }
}

/// Returns a key as a person reads it.
pub(super) fn describe(key: &[u8]) -> String {
    match parse_key(key) {
        Some(Key::Meta(name)) => format!("record `{name}`"),
        Some(Key::Chunk { first, part: 0 }) => format!("log chunk {first}"),
        Some(Key::Chunk { first, part }) => format!("log entry {first} part {part}"),
        None => format!("key {key:02x?}"),
    }
}

/// Returns the value with its checksum in front.
pub(super) fn seal(name: &str, value: &[u8]) -> Bytes {
    let mut sealed = Vec::with_capacity(4 + value.len());
    sealed.put_u32_le(meta_crc(name, value));
    sealed.extend_from_slice(value);
    sealed.into()
}

/// Undoes [`seal`]; the error says what is wrong.
pub(super) fn unseal(name: &str, mut sealed: Bytes) -> Result<Bytes, String> {
    if sealed.len() < 4 {
        return Err("cut short".into());
    }
    let crc = sealed.get_u32_le();
    if crc == meta_crc(name, &sealed) { Ok(sealed) } else { Err("wrong checksum".into()) }
}

fn meta_crc(name: &str, value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(name.as_bytes());
    hasher.update(&[0]);
    hasher.update(value);
    hasher.finalize()
}

fn record_crc(index: u64, len: u32, part: u16, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&index.to_le_bytes());
    hasher.update(&len.to_le_bytes());
    hasher.update(&part.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn put_record(out: &mut Vec<u8>, index: u64, len: usize, part: u16, bytes: &[u8]) {
    let len = u32::try_from(len).expect("an entry is far below 4 GiB");
    out.put_u64_le(index);
    out.put_u32_le(len);
    out.put_u32_le(record_crc(index, len, part, bytes));
    out.extend_from_slice(bytes);
}

/// Returns how many bytes [`pack`] adds for an entry.
pub(super) fn packed_len(entry: &LogEntry) -> usize {
    HEADER_BYTES + entry.bytes.len()
}

/// Adds an entry to a packed chunk.
pub(super) fn pack(chunk: &mut Vec<u8>, entry: &LogEntry) {
    assert!(entry.bytes.len() <= FRAGMENT_BYTES_MAX, "larger entries are split");
    put_record(chunk, entry.index, entry.bytes.len(), 0, &entry.bytes);
}

/// Returns the values of the parts, from 1, of an entry that is too large for a chunk.
pub(super) fn split(entry: &LogEntry) -> Vec<Bytes> {
    let fragments = entry.bytes.chunks(FRAGMENT_BYTES_MAX).zip(1u16..);
    let parts: Vec<Bytes> = fragments
        .map(|(fragment, part)| {
            let mut value = Vec::with_capacity(HEADER_BYTES + fragment.len());
            put_record(&mut value, entry.index, entry.bytes.len(), part, fragment);
            value.into()
        })
        .collect();
    assert_eq!(
        parts.len(),
        entry.bytes.len().div_ceil(FRAGMENT_BYTES_MAX),
        "an entry has at most 65535 parts"
    );
    parts
}

/// The head of a record and the bytes after it, checked for length only.
fn take_header(value: &mut Bytes) -> Result<(u64, u32, u32), String> {
    if value.len() < HEADER_BYTES {
        return Err("cut short".into());
    }
    Ok((value.get_u64_le(), value.get_u32_le(), value.get_u32_le()))
}

/// Returns the entries of a packed chunk, without copying; the error says what is wrong.
pub(super) fn unpack(first: u64, mut value: Bytes) -> Result<Vec<LogEntry>, String> {
    let mut entries = Vec::new();
    while !value.is_empty() {
        let expected = first + entries.len() as u64;
        let (index, len, crc) = take_header(&mut value)?;
        if index != expected {
            return Err(format!("entry {index} in place of {expected}"));
        }
        if len as usize > value.len() {
            return Err(format!("entry {index} is cut short"));
        }
        let bytes = value.split_to(len as usize);
        if mutant!(M13, false, crc != record_crc(index, len, 0, &bytes)) {
            return Err(format!("entry {index} has a wrong checksum"));
        }
        entries.push(LogEntry { index, bytes });
    }
    if entries.is_empty() { Err("empty".into()) } else { Ok(entries) }
}

/// Returns the entry whose parts, from 1, have these values; the error says what is wrong.
pub(super) fn join(first: u64, parts: Vec<Bytes>) -> Result<LogEntry, String> {
    let mut bytes = Vec::new();
    let mut total = 0;
    for (mut fragment, part) in parts.into_iter().zip(1u16..) {
        let (index, len, crc) = take_header(&mut fragment)?;
        if index != first || crc != record_crc(index, len, part, &fragment) {
            return Err(format!("part {part} has a wrong checksum"));
        }
        bytes.extend_from_slice(&fragment);
        total = len as usize;
    }
    if bytes.len() != total || bytes.is_empty() {
        return Err(format!("{} bytes in place of {total}", bytes.len()));
    }
    Ok(LogEntry { index: first, bytes: bytes.into() })
}
