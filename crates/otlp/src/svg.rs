//! Traces as a picture: a waterfall in SVG, for a web page or as a file of its own.
//!
//! The picture has no `viewBox`, so it is never scaled: text keeps its size, and only
//! the bars follow the width. Where there is little room, what a span is stands under
//! its name; where there is more, beside it. A page says how much room there is by a
//! container called `trace` around the picture, and the colours by variables:
//!
//! ```css
//! figure { container: trace / inline-size; --trace-text: #333; --trace-back: #fff; }
//! ```
//!
//! All of them are in `STYLE`, below. A file that is opened by itself goes by its
//! window, and has colours for light and dark.

use std::fmt::Write as _;

use crate::model::{Event, LogRecord, Span, SpanKind};
use crate::render::{
    Around, Axis, Counts, MAX_NOTES, UNICODE, body, duration, error_note, is_error, parent_note,
    services, severity, short, since_start,
};
use crate::text::{fit_width, plain};
use crate::trace::{Node, Trace};

/// How many services have a colour of their own.
const COLOURS: usize = 6;

/// How many levels are indented. Below, a number says the depth.
const MAX_INDENT: usize = 8;

/// Pixels for one level.
const INDENT: u32 = 12;

/// The height of a span's row, where there is little room and where there is more.
const ROW: Ys = Ys {
    narrow: 39,
    wide: 24,
};

/// The height of a line below a row.
const LINE: u32 = 17;

/// What is left below the last of them.
const GAP: u32 = 4;

/// Where the middle of a span's name and bar is, and the baseline of its text.
const MIDDLE: u32 = 11;
const BASE: u32 = 15;

/// Baseline of the second line of a row, where there is one.
const SECOND: u32 = 30;

/// Sizes of text. None is smaller: a phone shows them as they are.
const NAME_SIZE: f64 = 13.0;
const TEXT_SIZE: f64 = 12.0;

/// The smallest widths that the two layouts are made for, and what a time takes of them.
const PHONE: f64 = 320.0;
const WIDE: f64 = 600.0;
const TIME: f64 = 62.0;

/// The most that is shown of a name and of a service, in pixels.
const NAME_MOST: f64 = 250.0;
const SERVICE_MOST: f64 = 180.0;

/// How many lines a note has at most.
const NOTE_LINES: usize = 3;

/// How many spans the description tells.
const TOLD: usize = 100;

/// What a picture needs besides its traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SvgOptions<'a> {
    /// What it shows, for those who don't see it.
    pub title: &'a str,
    /// The services that have the first colours, so that a service has the same one in
    /// several pictures. Others come after them, in the order in which they are met.
    pub services: &'a [&'a str],
}

/// A picture of `traces`, one below the other, with those of `logs` that belong to
/// them.
///
/// The same traces give the same text, in whichever order their spans came. It has no
/// ids, so several can stand in one page; no blank line, so that Markdown takes all of
/// it; and nothing in it was written by who exported the spans: names and values are
/// text and no more.
pub fn svg(traces: &[Trace], logs: &[LogRecord], options: SvgOptions<'_>) -> String {
    let mut picture = Picture::new(traces, logs, options);
    for trace in traces {
        picture.trace(trace);
    }
    picture.finish(options.title, traces)
}

/// A height or a place from the top: with little room, and with more.
#[derive(Clone, Copy)]
struct Ys {
    narrow: u32,
    wide: u32,
}

impl Ys {
    fn both(height: u32) -> Self {
        Self {
            narrow: height,
            wide: height,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            narrow: self.narrow.saturating_add(other.narrow),
            wide: self.wide.saturating_add(other.wide),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            narrow: self.narrow.saturating_sub(other.narrow),
            wide: self.wide.saturating_sub(other.wide),
        }
    }
}

/// Where the columns begin, in pixels.
struct Columns {
    /// What the names need.
    name: u32,
    service: u32,
    kind: u32,
    bars: u32,
}

