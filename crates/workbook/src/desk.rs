//! `cargo workbook` alone: where the reader is in the course, and what is next.

use std::{fmt::Write, path::PathBuf, process::ExitCode};

use crate::{
    Error,
    course::{self, Chapter, State},
    starter::Workspace,
    terminal::{self, Colour},
};

/// How many columns a title gets; a longer one pushes what follows to the right.
const TITLE: usize = 28;

/// Shows the steps and what is next.
pub fn show(workspace: Option<PathBuf>) -> Result<ExitCode, Error> {
    let workspace = Workspace::new(workspace);
    let chapters = course::read(&workspace)?;
    let mut text = list(&chapters);
    text.push('\n');
    text.push_str(&what_is_next(&workspace, &chapters));
    text.push_str(
        "\nThe book with its pictures: mdbook serve book\nAll commands: cargo workbook --help\n",
    );
    terminal::say(&text);
    Ok(ExitCode::SUCCESS)
}

/// The steps under the headings of their parts.
fn list(chapters: &[Chapter]) -> String {
    let passed = chapters
        .iter()
        .filter(|chapter| chapter.state == State::Passed);
    let mut text = format!(
        "OpenTelemetry for Rust services: {} of {} steps passed\n",
        passed.count(),
        chapters.len()
    );
    let mut part = None;
    for chapter in chapters {
        if chapter.part != part {
            part.clone_from(&chapter.part);
            let heading = part.as_deref().unwrap_or("Other steps");
            let _ = writeln!(text, "\n{}", terminal::dim(&terminal::harmless(heading)));
        }
        let (mark, colour, told) = match chapter.state {
            State::Passed => ("✓", Some(Colour::Green), "passed"),
            State::Changed => ("~", Some(Colour::Yellow), "changed since it passed"),
            State::Begun => ("·", Some(Colour::Yellow), "begun"),
            State::Untouched => (" ", None, ""),
        };
        let minutes = chapter
            .minutes
            .map_or_else(String::new, |minutes| format!("{minutes} min"));
        let title = terminal::harmless(&chapter.title);
        let line = format!(
            "  {mark} {:02}  {title:<TITLE$} {minutes:>6}  {told}",
            chapter.step
        );
        let line = line.trim_end();
        let line = colour.map_or_else(|| line.to_owned(), |colour| colour.paint(line));
        let _ = writeln!(text, "{line}");
    }
    text
}

/// What to read, to write and to type for the step that is next.
pub fn what_is_next(workspace: &Workspace, chapters: &[Chapter]) -> String {
    let Some(chapter) = course::next(chapters) else {
        return "All steps have passed. `cargo workbook run 12` runs the tier1 that you have \
                built, `cargo workbook run 13` your consumer.\n"
            .to_owned();
    };
    let step = chapter.step;
    let mut text = format!(
        "Next is step {step:02}, {}{}:\n",
        terminal::harmless(&chapter.title),
        match chapter.state {
            State::Changed => ", which was changed since it passed",
            _ => "",
        }
    );
    let mut line = |word: &str, what: &str| {
        let _ = writeln!(text, "  {word:<7} {}", terminal::harmless(what));
    };
    if let Some(file) = &chapter.file {
        line("read", file);
    }
    if let Some(place) = course::place(workspace, step) {
        let course::Place {
            file,
            line: at,
            todo,
        } = place;
        line("write", &format!("{file}:{at}, TODO {todo}"));
    }
    line("check", &format!("cargo workbook check {step}"));
    if workspace.step(step).join("hints.md").is_file() {
        line("stuck?", &format!("cargo workbook hint {step}"));
    }
    text
}
