//! What the page gets to see of traces and log records, as JSON. Bounded, whatever was
//! exported; names and values are made harmless here, and put in as text there.

use std::collections::{HashMap, HashSet};

use otlp::{
    KeyValue, LogRecord, Node, Parent, Resource, Scope, Snapshot, Span, SpanId, Trace, TraceId,
    Value,
};
use serde::Serialize;

use crate::arrivals::Arrival;

/// How many spans of a trace are shown.
const SPANS: usize = 1000;

/// How many attributes, events, links or records are shown in one place.
const ENTRIES: usize = 128;

/// How long one text is, at most, in characters.
const TEXT: usize = 4000;

/// The same in a list.
const SHORT: usize = 120;

/// How long all texts of one answer are together, in bytes.
const ALL_TEXTS: usize = 4 * 1024 * 1024;

/// How many log records that belong to no trace are shown.
const LOOSE: usize = 100;

/// Cuts what is too long or too many.
pub struct Cut {
    left: usize,
}

impl Default for Cut {
    fn default() -> Self {
        Self { left: ALL_TEXTS }
    }
}

impl Cut {
    /// `text`, with nothing invisible or direction-changing in it.
    pub fn text(&mut self, text: &str) -> String {
        self.cut(text, TEXT)
    }

    /// The same for a list.
    fn short(&mut self, text: &str) -> String {
        self.cut(text, SHORT)
    }

    fn cut(&mut self, text: &str, limit: usize) -> String {
        let mut out = String::new();
        let limit = limit.min(self.left);
        for (count, c) in text.chars().enumerate() {
            if count >= limit {
                out.push('…');
                break;
            }
            if otlp::is_unsafe(c) && c != '\n' && c != '\t' {
                out.extend(c.escape_unicode());
            } else {
                out.push(c);
            }
        }
        self.left = self.left.saturating_sub(out.len());
        out
    }

    /// As many of `items` as are shown, and how many are not.
    fn some<'a, T>(&self, items: &'a [T], limit: usize) -> (&'a [T], usize) {
        let shown = if self.left == 0 {
            0
        } else {
            limit.min(items.len())
        };
        (&items[..shown], items.len() - shown)
    }
}

/// A line of the list of traces.
#[derive(Serialize)]
pub struct TraceLine {
    id: String,
    name: String,
    /// The root's service.
    service: String,
    /// `Unset`, `Ok` or `Error`: the root's.
    status: &'static str,
    /// Whether the root has come.
    root: bool,
    spans: usize,
    errors: usize,
    services: Vec<String>,
    took: String,
    /// Milliseconds since the Unix epoch.
    at: f64,
}

impl TraceLine {
    pub fn new(trace: &Arrival, cut: &mut Cut) -> Self {
        Self {
            id: trace.id.to_string(),
            name: cut.short(&trace.root.name),
            service: cut.short(&trace.root.service),
            status: trace.root.status.as_str(),
            root: trace.root.is_root,
            spans: trace.spans,
            errors: trace.errors,
            services: trace.services.iter().map(|name| cut.short(name)).collect(),
            took: otlp::duration_text(trace.end.saturating_sub(trace.start)),
            at: millis(trace.start),
        }
    }
}

/// A trace whole.
#[derive(Serialize)]
pub struct TraceView {
    id: String,
    took: String,
    at: f64,
    spans: Vec<SpanView>,
    /// How many spans are not shown.
    more: usize,
    /// Records of this trace whose span is not here.
    logs: Vec<LogView>,
}

/// A span, in the order of rows.
#[derive(Serialize)]
struct SpanView {
    id: String,
    parent: Option<String>,
    depth: usize,
    /// Why a span with a parent stands at the top.
    apart: Option<&'static str>,
    name: String,
    kind: &'static str,
    service: String,
    status: &'static str,
    description: String,
    /// From the trace's start to its end: 0 to 1.
    start: f64,
    length: f64,
    offset: String,
    took: String,
    trace_state: String,
    sampled: bool,
    attributes: Vec<Attribute>,
    more_attributes: usize,
    events: Vec<EventView>,
    more_events: usize,
    links: Vec<LinkView>,
    more_links: usize,
    logs: Vec<LogView>,
    more_logs: usize,
    scope: ScopeView,
    resource: Vec<Attribute>,
}

