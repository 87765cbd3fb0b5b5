use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::instance::{Instance, sign};
use crate::client::encode_path;

/// Version of the files.
const FORMAT: u32 = 3;
/// Longest name of a file that is made of the names of registry and service; a longer one is cut and hashed.
const NAME_BYTES_MAX: usize = 200;

/// A list as it lies on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cached {
    /// Version of the format.
    format: u32,
    /// The registry it is from.
    pub registry: String,
    /// The service.
    pub service: String,
    /// The state that it is of.
    pub zxid: u64,
    /// [`sign`] of the instances, 16 hex digits.
    pub sign: String,
    /// Hash of the instances as they are written, 16 hex digits.
    check: String,
    /// Who was there.
    pub instances: Vec<Instance>,
}

/// Lists on the local disk, one file each, for a start without a registry. A file is replaced whole: it is written beside
/// the old one, synced and renamed, so whoever reads finds one of the two. Several subscriptions, of one program or of
/// many, may share a directory.
#[derive(Clone, Debug)]
pub struct DiskCache {
    dir: PathBuf,
}

impl DiskCache {
    /// Returns the cache in this directory, which is made when it is missing.
    pub fn open(dir: &Path) -> io::Result<DiskCache> {
        fs::create_dir_all(dir)?;
        Ok(DiskCache { dir: dir.to_owned() })
    }

    /// Writes a list. Blocks for a sync of the disk.
    pub fn store(
        &self,
        registry: &str,
        service: &str,
        zxid: u64,
        instances: Vec<Instance>,
    ) -> io::Result<()> {
        let cached = Cached {
            format: FORMAT,
            registry: registry.to_owned(),
            service: service.to_owned(),
            zxid,
            sign: format!("{:016x}", sign(&instances)),
            check: check(&instances),
            instances,
        };
        let text = serde_json::to_vec(&cached)?;
        let path = self.path(registry, service);
        let mut beside = Beside::create(&path)?;
        beside.file.write_all(&text)?;
        beside.replace(&path)
    }

    /// Returns the list of a service. `None` when there is none, and when what there is cannot be trusted: it is of another
    /// format, registry or service, or damaged.
    pub fn load(&self, registry: &str, service: &str) -> Option<Cached> {
        let text = fs::read(self.path(registry, service)).ok()?;
        let cached: Cached = serde_json::from_slice(&text).ok()?;
        let is_whole = cached.format == FORMAT
            && cached.registry == registry
            && cached.service == service
            && cached.check == check(&cached.instances);
        is_whole.then_some(cached)
    }

    fn path(&self, registry: &str, service: &str) -> PathBuf {
        let name = encode_path(&format!("{registry}~{service}")).replace('/', "%2F");
        let name = match name.len() > NAME_BYTES_MAX {
            false => name,
            true => {
                let hash = xxhash_rust::xxh3::xxh3_64(name.as_bytes());
                format!("{}~{hash:016x}", &name[..NAME_BYTES_MAX])
            }
        };
        self.dir.join(name + ".json")
    }
}

/// A file that is written beside the one that it will replace. Nobody else writes to it; dropped before that it is removed.
struct Beside {
    path: PathBuf,
    file: File,
}

impl Beside {
    /// Returns an empty file with a name that no other has.
    fn create(path: &Path) -> io::Result<Beside> {
        loop {
            // By chance, since those who share a directory may share neither memory nor numbers of processes.
            let beside = path.with_extension(format!("{:016x}.new", rand::random::<u64>()));
            match File::create_new(&beside) {
                Ok(file) => return Ok(Beside { path: beside, file }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Puts it in the place of the other file, once what was written is on the disk.
    fn replace(self, path: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, path)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Once it has been renamed there is none of this name.
        let _ = fs::remove_file(&self.path);
    }
}

fn check(instances: &[Instance]) -> String {
    let text = serde_json::to_vec(instances).expect("texts and numbers always encode");
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&text))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::instance::tests::instance;
    use super::{Beside, DiskCache, fs};

    #[test]
    fn a_list_is_read_back_and_anything_else_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(&dir.path().join("deep/er")).unwrap();
        assert!(cache.load("r", "a/b").is_none());
        let list = vec![instance("x", 3), instance("y", 4)];
        cache.store("r", "a/b", 9, list.clone()).unwrap();
        let cached = cache.load("r", "a/b").unwrap();
        assert_eq!((cached.zxid, &cached.instances), (9, &list));
        assert!(cache.load("other", "a/b").is_none() && cache.load("r", "a").is_none());
        let long = "s".repeat(5_000);
        cache.store("r", &long, 1, list).unwrap();
        assert_eq!(cache.load("r", &long).unwrap().service, long);
        assert!(cache.load("r", &"s".repeat(4_999)).is_none());

        let path = cache.path("r", "a/b");
        let good = fs::read_to_string(&path).unwrap();
        for (from, to) in [
            ("host-x", "host-z"),
            ("\"modified\":3", "\"modified\":5"),
            ("\"format\":3", "\"format\":2"),
        ] {
            assert!(good.contains(from));
            fs::write(&path, good.replace(from, to)).unwrap();
            assert!(cache.load("r", "a/b").is_none(), "{from}");
        }
        fs::write(&path, &good[..good.len() / 2]).unwrap();
        assert!(cache.load("r", "a/b").is_none());
        let names = fs::read_dir(dir.path().join("deep/er")).unwrap();
        assert_eq!(names.count(), 2, "nothing is left beside the lists");
    }

    #[test]
    fn of_two_who_write_one_list_at_the_same_time_neither_touches_what_the_other_writes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(dir.path()).unwrap();
        let path = cache.path("r", "web");
        let mut slow = Beside::create(&path).unwrap();
        slow.file.write_all(b"half of").unwrap();
        cache.store("r", "web", 7, vec![instance("x", 7)]).unwrap();
        assert_eq!(cache.load("r", "web").unwrap().zxid, 7);
        slow.file.write_all(b" a list").unwrap();
        assert_eq!(fs::read_to_string(&slow.path).unwrap(), "half of a list");
        assert_eq!(cache.load("r", "web").unwrap().zxid, 7, "the other's is whole");
        slow.replace(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "half of a list");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn whoever_fails_to_write_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(dir.path()).unwrap();
        // No file takes the place of a directory.
        fs::create_dir(cache.path("r", "web")).unwrap();
        assert!(cache.store("r", "web", 7, vec![instance("x", 7)]).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
