//! Runs the checks of a step.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use libtest_mimic::{Arguments, Failed, Trial};
use otlp::{Order, Rules};

use crate::{
    contract::StepContract,
    diagnosis::{Diagnosis, difference, expected_and_got},
    environment,
    error::LabError,
    lab::{Lab, LabConfig, Recording, Response},
    subject::Program,
};

/// tier1's QUEUE_TIMEOUT_MS in checks, but for those that are about it. Longer than
/// its own 2 s: the first message waits for the first connection, and a laptop that
/// compiles something else meanwhile may need its time for that.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// How many tests run at a time, unless `--test-threads` says otherwise.
const TEST_THREADS: usize = 6;

/// Where a check stands and what it checks. Made by [`check!`](crate::check!).
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Home {
    pub manifest_dir: &'static str,
    pub file: &'static str,
    pub binary: &'static str,
}

/// Makes the check of a step: `lab::check!("01", "Meet tier1")`.
///
/// The program under test is the binary of the package that the check is compiled
/// for, be it the starter or the solution, unless TIER1_CMD names another.
#[macro_export]
macro_rules! check {
    ($step:literal, $title:literal) => {
        $crate::Check::new(
            $step,
            $title,
            $crate::Home {
                manifest_dir: env!("CARGO_MANIFEST_DIR"),
                file: file!(),
                binary: env!(concat!("CARGO_BIN_EXE_", env!("CARGO_PKG_NAME"))),
            },
        )
    };
}

/// Compares a recording with the snapshot of that name beside the check.
///
/// A difference is told in the check's own words. Only when there is none, or when
/// `cargo insta test` runs, insta gets to see it: its "new results" would look like
/// the target to a reader.
#[macro_export]
macro_rules! assert_traces {
    ($case:expr, $name:literal, $recording:expr) => {
        $case
            .compare($name, $recording)
            .map(|text| ::insta::assert_snapshot!($name, text))
    };
}

/// What one test of a check answers.
pub type Outcome = Result<(), Failure>;

/// Why a test did not pass.
#[derive(Debug)]
pub enum Failure {
    /// Something is not as the chapter wants it.
    Diagnosis(Box<Diagnosis>),
    /// The surroundings failed, so that nothing could be said.
    Lab(LabError),
}

impl From<Diagnosis> for Failure {
    fn from(diagnosis: Diagnosis) -> Self {
        Self::Diagnosis(Box::new(diagnosis))
    }
}

impl From<LabError> for Failure {
    fn from(error: LabError) -> Self {
        Self::Lab(error)
    }
}

/// One test of a check.
pub type Test = fn(&Case) -> Outcome;

/// The tests of one step.
pub struct Check {
    step: &'static str,
    title: &'static str,
    home: Home,
    tests: Vec<(&'static str, Test)>,
}

impl Check {
    #[doc(hidden)]
    pub fn new(step: &'static str, title: &'static str, home: Home) -> Self {
        Self {
            step,
            title,
            home,
            tests: Vec::new(),
        }
    }

    /// Adds a test.
    #[must_use]
    pub fn test(mut self, name: &'static str, test: Test) -> Self {
        self.tests.push((name, test));
        self
    }

