//! Log lines: which are written, and what they say of the trace they belong to.

use std::{
    fmt,
    io::{self, IsTerminal},
};

use opentelemetry::{Context, trace::TraceContextExt};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::{
    config::{ConfigError, LogFormat},
    log_format,
    log_writer::{self, LogGuard},
};

/// What is logged when RUST_LOG is not set. lapin tells every reconnect attempt
/// on its own account; `queue.rs` tells it in the service's words.
const DEFAULT_FILTER: &str = "info,lapin=off";

/// Sends the process's `tracing` events to stdout in `format`, those that
/// RUST_LOG lets through; with `correlation`, each names its trace and span.
///
/// Keep the guard until the last line is written.
pub fn init(format: LogFormat, correlation: bool) -> Result<LogGuard, ConfigError> {
    let filter = filter()?;
    let (writer, guard) = log_writer::stdout();
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Lines {
            format,
            correlation,
        })
        .with_ansi(format == LogFormat::Text && io::stdout().is_terminal())
        .with_writer(writer);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
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

// ANCHOR: ids
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
// ANCHOR_END: ids

// ANCHOR: lines
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
// ANCHOR_END: lines
