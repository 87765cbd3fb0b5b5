//! What the door says of itself, in the formats that kazoo, telegraf, zkServer.sh and dashboards read.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use super::Door;
use super::meters::{Latency, Tally};
use super::reconfig::CONFIG;
use crate::jute::opcodes;
use crate::types::SessionId;

/// The release whose behaviour clients may expect, and what this really is. The date is that of no build: builds of
/// one source are equal.
pub(super) const VERSION: &str =
    concat!("3.9.3-roost-", env!("CARGO_PKG_VERSION"), ", built on 1970-01-01 00:00 UTC");

/// Returns a session's id as ZooKeeper prints it: without leading zeros.
pub(super) fn hex(session: SessionId) -> String {
    format!("0x{:x}", session.0)
}

/// Returns a mean as Java prints it.
pub(super) fn mean(value: f64) -> String {
    format!("{:?}", (value * 1e4).round() / 1e4)
}

/// Returns how this node takes part.
pub(super) fn mode(door: &Door) -> &'static str {
    let status = door.node().local_status();
    match status.state {
        _ if status.members.len() < 2 => "standalone",
        "leader" => "leader",
        "learner" => "observer",
        _ => "follower",
    }
}

fn latencies(latency: &Latency) -> String {
    let (min, avg, max) = latency.ms();
    format!("Latency min/avg/max: {min}/{}/{max}\n", mean(avg))
}

fn summary(door: &Door) -> String {
    let tree = door.node().local();
    let (received, sent) = door.meters().packets();
    let mut text = latencies(&door.meters().latency);
    let _ = write!(
        text,
        "Received: {received}\nSent: {sent}\nConnections: {}\nOutstanding: {}\nZxid: 0x{:x}\nMode: {}\n\
         Node count: {}\n",
        door.meters().tallies().len(),
        door.node().writes_waiting(),
        tree.zxid().0,
        mode(door),
        tree.znode_count(),
    );
    if let Some((last, min, max)) = door.node().measures().leading_proposal_bytes() {
        let _ = writeln!(text, "Proposal sizes last/min/max: {last}/{min}/{max}");
    }
    text
}

pub(super) fn srvr(door: &Door) -> String {
    format!("Zookeeper version: {VERSION}\n{}", summary(door))
}

pub(super) fn stat(door: &Door) -> String {
    let mut text = format!("Zookeeper version: {VERSION}\nClients:\n");
    for tally in door.meters().tallies() {
        let _ = writeln!(text, "{})", short(&tally));
    }
    text + "\n" + &summary(door)
}

/// Returns a connection's line without its closing parenthesis.
fn short(tally: &Tally) -> String {
    let (received, sent) = tally.packets();
    format!(" /{}[1](queued={},recved={received},sent={sent}", tally.peer, tally.queued())
}

pub(super) fn cons(door: &Door) -> String {
    let mut text = String::new();
    for tally in door.meters().tallies() {
        text += &short(&tally);
        if !tally.session().is_none() {
            let (min, avg, max) = tally.latency.ms();
            let established_ms = tally.since_ms.load(Relaxed);
            let _ = write!(
                text,
                ",sid={},lop={},est={established_ms},to={},lcxid=0x{:x},lzxid=0x{:x},lresp={},\
                 llat={},minlat={min},avglat={},maxlat={max}",
                hex(tally.session()),
                op(tally.last_op.load(Relaxed)),
                tally.timeout_ms.load(Relaxed),
                tally.last_xid.load(Relaxed),
                tally.last_zxid.load(Relaxed),
                last_reply_ms(door, &tally),
                tally.last_latency_us.load(Relaxed) / 1_000,
                avg.round() as u64,
            );
        }
        text += ")\n";
    }
    text + "\n"
}

/// Returns when the last reply was written, ms since 1970, 0 before there is one.
pub(super) fn last_reply_ms(door: &Door, tally: &Tally) -> u64 {
    match tally.last_reply_us.load(Relaxed) {
        0 => 0,
        at_us => {
            let ago_us = door.node().now_micros().saturating_sub(at_us);
            door.node().wall_ms().saturating_sub(ago_us / 1_000)
        }
    }
}

/// Returns ZooKeeper's code for an op. Source: ZooKeeper `Request.op2String`.
pub(super) fn op(opcode: i32) -> &'static str {
    match opcode {
        opcodes::PING => "PING",
        opcodes::CREATE | opcodes::CREATE2 => "CREA",
        opcodes::CREATE_CONTAINER => "CRTC",
        opcodes::CREATE_TTL => "CRTT",
        opcodes::DELETE => "DELE",
        opcodes::SET_DATA => "SETD",
        opcodes::GET_DATA => "GETD",
        opcodes::GET_CHILDREN | opcodes::GET_CHILDREN2 => "GETC",
        opcodes::GET_ALL_CHILDREN_NUMBER => "GETACN",
        opcodes::EXISTS => "EXIS",
        opcodes::SET_ACL => "SETA",
        opcodes::GET_ACL => "GETA",
        opcodes::SYNC => "SYNC",
        opcodes::MULTI => "MULT",
        opcodes::MULTI_READ => "MLTR",
        opcodes::CHECK => "CHEC",
        opcodes::CHECK_WATCHES => "CHKW",
        opcodes::REMOVE_WATCHES => "REMW",
        opcodes::ADD_WATCH => "ADDW",
        opcodes::SET_WATCHES => "SETW",
        opcodes::SET_WATCHES2 => "STW2",
        opcodes::GET_EPHEMERALS => "GETE",
        opcodes::WHO_AM_I => "HOMI",
        opcodes::RECONFIG => "RECO",
        opcodes::CLOSE_SESSION => "CLOS",
        _ => "NA",
    }
}

