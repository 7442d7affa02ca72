//! Where a finding sends the reader: file and TODO, the next command, the hint, the book.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use crate::{
    causes::{self, About, Causes, Kind, Place},
    contract::{StepContract, TIER1},
    diagnosis::Diagnosis,
    todo::{self, first_todo},
};

/// Where a check stands and what it checks. Made by [`check!`](crate::check!).
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Home {
    pub manifest_dir: Cow<'static, str>,
    pub file: Cow<'static, str>,
    pub package: Cow<'static, str>,
    pub binary: Cow<'static, str>,
}

/// What a check knows about its step.
#[derive(Clone, Debug)]
pub(crate) struct Guide {
    pub(crate) step: Cow<'static, str>,
    pub(crate) home: Home,
    /// The chapter's file, without its ending.
    pub(crate) chapter: Option<&'static str>,
    pub(crate) causes: Causes,
    /// Whether the program under test is this package's, not one that TIER1_CMD names.
    pub(crate) own_program: bool,
    /// The `service.name` of the program under test.
    pub(crate) subject: &'static str,
}

impl Guide {
    pub(crate) fn new(step: impl Into<Cow<'static, str>>, home: Home) -> Self {
        Self {
            step: step.into(),
            home,
            chapter: None,
            causes: Causes::default(),
            own_program: true,
            subject: TIER1,
        }
    }

    /// The step as a number.
    pub(crate) fn number(&self) -> u8 {
        self.step.parse().unwrap_or(u8::MAX)
    }

    /// What is asked of the program under test.
    pub(crate) fn contract(&self) -> StepContract {
        StepContract::new(self.number()).of(self.subject)
    }

    /// A finding, with what is known about its cause.
    pub(crate) fn tell(
        &self,
        about: &About<'_>,
        sentence: impl Into<String>,
        detail: impl Into<String>,
    ) -> Diagnosis {
        let (cause, place) = self.causes.of(about);
        // Where it is mended in this workbook's code, and how Rust says it, is of no use there.
        let cause = if self.own_program {
            cause
        } else {
            causes::in_any_language(about)
        };
        let id = self.id(about.kind.name());
        Diagnosis {
            sentence: sentence.into(),
            detail: detail.into(),
            cause: cause.map(str::to_owned),
            next: match about.kind {
                Kind::Nothing => self.next_of_all(place),
                _ => self.next(self.causes.before(about), place),
            },
            hint: self.hint(),
            book: self.book(Some(&id)),
            id,
            more: Vec::new(),
        }
    }

    /// A finding that the check itself names.
    pub(crate) fn named(&self, kind: &str, sentence: impl Into<String>) -> Diagnosis {
        let (cause, place) = self.causes.of_named(kind);
        let cause = cause.filter(|_| self.own_program);
        let id = self.id(kind);
        Diagnosis {
            sentence: sentence.into(),
            cause: cause.map(str::to_owned),
            next: if self.causes.is_of_all(kind) && self.first_left().is_some() {
                self.next_of_all(place)
            } else {
                self.next(None, place)
            },
            hint: self.hint(),
            book: self.book(Some(&id)),
            id,
            ..Diagnosis::default()
        }
    }

    fn id(&self, kind: &str) -> String {
        format!("W{}-{kind}", self.step)
    }

    /// Where to look, if that is known, and what to type then.
    pub(crate) fn next(&self, before: Option<Place>, place: Option<Place>) -> Option<String> {
        let command = format!("`cargo test -p {}`", self.home.package);
        if !self.own_program {
            return Some(format!("mend it, then {command}"));
        }
        let place = place?;
        let places: Vec<_> = before.into_iter().chain([place]).collect();
        let mut steps: Vec<_> = places.iter().map(|place| self.told(*place)).collect();
        // Of two in one file the second needs no path; of a solution both are the same.
        if let [first, second] = places[..]
            && (first.folder, first.file) == (second.folder, second.file)
        {
            let todo = self.told_todo(second);
            match todo.trim_start_matches([',', ' ']) {
                "" => steps.truncate(1),
                todo => steps[1] = todo.to_owned(),
            }
        }
        // What a finding is about was done, and something else wasn't: either may be the
        // cause.
        let gone = |place: &Place| self.is_left(*place) == Some(false);
        if places.iter().all(gone)
            && let Some(left) = self.first_left()
            && let Some(last) = steps.last_mut()
        {
            last.push_str(&format!(" (or {left}, which is still there)"));
        }
        steps.push(command);
        Some(steps.join(", then "))
    }

