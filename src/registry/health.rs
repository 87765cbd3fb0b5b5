use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::types::{PathError, ZnodePath};

/// The znode below which it is noted how instances stand of which more is known than that they are registered: a folder for
/// each list, and in it a note for each instance, by its name. A note is written anew when a rule of Dubbo that means its instance
/// comes or goes. The tree alone writes there.
pub const HEALTH: &str = "/roost/health";

/// What would end an element of a path, or be taken for an escape.
const IN_NAME: AsciiSet = CONTROLS.add(b'/').add(b'%');

/// How an instance stands, whatever it says itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Nothing is known against it.
    #[default]
    Healthy,
    /// Its session is silent, and its end is put off.
    Suspect,
    /// The registry's probes of it fail.
    Unhealthy,
}

impl Health {
    /// Returns whether nothing is known against it.
    pub fn is_healthy(&self) -> bool {
        *self == Health::Healthy
    }

    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            Health::Healthy => "healthy",
            Health::Suspect => "suspect",
            Health::Unhealthy => "unhealthy",
        }
    }
}

/// What is noted of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The zxid of its registration: one that comes later at the same path is not meant.
    pub czxid: u64,
    /// Whether the registry's probes of it fail.
    #[serde(default)]
    pub unhealthy: bool,
    /// Whether its session is silent, and its end is put off.
    #[serde(default)]
    pub suspect: bool,
}

impl Finding {
    /// Returns how the instance stands: what a probe has found counts for more than silence.
    pub fn health(self) -> Health {
        match self {
            Finding { unhealthy: true, .. } => Health::Unhealthy,
            Finding { suspect: true, .. } => Health::Suspect,
            _ => Health::Healthy,
        }
    }

    /// Reads a note; `None` for what is none.
    pub fn read(data: &[u8]) -> Option<Finding> {
        serde_json::from_slice(data).ok()
    }

    /// Returns the data of its note.
    pub fn to_data(self) -> Vec<u8> {
        serde_json::to_vec(&self).expect("numbers and truth values always encode")
    }
}

/// Returns the znode below which the instances of a list are noted. The error says that its name would be too long.
pub fn health_notes(list: &str) -> Result<ZnodePath, PathError> {
    ZnodePath::parse(&format!("{HEALTH}/{}", utf8_percent_encode(list, &IN_NAME)))
}

/// Returns the znode that notes an instance; the error says that its path would be too long. The root is none.
pub fn health_note(instance: &ZnodePath) -> Result<ZnodePath, PathError> {
    health_notes(instance.parent_str().unwrap_or_default())?.child(instance.name())
}

/// Returns whether a path is below [`HEALTH`].
pub fn is_health_note(path: &str) -> bool {
    path.strip_prefix(HEALTH).is_some_and(|rest| rest.starts_with('/'))
}

/// Returns the instance of which the znode at a path is the note, or the list whose notes lie below it; `None` for any other path.
pub fn noted_at(path: &str) -> Option<ZnodePath> {
    let rest = path.strip_prefix(HEALTH)?.strip_prefix('/')?;
    let (list, name) = rest.split_once('/').map_or((rest, None), |(list, name)| (list, Some(name)));
    let list = ZnodePath::parse(&percent_decode_str(list).decode_utf8().ok()?).ok()?;
    name.map_or_else(|| Some(list.clone()), |name| list.child(name).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_lies_with_those_of_its_list_and_says_of_whom_it_speaks() {
        for (instance, note) in [
            ("/services/web/providers/a", "/roost/health/%2Fservices%2Fweb%2Fproviders/a"),
            (
                "/dubbo/org%2FX/providers/d%3A",
                "/roost/health/%2Fdubbo%2Forg%252FX%2Fproviders/d%3A",
            ),
            ("/10.0.0.1:80", "/roost/health/%2F/10.0.0.1:80"),
        ] {
            let instance = ZnodePath::parse(instance).unwrap();
            assert_eq!(health_note(&instance).unwrap().as_str(), note);
            assert_eq!(noted_at(note), Some(instance));
            assert!(is_health_note(note));
        }
        assert_eq!(noted_at("/roost/health/%2Fa").unwrap().as_str(), "/a");
        for other in [HEALTH, "/roost/health/a", "/roost/healthx/%2Fa/b", "/a/b", "/"] {
            assert_eq!(noted_at(other), None, "{other}");
        }
        assert!(!is_health_note(HEALTH) && !is_health_note("/roost/healthx/a"));
        assert!(
            health_note(&ZnodePath::parse(&format!("/{}", "x".repeat(4_090))).unwrap()).is_err()
        );
    }

    #[test]
    fn what_a_probe_has_found_counts_for_more_than_silence() {
        let of = |unhealthy, suspect| Finding { czxid: 7, unhealthy, suspect };
        for (finding, expected) in [
            (of(false, false), Health::Healthy),
            (of(false, true), Health::Suspect),
            (of(true, false), Health::Unhealthy),
            (of(true, true), Health::Unhealthy),
        ] {
            assert_eq!(finding.health(), expected);
            assert_eq!(Finding::read(&finding.to_data()), Some(finding));
        }
        assert_eq!(Finding::read(br#"{"czxid":7}"#), Some(of(false, false)));
        assert!(Finding::read(b"{}").is_none() && Finding::read(b"7").is_none());
    }
}
