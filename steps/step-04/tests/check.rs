//! The check of step 04, Requests in.

use lab::{CALLER_SPAN, CALLER_TRACE, Case, Kind, Outcome, Part, SpanType};
use opentelemetry_semantic_conventions::attribute;

fn main() -> std::process::ExitCode {
    lab::check!("04", "Requests in")
        .chapter("04-requests-in")
        .otherwise("server.rs", 3)
        .todo(Kind::Name, "server.rs", 5)
        .todo(Kind::Status, "server.rs", 6)
        .cause(
            (Kind::Value, SpanType::HttpServer, attribute::ERROR_TYPE),
            "server.rs",
            6,
            "It is the number as text: `as_str()`, while `to_string()` has the reason, too.",
        )
        .named(
            "LAYER",
            "routes.rs",
            7,
            "The layer of step 02 is still on the router: `server::trace` comes in its place.",
        )
        .cause(
            (
                Kind::Attribute,
                SpanType::HttpServer,
                attribute::HTTP_RESPONSE_STATUS_CODE,
            ),
            "server.rs",
            6,
            "`end` isn't called, or doesn't set it. (Without `end` a span ends when it is dropped.)",
        )
        .todo(
            (Kind::Attribute, SpanType::HttpServer, attribute::ERROR_TYPE),
            "server.rs",
            6,
        )
        .todo(
            (
                Kind::Type,
                SpanType::HttpServer,
                attribute::HTTP_RESPONSE_STATUS_CODE,
            ),
            "server.rs",
            6,
        )
        .todo((Kind::Attribute, SpanType::HttpServer), "server.rs", 3)
        .cause(
            (Kind::Attribute, SpanType::HttpServer, attribute::CLIENT_ADDRESS),
            "main.rs",
            8,
            "axum tells the caller's address only if it is asked to.",
        )
        .cause(
            Kind::Parent,
            "server.rs",
            2,
            "The caller's context isn't extracted (TODO 2), isn't what the span starts under \
             (TODO 3), or no propagator is set (telemetry.rs, TODO 1).",
        )
        .named(
            "TRACEPARENT",
            "telemetry.rs",
            1,
            "No propagator is set, or not the strict one of `w3c.rs` (TODO 1); or the caller's \
             context isn't extracted (server.rs, TODO 2) or not what the span starts under (TODO 3).",
        )
        .named(
            "TRACESTATE",
            "telemetry.rs",
            1,
            "No propagator is set, or not the strict one of `w3c.rs` (TODO 1); or the caller's \
             context isn't extracted (server.rs, TODO 2) or not what the span starts under (TODO 3).",
        )
        .named(
            "PARENT",
            "server.rs",
            2,
            "The span doesn't start under the caller's context.",
        )
        .named(
            "SPANS",
            "server.rs",
            5,
            "A span is made of each request, and its name holds the route, never the path.",
        )
        .named(
            "HEALTHCHECK",
            "routes.rs",
            7,
            "A layer wraps what was added before it: a route after it has none.",
        )
        .named(
            "DESCRIPTION",
            "server.rs",
            6,
            "`Status::error` takes a description: it must be empty.",
        )
        .test("fast", fast)
        .test("slow", slow)
        .test("error", error)
        .test("unknown_path", unknown_path)
        .test("wrong_method", wrong_method)
        .test("odd_method", odd_method)
        .test("tier2_stopped", tier2_stopped)
        .test("caller", caller)
        .test("unsampled_caller", unsampled_caller)
        .test("odd_traceparents", odd_traceparents)
        .test("tracestate", tracestate)
        .test("query", query)
        .test("healthcheck", healthcheck)
        .run()
}

fn fast(case: &Case) -> Outcome {
    let recording = case.ask("/fast").record()?;
    own(case, &recording)?;
    lab::assert_traces!(case, "fast", &recording)
}

fn slow(case: &Case) -> Outcome {
    let recording = case.ask("/slow").record()?;
    own(case, &recording)?;
    lab::assert_traces!(case, "slow", &recording)?;
    case.expect_duration("GET /slow", case.config().slow_delay, &recording)
}

fn error(case: &Case) -> Outcome {
    let recording = case.ask("/error").record()?;
    own(case, &recording)?;
    lab::assert_traces!(case, "error", &recording)
}

/// The method alone: the path is the caller's.
fn unknown_path(case: &Case) -> Outcome {
    let recording = case.ask("/nope").status(404).record()?;
    own(case, &recording)?;
    lab::assert_traces!(case, "unknown_path", &recording)
}

