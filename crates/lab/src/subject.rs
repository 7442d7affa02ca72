//! The process under test: started, asked, told to stop, and what it wrote.

use std::{
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, kill_process};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command},
    sync::watch,
};

use crate::{
    environment,
    error::{LabError, last_lines, last_panic},
};

/// How long what a panic writes on stderr may be under way.
const PANIC_TOLD: Duration = Duration::from_millis(500);

/// How long a subject may take from its start until it answers.
pub(crate) const READY_DEADLINE: Duration = Duration::from_secs(20);

/// How much of an output stream is kept, in bytes; what comes later is drained and counted.
const OUTPUT_LIMIT: usize = 16 * 1024 * 1024;

/// What tier1 and consumer print on stderr once they answer.
const LISTENING: &str = "listening on http://";

/// What a consumer says on stderr once messages come to it.
const CONSUMING: &str = "consuming ";

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Program {
    argv: Vec<OsString>,
    ready: Ready,
    stop: StopSignal,
    own_group: bool,
    stdout: Stdout,
    trusts_nobody: bool,
}

/// The certificate of an authority whose key nobody has.
const NOBODY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/nobody.pem");

/// Who reads what a program writes on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stdout {
    /// The lab does, and keeps it.
    #[default]
    Read,
    /// Nobody, and nobody says so: a pipe that runs full.
    Unread,
    /// Nobody: the pipe's other end is closed.
    Closed,
}

/// How the lab knows that a program answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ready {
    /// It says `listening on http://…` on stderr, PORT is 0.
    Says,
    /// The port that the lab chose takes connections.
    TcpAnswers,
    /// It says `consuming …` on stderr, and has no address.
    Consumes,
}

/// The signal that asks a program to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM: what orchestrators and `docker stop` send.
    Term,
    /// SIGINT: ctrl-c.
    Int,
}

impl StopSignal {
    fn number(self) -> rustix::process::Signal {
        match self {
            Self::Term => rustix::process::Signal::TERM,
            Self::Int => rustix::process::Signal::INT,
        }
    }
}

impl Program {
    /// A tier1 of this workbook.
    pub fn tier1(binary: impl Into<OsString>) -> Self {
        Self {
            argv: vec![binary.into()],
            ready: Ready::Says,
            stop: StopSignal::Term,
            own_group: false,
            stdout: Stdout::Read,
            trusts_nobody: false,
        }
    }

    /// The same, but a consumer of this workbook: it is ready when it says that it
    /// consumes, and answers no requests.
    #[must_use]
    pub fn consuming(mut self) -> Self {
        self.ready = Ready::Consumes;
        self
    }

    /// The same in a process group of its own: ctrl-c on the terminal doesn't reach it.
    #[must_use]
    pub fn in_own_group(mut self) -> Self {
        self.own_group = true;
        self
    }

    /// The same with another reader of its stdout, or none.
    #[must_use]
    pub fn with_stdout(mut self, stdout: Stdout) -> Self {
        self.stdout = stdout;
        self
    }

    /// The same without the system's certificates, for a program that speaks to the lab
    /// alone. Each HTTP client reads them all, which is a tenth of what a check costs. And
    /// there may be none: then no client is made.
    #[must_use]
    pub fn trusting_nobody(mut self) -> Self {
        self.trusts_nobody = true;
        self
    }

    /// The tier1 of a step: `binary`, or another build of the same step that
    /// WORKBOOK_TIER1 names, such as one that was spoilt on purpose.
    ///
    /// # Errors
    /// If WORKBOOK_TIER1 can't be understood.
    pub fn of_step(binary: impl Into<OsString>) -> Result<Self, LabError> {
        let other = variable("WORKBOOK_TIER1")?;
        Ok(Self::tier1(
            other.map_or_else(|| binary.into(), OsString::from),
        ))
    }

