//! Normalisation and the text of snapshots.

mod common;

use common::{Random, linked, span, trace_id, with};
use opentelemetry_semantic_conventions::attribute as key;
use otlp::{
    Event, Expected, Internal, Keep, KeyValue, NormalAttribute, NormalEvent, NormalLink,
    NormalParent, NormalSpan, NormalTrace, Normalized, Order, Rules, Shown, Span, SpanKind,
    StatusCode, Target, Value,
};

fn keep(_: &Span, key: &str) -> Keep {
    match key {
        key::SERVER_PORT => Keep::Redacted("<port>"),
        key::CODE_LINE_NUMBER => Keep::Drop,
        _ => Keep::Value,
    }
}

/// A request that publishes a message and makes a call; the message is
/// processed in a trace of its own. `base` moves all ids and times.
fn system(base: u64) -> Vec<Span> {
    let (a, b) = (base + 1, base + 2);
    let at = |start: u64, end: u64| (base + start, base + end);
    let mut root = with(
        with(
            span(
                (a, base + 11, 0),
                "GET /fast",
                SpanKind::Server,
                "tier1-service",
                at(0, 90),
            ),
            key::HTTP_RESPONSE_STATUS_CODE,
            200_i64,
        ),
        key::HTTP_ROUTE,
        "/fast",
    );
    root.events.push(Event {
        time_unix_nanos: base,
        name: "app.checked".to_owned(),
        attributes: vec![KeyValue::new("app.count", 2_i64)],
    });
    let mut call = with(
        with(
            span(
                (a, base + 13, base + 11),
                "GET",
                SpanKind::Client,
                "tier1-service",
                at(40, 80),
            ),
            key::SERVER_PORT,
            (40_000 + base) as i64,
        ),
        key::ERROR_TYPE,
        "502",
    );
    call.status.code = StatusCode::Error;
    call.status.description = format!("differs: {base}");
    vec![
        root,
        with(
            span(
                (a, base + 12, base + 11),
                "publish signups",
                SpanKind::Producer,
                "tier1-service",
                at(10, 20),
            ),
            key::CODE_LINE_NUMBER,
            17_i64,
        ),
        call,
        linked(
            span(
                (b, base + 21, 0),
                "process signups",
                SpanKind::Consumer,
                "consumer-service",
                at(15, 60),
            ),
            a,
            base + 12,
        ),
        linked(
            span(
                (b, base + 22, base + 21),
                "SELECT members",
                SpanKind::Client,
                "consumer-service",
                at(20, 50),
            ),
            b,
            base + 21,
        ),
        linked(
            span(
                (b, base + 23, base + 99),
                "lost",
                SpanKind::Internal,
                "consumer-service",
                at(20, 50),
            ),
            77,
            77,
        ),
    ]
}

const SYSTEM: &str = "\
trace 1
└─ lost · INTERNAL · consumer-service · Unset · parent not received
   │ link → unknown
└─ process signups · CONSUMER · consumer-service · Unset
   │ link → trace 2 span 3 (publish signups)
   └─ SELECT members · CLIENT · consumer-service · Unset
      │ link → parent

trace 2
└─ GET /fast · SERVER · tier1-service · Unset
   │ http.response.status_code = 200
   │ http.route = \"/fast\"
   │ event: app.checked
   │   app.count = 2
   └─ GET · CLIENT · tier1-service · Error
      │ error.type = \"502\"
      │ server.port = int <port>
   └─ publish signups · PRODUCER · tier1-service · Unset
";

#[test]
fn a_snapshot_reads_like_this() {
    let normalized = Rules::new(&keep).normalize(&system(0));
    assert_eq!(normalized.to_string(), SYSTEM);
    assert_eq!(Expected::parse(SYSTEM), Ok(normalized));
}

