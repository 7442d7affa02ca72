//! tier1's behaviour, which is the same in all steps: what it does when something
//! is missing, slow or wrong, and how it stops.
//!
//! Each solution runs these tests, because instrumentation must not change what a
//! service does.

use std::time::Duration;

use otlp::SpanKind;

use crate::{
    Case, Fault, Lab, LabConfig, LabError, Outcome, Part, Recording, Response, StopSignal, Test,
};

/// All tests, by name.
pub const ALL: [(&str, Test); 18] = [
    ("no_tier2_is_502", no_tier2_is_502),
    ("an_error_of_tier2", an_error_of_tier2),
    ("no_saas_is_502", no_saas_is_502),
    ("a_failing_saas_is_502", a_failing_saas_is_502),
    ("a_slow_tier2_is_504", a_slow_tier2_is_504),
    ("no_queue_is_503_in_time", no_queue_is_503_in_time),
    (
        "a_slow_confirm_is_503_in_time",
        a_slow_confirm_is_503_in_time,
    ),
    ("a_deleted_queue_is_made_anew", a_deleted_queue_is_made_anew),
    (
        "a_refused_channel_costs_no_connection",
        a_refused_channel_costs_no_connection,
    ),
    ("the_queue_comes_back", the_queue_comes_back),
    (
        "an_outage_under_load_loses_nothing",
        an_outage_under_load_loses_nothing,
    ),
    ("sigterm_drains", sigterm_drains),
    ("sigint_drains", sigint_drains),
    ("it_stops_in_silence", it_stops_in_silence),
    ("a_bad_variable_is_named", a_bad_variable_is_named),
    (
        "missing_certificates_are_told",
        missing_certificates_are_told,
    ),
    ("no_secret_is_printed", no_secret_is_printed),
    ("log_lines_can_be_json", log_lines_can_be_json),
];

/// What else happens on a loaded machine between a timeout and the answer that
/// tells of it. Generous: it separates "in time" from "never".
const SLACK: Duration = Duration::from_secs(10);

fn no_tier2_is_502(case: &Case) -> Outcome {
    let lab = case.start_with(case.config().without(Part::Tier2), &[])?;
    for path in ["/fast", "/error"] {
        refused(case, path, 502, "tier2 did not answer: ", &lab.get(path)?)?;
    }
    Ok(())
}

/// The step that mends the lie: from here on an error of tier2's is an error of tier1's.
const MENDED: u8 = 11;

fn an_error_of_tier2(case: &Case) -> Outcome {
    let lab = case.start()?;
    let response = lab.get("/error")?;
    if case.step() >= MENDED {
        return refused(case, "/error", 502, "tier2 answered 500", &response);
    }
    let text = "Internal Server Error-plus-pure-tier2-proc";
    let body = format!("tier 1 - error → do_queue → do_saas → {text}");
    case.expect_response("/error", 200, &body, &response)
}

fn no_saas_is_502(case: &Case) -> Outcome {
    let lab = case.start_with(case.config().without(Part::Saas), &[])?;
    refused(
        case,
        "/fast",
        502,
        "saas did not answer: ",
        &lab.get("/fast")?,
    )
}

fn a_failing_saas_is_502(case: &Case) -> Outcome {
    let mut config = case.config();
    config.saas.status = 503;
    let lab = case.start_with(config, &[])?;
    refused(case, "/fast", 502, "saas answered 503", &lab.get("/fast")?)
}

fn a_slow_tier2_is_504(case: &Case) -> Outcome {
    let config = LabConfig {
        // saas, on a loaded machine, has to answer within it.
        http_timeout: Duration::from_millis(1500),
        ..case.config()
    };
    let lab = case.start_with(config, &[])?;
    lab.fault(Part::Tier2, Fault::Hold);
    let response = lab.get("/fast")?;
    refused(
        case,
        "/fast",
        504,
        "tier2 did not answer in time",
        &response,
    )
}

fn no_queue_is_503_in_time(case: &Case) -> Outcome {
    let lab = case.start_with(with_queue_timeout(case).without(Part::Queue), &[])?;
    let response = lab.get("/fast")?;
    refused(case, "/fast", 503, "the queue ", &response)?;
    in_time(case, &response)?;
    let healthcheck = lab.get("/healthcheck")?;
    case.expect(
        "STATUS",
        "the status of /healthcheck",
        200,
        healthcheck.status,
    )
}

