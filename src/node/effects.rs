//! What overrides do to the tree, so that whoever reads it sees them: the leader writes it, and takes it back.
//!
//! The leader looks twice a second (`expirer`), if anything changed while there are overrides or what they did, and proposes what
//! is missing or left over. So it does not matter who led when an override was set or when it went, and whatever was lost, or undone by a
//! provider that registers again, is done at the next look:
//!
//! - The data of an instance of roost or Spring Cloud show what the override says, set with the version that was seen; its
//!   owner stays its owner. Every reader, stream and framework sees that, and none has to know of overrides.
//! - A Dubbo provider (`<root>/<interface>/providers/<url>`, also below a namespace) is a name, which cannot change. It gets a
//!   znode `override://…` beside it, below `configurators`, which its consumers watch ([`Configurators`]). It stays while the
//!   provider is away, for when it is back.
//!
//! Who is leaving ([`Drain`]) is overridden too, until it has gone: as draining and without weight, after all policies.
//!
//! Of an override that only observes it is noted on the leader, once for each instance, what it would do ([`observed`]).
//!
//! Each effect is noted in the same transaction, with what was there before ([`Effect`]).
//!
//! [`plan`] is a function of the tree. What it lacks on purpose: a memory of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::configurators::Configurators;
use super::overridden::{Meant, claimed, meant, overrides, set_at};
use crate::limits::{EFFECTS_PER_LOOK_MAX, OBSERVED_MAX};
use crate::policy::{Kind, Mode, Overrides, Target, path_of};
use crate::traffic::{DRAINS, Drain, EFFECTS, Effect, means};
use crate::tree::{Tree, Znode};
use crate::types::{CreateMode, Data, Op, ZnodePath};

/// Values by JSON pointer.
type Patch = BTreeMap<String, Value>;

/// What overrides want of a tree.
#[derive(Default)]
struct Wanted {
    patches: BTreeMap<ZnodePath, Patch>,
    /// Who has the last word on what a patch shows.
    by: BTreeMap<ZnodePath, BTreeMap<String, String>>,
    configurators: Configurators,
}

/// Returns whether there is anything to look for.
pub(super) fn is_needed(tree: &Tree) -> bool {
    let has_any = |path| tree.get(path).is_some_and(|all: &Arc<Znode>| all.num_children() > 0);
    !tree.policies().has_none(Kind::Overrides) || has_any(EFFECTS) || has_any(DRAINS)
}

/// Returns what has to be done so that the tree shows the effects of the overrides in it, each op for itself. What does not
/// fit into one look is left for the next. Cost: O(znodes below the patterns of overrides), bounded.
pub fn plan(tree: &Tree) -> Vec<Op> {
    let wanted = wanted(tree);
    let made = wanted.configurators.made();
    let make = made.iter().filter_map(|(path, by)| make_op(tree, path, by));
    // Only after that what was there before goes: nobody sees a moment without either.
    let left = notes(tree).filter_map(|(path, target, effect)| match effect {
        Effect::Patched { .. } if wanted.patches.contains_key(&target) => None,
        Effect::Patched { .. } => patch_op(tree, &target, &Patch::new(), &BTreeMap::new()),
        Effect::Made { .. } if made.contains_key(&target) => None,
        Effect::Made { .. } if wanted.configurators.speak_of(&target) => {
            Some(gone(tree, [path, &target]))
        }
        Effect::Made { policy, set_at } => unmake_op(tree, path, &target, &policy, set_at),
    });
    wanted.patch_ops(tree).chain(make).chain(left).take(EFFECTS_PER_LOOK_MAX).collect()
}

/// What an override that observes would change: which one, as of which zxid, at which znode, made when.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Observed {
    pub(super) policy: String,
    set_at: u64,
    pub(super) path: ZnodePath,
    czxid: u64,
}

