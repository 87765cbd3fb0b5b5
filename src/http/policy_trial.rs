use std::net::IpAddr;

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
use super::policies::complete;
use super::policy_effect::{
    ChangeBody, GraceBody, ReadBody, Sight, SpreadBody, changes, entries, graces, matched, spread,
    standings, with_policy,
};
use super::protection::StandingBody;
use super::read;
use super::watch;
use super::znodes::NoParams;
use crate::node;
use crate::policy::{self, Asked, Denial, Kind, Policies, Proposed, Verdict};
use crate::types::{AclId, ZnodePath};

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
    /// Of a policy to try: how many znodes that the caller may see its pattern matches now.
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
    /// What to look after though the policy is fine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
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
    let name = body.name.as_deref().unwrap_or("test");
    let tried = body.policy.map(|fields| complete(&door, &caller, (kind, name), fields));
    let tried = tried.transpose()?;
    let view = read::view(&door, None, None).await?;
    let tree = &view.tree;
    let sight = Sight { tree, authority: &caller.authority };
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
        warnings: Vec::new(),
        denied: None,
        compared: None,
        zxid: tree.zxid().0,
    };
    if let Some(wanted) = tried {
        let (matches, more, examples) = matched(&sight, &wanted.policy.pattern);
        (answer.matches, answer.more, answer.examples) = (Some(matches), Some(more), examples);
        let set = (&wanted.policy, &wanted.data);
        match kind {
            Kind::Overrides => answer.changes = changes(&sight, name, set)?,
            Kind::Disconnect => answer.sessions = graces(&with_policy(tree, (kind, name), set)?),
            Kind::Removal => {
                answer.services = standings(tree, name, &wanted.policy, &answer.examples);
            }
            Kind::Notify => answer.spread = spread(&door, &wanted.policy),
            Kind::Layout => {
                let write = body.write.as_ref().map(|it| (it.path.as_str(), it.data.as_deref()));
                answer.entries = entries(&sight, name, &wanted.policy, write)?;
            }
            Kind::Admission | Kind::Probe => {}
        }
        answer.warnings = wanted.warnings;
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
