//! Messages from the queue `signups` on RabbitMQ, one after the other.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;

use crate::{
    connection::{Backoff, SETUP, Source},
    process::{Outcome, Processor},
    say,
};

/// How long a polite goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// The reply code of a close that is no error (AMQP 0-9-1 specification, 1.2).
const REPLY_SUCCESS: u16 = 200;

/// Consumes until `stopping` says so, however often the broker goes away. A message in
/// hand is finished; what the broker handed out ahead goes back into the queue.
pub async fn consume(source: Source, processor: Processor, mut stopping: watch::Receiver<bool>) {
    let mut backoff = Backoff::default();
    while !*stopping.borrow() {
        let lost = session(&source, &processor, &mut stopping, &mut backoff).await;
        if let Err(reason) = lost {
            let wait = backoff.next();
            tracing::warn!(%reason, ?wait, "no broker, trying again");
            pause(wait, &mut stopping).await;
        }
    }
}

/// One connection, from the handshake to its end. `Ok` means that it was told to stop.
async fn session(
    source: &Source,
    processor: &Processor,
    stopping: &mut watch::Receiver<bool>,
    backoff: &mut Backoff,
) -> Result<(), String> {
    let opened = tokio::select! {
        biased;
        () = stopped(stopping) => return Ok(()),
        opened = tokio::time::timeout(SETUP, source.open()) => opened,
    };
    let mut open = opened
        .map_err(|_| format!("no answer within {SETUP:?}"))?
        .map_err(|error| error.to_string())?;
    backoff.reset();
    say(&format!("consuming {}", source.queue));

    let mut failures = Backoff::default();
    loop {
        let delivery = tokio::select! {
            // Stop first: a queue that is never empty must not keep it running.
            biased;
            () = stopped(stopping) => break,
            reason = open.lost.clone() => return Err(reason),
            delivery = open.deliveries.next() => delivery,
        };
        let delivery = delivery
            .ok_or("the broker cancelled the consumer")?
            .map_err(|error| error.to_string())?;
        // Not under the `select!`: a message in hand is finished.
        let settled = processor.process(&delivery, open.lost.clone()).await;
        match settled.map_err(|error| error.to_string())? {
            // The message comes back at once. Without a wait, a database that is down
            // would keep both of us and the broker busy.
            Outcome::Requeued(_) => pause(failures.next(), stopping).await,
            Outcome::Acked | Outcome::Rejected(_) => failures.reset(),
        }
    }
    // With the channel, what is unsettled goes back into the queue. A broker that does
    // not say goodbye is left, and does the same.
    let goodbye = async {
        let reason = "consumer stops";
        open.channel.close(REPLY_SUCCESS, reason.into()).await?;
        open.connection.close(REPLY_SUCCESS, reason.into()).await
    };
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    Ok(())
}

/// Done when it is told to stop.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that nobody can tell it any more, which is a stop as well.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Waits, but not beyond a stop.
async fn pause(wait: Duration, stopping: &mut watch::Receiver<bool>) {
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = stopped(stopping) => {}
    }
}
