//! Bytes to frames: `u32` length of the body, `u32` CRC-32 of the body, body; little-endian.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use crate::limits::PEER_SILENCE_MS_MAX;

/// Bytes in front of each body.
pub(super) const FRAME_HEADER_BYTES: usize = 8;
/// Room that one read is given: the most that is allocated ahead of what has arrived.
const READ_BYTES: usize = 64 << 10;

/// Why no frame can be had from a connection any more.
#[derive(Debug)]
pub(super) enum FrameError {
    /// The socket failed.
    Io(io::Error),
    /// The connection was closed, perhaps within a frame.
    Closed,
    /// Nothing has arrived for too long.
    Silent,
    /// The length in the header exceeds the limit.
    TooLong { bytes: usize, limit: usize },
    /// The body is not what its checksum says.
    Damaged,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Io(err) => err.fmt(f),
            FrameError::Closed => f.write_str("the remote side closed the connection"),
            FrameError::Silent => write!(f, "nothing was heard for {PEER_SILENCE_MS_MAX} ms"),
            FrameError::TooLong { bytes, limit } => {
                write!(f, "a frame of {bytes} bytes, the limit is {limit}")
            }
            FrameError::Damaged => f.write_str("a frame does not match its checksum"),
        }
    }
}

/// Returns the header of a frame whose body is these parts, one after the other. Cost: O(length), for the
/// checksum.
pub(super) fn frame_header(parts: [&[u8]; 2]) -> [u8; FRAME_HEADER_BYTES] {
    let mut checksum = crc32fast::Hasher::new();
    parts.iter().for_each(|part| checksum.update(part));
    // Cannot be cut off: payloads are refused above PEER_PAYLOAD_BYTES_MAX, far below 4 GiB.
    let length = (parts[0].len() + parts[1].len()) as u32;
    let mut header = [0; FRAME_HEADER_BYTES];
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4..].copy_from_slice(&checksum.finalize().to_le_bytes());
    header
}

/// Reads frames whose bodies are slices of its buffer, not copies. Its waits can be cancelled without losing
/// a byte.
pub(super) struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
    limit: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames with bodies of at most `limit` bytes.
    pub(super) fn new(io: R, limit: usize) -> FrameReader<R> {
        FrameReader { io, buffer: BytesMut::new(), limit }
    }

    /// Allows bodies of at most `limit` bytes from here on.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Returns the next body, waiting for it at most as long as the remote side may be silent.
    pub(super) async fn next(&mut self) -> Result<Bytes, FrameError> {
        loop {
            if let Some(body) = self.next_arrived()? {
                return Ok(body);
            }
            self.fill().await?;
        }
    }

    /// Returns the next body if all of it has arrived. Cost: O(length), for the checksum.
    pub(super) fn next_arrived(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some((length, checksum)) = self.header() else { return Ok(None) };
        if length > self.limit {
            return Err(FrameError::TooLong { bytes: length, limit: self.limit });
        }
        if self.buffer.len() < FRAME_HEADER_BYTES + length {
            return Ok(None);
        }
        let body = self.buffer.split_to(FRAME_HEADER_BYTES + length).freeze();
        let body = body.slice(FRAME_HEADER_BYTES..);
        if crc32fast::hash(&body) == checksum { Ok(Some(body)) } else { Err(FrameError::Damaged) }
    }

    fn header(&self) -> Option<(usize, u32)> {
        let (length, rest) = self.buffer.split_first_chunk::<4>()?;
        let checksum = rest.first_chunk::<4>()?;
        Some((u32::from_le_bytes(*length) as usize, u32::from_le_bytes(*checksum)))
    }

    /// Waits for more bytes. The buffer grows by what has arrived, so that a header that promises much and
    /// brings nothing costs nothing.
    async fn fill(&mut self) -> Result<(), FrameError> {
        let chunk = READ_BYTES.min(self.limit + FRAME_HEADER_BYTES);
        let arrived = self.buffer.len();
        let missing = match self.header() {
            Some((length, _)) => (FRAME_HEADER_BYTES + length).saturating_sub(arrived),
            None => FRAME_HEADER_BYTES,
        };
        self.buffer.reserve(missing.clamp(chunk / 4, arrived.max(chunk)));
        let patience = Duration::from_millis(PEER_SILENCE_MS_MAX);
        match timeout(patience, self.io.read_buf(&mut self.buffer)).await {
            Ok(Ok(0)) => Err(FrameError::Closed),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(err)) => Err(FrameError::Io(err)),
            Err(_) => Err(FrameError::Silent),
        }
    }
}
