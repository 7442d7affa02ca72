//! Mostly valid conversations of up to three clients with one broker, so that deep
//! states are reached: content over several frames, confirms, consumers, deliveries
//! settled with odd tags, memory that runs short, clients that don't read.
#![no_main]

use amq_protocol::protocol::{
    AMQPClass, access, basic, channel, confirm, connection, exchange, queue, tx,
};
use amq_protocol::types::{AMQPValue, FieldTable};
use arbitrary::{Arbitrary, Unstructured};
use broker::Config;
use broker::wire::Engine;
use broker_fuzz::client::Client;
use broker_fuzz::{FRAME_MAX, FRAME_MIN, audit, check_end, config, frames};
use libfuzzer_sys::fuzz_target;

/// What is there from the start.
const QUEUES: [&str; 2] = ["q", "r"];

#[derive(Debug)]
struct Conversation {
    limits: Limits,
    introductions: [Introduction; 3],
    steps: Vec<Step>,
}

impl<'a> Arbitrary<'a> for Conversation {
    /// Takes steps for as long as there are bytes. A derived `Vec` would end with
    /// every second of them, on average.
    fn arbitrary(bytes: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let limits = bytes.arbitrary()?;
        let introductions = bytes.arbitrary()?;
        let mut steps = Vec::new();
        // More find nothing that these don't, and take longer.
        while !bytes.is_empty() && steps.len() < 200 {
            steps.push(bytes.arbitrary()?);
        }
        Ok(Self {
            limits,
            introductions,
            steps,
        })
    }
}

/// Which of the broker's limits are near.
#[derive(Arbitrary, Debug)]
struct Limits {
    memory: Limit,
    outgoing: Limit,
}

#[derive(Arbitrary, Debug)]
enum Limit {
    Far,
    Near,
    Nothing,
}

#[derive(Arbitrary, Debug)]
struct Step {
    who: u8,
    what: What,
}

/// What would end a channel or a connection happens in one of eight cases: if it did
/// more often, no conversation would get far.
#[derive(Arbitrary, Clone, Debug)]
struct Seldom<T>(u8, T);

impl<T> Seldom<T> {
    fn get(&self) -> Option<&T> {
        (self.0 >= 0xE0).then_some(&self.1)
    }
}

#[derive(Arbitrary, Debug)]
enum What {
    /// The connection is lost, and made anew by the next step.
    Lose(Seldom<Introduction>),
    Read,
    Content(On, Content),
    Declare(On, Declare),
    Consume(On, Consume),
    Settle(On, Settle),
    Method(On, Method),
    Rare(On, Seldom<Rare>),
}

/// What a client does on its next connection.
#[derive(Arbitrary, Clone, Debug)]
struct Introduction {
    /// Reads only when told to, and so may have its output pile up.
    is_slow: bool,
    /// Never answers the broker's closes, and goes on instead.
    is_rude: bool,
    /// Doesn't know RabbitMQ's extensions.
    is_plain: bool,
    has_small_frames: bool,
    uses_amqplain: bool,
    mistake: Seldom<Mistake>,
}

#[derive(Arbitrary, Clone, Debug)]
enum Mistake {
    Password,
    Vhost,
    /// What is asked for is higher than the offer, or not.
    Tuning(u16, u32),
}

#[derive(Arbitrary, Debug)]
struct On(u8);

impl On {
    /// Nearly always one of the two that are open from the start.
    fn channel(&self) -> u16 {
        match self.0 {
            255 => 0,
            254 => 9,
            253 => 3,
            n => 1 + u16::from(n % 2),
        }
    }
}

#[derive(Arbitrary, Debug)]
struct Name(u8);

impl Name {
    fn queue(&self) -> String {
        match self.0 {
            // The one that was declared last
            240.. => String::new(),
            239 => "amq.reserved".to_owned(),
            230..=238 => "long".repeat(63),
            200..=229 => ["s", "t"][usize::from(self.0 % 2)].to_owned(),
            n => QUEUES[usize::from(n % 2)].to_owned(),
        }
    }

    fn exchange(&self) -> String {
        match self.0 {
            255 => "none".to_owned(),
            240.. => "amq.topic".to_owned(),
            _ => String::new(),
        }
    }

