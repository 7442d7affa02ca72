//! A connection's part of the state, and the methods of class `connection`: handshake, negotiation and orderly close.

use std::collections::BTreeMap;
use std::sync::Arc;

use amq_protocol::protocol::{AMQPClass, connection};
use amq_protocol::types::{AMQPValue, FieldTable, ShortString};
use bytes::BytesMut;
use tokio::sync::{Notify, watch};

use crate::channel::Channel;
use crate::error::{Code, Fault};
use crate::frames::{self, FRAME_MIN_SIZE};
use crate::state::{ConnectionId, State};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing but the protocol header may come.
    Header,
    /// `connection.start` was sent.
    Starting,
    /// `connection.tune` was sent.
    Tuning,
    /// `connection.tune-ok` has come.
    Opening,
    /// Channels may be used.
    Open,
    /// `connection.close` was sent; all but its answer is ignored.
    Closing,
    /// All that is left is to write what waits in the outbox.
    Finished,
}

/// What the client said it can do (`capabilities` of its properties). RabbitMQ
/// sends methods that are extensions of the protocol only to clients that know them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Capabilities {
    authentication_failure_close: bool,
    pub(crate) consumer_cancel_notify: bool,
    pub(crate) connection_blocked: bool,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    phase: watch::Sender<Phase>,
    /// What waits to be written.
    pub(crate) outbox: BytesMut,
    /// How many bytes in `outbox` make the connection wait.
    outbox_limit: usize,
    /// Wakes the task that writes, the only one that waits on it.
    pub(crate) wake_writer: Arc<Notify>,
    /// Wakes the task that reads, the only one that waits on it.
    pub(crate) wake_reader: Arc<Notify>,
    pub(crate) channels: BTreeMap<u16, Channel>,
    pub(crate) vhost: String,
    pub(crate) user: String,
    pub(crate) capabilities: Capabilities,
    pub(crate) frame_max: u32,
    pub(crate) channel_max: u16,
    /// The negotiated heartbeat interval in seconds; 0 is none.
    pub(crate) heartbeat: u16,
    /// Whether a publish waits for memory.
    pub(crate) blocked: bool,
    /// Whether a delivery was held back since the outbox was full.
    pub(crate) held_back: bool,
    /// Bytes of messages whose last frame has not come yet, with their properties.
    pub(crate) unfinished_bytes: u64,
}

impl Connection {
    pub(crate) fn new(frame_max: u32, outbox_limit: usize) -> Self {
        Self {
            phase: watch::Sender::new(Phase::Header),
            outbox: BytesMut::new(),
            outbox_limit,
            wake_writer: Arc::new(Notify::new()),
            wake_reader: Arc::new(Notify::new()),
            channels: BTreeMap::new(),
            vhost: String::new(),
            user: String::new(),
            capabilities: Capabilities::default(),
            frame_max,
            channel_max: 0,
            heartbeat: 0,
            blocked: false,
            held_back: false,
            unfinished_bytes: 0,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(crate) fn watch_phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Goes on to `phase`, and wakes whoever may now have other things to do.
    pub(crate) fn set_phase(&mut self, phase: Phase) {
        self.phase.send_replace(phase);
        self.wake_reader.notify_one();
        self.wake_writer.notify_one();
    }

    /// Whether so much waits to be written that nothing should be added.
    pub(crate) fn is_congested(&self) -> bool {
        self.outbox.len() > self.outbox_limit
    }

    /// Whether the client's frames have to wait: for it to read what it was sent,
    /// or, when it publishes, for memory.
    pub(crate) fn is_paused(&self) -> bool {
        self.is_congested() || (self.blocked && self.phase() == Phase::Open)
    }

    /// Queues a method for the client.
    pub(crate) fn send(&mut self, channel: u16, method: AMQPClass) {
        frames::put_method(&mut self.outbox, channel, method);
        self.wake_writer.notify_one();
    }

    /// Queues a method with a message for the client.
    pub(crate) fn send_content(
        &mut self,
        channel: u16,
        method: AMQPClass,
        message: &crate::queue::Message,
    ) {
        frames::put_method(&mut self.outbox, channel, method);
        frames::put_content(
            &mut self.outbox,
            channel,
            self.frame_max,
            &message.properties,
            &message.body,
        );
        self.wake_writer.notify_one();
    }

    /// Ends the connection's claim on memory, if it has waited for it.
    pub(crate) fn unblock(&mut self) {
        if std::mem::take(&mut self.blocked) {
            if self.capabilities.connection_blocked && self.phase() == Phase::Open {
                let unblocked = connection::AMQPMethod::Unblocked(connection::Unblocked {});
                self.send(0, AMQPClass::Connection(unblocked));
            }
            self.wake_reader.notify_one();
        }
    }
}

impl State {
    /// Handles the eight bytes that come first. On any others the broker names the
    /// version that it speaks and closes (section 4.2.2).
    pub(crate) fn protocol_header(&mut self, id: ConnectionId, accepted: bool) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if !accepted {
            connection.outbox.extend_from_slice(frames::PROTOCOL_HEADER);
            connection.set_phase(Phase::Finished);
            return;
        }
        let start = connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: server_properties(),
            mechanisms: "PLAIN AMQPLAIN".into(),
            locales: "en_US".into(),
        };
        connection.set_phase(Phase::Starting);
        connection.send(
            0,
            AMQPClass::Connection(connection::AMQPMethod::Start(start)),
        );
    }

