//! `cargo workbook dev`, on a small workbook of two steps.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;

use common::{Fixture, GIVEN, SOLUTION_02};

const PATCH: &str = "crates/workbook/starters/step-02.patch";

#[test]
fn patches_are_written_and_starters_proved() {
    let workbook = Fixture::without_patch("proved");
    assert!(workbook.finds(&["dev", "check", "2"]).contains(&format!(
        "step 02  ✗ step 02 has no starter yet: there is no {PATCH}"
    )));
    let said = workbook.succeeds(&["dev", "starters"]);
    assert!(
        said.starts_with(&format!("step 02  {PATCH} written: ")),
        "{said}"
    );
    let patch = workbook.read(PATCH);
    for line in [
        "--- a/Cargo.toml",
        "+++ b/Cargo.toml",
        "--- a/src/main.rs",
        "--- /dev/null",
        "+++ b/src/given.rs",
        "+description = \"Step 02, The first span: lines.\"",
        "+    // TODO 1: print the second line, `span`.",
    ] {
        assert!(patch.lines().any(|it| it == line), "{patch}");
    }
    // Names are told by rule.
    assert!(!patch.contains("\n+name"), "{patch}");
    let said = workbook.succeeds(&["dev", "starters", "02"]);
    assert_eq!(said, format!("step 02  {PATCH} is as it was\n"));
    assert_eq!(
        workbook.succeeds(&["dev", "check"]),
        "step 01  starter and solution pass (1 + 1 + 1 tests), nothing to write\n\
         step 02  starter fails with W02-SPAN, solution passes (1 + 1 tests), 1 line to write (few)\n\
         step 02  no wrong solution is kept\n"
    );
}

/// Each token of a solution is held by something: the patch that follows it, the files
/// in steps/ that the patch must give, or the check.
#[test]
fn a_changed_token_of_a_solution_is_found() {
    let workbook = Fixture::new("tokens");
    for file in [
        "solutions/step-01/src/main.rs",
        "solutions/step-01/Cargo.toml",
        "solutions/step-02/src/given.rs",
    ] {
        let before = workbook.read(file);
        // The solution's name and its further tests are its own.
        let shared = before
            .split("\n[[test]]\nname = \"behaviour\"")
            .next()
            .unwrap();
        let mut tokens = 0;
        for (at, _) in shared.match_indices(|c: char| c.is_alphanumeric()) {
            let starts = !shared[..at].ends_with(|c: char| c.is_alphanumeric());
            if !starts {
                continue;
            }
            tokens += 1;
            let changed = format!("{}x{}", &before[..at], &before[at..]);
            workbook.write(file, &changed);
            let said = workbook.finds(&["dev", "check", "2"]);
            assert!(said.starts_with("step 02  ✗ "), "{changed}: {said}");
        }
        assert!(tokens > 5, "{file} has {tokens} tokens");
        workbook.write(file, &before);
    }
    workbook.succeeds(&["dev", "check", "2"]);
}

#[test]
fn a_changed_token_is_told_where_it_shows() {
    let workbook = Fixture::new("token");
    for (file, from, to, found) in [
        // Near what the patch changes: it doesn't apply.
        (
            "solutions/step-01/src/main.rs",
            "println!",
            "print!",
            "step 02  ✗ crates/workbook/starters/step-02.patch does not apply: src/main.rs is not \
             as expected in line 4; it is applied to solutions/step-01",
        ),
        (
            "solutions/step-01/Cargo.toml",
            "harness = false\n\n",
            "harness = true\n\n",
            "step 02  ✗ steps/step-02/Cargo.toml is not what crates/workbook/starters/step-02.patch \
             makes of solutions/step-01: it differs in line 9 (`cargo workbook dev starters 2` \
             writes the patch anew, `cargo workbook reset 2` the files)",
        ),
        (
            "solutions/step-02/src/given.rs",
            "greeting()",
            "greeting( )",
            "step 02  ✗ steps/step-02/src/given.rs holds no TODO, so it is given and must be as \
             in the solution: `pub fn greeting() -> &'static str {` is not there",
        ),
        (
            "solutions/step-02/src/main.rs",
            "\"span\"",
            "\"spam\"",
            "step 02  ✗ solutions/step-02's check fails: lines",
        ),
    ] {
        let before = workbook.read(file);
        workbook.replace(file, from, to);
        let said = workbook.finds(&["dev", "check"]);
        assert!(said.lines().any(|line| line == found), "{file}: {said}");
        workbook.write(file, &before);
    }
}

