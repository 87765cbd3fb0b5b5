//! `roost dump`: what a stopped node has on its disk, for people.

use std::sync::Arc;

use serde_json::json;

use super::args::{DumpArgs, GlobalArgs};
use super::output::{Failure, Output};
use crate::limits::SLED_CACHE_BYTES;
use crate::raft::{
    Content, apply_txn, inspect_committed, inspect_entry, is_in_force, load_snapshot, read_batch,
};
use crate::storage::{Log, SledDisk, SnapshotStore};
use crate::tree::Tree;
use crate::types::{Outcome, Txn, TxnTime};

/// Entries read from the log at once, bytes.
const PIECE_BYTES: usize = 4 << 20;

/// Prints the log, applying it to the newest snapshot as the node itself would, and then the tree.
pub(super) fn execute(args: &DumpArgs, global: &GlobalArgs) -> Result<(), Failure> {
    let out = Output { json: global.json };
    let dir = &args.data_dir;
    if !dir.join("raft").is_dir() {
        let dir = dir.display();
        return Err(local(format!("{dir} is no node's data directory: it has no raft/ in it")));
    }
    let disk = SledDisk::open(&dir.join("raft"), SLED_CACHE_BYTES).map_err(local)?;
    let (log, recovered) = Log::open(Arc::new(disk)).map_err(local)?;
    let committed = inspect_committed(&recovered).map_err(local)?;
    let generation = recovered.snapshot.as_ref().map(|pointer| pointer.generation);
    let store = SnapshotStore::open(&dir.join("snap"), generation).map_err(local)?;
    let (mut tree, in_snapshot) = match &recovered.snapshot {
        Some(pointer) => load_snapshot(&store, pointer).map_err(local)?,
        None => (Tree::new(), None),
    };
    let shown = (!args.no_log).then_some(out);
    let reader = log.reader();
    let mut next = reader.bounds().map_or(0, |(first, _)| first);
    loop {
        let entries = reader.read(next..u64::MAX, PIECE_BYTES).map_err(local)?;
        let Some(last) = entries.last() else { break };
        next = last.index + 1;
        for entry in &entries {
            let (term, content) = inspect_entry(entry).map_err(local)?;
            let committed = Some(entry.index) <= committed;
            let place = Place { index: entry.index, term, committed };
            let is_applied_here = committed && Some(entry.index) > in_snapshot;
            show_entry(&place, content, is_applied_here.then_some(&mut tree), shown)?;
        }
    }
    if !args.no_tree {
        show_tree(&tree, out)?;
    }
    Ok(())
}

fn local(why: impl ToString) -> Failure {
    Failure::Local(why.to_string())
}

struct Place {
    index: u64,
    term: u64,
    committed: bool,
}

impl Place {
    /// Returns the beginning of a line.
    fn text(&self) -> String {
        let uncommitted = if self.committed { "" } else { "(commit unknown) " };
        format!("{} {} {uncommitted}", self.index, self.term)
    }
}

fn line(text: &str) -> Vec<u8> {
    format!("{text}\n").into_bytes()
}

/// Shows an entry, and applies it if it is given a tree.
fn show_entry(
    place: &Place,
    content: Content,
    mut tree: Option<&mut Tree>,
    out: Option<Output>,
) -> Result<(), Failure> {
    let note = |text: &str| {
        let Place { index, term, committed } = place;
        let json = json!({"index": index, "term": term, "committed": committed, "entry": text});
        out.map_or(Ok(()), |out| out.result(&json, || line(&format!("{}{text}", place.text()))))
    };
    let encoded = match content {
        Content::Blank => return note("blank"),
        Content::Membership(text) => return note(&format!("membership {text}")),
        Content::Batch(encoded) => encoded,
    };
    let (time, txns) = match read_batch(&encoded) {
        Ok(read) => read,
        // The node stops at such an entry too, once it is committed.
        Err(why) if place.committed => {
            return Err(local(format!("log entry {} is {why}", place.index)));
        }
        Err(why) => return note(&why),
    };
    for mut txn in txns {
        let op = txn.op.clone();
        let outcome = tree.as_deref_mut().map(|tree| apply_txn(tree, place.term, time, &mut txn));
        if let Some(out) = out {
            show_txn(place, time, &Txn { op, ..txn }, outcome.as_ref(), out)?;
        }
    }
    Ok(())
}

fn show_txn(
    place: &Place,
    time: TxnTime,
    txn: &Txn,
    outcome: Option<&Outcome>,
    out: Output,
) -> Result<(), Failure> {
    let (zxid, result) = match outcome {
        Some(Outcome::Applied(applied)) if !is_in_force(&txn.op, place.term) => {
            (Some(applied.zxid.0), "ignored: proposed in an earlier term".to_owned())
        }
        Some(Outcome::Applied(applied)) => (Some(applied.zxid.0), format!("{:?}", applied.result)),
        Some(Outcome::Duplicate) => (None, "ignored: a duplicate".to_owned()),
        Some(Outcome::Gap { expected }) => {
            (None, format!("ignored: a gap, expected seq {expected}"))
        }
        None if place.committed => (None, "in the snapshot".to_owned()),
        None => (None, "not applied".to_owned()),
    };
    let origin = format!("{}.{}.{}", txn.origin.node, txn.origin.incarnation, txn.origin.seq);
    let json = json!({
        "index": place.index, "term": place.term, "committed": place.committed, "wall_ms": time.wall_ms,
        "origin": origin, "session": txn.session.to_string(), "op": format!("{:?}", txn.op), "zxid": zxid,
        "result": result,
    });
    out.result(&json, || {
        let session = match txn.session.is_none() {
            true => String::new(),
            false => format!(" session={}", txn.session),
        };
        let zxid = zxid.map_or(String::new(), |zxid| format!(" zxid={zxid}"));
        line(&format!("{}origin={origin}{session} {:?}{zxid} => {result}", place.text(), txn.op))
    })
}

fn show_tree(tree: &Tree, out: Output) -> Result<(), Failure> {
    let (zxid, digest, znodes) = (tree.zxid(), tree.digest().to_string(), tree.znode_count());
    out.result(&json!({"zxid": zxid, "digest": digest, "znodes": znodes}), || {
        line(&format!("tree: zxid={zxid} digest={digest} znodes={znodes}"))
    })?;
    for (session, record) in tree.sessions() {
        let timeout_ms = record.timeout_ms();
        out.result(&json!({"session": session.to_string(), "timeout_ms": timeout_ms}), || {
            line(&format!("session {session} timeout_ms={timeout_ms}"))
        })?;
    }
    let root = tree.get("/").map(|znode| ("/".to_owned(), znode));
    let below = tree.descendants("/").map(|(path, znode)| (path.to_string(), znode));
    for (path, znode) in root.into_iter().chain(below) {
        let data = znode.data().map(|data| data.escape_ascii().to_string());
        out.result(&json!({"path": path, "data": data, "stat": znode.stat()}), || {
            let data = data.as_ref().map_or("null".to_owned(), |data| format!("{data:?}"));
            line(&format!("{path} {data} {:?}", znode.stat()))
        })?;
    }
    Ok(())
}
