//! Traces for people: as trees, and as waterfalls on a common time axis.
//!
//! Everything that was exported is untrusted here: control characters, escape
//! sequences and direction marks in names and values are shown escaped.

use std::collections::{HashMap, HashSet};

use opentelemetry_semantic_conventions::attribute::ERROR_TYPE;

use crate::model::{KeyValue, Link, LogRecord, Span, SpanId, StatusCode, TraceId, Value};
use crate::text::{fit, plain, truncate, width};
use crate::trace::{Node, Parent, Trace};

/// How a waterfall looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaterfallOptions {
    /// How many columns a line may have; at least 24 are used. Services and
    /// kinds are shown from 60 on.
    pub width: usize,
    /// Whether to use colours (SGR escape sequences).
    pub color: bool,
    /// Whether to use characters outside ASCII for lines, bars and marks.
    pub unicode: bool,
    /// Whether to show attributes, with their types, below what they are of: each span,
    /// event and log record.
    pub attributes: bool,
}

impl Default for WaterfallOptions {
    /// 80 columns, no colours, Unicode, no attributes.
    fn default() -> Self {
        Self {
            width: 80,
            color: false,
            unicode: true,
            attributes: false,
        }
    }
}

/// The characters that lines are drawn with.
pub(crate) struct Glyphs {
    branch: &'static str,
    last: &'static str,
    pipe: &'static str,
    blank: &'static str,
    rule: &'static str,
    pub(crate) ellipsis: &'static str,
    pub(crate) dot: &'static str,
    pub(crate) failed: &'static str,
    pub(crate) event: &'static str,
    arrow: &'static str,
    micro: &'static str,
    blocks: bool,
}

pub(crate) const UNICODE: Glyphs = Glyphs {
    branch: "├─ ",
    last: "└─ ",
    pipe: "│  ",
    blank: "   ",
    rule: "─",
    ellipsis: "…",
    dot: " · ",
    failed: "✗",
    event: "◆",
    arrow: "→",
    micro: "µs",
    blocks: true,
};

const ASCII: Glyphs = Glyphs {
    branch: "|- ",
    last: "`- ",
    pipe: "|  ",
    blank: "   ",
    rule: "-",
    ellipsis: "..",
    dot: ", ",
    failed: "x",
    event: "*",
    arrow: "->",
    micro: "us",
    blocks: false,
};

/// SGR parameters (ECMA-48, 8.3.117).
mod sgr {
    pub(super) const BOLD: &str = "1";
    pub(super) const DIM: &str = "2";
    pub(super) const RED: &str = "31";
    pub(super) const YELLOW: &str = "33";
    /// One for each service, in turn. Red is for errors, yellow for warnings.
    pub(super) const SERVICES: [&str; 4] = ["36", "35", "34", "32"];
}

/// The traces as trees, a line for each span: name, kind, service, status.
///
/// ```text
/// trace 4bf92f35…
/// GET /fast · SERVER · tier1-service · Unset
/// ├─ publish signups · PRODUCER · tier1-service · Unset
/// └─ GET · CLIENT · tier1-service · ✗ Error
/// ```
pub fn tree(traces: &[Trace]) -> String {
    let glyphs = &UNICODE;
    let mut out = String::new();
    for (i, trace) in traces.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        out.push_str(&format!("trace {}\n", short(trace.trace_id, glyphs)));
        for Line { node, indent, .. } in lines(trace, glyphs) {
            let span = &node.span;
            let mut parts = vec![
                plain(&span.name),
                span.kind.to_string(),
                plain(span.service()),
                match span.status.code {
                    StatusCode::Error => format!("{} Error", glyphs.failed),
                    code => code.to_string(),
                },
            ];
            parts.extend(parent_note(node.parent).map(str::to_owned));
            out.push_str(&format!("{indent}{}\n", parts.join(glyphs.dot)));
        }
    }
    out
}

/// The traces as waterfalls: for each span a row with its name, service, kind,
/// duration, and a bar on the time axis of its trace.
///
/// Below a row come, indented and limited in number, what went wrong, attributes
/// where they are asked for, links, events, and those of `logs` that were written
/// in the span, with the time since the start of the trace. Records of these traces whose span is not here
/// come last; records of other traces are left out.
///
/// Lines fit [`WaterfallOptions::width`]; what is too long ends in `…`.
pub fn waterfall(traces: &[Trace], logs: &[LogRecord], options: &WaterfallOptions) -> String {
    Waterfall::new(traces, logs, options).draw(traces)
}

