use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::policy::Pattern;
use crate::types::{PathError, ZnodePath};

/// The znode below which the tombstones are.
pub const TOMBSTONES: &str = "/roost/tombstones";

/// What would end an element of a path, or be taken for an escape.
pub(super) const IN_NAME: AsciiSet = CONTROLS.add(b'/').add(b'%');

/// What may not be created while it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tombstone {
    /// The znode at this path.
    Path(ZnodePath),
    /// Registrations below a pattern that claim an address, or that come from it.
    Address {
        /// In its normal form.
        host: String,
        /// Only this port; then whence they come does not matter.
        port: Option<u16>,
        /// Where.
        scope: Pattern,
    },
}

impl Tombstone {
    /// Returns its znode. The error says that its name would be too long.
    pub fn path(&self) -> Result<ZnodePath, PathError> {
        let path = match self {
            Tombstone::Path(path) => {
                format!("{TOMBSTONES}/path={}", utf8_percent_encode(path.as_str(), &IN_NAME))
            }
            Tombstone::Address { host, port, scope } => {
                let prefix = address_prefix(host, *port);
                format!("{prefix}{}", utf8_percent_encode(scope.as_str(), &IN_NAME))
            }
        };
        ZnodePath::parse(&path)
    }
}

/// Returns what the paths of all tombstones of an address begin with; what follows is the scope.
pub fn address_prefix(host: &str, port: Option<u16>) -> String {
    let host = utf8_percent_encode(host, &IN_NAME);
    match port {
        Some(port) => format!("{TOMBSTONES}/ip={host}:{port}@"),
        None => format!("{TOMBSTONES}/ip={host}@"),
    }
}

/// Returns the scope of a tombstone of an address, given what follows the prefix; `None` for what is none.
pub fn scope_of(rest: &str) -> Option<Pattern> {
    Pattern::parse(&percent_decode_str(rest).decode_utf8().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_tombstone_says_all_that_decides() {
        let of_path = Tombstone::Path(ZnodePath::parse("/dubbo/a/providers/x%3A").unwrap());
        let path = of_path.path().unwrap();
        assert_eq!(path.as_str(), "/roost/tombstones/path=%2Fdubbo%2Fa%2Fproviders%2Fx%253A");
        let scope = Pattern::parse("/dubbo/**").unwrap();
        let of_ip =
            Tombstone::Address { host: "::1".to_owned(), port: Some(80), scope: scope.clone() };
        let path = of_ip.path().unwrap();
        let rest = path.as_str().strip_prefix(&address_prefix("::1", Some(80))).unwrap();
        assert_eq!(scope_of(rest), Some(scope));
        assert_eq!(scope_of("nonsense"), None);
    }
}
