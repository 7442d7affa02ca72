//! The span of the query: semantic conventions, "Database client spans" (stable).

use std::future::Future;

use opentelemetry::context::FutureExt;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_semantic_conventions::attribute;

use crate::{QUERY, QUERY_SUMMARY, QueryError};

/// The port that `server.port` leaves out: only another one is worth telling.
const POSTGRES_PORT: u16 = 5432;

/// SQLite has no server, and a database in memory no name.
pub(crate) fn sqlite_attributes() -> Vec<KeyValue> {
    common("sqlite")
}

/// `namespace` is `<database>|<schema>`.
pub(crate) fn postgres_attributes(host: &str, port: u16, namespace: &str) -> Vec<KeyValue> {
    let mut attributes = common("postgresql");
    attributes.push(KeyValue::new(attribute::DB_NAMESPACE, namespace.to_owned()));
    attributes.push(KeyValue::new(attribute::SERVER_ADDRESS, host.to_owned()));
    if port != POSTGRES_PORT {
        attributes.push(KeyValue::new(attribute::SERVER_PORT, i64::from(port)));
    }
    attributes
}

fn common(system: &'static str) -> Vec<KeyValue> {
    vec![
        KeyValue::new(attribute::DB_SYSTEM_NAME, system),
        KeyValue::new(attribute::DB_QUERY_SUMMARY, QUERY_SUMMARY),
        KeyValue::new(attribute::DB_QUERY_TEXT, QUERY),
    ]
}

/// Runs `query` in a CLIENT span under `parent`.
///
/// All attributes are given at the start, where a sampler sees them. The span is
/// the current one while the query runs, so that what the driver logs carries its
/// ids. It ends when this function returns or its future is dropped.
pub(crate) async fn in_span<T, R>(
    tracer: &T,
    parent: &Context,
    attributes: Vec<KeyValue>,
    query: impl Future<Output = Result<R, QueryError>>,
) -> Result<R, QueryError>
where
    T: Tracer,
    T::Span: Send + Sync + 'static,
{
    let span = tracer
        .span_builder(QUERY_SUMMARY)
        .with_kind(SpanKind::Client)
        .with_attributes(attributes)
        .start_with_context(tracer, parent);
    let context = parent.with_span(span);
    let result = query.with_context(context.clone()).await;

    let span = context.span();
    if let Err(error) = &result {
        if let Some(code) = error.status_code() {
            span.set_attribute(KeyValue::new(
                attribute::DB_RESPONSE_STATUS_CODE,
                code.to_owned(),
            ));
        }
        span.set_attribute(KeyValue::new(
            attribute::ERROR_TYPE,
            error.error_type().to_owned(),
        ));
        span.set_status(Status::error(error.message().to_owned()));
    }
    span.end();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(attributes: &[KeyValue]) -> Vec<&str> {
        attributes.iter().map(|kv| kv.key.as_str()).collect()
    }

    #[test]
    fn postgres_says_where_it_is_but_not_its_default_port() {
        let attributes = postgres_attributes("db", 5432, "app|public");
        assert_eq!(
            keys(&attributes),
            [
                "db.system.name",
                "db.query.summary",
                "db.query.text",
                "db.namespace",
                "server.address"
            ]
        );
        let elsewhere = postgres_attributes("db", 6432, "app|public");
        assert!(elsewhere.contains(&KeyValue::new(attribute::SERVER_PORT, 6432_i64)));
    }

    #[test]
    fn sqlite_has_no_server() {
        assert_eq!(
            keys(&sqlite_attributes()),
            ["db.system.name", "db.query.summary", "db.query.text"]
        );
    }
}
