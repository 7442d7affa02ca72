//! What the tests on both databases share.

use std::sync::{Arc, Mutex};

use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData, SpanExporter};

/// Keeps the spans that have ended, in that order.
#[derive(Debug, Clone, Default)]
pub struct Collected(Arc<Mutex<Vec<SpanData>>>);

impl Collected {
    /// Those there are.
    pub fn spans(&self) -> Vec<SpanData> {
        self.0.lock().expect("no test panics in it").clone()
    }
}

impl SpanExporter for Collected {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().expect("no test panics in it").extend(batch);
        Ok(())
    }
}

/// A tracer and what it makes.
pub fn tracer() -> (SdkTracer, Collected) {
    let collected = Collected::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(collected.clone())
        .build();
    (provider.tracer("test"), collected)
}

/// The context of a caller elsewhere, in trace 7, span 8.
pub fn parent(flags: TraceFlags) -> Context {
    Context::new().with_remote_span_context(SpanContext::new(
        TraceId::from(7),
        SpanId::from(8),
        flags,
        true,
        TraceState::NONE,
    ))
}
