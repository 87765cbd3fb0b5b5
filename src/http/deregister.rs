use std::collections::BTreeMap;
use std::str::FromStr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::Door;
use super::answer;
use super::body::Json;
use super::error::Failed;
use super::extract::{Caller, Params};
use super::register::not_deregistered;
use super::write;
use super::znodes::NoParams;
use crate::limits::{BLOCK_MS_MAX, DEREGISTER_ZNODES_MAX, MULTI_OPS_MAX};
use crate::node::Consistency;
use crate::policy::Pattern;
use crate::registry::providers_path;
use crate::traffic::{Claim, TOMBSTONES, Tombstone};
use crate::tree::{Tree, Znode};
use crate::types::{
    Code, CreateMode, Data, Error, Op, Reply, SessionId, ZnodePath, Zxid, parse_address, says_ip,
};

/// How often it is looked again for what came while the tombstones were set, or for rivals at the same tombstones.
const ROUNDS_MAX: usize = 6;

/// What to deregister: exactly one of `providers`, `instance`, `session`, `ip` and `selector`.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Deregister)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeregisterBody {
    /// The session's own providers, all or none.
    providers: Option<Vec<NamedBody>>,
    /// The path of a registration, or the id that it has in any service.
    instance: Option<String>,
    /// The id of a session: everything that it holds goes, and the session is closed.
    session: Option<String>,
    /// All registrations that say this address, with a port or without.
    ip: Option<String>,
    /// All registrations whose metadata have these values.
    selector: Option<BTreeMap<String, String>>,
    /// Only providers of these services.
    services: Option<Vec<String>>,
    /// Only below this pattern of paths: `*` is one element, `**` at the end any rest.
    pattern: Option<String>,
    /// Keeps them from coming back for so long, ms.
    block_ms: Option<u64>,
    /// Why, for people.
    reason: Option<String>,
    /// Only says what would go.
    #[serde(default)]
    dry_run: bool,
}

/// A provider by its service and id.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ProviderName)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedBody {
    service: String,
    id: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Deregistered)]
pub(crate) struct DeregisteredBody {
    /// The paths that went, or would go.
    removed: Vec<String>,
    /// The znodes that keep them from coming back.
    tombstones: Vec<String>,
    /// Whether a session was closed.
    session_closed: bool,
    dry_run: bool,
    zxid: u64,
}

/// Deregisters many: the session's own providers, or whatever is meant by hand.
#[utoipa::path(post, path = "/v1/deregister", tag = "services", request_body = DeregisterBody,
    responses((status = 200, description = "All of them are gone", body = DeregisteredBody)))]
pub(crate) async fn deregister(
    State(door): State<Door>,
    Params(NoParams {}): Params<NoParams>,
    caller: Caller,
    Json(mut body): Json<DeregisterBody>,
) -> Result<Response, Failed> {
    let named = body.providers.take();
    let wishes = [
        named.is_some(),
        body.instance.is_some(),
        body.session.is_some(),
        body.ip.is_some(),
        body.selector.is_some(),
    ];
    if wishes.iter().filter(|is_there| **is_there).count() != 1 {
        let why =
            "exactly one of providers, instance, session, ip and selector says what to deregister";
        return Err(Failed::bad_arguments(why));
    }
    match named {
        Some(named) => own(&door, caller, &named).await,
        None => {
            let caller = caller.saying(body.reason.as_deref())?;
            by_hand(&door, &caller, &Wish::new(body)?).await
        }
    }
}

