//! Overrides of Dubbo providers as the znodes by which their consumers are told of them.
//!
//! A consumer takes the rules for one host in the order of their `priority`, and of equal ones in any order. So what overrides say
//! has a greater one than rules have that people write, and of several that say the same of one provider only that one says it
//! which has the last word. A drain comes behind all of them.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::policy::Overrides;
use crate::registry::{Claim, Layouts, RULE_STATUS, addr, is_of_rule};
use crate::types::ZnodePath;

/// As Java's `URLEncoder` has it.
const IN_URL: AsciiSet = NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'*').remove(b'_');
/// Of what overrides say. A rule that says none has 0.
const PRIORITY: u32 = 1_000_000;
/// Of what a drain says.
const PRIORITY_OF_DRAIN: u32 = PRIORITY + 1;

/// A provider as a rule means it: in which list it is told of, and its address, group and version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Meant {
    list: String,
    host: String,
    port: u16,
    group: Option<String>,
    version: Option<String>,
}

impl Meant {
    /// Yields those of a list that say this.
    fn of(list: &str, claimed: &Claim) -> impl Iterator<Item = Meant> {
        let said = |key: &str| claimed.labels.get(key).cloned();
        let (list, group, version) = (list.to_owned(), said("group"), said("version"));
        claimed.addresses.iter().filter_map(move |(host, port)| {
            let (list, group, version) = (list.clone(), group.clone(), version.clone());
            Some(Meant { list, host: host.clone(), port: (*port)?, group, version })
        })
    }
}

/// What one override says of one provider.
struct Word {
    by: String,
    set_at: u64,
    priority: u32,
    /// Parameters of Dubbo's URLs.
    values: BTreeMap<String, String>,
}

/// What overrides say of Dubbo providers.
#[derive(Default)]
pub(super) struct Configurators {
    /// Those with a later word behind.
    said: BTreeMap<Meant, Vec<Word>>,
}

impl Configurators {
    /// Returns whether nothing is said of anybody.
    pub(super) fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    /// Adds what an override, by its name and when it was set, says of the instance at a path, which claims this: nothing of one
    /// that is no Dubbo provider. It has a later word than those that were added before.
    pub(super) fn add(
        &mut self,
        path: &ZnodePath,
        claimed: &Claim,
        overrides: &Overrides,
        by: (&str, u64),
        is_drain: bool,
    ) {
        let Some(list) = list_of(path) else { return };
        for meant in Meant::of(&list, claimed) {
            let words = self.said.entry(meant).or_default();
            if words.iter().any(|word| word.by == by.0) {
                continue;
            }
            let priority = if is_drain { PRIORITY_OF_DRAIN } else { PRIORITY };
            let values = values(overrides);
            words.push(Word { by: by.0.to_owned(), set_at: by.1, priority, values });
        }
    }

    /// Returns which znodes shall exist, by which override, and when that was set.
    pub(super) fn made(&self) -> BTreeMap<ZnodePath, (String, u64)> {
        let mut made = BTreeMap::new();
        for (meant, words) in &self.said {
            for (word, values) in words.iter().zip(last_words(words)) {
                if let Some(path) = path_of(meant, word, &values).filter(|_| !values.is_empty()) {
                    made.insert(path, (word.by.clone(), word.set_at));
                }
            }
        }
        made
    }

    /// Returns whether overrides have something to say of the provider that the configurator at a path means: then it is left
    /// over if it is none of those that shall exist.
    pub(super) fn speak_of(&self, configurator: &ZnodePath) -> bool {
        let list = configurator.parent_str().unwrap_or_default();
        let claimed = Layouts::default().said(configurator.as_str(), None);
        Meant::of(list, &claimed).any(|meant| self.said.contains_key(&meant))
    }
}

/// Returns the list by which consumers of the Dubbo provider at a path are told; `None` for any other instance.
fn list_of(path: &ZnodePath) -> Option<String> {
    let service = path.parent_str()?.strip_suffix("/providers").filter(|it| !it.is_empty())?;
    let is_url = percent_decode_str(path.name()).decode_utf8_lossy().contains("://");
    is_url.then(|| format!("{service}/configurators"))
}

fn values(overrides: &Overrides) -> BTreeMap<String, String> {
    let labels = overrides.labels.iter().filter(|(key, _)| !is_of_rule(key));
    let mut values: BTreeMap<String, String> =
        labels.map(|(key, value)| (key.clone(), value.clone())).collect();
    if let Some(status) = &overrides.status {
        values.insert("disabled".to_owned(), (status == "out_of_service").to_string());
        values.insert(RULE_STATUS.to_owned(), status.clone());
    }
    values.extend(overrides.weight.map(|weight| ("weight".to_owned(), weight.to_string())));
    values
}

/// Returns of each word the values of which none behind it says another. Who is draining has no weight, unless that was given
/// with it or behind it: Dubbo has no other word for it.
fn last_words(words: &[Word]) -> Vec<BTreeMap<String, String>> {
    let by = |key: &str| words.iter().rposition(|word| word.values.contains_key(key));
    let drains =
        |at: &usize| words[*at].values.get(RULE_STATUS).is_some_and(|status| status == "draining");
    let drained_by = by(RULE_STATUS)
        .filter(drains)
        .filter(|at| by("weight").is_none_or(|weighed| weighed < *at));
    let of_word = |(at, word): (usize, &Word)| {
        let is_last = |key: &str| by(key) == Some(at) && (key != "weight" || drained_by.is_none());
        let values = word.values.iter().filter(|(key, _)| is_last(key));
        let mut values: BTreeMap<String, String> =
            values.map(|(key, value)| (key.clone(), value.clone())).collect();
        if drained_by == Some(at) {
            values.insert("weight".to_owned(), "0".to_owned());
        }
        values
    };
    words.iter().enumerate().map(of_word).collect()
}

/// Returns the znode that says this of a provider; `None` if its name would be too long.
fn path_of(meant: &Meant, word: &Word, values: &BTreeMap<String, String>) -> Option<ZnodePath> {
    let mut query =
        format!("category=configurators&dynamic=false&enabled=true&priority={}", word.priority);
    let mut say = |key: &str, value: &str| {
        let (key, value) = (utf8_percent_encode(key, &IN_URL), utf8_percent_encode(value, &IN_URL));
        query.push_str(&format!("&{key}={value}"));
    };
    values.iter().for_each(|(key, value)| say(key, value));
    // A consumer only hears of what has the group and the version that it wants.
    for (key, value) in [("group", &meant.group), ("version", &meant.version)] {
        value.iter().for_each(|value| say(key, value));
    }
    say("roost", &word.by);
    let address = addr(&meant.host, meant.port);
    let interface = meant.list.split('/').nth_back(1)?;
    let service = percent_decode_str(interface).decode_utf8_lossy();
    let url = format!("override://{address}/{service}?{query}");
    let url = utf8_percent_encode(&url, &IN_URL);
    ZnodePath::parse(&format!("{}/{url}", meant.list)).ok()
}
