//! What a check says about spoiled traces: the whole text, for each kind of finding.
//!
//! The step around them is made up: its chapter and TODOs are like those of step 06.

#[path = "diagnosis/good.rs"]
mod good;
#[path = "diagnosis/mutations.rs"]
mod mutations;

use std::{sync::Arc, time::Duration};

use good::{
    PROCESS, PROCESS_SELECT, PUBLISH, ROOT, SAAS, TIER1, TIER2, TIER2_CALL, TIER2_SELECT, fail,
    recording, remove, rename, request, resource, set, span, span_id, split, spoiled, unset,
};
use lab::{Case, Check, Failure, Home, Kind, Message, Outcome, Recording, Role, SpanType};
use lapin::types::{AMQPValue, FieldTable};
use opentelemetry_semantic_conventions::attribute as key;
use otlp::{Resource, SpanId, SpanKind, StatusCode, TraceId};

fn home() -> Home {
    Home {
        manifest_dir: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/workspace/steps/step-06").into(),
        file: "steps/step-06/tests/check.rs".into(),
        package: "step-06".into(),
        binary: "never started".into(),
    }
}

fn check(home: Home) -> Check {
    Check::new("06", "Messages out", home)
        .chapter("06-messages-out")
        .todo((Kind::Missing, SpanType::Publish), "queue.rs", 2)
        .todo((Kind::Confirm, SpanType::Publish), "queue.rs", 4)
        .cause(
            (Kind::InjectMessage, SpanType::Publish),
            "queue.rs",
            3,
            "The headers of the message are empty: inject into them before the publish.",
        )
        .todo((Kind::Inject, SpanType::HttpClient), "http.rs", 2)
        .otherwise("queue.rs", 1)
}

/// A case of the made-up step.
pub fn case() -> Case {
    check(home()).offline().expect("it starts nothing")
}

/// What the check says about a recording.
fn told(recording: &Recording) -> String {
    text(case().diagnose("fast", recording).map(|_| ()))
}

fn text(outcome: Outcome) -> String {
    match outcome {
        Ok(()) => "accepted".to_owned(),
        Err(Failure::Diagnosis(diagnosis)) => diagnosis.to_string(),
        Err(Failure::Lab(error)) => panic!("{error}"),
    }
}

macro_rules! tells {
    ($($name:ident: $recording:expr;)*) => {$(
        #[test]
        fn $name() {
            let said = told(&$recording);
            insta::assert_snapshot!(said);
        }
    )*};
}

