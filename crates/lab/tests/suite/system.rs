//! The system around the process: messages, spans, faults, brokers, and its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpStream,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use broker::Broker;
use lab::{BrokerChoice, Fault, Lab, LabConfig, LabError, Part, Recording, Refusing};
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions,
        BasicRejectOptions, ConfirmSelectOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};
use opentelemetry_semantic_conventions::attribute::MESSAGING_MESSAGE_ID;
use otlp::{Behaviour, SpanKind};
use tokio::runtime::Runtime;

use super::{DEADLINE, MOMENT, Test, program, start, subject, whole, within_deadline};

/// All tests of this file.
pub const ALL: &[(&str, Test)] = &[
    (
        "system::what_was_published_is_settled",
        what_was_published_is_settled,
    ),
    ("system::two_labs_are_apart", two_labs_are_apart),
    (
        "system::one_process_after_another",
        one_process_after_another,
    ),
    (
        "system::what_is_under_way_is_not_at_rest",
        what_is_under_way_is_not_at_rest,
    ),
    ("system::messages_can_be_taken", messages_can_be_taken),
    ("system::rejections_are_counted", rejections_are_counted),
    ("system::a_receiver_that_refuses", a_receiver_that_refuses),
    ("system::a_receiver_that_hangs", a_receiver_that_hangs),
    ("system::a_receiver_comes_back", a_receiver_comes_back),
    ("system::all_held_it_still_ends", all_held_it_still_ends),
    ("system::all_cut_it_still_ends", all_cut_it_still_ends),
    ("url::its_queue_is_purged", a_used_queue_is_purged),
    ("url::labs_wait_for_each_other", labs_wait_for_each_other),
    ("url::names_may_be_odd", names_may_be_odd),
    ("url::nobody_is_there", nobody_is_there),
];

const QUEUE: &str = "signups";

/// How long a lab may take to end, whatever happens to it. Generous: it tells "in
/// time" from "when the machine is switched off".
const END: Duration = Duration::from_secs(30);

/// Publishes messages with these ids as tier1 does, and waits for their confirms.
pub fn publish(url: &str, ids: &[String]) {
    within_deadline(async {
        let properties = ConnectionProperties::default();
        let connection = Connection::connect(url, properties).await?;
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let declared = QueueDeclareOptions::durable();
        channel
            .queue_declare(QUEUE.into(), declared, FieldTable::default())
            .await?;
        for id in ids {
            let confirm = channel
                .basic_publish(
                    "".into(),
                    QUEUE.into(),
                    BasicPublishOptions::default(),
                    b"fast 1732537000.25",
                    BasicProperties::default()
                        .with_message_id(id.as_str().into())
                        .with_delivery_mode(2),
                )
                .await?;
            assert!(confirm.await?.is_ack());
        }
        connection.close(200, "done".into()).await
    })
    .expect("the broker takes messages");
}

pub fn amqp_url(lab: &Lab) -> String {
    let variables = lab.variables();
    let found = variables.into_iter().find(|(name, _)| name == "AMQP_URL");
    found.expect("tier1 is told").1
}

fn ids(prefix: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{prefix}-{number:02}"))
        .collect()
}

/// The ids of the messages that the consumer made spans for, sorted.
pub fn consumed_ids(recording: &Recording) -> Vec<String> {
    let mut ids: Vec<String> = recording
        .spans_of("consumer-service")
        .filter(|span| span.kind == SpanKind::Consumer)
        .map(|span| {
            let attributes = &mut span.attributes.iter();
            let id = attributes.find(|attribute| attribute.key == MESSAGING_MESSAGE_ID);
            let id = id.and_then(|id| id.value.as_str());
            id.expect("the message had one").to_owned()
        })
        .collect();
    ids.sort_unstable();
    ids
}

/// Drops the lab, and not for ever.
fn ends_in_time(lab: Lab) {
    let started = Instant::now();
    drop(lab);
    let elapsed = started.elapsed();
    assert!(elapsed < END, "{elapsed:?}");
}

