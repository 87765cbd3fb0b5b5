//! The command language of ZooKeeper's `zkCli.sh`, as values: what the interactive shell and the golden
//! scripts speak.
//!
//! ```text
//! create [-s] [-e] [-c] [-t ttl_ms] path [data] [acl]     get [-s] path
//! set [-s] [-v version] path [data]                       ls [-s] [-R] path
//! delete [-v version] path                                stat path
//! deleteall path                                          getAcl [-s] path
//! setAcl [-s] [-v aversion] path acl                      check [-v version] path
//! multi command ; command ; ...                           session open [timeout_ms]
//!                                                         session close [0xid]
//! ```
//!
//! The last four are ours. Words are split at blanks; quotes, single or double, keep blanks, `;` and empty
//! words, and a backslash keeps the character after it (`\n` and `\t` excepted, and `\x` takes two hex
//! digits as a byte). A version of -1 means any. An access control list is `scheme:id:perms` with perms out
//! of `cdrwa`, several joined by commas.
//!
//! Departures from `zkCli.sh`: watches (`-w`) are not commands, data without a word is null, and a wrong
//! flag is an error instead of being taken for a path.

use crate::types::{Acl, AclId, CreateMode, Data, Op, Perms, SessionId, ZnodePath};

/// The timeout of `session open` without one, ms.
const TIMEOUT_MS_DEFAULT: u32 = 10_000;

/// One line of the language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `create`, `set`, `delete`, `setAcl`, `check`, or a `multi` of them.
    Change {
        /// What to do.
        op: Op,
        /// Whether to show the stat after it.
        stat: bool,
    },
    /// `deleteall`: a znode and all below it, deepest first.
    DeleteAll {
        /// Which.
        path: ZnodePath,
    },
    /// `get`: the data.
    Get {
        /// Of which znode.
        path: ZnodePath,
        /// Whether to show the stat too.
        stat: bool,
    },
    /// `ls`: the children.
    Ls {
        /// Of which znode.
        path: ZnodePath,
        /// Whether to show the stat too.
        stat: bool,
        /// Whether to list all that is below instead.
        recursive: bool,
    },
    /// `stat`.
    Stat {
        /// Of which znode.
        path: ZnodePath,
    },
    /// `getAcl`: the access control list.
    GetAcl {
        /// Of which znode.
        path: ZnodePath,
        /// Whether to show the stat too.
        stat: bool,
    },
    /// `session open`.
    OpenSession {
        /// The wished timeout.
        timeout_ms: u32,
    },
    /// `session close`.
    CloseSession {
        /// Which; `None` for the one in use.
        session: Option<SessionId>,
    },
}

/// Parses one line. Errors: a sentence for the person who typed it.
pub fn parse(line: &str) -> Result<Command, String> {
    parse_words(&split(line)?)
}

/// Parses an access control list, `scheme:id:perms` joined by commas. The id may contain colons.
pub fn parse_acl(text: &str) -> Result<Vec<Acl>, String> {
    text.split(',').map(parse_rule).collect()
}

/// Returns the text form of an access control list, which [`parse_acl`] reads. Empty is `world:anyone:cdrwa`.
pub fn format_acl(rules: &[Acl]) -> String {
    if rules.is_empty() {
        return "world:anyone:cdrwa".to_owned();
    }
    let rules: Vec<String> = rules
        .iter()
        .map(|rule| {
            let letters = PERMS.iter().filter(|(_, perm)| rule.perms.allows(*perm));
            let letters: String = letters.map(|(letter, _)| *letter).collect();
            format!("{}:{}:{letters}", rule.id.scheme, rule.id.id)
        })
        .collect();
    rules.join(",")
}

const PERMS: [(char, Perms); 5] = [
    ('c', Perms::CREATE),
    ('d', Perms::DELETE),
    ('r', Perms::READ),
    ('w', Perms::WRITE),
    ('a', Perms::ADMIN),
];

