//! The table and the query's span, through the public API and a real provider.

mod common;

use std::path::PathBuf;

use common::{parent, tracer};
use members::{Error, Members};
use opentelemetry::trace::{SpanId, SpanKind, Status, TraceFlags, TraceId};
use opentelemetry::{Context, KeyValue};
use sqlx::{Connection, SqliteConnection};

/// A database file of this test's own, removed at the end.
struct File(PathBuf);

impl File {
    fn new(test: &str) -> Self {
        let name = format!("members-{test}-{}.sqlite", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        Self(path)
    }

    fn url(&self) -> String {
        format!("sqlite://{}", self.0.display())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn the_query_is_a_client_span_under_its_parent() {
    let members = Members::connect("sqlite::memory:").await.expect("connects");
    let (tracer, collected) = tracer();

    let rows = members
        .all(&tracer, &parent(TraceFlags::SAMPLED))
        .await
        .expect("answers");
    assert!(rows.iter().any(|member| member.name == "Ada"), "{rows:?}");

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
            KeyValue::new("db.system.name", "sqlite"),
            KeyValue::new("db.query.summary", "SELECT members"),
            KeyValue::new("db.query.text", "SELECT id, name, joined FROM members"),
        ]
    );
    assert!(span.events.is_empty() && span.links.is_empty());
}

#[tokio::test]
async fn an_unsampled_parent_makes_no_span() {
    let members = Members::connect("sqlite::memory:").await.expect("connects");
    let (tracer, collected) = tracer();
    members
        .all(&tracer, &parent(TraceFlags::default()))
        .await
        .expect("answers");
    assert!(collected.spans().is_empty());
}

#[tokio::test]
async fn the_databases_own_code_is_the_error_type() {
    let file = File::new("code");
    let members = Members::connect(&file.url()).await.expect("connects");
    let mut other = SqliteConnection::connect(&file.url())
        .await
        .expect("the file is there");
    sqlx::query("DROP TABLE members")
        .execute(&mut other)
        .await
        .expect("the table is there");
    let (tracer, collected) = tracer();

    let error = members
        .all(&tracer, &Context::new())
        .await
        .expect_err("the table is gone");
    assert_eq!(error.status_code(), Some("1"), "{error}");
    assert_eq!(error.error_type(), "1");

    let spans = collected.spans();
    let span = spans.first().expect("a failed query has a span, too");
    assert_eq!(span.parent_span_id, SpanId::INVALID);
    assert_eq!(span.status, Status::error(error.message().to_owned()));
    for attribute in [
        KeyValue::new("db.response.status_code", "1"),
        KeyValue::new("error.type", "1"),
    ] {
        assert!(span.attributes.contains(&attribute), "{span:?}");
    }
}

#[tokio::test]
async fn a_closed_pool_is_an_error_without_a_code() {
    let members = Members::connect("sqlite::memory:").await.expect("connects");
    let (tracer, collected) = tracer();
    members.clone().close().await;
    let error = members
        .all(&tracer, &Context::new())
        .await
        .expect_err("closed");
    assert_eq!(error.error_type(), "pool_closed");

    let spans = collected.spans();
    let span = spans.first().expect("a span");
    let keys: Vec<_> = span.attributes.iter().map(|kv| kv.key.as_str()).collect();
    assert!(keys.contains(&"error.type"), "{keys:?}");
    assert!(!keys.contains(&"db.response.status_code"), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_in_memory_keeps_its_rows_whoever_asks() {
    let members = Members::connect("sqlite::memory:").await.expect("connects");
    let expected = members.query().await.expect("answers");
    assert!(!expected.is_empty());
    let asks: Vec<_> = (0..32)
        .map(|_| {
            let members = members.clone();
            tokio::spawn(async move { members.query().await })
        })
        .collect();
    for ask in asks {
        let rows = ask.await.expect("no panic").expect("answers");
        assert_eq!(rows, expected);
    }
}

#[tokio::test]
async fn two_databases_in_memory_are_two() {
    let one = Members::connect("sqlite::memory:").await.expect("connects");
    let two = Members::connect("sqlite::memory:").await.expect("connects");
    one.close().await;
    assert!(two.query().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_start_at_once_fill_the_table_once() {
    let file = File::new("at-once");
    let url = file.url();
    let (one, two) = tokio::join!(Members::connect(&url), Members::connect(&url));
    let (one, two) = (one.expect("connects"), two.expect("connects"));
    let rows = one.query().await.expect("answers");
    assert_eq!(rows.len(), 4);
    assert_eq!(two.query().await.expect("answers"), rows);

    let third = Members::connect(&url).await.expect("connects");
    assert_eq!(third.query().await.expect("answers"), rows);
}

#[tokio::test]
async fn a_bad_url_is_one_line_without_the_password() {
    for url in [
        "",
        "members",
        "mysql://app:s3cret@host/app",
        "postgres://app:s3cret@host:notaport/app",
        "postgres://app:s3cret@host/app?sslmode=s3cret",
        "sqlite://file?mode=s3cret",
    ] {
        let error = Members::connect(url).await.expect_err(url);
        assert!(matches!(error, Error::Url), "{url}: {error:?}");
        assert_one_line(&error);
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_one_line_without_the_password() {
    // A port that was free a moment ago: nobody answers there.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port();
    let url = format!("postgres://app:s3cret@127.0.0.1:{port}/app");
    let error = Members::connect(&url).await.expect_err("nobody is there");
    assert!(matches!(error, Error::Connect(_)), "{error:?}");
    assert_one_line(&error);
}

fn assert_one_line(error: &Error) {
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains("s3cret"), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }
    assert!(error.to_string().starts_with("DATABASE_URL: "), "{error}");
}
