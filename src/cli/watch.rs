//! `roost watch`: a subscription as lines.

use std::collections::BTreeMap;

use super::Context;
use super::args::WatchArgs;
use super::output::{Failure, change_line};
use super::signal::interrupted;
use crate::client::model::{ChangeKind, Payload, Snapshot, WatchEvent};
use crate::client::{Error, WatchFilter};

/// What has been shown, so that the snapshot after a reset can be shown as differences.
#[derive(Debug, Default)]
struct Shown {
    /// Path to the zxid of its last change, 0 where the stream does not say.
    mzxids: BTreeMap<String, u64>,
}

impl Shown {
    /// Returns the lines of an event.
    fn lines(&mut self, event: &WatchEvent) -> Vec<u8> {
        match event {
            WatchEvent::Snapshot(snapshot) => self.difference(snapshot),
            WatchEvent::Change(change) => {
                let mut out = Vec::new();
                for change in &change.changes {
                    let mzxid = change.stat.as_ref().map_or(0, |stat| stat.mzxid);
                    let sign = match change.kind {
                        ChangeKind::Created => '+',
                        ChangeKind::Changed => '~',
                        ChangeKind::Deleted => '-',
                    };
                    if change.kind == ChangeKind::Deleted {
                        self.mzxids.remove(&change.path);
                    } else {
                        self.mzxids.insert(change.path.clone(), mzxid);
                    }
                    out.extend(change_line(sign, &change.path, &change.payload));
                }
                out
            }
            WatchEvent::Reset(_) | WatchEvent::Progress { .. } => Vec::new(),
        }
    }

    fn difference(&mut self, snapshot: &Snapshot) -> Vec<u8> {
        let mut before = std::mem::take(&mut self.mzxids);
        let mut out = Vec::new();
        for znode in snapshot.watches.iter().flat_map(|watch| &watch.znodes) {
            let mzxid = znode.stat.as_ref().map_or(0, |stat| stat.mzxid);
            match before.remove(&znode.path) {
                None => out.extend(change_line('+', &znode.path, &znode.payload)),
                Some(old) if old != mzxid => {
                    out.extend(change_line('~', &znode.path, &znode.payload))
                }
                Some(_) => {}
            }
            self.mzxids.insert(znode.path.clone(), mzxid);
        }
        let gone = before.keys().flat_map(|path| change_line('-', path, &Payload(None)));
        gone.chain(out).collect()
    }
}

/// Prints events until interrupted. While no node can be reached it says so once and goes on trying.
pub(super) async fn execute(context: &Context, args: &WatchArgs) -> Result<(), Failure> {
    let filter = WatchFilter { kind: args.kind.into(), path: args.path.clone() };
    let mut watch = context.client.watch(&[filter], args.since);
    let mut shown = Shown::default();
    let stop = interrupted();
    tokio::pin!(stop);
    let mut is_away = false;
    let mut heard_once = false;
    loop {
        let next = tokio::select! {
            next = watch.next() => next,
            () = &mut stop => return Ok(()),
        };
        let event = match next {
            Ok(event) => event,
            Err(error @ (Error::Unreachable(_) | Error::Timeout(_))) if heard_once => {
                if !std::mem::replace(&mut is_away, true) {
                    eprintln!("roost: {error}; trying on");
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        heard_once = true;
        if std::mem::take(&mut is_away) {
            eprintln!("roost: connected again, nothing was missed");
        }
        if let WatchEvent::Reset(reset) = &event
            && !context.output.json
        {
            eprintln!("roost: changes were skipped ({}): showing the difference", reset.reason);
        }
        context.output.result(&event, || shown.lines(&event))?;
    }
}

#[cfg(test)]
mod tests {
    use super::Shown;
    use crate::client::model::WatchEvent;

    fn event(kind: &str, json: &str) -> WatchEvent {
        match kind {
            "snapshot" => WatchEvent::Snapshot(serde_json::from_str(json).unwrap()),
            _ => WatchEvent::Change(serde_json::from_str(json).unwrap()),
        }
    }

    fn stat(mzxid: u64) -> String {
        format!(
            r#"{{"czxid":1,"mzxid":{mzxid},"ctime_ms":0,"mtime_ms":0,"version":0,"cversion":0,"aversion":0,
            "ephemeral_owner":null,"data_length":0,"num_children":0,"pzxid":0}}"#
        )
    }

    fn snapshot(znodes: &[(&str, u64)]) -> WatchEvent {
        let znodes: Vec<String> = znodes
            .iter()
            .map(|(path, mzxid)| {
                format!(r#"{{"path":"{path}","data":"d","stat":{}}}"#, stat(*mzxid))
            })
            .collect();
        let watch = format!(
            r#"{{"kind":"children_data","path":"/s","exists":true,"znodes":[{}]}}"#,
            znodes.join(",")
        );
        event("snapshot", &format!(r#"{{"zxid":9,"watches":[{watch}]}}"#))
    }

    #[test]
    fn a_second_snapshot_is_shown_as_what_differs_from_what_was_shown() {
        let mut shown = Shown::default();
        let first = shown.lines(&snapshot(&[("/s/a", 1), ("/s/b", 2), ("/s/c", 3)]));
        assert_eq!(first, b"+ /s/a d\n+ /s/b d\n+ /s/c d\n");
        let change = format!(
            r#"{{"zxid":5,"changes":[{{"kind":"changed","path":"/s/a","data":"e","stat":{}}},
            {{"kind":"deleted","path":"/s/b"}}]}}"#,
            stat(5)
        );
        assert_eq!(shown.lines(&event("change", &change)), b"~ /s/a e\n- /s/b\n");
        let second = shown.lines(&snapshot(&[("/s/a", 5), ("/s/b", 6), ("/s/d", 7), ("/s/e", 8)]));
        assert_eq!(second, b"- /s/c\n+ /s/b d\n+ /s/d d\n+ /s/e d\n");
        let third = shown.lines(&snapshot(&[("/s/a", 5), ("/s/b", 9), ("/s/d", 7), ("/s/e", 8)]));
        assert_eq!(third, b"~ /s/b d\n");
    }
}
