//! The connection to the broker: how it is made, and how its end is noticed.

use std::{future, time::Duration};

use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, Shared},
};
use lapin::{
    Channel, Connection, ConnectionProperties, Event,
    options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
    uri::AMQPUri,
};

/// How long the broker may take to be connected to and to confirm the consumer.
pub const SETUP: Duration = Duration::from_secs(10);

/// The first wait of a [`Backoff`].
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The longest wait of a [`Backoff`].
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Where the messages come from.
pub struct Source {
    /// The broker, user and virtual host.
    pub uri: AMQPUri,
    /// The durable queue to consume; made if it is not there.
    pub queue: ShortString,
    /// How many messages the broker hands out ahead of their ack; 0 is no limit.
    pub prefetch: u16,
}

/// A connection on which messages come.
pub struct Open {
    /// To be closed, in the end.
    pub connection: Connection,
    /// The only channel.
    pub channel: Channel,
    /// The messages.
    pub deliveries: lapin::Consumer,
    /// Done when the connection is lost; says why.
    pub lost: Shared<BoxFuture<'static, String>>,
}

impl Source {
    /// Connects and begins to consume.
    pub async fn open(&self) -> Result<Open, lapin::Error> {
        let properties = ConnectionProperties::default().with_connection_name("consumer".into());
        let connection = Connection::connect_uri(self.uri.clone(), properties).await?;
        let channel = connection.create_channel().await?;
        channel
            .basic_qos(self.prefetch, BasicQosOptions::default())
            .await?;
        // In the same words as tier1: the broker refuses a queue that is there with others.
        channel
            .queue_declare(
                self.queue.clone(),
                QueueDeclareOptions::durable(),
                FieldTable::default(),
            )
            .await?;
        let deliveries = channel
            .basic_consume(
                self.queue.clone(),
                ShortString::default(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        Ok(Open {
            lost: lost(&connection).shared(),
            connection,
            channel,
            deliveries,
        })
    }
}

/// Done when the connection is lost; says why. It does not keep the connection alive.
fn lost(connection: &Connection) -> BoxFuture<'static, String> {
    // Events are heard from here on: what happened before shows in the status only.
    let mut events = connection.events_listener();
    if !connection.status().connected() {
        return future::ready("it was closed at once".to_owned()).boxed();
    }
    async move {
        while let Some(event) = events.next().await {
            if let Event::Error(error) = event {
                return error.to_string();
            }
        }
        "it was closed".to_owned()
    }
    .boxed()
}

/// 100 ms, doubled with each failure in a row up to 5 s.
#[derive(Debug)]
pub struct Backoff {
    wait: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { wait: FIRST_WAIT }
    }
}

impl Backoff {
    /// The wait after one more failure.
    pub fn next(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(LONGEST_WAIT);
        wait
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}
