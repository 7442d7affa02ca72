//! A browser, driven by the WebDriver protocol: JSON over HTTP, a dozen calls of it. A
//! client crate would bring some twenty more, an old `http` and an old ICU among them.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// How long something on a page may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// The Enter, Tab, Escape and arrow keys (WebDriver, "Keyboard actions").
pub const ENTER: &str = "\u{e007}";
pub const TAB: &str = "\u{e004}";
pub const ESCAPE: &str = "\u{e00c}";
pub const DOWN: &str = "\u{e015}";

/// A browser with one window. It ends when it is dropped.
pub struct Browser {
    driver: Child,
    client: reqwest::blocking::Client,
    session: String,
}

impl Browser {
    /// Starts `chromedriver`, and by it a browser without a window on a screen.
    pub fn start(chromedriver: &str) -> Self {
        let mut driver = Command::new(chromedriver)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .spawn()
            .expect("chromedriver starts");
        let mut lines = BufReader::new(driver.stdout.take().expect("it is piped")).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                Some(
                    line.split_once("successfully on port ")?
                        .1
                        .trim_end_matches('.')
                        .to_owned(),
                )
            })
            .expect("chromedriver says its port");
        // What it says later is read, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let client = reqwest::blocking::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(60))
            .build()
            .expect("a client");
        let mut browser = Self {
            driver,
            client,
            session: format!("http://127.0.0.1:{port}/session"),
        };
        // --no-sandbox: it has none for root, as whom CI may run.
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1280,900",
        ];
        let made = browser.call(
            "",
            Some(json!({ "capabilities": { "alwaysMatch": {
                "goog:chromeOptions": { "args": arguments },
                "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            }}})),
        );
        let id = made["sessionId"].as_str().expect("a session");
        browser.session = format!("{}/{id}", browser.session);
        browser
    }

    /// One call: a POST, or without `body` a GET.
    fn call(&self, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}{path}", self.session);
        let request = match body {
            Some(body) => self
                .client
                .post(url)
                .header("content-type", "application/json")
                .body(body.to_string()),
            None => self.client.get(url),
        };
        let answer = request.send().and_then(|answer| answer.text());
        let answer = answer.unwrap_or_else(|error| panic!("WebDriver {path}: {error}"));
        let mut answer: Value = serde_json::from_str(&answer).expect("WebDriver answers JSON");
        let value = answer["value"].take();
        assert!(
            value["error"].is_null(),
            "WebDriver {path}: {}",
            value["message"]
        );
        value
    }

    /// Opens `url`.
    pub fn open(&self, url: &str) {
        self.call("/url", Some(json!({ "url": url })));
    }

    /// What the function body `script` returns.
    pub fn run(&self, script: &str, arguments: Value) -> Value {
        let script = json!({ "script": script, "args": arguments });
        self.call("/execute/sync", Some(script))
    }

    /// The value of a JavaScript expression.
    pub fn value(&self, expression: &str) -> Value {
        self.run(&format!("return ({expression});"), json!([]))
    }

    /// Waits until `expression` is true. `what` says what that is.
    pub fn wait(&self, what: &str, expression: &str) {
        let started = Instant::now();
        while self.value(expression) != true {
            if started.elapsed() > DEADLINE {
                let text = self.value("document.body.innerText");
                panic!(
                    "{what} did not come about; the page says:\n{}",
                    text.as_str().unwrap_or("")
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Clicks the first element that `selector` finds, where a mouse would.
    pub fn click(&self, selector: &str) {
        let found = self.call(
            "/element",
            Some(json!({ "using": "css selector", "value": selector })),
        );
        let id = found.as_object().and_then(|found| found.values().next());
        let id = id.and_then(Value::as_str).expect("an element's id");
        self.call(&format!("/element/{id}/click"), Some(json!({})));
    }

    /// Presses and releases a key, wherever the focus is.
    pub fn press(&self, key: &str) {
        let actions = json!([
            { "type": "keyDown", "value": key },
            { "type": "keyUp", "value": key },
        ]);
        let actions = json!([{ "type": "key", "id": "keys", "actions": actions }]);
        self.call("/actions", Some(json!({ "actions": actions })));
    }

    /// A command of the DevTools protocol.
    pub fn devtools(&self, command: &str, parameters: Value) -> Value {
        let call = json!({ "cmd": command, "params": parameters });
        self.call("/goog/cdp/execute", Some(call))
    }

    /// The scheme (`light`, `dark`) and the size in CSS pixels that the page sees.
    pub fn look(&self, scheme: &str, width: u32, height: u32) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        );
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 }),
        );
    }

    /// The whole page as a picture, base64.
    pub fn picture(&self) -> String {
        let whole = json!({ "captureBeyondViewport": true, "format": "png" });
        let picture = self.devtools("Page.captureScreenshot", whole);
        picture["data"].as_str().expect("a picture").to_owned()
    }

    /// What the console has said since the last time.
    pub fn console(&self) -> Vec<String> {
        let entries = self.call("/se/log", Some(json!({ "type": "browser" })));
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries.iter().map(Value::to_string).collect()
    }

    /// The addresses that the page has asked for since the last time.
    pub fn requests(&self) -> Vec<String> {
        let entries = self.call("/se/log", Some(json!({ "type": "performance" })));
        let entries = entries.as_array().cloned().unwrap_or_default();
        let messages = entries.iter().filter_map(|entry| {
            let message = entry["message"].as_str()?;
            serde_json::from_str::<Value>(message).ok()
        });
        messages
            .filter(|message| message["message"]["method"] == "Network.requestWillBeSent")
            .filter_map(|message| {
                let url = &message["message"]["params"]["request"]["url"];
                url.as_str().map(str::to_owned)
            })
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without it the browser would outlive its driver.
        let _ = self.client.delete(&self.session).send();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
