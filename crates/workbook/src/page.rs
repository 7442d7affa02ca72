//! The page of `cargo workbook run`: the traces as they come, and what they lack.
//!
//! It is served on 127.0.0.1 alone. A site elsewhere can make a browser send requests to
//! it: one that names another host is refused (a name that was made to lead here), and a
//! request is made only for a POST that comes from the page itself.

mod asked;
mod view;

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, Query, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, uri::Authority},
    middleware::{Next, from_fn},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::{get, post},
};
use futures_util::stream;
use otlp::{Store, TraceId};
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch},
};

pub use self::asked::Delays;
use self::{
    asked::{Asked, Found, Mark},
    view::{Cut, TraceLine},
};
use crate::arrivals::Arrivals;

/// The page itself; the nonce of its style and script is put in for each answer.
const HTML: &str = include_str!("page.html");
const NONCE: &str = "{{nonce}}";

/// How many traces are listed.
const TRACES: usize = 60;

/// How many requests of the page's are remembered.
const ASKED: usize = 20;

/// How many of them may wait for their turn.
const WAITING: usize = 8;

/// How many browsers may listen at once. Each of them costs a task and what the socket
/// buffers: who reads slowly is sent the newest state next, not those in between.
const LISTENERS: usize = 24;

/// How often the state is told, at most.
const PACE: Duration = Duration::from_millis(200);

/// How often a listener without news is sent something, so that a lost one is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a path may be.
pub const PATH: usize = 2000;

/// What the page is about.
pub struct About {
    /// What runs, such as `solution-12`.
    pub step: String,
    /// The step whose contract requests are compared with, unless another is chosen.
    pub contract: u8,
    /// The steps that may be chosen, with their titles.
    pub contracts: Vec<(u8, String)>,
    /// The routes that have a button.
    pub routes: Vec<String>,
    /// Addresses, with their names.
    pub addresses: Vec<(String, String)>,
    /// Where requests go: `http://127.0.0.1:8080`.
    pub tier1: String,
    /// Whether tier1 is one that exports.
    pub exports: bool,
    /// How long tier1's spans are waited for.
    pub patience: Duration,
    /// How long tier1 waits where it is slow.
    pub delays: Delays,
    /// The workspace, in which the snapshots are.
    pub workspace: PathBuf,
}

impl About {
    /// How long tier1's spans are waited for if its exporter has a delay of `delay`.
    pub fn patience(delay: Duration) -> Duration {
        (asked::PATIENCE + delay).min(Duration::from_secs(15))
    }
}

/// What listeners are told.
#[derive(Clone)]
enum Told {
    /// The state, as JSON.
    State(Arc<str>),
    /// The command ends.
    End,
}

struct Shared {
    about: About,
    /// Names this run: after a restart numbers begin anew.
    run: String,
    store: Arc<Store>,
    client: reqwest::Client,
    /// One request at a time.
    turn: tokio::sync::Mutex<()>,
    waiting: Arc<Semaphore>,
    listeners: Arc<Semaphore>,
    asked: Mutex<Requests>,
    /// Something about `asked` has changed.
    news: Notify,
    told: watch::Sender<Told>,
}

#[derive(Default)]
struct Requests {
    count: u64,
    last: VecDeque<Asked>,
}

