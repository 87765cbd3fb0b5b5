use std::path::{Path, PathBuf};

use super::super::audit_file::{AuditFile, Writer};
use super::{Audit, Denied};
use crate::limits::{AUDIT_DENIALS_PER_S_MAX, AUDIT_LINES_MAX};
use crate::node::testing::create;
use crate::peer;
use crate::tree::Tree;
use crate::types::{AclId, ClusterId, Op, Origin, Outcome, SessionId, Txn, TxnTime, Zxid};

fn id(scheme: &str, id: &str) -> AclId {
    AclId { scheme: scheme.to_owned(), id: id.to_owned() }
}

/// A tree whose transactions an audit hears of.
struct Bed {
    tree: Tree,
    seq: u64,
}

impl Bed {
    fn new() -> Bed {
        Bed { tree: Tree::new(), seq: 0 }
    }

    fn apply(&mut self, audits: &[&Audit], op: Op) {
        self.seq += 1;
        let authority = vec![id("digest", "ann:hash"), id("ip", "10.0.0.1")];
        let origin = Origin { node: 2, incarnation: 1, seq: self.seq };
        let session = SessionId::NONE;
        let txn = Txn { origin, session, owner: None, authority, idempotency_key: None, op };
        let time = TxnTime { wall_ms: 7, cluster_ms: 7 };
        let Outcome::Applied(applied) = self.tree.apply(time, &txn) else { panic!("{txn:?}") };
        audits.iter().for_each(|audit| audit.applied(&txn, &applied, self.tree.wall_ms()));
    }
}

/// An audit of node 1 of this cluster.
fn audit(cluster: ClusterId, file: Option<Writer>) -> Audit {
    Audit::new(peer::Identity::new(1, cluster, peer::Secret::new(b"a secret of tests")), file)
}

fn file(dir: &Path, bytes_max: u64) -> AuditFile {
    AuditFile { path: dir.join("audit.log"), bytes_max, kept: 2 }
}

/// Returns the paths of the lines of a file.
fn written(path: PathBuf) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    text.lines().map(|text| line(text)["path"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_line_says_who_it_was_without_what_proves_it() {
    let (audit, mut bed) = (audit(7, None), Bed::new());
    bed.apply(
        &[&audit],
        Op::Multi(vec![create("/roost", ""), create("/roost/a", "{\"reason\":\"r\"}")]),
    );
    bed.apply(&[&audit], Op::Multi(vec![create("/x", ""), create("/roost/a/b/c", "")]));
    let lines = audit.after(0, 10);
    let [made, refused] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(made.who, ["digest:ann", "ip:10.0.0.1"]);
    assert_eq!((made.op, made.path.as_str(), made.node), ("create", "/roost/a", 2));
    assert_eq!((made.reason.as_deref(), made.zxid, made.result), (Some("r"), 1, "ok"));
    assert_eq!((refused.path.as_str(), refused.result), ("/roost/a/b/c", "no_node"));
}

#[test]
fn denials_neither_push_out_what_was_done_nor_flood_the_file() {
    let audit = audit(7, None);
    let mut bed = Bed::new();
    bed.apply(&[&audit], create("/roost", ""));
    bed.apply(&[&audit], create("/roost/a", ""));
    let denied =
        Denied { authority: &[], op: "write", path: "/p", rule: "r", why: "w", is_enforced: true };
    for second in 0..100 {
        for _ in 0..AUDIT_DENIALS_PER_S_MAX + 1 {
            audit.denied((Zxid(1), second * 1_000), SessionId::NONE, &denied);
        }
    }
    let lines = audit.after(0, usize::MAX);
    assert_eq!((lines.len(), lines[0].op), (1 + AUDIT_LINES_MAX, "create"));
    assert_eq!(audit.counts().1, 100);
    let last = lines.last().unwrap().seq;
    assert_eq!(
        audit.after(last - 3, 2).iter().map(|line| line.seq).collect::<Vec<_>>(),
        [last - 2, last - 1]
    );
}

#[test]
fn a_file_goes_on_where_it_ended_whatever_is_applied_again() {
    let dir = tempfile::tempdir().unwrap();
    let open = || audit(7, Some(Writer::start(file(dir.path(), 1 << 20)).unwrap()));
    let whole = audit(7, None);
    let mut expected = Vec::new();
    // Each start applies all that there was again, and one transaction of two lines more.
    for starts in 1..=3 {
        let (audit, mut bed) = (open(), Bed::new());
        audit.restored(Zxid(0), 0);
        bed.apply(&[&audit, &whole], create("/roost", ""));
        for round in 0..starts {
            let (a, b) = (format!("/roost/a{round}"), format!("/roost/b{round}"));
            bed.apply(&[&audit], Op::Multi(vec![create(&a, ""), create(&b, "")]));
            if round + 1 == starts {
                expected.extend([a, b]);
            }
        }
        audit.close();
        assert_eq!(written(dir.path().join("audit.log")), expected, "start {starts}");
        if starts == 2 {
            // The power fails while the last line is written.
            let path = dir.path().join("audit.log");
            let text = std::fs::read_to_string(&path).unwrap();
            let end = text.trim_end().rfind('\n').unwrap() + 1;
            std::fs::write(&path, &text[..end]).unwrap();
        }
    }
}

#[test]
fn a_file_of_an_earlier_cluster_hides_no_line_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let run = |cluster, changes: u64| {
        let file = Writer::start(file(dir.path(), 1 << 20)).unwrap();
        let (audit, mut bed) = (audit(cluster, Some(file)), Bed::new());
        bed.apply(&[&audit], create("/roost", ""));
        for change in 0..changes {
            bed.apply(&[&audit], create(&format!("/roost/{cluster}-{change}"), ""));
        }
        audit.close();
    };
    run(7, 5);
    // Its zxids begin anew, and it applies its log again when it starts again.
    run(8, 2);
    run(8, 3);
    let expected: Vec<String> = (0..5).map(|n| format!("/roost/7-{n}")).collect();
    let expected = expected.into_iter().chain((0..3).map(|n| format!("/roost/8-{n}")));
    assert_eq!(written(dir.path().join("audit.log")), expected.collect::<Vec<_>>());
}

#[test]
fn a_full_file_is_put_aside_and_the_oldest_goes() {
    let dir = tempfile::tempdir().unwrap();
    let audit = audit(7, Some(Writer::start(file(dir.path(), 700)).unwrap()));
    let mut bed = Bed::new();
    bed.apply(&[], create("/roost", ""));
    for number in 0..20 {
        bed.apply(&[&audit], create(&format!("/roost/{number}"), ""));
    }
    audit.close();
    let names = ["audit.log.2", "audit.log.1", "audit.log"];
    let kept: Vec<String> = names.iter().flat_map(|name| written(dir.path().join(name))).collect();
    let expected: Vec<String> =
        (20 - kept.len()..20).map(|number| format!("/roost/{number}")).collect();
    assert!(kept == expected && kept.len() < 20, "{kept:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    let unwritable = AuditFile { path: dir.path().join("no/such"), bytes_max: 700, kept: 2 };
    assert!(Writer::start(unwritable).err().unwrap().contains("audit.path"));
}
