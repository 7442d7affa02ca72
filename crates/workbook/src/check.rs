//! `cargo workbook check`: the check of a step, once or at each save.

use std::{
    env,
    future::pending,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::{io::AsyncReadExt, process::Command};

use crate::{
    EXIT_ENVIRONMENT, Error, build,
    course::{self, State},
    desk,
    dev::programs,
    run::Stop,
    starter::Workspace,
    step::Step,
    terminal,
    watch::Watch,
};

/// How long what is told to end may take until it is killed.
const END: Duration = Duration::from_secs(3);

/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// What a check answers if it could not use its surroundings.
const CHECKS_ENVIRONMENT: i32 = 2;

/// Runs a step's check, as `cargo test -p step-NN` does
#[derive(clap::Args)]
#[command(after_help = "\
0: passed. 1: not yet, or it does not compile. 2: it could not be found out.

What follows `--` goes to the check: the name of one of its tests, such as
`-- fast`, or `-- --list`. A step has passed when all of its tests have.

--watch looks at what the files hold, and runs when that has changed; a save
during a run starts one more after it. ctrl-c ends it.")]
pub struct Check {
    /// Which step [default: the one that is next]
    step: Option<Step>,
    /// Runs it again each time that a file of the step is saved
    #[arg(long)]
    watch: bool,
    /// What the check gets
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
    /// The checkout [default: this command's own]
    #[arg(long, value_name = "DIR", hide = true)]
    workspace: Option<PathBuf>,
}

/// With these a check judges another program than the step's own.
const OTHER_PROGRAM: [&str; 2] = ["TIER1_CMD", "WORKBOOK_TIER1"];

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    NotYet,
    /// Surroundings or usage are at fault.
    Surroundings,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Passed => Self::SUCCESS,
            Verdict::NotYet => Self::FAILURE,
            Verdict::Surroundings => Self::from(EXIT_ENVIRONMENT),
        }
    }
}

impl Check {
    /// Does it.
    pub fn run(self) -> Result<ExitCode, Error> {
        let workspace = Workspace::new(self.workspace);
        let Some(step) = course::or_next(&workspace, self.step)? else {
            terminal::say("All steps have passed. `cargo workbook check STEP` checks one again.\n");
            return Ok(ExitCode::SUCCESS);
        };
        let tests = Tests {
            folder: course::folder(&workspace, &step)?,
            workspace,
            step,
            arguments: self.arguments,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            if self.watch {
                tests.watch().await
            } else {
                let verdict = tests.run(None).await?.unwrap_or(Verdict::NotYet);
                Ok(verdict.into())
            }
        })
    }
}

/// The tests of one package.
struct Tests {
    workspace: Workspace,
    step: Step,
    /// The package's.
    folder: PathBuf,
    arguments: Vec<String>,
}

impl Tests {
    /// Runs them again and again, until it is stopped.
    async fn watch(&self) -> Result<ExitCode, Error> {
        let mut stop = Stop::new()?;
        // Before the files are looked at for the first time: nothing is missed in between.
        let watch = Watch::new(&self.folder);
        let mut code = ExitCode::FAILURE;
        let mut runs = 0;
        loop {
            runs += 1;
            begin(&self.step, runs);
            let seen = watch.look();
            let Some(verdict) = self.run(Some(&mut stop)).await? else {
                break;
            };
            code = verdict.into();
            let folder = self.workspace.tell(&self.folder);
            terminal::say(&format!(
                "\nwatching {folder}: save to run again, ctrl-c ends it\n"
            ));
            tokio::select! {
                () = watch.changed(&seen) => {}
                () = stop.requested() => break,
            }
        }
        terminal::say("\n");
        Ok(code)
    }

