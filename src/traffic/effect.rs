use std::collections::BTreeMap;

use percent_encoding::{percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tombstone::IN_NAME;
use crate::types::{PathError, ZnodePath};

/// The znode below which the effects of overrides are noted, each by the path of the znode that has it.
pub const EFFECTS: &str = "/roost/effects";

/// What overrides have done to one znode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Effect {
    /// It exists because of an override.
    Made {
        /// The override.
        policy: String,
        /// When that was set last, as a zxid: one that was set anew is another.
        set_at: u64,
    },
    /// Its data, JSON, show something else than its instance says, by JSON pointers (RFC 6901).
    Patched {
        /// What they show.
        shown: BTreeMap<String, Value>,
        /// What the instance says; null where it says nothing.
        before: BTreeMap<String, Value>,
        /// The override that has the last word on each.
        #[serde(default)]
        by: BTreeMap<String, String>,
    },
}

impl Effect {
    /// Returns the znode that notes what was done to this one. The error says that its name would be too long.
    pub fn note_of(target: &ZnodePath) -> Result<ZnodePath, PathError> {
        ZnodePath::parse(&format!("{EFFECTS}/{}", utf8_percent_encode(target.as_str(), &IN_NAME)))
    }

    /// Returns the znode of which a note speaks, by the note's name.
    pub fn target_of(note: &ZnodePath) -> Option<ZnodePath> {
        ZnodePath::parse(&percent_decode_str(note.name()).decode_utf8().ok()?).ok()
    }

    /// Reads a note; `None` for what is none.
    pub fn read(data: &[u8]) -> Option<Effect> {
        serde_json::from_slice(data).ok()
    }

    /// Returns the data of its note.
    pub fn to_data(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and JSON always encode")
    }
}
