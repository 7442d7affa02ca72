//! What a run exported, kept in a file: OTLP's JSON, spans and log records in one object.
//!
//! The file is made to be kept under version control: of two runs it differs in what
//! differed, and a line of it is something that a person can read.

use std::fmt::Write as _;

use crate::decode::{Encoding, Signal, decode};
use crate::model::{
    Event, KeyValue, Link, LogRecord, Resource, Span, SpanId, SpanKind, StatusCode, TraceId, Value,
};

/// How long a line may be if it holds more than one value.
const LINE: usize = 100;

/// Spans and log records of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    /// In the order of the file.
    pub spans: Vec<Span>,
    /// In the order of the file.
    pub logs: Vec<LogRecord>,
}

impl Recorded {
    /// Reads what [`to_json`](Self::to_json) wrote, or any JSON object with OTLP's
    /// `resourceSpans` and `resourceLogs`.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        let read = |signal| {
            decode(signal, Encoding::Json, json).map_err(|error| {
                // In a file, it is no body of a request.
                error.to_string().replacen("the body", "the file", 1)
            })
        };
        Ok(Self {
            spans: read(Signal::Traces)?.spans,
            logs: read(Signal::Logs)?.logs,
        })
    }

    /// As OTLP's JSON encoding has it (OTLP specification, "JSON Protobuf Encoding").
    /// Scopes are left out, and of counters those of what was dropped: the model doesn't
    /// have them.
    pub fn to_json(&self) -> String {
        let mut root = Vec::new();
        if !self.spans.is_empty() {
            let groups = groups(
                &self.spans,
                |span| &span.resource,
                "scopeSpans",
                "spans",
                span,
            );
            root.push(("resourceSpans", groups));
        }
        if !self.logs.is_empty() {
            let groups = groups(
                &self.logs,
                |record| &record.resource,
                "scopeLogs",
                "logRecords",
                record,
            );
            root.push(("resourceLogs", groups));
        }
        let mut out = String::new();
        Json::Object(root).write(&mut out, 0);
        out.push('\n');
        out
    }

    /// Moves all times so that the first span starts at `start`, in nanoseconds since the
    /// Unix epoch: two recordings of the same then differ in their durations alone. Times
    /// that aren't known stay so.
    #[must_use]
    pub fn starting_at(mut self, start: u64) -> Self {
        let first = self.spans.iter().map(|span| span.start_unix_nanos).min();
        let Some(first) = first else { return self };
        let moved = |time: &mut u64| {
            if *time != 0 {
                // What was before the first span stays before it, as far as there is room.
                *time = if *time >= first {
                    start.saturating_add(*time - first)
                } else {
                    start.saturating_sub(first - *time).max(1)
                };
            }
        };
        for span in &mut self.spans {
            moved(&mut span.start_unix_nanos);
            moved(&mut span.end_unix_nanos);
            span.events
                .iter_mut()
                .for_each(|event| moved(&mut event.time_unix_nanos));
        }
        for record in &mut self.logs {
            moved(&mut record.time_unix_nanos);
            moved(&mut record.observed_unix_nanos);
        }
        self
    }
}

