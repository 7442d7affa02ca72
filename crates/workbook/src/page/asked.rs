//! Requests that the page makes, one after another, so that it is known which spans belong
//! to which; and what these lack of a step's contract.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use lab::{Diagnosis, Failure, Recording, Role};
use otlp::{Snapshot, Span, SpanKind, Store, TraceId, Value};
use serde::Serialize;

use super::view::Cut;
use crate::course;

/// Nothing has come for so long: the request's spans are all here. The services around
/// tier1 export each 100 ms, tier1 each 50.
const QUIET: Duration = Duration::from_millis(500);

/// How long spans are waited for after the answer, if none of tier1's comes.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// How long spans are waited for if they don't stop.
const NO_END: Duration = Duration::from_secs(6);

/// How many spans of one request are compared.
const SPANS: usize = 500;

/// How many findings are told, the others are counted.
const FINDINGS: usize = 12;

/// How much of an answer's body is shown, in bytes.
const BODY: usize = 16 * 1024;

/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(30);

/// What tier1 answered.
#[derive(Clone, Serialize)]
pub struct Answer {
    /// The number of the request.
    pub id: u64,
    pub path: String,
    /// 0 if there was no answer.
    pub status: u16,
    /// The body, or why there was no answer.
    pub body: String,
    /// Whether the body was longer.
    pub cut: bool,
    pub took: String,
}

/// A request of the page's.
#[derive(Clone)]
pub struct Asked {
    pub answer: Answer,
    pub found: Found,
}

/// Which spans belong to a request.
#[derive(Clone)]
pub enum Found {
    /// They are still coming.
    Waiting,
    /// These do.
    Spans(Arc<Recording>),
    /// It can't be told, and why.
    Unclear(String),
}

impl Asked {
    /// The traces of the request: first those that tier1 has a part in, of these the one
    /// with most spans.
    pub fn traces(&self) -> Vec<TraceId> {
        let Found::Spans(recording) = &self.found else {
            return Vec::new();
        };
        let mut counts: HashMap<TraceId, (bool, usize)> = HashMap::new();
        for span in &recording.spans {
            let (own, count) = counts.entry(span.trace_id).or_default();
            *own |= is_own(span);
            *count += 1;
        }
        let mut traces: Vec<_> = counts.into_iter().collect();
        traces.sort_by_key(|&(id, count)| (std::cmp::Reverse(count), id));
        traces.into_iter().map(|(id, _)| id).collect()
    }
}

/// Where the store stood when a request was made.
pub struct Mark {
    spans: u64,
    logs: u64,
    requests: u64,
    /// Nanoseconds since the Unix epoch.
    at: u64,
}

impl Mark {
    /// Now.
    pub fn new(store: &Store) -> Self {
        let snapshot = store.snapshot();
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let number = |first: u64, length: usize| first + length as u64;
        Self {
            spans: number(snapshot.first_span(), snapshot.spans().len()),
            logs: number(snapshot.first_log(), snapshot.logs().len()),
            requests: number(snapshot.first_request(), snapshot.requests().len()),
            at: at.map_or(0, |at| u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)),
        }
    }
}

/// Makes the request `path` to `url`.
pub async fn ask(client: &reqwest::Client, url: &str, id: u64, path: String) -> Answer {
    let started = Instant::now();
    let got = tokio::time::timeout(ANSWER, get(client, &format!("{url}{path}"))).await;
    let took = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let (status, body, cut) = match got {
        Ok(Ok(got)) => got,
        Ok(Err(reason)) => (0, format!("no answer: {reason}"), false),
        Err(_) => (0, format!("no answer within {ANSWER:?}"), false),
    };
    Answer {
        id,
        path,
        status,
        body: Cut::default().text(&body),
        cut,
        took: otlp::duration_text(took),
    }
}

async fn get(client: &reqwest::Client, url: &str) -> Result<(u16, String, bool), String> {
    let root = |error: reqwest::Error| {
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        cause.to_string()
    };
    let mut response = client.get(url).send().await.map_err(root)?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(root)? {
        body.extend_from_slice(&chunk);
        if body.len() > BODY {
            body.truncate(BODY);
            return Ok((status, String::from_utf8_lossy(&body).into_owned(), true));
        }
    }
    Ok((status, String::from_utf8_lossy(&body).into_owned(), false))
}

