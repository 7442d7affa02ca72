//! The kinds of finding, and what most likely causes each.
//!
//! A cause that holds in any step is in the table here. A check adds those of its own
//! step, and says in which file and at which TODO they are mended.

use crate::contract::SpanType;

/// What a finding is about. Its name completes the finding's id, as in `W06-PARENT`,
/// and the anchor in the chapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The program under test exported no span.
    Nothing,
    /// Something was sent to the receiver, but not where it takes it.
    Endpoint,
    /// Two versions of the opentelemetry crate are in one program.
    Versions,
    /// A span came only after the deadline.
    Late,
    /// An expected span did not come.
    Missing,
    /// A span came that is not expected.
    Unexpected,
    /// A span has another name.
    Name,
    /// A span has another kind.
    Kind,
    /// The request to another service carried no context: its spans are in a trace of
    /// their own.
    Inject,
    /// The request or message carried the context of the span above instead of its own.
    InjectParent,
    /// The message carried no context.
    InjectMessage,
    /// A span is under another one than expected.
    Parent,
    /// A span names a parent that did not come.
    Orphan,
    /// A span, with all under it, is in a trace of its own.
    Split,
    /// A span has another status.
    Status,
    /// A span has another `service.name`.
    Service,
    /// An attribute is missing, or is where it must not be.
    Attribute,
    /// An attribute has another value.
    Value,
    /// An attribute has another type.
    Type,
    /// An attribute has its old name.
    Old,
    /// An attribute is there more than once.
    Twice,
    /// A link is missing, is not expected, or points elsewhere.
    Link,
    /// An event is missing, is not expected, or says something else.
    Event,
    /// The span of a publish ended before the broker had confirmed.
    Confirm,
    /// The traces differ in a way that has no name of its own.
    Trace,
}

impl Kind {
    /// As in an id: `PARENT`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "NOTHING",
            Self::Endpoint => "ENDPOINT",
            Self::Versions => "VERSIONS",
            Self::Late => "LATE",
            Self::Missing => "MISSING",
            Self::Unexpected => "UNEXPECTED",
            Self::Name => "NAME",
            Self::Kind => "KIND",
            Self::Inject => "INJECT",
            Self::InjectParent => "INJECT-PARENT",
            Self::InjectMessage => "INJECT-MESSAGE",
            Self::Parent => "PARENT",
            Self::Orphan => "ORPHAN",
            Self::Split => "SPLIT",
            Self::Status => "STATUS",
            Self::Service => "SERVICE",
            Self::Attribute => "ATTRIBUTE",
            Self::Value => "VALUE",
            Self::Type => "TYPE",
            Self::Old => "OLD",
            Self::Twice => "TWICE",
            Self::Link => "LINK",
            Self::Event => "EVENT",
            Self::Confirm => "CONFIRM",
            Self::Trace => "TRACE",
        }
    }
}

/// Which findings a cause is for. Made of a [`Kind`]; of a kind and the type of the
/// span; or of these two and the attribute; or of a kind and the name of the span,
/// where several of one type are asked for, with or without the attribute.
///
/// For the findings of propagation (`Inject`, `InjectParent`, `InjectMessage`) the
/// type is that of the span whose context was to be injected: `HttpClient` or
/// `Publish`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Select {
    kind: Kind,
    span: Option<SpanType>,
    attribute: Option<&'static str>,
    name: Option<&'static str>,
}

impl From<Kind> for Select {
    fn from(kind: Kind) -> Self {
        Self {
            kind,
            span: None,
            attribute: None,
            name: None,
        }
    }
}

impl From<(Kind, &'static str)> for Select {
    fn from((kind, name): (Kind, &'static str)) -> Self {
        Self {
            name: Some(name),
            ..kind.into()
        }
    }
}

impl From<(Kind, SpanType)> for Select {
    fn from((kind, span): (Kind, SpanType)) -> Self {
        Self {
            span: Some(span),
            ..kind.into()
        }
    }
}

impl From<(Kind, &'static str, &'static str)> for Select {
    fn from((kind, name, attribute): (Kind, &'static str, &'static str)) -> Self {
        Self {
            attribute: Some(attribute),
            ..(kind, name).into()
        }
    }
}

impl From<(Kind, SpanType, &'static str)> for Select {
    fn from((kind, span, attribute): (Kind, SpanType, &'static str)) -> Self {
        Self {
            attribute: Some(attribute),
            ..(kind, span).into()
        }
    }
}

/// What a finding is about, as far as causes tell findings apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    pub(crate) kind: Kind,
    pub(crate) span: Option<SpanType>,
    pub(crate) attribute: Option<&'a str>,
    /// The span's name, as it is expected.
    pub(crate) name: Option<&'a str>,
}

impl Select {
    fn matches(&self, about: &About<'_>) -> bool {
        self.kind == about.kind
            && (self.span.is_none() || self.span == about.span)
            && (self.attribute.is_none() || self.attribute == about.attribute)
            && (self.name.is_none() || self.name == about.name)
    }

    /// The more is said, the better it fits.
    fn precision(&self) -> usize {
        usize::from(self.span.is_some())
            + usize::from(self.attribute.is_some())
            + usize::from(self.name.is_some())
    }
}

/// A place in the reader's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// From the package's folder on.
    pub(crate) folder: &'static str,
    pub(crate) file: &'static str,
    pub(crate) todo: Option<u8>,
}

