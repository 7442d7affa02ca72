//! Where a step's starter comes from: the files it is based on, and a patch.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    patch::{self, Files, PatchError},
    step,
};

/// The first step whose starter is made by a patch: step 01 has nothing to write.
const FIRST_PATCHED: u8 = 2;

/// What a step's starter is based on.
enum Base {
    /// The solution of that step, as it is.
    Same,
    /// The solution of another step.
    Solution(u8),
    /// Files kept beside the patch, in `starters/base-NN`, under the names of the
    /// step's solution.
    Kept,
}

/// The one place that says where each step begins.
fn base(step: u8) -> Base {
    match step {
        0..FIRST_PATCHED => Base::Same,
        // The consumer, which the reader hasn't met yet; then tier1 again, as it was left.
        13 => Base::Kept,
        14 => Base::Solution(12),
        _ => Base::Solution(step - 1),
    }
}

/// A checkout of the workbook.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
}

/// Why there is no starter; one line.
#[derive(Debug, thiserror::Error)]
pub enum StarterError {
    /// A file or folder could not be read or written.
    #[error("can't {what} {path}: {error}")]
    File {
        /// Read, write, …
        what: &'static str,
        /// Which one, relative to the workspace if it is in there.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// The patch was not written yet.
    #[error("step {step:02} has no starter yet: there is no {patch}")]
    NoPatch {
        /// The step.
        step: u8,
        /// Where the patch would be.
        patch: String,
    },
    /// The patch can't be made or is of no use.
    #[error("{patch} {error}; it is applied to {base}")]
    Patch {
        /// The patch's file.
        patch: String,
        /// What it is applied to.
        base: String,
        /// What is wrong with it.
        error: PatchError,
    },
    /// A patch reaches beyond `src/` and Cargo.toml.
    #[error("{patch} is about {file}: a starter is Cargo.toml and what is in src/")]
    Outside {
        /// The patch's file.
        patch: String,
        /// What it names.
        file: String,
    },
    /// Step 01 is asked for its patch.
    #[error("step {0:02} has no patch: its starter is its solution")]
    Unpatched(u8),
}

impl Workspace {
    /// The checkout at `root`; that of this command, if that is `None`.
    pub fn new(root: Option<PathBuf>) -> Self {
        let root = root.unwrap_or_else(step::workspace);
        Self {
            root: root.canonicalize().unwrap_or(root),
        }
    }

    /// Its topmost folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a step is.
    pub fn step(&self, step: u8) -> PathBuf {
        self.root.join(format!("steps/step-{step:02}"))
    }

    /// Where a step's solution is.
    pub fn solution(&self, step: u8) -> PathBuf {
        self.root.join(format!("solutions/step-{step:02}"))
    }

    /// Where a step's patch is or would be.
    pub fn patch(&self, step: u8) -> PathBuf {
        self.starters().join(format!("step-{step:02}.patch"))
    }

    /// Where the patches are that spoil a step's solution.
    pub fn breaks(&self, step: u8) -> PathBuf {
        self.root
            .join(format!("crates/workbook/breaks/step-{step:02}"))
    }

    fn starters(&self) -> PathBuf {
        self.root.join("crates/workbook/starters")
    }

    /// `path` as it is told to people.
    pub fn tell(&self, path: &Path) -> String {
        let path = path.strip_prefix(&self.root).unwrap_or(path);
        path.display().to_string()
    }

    /// Whether the starter of `step` is made by a patch.
    pub fn is_patched(step: u8) -> bool {
        !matches!(base(step), Base::Same)
    }

    /// What `step` is based on, as it is told to people.
    pub fn base_name(&self, step: u8) -> String {
        self.tell(&self.base_folder(step))
    }

    /// The numbers of the steps that have a folder in steps/ or solutions/, in order.
    ///
    /// # Errors
    /// If one of the two can't be read.
    pub fn steps(&self) -> Result<Vec<u8>, StarterError> {
        let mut steps = Vec::new();
        for folder in ["steps", "solutions"] {
            let folder = self.root.join(folder);
            for entry in
                fs::read_dir(&folder).map_err(|error| self.failed("read", &folder, error))?
            {
                let entry = entry.map_err(|error| self.failed("read", &folder, error))?;
                let name = entry.file_name();
                let digits = name.to_str().and_then(|name| name.strip_prefix("step-"));
                steps.extend(digits.and_then(|digits| digits.parse::<u8>().ok()));
            }
        }
        steps.sort_unstable();
        steps.dedup();
        Ok(steps)
    }

