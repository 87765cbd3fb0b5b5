use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::consensus::Consensus;
use super::typ::{LogId, Snapshot, SnapshotMeta, StoredMembership, Vote};
use crate::blocking;
use crate::clock::Clock;
use crate::codec;
use crate::limits::{PEER_FRAME_BYTES_MAX, SNAPSHOT_CHUNK_BYTES_MAX};
use crate::peer::{Kind, Peer, StreamReceiver, StreamSender};
use crate::storage::{SnapshotPointer, SnapshotStore, WalHandle, Write};
use crate::tree::{Loader, SnapshotWriter, Tree};
use crate::types::Zxid;

/// Marks the end of a snapshot on the wire; a piece of it is never empty.
const END: Bytes = Bytes::new();
/// How long a receiver may take to make a snapshot durable and install it.
const INSTALL_PATIENCE: Duration = Duration::from_secs(120);
/// The pause after each chunk that a node writes of its own state: with chunks of 64 KiB this is at most 64 MiB/s.
const SNAPSHOT_CHUNK_REST: Duration = Duration::from_millis(1);

/// What a snapshot stands for, as stored beside it and as sent in front of it. openraft's own type is not stored: what it
/// reads and what it writes differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Meta {
    last_log_id: Option<LogId>,
    membership: StoredMembership,
}

impl Meta {
    pub(super) fn of(meta: &SnapshotMeta) -> Meta {
        Meta { last_log_id: meta.last_log_id, membership: meta.last_membership.clone() }
    }

    fn decode(pointer: &SnapshotPointer) -> Result<Meta, String> {
        codec::decode(&pointer.meta, PEER_FRAME_BYTES_MAX)
            .map_err(|why| format!("the snapshot's record does not parse: {why}"))
    }

    fn into_openraft(self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last_log_id, last_membership: self.membership }
    }
}

/// What goes in front of a snapshot on the wire.
#[derive(Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) vote: Vote,
    pub(super) meta: Meta,
}

/// A finished snapshot on some node's disk; `tree` is its content where it is at hand.
#[derive(Clone)]
pub struct SnapshotData {
    home: Arc<Snapshots>,
    pub(super) pointer: SnapshotPointer,
    tree: Option<Tree>,
}

/// The node's snapshots: each in a generation of its own, the current one named by a pointer in the log's store.
pub struct Snapshots {
    store: SnapshotStore,
    wal: WalHandle,
    next_generation: AtomicU64,
    current: parking_lot::Mutex<Option<SnapshotPointer>>,
    building: AtomicBool,
    clock: Clock,
    /// How many this node has made of its state, and the time of all together, µs.
    built: (AtomicU64, AtomicU64),
    /// The last transaction in the newest of these, and when it was done, ms since 1970.
    last_built: parking_lot::Mutex<Option<(Zxid, u64)>>,
}

impl Snapshots {
    /// Returns the snapshots of a store that was just opened, whose pointer was `current`.
    pub fn new(
        store: SnapshotStore,
        wal: WalHandle,
        current: Option<SnapshotPointer>,
        clock: Clock,
    ) -> Arc<Snapshots> {
        let next = current.as_ref().map_or(1, |pointer| pointer.generation + 1);
        Arc::new(Snapshots {
            store,
            wal,
            next_generation: AtomicU64::new(next),
            current: parking_lot::Mutex::new(current),
            building: AtomicBool::new(false),
            clock,
            built: Default::default(),
            last_built: parking_lot::Mutex::new(None),
        })
    }

    /// Returns whether a snapshot is being written now.
    pub fn is_building(&self) -> bool {
        self.building.load(Ordering::Relaxed)
    }

    /// Returns how many snapshots this node has made of its state since its start, and the time of all together, µs.
    pub fn built(&self) -> (u64, u64) {
        (self.built.0.load(Ordering::Relaxed), self.built.1.load(Ordering::Relaxed))
    }

    /// Returns the last transaction in the newest of these, and when it was done, ms since 1970.
    pub fn last_built(&self) -> Option<(Zxid, u64)> {
        *self.last_built.lock()
    }

    fn begin(&self) -> io::Result<crate::storage::SnapshotWriter> {
        let generation = self.next_generation.fetch_add(1, Ordering::Relaxed);
        self.store.begin(generation).map_err(io::Error::from)
    }