/// Deregisters the session's own providers.
async fn own(door: &Door, caller: Caller, named: &[NamedBody]) -> Result<Response, Failed> {
    caller.need_session()?;
    let count = named.len();
    if count == 0 || count > MULTI_OPS_MAX {
        let why = format!("{count} providers in one request: there must be 1 to {MULTI_OPS_MAX}");
        return Err(Failed::bad_arguments(why));
    }
    let path = |(index, NamedBody { service, id }): (usize, &NamedBody)| {
        let path = providers_path(service).and_then(|parent| parent.child(id));
        path.map_err(|why| Failed::from(why).in_item(index))
    };
    let paths: Vec<ZnodePath> = named.iter().enumerate().map(path).collect::<Result<_, _>>()?;
    let ops = paths.iter().map(|path| Op::DeleteOwn { path: path.clone() }).collect();
    let answer = door.node().submit(caller.into_request(Op::Multi(ops))).await?;
    match answer.result {
        Ok(Reply::Multi(_)) => Ok(Done { removed: paths, ..Done::default() }.answer(answer.zxid)),
        Ok(_) => Err(write::other_kind(answer.zxid)),
        Err(failure) => Err(not_deregistered(&failure, &paths).at(answer.zxid)),
    }
}

/// Which registrations are meant.
#[derive(Debug)]
enum Target {
    Path(ZnodePath),
    Id(String),
    Session(SessionId),
    Address(String, Option<u16>),
    Labels(BTreeMap<String, String>),
}

#[derive(Debug)]
struct Wish {
    target: Target,
    /// Empty for everywhere.
    scope: Vec<Pattern>,
    block_ms: Option<u64>,
    reason: String,
    dry_run: bool,
}

impl Wish {
    fn new(body: DeregisterBody) -> Result<Wish, Failed> {
        let is_narrowed = body.services.is_some() || body.pattern.is_some();
        let scope = scope(body.services, body.pattern)?;
        let DeregisterBody { instance, session, ip, selector, block_ms, dry_run, .. } = body;
        let target = if let Some(session) = session {
            if is_narrowed {
                let why = "a session is closed as a whole: services and pattern do not go with it";
                return Err(Failed::bad_arguments(why));
            }
            Target::Session(SessionId::from_str(&session).map_err(Failed::bad_arguments)?)
        } else if let Some(ip) = ip {
            let address = parse_address(&ip).filter(|_| says_ip(&ip)).ok_or_else(|| {
                Failed::bad_arguments(format!(
                    "ip is {ip:?}: expected an IP address, with a port or without"
                ))
            })?;
            Target::Address(address.0, address.1)
        } else if let Some(labels) = selector {
            if labels.is_empty() {
                return Err(Failed::bad_arguments(
                    "selector is empty, which would mean everything",
                ));
            }
            Target::Labels(labels)
        } else {
            match instance.unwrap_or_default() {
                path if path.starts_with('/') => Target::Path(ZnodePath::parse(&path)?),
                id if id.is_empty() => return Err(Failed::bad_arguments("instance is empty")),
                id => Target::Id(id),
            }
        };
        if let Some(ms) = block_ms.filter(|ms| !(1..=BLOCK_MS_MAX).contains(ms)) {
            return Err(Failed::bad_arguments(format!(
                "block_ms is {ms}: it must be 1 to {BLOCK_MS_MAX}"
            )));
        }
        let reason = body.reason.unwrap_or_default();
        Ok(Wish { target, scope, block_ms, reason, dry_run })
    }

    /// Returns the registrations that are meant, in path order. Cost: O(ephemerals), but for a path or a session.
    fn candidates(&self, tree: &Tree) -> Result<Vec<(ZnodePath, Zxid)>, Failed> {
        let chosen = |path: &ZnodePath| {
            let znode = tree.get(path.as_str())?;
            self.means(tree, path, znode).then(|| (path.clone(), znode.stat().czxid))
        };
        let mut found: Vec<_> = match &self.target {
            Target::Path(path) => chosen(path).into_iter().collect(),
            Target::Session(session) => tree.ephemerals(*session).filter_map(chosen).collect(),
            _ => {
                let all = tree.sessions().flat_map(|(_, session)| session.ephemerals());
                all.filter_map(chosen).take(DEREGISTER_ZNODES_MAX + 1).collect()
            }
        };
        if found.len() > DEREGISTER_ZNODES_MAX {
            let why = format!(
                "more than {DEREGISTER_ZNODES_MAX} registrations are meant: narrow it down"
            );
            return Err(Failed::bad_arguments(why));
        }
        found.sort();
        Ok(found)
    }

