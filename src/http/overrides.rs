use std::collections::{BTreeMap, BTreeSet};

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
use crate::registry::{self, Category, Instance, Rules};
use crate::traffic::{EFFECTS, Effect};
use crate::tree::Tree;
use crate::types::{AclId, ZnodePath, normal_host};

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
    /// What its instance says, by JSON pointer; null where it says nothing. Of a znode that was made it is the Dubbo provider that
    /// it means, and empty while that is away.
    before: BTreeMap<String, Value>,
    /// What it shows instead, for this effect alone.
    after: BTreeMap<String, Value>,
    /// The overrides by which it is so; `drain/<incarnation>` is a drain.
    made_by: BTreeSet<String>,
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
    let mut providers = Providers::default();
    let (effects, more) = read::page(found, limit, |(target, effect)| {
        let path = target.to_string();
        let (before, after, made_by) = match effect {
            Effect::Patched { shown, before, by } => (before, shown, by.into_values().collect()),
            Effect::Made { policy, .. } => {
                let (before, after) = providers.changed_by(&view.tree, &caller.authority, &target);
                (before, after, BTreeSet::from([policy]))
            }
        };
        (EffectBody { path, before, after, made_by }, 0)
    });
    let zxid = view.tree.zxid();
    let next = effects.last().filter(|_| more).map(|last| last.path.clone());
    let body = EffectsBody { effects, next, zxid: zxid.0 };
    Ok(read::aged(&view, answer::json_at(StatusCode::OK, zxid, &body)))
}

/// Values by JSON pointer.
type Values = BTreeMap<String, Value>;

/// The providers of an interface of Dubbo, by address.
type ByAddress = BTreeMap<(String, u16), Vec<(ZnodePath, Instance)>>;

/// The providers of Dubbo's interfaces by list, each list read once.
#[derive(Default)]
struct Providers(BTreeMap<String, ByAddress>);

impl Providers {
    /// Returns what the provider that a configurator means says, and what it shows for that configurator alone. Empty when the
    /// caller may not read one, or none is there.
    fn changed_by(
        &mut self,
        tree: &Tree,
        authority: &[AclId],
        configurator: &ZnodePath,
    ) -> (Values, Values) {
        let nothing = || (Values::new(), Values::new());
        let interface = configurator.parent().and_then(|list| list.parent());
        let list = interface.and_then(|interface| interface.child("providers").ok());
        let (Some(list), Ok(rule)) = (list, registry::rule(configurator.name())) else {
            return nothing();
        };
        let address = tree.layouts().said(configurator.as_str(), None).addresses.into_iter();
        let address = address.filter_map(|(host, port)| Some((host, port?))).next();
        let providers = self.0.entry(list.to_string()).or_insert_with(|| by_address(tree, &list));
        let at = address.and_then(|address| providers.get(&address)).into_iter().flatten();
        let meant = at.filter(|(path, _)| rule.means(path.name()));
        let mut meant = meant.filter(|(path, _)| tree.readable(path.as_str(), authority).is_ok());
        let Some((_, own)) = meant.next() else { return nothing() };
        let mut shown = own.clone();
        Rules::new([rule]).apply(&mut shown);
        (own.hidden_by(&shown), shown.hidden_by(own))
    }
}

fn by_address(tree: &Tree, list: &ZnodePath) -> ByAddress {
    let mut by_address = ByAddress::new();
    let read = tree.layouts().list_at(list.as_str());
    let Some(read) = read.filter(|list| list.category == Category::Provider) else {
        return by_address;
    };
    for path in tree.get(list.as_str()).into_iter().flat_map(|all| all.children()) {
        if let Ok(instance) = registry::instance(&read, path.name(), None) {
            let address = (normal_host(&instance.host), instance.port);
            by_address.entry(address).or_default().push((path.clone(), instance));
        }
    }
    by_address
}
