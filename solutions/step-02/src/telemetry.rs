//! OpenTelemetry: what the service is called, and where its spans go.

use opentelemetry::global;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};

/// The name under which a backend shows this service.
const SERVICE_NAME: &str = "tier1-service";

/// Makes a provider that sends each span to stdout and, by OTLP over HTTP, to
/// OTEL_EXPORTER_OTLP_ENDPOINT, and makes it the global one.
///
/// Call it outside of a runtime, before the first span. The error is one line.
pub fn init() -> Result<(), String> {
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
