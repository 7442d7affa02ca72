//! Brings traces into a form that is the same in every run.
//!
//! What changes between runs is dropped or redacted as a [`Contract`] says, the
//! rest is sorted by structure, and only then do traces and spans get numbers.
//! So the topology shows: a span under another parent, or a link to another
//! span, gives another text.

use std::collections::HashMap;

use crate::model::{Event, KeyValue, Link, Span, SpanId, SpanKind, TraceId, Value};
use crate::snapshot::{
    NormalAttribute, NormalEvent, NormalLink, NormalParent, NormalSpan, NormalTrace, Normalized,
    Shown, Target,
};
use crate::text::plain;
use crate::trace::{Node, Parent, traces};

/// What a snapshot shows of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Key and value.
    Value,
    /// Key, type and this in place of the value: `<port>`.
    Redacted(&'static str),
    /// Key and value, which is a URL, with `<port>` in place of its port. What is no
    /// URL is shown as it is.
    UrlWithoutPort,
    /// Nothing.
    Drop,
}

/// Decides what a snapshot holds. A closure `|span, key| …` is one, too.
pub trait Contract {
    /// What to show of the attribute `key` of `span`.
    fn keep(&self, span: &Span, key: &str) -> Keep;

    /// Whether to show `event` at all.
    fn keep_event(&self, span: &Span, event: &Event) -> bool {
        let _ = (span, event);
        true
    }

    /// What to show of the attribute `key` of an event of `span`. As for the
    /// span's own, unless said otherwise.
    fn keep_in_event(&self, span: &Span, event: &Event, key: &str) -> Keep {
        let _ = event;
        self.keep(span, key)
    }

    /// What to show of the attribute `key` of a link of `span`. As for the
    /// span's own, unless said otherwise.
    fn keep_in_link(&self, span: &Span, link: &Link, key: &str) -> Keep {
        let _ = link;
        self.keep(span, key)
    }
}

impl<F: Fn(&Span, &str) -> Keep> Contract for F {
    fn keep(&self, span: &Span, key: &str) -> Keep {
        self(span, key)
    }
}

/// How traces and siblings are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By service, name, kind, then the text of the span, then that of the
    /// spans under it: nothing that depends on time.
    #[default]
    Structure,
    /// By start time, where order is the point.
    ByStart,
}

/// Which INTERNAL spans a snapshot shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Internal {
    /// All of them.
    #[default]
    All,
    /// Those with one of these names. The others are spliced out: their
    /// children go to the parent.
    Named(Vec<String>),
}

/// What was exported beyond what a snapshot shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extras {
    /// The INTERNAL spans that were spliced out.
    pub spans: Vec<Span>,
    /// The attributes that were dropped, from the spans that are shown.
    pub attributes: Vec<ExtraAttribute>,
}

/// An attribute that the snapshot does not show.
#[derive(Clone, Debug, PartialEq)]
pub struct ExtraAttribute {
    /// The trace it was found in.
    pub trace_id: TraceId,
    /// The span it was found on.
    pub span_id: SpanId,
    /// That span's name.
    pub span: String,
    /// That span's service.
    pub service: String,
    /// The attribute.
    pub attribute: KeyValue,
}

/// How traces become a snapshot.
pub struct Rules<'a> {
    contract: &'a dyn Contract,
    order: Order,
    internal: Internal,
}

impl<'a> Rules<'a> {
    /// Rules that keep what `contract` says, sort by structure and show all
    /// INTERNAL spans.
    pub fn new(contract: &'a dyn Contract) -> Self {
        Self {
            contract,
            order: Order::default(),
            internal: Internal::default(),
        }
    }

    /// Sorts otherwise.
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Shows only some INTERNAL spans.
    #[must_use]
    pub fn internal(mut self, internal: Internal) -> Self {
        self.internal = internal;
        self
    }
}

