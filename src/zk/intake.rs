//! What there is to do for a request, before anything is known of the state.

use std::sync::atomic::Ordering::Relaxed;

use super::Door;
use super::pending::Task;
use super::reads::watched;
use super::rearm::Rearm;
use super::writes::{self, Shape};
use crate::identity::prove;
use crate::jute::{Auth, Ops, Request, Response, WriteOp, errors};
use crate::limits::ZK_IDENTITIES_MAX;
use crate::node::Line;
use crate::types::{AclId, Code, Op};
use crate::watch::WatchMode;

/// Returns what there is to do for a request.
pub(super) fn task(door: &Door, line: &mut Line, request: Request) -> Task {
    let write = |made: Result<(Op, Shape), Code>| match made {
        Ok((op, shape)) => Task::Write { op: Some(Box::new(op)), shape },
        Err(code) => known(door, Err(code.number())),
    };
    match request {
        // By itself it changes nothing and is no question either.
        Request::Write(WriteOp::Check(_)) | Request::DeleteContainer(_) | Request::Sasl(_) => {
            Task::Last(Code::Unimplemented.number())
        }
        Request::Write(wanted) => write(writes::op(wanted)),
        Request::SetAcl(wanted) => write(writes::set_acl(wanted).map(|op| (op, Shape::Stat))),
        Request::Multi(Ops(wanted)) => {
            let count = wanted.len();
            match writes::multi(wanted) {
                Ok((op, shape)) => Task::Write { op: Some(Box::new(op)), shape },
                Err((index, code)) => known(door, Ok(Response::failed_multi(count, index, code))),
            }
        }
        Request::CloseSession => {
            let op = Op::CloseSession { session: line.session(), unless_moved_from: None };
            Task::Write { op: Some(Box::new(op)), shape: Shape::Close }
        }
        Request::Sync(path) => Task::Sync { path, is_passed: false },
        Request::SetWatches(wanted) => Task::Rearm(Box::new(Rearm::one_shot(wanted, admits(line)))),
        Request::SetWatches2(wanted) => Task::Rearm(Box::new(Rearm::new(wanted, admits(line)))),
        Request::Auth(auth) => authenticate(door, line, &auth),
        Request::Reconfig(wanted) if door.options().reconfig => {
            Task::Reconfig { wanted: Box::new(wanted), outcome: None }
        }
        Request::Reconfig(_) => known(door, Err(errors::RECONFIG_DISABLED)),
        request => match watched(&request).map(|(path, mode)| line.admit_watch(path, mode)) {
            Some(Err(_)) => known(door, Err(Code::NoAuth.number())),
            _ => Task::Read(Box::new(request)),
        },
    }
}

/// Returns the task that is left when it is known what is replied: before anything behind it is submitted.
pub(super) fn known(door: &Door, outcome: Result<Response, i32>) -> Task {
    Task::Known { outcome, at: door.node().local().zxid() }
}

/// Returns whether policies let this client watch a path in some way.
fn admits(line: &Line) -> impl Fn(&str, WatchMode) -> bool + '_ {
    |path, mode| line.admit_watch(path, mode).is_ok()
}

/// Takes credentials. What they prove holds from now on, also for what is pending.
fn authenticate(door: &Door, line: &mut Line, auth: &Auth) -> Task {
    let super_digest = door.node().super_digest();
    let proved = prove(&auth.scheme, auth.auth.as_deref().unwrap_or_default(), super_digest);
    let is_one_too_many = |proved: &[AclId]| {
        let new = proved.iter().filter(|who| !line.authority().contains(who)).count();
        line.authority().len() + new > ZK_IDENTITIES_MAX
    };
    let proved = match proved {
        Ok(proved) if is_one_too_many(&proved) => Err(Code::AuthFailed),
        proved => proved,
    };
    match proved {
        Ok(proved) => {
            proved.into_iter().for_each(|who| line.prove(who));
            known(door, Ok(Response::Empty))
        }
        Err(code) => {
            door.meters().auth_failed.fetch_add(1, Relaxed);
            Task::Last(code.number())
        }
    }
}
