use crate::jute::{Reconfig, Request, Response};
use crate::types::Op;

use super::rearm::Rearm;
use super::writes::Shape;

/// A request whose reply has not been written yet.
pub(super) struct Pending {
    pub(super) xid: i32,
    /// When it was read from the socket, µs.
    pub(super) began_us: u64,
    pub(super) task: Task,
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
    /// Nothing: this is the reply.
    Reply(Response),
    /// Nothing: it is refused with this number.
    Refused(i32),
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