impl Rules<'_> {
    /// The snapshot of all traces among `spans`, in whichever order these are.
    ///
    /// Dropped besides what the contract says: ids, times, the description of
    /// the status, trace state and flags, scopes, and resources but for the
    /// service's name. A link to a span that was spliced out points to the
    /// nearest span above it that is shown.
    pub fn normalize(&self, spans: &[Span]) -> Normalized {
        let (shown, aliases) = self.splice(spans, &mut Vec::new());
        let mut drafts: Vec<Vec<Draft>> = shown
            .iter()
            .map(|roots| {
                let roots = roots.iter();
                roots.map(|root| self.draft(root, None, &aliases)).collect()
            })
            .collect();
        self.sort(&mut drafts);
        let numbers = number(&drafts);
        Normalized {
            traces: drafts
                .into_iter()
                .enumerate()
                .map(|(i, roots)| {
                    let mut spans = 0;
                    NormalTrace {
                        number: i + 1,
                        roots: roots
                            .into_iter()
                            .map(|root| root.finish(&mut spans, &numbers))
                            .collect(),
                    }
                })
                .collect(),
        }
    }

    /// What `spans` hold beyond what [`normalize`](Self::normalize) shows.
    pub fn extras(&self, spans: &[Span]) -> Extras {
        let mut extras = Extras::default();
        let (shown, _) = self.splice(spans, &mut extras.spans);
        for roots in shown {
            let mut stack: Vec<&Node> = roots.iter().rev().collect();
            while let Some(node) = stack.pop() {
                stack.extend(node.children.iter().rev());
                let span = &node.span;
                for attribute in &span.attributes {
                    if self.contract.keep(span, &attribute.key) == Keep::Drop {
                        extras.attributes.push(ExtraAttribute {
                            trace_id: span.trace_id,
                            span_id: span.span_id,
                            span: span.name.clone(),
                            service: span.service().to_owned(),
                            attribute: attribute.clone(),
                        });
                    }
                }
            }
        }
        extras
    }

    /// The trees without the INTERNAL spans that are not to be shown, which go
    /// to `extra`; for each of those, what links to it point to instead.
    fn splice(&self, spans: &[Span], extra: &mut Vec<Span>) -> (Vec<Vec<Node>>, Aliases) {
        let mut aliases = Aliases::new();
        let shown = traces(spans)
            .into_iter()
            .map(|trace| {
                let mut roots = Vec::new();
                for root in trace.roots {
                    self.splice_node(root, None, &mut roots, &mut aliases, extra);
                }
                roots
            })
            .filter(|roots: &Vec<Node>| !roots.is_empty())
            .collect();
        (shown, aliases)
    }

    /// Appends `node`, or its children if it is spliced out, to `out`.
    /// Recursion is bounded by the depth of trees.
    fn splice_node(
        &self,
        mut node: Node,
        above: Option<Id>,
        out: &mut Vec<Node>,
        aliases: &mut Aliases,
        extra: &mut Vec<Span>,
    ) {
        let children = std::mem::take(&mut node.children);
        if self.is_shown(&node.span) {
            let id = Some(id(&node.span));
            for child in children {
                self.splice_node(child, id, &mut node.children, aliases, extra);
            }
            out.push(node);
        } else {
            aliases.insert(id(&node.span), above);
            for mut child in children {
                child.parent = node.parent;
                self.splice_node(child, above, out, aliases, extra);
            }
            extra.push(node.span);
        }
    }

    fn is_shown(&self, span: &Span) -> bool {
        match &self.internal {
            Internal::All => true,
            Internal::Named(names) => span.kind != SpanKind::Internal || names.contains(&span.name),
        }
    }

    fn draft(&self, node: &Node, above: Option<Id>, aliases: &Aliases) -> Draft {
        let span = &node.span;
        let contract = self.contract;
        let mut normal = NormalSpan {
            name: span.name.clone(),
            kind: span.kind,
            service: span.service().to_owned(),
            status: span.status.code,
            parent: match node.parent {
                Parent::None => NormalParent::None,
                Parent::Here => NormalParent::Above,
                Parent::Missing(_) => NormalParent::NotReceived,
                Parent::Cut(_) => NormalParent::NotAbove,
            },
            attributes: kept(&span.attributes, |key| contract.keep(span, key)),
            source: Some(id(span)),
            ..NormalSpan::default()
        };
        for event in &span.events {
            if contract.keep_event(span, event) {
                normal.events.push(NormalEvent {
                    name: event.name.clone(),
                    attributes: kept(&event.attributes, |key| {
                        contract.keep_in_event(span, event, key)
                    }),
                });
            }
        }
        let mut targets = Vec::new();
        for link in &span.links {
            let target = (link.trace_id, link.span_id);
            // To what a spliced span is replaced by, or to nothing.
            let target = aliases.get(&target).copied().unwrap_or(Some(target));
            let known = if target.is_some() && target == above {
                Target::Parent
            } else {
                Target::Unknown
            };
            targets.push(target);
            normal.links.push(NormalLink {
                target: known,
                attributes: kept(&link.attributes, |key| {
                    contract.keep_in_link(span, link, key)
                }),
            });
        }
        let own = Some(id(span));
        Draft {
            normal,
            targets,
            start: (span.start_unix_nanos, span.end_unix_nanos, span.span_id),
            children: node
                .children
                .iter()
                .map(|child| self.draft(child, own, aliases))
                .collect(),
        }
    }

    /// Sorts siblings and traces.
    ///
    /// Where two are alike but link to different spans, their order decides
    /// which number the link shows, and the numbers exist only after sorting.
    /// So it sorts again with the numbers of the time before, until they stay.
    /// What this can't tell apart is spans that are alike in all but being
    /// pointed to: their start settles it.
    fn sort(&self, drafts: &mut [Vec<Draft>]) {
        const ROUNDS: usize = 8;
        let heads = heads(drafts);
        let mut numbers = Numbers::new();
        for _ in 0..ROUNDS {
            let view = View {
                order: self.order,
                heads: &heads,
                numbers: &numbers,
            };
            let mut keyed: Vec<(Vec<Key>, Vec<Draft>)> = drafts
                .iter_mut()
                .map(|roots| view.sort(std::mem::take(roots)))
                .collect();
            keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
            for (place, (_, roots)) in drafts.iter_mut().zip(keyed) {
                *place = roots;
            }
            let now = number(drafts);
            if now == numbers {
                break;
            }
            numbers = now;
        }
    }
}

