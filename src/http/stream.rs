use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::dto::{Encoding, StatBody, data_out};
use super::snapshot::{PIECE_BYTES, Sending, SnapshotText, TooSlow, json, piece, put};
use crate::limits::STREAM_SILENCE_MS_MAX;
use crate::node::{Delivery, ResetReason, Subscription};
use crate::tree::permits;
use crate::types::{AclId, Event, EventKind, Perms, Zxid};
use crate::watch::{Filter, Message, WatchKind};

/// How long a client that lost its stream should wait before it comes back, ms.
const RETRY_MS: u64 = 500;
/// Bytes in front of an encoded event: the length of the part without data.
const HEAD_LEN_BYTES: usize = 4;

/// Whose stream it is and what of the changes it sees.
#[derive(Clone)]
pub(crate) struct Viewer {
    pub(crate) filters: Vec<Filter>,
    pub(crate) authority: Arc<[AclId]>,
}

impl Viewer {
    /// Returns whether changes carry data: unless every watch is only about the list of children.
    fn with_data(&self) -> bool {
        self.filters.iter().any(|filter| filter.kind != WatchKind::Children)
    }

    /// Returns whether the viewer may hear of an event that its filters match: it may read the znode, and it
    /// watches that znode or what is above it, or the list in which it is, which it may read too. A list may
    /// have been closed to the viewer since it subscribed.
    fn sees(&self, event: &Event) -> bool {
        let may_read = |acl| permits(acl, &self.authority, Perms::READ);
        let (path, parent) = (event.path.as_str(), event.path.parent_str());
        may_read(&event.acl)
            && (may_read(&event.parent_acl)
                || self.filters.iter().any(|filter| match filter.kind {
                    WatchKind::Subtree => filter.path.contains(path),
                    _ => filter.path.as_str() == path || parent.is_none(),
                }))
    }

    /// Appends the JSON of those events of a change that the viewer may see. Returns whether there are any;
    /// if not, `out` is as before.
    pub(crate) fn write_change(&self, message: &Message, out: &mut Vec<u8>) -> bool {
        let begun = out.len();
        let with_data = self.with_data();
        put(out, format_args!("{{\"zxid\":{},\"changes\":[", message.change.zxid()));
        let mut any = false;
        for (index, event) in message.events() {
            if !self.sees(event) {
                continue;
            }
            if any {
                out.push(b',');
            }
            any = true;
            write_encoded(&message.change.encoded(index, |_, event| encode(event)), with_data, out);
        }
        out.extend_from_slice(b"]}");
        if !any {
            out.truncate(begun);
        }
        any
    }
}

/// The JSON of an event without its last brace and, for one that is not a deletion, without its data.
#[derive(Serialize)]
struct HeadBody<'a> {
    kind: &'static str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stat: Option<StatBody>,
}

#[derive(Serialize)]
struct TailBody<'a> {
    data: Option<std::borrow::Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<Encoding>,
}

/// Encodes an event once for all its readers: the length of the head, the head with its brace, and the tail
/// with data that replaces that brace for readers who want it.
fn encode(event: &Event) -> Bytes {
    let kind = match event.kind {
        EventKind::Created => "created",
        EventKind::Deleted => "deleted",
        EventKind::DataChanged => "changed",
    };
    let gone = event.kind == EventKind::Deleted;
    let stat = (!gone).then(|| StatBody::from(&event.stat));
    let mut out = vec![0; HEAD_LEN_BYTES];
    json(&mut out, &HeadBody { kind, path: event.path.as_str(), stat });
    let head_len = (out.len() - HEAD_LEN_BYTES) as u32;
    out[..HEAD_LEN_BYTES].copy_from_slice(&head_len.to_le_bytes());
    if !gone {
        let (data, encoding) = data_out(event.data.as_ref());
        let at = out.len();
        json(&mut out, &TailBody { data, encoding });
        out[at] = b',';
    }
    Bytes::from(out)
}

fn write_encoded(encoded: &[u8], with_data: bool, out: &mut Vec<u8>) {
    let Some((head_len, text)) = encoded.split_first_chunk::<HEAD_LEN_BYTES>() else { return };
    let (head, tail) = text.split_at(u32::from_le_bytes(*head_len) as usize);
    if with_data && !tail.is_empty() {
        out.extend_from_slice(&head[..head.len() - 1]);
        out.extend_from_slice(tail);
    } else {
        out.extend_from_slice(head);
    }
}

