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

const ALLOWED: [Deviation; 4] = [
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
        name: "what is wrong in itself is refused first",
        why: "roost refuses what no state could make right before it looks at the state, in a \
              multi too; ZooKeeper looks at the rules and at what exists first. Both refuse",
        is: |request, ours, theirs| is_wrong(request) && is_refused(ours) && is_refused(theirs),
    },
];

/// Returns whether nothing was done, or, by a multi for reading, whether nothing was read.
fn is_refused(answer: &Answer) -> bool {
    match &answer.body {
        Some(Response::Results(results)) => {
            results.0.iter().all(|result| matches!(result, OpResult::Failed(_)))
        }
        Some(_) => false,
        None => true,
    }
}

/// Returns whether no state could make a request right.
fn is_wrong(request: &Request) -> bool {
    let is_path = |path: &str| ZnodePath::parse(path).is_ok();
    match request {
        Request::Exists(watch)
        | Request::GetChildren2(watch)
        | Request::Read(ReadOp::GetData(watch) | ReadOp::GetChildren(watch)) => {
            !is_path(&watch.path)
        }
        Request::GetAcl(path) | Request::GetAllChildrenNumber(path) => !is_path(path),
        Request::SetAcl(wanted) => !is_path(&wanted.path),
        Request::Write(op) => is_wrong_change(op),
        Request::Multi(ops) => ops.0.iter().any(is_wrong_change),
        _ => false,
    }
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
    match create.flags {
        2 | 3 | 6 => ZnodePath::parse_sequential(&create.path).is_err(),
        _ => ZnodePath::parse(&create.path).map_or(true, |path| path.is_root()),
    }
}
