//! Builds a step's and its solution's tests and runs them.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

use super::verdict::{self, Said};
use crate::{Error, build, starter::Workspace};

/// Longer than any check takes on a slow machine that does something else, too.
const DEADLINE: Duration = Duration::from_secs(600);

/// Names another build of the step's program to its check.
const SUBJECT: &str = "WORKBOOK_TIER1";

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

/// What cargo made of a package of which only the program is wanted.
#[derive(Debug)]
pub struct Build {
    /// Where it is; `None` if it did not compile.
    pub program: Option<PathBuf>,
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
        .args(packages.iter().flat_map(|name| ["--package", name]));
    let (succeeded, messages) = messages(command)?;
    let [starter, solution] = [workspace.step(step), workspace.solution(step)]
        .map(|folder| package(&messages, &folder.join("Cargo.toml")));
    if !succeeded && starter.errors.is_empty() && solution.errors.is_empty() {
        return Err(does_not_compile(&messages, &packages));
    }
    Ok([starter, solution])
}

/// Builds the programs of `packages` in the workspace at `root`, in the folders
/// `solutions/PACKAGE`, into the target folder of `workspace`.
///
/// # Errors
/// If cargo fails for another reason than an error in one of them.
pub fn build_scratch(
    workspace: &Workspace,
    root: &Path,
    packages: &[String],
) -> Result<Vec<Build>, Error> {
    let mut command = build::cargo();
    command
        .current_dir(root)
        // Not for the examples, of which there are none: with them cargo counts the
        // features that dev-dependencies ask for, as it does for a check. Without, it
        // would build some dependencies once more.
        .args(["build", "--bins", "--examples", "--keep-going"])
        // All that they need has been built just now.
        .args(["--offline", "--message-format", "json"])
        .args(packages.iter().flat_map(|name| ["--package", name]))
        .env("CARGO_TARGET_DIR", target(workspace)?)
        // They are built once and not edited.
        .env("CARGO_INCREMENTAL", "0");
    // Whether cargo succeeded, the programs tell.
    let (_, messages) = messages(command)?;
    let builds: Vec<_> = packages
        .iter()
        .map(|package| {
            let manifest = root.join("solutions").join(package).join("Cargo.toml");
            Build {
                program: artifacts(&messages, &manifest, "bin").pop().map(|it| it.1),
                errors: rendered(&messages, Some(&manifest), "error"),
            }
        })
        .collect();
    let is_told = |build: &Build| build.program.is_some() || !build.errors.is_empty();
    if builds.iter().all(is_told) {
        Ok(builds)
    } else {
        Err(does_not_compile(&messages, packages))
    }
}

/// The folder that cargo builds into.
fn target(workspace: &Workspace) -> Result<PathBuf, Error> {
    let mut command = build::cargo();
    command
        .current_dir(workspace.root())
        .args(["metadata", "--no-deps", "--format-version", "1"]);
    let (_, text) = messages(command)?;
    serde_json::from_str::<Value>(&text)
        .ok()
        .and_then(|metadata| Some(metadata["target_directory"].as_str()?.into()))
        .ok_or(Error::NoTarget)
}

/// Whether cargo succeeded, and what it printed for programs to read.
fn messages(mut command: Command) -> Result<(bool, String), Error> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    if !io::stderr().is_terminal() {
        command.arg("--quiet");
    }
    let output = command.output().map_err(Error::NoCargo)?;
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output.status.success(), messages))
}

/// The error that says so, once the messages are printed that tell why.
fn does_not_compile(messages: &str, packages: &[String]) -> Error {
    for rendered in rendered(messages, None, "error") {
        eprintln!("{rendered}");
    }
    Error::DoesNotCompile(packages.join(" and "))
}

/// What cargo's messages say of the package with this manifest.
fn package(messages: &str, manifest: &Path) -> Package {
    let mut tests = artifacts(messages, manifest, "test");
    tests.sort_by_key(|(name, _)| (name != "check", name.clone()));
    Package {
        tests,
        warnings: rendered(messages, Some(manifest), "warning"),
        errors: rendered(messages, Some(manifest), "error"),
    }
}

