//! Compares the traces that came with those that were expected, span by span.
//!
//! A text of lines tells that two trees differ, not how. So each expected span is
//! first matched with the span that came in its place, by all that describes it:
//! name, service, kind, attributes, what is above and what is below it. One wrong
//! property leaves the others to know it by. Then the pairs are compared, and what
//! follows from another difference is left out: a subtree in another trace is one
//! difference, not one for each span in it.
//!
//! INTERNAL spans that are not expected are accepted: what is above and below them
//! is compared as if they weren't there.

use std::collections::HashSet;

use crate::model::SpanKind;
use crate::snapshot::{
    NormalAttribute, NormalLink, NormalParent, NormalSpan, NormalTrace, Normalized, Shown, Target,
};

/// How many pairs of spans are looked at, at most. Matching takes time that grows with
/// the third power of the number of spans.
const MAX_PAIRS: usize = 10_000;

/// How much two spans must have in common to be taken for each other, of
/// [`likeness`]'s 220.
const ENOUGH: i32 = 100;

/// How often matches are improved, at most.
const ROUNDS: usize = 3;

/// What one more property in common counts.
mod weight {
    pub(super) const NAME: i32 = 60;
    pub(super) const SERVICE: i32 = 40;
    pub(super) const KIND: i32 = 30;
    pub(super) const STATUS: i32 = 5;
    pub(super) const ATTRIBUTES: i32 = 40;
    pub(super) const PARENT: i32 = 25;
    pub(super) const CHILDREN: i32 = 20;
    /// For pairs around that are matched already, or matched otherwise.
    pub(super) const NEIGHBOUR: i32 = 30;
}

/// One span and its place.
#[derive(Clone, Copy, Debug)]
pub struct Spot<'a> {
    /// The number of its trace.
    pub trace: usize,
    /// The span.
    pub span: &'a NormalSpan,
    /// The spot of the span above it.
    pub parent: Option<usize>,
}

fn spots(traces: &Normalized) -> Vec<Spot<'_>> {
    let mut spots: Vec<Spot<'_>> = Vec::new();
    let mut path: Vec<usize> = Vec::new();
    for (trace, depth, span) in traces.spans() {
        path.truncate(depth);
        let parent = path.last().copied();
        path.push(spots.len());
        spots.push(Spot {
            trace: trace.number,
            span,
            parent,
        });
    }
    spots
}

/// What differs at one place. In the order in which they tell most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// The expected span did not come.
    Missing,
    /// The span that came is not expected.
    Unexpected,
    /// Another name.
    Name,
    /// Another kind.
    Kind,
    /// Under another span, or under one where it should be under none. `above` is the
    /// span that it came under, a spot of what came.
    Parent {
        /// Where it came.
        above: Option<usize>,
    },
    /// The root of another trace than that of the span it should be under, or in one
    /// trace with what it should be apart from.
    Split,
    /// Another status.
    Status,
    /// Another service.
    Service,
    /// An attribute that did not come.
    NoAttribute(String),
    /// An attribute that must not be there.
    NotThisAttribute(String),
    /// An attribute with another value of the same type.
    Value(String),
    /// An attribute with another type.
    Type(String),
    /// An attribute that came more than once.
    Twice(String),
    /// Other links.
    Link,
    /// Other events.
    Event,
}

/// All that differs at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The expected span's spot, unless it is not expected.
    pub expected: Option<usize>,
    /// The spot of what came, unless it is missing.
    pub got: Option<usize>,
    /// What differs, most telling first; never empty.
    pub differences: Vec<Difference>,
}

/// Expected spans and those that came, matched.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// The spans that were expected.
    pub expected: Vec<Spot<'a>>,
    /// The spans that came.
    pub got: Vec<Spot<'a>>,
    /// For each expected span the one that came in its place.
    to_got: Vec<Option<usize>>,
    /// For each span that came the one it stands for.
    to_expected: Vec<Option<usize>>,
    /// The names of expected INTERNAL spans.
    internal: HashSet<&'a str>,
}

