//! The check of step 11, Errors that say so.

use std::time::Duration;

use lab::{CALLER_TRACE, Case, Exception, Kind, Outcome, Part, Recording, SpanType};
use opentelemetry_semantic_conventions::attribute;
use otlp::Span;

fn main() -> std::process::ExitCode {
    lab::check!("11", "Errors that say so")
        .chapter("11-errors-that-say-so")
        .otherwise("spans.rs", 2)
        .named(
            "STATUS",
            "tier2.rs",
            1,
            "What tier2 answers to `/error` still counts as an answer: `success()` makes an error \
             of it.",
        )
        .cause(
            Kind::Status,
            "spans.rs",
            2,
            "Of an error, `try_in_span` sets the status of the current span (TODO 2), and the \
             function is called in place of `in_span` (TODO 3).",
        )
        .cause(
            (Kind::Attribute, SpanType::Internal, attribute::ERROR_TYPE),
            "spans.rs",
            2,
            "Of an error, `try_in_span` sets `error.type` of the current span, and `error_type()` \
             says it.",
        )
        .cause((Kind::Status, "do_queue"), "queue.rs", 3, NOT_RED)
        .cause((Kind::Status, "do_saas"), "saas.rs", 3, NOT_RED)
        .cause((Kind::Status, "do_tier2"), "tier2.rs", 3, NOT_RED)
        // Of a function both are needed, and from outside they look alike.
        .before((Kind::Status, "do_queue"), "spans.rs", 2)
        .before((Kind::Status, "do_saas"), "spans.rs", 2)
        .before((Kind::Status, "do_tier2"), "spans.rs", 2)
        .cause(
            (Kind::Twice, SpanType::HttpServer),
            "spans.rs",
            2,
            "`try_in_span` sets it after `in_span`, when the span above is the current one.",
        )
        .named(
            "DESCRIPTION",
            "spans.rs",
            2,
            "`Status::error` takes the error's text: `error.to_string()`.",
        )
        .named(
            "EVENT",
            "spans.rs",
            2,
            "`span.record_error` and an event `exception` are the way that log records have \
             replaced. `record_exception` makes one: that is all.",
        )
        .named(
            "EXCEPTIONS",
            "spans.rs",
            2,
            "`try_in_span` doesn't make a record of the error (TODO 2), or isn't called (TODO 3).",
        )
        .named(
            "RECORDED-TWICE",
            "error.rs",
            4,
            "`into_response` logs the error once more.",
        )
        .named(
            "EXCEPTION",
            "spans.rs",
            2,
            "The record is that of `record_exception`, which knows the names.",
        )
        .named(
            "EXCEPTION-SPAN",
            "spans.rs",
            2,
            "The record is made in the work that `in_span` is given, where the span is current, \
             not after it.",
        )
        .test("fast", fast)
        .test("error", error)
        .test("slow", slow)
        .test("caller", caller)
        .test("tier2_stopped", tier2_stopped)
        .test("saas_fails", saas_fails)
        .test("saas_slow", saas_slow)
        .test("no_queue", no_queue)
        .test("callers_error", callers_error)
        .test("unsampled_caller", unsampled_caller)
        .run()
}

/// Why the span of a function that failed isn't red.
const NOT_RED: &str = "The function's work isn't given to `try_in_span` (TODO 3). Or it is, and \
                       `try_in_span` sets nothing yet, or only when the span is no longer the \
                       current one (`spans.rs`, TODO 2).";

/// Nothing failed.
fn fast(case: &Case) -> Outcome {
    let recording = case.ask("/fast").record()?;
    lab::assert_traces!(case, "fast", &recording)?;
    case.expect_no_exception(&recording)
}

/// tier2's error is the request's: 502, red from the root to where it failed.
fn error(case: &Case) -> Outcome {
    let recording = case.ask("/error").status(502).record()?;
    lab::assert_traces!(case, "error", &recording)?;
    let expected = Exception {
        span: "do_tier2",
        kind: "::http::HttpError",
        message: "tier2 answered 500",
    };
    told_once(case, &expected, &recording)?;
    case.expect_line_in("tier2 answered 500", "do_tier2", &recording)?;
    case.show_with_records("GET /error", &recording);
    Ok(())
}

