//! Requests in: the SERVER span of each request.

use axum::{extract::Request, middleware::Next, response::Response};
use opentelemetry::{
    Context, KeyValue,
    context::FutureExt,
    global,
    trace::{SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_semantic_conventions::attribute;

use crate::{attributes, cut_short::CutShort, telemetry};

// ANCHOR: trace
/// Middleware: answers the request in a span of its own, which is the current one
/// for all that the handler does.
///
/// The span ends when the handler has answered, before the body is sent; or when
/// nobody waits for the answer any more.
pub async fn trace(request: Request, next: Next) -> Response {
    // From an empty context: whatever is current on this thread is not the request's parent.
    let parent = global::get_text_map_propagator(|propagator| {
        propagator.extract_with_context(&Context::new(), &HeaderExtractor(request.headers()))
    });
    let tracer = telemetry::tracer();
    let span = tracer
        .span_builder(name(&request))
        .with_kind(SpanKind::Server)
        .with_attributes(attributes::of_request(&request))
        .start_with_context(tracer, &parent);
    let context = parent.with_span(span);
    // If the caller hangs up, this function goes no further than the `.await`.
    let _cut_short = CutShort(context.clone());
    // `with_context`, not `attach`: this task waits, and others run on its thread meanwhile.
    let response = next.run(request).with_context(context.clone()).await;
    end(&context, &response);
    response
}
// ANCHOR_END: trace

/// `{method} {route}`, or `{method}` alone. A path can be anything: as a name it
/// would make a new kind of span of every typing error.
fn name(request: &Request) -> String {
    let method = attributes::method_name(request.method().as_str());
    match attributes::route(request) {
        Some(route) => format!("{method} {route}"),
        None => method.to_owned(),
    }
}

/// Says how it went. A 4xx is the caller's error: the status stays unset.
fn end(context: &Context, response: &Response) {
    let span = context.span();
    let status = response.status();
    span.set_attribute(KeyValue::new(
        attribute::HTTP_RESPONSE_STATUS_CODE,
        i64::from(status.as_u16()),
    ));
    if status.is_server_error() {
        let error_type = status.as_str().to_owned();
        span.set_attribute(KeyValue::new(attribute::ERROR_TYPE, error_type));
        // Without a description: it would only repeat the number.
        span.set_status(Status::error(""));
    }
    span.end();
}
