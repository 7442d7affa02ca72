//! OpenTelemetry: what the service is called, and where its spans go.

use std::{sync::Arc, time::Duration};

use opentelemetry::{
    InstrumentationScope,
    propagation::{TextMapCompositePropagator, TextMapPropagator},
    trace::TracerProvider,
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};

use crate::{
    deadline,
    otel_env::{self, Exporter},
    say,
};

/// What a backend calls this service unless OTEL_SERVICE_NAME says otherwise.
const SERVICE_NAME: &str = "consumer-service";

/// How long the last spans may take on their way out. With the time that a message
/// has to end it must stay below what an orchestrator grants a process.
const FLUSH_DEADLINE: Duration = Duration::from_secs(3);

/// Owns provider and propagator. When it is dropped, the spans that wait are sent: keep
/// it until nothing makes spans any more.
///
/// Neither is made the global one: who needs them gets them from here.
#[must_use = "dropped at once, it shuts the provider down before the first span"]
pub struct Telemetry {
    /// None once it was shut down.
    provider: Option<SdkTracerProvider>,
    tracer: SdkTracer,
    propagator: Arc<TextMapCompositePropagator>,
}

/// Makes what the OTEL_* variables ask for.
///
/// Call it outside of a runtime. What can't be used is said on stderr: the service is
/// worth having without telemetry, too.
pub fn init() -> Telemetry {
    let provider = if otel_env::sdk_disabled() {
        silent()
    } else {
        provider().unwrap_or_else(|reason| {
            say(&format!("consumer: {reason}"));
            silent()
        })
    };
    let scope = InstrumentationScope::builder("consumer")
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(opentelemetry_semantic_conventions::SCHEMA_URL)
        .build();
    Telemetry {
        tracer: provider.tracer_with_scope(scope),
        provider: Some(provider),
        propagator: Arc::new(otel_env::propagator()),
    }
}

impl Telemetry {
    /// Makes the spans of this service.
    pub fn tracer(&self) -> SdkTracer {
        self.tracer.clone()
    }

    /// Reads the context that a message brings.
    pub fn propagator(&self) -> Arc<dyn TextMapPropagator + Send + Sync> {
        self.propagator.clone()
    }
}

/// A provider whose spans are never recorded.
fn silent() -> SdkTracerProvider {
    SdkTracerProvider::builder()
        .with_sampler(Sampler::AlwaysOff)
        .build()
}

fn provider() -> Result<SdkTracerProvider, String> {
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
    Ok(provider.build())
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
        // Its own text may quote the endpoint, and a key in it.
        .map_err(|error| match error {
            ExporterBuildError::InternalFailure(_) => "no spans are sent: no HTTP client without \
                 the system's certificates (the package ca-certificates, or SSL_CERT_FILE)"
                .to_owned(),
            _ => "no spans are sent: OTEL_EXPORTER_OTLP_ENDPOINT must be a URL".to_owned(),
        })
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        let Some(provider) = self.provider.take() else {
            return;
        };
        let flushed = deadline::within(FLUSH_DEADLINE, move || {
            // `shutdown` sends what waits, too, but hides whether it arrived.
            let flushed = provider.force_flush();
            let down = provider.shutdown_with_timeout(FLUSH_DEADLINE);
            flushed.and(down)
        });
        match flushed {
            Some(Ok(())) => {}
            Some(Err(error)) => say(&format!("consumer: the last spans were not sent: {error}")),
            None => say(&format!(
                "consumer: the last spans were not sent within {FLUSH_DEADLINE:?}"
            )),
        }
    }
}