    /// The program that TIER1_CMD names, if it is set: any tier1, in any language.
    /// TIER1_STOP says how it is asked to end, `TERM` (the default) or `INT`.
    ///
    /// # Errors
    /// If one of the two can't be understood.
    pub fn from_env() -> Result<Option<Self>, LabError> {
        let Some(command) = variable("TIER1_CMD")? else {
            return Ok(None);
        };
        let bad = || LabError::Variable {
            name: "TIER1_CMD",
            must_be: "a command with its arguments, quoted as for a shell",
        };
        let argv: Vec<OsString> = shell_words::split(&command)
            .map_err(|_| bad())?
            .into_iter()
            .map(OsString::from)
            .collect();
        if argv.is_empty() {
            return Err(bad());
        }
        let stop = match variable("TIER1_STOP")?.as_deref() {
            None | Some("TERM") => StopSignal::Term,
            Some("INT") => StopSignal::Int,
            Some(_) => {
                return Err(LabError::Variable {
                    name: "TIER1_STOP",
                    must_be: "TERM or INT",
                });
            }
        };
        Ok(Some(Self {
            argv,
            ready: Ready::TcpAnswers,
            stop,
            own_group: false,
            stdout: Stdout::Read,
            trusts_nobody: false,
        }))
    }

    /// The command line, for messages.
    pub fn command_line(&self) -> String {
        shell_words::join(self.argv.iter().map(|word| word.to_string_lossy()))
    }

    /// The signal that [`crate::Lab::stop`] sends unless told otherwise.
    pub fn stop_signal(&self) -> StopSignal {
        self.stop
    }
}

/// A variable of the caller's; empty counts as unset.
pub(crate) fn variable(name: &'static str) -> Result<Option<String>, LabError> {
    match std::env::var(name) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(LabError::Variable {
            name,
            must_be: "valid UTF-8",
        }),
    }
}

/// How a subject ended.
#[derive(Clone, Debug)]
pub struct Exit {
    /// Its exit code, or the signal that ended it.
    pub status: ExitStatus,
    /// From the signal that asked it to end (or from the start of waiting) to its end.
    pub elapsed: Duration,
    /// All it wrote on stdout.
    pub stdout: String,
    /// All it wrote on stderr.
    pub stderr: String,
}

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Subject {
    child: Child,
    pub(crate) address: SocketAddr,
    stdout: Output,
    stderr: Output,
    /// Held so that a pipe that nobody reads stays open.
    _unread: Option<ChildStdout>,
}

impl Subject {
    /// Starts `program` with nothing in its environment but `variables` and the
    /// path to programs, and waits until it answers. `echo` gets each line it writes.
    pub(crate) async fn start(
        program: &Program,
        variables: &[(String, String)],
        echo: Option<Echo>,
    ) -> Result<Self, LabError> {
        let (word, arguments) = program.argv.split_first().expect("a program has a name");
        let chosen = match program.ready {
            Ready::Says | Ready::Consumes => None,
            Ready::TcpAnswers => Some(choose_port().await?),
        };
        let port = chosen.map_or(0, |address| address.port());
        let mut command = Command::new(word);
        if program.own_group {
            command.process_group(0);
        }
        let mut child = command
            .args(arguments)
            .env_clear()
            .envs(environment::for_subject())
            .env("HOST", "127.0.0.1")
            .env("PORT", port.to_string())
            .envs(program.trusts_nobody.then_some(("SSL_CERT_FILE", NOBODY)))
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| LabError::Spawn {
                command: program.command_line(),
                error,
            })?;
        let pipe = child.stdout.take();
        let (read, unread) = match program.stdout {
            Stdout::Read => (pipe, None),
            Stdout::Unread => (None, pipe),
            Stdout::Closed => (None, None),
        };
        let stdout = Output::drain(read, echo.clone());
        let mut stderr = Output::drain(child.stderr.take(), echo);