impl Columns {
    fn of(traces: &[Trace]) -> Self {
        let (mut name, mut service, mut kind) = (60.0_f64, 0.0_f64, 0.0_f64);
        for (depth, node) in traces.iter().flat_map(Trace::nodes) {
            let span = &node.span;
            let own = extent(&label(span, depth), NAME_SIZE);
            name = name.max(f64::from(indent(depth)) + own);
            service = service.max(extent(&service_name(span), TEXT_SIZE));
            kind = kind.max(extent(span.kind.as_str(), TEXT_SIZE));
        }
        let name = pixels(name) + 8;
        let service_at = name + 8;
        let kind_at = service_at + pixels(service) + 22;
        Self {
            name,
            service: service_at,
            kind: kind_at,
            bars: kind_at + pixels(kind) + 14,
        }
    }
}

struct Picture<'a> {
    services: Vec<&'a str>,
    around: Around<'a>,
    columns: Columns,
    out: String,
    at: Ys,
}

/// A node on the way down, with what is drawn to the left of it.
struct Branch<'a> {
    node: &'a Node,
    depth: usize,
    /// For each level above: whether its line goes on below this node.
    open: Vec<bool>,
}

/// A line below a row.
struct Note {
    time: Option<u64>,
    text: String,
    class: &'static str,
}

impl<'a> Picture<'a> {
    fn new(traces: &'a [Trace], logs: &'a [LogRecord], options: SvgOptions<'a>) -> Self {
        let mut all = options.services.to_vec();
        for service in services(traces) {
            if !all.contains(&service) {
                all.push(service);
            }
        }
        Self {
            services: all,
            around: Around::new(traces, logs),
            columns: Columns::of(traces),
            out: String::new(),
            at: Ys::both(0),
        }
    }

    fn trace(&mut self, trace: &'a Trace) {
        if self.at.wide > 0 {
            self.at = self.at.plus(Ys::both(20));
        }
        let axis = Axis::of(trace);
        let counts = Counts::of(trace);
        let mut said = format!("{} · {}", counts.spans, counts.services);
        if let Some(errors) = counts.errors {
            let _ = write!(
                said,
                " · <tspan class=\"trace-bad\">{} {errors}</tspan>",
                UNICODE.failed
            );
        }
        let head = format!(
            "<text class=\"trace-head\" y=\"{BASE}\">trace {} <tspan class=\"trace-dim\" dx=\"4\">{said}</tspan></text>",
            short(trace.trace_id, &UNICODE)
        );
        self.place(&head, Ys::both(22));
        let total = duration(axis.length(), &UNICODE);
        let half = duration(axis.length() / 2, &UNICODE);
        let mut labels = String::new();
        for (at, anchor, text) in [
            ("0", "start", "0"),
            (".5", "middle", half.as_str()),
            ("1", "end", total.as_str()),
        ] {
            let _ = write!(
                labels,
                "<text class=\"trace-axis trace-dim\" x=\"{}\" y=\"11\" text-anchor=\"{anchor}\" style=\"--s:{at}\">{text}</text>",
                fallback_x(at.parse().unwrap_or(0.0)),
            );
        }
        self.place(&labels, Ys::both(17));

        // The lines of the axis are behind all rows, and as long as they are high.
        let top = self.at;
        let before = std::mem::take(&mut self.out);
        self.rows(trace, axis);
        let records = self.around.records(trace.trace_id, None);
        if !records.is_empty() {
            let mut notes = vec![Note {
                time: None,
                text: "logs of this trace, in no span that is here".to_owned(),
                class: "trace-dim",
            }];
            notes.extend(in_order(records.into_iter().map(log_note).collect()));
            self.notes(notes, 0, &[], axis);
        }
        let height = self.at.minus(top);
        let rows = std::mem::replace(&mut self.out, before);
        let mut grid = String::new();
        for quarter in 0..=4_u8 {
            let at = f64::from(quarter) / 4.0;
            let _ = write!(
                grid,
                "<rect class=\"trace-grid trace-tall\" x=\"{}\" width=\"1\" height=\"{}\" style=\"--s:{};--h:{}px\"/>",
                fallback_x(at),
                height.narrow,
                fraction(at),
                height.wide,
            );
        }
        self.at = top;
        self.place(&grid, height);
        self.out.push_str(&rows);
    }

