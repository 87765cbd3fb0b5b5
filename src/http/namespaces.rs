//! Registration in a namespace: as in the default one, below `/ns/<namespace>`.

use axum::extract::State;
use axum::response::Response;

use super::Door;
use super::body::Json;
use super::dto::DoneBody;
use super::error::Failed;
use super::extract::{Caller, Params, Segments};
use super::register::{
    self, ConsumerRegistrationBody, DeregisterParams, RegisteredBody, RegistrationBody,
};
use super::znodes::NoParams;

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
