//! Waits for the files of a step to change.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use lab::passed;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::AccessKind};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

/// How long nothing may change until a change counts as done: an editor that saves several
/// files, or formats what it has saved, writes more than once.
const QUIET: Duration = Duration::from_millis(150);

/// A change counts as done after this in any case.
const LONGEST: Duration = Duration::from_secs(2);

/// How often files are looked at where the system doesn't tell of changes.
const POLL: Duration = Duration::from_millis(250);

/// How often they are looked at where it does. Some file systems take a watch and never
/// report: network shares, or Windows' drives in WSL2.
const DOUBT: Duration = Duration::from_secs(1);

/// What the files hold; `None` while they can't be read, as between the two halves of a
/// rename.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look(Option<String>);

/// Tells when the files of a package change.
///
/// An event is a reason to look and nothing more: what counts is what the files hold.
/// Neither an editor's temporary files nor a save without a change is one.
pub struct Watch {
    package: PathBuf,
    events: Arc<Notify>,
    /// `None` where files are polled.
    watcher: Option<RecommendedWatcher>,
    note: Option<String>,
}

impl Watch {
    /// Watches the package in this folder. With `poll`, without the system's events; if
    /// they can't be had, too.
    pub fn new(package: &Path, poll: bool) -> Self {
        let events = Arc::new(Notify::new());
        let (watcher, note) = if poll {
            (None, None)
        } else {
            match watcher(package, events.clone()) {
                Ok(watcher) => (Some(watcher), None),
                Err(error) => (None, Some(format!("no file events ({error})"))),
            }
        };
        Self {
            package: package.to_owned(),
            events,
            watcher,
            note,
        }
    }

    /// Why files are polled although nobody asked for it; once.
    pub fn note(&mut self) -> Option<String> {
        self.note.take()
    }

    /// The files as they are.
    pub fn look(&self) -> Look {
        Look(passed::digest(&self.package).ok())
    }

    /// Waits until the files hold something else than `before`, and have come to rest.
    pub async fn changed(&mut self, before: &Look) {
        let mut told = true;
        loop {
            let mut now = self.look();
            if now != *before {
                let since = Instant::now();
                loop {
                    sleep(QUIET).await;
                    let again = self.look();
                    if again == now || since.elapsed() > LONGEST {
                        break;
                    }
                    now = again;
                }
                if !told {
                    self.doubt().await;
                }
                if self.look() != *before {
                    return;
                }
            }
            told = self.woken().await;
        }
    }

    /// Waits for an event, or until it is time to look without; which it was.
    async fn woken(&self) -> bool {
        let patience = if self.watcher.is_some() { DOUBT } else { POLL };
        timeout(patience, self.events.notified()).await.is_ok()
    }

    /// A change was seen that no event had told of. If there is none even now, there are none.
    async fn doubt(&mut self) {
        let came = timeout(Duration::ZERO, self.events.notified()).await;
        if came.is_err() && self.watcher.take().is_some() {
            self.note = Some("this file system tells of no changes".to_owned());
        }
    }
}