impl<'a> Comparison<'a> {
    /// Matches the spans. `got` must hold all INTERNAL spans; those that are not
    /// expected are told apart here.
    ///
    /// `None` if there are too many spans to be matched in reasonable time.
    pub fn new(expected: &'a Normalized, got: &'a Normalized) -> Option<Self> {
        let internal = expected
            .spans()
            .filter(|(_, _, span)| span.kind == SpanKind::Internal)
            .map(|(_, _, span)| span.name.as_str())
            .collect();
        if !Self::can_match(expected, got) {
            return None;
        }
        let (expected, got) = (spots(expected), spots(got));
        let mut comparison = Self {
            to_got: vec![None; expected.len()],
            to_expected: vec![None; got.len()],
            expected,
            got,
            internal,
        };
        comparison.pair();
        Some(comparison)
    }

    /// Whether there are few enough spans to be matched in reasonable time.
    pub fn can_match(expected: &Normalized, got: &Normalized) -> bool {
        let pairs = expected.spans().count().saturating_mul(got.spans().count());
        pairs <= MAX_PAIRS
    }

    /// The spot of what came in place of the expected span.
    pub fn got_for(&self, expected: usize) -> Option<usize> {
        self.to_got.get(expected).copied().flatten()
    }

    /// The spot of the expected span that the one that came stands for.
    pub fn expected_for(&self, got: usize) -> Option<usize> {
        self.to_expected.get(got).copied().flatten()
    }

    /// Whether the span that came is an INTERNAL one that nobody asked for.
    pub fn is_accepted(&self, got: usize) -> bool {
        self.to_expected[got].is_none() && self.is_extra(self.got[got].span)
    }

    fn is_extra(&self, span: &NormalSpan) -> bool {
        span.kind == SpanKind::Internal && !self.internal.contains(span.name.as_str())
    }

    /// Takes the most alike of those that are left, again and again.
    fn pair(&mut self) {
        let expected = Surroundings::new(&self.expected, |_| false);
        let got = Surroundings::new(&self.got, |span| self.is_extra(span));
        let alike: Vec<Vec<i32>> = (0..self.expected.len())
            .map(|e| {
                (0..self.got.len())
                    .map(|g| likeness(self, &expected, &got, e, g))
                    .collect()
            })
            .collect();
        loop {
            let mut best: Option<(i32, usize, usize)> = None;
            for (e, row) in alike.iter().enumerate() {
                if self.to_got[e].is_some() {
                    continue;
                }
                for (g, &base) in row.iter().enumerate() {
                    if base < ENOUGH || self.to_expected[g].is_some() {
                        continue;
                    }
                    let score = base + self.agreement(&expected, &got, e, g);
                    if best.is_none_or(|(most, _, _)| score > most) {
                        best = Some((score, e, g));
                    }
                }
            }
            let Some((_, e, g)) = best else { break };
            self.to_got[e] = Some(g);
            self.to_expected[g] = Some(e);
        }
        self.improve();
    }

    /// Swaps spans that look alike from outside where less differs then: two requests
    /// of which one has got the other's answer below it.
    fn improve(&mut self) {
        let mut differing = self.weight();
        for _ in 0..ROUNDS {
            let before = differing;
            let touched = self.touched();
            for a in 0..self.expected.len() {
                for b in a + 1..self.expected.len() {
                    if differing == 0 {
                        return;
                    }
                    let (one, other) = (self.expected[a].span, self.expected[b].span);
                    let alike = one.name == other.name
                        && one.kind == other.kind
                        && one.service == other.service;
                    if !alike || !(touched[a] || touched[b]) {
                        continue;
                    }
                    // The spans alone, then with all below them.
                    let below = self.size(a);
                    let whole = if below == self.size(b) { below } else { 1 };
                    for size in if whole > 1 { vec![1, whole] } else { vec![1] } {
                        self.swap(a, b, size);
                        let now = self.weight();
                        if now < differing {
                            differing = now;
                        } else {
                            self.swap(a, b, size);
                        }
                    }
                }
            }
            if differing == before {
                return;
            }
        }
    }

