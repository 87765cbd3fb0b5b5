//! The first bytes of a connection to ZooKeeper's port: a frame with a ConnectRequest.
#![no_main]

use libfuzzer_sys::fuzz_target;
use roost::jute::{ConnectRequest, ConnectResponse, Jute, Reader, Writer, split_frame};

/// Checks that what was read is written as the bytes that were read, flags apart.
fn comes_back<T: Jute + PartialEq + std::fmt::Debug>(body: &[u8]) {
    let mut reader = Reader::new(body);
    let Ok(value) = reader.read::<T>() else { return };
    let mut out = Vec::new();
    value.write(&mut Writer::new(&mut out));
    assert_eq!(out.len(), body.len() - reader.rest().len());
    assert_eq!(Reader::new(&out).read::<T>().as_ref(), Ok(&value));
}

fuzz_target!(|arrived: &[u8]| {
    let Ok(Some(body)) = split_frame(arrived, 1 << 20) else { return };
    comes_back::<ConnectRequest>(body);
    comes_back::<ConnectResponse>(body);
});
