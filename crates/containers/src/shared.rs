//! The container that all runs on a machine share: get it, or create it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use testcontainers::{
    ContainerRequest, GenericImage, ImageExt, ReuseDirective, core::client::ClientError,
    runners::AsyncRunner,
};

use crate::{
    docker::{
        ANSWER_DEADLINE, Docker, LABEL, PATIENCE, PATIENT_PULL_DEADLINE, PULL_DEADLINE, Say,
        request,
    },
    error::{Error, cause},
    image::Image,
    lock::{Lock, private},
    owner::{Owner, short_hash},
    rabbitmq::{AMQP, MANAGEMENT, READY_DEADLINE, RabbitMq},
    runtime,
};

/// The label's value of shared containers.
const SHARED: &str = "shared";

/// How long a container that runs already may take to answer, until it counts as
/// broken. Long: somebody may have started it this moment, on a loaded machine.
const FOUND_DEADLINE: Duration = Duration::from_secs(45);

/// How long another process may hold the lock: it fetches, removes and starts.
const LOCK_DEADLINE: Duration = Duration::from_secs(300);

/// How long a container that another process has made may take until it runs.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// How long an image that could not be fetched is not asked for again.
const IN_VAIN: Duration = Duration::from_secs(600);

/// How long to wait for the lock before saying so.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// What makes RabbitMQ start sooner and leave more of the processor to labs. A check makes
/// several virtual hosts; a good part of what that cost was logging and statistics.
const ENVIRONMENT: [(&str, &str); 3] = [
    (
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
        // Erlang's schedulers otherwise wait busily for work for long, on cores that labs
        // need. Not at all is too little: each file that RabbitMQ opens is handed to another
        // thread and back, thousands while it starts, and in a virtual machine to wake a core
        // is dear (measured: an answer after 5 to 7 s instead of 9 to 10).
        //
        // The management plugin is here for virtual hosts, not for the statistics that it
        // otherwise collects of each connection, channel and queue.
        "+sbwt very_short +sbwtdcpu none +sbwtdio very_short \
         -rabbitmq_management_agent disable_metrics_collector true",
    ),
    // RabbitMQ says 40 lines of the life of a virtual host and its connections.
    ("RABBITMQ_LOG", "warning"),
    // Otherwise the C library looks into the file system for the time zone, twice a line.
    ("TZ", "UTC"),
];

/// `request` with what RabbitMQ needs in its environment.
pub(crate) fn with_environment(
    request: ContainerRequest<GenericImage>,
) -> ContainerRequest<GenericImage> {
    ENVIRONMENT.iter().fold(request, |request, (name, value)| {
        request.with_env_var(*name, *value)
    })
}

/// Fetches RabbitMQ's image, if it isn't here. One line that says what was done.
///
/// # Errors
/// If Docker doesn't answer or the image can't be had.
pub async fn pull(say: Say) -> Result<String, Error> {
    runtime::spawn(async move {
        let image = Image::rabbitmq()?;
        let docker = Docker::connect(PATIENCE).await?;
        if docker.has(&image).await? {
            return Ok(format!("{image} is here already"));
        }
        fetch(&docker, &image, &say, true, PATIENT_PULL_DEADLINE).await?;
        Ok(format!("{image} is here now"))
    })
    .await
}

/// Removes the shared containers, with all their data, and what tests that were
/// killed have left. The names of what was removed.
///
/// # Errors
/// If Docker doesn't answer or refuses.
pub async fn stop() -> Result<Vec<String>, Error> {
    runtime::spawn(async {
        let docker = Docker::connect(PATIENCE).await?;
        let mut removed = Vec::new();
        for (name, labels) in docker.ours().await? {
            let label = labels.get(LABEL).map(String::as_str).unwrap_or_default();
            if label == SHARED {
                // Not while somebody starts it.
                let _lock = lock(&name, &(std::sync::Arc::new(|_: &str| {}) as Say)).await?;
                docker.remove(&name).await?;
                removed.push(name);
            } else if Owner::parse(label).is_some_and(|owner| owner.has_ended()) {
                docker.remove(&name).await?;
                removed.push(name);
            }
        }
        Ok(removed)
    })
    .await
}

