use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Door;
use super::answer;
use super::error::Failed;
use super::extract::{Caller, IfNoneMatch, Params, Segments};
use super::read::{self, Freshness};
use super::service_body::{ConflictBody, ServiceBody, service_body, sign_text};
use super::service_delta::{DeltaBody, is_past};
use super::service_view::{self, ServiceView};
use super::service_wanted::{self, Wanted};
use crate::limits::ENTRIES_EXAMINED_MAX;
use crate::registry::List;
use crate::types::{Event, Zxid};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServicesParams {
    /// The default one when left out; may be left out where the URL names it.
    #[serde(default)]
    pub(super) namespace: String,
    /// Only services whose names begin so.
    #[serde(default)]
    prefix: String,
    /// Only services with instances of this group.
    group: Option<String>,
    /// Only services with instances of this layout (`roost`, `dubbo`, `curator`, `motan`, `kratos`, `serverset`, the name of a
    /// policy of the kind `layout`) or framework (`spring`, `dubbo_application`).
    layout: Option<String>,
    /// Only services with instances that have this label, `key=value`.
    label: Option<String>,
    /// Most items in the answer; 10000 when left out, which is also the most that it may be.
    limit: Option<usize>,
    /// Begin after this one: the `next` of the page before.
    #[serde(default)]
    after: String,
    /// How fresh the state must be; `linearizable` when left out.
    #[param(inline)]
    consistency: Option<Freshness>,
    /// Oldest state that may answer.
    min_zxid: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Services)]
pub(crate) struct ServicesBody<'a> {
    /// Sorted by name.
    services: Vec<ServiceSummaryBody<'a>>,
    /// The `after` of the next page, when there may be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
    zxid: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ServiceSummary)]
pub(crate) struct ServiceSummaryBody<'a> {
    name: &'a str,
    /// How many registrations of instances it has; those that the caller may not list are not counted.
    providers: usize,
    /// How many consumers it has; those that the caller may not list are not counted.
    consumers: usize,
    /// The layouts that they are in.
    layouts: BTreeSet<&'a str>,
}

/// Lists the services, whatever layout they are in.
#[utoipa::path(get, path = "/v1/services", tag = "services", params(ServicesParams),
    responses((status = 200, description = "One page of the services", body = ServicesBody)))]
pub(crate) async fn list_services(
    State(door): State<Door>,
    Params(params): Params<ServicesParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    list(&door, &caller, params).await
}

