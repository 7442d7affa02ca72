//! Each single change of the good trace gives exactly one finding, of the right kind.

use lab::{Failure, Kind};
use opentelemetry_semantic_conventions::attribute as key;
use otlp::{KeyValue, Span, SpanId, SpanKind, StatusCode, TraceId, Value};

use super::{
    case,
    good::{good, recording, resource, span, span_id, split},
};

/// The ids of all that is found, without the step.
fn found(spans: Vec<Span>) -> Vec<String> {
    found_in("fast", spans)
}

fn found_in(name: &str, spans: Vec<Span>) -> Vec<String> {
    match case().diagnose(name, &recording(spans)) {
        Ok(_) => Vec::new(),
        Err(Failure::Diagnosis(first)) => {
            let more = first.more.iter().map(|more| more.id.clone());
            let ids = std::iter::once(first.id.clone()).chain(more);
            ids.map(|id| id.trim_start_matches("W06-").to_owned())
                .collect()
        }
        Err(Failure::Lab(error)) => panic!("{error}"),
    }
}

/// Asserts one finding of one of `kinds` after `spoil` of each of the spans.
fn each(what: &str, kinds: &[Kind], spoil: impl Fn(&mut Vec<Span>, usize)) {
    for number in 0..good().len() {
        let mut spans = good();
        spoil(&mut spans, number);
        let name = spans.get(number).map_or(String::new(), |s| s.name.clone());
        let found = found(spans);
        let one = found.len() == 1 && kinds.iter().any(|kind| kind.name() == found[0]);
        assert!(one, "{what} of span {number} ({name}): {found:?}");
    }
}

#[test]
fn the_good_trace_is_accepted_in_any_order() {
    let mut spans = good();
    for _ in 0..spans.len() {
        spans.rotate_left(1);
        assert_eq!(found(spans.clone()), Vec::<String>::new());
    }
    spans.reverse();
    assert_eq!(found(spans), Vec::<String>::new());
}

#[test]
fn the_name() {
    each("name", &[Kind::Name], |spans, number| {
        spans[number].name = "another".to_owned();
    });
}

#[test]
fn the_kind() {
    let all = [
        SpanKind::Internal,
        SpanKind::Server,
        SpanKind::Client,
        SpanKind::Producer,
        SpanKind::Consumer,
        SpanKind::Unspecified,
    ];
    for kind in all {
        for number in (0..good().len()).filter(|&number| good()[number].kind != kind) {
            let mut spans = good();
            spans[number].kind = kind;
            assert_eq!(found(spans), ["KIND"], "{kind} for span {number}");
        }
    }
}

#[test]
fn the_status() {
    each("status", &[Kind::Status], |spans, number| {
        spans[number].status.code = StatusCode::Ok;
    });
    each("error", &[Kind::Status], |spans, number| {
        spans[number].status.code = StatusCode::Error;
    });
}

#[test]
fn the_service() {
    each("service", &[Kind::Service], |spans, number| {
        spans[number].resource = resource("another");
    });
}

#[test]
fn the_trace() {
    let kinds = [Kind::Split, Kind::Inject, Kind::InjectMessage, Kind::Parent];
    for number in 1..good().len() {
        let mut spans = good();
        // The span and all below it; each comes after what is above it.
        let mut moved = vec![number];
        for at in number + 1..spans.len() {
            let above = spans[at].parent_span_id;
            if moved
                .iter()
                .any(|&moved| Some(spans[moved].span_id) == above)
            {
                moved.push(at);
            }
        }
        split(&mut spans, &moved);
        let found = found(spans);
        let one = found.len() == 1 && kinds.iter().any(|kind| kind.name() == found[0]);
        assert!(one, "span {number}: {found:?}");
    }
}

#[test]
fn the_parent() {
    let count = good().len();
    for number in 0..count {
        for parent in 0..count {
            let mut spans = good();
            // Not under itself or what is below it.
            let mut at = Some(spans[parent].span_id);
            let mut circle = false;
            while let Some(id) = at {
                circle |= id == spans[number].span_id;
                at = spans
                    .iter()
                    .find(|s| s.span_id == id)
                    .and_then(|s| s.parent_span_id);
            }
            if circle || spans[number].parent_span_id == Some(span_id(parent)) {
                continue;
            }
            spans[number].parent_span_id = Some(span_id(parent));
            let found = found(spans);
            assert_eq!(found.len(), 1, "{number} under {parent}: {found:?}");
            assert!(
                ["PARENT", "INJECT-PARENT"].contains(&found[0].as_str()),
                "{number} under {parent}: {found:?}"
            );
        }
    }
}

