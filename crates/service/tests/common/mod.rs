//! What the tests of the services' binaries share.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

/// For what should take a moment, on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The binary with these variables and no others.
pub fn binary(path: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(path);
    command
        .env_clear()
        .envs(variables.iter().copied())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Asserts that the binary ends with 2 and one line that names the variable, without
/// the password `s3cret` in it.
pub async fn refuses(path: &str, variable: &str, value: &str) {
    let output = timeout(DEADLINE, binary(path, &[(variable, value)]).output());
    let output = output.await.expect("ends").expect("is built");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{variable}: {stderr}");
    assert!(stderr.starts_with(&format!("{variable}: ")), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(!stderr.contains("s3cret"), "{stderr}");
}

/// Sends SIGTERM and waits for the end; its exit code, if it wasn't a signal's.
pub async fn terminate(child: &mut Child) -> Option<i32> {
    let pid = child.id().expect("is running").to_string();
    let status = Command::new("kill").args(["-TERM", &pid]).status().await;
    assert!(status.expect("kill is there").success());
    let ended = timeout(DEADLINE, child.wait()).await;
    ended.expect("ends in time").expect("is ours").code()
}
