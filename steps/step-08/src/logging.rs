//! Step 08, Logs that name their trace. Log lines: which are written, and what they say of the trace they belong to.

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
        .event_format(Lines { format })
        .with_ansi(format == LogFormat::Text && io::stdout().is_terminal())
        // TODO 4: Not `io::stdout`, on which whoever logs waits for whoever reads, but
        // `writer`: it never blocks.
        .with_writer(io::stdout);
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

/// A name and its value, as they stand on a line.
pub type Field = (&'static str, String);

/// The ids of the current span, under the names that the specification gives them
/// ("Trace context in non-OTLP log formats"). `None` outside of any span.
fn trace_ids() -> Option<[Field; 3]> {
    // TODO 1: The current span is that of `Context::current()`: its `span()` has a
    // `span_context()`. If that `is_valid()`, answer `trace_id`, `span_id` and `trace_flags`,
    // each with its value as text: ids have a `to_string()` for that; the flags are two
    // hexadecimal digits, `{:02x}`. Keep context and span in a `let` each: what follows
    // borrows from them.
    None
}

/// One line for each event.
struct Lines {
    format: LogFormat,
    // TODO 3: LOG_CORRELATION switches ids on and off: a field `correlation: bool`, from the
    // parameter of `init`. Without it, the lines are those of step 07.
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
        // TODO 2: Give `trace_ids()` to the line, as a slice; an empty one if there are none.
        // Keep the answer in a `let`: the slice borrows from it.
        let ids: &[Field] = &[];
        match self.format {
            LogFormat::Text => log_format::text(context, writer, event, ids),
            LogFormat::Json => log_format::json(context, writer, event, ids),
        }
    }
}
