//! What the environment configures: read once, at the start.

use std::{env, fmt, str::FromStr};

use lapin::uri::AMQPUri;

/// The service's configuration, one field for each variable.
///
/// It has no `Debug`: two of them hold a password, and what can't be formatted
/// can't end up in a log.
pub struct Config {
    /// `AMQP_URL`: the RabbitMQ server, user and virtual host.
    pub amqp_url: AMQPUri,
    /// `DATABASE_URL`: what signups are looked up in, SQLite or PostgreSQL.
    pub database_url: String,
    /// `LOG_FORMAT`: `text` or `json`.
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text, for people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

/// A variable that can't be used: its name and what it must be.
///
/// The value is left out, because it may be a secret.
pub struct ConfigError {
    name: &'static str,
    must_be: &'static str,
}

impl ConfigError {
    /// `name` is the variable, `must_be` completes "name must be …".
    pub fn new(name: &'static str, must_be: &'static str) -> Self {
        Self { name, must_be }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must be {}", self.name, self.must_be)
    }
}

impl Config {
    /// Reads the environment. The first variable that can't be used is the error.
    pub fn from_env() -> Result<Self, ConfigError> {
        const AMQP: &str = "an AMQP URL, such as amqp://user:password@host:5672/%2f";

        let amqp_url = read("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f", AMQP)?;
        // lapin takes an IPv6 address for no host at all, and goes to localhost.
        if env::var("AMQP_URL").is_ok_and(|url| url.contains('[')) {
            let must_be = "an AMQP URL whose host is a name or an IPv4 address";
            return Err(ConfigError::new("AMQP_URL", must_be));
        }
        Ok(Self {
            amqp_url,
            database_url: read(
                "DATABASE_URL",
                members::DEFAULT_URL,
                "a URL, such as sqlite://members.db",
            )?,
            log_format: read("LOG_FORMAT", "text", "text or json")?,
        })
    }
}

/// An empty variable counts as unset, as OpenTelemetry's own variables do.
fn read<T: FromStr>(
    name: &'static str,
    default: &str,
    must_be: &'static str,
) -> Result<T, ConfigError> {
    let text = match env::var(name) {
        Ok(text) if !text.is_empty() => text,
        Ok(_) | Err(env::VarError::NotPresent) => default.to_owned(),
        Err(env::VarError::NotUnicode(_)) => return Err(ConfigError::new(name, must_be)),
    };
    text.parse().map_err(|_| ConfigError::new(name, must_be))
}
