//! Step 05, Requests out. Calls of other HTTP services: all go through here.

use std::{error::Error, fmt, time::Duration};

use http::Extensions;
use opentelemetry::{
    Context, KeyValue,
    context::FutureExt,
    global,
    trace::{SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_http::HeaderInjector;
use opentelemetry_semantic_conventions::attribute;
use reqwest::{Client, Request, Response, StatusCode, Url, redirect};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};

use crate::{attributes, telemetry};

/// The HTTP client of the service. Clones share its connections.
#[derive(Clone)]
pub struct Http {
    client: ClientWithMiddleware,
}

/// Middleware: sends each request in a CLIENT span of its own, whose context it
/// carries in its headers.
///
/// The span ends when the answer's headers are here, before its body.
struct Traced;

#[async_trait::async_trait]
impl Middleware for Traced {
    async fn handle(
        &self,
        mut request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        // TODO 1: Start a span as in `server.rs`, of kind `SpanKind::Client`, called
        // `attributes::method_name(…)` and with `attributes::of_call(&request)`. `start(tracer)`
        // puts it under the current span: that of the request that is being answered.
        // `Context::current_with_span(span)` makes the context in which it is the current one.
        //
        // TODO 2: Write that context into the headers: in
        // `global::get_text_map_propagator(|propagator| …)` call
        // `propagator.inject_context(…)` with `&mut HeaderInjector(request.headers_mut())`.
        //
        // TODO 3: Run the rest in that context (`with_context`), call `end`, and return the
        // result.
        next.run(request, extensions).await
    }
}

/// Says how the call went. Whoever calls sees a 4xx as an error, too.
fn end(context: &Context, result: &reqwest_middleware::Result<Response>) {
    let span = context.span();
    // TODO 4: An answer adds `attributes::of_answer(response)` (`set_attributes`). A 4xx or
    // 5xx is an error, and its type is the number as text. Without an answer the type is
    // `attributes::call_error_type(error)`. An error has `attribute::ERROR_TYPE` and the
    // status `Status::error("")`.
    span.end();
}

/// What another service answered, whatever its status.
pub struct Reply {
    peer: &'static str,
    status: StatusCode,
    /// The body, without a line end at its end.
    pub text: String,
}

/// Why another service's answer can't be used.
#[derive(Debug)]
pub struct HttpError {
    peer: &'static str,
    kind: ErrorKind,
}

#[derive(Debug)]
enum ErrorKind {
    Timeout,
    NoAnswer(String),
    Status(StatusCode),
    Unusable(&'static str),
}

impl Http {
    /// A client whose calls end after `timeout`, the body included.
    ///
    /// # Errors
    /// If the system's certificates can't be loaded.
    pub fn new(timeout: Duration) -> Result<Self, String> {
        let client = Client::builder()
            .timeout(timeout)
            // Neither service redirects. A client that follows redirects makes
            // several requests of one call, unseen from out here.
            .redirect(redirect::Policy::none())
            .build()
            // Its text alone is "builder error", without a reason.
            .map_err(|error| {
                format!(
                    "can't make an HTTP client: {error:?}; it needs the system's certificates \
                     (the package ca-certificates, or SSL_CERT_FILE)"
                )
            })?;
        let client = ClientBuilder::new(client).with(Traced).build();
        Ok(Self { client })
    }

    /// One GET. `peer` names the other service in errors.
    pub async fn get(&self, peer: &'static str, url: Url) -> Result<Reply, HttpError> {
        let failed = |error| HttpError::from_reqwest(peer, error);
        let response = self.client.get(url).send().await.map_err(failed)?;
        let status = response.status();
        let text = response
            .text()
            .await
            .map_err(|error| failed(error.into()))?;
        Ok(Reply {
            peer,
            status,
            text: text.trim_end().to_owned(),
        })
    }
}

impl Reply {
    /// The reply, if its status says success.
    pub fn success(self) -> Result<Self, HttpError> {
        if self.status.is_success() {
            Ok(self)
        } else {
            Err(HttpError {
                peer: self.peer,
                kind: ErrorKind::Status(self.status),
            })
        }
    }

    /// An error that says the text is not what was agreed on; `what` completes "answered …".
    pub fn unusable(self, what: &'static str) -> HttpError {
        HttpError {
            peer: self.peer,
            kind: ErrorKind::Unusable(what),
        }
    }
}

impl HttpError {
    fn from_reqwest(peer: &'static str, error: reqwest_middleware::Error) -> Self {
        let kind = if error.is_timeout() {
            ErrorKind::Timeout
        } else {
            // The innermost cause is the one that helps ("Connection refused").
            // reqwest's own text would repeat the URL, with its password if it has one.
            let mut cause: &dyn Error = &error.without_url();
            while let Some(source) = cause.source() {
                cause = source;
            }
            ErrorKind::NoAnswer(cause.to_string())
        };
        Self { peer, kind }
    }

    /// Whether the other service took too long.
    pub fn is_timeout(&self) -> bool {
        matches!(self.kind, ErrorKind::Timeout)
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = self.peer;
        match &self.kind {
            ErrorKind::Timeout => write!(f, "{peer} did not answer in time"),
            ErrorKind::NoAnswer(cause) => write!(f, "{peer} did not answer: {cause}"),
            ErrorKind::Status(status) => write!(f, "{peer} answered {}", status.as_u16()),
            ErrorKind::Unusable(what) => write!(f, "{peer} answered {what}"),
        }
    }
}

impl Error for HttpError {}
