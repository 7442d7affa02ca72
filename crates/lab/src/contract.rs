//! What the conventions ask of a span, and what a snapshot holds of it: one table.
//!
//! Each row says which attribute a type of span has, of which type, when it must be
//! there, and from which step on tier1 is asked for it. Everything else that a
//! service exports is extra: it is no part of the contract and never fails a reader.

use opentelemetry_semantic_conventions::attribute as semconv;
use otlp::{Contract, Event, Keep, NormalSpan, Span, SpanKind, StatusCode, Value};

/// tier1's name, unless a step says otherwise.
pub(crate) const TIER1: &str = "tier1-service";

/// The consumer's name.
pub(crate) const CONSUMER_SERVICE: &str = "consumer-service";

/// The services around tier1. They keep the whole contract in each step.
pub(crate) const AROUND: [&str; 2] = ["tier2-service", CONSUMER_SERVICE];

/// The kinds of span that the conventions tell apart. A span's kind says which it is,
/// for a CLIENT span its attributes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
        Self::from_kind(span.kind, span.attributes.iter().map(|a| a.key.as_str()))
    }

    /// What the span of a snapshot is.
    pub fn of_normal(span: &NormalSpan) -> Self {
        Self::from_kind(span.kind, span.attributes.iter().map(|a| a.key.as_str()))
    }

    fn from_kind<'a>(kind: SpanKind, mut keys: impl Iterator<Item = &'a str>) -> Self {
        match kind {
            SpanKind::Server => Self::HttpServer,
            SpanKind::Producer => Self::Publish,
            SpanKind::Consumer => Self::Process,
            SpanKind::Client if keys.any(|key| key.starts_with("db.")) => Self::Database,
            SpanKind::Client => Self::HttpClient,
            SpanKind::Internal | SpanKind::Unspecified => Self::Internal,
        }
    }
}

/// The type of a value, as the conventions give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// A string.
    Str,
    /// A signed 64-bit integer.
    Int,
    /// A boolean.
    Bool,
    /// A list of strings.
    StrArray,
}

impl ValueType {
    /// As [`Value::type_name`] gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Str => "string",
            Self::Int => "int",
            Self::Bool => "bool",
            Self::StrArray => "string[]",
        }
    }

    fn fits(self, value: &Value) -> bool {
        value.type_name() == self.name()
            // An empty list has no type of its own.
            || (self == Self::StrArray && matches!(value, Value::Array(list) if list.is_empty()))
    }
}

/// The requirement level (conventions, "Attribute requirement levels"). What is
/// opt-in is no part of the table: it is extra.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// On each span.
    Required,
    /// If something holds.
    ConditionallyRequired(Condition),
    /// Should be there where it is known.
    Recommended,
}

/// When a conditionally required attribute must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// If and only if the span's status is Error.
    Failed,
    /// If there was a response: the error's type is a status code, or, on a SERVER
    /// span, there is no error.
    Answered,
    /// If and only if the method is `_OTHER`. (The conventions ask for the original
    /// method also where its case differs, which the span doesn't tell.)
    OtherMethod,
    /// If this attribute is there.
    With(&'static str),
    /// If the routing key is not empty: a destination that is named has one, but for
    /// `amq.default`.
    Routed,
    /// Always, of what this system does.
    Always,
    /// The span itself doesn't tell.
    Elsewhere,
}

impl Condition {
    /// Whether the attribute must be there.
    fn asks(self, span: &Span) -> bool {
        let failed = span.status.code == StatusCode::Error;
        match self {
            Self::Failed => failed,
            Self::Answered => match span.attribute(semconv::ERROR_TYPE) {
                Some(value) => value.as_str().is_some_and(is_status_code),
                None => span.kind == SpanKind::Server && !failed,
            },
            Self::OtherMethod => is_other_method(span),
            Self::With(key) => span.attribute(key).is_some(),
            Self::Routed => span
                .attribute(semconv::MESSAGING_DESTINATION_NAME)
                .and_then(Value::as_str)
                .is_some_and(|name| name != "amq.default"),
            Self::Always => true,
            Self::Elsewhere => false,
        }
    }

