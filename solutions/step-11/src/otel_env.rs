//! OpenTelemetry's variables that the SDK leaves to the application.
//!
//! Specification, "Environment variable specification". An empty variable counts as
//! unset. What can't be used is one line on stderr that names the variable, never its
//! value, and the default: telemetry doesn't keep a service from starting.

use std::{
    collections::BTreeSet,
    env, fs,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry::{KeyValue, propagation::TextMapCompositePropagator};
use opentelemetry_otlp::Protocol;
use opentelemetry_sdk::{Resource, resource::TelemetryResourceDetector};
use opentelemetry_semantic_conventions::attribute;
use percent_encoding::percent_decode_str;
use reqwest::{Certificate, blocking};
use uuid::Uuid;

use crate::{baggage::BaggagePropagator, say, w3c::W3cPropagator};

/// The specification's default of OTEL_EXPORTER_OTLP_TIMEOUT.
const OTLP_TIMEOUT: Duration = Duration::from_secs(10);

/// What is exported. Each signal has variables of its own, which win over the general ones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Log records.
    Logs,
}

impl Signal {
    /// As it stands in the names of variables.
    fn name(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Logs => "LOGS",
        }
    }
}

/// Where spans and log records can go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Exporter {
    /// To a receiver, by OTLP.
    Otlp,
    /// To stdout, for people.
    Console,
}

/// OTEL_SDK_DISABLED: whether no telemetry is made at all. Propagation goes on.
pub fn sdk_disabled() -> bool {
    let Some(value) = variable("OTEL_SDK_DISABLED") else {
        return false;
    };
    let is_true = value.eq_ignore_ascii_case("true");
    if !is_true && !value.eq_ignore_ascii_case("false") {
        warn("OTEL_SDK_DISABLED", "true or false", "false");
    }
    is_true
}

/// OTEL_TRACES_EXPORTER, OTEL_LOGS_EXPORTER: a list of `otlp` (the default), `console` and
/// `none`. `otlp_proto_http`, as the Python distribution calls it, is `otlp`, too.
pub fn exporters(signal: Signal) -> Vec<Exporter> {
    let name = format!("OTEL_{}_EXPORTER", signal.name());
    let mut exporters = Vec::new();
    for word in list(&name, "otlp") {
        let exporter = match word.as_str() {
            "otlp" | "otlp_proto_http" => Exporter::Otlp,
            "console" => Exporter::Console,
            "none" => continue,
            _ => {
                warn(&name, "a list of otlp, console and none", "otlp");
                return vec![Exporter::Otlp];
            }
        };
        if !exporters.contains(&exporter) {
            exporters.push(exporter);
        }
    }
    exporters
}

/// OTEL_PROPAGATORS: a list of `tracecontext` and `baggage` (both are the default), or `none`.
pub fn propagator() -> TextMapCompositePropagator {
    let name = "OTEL_PROPAGATORS";
    let default = "tracecontext,baggage";
    let mut words = list(name, default);
    let is_known = |word: &String| matches!(word.as_str(), "tracecontext" | "baggage" | "none");
    if !words.iter().all(is_known) {
        warn(name, "a list of tracecontext, baggage and none", default);
        words = split(default);
    }
    let has = |word: &str| words.iter().any(|each| each == word);
    let mut propagators: Vec<Box<dyn opentelemetry::propagation::TextMapPropagator + Send + Sync>> =
        Vec::new();
    if has("tracecontext") {
        propagators.push(Box::new(W3cPropagator));
    }
    if has("baggage") {
        propagators.push(Box::new(BaggagePropagator));
    }
    TextMapCompositePropagator::new(propagators)
}