#[test]
fn a_span_lost() {
    for number in 1..good().len() {
        let mut spans = good();
        spans.remove(number);
        assert_eq!(found(spans), ["MISSING"], "without span {number}");
    }
    // What is under the root is under nothing then, and its trace is still one.
    let mut spans = good();
    spans.remove(0);
    assert_eq!(found(spans), ["MISSING"]);
}

#[test]
fn a_span_more() {
    for kind in [SpanKind::Server, SpanKind::Client, SpanKind::Producer] {
        each("a span more", &[Kind::Unexpected], |spans, number| {
            let service = spans[number].service().to_owned();
            spans.push(span(60, Some(number), "more", kind, &service, (1, 2)));
        });
        // In between: what is below is not told of as well.
        each("a span between", &[Kind::Unexpected], |spans, number| {
            let service = spans[number].service().to_owned();
            let above = spans[number].parent_span_id;
            let mut between = span(60, None, "between", kind, &service, (1, 2));
            between.parent_span_id = above;
            spans[number].parent_span_id = Some(between.span_id);
            // The consumer links to what it was called by.
            spans.push(between);
        });
    }
}

#[test]
fn an_internal_span_more_is_accepted() {
    for number in 0..good().len() {
        let mut spans = good();
        let mut between = span(
            60,
            None,
            "mine",
            SpanKind::Internal,
            "tier1-service",
            (1, 2),
        );
        between.parent_span_id = spans[number].parent_span_id;
        spans[number].parent_span_id = Some(between.span_id);
        spans.push(between);
        spans.push(span(
            61,
            Some(number),
            "leaf",
            SpanKind::Internal,
            "tier1-service",
            (1, 2),
        ));
        spans.push(span(
            62,
            Some(61),
            "leaf",
            SpanKind::Internal,
            "tier1-service",
            (1, 2),
        ));
        assert_eq!(found(spans), Vec::<String>::new(), "around span {number}");
    }
}