    /// Which expected spans have something that differs, there or below.
    fn touched(&self) -> Vec<bool> {
        let mut touched = vec![false; self.expected.len()];
        // Backwards, so that what is below comes first.
        for e in (0..self.expected.len()).rev() {
            touched[e] |=
                self.to_got[e].is_some_and(|g| !self.differences(e, g, &|_, _| true).is_empty());
            if let Some(parent) = self.expected[e].parent {
                touched[parent] |= touched[e];
            }
        }
        touched
    }

    /// How many expected spans are in the subtree of `e`; they follow each other.
    fn size(&self, e: usize) -> usize {
        let mut size = 1;
        while self
            .expected
            .get(e + size)
            .and_then(|spot| spot.parent)
            .is_some_and(|parent| parent >= e)
        {
            size += 1;
        }
        size
    }

    fn swap(&mut self, a: usize, b: usize, size: usize) {
        for (a, b) in (a..a + size).zip(b..b + size) {
            self.to_got.swap(a, b);
            for e in [a, b] {
                if let Some(g) = self.to_got[e] {
                    self.to_expected[g] = Some(e);
                }
            }
        }
    }

    /// How much differs between the pairs. A span without a counterpart is no part of
    /// it: swapping doesn't make one.
    fn weight(&self) -> usize {
        let differences = |(e, g): (usize, Option<usize>)| {
            g.map_or(0, |g| self.differences(e, g, &|_, _| true).len())
        };
        let pairs = self.to_got.iter().copied().enumerate();
        pairs.map(differences).sum()
    }

    /// How well a pair goes with the pairs around it. It keeps traces that are alike
    /// apart from each other.
    fn agreement(&self, expected: &Surroundings, got: &Surroundings, e: usize, g: usize) -> i32 {
        let mut score = 0;
        if let Some(parent) = expected.parent[e]
            && let Some(matched) = self.to_got[parent]
        {
            score += match got.parent[g] {
                Some(above) if above == matched => weight::NEIGHBOUR,
                _ => -weight::NEIGHBOUR,
            };
        }
        for &child in &expected.children[e] {
            if let Some(matched) = self.to_got[child] {
                score += match got.parent[matched] {
                    Some(above) if above == g => weight::NEIGHBOUR,
                    _ => -weight::NEIGHBOUR,
                };
            }
        }
        score
    }

