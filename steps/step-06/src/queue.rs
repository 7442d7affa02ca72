//! Step 06, Messages out. Messages to the queue `signups` on RabbitMQ.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind, Event,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    protocol::AMQPErrorKind,
    types::{AMQPValue, FieldTable},
    uri::AMQPUri,
};
use opentelemetry::{
    Context, KeyValue,
    context::FutureExt,
    global,
    propagation::Injector,
    trace::{SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_semantic_conventions::attribute;
use tokio::{
    sync::{Semaphore, watch},
    task::AbortHandle,
};
use uuid::Uuid;

use crate::{
    attributes,
    error::AppError,
    routes::{Action, App},
    telemetry,
};

/// The queue's name, and the routing key that leads there from the default exchange.
const QUEUE: &str = "signups";

/// `delivery_mode` of a message that is to outlive a restart of the broker.
const PERSISTENT: u8 = 2;

/// How many messages may wait for their confirms at a time. Each has a channel of
/// its own, and RabbitMQ grants 2047 to a connection.
const MAX_IN_FLIGHT: usize = 256;

/// AMQP's reply code of a close that isn't an error (0-9-1 specification, 1.5.2.10).
const REPLY_SUCCESS: u16 = 200;

/// A connection that says nothing for two of these is dead, in seconds. RabbitMQ
/// proposes 60: two minutes of timeouts before anyone connects anew.
const HEARTBEAT_S: u16 = 10;

/// How long to wait for a connection, and between attempts at one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often the connection is looked at while nothing is heard of it.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Sends one message. Answers the part for the response.
pub async fn do_queue(app: &App, action: Action) -> Result<String, AppError> {
    app.sometimes_slow().await;
    let body = pure_queue_proc(action);
    app.queue.publish(&body).await?;
    Ok("do_queue".to_owned())
}

/// The message's body: what was asked for, and when.
fn pure_queue_proc(action: Action) -> String {
    tracing::info!("telling how well we do at signing members up");
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    format!("{action} {}.{:06}", now.as_secs(), now.subsec_micros())
}

/// Writes a context into the headers of a message.
struct MessageHeaders<'a>(&'a mut FieldTable);

impl Injector for MessageHeaders<'_> {
    fn set(&mut self, key: &str, value: String) {
        // TODO 1: Insert `AMQPValue::LongString(value.into())` under `key.into()`. A long
        // string is text; of a short one RabbitMQ reads a number, and closes the connection.
    }
}

/// Says how it went: not whether the message was written to a socket, but whether
/// the broker has it.
fn end(context: &Context, sent: &Result<(), QueueError>) {
    let span = context.span();
    // TODO 5: An error has `attribute::ERROR_TYPE`, `error.error_type()`, and the status
    // `Status::error(…)` with its text: here it says more than the type.
    span.end();
}

/// The way to the queue: one connection, made anew whenever it is lost.
pub struct Queue {
    /// Where the broker is: host and port.
    broker: (String, u16),
    link: watch::Receiver<Option<Arc<Link>>>,
    keeper: AbortHandle,
    in_flight: Semaphore,
    timeout: Duration,
}

/// Why a message may not have reached the queue.
#[derive(Debug)]
pub enum QueueError {
    /// No connection, or no confirm, within QUEUE_TIMEOUT_MS.
    Timeout,
    /// The broker refused the message.
    Nack,
    /// The broker gave the message back: there is no such queue.
    Returned,
    /// The connection or the channel broke before the confirm.
    Lost(lapin::Error),
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => write!(f, "the queue did not confirm in time"),
            Self::Nack => write!(f, "the queue refused the message"),
            Self::Returned => write!(f, "the message was returned: no queue {QUEUE}"),
            Self::Lost(error) => write!(f, "the queue was lost: {error}"),
        }
    }
}

impl std::error::Error for QueueError {}

