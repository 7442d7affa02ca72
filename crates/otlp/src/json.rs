//! The JSON mapping of OTLP, read into the protobuf types.
//!
//! OTLP deviates from protobuf's own JSON mapping (OTLP specification, "JSON
//! Protobuf Encoding"): ids are hex and not base64, enums are numbers, names are
//! camel case only, unknown names are ignored. What protobuf's mapping allows
//! besides is taken, too: 64-bit numbers as numbers or strings, `null` for
//! "absent", absent lists, `"NaN"` and `"Infinity"`.
//!
//! Errors say where: `resourceSpans[0].scopeSpans[0].spans[1].traceId: …`.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use serde_json::Value;

/// What is wrong with a body, in one line.
type Problem = String;

/// A request for `/v1/traces`.
pub(crate) fn traces(body: &[u8]) -> Result<ExportTraceServiceRequest, Problem> {
    let root = parse(body)?;
    Ok(ExportTraceServiceRequest {
        resource_spans: Object::root(&root)?.list("resourceSpans", |object| {
            Ok(ResourceSpans {
                resource: object.object("resource", resource)?,
                schema_url: object.string("schemaUrl")?,
                scope_spans: object.list("scopeSpans", |object| {
                    Ok(ScopeSpans {
                        scope: object.object("scope", scope)?,
                        schema_url: object.string("schemaUrl")?,
                        spans: object.list("spans", span)?,
                    })
                })?,
            })
        })?,
    })
}

/// A request for `/v1/logs`.
pub(crate) fn logs(body: &[u8]) -> Result<ExportLogsServiceRequest, Problem> {
    let root = parse(body)?;
    Ok(ExportLogsServiceRequest {
        resource_logs: Object::root(&root)?.list("resourceLogs", |object| {
            Ok(ResourceLogs {
                resource: object.object("resource", resource)?,
                schema_url: object.string("schemaUrl")?,
                scope_logs: object.list("scopeLogs", |object| {
                    Ok(ScopeLogs {
                        scope: object.object("scope", scope)?,
                        schema_url: object.string("schemaUrl")?,
                        log_records: object.list("logRecords", record)?,
                    })
                })?,
            })
        })?,
    })
}

/// How many metrics a request for `/v1/metrics` holds.
pub(crate) fn count_metrics(body: &[u8]) -> Result<usize, Problem> {
    let root = parse(body)?;
    let counts = Object::root(&root)?.list("resourceMetrics", |object| {
        let counts = object.list("scopeMetrics", |object| {
            Ok(object.list("metrics", |_| Ok(()))?.len())
        })?;
        Ok(counts.iter().sum::<usize>())
    })?;
    Ok(counts.iter().sum())
}

/// `serde_json` refuses to nest deeper than 128, so recursion below is bounded.
fn parse(body: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(body).map_err(|error| format!("the body is no valid JSON: {error}"))
}

fn resource(object: &Object<'_>) -> Result<Resource, Problem> {
    Ok(Resource {
        attributes: object.list("attributes", key_value)?,
        dropped_attributes_count: object.u32("droppedAttributesCount")?,
        entity_refs: Vec::new(),
    })
}

fn scope(object: &Object<'_>) -> Result<InstrumentationScope, Problem> {
    Ok(InstrumentationScope {
        name: object.string("name")?,
        version: object.string("version")?,
        attributes: object.list("attributes", key_value)?,
        dropped_attributes_count: object.u32("droppedAttributesCount")?,
    })
}

