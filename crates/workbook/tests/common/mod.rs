//! A small workbook of two steps, to be spoilt: its programs print lines, and its
//! checks read them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

pub const MAIN_01: &str = r#"//! Prints lines.

fn main() {
    println!("hello");
}
"#;

pub const STARTER_02: &str = r#"//! Prints lines. Step 02, The first span.

mod given;

fn main() {
    println!("{}", given::greeting());
    // TODO 1: print the second line, `span`.
}
"#;

pub const SOLUTION_02: &str = r#"//! Prints lines.

mod given;

fn main() {
    println!("{}", given::greeting());
    println!("span");
}
"#;

pub const GIVEN: &str = r#"//! Words.

pub fn greeting() -> &'static str {
    "hello"
}
"#;

/// A checkout in a folder of its own, which is removed in the end.
pub struct Fixture {
    pub root: PathBuf,
}

impl Fixture {
    /// Makes it, with its patch.
    pub fn new(name: &str) -> Self {
        let fixture = Self::without_patch(name);
        fixture.succeeds(&["dev", "starters"]);
        fixture
    }

    pub fn without_patch(name: &str) -> Self {
        let root =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let fixture = Self { root };
        fixture.write(
            "Cargo.toml",
            "[workspace]\nresolver = \"3\"\nmembers = [\"steps/*\", \"solutions/*\"]\n",
        );
        for (step, title, starter, solution) in [
            ("01", "Meet tier1", MAIN_01, MAIN_01),
            ("02", "The first span", STARTER_02, SOLUTION_02),
        ] {
            let (its, done) = (
                format!("steps/step-{step}"),
                format!("solutions/step-{step}"),
            );
            let manifest = |name: &str, check: &str| {
                format!(
                    "[package]\nname = \"{name}-{step}\"\n\
                     description = \"Step {step}, {title}: lines.\"\nedition = \"2024\"\n\n\
                     [[test]]\nname = \"check\"\npath = \"{check}tests/check.rs\"\nharness = false\n"
                )
            };
            let further = "\n[[test]]\nname = \"behaviour\"\nharness = false\n";
            fixture.write(&format!("{its}/Cargo.toml"), &manifest("step", ""));
            let solved = manifest("solution", &format!("../../{its}/"));
            fixture.write(&format!("{done}/Cargo.toml"), &(solved + further));
            fixture.write(&format!("{its}/src/main.rs"), starter);
            fixture.write(&format!("{done}/src/main.rs"), solution);
            let lines = if step == "01" {
                "hello\\n"
            } else {
                "hello\\nspan\\n"
            };
            fixture.write(
                &format!("{its}/tests/check.rs"),
                &check(lines, &format!("W{step}-SPAN")),
            );
            fixture.write(
                &format!("{done}/tests/behaviour.rs"),
                &check("hello\\n", "W-NONE"),
            );
        }
        for folder in ["steps", "solutions"] {
            fixture.write(&format!("{folder}/step-02/src/given.rs"), GIVEN);
        }
        fixture
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Replaces `from` in a file, where it must stand, by `to`.
    pub fn replace(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(text.contains(from), "{path} does not hold {from}");
        self.write(path, &text.replace(from, to));
    }

    /// `cargo workbook`, about this checkout, with nobody at the terminal.
    pub fn command(&self, arguments: &[&str]) -> Command {
        // What follows `--` is not the command's own.
        let own = arguments.iter().position(|argument| *argument == "--");
        let (own, other) = arguments.split_at(own.unwrap_or(arguments.len()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_workbook"));
        command
            .args(own)
            .arg("--workspace")
            .arg(&self.root)
            .args(other)
            .env("CARGO_TARGET_DIR", self.path("target"))
            .env("CARGO_NET_OFFLINE", "true")
            // `-D warnings` would make errors of what is to be found as a warning.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .stdin(Stdio::null());
        command
    }

    /// How it ends, and what it says on stdout and stderr.
    pub fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }

    /// What the command says on stdout; it must end well.
    pub fn succeeds(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {stdout}{stderr}");
        stdout
    }

    /// What the command says on stdout; it must end with 1.
    pub fn finds(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {stdout}{stderr}");
        stdout
    }

    /// The one line on stderr, of a command that must end with 2.
    pub fn refuses(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {stdout}{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        stderr
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // Left where it is, it would only take space.
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// A check that wants `lines` to be printed at the beginning, and speaks as a real
/// one does.
fn check(lines: &str, id: &str) -> String {
    format!(
        r#"//! A check.

use std::process::{{Command, ExitCode}};

fn main() -> ExitCode {{
    let program = std::env::var("WORKBOOK_TIER1")
        .unwrap_or_else(|_| env!(concat!("CARGO_BIN_EXE_", env!("CARGO_PKG_NAME"))).to_owned());
    let output = Command::new(program).output().expect("cargo built it");
    if output.stdout.starts_with(b"{lines}") {{
        println!("test result: ok. 1 passed; 0 failed; 0 ignored");
        return ExitCode::SUCCESS;
    }}
    println!("---- lines ----\n✗ a line is missing  [{id}]\n");
    println!("test result: FAILED. 0 passed; 1 failed; 0 ignored");
    ExitCode::from(101)
}}
"#
    )
}
