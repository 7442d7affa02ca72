//! The byte boundary, without sockets: every frame that breaks a rule, and thousands of random ones.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, queue};
use amq_protocol::types::{AMQPValue, FieldTable};
use broker::Config;
use broker::wire::{Engine, Session};

const HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
const FRAME_MAX: u32 = 4096;

// ---- helpers ----

fn engine() -> Engine {
    Engine::new(Config {
        frame_max: FRAME_MAX,
        max_message_bytes: 10_000,
        ..Config::default()
    })
}

fn method(channel: u16, class: AMQPClass) -> Vec<u8> {
    let frame = AMQPFrame::Method(channel, class);
    gen_frame(&frame)(WriteContext::from(Vec::new()))
        .unwrap()
        .into_inner()
        .0
}

/// A frame from its parts, whatever they are.
fn raw(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend_from_slice(&channel.to_be_bytes());
    frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    frame.extend_from_slice(payload);
    frame.push(0xCE);
    frame
}

/// A content header for class `class` with these bytes of properties.
fn header(channel: u16, class: u16, body_size: u64, properties: &[u8]) -> Vec<u8> {
    let mut payload = class.to_be_bytes().to_vec();
    payload.extend_from_slice(&[0, 0]);
    payload.extend_from_slice(&body_size.to_be_bytes());
    payload.extend_from_slice(properties);
    raw(2, channel, &payload)
}

fn start_ok(password: &str, capabilities: &[&str]) -> Vec<u8> {
    let mut table = FieldTable::default();
    for name in capabilities {
        table.insert((*name).into(), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    properties.insert("capabilities".into(), AMQPValue::FieldTable(table));
    let start_ok = connection::StartOk {
        client_properties: properties,
        mechanism: "PLAIN".into(),
        response: format!("\0guest\0{password}").into(),
        locale: "en_US".into(),
    };
    method(
        0,
        AMQPClass::Connection(connection::AMQPMethod::StartOk(start_ok)),
    )
}

fn tune_ok(channel_max: u16, frame_max: u32) -> Vec<u8> {
    let tune_ok = connection::TuneOk {
        channel_max,
        frame_max,
        heartbeat: 0,
    };
    method(
        0,
        AMQPClass::Connection(connection::AMQPMethod::TuneOk(tune_ok)),
    )
}

fn open(vhost: &str) -> Vec<u8> {
    let open = connection::Open {
        virtual_host: vhost.into(),
    };
    method(0, AMQPClass::Connection(connection::AMQPMethod::Open(open)))
}

fn channel_open(channel: u16) -> Vec<u8> {
    let open = channel::AMQPMethod::Open(channel::Open {});
    method(channel, AMQPClass::Channel(open))
}

fn declare(channel: u16, name: &str) -> Vec<u8> {
    let declare = queue::Declare {
        queue: name.into(),
        ..queue::Declare::default()
    };
    method(
        channel,
        AMQPClass::Queue(queue::AMQPMethod::Declare(declare)),
    )
}

fn publish(channel: u16, key: &str) -> Vec<u8> {
    let publish = basic::Publish {
        routing_key: key.into(),
        ..basic::Publish::default()
    };
    method(
        channel,
        AMQPClass::Basic(basic::AMQPMethod::Publish(publish)),
    )
}

fn consume(channel: u16, name: &str) -> Vec<u8> {
    let consume = basic::Consume {
        queue: name.into(),
        consumer_tag: "c".into(),
        ..basic::Consume::default()
    };
    method(
        channel,
        AMQPClass::Basic(basic::AMQPMethod::Consume(consume)),
    )
}

fn ack(channel: u16, tag: u64) -> Vec<u8> {
    let ack = basic::Ack {
        delivery_tag: tag,
        multiple: false,
    };
    method(channel, AMQPClass::Basic(basic::AMQPMethod::Ack(ack)))
}

/// The whole handshake and the opening of channel 1, in one go.
fn opening() -> Vec<u8> {
    let mut bytes = HEADER.to_vec();
    bytes.extend(start_ok("guest", &["authentication_failure_close"]));
    bytes.extend(tune_ok(100, FRAME_MAX));
    bytes.extend(open("/"));
    bytes.extend(channel_open(1));
    bytes
}

/// A session with channel 1 open.
fn opened(engine: &Engine) -> Session {
    let mut session = engine.session();
    session.receive(&opening());
    let frames = output(&mut session);
    assert!(
        matches!(
            frames.last(),
            Some(AMQPFrame::Method(
                1,
                AMQPClass::Channel(channel::AMQPMethod::OpenOk(_))
            ))
        ),
        "{frames:?}"
    );
    session
}

/// The frames that wait for the client. That they can be read is part of every test.
fn output(session: &mut Session) -> Vec<AMQPFrame> {
    frames(&session.take_output())
}

fn frames(mut bytes: &[u8]) -> Vec<AMQPFrame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (rest, frame) = parse_frame(bytes).expect("the broker's frames are well-formed");
        frames.push(frame);
        bytes = rest;
    }
    frames
}

