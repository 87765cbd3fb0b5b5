//! Four-letter words: questions of operators in plain text, on the port of the clients.

use super::Door;
use super::{measures, report};

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    /// How the node is configured.
    Conf,
    /// Every connection.
    Cons,
    /// Starts the counters of the connections over.
    Crst,
    /// How much disk the node uses.
    Dirs,
    /// Sessions and their ephemerals.
    Dump,
    /// Where the node runs.
    Envi,
    /// The state's digest, to be compared with other nodes' at the same zxid.
    Hash,
    /// Whether it writes.
    Isro,
    /// All measures.
    Mntr,
    /// Whether it is there.
    Ruok,
    /// Starts the counters of the door over.
    Srst,
    /// How the node is.
    Srvr,
    /// As `Srvr`, with the connections.
    Stat,
    /// Who watches what, by session.
    Wchc,
    /// Who watches what, by path.
    Wchp,
    /// How many watches there are.
    Wchs,
}

const WORDS: [(&str, Word); 16] = [
    ("conf", Word::Conf),
    ("cons", Word::Cons),
    ("crst", Word::Crst),
    ("dirs", Word::Dirs),
    ("dump", Word::Dump),
    ("envi", Word::Envi),
    ("hash", Word::Hash),
    ("isro", Word::Isro),
    ("mntr", Word::Mntr),
    ("ruok", Word::Ruok),
    ("srst", Word::Srst),
    ("srvr", Word::Srvr),
    ("stat", Word::Stat),
    ("wchc", Word::Wchc),
    ("wchp", Word::Wchp),
    ("wchs", Word::Wchs),
];

/// The words that are answered unless configured: those that cost little and name no client's data.
pub const WORDS_DEFAULT: [&str; 8] =
    ["conf", "envi", "isro", "mntr", "ruok", "srvr", "stat", "wchs"];

impl Word {
    /// Returns the word that these bytes are.
    pub(super) fn parse(bytes: &[u8]) -> Option<Word> {
        let mut words = WORDS.iter().filter(|(text, _)| text.as_bytes() == bytes);
        words.next().map(|(_, word)| *word)
    }

    fn text(self) -> &'static str {
        let mut words = WORDS.iter().filter(|(_, word)| *word == self);
        words.next().map_or("", |(text, _)| text)
    }
}

/// Returns the words of a configured list; `*` stands for all. The error names what is none.
pub fn parse_words(list: &[String]) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    for text in list {
        match Word::parse(text.as_bytes()) {
            Some(word) => words.push(word),
            None if text == "*" => words.extend(WORDS.map(|(_, word)| word)),
            None => return Err(format!("{text:?} is no four-letter word that roost answers")),
        }
    }
    Ok(words)
}

/// Returns the answer to a word.
pub(super) fn answer(door: &Door, word: Word) -> String {
    if !door.options().words.contains(&word) {
        return format!("{} is not executed because it is not in the whitelist.\n", word.text());
    }
    // That it remembers a leader is not enough: one that it does not hear any more may lead nobody.
    let is_serving = door.node().readiness().is_ok();
    match word {
        Word::Ruok => "imok".to_owned(),
        Word::Isro if is_serving => "rw".to_owned(),
        Word::Isro => "null".to_owned(),
        Word::Conf => report::conf(door),
        Word::Envi => report::envi(),
        Word::Crst => {
            door.meters().reset_connections();
            "Connection stats reset.\n".to_owned()
        }
        Word::Srst => {
            door.meters().reset();
            "Server stats reset.\n".to_owned()
        }
        _ if !is_serving => {
            "This ZooKeeper instance is not currently serving requests\n".to_owned()
        }
        Word::Srvr => report::srvr(door),
        Word::Stat => report::stat(door),
        Word::Mntr => measures::mntr(door),
        Word::Cons => report::cons(door),
        Word::Dirs => report::dirs(door),
        Word::Dump => report::dump(door),
        Word::Hash => report::hash(door),
        Word::Wchs => report::wchs(door),
        Word::Wchc => report::wchc(door),
        Word::Wchp => report::wchp(door),
    }
}

#[cfg(test)]
mod tests {
    use super::{Word, parse_words};

    #[test]
    fn a_list_names_words_or_all_of_them() {
        let words = |list: &[&str]| {
            parse_words(&list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(words(&["ruok", "mntr"]), Ok(vec![Word::Ruok, Word::Mntr]));
        assert_eq!(words(&["*"]).unwrap().len(), super::WORDS.len());
        assert!(words(&["ruok", "halt"]).unwrap_err().contains("halt"));
    }

    #[test]
    fn a_word_is_never_the_length_of_a_frame_that_would_be_taken() {
        for (text, _) in super::WORDS {
            let bytes: [u8; 4] = text.as_bytes().try_into().unwrap();
            assert!(u32::from_be_bytes(bytes) as usize > crate::limits::ZK_FRAME_BYTES_MAX);
        }
    }
}
