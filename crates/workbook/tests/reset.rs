//! `cargo workbook reset`, on a small workbook of two steps.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

#[allow(dead_code)]
mod common;

use std::{fs, path::PathBuf};

use common::{Fixture, GIVEN, MAIN_01, STARTER_02};

const MAIN: &str = "steps/step-02/src/main.rs";

/// Where the copies are, the oldest first.
fn kept(workbook: &Fixture, step: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(workbook.path(&format!("steps/{step}/.kept"))) else {
        return Vec::new();
    };
    let mut kept: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    kept.sort();
    kept
}

#[test]
fn a_step_goes_back_and_a_copy_is_kept() {
    let workbook = Fixture::new("back");
    let manifest = workbook.read("steps/step-02/Cargo.toml");
    let check = workbook.read("steps/step-02/tests/check.rs");
    workbook.write(MAIN, "my code");
    workbook.write("steps/step-02/src/mine/deep.rs", "mine");
    workbook.write("steps/step-02/tests/check.rs", "not touched");
    workbook.replace("steps/step-02/Cargo.toml", "2024", "2021");
    fs::write(workbook.path("steps/step-02/src/bytes"), [0xff, 0xfe]).unwrap();
    fs::remove_file(workbook.path("steps/step-02/src/given.rs")).unwrap();

    let said = workbook.succeeds(&["reset", "2", "--yes"]);
    for line in [
        "step-02 goes back to its starter:",
        "  replaces Cargo.toml",
        "  replaces src/main.rs",
        "  removes  src/mine/deep.rs",
        "  removes  src/bytes",
        "  restores src/given.rs",
    ] {
        assert!(said.lines().any(|it| it == line), "{said}");
    }
    assert_eq!(workbook.read(MAIN), STARTER_02);
    assert_eq!(workbook.read("steps/step-02/src/given.rs"), GIVEN);
    assert_eq!(workbook.read("steps/step-02/Cargo.toml"), manifest);
    assert!(!workbook.path("steps/step-02/src/mine").exists());
    assert!(!workbook.path("steps/step-02/src/bytes").exists());
    assert_eq!(workbook.read("steps/step-02/tests/check.rs"), "not touched");

    let copies = kept(&workbook, "step-02");
    let [copy] = &copies[..] else {
        panic!("not one copy: {copies:?}");
    };
    let name = copy.file_name().unwrap().to_str().unwrap();
    assert!(
        said.contains(&format!("is kept in steps/step-02/.kept/{name}\n")),
        "{said}"
    );
    let old = |file: &str| fs::read(copy.join(file)).unwrap();
    assert_eq!(old("src/main.rs"), b"my code");
    assert_eq!(old("src/mine/deep.rs"), b"mine");
    assert_eq!(old("src/bytes"), [0xff, 0xfe]);
    assert_eq!(
        old("Cargo.toml"),
        manifest.replace("2024", "2021").as_bytes()
    );

    // Again: nothing to do, nothing kept. And once more: a copy beside the first.
    assert_eq!(
        workbook.succeeds(&["reset", "02", "--yes"]),
        "step-02 is as at its start\n"
    );
    assert_eq!(kept(&workbook, "step-02").len(), 1);
    workbook.write(MAIN, "my other code");
    workbook.succeeds(&["reset", "step-02", "--yes"]);
    assert_eq!(kept(&workbook, "step-02").len(), 2);
    workbook.write("steps/step-02/tests/check.rs", &check);
    workbook.succeeds(&["dev", "check", "2"]);
}

#[test]
fn the_first_step_comes_from_its_solution() {
    let workbook = Fixture::without_patch("first");
    workbook.write("steps/step-01/src/main.rs", "my code");
    fs::remove_file(workbook.path("steps/step-01/Cargo.toml")).unwrap();
    workbook.succeeds(&["reset", "1", "--yes"]);
    assert_eq!(workbook.read("steps/step-01/src/main.rs"), MAIN_01);
    assert!(
        workbook
            .read("steps/step-01/Cargo.toml")
            .contains("name = \"step-01\"")
    );
    workbook.succeeds(&["dev", "check", "1"]);
}

#[cfg(unix)]
#[test]
fn a_link_is_replaced_and_not_followed() {
    let workbook = Fixture::new("link");
    workbook.write("elsewhere.rs", "elsewhere");
    fs::remove_file(workbook.path(MAIN)).unwrap();
    std::os::unix::fs::symlink(workbook.path("elsewhere.rs"), workbook.path(MAIN)).unwrap();
    workbook.succeeds(&["reset", "2", "--yes"]);
    assert_eq!(workbook.read(MAIN), STARTER_02);
    assert_eq!(workbook.read("elsewhere.rs"), "elsewhere");
    let copy = kept(&workbook, "step-02")[0].join("src/main.rs");
    assert!(copy.symlink_metadata().unwrap().is_symlink());
}

#[test]
fn nothing_is_touched_unasked() {
    let workbook = Fixture::new("unasked");
    workbook.write(MAIN, "my code");
    let error = workbook.refuses(&["reset", "2"]);
    assert_eq!(
        error,
        "error: `reset` asks first, and here is nobody to answer: add --yes\n"
    );
    assert_eq!(workbook.read(MAIN), "my code");
    assert_eq!(kept(&workbook, "step-02").len(), 0);
}

#[test]
fn what_can_not_be_reset_is_told_in_a_line() {
    let workbook = Fixture::new("errors");
    workbook.write(MAIN, "my code");
    for (step, told) in [
        ("7", "there is no step-07; there are step-01, step-02"),
        ("solution-02", "solution-02 is the finished code"),
    ] {
        let error = workbook.refuses(&["reset", step, "--yes"]);
        assert!(error.contains(told), "{error}");
    }
    workbook.replace("solutions/step-01/src/main.rs", "hello", "good bye");
    let error = workbook.refuses(&["reset", "2", "--yes"]);
    assert_eq!(
        error,
        "error: crates/workbook/starters/step-02.patch does not apply: src/main.rs is not as \
         expected in line 4; it is applied to solutions/step-01\n"
    );
    fs::remove_file(workbook.path("crates/workbook/starters/step-02.patch")).unwrap();
    let error = workbook.refuses(&["reset", "2", "--yes"]);
    assert_eq!(
        error,
        "error: step 02 has no starter yet: there is no crates/workbook/starters/step-02.patch\n"
    );
    assert_eq!(workbook.read(MAIN), "my code");
}
