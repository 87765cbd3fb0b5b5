//! Syncs that fail or are slow: strace, attached to a node.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// All calls by which files become durable.
const SYNCS: &str = "fsync,fdatasync,sync_file_range";

/// How long strace may take to say that it is attached.
const ATTACH_PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to let go of a process when it is asked to, in so many steps; then it is killed, which lets go too.
const DETACH_ATTEMPTS: u32 = 200;
const DETACH_PAUSE: Duration = Duration::from_millis(10);

/// A running strace. Dropping it lets the process go on as before.
#[derive(Debug)]
pub(super) struct Trace {
    child: Child,
    output: PathBuf,
}

impl Trace {
    /// Attaches to a process and returns when it is traced. `injection` is what strace does to each sync, in its own
    /// words; `None` nothing.
    pub(super) fn attach(
        pid: u32,
        injection: Option<&str>,
        output: PathBuf,
    ) -> Result<Trace, String> {
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &pid.to_string(), "-e", &format!("trace={SYNCS}"), "-o"]);
        command.arg(&output).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        if let Some(injection) = injection {
            command.args(["-e", &format!("inject={SYNCS}:{injection}")]);
        }
        let child = command.spawn().map_err(|err| format!("strace: {err}"))?;
        let mut trace = Trace { child, output };
        let stderr = trace.child.stderr.take().ok_or("strace has no stderr")?;
        // The first line says that it is attached, or why not.
        let line = first_line(stderr).recv_timeout(ATTACH_PATIENCE).unwrap_or_default();
        match line.contains("attached") {
            true => Ok(trace),
            false => Err(format!("strace: {line}")),
        }
    }

    /// Returns whether something was done to a sync.
    pub(super) fn has_acted(&self) -> bool {
        let text = fs::read_to_string(&self.output).unwrap_or_default();
        text.contains("(INJECTED)") || text.contains("(DELAYED)")
    }
}

/// Returns the first line of what strace says, and reads the rest too: it says something of every new thread, and a pipe
/// that nobody reads would end it, and the fault with it.
fn first_line(stderr: ChildStderr) -> mpsc::Receiver<String> {
    let (said, first) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            // Only the first one is waited for.
            let _ = said.send(line);
        }
    });
    first
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It detaches when asked to end, which SIGKILL would not let it do in order.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        for _ in 0..DETACH_ATTEMPTS {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(DETACH_PAUSE);
        }
        // It waits for a process that does not stop for it. The kernel detaches what a dead tracer had.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns why nothing can be traced here, if so: it tries.
pub(super) fn lacking(dir: &Path) -> Option<String> {
    let sleep = Command::new("sleep").arg("60").spawn();
    let mut sleep = match sleep {
        Ok(sleep) => sleep,
        Err(err) => return Some(format!("sleep: {err}")),
    };
    let attached = Trace::attach(sleep.id(), None, dir.join("trace"));
    let why = attached.err();
    let _ = (sleep.kill(), sleep.wait());
    why
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Lines, Write as _};
    use std::path::Path;
    use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::{Trace, lacking};

    /// A process that syncs a file for every line it reads, and says how that ended; for `fork` it first has a child.
    struct Syncing {
        process: Child,
        ask: ChildStdin,
        answers: Lines<BufReader<ChildStdout>>,
    }

    impl Syncing {
        /// Returns one, or says why nothing can be traced here.
        fn start(dir: &Path) -> Option<Syncing> {
            if let Some(why) = lacking(dir) {
                // Past the test harness, which would swallow it.
                let _ = writeln!(std::io::stderr(), "SKIPPED: nothing can be traced ({why})");
                return None;
            }
            let fork = "if (/fork/) { my $p = fork; exit if !$p; waitpid($p, 0) }";
            let sync = "print defined($f->sync) ? qq(ok\n) : qq(failed\n)";
            let open = "use IO::File; $| = 1; $f = IO::File->new($ARGV[0], q(w));";
            let mut perl = Command::new("perl");
            perl.args(["-e", &format!("{open} while (<STDIN>) {{ {fork} {sync} }}")]);
            perl.arg(dir.join("file")).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut process = perl.spawn().unwrap();
            let (ask, answers) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
            Some(Syncing { process, ask, answers: BufReader::new(answers).lines() })
        }

        fn sync(&mut self, word: &str) -> String {
            writeln!(self.ask, "{word}").unwrap();
            self.answers.next().unwrap().unwrap()
        }

        fn fails(&self, dir: &Path) -> Trace {
            Trace::attach(self.process.id(), Some("error=EIO"), dir.join("trace")).unwrap()
        }

        fn end(self) {
            let Syncing { mut process, ask, .. } = self;
            drop(ask);
            assert!(process.wait().unwrap().success());
        }
    }

    #[test]
    fn the_syncs_of_a_traced_process_fail_and_those_after_it_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let Some(mut syncing) = Syncing::start(dir.path()) else { return };
        assert_eq!(syncing.sync("sync"), "ok");
        let trace = syncing.fails(dir.path());
        assert!(!trace.has_acted());
        // Of each child strace says something, which somebody has to read.
        for _ in 0..5 {
            assert_eq!(syncing.sync("fork"), "failed");
        }
        assert!(trace.has_acted());
        drop(trace);
        assert_eq!(syncing.sync("sync"), "ok");
        syncing.end();
    }

    #[test]
    fn a_tracer_that_does_not_let_go_is_killed_and_the_process_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let Some(mut syncing) = Syncing::start(dir.path()) else { return };
        let trace = syncing.fails(dir.path());
        kill(Pid::from_raw(trace.child.id().try_into().unwrap()), Signal::SIGSTOP).unwrap();
        drop(trace);
        assert_eq!(syncing.sync("sync"), "ok");
        syncing.end();
    }
}
