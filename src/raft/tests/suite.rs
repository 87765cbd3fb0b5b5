//! openraft's own suite over both kinds of disk.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::Store;
use crate::raft::{LogStore, StateMachine, TypeConfig};
use crate::storage::{MemoryDisk, MemoryDisks, SledDisk, SnapshotStore};

struct InMemory;

impl StoreBuilder<TypeConfig, LogStore, StateMachine> for InMemory {
    async fn build(&self) -> Result<((), LogStore, StateMachine), StorageError<TypeConfig>> {
        let store = Store::in_memory(&MemoryDisk::new(), &MemoryDisks::new());
        Ok(((), store.log, store.machine))
    }
}

struct OnDisk;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let disk = SledDisk::open(&dir.path().join("raft"), 8 << 20).unwrap();
        let shelf = |keep| SnapshotStore::open(&dir.path().join("snap"), keep).unwrap();
        let store = Store::open(Arc::new(disk), shelf);
        Ok((dir, store.log, store.machine))
    }
}

#[tokio::test]
async fn openrafts_own_suite_passes_in_memory() {
    Suite::test_all(InMemory).await.unwrap();
}

#[tokio::test]
async fn openrafts_own_suite_passes_on_sled() {
    Suite::test_all(OnDisk).await.unwrap();
}
