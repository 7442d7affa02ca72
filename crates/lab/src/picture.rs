//! Draws the parts of trees that matter to a finding, with a mark on what differs.

use std::collections::BTreeSet;

use opentelemetry_semantic_conventions::attribute::URL_FULL;
use otlp::{NormalSpan, Shown, Spot, StatusCode};

use crate::diagnosis::{COLUMN, WIDTH};

/// How many spans are drawn side by side, at most.
const SIBLINGS: usize = 6;

/// How many columns a line of a tree has, its mark left out.
const ROOM: usize = WIDTH - COLUMN - 2;

/// A span as it is drawn.
struct Branch {
    text: String,
    marked: bool,
    /// What is said below it: attributes and the like.
    lines: Vec<(bool, String)>,
    children: Vec<Branch>,
}

/// Which spans to draw, and what to say about them.
pub(crate) struct Picture<'a> {
    spots: &'a [Spot<'a>],
    /// What is above each spot.
    above: Box<dyn Fn(usize) -> Option<usize> + 'a>,
    shown: BTreeSet<usize>,
    marked: Option<usize>,
    lines: Vec<(bool, String)>,
    /// A line in place of a span that isn't there: under which, and its text.
    absent: Option<(Option<usize>, String)>,
    /// Whether the marked span's status is shown even if it is no error.
    status: bool,
}

impl<'a> Picture<'a> {
    pub(crate) fn new(spots: &'a [Spot<'a>], above: impl Fn(usize) -> Option<usize> + 'a) -> Self {
        Self {
            spots,
            above: Box::new(above),
            shown: BTreeSet::new(),
            marked: None,
            lines: Vec::new(),
            absent: None,
            status: false,
        }
    }

    /// Draws `spot` and all above it.
    pub(crate) fn show(&mut self, spot: usize) {
        let mut at = Some(spot);
        while let Some(spot) = at.filter(|spot| self.shown.insert(*spot)) {
            at = (self.above)(spot);
        }
    }

    /// Draws what is right below `above`, or the roots; not too much of it.
    pub(crate) fn show_below(&mut self, above: Option<usize>) {
        let below: Vec<usize> = (0..self.spots.len())
            .filter(|&spot| (self.above)(spot) == above)
            .take(SIBLINGS)
            .collect();
        self.shown.extend(below);
    }

    /// Marks `spot` as what differs.
    pub(crate) fn mark(&mut self, spot: usize) {
        self.marked = Some(spot);
    }

    /// Says something below `spot`.
    pub(crate) fn say(&mut self, spot: usize, lines: Vec<(bool, String)>) {
        self.show(spot);
        self.lines = lines;
        // The span whose lines these are: marked only if it was before.
        if self.marked.is_none() {
            self.marked = Some(spot);
        }
    }

    /// Says that something is missing under `above`.
    pub(crate) fn absent(&mut self, above: Option<usize>, text: impl Into<String>) {
        self.absent = Some((above, text.into()));
    }

    pub(crate) fn with_status(&mut self) {
        self.status = true;
    }

    /// The lines, each with its mark or a space in the first column.
    pub(crate) fn lines(&self, mark_span: bool) -> Vec<String> {
        let mut out = Vec::new();
        let mut traces: Vec<usize> = Vec::new();
        for &root in self.roots().iter() {
            let trace = self.spots[root].trace;
            let mut branch = self.branch(root, mark_span);
            if !traces.is_empty() && !traces.contains(&trace) {
                branch.text.push_str("   (another trace)");
            }
            traces.push(trace);
            draw(&branch, "", "", &mut out);
        }
        if let Some((None, text)) = &self.absent {
            out.push(line(true, text));
        }
        out
    }

    fn roots(&self) -> Vec<usize> {
        let is_root =
            |spot: &usize| (self.above)(*spot).is_none_or(|above| !self.shown.contains(&above));
        let mut roots: Vec<usize> = self.shown.iter().copied().filter(is_root).collect();
        // First where it should be, then what is elsewhere.
        roots.sort_by_key(|root| Some(*root) == self.marked);
        roots
    }

    /// Recursion is bounded by the depth of trees.
    fn branch(&self, spot: usize, mark_span: bool) -> Branch {
        let marked = self.marked == Some(spot);
        let mut children: Vec<Branch> = self
            .shown
            .iter()
            .filter(|&&child| (self.above)(child) == Some(spot))
            .map(|&child| self.branch(child, mark_span))
            .collect();
        if let Some((Some(above), text)) = &self.absent
            && *above == spot
        {
            children.push(Branch {
                text: text.clone(),
                marked: true,
                lines: Vec::new(),
                children: Vec::new(),
            });
        }
        Branch {
            text: headline(self.spots[spot].span, marked && self.status),
            marked: marked && mark_span,
            lines: if marked {
                self.lines.clone()
            } else {
                Vec::new()
            },
            children,
        }
    }
}

