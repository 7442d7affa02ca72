//! The check of step 09, Logs over OTLP.

use std::time::Duration;

use lab::{Case, LabConfig, LabError, LogLine, Outcome, Part, Recording};
use opentelemetry_semantic_conventions::attribute;
use otlp::{Behaviour, Value};

fn main() -> std::process::ExitCode {
    lab::check!("09", "Logs over OTLP")
        .chapter("09-logs-over-otlp")
        .otherwise("telemetry.rs", 1)
        .named(
            "RECORDS",
            "logging.rs",
            4,
            "The filter lets nothing through, or too little (TODO 4), `logging::init` doesn't \
             give the provider the events (TODO 3), what waits is not sent at the end (TODO 2), \
             or there is no provider of log records (TODO 1).",
        )
        .of_all("RECORDS")
        .named(
            "LOGS-EXPORTER",
            "telemetry.rs",
            1,
            "`log_records` doesn't make an exporter for each of `otel_env::exporters(Signal::Logs)`.",
        )
        .named(
            "RECORD-IDS",
            "logging.rs",
            3,
            "The bridge is OpenTelemetry's own: it takes the ids from the current context.",
        )
        .named(
            "FEEDBACK",
            "logging.rs",
            4,
            "What is logged about the sending of log records is sent as log records.",
        )
        .named(
            "FILTERED",
            "logging.rs",
            4,
            "The filter lets too little through: it is for the exporter's targets alone. Or what \
             waits is not sent at the end (TODO 2).",
        )
        .named(
            "DISABLED",
            "telemetry.rs",
            1,
            "OTEL_SDK_DISABLED isn't asked before the provider is made.",
        )
        .named(
            "RECORD-RESOURCE",
            "telemetry.rs",
            1,
            "Log records have another resource than spans: `otel_env::resource(SERVICE_NAME)`.",
        )
        .named(
            "LOST",
            "telemetry.rs",
            2,
            "The provider of log records isn't flushed, or a failure isn't told (TODO 2). Or \
             there was nothing to send yet (TODO 1, TODO 3, TODO 4).",
        )
        .of_all("LOST")
        .named(
            "CONFIG",
            "telemetry.rs",
            1,
            "`log_records` doesn't call `otel_env::exporters` or `over_http`, which read the variable.",
        )
        // The longest come early: the verdict waits for the last.
        .test("fast", fast)
        .test("receiver_hangs", receiver_hangs)
        .test("receiver_refuses", receiver_refuses)
        .test("exporters", exporters)
        .test("slow", slow)
        .test("error", error)
        .test("unknown_path", unknown_path)
        .test("caller", caller)
        .test("tier2_stopped", tier2_stopped)
        .test("unsampled_caller", unsampled_caller)
        .test("not_in_a_span", not_in_a_span)
        .test("lines_as_before", lines_as_before)
        .test("disabled", disabled)
        .test("resource", resource)
        .test("no_feedback", no_feedback)
        .test("nothing_filtered", nothing_filtered)
        .test("bad_values", bad_values)
        .test("span_events", span_events)
        .run()
}

/// What tier1 says of a request, in the request's own task.
const OF_A_REQUEST: [&str; 6] = [
    "telling how well we do",
    "message queued",
    "saas was asked",
    "saas done",
    "working on what tier2 answered",
    "tier2 done",
];

/// SeverityNumber (Logs data model).
const INFO: i32 = 9;
const ERROR: i32 = 17;

/// The last line of each run.
const LAST: &str = "stopping, no new requests";

/// The trace of step 08, and the lines of the request as its log records.
fn fast(case: &Case) -> Outcome {
    let recording = case.ask("/fast").record()?;
    lab::assert_traces!(case, "fast", &recording)?;
    for words in OF_A_REQUEST {
        case.expect_record_in(words, "GET /fast", INFO, &recording)?;
    }
    let record = case.the_record("message queued", &recording)?;
    case.expect_record_attribute(record, "action", "fast")?;
    let record = case.the_record("saas was asked", &recording)?;
    case.expect_record_attribute(record, "summary", "All Systems Operational")?;
    case.show_with_records("GET /fast", &recording);
    Ok(())
}

fn error(case: &Case) -> Outcome {
    let recording = case.ask("/error").record()?;
    lab::assert_traces!(case, "error", &recording)?;
    let record = case.the_record("message queued", &recording)?;
    case.expect_record_attribute(record, "action", "error")
}

/// As before, with the wait.
fn slow(case: &Case) -> Outcome {
    let recording = case.ask("/slow").record()?;
    lab::assert_traces!(case, "slow", &recording)
}

