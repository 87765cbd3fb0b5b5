use std::collections::BTreeSet;
use std::str::FromStr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Door;
use super::answer;
use super::body::Json;
use super::error::Failed;
use super::extract::{Caller, Params};
use super::read::{self, Freshness};
use super::write;
use super::znodes::NoParams;
use crate::limits::CONFIRMS_PER_REQUEST_MAX;
use crate::traffic::{SUSPECTS, Suspect};
use crate::tree::{Standing, Tree};
use crate::types::{Code, Op, SessionId, Silence, ZnodePath};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProtectionParams {
    /// Most suspects in the answer; 10000 when left out, which is also the most that it may be.
    limit: Option<usize>,
    /// Begin after this session: the `next` of the page before.
    after: Option<String>,
    /// How fresh the state must be; `linearizable` when left out.
    #[param(inline)]
    consistency: Option<Freshness>,
    /// Oldest state that may answer.
    min_zxid: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Protection)]
pub(crate) struct ProtectionBody {
    /// The sessions whose end is put off, ordered by id.
    suspects: Vec<SuspectBody>,
    /// The services that these would leave, and those that have lost providers by silence within the window, by path.
    services: Vec<StandingBody>,
    /// The `after` of the next page, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    zxid: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Suspect)]
pub(crate) struct SuspectBody {
    session: String,
    /// For how long its end has been put off, ms.
    since_ms: u64,
    /// For how long at most it will be, ms.
    left_ms: u64,
    /// The services that would lose a provider too many, each as the path whose children its providers are; those that the
    /// caller may read.
    services: Vec<String>,
    /// The policy of removal that holds for the first of them.
    policy: String,
    /// Whether it is put off because its address answers a probe.
    answers: bool,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProtectedService)]
pub(crate) struct StandingBody {
    /// The path whose children its providers are.
    service: String,
    policy: String,
    #[schema(value_type = String)]
    mode: &'static str,
    /// How many providers it has, suspect ones too.
    present: u64,
    /// How many it has lost by silence within the window.
    lost: u64,
    /// How many it may lose by silence within the window; the first session of a window may go with more.
    budget: u64,
}

impl StandingBody {
    pub(crate) fn new(service: &str, standing: &Standing<'_>) -> StandingBody {
        StandingBody {
            service: service.to_owned(),
            policy: standing.policy.to_owned(),
            mode: standing.mode.name(),
            present: standing.present,
            lost: standing.lost,
            budget: standing.removal.budget(standing.present.saturating_add(standing.lost)),
        }
    }
}

/// Shows the sessions whose end is put off, and how the services stand.
#[utoipa::path(get, path = "/v1/protection", tag = "services", params(ProtectionParams),
    responses((status = 200, description = "One page of it", body = ProtectionBody)))]
pub(crate) async fn get_protection(
    State(door): State<Door>,
    Params(params): Params<ProtectionParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    let limit = read::page_limit(params.limit)?;
    let after = match params.after.as_deref() {
        None => SUSPECTS.to_owned(),
        Some(text) => {
            let session = SessionId::from_str(text).map_err(Failed::bad_arguments)?;
            Suspect::note_of(session).to_string()
        }
    };
    let view = read::view(&door, params.consistency, params.min_zxid).await?;
    let (tree, now_ms) = (&view.tree, view.tree.cluster_ms());
    let mut services = BTreeSet::new();
    let found = tree.suspects_after(&after).filter_map(|(note, session)| {
        tree.readable(note.as_str(), &caller.authority).ok()?;
        Some((session, tree.suspect(session)?))
    });
    // Whoever may not read a service does not learn of it here.
    let is_shown = |service: &str| tree.readable(service, &caller.authority).is_ok();
    let (suspects, more) = read::page(found, limit, |(session, mut suspect)| {
        suspect.services.retain(|service| is_shown(service));
        services.extend(suspect.services.iter().cloned());
        let body = SuspectBody {
            session: session.to_string(),
            since_ms: now_ms.saturating_sub(suspect.since_cluster_ms),
            left_ms: suspect.hold_until_cluster_ms.saturating_sub(now_ms),
            services: suspect.services,
            policy: suspect.policy,
            answers: suspect.answers,
        };
        (body, 0)
    });
    services.extend(tree.services_with_losses().map(|service| service.to_string()));
    let standing =
        |service: &String| Some(StandingBody::new(service, &tree.standing(service, now_ms)?));
    let services = services.iter().filter(|service| is_shown(service)).filter_map(standing);
    let services = services.collect();
    let next = suspects.last().filter(|_| more).map(|last: &SuspectBody| last.session.clone());
    let body = ProtectionBody { suspects, services, next, zxid: tree.zxid().0 };
    Ok(read::aged(&view, answer::json_at(StatusCode::OK, tree.zxid(), &body)))
}