fn span(object: &Object<'_>) -> Result<Span, Problem> {
    Ok(Span {
        trace_id: object.hex("traceId")?,
        span_id: object.hex("spanId")?,
        trace_state: object.string("traceState")?,
        parent_span_id: object.hex("parentSpanId")?,
        flags: object.u32("flags")?,
        name: object.string("name")?,
        kind: object.i32("kind")?,
        start_time_unix_nano: object.u64("startTimeUnixNano")?,
        end_time_unix_nano: object.u64("endTimeUnixNano")?,
        attributes: object.list("attributes", key_value)?,
        dropped_attributes_count: object.u32("droppedAttributesCount")?,
        events: object.list("events", |object| {
            Ok(Event {
                time_unix_nano: object.u64("timeUnixNano")?,
                name: object.string("name")?,
                attributes: object.list("attributes", key_value)?,
                dropped_attributes_count: object.u32("droppedAttributesCount")?,
            })
        })?,
        dropped_events_count: object.u32("droppedEventsCount")?,
        links: object.list("links", |object| {
            Ok(Link {
                trace_id: object.hex("traceId")?,
                span_id: object.hex("spanId")?,
                trace_state: object.string("traceState")?,
                attributes: object.list("attributes", key_value)?,
                dropped_attributes_count: object.u32("droppedAttributesCount")?,
                flags: object.u32("flags")?,
            })
        })?,
        dropped_links_count: object.u32("droppedLinksCount")?,
        status: object.object("status", |object| {
            Ok(Status {
                message: object.string("message")?,
                code: object.i32("code")?,
            })
        })?,
    })
}

fn record(object: &Object<'_>) -> Result<LogRecord, Problem> {
    Ok(LogRecord {
        time_unix_nano: object.u64("timeUnixNano")?,
        observed_time_unix_nano: object.u64("observedTimeUnixNano")?,
        severity_number: object.i32("severityNumber")?,
        severity_text: object.string("severityText")?,
        body: object.object("body", any)?,
        attributes: object.list("attributes", key_value)?,
        dropped_attributes_count: object.u32("droppedAttributesCount")?,
        flags: object.u32("flags")?,
        trace_id: object.hex("traceId")?,
        span_id: object.hex("spanId")?,
        event_name: object.string("eventName")?,
    })
}

fn key_value(object: &Object<'_>) -> Result<KeyValue, Problem> {
    Ok(KeyValue {
        key: object.string("key")?,
        value: object.object("value", any)?,
        key_strindex: 0,
    })
}

fn any(object: &Object<'_>) -> Result<AnyValue, Problem> {
    let value = if object.get("stringValue").is_some() {
        Some(Any::StringValue(object.string("stringValue")?))
    } else if let Some(value) = object.get("boolValue") {
        let value = value.as_bool();
        Some(Any::BoolValue(value.ok_or_else(|| {
            object.problem("boolValue", "not true or false")
        })?))
    } else if object.get("intValue").is_some() {
        Some(Any::IntValue(object.i64("intValue")?))
    } else if object.get("doubleValue").is_some() {
        Some(Any::DoubleValue(object.f64("doubleValue")?))
    } else if object.get("bytesValue").is_some() {
        let text = object.string("bytesValue")?;
        let bytes = base64(&text).ok_or_else(|| object.problem("bytesValue", "not base64"))?;
        Some(Any::BytesValue(bytes))
    } else if object.get("arrayValue").is_some() {
        let values = object.object("arrayValue", |array| array.list("values", any))?;
        Some(Any::ArrayValue(ArrayValue {
            values: values.unwrap_or_default(),
        }))
    } else if object.get("kvlistValue").is_some() {
        let values = object.object("kvlistValue", |map| map.list("values", key_value))?;
        Some(Any::KvlistValue(KeyValueList {
            values: values.unwrap_or_default(),
        }))
    } else {
        None
    };
    Ok(AnyValue { value })
}

/// A JSON object and where it is.
struct Object<'a> {
    path: String,
    fields: &'a serde_json::Map<String, Value>,
}

impl<'a> Object<'a> {
    fn new(path: String, value: &'a Value) -> Result<Self, Problem> {
        match value {
            Value::Object(fields) => Ok(Self { path, fields }),
            _ => Err(format!("{path}: not an object")),
        }
    }

