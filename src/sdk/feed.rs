//! The one place that knows how lists come from a registry: which stream is read and what its messages mean.

use std::collections::BTreeMap;

use super::instance::Instance;
use crate::client::model::{ChangeKind, ServiceVersion, WatchEvent, WatchState};
use crate::client::{Client, Error, Watch, WatchFilter, WatchKind};
use crate::registry::{Layout, Provider, providers_path};

/// The layout whose lists are followed.
const LAYOUT: &str = "roost";

/// Who of a service came or changed, and who went.
type Difference = (Vec<Instance>, Vec<String>);

/// What a registry says of services.
#[derive(Debug)]
pub(super) enum Told {
    /// All lists at one zxid.
    Lists { zxid: u64, lists: Vec<(String, Vec<Instance>)> },
    /// What one transaction changed: for each service who came or changed, and who went.
    Changes { zxid: u64, services: Vec<(String, Difference)> },
    /// Everything up to this zxid has been told.
    UpTo,
}

/// The lists of some services as one stream.
#[derive(Debug)]
pub(super) struct Feed {
    watch: Watch,
    /// The service of each znode whose children are providers.
    services: BTreeMap<String, String>,
}

impl Feed {
    /// Returns the stream of these services: first all lists, or with `since` the changes after it.
    pub(super) fn open(client: &Client, services: &[String], since: Option<u64>) -> Feed {
        let services = by_path(services);
        Feed { watch: client.watch(&filters(&services), since), services }
    }

    /// Returns from where another stream would have to go on.
    pub(super) fn since(&self) -> Option<u64> {
        self.watch.since()
    }

    /// Returns what is told next. May be dropped at any await and called again.
    pub(super) async fn next(&mut self) -> Result<Told, Error> {
        loop {
            match self.watch.next().await? {
                WatchEvent::Snapshot(snapshot) => {
                    let lists = lists_of(&self.services, snapshot.watches);
                    return Ok(Told::Lists { zxid: snapshot.zxid, lists });
                }
                WatchEvent::Change(change) => {
                    let services = self.changes(change.changes);
                    return Ok(Told::Changes { zxid: change.zxid, services });
                }
                WatchEvent::Progress { .. } => return Ok(Told::UpTo),
                // The snapshot that follows says it all.
                WatchEvent::Reset(_) => {}
            }
        }
    }

    fn changes(
        &self,
        changes: Vec<crate::client::model::ZnodeChange>,
    ) -> Vec<(String, Difference)> {
        let mut found: BTreeMap<&String, (BTreeMap<String, Instance>, Vec<String>)> =
            BTreeMap::new();
        for change in changes {
            let Some((parent, id)) = change.path.rsplit_once('/') else { continue };
            let Some(service) = self.services.get(parent) else { continue };
            let (upserts, removes) = found.entry(service).or_default();
            // A transaction may change the same instance several times: the last counts.
            upserts.remove(id);
            removes.retain(|removed| removed != id);
            let instance = match change.kind {
                ChangeKind::Deleted => None,
                ChangeKind::Created | ChangeKind::Changed => {
                    let (created, modified) =
                        change.stat.as_ref().map_or((0, 0), |stat| (stat.czxid, stat.mzxid));
                    read(id, change.payload.0.as_deref(), created, modified)
                }
            };
            match instance {
                Some(instance) => drop(upserts.insert(id.to_owned(), instance)),
                None => removes.push(id.to_owned()),
            }
        }
        let flat = found.into_iter().map(|(service, (upserts, removes))| {
            (service.clone(), (upserts.into_values().collect(), removes))
        });
        flat.collect()
    }
}

/// Returns the signs of the lists of those of these services that have one.
pub(super) async fn signs(
    client: &Client,
    services: &[String],
) -> Result<BTreeMap<String, u64>, Error> {
    let told = client.versions(services, LAYOUT).await?;
    let sign = |(service, version): (String, ServiceVersion)| {
        u64::from_str_radix(&version.sign, 16).ok().map(|sign| (service, sign))
    };
    Ok(told.versions.into_iter().filter_map(sign).collect())
}

/// Returns all lists of these services at one zxid, asked for apart from the stream.
pub(super) async fn lists(
    client: &Client,
    services: &[String],
) -> Result<(u64, Vec<(String, Vec<Instance>)>), Error> {
    let services = by_path(services);
    let snapshot = client.snapshot(&filters(&services)).await?;
    Ok((snapshot.zxid, lists_of(&services, snapshot.watches)))
}

/// Returns the services by the znodes whose children are their providers. A name that cannot be one is left out: nothing
/// will ever be known of it.
fn by_path(services: &[String]) -> BTreeMap<String, String> {
    let named = services.iter().filter_map(|service| {
        Some((providers_path(service).ok()?.as_str().to_owned(), service.clone()))
    });
    named.collect()
}

fn filters(services: &BTreeMap<String, String>) -> Vec<WatchFilter> {
    let filter = |path: &String| WatchFilter { kind: WatchKind::ChildrenData, path: path.clone() };
    services.keys().map(filter).collect()
}

fn lists_of(
    services: &BTreeMap<String, String>,
    watches: Vec<WatchState>,
) -> Vec<(String, Vec<Instance>)> {
    let mut lists = Vec::new();
    for watch in watches {
        let Some(service) = services.get(&watch.path) else { continue };
        let instances = watch.znodes.into_iter().filter_map(|znode| {
            let id = znode.path.rsplit('/').next()?;
            let (created, modified) =
                znode.stat.as_ref().map_or((0, 0), |stat| (stat.czxid, stat.mzxid));
            read(id, znode.payload.0.as_deref(), created, modified)
        });
        lists.push((service.clone(), instances.collect()));
    }
    lists
}

/// Returns the instance that a znode's data describes; data that describes none is nobody to call.
fn read(id: &str, data: Option<&[u8]>, incarnation: u64, version: u64) -> Option<Instance> {
    let Provider { host, port, weight, metadata, status, .. } = Provider::from_data(data).ok()?;
    Some(Instance { id: id.to_owned(), host, port, weight, status, metadata, incarnation, version })
}
