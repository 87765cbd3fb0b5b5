//! A frame that a client sends after the handshake: header and request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roost::jute::{Reader, Request, RequestHeader, append_request};

/// A byte that is no text is kept as U+FFFD, which has three.
const GROWTH_MAX: usize = 3;

fuzz_target!(|frame: &[u8]| {
    let mut reader = Reader::new(frame);
    let Ok(header) = reader.read::<RequestHeader>() else { return };
    let Ok(request) = Request::decode(header.opcode, reader.rest()) else { return };
    assert_eq!(request.opcode(), header.opcode);
    let mut out = Vec::new();
    append_request(&mut out, header.xid, &request);
    assert!(out.len() <= 4 + frame.len() * GROWTH_MAX);
    assert_eq!(Request::decode(header.opcode, &out[12..]), Ok(request));
});
