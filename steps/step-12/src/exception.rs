//! The log record of an error: an exception, as the conventions call it in all languages.

use opentelemetry_semantic_conventions::attribute::{EXCEPTION_MESSAGE, EXCEPTION_TYPE};
use tracing::Level;

use crate::error::AppError;

/// Logs `error` as an exception, in the current span (conventions, "Exceptions in logs").
///
/// Once, where it is known what failed: whoever hands the error on has nothing to add, and
/// each record more is one alert more. Not at all, if the error is dealt with.
pub fn record_exception(error: &AppError) {
    // Names with a dot that are keywords of Rust, such as `type`, need the braces.
    tracing::event!(
        name: "exception",
        Level::ERROR,
        { EXCEPTION_TYPE } = error.exception_type(),
        { EXCEPTION_MESSAGE } = %error,
        "{error}"
    );
}
