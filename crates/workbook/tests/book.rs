//! The book against what it speaks of: mdBook only warns of an include that leads nowhere,
//! and of an anchor that no check prints nobody hears.
//!
//! Links between pages, and to headings, are looked at in the built book: `.ci/book`.

#[path = "book/ids.rs"]
mod ids;
#[path = "book/text.rs"]
mod text;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use ids::Source;
use text::{Include, anchors, includes, minutes, named_paths};

fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package
        .ancestors()
        .nth(2)
        .expect("two levels up")
        .to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All pages, each with its path from `book/src` on.
fn pages() -> Vec<(PathBuf, String)> {
    let root = workspace().join("book/src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                let name = path.strip_prefix(&root).expect("it is below").to_owned();
                found.push((name, read(&path)));
            }
        }
    }
    found.sort();
    found
}

/// The chapters of steps, each with its number.
fn chapters() -> Vec<(String, PathBuf, String)> {
    let chapters = pages().into_iter().filter_map(|(name, text)| {
        let number = name.to_str()?.get(..2)?;
        let is_step = number.bytes().all(|byte| byte.is_ascii_digit());
        is_step.then(|| (number.to_owned(), name.clone(), text))
    });
    let chapters: Vec<_> = chapters.collect();
    assert!(chapters.len() >= 13, "{} chapters", chapters.len());
    chapters
}

#[track_caller]
fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn each_include_leads_to_something() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for (name, page) in pages() {
        let folder = workspace().join("book/src").join(&name);
        for include in includes(&page) {
            seen += 1;
            let path = folder.with_file_name(&include.path);
            let problem = match fs::read_to_string(&path) {
                Ok(file) => include.problem(&file),
                Err(error) => Some(error.to_string()),
            };
            wrong.extend(problem.map(|why| format!("{}: {include}: {why}", name.display())));
        }
    }
    assert!(seen > 50, "{seen} includes");
    none("includes that lead nowhere", &wrong);
}

#[test]
fn each_chapter_has_its_minutes_and_is_in_the_summary() {
    let summary = read(&workspace().join("book/src/SUMMARY.md"));
    let mut wrong = Vec::new();
    for (name, page) in pages() {
        let name = name.to_string_lossy().into_owned();
        if name != "SUMMARY.md" && !summary.contains(&format!("]({name})")) {
            wrong.push(format!("{name} is not in SUMMARY.md"));
        }
        let is_chapter = name.as_bytes()[0].is_ascii_digit() || name == "setup.md";
        if is_chapter && minutes(&page).is_none() {
            wrong.push(format!("{name} doesn't say how many minutes it takes"));
        }
    }
    none("pages", &wrong);
}

#[test]
fn each_finding_has_its_anchor() {
    let source = Source::read(&workspace().join("crates/lab/src"));
    let mut wrong = Vec::new();
    for (number, name, page) in chapters() {
        let folder = workspace().join(format!("steps/step-{number}/tests"));
        let check = read(&folder.join("check.rs"));
        let snapshots: String = fs::read_dir(folder.join("snapshots"))
            .expect("it has snapshots")
            .map(|entry| read(&entry.expect("an entry").path()))
            .collect();
        let anchors = anchors(&page);
        let printed = source.printed_by(&check, &snapshots);
        assert!(printed.len() > 5, "{number}: {printed:?}");
        for id in printed {
            let id = format!("w{number}-{}", id.to_lowercase());
            if !anchors.contains(&id) {
                wrong.push(format!("{}: no <a id=\"{id}\">", name.display()));
            }
        }
        // What a finding names as its place in the book.
        let chapter = name.with_extension("");
        let chapter = chapter.to_string_lossy();
        let named = check.split(".chapter(\"").nth(1);
        if let Some(named) = named.and_then(|rest| rest.split('"').next())
            && named != chapter
        {
            wrong.push(format!("step {number} names the chapter {named}"));
        }
        for anchor in &anchors {
            let times = page.matches(&format!("<a id=\"{anchor}\">")).count();
            if times != 1 {
                wrong.push(format!(
                    "{}: {anchor} is there {times} times",
                    name.display()
                ));
            }
            if anchor.starts_with('w') && !anchor.starts_with(&format!("w{number}-")) {
                wrong.push(format!("{}: {anchor} is another step's", name.display()));
            }
        }
    }
    none("anchors of findings", &wrong);
}

