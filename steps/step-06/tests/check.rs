//! The check of step 06, Messages out.

use std::time::{Duration, Instant};

use lab::{CALLER_TRACE, Case, Fault, Kind, LabConfig, Outcome, Part, SpanType};
use opentelemetry_semantic_conventions::attribute;
use otlp::{Span, SpanKind, StatusCode};

fn main() -> std::process::ExitCode {
    lab::check!("06", "Messages out")
        .chapter("06-messages-out")
        .otherwise("queue.rs", 2)
        .cause(
            Kind::InjectMessage,
            "queue.rs",
            3,
            "No `traceparent` is in the message's headers: the context is not injected or the \
             headers are not given to the message (TODO 3), or `set` inserts nothing, or not \
             under the key that it is given (TODO 1).",
        )
        .before(Kind::InjectMessage, "queue.rs", 1)
        .todo(Kind::InjectParent, "queue.rs", 3)
        .file(Kind::Inject, "http.rs")
        .todo(Kind::Split, "queue.rs", 3)
        .cause(
            (Kind::Split, SpanType::Publish),
            "queue.rs",
            2,
            "The span doesn't start under the current one: `start(tracer)` takes the current \
             context, an empty one begins a new trace.",
        )
        .todo(
            (Kind::Attribute, SpanType::Publish, attribute::ERROR_TYPE),
            "queue.rs",
            5,
        )
        .cause(
            Kind::Confirm,
            "queue.rs",
            4,
            "`end` is called before the broker has confirmed: first wait for the result of `send`.",
        )
        .todo(Kind::Status, "queue.rs", 5)
        .before(Kind::Status, "queue.rs", 4)
        .cause(
            Kind::Unexpected,
            "queue.rs",
            3,
            "Nobody told it that the caller decided against recording: the context must be \
             injected even if the span is not recorded.",
        )
        .before(Kind::Unexpected, "queue.rs", 2)
        .cause(
            (Kind::Unexpected, SpanType::Publish),
            "queue.rs",
            2,
            "The span doesn't start under the current one, so it doesn't know that the caller \
             decided against recording: `start(tracer)` takes the current context.",
        )
        .named(
            "HEADER",
            "queue.rs",
            3,
            "Each header is a long string, under the key that the propagator gives (TODO 1); \
             and no header is added that the propagator doesn't ask for (TODO 3).",
        )
        .of_all("HEADER")
        .named("RESPONSE", "queue.rs", 1, NOT_QUEUED)
        .named("STATUS", "queue.rs", 1, NOT_QUEUED)
        .named("MESSAGES", "queue.rs", 1, NOT_QUEUED)
        .named(
            "DESCRIPTION",
            "queue.rs",
            5,
            "`Status::error` takes the error's text: unlike a number it says more than the type.",
        )
        .named(
            "FAILED",
            "queue.rs",
            5,
            "A message is on its way until the broker has confirmed it: timeout, return and a \
             lost connection are the span's error. Is `end` called with the result, after the \
             timeout and not inside of it (TODO 4)? Does it look at it: the status, and \
             `error.error_type()` (TODO 5)?",
        )
        .of_all("FAILED")
        // The longest come early: the verdict waits for the last.
        .test("fast", fast)
        .test("no_confirm", no_confirm)
        .test("late_confirm", late_confirm)
        .test("slow", slow)
        .test("error", error)
        .test("unknown_path", unknown_path)
        .test("caller", caller)
        .test("unsampled_caller", unsampled_caller)
        .test("tier2_stopped", tier2_stopped)
        .test("message", message)
        .test("returned", returned)
        .test("lost", lost)
        .run()
}

/// Of a tier1 that can't queue its message any more.
const NOT_QUEUED: &str = "This step changes nothing of what tier1 answers. If it is 503 now: a \
    header that is no long string makes the broker close the connection, and the message is \
    lost (TODO 1).";

/// How late the confirm is made.
const LATE: Duration = Duration::from_millis(300);

/// How long a message may take to the queue.
const DEADLINE: Duration = Duration::from_secs(20);

/// The whole trace of the guide.
fn fast(case: &Case) -> Outcome {
    let recording = case.ask("/fast").record()?;
    lab::assert_traces!(case, "fast", &recording)?;
    case.show_traces("GET /fast", &recording);
    Ok(())
}

fn slow(case: &Case) -> Outcome {
    let recording = case.ask("/slow").record()?;
    lab::assert_traces!(case, "slow", &recording)
}

fn error(case: &Case) -> Outcome {
    let recording = case.ask("/error").record()?;
    lab::assert_traces!(case, "error", &recording)
}

fn unknown_path(case: &Case) -> Outcome {
    let recording = case.ask("/nope").status(404).record()?;
    lab::assert_traces!(case, "unknown_path", &recording)
}

fn caller(case: &Case) -> Outcome {
    let recording = case.ask("/fast").caller("01").record()?;
    lab::assert_traces!(case, "caller", &recording)
}

fn unsampled_caller(case: &Case) -> Outcome {
    let recording = case.ask("/fast").caller("00").record()?;
    lab::assert_traces!(case, "unsampled_caller", &recording)
}

fn tier2_stopped(case: &Case) -> Outcome {
    let config = case.config().without(Part::Tier2);
    let recording = case.ask("/fast").config(config).status(502).record()?;
    lab::assert_traces!(case, "tier2_stopped", &recording)
}

