//! Containers for real: several processes, and what one that was killed leaves behind.
//!
//! The processes are this same binary. Each test has a tag of its own on the image, and
//! so a shared container of its own: nobody else's is touched.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use containers::{Error, Image, OwnRabbitMq, Postgres, RabbitMq, block_on, trials};
use testcontainers::{
    bollard::{
        Docker,
        models::ContainerSummary,
        query_parameters::{
            InspectContainerOptions, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
            RemoveImageOptions, StopContainerOptions, TagImageOptionsBuilder,
        },
    },
    core::client::docker_client_instance,
};
use tokio::runtime::Runtime;

/// Makes this binary a process that uses the shared container until its input ends.
const ROLE: &str = "CONTAINERS_TEST_ROLE";

const IMAGE: &str = "WORKBOOK_RABBITMQ_IMAGE";

const DEADLINE: Duration = Duration::from_secs(240);

fn main() -> ExitCode {
    if std::env::var_os(ROLE).is_some() {
        return match user() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    trials::run(&[
        ("the_shared_one", the_shared_one),
        ("own_ones_go_with_their_test", own_ones_go_with_their_test),
        (
            "an_image_that_cannot_be_had_is_one_line",
            an_image_that_cannot_be_had_is_one_line,
        ),
    ])
}

/// Gets the shared RabbitMQ and a virtual host, and keeps it until the input ends.
fn user() -> Result<(), Error> {
    let rabbitmq = block_on(RabbitMq::shared(Arc::new(|line| eprintln!("{line}")), true))?;
    let vhost = block_on(rabbitmq.vhost())?;
    println!("{} {}", rabbitmq.address(), vhost.name());
    let _ = std::io::stdin().lines().count();
    Ok(())
}

/// Another process with a virtual host.
struct User {
    child: Child,
    address: String,
    vhost: String,
}

/// Starts so many at once and waits until each has its virtual host.
fn users(image: &str, count: usize) -> Vec<User> {
    let children: Vec<Child> = (0..count)
        .map(|_| {
            Command::new(std::env::current_exe().expect("the system knows"))
                .env(ROLE, "user")
                .env(IMAGE, image)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("this binary is there")
        })
        .collect();
    children
        .into_iter()
        .map(|mut child| {
            let mut line = String::new();
            let stdout = child.stdout.take().expect("it is piped");
            BufReader::new(stdout)
                .read_line(&mut line)
                .expect("it writes text");
            let words = line.trim_end().split_once(' ');
            let (address, vhost) = words
                .filter(|(address, _)| address.starts_with("127.0.0.1:"))
                .unwrap_or_else(|| panic!("{line}"));
            User {
                address: address.to_owned(),
                vhost: vhost.to_owned(),
                child,
            }
        })
        .collect()
}

impl User {
    /// Lets it end in order.
    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("it is ours").success());
    }

    fn kill(mut self) -> String {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is ours");
        self.vhost
    }
}

/// A tag of these tests' own on RabbitMQ's image, and what was made of it: gone at the end.
struct Tag {
    name: String,
    docker: Docker,
    runtime: Runtime,
}

impl Tag {
    fn new() -> Self {
        let runtime = Runtime::new().expect("threads can be started");
        let docker = runtime
            .block_on(docker_client_instance())
            .expect("Docker is there");
        let image = Image::rabbitmq().expect("the variable names an image");
        let tag = std::process::id().to_string();
        let options = TagImageOptionsBuilder::new()
            .repo("otel-workbook/test")
            .tag(&tag)
            .build();
        let say = Arc::new(|line: &str| eprintln!("{line}"));
        block_on(containers::pull(say)).expect("the image can be had");
        runtime
            .block_on(docker.tag_image(&image.to_string(), Some(options)))
            .expect("the image is here");
        Self {
            name: format!("otel-workbook/test:{tag}"),
            docker,
            runtime,
        }
    }

    /// The containers that were made of it.
    fn containers(&self) -> Vec<ContainerSummary> {
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let listed = self
            .runtime
            .block_on(self.docker.list_containers(Some(options)));
        let mut containers = listed.expect("Docker lists them");
        containers.retain(|container| container.image.as_ref() == Some(&self.name));
        containers
    }

    /// The id of the only one.
    fn container(&self) -> String {
        let mut containers = self.containers();
        assert_eq!(containers.len(), 1, "{containers:#?}");
        containers.remove(0).id.expect("it has one")
    }
}

impl Drop for Tag {
    fn drop(&mut self) {
        let remove = RemoveContainerOptionsBuilder::new()
            .force(true)
            .v(true)
            .build();
        for container in self.containers() {
            let id = container.id.unwrap_or_default();
            let removed = self.docker.remove_container(&id, Some(remove.clone()));
            let _ = self.runtime.block_on(removed);
        }
        let untagged = self
            .docker
            .remove_image(&self.name, None::<RemoveImageOptions>, None);
        let _ = self.runtime.block_on(untagged);
    }
}

/// One after the other on the same container: RabbitMQ takes its time to start.
fn the_shared_one() {
    let tag = Tag::new();
    four_start_at_once_from_nothing(&tag);
    its_ports_are_on_this_machine_only(&tag);
    what_the_dead_leave_is_swept(&tag);
    what_is_stopped_or_broken_is_made_anew(&tag);
}

