//! Step 12, Cut short. The routes, and what they share.

use std::{fmt, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    middleware::{from_fn, from_fn_with_state},
    routing::get,
};
use opentelemetry::{KeyValue, trace::get_active_span};
use serde_json::{Value, json};

use crate::{
    attributes,
    config::Config,
    drain::{self, Drain},
    error::AppError,
    http::Http,
    panics,
    queue::{self, Queue},
    saas, server, spans, tier2,
};

/// What all requests share.
pub struct App {
    /// The configuration.
    pub config: Config,
    /// The client for calls of saas and tier2.
    pub http: Http,
    /// The way to the queue `signups`.
    pub queue: Queue,
    /// Ends requests that would outlive the service.
    pub drain: Drain,
}

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing special.
    Fast,
    /// Waits on the way to tier2.
    Slow,
    /// Asks tier2 for an error.
    Error,
}

impl Action {
    /// As in the route.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Slow => "slow",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl App {
    /// Starts connecting to the queue, in the background. Needs a tokio runtime.
    pub fn new(config: Config) -> Result<Self, String> {
        Ok(Self {
            http: Http::new(config.http_timeout)?,
            queue: Queue::connect(config.amqp_url.clone(), config.queue_timeout),
            drain: Drain::default(),
            config,
        })
    }

    /// True with the chance SLOW_CHANCE.
    fn is_slow(&self) -> bool {
        rand::random_bool(self.config.slow_chance)
    }

    /// Waits SLOW_DELAY_MS with the chance SLOW_CHANCE.
    pub async fn sometimes_slow(&self) {
        if self.is_slow() {
            self.delay().await;
        }
    }

    /// Waits SLOW_DELAY_MS, and says so on the span of whoever waits.
    pub async fn delay(&self) {
        let delay = self.config.slow_delay;
        let millis = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        get_active_span(|span| {
            let attributes = vec![KeyValue::new(attributes::APP_DELAY_MS, millis)];
            span.add_event(attributes::APP_DELAYED, attributes);
        });
        tokio::time::sleep(delay).await;
    }
}

/// The service's routes.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/fast", get(fast))
        .route("/slow", get(slow))
        .route("/error", get(error))
        .route("/random", get(random))
        .route("/panic", get(bug))
        // TODO 4: Add the layer `panics::layer()` here. Inside of the span's layer, which is to
        // see the answer, not the panic.
        .layer(from_fn_with_state(app.clone(), drain::answer))
        // A layer wraps what was added before it, and the answer to unknown paths.
        .layer(from_fn(server::trace))
        // After the layer: a span for each probe would be most of what is stored.
        .route("/healthcheck", get(healthcheck))
        .with_state(app)
}

async fn fast(State(app): State<Arc<App>>) -> Result<String, AppError> {
    tier1(&app, Action::Fast).await
}

async fn slow(State(app): State<Arc<App>>) -> Result<String, AppError> {
    tier1(&app, Action::Slow).await
}

async fn error(State(app): State<Arc<App>>) -> Result<String, AppError> {
    tier1(&app, Action::Error).await
}

async fn random(State(app): State<Arc<App>>) -> Result<String, AppError> {
    let action = if app.is_slow() {
        Action::Slow
    } else {
        Action::Fast
    };
    tier1(&app, action).await
}

/// A bug, for this chapter to look at. A service of yours has its own: leave this
/// route out.
async fn bug() -> String {
    let parts: Vec<&str> = "tier 1 - panic".split(" → ").collect();
    spans::in_span_sync("pure_bug", [], || parts[1].to_owned())
}

/// Says that the process answers. It asks no other service: if it did, their
/// outage would have every tier1 restarted.
async fn healthcheck() -> Json<Value> {
    Json(json!({ "service": "tier1", "status": "ok" }))
}

/// What the routes have in common: a message, saas, tier2. The answer names each.
async fn tier1(app: &App, action: Action) -> Result<String, AppError> {
    let queued = queue::do_queue(app, action).await?;
    tracing::info!(%action, "message queued");
    let asked = saas::do_saas(app).await?;
    tracing::info!(%action, "saas done");
    let answered = tier2::do_tier2(app, action).await?;
    tracing::info!(%action, "tier2 done");
    Ok(format!(
        "tier 1 - {action} → {queued} → {asked} → {answered}\n"
    ))
}