/// Names a span.
type Id = (TraceId, SpanId);

/// Spliced spans, and the nearest shown span above each.
type Aliases = HashMap<Id, Option<Id>>;

/// The numbers of trace and span, and the span's name.
type Numbers = HashMap<Id, (usize, usize, String)>;

fn id(span: &Span) -> Id {
    (span.trace_id, span.span_id)
}

/// A span on its way into a snapshot: not sorted, not numbered.
struct Draft {
    /// Without number and children; of the links only "parent" is known.
    normal: NormalSpan,
    /// What the links point to, one for each link.
    targets: Vec<Option<Id>>,
    /// Start and end; the id is there to settle ties the same way each time.
    start: (u64, u64, SpanId),
    children: Vec<Draft>,
}

impl Draft {
    fn finish(self, spans: &mut usize, numbers: &Numbers) -> NormalSpan {
        *spans += 1;
        let mut normal = self.normal;
        normal.number = *spans;
        resolve(&mut normal.links, &self.targets, numbers);
        normal.children = self
            .children
            .into_iter()
            .map(|child| child.finish(spans, numbers))
            .collect();
        normal
    }
}

/// Fills in the targets of links that point to a numbered span.
fn resolve(links: &mut [NormalLink], targets: &[Option<Id>], numbers: &Numbers) {
    for (link, target) in links.iter_mut().zip(targets) {
        if link.target == Target::Unknown
            && let Some((trace, span, name)) = target.and_then(|id| numbers.get(&id))
        {
            link.target = Target::Span {
                trace: *trace,
                span: *span,
                name: name.clone(),
            };
        }
    }
}

/// The attributes that a snapshot shows, sorted.
fn kept(attributes: &[KeyValue], keep: impl Fn(&str) -> Keep) -> Vec<NormalAttribute> {
    let mut out: Vec<NormalAttribute> = attributes
        .iter()
        .filter_map(|attribute| {
            let value = match keep(&attribute.key) {
                Keep::Value => Shown::Verbatim(attribute.value.clone()),
                Keep::Redacted(placeholder) => Shown::redacted(&attribute.value, placeholder),
                Keep::UrlWithoutPort => Shown::Verbatim(without_port(&attribute.value)),
                Keep::Drop => return None,
            };
            Some(NormalAttribute {
                key: attribute.key.clone(),
                value,
            })
        })
        .collect();
    out.sort_by_cached_key(|attribute| (attribute.key.clone(), attribute.value.to_string()));
    out
}

/// The URL with `<port>` in place of its port (RFC 3986, 3.2).
fn without_port(value: &Value) -> Value {
    let rewritten = value.as_str().and_then(|url| {
        let start = url.find("://")? + 3;
        let end = url[start..]
            .find(['/', '?', '#'])
            .map_or(url.len(), |at| start + at);
        // The last colon, if it is behind user information and an IPv6 address.
        let colon = start + url[start..end].rfind(':')?;
        let port = &url[colon + 1..end];
        let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        is_port.then(|| format!("{}:<port>{}", &url[..colon], &url[end..]))
    });
    rewritten.map_or_else(|| value.clone(), Value::Str)
}

