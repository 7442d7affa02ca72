//! The check of step 05, Requests out.

use std::time::Duration;

use lab::{Case, Kind, Lab, Outcome, Part, SpanType};
use opentelemetry_semantic_conventions::attribute;
use otlp::{Span, SpanKind, StatusCode};

fn main() -> std::process::ExitCode {
    lab::check!("05", "Requests out")
        .chapter("05-requests-out")
        .otherwise("http.rs", 1)
        .cause(
            Kind::Status,
            "http.rs",
            4,
            "`end` isn't called with the result (TODO 3), or doesn't look at it (TODO 4). A CLIENT \
             span is Error from 400 on, and if there was no answer.",
        )
        .cause(
            (
                Kind::Attribute,
                SpanType::HttpClient,
                attribute::HTTP_RESPONSE_STATUS_CODE,
            ),
            "http.rs",
            4,
            "`end` isn't called with the result (TODO 3), or doesn't look at it (TODO 4).",
        )
        // The call of `end` and what it does show together only.
        .before((Kind::Status, SpanType::HttpClient), "http.rs", 3)
        .before(
            (
                Kind::Attribute,
                SpanType::HttpClient,
                attribute::HTTP_RESPONSE_STATUS_CODE,
            ),
            "http.rs",
            3,
        )
        .todo(
            (Kind::Attribute, SpanType::HttpClient, attribute::ERROR_TYPE),
            "http.rs",
            4,
        )
        .cause(
            (Kind::Value, SpanType::HttpClient, attribute::ERROR_TYPE),
            "http.rs",
            4,
            "After a 4xx or 5xx it is the number alone, `status.as_str()`: the text of the \
             status has its reason in it, too. Without an answer it is what \
             `attributes::call_error_type` says.",
        )
        .todo(
            (
                Kind::Type,
                SpanType::HttpClient,
                attribute::HTTP_RESPONSE_STATUS_CODE,
            ),
            "http.rs",
            4,
        )
        .todo(Kind::Inject, "http.rs", 2)
        .todo(Kind::InjectParent, "http.rs", 2)
        .cause(
            Kind::Missing,
            "http.rs",
            1,
            "No span is started for the request. (One that is started ends at the latest when \
             it is dropped.)",
        )
        .cause(
            Kind::Split,
            "http.rs",
            1,
            "The span doesn't start under the current one: `start(tracer)` takes the current \
             context, an empty one begins a new trace.",
        )
        .cause(
            (Kind::Unexpected, SpanType::HttpClient),
            "http.rs",
            1,
            "The span doesn't start under the current one, so it doesn't know that the caller \
             decided against recording: `start(tracer)` takes the current context.",
        )
        .cause(
            (Kind::Unexpected, SpanType::HttpServer),
            "http.rs",
            2,
            "Nobody told it that the caller decided against recording: the context must be \
             injected even if the span is not recorded.",
        )
        .before((Kind::Unexpected, SpanType::HttpServer), "http.rs", 1)
        .named(
            "MISSING",
            "http.rs",
            1,
            "No span is started for the request.",
        )
        .named(
            "SECRET",
            "http.rs",
            1,
            "`attributes::of_call` leaves out what gives access; the URL itself doesn't.",
        )
        .named(
            "DESCRIPTION",
            "http.rs",
            4,
            "`Status::error` takes a description: it must be empty.",
        )
        .named(
            "SPAN",
            "http.rs",
            4,
            "A call that nobody answers in time has no status code, and failed nevertheless: \
             the status of its span is Error.",
        )
        // The longest come early: the verdict waits for the last.
        .test("fast", fast)
        .test("saas_slow", saas_slow)
        .test("slow", slow)
        .test("error", error)
        .test("unknown_path", unknown_path)
        .test("caller", caller)
        .test("unsampled_caller", unsampled_caller)
        .test("saas_fails", saas_fails)
        .test("saas_knows_nothing", saas_knows_nothing)
        .test("tier2_stopped", tier2_stopped)
        .test("secrets", secrets)
        .run()
}

/// One trace through tier1, tier2 and its database.
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

/// The lie, to be seen: red under a green root.
fn error(case: &Case) -> Outcome {
    let recording = case.ask("/error").record()?;
    lab::assert_traces!(case, "error", &recording)?;
    let call = call(case, &recording, StatusCode::Error)?;
    case.expect(
        "DESCRIPTION",
        "the description of the status, which would only repeat the number,",
        "",
        call.status.description.as_str(),
    )
}

