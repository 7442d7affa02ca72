//! What a snapshot holds of a span: the attributes that the conventions require or
//! recommend, each from the step on that asks for it.
//!
//! Everything else that a service exports is extra: it is no part of the contract
//! and never fails a reader.

use opentelemetry_semantic_conventions::attribute as semconv;
use otlp::{Contract, Keep, Span, SpanKind};

/// The kinds of span that the conventions tell apart. A span's kind says which it is,
/// for a CLIENT span its attributes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanType {
    /// HTTP conventions, "HTTP server span".
    HttpServer,
    /// HTTP conventions, "HTTP client span".
    HttpClient,
    /// Messaging conventions, operation type `send`.
    Publish,
    /// Messaging conventions, operation type `process`.
    Process,
    /// Database conventions.
    Database,
    /// A span that only the team itself can know.
    Internal,
}

impl SpanType {
    /// What `span` is.
    pub fn of(span: &Span) -> Self {
        match span.kind {
            SpanKind::Server => Self::HttpServer,
            SpanKind::Producer => Self::Publish,
            SpanKind::Consumer => Self::Process,
            SpanKind::Client if has_prefix(span, "db.") => Self::Database,
            SpanKind::Client => Self::HttpClient,
            SpanKind::Internal | SpanKind::Unspecified => Self::Internal,
        }
    }
}

fn has_prefix(span: &Span, prefix: &str) -> bool {
    span.attributes
        .iter()
        .any(|attribute| attribute.key.starts_with(prefix))
}

/// One row of the contract.
struct Row {
    span: SpanType,
    attribute: &'static str,
    /// The step from which tier1 is asked for it. The services around it have it always.
    from: u8,
    keep: Keep,
}

const fn row(span: SpanType, attribute: &'static str, from: u8, keep: Keep) -> Row {
    Row {
        span,
        attribute,
        from,
        keep,
    }
}

const PORT: Keep = Keep::Redacted("<port>");
const ID: Keep = Keep::Redacted("<id>");
const TAG: Keep = Keep::Redacted("<tag>");

/// Never, for tier1: only the services around it have such spans.
const NOT_TIER1: u8 = u8::MAX;

use SpanType::{Database, HttpServer, Process};

/// The contract. Sources: HTTP conventions "HTTP server span"; RabbitMQ conventions;
/// database conventions for SQLite's and PostgreSQL's clients; all of v1.44.0.
const TABLE: &[Row] = &[
    row(HttpServer, semconv::HTTP_REQUEST_METHOD, 2, Keep::Value),
    row(HttpServer, semconv::HTTP_ROUTE, 2, Keep::Value),
    row(
        HttpServer,
        semconv::HTTP_RESPONSE_STATUS_CODE,
        2,
        Keep::Value,
    ),
    row(HttpServer, semconv::URL_PATH, 2, Keep::Value),
    row(HttpServer, semconv::URL_SCHEME, 4, Keep::Value),
    row(HttpServer, semconv::URL_QUERY, 4, Keep::Value),
    row(HttpServer, semconv::ERROR_TYPE, 4, Keep::Value),
    row(
        HttpServer,
        semconv::HTTP_REQUEST_METHOD_ORIGINAL,
        4,
        Keep::Value,
    ),
    row(HttpServer, semconv::SERVER_ADDRESS, 4, Keep::Value),
    row(HttpServer, semconv::SERVER_PORT, 4, PORT),
    row(HttpServer, semconv::CLIENT_ADDRESS, 4, Keep::Value),
    row(HttpServer, semconv::NETWORK_PEER_ADDRESS, 4, Keep::Value),
    row(HttpServer, semconv::NETWORK_PEER_PORT, 4, PORT),
    row(
        HttpServer,
        semconv::NETWORK_PROTOCOL_VERSION,
        4,
        Keep::Value,
    ),
    row(HttpServer, semconv::USER_AGENT_ORIGINAL, 4, Keep::Value),
    row(Process, semconv::MESSAGING_SYSTEM, NOT_TIER1, Keep::Value),
    row(
        Process,
        semconv::MESSAGING_OPERATION_NAME,
        NOT_TIER1,
        Keep::Value,
    ),
    row(
        Process,
        semconv::MESSAGING_OPERATION_TYPE,
        NOT_TIER1,
        Keep::Value,
    ),
    row(
        Process,
        semconv::MESSAGING_DESTINATION_NAME,
        NOT_TIER1,
        Keep::Value,
    ),
    row(
        Process,
        semconv::MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY,
        NOT_TIER1,
        Keep::Value,
    ),
    row(
        Process,
        semconv::MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG,
        NOT_TIER1,
        TAG,
    ),
    row(Process, semconv::MESSAGING_MESSAGE_ID, NOT_TIER1, ID),
    row(Process, semconv::SERVER_ADDRESS, NOT_TIER1, Keep::Value),
    row(Process, semconv::SERVER_PORT, NOT_TIER1, PORT),
    row(Process, semconv::ERROR_TYPE, NOT_TIER1, Keep::Value),
    row(Database, semconv::DB_SYSTEM_NAME, NOT_TIER1, Keep::Value),
    row(Database, semconv::DB_NAMESPACE, NOT_TIER1, Keep::Value),
    row(Database, semconv::DB_QUERY_SUMMARY, NOT_TIER1, Keep::Value),
    row(Database, semconv::DB_QUERY_TEXT, NOT_TIER1, Keep::Value),
    row(
        Database,
        semconv::DB_RESPONSE_STATUS_CODE,
        NOT_TIER1,
        Keep::Value,
    ),
    row(Database, semconv::ERROR_TYPE, NOT_TIER1, Keep::Value),
];

/// The contract as of one step.
#[derive(Clone, Copy, Debug)]
pub struct StepContract {
    step: u8,
}

impl StepContract {
    /// What is asked for from step `step` on.
    pub fn new(step: u8) -> Self {
        Self { step }
    }
}

impl Contract for StepContract {
    fn keep(&self, span: &Span, key: &str) -> Keep {
        let around = matches!(span.service(), "tier2-service" | "consumer-service");
        TABLE
            .iter()
            .find(|row| row.span == SpanType::of(span) && row.attribute == key)
            .filter(|row| around || row.from <= self.step)
            .map_or(Keep::Drop, |row| row.keep)
    }
}