tells! {
    nothing_exported: recording(good::good().into_iter().filter(|s| s.service() != "tier1-service").collect());
    a_raw_path_as_name: spoiled(|spans| spans[ROOT].name = "GET /fast?user=17".to_owned());
    a_layer_around_the_router: spoiled(|spans| {
        spans[ROOT].name = "GET".to_owned();
        unset(&mut spans[ROOT], key::HTTP_ROUTE);
    });
    the_wrong_kind: spoiled(|spans| spans[PUBLISH].kind = SpanKind::Internal);
    the_wrong_parent: spoiled(|spans| spans[SAAS].parent_span_id = Some(span_id(TIER2_CALL)));
    a_parent_that_did_not_come: spoiled(|spans| spans[PUBLISH].parent_span_id = Some(SpanId([42; 8])));
    a_split_trace: spoiled(|spans| split(spans, &[PUBLISH, PROCESS, PROCESS_SELECT]));
    no_injection: spoiled(|spans| split(spans, &[TIER2, TIER2_SELECT]));
    the_parent_injected: spoiled(|spans| spans[TIER2].parent_span_id = Some(span_id(ROOT)));
    a_message_without_context: spoiled(|spans| split(spans, &[PROCESS, PROCESS_SELECT]));
    a_message_with_the_parents_context: spoiled(|spans| {
        spans[PROCESS].parent_span_id = Some(span_id(ROOT));
        spans[PROCESS].links[0].span_id = span_id(ROOT);
    });
    a_span_missing: spoiled(|spans| {
        remove(spans, PUBLISH);
        let at = spans.iter().position(|s| s.span_id == span_id(PROCESS)).expect("it is there");
        split(spans, &[at, at + 1]);
    });
    a_span_not_expected: spoiled(|spans| {
        let mut twin = spans[ROOT].clone();
        twin.span_id = SpanId([99; 8]);
        twin.parent_span_id = Some(span_id(ROOT));
        spans.push(twin);
    });
    a_span_around_the_expected_one: spoiled(|spans| {
        let mut twin = spans[PUBLISH].clone();
        twin.span_id = SpanId([99; 8]);
        spans[PUBLISH].parent_span_id = Some(twin.span_id);
        spans.push(twin);
    });
    the_wrong_status: spoiled(|spans| spans[TIER2_CALL].status.code = StatusCode::Ok);
    an_error_where_none_is: spoiled(|spans| fail(&mut spans[ROOT], "502"));
    an_old_attribute_name: spoiled(|spans| {
        rename(&mut spans[ROOT], key::HTTP_RESPONSE_STATUS_CODE, "http.status_code");
    });
    old_names_beside_none_at_all: spoiled(|spans| {
        for (new, old) in [
            (key::HTTP_REQUEST_METHOD, "http.method"),
            (key::HTTP_RESPONSE_STATUS_CODE, "http.status_code"),
            (key::URL_PATH, "http.target"),
        ] {
            rename(&mut spans[ROOT], new, old);
        }
        // In the order of names it comes first.
        unset(&mut spans[ROOT], key::CLIENT_ADDRESS);
        unset(&mut spans[ROOT], key::URL_SCHEME);
    });
    a_status_code_as_a_string: spoiled(|spans| {
        for number in [SAAS, TIER2_CALL] {
            set(&mut spans[number], key::HTTP_RESPONSE_STATUS_CODE, "200");
        }
    });
    an_attribute_twice: spoiled(|spans| {
        let again = otlp::KeyValue::new(key::URL_SCHEME, "");
        spans[ROOT].attributes.push(again);
    });
    attributes_missing: spoiled(|spans| {
        unset(&mut spans[PUBLISH], key::MESSAGING_SYSTEM);
        unset(&mut spans[PUBLISH], key::SERVER_PORT);
    });
    another_value: spoiled(|spans| set(&mut spans[PUBLISH], key::MESSAGING_OPERATION_NAME, "send"));
    a_link_elsewhere: spoiled(|spans| spans[PROCESS].links[0].span_id = span_id(ROOT));
    no_service_name: spoiled(|spans| {
        for number in TIER1 {
            spans[number].resource = resource("unknown_service:step-06");
        }
    });
    no_resource_at_all: spoiled(|spans| {
        for number in TIER1 {
            spans[number].resource = Arc::new(Resource::default());
        }
    });
    an_extra_internal_span: spoiled(|spans| {
        spans.push(span(50, Some(ROOT), "do_tier2", SpanKind::Internal, "tier1-service", (25, 85)));
        spans[TIER2_CALL].parent_span_id = Some(span_id(50));
    });
    extra_attributes: spoiled(|spans| {
        set(&mut spans[ROOT], "app.tenant", "blue");
        set(&mut spans[ROOT], key::USER_AGENT_ORIGINAL, "curl/8.5");
        set(&mut spans[PUBLISH], key::MESSAGING_MESSAGE_BODY_SIZE, 23);
        set(&mut spans[SAAS], key::NETWORK_PROTOCOL_VERSION, "1.1");
    });
    many_things_at_once: spoiled(|spans| {
        for number in [SAAS, TIER2_CALL] {
            spans[number].name = "HTTP GET".to_owned();
            spans[number].kind = SpanKind::Internal;
        }
        spans[ROOT].status.code = StatusCode::Ok;
        spans[PUBLISH].name = "signups publish".to_owned();
        split(spans, &[TIER2, TIER2_SELECT]);
        set(&mut spans[PROCESS], key::MESSAGING_SYSTEM, "lapin");
        unset(&mut spans[PROCESS_SELECT], key::DB_SYSTEM_NAME);
    });
}

/// As from a `tracing` bridge that is open for each crate below.
#[test]
fn a_thousand_extra_internal_spans_fail_nobody() {
    let many = spoiled(|spans| {
        for number in 100..1_600_u64 {
            let service = "tier1-service";
            let mut one = span(0, Some(ROOT), "poll", SpanKind::Internal, service, (25, 26));
            one.span_id = SpanId(number.to_be_bytes());
            spans.push(one);
        }
    });
    assert_eq!(told(&many), "accepted");
    let mut wrong = many;
    let root = wrong
        .spans
        .iter_mut()
        .find(|it| it.span_id == span_id(ROOT));
    root.expect("it is there").name = "GET".to_owned();
    assert!(told(&wrong).contains("[W06-NAME]"), "{}", told(&wrong));
}

