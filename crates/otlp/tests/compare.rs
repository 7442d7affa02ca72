//! What differs between trees, and that two ways to tell it agree.

mod common;

use common::{Random, linked, resource, span, with};
use otlp::{
    Comparison, Contract, Difference, Event, Internal, Keep, NormalSpan, Normalized, Rules, Span,
    SpanId, SpanKind, StatusCode, TraceId,
};

struct All;

impl Contract for All {
    fn keep(&self, _: &Span, _: &str) -> Keep {
        Keep::Value
    }
}

fn normalised(spans: &[Span]) -> Normalized {
    Rules::new(&All).internal(Internal::All).normalize(spans)
}

fn strict(_: &NormalSpan, _: &str) -> bool {
    false
}

fn generous(_: &NormalSpan, _: &str) -> bool {
    true
}

/// Two traces, with what makes matching hard: siblings that are alike, a link across.
fn spans() -> Vec<Span> {
    use SpanKind::{Client, Internal, Producer, Server};
    vec![
        with(span((1, 1, 0), "root", Server, "a", (0, 90)), "k", 1),
        with(span((1, 2, 1), "call", Client, "a", (1, 9)), "to", "x"),
        with(span((1, 3, 1), "call", Client, "a", (10, 40)), "to", "y"),
        span((1, 4, 3), "root", Server, "b", (12, 30)),
        span((1, 5, 1), "work", Internal, "a", (50, 60)),
        span((1, 6, 5), "send", Producer, "a", (51, 52)),
        linked(span((2, 7, 0), "root", Server, "b", (60, 70)), 1, 6),
        span((2, 8, 7), "call", Client, "b", (61, 62)),
    ]
}

/// One change. Most make a difference, some don't.
fn spoil(random: &mut Random, spans: &mut Vec<Span>) {
    let at = random.below(spans.len());
    let other = random.below(spans.len());
    let (trace, id) = (spans[other].trace_id, spans[other].span_id);
    let span = &mut spans[at];
    match random.below(13) {
        0 => span.name = ["root", "call", "x"][random.below(3)].to_owned(),
        1 => span.kind = [SpanKind::Internal, SpanKind::Client][random.below(2)],
        2 => span.status.code = StatusCode::Error,
        3 => span.resource = resource(["a", "b", ""][random.below(3)]),
        4 => span.parent_span_id = Some(id),
        5 => span.parent_span_id = None,
        6 => span.trace_id = TraceId([9; 16]),
        7 => span.attributes.clear(),
        8 => *span = with(span.clone(), ["k", "to", "new"][random.below(3)], "y"),
        9 => span.links.push(otlp::Link {
            trace_id: trace,
            span_id: id,
            ..otlp::Link::default()
        }),
        10 => span.events.push(Event::default()),
        11 => {
            spans.remove(at);
        }
        _ => {
            let mut more = spans[at].clone();
            more.span_id = SpanId([random.below(250) as u8 + 5; 8]);
            more.parent_span_id = Some(id);
            spans.push(more);
        }
    }
}

#[test]
fn nothing_differs_if_and_only_if_what_came_can_be_rebuilt_into_what_was_expected() {
    let expected = normalised(&spans());
    let (mut equal, mut different) = (0, 0);
    for seed in 1..=4_000 {
        let mut random = Random(seed);
        let mut got = spans();
        for _ in 0..random.below(4) {
            if !got.is_empty() {
                spoil(&mut random, &mut got);
            }
        }
        random.shuffle(&mut got);
        let got = normalised(&got);
        let comparison = Comparison::new(&expected, &got).expect("there are few spans");
        for optional in [strict, generous] {
            let findings = comparison.findings(&optional);
            let rebuilt = comparison.rebuilt(&expected, &optional);
            assert_eq!(
                findings.is_empty(),
                rebuilt == expected,
                "seed {seed}: {findings:?}\n{got}\n{rebuilt}"
            );
            if findings.is_empty() {
                equal += 1;
            } else {
                different += 1;
            }
            assert!(
                findings
                    .iter()
                    .all(|finding| !finding.differences.is_empty())
            );
        }
    }
    assert!(equal > 500 && different > 500, "{equal} {different}");
}

#[test]
fn a_text_that_was_read_compares_like_what_it_was_written_from() {
    let written = normalised(&spans());
    let read = Normalized::parse(&written.to_string()).expect("it was written");
    let comparison = Comparison::new(&read, &written).expect("there are few spans");
    assert_eq!(comparison.findings(&strict), []);
    assert_eq!(comparison.rebuilt(&read, &strict), read);
    assert_eq!(
        comparison.rebuilt(&read, &strict).to_string(),
        written.to_string()
    );
}

#[test]
fn what_is_optional_may_come_but_not_twice() {
    let expected = normalised(&spans());
    let mut more = spans();
    more[0] = with(more[0].clone(), "new", 1);
    let once = normalised(&more);
    more[0] = with(more[0].clone(), "new", 1);
    let twice = normalised(&more);
    let differences = |got: &Normalized, optional: &dyn Fn(&NormalSpan, &str) -> bool| {
        let comparison = Comparison::new(&expected, got).expect("there are few spans");
        let findings = comparison.findings(optional).into_iter();
        findings.flat_map(|f| f.differences).collect::<Vec<_>>()
    };
    assert_eq!(differences(&once, &generous), []);
    let unwanted = Difference::NotThisAttribute("new".to_owned());
    assert_eq!(differences(&once, &strict), [unwanted]);
    let repeated = [Difference::Twice("new".to_owned())];
    assert_eq!(differences(&twice, &generous), repeated);
}

#[test]
fn very_many_spans_are_not_matched() {
    let many: Vec<Span> = (1..=101)
        .map(|id| span((1, id, 0), "s", SpanKind::Server, "a", (id, id + 1)))
        .collect();
    let many = normalised(&many);
    assert!(Comparison::new(&many, &many).is_none());
    let nothing = Normalized::default();
    let comparison = Comparison::new(&nothing, &many).expect("there is nothing to match");
    assert_eq!(comparison.findings(&strict).len(), 101);
    let comparison = Comparison::new(&nothing, &nothing).expect("there is nothing to match");
    assert_eq!(comparison.findings(&strict), []);
}
