//! The SERVER span of each request: semantic conventions, "HTTP server" (stable).

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{StatusCode, Version, header, uri::Authority};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use opentelemetry::context::FutureExt;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::trace::SdkTracer;
use opentelemetry_semantic_conventions::attribute;
use tokio::sync::watch;

use crate::Phase;

/// The methods that may stand in `http.request.method`; any other is `_OTHER`, so
/// that a caller cannot make up span names.
const METHODS: [&str; 10] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE",
];

/// Query keys whose values are signatures or credentials (conventions, `url.query`).
const SECRET_KEYS: [&str; 7] = [
    "AWSAccessKeyId",
    "Signature",
    "sig",
    "X-Goog-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
];

/// What the spans are made with.
pub(crate) struct Spans {
    pub(crate) tracer: SdkTracer,
    pub(crate) propagator: Arc<dyn TextMapPropagator + Send + Sync>,
}

/// Middleware: runs the rest of the service in a SERVER span, which is the current
/// one for the handler.
///
/// It must sit on the routes (`Router::layer` after them): only there is the
/// matched route known when the span starts.
pub(crate) async fn trace(
    State(spans): State<Arc<Spans>>,
    request: Request,
    next: Next,
) -> Response {
    // From an empty context: whatever is current on this thread is not the request's parent.
    let parent = spans
        .propagator
        .extract_with_context(&Context::new(), &HeaderExtractor(request.headers()));
    let span = spans
        .tracer
        .span_builder(name(&request))
        .with_kind(SpanKind::Server)
        .with_attributes(attributes(&request))
        .start_with_context(&spans.tracer, &parent);
    let open = OpenSpan(Some(parent.with_span(span)));
    let response = next.run(request).with_context(open.context()).await;
    open.end(response.status());
    response
}

/// Middleware: gives a request up when the service is cut short.
pub(crate) async fn cut(
    State(mut phase): State<watch::Receiver<Phase>>,
    request: Request,
    next: Next,
) -> Response {
    tokio::select! {
        response = next.run(request) => response,
        Ok(_) = phase.wait_for(|phase| *phase == Phase::Cut) => {
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

/// A span that ends whatever becomes of the request.
///
/// When the caller hangs up, the future that answers is dropped at its await and
/// nothing after it runs: only `drop` can still say what happened.
struct OpenSpan(Option<Context>);

impl OpenSpan {
    fn context(&self) -> Context {
        self.0.clone().unwrap_or_default()
    }

    fn end(mut self, status: StatusCode) {
        if let Some(context) = self.0.take() {
            let span = context.span();
            span.set_attribute(KeyValue::new(
                attribute::HTTP_RESPONSE_STATUS_CODE,
                i64::from(status.as_u16()),
            ));
            // A 4xx is the caller's error, so this span's status stays unset. A 5xx
            // gets no description: it would only repeat the number.
            if status.is_server_error() {
                span.set_attribute(KeyValue::new(
                    attribute::ERROR_TYPE,
                    status.as_str().to_owned(),
                ));
                span.set_status(Status::error(""));
            }
            span.end();
        }
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        if let Some(context) = self.0.take() {
            let reason = if std::thread::panicking() {
                "panic"
            } else {
                "cancelled"
            };
            let span = context.span();
            span.set_attribute(KeyValue::new(attribute::ERROR_TYPE, reason));
            span.set_status(Status::error(""));
            span.end();
        }
    }
}

/// `{method} {route}`, or `{method}` alone: the path has too many values for a name.
fn name(request: &Request) -> Cow<'static, str> {
    let method = known_method(request).unwrap_or("HTTP");
    match route(request) {
        Some(route) => format!("{method} {route}").into(),
        None => method.into(),
    }
}

fn known_method(request: &Request) -> Option<&'static str> {
    let method = request.method().as_str();
    METHODS.into_iter().find(|known| *known == method)
}

fn route(request: &Request) -> Option<&str> {
    request
        .extensions()
        .get::<MatchedPath>()
        .map(MatchedPath::as_str)
}

/// All that is known when the request arrives; a sampler sees these.
fn attributes(request: &Request) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new(
            attribute::HTTP_REQUEST_METHOD,
            known_method(request).unwrap_or("_OTHER"),
        ),
        KeyValue::new(attribute::URL_PATH, request.uri().path().to_owned()),
        // No TLS here, and no proxy in front whose word would count.
        KeyValue::new(attribute::URL_SCHEME, "http"),
    ];
    if known_method(request).is_none() {
        attributes.push(KeyValue::new(
            attribute::HTTP_REQUEST_METHOD_ORIGINAL,
            request.method().as_str().to_owned(),
        ));
    }
    if let Some(query) = request.uri().query().filter(|query| !query.is_empty()) {
        attributes.push(KeyValue::new(attribute::URL_QUERY, redacted(query)));
    }
    if let Some(route) = route(request) {
        attributes.push(KeyValue::new(attribute::HTTP_ROUTE, route.to_owned()));
    }
    if let Some((host, port)) = server(request) {
        attributes.push(KeyValue::new(attribute::SERVER_ADDRESS, host));
        if let Some(port) = port {
            attributes.push(KeyValue::new(attribute::SERVER_PORT, i64::from(port)));
        }
    }
    if let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() {
        let address = peer.ip().to_string();
        attributes.push(KeyValue::new(attribute::CLIENT_ADDRESS, address.clone()));
        attributes.push(KeyValue::new(attribute::NETWORK_PEER_ADDRESS, address));
        attributes.push(KeyValue::new(
            attribute::NETWORK_PEER_PORT,
            i64::from(peer.port()),
        ));
    }
    if let Some(version) = protocol_version(request.version()) {
        attributes.push(KeyValue::new(attribute::NETWORK_PROTOCOL_VERSION, version));
    }
    if let Some(agent) = header_value(request, &header::USER_AGENT) {
        attributes.push(KeyValue::new(
            attribute::USER_AGENT_ORIGINAL,
            agent.to_owned(),
        ));
    }
    attributes
}