        let started = Instant::now();
        let ready = async {
            match chosen {
                None if program.ready == Ready::Consumes => {
                    let nowhere = (Ipv4Addr::LOCALHOST, 0).into();
                    let consumes = |line: &str| line.starts_with(CONSUMING).then_some(nowhere);
                    stderr.said(consumes).await
                }
                None => stderr.said(listening).await,
                Some(address) => {
                    while TcpStream::connect(address).await.is_err() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    Some(address)
                }
            }
        };
        let address = tokio::select! {
            found = tokio::time::timeout(READY_DEADLINE, ready) => found.unwrap_or(None),
            _ = child.wait() => None,
        };
        let mut subject = Self {
            child,
            address: address.unwrap_or((Ipv4Addr::LOCALHOST, 0).into()),
            stdout,
            stderr,
            _unread: unread,
        };
        if address.is_some() {
            return Ok(subject);
        }
        // A program that has closed its output is about to end: how, is worth a moment.
        let ended = tokio::time::timeout(Duration::from_secs(2), subject.child.wait()).await;
        let status = ended.ok().transpose()?;
        let threads = subject.child.id().and_then(threads);
        let _ = subject.child.kill().await;
        subject.stderr.ended().await;
        subject.stdout.ended().await;
        Err(LabError::NotReady {
            command: program.command_line(),
            status,
            elapsed: started.elapsed(),
            stderr: subject.stderr.text(),
            hangs: status
                .is_none()
                .then(|| hangs(&subject.stdout.text(), threads)),
        })
    }

    /// Sends `signal` and waits for the end.
    pub(crate) async fn stop(
        mut self,
        signal: StopSignal,
        deadline: Duration,
    ) -> Result<Exit, LabError> {
        self.signal(signal)?;
        let began = Instant::now();
        let Ok(status) = tokio::time::timeout(deadline, self.child.wait()).await else {
            let _ = self.child.kill().await;
            self.stderr.ended().await;
            return Err(LabError::DidNotStop {
                deadline,
                stderr: self.stderr.text(),
            });
        };
        let elapsed = began.elapsed();
        self.stdout.ended().await;
        self.stderr.ended().await;
        Ok(Exit {
            status: status?,
            elapsed,
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
        })
    }

    /// Sends `signal` without waiting.
    pub(crate) fn signal(&self, signal: StopSignal) -> Result<(), LabError> {
        // Without an id it has ended already, and there is nobody to tell.
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id as i32)) {
            kill_process(pid, signal.number()).map_err(std::io::Error::from)?;
        }
        Ok(())
    }

    /// Ends it without asking: what a crash looks like to others.
    pub(crate) async fn kill(mut self) -> std::io::Result<()> {
        self.child.kill().await
    }

    /// Waits until `found` holds for the whole lines on stdout.
    pub(crate) async fn logged(
        &self,
        what: String,
        deadline: Duration,
        found: impl Fn(&str) -> bool,
    ) -> Result<(), LabError> {
        let mut stdout = self.stdout.clone();
        let logged = stdout.until(|text| found(text).then_some(()));
        let within = match tokio::time::timeout(deadline, logged).await {
            Ok(Some(())) => return Ok(()),
            Ok(None) => None,
            Err(_) => Some(deadline),
        };
        if let Some(told) = self.panicked().await {
            return Err(LabError::Panicked { what, told });
        }
        let said = format!("{}\n{}", self.stdout(), self.stderr());
        Err(LabError::NotLogged {
            what,
            within,
            said: last_lines(&said),
        })
    }

    /// What it says of its panic, if there was one. Of a panic stderr tells before anything
    /// else shows it, but comes another way: it is waited for a little.
    pub(crate) async fn panicked(&self) -> Option<String> {
        let began = Instant::now();
        loop {
            let told = last_panic(&self.stderr());
            if told.is_some() || began.elapsed() > PANIC_TOLD {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    pub(crate) fn has_exited(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }
}

/// How far a program got that hangs, by what it wrote on stdout and what its threads did.
fn hangs(stdout: &str, threads: Option<String>) -> String {
    let mut told = format!("on stdout: {}", last_lines(stdout));
    if let Some(threads) = threads {
        told.push_str(&format!("; its threads: {threads}"));
    }
    told
}

/// The threads of a process, each with what it waits for in the kernel: `futex_do_wait` is
/// a lock or another thread, `do_epoll_wait` a socket. Linux tells that, other systems don't.
fn threads(pid: u32) -> Option<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let told = tasks.flatten().map(|task| {
        let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        match (read("comm").trim(), read("wchan").trim()) {
            (name, "" | "0") => name.to_owned(),
            (name, waits) => format!("{name} in {waits}"),
        }
    });
    Some(told.collect::<Vec<_>>().join(", "))
}

/// A port for a program that can't say which it got. It is freed here and taken by the
/// program a moment later, so it must be none that the system hands out by itself in
/// between: those begin at 32768 on Linux and at 49152 on macOS.
async fn choose_port() -> std::io::Result<SocketAddr> {
    let mut attempts = 0;
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rand::random_range(20_000..32_000)));
        match TcpListener::bind(address).await {
            Ok(_) => return Ok(address),
            Err(error) if attempts == 100 => return Err(error),
            Err(_) => attempts += 1,
        }
    }
}

