//! Writing for people: what the terminal can show, and that it may be gone.

use std::io::{self, IsTerminal, Write};

use otlp::WaterfallOptions;

/// How traces are shown on stdout.
pub fn options() -> WaterfallOptions {
    let width = terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0));
    WaterfallOptions {
        width: width.clamp(60, 120),
        color: colours(),
        ..WaterfallOptions::default()
    }
}

/// Colours of the terminal's own palette, whatever that makes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Bold = 1,
    Red = 31,
    Green = 32,
    Yellow = 33,
    Cyan = 36,
}

impl Colour {
    /// `text` in this colour, where there are colours.
    pub fn paint(self, text: &str) -> String {
        if colours() {
            format!("\u{1b}[{}m{text}\u{1b}[0m", self as u8)
        } else {
            text.to_owned()
        }
    }
}

fn colours() -> bool {
    // https://no-color.org
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !unwanted
}

/// Writes to stdout. A reader that has gone (`| head`) is no error.
pub fn say(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

/// One line on stderr.
pub fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "error: {line}");
}

/// `text` in a colour that steps back, where there are colours.
pub fn dim(text: &str) -> String {
    if colours() {
        format!("\u{1b}[2m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

/// A heading that is seen from afar, colours or not.
pub fn heading(text: &str) -> String {
    let width = options().width;
    let rest = width.saturating_sub(text.chars().count() + 4);
    Colour::Bold.paint(&format!("── {text} {}", "─".repeat(rest)))
}

/// Whether [`clear`] would leave nothing behind but what is to be seen.
pub fn can_be_cleared() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stdout().is_terminal() && !dumb
}

/// Begins a new screen. What was on it stays in the terminal's memory.
pub fn clear() {
    say("\u{1b}[2J\u{1b}[H");
}

/// What a program wrote, with nothing in it that a terminal would obey.
pub fn harmless(line: &str) -> String {
    line.chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}