fn what_was_published_is_settled() {
    let lab = start(whole());
    let ids = ids("settled", 20);
    for (count, id) in ids.iter().enumerate() {
        publish(&amqp_url(&lab), std::slice::from_ref(id));
        lab.settle().expect("it comes to rest");
        let recording = lab.recording(None);
        assert_eq!(consumed_ids(&recording), ids[..=count]);
        assert_eq!(lab.consumed().acked, 1 + count as u64);
    }
    publish(&amqp_url(&lab), &ids);
    let recording = lab.finish().expect("it comes to rest");
    assert_eq!(consumed_ids(&recording).len(), 2 * ids.len());
    // Each message is one trace: what the consumer did and its query.
    let traces = recording.traces();
    assert_eq!(traces.len(), 2 * ids.len());
    assert_eq!(recording.spans.len(), 4 * ids.len());
    assert!(recording.exit.is_none());
}

fn two_labs_are_apart() {
    let labs = [("one", start(whole())), ("two", start(whole()))];
    let addresses: BTreeSet<String> = labs
        .iter()
        .flat_map(|(_, lab)| lab.addresses())
        .map(|(_, address)| address)
        .collect();
    assert_eq!(addresses.len(), 8, "{addresses:?}");
    for (name, lab) in &labs {
        publish(&amqp_url(lab), &ids(name, 10));
    }
    for (name, lab) in labs {
        let recording = lab.finish().expect("it comes to rest");
        assert_eq!(consumed_ids(&recording), ids(name, 10));
    }
}

fn one_process_after_another() {
    let mut lab = start(whole());
    for name in ["one", "two"] {
        lab.spawn(&program(), &[(subject::ROLE, subject::OBEYS)])
            .expect("it starts");
        publish(&amqp_url(&lab), &ids(name, 3));
        let (recording, is_at_rest) = lab.finish_one().expect("it comes to rest");
        assert!(is_at_rest);
        assert_eq!(consumed_ids(&recording), ids(name, 3));
        let exit = recording.exit.expect("there was one");
        assert!(exit.status.success(), "{}", exit.status);
    }
}

fn what_is_under_way_is_not_at_rest() {
    let mut lab = start(whole());
    let mut is_at_rest_after = |role, connect: bool| {
        lab.spawn(&program(), &[(subject::ROLE, role)])
            .expect("it starts");
        let addresses: BTreeMap<_, _> = lab.addresses().into_iter().collect();
        let queue = addresses["queue"].trim_start_matches("amqp://");
        let connection = connect.then(|| TcpStream::connect(queue).expect("it listens"));
        let (_, is_at_rest) = lab.finish_one().expect("it comes to rest");
        drop(connection);
        is_at_rest
    };
    assert!(is_at_rest_after(subject::OBEYS, false));
    // Ended by the signal itself: who knows what it left behind.
    assert!(!is_at_rest_after(subject::STAYS, false));
    // Somebody goes on talking to the broker.
    assert!(!is_at_rest_after(subject::OBEYS, true));
}

fn rejections_are_counted() {
    rejections_are_counted_on(BrokerChoice::Embedded);
}

/// One is acknowledged, one rejected, one put back by a nack, and one answered by nobody.
pub fn rejections_are_counted_on(broker: BrokerChoice) {
    let lab = start(LabConfig::new(broker).without(Part::Consumer));
    let url = amqp_url(&lab);
    publish(&url, &ids("rejected", 4));
    assert_eq!(lab.rejections(), 0);
    within_deadline(async {
        let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let mut got = Vec::new();
        for _ in 0..4 {
            let message = channel.basic_get(QUEUE.into(), BasicGetOptions::default());
            got.push(message.await?.expect("there are four").delivery);
        }
        got[0].ack(BasicAckOptions::default()).await?;
        got[1].reject(BasicRejectOptions { requeue: false }).await?;
        let again = BasicNackOptions {
            requeue: true,
            ..BasicNackOptions::default()
        };
        got[2].nack(again).await?;
        connection.close(200, "OK".into()).await
    })
    .expect("the broker answers");
    assert_eq!(lab.rejections(), 2);
    let left = lab.take_messages().expect("the broker answers");
    assert_eq!(left.len(), 2);
}

