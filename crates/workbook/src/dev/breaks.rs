//! Wrong solutions that a check must refuse, and other right ones that it must accept.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
};

use super::{
    programs::{self, Build},
    scratch,
    verdict::{Problem, Said},
};
use crate::{
    Error,
    patch::{self, Files},
    starter::{self, StarterError, Workspace},
};

/// How many checks run at a time. Each waits for processes more than it computes, and
/// some of its tests have deadlines that a machine with more to do would miss.
const AT_A_TIME: usize = 2;

/// A patch that spoils a solution, or solves the step otherwise.
#[derive(Debug)]
struct Break {
    /// The file's name without its ending.
    name: String,
    /// The patch's path, as it is told to people.
    told: String,
    wanted: Wanted,
    /// Patched, with the solution's names.
    files: Files,
}

/// What the check must say.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// `# accepted`: nothing.
    Accepted,
    /// That it is wrong.
    Refused {
        /// `# finds:`, and each `# or:`. All ids of one of these must be found.
        finds: Vec<Vec<String>>,
        /// `# also:` May be found besides.
        also: Vec<String>,
    },
}

/// How many of a step's patches did what they are to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    refused: usize,
    accepted: usize,
}

/// Builds what the patches in `breaks/step-NN` make of the solution, all at once, and
/// lets `check`, the solution's own, judge each.
///
/// # Errors
/// If something can't be read, written or started.
pub fn check(
    workspace: &Workspace,
    step: u8,
    check: &Path,
) -> Result<Result<Tally, Vec<Problem>>, Error> {
    let mut problems = Vec::new();
    let mut breaks = Vec::new();
    let solution = workspace.read(&workspace.solution(step))?;
    for path in patches(&workspace.breaks(step))
        .map_err(|error| workspace.failed("read", &workspace.breaks(step), error))?
    {
        let text =
            fs::read_to_string(&path).map_err(|error| workspace.failed("read", &path, error))?;
        match Break::read(step, &path, workspace.tell(&path), &text, &solution) {
            Ok(it) => breaks.push(it),
            Err(problem) => problems.push(Problem::code(problem)),
        }
    }
    // What doesn't apply need not be built, nor what stands beside it.
    if breaks.is_empty() || !problems.is_empty() {
        return Ok(empty_or(problems, Tally::default()));
    }
    let packages: Vec<_> = breaks
        .iter()
        .map(|it| (it.name.as_str(), &it.files))
        .collect();
    let builds = scratch::build(workspace, step, &packages)?;
    for (it, build) in breaks.iter().zip(&builds) {
        if build.program.is_none() {
            for error in &build.errors {
                eprintln!("{error}");
            }
            let why = format!("{} does not compile: see the messages above", it.told);
            problems.push(Problem::code(why));
        }
    }
    if !problems.is_empty() {
        return Ok(Err(problems));
    }

    let mut tally = Tally::default();
    for (it, result) in breaks.iter().zip(run(workspace, step, check, &builds)) {
        let judged = match result {
            Ok((said, output)) => it
                .judge(step, &said)
                .inspect_err(|_| eprintln!("{}: the check said\n{output}", it.told)),
            Err(error @ Error::TooLong(..)) => {
                Err(Problem::code(format!("{}: the check: {error}", it.told)))
            }
            Err(error) => return Err(error),
        };
        match (judged, &it.wanted) {
            (Err(problem), _) => problems.push(problem),
            (Ok(()), Wanted::Accepted) => tally.accepted += 1,
            (Ok(()), Wanted::Refused { .. }) => tally.refused += 1,
        }
    }
    Ok(empty_or(problems, tally))
}

fn empty_or(problems: Vec<Problem>, tally: Tally) -> Result<Tally, Vec<Problem>> {
    if problems.is_empty() {
        Ok(tally)
    } else {
        Err(problems)
    }
}

