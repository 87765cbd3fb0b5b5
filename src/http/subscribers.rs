use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::Door;
use super::answer;
use super::error::Failed;
use super::extract::{Caller, Params, Segments};
use super::read;
use super::znodes::ReadParams;
use crate::policy::Reach;
use crate::registry::providers_path;

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Subscribers)]
pub(crate) struct SubscribersBody {
    /// The latest change of the providers.
    revision: u64,
    /// By node.
    subscribers: Vec<SubscriberBody>,
    /// Whether a node has more, which are left out.
    more: bool,
    /// Nodes that do not answer.
    unknown: Vec<u64>,
    zxid: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Subscriber)]
pub(crate) struct SubscriberBody {
    node: u64,
    /// The session of a ZooKeeper client that watches the list; null for a stream.
    session: Option<String>,
    /// It has been told of everything that concerns it up to here, at least.
    upto: u64,
    /// Whether it has been told of the revision.
    has_seen: bool,
}

/// Lists who follows a service's providers, on all nodes, and how far each has been told.
#[utoipa::path(get, path = "/v1/services/{name}/subscribers", tag = "services",
    params(("name" = String, Path, description = "The service's name"), ReadParams),
    responses((status = 200, description = "Who follows it", body = SubscribersBody)))]
pub(crate) async fn get_subscribers(
    State(door): State<Door>,
    Segments(name): Segments<String>,
    Params(params): Params<ReadParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    let path = providers_path(&name)?;
    read::admit(&door, &caller, path.as_str(), Reach::Entries)?;
    let view = read::view(&door, params.consistency, params.min_zxid).await?;
    let providers = read::readable(&view, path.as_str(), &caller)?;
    let changes = providers.children().filter_map(|path| view.tree.get(path.as_str()));
    let revision =
        changes.map(|znode| znode.stat().mzxid.0).fold(providers.stat().pzxid.0, u64::max);
    let found = door.node().followers(&path).await;
    let subscribers = found.all.iter().map(|follower| SubscriberBody {
        node: follower.node,
        session: follower.session.map(|session| session.to_string()),
        upto: follower.upto.0,
        has_seen: follower.upto.0 >= revision,
    });
    let zxid = view.tree.zxid();
    let body = SubscribersBody {
        revision,
        subscribers: subscribers.collect(),
        more: found.more,
        unknown: found.unknown,
        zxid: zxid.0,
    };
    Ok(read::aged(&view, answer::json_at(StatusCode::OK, zxid, &body)))
}
