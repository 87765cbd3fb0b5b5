//! A gRPC service that registers itself, and a client of it whose channel the registry resolves.
//!
//! ```sh
//! cargo run -p roost-grpc --example grpc -- serve who 127.0.0.1:9101
//! cargo run -p roost-grpc --example grpc -- call who 20
//! ```
//!
//! The service is `roost.example.Who`, whose one method `Name` takes nothing and returns a string: who has answered. Its messages
//! are written by hand here; with prost they would be generated, and nothing else would differ. `call` makes so many
//! calls, one each 100 ms. The registry is at `ROOST_ENDPOINTS`, or where `roost dev` has it. Exit code 1 when a call failed.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use roost::client::model::Registration;
use roost::sdk::{
    Discovery, Registrar, RegistrarOptions, Registry, Service, ShutdownOptions, Subscription,
    SubscriptionOptions,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{interval, sleep, timeout};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status};

const METHOD: &str = "/roost.example.Who/Name";
/// How long one call may take, with all its attempts.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// What passes before a call is made again.
const RETRY_AFTER: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let args: Vec<&str> = args[1..].iter().map(String::as_str).collect();
    let seeds = std::env::var("ROOST_ENDPOINTS")
        .unwrap_or_else(|_| "127.0.0.1:8081,127.0.0.1:8082".to_owned());
    let seeds: Vec<String> = seeds.split(',').map(str::to_owned).collect();
    let registry = Registry::new("main", &seeds)?;
    match args[..] {
        ["serve", service, addr] => serve(registry, service, addr).await,
        ["call", service, calls] => call(registry, service, calls.parse()?).await,
        _ => Err("usage: grpc serve SERVICE HOST:PORT | grpc call SERVICE CALLS".into()),
    }
}

async fn serve(registry: Registry, service: &str, addr: &str) -> Result<(), Box<dyn Error>> {
    // First it listens, then it says so.
    let incoming = TcpIncoming::bind(addr.parse()?)?;
    let local = incoming.local_addr()?;
    let server = Server::builder().add_service(Who { name: local.to_string() });
    let serving = tokio::spawn(server.serve_with_incoming(incoming));
    let registration = Registration {
        host: local.ip().to_string(),
        port: local.port(),
        ..Registration::default()
    };
    let registrar = Registrar::start(
        &[registry],
        vec![Service { name: service.to_owned(), registration }],
        &RegistrarOptions { ttl: Duration::from_secs(5), ..RegistrarOptions::default() },
    );
    signal(SignalKind::terminate())?.recv().await;
    registrar.shutdown(ShutdownOptions::default()).await;
    serving.abort();
    Ok(())
}

async fn call(registry: Registry, service: &str, calls: u32) -> Result<(), Box<dyn Error>> {
    let options = SubscriptionOptions {
        discovery: Discovery::Eager { wait: Duration::from_secs(5), fail_fast: true },
        ..SubscriptionOptions::default()
    };
    let subscription = Subscription::start(&[registry], &[service.to_owned()], options).await?;
    let channel = roost_grpc::channel(&subscription, service);
    let mut pace = interval(Duration::from_millis(100));
    let mut failed = 0;
    for _ in 0..calls {
        pace.tick().await;
        match timeout(CALL_TIMEOUT, name(&channel)).await {
            Ok(Ok(name)) => println!("grpc: {name}"),
            Ok(Err(status)) => {
                failed += 1;
                println!("grpc: {status}");
            }
            Err(_) => {
                failed += 1;
                println!("grpc: nobody to call");
            }
        }
    }
    if failed > 0 {
        return Err(format!("{failed} of {calls} calls failed").into());
    }
    Ok(())
}

/// Returns who has answered. A call that nobody has taken is made again, which may reach another.
async fn name(channel: &Channel) -> Result<String, Status> {
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
struct Who {
    name: String,
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