/// What lies in the queue: the header as text, and nothing that nobody asked for.
fn message(case: &Case) -> Outcome {
    let lab = case.start_with(case.config().without(Part::Consumer), &[])?;
    get_as_caller(&lab)?;
    let messages = lab.take_messages()?;
    case.expect("MESSAGES", "the number of messages", 1, messages.len())?;
    let headers = messages[0].headers_as_text();
    let recording = lab.finish()?;
    let named = |span: &&Span| span.name == "publish signups";
    if let Some(span) = recording.spans.iter().find(named)
        && span.kind != SpanKind::Producer
    {
        // Its context is not looked for in the message, then.
        let (sentence, got) = ("`publish signups` has another kind", span.kind.to_string());
        return Err(case
            .told(
                Kind::Kind.name(),
                sentence,
                SpanKind::Producer.as_str(),
                &got,
            )
            .into());
    }
    case.expect_message_context(&messages[0], &recording)?;
    let span = case.the_span("publish signups", &recording)?;
    let expected = format!(
        "traceparent: long string \"00-{}-{}-01\"",
        span.trace_id, span.span_id
    );
    if headers == expected {
        return Ok(());
    }
    let sentence = "the message's headers are not those of the span `publish signups`";
    Err(case.told("HEADER", sentence, &expected, &headers).into())
}

/// The span waits for the broker's word.
fn late_confirm(case: &Case) -> Outcome {
    let lab = case.start()?;
    case.connected(&lab)?;
    lab.fault(Part::Queue, Fault::Delay(LATE));
    get_as_caller(&lab)?;
    lab.fault(Part::Queue, Fault::None);
    let recording = only_the_callers(lab.finish()?);
    case.expect_confirm_covered(&recording, LATE)
}

fn no_confirm(case: &Case) -> Outcome {
    failed(case, "timeout", "did not confirm in time", |lab| {
        lab.fault(Part::Queue, Fault::Hold);
        Ok(())
    })
}

fn returned(case: &Case) -> Outcome {
    failed(case, "returned", "was returned", |lab| {
        Ok(lab.delete_queue()?)
    })
}

/// The connection breaks while the message waits for its confirm.
fn lost(case: &Case) -> Outcome {
    let lab = case.start_with(case.config().without(Part::Consumer), &[])?;
    case.connected(&lab)?;
    lab.take_messages()?;
    // Messages pass, confirms don't.
    lab.fault(Part::Queue, Fault::Delay(DEADLINE));
    let response = std::thread::scope(|scope| {
        let request = scope.spawn(|| get_as_caller(&lab));
        let started = Instant::now();
        while lab.take_messages()?.is_empty() && started.elapsed() < DEADLINE {}
        lab.fault(Part::Queue, Fault::Cut);
        match request.join() {
            Ok(response) => response,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    case.expect("STATUS", "the status of GET /fast", 503, response.status)?;
    lab.fault(Part::Queue, Fault::None);
    let recording = only_the_callers(lab.finish()?);
    expect_failed(
        case,
        &recording,
        &["connection_closed", "channel_closed", "_OTHER"],
        "was lost",
    )
}

/// A message that doesn't make it: Error, and one word for why.
fn failed(
    case: &Case,
    error_type: &str,
    text: &str,
    fault: impl FnOnce(&lab::Lab) -> Outcome,
) -> Outcome {
    let config = LabConfig {
        queue_timeout: Duration::from_millis(500),
        ..case.config().without(Part::Consumer)
    };
    let lab = case.start_with(config, &[])?;
    case.connected(&lab)?;
    fault(&lab)?;
    let response = get_as_caller(&lab)?;
    case.expect("STATUS", "the status of GET /fast", 503, response.status)?;
    lab.fault(Part::Queue, Fault::None);
    let recording = only_the_callers(lab.finish()?);
    expect_failed(case, &recording, &[error_type], text)
}

/// `text` is in the words of the error.
fn expect_failed(
    case: &Case,
    recording: &lab::Recording,
    error_types: &[&str],
    text: &str,
) -> Outcome {
    let failed = recording
        .spans
        .iter()
        .filter(|span| span.name == "publish signups" && span.status.code == StatusCode::Error);
    let failed: Vec<_> = failed.collect();
    let mut descriptions = failed.iter().map(|span| span.status.description.as_str());
    if let Some(got) = descriptions.find(|it| !it.contains(text)) {
        let sentence =
            "the status of a message that wasn't confirmed is not described by the error's text";
        let expected = format!("… {text} …");
        return Err(case.told("DESCRIPTION", sentence, &expected, got).into());
    }
    let types: Vec<_> = failed
        .iter()
        .map(|span| match span.attribute(attribute::ERROR_TYPE) {
            Some(otlp::Value::Str(text)) => text.clone(),
            _ => "none".to_owned(),
        })
        .collect();
    if types.len() == 1 && error_types.contains(&types[0].as_str()) {
        return Ok(());
    }
    let sentence = "a message that wasn't confirmed is not on record as that";
    let expected = format!(
        "one span `publish signups` with status Error and error.type {}",
        error_types.join(" or ")
    );
    let got = match types.len() {
        0 => "no span `publish signups` with status Error".to_owned(),
        _ => format!("error.type {}", types.join(", ")),
    };
    Err(case.told("FAILED", sentence, &expected, &got).into())
}

/// A request whose spans can be told from those of earlier ones.
fn get_as_caller(lab: &lab::Lab) -> Result<lab::Response, lab::LabError> {
    let traceparent = lab::traceparent("01");
    lab.request("GET", "/fast", &[("traceparent", &traceparent)])
}

fn only_the_callers(mut recording: lab::Recording) -> lab::Recording {
    recording
        .spans
        .retain(|span| span.trace_id.to_string() == CALLER_TRACE);
    recording
}
