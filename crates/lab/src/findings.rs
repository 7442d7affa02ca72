//! Tells how the traces that came differ from those in a snapshot.

use otlp::{
    Comparison, Difference, Expected, Finding, Internal, NormalParent, NormalSpan, Order, Rules,
    Span, SpanKind, StatusCode,
};

use crate::{
    causes::{About, Kind},
    contract::{AROUND, SpanType, TIER1, is_optional, old_name},
    diagnosis::{Diagnosis, difference, expected_and_got},
    exported,
    guide::Guide,
    lab::Recording,
    picture::{Picture, path},
};

/// What came, in the form of the snapshot, if nothing differs but what is accepted.
///
/// # Errors
/// The findings, most telling first.
pub(crate) fn compare(
    guide: &Guide,
    name: &str,
    expected: &Expected,
    recording: &Recording,
) -> Result<String, Box<Diagnosis>> {
    let is_subject = |service: &str| !is_neighbour(guide, service);
    let asked = expected
        .spans()
        .any(|(_, _, span)| is_subject(&span.service));
    let came = recording
        .spans
        .iter()
        .any(|span| is_subject(span.service()));
    if asked && !came {
        return Err(Box::new(exported::nothing(guide, recording)));
    }
    let contract = guide.contract();
    let normalized = |internal| {
        let rules = Rules::new(&contract).order(Order::Structure);
        rules.internal(internal).normalize(&recording.spans)
    };
    let all = normalized(Internal::All);
    let got = if Comparison::can_match(expected, &all) {
        all
    } else {
        // However many INTERNAL spans there are that nobody asked for: they fail nobody.
        normalized(internal(expected))
    };
    let text_differs = || {
        Box::new(Diagnosis {
            next: Some(format!(
                "the whole of what is expected: {}",
                guide.relative(&guide.snapshot_path(name))
            )),
            ..guide.tell(
                &about(Kind::Trace, None),
                format!("the traces of `{name}` are not as expected"),
                difference(&expected.to_string(), &got.to_string()),
            )
        })
    };
    let Some(comparison) = Comparison::new(expected, &got) else {
        return Err(text_differs());
    };
    let optional = |span: &NormalSpan, key: &str| is_optional(SpanType::of_normal(span), key);
    let findings = comparison.findings(&optional);
    if findings.is_empty() {
        let rebuilt = comparison.rebuilt(expected, &optional);
        return if rebuilt == *expected {
            Ok(rebuilt.to_string())
        } else {
            Err(text_differs())
        };
    }
    let teller = Teller {
        guide,
        comparison: &comparison,
        spans: &recording.spans,
    };
    Err(Box::new(teller.tell(&findings)))
}

/// The INTERNAL spans that a snapshot shows.
pub(crate) fn internal(expected: &Expected) -> Internal {
    let names = expected
        .spans()
        .filter(|(_, _, span)| span.kind == SpanKind::Internal)
        .map(|(_, _, span)| span.name.clone());
    Internal::Named(names.collect())
}

/// Whether `service` is one of those around the program under test.
pub(crate) fn is_neighbour(guide: &Guide, service: &str) -> bool {
    // tier1 may call itself what it likes, unless it is not what is looked at.
    let around = AROUND.contains(&service) || service == TIER1;
    service != guide.subject && around
}

pub(crate) fn about(kind: Kind, span: Option<SpanType>) -> About<'static> {
    About {
        kind,
        span,
        attribute: None,
        name: None,
    }
}

/// Findings that are one to the reader: the same thing on several spans.
struct Group<'a> {
    kind: Kind,
    span: Option<SpanType>,
    attributes: Vec<String>,
    /// What tells groups of one kind apart.
    label: String,
    first: &'a Finding,
    count: usize,
}

struct Teller<'a> {
    guide: &'a Guide,
    comparison: &'a Comparison<'a>,
    spans: &'a [Span],
}