    /// Builds and runs them once. `None` if it was stopped; then nothing is left running.
    async fn run(&self, mut stop: Option<&mut Stop>) -> Result<Option<Verdict>, Error> {
        let mut build = self.cargo();
        let Some((status, messages)) = output(&mut build, stop.as_deref_mut()).await? else {
            return Ok(None);
        };
        let messages = String::from_utf8_lossy(&messages);
        if !status.success() {
            // cargo says so if it came as far as to compile something.
            let compiled = messages.contains("\"reason\":\"build-finished\"");
            return Ok(Some(if compiled {
                terminal::say(&format!(
                    "\n{} does not compile yet: see the messages above\n",
                    self.step
                ));
                Verdict::NotYet
            } else {
                Verdict::Surroundings
            }));
        }
        let mut tests =
            programs::artifacts(&messages, &self.folder.join("Cargo.toml"), "test").into_iter();
        if tests.len() == 0 {
            return Err(Error::NoTests(self.step.to_string()));
        }
        let verdict = loop {
            let Some((_, program)) = tests.next() else {
                break Verdict::Passed;
            };
            let mut test = self.test(&program);
            let Some((status, _)) = output(&mut test, stop.as_deref_mut()).await? else {
                return Ok(None);
            };
            match status.code() {
                Some(0) => {}
                Some(CHECKS_ENVIRONMENT) => break Verdict::Surroundings,
                _ => break Verdict::NotYet,
            }
        };
        if verdict == Verdict::Passed {
            self.after_a_pass()?;
        }
        Ok(Some(verdict))
    }

    /// cargo, to build them. Of what it says, the part for programs goes to a pipe.
    fn cargo(&self) -> Command {
        let mut command = build::cargo();
        command
            .current_dir(self.workspace.root())
            .args(["test", "--no-run", "--package", &self.step.to_string()])
            .args(["--message-format", "json-render-diagnostics"])
            .stdout(Stdio::piped());
        if !io::stderr().is_terminal() {
            command.arg("--quiet");
        }
        command.into()
    }

    /// A test program, as cargo would start it.
    fn test(&self, program: &Path) -> Command {
        let mut command = build::untold(program.as_os_str());
        command
            .current_dir(&self.folder)
            .args(&self.arguments)
            .env("INSTA_WORKSPACE_ROOT", self.workspace.root())
            .env(lab::TELLS_WHAT_IS_NEXT, "1");
        // As .cargo/config.toml says, which this command may have been started without.
        if env::var_os("INSTA_UPDATE").is_none() {
            command.env("INSTA_UPDATE", "no");
        }
        command.into()
    }

    /// What comes next, if the whole check has judged the reader's own program.
    fn after_a_pass(&self) -> Result<(), Error> {
        let other = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_other = OTHER_PROGRAM.into_iter().any(other);
        if is_other || self.step.is_solution() || !self.arguments.is_empty() {
            return Ok(());
        }
        let mut chapters = course::read(&self.workspace)?;
        // Whether or not it could be noted.
        for chapter in &mut chapters {
            if chapter.step == self.step.number() {
                chapter.state = State::Passed;
            }
        }
        let next = desk::what_is_next(&self.workspace, &chapters);
        terminal::say(&format!("\n✓ {} has passed. {next}", self.step));
        Ok(())
    }
}

/// Sets a run apart from the one before.
fn begin(step: &Step, runs: usize) {
    if terminal::can_be_cleared() {
        terminal::clear();
    } else if runs > 1 {
        terminal::say(&format!("\n──── {step}, run {runs} ────\n"));
    }
}

/// How `command` ended and what it wrote to a pipe, or `None` if it was stopped before.
///
/// What can be stopped runs in a process group of its own, so that all of it is: cargo's
/// compilers, and the services that a check starts.
async fn output(
    command: &mut Command,
    stop: Option<&mut Stop>,
) -> Result<Option<(ExitStatus, Vec<u8>)>, Error> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    if stop.is_some() {
        command.process_group(0);
    }
    let mut child = command.spawn().map_err(Error::NoCargo)?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let mut stdout = child.stdout.take();
    let mut written = Vec::new();
    let read = async {
        match &mut stdout {
            Some(stdout) => stdout.read_to_end(&mut written).await.map(|_| ()),
            None => Ok(()),
        }
    };
    let stopped = async {
        match stop {
            Some(stop) => stop.requested().await,
            None => pending().await,
        }
    };
    tokio::select! {
        (status, read) = async { tokio::join!(child.wait(), read) } => {
            read?;
            return Ok(Some((status?, written)));
        }
        () = stopped => {}
    }
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::TERM);
        let started = Instant::now();
        // Until it is waited for, the child itself counts as there.
        while child.try_wait()?.is_none() || test_kill_process_group(group).is_ok() {
            if started.elapsed() > END {
                let _ = kill_process_group(group, Signal::KILL);
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(None)
}
