//! RabbitMQ in Docker: how it is chosen, what is said without it, and labs on it.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use lab::{BrokerChoice, LabConfig, Part, Refusing};

use super::{Test, amqp_url, environment::broker, publish, start, within_deadline};

/// Tests that need no Docker.
pub const ALL: &[(&str, Test)] = &[
    ("docker::none_is_one_line", none_is_one_line),
    ("docker::a_silent_one_is_given_up", a_silent_one_is_given_up),
    ("docker::a_bad_image_is_named", a_bad_image_is_named),
];

/// Tests that need Docker.
pub const WITH_DOCKER: &[(&str, Test)] = &[
    ("docker::it_is_chosen", it_is_chosen),
    (
        "docker::what_was_published_is_settled",
        what_was_published_is_settled,
    ),
    ("docker::labs_are_apart", labs_are_apart),
    ("docker::rejections_are_counted", rejections_are_counted),
    (
        "docker::an_image_is_not_asked_for_in_vain",
        an_image_is_not_asked_for_in_vain,
    ),
];

const EMBEDDED: &str = "broker: embedded (Docker doesn't answer: ";
const FAILED: &str = "WORKBOOK_BROKER=docker: Docker doesn't answer: ";

/// How long a Docker that doesn't answer may hold anybody up, on a loaded machine.
const QUICKLY: Duration = Duration::from_secs(10);

/// Unset falls back and says why, `docker` fails, each in one line.
fn says_so(host: &str) {
    for (choice, expected) in [("", EMBEDDED), ("docker", FAILED)] {
        let began = Instant::now();
        let said = broker(&[("WORKBOOK_BROKER", choice), ("DOCKER_HOST", host)]);
        assert!(said.starts_with(expected), "{host}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(began.elapsed() < QUICKLY, "{:?}", began.elapsed());
    }
}

fn none_is_one_line() {
    let refusing = within_deadline(async { Refusing::start() }).expect("a free port");
    says_so("unix:///nowhere/docker.sock");
    says_so(&format!("tcp://{}", refusing.address()));
    says_so("tcp://docker.example:2375");
    says_so("nonsense");
}

fn a_silent_one_is_given_up() {
    // It takes connections, as the system does for it, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("it is bound");
    says_so(&format!("tcp://{address}"));
}

fn a_bad_image_is_named() {
    for choice in ["", "docker"] {
        let said = broker(&[
            ("WORKBOOK_BROKER", choice),
            ("WORKBOOK_RABBITMQ_IMAGE", "two words"),
        ]);
        let expected = "WORKBOOK_RABBITMQ_IMAGE must be the name of an image, such as name:tag\n";
        assert_eq!(said, expected);
    }
}

fn it_is_chosen() {
    for choice in [BrokerChoice::Docker, BrokerChoice::Automatic] {
        choice.prepare().expect("Docker answers");
        let said = choice.describe();
        assert!(said.starts_with("broker: RabbitMQ in Docker ("), "{said}");
    }
}

fn what_was_published_is_settled() {
    let lab = start(LabConfig::new(BrokerChoice::Docker));
    let ids: Vec<String> = (0..50)
        .map(|number| format!("docker-{number:02}"))
        .collect();
    publish(&amqp_url(&lab), &ids);
    let recording = lab.finish().expect("it comes to rest");
    assert_eq!(super::system::consumed_ids(&recording), ids);
}

/// Without a network each run would wait for it. Who asks for Docker asks again.
fn an_image_is_not_asked_for_in_vain() {
    // A registry that is not there, and a name that no run before had.
    let image = format!("127.0.0.1:1/in-vain-{}:none", std::process::id());
    let said = |choice| {
        broker(&[
            ("WORKBOOK_BROKER", choice),
            ("WORKBOOK_RABBITMQ_IMAGE", &image),
        ])
    };
    let again = "; `cargo workbook pull` tries again)\n";
    let first = said("");
    let expected = format!("broker: embedded (no image {image}: ");
    assert!(first.starts_with(&expected), "{first}");
    assert!(!first.ends_with(again), "{first}");
    let second = said("");
    assert_eq!(second, first.replace(")\n", again));
    let insisting = said("docker");
    assert!(!insisting.contains("tries again"), "{insisting}");
}

fn rejections_are_counted() {
    super::system::rejections_are_counted_on(BrokerChoice::Docker);
}

/// Each in a virtual host of its own, which goes with the lab.
fn labs_are_apart() {
    let config = || LabConfig::new(BrokerChoice::Docker).without(Part::Consumer);
    let (one, two) = (start(config()), start(config()));
    publish(&amqp_url(&one), &["one".to_owned()]);
    publish(&amqp_url(&two), &["two".to_owned()]);
    for (lab, id) in [(&one, "one"), (&two, "two")] {
        let messages = lab.take_messages().expect("the broker answers");
        let ids: Vec<_> = messages
            .iter()
            .map(|message| message.message_id.as_deref())
            .collect();
        assert_eq!(ids, [Some(id)]);
    }
    let name = |lab| {
        let url = amqp_url(lab);
        url.rsplit('/').next().expect("it has a path").to_owned()
    };
    let names = [name(&one), name(&two)];
    assert_ne!(names[0], names[1]);
    drop((one, two));
    let left = containers::block_on(async {
        let silent: containers::Say = std::sync::Arc::new(|_| {});
        containers::RabbitMq::shared(silent, true)
            .await?
            .vhosts()
            .await
    })
    .expect("RabbitMQ tells");
    assert!(!names.iter().any(|name| left.contains(name)), "{left:?}");
}
