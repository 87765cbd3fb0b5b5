use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Door;
use super::answer;
use super::body::Json;
use super::dto::DoneBody;
use super::error::Failed;
use super::extract::{Caller, Params, Segments, verify};
use super::registration::{Entry, blocked};
use super::write;
use super::znodes::NoParams;
use crate::limits::MULTI_OPS_MAX;
use crate::registry::{Consumer, Layout, consumers_path, namespaced, providers_path};
use crate::tree::Tree;
use crate::types::{Code, Failure, Op, Reply, SessionId, ZnodePath, Zxid};

/// An instance of a service that registers.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Registration)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegistrationBody {
    /// Which service; may be left out where the URL names it, and then only repeats it.
    pub(crate) service: Option<String>,
    /// Of which namespace; the default one when left out. May be left out where the URL names it.
    pub(crate) namespace: Option<String>,
    /// Unique within the service; `host:port` when left out.
    pub(crate) id: Option<String>,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Share of the traffic relative to the others; 100 when left out.
    pub(crate) weight: Option<u32>,
    #[serde(default)]
    pub(crate) metadata: BTreeMap<String, String>,
    /// `up` when left out.
    pub(crate) status: Option<String>,
    /// The group within the service.
    pub(crate) group: Option<String>,
    /// Revision under which what such providers have in common is kept.
    pub(crate) metadata_revision: Option<String>,
    /// The token of the session that has registered it so far, as when a program starts anew: as long as the registration
    /// is still that session's, it is replaced.
    pub(crate) takes_over: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Register)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegisterBody {
    providers: Vec<RegistrationBody>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = RegisterConsumer)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConsumerRegistrationBody {
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Registered)]
pub(crate) struct RegisteredBody<'a> {
    /// The service.
    name: &'a str,
    id: &'a str,
    /// The znode of the registration.
    path: &'a str,
    /// Another number is another registration, whatever the id: the zxid of its creation.
    incarnation: u64,
    zxid: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AllRegistered)]
pub(crate) struct AllRegisteredBody<'a> {
    /// In the order of the request.
    providers: Vec<OneRegisteredBody<'a>>,
    zxid: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OneRegistered)]
pub(crate) struct OneRegisteredBody<'a> {
    service: &'a str,
    id: &'a str,
    path: &'a str,
    /// Whether it is new; false when the session had registered it before.
    created: bool,
    /// Another number is another registration, whatever the id: the zxid of its creation.
    incarnation: u64,
}

/// Brings all entries about, or none. Returns for each whether it is new and its incarnation, and the zxid.
async fn register_all(
    door: &Door,
    caller: &Caller,
    entries: &[Entry],
) -> Result<(Vec<(bool, u64)>, Zxid), Failed> {
    let session = caller.need_session()?;
    let plan = |tree: &Tree| {
        let mut ops = write::missing(tree, entries.iter().map(|entry| &entry.parent));
        ops.extend(entries.iter().flat_map(|entry| entry.ops(tree, session)));
        if ops.len() > MULTI_OPS_MAX {
            let why = format!("{} znodes in one request: the limit is {MULTI_OPS_MAX}", ops.len());
            return Err(Failed::bad_arguments(why));
        }
        Ok(write::together(ops))
    };
    let settle = |failure: &Failure, tree: &Tree| match failure.code {
        Code::NoNode => None,
        Code::NodeExists | Code::NoAuth => {
            let mut held = entries.iter().enumerate().filter_map(|(index, entry)| {
                let failed = entry.held(tree, session)?;
                Some(if entries.len() > 1 { failed.in_item(index) } else { failed })
            });
            // Nobody else has them: a list forbids it, or it was the session's other request, and a new plan may do.
            let forbidden = (failure.code == Code::NoAuth).then(|| blocked(tree, caller, entries));
            held.next().or(forbidden)
        }
        code => Some(Failed::code(code)),
    };
    let (reply, zxid) = write::submit_planned(door, caller, plan, settle).await?;
    let mut replies = match reply {
        Reply::Multi(replies) => replies,
        reply => vec![reply],
    };
    replies.retain(|reply| !matches!(reply, Reply::Deregistered { .. }));
    // The parents come first and may have been more or fewer in the attempt that this answers.
    let first = replies.len().checked_sub(entries.len()).ok_or_else(|| write::other_kind(zxid))?;
    let new = replies[first..].iter().map(|reply| match reply {
        Reply::Created { stat, .. } => Ok((true, stat.czxid.0)),
        Reply::DataSet { stat } => Ok((false, stat.czxid.0)),
        _ => Err(write::other_kind(zxid)),
    });
    Ok((new.collect::<Result<_, _>>()?, zxid))
}

