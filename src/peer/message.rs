//! Frame bodies to messages: one tag byte, then what the tag says, then the payload to the end of the frame.

use bytes::{BufMut, Bytes, BytesMut};

use super::error::one_line;

/// What a call or a stream is about. On the wire it is one byte, the number given here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Log entries or a heartbeat, from the leader.
    Append = 1,
    /// A request for a vote.
    Vote = 2,
    /// The question whether a vote could be won, before a term is spent on it.
    PreVote = 3,
    /// A snapshot of the state.
    Snapshot = 4,
    /// The leader's wish that the receiver take over.
    TransferLeader = 5,
    /// Transactions for the leader.
    Submit = 6,
    /// Sessions that were heard from.
    Touch = 7,
    /// The question how far one must have applied to read linearizably.
    ReadIndex = 8,
    /// What the node knows of itself and the cluster.
    Status = 9,
    /// The wish to become a member.
    Join = 10,
    /// Sessions whose clients have ended their connections.
    Lost = 11,
    /// The question how many of those who follow a leaving instance have been told.
    Told = 12,
    /// The question who follows the children of a znode.
    Followers = 13,
    /// The question which sessions, whose end is put off, were not heard of since.
    Silent = 14,
}

impl Kind {
    /// Every kind, in the order of the numbers, which start at 1 and have no gap.
    pub const ALL: [Kind; 14] = [
        Kind::Append,
        Kind::Vote,
        Kind::PreVote,
        Kind::Snapshot,
        Kind::TransferLeader,
        Kind::Submit,
        Kind::Touch,
        Kind::ReadIndex,
        Kind::Status,
        Kind::Join,
        Kind::Lost,
        Kind::Told,
        Kind::Followers,
        Kind::Silent,
    ];

    /// Returns the byte on the wire.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Returns the kind of that number; none for one that this version does not know.
    pub fn from_number(number: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }
}

const TAG_PING: u8 = 0;
const TAG_CALL: u8 = 1;
const TAG_ANSWER: u8 = 2;
const TAG_FAILURE: u8 = 3;
const TAG_ITEM: u8 = 4;
const TAG_END: u8 = 5;

/// What travels on a connection after the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// The sender is alive and has nothing else to say.
    Ping,
    /// A request. The kind is a number since it may be one that the receiver does not know.
    Call { kind: u8, id: u64, payload: Bytes },
    /// The answer to the request of that id.
    Answer { id: u64, payload: Bytes },
    /// The request of that id failed, and why.
    Failure { id: u64, reason: String },
    /// The next item of a stream.
    Item(Bytes),
    /// No item will follow.
    End,
}

impl Message {
    /// Appends the message without its payload to the buffer and returns the payload.
    pub(super) fn split(self, header: &mut BytesMut) -> Bytes {
        match self {
            Message::Ping => {
                header.put_u8(TAG_PING);
                Bytes::new()
            }
            Message::Call { kind, id, payload } => {
                header.put_u8(TAG_CALL);
                header.put_u8(kind);
                header.put_u64_le(id);
                payload
            }
            Message::Answer { id, payload } => {
                header.put_u8(TAG_ANSWER);
                header.put_u64_le(id);
                payload
            }
            Message::Failure { id, reason } => {
                header.put_u8(TAG_FAILURE);
                header.put_u64_le(id);
                Bytes::from(one_line(&reason))
            }
            Message::Item(payload) => {
                header.put_u8(TAG_ITEM);
                payload
            }
            Message::End => {
                header.put_u8(TAG_END);
                Bytes::new()
            }
        }
    }

    /// Returns the message in a frame's body; none when there is none in it. The payload is a slice of the
    /// body.
    pub(super) fn decode(body: Bytes) -> Option<Message> {
        let (&tag, rest) = body.split_first()?;
        let id = |at: usize| Some(u64::from_le_bytes(*rest.get(at..)?.first_chunk()?));
        Some(match tag {
            TAG_PING if rest.is_empty() => Message::Ping,
            TAG_CALL => {
                let (kind, id) = (*rest.first()?, id(1)?);
                Message::Call { kind, id, payload: body.slice(10..) }
            }
            TAG_ANSWER => Message::Answer { id: id(0)?, payload: body.slice(9..) },
            TAG_FAILURE => {
                let id = id(0)?;
                Message::Failure { id, reason: one_line(&String::from_utf8_lossy(&rest[8..])) }
            }
            TAG_ITEM => Message::Item(body.slice(1..)),
            TAG_END if rest.is_empty() => Message::End,
            _ => return None,
        })
    }

    /// Returns how many bytes of payload the message holds in memory.
    pub(super) fn payload_bytes(&self) -> usize {
        match self {
            Message::Call { payload, .. } | Message::Answer { payload, .. } => payload.len(),
            Message::Failure { reason, .. } => reason.len(),
            Message::Item(payload) => payload.len(),
            Message::Ping | Message::End => 0,
        }
    }
}
