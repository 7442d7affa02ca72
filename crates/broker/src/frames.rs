//! Frames: cuts them out of a byte stream, checks them, and writes them.
//!
//! `amq-protocol` reads and writes what is inside a frame. The framing itself
//! (AMQP 0-9-1, section 2.3.5) is done here, for three reasons: the limits must be
//! checked before a frame is complete, the properties of a message must leave as
//! the very bytes that came, and tables that are nested too deeply must not reach a
//! recursive parser.

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parsing::parse_content_header};
use amq_protocol::protocol::{AMQPClass, BasicProperties, parse_class};
use amq_protocol::types::ShortString;
use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{Code, Fault};

/// What a client sends first (section 4.2.2).
pub(crate) const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

/// Bytes of a frame around its payload: type, channel, size and the end marker.
pub(crate) const FRAME_OVERHEAD: usize = 8;

/// The smallest frame size that may be negotiated: frame-min-size of the specification,
/// as in RabbitMQ until 4.0. Later ones ask for 8192.
pub(crate) const FRAME_MIN_SIZE: u32 = 4096;

/// How deeply tables and arrays may be nested. The parser recurses, so that without
/// a limit a single frame of the default size could exhaust the stack.
const MAX_NESTING: usize = 64;

const TYPE_METHOD: u8 = 1;
const TYPE_HEADER: u8 = 2;
const TYPE_BODY: u8 = 3;
const TYPE_HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xCE;

/// The class `basic`, the only one with content.
pub(crate) const CLASS_BASIC: u16 = 60;

/// A frame from a client.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) channel: u16,
    pub(crate) payload: Payload,
}

/// What a frame holds.
#[derive(Debug)]
pub(crate) enum Payload {
    Method(Box<AMQPClass>),
    Header(Box<ContentHeader>),
    Body(Bytes),
    Heartbeat,
}

/// A content header (section 4.2.6.1).
#[derive(Debug)]
pub(crate) struct ContentHeader {
    pub(crate) class_id: u16,
    /// The length of the body that the client announces.
    pub(crate) body_size: u64,
    pub(crate) properties: BasicProperties,
    /// The properties as they came: flags and values.
    pub(crate) raw_properties: Bytes,
}

/// Why there is no frame where one should be: a fault of the connection.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// The framing is broken: where the next frame begins can't be told.
    Framing(Fault),
    /// The frame was taken, and what it holds can't be read.
    Payload(Fault),
}

/// Takes the first complete frame out of `input`.
///
/// Returns `None` while it is incomplete. A complete frame has at most `frame_max`
/// bytes, and eight more where clients count wrong (see [`take_payload`]), so no more
/// than that ever waits in `input`.
///
/// # Errors
/// `FRAME_ERROR` for bad framing; for a payload that can't be read mostly
/// `SYNTAX_ERROR` or `COMMAND_INVALID`.
pub(crate) fn take_frame(
    input: &mut BytesMut,
    frame_max: u32,
) -> Result<Option<Frame>, Unreadable> {
    let Some((kind, channel, payload)) =
        take_payload(input, frame_max).map_err(Unreadable::Framing)?
    else {
        return Ok(None);
    };
    let payload = read_payload(kind, payload).map_err(Unreadable::Payload)?;
    Ok(Some(Frame { channel, payload }))
}

/// Takes type, channel and payload of a complete frame. Like RabbitMQ it takes a payload
/// of `frame_max` bytes, which is what a client sends that forgets what is around it.
fn take_payload(input: &mut BytesMut, frame_max: u32) -> Result<Option<(u8, u16, Bytes)>, Fault> {
    let Some(&kind) = input.first() else {
        return Ok(None);
    };
    if !matches!(kind, TYPE_METHOD | TYPE_HEADER | TYPE_BODY | TYPE_HEARTBEAT) {
        return Err(Fault::new(
            Code::FrameError,
            format_args!("unknown frame type {kind}"),
        ));
    }
    let Some(&[_, c0, c1, s0, s1, s2, s3]) = input.first_chunk::<7>() else {
        return Ok(None);
    };
    let channel = u16::from_be_bytes([c0, c1]);
    let size = u32::from_be_bytes([s0, s1, s2, s3]);
    let largest = frame_max.saturating_sub(FRAME_OVERHEAD as u32);
    if size > frame_max {
        return Err(Fault::new(
            Code::FrameError,
            format_args!("type {kind}, frame_too_large: {size} octets, at most {largest}"),
        ));
    }
    let size = size as usize;
    if input.len() < size + FRAME_OVERHEAD {
        return Ok(None);
    }
    let frame = input.split_to(size + FRAME_OVERHEAD).freeze();
    let end = frame[size + FRAME_OVERHEAD - 1];
    if end != FRAME_END {
        return Err(Fault::new(
            Code::FrameError,
            format_args!("type {kind}, invalid_frame_end_marker: {end}"),
        ));
    }
    Ok(Some((kind, channel, frame.slice(7..7 + size))))
}