fn messages_can_be_taken() {
    let lab = start(whole().without(Part::Consumer));
    publish(&amqp_url(&lab), &ids("taken", 3));
    let broker = lab.embedded_broker().expect("it is the one in use");
    assert_eq!(broker.queue("/", QUEUE).map(|queue| queue.ready), Some(3));
    let messages = lab.take_messages().expect("the broker answers");
    let got: Vec<_> = messages
        .iter()
        .filter_map(|message| message.message_id.clone())
        .collect();
    assert_eq!(got, ids("taken", 3));
    for message in messages {
        assert_eq!(message.body, "fast 1732537000.25");
        assert_eq!((&*message.exchange, &*message.routing_key), ("", QUEUE));
        assert_eq!(message.delivery_mode, Some(2));
        assert!(message.headers.inner().is_empty());
    }
    assert!(lab.take_messages().expect("the broker answers").is_empty());

    lab.delete_queue().expect("the broker answers");
    assert_eq!(broker.queue("/", QUEUE), None);
    lab.finish().expect("there is nothing to wait for");
}

/// A lab whose services have spans to export, and whose receiver behaves like this.
fn with_receiver(behaviour: Behaviour) -> Lab {
    let mut lab = start(whole());
    lab.receiver().set_behaviour(behaviour);
    publish(&amqp_url(&lab), &ids("receiver", 3));
    lab.wait_for_consumed(3, DEADLINE).expect("it consumes");
    lab.spawn(&program(), &[(subject::ROLE, subject::SERVES)])
        .expect("the subject starts");
    assert_eq!(lab.get("/").expect("it answers").status, 200);
    lab
}

fn a_receiver_that_refuses() {
    for behaviour in [
        Behaviour::Status(400),
        Behaviour::Status(500),
        Behaviour::Unavailable {
            retry_after: Duration::from_secs(3600),
        },
    ] {
        let mut lab = with_receiver(behaviour);
        lab.wait_for("a refused request", DEADLINE, |snapshot| {
            let mut requests = snapshot.requests().iter();
            requests.find(|request| request.answer >= 400).map(|_| ())
        })
        .expect("the consumer exports");
        lab.stop().expect("the subject stops");
        assert!(lab.recording(None).spans.is_empty());
        ends_in_time(lab);
    }
}

fn a_receiver_that_hangs() {
    let mut lab = with_receiver(Behaviour::Hang);
    lab.wait_for("a request without an answer", DEADLINE, |snapshot| {
        snapshot.requests().first().map(|_| ())
    })
    .expect("the consumer exports");
    lab.stop().expect("the subject stops");
    ends_in_time(lab);
}

fn a_receiver_comes_back() {
    let lab = with_receiver(Behaviour::Hang);
    lab.receiver().set_behaviour(Behaviour::Accept);
    let recording = lab.finish().expect("it comes to rest");
    assert_eq!(consumed_ids(&recording), ids("receiver", 3));
}

fn all_held_it_still_ends() {
    ends_with(Fault::Hold);
}

fn all_cut_it_still_ends() {
    ends_with(Fault::Cut);
}

/// Connections to all parts are open when the fault comes, and a message is on its way.
fn ends_with(fault: Fault) {
    let lab = start(whole());
    let open: Vec<std::net::TcpStream> = lab
        .variables()
        .iter()
        .filter(|(name, _)| name == "TIER2_URL" || name == "SAAS_URL")
        .filter_map(|(_, url)| url.strip_prefix("http://"))
        .map(|address| std::net::TcpStream::connect(address).expect("it listens"))
        .collect();
    assert_eq!(open.len(), 2);
    publish(&amqp_url(&lab), &ids("before", 1));
    for part in [Part::Tier2, Part::Saas, Part::Queue] {
        lab.fault(part, fault);
    }
    ends_in_time(lab);
}

