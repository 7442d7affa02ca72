//! A channel's part of the state, and how its frames are handled: open and close, content, and the choice of the method.

use std::collections::{BTreeMap, BTreeSet};

use amq_protocol::protocol::{AMQPClass, access, basic, channel, confirm};
use amq_protocol::types::ShortString;
use bytes::Bytes;

use crate::connection::Phase;
use crate::error::{Code, Fault};
use crate::frames::{CLASS_BASIC, ContentHeader, Frame, Payload, reply_text};
use crate::queue::QueuedMessage;
use crate::state::{ChannelKey, ConnectionId, QueueId, State};

/// `basic.publish`, the method that content belongs to.
const PUBLISH: (u16, u16) = (CLASS_BASIC, 40);

/// How many messages of the largest size, each with a frame of properties, a
/// connection may have begun and not finished. Clients finish one before they begin the next on the same channel, and
/// nearly all do so over all channels.
const UNFINISHED_MESSAGES: u64 = 4;

/// A message that was delivered and is neither acknowledged nor rejected.
#[derive(Debug)]
pub(crate) struct Unacked {
    pub(crate) queue: QueueId,
    /// The consumer that got it; `None` if it was fetched by `basic.get`.
    pub(crate) consumer: Option<u64>,
    pub(crate) message: QueuedMessage,
}

/// A consumer, as its channel knows it.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) tag: ShortString,
    pub(crate) queue: QueueId,
    pub(crate) no_ack: bool,
    /// How many unacknowledged deliveries it may have; 0 is no limit.
    pub(crate) prefetch: u16,
    pub(crate) unacked: u64,
}

/// A message of which some frames have come.
#[derive(Debug)]
enum Content {
    /// `basic.publish` has come.
    Published(basic::Publish),
    /// The header has come, and part of the body.
    Body {
        publish: basic::Publish,
        properties: Bytes,
        size: u64,
        body: Vec<u8>,
    },
}

/// A channel.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    /// Whether `channel.close` was sent: all but its answer is ignored.
    closing: bool,
    pub(crate) consumers: BTreeMap<u64, Consumer>,
    pub(crate) unacked: BTreeMap<u64, Unacked>,
    /// How many of `unacked` went to consumers: what a global prefetch count limits.
    pub(crate) consumer_unacked: u64,
    last_delivery_tag: u64,
    /// The prefetch count for consumers to come (`global` = false).
    pub(crate) consumer_prefetch: u16,
    /// The prefetch count over all consumers (`global` = true).
    pub(crate) channel_prefetch: u16,
    /// The number of the last publish, once confirms are on.
    pub(crate) confirms: Option<u64>,
    content: Option<Content>,
    /// The queue that was declared last, which an empty name stands for.
    pub(crate) last_queue: Option<String>,
}

impl Channel {
    pub(crate) fn next_delivery_tag(&mut self) -> u64 {
        self.last_delivery_tag += 1;
        self.last_delivery_tag
    }

    /// Whether the prefetch counts let the consumer have one more delivery. Its own
    /// counts for nothing if it needs no acknowledgements; once the channel's is reached,
    /// it holds for all.
    pub(crate) fn has_room(&self, consumer: u64) -> bool {
        let Some(consumer) = self.consumers.get(&consumer) else {
            return false;
        };
        let below = |count: u64, limit: u16| limit == 0 || count < limit.into();
        (consumer.no_ack || below(consumer.unacked, consumer.prefetch))
            && below(self.consumer_unacked, self.channel_prefetch)
    }