    /// Handles a method on channel 0.
    pub(crate) fn connection_method(
        &mut self,
        id: ConnectionId,
        method: AMQPClass,
    ) -> Result<(), Fault> {
        use connection::AMQPMethod as Method;

        let phase = self.connection(id)?.phase();
        match (phase, method) {
            (_, AMQPClass::Connection(Method::Close(_))) => {
                self.release_connection(id);
                let connection = self.connection(id)?;
                let close_ok = Method::CloseOk(connection::CloseOk {});
                connection.send(0, AMQPClass::Connection(close_ok));
                connection.set_phase(Phase::Finished);
                Ok(())
            }
            (Phase::Starting, AMQPClass::Connection(Method::StartOk(m))) => self.start_ok(id, &m),
            (Phase::Tuning, AMQPClass::Connection(Method::TuneOk(m))) => self.tune_ok(id, &m),
            (Phase::Opening, AMQPClass::Connection(Method::Open(m))) => {
                self.open(id, m.virtual_host.as_str())
            }
            (Phase::Open, AMQPClass::Connection(Method::UpdateSecret(_))) => {
                Err(Fault::new(Code::NotImplemented, "connection.update-secret"))
            }
            _ => {
                let state = match phase {
                    Phase::Starting => "starting",
                    Phase::Tuning => "tuning",
                    Phase::Opening => "opening",
                    _ => "running",
                };
                Err(Fault::new(
                    Code::ChannelError,
                    format_args!("unexpected method in connection state {state}"),
                ))
            }
        }
    }

    fn start_ok(&mut self, id: ConnectionId, method: &connection::StartOk) -> Result<(), Fault> {
        let mechanism = method.mechanism.as_str();
        let credentials = match mechanism {
            "PLAIN" => plain(method.response.as_bytes()),
            "AMQPLAIN" => amqplain(method.response.as_bytes()),
            _ => {
                return Err(Fault::new(
                    Code::CommandInvalid,
                    format_args!("unknown authentication mechanism '{mechanism}'"),
                ));
            }
        };
        let user = credentials
            .filter(|claimed| self.config.users.contains(claimed))
            .map(|(user, _)| user);
        let capabilities = capabilities(&method.client_properties);
        let (frame_max, channel_max, heartbeat) = (
            self.config.frame_max,
            self.config.channel_max,
            self.offered_heartbeat(),
        );
        let connection = self.connection(id)?;
        connection.capabilities = capabilities;
        let Some(user) = user else {
            if capabilities.authentication_failure_close {
                return Err(Fault::new(
                    Code::AccessRefused,
                    format_args!(
                        "Login was refused using authentication mechanism {mechanism}. \
                         For details see the broker logfile."
                    ),
                ));
            }
            // The specification leaves other clients only this sign (section 4.10.1).
            connection.set_phase(Phase::Finished);
            return Ok(());
        };
        connection.user = user;
        connection.set_phase(Phase::Tuning);
        let tune = connection::Tune {
            channel_max,
            frame_max,
            heartbeat,
        };
        connection.send(0, AMQPClass::Connection(connection::AMQPMethod::Tune(tune)));
        Ok(())
    }

    /// Takes the client's values where they ask for no more than was offered
    /// (section 1.4.2.6). The heartbeat is the client's choice, as in RabbitMQ.
    fn tune_ok(&mut self, id: ConnectionId, method: &connection::TuneOk) -> Result<(), Fault> {
        check_negotiated(
            "frame_max",
            method.frame_max,
            FRAME_MIN_SIZE,
            self.config.frame_max,
        )?;
        check_negotiated(
            "channel_max",
            method.channel_max.into(),
            1,
            self.config.channel_max.into(),
        )?;
        let connection = self.connection(id)?;
        if method.frame_max != 0 {
            connection.frame_max = method.frame_max;
        }
        connection.channel_max = match method.channel_max {
            0 => u16::MAX,
            channel_max => channel_max,
        };
        connection.heartbeat = method.heartbeat;
        connection.set_phase(Phase::Opening);
        Ok(())
    }

