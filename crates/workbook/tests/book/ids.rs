//! Which findings a check can print, read off the sources: of those that are rare no run
//! would tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Words in capitals that are no ids.
const NO_IDS: [&str; 9] = [
    "CLIENT", "FOO", "GET", "HOST", "INT", "POST", "PORT", "SERVER", "TERM",
];

/// The sources of the lab.
pub struct Source {
    /// The names of `lab::Kind`.
    kinds: BTreeSet<String>,
    /// The bodies of its functions, by name; those of the same name together.
    functions: BTreeMap<String, String>,
}

impl Source {
    /// Reads all files in `folder`.
    pub fn read(folder: &Path) -> Self {
        let files = fs::read_dir(folder).expect("the folder can be read");
        let files = files.map(|entry| entry.expect("an entry").path());
        let texts: Vec<_> = files
            .map(|path| fs::read_to_string(path).expect("a file"))
            .collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let source = Self::of(&texts);
        assert!(source.kinds.len() > 20, "{:?}", source.kinds);
        source
    }

    /// Of these files.
    pub fn of(texts: &[&str]) -> Self {
        let mut kinds = BTreeSet::new();
        let mut functions: BTreeMap<String, String> = BTreeMap::new();
        for text in texts {
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            let arms = text.split("Self::").skip(1);
            kinds.extend(arms.filter_map(|arm| {
                let (_, name) = arm.split_once(" => \"")?;
                let name = name.split('"').next()?;
                is_id(name).then(|| name.to_owned())
            }));
            for part in text.split("fn ").skip(1) {
                let name: String = part.chars().take_while(|c| is_of_name(*c)).collect();
                // The last call of a check's `main`, and of much else.
                if name == "run" {
                    continue;
                }
                functions.entry(name).or_default().push_str(part);
            }
        }
        Self { kinds, functions }
    }

    /// The ends of the ids that a check can print.
    pub fn printed_by(&self, check: &str, snapshots: &str) -> BTreeSet<String> {
        let mut printed = BTreeSet::from(["LAB", "PANIC"].map(str::to_owned));
        let mut seen = BTreeSet::new();
        let mut texts = vec![check];
        while let Some(text) = texts.pop() {
            for word in literals(text).filter(|word| is_id(word)) {
                if !self.kinds.contains(word) {
                    printed.insert(word.to_owned());
                }
            }
            for name in calls(text) {
                if let Some(body) = self.functions.get(name)
                    && seen.insert(name)
                {
                    texts.push(body);
                }
            }
        }
        // A check that names no chapter sends nobody to the book for these.
        if check.contains(".chapter(") {
            let kinds = self.kinds.iter();
            printed.extend(kinds.filter(|kind| can_be(kind, check, snapshots)).cloned());
        }
        // A check's own finding may have the name of a kind.
        let own = literals(check).filter(|word| is_id(word));
        printed.extend(own.map(ToOwned::to_owned));
        printed
    }
}

/// Whether such a finding can come of this check. Most come of the comparison of any two
/// traces; these come of functions that not each check calls, or of a span of the program's
/// that hands its context on.
fn can_be(kind: &str, check: &str, snapshots: &str) -> bool {
    let calls = snapshots.contains("· CLIENT · tier1-service");
    let publishes = snapshots.contains("· PRODUCER · tier1-service");
    // The consumer's neighbours begin nothing of their own.
    let is_tier1 = !check.contains(".consumer()");
    match kind {
        "LATE" => check.contains("expect_span_within("),
        "CONFIRM" => check.contains("expect_confirm_covered("),
        "INJECT" => is_tier1 && calls,
        "INJECT-MESSAGE" => is_tier1 && publishes,
        "INJECT-PARENT" => is_tier1 && (calls || publishes),
        _ => true,
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

fn is_id(word: &str) -> bool {
    let is_word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_uppercase());
    word.len() > 1 && word.split('-').all(is_word) && !NO_IDS.contains(&word)
}

/// What stands between two quotes; some of it is code, which is no id.
fn literals(text: &str) -> impl Iterator<Item = &str> {
    text.split('"')
}

/// The names before an opening parenthesis.
fn calls(text: &str) -> impl Iterator<Item = &str> {
    text.split('(').filter_map(|before| {
        let name = before.trim_end_matches(is_of_name);
        let name = &before[name.len()..];
        (!name.is_empty()).then_some(name)
    })
}
