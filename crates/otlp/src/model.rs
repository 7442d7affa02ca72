//! Spans and log records as they were exported, with typed values.
//!
//! The shapes follow `opentelemetry/proto/trace/v1/trace.proto` and its
//! siblings in OTLP 1.x. Nothing is tidied up here: attributes keep their order
//! and their duplicates, since a wrong exporter is what a check looks for.

use std::fmt;
use std::sync::Arc;

use opentelemetry_semantic_conventions::attribute::SERVICE_NAME;

use crate::text;

/// Identifies a trace: 16 bytes, not all zero in a valid span
/// (W3C Trace Context, 3.2.2.3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TraceId(pub [u8; 16]);

/// Identifies a span inside its trace: 8 bytes, not all zero in a valid span
/// (W3C Trace Context, 3.2.2.4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SpanId(pub [u8; 8]);

impl TraceId {
    /// Whether the id is valid, that is not all zero.
    pub fn is_valid(&self) -> bool {
        self.0 != [0; 16]
    }
}

impl SpanId {
    /// Whether the id is valid, that is not all zero.
    pub fn is_valid(&self) -> bool {
        self.0 != [0; 8]
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for TraceId {
    /// 32 lower-case hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

impl fmt::Display for SpanId {
    /// 16 lower-case hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanId({self})")
    }
}

/// A value of an attribute or a log body: OTLP's `AnyValue`.
///
/// [`Display`](fmt::Display) shows the type, too: `"200"` is a string, `200` an
/// integer, `1.0` a double, `0x0a0b` bytes, `["a", "b"]` an array,
/// `{"a": 1}` a map, `empty` a value that holds nothing.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// A string.
    Str(String),
    /// A boolean.
    Bool(bool),
    /// A signed 64-bit integer.
    Int(i64),
    /// A 64-bit floating point number.
    Double(f64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list. OTLP allows mixed types; the API for attributes does not.
    Array(Vec<Value>),
    /// Keys and values in the order in which they were exported.
    Map(Vec<KeyValue>),
    /// No value at all.
    #[default]
    Empty,
}

impl PartialEq for Value {
    /// As derived, except that NaN equals NaN: two equal texts are equal values.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Str(a), Value::Str(b)) => a == b,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Double(a), Value::Double(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Array(a), Value::Array(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => a == b,
            (Value::Empty, Value::Empty) => true,
            _ => false,
        }
    }
}

impl Value {
    /// The name of the type: `string`, `bool`, `int`, `double`, `bytes`, `map`,
    /// `empty`; `string[]`, `int[]`, … for an array of one type, `array` for an
    /// empty or mixed one.
    pub fn type_name(&self) -> String {
        match self {
            Value::Str(_) => "string".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Int(_) => "int".to_owned(),
            Value::Double(_) => "double".to_owned(),
            Value::Bytes(_) => "bytes".to_owned(),
            Value::Map(_) => "map".to_owned(),
            Value::Empty => "empty".to_owned(),
            Value::Array(values) => {
                let first = values.first().map(Value::type_name);
                match first {
                    Some(name) if values.iter().all(|v| v.type_name() == name) => {
                        format!("{name}[]")
                    }
                    _ => "array".to_owned(),
                }
            }
        }
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Str(value) => f.write_str(&text::quote(value)),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::Double(value) if value.is_nan() => f.write_str("NaN"),
            Value::Double(value) if value.is_infinite() => f.write_str(if *value > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            }),
            // The debug form always has a point or an exponent: `1.0`, not `1`.
            Value::Double(value) => write!(f, "{value:?}"),
            Value::Bytes(bytes) => {
                f.write_str("0x")?;
                write_hex(f, bytes)
            }
            Value::Array(values) => {
                f.write_str("[")?;
                for (i, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Value::Map(entries) => {
                f.write_str("{")?;
                for (i, entry) in entries.iter().enumerate() {
                    let comma = if i > 0 { ", " } else { "" };
                    write!(f, "{comma}{}: {}", text::quote(&entry.key), entry.value)?;
                }
                f.write_str("}")
            }
            Value::Empty => f.write_str("empty"),
        }
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Str(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Str(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Double(value)
    }
}

/// One attribute.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyValue {
    /// The name.
    pub key: String,
    /// The value, with its type.
    pub value: Value,
}

impl KeyValue {
    /// An attribute.
    pub fn new(key: impl Into<String>, value: impl Into<Value>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }
}

/// The first value under `key`.
fn find<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    attributes
        .iter()
        .find(|attribute| attribute.key == key)
        .map(|attribute| &attribute.value)
}

