//! The text form: printing and parsing.

use std::fmt::{self, Display};
use std::str::FromStr;

use super::{Family, Fault, Group, Party, Schedule, Step, Who};

/// Says ms as `2s`, `2.5s`.
fn seconds(ms: u64) -> String {
    match ms % 1_000 {
        0 => format!("{}s", ms / 1_000),
        rest => format!("{}.{}s", ms / 1_000, format!("{rest:03}").trim_end_matches('0')),
    }
}

fn words<T: Display>(parts: &[T]) -> String {
    parts.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

impl Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Number(node) => write!(f, "n{node}"),
            Who::Leader => f.write_str("leader"),
            Who::Follower => f.write_str("follower"),
            Who::Last => f.write_str("last"),
        }
    }
}

impl Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Party::Node(who) => who.fmt(f),
            Party::Clients(Who::Number(site)) => write!(f, "c{site}"),
            Party::Clients(role) => write!(f, "c-{role}"),
        }
    }
}

impl Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Group::Of(parties) => f.write_str(&words(parties)),
            Group::Rest => f.write_str("rest"),
        }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Kill(nodes) => write!(f, "kill {}", words(nodes)),
            Fault::KillAll => f.write_str("kill-all"),
            Fault::Wipe(node) => write!(f, "wipe {node}"),
            Fault::Pause(nodes) => write!(f, "pause {}", words(nodes)),
            Fault::Partition(groups) => {
                let groups: Vec<String> = groups.iter().map(Group::to_string).collect();
                write!(f, "partition {}", groups.join(" | "))
            }
            Fault::OneWay { from, to } => write!(f, "one-way {from} -> {to}"),
            Fault::Bridge(node) => write!(f, "bridge {node}"),
            Fault::Ring => f.write_str("ring"),
            Fault::Delay { parties, ms, jitter_ms } => {
                write!(f, "delay {} {ms}ms jitter {jitter_ms}ms", words(parties))
            }
            Fault::Loss { parties, percent } => write!(f, "loss {} {percent}%", words(parties)),
            Fault::Slow { parties, kb_per_second } => {
                write!(f, "slow {} {kb_per_second}kB/s", words(parties))
            }
            Fault::Duplicate { nodes, percent } => {
                write!(f, "duplicate {} {percent}%", words(nodes))
            }
            Fault::Reorder { nodes, percent, ms } => {
                write!(f, "reorder {} {percent}% {ms}ms", words(nodes))
            }
            Fault::Clock { node, ms } => {
                let sign = if *ms < 0 { '-' } else { '+' };
                write!(f, "clock {node} {sign}{}", seconds(ms.unsigned_abs()))
            }
            Fault::Rate { node, percent } => write!(f, "rate {node} {percent}%"),
            Fault::FsyncFail(node) => write!(f, "fsync-fail {node}"),
            Fault::FsyncSlow { node, ms } => write!(f, "fsync-slow {node} {ms}ms"),
            Fault::DiskFull(node) => write!(f, "disk-full {node}"),
            Fault::PowerCut(nodes) => write!(f, "power-cut {}", words(nodes)),
            Fault::PowerCutAll => f.write_str("power-cut-all"),
            Fault::Tear { node, bytes } => write!(f, "tear {node} {bytes}"),
            Fault::Flip { node, bits } => write!(f, "flip {node} {bits}"),
            Fault::Leave(node) => write!(f, "leave {node}"),
            Fault::Transfer(node) => write!(f, "transfer {node}"),
        }
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {} for {} {}", seconds(self.at_ms), seconds(self.for_ms), self.fault)
    }
}

impl Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Schedule { seed, nodes, duration_ms, families, steps } = self;
        write!(f, "schedule seed {seed} nodes {nodes} duration {}", seconds(*duration_ms))?;
        if *families != Family::usual() {
            f.write_str(" from")?;
            families.iter().try_for_each(|family| write!(f, " {family}"))?;
        }
        writeln!(f)?;
        steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

/// Reads `2s`, `2.5s`, `250ms`.
pub(crate) fn parse_ms(word: &str) -> Result<u64, String> {
    let wrong = || format!("{word:?} is not a time: expected 2s, 2.5s or 250ms");
    if let Some(ms) = word.strip_suffix("ms") {
        return ms.parse().map_err(|_| wrong());
    }
    let text = word.strip_suffix('s').ok_or_else(wrong)?;
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    if part.is_empty() || part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let part: u64 = format!("{part:0<3}").parse().map_err(|_| wrong())?;
    whole.checked_mul(1_000).and_then(|ms| ms.checked_add(part)).ok_or_else(wrong)
}

