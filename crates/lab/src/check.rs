//! Runs the checks of a step.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use containers::trials;
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use otlp::{Expected, Order, Rules};

use crate::{
    broker_choice::{BrokerChoice, Message},
    causes::{Place, Select},
    diagnosis::{Diagnosis, expected_and_got},
    environment,
    error::LabError,
    exported, findings,
    guide::{Guide, Home},
    judge,
    lab::{Lab, LabConfig, Recording, Response, Role, end_all},
    passed,
    subject::{Program, variable},
};

/// tier1's QUEUE_TIMEOUT_MS in checks, but for those that are about it. Longer than
/// its own 2 s: the first message waits for the first connection, and a laptop that
/// compiles something else meanwhile may need its time for that.
pub const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// Set by whoever says what comes after a check that passed.
pub const TELLS_WHAT_IS_NEXT: &str = "WORKBOOK_TELLS_WHAT_IS_NEXT";

/// How many tests run at a time, unless `--test-threads` says otherwise. They wait for each
/// other's processes as much as they compute; but each one more at a time makes one system
/// more (measured on two cores: 4 are better than 3, 6 or 8).
fn test_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    (2 * cores).clamp(4, 8)
}

/// How long a span that missed its deadline is waited for. The batch processor sends
/// every 5 s unless told otherwise.
const LATE: Duration = Duration::from_secs(7);

/// What tests share. One that panics leaves it as it is between any two lines.
fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the check of a step:
///
/// ```text
/// lab::check!("05", "Requests out")
///     .chapter("05-requests-out")
///     .otherwise("http.rs", 1)
///     .todo((Kind::Status, SpanType::HttpClient), "http.rs", 3)
///     .cause((Kind::InjectParent, SpanType::HttpClient), "http.rs", 2, "Why.")
///     .test("fast", fast)
///     .run()
/// ```
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
                manifest_dir: env!("CARGO_MANIFEST_DIR").into(),
                file: file!().into(),
                package: env!("CARGO_PKG_NAME").into(),
                binary: env!(concat!("CARGO_BIN_EXE_", env!("CARGO_PKG_NAME"))).into(),
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

impl From<containers::Error> for Failure {
    fn from(error: containers::Error) -> Self {
        Self::Lab(error.into())
    }
}

/// One test of a check.
pub type Test = fn(&Case) -> Outcome;

