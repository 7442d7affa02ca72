//! A consumer that keeps what it was given, whatever happens to the broker.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use lapin::{
    Channel, Connection, ConnectionProperties, Event,
    message::Delivery,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicQosOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};
use tokio::{sync::watch, task::JoinHandle};

use crate::{Lab, LabError, broker_choice::QUEUE};

/// The tag under which it consumes.
const TAG: &str = "witness";

/// How many messages it has in hand at a time: those that come again after an outage.
const PREFETCH: u16 = 10;

/// How long an attempt at a connection may take, and the pause before the next.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// How long the end may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// A delivery.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) message_id: String,
    pub(crate) body: String,
    pub(crate) redelivered: bool,
}

/// Takes and acknowledges the messages of a lab that has no consumer. It connects
/// anew whenever it has to.
pub(crate) struct Witness {
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Witness {
    pub(crate) fn start(lab: &Lab) -> Result<Self, LabError> {
        let variables = lab.variables();
        let url = variables.into_iter().find(|(name, _)| name == "AMQP_URL");
        let (_, url) = url.ok_or_else(|| LabError::part("the witness", "there is no broker"))?;
        let seen = Arc::new(Mutex::default());
        let (stop, stopping) = watch::channel(false);
        let all = Arc::clone(&seen);
        let task = lab.spawn_task(run(url, all, stopping));
        Ok(Self { seen, stop, task })
    }

    /// How many deliveries there were.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the lab's subject, takes what is left in the queue, and answers all deliveries
    /// in their order.
    pub(crate) fn finish(mut self, mut lab: Lab) -> Result<Vec<Seen>, LabError> {
        lab.stop()?;
        self.stop.send_replace(true);
        lab.block_on(async { tokio::time::timeout(DEADLINE, &mut self.task).await })
            .map_err(|_| LabError::TimedOut {
                what: "the queue becoming empty".to_owned(),
                deadline: DEADLINE,
            })?
            .map_err(|error| LabError::part("the witness", error))?;
        Ok(std::mem::take(&mut *self.lock()))
    }
}

/// Until it is told to stop, and then until the queue was found empty.
async fn run(url: String, seen: Arc<Mutex<Vec<Seen>>>, mut stopping: watch::Receiver<bool>) {
    loop {
        let consumed = async {
            let connecting = Connection::connect(&url, ConnectionProperties::default());
            let connection = tokio::time::timeout(CONNECT_DEADLINE, connecting)
                .await
                .map_err(std::io::Error::from)??;
            let lost = lost(&connection);
            let consumed = async {
                let channel = connection.create_channel().await?;
                consume(&channel, &seen, &mut stopping).await?;
                connection.close(200, "done".into()).await
            };
            // An ack, for one, can wait for ever if the connection breaks in that moment.
            tokio::select! {
                biased;
                consumed = consumed => consumed,
                error = lost => Err(error),
            }
        };
        match consumed.await {
            Ok(()) => return,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Done when the connection is lost.
fn lost(connection: &Connection) -> impl Future<Output = lapin::Error> {
    let mut events = connection.events_listener();
    // Events are heard from here on: what happened before shows in the status only.
    let connected = connection.status().connected();
    async move {
        while connected && let Some(event) = events.next().await {
            if let Event::Error(error) = event {
                return error;
            }
        }
        std::io::Error::from(std::io::ErrorKind::NotConnected).into()
    }
}

async fn consume(
    channel: &Channel,
    seen: &Mutex<Vec<Seen>>,
    stopping: &mut watch::Receiver<bool>,
) -> Result<(), lapin::Error> {
    channel
        .queue_declare(
            QUEUE.into(),
            QueueDeclareOptions::durable(),
            FieldTable::default(),
        )
        .await?;
    channel
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await?;
    let mut consumer = channel
        .basic_consume(
            QUEUE.into(),
            TAG.into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    loop {
        let stopped = async {
            // What it answers can't be kept over an await.
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        tokio::select! {
            biased;
            () = stopped => break,
            delivery = consumer.next() => match delivery {
                Some(delivery) => take(&delivery?, seen).await?,
                // The channel was closed; the next request says why.
                None => break,
            },
        }
    }
    channel
        .basic_cancel(TAG.into(), BasicCancelOptions::default())
        .await?;
    // What had been handed out before the cancel.
    while let Some(delivery) = consumer.next().await {
        take(&delivery?, seen).await?;
    }
    if !*stopping.borrow() {
        return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
    }
    let options = BasicGetOptions { no_ack: false };
    while let Some(message) = channel.basic_get(QUEUE.into(), options).await? {
        take(&message.delivery, seen).await?;
    }
    Ok(())
}

async fn take(delivery: &Delivery, seen: &Mutex<Vec<Seen>>) -> Result<(), lapin::Error> {
    let id = delivery.properties.message_id();
    let delivered = Seen {
        message_id: id.as_ref().map(ToString::to_string).unwrap_or_default(),
        body: String::from_utf8_lossy(&delivery.data).into_owned(),
        redelivered: delivery.redelivered,
    };
    seen.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(delivered);
    delivery.ack(BasicAckOptions::default()).await?;
    Ok(())
}
