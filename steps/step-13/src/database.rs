//! Step 13, The other side of the queue. The query for the members, and its span.

use members::{Member, Members, QUERY_SUMMARY, QueryError};
use opentelemetry::{
    Context,
    context::FutureExt,
    trace::{SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_sdk::trace::SdkTracer;

use crate::attributes;

/// All members, in a CLIENT span under the current one.
pub async fn select(members: &Members, tracer: &SdkTracer) -> Result<Vec<Member>, QueryError> {
    // TODO 5: Query in a span `QUERY_SUMMARY` of kind CLIENT, under the current span and
    // current itself, with the attributes `members.attributes().to_vec()`. A failure adds
    // `attributes::of_query_error(error)` and the status Error with
    // `error.message().to_owned()`. Then end the span.
    members.query().await
}
