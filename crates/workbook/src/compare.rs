//! `cargo workbook compare`: a step beside its solution, first the traces, then the files.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::ValueEnum;
use diffy::{DiffOptions, Line};
use lab::{Failure, Lab, LabConfig, LabError, Outgoing, Part, Program, Recording, Response, Role};

use crate::{
    Error, build, course,
    starter::{self, Workspace},
    step::Step,
    terminal::{self, Colour},
    trace,
};

/// What is asked for, unless said otherwise.
const PATH: &str = "/fast";

/// How long a consumer may take to process a message.
const CONSUMER_PATIENCE: Duration = Duration::from_secs(10);

/// The message that a consumer gets.
const MESSAGE: &str = "message-1";

/// What the environment of a process holds whose programs have been built.
const SOLUTION: &str = "WORKBOOK_COMPARED_SOLUTION";
const YOURS: &str = "WORKBOOK_COMPARED_YOURS";
const TIER1: &str = "WORKBOOK_COMPARED_TIER1";

/// Shows your trace against the solution's, then your files
#[derive(clap::Args)]
#[command(after_help = "\
First both programs are asked the same, and what differs is told, by the
snapshot of the step's check. Then come the lines in which the files differ: add
`--only traces` if you don't want to see the solution's.

0: the traces are alike. 1: they aren't, or the step does not compile; with
`--only files`, the files differ. 2: it could not be found out.")]
pub struct Compare {
    /// Which step
    step: Step,
    /// What to ask for [default: /fast; in step 13, a message]
    #[arg(value_parser = crate::path)]
    path: Option<String>,
    /// Only the one or the other
    #[arg(long, value_enum, value_name = "WHAT")]
    only: Option<Only>,
    /// The checkout [default: this command's own]
    #[arg(long, value_name = "DIR", hide = true)]
    workspace: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Only {
    Traces,
    Files,
}

impl Compare {
    /// Does it.
    pub fn run(self) -> Result<ExitCode, Error> {
        let workspace = Workspace::new(self.workspace.clone());
        let folder = course::folder(&workspace, &self.step)?;
        course::folder(&workspace, &self.step.solution())?;
        let mut differ = false;
        if self.only != Some(Only::Files) {
            differ = !self.traces(&workspace)?;
        }
        if self.only != Some(Only::Traces) {
            let (text, files_differ) = files(&workspace, &folder, &self.step)?;
            terminal::say(&text);
            // Own words are no fault, unless these alone are asked for.
            differ |= files_differ && self.only == Some(Only::Files);
        }
        Ok(if differ {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    /// Tells the traces; whether they are alike.
    fn traces(&self, workspace: &Workspace) -> Result<bool, Error> {
        let step = &self.step;
        let programs = Programs::prepare(workspace, step, self.path.is_some())?;
        let asked = self.asked();
        let Some(yours) = &programs.yours else {
            terminal::say(&format!(
                "\n{step} does not compile: see the messages above. There is no trace of it yet.\n"
            ));
            return Ok(false);
        };
        // Not part of the answer, and it may take its time.
        eprintln!("{}", LabConfig::from_env()?.broker.describe());
        let solution = programs.record(&step.solution(), &programs.solution, &asked)?;
        // The solution answered in the same surroundings.
        let yours = match programs.record(step, yours, &asked) {
            Ok(yours) => yours,
            Err(error) => {
                let told = terminal::harmless(&error.to_string());
                terminal::say(&format!("\n{step} could not be asked: {told}\n"));
                return Ok(false);
            }
        };
        let mut text = String::new();
        let theirs = step.solution();
        for (heading, step, record) in [
            ("Your trace", step, &yours),
            ("The solution's", &theirs, &solution),
        ] {
            let _ = writeln!(
                text,
                "\n{}\n",
                terminal::heading(&format!("{heading}: {step}"))
            );
            let _ = writeln!(text, "{}\n", record.told(&asked));
            text.push_str(&trace::traces(&record.recording, &terminal::options()));
        }
        let (told, alike) =
            self.differences(workspace, &asked, &yours.recording, &solution.recording)?;
        text.push_str(&told);
        terminal::say(&text);
        Ok(alike)
    }

    fn asked(&self) -> Asked {
        match &self.path {
            Some(path) => Asked::Path(path.clone()),
            None if self.step.is_consumer() => Asked::Message,
            None => Asked::Path(PATH.to_owned()),
        }
    }

    /// What differs in the traces, in words, and whether that is nothing.
    fn differences(
        &self,
        workspace: &Workspace,
        asked: &Asked,
        yours: &Recording,
        solution: &Recording,
    ) -> Result<(String, bool), Error> {
        let step = self.step.number();
        let role = if self.step.is_consumer() {
            Role::Consumer
        } else {
            Role::Tier1
        };
        let mut text = format!("\n{}\n\n", terminal::heading("What differs in the traces"));
        let snapshot = asked.snapshot(self.step.is_consumer()).filter(|name| {
            let file = format!("tests/snapshots/check__{name}.snap");
            workspace.step(step).join(file).is_file()
        });
        let (outcome, by) = match snapshot {
            Some(name) => (
                lab::judge(workspace.root(), step, role, name, yours),
                format!("the check's snapshot `{name}`"),
            ),
            None => {
                let _ = writeln!(
                    text,
                    "The check has no snapshot of {asked}: this is by the solution's own trace.\n"
                );
                (
                    lab::judge_by(workspace.root(), step, role, solution, yours),
                    "the solution's trace".to_owned(),
                )
            }
        };
        match outcome {
            Ok(()) => {
                let _ = writeln!(
                    text,
                    "Nothing, by {by}: a difference of the files makes none for this request."
                );
                Ok((text, true))
            }
            Err(Failure::Lab(error)) => Err(error.into()),
            Err(Failure::Diagnosis(diagnosis)) => {
                text.push_str(&diagnosis.to_string());
                if !self.step.is_solution() {
                    let _ = writeln!(
                        text,
                        "\nCauses and TODOs are told by: cargo workbook check {step}"
                    );
                }
                Ok((text, false))
            }
        }
    }
}

/// What both programs are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    /// tier1 for this.
    Path(String),
    /// A consumer to process a message, which the lab publishes.
    Message,
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(f, "GET {path}"),
            Self::Message => f.write_str("a message"),
        }
    }
}

impl Asked {
    /// The snapshot that the step's check has of it.
    fn snapshot(&self, of_consumer: bool) -> Option<&'static str> {
        match self {
            Self::Message => Some("published"),
            // A request's snapshots are those of tier1.
            Self::Path(_) if of_consumer => None,
            Self::Path(path) => course::snapshot_of(path),
        }
    }
}

