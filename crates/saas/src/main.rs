//! The saas binary: reads HOST and PORT, answers until ctrl-c or SIGTERM.

use std::env;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use saas::{Saas, SaasConfig};
use tokio::signal::unix::{SignalKind, signal};

/// The port when PORT is not set.
const DEFAULT_PORT: u16 = 8082;

#[tokio::main]
async fn main() -> ExitCode {
    let addr = match addr_from_env() {
        Ok(addr) => addr,
        Err(reason) => return fail(&reason),
    };
    let config = SaasConfig {
        addr,
        ..SaasConfig::default()
    };
    let stopped = match stop_signal() {
        Ok(stopped) => stopped,
        Err(error) => return fail(&format!("cannot listen for signals: {error}")),
    };
    let saas = match Saas::start(config).await {
        Ok(saas) => saas,
        Err(error) => return fail(&format!("HOST, PORT: cannot listen on {addr}: {error}")),
    };
    eprintln!("listening on http://{}", saas.addr());
    stopped.await;
    saas.stop().await;
    ExitCode::SUCCESS
}

fn fail(reason: &str) -> ExitCode {
    eprintln!("{reason}");
    ExitCode::from(2)
}

fn addr_from_env() -> Result<SocketAddr, String> {
    let host = match set("HOST")? {
        Some(host) => host
            .parse::<IpAddr>()
            .map_err(|_| format!("HOST: expected an IP address, got {host:?}"))?,
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let port = match set("PORT")? {
        Some(port) => port
            .parse::<u16>()
            .map_err(|_| format!("PORT: expected a number from 0 to 65535, got {port:?}"))?,
        None => DEFAULT_PORT,
    };
    Ok(SocketAddr::new(host, port))
}

/// A variable's value; an empty one counts as unset.
fn set(variable: &str) -> Result<Option<String>, String> {
    match env::var(variable) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(format!("{variable}: not valid UTF-8")),
    }
}

/// Resolves at ctrl-c or SIGTERM: what a terminal and an orchestrator send. From the
/// call on, neither ends the process by itself; so call it before anyone is told that
/// the service is there.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
