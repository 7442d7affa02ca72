//! The broker's errors: reply codes of the protocol, faults that close a channel or a connection, and the errors of this crate's own API.

use std::fmt;
use std::time::Duration;

use crate::QueueStats;

/// A reply code (AMQP 0-9-1, section 1.2 of the generated reference) with the
/// name that RabbitMQ puts in front of the reply text.
///
/// The specification divides the codes into soft errors, which close one channel,
/// and hard errors, which close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    NoRoute,
    ConnectionForced,
    AccessRefused,
    NotFound,
    ResourceLocked,
    PreconditionFailed,
    FrameError,
    SyntaxError,
    CommandInvalid,
    ChannelError,
    UnexpectedFrame,
    ResourceError,
    NotAllowed,
    NotImplemented,
}

impl Code {
    /// The number on the wire.
    pub(crate) fn number(self) -> u16 {
        match self {
            Self::NoRoute => 312,
            Self::ConnectionForced => 320,
            Self::AccessRefused => 403,
            Self::NotFound => 404,
            Self::ResourceLocked => 405,
            Self::PreconditionFailed => 406,
            Self::FrameError => 501,
            Self::SyntaxError => 502,
            Self::CommandInvalid => 503,
            Self::ChannelError => 504,
            Self::UnexpectedFrame => 505,
            Self::ResourceError => 506,
            Self::NotAllowed => 530,
            Self::NotImplemented => 540,
        }
    }

    /// The name as RabbitMQ writes it in a reply text.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NoRoute => "NO_ROUTE",
            Self::ConnectionForced => "CONNECTION_FORCED",
            Self::AccessRefused => "ACCESS_REFUSED",
            Self::NotFound => "NOT_FOUND",
            Self::ResourceLocked => "RESOURCE_LOCKED",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::FrameError => "FRAME_ERROR",
            Self::SyntaxError => "SYNTAX_ERROR",
            Self::CommandInvalid => "COMMAND_INVALID",
            Self::ChannelError => "CHANNEL_ERROR",
            Self::UnexpectedFrame => "UNEXPECTED_FRAME",
            Self::ResourceError => "RESOURCE_ERROR",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::NotImplemented => "NOT_IMPLEMENTED",
        }
    }

    /// Whether the error ends one channel only.
    pub(crate) fn closes_channel_only(self) -> bool {
        matches!(
            self,
            Self::NoRoute
                | Self::AccessRefused
                | Self::NotFound
                | Self::ResourceLocked
                | Self::PreconditionFailed
        )
    }
}

/// A violation found while a frame was handled: what the peer is told in
/// `channel.close` or `connection.close`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) text: String,
}

impl Fault {
    pub(crate) fn new(code: Code, text: impl fmt::Display) -> Self {
        Self {
            code,
            text: format!("{} - {text}", code.name()),
        }
    }
}

/// What [`crate::Broker::wait_for_queue`] gives up with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The condition did not hold before the deadline.
    #[error(
        "queue '{name}' in vhost '{vhost}' did not reach the expected state within {deadline:?}; last seen: {last:?}"
    )]
    Timeout {
        /// The vhost that was looked at.
        vhost: String,
        /// The queue that was looked at.
        name: String,
        /// How long the call waited.
        deadline: Duration,
        /// The queue's last state; `None` if there was no such queue.
        last: Option<QueueStats>,
    },
}
