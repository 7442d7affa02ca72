//! Any bytes in any portions, from one client.
//!
//! The first byte of the input says how the rest is sent: its low 6 bits are the
//! size of the portions (0: all at once), bit 7 puts a whole handshake in front.
#![no_main]

use broker::wire::{Engine, Holdings};
use broker_fuzz::client::Client;
use broker_fuzz::{FRAME_MAX, audit, check_end, config, frames};
use libfuzzer_sys::fuzz_target;

/// Sends the stream in portions, and returns what came of it: how many bytes were
/// answered, whether it has ended, and what the broker then holds. `None` if the
/// session paused, since what comes of that depends on when the client reads.
fn talk(stream: &[u8], portion: usize) -> Option<(u64, bool, Holdings)> {
    let config = config();
    let engine = Engine::new(config.clone());
    let mut client = Client::new(&engine, &config, FRAME_MAX);
    let mut unaudited = 0;
    for bytes in stream.chunks(portion.max(1)) {
        client.send(bytes);
        client.read();
        // Hardly a frame is shorter, and to look after each byte takes long.
        unaudited += bytes.len();
        if unaudited >= 16 {
            unaudited = 0;
            let _ = audit(&engine);
        }
    }
    let result = (client.bytes_read(), client.is_finished(), audit(&engine));
    let paused = client.was_paused();
    drop(client);
    check_end(&engine, &config);
    (!paused).then_some(result)
}

fuzz_target!(|data: &[u8]| {
    let Some((how, rest)) = data.split_first() else {
        return;
    };
    let mut stream = Vec::new();
    if how & 0x80 != 0 {
        stream.extend(frames::opening(&frames::Opening::default()));
    }
    stream.extend_from_slice(rest);
    let at_once = talk(&stream, stream.len());
    let portion = usize::from(how & 0x3f);
    if portion > 0 {
        let in_portions = talk(&stream, portion);
        if let (Some(at_once), Some(in_portions)) = (at_once, in_portions) {
            assert_eq!(at_once, in_portions, "the portions made a difference");
        }
    }
});
