//! `cargo workbook dev pictures`: the book's pictures, and the recordings they are drawn from.

mod list;
mod record;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use lab::contract::StepContract;
use otlp::{Expected, Recorded, Rules, SvgOptions};

use self::list::{Logs, PICTURES, Picture};
use crate::{Error, starter::Workspace, terminal};

/// The services in the order of their colours: each has the same in all pictures.
const SERVICES: [&str; 3] = ["tier1-service", "consumer-service", "tier2-service"];

/// Records the book's pictures anew
///
/// Builds the solutions, makes each picture's request in a system of its own, keeps
/// what was exported in book/recordings, and draws it into book/src/pictures. Which
/// pictures there are is said in crates/workbook/src/dev/pictures/list.rs.
///
/// 0: all is well. 1: something isn't. 2: it could not be found out.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Pictures {
    /// Which pictures, such as 06-fast [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Runs nothing: says whether pictures, recordings, snapshots and chapters fit
    #[arg(long, conflicts_with_all = ["draw", "names"])]
    check: bool,
    /// Runs nothing: draws the recordings there are
    #[arg(long)]
    draw: bool,
}

impl Pictures {
    /// Does it.
    pub fn run(self, workspace: &Workspace) -> Result<ExitCode, Error> {
        if self.check {
            return Ok(match check_and_tell(workspace).as_slice() {
                [] => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            });
        }
        let chosen = chosen(&self.names)?;
        let mut problems = Vec::new();
        if self.draw {
            for picture in chosen {
                match read(workspace, picture) {
                    Ok(recorded) => write(workspace, picture, &recorded, false)?,
                    Err(problem) => problems.push(problem),
                }
            }
            return Ok(tell(&problems));
        }
        let programs = record::Programs::prepare(&chosen)?;
        for picture in chosen {
            let recorded = record::record(picture, &programs)?;
            write(workspace, picture, &recorded, true)?;
            problems.extend(fits(workspace, picture, &recorded, JUST_RECORDED));
        }
        Ok(tell(&problems))
    }
}

/// Those of that name; all, if none is named.
fn chosen(names: &[String]) -> Result<Vec<&'static Picture>, Error> {
    if names.is_empty() {
        return Ok(PICTURES.iter().collect());
    }
    let find = |name: &String| {
        let found = PICTURES.iter().find(|picture| picture.name == name);
        found.ok_or_else(|| {
            let all: Vec<_> = PICTURES.iter().map(|picture| picture.name).collect();
            Error::NoPicture(name.clone(), all.join(", "))
        })
    };
    names.iter().map(find).collect()
}

/// Says what is wrong.
fn tell(problems: &[String]) -> ExitCode {
    for problem in problems {
        terminal::say(&format!("pictures  ✗ {}\n", terminal::harmless(problem)));
    }
    if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The whole check, told; answers what is wrong.
pub fn check_and_tell(workspace: &Workspace) -> Vec<String> {
    let problems = check(workspace);
    tell(&problems);
    if problems.is_empty() {
        terminal::say(&format!(
            "pictures  all {} show what was recorded, and that is what the snapshots tell\n",
            PICTURES.len()
        ));
    }
    problems
}

fn recording(workspace: &Workspace, name: &str) -> PathBuf {
    workspace
        .root()
        .join(format!("book/recordings/{name}.json"))
}

fn drawing(workspace: &Workspace, name: &str) -> PathBuf {
    workspace
        .root()
        .join(format!("book/src/pictures/{name}.svg"))
}

/// The command that records a picture anew.
fn anew(picture: &Picture) -> String {
    format!(
        "`cargo workbook dev pictures {}` records it anew",
        picture.name
    )
}

fn write(
    workspace: &Workspace,
    picture: &Picture,
    recorded: &Recorded,
    with_recording: bool,
) -> Result<(), Error> {
    let mut files = vec![(drawing(workspace, picture.name), draw(picture, recorded))];
    if with_recording {
        files.push((recording(workspace, picture.name), recorded.to_json()));
    }
    for (path, text) in files {
        let written = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, text));
        written.map_err(|error| workspace.failed("write", &path, error))?;
    }
    let plural =
        |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    terminal::say(&format!(
        "{:<16}  {}, {}\n",
        picture.name,
        plural(recorded.spans.len(), "span"),
        plural(recorded.logs.len(), "log record"),
    ));
    Ok(())
}

