//! Containers that belong to one test: it may stop them, and they go with it.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};
use testcontainers::{
    ContainerAsync, ContainerRequest, GenericImage, ImageExt,
    bollard::query_parameters::KillContainerOptionsBuilder,
    core::{CmdWaitFor, ExecCommand},
    runners::AsyncRunner,
};

use crate::{
    docker::{Docker, LABEL, PATIENCE, Say, request, told},
    error::{Error, cause, one_line},
    image::Image,
    owner::Owner,
    rabbitmq::{AMQP, MANAGEMENT, READY_DEADLINE, RabbitMq},
    runtime,
    shared::with_environment,
};

/// Where PostgreSQL listens inside of its container.
const POSTGRES: u16 = 5432;

/// Whoever made the database may read its password here; it is gone in a minute.
const POSTGRES_PASSWORD: &str = "workbook";

/// How long a server may take to end in order, until Docker kills it, in seconds.
const STOP_DEADLINE_S: i32 = 30;

/// How often a port that somebody else took meanwhile is chosen anew.
const PORT_ATTEMPTS: usize = 10;

/// A container and the image it is made of. It is removed when this is dropped.
#[derive(Debug)]
struct Own {
    container: Option<ContainerAsync<GenericImage>>,
    docker: Docker,
    image: Image,
    name: String,
}

impl Own {
    /// Starts what `request` makes of a name and a label, after it has removed what
    /// tests that were killed have left.
    async fn start(
        image: Image,
        kind: &str,
        ask: impl Fn(&str, &str) -> std::io::Result<ContainerRequest<GenericImage>>,
    ) -> Result<Self, Error> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let docker = Docker::connect(PATIENCE).await?;
        for (name, labels) in docker.ours().await? {
            let owner = labels.get(LABEL).and_then(|label| Owner::parse(label));
            if owner.is_some_and(|owner| owner.has_ended()) {
                // What others have left is no reason to fail: the next one removes it.
                let _ = docker.remove(&name).await;
            }
        }
        let say: Say = Arc::new(|line| eprintln!("{line}"));
        docker.have(&image, &say).await?;
        let owner = Owner::this().to_string();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("otel-workbook-{kind}-{owner}-{number}");
            match ask(&name, &owner)?.start().await {
                Ok(container) => {
                    return Ok(Self {
                        container: Some(container),
                        docker,
                        image,
                        name,
                    });
                }
                Err(error) => {
                    // It was created, but not started.
                    docker.remove(&name).await?;
                    let reason = cause(&error);
                    let taken = reason.contains("already allocated") || reason.contains("in use");
                    if !taken || attempts == PORT_ATTEMPTS {
                        return Err(Error::Container {
                            image: image.to_string(),
                            reason,
                        });
                    }
                }
            }
        }
    }

    fn container(&self) -> &ContainerAsync<GenericImage> {
        self.container.as_ref().expect("it is taken by drop alone")
    }

    async fn port(&self, port: u16) -> Result<SocketAddr, Error> {
        let found = self.docker.find(&self.name).await?;
        found
            .and_then(|found| found.port(port))
            .ok_or_else(|| self.failed(format!("its port {port} is not published")))
    }

    fn failed(&self, reason: String) -> Error {
        Error::Container {
            image: self.image.to_string(),
            reason,
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(container) = self.container.take() {
            // Not by the container's own drop, which needs a runtime of the right kind
            // around it.
            runtime::finish(async move { container.rm().await.map_err(|error| told(&error)) });
        }
    }
}

/// A RabbitMQ of one test's own. Its ports stay the same when it is stopped and
/// started. Functions block, and must not be called from asynchronous code.
#[derive(Debug)]
pub struct OwnRabbitMq {
    own: Own,
    rabbitmq: RabbitMq,
}

