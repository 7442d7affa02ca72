//! What the environment configures: read once, at the start.

use std::{env, fmt, str::FromStr, time::Duration};

use lapin::uri::AMQPUri;
use reqwest::Url;

/// The service's configuration, one field for each variable.
///
/// It has no `Debug`: `amqp_url` holds a password, and what can't be formatted
/// can't end up in a log.
pub struct Config {
    /// `HOST`: the address to listen on.
    pub host: String,
    /// `PORT`: the port to listen on; 0 lets the system choose.
    pub port: u16,
    /// `AMQP_URL`: the RabbitMQ server, user and virtual host.
    pub amqp_url: AMQPUri,
    /// `TIER2_URL`: where tier2 answers.
    pub tier2_url: Url,
    /// `SAAS_URL`: where someone else's service answers.
    pub saas_url: Url,
    /// `HTTP_TIMEOUT_MS`: how long one call of another service may take, its body included.
    pub http_timeout: Duration,
    /// `QUEUE_TIMEOUT_MS`: how long a request waits for the queue to confirm its message.
    pub queue_timeout: Duration,
    /// `DRAIN_TIMEOUT_MS`: how long requests may take to end once the service was told to stop.
    ///
    /// Kubernetes kills a process 30 s after its SIGTERM, Docker after 10 s: what is to happen
    /// in order has to be over before.
    pub drain_timeout: Duration,
    /// `FLUSH_TIMEOUT_MS`: how long the last spans may take on their way out, after that.
    pub flush_timeout: Duration,
    /// `SLOW_DELAY_MS`: what `/slow` adds.
    pub slow_delay: Duration,
    /// `SLOW_CHANCE`: how often something is slow that needn't be, from 0 to 1.
    pub slow_chance: f64,
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
        const MS: &str = "a whole number of milliseconds, such as 1500";
        const HTTP: &str = "an http or https URL, such as http://127.0.0.1:8081";
        const AMQP: &str = "an AMQP URL, such as amqp://user:password@host:5672/%2f";

        let amqp_url = read("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f", AMQP)?;
        // lapin takes an IPv6 address for no host at all, and goes to localhost.
        if env::var("AMQP_URL").is_ok_and(|url| url.contains('[')) {
            let must_be = "an AMQP URL whose host is a name or an IPv4 address";
            return Err(ConfigError::new("AMQP_URL", must_be));
        }
        let slow_chance: f64 = read("SLOW_CHANCE", "0.05", "a number from 0 to 1")?;
        if !(0.0..=1.0).contains(&slow_chance) {
            return Err(ConfigError::new("SLOW_CHANCE", "a number from 0 to 1"));
        }
        Ok(Self {
            host: read("HOST", "0.0.0.0", "an address to listen on")?,
            port: read("PORT", "8080", "a port number from 0 to 65535")?,
            amqp_url,
            tier2_url: http_url("TIER2_URL", "http://127.0.0.1:8081", HTTP)?,
            saas_url: http_url("SAAS_URL", "http://127.0.0.1:8082", HTTP)?,
            http_timeout: Duration::from_millis(read("HTTP_TIMEOUT_MS", "5000", MS)?),
            queue_timeout: Duration::from_millis(read("QUEUE_TIMEOUT_MS", "2000", MS)?),
            drain_timeout: Duration::from_millis(read("DRAIN_TIMEOUT_MS", "5000", MS)?),
            flush_timeout: Duration::from_millis(read("FLUSH_TIMEOUT_MS", "3000", MS)?),
            slow_delay: Duration::from_millis(read("SLOW_DELAY_MS", "1500", MS)?),
            slow_chance,
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

fn http_url(name: &'static str, default: &str, must_be: &'static str) -> Result<Url, ConfigError> {
    let url: Url = read(name, default, must_be)?;
    if matches!(url.scheme(), "http" | "https") {
        Ok(url)
    } else {
        Err(ConfigError::new(name, must_be))
    }
}