    /// Whether the attribute must not be there.
    fn forbids(self, span: &Span) -> bool {
        match self {
            Self::Failed => span.status.code != StatusCode::Error,
            _ => false,
        }
    }
}

fn is_status_code(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_other_method(span: &Span) -> bool {
    span.attribute(semconv::HTTP_REQUEST_METHOD)
        .and_then(Value::as_str)
        == Some("_OTHER")
}

/// One row of the contract.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Which spans it is about.
    pub span: SpanType,
    /// The attribute's name.
    pub attribute: &'static str,
    /// The type of its value.
    pub value: ValueType,
    /// When it must be there.
    pub level: Level,
    /// The step from which tier1 is asked for it. The services around it have it always.
    pub from: u8,
    /// What a snapshot shows of it.
    pub keep: Keep,
}

const fn row(
    span: SpanType,
    attribute: &'static str,
    value: ValueType,
    level: Level,
    from: u8,
    keep: Keep,
) -> Row {
    Row {
        span,
        attribute,
        value,
        level,
        from,
        keep,
    }
}

const fn required(span: SpanType, attribute: &'static str, value: ValueType, from: u8) -> Row {
    row(span, attribute, value, Level::Required, from, Keep::Value)
}

const fn required_if(
    span: SpanType,
    attribute: &'static str,
    value: ValueType,
    condition: Condition,
    from: u8,
) -> Row {
    let level = Level::ConditionallyRequired(condition);
    row(span, attribute, value, level, from, Keep::Value)
}

const fn recommended(span: SpanType, attribute: &'static str, value: ValueType, from: u8) -> Row {
    let level = Level::Recommended;
    row(span, attribute, value, level, from, Keep::Value)
}

impl Row {
    const fn shown(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }

    /// Whether the attribute must be on `span`.
    fn asks(&self, span: &Span) -> bool {
        match self.level {
            Level::Required => true,
            Level::ConditionallyRequired(condition) => condition.asks(span),
            Level::Recommended => false,
        }
    }

    fn forbids(&self, span: &Span) -> bool {
        matches!(self.level, Level::ConditionallyRequired(condition) if condition.forbids(span))
    }

    fn applies(&self, span: &Span, step: u8) -> bool {
        self.span == SpanType::of(span) && (is_around(span.service()) || self.from <= step)
    }
}

const PORT: Keep = Keep::Redacted("<port>");
const ID: Keep = Keep::Redacted("<id>");
const TAG: Keep = Keep::Redacted("<tag>");

/// The first step in which tier1 makes such a span by its own code. In steps 02 and
/// 03 the tower layer of opentelemetry-instrumentation-tower makes its SERVER span.
const SERVER_LAYER: u8 = 2;
const SERVER: u8 = 4;
const CLIENT: u8 = 5;
const PUBLISH: u8 = 6;
/// Consumer's: it has it always, and tier1 never.
const CONSUMER: u8 = 13;
/// The spans of tier1's own functions, and their errors.
const INTERNAL: u8 = 10;
const INTERNAL_ERROR: u8 = 11;

/// What tier1 says in its own words: no conventions have a name for it.
mod app {
    pub(super) const ACTION: &str = "app.action";
    pub(super) const DELAYED: &str = "app.delayed";
    pub(super) const DELAY_MS: &str = "app.delay_ms";
    pub(super) const SAAS_STATUS: &str = "app.saas.status";
    pub(super) const SAAS_SUMMARY_SIZE: &str = "app.saas.summary_size";
}

use Condition::{Always, Answered, Elsewhere, Failed, OtherMethod, Routed, With};
use SpanType::{Database, HttpClient, HttpServer, Internal, Process, Publish};
use ValueType::{Bool, Int, Str};

