//! A data directory that is not what it should be: one line that names it, and no start.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use roost::client::model::Create;
use roost::storage::{Disk, SledDisk};

use crate::harness::{Cluster, Node, roost, seed};

/// A node that has stored something and is stopped.
async fn stopped() -> Cluster {
    let mut cluster = Cluster::start(1).await;
    let client = cluster.client_from(0);
    for index in 0..40 {
        let path = format!("/z{index}");
        let data = vec![b'x'; 20_000];
        client.create(&Create { path, data, ..Create::default() }).await.unwrap();
    }
    cluster.nodes[0].stop().await;
    cluster
}

/// Copies a data directory.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_a_newer_format_is_left_to_the_newer_version() {
    let mut cluster = stopped().await;
    let node = &mut cluster.nodes[0];
    let key = b"\0format".to_vec();
    let dir = node.data_dir().join("raft");
    let write = |format: u32| {
        let mut record = b"format\0".to_vec();
        record.extend(format.to_le_bytes());
        let crc = crc32fast::hash(&record).to_le_bytes();
        let sealed = [&crc[..], &format.to_le_bytes()].concat();
        let disk = SledDisk::open(&dir, 1 << 20).unwrap();
        assert!(disk.get(&key).unwrap().is_some_and(|old| old.len() == sealed.len()));
        disk.commit(vec![(key.clone(), Some(sealed.into()))]).unwrap();
    };
    write(3);
    let ran = node.refuses(&node.config()).await;
    ran.fails_in_one_line(1, &["format 3", "up to 2", "newer version"]);
    let dump = roost("", &["dump", &node.data_dir().display().to_string()]).await;
    dump.fails_in_one_line(1, &["format 3"]);
    write(1);
    let ran = node.refuses(&node.config()).await;
    ran.fails_in_one_line(1, &["format 1", "not read any more"]);
    // Nothing was touched: back in its own format it is all there.
    write(2);
    node.spawn();
    node.ready().await;
    assert_eq!(
        node.client().get("/z39", Default::default()).await.unwrap().stat.data_length,
        20_000
    );
}

/// Starts the node where it must refuse, or where it may start because what was damaged did not matter: then all must
/// be there. Returns whether it refused.
async fn refuses_or_has_all(node: &mut Node) -> bool {
    node.spawn();
    let ended = crate::harness::eventually("a start or a refusal", async || {
        if let Some(status) = node.process().ended() {
            return Some(Some(status));
        }
        node.client().impatient().ready().await.ok().map(|()| None)
    })
    .await;
    let log = node.dir.join("log");
    if let Some(status) = ended {
        let output = node.process().output();
        let errors: Vec<&str> = output.lines().filter(|line| line.starts_with("roost: ")).collect();
        assert_eq!((status.code(), errors.len()), (Some(1), 1), "{output}");
        assert!(errors[0].contains(&node.dir.display().to_string()), "{output}");
        assert!(!output.contains("panicked"), "{output}");
    } else {
        for index in 0..40 {
            let znode = node.client().get(&format!("/z{index}"), Default::default()).await;
            assert_eq!(znode.unwrap().stat.data_length, 20_000);
        }
        node.kill9();
    }
    node.process = None;
    fs::remove_file(log).unwrap();
    ended.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_store_is_refused_by_name_or_was_not_damaged_where_it_matters() {
    let mut cluster = stopped().await;
    let node = &mut cluster.nodes[0];
    let mut random = StdRng::seed_from_u64(seed());
    let (good, db) = (node.dir.join("good"), node.data_dir().join("raft/db"));
    fs::rename(node.data_dir(), &good).unwrap();
    let length = fs::metadata(good.join("raft/db")).unwrap().len();
    let mut refused = 0;
    for round in 0..10 {
        copy(&good, &node.data_dir());
        let file = OpenOptions::new().read(true).write(true).open(&db).unwrap();
        match round {
            0 => file.set_len(0).unwrap(),
            1 => file.set_len(random.random_range(1..length)).unwrap(),
            2 => fs::remove_file(&db).unwrap(),
            3 => fs::write(db.with_file_name("conf"), b"garbage").unwrap(),
            _ => {
                // A run of bytes somewhere in what has been written.
                let mut bytes = vec![0; 4096];
                let at = random.random_range(0..length.min(800_000));
                let count = file.read_at(&mut bytes, at).unwrap();
                bytes[..count].iter_mut().for_each(|byte| *byte ^= 0x55);
                file.write_at(&bytes[..count], at).unwrap();
            }
        }
        drop(file);
        refused += u32::from(refuses_or_has_all(node).await);
        fs::remove_dir_all(node.data_dir()).unwrap();
    }
    assert!(refused >= 5, "only {refused} of 10 damages were noticed");

    // The good copy was never touched.
    copy(&good, &node.data_dir());
    assert!(!refuses_or_has_all(node).await);
}