    /// The nearest span above that has a counterpart.
    fn above(spots: &[Spot<'_>], counterparts: &[Option<usize>], spot: usize) -> Above {
        let mut at = spot;
        while let Some(parent) = spots[at].parent {
            if counterparts[parent].is_some() {
                return Above::Span(parent);
            }
            at = parent;
        }
        Above::Nothing(spots[at].span.parent)
    }

    fn above_got(&self, got: usize) -> Above {
        Self::above(&self.got, &self.to_expected, got)
    }

    /// The span that came above `got`, INTERNAL ones that nobody asked for aside.
    pub fn parent_of_got(&self, got: usize) -> Option<usize> {
        match self.above_got(got) {
            Above::Span(above) => Some(above),
            Above::Nothing(_) => None,
        }
    }

    /// What differs, in the order of the expected lines; what was not expected last.
    ///
    /// `is_optional` says of an attribute that came and was not expected, on the
    /// expected span, whether it is everybody's own choice.
    pub fn findings(&self, is_optional: &dyn Fn(&NormalSpan, &str) -> bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        for e in 0..self.expected.len() {
            let (got, mut differences) = match self.to_got[e] {
                Some(g) => (Some(g), self.differences(e, g, is_optional)),
                // What is under a missing span is missing with it.
                None if self.parent_is_missing(e) => (None, Vec::new()),
                None => (None, vec![Difference::Missing]),
            };
            differences.sort();
            if !differences.is_empty() {
                findings.push(Finding {
                    expected: Some(e),
                    got,
                    differences,
                });
            }
        }
        for g in 0..self.got.len() {
            if self.to_expected[g].is_some() || self.is_accepted(g) {
                continue;
            }
            let under_another = self.got[g].parent.is_some_and(|parent| {
                self.to_expected[parent].is_none() && !self.is_accepted(parent)
            });
            if !under_another {
                findings.push(Finding {
                    expected: None,
                    got: Some(g),
                    differences: vec![Difference::Unexpected],
                });
            }
        }
        findings
    }

    fn parent_is_missing(&self, e: usize) -> bool {
        self.expected[e]
            .parent
            .is_some_and(|parent| self.to_got[parent].is_none())
    }

    fn differences(
        &self,
        e: usize,
        g: usize,
        is_optional: &dyn Fn(&NormalSpan, &str) -> bool,
    ) -> Vec<Difference> {
        let (expected, got) = (self.expected[e].span, self.got[g].span);
        let mut differences = Vec::new();
        let mut push = |differs: bool, difference: Difference| {
            if differs {
                differences.push(difference);
            }
        };
        push(expected.name != got.name, Difference::Name);
        push(expected.status != got.status, Difference::Status);
        push(expected.service != got.service, Difference::Service);
        let other_kind = expected.kind != got.kind;
        push(other_kind, Difference::Kind);
        let place = self.place(e, g);
        // A span that was not given its parent's context can't link to it, either.
        let links_differ = place.is_none() && self.links_differ(e, g);
        push(links_differ, Difference::Link);
        push(expected.events != got.events, Difference::Event);
        differences.extend(place);
        // The kind decides which attributes are shown at all.
        if !other_kind {
            differences.extend(attributes(expected, got, is_optional));
        }
        differences
    }

    /// How the place of a pair differs, but for what follows from elsewhere.
    fn place(&self, e: usize, g: usize) -> Option<Difference> {
        let above = self.above_got(g);
        let Some(parent) = self.expected[e].parent else {
            return match above {
                Above::Span(above) => Some(Difference::Parent { above: Some(above) }),
                Above::Nothing(note) if note != self.expected[e].span.parent => {
                    Some(Difference::Parent { above: None })
                }
                Above::Nothing(_) => self.mixes_traces(e, g).then_some(Difference::Split),
            };
        };
        // If the parent is missing, that is what is to be told.
        let parent = self.to_got[parent]?;
        match above {
            Above::Span(above) if above == parent => None,
            Above::Span(above) if self.got[above].trace == self.got[parent].trace => {
                Some(Difference::Parent { above: Some(above) })
            }
            Above::Nothing(_) if self.got[g].trace == self.got[parent].trace => {
                Some(Difference::Parent { above: None })
            }
            _ => Some(Difference::Split),
        }
    }

    /// Whether a root is in one trace with a root it should be apart from, or apart
    /// from one it should be in one trace with. Told of the later one.
    fn mixes_traces(&self, e: usize, g: usize) -> bool {
        (0..e).any(|other| {
            let is_root = self.expected[other].parent.is_none();
            let Some(other_got) = self.to_got[other].filter(|_| is_root) else {
                return false;
            };
            let together = self.expected[other].trace == self.expected[e].trace;
            let came_together = self.got[other_got].trace == self.got[g].trace;
            together != came_together
        })
    }

    fn links_differ(&self, e: usize, g: usize) -> bool {
        let expected = &self.expected[e].span.links;
        let got = &self.got[g].span.links;
        // A link to a missing span, or one that came with the context of a missing
        // parent: that is told already.
        let follows = self.parent_is_missing(e)
            || expected.iter().any(|link| {
                target(&self.expected, e, &link.target).is_some_and(|to| self.to_got[to].is_none())
            });
        if follows {
            return false;
        }
        if expected.len() != got.len() {
            return true;
        }
        expected.iter().zip(got).any(|(expected, got)| {
            let to = target(&self.expected, e, &expected.target);
            expected.attributes != got.attributes || to != self.link_target(g, got)
        })
    }

    /// The expected span that a link of what came points to.
    fn link_target(&self, g: usize, link: &NormalLink) -> Option<usize> {
        let to = target(&self.got, g, &link.target)?;
        if let Some(expected) = self.to_expected[to] {
            return Some(expected);
        }
        match self.above_got(to) {
            Above::Span(above) => self.to_expected[above],
            Above::Nothing(_) => None,
        }
    }

    /// What came in the form of what was expected: without what is accepted, in the
    /// expected order. Equal to it if and only if nothing differs.
    ///
    /// This looks at the trees and not at [`findings`](Self::findings), so that one
    /// guards the other.
    pub fn rebuilt(
        &self,
        expected: &Normalized,
        is_optional: &dyn Fn(&NormalSpan, &str) -> bool,
    ) -> Normalized {
        let mut number = 0;
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); self.expected.len()];
        let mut roots: Vec<usize> = Vec::new();
        // In the order of expected lines, each under what came above it.
        for e in 0..self.expected.len() {
            let Some(g) = self.to_got[e] else { continue };
            match self.above_got(g) {
                Above::Span(above) => match self.to_expected[above] {
                    Some(parent) => children[parent].push(e),
                    None => roots.push(e),
                },
                Above::Nothing(_) => roots.push(e),
            }
        }
        let mut traces: Vec<NormalTrace> = Vec::new();
        let mut numbers: Vec<usize> = Vec::new();
        for root in roots {
            let Some(g) = self.to_got[root] else { continue };
            let trace = self.got[g].trace;
            let at = match numbers.iter().position(|number| *number == trace) {
                Some(at) => at,
                None => {
                    number += 1;
                    numbers.push(trace);
                    traces.push(NormalTrace {
                        number: expected.traces.get(number - 1).map_or(number, |t| t.number),
                        roots: Vec::new(),
                    });
                    traces.len() - 1
                }
            };
            let mut count: usize = traces[at].spans().count();
            let span = self.rebuilt_span(root, true, &children, &mut count, is_optional);
            traces[at].roots.extend(span);
        }
        let unexpected =
            (0..self.got.len()).filter(|&g| self.to_expected[g].is_none() && !self.is_accepted(g));
        for g in unexpected {
            number += 1;
            traces.push(NormalTrace {
                number,
                roots: vec![NormalSpan {
                    children: Vec::new(),
                    ..self.got[g].span.clone()
                }],
            });
        }
        Normalized { traces }
    }

    /// Recursion is bounded by the depth of trees.
    fn rebuilt_span(
        &self,
        e: usize,
        is_root: bool,
        children: &[Vec<usize>],
        count: &mut usize,
        is_optional: &dyn Fn(&NormalSpan, &str) -> bool,
    ) -> Option<NormalSpan> {
        let g = self.to_got[e]?;
        let (expected, got) = (self.expected[e].span, self.got[g].span);
        *count += 1;
        let number = *count;
        let links_differ = self.links_differ(e, g);
        Some(NormalSpan {
            number,
            parent: match self.above_got(g) {
                Above::Nothing(note) if is_root => note,
                _ => NormalParent::Above,
            },
            attributes: got
                .attributes
                .iter()
                .filter(|a| expected.attribute(&a.key).is_some() || !is_optional(expected, &a.key))
                .cloned()
                .collect(),
            links: if links_differ {
                &got.links
            } else {
                &expected.links
            }
            .clone(),
            children: children[e]
                .iter()
                .filter_map(|&child| self.rebuilt_span(child, false, children, count, is_optional))
                .collect(),
            ..got.clone()
        })
    }
}