    /// Mostly one that the broker makes: to use one again ends the connection.
    fn tag(&self) -> String {
        match self.0 {
            224.. => ["a", "b", "c", "d"][usize::from(self.0 % 4)].to_owned(),
            _ => String::new(),
        }
    }
}

#[derive(Arbitrary, Debug)]
struct Content {
    exchange: Name,
    key: Name,
    is_mandatory: bool,
    properties: Seldom<Properties>,
    size: u16,
    /// How large the portions of the body are.
    split: u16,
    flaw: Seldom<Flaw>,
}

#[derive(Arbitrary, Debug)]
enum Properties {
    None,
    /// A table nested that deep
    Headers(u8),
    UserId(bool),
    Expiration,
    Raw(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Flaw {
    /// There is no header.
    Header,
    /// So many frames of the body are not sent.
    Short(u8),
    /// The header announces that many bytes more or less.
    Size(i64),
}

#[derive(Arbitrary, Debug)]
struct Declare {
    name: Name,
    odd: Seldom<(u8, Arguments)>,
}

#[derive(Arbitrary, Debug)]
enum Arguments {
    None,
    Nested(u8),
    Classic,
    Ttl,
}

#[derive(Arbitrary, Debug)]
struct Consume {
    name: Name,
    tag: Name,
    no_ack: Seldom<()>,
    is_exclusive: Seldom<()>,
    nowait: bool,
    /// Sets the prefetch count first.
    prefetch: Option<(u8, bool)>,
}

#[derive(Arbitrary, Debug)]
enum Settle {
    Ack {
        tag: Tag,
        multiple: bool,
    },
    Nack {
        tag: Tag,
        multiple: bool,
        requeue: bool,
    },
    Reject {
        tag: Tag,
        requeue: bool,
    },
    Recover,
}

/// One of those that wait to be settled, or another.
#[derive(Arbitrary, Debug)]
struct Tag(u8, Seldom<OddTag>);

#[derive(Arbitrary, Debug)]
enum OddTag {
    Zero,
    Largest,
    Any(u64),
}

#[derive(Arbitrary, Debug)]
enum Method {
    Confirm,
    Qos(u8, bool),
    Get(Name, bool),
    Cancel(u8, bool),
    Purge(Seldom<Name>),
    Delete(Seldom<(Name, u8)>),
    Close(Seldom<()>),
}

#[derive(Arbitrary, Debug)]
enum Rare {
    Heartbeat,
    Flow(bool),
    CloseOk,
    Open,
    Bind(Name, Name),
    Unbind(Name, Name),
    DeclareExchange(Name, bool),
    DeleteExchange(Name),
    Access,
    Transaction,
    FromServer,
    RecoverAsync(bool),
    CloseConnection,
    CloseConnectionOk,
    OpenConnection,
    UpdateSecret,
    Prefetch(u32),
    Frame(u8, Vec<u8>),
    Bytes(Vec<u8>),
}

fn nested(depth: u8) -> FieldTable {
    let mut table = FieldTable::default();
    for _ in 0..depth % 80 {
        let mut outer = FieldTable::default();
        outer.insert("k".into(), AMQPValue::FieldTable(table));
        table = outer;
    }
    table
}

impl Tag {
    /// `None` if there is nothing to settle.
    fn value(&self, unsettled: &[u64]) -> Option<u64> {
        match self.1.get() {
            None => {
                let at = usize::from(self.0).checked_rem(unsettled.len())?;
                Some(unsettled[at])
            }
            Some(OddTag::Zero) => Some(0),
            Some(OddTag::Largest) => Some(u64::MAX),
            Some(OddTag::Any(tag)) => Some(*tag),
        }
    }
}

fn basic(channel: u16, method: basic::AMQPMethod) -> Vec<u8> {
    frames::method(channel, AMQPClass::Basic(method))
}

fn content(channel: u16, content: &Content) -> Vec<u8> {
    let mut bytes = basic(
        channel,
        basic::AMQPMethod::Publish(basic::Publish {
            exchange: content.exchange.exchange().as_str().into(),
            routing_key: content.key.queue().as_str().into(),
            mandatory: content.is_mandatory,
            immediate: false,
        }),
    );
    let properties = match content.properties.get() {
        // Persistent
        None => vec![0x10, 0, 2],
        Some(Properties::None) => vec![0, 0],
        Some(Properties::Headers(depth)) => {
            // A queue's declaration ends with its table.
            let with_table = queue::Declare {
                arguments: nested(*depth),
                ..queue::Declare::default()
            };
            let method = queue::AMQPMethod::Declare(with_table);
            let frame = frames::method(1, AMQPClass::Queue(method));
            let mut properties = vec![0x20, 0];
            properties.extend_from_slice(&frame[7 + 4 + 4..frame.len() - 1]);
            properties
        }
        Some(Properties::UserId(true)) => vec![0, 0x10, 5, b'g', b'u', b'e', b's', b't'],
        Some(Properties::UserId(false)) => vec![0, 0x10, 1, b'x'],
        Some(Properties::Expiration) => vec![1, 0, 1, b'1'],
        Some(Properties::Raw(raw)) => raw.clone(),
    };
    // Small ones, too, so that some fit where little does
    let size = match content.size {
        size @ ..0x8000 => usize::from(size % 100),
        size => usize::from(size % 6000),
    };
    let (announced, left_out) = match content.flaw.get() {
        None => (size as u64, 0),
        Some(Flaw::Header) => return bytes,
        Some(Flaw::Short(frames)) => (size as u64, usize::from(*frames)),
        Some(Flaw::Size(difference)) => ((size as u64).wrapping_add_signed(*difference), 0),
    };
    bytes.extend(frames::header(channel, announced, &properties));
    let body = vec![7; size];
    let largest = FRAME_MAX as usize - 8;
    // Not smaller than this, so that one step isn't thousands of frames.
    let portion = usize::from(content.split).clamp(size / 16 + 1, largest);
    let portions: Vec<_> = body.chunks(portion).collect();
    for portion in &portions[..portions.len().saturating_sub(left_out)] {
        bytes.extend(frames::raw(3, channel, portion));
    }
    bytes
}

fn declare(channel: u16, declare: &Declare) -> Vec<u8> {
    let mut arguments = FieldTable::default();
    let (flags, odd) = declare.odd.get().unwrap_or(&(0, Arguments::None));
    match odd {
        Arguments::None => {}
        Arguments::Nested(depth) => arguments = nested(*depth),
        Arguments::Classic => {
            arguments.insert(
                "x-queue-type".into(),
                AMQPValue::LongString("classic".into()),
            );
        }
        Arguments::Ttl => {
            arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(1));
        }
    }
    let has = |bit: u8| flags & (1 << bit) != 0;
    let method = queue::AMQPMethod::Declare(queue::Declare {
        queue: declare.name.queue().as_str().into(),
        // Each of these makes most later declarations differ from the first.
        passive: has(0) && has(1),
        durable: has(2) && has(3),
        exclusive: has(4),
        auto_delete: has(5),
        nowait: has(6),
        arguments,
    });
    frames::method(channel, AMQPClass::Queue(method))
}

fn consume(channel: u16, consume: &Consume) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some((count, global)) = consume.prefetch {
        bytes.extend(qos(channel, count, global));
    }
    let method = basic::AMQPMethod::Consume(basic::Consume {
        queue: consume.name.queue().as_str().into(),
        consumer_tag: consume.tag.tag().as_str().into(),
        no_local: false,
        no_ack: consume.no_ack.get().is_some(),
        exclusive: consume.is_exclusive.get().is_some(),
        nowait: consume.nowait,
        arguments: FieldTable::default(),
    });
    bytes.extend(basic(channel, method));
    bytes
}

