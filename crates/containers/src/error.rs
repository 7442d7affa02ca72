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
    one_line(&cause.to_string())
}

/// `text` on one line.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
