//! What overrides do for consumers who read the tree of their own framework and know nothing of overrides.
//!
//! The leader looks once a second, while there are overrides or what they did, and proposes what is missing or left over; so it
//! does not matter who led when an override was set or when it went, and whatever was lost is done at the next look:
//!
//! - For a Dubbo provider (`/<group>/<interface>/providers/<url>`) a znode `override://…` beside it, below `configurators`,
//!   which its consumers watch.
//! - For a Spring Cloud instance `instance_status` in its payload, set with the version that was seen; its owner stays.
//!
//! Each effect is noted below [`EFFECTS`] in the same transaction: whose it is, and what was there before. An effect whose
//! provider is away stays for as long as its override: the provider comes back to it.
//!
//! [`plan`] is a function of the tree. What it lacks on purpose: a memory of its own.

use std::collections::BTreeMap;

use percent_encoding::{
    AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode,
};
use serde_json::{Value, json};

use crate::limits::{EFFECTS_PER_LOOK_MAX, OVERRIDDEN_SEEN_MAX};
use crate::policy::{Kind, Mode, Overrides, Terms, path_of};
use crate::traffic::{Claim, claim, means};
use crate::tree::{Tree, Znode};
use crate::types::{CreateMode, Data, Op, ZnodePath};

/// The znode below which the effects of overrides are noted.
pub(super) const EFFECTS: &str = "/roost/effects";

/// As Java's `URLEncoder` has it.
const IN_URL: AsciiSet = NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'*').remove(b'_');
/// What would end an element of a path, or be taken for an escape.
const IN_NAME: AsciiSet = CONTROLS.add(b'/').add(b'%');

/// What an override wants of one znode.
struct Wanted {
    policy: String,
    /// When the override was set last: one that was set anew is another.
    set_at: u64,
    /// For an instance of Spring Cloud, the status that its znode shall show; the others shall only exist.
    status: Option<&'static str>,
}

/// Returns whether there is anything to look for.
pub(super) fn is_needed(tree: &Tree) -> bool {
    !tree.policies().has_none(Kind::Overrides)
        || tree.get(EFFECTS).is_some_and(|all| all.num_children() > 0)
}

/// Returns what has to be done so that the tree shows the effects of the overrides in it, each op for itself. What does not
/// fit into one look is left for the next. Cost: O(znodes below the patterns of overrides), bounded.
pub(super) fn plan(tree: &Tree) -> Vec<Op> {
    let wanted = wanted(tree);
    let mut ops: Vec<Op> =
        wanted.iter().filter_map(|(path, wanted)| bring_about(tree, path, wanted)).collect();
    // Only after that what was there before goes: nobody sees a moment without either.
    ops.extend(noted(tree).filter_map(|note| undo(tree, &wanted, &note)));
    ops.truncate(EFFECTS_PER_LOOK_MAX);
    ops
}

fn wanted(tree: &Tree) -> BTreeMap<ZnodePath, Wanted> {
    let mut all = BTreeMap::new();
    for (kind, (name, policy)) in tree.policies().iter() {
        let Terms::Overrides(overrides) = &policy.terms else { continue };
        if policy.mode != Mode::Enforce {
            continue;
        }
        let set_at = tree.get(&path_of(kind, name)).map_or(0, |znode| znode.stat().mzxid.0);
        let below = tree.descendants(policy.pattern.prefix()).take(OVERRIDDEN_SEEN_MAX);
        for (path, znode) in below.filter(|(path, _)| policy.pattern.matches(path.as_str())) {
            let Some(claimed) = claim(path.name(), znode.data().map(|data| &data[..])) else {
                continue;
            };
            if !means(overrides, path.as_str(), &claimed) {
                continue;
            }
            let wanted = |status| Wanted { policy: name.to_string(), set_at, status };
            for configurator in configurators(path, &claimed, overrides, name) {
                all.insert(configurator, wanted(None));
            }
            if let (Some(_), Some(status)) = (spring_status(znode), status_word(overrides)) {
                all.insert(path.clone(), wanted(Some(status)));
            }
        }
    }
    all
}

