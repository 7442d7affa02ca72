//! The process under test: start, output, requests, end.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    net::{TcpListener, TcpStream},
    os::unix::process::ExitStatusExt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use lab::{Lab, LabConfig, LabError, Program, StopSignal};

use super::{DEADLINE, MOMENT, NONSENSE, Test, alone, eventually, program, start, subject};

/// All tests of this file.
pub const ALL: &[(&str, Test)] = &[
    (
        "process::its_environment_is_known",
        its_environment_is_known,
    ),
    ("process::it_trusts_nobody", it_trusts_nobody),
    ("process::it_ends_at_once", it_ends_at_once),
    ("process::it_is_not_there", it_is_not_there),
    ("process::it_ends_by_itself", it_ends_by_itself),
    ("process::it_is_told_to_stop", it_is_told_to_stop),
    ("process::it_does_not_stop", it_does_not_stop),
    ("process::it_goes_with_the_lab", it_goes_with_the_lab),
    ("process::it_floods", it_floods),
    ("process::its_lines_are_echoed", its_lines_are_echoed),
    ("process::it_is_asked", it_is_asked),
    ("process::it_panics", it_panics),
    ("process::it_does_not_answer", it_does_not_answer),
];

/// How much of an output stream a lab keeps.
const OUTPUT_LIMIT: usize = 16 * 1024 * 1024;

fn spawn(lab: &mut Lab, role: &str) {
    lab.spawn(&program(), &[(subject::ROLE, role)])
        .expect("the subject starts");
}

/// Starts a subject with a lifeline, and answers the near end of it.
fn spawn_on_lifeline(lab: &mut Lab, role: &str) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let variables = [(subject::ROLE, role), (subject::LIFELINE, &address)];
    lab.spawn(&program(), &variables)
        .expect("the subject starts");
    // It connects before it says that it is ready.
    let (lifeline, _) = listener.accept().expect("it is connected");
    lifeline
}

/// Waits until the process at the other end is gone.
fn is_gone(mut lifeline: TcpStream) {
    lifeline.set_read_timeout(Some(DEADLINE)).expect("not zero");
    let got = lifeline.read(&mut [0]);
    assert!(matches!(got, Ok(0)), "{got:?}");
}

fn its_environment_is_known() {
    let mut lab = start(alone());
    let extra = [
        (subject::ROLE, subject::TELLS_ENVIRONMENT),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://elsewhere"),
    ];
    lab.spawn(&program(), &extra).expect("the subject starts");
    let given = lab.variables();
    let exit = lab.stop().expect("it stops");
    let environment: BTreeMap<&str, &str> = exit
        .stdout
        .lines()
        .map(|line| line.split_once('=').expect("a variable has a value"))
        .collect();

    for (name, value) in &given {
        let expected = match name.as_str() {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => "http://elsewhere",
            _ => value,
        };
        assert_eq!(environment.get(name.as_str()), Some(&expected), "{name}");
    }
    assert_eq!(environment.get("PORT"), Some(&"0"));
    assert_eq!(environment.get("HOST"), Some(&"127.0.0.1"));

    let inherited = [
        "HOME",
        "LANG",
        "LLVM_PROFILE_FILE",
        "LOGNAME",
        "PATH",
        "TMPDIR",
        "USER",
        "VIRTUAL_ENV",
        // macOS gives it to every process.
        "__CF_USER_TEXT_ENCODING",
    ];
    let allowed: BTreeSet<&str> = given
        .iter()
        .map(|(name, _)| name.as_str())
        .chain(inherited)
        .chain(["HOST", "PORT", subject::ROLE])
        .collect();
    let more: Vec<_> = environment
        .keys()
        .filter(|name| !allowed.contains(*name))
        .collect();
    assert!(more.is_empty(), "{more:?}");

    // All this proves nothing if there was nothing to leave out.
    for (name, value) in NONSENSE {
        assert_eq!(std::env::var(name).as_deref(), Ok(value), "{name}");
    }
}