/// What one program left behind.
struct Record {
    response: Option<Response>,
    recording: Recording,
}

impl Record {
    /// What was asked and answered.
    fn told(&self, asked: &Asked) -> String {
        let Some(response) = &self.response else {
            return format!("{asked}, published by the lab in a span of its own");
        };
        let body = response.body.lines().next().unwrap_or_default();
        format!(
            "{asked} → {}\n{}",
            response.status,
            terminal::harmless(body)
        )
    }
}

/// The programs that are compared.
struct Programs {
    solution: OsString,
    /// `None` if it does not compile.
    yours: Option<OsString>,
    /// The tier1 that asks, where these are consumers.
    tier1: Option<OsString>,
}

impl Programs {
    /// Builds them in the environment that the reader has, and goes on in a cleaned one.
    fn prepare(workspace: &Workspace, step: &Step, asks_tier1: bool) -> Result<Self, Error> {
        if let Some(solution) = env::var_os(SOLUTION) {
            return Ok(Self {
                solution,
                yours: env::var_os(YOURS),
                tier1: env::var_os(TIER1),
            });
        }
        let root = workspace.root();
        let build = |step: &Step| build::build_in(root, step).map(PathBuf::into_os_string);
        let solution = build(&step.solution())?;
        let tier1 = if step.is_consumer() && asks_tier1 {
            Some(build(&Step::last_solution()?)?)
        } else {
            None
        };
        let yours = match build(step) {
            Ok(program) => Some(program),
            Err(Error::DoesNotCompile(_)) => None,
            Err(error) => return Err(error),
        };
        let named = [
            (SOLUTION, Some(&solution)),
            (YOURS, yours.as_ref()),
            (TIER1, tier1.as_ref()),
        ];
        let built: Vec<(&str, &OsStr)> = named
            .into_iter()
            .filter_map(|(name, program)| Some((name, program?.as_os_str())))
            .collect();
        lab::clean_environment(&built)?;
        Ok(Self {
            solution,
            yours,
            tier1,
        })
    }