/// A known path, asked for by a method that it doesn't have.
fn wrong_method(case: &Case) -> Outcome {
    let recording = case.ask("/fast").method("POST").status(405).record()?;
    own(case, &recording)?;
    lab::assert_traces!(case, "wrong_method", &recording)
}

/// A method that nobody knows: `_OTHER`, and what it was.
fn odd_method(case: &Case) -> Outcome {
    let recording = case.ask("/fast").method("FOO").status(405).record()?;
    own(case, &recording)?;
    lab::assert_traces!(case, "odd_method", &recording)
}

/// tier1's own failure: an error, with its type and without a description.
fn tier2_stopped(case: &Case) -> Outcome {
    let config = case.config().without(Part::Tier2);
    let recording = case.ask("/fast").config(config).status(502).record()?;
    own(case, &recording)?;
    lab::assert_traces!(case, "tier2_stopped", &recording)?;
    let span = case.the_span("GET /fast", &recording)?;
    case.expect(
        "DESCRIPTION",
        "the description of the status, which would only repeat the number,",
        "",
        span.status.description.as_str(),
    )
}

/// Under the span of whoever called.
fn caller(case: &Case) -> Outcome {
    let recording = case.ask("/fast").caller("01").record()?;
    own(case, &recording)?;
    lab::assert_traces!(case, "caller", &recording)?;
    let span = case.the_span("GET /fast", &recording)?;
    let ids = (
        span.trace_id.to_string(),
        span.parent_span_id.map(|id| id.to_string()),
    );
    let expected = (CALLER_TRACE.to_owned(), Some(CALLER_SPAN.to_owned()));
    if ids == expected {
        case.show_traces("GET /fast with a caller's traceparent", &recording);
        return Ok(());
    }
    Err(case
        .told(
            "PARENT",
            "`GET /fast` is not under the caller's span",
            &format!("trace {CALLER_TRACE}\nparent {CALLER_SPAN}"),
            &format!(
                "trace {}\nparent {}",
                ids.0,
                ids.1.as_deref().unwrap_or("none")
            ),
        )
        .into())
}

/// The caller has decided that nobody records this one.
fn unsampled_caller(case: &Case) -> Outcome {
    let recording = case.ask("/fast").caller("00").record()?;
    own(case, &recording)?;
    lab::assert_traces!(case, "unsampled_caller", &recording)
}

/// What a `traceparent` is as good as none for, and what not.
fn odd_traceparents(case: &Case) -> Outcome {
    const T: &str = CALLER_TRACE;
    const P: &str = CALLER_SPAN;
    let zeros = "0".repeat(32);
    let upper = T.to_uppercase();
    let invalid = [
        String::new(),
        "garbage".to_owned(),
        format!("00-{}-{P}-01", &T[1..]),
        format!("00-{T}0-{P}-01"),
        format!("00-{T}-{}-01", &P[1..]),
        format!("00-{T}-{P}0-01"),
        format!("00-42-{P}-01"),
        format!("00-+{}-{P}-01", &T[1..]),
        format!("00-{T}-+{}-01", &P[1..]),
        format!("00-{zeros}-{P}-01"),
        format!("00-{T}-{}-01", &zeros[..16]),
        format!("00-{upper}-{P}-01"),
        format!("00-{T}-{}-01", P.to_uppercase()),
        format!("00-{T}-{P}"),
        format!("00-{T}-{P}-"),
        format!("00-{T}-{P}-1"),
        format!("00-{T}-{P}-001"),
        format!("00-{T}-{P}-0G"),
        format!("00-{T}-{P}-01-"),
        format!("00-{T}-{P}-01-more"),
        format!("0-{T}-{P}-01"),
        format!("000-{T}-{P}-01"),
        format!("ff-{T}-{P}-01"),
        format!("FE-{T}-{P}-01"),
        format!("cc-{T}-{P}-01more"),
        format!("00-{T}_{P}-01"),
    ];
    let valid = [
        format!("00-{T}-{P}-01"),
        format!("00-{T}-{P}-03"),
        format!("00-{T}-{P}-ff"),
        format!("  00-{T}-{P}-01\t"),
        format!("cc-{T}-{P}-01"),
        format!("cc-{T}-{P}-01-what-comes-later"),
    ];
    let lab = case.start()?;
    let mut requests: Vec<(Vec<(&str, &str)>, bool)> = Vec::new();
    for header in &invalid {
        requests.push((vec![("traceparent", header)], false));
    }
    for header in &valid {
        requests.push((vec![("traceparent", header)], true));
    }
    // Twice: who is to say which one counts?
    let twice = ("traceparent", valid[0].as_str());
    requests.push((vec![twice, twice], false));
    for (headers, _) in &requests {
        lab.request("GET", "/nope", headers)?;
    }
    let recording = lab.finish()?;
    own(case, &recording)?;
    let spans: Vec<_> = recording
        .spans
        .iter()
        .filter(|span| span.name == "GET")
        .collect();
    case.expect(
        "SPANS",
        "the number of spans `GET`, one for each request to an unknown path,",
        requests.len(),
        spans.len(),
    )?;
    // One after the other on one connection each: they ended in the order of the requests.
    for (span, (headers, is_valid)) in spans.iter().zip(&requests) {
        let is_under = span.parent_span_id.is_some_and(|id| id.to_string() == P)
            && span.trace_id.to_string() == T;
        if is_under != *is_valid || (!is_valid && span.parent_span_id.is_some()) {
            let what = headers
                .iter()
                .map(|(name, value)| format!("{name}: {value:?}"))
                .collect::<Vec<_>>()
                .join(" and ");
            let (expected, got) = if *is_valid {
                ("under the caller's span", "not under it")
            } else {
                (
                    "a new trace: an invalid header is as good as none",
                    "a parent",
                )
            };
            let sentence = format!("with {what} the span is in the wrong trace");
            return Err(case.told("TRACEPARENT", sentence, expected, got).into());
        }
    }
    Ok(())
}

