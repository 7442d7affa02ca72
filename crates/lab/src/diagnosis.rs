//! What a check says when something is not as the chapter wants it: first one
//! sentence, then what was expected and what came, then where to go on.

use std::fmt;

use similar::{ChangeTag, TextDiff};

/// One finding of a check, and those that follow it.
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
    /// The command that gives a hint.
    pub hint: Option<String>,
    /// Where the book tells of it.
    pub book: Option<String>,
    /// What else was found, less telling than this.
    pub more: Vec<Diagnosis>,
}

/// How many columns a line has, at most.
pub(crate) const WIDTH: usize = 80;

/// Where the text behind `expected`, `cause`, … begins.
pub(crate) const COLUMN: usize = 12;

/// How many columns the mark before a sentence takes.
const MARGIN: usize = 2;

/// How many findings are told with all that is known about them, and how many in all;
/// the rest is counted. Who mends one thing sees the next.
const WHOLE: usize = 2;
const SHOWN: usize = 5;

impl Diagnosis {
    /// The sentence and the id, with the end of their last line.
    pub(crate) fn title(&self) -> String {
        let mut lines = wrapped(&safe(&self.sentence), WIDTH - MARGIN);
        let id = format!("[{}]", self.id);
        match lines.last_mut() {
            Some(line) if line.chars().count() + 2 + id.len() <= WIDTH - MARGIN => {
                line.push_str(&format!("  {id}"));
            }
            _ => lines.push(id),
        }
        format!("✗ {}\n", lines.join("\n  "))
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title())?;
        for line in self.detail.lines() {
            writeln!(f, "  {}", safe(line))?;
        }
        let notes = [
            ("cause", &self.cause),
            ("next", &self.next),
            ("hint", &self.hint),
            ("book", &self.book),
        ];
        for (word, note) in notes {
            let Some(note) = note else { continue };
            for (number, line) in wrapped(note, WIDTH - COLUMN).iter().enumerate() {
                let word = if number == 0 { word } else { "" };
                writeln!(f, "  {word:<9} {line}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f)?;
        for more in self.more.iter().take(WHOLE - 1) {
            writeln!(f)?;
            more.write(f)?;
        }
        let rest = self.more.iter().skip(WHOLE - 1);
        for (number, more) in rest.take(SHOWN - WHOLE).enumerate() {
            if number == 0 {
                writeln!(f)?;
            }
            f.write_str(&more.title())?;
        }
        match self.more.len().saturating_sub(SHOWN - 1) {
            0 => Ok(()),
            more => writeln!(f, "… and {more} more"),
        }
    }
}

/// `text` without what a terminal obeys: names and values are the exporter's.
pub(crate) fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if otlp::is_unsafe(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// The words of `text`; what stands between backticks is one, so that names and
/// commands stay whole.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    for word in text.split_whitespace() {
        match words.last_mut() {
            Some(last) if open => {
                last.push(' ');
                last.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
        open ^= word.matches('`').count() % 2 == 1;
    }
    words
}

/// `text` in lines of at most `width` characters. A word that is longer is broken.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut used = 0;
    for word in words(text) {
        let mut rest: Vec<char> = word.chars().collect();
        while rest.len() > width {
            lines.push(rest.drain(..width).collect());
            used = width;
        }
        match lines.last_mut() {
            Some(line) if used + 1 + rest.len() <= width => {
                line.push(' ');
                line.extend(&rest);
                used += 1 + rest.len();
            }
            _ => {
                used = rest.len();
                lines.push(rest.into_iter().collect());
            }
        }
    }
    lines
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_wrapped_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(
            wrapped("one twothree four", 5),
            ["one", "twoth", "ree", "four"]
        );
        assert_eq!(wrapped("a `b c`, d", 6), ["a", "`b c`,", "d"]);
        assert_eq!(wrapped("a `b c d", 9), ["a `b c d"]);
        assert_eq!(wrapped("  ", 5), Vec::<String>::new());
    }

    #[test]
    fn few_are_told_whole_and_the_rest_is_counted() {
        let one = |number| Diagnosis {
            id: format!("W01-{number}"),
            sentence: format!("number {number}"),
            cause: Some("why".to_owned()),
            ..Diagnosis::default()
        };
        let all = Diagnosis {
            more: (2..=8).map(one).collect(),
            ..one(1)
        };
        let text = all.to_string();
        assert_eq!(text.matches("cause").count(), WHOLE);
        assert_eq!(text.matches('✗').count(), SHOWN);
        assert!(text.ends_with("… and 3 more\n"), "{text}");
        assert!(!one(1).to_string().contains('…'));
    }
}
