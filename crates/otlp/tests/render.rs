//! What people see of traces.

mod common;

use common::{Random, linked, resource, span, span_id, trace_id, with};
use opentelemetry_semantic_conventions::attribute as key;
use otlp::{
    Event, KeyValue, LogRecord, Span, SpanKind, StatusCode, WaterfallOptions, traces, tree,
    waterfall,
};

fn system() -> (Vec<Span>, Vec<LogRecord>) {
    let mut call = with(
        span(
            (1, 13, 11),
            "GET",
            SpanKind::Client,
            "tier1-service",
            (110, 1510),
        ),
        key::ERROR_TYPE,
        "502",
    );
    call.status.code = StatusCode::Error;
    call.status.description = "tier2 did not answer".to_owned();
    let mut root = span(
        (1, 11, 0),
        "GET /slow",
        SpanKind::Server,
        "tier1-service",
        (100, 1600),
    );
    root.events.push(Event {
        time_unix_nanos: 101_500_000,
        name: "app.checked".to_owned(),
        attributes: Vec::new(),
    });
    let spans = vec![
        root,
        span(
            (1, 12, 11),
            "publish signups",
            SpanKind::Producer,
            "tier1-service",
            (102, 108),
        ),
        call,
        linked(
            span(
                (1, 21, 12),
                "process signups",
                SpanKind::Consumer,
                "consumer-service",
                (105, 145),
            ),
            1,
            12,
        ),
        span(
            (1, 22, 21),
            "SELECT members",
            SpanKind::Client,
            "consumer-service",
            (110, 111),
        ),
    ];
    let record = |time: u64, id: u64, severity_number: i32, body: &str| LogRecord {
        time_unix_nanos: time * 1_000_000,
        severity_number,
        body: body.into(),
        trace_id: Some(trace_id(1)),
        span_id: (id != 0).then(|| span_id(id)),
        resource: resource("tier1-service"),
        ..LogRecord::default()
    };
    let logs = vec![
        record(1510, 13, 17, "tier2 answered 502"),
        record(101, 11, 9, "slow called"),
        record(1600, 77, 13, "in a span that is not here"),
    ];
    (spans, logs)
}

fn draw(width: usize, unicode: bool, color: bool) -> String {
    let (spans, logs) = system();
    let options = WaterfallOptions {
        width,
        color,
        unicode,
        ..WaterfallOptions::default()
    };
    waterfall(&traces(&spans), &logs, &options)
}

#[test]
fn a_tree_reads_like_this() {
    assert_eq!(
        tree(&traces(&system().0)),
        "\
trace 00000000…
GET /slow · SERVER · tier1-service · Unset
├─ publish signups · PRODUCER · tier1-service · Unset
│  └─ process signups · CONSUMER · consumer-service · Unset
│     └─ SELECT members · CLIENT · consumer-service · Unset
└─ GET · CLIENT · tier1-service · ✗ Error
"
    );
}