    fn root(value: &'a Value) -> Result<Self, Problem> {
        match value {
            Value::Object(fields) => Ok(Self {
                path: String::new(),
                fields,
            }),
            _ => Err("the body is no JSON object".to_owned()),
        }
    }

    fn path(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    fn problem(&self, name: &str, problem: &str) -> Problem {
        format!("{}: {problem}", self.path(name))
    }

    /// The field, unless it is absent or `null`.
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    fn list<T>(
        &self,
        name: &str,
        mut each: impl FnMut(&Object<'a>) -> Result<T, Problem>,
    ) -> Result<Vec<T>, Problem> {
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => values
                .iter()
                .enumerate()
                .map(|(i, value)| each(&Object::new(format!("{}[{i}]", self.path(name)), value)?))
                .collect(),
            Some(_) => Err(self.problem(name, "not a list")),
        }
    }

    fn object<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Object<'a>) -> Result<T, Problem>,
    ) -> Result<Option<T>, Problem> {
        self.get(name)
            .map(|value| read(&Object::new(self.path(name), value)?))
            .transpose()
    }

    fn string(&self, name: &str) -> Result<String, Problem> {
        match self.get(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(self.problem(name, "not a string")),
        }
    }

    fn hex(&self, name: &str) -> Result<Vec<u8>, Problem> {
        hex(&self.string(name)?).ok_or_else(|| self.problem(name, "not hex"))
    }