/// The tests of one step.
pub struct Check {
    title: &'static str,
    guide: Guide,
    role: Role,
    tests: Vec<(&'static str, Test)>,
    with_docker: Vec<(&'static str, Test)>,
}

impl Check {
    #[doc(hidden)]
    pub fn new(step: &'static str, title: &'static str, home: Home) -> Self {
        Self {
            title,
            guide: Guide::new(step, home),
            role: Role::Tier1,
            tests: Vec::new(),
            with_docker: Vec::new(),
        }
    }

    /// The file of the step's chapter, without its ending: `05-requests-out`. Findings
    /// then name their anchor in it, and the command for a hint.
    #[must_use]
    pub fn chapter(mut self, chapter: &'static str) -> Self {
        self.guide.chapter = Some(chapter);
        self
    }

    /// The `service.name` of the program under test; `tier1-service` unless said.
    #[must_use]
    pub fn subject(mut self, service: &'static str) -> Self {
        self.guide.subject = service;
        self
    }

    /// The program under test is a consumer, called `consumer-service`, in the place of
    /// the lab's own. TIER1_CMD is not for it, and refused.
    #[must_use]
    pub fn consumer(mut self) -> Self {
        self.role = Role::Consumer;
        self.subject(Role::Consumer.service())
    }

    /// Where such a finding is mended: the file in `src/` and the number of the TODO
    /// there. The cause is the one that holds in any step.
    #[must_use]
    pub fn todo(mut self, finding: impl Into<Select>, file: &'static str, todo: u8) -> Self {
        let place = Some(Place::todo(file, todo));
        self.guide.causes.add(finding.into(), place, None);
        self
    }

    /// Where such a finding is mended, if it is the work of a step before.
    #[must_use]
    pub fn file(mut self, finding: impl Into<Select>, file: &'static str) -> Self {
        let place = Some(Place::file(file));
        self.guide.causes.add(finding.into(), place, None);
        self
    }

    /// What causes such a finding in this step, and where it is mended.
    #[must_use]
    pub fn cause(
        mut self,
        finding: impl Into<Select>,
        file: &'static str,
        todo: u8,
        cause: &'static str,
    ) -> Self {
        let place = Some(Place::todo(file, todo));
        self.guide.causes.add(finding.into(), place, Some(cause));
        self
    }

    /// Where to look first for such a finding, before its own place: it may be mended
    /// at either, and nothing from outside tells which of the two is still open.
    #[must_use]
    pub fn before(mut self, finding: impl Into<Select>, file: &'static str, todo: u8) -> Self {
        let place = Place::todo(file, todo);
        self.guide.causes.add_before(finding.into(), place);
        self
    }

    /// What causes a finding that the check itself names (the end of its id, `CONSOLE`),
    /// and where it is mended.
    #[must_use]
    pub fn named(
        mut self,
        kind: &'static str,
        file: &'static str,
        todo: u8,
        cause: &'static str,
    ) -> Self {
        let place = Place::todo(file, todo);
        self.guide.causes.add_named(kind, place, cause);
        self
    }

    /// Such a finding needs several TODOs, and nothing from outside tells which of them is
    /// missing: the reader is sent to the first that is left. Once none is, to its place.
    #[must_use]
    pub fn of_all(mut self, kind: &'static str) -> Self {
        self.guide.causes.add_of_all(kind);
        self
    }

    /// Where to look for all findings that have no place of their own.
    #[must_use]
    pub fn otherwise(mut self, file: &'static str, todo: u8) -> Self {
        self.guide.causes.otherwise(Place::todo(file, todo));
        self
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

    /// Adds tests that need RabbitMQ in Docker, whatever broker the labs have: they run
    /// if WORKBOOK_BROKER is `docker`, and are listed as ignored if not.
    #[must_use]
    pub fn with_docker(mut self, tests: impl IntoIterator<Item = (&'static str, Test)>) -> Self {
        self.with_docker.extend(tests);
        self
    }

    /// Runs those tests that the command line asks for, as `cargo test` would, and
    /// tells what they found. 0 if all passed, 101 if not, 2 if the surroundings
    /// can't be used.
    pub fn run(self) -> ExitCode {
        let mut arguments = Arguments::from_args();
        arguments.test_threads.get_or_insert_with(test_threads);
        match self.prepare(&arguments) {
            Ok(case) => self.run_with(&arguments, case),
            Err(error) => {
                eprintln!("step {}: {error}", self.guide.step);
                ExitCode::from(2)
            }
        }
    }

    /// A case that starts nothing, to look at recordings.
    ///
    /// # Errors
    /// If WORKBOOK_BROKER or WORKBOOK_AMQP_URL can't be used.
    #[doc(hidden)]
    pub fn offline(&self) -> Result<Case, LabError> {
        self.case(None)
    }

    /// [`Check::offline`] for recordings of a program that TIER1_CMD names.
    ///
    /// # Errors
    /// As for [`Check::offline`].
    #[doc(hidden)]
    pub fn of_another(&self) -> Result<Case, LabError> {
        self.case(Some(Program::tier1("never started")))
    }

    fn prepare(&self, arguments: &Arguments) -> Result<Case, LabError> {
        environment::clean(&[])?;
        let other = match self.role {
            Role::Tier1 => Program::from_env()?,
            Role::Consumer if variable("TIER1_CMD")?.is_some() => {
                return Err(LabError::Variable {
                    name: "TIER1_CMD",
                    must_be: "unset: it is the consumer that this step is about",
                });
            }
            Role::Consumer => None,
        };
        let case = self.case(other)?;
        if self.runs_something(arguments) {
            case.config.broker.prepare()?;
        }
        Ok(case)
    }

    /// Whether a broker is worth its start: not to name tests, nor to leave them out.
    fn runs_something(&self, arguments: &Arguments) -> bool {
        let ignored_too = arguments.ignored || arguments.include_ignored;
        !arguments.list && (!self.tests.is_empty() || ignored_too || trials::wanted())
    }

    fn case(&self, program: Option<Program>) -> Result<Case, LabError> {
        Ok(Case {
            guide: Arc::new(Guide {
                own_program: program.is_none(),
                ..self.guide.clone()
            }),
            program: match (program, self.role) {
                (Some(program), _) => program,
                (None, Role::Tier1) => self.own_program()?,
                (None, Role::Consumer) => self.own_program()?.consuming(),
            },
            config: LabConfig {
                role: self.role,
                queue_timeout: QUEUE_TIMEOUT,
                ..LabConfig::from_env()?
            },
            idle: Arc::default(),
            shown: Arc::default(),
            extras: Arc::default(),
        })
    }

    fn own_program(&self) -> Result<Program, LabError> {
        Ok(Program::of_step(&*self.guide.home.binary)?.trusting_nobody())
    }

    fn run_with(self, arguments: &Arguments, case: Case) -> ExitCode {
        if !arguments.list {
            println!("\nstep {}  {}", self.guide.step, self.title);
        }
        if self.runs_something(arguments) {
            println!("{}", case.config.broker.describe());
        } else if !arguments.list {
            println!("{}", trials::NOT_RUN);
        }
        let (shown, extras) = (case.shown.clone(), case.extras.clone());
        let idle = case.idle.clone();
        let pass = Pass::of(&case.guide, self.tests.len());
        let told = Told::default();
        let tests = self.tests.into_iter().map(|test| (test, false));
        let with_docker = self.with_docker.into_iter().map(|test| (test, true));
        let trials = tests
            .chain(with_docker)
            .map(|((name, test), with_docker)| {
                let (case, told) = (case.clone(), told.clone());
                let trial = Trial::test(name, move || {
                    test(&case).map_err(|failure| match failure {
                        Failure::Diagnosis(diagnosis) => Failed::from(told.tell(name, &diagnosis)),
                        Failure::Lab(error @ LabError::Panicked { .. }) => {
                            let panicked = case.guide.named("PANIC", error.to_string());
                            Failed::from(told.tell(name, &panicked))
                        }
                        Failure::Lab(error) => {
                            let next = match error {
                                LabError::NotLogged { .. } => {
                                    "the code that comes before this line of the log"
                                }
                                _ => "this is about the surroundings, not about your code",
                            };
                            Failed::from(format!(
                                "✗ {error}  [W{}-LAB]\n  next      {next}\n",
                                case.guide.step
                            ))
                        }
                    })
                });
                trial.with_ignored_flag(with_docker && !trials::wanted())
            })
            .collect();
        let conclusion = libtest_mimic::run(arguments, trials);
        let noted = pass.is_some_and(|pass| pass.note(&conclusion));
        if !conclusion.has_failed() {
            for text in locked(&shown).iter() {
                println!("{text}");
            }
            let extras = locked(&extras);
            if !extras.is_empty() {
                let extras: Vec<&str> = extras.iter().map(String::as_str).collect();
                println!("accepted as extra: {}", extras.join(", "));
            }
            // `cargo workbook check` says it by itself.
            if noted && std::env::var_os(TELLS_WHAT_IS_NEXT).is_none() {
                println!(
                    "\nstep {} has passed. What is next: cargo workbook",
                    self.guide.step
                );
            }
        }
        // After the verdict: nobody waits for it.
        end_all(std::mem::take(&mut *locked(&idle)));
        conclusion.exit_code()
    }
}

/// What is noted if a step's whole check passes, for `cargo workbook` to show.
struct Pass {
    workspace: PathBuf,
    step: u8,
    /// What the step is when the check begins.
    digest: String,
    tests: usize,
}

impl Pass {
    /// For a check of so many tests; `None` if it judges something else than the reader's
    /// own code of the step, or if that can't be read.
    fn of(guide: &Guide, tests: usize) -> Option<Self> {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_own = guide.own_program
            && guide.home.package == format!("step-{}", guide.step)
            && !is_set("WORKBOOK_TIER1")
            && !is_set("INSTA_CARGO_INSTA");
        let digest = passed::digest(guide.home.manifest_dir.as_ref().as_ref());
        Some(Self {
            workspace: guide.workspace(),
            step: guide.number(),
            digest: digest.ok().filter(|_| is_own)?,
            tests,
        })
    }

    /// Notes it, if all tests ran and passed, and nobody has edited the step meanwhile.
    /// Answers whether it did; that it can't be noted is no finding of a check.
    fn note(&self, conclusion: &Conclusion) -> bool {
        let passed = usize::try_from(conclusion.num_passed).unwrap_or(0);
        let whole =
            passed >= self.tests && conclusion.num_filtered_out == 0 && !conclusion.has_failed();
        let folder = self.workspace.join(format!("steps/step-{:02}", self.step));
        whole
            && passed::digest(&folder).is_ok_and(|now| now == self.digest)
            && passed::note(&self.workspace, self.step, &self.digest).is_ok()
    }
}

/// Which findings were told, and by which test. What is missing is missing in most
/// tests of a check: the reader is told it once in full. The same finding with another
/// place to mend is another one.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<HashMap<Finding, &'static str>>>);

/// An id, and what to mend.
type Finding = (String, Option<String>);

impl Told {
    fn tell(&self, test: &'static str, diagnosis: &Diagnosis) -> String {
        let mut told = locked(&self.0);
        let finding = (diagnosis.id.clone(), diagnosis.next.clone());
        let first = *told.entry(finding).or_insert(test);
        if first == test {
            diagnosis.to_string()
        } else {
            format!("{}  told in full by `{first}`\n", diagnosis.title())
        }
    }
}

/// What a test works with.
#[derive(Clone)]
pub struct Case {
    guide: Arc<Guide>,
    program: Program,
    config: LabConfig,
    /// Systems without a process, at rest.
    idle: Arc<Mutex<Vec<Lab>>>,
    shown: Arc<Mutex<Vec<String>>>,
    /// Attributes and INTERNAL spans that came beyond the snapshots.
    extras: Arc<Mutex<BTreeSet<String>>>,
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
        self.guide.number()
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

    /// A system without a process: one that is at rest, or a new one.
    pub(crate) fn idle(&self, config: LabConfig) -> Result<Lab, LabError> {
        let kept = {
            let mut idle = locked(&self.idle);
            let found = idle.iter().position(|lab| *lab.config() == config);
            found.map(|index| idle.swap_remove(index))
        };
        kept.map_or_else(|| Lab::start(config), Ok)
    }

    /// Keeps a system that is at rest for [`Case::idle`].
    pub(crate) fn keep(&self, lab: Lab) {
        // Others wait for the lock that it holds.
        if !matches!(lab.config().broker, BrokerChoice::Url(_)) {
            let mut idle = locked(&self.idle);
            idle.push(lab);
        }
    }

    /// A finding of this step: `kind` completes the id.
    pub fn diagnosis(&self, kind: &str, sentence: impl Into<String>) -> Diagnosis {
        self.guide.named(kind, sentence)
    }

    /// [`Diagnosis::next`] for a finding that is mended in this file of `src/`, at the
    /// TODO of this number.
    pub fn next(&self, file: &'static str, todo: u8) -> Option<String> {
        self.guide.next(None, Some(Place::todo(file, todo)))
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
        let mut shown = locked(&self.shown);
        shown.push(text.into());
    }

    /// The recording as a snapshot holds it.
    pub fn normalised(&self, recording: &Recording) -> String {
        let contract = self.guide.contract();
        Rules::new(&contract)
            .order(Order::Structure)
            .normalize(&recording.spans)
            .to_string()
    }

    /// Compares with the snapshot `name`; answers the text, for insta.
    #[doc(hidden)]
    pub fn compare(&self, name: &str, recording: &Recording) -> Result<String, Failure> {
        // Set by `cargo insta test`: a maintainer wants insta's own way.
        if std::env::var_os("INSTA_CARGO_INSTA").is_some() {
            return Ok(self.normalised(recording));
        }
        self.diagnose(name, recording)
    }

    /// [`Case::compare`] without insta's own way.
    #[doc(hidden)]
    pub fn diagnose(&self, name: &str, recording: &Recording) -> Result<String, Failure> {
        let expected = judge::expected(&self.guide, name)?;
        let came = findings::compare(&self.guide, name, &expected, recording)
            .map_err(Failure::Diagnosis)?;
        self.expect_conventions(recording)?;
        self.note_extras(&expected, recording);
        Ok(came)
    }

    /// Notes what the program exported beyond the snapshot: told if all tests pass.
    fn note_extras(&self, expected: &Expected, recording: &Recording) {
        let contract = self.guide.contract();
        let extras = Rules::new(&contract)
            .internal(findings::internal(expected))
            .extras(&recording.spans);
        let is_subject = |service: &str| !findings::is_neighbour(&self.guide, service);
        let spans = extras.spans.iter();
        let spans = spans.filter(|span| is_subject(span.service()));
        let attributes = extras.attributes.iter();
        let attributes = attributes.filter(|extra| is_subject(&extra.service));
        let names = spans
            .map(|span| &span.name)
            .chain(attributes.map(|extra| &extra.attribute.key))
            .map(|name| name.chars().filter(|c| !otlp::is_unsafe(*c)).collect());
        let mut noted = locked(&self.extras);
        noted.extend(names);
    }

    /// Asserts of all spans of a recording, by the contract's table, that each
    /// attribute has the type of the conventions, each required one is there, none is
    /// there twice, and none has its old name. [`assert_traces!`](crate::assert_traces!)
    /// does it, too.
    ///
    /// # Errors
    /// The findings.
    pub fn expect_conventions(&self, recording: &Recording) -> Outcome {
        finding(exported::conventions(&self.guide, &recording.spans))
    }

    /// Asserts that the program exported at least one span, to where a receiver takes it.
    ///
    /// # Errors
    /// The finding: nothing, the wrong path, or two versions of the crate.
    pub fn expect_exported(&self, recording: &Recording) -> Outcome {
        let mut spans = exported::spans_of_subject(&self.guide, &recording.spans);
        let nothing = spans.next().is_none();
        finding(nothing.then(|| exported::nothing(&self.guide, recording)))
    }

    /// Asserts that all export requests went to a path where a receiver takes them.
    ///
    /// # Errors
    /// The finding.
    pub fn expect_endpoint(&self, recording: &Recording) -> Outcome {
        finding(exported::wrong_endpoint(&self.guide, recording))
    }

    /// Asserts that the workspace has one version of the crate `opentelemetry`.
    ///
    /// # Errors
    /// The finding, with the packages that ask for each.
    pub fn expect_one_version(&self) -> Outcome {
        finding(exported::versions(&self.guide))
    }

    /// Asserts that there are spans of the program, and that all have its `service.name`.
    ///
    /// # Errors
    /// The finding.
    pub fn expect_service(&self, recording: &Recording) -> Outcome {
        self.expect_exported(recording)?;
        finding(exported::service(&self.guide, &recording.spans))
    }

    /// Waits until the running program has exported a span called `name`.
    ///
    /// # Errors
    /// The finding, if it hasn't within `deadline`: that it is late, or that nothing
    /// came at all. Some time more is waited to tell the two apart.
    pub fn expect_span_within(&self, lab: &Lab, name: &str, deadline: Duration) -> Outcome {
        let started = Instant::now();
        let wait = |deadline| {
            lab.wait_for("the span", deadline, |snapshot| {
                exported::spans_of_subject(&self.guide, snapshot.spans())
                    .any(|span| span.name == name)
                    .then_some(())
            })
        };
        if wait(deadline).is_ok() {
            return Ok(());
        }
        let came = wait(LATE).ok().map(|()| started.elapsed());
        let recording = lab.recording(None);
        if came.is_none() {
            self.expect_exported(&recording)?;
        }
        Err(self.late(name, deadline, came).into())
    }

    /// The finding that a span came too late; `came` says when it did, if ever.
    #[doc(hidden)]
    pub fn late(&self, name: &str, deadline: Duration, came: Option<Duration>) -> Diagnosis {
        exported::late(&self.guide, name, deadline, came)
    }

    /// Asserts that the program exported PRODUCER spans, and that each lasted at least
    /// `delay`, by which the confirm was held back.
    ///
    /// # Errors
    /// The finding.
    pub fn expect_confirm_covered(&self, recording: &Recording, delay: Duration) -> Outcome {
        finding(exported::confirm(&self.guide, &recording.spans, delay))
    }

    /// Asserts that a message carries the context of a PRODUCER span of the program.
    ///
    /// # Errors
    /// The finding: no context, or that of another span.
    pub fn expect_message_context(&self, message: &Message, recording: &Recording) -> Outcome {
        finding(exported::message(&self.guide, message, &recording.spans))
    }
}

pub(crate) fn finding(diagnosis: Option<Diagnosis>) -> Outcome {
    match diagnosis {
        Some(diagnosis) => Err(diagnosis.into()),
        None => Ok(()),
    }
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
}