    /// Whether the TODO is still in the reader's file. `None` if there is none to look for.
    fn is_left(&self, place: Place) -> Option<bool> {
        let file = Path::new(&*self.home.manifest_dir)
            .join(place.folder)
            .join(place.file);
        todo::is_left(&file, place.todo?).filter(|_| !self.is_solution())
    }

    /// The first TODO that is still in the reader's files.
    fn first_left(&self) -> Option<String> {
        let package = Path::new(&*self.home.manifest_dir);
        let todo = first_todo(&package.join("src"))?;
        let file = todo.file.strip_prefix(package).unwrap_or(&todo.file);
        let file = self.package_dir().join(file);
        Some(format!("{} TODO {}", file.display(), todo.number))
    }

    fn is_solution(&self) -> bool {
        self.package_dir().starts_with("solutions")
    }

    /// The same where each TODO is needed, and nothing says which of them is missing: the
    /// first that is still there. Without one, all places that the cause names may be meant.
    fn next_of_all(&self, place: Option<Place>) -> Option<String> {
        let source = Path::new(&*self.home.manifest_dir).join("src");
        if !self.own_program || self.is_solution() || !source.is_dir() {
            return self.next(None, place);
        }
        let command = format!("`cargo test -p {}`", self.home.package);
        place?;
        Some(match self.first_left() {
            Some(left) => format!("{left}, then {command}"),
            None => format!("the places that the cause names, then {command}"),
        })
    }

    /// A place with its path.
    fn told(&self, place: Place) -> String {
        let Place { folder, file, .. } = place;
        let file = self.package_dir().join(folder).join(file);
        format!("{}{}", file.display(), self.told_todo(place))
    }

    /// The TODO of a place, as it follows the path. A solution has none left.
    fn told_todo(&self, place: Place) -> String {
        let todo = place.todo.filter(|_| !self.is_solution());
        match (todo, self.is_left(place)) {
            (None, _) => String::new(),
            (Some(todo), Some(false)) => format!(", where TODO {todo} was"),
            (Some(todo), _) => format!(" TODO {todo}"),
        }
    }

    fn hint(&self) -> Option<String> {
        self.chapter
            .filter(|_| self.own_program)
            .map(|_| format!("`cargo workbook hint {}`", self.step))
    }

    fn book(&self, id: Option<&str>) -> Option<String> {
        let anchor = id.map(|id| format!("#{}", id.to_lowercase()));
        self.chapter
            .map(|chapter| format!("book/src/{chapter}.md{}", anchor.unwrap_or_default()))
    }

    /// `steps/step-05` or `solutions/step-05`.
    fn package_dir(&self) -> PathBuf {
        let manifest_dir = Path::new(&*self.home.manifest_dir);
        let parts: Vec<_> = manifest_dir.components().rev().take(2).collect();
        parts.into_iter().rev().collect()
    }

    /// The workspace, two levels above the package.
    pub(crate) fn workspace(&self) -> PathBuf {
        let manifest_dir = Path::new(&*self.home.manifest_dir);
        manifest_dir
            .ancestors()
            .nth(2)
            .unwrap_or(manifest_dir)
            .to_owned()
    }

    pub(crate) fn snapshot_path(&self, name: &str) -> PathBuf {
        // `file!()` is relative to the workspace. For a solution it leads to the
        // starter's check: both have the same snapshots.
        self.workspace()
            .join(&*self.home.file)
            .with_file_name("snapshots")
            .join(format!("check__{name}.snap"))
    }

    /// `path` from the workspace on.
    pub(crate) fn relative(&self, path: &Path) -> String {
        match (self.workspace().canonicalize(), path.canonicalize()) {
            (Ok(workspace), Ok(path)) => path
                .strip_prefix(workspace)
                .unwrap_or(&path)
                .display()
                .to_string(),
            _ => path.display().to_string(),
        }
    }
}
