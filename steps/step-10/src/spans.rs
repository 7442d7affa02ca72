//! Spans of the service's own: one function, one span.

use opentelemetry::{
    Context, KeyValue,
    context::FutureExt,
    trace::{TraceContextExt, Tracer},
};

use crate::telemetry;

/// Waits for `work` in a span of its own, which is the current one for all that `work`
/// does, and ends with it.
///
/// A name is part of the program: made of data, each value would be a new kind of span.
/// What differs from one request to the next is said by attributes.
pub async fn in_span<T>(
    name: &'static str,
    attributes: impl IntoIterator<Item = KeyValue>,
    work: impl Future<Output = T>,
) -> T {
    let context = started(name, attributes);
    // Not by a guard: this task waits, and others run on its thread meanwhile.
    let done = work.with_context(context.clone()).await;
    // The context may have clones that live on: a task that nobody waited for.
    context.span().end();
    done
}

/// The same for `work` that waits for nothing.
pub fn in_span_sync<T>(
    name: &'static str,
    attributes: impl IntoIterator<Item = KeyValue>,
    work: impl FnOnce() -> T,
) -> T {
    let context = started(name, attributes);
    // Here a guard is right: until it is dropped, nothing else runs on this thread.
    let guard = context.clone().attach();
    let done = work();
    drop(guard);
    context.span().end();
    done
}

/// A span under the current one. Without a kind it is INTERNAL: it has no other side.
fn started(name: &'static str, attributes: impl IntoIterator<Item = KeyValue>) -> Context {
    let tracer = telemetry::tracer();
    let span = tracer
        .span_builder(name)
        .with_attributes(attributes)
        .start(tracer);
    Context::current_with_span(span)
}
