use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::Door;
use super::answer;
use super::body::Json;
use super::dto::DoneBody;
use super::error::Failed;
use super::extract::{Caller, Params, Segments};
use super::read::{self, Freshness};
use super::write;
use super::znodes::{NoParams, ReadParams};
use crate::identity::name_of;
use crate::limits::TTL_MS_MAX;
use crate::policy::{self, Kind, Policy, Terms, Wrong};
use crate::tree::{Lifetime, Tree};
use crate::types::{AclId, Code, CreateMode, Data, Error, Failure, Op, ZnodePath};

impl From<Wrong> for Failed {
    fn from(wrong: Wrong) -> Failed {
        Failed::bad_arguments(wrong.to_string())
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct PoliciesParams {
    /// Only those of this kind.
    kind: Option<String>,
    /// How fresh the state must be; `linearizable` when left out.
    #[param(inline)]
    consistency: Option<Freshness>,
    /// Oldest state that may answer.
    min_zxid: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PolicyEntry)]
pub(crate) struct EntryBody {
    #[schema(value_type = String)]
    kind: &'static str,
    name: String,
    /// Whether it is there from the start, without a znode.
    built_in: bool,
    /// The data of its znode.
    policy: Value,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Policies)]
pub(crate) struct PoliciesBody {
    /// Sorted by kind and name.
    policies: Vec<EntryBody>,
    zxid: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Policy)]
pub(crate) struct PolicyBody {
    #[serde(flatten)]
    entry: EntryBody,
    zxid: u64,
}

/// Returns a policy as it is shown; `None` when there is none, or the caller may not read it.
fn entry(tree: &Tree, authority: &[AclId], kind: Kind, name: &str) -> Option<EntryBody> {
    let known = tree.policies().get(kind, name)?;
    let data = match known.is_built_in {
        true => policy::built_in_data(kind, name)?.into_bytes(),
        false => tree.readable(&policy::path_of(kind, name), authority).ok()?.data()?.to_vec(),
    };
    let policy = serde_json::from_slice(&data).ok()?;
    Some(EntryBody {
        kind: kind.name(),
        name: name.to_owned(),
        built_in: known.is_built_in,
        policy,
    })
}

/// Returns the message of `no_node` for a policy.
fn is_none(kind: Kind, name: &str) -> String {
    format!("there is no policy {}/{name}", kind.name())
}

/// Lists the policies, those that are built in among them.
#[utoipa::path(get, path = "/v1/policies", tag = "policies", params(PoliciesParams),
    responses((status = 200, description = "The policies", body = PoliciesBody)))]
pub(crate) async fn list_policies(
    State(door): State<Door>,
    Params(params): Params<PoliciesParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    let only = params.kind.as_deref().map(Kind::parse).transpose()?;
    let view = read::view(&door, params.consistency, params.min_zxid).await?;
    let zxid = view.tree.zxid();
    let all = view.tree.policies().iter().filter(|(kind, _)| only.is_none_or(|only| only == *kind));
    let policies =
        all.filter_map(|(kind, (name, _))| entry(&view.tree, &caller.authority, kind, name));
    let body = PoliciesBody { policies: policies.collect(), zxid: zxid.0 };
    Ok(read::aged(&view, answer::json_at(StatusCode::OK, zxid, &body)))
}

/// Shows a policy.
#[utoipa::path(get, path = "/v1/policies/{kind}/{name}", tag = "policies",
    params(("kind" = String, Path, description = "The kind"), ("name" = String, Path, description = "Its name"),
        ReadParams),
    responses((status = 200, description = "The policy", body = PolicyBody)))]
pub(crate) async fn get_policy(
    State(door): State<Door>,
    Segments((kind, name)): Segments<(String, String)>,
    Params(params): Params<ReadParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    let kind = Kind::parse(&kind)?;
    let view = read::view(&door, params.consistency, params.min_zxid).await?;
    let zxid = view.tree.zxid();
    let is_built_in = view.tree.policies().get(kind, &name).is_some_and(|known| known.is_built_in);
    if !is_built_in {
        read::readable(&view, &policy::path_of(kind, &name), &caller)
            .map_err(|failed| failed.explained(Code::NoNode, || is_none(kind, &name)))?;
    }
    let entry = entry(&view.tree, &caller.authority, kind, &name);
    let entry = entry.ok_or_else(|| {
        let why = is_none(kind, &name);
        Failed::because(Code::NoNode, why).at(zxid)
    })?;
    let body = PolicyBody { entry, zxid: zxid.0 };
    Ok(read::aged(&view, answer::json_at(StatusCode::OK, zxid, &body)))
}

/// What a client wants a policy to be, completed and checked.
pub(super) struct Wanted {
    pub(super) policy: Policy,
    pub(super) data: Data,
    ttl_ms: Option<u64>,
    /// What to look after though it is fine.
    pub(super) warnings: Vec<String>,
}

/// Returns that a policy can never act on this node as it is configured.
fn warnings(door: &Door, policy: &Policy) -> Vec<String> {
    let Terms::Probe(probing) = &policy.terms else { return Vec::new() };
    if door.node().may_probe(probing.networks()) {
        return Vec::new();
    }
    let node = door.node().id();
    vec![format!(
        "networks: node {node} probes none of them while it leads, for none is within the [probe] networks of its configuration"
    )]
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PolicySet)]
pub(crate) struct SetBody {
    /// What to look after though it holds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    zxid: u64,
}

