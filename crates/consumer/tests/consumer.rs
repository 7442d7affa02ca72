//! The consumer against a broker in this process, and the spans it makes, through a real provider.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use broker::Broker;
use consumer::{Config, Consumer, Error, Processed, QUEUE, Telemetry};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use members::Members;
use opentelemetry::Value;
use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

const DEADLINE: Duration = Duration::from_secs(30);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

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
    fn spans(&self) -> Vec<SpanData> {
        self.0.lock().expect("no test panics in it").clone()
    }

    /// The spans of that kind, in the order they ended.
    fn of_kind(&self, kind: &SpanKind) -> Vec<SpanData> {
        let mut spans = self.spans();
        spans.retain(|span| span.span_kind == *kind);
        spans
    }

    /// The one `process` span.
    fn process(&self) -> SpanData {
        let mut spans = self.of_kind(&SpanKind::Consumer);
        assert_eq!(spans.len(), 1, "{spans:#?}");
        spans.remove(0)
    }
}

fn telemetry() -> (Telemetry, Collected) {
    let collected = Collected::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(collected.clone())
        .build();
    (Telemetry::new(provider), collected)
}

async fn broker() -> Broker {
    Broker::start(broker::Config::default())
        .await
        .expect("a free port")
}

fn config(amqp_url: String) -> Config {
    Config {
        amqp_url,
        ..Config::default()
    }
}

async fn start(broker: &Broker) -> (Consumer, Collected) {
    let (telemetry, collected) = telemetry();
    let consumer = Consumer::start(config(broker.uri()), telemetry)
        .await
        .expect("starts");
    consumer.ready(DEADLINE).await.expect("consumes");
    (consumer, collected)
}

/// A publisher as tier1 is one. The connection is kept: dropping it closes the channel.
struct Publisher {
    _connection: Connection,
    channel: Channel,
}

impl Publisher {
    async fn connect(broker: &Broker) -> Self {
        let connection = Connection::connect(&broker.uri(), ConnectionProperties::default())
            .await
            .expect("connects");
        let channel = connection.create_channel().await.expect("a channel");
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .expect("confirms");
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(QUEUE.into(), durable, FieldTable::default())
            .await
            .expect("the same arguments as the consumer's");
        Self {
            _connection: connection,
            channel,
        }
    }

    async fn publish(&self, body: &[u8], properties: BasicProperties) {
        self.channel
            .basic_publish(
                ShortString::default(),
                QUEUE.into(),
                BasicPublishOptions::default(),
                body,
                properties.with_delivery_mode(2),
            )
            .await
            .expect("is sent")
            .await
            .expect("is confirmed");
    }

    async fn signup(&self) {
        self.publish(b"fast 1732537000.25", BasicProperties::default())
            .await;
    }
}

/// A network between the consumer and the broker that can be cut.
struct Wire {
    addr: SocketAddr,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Wire {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let connections = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let task = tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(to).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
                list.lock()
                    .expect("no test panics in it")
                    .push(task.abort_handle());
            }
        });
        Self { addr, connections }
    }

    /// Ends all connections without a word of AMQP.
    fn cut(&self) {
        for connection in self
            .connections
            .lock()
            .expect("no test panics in it")
            .drain(..)
        {
            connection.abort();
        }
    }
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

fn with_traceparent(value: AMQPValue) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), value);
    BasicProperties::default().with_headers(headers)
}

fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
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

