//! Which steps have passed their check, and what they looked like then. A check notes it,
//! `cargo workbook` shows it.

use std::{
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// Where it is noted, from the workspace on: below target/, so that none of it is ever
/// committed.
const FOLDER: &str = "target/workbook/passed";

/// What decides whether a package passes, besides the crates that it stands on.
const DECIDES: [&str; 3] = ["Cargo.toml", "src", "tests"];

/// How a step stands to its last passing check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No check of it is known to have passed.
    Never,
    /// One has, and something that decides was changed since.
    Changed,
    /// One has, with all as it is now.
    Passed,
}

/// How `step` stands, in the workspace at this path.
///
/// What can't be read was never noted.
pub fn standing(workspace: &Path, step: u8) -> Standing {
    let Ok(noted) = fs::read_to_string(file(workspace, step)) else {
        return Standing::Never;
    };
    let now = digest(&workspace.join(format!("steps/step-{step:02}")));
    if now.is_ok_and(|now| now == noted.trim()) {
        Standing::Passed
    } else {
        Standing::Changed
    }
}

/// Notes that `step` has passed when it had this [`digest`].
///
/// # Errors
/// If the file can't be written.
pub fn note(workspace: &Path, step: u8, digest: &str) -> io::Result<()> {
    let file = file(workspace, step);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, format!("{digest}\n"))
}

/// A hash of all that decides whether the package in this folder passes: Cargo.toml, its
/// sources, its tests and their snapshots. Hidden files don't count, such as editors leave
/// behind, nor what `insta` writes.
///
/// # Errors
/// If one of the files can't be read.
pub fn digest(package: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for part in DECIDES {
        let path = package.join(part);
        if path.symlink_metadata().is_ok() {
            list(&path, &mut files)?;
        }
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let name = file.strip_prefix(package).unwrap_or(&file);
        // With their lengths: where one text ends and the next begins is a part of it.
        for bytes in [name.as_os_str().as_encoded_bytes(), &fs::read(&file)?] {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
    }
    Ok(hash
        .finalize()
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }))
}

fn file(workspace: &Path, step: u8) -> PathBuf {
    workspace.join(FOLDER).join(format!("step-{step:02}"))
}

/// `path` itself, or the files in it. Links to folders are not followed: they may lead back.
fn list(path: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.symlink_metadata()?.is_dir() {
        found.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if !name.starts_with(b".") && !name.ends_with(b".snap.new") {
            list(&entry.path(), found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: &str = "steps/step-05";

    fn workspace() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder can be made");
        for (file, text) in [
            ("Cargo.toml", "[package]"),
            ("src/main.rs", "fn main() {}"),
            ("tests/check.rs", "check"),
            ("tests/snapshots/check__fast.snap", "trace 1"),
        ] {
            write(folder.path(), file, text);
        }
        folder
    }

    fn write(workspace: &Path, file: &str, text: &str) {
        let file = workspace.join(STEP).join(file);
        let folder = file.parent().expect("it is in a folder");
        fs::create_dir_all(folder).expect("a folder can be made");
        fs::write(file, text).expect("a file can be written");
    }

    fn digest_of(workspace: &Path) -> String {
        digest(&workspace.join(STEP)).expect("it can be read")
    }

    #[test]
    fn a_step_has_passed_until_something_that_decides_is_changed() {
        let folder = workspace();
        let root = folder.path();
        assert_eq!(standing(root, 5), Standing::Never);
        note(root, 5, &digest_of(root)).expect("it can be written");
        assert_eq!(standing(root, 5), Standing::Passed);
        assert_eq!(standing(root, 6), Standing::Never);
        for file in [
            "Cargo.toml",
            "src/main.rs",
            "src/new.rs",
            "tests/check.rs",
            "tests/snapshots/check__fast.snap",
            "tests/snapshots/check__slow.snap",
        ] {
            let path = root.join(STEP).join(file);
            let before = fs::read_to_string(&path).ok();
            write(root, file, "changed");
            assert_eq!(standing(root, 5), Standing::Changed, "{file}");
            match before {
                Some(before) => write(root, file, &before),
                None => fs::remove_file(path).expect("it is there"),
            }
            assert_eq!(standing(root, 5), Standing::Passed, "{file}");
        }
    }

    #[test]
    fn what_does_not_decide_does_not_count() {
        let folder = workspace();
        let root = folder.path();
        let before = digest_of(root);
        for file in [
            "hints.md",
            "src/.main.rs.swp",
            ".kept/src/main.rs",
            "tests/snapshots/check__fast.snap.new",
        ] {
            write(root, file, "changed");
            assert_eq!(digest_of(root), before, "{file}");
        }
    }

    #[test]
    fn where_a_file_ends_is_a_part_of_the_hash() {
        let folder = workspace();
        let root = folder.path();
        let mut seen = Vec::new();
        for (one, other) in [("ab", "c"), ("a", "bc"), ("abc", "")] {
            write(root, "src/main.rs", one);
            write(root, "src/other.rs", other);
            seen.push(digest_of(root));
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 3, "{seen:?}");
    }

    #[test]
    fn a_step_that_can_not_be_read_has_not_passed() {
        let folder = workspace();
        let root = folder.path();
        note(root, 5, &digest_of(root)).expect("it can be written");
        fs::remove_dir_all(root.join("steps")).expect("it is there");
        assert_eq!(standing(root, 5), Standing::Changed);
        fs::write(file(root, 5), [0xff]).expect("it can be written");
        assert_eq!(standing(root, 5), Standing::Never);
    }
}
