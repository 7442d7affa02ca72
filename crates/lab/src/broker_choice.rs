//! Which broker a lab uses, and what a lab does with it on its own account.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use broker::Broker;
use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{BasicGetOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions},
    types::{AMQPValue, FieldTable},
    uri::{AMQPScheme, AMQPUri},
};

use crate::{error::LabError, subject::variable};

/// The queue that tier1 writes to and consumer reads from.
pub(crate) const QUEUE: &str = "signups";

/// How long the lab's own dealings with a broker may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Which broker to use: WORKBOOK_BROKER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerChoice {
    /// `embedded`: the in-process broker of this workbook, one for each lab.
    Embedded,
    /// `url`: a broker that runs already, WORKBOOK_AMQP_URL. Its queue `signups`
    /// is purged, and labs that use it wait for each other.
    Url(String),
}

impl BrokerChoice {
    /// Reads WORKBOOK_BROKER and, for `url`, WORKBOOK_AMQP_URL. Unset is `embedded`.
    ///
    /// # Errors
    /// If one of them can't be used.
    pub fn from_env() -> Result<Self, LabError> {
        match variable("WORKBOOK_BROKER")?.as_deref() {
            None | Some("embedded") => Ok(Self::Embedded),
            Some("url") => {
                let url = variable("WORKBOOK_AMQP_URL")?.unwrap_or_default();
                // Not amqps: the forwarder in front has another name than the
                // certificate, and the subject is given a plain URL.
                let plain = |uri: AMQPUri| uri.scheme == AMQPScheme::AMQP;
                if !url.parse().is_ok_and(plain) {
                    return Err(LabError::Variable {
                        name: "WORKBOOK_AMQP_URL",
                        must_be: "an AMQP URL, such as amqp://user:password@host:5672/%2f",
                    });
                }
                Ok(Self::Url(url))
            }
            Some(_) => Err(LabError::Variable {
                name: "WORKBOOK_BROKER",
                must_be: "embedded or url",
            }),
        }
    }

    /// The choice in one line, for people. It names no password.
    pub fn describe(&self) -> String {
        match self {
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

/// A broker in use by one lab.
pub(crate) struct Running {
    uri: AMQPUri,
    embedded: Option<Broker>,
    /// Held as long as the lab uses a broker that others may use, too.
    _lock: Option<File>,
}

impl Running {
    pub(crate) async fn start(choice: &BrokerChoice) -> Result<Self, LabError> {
        match choice {
            BrokerChoice::Embedded => {
                let broker = Broker::start(broker::Config::default()).await?;
                let uri = parse(&broker.uri())?;
                Ok(Self {
                    uri,
                    embedded: Some(broker),
                    _lock: None,
                })
            }
            BrokerChoice::Url(url) => {
                let lock = lock(url).await?;
                let running = Self {
                    uri: parse(url)?,
                    embedded: None,
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
async fn lock(url: &str) -> Result<File, LabError> {
    let mut hasher = DefaultHasher::new();
    url.hash(&mut hasher);
    let name = format!("otel-workbook-broker-{:016x}.lock", hasher.finish());
    let path = std::env::temp_dir().join(name);
    tokio::task::spawn_blocking(move || {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)?;
        file.lock()?;
        Ok(file)
    })
    .await
    .map_err(|error| LabError::part("the broker's lock", error))?
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