/// Who exports: OTEL_SERVICE_NAME, else `service.name` in OTEL_RESOURCE_ATTRIBUTES, else
/// `default_name`; with it the version, an id of this process, and whatever else
/// OTEL_RESOURCE_ATTRIBUTES holds.
///
/// It is the same at each call: spans and log records come from one process.
///
/// The SDK would let OTEL_RESOURCE_ATTRIBUTES win over OTEL_SERVICE_NAME, and takes its
/// values as they are, where the specification has them percent-decoded.
pub fn resource(default_name: &'static str) -> Resource {
    static INSTANCE: LazyLock<String> = LazyLock::new(|| Uuid::new_v4().to_string());
    let mut resource = Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes([
            KeyValue::new(attribute::SERVICE_NAME, default_name),
            KeyValue::new(attribute::SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
            KeyValue::new(attribute::SERVICE_INSTANCE_ID, INSTANCE.as_str()),
        ]);
    // Of two values for one key the later counts.
    if let Some(text) = variable("OTEL_RESOURCE_ATTRIBUTES") {
        match resource_attributes(&text) {
            Some(attributes) => resource = resource.with_attributes(attributes),
            None => warn(
                "OTEL_RESOURCE_ATTRIBUTES",
                "a list of key=value, percent-encoded",
                "nothing",
            ),
        }
    }
    if let Some(name) = variable("OTEL_SERVICE_NAME") {
        resource = resource.with_service_name(name);
    }
    resource.build()
}

/// Specification, "Specifying resource information via an environment variable": one
/// member that can't be read makes the whole value void.
fn resource_attributes(text: &str) -> Option<Vec<KeyValue>> {
    let members = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    let attributes = members.map(|member| {
        let (key, value) = member.split_once('=')?;
        let (key, value) = (decoded(key.trim())?, decoded(value.trim())?);
        (!key.is_empty()).then(|| KeyValue::new(key, value))
    });
    attributes.collect()
}

/// Percent-decoding, strictly: each `%` is followed by two hexadecimal digits.
fn decoded(text: &str) -> Option<String> {
    let complete = text.split('%').skip(1).all(|rest| {
        rest.as_bytes()
            .get(..2)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    complete.then(|| decoded.into_owned())
}

/// OTEL_EXPORTER_OTLP_PROTOCOL: `http/protobuf` (the default) or `http/json`. The
/// exporter reads it, too, but its own default is JSON as soon as any crate in the tree
/// asks for that feature.
pub fn protocol(signal: Signal) -> Protocol {
    let Some((name, value)) = of_signal_or_all(signal, "PROTOCOL") else {
        return Protocol::HttpBinary;
    };
    match value.to_ascii_lowercase().as_str() {
        "http/protobuf" => Protocol::HttpBinary,
        "http/json" => Protocol::HttpJson,
        _ => {
            warn(&name, "http/protobuf or http/json", "http/protobuf");
            Protocol::HttpBinary
        }
    }
}

/// A client that trusts the certificates in the file OTEL_EXPORTER_OTLP_CERTIFICATE,
/// besides those of the system. `None` if that is unset: the exporter makes its own.
///
/// The SDK doesn't read this variable. Call it outside of a runtime.
pub fn client(signal: Signal) -> Option<blocking::Client> {
    let (name, path) = of_signal_or_all(signal, "CERTIFICATE")?;
    let client = fs::read(path)
        .ok()
        .and_then(|pem| Certificate::from_pem_bundle(&pem).ok())
        .filter(|certificates| !certificates.is_empty())
        .and_then(|certificates| {
            let client = blocking::Client::builder().tls_certs_merge(certificates);
            client.timeout(timeout(signal)).build().ok()
        });
    if client.is_none() {
        warn(
            &name,
            "a file of PEM certificates",
            "the system's certificates",
        );
    }
    client
}

/// OTEL_EXPORTER_OTLP_TIMEOUT, in milliseconds: a client of one's own has to be told.
fn timeout(signal: Signal) -> Duration {
    let Some((name, value)) = of_signal_or_all(signal, "TIMEOUT") else {
        return OTLP_TIMEOUT;
    };
    match value.parse() {
        Ok(millis) => Duration::from_millis(millis),
        Err(_) => {
            warn(&name, "a whole number of milliseconds", "10000");
            OTLP_TIMEOUT
        }
    }
}

/// The name of the variable that says where a signal goes: its own, or else the one for all.
pub fn endpoint_variable(signal: Signal) -> String {
    let named = of_signal_or_all(signal, "ENDPOINT").map(|(name, _)| name);
    named.unwrap_or_else(|| "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned())
}

/// The signal's own variable, or else the one for all signals; with its name.
fn of_signal_or_all(signal: Signal, what: &str) -> Option<(String, String)> {
    let own = format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.name());
    let general = format!("OTEL_EXPORTER_OTLP_{what}");
    [own, general]
        .into_iter()
        .find_map(|name| variable(&name).map(|value| (name, value)))
}

fn list(name: &str, default: &str) -> Vec<String> {
    split(&variable(name).unwrap_or_else(|| default.to_owned()))
}

fn split(text: &str) -> Vec<String> {
    let words = text.split(',').map(|word| word.trim().to_owned());
    words.filter(|word| !word.is_empty()).collect()
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Once for each variable: both signals may ask for it.
fn warn(name: &str, must_be: &str, instead: &str) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.insert(name.to_owned()) {
        say(&format!("tier1: {name} must be {must_be}; using {instead}"));
    }
}
