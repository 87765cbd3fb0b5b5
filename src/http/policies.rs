use std::net::IpAddr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::Door;
use super::answer;
use super::dto::DoneBody;
use super::error::Failed;
use super::extract::{Caller, Json, Params, Segments};
use super::read::{self, Freshness};
use super::write;
use super::znodes::{NoParams, ReadParams};
use crate::limits::{POLICY_TEST_ZNODES_MAX, TTL_MS_MAX};
use crate::policy::{self, Kind, Notify, Pattern, Policies, Policy, Proposed, Terms, Wrong};
use crate::tree::{Lifetime, Tree};
use crate::types::{AclId, Code, CreateMode, Data, Failure, Op, ZnodePath};

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
    tree.policies().get(kind, name)?;
    let data = tree.readable(&policy::path_of(kind, name), authority).ok()?.data()?;
    let policy = serde_json::from_slice(data).ok()?;
    Some(EntryBody { kind: kind.name(), name: name.to_owned(), policy })
}

/// Lists the policies.
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
    read::readable(&view, &policy::path_of(kind, &name), &caller)?;
    let entry = entry(&view.tree, &caller.authority, kind, &name);
    let entry = entry.ok_or_else(|| Failed::code(Code::NoNode).at(zxid))?;
    let body = PolicyBody { entry, zxid: zxid.0 };
    Ok(read::aged(&view, answer::json_at(StatusCode::OK, zxid, &body)))
}

/// What a client wants a policy to be, completed and checked.
struct Wanted {
    policy: Policy,
    data: Data,
    ttl_ms: Option<u64>,
}

/// Adds to a client's policy what is not the client's to say: when it is set, by whom if that is not said, and when it will
/// end when it is to live for `ttl_s`.
fn complete(
    door: &Door,
    caller: &Caller,
    kind: Kind,
    mut fields: Map<String, Value>,
) -> Result<Wanted, Failed> {
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
    if kind.must_end() && ttl_ms.is_none() {
        let why = "it is missing: a policy of this kind has to end by itself";
        return Err(Wrong::new("ttl_s", why).into());
    }
    fields.entry("set_by").or_insert_with(|| Value::from(name_of(&caller.authority)));
    fields.insert("set_at_ms".to_owned(), Value::from(wall_ms));
    if let Some(ttl_ms) = ttl_ms {
        fields.insert("expires_at_ms".to_owned(), Value::from(wall_ms.saturating_add(ttl_ms)));
    }
    let data = serde_json::to_vec(&fields).expect("JSON that was parsed is JSON");
    let policy = Policy::parse(kind, &data)?;
    Ok(Wanted { policy, data: Data::new(&data), ttl_ms })
}

/// Returns who somebody is, for people: the name of what was proved, or the address.
fn name_of(authority: &[AclId]) -> String {
    let proved = authority.iter().find(|id| id.scheme == "digest").map(|id| {
        let name = id.id.split(':').next().unwrap_or_default();
        format!("digest:{name}")
    });
    let address =
        || authority.iter().find(|id| id.scheme == "ip").map(|id| format!("ip:{}", id.id));
    proved.or_else(address).unwrap_or_else(|| "nobody".to_owned())
}

/// Sets a policy; with `ttl_s` it goes by itself. It holds everywhere from the zxid of the answer on.
#[utoipa::path(put, path = "/v1/policies/{kind}/{name}", tag = "policies",
    params(("kind" = String, Path, description = "The kind"), ("name" = String, Path, description = "Its name")),
    request_body(content = serde_json::Value, description = "The policy; docs/PROTECTION.md has the fields"),
    responses((status = 200, description = "It holds", body = DoneBody)))]
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
    let Wanted { data, ttl_ms, .. } = complete(&door, &caller, kind, fields)?;
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
        let acl = present.map(|znode| znode.acl().to_vec()).unwrap_or_default();
        ops.extend(present.map(|_| Op::Delete { path: path.clone(), version: None }));
        ops.push(Op::Create { parent: parent.clone(), name: name.clone(), data, acl, mode });
        Ok(write::together(ops))
    };
    let settle = |failure: &Failure, _: &Tree| match failure.code {
        Code::NoNode | Code::NodeExists => None,
        code => Some(Failed::code(code)),
    };
    let (_, zxid) = write::submit_planned(&door, &caller, plan, settle).await?;
    Ok(answer::json_at(StatusCode::OK, zxid, &DoneBody { zxid: zxid.0 }))
}

/// Removes a policy.
#[utoipa::path(delete, path = "/v1/policies/{kind}/{name}", tag = "policies",
    params(("kind" = String, Path, description = "The kind"), ("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "It holds no more", body = DoneBody)))]
pub(crate) async fn remove_policy(
    State(door): State<Door>,
    Segments((kind, name)): Segments<(String, String)>,
    Params(NoParams {}): Params<NoParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    let kind = Kind::parse(&kind)?;
    let path = ZnodePath::parse(&policy::path_of(kind, &name))?;
    let (_, zxid) = write::submit(&door, caller, Op::Delete { path, version: None }).await?;
    Ok(answer::json_at(StatusCode::OK, zxid, &DoneBody { zxid: zxid.0 }))
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = PolicyTest)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestBody {
    kind: String,
    /// Under which name it would be set; `test` when left out.
    name: Option<String>,
    /// The policy to try. Without it the present ones are asked.
    #[schema(value_type = Option<Object>)]
    policy: Option<Map<String, Value>>,
    /// A write to ask the policies of admission about.
    write: Option<ProposedBody>,
}

/// A write that somebody might propose.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ProposedWrite)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProposedBody {
    path: String,
    /// The data as text.
    data: Option<String>,
    /// From which address; the caller's own when left out.
    #[schema(value_type = Option<String>)]
    address: Option<IpAddr>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PolicyTested)]