#[test]
fn order_of_arrival_ids_and_times_make_no_difference() {
    let mut random = Random(7);
    for round in 0..200 {
        let mut spans = system(round * 1000);
        random.shuffle(&mut spans);
        let text = Rules::new(&keep).normalize(&spans).to_string();
        assert_eq!(text, SYSTEM, "round {round}");
    }
}

#[test]
fn by_start_the_first_is_first() {
    let rules = Rules::new(&keep).order(Order::ByStart);
    let text = rules.normalize(&system(500)).to_string();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("└─ "))
        .filter_map(|line| line.split(" · ").next())
        .collect();
    assert_eq!(
        names,
        [
            "GET /fast",
            "publish signups",
            "GET",
            "process signups",
            "SELECT members",
            "lost"
        ]
    );
}

#[test]
fn topology_shows() {
    let nested = |parent| {
        vec![
            span((1, 1, 0), "root", SpanKind::Server, "a", (0, 9)),
            span((1, 2, 1), "call", SpanKind::Client, "a", (1, 8)),
            span((1, 3, parent), "answer", SpanKind::Server, "b", (2, 7)),
        ]
    };
    let text = |spans: &[Span]| Rules::new(&keep).normalize(spans).to_string();
    assert_ne!(text(&nested(2)), text(&nested(1)));
    assert_ne!(text(&nested(2)), text(&nested(0)));
    assert_ne!(text(&nested(2)), text(&nested(9)));

    // The same spans in two traces instead of one.
    let mut apart = nested(0);
    apart[2].trace_id = trace_id(2);
    assert_ne!(text(&nested(0)), text(&apart));

    // A link to one sibling or to the other.
    let links = |id| {
        vec![
            span((1, 1, 0), "one", SpanKind::Producer, "a", (0, 1)),
            span((1, 2, 0), "two", SpanKind::Producer, "a", (0, 1)),
            linked(
                span((1, 3, 0), "process", SpanKind::Consumer, "b", (2, 3)),
                1,
                id,
            ),
        ]
    };
    assert_ne!(text(&links(1)), text(&links(2)));
    assert_ne!(text(&links(1)), text(&links(3)));
}

#[test]
fn types_show_also_where_values_do_not() {
    let text = |value: Value| {
        let span = span((1, 1, 0), "s", SpanKind::Client, "a", (0, 1));
        let spans = [with(
            with(span, key::SERVER_PORT, value.clone()),
            "app.x",
            value,
        )];
        Rules::new(&keep).normalize(&spans).to_string()
    };
    assert!(text(Value::Int(200)).contains("app.x = 200\n"));
    assert!(text("200".into()).contains("app.x = \"200\"\n"));
    assert!(text(Value::Double(200.0)).contains("app.x = 200.0\n"));
    assert!(text(Value::Int(200)).contains("server.port = int <port>\n"));
    assert!(text("200".into()).contains("server.port = string <port>\n"));
    let list = Value::Array(vec!["a".into()]);
    assert!(text(list).contains("server.port = string[] <port>\n"));
}

#[test]
fn duplicate_attributes_are_there_twice() {
    let span = span((1, 1, 0), "s", SpanKind::Client, "a", (0, 1));
    let spans = [with(with(span, "app.x", "b"), "app.x", "a")];
    let text = Rules::new(&keep).normalize(&spans).to_string();
    assert!(
        text.contains("app.x = \"a\"\n   │ app.x = \"b\"\n"),
        "{text}"
    );
}

