//! That a step's check which passes is noted, and nothing else is.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use lab::{
    Case, Check, Home, Outcome,
    passed::{self, Standing},
};

use super::{Test, this_program};

/// All tests of this file.
pub const ALL: &[(&str, Test)] = &[
    ("passing::a_pass_is_noted", a_pass_is_noted),
    ("passing::nothing_else_is_noted", nothing_else_is_noted),
    (
        "passing::what_can_not_be_noted_passes_all_the_same",
        what_can_not_be_noted_passes_all_the_same,
    ),
];

/// Names the workspace to a process that is such a check.
const WORKSPACE: &str = "WORKBOOK_PASSING_WORKSPACE";

/// Names its package, whose sources are those of step 05 in any case.
const PACKAGE: &str = "WORKBOOK_PASSING_PACKAGE";

/// What the second test does.
const SECOND: &str = "WORKBOOK_PASSING_SECOND";

/// What this process does if it is such a check.
pub fn child() -> Option<ExitCode> {
    let workspace = std::env::var(WORKSPACE).ok()?;
    let package = std::env::var(PACKAGE).ok()?;
    let home = Home {
        manifest_dir: format!("{workspace}/steps/step-05").into(),
        file: "steps/step-05/tests/check.rs".into(),
        package: package.into(),
        binary: "never started".into(),
    };
    let second = match std::env::var(SECOND).as_deref() {
        Ok("fails") => fails,
        Ok("edits") => edits,
        _ => passes,
    };
    let check = Check::new("05", "Requests out", home);
    Some(check.test("one", passes).test("two", second).run())
}

fn passes(_: &Case) -> Outcome {
    Ok(())
}

fn fails(case: &Case) -> Outcome {
    Err(case.diagnosis("SPAN", "a span is missing").into())
}

/// As a reader who saves while the check runs.
fn edits(_: &Case) -> Outcome {
    let workspace = std::env::var(WORKSPACE).expect("the parent set it");
    let file = Path::new(&workspace).join("steps/step-05/src/main.rs");
    fs::write(file, "edited").expect("it can be written");
    Ok(())
}

fn workspace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let source = folder.path().join("steps/step-05/src");
    fs::create_dir_all(&source).expect("a folder can be made");
    fs::write(source.join("main.rs"), "fn main() {}").expect("a file can be written");
    folder
}

/// Runs the check; answers its exit code.
fn run(workspace: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Option<i32> {
    let output = Command::new(this_program())
        .args(arguments)
        .env_clear()
        .env(WORKSPACE, workspace)
        .env(PACKAGE, "step-05")
        .env("WORKBOOK_BROKER", "embedded")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output();
    output.expect("this binary is there").status.code()
}

fn a_pass_is_noted() {
    let folder = workspace();
    assert_eq!(passed::standing(folder.path(), 5), Standing::Never);
    assert_eq!(run(folder.path(), &[], &[]), Some(0));
    assert_eq!(passed::standing(folder.path(), 5), Standing::Passed);
    // What fails later doesn't unmake it: nothing was changed.
    assert_eq!(run(folder.path(), &[], &[(SECOND, "fails")]), Some(101));
    assert_eq!(passed::standing(folder.path(), 5), Standing::Passed);
}

fn nothing_else_is_noted() {
    let cases = [
        (&[][..], &[(SECOND, "fails")][..], 101),
        (&[], &[(SECOND, "edits")], 0),
        (&["one"], &[], 0),
        (&["--skip", "two"], &[], 0),
        (&["--list"], &[], 0),
        (&["--ignored"], &[], 0),
        // Another program than the step's own.
        (&[], &[("TIER1_CMD", "true")], 0),
        (&[], &[("WORKBOOK_TIER1", "/bin/true")], 0),
        (&[], &[(PACKAGE, "solution-05")], 0),
        (&[], &[(PACKAGE, "break-05-x")], 0),
        // A maintainer's way, which compares nothing.
        (&[], &[("INSTA_CARGO_INSTA", "1")], 0),
    ];
    for (arguments, variables, code) in cases {
        let folder = workspace();
        let ended = run(folder.path(), arguments, variables);
        assert_eq!(ended, Some(code), "{arguments:?} {variables:?}");
        let standing = passed::standing(folder.path(), 5);
        assert_eq!(standing, Standing::Never, "{arguments:?} {variables:?}");
        assert!(!folder.path().join("target").exists());
    }
}

fn what_can_not_be_noted_passes_all_the_same() {
    let folder = workspace();
    fs::write(folder.path().join("target"), "no folder").expect("a file can be written");
    assert_eq!(run(folder.path(), &[], &[]), Some(0));
    assert_eq!(passed::standing(folder.path(), 5), Standing::Never);
}
