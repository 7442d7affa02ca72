//! What of the caller's environment counts. Each case is a process of its own:
//! variables of a running process can't be set.

use std::{
    ffi::OsStr,
    process::{ExitCode, Stdio},
};

use lab::{BrokerChoice, LabError, Program};
use tokio::process::Command;

use super::{Test, alone, start, subject, this_program, within_deadline};

/// All tests of this file.
pub const ALL: &[(&str, Test)] = &[
    ("environment::it_is_cleaned", it_is_cleaned),
    ("environment::it_names_a_program", it_names_a_program),
    (
        "environment::it_names_another_build",
        it_names_another_build,
    ),
    ("environment::it_names_a_broker", it_names_a_broker),
    ("environment::any_program_will_do", any_program_will_do),
];

/// The first argument of a process that is one of these cases.
const CLEANED: &str = "child:cleaned";
const PROGRAM: &str = "child:program";
const STEP: &str = "child:step";
const BROKER: &str = "child:broker";
const CHECK: &str = "child:check";

/// What this process does if it is one of these cases.
pub fn child() -> Option<ExitCode> {
    let case = std::env::args().nth(1)?;
    let done = match &*case {
        CLEANED => cleaned(),
        PROGRAM => Program::from_env().map(|program| match program {
            Some(program) => println!("{} | {:?}", program.command_line(), program.stop_signal()),
            None => println!("none"),
        }),
        STEP => Program::of_step("step-05").map(|program| println!("{}", program.command_line())),
        BROKER => BrokerChoice::from_env().and_then(|choice| {
            choice.prepare()?;
            println!("{}", choice.describe());
            Ok(())
        }),
        CHECK => check(),
        _ => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    })
}

fn cleaned() -> Result<(), LabError> {
    lab::clean_environment(&[("EXTRA", OsStr::new("given"))])?;
    for argument in std::env::args().skip(2) {
        println!("argument {argument}");
    }
    for (name, value) in std::env::vars() {
        println!("{name}={value}");
    }
    Ok(())
}

/// What a check does, in short.
fn check() -> Result<(), LabError> {
    let program = Program::from_env()?.expect("TIER1_CMD is set");
    let mut lab = start(alone());
    lab.spawn(&program, &[])?;
    println!("{}", lab.get("/path")?.body);
    println!("{}", lab.stop()?.status);
    Ok(())
}

/// Runs this binary as `case` with these variables and no others. What it writes
/// on stdout.
fn output(case: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(this_program());
    command
        .arg(case)
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = within_deadline(async { command.output().await });
    let output = output.expect("this binary is there");
    String::from_utf8(output.stdout).expect("it writes text")
}

fn it_is_cleaned() {
    let written = output(
        CLEANED,
        &["one", "two words"],
        &[
            ("HOME", "/home"),
            ("INSTA_UPDATE", "no"),
            ("LC_ALL", "C.UTF-8"),
            ("TIER1_CMD", "tier1"),
            ("WORKBOOK_BROKER", "url"),
            // Of these nothing may stay.
            ("AMQP_URL", "x"),
            ("DATABASE_URL", "x"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "x"),
            ("OTEL_SDK_DISABLED", "true"),
            ("PORT", "1"),
            ("RUST_LOG", "x"),
            ("TRACEPARENT", "x"),
            ("http_proxy", "x"),
        ],
    );
    let mut lines: Vec<_> = written
        .lines()
        // macOS gives it to every process.
        .filter(|line| !line.starts_with("__CF_USER_TEXT_ENCODING="))
        .collect();
    lines.sort_unstable();
    let expected = [
        "EXTRA=given",
        "HOME=/home",
        "INSTA_UPDATE=no",
        "LC_ALL=C.UTF-8",
        "TIER1_CMD=tier1",
        "WORKBOOK_BROKER=url",
        "WORKBOOK_ENVIRONMENT_CLEANED=1",
        "argument one",
        "argument two words",
    ];
    assert_eq!(lines, expected);
}

fn it_names_a_program() {
    let bad_command = "TIER1_CMD must be a command with its arguments, quoted as for a shell\n";
    let bad_signal = "TIER1_STOP must be TERM or INT\n";
    for (command, stop, expected) in [
        ("", "", "none\n"),
        ("", "KILL", "none\n"),
        ("python3 -m tier1", "", "python3 -m tier1 | Term\n"),
        ("'a b' c\\ d \"e\"", "TERM", "'a b' 'c d' e | Term\n"),
        ("tier1", "INT", "tier1 | Int\n"),
        ("tier1", "KILL", bad_signal),
        ("tier1", "int", bad_signal),
        ("'open", "", bad_command),
        ("  ", "", bad_command),
    ] {
        let variables = [("TIER1_CMD", command), ("TIER1_STOP", stop)];
        assert_eq!(output(PROGRAM, &[], &variables), expected, "{variables:?}");
    }
    assert_eq!(output(PROGRAM, &[], &[]), "none\n");
}

/// A path, not a command: it is started as it is.
fn it_names_another_build() {
    for (variables, expected) in [
        (&[][..], "step-05\n"),
        (&[("WORKBOOK_TIER1", "")], "step-05\n"),
        (&[("WORKBOOK_TIER1", "/a b/spoilt")], "'/a b/spoilt'\n"),
        (&[("TIER1_CMD", "other")], "step-05\n"),
    ] {
        assert_eq!(output(STEP, &[], variables), expected, "{variables:?}");
    }
}

/// Which broker these variables choose, or why none.
pub fn broker(variables: &[(&str, &str)]) -> String {
    output(BROKER, &[], variables)
}

fn it_names_a_broker() {
    let embedded = "broker: embedded (in this process, nothing to install)\n";
    let bad_url = "WORKBOOK_AMQP_URL must be an AMQP URL, such as \
                   amqp://user:password@host:5672/%2f\n";
    for (broker, url, expected) in [
        ("embedded", "", embedded),
        ("embedded", "amqp://elsewhere", embedded),
        (
            "url",
            "amqp://user:s3cr3t@host:5673/%2f",
            "broker: host:5673 (WORKBOOK_AMQP_URL)\n",
        ),
        ("url", "", bad_url),
        ("url", "http://user:s3cr3t@host/", bad_url),
        // What stands in front of it forwards bytes, and the subject speaks plainly.
        ("url", "amqps://user:s3cr3t@host/%2f", bad_url),
        (
            "kafka",
            "",
            "WORKBOOK_BROKER must be docker, embedded or url\n",
        ),
    ] {
        let variables = [("WORKBOOK_BROKER", broker), ("WORKBOOK_AMQP_URL", url)];
        assert_eq!(output(BROKER, &[], &variables), expected, "{variables:?}");
    }
}

/// One that never says where it listens, and is asked to end in its own way.
fn any_program_will_do() {
    let binary = this_program();
    let binary = binary.to_str().expect("its path is text");
    let role = format!("{}={}", subject::ROLE, subject::SERVES);
    let command = shell_words::join(["env", &role, binary]);
    let path = std::env::var("PATH").expect("a path to programs");
    for (stop, status) in [("TERM", "signal: 15"), ("INT", "signal: 2")] {
        let written = output(
            CHECK,
            &[],
            &[
                ("PATH", &path),
                ("TIER1_CMD", &command),
                ("TIER1_STOP", stop),
            ],
        );
        assert!(
            written.starts_with(&format!("/path\n{status}")),
            "{written}"
        );
    }
}
