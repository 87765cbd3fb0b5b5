//! Where roost answers otherwise than ZooKeeper 3.8.0, and why.

use roost::jute::{Request, errors};
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
    /// Returns the deviation that explains two different answers.
    pub(crate) fn of(
        request: &Request,
        ours: &Answer,
        theirs: &Answer,
    ) -> Option<&'static Deviation> {
        ALLOWED.iter().find(|deviation| (deviation.is)(request, ours, theirs))
    }
}

const ALLOWED: [Deviation; 2] = [
    Deviation {
        name: "exists needs READ",
        why: "a leak that ZooKeeper closed in 3.8.4 and 3.9.2 (ZOOKEEPER-2590): 3.8.0 tells anybody's stat to anybody",
        is: |request, ours, theirs| {
            let Request::Exists(watch) = request else { return false };
            is_closed(&watch.path)
                && ours.events == theirs.events
                && (ours.header.err, theirs.header.err) == (Code::NoAuth.number(), errors::OK)
        },
    },
    Deviation {
        name: "a path that cannot exist",
        why: "roost says that the path is wrong; ZooKeeper looks whether it, or the parent, exists before it looks at it",
        is: |request, ours, theirs| {
            path_of(request).is_some_and(|path| ZnodePath::parse(path).is_err())
                && ours.events == theirs.events
                && (ours.header.err, theirs.header.err)
                    == (Code::BadArguments.number(), Code::NoNode.number())
        },
    },
];

/// Returns the path of a request that has one.
fn path_of(request: &Request) -> Option<&str> {
    use roost::jute::{ReadOp, WriteOp};
    Some(match request {
        Request::Exists(watch)
        | Request::GetChildren2(watch)
        | Request::Read(ReadOp::GetData(watch) | ReadOp::GetChildren(watch)) => &watch.path,
        Request::GetAcl(path) | Request::GetAllChildrenNumber(path) => path,
        Request::Write(WriteOp::Create(create) | WriteOp::Create2(create)) => &create.path,
        Request::Write(WriteOp::CreateContainer(create)) => &create.path,
        Request::Write(WriteOp::CreateTtl(create)) => &create.create.path,
        Request::Write(WriteOp::Delete(delete)) => &delete.path,
        _ => return None,
    })
}
