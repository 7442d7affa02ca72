//! Step 09, Logs over OTLP. OpenTelemetry: what the service is called, and where its spans and log records go.

use std::{sync::LazyLock, time::Duration};

use opentelemetry::{
    InstrumentationScope,
    global::{self, BoxedTracer},
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{logs::SdkLoggerProvider, trace::SdkTracerProvider};

use crate::{
    deadline,
    otel_env::{self, Exporter, Signal},
    say,
};

/// What a backend calls this service unless OTEL_SERVICE_NAME says otherwise.
const SERVICE_NAME: &str = "tier1-service";

/// Owns the providers. When it is dropped, the spans and log records that wait are sent:
/// keep it until nothing makes any more.
#[must_use = "dropped at once, it shuts the providers down before the first span"]
pub struct Telemetry {
    /// None if OTEL_SDK_DISABLED says so.
    traces: Option<SdkTracerProvider>,
    /// None if OTEL_SDK_DISABLED says so, or there is no exporter.
    logs: Option<SdkLoggerProvider>,
    /// How long sending them may take.
    flush_timeout: Duration,
}

/// Makes the provider of log records that the OTEL_* variables ask for, if they ask for
/// one. `logging::init` gives it the events, `init` sees to its end.
///
/// Call it outside of a runtime. The error is one line.
pub fn log_records() -> Result<Option<SdkLoggerProvider>, String> {
    // TODO 1: As in `spans`, for log records: `SdkLoggerProvider::builder()`, with the same
    // resource, and an exporter for each of `otel_env::exporters(Signal::Logs)`:
    // `opentelemetry_stdout::LogExporter`, or an `opentelemetry_otlp::LogExporter` that
    // `over_http` has completed; if that fails, the error is of `not_sent`, as there.
    // No provider if `otel_env::sdk_disabled()` or there is no exporter. It is not made
    // global: `logging::init` gets it.
    Ok(None)
}

/// Makes the provider of spans that the OTEL_* variables ask for, and makes it the global
/// one. The guard owns it, and `logs`, which is what `log_records` made.
///
/// `flush_timeout` is how long the last spans and log records may take on their way out.
/// Call it outside of a runtime, before the first span. What can't be used is one line.
pub fn init(logs: Option<SdkLoggerProvider>, flush_timeout: Duration) -> Telemetry {
    // Unless told otherwise, OpenTelemetry neither reads nor writes any header.
    global::set_text_map_propagator(otel_env::propagator());
    let traces = spans().unwrap_or_else(|reason| {
        say(&format!("tier1: {reason}"));
        None
    });
    if let Some(provider) = &traces {
        // The global provider is a clone, and a static is never dropped: without the
        // guard nobody would tell the batch processors that this is the end.
        global::set_tracer_provider(provider.clone());
    }
    Telemetry {
        traces,
        logs,
        flush_timeout,
    }
}

fn spans() -> Result<Option<SdkTracerProvider>, String> {
    if otel_env::sdk_disabled() {
        return Ok(None);
    }
    // Sampler, limits and batches are configured by the SDK itself.
    let mut provider = SdkTracerProvider::builder().with_resource(otel_env::resource(SERVICE_NAME));
    for exporter in otel_env::exporters(Signal::Traces) {
        provider = match exporter {
            Exporter::Console => {
                provider.with_batch_exporter(opentelemetry_stdout::SpanExporter::default())
            }
            Exporter::Otlp => {
                let exporter =
                    over_http(SpanExporter::builder().with_http(), Signal::Traces).build();
                provider.with_batch_exporter(
                    exporter.map_err(|error| not_sent(&error, Signal::Traces, "spans"))?,
                )
            }
        };
    }
    Ok(Some(provider.build()))
}

/// The builder of an exporter, with what the exporter doesn't read itself. Endpoint,
/// headers, compression and timeout it does.
fn over_http<B: WithExportConfig + WithHttpConfig>(builder: B, signal: Signal) -> B {
    let builder = builder.with_protocol(otel_env::protocol(signal));
    match otel_env::client(signal) {
        Some(client) => builder.with_http_client(client),
        None => builder,
    }
}

/// What is to be changed where no exporter could be made. Its own text may quote the
/// endpoint, and a key in it.
fn not_sent(error: &ExporterBuildError, signal: Signal, what: &str) -> String {
    let name = otel_env::endpoint_variable(signal);
    match error {
        ExporterBuildError::InternalFailure(_) => format!(
            "no {what} are sent: no HTTP client without the system's certificates (the \
             package ca-certificates, or SSL_CERT_FILE)"
        ),
        _ => format!("no {what} are sent: {name} must be a URL"),
    }
}

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
        let traces = self.traces.take();
        // TODO 2: The same for `self.logs`, as `("log records", …)`, within the same deadline.
        // Take it first, as `traces`.
        let sent = deadline::within(flush_timeout, move || {
            // `shutdown` sends what waits, too, but hides whether it arrived.
            let traces = traces.map_or(Ok(()), |provider| {
                let flushed = provider.force_flush();
                flushed.and(provider.shutdown_with_timeout(flush_timeout))
            });
            [("spans", traces)]
        });
        let Some(sent) = sent else {
            return say(&format!(
                "tier1: the last spans and log records were not sent within {flush_timeout:?}"
            ));
        };
        for (what, result) in sent {
            if let Err(error) = result {
                say(&format!("tier1: the last {what} were not sent: {error}"));
            }
        }
    }
}
