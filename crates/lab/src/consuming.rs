//! A consumer under test: what is published to it, and what its database does.

use std::{fs::File, io, path::PathBuf, time::Duration};

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use opentelemetry::{
    Context, KeyValue,
    propagation::TextMapPropagator,
    trace::{SpanKind, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_semantic_conventions::attribute;
use rustix::fs::{FlockOperation, fcntl_lock};
use tempfile::TempDir;

use crate::{Lab, LabError, broker_choice::QUEUE};

/// AMQP's delivery mode of a message that outlives a restart.
const PERSISTENT: u8 = 2;

/// The value of a header, in one of the types that a publisher may give it.
#[derive(Clone, Copy, Debug)]
pub enum Header<'a> {
    /// A long string: what most write.
    Text(&'a str),
    /// A byte array.
    Bytes(&'a [u8]),
    /// A number of 16 bits. What other brokers mean as a short string has the same type
    /// byte, so that a consumer on RabbitMQ meets a number there, never a short string.
    Number(i16),
}

/// A message that a lab publishes in tier1's place.
#[derive(Clone, Debug)]
pub struct Outgoing {
    id: String,
    body: Vec<u8>,
    headers: Option<FieldTable>,
}

impl Outgoing {
    /// A signup with this `message_id`, without headers.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            body: b"fast 1732537000.25".to_vec(),
            headers: None,
        }
    }

    /// Another body.
    #[must_use]
    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// A header more.
    #[must_use]
    pub fn header(mut self, name: &str, value: Header<'_>) -> Self {
        let value = match value {
            Header::Text(text) => AMQPValue::LongString(text.into()),
            Header::Bytes(bytes) => AMQPValue::ByteArray(bytes.into()),
            Header::Number(number) => AMQPValue::ShortInt(number),
        };
        let headers = self.headers.get_or_insert_default();
        headers.insert(ShortString::from(name), value);
        self
    }

    fn properties(&self) -> BasicProperties {
        let properties = BasicProperties::default()
            .with_message_id(self.id.as_str().into())
            .with_delivery_mode(PERSISTENT);
        match &self.headers {
            Some(headers) => properties.with_headers(headers.clone()),
            None => properties,
        }
    }
}

impl Lab {
    /// Publishes a message as it is, and waits for the confirm. It takes its own way to
    /// the broker: a fault of the queue is the subject's alone.
    ///
    /// # Errors
    /// If the broker doesn't take it.
    pub fn publish(&self, message: &Outgoing) -> Result<(), LabError> {
        let no_broker = || LabError::part("the broker", "the lab was started without");
        let broker = self.broker.as_ref().ok_or_else(no_broker)?;
        self.block_on(broker.publish(&message.body, message.properties()))
    }

    /// Publishes a message in a span `publish signups` of tier1-service, whose context
    /// goes with it.
    ///
    /// # Errors
    /// As for [`Lab::publish`]; and if the process under test is no consumer.
    pub fn publish_in_span(&self, message: Outgoing) -> Result<(), LabError> {
        let no_span = || LabError::part("the publisher", "the subject is no consumer");
        let tracer = self.publisher.as_ref().ok_or_else(no_span)?.tracer("tier1");
        let address = self.queue_address();
        let span = tracer
            .span_builder(format!("publish {QUEUE}"))
            .with_kind(SpanKind::Producer)
            .with_attributes([
                KeyValue::new(attribute::MESSAGING_SYSTEM, "rabbitmq"),
                KeyValue::new(attribute::MESSAGING_OPERATION_NAME, "publish"),
                KeyValue::new(attribute::MESSAGING_OPERATION_TYPE, "send"),
                KeyValue::new(attribute::MESSAGING_DESTINATION_NAME, QUEUE),
                KeyValue::new(attribute::MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY, QUEUE),
                KeyValue::new(attribute::MESSAGING_MESSAGE_ID, message.id.clone()),
                KeyValue::new(attribute::SERVER_ADDRESS, address.ip().to_string()),
                KeyValue::new(attribute::SERVER_PORT, i64::from(address.port())),
            ])
            .start(&tracer);
        let context = Context::new().with_span(span);
        let mut carrier = std::collections::HashMap::<String, String>::new();
        consumer::W3cPropagator.inject_context(&context, &mut carrier);
        let message = carrier.iter().fold(message, |message, (name, text)| {
            message.header(name, Header::Text(text))
        });
        let published = self.publish(&message);
        context.span().end();
        published
    }

    /// Waits until the process under test has logged a line with all of `words` in it.
    ///
    /// # Errors
    /// If it doesn't within `deadline`.
    ///
    /// # Panics
    /// If none was started.
    pub fn wait_for_log(&self, words: &[&str], deadline: Duration) -> Result<(), LabError> {
        let what = format!("a log line with {}", words.join(" and "));
        let is_it = |line: &str| words.iter().all(|word| line.contains(word));
        self.wait_for_stdout(&what, deadline, |text| text.lines().any(is_it))
    }

    /// Waits until `found` holds for what the process under test has written on stdout.
    ///
    /// # Errors
    /// If it doesn't within `deadline`; `what` says what it was.
    ///
    /// # Panics
    /// If none was started.
    pub fn wait_for_stdout(
        &self,
        what: &str,
        deadline: Duration,
        found: impl Fn(&str) -> bool,
    ) -> Result<(), LabError> {
        let logged = self.subject().logged(what.to_owned(), deadline, found);
        self.block_on(logged)
    }

    /// Ends the process under test without asking it, as a crash does. Its last spans
    /// are lost.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self) -> Result<(), LabError> {
        match self.subject.take() {
            Some(subject) => Ok(self.block_on(subject.kill())?),
            None => Ok(()),
        }
    }

    /// Holds back every query of a consumer under test for as long as the answer lives,
    /// but for five seconds at most: then SQLite gives up, and the query fails.
    ///
    /// # Errors
    /// If the database can't be locked, or if the subject has none.
    pub fn lock_database(&self) -> Result<DatabaseLock, LabError> {
        self.database()?.lock()
    }

    /// Makes every further query of a consumer under test fail.
    ///
    /// # Errors
    /// If the database can't be written, or if the subject has none.
    pub fn break_database(&self) -> Result<(), LabError> {
        // The file that is open already: SQLite looks at its head before each query.
        Ok(std::fs::write(self.database()?.path(), [b'x'; 4096])?)
    }

    fn database(&self) -> Result<&Database, LabError> {
        let missing = || LabError::part("the database", "the subject is no consumer");
        self.database.as_ref().ok_or_else(missing)
    }
}

/// The database of a consumer under test: a file, so that it can be locked and broken
/// from outside. The consumer makes and fills it.
#[derive(Debug)]
pub(crate) struct Database(TempDir);

impl Database {
    pub(crate) fn new() -> io::Result<Self> {
        TempDir::with_prefix("otel-workbook-").map(Self)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("members.db")
    }

    /// As DATABASE_URL.
    pub(crate) fn url(&self) -> String {
        format!("sqlite://{}", self.path().display())
    }

    fn lock(&self) -> Result<DatabaseLock, LabError> {
        let file = File::options().write(true).open(self.path())?;
        // The whole file, in which SQLite locks some bytes.
        fcntl_lock(&file, FlockOperation::LockExclusive).map_err(io::Error::from)?;
        Ok(DatabaseLock(file))
    }
}

/// Keeps a database locked until it is dropped.
#[derive(Debug)]
pub struct DatabaseLock(#[expect(dead_code, reason = "closing it ends the lock")] File);
