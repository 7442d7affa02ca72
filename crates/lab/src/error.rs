//! What can go wrong in a lab, each in one line that says what to change.

use std::{io, process::ExitStatus, time::Duration};

use crate::diagnosis::safe;

/// Why a lab could not do what it was asked for.
///
/// It is about the surroundings, not about what the subject exported: that is
/// told by a [`crate::Diagnosis`].
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A variable of the caller's can't be used. Its value is left out: it may hold a password.
    #[error("{name} must be {must_be}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// Completes "must be".
        must_be: &'static str,
    },
    /// The program could not be started.
    #[error("can't start `{command}`: {error}")]
    Spawn {
        /// The command line.
        command: String,
        /// What the system said.
        error: io::Error,
    },
    /// The program ended, or said nothing, before it answered.
    #[error("`{command}` {}; on stderr: {}{}",
        match status {
            Some(status) => format!("ended ({status}) before it answered"),
            None => format!("did not answer within {elapsed:.0?}"),
        },
        last_lines(stderr),
        hangs.as_deref().map(|hangs| format!("; {hangs}")).unwrap_or_default())]
    NotReady {
        /// The command line.
        command: String,
        /// How it ended, if it did.
        status: Option<ExitStatus>,
        /// How long the lab waited.
        elapsed: Duration,
        /// What it wrote on stderr.
        stderr: String,
        /// Of one that was still there: what it wrote on stdout, and what its threads did.
        hangs: Option<String>,
    },
    /// The program was told to stop and did not.
    #[error(
        "the service was still running {deadline:?} after it was told to stop; on stderr: {}",
        last_lines(stderr)
    )]
    DidNotStop {
        /// How long the lab waited.
        deadline: Duration,
        /// What it wrote on stderr.
        stderr: String,
    },
    /// A request to the program got no answer.
    #[error("no answer to {method} {path}: {reason}")]
    NoAnswer {
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
        /// Why.
        reason: String,
    },
    /// The program panicked: this is about its code.
    #[error("a panic instead of {what}: {told}")]
    Panicked {
        /// What was waited for.
        what: String,
        /// Its message, and where it was.
        told: String,
    },
    /// The program ended, or went on, without logging what it was to log.
    #[error("{what} did not come {}; the last lines: {said}", .within.map_or_else(
        || "before the program ended".to_owned(),
        |deadline| format!("within {deadline:?}"),
    ))]
    NotLogged {
        /// What was waited for.
        what: String,
        /// How long. `None`: the program ended before.
        within: Option<Duration>,
        /// What it wrote last, on stdout and stderr.
        said: String,
    },
    /// A part of the system around the program failed.
    #[error("{part}: {reason}")]
    Part {
        /// Which.
        part: &'static str,
        /// Why.
        reason: String,
    },
    /// A condition did not come about in time.
    #[error("{what} did not happen within {deadline:?}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        deadline: Duration,
    },
    /// The system refused something.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl LabError {
    pub(crate) fn part(part: &'static str, reason: impl ToString) -> Self {
        Self::Part {
            part,
            reason: reason.to_string(),
        }
    }
}

impl From<containers::Error> for LabError {
    fn from(error: containers::Error) -> Self {
        match error {
            containers::Error::Variable { name, must_be } => Self::Variable { name, must_be },
            error => Self::part("the broker", error),
        }
    }
}

/// The last panic that Rust has told on stderr: its message, and where it was; on one line.
pub(crate) fn last_panic(stderr: &str) -> Option<String> {
    let (_, told) = stderr.rsplit_once("panicked at ")?;
    let mut lines = told.lines();
    let place = lines.next()?.trim_end_matches(':');
    // The message is on the lines below the place's.
    let message = lines.next().filter(|line| !line.trim().is_empty())?;
    Some(safe(&format!("{message} ({place})")))
}

/// The end of what was written, which says why; on one line.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    match lines.len() {
        0 => "nothing".to_owned(),
        // Another program's words go to a terminal.
        length => safe(&lines[length.saturating_sub(3)..].join(" / ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not_ready(status: Option<ExitStatus>, stderr: &str) -> String {
        let error = LabError::NotReady {
            command: "python tier1.py".to_owned(),
            status,
            elapsed: Duration::from_millis(20_004),
            stderr: stderr.to_owned(),
            hangs: status.is_none().then(|| "on stdout: started".to_owned()),
        };
        error.to_string()
    }

    #[test]
    fn a_program_that_is_silent() {
        assert_eq!(
            not_ready(None, "\n"),
            "`python tier1.py` did not answer within 20s; on stderr: nothing; on stdout: started"
        );
    }

    #[test]
    fn a_panic_is_found() {
        let stderr = "listening on http://x\n\nthread 'a' (1) panicked at src/x.rs:1:2:\nfirst\n\
                      \nthread 'tokio-rt-worker' (2) panicked at src/main.rs:7:5:\nno \u{1b}[2J\n\
                      note: run with `RUST_BACKTRACE=1`\n";
        assert_eq!(
            last_panic(stderr).as_deref(),
            Some("no \\u{1b}[2J (src/main.rs:7:5)")
        );
        for none in [
            "",
            "it has panicked",
            "panicked at x:",
            "panicked at x:\n\n",
        ] {
            assert_eq!(last_panic(none), None, "{none}");
        }
    }

    #[test]
    fn what_it_wrote_is_harmless() {
        let said = not_ready(Some(ExitStatus::default()), "a\n\n\x1b[2Jb\nc\u{202e}\nd");
        assert_eq!(
            said,
            "`python tier1.py` ended (exit status: 0) before it answered; \
             on stderr: \\u{1b}[2Jb / c\\u{202e} / d"
        );
    }
}
