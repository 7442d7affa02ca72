//! The call of someone else's service: its status page.

use opentelemetry::{Context, KeyValue, trace::get_active_span};
use serde_json::Value;

use crate::{attributes, error::AppError, routes::App, spans};

/// Asks for the summary and looks at it. Answers the part for the response.
pub async fn do_saas(app: &App) -> Result<String, AppError> {
    spans::try_in_span("do_saas", [], async {
        app.sometimes_slow().await;
        let mut url = app.config.saas_url.clone();
        url.set_path("/api/v2/summary.json");
        let reply = app.http.get("saas", url).await?.success()?;
        let text = reply.text.clone();
        // Another thread has a current context of its own, an empty one.
        let context = Context::current();
        // Parsing is work for the processor: off the threads that serve requests.
        let looked_at = tokio::task::spawn_blocking(move || {
            let _guard = context.attach();
            pure_saas_proc(&text)
        });
        let summary = match looked_at.await {
            Ok(Some(summary)) => summary,
            Ok(None) => return Err(reply.unusable("something else than its summary").into()),
            Err(_) => return Err(reply.unusable("what could not be looked at").into()),
        };
        tracing::info!(summary, "saas was asked");
        Ok("do_saas".to_owned())
    })
    .await
}

/// What the summary says of the service: `status.description`.
fn pure_saas_proc(text: &str) -> Option<String> {
    let size = attributes::size(attributes::APP_SAAS_SUMMARY_SIZE, text);
    spans::in_span_sync("pure_saas_proc", [size], || {
        tracing::info!("counting how much the external service is used");
        let summary: Value = serde_json::from_str(text).ok()?;
        let description = summary.pointer("/status/description")?.as_str()?;
        let status = KeyValue::new(attributes::APP_SAAS_STATUS, attributes::short(description));
        get_active_span(|span| span.set_attribute(status));
        Some(description.to_owned())
    })
}
