//! The check of step 08, Logs that name their trace.

use std::time::Duration;

use lab::{CALLER_TRACE, Case, LabConfig, LineIds, LogLine, Outcome, Part, Recording, Stdout};

fn main() -> std::process::ExitCode {
    lab::check!("08", "Logs that name their trace")
        .chapter("08-logs-that-name-their-trace")
        .otherwise("logging.rs", 1)
        .named(
            "IDS",
            "logging.rs",
            1,
            "The ids are not the current span's, or don't reach the line: `trace_ids` (TODO 1), \
             `format_event` (TODO 2).",
        )
        .named(
            "ZEROS",
            "logging.rs",
            1,
            "Outside of any span the current context has a span of zeros: ask `is_valid()`.",
        )
        .named(
            "FORM",
            "logging.rs",
            1,
            "`trace_id`, `span_id` and `trace_flags`, in these words; the ids as they print, the \
             flags as two digits, `{:02x}`.",
        )
        .named(
            "SWITCH",
            "logging.rs",
            3,
            "LOG_CORRELATION isn't asked before the ids are put on the line.",
        )
        .named(
            "STDOUT",
            "logging.rs",
            4,
            "Lines are written to stdout by whoever logs, who waits as long as nobody reads.",
        )
        // The longest come early: the verdict waits for the last.
        .test("fast", fast)
        .test("slow", slow)
        .test("unread_stdout", unread_stdout)
        .test("closed_stdout", closed_stdout)
        .test("switch", switch)
        .test("two_at_once", two_at_once)
        .test("error", error)
        .test("unknown_path", unknown_path)
        .test("caller", caller)
        .test("json", json)
        .test("tier2_stopped", tier2_stopped)
        .test("unsampled_caller", unsampled_caller)
        .test("not_in_a_span", not_in_a_span)
        .test("rust_log", rust_log)
        .test("no_colours", no_colours)
        .run()
}

/// What tier1 says of a request, in the request's own task.
const OF_A_REQUEST: [&str; 6] = [
    "telling how well we do",
    "message queued",
    "saas was asked",
    "saas done",
    "working on what tier2 answered",
    "tier2 done",
];

/// The trace of step 07, and each line names it.
fn fast(case: &Case) -> Outcome {
    let recording = case.ask("/fast").record()?;
    lab::assert_traces!(case, "fast", &recording)?;
    for words in OF_A_REQUEST {
        case.expect_line_in(words, "GET /fast", &recording)?;
    }
    case.expect_ids_of_spans(&recording)?;
    show_lines(case, "GET /fast", &recording);
    Ok(())
}

fn error(case: &Case) -> Outcome {
    let recording = case.ask("/error").record()?;
    lab::assert_traces!(case, "error", &recording)?;
    for words in OF_A_REQUEST {
        // Both services have a span of this name: tier1's is the root.
        let lines = recording.lines();
        let line = case.the_line(words, &lines)?;
        case.expect_ids(
            line,
            Some(&root(case, &recording)?),
            "of the span `GET /error`",
        )?;
    }
    case.expect_ids_of_spans(&recording)
}

/// As before, with the wait.
fn slow(case: &Case) -> Outcome {
    let recording = case.ask("/slow").record()?;
    lab::assert_traces!(case, "slow", &recording)
}

fn unknown_path(case: &Case) -> Outcome {
    let recording = case.ask("/nope").status(404).record()?;
    lab::assert_traces!(case, "unknown_path", &recording)
}

fn caller(case: &Case) -> Outcome {
    let recording = case.ask("/fast").caller("01").record()?;
    lab::assert_traces!(case, "caller", &recording)
}

/// The same on the top level of a JSON object.
fn json(case: &Case) -> Outcome {
    let recording = case.ask("/fast").variable("LOG_FORMAT", "json").record()?;
    for line in recording.lines() {
        if serde_json::from_str::<serde_json::Map<_, serde_json::Value>>(&line.text).is_err() {
            let sentence = "with LOG_FORMAT=json, a line is no JSON object";
            return Err(case.told("JSON", sentence, "{…}", &line.text).into());
        }
    }
    for words in OF_A_REQUEST {
        case.expect_line_in(words, "GET /fast", &recording)?;
    }
    case.expect_ids_of_spans(&recording)
}

