//! `cargo workbook` alone, `check` and `compare`, on a small workbook of two steps.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

#[allow(dead_code)]
mod common;

use std::fs;

use common::{Fixture, SOLUTION_02, STARTER_02};
use lab::passed;

const MAIN: &str = "steps/step-02/src/main.rs";

/// With a book, as the real one is.
fn workbook(name: &str) -> Fixture {
    let workbook = Fixture::new(name);
    workbook.write(
        "book/src/SUMMARY.md",
        "# Summary\n\n[Introduction](introduction.md)\n\n# Part 1: Uninstrumented\n\n\
         - [Meet tier1](01-meet-tier1.md)\n\n# Part 2: Auto-style\n\n\
         - [The first span](02-the-first-span.md)\n",
    );
    for (file, minutes) in [("01-meet-tier1", "10"), ("02-the-first-span", "about 20")] {
        let text = format!("# Title\n\n| | |\n|---|---|\n| minutes | {minutes} |\n");
        workbook.write(&format!("book/src/{file}.md"), &text);
    }
    workbook.write("steps/step-02/hints.md", "### Concept\n\nA line.\n");
    workbook
}

/// Notes that a step has passed as it is, as its check does.
fn passes(workbook: &Fixture, step: u8) {
    let folder = workbook.path(&format!("steps/step-{step:02}"));
    let digest = passed::digest(&folder).unwrap();
    passed::note(&workbook.root, step, &digest).unwrap();
}