    fn rows(&mut self, trace: &'a Trace, axis: Axis) {
        let mut stack: Vec<Branch<'_>> = trace
            .roots
            .iter()
            .rev()
            .map(|node| Branch {
                node,
                depth: 0,
                open: Vec::new(),
            })
            .collect();
        while let Some(branch) = stack.pop() {
            let children = &branch.node.children;
            for (at, child) in children.iter().enumerate().rev() {
                let mut open = branch.open.clone();
                open.push(at + 1 < children.len());
                stack.push(Branch {
                    node: child,
                    depth: branch.depth + 1,
                    open,
                });
            }
            self.row(&branch, axis);
            self.notes_of(&branch, axis);
        }
    }

    fn row(&mut self, branch: &Branch<'_>, axis: Axis) {
        let Branch { node, depth, open } = branch;
        let span = &node.span;
        let left = indent(*depth);
        let end = span.end_unix_nanos.max(span.start_unix_nanos);
        let from = axis.position(span.start_unix_nanos);
        let length = (axis.position(end) - from).max(0.0);
        let colour = self.colour(span);
        let time = duration(span.duration_nanos(), &UNICODE);
        let service = service_name(span);
        let name = label(span, *depth);

        let mut row = format!(
            "<title>{}: {time}, from {} on</title>\n",
            escaped(&plain(&span.name)),
            since_start(span.start_unix_nanos, axis, &UNICODE)
        );
        row.push_str(&guides(*depth, open, !node.children.is_empty()));
        let bar = if is_error(span) { "bad" } else { colour };
        let _ = writeln!(
            row,
            "<rect class=\"trace-bar trace-{bar}\" x=\"{}\" y=\"6\" width=\"{}%\" height=\"10\" rx=\"2\" style=\"--s:{};--d:{}\"/>",
            fallback_x(from),
            fraction(length * 50.0),
            fraction(from),
            fraction(length),
        );
        for event in span.events.iter().take(MAX_NOTES) {
            let at = axis.position(event.time_unix_nanos);
            let _ = writeln!(
                row,
                "<rect class=\"trace-event\" x=\"{}\" y=\"7.5\" width=\"7\" height=\"7\" style=\"--s:{}\"/>",
                fallback_x(at),
                fraction(at),
            );
        }
        if !span.links.is_empty() {
            let _ = writeln!(
                row,
                "<circle class=\"trace-link\" cx=\"{}\" cy=\"{MIDDLE}\" r=\"4\" style=\"--s:{}\"/>",
                fallback_x(from),
                fraction(from),
            );
        }
        let class = if is_error(span) {
            "trace-name trace-bad"
        } else {
            "trace-name"
        };
        let second = left + INDENT;
        let kind_at = second + pixels(extent(&service, TEXT_SIZE)) + 20;
        let _ = write!(
            row,
            "<text class=\"{class}\" x=\"{left}\" y=\"{BASE}\">{}</text>\n\
             <g class=\"trace-service trace-dim\" transform=\"translate({second} {SECOND})\">\
             <circle class=\"trace-{colour}\" cx=\"4\" cy=\"-4\" r=\"4\"/>\
             <text x=\"13\">{}</text></g>\n\
             <text class=\"trace-kind trace-dim\" transform=\"translate({kind_at} {SECOND})\">{}</text>\n\
             <text class=\"trace-time\" x=\"100%\" y=\"{SECOND}\">{time}</text>",
            escaped(&name),
            escaped(&service),
            span.kind,
        );
        self.place(&row, ROW);
    }

