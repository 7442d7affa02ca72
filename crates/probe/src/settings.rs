//! The variables of `.env` that can be wrong, read as the services will read them.
//!
//! An error names the variable and what it must be, never its value: it may be a secret.

use std::{env, str::FromStr};

use percent_encoding::percent_decode_str;
use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};

/// Where the services export to when nothing is set.
const DEFAULT_ENDPOINT: &str = "http://jaeger:4318";

/// Where telemetry goes.
pub struct Otlp {
    /// OTEL_EXPORTER_OTLP_ENDPOINT; each signal adds its path.
    pub endpoint: Url,
    /// OTEL_EXPORTER_OTLP_HEADERS, decoded. A key is in there.
    pub headers: HeaderMap,
    /// Whether log records are sent, too.
    pub logs: bool,
}

/// Reads them all.
///
/// # Errors
/// One line about the first that can't be used.
pub fn check() -> Result<Otlp, String> {
    let otlp = Otlp {
        endpoint: endpoint()?,
        headers: headers()?,
        logs: logs()?,
    };
    number::<u64>(
        "SLOW_DELAY_MS",
        "a whole number of milliseconds, such as 1500",
        |_| true,
    )?;
    number::<f64>("SLOW_CHANCE", "a number from 0 to 1", |chance| {
        (0.0..=1.0).contains(chance)
    })?;
    match variable("LOG_FORMAT")?.as_deref() {
        None | Some("text" | "json") => Ok(otlp),
        Some(_) => Err(must_be("LOG_FORMAT", "text or json")),
    }
}

fn endpoint() -> Result<Url, String> {
    const NAME: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let text = variable(NAME)?.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
    let url = Url::parse(&text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| must_be(NAME, "an http or https URL, such as http://jaeger:4318"))?;
    if ["traces", "logs"]
        .iter()
        .any(|signal| url.path().ends_with(&format!("/v1/{signal}")))
    {
        return Err(must_be(
            NAME,
            "without /v1/…: each signal adds its own path",
        ));
    }
    Ok(url)
}

/// Specification, "Specifying headers via environment variables": as W3C Baggage writes a list.
fn headers() -> Result<HeaderMap, String> {
    const NAME: &str = "OTEL_EXPORTER_OTLP_HEADERS";
    let text = variable(NAME)?.unwrap_or_default();
    let members = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    members
        .map(header)
        .collect::<Option<_>>()
        // The exporter drops what it can't read without a word, and the backend then
        // misses the key.
        .ok_or_else(|| {
            must_be(
                NAME,
                "a list of key=value, such as x-honeycomb-team=YOUR_API_KEY",
            )
        })
}

fn header(member: &str) -> Option<(HeaderName, HeaderValue)> {
    let (key, value) = member.split_once('=')?;
    let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
    Some((key.trim().parse().ok()?, value.parse().ok()?))
}

fn logs() -> Result<bool, String> {
    const NAME: &str = "OTEL_LOGS_EXPORTER";
    let text = variable(NAME)?.unwrap_or_else(|| "otlp".to_owned());
    let mut otlp = false;
    for word in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
        match word {
            "otlp" | "otlp_proto_http" => otlp = true,
            "console" | "none" => {}
            _ => return Err(must_be(NAME, "a list of otlp, console and none")),
        }
    }
    Ok(otlp)
}

fn number<T: FromStr>(name: &str, what: &str, fits: impl Fn(&T) -> bool) -> Result<(), String> {
    match variable(name)?.map(|text| text.parse()) {
        None => Ok(()),
        Some(Ok(number)) if fits(&number) => Ok(()),
        Some(_) => Err(must_be(name, what)),
    }
}

fn must_be(name: &str, what: &str) -> String {
    format!("{name} must be {what}")
}

/// An empty variable counts as unset, as everywhere here.
fn variable(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(must_be(name, "UTF-8")),
    }
}
