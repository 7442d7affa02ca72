//! A tier1 that this workbook didn't make: Python's, without a line of telemetry in it,
//! started as TIER1_CMD says. What is judged is what arrives, whoever sent it.
//!
//! WORKBOOK_FOREIGN names the virtual environment that it runs in; `.ci/foreign` makes one.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::OnceLock,
};

use lab::{BrokerChoice, Diagnosis, Failure, Lab, LabConfig, Program, Recording, Role};
use libtest_mimic::{Arguments, Trial};
use otlp::{Span, SpanKind, WaterfallOptions};

/// The variable that names the virtual environment.
const ENVIRONMENT: &str = "WORKBOOK_FOREIGN";

const NOT_RUN: &str =
    "not run without a virtual environment of Python: .ci/foreign makes one and runs these";

/// A test fails by a panic.
type Test = (&'static str, fn());

const ALL: [Test; 4] = [
    ("one_request_is_one_trace", one_request_is_one_trace),
    ("its_trace_is_drawn", its_trace_is_drawn),
    ("its_log_is_correlated", its_log_is_correlated),
    ("what_differs_is_told", what_differs_is_told),
];

fn main() -> ExitCode {
    let environment = env::var_os(ENVIRONMENT).filter(|path| !path.is_empty());
    if let Some(path) = &environment
        && !Path::new(path)
            .join("bin/opentelemetry-instrument")
            .is_file()
    {
        eprintln!("{ENVIRONMENT} must be a virtual environment that .ci/foreign has made");
        return ExitCode::from(2);
    }
    let command = command(environment.as_deref().unwrap_or_default());
    let variables = [
        ("TIER1_CMD", command.as_os_str()),
        ("TIER1_STOP", OsStr::new("INT")),
    ];
    if let Err(error) = lab::clean_environment(&variables) {
        eprintln!("the environment can't be cleaned: {error}");
        return ExitCode::FAILURE;
    }
    let arguments = Arguments::from_args();
    let wanted = environment.is_some();
    if !wanted && !arguments.list {
        println!("\n{NOT_RUN}");
    }
    let trial = |(name, test): Test| {
        let trial = Trial::test(name, move || {
            test();
            Ok(())
        });
        trial.with_ignored_flag(!wanted)
    };
    libtest_mimic::run(&arguments, ALL.into_iter().map(trial).collect()).exit_code()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign")
}

/// What a reader would write into TIER1_CMD.
fn command(environment: &OsStr) -> OsString {
    let program = folder().join("tier1.sh");
    let words = [program.to_string_lossy(), environment.to_string_lossy()];
    shell_words::join(words).into()
}

/// One request for `/fast`, and all that was exported of it.
fn recording() -> &'static Recording {
    static RECORDING: OnceLock<Recording> = OnceLock::new();
    RECORDING.get_or_init(|| {
        let program = Program::from_env().expect("it can be read");
        let program = program.expect("TIER1_CMD is set");
        let mut lab =
            Lab::start(LabConfig::new(BrokerChoice::Embedded)).expect("the system starts");
        lab.spawn(&program, &[])
            .unwrap_or_else(|error| panic!("{error}"));
        let response = lab.get("/fast").expect("it answers");
        assert_eq!(response.status, 200, "{}", response.body);
        assert!(
            response
                .body
                .starts_with("tier 1 - fast → do_queue → do_saas → tier 2 "),
            "{}",
            response.body
        );
        lab.finish().unwrap_or_else(|error| panic!("{error}"))
    })
}

fn spans_of(service: &str, kind: SpanKind) -> Vec<&'static Span> {
    let spans = recording().spans.iter();
    spans
        .filter(|span| span.service() == service && span.kind == kind)
        .collect()
}

