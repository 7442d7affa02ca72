//! What a check's output means.

/// What a check, or another test program, said.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    /// How many of its tests passed; `None` if it ended without a result.
    pub passed: Option<usize>,
    /// How many were left out, as tests that need Docker are without it.
    pub ignored: usize,
    /// Those that failed.
    pub failures: Vec<Failure>,
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
}

/// A test that failed.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// The test's name.
    pub test: String,
    /// The ids of its findings, such as `W06-PARENT`, each once.
    pub ids: Vec<String>,
}

/// Why a result isn't the one that was to be.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// One line.
    pub text: String,
    /// The surroundings failed, so that nothing is known about the code.
    pub surroundings: bool,
}

impl Problem {
    /// Something is wrong with the code.
    pub fn code(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            surroundings: false,
        }
    }

    /// Nothing could be found out.
    pub fn surroundings(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            surroundings: true,
        }
    }
}

/// Reads the output of a test program that ended with `code`.
pub fn read(output: &str, code: Option<i32>) -> Said {
    let mut passed = None;
    let mut ignored = 0;
    let mut failures: Vec<Failure> = Vec::new();
    for line in output.lines() {
        let heading = line
            .strip_prefix("---- ")
            .and_then(|line| line.strip_suffix(" ----"));
        if let Some(test) = heading {
            failures.push(Failure {
                test: test.to_owned(),
                ids: Vec::new(),
            });
        } else if let Some(result) = line.strip_prefix("test result: ") {
            passed = count(result, "passed").or(passed);
            ignored = count(result, "ignored").unwrap_or(0);
        } else if let Some(failure) = failures.last_mut() {
            for id in ids(line) {
                if !failure.ids.contains(&id) {
                    failure.ids.push(id);
                }
            }
        }
    }
    Said {
        passed,
        ignored,
        failures,
        code,
    }
}

/// The number before ` what` in a line of results.
fn count(result: &str, what: &str) -> Option<usize> {
    let before = result.split_once(&format!(" {what}"))?.0;
    before.rsplit(' ').next()?.parse().ok()
}

/// All `[W06-PARENT]` in a line, without the brackets.
fn ids(line: &str) -> impl Iterator<Item = String> {
    line.split('[').skip(1).filter_map(|rest| {
        let id = rest.split_once(']')?.0;
        let (step, kind) = id.strip_prefix('W')?.split_once('-')?;
        let is_step = step.len() == 2 && step.bytes().all(|byte| byte.is_ascii_digit());
        let is_kind = !kind.is_empty()
            && kind
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-');
        (is_step && is_kind).then(|| id.to_owned())
    })
}

impl Said {
    /// That all passed; how many.
    ///
    /// # Errors
    /// If one failed, or there was none.
    pub fn must_pass(&self, what: &str) -> Result<usize, Problem> {
        self.could_be_found_out(what)?;
        match (self.code, self.passed) {
            (Some(0), Some(0)) if self.ignored == 0 => {
                Err(Problem::code(format!("{what} has no test")))
            }
            (Some(0), Some(passed)) => Ok(passed),
            (code, None) => Err(without_result(what, code)),
            (_, Some(_)) => {
                let tests: Vec<_> = self.failures.iter().map(|it| it.test.as_str()).collect();
                Err(Problem::code(format!("{what} fails: {}", tests.join(", "))))
            }
        }
    }

    /// That it failed, and each of its failures with an id of `step`. Answers the ids.
    ///
    /// # Errors
    /// If it passed, or failed with something else.
    pub fn must_fail(&self, what: &str, step: u8) -> Result<Vec<String>, Problem> {
        self.could_be_found_out(what)?;
        if self.passed.is_none() {
            return Err(without_result(what, self.code));
        }
        if self.code == Some(0) {
            return Err(Problem::code(format!("{what} passes already")));
        }
        if self.failures.is_empty() {
            return Err(without_result(what, self.code));
        }
        let own = format!("W{step:02}-");
        let mut ids: Vec<String> = Vec::new();
        for failure in &self.failures {
            if failure.ids.is_empty() {
                let test = &failure.test;
                return Err(Problem::code(format!(
                    "{what}: `{test}` fails without an id"
                )));
            }
            for id in &failure.ids {
                if !id.starts_with(&own) {
                    let test = &failure.test;
                    return Err(Problem::code(format!(
                        "{what}: `{test}` fails with {id}, which is not of step {step:02}"
                    )));
                }
                if !ids.contains(id) {
                    ids.push(id.clone());
                }
            }
        }
        Ok(ids)
    }

