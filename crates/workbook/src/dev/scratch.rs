//! Packages that are built like a solution and are no part of the workspace.
//!
//! They are members of a workspace of their own, in target/: its Cargo.toml and
//! Cargo.lock are copies, `crates` and `steps` are links, and only solutions/ differs.
//! With the same target folder, cargo finds all dependencies built.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use super::programs::{self, Build};
use crate::{
    Error,
    patch::Files,
    starter::{self, Workspace},
};

/// What the copy has by links.
const LINKED: [&str; 2] = ["crates", "steps"];

/// Builds the program of each of `packages`, which have a name and are made of the
/// solution of `step`; answers what came of each, in order.
///
/// # Errors
/// If files can't be written, or if cargo fails for another reason than an error in
/// one of the packages.
pub fn build(
    workspace: &Workspace,
    step: u8,
    packages: &[(&str, &Files)],
) -> Result<Vec<Build>, Error> {
    let root = workspace
        .root()
        .join(format!("target/workbook/breaks/step-{step:02}"));
    let failed = |error| workspace.failed("write", &root, error);
    let root = prepare(workspace.root(), &root).map_err(failed)?;
    let solutions = root.join("solutions");
    let named: Vec<_> = packages
        .iter()
        .map(|(name, files)| (format!("break-{step:02}-{name}"), *files))
        .collect();
    let keep = |name: &OsStr| named.iter().any(|(package, _)| **package == *name);
    remove_others(&solutions, keep).map_err(failed)?;
    for (package, files) in &named {
        write(&solutions.join(package), package, step, files).map_err(failed)?;
    }
    let names: Vec<_> = named.into_iter().map(|(package, _)| package).collect();
    programs::build_scratch(workspace, &root, &names)
}

/// Makes the workspace without its packages; answers where it really is.
fn prepare(workspace: &Path, root: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(root.join("solutions"))?;
    let root = root.canonicalize()?;
    for file in ["Cargo.toml", "Cargo.lock"] {
        fs::copy(workspace.join(file), root.join(file))?;
    }
    for folder in LINKED {
        let (to, link) = (workspace.join(folder), root.join(folder));
        // As it was left by another run, or in another place.
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if to.is_dir() {
            std::os::unix::fs::symlink(to, link)?;
        }
    }
    Ok(root)
}

/// Writes a package. A file that is there and the same stays, so that cargo doesn't
/// take it for changed.
fn write(folder: &Path, package: &str, step: u8, files: &Files) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for path in starter::list(folder).unwrap_or_default() {
        if !path.to_str().is_some_and(|path| files.contains_key(path)) {
            fs::remove_file(folder.join(path))?;
        }
    }
    for (path, text) in files {
        let file = folder.join(path);
        let text = if path == "Cargo.toml" {
            &starter::manifest_named(text, step, package)
        } else {
            text
        };
        if fs::read_to_string(&file).is_ok_and(|there| there == *text) {
            continue;
        }
        file.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&file, text)?;
    }
    Ok(())
}

/// Removes the packages that there are no patches for any more.
fn remove_others(solutions: &Path, keep: impl Fn(&OsStr) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(solutions)? {
        let entry = entry?;
        if !keep(&entry.file_name()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