/// Waits until the spans of the request that was made at `mark` are here. `own_come` says
/// whether tier1 is one that exports; if nothing of it comes within `patience`, nothing will.
pub async fn collect(store: &Store, mark: &Mark, own_come: bool, patience: Duration) -> Found {
    let started = Instant::now();
    let mut changes = store.subscribe();
    loop {
        changes.borrow_and_update();
        let is_enough = {
            let snapshot = store.snapshot();
            let mut new = since(snapshot.spans(), snapshot.first_span(), mark.spans).iter();
            !own_come || new.any(|span| span.kind == SpanKind::Server && is_own(span))
        };
        let left = (patience + NO_END).saturating_sub(started.elapsed());
        let wait = if is_enough {
            QUIET.min(left)
        } else {
            patience
                .saturating_sub(started.elapsed())
                .max(QUIET)
                .min(left)
        };
        match tokio::time::timeout(wait, changes.changed()).await {
            // Something came, and there may be more.
            Ok(Ok(())) if !left.is_zero() => {}
            _ => return belonging(&store.snapshot(), mark),
        }
    }
}

fn is_own(span: &Span) -> bool {
    !lab::is_around(span.service())
}

/// Those of `all`, the first of which has the number `first`, from number `from` on.
fn since<T>(all: &[T], first: u64, from: u64) -> &[T] {
    let skipped = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
    all.get(skipped..).unwrap_or_default()
}

/// The spans that came since `mark`, if they are one request's.
fn belonging(snapshot: &Snapshot, mark: &Mark) -> Found {
    let new = since(snapshot.spans(), snapshot.first_span(), mark.spans);
    // Traces that had begun before are others', who were still at it.
    let before = &snapshot.spans()[..snapshot.spans().len() - new.len()];
    let candidates: HashSet<TraceId> = new.iter().map(|span| span.trace_id).collect();
    let mut others: HashSet<TraceId> = before
        .iter()
        .map(|span| span.trace_id)
        .filter(|id| candidates.contains(id))
        .collect();
    others.extend(new.iter().filter_map(|span| {
        let is_earlier = span.start_unix_nanos < mark.at;
        is_earlier.then_some(span.trace_id)
    }));
    let spans = new.iter().filter(|span| !others.contains(&span.trace_id));
    let spans: Vec<&Span> = spans.collect();
    if let Some(why) = several(&spans) {
        return Found::Unclear(why);
    }
    if spans.len() > SPANS {
        return Found::Unclear(format!("more than {SPANS} spans came with it"));
    }
    let spans: Vec<Span> = spans.into_iter().cloned().collect();
    let logs = since(snapshot.logs(), snapshot.first_log(), mark.logs).iter();
    let own = |id: &TraceId| !others.contains(id) && candidates.contains(id);
    let requests = since(snapshot.requests(), snapshot.first_request(), mark.requests);
    Found::Spans(Arc::new(Recording {
        logs: logs
            .filter(|log| log.trace_id.as_ref().is_some_and(own))
            .take(SPANS)
            .cloned()
            .collect(),
        // For what is wrong with an address: the same in each.
        requests: requests.iter().take(SPANS).cloned().collect(),
        spans,
        exit: None,
    }))
}

/// Why `spans` are not one request's. One makes at most one trace in which tier1 answers,
/// one in which tier2 does, and one in which a message is processed.
fn several(spans: &[&Span]) -> Option<String> {
    let ids: HashSet<_> = spans
        .iter()
        .map(|span| (span.trace_id, span.span_id))
        .collect();
    let is_top = |span: &Span| {
        let parent = span.parent_span_id;
        parent.is_none_or(|parent| !ids.contains(&(span.trace_id, parent)))
    };
    let traces_with = |wanted: &dyn Fn(&Span) -> bool| {
        let found = spans.iter().filter(|span| wanted(span));
        found
            .map(|span| span.trace_id)
            .collect::<HashSet<_>>()
            .len()
    };
    let answered = |span: &Span| span.kind == SpanKind::Server && is_own(span) && is_top(span);
    let asked = |span: &Span| span.kind == SpanKind::Server && !is_own(span);
    let processed = |span: &Span| span.kind == SpanKind::Consumer;
    let counts = [
        ("tier1 answered", traces_with(&answered)),
        ("tier2 answered", traces_with(&asked)),
        ("a message was processed", traces_with(&processed)),
    ];
    let (what, count) = counts.into_iter().find(|(_, count)| *count > 1)?;
    Some(format!(
        "other requests came meanwhile: there are {count} traces in which {what}, and it can't \
         be told which one is this request's"
    ))
}

