//! Step 13, The other side of the queue. The trace context in a message's headers.

use lapin::types::{AMQPValue, FieldTable};
use opentelemetry::propagation::Extractor;

/// The headers of a message, to be read by a propagator. Not every message has some.
pub struct Headers<'a>(pub Option<&'a FieldTable>);

impl Extractor for Headers<'_> {
    /// The header `key` as text. Publishers differ in what they write: most a long
    /// string, some bytes. A short string is text, too, though none comes through
    /// RabbitMQ. What is none of these is no text.
    fn get(&self, key: &str) -> Option<&str> {
        // TODO 1: Look `key` up in the table (`self.0?.inner().get(key)?`) and match on the
        // `AMQPValue`: `LongString`, `ShortString` and `ByteArray` are text (the first and
        // the last are bytes: `str::from_utf8(…).ok()`), whatever else is `None`.
        None
    }

    fn keys(&self) -> Vec<&str> {
        let table = self.0.map(FieldTable::inner);
        let keys = table.into_iter().flat_map(|table| table.keys());
        keys.map(|key| key.as_str()).collect()
    }
}