/// The list that goes along: kept as it is, cut if it is too long, dropped if it can't
/// be read; and never a reason to lose `traceparent`.
fn tracestate(case: &Case) -> Outcome {
    let many = (0..40).map(|n| format!("k{n}=v")).collect::<Vec<_>>();
    let long = format!("big={},small=1", "x".repeat(200));
    let huge = (0..30).map(|n| format!("key{n}={}", "y".repeat(60)));
    let huge = huge.collect::<Vec<_>>();
    let cases = [
        ("a=1,b=2".to_owned(), "a=1,b=2".to_owned()),
        (many.join(","), many[..32].join(",")),
        // All of it is less than 512 characters: nothing needs to go.
        (long.clone(), long),
        // Seven members of 65 characters or so, with their commas, are less than 512.
        (huge.join(","), huge[..7].join(",")),
        ("no list".to_owned(), String::new()),
        (String::new(), String::new()),
    ];
    let lab = case.start()?;
    let traceparent = lab::traceparent("01");
    for (state, _) in &cases {
        let headers = [("traceparent", traceparent.as_str()), ("tracestate", state)];
        lab.request("GET", "/nope", &headers)?;
    }
    let recording = lab.finish()?;
    own(case, &recording)?;
    let spans: Vec<_> = recording
        .spans
        .iter()
        .filter(|span| span.trace_id.to_string() == CALLER_TRACE)
        .collect();
    case.expect(
        "TRACESTATE",
        "the number of spans in the caller's trace: a bad tracestate must not harm traceparent, and it",
        cases.len(),
        spans.len(),
    )?;
    for (span, (sent, expected)) in spans.iter().zip(&cases) {
        if span.trace_state != *expected {
            let sentence = format!(
                "the tracestate of {} characters has become another",
                sent.len()
            );
            return Err(case
                .told("TRACESTATE", sentence, expected, &span.trace_state)
                .into());
        }
    }
    Ok(())
}

/// What gives access is no attribute. Who asks is one.
fn query(case: &Case) -> Outcome {
    let recording = case
        .ask("/fast?user=7&sig=s3cr3t&X-Amz-Signature=s3cr3t&signal=1")
        .header("user-agent", "check/1.0")
        .record()?;
    let span = case.the_span("GET /fast", &recording)?;
    let redacted = "user=7&sig=REDACTED&X-Amz-Signature=REDACTED&signal=1";
    case.expect_attribute(span, attribute::URL_QUERY, redacted)?;
    case.expect_attribute(span, attribute::USER_AGENT_ORIGINAL, "check/1.0")
}

/// Probes come every few seconds: no span for them.
fn healthcheck(case: &Case) -> Outcome {
    let recording = case.ask("/healthcheck").record()?;
    case.expect(
        "HEALTHCHECK",
        "the number of spans of GET /healthcheck",
        0,
        recording.spans.len(),
    )
}

/// Whether tier1's spans are its own, not those of the layer of step 02.
fn own(case: &Case, recording: &lab::Recording) -> Outcome {
    const LAYER: &str = "opentelemetry-instrumentation-tower";
    if recording.spans.iter().all(|span| span.scope.name != LAYER) {
        return Ok(());
    }
    let sentence = "spans are still made by the ready-made layer";
    let got = format!("spans of the scope {LAYER}");
    Err(case
        .told("LAYER", sentence, "spans of `server.rs`", &got)
        .into())
}
