//! A small in-process AMQP 0-9-1 broker, for tests.
//!
//! It behaves like RabbitMQ for what a service and its consumer use: the default
//! exchange, queues, publisher confirms, returns, consumers with prefetch,
//! acknowledgements and redelivery. **Nothing is persisted**: a durable queue or a
//! persistent message lives as long as the [`Broker`] value.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let broker = broker::Broker::start(broker::Config::default()).await?;
//! println!("a client may connect to {}", broker.uri());
//! broker.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What it leaves out
//! What it can't do as RabbitMQ would is refused with 540 `NOT_IMPLEMENTED`, which
//! closes the connection. Nothing is silently ignored:
//! - exchanges of one's own, bindings to the predeclared `amq.*` exchanges (they can
//!   be declared and published to, and route nothing), bindings between exchanges;
//! - transactions (class `tx`), `immediate`, `prefetch_size`, `basic.recover` without
//!   requeue, `channel.flow` to stop deliveries, `connection.update-secret`;
//! - queue types other than classic, and the queue arguments that limit a queue or
//!   its messages (`x-message-ttl`, `x-max-length`, `x-dead-letter-exchange`, …);
//! - consumer priorities, the `expiration` of messages, the headers `CC` and `BCC`.
//!
//! Short strings (names, tags, ids, keys of tables) must be UTF-8, where RabbitMQ takes
//! any bytes: others are a 502 `SYNTAX_ERROR`, which closes the connection.
//!
//! # Limits
//! - **Memory.** While the messages of all queues take more than
//!   [`Config::max_queue_bytes`], the next `basic.publish` of a connection waits, as
//!   under RabbitMQ's memory alarm: the client gets `connection.blocked`, its socket
//!   is not read, and the message is neither routed nor confirmed until consumers have
//!   made room (`connection.unblocked`). Consumers should therefore have connections
//!   of their own. The message that crosses the limit is still taken.
//! - **Slow readers.** When more than [`Config::max_outgoing_bytes`] wait for one
//!   connection, deliveries to it pause and its requests are not read. Other consumers
//!   get the messages meanwhile. One message may go beyond the limit.
//! - **Messages** larger than [`Config::max_message_bytes`] close their channel with
//!   406, as in RabbitMQ since 3.8, as soon as their content header announces them.
//!   A connection may have begun, and not finished, four messages of that size, each
//!   with a frame of properties (506).
//! - **Tables** may be nested 64 deep (502).

mod audit;
mod channel;
mod connection;
mod error;
mod frames;
mod methods;
mod net;
mod queue;
mod state;
pub mod wire;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use error::WaitError;
pub use queue::QueueStats;
use state::Shared;

/// The broker's limits and users.
///
/// ```
/// let config = broker::Config {
///     users: vec![("alice".to_owned(), "secret".to_owned())],
///     ..broker::Config::default()
/// };
/// ```
#[derive(Clone)]
pub struct Config {
    /// The heartbeat interval that is offered to clients. The protocol carries
    /// whole seconds, so a fraction is rounded up; zero offers none. Default 60 s.
    pub heartbeat: Duration,
    /// The largest frame, in bytes with its 8 bytes of framing. Default 131 072. The
    /// protocol's minimum is 4096; lapin insists on 8192.
    pub frame_max: u32,
    /// The highest channel number of a connection. Default 2047.
    pub channel_max: u16,
    /// The largest message body in bytes. Default 16 MiB.
    pub max_message_bytes: u64,
    /// How many bytes the messages of all queues may take together before
    /// publishers are made to wait. Default 256 MiB.
    pub max_queue_bytes: u64,
    /// How many bytes may wait to be written to one connection before deliveries
    /// to it pause. Default 256 KiB.
    pub max_outgoing_bytes: usize,
    /// How long a client may take from connecting to `connection.open`. Default 10 s.
    pub handshake_timeout: Duration,
    /// How long the broker waits for the answer to a `connection.close`. Default 5 s.
    pub close_timeout: Duration,
    /// Names and passwords. Default `guest`/`guest`.
    pub users: Vec<(String, String)>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(60),
            frame_max: 131_072,
            channel_max: 2047,
            max_message_bytes: 16 << 20,
            max_queue_bytes: 256 << 20,
            max_outgoing_bytes: 256 << 10,
            handshake_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            users: vec![("guest".to_owned(), "guest".to_owned())],
        }
    }
}

