//! The receiver, over real HTTP: from the real SDK, and from clients that send
//! nonsense.

mod common;

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::Random;
use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity};
use opentelemetry::trace::{
    Link, Span as _, SpanContext, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value as OtelValue};
use opentelemetry_otlp::{
    Compression, LogExporter, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use otlp::{Behaviour, Receiver, SpanKind, StatusCode, Store, Value};

/// Long enough for two busy cores; no test waits so long when all is well.
const DEADLINE: Duration = Duration::from_secs(60);

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// Runs blocking code, such as the exporters' client, beside the receiver.
async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(f).await.expect("no panic")
}

fn resource() -> Resource {
    Resource::builder_empty()
        .with_service_name("tier1-service")
        .build()
}

/// Exports one trace of two spans.
fn export_spans(endpoint: &str, protocol: Protocol, gzip: bool) -> Result<(), String> {
    let mut builder = SpanExporter::builder()
        .with_http()
        .with_protocol(protocol)
        .with_endpoint(format!("{endpoint}/v1/traces"))
        .with_timeout(DEADLINE);
    if gzip {
        builder = builder.with_compression(Compression::Gzip);
    }
    let exporter = builder.build().map_err(|e| e.to_string())?;
    let provider = SdkTracerProvider::builder()
        .with_resource(resource())
        .with_batch_exporter(exporter)
        .build();
    let tracer = provider.tracer("test-scope");
    let root = tracer
        .span_builder("GET /fast")
        .with_kind(opentelemetry::trace::SpanKind::Server)
        .with_attributes([
            KeyValue::new("a.text", "200"),
            KeyValue::new("a.int", 200_i64),
            KeyValue::new("a.double", 1.5),
            KeyValue::new("a.bool", true),
            KeyValue::new(
                "a.list",
                OtelValue::Array(Array::String(vec![
                    StringValue::from("x"),
                    StringValue::from("y"),
                ])),
            ),
        ])
        .start(&tracer);
    let root_context = root.span_context().clone();
    let parent = Context::new().with_span(root);
    let mut child = tracer
        .span_builder("publish")
        .with_kind(opentelemetry::trace::SpanKind::Producer)
        .with_links(vec![
            Link::with_context(root_context),
            Link::with_context(SpanContext::empty_context()),
        ])
        .start_with_context(&tracer, &parent);
    child.add_event("sent", vec![KeyValue::new("e.int", 1_i64)]);
    child.set_status(Status::error("no queue"));
    child.end();
    parent.span().end();
    let flushed = provider.force_flush().map_err(|e| e.to_string());
    let _ = provider.shutdown();
    flushed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_exports_spans_in_each_encoding() {
    for (protocol, gzip) in [
        (Protocol::HttpBinary, false),
        (Protocol::HttpBinary, true),
        (Protocol::HttpJson, false),
        (Protocol::HttpJson, true),
    ] {
        let receiver = Receiver::start().await.expect("a port");
        let endpoint = receiver.endpoint();
        blocking(move || export_spans(&endpoint, protocol, gzip))
            .await
            .expect("exported");
        let store = receiver.store();
        let spans = store
            .wait_until(DEADLINE, |s| {
                (s.spans().len() == 2).then(|| s.spans().to_vec())
            })
            .await
            .expect("two spans");
        let traces = otlp::traces(&spans);
        let root = &traces[0].roots[0];
        let child = &root.children[0].span;
        let root = &root.span;

        assert_eq!(
            (root.name.as_str(), root.kind),
            ("GET /fast", SpanKind::Server)
        );
        assert_eq!(root.service(), "tier1-service");
        assert_eq!(root.scope.name, "test-scope");
        assert_eq!(root.parent_span_id, None);
        assert!(root.is_sampled());
        let keys: Vec<&str> = root.attributes.iter().map(|a| a.key.as_str()).collect();
        assert_eq!(keys, ["a.text", "a.int", "a.double", "a.bool", "a.list"]);
        assert_eq!(root.attribute("a.text"), Some(&"200".into()));
        assert_eq!(root.attribute("a.int"), Some(&Value::Int(200)));
        assert_eq!(root.attribute("a.double"), Some(&Value::Double(1.5)));
        assert_eq!(root.attribute("a.bool"), Some(&Value::Bool(true)));
        let list = Value::Array(vec!["x".into(), "y".into()]);
        assert_eq!(root.attribute("a.list"), Some(&list));

        assert_eq!(child.kind, SpanKind::Producer);
        assert_eq!(child.status.code, StatusCode::Error);
        assert_eq!(child.status.description, "no queue");
        assert_eq!(child.events[0].name, "sent");
        assert_eq!(child.events[0].attribute("e.int"), Some(&Value::Int(1)));
        assert!(child.links.iter().any(|link| link.span_id == root.span_id));
        assert!(child.start_unix_nanos >= root.start_unix_nanos);
        assert!(child.end_unix_nanos <= root.end_unix_nanos);

        let requests = store.requests();
        assert_eq!(requests.iter().map(|r| r.spans).sum::<usize>(), 2);
        for request in requests {
            assert_eq!((request.path.as_str(), request.answer), ("/v1/traces", 200));
            assert_eq!(request.content_encoding.as_deref(), gzip.then_some("gzip"));
            let json = request.content_type.as_deref() == Some(JSON);
            assert_eq!(json, protocol == Protocol::HttpJson);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_exports_logs_in_each_encoding() {
    for protocol in [Protocol::HttpBinary, Protocol::HttpJson] {
        let receiver = Receiver::start().await.expect("a port");
        let endpoint = format!("{}/v1/logs", receiver.endpoint());
        blocking(move || {
            let exporter = LogExporter::builder()
                .with_http()
                .with_protocol(protocol)
                .with_endpoint(endpoint)
                .with_timeout(DEADLINE)
                .build()
                .expect("an exporter");
            let provider = SdkLoggerProvider::builder()
                .with_resource(resource())
                .with_batch_exporter(exporter)
                .build();
            let logger = provider.logger("test-scope");
            let mut record = logger.create_log_record();
            record.set_body(AnyValue::from("tier1 listens"));
            record.set_severity_number(Severity::Warn);
            record.set_severity_text("WARN");
            record.add_attribute("a.int", 8080_i64);
            logger.emit(record);
            provider.force_flush().expect("exported");
            let _ = provider.shutdown();
        })
        .await;
        let record = receiver
            .store()
            .wait_until(DEADLINE, |s| s.logs().first().cloned())
            .await
            .expect("a record");
        assert_eq!(record.body, "tier1 listens".into());
        assert_eq!(
            (record.severity_number, record.severity_text.as_str()),
            (13, "WARN")
        );
        assert_eq!(record.attribute("a.int"), Some(&Value::Int(8080)));
        assert_eq!(record.service(), "tier1-service");
        assert_eq!((record.trace_id, record.span_id), (None, None));
        assert!(record.timestamp() > 0);
    }
}

/// A valid trace request in JSON, with one span.
const ONE_SPAN: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{
    "traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174",
    "name":"one","kind":2}]}]}]}"#;

