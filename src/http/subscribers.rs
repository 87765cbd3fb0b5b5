use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Door;
use super::answer;
use super::error::Failed;
use super::extract::{Caller, Params, Segments};
use super::read::{self, Freshness};
use super::service_view::{self, ServiceView};
use super::service_wanted::Wanted;
use crate::limits::SUBSCRIBED_LISTS_MAX;
use crate::tree::Tree;
use crate::types::{Code, ZnodePath};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubscribersParams {
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
#[schema(as = Subscribers)]
pub(crate) struct SubscribersBody<'a> {
    /// The latest change of the providers.
    revision: u64,
    /// By list, then by node.
    subscribers: Vec<SubscriberBody<'a>>,
    /// Whether there are more, which are left out.
    more: bool,
    /// Nodes that do not answer.
    unknown: Vec<u64>,
    zxid: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Subscriber)]
pub(crate) struct SubscriberBody<'a> {
    /// The list that it follows: who follows several is there for each.
    list: &'a str,
    node: u64,
    /// The session of a ZooKeeper client that watches the list; null for a stream.
    session: Option<String>,
    /// It has been told of everything that concerns it up to here, at least.
    upto: u64,
    /// Whether it has been told of the latest change of the list.
    has_seen: bool,
}

/// Lists who follows a service's providers, in whatever layouts they are, on all nodes, and how far each has been told.
#[utoipa::path(get, path = "/v1/services/{name}/subscribers", tag = "services",
    params(("name" = String, Path, description = "The service's name"), SubscribersParams),
    responses((status = 200, description = "Who follows it", body = SubscribersBody)))]
pub(crate) async fn get_subscribers(
    State(door): State<Door>,
    Segments(name): Segments<String>,
    Params(params): Params<SubscribersParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    let view = read::view(&door, params.consistency, params.min_zxid).await?;
    let (tree, zxid) = (&view.tree, view.tree.zxid());
    let wanted = Wanted { namespace: params.namespace, service: name, ..Wanted::default() };
    service_view::admit(&door, &caller, tree, &wanted)?;
    service_view::admit_first(&door, &caller, tree, &wanted)?;
    let lists = ServiceView::of(tree, &caller.authority, wanted)?.followed_lists();
    if lists.is_empty() {
        return Err(Failed::code(Code::NoNode).at(zxid));
    }
    let asked = lists.iter().take(SUBSCRIBED_LISTS_MAX);
    let found = join_all(asked.map(|list| door.node().followers(list))).await;
    let mut body = SubscribersBody {
        revision: 0,
        subscribers: Vec::new(),
        more: lists.len() > SUBSCRIBED_LISTS_MAX,
        unknown: Vec::new(),
        zxid: zxid.0,
    };
    for (list, found) in lists.into_iter().zip(found) {
        let changed = changed_at(tree, list);
        body.revision = body.revision.max(changed);
        body.more |= found.more;
        body.unknown.extend(found.unknown);
        body.subscribers.extend(found.all.iter().map(|follower| SubscriberBody {
            list: list.as_str(),
            node: follower.node,
            session: follower.session.map(|session| session.to_string()),
            upto: follower.upto.0,
            has_seen: follower.upto.0 >= changed,
        }));
    }
    body.unknown.sort_unstable();
    body.unknown.dedup();
    Ok(read::aged(&view, answer::json_at(StatusCode::OK, zxid, &body)))
}

/// Returns the zxid of the latest change of a list or of one of its entries.
fn changed_at(tree: &Tree, list: &ZnodePath) -> u64 {
    let Some(znode) = tree.get(list.as_str()) else { return 0 };
    let entries = znode.children().filter_map(|path| tree.get(path.as_str()));
    entries.map(|znode| znode.stat().mzxid.0).fold(znode.stat().pzxid.0, u64::max)
}
