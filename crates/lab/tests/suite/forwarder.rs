//! The forwarder, and the port that refuses.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use lab::{Fault, Forwarder, Refusing};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{MOMENT, Test, within_deadline};

/// All tests of this file.
pub const ALL: &[(&str, Test)] = &[
    ("forwarder::bytes_pass_both_ways", bytes_pass_both_ways),
    ("forwarder::one_side_may_end_first", one_side_may_end_first),
    ("forwarder::a_cut_ends_connections", a_cut_ends_connections),
    (
        "forwarder::the_shortest_cut_counts",
        the_shortest_cut_counts,
    ),
    ("forwarder::a_delay_adds_once", a_delay_adds_once),
    (
        "forwarder::a_delay_is_for_the_client_only",
        a_delay_is_for_the_client_only,
    ),
    (
        "forwarder::what_was_held_comes_in_order",
        what_was_held_comes_in_order,
    ),
    ("forwarder::an_end_is_held_too", an_end_is_held_too),
    (
        "forwarder::a_held_connection_can_be_cut",
        a_held_connection_can_be_cut,
    ),
    (
        "forwarder::no_upstream_no_connection",
        no_upstream_no_connection,
    ),
    ("forwarder::dropping_it_ends_all", dropping_it_ends_all),
    ("refusing::as_long_as_it_lives", refuses_as_long_as_it_lives),
];

/// More than all buffers on the way can hold.
const MUCH: usize = 8 * 1024 * 1024;

/// A forwarder and a connection through it.
struct Line {
    forwarder: Forwarder,
    upstream: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

impl Line {
    async fn new() -> Self {
        let upstream = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = upstream.local_addr().expect("it is bound");
        let forwarder = Forwarder::start(address.to_string())
            .await
            .expect("a free port");
        let (client, server) = connect(&forwarder, &upstream).await;
        Self {
            forwarder,
            upstream,
            client,
            server,
        }
    }
}

async fn connect(forwarder: &Forwarder, upstream: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(forwarder.address()).await;
    let (server, _) = upstream.accept().await.expect("the forwarder connects");
    (client.expect("the forwarder listens"), server)
}

/// Bytes of which no two neighbouring stretches are alike.
fn pattern(length: usize) -> Vec<u8> {
    (0u32..)
        .flat_map(|number| number.to_le_bytes())
        .take(length)
        .collect()
}

async fn received(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.expect("bytes come");
    bytes
}

/// Waits until the other side has ended or reset the connection, without a byte.
async fn ends(stream: &mut TcpStream) {
    let got = stream.read(&mut [0; 16]).await;
    assert!(matches!(got, Ok(0) | Err(_)), "{got:?}");
}

/// Nothing comes, and no end either.
async fn is_silent(stream: &mut TcpStream) {
    let got = timeout(MOMENT, stream.read(&mut [0; 16])).await;
    assert!(got.is_err(), "{got:?}");
}

/// A byte each way.
async fn works(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"?").await.expect("it is open");
    assert_eq!(received(server, 1).await, b"?");
    server.write_all(b"!").await.expect("it is open");
    assert_eq!(received(client, 1).await, b"!");
}

fn bytes_pass_both_ways() {
    within_deadline(async {
        let line = Line::new().await;
        let (mut from_client, mut to_client) = line.client.into_split();
        let (mut from_server, mut to_server) = line.server.into_split();
        let sent = pattern(MUCH);
        let answer: Vec<u8> = sent.iter().rev().copied().collect();
        let (mut asked, mut answered) = (vec![0; MUCH], vec![0; MUCH]);
        let (a, b, c, d) = tokio::join!(
            to_client.write_all(&sent),
            to_server.write_all(&answer),
            from_server.read_exact(&mut asked),
            from_client.read_exact(&mut answered),
        );
        a.and(b).and(c).and(d).expect("nothing breaks");
        assert!(asked == sent, "what the server got is not what was sent");
        assert!(answered == answer, "what the client got is another answer");
    });
}

fn one_side_may_end_first() {
    within_deadline(async {
        let mut line = Line::new().await;
        line.client.write_all(b"question").await.expect("is open");
        line.client.shutdown().await.expect("is open");
        let mut question = String::new();
        let read = line.server.read_to_string(&mut question).await;
        read.expect("the end comes, too");
        assert_eq!(question, "question");

        line.server.write_all(b"answer").await.expect("is open");
        drop(line.server);
        let mut answer = String::new();
        let read = line.client.read_to_string(&mut answer).await;
        read.expect("the end comes, too");
        assert_eq!(answer, "answer");
    });
}

fn a_cut_ends_connections() {
    within_deadline(async {
        let mut line = Line::new().await;
        let (mut second, mut second_server) = connect(&line.forwarder, &line.upstream).await;
        works(&mut line.client, &mut line.server).await;
        line.forwarder.set(Fault::Cut);
        for stream in [
            &mut line.client,
            &mut line.server,
            &mut second,
            &mut second_server,
        ] {
            ends(stream).await;
        }
        for _ in 0..3 {
            let new = TcpStream::connect(line.forwarder.address()).await;
            ends(&mut new.expect("the port is open")).await;
        }
        line.forwarder.set(Fault::None);
        let (mut client, mut server) = connect(&line.forwarder, &line.upstream).await;
        works(&mut client, &mut server).await;
    });
}