impl<'a> Teller<'a> {
    fn tell(&self, findings: &'a [Finding]) -> Diagnosis {
        let mut groups: Vec<Group<'a>> = Vec::new();
        for finding in findings {
            let group = self.group(finding);
            let same = groups.iter_mut().find(|other| {
                other.kind == group.kind
                    && other.label == group.label
                    && (other.span == group.span || group.kind == Kind::Service)
            });
            match same {
                Some(same) => same.count += 1,
                None => groups.push(group),
            }
        }
        groups.sort_by_key(|group| group.kind);
        // What two versions of the crate look like from outside.
        let unconnected = [
            Kind::Missing,
            Kind::Inject,
            Kind::InjectMessage,
            Kind::Split,
        ];
        let versions = groups
            .first()
            .filter(|group| unconnected.contains(&group.kind))
            .and_then(|_| exported::versions(self.guide));
        let mut told = groups.iter().map(|group| self.diagnosis(group));
        let first = told.next().unwrap_or_default();
        Diagnosis {
            more: versions.into_iter().chain(told).collect(),
            ..first
        }
    }

    fn expected(&self, finding: &Finding) -> Option<&'a NormalSpan> {
        finding.expected.map(|e| self.comparison.expected[e].span)
    }

    fn got(&self, finding: &Finding) -> Option<&'a NormalSpan> {
        finding.got.map(|g| self.comparison.got[g].span)
    }

    /// The expected span above.
    fn parent(&self, finding: &Finding) -> Option<usize> {
        self.comparison.expected[finding.expected?].parent
    }

    /// The name that `key` had before, if the span has that.
    fn old_name(&self, finding: &Finding, key: &str) -> Option<&'static str> {
        old_name(self.exported(finding)?, key)
    }

    /// The span as it was exported, with what the snapshot doesn't show.
    fn exported(&self, finding: &Finding) -> Option<&'a Span> {
        let source = self.got(finding)?.source?;
        self.spans
            .iter()
            .find(|span| (span.trace_id, span.span_id) == source)
    }

    fn group(&self, finding: &'a Finding) -> Group<'a> {
        let span = self.expected(finding).or(self.got(finding));
        let mut span_type = span.map(SpanType::of_normal);
        let mut attributes = Vec::new();
        let mut label = String::new();
        let kind = match &finding.differences[0] {
            Difference::Missing | Difference::Unexpected => {
                label = span.map(NormalSpan::headline).unwrap_or_default();
                if finding.got.is_none() {
                    Kind::Missing
                } else {
                    Kind::Unexpected
                }
            }
            Difference::Name => {
                label = format!(
                    "{:?}",
                    (span.map(|s| &s.name), self.got(finding).map(|s| &s.name))
                );
                Kind::Name
            }
            Difference::Kind => {
                label = format!(
                    "{:?}",
                    (span.map(|s| s.kind), self.got(finding).map(|s| s.kind))
                );
                Kind::Kind
            }
            place @ (Difference::Parent { .. } | Difference::Split) => {
                label = format!("{:?}", self.parent(finding));
                let (kind, injecting) = self.place(finding, place);
                if injecting {
                    let parent = self.parent(finding);
                    span_type =
                        parent.map(|p| SpanType::of_normal(self.comparison.expected[p].span));
                }
                kind
            }
            Difference::Status => {
                label = format!(
                    "{:?}",
                    (span.map(|s| s.status), self.got(finding).map(|s| s.status))
                );
                Kind::Status
            }
            Difference::Service => {
                label = self
                    .got(finding)
                    .map(|s| s.service.clone())
                    .unwrap_or_default();
                Kind::Service
            }
            Difference::NoAttribute(_) => {
                let missing = finding.differences.iter().filter_map(missing);
                let (old, none): (Vec<_>, Vec<_>) = missing
                    .map(ToOwned::to_owned)
                    .partition(|key| self.old_name(finding, key).is_some());
                // Old names explain more than what has no name at all; that is told besides.
                let (kind, keys) = if old.is_empty() {
                    (Kind::Attribute, none)
                } else {
                    (Kind::Old, old)
                };
                attributes = keys;
                kind
            }
            Difference::NotThisAttribute(key) => {
                attributes.push(key.clone());
                label.push('+');
                Kind::Attribute
            }
            Difference::Value(key) => {
                attributes.push(key.clone());
                Kind::Value
            }
            Difference::Type(key) => {
                attributes.push(key.clone());
                Kind::Type
            }
            Difference::Twice(key) => {
                attributes.push(key.clone());
                Kind::Twice
            }
            Difference::Link => Kind::Link,
            Difference::Event => Kind::Event,
        };
        label.push_str(&attributes.join(" "));
        Group {
            kind,
            span: span_type,
            attributes,
            label,
            first: finding,
            count: 1,
        }
    }

    /// What another place comes from: between services, from what was injected.
    fn place(&self, finding: &Finding, difference: &Difference) -> (Kind, bool) {
        let otherwise = match difference {
            Difference::Split => Kind::Split,
            Difference::Parent { above: None } if !self.has_lost_its_caller(finding) => {
                Kind::Orphan
            }
            _ => Kind::Parent,
        };
        let (Some(span), Some(parent)) = (self.expected(finding), self.parent(finding)) else {
            return (otherwise, false);
        };
        let spot = &self.comparison.expected[parent];
        let is_entry = matches!(span.kind, SpanKind::Server | SpanKind::Consumer);
        // What is sent to the program under test carries a context: its own is the fault.
        let is_given = span.service == self.guide.subject;
        if !is_entry || is_given || spot.span.service == span.service {
            return (otherwise, false);
        }
        match difference {
            Difference::Split if span.kind == SpanKind::Consumer => (Kind::InjectMessage, true),
            Difference::Split => (Kind::Inject, true),
            // Any span above the one that calls: the context it was started in.
            Difference::Parent { above: Some(above) }
                if self
                    .comparison
                    .expected_for(*above)
                    .is_some_and(|above| self.is_above(above, parent)) =>
            {
                (Kind::InjectParent, true)
            }
            _ => (otherwise, false),
        }
    }

    /// Whether the span should continue a trace from outside and doesn't.
    fn has_lost_its_caller(&self, finding: &Finding) -> bool {
        self.expected(finding)
            .is_some_and(|span| span.parent == NormalParent::NotReceived)
    }

    fn is_above(&self, above: usize, spot: usize) -> bool {
        let mut at = spot;
        while let Some(parent) = self.comparison.expected[at].parent {
            if parent == above {
                return true;
            }
            at = parent;
        }
        false
    }

    fn diagnosis(&self, group: &Group<'a>) -> Diagnosis {
        let about = About {
            kind: group.kind,
            span: group.span,
            attribute: match group.attributes.first() {
                Some(key) => Some(key),
                None => group.first.differences.iter().find_map(missing),
            },
            name: self.expected(group.first).map(|span| span.name.as_str()),
        };
        let mut sentence = self.sentence(group);
        match (group.kind, group.count - 1) {
            (Kind::Missing | Kind::Unexpected, _) | (_, 0) => {}
            (_, 1) => sentence.push_str(" (and 1 more span)"),
            (_, more) => sentence.push_str(&format!(" (and {more} more spans)")),
        }
        self.guide.tell(&about, sentence, self.detail(group))
    }

    fn sentence(&self, group: &Group<'_>) -> String {
        let finding = group.first;
        let name = |span: Option<&NormalSpan>| format!("`{}`", span.map_or("", |s| &s.name));
        let expected = self.expected(finding);
        let got = self.got(finding);
        let it = name(got.or(expected));
        let keys = match group.attributes.as_slice() {
            [key] => format!("`{key}`"),
            keys => format!("{} attributes", keys.len()),
        };
        let key = group.attributes.first().map_or("", String::as_str);
        let shown = |span: Option<&NormalSpan>| {
            span.and_then(|span| span.attribute(key))
                .map(|v| v.type_name())
                .unwrap_or_default()
        };
        let service = |span: Option<&NormalSpan>| match span.map_or("", |s| &s.service) {
            "" => "no service".to_owned(),
            service => format!("`{service}`"),
        };
        match (group.kind, expected, got) {
            (Kind::Missing, Some(span), _) => spans(group.count, span, "is missing", "are missing"),
            (Kind::Unexpected, _, Some(span)) => {
                spans(group.count, span, "is not expected", "are not expected")
            }
            (Kind::Name, Some(expected), Some(got)) => format!(
                "{} {} span of {} is called `{}`, not `{}`",
                article(got.kind),
                got.kind,
                got.service,
                got.name,
                expected.name
            ),
            (Kind::Kind, Some(expected), Some(got)) => {
                format!("{it} is {}, not {}", got.kind, expected.kind)
            }
            (Kind::Status, Some(expected), Some(got)) => {
                format!(
                    "the status of {it} is {}, not {}",
                    got.status, expected.status
                )
            }
            (Kind::Service, ..) => {
                format!(
                    "{it} comes from {}, not from {}",
                    service(got),
                    service(expected)
                )
            }
            (Kind::Inject, Some(span), _) => format!(
                "the request to {} carried no context: {it} is in another trace",
                span.service
            ),
            (Kind::InjectMessage, ..) => {
                format!("the message carried no context: {it} is in another trace")
            }
            (Kind::InjectParent, Some(span), _) => format!(
                "the {} carried the context of {}, not of {}",
                match span.kind {
                    SpanKind::Consumer => "message".to_owned(),
                    _ => format!("request to {}", span.service),
                },
                name(self.came_above(finding)),
                name(
                    self.parent(finding)
                        .map(|p| self.comparison.expected[p].span)
                ),
            ),
            (Kind::Parent | Kind::Orphan | Kind::Split, Some(expected), Some(_)) => {
                self.place_sentence(finding, expected, &it)
            }
            (Kind::Attribute, ..) if group.label.starts_with('+') => {
                format!("{keys} must not be on {it}")
            }
            (Kind::Attribute, ..) if group.attributes.len() == 1 => {
                format!("{keys} is missing on {it}")
            }
            (Kind::Attribute, ..) => format!("{keys} are missing on {it}"),
            (Kind::Value, ..) => format!("{keys} has another value on {it}"),
            (Kind::Type, ..) => {
                let (is, was) = (shown(got), shown(expected));
                format!("{keys} is {} {is}, not {} {was}, on {it}", a(&is), a(&was))
            }
            (Kind::Old, ..) if group.attributes.len() == 1 => {
                let old = self.old_name(finding, key).unwrap_or_default();
                format!("{it} has `{old}`, the old name of {keys}")
            }
            (Kind::Old, ..) => format!("{it} has {keys} by their old names"),
            (Kind::Twice, ..) => format!("{keys} is more than once on {it}"),
            (Kind::Link, _, Some(got)) if got.links.is_empty() => format!("{it} has no link"),
            (Kind::Link, ..) => format!("{it} has other links"),
            (Kind::Event, _, Some(got)) if got.events.is_empty() => format!("{it} has no event"),
            (Kind::Event, ..) => format!("{it} has other events"),
            _ => format!("{it} is not as expected"),
        }
    }

    fn came_above(&self, finding: &Finding) -> Option<&'a NormalSpan> {
        let above = self.comparison.parent_of_got(finding.got?)?;
        Some(self.comparison.got[above].span)
    }

    fn place_sentence(&self, finding: &Finding, expected: &NormalSpan, it: &str) -> String {
        let parent = self
            .parent(finding)
            .map(|p| &self.comparison.expected[p].span.name);
        let above = self.came_above(finding).map(|span| &span.name);
        match (parent, above) {
            (Some(parent), Some(above)) => format!("{it} is under `{above}`, not under `{parent}`"),
            (Some(parent), None) if finding.differences[0] == Difference::Split => {
                format!("{it} is in another trace, not under `{parent}`")
            }
            (Some(parent), None) => {
                format!("{it} names a parent that did not come, not `{parent}`")
            }
            (None, Some(above)) => format!("{it} is under `{above}`, but should be under no span"),
            (None, None) => match expected.parent {
                NormalParent::NotReceived => {
                    format!("{it} does not continue the trace of its caller")
                }
                _ if finding.differences[0] == Difference::Split => {
                    format!("{it} shares its trace with other spans than expected")
                }
                _ => format!("{it} names a parent that did not come, but should have none"),
            },
        }
    }

    fn detail(&self, group: &Group<'_>) -> String {
        let (expected, got) = (self.draw_expected(group), self.draw_got(group));
        let mut detail = expected_and_got(&expected.join("\n"), &got.join("\n"));
        let also: Vec<String> = group
            .first
            .differences
            .iter()
            .enumerate()
            // The first one is what the sentence says, unless another attribute leads.
            .filter(|(number, difference)| *number > 0 || missing(difference).is_some())
            .filter_map(|(_, difference)| self.also(group, difference))
            .collect();
        for (number, text) in also.iter().enumerate() {
            let word = if number == 0 { "also" } else { "" };
            detail.push_str(&format!("{word:<9}   {text}\n"));
        }
        detail
    }

    fn draw_expected(&self, group: &Group<'_>) -> Vec<String> {
        let comparison = self.comparison;
        let spots = &comparison.expected;
        let mut picture = Picture::new(spots, |spot| spots[spot].parent);
        if group.kind == Kind::Status {
            picture.with_status();
        }
        match group.first.expected {
            Some(e) => {
                picture.show(e);
                if group.kind == Kind::Missing {
                    picture.show_below(spots[e].parent);
                }
                picture.say(e, self.lines(group, true));
            }
            None => {
                let above = group.first.got.and_then(|g| comparison.parent_of_got(g));
                let above = above.and_then(|above| comparison.expected_for(above));
                if let Some(above) = above {
                    picture.show(above);
                }
                picture.show_below(above);
            }
        }
        picture.lines(false)
    }

    fn draw_got(&self, group: &Group<'_>) -> Vec<String> {
        let comparison = self.comparison;
        let spots = &comparison.got;
        // A span too many is left out wherever another is looked for, but shown where it is.
        let as_it_came = group.kind == Kind::Unexpected;
        let mut picture = Picture::new(spots, |spot| {
            if as_it_came {
                spots[spot].parent
            } else {
                comparison.parent_of_got(spot)
            }
        });
        if group.kind == Kind::Status {
            picture.with_status();
        }
        let parent = self.parent(group.first);
        let parent = parent.and_then(|parent| comparison.got_for(parent));
        match group.first.got {
            Some(g) => {
                picture.show(g);
                picture.mark(g);
                // A span too many is often one around, or inside of, the expected one.
                if group.kind == Kind::Unexpected {
                    picture.show_below(Some(g));
                }
                // Where it should have been.
                if let Some(parent) = parent {
                    picture.show(parent);
                }
                picture.say(g, self.lines(group, false));
            }
            None => {
                if let Some(parent) = parent {
                    picture.show(parent);
                }
                if group
                    .first
                    .expected
                    .is_some_and(|e| comparison.expected[e].parent.is_none() || parent.is_some())
                {
                    picture.show_below(parent);
                }
                let span = self.expected(group.first);
                let name = span.map_or("", |span| &span.name);
                let path = span.and_then(path).map(|path| format!(" → {path}"));
                picture.absent(parent, format!("no `{name}`{}", path.unwrap_or_default()));
            }
        }
        let in_lines = matches!(
            group.kind,
            Kind::Attribute
                | Kind::Value
                | Kind::Type
                | Kind::Old
                | Kind::Twice
                | Kind::Link
                | Kind::Event
        );
        picture.lines(!in_lines)
    }

    /// What is said below the span: what differs, if that isn't the span's own line.
    fn lines(&self, group: &Group<'_>, expected: bool) -> Vec<(bool, String)> {
        let span = if expected {
            self.expected(group.first)
        } else {
            self.got(group.first)
        };
        let Some(span) = span else { return Vec::new() };
        let mark = !expected;
        match group.kind {
            Kind::Attribute | Kind::Value | Kind::Type | Kind::Old | Kind::Twice => {}
            Kind::Link | Kind::Event => {
                let of = if group.kind == Kind::Link {
                    "link"
                } else {
                    "event"
                };
                let mut inside = false;
                let lines: Vec<(bool, String)> = span
                    .details()
                    .into_iter()
                    .filter(|line| {
                        inside = line.starts_with(of) || (inside && line.starts_with(' '));
                        inside
                    })
                    .map(|line| (mark, line))
                    .collect();
                return if lines.is_empty() {
                    vec![(mark, format!("no {of}"))]
                } else {
                    lines
                };
            }
            _ => return Vec::new(),
        }
        let mut lines = Vec::new();
        for key in &group.attributes {
            let before = lines.len();
            let found = span.attributes.iter().filter(|a| a.key == *key);
            lines.extend(found.map(|a| (mark, a.to_string())));
            let old = self.exported(group.first).filter(|_| !expected);
            if let Some(old) = old.and_then(|exported| {
                let old = old_name(exported, key)?;
                Some(format!("{old} = {}", exported.attribute(old)?))
            }) && group.kind == Kind::Old
            {
                lines.push((mark, old));
            }
            if lines.len() == before {
                lines.push((mark, format!("no {key}")));
            }
        }
        lines
    }

    /// What differs besides, in a few words.
    fn also(&self, group: &Group<'_>, difference: &Difference) -> Option<String> {
        let expected = self.expected(group.first)?;
        let got = self.got(group.first)?;
        Some(match difference {
            Difference::Missing | Difference::Unexpected => return None,
            Difference::Name => format!("the name is `{}`, not `{}`", got.name, expected.name),
            Difference::Kind => format!("the kind is {}, not {}", got.kind, expected.kind),
            Difference::Parent { .. } => "it is under another span".to_owned(),
            Difference::Split => "it is in another trace".to_owned(),
            Difference::Status => {
                format!("the status is {}, not {}", got.status, expected.status)
            }
            Difference::Service => format!("the service is `{}`", got.service),
            Difference::NoAttribute(key) if group.attributes.contains(key) => return None,
            Difference::NoAttribute(key) => match self.old_name(group.first, key) {
                Some(old) => format!("{old} is the old name of {key}"),
                None => format!("{key} is missing"),
            },
            Difference::NotThisAttribute(key) => format!("{key} must not be there"),
            Difference::Value(key) => format!("{key} has another value"),
            Difference::Type(key) => format!("{key} has another type"),
            Difference::Twice(key) => format!("{key} is more than once there"),
            Difference::Link => "the links are others".to_owned(),
            Difference::Event => "the events are others".to_owned(),
        })
    }
}

/// The attribute that is missing, if it is that.
fn missing(difference: &Difference) -> Option<&str> {
    match difference {
        Difference::NoAttribute(key) => Some(key),
        _ => None,
    }
}

/// `the CLIENT span `GET` of tier1-service is missing`, or `2 CLIENT spans … are missing`.
fn spans(count: usize, span: &NormalSpan, one: &str, many: &str) -> String {
    let error = if span.status == StatusCode::Error {
        "failed "
    } else {
        ""
    };
    let (kind, name, service) = (span.kind, &span.name, &span.service);
    match count {
        1 => format!("the {error}{kind} span `{name}` of {service} {one}"),
        count => format!("{count} {error}{kind} spans `{name}` of {service} {many}"),
    }
}

fn article(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Internal | SpanKind::Unspecified => "an",
        _ => "a",
    }
}

/// The article of a type's name.
fn a(type_name: &str) -> &'static str {
    if type_name.starts_with(['a', 'e', 'i']) {
        "an"
    } else {
        "a"
    }
}
