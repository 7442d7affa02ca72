//! The tier2 binary: reads HOST, PORT, DATABASE_URL and OTEL_*, answers until ctrl-c or SIGTERM.

use std::env;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use tier2::{Config, Telemetry, Tier2};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The port when PORT is not set.
const DEFAULT_PORT: u16 = 8081;

/// How long the last spans may take on their way out.
const FLUSH: Duration = Duration::from_secs(5);

/// How long the runtime waits for what still blocks a thread.
const RUNTIME: Duration = Duration::from_secs(1);

/// The log when RUST_LOG is not set: ours, and what goes wrong in the driver.
const DEFAULT_FILTER: &str = "info,sqlx=warn";

fn main() -> ExitCode {
    let config = match log_to_stderr().and_then(|()| config_from_env()) {
        Ok(config) => config,
        Err(reason) => return fail(&reason),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    let telemetry = Telemetry::from_env("tier2-service");
    let served = runtime.block_on(serve(config, telemetry.clone()));
    // Flush on this thread, after the drain: the spans of the last requests have
    // ended, and a receiver that hangs cannot hold the runtime.
    runtime.shutdown_timeout(RUNTIME);
    if let Err(reason) = telemetry.flush(FLUSH) {
        eprintln!("{reason}");
    }
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => fail(&reason),
    }
}

async fn serve(config: Config, telemetry: Telemetry) -> Result<(), String> {
    let stopped = stop_signal().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let tier2 = Tier2::start(config, telemetry)
        .await
        .map_err(|error| error.to_string())?;
    eprintln!("listening on http://{}", tier2.addr());
    stopped.await;
    tier2.stop().await;
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
    let host = match set("HOST")? {
        Some(host) => host
            .parse::<IpAddr>()
            .map_err(|_| format!("HOST: expected an IP address, got {host:?}"))?,
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let port = match set("PORT")? {
        Some(port) => port
            .parse::<u16>()
            .map_err(|_| format!("PORT: expected a number from 0 to 65535, got {port:?}"))?,
        None => DEFAULT_PORT,
    };
    Ok(Config {
        addr: SocketAddr::new(host, port),
        database_url: set("DATABASE_URL")?.unwrap_or_else(|| members::DEFAULT_URL.to_owned()),
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
