//! `cargo workbook reset`: a step as it was before the reader wrote in it.

use std::{
    fs,
    io::{self, BufRead, IsTerminal},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use crate::{
    Error,
    patch::Files,
    starter::{self, StarterError, Workspace},
    step::Step,
    terminal,
};

/// Puts your code of a step back to its start; asks first, keeps a copy
#[derive(clap::Args)]
#[command(after_help = "\
What is in steps/step-NN/src and Cargo.toml is copied to steps/step-NN/.kept
first; git ignores that folder. Tests and snapshots are not touched.

If cargo can't even read the workspace any more, because a Cargo.toml is broken,
run the program that it built before: target/debug/workbook reset STEP")]
pub struct Reset {
    /// Which step
    step: Step,
    /// Doesn't ask
    #[arg(long)]
    yes: bool,
    /// The checkout [default: this command's own]
    #[arg(long, value_name = "DIR", hide = true)]
    workspace: Option<PathBuf>,
}

/// What happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there and holds something else.
    Replaced,
    /// The starter doesn't have it.
    Removed,
    /// It is missing.
    Added,
}

impl Reset {
    /// Does it. 0 if the step is its starter now, 1 if the reader said no.
    pub fn run(self) -> Result<ExitCode, Error> {
        if self.step.is_solution() {
            return Err(Error::NotAStep(self.step.to_string()));
        }
        let workspace = Workspace::new(self.workspace);
        let number = self.step.number();
        let folder = workspace.step(number);
        if !folder.is_dir() {
            let steps = workspace.steps()?;
            let names: Vec<_> = steps.iter().map(|step| format!("step-{step:02}")).collect();
            return Err(Error::NoStep(self.step.to_string(), names.join(", ")));
        }
        let starter = workspace.starter(number)?;
        let read = |error| workspace.failed("read", &folder, error);
        let changes = changes(&folder, &starter).map_err(read)?;
        if changes.is_empty() {
            terminal::say(&format!("{} is as at its start\n", self.step));
            return Ok(ExitCode::SUCCESS);
        }
        terminal::say(&format!("{} goes back to its starter:\n", self.step));
        for (path, change) in &changes {
            let what = match change {
                Change::Replaced => "replaces",
                Change::Removed => "removes ",
                Change::Added => "restores",
            };
            let path = terminal::harmless(&path.display().to_string());
            terminal::say(&format!("  {what} {path}\n"));
        }
        if !self.yes {
            if !io::stdin().is_terminal() {
                return Err(Error::NobodyToAsk);
            }
            terminal::say("A copy is kept. Go on? [y/N] ");
            if !confirmed(&mut io::stdin().lock())? {
                terminal::say("nothing was changed\n");
                return Ok(ExitCode::FAILURE);
            }
        }
        let kept = keep(&workspace, &folder)?;
        let kept = workspace.tell(&kept);
        restore(&workspace, &folder, &starter, &changes).map_err(|error| Error::HalfReset {
            error,
            kept: kept.clone(),
        })?;
        terminal::say(&format!(
            "{} is its starter again; what it was is kept in {kept}\n",
            self.step
        ));
        Ok(ExitCode::SUCCESS)
    }
}

/// Whether the answer is yes. No answer is no.
fn confirmed(input: &mut impl BufRead) -> io::Result<bool> {
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    let answer = answer.trim().to_lowercase();
    Ok(answer == "y" || answer == "yes")
}

/// What has to happen for the files in `folder` to be `starter`.
pub fn changes(folder: &Path, starter: &Files) -> io::Result<Vec<(PathBuf, Change)>> {
    let there = starter::list(folder)?;
    let mut changes = Vec::new();
    for path in &there {
        // Anything may lie there: what is no text equals no text.
        match path.to_str().and_then(|path| starter.get(path)) {
            None => changes.push((path.clone(), Change::Removed)),
            Some(text) if fs::read(folder.join(path)).ok().as_deref() != Some(text.as_bytes()) => {
                changes.push((path.clone(), Change::Replaced));
            }
            Some(_) => {}
        }
    }
    let missing = starter.keys().map(PathBuf::from);
    changes.extend(
        missing
            .filter(|path| !there.contains(path))
            .map(|path| (path, Change::Added)),
    );
    changes.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(changes)
}

