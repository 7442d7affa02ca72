//! OpenTelemetry: what the service is called, and where its spans go.

use std::time::Duration;

use opentelemetry::global;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};

use crate::{deadline, say};

/// The name under which a backend shows this service.
const SERVICE_NAME: &str = "tier1-service";

/// Owns the provider. When it is dropped, the spans that wait are sent: keep it
/// until nothing makes spans any more.
#[must_use = "dropped at once, it shuts the provider down before the first span"]
pub struct Telemetry {
    provider: SdkTracerProvider,
    /// How long sending them may take.
    flush_timeout: Duration,
}

/// Makes a provider that sends each span to stdout and, by OTLP over HTTP, to
/// OTEL_EXPORTER_OTLP_ENDPOINT, and makes it the global one.
///
/// `flush_timeout` is how long the last spans may take on their way out. Call it outside of
/// a runtime, before the first span. The error is one line.
pub fn init(flush_timeout: Duration) -> Result<Telemetry, String> {
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
    // The global provider is a clone, and a static is never dropped: without the
    // guard nobody would tell the batch processors that this is the end.
    global::set_tracer_provider(provider.clone());
    Ok(Telemetry {
        provider,
        flush_timeout,
    })
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        let flush_timeout = self.flush_timeout;
        let provider = self.provider.clone();
        let flushed = deadline::within(flush_timeout, move || {
            // `shutdown` sends what waits, too, but hides whether it arrived.
            let flushed = provider.force_flush();
            let down = provider.shutdown_with_timeout(flush_timeout);
            flushed.and(down)
        });
        match flushed {
            Some(Ok(())) => {}
            Some(Err(error)) => say(&format!("tier1: the last spans were not sent: {error}")),
            None => say(&format!(
                "tier1: the last spans were not sent within {flush_timeout:?}"
            )),
        }
    }
}