fn draw(picture: &Picture, recorded: &Recorded) -> String {
    let options = SvgOptions {
        title: picture.title,
        services: &SERVICES,
    };
    otlp::svg(&otlp::traces(&recorded.spans), &recorded.logs, options)
}

fn read(workspace: &Workspace, picture: &Picture) -> Result<Recorded, String> {
    let path = recording(workspace, picture.name);
    let told = workspace.tell(&path);
    let json = fs::read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no {told}: {}", anew(picture)),
        _ => format!("can't read {told}: {error}"),
    })?;
    Recorded::from_json(&json)
        .map_err(|problem| format!("{told} is no recording: {problem}; {}", anew(picture)))
}

/// What is wrong with pictures, recordings and the chapters that show them; nothing is run.
fn check(workspace: &Workspace) -> Vec<String> {
    let mut problems = Vec::new();
    for picture in PICTURES {
        match read(workspace, picture) {
            Err(problem) => problems.push(problem),
            Ok(recorded) => {
                problems.extend(is_drawn(workspace, picture, &recorded));
                problems.extend(fits(workspace, picture, &recorded, &anew(picture)));
            }
        }
    }
    problems.extend(orphans(workspace));
    match shown(workspace) {
        Ok(shown) => problems.extend(is_shown(&shown)),
        Err(error) => problems.push(format!("can't read the chapters in book/src: {error}")),
    }
    problems
}

/// Whether the drawing is that of the recording.
fn is_drawn(workspace: &Workspace, picture: &Picture, recorded: &Recorded) -> Option<String> {
    let path = drawing(workspace, picture.name);
    let told = workspace.tell(&path);
    let mend = format!(
        "`cargo workbook dev pictures --draw {}` draws it",
        picture.name
    );
    let there = match fs::read_to_string(&path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Some(format!("there is no {told}: {mend}"));
        }
        Err(error) => return Some(format!("can't read {told}: {error}")),
    };
    let expected = draw(picture, recorded);
    (there != expected).then(|| {
        let same = there.lines().zip(expected.lines());
        let line = 1 + same.take_while(|(a, b)| a == b).count();
        let of = workspace.tell(&recording(workspace, picture.name));
        format!("{told} is not what {of} shows, from line {line} on: {mend}")
    })
}

/// What mends a recording that was made just now and doesn't fit.
const JUST_RECORDED: &str = "mend the solution, or accept its snapshot";

/// Whether the recording is what the step's snapshot tells. `mend` says what to do if not.
fn fits(
    workspace: &Workspace,
    picture: &Picture,
    recorded: &Recorded,
    mend: &str,
) -> Option<String> {
    let told = workspace.tell(&recording(workspace, picture.name));
    let (step, name) = picture.snapshot;
    let path = workspace
        .step(step)
        .join(format!("tests/snapshots/check__{name}.snap"));
    let mut expected = match lab::snapshot(&path) {
        Ok(expected) => expected,
        Err(error) => return Some(format!("{told} can't be compared: {error}")),
    };
    (picture.but)(&mut expected);
    let came = normalised(picture, recorded);
    if let Some((expected, came)) = first_difference(&expected, &came) {
        return Some(format!(
            "{told} does not fit {}: recorded is {came}, expected {expected}; {mend}",
            workspace.tell(&path),
        ));
    }
    (picture.logs != Logs::None && recorded.logs.is_empty())
        .then(|| format!("{told} has no log records, and the picture shows them; {mend}"))
}

/// A recording as a snapshot has it.
fn normalised(picture: &Picture, recorded: &Recorded) -> Expected {
    let contract = StepContract::new(picture.snapshot.0);
    Rules::new(&contract).normalize(&recorded.spans)
}