/// Returns what overrides that observe would change, each by itself. Cost: as of [`plan`].
pub(super) fn observed(tree: &Tree) -> BTreeSet<Observed> {
    let would_change = |meant: &Meant<'_>| {
        let mut wanted = Wanted::default();
        wanted.add(meant, false);
        !wanted.patches.is_empty() || !wanted.configurators.is_empty()
    };
    let observed = meant(tree, Mode::Observe).into_iter().filter(would_change);
    let observed = observed.map(|Meant { by: (policy, set_at), path, znode, .. }| Observed {
        policy: policy.to_owned(),
        set_at,
        path: path.clone(),
        czxid: znode.stat().czxid.0,
    });
    observed.take(OBSERVED_MAX).collect()
}

fn wanted(tree: &Tree) -> Wanted {
    let mut wanted = Wanted::default();
    for meant in meant(tree, Mode::Enforce) {
        wanted.add(&meant, false);
    }
    for note in tree.get(DRAINS).into_iter().flat_map(|all| all.children()) {
        let drain = tree.get(note.as_str()).and_then(|note| Drain::read(note.data()?));
        if let Some((drain, path)) = drain.zip(Drain::target_of(note)) {
            wanted.add_drain(tree, &path, &drain);
        }
    }
    wanted
}

impl Wanted {
    /// Adds what an override wants of an instance that it means; it has a later word than those before.
    fn add(&mut self, meant: &Meant<'_>, is_drain: bool) {
        let Meant { path, znode, claimed, overrides, by } = meant;
        self.configurators.add(path, claimed, overrides, *by, is_drain);
        if let Some(patch) = patch_of(znode, overrides) {
            let shown = patch.keys().map(|pointer| (pointer.clone(), by.0.to_owned()));
            self.by.entry((*path).clone()).or_default().extend(shown);
            self.patches.entry((*path).clone()).or_default().extend(patch);
        }
    }

    /// Yields what makes data of znodes show what is wanted.
    fn patch_ops(&self, tree: &Tree) -> impl Iterator<Item = Op> {
        let patches = self.patches.iter();
        patches.filter_map(|(path, patch)| patch_op(tree, path, patch, self.by.get(path)?))
    }

    /// Adds what a drain wants of the registration that it means, if that is still there.
    fn add_drain(&mut self, tree: &Tree, path: &ZnodePath, drain: &Drain) {
        let Some(znode) = tree.get(path.as_str()) else { return };
        if znode.stat().czxid.0 != drain.czxid {
            return;
        }
        let leaving = Overrides {
            target: Target::All,
            status: Some("draining".to_owned()),
            weight: Some(0),
            labels: BTreeMap::new(),
        };
        let Some(claimed) = claimed(tree, path, znode) else { return };
        let name = name_of(drain);
        let by = (name.as_str(), 0);
        self.add(&Meant { path, znode, claimed, overrides: &leaving, by }, true);
    }
}

/// Returns what a drain is called among overrides. No policy has such a name.
fn name_of(drain: &Drain) -> String {
    format!("drain/{}", drain.czxid)
}

/// Returns what makes the tree show that an instance is leaving; `None` for one of which nothing can be shown.
pub(super) fn of_drain(tree: &Tree, path: &ZnodePath, drain: &Drain) -> Option<Vec<Op>> {
    let mut wanted = Wanted::default();
    wanted.add_drain(tree, path, drain);
    if wanted.patches.is_empty() && wanted.configurators.made().is_empty() {
        return None;
    }
    let mut wanted = Wanted::default();
    let instance = tree.get(path.as_str()).and_then(|it| Some((it, claimed(tree, path, it)?)));
    if let Some((znode, claimed)) = instance {
        for (name, policy, overrides) in overrides(tree, Mode::Enforce) {
            if policy.pattern.matches(path.as_str()) && means(overrides, path.as_str(), &claimed) {
                let (claimed, by) = (claimed.clone(), (name, set_at(tree, name)));
                wanted.add(&Meant { path, znode, claimed, overrides, by }, false);
            }
        }
    }
    wanted.add_drain(tree, path, drain);
    // What overrides say gives way to it as it is, and is put in order at the next look.
    let mut made = wanted.configurators.made();
    made.retain(|_, (by, _)| *by == name_of(drain));
    let make = made.iter().filter_map(|(path, by)| make_op(tree, path, by));
    let ops = wanted.patch_ops(tree).chain(make).flat_map(|op| match op {
        Op::Multi(ops) => ops,
        op => vec![op],
    });
    Some(ops.collect())
}

