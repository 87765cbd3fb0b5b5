//! Clusters of real processes that faults happen to.
//!
//! A [`System`] says how a node of some registry is started and how a cluster of them begins; a [`Cluster`] runs so
//! many of them on this machine, with the proxies of `net` in front of every node, for the other nodes and for the
//! clients of each site. Processes are killed and paused by their own pid, and die with the cluster.
//!
//! What it deliberately lacks: knowledge of what a registry promises, and of schedules.

mod ap;
mod etcd;
mod place;
mod process;
mod roost;
mod zookeeper;

pub use ap::ApRegistry;
pub use etcd::Etcd;
pub use place::{Place, Surroundings};
pub use process::Process;
pub use roost::Roost;
pub use zookeeper::ZooKeeper;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::door::Door;
use crate::net::{Links, Ports, Proxy, Source};
use crate::workload::Workload;

/// How long a cluster may take to begin to serve, ms: a debug build on a busy machine is slow.
const BEGIN_MS_MAX: u64 = 60_000;
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Where the proxies of nodes are that know each other by name: there they can have the nodes' own ports.
const NAMED_PROXIES: &str = "127.0.0.2";
/// Ports of a node.
const PORTS: u8 = 4;

/// One kind of registry.
pub trait System: Send + Sync {
    /// Returns its name in reports.
    fn name(&self) -> String;

    /// Returns whether nodes reach each other at the port for clients.
    fn has_one_port(&self) -> bool;

    /// Returns whether nodes know each other by names, which are in [`Place::named`].
    fn is_reached_by_name(&self) -> bool {
        false
    }

    /// Returns whether roost's HTTP API has another port than clients use.
    fn has_api_apart(&self) -> bool {
        false
    }

    /// Returns whether it has what a workload needs.
    fn runs(&self, workload: Workload) -> bool;

