use std::fmt;

use crate::types::{PathError, ZnodePath};

/// A pattern of paths: `*` stands for one element, `**` at the end for any rest, none included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Checks a text, which must be a path and may have `**` only as its last element.
    pub fn parse(text: &str) -> Result<Pattern, PathError> {
        ZnodePath::parse(text)?;
        if text.strip_suffix("/**").unwrap_or(text).split('/').any(|element| element == "**") {
            let reason = format!("in the pattern {text:?} `**` is not the last element");
            return Err(PathError { reason });
        }
        Ok(Pattern(text.to_owned()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether a path is of this pattern. Cost: O(length).
    pub fn matches(&self, path: &str) -> bool {
        let mut elements = path.split('/').filter(|element| !element.is_empty());
        for wanted in self.0.split('/').filter(|element| !element.is_empty()) {
            match (wanted, elements.next()) {
                ("**", _) => return true,
                (_, None) => return false,
                ("*", Some(_)) => {}
                (wanted, Some(element)) if wanted == element => {}
                (_, Some(_)) => return false,
            }
        }
        elements.next().is_none()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn one_star_is_one_element_and_two_are_any_rest() {
        for (pattern, path, expected) in [
            ("/**", "/", true),
            ("/**", "/a/b", true),
            ("/a/**", "/a", true),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/ab", false),
            ("/a/*/c", "/a/b/c", true),
            ("/a/*/c", "/a/b/c/d", false),
            ("/a/*/c", "/a/c", false),
            ("/a", "/a/b", false),
            ("/", "/", true),
            ("/", "/a", false),
        ] {
            assert_eq!(
                Pattern::parse(pattern).unwrap().matches(path),
                expected,
                "{pattern} {path}"
            );
        }
        for bad in ["", "a", "/a/", "/**/a", "/a/**/**", "/a//b"] {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
    }
}