/// A JSON value that is written once and never read.
enum Json {
    /// Written as it is: a number, a string with its quotes.
    Raw(String),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl Json {
    fn text(text: &str) -> Self {
        Self::Raw(serde_json::Value::from(text).to_string())
    }

    /// Numbers of 64 bits are strings in JSON.
    fn number64(number: impl std::fmt::Display) -> Self {
        Self::Raw(format!("\"{number}\""))
    }

    /// In one line.
    fn compact(&self, out: &mut String) {
        match self {
            Self::Raw(text) => out.push_str(text),
            Self::List(values) => {
                out.push('[');
                for (at, value) in values.iter().enumerate() {
                    out.push_str(if at > 0 { ", " } else { "" });
                    value.compact(out);
                }
                out.push(']');
            }
            Self::Object(fields) => {
                out.push('{');
                for (at, (name, value)) in fields.iter().enumerate() {
                    let _ = write!(out, "{}\"{name}\": ", if at > 0 { ", " } else { "" });
                    value.compact(out);
                }
                out.push('}');
            }
        }
    }

    /// In one line if that is not too long, else a line for each part. Recursion is
    /// bounded as in the decoder, by how deep a value was when it came.
    fn write(&self, out: &mut String, depth: usize) {
        let mut line = String::new();
        self.compact(&mut line);
        let parts: Vec<(Option<&str>, &Json)> = match self {
            Self::Raw(_) => Vec::new(),
            Self::List(values) => values.iter().map(|value| (None, value)).collect(),
            Self::Object(fields) => fields.iter().map(|(name, it)| (Some(*name), it)).collect(),
        };
        if parts.is_empty() || line.chars().count() + depth <= LINE {
            out.push_str(&line);
            return;
        }
        let (open, close) = match self {
            Self::Object(_) => ('{', '}'),
            _ => ('[', ']'),
        };
        out.push(open);
        for (at, (name, value)) in parts.into_iter().enumerate() {
            out.push_str(if at > 0 { ",\n" } else { "\n" });
            out.push_str(&" ".repeat(depth + 1));
            if let Some(name) = name {
                let _ = write!(out, "\"{name}\": ");
            }
            value.write(out, depth + 1);
        }
        out.push('\n');
        out.push_str(&" ".repeat(depth));
        out.push(close);
    }
}

/// What was exported, by the resource that it is of, in the order in which resources are
/// met: `[{resource, scopeSpans: [{spans: […]}]}, …]`.
fn groups<T>(
    all: &[T],
    resource: impl Fn(&T) -> &std::sync::Arc<Resource>,
    scopes: &'static str,
    inner: &'static str,
    one: impl Fn(&T) -> Json,
) -> Json {
    let mut groups: Vec<(&Resource, Vec<Json>)> = Vec::new();
    for it in all {
        let of = resource(it).as_ref();
        match groups.iter_mut().find(|(other, _)| *other == of) {
            Some((_, group)) => group.push(one(it)),
            None => groups.push((of, vec![one(it)])),
        }
    }
    let groups = groups.into_iter().map(|(of, group)| {
        let mut fields = vec![(
            "resource",
            Json::Object(vec![("attributes", attributes(&of.attributes))]),
        )];
        if !of.schema_url.is_empty() {
            fields.push(("schemaUrl", Json::text(&of.schema_url)));
        }
        let scope = Json::Object(vec![(inner, Json::List(group))]);
        fields.push((scopes, Json::List(vec![scope])));
        Json::Object(fields)
    });
    Json::List(groups.collect())
}

fn span(span: &Span) -> Json {
    let mut fields = vec![
        ("traceId", Json::text(&span.trace_id.to_string())),
        ("spanId", Json::text(&span.span_id.to_string())),
    ];
    if let Some(parent) = span.parent_span_id {
        fields.push(("parentSpanId", Json::text(&parent.to_string())));
    }
    fields.push(("name", Json::text(&span.name)));
    let kind = match span.kind {
        SpanKind::Unspecified => 0,
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    };
    fields.push(("kind", Json::Raw(kind.to_string())));
    fields.push(("startTimeUnixNano", Json::number64(span.start_unix_nanos)));
    fields.push(("endTimeUnixNano", Json::number64(span.end_unix_nanos)));
    push_flags(&mut fields, span.flags);
    push_text(&mut fields, "traceState", &span.trace_state);
    push_attributes(&mut fields, &span.attributes);
    push_list(&mut fields, "events", &span.events, event);
    push_list(&mut fields, "links", &span.links, link);
    let mut status = Vec::new();
    match span.status.code {
        StatusCode::Unset => {}
        StatusCode::Ok => status.push(("code", Json::Raw("1".to_owned()))),
        StatusCode::Error => status.push(("code", Json::Raw("2".to_owned()))),
    }
    push_text(&mut status, "message", &span.status.description);
    if !status.is_empty() {
        fields.push(("status", Json::Object(status)));
    }
    Json::Object(fields)
}

fn event(event: &Event) -> Json {
    let mut fields = vec![
        ("timeUnixNano", Json::number64(event.time_unix_nanos)),
        ("name", Json::text(&event.name)),
    ];
    push_attributes(&mut fields, &event.attributes);
    Json::Object(fields)
}

/// An id that is not valid is left out: an empty one would be read as that, too.
fn link(link: &Link) -> Json {
    let mut fields = Vec::new();
    if link.trace_id.is_valid() {
        fields.push(("traceId", Json::text(&link.trace_id.to_string())));
    }
    if link.span_id.is_valid() {
        fields.push(("spanId", Json::text(&link.span_id.to_string())));
    }
    push_flags(&mut fields, link.flags);
    push_text(&mut fields, "traceState", &link.trace_state);
    push_attributes(&mut fields, &link.attributes);
    Json::Object(fields)
}

fn record(record: &LogRecord) -> Json {
    let mut fields = Vec::new();
    for (name, time) in [
        ("timeUnixNano", record.time_unix_nanos),
        ("observedTimeUnixNano", record.observed_unix_nanos),
    ] {
        if time != 0 {
            fields.push((name, Json::number64(time)));
        }
    }
    if record.severity_number != 0 {
        let number = Json::Raw(record.severity_number.to_string());
        fields.push(("severityNumber", number));
    }
    push_text(&mut fields, "severityText", &record.severity_text);
    if record.body != Value::Empty {
        fields.push(("body", value(&record.body)));
    }
    push_text(&mut fields, "eventName", &record.event_name);
    let ids: [(&'static str, Option<String>); 2] = [
        ("traceId", record.trace_id.as_ref().map(TraceId::to_string)),
        ("spanId", record.span_id.as_ref().map(SpanId::to_string)),
    ];
    for (name, id) in ids {
        push_text(&mut fields, name, &id.unwrap_or_default());
    }
    push_flags(&mut fields, record.flags);
    push_attributes(&mut fields, &record.attributes);
    Json::Object(fields)
}

type Fields = Vec<(&'static str, Json)>;

fn push_text(fields: &mut Fields, name: &'static str, text: &str) {
    if !text.is_empty() {
        fields.push((name, Json::text(text)));
    }
}

fn push_flags(fields: &mut Fields, flags: u32) {
    if flags != 0 {
        fields.push(("flags", Json::Raw(flags.to_string())));
    }
}

fn push_attributes(fields: &mut Fields, all: &[KeyValue]) {
    if !all.is_empty() {
        fields.push(("attributes", attributes(all)));
    }
}

fn push_list<T>(fields: &mut Fields, name: &'static str, all: &[T], one: fn(&T) -> Json) {
    if !all.is_empty() {
        fields.push((name, Json::List(all.iter().map(one).collect())));
    }
}

fn attributes(all: &[KeyValue]) -> Json {
    let one = |it: &KeyValue| {
        Json::Object(vec![
            ("key", Json::text(&it.key)),
            ("value", value(&it.value)),
        ])
    };
    Json::List(all.iter().map(one).collect())
}

fn value(it: &Value) -> Json {
    let (name, json) = match it {
        Value::Str(text) => ("stringValue", Json::text(text)),
        Value::Bool(value) => ("boolValue", Json::Raw(value.to_string())),
        Value::Int(number) => ("intValue", Json::number64(number)),
        // As text, which protobuf's mapping allows for each number: read as a JSON number
        // it may come back with another last digit.
        Value::Double(_) => ("doubleValue", Json::text(&it.to_string())),
        Value::Bytes(bytes) => ("bytesValue", Json::text(&base64(bytes))),
        Value::Array(values) => {
            let values = values.iter().map(value).collect();
            let list = Json::Object(vec![("values", Json::List(values))]);
            ("arrayValue", list)
        }
        Value::Map(entries) => {
            let map = Json::Object(vec![("values", attributes(entries))]);
            ("kvlistValue", map)
        }
        Value::Empty => return Json::Object(Vec::new()),
    };
    Json::Object(vec![(name, json)])
}

/// The alphabet of RFC 4648, 4, padded.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4_usize {
            if place <= chunk.len() {
                let digit = (bits >> (18 - 6 * place)) & 0x3f;
                out.push(char::from(DIGITS[digit as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}
