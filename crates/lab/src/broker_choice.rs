//! Which broker a lab uses, and what a lab does with it on its own account.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use broker::Broker;
use containers::{Image, Lock, RabbitMq, Vhost};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
        QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
    uri::{AMQPScheme, AMQPUri},
};

use crate::{error::LabError, subject::variable};

/// The queue that tier1 writes to and consumer reads from.
pub(crate) const QUEUE: &str = "signups";

/// How long the lab's own dealings with a broker may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long another lab may use the broker that WORKBOOK_AMQP_URL names. In a check all
/// tests wait for each other.
const LOCK_DEADLINE: Duration = Duration::from_secs(300);

/// How long to wait for it before saying so, once in each process.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Which broker to use: WORKBOOK_BROKER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerChoice {
    /// Unset: as `docker` if Docker answers and the image is here or can be fetched,
    /// else as `embedded`.
    Automatic,
    /// `embedded`: the in-process broker of this workbook, one for each lab.
    Embedded,
    /// `docker`: RabbitMQ in a container that all runs on this machine share, with a
    /// virtual host for each lab. WORKBOOK_RABBITMQ_IMAGE names its image.
    Docker,
    /// `url`: a broker that runs already, WORKBOOK_AMQP_URL. Its queue `signups`
    /// is purged, and labs that use it wait for each other.
    Url(String),
}

impl BrokerChoice {
    /// Reads WORKBOOK_BROKER and, for `url`, WORKBOOK_AMQP_URL. Nothing is started yet.
    ///
    /// # Errors
    /// If one of them, or WORKBOOK_RABBITMQ_IMAGE, can't be used.
    pub fn from_env() -> Result<Self, LabError> {
        let choice = match variable("WORKBOOK_BROKER")?.as_deref() {
            None => Self::Automatic,
            Some("docker") => Self::Docker,
            Some("embedded") => return Ok(Self::Embedded),
            Some("url") => {
                let url = variable("WORKBOOK_AMQP_URL")?.unwrap_or_default();
                // Not amqps: the forwarder in front has another name than the
                // certificate, and the subject is given a plain URL. And no IPv6 address,
                // which the parser takes for no host at all.
                let plain = |uri: AMQPUri| uri.scheme == AMQPScheme::AMQP && !url.contains('[');
                if !url.parse().is_ok_and(plain) {
                    return Err(LabError::Variable {
                        name: "WORKBOOK_AMQP_URL",
                        must_be: "an AMQP URL, such as amqp://user:password@host:5672/%2f",
                    });
                }
                return Ok(Self::Url(url));
            }
            Some(_) => {
                return Err(LabError::Variable {
                    name: "WORKBOOK_BROKER",
                    must_be: "docker, embedded or url",
                });
            }
        };
        Image::rabbitmq()?;
        Ok(choice)
    }

    /// Sees that the broker is there, where it takes its time: the container is
    /// started. Once in each process, on the first call or the first lab; says on
    /// stderr what it waits for. Blocks, and must not be called from asynchronous code.
    ///
    /// # Errors
    /// If it is [`BrokerChoice::Docker`] and can't be had: why, in one sentence.
    pub fn prepare(&self) -> Result<(), LabError> {
        match self {
            Self::Automatic => {
                let _ = shared(false);
                Ok(())
            }
            Self::Docker => shared(true).map(drop),
            Self::Embedded | Self::Url(_) => Ok(()),
        }
    }

    /// The choice in one line, for people. It names no password. Like
    /// [`BrokerChoice::prepare`], it may take its time on the first call.
    pub fn describe(&self) -> String {
        match self {
            Self::Automatic | Self::Docker => {
                match (shared(*self == Self::Docker), Image::rabbitmq()) {
                    (Ok(_), Ok(image)) => format!("broker: RabbitMQ in Docker ({image})"),
                    (Err(error), _) if *self == Self::Automatic => {
                        format!("broker: embedded ({})", reason(error))
                    }
                    (Err(error), _) => format!("broker: none ({})", reason(error)),
                    (_, Err(error)) => format!("broker: none ({error})"),
                }
            }
            Self::Embedded => "broker: embedded (in this process, nothing to install)".to_owned(),
            Self::Url(url) => match url.parse::<AMQPUri>() {
                Ok(uri) => format!(
                    "broker: {}:{} (WORKBOOK_AMQP_URL)",
                    uri.authority.host, uri.authority.port
                ),
                Err(_) => "broker: WORKBOOK_AMQP_URL".to_owned(),
            },
        }
    }
}

/// The shared RabbitMQ, as it was found on the first call, or why there is none.
fn shared(insist: bool) -> Result<RabbitMq, LabError> {
    static SHARED: OnceLock<Result<RabbitMq, String>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let say: containers::Say = Arc::new(|line| eprintln!("{line}"));
        containers::block_on(RabbitMq::shared(say, insist)).map_err(|error| error.to_string())
    });
    shared
        .clone()
        .map_err(|reason| LabError::part("WORKBOOK_BROKER=docker", reason))
}

