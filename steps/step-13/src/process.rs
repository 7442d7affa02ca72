//! Step 13, The other side of the queue. One message: its span, the work, and what the broker is told of it.

use std::{sync::Arc, thread};

use lapin::{
    message::Delivery,
    options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions},
};
use members::{Members, QueryError};
use opentelemetry::{
    Context, KeyValue,
    context::FutureExt,
    propagation::TextMapPropagator,
    trace::{Link, SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_sdk::trace::SdkTracer;
use opentelemetry_semantic_conventions::attribute;

use crate::{
    attributes::{self, Address, PROCESS},
    database,
    headers::Headers,
    message::{Malformed, Signup},
};

/// `error.type` of work that was given up, and of work that panicked. The conventions
/// name no words for them: these are the ones of this system.
const CANCELLED: &str = "cancelled";
const PANIC: &str = "panic";

/// Drops a message.
const DROP: BasicRejectOptions = BasicRejectOptions { requeue: false };

/// Puts a message back into the queue, this one alone.
const AGAIN: BasicNackOptions = BasicNackOptions {
    multiple: false,
    requeue: true,
};

/// What became of a message.
#[derive(Debug)]
pub enum Outcome {
    /// The work is done.
    Acked,
    /// It can't be understood, now or later: the broker is to drop it.
    Rejected(Malformed),
    /// The query failed: the broker is to hand it out again.
    Requeued(QueryError),
}

/// Why the broker does not know what became of a message. It will hand it out again.
#[derive(Debug, thiserror::Error)]
pub enum Unsettled {
    /// The client could not say it.
    #[error("{0}")]
    Broker(#[from] lapin::Error),
    /// The channel was gone.
    #[error("the channel was closed while the message was in hand")]
    Closed,
    /// The connection was gone; why.
    #[error("{0}")]
    Lost(String),
}

/// How a message ended.
pub type Settled = Result<Outcome, Unsettled>;

/// Why the work could not be done.
enum Failure {
    Malformed(Malformed),
    Query(QueryError),
}

/// Processes messages, each in a span of its own.
///
/// Tracer and propagator are handed in. The global ones would do, too, in a process
/// that is one service.
pub struct Processor {
    /// What a signup is looked up in.
    pub members: Members,
    /// Makes the spans.
    pub tracer: SdkTracer,
    /// Reads the context that a message brings.
    pub propagator: Arc<dyn TextMapPropagator + Send + Sync>,
    /// Where the messages come from.
    pub address: Address,
}

impl Processor {
    /// Does the work and settles the message; the span covers both.
    ///
    /// It starts here, not when the broker sent the message: time spent waiting for its
    /// turn is nobody's work. `lost` is done when the connection is lost.
    pub async fn process(
        &self,
        delivery: &Delivery,
        lost: impl Future<Output = String> + Send,
    ) -> Settled {
        let context = self.start_span(delivery);
        let _cut_short = CutShort(context.clone());
        // TODO 3: Do the work in `context`, by `with_context`, so that the query's span
        // finds its parent. The other half is in `end`, below.
        let settled = self.work_and_settle(delivery, lost).await;
        end(&context, &settled);
        settled
    }

    /// A span whose parent is the one that published the message, so that one trace tells
    /// the whole story; and with a link to it, as the conventions ask in any case.
    fn start_span(&self, delivery: &Delivery) -> Context {
        let headers = Headers(delivery.properties.headers().as_ref());
        // TODO 2: The parent is what the propagator extracts from `headers`
        // (`extract_with_context`, from an empty context on). Start a span under it
        // (`span_builder`, `start_with_context`): name `process <destination>` (`PROCESS`,
        // `Address::destination`), kind CONSUMER, attributes (`of_delivery`), and a link to
        // the parent's span (`with_links`, which leaves it out by itself if there is none;
        // `Link::with_context(parent.span().span_context().clone())`).
        // Answer the parent's context with the new span in it.
        Context::new()
    }

    async fn work_and_settle(
        &self,
        delivery: &Delivery,
        lost: impl Future<Output = String> + Send,
    ) -> Settled {
        let id = delivery.properties.message_id();
        let message_id = id.as_ref().map(|id| id.as_str());
        // TODO 4: Do the work first, and tell the broker of it then, in each of the three
        // arms by `sent(…, lost).await?`: this ack in the first, a `reject` (`DROP`) in the
        // second, a `nack` (`AGAIN`) in the third. Each before its log line.
        sent(delivery.ack(BasicAckOptions::default()), lost).await?;
        match self.work(delivery, message_id).await {
            Ok(signup) => {
                // Two clocks: the message may seem to come from the future.
                let age = signup.at.elapsed().unwrap_or_default();
                tracing::info!(message_id, route = signup.route, ?age, "processed");
                Ok(Outcome::Acked)
            }
            Err(Failure::Malformed(reason)) => {
                tracing::warn!(message_id, %reason, "rejected");
                Ok(Outcome::Rejected(reason))
            }
            Err(Failure::Query(error)) => {
                tracing::error!(message_id, %error, "requeued");
                Ok(Outcome::Requeued(error))
            }
        }
    }

    async fn work(&self, delivery: &Delivery, message_id: Option<&str>) -> Result<Signup, Failure> {
        tracing::info!(message_id, "received");
        let signup = Signup::parse(&delivery.data).map_err(Failure::Malformed)?;
        let members = database::select(&self.members, &self.tracer)
            .await
            .map_err(Failure::Query)?;
        tracing::debug!(message_id, members = members.len(), "looked up");
        Ok(signup)
    }
}

/// Says how it went.
fn end(context: &Context, settled: &Settled) {
    let span = context.span();
    // TODO 3: If `attributes::error_of(settled)` is `Some((error_type, description))`, set
    // `attribute::ERROR_TYPE`, and the status `Status::error(description)`.
    span.end();
}

/// Ends the span of this context if nobody else has, and says that it was cut short.
///
/// For a future that may be dropped while it waits: of what stands after its `.await`
/// nothing happens then, but what it holds is dropped.
#[must_use = "dropped at once, it says that the work was cut short before it began"]
struct CutShort(Context);

impl Drop for CutShort {
    fn drop(&mut self) {
        let span = self.0.span();
        // A span that has ended records nothing any more.
        if span.is_recording() {
            // A panic drops what a function holds, too.
            let error_type = if thread::panicking() {
                PANIC
            } else {
                CANCELLED
            };
            span.set_attribute(KeyValue::new(attribute::ERROR_TYPE, error_type));
            // Without a description: it would only repeat the type.
            span.set_status(Status::error(""));
            span.end();
        }
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
