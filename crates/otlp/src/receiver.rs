//! An OTLP/HTTP receiver that can also misbehave on request.
//!
//! Follows the OTLP specification 1.x, "OTLP/HTTP": `POST /v1/traces`,
//! `/v1/logs` and `/v1/metrics`, binary protobuf or JSON, gzip or not; answers
//! come in the encoding of the request, failures as a `google.rpc.Status`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::serve::Listener;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use crate::decode::{Content, DecodeError, Encoding, MAX_BODY, Signal, decode, gunzip};
use crate::store::{Request, RequestId, Store};

/// What a receiver does with valid requests. Wrong ones (path, method, content
/// type, size) are refused in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// Stores what they hold and answers 200.
    #[default]
    Accept,
    /// Refuses them with this status; a number that is no status counts as 500.
    Status(u16),
    /// Answers 503 with `Retry-After` (whole seconds, rounded up).
    Unavailable {
        /// How long the exporter is asked to wait.
        retry_after: Duration,
    },
    /// Reads them and never answers. The next change of behaviour decides about
    /// those whose client is still there.
    Hang,
    /// Waits, then does as [`Accept`](Self::Accept).
    Slow(Duration),
}

/// An OTLP/HTTP receiver. Dropping it closes its port and all connections.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    store: Arc<Store>,
    behaviour: watch::Sender<Behaviour>,
    _stop: DropGuard,
}

impl Receiver {
    /// Starts a receiver on a free port of 127.0.0.1, with a [`Store`] of its
    /// own, on the current tokio runtime.
    ///
    /// # Errors
    /// Those of binding the port.
    pub async fn start() -> io::Result<Receiver> {
        Self::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    /// Starts a receiver on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// Those of binding the port.
    pub async fn bind(address: SocketAddr) -> io::Result<Receiver> {
        Self::bind_with(address, Arc::new(Store::new())).await
    }

    /// Starts a receiver that puts what it gets into `store`, which may have
    /// another limit or outlive the receiver.
    ///
    /// # Errors
    /// Those of binding the port.
    pub async fn bind_with(address: SocketAddr, store: Arc<Store>) -> io::Result<Receiver> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let stopped = CancellationToken::new();
        let (behaviour, behaviour_rx) = watch::channel(Behaviour::default());
        let router = Router::new().fallback(handle).with_state(Shared {
            store: Arc::clone(&store),
            behaviour: behaviour_rx,
        });
        let listener = StoppableListener {
            listener,
            stopped: stopped.clone(),
        };
        let serve = axum::serve(listener, router);
        let ended = stopped.clone();
        tokio::spawn(async move {
            tokio::select! {
                // Never ends by itself: a failed accept is retried.
                _ = serve => {}
                () = ended.cancelled() => {}
            }
        });
        Ok(Receiver {
            address,
            store,
            behaviour,
            _stop: stopped.drop_guard(),
        })
    }

    /// The address to give to an exporter, without a path:
    /// `http://127.0.0.1:4318`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets what happens to valid requests from now on, those included that
    /// hang or are being delayed at this moment.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.behaviour.send_replace(behaviour);
    }

    /// Where the requests and what they held are.
    pub fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }
}

#[derive(Clone)]
struct Shared {
    store: Arc<Store>,
    behaviour: watch::Receiver<Behaviour>,
}

/// Why a request is refused.
struct Refusal {
    status: StatusCode,
    problem: String,
}

impl Refusal {
    fn new(status: StatusCode, problem: impl Into<String>) -> Self {
        Self {
            status,
            problem: problem.into(),
        }
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        let status = match error {
            DecodeError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            DecodeError::Bad(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

/// `google.rpc.Status`, the body of OTLP failures.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// All requests of all paths: wrong ones are worth a record, too.
async fn handle(State(mut shared): State<Shared>, request: axum::extract::Request) -> Response {
    let (parts, body) = request.into_parts();
    let encoding = encoding(&parts.headers);
    let body = collect(body).await;
    let body_bytes = body.as_ref().map_or(0, Bytes::len);
    let content =
        body.and_then(|body| read(&parts.method, parts.uri.path(), &parts.headers, &body));

    let (spans, logs, metrics) = match &content {
        Ok(content) => (content.spans.len(), content.logs.len(), content.metrics),
        Err(_) => (0, 0, 0),
    };
    let id = shared.store.begin(Request {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        headers: parts
            .headers
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.to_string(), value)
            })
            .collect(),
        content_type: header_text(&parts.headers, header::CONTENT_TYPE),
        content_encoding: header_text(&parts.headers, header::CONTENT_ENCODING),
        received_at: SystemTime::now(),
        body_bytes,
        spans,
        logs,
        metrics,
        answer: 0,
        problem: String::new(),
    });
    match content {
        Ok(content) => decide(&mut shared, id, content, encoding).await,
        Err(refusal) => refuse(&shared.store, id, &refusal, encoding),
    }
}

/// The whole body, if it has at most [`MAX_BODY`] bytes. Of a larger one as much
/// again is read and thrown away: a client that is still writing would not see
/// the answer.
async fn collect(body: Body) -> Result<Bytes, Refusal> {
    let mut stream = body.into_data_stream();
    let mut all = BytesMut::new();
    let mut length = 0_usize;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk
            .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the body did not arrive whole"))?;
        length = length.saturating_add(chunk.len());
        if length <= MAX_BODY {
            all.extend_from_slice(&chunk);
        } else {
            all = BytesMut::new();
            if length > 2 * MAX_BODY {
                break;
            }
        }
    }
    if length > MAX_BODY {
        return Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {MAX_BODY} bytes"),
        ));
    }
    Ok(all.freeze())
}

