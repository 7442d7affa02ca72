//! Pictures of traces.

mod common;

use std::collections::HashSet;

use common::{Random, linked, resource, span, span_id, trace_id, with};
use otlp::{Event, LogRecord, Span, SpanKind, Status, StatusCode, SvgOptions, Trace, traces};
use roxmltree::{Document, Node};

fn svg(title: &str, traces: &[Trace], logs: &[LogRecord]) -> String {
    let options = SvgOptions {
        title,
        services: &[],
    };
    otlp::svg(traces, logs, options)
}

fn request() -> Vec<Span> {
    let mut call = with(
        span(
            (1, 13, 11),
            "GET",
            SpanKind::Client,
            "tier1-service",
            (160, 200),
        ),
        "error.type",
        "500",
    );
    call.status = Status {
        code: StatusCode::Error,
        description: "tier2 answered 500".to_owned(),
    };
    let mut root = span(
        (1, 11, 0),
        "GET /error",
        SpanKind::Server,
        "tier1-service",
        (100, 200),
    );
    // In no order, as a service may record them.
    for (at, name) in [(135, "app.resumed"), (125, "app.delayed")] {
        root.events.push(Event {
            time_unix_nanos: at * 1_000_000,
            name: name.to_owned(),
            attributes: Vec::new(),
        });
    }
    vec![
        root,
        span(
            (1, 12, 11),
            "publish signups",
            SpanKind::Producer,
            "tier1-service",
            (110, 150),
        ),
        linked(
            span(
                (1, 21, 12),
                "process signups",
                SpanKind::Consumer,
                "consumer-service",
                (120, 180),
            ),
            1,
            12,
        ),
        call,
    ]
}

fn record(span: u64, number: i32, text: &str) -> LogRecord {
    LogRecord {
        time_unix_nanos: 130_000_000,
        severity_number: number,
        severity_text: if number >= 17 { "ERROR" } else { "INFO" }.to_owned(),
        body: text.into(),
        trace_id: Some(trace_id(1)),
        span_id: Some(span_id(span)),
        resource: resource("tier1-service"),
        ..LogRecord::default()
    }
}

/// What stands in the picture, row by row.
fn rows(picture: &Document<'_>) -> Vec<String> {
    let text = |node: Node<'_, '_>| -> String {
        node.descendants()
            .filter(|it| {
                it.is_text()
                    && it
                        .parent()
                        .is_some_and(|it| !it.has_tag_name(name("title")))
            })
            .filter_map(|it| it.text())
            .map(str::trim)
            .filter(|it| !it.is_empty())
            .collect::<Vec<_>>()
            .join(" | ")
    };
    let root = picture.root_element();
    let rows = root.children().filter(|it| it.has_tag_name(name("g")));
    rows.map(text).filter(|it| !it.is_empty()).collect()
}

fn name(tag: &str) -> (&'static str, &str) {
    ("http://www.w3.org/2000/svg", tag)
}

fn of_class<'a>(picture: &'a Document<'a>, class: &str) -> Vec<Node<'a, 'a>> {
    let has = |node: &Node<'_, '_>| {
        node.attribute("class")
            .is_some_and(|it| it.split(' ').any(|it| it == class))
    };
    picture.descendants().filter(has).collect()
}

fn var(node: &Node<'_, '_>, name: &str) -> f64 {
    let style = node.attribute("style").unwrap_or_default();
    let mut pairs = style.split(';').filter_map(|it| it.split_once(':'));
    let value = pairs.find(|(key, _)| *key == name).map_or("", |it| it.1);
    value.trim_end_matches("px").parse().expect(style)
}

/// A request whose root is still open may have logged for long.
#[test]
fn records_of_a_span_that_did_not_come_are_in_order_and_not_without_end() {
    let logs: Vec<LogRecord> = (0..1000)
        .rev()
        .map(|number| LogRecord {
            time_unix_nanos: 130_000_000 + number,
            ..record(99, 9, &format!("number {number}"))
        })
        .collect();
    let text = svg("GET /error", &traces(&request()), &logs);
    let picture = Document::parse(&text).expect(&text);
    let rows = rows(&picture);
    let title = "logs of this trace, in no span that is here";
    let at = rows.iter().position(|row| row == title).expect(&text);
    assert!(rows[at + 1].starts_with("INFO number 0 |"), "{rows:?}");
    assert!(rows[at + 20].starts_with("INFO number 19 |"), "{rows:?}");
    assert_eq!(rows[at + 21..], ["… 980 more"]);
}

