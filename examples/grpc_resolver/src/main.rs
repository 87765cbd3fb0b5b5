//! A gRPC server that registers itself, and a client whose channel always has the present providers.
//!
//! ```sh
//! cargo run --manifest-path examples/grpc_resolver/Cargo.toml -- serve health 127.0.0.1:9101
//! cargo run --manifest-path examples/grpc_resolver/Cargo.toml -- call health 20
//! ```
//!
//! The service is that of gRPC's own health checks, so that no protocol compiler is needed. `resolve` is all that another
//! client has to copy: it turns the list of a subscription into the inserts and removes that tonic's balanced channel takes.
//! It has no end as long as the channel lives: a stream from the registry that breaks is the subscription's matter, and the
//! endpoints stay meanwhile.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use roost::client::model::Registration;
use roost::sdk::{
    Discovery, Registrar, RegistrarOptions, Registry, Service, ShutdownOptions, Subscription, SubscriptionOptions,
};
use tokio::sync::mpsc::Sender;
use tonic::transport::channel::Change;
use tonic::transport::{Channel, Endpoint, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().collect();
    let seeds = std::env::var("ROOST_ENDPOINTS").unwrap_or_else(|_| "127.0.0.1:8081,127.0.0.1:8082".to_owned());
    let seeds: Vec<String> = seeds.split(',').map(str::to_owned).collect();
    let registry = Registry::new("main", &seeds)?;
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [_, "serve", service, addr] => serve(registry, service, addr).await,
        [_, "call", service, calls] => call(registry, service, calls.parse()?).await,
        _ => Err("usage: grpc_resolver serve SERVICE HOST:PORT | call SERVICE CALLS".into()),
    }
}

async fn serve(registry: Registry, service: &str, addr: &str) -> Result<(), Failure> {
    let addr: std::net::SocketAddr = addr.parse()?;
    let (_reporter, health) = tonic_health::server::health_reporter();
    let server = tokio::spawn(Server::builder().add_service(health).serve(addr));
    let registration =
        Registration { host: addr.ip().to_string(), port: addr.port(), ..Registration::default() };
    let services = vec![Service { name: service.to_owned(), registration }];
    let options = RegistrarOptions { ttl: Duration::from_secs(5), ..RegistrarOptions::default() };
    let registrar = Registrar::start(&[registry], services, &options);
    registrar.registered(Duration::from_secs(10)).await?;
    println!("serving {service} at {addr}");
    tokio::signal::ctrl_c().await?;
    registrar.shutdown(ShutdownOptions::default()).await;
    server.abort();
    Ok(())
}

async fn call(registry: Registry, service: &str, calls: u64) -> Result<(), Failure> {
    let options = SubscriptionOptions {
        discovery: Discovery::Eager { wait: Duration::from_secs(10), fail_fast: true },
        ..SubscriptionOptions::default()
    };
    let subscription = Subscription::start(&[registry], &[service.to_owned()], options).await?;
    let (channel, changes) = Channel::balance_channel(64);
    tokio::spawn(resolve(subscription, service.to_owned(), changes));
    let mut client = HealthClient::new(channel);
    for _ in 0..calls {
        let mut attempts = 0;
        loop {
            let asked = client.check(HealthCheckRequest { service: String::new() });
            match tokio::time::timeout(Duration::from_secs(2), asked).await {
                Ok(Ok(answer)) => {
                    println!("answered: status {}", answer.into_inner().status);
                    break;
                }
                // What was sent to a provider that has just died is sent to another.
                failed if attempts >= 5 => return Err(format!("five attempts failed: {failed:?}").into()),
                _ => attempts += 1,
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Keeps the endpoints of a balanced channel those of a service, until the channel is gone.
async fn resolve(
    subscription: Subscription,
    service: String,
    changes: Sender<Change<String, Endpoint>>,
) -> Result<(), Failure> {
    let mut news = subscription.changes();
    // Another incarnation at the same address is another process: its connection is made anew.
    let mut present: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        news.borrow_and_update();
        if let Ok(providers) = subscription.providers(&service) {
            let wanted = providers.instances.iter().filter(|instance| instance.wants_traffic());
            let wanted: BTreeMap<String, u64> =
                wanted.map(|instance| (instance.addr(), instance.incarnation)).collect();
            for addr in present.keys().filter(|addr| !wanted.contains_key(*addr)) {
                changes.send(Change::Remove(addr.clone())).await?;
            }
            for (addr, _) in wanted.iter().filter(|(addr, now)| present.get(*addr) != Some(now)) {
                let endpoint = Endpoint::from_shared(format!("http://{addr}"))?;
                let endpoint = endpoint.connect_timeout(Duration::from_secs(1));
                changes.send(Change::Insert(addr.clone(), endpoint)).await?;
            }
            present = wanted;
        }
        news.changed().await?;
    }
}
