//! Waits for the files of a step to change.
//!
//! By looking at them: they are few and small, and that works everywhere. Network shares
//! and Windows' drives in WSL2 take a watch and never report.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use lab::passed;
use tokio::time::{Instant, sleep};

/// How long nothing may change until a change counts as done: an editor that saves several
/// files, or formats what it has saved, writes more than once.
const QUIET: Duration = Duration::from_millis(150);

/// A change counts as done after this in any case.
const LONGEST: Duration = Duration::from_secs(2);

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What the files hold; `None` while they can't be read, as between the two halves of a
/// rename.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look(Option<String>);

/// Tells when the files of a package change.
///
/// What counts is what the files hold. Neither an editor's temporary files nor a save
/// without a change is one.
pub struct Watch {
    package: PathBuf,
}

impl Watch {
    /// Watches the package in this folder.
    pub fn new(package: &Path) -> Self {
        Self {
            package: package.to_owned(),
        }
    }

    /// The files as they are.
    pub fn look(&self) -> Look {
        Look(passed::digest(&self.package).ok())
    }

    /// Waits until the files hold something else than `before`, and have come to rest.
    pub async fn changed(&self, before: &Look) {
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
                if self.look() != *before {
                    return;
                }
            }
            sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::time::timeout;

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
    fn told(name: &str, change: impl FnOnce(&Package)) {
        let package = Package::new(name);
        let watch = Watch::new(&package.0);
        let before = watch.look();
        let changed = block_on(async {
            let nothing = timeout(QUIET, watch.changed(&before)).await;
            assert!(nothing.is_err(), "nothing was changed");
            // In this order: the first look is taken before the change is made.
            let changed = timeout(DEADLINE, watch.changed(&before));
            tokio::join!(changed, async { change(&package) }).0
        });
        assert!(changed.is_ok(), "the change was not told");
        assert_ne!(watch.look(), before);
    }

    #[test]
    fn a_save_is_told() {
        told("save", |package| package.write("src/main.rs", "two"));
    }

    /// Saves that follow each other quickly are one change: the last of them.
    #[test]
    fn several_saves_are_one_change() {
        let package = Package::new("several");
        for round in 0..20 {
            let watch = Watch::new(&package.0);
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
        told("rename", |package| {
            package.write_by_rename("src/main.rs", "two");
        });
    }

    #[test]
    fn a_file_in_a_new_folder_is_told() {
        told("folder", |package| {
            package.write("src/deep/er.rs", "two");
        });
    }

    #[test]
    fn a_change_that_came_before_the_wait_is_told() {
        let package = Package::new("before");
        let watch = Watch::new(&package.0);
        let before = watch.look();
        package.write("Cargo.toml", "[package]\n");
        block_on(async { timeout(DEADLINE, watch.changed(&before)).await }).unwrap();
    }

    /// Nothing that leaves the files as they were.
    #[test]
    fn what_is_no_change_is_not_told() {
        let package = Package::new("same");
        let watch = Watch::new(&package.0);
        let before = watch.look();
        let quiet = block_on(async {
            package.write("src/.main.rs.swp", "an editor's");
            package.write("src/main.rs", "one");
            package.write("hints.md", "not mine");
            timeout(QUIET * 4, watch.changed(&before)).await
        });
        assert!(quiet.is_err());
    }

    #[test]
    fn a_folder_that_is_not_there_stays_as_it_is() {
        let watch = Watch::new(Path::new("/nowhere/at/all"));
        assert_eq!(watch.look(), watch.look());
    }
}
