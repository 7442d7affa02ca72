//! What becomes of a span if the work in it is not brought to its end.

use std::thread;

use opentelemetry::{
    Context, KeyValue,
    trace::{Status, TraceContextExt},
};
use opentelemetry_semantic_conventions::attribute;

/// `error.type` of work that was given up, and of work that panicked. The conventions
/// name no words for them: these are the ones of this system.
const CANCELLED: &str = "cancelled";
const PANIC: &str = "panic";

// ANCHOR: guard
/// Ends the span of this context if nobody else has, and says that it was cut short.
///
/// For a future that may be dropped while it waits: of what stands after its `.await`
/// nothing happens then, but what it holds is dropped.
#[must_use = "dropped at once, it says that the work was cut short before it began"]
pub struct CutShort(pub Context);

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
// ANCHOR_END: guard
