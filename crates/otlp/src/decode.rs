//! OTLP request bodies into the model.

use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::logs::v1 as logs;
use opentelemetry_proto::tonic::resource::v1 as resource;
use opentelemetry_proto::tonic::trace::v1 as trace;
use prost::Message as _;

use crate::json;
use crate::model::{
    Event, KeyValue, Link, LogRecord, Resource, Scope, Span, SpanId, SpanKind, Status, StatusCode,
    TraceId, Value,
};

/// How many bytes a body may have, compressed and after decompression.
pub(crate) const MAX_BODY: usize = 64 * 1024 * 1024;

/// The two encodings of OTLP/HTTP (OTLP specification, "OTLP/HTTP Request").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Protobuf,
    Json,
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Logs,
    Metrics,
}

/// What a request holds.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Content {
    pub(crate) spans: Vec<Span>,
    pub(crate) logs: Vec<LogRecord>,
    pub(crate) metrics: usize,
}

/// Why a body can't be taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("the body has more than {MAX_BODY} bytes after decompression")]
    TooLarge,
    #[error("{0}")]
    Bad(String),
}

fn bad(problem: impl Into<String>) -> DecodeError {
    DecodeError::Bad(problem.into())
}

/// Decompresses a gzip body of at most `limit` bytes.
pub(crate) fn gunzip(body: &[u8], limit: usize) -> Result<Bytes, DecodeError> {
    let mut out = Vec::new();
    // One byte more than allowed tells "exactly the limit" from "more".
    let mut limited = MultiGzDecoder::new(body).take(limit as u64 + 1);
    limited
        .read_to_end(&mut out)
        .map_err(|error| bad(format!("the body is no valid gzip: {error}")))?;
    if out.len() > limit {
        return Err(DecodeError::TooLarge);
    }
    Ok(out.into())
}

/// Decodes a body that is decompressed already.
pub(crate) fn decode(
    signal: Signal,
    encoding: Encoding,
    body: &[u8],
) -> Result<Content, DecodeError> {
    let protobuf = |error: prost::DecodeError| bad(format!("the body is no valid OTLP: {error}"));
    let mut content = Content::default();
    match signal {
        Signal::Traces => {
            let request = match encoding {
                Encoding::Protobuf => ExportTraceServiceRequest::decode(body).map_err(protobuf)?,
                Encoding::Json => json::traces(body).map_err(bad)?,
            };
            content.spans = spans(request)?;
        }
        Signal::Logs => {
            let request = match encoding {
                Encoding::Protobuf => ExportLogsServiceRequest::decode(body).map_err(protobuf)?,
                Encoding::Json => json::logs(body).map_err(bad)?,
            };
            content.logs = records(request)?;
        }
        Signal::Metrics => {
            content.metrics = match encoding {
                Encoding::Protobuf => ExportMetricsServiceRequest::decode(body)
                    .map_err(protobuf)?
                    .resource_metrics
                    .iter()
                    .flat_map(|resource| &resource.scope_metrics)
                    .map(|scope| scope.metrics.len())
                    .sum(),
                Encoding::Json => json::count_metrics(body).map_err(bad)?,
            };
        }
    }
    Ok(content)
}

fn spans(request: ExportTraceServiceRequest) -> Result<Vec<Span>, DecodeError> {
    let mut out = Vec::new();
    for group in request.resource_spans {
        let resource = Arc::new(to_resource(group.resource, group.schema_url));
        for group in group.scope_spans {
            let scope = Arc::new(to_scope(group.scope, group.schema_url));
            for span in group.spans {
                out.push(to_span(span, &scope, &resource)?);
            }
        }
    }
    Ok(out)
}

fn records(request: ExportLogsServiceRequest) -> Result<Vec<LogRecord>, DecodeError> {
    let mut out = Vec::new();
    for group in request.resource_logs {
        let resource = Arc::new(to_resource(group.resource, group.schema_url));
        for group in group.scope_logs {
            let scope = Arc::new(to_scope(group.scope, group.schema_url));
            for record in group.log_records {
                out.push(to_record(record, &scope, &resource)?);
            }
        }
    }
    Ok(out)
}