fn unknown_path(case: &Case) -> Outcome {
    let recording = case.ask("/nope").status(404).record()?;
    lab::assert_traces!(case, "unknown_path", &recording)
}

fn caller(case: &Case) -> Outcome {
    let recording = case.ask("/fast").caller("01").record()?;
    lab::assert_traces!(case, "caller", &recording)
}

/// What went wrong, with its severity and the number as a number.
fn tier2_stopped(case: &Case) -> Outcome {
    let config = case.config().without(Part::Tier2);
    let recording = case.ask("/fast").config(config).status(502).record()?;
    let words = "tier2 did not answer";
    case.expect_record_in(words, "GET /fast", ERROR, &recording)?;
    case.expect_record_attribute(case.the_record(words, &recording)?, "status", 502)
}

/// No span, but records: each signal is sampled by itself.
fn unsampled_caller(case: &Case) -> Outcome {
    let recording = case.ask("/fast").caller("00").record()?;
    lab::assert_traces!(case, "unsampled_caller", &recording)?;
    for words in OF_A_REQUEST {
        let record = case.the_record(words, &recording)?;
        let got = record
            .trace_id
            .map_or_else(String::new, |id| id.to_string());
        if got != lab::CALLER_TRACE {
            let sentence = "a log record is not of the caller's trace";
            return Err(case
                .told("RECORD-IDS", sentence, lab::CALLER_TRACE, &got)
                .into());
        }
        let what = "the sampled flag of a record whose caller isn't recorded";
        case.expect("RECORD-IDS", what, 0, record.flags & 1)?;
    }
    Ok(())
}

/// What is logged outside of any span is sent, too, the very last line included.
fn not_in_a_span(case: &Case) -> Outcome {
    let recording = case.ask("/fast").record()?;
    for words in ["connected to the queue", LAST] {
        let record = case.the_record(words, &recording)?;
        let ids = (record.trace_id, record.span_id);
        if ids != (None, None) {
            let sentence = "a record that was written outside of any span has ids";
            return Err(case
                .told("RECORD-IDS", sentence, "none", &format!("{ids:?}"))
                .into());
        }
        case.expect_severity(record, INFO)?;
    }
    Ok(())
}

/// Lines on stdout are those of step 08.
fn lines_as_before(case: &Case) -> Outcome {
    let recording = case.ask("/fast").record()?;
    for words in OF_A_REQUEST {
        case.expect_line_in(words, "GET /fast", &recording)?;
    }
    case.expect_ids_of_spans(&recording)
}

/// OTEL_LOGS_EXPORTER: where a record goes. Spans go where they went.
fn exporters(case: &Case) -> Outcome {
    for (value, to_stdout, to_receiver) in [
        ("otlp", false, true),
        ("", false, true),
        ("otlp_proto_http", false, true),
        ("console", true, false),
        ("console,otlp", true, true),
        ("none", false, false),
    ] {
        let recording = case
            .ask_alone()
            .variable("OTEL_LOGS_EXPORTER", value)
            .record()?;
        // The console exporter writes the record's body in words of its own.
        let body = format!("Body: String(Owned({LAST:?}))");
        let stdout = recording.exit.as_ref().map_or("", |exit| &exit.stdout);
        let got = (
            stdout.matches(&body).count(),
            recording
                .records()
                .filter(|record| record.body == Value::from(LAST))
                .count(),
        );
        let expected = (usize::from(to_stdout), usize::from(to_receiver));
        if got == (0, 0) && expected != got {
            let sentence = format!("with OTEL_LOGS_EXPORTER={value:?} a record goes nowhere");
            return Err(case.told("RECORDS", sentence, "one record", "none").into());
        }
        if got != expected {
            let sentence = format!("with OTEL_LOGS_EXPORTER={value:?} a record goes elsewhere");
            let tell =
                |(stdout, receiver)| format!("{stdout} to stdout, {receiver} to the receiver");
            return Err(case
                .told("LOGS-EXPORTER", sentence, &tell(expected), &tell(got))
                .into());
        }
        let what = format!("with OTEL_LOGS_EXPORTER={value:?}, the number of spans");
        case.expect("SPANS", &what, 1, recording.spans.len())?;
    }
    Ok(())
}

/// OTEL_SDK_DISABLED: neither spans nor log records.
fn disabled(case: &Case) -> Outcome {
    let recording = case
        .ask_alone()
        .variable("OTEL_SDK_DISABLED", "true")
        .record()?;
    let sent = recording.records().count();
    let what = "with OTEL_SDK_DISABLED=true, the number of log records";
    case.expect("DISABLED", what, 0, sent)?;
    let lines = recording.lines();
    case.the_line(LAST, &lines).map(|_| ())
}

