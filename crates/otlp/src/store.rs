//! Keeps what a receiver got, and wakes whoever waits for more.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::model::{LogRecord, Span};

/// How many requests, spans and log records a [`Store`] keeps, of each.
pub const DEFAULT_LIMIT: usize = 100_000;

/// One request that a receiver got, the refused ones included.
///
/// `Debug` never prints the values of headers that may hold a credential.
#[derive(Clone, PartialEq)]
pub struct Request {
    /// The HTTP method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// All headers in the order in which they came, names in lower case. A
    /// value that is not UTF-8 has its other bytes replaced.
    pub headers: Vec<(String, String)>,
    /// The header `content-type`.
    pub content_type: Option<String>,
    /// The header `content-encoding`.
    pub content_encoding: Option<String>,
    /// When its body had arrived.
    pub received_at: SystemTime,
    /// The size of the body as it came, before decompression.
    pub body_bytes: usize,
    /// How many spans it holds.
    pub spans: usize,
    /// How many log records it holds.
    pub logs: usize,
    /// How many metrics it holds.
    pub metrics: usize,
    /// The status of the answer; 0 as long as there is none, which is for
    /// ever if the client went away first.
    pub answer: u16,
    /// Why it was refused: what is wrong with it, or "".
    pub problem: String,
}

impl Request {
    /// The first value of the header `name` (any case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// Whether the value of the header `name` may be a credential. Rather too many
/// than too few: vendors' names differ (`x-honeycomb-team`, `api-key`,
/// `signalfx-token`, …).
fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 11] = [
        "auth",
        "cookie",
        "cred",
        "dsn",
        "key",
        "passw",
        "secret",
        "session",
        "signature",
        "team",
        "token",
    ];
    let name = name.to_ascii_lowercase();
    PARTS.iter().any(|part| name.contains(part))
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<(&str, &str)> = self
            .headers
            .iter()
            .map(|(name, value)| {
                let shown = if is_secret(name) { "<redacted>" } else { value };
                (name.as_str(), shown)
            })
            .collect();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("headers", &headers)
            .field("content_type", &self.content_type)
            .field("content_encoding", &self.content_encoding)
            .field("received_at", &self.received_at)
            .field("body_bytes", &self.body_bytes)
            .field("spans", &self.spans)
            .field("logs", &self.logs)
            .field("metrics", &self.metrics)
            .field("answer", &self.answer)
            .field("problem", &self.problem)
            .finish()
    }
}

/// A list that forgets its oldest entries.
#[derive(Clone, Debug)]
struct Bounded<T> {
    items: Vec<T>,
    dropped: u64,
}

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            dropped: 0,
        }
    }
}

impl<T> Bounded<T> {
    fn extend(&mut self, more: Vec<T>, limit: usize) {
        self.items.extend(more);
        let excess = self.items.len().saturating_sub(limit);
        self.items.drain(..excess);
        self.dropped += excess as u64;
    }
}

#[derive(Clone, Debug, Default)]
struct Data {
    requests: Bounded<Request>,
    spans: Bounded<Span>,
    logs: Bounded<LogRecord>,
}

/// What a [`Store`] held at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot(Arc<Data>);

impl Snapshot {
    /// The requests, in the order of arrival.
    pub fn requests(&self) -> &[Request] {
        &self.0.requests.items
    }

    /// The spans of the accepted requests, in the order of arrival.
    pub fn spans(&self) -> &[Span] {
        &self.0.spans.items
    }

    /// The log records of the accepted requests, in the order of arrival.
    pub fn logs(&self) -> &[LogRecord] {
        &self.0.logs.items
    }

    /// The number of the first request that is here, where the first that ever came
    /// has 0. Who remembers a number knows which are new to them.
    pub fn first_request(&self) -> u64 {
        self.0.requests.dropped
    }

    /// The number of the first span that is here, counted as the requests are.
    pub fn first_span(&self) -> u64 {
        self.0.spans.dropped
    }

