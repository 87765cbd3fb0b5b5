use crate::jute::{OpResult, ReadOp, Reconfig, Request, Response, WriteOp};
use crate::types::{Acl, Op, Zxid};

use super::rearm::Rearm;
use super::writes::Shape;

/// A request whose reply has not been written yet.
pub(super) struct Pending {
    pub(super) xid: i32,
    /// About how much memory it takes, bytes.
    pub(super) bytes: usize,
    /// When it was read from the socket, µs.
    pub(super) began_us: u64,
    pub(super) task: Task,
}

/// What an item of a list takes at most beside its texts and data, as it came and as what is made of it, bytes: such an
/// item may have come in a dozen bytes.
const ITEM_BYTES: usize = {
    let sizes = [
        size_of::<WriteOp>(),
        size_of::<Op>(),
        size_of::<ReadOp>(),
        size_of::<OpResult>(),
        size_of::<Acl>(),
    ];
    let (mut at, mut most) = (0, 0);
    while at < sizes.len() {
        most = if sizes[at] > most { sizes[at] } else { most };
        at += 1;
    }
    most
};

/// Returns about how much memory a request takes that came in a frame of so many bytes. The lists of watches to be set
/// again are kept as they came.
pub(super) fn bytes_of(request: &Request, frame_bytes: usize) -> usize {
    let rules = |op: &WriteOp| match op {
        WriteOp::Create(create) | WriteOp::Create2(create) | WriteOp::CreateContainer(create) => {
            create.acl.len()
        }
        WriteOp::CreateTtl(wanted) => wanted.create.acl.len(),
        WriteOp::Delete(_) | WriteOp::SetData(_) | WriteOp::Check(_) => 0,
    };
    let items = match request {
        Request::Multi(ops) => ops.0.iter().map(|op| 1 + rules(op)).sum(),
        Request::MultiRead(ops) => ops.0.len(),
        Request::Write(op) => rules(op),
        Request::SetAcl(wanted) => wanted.acl.len(),
        _ => 0,
    };
    size_of::<Pending>() + frame_bytes + items * ITEM_BYTES
}

/// What is still to be done for a request.
pub(super) enum Task {
    /// To await the answer of the log. With an op it has not even been submitted.
    Write {
        /// The op, until it is submitted.
        op: Option<Box<Op>>,
        /// What the reply looks like.
        shape: Shape,
    },
    /// To look at the state.
    Read(Box<Request>),
    /// To set watches again, part by part.
    Rearm(Box<Rearm>),
    /// To be behind everything that was committed when it came.
    Sync {
        /// What the reply repeats.
        path: String,
        /// Whether it is.
        is_passed: bool,
    },
    /// To change the members. What became of it is known once it was carried out.
    Reconfig {
        /// What the client wants.
        wanted: Box<Reconfig>,
        /// What became of it.
        outcome: Option<Result<(), i32>>,
    },
    /// Nothing: it is known what is replied, or by which number it is refused.
    Known {
        /// What.
        outcome: Result<Response, i32>,
        /// The state that there was when it became known: what led to it is told before. No write behind this is part of
        /// it, so no reply that follows has to go back.
        at: Zxid,
    },
    /// Nothing: it is refused with this number, and then the connection is closed.
    Last(i32),
}

impl Task {
    /// Returns whether this speaks of the state, which must then not have what comes behind it.
    pub(super) fn is_read(&self) -> bool {
        matches!(self, Task::Read(_) | Task::Rearm(_) | Task::Sync { .. } | Task::Reconfig { .. })
    }

    /// Returns whether this is a write that has not been submitted.
    pub(super) fn is_held(&self) -> bool {
        matches!(self, Task::Write { op: Some(_), .. })
    }
}

#[cfg(test)]
mod tests {
    use super::{ITEM_BYTES, bytes_of};
    use crate::jute::{Create, Ops, PathVersion, Request, WriteOp};
    use crate::types::{Acl, AclId, Perms};

    #[test]
    fn lists_of_small_items_count_as_what_they_become() {
        let check = WriteOp::Check(PathVersion { path: String::new(), version: 0 });
        let multi = Request::Multi(Ops(vec![check; 1_000]));
        assert!(bytes_of(&multi, 17_000) > 1_000 * ITEM_BYTES);
        let rule =
            Acl { perms: Perms::ALL, id: AclId { scheme: String::new(), id: String::new() } };
        let create = Create { path: String::new(), data: None, acl: vec![rule; 100], flags: 0 };
        let multi = Request::Multi(Ops(vec![WriteOp::Create(create); 10]));
        assert!(bytes_of(&multi, 0) > 1_000 * ITEM_BYTES);
        assert!(bytes_of(&Request::Ping, 0) < 1_000);
    }
}
