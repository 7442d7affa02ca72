//! The consumer on PostgreSQL, in a container of this test's own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker::Broker;
use consumer::{Config, Consumer, QUEUE, Telemetry};
use containers::{Postgres, trials};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tokio::runtime::Runtime;

const DEADLINE: Duration = Duration::from_secs(30);

fn main() -> std::process::ExitCode {
    trials::run(&[("it_looks_up_in_postgresql", it_looks_up_in_postgresql)])
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
    fn take(&self) -> Vec<SpanData> {
        std::mem::take(&mut *self.0.lock().expect("no test panics in it"))
    }
}

async fn publish(broker: &Broker) {
    let connection = Connection::connect(&broker.uri(), ConnectionProperties::default())
        .await
        .expect("connects");
    let channel = connection.create_channel().await.expect("a channel");
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .expect("confirms");
    channel
        .basic_publish(
            "".into(),
            QUEUE.into(),
            BasicPublishOptions::default(),
            b"fast 1732537000.25",
            BasicProperties::default().with_delivery_mode(2),
        )
        .await
        .expect("is sent")
        .await
        .expect("is confirmed");
}

fn it_looks_up_in_postgresql() {
    let postgres = Postgres::start_new().expect("PostgreSQL starts");
    let runtime = Runtime::new().expect("threads can be started");
    let collected = Collected::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(collected.clone())
        .build();
    let (broker, consumer) = runtime.block_on(async {
        let broker = Broker::start(broker::Config::default())
            .await
            .expect("a free port");
        let config = Config {
            amqp_url: broker.uri(),
            database_url: postgres.url(),
            ..Config::default()
        };
        let consumer = Consumer::start(config, Telemetry::new(provider))
            .await
            .expect("it starts");
        consumer.ready(DEADLINE).await.expect("it consumes");
        (broker, consumer)
    });

    runtime.block_on(async {
        publish(&broker).await;
        let processed = consumer.wait_until(|processed| processed.settled() == 1, DEADLINE);
        assert_eq!(processed.await.expect("settles").acked, 1);
        let spans = collected.take();
        let [query, process] = spans.as_slice() else {
            panic!("two spans, got {spans:#?}");
        };
        assert_eq!(process.span_kind, SpanKind::Consumer);
        assert_eq!(process.status, Status::Unset);
        assert_eq!(query.name, "SELECT members");
        assert_eq!(query.parent_span_id, process.span_context.span_id());
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
        publish(&broker).await;
        let processed = consumer.wait_until(|processed| processed.requeued >= 1, DEADLINE);
        processed.await.expect("it is put back");
        consumer.stop().await;
        let spans = collected.take();
        let query = spans.first().expect("the query ends first");
        assert!(matches!(query.status, Status::Error { .. }), "{query:#?}");
        for key in ["error.type", "db.response.status_code"] {
            let found = query.attributes.iter().find(|kv| kv.key.as_str() == key);
            let expected = Value::from("42P01");
            assert_eq!(found.map(|kv| &kv.value), Some(&expected), "{key}");
        }
    });
}