/// Asserts that the connection is closed with `code`, and ends when it is answered. The
/// text that came with it.
#[track_caller]
fn assert_closed(session: &mut Session, code: u16) -> String {
    let frames = output(session);
    let text = match frames.last() {
        Some(AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)))) => {
            assert_eq!(close.reply_code, code, "{}", close.reply_text);
            close.reply_text.as_str().to_owned()
        }
        _ => panic!("no connection.close but {frames:?}"),
    };
    assert!(!session.is_finished());
    // All but the answer is ignored.
    session.receive(&channel_open(9));
    let close_ok = connection::AMQPMethod::CloseOk(connection::CloseOk {});
    session.receive(&method(0, AMQPClass::Connection(close_ok)));
    assert!(session.is_finished());
    assert!(output(session).is_empty());
    text
}

/// Asserts that channel 1 is closed with `code` and can be opened again.
#[track_caller]
fn assert_channel_closed(session: &mut Session, code: u16) {
    let frames = output(session);
    match frames.last() {
        Some(AMQPFrame::Method(1, AMQPClass::Channel(channel::AMQPMethod::Close(close)))) => {
            assert_eq!(close.reply_code, code, "{}", close.reply_text);
        }
        _ => panic!("no channel.close but {frames:?}"),
    }
    // What was on its way is ignored: methods, content and even rubbish.
    session.receive(&declare(1, "ignored"));
    session.receive(&header(1, 60, 3, &[0, 0]));
    session.receive(&raw(3, 1, b"abc"));
    assert!(output(session).is_empty());
    let close_ok = channel::AMQPMethod::CloseOk(channel::CloseOk {});
    session.receive(&method(1, AMQPClass::Channel(close_ok)));
    session.receive(&channel_open(1));
    assert_eq!(output(session).len(), 1);
}

// ---- the handshake ----

#[test]
fn another_protocol_gets_the_version_and_the_end() {
    for header in [
        &b"AMQP\x00\x01\x00\x00"[..],
        b"AMQP\x01\x01\x08\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        &[0; 8],
        b"X",
    ] {
        let mut session = engine().session();
        session.receive(header);
        assert_eq!(session.take_output(), HEADER);
        assert!(session.is_finished());
    }
}

#[test]
fn the_handshake_may_come_in_any_portions() {
    let bytes = opening();
    for size in [1, 2, 3, 7, 64] {
        let mut session = engine().session();
        for portion in bytes.chunks(size) {
            session.receive(portion);
        }
        assert_eq!(output(&mut session).len(), 4, "portions of {size}");
    }
}

