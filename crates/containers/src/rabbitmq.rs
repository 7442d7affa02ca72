//! A RabbitMQ that runs in a container: where it is, whether it answers, its virtual hosts.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use lapin::{Connection, ConnectionProperties};

use crate::{
    docker::{Docker, Say},
    error::{Error, cause},
    image::{Image, RABBITMQ},
    management::Management,
    owner::Owner,
    runtime, shared,
};

/// The ports inside of the container: AMQP and the management API.
pub(crate) const AMQP: u16 = 5672;
pub(crate) const MANAGEMENT: u16 = 15672;

/// The user and the password of a new RabbitMQ. It is published on 127.0.0.1 only.
pub(crate) const USER: &str = "guest";

/// How long one attempt at a handshake may take.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// How long a RabbitMQ that was started may take until it answers.
pub(crate) const READY_DEADLINE: Duration = Duration::from_secs(90);

/// How long its management API may take once it speaks AMQP. RabbitMQ starts plugins
/// before it listens, so one that doesn't answer by then isn't there.
const MANAGEMENT_DEADLINE: Duration = Duration::from_secs(30);

/// What virtual hosts of labs begin with; their owner follows.
const PREFIX: &str = "lab-";

/// A RabbitMQ that answers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RabbitMq {
    amqp: SocketAddr,
    management: Management,
}

impl RabbitMq {
    /// The one container that all runs on this machine share: found running, or
    /// started. Virtual hosts of processes that have ended are removed.
    ///
    /// Unless `insist`, an image that could not be fetched a few minutes ago is not
    /// asked for again: without a network each run would wait for it.
    ///
    /// # Errors
    /// If Docker doesn't answer, the image can't be had, or RabbitMQ doesn't start.
    pub async fn shared(say: Say, insist: bool) -> Result<Self, Error> {
        runtime::spawn(async move {
            let rabbitmq = shared::get_or_create(&Image::rabbitmq()?, &say, insist).await?;
            // What others have left is no reason to fail: the next one sweeps again.
            let _ = rabbitmq.sweep().await;
            Ok(rabbitmq)
        })
        .await
    }

    pub(crate) fn new(amqp: SocketAddr, management: SocketAddr) -> Result<Self, Error> {
        Ok(Self {
            amqp,
            management: Management::new(management, USER, USER)?,
        })
    }

    /// Where it speaks AMQP.
    pub fn address(&self) -> SocketAddr {
        self.amqp
    }

    /// Its URL, with the virtual host that every RabbitMQ has.
    pub fn uri(&self) -> String {
        self.uri_of("%2f")
    }

    fn uri_of(&self, vhost: &str) -> String {
        format!("amqp://{USER}:{USER}@{}/{vhost}", self.amqp)
    }

    /// Makes a virtual host, which goes with the answer, or with this process.
    ///
    /// # Errors
    /// If RabbitMQ doesn't make it.
    pub async fn vhost(&self) -> Result<Vhost, Error> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", Owner::this());
        let rabbitmq = self.clone();
        runtime::spawn(async move {
            // First, so that it goes even if something fails from here on.
            let vhost = Vhost {
                name,
                rabbitmq,
                gone: false,
            };
            let management = &vhost.rabbitmq.management;
            management.create_vhost(&vhost.name, USER).await?;
            Ok(vhost)
        })
        .await
    }

    /// The names of all virtual hosts.
    ///
    /// # Errors
    /// If the management API doesn't tell.
    pub async fn vhosts(&self) -> Result<Vec<String>, Error> {
        let management = self.management.clone();
        runtime::spawn(async move { management.vhosts().await }).await
    }

    /// Removes the virtual hosts of labs whose process has ended.
    async fn sweep(&self) -> Result<(), Error> {
        for name in self.management.vhosts().await? {
            let owner = name.strip_prefix(PREFIX).and_then(Owner::parse);
            if owner.is_some_and(|owner| owner.has_ended()) {
                self.management.delete_vhost(&name).await?;
            }
        }
        Ok(())
    }

    /// One attempt: a handshake, an open virtual host, and the management API.
    pub(crate) async fn answers(&self) -> Result<(), Silent> {
        let handshake = async {
            let properties =
                ConnectionProperties::default().with_connection_name("are you there".into());
            let connection = Connection::connect(&self.uri(), properties).await?;
            connection.close(200, "yes".into()).await
        };
        match tokio::time::timeout(HANDSHAKE_DEADLINE, handshake).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Silent::Amqp(cause(&error))),
            Err(_) => {
                let reason = format!("no handshake within {HANDSHAKE_DEADLINE:?}");
                return Err(Silent::Amqp(reason));
            }
        }
        match self.management.vhosts().await {
            Ok(_) => Ok(()),
            Err(error) => Err(Silent::Management(error.to_string())),
        }
    }

    /// Waits until it answers, as long as its container runs.
    pub(crate) async fn ready(
        &self,
        docker: &Docker,
        image: &Image,
        container: &str,
        deadline: Duration,
    ) -> Result<(), Error> {
        let began = Instant::now();
        let mut speaks_amqp_since = None;
        loop {
            let Err(silent) = self.answers().await else {
                return Ok(());
            };
            let failed = |reason| Error::Container {
                image: image.to_string(),
                reason,
            };
            let reason = match silent {
                Silent::Amqp(reason) => reason,
                Silent::Management(reason) => {
                    let since: Instant = *speaks_amqp_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > MANAGEMENT_DEADLINE {
                        return Err(failed(format!(
                            "{reason}; WORKBOOK_RABBITMQ_IMAGE must name an image with the \
                             management plugin, such as {RABBITMQ}"
                        )));
                    }
                    reason
                }
            };
            if began.elapsed() > deadline {
                return Err(failed(format!("no answer within {deadline:?}: {reason}")));
            }
            match docker.find(container).await? {
                Some(found) if found.is_running() => {}
                Some(_) => {
                    let last = docker.last_line(container).await;
                    return Err(failed(format!("it ended; its last line: {last}")));
                }
                None => return Err(failed("somebody removed it".to_owned())),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What of a RabbitMQ doesn't answer, and why.
pub(crate) enum Silent {
    Amqp(String),
    /// It speaks AMQP.
    Management(String),
}

/// A virtual host of one lab. It is deleted, with all in it, when this is dropped.
#[derive(Debug)]
pub struct Vhost {
    name: String,
    rabbitmq: RabbitMq,
    gone: bool,
}

impl Vhost {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL.
    pub fn uri(&self) -> String {
        self.rabbitmq.uri_of(&self.name)
    }

    /// Its URL; it is left where it is.
    pub(crate) fn keep(mut self) -> String {
        self.gone = true;
        self.uri()
    }

    /// Deletes it.
    ///
    /// # Errors
    /// If RabbitMQ doesn't.
    pub async fn delete(mut self) -> Result<(), Error> {
        self.gone = true;
        let management = self.rabbitmq.management.clone();
        let name = self.name.clone();
        runtime::spawn(async move { management.delete_vhost(&name).await }).await
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        let management = self.rabbitmq.management.clone();
        let name = std::mem::take(&mut self.name);
        runtime::finish(async move { management.delete_vhost(&name).await });
    }
}
