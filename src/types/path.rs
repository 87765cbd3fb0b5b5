use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::PATH_BYTES_MAX;

/// The absolute path of a znode, checked once when made and trusted from then on: it starts with `/`, has no empty,
/// `.` or `..` element, does not end in `/` (except the root itself), holds no character that ZooKeeper refuses, and is
/// at most [`PATH_BYTES_MAX`] bytes long. A clone is O(1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZnodePath(Arc<str>);

/// Says why a text is not a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathError {
    /// What is wrong and where, as one sentence for a person.
    pub reason: String,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for PathError {}

impl ZnodePath {
    /// Returns `/`.
    pub fn root() -> ZnodePath {
        ZnodePath(Arc::from("/"))
    }

    /// Checks a text and returns it as a path. Cost: O(length). Source: ZooKeeper `PathUtils.validatePath`.
    pub fn parse(text: &str) -> Result<ZnodePath, PathError> {
        check(text)?;
        Ok(ZnodePath(Arc::from(text)))
    }

    /// Checks the path text of a sequential create, whose last element is only a prefix and may be empty, `.` or `..`
    /// since ten digits follow it. Returns the text's parent and that prefix.
    pub fn parse_sequential(text: &str) -> Result<(ZnodePath, String), PathError> {
        check(&format!("{text}0000000000"))?;
        let at = text.rfind('/').unwrap_or(0);
        let parent = if at == 0 { ZnodePath::root() } else { ZnodePath(Arc::from(&text[..at])) };
        Ok((parent, text[at + 1..].to_owned()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns how many hold this text.
    #[cfg(test)]
    pub(crate) fn shares(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// Returns whether this is `/`.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// Returns the last element; empty for the root.
    pub fn name(&self) -> &str {
        &self.0[self.0.rfind('/').map_or(0, |at| at + 1)..]
    }

    /// Returns the text of the parent's path, `None` for the root. Allocates nothing.
    pub fn parent_str(&self) -> Option<&str> {
        if self.is_root() {
            return None;
        }
        let at = self.0.rfind('/').unwrap_or(0);
        Some(if at == 0 { "/" } else { &self.0[..at] })
    }

    /// Returns the parent, `None` for the root.
    pub fn parent(&self) -> Option<ZnodePath> {
        self.parent_str().map(|parent| ZnodePath(Arc::from(parent)))
    }

    /// Returns the path of the child with this name.
    pub fn child(&self, name: &str) -> Result<ZnodePath, PathError> {
        if name.contains('/') {
            return Err(PathError { reason: format!("the name {name:?} contains a slash") });
        }
        let base = if self.is_root() { "" } else { self.as_str() };
        ZnodePath::parse(&format!("{base}/{name}"))
    }

    /// Returns whether `other` is this path or lies below it.
    pub fn contains(&self, other: &str) -> bool {
        self.is_root()
            || (other.starts_with(self.as_str())
                && (other.len() == self.0.len() || other.as_bytes()[self.0.len()] == b'/'))
    }

    /// Yields the texts of this path and of all its ancestors, longest first, ending with `/`.
    pub fn self_and_ancestors(&self) -> impl Iterator<Item = &str> {
        let mut next = Some(self.as_str());
        std::iter::from_fn(move || {
            let current = next?;
            next = match current.rfind('/') {
                _ if current.len() == 1 => None,
                Some(0) | None => Some("/"),
                Some(at) => Some(&current[..at]),
            };
            Some(current)
        })
    }
}

fn check(text: &str) -> Result<(), PathError> {
    let refuse = |reason: String| Err(PathError { reason });
    if text.len() > PATH_BYTES_MAX {
        return refuse(format!(
            "the path is {} bytes long, the limit is {PATH_BYTES_MAX}",
            text.len()
        ));
    }
    let Some(rest) = text.strip_prefix('/') else {
        return refuse(format!("the path {text:?} does not start with a slash"));
    };
    if rest.is_empty() {
        return Ok(());
    }
    for element in rest.split('/') {
        if element.is_empty() {
            return refuse(format!("the path {text:?} has an empty element"));
        }
        if element == "." || element == ".." {
            return refuse(format!("the path {text:?} has the relative element {element:?}"));
        }
    }
    // Java sees a character beyond U+FFFF as two from U+D800 to U+DFFF, so its clients can neither make nor read it.
    let refused =
        |c: &char| matches!(u32::from(*c), 0..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..);
    match text.char_indices().find(|(_, c)| refused(c)) {
        Some((at, c)) => {
            refuse(format!("the path has the character U+{:04X} at byte {at}", u32::from(c)))
        }
        None => Ok(()),
    }
}

impl Borrow<str> for ZnodePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ZnodePath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ZnodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ZnodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl Serialize for ZnodePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ZnodePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ZnodePath, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        ZnodePath::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::ZnodePath;

    #[test]
    fn accepts_and_refuses_what_zookeeper_does() {
        for good in ["/", "/a", "/a/b", "/a.b/..c", "/é\u{a0}"] {
            assert!(ZnodePath::parse(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "a",
            "//",
            "/a/",
            "/a//b",
            "/.",
            "/a/..",
            "/a\0",
            "/a\u{1f}",
            "/a\u{85}",
            "/\u{e000}",
            "/\u{fff0}",
            "/\u{1f600}",
        ] {
            assert!(ZnodePath::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_sequential_prefix_may_be_empty_or_dots() {
        for (text, parent, prefix) in
            [("/t/", "/t", ""), ("/x/..", "/x", ".."), ("/job-", "/", "job-"), ("/", "/", "")]
        {
            let (got_parent, got_prefix) = ZnodePath::parse_sequential(text).unwrap();
            assert_eq!((got_parent.as_str(), got_prefix.as_str()), (parent, prefix));
        }
        assert!(ZnodePath::parse_sequential("/a//").is_err());
        assert!(ZnodePath::parse_sequential("a").is_err());
    }

    #[test]
    fn ancestors_run_from_the_path_to_the_root() {
        let path = ZnodePath::parse("/a/b/c").unwrap();
        assert_eq!(path.self_and_ancestors().collect::<Vec<_>>(), ["/a/b/c", "/a/b", "/a", "/"]);
        assert_eq!(ZnodePath::root().self_and_ancestors().collect::<Vec<_>>(), ["/"]);
        assert!(path.parent().unwrap().contains("/a/b/c") && !path.contains("/a/b/cc"));
    }
}