    /// The number of the first log record that is here, counted as the requests are.
    pub fn first_log(&self) -> u64 {
        self.0.logs.dropped
    }

    /// How many requests, spans and log records were forgotten, together,
    /// since the limit was reached.
    pub fn dropped(&self) -> u64 {
        self.0.requests.dropped + self.0.spans.dropped + self.0.logs.dropped
    }
}

/// Nothing that was waited for arrived in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not seen within {deadline:?}; {requests} requests, {spans} spans and {logs} log records are here"
)]
pub struct TimedOut {
    /// How long was waited.
    pub deadline: Duration,
    /// How many requests were here at the end.
    pub requests: usize,
    /// How many spans were here at the end.
    pub spans: usize,
    /// How many log records were here at the end.
    pub logs: usize,
}

/// What a receiver got. Bounded: of requests, spans and log records each, only
/// the newest are kept, and the others counted ([`Snapshot::dropped`]). The
/// bound is on their number, not on their size.
#[derive(Debug)]
pub struct Store {
    limit: usize,
    // Copied on write: a snapshot is taken without copying, and looking at it
    // holds no lock.
    state: Mutex<State>,
    version: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    data: Arc<Data>,
    /// How many requests have ever been added. A request's number in this
    /// count names it after older ones were forgotten.
    requests: u64,
}

