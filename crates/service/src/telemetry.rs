//! Provider and propagator: passed in, or set up from the OTEL_* variables by the binary.

use std::env;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry::propagation::{TextMapCompositePropagator, TextMapPropagator};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, Key};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use opentelemetry_semantic_conventions::attribute;

use crate::W3cPropagator;

/// What a service is instrumented with. The caller keeps a clone of the provider,
/// and flushes and shuts it down after the service has stopped.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// Makes the spans.
    pub provider: SdkTracerProvider,
    /// Reads the context that a request or a message brings.
    pub propagator: Arc<dyn TextMapPropagator + Send + Sync>,
}

impl Telemetry {
    /// Spans from `provider`, W3C trace context on the wire.
    pub fn new(provider: SdkTracerProvider) -> Self {
        Self {
            provider,
            propagator: Arc::new(W3cPropagator),
        }
    }

    /// No spans, and no context is read.
    pub fn disabled() -> Self {
        Self {
            provider: SdkTracerProvider::builder()
                .with_sampler(Sampler::AlwaysOff)
                .build(),
            propagator: Arc::new(TextMapCompositePropagator::new(Vec::new())),
        }
    }

    /// From the environment, for a binary: OTLP through a batch processor, unless
    /// OTEL_SDK_DISABLED is `true` or OTEL_TRACES_EXPORTER is `none`. The SDK and the
    /// exporter read the other OTEL_* variables themselves.
    ///
    /// `service_name` is used if neither OTEL_SERVICE_NAME nor
    /// OTEL_RESOURCE_ATTRIBUTES names the service. As the specification asks, a bad
    /// value is one line on stderr and the default.
    pub fn from_env(service_name: &'static str) -> Self {
        if is_true("OTEL_SDK_DISABLED") {
            return Self::disabled();
        }
        let mut builder = SdkTracerProvider::builder().with_resource(resource(service_name));
        match set("OTEL_TRACES_EXPORTER").as_deref() {
            Some("none") => return Self::new(builder.build()),
            None | Some("otlp") => {}
            Some(_) => eprintln!("OTEL_TRACES_EXPORTER: expected otlp or none, using otlp"),
        }
        // No transport is named here: that would overrule OTEL_EXPORTER_OTLP_PROTOCOL.
        match SpanExporter::builder().build() {
            Ok(exporter) => builder = builder.with_batch_exporter(exporter),
            // The error may quote the endpoint or a header: neither is printed.
            Err(_) => {
                eprintln!("OTEL_EXPORTER_OTLP_*: no exporter can be built, no spans are sent")
            }
        }
        Self::new(builder.build())
    }

    /// Sends what is left and shuts the provider down, within `deadline` altogether.
    ///
    /// Blocks, so call it off the runtime. `shutdown` alone would hide a failed
    /// export: `force_flush` reports it. Both run on a thread of their own, since a
    /// receiver that hangs holds them for longer than any deadline.
    ///
    /// # Errors
    /// One line that says what was lost.
    pub fn flush(self, deadline: Duration) -> Result<(), String> {
        let end = Instant::now() + deadline;
        let (done, result) = mpsc::channel();
        let worker = thread::Builder::new().spawn(move || {
            let flushed = self.provider.force_flush();
            let left = end.saturating_duration_since(Instant::now());
            let down = self.provider.shutdown_with_timeout(left);
            // Nobody listens any more if the deadline has passed.
            let _ = done.send(flushed.and(down));
        });
        if let Err(error) = worker {
            return Err(format!("the last spans were not sent: {error}"));
        }
        match result.recv_timeout(deadline) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("the last spans were not sent: {error}")),
            Err(_) => Err(format!("the last spans were not sent within {deadline:?}")),
        }
    }

    /// The tracer of the crate called `name`; spans say so by their scope.
    pub fn tracer(&self, name: &'static str, version: &'static str) -> SdkTracer {
        self.provider.tracer_with_scope(
            InstrumentationScope::builder(name)
                .with_version(version)
                .build(),
        )
    }
}

/// A variable's value; an empty one counts as unset (specification, "Configuration").
fn set(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|value| !value.is_empty())
}

fn is_true(variable: &str) -> bool {
    set(variable).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// The SDK lets `service.name` in OTEL_RESOURCE_ATTRIBUTES win over
/// OTEL_SERVICE_NAME; the specification says the opposite.
fn resource(service_name: &'static str) -> Resource {
    let name = Key::from_static_str(attribute::SERVICE_NAME);
    if let Some(from_env) = set("OTEL_SERVICE_NAME") {
        return Resource::builder().with_service_name(from_env).build();
    }
    let detected = Resource::builder().build();
    let is_named = detected
        .get(&name)
        .is_some_and(|value| !value.as_str().starts_with("unknown_service"));
    if is_named {
        detected
    } else {
        Resource::builder().with_service_name(service_name).build()
    }
}
