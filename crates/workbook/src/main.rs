//! The `cargo workbook` command.

mod arrivals;
mod build;
mod check;
mod compare;
mod course;
mod desk;
mod dev;
mod docker;
mod hint;
mod page;
mod patch;
mod reset;
mod run;
mod starter;
mod step;
mod terminal;
mod trace;
mod usage;
mod variable;
mod watch;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};
use lab::{LabError, Part};

use crate::{step::Step, variable::Variable};

/// Usage or surroundings are at fault, not the reader's code.
const EXIT_ENVIRONMENT: u8 = 2;

/// OpenTelemetry for Rust services, step by step. Without a command: which steps
/// have passed, and what is next
#[derive(Parser)]
#[command(
    verbatim_doc_comment,
    name = "cargo workbook",
    bin_name = "cargo workbook",
    max_term_width = 80
)]
#[command(after_help = "\
STEP is `1`, `01` or `step-01` for your own code in steps/, and `solution-01`
for the finished one in solutions/.

Nothing needs Docker or an account: database and trace receiver run inside this
command, and so does a broker where Docker doesn't answer. Where it does,
RabbitMQ is started in it, once for all runs. WORKBOOK_BROKER, one of docker,
embedded and url, decides otherwise; url uses the RabbitMQ at WORKBOOK_AMQP_URL.
NO_COLOR=1 switches colours off.

Examples:
  cargo workbook                           which step is next
  cargo workbook run                       try the system, in a browser too
  cargo workbook run 8 --env LOG_FORMAT=json
  cargo workbook trace solution-01 /fast   one request and its traces
  cargo workbook trace 1 /fast --without tier2
  cargo workbook check --watch             the next step's check, at each save
  cargo workbook hint 2                    one more hint each time
  cargo workbook compare 2                 your step 02 against the solution
  cargo workbook reset 1                   your step 01 back to its start")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The checkout [default: this command's own]
    #[arg(long, value_name = "DIR", hide = true)]
    workspace: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the whole system until ctrl-c, with a page that shows its traces
    Run {
        /// Which tier1 [default: the finished one, solution-12]
        step: Option<Step>,
        /// The port of tier1; if it is taken, another one
        #[arg(long, default_value_t = 8080)]
        port: u16,
        /// The port of the page; if it is taken, another one
        #[arg(long, default_value_t = 8088)]
        page_port: u16,
        /// Shows what a console exporter writes, too
        #[arg(long)]
        console: bool,
        /// A variable for the step's program; may be repeated
        #[arg(long, value_name = "NAME=VALUE")]
        env: Vec<String>,
    },
    /// Makes one request, prints the answer and the traces, and ends
    Trace {
        /// Which tier1
        step: Step,
        /// What to ask for: /fast, /slow, /error, /random, /healthcheck
        #[arg(value_parser = path)]
        path: String,
        /// Leaves out tier2, saas or queue; may be repeated
        #[arg(long, value_enum, value_name = "PART", hide_possible_values = true)]
        without: Vec<Without>,
        /// Shows attributes: of spans, events and log records
        #[arg(long)]
        attributes: bool,
        /// A variable for the step's program; may be repeated
        #[arg(long, value_name = "NAME=VALUE")]
        env: Vec<String>,
    },
    Check(check::Check),
    Hint(hint::Hint),
    Compare(compare::Compare),
    /// Fetches the image of RabbitMQ, so that no check has to wait for it
    Pull,
    /// Removes the RabbitMQ that runs in Docker
    Stop,
    Reset(reset::Reset),
    Dev(dev::Dev),
}

/// A part that can be left out.
#[derive(Clone, Copy, ValueEnum)]
enum Without {
    Tier2,
    Saas,
    Queue,
}

impl From<Without> for Part {
    fn from(without: Without) -> Self {
        match without {
            Without::Tier2 => Self::Tier2,
            Without::Saas => Self::Saas,
            Without::Queue => Self::Queue,
        }
    }
}

fn path(text: &str) -> Result<String, String> {
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.starts_with('/') && printable {
        Ok(text.to_owned())
    } else {
        Err("a path starts with `/`, such as /fast, and has no spaces".to_owned())
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::tell(&error),
    };
    let done = match cli.command {
        Some(command) => command.run(),
        None => desk::show(cli.workspace),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            terminal::complain(&error.to_string());
            ExitCode::from(EXIT_ENVIRONMENT)
        }
    }
}

