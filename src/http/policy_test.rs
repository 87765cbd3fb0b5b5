use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Door;
use super::answer;
use super::body::Json;
use super::error::Failed;
use super::extract::{Caller, Params};
use super::policies::{Wanted, complete};
use super::protection::StandingBody;
use super::read;
use super::watch;
use super::write;
use super::znodes::NoParams;
use crate::limits::POLICY_TEST_ZNODES_MAX;
use crate::node;
use crate::policy::{
    self, Asked, Denial, Kind, Layout, Mode, Notify, Pattern, Policies, Policy, Proposed, Terms,
    Verdict,
};
use crate::registry::{self, CustomLayout, Instance, Layouts};
use crate::tree::{Standing, Tree};
use crate::types::{AclId, CreateMode, Data, Op, Origin, SessionId, Txn, ZnodePath};

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
    /// A subscription to ask them about.
    follow: Option<FollowBody>,
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

/// A path that somebody might follow.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ProposedSubscription)]
#[serde(deny_unknown_fields)]
pub(crate) struct FollowBody {
    path: String,
    /// `data`, `children`, `children_data` (when left out) or `subtree`.
    kind: Option<String>,
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
    /// Of overrides: what they would change, the first of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<ChangeBody>,
    /// Of a policy about disconnecting: the sessions which would have only a grace, the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sessions: Vec<GraceBody>,
    /// Of a policy of removal: how the first services that its pattern matches would stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    services: Option<Vec<StandingBody>>,
    /// Of a layout: how the first entries would be read, and the `write`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entries: Vec<ReadBody>,
    /// Of a policy of the kind `notify`: what it would spread.
    #[serde(skip_serializing_if = "Option::is_none")]
    spread: Option<SpreadBody>,
    /// Of a write or a subscription: why it would not be allowed; null when it would be.
    denied: Option<DenialBody>,
    /// Of a write: how many places of the index of policies, networks and rules it is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    compared: Option<usize>,
    zxid: u64,
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

/// What overrides would do to a znode.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OverrideChange)]
pub(crate) struct ChangeBody {
    path: String,
    /// `set`, `create` or `delete`.
    op: &'static str,
    /// Its data now, as text; null without.
    before: Option<String>,
    /// Its data then.
    after: Option<String>,
}

/// How an entry of a layout would be read.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LayoutEntry)]
pub(crate) struct ReadBody {
    path: String,
    /// Null where the path is none of an entry.
    service: Option<String>,
    namespace: Option<String>,
    group: Option<String>,
    /// `host:port`; null where it describes no instance.
    address: Option<String>,
    weight: Option<u32>,
    status: Option<String>,
    metadata: BTreeMap<String, String>,
    /// Why it describes none.
    reason: Option<String>,
}

/// How the news of changes would be spread.
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

/// For how long a session would live on after its client has ended its connection.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SessionGrace)]
pub(crate) struct GraceBody {
    session: String,
    grace_ms: u32,
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
        changes: Vec::new(),
        sessions: Vec::new(),
        services: None,
        entries: Vec::new(),
        spread: None,
        denied: None,
        compared: None,
        zxid: tree.zxid().0,
    };
    if let Some(wanted) = tried {
        let name = body.name.as_deref().unwrap_or("test");
        let (matches, more, examples) = matched(tree, &wanted.policy.pattern);
        (answer.matches, answer.more, answer.examples) = (Some(matches), Some(more), examples);
        match kind {
            Kind::Overrides => answer.changes = changes(tree, &caller.authority, name, &wanted)?,
            Kind::Disconnect => answer.sessions = graces(&with_policy(tree, kind, name, &wanted)?),
            Kind::Removal => {
                answer.services = standings(tree, name, &wanted.policy, &answer.examples);
            }
            Kind::Notify => answer.spread = spread(&door, &wanted.policy),
            Kind::Layout => {
                answer.entries =
                    entries(tree, &caller.authority, name, &wanted.policy, body.write.as_ref())?;
            }
            Kind::Admission | Kind::Probe => {}
        }
        policies.set(kind, name, wanted.policy);
    }
    if let Some(write) = &body.write {
        let verdict = weigh(&policies, &caller.authority, write)?;
        (answer.denied, answer.compared) = (verdict.denial.map(shown), Some(verdict.compared));
    }
    if let Some(follow) = &body.follow {
        let denied = follow_denied(&policies, &caller.authority, follow)?.map(shown);
        answer.denied = answer.denied.or(denied);
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
/// Changes and sessions that it names.
const CONCERNED_MAX: usize = 100;

/// Returns the state as it would be with a policy; one that only observes acts in it.
fn with_policy(tree: &Tree, kind: Kind, name: &str, wanted: &Wanted) -> Result<Tree, Failed> {
    let path = ZnodePath::parse(&policy::path_of(kind, name))?;
    let parent = path.parent().ok_or_else(|| Failed::bad_arguments("name"))?;
    let mut data = wanted.data.clone();
    if wanted.policy.mode == Mode::Observe {
        let mut fields: Map<String, Value> =
            serde_json::from_slice(&data).map_err(|why| Failed::bad_arguments(why.to_string()))?;
        fields.remove("mode");
        data = Data::new(Value::Object(fields).to_string().as_bytes());
    }
    let mut ops = write::missing(tree, [&parent]);
    let before = tree.get(path.as_str()).map(|_| Op::Delete { path: path.clone(), version: None });
    ops.extend(before);
    // That it may end is checked already.
    let mode = CreateMode::Ttl(1);
    let name = name.to_owned();
    ops.push(Op::Create { parent, name, data: Some(data), acl: Vec::new(), mode });
    let txn = Txn {
        origin: Origin::default(),
        session: SessionId::NONE,
        owner: None,
        authority: vec![AclId { scheme: "super".to_owned(), id: String::new() }],
        idempotency_key: None,
        op: Op::Multi(ops),
    };
    let mut tried = tree.clone();
    tried.apply(tree.time(), &txn);
    Ok(tried)
}

/// Returns what overrides would change of what the caller may read.
fn changes(
    tree: &Tree,
    authority: &[AclId],
    name: &str,
    wanted: &Wanted,
) -> Result<Vec<ChangeBody>, Failed> {
    let tried = with_policy(tree, Kind::Overrides, name, wanted)?;
    let ops = node::planned_effects(&tried).into_iter().flat_map(|op| match op {
        Op::Multi(ops) => ops,
        op => vec![op],
    });
    let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
    let change = |op| {
        let (op, path, after) = match op {
            Op::SetData { path, data, .. } => ("set", path, data),
            Op::Delete { path, .. } => ("delete", path, None),
            Op::Create { parent, name, data, .. } => ("create", parent.child(&name).ok()?, data),
            _ => return None,
        };
        let before = tree.get(path.as_str()).and_then(|znode| znode.data());
        let is_shown = !path.as_str().starts_with("/roost/")
            && (op == "create" || tree.readable(path.as_str(), authority).is_ok());
        let (before, after) = (before.map(|data| text(data)), after.map(|data| text(&data)));
        is_shown.then(|| ChangeBody { path: path.to_string(), op, before, after })
    };
    Ok(ops.filter_map(change).take(CONCERNED_MAX).collect())
}

/// Returns the sessions of which a policy says how long they live on.
fn graces(tried: &Tree) -> Vec<GraceBody> {
    let sessions = tried.sessions().take(POLICY_TEST_ZNODES_MAX);
    let graces = sessions.filter_map(|(session, _)| {
        let grace_ms = node::grace_ms(tried, session)?;
        Some(GraceBody { session: session.to_string(), grace_ms })
    });
    graces.take(CONCERNED_MAX).collect()
}

/// Returns how services would stand under a policy of removal.
fn standings(
    tree: &Tree,
    name: &str,
    policy: &Policy,
    services: &[String],
) -> Option<Vec<StandingBody>> {
    let Terms::Removal(removal) = &policy.terms else { return None };
    let mode = policy.mode;
    let standing = |service: &String| {
        let (present, lost) = tree.providers(service, tree.cluster_ms());
        StandingBody::new(service, &Standing { policy: name, removal, mode, present, lost })
    };
    Some(services.iter().map(standing).collect())
}

/// Returns how entries would be read in a layout: of those that there are the first which the caller may read, and a write.
fn entries(
    tree: &Tree,
    authority: &[AclId],
    name: &str,
    policy: &Policy,
    write: Option<&ProposedBody>,
) -> Result<Vec<ReadBody>, Failed> {
    let Terms::Layout(Layout { template, reading }) = &policy.terms else {
        return Ok(Vec::new());
    };
    let (name, template, reading) = (Arc::from(name), template.clone(), reading.clone());
    let layouts = Layouts::new([Arc::new(CustomLayout { name, template, reading })], tree.zxid());
    let below = tree.descendants(policy.pattern.prefix()).take(POLICY_TEST_ZNODES_MAX);
    let there = below.filter(|(path, _)| {
        policy.pattern.matches(path.as_str()) && tree.readable(path.as_str(), authority).is_ok()
    });
    let there =
        there.map(|(path, znode)| read_entry(&layouts, path, znode.data().map(|data| &data[..])));
    let mut entries: Vec<ReadBody> = there.take(CONCERNED_MAX).collect();
    if let Some(write) = write {
        let path = ZnodePath::parse(&write.path)?;
        entries.push(read_entry(&layouts, &path, write.data.as_deref().map(str::as_bytes)));
    }
    Ok(entries)
}

fn read_entry(layouts: &Layouts, path: &ZnodePath, data: Option<&[u8]>) -> ReadBody {
    let list = layouts.entry_at(path).map(|(list, _)| list);
    let read = list.as_ref().ok_or_else(|| "its path is none of an entry".to_owned());
    let read = read.and_then(|list| registry::instance(list, path.name(), data));
    let (instance, reason) = match read {
        Ok(instance) => (Some(instance), None),
        Err(reason) => (None, Some(reason)),
    };
    ReadBody {
        path: path.to_string(),
        service: list.as_ref().map(|list| list.service.to_string()),
        namespace: list.as_ref().map(|list| list.namespace.to_owned()),
        group: instance.as_ref().and_then(|it| it.group.clone()),
        address: instance.as_ref().map(Instance::addr),
        weight: instance.as_ref().map(|it| it.weight),
        status: instance.as_ref().map(|it| it.status.clone()),
        metadata: instance.map(|it| it.metadata).unwrap_or_default(),
        reason,
    }
}

/// Returns what a policy of the kind `notify` would spread on this node.
fn spread(door: &Door, policy: &Policy) -> Option<SpreadBody> {
    let Terms::Notify(Notify { waves, interval_ms, .. }) = policy.terms else { return None };
    let (connections, subscriptions) = door.node().listeners(&policy.pattern);
    Some(SpreadBody { waves, round_ms: waves * interval_ms, connections, subscriptions })
}

/// Returns whom a caller would prove to be from another address.
fn from(authority: &[AclId], address: Option<IpAddr>) -> Vec<AclId> {
    let mut authority = authority.to_vec();
    if let Some(address) = address {
        authority.retain(|id| id.scheme != "ip");
        authority.push(crate::identity::of_address(address));
    }
    authority
}

fn weigh(
    policies: &Policies,
    authority: &[AclId],
    write: &ProposedBody,
) -> Result<Verdict, Failed> {
    let path = ZnodePath::parse(&write.path)?;
    let authority = from(authority, write.address);
    let data = write.data.as_ref().map(|text| text.as_bytes());
    let is_folder = data.is_none_or(<[u8]>::is_empty);
    let proposed = Proposed { path: path.as_str(), data, is_folder, authority: &authority };
    Ok(policy::weighed(policies, &proposed))
}

fn follow_denied(
    policies: &Policies,
    authority: &[AclId],
    follow: &FollowBody,
) -> Result<Option<Denial>, Failed> {
    let path = ZnodePath::parse(&follow.path)?;
    let kind = watch::kind(follow.kind.as_deref().unwrap_or("children_data"))?;
    let authority = from(authority, follow.address);
    let asked = Asked { path: path.as_str(), reach: node::reach_of(kind), authority: &authority };
    Ok(policy::following_denial(policies, &asked))
}

fn shown(denial: Denial) -> DenialBody {
    DenialBody { rule: denial.rule, why: denial.why, enforced: denial.is_enforced }
}
