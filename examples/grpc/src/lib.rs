//! A channel of tonic's over the providers of a service, as the registry names them.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use roost::sdk::{Registry, Subscription, SubscriptionOptions};
//!
//! let registry = Registry::new("main", &["10.0.0.1:8080".to_owned()])?;
//! let services = ["greeter".to_owned()];
//! let subscription =
//!     Subscription::start(&[registry], &services, SubscriptionOptions::default()).await?;
//! let channel = roost_grpc::channel(&subscription, "greeter");
//! // let mut client = GreeterClient::new(channel);
//! # Ok(())
//! # }
//! ```
//!
//! The channel prefers, of two that it picks at random, the one with fewer calls under way; weights other than 0 mean nothing
//! to it. A provider that died without a word is called until its session has expired: a call that it does not take fails
//! as `Unavailable`, and may be made again. While there is nobody, calls wait: give them a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use roost::sdk::{Instance, LookupError, Subscription};
use tokio::sync::mpsc::Sender;
use tonic::transport::channel::Change;
use tonic::transport::{Channel, Endpoint};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Changes that wait until the channel takes them.
const CHANGES_MAX: usize = 16;

/// Returns a channel that is balanced over those providers of a service who are to be called, for as long as it, or a clone
/// of it, exists. Must be called within a runtime.
pub fn channel(subscription: &Subscription, service: &str) -> Channel {
    subscription.want(service);
    let (channel, changes) = Channel::balance_channel(CHANGES_MAX);
    tokio::spawn(resolve(subscription.clone(), service.to_owned(), changes));
    channel
}

/// Tells the channel of each change. A list that is not known any better than before stays.
async fn resolve(
    subscription: Subscription,
    service: String,
    changes: Sender<Change<String, Endpoint>>,
) {
    let mut news = subscription.changes();
    let mut known = BTreeMap::new();
    loop {
        news.mark_unchanged();
        let callable = match subscription.providers(&service) {
            Ok(providers) => Some(providers.callable()),
            Err(LookupError::NoKnownProviders { .. }) => None,
            Err(_) => Some(Vec::new()),
        };
        for change in callable.into_iter().flat_map(|now| differences(&mut known, &now)) {
            if changes.send(change).await.is_err() {
                return;
            }
        }
        tokio::select! {
            _ = news.changed() => {}
            // The channel is gone.
            () = changes.closed() => return,
        }
    }
}

/// Returns what has to happen to what is known, by address, to become the present list; it is known then. Another process at
/// the same address gets a connection of its own.
fn differences(
    known: &mut BTreeMap<String, u64>,
    now: &[Arc<Instance>],
) -> Vec<Change<String, Endpoint>> {
    let now: BTreeMap<String, u64> =
        now.iter().map(|instance| (instance.addr(), instance.incarnation)).collect();
    let gone = known.keys().filter(|addr| !now.contains_key(*addr));
    let mut changes: Vec<_> = gone.map(|addr| Change::Remove(addr.clone())).collect();
    for (addr, incarnation) in &now {
        // A host that is none is nobody to call.
        if known.get(addr) != Some(incarnation)
            && let Ok(endpoint) = Endpoint::from_shared(format!("http://{addr}"))
        {
            let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT);
            changes.push(Change::Insert(addr.clone(), endpoint));
        }
    }
    *known = now;
    changes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use roost::sdk::Instance;
    use tonic::transport::channel::Change;

    use super::differences;

    fn at(host: &str, incarnation: u64) -> Arc<Instance> {
        Arc::new(Instance { incarnation, ..Instance::fixed(host, 80) })
    }

    #[test]
    fn the_channel_is_told_who_came_who_went_and_who_is_another_at_the_same_address() {
        let mut known = BTreeMap::new();
        let mut told = |now: &[Arc<Instance>]| -> Vec<String> {
            let one = |change| match change {
                Change::Insert(addr, _) => format!("+{addr}"),
                Change::Remove(addr) => format!("-{addr}"),
            };
            differences(&mut known, now).into_iter().map(one).collect()
        };
        assert_eq!(told(&[at("a", 1), at("b", 1), at("not a host", 1)]), ["+a:80", "+b:80"]);
        assert_eq!(told(&[at("b", 1), at("::1", 2)]), ["-a:80", "-not a host:80", "+[::1]:80"]);
        assert_eq!(told(&[at("b", 3), at("::1", 2)]), ["+b:80"]);
        assert!(told(&[at("::1", 2), at("b", 3)]).is_empty());
        assert_eq!(told(&[]), ["-[::1]:80", "-b:80"]);
    }
}