/// Sends a request; does not time out before [`DEADLINE`].
async fn send(
    url: String,
    content_type: &str,
    body: impl Into<reqwest::Body>,
) -> reqwest::Response {
    client()
        .post(url)
        .header("content-type", content_type)
        .body(body)
        .send()
        .await
        .expect("an answer")
}

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(DEADLINE)
        .build()
        .expect("a client")
}

fn traces_url(receiver: &Receiver) -> String {
    format!("{}/v1/traces", receiver.endpoint())
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_recorded() {
    let receiver = Receiver::start().await.expect("a port");
    let base = receiver.endpoint();
    let traces = format!("{base}/v1/traces");
    let cases = [
        (format!("{base}/v1/traces/v1/traces"), JSON, "{}", 404),
        (base.clone(), JSON, "{}", 404),
        (traces.clone(), "text/plain", "{}", 415),
        (traces.clone(), JSON, "{", 400),
        (traces.clone(), PROTOBUF, "{}", 400),
        (traces.clone(), JSON, "{}", 200),
        (traces.clone(), "application/json; charset=utf-8", "{}", 200),
        (traces.clone(), PROTOBUF, "", 200),
        (
            format!("{base}/v1/metrics"),
            JSON,
            r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{}]}]}]}"#,
            200,
        ),
        (format!("{base}/v1/metrics"), PROTOBUF, "", 200),
    ];
    for (url, content_type, body, status) in &cases {
        let response = send(url.clone(), content_type, *body).await;
        assert_eq!(response.status(), *status, "{url} {content_type} {body}");
        let expected = if *content_type == PROTOBUF {
            PROTOBUF
        } else {
            JSON
        };
        assert_eq!(response.headers()["content-type"], expected);
        let answer = response.bytes().await.expect("a body");
        if expected == JSON && *status != 200 {
            let answer: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
            let message = answer["message"].as_str().expect("a message");
            assert!(!message.is_empty() && !message.contains('\n'));
        }
    }
    let requests = receiver.store().requests();
    let answers: Vec<u16> = requests.iter().map(|r| r.answer).collect();
    assert_eq!(answers, cases.map(|(_, _, _, status)| status));
    assert_eq!(requests[8].metrics, 1);
    assert!(requests[3].problem.contains("JSON"));

    let get = client().get(&traces).send().await.expect("an answer");
    assert_eq!(get.status(), 405);
    assert_eq!(get.headers()["allow"], "POST");

    let zstd = client()
        .post(&traces)
        .header("content-type", JSON)
        .header("content-encoding", "zstd")
        .body("{}")
        .send()
        .await
        .expect("an answer");
    assert_eq!(zstd.status(), 415);
    assert_eq!(receiver.store().spans(), []);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("a Vec takes everything");
    encoder.finish().expect("a Vec takes everything")
}

