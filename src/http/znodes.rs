use std::borrow::Cow;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Door;
use super::answer::{self, etag};
use super::body::{Json, RawData};
use super::dto::{
    AclBody, Creation, DoneBody, Encoding, Mode, StatBody, acl_from_text, acl_in, acl_out, data_out,
};
use super::error::Failed;
use super::extract::{At, Caller, IfMatch, Params, Rest, WantsBytes};
use super::read::{self, Freshness};
use super::write;
use crate::policy::Reach;
use crate::types::{Op, Reply, ZnodePath};

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// No parameters at all.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParams {}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct GetParams {
    /// Answer with the bare bytes, as `Accept: application/octet-stream` does.
    #[serde(default)]
    raw: bool,
    /// How fresh the state must be; `linearizable` when left out.
    #[param(inline)]
    consistency: Option<Freshness>,
    /// Oldest state that may answer.
    min_zxid: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Znode)]
pub(crate) struct ZnodeBody<'a> {
    path: &'a str,
    /// The data; null when there is none, which is not the same as empty.
    #[schema(value_type = Option<String>)]
    data: Option<Cow<'a, str>>,
    /// How `data` is written; left out for null.
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<Encoding>,
    stat: StatBody,
    zxid: u64,
}

/// Reads a znode.
#[utoipa::path(get, path = "/v1/znodes/{*path}", tag = "znodes",
    params(("path" = String, Path, description = "The znode's path"), GetParams),
    responses((status = 200, description = "Data and stat; the header ETag is the version", content(
        (ZnodeBody = "application/json"), (Vec<u8> = "application/octet-stream")))))]
pub(crate) async fn get_znode(
    State(door): State<Door>,
    At(path): At,
    Params(params): Params<GetParams>,
    caller: Caller,
    WantsBytes(bytes): WantsBytes,
) -> Result<Response, Failed> {
    let view = read::view(&door, params.consistency, params.min_zxid).await?;
    let znode = read::readable(&view, path.as_str(), &caller)?;
    read::admit(&door, &caller, path.as_str(), Reach::Znode)?;
    let (stat, zxid) = (znode.stat(), view.tree.zxid());
    let mut response = if params.raw || bytes {
        let bytes = znode.data().map_or_else(Bytes::new, |data| Bytes::copy_from_slice(data));
        let mut response = answer::with_type(StatusCode::OK, OCTETS, bytes);
        response.headers_mut().insert(answer::ZXID, HeaderValue::from(zxid.0));
        response
    } else {
        let (data, encoding) = data_out(znode.data());
        let body = ZnodeBody {
            path: path.as_str(),
            data,
            encoding,
            stat: StatBody::from(&stat),
            zxid: zxid.0,
        };
        answer::json_at(StatusCode::OK, zxid, &body)
    };
    response.headers_mut().insert(header::ETAG, etag(stat.version));
    Ok(read::aged(&view, response))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadParams {
    /// How fresh the state must be; `linearizable` when left out.
    #[param(inline)]
    pub(crate) consistency: Option<Freshness>,
    /// Oldest state that may answer.
    pub(crate) min_zxid: Option<u64>,
}

/// Asks whether a znode exists.
#[utoipa::path(head, path = "/v1/znodes/{*path}", tag = "znodes",
    params(("path" = String, Path, description = "The znode's path"), ReadParams),
    responses((status = 200, description = "It exists; the header ETag is the version")))]
pub(crate) async fn head_znode(
    State(door): State<Door>,
    At(path): At,
    Params(params): Params<ReadParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    let view = read::view(&door, params.consistency, params.min_zxid).await?;
    let znode = read::readable(&view, path.as_str(), &caller)?;
    read::admit(&door, &caller, path.as_str(), Reach::Znode)?;
    let mut response = Response::default();
    let headers = response.headers_mut();
    headers.insert(answer::ZXID, HeaderValue::from(view.tree.zxid().0));
    headers.insert(header::ETAG, etag(znode.stat().version));
    Ok(read::aged(&view, response))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateParams {
    /// How long the znode lives; `persistent` when left out.
    #[serde(default)]
    #[param(inline, required = false)]
    mode: Mode,
    /// Append ten digits that grow with each child of the parent.
    #[serde(default)]
    sequential: bool,
    /// With `mode=ttl`: how long it may be childless and unchanged.
    ttl_ms: Option<u64>,
    /// Create missing parents too, persistent, in the same transaction.
    #[serde(default)]
    parents: bool,
    /// Its access control list, `scheme:id:perms` joined by commas; open to everyone when left out.
    acl: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Created)]
