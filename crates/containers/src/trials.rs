//! Tests that need Docker: run when it is asked for, and said to be not run when not.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// The name of a test and what it does. It fails by a panic.
pub type Test = (&'static str, fn());

/// What is said where they are not run.
pub const NOT_RUN: &str = "not run without Docker: WORKBOOK_BROKER=docker runs these";

/// Whether tests that need Docker are to be run: WORKBOOK_BROKER is `docker`.
pub fn wanted() -> bool {
    std::env::var_os("WORKBOOK_BROKER").is_some_and(|value| value == "docker")
}

/// Runs `tests` one after the other, as `cargo test` would. Unless Docker is asked
/// for, they are listed as ignored, and `--ignored` runs them.
pub fn run(tests: &[Test]) -> ExitCode {
    run_if(wanted(), NOT_RUN, tests)
}

/// [`run`] for tests that need something else: `wanted` says whether it is there, and
/// `not_run` is said where it isn't.
pub fn run_if(wanted: bool, not_run: &str, tests: &[Test]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(1);
    if !wanted && !arguments.list {
        println!("\n{not_run}");
    }
    let trials = tests
        .iter()
        .map(|&(name, test)| {
            Trial::test(name, move || {
                test();
                Ok(())
            })
            .with_ignored_flag(!wanted)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
