//! The saas binary: reads HOST and PORT, answers until ctrl-c or SIGTERM.

use std::env;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use saas::{Saas, SaasConfig};

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
    let saas = match Saas::start(config).await {
        Ok(saas) => saas,
        Err(error) => return fail(&format!("HOST, PORT: cannot listen on {addr}: {error}")),
    };
    eprintln!("listening on http://{}", saas.addr());
    if let Err(error) = stop_signal().await {
        eprintln!("cannot listen for signals, stopping: {error}");
    }
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

/// Resolves at ctrl-c or, on Unix, SIGTERM: what a terminal and an orchestrator send.
async fn stop_signal() -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