/// Answers a valid request as the receiver was told to.
async fn decide(
    shared: &mut Shared,
    id: RequestId,
    content: Content,
    encoding: Option<Encoding>,
) -> Response {
    loop {
        let behaviour = *shared.behaviour.borrow_and_update();
        match behaviour {
            Behaviour::Accept => break,
            Behaviour::Slow(delay) => {
                tokio::select! {
                    () = tokio::time::sleep(delay) => break,
                    () = change(&mut shared.behaviour) => {}
                }
            }
            Behaviour::Hang => change(&mut shared.behaviour).await,
            Behaviour::Status(code) => {
                let status =
                    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let refusal = Refusal::new(status, "refused, as this receiver was told to");
                return refuse(&shared.store, id, &refusal, encoding);
            }
            Behaviour::Unavailable { retry_after } => {
                let refusal = Refusal::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "unavailable, as this receiver was told to be",
                );
                let mut response = refuse(&shared.store, id, &refusal, encoding);
                let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
                response
                    .headers_mut()
                    .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
                return response;
            }
        }
    }
    let ok = StatusCode::OK;
    shared
        .store
        .answered(id, ok.as_u16(), "", content.spans, content.logs);
    // An Export…ServiceResponse without `partial_success`: no bytes, or `{}`.
    match encoding {
        Some(Encoding::Protobuf) => respond(ok, "application/x-protobuf", Vec::new()),
        Some(Encoding::Json) | None => respond(ok, "application/json", b"{}".to_vec()),
    }
}

/// Waits for another behaviour. For ever if the receiver is gone: it ends this
/// connection, and with it this request.
async fn change(behaviour: &mut watch::Receiver<Behaviour>) {
    if behaviour.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn refuse(store: &Store, id: RequestId, refusal: &Refusal, encoding: Option<Encoding>) -> Response {
    let status = refusal.status;
    store.answered(
        id,
        status.as_u16(),
        &refusal.problem,
        Vec::new(),
        Vec::new(),
    );
    let body = RpcStatus {
        code: rpc_code(status),
        message: refusal.problem.clone(),
    };
    let mut response = match encoding {
        Some(Encoding::Protobuf) => respond(status, "application/x-protobuf", body.encode_to_vec()),
        Some(Encoding::Json) | None => {
            let json = serde_json::json!({ "code": body.code, "message": body.message });
            respond(status, "application/json", json.to_string().into_bytes())
        }
    };
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

/// The `google.rpc.Code` nearest to an HTTP status.
fn rpc_code(status: StatusCode) -> i32 {
    match status.as_u16() {
        400 | 413 | 415 => 3,
        401 => 16,
        403 => 7,
        404 => 5,
        405 | 501 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers
        .get(name)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The encoding that `content-type` names, parameters ignored.
fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    let text = header_text(headers, header::CONTENT_TYPE)?;
    let media_type = text.split(';').next().unwrap_or("").trim();
    if media_type.eq_ignore_ascii_case("application/x-protobuf") {
        Some(Encoding::Protobuf)
    } else if media_type.eq_ignore_ascii_case("application/json") {
        Some(Encoding::Json)
    } else {
        None
    }
}

/// Checks a request and decodes its body.
fn read(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Content, Refusal> {
    let signal = match path {
        "/v1/traces" => Signal::Traces,
        "/v1/logs" => Signal::Logs,
        "/v1/metrics" => Signal::Metrics,
        _ => {
            return Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "there is nothing here: OTLP goes to /v1/traces, /v1/logs and /v1/metrics",
            ));
        }
    };
    if method != Method::POST {
        return Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "OTLP is sent with POST",
        ));
    }
    let Some(encoding) = encoding(headers) else {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the content type is neither application/x-protobuf nor application/json",
        ));
    };
    let compression = header_text(headers, header::CONTENT_ENCODING).unwrap_or_default();
    let body = match compression.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => body.clone(),
        "gzip" => gunzip(body, MAX_BODY)?,
        _ => {
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the content encoding is neither gzip nor identity",
            ));
        }
    };
    Ok(decode(signal, encoding, &body)?)
}

/// A listener whose connections end with the receiver. `axum::serve` runs each
/// connection in a task of its own, which outlives the listener otherwise.
struct StoppableListener {
    listener: TcpListener,
    stopped: CancellationToken,
}

impl Listener for StoppableListener {
    type Io = StoppableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let stream = StoppableStream {
            stream,
            stopped: Box::pin(self.stopped.clone().cancelled_owned()),
        };
        (stream, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

struct StoppableStream {
    stream: TcpStream,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl StoppableStream {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.stopped.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the receiver is gone",
            )),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for StoppableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for StoppableStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
