//! Findings that no tree shows: nothing came, it came late, or to the wrong address;
//! two versions of a crate; a message without context; a span that ended too early.

use std::time::Duration;

use opentelemetry_semantic_conventions::attribute::SERVICE_NAME;
use otlp::{Span, SpanKind};

use crate::{
    broker_choice::Message,
    causes::Kind,
    contract::{Breach, SpanType, StepContract, Violation},
    diagnosis::{Diagnosis, expected_and_got},
    findings::{about, is_neighbour},
    guide::Guide,
    lab::Recording,
};

/// Where a receiver takes telemetry (OTLP specification, "OTLP/HTTP Request").
const PATHS: [&str; 3] = ["/v1/traces", "/v1/logs", "/v1/metrics"];

/// The spans of the program under test.
pub(crate) fn spans_of_subject<'a>(
    guide: &'a Guide,
    spans: &'a [Span],
) -> impl Iterator<Item = &'a Span> {
    spans
        .iter()
        .filter(|span| !is_neighbour(guide, span.service()))
}

/// Why nothing came, for a recording without spans of the program under test.
pub(crate) fn nothing(guide: &Guide, recording: &Recording) -> Diagnosis {
    let endpoint = wrong_endpoint(guide, recording);
    if let Some(told) = endpoint.or_else(|| versions(guide)) {
        return told;
    }
    let mut got = "no span of it".to_owned();
    if let Some(exit) = &recording.exit {
        let said = exit.stderr.lines().rev().find(|line| {
            let line = line.to_lowercase();
            line.contains("opentelemetry") || line.contains("otel") || line.contains("export")
        });
        if let Some(line) = said {
            got.push_str(&format!("; on stderr: {}", line.trim()));
        }
    }
    guide.tell(
        &about(Kind::Nothing, None),
        format!("{} exported nothing", guide.subject),
        expected_and_got(
            &format!("POST {} with spans of {}", PATHS[0], guide.subject),
            &got,
        ),
    )
}

/// Tells of requests that went to a path where nobody takes them.
pub(crate) fn wrong_endpoint(guide: &Guide, recording: &Recording) -> Option<Diagnosis> {
    let wrong = recording
        .requests
        .iter()
        .find(|request| !PATHS.contains(&request.path.as_str()))?;
    let came = format!("{} {}, answered {}", wrong.method, wrong.path, wrong.answer);
    Some(guide.tell(
        &about(Kind::Endpoint, None),
        format!(
            "{} exported to {}, where nobody takes it",
            guide.subject, wrong.path
        ),
        expected_and_got(&format!("POST {}", PATHS[0]), &came),
    ))
}

/// Tells of a second version of the crate `opentelemetry` in the workspace's Cargo.lock.
pub(crate) fn versions(guide: &Guide) -> Option<Diagnosis> {
    // Without the file nothing can be said; cargo itself would have complained.
    let text = std::fs::read_to_string(guide.workspace().join("Cargo.lock")).ok()?;
    let packages = packages(&text);
    let versions: Vec<&str> = packages
        .iter()
        .filter(|package| package.name == API)
        .map(|package| package.version)
        .collect();
    if versions.len() < 2 {
        return None;
    }
    let got: Vec<String> = versions
        .iter()
        .map(|version| {
            // Where there are two, Cargo.lock names the version that is meant.
            let meant = format!("{API} {version}");
            let users: Vec<&str> = packages
                .iter()
                .filter(|package| package.dependencies.contains(&meant.as_str()))
                .map(|package| package.name)
                .collect();
            match users.as_slice() {
                [] => meant,
                [users @ .., _] if users.len() > 3 => {
                    format!(
                        "{meant}, for {} and {} more",
                        users[..3].join(", "),
                        users.len() - 2
                    )
                }
                users => format!("{meant}, for {}", users.join(", ")),
            }
        })
        .collect();
    Some(guide.tell(
        &about(Kind::Versions, None),
        format!("Cargo.lock has {} versions of `{API}`", versions.len()),
        expected_and_got(&format!("one version of `{API}`"), &got.join("\n")),
    ))
}

/// The crate that holds the globals.
const API: &str = "opentelemetry";

/// A package in a Cargo.lock.
struct Package<'a> {
    name: &'a str,
    version: &'a str,
    dependencies: Vec<&'a str>,
}

