//! Bytes that nobody should send. `fuzz/` looks for more of them, with the coverage as its guide.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::*;
use super::random::{request, response};
use super::{bytes, decoded, encoded};
use crate::types::Code;

/// How much longer what was decoded may be than its bytes: a byte that is no text becomes U+FFFD, which has
/// three.
const GROWTH_MAX: usize = 3;

/// A change of bytes: to a number that hurts, at some place, or their end.
#[derive(Clone, Debug)]
enum Damage {
    Byte(Index, u8),
    Int(Index, i32),
    Cut(Index),
    Insert(Index, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let hurts = prop_oneof![
        Just(-1),
        Just(-2),
        Just(i32::MIN),
        Just(i32::MAX),
        Just(1 << 24),
        -16..200i32,
        any::<i32>(),
    ];
    prop_oneof![
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        4 => (any::<Index>(), hurts).prop_map(|(at, int)| Damage::Int(at, int)),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => (any::<Index>(), vec(any::<u8>(), 1..12)).prop_map(|(at, more)| Damage::Insert(at, more)),
    ]
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        let place = |at: &Index| at.index(bytes.len() + 1);
        match damage {
            Damage::Byte(at, byte) => {
                let at = place(at);
                bytes.get_mut(at).into_iter().for_each(|old| *old = *byte);
            }
            Damage::Int(at, int) => {
                let at = place(at);
                let new = int.to_be_bytes();
                bytes.get_mut(at..at + 4).into_iter().for_each(|old| old.copy_from_slice(&new));
            }
            Damage::Cut(at) => bytes.truncate(place(at)),
            Damage::Insert(at, more) => {
                let at = place(at);
                bytes.splice(at..at, more.iter().copied());
            }
        }
    }
    bytes
}

/// Checks what must hold of a request's bytes, whatever they are.
fn take_request(opcode: i32, body: &[u8]) -> Result<(), TestCaseError> {
    let Ok(request) = Request::decode(opcode, body) else { return Ok(()) };
    prop_assert_eq!(request.opcode(), opcode);
    let again = bytes(|writer| request.encode(writer));
    prop_assert!(again.len() <= body.len() * GROWTH_MAX, "{} of {}", again.len(), body.len());
    prop_assert_eq!(Request::decode(opcode, &again), Ok(request));
    Ok(())
}

/// As above, for what a server sends.
fn take_response(opcode: i32, body: &[u8]) -> Result<(), TestCaseError> {
    let Ok(response) = Response::decode(opcode, body) else { return Ok(()) };
    let again = bytes(|writer| response.encode(writer));
    prop_assert!(again.len() <= body.len() * GROWTH_MAX, "{} of {}", again.len(), body.len());
    prop_assert_eq!(Response::decode(opcode, &again), Ok(response));
    Ok(())
}

/// Returns a configuration with more cases than is usual: each costs little.
fn many() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.saturating_mul(8), ..usual }
}

fn opcode() -> impl Strategy<Value = i32> {
    prop_oneof![-12..120i32, any::<i32>()]
}

proptest! {
    #![proptest_config(many())]

    #[test]
    fn damaged_requests_are_refused_or_mean_something(
        request in request(),
        damages in vec(damage(), 1..5),
        other in prop::option::weighted(0.2, opcode()),
    ) {
        let body = damaged(bytes(|writer| request.encode(writer)), &damages);
        take_request(other.unwrap_or(request.opcode()), &body)?;
    }

    #[test]
    fn damaged_answers_are_refused_or_mean_something(
        (opcode, response) in response(),
        damages in vec(damage(), 1..5),
    ) {
        take_response(opcode, &damaged(bytes(|writer| response.encode(writer)), &damages))?;
    }

    #[test]
    fn random_bytes_are_refused_or_mean_something(
        opcode in opcode(),
        body in vec(prop_oneof![3 => Just(0u8), 1 => Just(0xff), 2 => any::<u8>()], 0..200),
    ) {
        take_request(opcode, &body)?;
        take_response(opcode, &body)?;
        if let Ok(request) = Reader::new(&body).read::<ConnectRequest>() {
            prop_assert!(encoded(&request).len() <= body.len());
            prop_assert_eq!(decoded(&encoded(&request)), Ok(request));
        }
        if let Ok(event) = Reader::new(&body).read::<WatcherEvent>() {
            prop_assert_eq!(decoded(&encoded(&event)), Ok(event));
        }
        if let Ok(Some(frame)) = split_frame(&body, 64) {
            prop_assert!(frame.len() <= 64);
        }
    }
}

#[test]
fn a_length_without_its_bytes_costs_nothing() {
    for opcode in [opcodes::SET_WATCHES, opcodes::CREATE] {
        let body = [&[0; 8], &i32::MAX.to_be_bytes()[..]].concat();
        assert_eq!(Request::decode(opcode, &body), Err(DecodeError::Short));
    }
    let promise = i32::MAX.to_be_bytes();
    assert_eq!(decoded::<Vec<String>>(&promise), Err(DecodeError::Short));
    assert_eq!(decoded::<String>(&promise), Err(DecodeError::Short));
    assert_eq!(decoded::<String>(&i32::MIN.to_be_bytes()), Err(DecodeError::Length(i32::MIN)));
}

#[test]
fn a_frame_that_is_too_long_is_refused_before_it_arrives() {
    assert_eq!(split_frame(&[0, 0, 0], 10), Ok(None));
    assert_eq!(split_frame(&[0, 0, 0, 2, 7], 10), Ok(None));
    assert_eq!(split_frame(&[0, 0, 0, 2, 7, 8, 9], 10), Ok(Some(&[7, 8][..])));
    assert_eq!(split_frame(&[0, 0, 0, 11], 10), Err(DecodeError::FrameLength(11)));
    assert_eq!(split_frame(&[255, 255, 255, 255], 10), Err(DecodeError::FrameLength(-1)));
    assert_eq!(split_frame(b"ruok", 1 << 20), Err(DecodeError::FrameLength(0x7275_6f6b)));
}

#[test]
fn each_reason_to_refuse_has_zookeeper_s_answer() {
    let code = |opcode, body: &[u8]| Request::decode(opcode, body).map_err(DecodeError::code);
    assert_eq!(code(999, &[]), Err(Code::Unimplemented));
    assert_eq!(code(-10, &[]), Err(Code::Unimplemented));
    assert_eq!(code(opcodes::EXISTS, &[0, 0, 0]), Err(Code::MarshallingError));
    assert_eq!(code(opcodes::EXISTS, &[0, 0, 0, 1, 0xff, 0]), Err(Code::BadArguments));
}

#[test]
fn reading_has_no_place_among_changes_nor_a_multi_in_itself() {
    let read = Request::Read(ReadOp::GetData(PathWatch { path: "/a".into(), watch: false }));
    for (inner, outer) in [
        (opcodes::GET_DATA, opcodes::MULTI),
        (opcodes::MULTI, opcodes::MULTI),
        (opcodes::CREATE, opcodes::MULTI_READ),
        (opcodes::MULTI_READ, opcodes::MULTI_READ),
        (-1, opcodes::MULTI),
    ] {
        let body = bytes(|writer| {
            inner.write(writer);
            false.write(writer);
            (-1).write(writer);
            read.encode(writer);
        });
        assert_eq!(Request::decode(outer, &body), Err(DecodeError::NotInMulti(inner)));
    }
}
