//! Recordings in files.

mod common;

use common::{Random, linked, resource, span, trace_id, with};
use otlp::{Event, KeyValue, Link, LogRecord, Recorded, Span, SpanKind, Status, StatusCode, Value};

fn small() -> Recorded {
    let mut call = with(
        span(
            (1, 12, 11),
            "GET",
            SpanKind::Client,
            "tier1-service",
            (10, 15),
        ),
        "error.type",
        "500",
    );
    call.status = Status {
        code: StatusCode::Error,
        description: "tier2 answered 500".to_owned(),
    };
    Recorded {
        spans: vec![
            span(
                (1, 11, 0),
                "GET /error",
                SpanKind::Server,
                "tier1-service",
                (5, 20),
            ),
            call,
        ],
        logs: vec![LogRecord {
            time_unix_nanos: 16_000_000,
            severity_number: 17,
            severity_text: "ERROR".to_owned(),
            body: "tier2 answered 500".into(),
            trace_id: Some(trace_id(1)),
            resource: resource("tier1-service"),
            ..LogRecord::default()
        }],
    }
}

#[test]
fn a_recording_is_json_that_people_can_read() {
    let expected = r#"{
 "resourceSpans": [
  {
   "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "tier1-service"}}]},
   "scopeSpans": [
    {
     "spans": [
      {
       "traceId": "00000000000000010000000000000001",
       "spanId": "000000000000000b",
       "name": "GET /error",
       "kind": 2,
       "startTimeUnixNano": "5000000",
       "endTimeUnixNano": "20000000"
      },
      {
       "traceId": "00000000000000010000000000000001",
       "spanId": "000000000000000c",
       "parentSpanId": "000000000000000b",
       "name": "GET",
       "kind": 3,
       "startTimeUnixNano": "10000000",
       "endTimeUnixNano": "15000000",
       "attributes": [{"key": "error.type", "value": {"stringValue": "500"}}],
       "status": {"code": 2, "message": "tier2 answered 500"}
      }
     ]
    }
   ]
  }
 ],
 "resourceLogs": [
  {
   "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "tier1-service"}}]},
   "scopeLogs": [
    {
     "logRecords": [
      {
       "timeUnixNano": "16000000",
       "severityNumber": 17,
       "severityText": "ERROR",
       "body": {"stringValue": "tier2 answered 500"},
       "traceId": "00000000000000010000000000000001"
      }
     ]
    }
   ]
  }
 ]
}
"#;
    assert_eq!(small().to_json(), expected);
    assert_eq!(Recorded::from_json(expected.as_bytes()), Ok(small()));
    assert_eq!(
        Recorded::from_json(Recorded::default().to_json().as_bytes()),
        Ok(Recorded::default())
    );
}

#[test]
fn what_can_be_recorded_can_be_read_again() {
    let mut random = Random(7);
    for round in 0..300 {
        let recorded = odd(&mut random);
        let json = recorded.to_json();
        let read = Recorded::from_json(json.as_bytes());
        assert_eq!(read.as_ref(), Ok(&recorded), "round {round}: {json}");
        // Written again, it is the same file.
        assert_eq!(read.map(|it| it.to_json()), Ok(json));
    }
}

#[test]
fn times_are_moved_together() {
    let mut recorded = small();
    recorded.spans[0].events.push(Event {
        time_unix_nanos: 6_000_000,
        ..Event::default()
    });
    recorded.logs.push(LogRecord {
        time_unix_nanos: 2_000_000,
        ..LogRecord::default()
    });
    let moved = recorded.clone().starting_at(1_000_000_000);
    let times = |it: &Recorded| {
        let mut times: Vec<u64> = Vec::new();
        for span in &it.spans {
            times.extend([span.start_unix_nanos, span.end_unix_nanos]);
            times.extend(span.events.iter().map(|event| event.time_unix_nanos));
        }
        times.extend(it.logs.iter().map(|log| log.time_unix_nanos));
        times
    };
    let by: Vec<u64> = times(&recorded).iter().map(|it| it + 995_000_000).collect();
    assert_eq!(times(&moved), by);
    // What is not known is not made up, and nothing ends before the epoch.
    assert_eq!(moved.logs[0].observed_unix_nanos, 0);
    assert_eq!(recorded.starting_at(1).logs[1].time_unix_nanos, 1);
    assert_eq!(Recorded::default().starting_at(5), Recorded::default());
}