#[test]
fn a_caller_that_is_not_continued() {
    let called = |parent| {
        let mut spans = good::good();
        spans.truncate(1);
        spans[ROOT].parent_span_id = parent;
        text(case().diagnose("caller", &recording(spans)).map(|_| ()))
    };
    assert_eq!(called(Some(SpanId([42; 8]))), "accepted");
    insta::assert_snapshot!(called(None));
    // And the other way round: a parent out of nowhere.
    let orphan = spoiled(|spans| spans[ROOT].parent_span_id = Some(SpanId([42; 8])));
    insta::assert_snapshot!("a_parent_that_nobody_sent", told(&orphan));
}

#[test]
fn what_may_be_mended_at_either_of_two_places_names_both() {
    for (file, next) in [
        (
            "headers.rs",
            "src/headers.rs TODO 2, then steps/step-06/src/queue.rs TODO 1, then `cargo",
        ),
        ("queue.rs", "src/queue.rs TODO 2, then TODO 1, then `cargo"),
    ] {
        let case = check(home())
            .before((Kind::Parent, SpanType::HttpServer), file, 2)
            .offline()
            .expect("it starts nothing");
        let mut spans = good::good();
        spans.truncate(1);
        spans[ROOT].parent_span_id = None;
        let said = text(case.diagnose("caller", &recording(spans)).map(|_| ()));
        // It is wrapped.
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            said.contains(&format!("next steps/step-06/{next}")),
            "{said}"
        );
    }
}

#[test]
fn the_wrong_path_at_the_endpoint() {
    for path in ["/", "/v1/traces/v1/traces"] {
        let spans = good::good();
        let around = spans.into_iter().filter(|s| s.service() != "tier1-service");
        let mut recording = recording(around.collect());
        recording.requests.push(request(path, 404, 0));
        let name = format!("wrong_path_{}", path.len());
        insta::assert_snapshot!(name, told(&recording));
        assert_eq!(text(case().expect_endpoint(&recording)), told(&recording));
    }
    assert!(case().expect_endpoint(&recording(Vec::new())).is_ok());
}

#[test]
fn exported_after_the_deadline() {
    let late = |came| case().late("GET /fast", Duration::from_secs(2), came);
    insta::assert_snapshot!(late(Some(Duration::from_millis(4_960))).to_string());
    insta::assert_snapshot!("never", late(None).to_string());
}

/// A workspace with two versions of the API.
fn two_versions() -> Home {
    Home {
        manifest_dir: concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/two-versions/steps/step-06"
        )
        .into(),
        ..home()
    }
}

#[test]
fn two_versions_in_the_tree() {
    let case = check(two_versions()).offline().expect("it starts nothing");
    let said = text(case.expect_one_version());
    insta::assert_snapshot!(said);
    // The workspace's Cargo.lock is none of another program's business.
    let another = check(two_versions())
        .of_another()
        .expect("it starts nothing");
    assert!(another.expect_one_version().is_ok());
    // It is the reason if nothing comes.
    let nothing = recording(Vec::new());
    assert_eq!(text(case.expect_exported(&nothing)), said);
    // The workbook itself has one.
    let own = Home {
        manifest_dir: env!("CARGO_MANIFEST_DIR").into(),
        ..home()
    };
    let own = check(own).offline().expect("it starts nothing");
    assert_eq!(text(own.expect_one_version()), "accepted");
}

#[test]
fn the_span_ended_before_the_confirm() {
    let recording = recording(good::good());
    let outcome = |millis| case().expect_confirm_covered(&recording, Duration::from_millis(millis));
    assert!(outcome(15).is_ok());
    insta::assert_snapshot!(text(outcome(300)));
    let none = spoiled(|spans| remove(spans, PUBLISH));
    let said = text(case().expect_confirm_covered(&none, Duration::ZERO));
    assert!(said.contains("[W06-MISSING]"), "{said}");
}

