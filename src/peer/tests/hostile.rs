use std::cell::Cell;
use std::sync::Once;

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::limits::PEER_FRAME_BYTES_MAX;
use crate::peer::frame::{FrameError, FrameReader, frame_header};
use crate::peer::handshake::{HelloFrame, Opened, call_out, hello_body, take_in};
use crate::peer::message::Message;
use crate::peer::outbox::FrameWriter;

use super::*;

fn frame(body: &[u8]) -> Vec<u8> {
    [&frame_header([body, &[]])[..], body].concat()
}

async fn read_from(bytes: &[u8], limit: usize) -> Result<Bytes, FrameError> {
    FrameReader::new(bytes, limit).next().await
}

#[tokio::test]
async fn a_frame_beyond_the_limit_is_refused_by_its_header_alone() {
    let header = [&1001u32.to_le_bytes()[..], &[0; 4]].concat();
    let refused = read_from(&header, 1000).await;
    assert!(matches!(refused, Err(FrameError::TooLong { bytes: 1001, limit: 1000 })));
    assert_eq!(read_from(&frame(&[7; 1000]), 1000).await.unwrap()[..], [7; 1000]);
}

#[tokio::test]
async fn a_truncated_frame_is_an_end_and_a_changed_bit_is_damage() {
    let whole = frame(b"some body");
    for length in 0..whole.len() {
        let cut = read_from(&whole[..length], 1000).await;
        assert!(matches!(cut, Err(FrameError::Closed)), "{length} bytes: {cut:?}");
    }
    for bit in 32..whole.len() * 8 {
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(read_from(&changed, 1000).await, Err(FrameError::Damaged)), "bit {bit}");
    }
}

#[tokio::test]
async fn an_unknown_kind_is_refused_and_the_connection_lives_on() {
    let node = Node::tcp().await;
    let io = TcpNet.connect(&node.addr).await.unwrap();
    let mut opened = call_out(io, &identity(1), 2, Purpose::Calls).await.map_err(drop).unwrap();
    for (kind, id) in [(0, 1), (99, 2), (Kind::Vote.number(), 3)] {
        let call = Message::Call { kind, id, payload: Bytes::new() };
        opened.writer.write(call).await.unwrap();
    }
    let mut failed = 0;
    loop {
        match Message::decode(opened.reader.next().await.unwrap()).unwrap() {
            Message::Failure { id: 1 | 2, reason } if reason.contains("no call of kind") => {
                failed += 1
            }
            Message::Answer { id: 3, .. } => {}
            other => panic!("{other:?}"),
        }
        if failed == 2 {
            break;
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn a_message_that_has_no_place_closes_the_connection() {
    let node = Node::tcp().await;
    for message in [
        Message::End,
        Message::Item(Bytes::new()),
        Message::Answer { id: 1, payload: Bytes::new() },
    ] {
        let io = TcpNet.connect(&node.addr).await.unwrap();
        let mut opened = call_out(io, &identity(1), 2, Purpose::Calls).await.map_err(drop).unwrap();
        opened.writer.write(message).await.unwrap();
        assert!(opened.reader.next().await.is_err());
    }
    node.stop().await;
}

/// Any message.
fn messages() -> impl Strategy<Value = Message> {
    let payload = || vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    prop_oneof![
        Just(Message::Ping),
        Just(Message::End),
        payload().prop_map(Message::Item),
        (any::<u8>(), any::<u64>(), payload()).prop_map(|(kind, id, payload)| Message::Call {
            kind,
            id,
            payload
        }),
        (any::<u64>(), payload()).prop_map(|(id, payload)| Message::Answer { id, payload }),
        (any::<u64>(), "[a-zäß ]{0,99}").prop_map(|(id, reason)| Message::Failure { id, reason }),
    ]
}

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Runs a test on this thread and fails when anything on it panicked, also within a task, where tokio keeps
/// it quiet.
fn run_and_count_panics(test: impl Future<Output = ()>) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            usual(info);
        }));
    });
    let before = PANICS.get();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test);
    assert_eq!(PANICS.get(), before, "a task panicked");
}

/// Bytes of no meaning, bodies of no meaning in sound frames, or messages in sound frames.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let bodies = vec(any::<u8>(), 0..100);
    prop_oneof![
        vec(any::<u8>(), 0..300),
        vec(bodies, 1..5).prop_map(|bodies| bodies.iter().flat_map(|body| frame(body)).collect()),
        vec(messages(), 1..5).prop_map(|messages| messages.into_iter().flat_map(encode).collect()),
    ]
}

fn encode(message: Message) -> Vec<u8> {
    let mut header = BytesMut::new();
    let payload = message.split(&mut header);
    frame(&[header, BytesMut::from(payload)].concat())
}

/// Sends garbage, hangs up, and reads what comes until the other side has hung up too.
async fn attack(mut io: DuplexStream, garbage: &[u8]) {
    io.write_all(garbage).await.ok();
    io.shutdown().await.ok();
    io.read_to_end(&mut Vec::new()).await.ok();
}

/// The same after a handshake that went well.
async fn betray(mut opened: Opened, garbage: &[u8]) {
    opened.writer.io.write_all(garbage).await.ok();
    opened.writer.shutdown().await.ok();
    while opened.reader.next().await.is_ok() {}
}

