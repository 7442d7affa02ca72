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
