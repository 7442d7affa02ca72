//! W3C Baggage: the header `baggage`, handed on as it came.

use opentelemetry::{
    Context,
    baggage::{BaggageExt, KeyValueMetadata},
    propagation::{Extractor, Injector, TextMapPropagator, text_map_propagator::FieldIter},
};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

const BAGGAGE: &str = "baggage";

/// What has to be handed on (W3C Baggage, "Limits"): lists of so many bytes, and so many
/// members. A caller doesn't decide how large the headers of all further requests are.
const MAX_LENGTH: usize = 8192;
const MAX_MEMBERS: usize = 64;

/// What a value can't hold as it is: all but a `baggage-octet` ("Definition"), and `%`.
const ENCODED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'%')
    .add(b',')
    .add(b';')
    .add(b'\\');

/// Reads and writes the header.
///
/// With the SDK's own propagator, what goes on is not what came: it cuts a value at its
/// second `=`, doesn't encode `%`, decodes properties, and reads one header where there are
/// two. And it logs each member that it can't read as a warning, with the whole header:
/// whoever calls would decide how much is logged, and what. Here such a member is left out.
#[derive(Debug, Default)]
pub struct BaggagePropagator;

impl TextMapPropagator for BaggagePropagator {
    fn inject_context(&self, context: &Context, injector: &mut dyn Injector) {
        let baggage = context.baggage();
        let members = baggage.iter().map(|(key, (value, properties))| {
            let value = utf8_percent_encode(value.as_str(), ENCODED);
            match properties.as_str() {
                "" => format!("{key}={value}"),
                properties => format!("{key}={value};{properties}"),
            }
        });
        let members: Vec<String> = members.collect();
        if !members.is_empty() {
            injector.set(BAGGAGE, members.join(","));
        }
    }

    fn extract_with_context(&self, context: &Context, extractor: &dyn Extractor) -> Context {
        let list = extractor.get_all(BAGGAGE).unwrap_or_default().join(",");
        if list.is_empty() || list.len() > MAX_LENGTH {
            return context.clone();
        }
        context.with_baggage(list.split(',').take(MAX_MEMBERS).filter_map(member))
    }

    fn fields(&self) -> FieldIter<'_> {
        static FIELDS: std::sync::LazyLock<[String; 1]> =
            std::sync::LazyLock::new(|| [BAGGAGE.to_owned()]);
        FieldIter::new(FIELDS.as_slice())
    }
}

/// `key=value;properties`. A key that is no token is left out by `Baggage` itself.
fn member(text: &str) -> Option<KeyValueMetadata> {
    let (pair, properties) = text.split_once(';').unwrap_or((text, ""));
    let (key, value) = pair.split_once('=')?;
    // Properties are handed on unread: they must be what a header can hold.
    let is_header = |byte| matches!(byte, b' '..=b'~' | b'\t');
    let value = percent_decode_str(value.trim()).decode_utf8_lossy();
    properties.bytes().all(is_header).then(|| {
        KeyValueMetadata::new(key.trim().to_owned(), value.into_owned(), properties.trim())
    })
}
