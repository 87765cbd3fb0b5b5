//! Requests that change something: what they ask the tree for, and what its answer looks like.

use crate::identity::received;
use crate::jute::{Create, CreateTtl, OpResult, Ops, PathStat, Response, WriteOp};
use crate::limits::{DATA_BYTES_MAX, MULTI_OPS_MAX, TTL_MS_MAX};
use crate::types::{Code, CreateMode, Data, Failure, Op, Reply, ZnodePath};

/// What the reply to a write looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The path of a new znode.
    Path,
    /// The path of a new znode, and its stat.
    PathStat,
    /// A stat.
    Stat,
    /// Nothing.
    Empty,
    /// The results of a multi; for each op, whether a new znode's stat is wanted.
    Multi(Vec<bool>),
    /// Nothing, and then the connection is closed.
    Close,
}

/// Returns the op that a request stands for. Everything about it that can be wrong without a look at the state is
/// refused here: nothing of it may reach the log.
pub(super) fn op(request: WriteOp) -> Result<(Op, Shape), Code> {
    let shape = shape(&request);
    let op = match request {
        WriteOp::Create(create) | WriteOp::Create2(create) => {
            let mode = match create.flags {
                0 => CreateMode::Persistent,
                1 => CreateMode::Ephemeral,
                2 => CreateMode::PersistentSequential,
                3 => CreateMode::EphemeralSequential,
                _ => return Err(Code::BadArguments),
            };
            creation(create, mode)?
        }
        WriteOp::CreateContainer(create) if create.flags == 4 => {
            creation(create, CreateMode::Container)?
        }
        WriteOp::CreateContainer(_) => return Err(Code::BadArguments),
        WriteOp::CreateTtl(CreateTtl { create, ttl_ms }) => {
            let ttl_ms = u64::try_from(ttl_ms).map_err(|_| Code::BadArguments)?;
            let mode = match create.flags {
                5 => CreateMode::Ttl(ttl_ms),
                6 => CreateMode::TtlSequential(ttl_ms),
                _ => return Err(Code::BadArguments),
            };
            if !(1..=TTL_MS_MAX).contains(&ttl_ms) {
                return Err(Code::BadArguments);
            }
            creation(create, mode)?
        }
        WriteOp::Delete(wanted) => {
            let path = path(&wanted.path)?;
            if path.is_root() {
                return Err(Code::BadArguments);
            }
            Op::Delete { path, version: version(wanted.version) }
        }
        WriteOp::SetData(wanted) => {
            check_data(wanted.data.as_ref())?;
            let version = version(wanted.version);
            Op::SetData { path: path(&wanted.path)?, data: wanted.data, version }
        }
        WriteOp::Check(wanted) => {
            Op::Check { path: path(&wanted.path)?, version: version(wanted.version) }
        }
    };
    Ok((op, shape))
}

fn shape(request: &WriteOp) -> Shape {
    match request {
        WriteOp::Create(_) => Shape::Path,
        WriteOp::Create2(_) | WriteOp::CreateContainer(_) | WriteOp::CreateTtl(_) => {
            Shape::PathStat
        }
        WriteOp::SetData(_) => Shape::Stat,
        WriteOp::Delete(_) | WriteOp::Check(_) => Shape::Empty,
    }
}

/// Returns the op of a multi. An error comes with the index of the op that is wrong.
pub(super) fn multi(requests: Vec<WriteOp>) -> Result<(Op, Shape), (usize, Code)> {
    if requests.len() > MULTI_OPS_MAX {
        return Err((0, Code::BadArguments));
    }
    let mut ops = Vec::with_capacity(requests.len());
    let mut with_stat = Vec::with_capacity(requests.len());
    for (index, request) in requests.into_iter().enumerate() {
        let (op, shape) = op(request).map_err(|code| (index, code))?;
        ops.push(op);
        with_stat.push(shape == Shape::PathStat);
    }
    Ok((Op::Multi(ops), Shape::Multi(with_stat)))
}

/// Returns the op of a change of an access control list.
pub(super) fn set_acl(wanted: crate::jute::SetAcl) -> Result<Op, Code> {
    let (acl, aversion) = (received(wanted.acl), version(wanted.version));
    Ok(Op::SetAcl { path: path(&wanted.path)?, acl, aversion })
}

fn creation(create: Create, mode: CreateMode) -> Result<Op, Code> {
    check_data(create.data.as_ref())?;
    let (parent, name) = match mode.is_sequential() {
        true => ZnodePath::parse_sequential(&create.path).map_err(|_| Code::BadArguments)?,
        false => {
            let path = path(&create.path)?;
            let parent = path.parent().ok_or(Code::NodeExists)?;
            (parent, path.name().to_owned())
        }
    };
    Ok(Op::Create { parent, name, data: create.data, acl: received(create.acl), mode })
}

fn path(text: &str) -> Result<ZnodePath, Code> {
    ZnodePath::parse(text).map_err(|_| Code::BadArguments)
}

fn version(number: i32) -> Option<i32> {
    (number != -1).then_some(number)
}

fn check_data(data: Option<&Data>) -> Result<(), Code> {
    match data.is_some_and(|data| data.len() > DATA_BYTES_MAX) {
        true => Err(Code::BadArguments),
        false => Ok(()),
    }
}

/// Returns the reply to a write that was carried out, or the number of its refusal.
pub(super) fn reply(shape: &Shape, result: Result<Reply, Failure>) -> Result<Response, i32> {
    match (shape, result) {
        (Shape::Multi(with_stat), Ok(Reply::Multi(replies))) => {
            let results = replies.into_iter().zip(with_stat);
            let results = results.map(|(reply, with_stat)| item(reply, *with_stat));
            Ok(Response::Results(Ops(results.collect())))
        }
        (Shape::Multi(with_stat), Err(failure)) => {
            let index = failure.multi_index.unwrap_or(0) as usize;
            Ok(Response::failed_multi(with_stat.len(), index, failure.code))
        }
        (_, Err(failure)) => Err(failure.code.number()),
        (Shape::Path, Ok(Reply::Created { path, .. })) => Ok(Response::Path(path.to_string())),
        (Shape::PathStat, Ok(Reply::Created { path, stat })) => {
            Ok(Response::Created(PathStat { path: path.to_string(), stat }))
        }
        (Shape::Stat, Ok(Reply::DataSet { stat } | Reply::AclSet { stat })) => {
            Ok(Response::Stat(stat))
        }
        (_, Ok(_)) => Ok(Response::Empty),
    }
}

/// Returns what is replied to a write that is refused before the log.
pub(super) fn refusal(
    shape: &Shape,
    code: Code,
    multi_index: Option<u32>,
) -> Result<Response, i32> {
    match shape {
        Shape::Multi(with_stat) => {
            let index = multi_index.unwrap_or(0) as usize;
            Ok(Response::failed_multi(with_stat.len(), index, code))
        }
        _ => Err(code.number()),
    }
}

fn item(reply: Reply, with_stat: bool) -> OpResult {
    match reply {
        Reply::Created { path, stat } if with_stat => {
            OpResult::Created2(PathStat { path: path.to_string(), stat })
        }
        Reply::Created { path, .. } => OpResult::Created(path.to_string()),
        Reply::DataSet { stat } | Reply::AclSet { stat } => OpResult::DataSet(stat),
        Reply::Checked => OpResult::Checked,
        Reply::Deleted
        | Reply::Multi(_)
        | Reply::Session { .. }
        | Reply::Removed { .. }
        | Reply::Deregistered { .. }
        | Reply::Held { .. } => OpResult::Deleted,
    }
}
