//! The check of step 13, The other side of the queue.

use std::time::Duration;

use lab::{
    CALLER_SPAN, CALLER_TRACE, Case, Failure, Header, Kind, Lab, Outcome, Outgoing, SpanType,
};
use opentelemetry_semantic_conventions::attribute;
use otlp::StatusCode;

fn main() -> std::process::ExitCode {
    lab::check!("13", "The other side of the queue")
        .consumer()
        .chapter("13-the-other-side-of-the-queue")
        .otherwise("process.rs", 2)
        .cause(
            (Kind::Missing, SpanType::Database),
            "database.rs",
            5,
            "No span is started around the query, or it has none of the attributes that \
             `members.attributes()` gives.",
        )
        .todo((Kind::Name, SpanType::Database), "database.rs", 5)
        .todo((Kind::Kind, SpanType::Database), "database.rs", 5)
        .todo((Kind::Attribute, SpanType::Database), "database.rs", 5)
        .cause(
            (Kind::Status, SpanType::Database),
            "database.rs",
            5,
            "A query that failed makes its span Error, with `error.message()` as the text. \
             One that went well leaves it Unset, not Ok.",
        )
        .cause(
            (Kind::Attribute, SpanType::Process, attribute::ERROR_TYPE),
            "process.rs",
            3,
            "`end` sets `error.type` and the status Error from what `attributes::error_of` \
             answers, and nothing if that is `None`.",
        )
        .cause(
            Kind::Nothing,
            "process.rs",
            2,
            "`start_span` starts no span. Telemetry is set up already: what the tracer \
             starts is exported when it ends.",
        )
        .cause(
            (Kind::Missing, SpanType::Process),
            "process.rs",
            2,
            "`start_span` starts no span for the message.",
        )
        .cause(
            Kind::Split,
            "process.rs",
            2,
            "The span was started without its parent. The message brings the context of the \
             span that published it: `get` reads it (TODO 1), and `start_span` extracts it \
             and gives it to `start_with_context` (TODO 2). A link alone doesn't do that.",
        )
        .cause(
            (Kind::Split, SpanType::Database),
            "process.rs",
            3,
            "The query's span was started in no context: the work has to be done in that of \
             the message's span, by `with_context`.",
        )
        .cause(
            (Kind::Parent, SpanType::Process),
            "process.rs",
            2,
            "The message brings the context of the span that published it: `get` reads it \
             (TODO 1), and `start_span` extracts it and gives it to `start_with_context` \
             (TODO 2).",
        )
        // What the headers say is seen in the span alone: a `get` that answers nothing
        // and a parent that is not given look the same from here.
        .before((Kind::Split, SpanType::Process), "headers.rs", 1)
        .before((Kind::Parent, SpanType::Process), "headers.rs", 1)
        .before((Kind::Unexpected, SpanType::Process), "headers.rs", 1)
        .cause(
            Kind::Unexpected,
            "process.rs",
            2,
            "If the publisher decided against recording, so does everybody after it: that is \
             in the context which the message brings. `get` reads it (TODO 1), and \
             `start_span` starts the span under it (TODO 2).",
        )
        .cause(
            (Kind::Unexpected, SpanType::Database),
            "process.rs",
            3,
            "If the publisher decided against recording, so does everybody after it: the \
             query's span hears of it from the current span, which is that of the message \
             if the work is done in its context, by `with_context`.",
        )
        .cause(
            (Kind::Parent, SpanType::Database),
            "process.rs",
            3,
            "The work is not done in the context of the message's span: `with_context`.",
        )
        .cause(
            Kind::Link,
            "process.rs",
            2,
            "`with_links` takes a `Link::with_context` of the span that published the \
             message. If the message brought none, `with_links` leaves the link out by \
             itself; `add_link` doesn't.",
        )
        .cause(
            (Kind::Status, SpanType::Process),
            "process.rs",
            3,
            "`end` does nothing with `attributes::error_of` yet, or something else: Error \
             with the text if it answers `Some`, and if not, Unset (not Ok).",
        )
        .named(
            "HEADER",
            "headers.rs",
            1,
            "`get` has an arm for `LongString`, one for `ShortString` and one for \
             `ByteArray`, and `None` for all else.",
        )
        .named(
            "ROOT",
            "process.rs",
            2,
            "What can't be read is as good as nothing: `get` answers `None` (TODO 1), and \
             `extract_with_context` the context that it was given, which is to be \
             `Context::new()`. A link to nothing is left out by `with_links`, not by \
             `add_link`.",
        )
        .named(
            "DESCRIPTION",
            "process.rs",
            3,
            "`Status::error` takes the text that `attributes::error_of` gives with the type.",
        )
        .named(
            "ACK",
            "process.rs",
            4,
            "A message is acked if all went well, rejected for good if it is malformed, and \
             nacked with `requeue` if the query failed: once, and after the work, since the \
             broker forgets it then. Of which it hears nothing until consumer ends, it hands \
             out again.",
        )
        .test("published", published)
        .test("acked", acked)
        .test("bytes", bytes)
        .test("no_context", no_context)
        .test("bad_context", bad_context)
        .test("caller", caller)
        .test("unsampled", unsampled)
        .test("malformed", malformed)
        .test("query_failed", query_failed)
        .test("killed", killed)
        .run()
}