    /// Returns the names of verdicts that it does not promise, see [`judge`](crate::judge).
    fn unpromised(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns a client of the node at an address of it.
    fn door(&self, node: u8, addr: &str) -> Result<Arc<dyn Door>, String>;

    /// Returns whether a node whose disk was emptied comes back by being started.
    fn survives_wipe(&self) -> bool;

    /// Returns the command that runs a node in its directory, which exists.
    fn command(&self, place: &Place) -> Result<Command, String>;

    /// Makes a cluster of nodes that were just started for the first time.
    fn begin<'a>(&'a self, places: &'a [Place]) -> BoxFuture<'a, Result<(), String>>;

    /// Returns the term in which a node leads, as it says itself; `None` if it does not, and of a system without leader.
    fn leads<'a>(&'a self, _: &'a Place) -> BoxFuture<'a, Option<u64>> {
        async { None }.boxed()
    }

    /// Returns the zxid and the digest of the state of each node that answers; `None` if it has no such thing.
    fn digests<'a>(&'a self, _: &'a [Place]) -> BoxFuture<'a, Option<Vec<(u64, String)>>> {
        async { None }.boxed()
    }

    /// Returns the directory, below the node's own, that holds all that a node must not forget.
    fn data_dir(&self, place: &Place) -> PathBuf {
        place.dir.join("data")
    }

    /// Returns the file that a node appends its writes to, if damage to it must be noticed.
    fn store_file(&self, _place: &Place) -> Option<PathBuf> {
        None
    }

    /// Returns whether its nodes listen at [`Place::host`], wherever that is.
    fn can_live_elsewhere(&self) -> bool {
        false
    }

    /// Returns whether members can be removed and added while it runs, with the calls of roost's HTTP API.
    fn has_members(&self) -> bool {
        false
    }
}

/// A running cluster.
pub struct Cluster {
    system: Arc<dyn System>,
    places: Vec<Place>,
    processes: BTreeMap<u8, Process>,
    pids: Arc<Mutex<BTreeMap<u8, u32>>>,
    surroundings: BTreeMap<u8, Surroundings>,
    links: Links,
    /// In front of each node, for the other nodes.
    _between: Vec<Proxy>,
    /// By site and node.
    doors: BTreeMap<(u8, u8), Proxy>,
    _ports: Ports,
}

impl Cluster {
    /// Starts a new cluster below a directory and returns when all of its nodes serve, each in these surroundings, and
    /// connected by these links.
    pub async fn start(
        system: Arc<dyn System>,
        nodes: u8,
        dir: &Path,
        surroundings: BTreeMap<u8, Surroundings>,
        links: Links,
    ) -> Result<Cluster, String> {
        let ports = Ports::reserve()?;
        let pids: Arc<Mutex<BTreeMap<u8, u32>>> = Arc::default();
        let failed = |err: std::io::Error| format!("cannot start a proxy: {err}");
        let (mut between, mut doors, mut places) = (Vec::new(), BTreeMap::new(), Vec::new());
        let mut named = Vec::new();
        for node in 1..=nodes {
            let first = PORTS * (node - 1);
            let [client, peer, election, apart] =
                [0, 1, 2, 3].map(|offset| ports.get(first + offset));
            let api = if system.has_api_apart() { apart } else { client };
            let elsewhere = surroundings.get(&node).and_then(|around| around.host);
            let host = elsewhere.unwrap_or(Ipv4Addr::LOCALHOST);
            let at = |port: u16| SocketAddr::from((host, port));
            let source = Source::Nodes(Arc::clone(&pids));
            if system.is_reached_by_name() {
                for port in [peer, election] {
                    let named = format!("{NAMED_PROXIES}:{port}");
                    let proxy = Proxy::start_at(&named, &links, source.clone(), node, at(port));
                    between.push(proxy.await.map_err(failed)?);
                }
                named.push((node, peer, election));
            }
            let port = if system.has_one_port() { client } else { peer };
            let mut peer_addr = at(port).to_string();
            if elsewhere.is_none() {
                let proxy = Proxy::start(&links, source, node, at(port)).await.map_err(failed)?;
                peer_addr = proxy.addr().to_string();
                between.push(proxy);
            }
            for site in 1..=nodes {
                let proxy = Proxy::start(&links, Source::Site(site), node, at(client));
                doors.insert((site, node), proxy.await.map_err(failed)?);
            }
            let below = Place::below(dir, node);
            let place = Place { host, client, http: api, peer, peer_addr, ..below };
            let failed = |err| format!("{}: {err}", place.dir.display());
            std::fs::create_dir_all(&place.dir).map_err(failed)?;
            places.push(place);
        }
        let addrs: BTreeMap<u8, String> =
            places.iter().map(|place| (place.node, place.peer_addr.clone())).collect();
        for place in &mut places {
            place.others = addrs.clone();
            place.others.remove(&place.node);
            place.named.clone_from(&named);
        }
        let processes = BTreeMap::new();
        let (_between, _ports) = (between, ports);
        let mut cluster = Cluster {
            system,
            places,
            processes,
            pids,
            surroundings,
            links,
            _between,
            doors,
            _ports,
        };
        (1..=nodes).try_for_each(|node| cluster.start_node(node))?;
        cluster.system.begin(&cluster.places).await?;
        Ok(cluster)
    }

    /// Returns the state of the network.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Returns how many nodes there are.
    pub fn nodes(&self) -> u8 {
        u8::try_from(self.places.len()).unwrap_or(u8::MAX)
    }

    /// Returns where the nodes are.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Returns the system that runs.
    pub fn system(&self) -> &Arc<dyn System> {
        &self.system
    }

    /// Returns where clients of a site reach a node.
    ///
    /// # Panics
    /// When there is no such site or node.
    pub fn door(&self, site: u8, node: u8) -> String {
        self.doors[&(site, node)].addr().to_string()
    }

    /// Returns clients that reach the nodes past all faults of the network.
    pub fn observers(&self) -> Result<Vec<Arc<dyn Door>>, String> {
        let addr = |place: &Place| format!("{}:{}", place.host, place.client);
        let doors = self.places.iter().map(|place| self.system.door(place.node, &addr(place)));
        doors.collect()
    }