#[test]
fn links_and_what_has_no_time_are_bounded_and_given_none() {
    let mut spans = request();
    for number in 0..30 {
        spans[0] = linked(spans[0].clone(), 1, 100 + number);
    }
    spans[0].events[0].time_unix_nanos = 0;
    let text = svg("GET /error", &traces(&spans), &[]);
    let picture = Document::parse(&text).expect(&text);
    let rows = rows(&picture);
    let links = rows.iter().filter(|row| row.starts_with("○ link")).count();
    // The other is below another span.
    assert!(links <= 21, "{rows:?}");
    assert!(rows.iter().any(|row| row.starts_with("… ")), "{rows:?}");
    // The trace begins at 100 ms.
    assert!(!text.contains("-100 ms"), "{text}");
}

#[test]
fn each_span_is_a_row_and_what_happened_in_it_stands_below() {
    let logs = [
        record(11, 9, "message queued"),
        record(13, 17, "tier2 answered 500"),
        record(99, 9, "of a span that did not come"),
    ];
    let text = svg("GET /error", &traces(&request()), &logs);
    let picture = Document::parse(&text).expect(&text);
    assert_eq!(
        rows(&picture),
        [
            "trace 00000000… | 4 spans · 2 services · | ✗ 1 error",
            "0 | 50.0 ms | 100 ms",
            "GET /error | tier1-service | SERVER | 100 ms",
            "◆ app.delayed | +25.0 ms",
            "INFO message queued | +30.0 ms",
            "◆ app.resumed | +35.0 ms",
            "publish signups | tier1-service | PRODUCER | 40.0 ms",
            "process signups | consumer-service | CONSUMER | 60.0 ms",
            "○ link → parent",
            "✗ GET | tier1-service | CLIENT | 40.0 ms",
            "✗ Error 500: tier2 answered 500",
            "ERROR tier2 answered 500 | +30.0 ms",
            "logs of this trace, in no span that is here",
            "INFO of a span that did not come | +30.0 ms",
        ]
    );
    let bars: Vec<_> = of_class(&picture, "trace-bar")
        .iter()
        .map(|bar| {
            (
                var(bar, "--s"),
                var(bar, "--d"),
                bar.attribute("class").unwrap_or(""),
            )
        })
        .collect();
    assert_eq!(
        bars,
        [
            (0.0, 1.0, "trace-bar trace-0"),
            (0.1, 0.4, "trace-bar trace-0"),
            (0.2, 0.6, "trace-bar trace-1"),
            (0.6, 0.4, "trace-bar trace-bad"),
        ]
    );
    assert_eq!(of_class(&picture, "trace-event").len(), 2);
    assert_eq!(of_class(&picture, "trace-link").len(), 1);
    let root = picture.root_element();
    let child = |tag| root.children().find(|it| it.has_tag_name(name(tag)));
    assert_eq!(child("title").and_then(|it| it.text()), Some("GET /error"));
    assert_eq!(
        child("desc").and_then(|it| it.text()),
        Some(
            "trace 00000000…: GET /error, SERVER of tier1-service, 100 ms; \
             level 1: publish signups, PRODUCER of tier1-service, 40.0 ms; \
             level 2: process signups, CONSUMER of consumer-service, 60.0 ms; \
             level 1: GET, CLIENT of tier1-service, 40.0 ms, ✗ Error 500: tier2 answered 500"
        )
    );
}

#[test]
fn a_service_can_have_the_same_colour_in_several_pictures() {
    let options = SvgOptions {
        title: "",
        services: &["elsewhere", "consumer-service"],
    };
    let text = otlp::svg(&traces(&request()), &[], options);
    let picture = Document::parse(&text).expect(&text);
    let bars: Vec<_> = of_class(&picture, "trace-bar")
        .iter()
        .map(|bar| bar.attribute("class").unwrap_or(""))
        .collect();
    assert_eq!(
        bars,
        [
            "trace-bar trace-2",
            "trace-bar trace-2",
            "trace-bar trace-1",
            "trace-bar trace-bad",
        ]
    );
}

#[test]
fn a_long_line_is_folded_where_there_is_little_room() {
    let long = "telling how well we do at signing members up";
    let text = svg("", &traces(&request()), &[record(12, 9, long)]);
    let picture = Document::parse(&text).expect(&text);
    let lines = |class| -> Vec<&str> {
        let nodes = of_class(&picture, class);
        nodes.iter().filter_map(|it| it.text()).collect()
    };
    assert_eq!(lines("trace-whole"), [format!("INFO {long}")]);
    assert_eq!(lines("trace-folded").join(" "), format!("INFO {long}"));
    assert!(lines("trace-folded").len() > 1);
}

