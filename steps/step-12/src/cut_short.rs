//! Step 12, Cut short. What becomes of a span if the work in it is not brought to its end.

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

/// Ends the span of this context if nobody else has, and says that it was cut short.
///
/// For a future that may be dropped while it waits: of what stands after its `.await`
/// nothing happens then, but what it holds is dropped.
#[must_use = "dropped at once, it says that the work was cut short before it began"]
pub struct CutShort(pub Context);

impl Drop for CutShort {
    fn drop(&mut self) {
        // TODO 1: If the span of `self.0` is still recording (`is_recording`), nobody has ended
        // it. Give it `attribute::ERROR_TYPE`, which is `PANIC` if `thread::panicking()`, else
        // `CANCELLED`; and the status Error without a description. End it.
    }
}