/// Applies `edit` to the starter, makes its patch, and says what the check finds.
fn spoilt(name: &str, edit: impl FnOnce(&Fixture)) -> (Option<i32>, String) {
    let workbook = Fixture::without_patch(name);
    edit(&workbook);
    workbook.succeeds(&["dev", "starters"]);
    let (code, stdout, _) = workbook.run(&["dev", "check", "2"]);
    (code, stdout)
}

const MAIN: &str = "steps/step-02/src/main.rs";
const CHECK: &str = "steps/step-02/tests/check.rs";

#[test]
fn a_starter_must_fail() {
    let (code, said) = spoilt("passes", |workbook| {
        workbook.replace(
            MAIN,
            "    // TODO",
            "    print!(\"{}\\n\", \"span\");\n    // TODO",
        );
    });
    assert_eq!(said, "step 02  ✗ steps/step-02's check passes already\n");
    assert_eq!(code, Some(1));
}

#[test]
fn a_starter_must_fail_with_its_own_id() {
    let (code, said) = spoilt("other", |workbook| {
        workbook.replace(CHECK, "W02-SPAN", "W01-SPAN");
    });
    assert!(
        said.contains("fails with W01-SPAN, which is not of step 02"),
        "{said}"
    );
    assert_eq!(code, Some(1));
}

#[test]
fn a_failing_lab_is_told_apart() {
    let (code, said) = spoilt("lab", |workbook| {
        workbook.replace(CHECK, "W02-SPAN", "W02-LAB");
    });
    assert!(said.contains("`lines` could not be run"), "{said}");
    assert_eq!(code, Some(2));
}

#[test]
fn a_starter_must_compile_without_warnings() {
    let (code, said) = spoilt("error", |workbook| {
        workbook.replace(MAIN, "given::greeting()", "given::salute()");
    });
    assert!(said.contains("steps/step-02 does not compile"), "{said}");
    assert_eq!(code, Some(1));
    let (code, said) = spoilt("warning", |workbook| {
        workbook.replace(MAIN, "given::greeting()", "\"hello\"");
    });
    assert!(
        said.contains("steps/step-02 compiles with warnings"),
        "{said}"
    );
    assert_eq!(code, Some(1));
}

#[test]
fn what_is_wrong_with_the_files_is_told_at_once() {
    let workbook = Fixture::without_patch("files");
    let long = "    println!(\"more\");\n".repeat(50);
    workbook.write(
        "solutions/step-02/src/main.rs",
        &SOLUTION_02.replace("}\n", &format!("{long}}}\n")),
    );
    workbook.write("solutions/step-02/src/more.rs", GIVEN);
    workbook.replace(MAIN, " Step 02, The first span.", "");
    workbook.succeeds(&["dev", "starters"]);
    let said = workbook.finds(&["dev", "check"]);
    for found in [
        "steps/step-02/src/main.rs does not name the step, The first span, in its first line",
        "steps/step-02/src/more.rs is in the solution only: the reader would have to make it",
        "51 lines are left to write, 50 is the most",
    ] {
        assert!(said.contains(&format!("step 02  ✗ {found}\n")), "{said}");
    }
    assert!(
        said.starts_with("step 01  starter and solution pass"),
        "{said}"
    );
}

#[test]
fn a_patch_must_be_readable_and_stay_in_the_package() {
    let workbook = Fixture::new("unreadable");
    workbook.write(PATCH, "nonsense\n");
    assert!(
        workbook
            .finds(&["dev", "check", "2"])
            .contains(&format!("{PATCH} is no patch"))
    );
    workbook.write(PATCH, "--- /dev/null\n+++ b/../../x\n@@ -0,0 +1 @@\n+x\n");
    let error = workbook.refuses(&["reset", "2", "--yes"]);
    assert!(
        error.contains("a starter is Cargo.toml and what is in src/"),
        "{error}"
    );
}