impl FromStr for Who {
    type Err = String;

    fn from_str(word: &str) -> Result<Who, String> {
        match (word, word.strip_prefix('n').map(str::parse)) {
            ("leader", _) => Ok(Who::Leader),
            ("follower", _) => Ok(Who::Follower),
            ("last", _) => Ok(Who::Last),
            (_, Some(Ok(node @ 1..=9))) => Ok(Who::Number(node)),
            _ => Err(format!("{word:?} is no node: expected n1 to n9, leader, follower or last")),
        }
    }
}

impl FromStr for Party {
    type Err = String;

    fn from_str(word: &str) -> Result<Party, String> {
        let Some(rest) = word.strip_prefix('c') else { return word.parse().map(Party::Node) };
        let who = match rest.strip_prefix('-') {
            Some(role) => role.parse(),
            None => format!("n{rest}").parse(),
        };
        who.map(Party::Clients).map_err(|_| {
            format!("{word:?} are no clients: expected c1 to c9, c-leader or c-follower")
        })
    }
}

fn all<T: FromStr<Err = String>>(words: &[&str]) -> Result<Vec<T>, String> {
    match words {
        [] => Err("it names nobody".into()),
        words => words.iter().map(|word| word.parse()).collect(),
    }
}

fn group(words: &[&str]) -> Result<Group, String> {
    match words {
        ["rest"] => Ok(Group::Rest),
        words => all(words).map(Group::Of),
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match &words[..] {
            ["kill", nodes @ ..] => Ok(Fault::Kill(all(nodes)?)),
            ["kill-all"] => Ok(Fault::KillAll),
            ["wipe", node] => Ok(Fault::Wipe(node.parse()?)),
            ["pause", nodes @ ..] => Ok(Fault::Pause(all(nodes)?)),
            ["partition", sides @ ..] => {
                let groups: Vec<Group> =
                    sides.split(|word| *word == "|").map(group).collect::<Result<_, _>>()?;
                let rests = groups.iter().filter(|group| **group == Group::Rest).count();
                if groups.len() < 2 || rests > 1 {
                    return Err(
                        "a partition has two or more groups, at most one of them rest".into()
                    );
                }
                Ok(Fault::Partition(groups))
            }
            ["one-way", from, "->", to] => {
                Ok(Fault::OneWay { from: from.parse()?, to: to.parse()? })
            }
            ["bridge", node] => Ok(Fault::Bridge(node.parse()?)),
            ["ring"] => Ok(Fault::Ring),
            ["delay", parties @ .., ms, "jitter", jitter] => Ok(Fault::Delay {
                parties: all(parties)?,
                ms: parse_ms(ms)?,
                jitter_ms: parse_ms(jitter)?,
            }),
            ["loss", parties @ .., percent] => {
                Ok(Fault::Loss { parties: all(parties)?, percent: share(percent)? })
            }
            ["slow", parties @ .., amount] => {
                let number = amount.strip_suffix("kB/s").and_then(|number| number.parse().ok());
                let kb_per_second = number
                    .filter(|number| *number > 0)
                    .ok_or_else(|| format!("{amount:?} is no bandwidth: expected 64kB/s"))?;
                Ok(Fault::Slow { parties: all(parties)?, kb_per_second })
            }
            ["duplicate", nodes @ .., percent] => {
                Ok(Fault::Duplicate { nodes: all(nodes)?, percent: share(percent)? })
            }
            ["reorder", nodes @ .., percent, ms] => Ok(Fault::Reorder {
                nodes: all(nodes)?,
                percent: share(percent)?,
                ms: parse_ms(ms)?,
            }),
            ["power-cut", nodes @ ..] => Ok(Fault::PowerCut(all(nodes)?)),
            ["power-cut-all"] => Ok(Fault::PowerCutAll),
            [word, node] => of_one(word, node.parse(), text),
            [word, node, amount] => of_one_by(word, node.parse(), amount, text),
            _ => Err(no_fault(text)),
        }
    }
}

/// Reads `20%`.
fn share(word: &str) -> Result<u8, String> {
    let number = word.strip_suffix('%').and_then(|number| number.parse().ok());
    let percent = number.filter(|percent| *percent <= 100);
    percent.ok_or_else(|| format!("{word:?} is not a share: expected 20%"))
}

