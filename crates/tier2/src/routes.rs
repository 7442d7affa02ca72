//! What tier2 answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use members::Members;
use opentelemetry::Context;
use opentelemetry_sdk::trace::SdkTracer;
use tokio::sync::watch;

use crate::{Phase, Telemetry, server};

const HEALTHY: &str = r#"{"status":"ok"}"#;

/// What the handlers share.
struct Shared {
    members: Members,
    delay: Duration,
    tracer: SdkTracer,
}

/// All routes. The order matters: a layer covers what was added before it.
pub(crate) fn router(
    members: Members,
    delay: Duration,
    telemetry: Telemetry,
    phase: watch::Receiver<Phase>,
) -> Router {
    let tracer = telemetry.tracer(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    let shared = Arc::new(Shared {
        members,
        delay,
        tracer: tracer.clone(),
    });
    let spans = Arc::new(server::Spans {
        tracer,
        propagator: telemetry.propagator,
    });
    Router::new()
        .route("/", get(root))
        .route("/error", get(error))
        // A request that no route takes is worth a span as well.
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(spans, server::trace))
        // Below the layer, so without a span: an orchestrator asks every few seconds.
        .route("/healthcheck", get(healthcheck))
        .layer(middleware::from_fn_with_state(phase, server::cut))
        .with_state(shared)
}

async fn root(State(shared): State<Arc<Shared>>) -> Response {
    if !shared.delay.is_zero() {
        tokio::time::sleep(shared.delay).await;
    }
    let started = Instant::now();
    match shared
        .members
        .all(&shared.tracer, &Context::current())
        .await
    {
        Ok(_) => {
            let ms = started.elapsed().as_secs_f64() * 1000.0;
            format!("tier 2 {ms:.1}").into_response()
        }
        Err(reason) => {
            tracing::error!(%reason, "cannot answer from the database");
            internal_server_error()
        }
    }
}

async fn error() -> Response {
    internal_server_error()
}

/// The reason is for the log, not for the caller.
fn internal_server_error() -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error").into_response()
}

async fn healthcheck() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], HEALTHY).into_response()
}

async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "Not Found").into_response()
}