fn parse_rule(text: &str) -> Result<Acl, String> {
    let wrong = || format!("{text:?} is not a rule of the form scheme:id:perms");
    let (scheme, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (id, letters) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let mut perms = Perms(0);
    for letter in letters.chars() {
        let found = PERMS.iter().find(|(known, _)| *known == letter);
        let (_, perm) =
            found.ok_or_else(|| format!("{letter:?} is not a permission: they are cdrwa"))?;
        perms.0 |= perm.0;
    }
    Ok(Acl { perms, id: AclId { scheme: scheme.to_owned(), id: id.to_owned() } })
}

/// A word of a line. Quoted ones are never flags or separators.
struct Word {
    bytes: Vec<u8>,
    quoted: bool,
}

impl Word {
    fn is(&self, text: &str) -> bool {
        !self.quoted && self.bytes == text.as_bytes()
    }

    fn text(&self) -> Result<&str, String> {
        std::str::from_utf8(&self.bytes).map_err(|_| {
            format!(
                "{:?} is not UTF-8, which only data may lack",
                String::from_utf8_lossy(&self.bytes)
            )
        })
    }
}

fn split(line: &str) -> Result<Vec<Word>, String> {
    let mut words: Vec<Word> = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert(Word { bytes: Vec::new(), quoted: false });
        match c {
            '\\' => word.bytes.extend(unescape(&mut chars)?.as_slice()),
            '"' | '\'' if quote.is_none() => {
                quote = Some(c);
                word.quoted = true;
            }
            _ if quote == Some(c) => quote = None,
            _ => word.bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    if let Some(quote) = quote {
        return Err(format!("a {quote} is not closed"));
    }
    words.extend(word);
    Ok(words)
}

/// Reads what follows a backslash.
fn unescape(chars: &mut std::str::Chars<'_>) -> Result<Vec<u8>, String> {
    match chars.next().ok_or("the line ends in a backslash")? {
        'n' => Ok(vec![b'\n']),
        't' => Ok(vec![b'\t']),
        'x' => {
            let digits: String = chars.take(2).collect();
            let byte = u8::from_str_radix(&digits, 16);
            byte.map(|byte| vec![byte])
                .map_err(|_| format!("{digits:?} after \\x is not two hex digits"))
        }
        c => Ok(c.to_string().into_bytes()),
    }
}

/// The words after a command's name, its flags taken out as they are asked for.
struct Args<'a> {
    name: &'a str,
    flags: Vec<&'a str>,
    /// Flags that take a value, with it.
    valued: Vec<(&'a str, &'a str)>,
    words: std::slice::Iter<'a, Word>,
}

impl<'a> Args<'a> {
    /// Flags come before other words. `valued` lists those that take a value; any other that is not in
    /// `flags` is an error.
    fn new(
        name: &'a str,
        words: &'a [Word],
        flags: &str,
        valued: &str,
    ) -> Result<Args<'a>, String> {
        let mut args = Args { name, flags: Vec::new(), valued: Vec::new(), words: words.iter() };
        while let Some(word) = args.words.as_slice().first() {
            if word.quoted || word.bytes.first() != Some(&b'-') {
                break;
            }
            args.words.next();
            let flag = word.text()?;
            let letter = flag.strip_prefix('-').filter(|letter| letter.chars().count() == 1);
            match letter {
                Some(letter) if flags.contains(letter) => args.flags.push(letter),
                Some(letter) if valued.contains(letter) => {
                    let value =
                        args.words.next().ok_or_else(|| format!("{name}: {flag} needs a value"))?;
                    args.valued.push((letter, value.text()?));
                }
                _ => return Err(format!("{name} knows no {flag}")),
            }
        }
        Ok(args)
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    fn number<T: std::str::FromStr>(&self, flag: &str) -> Result<Option<T>, String> {
        let Some((_, value)) = self.valued.iter().find(|(letter, _)| *letter == flag) else {
            return Ok(None);
        };
        let wrong = |_| format!("{}: {value:?} after -{flag} is not a number in range", self.name);
        value.parse().map(Some).map_err(wrong)
    }

    /// Returns the version after `-v`; -1 means any.
    fn version(&self) -> Result<Option<i32>, String> {
        Ok(self.number("v")?.filter(|version| *version != -1))
    }

    fn need(&mut self, what: &str) -> Result<&'a str, String> {
        self.words.next().ok_or_else(|| format!("{} needs a {what}", self.name))?.text()
    }

    fn path(&mut self) -> Result<ZnodePath, String> {
        ZnodePath::parse(self.need("path")?).map_err(|err| err.reason)
    }

    fn data(&mut self) -> Option<Data> {
        self.words.next().map(|word| Data::new(&word.bytes))
    }

    fn end(mut self) -> Result<(), String> {
        match self.words.next() {
            None => Ok(()),
            Some(word) => Err(format!(
                "{}: {:?} is too much",
                self.name,
                String::from_utf8_lossy(&word.bytes)
            )),
        }
    }
}