pub(crate) struct CreatedBody<'a> {
    /// The real path, with its number when sequential.
    path: &'a str,
    stat: StatBody,
    zxid: u64,
}

/// Creates a znode.
#[utoipa::path(post, path = "/v1/znodes/{*path}", tag = "znodes",
    params(("path" = String, Path, description = "The path, or its prefix when sequential"),
        CreateParams),
    request_body(content = Vec<u8>, content_type = "application/octet-stream",
        description = "The data as it is"),
    responses((status = 201, description = "It has been created", body = CreatedBody)))]
pub(crate) async fn create_znode(
    State(door): State<Door>,
    Rest(path): Rest,
    Params(params): Params<CreateParams>,
    caller: Caller,
    RawData(data): RawData,
) -> Result<Response, Failed> {
    let CreateParams { mode, sequential, ttl_ms, parents, acl } = params;
    let acl = acl.map(|text| acl_from_text(&text)).transpose()?.unwrap_or_default();
    let creation = Creation { mode, sequential, ttl_ms, session: !caller.session.is_none() };
    let op = creation.op(&path, Some(data), acl)?;
    let (reply, zxid) = match &op {
        Op::Create { parent, .. } if parents => {
            let plan = |tree: &_| {
                let mut ops = write::missing(tree, [parent]);
                ops.push(op.clone());
                Ok(write::together(ops))
            };
            write::submit_planned(&door, &caller, plan, |failure, _| write::settle_create(failure))
                .await?
        }
        _ => write::submit(&door, caller, op).await?,
    };
    let Reply::Created { path, stat } = write::last(reply) else {
        return Err(write::other_kind(zxid));
    };
    let body = CreatedBody { path: path.as_str(), stat: StatBody::from(&stat), zxid: zxid.0 };
    Ok(answer::json_at(StatusCode::CREATED, zxid, &body))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Changed)]
pub(crate) struct ChangedBody {
    stat: StatBody,
    zxid: u64,
}

/// Replaces the data of a znode.
#[utoipa::path(put, path = "/v1/znodes/{*path}", tag = "znodes",
    params(("path" = String, Path, description = "The znode's path"),
        ("If-Match" = Option<String>, Header, description = "Only if the version is this")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream",
        description = "The data as it is"),
    responses((status = 200, description = "It has been set", body = ChangedBody)))]
pub(crate) async fn set_data(
    State(door): State<Door>,
    At(path): At,
    Params(NoParams {}): Params<NoParams>,
    IfMatch(version): IfMatch,
    caller: Caller,
    RawData(data): RawData,
) -> Result<Response, Failed> {
    let op = Op::SetData { path, data: Some(data), version };
    match write::submit(&door, caller, op).await? {
        (Reply::DataSet { stat }, zxid) => {
            let body = ChangedBody { stat: StatBody::from(&stat), zxid: zxid.0 };
            let mut response = answer::json_at(StatusCode::OK, zxid, &body);
            response.headers_mut().insert(header::ETAG, etag(stat.version));
            Ok(response)
        }
        (_, zxid) => Err(write::other_kind(zxid)),
    }
}

/// Deletes a znode that has no children.
#[utoipa::path(delete, path = "/v1/znodes/{*path}", tag = "znodes",
    params(("path" = String, Path, description = "The znode's path"),
        ("If-Match" = Option<String>, Header, description = "Only if the version is this")),
    responses((status = 200, description = "It is gone", body = DoneBody)))]
pub(crate) async fn delete_znode(
    State(door): State<Door>,
    At(path): At,
    Params(NoParams {}): Params<NoParams>,
    IfMatch(version): IfMatch,
    caller: Caller,
) -> Result<Response, Failed> {
    match write::submit(&door, caller, Op::Delete { path, version }).await? {
        (Reply::Deleted, zxid) => {
            Ok(answer::json_at(StatusCode::OK, zxid, &DoneBody { zxid: zxid.0 }))
        }
        (_, zxid) => Err(write::other_kind(zxid)),
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChildrenParams {
    /// Most children in the answer; 10000 when left out, which is also the most that it may be.
    limit: Option<usize>,
    /// Begin after this name: the `next` of the page before.
    after: Option<String>,
    /// Include the data.
    #[serde(default)]
    values: bool,
    /// Include the stats.
    #[serde(default)]
    stats: bool,
    /// How fresh the state must be; `linearizable` when left out.
    #[param(inline)]
    consistency: Option<Freshness>,
    /// Oldest state that may answer.
    min_zxid: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Child)]
pub(crate) struct ChildBody<'a> {
    name: &'a str,
    /// With `values`: as of a znode. Left out for a child that the caller may not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    data: Option<Option<Cow<'a, str>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<Encoding>,
    /// With `stats`. Left out for a child that the caller may not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    stat: Option<StatBody>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Children)]
pub(crate) struct ChildrenBody<'a> {
    path: &'a str,
    stat: StatBody,
    /// Sorted by name.
    children: Vec<ChildBody<'a>>,
    /// The `after` of the next page, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
    zxid: u64,
}