/// Returns the znodes that tell the consumers of a Dubbo provider; none for any other instance.
fn configurators(
    path: &ZnodePath,
    claimed: &Claim,
    overrides: &Overrides,
    name: &str,
) -> Vec<ZnodePath> {
    let elements: Vec<&str> = path.as_str().split('/').skip(1).collect();
    let [group, interface, "providers", url] = elements[..] else { return Vec::new() };
    if !percent_decode_str(url).decode_utf8_lossy().contains("://") {
        return Vec::new();
    }
    let mut query = String::from("category=configurators&dynamic=false&enabled=true");
    let is_out = matches!(overrides.status.as_deref(), Some("out_of_service"));
    let weight =
        overrides.weight.or((overrides.status.as_deref() == Some("draining")).then_some(0));
    let weight = weight.map(|weight| ("weight", weight.to_string()));
    let disabled = is_out.then(|| ("disabled", "true".to_owned()));
    // A consumer only hears of what has the group and the version that it wants.
    let of_provider = ["group", "version"].map(|key| Some((key, claimed.labels.get(key)?.clone())));
    for (key, value) in weight.into_iter().chain(disabled).chain(of_provider.into_iter().flatten())
    {
        query.push_str(&format!("&{key}={value}"));
    }
    for (key, value) in &overrides.labels {
        let (key, value) = (utf8_percent_encode(key, &IN_URL), utf8_percent_encode(value, &IN_URL));
        query.push_str(&format!("&{key}={value}"));
    }
    let name = utf8_percent_encode(name, &IN_URL);
    let of_address = |(host, port): &(String, Option<u16>)| {
        let (host, port) =
            (if host.contains(':') { format!("[{host}]") } else { host.clone() }, (*port)?);
        let interface = percent_decode_str(interface).decode_utf8_lossy();
        let url = format!("override://{host}:{port}/{interface}?{query}&roost={name}");
        let url = utf8_percent_encode(&url, &IN_URL);
        ZnodePath::parse(&format!("/{group}/{interface}/configurators/{url}")).ok()
    };
    claimed.addresses.iter().filter_map(of_address).collect()
}

fn status_word(overrides: &Overrides) -> Option<&'static str> {
    match overrides.status.as_deref()? {
        "up" => Some("UP"),
        _ => Some("OUT_OF_SERVICE"),
    }
}

fn json_of(znode: &Znode) -> Option<Value> {
    serde_json::from_slice(znode.data()?).ok()
}

/// Returns the status that an instance of Spring Cloud shows, null if none; `None` for any other znode.
fn spring_status(znode: &Znode) -> Option<Value> {
    let json = json_of(znode)?;
    let payload = json.get("payload")?;
    let is_spring = payload
        .get("@class")
        .and_then(Value::as_str)
        .is_some_and(|it| it.contains("springframework"));
    let metadata = payload.get("metadata")?.as_object()?;
    is_spring.then(|| metadata.get("instance_status").cloned().unwrap_or(Value::Null))
}

/// Returns the op that makes an instance show a status, null for none.
fn show(path: &ZnodePath, znode: &Znode, status: &Value) -> Option<Op> {
    let mut json = json_of(znode)?;
    let metadata = json.get_mut("payload")?.get_mut("metadata")?.as_object_mut()?;
    match status {
        Value::Null => drop(metadata.remove("instance_status")),
        status => drop(metadata.insert("instance_status".to_owned(), status.clone())),
    }
    let data = Some(Data::new(json.to_string().as_bytes()));
    Some(Op::SetData { path: path.clone(), data, version: Some(znode.stat().version) })
}

/// What is noted of an effect.
struct Note<'a> {
    path: &'a ZnodePath,
    target: ZnodePath,
    policy: String,
    set_at: u64,
    shown: Option<String>,
    before: Value,
}