/// Why, without the variable, which nobody has set.
fn reason(error: LabError) -> String {
    match error {
        LabError::Part { reason, .. } => reason,
        error => error.to_string(),
    }
}

/// A broker in use by one lab.
pub(crate) struct Running {
    uri: AMQPUri,
    embedded: Option<Broker>,
    /// Deleted when the lab ends.
    _vhost: Option<Vhost>,
    /// Held as long as the lab uses a broker that others may use, too.
    _lock: Option<Lock>,
}

impl Running {
    pub(crate) async fn start(choice: &BrokerChoice) -> Result<Self, LabError> {
        match choice {
            BrokerChoice::Automatic | BrokerChoice::Docker => {
                // It blocks, for the first lab even long.
                let insist = *choice == BrokerChoice::Docker;
                let shared = tokio::task::spawn_blocking(move || shared(insist))
                    .await
                    .map_err(|error| LabError::part("the broker", error))?;
                match shared {
                    Ok(rabbitmq) => Self::in_vhost(&rabbitmq).await,
                    Err(_) if *choice == BrokerChoice::Automatic => Self::embed().await,
                    Err(error) => Err(error),
                }
            }
            BrokerChoice::Embedded => Self::embed().await,
            BrokerChoice::Url(url) => {
                let lock = lock(url, LOCK_DEADLINE).await?;
                let running = Self {
                    uri: parse(url)?,
                    embedded: None,
                    _vhost: None,
                    _lock: Some(lock),
                };
                let (connection, channel) = running.channel().await?;
                declare(&channel).await?;
                channel
                    .queue_purge(QUEUE.into(), QueuePurgeOptions::default())
                    .await
                    .map_err(|error| LabError::part("the broker", error))?;
                close(connection).await;
                Ok(running)
            }
        }
    }

    async fn embed() -> Result<Self, LabError> {
        let broker = Broker::start(broker::Config::default()).await?;
        Ok(Self {
            uri: parse(&broker.uri())?,
            embedded: Some(broker),
            _vhost: None,
            _lock: None,
        })
    }

    async fn in_vhost(rabbitmq: &RabbitMq) -> Result<Self, LabError> {
        let vhost = rabbitmq.vhost().await?;
        Ok(Self {
            uri: parse(&vhost.uri())?,
            embedded: None,
            _vhost: Some(vhost),
            _lock: None,
        })
    }

    /// `host:port`, for a forwarder.
    pub(crate) fn upstream(&self) -> String {
        format!("{}:{}", self.uri.authority.host, self.uri.authority.port)
    }

    /// The broker's URL with the address of the forwarder in front of it.
    pub(crate) fn url_through(&self, forwarder: std::net::SocketAddr) -> String {
        let user = &self.uri.authority.userinfo;
        format!(
            "amqp://{}:{}@{forwarder}/{}",
            percent_encode(&user.username),
            percent_encode(&user.password),
            percent_encode(&self.uri.vhost),
        )
    }

    /// The embedded broker, if that is the one.
    pub(crate) fn embedded(&self) -> Option<&Broker> {
        self.embedded.as_ref()
    }

    /// Takes all messages out of the queue.
    pub(crate) async fn take_messages(&self) -> Result<Vec<Message>, LabError> {
        let (connection, channel) = self.channel().await?;
        let mut messages = Vec::new();
        declare(&channel).await?;
        let options = BasicGetOptions { no_ack: true };
        while let Some(message) = channel
            .basic_get(QUEUE.into(), options)
            .await
            .map_err(|error| LabError::part("the broker", error))?
        {
            let properties = &message.delivery.properties;
            messages.push(Message {
                body: String::from_utf8_lossy(&message.delivery.data).into_owned(),
                exchange: message.delivery.exchange.to_string(),
                routing_key: message.delivery.routing_key.to_string(),
                message_id: properties.message_id().as_ref().map(ToString::to_string),
                delivery_mode: *properties.delivery_mode(),
                headers: properties.headers().clone().unwrap_or_default(),
            });
        }
        close(connection).await;
        Ok(messages)
    }

    /// Puts a message into the queue, and waits until the broker has confirmed it.
    pub(crate) async fn publish(
        &self,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<(), LabError> {
        let failed = |error| LabError::part("the broker", error);
        let (connection, channel) = self.channel().await?;
        declare(&channel).await?;
        let published = async {
            channel
                .confirm_select(ConfirmSelectOptions::default())
                .await?;
            let options = BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            };
            channel
                .basic_publish("".into(), QUEUE.into(), options, body, properties)
                .await?
                .await
        };
        let confirmed = tokio::time::timeout(DEADLINE, published)
            .await
            .map_err(|_| LabError::part("the broker", format!("no confirm within {DEADLINE:?}")))?
            .map_err(failed)?;
        close(connection).await;
        match confirmed {
            Confirmation::Ack(None) => Ok(()),
            _ => Err(LabError::part("the broker", "it did not take the message")),
        }
    }