/// The first eight digits: enough to tell traces apart, and to search by.
pub(crate) fn short(id: TraceId, glyphs: &Glyphs) -> String {
    let digits = id.to_string();
    format!("{}{}", &digits[..8], glyphs.ellipsis)
}

pub(crate) fn parent_note(parent: Parent) -> Option<&'static str> {
    match parent {
        Parent::None | Parent::Here => None,
        Parent::Missing(_) => Some("parent not received"),
        Parent::Cut(_) => Some("parent not above"),
    }
}

/// A node with what is drawn to the left of it.
struct Line<'a> {
    node: &'a Node,
    depth: usize,
    /// Before its name.
    indent: String,
    /// Before lines that belong to it.
    below: String,
}

/// How many levels are drawn as such. Below, a number says the depth.
const MAX_INDENT: usize = 12;

/// The nodes in the order of lines. Roots are not indented.
fn lines<'a>(trace: &'a Trace, glyphs: &Glyphs) -> Vec<Line<'a>> {
    let mut out = Vec::new();
    // Depth, what is before the node and its siblings, whether it is the last.
    let mut stack: Vec<(&Node, usize, String, bool)> = trace
        .roots
        .iter()
        .rev()
        .map(|root| (root, 0, String::new(), true))
        .collect();
    while let Some((node, depth, before, last)) = stack.pop() {
        let (indent, inner) = if depth == 0 {
            (String::new(), String::new())
        } else if depth > MAX_INDENT {
            let number = format!("{}{depth} ", glyphs.ellipsis);
            (format!("{number}{}", glyphs.last), before.clone())
        } else {
            let (corner, line) = if last {
                (glyphs.last, glyphs.blank)
            } else {
                (glyphs.branch, glyphs.pipe)
            };
            (format!("{before}{corner}"), format!("{before}{line}"))
        };
        let children = &node.children;
        for (i, child) in children.iter().enumerate().rev() {
            let last = i + 1 == children.len();
            stack.push((child, depth + 1, inner.clone(), last));
        }
        let line = if children.is_empty() {
            glyphs.blank
        } else {
            glyphs.pipe
        };
        out.push(Line {
            node,
            depth,
            indent,
            below: format!("{inner}{line}"),
        });
    }
    out
}

/// How many links, events and log records are shown below a span, together.
pub(crate) const MAX_NOTES: usize = 20;

/// How many attributes are shown below a span, an event or a log record.
const MAX_ATTRIBUTES: usize = 50;

struct Columns {
    name: usize,
    /// 0 if it is not shown.
    service: usize,
    /// 0 if it is not shown.
    kind: usize,
    duration: usize,
    bar: usize,
    gap: &'static str,
}

/// The first and last moment of a trace, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy)]
pub(crate) struct Axis {
    pub(crate) start: u64,
    end: u64,
}

impl Axis {
    pub(crate) fn of(trace: &Trace) -> Self {
        let mut axis = Axis {
            start: u64::MAX,
            end: 0,
        };
        for span in trace.spans() {
            axis.start = axis.start.min(span.start_unix_nanos);
            axis.end = axis.end.max(span.end_unix_nanos).max(span.start_unix_nanos);
        }
        axis
    }

    pub(crate) fn length(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Where `time` is: 0 at the start, 1 at the end.
    pub(crate) fn position(self, time: u64) -> f64 {
        if self.length() == 0 {
            return 0.0;
        }
        let position = time.saturating_sub(self.start) as f64 / self.length() as f64;
        position.clamp(0.0, 1.0)
    }
}

/// A line below a span's row.
struct Note<'a> {
    time: u64,
    text: String,
    style: &'static str,
    attributes: &'a [KeyValue],
}

/// How much is in a trace, in words.
pub(crate) struct Counts {
    pub(crate) spans: String,
    pub(crate) services: String,
    /// `None` if there is none.
    pub(crate) errors: Option<String>,
}

impl Counts {
    pub(crate) fn of(trace: &Trace) -> Self {
        let plural = |count: usize, what: &str| {
            format!("{count} {what}{}", if count == 1 { "" } else { "s" })
        };
        let services: HashSet<&str> = trace.spans().map(Span::service).collect();
        let errors = trace.spans().filter(|span| is_error(span)).count();
        Self {
            spans: plural(trace.spans().count(), "span"),
            services: plural(services.len(), "service"),
            errors: (errors > 0).then(|| plural(errors, "error")),
        }
    }
}

