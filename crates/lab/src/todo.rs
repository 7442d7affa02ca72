//! The TODOs that are left in a step's files.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where a TODO stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Todo {
    /// The file.
    pub file: PathBuf,
    /// Its line, the first one being 1.
    pub line: usize,
    /// The number of the TODO.
    pub number: u8,
}

/// The TODO with the smallest number that is left in the files of `folder` and below it.
///
/// A TODO is a comment that begins with `TODO`, a number and a colon. What can't be read
/// has none.
pub fn first_todo(folder: &Path) -> Option<Todo> {
    let mut first: Option<Todo> = None;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let file = entry.path();
            // A link may lead back to where we come from.
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() {
                folders.push(file);
            } else if file.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&file).unwrap_or_default();
                let here = todos(&text).min_by_key(|(_, number)| *number);
                let here = here.map(|(line, number)| Todo { file, line, number });
                first = first
                    .into_iter()
                    .chain(here)
                    .min_by(|a, b| (a.number, &a.file).cmp(&(b.number, &b.file)));
            }
        }
    }
    first
}

/// Whether the TODO of this number is left in `file`. `None` if that can't be read.
pub(crate) fn is_left(file: &Path, number: u8) -> Option<bool> {
    let text = fs::read_to_string(file).ok()?;
    Some(todos(&text).any(|(_, here)| here == number))
}

/// The lines in which a TODO stands, and its number.
fn todos(text: &str) -> impl Iterator<Item = (usize, u8)> {
    text.lines().enumerate().filter_map(|(at, line)| {
        let comment = line.trim_start().strip_prefix("//")?;
        let (number, _) = comment
            .trim_start()
            .strip_prefix("TODO ")?
            .split_once(':')?;
        Some((at + 1, number.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn todos_are_comments_with_a_number() {
        let text = "//! TODO\nfn a() {\n    // TODO 3: b.\n    // as in TODO 1: c\n}\n//TODO 2: d";
        let found: Vec<_> = todos(text).collect();
        assert_eq!(found, [(3, 3), (6, 2)]);
    }
}