    pub(crate) fn consumed_queues(&self) -> BTreeSet<QueueId> {
        self.consumers.values().map(|c| c.queue).collect()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Bytes of a message whose last frame has not come yet, with its properties.
    pub(crate) fn unfinished_bytes(&self) -> u64 {
        match &self.content {
            Some(Content::Body {
                properties, body, ..
            }) => (properties.len() + body.len()) as u64,
            _ => 0,
        }
    }

    /// Drops a message that is not complete; returns how many bytes had come.
    pub(crate) fn abandon_content(&mut self) -> u64 {
        let bytes = self.unfinished_bytes();
        self.content = None;
        bytes
    }
}

/// The content of a complete `basic.publish`.
pub(crate) struct Published {
    pub(crate) publish: basic::Publish,
    pub(crate) properties: Bytes,
    pub(crate) body: Bytes,
}

impl State {
    /// Handles one frame. A fault is answered by closing the channel or the
    /// connection, as its code says.
    pub(crate) fn handle_frame(&mut self, id: ConnectionId, frame: Frame) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.phase() == Phase::Closing {
            use amq_protocol::protocol::connection::{AMQPMethod, CloseOk};

            if let Payload::Method(method) = frame.payload {
                match *method {
                    AMQPClass::Connection(AMQPMethod::CloseOk(_)) => {
                        connection.set_phase(Phase::Finished);
                    }
                    // Both sides want to close at once.
                    AMQPClass::Connection(AMQPMethod::Close(_)) => {
                        connection.send(0, AMQPClass::Connection(AMQPMethod::CloseOk(CloseOk {})));
                        connection.set_phase(Phase::Finished);
                    }
                    _ => {}
                }
            }
            return;
        }
        let class_and_method = match &frame.payload {
            Payload::Method(method) => (method.get_amqp_class_id(), method.get_amqp_method_id()),
            Payload::Header(_) | Payload::Body(_) if frame.channel != 0 => PUBLISH,
            _ => (0, 0),
        };
        let key = ChannelKey {
            connection: id,
            channel: frame.channel,
        };
        let result = match frame.payload {
            Payload::Heartbeat if frame.channel == 0 => Ok(()),
            Payload::Heartbeat => Err(Fault::new(
                Code::UnexpectedFrame,
                "a heartbeat belongs on channel 0",
            )),
            Payload::Method(method) if frame.channel == 0 => self.connection_method(id, *method),
            _ if frame.channel == 0 => Err(Fault::new(
                Code::UnexpectedFrame,
                "channel 0 has no content",
            )),
            _ if connection.phase() != Phase::Open => Err(Fault::new(
                Code::UnexpectedFrame,
                "a channel can't be used before connection.open",
            )),
            payload => self.channel_frame(key, payload),
        };
        if let Err(fault) = result {
            self.fail(key, &fault, class_and_method);
        }
    }

    /// Closes the channel, or the connection if the fault is a hard one.
    fn fail(&mut self, key: ChannelKey, fault: &Fault, class_and_method: (u16, u16)) {
        tracing::debug!(text = fault.text, "a client broke a rule");
        let has_channel = self
            .connections
            .get(&key.connection)
            .is_some_and(|connection| connection.channels.contains_key(&key.channel));
        if !(fault.code.closes_channel_only() && has_channel) {
            self.close_connection(
                key.connection,
                fault.code.number(),
                &fault.text,
                class_and_method,
            );
            return;
        }
        self.release_channel(key);
        if let Ok(channel) = self.channel(key) {
            channel.closing = true;
        }
        let close = channel::Close {
            reply_code: fault.code.number(),
            reply_text: reply_text(&fault.text),
            class_id: class_and_method.0,
            method_id: class_and_method.1,
        };
        self.send(key, AMQPClass::Channel(channel::AMQPMethod::Close(close)));
    }

    fn channel_frame(&mut self, key: ChannelKey, payload: Payload) -> Result<(), Fault> {
        use channel::AMQPMethod as Method;

        let Ok(channel) = self.channel(key) else {
            return match payload {
                Payload::Method(method)
                    if matches!(*method, AMQPClass::Channel(Method::Open(_))) =>
                {
                    self.open_channel(key)
                }
                _ => Err(Fault::new(Code::ChannelError, "expected 'channel.open'")),
            };
        };
        if channel.closing {
            if let Payload::Method(method) = payload {
                match *method {
                    AMQPClass::Channel(Method::CloseOk(_)) => {
                        self.connection(key.connection)?
                            .channels
                            .remove(&key.channel);
                    }
                    // Both sides want to close; the answer to ours is still to come.
                    AMQPClass::Channel(Method::Close(_)) => self.send_close_ok(key),
                    _ => {}
                }
            }
            return Ok(());
        }
        match (payload, &channel.content) {
            (Payload::Method(method), None) => self.channel_method(key, *method),
            (Payload::Header(header), Some(Content::Published(_))) => {
                self.content_header(key, *header)
            }
            (Payload::Body(bytes), Some(Content::Body { .. })) => self.content_body(key, &bytes),
            (_, None) => Err(Fault::new(
                Code::UnexpectedFrame,
                "expected method frame, got non method frame instead",
            )),
            (_, Some(Content::Published(_))) => Err(Fault::new(
                Code::UnexpectedFrame,
                "expected content header for class 60, got non content header frame instead",
            )),
            (_, Some(Content::Body { .. })) => Err(Fault::new(
                Code::UnexpectedFrame,
                "expected content body, got non content body frame instead",
            )),
        }
    }

