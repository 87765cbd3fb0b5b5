//! Processes that stand still as a whole.

use std::fs;
use std::time::Duration;

/// A process stops as a whole within this many attempts.
const STOP_ATTEMPTS: u32 = 2_000;

/// Waits until all threads of these processes have stopped; returns whether they have.
pub(super) fn until_stopped(pids: &[u32]) -> bool {
    let is_running = |pid: &u32| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        tasks.into_iter().any(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // The state follows the name, which is in parentheses; a thread that is gone has none.
            let state = stat.rsplit(") ").next().unwrap_or_default();
            !state.is_empty() && !state.starts_with(['T', 't', 'Z'])
        })
    };
    for _ in 0..STOP_ATTEMPTS {
        if !pids.iter().any(is_running) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}