    /// Starts the system around `program` as a check does, and asks.
    fn record(&self, step: &Step, program: &OsStr, asked: &Asked) -> Result<Record, LabError> {
        let mut config = LabConfig::from_env()?;
        config.queue_timeout = lab::QUEUE_TIMEOUT;
        let program = Program::tier1(program);
        let Asked::Path(path) = asked else {
            config.role = Role::Consumer;
            let mut lab = Lab::start(config)?;
            lab.spawn(&program.consuming(), &trace::EXPORT_SOON)?;
            lab.publish_in_span(Outgoing::new(MESSAGE))?;
            lab.wait_for_log(&["processed", MESSAGE], CONSUMER_PATIENCE)?;
            return Ok(Record {
                response: None,
                recording: lab.finish()?,
            });
        };
        let lab = match &self.tier1 {
            None => {
                let mut lab = Lab::start(config)?;
                lab.spawn(&program, &trace::EXPORT_SOON)?;
                lab
            }
            Some(tier1) => {
                let mut lab = Lab::start(config.without(Part::Consumer))?;
                lab.spawn_consumer(&program, &trace::EXPORT_SOON, None)?;
                lab.spawn(&Program::tier1(tier1), &trace::EXPORT_SOON)?;
                lab
            }
        };
        let response = lab.get(path)?;
        trace::wait_for_export(step, &lab);
        if self.tier1.is_some() {
            lab.logged_by_consumer(CONSUMER_PATIENCE);
        }
        Ok(Record {
            response: Some(response),
            recording: lab.finish()?,
        })
    }
}

/// Where the files of the package in `folder` differ from the solution's, and whether they do.
fn files(workspace: &Workspace, folder: &Path, step: &Step) -> Result<(String, bool), Error> {
    let number = step.number();
    let solution = workspace.solution_as_step(number)?;
    let yours = if step.is_solution() {
        solution.clone()
    } else {
        read(workspace, folder)?
    };
    let title = solution
        .get("Cargo.toml")
        .and_then(|manifest| course::title(manifest, number));
    let titled = format!("Step {number:02}, {}.", title.unwrap_or_default());
    let mut text = format!(
        "\n{}\n",
        terminal::heading("Your files (-) against the solution's (+)")
    );
    let mut differ = false;
    let mut paths: Vec<_> = yours.keys().chain(solution.keys()).collect();
    paths.sort();
    paths.dedup();
    for path in paths {
        let of = |files: &BTreeMap<String, String>| files.get(path).cloned();
        let (mut mine, theirs) = (of(&yours), of(&solution));
        let in_common = |text: String| match path.as_str() {
            "Cargo.toml" => starter::without_lints(&text),
            // Whoever has copied from a solution has copied these, too.
            _ => starter::without_anchors(&text),
        };
        if let (Some(mine), Some(theirs)) = (&mut mine, &theirs) {
            *mine = without_title(mine, theirs, &titled);
        }
        let (mine, theirs) = (mine.map(in_common), theirs.map(in_common));
        if mine == theirs {
            continue;
        }
        differ = true;
        let only = match (&mine, &theirs) {
            (None, _) => "  (the solution's only)",
            (_, None) => "  (yours only)",
            _ => "",
        };
        let told = terminal::harmless(path);
        let _ = writeln!(text, "\n{}{only}", Colour::Bold.paint(&told));
        text.push_str(&difference(
            mine.as_deref().unwrap_or_default(),
            theirs.as_deref().unwrap_or_default(),
        ));
    }
    if !differ {
        text.push_str("\nThey are the same.\n");
    }
    Ok((text, differ))
}

