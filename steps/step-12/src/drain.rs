//! The end of the drain: requests that are still under way then are answered.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::watch;

use crate::routes::App;

/// Says to all requests at once that their time is over.
#[derive(Default)]
pub struct Drain(watch::Sender<bool>);

impl Drain {
    /// Answers all requests that are under way, and those that come: 503.
    pub fn end(&self) {
        self.0.send_replace(true);
    }

    /// Done when the drain has ended.
    async fn ended(&self) {
        let mut ended = self.0.subscribe();
        // Fails only without the sender, which is borrowed here.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

/// Middleware: gives up a request that outlives the drain. If the process ended under
/// it, its caller would get no answer, and its spans would never end.
pub async fn answer(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    tokio::select! {
        response = next.run(request) => response,
        () = app.drain.ended() => {
            (StatusCode::SERVICE_UNAVAILABLE, "tier1 stops\n").into_response()
        }
    }
}
