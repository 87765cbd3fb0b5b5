use super::Door;
use super::error::Failed;
use super::extract::Caller;
use crate::tree::{Tree, permits};
use crate::types::{Code, CreateMode, Error, Failure, Op, Perms, Reply, ZnodePath, Zxid};

/// How often the door tries again when other clients create or delete the same parents at the same time.
const ATTEMPTS_MAX: usize = 6;
/// Advice to a client when that was not enough, ms.
const RETRY_AFTER_MS: u64 = 50;

/// Submits one op. Returns its reply and its zxid; a refusal by the tree is a failure.
pub(crate) async fn submit(door: &Door, caller: Caller, op: Op) -> Result<(Reply, Zxid), Failed> {
    let answer = door.node().submit(caller.into_request(op)).await?;
    match answer.result {
        Ok(reply) => Ok((reply, answer.zxid)),
        Err(failure) => Err(Failed::refused(&failure, answer.zxid)),
    }
}

/// Submits what `plan` makes of this node's present state. When it is refused, `settle` sees the refusal and
/// a state that contains its reason, and gives the client's answer, or `None` if a new plan may succeed
/// because the state has moved under the old one.
///
/// Under an idempotency key the replies of all attempts are remembered. A client's retry may therefore meet
/// a reply to a plan other than the present one, so `settle` and the reader of the reply must not depend on
/// the plan.
pub(crate) async fn submit_planned(
    door: &Door,
    caller: &Caller,
    plan: impl Fn(&Tree) -> Result<Op, Failed>,
    settle: impl Fn(&Failure, &Tree) -> Option<Failed>,
) -> Result<(Reply, Zxid), Failed> {
    for attempt in 0..ATTEMPTS_MAX {
        let op = plan(&door.node().local())?;
        let submitted = door.node().submit(caller.request(attempt, op)).await;
        let answer = submitted.map_err(|error| Failed::from(error).into_one())?;
        match answer.result {
            Ok(reply) => return Ok((reply, answer.zxid)),
            Err(failure) => {
                if let Some(failed) = settle(&failure, &door.node().local()) {
                    return Err(failed.at(answer.zxid));
                }
            }
        }
    }
    let what = "the number of attempts on znodes that others keep changing";
    Err(Error::Busy { what, retry_after_ms: RETRY_AFTER_MS }.into())
}

/// Checks that somebody may delete all of these, as the tree will. Errors: `no_auth`.
pub(crate) fn check_deletable<'a>(
    tree: &Tree,
    caller: &Caller,
    mut paths: impl Iterator<Item = &'a ZnodePath>,
) -> Result<(), Failed> {
    let may_delete = |path: &ZnodePath| {
        let parent = path.parent_str().and_then(|parent| tree.get(parent));
        parent.is_some_and(|parent| permits(parent.acl(), &caller.authority, Perms::DELETE))
    };
    match paths.all(may_delete) {
        true => Ok(()),
        false => Err(Failed::code(Code::NoAuth).at(tree.zxid())),
    }
}

/// Settles the refusal of a create with its missing parents. A parent that has appeared or gone meanwhile
/// needs a new plan; a create alone that meets its own znode is final.
pub(crate) fn settle_create(failure: &Failure) -> Option<Failed> {
    match failure.code {
        Code::NoNode => None,
        Code::NodeExists if failure.multi_index.is_some() => None,
        // The client asked for one thing: the index within our multi means nothing to it.
        code => Some(Failed::code(code)),
    }
}

/// Returns the ops that create those of `parents` and of their ancestors that do not exist, parents first,
/// persistent, with the list that [`Tree::rules_below`] gives them.
pub(crate) fn missing<'a>(
    tree: &Tree,
    parents: impl IntoIterator<Item = &'a ZnodePath>,
) -> Vec<Op> {
    let mut paths = std::collections::BTreeSet::new();
    for parent in parents {
        let absent = parent.self_and_ancestors().take_while(|path| tree.get(path).is_none());
        paths.extend(absent.map(str::to_owned));
    }
    // Ordered as text, an ancestor comes before what is below it.
    let create = |path: String| {
        let path = ZnodePath::parse(&path).ok()?;
        let (parent, name) = (path.parent()?, path.name().to_owned());
        let acl = tree.rules_below(&parent);
        Some(Op::Create { parent, name, data: None, acl, mode: CreateMode::Persistent })
    };
    paths.into_iter().filter_map(create).collect()
}

/// Returns the only op as it is, several as a multi.
pub(crate) fn together(mut ops: Vec<Op>) -> Op {
    match ops.len() {
        1 => ops.remove(0),
        _ => Op::Multi(ops),
    }
}

/// Returns the reply to the last op of a multi, or to the only one.
pub(crate) fn last(reply: Reply) -> Reply {
    match reply {
        Reply::Multi(mut replies) => match replies.pop() {
            Some(reply) => reply,
            None => Reply::Multi(replies),
        },
        reply => reply,
    }
}

/// Returns the refusal of a request whose idempotency key was first used for a request of another kind.
pub(crate) fn other_kind(zxid: Zxid) -> Failed {
    Failed::bad_arguments("this Idempotency-Key was used for another kind of request").at(zxid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Outcome, Txn, TxnTime};

    fn path(text: &str) -> ZnodePath {
        ZnodePath::parse(text).unwrap()
    }

    fn apply(tree: &mut Tree, op: Op) -> Result<Reply, Failure> {
        let txn = Txn {
            origin: Default::default(),
            session: Default::default(),
            owner: None,
            authority: Vec::new(),
            idempotency_key: None,
            op,
        };
        match tree.apply(TxnTime::default(), &txn) {
            Outcome::Applied(applied) => applied.result,
            other => unreachable!("an untracked origin is always applied: {other:?}"),
        }
    }

    #[test]
    fn exactly_the_missing_parents_are_created_each_once_and_parents_first() {
        let mut tree = Tree::new();
        let ops = missing(&tree, [&path("/a/b/c"), &path("/a/b-"), &path("/a/b"), &path("/")]);
        let made = |ops: &[Op]| {
            ops.iter()
                .map(|op| match op {
                    Op::Create { parent, name, .. } => parent.child(name).unwrap().to_string(),
                    other => unreachable!("{other:?}"),
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(made(&ops), ["/a", "/a/b", "/a/b-", "/a/b/c"]);
        apply(&mut tree, Op::Multi(ops)).unwrap();
        assert_eq!(made(&missing(&tree, [&path("/a/b/d/e")])), ["/a/b/d", "/a/b/d/e"]);
        assert!(missing(&tree, [&path("/a/b")]).is_empty());
    }

    #[test]
    fn only_what_a_new_plan_can_change_is_tried_again() {
        let failure = |code, multi_index| Failure { code, multi_index };
        for moved in [failure(Code::NodeExists, Some(0)), failure(Code::NoNode, None)] {
            assert!(settle_create(&moved).is_none(), "{moved:?}");
        }
        for last in [failure(Code::NodeExists, None), failure(Code::NoAuth, Some(0))] {
            let failed = settle_create(&last).unwrap();
            assert_eq!(
                (failed.parts().1.code, failed.parts().1.multi_index),
                (last.code.name(), None)
            );
        }
    }
}
