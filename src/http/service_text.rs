//! What the stream of services says of one entry: made once for all readers where it can be.

use axum::body::Bytes;

use super::service_body::{ProviderBody, UnparsableBody};
use super::service_delta::entry_body;
use super::service_view::{NOT_PERMITTED, ServiceView};
use super::service_wanted::Wanted;
use super::snapshot::json;
use crate::registry::{self, Category, Health, Layouts};
use crate::tree::{Tree, permits};
use crate::types::{AclId, Event, EventKind, Perms, ZnodePath, Zxid};
use crate::watch::Change;

/// That nothing is known of an instance but what it says.
const UNKNOWN: (Health, Zxid) = (Health::Healthy, Zxid(0));

/// What was said of an entry last, by the event of a change; `None` when only what is known of it has changed.
pub(crate) type Said<'a> = Option<(&'a Change, usize)>;

/// Where in a delta an entry stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Upsert,
    Unparsable,
    Remove,
}

impl Part {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Part::Upsert => "upsert",
            Part::Unparsable => "unparsable",
            Part::Remove => "remove",
        }
    }
}

/// A state that is at least as new as what is told, as a reader may see it.
pub(crate) struct State<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) wanted: &'a Wanted,
    pub(crate) authority: &'a [AclId],
}

/// Returns what is to be told of an entry, as JSON: what was said of it last, by the event of a change, or, where more is known
/// of it, rules change it, or only that has changed, what the state has.
pub(crate) fn text_of(
    path: &ZnodePath,
    said: Said<'_>,
    state: &State<'_>,
) -> Option<(Part, Bytes)> {
    let is_all = said.is_some_and(|(change, at)| {
        let event = &change.events()[at];
        let is_known = || state.tree.health(path, event.stat.czxid).1 > Zxid(0);
        event.kind == EventKind::Deleted || !(is_known() || is_governed(path, state.tree))
    });
    let known = || {
        let service = ServiceView::of(state.tree, state.authority, state.wanted.clone()).ok()?;
        let (part, text) = match entry_body(&service, &service.entry_at(path)?) {
            Ok(provider) => (Part::Upsert, json_of(&provider)),
            Err(unparsable) => (Part::Unparsable, json_of(&unparsable)),
        };
        Some((part, text))
    };
    let known = if is_all { None } else { known() };
    known.or_else(|| said.map(|(change, at)| said_by(change, at, state)))
}

/// Returns whether there are rules of Dubbo for the service of an entry.
fn is_governed(path: &ZnodePath, tree: &Tree) -> bool {
    let Some((list, _)) = tree.layouts().entry_at(path) else { return false };
    let is_rules = |path: &str| {
        let category = tree.layouts().list_at(path).map(|list| list.category);
        category == Some(Category::Configurator)
            && tree.services().list(path).is_some_and(|state| state.entries > 0)
    };
    list.layout.has_rules()
        && tree
            .services()
            .lists(list.namespace, &list.service)
            .iter()
            .any(|path| is_rules(path.as_str()))
}

fn json_of(body: &impl serde::Serialize) -> Bytes {
    let mut out = Vec::new();
    json(&mut out, body);
    Bytes::from(out)
}

/// Returns what a change says of one entry as JSON: made once for all readers, but for those who may not read it.
fn said_by(change: &Change, at: usize, state: &State<'_>) -> (Part, Bytes) {
    let layouts = state.tree.layouts();
    let event = &change.events()[at];
    if event.kind != EventKind::Deleted && !permits(&event.acl, state.authority, Perms::READ) {
        return (Part::Unparsable, unparsable(event, layouts, NOT_PERMITTED.to_owned()));
    }
    let text = change.told(at, |event| encode(event, layouts));
    let part = match text.first() {
        Some(b'u') => Part::Upsert,
        Some(b'x') => Part::Unparsable,
        _ => Part::Remove,
    };
    (part, text.slice(1..))
}

/// Encodes an event of an entry of a service: a letter for the part of the delta, and the JSON.
fn encode(event: &Event, layouts: &Layouts) -> Bytes {
    let mut out = Vec::new();
    if event.kind == EventKind::Deleted {
        out.push(b'r');
        json(&mut out, event.path.as_str());
        return Bytes::from(out);
    }
    let data = event.data.as_ref().map(|data| &data[..]);
    let read = layouts.entry_at(&event.path).ok_or_else(|| "it is no entry of a list".to_owned());
    match read.and_then(|(list, _)| registry::instance(&list, event.path.name(), data)) {
        Ok(instance) => {
            out.push(b'u');
            json(&mut out, &ProviderBody::new(&event.path, &event.stat, UNKNOWN, instance));
        }
        Err(reason) => {
            out.push(b'x');
            out.extend_from_slice(&unparsable(event, layouts, reason));
        }
    }
    Bytes::from(out)
}

fn unparsable(event: &Event, layouts: &Layouts, reason: String) -> Bytes {
    let layout = layouts.entry_at(&event.path).map_or("", |(list, _)| list.layout.name());
    json_of(&UnparsableBody::new(&event.path, &event.stat, UNKNOWN, layout, reason))
}