#[test]
fn a_wrong_password_is_told_only_to_those_who_can_take_it() {
    let mut session = engine().session();
    session.receive(HEADER);
    session.receive(&start_ok("wrong", &["authentication_failure_close"]));
    assert_closed(&mut session, 403);

    let mut session = engine().session();
    session.receive(HEADER);
    output(&mut session);
    session.receive(&start_ok("wrong", &[]));
    assert!(session.is_finished());
    assert!(output(&mut session).is_empty());
}

#[test]
fn amqplain_logs_in_too() {
    for (password, accepted) in [("guest", true), ("wrong", false)] {
        let mut response = Vec::new();
        for (name, value) in [("LOGIN", "guest"), ("PASSWORD", password)] {
            response.push(name.len() as u8);
            response.extend_from_slice(name.as_bytes());
            response.push(b'S');
            response.extend_from_slice(&(value.len() as u32).to_be_bytes());
            response.extend_from_slice(value.as_bytes());
        }
        let start_ok = connection::StartOk {
            mechanism: "AMQPLAIN".into(),
            response: response.into(),
            locale: "en_US".into(),
            ..connection::StartOk::default()
        };
        let mut session = engine().session();
        session.receive(HEADER);
        session.receive(&method(
            0,
            AMQPClass::Connection(connection::AMQPMethod::StartOk(start_ok)),
        ));
        assert_eq!(session.is_finished(), !accepted);
        assert_eq!(output(&mut session).len(), if accepted { 2 } else { 1 });
    }
}

#[test]
fn negotiation_has_bounds() {
    for (channel_max, frame_max) in [
        (100, FRAME_MAX - 1),
        (100, FRAME_MAX + 1),
        (100, 0),
        (0, FRAME_MAX),
        (2048, FRAME_MAX),
    ] {
        let mut session = engine().session();
        session.receive(HEADER);
        session.receive(&start_ok("guest", &[]));
        session.receive(&tune_ok(channel_max, frame_max));
        assert_closed(&mut session, 530);
    }
}

#[test]
fn the_steps_of_the_handshake_have_an_order() {
    let mut session = engine().session();
    session.receive(HEADER);
    session.receive(&open("/"));
    assert_closed(&mut session, 504);

    let mut session = engine().session();
    session.receive(HEADER);
    session.receive(&channel_open(1));
    assert_closed(&mut session, 505);

    let mut session = opened(&engine());
    session.receive(&open("/"));
    assert_closed(&mut session, 504);
}

#[test]
fn unknown_mechanisms_and_vhosts_are_refused() {
    let mut session = engine().session();
    session.receive(HEADER);
    let start_ok_odd = connection::StartOk {
        mechanism: "ODD".into(),
        ..connection::StartOk::default()
    };
    session.receive(&method(
        0,
        AMQPClass::Connection(connection::AMQPMethod::StartOk(start_ok_odd)),
    ));
    assert_closed(&mut session, 503);

    let mut session = engine().session();
    session.receive(HEADER);
    session.receive(&start_ok("guest", &[]));
    session.receive(&tune_ok(10, FRAME_MAX));
    session.receive(&open("nowhere"));
    assert_closed(&mut session, 530);
}

// ---- frames ----

#[test]
fn broken_framing_is_501() {
    let mut wrong_end = channel_open(2);
    *wrong_end.last_mut().unwrap() = 0;
    // The size alone is enough: the broker doesn't wait for the bytes.
    let too_large = [3, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF];
    let one_too_large = [3, 0, 1, 0, 0, 0x10, 0x01];
    for bytes in [
        &wrong_end[..],
        &too_large,
        &one_too_large,
        &[9],
        b"AMQP\x00\x00\x09\x01",
    ] {
        let mut session = opened(&engine());
        session.receive(bytes);
        let frames = output(&mut session);
        assert!(
            matches!(
                &frames[..],
                [AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)))]
                    if close.reply_code == 501
            ),
            "{frames:?}"
        );
        // Where an answer would begin can't be told.
        assert!(session.is_finished());
    }
}

