use std::io;

use bytes::Bytes;

use super::super::{Disk, MemoryDisks, SnapshotPointer, SnapshotStore, StoreError};

/// Pieces of awkward sizes, some compressible, some not.
fn pieces(seed: u64) -> Vec<Vec<u8>> {
    let noise = |len: usize| {
        let mut state = seed | 1;
        let next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        std::iter::repeat_with(next).take(len).collect::<Vec<u8>>()
    };
    vec![
        vec![],
        noise(1),
        noise(49_000),
        noise(48 << 10),
        vec![7; 1 << 20],
        noise(1 << 20),
        noise(10),
    ]
}

fn write(store: &SnapshotStore, generation: u64) -> SnapshotPointer {
    let mut writer = store.begin(generation).unwrap();
    for piece in pieces(generation) {
        writer.push(&piece).unwrap();
    }
    writer.finish(Bytes::from("meta")).unwrap()
}

fn read(store: &SnapshotStore, pointer: &SnapshotPointer) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut reader = store.read(pointer)?;
    std::iter::from_fn(|| reader.next_piece().transpose()).collect()
}

/// Runs a test on both kinds of store; `reopen` takes the generation to keep.
fn on_both(test: impl Fn(&dyn Fn(Option<u64>) -> SnapshotStore)) {
    let disks = MemoryDisks::new();
    test(&|keep| SnapshotStore::in_memory(disks.clone(), keep).unwrap());
    let dir = tempfile::tempdir().unwrap();
    test(&|keep| SnapshotStore::open(&dir.path().join("snap"), keep).unwrap());
}

#[test]
fn a_snapshot_is_read_back_piece_by_piece_also_after_a_reopen() {
    on_both(|reopen| {
        let store = reopen(None);
        let pointer = write(&store, 3);
        assert_eq!((pointer.generation, pointer.meta.as_ref()), (3, b"meta".as_ref()));
        assert_eq!(read(&store, &pointer).unwrap(), pieces(3));
        drop(store);
        assert_eq!(read(&reopen(Some(3)), &pointer).unwrap(), pieces(3));
    });
}

#[test]
fn an_empty_snapshot_has_no_pieces() {
    on_both(|reopen| {
        let store = reopen(None);
        let pointer = store.begin(1).unwrap().finish(Bytes::new()).unwrap();
        assert_eq!(read(&store, &pointer).unwrap(), Vec::<Vec<u8>>::new());
    });
}

#[test]
fn generations_that_the_pointer_does_not_name_go_at_the_next_start() {
    on_both(|reopen| {
        let store = reopen(None);
        let pointers: Vec<_> = (1..=3).map(|generation| write(&store, generation)).collect();
        drop(store);
        let store = reopen(Some(2));
        assert!(matches!(store.read(&pointers[0]), Err(StoreError::Damaged { .. })));
        assert_eq!(read(&store, &pointers[1]).unwrap(), pieces(2));
        assert!(matches!(store.read(&pointers[2]), Err(StoreError::Damaged { .. })));
    });
}

#[test]
fn an_unfinished_snapshot_leaves_nothing() {
    on_both(|reopen| {
        let store = reopen(None);
        let mut writer = store.begin(1).unwrap();
        writer.push(&[1; 100]).unwrap();
        drop(writer);
        let pointer = SnapshotPointer { generation: 1, chunks: 1, ..Default::default() };
        assert!(matches!(store.read(&pointer), Err(StoreError::Damaged { .. })));
        let pointer = write(&store, 1);
        assert_eq!(read(&store, &pointer).unwrap(), pieces(1));
    });
}

#[test]
fn a_snapshot_in_use_is_neither_removed_nor_replaced() {
    on_both(|reopen| {
        let store = reopen(None);
        let pointer = write(&store, 1);
        let mut reader = store.read(&pointer).unwrap();
        let mut writer = store.begin(2).unwrap();
        store.remove_older(3).unwrap();
        let err = io::Error::from(store.begin(1).err().unwrap());
        assert_eq!(err.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(reader.next_piece().unwrap(), Some(vec![]));
        writer.push(&[1]).unwrap();
        let second = writer.finish(Bytes::new()).unwrap();
        assert_eq!(read(&store, &second).unwrap(), [[1]]);
        drop(reader);
        store.remove_older(2).unwrap();
        assert!(matches!(store.read(&pointer), Err(StoreError::Damaged { .. })));
    });
}

#[test]
fn a_finished_snapshot_stays_while_its_pointer_is_under_way() {
    on_both(|reopen| {
        let store = reopen(None);
        let pointers: Vec<_> = (1..=3).map(|generation| write(&store, generation)).collect();
        store.remove_older(2).unwrap();
        assert!(store.read(&pointers[0]).is_err());
        assert_eq!(read(&store, &pointers[1]).unwrap(), pieces(2));
        assert_eq!(read(&store, &pointers[2]).unwrap(), pieces(3));
    });
}

#[test]
fn a_pointer_to_another_content_is_noticed() {
    on_both(|reopen| {
        let store = reopen(None);
        let pointer = write(&store, 1);
        let wrong = [
            SnapshotPointer { crc: pointer.crc ^ 1, ..pointer.clone() },
            SnapshotPointer { chunks: pointer.chunks - 1, ..pointer.clone() },
            SnapshotPointer { chunks: pointer.chunks + 1, ..pointer.clone() },
        ];
        for wrong in wrong {
            assert!(matches!(read(&store, &wrong), Err(StoreError::Damaged { .. })));
        }
    });
}

#[test]
fn a_flipped_bit_in_a_snapshot_is_found() {
    let disks = MemoryDisks::new();
    let store = SnapshotStore::in_memory(disks.clone(), None).unwrap();
    let pointer = write(&store, 1);
    let disk = disks.open(1);
    for at in [0, 4, 5, 30_000] {
        let key = [[1].as_slice(), &2u64.to_be_bytes()].concat();
        let value = disk.get(&key).unwrap().unwrap();
        let mut bad = value.to_vec();
        bad[at] ^= 1;
        disk.commit(vec![(key.clone(), Some(bad.into()))]).unwrap();
        let err = read(&store, &pointer).unwrap_err();
        assert!(err.to_string().contains("snapshot 1 chunk 2"), "{err}");
        disk.commit(vec![(key.clone(), Some(value))]).unwrap();
    }
    read(&store, &pointer).unwrap();
}

#[test]
fn a_finished_snapshot_survives_a_crash() {
    let disks = MemoryDisks::new();
    let store = SnapshotStore::in_memory(disks.clone(), None).unwrap();
    let pointer = write(&store, 1);
    disks.crash(0);
    assert_eq!(read(&store, &pointer).unwrap(), pieces(1));
}