    /// Writes a tree as a new generation, at most one chunk per [`SNAPSHOT_CHUNK_REST`]. Blocks for seconds on a large tree.
    fn write(&self, tree: Tree, meta: &Meta) -> io::Result<SnapshotPointer> {
        let mut writer = self.begin()?;
        let mut chunks = SnapshotWriter::new(tree);
        while let Some(chunk) = chunks.next_chunk() {
            writer.push(&chunk)?;
            // The log goes to the same disk, and the cores have clients to serve; nobody waits for this.
            std::thread::sleep(SNAPSHOT_CHUNK_REST);
        }
        writer.finish(codec::encode(meta).into())
    }

    /// Makes a finished generation the current one, durably, and removes the others.
    async fn publish(self: &Arc<Self>, pointer: &SnapshotPointer) -> io::Result<()> {
        let (done, stored) = oneshot::channel();
        let write = vec![Write::Snapshot(pointer.clone())];
        // The receiver waits below, unless consensus is being dropped.
        self.wal.submit(write, Box::new(move |outcome| drop(done.send(outcome))));
        stored.await.unwrap_or_else(|_| Err(io::Error::other("the log's writer has ended")))?;
        *self.current.lock() = Some(pointer.clone());
        let (home, generation) = (self.clone(), pointer.generation);
        let removed = blocking::run(move || home.store.remove_older(generation));
        removed.await.map_err(io::Error::other)?
    }

    /// Removes a finished generation unless it has become the current one.
    fn discard_unless_current(&self, pointer: &SnapshotPointer) -> io::Result<()> {
        let current = self.current.lock();
        if current.as_ref() == Some(pointer) {
            return Ok(());
        }
        match self.store.remove(pointer.generation) {
            // It was current and is still being read: it goes with the next that is published.
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    /// Returns the current snapshot.
    pub(super) fn current(self: &Arc<Self>) -> io::Result<Option<Snapshot>> {
        let Some(pointer) = self.current.lock().clone() else { return Ok(None) };
        let meta = Meta::decode(&pointer).map_err(invalid)?;
        let data = SnapshotData { home: self.clone(), pointer, tree: None };
        Ok(Some(Snapshot { meta: meta.into_openraft(), snapshot: data }))
    }

    /// Writes and publishes a snapshot of a tree.
    pub(super) async fn build(
        self: &Arc<Self>,
        tree: Tree,
        meta: SnapshotMeta,
    ) -> io::Result<Snapshot> {
        let _building = Building::begin(&self.building);
        let (began_us, zxid) = (self.clock.now_micros(), tree.zxid());
        let (home, stored) = (self.clone(), Meta::of(&meta));
        let written = blocking::run(move || home.write(tree, &stored));
        let pointer = written.await.map_err(io::Error::other)??;
        self.publish(&pointer).await?;
        *self.last_built.lock() = Some((zxid, self.clock.wall_ms()));
        self.built.0.fetch_add(1, Ordering::Relaxed);
        self.built.1.fetch_add(self.clock.now_micros() - began_us, Ordering::Relaxed);
        Ok(Snapshot { meta, snapshot: SnapshotData { home: self.clone(), pointer, tree: None } })
    }

    /// Takes over a snapshot as the current one and returns its content. One that lies elsewhere is copied first.
    pub(super) async fn adopt(
        self: &Arc<Self>,
        meta: &SnapshotMeta,
        data: SnapshotData,
    ) -> io::Result<Tree> {
        let home = self.clone();
        let meta = Meta::of(meta);
        let is_here = Arc::ptr_eq(self, &data.home);
        let adopted = blocking::run(move || {
            let tree = match data.tree {
                Some(tree) => tree,
                None => load(&data.home.store, &data.pointer)?,
            };
            let pointer = match is_here {
                true => data.pointer,
                false => home.write(tree.clone(), &meta)?,
            };
            Ok::<_, io::Error>((tree, pointer))
        });
        let (tree, pointer) = adopted.await.map_err(io::Error::other)??;
        let is_current = self.current.lock().as_ref() == Some(&pointer);
        if !is_current {
            self.publish(&pointer).await?;
        }
        Ok(tree)
    }
}

/// Says that a snapshot is being written, for as long as it lives.
struct Building<'a>(&'a AtomicBool);

impl Building<'_> {
    fn begin(building: &AtomicBool) -> Building<'_> {
        building.store(true, Ordering::Relaxed);
        Building(building)
    }
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Reads a stored snapshot. Blocks for seconds on a large one.
pub(super) fn load(store: &SnapshotStore, pointer: &SnapshotPointer) -> io::Result<Tree> {
    let mut reader = store.read(pointer).map_err(io::Error::from)?;
    let mut loader = Loader::new();
    while let Some(piece) = reader.next_piece().map_err(io::Error::from)? {
        loader.push(&piece).map_err(invalid)?;
    }
    loader.finish().map_err(invalid)
}

