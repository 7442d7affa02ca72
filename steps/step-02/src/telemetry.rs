//! Step 02, The first span. OpenTelemetry: what the service is called, and where its spans go.

/// Makes a provider that sends each span to stdout and, by OTLP over HTTP, to
/// OTEL_EXPORTER_OTLP_ENDPOINT, and makes it the global one.
///
/// Call it outside of a runtime, before the first span. The error is one line.
pub fn init() -> Result<(), String> {
    // TODO 1: Make the exporter for OTLP: `opentelemetry_otlp::SpanExporter::builder()`,
    // then `with_http()`, `with_protocol(Protocol::HttpBinary)` and `build()`. `Protocol`
    // and the trait `WithExportConfig`, which the second needs, are in the same crate.
    // Where to send spans it reads from OTEL_EXPORTER_OTLP_ENDPOINT itself. If `build`
    // fails, return the error
    // "no spans are sent: OTEL_EXPORTER_OTLP_ENDPOINT must be a URL".
    //
    // TODO 2: Make the provider: `opentelemetry_sdk::trace::SdkTracerProvider::builder()`
    // - with the resource, of `opentelemetry_sdk`: `Resource::builder()
    //   .with_service_name("tier1-service").build()`,
    // - with two exporters, each by `with_batch_exporter(…)`: the one of TODO 1, and
    //   `opentelemetry_stdout::SpanExporter::default()`, which writes to stdout;
    // - `build()` it, and give it to `opentelemetry::global::set_tracer_provider`.
    Ok(())
}