    /// What went wrong, links, events, and the log records of a span.
    fn notes_of(&mut self, branch: &Branch<'_>, axis: Axis) {
        let span = &branch.node.span;
        let note = |text: String, class: &'static str| Note {
            time: None,
            text,
            class,
        };
        let mut notes = Vec::new();
        if let Some(text) = parent_note(branch.node.parent) {
            notes.push(note(text.to_owned(), "trace-dim"));
        }
        if let Some(text) = error_note(span, &UNICODE) {
            notes.push(note(text, "trace-bad"));
        }
        // Without a time, so in front of the others.
        let links = span.links.iter().map(|link| {
            let text = format!("○ {}", self.around.link(span, link, &UNICODE));
            note(text, "trace-dim")
        });
        let mut timed: Vec<Note> = links.collect();
        timed.extend(span.events.iter().map(event_note));
        let records = self.around.records(span.trace_id, Some(span.span_id));
        timed.extend(records.into_iter().map(log_note));
        notes.extend(in_order(timed));
        let mut open = branch.open.clone();
        open.push(!branch.node.children.is_empty());
        self.notes(notes, branch.depth, &open, axis);
    }

    fn notes(&mut self, notes: Vec<Note>, depth: usize, open: &[bool], axis: Axis) {
        let left = indent(depth) + INDENT + 2;
        let count = notes.len();
        for (note, number) in notes.into_iter().zip(1..) {
            let time = note.time.map(|time| since_start(time, axis, &UNICODE));
            let taken = f64::from(left) + if time.is_some() { TIME } else { 0.0 };
            let folded = wrapped(&note.text, (PHONE - taken).max(100.0));
            let whole = wrapped(&note.text, (WIDE - taken).max(100.0));
            let high = |lines: &[String]| LINE * u32::try_from(lines.len()).unwrap_or(1);
            let mut height = Ys {
                narrow: high(&folded),
                wide: high(&whole),
            };
            if number == count {
                height = height.plus(Ys::both(GAP));
            }
            let mut text = through(open, height);
            let mut say = |lines: &[String], layout: &str| {
                for (line, at) in lines.iter().zip(0_u32..) {
                    let _ = write!(
                        text,
                        "<text class=\"{layout}{}\" x=\"{left}\" y=\"{}\">{}</text>",
                        note.class,
                        12 + at * LINE,
                        escaped(line),
                    );
                }
            };
            if folded == whole {
                say(&folded, "");
            } else {
                say(&folded, "trace-folded ");
                say(&whole, "trace-whole ");
            }
            if let Some(time) = time {
                let _ = write!(
                    text,
                    "<text class=\"trace-at trace-dim\" x=\"100%\" y=\"12\">{time}</text>"
                );
            }
            self.place(&text, height);
        }
    }

    /// The name of a service's colour.
    fn colour(&self, span: &Span) -> &'static str {
        const NAMES: [&str; COLOURS] = ["0", "1", "2", "3", "4", "5"];
        let at = self.services.iter().position(|it| *it == span.service());
        NAMES[at.unwrap_or(0) % COLOURS]
    }

    /// Puts `inner` below what there is.
    fn place(&mut self, inner: &str, height: Ys) {
        let _ = writeln!(
            self.out,
            "<g class=\"trace-row\" transform=\"translate(0 {})\" style=\"--y:{}px\">{inner}</g>",
            self.at.narrow, self.at.wide,
        );
        self.at = self.at.plus(height);
    }

    fn finish(self, title: &str, traces: &[Trace]) -> String {
        let Columns {
            name,
            service,
            kind,
            bars,
        } = self.columns;
        // Room for what hangs below a baseline.
        let Ys { narrow, wide } = self.at.plus(Ys::both(4));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"trace\" role=\"img\" width=\"100%\" height=\"{narrow}\" \
             style=\"--high:{wide}px;--name:{name}px;--service:{service}px;--kind:{kind}px;--bars:{bars}px\">\n\
             <title>{}</title>\n<desc>{}</desc>\n<style>\n{}</style>\n{}</svg>\n",
            escaped(&plain(title)),
            escaped(&described(traces)),
            style(),
            self.out,
        )
    }
}

