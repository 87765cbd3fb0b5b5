//! The one place that knows how lists come from a registry: which stream is read and what its messages mean.

use std::collections::BTreeMap;

use super::instance::Instance;
use super::list::Said;
use crate::client::model::{ChangeKind, ServiceVersion, WatchEvent, WatchState, ZnodeChange};
use crate::client::{Client, Error, Watch, WatchFilter, WatchKind};
use crate::registry::{
    Finding, HEALTH, Health, Layout, Provider, health_notes, noted_at, providers_path,
};

/// The layout whose lists are followed.
const LAYOUT: &str = "roost";

/// The most services whose notes of health are asked for one by one: with more of them the request would grow too long, and all
/// notes are.
const SERVICES_NOTED_ONE_BY_ONE_MAX: usize = 256;

/// What a registry says of services.
#[derive(Debug)]
pub(super) enum Told {
    /// All lists at one zxid.
    Lists { zxid: u64, lists: Vec<(String, Vec<Instance>)> },
    /// What one transaction changed, by service.
    Changes { zxid: u64, services: Vec<(String, Said)> },
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
                    let services = changes_of(&self.services, change.changes);
                    return Ok(Told::Changes { zxid: change.zxid, services });
                }
                WatchEvent::Progress { .. } => return Ok(Told::UpTo),
                // The snapshot that follows says it all.
                WatchEvent::Reset(_) => {}
            }
        }
    }
}

/// Returns the service and the instance of which the znode at a path is the note.
fn noted<'a>(services: &'a BTreeMap<String, String>, path: &str) -> Option<(&'a String, String)> {
    let instance = noted_at(path)?;
    let service = services.get(instance.parent_str()?)?;
    Some((service, instance.name().to_owned()))
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
    let filter = |path: &str| WatchFilter { kind: WatchKind::ChildrenData, path: path.to_owned() };
    let mut filters: Vec<WatchFilter> = services.keys().map(|path| filter(path)).collect();
    if services.len() > SERVICES_NOTED_ONE_BY_ONE_MAX {
        filters.push(WatchFilter { kind: WatchKind::Subtree, path: HEALTH.to_owned() });
    } else {
        let notes = services.keys().filter_map(|path| health_notes(path).ok());
        filters.extend(notes.map(|notes| filter(notes.as_str())));
    }
    filters
}

fn lists_of(
    services: &BTreeMap<String, String>,
    watches: Vec<WatchState>,
) -> Vec<(String, Vec<Instance>)> {
    let mut lists = Vec::new();
    let mut findings: BTreeMap<(&String, String), (Finding, u64)> = BTreeMap::new();
    for znode in watches.iter().flat_map(|watch| &watch.znodes) {
        let finding = znode.payload.0.as_deref().and_then(Finding::read);
        if let Some((one, finding)) = noted(services, &znode.path).zip(finding) {
            let since = znode.stat.as_ref().map_or(0, |stat| stat.mzxid);
            findings.insert(one, (finding, since));
        }
    }
    for watch in &watches {
        let Some(service) = services.get(&watch.path) else { continue };
        let instances = watch.znodes.iter().filter_map(|znode| {
            let id = znode.path.rsplit('/').next()?;
            let (created, modified) =
                znode.stat.as_ref().map_or((0, 0), |stat| (stat.czxid, stat.mzxid));
            let mut instance = read(id, znode.payload.0.as_deref(), created, modified)?;
            if let Some((finding, since)) = findings.get(&(service, id.to_owned())) {
                instance.stand(*finding, *since);
            }
            Some(instance)
        });
        lists.push((service.clone(), instances.collect()));
    }
    lists
}

/// Returns what the changes of one transaction say of each service.
fn changes_of(
    services: &BTreeMap<String, String>,
    changes: Vec<ZnodeChange>,
) -> Vec<(String, Said)> {
    let mut found: BTreeMap<&String, (BTreeMap<String, Instance>, Said)> = BTreeMap::new();
    for change in changes {
        let (data, stat) = (change.payload.0.as_deref(), change.stat.as_ref());
        let (created, modified) = stat.map_or((0, 0), |stat| (stat.czxid, stat.mzxid));
        let is_gone = change.kind == ChangeKind::Deleted;
        if let Some((service, id)) = noted(services, &change.path) {
            // A note goes with its instance.
            let finding = data.and_then(Finding::read).filter(|_| !is_gone);
            let (_, said) = found.entry(service).or_default();
            said.findings.extend(finding.map(|finding| (id, finding, modified)));
            continue;
        }
        let Some((parent, id)) = change.path.rsplit_once('/') else { continue };
        let Some(service) = services.get(parent) else { continue };
        let (upserts, said) = found.entry(service).or_default();
        // A transaction may change the same instance several times: the last counts.
        upserts.remove(id);
        said.removes.retain(|removed| removed != id);
        let instance = if is_gone { None } else { read(id, data, created, modified) };
        match instance {
            Some(instance) => drop(upserts.insert(id.to_owned(), instance)),
            None => said.removes.push(id.to_owned()),
        }
    }
    let flat = found.into_iter().map(|(service, (upserts, said))| {
        (service.clone(), Said { upserts: upserts.into_values().collect(), ..said })
    });
    flat.collect()
}

