//! Spans of the service's own: one function, one span.

use opentelemetry::{
    Context, KeyValue,
    context::FutureExt,
    trace::{Status, TraceContextExt, Tracer, get_active_span},
};
use opentelemetry_semantic_conventions::attribute;

use crate::{cut_short::CutShort, error::AppError, exception::record_exception, telemetry};

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
    // Whoever gives up the request gives up this work, too.
    let _cut_short = CutShort(context.clone());
    // `with_context`, not `attach`: this task waits, and others run on its thread meanwhile.
    let done = work.with_context(context.clone()).await;
    // The context may have clones that live on: a task that nobody waited for.
    context.span().end();
    done
}

/// The same for work that can fail: the span says of an error that it failed, and one log
/// record in the span tells it.
pub async fn try_in_span<T>(
    name: &'static str,
    attributes: impl IntoIterator<Item = KeyValue>,
    work: impl Future<Output = Result<T, AppError>>,
) -> Result<T, AppError> {
    in_span(name, attributes, async {
        let done = work.await;
        if let Err(error) = &done {
            get_active_span(|span| {
                span.set_attribute(KeyValue::new(attribute::ERROR_TYPE, error.error_type()));
                span.set_status(Status::error(error.to_string()));
            });
            record_exception(error);
        }
        done
    })
    .await
}

/// The same for `work` that waits for nothing.
pub fn in_span_sync<T>(
    name: &'static str,
    attributes: impl IntoIterator<Item = KeyValue>,
    work: impl FnOnce() -> T,
) -> T {
    let context = started(name, attributes);
    // Nobody can give up what doesn't wait, but it can panic.
    let _cut_short = CutShort(context.clone());
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