/// The contract. Sources: HTTP conventions, "HTTP server" and "HTTP client"; RabbitMQ
/// conventions; database conventions for SQLite's and PostgreSQL's clients; all of
/// v1.44.0.
pub const TABLE: &[Row] = &[
    required(HttpServer, semconv::HTTP_REQUEST_METHOD, Str, SERVER_LAYER),
    required_if(
        HttpServer,
        semconv::HTTP_ROUTE,
        Str,
        Elsewhere,
        SERVER_LAYER,
    ),
    required_if(
        HttpServer,
        semconv::HTTP_RESPONSE_STATUS_CODE,
        Int,
        Answered,
        SERVER_LAYER,
    ),
    required(HttpServer, semconv::URL_PATH, Str, SERVER_LAYER),
    required(HttpServer, semconv::URL_SCHEME, Str, SERVER),
    required_if(HttpServer, semconv::URL_QUERY, Str, Elsewhere, SERVER),
    required_if(HttpServer, semconv::ERROR_TYPE, Str, Failed, SERVER),
    required_if(
        HttpServer,
        semconv::HTTP_REQUEST_METHOD_ORIGINAL,
        Str,
        OtherMethod,
        SERVER,
    ),
    recommended(HttpServer, semconv::SERVER_ADDRESS, Str, SERVER),
    required_if(
        HttpServer,
        semconv::SERVER_PORT,
        Int,
        With(semconv::SERVER_ADDRESS),
        SERVER,
    )
    .shown(PORT),
    recommended(HttpServer, semconv::CLIENT_ADDRESS, Str, SERVER),
    recommended(HttpServer, semconv::NETWORK_PEER_ADDRESS, Str, SERVER),
    recommended(HttpServer, semconv::NETWORK_PEER_PORT, Int, SERVER).shown(PORT),
    recommended(HttpServer, semconv::NETWORK_PROTOCOL_VERSION, Str, SERVER),
    recommended(HttpServer, semconv::USER_AGENT_ORIGINAL, Str, SERVER),
    required(HttpClient, semconv::HTTP_REQUEST_METHOD, Str, CLIENT),
    required(HttpClient, semconv::SERVER_ADDRESS, Str, CLIENT),
    required(HttpClient, semconv::SERVER_PORT, Int, CLIENT).shown(PORT),
    required(HttpClient, semconv::URL_FULL, Str, CLIENT).shown(Keep::UrlWithoutPort),
    required_if(
        HttpClient,
        semconv::HTTP_RESPONSE_STATUS_CODE,
        Int,
        Answered,
        CLIENT,
    ),
    required_if(HttpClient, semconv::ERROR_TYPE, Str, Failed, CLIENT),
    required_if(
        HttpClient,
        semconv::HTTP_REQUEST_METHOD_ORIGINAL,
        Str,
        OtherMethod,
        CLIENT,
    ),
    recommended(HttpClient, semconv::HTTP_REQUEST_RESEND_COUNT, Int, CLIENT),
    recommended(HttpClient, semconv::NETWORK_PEER_ADDRESS, Str, CLIENT),
    recommended(HttpClient, semconv::NETWORK_PEER_PORT, Int, CLIENT).shown(PORT),
    recommended(HttpClient, semconv::NETWORK_PROTOCOL_VERSION, Str, CLIENT),
    required(Publish, semconv::MESSAGING_SYSTEM, Str, PUBLISH),
    required(Publish, semconv::MESSAGING_OPERATION_NAME, Str, PUBLISH),
    required_if(
        Publish,
        semconv::MESSAGING_OPERATION_TYPE,
        Str,
        Always,
        PUBLISH,
    ),
    required(Publish, semconv::MESSAGING_DESTINATION_NAME, Str, PUBLISH),
    required_if(
        Publish,
        semconv::MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY,
        Str,
        Routed,
        PUBLISH,
    ),
    required_if(
        Publish,
        semconv::MESSAGING_DESTINATION_ANONYMOUS,
        Bool,
        Elsewhere,
        PUBLISH,
    ),
    required_if(
        Publish,
        semconv::MESSAGING_DESTINATION_TEMPORARY,
        Bool,
        Elsewhere,
        PUBLISH,
    ),
    required_if(
        Publish,
        semconv::MESSAGING_BATCH_MESSAGE_COUNT,
        Int,
        Elsewhere,
        PUBLISH,
    ),
    required_if(Publish, semconv::ERROR_TYPE, Str, Failed, PUBLISH),
    recommended(Publish, semconv::MESSAGING_MESSAGE_ID, Str, PUBLISH).shown(ID),
    recommended(
        Publish,
        semconv::MESSAGING_MESSAGE_CONVERSATION_ID,
        Str,
        PUBLISH,
    )
    .shown(ID),
    recommended(Publish, semconv::SERVER_ADDRESS, Str, PUBLISH),
    recommended(Publish, semconv::SERVER_PORT, Int, PUBLISH).shown(PORT),
    recommended(Publish, semconv::NETWORK_PEER_ADDRESS, Str, PUBLISH),
    recommended(Publish, semconv::NETWORK_PEER_PORT, Int, PUBLISH).shown(PORT),
    required(Process, semconv::MESSAGING_SYSTEM, Str, CONSUMER),
    required(Process, semconv::MESSAGING_OPERATION_NAME, Str, CONSUMER),
    required_if(
        Process,
        semconv::MESSAGING_OPERATION_TYPE,
        Str,
        Always,
        CONSUMER,
    ),
    required(Process, semconv::MESSAGING_DESTINATION_NAME, Str, CONSUMER),
    required_if(
        Process,
        semconv::MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY,
        Str,
        Routed,
        CONSUMER,
    ),
    required_if(
        Process,
        semconv::MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG,
        Int,
        Always,
        CONSUMER,
    )
    .shown(TAG),
    required_if(Process, semconv::ERROR_TYPE, Str, Failed, CONSUMER),
    recommended(Process, semconv::MESSAGING_MESSAGE_ID, Str, CONSUMER).shown(ID),
    recommended(
        Process,
        semconv::MESSAGING_MESSAGE_CONVERSATION_ID,
        Str,
        CONSUMER,
    )
    .shown(ID),
    recommended(Process, semconv::SERVER_ADDRESS, Str, CONSUMER),
    recommended(Process, semconv::SERVER_PORT, Int, CONSUMER).shown(PORT),
    required(Database, semconv::DB_SYSTEM_NAME, Str, CONSUMER),
    required_if(Database, semconv::DB_NAMESPACE, Str, Elsewhere, CONSUMER),
    required_if(
        Database,
        semconv::DB_RESPONSE_STATUS_CODE,
        Str,
        Elsewhere,
        CONSUMER,
    ),
    required_if(Database, semconv::ERROR_TYPE, Str, Failed, CONSUMER),
    recommended(Database, semconv::DB_QUERY_SUMMARY, Str, CONSUMER),
    recommended(Database, semconv::DB_QUERY_TEXT, Str, CONSUMER),
    // Which function has which is up to the chapter, and in its snapshots.
    required_if(Internal, app::ACTION, Str, Elsewhere, INTERNAL),
    required_if(Internal, app::DELAY_MS, Int, Elsewhere, INTERNAL),
    required_if(Internal, app::SAAS_STATUS, Str, Elsewhere, INTERNAL),
    required_if(Internal, app::SAAS_SUMMARY_SIZE, Int, Elsewhere, INTERNAL),
    required_if(
        Internal,
        semconv::MESSAGING_MESSAGE_BODY_SIZE,
        Int,
        Elsewhere,
        INTERNAL,
    ),
    required_if(Internal, semconv::ERROR_TYPE, Str, Failed, INTERNAL_ERROR),
];