    /// The starter of `step`, made anew.
    ///
    /// # Errors
    /// If there is no patch for it, or if the patch doesn't fit what it is based on.
    pub fn starter(&self, step: u8) -> Result<Files, StarterError> {
        let base = self.base(step)?;
        if !Self::is_patched(step) {
            return Ok(base);
        }
        let path = self.patch(step);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StarterError::NoPatch {
                    step,
                    patch: self.tell(&path),
                });
            }
            Err(error) => return Err(self.failed("read", &path, error)),
        };
        let files = patch::apply(&text, &base).map_err(|error| self.bad_patch(step, error))?;
        if let Some(file) = files.keys().find(|file| !belongs(file)) {
            return Err(StarterError::Outside {
                patch: self.tell(&path),
                file: file.clone(),
            });
        }
        Ok(files)
    }

    /// The patch that makes what is in steps/ now of what `step` is based on.
    ///
    /// # Errors
    /// If one of them can't be read, or if the step has no patch.
    pub fn make_patch(&self, step: u8) -> Result<String, StarterError> {
        if !Self::is_patched(step) {
            return Err(StarterError::Unpatched(step));
        }
        patch::make(&self.base(step)?, &self.read(&self.step(step))?)
            .map_err(|error| self.bad_patch(step, error))
    }

    /// The solution of `step` under the names that its starter has.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn solution_as_step(&self, step: u8) -> Result<Files, StarterError> {
        self.read_as_step(&self.solution(step), step, step)
    }

    /// What a starter is made of: the package's `src/` and Cargo.toml. Hidden files,
    /// such as an editor leaves behind, are no part of it.
    ///
    /// # Errors
    /// If they can't be read, or aren't text.
    pub fn read(&self, package: &Path) -> Result<Files, StarterError> {
        let failed = |path: &Path, error| self.failed("read", path, error);
        let mut files = Files::new();
        for path in list(package).map_err(|error| failed(package, error))? {
            let text = fs::read_to_string(package.join(&path))
                .map_err(|error| failed(&package.join(&path), error))?;
            files.insert(path.display().to_string(), text);
        }
        Ok(files)
    }

    fn base(&self, step: u8) -> Result<Files, StarterError> {
        let from = match base(step) {
            Base::Solution(other) => other,
            Base::Same | Base::Kept => step,
        };
        self.read_as_step(&self.base_folder(step), from, step)
    }

    fn base_folder(&self, step: u8) -> PathBuf {
        match base(step) {
            Base::Same => self.solution(step),
            Base::Solution(other) => self.solution(other),
            Base::Kept => self.starters().join(format!("base-{step:02}")),
        }
    }

    fn read_as_step(&self, package: &Path, from: u8, step: u8) -> Result<Files, StarterError> {
        let mut files = self.read(package)?;
        for text in files.values_mut() {
            *text = without_anchors(text);
        }
        if let Some(manifest) = files.get_mut("Cargo.toml") {
            *manifest = manifest_as_step(manifest, from, step);
        }
        Ok(files)
    }

    fn bad_patch(&self, step: u8, error: PatchError) -> StarterError {
        StarterError::Patch {
            patch: self.tell(&self.patch(step)),
            base: self.base_name(step),
            error,
        }
    }

    /// The error that says that `path` could not be read, written, ….
    pub fn failed(&self, what: &'static str, path: &Path, error: io::Error) -> StarterError {
        StarterError::File {
            what,
            path: self.tell(path),
            error,
        }
    }
}

/// A solution's text without the lines that mark passages for the book.
pub fn without_anchors(text: &str) -> String {
    let is_anchor = |line: &str| line.trim_start().starts_with("// ANCHOR");
    text.split_inclusive('\n')
        .filter(|line| !is_anchor(line))
        .collect()
}

/// Whether `file` is what a starter consists of.
pub fn belongs(file: &str) -> bool {
    let hidden = |part: &str| part.is_empty() || part.starts_with('.');
    file == "Cargo.toml" || (file.starts_with("src/") && !file.split('/').any(hidden))
}

