//! Docker itself: whether it answers, images, containers by their names.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use testcontainers::{
    ContainerRequest, GenericImage, ImageExt,
    bollard::{
        self,
        models::{ContainerInspectResponse, ContainerStateStatusEnum, PortBinding},
        query_parameters::{
            CreateImageOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
            LogsOptionsBuilder, RemoveContainerOptionsBuilder,
        },
    },
    core::{IntoContainerPort, client::docker_client_instance},
};

use crate::{
    error::{Error, cause, one_line},
    image::Image,
    runtime,
};

/// How long Docker may take to say that it is there, where something else will do.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// The same where nothing else will: on a loaded machine it may start and remove other
/// containers this moment.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);

/// How long fetching an image may take, if somebody waits for something else.
pub(crate) const PULL_DEADLINE: Duration = Duration::from_secs(120);

/// The same for somebody who has asked for nothing else.
pub(crate) const PATIENT_PULL_DEADLINE: Duration = Duration::from_secs(3600);

/// How long a registry may say nothing. Docker tells of each layer several times a second.
const PULL_SILENCE: Duration = Duration::from_secs(60);

/// How often a fetch tells how far it is.
const PROGRESS_PAUSE: Duration = Duration::from_secs(2);

/// How long Docker may take to remove a container.
pub(crate) const REMOVE_DEADLINE: Duration = Duration::from_secs(30);

/// How long any other request may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// The label of everything that this crate starts. Its value says what for.
pub(crate) const LABEL: &str = "otel-workbook";

/// Is told in one line what takes its time.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// Whether Docker answers.
///
/// # Errors
/// If it doesn't within 2 s: why, in one sentence.
pub async fn answers() -> Result<(), Error> {
    runtime::spawn(async { Docker::connect(ANSWER_DEADLINE).await.map(drop) }).await
}

/// A Docker that has answered.
#[derive(Clone, Debug)]
pub(crate) struct Docker(bollard::Docker);

impl Docker {
    /// The Docker that the environment names, if it answers within `deadline`.
    pub(crate) async fn connect(deadline: Duration) -> Result<Self, Error> {
        usable(&|name| std::env::var(name).ok())?;
        let asked = async {
            let docker = docker_client_instance()
                .await
                .map_err(|error| Error::NoDocker(cause(&error)))?;
            docker
                .ping()
                .await
                .map_err(|error| Error::NoDocker(cause(&error)))?;
            Ok(Self(docker))
        };
        tokio::time::timeout(deadline, asked)
            .await
            .unwrap_or_else(|_| {
                let reason = format!("it is silent for {deadline:?}");
                Err(Error::NoDocker(reason))
            })
    }

    /// Sees that `image` is here.
    pub(crate) async fn have(&self, image: &Image, say: &Say) -> Result<(), Error> {
        if self.has(image).await? {
            return Ok(());
        }
        self.pull(image, say, PULL_DEADLINE).await
    }

    /// Whether `image` is here.
    pub(crate) async fn has(&self, image: &Image) -> Result<bool, Error> {
        match within(self.0.inspect_image(&image.to_string())).await {
            Ok(_) => Ok(true),
            Err(error) if is_status(&error, 404) => Ok(false),
            Err(error) => Err(told(&error)),
        }
    }

    /// Fetches `image`, as long as its registry says something and not longer than
    /// `deadline`.
    pub(crate) async fn pull(
        &self,
        image: &Image,
        say: &Say,
        deadline: Duration,
    ) -> Result<(), Error> {
        say(&format!("fetching {image} …"));
        let failed = |reason: String| Error::Image {
            image: image.to_string(),
            reason,
        };
        let (name, tag) = image.to_pull();
        let options = CreateImageOptionsBuilder::new()
            .from_image(name)
            .tag(&tag)
            .build();
        let mut events = self.0.create_image(Some(options), None, None);
        let pulled = async {
            let mut layers = HashMap::new();
            let mut told = Instant::now();
            loop {
                let event = tokio::time::timeout(PULL_SILENCE, events.next()).await;
                let silent = |_| failed(format!("nothing came for {} s", PULL_SILENCE.as_secs()));
                let Some(event) = event.map_err(silent)? else {
                    return Ok(());
                };
                let event = event.map_err(|error| failed(cause(&error)))?;
                if let Some(reason) = event.error_detail.and_then(|detail| detail.message) {
                    return Err(failed(one_line(&reason)));
                }
                // The same layer is told of again while it is unpacked.
                if let (Some("Downloading"), Some(layer), Some(progress)) =
                    (event.status.as_deref(), event.id, event.progress_detail)
                {
                    layers.insert(layer, (progress.current, progress.total));
                }
                if told.elapsed() >= PROGRESS_PAUSE {
                    told = Instant::now();
                    say(&progress(image, layers.values().copied()));
                }
            }
        };
        tokio::time::timeout(deadline, pulled)
            .await
            .unwrap_or_else(|_| {
                Err(failed(format!(
                    "not fetched within {} s; `docker pull {image}` takes its time",
                    deadline.as_secs()
                )))
            })
    }

