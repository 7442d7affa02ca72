//! What a check finds while the system runs.

use std::{thread, time::Duration};

use lab::{Case, Check, Failure, Home, Lab, Outcome};

use super::{DEADLINE, MOMENT, Test, alone, start, within_deadline};

/// All tests of this file.
pub const ALL: &[(&str, Test)] = &[
    ("findings::a_span_in_time", a_span_in_time),
    ("findings::a_span_too_late", a_span_too_late),
    ("findings::another_span_only", another_span_only),
    ("findings::no_span_at_all", no_span_at_all),
    ("findings::the_wrong_path", the_wrong_path),
];

fn case() -> Case {
    let home = Home {
        manifest_dir: env!("CARGO_MANIFEST_DIR").into(),
        file: file!().into(),
        package: "lab".into(),
        binary: "never started".into(),
    };
    let check = Check::new("02", "The first span", home);
    check.offline().expect("the environment was cleaned")
}

/// The id of what was found, if anything was.
fn id(outcome: Outcome) -> String {
    match outcome {
        Ok(()) => String::new(),
        Err(Failure::Diagnosis(diagnosis)) => diagnosis.id,
        Err(Failure::Lab(error)) => panic!("{error}"),
    }
}

/// Sends one span as a service would, by OTLP's JSON form.
fn export(endpoint: &str, path: &str, service: &str, name: &str) {
    let body = format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name",
        "value":{{"stringValue":"{service}"}}}}]}},"scopeSpans":[{{"spans":[{{
        "traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708",
        "name":"{name}","kind":2,"startTimeUnixNano":"1","endTimeUnixNano":"2"}}]}}]}}]}}"#
    );
    let request = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client can be made")
        .post(format!("{endpoint}{path}"))
        .header("content-type", "application/json")
        .body(body);
    within_deadline(request.send()).expect("the receiver answers");
}

fn endpoint(lab: &Lab) -> String {
    lab.receiver().endpoint()
}

fn a_span_in_time() {
    let lab = start(alone());
    let endpoint = endpoint(&lab);
    let exporting = thread::spawn(move || {
        export(&endpoint, "/v1/traces", "tier2-service", "GET /fast");
        export(&endpoint, "/v1/traces", "tier1-service", "GET /fast");
    });
    assert_eq!(
        id(case().expect_span_within(&lab, "GET /fast", DEADLINE)),
        ""
    );
    exporting.join().expect("it exports");
    assert_eq!(id(case().expect_exported(&lab.recording(None))), "");
}

fn a_span_too_late() {
    let lab = start(alone());
    let endpoint = endpoint(&lab);
    let exporting = thread::spawn(move || {
        // Beyond the deadline, which begins at about the same time.
        thread::sleep(8 * MOMENT);
        export(&endpoint, "/v1/traces", "tier1-service", "GET /fast");
    });
    let outcome = case().expect_span_within(&lab, "GET /fast", MOMENT);
    exporting.join().expect("it exports");
    assert_eq!(id(outcome), "W02-LATE");
}

fn another_span_only() {
    let lab = start(alone());
    export(&endpoint(&lab), "/v1/traces", "tier1-service", "GET /slow");
    let outcome = case().expect_span_within(&lab, "GET /fast", Duration::ZERO);
    assert_eq!(id(outcome), "W02-LATE");
}

fn no_span_at_all() {
    let lab = start(alone());
    export(&endpoint(&lab), "/v1/traces", "tier2-service", "GET /fast");
    let outcome = case().expect_span_within(&lab, "GET /fast", Duration::ZERO);
    assert_eq!(id(outcome), "W02-NOTHING");
}

fn the_wrong_path() {
    let lab = start(alone());
    export(&endpoint(&lab), "/", "tier1-service", "GET /fast");
    let recording = lab.recording(None);
    assert_eq!(id(case().expect_endpoint(&recording)), "W02-ENDPOINT");
    assert_eq!(id(case().expect_exported(&recording)), "W02-ENDPOINT");
}
