//! The cheap questions: has anything changed, and has what I follow changed?

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Door;
use super::answer;
use super::body::Json;
use super::error::Failed;
use super::extract::{Caller, Params};
use super::read;
use super::service_body::sign_text;
use super::service_view::{self, ServiceView};
use super::service_wanted::Wanted;
use super::watch::event_stream;
use super::znodes::{NoParams, ReadParams};
use crate::limits::{SERVICES_PER_REQUEST_MAX, STREAM_SILENCE_MS_MAX};
use crate::tree::Tree;
use crate::types::Code;

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Version)]
pub(crate) struct VersionBody {
    /// Grows with each change of anything.
    zxid: u64,
}

/// Says how far the state has come: the version of everything.
#[utoipa::path(get, path = "/v1/version", tag = "services", params(ReadParams),
    responses((status = 200, description = "The zxid", body = VersionBody)))]
pub(crate) async fn get_version(
    State(door): State<Door>,
    Params(params): Params<ReadParams>,
) -> Result<Response, Failed> {
    let view = read::view(&door, params.consistency, params.min_zxid).await?;
    let zxid = view.tree.zxid();
    let body = VersionBody { zxid: zxid.0 };
    Ok(read::aged(&view, answer::json_at(StatusCode::OK, zxid, &body)))
}

/// Tells how far this node's state comes: one line for a change, or for several at once.
#[utoipa::path(get, path = "/v1/version/watch", tag = "services",
    responses((status = 200, description = "Events `version`, whose data are a zxid",
        body = String, content_type = "text/event-stream")))]
pub(crate) async fn watch_version(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Response, Failed> {
    let begun = (door.node().zxids(), door.stop().clone(), 0);
    let lines = futures::stream::unfold(begun, |(mut zxids, stop, mut last)| async move {
        let silence = Duration::from_millis(STREAM_SILENCE_MS_MAX);
        tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            // After a silence the same again: a sign of life.
            next = tokio::time::timeout(silence, zxids.next()) => if let Ok(zxid) = next {
                last = zxid?.0;
            },
        }
        let line = format!("id: {last}\nevent: version\ndata: {{\"zxid\":{last}}}\n\n");
        Some((Ok::<_, Infallible>(Bytes::from(line)), (zxids, stop, last)))
    });
    Ok(event_stream(Body::from_stream(lines)))
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AskVersions)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskVersionsBody {
    services: Vec<String>,
    /// The default one when left out.
    #[serde(default)]
    namespace: String,
    /// Only of the lists of this layout.
    layout: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Versions)]
pub(crate) struct VersionsBody<'a> {
    /// By name; a service that does not exist is not among them.
    versions: BTreeMap<&'a str, ServiceVersionBody>,
    /// By name those that the caller may not follow, and why.
    refused: BTreeMap<&'a str, String>,
    zxid: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ServiceVersion)]
pub(crate) struct ServiceVersionBody {
    /// Zxid of the newest change of its lists of instances.
    revision: u64,
    /// 16 hex digits: equal lists of instances have equal signs.
    sign: String,
}

/// Tells the versions of many services at once.
#[utoipa::path(post, path = "/v1/versions", tag = "services", params(ReadParams),
    request_body = AskVersionsBody,
    responses((status = 200, description = "Revision and sign of each", body = VersionsBody)))]
pub(crate) async fn versions(
    State(door): State<Door>,
    Params(params): Params<ReadParams>,
    caller: Caller,
    Json(asked): Json<AskVersionsBody>,
) -> Result<Response, Failed> {
    if asked.services.len() > SERVICES_PER_REQUEST_MAX {
        let count = asked.services.len();
        let why = format!("{count} services: at most {SERVICES_PER_REQUEST_MAX}");
        return Err(Failed::bad_arguments(why));
    }
    let view = read::view(&door, params.consistency, params.min_zxid).await?;
    let (mut versions, mut refused) = (BTreeMap::new(), BTreeMap::new());
    for name in &asked.services {
        let wanted = Wanted {
            namespace: asked.namespace.clone(),
            service: name.clone(),
            layout: asked.layout.clone(),
            ..Wanted::default()
        };
        wanted.check_layout(&view.tree)?;
        match version(&door, &caller, &view.tree, wanted) {
            Ok(version) => {
                versions.insert(name.as_str(), version);
            }
            Err(failed) if failed.is(Code::NoNode) => {}
            Err(failed) if failed.is(Code::NoAuth) => {
                refused.insert(name.as_str(), failed.into_message());
            }
            Err(failed) => return Err(failed),
        }
    }
    let zxid = view.tree.zxid();
    let body = VersionsBody { versions, refused, zxid: zxid.0 };
    Ok(read::aged(&view, answer::json_at(StatusCode::OK, zxid, &body)))
}

/// Returns revision and sign of what the caller may follow. Errors: `no_node`, and `no_auth` wherever a stream is refused.
fn version(
    door: &Door,
    caller: &Caller,
    tree: &Tree,
    wanted: Wanted,
) -> Result<ServiceVersionBody, Failed> {
    service_view::admit(door, caller, tree, &wanted)?;
    service_view::admit_first(door, caller, tree, &wanted)?;
    let (revision, sign) = ServiceView::of(tree, &caller.authority, wanted)?.state(true);
    Ok(ServiceVersionBody { revision: revision.0, sign: sign_text(sign) })
}
