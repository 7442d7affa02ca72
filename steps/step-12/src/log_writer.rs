//! The way of log lines to stdout: a thread of its own writes them, so that a reader who
//! is slow or gone holds up no request.

use std::{
    io::{self, BufWriter},
    time::Duration,
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::{deadline, say};

/// How many lines may wait. When there are more, new ones are dropped and counted.
const WAITING_LINES: usize = 8_192;

/// How long the last lines may take on their way out.
const CLOSE_DEADLINE: Duration = Duration::from_millis(500);

/// Owns the thread that writes. When it is dropped, the lines that wait are written:
/// keep it until nothing logs any more.
#[must_use = "dropped at once, it ends the writing of log lines"]
pub struct LogGuard {
    worker: Option<WorkerGuard>,
    dropped: ErrorCounter,
}

/// A writer that never blocks and never fails.
pub fn stdout() -> (NonBlocking, LogGuard) {
    let (writer, worker) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        // The thread flushes whenever nothing waits: lines that come together are
        // written together.
        .finish(BufWriter::new(io::stdout()));
    let guard = LogGuard {
        worker: Some(worker),
        dropped: writer.error_counter(),
    };
    (writer, guard)
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let worker = self.worker.take();
        // With a deadline of our own: with a full queue, the worker's guard reports that
        // it can't be told to stop, on the very stdout that nobody reads.
        if deadline::within(CLOSE_DEADLINE, move || drop(worker)).is_none() {
            say("tier1: the last log lines were not written: nobody reads stdout");
        }
        match self.dropped.dropped_lines() {
            0 => {}
            lines => say(&format!(
                "tier1: {lines} log lines were dropped: stdout is read too slowly"
            )),
        }
    }
}
