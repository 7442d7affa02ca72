//! What a client may rely on, as functions of a broker's URI: they hold for this broker and for RabbitMQ alike.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use lapin::message::{BasicGetMessage, Delivery};
use lapin::options::*;
use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, Error,
    ErrorKind,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take before a test gives up.
const DEADLINE: Duration = Duration::from_secs(60);

// ---- helpers ----

/// Fails the test if `work` takes longer than [`DEADLINE`].
async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen in time"),
    }
}

/// A name that no other test or run uses.
fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let nanos = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    format!("{name}-{}-{nanos}-{count}", std::process::id())
}

async fn connect(uri: &str) -> Connection {
    let connecting = Connection::connect(uri, ConnectionProperties::default());
    soon("connecting", connecting).await.unwrap()
}

async fn channel(uri: &str) -> (Connection, Channel) {
    let connection = connect(uri).await;
    let channel = soon("channel.open", connection.create_channel())
        .await
        .unwrap();
    (connection, channel)
}

/// Declares a queue that ends with the connection.
async fn own_queue(channel: &Channel, name: &str) -> String {
    let name = unique(name);
    declare(channel, &name, QueueDeclareOptions::exclusive())
        .await
        .unwrap();
    name
}

async fn declare(
    channel: &Channel,
    name: &str,
    options: QueueDeclareOptions,
) -> Result<lapin::Queue, Error> {
    let declaring = channel.queue_declare(name.into(), options, FieldTable::default());
    soon("queue.declare", declaring).await
}

/// Waits until so many messages are ready. RabbitMQ's queues answer this question
/// before they handle rejects and ended channels that were there first.
async fn assert_ready(channel: &Channel, name: &str, expected: u32) {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let end = Instant::now() + DEADLINE;
    loop {
        let ready = declare(channel, name, options)
            .await
            .unwrap()
            .message_count();
        if ready == expected {
            return;
        }
        assert!(Instant::now() < end, "{ready} ready, not {expected}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Publishes to the default exchange and waits for the confirm, if there is to be one.
async fn publish(channel: &Channel, queue: &str, body: &str) -> Confirmation {
    publish_with(
        channel,
        queue,
        BasicPublishOptions::default(),
        body.as_bytes(),
        BasicProperties::default(),
    )
    .await
}

async fn publish_with(
    channel: &Channel,
    queue: &str,
    options: BasicPublishOptions,
    body: &[u8],
    properties: BasicProperties,
) -> Confirmation {
    let confirm = channel
        .basic_publish("".into(), queue.into(), options, body, properties)
        .await
        .unwrap();
    soon("the confirm", confirm).await.unwrap()
}

/// The error that answers a message on a channel with confirms.
async fn publish_refusal(
    channel: &Channel,
    exchange: &str,
    routing_key: &str,
    options: BasicPublishOptions,
    properties: BasicProperties,
) -> Refused {
    let publishing = async {
        channel
            .basic_publish(
                exchange.into(),
                routing_key.into(),
                options,
                b"x",
                properties,
            )
            .await?
            .await
    };
    refusal("basic.publish", publishing).await
}

async fn confirms(channel: &Channel) {
    let selecting = channel.confirm_select(ConfirmSelectOptions::default());
    soon("confirm.select", selecting).await.unwrap();
}

async fn consume(channel: &Channel, queue: &str, tag: &str) -> Consumer {
    consume_with(channel, queue, tag, BasicConsumeOptions::default())
        .await
        .unwrap()
}

async fn consume_with(
    channel: &Channel,
    queue: &str,
    tag: &str,
    options: BasicConsumeOptions,
) -> Result<Consumer, Error> {
    let consuming = channel.basic_consume(queue.into(), tag.into(), options, FieldTable::default());
    soon("basic.consume", consuming).await
}

async fn next(consumer: &mut Consumer) -> Delivery {
    soon("a delivery", consumer.next()).await.unwrap().unwrap()
}

async fn get(channel: &Channel, queue: &str) -> Option<BasicGetMessage> {
    let getting = channel.basic_get(queue.into(), BasicGetOptions::default());
    soon("basic.get", getting).await.unwrap()
}

fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.data.clone()).unwrap()
}

async fn ack(delivery: &Delivery) {
    delivery.ack(BasicAckOptions::default()).await.unwrap();
}

async fn prefetch(channel: &Channel, count: u16, global: bool) {
    let setting = channel.basic_qos(count, BasicQosOptions { global });
    soon("basic.qos", setting).await.unwrap();
}

/// The broker's error: its code, its text and whether the connection ended with it.
#[derive(Debug)]
struct Refused {
    code: u16,
    text: String,
    hard: bool,
}

fn refused(error: &Error) -> Refused {
    match error.kind() {
        ErrorKind::ProtocolError(amqp) => Refused {
            code: amqp.get_id(),
            text: amqp.get_message().to_string(),
            hard: error.is_amqp_hard_error(),
        },
        other => panic!("not an error of the broker: {other:?}"),
    }
}

async fn refusal<T>(what: &str, work: impl Future<Output = Result<T, Error>>) -> Refused {
    match soon(what, work).await {
        Ok(_) => panic!("{what} was not refused"),
        Err(error) => refused(&error),
    }
}

/// Asserts that the connection is usable: a channel error must not end it.
async fn assert_alive(connection: &Connection) {
    let opening = connection.create_channel();
    soon("channel.open", opening).await.unwrap();
}

async fn closed(channel: Channel) {
    let closing = channel.close(200, "".into());
    soon("channel.close", closing).await.unwrap();
}

// ---- connecting ----

pub async fn wrong_password_is_403(uri: &str) {
    let (scheme, rest) = uri.split_once("://").unwrap();
    let (_, host) = rest.split_once('@').unwrap();
    let wrong = format!("{scheme}://guest:wrong@{host}");
    let connecting = Connection::connect(&wrong, ConnectionProperties::default());
    let error = refusal("logging in", connecting).await;
    assert_eq!(error.code, 403);
    assert!(
        error
            .text
            .starts_with("ACCESS_REFUSED - Login was refused using authentication mechanism"),
        "{error:?}"
    );
}

pub async fn unknown_vhost_is_530(uri: &str) {
    let (host, _) = uri.rsplit_once('/').unwrap();
    let wrong = format!("{host}/{}", unique("nowhere"));
    let connecting = Connection::connect(&wrong, ConnectionProperties::default());
    let error = refusal("opening the vhost", connecting).await;
    assert_eq!(error.code, 530);
    assert!(error.text.contains("not found"), "{error:?}");
}

pub async fn connections_and_channels_close_in_order(uri: &str) {
    let connection = connect(uri).await;
    let one = connection.create_channel().await.unwrap();
    let two = connection.create_channel().await.unwrap();
    closed(one).await;
    let flow = two.channel_flow(ChannelFlowOptions { active: true });
    assert!(soon("channel.flow", flow).await.unwrap());
    let closing = connection.close(200, "bye".into());
    soon("connection.close", closing).await.unwrap();
}

pub async fn a_channel_error_ends_its_channel_only(uri: &str) {
    let (connection, other) = channel(uri).await;
    confirms(&other).await;
    let name = own_queue(&other, "bystander").await;
    publish(&other, &name, "0").await;
    let missing = unique("missing");
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    for round in 0..20 {
        let failing = connection.create_channel().await.unwrap();
        let mut consumer = consume(&failing, &name, "c").await;
        let delivery = next(&mut consumer).await;
        assert_eq!(body(&delivery), "0");
        assert_eq!(delivery.redelivered, round > 0);
        let error = refusal("passive declare", declare(&failing, &missing, passive)).await;
        assert_eq!((error.code, error.hard), (404, false));
        // Its consumer ends with the same error, and its delivery is ready again.
        let end = soon("the consumer's end", consumer.next()).await.unwrap();
        assert_eq!(refused(&end.unwrap_err()).code, 404);
        assert!(!failing.status().connected());
        assert_ready(&other, &name, 1).await;
    }
    let delivery = get(&other, &name).await.unwrap().delivery;
    assert!(delivery.redelivered);
    ack(&delivery).await;
    publish(&other, &name, "and confirms go on").await;
    soon("connection.close", connection.close(200, "".into()))
        .await
        .unwrap();
}

// ---- queues ----

pub async fn a_missing_queue_is_404(uri: &str) {
    let connection = connect(uri).await;
    let name = unique("missing");
    let expected = format!("NOT_FOUND - no queue '{name}' in vhost '/'");

    let channel = connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let error = refusal("passive declare", declare(&channel, &name, options)).await;
    assert_eq!((error.code, error.hard), (404, false));
    assert_eq!(error.text, expected);

    let channel = connection.create_channel().await.unwrap();
    let consuming = consume_with(&channel, &name, "", BasicConsumeOptions::default());
    assert_eq!(refusal("basic.consume", consuming).await.text, expected);

    let channel = connection.create_channel().await.unwrap();
    let getting = channel.basic_get(name.as_str().into(), BasicGetOptions::default());
    assert_eq!(refusal("basic.get", getting).await.text, expected);

    let channel = connection.create_channel().await.unwrap();
    let purging = channel.queue_purge(name.as_str().into(), QueuePurgeOptions::default());
    assert_eq!(refusal("queue.purge", purging).await.text, expected);

    // Only deleting it is fine.
    let channel = connection.create_channel().await.unwrap();
    let deleting = channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default());
    assert_eq!(soon("queue.delete", deleting).await.unwrap(), 0);
}