fn unknown_path(case: &Case) -> Outcome {
    let recording = case.ask("/nope").status(404).record()?;
    lab::assert_traces!(case, "unknown_path", &recording)
}

/// The caller's trace goes on through tier1 to tier2.
fn caller(case: &Case) -> Outcome {
    let recording = case.ask("/fast").caller("01").record()?;
    lab::assert_traces!(case, "caller", &recording)
}

/// The caller's decision, too: tier2 makes no span, because it was told so.
fn unsampled_caller(case: &Case) -> Outcome {
    let recording = case.ask("/fast").caller("00").record()?;
    lab::assert_traces!(case, "unsampled_caller", &recording)
}

/// A 5xx of the other is an error of the call, with the number as its type.
fn saas_fails(case: &Case) -> Outcome {
    let mut config = case.config();
    config.saas.status = 503;
    let recording = case.ask("/fast").config(config).status(502).record()?;
    lab::assert_traces!(case, "saas_fails", &recording)
}

/// And so is a 4xx: for the one who calls.
fn saas_knows_nothing(case: &Case) -> Outcome {
    let mut config = case.config();
    config.saas.status = 404;
    let recording = case.ask("/fast").config(config).status(502).record()?;
    lab::assert_traces!(case, "saas_knows_nothing", &recording)
}

/// No answer, no status code, but a type.
fn tier2_stopped(case: &Case) -> Outcome {
    let config = case.config().without(Part::Tier2);
    let recording = case.ask("/fast").config(config).status(502).record()?;
    lab::assert_traces!(case, "tier2_stopped", &recording)
}

/// No answer in time is an error of the call, too, with a name as its type.
fn saas_slow(case: &Case) -> Outcome {
    let mut config = case.config();
    config.http_timeout = Duration::from_millis(300);
    config.saas.delay = Duration::from_secs(5);
    let recording = case.ask("/fast").config(config).status(504).record()?;
    let call = call(case, &recording, StatusCode::Error)?;
    case.expect_attribute(call, attribute::ERROR_TYPE, "timeout")
}

/// User, password and signatures of a URL are on no span.
fn secrets(case: &Case) -> Outcome {
    let mut lab = Lab::start(case.config())?;
    let saas = lab.variables();
    let saas = saas.iter().find(|(name, _)| name == "SAAS_URL");
    let saas = saas.map(|(_, url)| url.as_str()).unwrap_or_default();
    let host = saas.trim_start_matches("http://");
    let url = format!("http://user:s3cr3t@{host}/?sig=s3cr3t&page=1");
    lab.spawn(case.program(), &[("SAAS_URL", &url)])?;
    lab.get("/fast")?;
    let recording = lab.finish()?;
    let urls: Vec<_> = recording
        .spans
        .iter()
        .filter_map(|span| span.attribute(attribute::URL_FULL))
        .map(ToString::to_string)
        .collect();
    // reqwest takes user and password out of the URL before a middleware sees it.
    let expected = ["", "REDACTED:REDACTED@"]
        .map(|user| format!("\"http://{user}{host}/api/v2/summary.json?sig=REDACTED&page=1\""));
    if urls.iter().any(|url| expected.contains(url)) {
        return Ok(());
    }
    if urls.is_empty() {
        return Err(no_call(case));
    }
    let sentence = "`url.full` of the call of saas is not the URL without what gives access";
    Err(case
        .told("SECRET", sentence, &expected[0], &urls.join("\n"))
        .into())
}

/// What tier1 is called; tier2 makes CLIENT spans, too.
const SUBJECT: &str = "tier1-service";

/// The call that ended so.
fn call<'a>(
    case: &Case,
    recording: &'a lab::Recording,
    status: StatusCode,
) -> Result<&'a Span, lab::Failure> {
    // By its kind alone: what it is called, the trees tell.
    let is_call = |span: &&Span| span.kind == SpanKind::Client && span.service() == SUBJECT;
    if !recording.spans.iter().any(|span| is_call(&span)) {
        return Err(no_call(case));
    }
    let mut calls = recording.spans.iter().filter(is_call);
    calls
        .find(|span| span.status.code == status)
        .ok_or_else(|| {
            case.diagnosis(
                "SPAN",
                format!("there is no call `GET` with status {status}"),
            )
            .into()
        })
}

/// As the comparison of trees says it.
fn no_call(case: &Case) -> lab::Failure {
    let sentence = "CLIENT spans `GET` of tier1-service are missing";
    case.diagnosis(Kind::Missing.name(), sentence).into()
}
