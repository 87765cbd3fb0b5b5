//! Services of a namespace: as those of the default one, below `/ns/<namespace>`.

use axum::extract::State;
use axum::response::Response;

use super::Door;
use super::body::Json;
use super::drain::{self, DrainBody, DrainedBody};
use super::dto::DoneBody;
use super::error::Failed;
use super::extract::{Caller, IfNoneMatch, LastEventId, Params, Segments};
use super::register::{
    self, ConsumerRegistrationBody, DeregisterParams, RegisteredBody, RegistrationBody,
};
use super::services::{self, ServiceAnswerBody, ServiceParams, ServicesBody, ServicesParams};
use super::watch;
use super::znodes::NoParams;
use crate::registry::{namespaced, providers_path};
use crate::types::{PathError, ZnodePath};

/// Returns the namespace that the URL names; the query may only repeat it.
fn named(namespace: String, asked: &str) -> Result<String, Failed> {
    if !asked.is_empty() && asked != namespace {
        let why = format!("namespace is {asked:?}, but the URL names {namespace:?}");
        return Err(Failed::bad_arguments(why));
    }
    Ok(namespace)
}

/// Lists the services of a namespace, whatever layout they are in.
#[utoipa::path(get, path = "/v1/ns/{namespace}/services", tag = "services",
    params(("namespace" = String, Path, description = "The namespace"), ServicesParams),
    responses((status = 200, description = "One page of the services", body = ServicesBody)))]
pub(crate) async fn list_services_in(
    State(door): State<Door>,
    Segments(namespace): Segments<String>,
    Params(mut params): Params<ServicesParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    params.namespace = named(namespace, &params.namespace)?;
    services::list(&door, &caller, params).await
}

/// Shows a service of a namespace with its providers and consumers, whatever layouts they are in.
#[utoipa::path(get, path = "/v1/ns/{namespace}/services/{name}", tag = "services",
    params(("namespace" = String, Path, description = "The namespace"),
        ("name" = String, Path, description = "The service's name"), ServiceParams,
        ("If-None-Match" = Option<String>, Header, description = "The ETag of an answer that one has")),
    responses((status = 200, description = "The service, or with `since` what has changed of its instances",
            body = ServiceAnswerBody),
        (status = 304, description = "It is as it was when it had that ETag")))]
pub(crate) async fn get_service_in(
    State(door): State<Door>,
    Segments((namespace, name)): Segments<(String, String)>,
    Params(mut params): Params<ServiceParams>,
    IfNoneMatch(known): IfNoneMatch,
    caller: Caller,
) -> Result<Response, Failed> {
    params.namespace = named(namespace, &params.namespace)?;
    services::show(&door, &caller, name, params, known.as_deref()).await
}

/// Registers a provider in a namespace.
#[utoipa::path(post, path = "/v1/ns/{namespace}/services/{name}/providers", tag = "services",
    params(("namespace" = String, Path, description = "The namespace"),
        ("name" = String, Path, description = "The service's name"),
        ("Roost-Session" = String, Header, description = "The session that keeps it alive")),
    request_body = RegistrationBody,
    responses((status = 201, description = "It is registered", body = RegisteredBody),
        (status = 200, description = "It was, and has new data", body = RegisteredBody)))]
pub(crate) async fn register_provider_in(
    State(door): State<Door>,
    Segments((namespace, name)): Segments<(String, String)>,
    Params(NoParams {}): Params<NoParams>,
    caller: Caller,
    Json(body): Json<RegistrationBody>,
) -> Result<Response, Failed> {
    register::provider(&door, &caller, Some(&namespace), name, body).await
}

/// Deregisters a provider from a namespace.
#[utoipa::path(delete, path = "/v1/ns/{namespace}/services/{name}/providers/{id}", tag = "services",
    params(("namespace" = String, Path, description = "The namespace"),
        ("name" = String, Path, description = "The service's name"),
        ("id" = String, Path, description = "The provider's id"), DeregisterParams),
    responses((status = 200, description = "It is gone", body = DoneBody)))]
pub(crate) async fn deregister_provider_in(
    State(door): State<Door>,
    Segments((namespace, name, id)): Segments<(String, String, String)>,
    Params(params): Params<DeregisterParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    register::deregister_provider_in(&door, caller, &namespace, &name, &id, &params).await
}