pub async fn long_reply_texts_are_cut(uri: &str) {
    let connection = connect(uri).await;
    // "NOT_FOUND - no queue '…' in vhost '/'" has 36 bytes around the name.
    for (length, expected_end) in [
        (219, "' in vhost '/'"),
        (220, "' in vhost..."),
        (255, "q..."),
    ] {
        let channel = connection.create_channel().await.unwrap();
        let name = format!("{:q<length$}", unique("long-"));
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let error = refusal("passive declare", declare(&channel, &name, options)).await;
        assert_eq!((error.code, error.text.len()), (404, 255));
        assert!(error.text.ends_with(expected_end), "{error:?}");
    }
}

pub async fn differing_arguments_are_406(uri: &str) {
    let (connection, channel) = channel(uri).await;
    let name = unique("durable");
    declare(&channel, &name, QueueDeclareOptions::durable())
        .await
        .unwrap();
    // The same again is no error.
    declare(&channel, &name, QueueDeclareOptions::durable())
        .await
        .unwrap();
    let other = declare(&channel, &name, QueueDeclareOptions::default());
    let error = refusal("queue.declare", other).await;
    assert_eq!((error.code, error.hard), (406, false));
    assert_eq!(
        error.text,
        format!(
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{name}' in vhost '/': \
             received 'false' but current is 'true'"
        )
    );
    let channel = connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions::durable().auto_delete();
    let error = refusal("queue.declare", declare(&channel, &name, options)).await;
    assert!(
        error.text.contains("inequivalent arg 'auto_delete'"),
        "{error:?}"
    );
    for (argument, value, told) in [
        (
            "x-message-ttl",
            AMQPValue::LongInt(60_000),
            "the value '60000' of type 'signedint'",
        ),
        (
            "x-max-length",
            AMQPValue::LongLongInt(7),
            "the value '7' of type 'long'",
        ),
        (
            "x-dead-letter-exchange",
            AMQPValue::LongString("dead".into()),
            "the value 'dead' of type 'longstr'",
        ),
        (
            "x-queue-type",
            AMQPValue::LongString("quorum".into()),
            "the value 'quorum' of type 'longstr'",
        ),
    ] {
        let channel = connection.create_channel().await.unwrap();
        let mut arguments = FieldTable::default();
        arguments.insert(argument.into(), value);
        let options = QueueDeclareOptions::durable();
        let other = channel.queue_declare(name.as_str().into(), options, arguments);
        let error = refusal("queue.declare", other).await;
        assert_eq!((error.code, error.hard), (406, false));
        assert_eq!(
            error.text,
            format!(
                "PRECONDITION_FAILED - inequivalent arg '{argument}' for queue '{name}' in vhost \
                 '/': received {told} but current is none"
            )
        );
    }
    let channel = connection.create_channel().await.unwrap();
    let deleting = channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default());
    soon("queue.delete", deleting).await.unwrap();
}

pub async fn an_exclusive_queue_is_not_durable_whatever_is_asked(uri: &str) {
    let (_connection, ch) = channel(uri).await;
    let name = own_queue(&ch, "exclusive").await;
    let mut durable = QueueDeclareOptions::exclusive();
    durable.durable = true;
    declare(&ch, &name, durable).await.unwrap();
    let name = unique("exclusive");
    declare(&ch, &name, durable).await.unwrap();
    declare(&ch, &name, QueueDeclareOptions::exclusive())
        .await
        .unwrap();
}

