//! The program itself, asked as Docker asks it.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Command, Output},
    time::Duration,
};

use broker::{Broker, Config};
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::FieldTable,
};
use otlp::{Behaviour, Receiver};
use saas::{Saas, SaasConfig};

/// What must never be printed.
const KEY: &str = "s3cr3t";

/// Runs it with these variables alone.
async fn probe(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_probe"));
    command.args(arguments).env_clear();
    command.envs(variables.iter().copied());
    let run = tokio::task::spawn_blocking(move || command.output());
    run.await.expect("no panic").expect("it runs")
}

/// Asserts the exit code, and that it said nothing but `line`.
#[track_caller]
fn says(output: &Output, code: i32, line: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.trim_end()), (Some(code), line));
    assert!(output.stdout.is_empty());
}

/// `settings` in front of a backend, whose address is `ADDRESS` in the expected line.
async fn settings(behaviour: Behaviour, variables: &[(&str, &str)]) -> (Output, Receiver) {
    let receiver = Receiver::start().await.expect("a port is free");
    receiver.set_behaviour(behaviour);
    let endpoint = receiver.endpoint();
    let mut all = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    all.extend(variables);
    let output = probe(&["settings", "--wait", "0"], &all).await;
    (output, receiver)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_healthy_if_it_answers_2xx() {
    let saas = Saas::start(SaasConfig::default()).await.expect("starts");
    let url = format!("http://{}{}", saas.addr(), saas::SUMMARY_PATH);
    // A proxy of the reader's must not be asked in its place.
    let proxied = [("http_proxy", "http://127.0.0.1:9")];
    says(&probe(&["http", &url], &proxied).await, 0, "");
    let elsewhere = format!("http://{}/nope", saas.addr());
    says(
        &probe(&["http", &elsewhere], &[]).await,
        1,
        "the answer is 404",
    );
    saas.stop().await;
    says(&probe(&["http", &url], &[]).await, 1, "nobody answers");
    says(
        &probe(&["http", "nonsense"], &[]).await,
        1,
        "URL must be an http URL",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_hangs_is_not_healthy() {
    // Listens and never answers.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address = listener.local_addr().expect("bound");
    let url = format!("http://{address}/");
    says(&probe(&["http", &url], &[]).await, 1, "no answer within 2s");
    let amqp = format!("amqp://guest:{KEY}@{address}/%2f");
    let consumer = probe(&["consumer", "signups"], &[("AMQP_URL", &amqp)]).await;
    says(&consumer, 1, "no answer from the broker within 2s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_is_healthy_if_it_consumes() {
    let broker = Broker::start(Config::default()).await.expect("starts");
    let uri = broker.uri();
    let ask = async || probe(&["consumer", "signups"], &[("AMQP_URL", &uri)]).await;

    let no_queue = ask().await;
    let said = String::from_utf8_lossy(&no_queue.stderr);
    assert_eq!(no_queue.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("the broker: ") && said.contains("NOT_FOUND"),
        "{said}"
    );
    assert!(
        broker.queue("/", "signups").is_none(),
        "asking makes no queue"
    );

    let connection = Connection::connect(&uri, ConnectionProperties::default()).await;
    let connection = connection.expect("the broker is there");
    let channel = connection.create_channel().await.expect("a channel");
    let declare = QueueDeclareOptions::durable();
    let declared = channel.queue_declare("signups".into(), declare, FieldTable::default());
    declared.await.expect("declared");
    says(&ask().await, 1, "nobody consumes \"signups\"");

    let (options, table) = (BasicConsumeOptions::default(), FieldTable::default());
    let consuming = channel.basic_consume("signups".into(), "".into(), options, table);
    let _consumer = consuming.await.expect("consumes");
    says(&ask().await, 0, "");
    broker.stop().await;
}

#[tokio::test]
async fn the_brokers_url_is_not_printed() {
    let bad = format!("http://guest:{KEY}@localhost/");
    let output = probe(&["consumer", "signups"], &[("AMQP_URL", &bad)]).await;
    says(&output, 1, "AMQP_URL must be an AMQP URL");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_gets_what_the_services_will_send_it() {
    let headers = format!("x-honeycomb-team={KEY}%3D, x-dataset=a");
    let variables = [("OTEL_EXPORTER_OTLP_HEADERS", headers.as_str())];
    let (output, receiver) = settings(Behaviour::Accept, &variables).await;
    says(&output, 0, "");
    let requests = receiver.store().requests();
    let paths: Vec<&str> = requests
        .iter()
        .map(|request| request.path.as_str())
        .collect();
    assert_eq!(paths, ["/v1/traces", "/v1/logs"]);
    for request in &requests {
        assert_eq!(request.header("x-honeycomb-team"), Some("s3cr3t="));
        assert_eq!(request.header("x-dataset"), Some("a"));
        assert_eq!((request.answer, request.spans, request.logs), (200, 0, 0));
    }

    let (output, receiver) = settings(Behaviour::Accept, &[("OTEL_LOGS_EXPORTER", "none")]).await;
    says(&output, 0, "");
    assert_eq!(
        receiver.store().requests().len(),
        1,
        "no log records, no question"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_refuses_is_one_line() {
    let key = [("OTEL_EXPORTER_OTLP_HEADERS", "x-honeycomb-team=s3cr3t")];
    for (status, variable, why) in [
        (
            401,
            "OTEL_EXPORTER_OTLP_HEADERS",
            "it wants a key or another one",
        ),
        (
            403,
            "OTEL_EXPORTER_OTLP_HEADERS",
            "it wants a key or another one",
        ),
        (
            404,
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "nobody takes traces there",
        ),
        (301, "OTEL_EXPORTER_OTLP_ENDPOINT", "it is elsewhere now"),
    ] {
        let (output, receiver) = settings(Behaviour::Status(status), &key).await;
        let address = receiver.address();
        says(
            &output,
            2,
            &format!("{variable}: {address} answers {status}, {why}"),
        );
    }
    let (output, receiver) = settings(Behaviour::Status(503), &key).await;
    let address = receiver.address();
    says(
        &output,
        2,
        &format!("OTEL_EXPORTER_OTLP_ENDPOINT: {address} answers 503"),
    );
    // An empty request may be one that the backend finds wrong.
    says(&settings(Behaviour::Status(400), &key).await.0, 0, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_without_log_records_is_one_line() {
    let app = axum::Router::new().route("/v1/traces", axum::routing::post(|| async {}));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("a port is free");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, app).await });
    let endpoint = format!("http://{address}");
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let line = format!(
        "OTEL_LOGS_EXPORTER: {address} answers 404, it takes no log records; set it to none"
    );
    says(&probe(&["settings"], &variables).await, 2, &line);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_may_take_its_time() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address: SocketAddr = listener.local_addr().expect("bound");
    drop(listener);
    let endpoint = format!("http://{KEY}@{address}/{KEY}");
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let line = format!("OTEL_EXPORTER_OTLP_ENDPOINT: {address} doesn't answer");
    says(
        &probe(&["settings", "--wait", "0"], &variables).await,
        2,
        &line,
    );

    let receiver = Receiver::start().await.expect("a port is free");
    receiver.set_behaviour(Behaviour::Unavailable {
        retry_after: Duration::ZERO,
    });
    let endpoint = receiver.endpoint();
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let store = receiver.store();
    let ready = async {
        let refused = store.wait_until(Duration::from_secs(30), |seen| {
            seen.requests()
                .iter()
                .find(|it| it.answer == 503)
                .map(|_| ())
        });
        refused.await.expect("it asks");
        receiver.set_behaviour(Behaviour::Accept);
    };
    let (output, ()) = tokio::join!(probe(&["settings"], &variables), ready);
    says(&output, 0, "");
}

#[tokio::test]
async fn what_cant_be_used_is_one_line_without_the_value() {
    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
    const URL: &str = "an http or https URL, such as http://jaeger:4318";
    const PATH: &str = "without /v1/…: each signal adds its own path";
    const LIST: &str = "a list of key=value, such as x-honeycomb-team=YOUR_API_KEY";
    const MS: &str = "a whole number of milliseconds, such as 1500";
    for (name, value, must_be) in [
        (ENDPOINT, "s3cr3t", URL),
        (ENDPOINT, "jaeger:4318", URL),
        (ENDPOINT, "ftp://s3cr3t@jaeger", URL),
        (ENDPOINT, "http://jaeger:4318/v1/traces", PATH),
        (HEADERS, "s3cr3t", LIST),
        (HEADERS, "x-honeycomb-team: s3cr3t", LIST),
        (HEADERS, "x honeycomb=s3cr3t", LIST),
        (HEADERS, "x-honeycomb-team=s3cr3t,more", LIST),
        (HEADERS, "x-honeycomb-team=%0as3cr3t", LIST),
        (
            "OTEL_LOGS_EXPORTER",
            "oltp",
            "a list of otlp, console and none",
        ),
        ("SLOW_DELAY_MS", "1.5", MS),
        ("SLOW_DELAY_MS", "-1", MS),
        ("SLOW_CHANCE", "5%", "a number from 0 to 1"),
        ("SLOW_CHANCE", "1.1", "a number from 0 to 1"),
        ("SLOW_CHANCE", "NaN", "a number from 0 to 1"),
        ("LOG_FORMAT", "xml", "text or json"),
    ] {
        let output = probe(&["settings", "--wait", "0"], &[(name, value)]).await;
        says(&output, 2, &format!("{name} must be {must_be}"));
    }
}
