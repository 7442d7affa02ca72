//! The connection to the broker: made, consumed from, and made again.

use std::time::Duration;

use futures_util::future::{BoxFuture, Shared};
use futures_util::{FutureExt, Stream, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, Event};
use tokio::sync::{mpsc, oneshot, watch};

use crate::process::{Address, Outcome, Processor, Unsettled};
use crate::{Config, Error, Processed};

/// How long the broker may take to be connected to and to confirm the consumer.
const SETUP: Duration = Duration::from_secs(10);

/// How long a polite goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// The first wait of a [`Backoff`].
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The longest wait of a [`Backoff`].
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Where the messages come from.
pub(crate) struct Source {
    uri: AMQPUri,
    queue: ShortString,
    prefetch: u16,
}

impl Source {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        if config.queue.is_empty() {
            return Err(Error::Queue);
        }
        Ok(Self {
            uri: config.uri()?,
            queue: ShortString::try_new(config.queue.as_str()).map_err(|_| Error::Queue)?,
            prefetch: config.prefetch,
        })
    }

    /// What the spans say about it.
    pub(crate) fn address(&self) -> Address {
        Address {
            queue: self.queue.as_str().to_owned(),
            host: self.uri.authority.host.clone(),
            port: self.uri.authority.port,
        }
    }
}

/// The task in the background.
pub(crate) struct Worker {
    pub(crate) source: Source,
    pub(crate) processor: Processor,
    pub(crate) count: watch::Sender<Processed>,
    pub(crate) ready: watch::Sender<bool>,
    /// Who waits for [`crate::Consumer::settle`].
    pub(crate) settling: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
}

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Broker(#[from] lapin::Error),
    #[error(transparent)]
    Unsettled(#[from] Unsettled),
    #[error("no answer within {SETUP:?}")]
    Timeout,
    #[error("the broker cancelled the consumer")]
    Cancelled,
    #[error("{0}")]
    Connection(String),
}

impl Worker {
    /// Consumes until `stopping` says so, however often the broker goes away.
    pub(crate) async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let mut backoff = Backoff::default();
        while !is_stopped(&stopping) {
            let ended = self.session(&mut stopping, &mut backoff).await;
            self.ready.send_replace(false);
            if let Err(reason) = ended {
                let wait = backoff.next();
                tracing::warn!(%reason, ?wait, "no broker, trying again");
                pause(wait, &mut stopping).await;
            }
        }
    }

    /// One connection, from the handshake to its end. `Ok` means that it was stopped.
    async fn session(
        &mut self,
        stopping: &mut watch::Receiver<bool>,
        backoff: &mut Backoff,
    ) -> Result<(), Lost> {
        let (connection, channel, deliveries) = tokio::select! {
            biased;
            () = stopped(stopping) => return Ok(()),
            opened = tokio::time::timeout(SETUP, self.open()) => {
                opened.map_err(|_| Lost::Timeout)??
            }
        };
        tracing::info!(queue = self.source.queue.as_str(), "consuming");
        backoff.reset();
        self.ready.send_replace(true);

        let mut hands = Hands {
            processor: &self.processor,
            count: &self.count,
            deliveries,
            lost: lost(&connection).shared(),
            failures: Backoff::default(),
        };
        loop {
            tokio::select! {
                // Stop first: a queue that is never empty must not keep it running.
                biased;
                () = stopped(stopping) => break,
                reason = hands.lost.clone() => return Err(Lost::Connection(reason)),
                delivery = hands.deliveries.next() => {
                    hands.settle(delivery.ok_or(Lost::Cancelled)??, stopping).await?;
                }
                Some(waiting) = self.settling.recv() => {
                    hands.settle_all(&channel, &self.source.queue, stopping).await?;
                    // Whoever asked may have given up waiting.
                    let _ = waiting.send(());
                }
            }
        }
        // A broker that does not say goodbye is left; it requeues what is unsettled.
        let goodbye = connection.close(200, "stopped".into());
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
        Ok(())
    }

    async fn open(&self) -> Result<(Connection, Channel, lapin::Consumer), lapin::Error> {
        let Source {
            uri,
            queue,
            prefetch,
        } = &self.source;
        let properties =
            ConnectionProperties::default().with_connection_name(env!("CARGO_PKG_NAME").into());
        let connection = Connection::connect_uri(uri.clone(), properties).await?;
        let channel = connection.create_channel().await?;
        channel
            .basic_qos(*prefetch, BasicQosOptions::default())
            .await?;
        // The same words as tier1 uses: the broker refuses a queue that is there with others.
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(queue.clone(), durable, FieldTable::default())
            .await?;
        let deliveries = channel
            .basic_consume(
                queue.clone(),
                ShortString::default(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        Ok((connection, channel, deliveries))
    }
}

/// What a session works with.
struct Hands<'a> {
    processor: &'a Processor,
    count: &'a watch::Sender<Processed>,
    deliveries: lapin::Consumer,
    /// Done when the connection is lost; says why.
    lost: Shared<BoxFuture<'static, String>>,
    failures: Backoff,
}

impl Hands<'_> {
    /// Processes a message to its end. Never under a `select!`: a message in hand is finished.
    async fn settle(
        &mut self,
        delivery: Delivery,
        stopping: &mut watch::Receiver<bool>,
    ) -> Result<(), Lost> {
        self.count.send_modify(|count| count.received += 1);
        let outcome = self.processor.process(&delivery, self.lost.clone()).await?;
        self.count.send_modify(|count| match outcome {
            Outcome::Acked => count.acked += 1,
            Outcome::Rejected => count.rejected += 1,
            Outcome::Requeued => count.requeued += 1,
        });
        match outcome {
            Outcome::Requeued => {
                // The message comes back at once. Without a wait, a database that
                // is down would keep both of us and the broker busy.
                pause(self.failures.next(), stopping).await;
            }
            Outcome::Acked | Outcome::Rejected => self.failures.reset(),
        }
        Ok(())
    }

    /// Settles what comes until the queue has nothing more for us.
    ///
    /// The broker says how many messages wait. It counts those no more that it has
    /// already handed to this channel; they arrive before its answer to the next
    /// question on the channel. So it must have said "none" twice, with nothing in between.
    async fn settle_all(
        &mut self,
        channel: &Channel,
        queue: &ShortString,
        stopping: &mut watch::Receiver<bool>,
    ) -> Result<(), Lost> {
        let mut quiet = 0;
        while quiet < 2 && !is_stopped(stopping) {
            let passive = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            let asked = channel.queue_declare(queue.clone(), passive, FieldTable::default());
            let waiting = tokio::select! {
                biased;
                answer = asked => answer?.message_count(),
                reason = self.lost.clone() => return Err(Lost::Connection(reason)),
            };
            let mut came = waiting > 0;
            while let Some(delivery) = self.deliveries.next().now_or_never() {
                came = true;
                self.settle(delivery.ok_or(Lost::Cancelled)??, stopping)
                    .await?;
            }
            quiet = if came { 0 } else { quiet + 1 };
        }
        Ok(())
    }
}