fn the_shortest_cut_counts() {
    within_deadline(async {
        let mut line = Line::new().await;
        line.forwarder.set(Fault::Cut);
        line.forwarder.set(Fault::None);
        ends(&mut line.client).await;
        ends(&mut line.server).await;
        let (mut client, mut server) = connect(&line.forwarder, &line.upstream).await;
        works(&mut client, &mut server).await;
    });
}

fn a_delay_adds_once() {
    const DELAY: Duration = Duration::from_secs(1);
    // The forwarder reads no more than this at a time.
    const PIECE: usize = 16 * 1024;
    const PIECES: usize = 40;
    within_deadline(async {
        let mut line = Line::new().await;
        line.forwarder.set(Fault::Delay(DELAY));
        let sent = pattern(PIECES * PIECE);
        let started = Instant::now();
        line.server.write_all(&sent).await.expect("it is open");
        assert!(received(&mut line.client, sent.len()).await == sent);
        let elapsed = started.elapsed();
        assert!(elapsed >= DELAY, "{elapsed:?}");
        // Far from what it takes, to tell "once" from "for each piece" under any load.
        assert!(elapsed < DELAY * (PIECES as u32), "{elapsed:?}");
    });
}

fn a_delay_is_for_the_client_only() {
    within_deadline(async {
        let mut line = Line::new().await;
        line.forwarder.set(Fault::Delay(Duration::from_secs(3600)));
        line.client.write_all(b"?").await.expect("it is open");
        assert_eq!(received(&mut line.server, 1).await, b"?");
        line.server.write_all(b"!").await.expect("it is open");
        is_silent(&mut line.client).await;
        // What waits feels it at once when the delay changes.
        line.forwarder.set(Fault::Delay(Duration::from_millis(1)));
        assert_eq!(received(&mut line.client, 1).await, b"!");
    });
}

fn what_was_held_comes_in_order() {
    within_deadline(async {
        let mut line = Line::new().await;
        line.forwarder.set(Fault::Hold);
        let sent = pattern(MUCH);
        let (mut from_server, mut to_server) = line.server.into_split();
        let answer = sent.clone();
        let answering = tokio::spawn(async move {
            to_server.write_all(&answer).await.expect("it stays open");
        });
        is_silent(&mut line.client).await;
        let (mut from_client, mut to_client) = line.client.into_split();
        let question = sent.clone();
        let asking = tokio::spawn(async move {
            to_client.write_all(&question).await.expect("it stays open");
        });
        let early = timeout(MOMENT, from_server.read(&mut [0; 16])).await;
        assert!(early.is_err(), "{early:?}");

        line.forwarder.set(Fault::None);
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        let (a, b) = tokio::join!(
            from_server.read_to_end(&mut asked),
            from_client.read_to_end(&mut answered),
        );
        a.and(b).expect("nothing breaks");
        assert!(asked == sent, "what the server got is not what was sent");
        assert!(answered == sent, "what the client got is another answer");
        asking.await.expect("it wrote all");
        answering.await.expect("it wrote all");
    });
}

fn an_end_is_held_too() {
    within_deadline(async {
        let mut line = Line::new().await;
        line.forwarder.set(Fault::Hold);
        drop(line.server);
        is_silent(&mut line.client).await;
        line.forwarder.set(Fault::None);
        ends(&mut line.client).await;
    });
}

fn a_held_connection_can_be_cut() {
    within_deadline(async {
        let mut line = Line::new().await;
        line.forwarder.set(Fault::Hold);
        line.server.write_all(b"lost").await.expect("it is open");
        is_silent(&mut line.client).await;
        line.forwarder.set(Fault::Cut);
        ends(&mut line.client).await;
        ends(&mut line.server).await;
    });
}

fn no_upstream_no_connection() {
    within_deadline(async {
        let nobody = Refusing::start().expect("a free port");
        let forwarder = Forwarder::start(nobody.address().to_string())
            .await
            .expect("a free port");
        for _ in 0..3 {
            let client = TcpStream::connect(forwarder.address()).await;
            ends(&mut client.expect("the port is open")).await;
        }
    });
}

fn dropping_it_ends_all() {
    within_deadline(async {
        let mut line = Line::new().await;
        works(&mut line.client, &mut line.server).await;
        let address = line.forwarder.address();
        drop(line.forwarder);
        ends(&mut line.client).await;
        ends(&mut line.server).await;
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

fn refuses_as_long_as_it_lives() {
    within_deadline(async {
        let refusing = Refusing::start().expect("a free port");
        for _ in 0..20 {
            let refused = TcpStream::connect(refusing.address()).await;
            let error = refused.expect_err("nobody listens");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            // And nobody else can come to listen there.
            let taken = TcpListener::bind(refusing.address()).await;
            let error = taken.expect_err("the port is taken");
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
        }
    });
}
