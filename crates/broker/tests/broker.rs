//! What the `Broker` value itself promises: its API, its limits, its ends, and what happens on sockets.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::time::Duration;

use broker::{Broker, Config, WaitError};
use futures_util::StreamExt;
use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ErrorKind, Event,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(60);

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen in time"),
    }
}

async fn start(config: Config) -> Broker {
    Broker::start(config).await.unwrap()
}

async fn connect(uri: &str) -> Connection {
    let connecting = Connection::connect(uri, ConnectionProperties::default());
    soon("connecting", connecting).await.unwrap()
}

/// A channel with confirms and a queue `q`.
async fn channel(connection: &Connection) -> Channel {
    let channel = connection.create_channel().await.unwrap();
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    channel
        .queue_declare(
            "q".into(),
            QueueDeclareOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    channel
}

async fn publish(channel: &Channel, body: &[u8]) -> lapin::Result<lapin::Confirmation> {
    channel
        .basic_publish(
            "".into(),
            "q".into(),
            BasicPublishOptions::default(),
            body,
            BasicProperties::default(),
        )
        .await?
        .await
}

async fn consume(channel: &Channel) -> Consumer {
    channel
        .basic_consume(
            "q".into(),
            "c".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap()
}

/// The code and text that the broker closed a connection with.
async fn closing_error(mut consumer: Consumer) -> (u16, String) {
    loop {
        match soon("the end of the connection", consumer.next()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => match error.kind() {
                ErrorKind::ProtocolError(amqp) => {
                    return (amqp.get_id(), amqp.get_message().to_string());
                }
                other => panic!("not closed by the broker: {other:?}"),
            },
            None => panic!("the consumer ended without an error"),
        }
    }
}

/// Reads a socket until its end; an abrupt one counts, too.
async fn read_all(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reading = async {
        let _ = socket.read_to_end(&mut bytes).await;
    };
    soon("the end of the stream", reading).await;
    bytes
}

/// Waits until nothing listens on `addr`. Another test's broker may get the port
/// meanwhile, so that a single attempt would prove nothing.
async fn assert_refused(addr: std::net::SocketAddr) {
    let refused = async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    soon("the listener's end", refused).await;
}

/// What a client sends to get through the handshake at once, and the frames after it
/// as (channel, payload).
fn raw_client(heartbeat: u8, frames: &[(u8, &[u8])]) -> Vec<u8> {
    // start-ok: no properties, PLAIN, guest:guest, en_US
    let mut start_ok = vec![0, 10, 0, 11, 0, 0, 0, 0, 5];
    start_ok.extend_from_slice(b"PLAIN\0\0\0\x0c\0guest\0guest\x05en_US");
    // tune-ok: channel_max 10, frame_max 131 072
    let tune_ok = [0, 10, 0, 31, 0, 10, 0, 2, 0, 0, 0, heartbeat];
    let open = [0, 10, 0, 40, 1, b'/', 0, 0];
    let mut bytes = b"AMQP\x00\x00\x09\x01".to_vec();
    let handshake: [(u8, &[u8]); 3] = [(0, &start_ok), (0, &tune_ok), (0, &open)];
    for (channel, payload) in handshake.iter().chain(frames) {
        bytes.extend_from_slice(&[1, 0, *channel]);
        bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes.push(0xCE);
    }
    bytes
}

// ---- the API ----

#[tokio::test]
async fn the_uri_leads_to_the_broker() {
    let broker = start(Config::default()).await;
    let expected = format!("amqp://guest:guest@{}/%2f", broker.addr());
    assert_eq!(broker.uri(), expected);
    assert!(broker.addr().ip().is_loopback());

    let odd = start(Config {
        users: vec![("a b".to_owned(), "p@ss/word".to_owned())],
        ..Config::default()
    })
    .await;
    odd.create_vhost("team/one");
    connect(&odd.uri()).await;
    connect(&odd.vhost_uri("team/one")).await;
}

#[tokio::test]
async fn vhosts_are_worlds_of_their_own() {
    let broker = start(Config::default()).await;
    broker.create_vhost("other");
    let here = connect(&broker.uri()).await;
    let here = channel(&here).await;
    publish(&here, b"x").await.unwrap();
    let there = connect(&broker.vhost_uri("other")).await;
    let _there = channel(&there).await;
    assert_eq!(broker.queue("/", "q").unwrap().ready, 1);
    assert_eq!(broker.queue("other", "q").unwrap().ready, 0);
    assert_eq!(broker.queue("nowhere", "q"), None);
    assert_eq!(broker.queue("/", "nothing"), None);
}

#[tokio::test]
async fn the_counters_tell_what_happened() {
    let broker = start(Config::default()).await;
    let connection = connect(&broker.uri()).await;
    let ch = channel(&connection).await;
    for body in [b"a", b"b", b"c", b"d"] {
        publish(&ch, body).await.unwrap();
    }
    let stats = broker.queue("/", "q").unwrap();
    assert_eq!((stats.published, stats.ready), (4, 4));
    let mut consumer = consume(&ch).await;
    let mut deliveries = Vec::new();
    for _ in 0..4 {
        deliveries.push(soon("a delivery", consumer.next()).await.unwrap().unwrap());
    }
    let all_out = |s: &broker::QueueStats| s.unacked == 4 && s.consumers == 1;
    broker
        .wait_for_queue("/", "q", DEADLINE, all_out)
        .await
        .unwrap();
    deliveries[0].ack(BasicAckOptions::default()).await.unwrap();
    deliveries[1]
        .reject(BasicRejectOptions { requeue: false })
        .await
        .unwrap();
    deliveries[2]
        .nack(BasicNackOptions {
            requeue: true,
            multiple: false,
        })
        .await
        .unwrap();
    ch.close(200, "".into()).await.unwrap();
    let stats = broker
        .wait_for_queue("/", "q", DEADLINE, |s| s.consumers == 0)
        .await
        .unwrap();
    assert_eq!((stats.ready, stats.unacked), (2, 0));
    assert_eq!((stats.acked, stats.rejected), (1, 2));
    // c by its nack and once more with the channel, d with the channel.
    assert_eq!(
        (stats.requeued, stats.delivered, stats.redelivered),
        (3, 5, 1)
    );
}

#[tokio::test]
async fn waiting_ends_with_the_condition_or_the_deadline() {
    let broker = start(Config::default()).await;
    let short = Duration::from_millis(20);
    match broker.wait_for_queue("/", "q", short, |_| true).await {
        Err(WaitError::Timeout { last: None, .. }) => {}
        other => panic!("unexpected {other:?}"),
    }
    let connection = connect(&broker.uri()).await;
    let ch = channel(&connection).await;
    let waiting = broker.wait_for_queue("/", "q", DEADLINE, |s| s.ready == 2);
    let publishing = async {
        publish(&ch, b"1").await.unwrap();
        publish(&ch, b"2").await.unwrap();
    };
    let (stats, ()) = tokio::join!(waiting, publishing);
    assert_eq!(stats.unwrap().published, 2);
    let error = broker
        .wait_for_queue("/", "q", short, |s| s.ready == 3)
        .await
        .unwrap_err();
    let WaitError::Timeout { last, .. } = &error;
    assert_eq!(last.unwrap().ready, 2);
    assert!(error.to_string().contains("queue 'q' in vhost '/'"));
}

// ---- ends ----

#[tokio::test]
async fn connections_can_be_closed_by_force() {
    let broker = start(Config::default()).await;
    let connection = connect(&broker.uri()).await;
    let ch = channel(&connection).await;
    publish(&ch, b"x").await.unwrap();
    let consumer = consume(&ch).await;
    broker
        .wait_for_queue("/", "q", DEADLINE, |s| s.unacked == 1)
        .await
        .unwrap();
    broker.close_connections(320, "CONNECTION_FORCED - maintenance");
    // What it held is free at once.
    let stats = broker.queue("/", "q").unwrap();
    assert_eq!((stats.ready, stats.consumers), (1, 0));
    let (code, text) = closing_error(consumer).await;
    assert_eq!(
        (code, text.as_str()),
        (320, "CONNECTION_FORCED - maintenance")
    );
    // The broker still takes connections.
    let again = connect(&broker.uri()).await;
    channel(&again).await;
}

#[tokio::test]
async fn stopping_says_good_bye() {
    let broker = start(Config::default()).await;
    let addr = broker.addr();
    let connection = connect(&broker.uri()).await;
    let consumer = consume(&channel(&connection).await).await;
    soon("stopping", broker.stop()).await;
    assert_eq!(closing_error(consumer).await.0, 320);
    assert_refused(addr).await;
}

#[tokio::test]
async fn dropping_closes_all_sockets() {
    let broker = start(Config::default()).await;
    let addr = broker.addr();
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(b"AMQP\x00\x00\x09\x01").await.unwrap();
    // Wait for connection.start, so that the connection is surely accepted.
    soon("connection.start", socket.read_u8()).await.unwrap();
    drop(broker);
    read_all(&mut socket).await;
    assert_refused(addr).await;
}

#[tokio::test]
async fn a_client_that_does_not_answer_close_is_cut_off() {
    let broker = start(Config {
        close_timeout: Duration::from_millis(50),
        ..Config::default()
    })
    .await;
    let mut socket = TcpStream::connect(broker.addr()).await.unwrap();
    socket.write_all(b"AMQP\x00\x00\x09\x01").await.unwrap();
    soon("connection.start", socket.read_u8()).await.unwrap();
    broker.close_connections(320, "CONNECTION_FORCED - out");
    read_all(&mut socket).await;
}

#[tokio::test]
async fn a_client_that_never_logs_in_is_cut_off() {
    let broker = start(Config {
        handshake_timeout: Duration::from_millis(50),
        ..Config::default()
    })
    .await;
    let mut silent = TcpStream::connect(broker.addr()).await.unwrap();
    assert!(read_all(&mut silent).await.is_empty());
    let mut stuck = TcpStream::connect(broker.addr()).await.unwrap();
    stuck.write_all(b"AMQP\x00\x00\x09\x01").await.unwrap();
    read_all(&mut stuck).await;
}

// ---- sockets ----

#[tokio::test]
async fn another_protocol_is_answered_over_a_socket() {
    let broker = start(Config::default()).await;
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"AMQP\x00\x01\x00\x00",
        &[0xFF; 100_000],
    ] {
        let mut socket = TcpStream::connect(broker.addr()).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        // Not reset: the answer arrives although not all was read before it.
        assert_eq!(read_all(&mut socket).await, b"AMQP\x00\x00\x09\x01");
    }
}

#[tokio::test]
async fn a_broken_frame_is_answered_although_the_client_has_half_closed() {
    let broker = start(Config::default()).await;
    let mut socket = TcpStream::connect(broker.addr()).await.unwrap();
    let mut bytes = b"AMQP\x00\x00\x09\x01".to_vec();
    bytes.extend_from_slice(&[1, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    socket.write_all(&bytes).await.unwrap();
    socket.shutdown().await.unwrap();
    let answer = read_all(&mut socket).await;
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("FRAME_ERROR - type 1"), "{text}");
}

#[tokio::test]
async fn a_frame_cut_short_does_no_harm() {
    let broker = start(Config::default()).await;
    let mut socket = TcpStream::connect(broker.addr()).await.unwrap();
    socket
        .write_all(b"AMQP\x00\x00\x09\x01\x01\x00\x00\x00\x00\x01\x00abc")
        .await
        .unwrap();
    socket.shutdown().await.unwrap();
    read_all(&mut socket).await;
    connect(&broker.uri()).await;
    drop(socket);
}

#[tokio::test]
async fn heartbeats_go_both_ways() {
    const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, 0xCE];

    let broker = start(Config {
        // Rounded up to the protocol's seconds.
        heartbeat: Duration::from_millis(6400),
        ..Config::default()
    })
    .await;
    let connection = connect(&broker.uri()).await;
    assert_eq!(connection.configuration().heartbeat(), 7);

    // These ask for one second. One says nothing, one answers each heartbeat.
    let mut silent = TcpStream::connect(broker.addr()).await.unwrap();
    silent.write_all(&raw_client(1, &[])).await.unwrap();
    let mut lively = TcpStream::connect(broker.addr()).await.unwrap();
    lively.write_all(&raw_client(1, &[])).await.unwrap();
    let answering = async {
        let mut received = Vec::new();
        let mut answered = 0;
        // They come each half second: this is longer than the silent one may last.
        while answered < 6 {
            assert_ne!(lively.read_buf(&mut received).await.unwrap(), 0);
            let come = received.windows(8).filter(|w| *w == HEARTBEAT).count();
            for _ in answered..come {
                lively.write_all(&HEARTBEAT).await.unwrap();
            }
            answered = come;
        }
    };
    let (received, ()) = tokio::join!(read_all(&mut silent), soon("heartbeats", answering));
    assert!(received.windows(8).any(|bytes| bytes == HEARTBEAT));
    // lapin and the lively one.
    assert_eq!(broker.connections(), 2);
}

// ---- limits ----

#[tokio::test]
async fn a_message_above_the_limit_closes_its_channel() {
    let broker = start(Config {
        max_message_bytes: 1000,
        ..Config::default()
    })
    .await;
    let connection = connect(&broker.uri()).await;
    let ch = channel(&connection).await;
    publish(&ch, &[0; 1000]).await.unwrap();
    let error = soon("the error", publish(&ch, &[0; 1001]))
        .await
        .unwrap_err();
    match error.kind() {
        ErrorKind::ProtocolError(amqp) => {
            assert_eq!(amqp.get_id(), 406);
            assert_eq!(
                amqp.get_message().as_str(),
                "PRECONDITION_FAILED - message size 1001 is larger than configured max size 1000"
            );
        }
        other => panic!("unexpected {other:?}"),
    }
    channel(&connection).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_wait_for_memory() {
    let broker = start(Config {
        max_queue_bytes: 10_000,
        ..Config::default()
    })
    .await;
    let publisher = connect(&broker.uri()).await;
    let mut events = Box::pin(publisher.events_listener());
    let ch = channel(&publisher).await;
    // The first one is taken although it is above the limit, the second one waits.
    publish(&ch, &[0; 20_000]).await.unwrap();
    let second = publish(&ch, b"second");
    tokio::pin!(second);
    let blocked = async {
        loop {
            if let Some(Event::ConnectionBlocked(reason)) = events.next().await {
                return reason;
            }
        }
    };
    tokio::select! {
        reason = soon("connection.blocked", blocked) => assert_eq!(reason, "low on memory"),
        _ = &mut second => panic!("confirmed without memory"),
    }
    assert_eq!(broker.queue("/", "q").unwrap().published, 1);
    // Consumers go on, and make room.
    let consumer_connection = connect(&broker.uri()).await;
    let taking = consumer_connection.create_channel().await.unwrap();
    let mut consumer = consume(&taking).await;
    let first = soon("a delivery", consumer.next()).await.unwrap().unwrap();
    first.ack(BasicAckOptions::default()).await.unwrap();
    soon("the confirm", &mut second).await.unwrap();
    let unblocked = async {
        loop {
            if let Some(Event::ConnectionUnblocked) = events.next().await {
                return;
            }
        }
    };
    soon("connection.unblocked", unblocked).await;
    let delivery = soon("a delivery", consumer.next()).await.unwrap().unwrap();
    assert_eq!(delivery.data, b"second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_does_not_read_holds_up_no_one_else() {
    let broker = start(Config {
        max_outgoing_bytes: 64 << 10,
        ..Config::default()
    })
    .await;
    let connection = connect(&broker.uri()).await;
    let ch = channel(&connection).await;
    // A raw client that consumes and never reads.
    let mut slow = TcpStream::connect(broker.addr()).await.unwrap();
    let channel_open = [0, 20, 0, 10, 0];
    let consume = [0, 60, 0, 20, 0, 0, 1, b'q', 1, b's', 0, 0, 0, 0, 0];
    let bytes = raw_client(0, &[(1, &channel_open), (1, &consume)]);
    slow.write_all(&bytes).await.unwrap();
    broker
        .wait_for_queue("/", "q", DEADLINE, |s| s.consumers == 1)
        .await
        .unwrap();
    // More than any socket buffer holds: confirmed all the same, and the rest waits in
    // the queue instead of in the slow client's outbox.
    for _ in 0..320 {
        soon("the confirm", publish(&ch, &[1; 100_000]))
            .await
            .unwrap();
    }
    let stats = broker.queue("/", "q").unwrap();
    assert_eq!(stats.published, 320);
    assert!(stats.ready > 0, "{stats:?}");
    // With the client gone, another one gets everything.
    drop(slow);
    let taking = connection.create_channel().await.unwrap();
    let mut consumer = self::consume(&taking).await;
    for _ in 0..320 {
        let delivery = soon("a delivery", consumer.next()).await.unwrap().unwrap();
        delivery.ack(BasicAckOptions::default()).await.unwrap();
    }
    broker
        .wait_for_queue("/", "q", DEADLINE, |s| s.acked == 320)
        .await
        .unwrap();
}
