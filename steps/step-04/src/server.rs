//! Step 04, Requests in. The SERVER span of each request.

use axum::{extract::Request, middleware::Next, response::Response};
use opentelemetry::{
    Context, KeyValue,
    context::FutureExt,
    global,
    trace::{SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_semantic_conventions::attribute;

use crate::{attributes, telemetry};

/// Middleware: answers the request in a span of its own, which is the current one
/// for all that the handler does.
///
/// The span ends when the handler has answered, before the body is sent.
pub async fn trace(request: Request, next: Next) -> Response {
    // TODO 2: The caller's context: in `global::get_text_map_propagator(|propagator| …)`
    // call `propagator.extract_with_context(&Context::new(), …)` with
    // `&HeaderExtractor(request.headers())`.
    //
    // TODO 3: The span: `let tracer = telemetry::tracer()` has a `span_builder(name)`. Give
    // it the kind (`with_kind(SpanKind::Server)`) and what is known by now
    // (`with_attributes(attributes::of_request(&request))`), and start it under the caller's
    // context (`start_with_context(tracer, &parent)`). `parent.with_span(span)` makes
    // the context in which it is the current span.
    //
    // TODO 4: Run the handler in that context: `next.run(request).with_context(…)`, of
    // `FutureExt`. Give it a clone, which is cheap: `end` needs the context, too. A guard
    // (`attach()`) across an await would stay on a thread that others use meanwhile.
    let response = next.run(request).await;
    // TODO 6: Call `end`.
    response
}

/// `{method} {route}`, or `{method}` alone if no route matched.
fn name(request: &Request) -> String {
    // TODO 5: Put `attributes::method_name(…)` and `attributes::route(…)` together. The
    // path must not stand in for the route: it can be anything.
    String::new()
}

/// Says how it went. A 4xx is the caller's error: the status stays unset.
fn end(context: &Context, response: &Response) {
    let span = context.span();
    // TODO 6: Set `attribute::HTTP_RESPONSE_STATUS_CODE` to the number, an i64. If it
    // `is_server_error()`, set `attribute::ERROR_TYPE` to the number as text
    // (`status.as_str()`), and the status to `Status::error("")`: a description would only
    // repeat the number.
    span.end();
}
