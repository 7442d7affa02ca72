//! What a client sends.

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame};
use amq_protocol::protocol::{AMQPClass, channel, connection, queue};
use amq_protocol::types::{AMQPValue, FieldTable};

/// The protocol header.
pub const HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";

/// A method frame.
///
/// # Panics
/// If the method can't be written, as when a short string is too long.
#[must_use]
pub fn method(channel: u16, class: AMQPClass) -> Vec<u8> {
    let frame = AMQPFrame::Method(channel, class);
    gen_frame(&frame)(WriteContext::from(Vec::new()))
        .expect("writing to a Vec doesn't fail")
        .into_inner()
        .0
}

/// A frame from its parts, whatever they are.
#[must_use]
pub fn raw(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend_from_slice(&channel.to_be_bytes());
    let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    frame.extend_from_slice(&size.to_be_bytes());
    frame.extend_from_slice(payload);
    frame.push(0xCE);
    frame
}

/// A content header of class `basic` with these bytes of properties.
#[must_use]
pub fn header(channel: u16, body_size: u64, properties: &[u8]) -> Vec<u8> {
    let mut payload = vec![0, 60, 0, 0];
    payload.extend_from_slice(&body_size.to_be_bytes());
    payload.extend_from_slice(properties);
    raw(2, channel, &payload)
}

/// How a client introduces itself. The default does it right.
#[derive(Clone, Debug)]
pub struct Opening {
    /// For the user `guest`.
    pub password: &'static str,
    /// Logs in by AMQPLAIN instead of PLAIN.
    pub is_amqplain: bool,
    /// What the client says it can do.
    pub capabilities: Vec<&'static str>,
    /// What it asks for in `connection.tune-ok`.
    pub channel_max: u16,
    /// As `channel_max`.
    pub frame_max: u32,
    /// What it opens.
    pub vhost: &'static str,
}

impl Default for Opening {
    fn default() -> Self {
        Self {
            password: "guest",
            is_amqplain: false,
            capabilities: vec![
                "authentication_failure_close",
                "connection.blocked",
                "consumer_cancel_notify",
            ],
            channel_max: 8,
            frame_max: crate::FRAME_MAX,
            vhost: "/",
        }
    }
}

/// The whole handshake and the opening of channels 1 and 2, in one go.
#[must_use]
pub fn opening(opening: &Opening) -> Vec<u8> {
    let mut table = FieldTable::default();
    for name in &opening.capabilities {
        table.insert((*name).into(), AMQPValue::Boolean(true));
    }
    let mut client_properties = FieldTable::default();
    client_properties.insert("capabilities".into(), AMQPValue::FieldTable(table));
    let (mechanism, response) = if opening.is_amqplain {
        ("AMQPLAIN", amqplain(opening.password))
    } else {
        let response = format!("\0guest\0{}", opening.password);
        ("PLAIN", response.into_bytes())
    };
    let start_ok = connection::StartOk {
        client_properties,
        mechanism: mechanism.into(),
        response: response.into(),
        locale: "en_US".into(),
    };
    let tune_ok = connection::TuneOk {
        channel_max: opening.channel_max,
        frame_max: opening.frame_max,
        heartbeat: 0,
    };
    let open = connection::Open {
        virtual_host: opening.vhost.into(),
    };
    let mut bytes = HEADER.to_vec();
    for class in [
        connection::AMQPMethod::StartOk(start_ok),
        connection::AMQPMethod::TuneOk(tune_ok),
        connection::AMQPMethod::Open(open),
    ] {
        bytes.extend(method(0, AMQPClass::Connection(class)));
    }
    bytes.extend(channel_open(1));
    bytes.extend(channel_open(2));
    bytes
}

/// The answer to AMQPLAIN: a table without its length.
fn amqplain(password: &'static str) -> Vec<u8> {
    let mut response = Vec::new();
    for (name, value) in [("LOGIN", "guest"), ("PASSWORD", password)] {
        for (length, text) in [(&[][..], name), (&[b'S', 0, 0, 0][..], value)] {
            response.extend_from_slice(length);
            // Both are short.
            response.push(text.len() as u8);
            response.extend_from_slice(text.as_bytes());
        }
    }
    response
}

/// `channel.open`.
#[must_use]
pub fn channel_open(channel: u16) -> Vec<u8> {
    let open = channel::AMQPMethod::Open(channel::Open {});
    method(channel, AMQPClass::Channel(open))
}

/// `channel.close-ok`.
#[must_use]
pub fn channel_close_ok(channel: u16) -> Vec<u8> {
    let close_ok = channel::AMQPMethod::CloseOk(channel::CloseOk {});
    method(channel, AMQPClass::Channel(close_ok))
}

/// `connection.close-ok`.
#[must_use]
pub fn connection_close_ok() -> Vec<u8> {
    let close_ok = connection::AMQPMethod::CloseOk(connection::CloseOk {});
    method(0, AMQPClass::Connection(close_ok))
}

/// `queue.declare` of a queue that is neither durable nor anything else.
#[must_use]
pub fn declare(channel: u16, name: &str) -> Vec<u8> {
    let declare = queue::Declare {
        queue: name.into(),
        ..queue::Declare::default()
    };
    method(
        channel,
        AMQPClass::Queue(queue::AMQPMethod::Declare(declare)),
    )
}
