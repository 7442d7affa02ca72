//! `cargo workbook trace`: one request and what it left behind.

use std::{ffi::OsStr, fmt::Write, process::ExitCode};

use lab::{Lab, LabConfig, Part, Program, Recording, Response};

use crate::{Error, step::Step, terminal};

/// How many of tier1's log lines are shown.
const LOG_LINES: usize = 20;

pub fn trace(
    step: &Step,
    program: &OsStr,
    path: &str,
    without: impl Iterator<Item = Part>,
) -> Result<ExitCode, Error> {
    let mut config = LabConfig::from_env()?;
    // As long as tier1's own: the gap in `/slow` is to be seen.
    config.slow_delay = std::time::Duration::from_millis(1500);
    config.without.extend(without);
    let mut lab = Lab::start(config)?;
    lab.spawn(&Program::tier1(program), &[])?;
    let response = lab.get(path)?;
    let recording = lab.finish()?;
    terminal::say(&report(step, path, &response, &recording));
    Ok(ExitCode::SUCCESS)
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
    let own = recording.spans.len()
        - recording.spans_of("tier2-service").count()
        - recording.spans_of("consumer-service").count();
    if own == 0 {
        let _ = writeln!(text, "\ntier1 ({step}) exported no span.");
    }
    let log = recording.exit.as_ref().map_or("", |exit| &exit.stdout);
    if !log.is_empty() {
        let _ = writeln!(text, "\ntier1's log:");
        for line in log.lines().take(LOG_LINES) {
            let _ = writeln!(text, "  {}", terminal::dim(&terminal::harmless(line)));
        }
        if let more @ 1.. = log.lines().count().saturating_sub(LOG_LINES) {
            let _ = writeln!(text, "  … and {more} lines more");
        }
    }
    text
}

/// All traces of a recording as waterfalls.
pub fn traces(recording: &Recording) -> String {
    let traces = recording.traces();
    if traces.is_empty() {
        return "No trace arrived.\n".to_owned();
    }
    otlp::waterfall(&traces, &recording.logs, &terminal::options())
}
