//! What a server sends, as a client reads it: the opcode that was asked for, then a frame with a reply or an event.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roost::jute::{Reader, ReplyHeader, Response, WatcherEvent, append_reply, xids};

/// A byte that is no text is kept as U+FFFD, which has three.
const GROWTH_MAX: usize = 3;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = Reader::new(bytes);
    let Ok(opcode) = reader.read::<i32>() else { return };
    let Ok(header) = reader.read::<ReplyHeader>() else { return };
    if header.xid == xids::EVENT {
        let _ = reader.read::<WatcherEvent>();
        return;
    }
    let Ok(response) = Response::decode(opcode, reader.rest()) else { return };
    let mut out = Vec::new();
    append_reply(&mut out, &ReplyHeader { err: 0, ..header }, &response);
    assert!(out.len() <= bytes.len() * GROWTH_MAX);
    assert_eq!(Response::decode(opcode, &out[20..]), Ok(response));
});
