//! Attributes: what is said about a request, and in which words. By the semantic
//! conventions where they have one, else by names of our own.

use std::{borrow::Cow, io, net::SocketAddr};

use axum::{
    extract::{ConnectInfo, MatchedPath, Request},
    http::{HeaderName, Version, header, uri::Authority},
};
use opentelemetry::KeyValue;
use opentelemetry_semantic_conventions::attribute;
use reqwest::Url;

// ANCHOR: own
/// What was asked for: `fast`, `slow` or `error`. For `/random`, what it became.
pub const APP_ACTION: &str = "app.action";

/// What the external service said of itself, in its own words.
pub const APP_SAAS_STATUS: &str = "app.saas.status";

/// How many bytes it took to say so.
pub const APP_SAAS_SUMMARY_SIZE: &str = "app.saas.summary_size";

/// Event: the request is made to wait, from this moment on.
pub const APP_DELAYED: &str = "app.delayed";

/// How long it is made to wait, in milliseconds.
pub const APP_DELAY_MS: &str = "app.delay_ms";
// ANCHOR_END: own

/// How much of somebody else's text is kept. The SDK doesn't shorten a value.
const MAX_TEXT: usize = 100;

/// The methods that may stand in `http.request.method` (HTTP spans, "Common
/// attributes"). Any other is `_OTHER`: a caller can't make up names.
const METHODS: [&str; 10] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE",
];

/// Query keys whose values are signatures or credentials (conventions, `url.query`; the
/// first two are in the coming version).
const SECRET_KEYS: [&str; 7] = [
    "AWSAccessKeyId",
    "Signature",
    "sig",
    "X-Goog-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
];

/// The method as a span's name has it: one that nobody knows is `HTTP`.
pub fn method_name(method: &str) -> &'static str {
    known_method(method).unwrap_or("HTTP")
}

fn known_method(method: &str) -> Option<&'static str> {
    METHODS.into_iter().find(|known| *known == method)
}

/// The route that matched, such as `/fast`. There is one only inside of
/// `Router::layer`, and only if the request matched one.
pub fn route(request: &Request) -> Option<&str> {
    let path = request.extensions().get::<MatchedPath>();
    path.map(MatchedPath::as_str)
}

/// All that is known of a request when it arrives: HTTP spans, "HTTP server span".
/// A sampler sees these, so they are given when the span starts.
pub fn of_request(request: &Request) -> Vec<KeyValue> {
    let mut attributes = method(request.method().as_str());
    attributes.push(KeyValue::new(
        attribute::URL_PATH,
        request.uri().path().to_owned(),
    ));
    // No TLS here, and no proxy in front whose word on it would count.
    attributes.push(KeyValue::new(attribute::URL_SCHEME, "http"));
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

/// All that is known of a call before it is made: HTTP spans, "HTTP client span".
pub fn of_call(request: &reqwest::Request) -> Vec<KeyValue> {
    let mut attributes = method(request.method().as_str());
    let url = request.url();
    attributes.push(KeyValue::new(attribute::URL_FULL, redacted_url(url)));
    if let Some(host) = url.host_str() {
        // An IPv6 address stands in brackets in a URL, but not in `server.address`.
        let host = host.trim_matches(['[', ']']).to_owned();
        attributes.push(KeyValue::new(attribute::SERVER_ADDRESS, host));
    }
    // Asked for even where it is the scheme's own.
    if let Some(port) = url.port_or_known_default() {
        attributes.push(KeyValue::new(attribute::SERVER_PORT, i64::from(port)));
    }
    attributes
}

/// What the answer to a call adds.
pub fn of_answer(response: &reqwest::Response) -> Vec<KeyValue> {
    let mut attributes = vec![KeyValue::new(
        attribute::HTTP_RESPONSE_STATUS_CODE,
        i64::from(response.status().as_u16()),
    )];
    if let Some(peer) = response.remote_addr() {
        let address = peer.ip().to_string();
        attributes.push(KeyValue::new(attribute::NETWORK_PEER_ADDRESS, address));
        attributes.push(KeyValue::new(
            attribute::NETWORK_PEER_PORT,
            i64::from(peer.port()),
        ));
    }
    if let Some(version) = protocol_version(response.version()) {
        attributes.push(KeyValue::new(attribute::NETWORK_PROTOCOL_VERSION, version));
    }
    attributes
}

/// `error.type` of a call that got no answer: one of a few words, never the error's
/// own text, which would be another each time.
pub fn call_error_type(error: &reqwest_middleware::Error) -> &'static str {
    let reqwest_middleware::Error::Reqwest(error) = error else {
        return "_OTHER";
    };
    if error.is_timeout() {
        return "timeout";
    }
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            match error.kind() {
                io::ErrorKind::ConnectionRefused => return "connection_refused",
                io::ErrorKind::ConnectionReset => return "connection_reset",
                io::ErrorKind::BrokenPipe => return "broken_pipe",
                io::ErrorKind::UnexpectedEof => return "unexpected_eof",
                _ => {}
            }
        }
        cause = error.source();
    }
    if error.is_connect() {
        "connect"
    } else {
        "_OTHER"
    }
}