#[test]
fn the_service_name_alone() {
    let good = recording(good::good());
    assert!(case().expect_service(&good).is_ok());
    let nothing = text(case().expect_service(&recording(Vec::new())));
    assert!(nothing.contains("[W06-NOTHING]"), "{nothing}");
    let bad = spoiled(|spans| {
        for number in TIER1 {
            spans[number].resource = resource("unknown_service:step-06");
        }
    });
    insta::assert_snapshot!(text(case().expect_service(&bad)));
}

fn message(traceparent: Option<String>) -> Message {
    let mut headers = FieldTable::default();
    if let Some(traceparent) = traceparent {
        let value = AMQPValue::LongString(traceparent.into());
        headers.insert("traceparent".into(), value);
    }
    Message {
        body: "fast 1732537000.25".to_owned(),
        exchange: String::new(),
        routing_key: "signups".to_owned(),
        message_id: Some("4711".to_owned()),
        delivery_mode: Some(2),
        headers,
    }
}

#[test]
fn a_messages_headers() {
    let recording = recording(good::good());
    let told = |traceparent| text(case().expect_message_context(&message(traceparent), &recording));
    let of = |trace: TraceId, number| Some(format!("00-{trace}-{}-01", span_id(number)));
    assert_eq!(told(of(good::TRACE, PUBLISH)), "accepted");
    insta::assert_snapshot!("header_none", told(None));
    let nothing = good::recording(Vec::new());
    let outcome = case().expect_message_context(&message(None), &nothing);
    assert!(text(outcome).contains("[W06-INJECT-MESSAGE]"));
    insta::assert_snapshot!("header_of_the_parent", told(of(good::TRACE, ROOT)));
    insta::assert_snapshot!("header_of_another", told(of(TraceId([9; 16]), PUBLISH)));
}

#[test]
fn the_conventions_are_asked_for_from_their_step_on() {
    let at = |step: &'static str, spoil: fn(&mut Vec<otlp::Span>)| {
        let case = Check::new(step, "", home())
            .offline()
            .expect("it starts nothing");
        text(case.expect_conventions(&spoiled(spoil)))
    };
    for step in ["02", "04", "06", "13"] {
        assert_eq!(at(step, |_| {}), "accepted");
    }
    // The contrib layer of steps 02 and 03 has no scheme.
    let no_scheme = |spans: &mut Vec<otlp::Span>| set(&mut spans[ROOT], key::URL_SCHEME, "");
    assert_eq!(at("03", no_scheme), "accepted");
    insta::assert_snapshot!("conventions_empty", at("04", no_scheme));
    let no_peer = |spans: &mut Vec<otlp::Span>| {
        unset(&mut spans[TIER2], key::URL_SCHEME);
        set(&mut spans[ROOT], key::NETWORK_PEER_PORT, "51234");
        set(&mut spans[ROOT], key::ERROR_TYPE, "500");
        rename(
            &mut spans[PUBLISH],
            key::MESSAGING_OPERATION_TYPE,
            "messaging.operation",
        );
    };
    insta::assert_snapshot!("conventions_many", at("06", no_peer));
    let again = |spans: &mut Vec<otlp::Span>| {
        let attributes = spans[PROCESS].attributes.clone();
        spans[PROCESS].attributes.extend(attributes);
    };
    insta::assert_snapshot!("conventions_twice", at("02", again));
}

/// A program that TIER1_CMD names: nothing is said about files, TODOs and hints that it
/// doesn't have, nor in the words of a language that may not be its own.
#[test]
fn another_program_is_told_what_holds_for_it() {
    let case = check(home()).of_another().expect("it starts nothing");
    let told = |recording: &Recording| text(case.diagnose("fast", recording).map(|_| ()));
    insta::assert_snapshot!(told(&spoiled(|spans| {
        set(&mut spans[ROOT], key::HTTP_RESPONSE_STATUS_CODE, "200");
        split(spans, &[PROCESS, PROCESS_SELECT]);
    })));
    insta::assert_snapshot!(
        "another_program_exports_nothing",
        told(&recording(Vec::new()))
    );
}

#[test]
fn a_solution_has_no_todo() {
    let solution = Home {
        manifest_dir: concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/workspace/solutions/step-06"
        )
        .into(),
        package: "solution-06".into(),
        ..home()
    };
    let case = check(solution).offline().expect("it starts nothing");
    let next = case.next("queue.rs", 2).expect("it is known");
    assert_eq!(
        next,
        "solutions/step-06/src/queue.rs, then `cargo test -p solution-06`"
    );
}