async fn register_one(door: &Door, caller: &Caller, entry: Entry) -> Result<Response, Failed> {
    let entries = [entry];
    let (new, zxid) = register_all(door, caller, &entries).await?;
    let [Entry { service, id, path, .. }] = &entries;
    let (created, incarnation) = new.first().copied().ok_or_else(|| write::other_kind(zxid))?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let body = RegisteredBody { name: service, id, path: path.as_str(), incarnation, zxid: zxid.0 };
    Ok(answer::json_at(status, zxid, &body))
}

/// Registers a provider; a session may do so again, to replace the data.
#[utoipa::path(post, path = "/v1/services/{name}/providers", tag = "services",
    params(("name" = String, Path, description = "The service's name"),
        ("Roost-Session" = String, Header, description = "The session that keeps it alive")),
    request_body = RegistrationBody,
    responses((status = 201, description = "It is registered", body = RegisteredBody),
        (status = 200, description = "It was, and has new data", body = RegisteredBody)))]
pub(crate) async fn register_provider(
    State(door): State<Door>,
    Segments(name): Segments<String>,
    Params(NoParams {}): Params<NoParams>,
    caller: Caller,
    Json(body): Json<RegistrationBody>,
) -> Result<Response, Failed> {
    provider(&door, &caller, None, name, body).await
}

/// Registers a provider in a namespace: that which the URL names, or else the body.
pub(crate) async fn provider(
    door: &Door,
    caller: &Caller,
    namespace: Option<&str>,
    name: String,
    mut body: RegistrationBody,
) -> Result<Response, Failed> {
    let takes_over = predecessor(door, body.takes_over.take()).await?;
    let entry = Entry { takes_over, ..Entry::provider(namespace, Some(name), body)? };
    register_one(door, caller, entry).await
}

/// Returns the session of the token by which a registration is taken over; `None` if it has ended, since nothing is left
/// of it then.
async fn predecessor(door: &Door, token: Option<String>) -> Result<Option<SessionId>, Failed> {
    match token {
        Some(token) => Ok(verify(door, &token, "takes_over").await?.ok()),
        None => Ok(None),
    }
}

/// Records a consumer; a session may do so again, to replace the data.
#[utoipa::path(put, path = "/v1/services/{name}/consumers/{id}", tag = "services",
    params(("name" = String, Path, description = "The service's name"),
        ("id" = String, Path, description = "Unique within the service"),
        ("Roost-Session" = String, Header, description = "The session that keeps it alive")),
    request_body = ConsumerRegistrationBody,
    responses((status = 201, description = "It is recorded", body = RegisteredBody),
        (status = 200, description = "It was, and has new data", body = RegisteredBody)))]
pub(crate) async fn register_consumer(
    State(door): State<Door>,
    Segments((name, id)): Segments<(String, String)>,
    Params(NoParams {}): Params<NoParams>,
    caller: Caller,
    Json(body): Json<ConsumerRegistrationBody>,
) -> Result<Response, Failed> {
    consumer(&door, &caller, "", name, id, body).await
}

/// Records a consumer in a namespace; the empty one is the default one.
pub(crate) async fn consumer(
    door: &Door,
    caller: &Caller,
    namespace: &str,
    name: String,
    id: String,
    body: ConsumerRegistrationBody,
) -> Result<Response, Failed> {
    let consumer = Consumer { metadata: body.metadata };
    let parent = namespaced(namespace, &consumers_path(&name)?)?;
    register_one(door, caller, Entry::new(name, id, parent, &consumer.to_data())?).await
}

/// Registers many providers, all or none.
#[utoipa::path(post, path = "/v1/register", tag = "services",
    params(("Roost-Session" = String, Header, description = "The session that keeps them alive")),
    request_body = RegisterBody,
    responses((status = 200, description = "All are registered", body = AllRegisteredBody)))]
