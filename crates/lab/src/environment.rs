//! What of the caller's environment counts, and that nothing else does.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::Command,
};

/// Set in a process whose environment was cleaned, so that it isn't cleaned again.
const CLEANED: &str = "WORKBOOK_ENVIRONMENT_CLEANED";

/// What a program under test may inherit: where to find programs and files.
/// Everything else it is told by the lab.
const SUBJECT: &[&str] = &[
    "HOME",
    "LANG",
    "LLVM_PROFILE_FILE",
    "LOGNAME",
    "PATH",
    "TMPDIR",
    "USER",
    "VIRTUAL_ENV",
];

/// What else the lab's own process may keep: how it was called, what terminal it
/// writes to, where Docker is.
const LAB: &[&str] = &[
    "CI",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLUMNS",
    "DYLD_FALLBACK_LIBRARY_PATH",
    "LD_LIBRARY_PATH",
    "NO_COLOR",
    "RUST_BACKTRACE",
    "RUST_MIN_STACK",
    "RUST_TEST_THREADS",
    "TERM",
    "XDG_RUNTIME_DIR",
];

const LAB_PREFIXES: &[&str] = &[
    "CARGO",
    "DOCKER_",
    "INSTA_",
    "LC_",
    "NEXTEST",
    "RUSTUP_",
    "TESTCONTAINERS_",
    "TIER1_",
    "WORKBOOK_",
];

/// The part of the caller's environment that a program under test inherits.
pub(crate) fn for_subject() -> Vec<(OsString, OsString)> {
    env::vars_os()
        .filter(|(name, _)| name.to_str().is_some_and(|name| SUBJECT.contains(&name)))
        .collect()
}

/// Starts the program anew, in its own place, with an environment that holds
/// nothing but what a lab needs; returns at once if that has been done.
///
/// A reader's shell may set OTEL_* or `http_proxy`. The services that run inside
/// the lab's process would obey: the SDK reads its variables wherever it runs.
/// They can't be unset in a running process without `unsafe`, so the process is
/// replaced. Its id, terminal and arguments stay; `extra` is added to what it gets.
///
/// # Errors
/// If the program can't be started anew.
pub fn clean(extra: &[(&str, &OsStr)]) -> std::io::Result<()> {
    use std::os::unix::process::CommandExt;

    if env::var_os(CLEANED).is_some() {
        return Ok(());
    }
    let kept = env::vars_os().filter(|(name, _)| {
        name.to_str().is_some_and(|name| {
            SUBJECT.contains(&name)
                || LAB.contains(&name)
                || LAB_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        })
    });
    let error = Command::new(this_program()?)
        .args(env::args_os().skip(1))
        .env_clear()
        .envs(kept)
        .envs(extra.iter().copied())
        .env(CLEANED, "1")
        .exec();
    Err(error)
}

/// The path of the running program. Linux says ` (deleted)` behind it once a new
/// build has taken its place: then the new one is meant.
fn this_program() -> std::io::Result<PathBuf> {
    let path = env::current_exe()?;
    let replaced = path
        .to_str()
        .and_then(|path| path.strip_suffix(" (deleted)"));
    Ok(match replaced {
        Some(replaced) if !path.exists() => replaced.into(),
        _ => path,
    })
}