#[test]
fn several_traces_have_an_axis_each() {
    let spans = [
        span((1, 1, 0), "a", SpanKind::Server, "s", (0, 10)),
        span((2, 2, 0), "b", SpanKind::Server, "t", (100, 101)),
    ];
    let text = svg("two", &traces(&spans), &[]);
    let picture = Document::parse(&text).expect(&text);
    assert_eq!(of_class(&picture, "trace-head").len(), 2);
    let bars = of_class(&picture, "trace-bar");
    assert!(
        bars.iter()
            .all(|it| (var(it, "--s"), var(it, "--d")) == (0.0, 1.0))
    );
}

/// What a reader of the book relies on, whoever exported the spans.
#[test]
fn odd_traces_make_pictures_like_any_other() {
    let mut random = Random(11);
    for round in 0..400 {
        let mut spans = odd_spans(&mut random);
        let logs: Vec<_> = (0..random.below(30))
            .map(|_| {
                let span = spans.get(random.below(spans.len().max(1)));
                LogRecord {
                    time_unix_nanos: odd_time(&mut random),
                    severity_number: random.below(30) as i32 - 2,
                    body: odd_text(&mut random).into(),
                    trace_id: span.map(|it| it.trace_id),
                    span_id: span.map(|it| it.span_id),
                    ..LogRecord::default()
                }
            })
            .collect();
        let title = odd_text(&mut random);
        let text = svg(&title, &traces(&spans), &logs);
        let told = || format!("round {round}: {text}");
        let picture = Document::parse(&text).unwrap_or_else(|error| panic!("{error}: {}", told()));

        // One row for each span, in the way of the tree.
        assert_eq!(
            of_class(&picture, "trace-name").len(),
            spans.len(),
            "{}",
            told()
        );
        for bar in of_class(&picture, "trace-bar") {
            let (from, length) = (var(&bar, "--s"), var(&bar, "--d"));
            assert!((0.0..=1.0).contains(&from), "{}", told());
            assert!((0.0..=1.0001).contains(&(from + length)), "{}", told());
        }
        // Rows are below each other, in both layouts.
        let places: Vec<(f64, f64)> = of_class(&picture, "trace-row")
            .iter()
            .map(|row| {
                let transform = row.attribute("transform").unwrap_or_default();
                let narrow = transform
                    .trim_start_matches("translate(0 ")
                    .trim_end_matches(')');
                (narrow.parse().expect(transform), var(row, "--y"))
            })
            .collect();
        assert!(
            places.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1),
            "{}",
            told()
        );
        let bases: HashSet<String> = of_class(&picture, "trace-name")
            .iter()
            .filter_map(|name| Some(name.parent()?.attribute("transform")?.to_owned()))
            .collect();
        assert_eq!(bases.len(), spans.len(), "{}", told());
        let root = picture.root_element();
        let height: f64 = root
            .attribute("height")
            .and_then(|it| it.parse().ok())
            .expect("a height");
        assert!(
            places
                .iter()
                .all(|it| it.0 <= height && it.1 <= var(&root, "--high"))
        );

        // Several can stand in a page, in an HTML block of Markdown, under mdBook.
        assert!(
            picture.descendants().all(|it| it.attribute("id").is_none()),
            "{}",
            told()
        );
        assert!(
            !text.lines().any(|line| line.trim().is_empty()),
            "{}",
            told()
        );
        assert!(!text.contains("{{#"), "{}", told());
        // Nothing of what was exported became a tag, and nothing a terminal obeys.
        let tags = [
            "svg", "title", "desc", "style", "g", "rect", "circle", "text", "tspan",
        ];
        assert!(
            picture
                .descendants()
                .filter(Node::is_element)
                .all(|it| tags.contains(&it.tag_name().name())),
            "{}",
            told()
        );
        assert!(
            !text.chars().any(|c| otlp::is_unsafe(c) && c != '\n'),
            "{}",
            told()
        );

        random.shuffle(&mut spans);
        assert_eq!(svg(&title, &traces(&spans), &logs), text, "round {round}");
    }
}

#[test]
fn nothing_is_a_picture_too() {
    let empty = Trace {
        trace_id: trace_id(1),
        roots: Vec::new(),
    };
    for traces in [&[][..], &[empty]] {
        let text = svg("nothing", traces, &[]);
        Document::parse(&text).expect(&text);
    }
}

#[test]
fn a_deep_trace_says_how_deep_it_is() {
    let spans: Vec<Span> = (1..=300)
        .map(|id| span((1, id, id - 1), "deep", SpanKind::Internal, "s", (id, 400)))
        .collect();
    let text = svg("deep", &traces(&spans), &[]);
    let picture = Document::parse(&text).expect(&text);
    let names = of_class(&picture, "trace-name");
    assert_eq!(names[8].text(), Some("deep"));
    assert_eq!(names[9].text(), Some("…9 deep"));
    assert_eq!(names[199].text(), Some("…199 deep"));
    assert_eq!(names[9].attribute("x"), names[199].attribute("x"));
}

