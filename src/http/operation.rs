use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::Door;
use super::answer;
use super::error::Failed;
use super::extract::{Caller, Params, Segments};
use super::znodes::NoParams;
use crate::types::Error;

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Digest)]
pub(crate) struct DigestBody {
    zxid: u64,
    /// 16 hex digits, equal on all nodes at equal zxids.
    digest: String,
    /// Index up to which the node has applied its log.
    applied: Option<u64>,
    node: u64,
}

/// Shows the digest of this node's own state.
#[utoipa::path(get, path = "/v1/digest", tag = "cluster",
    responses((status = 200, description = "The digest", body = DigestBody)))]
pub(crate) async fn get_digest(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Response, Failed> {
    let node = door.node();
    // Before the tree, so that the index is never newer than the state that stands beside it.
    let applied = node.applied();
    let tree = node.local();
    let zxid = tree.zxid();
    let body =
        DigestBody { zxid: zxid.0, digest: tree.digest().to_string(), applied, node: node.id() };
    Ok(answer::json_at(StatusCode::OK, zxid, &body))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Health)]
pub(crate) struct HealthBody {
    /// `ok`.
    #[schema(value_type = String)]
    status: &'static str,
    zxid: u64,
}

fn ok(door: &Door) -> Response {
    let zxid = door.node().local().zxid();
    answer::json_at(StatusCode::OK, zxid, &HealthBody { status: "ok", zxid: zxid.0 })
}

/// Says that the process works.
#[utoipa::path(get, path = "/healthz", tag = "operation",
    responses((status = 200, description = "It works", body = HealthBody)))]
pub(crate) async fn healthz(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Response, Failed> {
    Ok(ok(&door))
}

/// Says whether the node can serve: it knows a leader and has caught up.
#[utoipa::path(get, path = "/readyz", tag = "operation",
    responses((status = 200, description = "It can", body = HealthBody)))]
pub(crate) async fn readyz(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Response, Failed> {
    if door.stop().is_cancelled() {
        return Err(Error::Stopping.into());
    }
    door.node().readiness().map_err(Failed::not_ready)?;
    Ok(ok(&door))
}

/// Gives the metrics of this node to Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operation",
    responses((status = 200, description = "OpenMetrics text", body = String,
        content_type = "application/openmetrics-text")))]
pub(crate) async fn metrics(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Response, Failed> {
    let page = door.meters().page(door.gauges());
    let page = page.map_err(|_| Error::Io("the metrics could not be written".to_owned()))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(answer::with_type(StatusCode::OK, HeaderValue::from_static(kind), page))
}

/// Lists the commands of ZooKeeper's AdminServer that are answered here.
#[utoipa::path(get, path = "/commands", tag = "operation",
    responses((status = 200, description = "Their names", body = serde_json::Value)))]
pub(crate) async fn commands(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Response, Failed> {
    let zxid = door.node().local().zxid();
    Ok(answer::json_at(StatusCode::OK, zxid, &door.annex().command("", &[])))
}

/// Answers a command of ZooKeeper's AdminServer, by its name or the four-letter word for it.
#[utoipa::path(get, path = "/commands/{name}", tag = "operation",
    params(("name" = String, Path, description = "`monitor` or `mntr`, `server_stats` or `srvr`, …")),
    responses((status = 200, description = "The answer", body = serde_json::Value)))]
pub(crate) async fn command(
    State(door): State<Door>,
    Segments(name): Segments<String>,
    Params(NoParams {}): Params<NoParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    let zxid = door.node().local().zxid();
    Ok(answer::json_at(StatusCode::OK, zxid, &door.annex().command(&name, &caller.authority)))
}

/// Gives this description of the API.
#[utoipa::path(get, path = "/openapi.json", tag = "operation",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value)))]
pub(crate) async fn openapi_json(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Response, Failed> {
    let json = HeaderValue::from_static("application/json");
    let text = door.document().get().cloned().unwrap_or_default();
    Ok(answer::with_type(StatusCode::OK, json, text))
}