#[test]
fn lines_fit_a_terminal() {
    let long = "a-name-that-never-ends-".repeat(9);
    let recording = spoiled(|spans| {
        spans[PUBLISH].name.clone_from(&long);
        set(&mut spans[ROOT], key::URL_PATH, long.as_str());
    });
    for line in told(&recording)
        .lines()
        .filter(|line| !line.starts_with('✗'))
    {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn outside_a_check_nothing_is_said_about_where_to_mend_it() {
    let workspace = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/workspace"));
    let judge = |recording| text(lab::judge(workspace, 6, Role::Tier1, "fast", &recording));
    assert_eq!(judge(recording(good::good())), "accepted");
    insta::assert_snapshot!(judge(spoiled(|spans| remove(spans, PUBLISH))));
    let missing = lab::judge(workspace, 6, Role::Tier1, "slow", &recording(Vec::new()));
    let Err(Failure::Lab(error)) = missing else {
        panic!("there is no such snapshot: {missing:?}");
    };
    assert!(error.to_string().contains("check__slow.snap"), "{error}");
}

#[test]
fn another_recording_may_stand_in_for_a_snapshot() {
    let workspace = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/workspace"));
    let solution = recording(good::good());
    let judge = |recording| {
        text(lab::judge_by(
            workspace,
            6,
            Role::Tier1,
            &solution,
            &recording,
        ))
    };
    assert_eq!(judge(recording(good::good())), "accepted");
    let spoiled = || spoiled(|spans| remove(spans, PUBLISH));
    let by_snapshot = lab::judge(workspace, 6, Role::Tier1, "fast", &spoiled());
    assert_eq!(judge(spoiled()), text(by_snapshot));
}

/// A step whose files are these.
fn step_of(files: &[(&str, &str)]) -> (tempfile::TempDir, Home) {
    let step = tempfile::tempdir().expect("a folder for it");
    let package = step.path().join("steps/step-06");
    std::fs::create_dir_all(package.join("src")).expect("a folder below it");
    for (name, text) in files {
        std::fs::write(package.join("src").join(name), text).expect("a file in it");
    }
    let home = Home {
        manifest_dir: package.display().to_string().into(),
        ..home()
    };
    (step, home)
}

const BEGUN: [(&str, &str); 3] = [
    ("main.rs", "fn main() {\n    // TODO 3: Call it.\n}\n"),
    ("queue.rs", "// TODO 1 is done, TODO 2, too.\n"),
    ("routes.rs", "    // TODO 4: Add it.\n"),
];

#[test]
fn where_nothing_came_the_first_todo_that_is_left_is_next() {
    let next = |files: &[(&str, &str)]| {
        let (_step, home) = step_of(files);
        let case = check(home).offline().expect("it starts nothing");
        let said = text(case.expect_exported(&recording(Vec::new())));
        let next = said.lines().skip_while(|line| !line.contains("  next "));
        let next: Vec<_> = next.take_while(|line| !line.contains("  hint ")).collect();
        next.join("\n")
    };
    let begun = next(&BEGUN);
    assert!(
        begun.contains("steps/step-06/src/main.rs TODO 3, then"),
        "{begun}"
    );
    let all_gone = next(&[("main.rs", "fn main() {}\n")]);
    assert!(
        all_gone.contains("the places that the cause names, then"),
        "{all_gone}"
    );
}

#[test]
fn a_todo_that_is_gone_is_told_as_such() {
    let next = |files: &[(&str, &str)], file, todo| {
        let (_step, home) = step_of(files);
        let case = check(home).offline().expect("it starts nothing");
        case.next(file, todo).expect("there is a place")
    };
    let command = "then `cargo test -p step-06`";
    assert_eq!(
        next(&BEGUN, "main.rs", 3),
        format!("steps/step-06/src/main.rs TODO 3, {command}")
    );
    assert_eq!(
        next(&BEGUN, "queue.rs", 1),
        format!(
            "steps/step-06/src/queue.rs, where TODO 1 was \
             (or steps/step-06/src/main.rs TODO 3, which is still there), {command}"
        )
    );
    assert_eq!(
        next(&BEGUN[1..2], "queue.rs", 1),
        format!("steps/step-06/src/queue.rs, where TODO 1 was, {command}")
    );
}