/// Lists the children of a znode.
#[utoipa::path(get, path = "/v1/children/{*path}", tag = "znodes",
    params(("path" = String, Path, description = "The znode's path"), ChildrenParams),
    responses((status = 200, description = "One page of the children", body = ChildrenBody)))]
pub(crate) async fn get_children(
    State(door): State<Door>,
    At(path): At,
    Params(params): Params<ChildrenParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    let limit = read::page_limit(params.limit)?;
    let view = read::view(&door, params.consistency, params.min_zxid).await?;
    let znode = read::readable(&view, path.as_str(), &caller)?;
    let reach = if params.values { Reach::Entries } else { Reach::Children };
    read::admit(&door, &caller, path.as_str(), reach)?;
    let child_body = |child: &'_ ZnodePath| {
        let readable = view.tree.readable(child.as_str(), &caller.authority).ok();
        let open = readable.filter(|_| params.values);
        let (data, encoding) = open.map_or((None, None), |child| data_out(child.data()));
        let stat = readable.filter(|_| params.stats).map(|child| StatBody::from(&child.stat()));
        let bytes = data.as_ref().map_or(0, |data| data.len());
        (stat, open.is_some(), data, encoding, bytes)
    };
    let make = |child| {
        let (stat, open, data, encoding, bytes) = child_body(child);
        (ChildBody { name: child.name(), data: open.then_some(data), encoding, stat }, bytes)
    };
    let (children, more) = match params.after {
        None => read::page(znode.children(), limit, make),
        Some(after) => {
            let after = path.child(&after)?;
            read::page(znode.children_after(after.as_str()), limit, make)
        }
    };
    let zxid = view.tree.zxid();
    let next = children.last().filter(|_| more).map(|child| child.name);
    let body = ChildrenBody {
        path: path.as_str(),
        stat: StatBody::from(&znode.stat()),
        next,
        children,
        zxid: zxid.0,
    };
    Ok(read::aged(&view, answer::json_at(StatusCode::OK, zxid, &body)))
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AclOf)]
pub(crate) struct AclOfBody {
    acl: Vec<AclBody>,
    stat: StatBody,
    zxid: u64,
}

/// Reads the access control list of a znode; without the permission to change it, hashes of passwords are `x`.
#[utoipa::path(get, path = "/v1/acl/{*path}", tag = "znodes",
    params(("path" = String, Path, description = "The znode's path"), ReadParams),
    responses((status = 200, description = "The rules", body = AclOfBody)))]
pub(crate) async fn get_acl(
    State(door): State<Door>,
    At(path): At,
    Params(params): Params<ReadParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    let view = read::view(&door, params.consistency, params.min_zxid).await?;
    let zxid = view.tree.zxid();
    let found = view.tree.visible_acl(path.as_str(), &caller.authority);
    let (acl, znode) = found.map_err(|code| Failed::code(code).at(zxid))?;
    let body = AclOfBody { acl: acl_out(&acl), stat: StatBody::from(&znode.stat()), zxid: zxid.0 };
    Ok(read::aged(&view, answer::json_at(StatusCode::OK, zxid, &body)))
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = SetAcl)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetAclBody {
    acl: Vec<AclBody>,
    /// Only if the list's version is this.
    aversion: Option<i32>,
}

/// Replaces the access control list of a znode.
#[utoipa::path(put, path = "/v1/acl/{*path}", tag = "znodes",
    params(("path" = String, Path, description = "The znode's path")),
    request_body = SetAclBody,
    responses((status = 200, description = "It has been set", body = ChangedBody)))]
pub(crate) async fn set_acl(
    State(door): State<Door>,
    At(path): At,
    Params(NoParams {}): Params<NoParams>,
    caller: Caller,
    Json(body): Json<SetAclBody>,
) -> Result<Response, Failed> {
    let op = Op::SetAcl { path, acl: acl_in(body.acl)?, aversion: body.aversion };
    match write::submit(&door, caller, op).await? {
        (Reply::AclSet { stat }, zxid) => {
            let body = ChangedBody { stat: StatBody::from(&stat), zxid: zxid.0 };
            Ok(answer::json_at(StatusCode::OK, zxid, &body))
        }
        (_, zxid) => Err(write::other_kind(zxid)),
    }
}
