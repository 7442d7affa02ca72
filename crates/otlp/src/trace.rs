//! Makes trees out of spans.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::model::{Span, SpanId, TraceId};

/// How many levels a tree has at most; a span further down becomes a root of
/// the same trace, marked [`Parent::Cut`].
///
/// The bound is what makes recursion over a tree safe, here (cloning, comparing,
/// dropping) and for whoever uses it. No trace that a person reads is so deep.
pub const MAX_DEPTH: usize = 200;

/// Where a node's parent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// The span names no parent.
    None,
    /// The parent is the node above.
    Here,
    /// The span names a parent that has not been received.
    Missing(SpanId),
    /// The parent has been received, but is not above: it is below (the spans
    /// name each other in a circle), or the tree has [`MAX_DEPTH`] levels.
    Cut(SpanId),
}

/// A span and the spans under it.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The span.
    pub span: Span,
    /// Its children, by start time.
    pub children: Vec<Node>,
    /// Where its parent is.
    pub parent: Parent,
}

/// The spans of one trace id as trees.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The id they share.
    pub trace_id: TraceId,
    /// The spans without a parent above them, by start time. More than one if
    /// spans are missing, or if a service started twice with the same trace id.
    pub roots: Vec<Node>,
}

impl Trace {
    /// All spans, each before its children.
    pub fn spans(&self) -> impl Iterator<Item = &Span> {
        self.nodes().map(|(_, node)| &node.span)
    }

    /// All nodes with their depth (0 for roots), each before its children.
    pub fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> {
        let mut stack: Vec<(usize, &Node)> = self.roots.iter().rev().map(|n| (0, n)).collect();
        std::iter::from_fn(move || {
            let (depth, node) = stack.pop()?;
            stack.extend(node.children.iter().rev().map(|n| (depth + 1, n)));
            Some((depth, node))
        })
    }
}

/// By start; what follows settles ties, so that the order of arrival never
/// matters.
fn order(a: &Span, b: &Span) -> std::cmp::Ordering {
    a.start_unix_nanos
        .cmp(&b.start_unix_nanos)
        .then_with(|| b.end_unix_nanos.cmp(&a.end_unix_nanos))
        .then_with(|| a.name.cmp(&b.name))
        .then_with(|| a.kind.cmp(&b.kind))
        .then_with(|| a.span_id.cmp(&b.span_id))
        .then_with(|| a.service().cmp(b.service()))
        .then_with(|| a.parent_span_id.cmp(&b.parent_span_id))
}

/// Groups spans by trace id and puts each under its parent.
///
/// Every span appears exactly once, whatever the ids say: a span whose parent
/// is not here is a root, a circle is opened at its earliest span, and of spans
/// with the same id the earliest gets the children. Traces are ordered by their
/// first start; the order of `spans` makes no difference.
pub fn traces(spans: &[Span]) -> Vec<Trace> {
    let mut groups: HashMap<TraceId, Vec<&Span>> = HashMap::new();
    for span in spans {
        groups.entry(span.trace_id).or_default().push(span);
    }
    let mut traces: Vec<Trace> = groups
        .into_iter()
        .map(|(trace_id, mut spans)| {
            spans.sort_by(|a, b| order(a, b));
            Trace {
                trace_id,
                roots: trees(&spans),
            }
        })
        .collect();
    let start = |trace: &Trace| trace.roots.first().map(|r| r.span.start_unix_nanos);
    traces.sort_by_key(|trace| (start(trace), trace.trace_id));
    traces
}

/// Trees out of the spans of one trace, which are in [`order`].
fn trees(spans: &[&Span]) -> Vec<Node> {
    let mut by_id: HashMap<SpanId, usize> = HashMap::with_capacity(spans.len());
    for (i, span) in spans.iter().enumerate() {
        if let Entry::Vacant(entry) = by_id.entry(span.span_id) {
            entry.insert(i);
        }
    }
    let mut above: Vec<Option<usize>> = spans
        .iter()
        .map(|span| span.parent_span_id.and_then(|id| by_id.get(&id).copied()))
        .collect();
    open_circles(&mut above);

    let mut children: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
    let mut roots: Vec<usize> = Vec::new();
    for (i, parent) in above.iter().enumerate() {
        match parent {
            Some(parent) => children[*parent].push(i),
            None => roots.push(i),
        }
    }

    // Parents come before children in `walk`; `above` loses the edges that
    // would make a tree too deep.
    let mut walk: Vec<(usize, usize)> = roots.iter().map(|&root| (root, 1)).collect();
    let mut at = 0;
    while let Some(&(i, depth)) = walk.get(at) {
        at += 1;
        for &child in &children[i] {
            if depth < MAX_DEPTH {
                walk.push((child, depth + 1));
            } else {
                above[child] = None;
                roots.push(child);
                walk.push((child, 1));
            }
        }
    }

    // From the leaves up, each node takes its finished children. The walk is
    // backwards, and so are the children until they are taken.
    let mut waiting: Vec<Vec<Node>> = spans.iter().map(|_| Vec::new()).collect();
    let mut finished: Vec<(usize, Node)> = Vec::with_capacity(roots.len());
    for &(i, _) in walk.iter().rev() {
        let span = spans[i];
        let mut children = std::mem::take(&mut waiting[i]);
        children.reverse();
        let parent = match (above[i], span.parent_span_id) {
            (Some(_), _) => Parent::Here,
            (None, None) => Parent::None,
            (None, Some(id)) if by_id.contains_key(&id) => Parent::Cut(id),
            (None, Some(id)) => Parent::Missing(id),
        };
        let node = Node {
            span: span.clone(),
            children,
            parent,
        };
        match above[i] {
            Some(parent) => waiting[parent].push(node),
            None => finished.push((i, node)),
        }
    }
    finished.sort_by_key(|(i, _)| *i);
    finished.into_iter().map(|(_, node)| node).collect()
}

