//! Requests that look at the state: pure functions of a tree and of who asks.

use crate::jute::{
    AclStat, ClientInfo, DataStat, Jute, OpResult, Ops, PathWatch, ReadOp, Request, Response,
    Writer, errors,
};
use crate::limits::{MULTI_OPS_MAX, ZK_MULTI_READ_BYTES_MAX};
use crate::node::OwnWatches;
use crate::tree::{Tree, Znode};
use crate::types::{Acl, AclId, Code, Perms, SessionId, ZnodePath};
use crate::watch::WatchMode;

/// About how much a name in a list takes, bytes.
const NAME_BYTES: usize = 64;
/// About how much a reply takes that finds nothing, bytes.
const REPLY_BYTES: usize = 96;

/// Who asks.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) session: SessionId,
    pub(super) authority: &'a [AclId],
}

/// What is replied to a read.
pub(super) enum Answer<'a> {
    /// This.
    Response(Response),
    /// The names of the children, and the stat if wanted: written without a copy of either.
    Children { znode: &'a Znode, with_stat: bool },
}

impl Answer<'_> {
    /// Returns whether this has a list of names, which grows with what is there.
    pub(super) fn is_list(&self) -> bool {
        let is_list = |result: &OpResult| matches!(result, OpResult::Children(_));
        match self {
            Answer::Children { .. } | Answer::Response(Response::Names(_)) => true,
            Answer::Response(Response::Results(Ops(results))) => results.iter().any(is_list),
            Answer::Response(_) => false,
        }
    }

    /// Appends it.
    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        match self {
            Answer::Response(response) => response.encode(writer),
            Answer::Children { znode, with_stat } => {
                writer.length(znode.num_children());
                znode.children().for_each(|child| writer.bytes(Some(child.name().as_bytes())));
                if *with_stat {
                    znode.stat().write(writer);
                }
            }
        }
    }
}

/// Returns the answer to a read, or the number of its refusal.
pub(super) fn answer<'a>(
    tree: &'a Tree,
    asker: Asker<'_>,
    request: &Request,
) -> Result<Answer<'a>, i32> {
    let response = match request {
        Request::Exists(wanted) => Response::Stat(
            tree.readable(&wanted.path, asker.authority).map_err(Code::number)?.stat(),
        ),
        Request::Read(ReadOp::GetData(wanted)) => {
            let znode = tree.readable(&wanted.path, asker.authority).map_err(Code::number)?;
            Response::Data(DataStat { data: znode.data().cloned(), stat: znode.stat() })
        }
        Request::Read(ReadOp::GetChildren(PathWatch { path, .. })) => {
            let znode = tree.readable(path, asker.authority).map_err(Code::number)?;
            return Ok(Answer::Children { znode, with_stat: false });
        }
        Request::GetChildren2(PathWatch { path, .. }) => {
            let znode = tree.readable(path, asker.authority).map_err(Code::number)?;
            return Ok(Answer::Children { znode, with_stat: true });
        }
        Request::GetAcl(path) => acl(tree, asker, path).map_err(Code::number)?,
        Request::MultiRead(Ops(ops)) => Response::Results(Ops(items(tree, asker, ops)?)),
        Request::GetEphemerals(prefix) => {
            let own = tree.ephemerals(asker.session).map(ZnodePath::as_str);
            let wanted = own.filter(|path| path.starts_with(prefix.as_str()));
            Response::Names(wanted.map(str::to_owned).collect())
        }
        Request::GetAllChildrenNumber(path) => {
            tree.readable(path, asker.authority).map_err(Code::number)?;
            // Unlike ZooKeeper's number, this one does not say how much there is where the client may not look.
            let count = tree.found_count(path, asker.authority);
            Response::Number(i32::try_from(count).unwrap_or(i32::MAX))
        }
        Request::WhoAmI => Response::Identities(asker.authority.iter().map(shown).collect()),
        _ => return Err(errors::SYSTEM_ERROR),
    };
    Ok(Answer::Response(response))
}

/// Returns about how many bytes a read finds, at least in order of magnitude. Cost: O(1).
pub(super) fn size(tree: &Tree, session: SessionId, request: &Request) -> usize {
    let data = |path: &str| tree.get(path).and_then(|it| it.data()).map_or(0, |data| data.len());
    let names = |path: &str| tree.get(path).map_or(0, |it| it.num_children()) * NAME_BYTES;
    let found = match request {
        Request::Read(ReadOp::GetData(wanted)) => data(&wanted.path),
        Request::Read(ReadOp::GetChildren(wanted)) | Request::GetChildren2(wanted) => {
            names(&wanted.path)
        }
        Request::GetEphemerals(_) => {
            tree.session(session).map_or(0, |it| it.num_ephemerals()) * NAME_BYTES
        }
        // To look at each of its reads would take too long here.
        Request::MultiRead(_) => ZK_MULTI_READ_BYTES_MAX,
        _ => 0,
    };
    REPLY_BYTES + found
}

/// Returns the request that reads a znode's data.
pub(super) fn get_data(path: &str) -> Request {
    Request::Read(ReadOp::GetData(PathWatch { path: path.to_owned(), watch: false }))
}

/// Returns what each read of a multiRead finds. Error: there are too many, or they find too much: a request of 1 MiB could
/// ask for one large znode some ten thousand times.
fn items(tree: &Tree, asker: Asker<'_>, ops: &[ReadOp]) -> Result<Vec<OpResult>, i32> {
    if ops.len() > MULTI_OPS_MAX {
        return Err(Code::BadArguments.number());
    }
    let mut items = Vec::with_capacity(ops.len());
    let mut bytes = 0;
    for op in ops {
        if bytes > ZK_MULTI_READ_BYTES_MAX {
            return Err(Code::BadArguments.number());
        }
        let item = item(tree, asker, op);
        bytes += match &item {
            OpResult::Data(found) => found.data.as_ref().map_or(0, |data| data.len()),
            OpResult::Children(names) => names.iter().map(String::len).sum(),
            _ => 0,
        };
        items.push(item);
    }
    Ok(items)
}

