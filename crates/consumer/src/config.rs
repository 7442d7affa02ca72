//! What the consumer is told: broker, database, queue.

use std::fmt;

use lapin::types::ShortString;
use lapin::uri::AMQPUri;

use crate::Error;
use crate::connection::Source;

/// The broker when `AMQP_URL` is not set: a RabbitMQ on this machine as it is installed.
pub const DEFAULT_AMQP_URL: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";

/// The queue that tier1 publishes to.
pub const QUEUE: &str = "signups";

/// Where the messages come from and what they are looked up in.
#[derive(Clone)]
pub struct Config {
    /// `amqp://<user>:<password>@<host>:<port>/<vhost>`; `Debug` leaves it out.
    pub amqp_url: String,
    /// What [`members::Members::connect`] takes; `Debug` leaves it out.
    pub database_url: String,
    /// The durable queue to consume, `signups` by default; made if it is not there.
    pub queue: String,
    /// How many messages the broker hands out ahead of their ack, 10 by default; 0 is no limit.
    pub prefetch: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            amqp_url: DEFAULT_AMQP_URL.to_owned(),
            database_url: members::DEFAULT_URL.to_owned(),
            queue: QUEUE.to_owned(),
            prefetch: 10,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("queue", &self.queue)
            .field("prefetch", &self.prefetch)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Where the messages come from.
    pub(crate) fn source(&self) -> Result<Source, Error> {
        if self.queue.is_empty() {
            return Err(Error::Queue);
        }
        Ok(Source {
            uri: self.uri()?,
            queue: ShortString::try_new(self.queue.as_str()).map_err(|_| Error::Queue)?,
            prefetch: self.prefetch,
        })
    }

    /// The parser's own message may quote the URL, password and all: it is left out.
    fn uri(&self) -> Result<AMQPUri, Error> {
        // The parser takes an IPv6 address for no host at all, which is localhost.
        if self.amqp_url.contains('[') {
            return Err(Error::AmqpUrl);
        }
        self.amqp_url.parse().map_err(|_| Error::AmqpUrl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_url_is_named_but_not_printed() {
        let config = Config {
            amqp_url: "http://user:s3cret@host/".to_owned(),
            database_url: "postgres://user:s3cret@host/db".to_owned(),
            ..Config::default()
        };
        let error = config.uri().expect_err("http is no AMQP").to_string();
        assert!(error.starts_with("AMQP_URL: "), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn the_defaults_are_valid() {
        let uri = Config::default().uri().expect("the default is a URL");
        assert_eq!(uri.vhost, "/");
        assert_eq!(uri.authority.port, 5672);
    }
    #[test]
    fn a_queue_needs_a_name_that_amqp_can_send() {
        for queue in [String::new(), "q".repeat(256)] {
            let config = Config {
                queue,
                ..Config::default()
            };
            assert!(matches!(config.source(), Err(Error::Queue)));
        }
    }
}