/// Spans and records come from one process: one service, one instance.
fn resource(case: &Case) -> Outcome {
    let recording = case
        .ask_alone()
        .variable("OTEL_RESOURCE_ATTRIBUTES", "team=a%2Cb")
        .record()?;
    let record = case.the_record(LAST, &recording)?;
    let span = case.the_span("GET", &recording)?;
    for key in [
        attribute::SERVICE_NAME,
        attribute::SERVICE_VERSION,
        attribute::SERVICE_INSTANCE_ID,
        "team",
    ] {
        let (of_record, of_span) = (record.resource.attribute(key), span.resource.attribute(key));
        if of_record.is_none() || of_record != of_span {
            let sentence = format!("`{key}` of the records' resource is not that of the spans");
            let tell = |value: Option<&Value>| {
                value.map_or_else(|| "no such attribute".to_owned(), ToString::to_string)
            };
            return Err(case
                .told(
                    "RECORD-RESOURCE",
                    sentence,
                    &tell(of_span),
                    &tell(of_record),
                )
                .into());
        }
    }
    Ok(())
}

/// Who works for the exporter: the beginnings of their targets.
const OF_THE_EXPORTER: [&str; 5] = ["hyper", "h2", "opentelemetry", "reqwest", "rustls"];

fn is_of_the_exporter(target: &str) -> bool {
    OF_THE_EXPORTER.iter().any(|it| target.starts_with(it))
}

/// How many exports are waited for.
const EXPORTS: usize = 5;

/// At RUST_LOG=trace sending log records is logged, too. If that were sent, each export
/// would be the reason of the next.
fn no_feedback(case: &Case) -> Outcome {
    let lab = case.start_with(
        case.config(),
        &[("RUST_LOG", "trace"), ("OTEL_BLRP_SCHEDULE_DELAY", "50")],
    )?;
    lab.get("/fast")?;
    // Several exports, so that the later can tell of the earlier.
    for number in 1..=EXPORTS {
        lab.get("/nope")?;
        let export = lab.wait_for("an export", Duration::from_secs(5), |all| {
            let exports = all.requests().iter().filter(|request| request.logs > 0);
            (exports.count() >= number).then_some(())
        });
        if export.is_err() {
            let sentence =
                format!("after request {number} there were fewer exports of log records");
            return Err(case
                .told("RECORDS", sentence, &number.to_string(), "fewer")
                .into());
        }
    }
    let recording = lab.finish()?;
    // The SDK itself says a word at the start: who works for it tells more.
    let of_the_exporter = || {
        let records = recording.records();
        records.filter(|record| is_of_the_exporter(&record.scope.name))
    };
    let at_work = of_the_exporter().find(|record| !record.scope.name.starts_with("opentelemetry"));
    if let Some(record) = at_work.or_else(|| of_the_exporter().next()) {
        let sentence = "a log record tells how log records are sent";
        let got = format!("{}: {}", record.scope.name, record.body);
        return Err(case
            .told("FEEDBACK", sentence, "none of these targets", &got)
            .into());
    }
    // As many as lines: neither lost nor made up.
    let lines = lines_of_others(&recording);
    let what = "at RUST_LOG=trace, the number of log records";
    let sent = recording.records().count();
    let id = if sent < lines { "FILTERED" } else { "FEEDBACK" };
    case.expect(id, what, lines, sent)
}

/// How many lines on stdout are not of those who work for the exporter.
fn lines_of_others(recording: &Recording) -> usize {
    let is_other = |line: &LogLine| target(line).is_some_and(|it| !is_of_the_exporter(it));
    recording
        .lines()
        .iter()
        .filter(|line| is_other(line))
        .count()
}

/// `target` in `2026-11-25T08:22:49.064Z  INFO [trace_id=…] target: message`.
fn target(line: &LogLine) -> Option<&str> {
    let mut words = line.text.split_ascii_whitespace();
    let (_time, _level) = (words.next()?, words.next()?);
    let mut word = words.next()?;
    if word.starts_with('[') {
        word = words.find(|word| word.ends_with(']')).and(words.next())?;
    }
    word.strip_suffix(':')
}

/// The filter is for the exporter's targets alone, at all levels.
fn nothing_filtered(case: &Case) -> Outcome {
    let recording = case
        .ask("/fast")
        .variable("RUST_LOG", "info,lapin=trace")
        .record()?;
    case.the_record("message queued", &recording)?;
    let sent = recording.records().count();
    let lines = lines_of_others(&recording);
    if sent < lines {
        let sentence = "at RUST_LOG=info,lapin=trace not each line is a log record";
        return Err(case
            .told("FILTERED", sentence, &lines.to_string(), &sent.to_string())
            .into());
    }
    let recording = case.ask("/fast").variable("RUST_LOG", "off").record()?;
    let what = "with RUST_LOG=off, the number of log records";
    case.expect("FILTERED", what, 0, recording.records().count())
}