/// What made the telemetry: a service, its host, its process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resource {
    /// `service.name` and the like.
    pub attributes: Vec<KeyValue>,
    /// The schema of these attributes, or "".
    pub schema_url: String,
}

impl Resource {
    /// The first value under `key`.
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        find(&self.attributes, key)
    }

    /// `service.name`, or "" if it is absent or no string.
    pub fn service(&self) -> &str {
        self.attribute(SERVICE_NAME)
            .and_then(Value::as_str)
            .unwrap_or("")
    }
}

/// The instrumentation scope: which library made the span or record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// The library's name.
    pub name: String,
    /// Its version, or "".
    pub version: String,
    /// The schema of the attributes of what it made, or "".
    pub schema_url: String,
    /// The scope's own attributes.
    pub attributes: Vec<KeyValue>,
}

/// A span's role in its trace (Trace API specification, "SpanKind").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpanKind {
    /// Not said, or a number this crate does not know.
    #[default]
    Unspecified,
    /// Work inside the service.
    Internal,
    /// The answering side of a call.
    Server,
    /// The calling side of a call.
    Client,
    /// Sends a message.
    Producer,
    /// Receives or processes a message.
    Consumer,
}

impl SpanKind {
    /// `INTERNAL`, `SERVER`, `CLIENT`, `PRODUCER`, `CONSUMER` or `UNSPECIFIED`.
    pub fn as_str(self) -> &'static str {
        match self {
            SpanKind::Unspecified => "UNSPECIFIED",
            SpanKind::Internal => "INTERNAL",
            SpanKind::Server => "SERVER",
            SpanKind::Client => "CLIENT",
            SpanKind::Producer => "PRODUCER",
            SpanKind::Consumer => "CONSUMER",
        }
    }

    /// All kinds, in the order of their numbers in OTLP.
    pub const ALL: [Self; 6] = [
        Self::Unspecified,
        Self::Internal,
        Self::Server,
        Self::Client,
        Self::Producer,
        Self::Consumer,
    ];

    /// The kind that [`as_str`](Self::as_str) writes so.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for SpanKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A span's status code (Trace API specification, "Set Status").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StatusCode {
    /// The default: no error known.
    #[default]
    Unset,
    /// Declared successful by the application.
    Ok,
    /// Failed.
    Error,
}

impl StatusCode {
    /// `Unset`, `Ok` or `Error`.
    pub fn as_str(self) -> &'static str {
        match self {
            StatusCode::Unset => "Unset",
            StatusCode::Ok => "Ok",
            StatusCode::Error => "Error",
        }
    }

    /// The code that [`as_str`](Self::as_str) writes so.
    pub fn parse(text: &str) -> Option<Self> {
        [StatusCode::Unset, StatusCode::Ok, StatusCode::Error]
            .into_iter()
            .find(|code| code.as_str() == text)
    }
}

impl fmt::Display for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A span's status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The code.
    pub code: StatusCode,
    /// For a developer's eyes; only meaningful with [`StatusCode::Error`].
    pub description: String,
}

/// Something that happened at one moment of a span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// Nanoseconds since the Unix epoch.
    pub time_unix_nanos: u64,
    /// The event's name.
    pub name: String,
    /// What is said about it.
    pub attributes: Vec<KeyValue>,
}

impl Event {
    /// The first value under `key`.
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        find(&self.attributes, key)
    }
}

/// Points from a span to another one, of this or another trace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    /// The other span's trace; zero if the link's context was invalid.
    pub trace_id: TraceId,
    /// The other span; zero if the link's context was invalid.
    pub span_id: SpanId,
    /// The other span's W3C `tracestate`.
    pub trace_state: String,
    /// What is said about the link.
    pub attributes: Vec<KeyValue>,
    /// W3C trace flags in the low byte (trace.proto, `SpanFlags`).
    pub flags: u32,
}

/// A finished span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    /// The trace it belongs to.
    pub trace_id: TraceId,
    /// Its own id.
    pub span_id: SpanId,
    /// The span above it, if it names one. Zero bytes count as none.
    pub parent_span_id: Option<SpanId>,
    /// Its name.
    pub name: String,
    /// Its role.
    pub kind: SpanKind,
    /// Start, in nanoseconds since the Unix epoch.
    pub start_unix_nanos: u64,
    /// End, in nanoseconds since the Unix epoch. An exporter may get it wrong:
    /// it can be before the start.
    pub end_unix_nanos: u64,
    /// In the order in which they were exported, duplicates included.
    pub attributes: Vec<KeyValue>,
    /// What happened in it.
    pub events: Vec<Event>,
    /// The spans it points to.
    pub links: Vec<Link>,
    /// How it ended.
    pub status: Status,
    /// W3C trace flags in the low byte, `is_remote` of the parent above it
    /// (trace.proto, `SpanFlags`).
    pub flags: u32,
    /// W3C `tracestate`.
    pub trace_state: String,
    /// Which library made it.
    pub scope: Arc<Scope>,
    /// Which service made it.
    pub resource: Arc<Resource>,
}

