//! `cargo workbook trace`: one request and what it left behind.

use std::{fmt::Write, process::ExitCode, time::Duration};

use lab::{Lab, LabConfig, Part, Program, Recording, Response};
use otlp::WaterfallOptions;

use crate::{
    Error, Programs,
    step::Step,
    terminal,
    variable::{self, Variable},
};

/// How many of a program's log lines are shown.
const LOG_LINES: usize = 20;

/// Has tier1 send its spans and records soon, not after the seconds that are the default.
pub const EXPORT_SOON: [(&str, &str); 2] = [
    ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ("OTEL_BLRP_SCHEDULE_DELAY", "50"),
];

/// How long a step that exports in the background is waited for.
const EXPORT_PATIENCE: Duration = Duration::from_secs(1);

/// How long a consumer may take until it has a message and has settled it.
const CONSUMER_PATIENCE: Duration = Duration::from_secs(2);

/// What is asked for.
pub struct Ask<'a> {
    pub path: &'a str,
    /// What of the system is left out.
    pub without: Vec<Part>,
    /// Whether to show attributes.
    pub attributes: bool,
    /// Variables for the step's program.
    pub env: &'a [Variable],
}

pub fn trace(step: &Step, programs: &Programs, ask: Ask<'_>) -> Result<ExitCode, Error> {
    let mut config = LabConfig::from_env()?;
    // As long as tier1's own: the gap in `/slow` is to be seen.
    config.slow_delay = Duration::from_millis(1500);
    config.without.extend(ask.without);
    if programs.consumer.is_some() {
        config.without.push(Part::Consumer);
    }
    let has_queue = !config.without.contains(&Part::Queue);
    if has_queue {
        // Not part of the answer, and it may take its time.
        eprintln!("{}", config.broker.describe());
    }
    let mut lab = Lab::start(config)?;
    let (of_tier1, of_consumer) = programs.variables(ask.env);
    // Without a queue it would never be ready.
    if let Some(consumer) = programs.consumer.as_ref().filter(|_| has_queue) {
        let variables = variable::with(&EXPORT_SOON, of_consumer);
        lab.spawn_consumer(&Program::tier1(consumer), &variables, None)?;
    }
    let variables = variable::with(&EXPORT_SOON, of_tier1);
    lab.spawn(&Program::tier1(&programs.tier1), &variables)?;
    let response = lab.get(ask.path)?;
    wait_for_export(step, &lab);
    let consumers_log = lab.logged_by_consumer(CONSUMER_PATIENCE);
    let recording = lab.finish()?;
    let options = WaterfallOptions {
        attributes: ask.attributes,
        ..terminal::options()
    };
    let mut text = report(step, ask.path, &response, &recording, &options);
    tell_log("consumer", &consumers_log, &mut text);
    terminal::say(&text);
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
fn report(
    step: &Step,
    path: &str,
    response: &Response,
    recording: &Recording,
    options: &WaterfallOptions,
) -> String {
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
    text.push_str(&traces(recording, options));
    if !recording.spans.iter().any(is_own) {
        let _ = writeln!(text, "\ntier1 ({step}) exported no span.");
    }
    let log = recording.exit.as_ref().map_or("", |exit| &exit.stdout);
    tell_log("tier1", log, &mut text);
    text
}

/// What a program logged, if it did.
fn tell_log(program: &str, log: &str, text: &mut String) {
    let lines: Vec<_> = log.lines().filter(|line| !is_console_span(line)).collect();
    if !log.is_empty() {
        let _ = writeln!(text, "\n{program}'s log:");
        for line in lines.iter().take(LOG_LINES) {
            let _ = writeln!(text, "  {}", terminal::dim(&terminal::harmless(line)));
        }
        if let more @ 1.. = lines.len().saturating_sub(LOG_LINES) {
            let lines = if more == 1 { "line" } else { "lines" };
            let _ = writeln!(text, "  … and {more} {lines} more");
        }
        if let spans @ 1.. = log.lines().filter(|line| is_console_span(line)).count() {
            let _ = writeln!(text, "  … and {spans} lines of the console exporter");
        }
    }
}

/// Whether tier1 made it, whatever it calls itself.
pub fn is_own(span: &otlp::Span) -> bool {
    !lab::is_around(span.service())
}

/// Whether `opentelemetry-stdout` wrote the line: the same spans are shown above.
pub fn is_console_span(line: &str) -> bool {
    line.is_empty()
        || line.starts_with('\t')
        || line.starts_with("Span #")
        || line.starts_with("Log #")
        || matches!(line, "Spans" | "Logs" | "Resource")
}

/// All traces of a recording as waterfalls.
pub fn traces(recording: &Recording, options: &WaterfallOptions) -> String {
    let traces = recording.traces();
    if traces.is_empty() {
        return "No trace arrived.\n".to_owned();
    }
    otlp::waterfall(&traces, &recording.logs, options)
}
