//! The check of step 10, Spans of your own.

use std::time::Duration;

use lab::{Case, Diagnosis, Failure, Kind, LabConfig, Outcome, Part, Recording};

fn main() -> std::process::ExitCode {
    lab::check!("10", "Spans of your own")
        .chapter("10-spans-of-your-own")
        .otherwise("tier2.rs", 1)
        .cause(
            (Kind::Missing, "do_tier2"),
            "tier2.rs",
            1,
            "The body of `do_tier2` is not yet the work of `spans::in_span`.",
        )
        .cause(
            (Kind::Missing, "do_queue"),
            "queue.rs",
            2,
            "The body of `do_queue` is not yet the work of `spans::in_span`.",
        )
        .cause(
            (Kind::Missing, "do_saas"),
            "saas.rs",
            3,
            "The body of `do_saas` is not yet the work of `spans::in_span`.",
        )
        .cause(
            (Kind::Missing, "pure_saas_proc"),
            "saas.rs",
            5,
            "The body of `pure_saas_proc` is not yet the work of `spans::in_span_sync`.",
        )
        .cause(
            (Kind::Split, "pure_saas_proc"),
            "saas.rs",
            4,
            "The closure of `spawn_blocking` runs on another thread, where no span is current: \
             attach the context in it, and hold the guard until its end (`let _guard`, not \
             `let _`).",
        )
        .cause(
            Kind::Parent,
            "tier2.rs",
            1,
            "The work is not done in the span: it belongs in the `async` block that `in_span` \
             is given, all of it.",
        )
        .todo((Kind::Parent, "publish signups"), "queue.rs", 2)
        .todo((Kind::Parent, "pure_queue_proc"), "queue.rs", 2)
        .cause(
            (Kind::Parent, "pure_saas_proc"),
            "saas.rs",
            4,
            "The context that is attached in the closure is not the one in which `do_saas` is the \
             current span: take `Context::current()` inside of `in_span`.",
        )
        .todo((Kind::Attribute, "do_queue"), "queue.rs", 2)
        .cause(
            (Kind::Attribute, "do_saas"),
            "saas.rs",
            6,
            "`app.saas.status` is set while `do_saas` is the current span: set it in the closure \
             of `pure_saas_proc`.",
        )
        .named(
            "SPANS",
            "queue.rs",
            2,
            "A function has no span of its own yet: TODO 1 to 3.",
        )
        .todo((Kind::Value, "do_queue"), "queue.rs", 2)
        .cause(
            (Kind::Attribute, "pure_saas_proc"),
            "saas.rs",
            6,
            "`app.saas.summary_size` is given when the span starts, `app.saas.status` is set on \
             the current span as soon as it is known, inside of the closure.",
        )
        .todo((Kind::Value, "pure_saas_proc"), "saas.rs", 6)
        .todo((Kind::Type, "pure_saas_proc"), "saas.rs", 5)
        .cause(
            Kind::Event,
            "routes.rs",
            7,
            "`App::delay` adds the event `app.delayed` to the current span, with `app.delay_ms` \
             as a number, before it waits.",
        )
        .named("EARLY", "tier2.rs", 1, NOT_COVERED)
        .named(
            "RECORD-IDS",
            "saas.rs",
            5,
            "The line is not logged in the span: in the closure that `in_span_sync` is given.",
        )
        .named(
            "EVENT-TIME",
            "routes.rs",
            7,
            "The event is added after the wait. It says when the wait began: add it before.",
        )
        // The longest come early: the verdict waits for the last.
        .test("fast", fast)
        .test("random", random)
        .test("all_slow", all_slow)
        .test("slow", slow)
        .test("error", error)
        .test("unknown_path", unknown_path)
        .test("caller", caller)
        .test("unsampled_caller", unsampled_caller)
        .test("tier2_stopped", tier2_stopped)
        .test("saas_fails", saas_fails)
        .run()
}

/// Why a span is shorter than the wait of its function.
const NOT_COVERED: &str = "The wait is not done in the span: `app.delay()` and \
                           `app.sometimes_slow()` belong in the `async` block.";

/// SeverityNumber of INFO (Logs data model).
const INFO: i32 = 9;