/// Publish, process, both calls and what they led to.
fn one_request_is_one_trace() {
    let root = spans_of("tier1-service", SpanKind::Server);
    let [root] = root.as_slice() else {
        panic!("{} SERVER spans", root.len());
    };
    assert_eq!(
        (root.name.as_str(), root.parent_span_id),
        ("GET /fast", None)
    );
    for (service, kind, least) in [
        ("tier1-service", SpanKind::Client, 2),
        ("tier1-service", SpanKind::Producer, 1),
        ("tier2-service", SpanKind::Server, 1),
        ("consumer-service", SpanKind::Consumer, 1),
        ("consumer-service", SpanKind::Client, 1),
    ] {
        let spans = spans_of(service, kind);
        assert!(spans.len() >= least, "{service} {kind}: {}", spans.len());
        for span in spans {
            assert_eq!(span.trace_id, root.trace_id, "{service} {}", span.name);
        }
    }
    // The message carried a context of tier1's, in a header that pika wrote.
    let process = spans_of("consumer-service", SpanKind::Consumer)[0];
    let producers = spans_of("tier1-service", SpanKind::Producer);
    let parent = producers
        .iter()
        .find(|span| Some(span.span_id) == process.parent_span_id);
    assert!(
        parent.is_some(),
        "`{}` is under no PRODUCER span",
        process.name
    );
}

fn its_trace_is_drawn() {
    let traces = recording().traces();
    let drawn = otlp::waterfall(&traces, &[], &WaterfallOptions::default());
    println!("{drawn}");
    let lines: Vec<&str> = drawn.lines().collect();
    let has = |service: &str, kind: &str| {
        lines
            .iter()
            .any(|line| line.contains(service) && line.contains(kind))
    };
    assert!(
        has("tier1-service", "SERVER") && has("tier1-service", "PRODUCER"),
        "{drawn}"
    );
    assert!(
        has("tier2-service", "SERVER") && has("consumer-service", "CONSUMER"),
        "{drawn}"
    );
}

/// Its log records come over OTLP, each of the request's with the ids of its trace.
fn its_log_is_correlated() {
    let root = spans_of("tier1-service", SpanKind::Server)[0];
    let records: Vec<_> = recording().records().collect();
    for words in ["message queued", "saas done", "tier2 done"] {
        let mut said = records.iter();
        let record = said.find(|record| record.body.to_string().contains(words));
        let record = record.unwrap_or_else(|| panic!("no record says {words:?}"));
        assert_eq!(record.trace_id, Some(root.trace_id), "{words}");
    }
}

/// Against what the finished step 06 exports.
fn what_differs_is_told() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    let workspace = workspace.expect("two levels up");
    let outcome = lab::judge(workspace, 6, Role::Tier1, "fast", recording());
    let Err(Failure::Diagnosis(diagnosis)) = outcome else {
        panic!("{outcome:?}");
    };
    println!("{diagnosis}");
    let found: Vec<&Diagnosis> = std::iter::once(&*diagnosis)
        .chain(&diagnosis.more)
        .collect();
    let tells = |id: &str, words: &str| {
        found
            .iter()
            .any(|it| it.id == id && (it.sentence.contains(words) || it.detail.contains(words)))
    };
    // The order of operation and destination, and an attribute that nobody sets.
    assert!(tells("W06-NAME", "`publish signups`"), "{diagnosis}");
    assert!(
        tells("W06-NAME", "messaging.operation.name is missing"),
        "{diagnosis}"
    );
    // Names of before the conventions were stable.
    assert!(
        tells("W06-NAME", "the old name of messaging.destination.name"),
        "{diagnosis}"
    );
    assert!(tells("W06-OLD", "http.method = \"GET\""), "{diagnosis}");
    assert!(tells("W06-OLD", "`GET /fast`"), "{diagnosis}");
    // The trace is whole: nothing else is said of where spans are.
    let whole = [
        "INJECT", "SPLIT", "ORPHAN", "NOTHING", "ENDPOINT", "VERSIONS", "SERVICE",
    ];
    for kind in whole {
        assert!(found.iter().all(|it| !it.id.contains(kind)), "{diagnosis}");
    }
}
