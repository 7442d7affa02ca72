//! Patches over several files: how they are written, read and applied. Unified
//! diffs as `git apply` and `patch -p1` take them; nothing is guessed when one is
//! applied: no fuzz, no other line than the one that is named.

use std::{collections::BTreeMap, fmt::Write};

use diffy::{
    DiffOptions, Line, Patch,
    patch_set::{FileOperation, ParseOptions, PatchSet},
};

/// Text files by their path, with `/` between folders.
pub type Files = BTreeMap<String, String>;

/// Where a file that there isn't is said to be.
const NOWHERE: &str = "/dev/null";

/// Why a patch could not be made or applied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// It isn't a unified diff of text files.
    #[error("is no patch that can be read: {0}")]
    Malformed(String),
    /// It was made for other files.
    #[error("does not apply: {file} {why}")]
    DoesNotApply {
        /// The file in question.
        file: String,
        /// What is in the way.
        why: String,
    },
    /// A unified diff has no way to say so.
    #[error("can't say that {0} is there and empty")]
    Empty(String),
}

/// The patch that makes `new` of `old`. Empty, if they are equal.
///
/// # Errors
/// [`PatchError::Empty`] if a file that holds nothing is added or removed.
pub fn make(old: &Files, new: &Files) -> Result<String, PatchError> {
    let mut text = String::new();
    let mut paths: Vec<_> = old.keys().chain(new.keys()).collect();
    paths.sort();
    paths.dedup();
    for path in paths {
        let (before, after) = (old.get(path), new.get(path));
        if before == after {
            continue;
        }
        if [before, after].iter().flatten().all(|text| text.is_empty()) {
            return Err(PatchError::Empty(path.clone()));
        }
        let name = |side: char, text: Option<&String>| {
            text.map_or(NOWHERE.to_owned(), |_| format!("{side}/{path}"))
        };
        let [before_text, after_text] = [before, after].map(|text| text.map_or("", String::as_str));
        let patch = DiffOptions::new()
            .set_original_filename(name('a', before))
            .set_modified_filename(name('b', after))
            .create_patch(before_text, after_text);
        let _ = write!(text, "{patch}");
    }
    Ok(text)
}

/// What the patch `text` makes of `base`.
///
/// # Errors
/// If it can't be read, or if a line of `base` isn't what and where the patch says.
pub fn apply(text: &str, base: &Files) -> Result<Files, PatchError> {
    apply_if(text, base, is_exact)
}

/// [`apply`], but the lines may have moved up or down, as `patch` allows, too.
///
/// # Errors
/// If it can't be read, or if its lines are nowhere in `base`.
pub fn apply_near(text: &str, base: &Files) -> Result<Files, PatchError> {
    apply_if(text, base, |_, _| Ok(()))
}

