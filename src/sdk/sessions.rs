use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::client::encode_path;
use crate::limits::SESSIONS_NOTED_MAX;

/// Version of the files.
const FORMAT: u32 = 1;

/// The tokens of the sessions that a provider holds, by registry, kept for whoever provides the same after it: by them it
/// takes over what is still registered, so that nobody sees it go and come back. A clone is the same one.
///
/// Without a directory it lasts as long as the process, which is enough for a registrar that follows another one. In a
/// directory it outlives the process; each program has its own. Who can read the files can act for the sessions: only their
/// owner may.
#[derive(Clone, Debug, Default)]
pub struct SessionStore {
    dir: Option<Arc<PathBuf>>,
    noted: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
}

#[derive(Serialize, Deserialize)]
struct Noted {
    format: u32,
    registry: String,
    /// The oldest first.
    tokens: Vec<String>,
}

impl SessionStore {
    /// Returns the store in this directory, which is made when it is missing.
    pub fn open(dir: &Path) -> io::Result<SessionStore> {
        fs::create_dir_all(dir)?;
        Ok(SessionStore { dir: Some(Arc::new(dir.to_owned())), ..SessionStore::default() })
    }

    /// Returns the sessions that may still have something registered, the oldest first.
    pub fn tokens(&self, registry: &str) -> Vec<String> {
        let mut noted = self.noted.lock();
        let load = || self.load(registry).unwrap_or_default();
        noted.entry(registry.to_owned()).or_insert_with(load).clone()
    }

    /// Notes one more session, before it holds anything.
    pub fn add(&self, registry: &str, token: &str) {
        self.change(registry, |tokens| {
            tokens.push(token.to_owned());
            if tokens.len() > SESSIONS_NOTED_MAX {
                tokens.remove(0);
            }
        });
    }

    /// Forgets a session that has ended.
    pub fn remove(&self, registry: &str, token: &str) {
        self.change(registry, |tokens| tokens.retain(|noted| noted != token));
    }

    /// Forgets all sessions but this one, which has everything now.
    pub fn keep(&self, registry: &str, token: &str) {
        self.change(registry, |tokens| tokens.retain(|noted| noted == token));
    }

    /// Changes what is noted. Those who share it do so one after the other, here and on the disk.
    fn change(&self, registry: &str, change: impl FnOnce(&mut Vec<String>)) {
        let mut noted = self.noted.lock();
        let load = || self.load(registry).unwrap_or_default();
        let tokens = noted.entry(registry.to_owned()).or_insert_with(load);
        let before = tokens.clone();
        change(tokens);
        if *tokens != before {
            // What could not be written costs the next run a wait until the session has expired; there is nobody to tell.
            let _ = self.write(registry, tokens.clone());
        }
    }

    /// Replaces the file whole. Not synced: when the machine goes down, it is away for longer than a session lives.
    fn write(&self, registry: &str, tokens: Vec<String>) -> io::Result<()> {
        let Some(path) = self.path(registry) else { return Ok(()) };
        let noted = Noted { format: FORMAT, registry: registry.to_owned(), tokens };
        let beside = path.with_extension(format!("{}.new", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&beside)?.write_all(&serde_json::to_vec(&noted)?)?;
        fs::rename(&beside, &path)
    }

    /// Returns what the file has; `None` when there is none, or it is of another format or registry.
    fn load(&self, registry: &str) -> Option<Vec<String>> {
        let noted: Noted = serde_json::from_slice(&fs::read(self.path(registry)?).ok()?).ok()?;
        let is_ours = noted.format == FORMAT && noted.registry == registry;
        is_ours.then_some(noted.tokens)
    }

    fn path(&self, registry: &str) -> Option<PathBuf> {
        let name = encode_path(registry).replace('/', "%2F");
        Some(self.dir.as_ref()?.join(format!("session~{name}.json")))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{SESSIONS_NOTED_MAX, SessionStore};

    #[test]
    fn what_one_run_notes_the_next_one_finds_and_what_has_ended_it_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let open = || SessionStore::open(&dir.path().join("deep/er")).unwrap();
        let first = open();
        assert!(first.tokens("a/b").is_empty());
        first.add("a/b", "1");
        first.add("a/b", "2");
        first.add("other", "3");
        assert_eq!(
            (open().tokens("a/b"), open().tokens("other")),
            (vec!["1".into(), "2".into()], vec!["3".into()])
        );
        first.keep("a/b", "2");
        assert_eq!(open().tokens("a/b"), ["2"]);
        let next = open();
        next.add("a/b", "4");
        next.remove("a/b", "2");
        assert_eq!(open().tokens("a/b"), ["4"]);
        for n in 0..SESSIONS_NOTED_MAX {
            next.add("a/b", &format!("n{n}"));
        }
        assert_eq!(open().tokens("a/b").first().map(String::as_str), Some("n0"), "the oldest went");

        // Whoever can read a token can act for its session.
        let files: Vec<_> =
            fs::read_dir(dir.path().join("deep/er")).unwrap().map(Result::unwrap).collect();
        assert_eq!(files.len(), 2, "nothing is left beside them: {files:?}");
        for file in &files {
            let mode =
                std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
        for damage in ["", "{}", r#"{"format":2,"registry":"other","tokens":["3"]}"#] {
            fs::write(dir.path().join("deep/er/session~other.json"), damage).unwrap();
            assert!(open().tokens("other").is_empty(), "{damage}");
        }
    }

    #[test]
    fn without_a_directory_it_lasts_as_long_as_its_clones() {
        let store = SessionStore::default();
        store.add("a", "1");
        assert_eq!(store.clone().tokens("a"), ["1"]);
        assert!(SessionStore::default().tokens("a").is_empty());
    }

    #[test]
    fn nobody_notes_anything_while_another_does() {
        let store = SessionStore::default();
        let mut is_alone = false;
        store.change("a", |tokens| {
            tokens.push("1".to_owned());
            is_alone = store.noted.is_locked();
        });
        assert!(is_alone && !store.noted.is_locked());
        assert_eq!(store.tokens("a"), ["1"]);
    }
}