#[test]
fn identical_siblings_are_numbered_the_same_way_each_time() {
    // Four alike requests, each with a message that is processed in a trace of
    // its own: links tell the traces apart and nothing else does.
    let mut spans = Vec::new();
    for i in 0..4 {
        let id = i * 10;
        spans.push(span(
            (1, id + 1, 0),
            "publish",
            SpanKind::Producer,
            "a",
            (i, i + 1),
        ));
        // The consumer takes them the other way round.
        let process = span(
            (2, id + 2, 0),
            "process",
            SpanKind::Consumer,
            "b",
            (9 - i, 10),
        );
        spans.push(linked(process, 1, id + 1));
        let audit = span(
            (100 + i, id + 3, 0),
            "audit",
            SpanKind::Consumer,
            "c",
            (20 - i, 30),
        );
        spans.push(linked(audit, 2, id + 2));
    }
    let rules = Rules::new(&keep);
    let expected = rules.normalize(&spans).to_string();
    let mut random = Random(11);
    for _ in 0..50 {
        random.shuffle(&mut spans);
        assert_eq!(rules.normalize(&spans).to_string(), expected);
    }
    // Other times, the same structure.
    for span in &mut spans {
        span.start_unix_nanos = 1 + random.next() % 1000;
        span.end_unix_nanos = span.start_unix_nanos + 1;
    }
    assert_eq!(rules.normalize(&spans).to_string(), expected);
    assert!(
        expected.contains("link → trace 1 span 4 (publish)"),
        "{expected}"
    );
}

#[test]
fn what_a_link_points_to_counts_as_structure() {
    // Two traces that are alike but for what they point to in each other.
    let text = |first: u64, second: u64| {
        let mut spans = Vec::new();
        for (trace, start, target) in [(1, first, (2, 22)), (2, second, (1, 13))] {
            let id = trace * 10;
            let at = (start, start + 9);
            let root = span((trace, id + 1, 0), "root", SpanKind::Consumer, "a", at);
            spans.push(linked(root, target.0, target.1));
            spans.push(span(
                (trace, id + 2, id + 1),
                "x",
                SpanKind::Internal,
                "a",
                at,
            ));
            spans.push(span(
                (trace, id + 3, id + 1),
                "y",
                SpanKind::Internal,
                "a",
                at,
            ));
        }
        Rules::new(&keep).normalize(&spans).to_string()
    };
    assert_eq!(text(1, 2), text(2, 1));
    assert!(text(1, 2).contains("link → trace 2 span 2 (x)"));
}

#[test]
fn internal_spans_are_spliced_out_and_listed() {
    let spans = vec![
        span((1, 1, 0), "GET /", SpanKind::Server, "a", (0, 9)),
        span((1, 2, 1), "handler", SpanKind::Internal, "a", (1, 8)),
        span((1, 3, 2), "inner", SpanKind::Internal, "a", (1, 8)),
        with(
            span((1, 4, 3), "GET", SpanKind::Client, "a", (2, 7)),
            key::CODE_LINE_NUMBER,
            3_i64,
        ),
        span((1, 5, 2), "do_saas", SpanKind::Internal, "a", (2, 7)),
        linked(
            span((2, 6, 0), "other", SpanKind::Consumer, "b", (3, 4)),
            1,
            3,
        ),
        span((3, 7, 0), "timer", SpanKind::Internal, "b", (3, 4)),
        span((4, 8, 99), "late", SpanKind::Internal, "b", (3, 4)),
        span((4, 9, 8), "GET", SpanKind::Client, "b", (3, 4)),
    ];
    let named = Internal::Named(vec!["do_saas".to_owned()]);
    let rules = Rules::new(&keep).internal(named);
    assert_eq!(
        rules.normalize(&spans).to_string(),
        "\
trace 1
└─ GET / · SERVER · a · Unset
   └─ GET · CLIENT · a · Unset
   └─ do_saas · INTERNAL · a · Unset

trace 2
└─ GET · CLIENT · b · Unset · parent not received

trace 3
└─ other · CONSUMER · b · Unset
   │ link → trace 1 span 1 (GET /)
"
    );
    let extras = rules.extras(&spans);
    let mut names: Vec<&str> = extras.spans.iter().map(|s| s.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["handler", "inner", "late", "timer"]);
    assert_eq!(extras.attributes.len(), 1);
    assert_eq!(extras.attributes[0].span, "GET");
    assert_eq!(extras.attributes[0].attribute.key, key::CODE_LINE_NUMBER);
    assert_eq!(Rules::new(&keep).extras(&spans).spans, []);
}

