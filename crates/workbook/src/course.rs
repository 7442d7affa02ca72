//! The course: its steps with part, title and minutes, how the reader's code of each
//! stands, and which is next.

use std::{fs, path::Path};

use lab::passed::{self, Standing};

use crate::{Error, reset, starter::Workspace, step::Step};

/// A step, and the chapter that is about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chapter {
    /// Its number.
    pub step: u8,
    /// Its title, as the step's Cargo.toml has it.
    pub title: String,
    /// The heading of the part that it belongs to; `None` if the book doesn't tell.
    pub part: Option<String>,
    /// How long it takes; `None` if the chapter doesn't tell.
    pub minutes: Option<u16>,
    /// The chapter's file, from the workspace on; `None` if the book has none.
    pub file: Option<String>,
    /// How the reader's code of it stands.
    pub state: State,
}

/// How the reader's code of a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is the starter.
    Untouched,
    /// It is something else, and has never passed.
    Begun,
    /// It has passed, and was changed since.
    Changed,
    /// It passes.
    Passed,
}

/// Where the reader goes on in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, from the workspace on.
    pub file: String,
    /// The line in it, counted from 1.
    pub line: usize,
    /// The number of the TODO that stands there.
    pub todo: u8,
}

/// All steps there are, in order.
///
/// # Errors
/// If the folders of the steps can't be read.
pub fn read(workspace: &Workspace) -> Result<Vec<Chapter>, Error> {
    let book = Book::read(workspace);
    let steps = workspace.steps()?.into_iter();
    Ok(steps
        .filter(|step| workspace.step(*step).is_dir())
        .map(|step| {
            let told = book.chapters.iter().find(|told| told.step == step);
            Chapter {
                step,
                title: title_of(workspace, step),
                part: told.and_then(|told| told.part.clone()),
                minutes: told.and_then(|told| told.minutes),
                file: told.map(|told| told.file.clone()),
                state: state(workspace, step),
            }
        })
        .collect())
}

/// The step to do now; `None` if all have passed.
///
/// Readers may leave steps out. So it is the one that they have begun beyond the last that
/// passed, or else the first there; and if there is none, the first that was left out.
pub fn next(chapters: &[Chapter]) -> Option<&Chapter> {
    let passed = |chapter: &Chapter| chapter.state == State::Passed;
    let beyond = chapters.iter().rposition(passed).map_or(0, |last| last + 1);
    let later = &chapters[beyond..];
    later
        .iter()
        .find(|chapter| chapter.state == State::Begun)
        .or_else(|| later.first())
        .or_else(|| chapters.iter().find(|chapter| !passed(chapter)))
}

/// The step that was asked for, or the one to do now; `None` if all have passed.
///
/// # Errors
/// If the folders of the steps can't be read.
pub fn or_next(workspace: &Workspace, asked: Option<Step>) -> Result<Option<Step>, Error> {
    if asked.is_some() {
        return Ok(asked);
    }
    let chapters = read(workspace)?;
    Ok(next(&chapters).map(|chapter| Step::numbered(chapter.step)))
}

/// The snapshot that checks have of a request for `path`, if any step's has one.
pub fn snapshot_of(path: &str) -> Option<&'static str> {
    Some(match path {
        "/fast" => "fast",
        "/slow" => "slow",
        "/error" => "error",
        "/panic" => "panic",
        "/nope" => "unknown_path",
        _ => return None,
    })
}

/// The first TODO that is left in the step's files.
pub fn place(workspace: &Workspace, step: u8) -> Option<Place> {
    let todo = lab::first_todo(&workspace.step(step))?;
    Some(Place {
        file: workspace.tell(&todo.file),
        line: todo.line,
        todo: todo.number,
    })
}

/// The folder of `step`, which may be a solution.
///
/// # Errors
/// If there is none: the error names those that there are.
pub fn folder(workspace: &Workspace, step: &Step) -> Result<std::path::PathBuf, Error> {
    let folder = |number| {
        if step.is_solution() {
            workspace.solution(number)
        } else {
            workspace.step(number)
        }
    };
    let wanted = folder(step.number());
    if wanted.join("Cargo.toml").is_file() {
        return Ok(wanted);
    }
    let kind = if step.is_solution() {
        "solution"
    } else {
        "step"
    };
    let steps = workspace.steps()?.into_iter();
    let there: Vec<_> = steps
        .filter(|number| folder(*number).is_dir())
        .map(|number| format!("{kind}-{number:02}"))
        .collect();
    Err(Error::NoStep(step.to_string(), there.join(", ")))
}

/// The step's title, from the description in its manifest.
pub fn title(manifest: &str, step: u8) -> Option<&str> {
    let lead = format!("description = \"Step {step:02}, ");
    let rest = manifest.lines().find_map(|line| line.strip_prefix(&lead))?;
    rest.split_once(':').map(|(title, _)| title)
}

/// The title that solution or step have; the reader may have spoilt the step's.
pub fn title_of(workspace: &Workspace, step: u8) -> String {
    [workspace.solution(step), workspace.step(step)]
        .iter()
        .find_map(|folder| {
            let manifest = fs::read_to_string(folder.join("Cargo.toml")).ok()?;
            title(&manifest, step).map(str::to_owned)
        })
        .unwrap_or_else(|| format!("step-{step:02}"))
}