/// What is shown of a span's name. The depth stands before it where no more is drawn.
fn label(span: &Span, depth: usize) -> String {
    let mut name = plain(&span.name);
    if is_error(span) {
        name.insert_str(0, "✗ ");
    }
    if depth > MAX_INDENT {
        name.insert_str(0, &format!("…{depth} "));
    }
    fit_width(&name, |c| advance(c) * NAME_SIZE, NAME_MOST)
}

fn service_name(span: &Span) -> String {
    let name = plain(span.service());
    fit_width(&name, |c| advance(c) * TEXT_SIZE, SERVICE_MOST)
}

/// By time, and not more than a person reads.
fn in_order(mut notes: Vec<Note>) -> Vec<Note> {
    notes.sort_by_key(|note| note.time);
    let more = notes.len().saturating_sub(MAX_NOTES);
    notes.truncate(MAX_NOTES);
    if more > 0 {
        notes.push(Note {
            time: None,
            text: format!("… {more} more"),
            class: "trace-dim",
        });
    }
    notes
}

fn event_note(event: &Event) -> Note {
    Note {
        // 0 is a time that isn't known, here and below.
        time: Some(event.time_unix_nanos).filter(|time| *time != 0),
        text: format!("{} {}", UNICODE.event, plain(&event.name)),
        class: "",
    }
}

fn log_note(record: &LogRecord) -> Note {
    Note {
        time: Some(record.timestamp()).filter(|time| *time != 0),
        text: format!("{} {}", severity(record), body(record)),
        class: match record.severity_number {
            17.. => "trace-bad",
            13..=16 => "trace-warn",
            _ => "trace-dim",
        },
    }
}

/// How far a level is from the left.
fn indent(depth: usize) -> u32 {
    INDENT * u32::try_from(depth.min(MAX_INDENT)).unwrap_or(0)
}

