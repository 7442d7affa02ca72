//! The consumer binary: reads AMQP_URL, DATABASE_URL and OTEL_*, consumes until ctrl-c or SIGTERM.

use std::env;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use consumer::{Config, Consumer, Telemetry};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// How long the last spans may take on their way out.
const FLUSH: Duration = Duration::from_secs(5);

/// How long the runtime waits for what still blocks a thread.
const RUNTIME: Duration = Duration::from_secs(1);

/// The log when RUST_LOG is not set: ours, and what goes wrong in the clients.
const DEFAULT_FILTER: &str = "info,lapin=warn,sqlx=warn";

fn main() -> ExitCode {
    let config = match log_to_stderr().and_then(|()| config_from_env()) {
        Ok(config) => config,
        Err(reason) => return fail(&reason),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    let telemetry = Telemetry::from_env("consumer-service");
    let consumed = runtime.block_on(consume(config, telemetry.clone()));
    // Flush on this thread, after the drain: the last spans have ended, and a
    // receiver that hangs cannot hold the runtime.
    runtime.shutdown_timeout(RUNTIME);
    if let Err(reason) = telemetry.flush(FLUSH) {
        eprintln!("{reason}");
    }
    match consumed {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => fail(&reason),
    }
}

async fn consume(config: Config, telemetry: Telemetry) -> Result<(), String> {
    let stopped = stop_signal().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let consumer = Consumer::start(config, telemetry)
        .await
        .map_err(|error| error.to_string())?;
    stopped.await;
    consumer.stop().await;
    Ok(())
}

fn fail(reason: &str) -> ExitCode {
    eprintln!("{reason}");
    ExitCode::from(2)
}

fn log_to_stderr() -> Result<(), String> {
    let directives = set("RUST_LOG")?.unwrap_or_else(|| DEFAULT_FILTER.to_owned());
    let filter = EnvFilter::builder()
        .parse(directives)
        .map_err(|error| format!("RUST_LOG: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
    Ok(())
}

fn config_from_env() -> Result<Config, String> {
    let default = Config::default();
    Ok(Config {
        amqp_url: set("AMQP_URL")?.unwrap_or(default.amqp_url),
        database_url: set("DATABASE_URL")?.unwrap_or(default.database_url),
        ..Config::default()
    })
}

/// A variable's value; an empty one counts as unset.
fn set(variable: &str) -> Result<Option<String>, String> {
    match env::var(variable) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(format!("{variable}: not valid UTF-8")),
    }
}

/// Resolves at ctrl-c or SIGTERM: what a terminal and an orchestrator send. From the
/// call on, neither ends the process by itself; so call it before anyone is told that
/// the service is there.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
