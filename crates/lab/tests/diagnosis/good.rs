//! One good trace of step 06, and ways to spoil it.

use std::{sync::Arc, time::SystemTime};

use lab::Recording;
use opentelemetry_semantic_conventions::attribute as key;
use otlp::{KeyValue, Link, Request, Resource, Span, SpanId, SpanKind, StatusCode, TraceId, Value};

/// The places of the spans in [`good`].
pub const ROOT: usize = 0;
pub const SAAS: usize = 1;
pub const TIER2_CALL: usize = 2;
pub const TIER2: usize = 3;
pub const TIER2_SELECT: usize = 4;
pub const PUBLISH: usize = 5;
pub const PROCESS: usize = 6;
pub const PROCESS_SELECT: usize = 7;

/// The places of tier1's spans.
pub const TIER1: [usize; 4] = [ROOT, SAAS, TIER2_CALL, PUBLISH];

pub const TRACE: TraceId = TraceId([1; 16]);

pub fn span_id(number: usize) -> SpanId {
    SpanId([number as u8 + 1; 8])
}

pub fn resource(service: &str) -> Arc<Resource> {
    Arc::new(Resource {
        attributes: vec![KeyValue::new(key::SERVICE_NAME, service)],
        schema_url: String::new(),
    })
}

/// A span of [`TRACE`]; `at` are its start and end in milliseconds.
pub fn span(
    number: usize,
    parent: Option<usize>,
    name: &str,
    kind: SpanKind,
    service: &str,
    at: (u64, u64),
) -> Span {
    Span {
        trace_id: TRACE,
        span_id: span_id(number),
        parent_span_id: parent.map(span_id),
        name: name.to_owned(),
        kind,
        start_unix_nanos: at.0 * 1_000_000,
        end_unix_nanos: at.1 * 1_000_000,
        resource: resource(service),
        ..Span::default()
    }
}

/// GET /fast as it shall be after step 06.
pub fn good() -> Vec<Span> {
    use SpanKind::{Client, Consumer, Producer, Server};
    let (tier1, tier2, consumer) = ("tier1-service", "tier2-service", "consumer-service");
    let mut spans = vec![
        span(ROOT, None, "GET /fast", Server, tier1, (0, 90)),
        span(SAAS, Some(ROOT), "GET", Client, tier1, (20, 30)),
        span(TIER2_CALL, Some(ROOT), "GET", Client, tier1, (30, 80)),
        span(TIER2, Some(TIER2_CALL), "GET /", Server, tier2, (40, 70)),
        span(
            TIER2_SELECT,
            Some(TIER2),
            "SELECT members",
            Client,
            tier2,
            (50, 60),
        ),
        span(
            PUBLISH,
            Some(ROOT),
            "publish signups",
            Producer,
            tier1,
            (5, 20),
        ),
        span(
            PROCESS,
            Some(PUBLISH),
            "process signups",
            Consumer,
            consumer,
            (10, 40),
        ),
        span(
            PROCESS_SELECT,
            Some(PROCESS),
            "SELECT members",
            Client,
            consumer,
            (20, 30),
        ),
    ];
    for (number, path) in [(ROOT, "/fast"), (TIER2, "/")] {
        set(&mut spans[number], key::HTTP_REQUEST_METHOD, "GET");
        set(&mut spans[number], key::HTTP_ROUTE, path);
        set(&mut spans[number], key::HTTP_RESPONSE_STATUS_CODE, 200);
        set(&mut spans[number], key::URL_PATH, path);
        set(&mut spans[number], key::URL_SCHEME, "http");
        set(&mut spans[number], key::SERVER_ADDRESS, "127.0.0.1");
        set(&mut spans[number], key::SERVER_PORT, 8080);
        set(&mut spans[number], key::CLIENT_ADDRESS, "127.0.0.1");
        set(&mut spans[number], key::NETWORK_PEER_ADDRESS, "127.0.0.1");
        set(&mut spans[number], key::NETWORK_PEER_PORT, 51234);
        set(&mut spans[number], key::NETWORK_PROTOCOL_VERSION, "1.1");
    }
    for (number, url) in [
        (SAAS, "http://127.0.0.1:8082/api/v2/summary.json"),
        (TIER2_CALL, "http://127.0.0.1:8081/"),
    ] {
        set(&mut spans[number], key::HTTP_REQUEST_METHOD, "GET");
        set(&mut spans[number], key::HTTP_RESPONSE_STATUS_CODE, 200);
        set(&mut spans[number], key::SERVER_ADDRESS, "127.0.0.1");
        set(&mut spans[number], key::SERVER_PORT, 8081);
        set(&mut spans[number], key::URL_FULL, url);
    }
    for (number, name, operation) in [
        (PUBLISH, "publish", "send"),
        (PROCESS, "process", "process"),
    ] {
        set(&mut spans[number], key::MESSAGING_SYSTEM, "rabbitmq");
        set(&mut spans[number], key::MESSAGING_OPERATION_NAME, name);
        set(&mut spans[number], key::MESSAGING_OPERATION_TYPE, operation);
        set(
            &mut spans[number],
            key::MESSAGING_DESTINATION_NAME,
            "signups",
        );
        let routing_key = key::MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY;
        set(&mut spans[number], routing_key, "signups");
        set(&mut spans[number], key::MESSAGING_MESSAGE_ID, "4711");
        set(&mut spans[number], key::SERVER_ADDRESS, "127.0.0.1");
        set(&mut spans[number], key::SERVER_PORT, 5672);
    }
    let tag = key::MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG;
    set(&mut spans[PROCESS], tag, 1);
    spans[PROCESS].links.push(Link {
        trace_id: TRACE,
        span_id: span_id(PUBLISH),
        ..Link::default()
    });
    for number in [TIER2_SELECT, PROCESS_SELECT] {
        set(&mut spans[number], key::DB_SYSTEM_NAME, "sqlite");
        set(&mut spans[number], key::DB_QUERY_SUMMARY, "SELECT members");
        let text = "SELECT id, name, joined FROM members";
        set(&mut spans[number], key::DB_QUERY_TEXT, text);
    }
    spans
}