fn item(tree: &Tree, asker: Asker<'_>, op: &ReadOp) -> OpResult {
    let (ReadOp::GetData(wanted) | ReadOp::GetChildren(wanted)) = op;
    match (tree.readable(&wanted.path, asker.authority), op) {
        (Err(code), _) => OpResult::Failed(code.number()),
        (Ok(znode), ReadOp::GetData(_)) => {
            OpResult::Data(DataStat { data: znode.data().cloned(), stat: znode.stat() })
        }
        (Ok(znode), ReadOp::GetChildren(_)) => {
            OpResult::Children(znode.children().map(|child| child.name().to_owned()).collect())
        }
    }
}

/// Returns an identity as it may be shown: of a digest only the user.
fn shown(who: &AclId) -> ClientInfo {
    let user = match who.scheme.as_str() {
        "digest" => who.id.split(':').next().unwrap_or_default(),
        _ => &who.id,
    };
    ClientInfo { scheme: who.scheme.clone(), user: user.to_owned() }
}

fn acl(tree: &Tree, asker: Asker<'_>, path: &str) -> Result<Response, Code> {
    let (mut rules, znode) = tree.visible_acl(path, asker.authority)?;
    if rules.is_empty() {
        let everyone = AclId { scheme: "world".to_owned(), id: "anyone".to_owned() };
        rules.push(Acl { perms: Perms::ALL, id: everyone });
    }
    Ok(Response::Acl(AclStat { acl: rules, stat: znode.stat() }))
}

/// Returns which path a request asks to watch, and how, if it does.
pub(super) fn watched(request: &Request) -> Option<(&str, WatchMode)> {
    match request {
        Request::Exists(wanted) | Request::Read(ReadOp::GetData(wanted)) if wanted.watch => {
            Some((&wanted.path, WatchMode::Data))
        }
        Request::GetChildren2(wanted) | Request::Read(ReadOp::GetChildren(wanted))
            if wanted.watch =>
        {
            Some((&wanted.path, WatchMode::Child))
        }
        Request::AddWatch(wanted) => Some((&wanted.path, added(wanted.mode)?)),
        _ => None,
    }
}

/// Returns how a client wants to watch from now on. Source: ZooKeeper `AddWatchMode`.
fn added(mode: i32) -> Option<WatchMode> {
    match mode {
        0 => Some(WatchMode::Persistent),
        1 => Some(WatchMode::Recursive),
        _ => None,
    }
}

/// Sets the watch that a read asks for, under the look that gives it its root. A read that is refused sets none, but to
/// ask whether a znode exists is answered, and watched, also where there is none. Error: the node's watches are full.
pub(super) fn set_watch(
    tree: &Tree,
    asker: Asker<'_>,
    request: &Request,
    watches: &mut OwnWatches<'_>,
) -> Result<(), i32> {
    let Some((path, mode)) = watched(request) else { return Ok(()) };
    let is_wanted = match tree.readable(path, asker.authority) {
        Ok(_) => true,
        Err(Code::NoNode) => matches!(request, Request::Exists(_)),
        Err(_) => false,
    };
    // A text that is no path names a znode that can never exist.
    match ZnodePath::parse(path) {
        Ok(path) if is_wanted => watches.add(&path, mode).map_err(|_| errors::SYSTEM_ERROR),
        _ => Ok(()),
    }
}

/// Carries out a request about watches alone, if it is one.
pub(super) fn change_watches(
    request: &Request,
    watches: &mut OwnWatches<'_>,
) -> Option<Result<Response, i32>> {
    match request {
        Request::AddWatch(wanted) => {
            let Some(mode) = added(wanted.mode) else {
                return Some(Err(Code::MarshallingError.number()));
            };
            let Ok(path) = ZnodePath::parse(&wanted.path) else {
                return Some(Err(Code::BadArguments.number()));
            };
            let added = watches.add(&path, mode).map_err(|_| errors::SYSTEM_ERROR);
            Some(added.map(|()| Response::Number(errors::OK)))
        }
        Request::CheckWatches(wanted) => Some(match modes(wanted.kind) {
            Ok(modes) => found(modes.iter().any(|mode| watches.has(&wanted.path, *mode))),
            Err(code) => Err(code),
        }),
        Request::RemoveWatches(wanted) => Some(match modes(wanted.kind) {
            Ok(modes) => {
                let removed = modes.iter().filter(|mode| watches.remove(&wanted.path, **mode));
                found(removed.count() > 0)
            }
            Err(code) => Err(code),
        }),
        _ => None,
    }
}

fn found(any: bool) -> Result<Response, i32> {
    if any { Ok(Response::Empty) } else { Err(errors::NO_WATCHER) }
}

/// Returns what a client means by a kind of watcher. Source: ZooKeeper `Watcher.WatcherType`.
fn modes(kind: i32) -> Result<&'static [WatchMode], i32> {
    match kind {
        1 => Ok(&[WatchMode::Child]),
        2 => Ok(&[WatchMode::Data]),
        3 => Ok(&crate::watch::WATCH_MODES),
        4 => Ok(&[WatchMode::Persistent]),
        5 => Ok(&[WatchMode::Recursive]),
        _ => Err(Code::MarshallingError.number()),
    }
}
