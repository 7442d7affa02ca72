//! Reads the trace context out of a message's headers.

use lapin::types::{AMQPValue, FieldTable};
use opentelemetry::propagation::Extractor;

/// A carrier over `basic.properties.headers`.
///
/// A field table has several types for text, and clients in other languages differ
/// in which they write: long string, short string and byte array are all read.
/// Keys are case-sensitive in a field table; the propagator asks for lowercase ones.
pub(crate) struct Headers<'a>(pub(crate) Option<&'a FieldTable>);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match self.0?.inner().get(key)? {
            AMQPValue::LongString(text) => str::from_utf8(text.as_bytes()).ok(),
            AMQPValue::ShortString(text) => Some(text.as_str()),
            AMQPValue::ByteArray(bytes) => str::from_utf8(bytes.as_slice()).ok(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        self.0
            .map(|table| table.inner().keys().map(|key| key.as_str()).collect())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::types::{LongString, ShortString};

    #[test]
    fn all_three_forms_of_text_are_read() {
        let mut table = FieldTable::default();
        table.insert("long".into(), AMQPValue::LongString(LongString::from("a")));
        table.insert(
            "short".into(),
            AMQPValue::ShortString(ShortString::from("b")),
        );
        table.insert("bytes".into(), AMQPValue::ByteArray(b"c".as_slice().into()));
        table.insert("number".into(), AMQPValue::LongInt(1));
        table.insert(
            "binary".into(),
            AMQPValue::ByteArray(b"\xff".as_slice().into()),
        );
        let headers = Headers(Some(&table));
        assert_eq!(headers.get("long"), Some("a"));
        assert_eq!(headers.get("short"), Some("b"));
        assert_eq!(headers.get("bytes"), Some("c"));
        assert_eq!(headers.get("number"), None);
        assert_eq!(headers.get("binary"), None);
        assert_eq!(headers.get("Long"), None, "keys are case-sensitive");
        assert_eq!(headers.keys().len(), 5);
    }

    #[test]
    fn no_headers_are_no_context() {
        assert_eq!(Headers(None).get("traceparent"), None);
        assert!(Headers(None).keys().is_empty());
    }
}