/// The running page. It ends with the runtime that it was started on.
pub struct Page {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Page {
    /// Serves the page on `port` of 127.0.0.1, or on another if that is taken.
    ///
    /// # Errors
    /// If no port can be bound or no client be made.
    pub async fn start(about: About, store: Arc<Store>, port: u16) -> std::io::Result<Self> {
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?,
        };
        let address = listener.local_addr()?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // As from callers who don't know each other.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(std::io::Error::other)?;
        let shared = Arc::new(Shared {
            about,
            run: random(),
            store,
            client,
            turn: tokio::sync::Mutex::default(),
            waiting: Arc::new(Semaphore::new(WAITING)),
            listeners: Arc::new(Semaphore::new(LISTENERS)),
            asked: Mutex::default(),
            news: Notify::new(),
            told: watch::Sender::new(Told::State("{}".into())),
        });
        tokio::spawn(tell(Arc::clone(&shared)));
        let router = router(Arc::clone(&shared));
        tokio::spawn(async move {
            // Never ends by itself: a failed accept is retried.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, shared })
    }

    /// Where it is: `http://127.0.0.1:8088`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Tells all who listen that the command ends. Nobody is waited for.
    pub fn end(&self) {
        self.shared.told.send_replace(Told::End);
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/api/events", get(events))
        .route("/api/traces/{id}", get(trace))
        .route("/api/logs", get(logs))
        .route("/api/ask", post(ask))
        .route("/api/asked/{id}/missing", get(missing))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is nothing here\n") })
        .layer(DefaultBodyLimit::max(2 * PATH + 1024))
        .layer(from_fn(guard))
        .with_state(shared)
}

/// Refuses what doesn't come from this machine's own browser, and forbids what the page
/// has no need of.
async fn guard(request: Request, next: Next) -> Response {
    let mut response = match refusal(&request) {
        Some(why) => (StatusCode::FORBIDDEN, format!("{why}\n")).into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(
        "cross-origin-opener-policy",
        HeaderValue::from_static("same-origin"),
    );
    headers.insert(
        "cross-origin-resource-policy",
        HeaderValue::from_static("same-origin"),
    );
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(
            "default-src 'none'; frame-ancestors 'none'",
        ));
    response
}

/// Why a request is not answered.
fn refusal(request: &Request) -> Option<&'static str> {
    let host = match host(request.headers()) {
        Some(host) if is_loopback(&host) => host,
        _ => return Some("this page answers as 127.0.0.1 or localhost only"),
    };
    // Of a request that names the whole address, that counts.
    let named = request.uri().authority();
    if named.is_some_and(|named| !is_loopback(named)) {
        return Some("this page answers as 127.0.0.1 or localhost only");
    }
    // Another site can't read an answer, but it could hold the places of listeners.
    let site = request.headers().get("sec-fetch-site");
    let is_other = site.is_some_and(|site| site != "same-origin" && site != "none");
    if is_other && request.uri().path() != "/" {
        return Some("this is answered to the page itself only");
    }
    if request.method().is_safe() {
        return None;
    }
    let origin = request.headers().get(header::ORIGIN);
    let is_own = origin
        .and_then(|origin| origin.to_str().ok())
        .and_then(|origin| origin.strip_prefix("http://"))
        .is_some_and(|origin| origin.eq_ignore_ascii_case(host.as_str()));
    (!is_own).then_some("a request is made from the page itself only")
}

fn host(headers: &HeaderMap) -> Option<Authority> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next()?.to_str().ok()?.parse().ok()?;
    hosts.next().is_none().then_some(host)
}

fn is_loopback(authority: &Authority) -> bool {
    let is_plain = !authority.as_str().contains('@');
    let host = authority.host().to_ascii_lowercase();
    is_plain && ["127.0.0.1", "localhost", "[::1]"].contains(&host.as_str())
}

/// Something nobody can guess.
fn random() -> String {
    format!("{:032x}", rand::random::<u128>())
}

async fn page() -> Response {
    let nonce = random();
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy),
    ];
    (headers, HTML.replace(NONCE, &nonce)).into_response()
}

/// What is told whenever something has changed.
#[derive(Serialize)]
struct StateView<'a> {
    run: &'a str,
    step: &'a str,
    contract: u8,
    contracts: &'a [(u8, String)],
    routes: &'a [String],
    addresses: &'a [(String, String)],
    traces: Vec<TraceLine>,
    asked: Option<AskedView>,
    /// How many spans and log records have come.
    spans: u64,
    logs: u64,
}

/// The last request of the page's.
#[derive(Serialize)]
struct AskedView {
    answer: asked::Answer,
    waiting: bool,
    traces: Vec<String>,
}

/// Tells the state, until the command ends.
async fn tell(shared: Arc<Shared>) {
    let mut changes = shared.store.subscribe();
    let mut arrivals = Arrivals::new(TRACES);
    loop {
        changes.borrow_and_update();
        let state = shared.state(&mut arrivals);
        let ended = !shared.told.send_if_modified(|told| match told {
            Told::End => false,
            Told::State(_) => {
                *told = Told::State(state.into());
                true
            }
        });
        if ended {
            return;
        }
        tokio::time::sleep(PACE).await;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = shared.news.notified() => {}
        }
    }
}

impl Shared {
    fn state(&self, arrivals: &mut Arrivals) -> String {
        let logs = {
            let snapshot = self.store.snapshot();
            arrivals.look(&snapshot, Instant::now());
            snapshot.first_log() + snapshot.logs().len() as u64
        };
        let mut cut = Cut::default();
        let traces = arrivals.newest();
        let traces = traces.iter().map(|trace| TraceLine::new(trace, &mut cut));
        let state = StateView {
            run: &self.run,
            step: &self.about.step,
            contract: self.about.contract,
            contracts: &self.about.contracts,
            routes: &self.about.routes,
            addresses: &self.about.addresses,
            traces: traces.collect(),
            asked: self.asked().last.back().map(|asked| AskedView {
                answer: asked.answer.clone(),
                waiting: matches!(asked.found, Found::Waiting),
                traces: asked.traces().iter().map(TraceId::to_string).collect(),
            }),
            spans: arrivals.spans(),
            logs,
        };
        // Nothing in it can't be written: no map, no number that JSON doesn't have.
        serde_json::to_string(&state).unwrap_or_default()
    }