#[test]
fn each_attribute() {
    let types = |value: &Value| match value {
        Value::Str(_) => Value::Int(1),
        other => Value::Str(other.to_string()),
    };
    // Whether a change of the value alone is seen: what differs between runs is not.
    let shows_value = |name: &str| {
        ![
            key::SERVER_PORT,
            key::NETWORK_PEER_PORT,
            key::MESSAGING_MESSAGE_ID,
            key::MESSAGING_RABBITMQ_MESSAGE_DELIVERY_TAG,
        ]
        .contains(&name)
    };
    let mut seen = 0;
    for number in 0..good().len() {
        for at in 0..good()[number].attributes.len() {
            let name = good()[number].attributes[at].key.clone();
            let spoiled = |spoil: &dyn Fn(&mut Vec<KeyValue>)| {
                let mut spans = good();
                spoil(&mut spans[number].attributes);
                found(spans)
            };
            let place = format!("{name} of span {number}");
            let without = spoiled(&|attributes| {
                attributes.remove(at);
            });
            assert_eq!(without, ["ATTRIBUTE"], "without {place}");
            let retyped =
                spoiled(&|attributes| attributes[at].value = types(&attributes[at].value));
            assert_eq!(retyped, ["TYPE"], "another type of {place}");
            let twice = spoiled(&|attributes| attributes.push(attributes[at].clone()));
            assert_eq!(twice, ["TWICE"], "twice {place}");
            if shows_value(&name) {
                let changed = spoiled(&|attributes| {
                    attributes[at].value = match &attributes[at].value {
                        Value::Int(number) => Value::Int(number + 1),
                        _ => Value::from("another"),
                    };
                });
                assert_eq!(changed, ["VALUE"], "another value of {place}");
            }
            let more = spoiled(&|attributes| attributes.push(KeyValue::new("app.extra", 1_i64)));
            assert_eq!(more, Vec::<String>::new(), "an attribute more");
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn old_names() {
    let cases = [
        (0, key::HTTP_REQUEST_METHOD, "http.method"),
        (0, key::URL_PATH, "http.target"),
        (0, key::URL_SCHEME, "http.scheme"),
        (0, key::SERVER_ADDRESS, "net.host.name"),
        (0, key::CLIENT_ADDRESS, "http.client_ip"),
        (1, key::URL_FULL, "http.url"),
        (1, key::SERVER_PORT, "net.peer.port"),
        (2, key::HTTP_RESPONSE_STATUS_CODE, "http.status_code"),
        (4, key::DB_QUERY_TEXT, "db.statement"),
        (5, key::MESSAGING_OPERATION_TYPE, "messaging.operation"),
        (7, key::DB_SYSTEM_NAME, "db.system"),
    ];
    for (number, new, old) in cases {
        let mut spans = good();
        let attributes = &mut spans[number].attributes;
        let attribute = attributes.iter_mut().find(|a| a.key == new);
        let attribute = attribute.expect("the good trace has it");
        attribute.key = old.to_owned();
        assert_eq!(found(spans), ["OLD"], "{old} for {new}");
        // Both: for those whose dashboards still ask for the old one.
        let mut spans = good();
        spans[number].attributes.push(KeyValue::new(old, "x"));
        assert_eq!(found(spans), Vec::<String>::new(), "{old} beside {new}");
    }
}

#[test]
fn the_link() {
    let mut spans = good();
    spans[6].links.clear();
    assert_eq!(found(spans), ["LINK"]);
    let mut spans = good();
    let link = spans[6].links[0].clone();
    spans[6].links.push(link);
    assert_eq!(found(spans), ["LINK"]);
    for target in [0, 2, 7] {
        let mut spans = good();
        spans[6].links[0].span_id = span_id(target);
        assert_eq!(found(spans), ["LINK"]);
    }
    let mut spans = good();
    spans[6].links[0].span_id = SpanId([77; 8]);
    assert_eq!(found(spans), ["LINK"]);
}

#[test]
fn an_event() {
    let mut spans = good();
    spans[3].events.push(otlp::Event {
        name: "exception".to_owned(),
        ..otlp::Event::default()
    });
    assert_eq!(found(spans), ["EVENT"]);
}

/// Two requests at once, each a trace like the other.
fn two() -> Vec<Span> {
    let mut spans = good();
    for mut span in good() {
        span.trace_id = TraceId([3; 16]);
        for link in &mut span.links {
            link.trace_id = span.trace_id;
        }
        spans.push(span);
    }
    spans
}

#[test]
fn traces_that_are_alike_are_kept_apart() {
    assert_eq!(found_in("two", two()), Vec::<String>::new());
    for number in 0..two().len() {
        let spoiled = |spoil: &dyn Fn(&mut Span)| {
            let mut spans = two();
            spoil(&mut spans[number]);
            found_in("two", spans)
        };
        assert_eq!(spoiled(&|span| span.name.push('x')), ["NAME"], "{number}");
        assert_eq!(
            spoiled(&|span| span.kind = SpanKind::Unspecified),
            ["KIND"],
            "{number}"
        );
        assert_eq!(
            spoiled(&|span| span.status.code = StatusCode::Ok),
            ["STATUS"],
            "{number}"
        );
        assert_eq!(
            spoiled(&|span| span.resource = resource("another")),
            ["SERVICE"],
            "{number}"
        );
        let retyped = spoiled(&|span| span.attributes[0].value = Value::Bool(true));
        assert_eq!(retyped, ["TYPE"], "{number}");
        let mut spans = two();
        spans.remove(number);
        assert_eq!(found_in("two", spans), ["MISSING"], "{number}");
    }
    // One trace less, and one more.
    assert_eq!(found_in("two", good()), ["MISSING"]);
    let mut spans = two();
    for mut span in good() {
        span.trace_id = TraceId([4; 16]);
        for link in &mut span.links {
            link.trace_id = span.trace_id;
        }
        spans.push(span);
    }
    assert_eq!(found_in("two", spans), ["UNEXPECTED"]);
    // The second request taken for a part of the first.
    let mut spans = two();
    let first = spans[0].span_id;
    for span in &mut spans[8..] {
        span.trace_id = TraceId([1; 16]);
        span.span_id.0[0] = 200;
        for id in span
            .parent_span_id
            .iter_mut()
            .chain(span.links.iter_mut().map(|l| &mut l.span_id))
        {
            id.0[0] = 200;
        }
        for link in &mut span.links {
            link.trace_id = span.trace_id;
        }
    }
    spans[8].parent_span_id = Some(first);
    assert_eq!(found_in("two", spans), ["PARENT"]);
}