fn fits_a_terminal(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_fresh_clone_begins_with_the_first_step() {
    let workbook = workbook("fresh");
    let said = workbook.succeeds(&[]);
    assert_eq!(
        said,
        "OpenTelemetry for Rust services: 0 of 2 steps passed\n\
         \n\
         Part 1: Uninstrumented\n    \
         01  Meet tier1                   10 min\n\
         \n\
         Part 2: Auto-style\n    \
         02  The first span               20 min\n\
         \n\
         Next is step 01, Meet tier1:\n  \
         read    book/src/01-meet-tier1.md\n  \
         check   cargo workbook check 1\n\
         \n\
         The book with its pictures: mdbook serve book\n\
         All commands: cargo workbook --help\n"
    );
    fits_a_terminal(&said);
}

#[test]
fn what_passed_and_what_was_begun_is_told() {
    let workbook = workbook("told");
    passes(&workbook, 1);
    let said = workbook.succeeds(&[]);
    assert!(said.contains("1 of 2 steps passed"), "{said}");
    assert!(said.contains("✓ 01  Meet tier1                   10 min  passed\n"));
    assert!(said.contains("    02  The first span               20 min\n"));
    let next = "Next is step 02, The first span:\n  \
                read    book/src/02-the-first-span.md\n  \
                write   steps/step-02/src/main.rs:7, TODO 1\n  \
                check   cargo workbook check 2\n  \
                stuck?  cargo workbook hint 2\n";
    assert!(said.contains(next), "{said}");

    workbook.replace(MAIN, "    println!", "    // Mine.\n    println!");
    let said = workbook.succeeds(&[]);
    assert!(
        said.contains("· 02  The first span               20 min  begun\n"),
        "{said}"
    );
    assert!(
        said.contains("steps/step-02/src/main.rs:8, TODO 1"),
        "{said}"
    );

    passes(&workbook, 2);
    let said = workbook.succeeds(&[]);
    assert!(said.contains("2 of 2 steps passed"), "{said}");
    assert!(said.contains("All steps have passed."), "{said}");

    workbook.replace(MAIN, "// Mine.", "// Mine, later.");
    let said = workbook.succeeds(&[]);
    let line = "~ 02  The first span               20 min  changed since it passed\n";
    assert!(said.contains(line), "{said}");
    assert!(said.contains("Next is step 02, The first span, which was changed since it passed:\n"));
    fits_a_terminal(&said);

    // Back at the start there is nothing to check again.
    workbook.write(MAIN, STARTER_02);
    let said = workbook.succeeds(&[]);
    assert!(
        said.contains("    02  The first span               20 min\n"),
        "{said}"
    );
}

/// A reader may break anything; a checkout may lack the book.
#[test]
fn the_first_screen_stands_what_a_reader_does() {
    let workbook = workbook("stands");
    fs::write(workbook.path(MAIN), [0xff, 0xfe]).unwrap();
    workbook.write("steps/step-02/Cargo.toml", "\u{1b}[31m");
    fs::remove_dir_all(workbook.path("book")).unwrap();
    fs::remove_dir_all(workbook.path("steps/step-01/src")).unwrap();
    let said = workbook.succeeds(&[]);
    assert!(
        said.contains("· 02  The first span                       begun\n"),
        "{said}"
    );
    fits_a_terminal(&said);
}

#[test]
fn a_check_says_passed_not_yet_or_why_not() {
    let workbook = workbook("check");
    // The next one, which is the first.
    let said = workbook.succeeds(&["check"]);
    assert!(
        said.contains("✓ step-01 has passed. Next is step 02"),
        "{said}"
    );

    let said = workbook.finds(&["check", "2"]);
    assert!(said.contains("a line is missing  [W02-SPAN]"), "{said}");
    assert!(!said.contains("has passed"), "{said}");
    let said = workbook.succeeds(&["check", "solution-02"]);
    assert!(said.contains("test result: ok"), "{said}");
    assert!(!said.contains("Next is"), "{said}");

    workbook.write(MAIN, "fn main() { no }");
    let (code, stdout, stderr) = workbook.run(&["check", "2"]);
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(stderr.contains("cannot find value `no`"), "{stderr}");
    assert!(stdout.contains("step-02 does not compile yet"), "{stdout}");
    fits_a_terminal(&stdout);

    workbook.write(MAIN, SOLUTION_02);
    let said = workbook.succeeds(&["check", "02"]);
    assert!(said.contains("✓ step-02 has passed."), "{said}");
    // Neither another program nor a part of a check decides anything.
    let mut command = workbook.command(&["check", "2"]);
    let output = command.env("TIER1_CMD", "true").output().unwrap();
    assert!(output.status.success());
    assert!(
        !String::from_utf8(output.stdout)
            .unwrap()
            .contains("has passed")
    );
    let said = workbook.succeeds(&["check", "2", "--", "lines"]);
    assert!(!said.contains("has passed"), "{said}");

    workbook.replace(
        "steps/step-02/tests/check.rs",
        "ExitCode::SUCCESS",
        "ExitCode::from(2)",
    );
    let (code, ..) = workbook.run(&["check", "2"]);
    assert_eq!(code, Some(2));
    workbook.write("steps/step-02/Cargo.toml", "no manifest");
    let (code, _, stderr) = workbook.run(&["check", "2"]);
    assert_eq!(code, Some(2), "{stderr}");
}

#[test]
fn all_steps_passed_leave_nothing_to_check() {
    let workbook = workbook("all");
    for step in [1, 2] {
        passes(&workbook, step);
    }
    let said = workbook.succeeds(&["check"]);
    assert!(said.starts_with("All steps have passed."), "{said}");
}

#[test]
fn the_files_are_compared() {
    let workbook = workbook("files");
    let said = workbook.finds(&["compare", "2", "--only", "files"]);
    // Its title in the first line is a starter's own.
    assert_eq!(
        said.lines().skip(3).collect::<Vec<_>>(),
        [
            "src/main.rs",
            "@@ -4,5 +4,5 @@",
            " ",
            " fn main() {",
            "     println!(\"{}\", given::greeting());",
            "-    // TODO 1: print the second line, `span`.",
            "+    println!(\"span\");",
            " }",
        ],
        "{said}"
    );
    fits_a_terminal(&said);

    workbook.write("steps/step-02/src/mine.rs", "\u{1b}[31m\n");
    fs::remove_file(workbook.path("steps/step-02/src/given.rs")).unwrap();
    workbook.replace("steps/step-02/Cargo.toml", "2024", "2021");
    let said = workbook.finds(&["compare", "2", "--only", "files"]);
    for part in [
        "Cargo.toml\n@@ ",
        "-edition = \"2021\"\n+edition = \"2024\"\n",
        "src/given.rs  (the solution's only)\n@@ -0,0 +1,5 @@\n+//! Words.\n",
        "src/mine.rs  (yours only)\n@@ -1 +0,0 @@\n-\u{fffd}[31m\n",
    ] {
        assert!(said.contains(part), "{said}");
    }

    // What marks passages for the book is none of the reader's.
    let solution = SOLUTION_02.replace("    println", "    // ANCHOR: x\n    println");
    workbook.write("solutions/step-02/src/main.rs", &solution);
    workbook.write(MAIN, &solution);
    let said = workbook.finds(&["compare", "2", "--only", "files"]);
    assert!(!said.contains("main.rs"), "{said}");
    let said = workbook.succeeds(&["compare", "solution-02", "--only", "files"]);
    assert!(said.contains("They are the same."), "{said}");
}

#[test]
fn a_step_that_does_not_compile_is_compared_by_its_files() {
    let workbook = workbook("broken");
    workbook.write(MAIN, "fn main() { no }");
    let (code, stdout, stderr) = workbook.run(&["compare", "2"]);
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(stderr.contains("cannot find value `no`"), "{stderr}");
    assert!(stdout.contains("step-02 does not compile: see"), "{stdout}");
    assert!(stdout.contains("-fn main() { no }\n"), "{stdout}");
    let said = workbook.finds(&["compare", "2", "--only", "traces"]);
    assert!(!said.contains("fn main"), "{said}");
}

#[test]
fn what_can_not_be_done_is_told_in_a_line() {
    let workbook = workbook("usage");
    for (arguments, told) in [
        (
            &["check", "7"][..],
            "there is no step-07; there are step-01, step-02",
        ),
        (
            &["check", "solution-7"],
            "there is no solution-07; there are solution-01, ",
        ),
        (&["compare", "7"], "there is no step-07; "),
        (
            &["check", "x"],
            "a step is named like 3, 03, step-03 or solution-03",
        ),
        (&["compare"], "<STEP>"),
        (&["compare", "2", "fast"], "a path starts with `/`"),
        (&["chek"], "a similar subcommand exists: 'check'"),
        (&["\u{1b}[31m"], "unrecognized subcommand"),
    ] {
        let error = workbook.refuses(arguments);
        assert!(
            error.starts_with("error: ") && error.contains(told),
            "{error}"
        );
        assert!(!error.contains('\u{1b}'), "{error}");
    }
}

#[test]
fn hints_are_those_of_the_next_step() {
    let workbook = workbook("hints");
    passes(&workbook, 1);
    let said = workbook.succeeds(&["hint"]);
    assert!(
        said.starts_with("step-02, hint 1 of 1: Concept\n\nA line.\n"),
        "{said}"
    );
    // One with nothing to write, and one that isn't there.
    let said = workbook.succeeds(&["hint", "1"]);
    assert!(said.starts_with("step-01 has no hints"), "{said}");
    let error = workbook.refuses(&["hint", "7"]);
    assert_eq!(
        error,
        "error: there is no step-07; there are step-01, step-02\n"
    );
    passes(&workbook, 2);
    let said = workbook.succeeds(&["hint"]);
    assert!(said.starts_with("All steps have passed."), "{said}");
}

#[test]
fn help_fits_a_terminal() {
    let workbook = workbook("help");
    fits_a_terminal(&workbook.succeeds(&["--help"]));
    for command in ["check", "compare", "hint", "reset", "trace"] {
        fits_a_terminal(&workbook.succeeds(&[command, "--help"]));
    }
}