fn watcher(package: &Path, events: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // To look at a file is an event, too, and would be the reason for the next look.
        let is_look = |kind: EventKind| matches!(kind, EventKind::Access(access) if !matches!(access, AccessKind::Close(_)));
        // An error may stand for changes that were lost.
        if event.map_or(true, |event| !is_look(event.kind)) {
            events.notify_one();
        }
    })?;
    watcher.watch(package, RecursiveMode::Recursive)?;
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// For what should take a moment, on a machine that does much else.
    const DEADLINE: Duration = Duration::from_secs(30);

    struct Package(PathBuf);

    impl Package {
        fn new(name: &str) -> Self {
            let name = format!("workbook-watch-{name}-{}", std::process::id());
            let package = Self(std::env::temp_dir().join(name));
            package.write("Cargo.toml", "[package]");
            package.write("src/main.rs", "one");
            package
        }

        fn write(&self, file: &str, text: &str) {
            let file = self.0.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }

        /// As many editors save: the new text in a file of its own, then its name.
        fn write_by_rename(&self, file: &str, text: &str) {
            self.write(".new", text);
            fs::rename(self.0.join(".new"), self.0.join(file)).unwrap();
        }
    }

    impl Drop for Package {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    /// Makes a change while a watch waits; panics if it isn't told of.
    fn told(name: &str, poll: bool, change: impl FnOnce(&Package)) {
        let package = Package::new(name);
        let mut watch = Watch::new(&package.0, poll);
        assert_eq!(watch.watcher.is_none(), poll, "{:?}", watch.note());
        let before = watch.look();
        block_on(async {
            let nothing = timeout(QUIET, watch.changed(&before)).await;
            assert!(nothing.is_err(), "nothing was changed");
        });
        changes(&mut watch, &before, || change(&package));
        assert_eq!(watch.note(), None);
        assert_ne!(watch.look(), before);
    }

    /// Waits for what `change` does once the files were looked at.
    fn changes(watch: &mut Watch, before: &Look, change: impl FnOnce()) {
        let changed = block_on(async {
            // In this order: the first look is taken before the change is made.
            let changed = timeout(DEADLINE, watch.changed(before));
            tokio::join!(changed, async { change() }).0
        });
        assert!(changed.is_ok(), "the change was not told");
    }

    #[test]
    fn a_save_is_told() {
        for (name, poll) in [("event", false), ("poll", true)] {
            told(name, poll, |package| package.write("src/main.rs", "two"));
        }
    }

    /// Saves that follow each other quickly are one change: the last of them.
    #[test]
    fn several_saves_are_one_change() {
        let package = Package::new("several");
        for round in 0..20 {
            let mut watch = Watch::new(&package.0, false);
            let before = watch.look();
            let (seen, slowest) = block_on(async {
                let saves = async {
                    let mut slowest = Duration::ZERO;
                    for save in 0..5 {
                        let since = Instant::now();
                        package.write("src/main.rs", &format!("{round} {save}"));
                        sleep(QUIET / 3).await;
                        slowest = slowest.max(since.elapsed());
                    }
                    slowest
                };
                let changed = async {
                    timeout(DEADLINE, watch.changed(&before)).await.unwrap();
                    watch.look()
                };
                tokio::join!(changed, saves)
            });
            // On a machine that does much else they may not follow each other quickly.
            if slowest < QUIET * 2 / 3 {
                assert_eq!(seen, watch.look());
                return;
            }
        }
        panic!("it was never quick enough to tell");
    }

    #[test]
    fn a_save_by_rename_is_told() {
        for (name, poll) in [("rename", false), ("rename-poll", true)] {
            told(name, poll, |package| {
                package.write_by_rename("src/main.rs", "two");
            });
        }
    }

    #[test]
    fn a_file_in_a_new_folder_is_told() {
        told("folder", false, |package| {
            package.write("src/deep/er.rs", "two");
        });
    }

    #[test]
    fn a_change_that_came_before_the_wait_is_told() {
        let package = Package::new("before");
        let mut watch = Watch::new(&package.0, true);
        let before = watch.look();
        package.write("Cargo.toml", "[package]\n");
        block_on(async { timeout(DEADLINE, watch.changed(&before)).await }).unwrap();
    }

    /// Nothing that leaves the files as they were, and no look at them.
    #[test]
    fn what_is_no_change_is_not_told() {
        let package = Package::new("same");
        let mut watch = Watch::new(&package.0, false);
        let before = watch.look();
        let quiet = block_on(async {
            package.write("src/.main.rs.swp", "an editor's");
            package.write("src/main.rs", "one");
            package.write("hints.md", "not mine");
            let _ = watch.look();
            timeout(QUIET * 4, watch.changed(&before)).await
        });
        assert!(quiet.is_err());
        assert_eq!(watch.note(), None);
    }

    #[test]
    fn a_look_is_no_event() {
        let package = Package::new("look");
        let watch = Watch::new(&package.0, false);
        block_on(async {
            // What making the files still has to say.
            while timeout(QUIET, watch.events.notified()).await.is_ok() {}
            let _ = watch.look();
            let told = timeout(QUIET, watch.events.notified()).await;
            assert!(told.is_err(), "each look would cause the next");
        });
    }

    /// As on a network share: there is a watch, and it says nothing.
    #[test]
    fn where_no_events_come_files_are_polled() {
        let package = Package::new("silent");
        let elsewhere = Package::new("elsewhere");
        let mut watch = Watch::new(&package.0, false);
        watch.events = Arc::new(Notify::new());
        watch.watcher = Some(watcher(&elsewhere.0, watch.events.clone()).unwrap());
        let before = watch.look();
        changes(&mut watch, &before, || package.write("src/main.rs", "two"));
        let note = watch.note();
        assert_eq!(
            note.as_deref(),
            Some("this file system tells of no changes")
        );
        assert!(watch.watcher.is_none());
    }

    #[test]
    fn a_folder_that_is_not_there_is_polled() {
        let mut watch = Watch::new(Path::new("/nowhere/at/all"), false);
        assert!(watch.note().unwrap().starts_with("no file events ("));
        assert_eq!(watch.note(), None);
        let before = watch.look();
        assert_eq!(before, watch.look());
    }
}
