//! Where roost answers otherwise than ZooKeeper 3.8.0, and why.

use std::mem::discriminant;

use roost::jute::{OpResult, ReadOp, Request, Response, WriteOp, errors};
use roost::types::{Code, ZnodePath};

use super::connection::Answer;
use super::generate::is_closed;

/// One way in which answers may differ.
pub(crate) struct Deviation {
    pub(crate) name: &'static str,
    pub(crate) why: &'static str,
    is: fn(&Request, &Answer, &Answer) -> bool,
}

impl Deviation {
    /// Returns the deviation that explains two different answers with the same events.
    pub(crate) fn of(
        request: &Request,
        ours: &Answer,
        theirs: &Answer,
    ) -> Option<&'static Deviation> {
        ALLOWED.iter().find(|deviation| (deviation.is)(request, ours, theirs))
    }
}

/// What the history leaves out, and why: no comparison speaks of it.
pub(crate) const NEVER_ASKED: [(&str, &str); 9] = [
    ("what ends by time", "expiry, containers and TTL znodes that go: at no determined step"),
    ("createTTL by itself with a flag that is none of a TTL", "it ends the process of 3.8.0"),
    (
        "createContainer with the flag of another kind, and create with that of a container, where a znode would be made",
        "3.8.0 makes one, which may even be another kind; roost refuses: afterwards there is nothing to compare. Where \
         none can be made both are asked",
    ),
    ("check by itself", "3.8.0 cannot read its log afterwards (ZOOKEEPER-2623)"),
    (
        "deleteContainer and createSession",
        "meant for ZooKeeper's own servers; 3.8.0 carries them out for anybody",
    ),
    (
        "one-shot and persistent watches of one session on one path",
        "3.8.0 keeps one of them and forgets the other (ZOOKEEPER-4466)",
    ),
    (
        "exists with a watch where lists are varied",
        "3.8.0 watches what may not be read; see the first deviation",
    ),
    ("quotas", "3.8.0 counts them on each server, by other rules"),
    ("reconfig, SASL", "they concern the ensemble, and what roost does not have"),
];

const ALLOWED: [Deviation; 8] = [
    Deviation {
        name: "exists needs READ",
        why: "a leak that ZooKeeper closed in 3.8.4 and 3.9.2 (ZOOKEEPER-2590)",
        is: |request, ours, theirs| {
            let Request::Exists(watch) = request else { return false };
            is_closed(&watch.path)
                && (ours.header.err, theirs.header.err) == (Code::NoAuth.number(), errors::OK)
        },
    },
    Deviation {
        name: "getAllChildrenNumber counts what the client could find",
        why: "3.8.0 counts what lies below znodes that it may not read, too",
        is: |request, ours, theirs| {
            let Request::GetAllChildrenNumber(path) = request else { return false };
            let (Some(Response::Number(ours)), Some(Response::Number(theirs))) =
                (&ours.body, &theirs.body)
            else {
                return false;
            };
            (path == "/" || is_closed(path)) && ours < theirs
        },
    },
    Deviation {
        name: "checkWatches speaks of one's own watches",
        why: "3.8.0 says yes when anybody watches the path (`WatchManager.containsWatcher`)",
        is: |request, ours, theirs| {
            matches!(request, Request::CheckWatches(_))
                && (ours.header.err, theirs.header.err) == (errors::NO_WATCHER, errors::OK)
        },
    },
    Deviation {
        name: "create2 in a multi answers with the stat",
        why: "as by itself; ZooKeeper reads it as a plain create there, and its own clients never send it",
        is: |request, ours, theirs| {
            let (Request::Multi(_), Some(Response::Results(ours)), Some(Response::Results(theirs))) =
                (request, &ours.body, &theirs.body)
            else {
                return false;
            };
            let is_same = |(ours, theirs): (&OpResult, &OpResult)| match (ours, theirs) {
                (OpResult::Created2(ours), OpResult::Created(theirs)) => ours.path == *theirs,
                _ => discriminant(ours) == discriminant(theirs),
            };
            ours.0.len() == theirs.0.len() && ours.0.iter().zip(&theirs.0).all(is_same)
        },
    },
    Deviation {
        name: "the empty path is none",
        why: "3.8.0 has the root under that name too, for reads alone",
        is: |request, ours, theirs| {
            read_path(request) == Some("")
                && (ours.header.err, theirs.header.err) == (Code::NoNode.number(), errors::OK)
        },
    },
    Deviation {
        name: "the empty path is none, among several reads",
        why: "as above",
        is: |request, ours, theirs| {
            let (
                Request::MultiRead(ops),
                Some(Response::Results(ours)),
                Some(Response::Results(theirs)),
            ) = (request, &ours.body, &theirs.body)
            else {
                return false;
            };
            let differs_as_meant = |(op, (ours, theirs)): (&ReadOp, (&OpResult, &OpResult))| {
                let (ReadOp::GetData(wanted) | ReadOp::GetChildren(wanted)) = op;
                match wanted.path.is_empty() {
                    true => *ours == OpResult::Failed(Code::NoNode.number()),
                    false => discriminant(ours) == discriminant(theirs),
                }
            };
            let results = ours.0.iter().zip(&theirs.0);
            ours.0.len() == theirs.0.len() && ops.0.iter().zip(results).all(differs_as_meant)
        },
    },
    Deviation {
        name: "a znode that no state could have is refused first",
        why: "roost answers what is wrong with a create in itself before it looks at the state; ZooKeeper looks at the list, \
              the parent, and what may be done there first. Both refuse",
        is: |request, ours, theirs| {
            let Request::Write(op) = request else { return false };
            is_refused_first(op, ours.header.err) && is_of_state(theirs.header.err)
        },
    },
    Deviation {
        name: "an op of a multi that no state could make right is refused first",
        why: "roost names it, whatever the ops before it would have answered; ZooKeeper tries those first, and refuses the \
              whole as unreadable where a kind does not go with its op. Both refuse",
        is: |request, ours, theirs| {
            let (Request::Multi(ops), Some(Response::Results(ours))) = (request, &ours.body) else {
                return false;
            };
            let Some((at, err)) = refused_op(&ours.0) else { return false };
            let is_meant = ops.0.get(at).is_some_and(|op| is_refused_first(op, err));
            let is_theirs = match &theirs.body {
                Some(Response::Results(theirs)) => {
                    refused_op(&theirs.0).is_some_and(|(there, err)| {
                        // The same op for another reason, or an earlier one.
                        there <= at && (is_of_state(err) || there < at)
                    })
                }
                _ => theirs.header.err == Code::MarshallingError.number(),
            };
            is_meant && is_theirs
        },
    },
];

