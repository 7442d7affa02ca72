//! Step 09, Logs over OTLP. What is logged: which events, as lines with the ids of their trace, and as log records
//! over OTLP.

use std::{
    fmt,
    io::{self, IsTerminal},
};

use opentelemetry::{Context, trace::TraceContextExt};
use opentelemetry_sdk::logs::SdkLoggerProvider;
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::{
    config::{Config, ConfigError, LogFormat},
    log_format,
    log_writer::{self, LogGuard},
    span_events::SpanEvents,
};

/// What is logged when RUST_LOG is not set. lapin tells every reconnect attempt
/// on its own account; `queue.rs` tells it in the service's words.
const DEFAULT_FILTER: &str = "info,lapin=off";

/// Who works for the exporter. What they log about sending log records would be sent as
/// log records, which they log about, without end.
const OF_THE_EXPORTER: [&str; 5] = ["hyper", "h2", "opentelemetry", "reqwest", "rustls"];

/// Sends the process's `tracing` events to stdout, those that RUST_LOG lets through, and
/// to `records`, if there is such a provider.
///
/// Keep the guard until the last line is written.
pub fn init(config: &Config, records: Option<&SdkLoggerProvider>) -> Result<LogGuard, ConfigError> {
    let filter = filter()?;
    let (writer, guard) = log_writer::stdout();
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Lines {
            format: config.log_format,
            correlation: config.log_correlation,
        })
        .with_ansi(config.log_format == LogFormat::Text && io::stdout().is_terminal())
        .with_writer(writer);
    // TODO 3: If there is a provider, give it the events, too: one more layer on the registry,
    // after all others, `OpenTelemetryTracingBridge::new(provider)`, from the crate
    // `opentelemetry_appender_tracing`, module `layer`. An `Option` of a layer is a layer.
    //
    // TODO 4: But not those of OF_THE_EXPORTER: the bridge gets a filter of its own,
    // `with_filter` with `Targets`: OFF for each of these, and by default RUST_LOG's level,
    // `filter.max_level_hint()`, or `LevelFilter::TRACE` if that is None. (Without a default
    // it lets nothing through.) `Targets` and `LevelFilter` are in tracing_subscriber::filter,
    // `with_filter` is of the trait tracing_subscriber::Layer.
    let span_events = config.log_span_events.then_some(SpanEvents);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(span_events)
        .init();
    Ok(guard)
}

fn filter() -> Result<EnvFilter, ConfigError> {
    let must_be = "a list of targets and levels, such as info,tier1=debug";
    match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => {
            EnvFilter::try_new(text).map_err(|_| ConfigError::new("RUST_LOG", must_be))
        }
        Err(std::env::VarError::NotUnicode(_)) => Err(ConfigError::new("RUST_LOG", must_be)),
        _ => Ok(EnvFilter::new(DEFAULT_FILTER)),
    }
}

/// A name and its value, as they stand on a line.
pub type Field = (&'static str, String);

/// The ids of the current span, under the names that the specification gives them
/// ("Trace context in non-OTLP log formats"). `None` outside of any span.
fn trace_ids() -> Option<[Field; 3]> {
    let context = Context::current();
    let span = context.span();
    let ids = span.span_context();
    ids.is_valid().then(|| {
        [
            ("trace_id", ids.trace_id().to_string()),
            ("span_id", ids.span_id().to_string()),
            ("trace_flags", format!("{:02x}", ids.trace_flags())),
        ]
    })
}

/// One line for each event.
struct Lines {
    format: LogFormat,
    correlation: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // The event's own thread runs this, while it logs: what is current is the span
        // in which the line was written.
        let ids = if self.correlation { trace_ids() } else { None };
        let ids = ids.as_ref().map_or(&[][..], |ids| &ids[..]);
        match self.format {
            LogFormat::Text => log_format::text(context, writer, event, ids),
            LogFormat::Json => log_format::json(context, writer, event, ids),
        }
    }
}