fn qos(channel: u16, count: u8, global: bool) -> Vec<u8> {
    let qos = basic::Qos {
        prefetch_count: (count % 5).into(),
        global,
    };
    basic(channel, basic::AMQPMethod::Qos(qos))
}

/// Nothing if there is nothing to settle.
fn settle(channel: u16, settle: &Settle, client: &mut Client) -> Option<Vec<u8>> {
    let unsettled = client.unsettled(channel);
    let method = match settle {
        Settle::Ack { tag, multiple } => basic::AMQPMethod::Ack(basic::Ack {
            delivery_tag: tag.value(unsettled)?,
            multiple: *multiple,
        }),
        Settle::Nack {
            tag,
            multiple,
            requeue,
        } => basic::AMQPMethod::Nack(basic::Nack {
            delivery_tag: tag.value(unsettled)?,
            multiple: *multiple,
            requeue: *requeue,
        }),
        Settle::Reject { tag, requeue } => basic::AMQPMethod::Reject(basic::Reject {
            delivery_tag: tag.value(unsettled)?,
            requeue: *requeue,
        }),
        Settle::Recover => basic::AMQPMethod::Recover(basic::Recover { requeue: true }),
    };
    client.settled(channel, &method);
    Some(basic(channel, method))
}

/// Nothing if it is too seldom, or there is nothing to do it to.
fn method(on: u16, method: &Method, client: &Client) -> Option<Vec<u8>> {
    let class = match method {
        Method::Confirm => {
            AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select::default()))
        }
        Method::Qos(count, global) => return Some(qos(on, *count, *global)),
        Method::Get(name, no_ack) => AMQPClass::Basic(basic::AMQPMethod::Get(basic::Get {
            queue: name.queue().as_str().into(),
            no_ack: *no_ack,
        })),
        Method::Cancel(which, nowait) => {
            let tags = client.consumers(on);
            let at = usize::from(*which).checked_rem(tags.len())?;
            AMQPClass::Basic(basic::AMQPMethod::Cancel(basic::Cancel {
                consumer_tag: tags[at].as_str().into(),
                nowait: *nowait,
            }))
        }
        Method::Purge(name) => AMQPClass::Queue(queue::AMQPMethod::Purge(queue::Purge {
            queue: name.get()?.queue().as_str().into(),
            nowait: false,
        })),
        Method::Delete(delete) => {
            let (name, flags) = delete.get()?;
            AMQPClass::Queue(queue::AMQPMethod::Delete(queue::Delete {
                queue: name.queue().as_str().into(),
                if_unused: flags & 1 != 0,
                if_empty: flags & 2 != 0,
                nowait: flags & 4 != 0,
            }))
        }
        Method::Close(really) => {
            really.get()?;
            AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close::default()))
        }
    };
    Some(frames::method(on, class))
}