/// Returns the path of a request that reads one znode.
fn read_path(request: &Request) -> Option<&str> {
    match request {
        Request::Exists(watch)
        | Request::GetChildren2(watch)
        | Request::Read(ReadOp::GetData(watch) | ReadOp::GetChildren(watch)) => Some(&watch.path),
        Request::GetAcl(path) | Request::GetAllChildrenNumber(path) => Some(path),
        _ => None,
    }
}

/// Returns whether roost refuses a change with this number before it looks at the state.
fn is_refused_first(op: &WriteOp, err: i32) -> bool {
    // Only the root can be known to exist.
    let known = [Code::BadArguments.number(), Code::NodeExists.number()];
    is_wrong_change(op) && known.contains(&err)
}

/// Returns whether a refusal speaks of what is there, or of a list.
fn is_of_state(err: i32) -> bool {
    let of_state = [
        Code::NoNode,
        Code::NoAuth,
        Code::InvalidAcl,
        Code::NodeExists,
        Code::NoChildrenForEphemerals,
    ];
    of_state.map(Code::number).contains(&err)
}

/// Returns which op of a multi was refused and why, if that is what the results say: nothing done, and nothing tried after it.
fn refused_op(results: &[OpResult]) -> Option<(usize, i32)> {
    let errs: Option<Vec<i32>> = results
        .iter()
        .map(|result| match result {
            OpResult::Failed(err) => Some(*err),
            _ => None,
        })
        .collect();
    let errs = errs?;
    let at = errs.iter().position(|err| *err != errors::OK)?;
    let rest = Code::RuntimeInconsistency.number();
    errs[at + 1..].iter().all(|err| *err == rest).then_some((at, errs[at]))
}

fn is_wrong_change(op: &WriteOp) -> bool {
    let create = match op {
        WriteOp::Create(create) | WriteOp::Create2(create) | WriteOp::CreateContainer(create) => {
            create
        }
        WriteOp::CreateTtl(wanted) => &wanted.create,
        WriteOp::SetData(wanted) => return ZnodePath::parse(&wanted.path).is_err(),
        WriteOp::Check(wanted) => return ZnodePath::parse(&wanted.path).is_err(),
        WriteOp::Delete(wanted) => {
            return ZnodePath::parse(&wanted.path).map_or(true, |path| path.is_root());
        }
    };
    let is_kind = match op {
        WriteOp::CreateContainer(_) => create.flags == 4,
        WriteOp::CreateTtl(wanted) => {
            matches!(create.flags, 5 | 6) && (1..1 << 40).contains(&wanted.ttl_ms)
        }
        _ => matches!(create.flags, 0..=3),
    };
    let is_path = match create.flags {
        2 | 3 | 6 => ZnodePath::parse_sequential(&create.path).is_ok(),
        _ => ZnodePath::parse(&create.path).is_ok_and(|path| !path.is_root()),
    };
    !is_kind || !is_path
}
