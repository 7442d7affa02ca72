//! The same table and query on PostgreSQL, in a container of this test's own.

mod common;

use common::{parent, tracer};
use containers::{Postgres, trials};
use members::{Error, Members};
use opentelemetry::trace::{SpanId, SpanKind, Status, TraceFlags, TraceId};
use opentelemetry::{Context, KeyValue};
use tokio::runtime::Runtime;

fn main() -> std::process::ExitCode {
    trials::run(&[("postgresql_answers_the_same", postgresql_answers_the_same)])
}

fn postgresql_answers_the_same() {
    let postgres = Postgres::start_new().expect("PostgreSQL starts");
    let runtime = Runtime::new().expect("threads can be started");
    let members = runtime.block_on(it_answers(&postgres));
    postgres
        .execute("DROP TABLE members")
        .expect("the table is there");
    runtime.block_on(its_code_is_the_error_type(&members));
    runtime.block_on(a_wrong_password_is_one_line_without_it(&postgres));
}

async fn it_answers(postgres: &Postgres) -> Members {
    let url = postgres.url();
    // Both make the table and fill it, and it is filled once.
    let (one, two) = tokio::join!(Members::connect(&url), Members::connect(&url));
    let (one, two) = (one.expect("connects"), two.expect("connects"));
    let sqlite = Members::connect("sqlite::memory:").await.expect("connects");
    let expected = sqlite.query().await.expect("answers");

    let (tracer, collected) = tracer();
    let rows = one
        .all(&tracer, &parent(TraceFlags::SAMPLED))
        .await
        .expect("answers");
    assert_eq!(rows, expected);
    assert_eq!(two.query().await.expect("answers"), expected);

    let spans = collected.spans();
    let [span] = spans.as_slice() else {
        panic!("one span, got {spans:?}");
    };
    assert_eq!(span.name, "SELECT members");
    assert_eq!(span.span_kind, SpanKind::Client);
    assert_eq!(span.status, Status::Unset);
    assert_eq!(span.span_context.trace_id(), TraceId::from(7));
    assert_eq!(span.parent_span_id, SpanId::from(8));
    assert_eq!(
        span.attributes,
        [
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("db.query.summary", "SELECT members"),
            KeyValue::new("db.query.text", "SELECT id, name, joined FROM members"),
            KeyValue::new("db.namespace", "workbook|public"),
            KeyValue::new("server.address", "127.0.0.1"),
            KeyValue::new("server.port", i64::from(postgres.address().port())),
        ]
    );
    one
}

/// SQLSTATE 42P01, "undefined_table" (PostgreSQL's documentation, appendix A).
async fn its_code_is_the_error_type(members: &Members) {
    let (tracer, collected) = tracer();
    let error = members
        .all(&tracer, &Context::new())
        .await
        .expect_err("the table is gone");
    assert_eq!(error.status_code(), Some("42P01"), "{error}");
    assert_eq!(error.error_type(), "42P01");

    let spans = collected.spans();
    let span = spans.first().expect("a failed query has a span, too");
    assert_eq!(span.status, Status::error(error.message().to_owned()));
    for attribute in [
        KeyValue::new("db.response.status_code", "42P01"),
        KeyValue::new("error.type", "42P01"),
    ] {
        assert!(span.attributes.contains(&attribute), "{span:?}");
    }
}

async fn a_wrong_password_is_one_line_without_it(postgres: &Postgres) {
    let url = format!("postgres://workbook:s3cret@{}/workbook", postgres.address());
    let error = Members::connect(&url).await.expect_err("it is refused");
    assert!(matches!(error, Error::Connect(_)), "{error:?}");
    let told = error.to_string();
    assert!(told.starts_with("DATABASE_URL"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(!told.contains("s3cret"), "{told}");
}