/// Events of tier1's that a snapshot shows, each from the step that asks for it. The
/// services around it have theirs shown always.
const EVENTS: &[(&str, u8)] = &[(app::DELAYED, INTERNAL)];

/// Attributes that got another name, and which (the conventions' deprecated
/// attributes). A span that has the old one alone has nothing for those who look for
/// the new one. Where there are two new names, one of them is enough.
pub const RENAMED: &[(&str, &[&str])] = &[
    ("http.method", &[semconv::HTTP_REQUEST_METHOD]),
    ("http.status_code", &[semconv::HTTP_RESPONSE_STATUS_CODE]),
    ("http.target", &[semconv::URL_PATH]),
    ("http.url", &[semconv::URL_FULL]),
    ("http.scheme", &[semconv::URL_SCHEME]),
    ("http.flavor", &[semconv::NETWORK_PROTOCOL_VERSION]),
    ("http.host", &[semconv::SERVER_ADDRESS]),
    ("http.server_name", &[semconv::SERVER_ADDRESS]),
    ("http.client_ip", &[semconv::CLIENT_ADDRESS]),
    ("http.user_agent", &[semconv::USER_AGENT_ORIGINAL]),
    ("net.host.name", &[semconv::SERVER_ADDRESS]),
    ("net.host.port", &[semconv::SERVER_PORT]),
    (
        "net.peer.name",
        &[semconv::SERVER_ADDRESS, semconv::CLIENT_ADDRESS],
    ),
    (
        "net.peer.port",
        &[semconv::SERVER_PORT, semconv::CLIENT_PORT],
    ),
    ("net.peer.ip", &[semconv::NETWORK_PEER_ADDRESS]),
    ("net.sock.peer.addr", &[semconv::NETWORK_PEER_ADDRESS]),
    ("net.sock.peer.port", &[semconv::NETWORK_PEER_PORT]),
    ("net.protocol.version", &[semconv::NETWORK_PROTOCOL_VERSION]),
    ("net.transport", &[semconv::NETWORK_TRANSPORT]),
    ("peer.service", &["service.peer.name"]),
    ("messaging.operation", &[semconv::MESSAGING_OPERATION_TYPE]),
    ("messaging.client_id", &[semconv::MESSAGING_CLIENT_ID]),
    (
        "messaging.destination",
        &[semconv::MESSAGING_DESTINATION_NAME],
    ),
    ("messaging.message_id", &[semconv::MESSAGING_MESSAGE_ID]),
    (
        "messaging.rabbitmq.routing_key",
        &[semconv::MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY],
    ),
    ("db.system", &[semconv::DB_SYSTEM_NAME]),
    ("db.name", &[semconv::DB_NAMESPACE]),
    ("db.statement", &[semconv::DB_QUERY_TEXT]),
    ("db.operation", &[semconv::DB_OPERATION_NAME]),
    ("db.sql.table", &[semconv::DB_COLLECTION_NAME]),
];

