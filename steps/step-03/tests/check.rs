//! The check of step 03, Nothing lost at exit.

use std::time::{Duration, Instant};

use lab::{Case, Kind, LabConfig, LabError, Outcome, Part, Refusing};
use otlp::Behaviour;

/// FLUSH_TIMEOUT_MS for a receiver that never answers. Nobody waits for its 3 s in each check.
const FLUSH_TIMEOUT: (&str, &str) = ("FLUSH_TIMEOUT_MS", "500");

/// How long the process may take to end then. A flush without a deadline takes five seconds.
const GRACE: Duration = Duration::from_secs(4);

fn main() -> std::process::ExitCode {
    lab::check!("03", "Nothing lost at exit")
        .chapter("03-nothing-lost-at-exit")
        .otherwise("telemetry.rs", 2)
        .cause(
            Kind::Nothing,
            "telemetry.rs",
            1,
            "Nobody sends what waits when the process ends: there is no guard, it has no `drop`, \
             or it was dropped at once (`let _ = …` drops at once, `let _telemetry = …` at the \
             end), or before the last request had ended its span.",
        )
        .cause(
            Kind::Missing,
            "main.rs",
            3,
            "The guard was dropped before the last request had ended its span.",
        )
        .named(
            "DEADLINE",
            "telemetry.rs",
            2,
            "`force_flush` waits for the receiver: it needs a thread of its own, and a deadline.",
        )
        .named(
            "REPORT",
            "telemetry.rs",
            2,
            "`force_flush` tells what `shutdown` hides; and `None` from `within` means that the \
             time was over: then spans are lost, too.",
        )
        // The longest come early: the verdict waits for the last.
        .test("fast", fast)
        .test("refused", refused)
        .test("hung_receiver", hung_receiver)
        .test("last_span", last_span)
        .test("error", error)
        .test("tier2_stopped", tier2_stopped)
        .test("unknown_path", unknown_path)
        .test("caller", caller)
        .test("unsampled_caller", unsampled_caller)
        .run()
}

/// No time passes between the request and the end: nobody exports in the background.
fn fast(case: &Case) -> Outcome {
    let recording = case.ask("/fast").variable(DELAY.0, DELAY.1).record()?;
    lab::assert_traces!(case, "fast", &recording)?;
    case.show_traces("GET /fast, then SIGTERM at once", &recording);
    Ok(())
}

/// A minute until the batch processor would export on its own account.
const DELAY: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "60000");

fn error(case: &Case) -> Outcome {
    let recording = case.ask("/error").record()?;
    lab::assert_traces!(case, "error", &recording)
}

fn tier2_stopped(case: &Case) -> Outcome {
    let config = case.config().without(Part::Tier2);
    let recording = case.ask("/fast").config(config).status(502).record()?;
    lab::assert_traces!(case, "tier2_stopped", &recording)
}

fn unknown_path(case: &Case) -> Outcome {
    let recording = case.ask("/nope").status(404).record()?;
    lab::assert_traces!(case, "unknown_path", &recording)
}

fn caller(case: &Case) -> Outcome {
    let recording = case.ask("/fast").caller("01").record()?;
    lab::assert_traces!(case, "caller", &recording)
}

/// Nobody hears what the caller decided, so the span is recorded.
fn unsampled_caller(case: &Case) -> Outcome {
    let recording = case.ask("/fast").caller("00").record()?;
    lab::assert_traces!(case, "unsampled_caller", &recording)
}

/// The process is told to stop while a request is under way. Its span ends after that.
fn last_span(case: &Case) -> Outcome {
    let lab = case.start_with(case.config(), &[DELAY])?;
    let response = std::thread::scope(|scope| {
        let request = scope.spawn(|| lab.get("/slow"));
        // Its message has come: now it waits on its way to tier2.
        lab.wait_for_consumed(1, Duration::from_secs(20))?;
        lab.signal(lab::StopSignal::Term)?;
        match request.join() {
            Ok(response) => response,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    case.expect_response("GET /slow", 200, &lab::behaviour::body("slow"), &response)?;
    let recording = lab.finish()?;
    lab::assert_traces!(case, "last_span", &recording)
}

/// A receiver that never answers must not hold the process.
fn hung_receiver(case: &Case) -> Outcome {
    let config = LabConfig {
        stop_deadline: GRACE,
        ..case.config()
    };
    let mut lab = case.start_with(config, &[DELAY, FLUSH_TIMEOUT])?;
    lab.receiver().set_behaviour(Behaviour::Hang);
    lab.get("/fast")?;
    let started = Instant::now();
    let stopped = lab.stop();
    // For the services around it, which have spans to send, too.
    lab.receiver().set_behaviour(Behaviour::Accept);
    match stopped {
        Ok(exit) => lost(case, "a receiver that never answers", &exit.stderr),
        Err(LabError::DidNotStop { .. }) => Err(case
            .told(
                "DEADLINE",
                "with a receiver that never answers, the process doesn't end in time",
                &format!(
                    "the end within {GRACE:?}, FLUSH_TIMEOUT_MS being {}",
                    FLUSH_TIMEOUT.1
                ),
                &format!("still there after {:.1?}", started.elapsed()),
            )
            .into()),
        Err(error) => Err(error.into()),
    }
}

/// A receiver that isn't there is told on stderr, in one line.
fn refused(case: &Case) -> Outcome {
    let refusing = Refusing::start().map_err(LabError::from)?;
    let endpoint = format!("http://{}", refusing.address());
    let variables = [DELAY, ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let mut lab = case.start_with(case.config(), &variables)?;
    lab.get("/fast")?;
    let exit = lab.stop()?;
    lost(case, "a receiver that refuses", &exit.stderr)?;
    let code = exit.status.code().unwrap_or(-1);
    case.expect("EXIT", "the exit code: the requests were answered", 0, code)
}

/// One line on stderr says that spans were lost.
fn lost(case: &Case, receiver: &str, stderr: &str) -> Outcome {
    let says = "tier1: the last spans were not sent";
    let lines = stderr.lines().filter(|line| line.starts_with(says)).count();
    if lines == 1 {
        return Ok(());
    }
    let sentence = format!("with {receiver}, nothing on stderr says that spans were lost");
    Err(case
        .told(
            "REPORT",
            sentence,
            &format!("on stderr one line: {says}…"),
            &format!("on stderr: {}", stderr.trim_end()),
        )
        .into())
}