/// The programs of a kind that were made of the package with this manifest, with
/// their names.
pub fn artifacts(messages: &str, manifest: &Path, kind: &str) -> Vec<(String, PathBuf)> {
    messages
        .lines()
        .filter_map(|line| {
            let message: Value = serde_json::from_str(line).ok()?;
            let is_it = message["reason"] == "compiler-artifact"
                && is_of(&message, manifest)
                && message["target"]["kind"][0] == kind;
            let name = message["target"]["name"].as_str()?.to_owned();
            is_it.then(|| Some((name, message["executable"].as_str()?.into())))?
        })
        .collect()
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
/// that it printed. What it tests is the package's own program, or `subject`.
///
/// # Errors
/// If it can't be started or does not end in time.
pub fn run(
    workspace: &Workspace,
    folder: &Path,
    program: &Path,
    subject: Option<&Path>,
) -> Result<(Said, String), Error> {
    let mut command = build::untold(program.as_os_str());
    for (name, _) in std::env::vars_os() {
        let told = name.to_str().is_some_and(|name| {
            // Another tier1, or insta's own way, would prove nothing.
            name.starts_with("INSTA_") || name.starts_with("TIER1_") || name == SUBJECT
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
    if let Some(subject) = subject {
        command.env(SUBJECT, subject);
    }
    let output = output_within(command, DEADLINE)?.ok_or(Error::TooLong(DEADLINE))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((verdict::read(&text, output.status.code()), text))
}

/// What a program printed and how it ended; `None` if it had to be killed because it
/// ran for longer than `deadline`.
fn output_within(command: Command, deadline: Duration) -> io::Result<Option<Output>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut command = tokio::process::Command::from(command);
        let output = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .output();
        tokio::time::timeout(deadline, output)
            .await
            .ok()
            .transpose()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let mut command = Command::new("sleep");
        command.arg("600");
        let output = output_within(command, Duration::from_millis(50)).unwrap();
        assert!(output.is_none());
        let mut command = Command::new("echo");
        command.arg("said");
        let output = output_within(command, Duration::from_secs(60)).unwrap();
        assert_eq!(output.unwrap().stdout, b"said\n");
    }

    #[test]
    fn messages_are_told_apart_by_package() {
        let message = |manifest: &str, level: &str, spans: &str, rendered: &str| {
            format!(
                r#"{{"reason":"compiler-message","manifest_path":"{manifest}","message":{{"level":"{level}","spans":{spans},"rendered":"{rendered}"}}}}"#
            )
        };
        let test = |name: &str, kind: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml","target":{{"name":"{name}","kind":["{kind}"]}},"executable":"/t/{name}"}}"#
            )
        };
        let messages = [
            message("/w/a/Cargo.toml", "warning", "[1]", "unused"),
            message("/w/a/Cargo.toml", "warning", "[1]", "unused"),
            message("/w/a/Cargo.toml", "warning", "[]", "1 warning emitted"),
            message("/w/b/Cargo.toml", "error", "[1]", "wrong"),
            test("behaviour", "test"),
            test("a", "bin"),
            test("check", "test"),
            "no JSON".to_owned(),
        ]
        .join("\n");
        let a = package(&messages, Path::new("/w/a/Cargo.toml"));
        assert_eq!((a.warnings, a.errors), (vec!["unused".to_owned()], vec![]));
        let tests = [("check", "/t/check"), ("behaviour", "/t/behaviour")];
        assert_eq!(
            a.tests,
            tests.map(|(name, path)| (name.to_owned(), path.into()))
        );
        let b = package(&messages, Path::new("/w/b/Cargo.toml"));
        assert_eq!((b.warnings, b.errors), (vec![], vec!["wrong".to_owned()]));
        assert!(b.tests.is_empty());
    }
}