#[test]
fn circles_and_depth_stay_readable() {
    let circle = [
        span((1, 1, 2), "a", SpanKind::Internal, "s", (0, 1)),
        span((1, 2, 1), "b", SpanKind::Internal, "s", (1, 2)),
    ];
    let text = Rules::new(&keep).normalize(&circle).to_string();
    assert_eq!(
        text,
        "trace 1\n└─ a · INTERNAL · s · Unset · parent not above\n   └─ b · INTERNAL · s · Unset\n"
    );
    let chain: Vec<Span> = (1..=10_000)
        .map(|i| span((1, i, i - 1), "x", SpanKind::Internal, "s", (i, i + 1)))
        .collect();
    let normalized = Rules::new(&keep).normalize(&chain);
    assert_eq!(normalized.spans().count(), 10_000);
    assert_eq!(Expected::parse(&normalized.to_string()), Ok(normalized));
}

#[test]
fn no_traces_have_a_text() {
    let nothing = Rules::new(&keep).normalize(&[]);
    assert_eq!(nothing.to_string(), "no traces\n");
    assert_eq!(Expected::parse("no traces\n"), Ok(nothing));
}

/// Texts that a sloppy format would trip over.
const NASTY: [&str; 22] = [
    "GET",
    "",
    " ",
    " lead",
    "trail ",
    "a · b",
    "·",
    "\"quoted\"",
    "back\\slash",
    "new\nline",
    "└─ x",
    "│ y",
    "event: z",
    "link → parent",
    "a = b",
    "x (y)",
    ") · (",
    "\u{1b}[31mred",
    "\u{202e}right",
    "日本 😀",
    "trace 1",
    "int <port>",
];

fn text(random: &mut Random) -> String {
    NASTY[random.below(NASTY.len())].to_owned()
}

fn value(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth > 2 { 7 } else { 9 }) {
        0 | 1 => Value::Str(text(random)),
        2 => Value::Int(random.next() as i64),
        3 => {
            let numbers = [
                0.0,
                -0.0,
                1.0,
                1e300,
                -1.5e-9,
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY,
            ];
            Value::Double(numbers[random.below(numbers.len())])
        }
        4 => Value::Bool(random.below(2) == 0),
        5 => Value::Empty,
        6 => Value::Bytes(vec![random.next() as u8; random.below(3)]),
        7 => Value::Array(
            (0..random.below(3))
                .map(|_| value(random, depth + 1))
                .collect(),
        ),
        _ => Value::Map(
            (0..random.below(3))
                .map(|_| KeyValue::new(text(random), value(random, depth + 1)))
                .collect(),
        ),
    }
}

fn attributes(random: &mut Random) -> Vec<NormalAttribute> {
    (0..random.below(4))
        .map(|_| {
            let shown = value(random, 0);
            NormalAttribute {
                key: text(random),
                value: if random.below(4) == 0 {
                    Shown::Redacted {
                        type_name: shown.type_name(),
                        placeholder: "<of · \"this\" = run>".to_owned(),
                    }
                } else {
                    Shown::Verbatim(shown)
                },
            }
        })
        .collect()
}