    fn asked(&self) -> MutexGuard<'_, Requests> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one request and finds out which spans are its own. `answered` hears the
    /// answer as soon as it is there.
    async fn make(&self, path: String, answered: oneshot::Sender<asked::Answer>) {
        let _turn = self.turn.lock().await;
        let id = {
            let mut asked = self.asked();
            asked.count += 1;
            asked.count
        };
        let mark = Mark::new(&self.store);
        let answer = asked::ask(&self.client, &self.about.tier1, id, path).await;
        {
            let mut asked = self.asked();
            asked.last.push_back(Asked {
                answer: answer.clone(),
                found: Found::Waiting,
            });
            if asked.last.len() > ASKED {
                asked.last.pop_front();
            }
        }
        let _ = answered.send(answer);
        self.news.notify_one();
        let About {
            exports, patience, ..
        } = self.about;
        let found = asked::collect(&self.store, &mark, exports, patience).await;
        for asked in &mut self.asked().last {
            if asked.answer.id == id {
                asked.found = found.clone();
            }
        }
        self.news.notify_one();
    }
}

/// A state at once, and then each newer one.
async fn events(State(shared): State<Arc<Shared>>) -> Response {
    let Ok(permit) = Arc::clone(&shared.listeners).try_acquire_owned() else {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "too many browsers listen already: close some\n",
        )
            .into_response();
    };
    struct Listener {
        told: watch::Receiver<Told>,
        begun: bool,
        ended: bool,
        _permit: OwnedSemaphorePermit,
    }
    let listener = Listener {
        told: shared.told.subscribe(),
        begun: false,
        ended: false,
        _permit: permit,
    };
    let stream = stream::unfold(listener, |mut listener| async {
        if listener.ended {
            return None;
        }
        if listener.begun {
            listener.told.changed().await.ok()?;
        }
        listener.begun = true;
        let told = listener.told.borrow_and_update().clone();
        let event = match told {
            Told::State(state) => Event::default().data(&*state),
            Told::End => {
                listener.ended = true;
                // A browser passes over an event without data.
                Event::default().event("end").data("the command ends")
            }
        };
        Some((Ok::<_, Infallible>(event), listener))
    });
    Sse::new(stream)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response()
}

async fn trace(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    let snapshot = shared.store.snapshot();
    let view = trace_id(&id).and_then(|id| view::trace(&snapshot, id));
    match view {
        Some(view) => Json(view).into_response(),
        None => (StatusCode::NOT_FOUND, "this trace is not here (any more)\n").into_response(),
    }
}

/// 32 hex digits.
fn trace_id(text: &str) -> Option<TraceId> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = is_hex.then(|| u128::from_str_radix(text, 16))?;
    Some(TraceId(number.ok()?.to_be_bytes()))
}

async fn logs(State(shared): State<Arc<Shared>>) -> Response {
    Json(view::loose_logs(&shared.store.snapshot())).into_response()
}

#[derive(Deserialize)]
struct Ask {
    path: String,
}

async fn ask(State(shared): State<Arc<Shared>>, Json(Ask { path }): Json<Ask>) -> Response {
    let path = match crate::path(&path) {
        Ok(path) if path.len() <= PATH => path,
        Ok(_) => {
            let why = format!("the path has more than {PATH} characters\n");
            return (StatusCode::BAD_REQUEST, why).into_response();
        }
        Err(why) => return (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    };
    let Ok(permit) = Arc::clone(&shared.waiting).try_acquire_owned() else {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "too many requests wait for their turn already\n",
        )
            .into_response();
    };
    let (sender, answer) = oneshot::channel();
    // In a task of its own: if the browser goes away, its spans come nevertheless.
    tokio::spawn(async move {
        shared.make(path, sender).await;
        drop(permit);
    });
    match answer.await {
        Ok(answer) => Json(answer).into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the command ends\n").into_response(),
    }
}

#[derive(Deserialize)]
struct Against {
    step: u8,
}

async fn missing(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<u64>,
    Query(Against { step }): Query<Against>,
) -> Response {
    let asked = shared
        .asked()
        .last
        .iter()
        .find(|asked| asked.answer.id == id)
        .cloned();
    let Some(asked) = asked else {
        return (StatusCode::NOT_FOUND, "this request is forgotten\n").into_response();
    };
    // It reads files.
    let verdict = tokio::task::spawn_blocking(move || {
        asked::missing(&shared.about.workspace, step, shared.about.delays, &asked)
    });
    match verdict.await {
        Ok(verdict) => Json(verdict).into_response(),
        Err(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "it could not be compared\n",
        )
            .into_response(),
    }
}

#[cfg(test)]
mod tests;
