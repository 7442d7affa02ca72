//! The call of tier2.

use opentelemetry::KeyValue;

use crate::{
    attributes,
    error::AppError,
    routes::{Action, App},
    spans,
};

/// Calls tier2 and goes on with what it answered. Answers the part for the response.
pub async fn do_tier2(app: &App, action: Action) -> Result<String, AppError> {
    let asked = KeyValue::new(attributes::APP_ACTION, action.name());
    spans::try_in_span("do_tier2", [asked], async {
        if action == Action::Slow {
            app.delay().await;
        }
        let mut url = app.config.tier2_url.clone();
        url.set_path(if action == Action::Error {
            "/error"
        } else {
            "/"
        });
        let reply = app.http.get("tier2", url).await?.success()?;
        Ok(pure_tier2_proc(&reply.text))
    })
    .await
}

fn pure_tier2_proc(text: &str) -> String {
    spans::in_span_sync("pure_tier2_proc", [], || {
        tracing::info!("working on what tier2 answered");
        format!("{text}-plus-pure-tier2-proc")
    })
}