fn four_start_at_once_from_nothing(tag: &Tag) {
    let users = users(&tag.name, 4);
    let addresses: BTreeSet<&String> = users.iter().map(|user| &user.address).collect();
    assert_eq!(addresses.len(), 1, "{addresses:?}");
    let vhosts: BTreeSet<&String> = users.iter().map(|user| &user.vhost).collect();
    assert_eq!(vhosts.len(), 4, "{vhosts:?}");
    tag.container();
    users.into_iter().for_each(User::end);
    // It outlives them.
    tag.container();
}

fn what_is_stopped_or_broken_is_made_anew(tag: &Tag) {
    let start = || {
        users(&tag.name, 1).into_iter().for_each(User::end);
        tag.container()
    };
    let first = start();
    assert_eq!(start(), first, "one that answers is used again");

    let stopped = tag
        .docker
        .stop_container(&first, None::<StopContainerOptions>);
    tag.runtime.block_on(stopped).expect("it can be stopped");
    let second = start();
    assert_ne!(second, first);

    // It is there, has its ports, and says nothing.
    pause(tag, &second);
    assert_ne!(start(), second);
}

/// Freezes its processes, which the kernel of a busy machine doesn't always do at once.
fn pause(tag: &Tag, id: &str) {
    let began = Instant::now();
    while let Err(error) = tag.runtime.block_on(tag.docker.pause_container(id)) {
        assert!(began.elapsed() < DEADLINE, "it can't be paused: {error}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn what_the_dead_leave_is_swept(tag: &Tag) {
    let mut both = users(&tag.name, 2);
    let killed = both.remove(0).kill();
    let alive = both.remove(0);
    // The next to come finds what is left.
    let third = users(&tag.name, 1).remove(0);
    let left = vhosts(tag);
    assert!(!left.contains(&killed), "{killed} is in {left:?}");
    assert!(
        left.contains(&alive.vhost),
        "{} is not in {left:?}",
        alive.vhost
    );
    assert!(
        left.contains(&third.vhost),
        "{} is not in {left:?}",
        third.vhost
    );
    alive.end();
    third.end();
    assert_eq!(vhosts(tag), ["/"]);
}

/// The virtual hosts as RabbitMQ itself lists them.
fn vhosts(tag: &Tag) -> Vec<String> {
    let id = tag.container();
    let output = Command::new("docker")
        .args(["exec", &id, "rabbitmqctl", "-q", "list_vhosts", "name"])
        .args(["--no-table-headers"])
        .output()
        .expect("the docker command is there");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(ToOwned::to_owned).collect()
}

fn its_ports_are_on_this_machine_only(tag: &Tag) {
    let id = tag.container();
    let inspected = tag
        .docker
        .inspect_container(&id, None::<InspectContainerOptions>);
    let inspected = tag.runtime.block_on(inspected).expect("it is there");
    let ports = inspected
        .network_settings
        .and_then(|network| network.ports)
        .expect("it has ports");
    let published: Vec<_> = ports.into_values().flatten().flatten().collect();
    assert_eq!(published.len(), 2, "{published:?}");
    for binding in published {
        assert_eq!(binding.host_ip.as_deref(), Some("127.0.0.1"));
    }
}

fn own_ones_go_with_their_test() {
    let postgres = Postgres::start_new().expect("PostgreSQL starts");
    let rabbitmq = OwnRabbitMq::start_new().expect("RabbitMQ starts");
    assert_eq!(own().len(), 2, "{:?}", own());
    drop(postgres);
    assert_eq!(own().len(), 1, "{:?}", own());

    let uri = rabbitmq.uri();
    rabbitmq.stop().expect("it stops");
    let address = uri.split(['@', '/']).nth(3).expect("it has an address");
    let refused = std::net::TcpStream::connect(address);
    assert!(refused.is_err(), "{refused:?}");
    // It has answered when this returns, at the same address.
    rabbitmq.start().expect("it starts");
    assert_eq!(rabbitmq.uri(), uri);
    let vhosts = rabbitmq
        .control(&["-q", "list_vhosts"])
        .expect("it answers");
    assert!(vhosts.lines().any(|line| line == "/"), "{vhosts}");
    let error = rabbitmq
        .control(&["nonsense"])
        .expect_err("no such command");
    assert_eq!(error.to_string().lines().count(), 1, "{error}");

    drop(rabbitmq);
    assert!(own().is_empty(), "{:?}", own());
}

/// The names of this process's own containers.
fn own() -> Vec<String> {
    let runtime = Runtime::new().expect("threads can be started");
    runtime.block_on(async {
        let docker = docker_client_instance().await.expect("Docker is there");
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let listed = docker.list_containers(Some(options)).await;
        let mark = format!("-{}-", std::process::id());
        listed
            .expect("Docker lists them")
            .into_iter()
            .filter_map(|container| container.names?.into_iter().next())
            .filter(|name| name.starts_with("/otel-workbook-own-") && name.contains(&mark))
            .collect()
    })
}

/// From a registry that is not there, so that nobody's network matters.
fn an_image_that_cannot_be_had_is_one_line() {
    let began = Instant::now();
    let output = Command::new(std::env::current_exe().expect("the system knows"))
        .env(ROLE, "user")
        .env(IMAGE, "127.0.0.1:1/rabbitmq:none")
        .stdin(Stdio::null())
        .output()
        .expect("this binary is there");
    assert!(!output.status.success());
    assert!(began.elapsed() < DEADLINE);
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(
        said.starts_with("no image 127.0.0.1:1/rabbitmq:none: "),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}