/// As to RabbitMQ: some clients cut bodies at `frame_max` and forget what is around them.
#[test]
fn a_payload_of_frame_max_is_taken() {
    let mut session = opened(&engine());
    session.receive(&declare(1, "q"));
    session.receive(&publish(1, "q"));
    session.receive(&header(1, 60, FRAME_MAX.into(), &[0, 0]));
    session.receive(&raw(3, 1, &[b'x'; FRAME_MAX as usize]));
    session.receive(&declare(1, "q"));
    let frames = output(&mut session);
    let Some(AMQPFrame::Method(1, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(declared)))) =
        frames.last()
    else {
        panic!("{frames:?}");
    };
    assert_eq!(declared.message_count, 1);
}

#[test]
fn a_heartbeat_with_a_payload_is_501() {
    let mut session = opened(&engine());
    session.receive(&raw(8, 0, b"x"));
    assert_closed(&mut session, 501);
}

/// A client has often sent more when it learns that it broke a rule. How TCP cuts
/// that must not matter to how the connection ends.
#[test]
fn portions_make_no_difference_to_the_end() {
    let close_ok = connection::AMQPMethod::CloseOk(connection::CloseOk {});
    let close_ok = method(0, AMQPClass::Connection(close_ok));
    let rubbish = raw(1, 1, &[0, 20]);
    let mut wrong_end = channel_open(2);
    *wrong_end.last_mut().unwrap() = 0;
    for (what, bytes, code) in [
        ("a method cut short", rubbish.clone(), 502),
        ("an unknown method", raw(1, 1, &[0, 60, 0, 99]), 503),
        ("a heartbeat with a payload", raw(8, 0, b"x"), 501),
        ("two of them", [rubbish.clone(), rubbish].concat(), 502),
        ("broken framing", wrong_end, 501),
    ] {
        let bytes = [bytes, declare(1, "on its way"), close_ok.clone()].concat();
        for portion in [1, 3, 7, 20, bytes.len()] {
            let mut session = opened(&engine());
            let mut frames = Vec::new();
            for bytes in bytes.chunks(portion) {
                session.receive(bytes);
                frames.extend(output(&mut session));
            }
            assert!(
                matches!(
                    &frames[..],
                    [AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)))]
                        if close.reply_code == code
                ),
                "{what} in portions of {portion}: {frames:?}"
            );
            assert!(session.is_finished(), "{what} in portions of {portion}");
        }
    }
}

#[test]
fn unreadable_methods_are_502_or_503() {
    let mut trailing = vec![0, 20, 0, 10, 0];
    trailing.push(1);
    for (payload, code) in [
        (&[][..], 502),
        (&[0, 20], 502),
        (&[0, 50, 0, 10, 0, 0, 200, b'x'], 502),
        (&trailing, 502),
        (&[0, 77, 0, 1], 503),
        (&[0, 60, 0, 99], 503),
    ] {
        let mut session = opened(&engine());
        session.receive(&raw(1, 1, payload));
        assert_closed(&mut session, code);
    }
}

#[test]
fn deep_tables_are_502_and_not_the_end_of_the_stack() {
    let mut table = Vec::new();
    while table.len() < 4000 {
        let mut outer = vec![0, b'F'];
        outer.extend_from_slice(&(table.len() as u32).to_be_bytes());
        outer.append(&mut table);
        table = outer;
    }
    let mut field = (table.len() as u32).to_be_bytes().to_vec();
    field.append(&mut table);

    let mut session = opened(&engine());
    session.receive(&publish(1, "q"));
    let mut properties = vec![0b0010_0000, 0];
    properties.extend_from_slice(&field);
    session.receive(&header(1, 60, 0, &properties));
    assert_closed(&mut session, 502);

    let mut session = opened(&engine());
    let mut declare = vec![0, 50, 0, 10, 0, 0, 1, b'q', 0];
    declare.extend_from_slice(&field);
    session.receive(&raw(1, 1, &declare));
    assert_closed(&mut session, 502);
}

