//! What can be said of a step's files without running them.

use std::borrow::Cow;

use crate::{
    course::title,
    patch::{self, Files},
    starter::{self, StarterError, Workspace},
};

/// More than this is no step of some twenty minutes.
const MOST_LINES: usize = 50;

/// The word that tells a reader where to write. A file without it is given.
const TODO: &str = "TODO";

/// What was found out about a step's files.
#[derive(Debug, Default)]
pub struct Sources {
    /// What is wrong, a line each.
    pub problems: Vec<String>,
    /// How many lines the reader writes.
    pub to_write: usize,
}

/// Looks at the files of `step`.
///
/// # Errors
/// If a file can't be read.
pub fn look_at(workspace: &Workspace, step: u8) -> Result<Sources, StarterError> {
    let missing = [workspace.step(step), workspace.solution(step)]
        .into_iter()
        .find(|folder| !folder.is_dir());
    if let Some(missing) = missing {
        return Ok(Sources {
            problems: vec![format!("there is no {}", workspace.tell(&missing))],
            ..Sources::default()
        });
    }
    let there = workspace.read(&workspace.step(step))?;
    let solution = workspace.solution_as_step(step)?;
    let mut sources = compare(workspace, step, &there, &solution);
    match workspace.starter(step) {
        Ok(made) => {
            let made = is_made(workspace, step, &there, &made);
            sources.problems.splice(0..0, made);
        }
        Err(error @ StarterError::File { .. }) => return Err(error),
        // No patch, or one that doesn't fit: that is what is to be found here.
        Err(error) => sources.problems.insert(0, error.to_string()),
    }
    Ok(sources)
}

/// That `there`, what is in steps/, is what the patch made.
fn is_made(workspace: &Workspace, step: u8, there: &Files, made: &Files) -> Vec<String> {
    let mut problems = Vec::new();
    for path in paths(there, made) {
        let why = match (there.get(path), made.get(path)) {
            (Some(there), Some(made)) if there == made => continue,
            (Some(there), Some(made)) => {
                format!("differs in line {}", first_difference(there, made))
            }
            (None, _) => "is missing".to_owned(),
            (_, None) => "is too much".to_owned(),
        };
        let file = file(workspace, step, path);
        problems.push(if Workspace::is_patched(step) {
            let patch = workspace.tell(&workspace.patch(step));
            format!(
                "{file} is not what {patch} makes of {}: it {why} (`cargo workbook dev starters \
                 {step}` writes the patch anew, `cargo workbook reset {step}` the files)",
                workspace.base_name(step)
            )
        } else {
            format!(
                "{file} is not as in {}: it {why}",
                workspace.base_name(step)
            )
        });
    }
    problems
}

/// Holds the starter `there` against the solution.
fn compare(workspace: &Workspace, step: u8, there: &Files, solution: &Files) -> Sources {
    let mut sources = Sources::default();
    let title = there.get("Cargo.toml").and_then(|text| title(text, step));
    if title.is_none() {
        sources.problems.push(format!(
            "{} has no description like \"Step {step:02}, Title: what it is about\"",
            file(workspace, step, "Cargo.toml")
        ));
    }
    let mut to_write = 0;
    for path in paths(there, solution) {
        let file = file(workspace, step, path);
        let mut wrong = |why: String| sources.problems.push(format!("{file} {why}"));
        let (starter, solution) = (there.get(path), solution.get(path));
        match (starter, solution) {
            (Some(starter), Some(solution)) => {
                let given = !starter.contains(TODO);
                let (starter, solution) = in_common(path, starter, solution);
                if given && starter != solution {
                    wrong(format!(
                        "holds no {TODO}, so it is given and must be as in the solution: {}",
                        different_line(&starter, &solution)
                    ));
                }
                to_write += patch::lines_written(&starter, &solution);
            }
            (Some(_), None) => wrong("is not in the solution".to_owned()),
            (None, _) => {
                wrong("is in the solution only: the reader would have to make it".to_owned());
            }
        }
        if solution.is_some_and(|text| text.contains(TODO)) {
            wrong(format!("still holds a {TODO} in the solution"));
        }
        if let Some(starter) = starter.filter(|_| path.ends_with(".rs")) {
            let first = starter.lines().next().unwrap_or_default();
            let told = first.strip_prefix("//! ").unwrap_or_default();
            let titled = title.is_none_or(|title| told.contains(title));
            if told.is_empty() {
                wrong("does not say what it is in its first line (`//! …`)".to_owned());
            } else if starter.contains(TODO) && !titled {
                let title = title.unwrap_or_default();
                wrong(format!(
                    "does not name the step, {title}, in its first line"
                ));
            }
        }
    }
    sources.to_write = to_write;
    if sources.to_write > MOST_LINES {
        sources.problems.push(format!(
            "{} lines are left to write, {MOST_LINES} is the most",
            sources.to_write
        ));
    }
    if sources.to_write == 0 && Workspace::is_patched(step) {
        sources.problems.push("nothing is left to write".to_owned());
    }
    sources
}

fn file(workspace: &Workspace, step: u8, path: &str) -> String {
    workspace.tell(&workspace.step(step).join(path))
}

