//! The check of step 02, The first span.

use std::time::{Duration, Instant};

use lab::{Case, Kind, Outcome, Part};
use otlp::Span;

fn main() -> std::process::ExitCode {
    lab::check!("02", "The first span")
        .chapter("02-the-first-span")
        .otherwise("telemetry.rs", 2)
        .cause(
            Kind::Nothing,
            "telemetry.rs",
            1,
            "No provider is global, or it has no exporter, or one that is told an address by \
             the code (telemetry.rs); `init` isn't called (main.rs, TODO 3); or the layer is \
             missing, or comes before the routes (routes.rs, TODO 4): it wraps only what was \
             added before it.",
        )
        .todo(Kind::Service, "telemetry.rs", 2)
        .cause(
            Kind::Missing,
            "routes.rs",
            4,
            "The layer wraps what was added to the router before it: it must come after the routes.",
        )
        .cause(
            Kind::Name,
            "routes.rs",
            4,
            "The layer knows the route only of what was added before it.",
        )
        .named(
            "LAYER",
            "routes.rs",
            4,
            "The layer wraps what was added to the router before it: it comes after the routes.",
        )
        .named(
            "PANIC",
            "telemetry.rs",
            2,
            "A processor that exports in the middle of a request can't use a blocking client: it \
             is `with_batch_exporter`, not `with_simple_exporter`.",
        )
        .named(
            "TOLD",
            "main.rs",
            3,
            "The error of `init` isn't said (TODO 3), or isn't this one (telemetry.rs, TODO 1).",
        )
        .named(
            "CONSOLE",
            "telemetry.rs",
            2,
            "The provider has no exporter to stdout beside the one for OTLP.",
        )
        .test("fast", fast)
        .test("slow", slow)
        .test("error", error)
        .test("tier2_stopped", tier2_stopped)
        .test("unknown_path", unknown_path)
        .test("caller", caller)
        .test("unsampled_caller", unsampled_caller)
        .test("routes", routes)
        .test("console", console)
        .test("bad_endpoint", bad_endpoint)
        .run()
}

/// How long a span may take to where it goes, in the background.
const PATIENCE: Duration = Duration::from_secs(5);

fn fast(case: &Case) -> Outcome {
    let recording = case.ask("/fast").patiently().record()?;
    lab::assert_traces!(case, "fast", &recording)?;
    case.show_traces("GET /fast", &recording);
    Ok(())
}

/// The span covers all that the handler did.
fn slow(case: &Case) -> Outcome {
    let recording = case.ask("/slow").patiently().record()?;
    lab::assert_traces!(case, "slow", &recording)?;
    case.expect_duration("GET /slow", case.config().slow_delay, &recording)
}

/// Still the lie: 200 on the span, too.
fn error(case: &Case) -> Outcome {
    let recording = case.ask("/error").patiently().record()?;
    lab::assert_traces!(case, "error", &recording)
}

fn tier2_stopped(case: &Case) -> Outcome {
    let config = case.config().without(Part::Tier2);
    let recording = case
        .ask("/fast")
        .config(config)
        .status(502)
        .patiently()
        .record()?;
    lab::assert_traces!(case, "tier2_stopped", &recording)
}

/// A path that nobody knows is no part of a name.
fn unknown_path(case: &Case) -> Outcome {
    let recording = case.ask("/nope").status(404).patiently().record()?;
    lab::assert_traces!(case, "unknown_path", &recording)
}

/// Whoever calls is not heard yet: no propagator is set.
fn caller(case: &Case) -> Outcome {
    let recording = case.ask("/fast").caller("01").patiently().record()?;
    lab::assert_traces!(case, "caller", &recording)
}

/// Nobody hears what the caller decided, so the span is recorded.
fn unsampled_caller(case: &Case) -> Outcome {
    let recording = case.ask("/fast").caller("00").patiently().record()?;
    lab::assert_traces!(case, "unsampled_caller", &recording)
}

/// The layer makes a span of each request, be its path known or not. One that sees
/// only the unknown ones comes before the routes.
fn routes(case: &Case) -> Outcome {
    let lab = case.start_with(case.config(), &[("OTEL_BSP_SCHEDULE_DELAY", "50")])?;
    lab.get("/nope")?;
    lab.get("/fast")?;
    let names = |spans: &[Span]| -> Vec<String> {
        let own = spans.iter().filter(|span| is_own(span));
        own.map(|span| span.name.clone()).collect()
    };
    // What doesn't come is told below.
    let _ = lab.wait_for("two spans", PATIENCE, |snapshot| {
        (names(snapshot.spans()).len() >= 2).then_some(())
    });
    let names = names(&lab.finish()?.spans);
    if names.contains(&"GET".to_owned()) && !names.contains(&"GET /fast".to_owned()) {
        let sentence = "an unknown path has its span, but the routes have none";
        let got = format!("of /nope and /fast: {}", names.join(", "));
        return Err(case.told("LAYER", sentence, "GET, GET /fast", &got).into());
    }
    Ok(())
}

/// The same span on stdout.
fn console(case: &Case) -> Outcome {
    let lab = case.start_with(case.config(), &[("OTEL_BSP_SCHEDULE_DELAY", "50")])?;
    lab.get("/fast")?;
    let started = Instant::now();
    for words in [
        ["Name         : ", "GET /fast"],
        ["service.name=", "\"tier1-service\""],
    ] {
        let is_there = |stdout: &str| {
            let mut lines = stdout.lines();
            lines.any(|line| words.iter().all(|word| line.contains(word)))
        };
        while !is_there(&lab.stdout()) {
            if started.elapsed() > PATIENCE {
                let sentence = "the console exporter has not written the span to stdout";
                let expected = format!("a line with `{}` and `{}`", words[0], words[1]);
                let got = format!("{} lines, none of them that", lab.stdout().lines().count());
                // If nothing came at all, it isn't this exporter that is missing.
                case.expect_exported(&lab.finish()?)?;
                return Err(case.told("CONSOLE", sentence, &expected, &got).into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

/// A service without telemetry is better than none.
fn bad_endpoint(case: &Case) -> Outcome {
    const SAYS: &str = "tier1: no spans are sent: OTEL_EXPORTER_OTLP_ENDPOINT must be a URL";
    let recording = case
        .ask("/fast")
        .variable("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url")
        .record()?;
    let stderr = recording.exit.map(|exit| exit.stderr).unwrap_or_default();
    if stderr.lines().any(|line| line == SAYS) {
        return Ok(());
    }
    let sentence = "an endpoint that is no URL is not told on stderr";
    Err(case
        .told(
            "TOLD",
            sentence,
            SAYS,
            &format!("on stderr: {}", stderr.trim_end()),
        )
        .into())
}

fn is_own(span: &Span) -> bool {
    !lab::is_around(span.service())
}
