//! The steps and solutions there are.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::{Error, course, starter::Workspace};

/// The step in which the consumer is the program, not tier1.
pub const CONSUMER: u8 = 13;

/// A step as a reader names it: `3`, `03`, `step-03` or `solution-03`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    solution: bool,
    number: u8,
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (solution, digits) = match text.split_once('-') {
            Some(("step", digits)) => (false, digits),
            Some(("solution", digits)) => (true, digits),
            None => (false, text),
            Some(_) => (false, ""),
        };
        let number = digits
            .parse()
            .ok()
            .filter(|_| digits.len() <= 2 && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .ok_or("a step is named like 3, 03, step-03 or solution-03")?;
        Ok(Self { solution, number })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = if self.solution { "solution" } else { "step" };
        write!(f, "{folder}-{:02}", self.number)
    }
}

impl Step {
    /// The reader's code of the step of this number.
    pub fn numbered(number: u8) -> Self {
        Self {
            solution: false,
            number,
        }
    }

    /// The finished code of it.
    pub fn solution(&self) -> Self {
        Self {
            solution: true,
            ..*self
        }
    }

    /// Its number.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Whether the finished code is meant, not the reader's.
    pub fn is_solution(&self) -> bool {
        self.solution
    }

    /// The name of its package, if it exists.
    pub fn package(&self) -> Result<String, Error> {
        let package = self.to_string();
        let known = all()?;
        if known.contains(self) {
            return Ok(package);
        }
        let mut names: Vec<_> = known.iter().map(ToString::to_string).collect();
        names.sort();
        Err(Error::NoStep(package, names.join(", ")))
    }

    /// Whether its program is the consumer, not tier1.
    pub fn is_consumer(&self) -> bool {
        self.number == CONSUMER
    }

    /// Whether it is one of those that export something.
    pub fn has_telemetry(&self) -> bool {
        self.folder().join("src/telemetry.rs").exists()
    }

    /// The tier1 that runs with it: its own, or, of a step about the consumer, the last
    /// solution's.
    pub fn tier1(&self) -> Result<Self, Error> {
        if self.is_consumer() {
            Self::last_solution()
        } else {
            Ok(self.clone())
        }
    }

    /// Whether its tier1 has the route `path`, which not all of them have.
    pub fn has_route(&self, path: &str) -> bool {
        let routes = std::fs::read_to_string(self.folder().join("src/routes.rs"));
        routes.is_ok_and(|routes| routes.contains(&format!(".route(\"{path}\"")))
    }

    fn folder(&self) -> PathBuf {
        let folder = if self.solution { "solutions" } else { "steps" };
        workspace().join(format!("{folder}/step-{:02}", self.number))
    }

    /// The solution of the last step there is whose program is tier1.
    pub fn last_solution() -> Result<Self, Error> {
        all()?
            .into_iter()
            .filter(|step| step.solution && !step.is_consumer())
            .max_by_key(|step| step.number)
            .ok_or_else(|| Error::NoStep("solution".to_owned(), "none".to_owned()))
    }
}

/// The workspace, which this command is always run from.
pub fn workspace() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Number and title of each step whose program is tier1.
pub fn titles() -> Result<Vec<(u8, String)>, Error> {
    let workspace = Workspace::new(None);
    let steps = all()?.into_iter();
    let mut titles: Vec<(u8, String)> = steps
        .filter(|step| !step.solution && !step.is_consumer())
        .map(|step| (step.number, course::title_of(&workspace, step.number)))
        .collect();
    titles.sort();
    Ok(titles)
}

fn all() -> Result<Vec<Step>, Error> {
    let workspace = Workspace::new(None);
    let mut steps = Vec::new();
    for (folder, solution) in [("steps", false), ("solutions", true)] {
        let folder = workspace.root().join(folder);
        let failed = |error| workspace.failed("read", &folder, error);
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let parsed = name.to_str().and_then(|name| name.parse::<Step>().ok());
            steps.extend(parsed.map(|step| Step { solution, ..step }));
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_four_names() {
        for name in ["3", "03", "step-03", "step-3"] {
            assert_eq!(name.parse::<Step>().unwrap().to_string(), "step-03");
        }
        assert_eq!(
            "solution-03".parse::<Step>().unwrap().to_string(),
            "solution-03"
        );
        for name in [
            "", "x", "step", "step-", "003", "-3", "+3", "steps-03", "step-03x",
        ] {
            assert!(name.parse::<Step>().is_err(), "{name}");
        }
    }

    #[test]
    fn steps_have_titles_and_some_a_route_more() {
        let titles = titles().unwrap();
        assert_eq!(titles[4], (5, "Requests out".to_owned()));
        assert!(
            titles.iter().all(|(_, title)| !title.is_empty()),
            "{titles:?}"
        );
        assert!(titles.iter().all(|(number, _)| *number != CONSUMER));
        let has_panic = |name: &str| name.parse::<Step>().unwrap().has_route("/panic");
        // Of solutions: what stands in a step is the reader's.
        assert!(has_panic("solution-12") && !has_panic("solution-11"));
        let consumer: Step = "13".parse().unwrap();
        assert_eq!(consumer.tier1().unwrap(), Step::last_solution().unwrap());
    }

    #[test]
    fn the_last_solution_is_a_tier1() {
        assert!(!Step::last_solution().unwrap().is_consumer());
        assert!("13".parse::<Step>().unwrap().is_consumer());
    }

    #[test]
    fn the_steps_are_found() {
        assert!("step-01".parse::<Step>().unwrap().package().is_ok());
        assert!(Step::last_solution().unwrap().package().is_ok());
        let missing = "98"
            .parse::<Step>()
            .unwrap()
            .package()
            .unwrap_err()
            .to_string();
        assert!(
            missing.starts_with("there is no step-98; there are solution-01, "),
            "{missing}"
        );
    }
}
