use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::seq::SliceRandom;
use tokio::time::Instant;

use crate::client::{Client, Error};

/// How often the members of the cluster are asked for.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);
/// How long asking for them may take.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(2);

/// One cluster: where it is, as far as is known. A clone is the same one.
#[derive(Clone, Debug)]
pub struct Registry {
    name: Arc<str>,
    seeds: Arc<[String]>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    client: Client,
    refresh_at: Instant,
}

impl Registry {
    /// Returns the cluster behind these seeds (`host:port` or `http://host:port`; one that answers is enough). Connects to
    /// nothing yet. `name` tells it from other registries, and its lists in a cache from theirs. Which seed is asked first
    /// is random, so that clients share the nodes among them. Error: no seed, or one that is no address.
    pub fn new(name: &str, seeds: &[String]) -> Result<Registry, Error> {
        let mut shuffled = seeds.to_vec();
        shuffled.shuffle(&mut rand::rng());
        let client = Client::new(shuffled)?.impatient();
        let state = State { client, refresh_at: Instant::now() };
        Ok(Registry {
            name: Arc::from(name),
            seeds: Arc::from(seeds.to_vec()),
            state: Arc::new(Mutex::new(state)),
        })
    }

    /// Returns the same cluster, of which only the services of a namespace are meant: what is registered with it is registered
    /// there, and lists are of services there. Its name has the namespace behind it, `name/ns/namespace`.
    pub fn in_namespace(&self, namespace: &str) -> Registry {
        let client = self.client().in_namespace(namespace);
        Registry {
            name: Arc::from(format!("{}/ns/{namespace}", self.name)),
            seeds: Arc::clone(&self.seeds),
            state: Arc::new(Mutex::new(State { client, refresh_at: Instant::now() })),
        }
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns a client of the servers that are known now, which tries each once and leaves waiting to the caller.
    pub fn client(&self) -> Client {
        self.state.lock().client.clone()
    }

    /// Asks the cluster who its members are and uses them from now on, the seeds after them. An answer that names nobody
    /// changes nothing.
    pub async fn refresh(&self) -> Result<(), Error> {
        let client = self.client();
        let cluster = client.with_timeout(REFRESH_TIMEOUT).cluster().await?;
        let mut servers: Vec<String> = cluster
            .members
            .iter()
            .map(|member| member.member.http_addr.clone())
            .filter(|addr| is_reachable(addr))
            .collect();
        if servers.is_empty() {
            return Ok(());
        }
        servers.shuffle(&mut rand::rng());
        servers.extend(self.seeds.iter().cloned());
        let changed = client.with_endpoints(servers)?;
        let mut state = self.state.lock();
        let mut before = state.client.endpoints().to_vec();
        let mut after = changed.endpoints().to_vec();
        before.sort();
        after.sort();
        if before != after {
            state.client = changed;
        }
        Ok(())
    }

    /// As [`refresh`](Registry::refresh), at most once a minute; a failure is nobody's matter.
    pub(super) async fn refresh_if_due(&self) {
        {
            let mut state = self.state.lock();
            if Instant::now() < state.refresh_at {
                return;
            }
            let jitter = rand::random_range(0..REFRESH_INTERVAL.as_millis() as u64 / 5);
            state.refresh_at = Instant::now() + REFRESH_INTERVAL - Duration::from_millis(jitter);
        }
        // Whoever uses the client meets the same failure, and says so.
        let _ = self.refresh().await;
    }
}

/// Returns whether an address is one that a client can connect to: a node may be configured to listen everywhere, which
/// is not a place.
fn is_reachable(addr: &str) -> bool {
    let Some((host, port)) = addr.rsplit_once(':') else { return false };
    let host = host.trim_matches(['[', ']']);
    let is_somewhere = host.parse::<IpAddr>().map_or(!host.is_empty(), |ip| !ip.is_unspecified());
    is_somewhere && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::is_reachable;

    #[test]
    fn an_address_that_means_everywhere_is_none() {
        for good in ["127.0.0.1:80", "[::1]:80", "node-1.example:8080"] {
            assert!(is_reachable(good), "{good}");
        }
        for bad in ["0.0.0.0:80", "[::]:80", "10.0.0.1:0", "", "host", ":80", "host:x"] {
            assert!(!is_reachable(bad), "{bad}");
        }
    }
}