/// The line that says what went wrong.
fn tier2_stopped(case: &Case) -> Outcome {
    let config = case.config().without(Part::Tier2);
    let recording = case.ask("/fast").config(config).status(502).record()?;
    case.expect_line_in("tier2 did not answer", "GET /fast", &recording)
}

/// Lines of two requests are told apart.
fn two_at_once(case: &Case) -> Outcome {
    let lab = case.start()?;
    lab.get_all(&["/slow", "/fast"])?;
    let recording = lab.finish()?;
    for path in ["slow", "fast"] {
        let lines: Vec<_> = of_action(&recording.lines(), path);
        case.expect(
            "LINES",
            &format!("the number of lines with action={path}"),
            3,
            lines.len(),
        )?;
        let span = case.the_span(&format!("GET /{path}"), &recording)?;
        let expected = ids(&span.trace_id.to_string(), &span.span_id.to_string());
        for line in lines {
            case.expect_ids(
                &line,
                Some(&expected),
                &format!("of the span `GET /{path}`"),
            )?;
        }
    }
    Ok(())
}

/// Nothing is exported, but the lines say which trace they would be part of.
fn unsampled_caller(case: &Case) -> Outcome {
    let recording = case.ask("/fast").caller("00").record()?;
    lab::assert_traces!(case, "unsampled_caller", &recording)?;
    let lines = recording.lines();
    let first = case.the_line(OF_A_REQUEST[0], &lines)?;
    let Some(span_id) = first.ids.as_ref().map(|ids| ids.span_id.clone()) else {
        let any = LineIds {
            trace_flags: "00".to_owned(),
            ..ids(CALLER_TRACE, "(any)")
        };
        let whose = "of a request that its caller doesn't record (not sampled is valid, too)";
        return case.expect_ids(first, Some(&any), whose);
    };
    let expected = LineIds {
        trace_flags: "00".to_owned(),
        ..ids(CALLER_TRACE, &span_id)
    };
    for words in OF_A_REQUEST {
        let line = case.the_line(words, &lines)?;
        case.expect_ids(
            line,
            Some(&expected),
            "of a request that its caller doesn't record",
        )?;
    }
    Ok(())
}

/// Lines of the start, of the stop and of what goes on in the background have no ids.
fn not_in_a_span(case: &Case) -> Outcome {
    for format in ["text", "json"] {
        let recording = case.ask("/fast").variable("LOG_FORMAT", format).record()?;
        let lines = recording.lines();
        for words in ["connected to the queue", "stopping, no new requests"] {
            let line = case.the_line(words, &lines)?;
            if line.text.contains("00000000") {
                let sentence = "a log line that was written outside of any span has ids of zeros";
                return Err(case.told("ZEROS", sentence, "no ids", &line.text).into());
            }
            case.expect_ids(line, None, "it was written outside of any span")?;
            if line.text.contains("trace_id") {
                let sentence = "a line that was written outside of any span speaks of one";
                return Err(case.told("IDS", sentence, "no trace_id", &line.text).into());
            }
        }
    }
    Ok(())
}

/// LOG_CORRELATION: whether lines have ids.
fn switch(case: &Case) -> Outcome {
    // Whether there are ids by default, the other tests see.
    for (format, value) in [("text", ""), ("json", "true")] {
        let recording = case
            .ask("/fast")
            .variable("LOG_FORMAT", format)
            .variable("LOG_CORRELATION", value)
            .record()?;
        case.expect_line_in("message queued", "GET /fast", &recording)?;
    }
    for format in ["text", "json"] {
        let recording = case
            .ask("/fast")
            .variable("LOG_FORMAT", format)
            .variable("LOG_CORRELATION", "false")
            .record()?;
        let with_ids = |line: &&LogLine| line.ids.is_some() || line.text.contains("trace_id");
        if let Some(line) = recording.lines().iter().find(with_ids) {
            let sentence = "with LOG_CORRELATION=false, a line has ids";
            return Err(case.told("SWITCH", sentence, "no ids", &line.text).into());
        }
    }
    Ok(())
}