    /// The container called `name`, if there is one.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Found>, Error> {
        match within(
            self.0
                .inspect_container(name, None::<InspectContainerOptions>),
        )
        .await
        {
            Ok(container) => Ok(Some(Found(container))),
            Err(error) if is_status(&error, 404) => Ok(None),
            Err(error) => Err(told(&error)),
        }
    }

    /// Names and labels of this crate's containers, running or not.
    pub(crate) async fn ours(&self) -> Result<Vec<(String, HashMap<String, String>)>, Error> {
        let filters = HashMap::from([("label", vec![LABEL])]);
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters)
            .build();
        let containers = within(self.0.list_containers(Some(options)))
            .await
            .map_err(|error| told(&error))?;
        Ok(containers
            .into_iter()
            .filter_map(|container| {
                let name = container.names?.first()?.trim_start_matches('/').to_owned();
                Some((name, container.labels.unwrap_or_default()))
            })
            .collect())
    }

    /// Removes a container with all its data, running or not. It may be gone already.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), Error> {
        let options = RemoveContainerOptionsBuilder::new()
            .force(true)
            .v(true)
            .build();
        match within(self.0.remove_container(name, Some(options))).await {
            Ok(()) => Ok(()),
            Err(error) if is_status(&error, 404) => Ok(()),
            // Somebody else is removing it.
            Err(error) if is_status(&error, 409) => {
                let began = Instant::now();
                while self.find(name).await?.is_some() {
                    if began.elapsed() > REMOVE_DEADLINE {
                        return Err(told(&error));
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Ok(())
            }
            Err(error) => Err(told(&error)),
        }
    }

    /// The last line that a container wrote, which says why it ended.
    pub(crate) async fn last_line(&self, name: &str) -> String {
        let options = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .tail("20")
            .build();
        let mut logs = self.0.logs(name, Some(options));
        let mut written = String::new();
        let read = async {
            while let Some(Ok(piece)) = logs.next().await {
                written.push_str(&piece.to_string());
            }
        };
        let _ = tokio::time::timeout(ANSWER_DEADLINE, read).await;
        let last = written.lines().rfind(|line| !line.trim().is_empty());
        one_line(last.unwrap_or("nothing"))
    }

    /// Docker's own client, for what is needed once.
    pub(crate) fn client(&self) -> &bollard::Docker {
        &self.0
    }
}

/// A container there is.
pub(crate) struct Found(ContainerInspectResponse);

impl Found {
    pub(crate) fn is_running(&self) -> bool {
        let state = self.0.state.as_ref();
        state.is_some_and(|state| {
            state.running == Some(true)
                && state.paused != Some(true)
                && state.restarting != Some(true)
        })
    }

    /// Whether it was made and has not been started yet.
    pub(crate) fn is_only_created(&self) -> bool {
        let state = self.0.state.as_ref();
        state.and_then(|state| state.status) == Some(ContainerStateStatusEnum::CREATED)
    }

    /// Where the container's `port` is published on this machine.
    pub(crate) fn port(&self, port: u16) -> Option<SocketAddr> {
        let ports = self.0.network_settings.as_ref()?.ports.as_ref()?;
        let binding = ports.get(&format!("{port}/tcp"))?.as_ref()?.first()?;
        let port = binding.host_port.as_ref()?.parse().ok()?;
        Some((Ipv4Addr::LOCALHOST, port).into())
    }
}

/// What is to be started: `image`, with `ports` of the container published on
/// 127.0.0.1 and nowhere else. A host's port 0 is any.
pub(crate) fn request(
    image: &Image,
    name: &str,
    label: &str,
    ports: &[(u16, u16)],
) -> ContainerRequest<GenericImage> {
    let bindings: HashMap<_, _> = ports
        .iter()
        .map(|(host, container)| {
            let binding = PortBinding {
                host_ip: Some(Ipv4Addr::LOCALHOST.to_string()),
                host_port: (*host != 0).then(|| host.to_string()),
            };
            (format!("{container}/tcp"), Some(vec![binding]))
        })
        .collect();
    ports
        .iter()
        .fold(
            GenericImage::new(&image.name, &image.tag),
            |image, (_, container)| image.with_exposed_port(container.tcp()),
        )
        .with_container_name(name)
        .with_label(LABEL, label)
        .with_startup_timeout(DEADLINE)
        .with_host_config_modifier(move |config| {
            config.publish_all_ports = Some(false);
            config.port_bindings = Some(bindings.clone());
        })
}

