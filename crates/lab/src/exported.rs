//! Findings that no tree shows: nothing came, it came late, or to the wrong address;
//! two versions of a crate; a message without context; a span that ended too early.

use std::time::Duration;

use opentelemetry_semantic_conventions::attribute::SERVICE_NAME;
use otlp::{Span, SpanKind};

use crate::{
    broker_choice::Message,
    causes::Kind,
    contract::{Breach, SpanType, Violation},
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
    // Another program is not made of what this workspace is made of.
    if !guide.own_program {
        return None;
    }
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
        1 => " (and 1 more span)".to_owned(),
        more => format!(" (and {more} more spans)"),
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

/// A PRODUCER span that is shorter than the confirm took; or that there is none.
pub(crate) fn confirm(guide: &Guide, spans: &[Span], confirm: Duration) -> Option<Diagnosis> {
    let mut published = spans_of_subject(guide, spans)
        .filter(|span| span.kind == SpanKind::Producer)
        .peekable();
    let expected = format!("at least {confirm:?}: so long the confirm was held back");
    if published.peek().is_none() {
        return Some(guide.tell(
            &about(Kind::Missing, Some(SpanType::Publish)),
            format!("{} exported no PRODUCER span", guide.subject),
            expected_and_got(&expected, "no PRODUCER span"),
        ));
    }
    let short = published.find(|span| Duration::from_nanos(span.duration_nanos()) < confirm)?;
    Some(guide.tell(
        &about(Kind::Confirm, Some(SpanType::Publish)),
        format!("`{}` ended before the broker confirmed", short.name),
        expected_and_got(
            &expected,
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
    let name = match published.first() {
        Some(span) => format!("`{}`", span.name),
        None => "a PRODUCER span".to_owned(),
    };
    let expected = format!("traceparent: 00-<trace>-<span {name}>-01");
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
                "the message carried the context of `{}`, not of {name}",
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
            _ => format!("the message carried another context than that of {name}"),
        },
        expected_and_got(&expected, &got),
    ))
}

/// Where the spans break the conventions.
pub(crate) fn conventions(guide: &Guide, spans: &[Span]) -> Option<Diagnosis> {
    let contract = guide.contract();
    let mut violations = contract.violations(spans);
    // The same thing on spans of the same name is one finding.
    let mut seen: Vec<(&str, String, Breach)> = Vec::new();
    violations.retain(|violation| {
        let this = (
            violation.span.name.as_str(),
            violation.attribute.clone(),
            violation.breach.clone(),
        );
        let is_new = !seen.contains(&this);
        if is_new {
            seen.push(this);
        }
        is_new
    });
    // And so are several attributes of one span.
    let mut groups: Vec<Vec<Violation<'_>>> = Vec::new();
    for violation in violations {
        let same = groups.iter_mut().find(|group| {
            group[0].span.name == violation.span.name
                && Told::of(&group[0].breach) == Told::of(&violation.breach)
        });
        match same {
            Some(group) => group.push(violation),
            None => groups.push(vec![violation]),
        }
    }
    let mut told = groups.iter().map(|group| violated(guide, group));
    let first = told.next()?;
    Some(Diagnosis {
        more: told.collect(),
        ..first
    })
}

/// How a breach is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Missing,
    Forbidden,
    Empty,
    Type,
    Old,
    Repeated,
}

impl Told {
    fn of(breach: &Breach) -> Self {
        match breach {
            Breach::Missing => Self::Missing,
            Breach::Forbidden => Self::Forbidden,
            Breach::Empty => Self::Empty,
            Breach::Type(..) => Self::Type,
            Breach::Old(_) => Self::Old,
            Breach::Repeated(_) => Self::Repeated,
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Missing | Self::Forbidden => Kind::Attribute,
            Self::Empty => Kind::Value,
            Self::Type => Kind::Type,
            Self::Old => Kind::Old,
            Self::Repeated => Kind::Twice,
        }
    }
}

/// One finding: attributes of one span, or of spans of one name, with the same breach.
fn violated(guide: &Guide, group: &[Violation<'_>]) -> Diagnosis {
    let Violation {
        span,
        attribute,
        breach,
    } = &group[0];
    let on = format!("`{}`", span.name);
    let what = match group.len() {
        1 => format!("`{attribute}`"),
        2 => format!("`{attribute}` (and 1 more attribute)"),
        more => format!("`{attribute}` (and {} more attributes)", more - 1),
    };
    let sentence = match breach {
        Breach::Missing => format!("{what} is missing on {on}"),
        Breach::Forbidden => format!("{what} must not be on {on}"),
        Breach::Empty => format!("{what} is empty on {on}"),
        Breach::Type(wanted, came) => {
            format!("{what} is of type {came}, not {}, on {on}", wanted.name())
        }
        Breach::Old(old) => format!("{on} has `{old}`, the old name of {what}"),
        Breach::Repeated(_) => format!("{what} is more than once on {on}"),
    };
    let (mut expected, mut got) = (Vec::new(), Vec::new());
    for Violation {
        attribute, breach, ..
    } in group
    {
        let values = |key: &str| -> Vec<String> {
            let found = span.attributes.iter().filter(|a| a.key == *key);
            found.map(|a| format!("{key} = {}", a.value)).collect()
        };
        match breach {
            Breach::Missing => {
                expected.push(attribute.clone());
                got.push(format!("no {attribute}"));
            }
            Breach::Forbidden => {
                expected.push(format!("no {attribute}"));
                got.extend(values(attribute));
            }
            Breach::Empty => {
                expected.push(format!("{attribute} with a value"));
                got.extend(values(attribute));
            }
            Breach::Type(wanted, _) => {
                expected.push(format!("{attribute} of type {}", wanted.name()));
                got.extend(values(attribute));
            }
            Breach::Old(old) => {
                expected.push(attribute.clone());
                got.extend(values(old));
            }
            Breach::Repeated(_) => {
                expected.push(format!("{attribute} once"));
                got.extend(values(attribute));
            }
        }
    }
    let mut about = about(Told::of(breach).kind(), Some(SpanType::of(span)));
    about.attribute = Some(attribute);
    let head = format!("  {} · {} · {}", span.name, span.kind, span.service());
    let lines = |lines: &[String], mark: char| {
        let lines = lines.iter().take(LINES);
        let lines = lines.map(|line| format!("\n{mark}    {line}"));
        format!("{head}{}", lines.collect::<String>())
    };
    let detail = expected_and_got(&lines(&expected, ' '), &lines(&got, '✗'));
    guide.tell(&about, sentence, detail)
}

/// How many attributes are shown of one finding, at most.
const LINES: usize = 6;

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