struct Waterfall<'a> {
    glyphs: &'static Glyphs,
    color: bool,
    attributes: bool,
    width: usize,
    columns: Columns,
    services: Vec<&'a str>,
    around: Around<'a>,
}

/// Each service once, in the order in which they are met.
pub(crate) fn services(traces: &[Trace]) -> Vec<&str> {
    let mut services = Vec::new();
    for span in traces.iter().flat_map(Trace::spans) {
        if !services.contains(&span.service()) {
            services.push(span.service());
        }
    }
    services
}

/// What is told of a span besides itself: the log records that were written in it, and
/// the spans that its links point to.
pub(crate) struct Around<'a> {
    /// By trace and, if the record names one that is here, span.
    logs: HashMap<(TraceId, Option<SpanId>), Vec<&'a LogRecord>>,
    spans: HashMap<(TraceId, SpanId), &'a Span>,
}

impl<'a> Around<'a> {
    pub(crate) fn new(traces: &'a [Trace], logs: &'a [LogRecord]) -> Self {
        let mut spans = HashMap::new();
        for span in traces.iter().flat_map(Trace::spans) {
            spans.entry((span.trace_id, span.span_id)).or_insert(span);
        }
        let mut by_span: HashMap<(TraceId, Option<SpanId>), Vec<&LogRecord>> = HashMap::new();
        for record in logs {
            if let Some(trace_id) = record.trace_id {
                // A record of a span that is not here belongs to the trace.
                let span_id = record
                    .span_id
                    .filter(|span_id| spans.contains_key(&(trace_id, *span_id)));
                by_span.entry((trace_id, span_id)).or_default().push(record);
            }
        }
        Self {
            logs: by_span,
            spans,
        }
    }

    /// The records that were written in this span, or in none that is here. The second
    /// time there are none: of spans with the same id, the first has them.
    pub(crate) fn records(&mut self, trace: TraceId, span: Option<SpanId>) -> Vec<&'a LogRecord> {
        self.logs.remove(&(trace, span)).unwrap_or_default()
    }

    /// `link → parent`, or what else it points to.
    pub(crate) fn link(&self, span: &Span, link: &Link, glyphs: &Glyphs) -> String {
        let target = if link.trace_id == span.trace_id && span.parent_span_id == Some(link.span_id)
        {
            "parent".to_owned()
        } else if let Some(target) = self.spans.get(&(link.trace_id, link.span_id)) {
            let name = plain(&target.name);
            if link.trace_id == span.trace_id {
                name
            } else {
                format!("{name}, trace {}", short(link.trace_id, glyphs))
            }
        } else {
            format!("trace {}, not here", short(link.trace_id, glyphs))
        };
        format!("link {} {target}", glyphs.arrow)
    }
}

impl<'a> Waterfall<'a> {
    fn new(traces: &'a [Trace], logs: &'a [LogRecord], options: &WaterfallOptions) -> Self {
        let glyphs = if options.unicode { &UNICODE } else { &ASCII };
        let width = options.width.max(24);
        Self {
            glyphs,
            color: options.color,
            attributes: options.attributes,
            width,
            columns: columns(traces, width, glyphs),
            services: services(traces),
            around: Around::new(traces, logs),
        }
    }