/// The lines from a row to what it hangs under, and from it to what hangs under it.
fn guides(depth: usize, open: &[bool], has_children: bool) -> String {
    let mut out = String::new();
    let x = |level: usize| indent(level) + 4;
    if let Some((own, above)) = open.split_last() {
        for level in (0..above.len().min(MAX_INDENT)).filter(|level| above[*level]) {
            let _ = write!(
                out,
                "<rect class=\"trace-guide trace-through\" x=\"{}\" width=\"1\" height=\"{}\"/>",
                x(level),
                ROW.narrow
            );
        }
        if depth <= MAX_INDENT {
            let level = x(depth - 1);
            let (class, height) = if *own {
                (" trace-through", ROW.narrow)
            } else {
                ("", MIDDLE)
            };
            let _ = write!(
                out,
                "<rect class=\"trace-guide{class}\" x=\"{level}\" width=\"1\" height=\"{height}\"/>\
                 <rect class=\"trace-guide\" x=\"{level}\" y=\"{MIDDLE}\" width=\"6\" height=\"1\"/>"
            );
        }
    }
    if has_children && depth < MAX_INDENT {
        let _ = write!(
            out,
            "<rect class=\"trace-guide trace-below\" x=\"{}\" y=\"19\" width=\"1\" height=\"{}\"/>",
            x(depth),
            ROW.narrow - 19,
        );
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

/// The lines that pass what stands below a row.
fn through(open: &[bool], height: Ys) -> String {
    let mut out = String::new();
    for level in (0..open.len().min(MAX_INDENT)).filter(|level| open[*level]) {
        let _ = write!(
            out,
            "<rect class=\"trace-guide trace-tall\" x=\"{}\" width=\"1\" height=\"{}\" style=\"--h:{}px\"/>",
            indent(level) + 4,
            height.narrow,
            height.wide,
        );
    }
    out
}

/// The traces in words, a part for each span.
fn described(traces: &[Trace]) -> String {
    let mut parts = Vec::new();
    let mut more = 0_usize;
    for trace in traces {
        for (depth, node) in trace.nodes() {
            if parts.len() >= TOLD {
                more += 1;
                continue;
            }
            let span = &node.span;
            let place = match depth {
                0 => format!("trace {}: ", short(trace.trace_id, &UNICODE)),
                depth => format!("level {depth}: "),
            };
            let kind = match span.kind {
                SpanKind::Unspecified => String::new(),
                kind => format!(", {kind}"),
            };
            let error = error_note(span, &UNICODE).map(|note| format!(", {note}"));
            parts.push(format!(
                "{place}{}{kind} of {}, {}{}",
                plain(&span.name),
                plain(span.service()),
                duration(span.duration_nanos(), &UNICODE),
                error.unwrap_or_default(),
            ));
        }
    }
    if more > 0 {
        parts.push(format!("{more} more"));
    }
    parts.join("; ")
}

/// About how wide `c` is, as a part of the text's size: rather too much than too
/// little, since nobody knows which font there will be.
fn advance(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '|' | '!' | '\'' => 0.34,
        ' ' | 'f' | 't' | 'r' | '(' | ')' | '/' | '[' | ']' | '-' => 0.42,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.92,
        'A'..='Z' => 0.7,
        c if c.is_ascii() => 0.59,
        c => 0.62 * crate::text::char_width(c) as f64,
    }
}

/// About how wide `text` is, in pixels.
fn extent(text: &str, size: f64) -> f64 {
    text.chars().map(|c| advance(c) * size).sum()
}

/// Whole pixels. What is no number, or no size of a picture, is none.
fn pixels(size: f64) -> u32 {
    // Saturates, and is 0 for what is negative or not a number.
    size.ceil().min(10_000.0) as u32
}

/// `text` in lines of about `room` pixels.
fn wrapped(text: &str, room: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let candidate = if line.is_empty() {
            word.to_owned()
        } else {
            format!("{line} {word}")
        };
        if line.is_empty() || extent(&candidate, TEXT_SIZE) <= room {
            line = candidate;
        } else {
            lines.push(std::mem::replace(&mut line, word.to_owned()));
        }
    }
    lines.push(line);
    if lines.len() > NOTE_LINES {
        lines.truncate(NOTE_LINES);
        if let Some(last) = lines.last_mut() {
            last.push('…');
        }
    }
    lines
        .into_iter()
        .map(|line| fit_width(&line, |c| advance(c) * TEXT_SIZE, room.max(TEXT_SIZE)))
        .collect()
}

/// Where on the axis something is, for who doesn't read the style: the right half.
fn fallback_x(at: f64) -> String {
    format!("{}%", fraction(50.0 + at * 50.0))
}

