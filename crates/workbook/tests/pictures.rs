//! `cargo workbook dev pictures --check`, on a copy of this book that is spoilt.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A copy of what the check looks at, in a folder that is removed in the end.
struct Copy {
    root: PathBuf,
}

impl Copy {
    fn new(name: &str) -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let copy = Self { root };
        for folder in ["book/src", "book/src/pictures", "book/recordings"] {
            copy.take(&here, folder);
        }
        for step in fs::read_dir(here.join("steps")).unwrap() {
            let step = step.unwrap().file_name().into_string().unwrap();
            copy.take(&here, &format!("steps/{step}/tests/snapshots"));
        }
        copy
    }

    fn take(&self, from: &Path, folder: &str) {
        fs::create_dir_all(self.root.join(folder)).unwrap();
        for entry in fs::read_dir(from.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let to = self.root.join(folder).join(path.file_name().unwrap());
                fs::copy(&path, to).unwrap();
            }
        }
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// What is told if `from` is replaced by `to` in a file; puts it back.
    fn replaced(&self, path: &str, from: &str, to: &str) -> Vec<String> {
        let before = self.read(path);
        assert!(before.contains(from), "{path} does not hold {from}");
        fs::write(self.root.join(path), before.replace(from, to)).unwrap();
        let told = self.told();
        fs::write(self.root.join(path), before).unwrap();
        told
    }

    /// What the check finds, a line each; it must end with 1.
    fn told(&self) -> Vec<String> {
        let (code, said) = self.run();
        assert_eq!(code, Some(1), "{said}");
        let line = |line: &str| line.strip_prefix("pictures  ✗ ").map(str::to_owned);
        said.lines().map(|it| line(it).expect(it)).collect()
    }

    fn run(&self) -> (Option<i32>, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_workbook"))
            .args(["dev", "pictures", "--check", "--workspace"])
            .arg(&self.root)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

#[test]
fn what_does_not_fit_is_told_with_the_way_to_mend_it() {
    let copy = Copy::new("pictures");
    let (code, said) = copy.run();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.ends_with(" show what was recorded, and that is what the snapshots tell\n"),
        "{said}"
    );

    // A solution got another span name, and its snapshot was accepted.
    let snapshot = "steps/step-06/tests/snapshots/check__fast.snap";
    let told = copy.replaced(snapshot, "publish signups ·", "send signups ·");
    assert_eq!(
        told,
        ["06-fast", "06-first", "06-renamed"].map(|name| format!(
            "book/recordings/{name}.json does not fit {snapshot}: \
             recorded is `publish signups · PRODUCER · tier1-service · Unset`, \
             expected `send signups · PRODUCER · tier1-service · Unset`; \
             `cargo workbook dev pictures {name}` records it anew"
        ))
    );
    // Another attribute, of a picture that is compared with another step's snapshot.
    let hung_up = "steps/step-12/tests/snapshots/check__hang_up.snap";
    let told = copy.replaced(hung_up, "http.route = \"/fast\"", "http.route = \"/slow\"");
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        told[0],
        format!(
            "book/recordings/11-hung-up.json does not fit {hung_up}: \
             recorded is `http.route = \"/fast\"` of `GET /fast · SERVER · tier1-service · Unset`, \
             expected `http.route = \"/slow\"` of `GET /fast · SERVER · tier1-service · Unset`; \
             `cargo workbook dev pictures 11-hung-up` records it anew"
        )
    );
    // Pictures are allowed to differ from their snapshot in what is said, and in nothing else.
    let told = copy.replaced(
        "steps/step-07/tests/snapshots/check__fast.snap",
        "tier1-service",
        "tier1",
    );
    assert!(
        told.iter()
            .any(|it| it.starts_with("book/recordings/07-renamed.json does not fit"))
    );

    // The drawing is another one.
    let told = copy.replaced(
        "book/src/pictures/06-fast.svg",
        "process signups",
        "processing",
    );
    assert_eq!(
        told,
        [
            "book/src/pictures/06-fast.svg is not what book/recordings/06-fast.json shows, from line 3 \
          on: `cargo workbook dev pictures --draw 06-fast` draws it"
        ]
    );
    // The recording is another one: neither the drawing nor the snapshot fits.
    let told = copy.replaced(
        "book/recordings/02-slow.json",
        "\"GET /slow\"",
        "\"GET /fast\"",
    );
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("book/src/pictures/02-slow.svg is not what"),
        "{told:?}"
    );
    assert!(
        told[1].starts_with("book/recordings/02-slow.json does not fit"),
        "{told:?}"
    );
    let told = copy.replaced(
        "book/recordings/09-fast.json",
        "\"resourceLogs\"",
        "\"others\"",
    );
    assert!(
        told.iter()
            .any(|it| it.starts_with("book/recordings/09-fast.json has no log records")),
        "{told:?}"
    );
    let told = copy.replaced(
        "book/recordings/02-slow.json",
        "\"scopeSpans\": [",
        "\"scopeSpans\": 1, \"x\": [",
    );
    assert_eq!(
        told,
        [
            "book/recordings/02-slow.json is no recording: resourceSpans[0].scopeSpans: not a list; \
          `cargo workbook dev pictures 02-slow` records it anew"
        ]
    );

    // A chapter shows what isn't there, and nobody shows what is.
    let told = copy.replaced(
        "book/src/13-the-other-side-of-the-queue.md",
        "pictures/13-fast.svg",
        "pictures/13-slow.svg",
    );
    assert_eq!(
        told,
        [
            "book/src/13-the-other-side-of-the-queue.md includes pictures/13-slow.svg, and no picture \
             of that name is in crates/workbook/src/dev/pictures/list.rs",
            "no chapter includes pictures/13-fast.svg: show it, or take it out of \
             crates/workbook/src/dev/pictures/list.rs",
        ]
    );

    // Files too many and too few.
    for (file, folder) in [
        ("old.svg", "book/src/pictures"),
        ("06-fast.svg", "book/recordings"),
    ] {
        let path = copy.root.join(folder).join(file);
        fs::write(&path, "").unwrap();
        assert_eq!(
            copy.told(),
            [format!(
                "{folder}/{file} belongs to no picture of crates/workbook/src/dev/pictures/list.rs: \
                 remove it"
            )]
        );
        fs::remove_file(path).unwrap();
    }
    fs::remove_file(copy.root.join("book/src/pictures/01-fast.svg")).unwrap();
    fs::remove_file(copy.root.join("book/recordings/01-slow.json")).unwrap();
    fs::remove_file(
        copy.root
            .join("steps/step-10/tests/snapshots/check__slow.snap"),
    )
    .unwrap();
    let told = copy.told();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(
        told[0],
        "there is no book/src/pictures/01-fast.svg: `cargo workbook dev pictures --draw 01-fast` \
         draws it"
    );
    assert_eq!(
        told[1],
        "there is no book/recordings/01-slow.json: `cargo workbook dev pictures 01-slow` records it \
         anew"
    );
    assert!(
        told[2].starts_with("book/recordings/10-slow.json can't be compared: "),
        "{told:?}"
    );
}

#[test]
fn a_name_that_is_none_is_told() {
    let output = Command::new(env!("CARGO_BIN_EXE_workbook"))
        .args(["dev", "pictures", "06-fsat"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.starts_with("error: there is no picture \"06-fsat\"; there are 01-error, 01-fast, "),
        "{told}"
    );
}
