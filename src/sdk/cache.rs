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
/// the old one, synced and renamed, so whoever reads finds one of the two.
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
        // Two programs may share the directory; each has its own file to write to.
        let beside = path.with_extension(format!("{}.new", std::process::id()));
        let mut file = File::create(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, &path)
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

fn check(instances: &[Instance]) -> String {
    let text = serde_json::to_vec(instances).expect("texts and numbers always encode");
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&text))
}

#[cfg(test)]
mod tests {
    use super::super::instance::tests::instance;
    use super::{DiskCache, fs};

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
}
