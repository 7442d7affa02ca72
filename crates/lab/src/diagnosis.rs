//! What a check says when something is not as the chapter wants it: first one
//! sentence, then what was expected and what came, then where to go on.

use std::fmt;

use similar::{ChangeTag, TextDiff};

/// One finding of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// A stable name of the kind of finding, such as `W06-PARENT`; the book has an
    /// anchor of that name.
    pub id: String,
    /// What is missing or wrong, and where; one sentence.
    pub sentence: String,
    /// What was expected and what came, in as many lines as it takes.
    pub detail: String,
    /// The likely cause, if it can be told.
    pub cause: Option<String>,
    /// What to look at or to type next.
    pub next: Option<String>,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "✗ {}  [{}]", self.sentence, self.id)?;
        for line in self.detail.lines() {
            writeln!(f, "  {line}")?;
        }
        if let Some(cause) = &self.cause {
            writeln!(f, "  cause     {cause}")?;
        }
        if let Some(next) = &self.next {
            writeln!(f, "  next      {next}")?;
        }
        Ok(())
    }
}

/// Two values in the form of [`Diagnosis::detail`].
pub(crate) fn expected_and_got(expected: &str, got: &str) -> String {
    let mut detail = String::new();
    for (word, text) in [("expected", expected), ("got", got)] {
        for (number, line) in text.lines().enumerate() {
            let word = if number == 0 { word } else { "" };
            detail.push_str(&format!("{word:<9} {line}\n"));
        }
        if text.is_empty() {
            detail.push_str(&format!("{word:<9} nothing\n"));
        }
    }
    detail
}

/// The lines in which two texts differ, with those around them. `-` is expected and
/// missing, `+` came and was not expected.
pub(crate) fn difference(expected: &str, got: &str) -> String {
    let diff = TextDiff::from_lines(expected, got);
    let mut text = "- expected   + got\n".to_owned();
    for (number, group) in diff.grouped_ops(3).iter().enumerate() {
        if number > 0 {
            text.push_str("  …\n");
        }
        for change in group
            .iter()
            .flat_map(|operation| diff.iter_changes(operation))
        {
            let mark = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            text.push_str(&format!("{mark} {}", change.value()));
            if change.missing_newline() {
                text.push('\n');
            }
        }
    }
    text
}
