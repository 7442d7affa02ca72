//! `cargo workbook dev check`: whether starters and solutions are what they should be.

use std::{path::PathBuf, process::ExitCode};

use super::{
    breaks, pictures,
    programs::{self, Package},
    sources,
    verdict::Problem,
};
use crate::{EXIT_ENVIRONMENT, Error, starter::Workspace, terminal};

/// Fewer lines than this are told as few.
const FEW_LINES: usize = 10;

/// Checks `steps`, a line each. 0 if all are well, 1 if something is wrong, 2 if
/// something could not be found out.
pub fn check(workspace: &Workspace, steps: &[u8]) -> Result<ExitCode, Error> {
    let mut all: Vec<Problem> = Vec::new();
    for step in steps {
        let say = |line: &str| terminal::say(&format!("step {step:02}  {line}\n"));
        let problems = match check_one(workspace, *step)? {
            Err(problems) => problems,
            Ok(passed) => {
                say(&passed.line);
                match breaks::check(workspace, *step, &passed.check)? {
                    Err(problems) => problems,
                    Ok(tally) => {
                        if !tally.is_empty() {
                            say(&tally.to_string());
                        } else if passed.to_write > 0 {
                            say("no wrong solution is kept");
                        }
                        Vec::new()
                    }
                }
            }
        };
        for problem in problems {
            say(&format!("✗ {}", problem.text));
            all.push(problem);
        }
    }
    if pictures::is_there(workspace) {
        let problems = pictures::check_and_tell(workspace).into_iter();
        all.extend(problems.map(Problem::code));
    }
    Ok(if all.is_empty() {
        ExitCode::SUCCESS
    } else if all.iter().any(|problem| problem.surroundings) {
        ExitCode::from(EXIT_ENVIRONMENT)
    } else {
        ExitCode::FAILURE
    })
}

/// A step that is as it should be.
struct Passed {
    /// Says how it stands.
    line: String,
    /// How many lines the reader writes.
    to_write: usize,
    /// The solution's check.
    check: PathBuf,
}

/// Starter and solution of one step: how they stand, or what is wrong with them.
fn check_one(workspace: &Workspace, step: u8) -> Result<Result<Passed, Vec<Problem>>, Error> {
    let sources = sources::look_at(workspace, step)?;
    if !sources.problems.is_empty() {
        // A starter that isn't the one that readers get need not be run.
        let problems = sources.problems.into_iter().map(Problem::code);
        return Ok(Err(problems.collect()));
    }
    let [starter, mut solution] = programs::build(workspace, step)?;
    let names = [workspace.step(step), workspace.solution(step)].map(|path| workspace.tell(&path));
    let mut problems = Vec::new();
    for (package, name) in [(&starter, &names[0]), (&solution, &names[1])] {
        problems.extend(compiles(package, name));
    }
    if !problems.is_empty() {
        return Ok(Err(problems));
    }

    let mut passed = Vec::new();
    let mut failed_with = Vec::new();
    for (package, folder, is_starter) in [
        (&starter, workspace.step(step), true),
        (&solution, workspace.solution(step), false),
    ] {
        // The solution alone has further tests.
        let tests = if is_starter {
            &package.tests[..1]
        } else {
            &package.tests
        };
        for (test, program) in tests {
            let what = format!("{}'s {test}", workspace.tell(&folder));
            let (said, output) = match programs::run(workspace, &folder, program, None) {
                Err(error @ Error::TooLong(..)) => {
                    problems.push(Problem::code(format!("{what}: {error}")));
                    continue;
                }
                other => other?,
            };
            // Step 01 has nothing to write and passes as it is.
            let result = if is_starter && sources.to_write > 0 {
                said.must_fail(&what, step)
                    .map(|ids| failed_with.extend(ids))
            } else {
                said.must_pass(&what)
                    .map(|tests| passed.push(tests.to_string()))
            };
            if let Err(problem) = result {
                eprintln!("{output}");
                problems.push(problem);
            }
        }
    }
    if !problems.is_empty() {
        return Ok(Err(problems));
    }
    let passed = passed.join(" + ");
    let line = match sources.to_write {
        0 => format!("starter and solution pass ({passed} tests), nothing to write"),
        lines => {
            let noun = if lines == 1 { "line" } else { "lines" };
            let few = if lines < FEW_LINES { " (few)" } else { "" };
            format!(
                "starter fails with {}, solution passes ({passed} tests), {lines} {noun} to write{few}",
                failed_with.join(", ")
            )
        }
    };
    Ok(Ok(Passed {
        line,
        to_write: sources.to_write,
        check: solution.tests.swap_remove(0).1,
    }))
}

/// What the compiler has to say, and that there is a check. Prints its messages.
fn compiles(package: &Package, name: &str) -> Option<Problem> {
    for message in package.errors.iter().chain(&package.warnings) {
        eprintln!("{message}");
    }
    if !package.errors.is_empty() {
        Some(Problem::code(format!(
            "{name} does not compile: see the messages above"
        )))
    } else if !package.warnings.is_empty() {
        Some(Problem::code(format!(
            "{name} compiles with warnings that the reader did not cause: see above"
        )))
    } else if package
        .tests
        .first()
        .is_none_or(|(test, _)| test != "check")
    {
        Some(Problem::code(format!("{name} has no test `check`")))
    } else {
        None
    }
}