/// What a request lacks.
#[derive(Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Its spans are still coming.
    Waiting,
    /// It was not compared.
    NotCompared {
        /// Why.
        why: String,
    },
    /// It was.
    Compared {
        /// With which file.
        snapshot: String,
        /// What is missing or wrong; nothing if it is as the step wants it.
        findings: Vec<FindingView>,
        /// How many findings are not told.
        more: usize,
        /// What to know besides.
        note: Option<String>,
    },
}

/// A [`Diagnosis`].
#[derive(Serialize)]
pub struct FindingView {
    id: String,
    sentence: String,
    detail: String,
    cause: Option<String>,
    next: Option<String>,
    book: Option<String>,
}

/// What SLOW_DELAY_MS is, which a span tells.
#[derive(Clone, Copy)]
pub struct Delays {
    /// In this system.
    pub here: Duration,
    /// In a check's, and so in the snapshots.
    pub in_checks: Duration,
}

/// Compares a request with what step `step` wants of it.
pub fn missing(workspace: &Path, step: u8, delays: Delays, asked: &Asked) -> Verdict {
    let not = |why: String| Verdict::NotCompared { why };
    let recording = match &asked.found {
        Found::Waiting => return Verdict::Waiting,
        Found::Unclear(why) => return not(why.clone()),
        Found::Spans(recording) => recording,
    };
    let path = &asked.answer.path;
    let Some(name) = course::snapshot_of(path) else {
        return not(format!("no step has a snapshot of {path}"));
    };
    let snapshot = format!("steps/step-{step:02}/tests/snapshots/check__{name}.snap");
    if !workspace.join(&snapshot).exists() {
        return not(format!("step {step:02} has no snapshot of {path}"));
    }
    let (recording, note) = as_in_a_check(recording, delays);
    let findings = match lab::judge(workspace, step, Role::Tier1, name, &recording) {
        Ok(()) => Vec::new(),
        Err(Failure::Diagnosis(mut first)) => {
            let more = std::mem::take(&mut first.more);
            std::iter::once(*first).chain(more).collect()
        }
        Err(Failure::Lab(error)) => return not(error.to_string()),
    };
    let more = findings.len().saturating_sub(FINDINGS);
    let chapter = chapter(workspace, step);
    let mut cut = Cut::default();
    let findings = findings.into_iter().take(FINDINGS);
    Verdict::Compared {
        snapshot,
        findings: findings
            .map(|finding| FindingView::new(finding, step, chapter.as_deref(), &mut cut))
            .collect(),
        more,
        note,
    }
}

impl FindingView {
    fn new(finding: Diagnosis, step: u8, chapter: Option<&str>, cut: &mut Cut) -> Self {
        let book = chapter.map(|file| format!("{file}#{}", finding.id.to_lowercase()));
        let next = finding.next.unwrap_or_else(|| {
            format!("`cargo test -p step-{step:02}` names the file and the TODO")
        });
        Self {
            id: cut.text(&finding.id),
            sentence: cut.text(&finding.sentence),
            detail: cut.text(&finding.detail),
            cause: finding.cause.map(|cause| cut.text(&cause)),
            next: Some(cut.text(&next)),
            book: finding.book.or(book),
        }
    }
}

/// The file of a step's chapter.
fn chapter(workspace: &Path, step: u8) -> Option<String> {
    let start = format!("{step:02}-");
    let entries = std::fs::read_dir(workspace.join("book/src")).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names = names.filter(|name| name.starts_with(&start) && name.ends_with(".md"));
    names.next().map(|name| format!("book/src/{name}"))
}