impl Place {
    /// A TODO in `src/`.
    pub(crate) const fn todo(file: &'static str, todo: u8) -> Self {
        Self {
            todo: Some(todo),
            ..Self::file(file)
        }
    }

    /// A file in `src/` that has no TODO of this step for it.
    pub(crate) const fn file(file: &'static str) -> Self {
        Self {
            folder: "src",
            file,
            todo: None,
        }
    }

    /// Where findings of this kind are mended, whichever step it is.
    fn general(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Versions => Some(Self {
                folder: "",
                file: "Cargo.toml",
                todo: None,
            }),
            Kind::Nothing | Kind::Endpoint | Kind::Late | Kind::Service => {
                Some(Self::file("telemetry.rs"))
            }
            _ => None,
        }
    }
}

/// What a check says about a kind of finding.
#[derive(Clone, Copy, Debug)]
struct Entry {
    select: Select,
    place: Option<Place>,
    cause: Option<&'static str>,
}

/// What the check of one step knows about causes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Causes {
    entries: Vec<Entry>,
    named: Vec<(&'static str, Place, &'static str)>,
    /// Those named that need all TODOs, so that the first that is left is the one to do.
    of_all: Vec<&'static str>,
    /// What comes before the place of a finding.
    before: Vec<(Select, Place)>,
    otherwise: Option<Place>,
}

impl Causes {
    pub(crate) fn add(
        &mut self,
        select: Select,
        place: Option<Place>,
        cause: Option<&'static str>,
    ) {
        self.entries.push(Entry {
            select,
            place,
            cause,
        });
    }

    pub(crate) fn add_named(&mut self, kind: &'static str, place: Place, cause: &'static str) {
        self.named.push((kind, place, cause));
    }

    /// The same for a finding that the check itself names.
    pub(crate) fn of_named(&self, kind: &str) -> (Option<&'static str>, Option<Place>) {
        let named = self.named.iter().find(|(named, ..)| *named == kind);
        match named {
            Some((_, place, cause)) => (Some(*cause), Some(*place)),
            None => (None, self.otherwise),
        }
    }

    pub(crate) fn add_of_all(&mut self, kind: &'static str) {
        self.of_all.push(kind);
    }

    pub(crate) fn is_of_all(&self, kind: &str) -> bool {
        self.of_all.contains(&kind)
    }

    pub(crate) fn add_before(&mut self, select: Select, place: Place) {
        self.before.push((select, place));
    }

    /// Where to look before the place that [`Causes::of`] answers.
    pub(crate) fn before(&self, about: &About<'_>) -> Option<Place> {
        let fits = |(select, _): &&(Select, Place)| select.matches(about);
        self.before.iter().find(fits).map(|(_, place)| *place)
    }

    pub(crate) fn otherwise(&mut self, place: Place) {
        self.otherwise = Some(place);
    }

    /// The cause of a finding and where it is mended: what the check said for it most
    /// precisely, else what holds in any step.
    pub(crate) fn of(&self, about: &About<'_>) -> (Option<&'static str>, Option<Place>) {
        let mut fitting: Vec<&Entry> = self
            .entries
            .iter()
            .filter(|entry| entry.select.matches(about))
            .collect();
        // Of two that are equally precise the later one counts: it came to override.
        fitting.reverse();
        fitting.sort_by_key(|entry| std::cmp::Reverse(entry.select.precision()));
        let cause = fitting.iter().find_map(|entry| entry.cause);
        let place = fitting.iter().find_map(|entry| entry.place);
        {
            let general_place = Place::general(about.kind);
            // In the step whose work it is, its TODO.
            let place = place.or(match (general_place, self.otherwise) {
                (Some(general), Some(place)) if general.file == place.file => Some(place),
                (Some(general), _) => Some(general),
                (None, otherwise) => otherwise,
            });
            (cause.or_else(|| general(about)), place)
        }
    }
}