impl QueueError {
    /// `error.type`: one of a few words. The broker's own if it gave a reason, such as
    /// `connection-forced` (AMQP 0-9-1 specification, 1.5.2.10).
    fn error_type(&self) -> String {
        let error = match self {
            Self::Timeout => return "timeout".to_owned(),
            Self::Nack => return "nack".to_owned(),
            Self::Returned => return "returned".to_owned(),
            Self::Lost(error) => error,
        };
        match error.kind() {
            ErrorKind::ProtocolError(error) => match error.kind() {
                AMQPErrorKind::Soft(name) => name.to_string().to_lowercase(),
                AMQPErrorKind::Hard(name) => name.to_string().to_lowercase(),
            },
            ErrorKind::MissingHeartbeatError => "heartbeat".to_owned(),
            ErrorKind::InvalidChannel(_) | ErrorKind::InvalidChannelState(..) => {
                "channel_closed".to_owned()
            }
            ErrorKind::IOError(_) | ErrorKind::InvalidConnectionState(_) => {
                "connection_closed".to_owned()
            }
            _ => "_OTHER".to_owned(),
        }
    }
}

impl From<lapin::Error> for QueueError {
    fn from(error: lapin::Error) -> Self {
        Self::Lost(error)
    }
}

impl Queue {
    /// Starts to connect, in the background, and keeps at it as long as the queue lives.
    /// Until it succeeds, messages wait for it: `timeout` each at the most.
    pub fn connect(mut url: AMQPUri, timeout: Duration) -> Self {
        url.query.heartbeat.get_or_insert(HEARTBEAT_S);
        let broker = (url.authority.host.clone(), url.authority.port);
        let (sender, link) = watch::channel(None);
        let keeper = tokio::spawn(keep_connected(url, sender));
        Self {
            broker,
            link,
            keeper: keeper.abort_handle(),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            timeout,
        }
    }

    /// Sends one message and waits until the broker says that it has it.
    ///
    /// # Errors
    /// After an error the message may be in the queue nevertheless: what was lost
    /// can have been the confirm.
    pub async fn publish(&self, body: &str) -> Result<(), QueueError> {
        let message_id = Uuid::new_v4().to_string();
        // TODO 2: Start a span as in `http.rs`, called `publish signups` (`QUEUE` is
        // `signups`), of kind `SpanKind::Producer`, with
        // `attributes::of_message(&self.broker, QUEUE, &message_id)`; make its context.
        //
        // TODO 3: Make headers, `FieldTable::default()`, and inject that context into them by
        // `&mut MessageHeaders(&mut headers)`. Add them to the properties: `with_headers`.
        let properties = BasicProperties::default()
            .with_message_id(message_id.as_str().into())
            .with_delivery_mode(PERSISTENT);
        // TODO 4: The span stays open until the broker has confirmed: wait in its context
        // (`with_context` on the timeout), then call `end`.
        tokio::time::timeout(self.timeout, self.send(body, &message_id, properties))
            .await
            .unwrap_or(Err(QueueError::Timeout))
    }

    async fn send(
        &self,
        body: &str,
        message_id: &str,
        properties: BasicProperties,
    ) -> Result<(), QueueError> {
        let _permit = self.in_flight.acquire().await;
        let link = self.link().await;
        let channel = link.channel().await?;
        let options = BasicPublishOptions {
            mandatory: true,
            ..Default::default()
        };
        let confirm = channel
            .basic_publish(
                "".into(),
                QUEUE.into(),
                options,
                body.as_bytes(),
                properties,
            )
            .await?;
        match confirm.await? {
            Confirmation::Ack(None) => {
                link.put_back(channel);
                Ok(())
            }
            Confirmation::Ack(Some(returned))
                if returned
                    .properties
                    .message_id()
                    .as_ref()
                    .is_some_and(|id| id.as_str() == message_id) =>
            {
                // Channels declare the queue when they are opened: with new
                // ones the next message finds it again.
                link.drop_idle();
                Err(QueueError::Returned)
            }
            _ => Err(QueueError::Nack),
        }
    }