    /// Adds tests.
    #[must_use]
    pub fn tests(mut self, tests: impl IntoIterator<Item = (&'static str, Test)>) -> Self {
        self.tests.extend(tests);
        self
    }

    /// Runs those tests that the command line asks for, as `cargo test` would, and
    /// tells what they found. 0 if all passed, 101 if not, 2 if the surroundings
    /// can't be used.
    pub fn run(self) -> ExitCode {
        let mut arguments = Arguments::from_args();
        // Tests wait for each other's processes more than they compute.
        arguments.test_threads.get_or_insert(TEST_THREADS);
        match self.prepare(arguments.list) {
            Ok(case) => self.run_with(&arguments, case),
            Err(error) => {
                eprintln!("step {}: {error}", self.step);
                ExitCode::from(2)
            }
        }
    }

    fn prepare(&self, list: bool) -> Result<Case, LabError> {
        environment::clean(&[])?;
        let config = LabConfig {
            queue_timeout: QUEUE_TIMEOUT,
            ..LabConfig::from_env()?
        };
        // To name the tests, no broker has to be started.
        if !list {
            config.broker.prepare()?;
        }
        Ok(Case {
            step: self.step,
            home: self.home,
            program: match Program::from_env()? {
                Some(program) => program,
                None => Program::tier1(self.home.binary),
            },
            config,
            shown: Arc::default(),
        })
    }

    fn run_with(self, arguments: &Arguments, case: Case) -> ExitCode {
        if !arguments.list {
            println!("\nstep {}  {}", self.step, self.title);
            println!("{}", case.config.broker.describe());
        }
        let shown = case.shown.clone();
        let trials = self
            .tests
            .into_iter()
            .map(|(name, test)| {
                let case = case.clone();
                Trial::test(name, move || {
                    test(&case).map_err(|failure| match failure {
                        Failure::Diagnosis(diagnosis) => Failed::from(diagnosis.to_string()),
                        Failure::Lab(error) => Failed::from(format!(
                            "✗ {error}  [W{}-LAB]\n  next      this is about the surroundings, \
                             not about your code\n",
                            case.step
                        )),
                    })
                })
            })
            .collect();
        let conclusion = libtest_mimic::run(arguments, trials);
        if !conclusion.has_failed() {
            for text in shown.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                println!("{text}");
            }
        }
        conclusion.exit_code()
    }
}

/// What a test works with.
#[derive(Clone)]
pub struct Case {
    step: &'static str,
    home: Home,
    program: Program,
    config: LabConfig,
    shown: Arc<Mutex<Vec<String>>>,
}

impl Case {
    /// How this check's labs are started, to be changed for one test.
    pub fn config(&self) -> LabConfig {
        self.config.clone()
    }

    /// The program under test.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The step's number.
    pub fn step(&self) -> u8 {
        self.step.parse().unwrap_or(u8::MAX)
    }

    /// The whole system with the program under test in it.
    ///
    /// # Errors
    /// If a part doesn't start.
    pub fn start(&self) -> Result<Lab, LabError> {
        self.start_with(self.config(), &[])
    }

    /// [`Case::start`] with another configuration, or further variables for the program.
    ///
    /// # Errors
    /// As for [`Case::start`].
    pub fn start_with(
        &self,
        config: LabConfig,
        variables: &[(&str, &str)],
    ) -> Result<Lab, LabError> {
        let mut lab = Lab::start(config)?;
        lab.spawn(&self.program, variables)?;
        Ok(lab)
    }

    /// A finding of this step: `kind` completes the id.
    pub fn diagnosis(&self, kind: &str, sentence: impl Into<String>) -> Diagnosis {
        Diagnosis {
            id: format!("W{}-{kind}", self.step),
            sentence: sentence.into(),
            ..Diagnosis::default()
        }
    }

    /// A finding of this step with what was expected and what came.
    pub fn told(
        &self,
        kind: &str,
        sentence: impl Into<String>,
        expected: &str,
        got: &str,
    ) -> Diagnosis {
        Diagnosis {
            detail: expected_and_got(expected, got),
            ..self.diagnosis(kind, sentence)
        }
    }

    /// Compares what was to be with what came.
    ///
    /// # Errors
    /// The finding, if they differ.
    pub fn expect<T: PartialEq + std::fmt::Display>(
        &self,
        kind: &str,
        what: &str,
        expected: T,
        got: T,
    ) -> Outcome {
        if expected == got {
            return Ok(());
        }
        let sentence = format!("{what} is not as expected");
        Err(self
            .told(kind, sentence, &expected.to_string(), &got.to_string())
            .into())
    }

    /// Compares status and body of a response. `<n>` in `body` stands for a number.
    ///
    /// # Errors
    /// The finding, if they differ.
    pub fn expect_response(
        &self,
        request: &str,
        status: u16,
        body: &str,
        response: &Response,
    ) -> Outcome {
        if response.status == status && matches_template(body, &response.body) {
            return Ok(());
        }
        let expected = format!("{status} {body}");
        let got = format!("{} {}", response.status, response.body);
        let sentence = format!("the answer to {request} is another");
        Err(self.told("RESPONSE", sentence, &expected, &got).into())
    }