/// Done when the connection is lost; says why. It does not keep the connection alive.
fn lost(connection: &Connection) -> BoxFuture<'static, String> {
    // Events are heard from here on: what happened before shows in the status only.
    let events = connection.events_listener();
    if !connection.status().connected() {
        return async { "it was closed at once".to_owned() }.boxed();
    }
    until_lost(events).boxed()
}

async fn until_lost(events: impl Stream<Item = Event>) -> String {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        if let Event::Error(error) = event {
            return error.to_string();
        }
    }
    "it was closed".to_owned()
}

fn is_stopped(stopping: &watch::Receiver<bool>) -> bool {
    // No sender means that the `Consumer` is gone, which is a stop as well.
    *stopping.borrow() || stopping.has_changed().is_err()
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Waits, but not beyond a stop.
async fn pause(wait: Duration, stopping: &mut watch::Receiver<bool>) {
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = stopped(stopping) => {}
    }
}

/// 100 ms, doubled with each failure in a row up to 5 s.
#[derive(Debug)]
struct Backoff {
    wait: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { wait: FIRST_WAIT }
    }
}

impl Backoff {
    fn next(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(LONGEST_WAIT);
        wait
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_limit() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next().as_millis(), 100);
    }

    #[test]
    fn a_queue_needs_a_name_that_amqp_can_send() {
        for queue in [String::new(), "q".repeat(256)] {
            let config = Config {
                queue,
                ..Config::default()
            };
            assert!(matches!(Source::new(&config), Err(Error::Queue)));
        }
    }
}
