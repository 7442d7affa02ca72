//! The check of step 12, Cut short.

use std::time::Duration;

use lab::{
    CALLER_TRACE, Case, Exception, Fault, Kind, Lab, LabConfig, LabError, Outcome, Part, Recording,
    SpanType, StopSignal,
};
use opentelemetry_semantic_conventions::attribute;

fn main() -> std::process::ExitCode {
    lab::check!("12", "Cut short")
        .chapter("12-cut-short")
        .otherwise("server.rs", 2)
        .cause((Kind::Status, SpanType::HttpServer), "server.rs", 2, GUARD)
        .cause(
            (Kind::Attribute, SpanType::HttpServer),
            "server.rs",
            2,
            GUARD,
        )
        .cause(
            (
                Kind::Attribute,
                SpanType::HttpServer,
                attribute::HTTP_RESPONSE_STATUS_CODE,
            ),
            "server.rs",
            2,
            "A status code stands on the span if one was sent, and only then. If it is missing \
             where one was, the guard has ended the span before: it was dropped at once (`let _ \
             = …`). Give it a name.",
        )
        .cause(
            (
                Kind::Attribute,
                "GET /panic",
                attribute::HTTP_RESPONSE_STATUS_CODE,
            ),
            "routes.rs",
            4,
            OUTSIDE,
        )
        .cause(
            (Kind::Value, SpanType::HttpServer, attribute::ERROR_TYPE),
            "cut_short.rs",
            1,
            "Without an answer it is `cancelled`. With one it is the status code: if it is \
             `cancelled` there, the guard was dropped at once (`let _ = …`, `server.rs`, TODO 2).",
        )
        .cause(
            (Kind::Value, "GET /panic", attribute::ERROR_TYPE),
            "routes.rs",
            4,
            OUTSIDE,
        )
        // Without it no guard says anything.
        .before((Kind::Status, SpanType::HttpServer), "cut_short.rs", 1)
        .before(
            (Kind::Attribute, SpanType::HttpServer, attribute::ERROR_TYPE),
            "cut_short.rs",
            1,
        )
        .before((Kind::Status, SpanType::Publish), "cut_short.rs", 1)
        .before((Kind::Attribute, SpanType::Publish), "cut_short.rs", 1)
        .cause(
            (Kind::Status, SpanType::Publish),
            "queue.rs",
            3,
            "Unset says that the broker has confirmed. If it hasn't, is the guard held over the \
             `.await`? If it has: was the guard dropped at once (`let _ = …`)? Give it a name.",
        )
        .todo((Kind::Attribute, SpanType::Publish), "queue.rs", 3)
        .todo((Kind::Value, SpanType::Publish), "cut_short.rs", 1)
        .cause(
            (Kind::Status, SpanType::Internal),
            "cut_short.rs",
            1,
            "`spans.rs` holds the guard already: its `drop` is to say so, of a span that is \
             still recording.",
        )
        .todo((Kind::Attribute, SpanType::Internal), "cut_short.rs", 1)
        .todo((Kind::Value, SpanType::Internal), "cut_short.rs", 1)
        .cause(
            (Kind::Status, SpanType::HttpClient),
            "cut_short.rs",
            1,
            "A call that its own caller gave up is no error (HTTP conventions, \"Status\"): \
             `http.rs` stays as it is, without a guard.",
        )
        .named(
            "ANSWER",
            "routes.rs",
            4,
            "Without a layer that catches it, a panic ends the connection.",
        )
        .named("PANIC", "routes.rs", 4, RECORD)
        .named("EXCEPTIONS", "routes.rs", 4, RECORD)
        .named("RECORDED-TWICE", "routes.rs", 4, RECORD)
        .named("EXCEPTION", "routes.rs", 4, RECORD)
        .named("EXCEPTION-SPAN", "routes.rs", 4, RECORD)
        .named("LINES", "server.rs", 2, LINE)
        .named("IDS", "server.rs", 2, LINE)
        .named("JSON", "server.rs", 2, LINE)
        .named(
            "RESPONSE",
            "routes.rs",
            4,
            "`panics::layer` and `drain::answer` answer. They are given.",
        )
        // The longest comes early: the verdict waits for the last.
        .test("fast", fast)
        .test("timeout", timeout)
        .test("json_lines", json_lines)
        .test("drain", drain)
        .test("slow", slow)
        .test("hang_up_in_publish", hang_up_in_publish)
        .test("hang_up", hang_up)
        .test("panic", panic)
        .test("hang_up_unsampled", hang_up_unsampled)
        .test("error", error)
        .test("unknown_path", unknown_path)
        .test("caller", caller)
        .test("unsampled_caller", unsampled_caller)
        .run()
}

/// The cause of a SERVER span that says nothing.
const GUARD: &str = "Unset where Error is expected: what stands after the `.await` did not run, \
                     so the guard has to say it, held over the `.await` (TODO 2), in its `drop` \
                     (TODO 1). Error where Unset is expected: the guard was dropped at once, as \
                     by `let _ = …`.";

