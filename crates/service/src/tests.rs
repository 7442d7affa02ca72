//! The propagator that the steps and the services share.

use std::collections::HashMap;

use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator},
    trace::TraceContextExt,
};

use crate::W3cPropagator;

const TRACEPARENT: &str = "traceparent";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn extract(traceparent: &str) -> Context {
    let headers = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    W3cPropagator.extract_with_context(&Context::new(), &headers)
}

#[test]
fn valid_headers_are_taken() {
    for header in [
        format!("00-{TRACE}-{PARENT}-01"),
        format!("00-{TRACE}-{PARENT}-00"),
        format!(" 00-{TRACE}-{PARENT}-01\t"),
        format!("01-{TRACE}-{PARENT}-01"),
        format!("cc-{TRACE}-{PARENT}-01-what-comes-later"),
    ] {
        let context = extract(&header);
        let span = context.span();
        assert_eq!(
            span.span_context().trace_id().to_string(),
            TRACE,
            "{header}"
        );
        assert_eq!(
            span.span_context().span_id().to_string(),
            PARENT,
            "{header}"
        );
        let sampled = !header.ends_with("-00");
        assert_eq!(span.span_context().is_sampled(), sampled, "{header}");
    }
}

#[test]
fn invalid_headers_are_as_good_as_none() {
    let zeros = "0".repeat(32);
    for header in [
        String::new(),
        "garbage".to_owned(),
        format!("00-42-{PARENT}-01"),
        format!("00-{TRACE}-7-01"),
        format!("00-+{}-{PARENT}-01", &TRACE[1..]),
        format!("00-{TRACE}-+{}-01", &PARENT[1..]),
        format!("00-{TRACE}-{PARENT}-1"),
        format!("00-{TRACE}-{PARENT}-001"),
        format!("00-{TRACE}-{PARENT}-"),
        format!("00-{TRACE}-{PARENT}-01-"),
        format!("00-{TRACE}-{PARENT}-01-more"),
        format!("00-{TRACE}-{PARENT}-zz"),
        format!("0-{TRACE}-{PARENT}-01"),
        format!("000-{TRACE}-{PARENT}-01"),
        format!("0000-{TRACE}-{PARENT}-01"),
        format!("ff-{TRACE}-{PARENT}-01"),
        format!("01-{TRACE}-{PARENT}-01x"),
        format!("00-{zeros}-{PARENT}-01"),
        format!("00-{TRACE}-{}-01", &zeros[16..]),
        format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
        format!("00-{TRACE}-{PARENT}"),
        format!("00-{TRACE}é-{PARENT}-01"),
    ] {
        let context = extract(&header);
        assert!(!context.span().span_context().is_valid(), "{header:?}");
    }
}

/// A carrier with two headers of one name, as HTTP allows.
struct Twice(String);

impl Extractor for Twice {
    fn get(&self, _: &str) -> Option<&str> {
        Some(&self.0)
    }
    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
    fn get_all(&self, _: &str) -> Option<Vec<&str>> {
        Some(vec![&self.0, &self.0])
    }
}

#[test]
fn two_headers_are_as_good_as_none() {
    let twice = Twice(format!("00-{TRACE}-{PARENT}-01"));
    let context = W3cPropagator.extract_with_context(&Context::new(), &twice);
    assert!(!context.span().span_context().is_valid());
}