/// The shared RabbitMQ made of `image`, answering.
pub(crate) async fn get_or_create(
    image: &Image,
    say: &Say,
    insist: bool,
) -> Result<RabbitMq, Error> {
    let patience = if insist { PATIENCE } else { ANSWER_DEADLINE };
    let docker = Docker::connect(patience).await?;
    let name = format!("otel-workbook-rabbitmq-{}", short_hash(&image.to_string()));
    // Without the lock: the usual case, in which nobody has to wait for anybody.
    if let Some(rabbitmq) = running(&docker, &name).await?
        && rabbitmq.answers().await.is_ok()
    {
        return Ok(rabbitmq);
    }
    let _lock = lock(&name, say).await?;
    if let Some(rabbitmq) = running(&docker, &name).await?
        && rabbitmq
            .ready(&docker, image, &name, FOUND_DEADLINE)
            .await
            .is_ok()
    {
        return Ok(rabbitmq);
    }
    fetch(&docker, image, say, insist, PULL_DEADLINE).await?;
    // Stopped, broken, or not there. One that was stopped starts no faster than a
    // new one, and what is in it belongs to nobody any more.
    docker.remove(&name).await?;
    say(&format!("starting RabbitMQ in Docker ({image}) …"));
    let began = Instant::now();
    let request = request(image, &name, SHARED, &[(0, AMQP), (0, MANAGEMENT)]);
    let started = with_environment(request)
        .with_reuse(ReuseDirective::Always)
        .start()
        .await;
    match started {
        // Flagged for reuse, it stays when this value goes.
        Ok(container) => drop(container),
        // Somebody with another temporary directory, and so another lock, was faster.
        Err(error) if is_conflict(&error) => {}
        Err(error) => {
            return Err(Error::Container {
                image: image.to_string(),
                reason: cause(&error),
            });
        }
    }
    let Some(rabbitmq) = started_by_now(&docker, &name).await? else {
        let last = docker.last_line(&name).await;
        return Err(Error::Container {
            image: image.to_string(),
            reason: format!("it ended at once; its last line: {last}"),
        });
    };
    if let Err(error) = rabbitmq.ready(&docker, image, &name, READY_DEADLINE).await {
        // The next run would wait for it once more.
        let _ = docker.remove(&name).await;
        return Err(error);
    }
    say(&format!(
        "RabbitMQ answers after {:.1} s; it stays for the next run (`cargo workbook stop` removes it)",
        began.elapsed().as_secs_f64()
    ));
    Ok(rabbitmq)
}

/// The container's RabbitMQ once it runs, which for another process's may be in a moment.
/// `None` if it has ended, or doesn't start.
async fn started_by_now(docker: &Docker, name: &str) -> Result<Option<RabbitMq>, Error> {
    let began = Instant::now();
    loop {
        if let Some(rabbitmq) = running(docker, name).await? {
            return Ok(Some(rabbitmq));
        }
        let waits = docker
            .find(name)
            .await?
            .is_some_and(|found| found.is_only_created());
        if !waits || began.elapsed() > START_DEADLINE {
            return Ok(None);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Sees that `image` is here, and remembers for a while if it can't be had.
async fn fetch(
    docker: &Docker,
    image: &Image,
    say: &Say,
    insist: bool,
    deadline: Duration,
) -> Result<(), Error> {
    let name = format!("otel-workbook-no-image-{}", short_hash(&image.to_string()));
    let note = private(&name, "txt");
    if docker.has(image).await? {
        return Ok(());
    }
    if !insist && let Some(reason) = recent(&note) {
        return Err(Error::Image {
            image: image.to_string(),
            reason: format!("{reason}; `cargo workbook pull` tries again"),
        });
    }
    let fetched = docker.pull(image, say, deadline).await;
    // Without the note the next run tries again: nothing to fail for.
    let _ = match &fetched {
        Err(Error::Image { reason, .. }) => std::fs::write(&note, reason),
        _ => std::fs::remove_file(&note),
    };
    fetched
}

/// What the note says, if it is not old.
fn recent(note: &Path) -> Option<String> {
    let written = std::fs::metadata(note).ok()?.modified().ok()?;
    let age = written.elapsed().ok()?;
    (age < IN_VAIN).then(|| std::fs::read_to_string(note).ok())?
}

/// The container's RabbitMQ, if it runs with both ports published.
async fn running(docker: &Docker, name: &str) -> Result<Option<RabbitMq>, Error> {
    let Some(found) = docker.find(name).await? else {
        return Ok(None);
    };
    match (found.port(AMQP), found.port(MANAGEMENT)) {
        (Some(amqp), Some(management)) if found.is_running() => {
            RabbitMq::new(amqp, management).map(Some)
        }
        _ => Ok(None),
    }
}

fn is_conflict(error: &testcontainers::TestcontainersError) -> bool {
    matches!(
        error,
        testcontainers::TestcontainersError::Client(ClientError::CreateContainer(
            testcontainers::bollard::errors::Error::DockerResponseServerError {
                status_code: 409,
                ..
            }
        ))
    )
}

/// Waits until no other process starts or stops the container called `name`.
async fn lock(name: &str, say: &Say) -> Result<Lock, Error> {
    let (name, say) = (name.to_owned(), say.clone());
    tokio::task::spawn_blocking(move || {
        let waits = || say("another process starts RabbitMQ in Docker, waiting for it …");
        let too_long = format!("another process has held it for {LOCK_DEADLINE:?}");
        Lock::wait(&name, LOCK_PATIENCE, waits, LOCK_DEADLINE, &too_long)
    })
    .await
    .map_err(|error| Error::Io(std::io::Error::other(error)))?
    .map_err(Error::Io)
}
