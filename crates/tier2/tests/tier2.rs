//! tier2 over the wire, and the spans it makes, through a real provider.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use members::Members;
use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry::{Context, Value};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, Span, SpanData, SpanProcessor};
use reqwest::{Client, Method, Response};
use tier2::{Config, Error, Telemetry, Tier2};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(20);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// What the provider has done so far.
#[derive(Debug, Clone, Default)]
struct Collected {
    started: Arc<Mutex<usize>>,
    ended: Arc<Mutex<Vec<SpanData>>>,
}

impl SpanProcessor for Collected {
    fn on_start(&self, _: &mut Span, _: &Context) {
        *self.started.lock().expect("no test panics in it") += 1;
    }

    fn on_end(&self, span: SpanData) {
        self.ended.lock().expect("no test panics in it").push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Collected {
    /// Waits for `count` spans: one ends a moment after its answer was received.
    async fn spans(&self, count: usize) -> Vec<SpanData> {
        let spans = || self.ended.lock().expect("no test panics in it").clone();
        wait_until(|| spans().len() >= count, || format!("{:#?}", spans())).await;
        assert_eq!(spans().len(), count, "{:#?}", spans());
        spans()
    }

    /// Waits until a request is being answered.
    async fn started(&self) {
        let started = || *self.started.lock().expect("no test panics in it");
        wait_until(|| started() > 0, || "no span was started".to_owned()).await;
    }
}

async fn wait_until(condition: impl Fn() -> bool, or_else: impl Fn() -> String) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < DEADLINE, "{}", or_else());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn telemetry() -> (Telemetry, Collected) {
    let collected = Collected::default();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(collected.clone())
        .build();
    (Telemetry::new(provider), collected)
}

async fn start() -> (Tier2, Collected) {
    let (telemetry, collected) = telemetry();
    let tier2 = Tier2::start(Config::default(), telemetry)
        .await
        .expect("starts");
    (tier2, collected)
}

/// Without the proxies that the environment may name.
fn client() -> Client {
    Client::builder()
        .no_proxy()
        .user_agent("test/1")
        .build()
        .expect("a client")
}

async fn get(tier2: &Tier2, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = client().get(format!("http://{}{path}", tier2.addr()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.expect("answers")
}

fn attribute<'a>(span: &'a SpanData, key: &str) -> Option<&'a Value> {
    let mut found = span.attributes.iter().filter(|kv| kv.key.as_str() == key);
    let value = found.next().map(|kv| &kv.value);
    assert!(found.next().is_none(), "{key} twice in {span:?}");
    value
}

fn string(text: &str) -> Option<Value> {
    Some(Value::from(text.to_owned()))
}

fn server(spans: &[SpanData]) -> &SpanData {
    spans
        .iter()
        .find(|span| span.span_kind == SpanKind::Server)
        .expect("a SERVER span")
}

#[tokio::test]
async fn the_root_answers_and_makes_two_spans() {
    let (tier2, collected) = start().await;
    let response = get(&tier2, "/?a=1&sig=s3cret", &[]).await;
    assert_eq!(response.status(), 200);
    let body = response.text().await.expect("text");
    let ms = body.strip_prefix("tier 2 ").expect("the prefix");
    assert!(ms.parse::<f64>().is_ok_and(|ms| ms >= 0.0), "{body}");

    let spans = collected.spans(2).await;
    let root = server(&spans);
    assert_eq!(root.name, "GET /");
    assert_eq!(root.status, Status::Unset);
    assert_eq!(root.parent_span_id, SpanId::INVALID);
    let port = i64::from(tier2.addr().port());
    for (key, expected) in [
        ("http.request.method", string("GET")),
        ("http.request.method_original", None),
        ("http.route", string("/")),
        ("http.response.status_code", Some(Value::I64(200))),
        ("url.path", string("/")),
        ("url.query", string("a=1&sig=REDACTED")),
        ("url.scheme", string("http")),
        ("server.address", string("127.0.0.1")),
        ("server.port", Some(Value::I64(port))),
        ("client.address", string("127.0.0.1")),
        ("network.peer.address", string("127.0.0.1")),
        ("network.protocol.version", string("1.1")),
        ("user_agent.original", string("test/1")),
        ("error.type", None),
    ] {
        assert_eq!(attribute(root, key), expected.as_ref(), "{key}");
    }
    let peer = attribute(root, "network.peer.port");
    assert!(matches!(peer, Some(Value::I64(1..=65535))), "{peer:?}");

    let query = spans
        .iter()
        .find(|span| span.span_kind == SpanKind::Client)
        .expect("a CLIENT span");
    assert_eq!(query.name, "SELECT members");
    assert_eq!(query.parent_span_id, root.span_context.span_id());
    assert_eq!(query.span_context.trace_id(), root.span_context.trace_id());
    assert_eq!(query.instrumentation_scope.name(), "tier2");
    tier2.stop().await;
}

#[tokio::test]
async fn it_joins_the_callers_trace() {
    let (tier2, collected) = start().await;
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    get(&tier2, "/error", &[("traceparent", &traceparent)]).await;
    let spans = collected.spans(1).await;
    let span = server(&spans);
    assert_eq!(span.span_context.trace_id().to_string(), TRACE);
    assert_eq!(span.parent_span_id.to_string(), PARENT);
    assert!(span.parent_span_is_remote);
    tier2.stop().await;
}

#[tokio::test]
async fn an_unsampled_caller_is_followed() {
    let (tier2, collected) = start().await;
    let traceparent = format!("00-{TRACE}-{PARENT}-00");
    let response = get(&tier2, "/", &[("traceparent", &traceparent)]).await;
    assert_eq!(response.status(), 200);
    tier2.stop().await;
    collected.spans(0).await;
}

#[tokio::test]
async fn an_invalid_traceparent_is_as_good_as_none() {
    let (tier2, collected) = start().await;
    let short = format!("00-42-{PARENT}-01");
    let valid = format!("00-{TRACE}-{PARENT}-01");
    get(&tier2, "/error", &[("traceparent", &short)]).await;
    let twice = [("traceparent", valid.as_str()), ("traceparent", &valid)];
    get(&tier2, "/error", &twice).await;
    for span in collected.spans(2).await {
        assert_eq!(span.parent_span_id, SpanId::INVALID);
        assert_ne!(span.span_context.trace_id().to_string(), TRACE);
    }
    tier2.stop().await;
}

#[tokio::test]
async fn a_500_is_an_error_without_a_description() {
    let (tier2, collected) = start().await;
    let response = get(&tier2, "/error", &[]).await;
    assert_eq!(response.status(), 500);
    assert_eq!(
        response.text().await.expect("text"),
        "Internal Server Error"
    );

    let spans = collected.spans(1).await;
    let span = server(&spans);
    assert_eq!(span.name, "GET /error");
    assert_eq!(span.status, Status::error(""));
    assert_eq!(attribute(span, "error.type"), string("500").as_ref());
    assert_eq!(
        attribute(span, "http.response.status_code"),
        Some(&Value::I64(500))
    );
    tier2.stop().await;
}

#[tokio::test]
async fn an_unknown_path_is_not_found_and_no_error_of_ours() {
    let (tier2, collected) = start().await;
    let response = get(&tier2, "/nope/7", &[]).await;
    assert_eq!(response.status(), 404);

    let spans = collected.spans(1).await;
    let span = server(&spans);
    assert_eq!(span.name, "GET");
    assert_eq!(span.status, Status::Unset);
    assert_eq!(attribute(span, "http.route"), None);
    assert_eq!(attribute(span, "url.path"), string("/nope/7").as_ref());
    assert_eq!(attribute(span, "error.type"), None);
    tier2.stop().await;
}

#[tokio::test]
async fn a_made_up_method_does_not_make_up_a_name() {
    let (tier2, collected) = start().await;
    let method = Method::from_bytes(b"BREW").expect("a token");
    let response = client()
        .request(method, format!("http://{}/", tier2.addr()))
        .send()
        .await
        .expect("answers");
    assert_eq!(response.status(), 405);

    let spans = collected.spans(1).await;
    let span = server(&spans);
    assert_eq!(span.name, "HTTP /");
    let method = attribute(span, "http.request.method");
    assert_eq!(method, string("_OTHER").as_ref());
    let original = attribute(span, "http.request.method_original");
    assert_eq!(original, string("BREW").as_ref());
    tier2.stop().await;
}

#[tokio::test]
async fn the_healthcheck_is_json_and_makes_no_span() {
    let (tier2, collected) = start().await;
    let response = get(&tier2, "/healthcheck", &[]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.text().await.expect("text"), r#"{"status":"ok"}"#);
    tier2.stop().await;
    collected.spans(0).await;
}

#[tokio::test]
async fn a_failed_query_is_a_500_that_keeps_its_reason() {
    let members = Members::connect(members::DEFAULT_URL)
        .await
        .expect("connects");
    let (telemetry, collected) = telemetry();
    let tier2 = Tier2::start_with(Config::default(), members.clone(), telemetry)
        .await
        .expect("starts");
    members.close().await;
    let response = get(&tier2, "/", &[]).await;
    assert_eq!(response.status(), 500);
    assert_eq!(
        response.text().await.expect("text"),
        "Internal Server Error"
    );

    let spans = collected.spans(2).await;
    let root = server(&spans);
    assert_eq!(root.status, Status::error(""));
    assert_eq!(attribute(root, "error.type"), string("500").as_ref());
    let query = spans.first().expect("the query ends first");
    assert_eq!(
        attribute(query, "error.type"),
        string("pool_closed").as_ref()
    );
    assert!(matches!(query.status, Status::Error { .. }));
    tier2.stop().await;
}

/// A tier2 that waits for `delay` in each request, and one request to it under way.
async fn start_slow(delay: Duration) -> (Tier2, Collected, TcpStream) {
    let (telemetry, collected) = telemetry();
    let config = Config {
        delay,
        ..Config::default()
    };
    let tier2 = Tier2::start(config, telemetry).await.expect("starts");
    let mut connection = TcpStream::connect(tier2.addr()).await.expect("connects");
    connection
        .write_all(b"GET / HTTP/1.1\r\nHost: tier2\r\n\r\n")
        .await
        .expect("is sent");
    collected.started().await;
    (tier2, collected, connection)
}

/// Longer than any test waits: such a request can only end by being cancelled.
const FOR_EVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_caller_that_hangs_up_leaves_an_error() {
    let (tier2, collected, connection) = start_slow(FOR_EVER).await;
    drop(connection);

    let spans = collected.spans(1).await;
    let span = server(&spans);
    assert_eq!(span.status, Status::error(""));
    assert_eq!(attribute(span, "error.type"), string("cancelled").as_ref());
    assert_eq!(attribute(span, "http.response.status_code"), None);
    tier2.stop().await;
}

#[tokio::test]
async fn a_stop_lets_a_running_request_finish() {
    let (tier2, collected, mut connection) = start_slow(Duration::from_millis(300)).await;
    let addr = tier2.addr();
    tier2.stop().await;

    let mut answer = String::new();
    connection
        .read_to_string(&mut answer)
        .await
        .expect("an answer and then the end");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(server(&collected.spans(2).await).status, Status::Unset);
    let after = client().get(format!("http://{addr}/")).send().await;
    assert!(after.expect_err("stopped").is_connect());
}

#[tokio::test]
async fn a_stop_cuts_a_request_that_takes_too_long() {
    let (tier2, collected, mut connection) = start_slow(FOR_EVER).await;
    let stopped = tokio::time::timeout(DEADLINE, tier2.stop());
    stopped.await.expect("the stop has a deadline");

    let mut answer = String::new();
    connection
        .read_to_string(&mut answer)
        .await
        .expect("an answer and then the end");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let spans = collected.spans(1).await;
    assert_eq!(server(&spans).status, Status::error(""));
}

#[tokio::test]
async fn disabled_telemetry_changes_nothing_else() {
    let tier2 = Tier2::start(Config::default(), Telemetry::disabled())
        .await
        .expect("starts");
    assert_eq!(get(&tier2, "/", &[]).await.status(), 200);
    tier2.stop().await;
}

#[tokio::test]
async fn a_taken_address_and_a_bad_database_are_named() {
    let (tier2, _) = start().await;
    let config = Config {
        addr: tier2.addr(),
        ..Config::default()
    };
    let error = Tier2::start(config, Telemetry::disabled())
        .await
        .expect_err("the address is taken");
    assert!(matches!(error, Error::Listen { .. }));
    assert!(error.to_string().starts_with("HOST, PORT: "), "{error}");

    let config = Config {
        database_url: "mysql://app:s3cret@host/app".to_owned(),
        ..Config::default()
    };
    assert!(!format!("{config:?}").contains("s3cret"));
    let error = Tier2::start(config, Telemetry::disabled())
        .await
        .expect_err("no such database");
    assert!(error.to_string().starts_with("DATABASE_URL: "), "{error}");
    assert!(!error.to_string().contains("s3cret"), "{error}");
    tier2.stop().await;
}
