//! One message: its CONSUMER span, the work, the ack.
//!
//! Semantic conventions, "Messaging spans" and "RabbitMQ" (Development: names may
//! still change).

use std::sync::Arc;

use lapin::ErrorKind;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};
use lapin::protocol::AMQPErrorKind;
use members::{Members, QueryError};
use opentelemetry::context::FutureExt;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Link, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;
use opentelemetry_semantic_conventions::attribute;

use crate::Telemetry;
use crate::headers::Headers;
use crate::message::{Malformed, Signup};

/// The operation, as name and as type, and the first word of the span's name.
const PROCESS: &str = "process";

/// What the spans say about the queue and its broker.
pub(crate) struct Address {
    pub(crate) queue: String,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Acked,
    Rejected,
    Requeued,
}

/// Why the work could not be done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// Why the broker does not know what became of a message. It will hand it out again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsettled {
    #[error("{0}")]
    Broker(#[from] lapin::Error),
    #[error("the channel was closed while the message was in hand")]
    Closed,
    #[error("{0}")]
    Lost(String),
}

impl Unsettled {
    /// A low-cardinality name: the broker's own if it gave a reason, such as `connection-forced`.
    fn error_type(&self) -> String {
        let error = match self {
            Self::Broker(error) => error,
            Self::Closed => return "channel_closed".to_owned(),
            Self::Lost(_) => return "connection_closed".to_owned(),
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

/// Processes messages, each in a span of its own.
pub(crate) struct Processor {
    members: Members,
    tracer: SdkTracer,
    propagator: Arc<dyn TextMapPropagator + Send + Sync>,
    address: Address,
}

impl Processor {
    pub(crate) fn new(members: Members, telemetry: Telemetry, address: Address) -> Self {
        Self {
            members,
            tracer: telemetry.tracer(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")),
            propagator: telemetry.propagator,
            address,
        }
    }

    /// Does the work and settles the message; the span covers both.
    ///
    /// The span starts here, not when the broker sent the message: time spent in the
    /// prefetch buffer is nobody's work. `lost` is done when the connection is lost.
    pub(crate) async fn process(
        &self,
        delivery: &Delivery,
        lost: impl Future<Output = String> + Send,
    ) -> Result<Outcome, Unsettled> {
        let open = OpenSpan(Some(self.start_span(delivery)));
        let settled = self
            .work_and_settle(delivery, lost)
            .with_context(open.context())
            .await;
        open.end(&settled);
        settled.map(|(outcome, _)| outcome)
    }

    /// The publisher's span is the parent, so that one trace tells the whole story; and
    /// it is linked, as the conventions ask in any case. A header that is missing or
    /// invalid makes neither: the span is then the root of a new trace.
    fn start_span(&self, delivery: &Delivery) -> Context {
        let headers = Headers(delivery.properties.headers().as_ref());
        let parent = self
            .propagator
            .extract_with_context(&Context::new(), &headers);
        let creation = parent.span().span_context().clone();
        let mut builder = self
            .tracer
            .span_builder(format!("{PROCESS} {}", self.destination(delivery)))
            .with_kind(SpanKind::Consumer)
            .with_attributes(self.attributes(delivery));
        if creation.is_valid() {
            builder = builder.with_links(vec![Link::with_context(creation)]);
        }
        let span = builder.start_with_context(&self.tracer, &parent);
        parent.with_span(span)
    }

    fn attributes(&self, delivery: &Delivery) -> Vec<KeyValue> {
        let mut attributes = vec![
            KeyValue::new(attribute::MESSAGING_SYSTEM, "rabbitmq"),
            KeyValue::new(attribute::MESSAGING_OPERATION_NAME, PROCESS),
            KeyValue::new(attribute::MESSAGING_OPERATION_TYPE, PROCESS),
            KeyValue::new(
                attribute::MESSAGING_DESTINATION_NAME,
                self.destination(delivery),
            ),
            KeyValue::new(
                attribute::MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG,
                // A channel's tags count from 1: the limit is out of reach.
                i64::try_from(delivery.delivery_tag).unwrap_or(i64::MAX),
            ),
            KeyValue::new(attribute::SERVER_ADDRESS, self.address.host.clone()),
            KeyValue::new(attribute::SERVER_PORT, i64::from(self.address.port)),
        ];
        let optional = [
            (
                attribute::MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY,
                Some(&delivery.routing_key),
            ),
            (
                attribute::MESSAGING_MESSAGE_ID,
                delivery.properties.message_id().as_ref(),
            ),
            (
                attribute::MESSAGING_MESSAGE_CONVERSATION_ID,
                delivery.properties.correlation_id().as_ref(),
            ),
        ];
        for (key, value) in optional {
            if let Some(value) = value.filter(|value| !value.as_str().is_empty()) {
                attributes.push(KeyValue::new(key, value.as_str().to_owned()));
            }
        }
        attributes
    }

    fn destination(&self, delivery: &Delivery) -> String {
        destination(
            delivery.exchange.as_str(),
            delivery.routing_key.as_str(),
            &self.address.queue,
        )
    }

    /// Settles after the work: if this process dies in between, the broker hands the
    /// message out again.
    async fn work_and_settle(
        &self,
        delivery: &Delivery,
        lost: impl Future<Output = String> + Send,
    ) -> Result<(Outcome, Option<Failure>), Unsettled> {
        let message_id = delivery
            .properties
            .message_id()
            .as_ref()
            .map(|id| id.as_str());
        match self.work(delivery).await {
            Ok(signup) => {
                sent(delivery.ack(BasicAckOptions::default()), lost).await?;
                // Two clocks: the message may seem to come from the future.
                let age = signup.at.elapsed().unwrap_or_default();
                tracing::info!(message_id, route = signup.route, ?age, "processed");
                Ok((Outcome::Acked, None))
            }
            Err(Failure::Malformed(reason)) => {
                // It would fail again each time: no requeue.
                let for_good = BasicRejectOptions { requeue: false };
                sent(delivery.reject(for_good), lost).await?;
                tracing::warn!(message_id, %reason, "message rejected");
                Ok((Outcome::Rejected, Some(reason.into())))
            }
            Err(Failure::Query(reason)) => {
                let requeue = BasicNackOptions {
                    requeue: true,
                    ..BasicNackOptions::default()
                };
                sent(delivery.nack(requeue), lost).await?;
                tracing::error!(message_id, %reason, "message requeued");
                Ok((Outcome::Requeued, Some(reason.into())))
            }
        }
    }

    async fn work(&self, delivery: &Delivery) -> Result<Signup, Failure> {
        let signup = Signup::parse(&delivery.data)?;
        self.members.all(&self.tracer, &Context::current()).await?;
        Ok(signup)
    }
}

/// Waits until `settling` is on its way to the broker.
///
/// On a channel that is closed by now nothing is sent, and that is no error to the
/// client. And a connection can break in a moment in which the client never answers:
/// without `lost` the consumer would wait for it forever.
async fn sent(
    settling: impl Future<Output = lapin::Result<bool>>,
    lost: impl Future<Output = String>,
) -> Result<(), Unsettled> {
    tokio::select! {
        biased;
        was_sent = settling => if was_sent? { Ok(()) } else { Err(Unsettled::Closed) },
        reason = lost => Err(Unsettled::Lost(reason)),
    }
}

/// `{exchange}:{routing key}:{queue}` without the empty parts, and without the queue if
/// it is the routing key: `signups` for the default exchange.
fn destination(exchange: &str, routing_key: &str, queue: &str) -> String {
    let queue = if queue == routing_key { "" } else { queue };
    [exchange, routing_key, queue]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(":")
}

/// A span that ends whatever becomes of the message: a consumer that is aborted
/// drops the future at its await, and nothing after it runs.
struct OpenSpan(Option<Context>);

impl OpenSpan {
    fn context(&self) -> Context {
        self.0.clone().unwrap_or_default()
    }

    fn end(mut self, settled: &Result<(Outcome, Option<Failure>), Unsettled>) {
        let Some(context) = self.0.take() else {
            return;
        };
        let span = context.span();
        let failed = match settled {
            Ok((_, Some(Failure::Query(error)))) => {
                Some((error.error_type().to_owned(), error.message().to_owned()))
            }
            // Rejected as planned: that is what the handler is there for, not an error.
            Ok((_, Some(Failure::Malformed(_)) | None)) => None,
            // The work was done, but the broker does not know and will hand it out again.
            Err(error) => Some((error.error_type(), error.to_string())),
        };
        if let Some((error_type, description)) = failed {
            span.set_attribute(KeyValue::new(attribute::ERROR_TYPE, error_type));
            span.set_status(Status::error(description));
        }
        span.end();
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        if let Some(context) = self.0.take() {
            let span = context.span();
            span.set_attribute(KeyValue::new(attribute::ERROR_TYPE, "cancelled"));
            span.set_status(Status::error(""));
            span.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_leaves_out_what_says_nothing() {
        assert_eq!(destination("", "signups", "signups"), "signups");
        assert_eq!(destination("", "", "signups"), "signups");
        assert_eq!(
            destination("events", "signups", "signups"),
            "events:signups"
        );
        assert_eq!(
            destination("events", "new", "signups"),
            "events:new:signups"
        );
    }
}