fn json_of(znode: &Znode) -> Option<Value> {
    serde_json::from_slice(znode.data()?).ok()
}

/// Returns what the data of an instance shall show; `None` for one of which nothing is known that could be shown.
fn patch_of(znode: &Znode, overrides: &Overrides) -> Option<Patch> {
    let json = json_of(znode)?;
    let mut patch = Patch::new();
    let class = json.pointer("/payload/@class").and_then(Value::as_str);
    let labels = match class {
        Some(class) if class.contains("springframework") => {
            let word =
                if overrides.status.as_deref() == Some("up") { "UP" } else { "OUT_OF_SERVICE" };
            let status = overrides.status.as_ref().map(|_| json!(word));
            patch.extend(status.map(|it| ("/payload/metadata/instance_status".to_owned(), it)));
            "/payload/metadata"
        }
        _ if json.get("host").is_some_and(Value::is_string) && json.get("port").is_some() => {
            patch.extend(overrides.status.as_ref().map(|it| ("/status".to_owned(), json!(it))));
            patch.extend(overrides.weight.map(|it| ("/weight".to_owned(), json!(it))));
            "/metadata"
        }
        _ => return None,
    };
    for (key, value) in &overrides.labels {
        let key = key.replace('~', "~0").replace('/', "~1");
        patch.insert(format!("{labels}/{key}"), json!(value));
    }
    (!patch.is_empty()).then_some(patch)
}

/// Returns the place that a pointer of a patch speaks of: the object, made if it is missing, and the key in it.
fn place<'a>(json: &'a mut Value, pointer: &str) -> Option<(&'a mut Map<String, Value>, String)> {
    let (parent, key) = pointer.rsplit_once('/')?;
    let mut at = json;
    for element in parent.split('/').skip(1) {
        at = at.as_object_mut()?.entry(element).or_insert_with(|| json!({}));
    }
    Some((at.as_object_mut()?, key.replace("~1", "/").replace("~0", "~")))
}

/// Returns what makes the data of a znode show just this patch, and notes it and by whom it is; `None` if they do.
fn patch_op(
    tree: &Tree,
    target: &ZnodePath,
    wanted: &Patch,
    by: &BTreeMap<String, String>,
) -> Option<Op> {
    let note = Effect::note_of(target).ok()?;
    let noted = tree.get(note.as_str());
    let known = match noted.and_then(|it| Effect::read(it.data()?)) {
        Some(Effect::Patched { shown, before, .. }) => Some((shown, before)),
        _ => None,
    };
    let Some(present) = tree.get(target.as_str()) else {
        return noted.map(|_| Op::Delete { path: note, version: None });
    };
    let mut json = json_of(present)?;
    let unchanged = json.clone();
    let (shown, mut before) = known.unwrap_or_default();
    let now = |pointer: &str| unchanged.pointer(pointer).cloned().unwrap_or(Value::Null);
    // Where the instance has said something else meanwhile, that is its word.
    before.retain(|pointer, _| shown.get(pointer).is_some_and(|it| *it == now(pointer)));
    for (pointer, value) in std::mem::take(&mut before) {
        if wanted.contains_key(&pointer) {
            before.insert(pointer, value);
            continue;
        }
        let (object, key) = place(&mut json, &pointer)?;
        match value {
            Value::Null => drop(object.remove(&key)),
            value => drop(object.insert(key, value)),
        }
    }
    for (pointer, value) in wanted {
        before.entry(pointer.clone()).or_insert_with(|| now(pointer));
        let (object, key) = place(&mut json, pointer)?;
        object.insert(key, value.clone());
    }
    let mut ops = Vec::new();
    let effect = Effect::Patched { shown: wanted.clone(), before, by: by.clone() };
    match (noted.is_some(), wanted.is_empty()) {
        (true, true) => ops.push(Op::Delete { path: note, version: None }),
        (false, true) => {}
        (_, false) if noted.and_then(|it| Effect::read(it.data()?)).as_ref() == Some(&effect) => {}
        (true, false) => ops.push(set(&note, &effect.to_data(), None)),
        (false, false) => {
            ops.extend(missing(tree, &note));
            ops.push(create(tree, &note, Some(Data::new(&effect.to_data())))?);
        }
    }
    if json != unchanged {
        let version = present.stat().version;
        ops.push(set(target, json.to_string().as_bytes(), Some(version)));
    }
    (!ops.is_empty()).then_some(Op::Multi(ops))
}

