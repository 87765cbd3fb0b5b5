use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Door;
use super::answer;
use super::body::Json;
use super::error::Failed;
use super::extract::{Caller, Params, Segments};
use super::read;
use super::znodes::NoParams;
use crate::identity::name_of;
use crate::limits::{DRAIN_MS_MAX, POLL_WAIT_MS_MAX, REASON_BYTES_MAX};
use crate::node::{Draining, Leaving, Told};
use crate::registry::providers_path;
use crate::types::{Code, ZnodePath};

/// When an instance is removed if nothing is said, ms.
const DEADLINE_MS: u64 = 30_000;
/// Time between two questions how far the news have come.
const ASK_INTERVAL: Duration = Duration::from_millis(50);

/// How to leave in good order.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Drain)]
#[serde(deny_unknown_fields)]
pub(crate) struct DrainBody {
    /// When it is removed at the latest, ms from now; 30000 when left out.
    deadline_ms: Option<u64>,
    /// For what the answer waits; `all_subscribers` when left out.
    wait: Option<Wait>,
    /// How long it waits at most, ms; until the deadline when left out, and at most 60000.
    wait_ms: Option<u64>,
    /// Why, for people.
    reason: Option<String>,
}

/// How to let any registration leave in good order.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = DrainInstance)]
#[serde(deny_unknown_fields)]
pub(crate) struct DrainInstanceBody {
    /// The path of its registration.
    instance: String,
    /// When it is removed at the latest, ms from now; 30000 when left out.
    deadline_ms: Option<u64>,
    /// For what the answer waits; `all_subscribers` when left out.
    wait: Option<Wait>,
    /// How long it waits at most, ms; until the deadline when left out, and at most 60000.
    wait_ms: Option<u64>,
    /// Why, for people.
    reason: Option<String>,
}

/// For what the answer waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wait {
    /// Until everybody who follows it has been told.
    #[default]
    AllSubscribers,
    /// For nothing: it is committed.
    None,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Drained)]
pub(crate) struct DrainedBody {
    /// The registration that leaves.
    path: String,
    /// Subscribers and watching ZooKeeper clients that have been told.
    notified: u64,
    /// Those that are connected and have not been.
    lagging: u64,
    /// Nodes that cannot say: they do not answer, are behind, or took over a snapshot since.
    unknown: Vec<u64>,
    /// The transaction that announced it.
    zxid: u64,
}

impl DrainedBody {
    fn answer(draining: &Draining, told: Told) -> Response {
        let Told { notified, lagging, unknown } = told;
        let (path, zxid) = (draining.path.to_string(), draining.zxid);
        let body = DrainedBody { path, notified, lagging, unknown, zxid: zxid.0 };
        answer::json_at(StatusCode::OK, zxid, &body)
    }
}

/// Lets a provider leave in good order: it is shown as draining, without weight, and removed at the deadline.
#[utoipa::path(post, path = "/v1/services/{name}/providers/{id}/drain", tag = "services",
    params(("name" = String, Path, description = "The service's name"),
        ("id" = String, Path, description = "The provider's id")),
    request_body = DrainBody,
    responses((status = 200, description = "How many have been told", body = DrainedBody)))]
pub(crate) async fn drain_provider(
    State(door): State<Door>,
    Segments((name, id)): Segments<(String, String)>,
    Params(NoParams {}): Params<NoParams>,
    caller: Caller,
    Json(body): Json<DrainBody>,
) -> Result<Response, Failed> {
    drain(&door, &caller, providers_path(&name)?.child(&id)?, body).await
}

/// Lets a registration of any layout leave in good order.
#[utoipa::path(post, path = "/v1/drain", tag = "services", request_body = DrainInstanceBody,
    responses((status = 200, description = "How many have been told", body = DrainedBody)))]
pub(crate) async fn drain_instance(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
    caller: Caller,
    Json(body): Json<DrainInstanceBody>,
) -> Result<Response, Failed> {
    let DrainInstanceBody { instance, deadline_ms, wait, wait_ms, reason } = body;
    let body = DrainBody { deadline_ms, wait, wait_ms, reason };
    drain(&door, &caller, ZnodePath::parse(&instance)?, body).await
}