/// Takes away the parent of the first span of each circle.
fn open_circles(above: &mut [Option<usize>]) {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        No,
        OnPath,
        Done,
    }
    let mut seen = vec![Seen::No; above.len()];
    for start in 0..above.len() {
        let mut path = Vec::new();
        let mut next = Some(start);
        while let Some(i) = next {
            match seen[i] {
                Seen::Done => break,
                Seen::No => {
                    seen[i] = Seen::OnPath;
                    path.push(i);
                    next = above[i];
                }
                Seen::OnPath => {
                    // The path ends in a circle, from `i` on.
                    let from = path.iter().position(|&p| p == i).unwrap_or(0);
                    if let Some(first) = path[from..].iter().min() {
                        above[*first] = None;
                    }
                    break;
                }
            }
        }
        for i in path {
            seen[i] = Seen::Done;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(trace: u8, id: u64, parent: u64, start: u64) -> Span {
        Span {
            trace_id: TraceId([trace; 16]),
            span_id: SpanId(id.to_be_bytes()),
            parent_span_id: (parent != 0).then(|| SpanId(parent.to_be_bytes())),
            name: format!("s{id}"),
            start_unix_nanos: start,
            end_unix_nanos: start + 1,
            ..Span::default()
        }
    }

    fn shape(trace: &Trace) -> Vec<String> {
        trace
            .nodes()
            .map(|(depth, node)| format!("{}{}", "-".repeat(depth), node.span.name))
            .collect()
    }

    #[test]
    fn spans_find_their_parents_in_any_order() {
        let mut spans = vec![
            span(1, 1, 0, 10),
            span(1, 2, 1, 20),
            span(1, 3, 1, 15),
            span(1, 4, 2, 30),
            span(2, 1, 0, 5),
        ];
        let expected = traces(&spans);
        assert_eq!(expected.len(), 2);
        assert_eq!(shape(&expected[0]), ["s1"]);
        assert_eq!(shape(&expected[1]), ["s1", "-s3", "-s2", "--s4"]);
        assert_eq!(expected[1].roots[0].parent, Parent::None);
        assert_eq!(expected[1].roots[0].children[0].parent, Parent::Here);
        for _ in 0..spans.len() {
            spans.rotate_left(1);
            assert_eq!(traces(&spans), expected);
        }
        assert_eq!(traces(&[]), []);
    }

    #[test]
    fn a_missing_parent_makes_a_marked_root() {
        let traces = traces(&[span(1, 2, 9, 0), span(1, 3, 2, 1)]);
        assert_eq!(shape(&traces[0]), ["s2", "-s3"]);
        assert_eq!(
            traces[0].roots[0].parent,
            Parent::Missing(SpanId(9_u64.to_be_bytes()))
        );
    }

    #[test]
    fn circles_are_opened_and_nothing_is_lost() {
        let own = traces(&[span(1, 1, 1, 0)]);
        assert_eq!(shape(&own[0]), ["s1"]);
        assert_eq!(
            own[0].roots[0].parent,
            Parent::Cut(SpanId(1_u64.to_be_bytes()))
        );

        // 1 → 3 → 2 → 1, and 4 hangs under 2.
        let spans = [
            span(1, 1, 3, 5),
            span(1, 2, 1, 6),
            span(1, 3, 2, 7),
            span(1, 4, 2, 8),
        ];
        let circle = traces(&spans);
        assert_eq!(shape(&circle[0]), ["s1", "-s2", "--s3", "--s4"]);
        // The tail is looked at first and enters the circle at 3; the circle is
        // opened at its earliest span all the same.
        let tail = traces(&[span(1, 4, 3, 0), span(1, 2, 3, 1), span(1, 3, 2, 2)]);
        assert_eq!(shape(&tail[0]), ["s2", "-s3", "--s4"]);

        let mut turned = spans.to_vec();
        turned.reverse();
        assert_eq!(traces(&turned), circle);
    }

    #[test]
    fn spans_that_differ_in_their_ids_only_have_an_order() {
        let alike = |id| Span {
            name: "alike".to_owned(),
            ..span(1, id, 1, 5)
        };
        let mut spans = [span(1, 1, 0, 0), alike(2), alike(3), alike(4)];
        let expected = traces(&spans);
        spans.reverse();
        assert_eq!(traces(&spans), expected);
    }

    #[test]
    fn spans_with_the_same_id_are_kept() {
        let traces = traces(&[span(1, 1, 0, 0), span(1, 1, 0, 1), span(1, 2, 1, 2)]);
        assert_eq!(shape(&traces[0]), ["s1", "-s2", "s1"]);
    }

    #[test]
    fn a_chain_of_ten_thousand_is_cut_and_complete() {
        let spans: Vec<Span> = (1..=10_000).map(|i| span(1, i, i - 1, i)).collect();
        let traces = traces(&spans);
        assert_eq!(traces[0].spans().count(), 10_000);
        assert_eq!(traces[0].roots.len(), 10_000 / MAX_DEPTH);
        assert!(matches!(traces[0].roots[1].parent, Parent::Cut(_)));
        assert!(traces[0].nodes().all(|(depth, _)| depth < MAX_DEPTH));
        assert_eq!(traces.clone(), traces);
    }
}
