//! The file that an audit is written to: one JSON object a line, put aside at a size.
//!
//! A thread of its own writes it, so that neither apply nor a client waits for a disk; the queue before it is bounded. What is
//! in the queue when the process is killed is not in the file, but it is in the log: a node that starts again applies what is
//! behind its snapshot, and writes the lines of it that the file does not have.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::audit::{AuditLine, RESTORE};
use crate::limits::AUDIT_QUEUE_MAX;
use crate::types::ClusterId;

/// How much of the end of a file is looked at for its last line, bytes.
const TAIL_BYTES: u64 = 256 << 10;

/// Where an audit is written.
#[derive(Clone, Debug)]
pub struct AuditFile {
    /// The file. Older ones are beside it, with a number behind their name: `.1` is the latest of them.
    pub path: PathBuf,
    /// At this size it is put aside, bytes.
    pub bytes_max: u64,
    /// How many older ones are kept.
    pub kept: u32,
}

/// While the thread runs.
struct Open {
    queue: SyncSender<Arc<AuditLine>>,
    writing: JoinHandle<()>,
}

/// The near end of the thread that writes.
pub(super) struct Writer {
    open: Mutex<Option<Open>>,
    unwritten: Arc<AtomicU64>,
}

impl Writer {
    /// Opens the file, or says why that cannot be.
    pub(super) fn start(file: AuditFile) -> Result<Writer, String> {
        let failed = |why: io::Error| format!("audit.path: {}: {why}", file.path.display());
        let mut out = Out::open(file.clone()).map_err(failed)?;
        let (queue, lines) = sync_channel(AUDIT_QUEUE_MAX);
        let unwritten = Arc::new(AtomicU64::new(0));
        let counting = unwritten.clone();
        let writing = std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || out.run(&lines, &counting))
            .map_err(failed)?;
        Ok(Writer { open: Mutex::new(Some(Open { queue, writing })), unwritten })
    }

    /// Hands over a line; false when the queue is full, or closed.
    pub(super) fn push(&self, line: Arc<AuditLine>) -> bool {
        self.open.lock().as_ref().is_some_and(|open| open.queue.try_send(line).is_ok())
    }

    /// Returns how many lines the disk did not take.
    pub(super) fn unwritten(&self) -> u64 {
        self.unwritten.load(Ordering::Relaxed)
    }

    /// Returns once what was handed over is written.
    pub(super) fn close(&self) {
        let open = self.open.lock().take();
        if let Some(Open { queue, writing }) = open {
            drop(queue);
            // An error was a panic of the thread, which has been printed.
            let _ = writing.join();
        }
    }
}

struct Out {
    file: AuditFile,
    to: BufWriter<File>,
    bytes: u64,
    known: Known,
}

/// How far the file went when it was opened.
#[derive(Clone, Copy, Default)]
struct Known {
    /// The cluster of the last transaction in it; 0 for none. Those of another one have zxids of their own.
    cluster: ClusterId,
    /// The last transaction in it.
    zxid: u64,
    /// How many lines there are of that one.
    lines: usize,
}

impl Out {
    fn open(file: AuditFile) -> io::Result<Out> {
        let mut to = OpenOptions::new().create(true).read(true).append(true).open(&file.path)?;
        let (mut bytes, tail) = (to.metadata()?.len(), tail(&mut to)?);
        if !tail.is_empty() && !tail.ends_with(b"\n") {
            // The end of a line was lost with the power.
            to.write_all(b"\n")?;
            bytes += 1;
        }
        let known = match Known::read(&tail) {
            Some(known) => known,
            // Put aside a moment before.
            None => File::open(numbered(&file.path, 1))
                .and_then(|mut before| self::tail(&mut before))
                .ok()
                .and_then(|tail| Known::read(&tail))
                .unwrap_or_default(),
        };
        Ok(Out { file, to: BufWriter::new(to), bytes, known })
    }

    fn run(&mut self, lines: &Receiver<Arc<AuditLine>>, unwritten: &AtomicU64) {
        let mut is_failing = false;
        let mut waiting = 0;
        loop {
            let next = match lines.try_recv() {
                Err(TryRecvError::Empty) => {
                    self.settle(&mut waiting, &mut is_failing, unwritten, Ok(()));
                    lines.recv().ok()
                }
                other => other.ok(),
            };
            let Some(line) = next else { break };
            waiting += 1;
            if let Err(why) = self.write(&line) {
                self.settle(&mut waiting, &mut is_failing, unwritten, Err(why));
            }
        }
        self.settle(&mut waiting, &mut is_failing, unwritten, Ok(()));
    }

    /// Hands what was written to the system, and counts what that did not take.
    fn settle(
        &mut self,
        waiting: &mut u64,
        is_failing: &mut bool,
        unwritten: &AtomicU64,
        so_far: io::Result<()>,
    ) {
        match so_far.and_then(|()| self.to.flush()) {
            Ok(()) => *is_failing = false,
            Err(why) => {
                unwritten.fetch_add(*waiting, Ordering::Relaxed);
                if !std::mem::replace(is_failing, true) {
                    tracing::error!(path = %self.file.path.display(), %why, "the audit is not written");
                }
            }
        }
        *waiting = 0;
    }

    fn write(&mut self, line: &AuditLine) -> io::Result<()> {
        if self.known.has(line) {
            return Ok(());
        }
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        if self.bytes > 0 && self.bytes + text.len() as u64 > self.file.bytes_max {
            self.put_aside()?;
        }
        self.bytes += text.len() as u64;
        self.to.write_all(&text)
    }

    fn put_aside(&mut self) -> io::Result<()> {
        self.to.flush()?;
        let path = self.file.path.clone();
        for number in (1..=self.file.kept).rev() {
            let before = if number == 1 { path.clone() } else { numbered(&path, number - 1) };
            if before.exists() {
                std::fs::rename(before, numbered(&path, number))?;
            }
        }
        self.to = BufWriter::new(File::create(&path)?);
        self.bytes = 0;
        Ok(())
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn tail(file: &mut File) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    Ok(tail)
}

impl Known {
    fn read(tail: &[u8]) -> Option<Known> {
        let lines = tail.split(|byte| *byte == b'\n');
        let parsed =
            lines.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
        let of_txns = parsed.filter(|line| line["rule"].is_null() && line["op"] != RESTORE);
        let places = of_txns.filter_map(|line| {
            let cluster = ClusterId::from_str_radix(line["cluster"].as_str()?, 16).ok()?;
            Some((cluster, line["zxid"].as_u64()?))
        });
        places.fold(None, |known, (cluster, zxid)| match known {
            Some(last) if (last.cluster, last.zxid) == (cluster, zxid) => {
                Some(Known { lines: last.lines + 1, ..last })
            }
            _ => Some(Known { cluster, zxid, lines: 1 }),
        })
    }

    /// Returns whether a line is one of those that were there: after a start what the log has is applied again, in the same
    /// order.
    fn has(&mut self, line: &AuditLine) -> bool {
        // A node begins with the state of nothing.
        if line.op == RESTORE && line.zxid == 0 {
            return true;
        }
        if line.rule.is_some() || line.cluster != self.cluster || line.zxid > self.zxid {
            return false;
        }
        if line.zxid < self.zxid || line.op == RESTORE {
            return true;
        }
        let is_there = self.lines > 0;
        self.lines = self.lines.saturating_sub(1);
        is_there
    }
}
