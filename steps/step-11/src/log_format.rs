//! How an event is written as a line: text for people, JSON for machines.

use std::fmt::{self, Write};

use tracing::{Event, Level, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Writer, format},
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

use crate::logging::Field;

/// `2026-11-25T08:22:49.064000Z  INFO [trace_id=… span_id=…] tier1::routes: message queued
/// action=fast`, on one line; without `ids` there are no brackets.
pub fn text<S, N>(
    context: &FmtContext<'_, S, N>,
    mut writer: Writer<'_>,
    event: &Event<'_>,
    ids: &[Field],
) -> fmt::Result
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    // Of a crate that logs by `log`, the event says its real target and level this way.
    let normalized = event.normalized_metadata();
    let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
    let level = metadata.level();
    let (dim, colour, plain) = if writer.has_ansi_escapes() {
        ("\x1b[2m", colour(*level), "\x1b[0m")
    } else {
        ("", "", "")
    };
    write!(writer, "{dim}")?;
    SystemTime.format_time(&mut writer)?;
    write!(writer, "{plain} {colour}{level:>5}{plain} ")?;
    for (number, (id, value)) in ids.iter().enumerate() {
        let before = if number == 0 { '[' } else { ' ' };
        write!(writer, "{before}{id}={value}")?;
    }
    if !ids.is_empty() {
        writer.write_str("] ")?;
    }
    write!(writer, "{dim}{}:{plain} ", metadata.target())?;
    context.format_fields(writer.by_ref(), event)?;
    writeln!(writer)
}

/// A JSON object with `timestamp`, `level`, `target`, the event's own fields, and `ids`.
pub fn json<S, N>(
    context: &FmtContext<'_, S, N>,
    mut writer: Writer<'_>,
    event: &Event<'_>,
    ids: &[Field],
) -> fmt::Result
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let mut line = String::new();
    let object = format()
        .json()
        .flatten_event(true)
        // Spans of `tracing`, such as lapin's, are none of the trace's.
        .with_current_span(false)
        .with_span_list(false);
    object.format_event(context, Writer::new(&mut line), event)?;
    // Before the object's end: of two fields with one name, readers keep the last.
    line.truncate(line.trim_end().len() - "}".len());
    for (id, value) in ids {
        // Ids are hexadecimal digits: nothing to escape.
        write!(line, ",\"{id}\":\"{value}\"")?;
    }
    writeln!(writer, "{line}}}")
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}
