//! The call of tier2.

use crate::{
    error::AppError,
    routes::{Action, App},
};

/// Calls tier2 and goes on with what it answered. Answers the part for the response.
pub async fn do_tier2(app: &App, action: Action) -> Result<String, AppError> {
    if action == Action::Slow {
        tokio::time::sleep(app.config.slow_delay).await;
    }
    let mut url = app.config.tier2_url.clone();
    url.set_path(if action == Action::Error {
        "/error"
    } else {
        "/"
    });
    let reply = app.http.get("tier2", url).await?;
    // The lie: what tier2 answers to `/error` counts as an answer, whatever its status.
    let reply = if action == Action::Error {
        reply
    } else {
        reply.success()?
    };
    Ok(pure_tier2_proc(&reply.text))
}

fn pure_tier2_proc(text: &str) -> String {
    tracing::info!("working on what tier2 answered");
    format!("{text}-plus-pure-tier2-proc")
}
