//! What is tested of the files that are the step's: a step has no unit tests.

use std::future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use futures_util::FutureExt;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use members::{DEFAULT_URL, Members};
use opentelemetry::propagation::Extractor;
use opentelemetry::trace::{Status, TracerProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};

use crate::W3cPropagator;
use crate::attributes::Address;
use crate::connection::Backoff;
use crate::headers::Headers;
use crate::message::{Malformed, Signup};
use crate::process::Processor;

#[test]
fn all_three_forms_of_text_are_read() {
    let mut table = FieldTable::default();
    table.insert("long".into(), AMQPValue::LongString(LongString::from("a")));
    table.insert(
        "short".into(),
        AMQPValue::ShortString(ShortString::from("b")),
    );
    table.insert("bytes".into(), AMQPValue::ByteArray(b"c".as_slice().into()));
    table.insert("number".into(), AMQPValue::LongInt(1));
    table.insert(
        "binary".into(),
        AMQPValue::ByteArray(b"\xff".as_slice().into()),
    );
    let headers = Headers(Some(&table));
    assert_eq!(headers.get("long"), Some("a"));
    assert_eq!(headers.get("short"), Some("b"));
    assert_eq!(headers.get("bytes"), Some("c"));
    assert_eq!(headers.get("number"), None);
    assert_eq!(headers.get("binary"), None);
    assert_eq!(headers.get("Long"), None, "keys are case-sensitive");
    assert_eq!(headers.keys().len(), 5);
}

#[test]
fn no_headers_are_no_context() {
    assert_eq!(Headers(None).get("traceparent"), None);
    assert!(Headers(None).keys().is_empty());
}

#[test]
fn a_route_and_a_time() {
    let signup = Signup::parse(b"fast 1732537000.25").expect("well-formed");
    assert_eq!(signup.route, "fast");
    assert_eq!(
        signup.at,
        UNIX_EPOCH + Duration::from_millis(1_732_537_000_250)
    );
}

#[test]
fn anything_else_is_malformed() {
    let cases: [(&[u8], Malformed); 12] = [
        (b"", Malformed::Parts),
        (b"fast", Malformed::Parts),
        (b" 1.0", Malformed::Parts),
        (b"fast ", Malformed::Parts),
        (b"fast 1.0 2", Malformed::Parts),
        (b"fast 1.0\n", Malformed::Parts),
        (b"fast soon", Malformed::Time),
        (b"fast 1732537000", Malformed::Time),
        (b"fast -1.5", Malformed::Time),
        (b"fast inf.0", Malformed::Time),
        (b"fast 99999999999999999999999999.0", Malformed::Time),
        (b"fast \xff", Malformed::Encoding),
    ];
    for (body, reason) in cases {
        let body_text = String::from_utf8_lossy(body);
        assert_eq!(Signup::parse(body), Err(reason), "{body_text:?}");
    }
}

#[test]
fn the_wait_doubles_up_to_its_limit() {
    let mut backoff = Backoff::default();
    let waits: Vec<_> = (0..8).map(|_| backoff.next().as_millis()).collect();
    assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    backoff.reset();
    assert_eq!(backoff.next().as_millis(), 100);
}

fn address() -> Address {
    Address {
        queue: "signups".to_owned(),
        host: "broker".to_owned(),
        port: 5672,
    }
}

#[test]
fn a_destination_leaves_out_what_says_nothing() {
    let destination = |exchange: &str, routing_key: &str| {
        let (exchange, routing_key) = (exchange.into(), routing_key.into());
        address().destination(&Delivery::mock(1, exchange, routing_key, false, Vec::new()))
    };
    assert_eq!(destination("", "signups"), "signups");
    assert_eq!(destination("", ""), "signups");
    assert_eq!(destination("events", "signups"), "events:signups");
    assert_eq!(destination("events", "new"), "events:new:signups");
}

/// Keeps the spans that have ended.
#[derive(Debug, Clone, Default)]
struct Ended(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Ended {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().expect("no test panics in it").extend(batch);
        Ok(())
    }
}

#[tokio::test]
async fn work_that_is_dropped_is_cut_short() {
    let ended = Ended::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(ended.clone())
        .build();
    let processor = Processor {
        members: Members::connect(DEFAULT_URL).await.expect("in memory"),
        tracer: provider.tracer("consumer"),
        propagator: Arc::new(W3cPropagator),
        address: address(),
    };
    let body = b"fast 1732537000.25".to_vec();
    let delivery = Delivery::mock(1, "".into(), "signups".into(), false, body);
    // Polled once: the query waits for the database's thread. Should that have answered
    // already, nothing was cut short, and it is done again.
    while processor
        .process(&delivery, future::pending())
        .now_or_never()
        .is_some()
    {
        ended.0.lock().expect("no test panics in it").clear();
    }
    let spans = ended.0.lock().expect("no test panics in it").clone();
    let error_type = |span: &SpanData| {
        let mut attributes = span.attributes.iter();
        let error_type = attributes.find(|it| it.key.as_str() == "error.type");
        error_type.map(|it| it.value.to_string())
    };
    let mut said: Vec<_> = spans
        .iter()
        .map(|span| (span.name.as_ref(), span.status.clone(), error_type(span)))
        .collect();
    said.sort_by_key(|(name, ..)| *name);
    let cancelled = Some("cancelled".to_owned());
    assert_eq!(
        said,
        [
            ("SELECT members", Status::Unset, None),
            ("process signups", Status::error(""), cancelled),
        ]
    );
}