/// Calls `f` for each draft, parents first, with its trace's and its own number.
fn walk<'a>(drafts: &'a [Vec<Draft>], mut f: impl FnMut(usize, usize, &'a Draft)) {
    for (i, roots) in drafts.iter().enumerate() {
        let mut spans = 0;
        let mut stack: Vec<&Draft> = roots.iter().rev().collect();
        while let Some(draft) = stack.pop() {
            spans += 1;
            stack.extend(draft.children.iter().rev());
            f(i + 1, spans, draft);
        }
    }
}

/// The numbers of all spans. Of spans with the same id the first counts.
fn number(drafts: &[Vec<Draft>]) -> Numbers {
    let mut numbers = Numbers::new();
    walk(drafts, |trace, span, draft| {
        if let Some(id) = draft.normal.source {
            let name = || (trace, span, draft.normal.name.clone());
            numbers.entry(id).or_insert_with(name);
        }
    });
    numbers
}

/// The headlines of all spans, which tell link targets apart before they have
/// numbers.
fn heads(drafts: &[Vec<Draft>]) -> HashMap<Id, String> {
    let mut heads = HashMap::new();
    walk(drafts, |_, _, draft| {
        if let Some(id) = draft.normal.source {
            // The least of spans with the same id: no matter which came first.
            let head = draft.normal.headline();
            heads
                .entry(id)
                .and_modify(|old: &mut String| {
                    if head < *old {
                        old.clone_from(&head);
                    }
                })
                .or_insert(head);
        }
    });
    heads
}

/// What a subtree is sorted by, most important first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// Only if the order is by start.
    by_start: Option<(u64, u64)>,
    /// What the subtree looks like, links described by their target's headline.
    structure: String,
    /// The numbers that its links show.
    links: Vec<Option<(usize, usize)>>,
    /// No part of the text depends on this: it only settles ties.
    start: (u64, u64, SpanId),
}

/// What sorting looks at, besides the drafts.
struct View<'a> {
    order: Order,
    heads: &'a HashMap<Id, String>,
    numbers: &'a Numbers,
}

impl View<'_> {
    /// Sorts siblings and all below them; gives their keys, too.
    fn sort(&self, drafts: Vec<Draft>) -> (Vec<Key>, Vec<Draft>) {
        let mut keyed: Vec<(Key, Draft)> = drafts
            .into_iter()
            .map(|mut draft| {
                let (keys, children) = self.sort(std::mem::take(&mut draft.children));
                draft.children = children;
                (self.key(&draft, &keys), draft)
            })
            .collect();
        keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
        keyed.into_iter().unzip()
    }

    fn key(&self, draft: &Draft, children: &[Key]) -> Key {
        // These never occur in names and lines, where control characters are
        // escaped, and sort before all that do: so fields compare one by one.
        const FIELD: char = '\u{1}';
        const DOWN: char = '\u{2}';
        const UP: char = '\u{0}';
        let normal = &draft.normal;
        let mut structure = String::new();
        for field in [
            plain(&normal.service),
            plain(&normal.name),
            normal.kind.to_string(),
            normal.headline(),
        ]
        .into_iter()
        .chain(normal.details())
        {
            structure.push_str(&field);
            structure.push(FIELD);
        }
        let mut links = Vec::new();
        for (link, target) in normal.links.iter().zip(&draft.targets) {
            if link.target == Target::Unknown
                && let Some(target) = target
                && let Some(head) = self.heads.get(target)
            {
                structure.push_str(head);
                structure.push(FIELD);
                links.push(
                    self.numbers
                        .get(target)
                        .map(|(trace, span, _)| (*trace, *span)),
                );
            }
        }
        for child in children {
            structure.push(DOWN);
            structure.push_str(&child.structure);
            links.extend_from_slice(&child.links);
        }
        structure.push(UP);
        Key {
            by_start: (self.order == Order::ByStart).then_some((draft.start.0, draft.start.1)),
            structure,
            links,
            start: draft.start,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_port_of_a_url_is_taken_out() {
        let cases = [
            (
                "http://127.0.0.1:4318/a:1?b=2:3",
                "http://127.0.0.1:<port>/a:1?b=2:3",
            ),
            ("http://tier2", "http://tier2"),
            ("http://tier2/x:80", "http://tier2/x:80"),
            (
                "http://REDACTED:REDACTED@h:1",
                "http://REDACTED:REDACTED@h:<port>",
            ),
            ("http://u:1@h/", "http://u:1@h/"),
            ("http://[::1]:80?q", "http://[::1]:<port>?q"),
            ("http://[::1]/", "http://[::1]/"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("", ""),
        ];
        for (url, expected) in cases {
            assert_eq!(without_port(&url.into()), expected.into());
        }
        assert_eq!(without_port(&Value::Int(80)), Value::Int(80));
    }
}
