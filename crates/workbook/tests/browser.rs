//! The page of `cargo workbook run`, in a browser, with the real system behind it.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod webdriver;

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use containers::trials;
use serde_json::{Value, json};
use webdriver::{Browser, DOWN, ENTER, ESCAPE, TAB};

/// Names the program `chromedriver`, and asks for these tests.
const CHROMEDRIVER: &str = "WORKBOOK_CHROMEDRIVER";

fn main() -> ExitCode {
    let wanted = env::var_os(CHROMEDRIVER).is_some_and(|program| !program.is_empty());
    let not_run = "not run without a browser: .ci/browser runs these";
    trials::run_if(
        wanted,
        not_run,
        &[
            ("fast_shows_the_whole_trace", fast_shows_the_whole_trace),
            ("error_is_red_with_its_log", error_is_red_with_its_log),
            ("a_span_opens_by_keyboard", a_span_opens_by_keyboard),
            ("a_hostile_name_is_text", a_hostile_name_is_text),
            ("what_a_later_step_would_want", what_a_later_step_would_want),
            ("it_fits_and_can_be_read", it_fits_and_can_be_read),
            (
                "it_says_when_the_command_ends",
                it_says_when_the_command_ends,
            ),
        ],
    )
}

/// How long the command may take until the system runs. It may have to build.
const START: Duration = Duration::from_secs(400);

/// How long it may take to end, though a browser listens.
const STOP: Duration = Duration::from_secs(5);

/// A `workbook run`.
struct Run {
    process: Child,
    page: String,
    receiver: String,
}

impl Run {
    fn start(step: &str, page_port: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_workbook"))
            .args(["run", step, "--port", "0", "--page-port", page_port])
            // Nothing is left to chance.
            .args(["--env", "SLOW_CHANCE=0"])
            .env("WORKBOOK_BROKER", "embedded")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (sender, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut run = Self {
            process,
            page: String::new(),
            receiver: String::new(),
        };
        let started = Instant::now();
        loop {
            let left = START.saturating_sub(started.elapsed());
            let line = said
                .recv_timeout(left)
                .expect("the command says its addresses");
            let address = |name: &str| {
                let rest = line.trim_start().strip_prefix(name)?;
                Some(rest.trim().to_owned()).filter(|at| at.starts_with("http://"))
            };
            if let Some(page) = address("page") {
                run.page = page;
            }
            if let Some(receiver) = address("OTLP receiver") {
                run.receiver = receiver;
            }
            if line.contains("ctrl-c ends it") {
                return run;
            }
        }
    }

    /// Ctrl-c, and how long it then takes to end.
    fn stop(&mut self) -> Duration {
        let started = Instant::now();
        let pid = self.process.id().to_string();
        let _ = Command::new("kill").args(["-INT", &pid]).status();
        while self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            if started.elapsed() > START {
                let _ = self.process.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        started.elapsed()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.stop();
        }
    }
}

/// The page of `run` in a browser, with all buttons there.
fn visit(run: &Run) -> Browser {
    let browser = Browser::start(&env::var(CHROMEDRIVER).unwrap());
    browser.open(&run.page);
    browser.wait(
        "the buttons",
        "document.querySelectorAll('[data-path]').length >= 4",
    );
    browser.wait(
        "the first trace",
        "document.querySelectorAll('.row').length > 0",
    );
    browser
}

/// What every visit ends with.
fn leave(browser: &Browser, run: &Run) {
    assert_eq!(
        browser.console(),
        Vec::<String>::new(),
        "the console is empty"
    );
    let requests = browser.requests();
    assert!(!requests.is_empty(), "requests are seen at all");
    for request in requests {
        // A new window's own, and the icon in the page.
        let is_inside = request.starts_with("data:") || request == "about:blank";
        let is_own = request
            .strip_prefix(&run.page)
            .is_some_and(|rest| rest.starts_with('/'));
        assert!(is_inside || is_own, "the page asked {request}");
    }
}

/// Presses the button of `path`, and waits until it is answered and compared.
fn ask(browser: &Browser, path: &str) {
    browser.click(&format!("[data-path='{path}']"));
    let answered = format!(
        "document.querySelector('#answer .what')?.innerText.includes('GET {path}') \
         && !document.querySelector('#answer .spin') && !document.querySelector('#verdict .spin') \
         && document.querySelector('#verdict').innerText.includes('GET {path}')"
    );
    browser.wait("the answer", &answered);
}

/// The rows of the waterfall: depth, name, the parent's name, service, kind.
fn rows(browser: &Browser) -> Vec<(u64, String, String, String)> {
    let rows = browser.value(
        "[...document.querySelectorAll('.row')].map(row => [Number(row.dataset.depth), \
         row.querySelector('.text').textContent, \
         document.querySelector(`.row[data-span='${row.dataset.parent}'] .text`)?.textContent ?? '', \
         row.querySelector('.svc').textContent])",
    );
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| {
        (
            row[0].as_u64().unwrap(),
            text(&row[1]),
            text(&row[2]),
            text(&row[3]),
        )
    })
    .collect()
}