pub async fn an_exclusive_queue_is_its_connections_own(uri: &str) {
    let (owner, theirs) = channel(uri).await;
    let name = own_queue(&theirs, "exclusive").await;
    let connection = connect(uri).await;
    let start = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue";

    let mine = connection.create_channel().await.unwrap();
    let declaring = declare(&mine, &name, QueueDeclareOptions::exclusive());
    let error = refusal("queue.declare", declaring).await;
    assert_eq!((error.code, error.hard), (405, false));
    assert!(error.text.starts_with(start), "{error:?}");

    let mine = connection.create_channel().await.unwrap();
    let consuming = consume_with(&mine, &name, "", BasicConsumeOptions::default());
    let error = refusal("basic.consume", consuming).await;
    assert_eq!(error.code, 405);

    let mine = connection.create_channel().await.unwrap();
    let deleting = mine.queue_delete(name.as_str().into(), QueueDeleteOptions::default());
    assert_eq!(refusal("queue.delete", deleting).await.code, 405);

    let mine = connection.create_channel().await.unwrap();
    let purging = mine.queue_purge(name.as_str().into(), QueuePurgeOptions::default());
    assert_eq!(refusal("queue.purge", purging).await.code, 405);

    let mine = connection.create_channel().await.unwrap();
    let getting = mine.basic_get(name.as_str().into(), BasicGetOptions::default());
    assert_eq!(refusal("basic.get", getting).await.code, 405);

    let mine = connection.create_channel().await.unwrap();
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let declaring = declare(&mine, &name, passive);
    assert_eq!(refusal("passive declare", declaring).await.code, 405);

    // Its owner, too, must declare it as what it is.
    let second = owner.create_channel().await.unwrap();
    let declaring = declare(&second, &name, QueueDeclareOptions::default());
    let error = refusal("queue.declare", declaring).await;
    assert_eq!((error.code, error.hard), (405, false));

    // Only publishing to it is for all.
    let mine = connection.create_channel().await.unwrap();
    confirms(&mine).await;
    publish(&mine, &name, "from another connection").await;
    assert_ready(&theirs, &name, 1).await;

    // With its connection the queue goes, and the name is free.
    soon("connection.close", owner.close(200, "".into()))
        .await
        .unwrap();
    let mine = connection.create_channel().await.unwrap();
    declare(&mine, &name, QueueDeclareOptions::exclusive())
        .await
        .unwrap();
}

pub async fn the_server_names_queues_and_consumers(uri: &str) {
    let (connection, channel) = channel(uri).await;
    let queue = declare(&channel, "", QueueDeclareOptions::exclusive())
        .await
        .unwrap();
    let name = queue.name().to_string();
    assert!(name.starts_with("amq.gen-"), "{name}");
    assert_eq!(name.len(), "amq.gen-".len() + 22);
    // Nobody else may use the prefix, not even for a queue that exists.
    let failing = connection.create_channel().await.unwrap();
    let declaring = declare(&failing, &name, QueueDeclareOptions::exclusive());
    let error = refusal("queue.declare", declaring).await;
    assert_eq!((error.code, error.hard), (403, false));
    assert_eq!(
        error.text,
        format!("ACCESS_REFUSED - queue name '{name}' contains reserved prefix 'amq.*'")
    );
    assert_ready(&channel, &name, 0).await;
    // The empty name is the queue that was declared last.
    publish(&channel, &name, "x").await;
    let mut consumer = consume(&channel, "", "").await;
    let tag = consumer.tag().to_string();
    assert!(tag.starts_with("amq.ctag-"), "{tag}");
    assert_eq!(body(&next(&mut consumer).await), "x");
}

pub async fn reserved_names_are_403(uri: &str) {
    let connection = connect(uri).await;
    let channel = connection.create_channel().await.unwrap();
    let declaring = declare(&channel, "amq.mine", QueueDeclareOptions::default());
    let error = refusal("queue.declare", declaring).await;
    assert_eq!((error.code, error.hard), (403, false));
    assert_eq!(
        error.text,
        "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'"
    );
}