#[test]
fn frames_out_of_place_are_refused() {
    let cases: [(&str, Vec<u8>, u16); 9] = [
        ("a method on a closed channel", declare(5, "q"), 504),
        ("channel.open again", channel_open(1), 504),
        ("a header without publish", header(1, 60, 0, &[0, 0]), 505),
        ("a body without publish", raw(3, 1, b"x"), 505),
        ("content on channel 0", raw(3, 0, b"x"), 505),
        ("a heartbeat on channel 1", raw(8, 1, &[]), 505),
        ("a channel's method on channel 0", channel_open(0), 504),
        (
            "a connection's method on channel 1",
            {
                let close = connection::AMQPMethod::Close(connection::Close::default());
                method(1, AMQPClass::Connection(close))
            },
            503,
        ),
        (
            "a server's method",
            {
                let get_empty = basic::AMQPMethod::GetEmpty(basic::GetEmpty {});
                method(1, AMQPClass::Basic(get_empty))
            },
            503,
        ),
    ];
    for (what, bytes, code) in cases {
        println!("{what}");
        let mut session = opened(&engine());
        session.receive(&bytes);
        assert_closed(&mut session, code);
    }
}

#[test]
fn channels_beyond_channel_max_are_530() {
    let mut session = opened(&engine());
    // One is open, of 100. Their numbers are the client's to choose.
    for number in 0..99 {
        session.receive(&channel_open(1000 + number));
        assert_eq!(output(&mut session).len(), 1, "{number}");
    }
    session.receive(&channel_open(2));
    assert_eq!(
        assert_closed(&mut session, 530),
        "NOT_ALLOWED - number of channels opened (100) has reached the negotiated channel_max (100)"
    );
}

#[test]
fn what_is_not_implemented_is_540() {
    let mut with_ttl = queue::Declare {
        queue: "q".into(),
        ..queue::Declare::default()
    };
    with_ttl
        .arguments
        .insert("x-message-ttl".into(), AMQPValue::LongInt(1));
    let mut quorum = queue::Declare {
        queue: "q".into(),
        ..queue::Declare::default()
    };
    quorum.arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    let select = amq_protocol::protocol::tx::AMQPMethod::Select(Default::default());
    let exchange = amq_protocol::protocol::exchange::Declare {
        exchange: "mine".into(),
        kind: "topic".into(),
        ..Default::default()
    };
    let cases = [
        AMQPClass::Queue(queue::AMQPMethod::Declare(with_ttl)),
        AMQPClass::Queue(queue::AMQPMethod::Declare(quorum)),
        AMQPClass::Tx(select),
        AMQPClass::Exchange(amq_protocol::protocol::exchange::AMQPMethod::Declare(
            exchange,
        )),
        AMQPClass::Basic(basic::AMQPMethod::Recover(basic::Recover {
            requeue: false,
        })),
        AMQPClass::Channel(channel::AMQPMethod::Flow(channel::Flow { active: false })),
    ];
    for class in cases {
        let mut session = opened(&engine());
        session.receive(&method(1, class));
        assert_closed(&mut session, 540);
    }
    // basic.qos with a prefetch size, and properties that RabbitMQ would act on.
    let mut session = opened(&engine());
    session.receive(&raw(1, 1, &[0, 60, 0, 10, 0, 0, 0, 1, 0, 0, 0]));
    assert_closed(&mut session, 540);
    let expiration = [1, 0, 2, b'1', b'0'];
    let mut session = opened(&engine());
    session.receive(&publish(1, "q"));
    session.receive(&header(1, 60, 0, &expiration));
    assert_closed(&mut session, 540);
}

