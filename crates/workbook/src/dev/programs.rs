//! Builds a step's and its solution's tests and runs them.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;

use super::verdict::{self, Said};
use crate::{Error, build, starter::Workspace};

/// Longer than any check takes on a slow machine that does something else, too.
const DEADLINE: Duration = Duration::from_secs(600);

/// What cargo made of one package.
#[derive(Debug, Default)]
pub struct Package {
    /// Its test programs with their names, the check first.
    pub tests: Vec<(String, PathBuf)>,
    /// The compiler's warnings, as it prints them.
    pub warnings: Vec<String>,
    /// The compiler's errors, as it prints them.
    pub errors: Vec<String>,
}

/// Builds the tests of starter and solution of `step`.
///
/// # Errors
/// If cargo fails for another reason than an error in one of the two.
pub fn build(workspace: &Workspace, step: u8) -> Result<[Package; 2], Error> {
    let packages = [format!("step-{step:02}"), format!("solution-{step:02}")];
    let mut command = build::cargo();
    command
        .current_dir(workspace.root())
        .args(["test", "--no-run", "--message-format", "json"])
        .args(packages.iter().flat_map(|name| ["--package", name]))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    if !std::io::stderr().is_terminal() {
        command.arg("--quiet");
    }
    let output = command.output().map_err(Error::NoCargo)?;
    let messages = String::from_utf8_lossy(&output.stdout);
    let [starter, solution] = [workspace.step(step), workspace.solution(step)]
        .map(|folder| package(&messages, &folder.join("Cargo.toml")));
    if !output.status.success() && starter.errors.is_empty() && solution.errors.is_empty() {
        for rendered in rendered(&messages, None, "error") {
            eprintln!("{rendered}");
        }
        return Err(Error::DoesNotCompile(packages.join(" and ")));
    }
    Ok([starter, solution])
}

/// What cargo's messages say of the package with this manifest.
fn package(messages: &str, manifest: &Path) -> Package {
    let mut tests: Vec<_> = messages
        .lines()
        .filter_map(|line| {
            let message: Value = serde_json::from_str(line).ok()?;
            let is_it = message["reason"] == "compiler-artifact"
                && is_of(&message, manifest)
                && message["target"]["kind"][0] == "test";
            let name = message["target"]["name"].as_str()?.to_owned();
            is_it.then(|| Some((name, message["executable"].as_str()?.into())))?
        })
        .collect();
    tests.sort_by_key(|(name, _)| (name != "check", name.clone()));
    Package {
        tests,
        warnings: rendered(messages, Some(manifest), "warning"),
        errors: rendered(messages, Some(manifest), "error"),
    }
}

/// The compiler's messages of a level, each once; of any package, if no manifest
/// is given.
fn rendered(messages: &str, manifest: Option<&Path>, level: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in messages.lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        // What is about no place in the code only counts the others.
        let is_it = message["reason"] == "compiler-message"
            && manifest.is_none_or(|manifest| is_of(&message, manifest))
            && message["message"]["level"] == level
            && !message["message"]["spans"]
                .as_array()
                .is_none_or(Vec::is_empty);
        let rendered = message["message"]["rendered"].as_str();
        if let Some(rendered) = rendered.filter(|_| is_it)
            && !found.iter().any(|it| it == rendered)
        {
            found.push(rendered.to_owned());
        }
    }
    found
}

fn is_of(message: &Value, manifest: &Path) -> bool {
    message["manifest_path"].as_str().map(Path::new) == Some(manifest)
}

/// Runs a test program of the package in `folder`; answers what it said and all
/// that it printed.
///
/// # Errors
/// If it can't be started or does not end in time.
pub fn run(workspace: &Workspace, folder: &Path, program: &Path) -> Result<(Said, String), Error> {
    let mut command = build::untold(program.as_os_str());
    for (name, _) in std::env::vars_os() {
        let told = name.to_str().is_some_and(|name| {
            // Another tier1, or insta's own way, would prove nothing.
            name.starts_with("INSTA_") || name.starts_with("TIER1_")
        });
        if told {
            command.env_remove(name);
        }
    }
    command
        .current_dir(folder)
        .args(["--color", "never"])
        .env("INSTA_UPDATE", "no")
        .env("INSTA_WORKSPACE_ROOT", workspace.root())
        .stdin(Stdio::null());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let output = runtime.block_on(async {
        let mut command = tokio::process::Command::from(command);
        let output = command.kill_on_drop(true).output();
        tokio::time::timeout(DEADLINE, output).await
    });
    let output = output.map_err(|_| Error::TooLong(workspace.tell(folder), DEADLINE))??;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((verdict::read(&text, output.status.code()), text))
}