#[test]
fn each_path_that_is_named_exists() {
    let mut wrong = Vec::new();
    for (name, page) in pages() {
        for path in named_paths(&page) {
            if !workspace().join(&path).exists() {
                wrong.push(format!("{}: {path}", name.display()));
            }
        }
    }
    none("files that are not there", &wrong);
}

/// What a fault leads to, `dev check` proves; here, that the page says the same.
#[test]
fn each_symptom_names_a_fault_that_leads_to_it() {
    let page = read(&workspace().join("book/src/appendix/no-spans.md"));
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (fault, ids) in text::faults(&page) {
        seen += 1;
        let path = format!("crates/workbook/breaks/{fault}.patch");
        let Ok(patch) = fs::read_to_string(workspace().join(&path)) else {
            wrong.push(format!("there is no {path}"));
            continue;
        };
        let finds = patch.lines().filter(|line| line.starts_with("# finds:"));
        let found: Vec<_> = finds.flat_map(str::split_whitespace).collect();
        if ids.is_empty() || !ids.iter().all(|id| found.contains(&id.as_str())) {
            wrong.push(format!("{fault} leads to {found:?}, not to {ids:?}"));
        }
    }
    assert!(seen > 20, "{seen} faults");
    none("faults", &wrong);
}

#[test]
fn each_variable_of_tier1_is_in_the_appendix() {
    let page = read(&workspace().join("book/src/appendix/variables.md"));
    let source = |file| read(&workspace().join("solutions/step-12/src").join(file));
    let mut wrong = Vec::new();
    let settings = text::settings(&source("config.rs"));
    assert!(settings.len() > 10, "{settings:?}");
    for (name, default) in settings {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}` |")));
        match row {
            None => wrong.push(name),
            Some(row) if !row.contains(&format!("| `{default}` |")) => {
                wrong.push(format!("{name}: its default is {default}"));
            }
            Some(_) => {}
        }
    }
    // The names of those that each signal has are put together.
    let source = source("otel_env.rs");
    let names = source.split('"').filter(|word| word.starts_with("OTEL_"));
    let names =
        names.filter(|name| !name.contains(['{', ' ']) && !page.contains(&format!("`{name}`")));
    wrong.extend(names.map(ToOwned::to_owned));
    none("variables", &wrong);
}

/// Whoever bumps OpenTelemetry's crates is told which sentences to look at again.
#[test]
fn each_version_of_opentelemetry_is_the_one_in_use() {
    let lock = read(&workspace().join("Cargo.lock"));
    let sdk = lock.split("name = \"opentelemetry_sdk\"").nth(1);
    let sdk = sdk
        .and_then(|rest| rest.split('"').nth(1))
        .expect("it is locked");
    let mut seen = 0;
    let mut wrong = Vec::new();
    for (name, page) in pages() {
        for version in text::versions(&page) {
            seen += 1;
            if version != sdk && !sdk.starts_with(&format!("{version}.")) {
                wrong.push(format!("{}: {version} in place of {sdk}", name.display()));
            }
        }
    }
    assert!(seen > 8, "{seen} versions");
    none("versions", &wrong);
}

/// The reader fetches by these names, and the lab and docker-compose.yaml by theirs.
#[test]
fn each_image_has_one_tag() {
    let mut texts = pages();
    for file in ["README.md", "docker-compose.yaml"] {
        texts.push((file.into(), read(&workspace().join(file))));
    }
    let in_use = read(&workspace().join("crates/containers/src/image.rs"));
    let in_use: Vec<_> = in_use
        .lines()
        .filter(|line| line.contains("const "))
        .collect();
    texts.insert(0, ("image.rs".into(), in_use.join("\n")));
    let mut tags = BTreeMap::new();
    let mut seen = 0;
    let mut wrong = Vec::new();
    for (file, text) in &texts {
        for (image, tag) in text::images(text) {
            seen += 1;
            let (first, of) = tags.entry(image).or_insert((tag.clone(), file));
            if *first != tag {
                let (file, of) = (file.display(), of.display());
                wrong.push(format!(
                    "{file}: {image}:{tag}, and in {of} {image}:{first}"
                ));
            }
        }
    }
    assert_eq!(tags.len(), 4, "{tags:?}");
    assert!(seen >= 9, "{seen} names");
    none("images", &wrong);
}

/// What the tests above would say of pages that are wrong.
mod spoiled {
    use super::*;

    fn problem(text: &str, file: &str) -> Option<String> {
        let found = includes(text);
        assert_eq!(found.len(), 1, "{text}");
        found[0].problem(file)
    }

    #[test]
    fn an_include_of_an_anchor() {
        let include = "{{#include ../a.rs:init}}";
        assert_eq!(includes(include)[0].path, "../a.rs");
        let good = "x\n// ANCHOR: init\nlet a;\n    // ANCHOR_END: init\n";
        assert_eq!(problem(include, good), None);
        // Renamed, not ended, empty; and a longer name is another one.
        for bad in [
            good.replace("init", "start"),
            good.replace("ANCHOR_END", "END"),
            good.replace("let a;\n", ""),
            good.replace("init", "initial"),
        ] {
            assert!(problem(include, &bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn an_include_of_lines() {
        let file = "1\n2\n3\n";
        for good in ["", ":1", ":3:", ":1:3", "::2"] {
            let include = format!("{{{{#include a.snap{good}}}}}");
            assert_eq!(problem(&include, file), None, "{good}");
        }
        for bad in [":4", ":4:", ":2:4", "::4", ":3:2", ":0"] {
            let include = format!("{{{{#include a.snap{bad}}}}}");
            assert!(problem(&include, file).is_some(), "{bad}");
        }
        assert!(problem("{{#include a.snap}}", "").is_some());
        assert!(includes(r"\{{#include a.snap}}").is_empty());
    }

    #[test]
    fn a_chapter_without_minutes() {
        assert_eq!(minutes("| minutes | about 20 |"), Some(20));
        assert_eq!(minutes("*5 minutes, and 2 minutes of building.*"), Some(5));
        assert_eq!(minutes("| minutes | soon |"), None);
        assert_eq!(minutes("some 20 minutes"), None);
    }

    #[test]
    fn an_id_that_a_check_prints() {
        let source = Source::of(&[
            r#"Self::Nothing => "NOTHING", Self::Inject => "INJECT", Self::Late => "LATE","#,
            r#"fn looks(&self) { self.deeper() } fn deeper(&self) { self.told("DEEP-DOWN", "GET") }
               fn unused() { told("UNUSED") } fn tell() { "IN-TELL" }
               #[cfg(test)] mod tests { fn looks() { told("TESTED") } }"#,
        ]);
        let printed = |check: &str, snapshot: &str| {
            let printed: Vec<_> = source.printed_by(check, snapshot).into_iter().collect();
            printed.join(" ")
        };
        let check = r#"fn fast(case: &Case) { case.looks(); case.diagnosis("OWN", "a text") }"#;
        assert_eq!(printed(check, ""), "DEEP-DOWN LAB OWN PANIC");
        let check = format!("{check}.chapter(\"02-x\")");
        assert_eq!(printed(&check, ""), "DEEP-DOWN LAB NOTHING OWN PANIC");
        let call = "GET · CLIENT · tier1-service · Unset";
        assert_eq!(
            printed(&check, call),
            "DEEP-DOWN INJECT LAB NOTHING OWN PANIC"
        );
        let check = format!("{check} case.expect_span_within(");
        assert_eq!(printed(&check, ""), "DEEP-DOWN LAB LATE NOTHING OWN PANIC");
    }

    #[test]
    fn a_path_that_is_named() {
        let page = "`crates/lab/src` and `steps/step-NN`, `solutions/step-12/src/main.rs`, \
                    `cargo test`, `steps/x.rs:12`, [a](crates/x)";
        assert_eq!(
            named_paths(page),
            [
                "crates/lab/src",
                "solutions/step-12/src/main.rs",
                "steps/x.rs"
            ]
        );
    }

    #[test]
    fn a_fault_and_its_finding() {
        let page = "| a | `step-02/x` [`W02-A`](p.md#w02-a), `step-05/y` [`W05-B`](q.md) |";
        let faults = text::faults(page);
        let faults: Vec<_> = faults
            .iter()
            .map(|(f, ids)| (f.as_str(), ids.join(" ")))
            .collect();
        let expected = [("step-02/x", "W02-A"), ("step-05/y", "W05-B")];
        assert_eq!(faults, expected.map(|(fault, id)| (fault, id.to_owned())));
        assert_eq!(
            text::faults("`step-02/x`"),
            [("step-02/x".to_owned(), Vec::new())]
        );
    }

    #[test]
    fn a_version() {
        let versions = |line| text::versions(line).join(" ");
        assert_eq!(
            versions("[x](https://docs.rs/opentelemetry_sdk/0.33.1/x/)"),
            "0.33.1"
        );
        assert_eq!(
            versions("the crate opentelemetry-otlp, version 0.33.1."),
            "0.33.1"
        );
        assert_eq!(versions("not in the Rust SDK 0.33"), "0.33");
        assert_eq!(
            versions("reqwest-tracing 0.7.1 takes OpenTelemetry 0.32"),
            ""
        );
        assert_eq!(versions("opentelemetry's conventions 1.44.0"), "");
    }

    #[test]
    fn an_image() {
        let images = |text| text::images(text);
        let one = |name, tag: &str| vec![(name, tag.to_owned())];
        assert_eq!(images("from `postgres:18`."), one("postgres", "18"));
        assert_eq!(
            images("    image: ${QUEUE_IMAGE:-rabbitmq:4-management}"),
            one("rabbitmq", "4-management")
        );
        assert_eq!(
            images("docker run jaegertracing/jaeger:2.19.0\n"),
            one("jaegertracing/jaeger", "2.19.0")
        );
        assert_eq!(images("my/rabbitmq:ci, rabbitmq: a broker, postgres"), []);
        assert_eq!(images("postgres://host:5432/x"), []);
    }

    #[test]
    fn a_variable_and_its_default() {
        let source = r#"host: read("HOST", "0.0.0.0", "an address")?, fn read(name: &str) {}
                        url: http_url( "TIER2_URL", "http://a", HTTP)?, already("NOT", "this")"#;
        let settings = text::settings(source);
        let settings: Vec<_> = settings
            .iter()
            .map(|(n, d)| (n.as_str(), d.as_str()))
            .collect();
        assert_eq!(settings, [("HOST", "0.0.0.0"), ("TIER2_URL", "http://a")]);
    }

    #[test]
    fn an_anchor() {
        assert_eq!(
            anchors(r#"| <a id="w02-a"></a><a id="w02-b"></a>`W02-A`"#),
            ["w02-a", "w02-b"]
        );
    }

    #[test]
    fn an_include_says_what_it_is() {
        let include: &Include = &includes("{{#include ../a.rs:init}}")[0];
        assert_eq!(include.to_string(), "{{#include ../a.rs:init}}");
    }
}
