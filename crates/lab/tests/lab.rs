//! Tests of the lab: that what a check sees of its subject is what there is to see.
//!
//! The program under test is this same binary. The variable `SUBJECT` says what it
//! shall do then, so that nothing has to be built, found or written first.

mod suite;

use std::{ffi::OsStr, process::ExitCode};

use libtest_mimic::{Arguments, Trial};

/// Tests wait for each other's processes more than they compute.
const TEST_THREADS: usize = 6;

fn main() -> ExitCode {
    if let Ok(role) = std::env::var(suite::subject::ROLE) {
        return suite::subject::play(&role);
    }
    if let Some(child) = suite::environment::child().or_else(suite::passing::child) {
        return child;
    }
    if let Err(error) = lab::clean_environment(&suite::NONSENSE.map(|(n, v)| (n, OsStr::new(v)))) {
        eprintln!("the environment can't be cleaned: {error}");
        return ExitCode::FAILURE;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(TEST_THREADS);
    let trial = |(name, test): (&'static str, suite::Test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    // Where Docker isn't asked for, they are listed as ignored.
    let unwanted = !containers::trials::wanted();
    let with_docker = suite::with_docker().map(|test| trial(test).with_ignored_flag(unwanted));
    let trials = suite::all().map(trial).chain(with_docker).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