/// The recording as a check would have made it, and what is different for that. Without
/// the events of what was slow by chance (SLOW_CHANCE), which no snapshot has and which
/// did wait; and a wait of this system's SLOW_DELAY_MS is one of a check's.
fn as_in_a_check(recording: &Recording, delays: Delays) -> (Recording, Option<String>) {
    const DELAYED: &str = "app.delayed";
    const DELAY_MS: &str = "app.delay_ms";
    let millis = |delay: Duration| i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
    let (here, in_checks) = (millis(delays.here), millis(delays.in_checks));
    let mut by_chance = Vec::new();
    let mut notes = Vec::new();
    let mut changed = recording.clone();
    for span in &mut changed.spans {
        let lasted = i64::try_from(span.duration_nanos() / 1_000_000).unwrap_or(i64::MAX);
        // Elsewhere the delay is `/slow`'s own.
        let may_be_chance = ["do_queue", "do_saas"].contains(&span.name.as_str());
        let count = span.events.len();
        span.events.retain(|event| {
            let delay = event.attribute(DELAY_MS).and_then(Value::as_int);
            let waited = delay.is_some_and(|delay| delay > 0 && lasted >= delay);
            !(may_be_chance && event.name == DELAYED && waited)
        });
        if span.events.len() < count {
            by_chance.push(span.name.clone());
        }
        let events = span.events.iter_mut().filter(|event| event.name == DELAYED);
        for attribute in events.flat_map(|event| &mut event.attributes) {
            let is_ours = attribute.key == DELAY_MS && attribute.value == Value::Int(here);
            if is_ours && here != in_checks {
                attribute.value = Value::Int(in_checks);
                notes.push(format!(
                    "SLOW_DELAY_MS is {here} here and {in_checks} in a check: {DELAY_MS} was \
                     compared as if it were the same."
                ));
            }
        }
    }
    if !by_chance.is_empty() {
        notes.push(format!(
            "{} waited by chance (SLOW_CHANCE): the event {DELAYED} that says so was left out \
             of the comparison.",
            by_chance.join(" and ")
        ));
    }
    notes.dedup();
    (changed, (!notes.is_empty()).then(|| notes.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::arrivals::tests::{Feed, span};

    const SERVER: u8 = 2;
    const CONSUMER: u8 = 5;

    /// Milliseconds since the Unix epoch, after any mark of this test.
    fn soon() -> u64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        u64::try_from(now.unwrap().as_millis()).unwrap() + 1000
    }

    fn names(found: &Found) -> Vec<&str> {
        match found {
            Found::Spans(recording) => {
                let spans = recording.spans.iter();
                spans.map(|span| span.name.as_str()).collect()
            }
            Found::Waiting => vec!["waiting"],
            Found::Unclear(why) => vec!["unclear", why],
        }
    }

    #[tokio::test]
    async fn what_had_begun_before_is_another_requests() {
        let feed = Feed::new(100).await;
        let store = feed.store();
        let at = soon();
        // One trace has begun, another began before and shows only afterwards.
        feed.spans(
            "tier2-service",
            &[span((1, 2, 1), "begun", SERVER, (at, at + 1))],
        )
        .await;
        let mark = Mark::new(&store);
        let earlier = span((2, 1, 0), "earlier", SERVER, (at - 5000, at + 1));
        let begun = span((1, 1, 0), "begun", SERVER, (at, at + 9));
        feed.spans("tier1-service", &[begun, earlier]).await;
        feed.spans(
            "tier1-service",
            &[span((3, 1, 0), "GET /fast", SERVER, (at, at + 9))],
        )
        .await;
        feed.spans(
            "consumer-service",
            &[span((4, 1, 0), "process signups", CONSUMER, (at, at + 9))],
        )
        .await;
        let found = collect(&store, &mark, true, PATIENCE).await;
        assert_eq!(names(&found), ["GET /fast", "process signups"]);
        let asked = Asked {
            answer: Answer {
                id: 1,
                path: "/fast".to_owned(),
                status: 200,
                body: String::new(),
                cut: false,
                took: String::new(),
            },
            found,
        };
        let traces: Vec<u8> = asked.traces().iter().map(|id| id.0[15]).collect();
        assert_eq!(traces, [3, 4], "tier1's own first");
    }

    #[tokio::test]
    async fn two_requests_at_once_are_not_told_apart() {
        let feed = Feed::new(100).await;
        let store = feed.store();
        let at = soon();
        for (trace, service, kind, what) in [
            (10, "tier1-service", SERVER, "tier1 answered"),
            (20, "tier2-service", SERVER, "tier2 answered"),
            (30, "consumer-service", CONSUMER, "a message was processed"),
        ] {
            let mark = Mark::new(&store);
            let one = span((trace, 1, 0), "one", kind, (at, at + 1));
            let two = span((trace + 1, 1, 0), "two", kind, (at, at + 1));
            feed.spans(service, &[one, two]).await;
            let found = belonging(&store.snapshot(), &mark);
            let Found::Unclear(why) = found else {
                panic!("{:?}", names(&found));
            };
            assert!(
                why.contains("2 traces in which") && why.contains(what),
                "{why}"
            );
        }
    }

    #[tokio::test]
    async fn nothing_of_tier1_is_not_waited_for_long_and_too_much_is_not_compared() {
        let feed = Feed::new(10_000).await;
        let store = feed.store();
        let mark = Mark::new(&store);
        let patience = Duration::from_millis(600);
        let found = collect(&store, &mark, true, patience).await;
        assert_eq!(names(&found), Vec::<&str>::new());
        let at = soon();
        let many: Vec<_> = (1..=SPANS as u64 + 1)
            .map(|id| span((1, id, 0), "x", 1, (at, at)))
            .collect();
        feed.spans("tier1-service", &many).await;
        let found = belonging(&store.snapshot(), &mark);
        assert_eq!(
            names(&found),
            ["unclear", "more than 500 spans came with it"]
        );
    }

    #[tokio::test]
    async fn it_is_compared_as_if_it_were_a_check() {
        let feed = Feed::new(100).await;
        let store = feed.store();
        let mark = Mark::new(&store);
        let at = soon();
        let delayed = |id: u64, name: &str, lasted: u64, delay: u64| {
            let mut one = span((1, id, 0), name, 1, (at, at + lasted));
            let delay = serde_json::json!({ "intValue": delay.to_string() });
            one["events"] = serde_json::json!([{
                "timeUnixNano": "1", "name": "app.delayed",
                "attributes": [{ "key": "app.delay_ms", "value": delay }],
            }]);
            one
        };
        let spans = [
            delayed(1, "do_queue", 1500, 1500),
            delayed(2, "do_saas", 1499, 1500),
            delayed(3, "do_tier2", 1500, 1500),
            delayed(4, "do_tier2", 1500, 77),
        ];
        feed.spans("tier1-service", &spans).await;
        let Found::Spans(recording) = belonging(&store.snapshot(), &mark) else {
            panic!("one request");
        };
        let delays = |here: u64| Delays {
            here: Duration::from_millis(here),
            in_checks: Duration::from_millis(300),
        };
        let told = |recording: &Recording| -> Vec<Option<i64>> {
            let spans = recording.spans.iter();
            let first = spans.map(|span| span.events.first()?.attribute("app.delay_ms"));
            first.map(|value| value?.as_int()).collect()
        };
        let (changed, note) = as_in_a_check(&recording, delays(1500));
        // What waited by chance; what says that it waited and did not; `/slow`'s own; and
        // one that says something else than is so.
        assert_eq!(told(&changed), [None, Some(300), Some(300), Some(77)]);
        let note = note.unwrap();
        assert!(
            note.starts_with("SLOW_DELAY_MS is 1500 here and 300 in a check"),
            "{note}"
        );
        assert!(note.contains("do_queue waited by chance"), "{note}");
        assert_eq!(note.matches("SLOW_DELAY_MS").count(), 1, "{note}");

        let (same, note) = as_in_a_check(&recording, delays(2000));
        assert_eq!(told(&same), [None, Some(1500), Some(1500), Some(77)]);
        assert!(!note.unwrap().contains("SLOW_DELAY_MS"));
    }
}