/// What is logged and what is traced are two things.
fn rust_log(case: &Case) -> Outcome {
    for value in ["error,lapin=off", "off"] {
        let recording = case.ask("/fast").variable("RUST_LOG", value).record()?;
        lab::assert_traces!(case, "fast", &recording)?;
        let written = recording.lines().len();
        let what = format!("with RUST_LOG={value}, the number of lines on stdout");
        case.expect("LINES", &what, 0, written)?;
    }
    Ok(())
}

/// Colours are for terminals: in a file they are noise.
fn no_colours(case: &Case) -> Outcome {
    let recording = case.ask("/fast").record()?;
    match recording
        .lines()
        .iter()
        .find(|line| line.text.contains('\x1b'))
    {
        Some(line) => {
            let sentence = "a line has colours, though stdout is no terminal";
            Err(case
                .told("COLOURS", sentence, "plain text", &line.text)
                .into())
        }
        None => Ok(()),
    }
}

/// With what the crates below say, too, the start and these write twice what a pipe holds
/// when nobody reads it: 64 KiB on Linux.
const REQUESTS: usize = 12;

/// A reader who is slow: requests are answered, and the service ends in time.
fn unread_stdout(case: &Case) -> Outcome {
    with_stdout(case, Stdout::Unread)
}

/// A reader who is gone.
fn closed_stdout(case: &Case) -> Outcome {
    with_stdout(case, Stdout::Closed)
}

fn with_stdout(case: &Case, stdout: Stdout) -> Outcome {
    let config = LabConfig {
        // Who waits for ever need not be waited for long.
        answer_deadline: Duration::from_secs(10),
        ..case.config()
    };
    let mut lab = lab::Lab::start(config)?;
    let program = case.program().clone().with_stdout(stdout);
    lab.spawn(&program, &[("RUST_LOG", "trace")])?;
    for number in 1..=REQUESTS {
        let status = lab.get("/fast").map(|response| response.status);
        if !matches!(status, Ok(200)) {
            let sentence =
                format!("when nobody reads stdout, request {number} is not answered 200");
            let got = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            return Err(case.told("STDOUT", sentence, "200", &got).into());
        }
    }
    let exit = match lab.stop() {
        Ok(exit) => exit,
        Err(error) => {
            let sentence = "when nobody reads stdout, the service doesn't end";
            let got = error.to_string();
            return Err(case.told("STDOUT", sentence, "an exit", &got).into());
        }
    };
    case.expect(
        "STDOUT",
        "when nobody reads stdout, whether the service ends with success,",
        true,
        exit.status.success(),
    )
}

/// The ids of tier1's root span.
fn root(case: &Case, recording: &Recording) -> Result<LineIds, lab::Failure> {
    let span = recording
        .spans_of("tier1-service")
        .find(|span| span.parent_span_id.is_none());
    match span {
        Some(span) => Ok(ids(&span.trace_id.to_string(), &span.span_id.to_string())),
        None => Err(case.diagnosis("NOTHING", "no span came").into()),
    }
}

fn ids(trace_id: &str, span_id: &str) -> LineIds {
    LineIds {
        trace_id: trace_id.to_owned(),
        span_id: span_id.to_owned(),
        trace_flags: "01".to_owned(),
    }
}

/// The lines that tell the action, as the three of `routes.rs` do.
fn of_action(lines: &[LogLine], action: &str) -> Vec<LogLine> {
    let words = format!("action={action}");
    let found = lines.iter().filter(|line| line.text.contains(&words));
    found.cloned().collect()
}

/// Shows tier1's lines under the results, if all tests pass.
fn show_lines(case: &Case, request: &str, recording: &Recording) {
    let lines: Vec<_> = recording
        .lines()
        .into_iter()
        .map(|line| line.text)
        .collect();
    case.show(format!(
        "{request}, as tier1 logs it\n\n{}",
        lines.join("\n")
    ));
}
