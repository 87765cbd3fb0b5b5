//! The one place that knows how lists come from a registry: which streams are read and what their messages mean.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::instance::Entries;
use crate::client::model::{ServiceEvent, ServiceVersion, WatchedService};
use crate::client::{Client, Error, Refusal, ServiceWatch};
use crate::limits::STREAM_SERVICES_MAX;
use crate::registry::Layouts;

/// Services of one stream. Half of what it may have: a service may have lists whose places its name does not tell, which count
/// too, such as those of Motan's groups.
const SERVICES_PER_STREAM: usize = STREAM_SERVICES_MAX / 2;

/// What a registry says of a service.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Its whole list at one zxid.
    List { service: String, zxid: u64, entries: Entries },
    /// What changed up to a zxid: who came or changed, the paths of those that went, and the sign of the list that this
    /// makes, where the registry gave it.
    Changes {
        service: String,
        zxid: u64,
        entries: Entries,
        removes: Vec<String>,
        sign: Option<u64>,
    },
    /// It may not be read any more, and why.
    Refused { service: String, why: Error },
    /// Of none: everything up to now has been told.
    UpTo,
}

/// The lists of some services: one stream, or as many as it takes where a stream has not room for all.
#[derive(Debug)]
pub(super) struct Feed {
    parts: Vec<Part>,
    told: mpsc::Receiver<(usize, Result<Message, Error>)>,
    /// One task for each stream. They end with the feed.
    _readers: JoinSet<()>,
}

/// One of the streams.
#[derive(Debug)]
struct Part {
    services: Vec<WatchedService>,
    /// Everything up to this zxid has been told of all of its services.
    since: Option<u64>,
    has_spoken: bool,
}

#[derive(Debug)]
struct Message {
    event: ServiceEvent,
    since: Option<u64>,
}

impl Feed {
    /// Returns the lists of these services: of each that one stands at a zxid of what has changed since, else all of it.
    pub(super) fn open(
        client: &Client,
        services: &[String],
        standing: &BTreeMap<String, u64>,
    ) -> Feed {
        // A name that cannot be one is left out: nothing will ever be known of it, and the registry would refuse all.
        let layouts = Layouts::default();
        let named = services.iter().filter(|name| layouts.instance_lists("", name).is_ok());
        let watched: Vec<WatchedService> = named
            .map(|name| WatchedService { name: name.clone(), since: standing.get(name).copied() })
            .collect();
        let (sender, told) = mpsc::channel(1);
        let mut readers = JoinSet::new();
        let mut parts = Vec::new();
        for (index, services) in watched.chunks(SERVICES_PER_STREAM).enumerate() {
            readers.spawn(read(index, client.watch_services(services), sender.clone()));
            parts.push(Part { services: services.to_vec(), since: None, has_spoken: false });
        }
        Feed { parts, told, _readers: readers }
    }

    /// Returns where one stands with each service: what another feed begins behind.
    pub(super) fn standing(&self) -> BTreeMap<String, u64> {
        let of_part = |part: &Part| {
            let since = part.since;
            let at = move |one: &WatchedService| Some((one.name.clone(), since.or(one.since)?));
            part.services.iter().filter_map(at).collect::<Vec<_>>()
        };
        self.parts.iter().flat_map(of_part).collect()
    }

    /// Returns whether each stream has said something.
    pub(super) fn is_up(&self) -> bool {
        self.parts.iter().all(|part| part.has_spoken)
    }

    /// Returns what is told next. After an error it has ended. May be dropped at any await and called again.
    pub(super) async fn next(&mut self) -> Result<Told, Error> {
        loop {
            let Some((index, message)) = self.told.recv().await else {
                // There is no stream, since there is no service that could be.
                return std::future::pending().await;
            };
            let Message { event, since } = message?;
            let part = &mut self.parts[index];
            part.since = since;
            part.has_spoken = true;
            return Ok(match event {
                ServiceEvent::Snapshot(all) => {
                    let (service, zxid) = (all.service.clone(), all.to);
                    Told::List { service, zxid, entries: Entries::of(all).0 }
                }
                ServiceEvent::Delta(delta) => {
                    let (service, zxid) = (delta.service.clone(), delta.to);
                    let sign = delta.sign.as_deref().and_then(sign_of);
                    let (entries, removes) = Entries::of(delta);
                    Told::Changes { service, zxid, entries, removes, sign }
                }
                ServiceEvent::Refused(refusal) => {
                    // Where one stands with it says nothing any more: it will be told anew.
                    part.services.retain(|one| one.name != refusal.service);
                    let why = refused(refusal.code, "it may not be read any more");
                    Told::Refused { service: refusal.service, why }
                }
                ServiceEvent::Progress { .. } => Told::UpTo,
                // The lists that follow say it all.
                ServiceEvent::Reset(_) => continue,
            });
        }
    }
}

/// Hands on what a stream says, one event after the other, until it fails.
async fn read(
    index: usize,
    mut watch: ServiceWatch,
    told: mpsc::Sender<(usize, Result<Message, Error>)>,
) {
    loop {
        let event = watch.next().await;
        let has_failed = event.is_err();
        let message = event.map(|event| Message { event, since: watch.since() });
        if told.send((index, message)).await.is_err() || has_failed {
            return;
        }
    }
}

/// How it stands with the lists of some services at a registry.
pub(super) struct Versions {
    /// Of those that exist the zxid of the newest change of their lists, and their sign.
    pub(super) lists: BTreeMap<String, (u64, u64)>,
    /// Those that may not be followed, and why.
    pub(super) refused: BTreeMap<String, Error>,
    /// The state of which this is so.
    pub(super) zxid: u64,
}

/// Returns how it stands with the lists of these services.
pub(super) async fn versions(client: &Client, services: &[String]) -> Result<Versions, Error> {
    let told = client.versions(services).await?;
    let list = |(service, version): (String, ServiceVersion)| {
        sign_of(&version.sign).map(|sign| (service, (version.revision, sign)))
    };
    let refusal = |(service, why): (String, String)| (service, refused("no_auth".to_owned(), &why));
    Ok(Versions {
        lists: told.versions.into_iter().filter_map(list).collect(),
        refused: told.refused.into_iter().map(refusal).collect(),
        zxid: told.zxid,
    })
}

fn refused(code: String, message: &str) -> Error {
    Error::Refused(Refusal { status: 403, code, message: message.to_owned(), ..Refusal::default() })
}

fn sign_of(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}
