//! The saas binary: its variables and its end.
#![cfg(unix)]

#[path = "../../service/tests/common/mod.rs"]
mod common;

use common::{DEADLINE, binary, refuses, terminate};
use saas::SUMMARY_PATH;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_saas");

#[tokio::test]
async fn a_bad_value_is_one_line_that_names_the_variable() {
    for (variable, value) in [("PORT", "high"), ("PORT", "-1"), ("HOST", "localhost")] {
        refuses(BINARY, variable, value).await;
    }
}

#[tokio::test]
async fn it_answers_until_it_is_told_to_stop() {
    let mut child = binary(BINARY, &[("PORT", "0")]).spawn().expect("is built");
    let stderr = child.stderr.take().expect("is piped");
    let mut lines = BufReader::new(stderr).lines();
    let line = timeout(DEADLINE, lines.next_line()).await.expect("in time");
    let line = line.expect("UTF-8").expect("a line");
    let url = line.strip_prefix("listening on ").expect("the address");
    let client = reqwest::Client::builder().no_proxy().build();
    let response = client
        .expect("a client")
        .get(format!("{url}{SUMMARY_PATH}"))
        .send()
        .await
        .expect("answers");
    assert_eq!(response.status(), 200);

    assert_eq!(terminate(&mut child).await, Some(0));
}
