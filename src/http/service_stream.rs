//! One stream for many services: each as it is, and from then on what changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use utoipa::ToSchema;

use super::Door;
use super::body::Json;
use super::error::Failed;
use super::extract::{Caller, LastEventId, Params};
use super::service_body::sign_text;
use super::service_delta::{DeltaBody, Past, describes_layout, is_past, tells_whose};
use super::service_text::{self, Part, Said, State as Known};
use super::service_view::{self, ServiceView};
use super::service_wanted::Wanted;
use super::snapshot::{json, piece, put};
use super::stream::reason_name;
use super::watch::{event_stream, turn};
use super::znodes::NoParams;
use crate::limits::{SNAPSHOT_SENT_MS_MAX, STREAM_SERVICES_MAX, STREAM_SILENCE_MS_MAX};
use crate::node::{Consistency, Delivery, Node, ResetReason, Subscription};
use crate::policy::{Kind, folder_of};
use crate::registry::{Layouts, List, noted_at};
use crate::tree::{Tree, permits};
use crate::types::{AclId, Code, Event, EventKind, Perms, ZnodePath, Zxid};
use crate::watch::{Filter, Message, WatchKind};

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = WatchServices)]
#[serde(deny_unknown_fields)]
pub(crate) struct WatchServicesBody {
    services: Vec<WatchedServiceBody>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = WatchedService)]
#[serde(deny_unknown_fields)]
pub(crate) struct WatchedServiceBody {
    name: String,
    /// The default one when left out.
    #[serde(default)]
    namespace: String,
    /// Begin with what changed after this zxid instead of with the whole list.
    since: Option<u64>,
}

/// Watches the instances of many services over one stream.
#[utoipa::path(post, path = "/v1/watch", tag = "services", request_body = WatchServicesBody,
    params(("Last-Event-ID" = Option<u64>, Header, description = "As every `since`, and before it")),
    responses((status = 200, description = "Events `snapshot`, `delta`, `reset`, `error` and `progress`",
        body = String, content_type = "text/event-stream")))]
pub(crate) async fn watch_services(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
    caller: Caller,
    LastEventId(seen): LastEventId,
    Json(asked): Json<WatchServicesBody>,
) -> Result<Response, Failed> {
    let count = asked.services.len();
    if count == 0 || count > STREAM_SERVICES_MAX {
        let why = format!("{count} services: there must be 1 to {STREAM_SERVICES_MAX}");
        return Err(Failed::bad_arguments(why));
    }
    let newest = asked.services.iter().filter_map(|one| seen.or(one.since)).max();
    if newest.is_some_and(|since| Zxid(since) > door.node().local().zxid()) {
        // The client has seen more than this node, or makes it up: it must not go back for what it has seen.
        door.node().read(Consistency::Linearizable, Zxid(0)).await?;
    }
    let tree = door.node().local();
    let mut services = Vec::with_capacity(count);
    let path = ZnodePath::parse(&folder_of(Kind::Layout))?;
    let mut filters = vec![Filter { path, kind: WatchKind::ChildrenData }];
    for WatchedServiceBody { name, namespace, since } in asked.services {
        let wanted = Wanted { namespace, service: name, ..Wanted::default() }.resolved(&tree);
        service_view::admit(&door, &caller, &tree, &wanted)?;
        service_view::admit_first(&door, &caller, &tree, &wanted)?;
        filters.extend(wanted.filters(&tree, &caller.authority)?);
        match ServiceView::of(&tree, &caller.authority, wanted.clone()) {
            Err(failed) if !failed.is(Code::NoNode) => return Err(failed),
            _ => services.push((wanted, seen.or(since).map(Zxid))),
        }
    }
    // What it missed of all of them is news. What is asked for without saying what was seen is not.
    let all_seen = services.iter().map(|(_, since)| *since).collect::<Option<Vec<Zxid>>>();
    let seen = all_seen.and_then(|all| all.into_iter().min());
    let subscription = door.node().subscribe_by_snapshot(filters, seen, turn(&caller))?;
    let stream = Stream {
        node: door.node().clone(),
        subscription,
        stop: door.stop().clone(),
        authority: Arc::from(caller.authority),
        services,
        layouts: tree.layouts().clone(),
        is_described: false,
        has_begun: false,
        unsent: None,
        out: Vec::new(),
        is_outgrown: false,
    };
    let pieces = futures::stream::unfold(stream, |mut stream| async {
        let piece = stream.next().await?;
        Some((Ok::<_, Infallible>(piece), stream))
    });
    Ok(event_stream(Body::from_stream(pieces)))
}

/// The body of a stream. It asks for more only as fast as its client reads.
struct Stream {
    node: Node,
    subscription: Subscription,
    stop: CancellationToken,
    authority: Arc<[AclId]>,
    /// What is watched, and, until it has been told of the first time, where the client stands.
    services: Vec<(Wanted, Option<Zxid>)>,
    /// Those by which it was found what of these services there is to hear.
    layouts: Layouts,
    /// It has told of an instance in a layout that a policy describes.
    is_described: bool,
    /// Until then it waits for its turn, and the client stands where it said.
    has_begun: bool,
    unsent: Option<Kept>,
    out: Vec<u8>,
    /// There is something to hear of now that it does not watch: its client comes back and is told from where it stands.
    is_outgrown: bool,
}