#[test]
fn content_has_an_order_and_a_size() {
    let mut session = opened(&engine());
    session.receive(&publish(1, "q"));
    session.receive(&declare(1, "q"));
    assert_closed(&mut session, 505);

    let mut session = opened(&engine());
    session.receive(&publish(1, "q"));
    session.receive(&raw(3, 1, b"x"));
    assert_closed(&mut session, 505);

    let mut session = opened(&engine());
    session.receive(&publish(1, "q"));
    session.receive(&header(1, 60, 5, &[0, 0]));
    session.receive(&header(1, 60, 5, &[0, 0]));
    assert_closed(&mut session, 505);

    let mut session = opened(&engine());
    session.receive(&publish(1, "q"));
    session.receive(&header(1, 50, 0, &[0, 0]));
    assert_closed(&mut session, 505);

    let mut session = opened(&engine());
    session.receive(&publish(1, "q"));
    session.receive(&header(1, 60, 2, &[0, 0]));
    session.receive(&raw(3, 1, b"abc"));
    assert_closed(&mut session, 501);

    let mut session = opened(&engine());
    session.receive(&publish(1, "q"));
    session.receive(&header(1, 60, u64::MAX, &[0, 0]));
    assert_channel_closed(&mut session, 406);
}

#[test]
fn messages_begun_and_not_finished_are_limited() {
    let mut session = opened(&engine());
    let body = [0; FRAME_MAX as usize - 8];
    for channel in 2..100 {
        session.receive(&channel_open(channel));
        session.receive(&publish(channel, "q"));
        session.receive(&header(channel, 60, 9000, &[0, 0]));
        session.receive(&raw(3, channel, &body));
        session.receive(&raw(3, channel, &body));
        if output(&mut session).len() > 1 {
            // Four messages of the largest size, 10 000 bytes, with frames of properties.
            assert_eq!(channel, 2 + 4 * (10_000 + 4096) / 8178);
            return;
        }
    }
    panic!("no limit");
}

/// Properties wait with their message, and may take as much as a body.
#[test]
fn properties_of_unfinished_messages_are_limited_too() {
    let mut table = vec![1, b'k', b'S', 0, 0, 0x0F, 0];
    table.resize(7 + 0x0F00, b'x');
    let mut properties = vec![0b0010_0000, 0];
    properties.extend_from_slice(&(table.len() as u32).to_be_bytes());
    properties.extend_from_slice(&table);

    let engine = engine();
    let mut session = opened(&engine);
    for channel in 2..100 {
        session.receive(&channel_open(channel));
        session.receive(&publish(channel, "q"));
        session.receive(&header(channel, 60, 1, &properties));
        if output(&mut session).len() > 1 {
            // Four messages of 10 000 bytes, each with a frame of properties.
            assert_eq!(channel, 2 + 4 * (10_000 + 4096) / 3853);
            return;
        }
        let held = engine.audit().unwrap().unfinished_bytes;
        assert_eq!(held, (u64::from(channel) - 1) * 3853);
    }
    panic!("no limit");
}

#[test]
fn properties_pass_byte_for_byte() {
    // A table that no map keeps as it is: unsorted, and with a name twice.
    let mut table = Vec::new();
    for (name, value) in [("b", &b"S\0\0\0\x01x"[..]), ("a", b"t\x02"), ("b", b"V")] {
        table.push(name.len() as u8);
        table.extend_from_slice(name.as_bytes());
        table.extend_from_slice(value);
    }
    let mut properties = vec![0b0010_0000, 0];
    properties.extend_from_slice(&(table.len() as u32).to_be_bytes());
    properties.extend_from_slice(&table);

    let mut session = opened(&engine());
    session.receive(&declare(1, "q"));
    session.receive(&consume(1, "q"));
    output(&mut session);
    session.receive(&publish(1, "q"));
    session.receive(&header(1, 60, 0, &properties));
    let output = session.take_output();
    let expected = header(1, 60, 0, &properties);
    assert!(
        output.ends_with(&expected),
        "{output:02x?} does not end with {expected:02x?}"
    );
}

