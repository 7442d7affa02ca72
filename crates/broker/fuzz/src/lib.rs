//! What the fuzz targets share: frames to send, and a client that checks all it is sent.

pub mod client;
pub mod frames;

use broker::Config;
use broker::wire::{Engine, Holdings};

/// The largest frame that the broker under test allows: small, so that bodies are
/// split, but as large as lapin, from which the seeds come, insists on.
pub const FRAME_MAX: u32 = 8192;

/// The smallest frame size that a client may ask for.
pub const FRAME_MIN: u32 = 4096;

/// Limits that small inputs can reach.
#[must_use]
pub fn config() -> Config {
    Config {
        frame_max: FRAME_MAX,
        channel_max: 8,
        max_message_bytes: 10_000,
        ..Config::default()
    }
}

/// What the broker holds, which must agree with itself.
///
/// # Panics
/// If it doesn't: that is a finding.
#[must_use]
pub fn audit(engine: &Engine) -> Holdings {
    match engine.audit() {
        Ok(holdings) => holdings,
        Err(difference) => panic!("{difference}"),
    }
}

/// Checks what is left when all sessions were dropped, and that a new one is served.
///
/// # Panics
/// If something of the sessions is left, or the new one gets no answer.
pub fn check_end(engine: &Engine, config: &Config) {
    let left = audit(engine);
    let expected = Holdings {
        queues: left.queues,
        ready: left.ready,
        message_bytes: left.message_bytes,
        ..Holdings::default()
    };
    assert_eq!(left, expected, "something of a session outlived it");

    let mut client = client::Client::new(engine, config, FRAME_MAX);
    client.send(&frames::opening(&frames::Opening::default()));
    client.send(&frames::declare(1, "after the others"));
    client.read();
    assert!(
        engine.queue("/", "after the others").is_some(),
        "a new session isn't served"
    );
    drop(client);
    let _ = audit(engine);
}
