//! One child process.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Lines of a process's output that are shown when it ended by itself.
const TAIL_LINES: usize = 4;

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program, its output appended to a file.
    pub fn spawn(mut command: Command, log: &Path) -> Result<Process, String> {
        let file = OpenOptions::new().create(true).append(true).open(log);
        let file = file.map_err(|err| format!("{}: {err}", log.display()))?;
        let copy = file.try_clone().map_err(|err| format!("{}: {err}", log.display()))?;
        command.stdin(Stdio::null()).stdout(copy).stderr(file);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|err| format!("cannot run {program}: {err}"))?;
        Ok(Process { child, log: log.to_owned() })
    }

    /// Returns its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it where it is, or lets it go on.
    pub fn pause(&self, is_paused: bool) {
        let signal = if is_paused { Signal::SIGSTOP } else { Signal::SIGCONT };
        if let Ok(pid) = i32::try_from(self.pid()) {
            // One that has ended has nothing to stop.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Returns the end of its output if it has ended by itself.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        let output = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = output.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        Some(format!("{status}: {tail}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL ends a stopped process too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