/// An id that may be absent: no bytes, or nothing but zeros.
fn optional_id<const N: usize>(bytes: &[u8], what: &str) -> Result<Option<[u8; N]>, DecodeError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    match <[u8; N]>::try_from(bytes) {
        Ok(id) => Ok((id != [0; N]).then_some(id)),
        Err(_) => Err(bad(format!("{what} has {} bytes, not {N}", bytes.len()))),
    }
}

/// An id that must be there: "an ID with all zeroes or of length other than
/// 16 [8] bytes is considered invalid" (trace.proto).
fn required_id<const N: usize>(bytes: &[u8], what: &str) -> Result<[u8; N], DecodeError> {
    optional_id(bytes, what)?.ok_or_else(|| bad(format!("{what} is missing or all zero")))
}

fn to_span(
    span: trace::Span,
    scope: &Arc<Scope>,
    resource: &Arc<Resource>,
) -> Result<Span, DecodeError> {
    let status = span.status.unwrap_or_default();
    Ok(Span {
        trace_id: TraceId(required_id(&span.trace_id, "a span's trace id")?),
        span_id: SpanId(required_id(&span.span_id, "a span's span id")?),
        parent_span_id: optional_id(&span.parent_span_id, "a span's parent span id")?.map(SpanId),
        kind: match trace::span::SpanKind::try_from(span.kind) {
            Ok(trace::span::SpanKind::Internal) => SpanKind::Internal,
            Ok(trace::span::SpanKind::Server) => SpanKind::Server,
            Ok(trace::span::SpanKind::Client) => SpanKind::Client,
            Ok(trace::span::SpanKind::Producer) => SpanKind::Producer,
            Ok(trace::span::SpanKind::Consumer) => SpanKind::Consumer,
            Ok(trace::span::SpanKind::Unspecified) | Err(_) => SpanKind::Unspecified,
        },
        status: Status {
            code: match trace::status::StatusCode::try_from(status.code) {
                Ok(trace::status::StatusCode::Ok) => StatusCode::Ok,
                Ok(trace::status::StatusCode::Error) => StatusCode::Error,
                Ok(trace::status::StatusCode::Unset) | Err(_) => StatusCode::Unset,
            },
            description: status.message,
        },
        name: span.name,
        start_unix_nanos: span.start_time_unix_nano,
        end_unix_nanos: span.end_time_unix_nano,
        attributes: to_attributes(span.attributes),
        events: span
            .events
            .into_iter()
            .map(|event| Event {
                time_unix_nanos: event.time_unix_nano,
                name: event.name,
                attributes: to_attributes(event.attributes),
            })
            .collect(),
        links: span
            .links
            .into_iter()
            .map(to_link)
            .collect::<Result<_, _>>()?,
        flags: span.flags,
        trace_state: span.trace_state,
        scope: Arc::clone(scope),
        resource: Arc::clone(resource),
    })
}

/// A link's ids may be invalid: the Trace API lets a link hold an empty context.
fn to_link(link: trace::span::Link) -> Result<Link, DecodeError> {
    Ok(Link {
        trace_id: optional_id(&link.trace_id, "a link's trace id")?
            .map_or_else(TraceId::default, TraceId),
        span_id: optional_id(&link.span_id, "a link's span id")?
            .map_or_else(SpanId::default, SpanId),
        trace_state: link.trace_state,
        attributes: to_attributes(link.attributes),
        flags: link.flags,
    })
}

fn to_record(
    record: logs::LogRecord,
    scope: &Arc<Scope>,
    resource: &Arc<Resource>,
) -> Result<LogRecord, DecodeError> {
    Ok(LogRecord {
        time_unix_nanos: record.time_unix_nano,
        observed_unix_nanos: record.observed_time_unix_nano,
        severity_number: record.severity_number,
        severity_text: record.severity_text,
        body: to_value(record.body),
        attributes: to_attributes(record.attributes),
        event_name: record.event_name,
        trace_id: optional_id(&record.trace_id, "a log record's trace id")?.map(TraceId),
        span_id: optional_id(&record.span_id, "a log record's span id")?.map(SpanId),
        flags: record.flags,
        scope: Arc::clone(scope),
        resource: Arc::clone(resource),
    })
}

fn to_resource(resource: Option<resource::Resource>, schema_url: String) -> Resource {
    Resource {
        attributes: to_attributes(resource.unwrap_or_default().attributes),
        schema_url,
    }
}