/// Returns the log index that a stored snapshot stands for.
pub(super) fn stands_for(pointer: &SnapshotPointer) -> Result<Option<u64>, String> {
    Ok(Meta::decode(pointer)?.last_log_id.map(|id| id.index))
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Sends a snapshot to a peer and returns its encoded answer: a header, the pieces, an empty item as the end, and then one
/// item back.
pub(super) async fn send(peer: &Peer, vote: Vote, snapshot: Snapshot) -> Result<Bytes, String> {
    let (sender, mut receiver) =
        peer.open_stream(Kind::Snapshot).await.map_err(|err| err.to_string())?;
    let header = Header { vote, meta: Meta::of(&snapshot.meta) };
    let SnapshotData { home, pointer, .. } = snapshot.snapshot;
    let sending = async {
        sender.send(codec::encode(&header).into()).await.map_err(|err| err.to_string())?;
        let mut reader = home.store.read(&pointer).map_err(|err| err.to_string())?;
        loop {
            let (back, piece) = blocking::run(move || {
                let piece = reader.next_piece();
                (reader, piece)
            })
            .await
            .map_err(|err| err.to_string())?;
            reader = back;
            match piece.map_err(|err| err.to_string())? {
                Some(piece) => sender.send(piece.into()).await.map_err(|err| err.to_string())?,
                None => break,
            }
        }
        sender.send(END).await.map_err(|err| err.to_string())
    };
    sending.await?;
    let answer = tokio::time::timeout(INSTALL_PATIENCE, receiver.next()).await;
    match answer {
        Ok(Some(Ok(answer))) => Ok(answer),
        Ok(Some(Err(err))) => Err(err.to_string()),
        Ok(None) => Err("the receiver closed without an answer".into()),
        Err(_) => Err("the receiver did not answer in time".into()),
    }
}

/// Receives what [`send`] sends: writes it to the disk while it decodes it, hands it to consensus, and answers.
pub(crate) async fn receive(
    snapshots: Arc<Snapshots>,
    consensus: Consensus,
    sender: StreamSender,
    mut receiver: StreamReceiver,
) -> Result<(), String> {
    let header = next(&mut receiver).await?;
    let Header { vote, meta } = codec::decode(&header, PEER_FRAME_BYTES_MAX)?;
    let mut writing = Some((snapshots.begin().map_err(|err| err.to_string())?, Loader::new()));
    loop {
        let piece = next(&mut receiver).await?;
        if piece.is_empty() {
            break;
        }
        if piece.len() > 2 * SNAPSHOT_CHUNK_BYTES_MAX.max(crate::limits::TXN_BYTES_MAX) {
            return Err("a piece of the snapshot is too large".into());
        }
        let (mut writer, mut loader) = writing.take().ok_or("the snapshot's writer is gone")?;
        let back = blocking::run(move || {
            writer.push(&piece).map_err(|err| err.to_string())?;
            loader.push(&piece)?;
            Ok::<_, String>((writer, loader))
        });
        writing = Some(back.await.map_err(|err| err.to_string())??);
    }
    let (writer, loader) = writing.take().ok_or("the snapshot's writer is gone")?;
    let stored = codec::encode(&meta);
    let finished = blocking::run(move || {
        let tree = loader.finish()?;
        let pointer = writer.finish(stored.into()).map_err(|err| err.to_string())?;
        Ok::<_, String>((tree, pointer))
    });
    let (tree, pointer) = finished.await.map_err(|err| err.to_string())??;
    let data = SnapshotData { home: snapshots.clone(), pointer: pointer.clone(), tree: Some(tree) };
    let answer = consensus.install(vote, meta.into_openraft(), data).await?;
    // One of an earlier term, or no newer than what is here, was not installed.
    let removed = blocking::run(move || snapshots.discard_unless_current(&pointer));
    removed.await.map_err(|err| err.to_string())?.map_err(|err| err.to_string())?;
    sender.send(answer).await.map_err(|err| err.to_string())
}

async fn next(receiver: &mut StreamReceiver) -> Result<Bytes, String> {
    match receiver.next().await {
        Some(Ok(item)) => Ok(item),
        Some(Err(err)) => Err(err.to_string()),
        None => Err("the snapshot ends early".into()),
    }
}