/// Cargo.toml and all that is in `src/` of a package, relative to it, in order.
/// Without hidden files; links are not followed.
pub fn list(package: &Path) -> io::Result<Vec<PathBuf>> {
    fn walk(package: &Path, folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(package.join(folder))? {
            let entry = entry?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = folder.join(name);
            if entry.file_type()?.is_dir() {
                walk(package, &path, found)?;
            } else {
                found.push(path);
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    let manifest = PathBuf::from("Cargo.toml");
    if package.join(&manifest).symlink_metadata().is_ok() {
        found.push(manifest);
    }
    if package.join("src").symlink_metadata().is_ok() {
        walk(package, Path::new("src"), &mut found)?;
    }
    if found.is_empty() {
        // Says why there is nothing, if the folder itself is missing.
        fs::read_dir(package)?;
    }
    found.sort();
    Ok(found)
}

/// The Cargo.toml of solution `from` with the names that it has in steps/: package
/// and program are called after `step`, the check is its own, and the solution's
/// further tests are left out.
fn manifest_as_step(manifest: &str, from: u8, step: u8) -> String {
    let solution = format!("\"solution-{from:02}\"");
    let check = format!("\"../../steps/step-{from:02}/");
    let mut text = String::new();
    for table in tables(manifest) {
        if !table.starts_with("[[test]]") || table.contains(&check) {
            let table = table.replace(&solution, &format!("\"step-{step:02}\""));
            text.push_str(&table.replace(&check, "\""));
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// The Cargo.toml of the solution of `step`, for a package of another name and without
/// tests: they would have to be there, too.
pub fn manifest_named(manifest: &str, step: u8, package: &str) -> String {
    let solution = format!("\"solution-{step:02}\"");
    let tables = tables(manifest).into_iter();
    tables
        .filter(|table| !table.starts_with("[[test]]"))
        .map(|table| table.replace(&solution, &format!("\"{package}\"")))
        .collect()
}

/// What a manifest of a starter has in common with that of its solution: all but
/// comments and `[lints]`, since a starter allows what its stubs don't use yet.
pub fn without_lints(manifest: &str) -> String {
    tables(manifest)
        .into_iter()
        .filter(|table| !table.starts_with("[lints"))
        .flat_map(str::lines)
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .fold(String::new(), |text, line| text + line + "\n")
}

/// A manifest cut before each header.
fn tables(manifest: &str) -> Vec<&str> {
    let mut cuts: Vec<_> = manifest
        .match_indices("\n[")
        .map(|(newline, _)| newline + 1)
        .collect();
    cuts.push(manifest.len());
    let mut start = 0;
    cuts.into_iter()
        .map(|end| &manifest[std::mem::replace(&mut start, end)..end])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOLUTION: &str = r#"[package]
name = "solution-04"

[[bin]]
name = "solution-04"

[dependencies]
axum.workspace = true

[[test]]
name = "check"
path = "../../steps/step-04/tests/check.rs"
harness = false

[[test]]
name = "behaviour"
harness = false
"#;

    #[test]
    fn a_manifest_gets_the_names_of_the_step() {
        let expected = r#"[package]
name = "step-05"

[[bin]]
name = "step-05"

[dependencies]
axum.workspace = true

[[test]]
name = "check"
path = "tests/check.rs"
harness = false
"#;
        assert_eq!(manifest_as_step(SOLUTION, 4, 5), expected);
    }

    #[test]
    fn a_manifest_gets_another_name() {
        let expected = r#"[package]
name = "break-04-x"

[[bin]]
name = "break-04-x"

[dependencies]
axum.workspace = true

"#;
        assert_eq!(manifest_named(SOLUTION, 4, "break-04-x"), expected);
    }

    #[test]
    fn lints_and_comments_are_a_starters_own() {
        let [one, other] = [
            "[package]\n# Why.\n[lints.rust]\ndead_code = \"allow\"\n\n[[bin]]\nname = \"x\"\n",
            "[package]\n\n[lints]\nworkspace = true\n\n[[bin]]\nname = \"x\"\n",
        ];
        assert_eq!(without_lints(one), without_lints(other));
        assert_eq!(without_lints(one), "[package]\n[[bin]]\nname = \"x\"\n");
    }

    #[test]
    fn the_bases_are_the_solutions_before() {
        let workspace = Workspace::new(Some("/nowhere".into()));
        let base = |step| workspace.base_name(step);
        assert_eq!(base(1), "solutions/step-01");
        assert_eq!(base(2), "solutions/step-01");
        assert_eq!(base(12), "solutions/step-11");
        assert_eq!(base(13), "crates/workbook/starters/base-13");
        assert_eq!(base(14), "solutions/step-12");
        assert_eq!(base(15), "solutions/step-14");
    }

    #[test]
    fn a_starter_is_sources_and_manifest() {
        for file in ["Cargo.toml", "src/main.rs", "src/a/b.rs"] {
            assert!(belongs(file), "{file}");
        }
        for file in [
            "tests/check.rs",
            "build.rs",
            "../x",
            "src/../../x",
            "src//x",
            "/src/x",
            "src/.x",
            "",
        ] {
            assert!(!belongs(file), "{file}");
        }
    }
}
