//! Attributes by the semantic conventions: what is said about a message and about a
//! query, and in which words.

use lapin::{ErrorKind, message::Delivery, protocol::AMQPErrorKind};
use members::QueryError;
use opentelemetry::KeyValue;
use opentelemetry_semantic_conventions::attribute;

use crate::process::{Outcome, Settled, Unsettled};

/// The operation, as name and as type, and the first word of the span's name.
pub const PROCESS: &str = "process";

/// Where the messages come from: the queue, and host and port of its broker.
pub struct Address {
    /// The queue's name.
    pub queue: String,
    /// The broker's host.
    pub host: String,
    /// The broker's port.
    pub port: u16,
}

impl Address {
    /// `{exchange}:{routing key}:{queue}` without the empty parts, and without the queue
    /// if it is the routing key: `signups` for the default exchange (RabbitMQ, "Span name").
    pub fn destination(&self, delivery: &Delivery) -> String {
        let (exchange, routing_key) = (delivery.exchange.as_str(), delivery.routing_key.as_str());
        let queue = if self.queue == routing_key {
            ""
        } else {
            &self.queue
        };
        let parts = [exchange, routing_key, queue];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join(":")
    }
}

/// All that is known of a message when it is here: messaging spans, "RabbitMQ". These
/// conventions are in development: names may still change.
pub fn of_delivery(address: &Address, delivery: &Delivery) -> Vec<KeyValue> {
    let destination = address.destination(delivery);
    // A channel's tags count from 1: the limit is out of reach.
    let tag = i64::try_from(delivery.delivery_tag).unwrap_or(i64::MAX);
    let mut attributes = vec![
        KeyValue::new(attribute::MESSAGING_SYSTEM, "rabbitmq"),
        KeyValue::new(attribute::MESSAGING_OPERATION_NAME, PROCESS),
        KeyValue::new(attribute::MESSAGING_OPERATION_TYPE, PROCESS),
        KeyValue::new(attribute::MESSAGING_DESTINATION_NAME, destination),
        KeyValue::new(attribute::MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG, tag),
        KeyValue::new(attribute::SERVER_ADDRESS, address.host.clone()),
        KeyValue::new(attribute::SERVER_PORT, i64::from(address.port)),
    ];
    let properties = &delivery.properties;
    let optional = [
        (
            attribute::MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY,
            Some(&delivery.routing_key),
        ),
        (
            attribute::MESSAGING_MESSAGE_ID,
            properties.message_id().as_ref(),
        ),
        (
            attribute::MESSAGING_MESSAGE_CONVERSATION_ID,
            properties.correlation_id().as_ref(),
        ),
    ];
    for (key, value) in optional {
        if let Some(value) = value.filter(|value| !value.as_str().is_empty()) {
            attributes.push(KeyValue::new(key, value.as_str().to_owned()));
        }
    }
    attributes
}

/// What a failed query adds: database spans, "Common attributes".
pub fn of_query_error(error: &QueryError) -> Vec<KeyValue> {
    let error_type = error.error_type().to_owned();
    let mut attributes = vec![KeyValue::new(attribute::ERROR_TYPE, error_type)];
    // Only if the database has answered.
    if let Some(code) = error.status_code() {
        attributes.push(KeyValue::new(
            attribute::DB_RESPONSE_STATUS_CODE,
            code.to_owned(),
        ));
    }
    attributes
}

/// `error.type` and a text, if the message was not processed, or if the broker doesn't
/// know that it was.
pub fn error_of(settled: &Settled) -> Option<(String, String)> {
    match settled {
        Ok(Outcome::Acked) => None,
        Ok(Outcome::Rejected(reason)) => Some(("malformed".to_owned(), reason.to_string())),
        Ok(Outcome::Requeued(error)) => {
            Some((error.error_type().to_owned(), error.message().to_owned()))
        }
        Err(error) => Some((unsettled_type(error), error.to_string())),
    }
}

/// One of a few words; the broker's own if it gave a reason, such as `connection-forced`.
fn unsettled_type(error: &Unsettled) -> String {
    let error = match error {
        Unsettled::Broker(error) => error,
        Unsettled::Closed => return "channel_closed".to_owned(),
        Unsettled::Lost(_) => return "connection_closed".to_owned(),
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
