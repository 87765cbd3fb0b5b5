use std::str::FromStr;

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Door;
use super::answer;
use super::body::Json;
use super::error::Failed;
use super::extract::{Caller, Params, Segments, Token};
use super::read::{self, Freshness};
use super::write;
use super::znodes::{NoParams, ReadParams};
use crate::session::{MISSES_DEFAULT, MISSES_MAX, MISSES_MIN, next_renew_ms};
use crate::types::{Code, Op, Reply, SessionId, ZnodePath};

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OpenSession)]
#[serde(deny_unknown_fields)]
pub(crate) struct OpenBody {
    /// How long the session may be silent, ms; moved into the cluster's range.
    timeout_ms: Option<u32>,
    /// Instead of it: how often the client means to renew, ms. The timeout is that times `misses`.
    interval_ms: Option<u32>,
    /// So many renewals in a row must be missed before the session ends: 2 to 10, 3 when left out.
    misses: Option<u32>,
}

impl OpenBody {
    /// Returns the timeout that is wished for, ms, and the misses.
    fn wish(&self) -> Result<(u32, u32), Failed> {
        let misses = checked_misses(self.misses)?;
        match (self.timeout_ms, self.interval_ms) {
            (Some(timeout_ms), None) => Ok((timeout_ms, misses)),
            (None, Some(interval_ms)) => Ok((interval_ms.saturating_mul(misses), misses)),
            _ => Err(Failed::bad_arguments("exactly one of timeout_ms and interval_ms is needed")),
        }
    }
}

fn checked_misses(misses: Option<u32>) -> Result<u32, Failed> {
    let misses = misses.unwrap_or(MISSES_DEFAULT);
    if !(MISSES_MIN..=MISSES_MAX).contains(&misses) {
        let why = format!("misses is {misses}: it must be {MISSES_MIN} to {MISSES_MAX}");
        return Err(Failed::bad_arguments(why));
    }
    Ok(misses)
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SessionOpened)]
pub(crate) struct OpenedBody {
    #[schema(example = "0x0100000000000001")]
    session: String,
    /// What to send as `Roost-Session`. Whoever has it acts for the session.
    token: String,
    /// What was agreed.
    timeout_ms: u32,
    /// When to renew first, ms from now.
    next_renew_ms: u32,
    zxid: u64,
}

/// Opens a session.
#[utoipa::path(post, path = "/v1/sessions", tag = "sessions", request_body = OpenBody,
    responses((status = 201, description = "It is open", body = OpenedBody)))]
pub(crate) async fn open_session(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
    caller: Caller,
    Json(body): Json<OpenBody>,
) -> Result<Response, Failed> {
    let node = door.node();
    let (wish_ms, misses) = body.wish()?;
    let op = Op::OpenSession {
        timeout_ms: node.negotiate_timeout_ms(wish_ms),
        password: node.new_password(),
        owner: None,
    };
    let (reply, zxid) = write::submit(&door, caller, op).await?;
    let Reply::Session { session, timeout_ms } = reply else { return Err(write::other_kind(zxid)) };
    // Of a retry with the same key the password is the first request's, not the one made above.
    let password = node.local().session(session).map(|session| *session.password());
    let password = password.ok_or_else(|| Failed::code(Code::SessionExpired).at(zxid))?;
    let token = Token { session, password }.to_string();
    let next_renew_ms = next_renew_ms(timeout_ms, misses, door.pressure());
    let session = session.to_string();
    let body = OpenedBody { session, token, timeout_ms, next_renew_ms, zxid: zxid.0 };
    Ok(answer::json_at(StatusCode::CREATED, zxid, &body))
}

/// The session that the URL names, which has to be the one that the caller's token proves, the caller, and the query.
#[derive(Debug)]
pub(crate) struct Own<P>(SessionId, Caller, P);

impl<P: DeserializeOwned + Send> FromRequestParts<Door> for Own<P> {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Own<P>, Failed> {
        let Segments(text) = Segments::<String>::from_request_parts(parts, door).await?;
        let Params(params) = Params::from_request_parts(parts, door).await?;
        let caller = Caller::from_request_parts(parts, door).await?;
        let session = SessionId::from_str(&text).map_err(Failed::bad_arguments)?;
        if caller.need_session()? != session {
            let why = "Roost-Session is the token of another session";
            return Err(Failed::because(Code::AuthFailed, why));
        }
        Ok(Own(session, caller, params))
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SessionRenewed)]
pub(crate) struct RenewedBody {
    session: String,
    /// The session lives at least this long from the moment the request was sent.
    timeout_ms: u32,
    /// When to renew next, ms from when the request was sent; later than an even share of the timeout while the node has
    /// more to do than it should, never later than half of it.
    next_renew_ms: u32,
    zxid: u64,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct RenewParams {
    /// As the session was opened with; 3 when left out.
    misses: Option<u32>,
}

/// Renews a session.
#[utoipa::path(put, path = "/v1/sessions/{session}", tag = "sessions",
    params(("session" = String, Path, description = "The session's id"), RenewParams,
        ("Roost-Session" = String, Header, description = "Its token")),
    responses((status = 200, description = "The leader has noted it", body = RenewedBody)))]
