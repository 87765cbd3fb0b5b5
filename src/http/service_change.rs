//! What one change says of an entry of a service, as a part of a delta.

use axum::body::Bytes;

use super::service_body::{ProviderBody, UnparsableBody};
use super::service_view::NOT_PERMITTED;
use super::snapshot::json;
use crate::registry::{self, Layouts};
use crate::tree::permits;
use crate::types::{AclId, Event, EventKind, Perms};
use crate::watch::Change;

/// Where in a delta an entry stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Upsert,
    Unparsable,
    Remove,
}

impl Part {
    /// Returns the name of the field.
    pub(super) fn name(self) -> &'static str {
        match self {
            Part::Upsert => "upsert",
            Part::Unparsable => "unparsable",
            Part::Remove => "remove",
        }
    }
}

/// Returns what a change says of one entry as JSON: made once for all readers, but for those who may not read it.
pub(super) fn text_of(
    change: &Change,
    at: usize,
    layouts: &Layouts,
    authority: &[AclId],
) -> (Part, Bytes) {
    let event = &change.events()[at];
    if event.kind != EventKind::Deleted && !permits(&event.acl, authority, Perms::READ) {
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
            json(&mut out, &ProviderBody::new(&event.path, &event.stat, instance));
        }
        Err(reason) => {
            out.push(b'x');
            out.extend_from_slice(&unparsable(event, layouts, reason));
        }
    }
    Bytes::from(out)
}

fn unparsable(event: &Event, layouts: &Layouts, reason: String) -> Bytes {
    let mut out = Vec::new();
    let layout = layouts.entry_at(&event.path).map_or("", |(list, _)| list.layout.name());
    json(&mut out, &UnparsableBody::new(&event.path, &event.stat, layout, reason));
    Bytes::from(out)
}