/// What is still to be said of a state, for as long as a client may take to read it ([`SNAPSHOT_SENT_MS_MAX`]): it keeps
/// the whole state in memory.
struct Kept {
    unsent: Arc<Mutex<Option<Unsent>>>,
    /// Whoever does not read does not ask for more either.
    _timer: AbortOnDropHandle<()>,
}

impl Kept {
    fn new(unsent: Unsent) -> Kept {
        let unsent = Arc::new(Mutex::new(Some(unsent)));
        let held = unsent.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(SNAPSHOT_SENT_MS_MAX)).await;
            drop(held.lock().take());
        });
        Kept { unsent, _timer: AbortOnDropHandle::new(timer) }
    }
}

/// Services that are told of from one state, one after the other, before anything else.
struct Unsent {
    tree: Arc<Tree>,
    services: VecDeque<usize>,
    /// What happened since the least of the zxids at which the client stands; `None` when that is not known.
    past: Option<Arc<Past>>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    service: &'a str,
    namespace: &'a str,
    code: &'static str,
}

impl Stream {
    /// Returns the next piece, `None` at the end of the stream.
    async fn next(&mut self) -> Option<Bytes> {
        while self.out.is_empty() {
            if self.is_outgrown {
                return None;
            }
            if let Some(kept) = self.unsent.take() {
                // One that is too slow comes back, and is told from where it stands.
                let unsent = kept.unsent.lock().take()?;
                if let Some(rest) = self.send(unsent) {
                    *kept.unsent.lock() = Some(rest);
                    self.unsent = Some(kept);
                }
                continue;
            }
            let wait = Duration::from_millis(STREAM_SILENCE_MS_MAX);
            let delivery = tokio::select! {
                delivery = self.subscription.next(wait) => delivery?,
                () = self.stop.cancelled() => return None,
            };
            match delivery {
                Delivery::Snapshot { tree, reset } => self.begin(tree, reset),
                Delivery::Messages { messages, upto, tree } => self.tell(&messages, upto, tree),
                Delivery::Idle { upto } if self.has_begun => self.progress(upto),
                // A sign of life that says nothing.
                Delivery::Idle { .. } => put(&mut self.out, format_args!(":\n\n")),
            }
        }
        Some(piece(&mut self.out))
    }

    fn progress(&mut self, upto: Zxid) {
        let text = format_args!("id: {upto}\nevent: progress\ndata: {{\"zxid\":{upto}}}\n\n");
        put(&mut self.out, text);
    }

    /// Begins, or begins again, from a state.
    fn begin(&mut self, tree: Arc<Tree>, reset: Option<ResetReason>) {
        let zxid = tree.zxid();
        let has_moved = |(wanted, _): &(Wanted, Option<Zxid>)| {
            wanted.clone().resolved(&tree).applications != wanted.applications
        };
        if self.services.iter().any(has_moved) || self.follow_layouts(&tree) {
            self.is_outgrown = true;
            return;
        }
        self.is_described |= self.services.iter().any(|(wanted, _)| wanted.is_described(&tree));
        self.has_begun = true;
        if reset.is_some() {
            self.services.iter_mut().for_each(|(_, since)| *since = None);
        }
        let oldest = self.services.iter().filter_map(|(_, since)| *since).min();
        let past = oldest.filter(|since| *since <= zxid).and_then(|since| {
            let is_instances = |list: &List<'_>| list.category.is_instances();
            let is_wanted = |event: &Event| is_past(event, tree.layouts(), is_instances);
            self.node.events_since(since, is_wanted).map(Arc::from)
        });
        let too_late = match oldest {
            Some(since) if since > zxid => Some(ResetReason::NotReached),
            Some(_) if past.is_none() => Some(ResetReason::TooOld),
            _ => None,
        };
        if let Some(reason) = reset.or(too_late).map(reason_name) {
            let text =
                format_args!("event: reset\ndata: {{\"zxid\":{zxid},\"reason\":\"{reason}\"}}\n\n");
            put(&mut self.out, text);
        }
        let services = (0..self.services.len()).collect();
        self.unsent = Some(Kept::new(Unsent { tree, services, past }));
    }

    /// Takes up the layouts of a state. Returns whether there may be more or less to hear of for that: some of the services have
    /// or had instances in a layout that a policy describes, and some such policy has changed.
    fn follow_layouts(&mut self, tree: &Tree) -> bool {
        if self.layouts == *tree.layouts() {
            return false;
        }
        self.layouts = tree.layouts().clone();
        self.is_described || self.services.iter().any(|(wanted, _)| wanted.is_described(tree))
    }

