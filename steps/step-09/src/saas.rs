//! The call of someone else's service: its status page.

use serde_json::Value;

use crate::{error::AppError, routes::App};

/// Asks for the summary and looks at it. Answers the part for the response.
pub async fn do_saas(app: &App) -> Result<String, AppError> {
    app.sometimes_slow().await;
    let mut url = app.config.saas_url.clone();
    url.set_path("/api/v2/summary.json");
    let reply = app.http.get("saas", url).await?.success()?;
    let text = reply.text.clone();
    // Parsing is work for the processor: off the threads that serve requests.
    let summary = match tokio::task::spawn_blocking(move || pure_saas_proc(&text)).await {
        Ok(Some(summary)) => summary,
        Ok(None) => return Err(reply.unusable("something else than its summary").into()),
        Err(_) => return Err(reply.unusable("what could not be looked at").into()),
    };
    tracing::info!(summary, "saas was asked");
    Ok("do_saas".to_owned())
}

/// What the summary says of the service: `status.description`.
fn pure_saas_proc(text: &str) -> Option<String> {
    tracing::info!("counting how much the external service is used");
    let summary: Value = serde_json::from_str(text).ok()?;
    let description = summary.pointer("/status/description")?.as_str()?;
    Some(description.to_owned())
}