fn rare(on: u16, rare: &Rare) -> Vec<u8> {
    use connection::AMQPMethod as Connection;

    let class = match rare {
        Rare::Heartbeat => return frames::raw(8, 0, &[]),
        Rare::Flow(active) => {
            AMQPClass::Channel(channel::AMQPMethod::Flow(channel::Flow { active: *active }))
        }
        Rare::CloseOk => return frames::channel_close_ok(on),
        Rare::Open => return frames::channel_open(on),
        Rare::Bind(name, to) => AMQPClass::Queue(queue::AMQPMethod::Bind(queue::Bind {
            queue: name.queue().as_str().into(),
            exchange: to.exchange().as_str().into(),
            ..queue::Bind::default()
        })),
        Rare::Unbind(name, from) => AMQPClass::Queue(queue::AMQPMethod::Unbind(queue::Unbind {
            queue: name.queue().as_str().into(),
            exchange: from.exchange().as_str().into(),
            ..queue::Unbind::default()
        })),
        Rare::DeclareExchange(name, passive) => {
            AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
                exchange: name.exchange().as_str().into(),
                kind: "topic".into(),
                passive: *passive,
                durable: true,
                ..exchange::Declare::default()
            }))
        }
        Rare::DeleteExchange(name) => {
            AMQPClass::Exchange(exchange::AMQPMethod::Delete(exchange::Delete {
                exchange: name.exchange().as_str().into(),
                ..exchange::Delete::default()
            }))
        }
        Rare::Access => AMQPClass::Access(access::AMQPMethod::Request(access::Request::default())),
        Rare::Transaction => AMQPClass::Tx(tx::AMQPMethod::Select(tx::Select {})),
        Rare::FromServer => AMQPClass::Basic(basic::AMQPMethod::GetEmpty(basic::GetEmpty {})),
        Rare::RecoverAsync(requeue) => {
            AMQPClass::Basic(basic::AMQPMethod::RecoverAsync(basic::RecoverAsync {
                requeue: *requeue,
            }))
        }
        Rare::CloseConnection => {
            AMQPClass::Connection(Connection::Close(connection::Close::default()))
        }
        Rare::CloseConnectionOk => return frames::connection_close_ok(),
        Rare::OpenConnection => {
            AMQPClass::Connection(Connection::Open(connection::Open::default()))
        }
        Rare::UpdateSecret => {
            AMQPClass::Connection(Connection::UpdateSecret(connection::UpdateSecret::default()))
        }
        Rare::Prefetch(size) => {
            let mut payload = vec![0, 60, 0, 10];
            payload.extend_from_slice(&size.to_be_bytes());
            payload.extend_from_slice(&[0, 1, 0]);
            return frames::raw(1, on, &payload);
        }
        Rare::Frame(kind, payload) => {
            return frames::raw([1, 2, 3, 8][usize::from(kind % 4)], on, payload);
        }
        Rare::Bytes(bytes) => return bytes.clone(),
    };
    let on = match class {
        AMQPClass::Connection(_) => 0,
        _ => on,
    };
    frames::method(on, class)
}

