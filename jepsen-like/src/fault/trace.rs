//! Syncs that fail or are slow: strace, attached to a node.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// All calls by which files become durable.
const SYNCS: &str = "fsync,fdatasync,sync_file_range";

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
        let line = BufReader::new(stderr).lines().next().and_then(Result::ok).unwrap_or_default();
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

impl Drop for Trace {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It detaches when asked to end, which SIGKILL would not let it do in order.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
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
    use std::io::{BufRead, BufReader, Write as _};
    use std::process::{Command, Stdio};

    use super::{Trace, lacking};

    #[test]
    fn the_syncs_of_a_traced_process_fail_and_those_after_it_do_not() {
        let dir = tempfile::tempdir().unwrap();
        if let Some(why) = lacking(dir.path()) {
            // Past the test harness, which would swallow it.
            let _ = writeln!(std::io::stderr(), "SKIPPED: nothing can be traced ({why})");
            return;
        }
        // Syncs a file for every line that it reads, and says how that ended.
        let script = "while (<STDIN>) { print defined($f->sync) ? qq(ok\\n) : qq(failed\\n) }";
        let open = "use IO::File; $| = 1; $f = IO::File->new($ARGV[0], q(w));";
        let mut perl = Command::new("perl");
        perl.args(["-e", &format!("{open} {script}")]).arg(dir.path().join("file"));
        let mut perl = perl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut ask, answers) = (perl.stdin.take().unwrap(), perl.stdout.take().unwrap());
        let mut answers = BufReader::new(answers).lines();
        let mut sync = || {
            writeln!(ask).unwrap();
            answers.next().unwrap().unwrap()
        };
        assert_eq!(sync(), "ok");
        let trace = Trace::attach(perl.id(), Some("error=EIO"), dir.path().join("trace")).unwrap();
        assert!(!trace.has_acted());
        assert_eq!(sync(), "failed");
        assert!(trace.has_acted());
        drop(trace);
        assert_eq!(sync(), "ok");
        drop(sync);
        drop(ask);
        assert!(perl.wait().unwrap().success());
    }
}