pub(super) fn conf(door: &Door) -> String {
    let mut text = settings(door);
    // The same lines that clients read in the configuration.
    let tree = door.node().local();
    let members = tree.get(CONFIG).and_then(|znode| znode.data());
    if let Some(members) = members.filter(|members| !members.is_empty()) {
        text += "membership: \n";
        text += &String::from_utf8_lossy(members);
    }
    text
}

/// Returns how the node is configured, as the file of a ZooKeeper server would have it.
pub(super) fn settings(door: &Door) -> String {
    let options = door.options();
    format!(
        "clientPort={}\nsecureClientPort=-1\ndataDir={}\ndataLogDir={}\ntickTime={}\nmaxClientCnxns={}\n\
         minSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog=-1\nserverId={}\n",
        door.address().port(),
        options.data_dir,
        options.data_dir,
        options.tick_ms,
        options.connections_per_address_max,
        options.timeouts_ms.0,
        options.timeouts_ms.1,
        door.node().id(),
    )
}

/// Returns how many bytes the files of the snapshots and those of the log have. Cost: O(files).
pub(super) fn dir_bytes(door: &Door) -> (u64, u64) {
    let dir = Path::new(&door.options().data_dir);
    (file_bytes(&dir.join("snap")), file_bytes(&dir.join("raft")))
}

pub(super) fn dirs(door: &Door) -> String {
    let (snapshots, log) = dir_bytes(door);
    format!("datadir_size: {snapshots}\nlogdir_size: {log}\n")
}

/// Returns the bytes of all files below a directory; those that cannot be read count nothing.
fn file_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => file_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

pub(super) fn hash(door: &Door) -> String {
    let tree = door.node().local();
    format!("{:x}: {}\n", tree.zxid().0, tree.digest().0)
}

pub(super) fn envi() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let dir = std::env::current_dir().map(|dir| dir.display().to_string()).unwrap_or_default();
    format!(
        "Environment:\nzookeeper.version={VERSION}\nhost.name={}\nos.name={}\nos.arch={}\nos.version={}\n\
         user.dir={dir}\n",
        host.trim(),
        std::env::consts::OS,
        std::env::consts::ARCH,
        release.trim(),
    )
}

pub(super) fn dump(door: &Door) -> String {
    let tree = door.node().local();
    let mut text = format!("SessionTracker dump:\nGlobal Sessions({}):\n", tree.session_count());
    for (id, session) in tree.sessions() {
        let _ = writeln!(text, "{}\t{}ms", hex(id), session.timeout_ms());
    }
    let with_ephemerals = || tree.sessions().filter(|(_, session)| session.num_ephemerals() > 0);
    let count = with_ephemerals().count();
    let _ = write!(text, "ephemeral nodes dump:\nSessions with Ephemerals ({count}):\n");
    for (id, session) in with_ephemerals() {
        let _ = writeln!(text, "{}:", hex(id));
        for path in session.ephemerals() {
            let _ = writeln!(text, "\t{path}");
        }
    }
    let tallies = door.meters().tallies();
    let _ = write!(text, "Connections dump:\nConnections Sets (1)/({}):\n", tallies.len());
    for tally in tallies {
        let _ = writeln!(text, "\tip: /{} sessionId: {}", tally.peer, hex(tally.session()));
    }
    text
}

pub(super) fn wchs(door: &Door) -> String {
    let (connections, paths, watches) = door.node().watch_counts();
    format!("{connections} connections watching {paths} paths\nTotal watches:{watches}\n")
}

pub(super) fn wchc(door: &Door) -> String {
    let mut text = String::new();
    for (session, paths) in door.node().watched_paths() {
        if !paths.is_empty() {
            let _ = writeln!(text, "{}", hex(session));
            for path in paths {
                let _ = writeln!(text, "\t{path}");
            }
        }
    }
    text + "\n"
}

/// Returns who watches each path that somebody watches.
pub(super) fn watchers(door: &Door) -> BTreeMap<String, Vec<SessionId>> {
    let mut by_path: BTreeMap<String, Vec<SessionId>> = BTreeMap::new();
    for (session, paths) in door.node().watched_paths() {
        for path in paths {
            by_path.entry(path).or_default().push(session);
        }
    }
    by_path
}

pub(super) fn wchp(door: &Door) -> String {
    let mut text = String::new();
    for (path, sessions) in watchers(door) {
        let _ = writeln!(text, "{path}");
        for session in sessions {
            let _ = writeln!(text, "\t{}", hex(session));
        }
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::{hex, mean};
    use crate::types::SessionId;

    #[test]
    fn numbers_look_as_java_prints_them() {
        assert_eq!((mean(0.0).as_str(), mean(1.408_83).as_str()), ("0.0", "1.4088"));
        assert_eq!(hex(SessionId(0x0100_0000_0000_0002)), "0x100000000000002");
    }
}
