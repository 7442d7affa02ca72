//! What the containers of `docker-compose.yaml` are asked, and what is asked before they start.
//!
//! The runtime image has no shell and no curl. This program is what it has in their place.

mod backend;
mod health;
mod settings;

use std::{process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

/// Asks a container whether it is healthy, and the settings whether they can work.
/// What is wrong is one line on stderr.
#[derive(Parser)]
#[command(name = "probe", max_term_width = 80)]
struct Cli {
    #[command(subcommand)]
    question: Question,
}

#[derive(Subcommand)]
enum Question {
    /// Is URL answered with a 2xx?
    Http {
        /// An http URL
        url: String,
    },
    /// Has QUEUE a consumer, on the broker at AMQP_URL?
    Consumer {
        /// The queue's name
        queue: String,
    },
    /// Can the variables work, and does the backend take what is sent to it?
    Settings {
        /// How many seconds the backend may take to be there
        #[arg(long, default_value_t = 30)]
        wait: u64,
    },
}

/// No.
const EXIT_UNHEALTHY: u8 = 1;

/// A variable has to be changed.
const EXIT_SETTINGS: u8 = 2;

fn main() -> ExitCode {
    let (answer, no) = match Cli::parse().question {
        Question::Http { url } => (health::http(&url), EXIT_UNHEALTHY),
        Question::Consumer { queue } => (health::consumer(&queue), EXIT_UNHEALTHY),
        Question::Settings { wait } => (check(Duration::from_secs(wait)), EXIT_SETTINGS),
    };
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::from(no)
        }
    }
}

/// The variables by themselves, and then the backend that they name.
fn check(wait: Duration) -> Result<(), String> {
    let otlp = settings::check()?;
    backend::check(&otlp, wait)
}
