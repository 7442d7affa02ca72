//! Who something in a shared place belongs to, and whether it still lives.

use std::{
    collections::hash_map::DefaultHasher,
    fmt,
    hash::{Hash, Hasher},
    process::Command,
};

/// A process: where it runs, its id, and when it was started, since ids come again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    place: String,
    pid: u32,
    started: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.place, self.pid, self.started)
    }
}

impl Owner {
    /// This process.
    pub(crate) fn this() -> Self {
        let pid = std::process::id();
        Self {
            place: place(),
            pid,
            // Where the system doesn't tell, nothing of this process is ever swept.
            started: match life(pid) {
                Life::Since(started) => started,
                Life::Ended | Life::Unknown => "unknown".to_owned(),
            },
        }
    }

    /// The owner at the start of `text`, as [`fmt::Display`] writes it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (place, pid, started) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            place: place.to_owned(),
            pid: pid.parse().ok()?,
            started: started.to_owned(),
        })
    }

    /// Whether it has ended. Of a process elsewhere, in another container say, that is
    /// not known, and the answer is no.
    pub(crate) fn has_ended(&self) -> bool {
        self.place == place()
            && self.started != "unknown"
            && match life(self.pid) {
                Life::Ended => true,
                Life::Since(started) => started != self.started,
                Life::Unknown => false,
            }
    }
}

/// The host and, on Linux, the namespace in which process ids count.
fn place() -> String {
    let host = rustix::system::uname();
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    short_hash(&(host.nodename().to_bytes(), namespace))
}

/// What the system tells of a process.
enum Life {
    /// There is none, or it waits for nothing but to be reaped.
    Ended,
    /// When it was started, as text that is equal for the same process only.
    Since(String),
    /// Nothing: that of another user may be hidden, or nothing can be read this moment.
    Unknown,
}

fn life(pid: u32) -> Life {
    let is_gone = || {
        let pid = i32::try_from(pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        // Whose process it is doesn't matter: EPERM says that there is one.
        pid.is_none_or(|pid| {
            rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH)
        })
    };
    match started(pid) {
        Some(life) => life,
        None if is_gone() => Life::Ended,
        None => Life::Unknown,
    }
}

/// `None` if nothing can be read.
fn started(pid: u32) -> Option<Life> {
    if cfg!(target_os = "linux") {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program's name, in parentheses, may hold anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace();
        if fields.next()? == "Z" {
            return Some(Life::Ended);
        }
        // Field 22 of proc(5): in ticks since the machine was started.
        return Some(Life::Since(fields.nth(18)?.to_owned()));
    }
    let output = Command::new("ps")
        .args(["-o", "lstart=", "-p", &pid.to_string()])
        .env("LC_ALL", "C")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| Life::Since(short_hash(&text)))
}

/// 16 hexadecimal digits.
pub(crate) fn short_hash(value: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_is_read_back() {
        let this = Owner::this();
        assert!(!this.has_ended());
        let text = format!("{this}-7");
        assert_eq!(Owner::parse(&text), Some(this));
        for text in ["", "a", "a-b-c", "lab"] {
            assert_eq!(Owner::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_process_that_has_ended_is_told_from_one_that_has_its_id() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("is there");
        let Life::Since(started) = life(child.id()) else {
            panic!("it runs");
        };
        let owner = Owner {
            pid: child.id(),
            started,
            ..Owner::this()
        };
        assert!(!owner.has_ended());
        let earlier = Owner {
            started: "0".to_owned(),
            ..owner.clone()
        };
        assert!(earlier.has_ended());
        let elsewhere = Owner {
            place: "elsewhere".to_owned(),
            ..earlier
        };
        assert!(!elsewhere.has_ended());

        child.kill().expect("it runs");
        child.wait().expect("it is ours");
        assert!(owner.has_ended());
    }
}
