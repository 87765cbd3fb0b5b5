//! Frames: a length in front of what belongs together.

use super::{
    DecodeError, Jute, ReplyHeader, Request, RequestHeader, Response, WatcherEvent, Writer, xids,
};

/// Returns the body of the first frame in what has arrived, `None` until all of it has. The frame takes four
/// bytes more than its body. A length below 0 or above `max` is an error at once, before its bytes have come.
pub fn split_frame(arrived: &[u8], max: usize) -> Result<Option<&[u8]>, DecodeError> {
    let Some((length, rest)) = arrived.split_first_chunk::<4>() else { return Ok(None) };
    let length = i32::from_be_bytes(*length);
    match usize::try_from(length) {
        Ok(bytes) if bytes <= max => Ok(rest.get(..bytes)),
        _ => Err(DecodeError::FrameLength(length)),
    }
}

/// Appends a frame with what `write` writes.
pub fn append_frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Writer<'_>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(&mut Writer::new(out));
    let length = i32::try_from(out.len() - start - 4).expect("a frame is shorter than 2 GiB");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends the frame of a request.
pub fn append_request(out: &mut Vec<u8>, xid: i32, request: &Request) {
    append_frame(out, |writer| {
        RequestHeader { xid, opcode: request.opcode() }.write(writer);
        request.encode(writer);
    });
}

/// Appends the frame of a reply. The body is left out when the header names an error: clients do not expect
/// one.
pub fn append_reply(out: &mut Vec<u8>, header: &ReplyHeader, body: &Response) {
    append_frame(out, |writer| {
        header.write(writer);
        if header.err == 0 {
            body.encode(writer);
        }
    });
}

/// Appends the frame of an event. `zxid` is that of the transaction that caused it, -1 for one made up for a
/// client that came back.
pub fn append_event(out: &mut Vec<u8>, zxid: i64, event: &WatcherEvent) {
    append_frame(out, |writer| {
        ReplyHeader { xid: xids::EVENT, zxid, err: 0 }.write(writer);
        event.write(writer);
    });
}
