//! A consumer: calls a service over HTTP, balanced by weight, with a second and third attempt elsewhere.
//!
//! ```sh
//! cargo run --example consumer -- web 20
//! ```
//!
//! Calls it so many times (for ever when no number is given), one call each 100 ms. The registry is at `ROOST_ENDPOINTS`, or
//! where `roost dev` has it; `static://127.0.0.1:9001` in place of the service's name asks no registry. Lists are kept in
//! `ROOST_CACHE` if that is set, and then it starts while the registry is down. Exit code 1 when a call failed.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;
use roost::sdk::{
    CallError, Discovery, PoolOptions, Registry, ServicePool, Subscription, SubscriptionOptions,
};
use tokio::time::{interval, timeout};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let service = args.get(1).ok_or("usage: consumer SERVICE [CALLS]")?;
    let calls: u64 = args.get(2).map_or(Ok(u64::MAX), |text| text.parse())?;
    let seeds = std::env::var("ROOST_ENDPOINTS")
        .unwrap_or_else(|_| "127.0.0.1:8081,127.0.0.1:8082".to_owned());
    let seeds: Vec<String> = seeds.split(',').map(str::to_owned).collect();

    let pool = if service.starts_with("static://") {
        ServicePool::fixed(service, PoolOptions::default())?
    } else {
        let options = SubscriptionOptions {
            cache_dir: std::env::var_os("ROOST_CACHE").map(PathBuf::from),
            discovery: Discovery::Eager { wait: Duration::from_secs(5), fail_fast: true },
            ..SubscriptionOptions::default()
        };
        let registries = [Registry::new("main", &seeds)?];
        let subscription =
            Subscription::start(&registries, std::slice::from_ref(service), options).await?;
        if subscription.providers(service).is_ok_and(|providers| providers.is_stale) {
            println!("consumer: the registry is away; the list is an older one");
        }
        ServicePool::new(&subscription, service, PoolOptions::default())
    };

    let http = reqwest::Client::new();
    let mut pace = interval(Duration::from_millis(100));
    let mut failed = 0;
    for _ in 0..calls {
        pace.tick().await;
        let called = pool.call(3, |picked| {
            // An address may belong to another by now, who can tell by this.
            let request = http
                .get(format!("http://{}/", picked.addr()))
                .header("Roost-Incarnation", picked.instance.incarnation);
            async move {
                let response = timeout(Duration::from_secs(2), request.send()).await;
                match response.map_err(|_| "no answer within 2 s".to_owned())? {
                    // Nothing was begun there, so it is safe to ask somebody else.
                    Ok(response) if response.status() == StatusCode::MISDIRECTED_REQUEST => {
                        Err("meant for another".to_owned())
                    }
                    Ok(response) => response.text().await.map_err(|err| err.to_string()),
                    Err(err) => Err(err.to_string()),
                }
            }
        });
        match called.await {
            Ok(answer) => println!("consumer: {}", answer.trim_end()),
            Err(CallError::Nobody(why)) => {
                failed += 1;
                println!("consumer: nobody to call: {why}");
            }
            Err(CallError::Failed(why)) => {
                failed += 1;
                println!("consumer: {why}");
            }
        }
    }
    if failed > 0 {
        return Err(format!("{failed} of {calls} calls failed").into());
    }
    Ok(())
}