#[derive(Serialize)]
struct Attribute {
    key: String,
    /// As OTLP types it: `string`, `int`, `string[]`, …
    r#type: String,
    /// A string stands in quotes.
    value: String,
}

#[derive(Serialize)]
struct EventView {
    name: String,
    offset: String,
    at: f64,
    attributes: Vec<Attribute>,
}

#[derive(Serialize)]
struct LinkView {
    trace: String,
    span: String,
    /// What it leads to: `parent`, a span's name, or nothing, if that is not here.
    to: Option<String>,
    /// Whether that is in the same trace.
    same: bool,
    attributes: Vec<Attribute>,
}

#[derive(Serialize)]
struct ScopeView {
    name: String,
    version: String,
    attributes: Vec<Attribute>,
}

/// A log record.
#[derive(Serialize)]
pub struct LogView {
    severity: String,
    /// 0 if it is not said.
    number: i32,
    /// Since the start of the trace; empty outside of one.
    offset: String,
    /// Milliseconds since the Unix epoch.
    at: f64,
    body: String,
    event: String,
    service: String,
    scope: String,
    attributes: Vec<Attribute>,
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

fn attributes(all: &[KeyValue], cut: &mut Cut) -> (Vec<Attribute>, usize) {
    let (some, more) = cut.some(all, ENTRIES);
    let some = some.iter().map(|attribute| Attribute {
        key: cut.text(&attribute.key),
        r#type: attribute.value.type_name(),
        value: cut.text(&attribute.value.to_string()),
    });
    (some.collect(), more)
}

fn scope(scope: &Scope, cut: &mut Cut) -> ScopeView {
    ScopeView {
        name: cut.text(&scope.name),
        version: cut.text(&scope.version),
        attributes: attributes(&scope.attributes, cut).0,
    }
}

fn resource(resource: &Resource, cut: &mut Cut) -> Vec<Attribute> {
    attributes(&resource.attributes, cut).0
}

/// The axis of a trace, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy)]
struct Axis {
    start: u64,
    end: u64,
}

impl Axis {
    fn of<'a>(spans: impl Iterator<Item = &'a Span>) -> Self {
        let (mut start, mut end) = (u64::MAX, 0);
        for span in spans {
            start = start.min(span.start_unix_nanos);
            end = end.max(span.end_unix_nanos).max(span.start_unix_nanos);
        }
        Self { start, end }
    }

    fn length(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    fn position(self, time: u64) -> f64 {
        match self.length() {
            0 => 0.0,
            length => (time.saturating_sub(self.start) as f64 / length as f64).clamp(0.0, 1.0),
        }
    }

    fn offset(self, time: u64) -> String {
        if time >= self.start {
            format!("+{}", otlp::duration_text(time - self.start))
        } else {
            format!("-{}", otlp::duration_text(self.start - time))
        }
    }
}

fn log(record: &LogRecord, axis: Option<Axis>, cut: &mut Cut) -> LogView {
    let body = match &record.body {
        Value::Str(text) => cut.text(text),
        Value::Empty => String::new(),
        other => cut.text(&other.to_string()),
    };
    LogView {
        severity: cut.text(&otlp::severity(record)),
        number: record.severity_number,
        offset: axis.map_or_else(String::new, |axis| axis.offset(record.timestamp())),
        at: millis(record.timestamp()),
        body,
        event: cut.text(&record.event_name),
        service: cut.text(record.service()),
        scope: cut.text(&record.scope.name),
        attributes: attributes(&record.attributes, cut).0,
    }
}

/// The trace `id`, if something of it is here.
pub fn trace(snapshot: &Snapshot, id: TraceId) -> Option<TraceView> {
    let all = snapshot.spans().iter().filter(|span| span.trace_id == id);
    let axis = Axis::of(all.clone());
    let count = all.clone().count();
    let spans: Vec<Span> = all.take(SPANS).cloned().collect();
    let trace: Trace = otlp::traces(&spans).into_iter().next()?;
    let here: HashSet<SpanId> = spans.iter().map(|span| span.span_id).collect();
    let targets: HashSet<(TraceId, SpanId)> = spans
        .iter()
        .flat_map(|span| span.links.iter().take(ENTRIES))
        .map(|link| (link.trace_id, link.span_id))
        .collect();
    let names: HashMap<(TraceId, SpanId), &str> = snapshot
        .spans()
        .iter()
        .filter(|span| targets.contains(&(span.trace_id, span.span_id)))
        .map(|span| ((span.trace_id, span.span_id), span.name.as_str()))
        .collect();
    // A record of a span that is not here belongs to the trace.
    let mut logs: HashMap<Option<SpanId>, Vec<&LogRecord>> = HashMap::new();
    for record in snapshot
        .logs()
        .iter()
        .filter(|log| log.trace_id == Some(id))
    {
        let span = record.span_id.filter(|span| here.contains(span));
        logs.entry(span).or_default().push(record);
    }
    for records in logs.values_mut() {
        records.sort_by_key(|record| record.timestamp());
    }
    let mut teller = Teller {
        axis,
        names,
        logs,
        cut: Cut::default(),
    };
    let rows = trace.nodes().map(|(depth, node)| teller.span(depth, node));
    let rows = rows.collect();
    let (rest, _) = teller.logs(None);
    Some(TraceView {
        id: id.to_string(),
        took: otlp::duration_text(axis.length()),
        at: millis(axis.start),
        spans: rows,
        more: count - spans.len(),
        logs: rest,
    })
}

struct Teller<'a> {
    axis: Axis,
    names: HashMap<(TraceId, SpanId), &'a str>,
    logs: HashMap<Option<SpanId>, Vec<&'a LogRecord>>,
    cut: Cut,
}

