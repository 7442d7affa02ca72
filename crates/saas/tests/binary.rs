//! The saas binary: its variables and its end.
#![cfg(unix)]

use std::process::Stdio;
use std::time::Duration;

use saas::SUMMARY_PATH;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

/// For what should take a moment, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// The binary with these variables and no others.
fn saas(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_saas"));
    command
        .env_clear()
        .envs(variables.iter().copied())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_bad_value_is_one_line_that_names_the_variable() {
    for (variable, value) in [("PORT", "high"), ("PORT", "-1"), ("HOST", "localhost")] {
        let output = timeout(DEADLINE, saas(&[(variable, value)]).output());
        let output = output.await.expect("ends").expect("is built");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{variable}: {stderr}");
        assert!(stderr.starts_with(&format!("{variable}: ")), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[tokio::test]
async fn it_answers_until_it_is_told_to_stop() {
    let mut child = saas(&[("PORT", "0")]).spawn().expect("is built");
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

    let pid = child.id().expect("is running").to_string();
    let status = Command::new("kill").args(["-TERM", &pid]).status().await;
    assert!(status.expect("kill is there").success());
    let ended = timeout(DEADLINE, child.wait()).await;
    let code = ended.expect("ends in time").expect("is ours").code();
    assert_eq!(code, Some(0));
}