/// Lists the services of a namespace.
pub(super) async fn list(
    door: &Door,
    caller: &Caller,
    params: ServicesParams,
) -> Result<Response, Failed> {
    let limit = read::page_limit(params.limit)?;
    let wanted = Wanted {
        namespace: params.namespace,
        service: String::new(),
        layout: params.layout,
        group: params.group,
        label: params.label.as_deref().map(service_wanted::label).transpose()?,
        ..Wanted::default()
    };
    let view = read::view(door, params.consistency, params.min_zxid).await?;
    wanted.check_layout(&view.tree)?;
    let (tree, zxid) = (&view.tree, view.tree.zxid());
    let is_chosen = wanted.layout.is_some() || wanted.group.is_some() || wanted.label.is_some();
    let named = tree.services().named(&wanted.namespace, &params.prefix, &params.after);
    let is_shown = |lists| service_view::is_shown(tree, &caller.authority, lists);
    let is_one = |lists| service_view::is_service(tree, lists) && is_shown(lists);
    let mut all = named.filter(|(_, lists)| is_one(*lists)).peekable();
    let (mut services, mut examined, mut last) = (Vec::new(), 0, None);
    while services.len() < limit && examined < ENTRIES_EXAMINED_MAX {
        let Some((name, _)) = all.next() else { break };
        last = Some(name);
        let (namespace, service) = (wanted.namespace.clone(), name.to_owned());
        let whole = Wanted { namespace, service, ..Wanted::default() };
        let (providers, consumers, layouts) = service_view::counts(tree, &caller.authority, &whole);
        if is_chosen {
            examined += 1 + providers;
            let one = Wanted { service: name.to_owned(), ..wanted.clone() };
            if service_view::admit(door, caller, tree, &one).is_err() {
                continue;
            }
            let found = ServiceView::of(tree, &caller.authority, one);
            if !found.is_ok_and(|service| !service.instances().all.is_empty()) {
                continue;
            }
        }
        services.push(ServiceSummaryBody { name, providers, consumers, layouts });
    }
    let next = last.filter(|_| all.peek().is_some());
    let body = ServicesBody { services, next, zxid: zxid.0 };
    Ok(read::aged(&view, answer::json_at(StatusCode::OK, zxid, &body)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceParams {
    /// The default one when left out; may be left out where the URL names it.
    #[serde(default)]
    pub(super) namespace: String,
    /// Only instances of this group.
    group: Option<String>,
    /// Only instances of this layout or framework.
    layout: Option<String>,
    /// Only instances that have this label, `key=value`.
    label: Option<String>,
    /// Only instances whose probes do not fail; all if those of all do. Not with `since`.
    #[serde(default)]
    healthy_only: bool,
    /// Only what has changed after this zxid.
    since: Option<u64>,
    /// How fresh the state must be; `linearizable` when left out.
    #[param(inline)]
    consistency: Option<Freshness>,
    /// Oldest state that may answer.
    min_zxid: Option<u64>,
}

/// A service, or what has changed of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ServiceAnswer)]
#[serde(untagged)]
pub(crate) enum ServiceAnswerBody<'a> {
    Service(ServiceBody<'a>),
    Delta(DeltaBody<'a>),
}

/// Shows a service with its providers and consumers, whatever layouts they are in.
#[utoipa::path(get, path = "/v1/services/{name}", tag = "services",
    params(("name" = String, Path, description = "The service's name"), ServiceParams,
        ("If-None-Match" = Option<String>, Header, description = "The ETag of an answer that one has")),
    responses((status = 200, description = "The service, or with `since` what has changed of its instances",
            body = ServiceAnswerBody),
        (status = 304, description = "It is as it was when it had that ETag")))]
pub(crate) async fn get_service(
    State(door): State<Door>,
    Segments(name): Segments<String>,
    Params(params): Params<ServiceParams>,
    IfNoneMatch(known): IfNoneMatch,
    caller: Caller,
) -> Result<Response, Failed> {
    show(&door, &caller, name, params, known.as_deref()).await
}

/// Shows a service of a namespace to somebody who has the list with this entity tag.
pub(super) async fn show(
    door: &Door,
    caller: &Caller,
    name: String,
    params: ServiceParams,
    known: Option<&str>,
) -> Result<Response, Failed> {
    if params.healthy_only && params.since.is_some() {
        let why =
            "healthy_only is for whole lists: who keeps a copy by since has the health of each";
        return Err(Failed::bad_arguments(why));
    }
    let wanted = Wanted {
        namespace: params.namespace,
        service: name,
        layout: params.layout,
        group: params.group,
        label: params.label.as_deref().map(service_wanted::label).transpose()?,
        ..Wanted::default()
    };
    let view = read::view(door, params.consistency, params.min_zxid).await?;
    wanted.check_layout(&view.tree)?;
    service_view::admit(door, caller, &view.tree, &wanted)?;
    let service = ServiceView::of(&view.tree, &caller.authority, wanted)?;
    let zxid = view.tree.zxid();
    // Consumers and rules are no part of what is asked for with `since`.
    let tag = tag(service.state(params.since.is_some()));
    let since = params.since.map(Zxid);
    let past = since.filter(|since| *since <= zxid && known != Some(tag.as_str()));
    let has = |list: &List<'_>| service.wanted().has(list);
    let is_wanted = |event: &Event| is_past(event, view.tree.layouts(), has);
    let past = past.and_then(|since| door.node().events_since(since, is_wanted));
    let body = match since {
        _ if known == Some(tag.as_str()) => None,
        None => {
            let body = service_body(&service, params.healthy_only, zxid.0);
            Some(ServiceAnswerBody::Service(body))
        }
        Some(_) => {
            let delta = DeltaBody::new(&service, since, past.as_deref(), zxid);
            (!delta.is_empty()).then_some(ServiceAnswerBody::Delta(delta))
        }
    };
    let mut response = match &body {
        Some(body) => answer::json_at(StatusCode::OK, zxid, body),
        None => answer::empty_at(StatusCode::NOT_MODIFIED, zxid),
    };
    let tag = HeaderValue::from_str(&tag).expect("digits and quotes are a header value");
    response.headers_mut().insert(header::ETAG, tag);
    Ok(read::aged(&view, response))
}

/// Returns the entity tag of lists in this state.
pub(crate) fn tag((revision, sign): (Zxid, u64)) -> String {
    format!("\"{revision}-{}\"", sign_text(sign))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConflictsParams {
    /// Only of this service.
    service: Option<String>,
    /// The default one when left out.
    #[serde(default)]
    namespace: String,
    /// Begin after this service: the `next` of the page before.
    #[serde(default)]
    after: String,
    /// How fresh the state must be; `linearizable` when left out.
    #[param(inline)]
    consistency: Option<Freshness>,
    /// Oldest state that may answer.
    min_zxid: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Conflicts)]
pub(crate) struct ConflictsBody<'a> {
    /// By service.
    conflicts: Vec<ConflictOfBody<'a>>,
    /// The `after` of the next page, when there may be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
    zxid: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ConflictOf)]
pub(crate) struct ConflictOfBody<'a> {
    service: &'a str,
    #[serde(flatten)]
    conflict: ConflictBody<'a>,
}

/// Lists addresses that several sessions have registered: who has lost them, and to whom.
#[utoipa::path(get, path = "/v1/conflicts", tag = "services", params(ConflictsParams),
    responses((status = 200, description = "One page of them", body = ConflictsBody)))]
pub(crate) async fn list_conflicts(
    State(door): State<Door>,
    Params(params): Params<ConflictsParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    let view = read::view(&door, params.consistency, params.min_zxid).await?;
    let (tree, zxid) = (&view.tree, view.tree.zxid());
    let only = params.service.as_deref();
    let all = tree.services().named(&params.namespace, only.unwrap_or_default(), &params.after);
    let mut wanted = all.filter(|(name, _)| only.is_none_or(|only| only == *name)).peekable();
    let (mut conflicts, mut examined, mut last) = (Vec::new(), 0, None);
    while examined < ENTRIES_EXAMINED_MAX {
        let Some((name, _)) = wanted.next() else { break };
        last = Some(name);
        let namespace = params.namespace.clone();
        let one = Wanted { namespace, service: name.to_owned(), ..Wanted::default() };
        examined += 1 + service_view::counts(tree, &caller.authority, &one).0;
        // Whoever may not read a service does not learn who quarrels there.
        if service_view::admit(&door, &caller, tree, &one).is_err() {
            continue;
        }
        let Ok(service) = ServiceView::of(tree, &caller.authority, one) else { continue };
        for (loser, winner) in service.instances().conflicts {
            let conflict = ConflictBody::new(loser, winner);
            conflicts.push(ConflictOfBody { service: name, conflict });
        }
    }
    let next = last.filter(|_| wanted.peek().is_some());
    let body = ConflictsBody { conflicts, next, zxid: zxid.0 };
    Ok(read::aged(&view, answer::json_at(StatusCode::OK, zxid, &body)))
}