fn fast_shows_the_whole_trace() {
    let run = Run::start("solution-12", "0");
    let browser = visit(&run);
    ask(&browser, "/fast");
    browser.wait(
        "all spans",
        "document.querySelectorAll('.row').length === 14",
    );
    let all = rows(&browser);
    let row = |depth: u64, name: &str, parent: &str, service: &str| {
        let row = (
            depth,
            name.to_owned(),
            parent.to_owned(),
            format!("{service}-service"),
        );
        assert!(all.contains(&row), "{row:?} is not in {all:#?}");
    };
    assert_eq!(all[0].1, "GET /fast");
    row(0, "GET /fast", "", "tier1");
    row(1, "do_queue", "GET /fast", "tier1");
    row(2, "publish signups", "do_queue", "tier1");
    row(3, "process signups", "publish signups", "consumer");
    row(4, "SELECT members", "process signups", "consumer");
    row(1, "do_saas", "GET /fast", "tier1");
    row(2, "pure_saas_proc", "do_saas", "tier1");
    row(1, "do_tier2", "GET /fast", "tier1");
    row(2, "GET", "do_tier2", "tier1");
    row(3, "GET /", "GET", "tier2");
    row(4, "SELECT members", "GET /", "tier2");
    let status = browser.value("document.querySelector('#answer .status').textContent");
    assert_eq!(status, "200");
    let verdict = browser.value("document.querySelector('#verdict').innerText");
    assert!(
        verdict.as_str().unwrap().contains("✓ Nothing."),
        "{verdict}"
    );
    let listed = browser.value("document.querySelectorAll('.trace').length");
    assert_eq!(listed, 2, "the first request's, and this one");
    leave(&browser, &run);
}

fn error_is_red_with_its_log() {
    let run = Run::start("solution-12", "0");
    let browser = visit(&run);
    ask(&browser, "/error");
    browser.wait(
        "the trace of /error",
        "document.querySelector('.row')?.textContent.includes('GET /error')",
    );
    let status = browser.value("document.querySelector('#answer .status').textContent");
    assert_eq!(status, "502");
    let failed = rows(&browser)
        .into_iter()
        .filter(|row| row.1.starts_with("✗ "));
    let failed: Vec<String> = failed.map(|row| row.1).collect();
    assert_eq!(
        failed,
        ["✗ GET /error", "✗ do_tier2", "✗ GET", "✗ GET /error"]
    );
    // Red, in the sense of: more red than anything else.
    let colour = browser.value(
        "getComputedStyle(document.querySelector('.failed .row .text')).color.match(/\\d+/g).map(Number)",
    );
    let part = |i: usize| colour[i].as_u64().unwrap();
    assert!(part(0) > 2 * part(1) && part(0) > 2 * part(2), "{colour}");
    browser.wait(
        "the log of the error under do_tier2",
        "[...document.querySelectorAll('.rows li')].find(li => \
         li.querySelector('.row .text')?.textContent === '✗ do_tier2')\
         ?.querySelector('.notes .sev.is-error')?.parentElement.innerText.includes('tier2 answered 500')",
    );
    leave(&browser, &run);
}

