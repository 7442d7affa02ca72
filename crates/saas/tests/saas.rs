//! saas over the wire.

use std::time::{Duration, Instant};

use reqwest::Client;
use saas::{SUMMARY_PATH, Saas, SaasConfig};
use serde_json::Value;

/// Without the proxies that the environment may name.
fn client() -> Client {
    Client::builder().no_proxy().build().expect("a client")
}

fn url(saas: &Saas) -> String {
    format!("http://{}{SUMMARY_PATH}", saas.addr())
}

/// How long anything may take here.
const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn the_summary_looks_like_a_status_page() {
    let saas = Saas::start(SaasConfig::default()).await.expect("starts");
    let response = client().get(url(&saas)).send().await.expect("answers");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    let first: Value = serde_json::from_str(&response.text().await.expect("a body")).expect("JSON");
    for pointer in [
        "/page/id",
        "/page/name",
        "/page/url",
        "/page/updated_at",
        "/status/indicator",
        "/status/description",
        "/components/0/name",
        "/components/0/status",
    ] {
        let value = first.pointer(pointer);
        assert!(value.is_some_and(Value::is_string), "{pointer}");
    }

    let response = client().get(url(&saas)).send().await.expect("answers");
    let second: Value =
        serde_json::from_str(&response.text().await.expect("a body")).expect("JSON");
    assert_eq!(first, second);
    saas.stop().await;
}

#[tokio::test]
async fn any_other_path_is_not_found() {
    let saas = Saas::start(SaasConfig::default()).await.expect("starts");
    let response = client()
        .get(format!("http://{}/", saas.addr()))
        .send()
        .await
        .expect("answers");
    assert_eq!(response.status(), 404);
    saas.stop().await;
}

#[tokio::test]
async fn it_fails_and_dawdles_when_told_to() {
    let delay = Duration::from_millis(200);
    let saas = Saas::start(SaasConfig {
        delay,
        status: 503,
        ..SaasConfig::default()
    })
    .await
    .expect("starts");
    let started = Instant::now();
    let response = client().get(url(&saas)).send().await.expect("answers");
    assert!(started.elapsed() >= delay);
    assert_eq!(response.status(), 503);
    assert_eq!(response.text().await.expect("text"), "Service Unavailable");
    saas.stop().await;
}

#[tokio::test]
async fn a_number_that_is_no_status_is_a_500() {
    let saas = Saas::start(SaasConfig {
        status: 7,
        ..SaasConfig::default()
    })
    .await
    .expect("starts");
    let response = client().get(url(&saas)).send().await.expect("answers");
    assert_eq!(response.status(), 500);
    saas.stop().await;
}

#[tokio::test]
async fn nothing_answers_after_the_stop() {
    let saas = Saas::start(SaasConfig::default()).await.expect("starts");
    let url = url(&saas);
    client().get(&url).send().await.expect("answers");
    saas.stop().await;
    let error = client().get(&url).send().await.expect_err("stopped");
    assert!(error.is_connect(), "{error:?}");
}

#[tokio::test]
async fn a_request_counts_before_it_is_answered() {
    let config = SaasConfig {
        delay: DEADLINE,
        ..SaasConfig::default()
    };
    let saas = Saas::start(config).await.expect("starts");
    let unanswered = tokio::spawn(client().get(url(&saas)).send());
    let asked = tokio::time::timeout(DEADLINE, saas.wait_until_asked(1));
    asked.await.expect("in time");
    let second = tokio::time::timeout(Duration::ZERO, saas.wait_until_asked(2));
    assert!(second.await.is_err(), "there was one request only");
    unanswered.abort();
    saas.stop().await;
}
