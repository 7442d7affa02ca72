//! `cargo workbook dev`: what those who write the steps need.

mod breaks;
mod check;
mod cost;
mod pictures;
pub mod programs;
mod scratch;
mod sources;
mod verdict;

use std::{fs, path::PathBuf, process::ExitCode};

use crate::{Error, starter::Workspace, step::Step, terminal};

/// For those who write the steps: makes and proves starters
#[derive(clap::Args)]
pub struct Dev {
    #[command(subcommand)]
    command: Command,
    /// The checkout [default: this command's own]
    #[arg(long, value_name = "DIR", hide = true, global = true)]
    workspace: Option<PathBuf>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Writes the patches anew that make the starters in steps/
    ///
    /// Edit steps/step-NN/src or Cargo.toml, then run this: the patch is the
    /// difference to what the step is based on, the solution of the step before.
    #[command(verbatim_doc_comment)]
    Starters {
        /// Which steps [default: all]
        #[arg(value_name = "STEP")]
        steps: Vec<Step>,
    },
    /// Proves that starters and solutions are what they should be
    ///
    /// Patches apply exactly and give what is in steps/. A starter compiles without
    /// a warning, fails its check, and fails with its own step's ids. The solution
    /// passes the same check and its further tests. A file of a starter in which no
    /// TODO stands is given, and the same in the solution; one with a TODO has the
    /// step's title in its first line. At most 50 lines are left to write.
    ///
    /// What the patches in crates/workbook/breaks/step-NN make of the solution is
    /// refused by its check with the ids that they name, or accepted if they say so.
    ///
    /// The book's pictures are what was recorded, and that is what the snapshots tell
    /// (see `cargo workbook dev pictures --help`).
    ///
    /// 0: all is well. 1: something isn't. 2: it could not be found out.
    #[command(verbatim_doc_comment)]
    Check {
        /// Which steps [default: all]
        #[arg(value_name = "STEP")]
        steps: Vec<Step>,
    },
    Cost(cost::Cost),
    Pictures(pictures::Pictures),
}

impl Dev {
    /// Does it.
    pub fn run(self) -> Result<ExitCode, Error> {
        let workspace = Workspace::new(self.workspace);
        match self.command {
            Command::Starters { steps } => starters(&workspace, &steps),
            Command::Check { steps } => {
                let steps = chosen(&workspace, &steps)?;
                check::check(&workspace, &steps)
            }
            Command::Cost(cost) => cost.run(),
            Command::Pictures(pictures) => pictures.run(&workspace),
        }
    }
}

/// The numbers of the steps that were asked for; all, if none was.
fn chosen(workspace: &Workspace, steps: &[Step]) -> Result<Vec<u8>, Error> {
    let there = workspace.steps()?;
    if let Some(missing) = steps.iter().find(|step| !there.contains(&step.number())) {
        let names: Vec<_> = there.iter().map(|step| format!("step-{step:02}")).collect();
        return Err(Error::NoStep(missing.to_string(), names.join(", ")));
    }
    if steps.is_empty() {
        return Ok(there);
    }
    Ok(steps.iter().map(Step::number).collect())
}

fn starters(workspace: &Workspace, steps: &[Step]) -> Result<ExitCode, Error> {
    let mut numbers = chosen(workspace, steps)?;
    if steps.is_empty() {
        numbers.retain(|number| workspace.step(*number).is_dir() && Workspace::is_patched(*number));
    }
    for number in numbers {
        let path = workspace.patch(number);
        let text = workspace.make_patch(number)?;
        let told = workspace.tell(&path);
        if fs::read_to_string(&path).is_ok_and(|before| before == text) {
            terminal::say(&format!("step {number:02}  {told} is as it was\n"));
            continue;
        }
        let write = || {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(&path, &text)
        };
        write().map_err(|error| workspace.failed("write", &path, error))?;
        let count = |sign: char| {
            let header = format!("{sign}{sign}{sign} ");
            let changed = |line: &&str| line.starts_with(sign) && !line.starts_with(&header);
            text.lines().filter(changed).count()
        };
        terminal::say(&format!(
            "step {number:02}  {told} written: {} lines added, {} removed\n",
            count('+'),
            count('-')
        ));
    }
    Ok(ExitCode::SUCCESS)
}