    fn open_channel(&mut self, key: ChannelKey) -> Result<(), Fault> {
        let connection = self.connection(key.connection)?;
        let (open, channel_max) = (connection.channels.len(), connection.channel_max);
        // As in RabbitMQ it is how many are open that counts, not the channel's number.
        if open >= usize::from(channel_max) {
            return Err(Fault::new(
                Code::NotAllowed,
                format_args!(
                    "number of channels opened ({open}) has reached the negotiated channel_max \
                     ({channel_max})"
                ),
            ));
        }
        connection.channels.insert(key.channel, Channel::default());
        let open_ok = channel::AMQPMethod::OpenOk(channel::OpenOk {});
        self.send(key, AMQPClass::Channel(open_ok));
        Ok(())
    }

    fn send_close_ok(&mut self, key: ChannelKey) {
        let close_ok = channel::AMQPMethod::CloseOk(channel::CloseOk {});
        self.send(key, AMQPClass::Channel(close_ok));
    }

    fn channel_method(&mut self, key: ChannelKey, method: AMQPClass) -> Result<(), Fault> {
        match method {
            AMQPClass::Channel(method) => self.own_method(key, &method),
            AMQPClass::Exchange(method) => self.exchange_method(key, method),
            AMQPClass::Queue(method) => self.queue_method(key, method),
            AMQPClass::Basic(basic::AMQPMethod::Publish(publish)) => self.publish(key, publish),
            AMQPClass::Basic(method) => self.basic_method(key, method),
            AMQPClass::Confirm(confirm::AMQPMethod::Select(select)) => {
                self.channel(key)?.confirms.get_or_insert(0);
                if !select.nowait {
                    let select_ok = confirm::AMQPMethod::SelectOk(confirm::SelectOk {});
                    self.send(key, AMQPClass::Confirm(select_ok));
                }
                Ok(())
            }
            // Long out of use; RabbitMQ answers it for the sake of old clients.
            AMQPClass::Access(access::AMQPMethod::Request(_)) => {
                let request_ok = access::AMQPMethod::RequestOk(access::RequestOk {});
                self.send(key, AMQPClass::Access(request_ok));
                Ok(())
            }
            AMQPClass::Tx(_) => Err(Fault::new(Code::NotImplemented, "transactions (class tx)")),
            AMQPClass::Connection(_) | AMQPClass::Confirm(_) | AMQPClass::Access(_) => {
                Err(unimplemented_method())
            }
        }
    }

    fn own_method(&mut self, key: ChannelKey, method: &channel::AMQPMethod) -> Result<(), Fault> {
        use channel::AMQPMethod as Method;

        match method {
            Method::Open(_) => Err(Fault::new(Code::ChannelError, "second 'channel.open' seen")),
            Method::Close(_) => {
                self.release_channel(key);
                self.connection(key.connection)?
                    .channels
                    .remove(&key.channel);
                self.send_close_ok(key);
                Ok(())
            }
            Method::Flow(flow) if flow.active => {
                let flow_ok = Method::FlowOk(channel::FlowOk { active: true });
                self.send(key, AMQPClass::Channel(flow_ok));
                Ok(())
            }
            Method::Flow(_) => Err(Fault::new(Code::NotImplemented, "active=false")),
            // Never asked for, but harmless.
            Method::FlowOk(_) => Ok(()),
            Method::OpenOk(_) | Method::CloseOk(_) => Err(unimplemented_method()),
        }
    }

