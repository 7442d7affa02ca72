//! Builds a step's program with cargo, whose progress the reader sees.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    Error,
    step::{Step, workspace},
};

/// Builds `step` and answers where its program is.
pub fn build(step: &Step) -> Result<PathBuf, Error> {
    step.package()?;
    build_in(&workspace(), step)
}

/// The same in the workspace at `root`, where there must be such a step.
pub fn build_in(root: &Path, step: &Step) -> Result<PathBuf, Error> {
    build_as(root, step, &[])
}

/// The same, optimised.
pub fn build_release(step: &Step) -> Result<PathBuf, Error> {
    step.package()?;
    build_as(&workspace(), step, &["--release"])
}

/// Builds `steps` at once and answers where their programs are, in the same order.
pub fn build_all(steps: &[Step]) -> Result<Vec<PathBuf>, Error> {
    for step in steps {
        step.package()?;
    }
    build_packages(&workspace(), steps, &[])
}

fn build_as(root: &Path, step: &Step, profile: &[&str]) -> Result<PathBuf, Error> {
    let programs = build_packages(root, std::slice::from_ref(step), profile)?;
    let program = programs.into_iter().next();
    program.ok_or_else(|| Error::NoProgram(step.to_string()))
}

fn build_packages(root: &Path, steps: &[Step], profile: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let packages: Vec<String> = steps.iter().map(ToString::to_string).collect();
    let mut command = cargo();
    command
        .current_dir(root)
        .args(["build", "--bins"])
        .args(packages.iter().flat_map(|name| ["--package", name]));
    // Together with this command's own package: cargo unifies the features of what it
    // builds together, and the step alone would have its dependencies built once more.
    if root.join("crates/workbook/Cargo.toml").is_file() {
        command.args(["--package", "workbook"]);
    }
    command
        .args(["--message-format", "json-render-diagnostics"])
        .args(profile)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let output = command.output().map_err(Error::NoCargo)?;
    if !output.status.success() {
        return Err(Error::DoesNotCompile(packages.join(", ")));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let program = |package: String| {
        let found = messages.lines().find_map(|line| executable(line, &package));
        found.ok_or(Error::NoProgram(package))
    };
    packages.into_iter().map(program).collect()
}

/// The cargo that runs this command.
pub fn cargo() -> Command {
    untold(
        env::var_os("CARGO")
            .unwrap_or_else(|| "cargo".into())
            .as_ref(),
    )
}

/// A program that doesn't hear what cargo told this one about its package.
pub fn untold(program: &OsStr) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let told = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        if told {
            command.env_remove(name);
        }
    }
    command
}

/// The path in cargo's message about the program called `name`, if `line` is that.
fn executable(line: &str, name: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let is_it = message["reason"] == "compiler-artifact"
        && message["target"]["name"] == name
        && message["target"]["kind"][0] == "bin";
    is_it.then(|| message["executable"].as_str().map(PathBuf::from))?
}