fn it_trusts_nobody() {
    let mut lab = start(alone());
    let variables = [(subject::ROLE, subject::TELLS_ENVIRONMENT)];
    lab.spawn(&program().trusting_nobody(), &variables)
        .expect("the subject starts");
    let stdout = lab.stop().expect("it stops").stdout;
    let file = stdout
        .lines()
        .find_map(|line| line.strip_prefix("SSL_CERT_FILE="))
        .expect("it is told where certificates are");
    let pem = std::fs::read_to_string(file).expect("the file is there");
    let begins: Vec<_> = pem.lines().filter(|it| it.contains("BEGIN")).collect();
    assert_eq!(begins, ["-----BEGIN CERTIFICATE-----"]);
}

fn it_ends_at_once() {
    let mut lab = start(alone());
    let failed = lab.spawn(&program(), &[(subject::ROLE, subject::FAILS)]);
    let error = failed.expect_err("it never listens");
    let told = error.to_string();
    let LabError::NotReady { status, stderr, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(status.and_then(|status| status.code()), Some(3));
    assert_eq!(stderr, "first\n\nsecond\nthird\n  \nfourth\n");
    assert!(
        told.ends_with(
            "ended (exit status: 3) before it answered; on stderr: second / third / fourth"
        ),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
}

fn it_is_not_there() {
    let mut lab = start(alone());
    let failed = lab.spawn(&Program::tier1("/nowhere/tier1"), &[]);
    let error = failed.expect_err("there is no such file");
    assert!(matches!(error, LabError::Spawn { .. }), "{error:?}");
    let told = error.to_string();
    assert!(told.starts_with("can't start `/nowhere/tier1`: "), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    // The lab is none the worse.
    spawn(&mut lab, subject::STAYS);
    lab.stop().expect("it stops");
}

fn it_ends_by_itself() {
    let mut lab = start(alone());
    // It may be gone before the lab has read what it said: that counts as not ready.
    let spawned = lab.spawn(&program(), &[(subject::ROLE, subject::ENDS)]);
    let status = match spawned {
        Err(LabError::NotReady { status, .. }) => status.expect("it ended"),
        Err(error) => panic!("{error}"),
        Ok(()) => {
            eventually("the end", || lab.subject_has_exited());
            lab.stop().expect("it has ended").status
        }
    };
    assert_eq!(status.code(), Some(5));
}

fn it_is_told_to_stop() {
    for (signal, number) in [(StopSignal::Term, 15), (StopSignal::Int, 2)] {
        let mut lab = start(alone());
        spawn(&mut lab, subject::STAYS);
        assert!(!lab.subject_has_exited());
        let exit = lab.stop_with(signal).expect("it stops");
        assert_eq!(exit.status.signal(), Some(number));
        assert_eq!(exit.stderr, "listening on http://127.0.0.1:1\n");
    }
}

fn it_does_not_stop() {
    for signal in [StopSignal::Term, StopSignal::Int] {
        let mut lab = start(LabConfig {
            stop_deadline: MOMENT,
            ..alone()
        });
        let lifeline = spawn_on_lifeline(&mut lab, subject::DEAF);
        let started = Instant::now();
        let error = lab.stop_with(signal).expect_err("it is deaf");
        assert!(started.elapsed() >= MOMENT);
        let told = error.to_string();
        assert!(
            matches!(&error, LabError::DidNotStop { deadline, .. } if *deadline == MOMENT),
            "{error:?}"
        );
        assert_eq!(
            told,
            "the service was still running 300ms after it was told to stop; \
             on stderr: listening on http://127.0.0.1:1"
        );
        is_gone(lifeline);
    }
}

fn it_goes_with_the_lab() {
    let mut lab = start(alone());
    let lifeline = spawn_on_lifeline(&mut lab, subject::DEAF);
    drop(lab);
    is_gone(lifeline);
}

/// That it comes to listen at all says that the flood kept it from nothing.
fn it_floods() {
    let mut lab = start(alone());
    spawn(&mut lab, subject::FLOODS);
    let exit = lab.stop().expect("it stops");
    const { assert!(subject::FLOOD > OUTPUT_LIMIT) };
    assert_eq!(exit.stdout.len(), OUTPUT_LIMIT);
    let last = "\nlistening on http://127.0.0.1:1\n";
    assert!(exit.stderr.ends_with(last));
    assert_eq!(exit.stderr.len(), subject::FLOOD / 2 + last.len() - 1);
}

fn its_lines_are_echoed() {
    let mut lab = start(alone());
    let lines = Arc::new(Mutex::new(Vec::new()));
    let echoed = Arc::clone(&lines);
    let echo = move |line: &str| echoed.lock().expect("no panic").push(line.to_owned());
    let role = [(subject::ROLE, subject::TELLS_LINES)];
    let spawned = lab.spawn_echoing(&program(), &role, Some(Arc::new(echo)));
    // It may be gone before the lab has read what it said: that counts as not ready.
    if spawned.is_ok() {
        eventually("the end", || lab.subject_has_exited());
        let exit = lab.stop().expect("it ends");
        assert!(exit.stderr.ends_with("\n\nno end"), "{}", exit.stderr);
    }
    let lines = lines.lock().expect("no panic").clone();
    let expected = [
        "listening on http://127.0.0.1:1",
        "half a line, and the other half",
        "",
        "no end",
    ];
    assert_eq!(lines, expected);
}

fn it_is_asked() {
    let mut lab = start(alone());
    spawn(&mut lab, subject::SERVES);
    let url = lab.subject_url();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");

    let response = lab.get("/path?query").expect("it answers");
    assert_eq!((response.status, &*response.body), (200, "/path?query"));
    assert_eq!(lab.get("/failure").expect("it answers").status, 500);
    let response = lab.get("/redirect").expect("it answers");
    assert_eq!((response.status, &*response.body), (302, "/redirect"));

    let paths: Vec<String> = (0..20).map(|number| format!("/{number}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let responses = lab.get_all(&paths).expect("it answers");
    let bodies: Vec<&str> = responses.iter().map(|answer| &*answer.body).collect();
    assert_eq!(bodies, paths);
}

fn it_panics() {
    let mut lab = start(alone());
    spawn(&mut lab, subject::SERVES);
    let error = lab.get("/panic").expect_err("there is no answer");
    let told = error.to_string();
    let panicked =
        matches!(&error, LabError::Panicked { told, .. } if told.contains("subject.rs:"));
    assert!(panicked, "{error:?}");
    assert!(
        told.starts_with("a panic instead of an answer to GET /panic: assertion `left != right`"),
        "{told}"
    );
    // The next one is answered.
    assert_eq!(lab.get("/path").expect("it answers").status, 200);
    // Who waits for something else learns of it, too.
    let error = lab.wait_for_log(&["never"], Duration::from_millis(10));
    let told = error.expect_err("it is never logged").to_string();
    assert!(
        told.starts_with("a panic instead of a log line with never: assertion `left != right`"),
        "{told}"
    );
}

fn it_does_not_answer() {
    let mut lab = start(alone());
    spawn(&mut lab, subject::STAYS);
    let error = lab.get("/path").expect_err("nobody listens there");
    let told = error.to_string();
    assert!(matches!(error, LabError::NoAnswer { .. }), "{error:?}");
    assert!(told.starts_with("no answer to GET /path: "), "{told}");
    let error = lab.wait_for_log(&["never"], Duration::from_millis(10));
    let told = error.expect_err("it is never logged").to_string();
    let expected = "a log line with never did not come within 10ms; the last lines: ";
    assert!(told.starts_with(expected), "{told}");

    let nothing = lab.wait_for("a span", Duration::from_millis(10), |snapshot| {
        snapshot.spans().first().cloned()
    });
    let told = nothing.expect_err("nothing is exported").to_string();
    assert_eq!(told, "a span did not happen within 10ms");
}