#[test]
fn what_is_no_recording_is_told() {
    for (json, told) in [
        ("", "the file is no valid JSON: "),
        ("[]", "the file is no JSON object"),
        (
            r#"{"resourceLogs": [{"scopeLogs": 1}]}"#,
            "resourceLogs[0].scopeLogs: not a list",
        ),
        (
            r#"{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "00"}]}]}]}"#,
            "a span's trace id has 1 bytes, not 16",
        ),
    ] {
        let error = Recorded::from_json(json.as_bytes()).expect_err(json);
        assert!(error.starts_with(told), "{error}");
    }
}

/// Spans and records with anything in them that the model can hold, in the order in which
/// a file has them: by resource.
fn odd(random: &mut Random) -> Recorded {
    let mut recorded = Recorded::default();
    for service in 0..=random.below(3) {
        let service = format!("service {service}");
        for _ in 0..random.below(5) {
            let id = random.next() | 1;
            let parent = if random.below(2) == 0 {
                0
            } else {
                random.next() | 1
            };
            let mut span: Span = span(
                (random.next() | 1, id, parent),
                &odd_text(random),
                SpanKind::ALL[random.below(6)],
                &service,
                (0, 0),
            );
            span.start_unix_nanos = random.next();
            span.end_unix_nanos = random.next();
            span.flags = random.below(512) as u32;
            span.trace_state = odd_text(random);
            span.attributes = odd_attributes(random, 0);
            span.status = Status {
                code: [StatusCode::Unset, StatusCode::Ok, StatusCode::Error][random.below(3)],
                description: odd_text(random),
            };
            for _ in 0..random.below(3) {
                span.events.push(Event {
                    time_unix_nanos: random.next(),
                    name: odd_text(random),
                    attributes: odd_attributes(random, 0),
                });
            }
            for _ in 0..random.below(3) {
                let (trace, id) = (random.next(), random.next() | 1);
                span = linked(span, trace, id);
            }
            // The API lets a link hold an empty context.
            if random.below(4) == 0 {
                span.links.push(Link::default());
            }
            recorded.spans.push(span);
        }
        for _ in 0..random.below(4) {
            recorded.logs.push(LogRecord {
                time_unix_nanos: random.next() * random.below(2) as u64,
                observed_unix_nanos: random.next(),
                severity_number: random.below(25) as i32,
                severity_text: odd_text(random),
                body: odd_value(random, 0),
                attributes: odd_attributes(random, 0),
                event_name: odd_text(random),
                trace_id: (random.below(2) == 0).then(|| trace_id(random.next() | 1)),
                span_id: (random.below(2) == 0).then(|| common::span_id(random.next() | 1)),
                flags: random.below(3) as u32,
                resource: resource(&service),
                ..LogRecord::default()
            });
        }
    }
    recorded
}

fn odd_text(random: &mut Random) -> String {
    const PIECES: [&str; 9] = [
        "GET",
        " ",
        "\"",
        "\\",
        "\n",
        "\u{0}",
        "日本",
        "\u{1f600}",
        "</svg>",
    ];
    (0..random.below(5))
        .map(|_| PIECES[random.below(PIECES.len())])
        .collect()
}

fn odd_attributes(random: &mut Random, depth: usize) -> Vec<KeyValue> {
    (0..random.below(3))
        .map(|_| KeyValue::new(odd_text(random), odd_value(random, depth + 1)))
        .collect()
}

fn odd_value(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth > 3 { 6 } else { 8 }) {
        0 => Value::Str(odd_text(random)),
        1 => Value::Bool(random.below(2) == 0),
        2 => Value::Int(random.next() as i64),
        3 => Value::Double(f64::from_bits(random.next())),
        4 => Value::Double([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, 1.0][random.below(5)]),
        5 => Value::Bytes((0..random.below(6)).map(|_| random.next() as u8).collect()),
        6 => Value::Array(
            (0..random.below(3))
                .map(|_| odd_value(random, depth + 1))
                .collect(),
        ),
        _ => Value::Map(odd_attributes(random, depth)),
    }
}