    fn draw(mut self, traces: &[Trace]) -> String {
        let mut out = String::new();
        for (i, trace) in traces.iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            let axis = Axis::of(trace);
            self.header(&mut out, trace, axis);
            for line in lines(trace, self.glyphs) {
                self.row(&mut out, &line, axis);
                self.notes(&mut out, &line, axis);
            }
            let records = self.around.records(trace.trace_id, None);
            if !records.is_empty() {
                self.push(
                    &mut out,
                    "",
                    "logs of this trace, in no span that is here",
                    sgr::DIM,
                );
                let notes = records.into_iter().map(|r| self.log_note(r, axis));
                let notes: Vec<Note<'_>> = notes.collect();
                self.note_lines(&mut out, self.glyphs.blank, notes);
            }
        }
        out
    }

    /// `text` in a style, if there are styles.
    fn style(&self, text: &str, style: &str) -> String {
        if self.color && !style.is_empty() && !text.is_empty() {
            format!("\u{1b}[{style}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// Adds one line that is cut to the width.
    fn push(&self, out: &mut String, before: &str, text: &str, style: &str) {
        let before = truncate(before, self.width / 2, self.glyphs.ellipsis);
        let room = self.width.saturating_sub(width(&before));
        let text = truncate(text, room, self.glyphs.ellipsis);
        out.push_str(&self.style(&before, sgr::DIM));
        out.push_str(&self.style(text.trim_end(), style));
        out.push('\n');
    }

    fn header(&self, out: &mut String, trace: &Trace, axis: Axis) {
        let glyphs = self.glyphs;
        let total = duration(axis.length(), glyphs);
        let counts = Counts::of(trace);
        let mut parts = vec![counts.spans, counts.services, total.clone()];
        if let Some(errors) = counts.errors {
            parts.push(format!("{} {errors}", glyphs.failed));
        }
        let id = short(trace.trace_id, glyphs);
        let mut text = format!("trace {id}  {}", parts.join(glyphs.dot));
        // What matters least goes first, so that the rest is whole.
        for least in [1, 0] {
            if width(&text) > self.width {
                parts.remove(least);
                text = format!("trace {id}  {}", parts.join(glyphs.dot));
            }
        }
        self.push(out, "", &text, sgr::BOLD);

        let columns = &self.columns;
        let before = self.width - columns.bar;
        let rule = columns.bar.saturating_sub(width(&total) + 3);
        let axis = if rule > 0 {
            format!("0 {} {total}", glyphs.rule.repeat(rule))
        } else {
            "0".to_owned()
        };
        let text = format!("{:before$}{axis}", "");
        self.push(out, "", &text, sgr::DIM);
    }

    fn row(&self, out: &mut String, line: &Line<'_>, axis: Axis) {
        let span = &line.node.span;
        let glyphs = self.glyphs;
        let columns = &self.columns;
        let error = is_error(span);
        let service = self.services.iter().position(|s| *s == span.service());
        let hue = sgr::SERVICES[service.unwrap_or(0) % sgr::SERVICES.len()];

        let indent = truncate(&line.indent, columns.name / 2, glyphs.ellipsis);
        let room = columns.name.saturating_sub(width(&indent));
        let name = fit(&label(span, glyphs), room, glyphs.ellipsis);
        let mut cells = vec![format!(
            "{}{}",
            self.style(&indent, sgr::DIM),
            self.style(&name, if error { sgr::RED } else { "" })
        )];
        if columns.service > 0 {
            let text = fit(&plain(span.service()), columns.service, glyphs.ellipsis);
            cells.push(self.style(&text, hue));
            cells.push(fit(span.kind.as_str(), columns.kind, glyphs.ellipsis));
        }
        let time = duration(span.duration_nanos(), glyphs);
        let pad = columns.duration.saturating_sub(width(&time));
        cells.push(format!("{:pad$}{time}", ""));
        let bar = bar(
            axis.position(span.start_unix_nanos),
            axis.position(span.end_unix_nanos.max(span.start_unix_nanos)),
            columns.bar,
            glyphs.blocks,
        );
        let drawn = bar.trim_end();
        let shift = drawn.len() - drawn.trim_start().len();
        let bar = format!(
            "{}{}",
            &drawn[..shift],
            self.style(&drawn[shift..], if error { sgr::RED } else { hue })
        );
        cells.push(bar);
        out.push_str(&cells.join(columns.gap));
        out.push('\n');
    }

    fn notes(&mut self, out: &mut String, line: &Line<'_>, axis: Axis) {
        let span = &line.node.span;
        let glyphs = self.glyphs;
        if let Some(note) = parent_note(line.node.parent) {
            self.push(out, &line.below, note, sgr::DIM);
        }
        if let Some(text) = error_note(span, glyphs) {
            self.push(out, &line.below, &text, sgr::RED);
        }
        self.attribute_lines(out, &line.below, &span.attributes);
        let mut notes: Vec<Note<'_>> = Vec::new();
        for link in &span.links {
            notes.push(Note {
                time: 0,
                text: self.around.link(span, link, glyphs),
                style: sgr::DIM,
                attributes: &link.attributes,
            });
        }
        for event in &span.events {
            notes.push(Note {
                time: event.time_unix_nanos,
                text: format!(
                    "{} {} {}",
                    offset(event.time_unix_nanos, axis, glyphs),
                    glyphs.event,
                    plain(&event.name)
                ),
                style: sgr::DIM,
                attributes: &event.attributes,
            });
        }
        for record in self.around.records(span.trace_id, Some(span.span_id)) {
            notes.push(self.log_note(record, axis));
        }
        self.note_lines(out, &line.below, notes);
    }

    /// If they are asked for.
    fn attribute_lines(&self, out: &mut String, before: &str, attributes: &[KeyValue]) {
        if !self.attributes {
            return;
        }
        for attribute in attributes.iter().take(MAX_ATTRIBUTES) {
            let text = format!("{} = {}", plain(&attribute.key), attribute.value);
            self.push(out, before, &text, sgr::DIM);
        }
        let more = attributes.len().saturating_sub(MAX_ATTRIBUTES);
        if more > 0 {
            let text = format!("{} {more} more attributes", self.glyphs.ellipsis);
            self.push(out, before, &text, sgr::DIM);
        }
    }

    fn log_note<'r>(&self, record: &'r LogRecord, axis: Axis) -> Note<'r> {
        let severity = severity(record);
        let text = body(record);
        Note {
            time: record.timestamp(),
            text: format!(
                "{} {severity:<5} {text}",
                offset(record.timestamp(), axis, self.glyphs)
            ),
            style: match record.severity_number {
                17.. => sgr::RED,
                13..=16 => sgr::YELLOW,
                _ => sgr::DIM,
            },
            attributes: &record.attributes,
        }
    }

    fn note_lines(&self, out: &mut String, before: &str, mut notes: Vec<Note<'_>>) {
        notes.sort_by_key(|note| note.time);
        let more = notes.len().saturating_sub(MAX_NOTES);
        for note in notes.iter().take(MAX_NOTES) {
            self.push(out, before, &note.text, note.style);
            self.attribute_lines(out, &format!("{before}  "), note.attributes);
        }
        if more > 0 {
            let text = format!("{} {more} more", self.glyphs.ellipsis);
            self.push(out, before, &text, sgr::DIM);
        }
    }
}

