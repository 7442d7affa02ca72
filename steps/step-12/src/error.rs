//! The one error of the service, and how it answers a request.

use std::{any::type_name, error::Error, fmt};

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};

use crate::{http::HttpError, queue::QueueError};

/// Why a request could not be answered as asked.
#[derive(Debug)]
pub enum AppError {
    /// The message was not confirmed in time: 503, the caller may come again.
    Queue(QueueError),
    /// Another service did not answer, or not as agreed: 502, or 504 if it took too long.
    Http(HttpError),
}

impl AppError {
    /// `error.type`: one of a few words, never the error's own text.
    pub fn error_type(&self) -> String {
        match self {
            Self::Queue(error) => error.error_type(),
            Self::Http(error) => error.error_type(),
        }
    }

    /// `exception.type`: what the error is in this program.
    pub fn exception_type(&self) -> &'static str {
        match self {
            Self::Queue(_) => type_name::<QueueError>(),
            Self::Http(_) => type_name::<HttpError>(),
        }
    }
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(error) => error.fmt(f),
            Self::Http(error) => error.fmt(f),
        }
    }
}

impl Error for AppError {}

impl From<QueueError> for AppError {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

impl From<HttpError> for AppError {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

impl IntoResponse for AppError {
    /// Nothing is logged here: that was done where it failed, once.
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Queue(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Http(error) if error.is_timeout() => StatusCode::GATEWAY_TIMEOUT,
            Self::Http(_) => StatusCode::BAD_GATEWAY,
        };
        (status, format!("{self}\n")).into_response()
    }
}
