//! The tier2 binary: its variables, its end, and what it exports with nothing set but an endpoint.
#![cfg(unix)]

#[path = "../../service/tests/common/mod.rs"]
mod common;

use std::time::Duration;

use common::{DEADLINE, binary, refuses, terminate};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_tier2");

/// Starts it on a free port and reads where it listens.
async fn start(variables: &[(&str, &str)]) -> (Child, Lines<BufReader<ChildStderr>>, String) {
    let mut command = binary(BINARY, variables);
    let mut child = command.env("PORT", "0").spawn().expect("is built");
    let stderr = child.stderr.take().expect("is piped");
    let mut lines = BufReader::new(stderr).lines();
    let listening = async {
        loop {
            let line = lines.next_line().await.expect("UTF-8").expect("no end yet");
            if let Some(addr) = line.strip_prefix("listening on http://") {
                return addr.to_owned();
            }
        }
    };
    let addr = timeout(DEADLINE, listening).await.expect("listens");
    (child, lines, addr)
}

async fn get(addr: &str) -> String {
    let mut connection = TcpStream::connect(addr).await.expect("connects");
    connection
        .write_all(b"GET / HTTP/1.1\r\nHost: tier2\r\nConnection: close\r\n\r\n")
        .await
        .expect("is sent");
    let mut answer = String::new();
    connection
        .read_to_string(&mut answer)
        .await
        .expect("answers");
    answer
}

async fn rest(mut lines: Lines<BufReader<ChildStderr>>) -> Vec<String> {
    let mut rest = Vec::new();
    while let Some(line) = lines.next_line().await.expect("UTF-8") {
        rest.push(line);
    }
    rest
}

#[tokio::test]
async fn a_bad_value_is_one_line_that_names_the_variable() {
    let password = "postgres://app:s3cret@host:notaport/app";
    for (variable, value) in [
        ("PORT", "high"),
        ("PORT", "65536"),
        ("HOST", "localhost"),
        ("DATABASE_URL", password),
        ("RUST_LOG", "tier2=loud"),
    ] {
        refuses(BINARY, variable, value).await;
    }
}

#[tokio::test]
async fn the_last_span_is_sent_before_the_end() {
    let receiver = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", receiver.local_addr().expect("bound"));
    let (sender, mut requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = receiver.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                // The request is there once its last span is.
                while !String::from_utf8_lossy(&request).contains("GET /") {
                    if connection.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = connection.write_all(answer).await;
                let _ = sender.send(request);
            });
        }
    });
    // A batch would go out in a minute: only the end can send it now.
    let (mut child, lines, addr) = start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "60000"),
    ])
    .await;
    assert!(get(&addr).await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(terminate(&mut child).await, Some(0));
    assert_eq!(rest(lines).await, [""; 0]);

    let request = timeout(DEADLINE, requests.recv()).await.expect("arrives");
    let request = String::from_utf8_lossy(&request.expect("arrives")).into_owned();
    assert!(request.starts_with("POST /v1/traces "), "{request}");
    for part in ["tier2-service", "SELECT members"] {
        assert!(request.contains(part), "{part} in {request}");
    }
}

#[tokio::test]
async fn a_receiver_that_hangs_or_is_not_there_does_not_hold_the_end() {
    // Takes connections, since the system does, and never answers.
    let hangs = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addresses = [&hangs, &gone].map(|listener| listener.local_addr().expect("bound"));
    drop(gone);
    for address in addresses {
        let endpoint = format!("http://{address}");
        let (mut child, lines, addr) = start(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            // The SDK's own reports of the failure are not what is tested here.
            ("RUST_LOG", "off"),
        ])
        .await;
        get(&addr).await;
        assert_eq!(terminate(&mut child).await, Some(0));
        let rest = rest(lines).await;
        assert_eq!(rest.len(), 1, "{rest:?}");
        assert!(
            rest[0].starts_with("the last spans were not sent"),
            "{rest:?}"
        );
    }
}

#[tokio::test]
async fn nothing_is_exported_if_nobody_wants_it() {
    for (variable, value) in [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
    ] {
        let receiver = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", receiver.local_addr().expect("bound"));
        let (mut child, _, addr) = start(&[
            (variable, value),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ])
        .await;
        assert!(get(&addr).await.starts_with("HTTP/1.1 200 OK"));
        assert_eq!(terminate(&mut child).await, Some(0));
        // The process is gone, so a connection of its would be waiting by now.
        let connection = timeout(Duration::from_millis(100), receiver.accept()).await;
        assert!(connection.is_err(), "{variable}");
    }
}
