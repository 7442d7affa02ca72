//! consumer's behaviour, which instrumentation must not change: what becomes of a
//! message when something is missing, slow or wrong, and how it stops.

use std::time::Duration;

use crate::{
    Case, Fault, LabError, Outcome, Outgoing, StopSignal, Test,
    behaviour::{EXIT_CONFIG, code, does_not_start},
};

/// All tests, by name.
pub const ALL: [(&str, Test); 10] = [
    ("sigterm_finishes_the_message", sigterm_finishes_the_message),
    ("sigint_finishes_the_message", sigint_finishes_the_message),
    (
        "a_malformed_message_is_dropped",
        a_malformed_message_is_dropped,
    ),
    ("the_queue_comes_back", the_queue_comes_back),
    (
        "an_outage_brings_the_message_again",
        an_outage_brings_the_message_again,
    ),
    ("it_stops_without_a_queue", it_stops_without_a_queue),
    ("a_bad_variable_is_named", a_bad_variable_is_named),
    (
        "missing_certificates_are_told",
        missing_certificates_are_told,
    ),
    ("no_secret_is_printed", no_secret_is_printed),
    ("log_lines_can_be_json", log_lines_can_be_json),
];

/// How long something may take that is to happen. Generous: it separates "late" from
/// "never".
const DEADLINE: Duration = Duration::from_secs(20);

fn sigterm_finishes_the_message(case: &Case) -> Outcome {
    finishes(case, StopSignal::Term)
}

fn sigint_finishes_the_message(case: &Case) -> Outcome {
    finishes(case, StopSignal::Int)
}

/// The message in hand is acked; those that were handed out ahead go back.
fn finishes(case: &Case, signal: StopSignal) -> Outcome {
    let mut lab = case.start()?;
    let held = lab.lock_database()?;
    for id in ["message-1", "message-2", "message-3"] {
        lab.publish(&Outgoing::new(id))?;
    }
    lab.wait_for_log(&["received", "message-1"], DEADLINE)?;
    lab.signal(signal)?;
    lab.wait_for_log(&["stopping"], DEADLINE)?;
    drop(held);
    let exit = lab.stop_with(signal)?;
    case.expect("EXIT", "the exit code", "0".to_owned(), code(&exit.status))?;
    let left: Vec<_> = lab.take_messages()?;
    let left: Vec<_> = left.into_iter().filter_map(|it| it.message_id).collect();
    case.expect(
        "MESSAGES",
        "what is left in the queue",
        "message-2, message-3".to_owned(),
        left.join(", "),
    )
}

fn a_malformed_message_is_dropped(case: &Case) -> Outcome {
    let mut lab = case.start()?;
    for (id, body) in [("poison-1", b"".as_slice()), ("poison-2", b"fast \xff")] {
        lab.publish(&Outgoing::new(id).body(body))?;
        lab.wait_for_log(&["rejected", id], DEADLINE)?;
    }
    // It is out of the way of what comes behind it.
    lab.publish(&Outgoing::new("message-1"))?;
    lab.wait_for_log(&["processed", "message-1"], DEADLINE)?;
    lab.stop()?;
    nothing_left(case, &lab)
}

fn the_queue_comes_back(case: &Case) -> Outcome {
    let mut lab = case.start()?;
    lab.fault(crate::Part::Queue, Fault::Cut);
    lab.wait_for_log(&["no broker"], DEADLINE)?;
    lab.publish(&Outgoing::new("message-1"))?;
    lab.fault(crate::Part::Queue, Fault::None);
    lab.wait_for_log(&["processed", "message-1"], DEADLINE)?;
    lab.stop()?;
    nothing_left(case, &lab)
}

/// The connection breaks while a message is in hand.
fn an_outage_brings_the_message_again(case: &Case) -> Outcome {
    let mut lab = case.start()?;
    let held = lab.lock_database()?;
    lab.publish(&Outgoing::new("message-1"))?;
    lab.wait_for_log(&["received", "message-1"], DEADLINE)?;
    lab.fault(crate::Part::Queue, Fault::Cut);
    drop(held);
    lab.wait_for_log(&["no broker"], DEADLINE)?;
    lab.fault(crate::Part::Queue, Fault::None);
    // The first time it may have been processed, too: the ack was lost on its way.
    lab.wait_for_stdout("the message coming again", DEADLINE, |text| {
        let again = text
            .rsplit_once("received")
            .map(|(before, after)| before.contains("received") && after.contains("processed"));
        again.unwrap_or_default()
    })?;
    lab.stop()?;
    nothing_left(case, &lab)
}

