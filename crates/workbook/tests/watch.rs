//! `cargo workbook check --watch`, on a small workbook of two steps.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

#[allow(dead_code)]
mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use common::{Fixture, SOLUTION_02, STARTER_02};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

const MAIN: &str = "steps/step-02/src/main.rs";
const CHECK: &str = "steps/step-02/tests/check.rs";

/// For what should take a moment, on a machine that does much else.
const DEADLINE: Duration = Duration::from_secs(120);

/// What the command says between two runs.
const WAITS: &str = "watching steps/step-02";

/// A command that watches. It is killed when this is dropped.
struct Watching {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Watching {
    fn start(workbook: &Fixture) -> Self {
        let mut command = workbook.command(&["check", "2", "--watch"]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines() {
                // The test may have ended.
                let _ = sender.send(line.unwrap());
            }
        });
        Self {
            child,
            lines,
            said: Vec::new(),
        }
    }

    /// The next line that holds `words`.
    fn wait_for(&mut self, words: &str) -> String {
        let started = Instant::now();
        loop {
            let left = DEADLINE.saturating_sub(started.elapsed());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("{words} was not said, but: {:#?}", self.said);
            };
            self.said.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Sends a signal and waits for the end; all that was said, and the exit code.
    fn ends_on(mut self, signal: Signal) -> (Vec<String>, Option<i32>) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        // To the end of the pipe: nobody holds it any more.
        let started = Instant::now();
        while let Ok(line) = self.lines.recv_timeout(DEADLINE) {
            self.said.push(line);
        }
        assert!(started.elapsed() < DEADLINE, "{:#?}", self.said);
        let status = self.child.wait().unwrap();
        (std::mem::take(&mut self.said), status.code())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn each_save_runs_the_check_again() {
    let workbook = Fixture::new("save");
    let mut watching = Watching::start(&workbook);
    watching.wait_for("a line is missing  [W02-SPAN]");
    watching.wait_for(WAITS);

    workbook.write(MAIN, SOLUTION_02);
    watching.wait_for("step-02, run 2");
    watching.wait_for("step-02 has passed");
    watching.wait_for(WAITS);

    // As many editors save: the new text in a file of its own, then its name.
    workbook.write("steps/step-02/src/.main.rs.new", "fn main() { no }");
    let new = workbook.path("steps/step-02/src/.main.rs.new");
    fs::rename(new, workbook.path(MAIN)).unwrap();
    watching.wait_for("step-02, run 3");
    watching.wait_for("step-02 does not compile yet");
    watching.wait_for(WAITS);

    // Not even cargo can read it; and it is mended.
    let manifest = workbook.read("steps/step-02/Cargo.toml");
    workbook.write("steps/step-02/Cargo.toml", "no manifest");
    watching.wait_for("step-02, run 4");
    watching.wait_for(WAITS);
    workbook.write(MAIN, STARTER_02);
    watching.wait_for("step-02, run 5");
    watching.wait_for(WAITS);
    workbook.write("steps/step-02/Cargo.toml", &manifest);
    watching.wait_for("step-02, run 6");
    watching.wait_for("a line is missing");
    watching.wait_for(WAITS);

    let (said, code) = watching.ends_on(Signal::INT);
    // As the last run ended.
    assert_eq!(code, Some(1), "{said:#?}");
    assert!(!said.iter().any(|line| line.contains("run 7")), "{said:#?}");
    assert!(
        !said.iter().any(|line| line.contains('\u{1b}')),
        "{said:#?}"
    );
}

/// A check that says its process id, and ends when the file `go` is there.
fn waits_for_go(workbook: &Fixture) {
    let text = format!(
        r#"fn main() {{
    println!("check {{}}", std::process::id());
    while !std::path::Path::new({:?}).exists() {{
        std::thread::yield_now();
    }}
}}
"#,
        workbook.path("go")
    );
    workbook.write(CHECK, &text);
}

#[test]
fn saves_during_a_run_are_one_more_run() {
    let workbook = Fixture::new("during");
    waits_for_go(&workbook);
    let mut watching = Watching::start(&workbook);
    watching.wait_for("check ");
    for text in ["fn main() {}", "fn main() { }", SOLUTION_02] {
        workbook.write(MAIN, text);
    }
    workbook.write("go", "");
    watching.wait_for(WAITS);
    watching.wait_for("step-02, run 2");
    watching.wait_for("check ");
    watching.wait_for(WAITS);
    let (said, code) = watching.ends_on(Signal::TERM);
    assert_eq!(code, Some(0), "{said:#?}");
    assert!(!said.iter().any(|line| line.contains("run 3")), "{said:#?}");
}

#[test]
fn ctrl_c_ends_what_runs() {
    let workbook = Fixture::new("ctrl-c");
    waits_for_go(&workbook);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut watching = Watching::start(&workbook);
        let line = watching.wait_for("check ");
        let check = line.rsplit(' ').next().unwrap().parse().unwrap();
        let check = Pid::from_raw(check).unwrap();
        let (said, code) = watching.ends_on(signal);
        assert_eq!(code, Some(1), "{said:#?}");
        let ended = test_kill_process(check);
        assert_eq!(ended, Err(rustix::io::Errno::SRCH), "the check still runs");
    }
}
