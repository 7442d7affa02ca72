//! Start and stop of a binary.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{Telemetry, variable};

/// How long the last spans may take on their way out.
const FLUSH: Duration = Duration::from_secs(5);

/// How long the runtime waits for what still blocks a thread.
const RUNTIME: Duration = Duration::from_secs(1);

/// An instrumented service from its start to its end: log, configuration, runtime,
/// telemetry from the environment, `serve` until it is done, flush.
///
/// `service_name` is used if the environment gives none, `default_filter` if
/// RUST_LOG is not set. What can't be used is one line on stderr and exit code 2.
pub fn run<C, F>(
    service_name: &'static str,
    default_filter: &str,
    configure: impl FnOnce() -> Result<C, String>,
    serve: impl FnOnce(C, Telemetry) -> F,
) -> ExitCode
where
    F: Future<Output = Result<(), String>>,
{
    let config = match log_to_stderr(default_filter).and_then(|()| configure()) {
        Ok(config) => config,
        Err(reason) => return fail(&reason),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    let telemetry = Telemetry::from_env(service_name);
    let served = runtime.block_on(serve(config, telemetry.clone()));
    // Flush on this thread, after the drain: the last spans have ended, and a
    // receiver that hangs cannot hold the runtime.
    runtime.shutdown_timeout(RUNTIME);
    if let Err(reason) = telemetry.flush(FLUSH) {
        eprintln!("{reason}");
    }
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => fail(&reason),
    }
}

/// One line on stderr and the exit code of what can't be used.
pub fn fail(reason: &str) -> ExitCode {
    eprintln!("{reason}");
    ExitCode::from(2)
}

/// Log lines on stderr: those that RUST_LOG lets through, or `default_filter` if it is unset.
fn log_to_stderr(default_filter: &str) -> Result<(), String> {
    let directives = variable("RUST_LOG")?.unwrap_or_else(|| default_filter.to_owned());
    let filter = EnvFilter::builder()
        .parse(directives)
        .map_err(|error| format!("RUST_LOG: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
    Ok(())
}

/// Resolves at ctrl-c or SIGTERM: what a terminal and an orchestrator send. From the
/// call on, neither ends the process by itself; so call it before anyone is told that
/// the service is there.
///
/// # Errors
/// One line, if the system refuses to tell of signals.
pub fn stop_signal() -> Result<impl Future<Output = ()>, String> {
    let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
