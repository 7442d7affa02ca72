//! What the tests share.

pub mod docker;
pub mod environment;
pub mod findings;
pub mod forwarder;
pub mod passing;
pub mod process;
pub mod subject;
pub mod system;

use std::{
    future::Future,
    time::{Duration, Instant},
};

use lab::{BrokerChoice, Lab, LabConfig, Part, Program};

pub use system::{amqp_url, publish};

/// For what should take a moment, on a machine that does much else.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How long something that must not happen is waited for. A machine that is too
/// slow to let it happen in this time makes a test weaker, but never fail.
pub const MOMENT: Duration = Duration::from_millis(300);

/// What the lab's own process has in its environment while it is tested, and must
/// neither follow nor pass on. The last is for what the lab writes by itself.
pub const NONSENSE: [(&str, &str); 8] = [
    ("AMQP_URL", "nonsense:"),
    ("DATABASE_URL", "nonsense:"),
    ("HTTP_PROXY", "http://127.0.0.1:1"),
    ("OTEL_NONSENSE", "1"),
    ("RUST_LOG", "nonsense=loud"),
    ("TIER2_URL", "nonsense:"),
    ("http_proxy", "http://127.0.0.1:1"),
    ("TMPDIR", env!("CARGO_TARGET_TMPDIR")),
];

/// A test fails by a panic.
pub type Test = fn();

/// All tests that need no Docker, by name.
pub fn all() -> impl Iterator<Item = (&'static str, Test)> {
    forwarder::ALL
        .iter()
        .chain(process::ALL)
        .chain(environment::ALL)
        .chain(findings::ALL)
        .chain(passing::ALL)
        .chain(system::ALL)
        .chain(docker::ALL)
        .copied()
}

/// Those that need Docker.
pub fn with_docker() -> impl Iterator<Item = (&'static str, Test)> {
    docker::WITH_DOCKER.iter().copied()
}

/// Runs `future` on a runtime of its own, and not for ever.
pub fn within_deadline<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("threads can be started")
        .block_on(async { tokio::time::timeout(DEADLINE, future).await })
        .expect("it is done before the deadline")
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "{what}: not in {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The whole system with an embedded broker.
pub fn whole() -> LabConfig {
    LabConfig::new(BrokerChoice::Embedded)
}

/// A receiver and nothing else: enough for a subject that asks nobody.
pub fn alone() -> LabConfig {
    [Part::Tier2, Part::Saas, Part::Queue]
        .into_iter()
        .fold(whole(), LabConfig::without)
}

/// A started lab.
pub fn start(config: LabConfig) -> Lab {
    Lab::start(config).expect("the system starts")
}

/// This binary.
pub fn this_program() -> std::path::PathBuf {
    std::env::current_exe().expect("the system knows what it runs")
}

/// This binary, as the program under test.
pub fn program() -> Program {
    Program::tier1(this_program())
}