/// A package's files, whatever they hold.
fn read(workspace: &Workspace, folder: &Path) -> Result<BTreeMap<String, String>, Error> {
    let failed = |path: &Path, error| workspace.failed("read", path, error);
    let mut files = BTreeMap::new();
    for path in starter::list(folder).map_err(|error| failed(folder, error))? {
        let file = folder.join(&path);
        let bytes = fs::read(&file).map_err(|error| failed(&file, error))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        files.insert(path.display().to_string(), text);
    }
    Ok(files)
}

/// `mine` with the first line of `theirs`, if only the step's title is more in it: a starter
/// has it there, and nobody has to take it out.
fn without_title(mine: &str, theirs: &str, titled: &str) -> String {
    if let (Some((my_first, rest)), Some((their_first, _))) =
        (mine.split_once('\n'), theirs.split_once('\n'))
        && [format!("{titled} "), format!(" {titled}")]
            .iter()
            .any(|title| my_first.replacen(title, "", 1) == their_first)
    {
        return format!("{their_first}\n{rest}");
    }
    mine.to_owned()
}

/// A unified difference, as far as it is about lines.
fn difference(mine: &str, theirs: &str) -> String {
    let patch = DiffOptions::new().create_patch(mine, theirs);
    let mut text = String::new();
    for hunk in patch.hunks() {
        let place = format!("@@ -{} +{} @@", hunk.old_range(), hunk.new_range());
        let _ = writeln!(text, "{}", Colour::Cyan.paint(&place));
        for line in hunk.lines() {
            let (sign, line, colour) = match line {
                Line::Context(line) => (' ', line, None),
                Line::Delete(line) => ('-', line, Some(Colour::Red)),
                Line::Insert(line) => ('+', line, Some(Colour::Green)),
            };
            let line = format!("{sign}{}", terminal::harmless(line.trim_end_matches('\n')));
            let line = colour.map_or_else(|| line.clone(), |colour| colour.paint(&line));
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_starters_title_is_no_difference() {
        let theirs = "//! Lines.\n\nfn main() {}\n";
        let titled = "Step 02, The first span.";
        for first in [
            format!("//! {titled} Lines."),
            format!("//! Lines. {titled}"),
        ] {
            let mine = theirs.replace("//! Lines.", &first);
            assert_eq!(without_title(&mine, theirs, titled), theirs);
            assert_eq!(without_title(&mine, theirs, "Step 03, Other."), mine);
        }
        for other in [
            "//! Lines. And more.\nfn main() {}\n",
            "//! Step 02, The first span. Words.\n",
            "",
        ] {
            assert_eq!(without_title(other, theirs, titled), other);
        }
    }

    #[test]
    fn a_difference_has_no_header_and_obeys_nobody() {
        let told = difference("a\n\u{1b}[31mred\n", "a\nb\n");
        assert_eq!(told, "@@ -1,2 +1,2 @@\n a\n-\u{fffd}[31mred\n+b\n");
        assert_eq!(difference("", "a"), "@@ -0,0 +1 @@\n+a\n");
        assert_eq!(difference("a\n", "a\n"), "");
    }

    #[test]
    fn snapshots_are_those_of_the_check() {
        let path = |path: &str| Asked::Path(path.to_owned());
        assert_eq!(path("/slow").snapshot(false), Some("slow"));
        assert_eq!(path("/slow").snapshot(true), None);
        for other in ["/random", "/fast?x=1", "/", "//fast", "/fast/"] {
            assert_eq!(path(other).snapshot(false), None, "{other}");
        }
        assert_eq!(Asked::Message.snapshot(true), Some("published"));
    }
}