/// All that is known of a message before it is sent: messaging spans, "RabbitMQ". These
/// conventions are in development: names may still change.
///
/// `broker` is its host and port. The message goes to the default exchange, so that
/// `queue` is its routing key, too, and the whole of its destination's name.
pub fn of_message(broker: &(String, u16), queue: &'static str, message_id: &str) -> Vec<KeyValue> {
    let (host, port) = broker;
    vec![
        KeyValue::new(attribute::MESSAGING_SYSTEM, "rabbitmq"),
        KeyValue::new(attribute::MESSAGING_OPERATION_NAME, "publish"),
        // The name is the broker's word for it, the type is the same for all brokers.
        KeyValue::new(attribute::MESSAGING_OPERATION_TYPE, "send"),
        KeyValue::new(attribute::MESSAGING_DESTINATION_NAME, queue),
        KeyValue::new(attribute::MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY, queue),
        KeyValue::new(attribute::MESSAGING_MESSAGE_ID, message_id.to_owned()),
        KeyValue::new(attribute::SERVER_ADDRESS, host.clone()),
        KeyValue::new(attribute::SERVER_PORT, i64::from(*port)),
    ]
}

/// A size in bytes, as a number.
pub fn size(key: &'static str, text: &str) -> KeyValue {
    KeyValue::new(key, i64::try_from(text.len()).unwrap_or(i64::MAX))
}

/// The beginning of somebody else's text: they decide how long it is, not what is stored.
pub fn short(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// The URL without what gives access: user and password, and the values of
/// [`SECRET_KEYS`] (conventions, `url.full`).
fn redacted_url(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for URLs that can have neither.
    if url.password().is_some() {
        let _ = url.set_password(Some("REDACTED"));
    }
    if !url.username().is_empty() {
        let _ = url.set_username("REDACTED");
    }
    if let Some(query) = url.query().map(redacted) {
        url.set_query(Some(&query));
    }
    url.into()
}

/// `http.request.method`, and the word that was sent if it is not a known one.
fn method(method: &str) -> Vec<KeyValue> {
    match known_method(method) {
        Some(method) => vec![KeyValue::new(attribute::HTTP_REQUEST_METHOD, method)],
        None => vec![
            KeyValue::new(attribute::HTTP_REQUEST_METHOD, "_OTHER"),
            KeyValue::new(attribute::HTTP_REQUEST_METHOD_ORIGINAL, method.to_owned()),
        ],
    }
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

fn header_value<'a>(request: &'a Request, name: &HeaderName) -> Option<&'a str> {
    let value = request.headers().get(name);
    value.and_then(|value| value.to_str().ok())
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
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((key, _)) if SECRET_KEYS.contains(&key) => Cow::from(format!("{key}=REDACTED")),
        _ => Cow::from(pair),
    });
    pairs.collect::<Vec<_>>().join("&")
}