/// The cause of a panic whose request says too little.
const OUTSIDE: &str = "The layer that answers a panic is not inside of the one that makes the span: \
                       a layer is around what was added before it.";

/// The cause of a record that is another.
const RECORD: &str = "`panics.rs` makes one log record of a panic, `spans.rs` one of an error. \
                      They are given.";

/// The cause of a line that is another.
const LINE: &str = "Lines are those of step 08: `logging.rs` and `log_format.rs` are given.";

/// Longer than any test waits.
const NEVER: Duration = Duration::from_secs(60);

/// How long the system may take to get to where a test wants it.
const DEADLINE: Duration = Duration::from_secs(20);

/// How soon after a hang-up its spans are exported.
const SOON: Duration = Duration::from_secs(5);

/// What a request that goes well leaves behind: it is cut nowhere.
fn fast(case: &Case) -> Outcome {
    let recording = case.ask("/fast").record()?;
    lab::assert_traces!(case, "fast", &recording)?;
    case.expect_no_exception(&recording)
}

/// A guard that is held for long says nothing, either.
fn slow(case: &Case) -> Outcome {
    let recording = case.ask("/slow").record()?;
    case.expect_duration("do_tier2", case.config().slow_delay, &recording)?;
    lab::assert_traces!(case, "slow", &recording)
}

