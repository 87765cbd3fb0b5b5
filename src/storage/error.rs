use std::fmt;
use std::io;

/// Why a store cannot be used. The text names the store and says what to do.
#[derive(Debug)]
pub enum StoreError {
    /// Another process has the directory open.
    Locked {
        /// The store: a directory, or a name for one in memory.
        store: String,
    },
    /// The store does not open at all.
    Lost {
        /// The store.
        store: String,
        /// What was seen.
        why: String,
    },
    /// A record is not what was written.
    Damaged {
        /// The store.
        store: String,
        /// The record's key, readable.
        key: String,
        /// What was seen.
        why: String,
    },
    /// The store was written by a newer version of this program.
    Newer {
        /// The store.
        store: String,
        /// The format found.
        found: u32,
        /// The newest format that this program reads.
        known: u32,
    },
    /// The operating system refused.
    Io {
        /// The store.
        store: String,
        /// Its error.
        source: io::Error,
    },
}

impl StoreError {
    pub(super) fn io(store: &str, source: io::Error) -> StoreError {
        StoreError::Io { store: store.to_string(), source }
    }

    pub(super) fn damaged(
        store: &str,
        key: impl Into<String>,
        why: impl Into<String>,
    ) -> StoreError {
        StoreError::Damaged { store: store.to_string(), key: key.into(), why: why.into() }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remedy = |store: &str| {
            format!("this node lost its disk: wipe {store} and join under a new node id")
        };
        match self {
            StoreError::Locked { store } => {
                write!(f, "{store} is in use by another process: stop that node first")
            }
            StoreError::Lost { store, why } => {
                write!(f, "{store} does not open ({why}): {}", remedy(store))
            }
            StoreError::Damaged { store, key, why } => {
                write!(f, "{store} is damaged at {key} ({why}): {}", remedy(store))
            }
            StoreError::Newer { store, found, known } => write!(
                f,
                "{store} has format {found}, this version reads formats up to {known}: run the newer version"
            ),
            StoreError::Io { store, source } => write!(f, "{store}: {source}"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StoreError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<StoreError> for io::Error {
    fn from(err: StoreError) -> io::Error {
        let kind = match &err {
            StoreError::Io { source, .. } => source.kind(),
            StoreError::Locked { .. } => io::ErrorKind::ResourceBusy,
            StoreError::Newer { .. } => io::ErrorKind::Unsupported,
            StoreError::Lost { .. } | StoreError::Damaged { .. } => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, err)
    }
}