impl Command {
    fn run(self) -> Result<ExitCode, Error> {
        match self {
            Self::Run {
                step,
                port,
                page_port,
                console,
                env,
            } => {
                let env = variable::all(&env)?;
                let step = step.map_or_else(Step::last_solution, Ok)?;
                let options = run::Options {
                    port,
                    page_port,
                    console,
                    env: &env,
                };
                run::run(&step, &Programs::prepare(&step)?, &options)
            }
            Self::Trace {
                step,
                path,
                without,
                attributes,
                env,
            } => {
                let env = variable::all(&env)?;
                let programs = Programs::prepare(&step)?;
                let ask = trace::Ask {
                    path: &path,
                    without: without.into_iter().map(Part::from).collect(),
                    attributes,
                    env: &env,
                };
                trace::trace(&step, &programs, ask)
            }
            Self::Check(check) => check.run(),
            Self::Hint(hint) => hint.run(),
            Self::Compare(compare) => compare.run(),
            Self::Reset(reset) => reset.run(),
            Self::Dev(dev) => dev.run(),
            Self::Pull => docker::pull(),
            Self::Stop => docker::stop(),
        }
    }
}

/// What a lab is to run.
struct Programs {
    /// The step's tier1; the finished one, if the step is about the consumer.
    tier1: OsString,
    /// The step's consumer, in the place of the lab's own.
    consumer: Option<OsString>,
}

impl Programs {
    /// Builds what `step` needs, in the environment that the reader has, and goes on
    /// in a cleaned one. (Without the reader's RUSTFLAGS or wrapper, cargo would build
    /// everything anew.)
    fn prepare(step: &Step) -> Result<Self, Error> {
        const TIER1: &str = "WORKBOOK_BUILT";
        const CONSUMER: &str = "WORKBOOK_BUILT_CONSUMER";
        if let Some(tier1) = std::env::var_os(TIER1) {
            let consumer = std::env::var_os(CONSUMER);
            return Ok(Self { tier1, consumer });
        }
        let (tier1, consumer) = if step.is_consumer() {
            let tier1 = build::build(&Step::last_solution()?)?;
            (tier1, Some(build::build(step)?.into_os_string()))
        } else {
            (build::build(step)?, None)
        };
        let tier1 = tier1.into_os_string();
        let mut built = vec![(TIER1, tier1.as_os_str())];
        built.extend(consumer.as_deref().map(|consumer| (CONSUMER, consumer)));
        lab::clean_environment(&built)?;
        Ok(Self { tier1, consumer })
    }

    /// What of the reader's variables tier1 gets, and what the consumer does: they are for
    /// the step's program, which is one of the two.
    fn variables<'a>(&self, given: &'a [Variable]) -> (&'a [Variable], &'a [Variable]) {
        match self.consumer {
            Some(_) => (&[], given),
            None => (given, &[]),
        }
    }
}

/// Why a command could not be carried out; one line.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Lab(#[from] LabError),
    #[error(transparent)]
    Docker(#[from] containers::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("there is no {0}; there are {1}")]
    NoStep(String, String),
    #[error("--env: {0}")]
    Variable(&'static str),
    #[error("can't start cargo: {0}")]
    NoCargo(std::io::Error),
    #[error("{0} does not compile: see the messages above")]
    DoesNotCompile(String),
    #[error("`cargo metadata` does not tell the target folder")]
    NoTarget,
    #[error("{0} has no check")]
    NoTests(String),
    #[error("cargo built no program for {0}")]
    NoProgram(String),
    #[error(transparent)]
    Starter(#[from] starter::StarterError),
    #[error(
        "{0} is the finished code: `reset` takes a step; `git checkout solutions` restores these"
    )]
    NotAStep(String),
    #[error("`reset` asks first, and here is nobody to answer: add --yes")]
    NobodyToAsk,
    #[error("tier1 answered {0} in place of 200")]
    NotAnswered(u16),
    #[error("a request could not be made: {0}")]
    Load(String),
    #[error("there is no picture {0:?}; there are {1}")]
    NoPicture(String, String),
    #[error("it did not end within {0:?}")]
    TooLong(std::time::Duration),
    #[error("{error}; the step is half reset, all that it was is kept in {kept}")]
    HalfReset {
        error: starter::StarterError,
        kept: String,
    },
}