fn to_scope(scope: Option<common::InstrumentationScope>, schema_url: String) -> Scope {
    let scope = scope.unwrap_or_default();
    Scope {
        name: scope.name,
        version: scope.version,
        schema_url,
        attributes: to_attributes(scope.attributes),
    }
}

fn to_attributes(attributes: Vec<common::KeyValue>) -> Vec<KeyValue> {
    attributes
        .into_iter()
        .map(|attribute| KeyValue {
            key: attribute.key,
            value: to_value(attribute.value),
        })
        .collect()
}

/// Recursive, as values nest; both decoders bound the nesting to about 100.
fn to_value(value: Option<common::AnyValue>) -> Value {
    match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(value)) => Value::Str(value),
        Some(any_value::Value::BoolValue(value)) => Value::Bool(value),
        Some(any_value::Value::IntValue(value)) => Value::Int(value),
        Some(any_value::Value::DoubleValue(value)) => Value::Double(value),
        Some(any_value::Value::BytesValue(value)) => Value::Bytes(value),
        Some(any_value::Value::ArrayValue(array)) => Value::Array(
            array
                .values
                .into_iter()
                .map(|value| to_value(Some(value)))
                .collect(),
        ),
        Some(any_value::Value::KvlistValue(map)) => Value::Map(to_attributes(map.values)),
        // A reference into a table that only profiles have: "process the data
        // as if this value were absent" (common.proto).
        Some(any_value::Value::StringValueStrindex(_)) | None => Value::Empty,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).expect("a Vec takes everything");
        encoder.finish().expect("a Vec takes everything")
    }

    #[test]
    fn the_limit_is_on_the_decompressed_size() {
        let body = gzip(&[0; 1000]);
        assert!(body.len() < 100);
        assert_eq!(gunzip(&body, 1000).map(|b| b.len()), Ok(1000));
        assert_eq!(gunzip(&body, 999), Err(DecodeError::TooLarge));
        assert!(matches!(
            gunzip(&body[..body.len() - 9], 1000),
            Err(DecodeError::Bad(_))
        ));
        assert!(matches!(gunzip(b"not gzip", 10), Err(DecodeError::Bad(_))));
    }

    #[test]
    fn ids_are_checked() {
        let request = |trace_id: Vec<u8>, span_id: Vec<u8>, parent: Vec<u8>| {
            let request = ExportTraceServiceRequest {
                resource_spans: vec![trace::ResourceSpans {
                    scope_spans: vec![trace::ScopeSpans {
                        spans: vec![trace::Span {
                            trace_id,
                            span_id,
                            parent_span_id: parent,
                            kind: 99,
                            ..trace::Span::default()
                        }],
                        ..trace::ScopeSpans::default()
                    }],
                    ..trace::ResourceSpans::default()
                }],
            };
            decode(Signal::Traces, Encoding::Protobuf, &request.encode_to_vec())
        };
        let ok = request(vec![1; 16], vec![2; 8], vec![0; 8]).expect("valid");
        assert_eq!(ok.spans[0].parent_span_id, None);
        assert_eq!(ok.spans[0].kind, SpanKind::Unspecified);
        assert!(request(vec![1; 15], vec![2; 8], vec![]).is_err());
        assert!(request(vec![0; 16], vec![2; 8], vec![]).is_err());
        assert!(request(vec![1; 16], vec![], vec![]).is_err());
        assert!(request(vec![1; 16], vec![2; 8], vec![3; 4]).is_err());
    }

    #[test]
    fn nesting_without_end_is_refused() {
        let mut value = common::AnyValue {
            value: Some(any_value::Value::IntValue(1)),
        };
        for _ in 0..500 {
            value = common::AnyValue {
                value: Some(any_value::Value::ArrayValue(common::ArrayValue {
                    values: vec![value],
                })),
            };
        }
        let request = ExportLogsServiceRequest {
            resource_logs: vec![logs::ResourceLogs {
                scope_logs: vec![logs::ScopeLogs {
                    log_records: vec![logs::LogRecord {
                        body: Some(value),
                        ..logs::LogRecord::default()
                    }],
                    ..logs::ScopeLogs::default()
                }],
                ..logs::ResourceLogs::default()
            }],
        };
        assert!(decode(Signal::Logs, Encoding::Protobuf, &request.encode_to_vec()).is_err());
    }
}