/// Runs `check` on each program; the results in their order.
fn run(
    workspace: &Workspace,
    step: u8,
    check: &Path,
    builds: &[Build],
) -> Vec<Result<(Said, String), Error>> {
    let folder = workspace.solution(step);
    let waiting: VecDeque<_> = builds.iter().enumerate().collect();
    let waiting = Mutex::new(waiting);
    let work = || {
        let mut results = Vec::new();
        loop {
            let next = waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            let Some((number, build)) = next else {
                return results;
            };
            let program = build.program.as_deref();
            results.push((number, programs::run(workspace, &folder, check, program)));
        }
    };
    let mut results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .flat_map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// The patches in `folder`, in order; none, if there is no such folder.
fn patches(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "patch") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

impl Break {
    /// Reads the patch `text`, and applies it to `solution`. The error is one line.
    fn read(
        step: u8,
        path: &Path,
        told: String,
        text: &str,
        solution: &Files,
    ) -> Result<Self, String> {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let is_plain = |stem: &&str| {
            let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
            !stem.is_empty() && stem.bytes().all(is_plain)
        };
        let name = stem
            .filter(is_plain)
            .ok_or_else(|| format!("{told} must be named in lower case letters, digits and -"))?;
        let (wanted, diff) = head(step, text).map_err(|why| format!("{told} {why}"))?;
        if diff.trim().is_empty() {
            return Err(format!("{told} changes nothing"));
        }
        let files = patch::apply_near(diff, solution)
            .map_err(|error| format!("{told} {error}; it is applied to the solution"))?;
        if let Some(file) = files.keys().find(|file| !starter::belongs(file)) {
            let error = StarterError::Outside {
                patch: told,
                file: file.clone(),
            };
            return Err(error.to_string());
        }
        Ok(Self {
            name: name.to_owned(),
            told,
            wanted,
            files,
        })
    }

    /// Whether the check said what it is to say.
    fn judge(&self, step: u8, said: &Said) -> Result<(), Problem> {
        let told = &self.told;
        let what = format!("{told}: the check");
        let Wanted::Refused { finds, also } = &self.wanted else {
            return said.must_pass(&what).map(|_| ());
        };
        let found = said.must_fail(&what, step)?;
        let is_found = |id: &String| found.contains(id);
        let wanted: Vec<_> = finds.iter().map(|ids| ids.join(" and ")).collect();
        let wanted = wanted.join(" or ");
        if !finds.iter().any(|ids| ids.iter().all(is_found)) {
            return Err(Problem::code(format!(
                "{told} is refused with {}, not with {wanted}",
                found.join(", ")
            )));
        }
        let unwanted: Vec<_> = found
            .iter()
            .filter(|id| !finds.iter().flatten().chain(also).any(|it| it == *id))
            .map(String::as_str)
            .collect();
        if !unwanted.is_empty() {
            return Err(Problem::code(format!(
                "{told} is refused with {wanted}, but with {}, too: if that is right, its \
                 head says `# also:`",
                unwanted.join(", ")
            )));
        }
        Ok(())
    }
}

/// The lines with `#` before the diff, and the diff.
fn head(step: u8, text: &str) -> Result<(Wanted, &str), String> {
    let own = format!("W{step:02}-");
    let ids = |list: &str| {
        let ids: Vec<String> = list.split_whitespace().map(str::to_owned).collect();
        if ids.is_empty() || ids.iter().any(|id| !id.starts_with(&own)) {
            let list = list.trim();
            return Err(format!("names `{list}`: it must be ids like {own}STATUS"));
        }
        Ok(ids)
    };
    let (mut finds, mut or, mut also, mut accepted) = (Vec::new(), Vec::new(), Vec::new(), false);
    let mut diff = text;
    while let Some(rest) = diff.strip_prefix('#') {
        let (line, rest) = rest.split_once('\n').unwrap_or((rest, ""));
        diff = rest;
        // Any other line is for people.
        let line = line.trim();
        if let Some(list) = line.strip_prefix("finds:") {
            finds.push(ids(list)?);
        } else if let Some(list) = line.strip_prefix("or:") {
            or.push(ids(list)?);
        } else if let Some(list) = line.strip_prefix("also:") {
            also.extend(ids(list)?);
        } else if line == "accepted" {
            accepted = true;
        }
    }
    let wanted = match (finds.len(), accepted) {
        (1, false) => {
            finds.extend(or);
            Wanted::Refused { finds, also }
        }
        (0, true) if or.is_empty() && also.is_empty() => Wanted::Accepted,
        _ => {
            return Err(format!(
                "must begin with one line `# finds: {own}…` or `# accepted`"
            ));
        }
    };
    Ok((wanted, diff))
}

impl Tally {
    /// Whether there was no patch at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let refused = match self.refused {
            1 => "1 wrong solution refused".to_owned(),
            number => format!("{number} wrong solutions refused"),
        };
        match self.accepted {
            0 => write!(f, "{refused}"),
            1 => write!(f, "{refused}, 1 other right one accepted"),
            number => write!(f, "{refused}, {number} other right ones accepted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::verdict;

    const DIFF: &str = "--- a/src/main.rs\n+++ b/src/main.rs\n@@ -1 +1 @@\n-a\n+b\n";

    fn read(name: &str, text: &str) -> Result<Break, String> {
        let solution = [("src/main.rs".to_owned(), "a\n".to_owned())].into();
        Break::read(5, Path::new(name), name.to_owned(), text, &solution)
    }

    fn wrong(head: &str) -> Break {
        read("x.patch", &format!("{head}\n{DIFF}")).unwrap()
    }

    /// What a check says that finds `ids`, or nothing.
    fn said(ids: &[&str]) -> Said {
        if ids.is_empty() {
            return verdict::read("test result: ok. 2 passed; 0 failed; 0 ignored\n", Some(0));
        }
        let findings: Vec<_> = ids.iter().map(|id| format!("✗ it  [{id}]\n")).collect();
        let findings = findings.concat();
        let result = "test result: FAILED. 1 passed; 1 failed; 0 ignored";
        verdict::read(
            &format!("---- fast ----\n{findings}\n{result}\n"),
            Some(101),
        )
    }

    #[test]
    fn the_head_says_what_must_be_found() {
        let text = format!(
            "# The parent's context.\n# finds: W05-A W05-B\n# or: W05-C\n# also: W05-D\n{DIFF}"
        );
        let it = read("x-1.patch", &text).unwrap();
        assert_eq!(it.name, "x-1");
        assert_eq!(it.files["src/main.rs"], "b\n");
        let ids = |list: &[&str]| list.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            it.wanted,
            Wanted::Refused {
                finds: vec![ids(&["W05-A", "W05-B"]), ids(&["W05-C"])],
                also: ids(&["W05-D"]),
            }
        );
        let it = read("x.patch", &format!("# accepted\n{DIFF}")).unwrap();
        assert_eq!(it.wanted, Wanted::Accepted);
    }

    #[test]
    fn a_head_that_says_nothing_is_refused() {
        for head in [
            "",
            "# remark\n",
            "# finds W05-A\n",
            "# or: W05-A\n",
            "# also: W05-A\n",
            "# accepted\n# finds: W05-A\n",
            "# accepted\n# also: W05-A\n",
            "# finds: W05-A\n# finds: W05-B\n",
        ] {
            let error = read("x.patch", &format!("{head}{DIFF}")).unwrap_err();
            assert_eq!(
                error, "x.patch must begin with one line `# finds: W05-…` or `# accepted`",
                "{head}"
            );
        }
        for (head, list) in [("# finds: W06-A", "W06-A"), ("# finds:", "")] {
            let error = read("x.patch", &format!("{head}\n{DIFF}")).unwrap_err();
            let expected = format!("x.patch names `{list}`: it must be ids like W05-STATUS");
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn a_patch_must_change_the_package() {
        let error = read("x.patch", "# accepted\n").unwrap_err();
        assert_eq!(error, "x.patch changes nothing");
        let error = read("X.patch", &format!("# accepted\n{DIFF}")).unwrap_err();
        assert!(error.contains("lower case"), "{error}");
        let elsewhere = "# accepted\n--- a/src/no.rs\n+++ b/src/no.rs\n@@ -1 +1 @@\n-a\n+b\n";
        let error = read("x.patch", elsewhere).unwrap_err();
        assert_eq!(
            error,
            "x.patch does not apply: src/no.rs is not there; it is applied to the solution"
        );
        let outside = "# accepted\n--- /dev/null\n+++ b/build.rs\n@@ -0,0 +1 @@\n+x\n";
        let error = read("x.patch", outside).unwrap_err();
        assert!(
            error.starts_with("x.patch is about build.rs: a starter is"),
            "{error}"
        );
    }

    #[test]
    fn what_was_found_is_held_against_what_must_be() {
        let it = wrong("# finds: W05-A W05-B\n# or: W05-C\n# also: W05-D");
        for ids in [
            &["W05-A", "W05-B"][..],
            &["W05-B", "W05-D", "W05-A"],
            &["W05-C"],
            &["W05-C", "W05-A"],
        ] {
            assert_eq!(it.judge(5, &said(ids)), Ok(()), "{ids:?}");
        }
        let text = |ids: &[&str]| it.judge(5, &said(ids)).unwrap_err().text;
        assert_eq!(text(&[]), "x.patch: the check passes already");
        assert_eq!(
            text(&["W05-A", "W05-D"]),
            "x.patch is refused with W05-A, W05-D, not with W05-A and W05-B or W05-C"
        );
        assert_eq!(
            text(&["W05-C", "W05-E"]),
            "x.patch is refused with W05-A and W05-B or W05-C, but with W05-E, too: if that is \
             right, its head says `# also:`"
        );
        assert!(text(&["W04-A"]).contains("not of step 05"));
        assert!(it.judge(5, &said(&["W05-LAB"])).unwrap_err().surroundings);
    }

    #[test]
    fn another_right_one_must_pass() {
        let it = wrong("# accepted");
        assert_eq!(it.judge(5, &said(&[])), Ok(()));
        let problem = it.judge(5, &said(&["W05-A"])).unwrap_err();
        assert_eq!(problem.text, "x.patch: the check fails: fast");
    }

    #[test]
    fn they_are_counted() {
        let text = |refused, accepted| Tally { refused, accepted }.to_string();
        assert_eq!(
            text(4, 1),
            "4 wrong solutions refused, 1 other right one accepted"
        );
        assert_eq!(text(1, 0), "1 wrong solution refused");
        assert_eq!(
            text(2, 2),
            "2 wrong solutions refused, 2 other right ones accepted"
        );
    }
}
