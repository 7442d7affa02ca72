//! W3C Trace Context, Level 2: `traceparent`, read as strictly as it asks, and `tracestate`,
//! whose members the SDK reads, less strictly.

use std::str::FromStr;

use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    propagation::{Extractor, Injector, TextMapPropagator, text_map_propagator::FieldIter},
    trace::{SpanContext, TraceContextExt, TraceState},
};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// Version, trace id, parent id and flags, with the dashes between.
const LENGTH: usize = 55;

/// The flags that Level 2 defines (section 3.2.2.5): sampled and random.
/// All others are cleared on the way out.
const FLAGS: u8 = 0x03;

/// How many characters of `tracestate` are passed on. 512 is the least that
/// section 3.3.1.5 asks for; without a limit a caller decides how large the headers
/// of all further requests are.
const MAX_STATE: usize = 512;

/// A list-member longer than this goes first if `tracestate` is too long.
const MAX_MEMBER: usize = 128;

/// Reads and writes the W3C headers.
///
/// The SDK's own propagator takes headers that section 3.2 says to ignore: ids that
/// are too short or begin with `+`, flags of one or three digits, a second
/// `traceparent`. A caller's mistake would become a trace id that no other service
/// agrees on. Here, an invalid header is as good as none: a new trace begins.
#[derive(Debug, Default)]
pub struct W3cPropagator;

impl TextMapPropagator for W3cPropagator {
    fn inject_context(&self, context: &Context, injector: &mut dyn Injector) {
        let span = context.span();
        let span = span.span_context();
        if !span.is_valid() {
            return;
        }
        let flags = span.trace_flags().to_u8() & FLAGS;
        let traceparent = format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id());
        injector.set(TRACEPARENT, traceparent);
        let state = span.trace_state().header();
        if !state.is_empty() {
            injector.set(TRACESTATE, state);
        }
    }

    fn extract_with_context(&self, context: &Context, extractor: &dyn Extractor) -> Context {
        match remote(extractor) {
            Some(span) => context.with_remote_span_context(span),
            None => context.clone(),
        }
    }

    fn fields(&self) -> FieldIter<'_> {
        static FIELDS: std::sync::LazyLock<[String; 2]> =
            std::sync::LazyLock::new(|| [TRACEPARENT, TRACESTATE].map(str::to_owned));
        FieldIter::new(FIELDS.as_slice())
    }
}

/// The caller's span; `None` unless there is exactly one `traceparent` and it is valid.
fn remote(extractor: &dyn Extractor) -> Option<SpanContext> {
    let headers = extractor.get_all(TRACEPARENT)?;
    let [header] = headers.as_slice() else {
        return None;
    };
    let (trace_id, span_id, flags) = traceparent(header.trim_matches([' ', '\t']))?;
    let state = trace_state(&extractor.get_all(TRACESTATE).unwrap_or_default());
    Some(SpanContext::new(trace_id, span_id, flags, true, state))
}

/// `00-<32 hex, not all 0>-<16 hex, not all 0>-<2 hex>`, all lowercase (section 3.2.2).
/// A higher version may go on after another dash; `ff` is none.
fn traceparent(header: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let (known, rest) = header.split_at_checked(LENGTH)?;
    let parts: Vec<&str> = known.split('-').collect();
    let [version, trace_id, span_id, flags] = parts.as_slice() else {
        return None;
    };
    let is_hex = |part: &str, length| {
        part.len() == length
            && part
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let fits = is_hex(version, 2)
        && is_hex(trace_id, 32)
        && is_hex(span_id, 16)
        && is_hex(flags, 2)
        && *version != "ff"
        && (rest.is_empty() || (*version != "00" && rest.starts_with('-')));
    if !fits {
        return None;
    }
    let trace_id = TraceId::from_hex(trace_id).ok()?;
    let span_id = SpanId::from_hex(span_id).ok()?;
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()? & FLAGS);
    (trace_id != TraceId::INVALID && span_id != SpanId::INVALID)
        .then_some((trace_id, span_id, flags))
}

/// The callers' list (section 3.3), in the order of its headers. At most 32 members are
/// kept, and of those what fits. A list that can't be read is dropped: it must not harm
/// `traceparent`.
fn trace_state(headers: &[&str]) -> TraceState {
    let Ok(state) = TraceState::from_str(&headers.join(",")) else {
        return TraceState::default();
    };
    let length = |members: &[(&str, &str)]| {
        let each = members
            .iter()
            .map(|(key, value)| key.len() + value.len() + 2);
        each.sum::<usize>().saturating_sub(1)
    };
    let mut members: Vec<(&str, &str)> = (&state).into_iter().collect();
    if length(&members) <= MAX_STATE {
        return state;
    }
    members.retain(|(key, value)| key.len() + value.len() < MAX_MEMBER);
    while length(&members) > MAX_STATE {
        members.pop();
    }
    TraceState::from_key_value(members).unwrap_or_default()
}