/// The packages of a Cargo.lock, in its order. Cargo writes one key or one dependency
/// a line.
fn packages(lock: &str) -> Vec<Package<'_>> {
    let value = |line: &'_ str, key: &str| -> Option<(usize, usize)> {
        let rest = line.strip_prefix(key)?.strip_prefix(" = \"")?;
        let start = line.len() - rest.len();
        Some((start, start + rest.find('"')?))
    };
    lock.split("[[package]]")
        .skip(1)
        .filter_map(|block| {
            let mut package = Package {
                name: "",
                version: "",
                dependencies: Vec::new(),
            };
            for line in block.lines() {
                if let Some((start, end)) = value(line, "name") {
                    package.name = &line[start..end];
                } else if let Some((start, end)) = value(line, "version") {
                    package.version = &line[start..end];
                } else if let Some(dependency) = line.strip_prefix(" \"") {
                    package
                        .dependencies
                        .push(dependency.trim_end_matches(',').trim_end_matches('"'));
                }
            }
            (!package.name.is_empty()).then_some(package)
        })
        .collect()
}

/// A span that was not there at the deadline; `came` says when it was, if ever.
pub(crate) fn late(
    guide: &Guide,
    name: &str,
    deadline: Duration,
    came: Option<Duration>,
) -> Diagnosis {
    let got = match came {
        Some(after) => format!("after {after:.1?}"),
        None => "other spans, but not this one".to_owned(),
    };
    guide.tell(
        &about(Kind::Late, None),
        format!("`{name}` was not exported within {deadline:?}"),
        expected_and_got(&format!("`{name}` within {deadline:?}"), &got),
    )
}

/// The first span of the program under test that has another service's name, or none.
pub(crate) fn service(guide: &Guide, spans: &[Span]) -> Option<Diagnosis> {
    let mut wrong = spans_of_subject(guide, spans).filter(|span| span.service() != guide.subject);
    let first = wrong.next()?;
    let more = wrong.count();
    let got = match first.resource.attribute(SERVICE_NAME) {
        Some(value) => format!("{SERVICE_NAME} = {value}"),
        None => format!("no {SERVICE_NAME}"),
    };
    let and_more = match more {
        0 => String::new(),
        more => format!(", and so {more} more"),
    };
    Some(guide.tell(
        &about(Kind::Service, None),
        format!(
            "`{}` does not come from {}{and_more}",
            first.name, guide.subject
        ),
        expected_and_got(&format!("{SERVICE_NAME} = \"{}\"", guide.subject), &got),
    ))
}

/// A PRODUCER span that is shorter than the confirm took.
pub(crate) fn confirm(guide: &Guide, spans: &[Span], confirm: Duration) -> Option<Diagnosis> {
    let short = spans_of_subject(guide, spans).find(|span| {
        span.kind == SpanKind::Producer && Duration::from_nanos(span.duration_nanos()) < confirm
    })?;
    Some(guide.tell(
        &about(Kind::Confirm, Some(SpanType::Publish)),
        format!("`{}` ended before the broker confirmed", short.name),
        expected_and_got(
            &format!("{confirm:?} or longer: so late came the confirm"),
            &format!("{:.1?}", Duration::from_nanos(short.duration_nanos())),
        ),
    ))
}

/// Whether a message carries the context of the span that published it.
pub(crate) fn message(guide: &Guide, message: &Message, spans: &[Span]) -> Option<Diagnosis> {
    let published: Vec<&Span> = spans_of_subject(guide, spans)
        .filter(|span| span.kind == SpanKind::Producer)
        .collect();
    let header = message.header("traceparent");
    let carries = |span: &Span, id: otlp::SpanId| {
        let wanted = format!("00-{}-{id}-", span.trace_id);
        header
            .as_ref()
            .is_some_and(|header| header.starts_with(&wanted))
    };
    if published.iter().any(|span| carries(span, span.span_id)) {
        return None;
    }
    let name = published.first().map_or("publish", |span| &span.name);
    let expected = format!("traceparent: 00-<trace>-<span `{name}`>-01");
    let parents = published
        .iter()
        .filter_map(|span| Some((span, span.parent_span_id?)));
    let parent = parents
        .filter(|(span, parent)| carries(span, *parent))
        .find_map(|(_, parent)| spans.iter().find(|span| span.span_id == parent));
    if let Some(parent) = parent {
        return Some(guide.tell(
            &about(Kind::InjectParent, Some(SpanType::Publish)),
            format!(
                "the message carried the context of `{}`, not of `{name}`",
                parent.name
            ),
            expected_and_got(
                &expected,
                &format!("traceparent: 00-<trace>-<span `{}`>-01", parent.name),
            ),
        ));
    }
    let got = match header {
        Some(header) => format!("traceparent: {header}"),
        None => "no header `traceparent`".to_owned(),
    };
    Some(guide.tell(
        &about(Kind::InjectMessage, Some(SpanType::Publish)),
        match &got {
            got if got.starts_with("no") => "the message carried no context".to_owned(),
            _ => format!("the message carried another context than that of `{name}`"),
        },
        expected_and_got(&expected, &got),
    ))
}