/// Names one request of a store until its answer is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestId(u64);

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// A store that keeps [`DEFAULT_LIMIT`] of each.
    pub fn new() -> Self {
        Self::with_limit(DEFAULT_LIMIT)
    }

    /// A store that keeps at most `limit` requests, `limit` spans and `limit`
    /// log records.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            state: Mutex::default(),
            version: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs while the lock is held, and the data is
        // valid between any two lines.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that is here now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(Arc::clone(&self.lock().data))
    }

    /// The requests, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.snapshot().requests().to_vec()
    }

    /// The spans of the accepted requests, in the order of arrival.
    pub fn spans(&self) -> Vec<Span> {
        self.snapshot().spans().to_vec()
    }

    /// The log records of the accepted requests, in the order of arrival.
    pub fn logs(&self) -> Vec<LogRecord> {
        self.snapshot().logs().to_vec()
    }

    /// Forgets everything, the count of what was dropped included.
    pub fn clear(&self) {
        self.lock().data = Arc::default();
        self.changed();
    }

    /// Wakes on every change. The number means nothing but "something changed";
    /// each receiver starts with the present state seen.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Waits until `f` finds what it looks for. It is called at once, and again
    /// after each arrival.
    ///
    /// # Errors
    /// [`TimedOut`] if `deadline`, counted from now, passes first.
    pub async fn wait_until<T>(
        &self,
        deadline: Duration,
        mut f: impl FnMut(&Snapshot) -> Option<T>,
    ) -> Result<T, TimedOut> {
        let mut changes = self.subscribe();
        let sleep = tokio::time::sleep(deadline);
        tokio::pin!(sleep);
        loop {
            // Seen before looked at: what arrives in between wakes us again.
            changes.borrow_and_update();
            if let Some(found) = f(&self.snapshot()) {
                return Ok(found);
            }
            tokio::select! {
                // The sender is a part of `self` and so outlives this call.
                _ = changes.changed() => {}
                () = &mut sleep => {
                    let snapshot = self.snapshot();
                    return match f(&snapshot) {
                        Some(found) => Ok(found),
                        None => Err(TimedOut {
                            deadline,
                            requests: snapshot.requests().len(),
                            spans: snapshot.spans().len(),
                            logs: snapshot.logs().len(),
                        }),
                    };
                }
            }
        }
    }

    /// Adds a request; its answer comes later.
    pub(crate) fn begin(&self, request: Request) -> RequestId {
        let id = {
            let mut state = self.lock();
            state.requests += 1;
            let limit = self.limit;
            Arc::make_mut(&mut state.data)
                .requests
                .extend(vec![request], limit);
            RequestId(state.requests)
        };
        self.changed();
        id
    }

    /// Notes the answer to a request, and what was accepted with it.
    pub(crate) fn answered(
        &self,
        id: RequestId,
        answer: u16,
        problem: &str,
        spans: Vec<Span>,
        logs: Vec<LogRecord>,
    ) {
        {
            let mut state = self.lock();
            let newer = state.requests - id.0;
            let data = Arc::make_mut(&mut state.data);
            let index = usize::try_from(newer)
                .ok()
                .and_then(|newer| data.requests.items.len().checked_sub(newer + 1));
            if let Some(request) = index.and_then(|index| data.requests.items.get_mut(index)) {
                request.answer = answer;
                problem.clone_into(&mut request.problem);
            }
            data.spans.extend(spans, self.limit);
            data.logs.extend(logs, self.limit);
        }
        self.changed();
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> Request {
        Request {
            method: "POST".to_owned(),
            path: path.to_owned(),
            headers: vec![
                ("authorization".to_owned(), "Bearer s3cret".to_owned()),
                ("x-honeycomb-team".to_owned(), "s3cret".to_owned()),
                ("api-key".to_owned(), "s3cret".to_owned()),
                ("user-agent".to_owned(), "exporter".to_owned()),
            ],
            content_type: None,
            content_encoding: None,
            received_at: SystemTime::UNIX_EPOCH,
            body_bytes: 0,
            spans: 0,
            logs: 0,
            metrics: 0,
            answer: 0,
            problem: String::new(),
        }
    }

    #[test]
    fn debug_hides_credentials() {
        let text = format!("{:?}", request("/v1/traces"));
        assert!(!text.contains("s3cret"), "{text}");
        assert!(text.contains("x-honeycomb-team") && text.contains("exporter"));
        assert_eq!(request("/").header("Authorization"), Some("Bearer s3cret"));
    }

    #[test]
    fn the_oldest_go_and_answers_find_their_request() {
        let store = Store::with_limit(2);
        let ids: Vec<RequestId> = ["/1", "/2", "/3"]
            .into_iter()
            .map(|path| store.begin(request(path)))
            .collect();
        store.answered(ids[0], 500, "gone", Vec::new(), Vec::new());
        store.answered(ids[2], 200, "", vec![Span::default(); 3], Vec::new());
        store.answered(ids[1], 400, "bad", Vec::new(), Vec::new());
        let requests = store.requests();
        let seen: Vec<(&str, u16)> = requests
            .iter()
            .map(|r| (r.path.as_str(), r.answer))
            .collect();
        assert_eq!(seen, [("/2", 400), ("/3", 200)]);
        assert_eq!(store.spans().len(), 2);
        let snapshot = store.snapshot();
        assert_eq!(snapshot.dropped(), 2);
        assert_eq!((snapshot.first_request(), snapshot.first_span()), (1, 1));
        assert_eq!(snapshot.first_log(), 0);

        let late = store.begin(request("/4"));
        store.clear();
        store.answered(late, 200, "", Vec::new(), Vec::new());
        assert_eq!(store.requests(), []);
        assert_eq!(store.snapshot().dropped(), 0);
    }

    #[tokio::test]
    async fn waiting_ends_with_an_arrival_or_the_deadline() {
        let store = Arc::new(Store::new());
        let waiting = {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                store
                    .wait_until(Duration::from_secs(30), |s| s.requests().first().cloned())
                    .await
            })
        };
        tokio::task::yield_now().await;
        store.begin(request("/here"));
        let found = waiting.await.expect("not cancelled").expect("in time");
        assert_eq!(found.path, "/here");

        let error = store
            .wait_until(Duration::from_millis(1), |_| None::<()>)
            .await
            .expect_err("nothing to find");
        assert_eq!((error.requests, error.spans), (1, 0));
        assert!(error.to_string().contains("1 requests"));
    }
}