/// How long something may take that is to happen.
const DEADLINE: Duration = Duration::from_secs(20);

/// How long a message is looked for that should be in the queue.
const AGAIN: Duration = Duration::from_secs(5);

/// The publisher's span, the consumer's, and the query.
fn published(case: &Case) -> Outcome {
    let lab = case.start()?;
    lab.publish_in_span(Outgoing::new("message-1"))?;
    let recording = processed(lab)?;
    lab::assert_traces!(case, "published", &recording)?;
    case.show_traces("A message", &recording);
    Ok(())
}

/// The broker hears that a message was processed: it hands out again what it heard
/// nothing of. It is to be an ack: after a rejection the message is gone, too.
fn acked(case: &Case) -> Outcome {
    let mut lab = case.start()?;
    lab.publish(&Outgoing::new("message-1"))?;
    lab.wait_for_log(&["processed", "message-1"], DEADLINE)?;
    lab.stop()?;
    let left = lab.take_messages()?.len();
    let what = "the number of messages in the queue after one was processed";
    case.expect("ACK", what, 0, left)?;
    let what = "the number of rejections of a message that was processed";
    case.expect("ACK", what, 0, lab.rejections())
}

/// `traceparent` as bytes, which some clients write.
fn bytes(case: &Case) -> Outcome {
    let lab = case.start()?;
    let traceparent = lab::traceparent("01");
    let header = Header::Bytes(traceparent.as_bytes());
    lab.publish(&Outgoing::new("message-1").header("traceparent", header))?;
    let recording = processed(lab)?;
    case.expect_exported(&recording)?;
    let span = case.the_span("process signups", &recording)?;
    let parent = span.parent_span_id.map(|id| id.to_string());
    // Either shows that it was read. What is to be made of it, others look at.
    let linked = span.links.iter().map(|link| link.span_id.to_string());
    if linked.chain(parent.clone()).any(|id| id == CALLER_SPAN) {
        return Ok(());
    }
    let sentence = "a `traceparent` that is a byte array was not read";
    let expected = format!("trace {CALLER_TRACE}, parent {CALLER_SPAN}");
    let got = format!(
        "trace {}, parent {}",
        span.trace_id,
        parent.as_deref().unwrap_or("none")
    );
    Err(case.told("HEADER", sentence, &expected, &got).into())
}

fn no_context(case: &Case) -> Outcome {
    let lab = case.start()?;
    lab.publish(&Outgoing::new("message-1"))?;
    let recording = processed(lab)?;
    lab::assert_traces!(case, "no_context", &recording)
}

/// A header that says nothing is as good as none: a root, and no link.
fn bad_context(case: &Case) -> Outcome {
    let bad = [
        Header::Text("garbage"),
        Header::Text("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"),
        Header::Text("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1"),
        Header::Bytes(b"\xff\xfe"),
        Header::Number(1),
    ];
    let lab = case.start()?;
    for (at, header) in bad.into_iter().enumerate() {
        let id = format!("message-{at}");
        lab.publish(&Outgoing::new(&id).header("traceparent", header))?;
        lab.wait_for_log(&["processed", &id], DEADLINE)?;
    }
    let recording = lab.finish()?;
    case.expect_exported(&recording)?;
    let spans = recording.spans.iter();
    let spans: Vec<_> = spans
        .filter(|span| span.name == "process signups")
        .collect();
    for span in &spans {
        if span.parent_span_id.is_some() || !span.links.is_empty() {
            let id = span.attribute(attribute::MESSAGING_MESSAGE_ID);
            let at = bad.iter().enumerate().find(|(at, _)| {
                id.and_then(otlp::Value::as_str) == Some(format!("message-{at}").as_str())
            });
            let sentence = match at {
                Some((_, header)) => format!("a `traceparent` that is {header:?} was taken"),
                None => "a `traceparent` that can't be read was taken".to_owned(),
            };
            let parent = span.parent_span_id.map(|id| id.to_string());
            let got = format!(
                "parent {}, links: {}",
                parent.as_deref().unwrap_or("none"),
                span.links.len()
            );
            return Err(case
                .told("ROOT", sentence, "no parent, no link", &got)
                .into());
        }
    }
    case.expect("SPANS", "the number of spans", bad.len(), spans.len())
}