/// A broker that runs already.
struct Elsewhere {
    broker: Broker,
    // It lives on this.
    _runtime: Runtime,
}

impl Elsewhere {
    fn start(config: broker::Config) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads can be started");
        let broker = runtime.block_on(Broker::start(config));
        Self {
            broker: broker.expect("a free port"),
            _runtime: runtime,
        }
    }
}

/// The system with the broker at `url`, without all that these tests don't need.
fn on(url: &str) -> LabConfig {
    LabConfig {
        broker: BrokerChoice::Url(url.to_owned()),
        ..whole()
    }
    .without(Part::Tier2)
    .without(Part::Saas)
}

fn a_used_queue_is_purged() {
    let elsewhere = Elsewhere::start(broker::Config::default());
    let ready = || elsewhere.broker.queue("/", QUEUE).map(|queue| queue.ready);
    publish(&elsewhere.broker.uri(), &ids("old", 3));
    assert_eq!(ready(), Some(3));

    let lab = start(on(&elsewhere.broker.uri()).without(Part::Consumer));
    assert_eq!(ready(), Some(0));
    assert!(lab.embedded_broker().is_none());
    publish(&amqp_url(&lab), &ids("new", 1));
    let messages = lab.take_messages().expect("the broker answers");
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].message_id.as_deref(), Some("new-00"));
    drop(lab);

    publish(&elsewhere.broker.uri(), &ids("old", 3));
    let lab = start(on(&elsewhere.broker.uri()));
    publish(&amqp_url(&lab), &ids("new", 2));
    let recording = lab.finish().expect("it comes to rest");
    assert_eq!(consumed_ids(&recording), ids("new", 2));
}

fn labs_wait_for_each_other() {
    let elsewhere = Elsewhere::start(broker::Config::default());
    let url = elsewhere.broker.uri();
    let first = start(on(&url));
    let (started, second_started) = mpsc::channel();
    let second = thread::spawn(move || {
        let second = start(on(&url));
        started.send(()).expect("the test waits for it");
        publish(&amqp_url(&second), &ids("second", 3));
        second.finish().expect("it comes to rest")
    });
    let early = second_started.recv_timeout(MOMENT);
    assert_eq!(early, Err(mpsc::RecvTimeoutError::Timeout));
    publish(&amqp_url(&first), &ids("first", 3));
    let recording = first.finish().expect("it comes to rest");
    assert_eq!(consumed_ids(&recording), ids("first", 3));

    second_started
        .recv_timeout(DEADLINE)
        .expect("it has the broker to itself");
    let recording = second.join().expect("the second lab ends well");
    assert_eq!(consumed_ids(&recording), ids("second", 3));
}

/// The forwarder's URL must carry what the broker's own did.
fn names_may_be_odd() {
    let elsewhere = Elsewhere::start(broker::Config {
        users: vec![("us er".to_owned(), "p@ss/w:rd%".to_owned())],
        ..broker::Config::default()
    });
    elsewhere.broker.create_vhost("a/b ü");
    let lab = start(on(&elsewhere.broker.vhost_uri("a/b ü")));
    publish(&amqp_url(&lab), &ids("odd", 1));
    let recording = lab.finish().expect("it comes to rest");
    assert_eq!(consumed_ids(&recording), ids("odd", 1));
    assert_eq!(elsewhere.broker.queue("/", QUEUE), None);
}

fn nobody_is_there() {
    let nobody = Refusing::start().expect("a free port");
    let url = format!("amqp://user:s3cr3t@{}/%2f", nobody.address());
    let Err(error) = Lab::start(on(&url)) else {
        panic!("there is no broker");
    };
    let told = error.to_string();
    assert!(
        matches!(
            error,
            LabError::Part {
                part: "the broker",
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(!format!("{told}{error:?}").contains("s3cr3t"), "{told}");
}