#[test]
fn a_waterfall_reads_like_this() {
    assert_eq!(
        draw(80, true, false),
        "\
trace 00000000…  5 spans · 2 services · 1.50 s · ✗ 1 error
                                                           0 ──────────── 1.50 s
GET /slow               tier1-service    SERVER     1.50 s █████████████████████
│  +1.00 ms INFO  slow called
│  +1.50 ms ◆ app.checked
├─ publish signups      tier1-service    PRODUCER  6.00 ms ▏
│  └─ process signups   consumer-service CONSUMER  40.0 ms ▌
│     │  link → parent
│     └─ SELECT members consumer-service CLIENT    1.00 ms ▏
└─ ✗ GET                tier1-service    CLIENT     1.40 s ███████████████████▊
      ✗ Error 502: tier2 did not answer
       +1.41 s ERROR tier2 answered 502
logs of this trace, in no span that is here
    +1.50 s WARN  in a span that is not here
"
    );
    assert_eq!(
        draw(40, false, false),
        "\
trace 00000000..  1.50 s, x 1 error
                              0 - 1.50 s
GET /slow              1.50 s ##########
|  +1.00 ms INFO  slow called
|  +1.50 ms * app.checked
|- publish signups    6.00 ms |
|  `- process sign..  40.0 ms |
|     |  link -> parent
|     `- SELECT me..  1.00 ms |
`- x GET               1.40 s #########
      x Error 502: tier2 did not answer
       +1.41 s ERROR tier2 answered 502
logs of this trace, in no span that is..
    +1.50 s WARN  in a span that is no..
"
    );
}

/// Columns, for text without wide or combining characters.
fn columns(line: &str) -> usize {
    line.chars().count()
}

#[test]
fn every_width_fits() {
    for width in [0, 24, 40, 59, 60, 80, 100, 120, 200] {
        for unicode in [true, false] {
            let text = draw(width, unicode, false);
            for line in text.lines() {
                assert!(columns(line) <= width.max(24), "{width}: {line}");
                assert_eq!(line, line.trim_end());
            }
            assert_eq!(text.is_ascii(), !unicode);
        }
    }
    let wide = draw(120, true, false);
    assert!(wide.lines().any(|line| columns(line) == 120));
}

#[test]
fn colours_change_nothing_but_colours() {
    let coloured = draw(80, true, true);
    assert!(coloured.contains("\u{1b}[31m✗ GET"));
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.split_once('m').expect("an SGR sequence").1;
    }
    plain.push_str(rest);
    assert_eq!(plain, draw(80, true, false));
}

#[test]
fn escape_sequences_are_shown_and_not_obeyed() {
    let evil = "\u{1b}[2J\u{7}\r\n\u{202e}x";
    let mut one = span((1, 1, 0), evil, SpanKind::Server, evil, (0, 1));
    one.status.code = StatusCode::Error;
    one.status.description = evil.to_owned();
    one.events.push(Event {
        name: evil.to_owned(),
        ..Event::default()
    });
    let one = with(one, key::ERROR_TYPE, evil);
    let log = LogRecord {
        trace_id: Some(trace_id(1)),
        span_id: Some(span_id(1)),
        severity_text: evil.to_owned(),
        body: evil.into(),
        ..LogRecord::default()
    };
    let trees = traces(&[one]);
    let options = WaterfallOptions {
        width: 200,
        ..WaterfallOptions::default()
    };
    for text in [tree(&trees), waterfall(&trees, &[log], &options)] {
        assert!(!text.contains(['\u{1b}', '\u{7}', '\r', '\u{202e}']));
        assert!(text.contains("\\u{1b}[2J\\u{7}\\r\\n\\u{202e}x"), "{text}");
    }
}

#[test]
fn odd_times_depths_and_scripts_do_not_panic() {
    let mut random = Random(9);
    let names = [
        "",
        "日本語のとても長い名前がここにある",
        "😀😀😀",
        "e\u{301}\u{301}",
        "x",
    ];
    let times = [0, 1, 1_000, u64::MAX, u64::MAX - 1, 1 << 60];
    for round in 0..200 {
        let spans: Vec<Span> = (1..40)
            .map(|i| {
                let mut one = span(
                    (1 + round % 3, i, random.below(i as usize) as u64),
                    names[random.below(names.len())],
                    SpanKind::Unspecified,
                    names[random.below(names.len())],
                    (0, 0),
                );
                one.start_unix_nanos = times[random.below(times.len())];
                one.end_unix_nanos = times[random.below(times.len())];
                one
            })
            .collect();
        let width = random.below(150);
        let options = WaterfallOptions {
            width,
            color: round % 2 == 0,
            unicode: round % 4 < 2,
            attributes: round % 3 == 0,
        };
        let text = waterfall(&traces(&spans), &[], &options);
        assert!(text.lines().count() >= spans.len());
    }
    let chain: Vec<Span> = (1..=1_000)
        .map(|i| span((1, i, i - 1), "x", SpanKind::Internal, "s", (i, 2_000 - i)))
        .collect();
    let text = waterfall(&traces(&chain), &[], &WaterfallOptions::default());
    assert!(text.lines().all(|line| columns(line) <= 80));
    assert_eq!(waterfall(&[], &[], &WaterfallOptions::default()), "");
}

#[test]
fn attributes_are_shown_with_their_types_where_they_are_asked_for() {
    let (spans, logs) = system();
    let options = WaterfallOptions {
        attributes: true,
        ..WaterfallOptions::default()
    };
    let text = waterfall(&traces(&spans), &logs, &options);
    assert!(
        text.contains("      ✗ Error 502: tier2 did not answer\n      error.type = \"502\"\n"),
        "{text}"
    );
    assert!(!draw(80, true, false).contains("error.type"));

    let mut one = span((1, 1, 0), "x", SpanKind::Internal, "s", (0, 1));
    one.attributes = (0..60_i64).map(|i| KeyValue::new("n", i)).collect();
    let text = waterfall(&traces(&[one]), &[], &options);
    assert!(
        text.contains("n = 49\n") && !text.contains("n = 50"),
        "{text}"
    );
    assert!(text.contains("… 10 more attributes"), "{text}");
}

#[test]
fn those_of_events_and_log_records_are_below_them() {
    let mut one = span((1, 1, 0), "x", SpanKind::Internal, "s", (0, 9));
    one.events = vec![Event {
        time_unix_nanos: 1_000_000,
        name: "app.delayed".to_owned(),
        attributes: vec![KeyValue::new("app.delay_ms", 1500_i64)],
    }];
    let record = LogRecord {
        trace_id: Some(one.trace_id),
        span_id: Some(one.span_id),
        time_unix_nanos: 2_000_000,
        severity_number: 17,
        body: "it failed".into(),
        attributes: vec![KeyValue::new("exception.type", "E\u{1b}")],
        ..LogRecord::default()
    };
    let mut options = WaterfallOptions::default();
    let draw = |options: &WaterfallOptions| {
        waterfall(
            &traces(std::slice::from_ref(&one)),
            std::slice::from_ref(&record),
            options,
        )
    };
    assert!(!draw(&options).contains("delay_ms"));
    options.attributes = true;
    let text = draw(&options);
    let below = text.split_once("◆ ").map(|(_, below)| below);
    let lines: Vec<_> = below.unwrap_or_default().lines().map(str::trim).collect();
    assert_eq!(lines[..2], ["app.delayed", "app.delay_ms = 1500"], "{text}");
    assert!(lines[2].ends_with("ERROR it failed"), "{text}");
    assert_eq!(lines[3], "exception.type = \"E\\u{1b}\"", "{text}");
}

#[test]
fn notes_are_bounded() {
    let mut one = span((1, 1, 0), "x", SpanKind::Internal, "s", (0, 1));
    one.events = vec![Event::default(); 1000];
    let text = waterfall(&traces(&[one]), &[], &WaterfallOptions::default());
    assert!(text.contains("… 980 more"), "{text}");
    assert!(text.lines().count() < 30);
}

/// 0 is a time that nobody told (OTLP, `time_unix_nano`), not one of long ago.
#[test]
fn what_has_no_time_is_given_none() {
    let mut one = span((1, 1, 0), "x", SpanKind::Internal, "s", (100, 101));
    one.events = vec![Event {
        name: "app.some_time".to_owned(),
        ..Event::default()
    }];
    let record = LogRecord {
        body: "at some time".into(),
        trace_id: Some(trace_id(1)),
        span_id: Some(span_id(1)),
        ..LogRecord::default()
    };
    let text = waterfall(&traces(&[one]), &[record], &WaterfallOptions::default());
    assert!(text.contains("◆ app.some_time"), "{text}");
    assert!(text.contains("at some time"), "{text}");
    let told: Vec<_> = text.lines().filter(|line| line.contains("some")).collect();
    assert!(told.iter().all(|line| !line.contains("ms")), "{text}");
}