#[test]
fn both_sides_may_close_a_channel_at_once() {
    let mut session = opened(&engine());
    session.receive(&ack(1, 9));
    let close = channel::AMQPMethod::Close(channel::Close::default());
    session.receive(&method(1, AMQPClass::Channel(close)));
    let close_ok = channel::AMQPMethod::CloseOk(channel::CloseOk {});
    session.receive(&method(1, AMQPClass::Channel(close_ok)));
    let frames = output(&mut session);
    assert!(
        matches!(
            frames[..],
            [
                AMQPFrame::Method(1, AMQPClass::Channel(channel::AMQPMethod::Close(_))),
                AMQPFrame::Method(1, AMQPClass::Channel(channel::AMQPMethod::CloseOk(_)))
            ]
        ),
        "{frames:?}"
    );
    session.receive(&channel_open(1));
    assert_eq!(output(&mut session).len(), 1);
}

#[test]
fn a_client_that_does_not_read_is_not_served_on() {
    let engine = Engine::new(Config {
        max_outgoing_bytes: 10_000,
        ..Config::default()
    });
    let mut slow = engine.session();
    let mut bytes = HEADER.to_vec();
    bytes.extend(start_ok("guest", &[]));
    bytes.extend(tune_ok(10, 131_072));
    bytes.extend(open("/"));
    bytes.extend(channel_open(1));
    bytes.extend(declare(1, "q"));
    bytes.extend(consume(1, "q"));
    slow.receive(&bytes);
    let mut publisher = engine.session();
    let mut bytes = HEADER.to_vec();
    bytes.extend(start_ok("guest", &[]));
    bytes.extend(tune_ok(10, 131_072));
    bytes.extend(open("/"));
    bytes.extend(channel_open(1));
    publisher.receive(&bytes);
    for _ in 0..100 {
        publisher.receive(&publish(1, "q"));
        publisher.receive(&header(1, 60, 1000, &[0, 0]));
        publisher.receive(&raw(3, 1, &[7; 1000]));
    }
    // The publisher isn't held up, and only what fits was handed to the consumer.
    let stats = engine.queue("/", "q").unwrap();
    assert_eq!(stats.published, 100);
    assert!(stats.unacked < 12, "{stats:?}");
    assert!(slow.is_paused());
    // Its own requests wait, too.
    slow.receive(&declare(1, "later"));
    assert_eq!(engine.queue("/", "later"), None);
    let mut deliveries = 0;
    while deliveries < 100 {
        let output = slow.take_output();
        assert!(output.len() < 20_000);
        deliveries += frames(&output)
            .iter()
            .filter(|frame| matches!(frame, AMQPFrame::Header(..)))
            .count();
        slow.receive(&[]);
    }
    assert!(engine.queue("/", "later").is_some());
    assert_eq!(engine.queue("/", "q").unwrap().unacked, 100);
}

#[test]
fn a_lost_session_gives_back_what_it_held() {
    let engine = engine();
    let mut session = opened(&engine);
    session.receive(&declare(1, "q"));
    session.receive(&publish(1, "q"));
    session.receive(&header(1, 60, 0, &[0, 0]));
    session.receive(&consume(1, "q"));
    assert_eq!(engine.queue("/", "q").unwrap().unacked, 1);
    drop(session);
    let stats = engine.queue("/", "q").unwrap();
    assert_eq!((stats.ready, stats.unacked, stats.consumers), (1, 0, 0));
}

// ---- random input ----