pub(crate) async fn renew_session(
    State(door): State<Door>,
    Own(session, _, params): Own<RenewParams>,
) -> Result<Response, Failed> {
    let misses = checked_misses(params.misses)?;
    let alive = door.node().renew(session).await?;
    let tree = door.node().local();
    let (zxid, found) = (tree.zxid(), tree.session(session));
    match found.filter(|_| alive) {
        None => Err(Failed::code(Code::SessionExpired).at(zxid)),
        Some(found) => {
            let timeout_ms = found.timeout_ms();
            let next_renew_ms = next_renew_ms(timeout_ms, misses, door.pressure());
            let session = session.to_string();
            let body = RenewedBody { session, timeout_ms, next_renew_ms, zxid: zxid.0 };
            Ok(answer::json_at(StatusCode::OK, zxid, &body))
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SessionClosed)]
pub(crate) struct ClosedBody {
    /// How many ephemeral znodes went with it.
    removed: u32,
    zxid: u64,
}

/// Closes a session; its ephemeral znodes are gone when this answers.
#[utoipa::path(delete, path = "/v1/sessions/{session}", tag = "sessions",
    params(("session" = String, Path, description = "The session's id"),
        ("Roost-Session" = String, Header, description = "Its token")),
    responses((status = 200, description = "It is closed", body = ClosedBody)))]
pub(crate) async fn close_session(
    State(door): State<Door>,
    Own(session, caller, NoParams {}): Own<NoParams>,
) -> Result<Response, Failed> {
    let op = Op::CloseSession { session, unless_moved_from: None };
    match write::submit(&door, caller, op).await? {
        (Reply::Removed { znodes }, zxid) => {
            let body = ClosedBody { removed: znodes, zxid: zxid.0 };
            Ok(answer::json_at(StatusCode::OK, zxid, &body))
        }
        (_, zxid) => Err(write::other_kind(zxid)),
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListParams {
    /// Most items in the answer; 10000 when left out, which is also the most that it may be.
    pub(crate) limit: Option<usize>,
    /// Begin after this one: the `next` of the page before.
    pub(crate) after: Option<String>,
    /// How fresh the state must be; `linearizable` when left out.
    #[param(inline)]
    pub(crate) consistency: Option<Freshness>,
    /// Oldest state that may answer.
    pub(crate) min_zxid: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SessionSummary)]
pub(crate) struct SummaryBody {
    session: String,
    timeout_ms: u32,
    /// How many ephemeral znodes it owns.
    ephemerals: usize,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Sessions)]
pub(crate) struct SessionsBody {
    /// Ordered by id.
    sessions: Vec<SummaryBody>,
    /// The `after` of the next page, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    zxid: u64,
}

/// Lists the sessions.
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", params(ListParams),
    responses((status = 200, description = "One page of the sessions", body = SessionsBody)))]
pub(crate) async fn list_sessions(
    State(door): State<Door>,
    Params(params): Params<ListParams>,
    _caller: Caller,
) -> Result<Response, Failed> {
    let limit = read::page_limit(params.limit)?;
    let after = match params.after.as_deref() {
        None => SessionId::NONE,
        Some(text) => SessionId::from_str(text).map_err(Failed::bad_arguments)?,
    };
    let view = read::view(&door, params.consistency, params.min_zxid).await?;
    let zxid = view.tree.zxid();
    let (sessions, more) = read::page(view.tree.sessions_after(after), limit, |(id, session)| {
        let ephemerals = session.num_ephemerals();
        (SummaryBody { session: id.to_string(), timeout_ms: session.timeout_ms(), ephemerals }, 0)
    });
    let next = sessions.last().filter(|_| more).map(|last: &SummaryBody| last.session.clone());
    let body = SessionsBody { sessions, next, zxid: zxid.0 };
    Ok(read::aged(&view, answer::json_at(StatusCode::OK, zxid, &body)))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub(crate) struct SessionBody<'a> {
    session: String,
    timeout_ms: u32,
    /// The paths of the ephemeral znodes that it owns, sorted: all to itself, else those that the caller could find in the tree.
    ephemerals: Vec<&'a str>,
    zxid: u64,
}

/// Shows a session.
#[utoipa::path(get, path = "/v1/sessions/{session}", tag = "sessions",
    params(("session" = String, Path, description = "The session's id"), ReadParams),
    responses((status = 200, description = "The session", body = SessionBody)))]
pub(crate) async fn get_session(
    State(door): State<Door>,
    Segments(session): Segments<String>,
    Params(params): Params<ReadParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    let id = SessionId::from_str(&session).map_err(Failed::bad_arguments)?;
    let view = read::view(&door, params.consistency, params.min_zxid).await?;
    let zxid = view.tree.zxid();
    let session = view.tree.session(id);
    let session = session.ok_or_else(|| Failed::code(Code::SessionExpired).at(zxid))?;
    let is_shown =
        |path: &&ZnodePath| caller.session == id || view.tree.is_found(path, &caller.authority);
    let body = SessionBody {
        session: id.to_string(),
        timeout_ms: session.timeout_ms(),
        ephemerals: session.ephemerals().filter(is_shown).map(ZnodePath::as_str).collect(),
        zxid: zxid.0,
    };
    Ok(read::aged(&view, answer::json_at(StatusCode::OK, zxid, &body)))
}
