//! `cargo workbook trace`: one request and what it left behind.

use std::{ffi::OsStr, fmt::Write, process::ExitCode, time::Duration};

use lab::{Lab, LabConfig, Part, Program, Recording, Response};

use crate::{Error, step::Step, terminal};

/// How many of tier1's log lines are shown.
const LOG_LINES: usize = 20;

/// Has tier1 send its spans soon, not after the five seconds that are the default.
pub const EXPORT_SOON: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "50");

/// How long a step that exports in the background is waited for.
const EXPORT_PATIENCE: Duration = Duration::from_secs(1);

pub fn trace(
    step: &Step,
    program: &OsStr,
    path: &str,
    without: impl Iterator<Item = Part>,
) -> Result<ExitCode, Error> {
    let mut config = LabConfig::from_env()?;
    // As long as tier1's own: the gap in `/slow` is to be seen.
    config.slow_delay = Duration::from_millis(1500);
    config.without.extend(without);
    let mut lab = Lab::start(config)?;
    lab.spawn(&Program::tier1(program), &[EXPORT_SOON])?;
    let response = lab.get(path)?;
    wait_for_export(step, &lab);
    let recording = lab.finish()?;
    terminal::say(&report(step, path, &response, &recording));
    Ok(ExitCode::SUCCESS)
}

/// Waits for the first of tier1's spans. Step 02 doesn't send its last ones when it ends,
/// and whoever watches wants to see a trace at once.
pub fn wait_for_export(step: &Step, lab: &Lab) {
    if step.has_telemetry() {
        // None comes of an untraced path, or if something is wrong: then that shows.
        let _ = lab.wait_for("an export", EXPORT_PATIENCE, |snapshot| {
            snapshot
                .spans()
                .iter()
                .find(|span| is_own(span))
                .map(|_| ())
        });
    }
}

/// Status, body, traces, and what tier1 logged.
pub fn report(step: &Step, path: &str, response: &Response, recording: &Recording) -> String {
    let mut text = String::new();
    let Response {
        status,
        body,
        elapsed,
        ..
    } = response;
    let _ = writeln!(
        text,
        "\nGET {path} → {status} in {} ms",
        elapsed.as_millis()
    );
    for line in body.lines() {
        let _ = writeln!(text, "{}", terminal::harmless(line));
    }
    text.push('\n');
    text.push_str(&traces(recording));
    if !recording.spans.iter().any(is_own) {
        let _ = writeln!(text, "\ntier1 ({step}) exported no span.");
    }
    let log = recording.exit.as_ref().map_or("", |exit| &exit.stdout);
    let lines: Vec<_> = log.lines().filter(|line| !is_console_span(line)).collect();
    if !log.is_empty() {
        let _ = writeln!(text, "\ntier1's log:");
        for line in lines.iter().take(LOG_LINES) {
            let _ = writeln!(text, "  {}", terminal::dim(&terminal::harmless(line)));
        }
        if let more @ 1.. = lines.len().saturating_sub(LOG_LINES) {
            let _ = writeln!(text, "  … and {more} lines more");
        }
        if let spans @ 1.. = log.lines().filter(|line| is_console_span(line)).count() {
            let _ = writeln!(text, "  … and {spans} lines of the console exporter");
        }
    }
    text
}

/// Whether tier1 made it, whatever it calls itself.
fn is_own(span: &otlp::Span) -> bool {
    !lab::is_around(span.service())
}

/// Whether `opentelemetry-stdout` wrote the line: the same spans are shown above.
pub fn is_console_span(line: &str) -> bool {
    line.is_empty()
        || line.starts_with('\t')
        || line.starts_with("Span #")
        || matches!(line, "Spans" | "Resource")
}

/// All traces of a recording as waterfalls.
pub fn traces(recording: &Recording) -> String {
    let traces = recording.traces();
    if traces.is_empty() {
        return "No trace arrived.\n".to_owned();
    }
    otlp::waterfall(&traces, &recording.logs, &terminal::options())
}
