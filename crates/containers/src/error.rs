//! What can go wrong with containers, each in one line.

use std::io;

/// Why there is no container, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Docker is not there, not started, or not for this user.
    #[error("Docker doesn't answer: {0}")]
    NoDocker(String),
    /// The image is neither here nor to be had.
    #[error("no image {image}: {reason}")]
    Image {
        /// Its name.
        image: String,
        /// Why.
        reason: String,
    },
    /// A variable can't be used.
    #[error("{name} must be {must_be}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// Completes "must be".
        must_be: &'static str,
    },
    /// The container did not start, or does not answer.
    #[error("{image} in Docker: {reason}")]
    Container {
        /// What it was made of.
        image: String,
        /// Why.
        reason: String,
    },
    /// RabbitMQ's management API refused something, or did not answer.
    #[error("RabbitMQ's management API: {0}")]
    Management(String),
    /// The system refused something.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The innermost cause of `error`, on one line. What stands around it ("error trying
/// to connect") says less.
pub(crate) fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let told = one_line(&cause.to_string());
    // What the clients put before it, and is no source of its own.
    let told = told
        .strip_prefix("failed to initialize a docker client: ")
        .unwrap_or(&told);
    match told.split_once("Docker responded with status code ") {
        Some((_, answer)) => answer.split_once(": ").map_or(told, |(_, said)| said),
        None => told,
    }
    .to_owned()
}

/// `text` on one line.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_clients_put_before_it_is_left_out() {
        for (told, expected) in [
            ("Connection refused", "Connection refused"),
            (
                "failed to initialize a docker client: Socket not found: /nowhere",
                "Socket not found: /nowhere",
            ),
            (
                "failed to start a container: Docker responded with status code 500: port: taken\n",
                "port: taken",
            ),
        ] {
            assert_eq!(cause(&io::Error::other(told)), expected);
        }
    }
}