/// A running broker. Dropping it stops it: its tasks end and its sockets close.
pub struct Broker {
    addr: SocketAddr,
    /// What [`Broker::uri`] logs in with: the first configured user.
    login: (String, String),
    close_timeout: Duration,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Broker {
    /// Starts a broker on a free port of 127.0.0.1. It has the vhost `/`.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start(config: Config) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let login = config.users.first().cloned().unwrap_or_default();
        let close_timeout = config.close_timeout;
        let shared = Arc::new(Shared::new(config));
        shared.create_vhost("/");
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(net::accept(
            listener,
            Arc::clone(&shared),
            tasks.clone(),
            stop.clone(),
        ));
        Ok(Self {
            addr,
            login,
            close_timeout,
            shared,
            tasks,
            stop,
        })
    }

    /// The address that the broker listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URI of the vhost `/` with the first configured user's login:
    /// `amqp://guest:guest@127.0.0.1:PORT/%2f`.
    #[must_use]
    pub fn uri(&self) -> String {
        self.vhost_uri("/")
    }

    /// The URI of `vhost`, as [`Broker::uri`] gives it for `/`.
    #[must_use]
    pub fn vhost_uri(&self, vhost: &str) -> String {
        let (user, password) = &self.login;
        format!(
            "amqp://{}:{}@{}/{}",
            percent_encode(user),
            percent_encode(password),
            self.addr,
            percent_encode(vhost)
        )
    }

    /// Makes `name` a vhost that clients may open; does nothing if it is one.
    pub fn create_vhost(&self, name: &str) {
        self.shared.create_vhost(name);
    }

    /// The state of a queue, or `None` if the vhost has no such queue.
    #[must_use]
    pub fn queue(&self, vhost: &str, name: &str) -> Option<QueueStats> {
        self.shared.stats(vhost, name)
    }

    /// Waits until the queue exists and `pred` holds for it, and returns its state
    /// at that moment. It is woken by changes and does not poll.
    ///
    /// # Errors
    /// [`WaitError::Timeout`] with the last state if that doesn't happen before
    /// `deadline` has passed.
    pub async fn wait_for_queue(
        &self,
        vhost: &str,
        name: &str,
        deadline: Duration,
        pred: impl Fn(&QueueStats) -> bool,
    ) -> Result<QueueStats, WaitError> {
        // Subscribed before the first look, so that no change falls between the two.
        let mut changes = self.shared.changes();
        let holds = async {
            loop {
                changes.mark_unchanged();
                if let Some(stats) = self.queue(vhost, name).filter(&pred) {
                    return stats;
                }
                if changes.changed().await.is_err() {
                    // The sender lives in `self.shared`, so this is never reached.
                    std::future::pending::<()>().await;
                }
            }
        };
        match tokio::time::timeout(deadline, holds).await {
            Ok(stats) => Ok(stats),
            Err(_) => Err(WaitError::Timeout {
                vhost: vhost.to_owned(),
                name: name.to_owned(),
                deadline,
                last: self.queue(vhost, name),
            }),
        }
    }

    /// Closes all connections as an operator would: each client gets
    /// `connection.close` with `code` (320 is `CONNECTION_FORCED`) and `text`.
    /// New connections are still accepted.
    pub fn close_connections(&self, code: u16, text: &str) {
        self.shared.close_connections(code, text);
    }

    /// How many connections are open, the ones in their handshake included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connection_count()
    }

    /// Stops the broker as an orderly shutdown does: clients get `connection.close`
    /// with `CONNECTION_FORCED`, and those that don't answer within
    /// [`Config::close_timeout`] are cut off.
    pub async fn stop(self) {
        self.shared.close_connections(
            320,
            "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
        );
        let mut changes = self.shared.changes();
        let emptied = async {
            loop {
                changes.mark_unchanged();
                if self.shared.connection_count() == 0 || changes.changed().await.is_err() {
                    return;
                }
            }
        };
        // Whoever hasn't answered by then is cut off below.
        let _ = tokio::time::timeout(self.close_timeout, emptied).await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986, section 2.3.
fn percent_encode(text: &str) -> String {
    use std::fmt::Write as _;

    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                let _ = write!(out, "%{byte:02x}");
            }
        }
    }
    out
}
