//! Variables of a binary. A bad one is a line that names it, for [`crate::fail`].

use std::env;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A variable's value; an empty one counts as unset.
///
/// # Errors
/// One line that names the variable, if its value is not UTF-8.
pub fn variable(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(value) if value.is_empty() => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(format!("{name}: not valid UTF-8")),
    }
}

/// Where to listen: HOST (127.0.0.1 if unset) and PORT.
///
/// # Errors
/// One line that names the variable which can't be used.
pub fn address(default_port: u16) -> Result<SocketAddr, String> {
    let host = match variable("HOST")? {
        Some(host) => host
            .parse::<IpAddr>()
            .map_err(|_| format!("HOST: expected an IP address, got {host:?}"))?,
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let port = match variable("PORT")? {
        Some(port) => port
            .parse::<u16>()
            .map_err(|_| format!("PORT: expected a number from 0 to 65535, got {port:?}"))?,
        None => default_port,
    };
    Ok(SocketAddr::new(host, port))
}