/// Returns the instance that a znode's data describes; data that describes none is nobody to call.
fn read(id: &str, data: Option<&[u8]>, incarnation: u64, version: u64) -> Option<Instance> {
    let Provider { host, port, weight, metadata, status, .. } = Provider::from_data(data).ok()?;
    let (id, health) = (id.to_owned(), Health::Healthy);
    Some(Instance { id, host, port, weight, status, metadata, incarnation, version, health })
}

#[cfg(test)]
mod tests {
    use super::super::instance::sign;
    use super::*;
    use crate::client::model::{Payload, Stat, WatchedZnode};
    use crate::registry;

    const WEB: &str = "/services/web/providers";
    const NOTES: &str = "/roost/health/%2Fservices%2Fweb%2Fproviders";
    const PLACE: &str = r#"{"host":"h","port":1}"#;

    fn services() -> BTreeMap<String, String> {
        by_path(&["web".to_owned()])
    }

    fn stat(czxid: u64, mzxid: u64) -> Option<Stat> {
        Some(Stat { czxid, mzxid, ..Stat::default() })
    }

    fn payload(text: &str) -> Payload {
        Payload(Some(text.as_bytes().to_vec()))
    }

    fn state(path: &str, znodes: &[(&str, &str, u64, u64)]) -> WatchState {
        let znode = |(id, data, czxid, mzxid): &(&str, &str, u64, u64)| WatchedZnode {
            path: format!("{path}/{id}"),
            payload: payload(data),
            stat: stat(*czxid, *mzxid),
        };
        let znodes = znodes.iter().map(znode).collect();
        WatchState { kind: "children_data".to_owned(), path: path.to_owned(), exists: true, znodes }
    }

    #[test]
    fn a_list_has_what_is_noted_of_its_instances_and_the_sign_that_the_registry_has() {
        let notes = [
            ("a", r#"{"czxid":1,"unhealthy":true}"#, 7, 9),
            ("b", r#"{"czxid":1,"suspect":true}"#, 7, 8),
            ("c", "?", 7, 8),
        ];
        let list = [("a", PLACE, 1, 1), ("b", PLACE, 2, 3), ("c", PLACE, 4, 5)];
        let lists = lists_of(&services(), vec![state(NOTES, &notes), state(WEB, &list)]);
        let [(service, instances)] = &lists[..] else { panic!("{lists:?}") };
        let shown: Vec<_> =
            instances.iter().map(|it| (it.id.as_str(), it.health, it.version)).collect();
        let healthy = Health::Healthy;
        // The note of b is of an earlier registration.
        let expected = [("a", Health::Unhealthy, 9), ("b", healthy, 3), ("c", healthy, 5)];
        assert_eq!((service.as_str(), &shown[..]), ("web", &expected[..]));
        let signs = [("a", 1, 9), ("b", 2, 3), ("c", 4, 5)];
        let signs = signs.map(|(id, created, modified)| registry::sign(id, created, modified));
        assert_eq!(sign(instances), signs.into_iter().fold(0, u64::wrapping_add));
    }

    #[test]
    fn a_change_of_health_is_a_change_of_the_service() {
        let change = |kind, path: &str, data: &str| ZnodeChange {
            kind,
            path: path.to_owned(),
            payload: payload(data),
            stat: stat(7, 9),
        };
        let note = format!("{NOTES}/a");
        let suspect = r#"{"czxid":1,"suspect":true}"#;
        let told = changes_of(
            &services(),
            vec![
                change(ChangeKind::Created, NOTES, ""),
                change(ChangeKind::Created, &note, suspect),
                change(
                    ChangeKind::Created,
                    "/roost/health/%2Fservices%2Fapi%2Fproviders/a",
                    suspect,
                ),
            ],
        );
        let finding = Finding { czxid: 1, unhealthy: false, suspect: true };
        let findings = vec![("a".to_owned(), finding, 9)];
        assert_eq!(told, [("web".to_owned(), Said { findings, ..Said::default() })]);
        let gone = [
            change(ChangeKind::Deleted, &format!("{WEB}/a"), PLACE),
            change(ChangeKind::Deleted, &note, suspect),
        ];
        let removes = vec!["a".to_owned()];
        let expected = [("web".to_owned(), Said { removes, ..Said::default() })];
        assert_eq!(changes_of(&services(), gone.to_vec()), expected);
    }

    #[test]
    fn what_is_asked_for_does_not_grow_beyond_a_request() {
        let many = |count: usize| by_path(&(0..count).map(|n| format!("s{n}")).collect::<Vec<_>>());
        let few = filters(&many(2));
        let paths: Vec<&str> = few.iter().map(|filter| filter.path.as_str()).collect();
        assert_eq!(paths[..2], ["/services/s0/providers", "/services/s1/providers"]);
        assert_eq!(paths[2], "/roost/health/%2Fservices%2Fs0%2Fproviders");
        assert_eq!(filters(&many(256)).len(), 512);
        let all = filters(&many(257));
        assert_eq!((all.len(), all[257].to_string()), (258, format!("subtree:{HEALTH}")));
    }
}