fn read_payload(kind: u8, payload: Bytes) -> Result<Payload, Fault> {
    match kind {
        TYPE_METHOD => Ok(Payload::Method(Box::new(read_method(&payload)?))),
        TYPE_HEADER => Ok(Payload::Header(Box::new(read_header(&payload)?))),
        TYPE_BODY => Ok(Payload::Body(payload)),
        _ if payload.is_empty() => Ok(Payload::Heartbeat),
        _ => Err(Fault::new(
            Code::FrameError,
            "a heartbeat frame has no payload",
        )),
    }
}

fn read_method(payload: &[u8]) -> Result<AMQPClass, Fault> {
    let syntax_error = || Fault::new(Code::SyntaxError, "illegal method frame");
    let Some((&[c0, c1, m0, m1], arguments)) = payload.split_first_chunk::<4>() else {
        return Err(syntax_error());
    };
    let method = (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1]));
    if let Some(at) = table_offset(method, arguments) {
        check_table_field(arguments, at).ok_or_else(syntax_error)?;
    }
    // amq-protocol reads over prefetch_size, which RabbitMQ refuses to ignore.
    if let ((60, 10), Some(size)) = (method, arguments.first_chunk::<4>()) {
        let size = u32::from_be_bytes(*size);
        if size != 0 {
            return Err(Fault::new(
                Code::NotImplemented,
                format_args!("prefetch_size!=0 ({size})"),
            ));
        }
    }
    match parse_class(payload) {
        Ok(([], class)) => Ok(class),
        Ok(_) => Err(syntax_error()),
        Err(_) if is_known(method) => Err(syntax_error()),
        Err(_) => Err(Fault::new(
            Code::CommandInvalid,
            format_args!("unknown method {} of class {}", method.1, method.0),
        )),
    }
}

/// Whether the protocol has this class and method: tells a method that can't be
/// read from one that doesn't exist.
fn is_known((class, method): (u16, u16)) -> bool {
    match class {
        10 => matches!(
            method,
            10 | 11 | 20 | 21 | 30 | 31 | 40 | 41 | 50 | 51 | 60 | 61 | 70 | 71
        ),
        20 => matches!(method, 10 | 11 | 20 | 21 | 40 | 41),
        30 => matches!(method, 10 | 11),
        40 => matches!(method, 10 | 11 | 20 | 21 | 30 | 31 | 40 | 51),
        50 => matches!(method, 10 | 11 | 20 | 21 | 30 | 31 | 40 | 41 | 50 | 51),
        60 => matches!(
            method,
            10 | 11
                | 20
                | 21
                | 30
                | 31
                | 40
                | 50
                | 60
                | 70
                | 71
                | 72
                | 80
                | 90
                | 100
                | 110
                | 111
                | 120
        ),
        85 => matches!(method, 10 | 11),
        90 => matches!(method, 10 | 11 | 20 | 21 | 30 | 31),
        _ => false,
    }
}

/// Where the arguments of a method hold a table; `None` if they hold none, or end
/// before it.
fn table_offset(method: (u16, u16), arguments: &[u8]) -> Option<usize> {
    // (bytes before the strings, short strings, bytes between them and the table)
    let (before, strings, between) = match method {
        (10, 10) => (2, 0, 0),      // connection.start
        (10, 11) => (0, 0, 0),      // connection.start-ok
        (40, 10) => (2, 2, 1),      // exchange.declare
        (40, 30 | 40) => (2, 3, 1), // exchange.bind, unbind
        (50, 10) => (2, 1, 1),      // queue.declare
        (50, 20) => (2, 3, 1),      // queue.bind
        (50, 50) => (2, 3, 0),      // queue.unbind
        (60, 20) => (2, 2, 1),      // basic.consume
        _ => return None,
    };
    let mut at = before;
    for _ in 0..strings {
        at += 1 + usize::from(*arguments.get(at)?);
    }
    Some(at + between)
}

