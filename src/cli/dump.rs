//! `roost dump`: what a stopped node has on its disk, for people.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::json;

use super::args::{DumpArgs, GlobalArgs};
use super::output::Failure;
use crate::batch;
use crate::limits::SLED_CACHE_BYTES;
use crate::raft::{Content, inspect_committed, inspect_entry, load_snapshot};
use crate::storage::{Log, SledDisk, SnapshotStore};
use crate::tree::Tree;
use crate::types::{Outcome, Txn, TxnTime};

/// Entries read from the log at once, bytes.
const PIECE_BYTES: usize = 4 << 20;

/// Prints the log, applying it to the newest snapshot as the node itself would, and then the tree.
pub(super) fn execute(args: &DumpArgs, global: &GlobalArgs) -> Result<(), Failure> {
    dump(args, global.json).map_err(Failure::Local)
}

fn dump(args: &DumpArgs, as_json: bool) -> Result<(), String> {
    let dir = &args.data_dir;
    if !dir.join("raft").is_dir() {
        return Err(format!(
            "{} is no node's data directory: it has no raft/ in it",
            dir.display()
        ));
    }
    let disk =
        SledDisk::open(&dir.join("raft"), SLED_CACHE_BYTES).map_err(|err| err.to_string())?;
    let (log, recovered) = Log::open(Arc::new(disk)).map_err(|err| err.to_string())?;
    let committed = inspect_committed(&recovered)?;
    let generation = recovered.snapshot.as_ref().map(|pointer| pointer.generation);
    let store =
        SnapshotStore::open(&dir.join("snap"), generation).map_err(|err| err.to_string())?;
    let (mut tree, in_snapshot) = match &recovered.snapshot {
        Some(pointer) => load_snapshot(&store, pointer)?,
        None => (Tree::new(), None),
    };
    let reader = log.reader();
    let mut next = reader.bounds().map_or(0, |(first, _)| first);
    loop {
        let entries = reader.read(next..u64::MAX, PIECE_BYTES).map_err(|err| err.to_string())?;
        let Some(last) = entries.last() else { break };
        next = last.index + 1;
        for entry in &entries {
            let (term, content) = inspect_entry(entry)?;
            let place = Place {
                index: entry.index,
                term,
                committed: Some(entry.index) <= committed,
                json: as_json,
            };
            let is_ahead = Some(entry.index) > in_snapshot;
            show_entry(&place, content, is_ahead.then_some(&mut tree), args.no_log)?;
        }
    }
    if !args.no_tree {
        show_tree(&tree, as_json);
    }
    Ok(())
}

struct Place {
    index: u64,
    term: u64,
    committed: bool,
    json: bool,
}

fn show_entry(
    place: &Place,
    content: Content,
    tree: Option<&mut Tree>,
    quiet: bool,
) -> Result<(), String> {
    let note = |text: &str| {
        if quiet {
        } else if place.json {
            let Place { index, term, committed, .. } = place;
            println!(
                "{}",
                json!({"index": index, "term": term, "committed": committed, "entry": text})
            );
        } else {
            println!("{} {} {}{text}", place.index, place.term, uncommitted(place));
        }
    };
    match content {
        Content::Blank => note("blank"),
        Content::Membership(text) => note(&format!("membership {text}")),
        Content::Batch(encoded) => {
            let (time, txns) = batch::decode(&encoded)
                .map_err(|why| format!("log entry {}: {why}", place.index))?;
            let mut tree = tree.filter(|_| place.committed);
            for encoded in txns {
                let txn = batch::decode_txn(&encoded)
                    .map_err(|why| format!("log entry {}: {why}", place.index))?;
                let outcome = tree.as_deref_mut().map(|tree| tree.apply(time, &txn));
                if !quiet {
                    show_txn(place, time, &txn, outcome.as_ref());
                }
            }
        }
    }
    Ok(())
}

fn uncommitted(place: &Place) -> &'static str {
    if place.committed { "" } else { "(commit unknown) " }
}

fn show_txn(place: &Place, time: TxnTime, txn: &Txn, outcome: Option<&Outcome>) {
    let (zxid, result) = match outcome {
        Some(Outcome::Applied(applied)) => (Some(applied.zxid.0), format!("{:?}", applied.result)),
        Some(Outcome::Duplicate) => (None, "duplicate".to_owned()),
        Some(Outcome::Gap { expected }) => (None, format!("gap, expected seq {expected}")),
        None if place.committed => (None, "in the snapshot".to_owned()),
        None => (None, "not applied".to_owned()),
    };
    let origin = format!("{}.{}.{}", txn.origin.node, txn.origin.incarnation, txn.origin.seq);
    if place.json {
        println!(
            "{}",
            json!({
                "index": place.index, "term": place.term, "committed": place.committed, "wall_ms": time.wall_ms,
                "origin": origin, "session": txn.session.to_string(), "op": format!("{:?}", txn.op), "zxid": zxid,
                "result": result,
            })
        );
        return;
    }
    let mut line = format!("{} {} {}origin={origin}", place.index, place.term, uncommitted(place));
    if !txn.session.is_none() {
        // Writing to a string cannot fail.
        let _ = write!(line, " session={}", txn.session);
    }
    let _ = write!(line, " {:?}", txn.op);
    if let Some(zxid) = zxid {
        let _ = write!(line, " zxid={zxid}");
    }
    println!("{line} => {result}");
}

fn show_tree(tree: &Tree, as_json: bool) {
    if as_json {
        println!(
            "{}",
            json!({"zxid": tree.zxid(), "digest": tree.digest().to_string(), "znodes": tree.znode_count()})
        );
    } else {
        println!(
            "tree: zxid={} digest={} znodes={}",
            tree.zxid(),
            tree.digest(),
            tree.znode_count()
        );
    }
    for (session, record) in tree.sessions() {
        if as_json {
            println!(
                "{}",
                json!({"session": session.to_string(), "timeout_ms": record.timeout_ms()})
            );
        } else {
            println!("session {session} timeout_ms={}", record.timeout_ms());
        }
    }
    let root = tree.get("/").map(|znode| ("/".to_owned(), znode));
    let below = tree.descendants("/").map(|(path, znode)| (path.to_string(), znode));
    for (path, znode) in root.into_iter().chain(below) {
        let data = znode.data().map(|data| data.escape_ascii().to_string());
        if as_json {
            println!("{}", json!({"path": path, "data": data, "stat": znode.stat()}));
        } else {
            println!(
                "{path} {} {:?}",
                data.map_or("null".to_owned(), |data| format!("{data:?}")),
                znode.stat()
            );
        }
    }
}
