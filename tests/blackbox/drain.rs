//! A rolling restart of all providers of a service under load, without a call that fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use roost::client::model::Registration;
use roost::sdk::{
    Discovery, PoolOptions, Registrar, RegistrarOptions, Registry, Service, ServicePool,
    ShutdownOptions, Subscription, SubscriptionOptions,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::harness::{Cluster, eventually};

const PATIENCE: Duration = Duration::from_secs(60);
const PROVIDERS: usize = 3;
const CONSUMERS: usize = 4;

/// A provider; it answers every connection until it is stopped, and refuses from then on.
struct Provider {
    registrar: Registrar,
    serving: JoinHandle<()>,
    answered: Arc<AtomicU64>,
}

impl Provider {
    async fn start(registry: &Registry) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answered = Arc::new(AtomicU64::new(0));
        let counting = answered.clone();
        let serving = tokio::spawn(async move {
            loop {
                let Ok((mut caller, _)) = listener.accept().await else { continue };
                if caller.write_all(b"!").await.is_ok() {
                    counting.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let registration =
            Registration { host: "127.0.0.1".to_owned(), port, ..Registration::default() };
        let service = Service { name: "web".to_owned(), registration };
        let registry = std::slice::from_ref(registry);
        let registrar = Registrar::start(registry, vec![service], &RegistrarOptions::default());
        registrar.registered(PATIENCE).await.unwrap();
        Provider { registrar, serving, answered }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_all_providers_are_drained_and_restarted_one_after_the_other() {
    let cluster = Cluster::start(3).await;
    let registry = Registry::new("a", &cluster.endpoints_from(0)).unwrap();
    let mut providers = Vec::new();
    for _ in 0..PROVIDERS {
        providers.push(Provider::start(&registry).await);
    }
    let done = Arc::new(AtomicBool::new(false));
    let mut consumers = Vec::new();
    for at in 0..CONSUMERS {
        // Each follows the service through another node.
        let registry = Registry::new("a", &cluster.endpoints_from(at % 3)).unwrap();
        let options = SubscriptionOptions {
            discovery: Discovery::Eager { wait: PATIENCE, fail_fast: true },
            ..SubscriptionOptions::default()
        };
        let subscription =
            Subscription::start(&[registry], &["web".to_owned()], options).await.unwrap();
        let done = done.clone();
        consumers.push(tokio::spawn(async move {
            let pool = ServicePool::new(&subscription, "web", PoolOptions::default());
            let (mut calls, mut failed) = (0u64, Vec::new());
            while !done.load(Ordering::Relaxed) {
                let called = pool.call(1, |picked| async move {
                    let mut stream = TcpStream::connect(picked.addr()).await?;
                    stream.read_u8().await
                });
                calls += 1;
                if let Err(why) = called.await {
                    failed.push(format!("{why:?}"));
                }
                // Not so many that the machine runs out of ports.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            (calls, failed)
        }));
    }
    // Long against what a call takes, so that one which was picked before is answered before.
    let options = ShutdownOptions { drain: PATIENCE, grace: Duration::from_secs(2) };
    for _ in 0..PROVIDERS {
        let fresh = Provider::start(&registry).await;
        eventually("the new one is called", async || {
            (fresh.answered.load(Ordering::Relaxed) > 0).then_some(())
        })
        .await;
        let old = providers.remove(0);
        let left = old.registrar.shutdown(options).await;
        let [(service, drained)] = &left[0].drained[..] else { panic!("{left:?}") };
        assert_eq!(service, "web");
        assert!(drained.notified >= CONSUMERS as u64 && drained.lagging == 0, "{drained:?}");
        old.serving.abort();
        providers.push(fresh);
    }
    done.store(true, Ordering::Relaxed);
    for consumer in consumers {
        let (calls, failed) = consumer.await.unwrap();
        assert!(calls > 0 && failed.is_empty(), "{} of {calls}: {failed:?}", failed.len());
    }
}
