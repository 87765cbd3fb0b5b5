use percent_encoding::{percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::tombstone::IN_NAME;
use crate::types::{PathError, ZnodePath};

/// The znode below which it is noted who is leaving, each by the path of its registration. A note is a TTL znode: when its time
/// is over, the registration goes with it.
pub const DRAINS: &str = "/roost/drains";

/// That an instance is leaving: for as long as its note exists it is shown as draining, without weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// The zxid at which its registration was created: one that comes later is not meant.
    pub czxid: u64,
    /// Who said so, for people.
    pub set_by: String,
    /// Why, for people.
    pub reason: String,
    /// When it goes at the latest, ms since 1970, for people: the note's TTL decides.
    pub expires_at_ms: u64,
}

impl Drain {
    /// Returns the znode that notes that the one at this path is leaving. The error says that its name would be too long.
    pub fn note_of(target: &ZnodePath) -> Result<ZnodePath, PathError> {
        ZnodePath::parse(&format!("{DRAINS}/{}", utf8_percent_encode(target.as_str(), &IN_NAME)))
    }

    /// Returns the registration of which a znode is the note; `None` for what is no note.
    pub fn target_of(note: &ZnodePath) -> Option<ZnodePath> {
        let name = note.as_str().strip_prefix(DRAINS)?.strip_prefix('/')?;
        ZnodePath::parse(&percent_decode_str(name).decode_utf8().ok()?).ok()
    }

    /// Reads a note; `None` for what is none.
    pub fn read(data: &[u8]) -> Option<Drain> {
        serde_json::from_slice(data).ok()
    }

    /// Returns the data of its note.
    pub fn to_data(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers always encode")
    }
}