fn it_stops_without_a_queue(case: &Case) -> Outcome {
    let mut lab = case.start()?;
    lab.fault(crate::Part::Queue, Fault::Cut);
    lab.wait_for_log(&["no broker"], DEADLINE)?;
    let exit = lab.stop()?;
    case.expect("EXIT", "the exit code", "0".to_owned(), code(&exit.status))?;
    match exit.stderr.lines().find(|line| line.contains("panicked")) {
        Some(line) => {
            let sentence = "something panics while the service stops";
            Err(case.told("PANIC", sentence, "no panic", line).into())
        }
        None => Ok(()),
    }
}

fn a_bad_variable_is_named(case: &Case) -> Outcome {
    for (name, value) in [
        ("AMQP_URL", "queue"),
        ("AMQP_URL", "amqp://guest:guest@[::1]:5672/%2f"),
        ("DATABASE_URL", "mysql://host/members"),
        ("DATABASE_URL", "sqlite:///nowhere/at/all/members.db"),
        ("LOG_FORMAT", "xml"),
        ("RUST_LOG", "consumer=loud"),
    ] {
        let said = does_not_start(case, EXIT_CONFIG, &[(name, value)])?;
        let line = format!("consumer: {name}");
        if said.lines().count() != 1 || !said.starts_with(&line) {
            let sentence = format!("{name}={value} is not answered by one line that names it");
            return Err(case
                .told("CONFIG", sentence, &format!("{line}…"), &said)
                .into());
        }
    }
    Ok(())
}

/// A container without the package ca-certificates: spans are lost, and no message.
/// macOS keeps certificates elsewhere.
fn missing_certificates_are_told(case: &Case) -> Outcome {
    if cfg!(target_os = "macos") {
        return Ok(());
    }
    let mut lab = case.start_with(case.config(), &[("SSL_CERT_FILE", "/dev/null")])?;
    lab.publish(&Outgoing::new("message-1"))?;
    lab.wait_for_log(&["processed", "message-1"], DEADLINE)?;
    let exit = lab.stop()?;
    let says = "consumer: no spans are sent: ";
    let told = exit
        .stderr
        .lines()
        .filter(|line| line.starts_with(says) && line.contains("ca-certificates"));
    if told.count() == 1 {
        return Ok(());
    }
    let sentence = "without certificates, nothing on stderr says why no spans are sent";
    let expected = format!("on stderr one line: {says}… ca-certificates …");
    Err(case
        .told("CONFIG", sentence, &expected, &exit.stderr)
        .into())
}

fn no_secret_is_printed(case: &Case) -> Outcome {
    for (name, value) in [
        ("AMQP_URL", "amqp://user:s3cr3t@:port"),
        ("DATABASE_URL", "postgres://user:s3cr3t@host:port/members"),
    ] {
        let said = does_not_start(case, EXIT_CONFIG, &[(name, value)])?;
        if let Some(line) = said.lines().find(|line| line.contains("s3cr3t")) {
            let sentence = "stderr holds the password of a URL";
            return Err(case.told("SECRET", sentence, "no password", line).into());
        }
    }
    Ok(())
}

fn log_lines_can_be_json(case: &Case) -> Outcome {
    let mut lab = case.start_with(case.config(), &[("LOG_FORMAT", "json")])?;
    lab.publish(&Outgoing::new("message-1"))?;
    lab.wait_for_log(&["processed", "message-1"], DEADLINE)?;
    let exit = lab.stop()?;
    for line in exit.stdout.lines() {
        if serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line).is_err() {
            let sentence = "a line on stdout is no JSON object though LOG_FORMAT is json";
            return Err(case
                .told("JSON", sentence, "{\"timestamp\": …}", line)
                .into());
        }
    }
    Ok(())
}

fn nothing_left(case: &Case, lab: &crate::Lab) -> Outcome {
    let left: Result<_, LabError> = lab.take_messages();
    case.expect("MESSAGES", "the number of messages left", 0, left?.len())
}
