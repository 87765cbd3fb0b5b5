use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};

use super::log::{Log, Write};
use super::reader::{LogReader, Shared};
use super::stats::{Counters, StorageStats};
use crate::limits::{WAL_COMMIT_BYTES_MAX, WAL_QUEUE_BYTES_MAX, WAL_QUEUE_JOBS_MAX};

/// Called once, when the job's writes are done or have failed. It runs on the writer and must not block; it must not
/// submit either, since a full queue waits for the writer.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Returns the time since some fixed moment, µs, never going back.
pub type Clock = Box<dyn Fn() -> u64 + Send>;

/// Submits writes to the log's one writer. Clones feed the same queue; with the last one the writer ends.
#[derive(Clone)]
pub struct WalHandle {
    port: Arc<Port>,
}

/// The writer's end of the queue: each [`WalWriter::step`] makes one commit of what is waiting.
///
/// On a thread of its own it is driven by [`spawn_writer`]; a simulation drives it by hand.
pub struct WalWriter {
    wal: Arc<Wal>,
    log: Log,
    clock: Clock,
    /// Jobs of the commit that is under way.
    current: Vec<Job>,
}

struct Port {
    wal: Arc<Wal>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Wal {
    queue: Mutex<Queue>,
    /// Signalled when jobs leave the queue.
    room: Condvar,
    wake: Box<dyn Fn() + Send + Sync>,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    bytes: usize,
    closed: bool,
}

struct Job {
    writes: Vec<Write>,
    cost: usize,
    ticket: u64,
    done: Done,
}

/// Puts a queue in front of a log. `wake` is called, without waiting for anything, whenever the writer has something
/// to do: a job, or its end.
pub fn wal(log: Log, clock: Clock, wake: Box<dyn Fn() + Send + Sync>) -> (WalHandle, WalWriter) {
    let wal = Arc::new(Wal {
        queue: Mutex::default(),
        room: Condvar::new(),
        wake,
        shared: log.shared().clone(),
        counters: log.counters().clone(),
    });
    let port = Port { wal: wal.clone(), thread: Mutex::new(None) };
    (WalHandle { port: Arc::new(port) }, WalWriter { wal, log, clock, current: Vec::new() })
}

/// Starts the thread that writes this log. It ends at [`WalHandle::close`] or with the last handle.
/// Error: the thread cannot be started.
pub fn spawn_writer(log: Log, clock: Clock) -> io::Result<WalHandle> {
    let (send, receive) = mpsc::channel::<WalWriter>();
    let thread = thread::Builder::new().name("wal".into()).spawn(move || {
        let Ok(mut writer) = receive.recv() else { return };
        loop {
            // Asked first: after the close nothing is added, so an empty queue then is the end.
            let closed = writer.is_closed();
            if writer.step() {
                continue;
            }
            if closed {
                return;
            }
            if !writer.trim() {
                thread::park();
            }
        }
    })?;
    let to_wake = thread.thread().clone();
    let (handle, writer) = wal(log, clock, Box::new(move || to_wake.unpark()));
    *handle.port.thread.lock() = Some(thread);
    send.send(writer).map_err(|_| closed())?;
    Ok(handle)
}

impl WalHandle {
    /// Queues writes, which become durable together, after everything submitted before; `done` then runs. When this
    /// returns, appended entries are readable, cut ones are not. Waits while the queue is full
    /// ([`WAL_QUEUE_JOBS_MAX`], [`WAL_QUEUE_BYTES_MAX`]). After [`WalHandle::close`] `done` gets an error at once.
    /// Panics when entries do not follow the log.
    pub fn submit(&self, writes: Vec<Write>, done: Done) {
        let cost = writes.iter().map(Write::cost).sum();
        let wal = &self.port.wal;
        let mut queue = wal.queue.lock();
        wal.room.wait_while(&mut queue, |queue| !queue.closed && !queue.has_room(cost));
        if queue.closed {
            drop(queue);
            return done(Err(closed()));
        }
        // Under the queue's lock: the order of admission is the order in the queue.
        let ticket = wal.shared.view.lock().admit(&writes);
        queue.bytes += cost;
        queue.jobs.push_back(Job { writes, cost, ticket, done });
        drop(queue);
        (wal.wake)();
    }

