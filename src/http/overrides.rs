use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::Door;
use super::answer;
use super::error::Failed;
use super::extract::{Caller, Params};
use super::read::{self, Freshness};
use crate::traffic::{EFFECTS, Effect};
use crate::types::ZnodePath;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct EffectsParams {
    /// Only znodes at or below this path.
    below: Option<String>,
    /// Most items in the answer; 10000 when left out, which is also the most that it may be.
    limit: Option<usize>,
    /// Begin after this one: the `next` of the page before.
    after: Option<String>,
    /// How fresh the state must be; `linearizable` when left out.
    #[param(inline)]
    consistency: Option<Freshness>,
    /// Oldest state that may answer.
    min_zxid: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Effects)]
pub(crate) struct EffectsBody {
    /// Ordered by path.
    effects: Vec<EffectBody>,
    /// The `after` of the next page, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    zxid: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Effect)]
pub(crate) struct EffectBody {
    /// The znode that overrides have changed or made.
    path: String,
    /// What its instance says, by JSON pointer; null where it says nothing. Empty for a znode that was made.
    before: BTreeMap<String, Value>,
    /// What it shows instead.
    after: BTreeMap<String, Value>,
    /// The override by which the znode was made; null where data were changed.
    made_by: Option<String>,
}

/// Lists what overrides have changed: before and after.
#[utoipa::path(get, path = "/v1/overrides", tag = "services", params(EffectsParams),
    responses((status = 200, description = "One page of it", body = EffectsBody)))]
pub(crate) async fn list_effects(
    State(door): State<Door>,
    Params(params): Params<EffectsParams>,
    caller: Caller,
) -> Result<Response, Failed> {
    let limit = read::page_limit(params.limit)?;
    let below = ZnodePath::parse(params.below.as_deref().unwrap_or("/"))?;
    let after = params.after.as_deref().map(ZnodePath::parse).transpose()?;
    let after = after.map(|after| Effect::note_of(&after)).transpose()?;
    let after = after.map_or(EFFECTS.to_owned(), |note| note.to_string());
    let view = read::view(&door, params.consistency, params.min_zxid).await?;
    let all = view.tree.get(EFFECTS).into_iter().flat_map(|all| all.children_after(&after));
    let found = all.filter_map(|note| {
        let target = Effect::target_of(note).filter(|target| below.contains(target.as_str()))?;
        // Whoever may not read an instance does not learn of it here.
        view.tree.readable(target.as_str(), &caller.authority).ok()?;
        Some((target, Effect::read(view.tree.get(note.as_str())?.data()?)?))
    });
    let (effects, more) = read::page(found, limit, |(target, effect)| {
        let path = target.to_string();
        let (before, after, made_by) = match effect {
            Effect::Patched { shown, before } => (before, shown, None),
            Effect::Made { policy, .. } => (BTreeMap::new(), BTreeMap::new(), Some(policy)),
        };
        (EffectBody { path, before, after, made_by }, 0)
    });
    let zxid = view.tree.zxid();
    let next = effects.last().filter(|_| more).map(|last| last.path.clone());
    let body = EffectsBody { effects, next, zxid: zxid.0 };
    Ok(read::aged(&view, answer::json_at(StatusCode::OK, zxid, &body)))
}