/// Returns the name of a reason in JSON.
pub(crate) fn reason_name(reason: ResetReason) -> &'static str {
    match reason {
        ResetReason::TooOld => "too_old",
        ResetReason::NotReached => "not_reached",
        ResetReason::Skipped => "skipped",
    }
}

/// The body of a watch stream. It asks for more only as fast as its client reads; what a slow client leaves
/// unread is bounded by its subscription.
pub(crate) struct Events {
    subscription: Subscription,
    stop: CancellationToken,
    viewer: Viewer,
    /// Taken from the subscription but not written yet.
    waiting: VecDeque<Message>,
    /// The client knows everything up to here once `waiting` is written.
    upto: Zxid,
    /// A snapshot that is being written, before anything else.
    snapshot: Option<Sending>,
    out: Vec<u8>,
}

impl Events {
    /// Returns the body of a stream of this subscription, which ends when `stop` is cancelled.
    pub(crate) fn body(
        subscription: Subscription,
        viewer: Viewer,
        stop: CancellationToken,
    ) -> Body {
        let mut out = Vec::new();
        put(&mut out, format_args!("retry: {RETRY_MS}\n\n"));
        let waiting = VecDeque::new();
        let events =
            Events { subscription, stop, viewer, waiting, upto: Zxid(0), snapshot: None, out };
        Body::from_stream(futures::stream::unfold(events, |mut events| async {
            let piece = events.next().await?;
            Some((Ok::<_, Infallible>(piece), events))
        }))
    }

    /// Returns the next piece, `None` at the end of the stream.
    async fn next(&mut self) -> Option<Bytes> {
        while self.out.is_empty() {
            if let Some(snapshot) = &mut self.snapshot {
                match snapshot.write(&mut self.out) {
                    Ok(true) => {}
                    Ok(false) => {
                        self.out.extend_from_slice(b"\n\n");
                        self.snapshot = None;
                    }
                    // Half an event counts for nothing: the client comes back and begins again.
                    Err(TooSlow) => return None,
                }
            } else if self.waiting.is_empty() {
                let wait = Duration::from_millis(STREAM_SILENCE_MS_MAX);
                let delivery = tokio::select! {
                    delivery = self.subscription.next(wait) => delivery?,
                    () = self.stop.cancelled() => return None,
                };
                self.take(delivery);
            } else {
                self.write_waiting();
            }
        }
        Some(piece(&mut self.out))
    }

    fn take(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Snapshot { tree, reset } => {
                let zxid = tree.zxid();
                let out = &mut self.out;
                if let Some(reason) = reset {
                    // Without an id: who loses the stream here must not resume behind a snapshot it never
                    // had.
                    let reason = reason_name(reason);
                    put(
                        out,
                        format_args!(
                            "event: reset\ndata: {{\"zxid\":{zxid},\"reason\":\"{reason}\"}}\n\n"
                        ),
                    );
                }
                put(out, format_args!("id: {zxid}\nevent: snapshot\ndata: "));
                let Viewer { filters, authority } = self.viewer.clone();
                self.snapshot = Some(Sending::new(SnapshotText::new(tree, filters, authority)));
            }
            Delivery::Messages { messages, upto, .. } => {
                self.waiting = messages.into();
                self.upto = upto;
                if self.waiting.is_empty() {
                    self.progress(upto);
                }
            }
            Delivery::Idle { upto } => self.progress(upto),
        }
    }

    fn progress(&mut self, upto: Zxid) {
        put(
            &mut self.out,
            format_args!("id: {upto}\nevent: progress\ndata: {{\"zxid\":{upto}}}\n\n"),
        );
    }

    /// Writes waiting changes up to the size of a piece.
    fn write_waiting(&mut self) {
        while self.out.len() < PIECE_BYTES {
            let Some(message) = self.waiting.pop_front() else { break };
            let begun = self.out.len();
            put(
                &mut self.out,
                format_args!("id: {}\nevent: change\ndata: ", message.change.zxid()),
            );
            if self.viewer.write_change(&message, &mut self.out) {
                self.out.extend_from_slice(b"\n\n");
            } else {
                self.out.truncate(begun);
            }
        }
        if self.out.is_empty() {
            // Nothing that this viewer may see: it still learns how far it has come.
            self.progress(self.upto);
        }
    }
}