pub(crate) fn is_error(span: &Span) -> bool {
    span.status.code == StatusCode::Error
}

/// What is said of a span that failed: `✗ Error 500: tier2 answered 500`.
pub(crate) fn error_note(span: &Span, glyphs: &Glyphs) -> Option<String> {
    if !is_error(span) {
        return None;
    }
    let mut text = format!("{} Error", glyphs.failed);
    match span.attribute(ERROR_TYPE) {
        Some(Value::Str(kind)) => text.push_str(&format!(" {}", plain(kind))),
        Some(other) => text.push_str(&format!(" {other}")),
        None => {}
    }
    if !span.status.description.is_empty() {
        text.push_str(&format!(": {}", plain(&span.status.description)));
    }
    Some(text)
}

/// A span's name, marked if it failed.
fn label(span: &Span, glyphs: &Glyphs) -> String {
    let name = plain(&span.name);
    if is_error(span) {
        format!("{} {name}", glyphs.failed)
    } else {
        name
    }
}

/// What a record says, in one line.
pub(crate) fn body(record: &LogRecord) -> String {
    match &record.body {
        Value::Str(text) => plain(text),
        Value::Empty => plain(&record.event_name),
        other => other.to_string(),
    }
}

/// The text of a record's severity, or the name of its number's range (Logs
/// data model, "Displaying Severity").
pub fn severity(record: &LogRecord) -> String {
    if !record.severity_text.is_empty() {
        return plain(&record.severity_text);
    }
    match record.severity_number {
        1..=4 => "TRACE",
        5..=8 => "DEBUG",
        9..=12 => "INFO",
        13..=16 => "WARN",
        17..=20 => "ERROR",
        21..=24 => "FATAL",
        _ => "",
    }
    .to_owned()
}

/// Divides a line: what the names need, but never so much that bars vanish.
fn columns(traces: &[Trace], total: usize, glyphs: &Glyphs) -> Columns {
    let (mut name, mut service, mut kind) = (8, 1, 1);
    for trace in traces {
        for line in lines(trace, glyphs) {
            let span = &line.node.span;
            // The indentation gets at most half of the column.
            let indent = width(&line.indent).min(3 * (line.depth + 1));
            name = name.max(indent + width(&label(span, glyphs)));
            service = service.max(width(&plain(span.service())));
            kind = kind.max(width(span.kind.as_str()));
        }
    }
    let gap = if total >= 100 { "  " } else { " " };
    let duration = 8;
    if total < 60 {
        (service, kind) = (0, 0);
    } else {
        service = service.min(total / 5);
    }
    let gaps = if service > 0 { 4 } else { 2 };
    let rest = total.saturating_sub(service + kind + duration + gaps * gap.len());
    let name = name.min(rest - (rest / 3).max(6));
    Columns {
        name,
        service,
        kind,
        duration,
        bar: rest - name,
        gap,
    }
}

