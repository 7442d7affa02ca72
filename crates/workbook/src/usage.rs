//! What is said of a command line that can't be understood: one line.

use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::{EXIT_ENVIRONMENT, terminal};

/// Help and version as they are; an error as one line, and 2.
pub fn tell(error: &clap::Error) -> ExitCode {
    // `dev` without a command shows its help, and is an error all the same.
    let is_help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_help || !error.use_stderr() {
        // Nobody may be left to read it.
        let _ = error.print();
    } else {
        terminal::complain(&one_line(&error.to_string()));
    }
    if error.use_stderr() {
        ExitCode::from(EXIT_ENVIRONMENT)
    } else {
        ExitCode::SUCCESS
    }
}

/// The reason and what clap proposes, without the usage that it prints below.
fn one_line(text: &str) -> String {
    let mut parts = Vec::new();
    for paragraph in text.split("\n\n") {
        let words: Vec<_> = paragraph.split_whitespace().collect();
        let words = words.join(" ");
        let part = words.strip_prefix("error: ").unwrap_or(&words);
        let part = part.strip_prefix("tip: ").unwrap_or(part);
        let is_usage = part.starts_with("Usage:") || part.starts_with("For more information");
        if !part.is_empty() && !is_usage {
            parts.push(terminal::harmless(part));
        }
    }
    parts.push("see `cargo workbook --help`".to_owned());
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line() {
        let text = "error: unrecognized subcommand 'chek'\n\n  \
                    tip: a similar subcommand exists: 'check'\n\n\
                    Usage: cargo workbook [COMMAND]\n\nFor more information, try '--help'.\n";
        assert_eq!(
            one_line(text),
            "unrecognized subcommand 'chek'; a similar subcommand exists: 'check'; \
             see `cargo workbook --help`"
        );
        let text = "error: the following required arguments were not provided:\n  <STEP>\n\n\
                    Usage: cargo workbook hint <STEP>\n";
        assert_eq!(
            one_line(text),
            "the following required arguments were not provided: <STEP>; \
             see `cargo workbook --help`"
        );
        assert!(!one_line("error: unexpected '\u{1b}[31m'").contains('\u{1b}'));
    }
}