/// What can be the value of an attribute here.
pub trait IntoValue {
    fn into_value(self) -> Value;
}

impl IntoValue for &str {
    fn into_value(self) -> Value {
        self.into()
    }
}

impl IntoValue for i64 {
    fn into_value(self) -> Value {
        self.into()
    }
}

/// Sets an attribute: changes it, or adds it.
pub fn set(span: &mut Span, key: &str, value: impl IntoValue) {
    let value = value.into_value();
    match span.attributes.iter_mut().find(|a| a.key == key) {
        Some(attribute) => attribute.value = value,
        None => span.attributes.push(KeyValue::new(key, value)),
    }
}

/// Takes an attribute away.
pub fn unset(span: &mut Span, key: &str) {
    span.attributes.retain(|attribute| attribute.key != key);
}

/// Gives an attribute another name.
pub fn rename(span: &mut Span, old: &str, new: &str) {
    for attribute in span.attributes.iter_mut().filter(|a| a.key == old) {
        attribute.key = new.to_owned();
    }
}

/// Takes away a span, as if it had not been exported.
pub fn remove(spans: &mut Vec<Span>, number: usize) {
    let id = span_id(number);
    spans.retain(|span| span.span_id != id);
}

/// Moves the spans into another trace; the first loses its parent and its links.
pub fn split(spans: &mut [Span], numbers: &[usize]) {
    let other = TraceId([2; 16]);
    for &number in numbers {
        spans[number].trace_id = other;
    }
    let moved: Vec<SpanId> = numbers
        .iter()
        .map(|&number| spans[number].span_id)
        .collect();
    for link in spans.iter_mut().flat_map(|span| &mut span.links) {
        if moved.contains(&link.span_id) {
            link.trace_id = other;
        }
    }
    spans[numbers[0]].parent_span_id = None;
    spans[numbers[0]].links.clear();
}

/// Fails the span with this `error.type`.
pub fn fail(span: &mut Span, error_type: &str) {
    span.status.code = StatusCode::Error;
    set(span, key::ERROR_TYPE, error_type);
}

/// What was exported.
pub fn recording(spans: Vec<Span>) -> Recording {
    Recording {
        requests: vec![request("/v1/traces", 200, spans.len())],
        spans,
        logs: Vec::new(),
        exit: None,
    }
}

/// A recording of the good trace after `spoil`.
pub fn spoiled(spoil: impl FnOnce(&mut Vec<Span>)) -> Recording {
    let mut spans = good();
    spoil(&mut spans);
    recording(spans)
}

/// An export request.
pub fn request(path: &str, answer: u16, spans: usize) -> Request {
    Request {
        method: "POST".to_owned(),
        path: path.to_owned(),
        headers: Vec::new(),
        content_type: Some("application/x-protobuf".to_owned()),
        content_encoding: None,
        received_at: SystemTime::UNIX_EPOCH,
        body_bytes: 100,
        spans,
        logs: 0,
        metrics: 0,
        answer,
        problem: String::new(),
    }
}