fn parse_words(words: &[Word]) -> Result<Command, String> {
    let (name, rest) = words.split_first().ok_or("there is no command")?;
    let name = name.text()?;
    match name {
        "create" => parse_create(rest),
        "multi" => parse_multi(rest),
        "session" => parse_session(rest),
        "set" | "setAcl" | "delete" | "check" => parse_change(name, rest),
        "deleteall" | "get" | "ls" | "stat" | "getAcl" => parse_read(name, rest),
        _ => Err(format!("there is no command {name:?}")),
    }
}

fn parse_create(words: &[Word]) -> Result<Command, String> {
    let mut args = Args::new("create", words, "sec", "t")?;
    let mode = match (args.has("s"), args.has("e"), args.has("c"), args.number("t")?) {
        (false, false, false, None) => CreateMode::Persistent,
        (true, false, false, None) => CreateMode::PersistentSequential,
        (false, true, false, None) => CreateMode::Ephemeral,
        (true, true, false, None) => CreateMode::EphemeralSequential,
        (false, false, true, None) => CreateMode::Container,
        (false, false, false, Some(ttl_ms)) => CreateMode::Ttl(ttl_ms),
        (true, false, false, Some(ttl_ms)) => CreateMode::TtlSequential(ttl_ms),
        _ => return Err("create: -c goes with no other flag, and -t only with -s".to_owned()),
    };
    let (parent, name) = if mode.is_sequential() {
        ZnodePath::parse_sequential(args.need("path")?).map_err(|err| err.reason)?
    } else {
        let path = args.path()?;
        (path.parent().unwrap_or(ZnodePath::root()), path.name().to_owned())
    };
    let data = args.data();
    let acl =
        args.words.next().map(|word| parse_acl(word.text()?)).transpose()?.unwrap_or_default();
    args.end()?;
    Ok(Command::Change { op: Op::Create { parent, name, data, acl, mode }, stat: false })
}

fn parse_change(name: &str, words: &[Word]) -> Result<Command, String> {
    let flags = if name.starts_with("set") { "s" } else { "" };
    let mut args = Args::new(name, words, flags, "v")?;
    let (stat, version, path) = (args.has("s"), args.version()?, args.path()?);
    let op = match name {
        "set" => Op::SetData { path, data: args.data(), version },
        "setAcl" => Op::SetAcl { path, acl: parse_acl(args.need("list")?)?, aversion: version },
        "delete" => Op::Delete { path, version },
        _ => Op::Check { path, version },
    };
    args.end()?;
    Ok(Command::Change { op, stat })
}

fn parse_read(name: &str, words: &[Word]) -> Result<Command, String> {
    let flags = match name {
        "ls" => "sR",
        "get" | "getAcl" => "s",
        _ => "",
    };
    let mut args = Args::new(name, words, flags, "")?;
    let (stat, recursive, path) = (args.has("s"), args.has("R"), args.path()?);
    args.end()?;
    Ok(match name {
        "deleteall" => Command::DeleteAll { path },
        "get" => Command::Get { path, stat },
        "ls" => Command::Ls { path, stat, recursive },
        "stat" => Command::Stat { path },
        _ => Command::GetAcl { path, stat },
    })
}

fn parse_multi(words: &[Word]) -> Result<Command, String> {
    let mut ops = Vec::new();
    for part in words.split(|word| word.is(";")).filter(|part| !part.is_empty()) {
        match parse_words(part)? {
            Command::Change { op: Op::Multi(_), .. } => {
                return Err("multi: a multi inside a multi is not possible".to_owned());
            }
            Command::Change { op, .. } => ops.push(op),
            _ => {
                return Err("multi: only create, set, delete, setAcl and check can be part of it"
                    .to_owned());
            }
        }
    }
    Ok(Command::Change { op: Op::Multi(ops), stat: false })
}