/// A duration in nanoseconds with three digits and a unit, as people say it: `8.44 ms`.
pub fn duration_text(nanos: u64) -> String {
    duration(nanos, &UNICODE)
}

/// A duration with three digits and a unit, as people say it.
pub(crate) fn duration(nanos: u64, glyphs: &Glyphs) -> String {
    let seconds = nanos as f64 / 1e9;
    if nanos < 1000 {
        return format!("{nanos} ns");
    }
    for (unit, in_seconds) in [(glyphs.micro, 1e-6), ("ms", 1e-3), ("s", 1.0)] {
        let value = seconds / in_seconds;
        let limit = if unit == "s" { 59.95 } else { 999.5 };
        if value < limit {
            let digits = if value < 9.995 {
                2
            } else if value < 99.95 {
                1
            } else {
                0
            };
            return format!("{value:.digits$} {unit}");
        }
    }
    // Rounded, so that 59.96 s are a minute.
    let seconds = seconds.round() as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    if minutes < 60 {
        format!("{minutes}m {:02}s", seconds % 60)
    } else if hours < 48 {
        format!("{hours}h {:02}m", minutes % 60)
    } else {
        format!("{days} d")
    }
}

/// The time since the start of the trace: `+1.54 s`.
pub(crate) fn since_start(time: u64, axis: Axis, glyphs: &Glyphs) -> String {
    if time >= axis.start {
        format!("+{}", duration(time - axis.start, glyphs))
    } else {
        format!("-{}", duration(axis.start - time, glyphs))
    }
}

/// The same in a column of its own.
fn offset(time: u64, axis: Axis, glyphs: &Glyphs) -> String {
    let text = match time {
        // It isn't known.
        0 => String::new(),
        time => since_start(time, axis, glyphs),
    };
    let pad = 8_usize.saturating_sub(width(&text));
    format!("{:pad$}{text}", "")
}

/// A bar from `start` to `end` (0 to 1) in `columns` columns. Something is drawn
/// however short it is.
fn bar(start: f64, end: f64, columns: usize, blocks: bool) -> String {
    const LEFT: [char; 9] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
    let scale = columns as f64;
    let (from, to) = (start * scale, end * scale);
    let mut cells: Vec<char> = (0..columns)
        .map(|i| {
            let (left, right) = (i as f64, (i + 1) as f64);
            let covered = (to.min(right) - from.max(left)).clamp(0.0, 1.0);
            if !blocks {
                return if covered >= 0.5 { '#' } else { ' ' };
            }
            if from <= left {
                // From the left edge on, in eighths.
                LEFT[((covered * 8.0).round() as usize).min(8)]
            } else if covered >= 0.75 {
                '█'
            } else if covered >= 0.25 {
                // Which of its halves a bar inside one column is in.
                if from + to > left + right {
                    '▐'
                } else {
                    '▌'
                }
            } else {
                ' '
            }
        })
        .collect();
    if cells.iter().all(|cell| *cell == ' ') {
        let at = (from as usize).min(columns.saturating_sub(1));
        if let Some(cell) = cells.get_mut(at) {
            *cell = if blocks { '▏' } else { '|' };
        }
    }
    cells.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_a_unit() {
        let cases = [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (840_000, "840 µs"),
            (999_600, "1.00 ms"),
            (9_996_000, "10.0 ms"),
            (12_345_678, "12.3 ms"),
            (1_500_000_000, "1.50 s"),
            (59_960_000_000, "1m 00s"),
            (125_000_000_000, "2m 05s"),
            (3_600_000_000_000, "1h 00m"),
            (u64::MAX, "213503 d"),
        ];
        for (nanos, text) in cases {
            assert_eq!(duration(nanos, &UNICODE), text);
        }
        assert_eq!(duration(1_500, &ASCII), "1.50 us");
    }

    #[test]
    fn bars_are_where_they_belong() {
        assert_eq!(bar(0.0, 1.0, 4, true), "████");
        assert_eq!(bar(0.5, 1.0, 4, true), "  ██");
        assert_eq!(bar(0.0, 0.375, 4, true), "█▌  ");
        assert_eq!(bar(0.375, 1.0, 4, true), " ▐██");
        assert_eq!(bar(1.0, 1.0, 4, true), "   ▏");
        assert_eq!(bar(0.0, 0.0, 4, false), "|   ");
        assert_eq!(bar(0.5, 0.75, 4, false), "  # ");
        assert_eq!(bar(0.0, 1.0, 0, true), "");
    }
}