pub async fn purge_and_delete_count_and_check(uri: &str) {
    let (connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = own_queue(&ch, "purge").await;
    for body in ["1", "2", "3"] {
        publish(&ch, &name, body).await;
    }
    let purging = ch.queue_purge(name.as_str().into(), QueuePurgeOptions::default());
    assert_eq!(soon("queue.purge", purging).await.unwrap(), 3);
    assert_ready(&ch, &name, 0).await;
    // What was delivered is not in the queue, and comes back all the same.
    publish(&ch, &name, "delivered").await;
    let delivered = get(&ch, &name).await.unwrap();
    let purging = ch.queue_purge(name.as_str().into(), QueuePurgeOptions::default());
    assert_eq!(soon("queue.purge", purging).await.unwrap(), 0);
    let requeue = BasicRejectOptions { requeue: true };
    delivered.delivery.reject(requeue).await.unwrap();
    assert_ready(&ch, &name, 1).await;
    let back = get(&ch, &name).await.unwrap();
    assert!(back.delivery.redelivered);
    ack(&back.delivery).await;
    publish(&ch, &name, "4").await;

    let failing = connection.create_channel().await.unwrap();
    let if_empty = QueueDeleteOptions {
        if_empty: true,
        ..QueueDeleteOptions::default()
    };
    let deleting = failing.queue_delete(name.as_str().into(), if_empty);
    let error = refusal("queue.delete", deleting).await;
    assert_eq!((error.code, error.hard), (406, false));
    assert_eq!(
        error.text,
        format!("PRECONDITION_FAILED - queue '{name}' in vhost '/' not empty")
    );

    let _consumer = consume(&ch, &name, "user").await;
    let failing = connection.create_channel().await.unwrap();
    let if_unused = QueueDeleteOptions {
        if_unused: true,
        ..QueueDeleteOptions::default()
    };
    let deleting = failing.queue_delete(name.as_str().into(), if_unused);
    let error = refusal("queue.delete", deleting).await;
    assert_eq!(
        error.text,
        format!("PRECONDITION_FAILED - queue '{name}' in vhost '/' in use")
    );
    let cancelling = ch.basic_cancel("user".into(), BasicCancelOptions::default());
    soon("basic.cancel", cancelling).await.unwrap();
    let deleting = ch.queue_delete(name.as_str().into(), if_unused);
    soon("queue.delete", deleting).await.unwrap();
}

pub async fn an_auto_delete_queue_goes_with_its_last_consumer(uri: &str) {
    let (connection, ch) = channel(uri).await;
    let name = unique("auto-delete");
    let options = QueueDeclareOptions::default().auto_delete();
    declare(&ch, &name, options).await.unwrap();
    let _one = consume(&ch, &name, "one").await;
    let other = connection.create_channel().await.unwrap();
    let _two = consume(&other, &name, "two").await;
    let cancelling = ch.basic_cancel("one".into(), BasicCancelOptions::default());
    soon("basic.cancel", cancelling).await.unwrap();
    assert_ready(&ch, &name, 0).await;
    closed(other).await;
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let error = refusal("passive declare", declare(&ch, &name, passive)).await;
    assert_eq!(error.code, 404);
}

// ---- exchanges ----

pub async fn the_default_exchange_is_not_for_binding(uri: &str) {
    let connection = connect(uri).await;
    let expected = "ACCESS_REFUSED - operation not permitted on the default exchange";

    let ch = connection.create_channel().await.unwrap();
    let name = own_queue(&ch, "bind").await;
    let binding = ch.queue_bind(
        name.as_str().into(),
        "".into(),
        name.as_str().into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    let error = refusal("queue.bind", binding).await;
    assert_eq!((error.code, error.hard), (403, false));
    assert_eq!(error.text, expected);

    let ch = connection.create_channel().await.unwrap();
    let deleting = ch.exchange_delete("".into(), ExchangeDeleteOptions::default());
    assert_eq!(refusal("exchange.delete", deleting).await.text, expected);

    let ch = connection.create_channel().await.unwrap();
    let deleting = ch.exchange_delete("amq.direct".into(), ExchangeDeleteOptions::default());
    let error = refusal("exchange.delete", deleting).await;
    assert_eq!((error.code, error.hard), (403, false));
    assert_eq!(
        error.text,
        "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed"
    );
}

pub async fn exchanges_are_known_or_404(uri: &str) {
    let connection = connect(uri).await;
    let passive = ExchangeDeclareOptions {
        passive: true,
        ..ExchangeDeclareOptions::default()
    };
    let ch = connection.create_channel().await.unwrap();
    for name in ["amq.direct", "amq.fanout", "amq.topic", "amq.headers"] {
        let declaring = ch.exchange_declare(
            name.into(),
            lapin::ExchangeKind::Direct,
            passive,
            FieldTable::default(),
        );
        soon("exchange.declare", declaring).await.unwrap();
    }
    let name = unique("nothing");
    let declaring = ch.exchange_declare(
        name.as_str().into(),
        lapin::ExchangeKind::Direct,
        passive,
        FieldTable::default(),
    );
    let error = refusal("exchange.declare", declaring).await;
    assert_eq!((error.code, error.hard), (404, false));
    assert_eq!(
        error.text,
        format!("NOT_FOUND - no exchange '{name}' in vhost '/'")
    );
    assert_alive(&connection).await;
}

pub async fn an_unknown_exchange_type_is_503(uri: &str) {
    let (_connection, ch) = channel(uri).await;
    let declaring = ch.exchange_declare(
        unique("odd").as_str().into(),
        lapin::ExchangeKind::Custom("x-odd".to_owned()),
        ExchangeDeclareOptions::default(),
        FieldTable::default(),
    );
    let error = refusal("exchange.declare", declaring).await;
    assert_eq!((error.code, error.hard), (503, true));
    assert!(
        error
            .text
            .starts_with("COMMAND_INVALID - unknown exchange type 'x-odd'"),
        "{error:?}"
    );
}

// ---- publishing ----

pub async fn publishing_to_an_unknown_exchange_is_404(uri: &str) {
    let (connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let error = publish_refusal(
        &ch,
        "nowhere",
        "key",
        BasicPublishOptions::default(),
        BasicProperties::default(),
    )
    .await;
    assert_eq!((error.code, error.hard), (404, false));
    assert_eq!(error.text, "NOT_FOUND - no exchange 'nowhere' in vhost '/'");
    assert_alive(&connection).await;
}

pub async fn immediate_is_540(uri: &str) {
    let (_connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let options = BasicPublishOptions {
        immediate: true,
        ..BasicPublishOptions::default()
    };
    let error = publish_refusal(&ch, "", "key", options, BasicProperties::default()).await;
    assert_eq!((error.code, error.hard), (540, true));
    assert_eq!(error.text, "NOT_IMPLEMENTED - immediate=true");
}

pub async fn another_users_id_is_406(uri: &str) {
    let (_connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = own_queue(&ch, "user-id").await;
    let mine = BasicProperties::default().with_user_id("guest".into());
    let options = BasicPublishOptions::default();
    publish_with(&ch, &name, options, b"x", mine).await;
    let theirs = BasicProperties::default().with_user_id("root".into());
    let error = publish_refusal(&ch, "", &name, options, theirs).await;
    assert_eq!((error.code, error.hard), (406, false));
    assert_eq!(
        error.text,
        "PRECONDITION_FAILED - user_id property set to 'root' but authenticated user was 'guest'"
    );
}

pub async fn a_mandatory_message_is_returned_before_its_confirm(uri: &str) {
    let (_connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = unique("unroutable");
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let properties = BasicProperties::default().with_message_id("m-1".into());
    // lapin hands over the return with the confirm, which it can only if it came first.
    match publish_with(&ch, &name, options, b"back", properties).await {
        Confirmation::Ack(Some(returned)) => {
            assert_eq!(returned.reply_code, 312);
            assert_eq!(returned.reply_text.as_str(), "NO_ROUTE");
            assert_eq!(returned.delivery.exchange.as_str(), "");
            assert_eq!(returned.delivery.routing_key.as_str(), name);
            assert_eq!(returned.delivery.data, b"back");
            let id = returned.delivery.properties.message_id().clone();
            assert_eq!(id, Some("m-1".into()));
        }
        other => panic!("not returned: {other:?}"),
    }
    // Not mandatory: confirmed all the same, and gone.
    match publish(&ch, &name, "gone").await {
        Confirmation::Ack(None) => {}
        other => panic!("unexpected {other:?}"),
    }
    // The predeclared exchanges route nothing without bindings.
    let confirm = ch
        .basic_publish(
            "amq.direct".into(),
            "key".into(),
            options,
            b"",
            BasicProperties::default(),
        )
        .await
        .unwrap();
    let confirmation = soon("the confirm", confirm).await.unwrap();
    assert!(matches!(confirmation, Confirmation::Ack(Some(_))));
}

pub async fn bodies_of_all_sizes_survive(uri: &str) {
    let (_connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = own_queue(&ch, "sizes").await;
    // Around the payload of one frame of the default size, 131 072 - 8.
    let sizes = [0, 1, 131_063, 131_064, 131_065, 262_128, 1 << 20];
    for size in sizes {
        let body: Vec<u8> = (0..size).map(|i: usize| (i % 251) as u8).collect();
        let options = BasicPublishOptions::default();
        publish_with(&ch, &name, options, &body, BasicProperties::default()).await;
    }
    let mut consumer = consume(&ch, &name, "").await;
    for size in sizes {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.data.len(), size);
        let intact = delivery
            .data
            .iter()
            .enumerate()
            .all(|(i, byte)| *byte == (i % 251) as u8);
        assert!(intact, "a body of {size} bytes was damaged");
        ack(&delivery).await;
    }
}

pub async fn bodies_pass_between_frames_of_different_sizes(uri: &str) {
    let small = format!("{uri}?frame_max=8192");
    let (_large_connection, large) = channel(uri).await;
    let (_small_connection, small) = channel(&small).await;
    let name = own_queue(&large, "frames").await;
    let body: Vec<u8> = (0..3_000_001).map(|i: u32| (i % 251) as u8).collect();
    for publisher in [&large, &small] {
        confirms(publisher).await;
        let options = BasicPublishOptions::default();
        publish_with(publisher, &name, options, &body, BasicProperties::default()).await;
    }
    let mut consumer = consume(&large, &name, "large").await;
    for _ in 0..2 {
        let delivery = next(&mut consumer).await;
        assert!(delivery.data == body, "a body was damaged");
        ack(&delivery).await;
    }
    let shared = unique("frames");
    declare(&large, &shared, QueueDeclareOptions::durable())
        .await
        .unwrap();
    let options = BasicPublishOptions::default();
    publish_with(&large, &shared, options, &body, BasicProperties::default()).await;
    let mut consumer = consume(&small, &shared, "small").await;
    let delivery = next(&mut consumer).await;
    assert!(delivery.data == body, "a body was damaged");
    ack(&delivery).await;
    let deleting = small.queue_delete(shared.as_str().into(), QueueDeleteOptions::default());
    soon("queue.delete", deleting).await.unwrap();
}

pub async fn messages_of_many_channels_do_not_mix(uri: &str) {
    const CHANNELS: u8 = 8;

    let (connection, control) = channel(uri).await;
    let name = own_queue(&control, "channels").await;
    let publishing = (0..CHANNELS).map(|number| {
        let (connection, name) = (&connection, &name);
        async move {
            let ch = connection.create_channel().await.unwrap();
            confirms(&ch).await;
            let body = vec![number; 300_000];
            for _ in 0..4 {
                let options = BasicPublishOptions::default();
                publish_with(&ch, name, options, &body, BasicProperties::default()).await;
            }
        }
    });
    join_all(publishing).await;
    let mut counts = [0; CHANNELS as usize];
    let mut consumer = consume(&control, &name, "c").await;
    for _ in 0..4 * CHANNELS {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.data.len(), 300_000);
        let number = delivery.data[0];
        assert!(delivery.data.iter().all(|byte| *byte == number));
        counts[usize::from(number)] += 1;
        ack(&delivery).await;
    }
    assert_eq!(counts, [4; CHANNELS as usize]);
}

pub async fn properties_keep_their_values_and_types(uri: &str) {
    let (_connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = own_queue(&ch, "properties").await;
    let mut inner = FieldTable::default();
    inner.insert("k".into(), AMQPValue::LongString("v".into()));
    let mut array = FieldArray::default();
    array.push(AMQPValue::LongInt(1));
    array.push(AMQPValue::FieldTable(inner.clone()));
    let mut headers = FieldTable::default();
    for (key, value) in [
        ("bool", AMQPValue::Boolean(true)),
        ("i8", AMQPValue::ShortShortInt(-1)),
        ("u8", AMQPValue::ShortShortUInt(200)),
        ("i16", AMQPValue::ShortInt(-2)),
        ("u16", AMQPValue::ShortUInt(2)),
        ("i32", AMQPValue::LongInt(-3)),
        ("u32", AMQPValue::LongUInt(3)),
        ("i64", AMQPValue::LongLongInt(-4)),
        ("f32", AMQPValue::Float(1.5)),
        ("f64", AMQPValue::Double(2.5)),
        (
            "decimal",
            AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 3 }),
        ),
        ("traceparent", AMQPValue::LongString("00-ab-cd-01".into())),
        ("array", AMQPValue::FieldArray(array)),
        ("timestamp", AMQPValue::Timestamp(1_700_000_000)),
        ("table", AMQPValue::FieldTable(inner)),
        ("bytes", AMQPValue::ByteArray(vec![0, 255, 10].into())),
        ("void", AMQPValue::Void),
    ] {
        headers.insert(key.into(), value);
    }
    let properties = BasicProperties::default()
        .with_content_type("text/plain".into())
        .with_content_encoding("utf-8".into())
        .with_headers(headers)
        .with_delivery_mode(2)
        .with_priority(3)
        .with_correlation_id("c".into())
        .with_reply_to("r".into())
        .with_message_id("m".into())
        .with_timestamp(1_700_000_001)
        .with_type("t".into())
        .with_app_id("a".into());
    let options = BasicPublishOptions::default();
    publish_with(&ch, &name, options, b"x", properties.clone()).await;
    let mut consumer = consume(&ch, &name, "").await;
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.properties, properties);
    assert_eq!(delivery.routing_key.as_str(), name);
    assert_eq!(delivery.exchange.as_str(), "");
    assert!(!delivery.redelivered);
}

// ---- consuming ----

pub async fn messages_come_in_order_and_are_gone_once_acked(uri: &str) {
    let (connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = own_queue(&ch, "order").await;
    let mut consumer = consume(&ch, &name, "c").await;
    for i in 0..50 {
        publish(&ch, &name, &i.to_string()).await;
    }
    for i in 0..50 {
        let delivery = next(&mut consumer).await;
        assert_eq!(body(&delivery), i.to_string());
        assert_eq!(delivery.delivery_tag, i + 1);
        ack(&delivery).await;
    }
    closed(ch).await;
    let ch = connection.create_channel().await.unwrap();
    assert!(get(&ch, &name).await.is_none());
}

pub async fn no_ack_deliveries_are_gone_at_once(uri: &str) {
    let (connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = own_queue(&ch, "no-ack").await;
    prefetch(&ch, 1, false).await;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let mut consumer = consume_with(&ch, &name, "c", options).await.unwrap();
    for i in 0..3 {
        publish(&ch, &name, &i.to_string()).await;
    }
    // The prefetch count doesn't hold without acknowledgements.
    for i in 0..3 {
        assert_eq!(body(&next(&mut consumer).await), i.to_string());
    }
    closed(ch).await;
    let ch = connection.create_channel().await.unwrap();
    assert!(get(&ch, &name).await.is_none());
}

pub async fn prefetch_limits_each_consumer(uri: &str) {
    let (_connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = own_queue(&ch, "prefetch").await;
    for i in 0..5 {
        publish(&ch, &name, &i.to_string()).await;
    }
    prefetch(&ch, 2, false).await;
    let mut one = consume(&ch, &name, "one").await;
    let first = next(&mut one).await;
    next(&mut one).await;
    assert_ready(&ch, &name, 3).await;
    // The count is each consumer's own.
    prefetch(&ch, 1, false).await;
    let mut two = consume(&ch, &name, "two").await;
    assert_eq!(body(&next(&mut two).await), "2");
    assert_ready(&ch, &name, 2).await;
    ack(&first).await;
    assert_eq!(body(&next(&mut one).await), "3");
    assert_ready(&ch, &name, 1).await;
}

pub async fn a_global_prefetch_limits_the_channel(uri: &str) {
    let (_connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let (left, right) = (own_queue(&ch, "left").await, own_queue(&ch, "right").await);
    prefetch(&ch, 2, true).await;
    for queue in [&left, &right] {
        for i in 0..3 {
            publish(&ch, queue, &i.to_string()).await;
        }
    }
    let mut one = consume(&ch, &left, "one").await;
    let first = next(&mut one).await;
    next(&mut one).await;
    let mut two = consume(&ch, &right, "two").await;
    assert_ready(&ch, &left, 1).await;
    assert_ready(&ch, &right, 3).await;
    let multiple = BasicAckOptions { multiple: true };
    let cancelling = ch.basic_cancel("one".into(), BasicCancelOptions::default());
    soon("basic.cancel", cancelling).await.unwrap();
    assert_eq!(first.delivery_tag, 1);
    ch.basic_ack(2, multiple).await.unwrap();
    next(&mut two).await;
    next(&mut two).await;
    assert_ready(&ch, &right, 1).await;
}

pub async fn a_later_prefetch_lifts_the_global_one(uri: &str) {
    let (_connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = own_queue(&ch, "lifted").await;
    for i in 0..3 {
        publish(&ch, &name, &i.to_string()).await;
    }
    prefetch(&ch, 1, true).await;
    let mut one = consume(&ch, &name, "one").await;
    next(&mut one).await;
    assert_ready(&ch, &name, 2).await;
    prefetch(&ch, 10, false).await;
    next(&mut one).await;
    next(&mut one).await;
}

pub async fn a_global_prefetch_that_is_reached_holds_back_no_ack_consumers(uri: &str) {
    let (_connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let (left, right) = (own_queue(&ch, "left").await, own_queue(&ch, "right").await);
    prefetch(&ch, 1, true).await;
    publish(&ch, &left, "held").await;
    let mut one = consume(&ch, &left, "one").await;
    let held = next(&mut one).await;
    let no_ack = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let mut two = consume_with(&ch, &right, "two", no_ack).await.unwrap();
    for body in ["0", "1"] {
        publish(&ch, &right, body).await;
    }
    assert_ready(&ch, &right, 2).await;
    held.ack(BasicAckOptions::default()).await.unwrap();
    // These take up none of it.
    for expected in ["0", "1"] {
        assert_eq!(body(&next(&mut two).await), expected);
    }
}

pub async fn consumers_take_turns(uri: &str) {
    let (_connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = own_queue(&ch, "turns").await;
    let mut one = consume(&ch, &name, "one").await;
    let mut two = consume(&ch, &name, "two").await;
    for i in 0..6 {
        publish(&ch, &name, &i.to_string()).await;
    }
    for i in 0..3 {
        assert_eq!(body(&next(&mut one).await), (2 * i).to_string());
        assert_eq!(body(&next(&mut two).await), (2 * i + 1).to_string());
    }
}

pub async fn an_exclusive_consumer_is_the_only_one(uri: &str) {
    let (connection, ch) = channel(uri).await;
    let name = own_queue(&ch, "exclusive-consumer").await;
    let exclusive = BasicConsumeOptions {
        exclusive: true,
        ..BasicConsumeOptions::default()
    };
    let _one = consume_with(&ch, &name, "one", exclusive).await.unwrap();
    let expected = format!("ACCESS_REFUSED - queue '{name}' in vhost '/' in exclusive use");
    for options in [exclusive, BasicConsumeOptions::default()] {
        let other = connection.create_channel().await.unwrap();
        let consuming = consume_with(&other, &name, "two", options);
        let error = refusal("basic.consume", consuming).await;
        assert_eq!((error.code, error.hard), (403, false));
        assert_eq!(error.text, expected);
    }
    // It leaves room when it goes, and can't come where others are.
    let cancelling = ch.basic_cancel("one".into(), BasicCancelOptions::default());
    soon("basic.cancel", cancelling).await.unwrap();
    let _two = consume(&ch, &name, "two").await;
    let other = connection.create_channel().await.unwrap();
    let consuming = consume_with(&other, &name, "three", exclusive);
    assert_eq!(refusal("basic.consume", consuming).await.code, 403);
}

pub async fn a_consumer_tag_in_use_is_530(uri: &str) {
    let (connection, ch) = channel(uri).await;
    let name = own_queue(&ch, "tags").await;
    let _one = consume(&ch, &name, "same").await;
    // Tags belong to their channel.
    let other = connection.create_channel().await.unwrap();
    let _two = consume(&other, &name, "same").await;
    let consuming = consume_with(&ch, &name, "same", BasicConsumeOptions::default());
    let error = refusal("basic.consume", consuming).await;
    assert_eq!((error.code, error.hard), (530, true));
    assert!(
        error
            .text
            .starts_with("NOT_ALLOWED - attempt to reuse consumer tag 'same'"),
        "{error:?}"
    );
}

pub async fn deleting_a_queue_cancels_its_consumers(uri: &str) {
    let (connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = own_queue(&ch, "cancelled").await;
    publish(&ch, &name, "x").await;
    let mut consumer = consume(&ch, &name, "c").await;
    let delivery = next(&mut consumer).await;
    let other = connection.create_channel().await.unwrap();
    let deleting = other.queue_delete(name.as_str().into(), QueueDeleteOptions::default());
    soon("queue.delete", deleting).await.unwrap();
    assert!(soon("the cancel", consumer.next()).await.is_none());
    // What was delivered before can still be acknowledged.
    ack(&delivery).await;
    publish(&ch, &name, "unroutable, and the channel still works").await;
}

pub async fn deleting_a_queue_cancels_consumers_of_other_connections(uri: &str) {
    let (_deleting_connection, deleter) = channel(uri).await;
    let (connection, ch) = channel(uri).await;
    let (gone, stays) = (unique("gone"), own_queue(&ch, "stays").await);
    declare(&deleter, &gone, QueueDeclareOptions::durable())
        .await
        .unwrap();
    let mut one = consume(&ch, &gone, "one").await;
    let other = connection.create_channel().await.unwrap();
    let mut two = consume(&other, &gone, "two").await;
    let mut three = consume(&ch, &stays, "three").await;
    let deleting = deleter.queue_delete(gone.as_str().into(), QueueDeleteOptions::default());
    soon("queue.delete", deleting).await.unwrap();
    assert!(soon("the cancel", one.next()).await.is_none());
    assert!(soon("the cancel", two.next()).await.is_none());
    // The channels live: another consumer goes on, and a cancelled tag is free.
    confirms(&ch).await;
    publish(&ch, &stays, "x").await;
    assert_eq!(body(&next(&mut three).await), "x");
    let _again = consume(&ch, &stays, "one").await;
    // The same name is a new queue without them.
    let again = declare(&deleter, &gone, QueueDeclareOptions::durable())
        .await
        .unwrap();
    assert_eq!((again.message_count(), again.consumer_count()), (0, 0));
    let deleting = deleter.queue_delete(gone.as_str().into(), QueueDeleteOptions::default());
    soon("queue.delete", deleting).await.unwrap();
}

pub async fn cancelling_keeps_what_was_delivered(uri: &str) {
    let (connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = own_queue(&ch, "cancel").await;
    for body in ["a", "b", "c"] {
        publish(&ch, &name, body).await;
    }
    prefetch(&ch, 2, false).await;
    let mut consumer = consume(&ch, &name, "c").await;
    let a = next(&mut consumer).await;
    let b = next(&mut consumer).await;
    let cancelling = ch.basic_cancel("c".into(), BasicCancelOptions::default());
    soon("basic.cancel", cancelling).await.unwrap();
    assert!(soon("the end", consumer.next()).await.is_none());
    assert_ready(&ch, &name, 1).await;
    // Both can still be settled; "b" goes back to where it was.
    ack(&a).await;
    b.reject(BasicRejectOptions { requeue: true })
        .await
        .unwrap();
    assert_ready(&ch, &name, 2).await;
    let mut consumer = consume(&ch, &name, "c").await;
    for (expected, redelivered) in [("b", true), ("c", false)] {
        let delivery = next(&mut consumer).await;
        assert_eq!(body(&delivery), expected);
        assert_eq!(delivery.redelivered, redelivered);
    }
    // A tag that nobody has is no error.
    let cancelling = ch.basic_cancel("nobody".into(), BasicCancelOptions::default());
    soon("basic.cancel", cancelling).await.unwrap();
    assert_alive(&connection).await;
}

pub async fn get_counts_down(uri: &str) {
    let (_connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = own_queue(&ch, "get").await;
    assert!(get(&ch, &name).await.is_none());
    publish(&ch, &name, "a").await;
    publish(&ch, &name, "b").await;
    let a = get(&ch, &name).await.unwrap();
    assert_eq!((body(&a.delivery).as_str(), a.message_count), ("a", 1));
    let b = get(&ch, &name).await.unwrap();
    assert_eq!((body(&b.delivery).as_str(), b.message_count), ("b", 0));
    ack(&a.delivery).await;
    b.delivery
        .nack(BasicNackOptions {
            requeue: true,
            ..BasicNackOptions::default()
        })
        .await
        .unwrap();
    let again = get(&ch, &name).await.unwrap();
    assert_eq!(body(&again.delivery), "b");
    assert!(again.delivery.redelivered);
}

// ---- settling ----

pub async fn acks_can_be_multiple(uri: &str) {
    let (connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = own_queue(&ch, "multiple").await;
    for i in 1..=6 {
        publish(&ch, &name, &i.to_string()).await;
    }
    let mut consumer = consume(&ch, &name, "c").await;
    for _ in 0..6 {
        next(&mut consumer).await;
    }
    let multiple = BasicAckOptions { multiple: true };
    ch.basic_ack(2, BasicAckOptions::default()).await.unwrap();
    ch.basic_ack(4, multiple).await.unwrap();
    closed(ch).await;
    // 1 to 4 are gone, 5 and 6 came back.
    let ch = connection.create_channel().await.unwrap();
    assert_ready(&ch, &name, 2).await;
    let mut consumer = consume(&ch, &name, "c").await;
    assert_eq!(body(&next(&mut consumer).await), "5");
    assert_eq!(body(&next(&mut consumer).await), "6");
    // Tag 0 with multiple is all of them, none included.
    ch.basic_ack(0, multiple).await.unwrap();
    ch.basic_ack(0, multiple).await.unwrap();
    closed(ch).await;
    let ch = connection.create_channel().await.unwrap();
    assert_ready(&ch, &name, 0).await;
}

pub async fn an_unknown_delivery_tag_is_406(uri: &str) {
    let connection = connect(uri).await;
    for (how, tag) in [
        ("ack", 0),
        ("ack", 7),
        ("ack multiple", 7),
        ("nack", 7),
        ("nack multiple", 7),
        ("reject", 7),
        // The test's own message, twice.
        ("ack", 1),
        ("ack multiple", 1),
        ("reject", 1),
    ] {
        let ch = connection.create_channel().await.unwrap();
        confirms(&ch).await;
        let name = own_queue(&ch, "unknown-tag").await;
        let mut consumer = consume(&ch, &name, "c").await;
        publish(&ch, &name, "x").await;
        ack(&next(&mut consumer).await).await;
        let multiple = how.ends_with("multiple");
        match how {
            "ack" | "ack multiple" => ch.basic_ack(tag, BasicAckOptions { multiple }).await,
            "nack" | "nack multiple" => {
                let requeue = true;
                ch.basic_nack(tag, BasicNackOptions { multiple, requeue })
                    .await
            }
            _ => {
                ch.basic_reject(tag, BasicRejectOptions { requeue: true })
                    .await
            }
        }
        .unwrap();
        // None of these has an answer; the error comes on its own.
        let error = soon("the error", consumer.next()).await.unwrap();
        let error = refused(&error.unwrap_err());
        assert_eq!((error.code, error.hard), (406, false), "{how} {tag}");
        assert_eq!(
            error.text,
            format!("PRECONDITION_FAILED - unknown delivery tag {tag}"),
            "{how} {tag}"
        );
    }
    assert_alive(&connection).await;
}

pub async fn a_tag_of_another_channel_is_unknown(uri: &str) {
    let (connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = own_queue(&ch, "foreign-tag").await;
    publish(&ch, &name, "x").await;
    let mut consumer = consume(&ch, &name, "c").await;
    let delivery = next(&mut consumer).await;
    let other = connection.create_channel().await.unwrap();
    let mut others = consume(&other, &name, "c").await;
    other
        .basic_ack(delivery.delivery_tag, BasicAckOptions::default())
        .await
        .unwrap();
    let error = soon("the error", others.next()).await.unwrap();
    assert_eq!(refused(&error.unwrap_err()).code, 406);
    // The message is where it was: with the first channel.
    assert_ready(&ch, &name, 0).await;
    ack(&delivery).await;
    closed(ch).await;
    let ch = connection.create_channel().await.unwrap();
    assert_ready(&ch, &name, 0).await;
}

pub async fn rejected_messages_go_or_come_back(uri: &str) {
    let (_connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = own_queue(&ch, "reject").await;
    for body in ["a", "b", "c"] {
        publish(&ch, &name, body).await;
    }
    prefetch(&ch, 3, false).await;
    let mut consumer = consume(&ch, &name, "c").await;
    let a = next(&mut consumer).await;
    let b = next(&mut consumer).await;
    let c = next(&mut consumer).await;
    a.reject(BasicRejectOptions { requeue: false })
        .await
        .unwrap();
    c.reject(BasicRejectOptions { requeue: true })
        .await
        .unwrap();
    let again = next(&mut consumer).await;
    assert_eq!((body(&again).as_str(), again.redelivered), ("c", true));
    let back = BasicNackOptions {
        multiple: true,
        requeue: true,
    };
    assert!(!b.redelivered);
    again.nack(back).await.unwrap();
    for expected in ["b", "c"] {
        let delivery = next(&mut consumer).await;
        assert_eq!(body(&delivery), expected);
        assert!(delivery.redelivered);
        ack(&delivery).await;
    }
    assert_ready(&ch, &name, 0).await;
}

pub async fn recover_brings_everything_back(uri: &str) {
    let (_connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = own_queue(&ch, "recover").await;
    publish(&ch, &name, "a").await;
    publish(&ch, &name, "b").await;
    let mut consumer = consume(&ch, &name, "c").await;
    next(&mut consumer).await;
    next(&mut consumer).await;
    let recovering = ch.basic_recover(BasicRecoverOptions { requeue: true });
    soon("basic.recover", recovering).await.unwrap();
    for expected in ["a", "b"] {
        let delivery = next(&mut consumer).await;
        assert_eq!(
            (body(&delivery).as_str(), delivery.redelivered),
            (expected, true)
        );
    }
}

pub async fn unacked_messages_come_back_in_order(uri: &str) {
    let (connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = own_queue(&ch, "redelivery").await;
    for i in 0..6 {
        publish(&ch, &name, &i.to_string()).await;
    }
    let taking = connection.create_channel().await.unwrap();
    prefetch(&taking, 4, false).await;
    let mut consumer = consume(&taking, &name, "c").await;
    for _ in 0..4 {
        next(&mut consumer).await;
    }
    closed(taking).await;
    let mut consumer = consume(&ch, &name, "c").await;
    for expected in 0..6 {
        let delivery = next(&mut consumer).await;
        assert_eq!(body(&delivery), expected.to_string());
        assert_eq!(delivery.redelivered, expected < 4);
    }
}

pub async fn messages_given_back_one_by_one_keep_their_order(uri: &str) {
    let (_connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = own_queue(&ch, "one-by-one").await;
    for i in 0..6 {
        publish(&ch, &name, &i.to_string()).await;
    }
    let mut taken = Vec::new();
    for _ in 0..5 {
        taken.push(get(&ch, &name).await.unwrap().delivery);
    }
    // In any order, each goes to where it was: before what was published after it.
    for i in [3, 0, 4, 1] {
        let requeue = BasicRejectOptions { requeue: true };
        taken[i].reject(requeue).await.unwrap();
    }
    ack(&taken[2]).await;
    for expected in [0, 1, 3, 4, 5] {
        let delivery = get(&ch, &name).await.unwrap().delivery;
        assert_eq!(body(&delivery), expected.to_string());
        assert_eq!(delivery.redelivered, expected < 5);
    }
}

pub async fn a_lone_consumer_gets_its_rejected_message_again(uri: &str) {
    let (_connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = own_queue(&ch, "again").await;
    publish(&ch, &name, "first").await;
    publish(&ch, &name, "second").await;
    prefetch(&ch, 1, false).await;
    let mut consumer = consume(&ch, &name, "c").await;
    for round in 0..5 {
        let delivery = next(&mut consumer).await;
        assert_eq!(body(&delivery), "first");
        assert_eq!(delivery.redelivered, round > 0);
        // A delivery tag is never used twice.
        assert_eq!(delivery.delivery_tag, round + 1);
        let requeue = BasicRejectOptions { requeue: true };
        delivery.reject(requeue).await.unwrap();
    }
    ack(&next(&mut consumer).await).await;
    assert_eq!(body(&next(&mut consumer).await), "second");
}

pub async fn a_closed_connection_gives_its_messages_back(uri: &str) {
    let (_connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = unique("lost-consumer");
    declare(&ch, &name, QueueDeclareOptions::durable())
        .await
        .unwrap();
    publish(&ch, &name, "x").await;
    let (other, taking) = channel(uri).await;
    let mut consumer = consume(&taking, &name, "c").await;
    assert!(!next(&mut consumer).await.redelivered);
    soon("connection.close", other.close(200, "".into()))
        .await
        .unwrap();
    let mut consumer = consume(&ch, &name, "c").await;
    assert!(next(&mut consumer).await.redelivered);
    let deleting = ch.queue_delete(name.as_str().into(), QueueDeleteOptions::default());
    soon("queue.delete", deleting).await.unwrap();
}

pub async fn a_silent_client_is_given_up(uri: &str) {
    let (_connection, ch) = channel(uri).await;
    confirms(&ch).await;
    let name = unique("silent");
    declare(&ch, &name, QueueDeclareOptions::durable())
        .await
        .unwrap();
    publish(&ch, &name, "x").await;

    // A client with a heartbeat of two seconds, by a way that can be held up.
    let (before_vhost, vhost) = uri.rsplit_once('/').unwrap();
    let (login, broker) = before_vhost.rsplit_once('@').unwrap();
    let hold = CancellationToken::new();
    let forwarder = Forwarder::to(broker, hold.clone()).await;
    let (_lost, taking) = channel(&format!(
        "{login}@{}/{vhost}?heartbeat=2",
        forwarder.address
    ))
    .await;
    assert!(!get(&taking, &name).await.unwrap().delivery.redelivered);
    hold.cancel();
    let mut consumer = consume(&ch, &name, "c").await;
    let delivery = next(&mut consumer).await;
    assert!(delivery.redelivered);
    ack(&delivery).await;
    let deleting = ch.queue_delete(name.as_str().into(), QueueDeleteOptions::default());
    soon("queue.delete", deleting).await.unwrap();
}

/// Passes the bytes of one connection on until it is told to hold. The sockets then
/// stay open, as where a cable was pulled.
struct Forwarder {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Forwarder {
    async fn to(broker: &str, hold: CancellationToken) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let broker = broker.to_owned();
        let task = tokio::spawn(async move {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect(broker).await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                () = hold.cancelled() => std::future::pending().await,
            }
        });
        Self { address, task }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// ---- all of it at once ----

pub async fn ten_thousand_messages_arrive_exactly_once(uri: &str) {
    const CONNECTIONS: usize = 4;
    const EACH: usize = 2500;

    let (_control, ch) = channel(uri).await;
    let name = unique("throughput");
    declare(&ch, &name, QueueDeclareOptions::durable())
        .await
        .unwrap();
    let publishing = (0..CONNECTIONS).map(|c| {
        let name = &name;
        async move {
            let (_connection, ch) = channel(uri).await;
            confirms(&ch).await;
            let mut pending = Vec::new();
            for i in 0..EACH {
                let body = format!("{c}/{i}");
                let confirm = ch
                    .basic_publish(
                        "".into(),
                        name.as_str().into(),
                        BasicPublishOptions::default(),
                        body.as_bytes(),
                        BasicProperties::default().with_delivery_mode(2),
                    )
                    .await
                    .unwrap();
                pending.push(confirm);
            }
            for confirmation in join_all(pending).await {
                assert!(confirmation.unwrap().is_ack());
            }
        }
    });
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let consumers = (0..CONNECTIONS).map(|_| {
        let (name, sender) = (&name, sender.clone());
        async move {
            let (connection, ch) = channel(uri).await;
            prefetch(&ch, 100, false).await;
            let mut consumer = consume(&ch, name, "c").await;
            while let Some(delivery) = consumer.next().await {
                let delivery = delivery.unwrap();
                delivery.ack(BasicAckOptions::default()).await.unwrap();
                if sender
                    .send((body(&delivery), delivery.redelivered))
                    .is_err()
                {
                    break;
                }
            }
            drop(connection);
        }
    });
    let collecting = async {
        let mut seen = BTreeSet::new();
        while seen.len() < CONNECTIONS * EACH {
            let (body, redelivered) = receiver.recv().await.unwrap();
            assert!(!redelivered);
            assert!(seen.insert(body.clone()), "{body} came twice");
        }
    };
    let work = async {
        tokio::select! {
            ((), _) = async { tokio::join!(collecting, join_all(publishing)) } => {}
            _ = join_all(consumers) => panic!("the consumers ended"),
        }
    };
    soon("everything", work).await;
    assert_ready(&ch, &name, 0).await;
    let deleting = ch.queue_delete(name.as_str().into(), QueueDeleteOptions::default());
    soon("queue.delete", deleting).await.unwrap();
}
