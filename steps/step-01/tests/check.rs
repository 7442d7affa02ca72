//! The check of step 01, Meet tier1.

use std::time::Duration;

use lab::{Case, Outcome, Part, behaviour::body};

fn main() -> std::process::ExitCode {
    lab::check!("01", "Meet tier1")
        .test("fast", fast)
        .test("slow", slow)
        .test("error", error)
        .test("random", random)
        .test("two_at_once", two_at_once)
        .test("tier2_stopped", tier2_stopped)
        .test("healthcheck", healthcheck)
        .test("unknown_path", unknown_path)
        .test("message", message)
        .run()
}

fn fast(case: &Case) -> Outcome {
    let lab = case.start()?;
    let response = lab.get("/fast")?;
    case.expect_response("GET /fast", 200, &body("fast"), &response)?;
    let recording = lab.finish()?;
    says_nothing(case, &recording)?;
    lab::assert_traces!(case, "fast", &recording)?;
    case.show(format!(
        "GET /fast, as its neighbours tell it: two traces, and nothing says that one request made both.\n\n{}",
        otlp::tree(&recording.traces())
    ));
    Ok(())
}

fn slow(case: &Case) -> Outcome {
    let config = case.config();
    let delay = config.slow_delay;
    let lab = case.start_with(config, &[])?;
    let response = lab.get("/slow")?;
    case.expect_response("GET /slow", 200, &body("slow"), &response)?;
    case.expect(
        "SLOW",
        "whether /slow waits SLOW_DELAY_MS",
        true,
        response.elapsed >= delay,
    )?;
    let recording = lab.finish()?;
    says_nothing(case, &recording)?;
    lab::assert_traces!(case, "slow", &recording)
}

/// The lie: the status says that all is well.
fn error(case: &Case) -> Outcome {
    let lab = case.start()?;
    let response = lab.get("/error")?;
    let lie = "tier 1 - error → do_queue → do_saas → Internal Server Error-plus-pure-tier2-proc";
    case.expect_response("GET /error", 200, lie, &response)?;
    let recording = lab.finish()?;
    says_nothing(case, &recording)?;
    lab::assert_traces!(case, "error", &recording)
}

fn random(case: &Case) -> Outcome {
    for (chance, action) in [(0.0, "fast"), (1.0, "slow")] {
        let mut config = case.config();
        config.slow_chance = chance;
        config.slow_delay = Duration::from_millis(20);
        let lab = case.start_with(config, &[])?;
        let response = lab.get("/random")?;
        case.expect_response("GET /random", 200, &body(action), &response)?;
    }
    Ok(())
}

/// Two requests, four traces: which two belong together?
fn two_at_once(case: &Case) -> Outcome {
    let lab = case.start()?;
    for response in lab.get_all(&["/fast", "/fast"])? {
        case.expect_response("GET /fast", 200, &body("fast"), &response)?;
    }
    let recording = lab.finish()?;
    says_nothing(case, &recording)?;
    lab::assert_traces!(case, "two_at_once", &recording)
}

/// The chapter's "break it": without tier2 only the consumer has something to say.
fn tier2_stopped(case: &Case) -> Outcome {
    let lab = case.start_with(case.config().without(Part::Tier2), &[])?;
    let response = lab.get("/fast")?;
    case.expect(
        "STATUS",
        "the status of GET /fast without tier2",
        502,
        response.status,
    )?;
    let recording = lab.finish()?;
    says_nothing(case, &recording)?;
    lab::assert_traces!(case, "tier2_stopped", &recording)
}

/// The health check works when nothing else does.
fn healthcheck(case: &Case) -> Outcome {
    let config = case
        .config()
        .without(Part::Tier2)
        .without(Part::Saas)
        .without(Part::Queue);
    let lab = case.start_with(config, &[])?;
    let response = lab.get("/healthcheck")?;
    case.expect(
        "STATUS",
        "the status of GET /healthcheck",
        200,
        response.status,
    )?;
    let content_type = response.headers.get("content-type");
    let content_type = content_type.and_then(|value| value.to_str().ok());
    case.expect(
        "JSON",
        "the content type of /healthcheck",
        "application/json",
        content_type.unwrap_or_default(),
    )
}

fn unknown_path(case: &Case) -> Outcome {
    let lab = case.start()?;
    for (method, path, status) in [("GET", "/nope", 404), ("POST", "/fast", 405)] {
        let response = lab.request(method, path, &[])?;
        case.expect(
            "STATUS",
            &format!("the status of {method} {path}"),
            status,
            response.status,
        )?;
    }
    let recording = lab.finish()?;
    case.expect(
        "MESSAGES",
        "the number of spans that unknown requests set off",
        0,
        recording.spans.len(),
    )
}

/// What lies in the queue after one request.
fn message(case: &Case) -> Outcome {
    let lab = case.start_with(case.config().without(Part::Consumer), &[])?;
    let response = lab.get("/fast")?;
    case.expect_response("GET /fast", 200, &body("fast"), &response)?;
    let messages = lab.take_messages()?;
    case.expect("MESSAGES", "the number of messages", 1, messages.len())?;
    let message = &messages[0];
    let (route, time) = message.body.split_once(' ').unwrap_or_default();
    case.expect("MESSAGE", "the first word of the message", "fast", route)?;
    let is_time = time.contains('.') && time.parse::<f64>().is_ok();
    case.expect(
        "MESSAGE",
        "whether the message ends in seconds with a fraction",
        true,
        is_time,
    )?;
    case.expect("MESSAGE", "the exchange", "", message.exchange.as_str())?;
    case.expect(
        "MESSAGE",
        "the routing key",
        "signups",
        message.routing_key.as_str(),
    )?;
    case.expect(
        "MESSAGE",
        "the delivery mode",
        2,
        message.delivery_mode.unwrap_or_default(),
    )?;
    case.expect(
        "MESSAGE",
        "whether it has a message id",
        true,
        message.message_id.is_some(),
    )?;
    case.expect(
        "MESSAGE",
        "the number of its headers",
        0,
        message.headers.inner().len(),
    )
}

/// tier1 has no telemetry yet.
fn says_nothing(case: &Case, recording: &lab::Recording) -> Outcome {
    let around = ["tier2-service", "consumer-service"];
    let others = recording
        .spans
        .iter()
        .filter(|span| !around.contains(&span.service()));
    case.expect(
        "EXPORTS",
        "the number of spans that tier1 exported",
        0,
        others.count(),
    )
}
