//! saas, someone else's HTTP service: one JSON document, never instrumented.
//!
//! It stands for the status page of a vendor. tier1 calls it and sees its own
//! CLIENT span only: what happens behind a service that is not ours stays dark.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The path of the one document.
pub const SUMMARY_PATH: &str = "/api/v2/summary.json";

/// How long [`Saas::stop`] waits for requests that are being answered.
const DRAIN: Duration = Duration::from_secs(5);

/// Where saas listens and how it behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaasConfig {
    /// The address to bind; port 0 takes any free one.
    pub addr: SocketAddr,
    /// How long each answer is held back: for tests of timeouts. Zero by default.
    pub delay: Duration,
    /// The status of each answer: for tests of failures. 200 by default; a number
    /// that is no HTTP status is answered as 500.
    pub status: u16,
}

impl Default for SaasConfig {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            delay: Duration::ZERO,
            status: 200,
        }
    }
}

/// A running saas. Dropping it stops it, too, but waits for nothing.
#[derive(Debug)]
pub struct Saas {
    addr: SocketAddr,
    asked: watch::Receiver<u64>,
    stop: watch::Sender<bool>,
    server: JoinHandle<io::Result<()>>,
}

/// What all requests share.
struct Shared {
    config: SaasConfig,
    /// How many requests there were.
    asked: watch::Sender<u64>,
}

impl Saas {
    /// Binds and answers from then on, on the current Tokio runtime.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn start(config: SaasConfig) -> io::Result<Self> {
        let listener = TcpListener::bind(config.addr).await?;
        let addr = listener.local_addr()?;
        let (stop, mut stopping) = watch::channel(false);
        let (count, asked) = watch::channel(0);
        let app = Router::new()
            .route(SUMMARY_PATH, get(summary))
            .with_state(Arc::new(Shared {
                config,
                asked: count,
            }));
        let server = tokio::spawn(async move {
            axum::serve(listener, app)
                .with_graceful_shutdown(async move {
                    // An error means that `Saas` is gone, which is a stop as well.
                    let _ = stopping.wait_for(|stop| *stop).await;
                })
                .await
        });
        Ok(Self {
            addr,
            asked,
            stop,
            server,
        })
    }

    /// The address that was bound, with its port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Done when there were `count` requests in all, answered or not. Never, if saas has
    /// ended before.
    pub async fn wait_until_asked(&self, count: u64) {
        let mut asked = self.asked.clone();
        if asked.wait_for(|asked| *asked >= count).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Takes no more requests, lets the running ones finish (5 s at most) and returns.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if tokio::time::timeout(DRAIN, &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

async fn summary(State(shared): State<Arc<Shared>>) -> Response {
    // Before the delay: who waits for a request wants it while it is under way.
    shared.asked.send_modify(|asked| *asked += 1);
    let config = &shared.config;
    if !config.delay.is_zero() {
        tokio::time::sleep(config.delay).await;
    }
    let status = StatusCode::from_u16(config.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status.is_success() {
        (status, Json(&SUMMARY)).into_response()
    } else {
        (status, status.canonical_reason().unwrap_or_default()).into_response()
    }
}

/// A status page's summary: who, how they do in a word, and each component.
#[derive(Debug, Serialize)]
struct Summary {
    page: Page,
    status: Overall,
    components: [Component; 3],
}

#[derive(Debug, Serialize)]
struct Page {
    id: &'static str,
    name: &'static str,
    url: &'static str,
    updated_at: &'static str,
}

#[derive(Debug, Serialize)]
struct Overall {
    indicator: &'static str,
    description: &'static str,
}

#[derive(Debug, Serialize)]
struct Component {
    id: &'static str,
    name: &'static str,
    status: &'static str,
}

/// Constant, so that two runs of anything that calls it are alike.
static SUMMARY: Summary = Summary {
    page: Page {
        id: "parcels",
        name: "Parcels",
        url: "https://status.parcels.example",
        updated_at: "2026-01-15T09:30:00.000Z",
    },
    status: Overall {
        indicator: "none",
        description: "All Systems Operational",
    },
    components: [
        Component {
            id: "api",
            name: "API",
            status: "operational",
        },
        Component {
            id: "labels",
            name: "Labels",
            status: "operational",
        },
        Component {
            id: "tracking",
            name: "Tracking",
            status: "operational",
        },
    ],
};
