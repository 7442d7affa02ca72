//! What is known of each trace that has come, without keeping its spans: they are in the
//! store, which forgets the oldest.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use otlp::{Snapshot, Span, StatusCode, TraceId};

/// A trace with its root to which nothing was added for this long is whole.
const QUIET: Duration = Duration::from_millis(400);

/// The same for one whose root hasn't come: it may be a caller's, who sends it elsewhere.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many services of a trace are named.
const SERVICES: usize = 8;

/// Takes note of the spans that come. Bounded: of the traces, the last that grew.
pub struct Arrivals {
    keep: usize,
    /// The number of the first span that it has not seen.
    next: u64,
    traces: HashMap<TraceId, Arrival>,
}

/// One trace.
#[derive(Clone)]
pub struct Arrival {
    pub id: TraceId,
    /// The number after that of its last span.
    pub next: u64,
    pub spans: usize,
    pub errors: usize,
    /// In the order of arrival; no more than [`SERVICES`].
    pub services: Vec<String>,
    /// Nanoseconds since the Unix epoch.
    pub start: u64,
    pub end: u64,
    /// The span without a parent; the earliest, if that hasn't come.
    pub root: Root,
    grown: Instant,
}

/// What a trace is called after.
#[derive(Clone, PartialEq, Eq)]
pub struct Root {
    pub name: String,
    /// The service that made it.
    pub service: String,
    pub status: StatusCode,
    /// Whether it has no parent.
    pub is_root: bool,
    start: u64,
}

impl Root {
    fn of(span: &Span) -> Self {
        Self {
            name: span.name.clone(),
            service: span.service().to_owned(),
            status: span.status.code,
            is_root: span.parent_span_id.is_none(),
            start: span.start_unix_nanos,
        }
    }
}

impl Arrival {
    fn new(span: &Span, number: u64, now: Instant) -> Self {
        Self {
            id: span.trace_id,
            next: number,
            spans: 0,
            errors: 0,
            services: Vec::new(),
            start: u64::MAX,
            end: 0,
            root: Root::of(span),
            grown: now,
        }
    }

    fn add(&mut self, span: &Span, number: u64, now: Instant) {
        self.next = number + 1;
        self.spans += 1;
        self.errors += usize::from(span.status.code == StatusCode::Error);
        let is_known = self.services.iter().any(|name| name == span.service());
        if !is_known && self.services.len() < SERVICES {
            self.services.push(span.service().to_owned());
        }
        self.start = self.start.min(span.start_unix_nanos);
        self.end = self.end.max(span.end_unix_nanos);
        let rank = |is_root: bool, start: u64| (!is_root, start);
        let is_root = span.parent_span_id.is_none();
        if rank(is_root, span.start_unix_nanos) < rank(self.root.is_root, self.root.start) {
            self.root = Root::of(span);
        }
        self.grown = now;
    }

    /// Whether more is hardly to be expected.
    pub fn is_whole(&self, now: Instant) -> bool {
        let quiet = now.duration_since(self.grown);
        quiet >= PATIENCE || (self.root.is_root && quiet >= QUIET)
    }
}

impl Arrivals {
    /// Keeps at most `keep` traces.
    pub fn new(keep: usize) -> Self {
        Self {
            keep,
            next: 0,
            traces: HashMap::new(),
        }
    }

    /// Takes note of what has come since the last time, and forgets the traces of which
    /// the store has no span any more.
    pub fn look(&mut self, snapshot: &Snapshot, now: Instant) {
        let first = snapshot.first_span();
        self.traces.retain(|_, trace| trace.next > first);
        let seen = usize::try_from(self.next.saturating_sub(first)).unwrap_or(usize::MAX);
        let new = snapshot.spans().get(seen..).unwrap_or_default();
        let mut number = self.next.max(first);
        for span in new {
            self.traces
                .entry(span.trace_id)
                .or_insert_with(|| Arrival::new(span, number, now))
                .add(span, number, now);
            number += 1;
        }
        self.next = number;
        if self.traces.len() > self.keep {
            let mut last: Vec<u64> = self.traces.values().map(|trace| trace.next).collect();
            last.sort_unstable();
            let oldest = last[last.len() - self.keep];
            self.traces.retain(|_, trace| trace.next >= oldest);
        }
    }

    /// How many spans have come.
    pub fn spans(&self) -> u64 {
        self.next
    }

    /// The traces, the one that began last first.
    pub fn newest(&self) -> Vec<&Arrival> {
        let mut traces: Vec<&Arrival> = self.traces.values().collect();
        traces.sort_by_key(|trace| std::cmp::Reverse((trace.start, trace.id)));
        traces
    }

    /// The trace with this id, if it is still known.
    pub fn get(&self, id: &TraceId) -> Option<&Arrival> {
        self.traces.get(id)
    }
}

#[cfg(test)]
pub mod tests {
    use std::sync::Arc;

    use otlp::{Receiver, Store};

    use super::*;

    /// A store with a receiver, to which OTLP is sent as a program would.
    pub struct Feed {
        receiver: Receiver,
        client: reqwest::Client,
    }

