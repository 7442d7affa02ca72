//! The runtime on which this crate does its work, whoever calls.
//!
//! Docker's and HTTP's clients keep connections, and a connection lives on the runtime
//! that opened it. Labs and tests have runtimes of their own that come and go; on one
//! of those, a connection would go while another still uses it.

use std::{future::Future, io, sync::OnceLock};

use tokio::runtime::{Builder, Runtime};

use crate::error::Error;

/// The name of its thread.
const THREAD: &str = "containers";

static RUNTIME: OnceLock<io::Result<Runtime>> = OnceLock::new();

fn runtime() -> Result<&'static Runtime, Error> {
    let runtime = RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(THREAD)
            .enable_all()
            .build()
    });
    runtime
        .as_ref()
        .map_err(|error| io::Error::new(error.kind(), error.to_string()).into())
}

/// Runs `future` and waits for it, on any runtime.
pub(crate) async fn spawn<T: Send + 'static>(
    future: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    runtime()?
        .spawn(future)
        .await
        .map_err(|error| Error::Io(io::Error::other(error)))?
}

/// Runs one of this crate's functions and waits for it, outside of any runtime.
///
/// # Errors
/// Those of `future`.
///
/// # Panics
/// On a thread that runs asynchronous code: it must not be blocked.
pub fn block_on<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    runtime()?.block_on(future)
}

/// Starts `future` and waits for it on this thread, even one that runs asynchronous
/// code: for `drop`, which can't do better. On the runtime's own thread it only starts
/// it: there nothing goes on, `future` neither, while that thread waits.
pub(crate) fn finish(future: impl Future<Output = Result<(), Error>> + Send + 'static) {
    let Ok(runtime) = runtime() else { return };
    let (done, waiting) = std::sync::mpsc::sync_channel(1);
    runtime.spawn(async move {
        // Nobody could act on an error any more: what stays is swept later.
        let _ = future.await;
        let _ = done.send(());
    });
    if std::thread::current().name() != Some(THREAD) {
        let _ = waiting.recv_timeout(crate::docker::REMOVE_DEADLINE);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn what_ends_on_its_own_thread_is_not_waited_for() {
        let began = Instant::now();
        let (done, waiting) = std::sync::mpsc::channel();
        block_on(spawn(async move {
            finish(async move {
                let _ = done.send(());
                Ok(())
            });
            Ok(())
        }))
        .expect("it does nothing that fails");
        waiting
            .recv_timeout(Duration::from_secs(10))
            .expect("it is done all the same");
        assert!(began.elapsed() < crate::docker::REMOVE_DEADLINE);
    }
}