/// A publisher whose spans go elsewhere.
fn caller(case: &Case) -> Outcome {
    let lab = case.start()?;
    lab.publish(&with_traceparent("01"))?;
    let recording = processed(lab)?;
    lab::assert_traces!(case, "caller", &recording)
}

fn unsampled(case: &Case) -> Outcome {
    let lab = case.start()?;
    lab.publish(&with_traceparent("00"))?;
    let recording = processed(lab)?;
    lab::assert_traces!(case, "unsampled", &recording)
}

/// A message that nobody can process: on record as an error, and gone.
fn malformed(case: &Case) -> Outcome {
    let mut lab = case.start()?;
    lab.publish_in_span(Outgoing::new("message-1").body(b"fast soon"))?;
    lab.wait_for_log(&["rejected", "message-1"], DEADLINE)?;
    let exit = lab.stop()?;
    let left = lab.take_messages()?.len();
    lab.settle()?;
    let recording = lab.recording(Some(exit));
    case.expect("ACK", "the number of malformed messages left", 0, left)?;
    let what = "the number of rejections of a malformed message";
    case.expect("ACK", what, 1, lab.rejections())?;
    lab::assert_traces!(case, "malformed", &recording)?;
    described(case, &recording)
}

/// The database fails: an error on both spans, and the message is in the queue again.
fn query_failed(case: &Case) -> Outcome {
    let mut lab = case.start()?;
    lab.break_database()?;
    lab.publish_in_span(Outgoing::new("message-1"))?;
    lab.wait_for_log(&["requeued", "message-1"], DEADLINE)?;
    let exit = lab.stop()?;
    let left = lab.take_messages()?.len();
    lab.settle()?;
    let mut recording = lab.recording(Some(exit));
    // The message may have come again before the consumer was stopped.
    first_attempt_only(&mut recording);
    lab::assert_traces!(case, "query_failed", &recording)?;
    described(case, &recording)?;
    let what = "the number of messages in the queue after the query failed";
    case.expect("ACK", what, 1, left)?;
    if lab.rejections() > 0 {
        return Ok(());
    }
    let sentence = "after the query failed the message came back only when consumer ended";
    Err(case.told("ACK", sentence, "a nack", "none").into())
}

/// The process dies before the work is done.
fn killed(case: &Case) -> Outcome {
    let mut lab = case.start()?;
    let held = lab.lock_database()?;
    lab.publish(&Outgoing::new("message-1"))?;
    lab.wait_for_log(&["received", "message-1"], DEADLINE)?;
    lab.kill()?;
    drop(held);
    let left = lab.wait_for_messages(1, AGAIN)?.len();
    case.expect(
        "ACK",
        "the number of messages in the queue after the consumer was killed at its work",
        1,
        left,
    )
}

fn with_traceparent(flags: &str) -> Outgoing {
    let traceparent = lab::traceparent(flags);
    Outgoing::new("message-1").header("traceparent", Header::Text(&traceparent))
}

/// Waits until the message is processed, and ends the consumer.
fn processed(lab: Lab) -> Result<lab::Recording, Failure> {
    lab.wait_for_log(&["processed", "message-1"], DEADLINE)?;
    Ok(lab.finish()?)
}

/// Whether each span that failed says why in words.
fn described(case: &Case, recording: &lab::Recording) -> Outcome {
    let bare = recording
        .spans_of("consumer-service")
        .find(|span| span.status.code == StatusCode::Error && span.status.description.is_empty());
    match bare {
        Some(span) => {
            let sentence = format!("the status of `{}` has no description", span.name);
            Err(case
                .told("DESCRIPTION", sentence, "the error's text", "nothing")
                .into())
        }
        None => Ok(()),
    }
}

/// Leaves the first `process signups` and what is under it.
fn first_attempt_only(recording: &mut lab::Recording) {
    let later: Vec<_> = {
        let mut attempts: Vec<_> = recording
            .spans
            .iter()
            .filter(|span| span.name == "process signups")
            .collect();
        attempts.sort_by_key(|span| span.start_unix_nanos);
        let later = attempts.into_iter().skip(1);
        later.map(|span| span.span_id).collect()
    };
    recording.spans.retain(|span| {
        let is_under = |id: &otlp::SpanId| later.contains(id);
        !later.contains(&span.span_id) && !span.parent_span_id.as_ref().is_some_and(is_under)
    });
}