    fn means(&self, tree: &Tree, path: &ZnodePath, znode: &Znode) -> bool {
        let in_scope = |scope: &Pattern| scope.matches(path.as_str());
        if !self.scope.is_empty() && !self.scope.iter().any(in_scope) {
            return false;
        }
        let claimed = || tree.layouts().claim(path.as_str(), znode.data().map(|data| &data[..]));
        let claims = |test: &dyn Fn(&Claim) -> bool| claimed().is_some_and(|claim| test(&claim));
        match &self.target {
            Target::Path(_) | Target::Session(_) => true,
            // Everywhere an id may be the name of anything; within a scope it is what it is.
            Target::Id(id) => path.name() == id && (!self.scope.is_empty() || claimed().is_some()),
            Target::Address(host, port) => claims(&|claim| claim.is_at(host, *port)),
            Target::Labels(labels) => claims(&|claim| claim.has(labels)),
        }
    }

    /// Returns the tombstones that keep these from coming back.
    fn tombstones(&self, candidates: &[(ZnodePath, Zxid)]) -> Result<Vec<ZnodePath>, Failed> {
        if self.block_ms.is_none() {
            return Ok(Vec::new());
        }
        let paths = match &self.target {
            Target::Address(host, port) => {
                let everywhere = [Pattern::parse("/**").map_err(Failed::bad_arguments)?];
                let scope = if self.scope.is_empty() { &everywhere[..] } else { &self.scope };
                let (host, port) = (host.clone(), *port);
                let one = |scope: &Pattern| {
                    Tombstone::Address { host: host.clone(), port, scope: scope.clone() }.path()
                };
                scope.iter().map(one).collect::<Result<Vec<_>, _>>()?
            }
            // Also when it is not there at the moment.
            Target::Path(path) => vec![Tombstone::Path(path.clone()).path()?],
            _ => {
                let one = |(path, _): &(ZnodePath, Zxid)| Tombstone::Path(path.clone()).path();
                candidates.iter().map(one).collect::<Result<Vec<_>, _>>()?
            }
        };
        Ok(paths)
    }

    /// Returns the one op that does it all when the tree is this.
    fn op(
        &self,
        tree: &Tree,
        candidates: Vec<(ZnodePath, Zxid)>,
        tombstones: &[ZnodePath],
        now_ms: u64,
    ) -> Result<Op, Failed> {
        let mut ops = Vec::new();
        if let Some(block_ms) = self.block_ms.filter(|_| !tombstones.is_empty()) {
            let parent = ZnodePath::parse(TOMBSTONES)?;
            ops.extend(write::missing(tree, [&parent]));
            let note = json!({
                "reason": self.reason,
                "set_at_ms": now_ms,
                "expires_at_ms": now_ms.saturating_add(block_ms),
            });
            let data = Data::new(note.to_string().as_bytes());
            for path in tombstones {
                // A TTL is for life: an older tombstone gives way to this one.
                if tree.get(path.as_str()).is_some() {
                    ops.push(Op::Delete { path: path.clone(), version: None });
                }
                let (parent, name) = (parent.clone(), path.name().to_owned());
                let (data, mode) = (Some(data.clone()), CreateMode::Ttl(block_ms));
                ops.push(Op::Create { acl: tree.rules_below(&parent), parent, name, data, mode });
            }
        }
        ops.push(Op::Deregister { candidates });
        Ok(Op::Multi(ops))
    }
}