/// A number with at most four digits after the point.
fn fraction(number: f64) -> String {
    let text = format!("{number:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() || text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

/// Text between two tags. Beside what XML asks for, mdBook would take `{{#…}}` for an
/// order of its own.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '{' => out.push_str("&#123;"),
            '}' => out.push_str("&#125;"),
            // XML has no way to say these.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// What holds at each width, and the colours: as variables that a page may set, each
/// with what a file by itself has on white.
const STYLE: &str = "\
.trace{display:block;max-width:100%;overflow:hidden;font:12px/1.2 var(--trace-font,system-ui,-apple-system,Segoe UI,Roboto,sans-serif);--b:min(50%,var(--name));--r:2px;--w:calc(100% - var(--b) - var(--r))}
.trace text{fill:var(--trace-text,#1f2328);paint-order:stroke;stroke:var(--trace-back,#fff);stroke-width:3px;stroke-linejoin:round}
.trace .trace-name{font-size:13px;font-weight:600}
.trace .trace-head{font-size:13px;font-weight:600}
.trace .trace-head .trace-dim,.trace .trace-head .trace-bad{font-size:12px;font-weight:400}
.trace .trace-dim,.trace .trace-dim text{fill:var(--trace-dim,#59636e)}
.trace .trace-bad{fill:var(--trace-bad,#b3261e)}
.trace .trace-warn{fill:var(--trace-warn,#8a5300)}
.trace .trace-kind{letter-spacing:.02em}
.trace .trace-time,.trace .trace-at{text-anchor:end;font-variant-numeric:tabular-nums}
.trace .trace-whole{display:none}
.trace .trace-grid{fill:var(--trace-grid,#e4e8ec);x:calc(var(--b) + var(--w)*var(--s))}
.trace .trace-guide{fill:var(--trace-guide,#b1bac4)}
.trace .trace-axis{transform:translateX(calc(var(--b) + var(--w)*var(--s) - 50% - 50%*var(--s)))}
.trace .trace-bar{x:calc(var(--b) + var(--w)*var(--s));width:max(2px,calc(var(--w)*var(--d)))}
.trace .trace-event{fill:var(--trace-text,#1f2328);stroke:var(--trace-back,#fff);x:calc(var(--b) + var(--w)*var(--s) - 3.5px);transform-box:fill-box;transform-origin:center;transform:rotate(45deg)}
.trace .trace-link{fill:var(--trace-back,#fff);stroke:var(--trace-text,#1f2328);stroke-width:1.5px;cx:calc(var(--b) + var(--w)*var(--s) - 5px)}
.trace .trace-0{fill:var(--trace-0,#0b7d72)}
.trace .trace-1{fill:var(--trace-1,#8a3fd1)}
.trace .trace-2{fill:var(--trace-2,#2563c9)}
.trace .trace-3{fill:var(--trace-3,#9a6100)}
.trace .trace-4{fill:var(--trace-4,#b0307f)}
.trace .trace-5{fill:var(--trace-5,#5a6b1f)}
";

/// The same for a file by itself.
const ALONE: &str = "\
:root.trace{background:#fff;max-width:960px;box-sizing:content-box;padding:12px;width:calc(100% - 24px)}
@media (prefers-color-scheme:dark){:root.trace{background:#0d1117;--trace-back:#0d1117;--trace-text:#e6edf3;--trace-dim:#9aa4af;--trace-bad:#ff8e86;--trace-warn:#e3b341;--trace-grid:#22282f;--trace-guide:#4a525c;--trace-0:#3fc9b0;--trace-1:#c79bff;--trace-2:#6ea8ff;--trace-3:#e0a84a;--trace-4:#f08bc4;--trace-5:#b5c95a}}
";

/// All of it: where there is room, a span is one line.
fn style() -> String {
    let wide = |root: &str| {
        format!(
            "{root}{{height:var(--high);--b:var(--bars);--r:66px}}\
             {root} .trace-row{{transform:translateY(var(--y))}}\
             {root} .trace-tall{{height:var(--h)}}\
             {root} .trace-folded{{display:none}}\
             {root} .trace-whole{{display:inline}}\
             {root} .trace-through{{height:{row}px}}\
             {root} .trace-below{{height:{below}px}}\
             {root} .trace-service{{transform:translate(var(--service),{BASE}px)}}\
             {root} .trace-kind{{transform:translate(var(--kind),{BASE}px)}}\
             {root} .trace-time{{transform:translateY({up}px)}}",
            row = ROW.wide,
            below = ROW.wide - 19,
            up = i64::from(BASE) - i64::from(SECOND),
        )
    };
    format!(
        "{STYLE}@container trace (min-width:600px){{{}}}\n@media (min-width:600px){{{}}}\n{ALONE}",
        wide(".trace"),
        wide(":root.trace"),
    )
}
