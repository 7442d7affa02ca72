//! The consumer binary: its variables and its end.
#![cfg(unix)]

#[path = "../../service/tests/common/mod.rs"]
mod common;

use broker::Broker;
use common::{DEADLINE, binary, refuses, terminate};
use consumer::QUEUE;

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_consumer");

#[tokio::test]
async fn a_bad_value_is_one_line_that_names_the_variable() {
    for (variable, value) in [
        ("AMQP_URL", "http://app:s3cret@host/"),
        ("AMQP_URL", "amqp:s3cret"),
        ("DATABASE_URL", "postgres://app:s3cret@host:notaport/app"),
        ("RUST_LOG", "consumer=loud"),
    ] {
        refuses(BINARY, variable, value).await;
    }
}

#[tokio::test]
async fn it_consumes_until_it_is_told_to_stop() {
    let broker = Broker::start(broker::Config::default())
        .await
        .expect("a free port");
    let mut child = binary(
        BINARY,
        &[("AMQP_URL", &broker.uri()), ("OTEL_SDK_DISABLED", "true")],
    )
    .spawn()
    .expect("is built");
    broker
        .wait_for_queue("/", QUEUE, DEADLINE, |queue| queue.consumers == 1)
        .await
        .expect("consumes");

    assert_eq!(terminate(&mut child).await, Some(0));
    broker
        .wait_for_queue("/", QUEUE, DEADLINE, |queue| queue.consumers == 0)
        .await
        .expect("is gone");
}