    /// Writes what there is to say of the next service. Returns what is left then.
    fn send(&mut self, mut unsent: Unsent) -> Option<Unsent> {
        let index = unsent.services.pop_front()?;
        let is_last = unsent.services.is_empty();
        let (wanted, since) = self.services.get_mut(index)?;
        let since = since.take();
        let zxid = unsent.tree.zxid();
        let begun = self.out.len();
        if is_last {
            // Whoever loses the stream before this must not resume behind what it never had.
            put(&mut self.out, format_args!("id: {zxid}\n"));
        }
        match ServiceView::followed(&unsent.tree, &self.authority, wanted.clone()) {
            Ok(service) => {
                let delta = DeltaBody::new(&service, since, unsent.past.as_deref(), zxid);
                if delta.is_empty() {
                    self.out.truncate(begun);
                } else {
                    let event = if delta.is_full() { "snapshot" } else { "delta" };
                    put(&mut self.out, format_args!("event: {event}\ndata: "));
                    json(&mut self.out, &delta);
                    self.out.extend_from_slice(b"\n\n");
                }
            }
            Err(failed) if failed.is(Code::NoNode) => {
                put(&mut self.out, format_args!("event: snapshot\ndata: "));
                json(&mut self.out, &DeltaBody::nothing(wanted, since, zxid));
                self.out.extend_from_slice(b"\n\n");
            }
            Err(_) => {
                put(&mut self.out, format_args!("event: error\ndata: "));
                let (service, namespace) = (wanted.service.as_str(), wanted.namespace.as_str());
                let code = Code::NoAuth.name();
                json(&mut self.out, &ErrorBody { service, namespace, code });
                self.out.extend_from_slice(b"\n\n");
            }
        }
        if is_last && self.out.len() == begun {
            self.progress(zxid);
        }
        (!is_last).then_some(unsent)
    }

    /// Writes what transactions changed: of each service one delta with the last word on each registration. The sign is
    /// given where the client has all of the state that it speaks of.
    fn tell(&mut self, messages: &[Message], upto: Zxid, tree: Option<Arc<Tree>>) {
        let present = tree.clone().unwrap_or_else(|| self.node.local());
        let layouts = present.layouts();
        let mut changed: BTreeMap<usize, BTreeMap<ZnodePath, Said<'_>>> = BTreeMap::new();
        for message in messages {
            for (at, event) in message.events() {
                if tells_whose(&event.path, layouts) {
                    if describes_layout(&event.path) && !self.follow_layouts(&present) {
                        continue;
                    }
                    self.is_outgrown = true;
                    return;
                }
                let noted = noted_at(event.path.as_str());
                if noted.is_some() && event.kind == EventKind::Deleted {
                    // It goes with its instance.
                    continue;
                }
                let path = noted.as_ref().unwrap_or(&event.path);
                let Some((list, _)) = layouts.entry_at(path) else { continue };
                self.is_described |= layouts.read_since(list.layout) > Zxid(0);
                if !permits(&event.parent_acl, &self.authority, Perms::READ) {
                    continue;
                }
                let concerned = self.services.iter().enumerate();
                for (index, _) in concerned.filter(|(_, (wanted, _))| wanted.has(&list)) {
                    let last = changed.entry(index).or_default();
                    let said = noted.is_none().then_some((&*message.change, at));
                    last.insert(path.clone(), said);
                }
            }
        }
        // What is known of instances beside what they say is in no event. A state that is newer than these may say it: what that
        // has more will be told again.
        let newest = tree.clone().unwrap_or_else(|| self.node.local());
        let mut left = changed.len();
        if left == 0 {
            // Nothing that this client may see or asked for: it still learns how far it has come.
            self.progress(upto);
        }
        for (index, entries) in changed {
            let Some((wanted, _)) = self.services.get(index) else { continue };
            left -= 1;
            if left == 0 {
                put(&mut self.out, format_args!("id: {upto}\n"));
            }
            let out = &mut self.out;
            put(out, format_args!("event: delta\ndata: {{\"service\":"));
            json(out, &wanted.service);
            put(out, format_args!(",\"namespace\":"));
            json(out, &wanted.namespace);
            put(out, format_args!(",\"to\":{upto}"));
            let known = Known { tree: &newest, wanted, authority: &self.authority };
            let texts: BTreeSet<(Part, Bytes)> = entries
                .into_iter()
                .filter_map(|(path, said)| service_text::text_of(&path, said, &known))
                .collect();
            for part in [Part::Upsert, Part::Unparsable, Part::Remove] {
                put(out, format_args!(",\"{}\":[", part.name()));
                let of_part = texts.iter().filter(|(of, _)| *of == part);
                for (n, (_, text)) in of_part.enumerate() {
                    if n > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(text);
                }
                out.push(b']');
            }
            let state = tree.as_ref().and_then(|tree| {
                match ServiceView::followed(tree, &self.authority, wanted.clone()) {
                    Ok(service) => Some(service.state(true)),
                    Err(failed) if failed.is(Code::NoNode) => Some((Zxid(0), 0)),
                    // A list that was closed meanwhile: there is nothing to compare with.
                    Err(_) => None,
                }
            });
            if let Some((revision, sign)) = state {
                let sign = sign_text(sign);
                put(out, format_args!(",\"revision\":{revision},\"sign\":\"{sign}\""));
            }
            out.extend_from_slice(b"}\n\n");
        }
    }
}