/// By the log record, and by the status of the function's span.
fn told_once(case: &Case, expected: &Exception<'_>, recording: &Recording) -> Outcome {
    case.expect_exception(expected, recording)?;
    let span = case.the_span(expected.span, recording)?;
    if !span.status.description.contains(expected.message) {
        let sentence = format!("the status of `{}` doesn't say why", span.name);
        let got = match span.status.description.as_str() {
            "" => "no description",
            other => other,
        };
        let told = case.told("DESCRIPTION", sentence, expected.message, got);
        return Err(told.into());
    }
    const EVENT: &str = "exception";
    let has_it = |span: &&Span| span.events.iter().any(|event| event.name == EVENT);
    match recording.spans.iter().find(has_it) {
        Some(span) => {
            let sentence = format!("`{}` has the error as an event, too", span.name);
            let expected = "the log record alone";
            Err(case.told("EVENT", sentence, expected, EVENT).into())
        }
        None => Ok(()),
    }
}

/// As before, with the wait.
fn slow(case: &Case) -> Outcome {
    let recording = case.ask("/slow").record()?;
    lab::assert_traces!(case, "slow", &recording)?;
    case.expect_no_exception(&recording)
}

fn caller(case: &Case) -> Outcome {
    let recording = case.ask("/fast").caller("01").record()?;
    lab::assert_traces!(case, "caller", &recording)?;
    case.expect_no_exception(&recording)
}

fn tier2_stopped(case: &Case) -> Outcome {
    let config = case.config().without(Part::Tier2);
    let recording = case.ask("/fast").config(config).status(502).record()?;
    lab::assert_traces!(case, "tier2_stopped", &recording)?;
    let expected = Exception {
        span: "do_tier2",
        kind: "::http::HttpError",
        message: "tier2 did not answer",
    };
    told_once(case, &expected, &recording)
}

/// What was not reached has no span, and what went well before is no error.
fn saas_fails(case: &Case) -> Outcome {
    let mut config = case.config();
    config.saas.status = 503;
    let recording = case.ask("/fast").config(config).status(502).record()?;
    lab::assert_traces!(case, "saas_fails", &recording)?;
    let expected = Exception {
        span: "do_saas",
        kind: "::http::HttpError",
        message: "saas answered 503",
    };
    told_once(case, &expected, &recording)
}

/// No answer in time.
fn saas_slow(case: &Case) -> Outcome {
    let mut config = case.config();
    config.http_timeout = Duration::from_millis(300);
    config.saas.delay = Duration::from_secs(5);
    let recording = case.ask("/fast").config(config).status(504).record()?;
    lab::assert_traces!(case, "saas_slow", &recording)?;
    let expected = Exception {
        span: "do_saas",
        kind: "::http::HttpError",
        message: "saas did not answer in time",
    };
    told_once(case, &expected, &recording)
}

/// Two spans say that it failed, and one record.
fn no_queue(case: &Case) -> Outcome {
    let mut config = case.config().without(Part::Queue);
    config.queue_timeout = Duration::from_millis(300);
    let recording = case.ask("/fast").config(config).status(503).record()?;
    lab::assert_traces!(case, "no_queue", &recording)?;
    let expected = Exception {
        span: "do_queue",
        kind: "::queue::QueueError",
        message: "the queue did not confirm in time",
    };
    told_once(case, &expected, &recording)
}

/// A 404 is the caller's error, and no exception.
fn callers_error(case: &Case) -> Outcome {
    let recording = case.ask("/nope").status(404).record()?;
    lab::assert_traces!(case, "callers_error", &recording)?;
    case.expect_no_exception(&recording)
}

/// Not recorded as spans, but told: the record has the caller's trace id.
fn unsampled_caller(case: &Case) -> Outcome {
    let recording = case.ask("/error").caller("00").status(502).record()?;
    lab::assert_traces!(case, "unsampled_caller", &recording)?;
    let record = case.the_error("of the caller's trace", &recording)?;
    let got = record
        .trace_id
        .map_or_else(String::new, |id| id.to_string());
    case.expect(
        "EXCEPTION-SPAN",
        "the trace of the error's log record",
        CALLER_TRACE,
        got.as_str(),
    )
}
