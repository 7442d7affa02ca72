//! The page's server, asked as a browser would, and as others might.

use std::{collections::HashSet, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::arrivals::tests::{Feed, span};

const DEADLINE: Duration = Duration::from_secs(10);

const DELAYS: Delays = Delays {
    here: Duration::from_millis(1500),
    in_checks: Duration::from_millis(300),
};

/// A page with a receiver, and a tier1 that does as `tier1` does.
struct Site {
    feed: Feed,
    page: Page,
    client: reqwest::Client,
}

impl Site {
    async fn new(tier1: Router) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, tier1).await });
        let feed = Feed::new(20_000).await;
        let about = About {
            step: "solution-02".to_owned(),
            contract: 2,
            contracts: vec![(2, "The first span".to_owned())],
            routes: vec!["/fast".to_owned()],
            addresses: Vec::new(),
            tier1: url,
            exports: true,
            patience: Duration::from_millis(300),
            delays: DELAYS,
            workspace: crate::step::workspace(),
        };
        let page = Page::start(about, feed.store(), 0).await.unwrap();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(DEADLINE)
            .build()
            .unwrap();
        Self { feed, page, client }
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let url = format!("{}{path}", self.page.url());
        answer(self.client.get(url).send().await.unwrap()).await
    }

    fn post(&self, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        self.client
            .post(format!("{}/api/ask", self.page.url()))
            .header("origin", self.page.url())
            .header("content-type", "application/json")
            .body(body)
    }

    async fn ask(&self, path: &str) -> (u16, Value) {
        let body = json!({ "path": path }).to_string();
        answer(self.post(body).send().await.unwrap()).await
    }

    /// What a request lacks, once its spans are there.
    async fn missing(&self, id: u64, step: u8) -> Value {
        let started = Instant::now();
        loop {
            let (status, verdict) = self
                .get(&format!("/api/asked/{id}/missing?step={step}"))
                .await;
            assert_eq!(status, 200, "{verdict}");
            if verdict["verdict"] != "waiting" {
                return verdict;
            }
            assert!(started.elapsed() < DEADLINE, "still waiting");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn answer(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    )
}

/// The status of a request that is written by hand.
async fn status_of(page: &Page, request: &str) -> u16 {
    let mut stream = TcpStream::connect(page.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    String::from_utf8_lossy(&head[9..]).parse().unwrap()
}

/// A listener's stream, event by event.
struct Listener(reqwest::Response, Vec<u8>);

impl Listener {
    async fn new(site: &Site) -> Self {
        let url = format!("{}/api/events", site.page.url());
        let response = site.client.get(url).send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self(response, Vec::new())
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<String> {
        const END: &[u8] = b"\n\n";
        loop {
            if let Some(at) = self.1.windows(END.len()).position(|bytes| bytes == END) {
                let event = self.1.drain(..at + END.len()).collect();
                let event = String::from_utf8(event).unwrap();
                return Some(event.trim_end_matches('\n').to_owned());
            }
            let chunk = tokio::time::timeout(DEADLINE, self.0.chunk()).await;
            self.1.extend(chunk.unwrap().unwrap()?);
        }
    }

    async fn until(&mut self, found: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.next().await.expect("the stream goes on");
            let state: Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
            if found(&state) {
                return state;
            }
        }
    }
}

#[tokio::test]
async fn it_answers_as_this_machine_only() {
    let site = Site::new(Router::new()).await;
    let port = site.page.address.port();
    for (host, status) in [
        (format!("127.0.0.1:{port}"), 200),
        ("localhost:9".to_owned(), 200),
        ("LocalHost".to_owned(), 200),
        (format!("[::1]:{port}"), 200),
        ("evil.example".to_owned(), 403),
        (format!("evil.example:{port}"), 403),
        ("127.0.0.1.evil.example".to_owned(), 403),
        ("localhost.evil.example".to_owned(), 403),
        ("127.0.0.1@evil.example".to_owned(), 403),
        ("evil.example@127.0.0.1".to_owned(), 403),
        ("".to_owned(), 403),
        ("0.0.0.0".to_owned(), 403),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(status_of(&site.page, &request).await, status, "{host}");
    }
    let none = "GET / HTTP/1.0\r\n\r\n";
    assert_eq!(status_of(&site.page, none).await, 403);
    let two = "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n";
    assert!([400, 403].contains(&status_of(&site.page, two).await));
    let whole = "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(status_of(&site.page, whole).await, 403);
}

#[tokio::test]
async fn other_sites_are_answered_the_page_alone() {
    let site = Site::new(Router::new()).await;
    for (from, page, api) in [
        ("cross-site", 200, 403),
        ("same-site", 200, 403),
        ("same-origin", 200, 200),
        ("none", 200, 200),
    ] {
        for (path, expected) in [("/", page), ("/api/events", api), ("/api/logs", api)] {
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: {from}\r\n\r\n");
            let status = status_of(&site.page, &request).await;
            assert_eq!(status, expected, "{path} from {from}");
        }
    }
}

#[tokio::test]
async fn a_request_is_made_for_the_page_itself_only() {
    let site = Site::new(Router::new().route("/fast", get(|| async { "ok" }))).await;
    let url = format!("{}/api/ask", site.page.url());
    let port = site.page.address.port();
    let body = json!({ "path": "/fast" }).to_string();
    for origin in [
        None,
        Some("null".to_owned()),
        Some("http://evil.example".to_owned()),
        Some(format!("http://127.0.0.1:{}", port ^ 1)),
        Some(format!("https://127.0.0.1:{port}")),
        Some(format!("http://localhost:{port}")),
    ] {
        let mut request = site.client.post(&url).body(body.clone());
        request = request.header("content-type", "application/json");
        if let Some(origin) = &origin {
            request = request.header("origin", origin);
        }
        let status = request.send().await.unwrap().status();
        assert_eq!(status, 403, "{origin:?}");
    }
    let form = site.client.post(&url).header("origin", site.page.url());
    let form = form.header("content-type", "text/plain").body(body);
    assert_eq!(form.send().await.unwrap().status(), 415);
    assert_eq!(site.get("/api/ask?path=/fast").await.0, 405);
    assert_eq!(site.get("/nothing").await.0, 404);

    let long = format!("/{}", "a".repeat(PATH));
    for (path, why) in [
        (long.as_str(), "more than 2000"),
        ("fast", "starts with `/`"),
        ("", "starts with `/`"),
        ("http://evil.example/", "starts with `/`"),
        ("/a b", "no spaces"),
        ("/\r\nX: y", "no spaces"),
    ] {
        let (status, said) = site.ask(path).await;
        assert_eq!(status, 400, "{path}");
        assert!(said.as_str().unwrap().contains(why), "{said}");
    }
    assert_eq!(answer(site.post("{}").send().await.unwrap()).await.0, 422);
    assert_eq!(answer(site.post("x").send().await.unwrap()).await.0, 400);
    let huge = "x".repeat(100_000);
    assert_eq!(answer(site.post(huge).send().await.unwrap()).await.0, 413);
    let (status, said) = site.ask("/fast").await;
    assert_eq!(
        (status, &said["status"], &said["body"]),
        (200, &json!(200), &json!("ok"))
    );
}

#[tokio::test]
async fn nothing_but_the_page_itself_runs_in_it() {
    let site = Site::new(Router::new()).await;
    let mut nonces = HashSet::new();
    for _ in 0..2 {
        let response = site.client.get(site.page.url()).send().await.unwrap();
        let policy = response.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let html = response.text().await.unwrap();
        let (_, rest) = policy.split_once("script-src 'nonce-").unwrap();
        let nonce = rest.split_once('\'').unwrap().0;
        assert_eq!(html.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
        nonces.insert(nonce.to_owned());
    }
    assert_eq!(nonces.len(), 2, "a nonce is used once");
    for forbidden in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
    ] {
        assert!(!HTML.contains(forbidden), "{forbidden}");
    }
    // An address that is no name of a format.
    let outside = HTML.matches("//").count() - HTML.matches("http://www.w3.org/2000/svg").count();
    let comments = HTML.lines().filter(|line| line.contains("// ")).count();
    assert_eq!(outside, comments, "the page asks nobody else");
}

#[tokio::test]
async fn a_trace_is_told_with_types_links_and_logs_and_without_tricks() {
    let site = Site::new(Router::new()).await;
    let name = "<img src=x>\u{202e}\u{1b}[2J";
    let mut root = span((1, 1, 0), name, 2, (1000, 1010));
    root["status"] = json!({ "code": 2, "message": "broken" });
    root["attributes"] = json!([
        { "key": "http.response.status_code", "value": { "intValue": "500" } },
        { "key": "a", "value": { "stringValue": "500" } },
    ]);
    root["events"] = json!([{ "timeUnixNano": "1005000000", "name": "half" }]);
    let link = |trace: u64, id: u64| json!({ "traceId": format!("{trace:032x}"), "spanId": format!("{id:016x}") });
    let mut child = span((1, 2, 1), "child", 5, (1002, 1004));
    child["links"] = json!([link(1, 1), link(2, 1), link(3, 1)]);
    let other = span((2, 1, 0), "other", 1, (1, 2));
    site.feed
        .spans("tier1-service", &[child, root, other])
        .await;
    let log = |span: &str, text: &str| {
        json!({
            "traceId": format!("{:032x}", 1), "spanId": span, "timeUnixNano": "1003000000",
            "severityNumber": 17, "body": { "stringValue": text },
        })
    };
    let loose = json!({ "timeUnixNano": "1", "body": { "stringValue": "loose" } });
    let in_span = log(&format!("{:016x}", 2), "in a span");
    let elsewhere = log(&format!("{:016x}", 77), "elsewhere");
    site.feed.logs(&[in_span, elsewhere, loose]).await;

    let (status, trace) = site.get(&format!("/api/traces/{:032x}", 1)).await;
    assert_eq!(status, 200);
    assert_eq!(trace["took"], "10.0 ms");
    let spans = trace["spans"].as_array().unwrap();
    assert_eq!(spans.len(), 2);
    let (root, child) = (&spans[0], &spans[1]);
    assert_eq!(root["name"], "<img src=x>\\u{202e}\\u{1b}[2J");
    assert_eq!((&root["depth"], &child["depth"]), (&json!(0), &json!(1)));
    assert_eq!(
        (&root["status"], &root["description"]),
        (&json!("Error"), &json!("broken"))
    );
    let expected = json!([
        { "key": "http.response.status_code", "type": "int", "value": "500" },
        { "key": "a", "type": "string", "value": "\"500\"" },
    ]);
    assert_eq!(root["attributes"], expected);
    assert_eq!(root["events"][0]["at"], 0.5);
    assert_eq!(root["events"][0]["offset"], "+5.00 ms");
    assert_eq!(
        (&child["start"], &child["length"]),
        (&json!(0.2), &json!(0.2))
    );
    let links: Vec<_> = child["links"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| (&l["to"], &l["same"]))
        .collect();
    let (yes, no) = (json!(true), json!(false));
    let expected = [
        (&json!("parent"), &yes),
        (&json!("other"), &no),
        (&Value::Null, &no),
    ];
    assert_eq!(links, expected);
    assert_eq!(child["logs"][0]["body"], "in a span");
    assert_eq!(child["logs"][0]["severity"], "ERROR");
    assert_eq!(trace["logs"][0]["body"], "elsewhere");
    assert_eq!(child["resource"][0]["value"], "\"tier1-service\"");
    assert_eq!(child["scope"]["name"], "a-scope");
    let (_, logs) = site.get("/api/logs").await;
    assert_eq!(logs.as_array().map(Vec::len), Some(1));
    assert_eq!(logs[0]["body"], "loose");
    for id in [
        "x",
        &"g".repeat(32),
        &"é".repeat(16),
        &format!("{:032x}", 9),
        &"1".repeat(5000),
    ] {
        assert_eq!(site.get(&format!("/api/traces/{id}")).await.0, 404, "{id}");
    }
}

#[tokio::test]
async fn what_is_told_is_bounded() {
    let site = Site::new(Router::new()).await;
    let long = "é".repeat(5_000);
    let mut big = span((1, 1, 0), &long, 1, (1, 9000));
    let many: Vec<_> = (0..500)
        .map(|i| json!({ "key": format!("k{i}"), "value": { "stringValue": long } }))
        .collect();
    big["attributes"] = json!(many[..200]);
    site.feed.spans(&long, &[big]).await;
    let children: Vec<_> = (2..=3000)
        .map(|id| span((1, id, 1), "child", 1, (id, id + 1)))
        .collect();
    site.feed.spans("tier1-service", &children).await;
    let traces: Vec<_> = (10..=500)
        .map(|id| span((id, 1, 0), &long, 1, (id, id)))
        .collect();
    for some in traces.chunks(20) {
        site.feed.spans("tier1-service", some).await;
    }
    let (_, trace) = site.get(&format!("/api/traces/{:032x}", 1)).await;
    let spans = trace["spans"].as_array().unwrap();
    assert_eq!((spans.len(), &trace["more"]), (1000, &json!(2000)));
    assert_eq!(spans[0]["attributes"].as_array().map(Vec::len), Some(128));
    assert_eq!(spans[0]["more_attributes"], 72);
    assert_eq!(spans[0]["name"].as_str().unwrap().chars().count(), 4001);
    assert!(trace.to_string().len() < 8 * 1024 * 1024);

    let mut listener = Listener::new(&site).await;
    let state = listener.until(|state| state["spans"] == 3491).await;
    assert_eq!(state["traces"].as_array().map(Vec::len), Some(TRACES));
    assert_eq!(state["traces"][0]["id"], format!("{:032x}", 500));
    assert!(state.to_string().len() < 128 * 1024);
}

#[tokio::test]
async fn listeners_hear_what_comes_and_that_it_ends() {
    let site = Site::new(Router::new()).await;
    let mut one = Listener::new(&site).await;
    // It never reads, and holds nobody up.
    let idle = Listener::new(&site).await;
    one.until(|state| state["step"] == "solution-02").await;
    site.feed
        .spans("tier1-service", &[span((1, 1, 0), "first", 1, (1, 2))])
        .await;
    let state = one.until(|state| state["spans"] == 1).await;
    assert_eq!(state["traces"][0]["name"], "first");

    let mut others = Vec::new();
    for _ in 2..LISTENERS {
        others.push(Listener::new(&site).await);
    }
    assert_eq!(site.get("/api/events").await.0, 503);
    // The place of one that goes away is free again.
    drop(idle);
    let started = Instant::now();
    let again = loop {
        let url = format!("{}/api/events", site.page.url());
        let response = site.client.get(url).send().await.unwrap();
        if response.status() == 200 {
            break response;
        }
        assert!(started.elapsed() < DEADLINE, "its place is not free");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    drop(again);

    site.page.end();
    let last = loop {
        match one.next().await {
            Some(event) if event.starts_with("event: end\ndata: t") => break one.next().await,
            Some(_) => {}
            None => panic!("the stream ended without a word"),
        }
    };
    assert_eq!(last, None);
}

#[tokio::test]
async fn a_request_is_answered_and_compared() {
    let tier1 = Router::new()
        .route("/fast", get(|| async { "fast\u{1b}[2J" }))
        .route(
            "/away",
            get(|| async { (StatusCode::FOUND, [("location", "http://evil.example/")]) }),
        )
        .route("/long", get(|| async { "x".repeat(1_000_000) }));
    let site = Site::new(tier1).await;
    let (_, fast) = site.ask("/fast").await;
    assert_eq!((&fast["id"], &fast["status"]), (&json!(1), &json!(200)));
    assert_eq!(fast["body"], "fast\\u{1b}[2J");
    let verdict = site.missing(1, 2).await;
    assert_eq!(verdict["verdict"], "compared", "{verdict}");
    let finding = &verdict["findings"][0];
    assert_eq!(finding["id"], "W02-NOTHING", "{verdict}");
    assert_eq!(finding["book"], "book/src/02-the-first-span.md#w02-nothing");
    assert!(
        finding["next"]
            .as_str()
            .unwrap()
            .contains("cargo test -p step-02"),
        "{verdict}"
    );

    let (_, away) = site.ask("/away").await;
    assert_eq!(away["status"], 302);
    let verdict = site.missing(2, 2).await;
    assert_eq!(verdict["why"], "no step has a snapshot of /away");
    let (_, long) = site.ask("/long").await;
    assert_eq!(long["cut"], true);
    assert!(long["body"].as_str().unwrap().len() < 20_000);
    let none = site.missing(1, 99).await;
    assert_eq!(none["why"], "step 99 has no snapshot of /fast");
    assert_eq!(site.get("/api/asked/9/missing?step=2").await.0, 404);
    for bad in [
        "x/missing?step=2",
        "1/missing",
        "1/missing?step=300",
        "1/missing?step=x",
    ] {
        assert_eq!(site.get(&format!("/api/asked/{bad}")).await.0, 400, "{bad}");
    }
}

#[tokio::test]
async fn requests_take_turns_and_few_may_wait() {
    let tier1 = Router::new().route("/hang", get(std::future::pending::<()>));
    let site = Site::new(tier1).await;
    let hanging = (0..WAITING).map(|_| {
        let request = site.post(json!({ "path": "/hang" }).to_string());
        tokio::spawn(request.send())
    });
    let hanging: Vec<_> = hanging.collect();
    let started = Instant::now();
    while site.page.shared.waiting.available_permits() > 0 {
        assert!(started.elapsed() < DEADLINE, "they don't wait");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (status, said) = site.ask("/hang").await;
    assert_eq!(status, 503);
    assert!(
        said.as_str().unwrap().contains("too many requests wait"),
        "{said}"
    );
    assert_eq!(site.page.shared.asked().count, 1, "one at a time");
    for request in hanging {
        request.abort();
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_no_obstacle() {
    let one = Site::new(Router::new()).await;
    let about = About {
        step: String::new(),
        contract: 1,
        contracts: Vec::new(),
        routes: Vec::new(),
        addresses: Vec::new(),
        tier1: String::new(),
        exports: false,
        patience: DEADLINE,
        delays: DELAYS,
        workspace: PathBuf::new(),
    };
    let port = one.page.address.port();
    let two = Page::start(about, one.feed.store(), port).await.unwrap();
    assert_ne!(two.url(), one.page.url());
    assert!(two.url().starts_with("http://127.0.0.1:"));
}