fn no_fault(text: &str) -> String {
    format!("{text:?} is no fault")
}

/// The faults that say of a node only which.
fn of_one(word: &str, node: Result<Who, String>, text: &str) -> Result<Fault, String> {
    let fault = match word {
        "fsync-fail" => Fault::FsyncFail,
        "disk-full" => Fault::DiskFull,
        "leave" => Fault::Leave,
        "transfer" => Fault::Transfer,
        _ => return Err(no_fault(text)),
    };
    node.map(fault)
}

/// Those that also say how much.
fn of_one_by(
    word: &str,
    node: Result<Who, String>,
    amount: &str,
    text: &str,
) -> Result<Fault, String> {
    let number = || amount.parse::<u32>().ok().filter(|number| *number > 0);
    let wrong = || format!("{amount:?}: expected a number from 1 on");
    match word {
        "clock" => {
            let wrong = || format!("{amount:?} is no jump: expected +10s or -10s");
            let sign = if amount.starts_with('-') { -1 } else { 1 };
            let ms = parse_ms(amount.strip_prefix(['+', '-']).ok_or_else(wrong)?)?;
            Ok(Fault::Clock { node: node?, ms: sign * i64::try_from(ms).map_err(|_| wrong())? })
        }
        "rate" => {
            let percent = amount.strip_suffix('%').and_then(|number| number.parse().ok());
            let percent = percent.filter(|percent| (10..=1_000).contains(percent));
            let wrong = || format!("{amount:?} is no rate: expected 10% to 1000%");
            Ok(Fault::Rate { node: node?, percent: percent.ok_or_else(wrong)? })
        }
        "fsync-slow" => Ok(Fault::FsyncSlow { node: node?, ms: parse_ms(amount)? }),
        "tear" => Ok(Fault::Tear { node: node?, bytes: number().ok_or_else(wrong)? }),
        "flip" => {
            let bits = number().and_then(|bits| u8::try_from(bits).ok()).ok_or_else(wrong)?;
            Ok(Fault::Flip { node: node?, bits })
        }
        _ => Err(no_fault(text)),
    }
}

impl FromStr for Schedule {
    type Err = String;

    /// Reads a schedule. Empty lines and what follows a `#` are passed over. Error: the line, and what is wrong.
    fn from_str(text: &str) -> Result<Schedule, String> {
        let mut schedule: Option<Schedule> = None;
        for (at, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or(line).trim();
            let wrong = |why: String| format!("line {}: {why}", at + 1);
            if line.is_empty() {
                continue;
            }
            match &mut schedule {
                None => schedule = Some(head(line).map_err(wrong)?),
                Some(schedule) => schedule.steps.push(step(line).map_err(wrong)?),
            }
        }
        let mut schedule = schedule.ok_or("it is empty: expected `schedule seed …`")?;
        schedule.steps.sort_by_key(|step| step.at_ms);
        Ok(schedule)
    }
}

fn head(line: &str) -> Result<Schedule, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["schedule", "seed", seed, "nodes", nodes, "duration", duration, ref from @ ..] = words[..]
    else {
        return Err("expected `schedule seed 7 nodes 3 duration 60s` first".into());
    };
    let families = match from {
        [] => Family::usual(),
        ["from", families @ ..] => {
            families.iter().map(|word| word.parse()).collect::<Result<_, _>>()?
        }
        _ => return Err("after the duration: expected nothing, or `from` and families".into()),
    };
    let seed = seed.parse().map_err(|_| format!("{seed:?} is no seed"))?;
    let nodes = nodes.parse().ok().filter(|nodes| (1..=9).contains(nodes));
    let nodes = nodes.ok_or("nodes: expected 1 to 9")?;
    Ok(Schedule { seed, nodes, duration_ms: parse_ms(duration)?, families, steps: Vec::new() })
}

fn step(line: &str) -> Result<Step, String> {
    let mut words = line.splitn(5, char::is_whitespace);
    match (words.next(), words.next(), words.next(), words.next(), words.next()) {
        (Some("at"), Some(at), Some("for"), Some(length), Some(fault)) => {
            Ok(Step { at_ms: parse_ms(at)?, for_ms: parse_ms(length)?, fault: fault.parse()? })
        }
        _ => Err("expected `at 5s for 3s …`".into()),
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
