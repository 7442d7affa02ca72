//! OpenTelemetry: what the service is called, and where its spans go.

use std::{sync::LazyLock, time::Duration};

use opentelemetry::{
    InstrumentationScope,
    global::{self, BoxedTracer},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::trace::SdkTracerProvider;

use crate::{
    deadline,
    otel_env::{self, Exporter},
    say,
};

/// What a backend calls this service unless OTEL_SERVICE_NAME says otherwise.
const SERVICE_NAME: &str = "tier1-service";

/// Owns the provider. When it is dropped, the spans that wait are sent: keep it
/// until nothing makes spans any more.
#[must_use = "dropped at once, it shuts the provider down before the first span"]
pub struct Telemetry {
    /// None if OTEL_SDK_DISABLED says so.
    provider: Option<SdkTracerProvider>,
    /// How long sending them may take.
    flush_timeout: Duration,
}

// ANCHOR: init
/// Makes the provider that the OTEL_* variables ask for, and makes it the global one.
///
/// `flush_timeout` is how long the last spans may take on their way out. Call it outside of
/// a runtime, before the first span. The error is one line.
pub fn init(flush_timeout: Duration) -> Result<Telemetry, String> {
    // Unless told otherwise, OpenTelemetry neither reads nor writes any header.
    global::set_text_map_propagator(otel_env::propagator());
    if otel_env::sdk_disabled() {
        return Ok(Telemetry {
            provider: None,
            flush_timeout,
        });
    }
    // Sampler, limits and batches are configured by the SDK itself.
    let mut provider = SdkTracerProvider::builder().with_resource(otel_env::resource(SERVICE_NAME));
    for exporter in otel_env::traces_exporters() {
        provider = match exporter {
            Exporter::Console => {
                provider.with_batch_exporter(opentelemetry_stdout::SpanExporter::default())
            }
            Exporter::Otlp => provider.with_batch_exporter(otlp()?),
        };
    }
    let provider = provider.build();
    // The global provider is a clone, and a static is never dropped: without the
    // guard nobody would tell the batch processors that this is the end.
    global::set_tracer_provider(provider.clone());
    Ok(Telemetry {
        provider: Some(provider),
        flush_timeout,
    })
}

/// Endpoint, headers, compression and timeout are read by the exporter itself.
fn otlp() -> Result<SpanExporter, String> {
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(otel_env::protocol());
    if let Some(client) = otel_env::client() {
        exporter = exporter.with_http_client(client);
    }
    exporter
        .build()
        // The exporter's own text may quote the endpoint, and a key in it.
        .map_err(|_| "no spans are sent: OTEL_EXPORTER_OTLP_ENDPOINT must be a URL".to_owned())
}
// ANCHOR_END: init

/// Makes the spans of this service. The first call asks the global provider for it.
pub fn tracer() -> &'static BoxedTracer {
    static TRACER: LazyLock<BoxedTracer> = LazyLock::new(|| {
        let scope = InstrumentationScope::builder("tier1")
            .with_version(env!("CARGO_PKG_VERSION"))
            .with_schema_url(opentelemetry_semantic_conventions::SCHEMA_URL)
            .build();
        global::tracer_with_scope(scope)
    });
    &TRACER
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        let flush_timeout = self.flush_timeout;
        let Some(provider) = self.provider.take() else {
            return;
        };
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