impl OwnRabbitMq {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// If Docker doesn't answer, the image can't be had, or RabbitMQ doesn't start.
    pub fn start_new() -> Result<Self, Error> {
        runtime::block_on(async {
            let image = Image::rabbitmq()?;
            let own = Own::start(image.clone(), "own-rabbitmq", |name, label| {
                let ports = [(free_port()?, AMQP), (free_port()?, MANAGEMENT)];
                Ok(with_environment(request(&image, name, label, &ports)))
            })
            .await?;
            let rabbitmq = RabbitMq::new(own.port(AMQP).await?, own.port(MANAGEMENT).await?)?;
            let this = Self { own, rabbitmq };
            this.ready().await?;
            Ok(this)
        })
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// If it doesn't.
    pub fn wait_until_ready(&self) -> Result<(), Error> {
        runtime::block_on(self.ready())
    }

    /// The URL of a new virtual host, which stays as long as the container.
    ///
    /// # Errors
    /// If RabbitMQ doesn't make it.
    pub fn new_vhost(&self) -> Result<String, Error> {
        runtime::block_on(async { Ok(self.rabbitmq.vhost().await?.keep()) })
    }

    async fn ready(&self) -> Result<(), Error> {
        let Own {
            docker,
            image,
            name,
            ..
        } = &self.own;
        self.rabbitmq
            .ready(docker, image, name, READY_DEADLINE)
            .await
    }

    /// Its URL.
    pub fn uri(&self) -> String {
        self.rabbitmq.uri()
    }

    /// Stops it as an operator does, and waits for its end.
    ///
    /// # Errors
    /// If Docker refuses.
    pub fn stop(&self) -> Result<(), Error> {
        runtime::block_on(async {
            let container = self.own.container();
            let stopped = container.stop_with_timeout(Some(STOP_DEADLINE_S)).await;
            stopped.map_err(|error| told(&error))
        })
    }

    /// Kills it: no time for anything in order.
    ///
    /// # Errors
    /// If Docker refuses.
    pub fn kill(&self) -> Result<(), Error> {
        runtime::block_on(async {
            let options = KillContainerOptionsBuilder::new().signal("KILL").build();
            let docker = self.own.docker.client();
            let killed = docker.kill_container(&self.own.name, Some(options)).await;
            killed.map_err(|error| told(&error))?;
            let began = Instant::now();
            loop {
                match self.own.docker.find(&self.own.name).await? {
                    Some(found) if found.is_running() => {}
                    _ => return Ok(()),
                }
                if began.elapsed() > READY_DEADLINE {
                    return Err(self.own.failed("it doesn't die".to_owned()));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    }

    /// Starts it again, after [`OwnRabbitMq::stop`] or [`OwnRabbitMq::kill`], and waits
    /// until it answers.
    ///
    /// # Errors
    /// If it doesn't.
    pub fn start(&self) -> Result<(), Error> {
        runtime::block_on(async {
            let started = self.own.container().start().await;
            started.map_err(|error| told(&error))?;
            self.ready().await
        })
    }

    /// Runs `rabbitmqctl` with these arguments in the container.
    ///
    /// # Errors
    /// If it can't be run or doesn't succeed.
    pub fn control(&self, arguments: &[&str]) -> Result<String, Error> {
        let command = std::iter::once("rabbitmqctl")
            .chain(arguments.iter().copied())
            .map(ToOwned::to_owned)
            .collect::<Vec<_>>();
        let run = async {
            let command = ExecCommand::new(command).with_cmd_ready_condition(CmdWaitFor::exit());
            let mut ran = self
                .own
                .container()
                .exec(command)
                .await
                .map_err(|error| told(&error))?;
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            let stdout = ran.stdout_to_vec().await.map_err(|error| told(&error))?;
            let stderr = ran.stderr_to_vec().await.map_err(|error| told(&error))?;
            let code = ran.exit_code().await.map_err(|error| told(&error))?;
            match code {
                Some(0) => Ok(text(stdout)),
                code => Err(self.own.failed(format!(
                    "rabbitmqctl {} ended with {code:?}: {}",
                    arguments.join(" "),
                    one_line(&text(stderr))
                ))),
            }
        };
        runtime::block_on(async {
            tokio::time::timeout(READY_DEADLINE, run)
                .await
                .unwrap_or_else(|_| {
                    Err(self.own.failed(format!(
                        "rabbitmqctl {} has not ended within {READY_DEADLINE:?}",
                        arguments.join(" ")
                    )))
                })
        })
    }
}

/// A PostgreSQL of one test's own.
#[derive(Debug)]
pub struct Postgres {
    own: Own,
    address: SocketAddr,
}

impl Postgres {
    /// Starts one and waits until it answers. Blocks, and must not be called from
    /// asynchronous code.
    ///
    /// # Errors
    /// If Docker doesn't answer, the image can't be had, or PostgreSQL doesn't start.
    pub fn start_new() -> Result<Self, Error> {
        runtime::block_on(async {
            let image = Image::postgres()?;
            let own = Own::start(image.clone(), "own-postgres", |name, label| {
                Ok(request(&image, name, label, &[(0, POSTGRES)])
                    .with_env_var("POSTGRES_USER", "workbook")
                    .with_env_var("POSTGRES_PASSWORD", POSTGRES_PASSWORD)
                    .with_env_var("POSTGRES_DB", "workbook"))
            })
            .await?;
            let address = own.port(POSTGRES).await?;
            let this = Self { own, address };
            this.ready().await?;
            Ok(this)
        })
    }

    async fn ready(&self) -> Result<(), Error> {
        let began = Instant::now();
        loop {
            let asked = async {
                let mut connection = PgConnection::connect(&self.url()).await?;
                sqlx::query("SELECT 1").execute(&mut connection).await?;
                connection.close().await
            };
            let reason = match tokio::time::timeout(Duration::from_secs(5), asked).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => cause(&error),
                Err(_) => "it is silent".to_owned(),
            };
            if began.elapsed() > READY_DEADLINE {
                let reason = format!("no answer within {READY_DEADLINE:?}: {reason}");
                return Err(self.own.failed(reason));
            }
            match self.own.docker.find(&self.own.name).await? {
                Some(found) if found.is_running() => {}
                _ => {
                    let last = self.own.docker.last_line(&self.own.name).await;
                    let reason = format!("it ended; its last line: {last}");
                    return Err(self.own.failed(reason));
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Executes one statement in the database `workbook`. Blocks, and must not be called
    /// from asynchronous code.
    ///
    /// # Errors
    /// If PostgreSQL doesn't answer or refuses it.
    pub fn execute(&self, statement: &'static str) -> Result<(), Error> {
        runtime::block_on(async {
            let executed = async {
                let mut connection = PgConnection::connect(&self.url()).await?;
                sqlx::query(statement).execute(&mut connection).await?;
                connection.close().await
            };
            tokio::time::timeout(READY_DEADLINE, executed)
                .await
                .map_err(|_| {
                    self.own
                        .failed(format!("no answer within {READY_DEADLINE:?}"))
                })?
                .map_err(|error| self.own.failed(cause(&error)))
        })
    }

    /// Its URL, with the database `workbook`.
    pub fn url(&self) -> String {
        format!(
            "postgres://workbook:{POSTGRES_PASSWORD}@{}/workbook",
            self.address
        )
    }
}

/// A port that is free now. It is below those that the system hands out by itself
/// (from 32768 on Linux, 49152 on macOS), so nobody gets it by chance.
fn free_port() -> std::io::Result<u16> {
    let mut attempts = 0;
    loop {
        let port = rand::random_range(20_000..32_000);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) if attempts == 100 => return Err(error),
            Err(_) => attempts += 1,
        }
    }
}
