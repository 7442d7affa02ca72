//! Step 10, Spans of your own. The call of someone else's service: its status page.

use opentelemetry::{Context, KeyValue, trace::get_active_span};
use serde_json::Value;

use crate::{attributes, error::AppError, routes::App, spans};

/// Asks for the summary and looks at it. Answers the part for the response.
pub async fn do_saas(app: &App) -> Result<String, AppError> {
    // TODO 3: Likewise, a span `do_saas`, without attributes: `[]`.
    app.sometimes_slow().await;
    let mut url = app.config.saas_url.clone();
    url.set_path("/api/v2/summary.json");
    let reply = app.http.get("saas", url).await?.success()?;
    let text = reply.text.clone();
    // TODO 4: The closure runs on another thread, where no span is current. Before it, take
    // `Context::current()`; in it, `let _guard = context.attach();` and then the call.
    //
    // Parsing is work for the processor: off the threads that serve requests.
    let looked_at = tokio::task::spawn_blocking(move || pure_saas_proc(&text));
    let summary = match looked_at.await {
        Ok(Some(summary)) => summary,
        Ok(None) => return Err(reply.unusable("something else than its summary").into()),
        Err(_) => return Err(reply.unusable("what could not be looked at").into()),
    };
    tracing::info!(summary, "saas was asked");
    Ok("do_saas".to_owned())
}

/// What the summary says of the service: `status.description`.
fn pure_saas_proc(text: &str) -> Option<String> {
    // TODO 5: All of this in a span `pure_saas_proc`, by `in_span_sync`, as `pure_queue_proc`
    // does it. From its start it has the attribute
    // `attributes::size(attributes::APP_SAAS_SUMMARY_SIZE, text)`.
    tracing::info!("counting how much the external service is used");
    let summary: Value = serde_json::from_str(text).ok()?;
    let description = summary.pointer("/status/description")?.as_str()?;
    // TODO 6: Now it is known what saas said: here, in the closure of `in_span_sync`, set
    // `attributes::APP_SAAS_STATUS` to `attributes::short(description)`, by
    // `get_active_span(|span| span.set_attribute(…))`.
    Some(description.to_owned())
}