/// Connects two ends, of which one will serve as node 2 and the other is returned.
async fn served(stop: &CancellationToken) -> (DuplexStream, JoinHandle<()>) {
    struct One(Option<DuplexStream>);
    impl Acceptor for One {
        fn accept(&mut self) -> BoxFuture<'_, std::io::Result<(Box<dyn Duplex>, String)>> {
            match self.0.take() {
                Some(io) => async { Ok((Box::new(io) as Box<dyn Duplex>, String::new())) }.boxed(),
                None => std::future::pending().boxed(),
            }
        }
        fn addr(&self) -> String {
            String::new()
        }
    }
    let (near, far) = tokio::io::duplex(1 << 20);
    let open = || Arc::new(Semaphore::new(1_000));
    let fixture = Fixture { gate: open(), begun: open() };
    let acceptor = Box::new(One(Some(far)));
    let serving = serve(acceptor, identity(2), Arc::new(Members), Arc::new(fixture), stop.clone());
    (near, tokio::spawn(serving))
}

/// The other end of a peer's connections, each handed out once.
struct Caught(tokio::sync::mpsc::UnboundedSender<DuplexStream>);

impl Net for Caught {
    fn connect(&self, _: &str) -> BoxFuture<'static, std::io::Result<Box<dyn Duplex>>> {
        let (near, far) = tokio::io::duplex(1 << 20);
        self.0.send(far).ok();
        async { Ok(Box::new(near) as Box<dyn Duplex>) }.boxed()
    }
    fn listen(&self, _: &str) -> BoxFuture<'static, std::io::Result<Box<dyn Acceptor>>> {
        async { Err(std::io::Error::from(std::io::ErrorKind::Unsupported)) }.boxed()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn every_message_survives_its_encoding(messages in vec(messages(), 0..20), big in 0..5usize) {
        run_and_count_panics(async {
            let mut all = messages.clone();
            all.insert(0, Message::Item(Bytes::from(vec![9; big * 20_000])));
            let (near, far) = tokio::io::duplex(100);
            let mut writer = FrameWriter::new(near);
            let mut reader = FrameReader::new(far, PEER_FRAME_BYTES_MAX);
            let writing = async {
                for message in all.clone() {
                    writer.write(message).await.unwrap();
                }
            };
            let reading = async {
                for message in &all {
                    let body = reader.next().await.unwrap();
                    assert_eq!(Message::decode(body).as_ref(), Some(message));
                }
            };
            tokio::join!(writing, reading);
        });
    }

    #[test]
    fn bytes_of_no_meaning_decode_to_nothing_or_to_themselves(body in vec(any::<u8>(), 0..40)) {
        if let Some(message) = Message::decode(Bytes::from(body.clone()))
            && !matches!(message, Message::Failure { .. })
        {
            prop_assert_eq!(encode(message), frame(&body));
        }
    }

    #[test]
    fn a_server_survives_garbage_at_every_stage(stage in 0..4, garbage in garbage()) {
        run_and_count_panics(async {
            let stop = CancellationToken::new();
            let (mut io, serving) = served(&stop).await;
            match stage {
                0 => attack(io, &garbage).await,
                1 => {
                    let hello =
                        HelloFrame { cluster: CLUSTER, from: 1, to: 2, purpose: 0, nonce: [0; 32] };
                    io.write_all(&frame(&hello_body(PROTOCOL_VERSION, &hello))).await.unwrap();
                    attack(io, &garbage).await;
                }
                _ => {
                    let purpose =
                        if stage == 2 { Purpose::Calls } else { Purpose::Stream(Kind::Submit) };
                    let us = identity(1);
                    let opened = call_out(Box::new(io), &us, 2, purpose).await;
                    betray(opened.map_err(drop).unwrap(), &garbage).await;
                }
            }
            stop.cancel();
            serving.await.unwrap();
        });
    }

    #[test]
    fn a_caller_survives_garbage_at_every_stage(stage in 0..4, garbage in garbage()) {
        run_and_count_panics(async {
            let (sender, mut caught) = tokio::sync::mpsc::unbounded_channel();
            let stop = CancellationToken::new();
            let peer = Peer::new(Arc::new(Caught(sender)), identity(1), 2, "", &stop);
            let hostile = async {
                let mut io = caught.recv().await.unwrap();
                if stage > 1 {
                    let taken = take_in(Box::new(io), &identity(2), &Members).await;
                    return betray(taken.map_err(drop).unwrap().1, &garbage).await;
                }
                if stage == 1 {
                    io.write_all(&frame(&[&[1u8][..], &[5; 32]].concat())).await.unwrap();
                }
                attack(io, &garbage).await;
            };
            let using = async {
                if stage == 3 {
                    let (sender, mut receiver) = peer.open_stream(Kind::Submit).await.map_err(drop)?;
                    sender.send(Bytes::from("x")).await.ok();
                    drop(sender);
                    while receiver.next().await.transpose().map_err(drop)?.is_some() {}
                    Ok(())
                } else {
                    peer.call(Kind::Vote, Bytes::new(), LONG).await.map(drop).map_err(drop)
                }
            };
            // Ends with something, and the peer is still good for an orderly close.
            let _: (Result<(), ()>, ()) = tokio::join!(using, hostile);
            peer.close().await;
        });
    }
}
