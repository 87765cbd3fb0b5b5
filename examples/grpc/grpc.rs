//! A gRPC service that registers itself, and a client of it whose channel the registry resolves.
//!
//! ```sh
//! cargo run -p roost-grpc --example grpc -- serve who 127.0.0.1:9101
//! cargo run -p roost-grpc --example grpc -- call who 20
//! ```
//!
//! The service is `roost.example.Who`, whose one method `Name` takes nothing and returns a string: who has answered. `call` makes so
//! many calls, one each 100 ms. The registry is at `ROOST_ENDPOINTS`, or where `roost dev` has it. Exit code 1 when a call failed.

mod who;

use std::error::Error;
use std::time::Duration;

use roost::client::model::Registration;
use roost::sdk::{
    Discovery, Registrar, RegistrarOptions, Registry, Service, ShutdownOptions, Subscription,
    SubscriptionOptions,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{interval, timeout};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use who::{Who, name};

/// How long one call may take, with all its attempts.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

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