/// Copies what is in `folder` beside it; answers where to.
fn keep(workspace: &Workspace, folder: &Path) -> Result<PathBuf, StarterError> {
    let all = folder.join(".kept");
    let failed = |path: &Path, error| workspace.failed("write", path, error);
    fs::create_dir_all(&all).map_err(|error| failed(&all, error))?;
    let kept = new_folder(&all.join(now())).map_err(|error| failed(&all, error))?;
    let paths = starter::list(folder).map_err(|error| workspace.failed("read", folder, error))?;
    for path in paths {
        let (from, to) = (folder.join(&path), kept.join(&path));
        copy(&from, &to).map_err(|error| workspace.failed("copy", &from, error))?;
    }
    Ok(kept)
}

/// Makes the folder `wanted`, or one with a number behind that name.
fn new_folder(wanted: &Path) -> io::Result<PathBuf> {
    let mut folder = wanted.to_owned();
    let mut number = 1;
    loop {
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                number += 1;
                folder = wanted.with_extension(number.to_string());
            }
            made => return made.map(|()| folder),
        }
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    if from.symlink_metadata()?.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    fs::copy(from, to).map(|_| ())
}

fn restore(
    workspace: &Workspace,
    folder: &Path,
    starter: &Files,
    changes: &[(PathBuf, Change)],
) -> Result<(), StarterError> {
    // First out of the way, whatever it is: writing would follow a link.
    for (path, change) in changes {
        if *change != Change::Added {
            let path = folder.join(path);
            fs::remove_file(&path).map_err(|error| workspace.failed("remove", &path, error))?;
        }
    }
    let src = folder.join("src");
    remove_empty(&src).map_err(|error| workspace.failed("remove", &src, error))?;
    for (path, change) in changes {
        let text = path.to_str().and_then(|path| starter.get(path));
        if let (Change::Replaced | Change::Added, Some(text)) = (change, text) {
            let path = folder.join(path);
            let write = || {
                if let Some(folder) = path.parent() {
                    fs::create_dir_all(folder)?;
                }
                fs::write(&path, text)
            };
            write().map_err(|error| workspace.failed("write", &path, error))?;
        }
    }
    Ok(())
}

/// Removes `folder` and those in it, as far as there is no file in them.
fn remove_empty(folder: &Path) -> io::Result<()> {
    if !folder.symlink_metadata().is_ok_and(|it| it.is_dir()) {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        remove_empty(&entry?.path())?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
        _ => Ok(()),
    }
}

/// The time as part of a file's name: `2026-11-25T17-03-09Z`.
fn now() -> String {
    let seconds = SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
        .as_secs();
    timestamp(seconds)
}

fn timestamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}Z")
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
fn date(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for yes in ["y\n", "Y\n", "yes\n", " Yes \n", "y"] {
            assert!(confirmed(&mut yes.as_bytes()).unwrap(), "{yes:?}");
        }
        for no in ["", "\n", "n\n", "no\n", "yesterday\n", "\ny\n"] {
            assert!(!confirmed(&mut no.as_bytes()).unwrap(), "{no:?}");
        }
    }

    #[test]
    fn times_are_told_by_the_calendar() {
        for (seconds, told) in [
            (0, "1970-01-01T00-00-00Z"),
            (951_782_399, "2000-02-28T23-59-59Z"),
            (951_782_400, "2000-02-29T00-00-00Z"),
            (1_735_689_599, "2024-12-31T23-59-59Z"),
            (1_764_090_189, "2025-11-25T17-03-09Z"),
            (4_107_542_400, "2100-03-01T00-00-00Z"),
        ] {
            assert_eq!(timestamp(seconds), told);
        }
    }
}