    /// Takes leave of the broker, which otherwise reports a client that vanished,
    /// and waits for its answer.
    pub async fn close(&self) {
        // First, so that nobody takes the end for a loss and connects anew.
        self.keeper.abort();
        let link = self.link.borrow().clone();
        if let Some(link) = link {
            // A connection that is lost already is as good as closed.
            let _ = link
                .connection
                .close(REPLY_SUCCESS, "tier1 stops".into())
                .await;
        }
    }

    /// The connection, as soon as there is one.
    async fn link(&self) -> Arc<Link> {
        let mut link = self.link.clone();
        loop {
            if let Some(link) = link.borrow_and_update().clone() {
                return link;
            }
            if link.changed().await.is_err() {
                // Only when the runtime is shutting down: the caller's timeout ends the wait.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// A connection and its channels that wait for a message.
///
/// A channel carries one message at a time. lapin hands a message that the broker
/// returned to whichever confirm comes next on the channel; with two messages
/// under way on it, the wrong one would be taken for returned.
struct Link {
    connection: Connection,
    idle: Mutex<Vec<Channel>>,
}

impl Link {
    async fn open(url: AMQPUri) -> Result<Self, lapin::Error> {
        let properties = ConnectionProperties::default().with_connection_name("tier1".into());
        Ok(Self {
            connection: Connection::connect_uri(url, properties).await?,
            idle: Mutex::default(),
        })
    }

    /// A channel in confirm mode, on a connection where the queue exists. If the
    /// caller doesn't put it back, it is closed.
    async fn channel(&self) -> Result<Channel, lapin::Error> {
        if let Some(channel) = self.idle().pop() {
            return Ok(channel);
        }
        let channel = self.connection.create_channel().await?;
        // The consumer declares the queue in the same words. If they differed,
        // the second to come would be refused.
        channel
            .queue_declare(
                QUEUE.into(),
                QueueDeclareOptions::durable(),
                FieldTable::default(),
            )
            .await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(channel)
    }

    fn put_back(&self, channel: Channel) {
        self.idle().push(channel);
    }

    fn drop_idle(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Channel>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects, offers the connection to those who wait for it, and connects anew
/// when it is lost, after a pause, which doubles with each failure.
async fn keep_connected(url: AMQPUri, offer: watch::Sender<Option<Arc<Link>>>) {
    let mut pause = FIRST_PAUSE;
    // The receiver goes with the queue: then there is nobody to connect for.
    while !offer.is_closed() {
        match tokio::time::timeout(CONNECT_TIMEOUT, Link::open(url.clone())).await {
            Ok(Ok(link)) => {
                tracing::info!("connected to the queue");
                pause = FIRST_PAUSE;
                let link = Arc::new(link);
                let lost = lost(&link.connection);
                offer.send_replace(Some(link.clone()));
                let reason = lost.await;
                offer.send_replace(None);
                tracing::warn!("the queue was lost: {reason}");
            }
            Ok(Err(error)) => tracing::warn!("no connection to the queue: {error}"),
            Err(_) => tracing::warn!("no connection to the queue within {CONNECT_TIMEOUT:?}"),
        }
        // Half of it is chance, so that many services don't come back as one.
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Done when the connection is lost; says why.
fn lost(connection: &Connection) -> impl Future<Output = String> {
    let mut events = connection.events_listener();
    // Events are heard from here on: what happened before shows in the status only.
    let status = connection.status().clone();
    async move {
        let mut reason = None;
        // An error may be that of one channel. And of some ways to close a connection no
        // event tells.
        while status.connected() {
            reason = match tokio::time::timeout(LOOK_PAUSE, events.next()).await {
                Ok(Some(Event::Error(error))) => Some(error.to_string()),
                Ok(None) => break,
                _ => None,
            };
        }
        reason.unwrap_or_else(|| "it was closed".to_owned())
    }
}