fn a_slow_confirm_is_503_in_time(case: &Case) -> Outcome {
    let lab = case.start_with(with_queue_timeout(case), &[])?;
    case.connected(&lab)?;
    lab.fault(Part::Queue, Fault::Hold);
    let response = lab.get("/fast")?;
    refused(
        case,
        "/fast",
        503,
        "the queue did not confirm in time",
        &response,
    )?;
    in_time(case, &response)
}

fn a_deleted_queue_is_made_anew(case: &Case) -> Outcome {
    let lab = case.start_with(case.config().without(Part::Consumer), &[])?;
    case.connected(&lab)?;
    lab.delete_queue()?;
    let response = lab.get("/fast")?;
    refused(case, "/fast", 503, "the message was returned", &response)?;
    let response = lab.get("/fast")?;
    case.expect(
        "STATUS",
        "the status of the next /fast",
        200,
        response.status,
    )?;
    let messages = lab.take_messages()?;
    case.expect(
        "MESSAGES",
        "the number of messages in the new queue",
        1,
        messages.len(),
    )
}

/// The broker refuses what one channel asks for. The connection is sound, and making a new
/// one for each request would be one more load for a broker that has troubles.
fn a_refused_channel_costs_no_connection(case: &Case) -> Outcome {
    let mut lab = Lab::start(case.config().without(Part::Consumer))?;
    lab.declare_another_queue()?;
    lab.spawn(case.program(), &[])?;
    for _ in 0..3 {
        let response = lab.get("/fast")?;
        refused(case, "/fast", 503, "the queue ", &response)?;
    }
    lab.delete_queue()?;
    case.connected(&lab)?;
    let recording = lab.finish()?;
    let lines = recording.lines();
    let connected = lines
        .iter()
        .filter(|line| line.text.contains("connected to the queue"));
    let what = "how often tier1 says that it has connected to the queue,";
    case.expect("CONNECTIONS", what, 1, connected.count())
}

fn the_queue_comes_back(case: &Case) -> Outcome {
    let lab = case.start_with(with_queue_timeout(case), &[])?;
    case.connected(&lab)?;
    lab.fault(Part::Queue, Fault::Cut);
    let response = lab.get("/fast")?;
    refused(case, "/fast", 503, "the queue ", &response)?;
    in_time(case, &response)?;
    lab.fault(Part::Queue, Fault::None);
    case.connected(&lab)
}

/// Requests from four callers while the queue is cut and healed twice.
fn an_outage_under_load_loses_nothing(case: &Case) -> Outcome {
    let lab = case.start_with(with_queue_timeout(case), &[])?;
    case.connected(&lab)?;
    let done = std::sync::atomic::AtomicBool::new(false);
    let answers: Vec<Response> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut answers = Vec::new();
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        answers.push(lab.get("/fast")?);
                    }
                    Ok::<_, LabError>(answers)
                })
            })
            .collect();
        let mut failed = Ok(());
        for _ in 0..2 {
            // Some messages must be on their way when the cut comes, and some after it.
            let before = lab.consumed().received;
            failed = failed.and_then(|()| lab.wait_for_consumed(before + 10, SLACK));
            lab.fault(Part::Queue, Fault::Cut);
            std::thread::sleep(Duration::from_millis(150));
            lab.fault(Part::Queue, Fault::None);
        }
        let before = lab.consumed().received;
        failed = failed.and_then(|()| lab.wait_for_consumed(before + 10, SLACK));
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let mut all = Vec::new();
        for caller in callers {
            match caller.join() {
                Ok(answers) => all.extend(answers?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        failed.map(|()| all)
    })?;
    for response in &answers {
        match response.status {
            200 => {}
            503 => in_time(case, response)?,
            other => case.expect("STATUS", "the status of /fast", 200, other)?,
        }
    }
    let confirmed = answers.iter().filter(|answer| answer.status == 200).count();
    let embedded = lab.embedded_broker().is_some();
    lab.settle()?;
    let accepted = lab.embedded_broker().and_then(|broker| {
        let stats = broker.queue("/", "signups")?;
        Some((stats.published, stats.ready, stats.unacked))
    });
    let recording = lab.finish()?;
    let ids = consumed_ids(&recording);
    if ids.len() < confirmed {
        return Err(case
            .diagnosis(
                "LOST",
                format!(
                    "{confirmed} messages were confirmed, {} came to the consumer",
                    ids.len()
                ),
            )
            .into());
    }
    if embedded {
        // Exactly: the broker knows how many it took, and none of those may be missing.
        let (published, ready, unacked) = accepted.unwrap_or_default();
        case.expect(
            "LOST",
            "the number of messages that were consumed",
            published,
            ids.len() as u64,
        )?;
        case.expect("LOST", "the number of messages left", 0, ready + unacked)?;
    }
    Ok(())
}

