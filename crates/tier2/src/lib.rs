//! tier2, the service behind tier1: answers from the database, or with an error.
//!
//! Instrumented through the OpenTelemetry API at its edge: each request gets a
//! SERVER span that joins the caller's trace, and the query a CLIENT span below
//! it. Provider and propagator are parameters ([`Telemetry`]), never globals.
//!
//! | route | answer |
//! |---|---|
//! | `GET /` | 200 `tier 2 <milliseconds the query took>` |
//! | `GET /error` | 500 `Internal Server Error` |
//! | `GET /healthcheck` | 200, a small JSON document; makes no span |
//! | any other path | 404 |

mod routes;
mod server;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use members::Members;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use service::{Telemetry, W3cPropagator};

/// How long [`Tier2::stop`] waits for requests that are being answered.
const DRAIN: Duration = Duration::from_secs(5);

/// Where tier2 listens and what it answers from.
#[derive(Clone)]
pub struct Config {
    /// The address to bind; port 0 takes any free one.
    pub addr: SocketAddr,
    /// What [`Members::connect`] takes. May hold a password, so `Debug` leaves it out.
    pub database_url: String,
    /// How long `GET /` waits before its query: for tests of slowness. Zero by default.
    pub delay: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            database_url: members::DEFAULT_URL.to_owned(),
            delay: Duration::ZERO,
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("addr", &self.addr)
            .field("delay", &self.delay)
            .finish_non_exhaustive()
    }
}

/// Why tier2 could not start. One line, without secrets.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database: names `DATABASE_URL`.
    #[error(transparent)]
    Database(#[from] members::Error),
    /// The address cannot be bound.
    #[error("HOST, PORT: cannot listen on {addr}: {source}")]
    Listen {
        /// The address that was asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// How far a stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Requests are taken.
    Serving,
    /// No more are taken; the running ones finish.
    Draining,
    /// Running ones are given up.
    Cut,
}

/// A running tier2. Dropping it stops it, too, but waits for nothing.
#[derive(Debug)]
pub struct Tier2 {
    addr: SocketAddr,
    phase: watch::Sender<Phase>,
    server: JoinHandle<io::Result<()>>,
}

impl Tier2 {
    /// Connects to the database, binds, and answers from then on, on the current Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Database`] and [`Error::Listen`].
    pub async fn start(config: Config, telemetry: Telemetry) -> Result<Self, Error> {
        let members = Members::connect(&config.database_url).await?;
        Self::start_with(config, members, telemetry).await
    }

    /// As [`Tier2::start`], with a database that is connected already; `config.database_url` is not read.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub async fn start_with(
        config: Config,
        members: Members,
        telemetry: Telemetry,
    ) -> Result<Self, Error> {
        let listen = |source| Error::Listen {
            addr: config.addr,
            source,
        };
        let listener = TcpListener::bind(config.addr).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let (phase, mut stopping) = watch::channel(Phase::Serving);
        let app = routes::router(members, config.delay, telemetry, phase.subscribe())
            .into_make_service_with_connect_info::<SocketAddr>();
        let server = tokio::spawn(async move {
            axum::serve(listener, app)
                .with_graceful_shutdown(async move {
                    // An error means that `Tier2` is gone, which is a stop as well.
                    let _ = stopping.wait_for(|phase| *phase != Phase::Serving).await;
                })
                .await
        });
        Ok(Self {
            addr,
            phase,
            server,
        })
    }

    /// The address that was bound, with its port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes no more requests, lets the running ones finish (5 s at most), cuts
    /// what is left short and returns. The provider is the caller's to flush.
    pub async fn stop(mut self) {
        self.phase.send_replace(Phase::Draining);
        if tokio::time::timeout(DRAIN, &mut self.server).await.is_err() {
            self.phase.send_replace(Phase::Cut);
            // The requests end now; a connection that sends nothing may stay open.
            let grace = Duration::from_millis(500);
            if tokio::time::timeout(grace, &mut self.server).await.is_err() {
                self.server.abort();
            }
        }
    }
}
