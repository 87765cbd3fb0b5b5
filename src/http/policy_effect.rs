//! What a policy would do if it was set: looked at for `/v1/policies/test`, by which nothing is set.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Door;
use super::error::Failed;
use super::protection::StandingBody;
use super::write;
use crate::limits::POLICY_TEST_ZNODES_MAX;
use crate::node;
use crate::policy::{
    self, Asked, Kind, Layout, Mode, Notify, Pattern, Policy, Reach, Terms, path_of,
};
use crate::registry::{self, CustomLayout, Instance, Layouts};
use crate::tree::{Standing, Tree};
use crate::types::{AclId, CreateMode, Data, Op, Origin, SessionId, Txn, ZnodePath};

/// Znodes that the answer to a test names.
const EXAMPLES_MAX: usize = 10;
/// Changes and sessions that it names.
const CONCERNED_MAX: usize = 100;

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

/// What somebody may see of the znodes, by their access control lists and by the policies about following, as if it read them.
pub(super) struct Sight<'a> {
    pub(super) tree: &'a Tree,
    pub(super) authority: &'a [AclId],
}

impl Sight<'_> {
    /// Returns whether it may see which children there are.
    fn of_children(&self, parent: &str) -> bool {
        self.tree.readable(parent, self.authority).is_ok()
            && self.may_follow(parent, Reach::Children)
    }

    /// Returns whether it may see that a znode exists.
    fn of_name(&self, path: &str) -> bool {
        path.rsplit_once('/').is_none_or(|(parent, _)| match parent {
            "" => self.of_children("/"),
            parent => self.of_children(parent),
        })
    }

    /// Returns whether it may see what a znode says, and that it exists.
    fn of_data(&self, path: &str) -> bool {
        self.of_name(path)
            && self.tree.readable(path, self.authority).is_ok()
            && self.may_follow(path, Reach::Znode)
    }

    /// Returns whether it may see a znode that would be created: what would lie beside the providers of a service of Dubbo says
    /// where these are.
    fn of_created(&self, path: &ZnodePath) -> bool {
        match path.as_str().rsplit_once("/configurators") {
            Some((service, _)) => self.of_children(&format!("{service}/providers")),
            None => self.of_name(path.as_str()),
        }
    }

    fn may_follow(&self, path: &str, reach: Reach) -> bool {
        let asked = Asked { path, reach, authority: self.authority };
        policy::following_denial(self.tree.policies(), &asked).is_none_or(|it| !it.is_enforced)
    }
}

/// Returns how many znodes that the caller may see a pattern matches, whether there may be more, and the first of them.
pub(super) fn matched(sight: &Sight<'_>, pattern: &Pattern) -> (usize, bool, Vec<String>) {
    let tree = sight.tree;
    let mut all = tree.subtree(pattern.prefix()).map(|(path, _)| path.to_string());
    let (mut count, mut examples) = (0, Vec::new());
    for path in all.by_ref().take(POLICY_TEST_ZNODES_MAX) {
        if !pattern.matches(&path) || !sight.of_name(&path) {
            continue;
        }
        count += 1;
        if examples.len() < EXAMPLES_MAX {
            examples.push(path);
        }
    }
    (count, all.next().is_some(), examples)
}

