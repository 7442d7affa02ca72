//! tier2 on PostgreSQL, in a container of this test's own.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use containers::{Postgres, trials};
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tier2::{Config, Telemetry, Tier2};
use tokio::runtime::Runtime;

const DEADLINE: Duration = Duration::from_secs(20);

fn main() -> std::process::ExitCode {
    trials::run(&[("it_answers_from_postgresql", it_answers_from_postgresql)])
}

/// Keeps the spans that have ended, in that order.
#[derive(Debug, Clone, Default)]
struct Collected(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Collected {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().expect("no test panics in it").extend(batch);
        Ok(())
    }
}

impl Collected {
    /// The query's span and the request's, which ends a moment after its answer came.
    async fn take_two(&self) -> [SpanData; 2] {
        let began = Instant::now();
        loop {
            let mut spans = self.0.lock().expect("no test panics in it");
            if spans.len() == 2 {
                let spans = std::mem::take(&mut *spans);
                return spans.try_into().expect("it is two");
            }
            assert!(began.elapsed() < DEADLINE, "{spans:#?}");
            drop(spans);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The status and the body of `GET /`.
async fn get(tier2: &Tier2) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build();
    let url = format!("http://{}/", tier2.addr());
    let response = client.expect("a client").get(url).send().await;
    let response = response.expect("it answers");
    let status = response.status().as_u16();
    (status, response.text().await.expect("text"))
}

fn it_answers_from_postgresql() {
    let postgres = Postgres::start_new().expect("PostgreSQL starts");
    let runtime = Runtime::new().expect("threads can be started");
    let collected = Collected::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(collected.clone())
        .build();
    let config = Config {
        database_url: postgres.url(),
        ..Config::default()
    };
    let tier2 = runtime
        .block_on(Tier2::start(config, Telemetry::new(provider)))
        .expect("it starts");

    runtime.block_on(async {
        let (status, body) = get(&tier2).await;
        assert_eq!(status, 200, "{body}");
        let [query, root] = collected.take_two().await;
        assert_eq!(root.span_kind, SpanKind::Server);
        assert_eq!(root.status, Status::Unset);
        assert_eq!(query.parent_span_id, root.span_context.span_id());
        assert_eq!(query.span_kind, SpanKind::Client);
        assert_eq!(query.name, "SELECT members");
        assert_eq!(query.status, Status::Unset);
        for expected in [
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("db.namespace", "workbook|public"),
            KeyValue::new("server.address", "127.0.0.1"),
            KeyValue::new("server.port", i64::from(postgres.address().port())),
        ] {
            assert!(query.attributes.contains(&expected), "{query:#?}");
        }
    });

    postgres
        .execute("DROP TABLE members")
        .expect("the table is there");
    runtime.block_on(async {
        let (status, body) = get(&tier2).await;
        assert_eq!((status, &*body), (500, "Internal Server Error"));
        let [query, root] = collected.take_two().await;
        assert_eq!(root.status, Status::error(""));
        assert!(matches!(query.status, Status::Error { .. }), "{query:#?}");
        for key in ["error.type", "db.response.status_code"] {
            let found = query.attributes.iter().find(|kv| kv.key.as_str() == key);
            let expected = Value::from("42P01");
            assert_eq!(found.map(|kv| &kv.value), Some(&expected), "{key}");
        }
        tier2.stop().await;
    });
}
