//! W3C trace context, read as strictly as the recommendation asks.

use opentelemetry::Context;
use opentelemetry::propagation::text_map_propagator::FieldIter;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry_sdk::propagation::TraceContextPropagator;

const TRACEPARENT: &str = "traceparent";

/// Version, trace id, parent id and flags, with the dashes between.
const LENGTH: usize = 55;

/// The SDK's propagator behind a check of `traceparent`.
///
/// The SDK alone takes headers that W3C Trace Context Level 2, section 3.2, says to
/// ignore: ids that are too short or begin with `+`, flags of one or three digits,
/// a second header. A caller's mistake would then become a trace id that no other
/// service agrees on; instead, an invalid header is as good as none.
#[derive(Debug, Default)]
pub struct W3cPropagator(TraceContextPropagator);

impl TextMapPropagator for W3cPropagator {
    fn inject_context(&self, context: &Context, injector: &mut dyn Injector) {
        self.0.inject_context(context, injector);
    }

    fn extract_with_context(&self, context: &Context, extractor: &dyn Extractor) -> Context {
        match extractor.get_all(TRACEPARENT).as_deref() {
            Some([one]) if is_valid(one.trim_matches([' ', '\t'])) => {
                self.0.extract_with_context(context, extractor)
            }
            _ => context.clone(),
        }
    }

    fn fields(&self) -> FieldIter<'_> {
        self.0.fields()
    }
}

/// `00-<32 hex, not all 0>-<16 hex, not all 0>-<2 hex>`, lowercase. A higher
/// version may go on after another dash; `ff` is none.
fn is_valid(traceparent: &str) -> bool {
    let Some((known, rest)) = traceparent.as_bytes().split_at_checked(LENGTH) else {
        return false;
    };
    let is_hex = |part: &[u8]| {
        part.iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let parts: Vec<&[u8]> = known.split(|byte| *byte == b'-').collect();
    let [version, trace_id, parent_id, flags] = parts.as_slice() else {
        return false;
    };
    let lengths = [version.len(), trace_id.len(), parent_id.len(), flags.len()];
    lengths == [2, 32, 16, 2]
        && parts.iter().all(|part| is_hex(part))
        && trace_id.iter().any(|byte| *byte != b'0')
        && parent_id.iter().any(|byte| *byte != b'0')
        && *version != b"ff"
        && (rest.is_empty() || (*version != b"00" && rest.first() == Some(&b'-')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::TraceContextExt;
    use std::collections::HashMap;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    fn extract(traceparent: &str) -> Context {
        let headers = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
        W3cPropagator::default().extract_with_context(&Context::new(), &headers)
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
        let context = W3cPropagator::default().extract_with_context(&Context::new(), &twice);
        assert!(!context.span().span_context().is_valid());
    }
}