    /// That the lab and what is around it worked.
    fn could_be_found_out(&self, what: &str) -> Result<(), Problem> {
        let lab = |failure: &&Failure| failure.ids.iter().any(|id| id.ends_with("-LAB"));
        if let Some(failure) = self.failures.iter().find(lab) {
            let test = &failure.test;
            return Err(Problem::surroundings(format!(
                "{what}: `{test}` could not be run: see the output"
            )));
        }
        if self.code == Some(2) {
            return Err(Problem::surroundings(format!(
                "{what} could not be run: see the output"
            )));
        }
        Ok(())
    }
}

fn without_result(what: &str, code: Option<i32>) -> Problem {
    let how = code.map_or("by a signal".to_owned(), |code| format!("with code {code}"));
    Problem::code(format!("{what} ended {how} and told no result"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As libtest-mimic prints it.
    fn failing(findings: &[(&str, &str)]) -> Said {
        let mut output =
            "\nstep 05  Requests out\n\nrunning 3 tests\ntest a ... ok\n\nfailures:\n\n".to_owned();
        for (test, finding) in findings {
            output.push_str(&format!("---- {test} ----\n{finding}\n\n"));
        }
        let failed = findings.len();
        output.push_str(&format!("\nfailures:\n    a\n\ntest result: FAILED. 1 passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s\n"));
        read(&output, Some(101))
    }

    #[test]
    fn a_starter_fails_with_ids_of_its_own() {
        let said = failing(&[
            ("fast", "✗ span missing  [W05-SPAN]\n  expected x[W] [1]"),
            ("slow", "✗ one  [W05-SPAN]\n✗ two  [W05-OLD-NAME]"),
        ]);
        assert_eq!(said.passed, Some(1));
        let ids = said.must_fail("it", 5).unwrap();
        assert_eq!(ids, ["W05-SPAN", "W05-OLD-NAME"]);
        let problem = said.must_fail("it", 6).unwrap_err();
        assert_eq!(
            problem.text,
            "it: `fast` fails with W05-SPAN, which is not of step 06"
        );
        assert!(!problem.surroundings);
    }

    #[test]
    fn a_failure_without_an_id_is_told() {
        let said = failing(&[("fast", "✗ x  [W05-SPAN]"), ("slow", "test panicked")]);
        let problem = said.must_fail("it", 5).unwrap_err();
        assert_eq!(problem.text, "it: `slow` fails without an id");
    }

    #[test]
    fn a_failing_lab_is_no_finding() {
        let said = failing(&[
            ("fast", "✗ x  [W05-SPAN]"),
            ("slow", "✗ no broker  [W05-LAB]"),
        ]);
        assert!(said.must_fail("it", 5).unwrap_err().surroundings);
        assert!(said.must_pass("it").unwrap_err().surroundings);
        assert!(
            read("step 05: WORKBOOK_BROKER …", Some(2))
                .must_pass("it")
                .unwrap_err()
                .surroundings
        );
    }

    #[test]
    fn passing_and_failing_are_told_apart() {
        let passing = read(
            "\ntest result: ok. 14 passed; 0 failed; 0 ignored\n",
            Some(0),
        );
        assert_eq!(passing.must_pass("it"), Ok(14));
        assert_eq!(
            passing.must_fail("it", 5).unwrap_err().text,
            "it passes already"
        );
        let failing = failing(&[("fast", "✗ x  [W05-SPAN]"), ("slow", "✗ y  [W05-SPAN]")]);
        assert_eq!(
            failing.must_pass("it").unwrap_err().text,
            "it fails: fast, slow"
        );
        let none = read("test result: ok. 0 passed; 0 failed\n", Some(0));
        assert_eq!(none.must_pass("it").unwrap_err().text, "it has no test");
        let left_out = read(
            "test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured\n",
            Some(0),
        );
        assert_eq!(left_out.must_pass("it"), Ok(0));
    }

    #[test]
    fn an_end_without_a_result_is_neither() {
        for code in [None, Some(0), Some(101)] {
            let said = read("thread 'main' panicked\n", code);
            assert!(
                said.must_pass("it")
                    .unwrap_err()
                    .text
                    .contains("told no result")
            );
            assert!(
                said.must_fail("it", 5)
                    .unwrap_err()
                    .text
                    .contains("told no result")
            );
        }
    }
}
