//! The program under test: what this binary does when the lab starts it.

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::ExitCode,
    thread,
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};

/// The variable that makes this binary a subject.
pub const ROLE: &str = "SUBJECT";

/// The variable with an address that the subject connects to and keeps connected:
/// the other side sees it end, however it ends.
pub const LIFELINE: &str = "LIFELINE";

/// How much [`play`]'s `flood` writes on stdout.
pub const FLOOD: usize = 20 * 1024 * 1024;

/// Says that it listens where nobody does, and stays.
pub const STAYS: &str = "stays";
/// Writes its environment on stdout, then as [`STAYS`].
pub const TELLS_ENVIRONMENT: &str = "tells environment";
/// Writes [`FLOOD`] bytes on stdout and half as much on stderr, then as [`STAYS`].
pub const FLOODS: &str = "floods";
/// Writes lines and a last one without an end, then ends with status 0.
pub const TELLS_LINES: &str = "tells lines";
/// Ends with status 3 instead of listening.
pub const FAILS: &str = "fails";
/// Ends with status 5 after it said that it listens.
pub const ENDS: &str = "ends";
/// As [`STAYS`], whatever signal asks it to end.
pub const DEAF: &str = "deaf";
/// As [`STAYS`], but ends with status 0 when it is asked to.
pub const OBEYS: &str = "obeys";
/// Answers each request with its path; `/redirect` with a redirect.
pub const SERVES: &str = "serves";

/// Does what `role` says.
pub fn play(role: &str) -> ExitCode {
    match perform(role) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{role}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn perform(role: &str) -> io::Result<ExitCode> {
    let _lifeline = match env::var(LIFELINE) {
        Ok(address) => Some(TcpStream::connect(address)?),
        Err(_) => None,
    };
    match role {
        STAYS => stay(),
        TELLS_ENVIRONMENT => {
            for (name, value) in env::vars() {
                println!("{name}={value}");
            }
            stay()
        }
        FLOODS => {
            let line = [b"x".repeat(63), b"\n".to_vec()].concat();
            let chunk = line.repeat(1024);
            for _ in 0..FLOOD / chunk.len() {
                io::stdout().write_all(&chunk)?;
                io::stderr().write_all(&chunk[..chunk.len() / 2])?;
            }
            stay()
        }
        TELLS_LINES => {
            listening();
            eprint!("half a line,");
            eprintln!(" and the other half\n");
            eprint!("no end");
            Ok(ExitCode::SUCCESS)
        }
        FAILS => {
            eprintln!("first\n\nsecond\nthird\n  \nfourth");
            Ok(ExitCode::from(3))
        }
        ENDS => {
            listening();
            Ok(ExitCode::from(5))
        }
        DEAF => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let _entered = runtime.enter();
            let _handled = [
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            ];
            stay()
        }
        OBEYS => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let mut asked = signal(SignalKind::terminate())?;
                listening();
                asked.recv().await;
                Ok(ExitCode::SUCCESS)
            })
        }
        SERVES => serve(),
        _ => Err(io::Error::other("no such role")),
    }
}

fn listening() {
    eprintln!("listening on http://127.0.0.1:1");
}

/// Not for ever: should a lab leave it behind, it goes by itself.
fn stay() -> io::Result<ExitCode> {
    listening();
    thread::sleep(Duration::from_secs(300));
    Ok(ExitCode::SUCCESS)
}

fn serve() -> io::Result<ExitCode> {
    let variable = |name| env::var(name).map_err(io::Error::other);
    let listener = TcpListener::bind(format!("{}:{}", variable("HOST")?, variable("PORT")?))?;
    eprintln!("listening on http://{}", listener.local_addr()?);
    for client in listener.incoming() {
        // Each in its own thread: a client that says nothing keeps nobody waiting.
        thread::spawn(move || client.and_then(answer));
    }
    Ok(ExitCode::SUCCESS)
}

fn answer(mut client: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?.take(64 * 1024)).lines();
    let Some(request) = lines.next().transpose()? else {
        return Ok(());
    };
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    assert_ne!(path, "/panic", "of a service");
    let status = match path {
        "/redirect" => "302 Found\r\nlocation: /elsewhere",
        "/failure" => "500 Internal Server Error",
        _ => "200 OK",
    };
    let length = path.len();
    write!(
        client,
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{path}"
    )
}
