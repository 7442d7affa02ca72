//! The consumer binary: its variables and its end.
#![cfg(unix)]

use std::process::Stdio;
use std::time::Duration;

use broker::Broker;
use consumer::QUEUE;
use tokio::process::Command;
use tokio::time::timeout;

/// For what should take a moment, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// The binary with these variables and no others.
fn consumer(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_consumer"));
    command
        .env_clear()
        .envs(variables.iter().copied())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_bad_value_is_one_line_that_names_the_variable() {
    for (variable, value) in [
        ("AMQP_URL", "http://app:s3cret@host/"),
        ("AMQP_URL", "amqp:s3cret"),
        ("DATABASE_URL", "postgres://app:s3cret@host:notaport/app"),
        ("RUST_LOG", "consumer=loud"),
    ] {
        let output = timeout(DEADLINE, consumer(&[(variable, value)]).output());
        let output = output.await.expect("ends").expect("is built");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{variable}: {stderr}");
        assert!(stderr.starts_with(&format!("{variable}: ")), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(!stderr.contains("s3cret"), "{stderr}");
    }
}

#[tokio::test]
async fn it_consumes_until_it_is_told_to_stop() {
    let broker = Broker::start(broker::Config::default())
        .await
        .expect("a free port");
    let mut child = consumer(&[("AMQP_URL", &broker.uri()), ("OTEL_SDK_DISABLED", "true")])
        .spawn()
        .expect("is built");
    broker
        .wait_for_queue("/", QUEUE, DEADLINE, |queue| queue.consumers == 1)
        .await
        .expect("consumes");

    let pid = child.id().expect("is running").to_string();
    let status = Command::new("kill").args(["-TERM", &pid]).status().await;
    assert!(status.expect("kill is there").success());
    let ended = timeout(DEADLINE, child.wait()).await;
    let code = ended.expect("ends in time").expect("is ours").code();
    assert_eq!(code, Some(0));
    broker
        .wait_for_queue("/", QUEUE, DEADLINE, |queue| queue.consumers == 0)
        .await
        .expect("is gone");
}