pub(crate) async fn register(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
    caller: Caller,
    Json(body): Json<RegisterBody>,
) -> Result<Response, Failed> {
    let mut entries = Vec::with_capacity(body.providers.len());
    let mut paths = BTreeSet::new();
    for (index, mut one) in body.providers.into_iter().enumerate() {
        let takes_over = predecessor(&door, one.takes_over.take()).await;
        let takes_over = takes_over.map_err(|failed| failed.in_item(index))?;
        let entry = Entry::provider(None, None, one).map_err(|failed| failed.in_item(index))?;
        let entry = Entry { takes_over, ..entry };
        if !paths.insert(entry.path.clone()) {
            let why = format!("{} is registered twice in this request", entry.path);
            return Err(Failed::bad_arguments(why).in_item(index));
        }
        entries.push(entry);
    }
    if entries.is_empty() {
        return Err(Failed::bad_arguments("there are no providers in the request"));
    }
    let (new, zxid) = register_all(&door, &caller, &entries).await?;
    let providers =
        entries.iter().zip(new).map(|(entry, (created, incarnation))| OneRegisteredBody {
            service: &entry.service,
            id: &entry.id,
            path: entry.path.as_str(),
            created,
            incarnation,
        });
    let body = AllRegisteredBody { providers: providers.collect(), zxid: zxid.0 };
    Ok(answer::json_at(StatusCode::OK, zxid, &body))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeregisterParams {
    /// Also when it belongs to another session.
    #[serde(default)]
    force: bool,
}

/// Deregisters a provider.
#[utoipa::path(delete, path = "/v1/services/{name}/providers/{id}", tag = "services",
    params(("name" = String, Path, description = "The service's name"),
        ("id" = String, Path, description = "The provider's id"), DeregisterParams),
    responses((status = 200, description = "It is gone", body = DoneBody)))]
pub(crate) async fn deregister_provider(
    State(door): State<Door>,
    Segments((name, id)): Segments<(String, String)>,
    Params(params): Params<DeregisterParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    deregister_provider_in(&door, caller, "", &name, &id, &params).await
}

/// Deregisters a provider from a namespace; the empty one is the default one.
pub(crate) async fn deregister_provider_in(
    door: &Door,
    caller: Caller,
    namespace: &str,
    name: &str,
    id: &str,
    params: &DeregisterParams,
) -> Result<Response, Failed> {
    let path = namespaced(namespace, &providers_path(name)?)?.child(id)?;
    deregister_one(door, caller, path, params).await
}

/// Takes out the record of a consumer.
#[utoipa::path(delete, path = "/v1/services/{name}/consumers/{id}", tag = "services",
    params(("name" = String, Path, description = "The service's name"),
        ("id" = String, Path, description = "The consumer's id"), DeregisterParams),
    responses((status = 200, description = "It is gone", body = DoneBody)))]
pub(crate) async fn deregister_consumer(
    State(door): State<Door>,
    Segments((name, id)): Segments<(String, String)>,
    Params(params): Params<DeregisterParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    deregister_consumer_in(&door, caller, "", &name, &id, &params).await
}

/// Takes out the record of a consumer of a namespace; the empty one is the default one.
pub(crate) async fn deregister_consumer_in(
    door: &Door,
    caller: Caller,
    namespace: &str,
    name: &str,
    id: &str,
    params: &DeregisterParams,
) -> Result<Response, Failed> {
    let path = namespaced(namespace, &consumers_path(name)?)?.child(id)?;
    deregister_one(door, caller, path, params).await
}

async fn deregister_one(
    door: &Door,
    caller: Caller,
    path: ZnodePath,
    params: &DeregisterParams,
) -> Result<Response, Failed> {
    let op = match params.force {
        true => Op::Delete { path: path.clone(), version: None },
        false => {
            caller.need_session()?;
            Op::DeleteOwn { path: path.clone() }
        }
    };
    let answer = door.node().submit(caller.into_request(op)).await?;
    match answer.result {
        Ok(Reply::Deleted) => Ok(done(answer.zxid)),
        Ok(_) => Err(write::other_kind(answer.zxid)),
        Err(failure) => Err(not_deregistered(&failure, &[path]).at(answer.zxid)),
    }
}

fn done(zxid: Zxid) -> Response {
    answer::json_at(StatusCode::OK, zxid, &DoneBody { zxid: zxid.0 })
}

/// Returns the refusal to deregister what is at these paths.
pub(crate) fn not_deregistered(failure: &Failure, paths: &[ZnodePath]) -> Failed {
    let index = failure.multi_index.map_or(0, |index| index as usize);
    let failed = match (failure.code, paths.get(index)) {
        (Code::NoAuth, Some(path)) => {
            let why = format!("{path} does not belong to this session, or may not be deleted");
            Failed::because(Code::NoAuth, why)
        }
        (code, _) => Failed::code(code),
    };
    match failure.multi_index {
        Some(index) => failed.in_item(index as usize),
        None => failed,
    }
}