/// Records a consumer in a namespace.
#[utoipa::path(put, path = "/v1/ns/{namespace}/services/{name}/consumers/{id}", tag = "services",
    params(("namespace" = String, Path, description = "The namespace"),
        ("name" = String, Path, description = "The service's name"),
        ("id" = String, Path, description = "Unique within the service"),
        ("Roost-Session" = String, Header, description = "The session that keeps it alive")),
    request_body = ConsumerRegistrationBody,
    responses((status = 201, description = "It is recorded", body = RegisteredBody),
        (status = 200, description = "It was, and has new data", body = RegisteredBody)))]
pub(crate) async fn register_consumer_in(
    State(door): State<Door>,
    Segments((namespace, name, id)): Segments<(String, String, String)>,
    Params(NoParams {}): Params<NoParams>,
    caller: Caller,
    Json(body): Json<ConsumerRegistrationBody>,
) -> Result<Response, Failed> {
    register::consumer(&door, &caller, &namespace, name, id, body).await
}

/// Takes out the record of a consumer of a namespace.
#[utoipa::path(delete, path = "/v1/ns/{namespace}/services/{name}/consumers/{id}", tag = "services",
    params(("namespace" = String, Path, description = "The namespace"),
        ("name" = String, Path, description = "The service's name"),
        ("id" = String, Path, description = "The consumer's id"), DeregisterParams),
    responses((status = 200, description = "It is gone", body = DoneBody)))]
pub(crate) async fn deregister_consumer_in(
    State(door): State<Door>,
    Segments((namespace, name, id)): Segments<(String, String, String)>,
    Params(params): Params<DeregisterParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    register::deregister_consumer_in(&door, caller, &namespace, &name, &id, &params).await
}

/// Watches the providers of a service of a namespace and their data.
#[utoipa::path(get, path = "/v1/ns/{namespace}/services/{name}/subscribe", tag = "services",
    params(("namespace" = String, Path, description = "The namespace"),
        ("name" = String, Path, description = "The service's name"),
        ("since" = Option<u64>, Query, description = "Begin after this zxid instead of with a snapshot"),
        ("Last-Event-ID" = Option<u64>, Header, description = "As `since`, and before it")),
    responses((status = 200, description = "Events `snapshot`, `change`, `reset` and `progress`",
        body = String, content_type = "text/event-stream")))]
pub(crate) async fn subscribe_service_in(
    State(door): State<Door>,
    Segments((namespace, name)): Segments<(String, String)>,
    Params(query): Params<Vec<(String, String)>>,
    caller: Caller,
    LastEventId(seen): LastEventId,
) -> Result<Response, Failed> {
    watch::subscribe_to_service(&door, caller, (&namespace, &name), query, seen)
}

fn provider(namespace: &str, name: &str, id: &str) -> Result<ZnodePath, PathError> {
    namespaced(namespace, &providers_path(name)?)?.child(id)
}

/// Lets a provider of a namespace leave in good order: it is shown as draining, without weight, and removed at the deadline.
#[utoipa::path(post, path = "/v1/ns/{namespace}/services/{name}/providers/{id}/drain", tag = "services",
    params(("namespace" = String, Path, description = "The namespace"),
        ("name" = String, Path, description = "The service's name"),
        ("id" = String, Path, description = "The provider's id")),
    request_body = DrainBody,
    responses((status = 200, description = "How many have been told", body = DrainedBody)))]
pub(crate) async fn drain_provider_in(
    State(door): State<Door>,
    Segments((namespace, name, id)): Segments<(String, String, String)>,
    Params(NoParams {}): Params<NoParams>,
    caller: Caller,
    Json(body): Json<DrainBody>,
) -> Result<Response, Failed> {
    drain::drain(&door, &caller, provider(&namespace, &name, &id)?, body).await
}

/// Tells how far the news have come that a provider of a namespace is leaving.
#[utoipa::path(get, path = "/v1/ns/{namespace}/services/{name}/providers/{id}/drain", tag = "services",
    params(("namespace" = String, Path, description = "The namespace"),
        ("name" = String, Path, description = "The service's name"),
        ("id" = String, Path, description = "The provider's id")),
    responses((status = 200, description = "How many have been told", body = DrainedBody)))]
pub(crate) async fn get_drain_in(
    State(door): State<Door>,
    Segments((namespace, name, id)): Segments<(String, String, String)>,
    Params(NoParams {}): Params<NoParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    drain::progress(&door, &caller, &provider(&namespace, &name, &id)?).await
}
