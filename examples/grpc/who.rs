//! The service `roost.example.Who`, and a call of it. Its messages are written by hand here; with prost they would be generated,
//! and nothing else would differ.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tokio::time::sleep;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

const METHOD: &str = "/roost.example.Who/Name";
/// What passes before a call is made again.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// Returns who has answered. A call that nobody has taken is made again, which may reach another.
pub(crate) async fn name(channel: &Channel) -> Result<String, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    loop {
        let ready = client.ready().await.map_err(|err| Status::unavailable(err.to_string()));
        let path = PathAndQuery::from_static(METHOD);
        let answer = match ready {
            Ok(()) => client.unary(Request::new(String::new()), path, Text).await,
            Err(status) => Err(status),
        };
        match answer {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) if status.code() == Code::Unavailable => sleep(RETRY_AFTER).await,
            Err(status) => return Err(status),
        }
    }
}

/// The server's side of the service.
#[derive(Clone)]
pub(crate) struct Who {
    pub(crate) name: String,
}

impl NamedService for Who {
    const NAME: &'static str = "roost.example.Who";
}

impl tower_service::Service<http::Request<Body>> for Who {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let name = Name(self.name.clone());
        Box::pin(async move {
            Ok(match request.uri().path() {
                METHOD => tonic::server::Grpc::new(Text).unary(name, request).await,
                _ => Status::unimplemented("there is no such method").into_http(),
            })
        })
    }
}

/// Answers one call of the method.
struct Name(String);

impl UnaryService<String> for Name {
    type Response = String;
    type Future = Ready<Result<Response<String>, Status>>;

    fn call(&mut self, _: Request<String>) -> Self::Future {
        ready(Ok(Response::new(self.0.clone())))
    }
}

/// A protobuf message whose field 1 is a string of up to 127 bytes, and which has no other: `google.protobuf.StringValue`.
#[derive(Clone, Copy, Debug, Default)]
struct Text;

/// The key of the field: number 1, of the kind that has a length.
const KEY: u8 = (1 << 3) | 2;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Text;
    type Decoder = Text;

    fn encoder(&mut self) -> Text {
        Text
    }

    fn decoder(&mut self) -> Text {
        Text
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, text: String, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 128);
        let length = length.ok_or_else(|| Status::internal("the text is too long"))?;
        if length > 0 {
            out.put_slice(&[KEY, length]);
            out.put_slice(text.as_bytes());
        }
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let message: Bytes = input.copy_to_bytes(input.remaining());
        let text = match message[..] {
            [] => Some(&[][..]),
            [KEY, length, ref text @ ..] if usize::from(length) == text.len() => Some(text),
            _ => None,
        };
        let text = text.and_then(|text| String::from_utf8(text.to_vec()).ok());
        text.map(Some).ok_or_else(|| Status::internal("this is not one short text"))
    }
}
