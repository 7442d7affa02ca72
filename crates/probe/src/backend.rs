//! Does the backend take what the services will send? A key that is wrong, or a path that
//! nobody serves, shows nowhere else but in the log, and much later.

use std::{
    thread,
    time::{Duration, Instant},
};

use reqwest::{Url, blocking::Client, header::CONTENT_TYPE, redirect::Policy};

use crate::settings::Otlp;

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// How long to wait before the next attempt.
const PAUSE: Duration = Duration::from_millis(250);

/// Sends an empty request for each signal, which is a valid one, until it is answered.
///
/// # Errors
/// One line that names the variable to change. Of the endpoint it holds no more than host
/// and port: a path or a user may be a key.
pub fn check(otlp: &Otlp, wait: Duration) -> Result<(), String> {
    let end = Instant::now() + wait;
    let client = Client::builder()
        .redirect(Policy::none())
        .timeout(ANSWER)
        .build()
        .map_err(|error| format!("no HTTP client: {error}"))?;
    let place = place(&otlp.endpoint);
    let ask = |signal| ask(&client, otlp, signal, end);
    verdict(ask("traces")?, &place, Signal::Traces)?;
    if otlp.logs {
        verdict(ask("logs")?, &place, Signal::Logs)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Signal {
    Traces,
    Logs,
}

/// The status of the answer. Who isn't there yet, or says so, is asked again.
fn ask(client: &Client, otlp: &Otlp, signal: &str, end: Instant) -> Result<u16, String> {
    let base = otlp.endpoint.as_str().trim_end_matches('/');
    loop {
        let request = client
            .post(format!("{base}/v1/{signal}"))
            .headers(otlp.headers.clone())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(Vec::new());
        // Not the error's own text: it holds the URL.
        let problem = match request.send() {
            Ok(answer) if !answer.status().is_server_error() => {
                return Ok(answer.status().as_u16());
            }
            Ok(answer) => format!("answers {}", answer.status().as_u16()),
            Err(error) if error.is_timeout() => "doesn't answer in time".to_owned(),
            Err(_) => "doesn't answer".to_owned(),
        };
        if Instant::now() >= end {
            let place = place(&otlp.endpoint);
            return Err(format!("OTEL_EXPORTER_OTLP_ENDPOINT: {place} {problem}"));
        }
        thread::sleep(PAUSE);
    }
}

fn verdict(status: u16, place: &str, signal: Signal) -> Result<(), String> {
    match (status, signal) {
        (401 | 403, _) => Err(format!(
            "OTEL_EXPORTER_OTLP_HEADERS: {place} answers {status}, it wants a key or another one"
        )),
        (404 | 405, Signal::Traces) => Err(format!(
            "OTEL_EXPORTER_OTLP_ENDPOINT: {place} answers {status}, nobody takes traces there"
        )),
        (404 | 405, Signal::Logs) => Err(format!(
            "OTEL_LOGS_EXPORTER: {place} answers {status}, it takes no log records; set it to none"
        )),
        (300..=399, _) => Err(format!(
            "OTEL_EXPORTER_OTLP_ENDPOINT: {place} answers {status}, it is elsewhere now"
        )),
        // That nothing is in it may be refused; what the services send is not empty.
        _ => Ok(()),
    }
}

fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