fn state(workspace: &Workspace, step: u8) -> State {
    let standing = passed::standing(workspace.root(), step);
    if standing == Standing::Passed {
        return State::Passed;
    }
    // A starter that can't be made is no reason to say nothing of the others.
    let untouched = workspace.starter(step).map_or(true, |starter| {
        reset::changes(&workspace.step(step), &starter).is_ok_and(|changes| changes.is_empty())
    });
    match standing {
        _ if untouched => State::Untouched,
        Standing::Changed => State::Changed,
        _ => State::Begun,
    }
}

/// What the book tells of its chapters.
struct Book {
    chapters: Vec<Told>,
}

struct Told {
    step: u8,
    /// The chapter's title, for the test that holds it against the step's own.
    #[cfg_attr(not(test), allow(dead_code))]
    title: String,
    part: Option<String>,
    minutes: Option<u16>,
    file: String,
}

impl Book {
    /// A book that isn't there tells nothing.
    fn read(workspace: &Workspace) -> Self {
        let source = workspace.root().join("book/src");
        let summary = fs::read_to_string(source.join("SUMMARY.md")).unwrap_or_default();
        let mut chapters = Vec::new();
        let mut part = None;
        for line in summary.lines() {
            if let Some(heading) = line.strip_prefix("# Part ") {
                part = Some(format!("Part {heading}"));
            } else if let Some((step, title, file)) = entry(line) {
                chapters.push(Told {
                    step,
                    title: title.to_owned(),
                    part: part.clone(),
                    minutes: minutes(&source.join(file)),
                    file: format!("book/src/{file}"),
                });
            }
        }
        Self { chapters }
    }
}

/// Step, title and file of a line such as `- [Requests out](05-requests-out.md)`.
fn entry(line: &str) -> Option<(u8, &str, &str)> {
    let (title, file) = line.trim().strip_prefix("- [")?.split_once("](")?;
    let file = file.strip_suffix(')')?;
    let (number, _) = file.split_once('-')?;
    Some((number.parse().ok()?, title, file))
}

/// The number in a chapter's line `| minutes | about 20 |`.
fn minutes(chapter: &Path) -> Option<u16> {
    let text = fs::read_to_string(chapter).ok()?;
    let line = text.lines().find(|line| line.starts_with("| minutes |"))?;
    line.split(|c: char| !c.is_ascii_digit())
        .find_map(|digits| digits.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn book_and_steps_agree() {
        let workspace = Workspace::new(None);
        let book = Book::read(&workspace);
        let chapters = read(&workspace).unwrap();
        assert!(chapters.len() >= 13, "{chapters:?}");
        assert_eq!(book.chapters.len(), chapters.len());
        for (told, chapter) in book.chapters.iter().zip(&chapters) {
            assert_eq!((told.step, &told.title), (chapter.step, &chapter.title));
            assert!(chapter.part.is_some(), "{chapter:?}");
            // As many columns as the first screen has for it.
            assert!(chapter.title.chars().count() <= 28, "{chapter:?}");
            let minutes = chapter.minutes.unwrap_or_default();
            assert!((5..=60).contains(&minutes), "{chapter:?}");
        }
    }

    #[test]
    fn a_chapter_is_known_by_its_file() {
        let line = "- [Requests out](05-requests-out.md)";
        assert_eq!(entry(line), Some((5, "Requests out", "05-requests-out.md")));
        for other in [
            "[Introduction](introduction.md)",
            "- [Set-up](setup.md)",
            "# Part 1: Uninstrumented",
            "",
        ] {
            assert_eq!(entry(other), None, "{other}");
        }
    }

    fn after(states: &[State]) -> Option<u8> {
        let chapters: Vec<_> = (1..)
            .zip(states)
            .map(|(step, state)| Chapter {
                step,
                title: String::new(),
                part: None,
                minutes: None,
                file: None,
                state: *state,
            })
            .collect();
        next(&chapters).map(|chapter| chapter.step)
    }

    #[test]
    fn the_next_step_is_the_one_that_a_reader_is_at() {
        use State::{Begun, Changed, Passed, Untouched};
        for (states, expected) in [
            (&[Untouched, Untouched, Untouched][..], Some(1)),
            (&[Passed, Untouched, Untouched], Some(2)),
            // Step 2 was left out.
            (&[Passed, Untouched, Begun], Some(3)),
            (&[Passed, Untouched, Passed, Untouched], Some(4)),
            (&[Passed, Begun, Passed, Untouched], Some(4)),
            // The last that passed is looked at again, or what came after it is.
            (&[Passed, Changed, Untouched], Some(2)),
            (&[Passed, Changed, Begun], Some(3)),
            // At the end, what was left out.
            (&[Passed, Untouched, Begun, Passed], Some(2)),
            (&[Changed, Passed], Some(1)),
            (&[Passed, Passed], None),
            (&[], None),
        ] {
            assert_eq!(after(states), expected, "{states:?}");
        }
    }
}