    impl Feed {
        pub async fn new(limit: usize) -> Self {
            let store = Arc::new(Store::with_limit(limit));
            let address = (std::net::Ipv4Addr::LOCALHOST, 0).into();
            Self {
                receiver: Receiver::bind_with(address, store).await.unwrap(),
                client: reqwest::Client::builder().no_proxy().build().unwrap(),
            }
        }

        pub fn store(&self) -> Arc<Store> {
            self.receiver.store()
        }

        pub fn endpoint(&self) -> String {
            self.receiver.endpoint()
        }

        /// Sends spans of `service`.
        pub async fn spans(&self, service: &str, spans: &[serde_json::Value]) {
            send(&self.client, &self.endpoint(), service, spans).await;
        }

        /// Sends log records.
        pub async fn logs(&self, records: &[serde_json::Value]) {
            let body = serde_json::json!({ "resourceLogs": [{
                "resource": { "attributes": [] },
                "scopeLogs": [{ "scope": {}, "logRecords": records }],
            }]});
            post(&self.client, format!("{}/v1/logs", self.endpoint()), &body).await;
        }
    }

    pub async fn send(
        client: &reqwest::Client,
        endpoint: &str,
        service: &str,
        spans: &[serde_json::Value],
    ) {
        let service = serde_json::json!({
            "key": "service.name", "value": { "stringValue": service },
        });
        let body = serde_json::json!({ "resourceSpans": [{
            "resource": { "attributes": [service] },
            "scopeSpans": [{ "scope": { "name": "a-scope" }, "spans": spans }],
        }]});
        post(client, format!("{endpoint}/v1/traces"), &body).await;
    }

    async fn post(client: &reqwest::Client, url: String, body: &serde_json::Value) {
        let sent = client
            .post(url)
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(sent.status(), 200, "{}", sent.text().await.unwrap());
    }

    /// A span as OTLP's JSON has it. `parent` 0 is none; times are milliseconds.
    pub fn span(
        (trace, id, parent): (u64, u64, u64),
        name: &str,
        kind: u8,
        (start, end): (u64, u64),
    ) -> serde_json::Value {
        let parent = if parent == 0 {
            String::new()
        } else {
            format!("{parent:016x}")
        };
        serde_json::json!({
            "traceId": format!("{trace:032x}"),
            "spanId": format!("{id:016x}"),
            "parentSpanId": parent,
            "name": name,
            "kind": kind,
            "startTimeUnixNano": (start * 1_000_000).to_string(),
            "endTimeUnixNano": (end * 1_000_000).to_string(),
        })
    }

    #[tokio::test]
    async fn a_trace_is_called_after_its_root_and_whole_when_that_is_there_and_quiet() {
        let feed = Feed::new(100).await;
        let mut arrivals = Arrivals::new(10);
        let start = Instant::now();
        feed.spans("a", &[span((1, 2, 1), "child", 3, (20, 30))])
            .await;
        arrivals.look(&feed.store().snapshot(), start);
        let trace = arrivals.newest()[0].clone();
        assert_eq!((trace.root.name.as_str(), trace.spans), ("child", 1));
        assert!(!trace.is_whole(start + QUIET));
        assert!(trace.is_whole(start + PATIENCE));

        let later = start + Duration::from_secs(1);
        feed.spans("b", &[span((1, 1, 0), "root", 2, (10, 40))])
            .await;
        arrivals.look(&feed.store().snapshot(), later);
        let trace = arrivals.newest()[0].clone();
        assert_eq!((trace.root.name.as_str(), trace.spans), ("root", 2));
        assert_eq!(trace.services, ["a", "b"]);
        assert_eq!((trace.start, trace.end), (10_000_000, 40_000_000));
        assert!(!trace.is_whole(later));
        assert!(trace.is_whole(later + QUIET));
        // Nothing is counted twice.
        arrivals.look(&feed.store().snapshot(), later);
        assert_eq!((arrivals.newest()[0].spans, arrivals.spans()), (2, 2));
    }

    #[tokio::test]
    async fn what_the_store_forgot_is_forgotten_and_so_are_the_oldest() {
        let feed = Feed::new(3).await;
        let mut arrivals = Arrivals::new(2);
        let now = Instant::now();
        let one = |n: u64| span((n, n, 0), "x", 1, (n, n + 1));
        feed.spans("a", &[one(1), one(2), one(3)]).await;
        arrivals.look(&feed.store().snapshot(), now);
        let ids = |arrivals: &Arrivals| -> Vec<u64> {
            let newest = arrivals.newest();
            newest.iter().map(|trace| trace.start / 1_000_000).collect()
        };
        assert_eq!(ids(&arrivals), [3, 2]);
        // More come than the store keeps: those in between were never seen.
        feed.spans("a", &[one(4), one(5), one(6), one(7), one(8)])
            .await;
        arrivals.look(&feed.store().snapshot(), now);
        assert_eq!(ids(&arrivals), [8, 7]);
        assert_eq!(arrivals.spans(), 8);
        let again = vec![span((9, 9, 0), "x", 1, (9, 9)); 3];
        feed.spans("a", &again).await;
        arrivals.look(&feed.store().snapshot(), now);
        assert_eq!(ids(&arrivals), [9]);
    }
}