/// Is given each line that a subject writes, without its line end; the last one
/// even if it has none.
pub type Echo = Arc<dyn Fn(&str) + Send + Sync>;

/// One output stream, drained from the start, so that the program never blocks on it.
#[derive(Clone, Debug)]
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// How many bytes have come, and whether no more will.
    progress: watch::Receiver<(usize, bool)>,
}

impl Output {
    fn drain(stream: Option<impl AsyncRead + Send + Unpin + 'static>, echo: Option<Echo>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (sender, progress) = watch::channel((0, false));
        let kept = bytes.clone();
        tokio::spawn(async move {
            let mut total = 0;
            let mut line = Vec::new();
            if let Some(mut stream) = stream {
                let mut buffer = [0; 8192];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    total += length;
                    {
                        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                        let room = OUTPUT_LIMIT.saturating_sub(kept.len());
                        kept.extend_from_slice(&buffer[..length.min(room)]);
                    }
                    if let Some(echo) = &echo {
                        for &byte in &buffer[..length] {
                            if byte == b'\n' {
                                echo(&String::from_utf8_lossy(&line));
                                line.clear();
                            } else if line.len() < OUTPUT_LIMIT {
                                line.push(byte);
                            }
                        }
                    }
                    sender.send_replace((total, false));
                }
            }
            if let Some(echo) = echo.filter(|_| !line.is_empty()) {
                echo(&String::from_utf8_lossy(&line));
            }
            sender.send_replace((total, true));
        });
        Self { bytes, progress }
    }

    fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the stream has ended. A grandchild may hold it open beyond the
    /// program's own end, so not for long.
    async fn ended(&mut self) {
        let ended = self.progress.wait_for(|(_, ended)| *ended);
        let _ = tokio::time::timeout(Duration::from_secs(2), ended).await;
    }

    /// What `found` finds in a line, or `None` if the stream ends without.
    async fn said<T>(&mut self, found: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.until(|text| text.lines().find_map(&found)).await
    }

    /// What `found` finds in the whole lines, or `None` if the stream ends without.
    async fn until<T>(&mut self, found: impl Fn(&str) -> Option<T>) -> Option<T> {
        loop {
            let (_, ended) = *self.progress.borrow_and_update();
            let text = self.text();
            let whole_lines = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
            let said = found(whole_lines);
            if said.is_some() || ended {
                return said;
            }
            self.progress.changed().await.ok()?;
        }
    }
}

/// The address in a line that says it.
fn listening(line: &str) -> Option<SocketAddr> {
    line.split_once(LISTENING)?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_tells_how_far_it_got() {
        let told = hangs("one\ntwo\n", Some("a in futex_do_wait, b".to_owned()));
        assert_eq!(
            told,
            "on stdout: one / two; its threads: a in futex_do_wait, b"
        );
        assert_eq!(hangs("", None), "on stdout: nothing");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_are_told_by_name() {
        let (began, runs) = std::sync::mpsc::channel();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("that waits".to_owned());
        let thread = thread.spawn(move || {
            // A thread gives itself its name, once it runs.
            let _ = began.send(());
            wait.recv()
        });
        let thread = thread.expect("it starts");
        runs.recv().expect("it runs");
        let told = threads(std::process::id()).expect("they are listed");
        assert!(told.contains("that waits"), "{told}");
        drop(done);
        let _ = thread.join();
        assert_eq!(threads(u32::MAX), None);
    }
}