fn read_header(payload: &Bytes) -> Result<ContentHeader, Fault> {
    let syntax_error = || Fault::new(Code::SyntaxError, "illegal content header");
    // class, weight, body size
    let properties = payload.get(12..).ok_or_else(syntax_error)?;
    let Some((flags, mut at)) = properties
        .first_chunk::<2>()
        .map(|flags| (u16::from_be_bytes(*flags), 2))
    else {
        return Err(syntax_error());
    };
    // The headers follow content-type and content-encoding, if these are there.
    for flag in [15, 14] {
        if flags & (1 << flag) != 0 {
            at += 1 + usize::from(*properties.get(at).ok_or_else(syntax_error)?);
        }
    }
    if flags & (1 << 13) != 0 {
        check_table_field(properties, at).ok_or_else(syntax_error)?;
    }
    match parse_content_header(&payload[..]) {
        Ok(([], header)) => Ok(ContentHeader {
            class_id: header.class_id,
            body_size: header.body_size,
            properties: header.properties,
            // A copy, so that a waiting message doesn't keep the whole read buffer.
            raw_properties: Bytes::copy_from_slice(properties),
        }),
        _ => Err(syntax_error()),
    }
}

/// Checks the table whose length field is at `at`.
fn check_table_field(bytes: &[u8], at: usize) -> Option<()> {
    let (length, rest) = bytes.get(at..)?.split_first_chunk::<4>()?;
    check_table(rest.get(..u32::from_be_bytes(*length) as usize)?)
}

/// Walks over a table (section 4.2.5.5, with RabbitMQ's value types) without
/// recursion; `None` if it is malformed or nested deeper than [`MAX_NESTING`].
fn check_table(table: &[u8]) -> Option<()> {
    // Where the open tables and arrays end, and whether their values have names.
    let mut open = vec![(table.len(), true)];
    let mut at = 0;
    while let Some(&(end, named)) = open.last() {
        if at == end {
            open.pop();
            continue;
        }
        if named {
            at += 1 + usize::from(*table.get(at)?);
        }
        let kind = *table.get(at)?;
        at += 1;
        match kind {
            b'V' => {}
            b't' | b'b' | b'B' => at += 1,
            b's' | b'u' | b'U' => at += 2,
            b'I' | b'i' | b'f' => at += 4,
            b'D' => at += 5,
            b'l' | b'L' | b'd' | b'T' => at += 8,
            b'S' | b'x' | b'F' | b'A' => {
                let length = table.get(at..)?.first_chunk::<4>()?;
                at += 4;
                let inner_end = at.checked_add(u32::from_be_bytes(*length) as usize)?;
                if matches!(kind, b'S' | b'x') {
                    at = inner_end;
                } else {
                    if inner_end > end || open.len() == MAX_NESTING {
                        return None;
                    }
                    open.push((inner_end, kind == b'F'));
                    continue;
                }
            }
            _ => return None,
        }
        if at > end {
            return None;
        }
    }
    Some(())
}

/// Reads a table without its length field, as the AMQPLAIN mechanism sends it.
pub(crate) fn read_bare_table(bytes: &[u8]) -> Option<amq_protocol::types::FieldTable> {
    check_table(bytes)?;
    let mut field = u32::try_from(bytes.len()).ok()?.to_be_bytes().to_vec();
    field.extend_from_slice(bytes);
    match amq_protocol::types::parsing::parse_field_table(field.as_slice()) {
        Ok(([], table)) => Some(table),
        _ => None,
    }
}

/// Appends a method frame to `out`.
pub(crate) fn put_method(out: &mut BytesMut, channel: u16, method: AMQPClass) {
    let frame = AMQPFrame::Method(channel, method);
    let written = gen_frame(&frame)(WriteContext::from(Vec::with_capacity(64)))
        .expect("writing to a Vec doesn't fail");
    out.extend_from_slice(&written.into_inner().0);
}