fn is_around(service: &str) -> bool {
    AROUND.contains(&service)
}

/// The names that `key` had before and that `span` has.
pub(crate) fn old_name(span: &Span, key: &str) -> Option<&'static str> {
    RENAMED
        .iter()
        .find(|(old, new)| new.contains(&key) && span.attribute(old).is_some())
        .map(|(old, _)| *old)
}

/// Whether a span may have `key` although the snapshot's doesn't: what is only
/// recommended is everybody's own choice.
pub(crate) fn is_optional(span: SpanType, key: &str) -> bool {
    TABLE
        .iter()
        .find(|row| row.span == span && row.attribute == key)
        .is_none_or(|row| row.level == Level::Recommended)
}

/// The contract as of one step.
#[derive(Clone, Copy, Debug)]
pub struct StepContract {
    step: u8,
    subject: &'static str,
}

impl StepContract {
    /// What is asked of tier1 from step `step` on.
    pub fn new(step: u8) -> Self {
        Self {
            step,
            subject: TIER1,
        }
    }

    /// The same with another service under test.
    #[must_use]
    pub fn of(self, subject: &'static str) -> Self {
        Self { subject, ..self }
    }

    /// The rows that `span` is to keep.
    fn rows<'a>(&'a self, span: &'a Span) -> impl Iterator<Item = &'static Row> + 'a {
        TABLE.iter().filter(|row| row.applies(span, self.step))
    }

    /// Where `spans` break the conventions: each attribute of the table has the
    /// conventions' type and, if it must be there, is; none is there twice or where
    /// it must not be, and no old name stands in place of the new one.
    ///
    /// Up to step 03 the SERVER span is the contrib layer's, whose gaps the reader
    /// can't mend: its rows start with step 04.
    pub fn violations<'a>(&self, spans: &'a [Span]) -> Vec<Violation<'a>> {
        spans
            .iter()
            .flat_map(|span| self.violations_of(span))
            .collect()
    }

    fn violations_of<'a>(&self, span: &'a Span) -> Vec<Violation<'a>> {
        let mut found = Vec::new();
        let mut push = |attribute: &str, breach| {
            found.push(Violation {
                span,
                attribute: attribute.to_owned(),
                breach,
            });
        };
        let mut replaced = Vec::new();
        for (old, new) in RENAMED {
            if span.attribute(old).is_some() && !new.iter().any(|key| span.attribute(key).is_some())
            {
                replaced.extend_from_slice(new);
                push(new[0], Breach::Old(old));
            }
        }
        let mut keys: Vec<&str> = span.attributes.iter().map(|a| a.key.as_str()).collect();
        keys.sort_unstable();
        for group in keys.chunk_by(|a, b| a == b).filter(|group| group.len() > 1) {
            push(group[0], Breach::Repeated(group.len()));
        }
        let span_type = SpanType::of(span);
        for row in TABLE.iter().filter(|row| row.span == span_type) {
            let value = span.attribute(row.attribute);
            // A wrong type is wrong in each step; what must be there is asked for later.
            if let Some(value) = value.filter(|value| !row.value.fits(value)) {
                push(row.attribute, Breach::Type(row.value, value.type_name()));
                continue;
            }
            if !row.applies(span, self.step) {
                continue;
            }
            match value {
                Some(_) if row.forbids(span) => push(row.attribute, Breach::Forbidden),
                Some(Value::Str(text)) if text.is_empty() && row.level == Level::Required => {
                    push(row.attribute, Breach::Empty);
                }
                Some(_) => {}
                None if row.asks(span) && !replaced.contains(&row.attribute) => {
                    push(row.attribute, Breach::Missing);
                }
                None => {}
            }
        }
        found
    }
}