fn header_value<'a>(request: &'a Request, name: &header::HeaderName) -> Option<&'a str> {
    request
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok())
}

/// Host and port as the caller named them: `:authority` (HTTP/2), else `Host`.
fn server(request: &Request) -> Option<(String, Option<u16>)> {
    let authority = match request.uri().authority() {
        Some(authority) => authority.clone(),
        None => header_value(request, &header::HOST)?
            .parse::<Authority>()
            .ok()?,
    };
    // An IPv6 address stands in brackets in a URL, but not in `server.address`.
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    Some((host, authority.port_u16())).filter(|(host, _)| !host.is_empty())
}

/// `1.1`, not `HTTP/1.1`; and `2`, not `2.0`.
fn protocol_version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        Version::HTTP_3 => Some("3"),
        _ => None,
    }
}

/// The query with the values of [`SECRET_KEYS`] replaced by `REDACTED`; keys stay.
fn redacted(query: &str) -> String {
    query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((key, _)) if SECRET_KEYS.contains(&key) => Cow::from(format!("{key}=REDACTED")),
            _ => Cow::from(pair),
        })
        .collect::<Vec<_>>()
        .join("&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn request(host: &str) -> Request {
        Request::builder()
            .uri("/")
            .header(header::HOST, host)
            .body(Body::empty())
            .expect("a valid request")
    }

    #[test]
    fn host_and_port_are_split() {
        let cases = [
            ("tier2:8081", Some(("tier2", Some(8081)))),
            ("tier2", Some(("tier2", None))),
            ("127.0.0.1:80", Some(("127.0.0.1", Some(80)))),
            ("[::1]:8081", Some(("::1", Some(8081)))),
            ("no host", None),
            ("", None),
        ];
        for (host, expected) in cases {
            let expected = expected.map(|(host, port): (&str, _)| (host.to_owned(), port));
            assert_eq!(server(&request(host)), expected, "{host:?}");
        }
    }

    #[test]
    fn signatures_are_redacted_and_nothing_else() {
        assert_eq!(redacted("a=1&sig=s3cret&b"), "a=1&sig=REDACTED&b");
        assert_eq!(redacted("X-Amz-Signature=x=y"), "X-Amz-Signature=REDACTED");
        assert_eq!(redacted("signal=1"), "signal=1");
    }

    #[test]
    fn versions_are_the_numbers_alone() {
        assert_eq!(protocol_version(Version::HTTP_11), Some("1.1"));
        assert_eq!(protocol_version(Version::HTTP_2), Some("2"));
        assert_eq!(protocol_version(Version::HTTP_09), None);
    }
}
