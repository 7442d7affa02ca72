//! `cargo workbook hint`: one more hint each time.

use std::{fs, path::PathBuf, process::ExitCode};

use clap::Args;

use crate::{Error, course, starter::Workspace, step::Step, terminal};

/// What comes before each hint's title in `hints.md`.
const HEADING: &str = "### ";

/// Shows one more hint each time: concept, API, near-code
#[derive(Args)]
pub struct Hint {
    /// Which step [default: the next one]
    step: Option<Step>,
    /// Starts with the first again
    #[arg(long)]
    again: bool,
    /// The checkout [default: this command's own]
    #[arg(long, value_name = "DIR", hide = true)]
    workspace: Option<PathBuf>,
}

/// A hint: its title and its text.
#[derive(Debug, PartialEq, Eq)]
struct Section<'a> {
    title: &'a str,
    text: &'a str,
}

impl Hint {
    pub fn run(self) -> Result<ExitCode, Error> {
        let workspace = Workspace::new(self.workspace);
        let Some(step) = course::or_next(&workspace, self.step)? else {
            terminal::say(
                "All steps have passed. `cargo workbook hint STEP` gives those of one.\n",
            );
            return Ok(ExitCode::SUCCESS);
        };
        course::folder(&workspace, &step)?;
        let file = workspace.step(step.number()).join("hints.md");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                terminal::say(&format!("{step} has no hints: it has nothing to write.\n"));
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => return Err(workspace.failed("read", &file, error).into()),
        };
        let hints = sections(&text);
        let seen = Seen::of(&workspace, &step);
        // Hints may have been taken out since.
        let next = if self.again { 0 } else { seen.read() };
        let number = next.min(hints.len().saturating_sub(1));
        if let Some(hint) = hints.get(number) {
            let of = hints.len();
            terminal::say(&format!(
                "{step}, hint {} of {of}: {}\n\n{}\n\n{}\n",
                number + 1,
                hint.title,
                hint.text,
                after(&step, number + 1, of)
            ));
        }
        seen.write(number + 1)
            .map_err(|error| workspace.failed("write", &seen.0, error))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn after(step: &Step, shown: usize, of: usize) -> String {
    if shown < of {
        format!("One more: cargo workbook hint {}", step.number())
    } else {
        format!(
            "That was the last one. The solution: solutions/step-{number:02}\n\
             Beside yours: cargo workbook compare {number}",
            number = step.number()
        )
    }
}

/// The text before the first heading is no hint.
fn sections(text: &str) -> Vec<Section<'_>> {
    let separator = format!("\n{HEADING}");
    let first = match text.strip_prefix(HEADING) {
        Some(rest) => Some(rest),
        None => text.split_once(&separator).map(|(_, rest)| rest),
    };
    let text = first.unwrap_or_default();
    text.split(separator.as_str())
        .filter_map(|section| {
            let (title, text) = section.split_once('\n')?;
            let (title, text) = (title.trim(), text.trim());
            (!title.is_empty()).then_some(Section { title, text })
        })
        .collect()
}

/// How many hints were shown: a number in a file under target/, so that nothing of it
/// is ever committed.
struct Seen(PathBuf);

impl Seen {
    fn of(workspace: &Workspace, step: &Step) -> Self {
        let folder = workspace.root().join("target/workbook/hints");
        Self(folder.join(step.to_string()))
    }

    /// What can't be read was never shown.
    fn read(&self) -> usize {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    fn write(&self, shown: usize) -> std::io::Result<()> {
        if let Some(folder) = self.0.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&self.0, shown.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_what_stands_under_headings() {
        let text =
            "For the book.\n\n### Concept\n\nA span.\n\n### API\n\n```rust\n#### no heading\n```\n";
        let found = sections(text);
        let titles: Vec<_> = found.iter().map(|section| section.title).collect();
        assert_eq!(titles, ["Concept", "API"]);
        assert_eq!(found[0].text, "A span.");
        assert_eq!(found[1].text, "```rust\n#### no heading\n```");
        assert_eq!(sections("### One\ntext")[0].text, "text");
        assert!(sections("no heading").is_empty());
        assert!(sections("").is_empty());
    }
}