/// Which line is logged in which span.
const LINES: [(&str, &str); 6] = [
    ("telling how well we do", "pure_queue_proc"),
    ("message queued", "GET /fast"),
    ("counting how much", "pure_saas_proc"),
    ("saas was asked", "do_saas"),
    ("working on what tier2 answered", "pure_tier2_proc"),
    ("tier2 done", "GET /fast"),
];

/// The trace with its functions, and each line under the one that logged it.
fn fast(case: &Case) -> Outcome {
    let recording = case.ask("/fast").record()?;
    lab::assert_traces!(case, "fast", &recording)?;
    for (words, span) in LINES {
        case.expect_record_in(words, span, INFO, &recording)?;
    }
    Ok(())
}

/// The hole is explained.
fn slow(case: &Case) -> Outcome {
    let delay = case.config().slow_delay;
    let recording = case.ask("/slow").record()?;
    // Before the comparison: a wait that is not in the span tells more than its event does.
    covers_its_wait(case, "do_tier2", ("tier2.rs", 1), &recording)?;
    lab::assert_traces!(case, "slow", &recording)?;
    expect_event_first(case, "do_tier2", delay, &recording)?;
    case.show_traces("GET /slow", &recording);
    Ok(())
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

/// Whoever is made to wait, the event is on their span.
fn all_slow(case: &Case) -> Outcome {
    let recording = case.ask("/slow").config(all_wait(case)).record()?;
    // Before the comparison: the event of a wait outside of its span is on the one above,
    // which looks as if `App::delay` were at fault.
    for (span, place) in [
        ("do_tier2", ("tier2.rs", 1)),
        ("do_queue", ("queue.rs", 2)),
        ("do_saas", ("saas.rs", 3)),
    ] {
        covers_its_wait(case, span, place, &recording)?;
    }
    lab::assert_traces!(case, "all_slow", &recording)
}

/// Whether the span, if it came, lasts as long as the wait of its function, whose TODO is
/// at `place`.
fn covers_its_wait(
    case: &Case,
    span: &str,
    (file, todo): (&'static str, u8),
    recording: &Recording,
) -> Outcome {
    if !recording.spans.iter().any(|it| it.name == span) {
        return Ok(());
    }
    match case.expect_duration(span, case.config().slow_delay, recording) {
        Err(Failure::Diagnosis(finding)) => {
            let next = case.next(file, todo);
            Err(Diagnosis { next, ..*finding }.into())
        }
        covered => covered,
    }
}

/// A function that fails has its span nevertheless.
fn tier2_stopped(case: &Case) -> Outcome {
    let config = case.config().without(Part::Tier2);
    let recording = case.ask("/fast").config(config).status(502).record()?;
    lab::assert_traces!(case, "tier2_stopped", &recording)
}

/// What was not reached has none.
fn saas_fails(case: &Case) -> Outcome {
    let mut config = case.config();
    config.saas.status = 503;
    let recording = case.ask("/fast").config(config).status(502).record()?;
    lab::assert_traces!(case, "saas_fails", &recording)
}

/// The route says what was asked for, the attribute what it became.
fn random(case: &Case) -> Outcome {
    let recording = case.ask("/random").config(all_wait(case)).record()?;
    for name in ["do_queue", "do_tier2"] {
        let span = case.the_span(name, &recording)?;
        case.expect_attribute(span, "app.action", "slow")?;
    }
    Ok(())
}

/// A system in which every chance is taken.
fn all_wait(case: &Case) -> LabConfig {
    LabConfig {
        slow_chance: 1.0,
        ..case.config()
    }
}

/// Whether the event of the span `name` stands at the beginning of its wait.
fn expect_event_first(case: &Case, name: &str, wait: Duration, recording: &Recording) -> Outcome {
    let span = case.the_span(name, recording)?;
    let after = span
        .events
        .iter()
        .filter(|event| event.name == "app.delayed")
        .map(|event| event.time_unix_nanos.saturating_sub(span.start_unix_nanos))
        .map(Duration::from_nanos)
        .find(|after| *after >= wait);
    let Some(after) = after else {
        return Ok(());
    };
    let sentence = format!("the event `app.delayed` of `{name}` comes after the wait");
    let expected = format!("less than {wait:?} after the start of the span");
    let got = format!("{after:?}");
    Err(case.told("EVENT-TIME", sentence, &expected, &got).into())
}