fn any_span(random: &mut Random, depth: usize, count: &mut usize) -> NormalSpan {
    *count += 1;
    let kinds = [SpanKind::Unspecified, SpanKind::Server, SpanKind::Producer];
    let roots = [
        NormalParent::None,
        NormalParent::NotReceived,
        NormalParent::NotAbove,
    ];
    NormalSpan {
        number: *count,
        name: text(random),
        kind: kinds[random.below(3)],
        service: text(random),
        status: [StatusCode::Unset, StatusCode::Ok, StatusCode::Error][random.below(3)],
        parent: if depth > 0 {
            NormalParent::Above
        } else {
            roots[random.below(3)]
        },
        attributes: attributes(random),
        events: (0..random.below(3))
            .map(|_| NormalEvent {
                name: text(random),
                attributes: attributes(random),
            })
            .collect(),
        links: (0..random.below(3))
            .map(|_| NormalLink {
                target: match random.below(3) {
                    0 => Target::Parent,
                    1 => Target::Unknown,
                    _ => Target::Span {
                        trace: random.below(9),
                        span: random.below(9),
                        name: text(random),
                    },
                },
                attributes: attributes(random),
            })
            .collect(),
        children: (0..random.below(if depth > 3 { 1 } else { 3 }))
            .map(|_| any_span(random, depth + 1, count))
            .collect(),
        source: None,
    }
}

fn any_snapshot(random: &mut Random) -> Normalized {
    Normalized {
        traces: (1..=random.below(4))
            .map(|number| {
                let mut count = 0;
                NormalTrace {
                    number,
                    roots: (0..random.below(3))
                        .map(|_| any_span(random, 0, &mut count))
                        .collect(),
                }
            })
            .collect(),
    }
}

#[test]
fn every_text_reads_back() {
    let mut random = Random(3);
    for _ in 0..500 {
        let snapshot = any_snapshot(&mut random);
        let text = snapshot.to_string();
        assert_eq!(Expected::parse(&text).as_ref(), Ok(&snapshot), "{text}");
        assert_eq!(Expected::parse(&text.replace('\n', "\r\n")), Ok(snapshot));
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\r']));
    }
}

#[test]
fn damaged_text_is_an_error_and_no_panic() {
    let mut random = Random(5);
    for _ in 0..300 {
        let mut chars: Vec<char> = any_snapshot(&mut random).to_string().chars().collect();
        for _ in 0..3 {
            let at = random.below(chars.len());
            match random.below(3) {
                0 => drop(chars.remove(at)),
                1 => chars.insert(at, ['"', ' ', '\n', '·', '[', '└'][random.below(6)]),
                _ => chars.truncate(at + 1),
            }
            if chars.is_empty() {
                break;
            }
        }
        let text: String = chars.into_iter().collect();
        if let Err(error) = Expected::parse(&text) {
            assert!(error.line <= text.lines().count() && !error.problem.is_empty());
        }
    }
}

#[test]
fn errors_name_the_line() {
    let cases = [
        ("└─ a · SERVER · s · Unset", 1, "expected `trace 1`"),
        ("trace x", 1, "expected a trace number"),
        (
            "trace 1\n└─ a · SERVE · s · Unset",
            2,
            "\"SERVE\" is no kind",
        ),
        (
            "trace 1\n└─ a · SERVER · s · unset",
            2,
            "\"unset\" is no status",
        ),
        (
            "trace 1\n   └─ a · SERVER · s · Unset",
            2,
            "the span is too far to the right",
        ),
        (
            "trace 1\n└─ a · SERVER · s · Unset\n   │ k = v",
            3,
            "\"v\" is no value; a text needs quotes",
        ),
        (
            "trace 1\n└─ a · SERVER · s · Unset\n   │ k = 1 2",
            3,
            "\"1 2\" is no value; a text needs quotes",
        ),
        (
            "trace 1\n└─ a · SERVER · s · Unset\n  │ k = 1",
            3,
            "the indentation is no multiple of 3",
        ),
        (
            "trace 1\n└─ a · SERVER · s · Unset\n   │ link → 3",
            3,
            "\"3\" is no link target",
        ),
        (
            "trace 1\nnonsense",
            2,
            "expected a trace, a span (`└─ …`) or what it holds (`│ …`)",
        ),
    ];
    for (text, line, problem) in cases {
        let error = Expected::parse(text).expect_err(text);
        assert_eq!(
            (error.line, error.problem.as_str()),
            (line, problem),
            "{text}"
        );
    }
}
