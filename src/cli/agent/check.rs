//! Whether something works: single checks, and how many of them decide.

use std::collections::VecDeque;
use std::fmt;
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use futures::TryFutureExt;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::client::Probe;

/// The most checks that a decision may look back on.
const WINDOW_MAX: usize = 100;

/// How to find out whether the provider works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Ask it over the network.
    Probe(Probe),
    /// Execute this with a shell: exit code 0 means that it works.
    Command(String),
}

impl FromStr for Check {
    type Err = String;

    fn from_str(text: &str) -> Result<Check, String> {
        match text.strip_prefix("cmd:") {
            Some(command) if !command.trim().is_empty() => Ok(Check::Command(command.to_owned())),
            Some(_) => Err("expected a command behind cmd:".to_owned()),
            None => match text.parse() {
                Ok(probe) => Ok(Check::Probe(probe)),
                Err(why) => Err(format!("{why}, or cmd:COMMAND")),
            },
        }
    }
}

impl Check {
    /// Carries it out once. Error: it failed, and why.
    async fn run(&self, within: Duration) -> Result<(), String> {
        let outcome = match self {
            Check::Probe(probe) => {
                let asking = probe.run().map_err(|failure| failure.why);
                timeout(within, asking).await
            }
            Check::Command(command) => timeout(within, execute(command)).await,
        };
        outcome.unwrap_or_else(|_| Err(format!("no answer within {} ms", within.as_millis())))
    }
}

async fn execute(command: &str) -> Result<(), String> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match shell.kill_on_drop(true).status().await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} ended with {status}")),
        Err(err) => Err(format!("cannot execute a shell: {err}")),
    }
}

/// So many of the last so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// How many have to agree. Range: 1..=`of`.
    pub count: usize,
    /// Of the last how many. Range: 1..=100.
    pub of: usize,
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Threshold, String> {
        let parsed = text.split_once('/').and_then(|(count, of)| {
            Some(Threshold { count: count.parse().ok()?, of: of.parse().ok()? })
        });
        match parsed {
            Some(found)
                if found.count >= 1 && found.count <= found.of && found.of <= WINDOW_MAX =>
            {
                Ok(found)
            }
            _ => Err(format!("expected K/N with 1 <= K <= N <= {WINDOW_MAX}")),
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.of)
    }
}

/// What the last checks say together. Not healthy at first.
#[derive(Clone, Debug)]
pub struct Health {
    is_healthy: bool,
    pass: Threshold,
    fail: Threshold,
    /// Outcomes since the last change of mind, the newest last.
    recent: VecDeque<bool>,
}

impl Health {
    /// Returns one that becomes healthy by `pass` and unhealthy by `fail`.
    pub fn new(pass: Threshold, fail: Threshold) -> Health {
        Health { is_healthy: false, pass, fail, recent: VecDeque::new() }
    }

    /// Notes an outcome and returns whether it is healthy now.
    pub fn note(&mut self, has_passed: bool) -> bool {
        let threshold = if self.is_healthy { self.fail } else { self.pass };
        self.recent.push_back(has_passed);
        while self.recent.len() > threshold.of {
            self.recent.pop_front();
        }
        let against = self.recent.iter().filter(|&&passed| passed != self.is_healthy).count();
        if against >= threshold.count {
            self.is_healthy = !self.is_healthy;
            self.recent.clear();
        }
        self.is_healthy
    }
}

/// What there is to say when the checks change their mind, and at first.
pub(super) enum Finding {
    Passes,
    /// The last one failed, and why.
    Fails(String),
    /// The last one passed, and more have to.
    NotYet,
}

/// Checks again and again, and reports when the checks change their mind. Ends when nobody listens.
pub(super) async fn watch_over(
    check: Check,
    mut health: Health,
    every: Duration,
    within: Duration,
    report: watch::Sender<bool>,
    tell: impl Fn(Finding),
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    while !report.is_closed() {
        ticks.tick().await;
        let outcome = check.run(within).await;
        let is_healthy = health.note(outcome.is_ok());
        report.send_if_modified(|before| std::mem::replace(before, is_healthy) != is_healthy);
        if told == Some(is_healthy) {
            continue;
        }
        told = Some(is_healthy);
        tell(match (is_healthy, outcome) {
            (true, _) => Finding::Passes,
            (false, Err(why)) => Finding::Fails(why),
            (false, Ok(())) => Finding::NotYet,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Check, Health, Threshold};

    fn health(pass: &str, fail: &str) -> Health {
        Health::new(pass.parse().unwrap(), fail.parse().unwrap())
    }

    fn after(mut health: Health, outcomes: &str) -> String {
        let state = |c| if health.note(c == '+') { 'U' } else { 'd' };
        outcomes.chars().map(state).collect()
    }

    #[test]
    fn k_of_the_last_n_decide() {
        assert_eq!(after(health("1/1", "3/3"), "-+--+---+"), "dUUUUUUdU");
        assert_eq!(after(health("2/3", "2/3"), "+-+-+-"), "ddUUUd");
        assert_eq!(after(health("2/2", "1/1"), "+-++-+"), "dddUdd");
        // What was before the change of mind does not count again.
        assert_eq!(after(health("1/1", "2/4"), "+--+-+++-"), "UUdUUUUUU");
    }

    #[test]
    fn thresholds_and_checks_that_make_no_sense_are_refused() {
        for bad in ["", "1", "0/1", "2/1", "1/101", "a/b"] {
            assert!(bad.parse::<Threshold>().is_err(), "{bad}");
        }
        for bad in ["", "cmd:", "cmd: ", "tcp://a", "a:1"] {
            assert!(bad.parse::<Check>().is_err(), "{bad}");
        }
        assert!("true".parse::<Check>().unwrap_err().contains("cmd:"));
        assert_eq!("cmd:true".parse::<Check>(), Ok(Check::Command("true".to_owned())));
    }

    #[tokio::test]
    async fn a_command_passes_by_its_exit_code_and_in_its_time() {
        let within = std::time::Duration::from_secs(10);
        let run = async |text: &str| text.parse::<Check>().unwrap().run(within).await;
        assert_eq!(run("cmd:exit 0").await, Ok(()));
        assert!(run("cmd:exit 3").await.unwrap_err().contains("3"));
        let slow = "cmd:sleep 60".parse::<Check>().unwrap();
        let why = slow.run(std::time::Duration::from_millis(10)).await.unwrap_err();
        assert!(why.contains("10 ms"), "{why}");
    }
}
