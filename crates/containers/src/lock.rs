//! Locks between the processes of one user.

use std::{
    fs::{File, TryLockError},
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

/// How often a lock that somebody else holds is asked for.
const PAUSE: Duration = Duration::from_millis(20);

/// A lock between processes. It goes with the value, and with the process.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read")] File);

impl Lock {
    /// Waits for the lock called `name`, at most as long as `deadline`. Calls `waits` if it
    /// takes longer than `patience`. Blocks, and must not be called from asynchronous code.
    ///
    /// # Errors
    /// `too_long` if the deadline passes, or what the system says; in one line, which names
    /// the lock's file.
    pub fn wait(
        name: &str,
        patience: Duration,
        waits: impl FnOnce(),
        deadline: Duration,
        too_long: &str,
    ) -> io::Result<Self> {
        let path = private(name, "lock");
        let failed = |reason: &dyn std::fmt::Display| {
            io::Error::other(format!("{}: {reason}", path.display()))
        };
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| failed(&error))?;
        let began = Instant::now();
        let mut waits = Some(waits);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::Error(error)) => return Err(failed(&error)),
                Err(TryLockError::WouldBlock) => {}
            }
            let waited = began.elapsed();
            if waited > deadline {
                return Err(failed(&too_long));
            }
            if waited > patience
                && let Some(waits) = waits.take()
            {
                waits();
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// A file in the temporary directory. That may be the same for all users, and none can
/// write another's file.
pub(crate) fn private(name: &str, extension: &str) -> PathBuf {
    let user = rustix::process::getuid().as_raw();
    std::env::temp_dir().join(format!("{name}-{user}.{extension}"))
}