    /// Returns who leads, 1 if nobody says so.
    pub async fn leader(&self) -> u8 {
        let mut newest: Option<(u64, u8)> = None;
        for place in &self.places {
            // Of two that both say so, the one of the later term does lead.
            newest = newest.max(self.system.leads(place).await.map(|term| (term, place.node)));
        }
        newest.map_or(1, |(_, node)| node)
    }

    /// Returns where a node is. Error: there is no such node.
    pub fn place(&self, node: u8) -> Result<&Place, String> {
        let place = self.places.iter().find(|place| place.node == node);
        place.ok_or_else(|| format!("there is no node {node}"))
    }

    /// Starts a node that does not run, with whatever is in its directory.
    pub fn start_node(&mut self, node: u8) -> Result<(), String> {
        let place = self.place(node)?;
        let command = self.system.command(place)?;
        let command = match self.surroundings.get(&node) {
            Some(surroundings) => surroundings.around(command),
            None => command,
        };
        let process = Process::spawn(command, &place.dir.join("log"))?;
        self.pids.lock().unwrap_or_else(PoisonError::into_inner).insert(node, process.pid());
        self.processes.insert(node, process);
        Ok(())
    }

    /// Kills a node, if it runs.
    pub fn kill(&mut self, node: u8) {
        self.processes.remove(&node);
    }

    /// Returns the process of a node that was started and not killed; it may have ended by itself.
    pub fn pid(&self, node: u8) -> Option<u32> {
        self.processes.get(&node).map(Process::pid)
    }

    /// Empties the directory of a node that does not run, but for its log.
    pub fn wipe(&mut self, node: u8) -> Result<(), String> {
        let dir = self.place(node)?.dir.clone();
        let failed = |err: std::io::Error| format!("{}: {err}", dir.display());
        for entry in std::fs::read_dir(&dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if !path.is_dir() {
                continue;
            }
            // The directory itself may be a file system of its own.
            for entry in std::fs::read_dir(&path).map_err(failed)? {
                let path = entry.map_err(failed)?.path();
                let removed = match path.is_dir() {
                    true => std::fs::remove_dir_all(path),
                    false => std::fs::remove_file(path),
                };
                removed.map_err(failed)?;
            }
            // Or a power cut a moment later brings all of it back.
            std::fs::File::open(&path).and_then(|dir| dir.sync_all()).map_err(failed)?;
        }
        Ok(())
    }

    /// Makes a node that does not run a stranger: its directory is empty, and it has an id that nobody had before.
    pub fn renew(&mut self, node: u8) -> Result<(), String> {
        self.wipe(node)?;
        let id = self.places.iter().map(|place| place.id).max().unwrap_or(0) + 1;
        let place = self.places.iter_mut().find(|place| place.node == node);
        place.ok_or_else(|| format!("there is no node {node}"))?.id = id;
        Ok(())
    }

    /// Stops a node's process where it is, or lets it go on.
    pub fn pause(&self, node: u8, is_paused: bool) {
        if let Some(process) = self.processes.get(&node) {
            process.pause(is_paused);
        }
    }

    /// Returns the nodes whose processes have ended by themselves, with the end of what they said.
    pub fn ended(&mut self) -> Vec<(u8, String)> {
        let processes = self.processes.iter_mut();
        processes.filter_map(|(node, process)| Some((*node, process.ended()?))).collect()
    }
}

/// Asks until the answer is yes.
async fn eventually<F: Future<Output = bool>>(
    what: &str,
    mut probe: impl FnMut() -> F,
) -> Result<(), String> {
    let clock = Clock::start();
    while !probe().await {
        if clock.now_ms() > BEGIN_MS_MAX {
            return Err(format!("this did not come about within {BEGIN_MS_MAX} ms: {what}"));
        }
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// Waits until a node serves that speaks roost's HTTP API.
async fn until_ready(place: &Place) -> Result<(), String> {
    let client = place.observer()?;
    let probe = || {
        let client = client.clone();
        async move { client.ready().await.is_ok() }
    };
    eventually(&format!("node {} is ready", place.node), probe).await
}