/// The causes that hold in any step, in the words of Rust where that helps.
fn general(about: &About<'_>) -> Option<&'static str> {
    use SpanType::HttpServer;
    Some(match (about.kind, about.span) {
        (Kind::Nothing, _) => {
            "Nothing makes a span, no provider is global, it has no exporter, or the process \
             ended before the batch was sent and nothing flushed it."
        }
        (Kind::Endpoint, _) => {
            "`.with_endpoint(…)` takes the whole URL, /v1/traces included. \
             OTEL_EXPORTER_OTLP_ENDPOINT takes the part before it, and the SDK adds the path."
        }
        (Kind::Versions, _) => {
            "Each version has its own global provider and its own Context: what is set in \
             one is not seen by the other. A dependency is built for another version."
        }
        (Kind::Missing, Some(HttpServer)) => {
            "The layer is not on the router, or the routes were added after it: a layer \
             sees only the routes that are there before it."
        }
        (Kind::Name, Some(HttpServer)) if about.attribute == Some("http.route") => {
            "The layer sits around the router, where the route is not known yet: put it on \
             with `Router::layer`, after the routes."
        }
        (Kind::Name, Some(HttpServer)) => {
            "The name is method and route (`MatchedPath`), or the method alone. A raw path \
             has as many values as callers like."
        }
        (Kind::Kind, _) => {
            "A span is INTERNAL unless `with_kind` says otherwise. Backends draw the edges \
             between services by the kind."
        }
        (Kind::InjectParent, _) => {
            "The context that was injected is the one the span was started in. Inject the \
             new one, in which the new span is the current one."
        }
        (Kind::Attribute, Some(HttpServer)) if about.attribute == Some("http.route") => {
            "It is in the request's extensions as `MatchedPath`, if the layer is put on after \
             the routes. On a path that no route matches there is none."
        }
        (Kind::Type, _) => {
            "A number given as a string is not found by those who compare numbers. Convert \
             it: `i64::from(…)`, not `.to_string()`."
        }
        (Kind::Old, _) => {
            "The name is from before the conventions became stable. The constants of \
             `opentelemetry_semantic_conventions::attribute` have the present ones."
        }
        (Kind::Link, _) => {
            "A link is given to the builder, with the context of the span that it points to."
        }
        (Kind::Confirm, _) => {
            "`basic_publish(…).await` is not the confirm. Await what it gives, then end the \
             span."
        }
        _ => return in_any_language(about),
    })
}

/// The causes that hold for any program, whatever it is written in.
pub(crate) fn in_any_language(about: &About<'_>) -> Option<&'static str> {
    use SpanType::{HttpClient, HttpServer, Process, Publish};
    Some(match (about.kind, about.span) {
        (Kind::Nothing, _) => {
            "It has no exporter, it sends elsewhere than OTEL_EXPORTER_OTLP_ENDPOINT says, or \
             it ended before the batch was sent and nothing flushed it. Some programs flush \
             on SIGINT alone: TIER1_STOP=INT."
        }
        (Kind::Endpoint, _) => {
            "OTEL_EXPORTER_OTLP_ENDPOINT is the part before /v1/traces: the SDK adds the path."
        }
        (Kind::Late, _) => {
            "The batch processor waits for its timer, or the span is ended late: \
             nothing flushes it when the work is done."
        }
        (Kind::Missing, Some(HttpClient)) => {
            "No span is started around the request, or the request does not go through the \
             middleware."
        }
        (Kind::Missing, Some(Publish)) => "No span is started around the publish.",
        (Kind::Missing, _) => "No such span is started.",
        (Kind::Unexpected, Some(HttpServer)) => {
            "The request is traced although it is not meant to be, or two layers each make \
             a span."
        }
        (Kind::Unexpected, _) => "Something makes a span that the chapter doesn't ask for.",
        (Kind::Name, Some(HttpServer)) => {
            "The name is method and route, or the method alone. A raw path has as many values \
             as callers like."
        }
        (Kind::Name, Some(HttpClient)) => {
            "The name is the method alone: what is called is said by the attributes."
        }
        (Kind::Name, Some(Publish | Process)) => {
            "The name is the operation, then the destination: `publish signups`."
        }
        (Kind::Name, _) => "The span was started with another name.",
        (Kind::Kind, _) => "Backends draw the edges between services by the kind.",
        (Kind::Inject, _) => {
            "No `traceparent` was sent: the context is not injected into the request's \
             headers, or no propagator was set (the global default injects nothing)."
        }
        (Kind::InjectParent, _) => {
            "The context that was injected is the one the span was started in, not that of \
             the new span."
        }
        (Kind::InjectMessage, _) => {
            "No `traceparent` is in the message's headers: the context is not injected, or \
             the headers are not given to the publish."
        }
        (Kind::Orphan, Some(HttpServer)) => {
            "A `traceparent` was taken that is not valid, or the span of the caller was never \
             ended."
        }
        (Kind::Orphan, _) => {
            "The span above it was not exported: it is still held by somebody, so it didn't end."
        }
        (Kind::Parent | Kind::Split, Some(HttpServer)) => {
            "The caller's context is not extracted from the request's headers, or not given \
             to the span as its parent."
        }
        (Kind::Parent, _) => {
            "The span was started in another context than the current one, or the current \
             one is not the span that it belongs to."
        }
        (Kind::Split, _) => {
            "The span was started without its parent's context: the context doesn't follow \
             into a new task, a thread or a callback by itself."
        }
        (Kind::Status, Some(HttpServer)) => {
            "A SERVER span is Error from 500 on; a 4xx is the caller's error and stays \
             Unset. Success is Unset, not Ok."
        }
        (Kind::Status, Some(HttpClient)) => {
            "A CLIENT span is Error from 400 on and if there was no answer. Success is \
             Unset, not Ok."
        }
        (Kind::Status, _) => "Success is Unset, not Ok; what failed is Error.",
        (Kind::Service, _) => {
            "The resource has no `service.name`, so the SDK made one up, or another one was \
             given."
        }
        (Kind::Attribute, _) if about.attribute == Some("error.type") => {
            "`error.type` is there if and only if the status is Error."
        }
        (Kind::Attribute, _) => "The attribute is not set on this span.",
        (Kind::Value, _) => "The attribute is set, but to something else.",
        (Kind::Type, _) => "A number given as a string is not found by those who compare numbers.",
        (Kind::Old, _) => {
            "The name is from before the conventions became stable. Many instrumentations keep \
             it so that dashboards don't break; some have a switch, \
             OTEL_SEMCONV_STABILITY_OPT_IN."
        }
        (Kind::Twice, _) => {
            "The SDK doesn't merge attributes: what is set at the start and again later is \
             exported twice."
        }
        (Kind::Link, _) => "A link points to the span that made the message.",
        (Kind::Event, _) => "An event is added to the span while it is open.",
        (Kind::Confirm, _) => "The span has to stay open until the broker confirms.",
        (Kind::Versions | Kind::Trace, _) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(kind: Kind, span: SpanType, attribute: &str) -> About<'_> {
        About {
            kind,
            span: Some(span),
            attribute: Some(attribute),
            name: None,
        }
    }

    #[test]
    fn spans_of_one_type_are_told_apart_by_name() {
        let mut causes = Causes::default();
        causes.add(
            (Kind::Missing, "do_saas").into(),
            Some(Place::todo("saas.rs", 3)),
            None,
        );
        causes.add(Kind::Missing.into(), Some(Place::todo("tier2.rs", 1)), None);
        let named = |name| About {
            kind: Kind::Missing,
            span: Some(SpanType::Internal),
            attribute: None,
            name: Some(name),
        };
        let place = |name| causes.of(&named(name)).1;
        assert_eq!(place("do_saas"), Some(Place::todo("saas.rs", 3)));
        assert_eq!(place("do_tier2"), Some(Place::todo("tier2.rs", 1)));
    }

    #[test]
    fn the_most_precise_entry_counts_and_the_table_fills_in() {
        let mut causes = Causes::default();
        let it = about(Kind::Type, SpanType::HttpClient, "server.port");
        assert_eq!(causes.of(&it), (general(&it), None));
        causes.otherwise(Place::todo("main.rs", 1));
        causes.add(
            (Kind::Type, SpanType::HttpClient).into(),
            Some(Place::todo("http.rs", 2)),
            None,
        );
        causes.add(
            Kind::Type.into(),
            Some(Place::todo("queue.rs", 3)),
            Some("coarse"),
        );
        assert_eq!(
            causes.of(&it),
            (Some("coarse"), Some(Place::todo("http.rs", 2)))
        );
        let exact = (Kind::Type, SpanType::HttpClient, "server.port");
        causes.add(exact.into(), None, Some("exact"));
        assert_eq!(
            causes.of(&it),
            (Some("exact"), Some(Place::todo("http.rs", 2)))
        );
        causes.add(exact.into(), None, Some("later"));
        assert_eq!(causes.of(&it).0, Some("later"));
        let other = about(Kind::Type, SpanType::Publish, "server.port");
        assert_eq!(
            causes.of(&other),
            (Some("coarse"), Some(Place::todo("queue.rs", 3)))
        );
        let another = about(Kind::Link, SpanType::Publish, "");
        assert_eq!(
            causes.of(&another),
            (general(&another), Some(Place::todo("main.rs", 1)))
        );
    }
}