fn paths<'a>(one: &'a Files, other: &'a Files) -> Vec<&'a str> {
    let mut paths: Vec<_> = one.keys().chain(other.keys()).map(String::as_str).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// What must be equal in a file that is given, and can be written in one that isn't.
fn in_common<'a>(path: &str, starter: &'a str, solution: &'a str) -> (Cow<'a, str>, Cow<'a, str>) {
    if path == "Cargo.toml" {
        let [starter, solution] = [starter, solution].map(starter::without_lints);
        (starter.into(), solution.into())
    } else {
        (starter.into(), solution.into())
    }
}

/// The first line in which two texts differ, as it is in the first of them.
fn different_line(one: &str, other: &str) -> String {
    let number = first_difference(one, other);
    match one.lines().nth(number - 1) {
        Some(line) => format!("`{}` is not there", line.trim()),
        None => "more follows there".to_owned(),
    }
}

/// The number of the first line in which two texts differ.
fn first_difference(one: &str, other: &str) -> usize {
    let same = one
        .split_inclusive('\n')
        .zip(other.split_inclusive('\n'))
        .take_while(|(one, other)| one == other);
    same.count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[package]\ndescription = \"Step 02, The first span: more\"\n";
    const STARTER: &str = "//! Start. Step 02, The first span.\n// TODO 1: say it\nfn main() {}\n";
    const SOLUTION: &str = "//! Start.\nfn main() {\n    say();\n}\n";
    const GIVEN: &str = "//! Given.\nfn say() {}\n";

    fn problems(starter: &[(&str, &str)], solution: &[(&str, &str)]) -> String {
        let files = |list: &[(&str, &str)]| {
            list.iter()
                .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
                .chain([("Cargo.toml".to_owned(), MANIFEST.to_owned())])
                .collect::<Files>()
        };
        let workspace = Workspace::new(Some("/nowhere".into()));
        let found = compare(&workspace, 2, &files(starter), &files(solution));
        found.problems.join("\n")
    }

    #[test]
    fn a_step_as_it_should_be_has_no_problem() {
        let starter = [("src/main.rs", STARTER), ("src/given.rs", GIVEN)];
        let solution = [("src/main.rs", SOLUTION), ("src/given.rs", GIVEN)];
        assert_eq!(problems(&starter, &solution), "");
    }

    #[test]
    fn a_given_file_is_the_same_in_the_solution() {
        let changed = GIVEN.replace("{}", "{ }");
        let starter = [("src/main.rs", STARTER), ("src/given.rs", GIVEN)];
        let solution = [("src/main.rs", SOLUTION), ("src/given.rs", &changed)];
        let found = problems(&starter, &solution);
        assert!(
            found.starts_with("steps/step-02/src/given.rs holds no TODO")
                && found.ends_with(": `fn say() {}` is not there"),
            "{found}"
        );
    }

    #[test]
    fn both_have_the_same_files() {
        let starter = [("src/main.rs", STARTER), ("src/given.rs", GIVEN)];
        let solution = [("src/main.rs", SOLUTION)];
        assert!(problems(&starter, &solution).contains("src/given.rs is not in the solution"));
        let starter = [("src/main.rs", STARTER)];
        let solution = [("src/main.rs", SOLUTION), ("src/more.rs", GIVEN)];
        assert!(problems(&starter, &solution).contains("src/more.rs is in the solution only"));
    }

    #[test]
    fn first_lines_tell_file_and_step() {
        let untitled = STARTER.replace(" Step 02, The first span.", "");
        let found = problems(&[("src/main.rs", &untitled)], &[("src/main.rs", SOLUTION)]);
        assert!(
            found.contains("does not name the step, The first span"),
            "{found}"
        );
        let untold = STARTER.replace("//! Start.", "use x;");
        let found = problems(&[("src/main.rs", &untold)], &[("src/main.rs", SOLUTION)]);
        assert!(found.contains("does not say what it is"), "{found}");
    }

    #[test]
    fn what_is_left_to_write_is_bounded() {
        let long = |lines: usize| format!("{SOLUTION}{}", "fn more() {}\n".repeat(lines));
        // The body of `main` takes three lines.
        for (lines, fits) in [(47, true), (48, false)] {
            let found = problems(
                &[("src/main.rs", STARTER)],
                &[("src/main.rs", &long(lines))],
            );
            assert_eq!(found.is_empty(), fits, "{found}");
            assert!(
                fits || found == "51 lines are left to write, 50 is the most",
                "{found}"
            );
        }
        let nothing = [("src/given.rs", GIVEN)];
        assert_eq!(problems(&nothing, &nothing), "nothing is left to write");
    }

    #[test]
    fn a_solution_has_nothing_to_do() {
        let found = problems(&[("src/main.rs", STARTER)], &[("src/main.rs", STARTER)]);
        assert!(found.contains("still holds a TODO"), "{found}");
    }

    #[test]
    fn the_title_is_in_the_description() {
        assert_eq!(title(MANIFEST, 2), Some("The first span"));
        assert_eq!(title(MANIFEST, 3), None);
        assert_eq!(title("description = \"Step 02, no colon\"\n", 2), None);
    }

    #[test]
    fn the_first_different_line_is_found() {
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), 2);
        assert_eq!(first_difference("a\nb\n", "a\nb"), 2);
        assert_eq!(first_difference("a\n", "a\nb\n"), 2);
    }
}