impl Teller<'_> {
    fn logs(&mut self, span: Option<SpanId>) -> (Vec<LogView>, usize) {
        let all = self.logs.remove(&span).unwrap_or_default();
        let (some, more) = self.cut.some(&all, ENTRIES);
        let some = some.iter();
        let some = some.map(|record| log(record, Some(self.axis), &mut self.cut));
        (some.collect(), more)
    }

    fn span(&mut self, depth: usize, node: &Node) -> SpanView {
        let span = &node.span;
        let axis = self.axis;
        let (logs, more_logs) = self.logs(Some(span.span_id));
        let cut = &mut self.cut;
        let (some, more_events) = cut.some(&span.events, ENTRIES);
        let events = some.iter().map(|event| EventView {
            name: cut.text(&event.name),
            offset: axis.offset(event.time_unix_nanos),
            at: axis.position(event.time_unix_nanos),
            attributes: attributes(&event.attributes, cut).0,
        });
        let events = events.collect();
        let (some, more_links) = cut.some(&span.links, ENTRIES);
        let mut links = Vec::new();
        for link in some {
            let same = link.trace_id == span.trace_id;
            let to = if same && span.parent_span_id == Some(link.span_id) {
                Some("parent".to_owned())
            } else {
                let name = self.names.get(&(link.trace_id, link.span_id));
                name.map(|name| cut.text(name))
            };
            links.push(LinkView {
                trace: link.trace_id.to_string(),
                span: link.span_id.to_string(),
                to,
                same,
                attributes: attributes(&link.attributes, cut).0,
            });
        }
        let (own, more_attributes) = attributes(&span.attributes, cut);
        let end = span.end_unix_nanos.max(span.start_unix_nanos);
        let start = axis.position(span.start_unix_nanos);
        SpanView {
            id: span.span_id.to_string(),
            parent: span.parent_span_id.map(|id| id.to_string()),
            depth,
            apart: match node.parent {
                Parent::None | Parent::Here => None,
                Parent::Missing(_) => Some("its parent has not been received"),
                Parent::Cut(_) => Some("its parent is not above it"),
            },
            name: cut.text(&span.name),
            kind: span.kind.as_str(),
            service: cut.text(span.service()),
            status: span.status.code.as_str(),
            description: cut.text(&span.status.description),
            start,
            length: axis.position(end) - start,
            offset: axis.offset(span.start_unix_nanos),
            took: otlp::duration_text(span.duration_nanos()),
            trace_state: cut.text(&span.trace_state),
            sampled: span.is_sampled(),
            attributes: own,
            more_attributes,
            events,
            more_events,
            links,
            more_links,
            logs,
            more_logs,
            scope: scope(&span.scope, cut),
            resource: resource(&span.resource, cut),
        }
    }
}

/// The newest records that belong to no trace, the newest first.
pub fn loose_logs(snapshot: &Snapshot) -> Vec<LogView> {
    let mut cut = Cut::default();
    let loose = snapshot.logs().iter().rev();
    let loose = loose.filter(|record| record.trace_id.is_none()).take(LOOSE);
    loose.map(|record| log(record, None, &mut cut)).collect()
}
