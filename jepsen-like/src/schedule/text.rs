//! The text form: printing and parsing.

use std::fmt::{self, Display};
use std::str::FromStr;

use super::{Fault, Group, Party, Schedule, Step, Who};

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
        let Schedule { seed, nodes, duration_ms, steps } = self;
        writeln!(f, "schedule seed {seed} nodes {nodes} duration {}", seconds(*duration_ms))?;
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
            (_, Some(Ok(node @ 1..=9))) => Ok(Who::Number(node)),
            _ => Err(format!("{word:?} is no node: expected n1 to n9, leader or follower")),
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
                let number = percent.strip_suffix('%').and_then(|number| number.parse().ok());
                let percent = number
                    .filter(|percent| *percent <= 100)
                    .ok_or_else(|| format!("{percent:?} is not a share: expected 20%"))?;
                Ok(Fault::Loss { parties: all(parties)?, percent })
            }
            _ => Err(format!("{text:?} is no fault")),
        }
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
    let ["schedule", "seed", seed, "nodes", nodes, "duration", duration] = words[..] else {
        return Err("expected `schedule seed 7 nodes 3 duration 60s` first".into());
    };
    let seed = seed.parse().map_err(|_| format!("{seed:?} is no seed"))?;
    let nodes = nodes.parse().ok().filter(|nodes| (1..=9).contains(nodes));
    let nodes = nodes.ok_or("nodes: expected 1 to 9")?;
    Ok(Schedule { seed, nodes, duration_ms: parse_ms(duration)?, steps: Vec::new() })
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
mod tests {
    use super::super::Schedule;

    const ALL: &str = "\
schedule seed 7 nodes 3 duration 60s
at 1s for 2.5s kill n1 n2
at 2s for 0.25s kill-all
at 3s for 1s wipe n3
at 4s for 1s pause leader
at 5s for 10s partition leader c-leader | rest
at 6s for 1s partition n1 c1 | n2 c2 | n3
at 7s for 1s one-way n1 -> c2
at 8s for 1s bridge n2
at 9s for 1s ring
at 10s for 1s delay n1 c-follower 50ms jitter 20ms
at 11s for 1.007s loss follower 20%
";

    #[test]
    fn every_fault_is_printed_as_it_is_parsed() {
        let schedule: Schedule = ALL.parse().unwrap();
        assert_eq!(schedule.steps.len(), 11);
        assert_eq!(schedule.to_string(), ALL);
        assert_eq!(schedule.healed_ms(), 15_000);
    }

    #[test]
    fn comments_and_order_do_not_matter() {
        let text = "# by hand\nschedule seed 1 nodes 3 duration 9s\n\nat 5s for 1s ring # late\nat 2s for 1s kill n1";
        let schedule: Schedule = text.parse().unwrap();
        assert_eq!(schedule.steps[0].at_ms, 2_000);
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        for (wrong, named) in [
            ("at 1s for 1s kill n0", "\"n0\" is no node"),
            ("at 1s for 1s kill", "names nobody"),
            ("at 1 for 1s ring", "\"1\" is not a time"),
            ("at 1.2345s for 1s ring", "is not a time"),
            ("at 1s for 1s partition n1 n2", "two or more groups"),
            ("at 1s for 1s partition rest | rest", "at most one"),
            ("at 1s for 1s loss n1 101%", "is not a share"),
            ("at 1s for 1s explode n1", "is no fault"),
            ("at 1s ring", "expected `at"),
        ] {
            let text = format!("schedule seed 1 nodes 3 duration 9s\n{wrong}\n");
            let error = text.parse::<Schedule>().unwrap_err();
            assert!(error.starts_with("line 2: ") && error.contains(named), "{wrong}: {error}");
        }
    }
}
