//! The query for the members, and its span.

use members::{Member, Members, QUERY_SUMMARY, QueryError};
use opentelemetry::{
    Context,
    context::FutureExt,
    trace::{SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_sdk::trace::SdkTracer;

use crate::attributes;

// ANCHOR: select
/// All members, in a CLIENT span under the current one.
pub async fn select(members: &Members, tracer: &SdkTracer) -> Result<Vec<Member>, QueryError> {
    let span = tracer
        .span_builder(QUERY_SUMMARY)
        .with_kind(SpanKind::Client)
        .with_attributes(members.attributes().to_vec())
        .start(tracer);
    let context = Context::current_with_span(span);
    let found = members.query().with_context(context.clone()).await;
    let span = context.span();
    if let Err(error) = &found {
        span.set_attributes(attributes::of_query_error(error));
        span.set_status(Status::error(error.message().to_owned()));
    }
    span.end();
    found
}
// ANCHOR_END: select
