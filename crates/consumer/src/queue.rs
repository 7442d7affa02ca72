//! The connection to the broker: made, consumed from, and made again.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::QueueDeclareOptions;
use lapin::types::{FieldTable, ShortString};
use tokio::sync::{mpsc, oneshot, watch};

use crate::Processed;
use crate::connection::{Backoff, Open, SETUP, Source};
use crate::process::{Outcome, Processor, Unsettled};

/// How long a polite goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// The task in the background.
pub(crate) struct Worker {
    pub(crate) source: Source,
    pub(crate) processor: Processor,
    pub(crate) count: watch::Sender<Processed>,
    pub(crate) ready: watch::Sender<bool>,
    /// Who waits for [`crate::Consumer::settle`].
    pub(crate) settling: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
}

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Broker(#[from] lapin::Error),
    #[error(transparent)]
    Unsettled(#[from] Unsettled),
    #[error("no answer within {SETUP:?}")]
    Timeout,
    #[error("the broker cancelled the consumer")]
    Cancelled,
    #[error("{0}")]
    Connection(String),
}

impl Worker {
    /// Consumes until `stopping` says so, however often the broker goes away.
    pub(crate) async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let mut backoff = Backoff::default();
        while !is_stopped(&stopping) {
            let ended = self.session(&mut stopping, &mut backoff).await;
            self.ready.send_replace(false);
            if let Err(reason) = ended {
                let wait = backoff.next();
                tracing::warn!(%reason, ?wait, "no broker, trying again");
                pause(wait, &mut stopping).await;
            }
        }
    }

    /// One connection, from the handshake to its end. `Ok` means that it was stopped.
    async fn session(
        &mut self,
        stopping: &mut watch::Receiver<bool>,
        backoff: &mut Backoff,
    ) -> Result<(), Lost> {
        let open = tokio::select! {
            biased;
            () = stopped(stopping) => return Ok(()),
            opened = tokio::time::timeout(SETUP, self.source.open()) => {
                opened.map_err(|_| Lost::Timeout)??
            }
        };
        tracing::info!(queue = self.source.queue.as_str(), "consuming");
        backoff.reset();
        self.ready.send_replace(true);

        let mut hands = Hands {
            processor: &self.processor,
            count: &self.count,
            open,
            failures: Backoff::default(),
        };
        loop {
            tokio::select! {
                // Stop first: a queue that is never empty must not keep it running.
                biased;
                () = stopped(stopping) => break,
                reason = hands.open.lost.clone() => return Err(Lost::Connection(reason)),
                delivery = hands.open.deliveries.next() => {
                    hands.settle(delivery.ok_or(Lost::Cancelled)??, stopping).await?;
                }
                Some(waiting) = self.settling.recv() => {
                    hands.settle_all(&self.source.queue, stopping).await?;
                    // Whoever asked may have given up waiting.
                    let _ = waiting.send(());
                }
            }
        }
        // A broker that does not say goodbye is left; it requeues what is unsettled.
        let goodbye = hands.open.connection.close(200, "stopped".into());
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
        Ok(())
    }
}

/// What a session works with.
struct Hands<'a> {
    processor: &'a Processor,
    count: &'a watch::Sender<Processed>,
    open: Open,
    failures: Backoff,
}

impl Hands<'_> {
    /// Processes a message to its end. Never under a `select!`: a message in hand is finished.
    async fn settle(
        &mut self,
        delivery: Delivery,
        stopping: &mut watch::Receiver<bool>,
    ) -> Result<(), Lost> {
        self.count.send_modify(|count| count.received += 1);
        let outcome = self
            .processor
            .process(&delivery, self.open.lost.clone())
            .await?;
        self.count.send_modify(|count| match outcome {
            Outcome::Acked => count.acked += 1,
            Outcome::Rejected(_) => count.rejected += 1,
            Outcome::Requeued(_) => count.requeued += 1,
        });
        match outcome {
            Outcome::Requeued(_) => {
                // The message comes back at once. Without a wait, a database that
                // is down would keep both of us and the broker busy.
                pause(self.failures.next(), stopping).await;
            }
            Outcome::Acked | Outcome::Rejected(_) => self.failures.reset(),
        }
        Ok(())
    }

    /// Settles what comes until the queue has nothing more for us.
    ///
    /// The broker says how many messages wait. It counts those no more that it has
    /// already handed to this channel; they arrive before its answer to the next
    /// question on the channel. So it must have said "none" twice, with nothing in between.
    async fn settle_all(
        &mut self,
        queue: &ShortString,
        stopping: &mut watch::Receiver<bool>,
    ) -> Result<(), Lost> {
        let mut quiet = 0;
        while quiet < 2 && !is_stopped(stopping) {
            let passive = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            let asked =
                self.open
                    .channel
                    .queue_declare(queue.clone(), passive, FieldTable::default());
            let waiting = tokio::select! {
                biased;
                answer = asked => answer?.message_count(),
                reason = self.open.lost.clone() => return Err(Lost::Connection(reason)),
            };
            let mut came = waiting > 0;
            while let Some(delivery) = self.open.deliveries.next().now_or_never() {
                came = true;
                self.settle(delivery.ok_or(Lost::Cancelled)??, stopping)
                    .await?;
            }
            quiet = if came { 0 } else { quiet + 1 };
        }
        Ok(())
    }
}

fn is_stopped(stopping: &watch::Receiver<bool>) -> bool {
    // No sender means that the `Consumer` is gone, which is a stop as well.
    *stopping.borrow() || stopping.has_changed().is_err()
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Waits, but not beyond a stop.
async fn pause(wait: Duration, stopping: &mut watch::Receiver<bool>) {
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = stopped(stopping) => {}
    }
}