#[test]
fn steps_that_are_not_there_are_named() {
    let workbook = Fixture::new("missing");
    for command in ["check", "starters"] {
        let error = workbook.refuses(&["dev", command, "7"]);
        assert_eq!(
            error,
            "error: there is no step-07; there are step-01, step-02\n"
        );
    }
    let error = workbook.refuses(&["dev", "starters", "1"]);
    assert_eq!(
        error,
        "error: step 01 has no patch: its starter is its solution\n"
    );
    std::fs::remove_dir_all(workbook.path("solutions/step-02")).unwrap();
    let said = workbook.finds(&["dev", "check", "2"]);
    assert_eq!(said, "step 02  ✗ there is no solutions/step-02\n");
}

/// A patch of solution 02 that replaces the line that prints `span`.
fn replaces_span(head: &str, line: &str) -> String {
    format!(
        "{head}\n--- a/src/main.rs\n+++ b/src/main.rs\n@@ -6,3 +6,3 @@\n     \
         println!(\"{{}}\", given::greeting());\n-    println!(\"span\");\n+    {line}\n }}\n"
    )
}

const BREAKS: &str = "crates/workbook/breaks/step-02";

#[test]
fn wrong_solutions_are_refused_and_right_ones_accepted() {
    let workbook = Fixture::new("breaks");
    let write = |name: &str, head: &str, line: &str| {
        workbook.write(
            &format!("{BREAKS}/{name}.patch"),
            &replaces_span(head, line),
        );
    };
    write("nothing", "# finds: W02-SPAN", "println!(\"{}\", \"\");");
    write("spam", "# Spam.\n# finds: W02-SPAN", "println!(\"spam\");");
    write("in-two", "# accepted", "print!(\"span{}\", '\\n');");
    // A package of another name has its own, and a solution that moved is still the one.
    workbook.write(
        "solutions/step-02/src/main.rs",
        &SOLUTION_02.replace("mod given;\n", "// Given.\nmod given;\n"),
    );
    let passes = "step 02  starter fails with W02-SPAN, solution passes (1 + 1 tests), 1 line to \
                  write (few)\n";
    let refused = "2 wrong solutions refused, 1 other right one accepted";
    assert_eq!(
        workbook.succeeds(&["dev", "check", "2"]),
        format!("{passes}step 02  {refused}\n")
    );

    // What was built for them is no part of the workspace.
    let lock = workbook.read("Cargo.lock");
    assert!(!lock.contains("break-02"), "{lock}");

    write(
        "spam",
        "# finds: W02-SPAN",
        "println!(\"span\"); println!(\"spam\");",
    );
    write("in-two", "# accepted", "print!(\"span\");");
    write("nothing", "# finds: W02-NAME", "println!();");
    let said = workbook.finds(&["dev", "check", "2"]);
    assert_eq!(
        said,
        format!(
            "{passes}step 02  ✗ {BREAKS}/in-two.patch: the check fails: lines\n\
             step 02  ✗ {BREAKS}/nothing.patch is refused with W02-SPAN, not with W02-NAME\n\
             step 02  ✗ {BREAKS}/spam.patch: the check passes already\n"
        )
    );
}

#[test]
fn a_patch_that_can_not_be_tried_is_told() {
    let workbook = Fixture::new("no-break");
    let error = |patch: &str| {
        workbook.write(&format!("{BREAKS}/x.patch"), patch);
        let said = workbook.finds(&["dev", "check", "2"]);
        let told = said
            .lines()
            .find_map(|line| line.strip_prefix(&format!("step 02  ✗ {BREAKS}/x.patch")));
        told.unwrap_or_else(|| panic!("{said}")).to_owned()
    };
    let head = "# finds: W02-SPAN";
    assert_eq!(
        error(&replaces_span(head, "println!(span);")),
        " does not compile: see the messages above"
    );
    let other = replaces_span(head, "println!();").replace("\"span\"", "\"spam\"");
    let said = error(&other);
    assert!(said.starts_with(" does not apply: src/main.rs ("), "{said}");
    assert_eq!(
        error("nonsense"),
        " must begin with one line `# finds: W02-…` or `# accepted`"
    );
    assert_eq!(
        error(&replaces_span("# finds: W03-SPAN", "println!();")),
        " names `W03-SPAN`: it must be ids like W02-STATUS"
    );
    let said = error("# accepted\nnonsense\n");
    assert!(
        said.starts_with(" is no patch that can be read: "),
        "{said}"
    );
}
