//! The one error of the service, and how it answers a request.

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
    fn into_response(self) -> Response {
        let (status, reason) = match &self {
            Self::Queue(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            Self::Http(error) if error.is_timeout() => {
                (StatusCode::GATEWAY_TIMEOUT, error.to_string())
            }
            Self::Http(error) => (StatusCode::BAD_GATEWAY, error.to_string()),
        };
        tracing::error!(status = status.as_u16(), "{reason}");
        (status, format!("{reason}\n")).into_response()
    }
}