    fn open(&mut self, id: ConnectionId, vhost: &str) -> Result<(), Fault> {
        if !self.vhosts.contains_key(vhost) {
            return Err(Fault::new(
                Code::NotAllowed,
                format_args!("vhost {vhost} not found"),
            ));
        }
        let connection = self.connection(id)?;
        vhost.clone_into(&mut connection.vhost);
        connection.set_phase(Phase::Open);
        let open_ok = connection::AMQPMethod::OpenOk(connection::OpenOk {});
        connection.send(0, AMQPClass::Connection(open_ok));
        Ok(())
    }

    /// Tells the client that its connection ends, and frees what it holds at once.
    /// `class_and_method` is what was being handled, zeros if it was nothing.
    pub(crate) fn close_connection(
        &mut self,
        id: ConnectionId,
        code: u16,
        text: &str,
        class_and_method: (u16, u16),
    ) {
        self.release_connection(id);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        match connection.phase() {
            Phase::Header => connection.set_phase(Phase::Finished),
            Phase::Closing | Phase::Finished => {}
            Phase::Starting | Phase::Tuning | Phase::Opening | Phase::Open => {
                let close = connection::Close {
                    reply_code: code,
                    reply_text: frames::reply_text(text),
                    class_id: class_and_method.0,
                    method_id: class_and_method.1,
                };
                connection.send(
                    0,
                    AMQPClass::Connection(connection::AMQPMethod::Close(close)),
                );
                connection.set_phase(Phase::Closing);
            }
        }
    }

    /// The heartbeat in whole seconds, the protocol's unit.
    fn offered_heartbeat(&self) -> u16 {
        let offered = self.config.heartbeat;
        let seconds = offered.as_secs() + u64::from(offered.subsec_nanos() > 0);
        u16::try_from(seconds).unwrap_or(u16::MAX)
    }
}

/// RabbitMQ's rule: a client may ask for less than the offer, but not for less than
/// the minimum, and "no limit" (0) only if that was the offer.
fn check_negotiated(field: &str, asked: u32, minimum: u32, offered: u32) -> Result<(), Fault> {
    let (order, bound, value) = if asked != 0 && asked < minimum {
        ("lower", "minimum", minimum)
    } else if offered != 0 && (asked == 0 || asked > offered) {
        ("higher", "maximum", offered)
    } else {
        return Ok(());
    };
    Err(Fault::new(
        Code::NotAllowed,
        format_args!(
            "negotiated {field} = {asked} is {order} than the {bound} allowed value ({value})"
        ),
    ))
}

/// What the broker says of itself. The capabilities are RabbitMQ's, true where this
/// broker keeps them.
fn server_properties() -> FieldTable {
    let mut capabilities = FieldTable::default();
    for (name, value) in [
        ("publisher_confirms", true),
        ("exchange_exchange_bindings", false),
        ("basic.nack", true),
        ("consumer_cancel_notify", true),
        ("connection.blocked", true),
        ("consumer_priorities", false),
        ("authentication_failure_close", true),
        ("per_consumer_qos", true),
        ("direct_reply_to", false),
    ] {
        capabilities.insert(name.into(), AMQPValue::Boolean(value));
    }
    let mut properties = FieldTable::default();
    properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    for (name, value) in [
        ("product", "in-process test broker"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("platform", "Rust"),
        ("information", "for tests: nothing is persisted"),
    ] {
        properties.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    properties
}

fn capabilities(client_properties: &FieldTable) -> Capabilities {
    let Some(AMQPValue::FieldTable(table)) = client_properties.inner().get("capabilities") else {
        return Capabilities::default();
    };
    let has = |name: &str| table.inner().get(name) == Some(&AMQPValue::Boolean(true));
    Capabilities {
        authentication_failure_close: has("authentication_failure_close"),
        consumer_cancel_notify: has("consumer_cancel_notify"),
        connection_blocked: has("connection.blocked"),
    }
}

/// User and password of the SASL mechanism PLAIN: `[authzid] NUL user NUL password`
/// (RFC 4616).
fn plain(response: &[u8]) -> Option<(String, String)> {
    let mut parts = response.splitn(3, |byte| *byte == 0);
    let (_authzid, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    Some((
        std::str::from_utf8(user).ok()?.to_owned(),
        std::str::from_utf8(password).ok()?.to_owned(),
    ))
}

/// User and password of RabbitMQ's mechanism AMQPLAIN: a table without its length.
fn amqplain(response: &[u8]) -> Option<(String, String)> {
    let table = frames::read_bare_table(response)?;
    let text = |name: &str| match table.inner().get(name) {
        Some(AMQPValue::LongString(value)) => std::str::from_utf8(value.as_bytes())
            .ok()
            .map(ToOwned::to_owned),
        Some(AMQPValue::ShortString(value)) => Some(ShortString::to_string(value)),
        _ => None,
    };
    Some((text("LOGIN")?, text("PASSWORD")?))
}