    /// Shows `text` under the results, if all tests pass.
    pub fn show(&self, text: impl Into<String>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.push(text.into());
    }

    /// The recording as a snapshot holds it.
    pub fn normalised(&self, recording: &Recording) -> String {
        let contract = StepContract::new(self.step());
        Rules::new(&contract)
            .order(Order::Structure)
            .normalize(&recording.spans)
            .to_string()
    }

    /// Compares with the snapshot `name`; answers the text, for insta.
    #[doc(hidden)]
    pub fn compare(&self, name: &str, recording: &Recording) -> Result<String, Failure> {
        let got = self.normalised(recording);
        // Set by `cargo insta test`: a maintainer wants insta's own way.
        if std::env::var_os("INSTA_CARGO_INSTA").is_some() {
            return Ok(got);
        }
        let path = self.snapshot_path(name);
        let expected = match std::fs::read_to_string(&path) {
            Ok(text) => snapshot_contents(&text).to_owned(),
            Err(error) => {
                return Err(LabError::part(
                    "the snapshot",
                    format!("can't read {}: {error}", path.display()),
                )
                .into());
            }
        };
        if expected.trim_end() == got.trim_end() {
            return Ok(got);
        }
        Err(Diagnosis {
            detail: difference(&expected, &got),
            next: Some(format!(
                "the whole of what is expected: {}",
                self.relative(&path)
            )),
            ..self.diagnosis(
                "TRACE",
                format!("the traces of `{name}` are not as expected"),
            )
        }
        .into())
    }

    fn snapshot_path(&self, name: &str) -> PathBuf {
        // `file!()` is relative to the workspace, two levels above the package. For
        // a solution it leads to the starter's check: both have the same snapshots.
        let workspace = Path::new(self.home.manifest_dir).join("../..");
        let check = workspace.join(self.home.file);
        check
            .with_file_name("snapshots")
            .join(format!("check__{name}.snap"))
    }

    fn relative(&self, path: &Path) -> String {
        let workspace = Path::new(self.home.manifest_dir)
            .join("../..")
            .canonicalize();
        match (workspace, path.canonicalize()) {
            (Ok(workspace), Ok(path)) => path
                .strip_prefix(workspace)
                .unwrap_or(&path)
                .display()
                .to_string(),
            _ => path.display().to_string(),
        }
    }
}

/// What follows the header of a `.snap` file.
fn snapshot_contents(file: &str) -> &str {
    let body = file
        .strip_prefix("---\n")
        .and_then(|rest| rest.split_once("\n---\n"))
        .map_or(file, |(_header, body)| body);
    body.trim_start_matches('\n')
}

/// Whether `text` is `template` with each `<n>` replaced by a number.
fn matches_template(template: &str, text: &str) -> bool {
    let mut parts = template.trim_end().split("<n>");
    let mut rest = text.trim_end();
    let first = parts.next().unwrap_or_default();
    let Some(after) = rest.strip_prefix(first) else {
        return false;
    };
    rest = after;
    for part in parts {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        if digits == 0 {
            return false;
        }
        let Some(after) = rest[digits..].strip_prefix(part) else {
            return false;
        };
        rest = after;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_stands_for_numbers_only() {
        assert!(matches_template("tier 2 <n>-x", "tier 2 12-x\n"));
        assert!(matches_template("<n>", "0.5"));
        assert!(!matches_template("tier 2 <n>-x", "tier 2 -x"));
        assert!(!matches_template("tier 2 <n>-x", "tier 2 a-x"));
        assert!(!matches_template("tier 2", "tier 2 and more"));
        assert!(matches_template("exact", "exact"));
    }

    #[test]
    fn the_header_of_a_snapshot_is_left_out() {
        let file = "---\nsource: steps/step-01/tests/check.rs\nexpression: text\n---\ntrace 1\n";
        assert_eq!(snapshot_contents(file), "trace 1\n");
        assert_eq!(snapshot_contents("trace 1\n"), "trace 1\n");
    }
}