/// One of the three, between its connections.
struct Person {
    introduction: Introduction,
    client: Option<Client>,
}

impl Person {
    /// The client, on a new connection if the last one has ended.
    fn client(&mut self, engine: &Engine, config: &Config) -> &mut Client {
        if self.client.as_ref().is_some_and(Client::is_finished) {
            self.client = None;
        }
        let Introduction {
            is_plain,
            has_small_frames,
            uses_amqplain,
            mistake,
            ..
        } = &self.introduction;
        self.client.get_or_insert_with(|| {
            let mut opening = frames::Opening::default();
            if *is_plain {
                opening.capabilities.clear();
            }
            opening.is_amqplain = *uses_amqplain;
            if *has_small_frames {
                opening.frame_max = FRAME_MIN;
            }
            match mistake.get() {
                None => {}
                Some(Mistake::Password) => opening.password = "wrong",
                Some(Mistake::Vhost) => opening.vhost = "nowhere",
                Some(Mistake::Tuning(channel_max, frame_max)) => {
                    opening.channel_max = *channel_max;
                    // Refused, or as large as can be
                    opening.frame_max = (*frame_max).max(FRAME_MAX);
                }
            }
            let mut client = Client::new(engine, config, opening.frame_max);
            client.send(&frames::opening(&opening));
            client
        })
    }
}

fuzz_target!(|conversation: Conversation| {
    // Little for a message, so that a few of them are more than a limit allows.
    let defaults = Config {
        max_message_bytes: 5000,
        ..config()
    };
    let config = Config {
        max_queue_bytes: match conversation.limits.memory {
            Limit::Far => defaults.max_queue_bytes,
            Limit::Near => 3000,
            Limit::Nothing => 0,
        },
        max_outgoing_bytes: match conversation.limits.outgoing {
            Limit::Far => defaults.max_outgoing_bytes,
            Limit::Near => 2000,
            Limit::Nothing => 0,
        },
        ..defaults
    };
    let engine = Engine::new(config.clone());
    let mut first = Client::new(&engine, &config, FRAME_MAX);
    first.send(&frames::opening(&frames::Opening::default()));
    first.read();
    for queue in QUEUES {
        first.send(&frames::declare(1, queue));
        first.read();
    }
    drop(first);
    let mut people = conversation.introductions.map(|introduction| Person {
        introduction,
        client: None,
    });
    for step in conversation.steps {
        let person = &mut people[usize::from(step.who % 3)];
        let Introduction {
            is_slow, is_rude, ..
        } = person.introduction;
        let client = person.client(&engine, &config);
        let bytes = match &step.what {
            What::Lose(what) => {
                if let Some(introduction) = what.get() {
                    person.client = None;
                    person.introduction = introduction.clone();
                    let _ = audit(&engine);
                }
                continue;
            }
            What::Read => None,
            What::Content(on, what) => Some(content(on.channel(), what)),
            What::Declare(on, what) => Some(declare(on.channel(), what)),
            What::Consume(on, what) => Some(consume(on.channel(), what)),
            What::Settle(on, what) => settle(on.channel(), what, client),
            What::Method(on, what) => method(on.channel(), what, client),
            What::Rare(on, what) => what.get().map(|what| rare(on.channel(), what)),
        };
        client.send(&bytes.unwrap_or_default());
        let _ = audit(&engine);
        if !is_slow || matches!(step.what, What::Read) {
            if is_rude {
                client.read();
                client.take_asked();
            } else {
                client.read_and_answer();
            }
            let _ = audit(&engine);
        }
    }
    for person in people {
        drop(person.client);
        let _ = audit(&engine);
    }
    check_end(&engine, &config);
});
