use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Door;
use super::answer;
use super::error::Failed;
use super::extract::{Caller, Params};
use super::read;
use crate::identity::permits;
use crate::limits::AUDIT_LINES_MAX;
use crate::node::AuditLine;
use crate::tree::Tree;
use crate::types::{AclId, Perms, ZnodePath};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditParams {
    /// Only lines behind the one of this number: the `next` of the answer before.
    #[serde(default)]
    after: u64,
    /// Most lines in the answer; 10000 when left out, which is also the most that it may be.
    limit: Option<usize>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Audit)]
pub(crate) struct AuditBody {
    /// The oldest first.
    lines: Vec<LineBody>,
    /// The `after` of the next request.
    next: u64,
    zxid: u64,
}

/// What was done or tried; docs/OPERATIONS.md explains the fields.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditLine)]
pub(crate) struct LineBody {
    /// Its number on this node since that started.
    seq: u64,
    /// The transaction; of a denial, the state that was asked.
    zxid: u64,
    /// Wall clock, ms since 1970.
    at_ms: u64,
    /// Through which node it came.
    node: u64,
    /// Whom the client had proved to be.
    who: Vec<String>,
    session: Option<String>,
    op: &'static str,
    path: String,
    set_by: Option<String>,
    reason: Option<String>,
    result: &'static str,
    /// Of a denial: the policy, and behind a slash its rule.
    rule: Option<String>,
    why: Option<String>,
}

/// Tells who has switched what, and who was turned away, as this node has it in memory.
#[utoipa::path(get, path = "/v1/audit", tag = "policies", params(AuditParams),
    responses((status = 200, description = "The lines that are kept", body = AuditBody)))]
pub(crate) async fn get_audit(
    State(door): State<Door>,
    Params(params): Params<AuditParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    let limit = read::page_limit(params.limit)?;
    let tree = door.node().local();
    let found = door.node().audit_after(params.after, 2 * AUDIT_LINES_MAX);
    let mut next = params.after;
    let (lines, _) = read::page(found.iter(), limit, |line| {
        next = line.seq;
        let body = may_read(&tree, &caller.authority, &line.path).then(|| body(line));
        (body, line.path.len())
    });
    let lines = lines.into_iter().flatten().collect();
    let body = AuditBody { lines, next, zxid: tree.zxid().0 };
    Ok(answer::json_at(StatusCode::OK, tree.zxid(), &body))
}

/// Returns whether somebody may read a znode, or the nearest that there is above it.
fn may_read(tree: &Tree, authority: &[AclId], path: &str) -> bool {
    let Ok(path) = ZnodePath::parse(path) else { return false };
    let nearest = path.self_and_ancestors().find_map(|path| tree.get(path));
    nearest.is_some_and(|znode| permits(znode.acl(), authority, Perms::READ))
}

fn body(line: &AuditLine) -> LineBody {
    let line = line.clone();
    LineBody {
        seq: line.seq,
        zxid: line.zxid,
        at_ms: line.at_ms,
        node: line.node,
        who: line.who,
        session: line.session,
        op: line.op,
        path: line.path,
        set_by: line.set_by,
        reason: line.reason,
        result: line.result,
        rule: line.rule,
        why: line.why,
    }
}