#[tokio::test]
async fn bombs_and_oversized_bodies_are_refused() {
    let receiver = Receiver::start().await.expect("a port");
    let bomb = blocking(|| gzip(&vec![b' '; 65 * 1024 * 1024])).await;
    let response = client()
        .post(traces_url(&receiver))
        .header("content-type", JSON)
        .header("content-encoding", "gzip")
        .body(bomb)
        .send()
        .await
        .expect("an answer");
    assert_eq!(response.status(), 413);

    let response = send(traces_url(&receiver), JSON, vec![b' '; 65 * 1024 * 1024]).await;
    assert_eq!(response.status(), 413);
}

#[tokio::test]
async fn malformed_bodies_never_break_it() {
    let valid = ONE_SPAN.as_bytes().to_vec();
    let protobuf = protobuf_span();
    let receiver = Receiver::start().await.expect("a port");
    let client = client();
    let mut random = Random(13);
    const ROUNDS: usize = 300;
    for round in 0..ROUNDS {
        let (mut body, content_type) = match round % 3 {
            0 => (valid.clone(), JSON),
            1 => (protobuf.clone(), PROTOBUF),
            _ => (
                (0..random.below(200))
                    .map(|_| random.next() as u8)
                    .collect(),
                PROTOBUF,
            ),
        };
        if round % 2 == 0 {
            body.truncate(random.below(body.len() + 1));
        }
        if !body.is_empty() {
            let at = random.below(body.len());
            body[at] = random.next() as u8;
        }
        let path = ["traces", "logs", "metrics"][random.below(3)];
        let mut request = client
            .post(format!("{}/v1/{path}", receiver.endpoint()))
            .header("content-type", content_type);
        if round % 5 == 0 {
            body = gzip(&body);
            let length = body.len();
            body[random.below(length)] ^= 1 << random.below(8);
            request = request.header("content-encoding", "gzip");
        }
        let status = request.body(body).send().await.expect("an answer").status();
        assert!(status == 200 || status == 400 || status == 413, "{status}");
    }
    let ok = send(traces_url(&receiver), JSON, ONE_SPAN).await;
    assert_eq!(ok.status(), 200);
    assert_eq!(receiver.store().requests().len(), ROUNDS + 1);
}

/// The span of [`ONE_SPAN`] and an attribute, in protobuf.
fn protobuf_span() -> Vec<u8> {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1 as common;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use prost::Message as _;
    let value = common::any_value::Value::ArrayValue(common::ArrayValue {
        values: vec![common::AnyValue {
            value: Some(common::any_value::Value::StringValue("x".to_owned())),
        }],
    });
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans {
                spans: vec![Span {
                    trace_id: vec![1; 16],
                    span_id: vec![2; 8],
                    name: "one".to_owned(),
                    attributes: vec![common::KeyValue {
                        key: "k".to_owned(),
                        value: Some(common::AnyValue { value: Some(value) }),
                        ..common::KeyValue::default()
                    }],
                    ..Span::default()
                }],
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
    .encode_to_vec()
}

#[tokio::test]
async fn it_refuses_and_is_unavailable_when_told_to() {
    let receiver = Receiver::start().await.expect("a port");
    receiver.set_behaviour(Behaviour::Status(403));
    let response = send(traces_url(&receiver), JSON, ONE_SPAN).await;
    assert_eq!(response.status(), 403);

    receiver.set_behaviour(Behaviour::Status(7));
    let response = send(traces_url(&receiver), PROTOBUF, protobuf_span()).await;
    assert_eq!(response.status(), 500);
    assert!(!response.bytes().await.expect("a body").is_empty());

    receiver.set_behaviour(Behaviour::Unavailable {
        retry_after: Duration::from_millis(1500),
    });
    let response = send(traces_url(&receiver), JSON, ONE_SPAN).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "2");

    let requests = receiver.store().requests();
    let seen: Vec<(usize, u16)> = requests.iter().map(|r| (r.spans, r.answer)).collect();
    assert_eq!(seen, [(1, 403), (1, 500), (1, 503)]);
    assert_eq!(receiver.store().spans(), []);

    receiver.set_behaviour(Behaviour::Accept);
    let response = send(traces_url(&receiver), JSON, ONE_SPAN).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await.expect("a body"), "{}");
    assert_eq!(receiver.store().spans().len(), 1);
}

