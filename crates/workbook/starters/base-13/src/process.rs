//! One message: the work, and what the broker is told of it.

use lapin::{message::Delivery, options::BasicAckOptions};
use members::{Members, QueryError};

use crate::message::{Malformed, Signup};

/// What became of a message.
#[derive(Debug)]
pub enum Outcome {
    /// The work is done.
    Acked,
    /// It can't be understood, now or later: the broker is to drop it.
    Rejected(Malformed),
    /// The query failed: the broker is to hand it out again.
    Requeued(QueryError),
}

/// Why the broker does not know what became of a message. It will hand it out again.
#[derive(Debug, thiserror::Error)]
pub enum Unsettled {
    /// The client could not say it.
    #[error("{0}")]
    Broker(#[from] lapin::Error),
    /// The channel was gone.
    #[error("the channel was closed while the message was in hand")]
    Closed,
    /// The connection was gone; why.
    #[error("{0}")]
    Lost(String),
}

/// How a message ended.
pub type Settled = Result<Outcome, Unsettled>;

/// Why the work could not be done.
enum Failure {
    Malformed(Malformed),
    Query(QueryError),
}

/// Processes messages.
pub struct Processor {
    /// What a signup is looked up in.
    pub members: Members,
}

impl Processor {
    /// Does the work and settles the message. `lost` is done when the connection is lost.
    pub async fn process(
        &self,
        delivery: &Delivery,
        lost: impl Future<Output = String> + Send,
    ) -> Settled {
        self.work_and_settle(delivery, lost).await
    }

    async fn work_and_settle(
        &self,
        delivery: &Delivery,
        lost: impl Future<Output = String> + Send,
    ) -> Settled {
        let id = delivery.properties.message_id();
        let message_id = id.as_ref().map(|id| id.as_str());
        sent(delivery.ack(BasicAckOptions::default()), lost).await?;
        match self.work(delivery, message_id).await {
            Ok(signup) => {
                // Two clocks: the message may seem to come from the future.
                let age = signup.at.elapsed().unwrap_or_default();
                tracing::info!(message_id, route = signup.route, ?age, "processed");
                Ok(Outcome::Acked)
            }
            Err(Failure::Malformed(reason)) => {
                tracing::warn!(message_id, %reason, "rejected");
                Ok(Outcome::Rejected(reason))
            }
            Err(Failure::Query(error)) => {
                tracing::error!(message_id, %error, "requeued");
                Ok(Outcome::Requeued(error))
            }
        }
    }

    async fn work(&self, delivery: &Delivery, message_id: Option<&str>) -> Result<Signup, Failure> {
        tracing::info!(message_id, "received");
        let signup = Signup::parse(&delivery.data).map_err(Failure::Malformed)?;
        let members = self.members.query().await.map_err(Failure::Query)?;
        tracing::debug!(message_id, members = members.len(), "looked up");
        Ok(signup)
    }
}

/// Waits until `settling` is on its way to the broker.
///
/// On a channel that is closed by now nothing is sent, and that is no error to the
/// client. And a connection can break in a moment in which the client never answers:
/// without `lost` the consumer would wait for it forever.
async fn sent(
    settling: impl Future<Output = lapin::Result<bool>>,
    lost: impl Future<Output = String>,
) -> Result<(), Unsettled> {
    tokio::select! {
        biased;
        was_sent = settling => if was_sent? { Ok(()) } else { Err(Unsettled::Closed) },
        reason = lost => Err(Unsettled::Lost(reason)),
    }
}