    /// Submits and waits until it is done. Not for asynchronous code, nor where nothing else drives the writer.
    pub fn write(&self, writes: Vec<Write>) -> io::Result<()> {
        let (send, receive) = mpsc::sync_channel(1);
        // The receiver is gone only when this thread is.
        self.submit(writes, Box::new(move |result| drop(send.send(result))));
        receive.recv().unwrap_or_else(|_| Err(closed()))
    }

    /// Returns a reader of the log.
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.port.wal.shared.clone())
    }

    /// Returns what the writer did so far.
    pub fn stats(&self) -> StorageStats {
        self.port.wal.counters.snapshot()
    }

    /// Takes no more jobs, and waits until the thread has done those it has, if there is a thread. Not from a callback.
    pub fn close(&self) {
        self.port.wal.close();
        if let Some(thread) = self.port.thread.lock().take() {
            // A writer that panicked has failed its jobs already.
            drop(thread.join());
        }
    }
}

impl Drop for Port {
    /// Does not wait for the thread: this may be the thread.
    fn drop(&mut self) {
        self.wal.close();
    }
}

impl Wal {
    fn close(&self) {
        self.queue.lock().closed = true;
        self.room.notify_all();
        (self.wake)();
    }
}

impl Queue {
    fn has_room(&self, cost: usize) -> bool {
        self.jobs.is_empty()
            || (self.jobs.len() < WAL_QUEUE_JOBS_MAX && self.bytes + cost <= WAL_QUEUE_BYTES_MAX)
    }

    /// Takes the jobs of one commit.
    fn take(&mut self) -> Vec<Job> {
        let mut bytes = 0;
        let fits = |job: &&Job| {
            bytes += job.cost;
            bytes <= WAL_COMMIT_BYTES_MAX
        };
        let count = self.jobs.iter().take_while(fits).count().max(1).min(self.jobs.len());
        let jobs: Vec<Job> = self.jobs.drain(..count).collect();
        self.bytes -= jobs.iter().map(|job| job.cost).sum::<usize>();
        jobs
    }
}

impl WalWriter {
    /// Makes one commit of waiting jobs, up to [`WAL_COMMIT_BYTES_MAX`], and runs their callbacks in order; returns
    /// whether there were any. Blocks for the disk.
    pub fn step(&mut self) -> bool {
        self.current = self.wal.queue.lock().take();
        let Some(ticket) = self.current.last().map(|job| job.ticket) else { return false };
        self.wal.room.notify_all();
        let writes = self.current.iter_mut().flat_map(|job| mem::take(&mut job.writes)).collect();
        let started = (self.clock)();
        let result = self.log.persist(writes, ticket);
        if let Ok(true) = result {
            self.wal.counters.time_commit((self.clock)().saturating_sub(started));
        }
        for job in self.current.drain(..) {
            (job.done)(match &result {
                Ok(_) => Ok(()),
                Err(err) => {
                    mutant!(M16, Ok(()), Err(io::Error::new(err.kind(), err.to_string())))
                }
            });
        }
        true
    }

    /// Uses a moment without jobs to remove some of what was purged; returns whether there was anything. Blocks for the
    /// store, not for the disk.
    pub fn trim(&mut self) -> bool {
        self.log.trim()
    }

    /// Returns whether no more jobs will come; some may still wait.
    pub fn is_closed(&self) -> bool {
        self.wal.queue.lock().closed
    }
}

impl Drop for WalWriter {
    /// Whatever is still waiting has failed, also when the writer ends by a panic.
    fn drop(&mut self) {
        self.wal.close();
        let waiting = mem::take(&mut self.wal.queue.lock().jobs);
        for job in self.current.drain(..).chain(waiting) {
            (job.done)(Err(closed()));
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the log is closed")
}