/// The ids of the messages that the consumer made spans for, each once.
pub(crate) fn consumed_ids(recording: &Recording) -> Vec<String> {
    let mut ids: Vec<_> = recording
        .spans_of("consumer-service")
        .filter(|span| span.kind == SpanKind::Consumer)
        .filter_map(|span| {
            let id = opentelemetry_semantic_conventions::attribute::MESSAGING_MESSAGE_ID;
            span.attributes.iter().find(|attribute| attribute.key == id)
        })
        .map(|attribute| attribute.value.to_string())
        .collect();
    ids.sort();
    ids.dedup();
    ids
}

fn sigterm_drains(case: &Case) -> Outcome {
    drains(case, StopSignal::Term)
}

fn sigint_drains(case: &Case) -> Outcome {
    drains(case, StopSignal::Int)
}

/// A request that is under way when the signal comes is answered in full.
fn drains(case: &Case, signal: StopSignal) -> Outcome {
    let mut lab = case.start()?;
    case.connected(&lab)?;
    // Or the message of an earlier request would be taken for that of `/slow`.
    lab.settle()?;
    let consumed = lab.consumed().received;
    let response = std::thread::scope(|scope| {
        let request = scope.spawn(|| lab.get("/slow"));
        // Its message has been consumed: now it waits on its way to tier2.
        lab.wait_for_consumed(consumed + 1, SLACK)?;
        lab.signal(signal)?;
        match request.join() {
            Ok(response) => response,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    case.expect_response("/slow", 200, &body("slow"), &response)?;
    let exit = lab.stop_with(signal)?;
    case.expect("EXIT", "the exit code", "0".to_owned(), code(&exit.status))
}

/// A thread of a library that outlives what it stands on panics where nobody looks.
fn it_stops_in_silence(case: &Case) -> Outcome {
    for _ in 0..5 {
        let mut lab = case.start_with(case.config().without(Part::Queue), &[])?;
        lab.get("/nope")?;
        let stderr = lab.stop()?.stderr;
        if let Some(line) = stderr.lines().find(|line| line.contains("panicked")) {
            let sentence = "something panics while the service stops";
            return Err(case.told("PANIC", sentence, "no panic", line).into());
        }
    }
    Ok(())
}

fn a_bad_variable_is_named(case: &Case) -> Outcome {
    for (name, value) in [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("AMQP_URL", "queue"),
        ("AMQP_URL", "amqp://guest:guest@[::1]:5672/%2f"),
        ("TIER2_URL", "tier2"),
        ("SAAS_URL", "ftp://saas"),
        ("HTTP_TIMEOUT_MS", "5s"),
        ("QUEUE_TIMEOUT_MS", "-1"),
        ("DRAIN_TIMEOUT_MS", "1.5"),
        ("SLOW_DELAY_MS", "1.5"),
        ("SLOW_CHANCE", "2"),
        ("SLOW_CHANCE", "NaN"),
        ("LOG_FORMAT", "xml"),
        ("RUST_LOG", "tier1=loud"),
    ] {
        let said = does_not_start(case, EXIT_CONFIG, &[(name, value)])?;
        let line = format!("tier1: {name} must be ");
        if said.lines().count() != 1 || !said.starts_with(&line) {
            let sentence = format!("{name}={value} is not answered by one line that names it");
            return Err(case
                .told("CONFIG", sentence, &format!("{line}…"), &said)
                .into());
        }
    }
    Ok(())
}

/// A container without the package ca-certificates. macOS keeps them elsewhere.
fn missing_certificates_are_told(case: &Case) -> Outcome {
    if cfg!(target_os = "macos") {
        return Ok(());
    }
    let said = does_not_start(case, EXIT_FAILURE, &[("SSL_CERT_FILE", "/dev/null")])?;
    let last = said.lines().last().unwrap_or_default();
    let named = ["can't make an HTTP client", "ca-certificates"];
    if named.iter().all(|words| last.contains(words)) {
        return Ok(());
    }
    let sentence = "without certificates it doesn't start, and doesn't say why";
    Err(case
        .told("CONFIG", sentence, &named.join(" … "), &said)
        .into())
}

fn no_secret_is_printed(case: &Case) -> Outcome {
    let secret = "s3cr3t";
    let mut lab = case.start_with(
        case.config().without(Part::Queue),
        &[
            ("AMQP_URL", "amqp://user:s3cr3t@127.0.0.1:1/%2f"),
            ("TIER2_URL", "http://user:s3cr3t@127.0.0.1:1/"),
            ("SAAS_URL", "http://user:s3cr3t@127.0.0.1:1/"),
            ("QUEUE_TIMEOUT_MS", "100"),
            ("RUST_LOG", "info"),
        ],
    )?;
    let response = lab.get("/fast")?;
    let exit = lab.stop()?;
    let written = [
        ("the answer", &response.body),
        ("stdout", &exit.stdout),
        ("stderr", &exit.stderr),
    ];
    let bad = does_not_start(
        case,
        EXIT_CONFIG,
        &[("AMQP_URL", "amqp://user:s3cr3t@:port")],
    )?;
    for (place, text) in written.into_iter().chain([("stderr", &bad)]) {
        if let Some(line) = text.lines().find(|line| line.contains(secret)) {
            let sentence = format!("{place} holds the password of a URL");
            return Err(case.told("SECRET", sentence, "no password", line).into());
        }
    }
    Ok(())
}

/// The steps whose console exporter writes to stdout, too, and can't be told not to.
const CONSOLE_STEPS: std::ops::RangeInclusive<u8> = 2..=6;

fn log_lines_can_be_json(case: &Case) -> Outcome {
    let mut lab = case.start_with(case.config(), &[("LOG_FORMAT", "json")])?;
    case.connected(&lab)?;
    let exit = lab.stop()?;
    for line in exit.stdout.lines() {
        if CONSOLE_STEPS.contains(&case.step()) && !line.starts_with('{') {
            continue;
        }
        if serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line).is_err() {
            let sentence = "a line on stdout is no JSON object though LOG_FORMAT is json";
            return Err(case
                .told("JSON", sentence, "{\"timestamp\": …}", line)
                .into());
        }
    }
    case.expect(
        "JSON",
        "whether anything was logged",
        true,
        !exit.stdout.is_empty(),
    )
}

/// The body of a success.
pub fn body(action: &str) -> String {
    format!("tier 1 - {action} → do_queue → do_saas → tier 2 <n>-plus-pure-tier2-proc")
}

fn with_queue_timeout(case: &Case) -> LabConfig {
    LabConfig {
        queue_timeout: Duration::from_millis(500),
        ..case.config()
    }
}

/// One line that begins with `reason`.
fn refused(case: &Case, request: &str, status: u16, reason: &str, got: &Response) -> Outcome {
    if got.status == status
        && got.body.starts_with(reason)
        && got.body.trim_end().lines().count() == 1
    {
        return Ok(());
    }
    Err(case
        .told(
            "RESPONSE",
            format!("the answer to {request} is another"),
            &format!("{status} {reason}…"),
            &format!("{} {}", got.status, got.body),
        )
        .into())
}

fn in_time(case: &Case, response: &Response) -> Outcome {
    if response.elapsed < with_queue_timeout(case).queue_timeout + SLACK {
        return Ok(());
    }
    let sentence = format!("a request waited {:?} for the queue", response.elapsed);
    Err(case.diagnosis("QUEUE-TIMEOUT", sentence).into())
}

/// The exit code of a configuration that can't be used.
pub(crate) const EXIT_CONFIG: i32 = 2;

/// The exit code of all else that keeps a program from its work.
const EXIT_FAILURE: i32 = 1;

/// What the program says on stderr instead of starting. It ends with this exit code.
pub(crate) fn does_not_start(
    case: &Case,
    code: i32,
    variables: &[(&str, &str)],
) -> Result<String, crate::Failure> {
    match case.start_with(case.config(), variables) {
        Err(LabError::NotReady {
            status: Some(status),
            stderr,
            ..
        }) if status.code() == Some(code) => Ok(stderr),
        Err(error) => Err(error.into()),
        Ok(_) => Err(case
            .diagnosis("CONFIG", format!("it starts with {variables:?}"))
            .into()),
    }
}

pub(crate) fn code(status: &std::process::ExitStatus) -> String {
    status
        .code()
        .map_or_else(|| status.to_string(), |code| code.to_string())
}