fn apply_if(
    text: &str,
    base: &Files,
    fits: impl Fn(&str, &Patch<'_, str>) -> Result<(), String>,
) -> Result<Files, PatchError> {
    let mut files = base.clone();
    // To the parser a patch that says nothing isn't one.
    if text.is_empty() {
        return Ok(files);
    }
    let malformed = |why: String| PatchError::Malformed(why);
    for part in PatchSet::parse(text, ParseOptions::unidiff()) {
        let part = part.map_err(|error| malformed(error.to_string()))?;
        let patch = part
            .patch()
            .as_text()
            .ok_or_else(|| malformed("it is about a binary file".to_owned()))?;
        let operation = part.operation().strip_prefix(1);
        let path = match &operation {
            FileOperation::Create(path) | FileOperation::Delete(path) => path,
            FileOperation::Modify { original, modified } if original == modified => original,
            _ => return Err(malformed("it renames a file".to_owned())),
        };
        let does_not_apply = |why: String| PatchError::DoesNotApply {
            file: path.to_string(),
            why,
        };
        let before = files.remove(path.as_ref());
        let before = match (operation.is_create(), before) {
            (true, Some(_)) => return Err(does_not_apply("is there already".to_owned())),
            (true, None) => String::new(),
            (false, Some(before)) => before,
            (false, None) => return Err(does_not_apply("is not there".to_owned())),
        };
        fits(&before, patch).map_err(&does_not_apply)?;
        let after =
            diffy::apply(&before, patch).map_err(|error| does_not_apply(format!("({error})")))?;
        if !operation.is_delete() {
            files.insert(path.to_string(), after);
        } else if !after.is_empty() {
            let why = "holds more than the patch removes".to_owned();
            return Err(does_not_apply(why));
        }
    }
    Ok(files)
}

/// That each hunk finds its lines where it says they are. The library looks for
/// them above and below, too.
fn is_exact(before: &str, patch: &Patch<'_, str>) -> Result<(), String> {
    let lines: Vec<_> = before.split_inclusive('\n').collect();
    let index = |start: usize, len: usize| if len == 0 { start } else { start - 1 };
    let (mut added, mut removed) = (0, 0);
    for hunk in patch.hunks() {
        let (old, new) = (hunk.old_range(), hunk.new_range());
        if (old.start() == 0 && !old.is_empty()) || (new.start() == 0 && !new.is_empty()) {
            return Err("has no line 0".to_owned());
        }
        let first = index(old.start(), old.len());
        if index(new.start(), new.len()).saturating_add(removed) != first.saturating_add(added) {
            return Err(format!(
                "is numbered otherwise than the patch's hunk at line {} says",
                old.start()
            ));
        }
        let expected = hunk.lines().iter().filter_map(|line| match line {
            Line::Context(line) | Line::Delete(line) => Some(*line),
            Line::Insert(_) => None,
        });
        for (number, expected) in (first..).zip(expected) {
            if lines.get(number) != Some(&expected) {
                return Err(format!("is not as expected in line {}", number + 1));
            }
        }
        added += new.len();
        removed += old.len();
    }
    Ok(())
}

/// How many lines of `new` are neither in `old` nor blank nor a comment. How far a line
/// is indented doesn't count: a formatter does that.
pub fn lines_written(old: &str, new: &str) -> usize {
    let [old, new] = [old, new].map(|text| {
        let lines = text.lines().map(|line| format!("{}\n", line.trim_start()));
        lines.collect::<String>()
    });
    let comment = |line: &str| line.starts_with("//") || line.starts_with("# ");
    DiffOptions::new()
        .create_patch(&old, &new)
        .hunks()
        .iter()
        .flat_map(|hunk| hunk.lines())
        .filter(|line| match line {
            Line::Insert(line) => !line.trim().is_empty() && !comment(line.trim()),
            Line::Context(_) | Line::Delete(_) => false,
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter()
            .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
            .collect()
    }

    const TEN: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n";

    #[test]
    fn a_patch_makes_what_it_was_made_from() {
        let old = files(&[
            ("Cargo.toml", "[package]\nname = \"step-02\"\n"),
            ("src/gone.rs", "//! Gone.\n"),
            ("src/main.rs", TEN),
            ("src/same.rs", "//! The same.\n"),
            ("src/tail.rs", "no newline"),
            ("src/dashes.rs", "-- a\n++ b\n@@ c\n"),
        ]);
        let new = files(&[
            ("Cargo.toml", "[package]\nname = \"step-02\"\nedition = 1\n"),
            ("src/main.rs", "1\ntwo\n3\n4\n5\n6\n7\n8\n9\nten\n11\n"),
            ("src/same.rs", "//! The same.\n"),
            ("src/tail.rs", "still no newline"),
            ("src/deep/added.rs", "//! Added.\n-- x\n"),
            ("src/dashes.rs", "++ b\n-- a\n--- a/x\n"),
        ]);
        let patch = make(&old, &new).unwrap();
        assert_eq!(apply(&patch, &old), Ok(new.clone()), "{patch}");
        let back = make(&new, &old).unwrap();
        assert_eq!(apply(&back, &new), Ok(old.clone()), "{back}");
        assert!(!patch.contains("same.rs"), "{patch}");
        for header in [
            "--- a/src/main.rs\n+++ b/src/main.rs\n",
            "--- /dev/null\n+++ b/src/deep/added.rs\n",
            "--- a/src/gone.rs\n+++ /dev/null\n",
        ] {
            assert!(patch.contains(header), "{patch}");
        }
    }

    #[test]
    fn equal_files_have_an_empty_patch() {
        let same = files(&[("src/main.rs", TEN)]);
        assert_eq!(make(&same, &same), Ok(String::new()));
        assert_eq!(apply("", &same), Ok(same));
    }

    #[test]
    fn an_empty_file_is_refused() {
        let new = files(&[("src/main.rs", "")]);
        let error = make(&Files::new(), &new).unwrap_err().to_string();
        assert!(error.contains("src/main.rs"), "{error}");
    }

    fn refusal(patch: &str, base: &Files) -> String {
        apply(patch, base).unwrap_err().to_string()
    }

    #[test]
    fn a_changed_or_moved_line_is_refused() {
        let old = files(&[("src/main.rs", TEN)]);
        let new = files(&[("src/main.rs", &TEN.replace('5', "five"))]);
        let patch = make(&old, &new).unwrap();
        let changed = files(&[("src/main.rs", &TEN.replace('7', "seven"))]);
        assert_eq!(
            refusal(&patch, &changed),
            "does not apply: src/main.rs is not as expected in line 7"
        );
        // `patch` and the library would find the place.
        let moved = files(&[("src/main.rs", &format!("0\n{TEN}"))]);
        assert!(refusal(&patch, &moved).contains("line 2"));
        let near = apply_near(&patch, &moved).unwrap();
        assert_eq!(
            near["src/main.rs"],
            moved["src/main.rs"].replace('5', "five")
        );
        assert!(apply_near(&patch, &changed).is_err());
        let misnumbered = patch.replace("@@ -2,7 +2,7 @@", "@@ -2,7 +3,7 @@");
        assert_ne!(misnumbered, patch);
        assert!(refusal(&misnumbered, &old).contains("numbered"));
    }

    #[test]
    fn a_file_that_is_missing_or_in_the_way_is_refused() {
        let one = files(&[("src/a.rs", "a\n")]);
        let two = files(&[("src/a.rs", "a\n"), ("src/b.rs", "b\n")]);
        let adds = make(&one, &two).unwrap();
        let removes = make(&two, &one).unwrap();
        assert!(refusal(&adds, &two).contains("src/b.rs is there already"));
        assert!(refusal(&removes, &one).contains("src/b.rs is not there"));
        let longer = files(&[("src/a.rs", "a\n"), ("src/b.rs", "b\nc\n")]);
        assert!(refusal(&removes, &longer).contains("src/b.rs holds more"));
    }

    #[test]
    fn nonsense_is_no_patch() {
        for nonsense in ["nonsense", "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n"] {
            let error = refusal(nonsense, &files(&[("x", "a\n")]));
            assert!(error.starts_with("is no patch"), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
        let renames = "--- a/x\n+++ b/y\n@@ -1 +1 @@\n-a\n+b\n";
        assert!(refusal(renames, &files(&[("x", "a\n")])).contains("renames"));
        for zero in ["@@ -0 +1 @@", "@@ -1 +0 @@"] {
            let patch = format!("--- a/x\n+++ b/x\n{zero}\n-a\n+b\n");
            assert!(refusal(&patch, &files(&[("x", "a\n")])).contains("line 0"));
        }
    }

    #[test]
    fn lines_that_are_written_are_counted() {
        let old = "fn a() {\n    // TODO 1: b\n}\n";
        let new = "//! Title.\nfn a() {\n    // Because.\n    b();\n\n    c();\n}\n";
        assert_eq!(lines_written(old, new), 2);
        assert_eq!(lines_written("", "# why\n#[allow(x)]\nx = 1\n"), 2);
        assert_eq!(lines_written(new, new), 0);
        let wrapped = "f(|| {\n    let x = 1;\n    g(x)\n})\n";
        assert_eq!(lines_written("let x = 1;\ng(x)\n", wrapped), 2);
    }
}
