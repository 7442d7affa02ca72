//! The consumer binary: reads AMQP_URL, DATABASE_URL and OTEL_*, consumes until ctrl-c or SIGTERM.

use std::process::ExitCode;

use consumer::{Config, Consumer, Telemetry};
use service::variable;

/// The log when RUST_LOG is not set: ours, and what goes wrong in the clients.
const DEFAULT_FILTER: &str = "info,lapin=warn,sqlx=warn";

fn main() -> ExitCode {
    service::run("consumer-service", DEFAULT_FILTER, config_from_env, consume)
}

async fn consume(config: Config, telemetry: Telemetry) -> Result<(), String> {
    let stopped = service::stop_signal()?;
    let consumer = Consumer::start(config, telemetry)
        .await
        .map_err(|error| error.to_string())?;
    stopped.await;
    consumer.stop().await;
    Ok(())
}

fn config_from_env() -> Result<Config, String> {
    let default = Config::default();
    Ok(Config {
        amqp_url: variable("AMQP_URL")?.unwrap_or(default.amqp_url),
        database_url: variable("DATABASE_URL")?.unwrap_or(default.database_url),
        ..Config::default()
    })
}