/// How a span breaks the conventions.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation<'a> {
    /// The span.
    pub span: &'a Span,
    /// The attribute, by its present name.
    pub attribute: String,
    /// What is wrong with it.
    pub breach: Breach,
}

/// What is wrong with an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breach {
    /// It must be there and isn't.
    Missing,
    /// It must not be there and is.
    Forbidden,
    /// It is there, but empty.
    Empty,
    /// It has this type in the conventions, and that on the span.
    Type(ValueType, String),
    /// Only its old name is there.
    Old(&'static str),
    /// It is there so many times.
    Repeated(usize),
}

impl Contract for StepContract {
    fn keep(&self, span: &Span, key: &str) -> Keep {
        self.rows(span)
            .find(|row| row.attribute == key)
            .map_or(Keep::Drop, |row| row.keep)
    }

    fn keep_event(&self, span: &Span, event: &Event) -> bool {
        (is_around(span.service()) && span.service() != self.subject)
            || EVENTS
                .iter()
                .any(|(name, from)| *name == event.name && *from <= self.step)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use otlp::{KeyValue, Resource, Status};

    use super::*;

    /// A span with all that the table requires of it without condition.
    fn span(kind: SpanKind, span_type: SpanType, failed: bool) -> Span {
        let code = if failed {
            StatusCode::Error
        } else {
            StatusCode::Unset
        };
        let service = KeyValue::new(semconv::SERVICE_NAME, "tier1-service");
        let mut span = Span {
            kind,
            status: Status {
                code,
                ..Status::default()
            },
            resource: Arc::new(Resource {
                attributes: vec![service],
                ..Resource::default()
            }),
            ..Span::default()
        };
        for row in TABLE.iter().filter(|row| row.span == span_type) {
            if matches!(
                row.level,
                Level::Required | Level::ConditionallyRequired(Always)
            ) {
                let value = match row.value {
                    ValueType::Int => Value::Int(1),
                    _ => Value::from("x"),
                };
                span.attributes.push(KeyValue::new(row.attribute, value));
            }
        }
        span
    }

    fn breaches(step: u8, span: &Span) -> Vec<(String, Breach)> {
        let violations = StepContract::new(step).violations(std::slice::from_ref(span));
        let violations = violations.into_iter();
        violations.map(|v| (v.attribute, v.breach)).collect()
    }

    fn with(mut span: Span, key: &str, value: impl Into<Value>) -> Span {
        span.attributes.push(KeyValue::new(key, value));
        span
    }

    fn missing(key: &str) -> Vec<(String, Breach)> {
        vec![(key.to_owned(), Breach::Missing)]
    }

    #[test]
    fn each_attribute_has_one_row_for_each_type_of_span() {
        for (at, row) in TABLE.iter().enumerate() {
            let again = TABLE[at + 1..]
                .iter()
                .any(|other| other.span == row.span && other.attribute == row.attribute);
            assert!(!again, "{row:?}");
            assert!(
                RENAMED.iter().all(|(old, _)| *old != row.attribute),
                "{row:?}"
            );
        }
    }

    #[test]
    fn conditions_hold_as_the_conventions_say() {
        use SpanKind::{Client, Producer, Server};
        let status = semconv::HTTP_RESPONSE_STATUS_CODE;
        let server = |failed| span(Server, HttpServer, failed);
        assert_eq!(breaches(4, &server(false)), missing(status));
        let answered = with(server(false), status, 200_i64);
        assert_eq!(breaches(4, &answered), []);
        let forbidden = (semconv::ERROR_TYPE.to_owned(), Breach::Forbidden);
        let lies = with(answered.clone(), semconv::ERROR_TYPE, "500");
        assert_eq!(breaches(4, &lies), [forbidden]);
        // Before step 04 another one's layer makes the span.
        assert_eq!(breaches(3, &lies), []);
        assert_eq!(breaches(4, &server(true)), missing(semconv::ERROR_TYPE));
        let cut = with(server(true), semconv::ERROR_TYPE, "cancelled");
        assert_eq!(breaches(4, &cut), []);
        let failed = with(server(true), semconv::ERROR_TYPE, "502");
        assert_eq!(breaches(4, &failed), missing(status));
        let named = with(answered.clone(), semconv::SERVER_ADDRESS, "tier1");
        assert_eq!(breaches(4, &named), missing(semconv::SERVER_PORT));

        let client = |failed| span(Client, HttpClient, failed);
        // Cancelled on purpose: neither a status code nor an error.
        assert_eq!(breaches(5, &client(false)), []);
        let timeout = with(client(true), semconv::ERROR_TYPE, "timeout");
        assert_eq!(breaches(5, &timeout), []);
        let refused = with(client(true), semconv::ERROR_TYPE, "404");
        assert_eq!(breaches(5, &refused), missing(status));
        let mut other = client(false);
        other
            .attributes
            .retain(|a| a.key != semconv::HTTP_REQUEST_METHOD);
        let other = with(other, semconv::HTTP_REQUEST_METHOD, "_OTHER");
        let original = semconv::HTTP_REQUEST_METHOD_ORIGINAL;
        assert_eq!(breaches(5, &other), missing(original));

        let publish = span(Producer, Publish, false);
        let key = semconv::MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY;
        assert_eq!(breaches(6, &publish), missing(key));
        // Not asked for yet, but no other type in any step.
        assert_eq!(breaches(5, &publish), []);
        let text = with(publish, semconv::SERVER_PORT, "5672");
        let of_type = Breach::Type(Int, "string".to_owned());
        let port = semconv::SERVER_PORT.to_owned();
        assert_eq!(breaches(2, &text), [(port, of_type)]);
    }

    #[test]
    fn an_old_name_stands_for_nothing_and_is_told_once() {
        let mut span = with(
            span(SpanKind::Server, HttpServer, false),
            semconv::HTTP_RESPONSE_STATUS_CODE,
            200_i64,
        );
        for attribute in &mut span.attributes {
            if attribute.key == semconv::URL_PATH {
                attribute.key = "http.target".to_owned();
            }
        }
        let old = (semconv::URL_PATH.to_owned(), Breach::Old("http.target"));
        assert_eq!(breaches(4, &span), [old]);
        assert_eq!(breaches(4, &with(span, semconv::URL_PATH, "/")), []);
    }
}