pub(crate) struct TestedBody {
    /// Of a policy to try: how many znodes its pattern matches now.
    #[serde(skip_serializing_if = "Option::is_none")]
    matches: Option<usize>,
    /// Whether there are more, which were not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<bool>,
    /// The first of them.
    examples: Vec<String>,
    /// Of a policy of the kind `notify`: what it would spread.
    #[serde(skip_serializing_if = "Option::is_none")]
    spread: Option<SpreadBody>,
    /// Of a write: why it would not be allowed; null when it would be.
    denied: Option<DenialBody>,
    zxid: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Spread)]
pub(crate) struct SpreadBody {
    /// Waves until everybody has been told.
    waves: u64,
    /// Time that they take together, ms.
    round_ms: u64,
    /// ZooKeeper connections of this node that watch a path which the pattern matches.
    connections: usize,
    /// Subscriptions of this node that do.
    subscriptions: usize,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Denial)]
pub(crate) struct DenialBody {
    /// The policy, and behind a slash the rule.
    rule: String,
    why: String,
    /// Whether it would be refused, and not only logged.
    enforced: bool,
}

/// Checks a policy and tells what it would do now, without setting it; or asks the present ones about a write.
#[utoipa::path(post, path = "/v1/policies/test", tag = "policies", request_body = TestBody,
    responses((status = 200, description = "What it would do", body = TestedBody)))]
pub(crate) async fn test_policy(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
    caller: Caller,
    Json(body): Json<TestBody>,
) -> Result<Response, Failed> {
    let kind = Kind::parse(&body.kind)?;
    let tried = body.policy.map(|fields| complete(&door, &caller, kind, fields)).transpose()?;
    let view = read::view(&door, None, None).await?;
    let tree = &view.tree;
    let mut policies: Policies = tree.policies().clone();
    let mut answer = TestedBody {
        matches: None,
        more: None,
        examples: Vec::new(),
        spread: None,
        denied: None,
        zxid: tree.zxid().0,
    };
    if let Some(Wanted { policy, .. }) = tried {
        let (matches, more, examples) = matched(tree, &policy.pattern);
        (answer.matches, answer.more, answer.examples) = (Some(matches), Some(more), examples);
        if let Terms::Notify(Notify { waves, interval_ms, .. }) = policy.terms {
            let (connections, subscriptions) = door.node().listeners(&policy.pattern);
            let round_ms = waves * interval_ms;
            answer.spread = Some(SpreadBody { waves, round_ms, connections, subscriptions });
        }
        policies.set(kind, body.name.as_deref().unwrap_or("test"), policy);
    }
    if let Some(write) = &body.write {
        answer.denied = ask(&policies, &caller.authority, write)?;
    }
    Ok(answer::json_at(StatusCode::OK, tree.zxid(), &answer))
}

/// Returns how many znodes a pattern matches, whether there may be more, and the first of them.
fn matched(tree: &Tree, pattern: &Pattern) -> (usize, bool, Vec<String>) {
    let top = tree.get(pattern.prefix()).map(|_| pattern.prefix().to_string());
    let below = tree.descendants(pattern.prefix()).map(|(path, _)| path.to_string());
    let mut all = top.into_iter().chain(below);
    let (mut count, mut examples) = (0, Vec::new());
    for path in all.by_ref().take(POLICY_TEST_ZNODES_MAX).filter(|path| pattern.matches(path)) {
        count += 1;
        if examples.len() < EXAMPLES_MAX {
            examples.push(path);
        }
    }
    (count, all.next().is_some(), examples)
}

/// Znodes that the answer to a test names.
const EXAMPLES_MAX: usize = 10;

fn ask(
    policies: &Policies,
    authority: &[AclId],
    write: &ProposedBody,
) -> Result<Option<DenialBody>, Failed> {
    let path = ZnodePath::parse(&write.path)?;
    let mut authority = authority.to_vec();
    if let Some(address) = write.address {
        authority.retain(|id| id.scheme != "ip");
        authority.push(crate::identity::of_address(address));
    }
    let data = write.data.as_ref().map(|text| text.as_bytes());
    let is_folder = data.is_none_or(<[u8]>::is_empty);
    let proposed = Proposed { path: path.as_str(), data, is_folder, authority: &authority };
    let denial = policy::denial(policies, &proposed);
    Ok(denial.map(|denial| DenialBody {
        rule: denial.rule,
        why: denial.why,
        enforced: denial.is_enforced,
    }))
}