/// Whether the containers of the Docker that the variables name can be reached, and
/// whether testcontainers can be asked for it at all.
fn usable(variable: &dyn Fn(&str) -> Option<String>) -> Result<(), Error> {
    let host = variable("DOCKER_HOST").unwrap_or_default();
    let (scheme, rest) = host.split_once("://").unwrap_or_default();
    let unusable = |reason: &str| Err(Error::NoDocker(reason.to_owned()));
    match scheme {
        "" if host.is_empty() => {}
        "unix" => {}
        "tcp" | "http" | "https" => {
            let tls = scheme == "https" || variable("DOCKER_TLS_VERIFY").as_deref() == Some("1");
            if tls && variable("DOCKER_CERT_PATH").is_none() {
                return unusable("DOCKER_CERT_PATH must say where the certificates are");
            }
            let authority = rest.split('/').next().unwrap_or_default();
            let host = authority
                .rsplit_once(':')
                .map_or(authority, |(host, _)| host);
            let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
            if host != "localhost" && !address.is_ok_and(|address| address.is_loopback()) {
                return unusable(
                    "DOCKER_HOST is another machine, and ports are published on 127.0.0.1 only",
                );
            }
        }
        _ => return unusable("DOCKER_HOST must begin with unix:// or tcp://"),
    }
    Ok(())
}

/// Waits for an answer, but not for ever.
async fn within<T>(
    asked: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, bollard::errors::Error> {
    tokio::time::timeout(DEADLINE, asked)
        .await
        .unwrap_or(Err(bollard::errors::Error::RequestTimeoutError))
}

fn is_status(error: &bollard::errors::Error, status: u16) -> bool {
    matches!(
        error,
        bollard::errors::Error::DockerResponseServerError { status_code, .. }
            if *status_code == status
    )
}

/// What Docker said, as an error.
pub(crate) fn told(error: &(dyn std::error::Error + 'static)) -> Error {
    Error::NoDocker(cause(error))
}

/// `fetching rabbitmq:4-management … 35 of 120 MB`.
fn progress(image: &Image, layers: impl Iterator<Item = (Option<i64>, Option<i64>)>) -> String {
    let (current, total) = layers.fold((0, 0), |(current, total), (c, t)| {
        (current + c.unwrap_or(0), total + t.unwrap_or(0))
    });
    let mega = |bytes: i64| bytes / 1_000_000;
    format!("fetching {image} … {} of {} MB", mega(current), mega(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(variables: &[(&str, &str)]) -> Option<String> {
        let variable = |name: &str| {
            let mut all = variables.iter();
            all.find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        usable(&variable).err().map(|error| error.to_string())
    }

    #[test]
    fn only_a_docker_whose_ports_are_here_will_do() {
        for host in [
            "",
            "unix:///run/docker.sock",
            "tcp://127.0.0.1:2375",
            "tcp://localhost:2375",
            "http://[::1]:2375/",
        ] {
            assert_eq!(reason(&[("DOCKER_HOST", host)]), None, "{host}");
        }
        for (host, part) in [
            ("tcp://docker:2375", "another machine"),
            ("tcp://10.0.0.1:2375", "another machine"),
            ("tcp://127.0.0.1.example:2375", "another machine"),
            ("ssh://user@host", "must begin with"),
            ("/var/run/docker.sock", "must begin with"),
            ("https://127.0.0.1:2376", "DOCKER_CERT_PATH"),
        ] {
            let reason = reason(&[("DOCKER_HOST", host)]).expect("it can't be used");
            assert!(reason.contains(part), "{host}: {reason}");
            assert_eq!(reason.lines().count(), 1, "{reason}");
        }
    }

    #[test]
    fn a_fetch_tells_how_far_it_is() {
        let image = Image {
            name: "rabbitmq".to_owned(),
            tag: "4".to_owned(),
        };
        let layers = [
            (Some(30_000_000), Some(100_000_000)),
            (Some(5_000_000), Some(20_900_000)),
            (None, None),
        ];
        assert_eq!(
            progress(&image, layers.into_iter()),
            "fetching rabbitmq:4 … 35 of 120 MB"
        );
    }
}
