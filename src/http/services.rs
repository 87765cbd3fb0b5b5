use std::collections::BTreeMap;

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
use super::sessions::ListParams;
use super::znodes::ReadParams;
use crate::node::View;
use crate::registry::{
    Consumer, Layout, Provider, consumers_path, providers_path, service_path, services_path,
};
use crate::tree::{Znode, permits};
use crate::types::{Perms, ZnodePath};

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Services)]
pub(crate) struct ServicesBody<'a> {
    /// Sorted by name.
    services: Vec<ServiceSummaryBody<'a>>,
    /// The `after` of the next page, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
    zxid: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ServiceSummary)]
pub(crate) struct ServiceSummaryBody<'a> {
    name: &'a str,
    /// How many providers it has; 0 when the caller may not list them.
    providers: usize,
    /// How many consumers it has; 0 when the caller may not list them.
    consumers: usize,
}

/// Lists the services.
#[utoipa::path(get, path = "/v1/services", tag = "services", params(ListParams),
    responses((status = 200, description = "One page of the services", body = ServicesBody)))]
pub(crate) async fn list_services(
    State(door): State<Door>,
    Params(params): Params<ListParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    let limit = read::page_limit(params.limit)?;
    let root = services_path();
    let after = params.after.map(|name| root.child(&name)).transpose()?;
    let view = read::view(&door, params.consistency, params.min_zxid).await?;
    let zxid = view.tree.zxid();
    // Before the first registration there is nothing, which is a list too.
    let (services, more) = match view.tree.get(root.as_str()) {
        None => (Vec::new(), false),
        Some(_) => {
            let znode = read::readable(&view, root.as_str(), &caller)?;
            let make = |path| (summary(&view, path, &caller), 0);
            match &after {
                None => read::page(znode.children(), limit, make),
                Some(after) => read::page(znode.children_after(after.as_str()), limit, make),
            }
        }
    };
    let next = services.last().filter(|_| more).map(|last| last.name);
    let body = ServicesBody { services, next, zxid: zxid.0 };
    Ok(read::aged(&view, answer::json_at(StatusCode::OK, zxid, &body)))
}

fn summary<'a>(view: &View, service: &'a ZnodePath, caller: &Caller) -> ServiceSummaryBody<'a> {
    let count = |below: &str| {
        let path = format!("{service}/{below}");
        let list = view.tree.readable(&path, &caller.authority);
        list.map_or(0, |znode| znode.num_children())
    };
    ServiceSummaryBody {
        name: service.name(),
        providers: count("providers"),
        consumers: count("consumers"),
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Service)]
pub(crate) struct ServiceBody<'a> {
    name: &'a str,
    /// Sorted by id.
    providers: Vec<ProviderBody<'a>>,
    /// Sorted by id.
    consumers: Vec<ConsumerBody<'a>>,
    /// Znodes among the providers or consumers that are not the JSON expected.
    unparsable: Vec<UnparsableBody<'a>>,
    zxid: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Provider)]
pub(crate) struct ProviderBody<'a> {
    id: &'a str,
    host: String,
    port: u16,
    weight: u32,
    metadata: BTreeMap<String, String>,
    status: String,
    /// Null when its znode is not ephemeral.
    session: Option<String>,
    czxid: u64,
    version: i32,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Consumer)]
pub(crate) struct ConsumerBody<'a> {
    id: &'a str,
    metadata: BTreeMap<String, String>,
    /// Null when its znode is not ephemeral.
    session: Option<String>,
    czxid: u64,
    version: i32,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Unparsable)]
pub(crate) struct UnparsableBody<'a> {
    id: &'a str,
    reason: String,
}

/// Shows a service with its providers and consumers.
#[utoipa::path(get, path = "/v1/services/{name}", tag = "services",
    params(("name" = String, Path, description = "The service's name"), ReadParams),
    responses((status = 200, description = "The service", body = ServiceBody)))]
pub(crate) async fn get_service(
    State(door): State<Door>,
    Segments(name): Segments<String>,
    Params(params): Params<ReadParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    let (service, providers, consumers) =
        (service_path(&name)?, providers_path(&name)?, consumers_path(&name)?);
    let view = read::view(&door, params.consistency, params.min_zxid).await?;
    read::readable(&view, service.as_str(), &caller)?;
    let zxid = view.tree.zxid();
    let mut body = ServiceBody {
        name: &name,
        providers: Vec::new(),
        consumers: Vec::new(),
        unparsable: Vec::new(),
        zxid: zxid.0,
    };
    for (id, parsed, znode) in entries::<Provider>(&view, &providers, &caller)? {
        match parsed {
            Err(reason) => body.unparsable.push(UnparsableBody { id, reason }),
            Ok(Provider { host, port, weight, metadata, status }) => {
                let (session, czxid, version) = origin(znode);
                body.providers.push(ProviderBody {
                    id,
                    host,
                    port,
                    weight,
                    metadata,
                    status,
                    session,
                    czxid,
                    version,
                });
            }
        }
    }
    for (id, parsed, znode) in entries::<Consumer>(&view, &consumers, &caller)? {
        match parsed {
            Err(reason) => body.unparsable.push(UnparsableBody { id, reason }),
            Ok(Consumer { metadata }) => {
                let (session, czxid, version) = origin(znode);
                body.consumers.push(ConsumerBody { id, metadata, session, czxid, version });
            }
        }
    }
    Ok(read::aged(&view, answer::json_at(StatusCode::OK, zxid, &body)))
}

/// Returns the children of a znode that need not exist: the name, what the data says, the znode.
#[allow(clippy::type_complexity, reason = "three values that are taken apart at once")]
fn entries<'a, T: Layout>(
    view: &'a View,
    parent: &ZnodePath,
    caller: &Caller,
) -> Result<Vec<(&'a str, Result<T, String>, &'a Znode)>, Failed> {
    if view.tree.get(parent.as_str()).is_none() {
        return Ok(Vec::new());
    }
    let parent = read::readable(view, parent.as_str(), caller)?;
    let entry = |path: &'a ZnodePath| {
        let znode = view.tree.get(path.as_str())?;
        let parsed = if permits(znode.acl(), &caller.authority, Perms::READ) {
            T::from_data(znode.data().map(|data| &data[..]))
        } else {
            Err("its access control list does not permit to read it".to_owned())
        };
        Some((path.name(), parsed, znode.as_ref()))
    };
    Ok(parent.children().filter_map(entry).collect())
}

/// Returns whose a registration is, when it was made, and how often it changed since.
fn origin(znode: &Znode) -> (Option<String>, u64, i32) {
    let stat = znode.stat();
    (znode.ephemeral_owner().map(|owner| owner.to_string()), stat.czxid.0, stat.version)
}