    /// Declares the queue as one that goes with its last consumer.
    pub(crate) async fn declare_another_queue(&self) -> Result<(), LabError> {
        let (connection, channel) = self.channel().await?;
        let mut options = QueueDeclareOptions::durable();
        options.auto_delete = true;
        channel
            .queue_declare(QUEUE.into(), options, FieldTable::default())
            .await
            .map_err(|error| LabError::part("the broker", error))?;
        close(connection).await;
        Ok(())
    }

    /// Deletes the queue, with what is in it.
    pub(crate) async fn delete_queue(&self) -> Result<(), LabError> {
        let (connection, channel) = self.channel().await?;
        channel
            .queue_delete(QUEUE.into(), QueueDeleteOptions::default())
            .await
            .map_err(|error| LabError::part("the broker", error))?;
        close(connection).await;
        Ok(())
    }

    async fn channel(&self) -> Result<(Connection, Channel), LabError> {
        let opened = async {
            let properties = ConnectionProperties::default().with_connection_name("lab".into());
            let connection = Connection::connect_uri(self.uri.clone(), properties).await?;
            let channel = connection.create_channel().await?;
            Ok::<_, lapin::Error>((connection, channel))
        };
        tokio::time::timeout(DEADLINE, opened)
            .await
            .map_err(|_| LabError::part("the broker", format!("no answer within {DEADLINE:?}")))?
            .map_err(|error| LabError::part("the broker", error))
    }
}

/// A message as it lay in the queue.
#[derive(Clone, Debug)]
pub struct Message {
    /// The body, as text.
    pub body: String,
    /// The exchange it was published to; empty for the default exchange.
    pub exchange: String,
    /// Its routing key.
    pub routing_key: String,
    /// The property `message_id`.
    pub message_id: Option<String>,
    /// The property `delivery_mode`: 2 for a message that outlives a restart.
    pub delivery_mode: Option<u8>,
    /// The property `headers`.
    pub headers: FieldTable,
}

impl Message {
    /// Its headers, one a line, sorted, with their AMQP types.
    pub fn headers_as_text(&self) -> String {
        let lines = self.headers.inner().iter().map(|(key, value)| {
            let value = match value {
                AMQPValue::LongString(text) => {
                    format!("long string {:?}", String::from_utf8_lossy(text.as_bytes()))
                }
                other => format!("{other:?}"),
            };
            format!("{key}: {value}")
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The header `name` as text, if it is one.
    pub fn header(&self, name: &str) -> Option<String> {
        let text = match self.headers.inner().get(name)? {
            AMQPValue::LongString(text) => text.to_string(),
            AMQPValue::ShortString(text) => text.to_string(),
            AMQPValue::ByteArray(bytes) => String::from_utf8_lossy(bytes.as_slice()).into_owned(),
            _ => return None,
        };
        Some(text)
    }
}

fn parse(url: &str) -> Result<AMQPUri, LabError> {
    url.parse()
        .map_err(|error: String| LabError::part("the broker", error))
}

/// Declares the queue in the words of tier1 and consumer.
async fn declare(channel: &Channel) -> Result<(), LabError> {
    channel
        .queue_declare(
            QUEUE.into(),
            QueueDeclareOptions::durable(),
            FieldTable::default(),
        )
        .await
        .map_err(|error| LabError::part("the broker", error))?;
    Ok(())
}

async fn close(connection: Connection) {
    // The lab has what it wanted; a broker that doesn't answer now does no harm.
    let _ = tokio::time::timeout(DEADLINE, connection.close(200, "done".into())).await;
}

/// Waits until no other lab, in this process or another, uses the broker at `url`.
async fn lock(url: &str, deadline: Duration) -> Result<Lock, LabError> {
    static TOLD: AtomicBool = AtomicBool::new(false);
    let mut hasher = DefaultHasher::new();
    url.hash(&mut hasher);
    let name = format!("otel-workbook-broker-{:016x}", hasher.finish());
    let broker = BrokerChoice::Url(url.to_owned()).describe();
    tokio::task::spawn_blocking(move || {
        let waits = || {
            if !TOLD.swap(true, Ordering::Relaxed) {
                eprintln!("{broker}: another lab uses it, waiting …");
            }
        };
        let too_long =
            format!("another lab has used this broker for {deadline:?}; end it, or use another");
        Lock::wait(&name, LOCK_PATIENCE, waits, deadline, &too_long)
    })
    .await
    .map_err(|error| LabError::part("the broker's lock", error))?
    .map_err(|error| LabError::part("the broker's lock", error))
}

/// Percent-encodes a part of a URL (RFC 3986, 2.1): all but unreserved characters.
fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_in_use_is_not_waited_for_without_end() {
        let url = "amqp://user:s3cr3t@in-use.invalid/%2f";
        let runtime = tokio::runtime::Runtime::new().expect("it starts");
        let held = runtime.block_on(lock(url, DEADLINE)).expect("it is free");
        let error = runtime
            .block_on(lock(url, Duration::from_millis(100)))
            .expect_err("it is held")
            .to_string();
        assert!(
            error.contains("another lab has used this broker for 100ms"),
            "{error}"
        );
        assert!(!error.contains("s3cr3t"), "{error}");
        drop(held);
        runtime
            .block_on(lock(url, DEADLINE))
            .expect("it is free again");
    }
}