/// FLUSH_TIMEOUT_MS for a receiver that never answers. Nobody waits for its 3 s in each check.
const FLUSH_TIMEOUT: (&str, &str) = ("FLUSH_TIMEOUT_MS", "500");

/// How long a stop may take then. There is nothing to drain here, and a flush without a
/// deadline takes five seconds.
const IN_TIME: Duration = Duration::from_secs(4);

/// A receiver that takes and never answers: the process ends in time and says it.
fn receiver_hangs(case: &Case) -> Outcome {
    let config = LabConfig {
        stop_deadline: IN_TIME,
        ..case.alone()
    };
    let [spans, records] = LATE;
    let mut lab = case.start_with(config, &[spans, records, FLUSH_TIMEOUT])?;
    lab.receiver().set_behaviour(Behaviour::Hang);
    lab.get("/nope")?;
    match lab.stop() {
        Ok(exit) => told_once(case, &exit.stderr, "not sent within"),
        Err(LabError::DidNotStop { .. }) => Err(case
            .told(
                "LOST",
                "with a receiver that never answers, the process doesn't end in time",
                &format!(
                    "the end within {IN_TIME:?}, FLUSH_TIMEOUT_MS being {}",
                    FLUSH_TIMEOUT.1
                ),
                "still there",
            )
            .into()),
        Err(error) => Err(error.into()),
    }
}

/// A receiver that takes nothing, as from a sender without the right key: both losses are
/// told.
fn receiver_refuses(case: &Case) -> Outcome {
    let mut lab = case.start_with(case.alone(), &LATE)?;
    lab.receiver().set_behaviour(Behaviour::Status(403));
    lab.get("/nope")?;
    let exit = lab.stop()?;
    told_once(case, &exit.stderr, "tier1: the last spans were not sent")?;
    told_once(
        case,
        &exit.stderr,
        "tier1: the last log records were not sent",
    )
}

/// Nothing is sent before the end.
const LATE: [(&str, &str); 2] = [
    ("OTEL_BSP_SCHEDULE_DELAY", "60000"),
    ("OTEL_BLRP_SCHEDULE_DELAY", "60000"),
];

fn told_once(case: &Case, stderr: &str, words: &str) -> Outcome {
    let count = stderr.lines().filter(|line| line.contains(words)).count();
    if count == 1 {
        return Ok(());
    }
    let sentence = format!("{count} lines on stderr say {words:?}");
    Err(case.told("LOST", sentence, "one line", stderr).into())
}

/// One line each, and the default.
fn bad_values(case: &Case) -> Outcome {
    for name in [
        "OTEL_LOGS_EXPORTER",
        "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ] {
        let recording = case.ask_alone().variable(name, "s3cr3t").record()?;
        let stderr = recording.exit.as_ref().map(|exit| exit.stderr.as_str());
        let lines: Vec<_> = stderr
            .unwrap_or_default()
            .lines()
            .filter(|line| line.starts_with("tier1: OTEL_"))
            .collect();
        let says = format!("tier1: {name} must be ");
        if !matches!(lines[..], [line] if line.starts_with(&says) && !line.contains("s3cr3t")) {
            let sentence =
                format!("{name}=s3cr3t is not answered by one line that names the variable");
            return Err(case
                .told("CONFIG", sentence, &format!("{says}…"), &lines.join("\n"))
                .into());
        }
        case.the_record(LAST, &recording)?;
    }
    // Spans that can't be sent are no reason to lose records.
    let recording = case
        .ask_alone()
        .variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "no URL")
        .record()?;
    case.the_record(LAST, &recording)?;
    let stderr = recording.exit.as_ref().map_or("", |exit| &exit.stderr);
    let says = "tier1: no spans are sent: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT must be a URL";
    told_once(case, stderr, says)
}

/// LOG_SPAN_EVENTS: what is logged in a span is on the span, too.
fn span_events(case: &Case) -> Outcome {
    for (value, expected) in [("", 0), ("false", 0), ("true", OF_A_REQUEST.len())] {
        let recording = case
            .ask("/fast")
            .variable("LOG_SPAN_EVENTS", value)
            .record()?;
        let span = case.the_span("GET /fast", &recording)?;
        let what = format!("with LOG_SPAN_EVENTS={value:?}, the number of events on `GET /fast`");
        case.expect("SPAN-EVENTS", &what, expected, span.events.len())?;
    }
    Ok(())
}