/// Returns the state as it would be with a policy; one that only observes acts in it.
pub(super) fn with_policy(
    tree: &Tree,
    (kind, name): (Kind, &str),
    (policy, data): (&Policy, &Data),
) -> Result<Tree, Failed> {
    let path = ZnodePath::parse(&path_of(kind, name))?;
    let parent = path.parent().ok_or_else(|| Failed::bad_arguments("name"))?;
    let mut data = data.clone();
    if policy.mode == Mode::Observe {
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

/// Returns what overrides would change of what the caller may see.
pub(super) fn changes(
    sight: &Sight<'_>,
    name: &str,
    wanted: (&Policy, &Data),
) -> Result<Vec<ChangeBody>, Failed> {
    let tree = sight.tree;
    let tried = with_policy(tree, (Kind::Overrides, name), wanted)?;
    let planned = |tree: &Tree| {
        let ops = node::planned_effects(tree).into_iter().flat_map(|op| match op {
            Op::Multi(ops) => ops,
            op => vec![op],
        });
        ops.collect::<Vec<Op>>()
    };
    // What the policies that there are still have to do is not its doing.
    let anyway = planned(tree);
    let ops = planned(&tried).into_iter().filter(|op| !anyway.contains(op));
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
            && if op == "create" { sight.of_created(&path) } else { sight.of_data(path.as_str()) };
        let (before, after) = (before.map(|data| text(data)), after.map(|data| text(&data)));
        is_shown.then(|| ChangeBody { path: path.to_string(), op, before, after })
    };
    Ok(ops.filter_map(change).take(CONCERNED_MAX).collect())
}

/// Returns the sessions of which a policy says how long they live on.
pub(super) fn graces(tried: &Tree) -> Vec<GraceBody> {
    let sessions = tried.sessions().take(POLICY_TEST_ZNODES_MAX);
    let graces = sessions.filter_map(|(session, _)| {
        let grace_ms = node::grace_ms(tried, session)?;
        Some(GraceBody { session: session.to_string(), grace_ms })
    });
    graces.take(CONCERNED_MAX).collect()
}

/// Returns how services would stand under a policy of removal.
pub(super) fn standings(
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

/// Returns how entries would be read in a layout: of those that there are the first which the caller may see, and a write, of
/// which this is the path and the data.
pub(super) fn entries(
    sight: &Sight<'_>,
    name: &str,
    policy: &Policy,
    write: Option<(&str, Option<&str>)>,
) -> Result<Vec<ReadBody>, Failed> {
    let Terms::Layout(Layout { template, reading }) = &policy.terms else {
        return Ok(Vec::new());
    };
    let (name, template, reading) = (Arc::from(name), template.clone(), reading.clone());
    let tree = sight.tree;
    let layouts = Layouts::new([Arc::new(CustomLayout { name, template, reading })], tree.zxid());
    let below = tree.descendants(policy.pattern.prefix()).take(POLICY_TEST_ZNODES_MAX);
    let there = below
        .filter(|(path, _)| policy.pattern.matches(path.as_str()) && sight.of_data(path.as_str()));
    let there =
        there.map(|(path, znode)| read_entry(&layouts, path, znode.data().map(|data| &data[..])));
    let mut entries: Vec<ReadBody> = there.take(CONCERNED_MAX).collect();
    if let Some((path, data)) = write {
        let path = ZnodePath::parse(path)?;
        entries.push(read_entry(&layouts, &path, data.map(str::as_bytes)));
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
pub(super) fn spread(door: &Door, policy: &Policy) -> Option<SpreadBody> {
    let Terms::Notify(Notify { waves, interval_ms, .. }) = policy.terms else { return None };
    let (connections, subscriptions) = door.node().listeners(&policy.pattern);
    Some(SpreadBody { waves, round_ms: waves * interval_ms, connections, subscriptions })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::testing::{put, with_session};

    #[test]
    fn what_other_overrides_still_have_to_do_is_not_among_the_changes_of_a_new_one() {
        let (mut tree, session) = with_session();
        for id in ["a", "b"] {
            let data = format!(
                r#"{{"name":"app","id":"{id}","address":"10.0.0.5","port":8080,"payload":{{
                "@class":"org.springframework.cloud.zookeeper.discovery.ZookeeperInstance","metadata":{{}}}}}}"#
            );
            put(&mut tree, session, &format!("/services/app/{id}"), &data);
        }
        let of = |id: &str| {
            format!(
                r#"{{"set_by":"a","reason":"b","pattern":"/services/app/{id}","status":"out_of_service"}}"#
            )
        };
        let present = path_of(Kind::Overrides, "present");
        put(&mut tree, SessionId::NONE, &present, &of("a"));
        assert!(!node::planned_effects(&tree).is_empty(), "it has not been done yet");
        let data = of("b");
        let policy = Policy::parse(Kind::Overrides, data.as_bytes()).unwrap();
        let data = Data::new(data.as_bytes());
        let sight = Sight { tree: &tree, authority: &[] };
        let changed = changes(&sight, "new", (&policy, &data)).unwrap();
        let paths: Vec<&str> = changed.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["/services/app/b"]);
    }
}
