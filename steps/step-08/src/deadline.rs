//! A deadline for work that can't be told to stop.

use std::{sync::mpsc, thread, time::Duration};

/// Does `work` on a thread of its own, and waits for it at most as long as `deadline`.
///
/// `None` if it isn't done by then. The thread is left to itself: it ends with the
/// process, which doesn't wait for it.
pub fn within<T: Send + 'static>(
    deadline: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, result) = mpsc::channel();
    let thread = thread::Builder::new().spawn(move || {
        // Fails if nobody waits any more.
        let _ = done.send(work());
    });
    // Without a thread `done` is gone, and there is nothing to wait for.
    drop(thread);
    result.recv_timeout(deadline).ok()
}