fn parse_session(words: &[Word]) -> Result<Command, String> {
    let mut args = Args::new("session", words, "", "")?;
    let verb = args.need("verb: open or close")?;
    let value = args.words.next().map(Word::text).transpose()?;
    args.end()?;
    match verb {
        "open" => {
            let timeout_ms = value.map_or(Ok(TIMEOUT_MS_DEFAULT), str::parse);
            let timeout_ms =
                timeout_ms.map_err(|_| "session open: the timeout is not a number of ms")?;
            Ok(Command::OpenSession { timeout_ms })
        }
        "close" => Ok(Command::CloseSession { session: value.map(str::parse).transpose()? }),
        _ => Err(format!("session: {verb:?} is neither open nor close")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Command, format_acl, parse, parse_acl};
    use crate::types::{CreateMode, Data, Op, Perms};

    fn op(line: &str) -> Op {
        match parse(line) {
            Ok(Command::Change { op, .. }) => op,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn create_takes_flags_data_and_acl_as_zkcli_does() {
        let Op::Create { parent, name, data, acl, mode } =
            op("create -s -e /a/b- 'x y' ip:::1:cr,auth::cdrwa")
        else {
            panic!("not a create")
        };
        assert_eq!((parent.as_str(), name.as_str()), ("/a", "b-"));
        assert_eq!((data, mode), (Some(Data::new(b"x y")), CreateMode::EphemeralSequential));
        assert_eq!((acl[0].id.id.as_str(), acl[0].perms), ("::1", Perms(5)));
        assert_eq!((acl[1].id.scheme.as_str(), acl[1].perms), ("auth", Perms::ALL));
        assert!(matches!(
            op("create -t 5 /a"),
            Op::Create { mode: CreateMode::Ttl(5), data: None, .. }
        ));
    }

    #[test]
    fn quotes_and_backslashes_keep_every_byte() {
        let data = |line| match op(line) {
            Op::SetData { data, .. } => data.map(|data| data.to_vec()),
            other => panic!("{other:?}"),
        };
        assert_eq!(data("set /a"), None);
        assert_eq!(data("set /a ''"), Some(vec![]));
        assert_eq!(
            data(r#"set /a "it's \" ; \\ \x00\xff\n""#),
            Some(b"it's \" ; \\ \x00\xff\n".to_vec())
        );
        assert_eq!(data("set /a '-v'"), Some(b"-v".to_vec()));
        assert_eq!(data("set -v -1 /a -v"), Some(b"-v".to_vec()));
    }

    #[test]
    fn a_multi_is_split_at_bare_semicolons() {
        let Op::Multi(ops) = op("multi create /a ';' ; check -v 3 /a ;") else {
            panic!("not a multi")
        };
        assert!(matches!(&ops[0], Op::Create { data: Some(data), .. } if data[..] == *b";"));
        assert!(matches!(&ops[1], Op::Check { version: Some(3), .. }));
    }

    #[test]
    fn errors_name_what_is_wrong() {
        for (line, reason) in [
            ("", "no command"),
            ("creat /a", "\"creat\""),
            ("create", "needs a path"),
            ("create -x /a", "knows no -x"),
            ("create -c -e /a", "-c goes with no other"),
            ("create -t x /a", "-t is not a number"),
            ("create a", "slash"),
            ("create /a b world:anyone", "scheme:id:perms"),
            ("create /a b world:anyone:x", "'x' is not a permission"),
            ("create /a b world:anyone:r c", "\"c\" is too much"),
            ("set -v", "-v needs a value"),
            ("delete -s /a", "knows no -s"),
            ("get '/a", "' is not closed"),
            ("get /a\\", "backslash"),
            ("set /a \\xzz", "hex"),
            ("get \\xff", "UTF-8"),
            ("multi ls /", "only create"),
            ("multi multi", "inside"),
            ("session", "needs a verb"),
            ("session close 7", "session id"),
            ("session open x", "timeout"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(reason), "{line:?} gave {error:?}");
        }
    }

    #[test]
    fn an_acl_survives_its_text_form() {
        for text in ["world:anyone:cdrwa", "digest:u:h=:dr,ip:10.0.0.0/8:", "x509:CN=a:a"] {
            assert_eq!(format_acl(&parse_acl(text).unwrap()), text);
        }
        assert_eq!(format_acl(&[]), "world:anyone:cdrwa");
    }
}