    fn u64(&self, name: &str) -> Result<u64, Problem> {
        let number = match self.get(name) {
            None => Some(0),
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        number.ok_or_else(|| self.problem(name, "not an unsigned 64-bit number"))
    }

    fn u32(&self, name: &str) -> Result<u32, Problem> {
        u32::try_from(self.u64(name)?)
            .map_err(|_| self.problem(name, "not an unsigned 32-bit number"))
    }

    fn i64(&self, name: &str) -> Result<i64, Problem> {
        let number = match self.get(name) {
            None => Some(0),
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        number.ok_or_else(|| self.problem(name, "not a 64-bit number"))
    }

    /// Enums, too: "values of enum fields MUST be encoded as integer values".
    fn i32(&self, name: &str) -> Result<i32, Problem> {
        let number = match self.get(name) {
            None => Some(0),
            Some(Value::Number(number)) => number.as_i64().and_then(|n| i32::try_from(n).ok()),
            Some(_) => None,
        };
        number.ok_or_else(|| self.problem(name, "not a 32-bit number"))
    }

    fn f64(&self, name: &str) -> Result<f64, Problem> {
        let number = match self.get(name) {
            None => Some(0.0),
            Some(Value::Number(number)) => number.as_f64(),
            // Rust reads "NaN", "Infinity" and "-Infinity" as they are meant.
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        number.ok_or_else(|| self.problem(name, "not a number"))
    }
}

/// Hex digits of either case: OTLP says that ids are case-insensitive.
pub(crate) fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect();
    let digits = digits?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Base64 of either alphabet, padded or not, as protobuf's mapping allows.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for c in digits.bytes() {
        let digit = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    (count < 6).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = r#"{
      "resourceSpans": [{
        "resource": {"attributes": [
          {"key": "service.name", "value": {"stringValue": "tier1"}}]},
        "schemaUrl": null,
        "unknown": [1, {"a": 2}],
        "scopeSpans": [{
          "scope": {"name": "lib"},
          "spans": [{
            "traceId": "5B8EFFF798038103D269B633813FC60C",
            "spanId": "eee19b7ec3c1b174",
            "name": "GET", "kind": 3,
            "startTimeUnixNano": "1544712660000000000",
            "endTimeUnixNano": 1544712661000000000,
            "attributes": [
              {"key": "s", "value": {"intValue": "7"}},
              {"key": "n", "value": {"intValue": -7}},
              {"key": "d", "value": {"doubleValue": "NaN"}},
              {"key": "i", "value": {"doubleValue": 2}},
              {"key": "b", "value": {"bytesValue": "AQL_"}},
              {"key": "t", "value": {"boolValue": true}},
              {"key": "e", "value": {}},
              {"key": "none"},
              {"key": "u", "value": {"futureValue": {"x": 1}}},
              {"key": "a", "value": {"arrayValue": {}}},
              {"key": "m", "value": {"kvlistValue": {"values": [
                {"key": "x", "value": {"arrayValue": {"values": [{"stringValue": ""}]}}}]}}}
            ],
            "status": {"code": 2, "message": "no"}
          }]
        }]
      }]
    }"#;

    #[test]
    fn what_the_mapping_allows_is_read() {
        let request = traces(TRACE.as_bytes()).expect("valid");
        let span = &request.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!(span.trace_id[..2], [0x5b, 0x8e]);
        assert_eq!(span.end_time_unix_nano, 1_544_712_661_000_000_000);
        assert_eq!(span.parent_span_id, Vec::<u8>::new());
        assert_eq!(span.status.as_ref().map(|s| s.code), Some(2));
        let value = |i: usize| {
            let value = span.attributes[i].value.clone();
            value.and_then(|v| v.value)
        };
        assert_eq!(value(0), Some(Any::IntValue(7)));
        assert_eq!(value(1), Some(Any::IntValue(-7)));
        assert!(matches!(value(2), Some(Any::DoubleValue(d)) if d.is_nan()));
        assert_eq!(value(3), Some(Any::DoubleValue(2.0)));
        assert_eq!(value(4), Some(Any::BytesValue(vec![1, 2, 255])));
        assert_eq!(value(5), Some(Any::BoolValue(true)));
        assert_eq!(value(6), None);
        assert_eq!(value(7), None);
        assert_eq!(value(8), None);
        assert_eq!(
            value(9),
            Some(Any::ArrayValue(ArrayValue { values: vec![] }))
        );
        assert!(matches!(value(10), Some(Any::KvlistValue(map)) if map.values.len() == 1));
    }

    #[test]
    fn problems_say_where() {
        let at = |from: &str, to: &str| {
            traces(TRACE.replacen(from, to, 1).as_bytes()).expect_err("wrong")
        };
        let span = "resourceSpans[0].scopeSpans[0].spans[0]";
        assert_eq!(
            at("\"eee19b7ec3c1b174\"", "\"xyz\""),
            format!("{span}.spanId: not hex")
        );
        assert_eq!(
            at("\"kind\": 3", "\"kind\": \"SPAN_KIND_CLIENT\""),
            format!("{span}.kind: not a 32-bit number")
        );
        assert_eq!(
            at("\"AQL_\"", "\"AQL?\""),
            format!("{span}.attributes[4].value.bytesValue: not base64")
        );
        assert_eq!(
            traces(b"[]").expect_err("wrong"),
            "the body is no JSON object"
        );
        assert!(traces(b"{").is_err());
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(traces(deep.as_bytes()).is_err());
    }

    #[test]
    fn hex_and_base64() {
        assert_eq!(hex("00fF"), Some(vec![0, 255]));
        assert_eq!(hex(""), Some(vec![]));
        assert_eq!(hex("0"), None);
        assert_eq!(hex("é0"), None);
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg==", b"f"),
            ("Zm8", b"fo"),
            ("Zm9v", b"foo"),
        ] {
            assert_eq!(base64(text).as_deref(), Some(bytes), "{text}");
        }
        assert_eq!(base64("Z"), None);
        assert_eq!(base64("Z g="), None);
    }

    #[test]
    fn metrics_are_counted() {
        let body = br#"{"resourceMetrics": [{"scopeMetrics": [
            {"metrics": [{"name": "a"}, {"name": "b"}]}, {"metrics": [{}]}]}]}"#;
        assert_eq!(count_metrics(body), Ok(3));
        assert_eq!(count_metrics(b"{}"), Ok(0));
    }
}
