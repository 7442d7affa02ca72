//! Panics: each is one log record, and that of a request is answered 500.

use std::{
    any::Any,
    panic::{self, Location},
};

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use opentelemetry_semantic_conventions::attribute::{
    CODE_FILE_PATH, CODE_LINE_NUMBER, EXCEPTION_MESSAGE, EXCEPTION_TYPE,
};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Level;

/// `exception.type` of a panic, which has no type that says anything.
const PANIC: &str = "panic";

/// How a panic is answered.
type Answer = fn(Box<dyn Any + Send>) -> Response;

/// From here on a panic is a log record instead of some lines on stderr: an exception, as
/// an error is one.
///
/// The record is made where the panic is: the place in the code is known only there,
/// and the current span is still the one that was worked in.
pub fn log() {
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !tracing::enabled!(Level::ERROR) {
            // RUST_LOG is no reason to say nothing of a bug.
            return default(panic);
        }
        let message = panic
            .payload_as_str()
            .unwrap_or("a panic whose payload is no text");
        let place = panic.location();
        tracing::event!(
            name: "exception",
            Level::ERROR,
            { EXCEPTION_TYPE } = PANIC,
            { EXCEPTION_MESSAGE } = message,
            { CODE_FILE_PATH } = place.map(Location::file),
            { CODE_LINE_NUMBER } = place.map(Location::line),
            "panicked: {message}"
        );
    }));
}

/// A layer that answers 500 if what it is around panics. Without it the connection
/// would be closed, and there would be no answer.
pub fn layer() -> CatchPanicLayer<Answer> {
    CatchPanicLayer::custom(answer as Answer)
}

/// The message stays inside: it can quote whatever the code was working on, and it has
/// been logged.
fn answer(_message: Box<dyn Any + Send>) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, "tier1 failed\n").into_response()
}