/// WCAG's success criterion 1.4.3, and text that a phone can show.
#[test]
fn text_is_large_and_dark_enough() {
    let text = svg("style", &traces(&request()), &[]);
    let style = text
        .split("<style>")
        .nth(1)
        .and_then(|it| it.split("</style>").next());
    let style = style.expect("a style");
    let sizes: Vec<u32> = style
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '.')
        .zip(
            style
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '.')
                .skip(1),
        )
        .filter(|(before, _)| matches!(*before, "size" | "font"))
        .filter_map(|(_, size)| size.strip_suffix("px")?.parse().ok())
        .collect();
    assert!(
        sizes.len() >= 3 && sizes.iter().all(|size| *size >= 12),
        "{sizes:?}"
    );

    let (light, dark) = style.split_once("prefers-color-scheme:dark").expect("both");
    let of_light = |name: &str| colour_after(light, &format!("var(--trace-{name},"));
    let of_dark = |name: &str| colour_after(dark, &format!("--trace-{name}:"));
    for (least, names) in [
        (4.5, &["text", "dim", "bad", "warn"][..]),
        // 1.4.11, "Non-text contrast".
        (3.0, &["0", "1", "2", "3", "4", "5", "bad"][..]),
    ] {
        for name in names {
            for (theme, it, back) in [
                ("light", of_light(name), of_light("back")),
                ("dark", of_dark(name), of_dark("back")),
            ] {
                let contrast = contrast(it, back);
                assert!(contrast >= least, "{theme} {name}: {contrast:.2}");
            }
        }
    }
}

fn colour_after(style: &str, what: &str) -> [f64; 3] {
    let rest = style.split(what).nth(1).expect(what);
    let digits: String = rest
        .chars()
        .skip(1)
        .take_while(char::is_ascii_hexdigit)
        .collect();
    let wide: String = match digits.len() {
        3 => digits.chars().flat_map(|c| [c, c]).collect(),
        _ => digits,
    };
    let number = u32::from_str_radix(&wide, 16).expect(&wide);
    [16, 8, 0].map(|shift| f64::from((number >> shift) & 0xff) / 255.0)
}

/// WCAG, "contrast ratio".
fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
    let luminance = |colour: [f64; 3]| {
        let linear = colour.map(|it| {
            if it <= 0.04045 {
                it / 12.92
            } else {
                ((it + 0.055) / 1.055).powf(2.4)
            }
        });
        0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    };
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

fn odd_time(random: &mut Random) -> u64 {
    match random.below(6) {
        0 => 0,
        1 => u64::MAX,
        2 => random.next(),
        3 => 1_000_000_000,
        _ => 1_000_000_000 + random.next() % 1_000_000,
    }
}

fn odd_text(random: &mut Random) -> String {
    const PIECES: [&str; 14] = [
        "GET /fast",
        " ",
        "</svg><script>alert(1)</script>",
        "</title>",
        "]]>",
        "&amp;",
        "\"'",
        "{{#include /etc/hostname}}",
        "\n\n",
        "\u{0}\u{1b}[31m",
        "\u{202e}",
        "\u{fffe}\u{ffff}",
        "日本😀",
        "a_word_that_goes_on_and_on_and_on_and_on_and_on_and_on_and_on",
    ];
    (0..random.below(6))
        .map(|_| PIECES[random.below(PIECES.len())])
        .collect()
}

/// Circles, missing parents, ends before starts, times from end to end.
fn odd_spans(random: &mut Random) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for at in 0..random.below(25) as u64 {
        let mut span = span(
            (1 + random.below(2) as u64, 1 + at, random.below(28) as u64),
            &odd_text(random),
            SpanKind::ALL[random.below(6)],
            &odd_text(random),
            (0, 0),
        );
        span.start_unix_nanos = odd_time(random);
        span.end_unix_nanos = odd_time(random);
        span.status = Status {
            code: [StatusCode::Unset, StatusCode::Ok, StatusCode::Error][random.below(3)],
            description: odd_text(random),
        };
        for _ in 0..random.below(3) {
            span.events.push(Event {
                time_unix_nanos: odd_time(random),
                name: odd_text(random),
                attributes: Vec::new(),
            });
        }
        for _ in 0..random.below(3) {
            span = linked(span, 1, random.below(40) as u64);
        }
        spans.push(span);
    }
    spans
}
