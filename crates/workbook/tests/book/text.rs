//! What can be read off a page.

use std::fmt;

/// `{{#include path:part}}`.
#[derive(Debug)]
pub struct Include {
    /// The file, from the page on.
    pub path: String,
    /// What stands behind the path: an anchor, lines, or nothing.
    part: String,
}

impl fmt::Display for Include {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.part.is_empty() { "" } else { ":" };
        write!(f, "{{{{#include {}{colon}{}}}}}", self.path, self.part)
    }
}

/// All includes of a page but those that a backslash makes text.
pub fn includes(page: &str) -> Vec<Include> {
    let mut found = Vec::new();
    for (at, start) in page.match_indices("{{#include ") {
        if page[..at].ends_with('\\') {
            continue;
        }
        let Some((inside, _)) = page[at + start.len()..].split_once("}}") else {
            continue;
        };
        let (path, part) = inside.trim().split_once(':').unwrap_or((inside.trim(), ""));
        found.push(Include {
            path: path.to_owned(),
            part: part.to_owned(),
        });
    }
    found
}

impl Include {
    /// Why nothing, or less than is asked for, would be included of `file`.
    pub fn problem(&self, file: &str) -> Option<String> {
        let lines: Vec<&str> = file.lines().collect();
        if lines.is_empty() {
            return Some("the file is empty".to_owned());
        }
        let (from, to) = self
            .part
            .split_once(':')
            .unwrap_or((&self.part, &self.part));
        let number = |text: &str, open: usize| match text {
            "" => Some(open),
            text => text.parse().ok(),
        };
        match (number(from, 1), number(to, lines.len())) {
            (Some(from), Some(to)) => {
                let is_there = 1 <= from && from <= to && to <= lines.len();
                (!is_there).then(|| format!("the file has {} lines", lines.len()))
            }
            _ => anchor_problem(&self.part, &lines),
        }
    }
}

fn anchor_problem(name: &str, lines: &[&str]) -> Option<String> {
    let line_with = |mark: &str| {
        let mark = format!("{mark}: {name}");
        let is_it = |line: &&str| line.trim_end().ends_with(&mark);
        lines.iter().position(is_it)
    };
    match (line_with("ANCHOR"), line_with("ANCHOR_END")) {
        (Some(start), Some(end)) if start + 1 < end => None,
        (Some(_), Some(_)) => Some("the anchor has no lines".to_owned()),
        (Some(_), None) => Some("the anchor has no ANCHOR_END".to_owned()),
        _ => Some("the file has no such anchor".to_owned()),
    }
}

/// How long a chapter takes, as its table or its first line says.
pub fn minutes(page: &str) -> Option<u32> {
    page.lines().find_map(|line| {
        let text = line.strip_prefix("| minutes |").or_else(|| {
            line.strip_prefix('*')
                .filter(|rest| rest.contains(" minutes"))
        })?;
        let digits = text.split(|c: char| !c.is_ascii_digit());
        digits
            .filter(|digits| !digits.is_empty())
            .find_map(|digits| digits.parse().ok())
    })
}

/// The ids of the anchors that a page sets by itself.
pub fn anchors(page: &str) -> Vec<String> {
    let parts = page.split("<a id=\"").skip(1);
    parts
        .filter_map(|rest| rest.split_once('"'))
        .map(|(id, _)| id.to_owned())
        .collect()
}

/// The files and folders of this workspace that a page names in backticks.
pub fn named_paths(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in page.lines() {
        for code in line.split('`').skip(1).step_by(2) {
            // `file.rs:12` is a line of it.
            let path = code.split(':').next().unwrap_or(code);
            let is_ours = [
                "crates/",
                "steps/",
                "solutions/",
                "book/",
                "deploy/",
                ".ci/",
            ]
            .iter()
            .any(|folder| path.starts_with(folder));
            let is_path = path
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            if is_ours && is_path && !path.contains("NN") {
                found.push(path.to_owned());
            }
        }
    }
    found
}

/// The versions that a page gives of OpenTelemetry's crates: numbers like `0.33.1` in lines
/// that name one or what one prints, and those that follow `Rust SDK`.
pub fn versions(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in page.lines() {
        let names_one = line.contains("opentelemetry") || line.contains("telemetry.sdk.version");
        let is_part = |c: char| c.is_ascii_digit() || c == '.';
        for number in line.split(|c| !is_part(c)) {
            let number = number.trim_matches('.');
            let parts = number.split('.').count();
            let is_version = number.starts_with("0.") && parts == 3;
            let of_the_sdk = line.contains("Rust SDK") && number.starts_with("0.") && parts == 2;
            if (is_version && names_one) || of_the_sdk {
                found.push(number.to_owned());
            }
        }
    }
    found
}

/// The images of other projects that a text names, each with its tag.
pub fn images(text: &str) -> Vec<(&'static str, String)> {
    const NAMES: [&str; 4] = [
        "rabbitmq",
        "postgres",
        "jaegertracing/jaeger",
        "otel/opentelemetry-collector-contrib",
    ];
    let in_a_name = |c: char| c.is_alphanumeric() || "._/:@-".contains(c);
    let words = text.split(|c| !in_a_name(c));
    words
        .filter_map(|word| {
            // `${IMAGE:-name:tag}`: what stands in the place of a variable that is not set.
            let word = word.rsplit(":-").next()?;
            let (name, tag) = word.trim_end_matches(['.', ':']).split_once(':')?;
            let name = NAMES.into_iter().find(|known| *known == name)?;
            // With a slash it is the scheme of a URL.
            (!tag.contains('/')).then(|| (name, tag.to_owned()))
        })
        .collect()
}

/// The variables that a `config.rs` reads, each with its default.
pub fn settings(source: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for call in ["read(", "http_url("] {
        for (at, _) in source.match_indices(call) {
            let is_whole = !source[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let mut literals = source[at + call.len()..].trim_start().split('"');
            // What isn't a literal first is the function itself.
            if let (true, Some(""), Some(name), Some(_), Some(default)) = (
                is_whole,
                literals.next(),
                literals.next(),
                literals.next(),
                literals.next(),
            ) {
                found.push((name.to_owned(), default.to_owned()));
            }
        }
    }
    found
}

/// The faults in the tables of a page, as `step-02/name`, each with the ids that follow it in
/// its row.
pub fn faults(page: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for line in page.lines() {
        let before = found.len();
        for code in line.split('`').skip(1).step_by(2) {
            let is_name =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-/".contains(c);
            if code.starts_with("step-") && code.contains('/') && code.chars().all(is_name) {
                found.push((code.to_owned(), Vec::new()));
            } else if line.contains(&format!("[`{code}`](")) && code.starts_with('W') {
                let of_this_row = found[before..].last_mut();
                of_this_row
                    .into_iter()
                    .for_each(|(_, ids)| ids.push(code.to_owned()));
            }
        }
    }
    found
}