/// An error is told as before: where it failed, once.
fn error(case: &Case) -> Outcome {
    let recording = case.ask("/error").status(502).record()?;
    lab::assert_traces!(case, "error", &recording)?;
    let expected = Exception {
        span: "do_tier2",
        kind: "::http::HttpError",
        message: "tier2 answered 500",
    };
    case.expect_exception(&expected, &recording)
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

/// The caller hangs up while tier1 waits for saas.
fn hang_up(case: &Case) -> Outcome {
    let lab = case.start_with(saas_never_answers(case), SOON_EXPORTED)?;
    lab.get_and_hang_up("/fast", &[], || lab.wait_for_saas_asked(1, DEADLINE))?;
    // Before the service is told to stop: the span ends with the request.
    case.expect_span_within(&lab, "GET /fast", SOON)?;
    let recording = lab.finish()?;
    lab::assert_traces!(case, "hang_up", &recording)?;
    // Nothing is broken: no alert.
    case.expect_no_exception(&recording)?;
    case.show_with_records("GET /fast, and its caller hangs up", &recording);
    Ok(())
}

/// The caller hangs up while tier1 waits for the confirm: the message is in the queue.
fn hang_up_in_publish(case: &Case) -> Outcome {
    let lab = case.start_with(case.config().without(Part::Consumer), SOON_EXPORTED)?;
    case.connected(&lab)?;
    lab.take_messages()?;
    // Messages pass, confirms don't.
    lab.fault(Part::Queue, Fault::Delay(NEVER));
    let traceparent = lab::traceparent("01");
    lab.get_and_hang_up("/fast", &[("traceparent", &traceparent)], || {
        let started = std::time::Instant::now();
        while lab.take_messages()?.is_empty() {
            if started.elapsed() > DEADLINE {
                return Err(LabError::TimedOut {
                    what: "the message reaching the queue".to_owned(),
                    deadline: DEADLINE,
                });
            }
        }
        Ok(())
    })?;
    wait_for_callers_span(&lab, "publish signups")?;
    lab.fault(Part::Queue, Fault::None);
    let recording = only_the_callers(lab.finish()?);
    lab::assert_traces!(case, "hang_up_in_publish", &recording)
}

/// The caller decided against recording: there is nothing to say, and nothing breaks.
fn hang_up_unsampled(case: &Case) -> Outcome {
    let lab = case.start_with(saas_never_answers(case), &[])?;
    let traceparent = lab::traceparent("00");
    lab.get_and_hang_up("/fast", &[("traceparent", &traceparent)], || {
        lab.wait_for_saas_asked(1, DEADLINE)
    })?;
    let recording = lab.finish()?;
    lab::assert_traces!(case, "hang_up_unsampled", &recording)
}

/// tier1 itself gives up waiting for saas.
fn timeout(case: &Case) -> Outcome {
    let config = LabConfig {
        http_timeout: Duration::from_millis(500),
        ..saas_never_answers(case)
    };
    let recording = case.ask("/fast").config(config).status(504).record()?;
    lab::assert_traces!(case, "timeout", &recording)?;
    let expected = Exception {
        span: "do_saas",
        kind: "::http::HttpError",
        message: "saas did not answer in time",
    };
    case.expect_exception(&expected, &recording)?;
    case.show_with_records("GET /fast, and saas takes too long", &recording);
    Ok(())
}

/// A panic is answered, on record once, and the end of its request only.
fn panic(case: &Case) -> Outcome {
    let lab = case.start()?;
    let response = match lab.get("/panic") {
        Err(LabError::NoAnswer { reason, .. } | LabError::Panicked { told: reason, .. }) => {
            let sentence = "a request whose handler panics gets no answer";
            return Err(case.told("ANSWER", sentence, "500", &reason).into());
        }
        response => response?,
    };
    case.expect_response("GET /panic", 500, "tier1 failed", &response)?;
    // The service lives. From a caller who wants no spans: the trace is the panic's alone.
    let traceparent = lab::traceparent("00");
    let next = lab.request("GET", "/fast", &[("traceparent", &traceparent)])?;
    case.expect("STATUS", "the status of the next request", 200, next.status)?;
    let recording = lab.finish()?;
    lab::assert_traces!(case, "panic", &recording)?;
    let expected = Exception {
        span: "pure_bug",
        kind: "panic",
        message: "index out of bounds",
    };
    case.expect_exception(&expected, &recording)?;
    case.expect_line_in("panicked: index out of bounds", "pure_bug", &recording)?;
    expect_quiet_stderr(case, &recording)?;
    case.show_with_records("GET /panic", &recording);
    Ok(())
}

/// SIGTERM, and a request that takes longer than the drain, which is short here: nobody waits
/// for its 5 s in each check.
fn drain(case: &Case) -> Outcome {
    let lab = case.start_with(saas_never_answers(case), &[("DRAIN_TIMEOUT_MS", "500")])?;
    let response = std::thread::scope(|scope| {
        let request = scope.spawn(|| lab.get("/fast"));
        lab.wait_for_saas_asked(1, DEADLINE)?;
        lab.signal(StopSignal::Term)?;
        match request.join() {
            Ok(response) => response,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    case.expect_response("GET /fast", 503, "tier1 stops", &response)?;
    let recording = lab.finish()?;
    lab::assert_traces!(case, "drain", &recording)
}

/// What is logged outside of any request.
const OF_NO_REQUEST: [&str; 3] = [
    "Global tracer provider is set",
    "connected to the queue",
    "stopping, no new requests",
];

/// With LOG_FORMAT=json each line is an object, and each line of a request has the ids of
/// a span that came.
fn json_lines(case: &Case) -> Outcome {
    for (path, status) in [("/fast", 200), ("/slow", 200), ("/error", 502)] {
        let recording = case
            .ask(path)
            .status(status)
            .variable("LOG_FORMAT", "json")
            .record()?;
        for line in recording.lines() {
            if serde_json::from_str::<serde_json::Map<_, serde_json::Value>>(&line.text).is_err() {
                let sentence = "with LOG_FORMAT=json, a line is no JSON object";
                return Err(case.told("JSON", sentence, "{…}", &line.text).into());
            }
            let of_a_request = !OF_NO_REQUEST.iter().any(|it| line.text.contains(it));
            if of_a_request && line.ids.is_none() {
                let sentence = format!("a line of GET {path} has no ids");
                let expected = "trace_id, span_id and trace_flags of a span";
                return Err(case.told("IDS", sentence, expected, &line.text).into());
            }
        }
        case.expect_ids_of_spans(&recording)?;
    }
    Ok(())
}

/// Whether the panic is not told once more, by the hook that Rust has for it.
fn expect_quiet_stderr(case: &Case, recording: &Recording) -> Outcome {
    let stderr = recording
        .exit
        .as_ref()
        .map_or("", |exit| exit.stderr.as_str());
    if stderr.contains("panicked") {
        let sentence = "the panic is told on stderr, too";
        return Err(case.told("PANIC", sentence, "no word of it", stderr).into());
    }
    Ok(())
}

/// Spans are sent as soon as they have ended.
const SOON_EXPORTED: &[(&str, &str)] = &[("OTEL_BSP_SCHEDULE_DELAY", "50")];

/// A system where tier1 waits for saas until somebody gives up.
fn saas_never_answers(case: &Case) -> LabConfig {
    let mut config = case.config();
    config.saas.delay = NEVER;
    config.http_timeout = NEVER;
    config
}

/// Waits until the span of this name is there that belongs to the caller's trace. If it
/// doesn't come, the comparison that follows says so.
fn wait_for_callers_span(lab: &Lab, name: &str) -> Result<(), LabError> {
    let waited = lab.wait_for("the span", SOON, |snapshot| {
        let mut spans = snapshot.spans().iter();
        spans
            .find(|span| span.name == name && span.trace_id.to_string() == CALLER_TRACE)
            .map(|_| ())
    });
    match waited {
        Err(LabError::TimedOut { .. }) => Ok(()),
        waited => waited,
    }
}

/// Without the spans of requests that only made the connection to the queue.
fn only_the_callers(mut recording: Recording) -> Recording {
    recording
        .spans
        .retain(|span| span.trace_id.to_string() == CALLER_TRACE);
    recording
}
