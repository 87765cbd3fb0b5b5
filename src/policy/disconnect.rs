use super::{Fields, Wrong};
use crate::limits::{GRACE_MS_MAX, GRACE_MS_MIN};

/// What it means that a client ends its connection without closing its session. The pattern is that of the ephemeral znodes
/// which the session owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// How long the session lives on unless it is heard of again, ms.
    pub grace_ms: u32,
}

impl Disconnect {
    pub(super) fn parse(fields: &mut Fields) -> Result<Disconnect, Wrong> {
        let range = u64::from(GRACE_MS_MIN)..=u64::from(GRACE_MS_MAX);
        match fields.whole("grace_ms", range)? {
            Some(grace_ms) => Ok(Disconnect { grace_ms: grace_ms as u32 }),
            None => Err(Wrong::new("grace_ms", "it is missing".to_owned())),
        }
    }
}