impl Span {
    /// The resource's `service.name`, or "".
    pub fn service(&self) -> &str {
        self.resource.service()
    }

    /// The first value under `key`.
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        find(&self.attributes, key)
    }

    /// End minus start, in nanoseconds; 0 if the end is before the start.
    pub fn duration_nanos(&self) -> u64 {
        self.end_unix_nanos.saturating_sub(self.start_unix_nanos)
    }

    /// Whether the `sampled` bit of the W3C trace flags is set.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }
}

/// One log record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogRecord {
    /// When it happened, in nanoseconds since the Unix epoch; 0 = not known.
    pub time_unix_nanos: u64,
    /// When it was seen by the SDK, in nanoseconds since the Unix epoch.
    pub observed_unix_nanos: u64,
    /// 1 to 24, 0 = not said (Logs data model, "SeverityNumber").
    pub severity_number: i32,
    /// The severity as the source names it.
    pub severity_text: String,
    /// What it says.
    pub body: Value,
    /// In the order in which they were exported, duplicates included.
    pub attributes: Vec<KeyValue>,
    /// Set if the record is an event.
    pub event_name: String,
    /// The trace in which it was written.
    pub trace_id: Option<TraceId>,
    /// The span in which it was written.
    pub span_id: Option<SpanId>,
    /// W3C trace flags in the low byte.
    pub flags: u32,
    /// Which library made it.
    pub scope: Arc<Scope>,
    /// Which service made it.
    pub resource: Arc<Resource>,
}

impl LogRecord {
    /// The resource's `service.name`, or "".
    pub fn service(&self) -> &str {
        self.resource.service()
    }

    /// The first value under `key`.
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        find(&self.attributes, key)
    }

    /// The time it happened, or, if that is not known, was seen: what the Logs
    /// data model advises for display. Nanoseconds since the Unix epoch.
    pub fn timestamp(&self) -> u64 {
        if self.time_unix_nanos != 0 {
            self.time_unix_nanos
        } else {
            self.observed_unix_nanos
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_show_their_type() {
        let cases = [
            (Value::from("200"), "\"200\"", "string"),
            (Value::Int(200), "200", "int"),
            (Value::Int(i64::MIN), "-9223372036854775808", "int"),
            (Value::Double(1.5), "1.5", "double"),
            (Value::Double(1.0), "1.0", "double"),
            (Value::Double(f64::NAN), "NaN", "double"),
            (Value::Double(f64::NEG_INFINITY), "-Infinity", "double"),
            (Value::Bool(true), "true", "bool"),
            (Value::Bytes(vec![10, 11]), "0x0a0b", "bytes"),
            (Value::Empty, "empty", "empty"),
            (
                Value::Array(vec!["a".into(), "b".into()]),
                "[\"a\", \"b\"]",
                "string[]",
            ),
            (
                Value::Array(vec!["a".into(), Value::Int(1)]),
                "[\"a\", 1]",
                "array",
            ),
            (Value::Array(vec![]), "[]", "array"),
            (
                Value::Map(vec![KeyValue::new("a", 1_i64), KeyValue::new("b", "x\n")]),
                "{\"a\": 1, \"b\": \"x\\n\"}",
                "map",
            ),
        ];
        for (value, text, type_name) in cases {
            assert_eq!(value.to_string(), text);
            assert_eq!(value.type_name(), type_name);
            assert_eq!(value, value.clone());
        }
        assert_ne!(Value::Int(1), Value::Double(1.0));
    }

    #[test]
    fn ids_are_lower_case_hex() {
        let mut bytes = [0; 16];
        bytes[15] = 0xAB;
        assert_eq!(
            TraceId(bytes).to_string(),
            "000000000000000000000000000000ab"
        );
        assert_eq!(SpanId([255; 8]).to_string(), "ffffffffffffffff");
        assert!(!SpanId::default().is_valid());
    }

    #[test]
    fn the_service_is_a_string_or_nothing() {
        let resource = |value: Value| Resource {
            attributes: vec![KeyValue::new(SERVICE_NAME, value)],
            schema_url: String::new(),
        };
        assert_eq!(resource("tier1".into()).service(), "tier1");
        assert_eq!(resource(Value::Int(1)).service(), "");
        assert_eq!(Resource::default().service(), "");
    }
}