/// What is above a span.
enum Above {
    Span(usize),
    /// Nothing that has a counterpart; what the topmost span says about its parent.
    Nothing(NormalParent),
}

/// What is above and below each span, some spans left out.
struct Surroundings {
    parent: Vec<Option<usize>>,
    children: Vec<Vec<usize>>,
}

impl Surroundings {
    fn new(spots: &[Spot<'_>], left_out: impl Fn(&NormalSpan) -> bool) -> Self {
        let mut parents: Vec<Option<usize>> = Vec::with_capacity(spots.len());
        let mut children = vec![Vec::new(); spots.len()];
        for (at, spot) in spots.iter().enumerate() {
            // Parents come first, so what is above the parent is known.
            let parent = spot.parent.and_then(|parent| {
                if left_out(spots[parent].span) {
                    parents[parent]
                } else {
                    Some(parent)
                }
            });
            parents.push(parent);
            if let Some(parent) = parent
                && !left_out(spot.span)
            {
                children[parent].push(at);
            }
        }
        Self {
            parent: parents,
            children,
        }
    }
}

/// How much two spans have in common, without regard to which others are matched.
fn likeness(
    comparison: &Comparison<'_>,
    expected_around: &Surroundings,
    got_around: &Surroundings,
    e: usize,
    g: usize,
) -> i32 {
    let (expected, got) = (comparison.expected[e].span, comparison.got[g].span);
    let mut score = 0;
    let mut add = |equal: bool, weight: i32| score += if equal { weight } else { 0 };
    add(expected.name == got.name, weight::NAME);
    add(expected.service == got.service, weight::SERVICE);
    add(expected.kind == got.kind, weight::KIND);
    add(expected.status == got.status, weight::STATUS);
    score += share(
        weight::ATTRIBUTES,
        expected.attributes.iter().map(|attribute| {
            let equal = got.attributes.contains(attribute);
            let named = got.attribute(&attribute.key).is_some();
            i32::from(equal) + i32::from(named)
        }),
        2,
    );
    score += match (expected_around.parent[e], got_around.parent[g]) {
        (None, None) => weight::PARENT,
        (Some(a), Some(b)) => {
            let (a, b) = (comparison.expected[a].span, comparison.got[b].span);
            share(
                weight::PARENT,
                [a.name == b.name, a.service == b.service, a.kind == b.kind].map(i32::from),
                1,
            )
        }
        _ => 0,
    };
    let mut left: Vec<&NormalSpan> = got_around.children[g]
        .iter()
        .map(|&child| comparison.got[child].span)
        .collect();
    let most = expected_around.children[e].len().max(left.len());
    let common = expected_around.children[e]
        .iter()
        .filter(|&&child| {
            let child = comparison.expected[child].span;
            let found = left.iter().position(|other| {
                other.name == child.name
                    && other.kind == child.kind
                    && other.service == child.service
            });
            found.map(|at| left.swap_remove(at)).is_some()
        })
        .count();
    score
        + share(
            weight::CHILDREN,
            (0..most).map(|at| i32::from(at < common)),
            1,
        )
}

/// The part of `weight` that `points` are of the most they could be; all if there are none.
fn share(weight: i32, points: impl IntoIterator<Item = i32>, most_each: i32) -> i32 {
    let (mut sum, mut most) = (0, 0);
    for point in points {
        sum += point;
        most += most_each;
    }
    if most == 0 {
        weight
    } else {
        weight * sum / most
    }
}

/// The spot that a link points to.
fn target(spots: &[Spot<'_>], from: usize, target: &Target) -> Option<usize> {
    match target {
        Target::Parent => spots[from].parent,
        Target::Unknown => None,
        Target::Span { trace, span, .. } => spots
            .iter()
            .position(|spot| spot.trace == *trace && spot.span.number == *span),
    }
}

/// How the attributes of a pair differ.
fn attributes(
    expected: &NormalSpan,
    got: &NormalSpan,
    is_optional: &dyn Fn(&NormalSpan, &str) -> bool,
) -> Vec<Difference> {
    let values = |span: &NormalSpan, key: &str| -> Vec<Shown> {
        let found = span.attributes.iter().filter(|a| a.key == key);
        found.map(|a| a.value.clone()).collect()
    };
    let mut differences = Vec::new();
    let mut keys: Vec<&String> = expected
        .attributes
        .iter()
        .chain(&got.attributes)
        .map(|NormalAttribute { key, .. }| key)
        .collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let (wanted, came) = (values(expected, key), values(got, key));
        if wanted == came {
            continue;
        }
        let key = key.clone();
        match (wanted.as_slice(), came.as_slice()) {
            (_, []) => differences.push(Difference::NoAttribute(key)),
            (wanted, came) if came.len() > wanted.len().max(1) => {
                differences.push(Difference::Twice(key));
            }
            ([], _) if is_optional(expected, &key) => {}
            ([], _) => differences.push(Difference::NotThisAttribute(key)),
            ([wanted, ..], [came, ..]) if wanted.type_name() != came.type_name() => {
                differences.push(Difference::Type(key));
            }
            _ => differences.push(Difference::Value(key)),
        }
    }
    differences
}