/// Whose end to confirm: exactly one of `session`, `service` and `all`.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ConfirmRemoval)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfirmBody {
    /// That of this session.
    session: Option<String>,
    /// That of all which this service would lose: the path whose children its providers are.
    service: Option<String>,
    /// That of all.
    #[serde(default)]
    all: bool,
    /// Why, for people.
    reason: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ConfirmedRemoval)]
pub(crate) struct ConfirmedBody {
    /// The sessions that have ended. One that was heard of again is none of them.
    ended: Vec<String>,
    /// Whether there are more, for which to ask again.
    more: bool,
    zxid: u64,
}

/// Ends sessions whose end is put off: somebody knows that they are gone.
#[utoipa::path(post, path = "/v1/protection/confirm", tag = "services", request_body = ConfirmBody,
    responses((status = 200, description = "They have ended", body = ConfirmedBody)))]
pub(crate) async fn confirm_removal(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
    caller: Caller,
    Json(body): Json<ConfirmBody>,
) -> Result<Response, Failed> {
    let wishes = [body.session.is_some(), body.service.is_some(), body.all];
    if wishes.iter().filter(|is_there| **is_there).count() != 1 {
        let why = "exactly one of session, service and all says whose end to confirm";
        return Err(Failed::bad_arguments(why));
    }
    if body.reason.trim().is_empty() {
        return Err(Failed::bad_arguments("the reason is empty"));
    }
    let caller = caller.saying(Some(&body.reason))?;
    let session = body.session.as_deref().map(SessionId::from_str).transpose();
    let session = session.map_err(Failed::bad_arguments)?;
    let service = body.service.as_deref().map(ZnodePath::parse).transpose()?;
    let view = read::view(&door, None, None).await?;
    let tree = &view.tree;
    let is_meant = |suspect: &Suspect| {
        service.as_ref().is_none_or(|it| suspect.services.iter().any(|one| one == it.as_str()))
    };
    let suspects = tree.suspects_after(SUSPECTS).map(|(_, session)| session);
    let mut suspects = suspects
        .filter(|known| session.is_none_or(|wanted| wanted == *known))
        .filter(|known| tree.suspect(*known).is_some_and(|suspect| is_meant(&suspect)));
    let meant: Vec<SessionId> = suspects.by_ref().take(CONFIRMS_PER_REQUEST_MAX).collect();
    let more = suspects.next().is_some();
    if session.is_some() && meant.is_empty() {
        let why = "the end of this session is not put off";
        return Err(Failed::because(Code::NoNode, why).at(tree.zxid()));
    }
    if !meant.iter().all(|session| may_end(tree, *session, &caller)) {
        let why = "only who may delete all that a session holds may confirm its end";
        return Err(Failed::because(Code::NoAuth, why).at(tree.zxid()));
    }
    // One that was heard of a moment ago may still be noted as suspect; and whom a later leader hears of is not meant.
    let silent = door.node().still_silent(&meant).await?;
    let (meant, term) = (silent.sessions, Some(silent.term));
    let answers = join_all(meant.iter().map(|session| {
        let owner = tree.session(*session).and_then(|it| it.owner());
        let why = Silence::Confirmed;
        let op = Op::Expire { session: *session, unless_moved_from: owner, why, term };
        let mut request = caller.request(0, op);
        // Asked again it does no harm, and each of them is a request of its own.
        request.idempotency_key = None;
        door.node().submit(request)
    }))
    .await;
    let mut ended = Vec::new();
    let mut zxid = tree.zxid();
    for (session, answer) in meant.iter().zip(answers) {
        let answer = answer?;
        zxid = zxid.max(answer.zxid);
        // One that is refused has been heard of, or has ended, in between; one of an earlier term is none.
        if answer.result.is_ok() && door.node().local().session(*session).is_none() {
            ended.push(session.to_string());
        }
    }
    tracing::info!(sessions = ended.len(), authority = ?caller.authority,
        "the end of suspect sessions is confirmed");
    let body = ConfirmedBody { ended, more, zxid: zxid.0 };
    Ok(answer::json_at(StatusCode::OK, zxid, &body))
}

/// Returns whether somebody may delete all that a session holds.
fn may_end(tree: &Tree, session: SessionId, caller: &Caller) -> bool {
    write::check_deletable(tree, caller, tree.ephemerals(session)).is_ok()
}