fn noted(tree: &Tree) -> impl Iterator<Item = Note<'_>> {
    let all = tree.get(EFFECTS).into_iter().flat_map(|all| all.children());
    all.filter_map(|path| {
        let note = json_of(tree.get(path.as_str())?)?;
        let target = percent_decode_str(path.name()).decode_utf8().ok()?;
        Some(Note {
            path,
            target: ZnodePath::parse(&target).ok()?,
            policy: note.get("policy")?.as_str()?.to_owned(),
            set_at: note.get("set_at")?.as_u64()?,
            shown: note.get("shown").and_then(Value::as_str).map(str::to_owned),
            before: note.get("before").cloned().unwrap_or(Value::Null),
        })
    })
}

fn create(path: &ZnodePath, data: Option<Data>) -> Option<Op> {
    let (parent, name) = (path.parent()?, path.name().to_owned());
    Some(Op::Create { parent, name, data, acl: Vec::new(), mode: CreateMode::Persistent })
}

/// Returns the ops that create what is missing of a path's ancestors.
fn missing(tree: &Tree, path: &ZnodePath) -> Vec<Op> {
    let absent = path.self_and_ancestors().skip(1).take_while(|path| tree.get(path).is_none());
    let mut ops: Vec<Op> =
        absent.filter_map(|path| create(&ZnodePath::parse(path).ok()?, None)).collect();
    ops.reverse();
    ops
}

/// Returns what brings an effect about; `None` if it is there.
fn bring_about(tree: &Tree, target: &ZnodePath, wanted: &Wanted) -> Option<Op> {
    let name = utf8_percent_encode(target.as_str(), &IN_NAME);
    let note = ZnodePath::parse(&format!("{EFFECTS}/{name}")).ok()?;
    let is_noted = tree.get(note.as_str()).is_some();
    let present = tree.get(target.as_str());
    let before = match wanted.status {
        None => Value::Null,
        Some(status) => {
            let shown = spring_status(present?)?;
            if shown == status {
                return None;
            }
            shown
        }
    };
    if wanted.status.is_none() && present.is_some() {
        return None;
    }
    let text = json!({
        "policy": wanted.policy, "set_at": wanted.set_at, "shown": wanted.status, "before": before,
    });
    let data = Some(Data::new(text.to_string().as_bytes()));
    let mut ops = missing(tree, &note);
    ops.push(match is_noted {
        true => Op::SetData { path: note, data, version: None },
        false => create(&note, data)?,
    });
    match wanted.status {
        Some(status) => ops.push(show(target, present?, &json!(status))?),
        None => {
            ops.extend(missing(tree, target));
            ops.push(create(target, None)?);
        }
    }
    Some(Op::Multi(ops))
}

/// Returns what undoes an effect that no override has any more; `None` if one has.
fn undo(tree: &Tree, wanted: &BTreeMap<ZnodePath, Wanted>, note: &Note<'_>) -> Option<Op> {
    if wanted.contains_key(&note.target) {
        return None;
    }
    let policy = tree.policies().get(Kind::Overrides, &note.policy);
    let set_at =
        tree.get(&path_of(Kind::Overrides, &note.policy)).map(|znode| znode.stat().mzxid.0);
    // Its provider is away, and the override holds for whoever comes back.
    if set_at == Some(note.set_at) && policy.is_some_and(|policy| policy.mode == Mode::Enforce) {
        return None;
    }
    let mut ops = vec![Op::Delete { path: note.path.clone(), version: None }];
    if let Some(present) = tree.get(note.target.as_str()) {
        match &note.shown {
            None => ops.push(Op::Delete { path: note.target.clone(), version: None }),
            // Whoever has set another one meanwhile meant it.
            Some(shown) if spring_status(present) == Some(json!(shown)) => {
                ops.extend(show(&note.target, present, &note.before));
            }
            Some(_) => {}
        }
    }
    Some(Op::Multi(ops))
}

#[cfg(test)]
#[path = "effects_test.rs"]
mod effects_test;