/// Appends a message's content header and its body to `out`, the body split so that
/// no frame is larger than `frame_max`.
pub(crate) fn put_content(
    out: &mut BytesMut,
    channel: u16,
    frame_max: u32,
    properties: &[u8],
    body: &[u8],
) {
    out.reserve(properties.len() + body.len() + 64);
    put_frame_start(out, TYPE_HEADER, channel, 12 + properties.len());
    out.put_u16(CLASS_BASIC);
    out.put_u16(0); // weight: unused
    out.put_u64(body.len() as u64);
    out.put_slice(properties);
    out.put_u8(FRAME_END);
    let largest = (frame_max.max(FRAME_MIN_SIZE) as usize) - FRAME_OVERHEAD;
    // An empty body has no body frame.
    for chunk in body.chunks(largest) {
        put_frame_start(out, TYPE_BODY, channel, chunk.len());
        out.put_slice(chunk);
        out.put_u8(FRAME_END);
    }
}

/// Appends a heartbeat frame to `out`.
pub(crate) fn put_heartbeat(out: &mut BytesMut) {
    put_frame_start(out, TYPE_HEARTBEAT, 0, 0);
    out.put_u8(FRAME_END);
}

fn put_frame_start(out: &mut BytesMut, kind: u8, channel: u16, size: usize) {
    out.put_u8(kind);
    out.put_u16(channel);
    out.put_u32(u32::try_from(size).expect("a frame is cut to fit frame_max, a u32"));
}

/// A short string, cut to the 255 bytes that it may have.
pub(crate) fn short(text: &str) -> ShortString {
    let cut = text.floor_char_boundary(255);
    ShortString::from(&text[..cut])
}

/// A reply text, cut as RabbitMQ does it: to 252 bytes and three dots.
pub(crate) fn reply_text(text: &str) -> ShortString {
    if text.len() <= 255 {
        return ShortString::from(text);
    }
    let cut = text.floor_char_boundary(252);
    ShortString::from(format!("{}...", &text[..cut]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> Vec<u8> {
        let mut table = Vec::new();
        for _ in 0..depth {
            let mut outer = vec![1, b'k', b'F'];
            outer.extend_from_slice(&(table.len() as u32).to_be_bytes());
            outer.append(&mut table);
            table = outer;
        }
        table
    }

    #[test]
    fn nesting_is_limited_before_the_recursive_parser_sees_it() {
        assert!(check_table(&nested(MAX_NESTING - 1)).is_some());
        assert!(check_table(&nested(MAX_NESTING)).is_none());
        assert!(check_table(&nested(10_000)).is_none());
    }

    #[test]
    fn a_table_may_not_reach_beyond_the_one_around_it() {
        // k: table of 4 bytes that says it holds a 100-byte string
        let table = [1, b'k', b'F', 0, 0, 0, 7, 1, b'i', b'S', 0, 0, 0, 100];
        assert!(check_table(&table).is_none());
        assert!(check_table(&table[..6]).is_none());
        assert!(check_table(&[1, b'k', b'?']).is_none());
        assert!(check_table(&[1, b'k', b'V']).is_some());
    }

    #[test]
    fn short_strings_are_cut_between_characters() {
        assert_eq!(short("kurz").as_str(), "kurz");
        assert_eq!(short(&"ä".repeat(200)).as_str().len(), 254);
    }

    #[test]
    fn reply_texts_show_where_they_are_cut() {
        assert_eq!(reply_text(&"a".repeat(255)).as_str(), "a".repeat(255));
        let cut = format!("{}...", "a".repeat(252));
        assert_eq!(reply_text(&"a".repeat(256)).as_str(), cut);
        let cut = format!("a{}...", "ä".repeat(125));
        assert_eq!(reply_text(&format!("a{}", "ä".repeat(200))).as_str(), cut);
    }

    #[test]
    fn a_body_is_split_by_frame_max() {
        let mut out = BytesMut::new();
        put_content(&mut out, 3, 4096, &[0, 0], &[7; 5000]);
        let mut sizes = Vec::new();
        while let Some(frame) = take_frame(&mut out, 4096).expect("well-formed") {
            assert_eq!(frame.channel, 3);
            match frame.payload {
                Payload::Header(header) => assert_eq!(header.body_size, 5000),
                Payload::Body(body) => sizes.push(body.len()),
                other => panic!("unexpected {other:?}"),
            }
        }
        assert_eq!(sizes, [4088, 912]);
    }
}
