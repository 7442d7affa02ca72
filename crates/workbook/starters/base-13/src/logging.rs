//! Log lines: what `tracing` events look like and which are written.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{ConfigError, LogFormat};

/// What is logged when RUST_LOG is not set. lapin tells every reconnect attempt
/// on its own account; `queue.rs` tells it in the service's words.
const DEFAULT_FILTER: &str = "info,lapin=off,sqlx=warn";

/// Sends the process's `tracing` events to stdout in `format`, those that
/// RUST_LOG lets through.
pub fn init(format: LogFormat) -> Result<(), ConfigError> {
    let must_be = "a list of targets and levels, such as info,sqlx=debug";
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => {
            EnvFilter::try_new(text).map_err(|_| ConfigError::new("RUST_LOG", must_be))?
        }
        Err(std::env::VarError::NotUnicode(_)) => {
            return Err(ConfigError::new("RUST_LOG", must_be));
        }
        _ => EnvFilter::new(DEFAULT_FILTER),
    };
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => {
            let colours = io::stdout().is_terminal();
            registry.with(fmt::layer().with_ansi(colours)).init();
        }
        LogFormat::Json => registry
            .with(fmt::layer().json().flatten_event(true))
            .init(),
    }
    Ok(())
}