async fn settled(consumer: &Consumer, count: u64) -> Processed {
    consumer
        .wait_until(|processed| processed.settled() >= count, DEADLINE)
        .await
        .expect("settles")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_acked_and_makes_two_spans_in_the_publishers_trace() {
    let broker = broker().await;
    let (consumer, collected) = start(&broker).await;
    let publisher = Publisher::connect(&broker).await;
    let properties = with_traceparent(long(&traceparent("01")))
        .with_message_id("m-1".into())
        .with_correlation_id("c-1".into());
    publisher.publish(b"slow 1732537000.25", properties).await;

    let processed = settled(&consumer, 1).await;
    assert_eq!((processed.received, processed.acked), (1, 1));
    broker
        .wait_for_queue("/", QUEUE, DEADLINE, |queue| {
            queue.acked == 1 && queue.ready == 0 && queue.unacked == 0
        })
        .await
        .expect("the broker has the ack");

    let process = collected.process();
    assert_eq!(process.name, "process signups");
    assert_eq!(process.status, Status::Unset);
    assert_eq!(process.span_context.trace_id().to_string(), TRACE);
    assert_eq!(process.parent_span_id.to_string(), PARENT);
    assert!(process.parent_span_is_remote);
    let links: Vec<_> = process.links.iter().collect();
    let [link] = links.as_slice() else {
        panic!("one link, got {links:?}");
    };
    assert_eq!(link.span_context.trace_id().to_string(), TRACE);
    assert_eq!(link.span_context.span_id().to_string(), PARENT);
    let port = i64::from(broker.addr().port());
    for (key, expected) in [
        ("messaging.system", string("rabbitmq")),
        ("messaging.operation.name", string("process")),
        ("messaging.operation.type", string("process")),
        ("messaging.destination.name", string("signups")),
        (
            "messaging.rabbitmq.destination.routing_key",
            string("signups"),
        ),
        (
            "messaging.rabbitmq.message.delivery_tag",
            Some(Value::I64(1)),
        ),
        ("messaging.message.id", string("m-1")),
        ("messaging.message.conversation_id", string("c-1")),
        ("server.address", string("127.0.0.1")),
        ("server.port", Some(Value::I64(port))),
        ("error.type", None),
    ] {
        assert_eq!(attribute(&process, key), expected.as_ref(), "{key}");
    }

    let queries = collected.of_kind(&SpanKind::Client);
    let [query] = queries.as_slice() else {
        panic!("one query, got {queries:#?}");
    };
    assert_eq!(query.name, "SELECT members");
    assert_eq!(query.parent_span_id, process.span_context.span_id());
    assert_eq!(query.span_context.trace_id().to_string(), TRACE);
    assert!(query.end_time <= process.end_time);
    assert_eq!(query.instrumentation_scope.name(), "consumer");
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_is_read_in_whatever_form_it_has() {
    let broker = broker().await;
    let (consumer, collected) = start(&broker).await;
    let publisher = Publisher::connect(&broker).await;
    // A short string is no value that RabbitMQ takes, so it is left to the unit test.
    let text = traceparent("01");
    for value in [long(&text), AMQPValue::ByteArray(text.as_bytes().into())] {
        publisher
            .publish(b"fast 1.0", with_traceparent(value))
            .await;
    }
    settled(&consumer, 2).await;
    let spans = collected.of_kind(&SpanKind::Consumer);
    assert_eq!(spans.len(), 2);
    for span in spans {
        assert_eq!(span.parent_span_id.to_string(), PARENT);
    }
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_missing_or_invalid_makes_a_root() {
    let broker = broker().await;
    let (consumer, collected) = start(&broker).await;
    let publisher = Publisher::connect(&broker).await;
    let mut uppercase_key = FieldTable::default();
    uppercase_key.insert("Traceparent".into(), long(&traceparent("01")));
    let cases = [
        BasicProperties::default(),
        with_traceparent(long("garbage")),
        with_traceparent(long(&format!("00-42-{PARENT}-01"))),
        with_traceparent(AMQPValue::LongInt(1)),
        with_traceparent(AMQPValue::ByteArray(b"\xff\xfe".as_slice().into())),
        BasicProperties::default().with_headers(uppercase_key),
    ];
    let count = cases.len();
    for properties in cases {
        publisher.publish(b"fast 1.0", properties).await;
    }
    let processed = settled(&consumer, count as u64).await;
    assert_eq!(processed.acked, count as u64);
    let spans = collected.of_kind(&SpanKind::Consumer);
    assert_eq!(spans.len(), count);
    for span in spans {
        assert_eq!(span.parent_span_id, SpanId::INVALID);
        assert_ne!(span.span_context.trace_id().to_string(), TRACE);
        assert_eq!(span.links.iter().count(), 0);
    }
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsampled_publisher_is_followed() {
    let broker = broker().await;
    let (consumer, collected) = start(&broker).await;
    let publisher = Publisher::connect(&broker).await;
    publisher
        .publish(b"fast 1.0", with_traceparent(long(&traceparent("00"))))
        .await;
    assert_eq!(settled(&consumer, 1).await.acked, 1);
    assert!(collected.spans().is_empty());
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_message_is_rejected_once_and_an_error() {
    let broker = broker().await;
    let (consumer, collected) = start(&broker).await;
    let publisher = Publisher::connect(&broker).await;
    let poison: [&[u8]; 4] = [b"", b"garbage", b"fast yesterday", b"\xff 1.0"];
    for body in poison {
        publisher.publish(body, BasicProperties::default()).await;
    }
    // The good one behind them shows that they are out of the way.
    publisher.signup().await;
    let processed = settled(&consumer, 5).await;
    assert_eq!((processed.received, processed.rejected), (5, 4));
    assert_eq!((processed.acked, processed.requeued), (1, 0));
    broker
        .wait_for_queue("/", QUEUE, DEADLINE, |queue| {
            queue.rejected == 4 && queue.requeued == 0 && queue.ready + queue.unacked == 0
        })
        .await
        .expect("nothing comes back");

    let spans = collected.of_kind(&SpanKind::Consumer);
    assert_eq!(spans.len(), 5);
    let (good, poisoned) = spans.split_last().expect("five spans");
    assert_eq!(good.status, Status::Unset);
    for span in poisoned {
        assert!(matches!(span.status, Status::Error { .. }), "{span:?}");
        let error_type = attribute(span, "error.type");
        assert_eq!(error_type, string("malformed").as_ref());
    }
    assert_eq!(collected.of_kind(&SpanKind::Client).len(), 1);
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_query_puts_the_message_back_and_waits_longer_each_time() {
    let broker = broker().await;
    let members = Members::connect(members::DEFAULT_URL)
        .await
        .expect("connects");
    let (telemetry, collected) = telemetry();
    let consumer = Consumer::start_with(config(broker.uri()), members.clone(), telemetry)
        .expect("a valid configuration");
    consumer.ready(DEADLINE).await.expect("consumes");
    members.close().await;

    let begin = Instant::now();
    Publisher::connect(&broker).await.signup().await;
    let processed = consumer
        .wait_until(|processed| processed.requeued == 4, DEADLINE)
        .await
        .expect("tries again");
    // 100, 200 and 400 ms lie between the four: at least that, however busy the machine.
    assert!(begin.elapsed() >= Duration::from_millis(700));
    assert_eq!((processed.acked, processed.rejected), (0, 0));
    consumer.stop().await;

    let spans = collected.of_kind(&SpanKind::Consumer);
    let first = spans.first().expect("a span");
    assert!(matches!(first.status, Status::Error { .. }), "{first:?}");
    let error_type = attribute(first, "error.type");
    assert_eq!(error_type, string("pool_closed").as_ref());

    // The message is still there for a consumer whose database answers.
    let (healthy, _) = start(&broker).await;
    assert_eq!(settled(&healthy, 1).await.acked, 1);
    healthy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_comes_back_when_the_broker_closes_the_connection() {
    let broker = broker().await;
    let (consumer, _) = start(&broker).await;
    for round in 1..=3 {
        Publisher::connect(&broker).await.signup().await;
        settled(&consumer, round).await;
        broker.close_connections(320, "CONNECTION_FORCED");
    }
    consumer.ready(DEADLINE).await.expect("consumes again");
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_network_cuts_the_connection_again_and_again() {
    let broker = broker().await;
    let publisher = Publisher::connect(&broker).await;
    let wire = Wire::start(broker.addr()).await;
    let uri = format!("amqp://guest:guest@{}/%2f", wire.addr);
    let (telemetry, _) = telemetry();
    let consumer = Consumer::start(config(uri), telemetry)
        .await
        .expect("starts");
    for _ in 0..10 {
        consumer.ready(DEADLINE).await.expect("consumes again");
        let before = consumer.processed().received;
        for _ in 0..20 {
            publisher.signup().await;
        }
        // In the middle of the work: some messages are in hand, some are on the wire.
        consumer
            .wait_until(|processed| processed.received > before + 5, DEADLINE)
            .await
            .expect("receives");
        wire.cut();
    }
    broker
        .wait_for_queue("/", QUEUE, DEADLINE, |queue| {
            queue.acked == 200 && queue.ready + queue.unacked == 0
        })
        .await
        .expect("every message is acked in the end");
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_a_broker_that_is_not_there_and_can_be_stopped() {
    let broker = broker().await;
    let uri = broker.uri();
    broker.stop().await;
    let consumer = Consumer::start(config(uri), Telemetry::disabled())
        .await
        .expect("starts without a broker");
    let not_ready = consumer.ready(Duration::from_millis(300)).await;
    assert!(matches!(not_ready, Err(Error::NotReady(_))));
    let stopped = tokio::time::timeout(DEADLINE, consumer.stop());
    stopped.await.expect("a stop does not wait for a broker");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_settles_what_is_in_hand_and_leaves_the_rest() {
    let broker = broker().await;
    let publisher = Publisher::connect(&broker).await;
    let count = 200;
    for _ in 0..count {
        publisher.signup().await;
    }
    let (consumer, collected) = start(&broker).await;
    settled(&consumer, 5).await;
    let counts = {
        consumer.stop().await;
        collected.of_kind(&SpanKind::Consumer)
    };
    let queue = broker
        .wait_for_queue("/", QUEUE, DEADLINE, |queue| {
            queue.unacked == 0 && queue.consumers == 0
        })
        .await
        .expect("the broker took the rest back");
    // Nothing lost and nothing left half done: each message is either acked, with one
    // span without an error, or in the queue.
    assert_eq!(queue.acked + queue.ready, count);
    assert_eq!(queue.acked, counts.len() as u64);
    for span in counts {
        assert_eq!(span.status, Status::Unset);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settling_waits_until_nothing_is_left() {
    let broker = broker().await;
    let publisher = Publisher::connect(&broker).await;
    for _ in 0..50 {
        publisher.signup().await;
    }
    let (consumer, collected) = start(&broker).await;
    consumer.settle(DEADLINE).await.expect("settles");
    let processed = consumer.processed();
    assert_eq!((processed.received, processed.acked), (50, 50));
    assert_eq!(collected.of_kind(&SpanKind::Consumer).len(), 50);
    // And once more, now that there is nothing to wait for.
    consumer.settle(DEADLINE).await.expect("settles");

    broker.stop().await;
    let lost = consumer.settle(Duration::from_millis(300)).await;
    assert!(matches!(lost, Err(Error::NotSettled(_))), "{lost:?}");
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_has_a_deadline() {
    let broker = broker().await;
    let (consumer, _) = start(&broker).await;
    let counts = consumer
        .wait_until(|processed| processed.acked > 0, Duration::from_millis(50))
        .await;
    assert_eq!(counts, Err(Processed::default()));
    consumer.stop().await;
}

#[tokio::test]
async fn a_bad_configuration_is_named_without_secrets() {
    let bad_broker = config("http://guest:s3cret@host/".to_owned());
    let bad_database = Config {
        database_url: "mysql://app:s3cret@host/app".to_owned(),
        ..Config::default()
    };
    for (config, name) in [(bad_broker, "AMQP_URL: "), (bad_database, "DATABASE_URL: ")] {
        let error = Consumer::start(config, Telemetry::disabled())
            .await
            .expect_err(name)
            .to_string();
        assert!(error.starts_with(name), "{error}");
        assert!(
            !error.contains("s3cret") && !error.contains('\n'),
            "{error}"
        );
    }
}