/// Returns what makes a znode exist, and notes it; `None` if it does.
fn make_op(tree: &Tree, target: &ZnodePath, by: &(String, u64)) -> Option<Op> {
    if tree.get(target.as_str()).is_some() {
        return None;
    }
    let note = Effect::note_of(target).ok()?;
    let data = Effect::Made { policy: by.0.clone(), set_at: by.1 }.to_data();
    let mut ops = missing(tree, &note);
    ops.push(match tree.get(note.as_str()) {
        Some(_) => set(&note, &data, None),
        None => create(tree, &note, Some(Data::new(&data)))?,
    });
    ops.extend(missing(tree, target));
    ops.push(create(tree, target, None)?);
    Some(Op::Multi(ops))
}

/// Returns what takes back a znode that no override wants any more; `None` if its override still holds, whose provider is away.
fn unmake_op(
    tree: &Tree,
    note: &ZnodePath,
    target: &ZnodePath,
    policy: &str,
    set_at: u64,
) -> Option<Op> {
    let holds =
        tree.policies().get(Kind::Overrides, policy).is_some_and(|it| it.mode == Mode::Enforce);
    let znode = tree.get(&path_of(Kind::Overrides, policy));
    if holds && znode.is_some_and(|znode| znode.stat().mzxid.0 == set_at) {
        return None;
    }
    Some(gone(tree, [note, target]))
}

/// Returns what deletes these znodes, those that exist.
fn gone(tree: &Tree, paths: [&ZnodePath; 2]) -> Op {
    let present = paths.into_iter().filter(|path| tree.get(path.as_str()).is_some());
    Op::Multi(present.map(|path| Op::Delete { path: path.clone(), version: None }).collect())
}

/// Yields the notes: their path, the znode that each speaks of, and what they say of it.
fn notes(tree: &Tree) -> impl Iterator<Item = (&ZnodePath, ZnodePath, Effect)> {
    let all = tree.get(EFFECTS).into_iter().flat_map(|all| all.children());
    all.filter_map(|path| {
        let effect = Effect::read(tree.get(path.as_str())?.data()?)?;
        Some((path, Effect::target_of(path)?, effect))
    })
}

fn set(path: &ZnodePath, data: &[u8], version: Option<i32>) -> Op {
    Op::SetData { path: path.clone(), data: Some(Data::new(data)), version }
}

fn create(tree: &Tree, path: &ZnodePath, data: Option<Data>) -> Option<Op> {
    let (parent, name) = (path.parent()?, path.name().to_owned());
    let acl = tree.rules_below(&parent);
    Some(Op::Create { parent, name, data, acl, mode: CreateMode::Persistent })
}

/// Returns the ops that create what is missing of a path's ancestors, the highest first.
pub(super) fn missing(tree: &Tree, path: &ZnodePath) -> Vec<Op> {
    let absent = path.self_and_ancestors().skip(1).take_while(|path| tree.get(path).is_none());
    let ops = absent.filter_map(|path| create(tree, &ZnodePath::parse(path).ok()?, None));
    let mut ops: Vec<Op> = ops.collect();
    ops.reverse();
    ops
}

#[cfg(test)]
#[path = "effects_test.rs"]
mod effects_test;
