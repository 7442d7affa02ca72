//! A client that feeds a session and holds all that comes back against the protocol.

use std::collections::BTreeMap;

use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, connection};
use broker::Config;
use broker::wire::{Engine, Session};

use crate::frames::{self, HEADER};

/// What a client knows of an open channel.
#[derive(Debug, Default)]
struct Open {
    /// The number of the last delivery.
    delivered: u64,
    /// The number of the last confirm.
    confirmed: u64,
    /// Deliveries that the client did not settle, or doesn't need to.
    unsettled: Vec<u64>,
    /// The tags that the broker confirmed.
    consumers: Vec<String>,
}

/// What may come on a channel.
#[derive(Debug)]
enum Channel {
    /// Whatever a server sends.
    Open(Open),
    /// The broker has closed it: an answer to a close of the client's own, or `open-ok`.
    Closing,
    /// It is not open: `open-ok`.
    Closed,
}

/// How far the connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    Running,
    /// The broker has closed it: nothing but `close-ok` may come.
    Closing,
    /// Nothing may come.
    Closed,
}

/// What the broker has asked the client to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `channel.close`
    ChannelClose(u16),
    /// `connection.close`
    ConnectionClose,
}

/// A session, fed by a client that reads when it is told to.
pub struct Client {
    session: Session,
    connection: Connection,
    channels: BTreeMap<u16, Channel>,
    /// The content that must come next: its channel, and how much of its body is
    /// left, once the header has said so.
    content: Option<(u16, Option<u64>)>,
    /// The largest frame that may come.
    frame_max: u32,
    /// Bytes that may come at once, besides the ends of consumers.
    most: usize,
    /// Bytes that came in all.
    read: u64,
    /// How often `basic.consume` was sent, or what looks like it.
    consumes: usize,
    /// The last four bytes that were sent.
    last_sent: u32,
    asked: Vec<Asked>,
    paused: bool,
}

impl Client {
    /// A new session of `engine`, which has this configuration. Its frames will be of
    /// `frame_max` at most.
    #[must_use]
    pub fn new(engine: &Engine, config: &Config, frame_max: u32) -> Self {
        let message = usize::try_from(config.max_message_bytes).unwrap_or(usize::MAX);
        let frame = config.frame_max as usize;
        Self {
            session: engine.session(),
            connection: Connection::Running,
            channels: BTreeMap::new(),
            content: None,
            frame_max,
            // Beyond the limit: one message with its properties, what is around it,
            // and the answers to one method.
            most: config.max_outgoing_bytes + message + frame + 4096,
            read: 0,
            consumes: 0,
            last_sent: 0,
            asked: Vec::new(),
            paused: false,
        }
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.session.is_finished()
    }

    /// Whether the session was ever seen to let its input wait.
    #[must_use]
    pub fn was_paused(&self) -> bool {
        self.paused
    }

    /// How many bytes have come.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    /// The deliveries of a channel that the client has not settled.
    #[must_use]
    pub fn unsettled(&self, channel: u16) -> &[u64] {
        match self.channels.get(&channel) {
            Some(Channel::Open(open)) => &open.unsettled,
            _ => &[],
        }
    }

    /// The tags of the consumers on a channel.
    #[must_use]
    pub fn consumers(&self, channel: u16) -> &[String] {
        match self.channels.get(&channel) {
            Some(Channel::Open(open)) => &open.consumers,
            _ => &[],
        }
    }

    /// Notes which deliveries the method will settle.
    pub fn settled(&mut self, channel: u16, method: &basic::AMQPMethod) {
        let Some(Channel::Open(open)) = self.channels.get_mut(&channel) else {
            return;
        };
        let (tag, multiple) = match method {
            basic::AMQPMethod::Ack(ack) => (ack.delivery_tag, ack.multiple),
            basic::AMQPMethod::Nack(nack) => (nack.delivery_tag, nack.multiple),
            basic::AMQPMethod::Reject(reject) => (reject.delivery_tag, false),
            basic::AMQPMethod::Recover(_) => (0, true),
            _ => return,
        };
        let is_settled = |other: u64| other == tag || (multiple && (tag == 0 || other < tag));
        open.unsettled.retain(|other| !is_settled(*other));
    }

