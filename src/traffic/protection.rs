use percent_encoding::{percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::tombstone::IN_NAME;
use crate::types::{PathError, SessionId, ZnodePath};

/// The znode below which the sessions are noted that are silent and whose end is put off, each by its id.
pub const SUSPECTS: &str = "/roost/suspects";
/// The znode below which is noted what services have lost by silence, each by the path whose children its providers are.
pub const LOSSES: &str = "/roost/losses";

/// A session that is silent and whose end is put off, lest a service lose too many providers at once. Times are ms of the
/// cluster's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    /// Since when.
    pub since_cluster_ms: u64,
    /// Until when at most.
    pub hold_until_cluster_ms: u64,
    /// The services that would lose a provider too many: the paths whose children those are.
    pub services: Vec<String>,
    /// The policy of removal that holds for the first of them.
    pub policy: String,
    /// Whether it is put off because its address answers a probe.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub answers: bool,
}

impl Suspect {
    /// Returns the znode that notes a session.
    pub fn note_of(session: SessionId) -> ZnodePath {
        ZnodePath::parse(&format!("{SUSPECTS}/{session}")).expect("hex digits are a name")
    }

    /// Returns the session of which a note speaks, by the note's name.
    pub fn session_of(note: &ZnodePath) -> Option<SessionId> {
        let session = note.name().parse().ok()?;
        // There is one note of a session: other ways to write its id name none.
        (Suspect::note_of(session) == *note).then_some(session)
    }

    /// Reads a note; `None` for what is none.
    pub fn read(data: &[u8]) -> Option<Suspect> {
        serde_json::from_slice(data).ok()
    }

    /// Returns the data of its note.
    pub fn to_data(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers always encode")
    }
}

/// What a service has lost by silence within one second of the cluster's clock. Its note goes when the window is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// So many providers.
    pub lost: u64,
}

impl Loss {
    /// Returns the znode below which the losses of a service are noted. The error says that its name would be too long.
    pub fn notes_of(service: &str) -> Result<ZnodePath, PathError> {
        ZnodePath::parse(&format!("{LOSSES}/{}", utf8_percent_encode(service, &IN_NAME)))
    }

    /// Returns the service whose losses are noted below a znode, by its name.
    pub fn service_of(notes: &ZnodePath) -> Option<ZnodePath> {
        ZnodePath::parse(&percent_decode_str(notes.name()).decode_utf8().ok()?).ok()
    }

    /// Reads a note; `None` for what is none.
    pub fn read(data: &[u8]) -> Option<Loss> {
        serde_json::from_slice(data).ok()
    }

    /// Returns the data of its note.
    pub fn to_data(self) -> Vec<u8> {
        serde_json::to_vec(&self).expect("a number always encodes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_of_whom_it_speaks_and_nothing_else_does() {
        let session = SessionId(0x0100_0000_0000_0007);
        let note = Suspect::note_of(session);
        assert_eq!(note.as_str(), "/roost/suspects/0x0100000000000007");
        assert_eq!(Suspect::session_of(&note), Some(session));
        for other in ["/roost/suspects/0x7", "/roost/suspects/x", "/a/0x0100000000000007"] {
            assert_eq!(Suspect::session_of(&ZnodePath::parse(other).unwrap()), None, "{other}");
        }
        let notes = Loss::notes_of("/services/a%2f/providers").unwrap();
        assert_eq!(Loss::service_of(&notes).unwrap().as_str(), "/services/a%2f/providers");
        assert_eq!(Loss::read(&Loss { lost: 3 }.to_data()), Some(Loss { lost: 3 }));
        assert!(Loss::read(b"3").is_none() && Suspect::read(b"{}").is_none());
    }
}