/// Where the spans break the conventions.
pub(crate) fn conventions(guide: &Guide, spans: &[Span]) -> Option<Diagnosis> {
    let contract = StepContract::new(guide.number());
    let violations = contract.violations(spans);
    let mut told: Vec<(String, Diagnosis)> = Vec::new();
    for violation in &violations {
        let diagnosis = violated(guide, violation);
        let same = |(sentence, _): &(String, Diagnosis)| *sentence == diagnosis.sentence;
        if !told.iter().any(same) {
            told.push((diagnosis.sentence.clone(), diagnosis));
        }
    }
    let mut told = told.into_iter().map(|(_, diagnosis)| diagnosis);
    let first = told.next()?;
    Some(Diagnosis {
        more: told.collect(),
        ..first
    })
}

fn violated(guide: &Guide, violation: &Violation<'_>) -> Diagnosis {
    let Violation {
        span,
        attribute,
        breach,
    } = violation;
    let on = format!("`{}`", span.name);
    let value = |key: &str| {
        let value = span.attribute(key).map(ToString::to_string);
        format!("{key} = {}", value.unwrap_or_default())
    };
    let (kind, sentence, expected, got) = match breach {
        Breach::Missing => (
            Kind::Attribute,
            format!("`{attribute}` is missing on {on}"),
            attribute.clone(),
            format!("no {attribute}"),
        ),
        Breach::Forbidden => (
            Kind::Attribute,
            format!("`{attribute}` must not be on {on}"),
            format!("no {attribute}"),
            value(attribute),
        ),
        Breach::Empty => (
            Kind::Value,
            format!("`{attribute}` is empty on {on}"),
            format!("{attribute} with a value"),
            value(attribute),
        ),
        Breach::Type(wanted, came) => (
            Kind::Type,
            format!(
                "`{attribute}` is of type {came}, not {}, on {on}",
                wanted.name()
            ),
            format!("{attribute} of type {}", wanted.name()),
            value(attribute),
        ),
        Breach::Old(old) => (
            Kind::Old,
            format!("{on} has `{old}`, the old name of `{attribute}`"),
            attribute.clone(),
            value(old),
        ),
        Breach::Repeated(count) => (
            Kind::Twice,
            format!("`{attribute}` is {count} times on {on}"),
            "it once".to_owned(),
            span.attributes
                .iter()
                .filter(|a| a.key == *attribute)
                .map(|a| format!("{attribute} = {}", a.value))
                .collect::<Vec<_>>()
                .join("\n"),
        ),
    };
    let mut about = about(kind, Some(SpanType::of(span)));
    about.attribute = Some(attribute);
    let head = format!("{} · {} · {}", span.name, span.kind, span.service());
    let lines = |text: &str| {
        let lines = text.lines().map(|line| format!("\n   {line}"));
        format!("{head}{}", lines.collect::<String>())
    };
    guide.tell(
        &about,
        sentence,
        expected_and_got(&lines(&expected), &lines(&got)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_is_read() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\
                    dependencies = [\n \"opentelemetry 0.32.0\",\n \"b\",\n]\n\n\
                    [[package]]\nname = \"opentelemetry\"\nversion = \"0.32.0\"\n";
        let found = packages(lock);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].name, found[0].version), ("a", "1.0.0"));
        assert_eq!(found[0].dependencies, ["opentelemetry 0.32.0", "b"]);
        assert_eq!(found[1].name, "opentelemetry");
        assert!(packages("").is_empty());
    }
}