fn a_span_opens_by_keyboard() {
    let run = Run::start("solution-12", "0");
    let browser = visit(&run);
    ask(&browser, "/fast");
    browser.wait(
        "all spans",
        "document.querySelectorAll('.row').length === 14",
    );
    browser.run("document.activeElement.blur()", json!([]));
    let is_row = "document.activeElement.classList.contains('row')";
    for _ in 0..30 {
        if browser.value(is_row) == true {
            break;
        }
        browser.press(TAB);
    }
    assert_eq!(browser.value(is_row), true, "a row is reached by tab");
    let outline = browser.value("getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, "solid", "the focus is visible");
    let first = browser.value("document.activeElement.querySelector('.text').textContent");
    assert_eq!(first, "GET /fast");
    browser.press(DOWN);
    let second = browser.value("document.activeElement.querySelector('.text').textContent");
    assert_eq!(second, "do_queue");
    browser.press("\u{e013}");
    browser.press(ENTER);
    let expanded = browser.value("document.activeElement.getAttribute('aria-expanded')");
    assert_eq!(expanded, "true");
    let cells = browser.value(
        "[...document.querySelectorAll('.detail tr')].map(tr => [...tr.cells].map(td => td.textContent))\
         .find(cells => cells[0] === 'http.response.status_code')",
    );
    assert_eq!(cells, json!(["http.response.status_code", "int", "200"]));
    let text = browser.value("document.querySelector('.detail').innerText");
    for part in ["service.name", "\"tier1-service\"", "Unset"] {
        assert!(text.as_str().unwrap().contains(part), "{part}: {text}");
    }
    browser.press(ESCAPE);
    assert_eq!(
        browser.value("document.querySelector('.detail') === null"),
        true
    );
    assert_eq!(browser.value(is_row), true, "the focus stays");
    leave(&browser, &run);
}

fn a_hostile_name_is_text() {
    let run = Run::start("solution-12", "0");
    let browser = visit(&run);
    let name = "<img src=x onerror=\"document.title='owned'\">";
    let value = json!({ "stringValue": name });
    let attributes = json!([{ "key": name, "value": value }]);
    let body = json!({ "resourceSpans": [{
        "resource": { "attributes": [{ "key": "service.name", "value": value }] },
        "scopeSpans": [{ "scope": { "name": name }, "spans": [{
            "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331",
            "name": name, "kind": 1, "attributes": attributes,
            "events": [{ "timeUnixNano": "1", "name": name, "attributes": attributes }],
            "status": { "code": 2, "message": name },
            // After all others: it is the first of the list.
            "startTimeUnixNano": "4000000000000000000", "endTimeUnixNano": "4000000000000000001",
        }]}],
    }]});
    let sent = reqwest::blocking::Client::new()
        .post(format!("{}/v1/traces", run.receiver))
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .unwrap();
    assert_eq!(sent.status(), 200);
    browser.wait(
        "the trace in the list",
        "document.querySelector('.trace .name')?.textContent.startsWith('<img')",
    );
    browser.click(".trace");
    browser.wait(
        "its row",
        "document.querySelector('.row .text')?.textContent.includes('<img')",
    );
    browser.click(".row");
    let shown = browser.value("document.querySelector('.row .text').textContent");
    assert_eq!(shown, format!("✗ {name}"));
    let detail = browser.value("document.querySelector('.detail').textContent");
    // Key and value of two attributes, the event, the status, the scope, the service.
    assert!(
        detail.as_str().unwrap().matches("<img src=x").count() >= 8,
        "{detail}"
    );
    assert_eq!(browser.value("document.querySelectorAll('img').length"), 0);
    assert_eq!(
        browser.value("document.title"),
        "solution-12 · cargo workbook run"
    );
    leave(&browser, &run);
}

fn what_a_later_step_would_want() {
    let run = Run::start("solution-03", "0");
    let browser = visit(&run);
    ask(&browser, "/fast");
    let verdict = "document.querySelector('#verdict').innerText";
    let own = browser.value(verdict);
    assert!(
        own.as_str()
            .unwrap()
            .contains("solution-03 exports what step 03 wants"),
        "{own}"
    );
    browser.click("#contract option[value='6']");
    browser.wait(
        "the comparison with step 06",
        &format!("{verdict}.includes('step 06 wants')"),
    );
    let ids =
        browser.value("[...document.querySelectorAll('.finding .id')].map(id => id.textContent)");
    let ids = ids.as_array().unwrap();
    assert!(!ids.is_empty());
    assert!(
        ids.iter()
            .all(|id| id.as_str().unwrap().starts_with("W06-")),
        "{ids:?}"
    );
    let findings = browser.value("document.querySelector('#verdict').textContent");
    for part in [
        "publish signups",
        "expected",
        "book/src/06-messages-out.md#w06-",
    ] {
        assert!(
            findings.as_str().unwrap().contains(part),
            "{part}: {findings}"
        );
    }
    // A path of the reader's own, which no step has a snapshot of.
    browser.run(
        "document.getElementById('path').value = '/healthcheck'",
        json!([]),
    );
    browser.click(".path button");
    browser.wait(
        "that it is not compared",
        &format!("{verdict}.includes('was not compared')"),
    );
    let body = browser.value("document.querySelector('#answer pre').textContent");
    assert!(body.as_str().unwrap().contains("tier1"), "{body}");
    keep(&browser, "healthcheck");
    leave(&browser, &run);
}

/// Text that is not to be read against what is behind it: WCAG 2.2, 1.4.3, level AA.
const CONTRAST: &str = r"
  const parse = text => {
    const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
    return { r, g, b, a };
  };
  const over = (top, under) => Object.fromEntries(
    ['r', 'g', 'b'].map(part => [part, top[part] * top.a + under[part] * (1 - top.a)]).concat([['a', 1]]));
  const light = ({ r, g, b }) => {
    const [x, y, z] = [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = node => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) layers.unshift(parse(getComputedStyle(at).backgroundColor));
    return layers.reduce((under, layer) => over(layer, under), { r: 255, g: 255, b: 255, a: 1 });
  };
  const poor = [];
  let seen = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || ['SCRIPT', 'STYLE'].includes(node.tagName)) continue;
    seen += 1;
    const ground = behind(node);
    const style = getComputedStyle(node);
    const colour = over(parse(style.color), ground);
    const [one, two] = [light(colour), light(ground)].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (two + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)}: ${walker.currentNode.data.trim().slice(0, 40)} (${node.className})`);
  }
  return [seen, poor];
";

fn it_fits_and_can_be_read() {
    let run = Run::start("solution-03", "0");
    let browser = visit(&run);
    ask(&browser, "/error");
    browser.click("#contract option[value='11']");
    browser.wait(
        "findings",
        "document.querySelectorAll('.finding').length > 0",
    );
    browser.click(".row");
    browser.wait(
        "a span's attributes",
        "document.querySelectorAll('.detail td').length > 0",
    );
    browser.run("document.getElementById('loose').open = true", json!([]));
    for scheme in ["light", "dark"] {
        for (width, height) in [(1440, 900), (1000, 800), (390, 844)] {
            look_at(&browser, "findings", scheme, (width, height));
        }
    }
    leave(&browser, &run);
}

/// Shows the page in this scheme and size: nothing may stick out, all text can be read.
fn look_at(browser: &Browser, name: &str, scheme: &str, (width, height): (u32, u32)) {
    browser.look(scheme, width, height);
    let dark = browser.value("matchMedia('(prefers-color-scheme: dark)').matches");
    assert_eq!(dark, scheme == "dark");
    let widths = browser.value(
        "[document.documentElement.clientWidth, document.documentElement.scrollWidth, \
         [...document.querySelectorAll('main *')].filter(node => node.checkVisibility() \
         && node.getBoundingClientRect().right > document.documentElement.clientWidth) \
         .slice(0, 3).map(node => node.outerHTML.slice(0, 80))]",
    );
    let what = format!("{name}, {scheme} at {width}");
    assert_eq!(widths[0], widths[1], "{what}: this sticks out: {widths}");
    // But for a scroll bar.
    let seen = widths[0].as_u64().unwrap();
    assert!(seen.abs_diff(width.into()) < 20, "{what}: {widths}");
    let contrast = browser.run(CONTRAST, json!([]));
    assert!(contrast[0].as_u64().unwrap() > 50, "text is seen at all");
    assert_eq!(contrast[1], json!([]), "{what}");
    keep(browser, &format!("{name}-{scheme}-{width}"));
}

fn it_says_when_the_command_ends() {
    let mut run = Run::start("solution-12", "0");
    let browser = visit(&run);
    browser.wait(
        "that it is live",
        "document.querySelector('#live').textContent === 'live'",
    );
    for (path, height) in [("/fast", 1100), ("/slow", 1100), ("/error", 1300)] {
        ask(&browser, path);
        let verdict = browser.value("document.querySelector('#verdict').innerText");
        assert!(
            verdict.as_str().unwrap().contains("✓ Nothing."),
            "{path}: {verdict}"
        );
        for (scheme, width) in [
            ("light", 1440),
            ("dark", 1440),
            ("light", 390),
            ("dark", 390),
        ] {
            look_at(&browser, &path[1..], scheme, (width, height));
        }
    }
    leave(&browser, &run);
    let took = run.stop();
    assert!(took < STOP, "it took {took:?} to end");
    browser.wait(
        "that it has ended",
        "document.querySelector('#banner').innerText.startsWith('The command has ended')",
    );
    for scheme in ["light", "dark"] {
        look_at(&browser, "ended", scheme, (1000, 800));
    }
    // The same address again: the page goes on without being loaded anew.
    let port = run.page.rsplit(':').next().unwrap().to_owned();
    let again = Run::start("solution-03", &port);
    assert_eq!(again.page, run.page);
    browser.wait(
        "that it is live again",
        "document.querySelector('#live').textContent === 'live' \
         && document.querySelector('#banner').hidden \
         && document.querySelector('#step').textContent === 'solution-03'",
    );
}

/// Keeps a picture of the page in the folder WORKBOOK_PICTURES, if that is set, for people.
fn keep(browser: &Browser, name: &str) {
    let Ok(folder) = env::var("WORKBOOK_PICTURES") else {
        return;
    };
    std::fs::create_dir_all(&folder).unwrap();
    let file = format!("{folder}/{name}.png.base64");
    std::fs::write(file, browser.picture()).unwrap();
}
