//! Counts the messages that clients reject, from what they send on their way to the
//! broker: RabbitMQ itself tells nobody how many there were.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::forwarder::Listener;

/// What a client sends first (AMQP 0-9-1, section 4.2.2), and no frame.
const PROTOCOL_HEADER: usize = 8;

/// Type, channel and size, before a frame's payload (section 4.2.3).
const FRAME_HEADER: usize = 7;

/// The octet after a frame's payload.
const FRAME_END: usize = 1;

const TYPE_METHOD: u8 = 1;
const CLASS_BASIC: u16 = 60;
const BASIC_REJECT: u16 = 90;
/// Of RabbitMQ, not of AMQP 0-9-1: `basic.reject` for one message or several.
const BASIC_NACK: u16 = 120;

/// How many times `basic.reject` and `basic.nack` were sent, by all connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rejections(Arc<AtomicU64>);

impl Rejections {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// What listens to one connection's client.
    pub(crate) fn listener(&self) -> Listener {
        let count = Arc::clone(&self.0);
        let mut methods = Methods::default();
        Box::new(move |bytes| {
            methods.read(bytes, |class, method| {
                if class == CLASS_BASIC && matches!(method, BASIC_REJECT | BASIC_NACK) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        })
    }
}

/// Finds the methods in the bytes of a connection, wherever these are cut into pieces.
struct Methods {
    /// How many bytes to pass over.
    skip: usize,
    /// The beginning of a frame, as far as it has come.
    frame: Vec<u8>,
}

impl Default for Methods {
    fn default() -> Self {
        Self {
            skip: PROTOCOL_HEADER,
            frame: Vec::new(),
        }
    }
}

impl Methods {
    /// Calls `found` with the class and the method of each method frame.
    fn read(&mut self, mut bytes: &[u8], mut found: impl FnMut(u16, u16)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            let Some((&byte, rest)) = bytes[skipped..].split_first() else {
                return;
            };
            bytes = rest;
            self.frame.push(byte);
            let Some((&[kind, _, _, s0, s1, s2, s3], payload)) =
                self.frame.split_first_chunk::<FRAME_HEADER>()
            else {
                continue;
            };
            let size = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
            match *payload {
                [c0, c1, m0, m1] if kind == TYPE_METHOD => {
                    found(u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1]));
                }
                // Class and method are yet to come.
                _ if kind == TYPE_METHOD && payload.len() < size => continue,
                _ => {}
            }
            self.skip = size - payload.len() + FRAME_END;
            self.frame.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rejections;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).expect("it is small");
        [&[kind, 0, 1][..], &size.to_be_bytes(), payload, &[0xCE]].concat()
    }

    fn method(class: u16, method: u16, arguments: &[u8]) -> Vec<u8> {
        let payload = [&class.to_be_bytes(), &method.to_be_bytes(), arguments].concat();
        frame(1, &payload)
    }

    #[test]
    fn rejections_are_counted_wherever_pieces_end() {
        let tag = 1_u64.to_be_bytes();
        let one = [&tag[..], &[0]].concat();
        let header = [&60_u16.to_be_bytes()[..], &90_u16.to_be_bytes(), &[0; 8]].concat();
        let sent = [
            b"AMQP\x00\x00\x09\x01".to_vec(),
            method(60, 80, &one),
            method(60, 90, &one),
            frame(8, &[]),
            // Neither is a method, though it reads like a rejection.
            frame(2, &header),
            frame(3, &method(60, 90, &one)),
            // Class and method of another class.
            method(85, 90, &[]),
            method(60, 120, &one),
            method(60, 90, &one),
        ]
        .concat();
        for size in 1..=sent.len() {
            let rejections = Rejections::default();
            let mut listener = rejections.listener();
            for piece in sent.chunks(size) {
                listener(piece);
            }
            assert_eq!(rejections.count(), 3, "pieces of {size}");
        }
    }

    #[test]
    fn connections_are_counted_together() {
        let rejections = Rejections::default();
        for _ in 0..2 {
            let mut listener = rejections.listener();
            listener(b"AMQP\x00\x00\x09\x01");
            listener(&method(60, 90, &[0; 9]));
        }
        assert_eq!(rejections.count(), 2);
    }

    #[test]
    fn nonsense_is_no_rejection_and_no_panic() {
        let rejections = Rejections::default();
        let mut listener = rejections.listener();
        // A method frame too short for a method, then one that announces four gigabytes.
        listener(b"AMQP\x00\x00\x09\x01");
        listener(&frame(1, &[0, 60]));
        listener(&[1, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0, 60, 0, 91]);
        listener(&method(60, 90, &[0; 9]));
        assert_eq!(rejections.count(), 0);
    }
}
