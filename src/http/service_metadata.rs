//! What the instances of a service have in common, kept once under a revision instead of in each of them.

use std::borrow::Cow;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Door;
use super::answer;
use super::body::RawData;
use super::dto::{Encoding, data_out};
use super::error::Failed;
use super::extract::{Caller, Params, Segments};
use super::read::{self, Freshness};
use super::write;
use crate::policy::Reach;
use crate::registry::{metadata_path, namespaced};
use crate::tree::Tree;
use crate::types::{Code, CreateMode, Failure, Op, Reply, ZnodePath};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct PutMetadataParams {
    /// The default one when left out.
    #[serde(default)]
    namespace: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct GetMetadataParams {
    /// The default one when left out.
    #[serde(default)]
    namespace: String,
    /// How fresh the state must be; `linearizable` when left out.
    #[param(inline)]
    consistency: Option<Freshness>,
    /// Oldest state that may answer.
    min_zxid: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MetadataKept)]
pub(crate) struct MetadataKeptBody<'a> {
    name: &'a str,
    revision: &'a str,
    /// The znode that has it.
    path: &'a str,
    zxid: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Metadata)]
pub(crate) struct MetadataBody<'a> {
    name: &'a str,
    revision: &'a str,
    path: &'a str,
    data: Option<Cow<'a, str>>,
    encoding: Option<Encoding>,
    zxid: u64,
}

fn path_of(namespace: &str, name: &str, revision: &str) -> Result<ZnodePath, Failed> {
    Ok(namespaced(namespace, &metadata_path(name)?)?.child(revision)?)
}

/// Keeps metadata under a revision, for good: what a revision says never changes.
#[utoipa::path(put, path = "/v1/services/{name}/metadata/{revision}", tag = "services",
    params(("name" = String, Path, description = "The service's name"),
        ("revision" = String, Path, description = "Names this content, such as by its hash"), PutMetadataParams),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, description = "It is kept", body = MetadataKeptBody),
        (status = 200, description = "It was already", body = MetadataKeptBody)))]
pub(crate) async fn put_metadata(
    State(door): State<Door>,
    Segments((name, revision)): Segments<(String, String)>,
    Params(params): Params<PutMetadataParams>,
    caller: Caller,
    RawData(data): RawData,
) -> Result<Response, Failed> {
    let path = path_of(&params.namespace, &name, &revision)?;
    let parent = path.parent().ok_or_else(|| Failed::code(Code::BadArguments))?;
    let plan = |tree: &Tree| match tree.get(path.as_str()) {
        Some(znode) if znode.data() == Some(&data) => {
            Ok(Op::Check { path: path.clone(), version: None })
        }
        Some(_) => {
            let why = format!("{path} exists and says something else: a revision never changes");
            Err(Failed::because(Code::NodeExists, why))
        }
        None => {
            let mut ops = write::missing(tree, [&parent]);
            ops.push(Op::Create {
                parent: parent.clone(),
                name: revision.clone(),
                data: Some(data.clone()),
                acl: tree.rules_below(&parent),
                mode: CreateMode::Persistent,
            });
            Ok(write::together(ops))
        }
    };
    let settle = |failure: &Failure, _: &Tree| match failure.code {
        Code::NoNode | Code::NodeExists => None,
        code => Some(Failed::code(code)),
    };
    let (reply, zxid) = write::submit_planned(&door, &caller, plan, settle).await?;
    let status = match write::last(reply) {
        Reply::Created { .. } => StatusCode::CREATED,
        Reply::Checked => StatusCode::OK,
        _ => return Err(write::other_kind(zxid)),
    };
    let (revision, path) = (revision.as_str(), path.as_str());
    let body = MetadataKeptBody { name: &name, revision, path, zxid: zxid.0 };
    Ok(answer::json_at(status, zxid, &body))
}

/// Shows the metadata of a revision: roost's own, or what Dubbo keeps of an application under it.
#[utoipa::path(get, path = "/v1/services/{name}/metadata/{revision}", tag = "services",
    params(("name" = String, Path, description = "The service's name"),
        ("revision" = String, Path, description = "An instance's `metadata_revision`"), GetMetadataParams),
    responses((status = 200, description = "The metadata", body = MetadataBody)))]
pub(crate) async fn get_metadata(
    State(door): State<Door>,
    Segments((name, revision)): Segments<(String, String)>,
    Params(params): Params<GetMetadataParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    let mut path = path_of(&params.namespace, &name, &revision)?;
    read::admit(&door, &caller, path.as_str(), Reach::Znode)?;
    let view = read::view(&door, params.consistency, params.min_zxid).await?;
    if view.tree.get(path.as_str()).is_none() {
        let dubbo = ZnodePath::parse("/dubbo/metadata")?.child(&name)?.child(&revision)?;
        path = namespaced(&params.namespace, &dubbo)?;
        read::admit(&door, &caller, path.as_str(), Reach::Znode)?;
    }
    let znode = read::readable(&view, path.as_str(), &caller)?;
    let (data, encoding) = data_out(znode.data());
    let zxid = view.tree.zxid();
    let (revision, path) = (revision.as_str(), path.as_str());
    let body = MetadataBody { name: &name, revision, path, data, encoding, zxid: zxid.0 };
    Ok(read::aged(&view, answer::json_at(StatusCode::OK, zxid, &body)))
}
