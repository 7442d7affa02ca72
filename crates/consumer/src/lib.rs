//! consumer, the other side of the queue: reads signups and looks their members up.
//!
//! Instrumented through the OpenTelemetry API: each message is processed in a
//! CONSUMER span `process signups` whose parent is the span that published it, with
//! a link to the same, and the query is a CLIENT span below. Provider and
//! propagator are parameters ([`Telemetry`]), never globals.
//!
//! A message is acked after the work. One that can never be processed is rejected
//! and not requeued; one whose query failed goes back into the queue.
//!
//! What it does with a message is the solution of step 13, in whose folder those files
//! are: there is one consumer, and the lab runs what the book explains. Here is what a
//! program doesn't need that starts and stops with its consumer: counting, waiting
//! until all is settled, several in one process.

// Their names are those of the step, `crate::process` and so on.
#[path = "../../../solutions/step-13/src/attributes.rs"]
mod attributes;
mod config;
#[path = "../../../solutions/step-13/src/connection.rs"]
mod connection;
#[path = "../../../solutions/step-13/src/database.rs"]
mod database;
#[path = "../../../solutions/step-13/src/headers.rs"]
mod headers;
#[path = "../../../solutions/step-13/src/message.rs"]
mod message;
#[path = "../../../solutions/step-13/src/process.rs"]
mod process;
mod queue;
#[cfg(test)]
mod tests;

use std::time::Duration;

use members::Members;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub use config::{Config, DEFAULT_AMQP_URL, QUEUE};
pub use service::{Telemetry, W3cPropagator};

/// How long [`Consumer::stop`] waits for the message in hand.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the consumer could not start or is not ready. One line, without secrets.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker's URL is none.
    #[error("AMQP_URL: expected `amqp://<user>:<password>@<host>:<port>/<vhost>`")]
    AmqpUrl,
    /// The queue's name cannot be sent: AMQP allows 1 to 255 bytes.
    #[error("the queue's name must have 1 to 255 bytes")]
    Queue,
    /// The database: names `DATABASE_URL`.
    #[error(transparent)]
    Database(#[from] members::Error),
    /// [`Consumer::ready`]: the broker did not let it consume in time.
    #[error("not consuming after {0:?}")]
    NotReady(Duration),
    /// [`Consumer::settle`]: messages kept coming, or could not be settled in time.
    #[error("messages unsettled after {0:?}")]
    NotSettled(Duration),
}

/// How many messages came and what became of them. A message counts as settled once
/// its span has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Processed {
    /// Deliveries taken in hand; a redelivered message counts again.
    pub received: u64,
    /// Processed and acked.
    pub acked: u64,
    /// Rejected for good: the body cannot be understood.
    pub rejected: u64,
    /// Put back into the queue: the query failed.
    pub requeued: u64,
}

impl Processed {
    /// Acked, rejected and requeued together. Less than `received` while a message is in
    /// hand, and for good if the connection broke before one could be settled.
    pub fn settled(&self) -> u64 {
        self.acked + self.rejected + self.requeued
    }
}

/// A running consumer. Dropping it stops it, too, but waits for nothing.
#[derive(Debug)]
pub struct Consumer {
    counts: watch::Receiver<Processed>,
    consuming: watch::Receiver<bool>,
    settling: mpsc::UnboundedSender<oneshot::Sender<()>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Consumer {
    /// Checks the configuration, connects to the database, and consumes from then on,
    /// on the current Tokio runtime. The broker need not be there yet: the consumer
    /// connects in the background, again and again until it is stopped.
    ///
    /// # Errors
    /// [`Error::AmqpUrl`], [`Error::Queue`] and [`Error::Database`].
    pub async fn start(config: Config, telemetry: Telemetry) -> Result<Self, Error> {
        // The cheap checks first: a typo is reported even if the database is down.
        config.source()?;
        let members = Members::connect(&config.database_url).await?;
        Self::start_with(config, members, telemetry)
    }

    /// As [`Consumer::start`], with a database that is connected already; `config.database_url` is not read.
    /// Must be called on a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::AmqpUrl`] and [`Error::Queue`].
    pub fn start_with(
        config: Config,
        members: Members,
        telemetry: Telemetry,
    ) -> Result<Self, Error> {
        let source = config.source()?;
        let processor = process::Processor {
            members,
            tracer: telemetry.tracer(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")),
            propagator: telemetry.propagator,
            address: source.address(),
        };
        let (count, counts) = watch::channel(Processed::default());
        let (ready, consuming) = watch::channel(false);
        let (stop, stopping) = watch::channel(false);
        let (settle, settling) = mpsc::unbounded_channel();
        let worker = queue::Worker {
            source,
            processor,
            count,
            ready,
            settling,
        };
        let task = tokio::spawn(worker.run(stopping));
        Ok(Self {
            counts,
            consuming,
            settling: settle,
            stop,
            task,
        })
    }

    /// Waits until the broker hands messages out.
    ///
    /// # Errors
    /// [`Error::NotReady`] if that has not come about within `deadline`.
    pub async fn ready(&self, deadline: Duration) -> Result<(), Error> {
        let mut consuming = self.consuming.clone();
        match tokio::time::timeout(deadline, consuming.wait_for(|ready| *ready)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Error::NotReady(deadline)),
        }
    }

    /// The counts as they are now.
    pub fn processed(&self) -> Processed {
        *self.counts.borrow()
    }

    /// Waits until the counts satisfy `condition`.
    ///
    /// # Errors
    /// The counts as they were when `deadline` had passed.
    pub async fn wait_until(
        &self,
        condition: impl FnMut(&Processed) -> bool,
        deadline: Duration,
    ) -> Result<Processed, Processed> {
        let mut counts = self.counts.clone();
        let waited = tokio::time::timeout(deadline, counts.wait_for(condition)).await;
        match waited {
            Ok(Ok(counts)) => Ok(*counts),
            _ => Err(self.processed()),
        }
    }

    /// Waits until the queue is empty and every message that came is settled. If the
    /// connection breaks meanwhile, on the next one.
    ///
    /// # Errors
    /// [`Error::NotSettled`] if that has not come about within `deadline`.
    pub async fn settle(&self, deadline: Duration) -> Result<(), Error> {
        let settled = async {
            loop {
                let (done, settled) = oneshot::channel();
                if self.settling.send(done).is_err() {
                    // Nobody is left who could settle anything.
                    return false;
                }
                if settled.await.is_ok() {
                    return true;
                }
            }
        };
        match tokio::time::timeout(deadline, settled).await {
            Ok(true) => Ok(()),
            _ => Err(Error::NotSettled(deadline)),
        }
    }

    /// Takes no more messages, finishes the one in hand (5 s at most), closes the
    /// connection and returns. What the broker handed out ahead goes back into the
    /// queue. The provider is the caller's to flush.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if tokio::time::timeout(DRAIN, &mut self.task).await.is_err() {
            self.task.abort();
            // Its spans end when it is gone; the error only says that it was aborted.
            let _ = (&mut self.task).await;
        }
    }
}
