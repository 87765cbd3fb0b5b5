use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::types::ZnodePath;

/// One element of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// This name.
    Name(Arc<str>),
    /// Any one name.
    One,
}

/// A pattern of paths: `*` stands for any one element, `**` at the end for any rest, which may be empty. So
/// `/services/*/providers/**` is `/services/web/providers` and all that is below it, and `/**` is everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: Arc<str>,
    /// The elements before the first wildcard, as a path.
    prefix: Arc<str>,
    parts: Vec<Part>,
    has_rest: bool,
}

impl Pattern {
    /// Reads a pattern. The error is a sentence for a person.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        // What holds for the characters and the length of a path holds here too.
        ZnodePath::parse(text).map_err(|why| why.reason)?;
        let mut elements: Vec<&str> =
            text[1..].split('/').filter(|part| !part.is_empty()).collect();
        let has_rest = elements.pop_if(|last| *last == "**").is_some();
        let part = |element: &&str| match *element {
            "*" => Ok(Part::One),
            "**" => Err("** stands for any rest, and so only at the end".to_owned()),
            name if name.contains('*') => {
                Err(format!("{name:?} mixes * with a name: it stands for a whole element"))
            }
            name => Ok(Part::Name(Arc::from(name))),
        };
        let parts = elements.iter().map(part).collect::<Result<Vec<Part>, String>>()?;
        let literal = elements.iter().take_while(|element| **element != "*");
        let prefix: String = literal.flat_map(|name| ["/", name]).collect();
        let prefix = if prefix.is_empty() { "/" } else { &prefix };
        Ok(Pattern { text: Arc::from(text), prefix: Arc::from(prefix), parts, has_rest })
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the path before the first wildcard: what matches is there or below.
    pub fn prefix(&self) -> &Arc<str> {
        &self.prefix
    }

    /// Returns its elements but for `**`.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Returns whether any rest may follow its elements.
    pub(super) fn has_rest(&self) -> bool {
        self.has_rest
    }

    /// Returns whether a path is one of those that it stands for. Cost: O(length).
    pub fn matches(&self, path: &str) -> bool {
        let mut elements = path.split('/').filter(|element| !element.is_empty());
        for part in &self.parts {
            match (part, elements.next()) {
                (Part::Name(name), Some(element)) if **name == *element => {}
                (Part::One, Some(_)) => {}
                _ => return false,
            }
        }
        self.has_rest || elements.next().is_none()
    }

    /// Returns how closely it names its paths: of two that match the same path, the greater is the more special.
    pub fn specificity(&self) -> (usize, usize, bool) {
        let names = self.parts.iter().filter(|part| matches!(part, Part::Name(_))).count();
        (names, self.parts.len(), !self.has_rest)
    }
}

/// Returns the paths at or below which everything is that one of these patterns matches; none of them is below another.
pub fn tops<'a>(patterns: impl Iterator<Item = &'a Pattern>) -> Vec<&'a str> {
    let prefixes: BTreeSet<&str> = patterns.map(|pattern| &**pattern.prefix()).collect();
    let is_within = |path: &str| {
        let mut above = path.match_indices('/').map(|(at, _)| &path[..at.max(1)]);
        above.any(|above| above != path && prefixes.contains(above))
    };
    prefixes.iter().copied().filter(|path| !is_within(path)).collect()
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, tops};

    #[test]
    fn tops_hold_all_that_patterns_match_and_no_two_hold_the_same() {
        let of = |texts: &[&str]| {
            let patterns: Vec<Pattern> =
                texts.iter().map(|text| Pattern::parse(text).unwrap()).collect();
            tops(patterns.iter()).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(of(&["/a/**", "/a/x", "/a/*", "/a-b", "/c/*/d"]), ["/a", "/a-b", "/c"]);
        assert_eq!(of(&["/a/b/c", "/a", "/ab"]), ["/a", "/ab"]);
        assert_eq!(of(&["/a", "/**"]), ["/"]);
        assert!(of(&[]).is_empty());
    }

    #[test]
    fn a_star_is_one_element_and_two_are_any_rest() {
        for (pattern, path, expected) in [
            ("/services/*/providers/**", "/services/web/providers", true),
            ("/services/*/providers/**", "/services/web/providers/a", true),
            ("/services/*/providers/**", "/services/web/providers/a/b", true),
            ("/services/*/providers/**", "/services/web/consumers/a", false),
            ("/services/*/providers/**", "/services/web", false),
            ("/services/*", "/services/web", true),
            ("/services/*", "/services", false),
            ("/services/*", "/services/web/a", false),
            ("/dubbo/**", "/dubbo", true),
            ("/dubbo/**", "/dubbox", false),
            ("/**", "/", true),
            ("/**", "/a/b", true),
            ("/", "/", true),
            ("/", "/a", false),
            ("/a", "/a", true),
        ] {
            assert_eq!(
                Pattern::parse(pattern).unwrap().matches(path),
                expected,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in ["", "a", "/a/", "//", "/**/a", "/a*", "/a/b**", "/../a", "/a\0"] {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_prefix_ends_before_the_first_wildcard() {
        for (pattern, prefix) in [
            ("/services/*/providers", "/services"),
            ("/a/b/**", "/a/b"),
            ("/**", "/"),
            ("/a", "/a"),
        ] {
            assert_eq!(&**Pattern::parse(pattern).unwrap().prefix(), prefix, "{pattern}");
        }
    }

    #[test]
    fn more_names_and_then_more_elements_are_more_special() {
        let of = |text| Pattern::parse(text).unwrap().specificity();
        assert!(of("/services/web/providers") > of("/services/*/providers"));
        assert!(of("/services/*/providers") > of("/services/*/providers/**"));
        assert!(of("/services/*/providers") > of("/services/*") && of("/services/*") > of("/**"));
    }
}