/// SplitMix64: small, seeded and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// A conversation in order, frame by frame.
fn conversation() -> Vec<Vec<u8>> {
    let select = confirm::AMQPMethod::Select(confirm::Select::default());
    let qos = basic::AMQPMethod::Qos(basic::Qos {
        prefetch_count: 3,
        global: true,
    });
    let get = basic::AMQPMethod::Get(basic::Get {
        queue: "q".into(),
        no_ack: false,
    });
    let nack = basic::AMQPMethod::Nack(basic::Nack {
        delivery_tag: 0,
        multiple: true,
        requeue: true,
    });
    let headers = b"\x20\0\0\0\0\x0b\x01kS\0\0\0\x04abcd".to_vec();
    vec![
        method(1, AMQPClass::Confirm(select)),
        declare(1, "q"),
        method(1, AMQPClass::Basic(qos)),
        publish(1, "q"),
        header(1, 60, 3, &headers),
        raw(3, 1, b"abc"),
        publish(1, "nowhere"),
        header(1, 60, 0, &[0, 0]),
        method(1, AMQPClass::Basic(get)),
        consume(1, "q"),
        channel_open(2),
        consume(2, "q"),
        ack(1, 1),
        method(1, AMQPClass::Basic(nack)),
        raw(8, 0, &[]),
        declare(2, ""),
    ]
}

fn mutate(random: &mut Random, frames: &mut Vec<Vec<u8>>) {
    for _ in 0..=random.below(3) {
        let at = random.below(frames.len());
        match random.below(7) {
            // Bytes of a payload or of the framing
            0 | 1 => {
                let length = frames[at].len();
                if length > 0 {
                    let byte = random.below(length);
                    frames[at][byte] = random.next() as u8;
                }
            }
            // A frame cut short, lost, twice, elsewhere or from nowhere
            2 => {
                let length = random.below(frames[at].len() + 1);
                frames[at].truncate(length);
            }
            3 if frames.len() > 1 => {
                frames.remove(at);
            }
            4 => {
                let copy = frames[at].clone();
                frames.insert(random.below(frames.len()), copy);
            }
            5 => {
                let other = random.below(frames.len());
                frames.swap(at, other);
            }
            _ => {
                let length = random.below(40);
                let payload = random.bytes(length);
                let kind = [1, 2, 3, 8][random.below(4)];
                frames.insert(at, raw(kind, random.below(3) as u16, &payload));
            }
        }
    }
}

#[test]
fn random_bytes_never_break_the_broker() {
    let engine = engine();
    let mut random = Random(20_261);
    for case in 0..4000 {
        let mut bytes = match case % 4 {
            0 => Vec::new(),
            1 => HEADER.to_vec(),
            _ => opening(),
        };
        if case % 4 == 3 {
            let mut frames = conversation();
            mutate(&mut random, &mut frames);
            bytes.extend(frames.concat());
        } else {
            let length = random.below(300);
            bytes.extend(random.bytes(length));
        }
        let mut session = engine.session();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (portion, later) = rest.split_at(1 + random.below(rest.len()));
            session.receive(portion);
            assert!(session.unhandled() <= FRAME_MAX as usize, "case {case}");
            let output = session.take_output();
            if output != HEADER {
                frames(&output);
            }
            rest = later;
        }
        engine.audit().unwrap();
        drop(session);
        assert_eq!(engine.audit().unwrap().connections, 0, "case {case}");
    }
    // It still does its work.
    let mut session = opened(&engine);
    session.receive(&declare(1, "after"));
    assert_eq!(output(&mut session).len(), 1);
}

#[test]
fn mutated_conversations_never_break_the_broker() {
    let mut random = Random(9_001);
    for case in 0..3000 {
        let engine = engine();
        let mut healthy = opened(&engine);
        let mut session = opened(&engine);
        let mut frames_in = conversation();
        mutate(&mut random, &mut frames_in);
        for frame in frames_in {
            session.receive(&frame);
            frames(&session.take_output());
            engine.audit().unwrap();
        }
        drop(session);
        engine.audit().unwrap();
        // Nothing is left behind with a connection that is gone.
        if let Some(stats) = engine.queue("/", "q") {
            assert_eq!((stats.unacked, stats.consumers), (0, 0), "case {case}");
        }
        healthy.receive(&declare(1, "healthy"));
        assert_eq!(output(&mut healthy).len(), 1, "case {case}");
    }
}