#[tokio::test]
async fn a_request_hangs_until_the_behaviour_changes() {
    let receiver = Receiver::start().await.expect("a port");
    receiver.set_behaviour(Behaviour::Hang);
    let url = traces_url(&receiver);
    let request = tokio::spawn(send(url, JSON, ONE_SPAN));
    let store = receiver.store();
    store
        .wait_until(DEADLINE, |s| s.requests().first().cloned())
        .await
        .expect("it was read");
    assert_eq!((store.requests()[0].answer, store.spans().len()), (0, 0));
    assert!(!request.is_finished());

    receiver.set_behaviour(Behaviour::Accept);
    let response = request.await.expect("no panic");
    assert_eq!(response.status(), 200);
    assert_eq!((store.requests()[0].answer, store.spans().len()), (200, 1));
}

#[tokio::test]
async fn a_slow_answer_takes_its_time_or_a_change() {
    let receiver = Receiver::start().await.expect("a port");
    let delay = Duration::from_millis(300);
    receiver.set_behaviour(Behaviour::Slow(delay));
    let start = Instant::now();
    let response = send(traces_url(&receiver), JSON, ONE_SPAN).await;
    assert_eq!(response.status(), 200);
    assert!(start.elapsed() >= delay);

    receiver.set_behaviour(Behaviour::Slow(DEADLINE * 10));
    let request = tokio::spawn(send(traces_url(&receiver), JSON, ONE_SPAN));
    let store = receiver.store();
    store
        .wait_until(DEADLINE, |s| s.requests().get(1).cloned())
        .await
        .expect("it was read");
    receiver.set_behaviour(Behaviour::Status(429));
    assert_eq!(request.await.expect("no panic").status(), 429);
}

#[tokio::test]
async fn dropping_it_ends_open_connections_and_frees_the_port() {
    let receiver = Receiver::start().await.expect("a port");
    let store = receiver.store();
    let address = receiver.address();
    let url = traces_url(&receiver);
    // One client keeps its connection after the answer, the other waits for one.
    let keep_alive = client();
    let response = keep_alive.post(&url).send().await.expect("an answer");
    assert_eq!(response.status(), 415);
    receiver.set_behaviour(Behaviour::Hang);
    let hanging = {
        let url = url.clone();
        tokio::spawn(async move {
            let request = client()
                .post(url)
                .header("content-type", JSON)
                .body(ONE_SPAN);
            request.send().await.map(|response| response.status())
        })
    };
    store
        .wait_until(DEADLINE, |s| s.requests().get(1).cloned())
        .await
        .expect("it was read");
    drop(receiver);
    // Ended by the receiver, that is, and not by the clients' own timeout.
    let ended = hanging.await.expect("no panic").expect_err("cut off");
    assert!(!ended.is_timeout(), "{ended:?}");
    let refused = keep_alive.post(&url).send().await.expect_err("no port");
    assert!(!refused.is_timeout(), "{refused:?}");
    assert_eq!(store.requests().len(), 2);

    // The store outlives it, and the port can be taken again.
    let again = Receiver::bind_with(address, Arc::clone(&store)).await;
    let again = again.expect("the same port");
    let response = send(traces_url(&again), JSON, ONE_SPAN).await;
    assert_eq!(response.status(), 200);
    assert_eq!(store.spans().len(), 1);
}

#[tokio::test]
async fn a_failed_export_reaches_the_sdk() {
    let receiver = Receiver::start().await.expect("a port");
    receiver.set_behaviour(Behaviour::Status(400));
    let endpoint = receiver.endpoint();
    let result = blocking(move || export_spans(&endpoint, Protocol::HttpBinary, false)).await;
    assert!(result.is_err());
    assert_eq!(receiver.store().spans(), []);
}

#[tokio::test]
async fn the_store_is_bounded_and_wakes_its_subscribers() {
    let store = Arc::new(Store::with_limit(3));
    let receiver = Receiver::bind_with(([127, 0, 0, 1], 0).into(), Arc::clone(&store))
        .await
        .expect("a port");
    let mut changes = store.subscribe();
    for _ in 0..5 {
        let _ = send(traces_url(&receiver), JSON, ONE_SPAN).await;
    }
    let woken = tokio::time::timeout(DEADLINE, changes.changed()).await;
    woken.expect("in time").expect("the store is here");
    assert_eq!((store.requests().len(), store.spans().len()), (3, 3));
    assert_eq!(store.snapshot().dropped(), 4);
}
