//! What has changed of a service's instances since a zxid. Each registration stands for itself here, as the view shows it: who
//! keeps a copy adds what came, removes what went, and has the list whose sign is given.

use serde::Serialize;
use utoipa::ToSchema;

use super::service_body::{ProviderBody, UnparsableBody, sign_text};
use super::service_view::{Entry, ServiceView};
use super::service_wanted::Wanted;
use crate::policy::{self, Kind};
use crate::registry::{Category, Layouts, List};
use crate::types::{Event, EventKind, ZnodePath, Zxid};

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ServiceDelta)]
pub(crate) struct DeltaBody<'a> {
    service: &'a str,
    /// The default one is empty.
    namespace: &'a str,
    /// What was asked for; null for a whole list.
    from: Option<u64>,
    /// The `since` of the next question.
    to: u64,
    /// Whether these are all instances, in place of those that one has.
    full: bool,
    /// Registrations that came or changed, by list and id.
    upsert: Vec<ProviderBody<'a>>,
    /// Znodes that came or changed and describe no instance.
    unparsable: Vec<UnparsableBody<'a>>,
    /// Paths of the registrations that went, described or not.
    remove: Vec<&'a str>,
    /// Zxid of the newest change of the lists of instances.
    revision: u64,
    /// Of the list that one has now: the wrapping sum, over all of `upsert` and `unparsable` that it holds, of
    /// XXH3-64(id, 0, incarnation, modified), the numbers as 8 bytes, the least significant first. 16 hex digits.
    sign: String,
}

/// Returns an entry of a list of instances as a delta has it: as an instance, or as what describes none.
pub(crate) fn entry_body<'a>(
    service: &ServiceView<'_>,
    entry: &Entry<'a>,
) -> Result<ProviderBody<'a>, UnparsableBody<'a>> {
    let (stat, health) = (entry.stat(), entry.health);
    match service.instance(entry) {
        Ok(instance) => Ok(ProviderBody::new(entry.path, &stat, health, instance)),
        Err(reason) => {
            let layout = entry.list.layout.name();
            Err(UnparsableBody::new(entry.path, &stat, health, layout, reason))
        }
    }
}

/// What happened that the lists do not show as they are now: the znodes, each with the transaction.
pub(crate) type Past = [(Zxid, ZnodePath)];

/// Returns whether an event is part of the [`Past`]: an entry of a wanted list went, or what says whose the instances are has
/// changed.
pub(crate) fn is_past(
    event: &Event,
    layouts: &Layouts,
    is_wanted: impl Fn(&List<'_>) -> bool,
) -> bool {
    let is_wanted = |path: &str| layouts.list_at(path).is_some_and(|list| is_wanted(&list));
    let has_gone = || event.path.parent_str().is_some_and(is_wanted);
    event.kind == EventKind::Deleted && has_gone() || tells_whose(&event.path, layouts)
}

/// Returns whether a znode says whose the instances are that lie somewhere: a policy that describes a layout, or a list of the
/// applications that offer an interface.
pub(crate) fn tells_whose(path: &ZnodePath, layouts: &Layouts) -> bool {
    describes_layout(path)
        || layouts.list_at(path.as_str()).is_some_and(|list| list.category == Category::Mapping)
}

/// Returns whether a znode is a policy that describes a layout.
pub(crate) fn describes_layout(path: &ZnodePath) -> bool {
    policy::at(path.as_str()).is_some_and(|(kind, _)| kind == Kind::Layout)
}

impl<'a> DeltaBody<'a> {
    /// Returns what is different at `to` from what it was at `since`; all there is without `since`, when it is not known what
    /// happened since, and when since then other instances may be those of the service. Cost: O(entries).
    pub(crate) fn new(
        service: &'a ServiceView<'a>,
        since: Option<Zxid>,
        past: Option<&'a Past>,
        to: Zxid,
    ) -> DeltaBody<'a> {
        let wanted = service.wanted();
        let is_between = |since: Zxid, zxid: Zxid| since < zxid && zxid <= to;
        let known = since.filter(|since| *since <= to).zip(past).filter(|(since, past)| {
            !past.iter().any(|(at, path)| is_between(*since, *at) && wanted.is_moved_by(path))
        });
        let (revision, sign) = service.state(true);
        let mut delta = DeltaBody {
            full: known.is_none(),
            revision: revision.0,
            sign: sign_text(sign),
            ..DeltaBody::nothing(wanted, since, to)
        };
        for entry in service.entries(Category::is_instances) {
            let modified = entry.stat().mzxid.max(entry.health.1);
            if known.is_some_and(|(since, _)| modified <= since) {
                continue;
            }
            match entry_body(service, &entry) {
                Ok(provider) => delta.upsert.push(provider),
                Err(unparsable) => delta.unparsable.push(unparsable),
            }
        }
        if let Some((since, past)) = known {
            let gone = past.iter().filter(|(at, path)| {
                let list = path.parent_str().and_then(|parent| service.list_at(parent));
                is_between(since, *at)
                    && list
                        .is_some_and(|list| wanted.has(&list) && list.layout.is_entry(path.name()))
                    && !service.exists(path)
            });
            delta.remove = gone.map(|(_, path)| path.as_str()).collect();
            delta.remove.sort_unstable();
            delta.remove.dedup();
        }
        delta
    }

    /// Returns the whole list of a service that does not exist.
    pub(crate) fn nothing(wanted: &'a Wanted, since: Option<Zxid>, to: Zxid) -> DeltaBody<'a> {
        DeltaBody {
            service: &wanted.service,
            namespace: &wanted.namespace,
            from: since.map(|since| since.0),
            to: to.0,
            full: true,
            upsert: Vec::new(),
            unparsable: Vec::new(),
            remove: Vec::new(),
            revision: 0,
            sign: sign_text(0),
        }
    }

    /// Returns whether it is the whole list.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Returns whether nothing has changed.
    pub(crate) fn is_empty(&self) -> bool {
        !self.full && self.upsert.is_empty() && self.unparsable.is_empty() && self.remove.is_empty()
    }
}
