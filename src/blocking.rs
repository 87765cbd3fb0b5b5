//! Work that keeps a thread busy: the disk, or a large state.
//!
//! A node has many threads, and such work gets one of its own. On a runtime of a single thread, which somebody has chosen so
//! that everything happens in one order, it is done at once and in place: a simulation repeats itself from its seed.

use futures::future::{Either, ready};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{JoinError, spawn_blocking};

/// Starts the work now; the future returned only waits for it. The error is a panic of the work, or the runtime's end.
pub fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, JoinError>> + Send {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => Either::Left(ready(Ok(work()))),
        _ => Either::Right(spawn_blocking(work)),
    }
}
