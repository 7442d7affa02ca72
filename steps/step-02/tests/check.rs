//! The check of step 02, The first span.

use lab::{Case, Kind, Outcome, Part};

fn main() -> std::process::ExitCode {
    lab::check!("02", "The first span")
        .chapter("02-the-first-span")
        .otherwise("telemetry.rs", 2)
        .cause(
            Kind::Nothing,
            "telemetry.rs",
            1,
            "No provider is global, or it has no exporter (telemetry.rs); `init` isn't called \
             (main.rs, TODO 3); or the layer is missing, or comes before the routes (routes.rs, \
             TODO 4): it wraps only what was added before it.",
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
        .test("console", console)
        .run()
}

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

/// The same span on stdout.
fn console(case: &Case) -> Outcome {
    let recording = case.ask("/fast").patiently().record()?;
    let stdout = recording.exit.map(|exit| exit.stdout).unwrap_or_default();
    for words in [
        ["Name         : ", "GET /fast"],
        ["service.name=", "\"tier1-service\""],
    ] {
        let has_all = |line: &str| words.iter().all(|word| line.contains(word));
        if !stdout.lines().any(has_all) {
            let sentence = "the console exporter has not written the span to stdout";
            let expected = format!("a line with {}", words.join("… "));
            let got = format!("{} lines, none of them that", stdout.lines().count());
            return Err(case.told("CONSOLE", sentence, &expected, &got).into());
        }
    }
    Ok(())
}