/// `GET · CLIENT · tier1-service → /path`, with the status if it is an error or asked for.
fn headline(span: &NormalSpan, with_status: bool) -> String {
    let mut text = span.headline();
    if !with_status && span.status != StatusCode::Error {
        text = text.replacen(&format!(" · {}", span.status), "", 1);
    }
    // All requests of one method have the same name.
    if let Some(path) = path(span) {
        text.push_str(&format!(" → {path}"));
    }
    text
}

/// The path and query of the URL that was asked for.
pub(crate) fn path(span: &NormalSpan) -> Option<String> {
    let Shown::Verbatim(url) = span.attribute(URL_FULL)? else {
        return None;
    };
    // As the snapshot shows it: control characters are escaped in there.
    let url = url.to_string();
    let after = url.trim_matches('"').split_once("://")?.1;
    Some(after.find('/').map_or("/", |at| &after[at..]).to_owned())
}

/// Recursion is bounded by the depth of trees.
fn draw(branch: &Branch, before: &str, below: &str, out: &mut Vec<String>) {
    let (text, rest) = broken(&branch.text, ROOM.saturating_sub(before.chars().count()));
    out.push(line(branch.marked, &format!("{before}{text}")));
    let bar = if branch.children.is_empty() {
        "   "
    } else {
        "│  "
    };
    if let Some(rest) = rest {
        out.push(line(false, &format!("{below}{bar}{rest}")));
    }
    for (marked, text) in &branch.lines {
        out.push(line(*marked, &format!("{below}{bar}{text}")));
    }
    for (number, child) in branch.children.iter().enumerate() {
        let last = number + 1 == branch.children.len();
        let (corner, bar) = if last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        draw(
            child,
            &format!("{below}{corner}"),
            &format!("{below}{bar}"),
            out,
        );
    }
}

/// What fits of a headline, and its last part if that doesn't: it may be the one that
/// the finding is about.
fn broken(text: &str, room: usize) -> (&str, Option<&str>) {
    match text.rsplit_once(" · ") {
        Some((text, rest)) if text.chars().count() + 3 + rest.chars().count() > room => {
            (text, Some(rest))
        }
        _ => (text, None),
    }
}

/// A line with its mark, as long as fits.
fn line(marked: bool, text: &str) -> String {
    let mut text: String = if text.chars().count() > ROOM {
        text.chars().take(ROOM - 1).chain(['…']).collect()
    } else {
        text.to_owned()
    };
    text.insert_str(0, if marked { "✗ " } else { "  " });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_a_headline_is_broken_off_rather_than_cut() {
        let text = "process signups · CONSUMER · consumer-service · parent not received";
        let fits = text.chars().count();
        assert_eq!(broken(text, fits), (text, None));
        assert_eq!(
            broken(text, fits - 1),
            (
                "process signups · CONSUMER · consumer-service",
                Some("parent not received")
            )
        );
        assert_eq!(broken("process signups", 3), ("process signups", None));
    }
}