/// The first line in which two differ, with the line of the span that it is about.
fn first_difference(expected: &Expected, came: &Expected) -> Option<(String, String)> {
    let (expected, came) = (expected.to_string(), came.to_string());
    if expected == came {
        return None;
    }
    let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    let (expected, came) = (lines(&expected), lines(&came));
    let at = expected.iter().zip(&came).take_while(|(a, b)| a == b);
    let at = at.count();
    let line = |lines: &[String]| match lines.get(at) {
        None => "the end".to_owned(),
        Some(line) => {
            let text = line.trim_start().trim_start_matches("└─ ");
            let is_span = !text.starts_with('│');
            let above = lines[..at]
                .iter()
                .rev()
                .find_map(|it| it.trim_start().strip_prefix("└─ "));
            match above {
                Some(above) if !is_span => {
                    format!("`{}` of `{above}`", text.trim_start_matches(['│', ' ']))
                }
                _ => format!("`{text}`"),
            }
        }
    };
    Some((line(&expected), line(&came)))
}

/// Files that belong to no picture.
fn orphans(workspace: &Workspace) -> Vec<String> {
    let mut problems = Vec::new();
    for (folder, ending) in [("book/recordings", "json"), ("book/src/pictures", "svg")] {
        let mut names: Vec<String> = match fs::read_dir(workspace.root().join(folder)) {
            // What should be in there is missed elsewhere.
            Err(_) => continue,
            Ok(entries) => entries
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .collect(),
        };
        names.sort();
        for file in names {
            let is_of = |picture: &Picture| file == format!("{}.{ending}", picture.name);
            if !PICTURES.iter().any(is_of) {
                problems.push(format!(
                    "{folder}/{file} belongs to no picture of crates/workbook/src/dev/pictures/list.rs: remove it"
                ));
            }
        }
    }
    problems
}

/// Which pictures the chapters include: chapter and name.
fn shown(workspace: &Workspace) -> io::Result<BTreeSet<(String, String)>> {
    let mut shown = BTreeSet::new();
    for entry in fs::read_dir(workspace.root().join("book/src"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "md") {
            let text = fs::read_to_string(&path)?;
            for name in included(&text) {
                shown.insert((workspace.tell(&path), name.to_owned()));
            }
        }
    }
    Ok(shown)
}

/// The names in `{{#include pictures/NAME.svg}}`.
fn included(text: &str) -> impl Iterator<Item = &str> {
    text.split("{{#include pictures/")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("}}")?.0))
        .map(|file| file.strip_suffix(".svg").unwrap_or(file))
}

fn is_shown(shown: &BTreeSet<(String, String)>) -> Vec<String> {
    let mut problems = Vec::new();
    for (chapter, name) in shown {
        if !PICTURES.iter().any(|picture| picture.name == name) {
            problems.push(format!(
                "{chapter} includes pictures/{name}.svg, and no picture of that name is in crates/workbook/src/dev/pictures/list.rs"
            ));
        }
    }
    for picture in PICTURES {
        if !shown.iter().any(|(_, name)| name == picture.name) {
            problems.push(format!(
                "no chapter includes pictures/{}.svg: show it, or take it out of crates/workbook/src/dev/pictures/list.rs",
                picture.name
            ));
        }
    }
    problems
}

/// Whether the workspace has a book with pictures at all.
pub fn is_there(workspace: &Workspace) -> bool {
    Path::is_dir(&workspace.root().join("book"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cheap, and so a part of `cargo test`.
    #[test]
    fn pictures_recordings_snapshots_and_chapters_fit() {
        let problems = check(&Workspace::new(None));
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }

    #[test]
    fn pictures_are_in_the_order_of_their_names() {
        assert!(PICTURES.is_sorted_by(|a, b| a.name < b.name));
        for picture in PICTURES {
            let of = if picture.name == "12-unconsumed" {
                12
            } else {
                picture.solution
            };
            assert!(
                picture.name.starts_with(&format!("{of:02}-")),
                "{}",
                picture.name
            );
        }
    }
}
