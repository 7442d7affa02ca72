//! The tier2 binary: reads HOST, PORT, DATABASE_URL and OTEL_*, answers until ctrl-c or SIGTERM.

use std::process::ExitCode;

use service::variable;
use tier2::{Config, Telemetry, Tier2};

/// The port when PORT is not set.
const DEFAULT_PORT: u16 = 8081;

/// The log when RUST_LOG is not set: ours, and what goes wrong in the driver.
const DEFAULT_FILTER: &str = "info,sqlx=warn";

fn main() -> ExitCode {
    service::run("tier2-service", DEFAULT_FILTER, config_from_env, serve)
}

async fn serve(config: Config, telemetry: Telemetry) -> Result<(), String> {
    let stopped = service::stop_signal()?;
    let tier2 = Tier2::start(config, telemetry)
        .await
        .map_err(|error| error.to_string())?;
    eprintln!("listening on http://{}", tier2.addr());
    stopped.await;
    tier2.stop().await;
    Ok(())
}

fn config_from_env() -> Result<Config, String> {
    Ok(Config {
        addr: service::address(DEFAULT_PORT)?,
        database_url: variable("DATABASE_URL")?.unwrap_or_else(|| members::DEFAULT_URL.to_owned()),
        ..Config::default()
    })
}