/// Adds to a client's policy what is not the client's to say: when it is set, by whom if that is not said, and when it will
/// end when it is to live for `ttl_s`.
pub(super) fn complete(
    door: &Door,
    caller: &Caller,
    (kind, name): (Kind, &str),
    mut fields: Map<String, Value>,
) -> Result<Wanted, Failed> {
    // No policy could be kept under a name that is none.
    ZnodePath::parse(policy::ROOT)?.child(name)?;
    let wall_ms = door.node().wall_ms();
    for own in ["set_at_ms", "expires_at_ms"] {
        if fields.contains_key(own) {
            return Err(Wrong::new(own, "the node that takes the policy sets it: say ttl_s").into());
        }
    }
    let ttl_ms = match fields.remove("ttl_s").filter(|ttl| !ttl.is_null()) {
        None => None,
        Some(ttl) => match ttl.as_u64().filter(|s| (1..=TTL_MS_MAX / 1000).contains(s)) {
            Some(seconds) => Some(seconds * 1000),
            None => {
                let why = format!("{ttl} is not a whole number from 1 to {}", TTL_MS_MAX / 1000);
                return Err(Wrong::new("ttl_s", why).into());
            }
        },
    };
    fields.entry("set_by").or_insert_with(|| Value::from(name_of(&caller.authority)));
    fields.insert("set_at_ms".to_owned(), Value::from(wall_ms));
    if let Some(ttl_ms) = ttl_ms {
        fields.insert("expires_at_ms".to_owned(), Value::from(wall_ms.saturating_add(ttl_ms)));
    }
    let data = serde_json::to_vec(&fields).expect("JSON that was parsed is JSON");
    let policy = Policy::parse(kind, &data)?;
    policy::check_sense(kind, name, &data)?;
    policy::check_end(kind, &policy, ttl_ms.is_some())?;
    let warnings = warnings(door, &policy);
    Ok(Wanted { policy, data: Data::new(&data), ttl_ms, warnings })
}

/// Sets a policy; with `ttl_s` it goes by itself. It holds everywhere from the zxid of the answer on.
#[utoipa::path(put, path = "/v1/policies/{kind}/{name}", tag = "policies",
    params(("kind" = String, Path, description = "The kind"), ("name" = String, Path, description = "Its name")),
    request_body(content = serde_json::Value, description = "The policy; docs/PROTECTION.md has the fields"),
    responses((status = 200, description = "It holds", body = SetBody)))]
pub(crate) async fn set_policy(
    State(door): State<Door>,
    Segments((kind, name)): Segments<(String, String)>,
    Params(NoParams {}): Params<NoParams>,
    caller: Caller,
    Json(fields): Json<Map<String, Value>>,
) -> Result<Response, Failed> {
    let kind = Kind::parse(&kind)?;
    let parent = ZnodePath::parse(policy::ROOT)?.child(kind.name())?;
    let path = parent.child(&name)?;
    let Wanted { data, ttl_ms, warnings, .. } = complete(&door, &caller, (kind, &name), fields)?;
    let plan = |tree: &Tree| {
        let mut ops = write::missing(tree, [&parent]);
        let present = tree.get(path.as_str());
        let data = Some(data.clone());
        let ttl = present.map(|znode| match znode.lifetime() {
            Lifetime::Ttl { ttl_ms, .. } => Some(ttl_ms),
            _ => None,
        });
        if ttl == Some(ttl_ms) {
            ops.push(Op::SetData { path: path.clone(), data, version: None });
            return Ok(write::together(ops));
        }
        // A znode cannot change how long it lives: another takes its place, under the same rules.
        let mode = ttl_ms.map_or(CreateMode::Persistent, CreateMode::Ttl);
        let above = || tree.rules_below(&parent);
        let acl = present.map_or_else(above, |znode| znode.acl().to_vec());
        ops.extend(present.map(|_| Op::Delete { path: path.clone(), version: None }));
        ops.push(Op::Create { parent: parent.clone(), name: name.clone(), data, acl, mode });
        Ok(write::together(ops))
    };
    let settle = |failure: &Failure, _: &Tree| match failure.code {
        Code::NoNode | Code::NodeExists => None,
        code => Some(Failed::code(code)),
    };
    let (_, zxid) = write::submit_planned(&door, &caller, plan, settle).await?;
    Ok(answer::json_at(StatusCode::OK, zxid, &SetBody { warnings, zxid: zxid.0 }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct RemoveParams {
    /// Why, for people: it is in the audit.
    reason: Option<String>,
}

/// Removes a policy; a built-in one of its name holds again.
#[utoipa::path(delete, path = "/v1/policies/{kind}/{name}", tag = "policies",
    params(("kind" = String, Path, description = "The kind"), ("name" = String, Path, description = "Its name"),
        RemoveParams),
    responses((status = 200, description = "It holds no more", body = DoneBody)))]
pub(crate) async fn remove_policy(
    State(door): State<Door>,
    Segments((kind, name)): Segments<(String, String)>,
    Params(RemoveParams { reason }): Params<RemoveParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    let kind = Kind::parse(&kind)?;
    let caller = caller.saying(reason.as_deref())?;
    let is_built_in =
        |tree: &Tree| tree.policies().get(kind, &name).is_some_and(|known| known.is_built_in);
    if is_built_in(&door.node().local()) {
        let why = format!(
            "{name} is built in: set a policy of this name instead, with the max_ratio 1 or for a while off"
        );
        return Err(Error::Refused(why).into());
    }
    let path = ZnodePath::parse(&policy::path_of(kind, &name))?;
    let removed = write::submit(&door, caller, Op::Delete { path, version: None }).await;
    let explained = |failed: Failed| failed.explained(Code::NoNode, || is_none(kind, &name));
    let (_, zxid) = removed.map_err(explained)?;
    Ok(answer::json_at(StatusCode::OK, zxid, &DoneBody { zxid: zxid.0 }))
}