pub(super) async fn drain(
    door: &Door,
    caller: &Caller,
    path: ZnodePath,
    body: DrainBody,
) -> Result<Response, Failed> {
    let deadline_ms = within("deadline_ms", body.deadline_ms, DEADLINE_MS, DRAIN_MS_MAX)?;
    let until_deadline = deadline_ms.min(POLL_WAIT_MS_MAX);
    let wait_ms = within("wait_ms", body.wait_ms, until_deadline, POLL_WAIT_MS_MAX)?;
    let reason = body.reason.unwrap_or_else(|| "leaving".to_owned());
    if reason.len() > REASON_BYTES_MAX {
        let why = format!("reason has {} bytes: at most {REASON_BYTES_MAX}", reason.len());
        return Err(Failed::bad_arguments(why));
    }
    let leaving = Leaving {
        path,
        session: caller.session,
        authority: caller.authority.clone(),
        deadline_ms,
        set_by: name_of(&caller.authority),
        reason,
    };
    let node = door.node();
    let draining = match node.drain(&leaving).await? {
        Ok(draining) => draining,
        Err(Code::NoAuth) => {
            let path = &leaving.path;
            let why = format!("{path} does not belong to this session, or may not be deleted");
            return Err(Failed::because(Code::NoAuth, why));
        }
        Err(Code::NoNode) => {
            let why = format!("nothing is registered at {}", leaving.path);
            return Err(Failed::because(Code::NoNode, why));
        }
        Err(Code::Unimplemented) => {
            let path = &leaving.path;
            let why = format!(
                "{path} has no way to say that it leaves, so nobody would be told before it goes: take it out with \
                 POST /v1/deregister (roost deregister --instance), and let it serve for as long as its consumers need"
            );
            return Err(Failed::because(Code::Unimplemented, why));
        }
        Err(Code::BadArguments) => {
            let why = format!("{} is no registration of an instance", leaving.path);
            return Err(Failed::bad_arguments(why));
        }
        Err(code) => return Err(Failed::code(code)),
    };
    let until_us = node.now_micros() + wait_ms.min(deadline_ms) * 1_000;
    loop {
        let told = node.drain_progress(&draining).await;
        let is_over = told.lagging == 0 && told.unknown.is_empty();
        let left_us = until_us.saturating_sub(node.now_micros());
        if is_over || body.wait == Some(Wait::None) || left_us == 0 {
            return Ok(DrainedBody::answer(&draining, told));
        }
        tokio::time::sleep(ASK_INTERVAL.min(Duration::from_micros(left_us))).await;
    }
}

fn within(name: &str, value: Option<u64>, default: u64, max: u64) -> Result<u64, Failed> {
    let value = value.unwrap_or(default);
    if (1..=max).contains(&value) {
        return Ok(value);
    }
    Err(Failed::bad_arguments(format!("{name} is {value}: it must be 1 to {max}")))
}

/// Tells how far the news have come that a provider is leaving.
#[utoipa::path(get, path = "/v1/services/{name}/providers/{id}/drain", tag = "services",
    params(("name" = String, Path, description = "The service's name"),
        ("id" = String, Path, description = "The provider's id")),
    responses((status = 200, description = "How many have been told", body = DrainedBody)))]
pub(crate) async fn get_drain(
    State(door): State<Door>,
    Segments((name, id)): Segments<(String, String)>,
    Params(NoParams {}): Params<NoParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    progress(&door, &caller, &providers_path(&name)?.child(&id)?).await
}

/// Tells how far the news have come that what is at a path is leaving.
pub(super) async fn progress(
    door: &Door,
    caller: &Caller,
    path: &ZnodePath,
) -> Result<Response, Failed> {
    let view = read::view(door, None, None).await?;
    read::readable(&view, path.as_str(), caller)?;
    let draining = door.node().draining(path).ok_or_else(|| {
        let why = format!("{path} is not leaving");
        Failed::because(Code::NoNode, why).at(view.tree.zxid())
    })?;
    Ok(DrainedBody::answer(&draining, door.node().drain_progress(&draining).await))
}
