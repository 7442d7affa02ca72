//! Step 03, Nothing lost at exit. OpenTelemetry: what the service is called, and where its spans go.

use std::time::Duration;

use opentelemetry::global;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};

use crate::{deadline, say};

/// The name under which a backend shows this service.
const SERVICE_NAME: &str = "tier1-service";

// TODO 1: Make a guard, `pub struct Telemetry`, that owns the provider (an
// `SdkTracerProvider`) and keeps `flush_timeout`. `init` answers it, in a
// `Result<Telemetry, String>`. The global provider is a clone: give
// `set_tracer_provider` one, and the guard the other.
//
// TODO 2: `impl Drop for Telemetry`: send the spans that wait, within the guard's
// `flush_timeout`.
// - `deadline::within(flush_timeout, move || …)` does the work on a thread of its own. Give
//   it a clone of the provider, and a copy of the duration. It answers what the work
//   answers, in `Some`, or `None` if that wasn't done in time.
// - The work: first `force_flush()`, which says whether the spans arrived, then
//   `shutdown_with_timeout(flush_timeout)`, whatever the first one answered. The first error
//   of the two is the result.
// - If it failed, or wasn't done in time, `crate::say` one line that begins with
//   "tier1: the last spans were not sent".

/// Makes a provider that sends each span to stdout and, by OTLP over HTTP, to
/// OTEL_EXPORTER_OTLP_ENDPOINT, and makes it the global one.
///
/// `flush_timeout` is how long the last spans may take on their way out. Call it outside of
/// a runtime, before the first span. The error is one line.
pub fn init(flush_timeout: Duration) -> Result<(), String> {
    let otlp = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .build()
        // The exporter's own text may quote the endpoint, and a key in it.
        .map_err(|_| "no spans are sent: OTEL_EXPORTER_OTLP_ENDPOINT must be a URL")?;
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name(SERVICE_NAME).build())
        .with_batch_exporter(opentelemetry_stdout::SpanExporter::default())
        .with_batch_exporter(otlp)
        .build();
    global::set_tracer_provider(provider);
    Ok(())
}
