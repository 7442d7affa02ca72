//! `cargo workbook pull` and `cargo workbook stop`: what Docker keeps between runs.

use std::{process::ExitCode, sync::Arc};

use crate::{Error, terminal};

/// Fetches RabbitMQ's image.
pub fn pull() -> Result<ExitCode, Error> {
    let say: containers::Say = Arc::new(|line| terminal::say(&format!("{line}\n")));
    let done = containers::block_on(containers::pull(say))?;
    terminal::say(&format!("{done}\n"));
    Ok(ExitCode::SUCCESS)
}

/// Removes the shared container.
pub fn stop() -> Result<ExitCode, Error> {
    let removed = containers::block_on(containers::stop())?;
    if removed.is_empty() {
        terminal::say("no container of the workbook's is there\n");
    }
    for name in removed {
        terminal::say(&format!("removed {name}\n"));
    }
    Ok(ExitCode::SUCCESS)
}
