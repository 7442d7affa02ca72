//! Makes spans for tests, and shuffles them.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::sync::Arc;

use opentelemetry_semantic_conventions::attribute::SERVICE_NAME;
use otlp::{KeyValue, Link, Resource, Span, SpanId, SpanKind, TraceId, Value};

/// A resource of a service.
pub fn resource(service: &str) -> Arc<Resource> {
    Arc::new(Resource {
        attributes: vec![KeyValue::new(SERVICE_NAME, service)],
        schema_url: String::new(),
    })
}

pub fn trace_id(id: u64) -> TraceId {
    TraceId((u128::from(id) << 64 | 1).to_be_bytes())
}

pub fn span_id(id: u64) -> SpanId {
    SpanId(id.to_be_bytes())
}

/// A span; times in milliseconds, parent 0 = none.
pub fn span(
    (trace, id, parent): (u64, u64, u64),
    name: &str,
    kind: SpanKind,
    service: &str,
    (start, end): (u64, u64),
) -> Span {
    Span {
        trace_id: trace_id(trace),
        span_id: span_id(id),
        parent_span_id: (parent != 0).then(|| span_id(parent)),
        name: name.to_owned(),
        kind,
        start_unix_nanos: start * 1_000_000,
        end_unix_nanos: end * 1_000_000,
        resource: resource(service),
        ..Span::default()
    }
}

/// The span with an attribute more.
pub fn with(mut span: Span, key: &str, value: impl Into<Value>) -> Span {
    span.attributes.push(KeyValue::new(key, value));
    span
}

/// The span with a link more.
pub fn linked(mut span: Span, trace: u64, id: u64) -> Span {
    span.links.push(Link {
        trace_id: trace_id(trace),
        span_id: span_id(id),
        ..Link::default()
    });
    span
}

/// Numbers that look random and are the same each time (xorshift64*).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 to `end` - 1.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}