/// Returns the patterns that services and a pattern stand for.
fn scope(services: Option<Vec<String>>, pattern: Option<String>) -> Result<Vec<Pattern>, Failed> {
    let mut scope = Vec::new();
    for service in services.into_iter().flatten() {
        let providers = providers_path(&service)?;
        scope.push(Pattern::parse(&format!("{providers}/*")).map_err(Failed::bad_arguments)?);
    }
    if let Some(pattern) = pattern {
        scope.push(Pattern::parse(&pattern).map_err(Failed::bad_arguments)?);
    }
    Ok(scope)
}

/// What was done so far.
#[derive(Debug, Default)]
struct Done {
    removed: Vec<ZnodePath>,
    tombstones: Vec<ZnodePath>,
    session_closed: bool,
    dry_run: bool,
}

impl Done {
    fn answer(self, zxid: Zxid) -> Response {
        let text = |paths: Vec<ZnodePath>| paths.iter().map(ZnodePath::to_string).collect();
        let body = DeregisteredBody {
            removed: text(self.removed),
            tombstones: text(self.tombstones),
            session_closed: self.session_closed,
            dry_run: self.dry_run,
            zxid: zxid.0,
        };
        answer::json_at(StatusCode::OK, zxid, &body)
    }
}

/// Takes out what is meant, in one transaction. With tombstones it then looks again, for what registered between the choice
/// and the transaction: nothing can after it.
async fn by_hand(door: &Door, caller: &Caller, wish: &Wish) -> Result<Response, Failed> {
    let node = door.node();
    let mut view = node.read(Consistency::Linearizable, Zxid(0)).await?;
    let mut done = Done { dry_run: wish.dry_run, ..Done::default() };
    let mut at = view.tree.zxid();
    for round in 0.. {
        let candidates = wish.candidates(&view.tree)?;
        let tombstones = wish.tombstones(&candidates)?;
        if wish.dry_run {
            write::check_deletable(&view.tree, caller, candidates.iter().map(|(path, _)| path))?;
            done.removed = candidates.into_iter().map(|(path, _)| path).collect();
            done.tombstones = tombstones;
            return Ok(done.answer(at));
        }
        let is_over = round > 0 && candidates.is_empty();
        if is_over || round >= ROUNDS_MAX {
            break;
        }
        let op = wish.op(&view.tree, candidates, &tombstones, node.wall_ms())?;
        let answer = node.submit(caller.request(round, op)).await?;
        view.tree = node.local();
        match answer.result {
            Ok(Reply::Multi(mut replies)) => match replies.pop() {
                Some(Reply::Deregistered { paths }) => {
                    at = answer.zxid;
                    done.removed.extend(paths);
                    done.tombstones.extend(tombstones);
                    if wish.block_ms.is_none() {
                        break;
                    }
                }
                _ => return Err(write::other_kind(answer.zxid)),
            },
            Ok(_) => return Err(write::other_kind(answer.zxid)),
            // Somebody else has set or removed the same tombstone.
            Err(failure) if matches!(failure.code, Code::NoNode | Code::NodeExists) => {
                if round + 1 == ROUNDS_MAX {
                    let what = "the number of attempts on tombstones that others keep changing";
                    return Err(Error::Busy { what, retry_after_ms: 50 }.into());
                }
            }
            Err(failure) => return Err(Failed::code(failure.code).at(answer.zxid)),
        }
    }
    done.tombstones.sort();
    done.tombstones.dedup();
    if let Target::Session(session) = wish.target {
        let op = Op::CloseSession { session, unless_moved_from: None };
        let mut request = caller.request(0, op);
        request.idempotency_key = None;
        let answer = node.submit(request).await?;
        // The first attempt of a retry may have closed it.
        done.session_closed = answer.result.is_ok();
    }
    let (target, reason, removed) = (&wish.target, &wish.reason, done.removed.len());
    tracing::info!(?target, reason, removed, block_ms = wish.block_ms, "deregistered by hand");
    Ok(done.answer(at))
}