    /// Begins a message. What can be refused without its content is refused here.
    fn publish(&mut self, key: ChannelKey, publish: basic::Publish) -> Result<(), Fault> {
        self.check_exchange(key, publish.exchange.as_str())?;
        if publish.immediate {
            return Err(Fault::new(Code::NotImplemented, "immediate=true"));
        }
        self.channel(key)?.content = Some(Content::Published(publish));
        // As under RabbitMQ's memory alarm: the publish waits for memory, and with it
        // all that its connection sends after it.
        if self.is_full() {
            let connection = self.connection(key.connection)?;
            if !connection.blocked {
                connection.blocked = true;
                if connection.capabilities.connection_blocked {
                    use amq_protocol::protocol::connection::{AMQPMethod, Blocked};

                    let blocked = AMQPMethod::Blocked(Blocked {
                        reason: "low on memory".into(),
                    });
                    connection.send(0, AMQPClass::Connection(blocked));
                }
            }
        }
        Ok(())
    }

    fn content_header(&mut self, key: ChannelKey, header: ContentHeader) -> Result<(), Fault> {
        if header.class_id != CLASS_BASIC {
            return Err(Fault::new(
                Code::UnexpectedFrame,
                format_args!(
                    "expected content header for class 60, got one for class {} instead",
                    header.class_id
                ),
            ));
        }
        let largest = self.config.max_message_bytes;
        if header.body_size > largest {
            return Err(Fault::new(
                Code::PreconditionFailed,
                format_args!(
                    "message size {} is larger than configured max size {largest}",
                    header.body_size
                ),
            ));
        }
        self.check_properties(key, &header.properties)?;
        let channel = self.channel(key)?;
        let Some(Content::Published(publish)) = channel.content.take() else {
            return Ok(());
        };
        let bytes = header.raw_properties.len() as u64;
        channel.content = Some(Content::Body {
            publish,
            properties: header.raw_properties,
            size: header.body_size,
            body: Vec::new(),
        });
        self.count_unfinished(key, bytes)?;
        self.finish_content(key)
    }

    fn content_body(&mut self, key: ChannelKey, bytes: &[u8]) -> Result<(), Fault> {
        if let Some(Content::Body { size, body, .. }) = &mut self.channel(key)?.content {
            let (come, announced) = ((body.len() + bytes.len()) as u64, *size);
            if come > announced {
                return Err(Fault::new(
                    Code::FrameError,
                    format_args!("content body of {come} octets, {announced} were announced"),
                ));
            }
            body.extend_from_slice(bytes);
        }
        self.count_unfinished(key, bytes.len() as u64)?;
        self.finish_content(key)
    }

    /// Accounts for bytes of a message that may not be complete.
    fn count_unfinished(&mut self, key: ChannelKey, bytes: u64) -> Result<(), Fault> {
        let largest = self.config.max_message_bytes;
        let limit = largest
            .saturating_add(self.config.frame_max.into())
            .saturating_mul(UNFINISHED_MESSAGES);
        let connection = self.connection(key.connection)?;
        connection.unfinished_bytes += bytes;
        if connection.unfinished_bytes > limit {
            return Err(Fault::new(
                Code::ResourceError,
                "too many messages begun and not finished",
            ));
        }
        Ok(())
    }

    /// Routes the message if it is complete.
    fn finish_content(&mut self, key: ChannelKey) -> Result<(), Fault> {
        let channel = self.channel(key)?;
        match channel.content.take() {
            Some(Content::Body {
                publish,
                properties,
                size,
                body,
            }) if body.len() as u64 == size => {
                let bytes = properties.len() as u64 + size;
                let connection = self.connection(key.connection)?;
                connection.unfinished_bytes = connection.unfinished_bytes.saturating_sub(bytes);
                self.route(
                    key,
                    Published {
                        publish,
                        properties,
                        body: body.into(),
                    },
                )
            }
            unfinished => {
                channel.content = unfinished;
                Ok(())
            }
        }
    }
}

/// RabbitMQ's answer to a method that is not for servers, or not for channels.
pub(crate) fn unimplemented_method() -> Fault {
    Fault::new(Code::CommandInvalid, "unimplemented method")
}