    /// Takes what the broker asked and nobody answered yet.
    pub fn take_asked(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.asked)
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// If the session keeps more of them than one frame, and doesn't pause.
    pub fn send(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.last_sent = self.last_sent << 8 | u32::from(*byte);
            // Class 60, method 20
            self.consumes += usize::from(self.last_sent == 0x003C_0014);
        }
        self.session.receive(bytes);
        let paused = self.session.is_paused();
        self.paused |= paused;
        assert!(
            paused || self.session.unhandled() < crate::FRAME_MAX as usize,
            "{} bytes wait for nothing",
            self.session.unhandled()
        );
        assert!(
            !self.session.is_finished() || self.session.unhandled() == 0,
            "input is kept after the end"
        );
    }

    /// Reads all there is, and all that comes of it.
    ///
    /// # Panics
    /// If what comes breaks the protocol, or doesn't end.
    pub fn read(&mut self) {
        loop {
            let output = self.session.take_output();
            self.check(&output);
            let before = self.session.unhandled();
            self.send(&[]);
            // Each turn brings output or takes input, of which there is no more.
            if output.is_empty() && self.session.unhandled() == before {
                return;
            }
        }
    }

    /// Reads, and answers what the broker asks: closed channels are opened again.
    pub fn read_and_answer(&mut self) {
        self.read();
        for asked in self.take_asked() {
            match asked {
                Asked::ChannelClose(channel) => {
                    self.send(&frames::channel_close_ok(channel));
                    self.send(&frames::channel_open(channel));
                }
                Asked::ConnectionClose => self.send(&frames::connection_close_ok()),
            }
        }
        self.read();
    }

    fn check(&mut self, mut output: &[u8]) {
        // What the broker sends beyond its limit: that consumers have ended.
        let most = self.most + self.consumes * 280;
        assert!(
            output.len() <= most,
            "{} bytes at once, at most {most} were expected",
            output.len()
        );
        if output == HEADER && self.read == 0 {
            self.connection = Connection::Closed;
            assert!(self.is_finished(), "the version was named to go on");
            return;
        }
        self.read += output.len() as u64;
        while !output.is_empty() {
            let (rest, frame) = match parse_frame(output) {
                Ok(parsed) => parsed,
                Err(error) => panic!("{error} in {output:02x?}"),
            };
            // Content headers can't be split: RabbitMQ, too, passes them as they came.
            let size = output.len() - rest.len();
            assert!(
                size <= self.frame_max as usize || matches!(frame, AMQPFrame::Header(..)),
                "a frame of {size} bytes: {frame:?}"
            );
            self.check_frame(frame);
            output = rest;
        }
        assert_eq!(self.content, None, "content is cut short");
    }

    fn check_frame(&mut self, frame: AMQPFrame) {
        if let Some((on, left)) = self.content {
            self.content = match (left, frame) {
                (None, AMQPFrame::Header(channel, header)) => {
                    assert_eq!((channel, header.class_id), (on, 60));
                    Some((on, Some(header.body_size)))
                }
                (Some(left), AMQPFrame::Body(channel, body)) => {
                    assert_eq!(channel, on);
                    assert!(!body.is_empty() && body.len() as u64 <= left);
                    Some((on, Some(left - body.len() as u64)))
                }
                (_, frame) => panic!("content should go on, not {frame:?}"),
            };
            self.content = self.content.filter(|(_, left)| *left != Some(0));
            return;
        }
        match frame {
            AMQPFrame::Method(0, AMQPClass::Connection(method)) => self.check_connection(method),
            AMQPFrame::Method(channel @ 1.., class) => {
                assert_eq!(
                    self.connection,
                    Connection::Running,
                    "{class:?} after the end"
                );
                self.check_channel(channel, class);
            }
            frame => panic!("out of place: {frame:?}"),
        }
    }

    fn check_connection(&mut self, method: connection::AMQPMethod) {
        use connection::AMQPMethod as Method;

        match (self.connection, method) {
            (
                Connection::Running,
                Method::Start(_)
                | Method::Tune(_)
                | Method::OpenOk(_)
                | Method::Blocked(_)
                | Method::Unblocked(_),
            ) => {}
            (Connection::Running, Method::Close(_)) => {
                self.connection = Connection::Closing;
                self.asked.push(Asked::ConnectionClose);
            }
            (Connection::Running | Connection::Closing, Method::CloseOk(_)) => {
                self.connection = Connection::Closed;
            }
            (state, method) => panic!("{method:?} while {state:?}"),
        }
    }

    fn check_channel(&mut self, number: u16, class: AMQPClass) {
        use channel::AMQPMethod as Method;

        let channel = self.channels.entry(number).or_insert(Channel::Closed);
        match (&mut *channel, class) {
            (Channel::Closing | Channel::Closed, AMQPClass::Channel(Method::OpenOk(_))) => {
                *channel = Channel::Open(Open::default());
            }
            (Channel::Open(_), AMQPClass::Channel(Method::Close(_))) => {
                *channel = Channel::Closing;
                self.asked.push(Asked::ChannelClose(number));
            }
            (Channel::Open(_), AMQPClass::Channel(Method::CloseOk(_))) => {
                *channel = Channel::Closed;
            }
            (Channel::Closing, AMQPClass::Channel(Method::CloseOk(_))) => {}
            (Channel::Open(_), AMQPClass::Channel(Method::FlowOk(_))) => {}
            (Channel::Open(open), AMQPClass::Basic(method)) => {
                let (tag, has_content) = match method {
                    basic::AMQPMethod::Deliver(deliver) => (Some(deliver.delivery_tag), true),
                    basic::AMQPMethod::GetOk(get_ok) => (Some(get_ok.delivery_tag), true),
                    basic::AMQPMethod::Return(_) => (None, true),
                    basic::AMQPMethod::Ack(ack) => {
                        open.confirmed += 1;
                        assert_eq!(ack.delivery_tag, open.confirmed, "confirms have an order");
                        (None, false)
                    }
                    basic::AMQPMethod::ConsumeOk(consume_ok) => {
                        open.consumers.push(consume_ok.consumer_tag.into());
                        (None, false)
                    }
                    basic::AMQPMethod::CancelOk(basic::CancelOk { consumer_tag })
                    | basic::AMQPMethod::Cancel(basic::Cancel { consumer_tag, .. }) => {
                        open.consumers.retain(|tag| tag != consumer_tag.as_str());
                        (None, false)
                    }
                    basic::AMQPMethod::QosOk(_)
                    | basic::AMQPMethod::GetEmpty(_)
                    | basic::AMQPMethod::RecoverOk(_) => (None, false),
                    method => panic!("a server doesn't send {method:?}"),
                };
                if let Some(tag) = tag {
                    open.delivered += 1;
                    assert_eq!(tag, open.delivered, "deliveries have an order");
                    open.unsettled.push(tag);
                }
                if has_content {
                    self.content = Some((number, None));
                }
            }
            (
                Channel::Open(_),
                AMQPClass::Exchange(_)
                | AMQPClass::Queue(_)
                | AMQPClass::Confirm(_)
                | AMQPClass::Access(_),
            ) => {}
            (state, class) => panic!("{class:?} on channel {number}, which is {state:?}"),
        }
    }
}
