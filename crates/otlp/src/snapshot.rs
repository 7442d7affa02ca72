//! Normalised traces, the text of a snapshot, and its parser.
//!
//! ```text
//! trace 1
//! └─ GET /fast · SERVER · tier1-service · Unset
//!    │ http.response.status_code = 200
//!    │ http.route = "/fast"
//!    │ server.port = int <port>
//!    └─ publish signups · PRODUCER · tier1-service · Unset
//!       │ messaging.operation.name = "publish"
//!    └─ GET · CLIENT · tier1-service · Error
//!       │ error.type = "502"
//!       │ event: exception
//!       │   exception.type = "Refused"
//!       │ link → trace 2 span 1 (process signups)
//! ```
//!
//! Three columns of indentation are one level. Every span line starts with `└─`,
//! also when siblings follow, and no line says anything about lines before or
//! after it: so a span or attribute more or less is a line more or less in a
//! diff and changes no other. Names that could be misread are quoted and escaped
//! like string values, which makes the text read back to the same tree.

use std::fmt;

use crate::model::{KeyValue, SpanId, SpanKind, StatusCode, TraceId, Value};
use crate::text::{is_unsafe, quote, unquote};
use crate::trace::MAX_DEPTH;

/// Normalised traces: what [`Rules::normalize`](crate::Rules::normalize) makes
/// and what a snapshot holds. [`Display`](fmt::Display) writes the snapshot's
/// text, [`parse`](Self::parse) reads it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Normalized {
    /// The traces in the snapshot's order.
    pub traces: Vec<NormalTrace>,
}

/// What a snapshot expects: the same thing, read from its text.
pub type Expected = Normalized;

/// One trace of a snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NormalTrace {
    /// Counts from 1.
    pub number: usize,
    /// The spans that have no parent above them.
    pub roots: Vec<NormalSpan>,
}

/// One span of a snapshot.
#[derive(Clone, Debug, Default)]
pub struct NormalSpan {
    /// Counts from 1 in each trace, in the order of the lines.
    pub number: usize,
    /// The span's name.
    pub name: String,
    /// Its kind.
    pub kind: SpanKind,
    /// The service that made it, or "".
    pub service: String,
    /// The code of its status.
    pub status: StatusCode,
    /// Where its parent is.
    pub parent: NormalParent,
    /// The attributes kept, sorted by key and text; duplicates are there twice.
    pub attributes: Vec<NormalAttribute>,
    /// Its events in the order in which they were recorded.
    pub events: Vec<NormalEvent>,
    /// Its links in the order in which they were recorded.
    pub links: Vec<NormalLink>,
    /// The spans under it.
    pub children: Vec<NormalSpan>,
    /// Which span this was, unless it was read from a text. No part of the
    /// text, and not compared.
    pub source: Option<(TraceId, SpanId)>,
}

impl PartialEq for NormalSpan {
    /// Compares all but `source`.
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
            && self.name == other.name
            && self.kind == other.kind
            && self.service == other.service
            && self.status == other.status
            && self.parent == other.parent
            && self.attributes == other.attributes
            && self.events == other.events
            && self.links == other.links
            && self.children == other.children
    }
}

/// Where a normalised span's parent is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum NormalParent {
    /// The span names no parent.
    #[default]
    None,
    /// Above it.
    Above,
    /// It names one that was not received.
    NotReceived,
    /// It names one that is not above it: see [`Parent::Cut`](crate::Parent::Cut).
    NotAbove,
}

/// One attribute of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct NormalAttribute {
    /// The name.
    pub key: String,
    /// The value, as far as the snapshot shows it.
    pub value: Shown,
}

/// A value, or what stands for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    /// The value itself.
    Verbatim(Value),
    /// A value that changes between runs: its type, and what it is.
    Redacted {
        /// As [`Value::type_name`] gives it.
        type_name: String,
        /// In angle brackets: `<port>`.
        placeholder: String,
    },
}

impl Shown {
    /// The type, which is always shown.
    pub fn type_name(&self) -> String {
        match self {
            Shown::Verbatim(value) => value.type_name(),
            Shown::Redacted { type_name, .. } => type_name.clone(),
        }
    }

    /// A placeholder with the type of `value`. Anything in `placeholder` that
    /// the text could not hold is replaced by `_`.
    pub(crate) fn redacted(value: &Value, placeholder: &str) -> Self {
        let inner: String = placeholder
            .trim_start_matches('<')
            .trim_end_matches('>')
            .chars()
            .map(|c| {
                if is_unsafe(c) || matches!(c, '<' | '>') {
                    '_'
                } else {
                    c
                }
            })
            .collect();
        Shown::Redacted {
            type_name: value.type_name(),
            placeholder: format!("<{inner}>"),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shown::Verbatim(value) => write!(f, "{value}"),
            Shown::Redacted {
                type_name,
                placeholder,
            } => write!(f, "{type_name} {placeholder}"),
        }
    }
}

/// One event of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct NormalEvent {
    /// The event's name.
    pub name: String,
    /// The attributes kept, sorted.
    pub attributes: Vec<NormalAttribute>,
}

/// One link of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct NormalLink {
    /// The span it points to.
    pub target: Target,
    /// The attributes kept, sorted.
    pub attributes: Vec<NormalAttribute>,
}

/// The span a link points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The span right above.
    Parent,
    /// Another span of the snapshot.
    Span {
        /// The number of its trace.
        trace: usize,
        /// Its number in that trace.
        span: usize,
        /// Its name, which is for the reader.
        name: String,
    },
    /// A span that is not in the snapshot.
    Unknown,
}

impl Normalized {
    /// All spans with their depth (0 for roots), each before its children.
    pub fn spans(&self) -> impl Iterator<Item = (&NormalTrace, usize, &NormalSpan)> {
        self.traces
            .iter()
            .flat_map(|trace| trace.spans().map(move |(depth, span)| (trace, depth, span)))
    }

    /// Reads what [`Display`](fmt::Display) wrote. Blank lines, spaces at the
    /// end of lines and `\r\n` make no difference.
    ///
    /// # Errors
    /// [`ParseError`] says which line can't be read, and why.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Parser::default().read(text)
    }
}

impl NormalTrace {
    /// All spans with their depth (0 for roots), each before its children.
    pub fn spans(&self) -> impl Iterator<Item = (usize, &NormalSpan)> {
        let mut stack: Vec<(usize, &NormalSpan)> =
            self.roots.iter().rev().map(|span| (0, span)).collect();
        std::iter::from_fn(move || {
            let (depth, span) = stack.pop()?;
            stack.extend(span.children.iter().rev().map(|s| (depth + 1, s)));
            Some((depth, span))
        })
    }
}

impl NormalSpan {
    /// The first attribute under `key`.
    pub fn attribute(&self, key: &str) -> Option<&Shown> {
        self.attributes
            .iter()
            .find(|attribute| attribute.key == key)
            .map(|attribute| &attribute.value)
    }

    /// The span's own line without its indentation:
    /// `GET · CLIENT · tier1-service · Unset`.
    pub fn headline(&self) -> String {
        let note = match self.parent {
            NormalParent::None | NormalParent::Above => "",
            NormalParent::NotReceived => NOT_RECEIVED,
            NormalParent::NotAbove => NOT_ABOVE,
        };
        let mut line = [
            word(&self.name),
            self.kind.to_string(),
            word(&self.service),
            self.status.to_string(),
        ]
        .join(SEPARATOR);
        if !note.is_empty() {
            line.push_str(SEPARATOR);
            line.push_str(note);
        }
        line
    }

    /// The lines below the span's own, without their indentation: attributes,
    /// events, links.
    pub fn details(&self) -> Vec<String> {
        let line = |attribute: &NormalAttribute| attribute.to_string();
        let indented = |attribute: &NormalAttribute| format!("{INNER}{attribute}");
        let mut lines: Vec<String> = self.attributes.iter().map(line).collect();
        for event in &self.events {
            lines.push(format!("{EVENT}{}", word(&event.name)));
            lines.extend(event.attributes.iter().map(indented));
        }
        for link in &self.links {
            lines.push(format!("{LINK}{}", link.target));
            lines.extend(link.attributes.iter().map(indented));
        }
        lines
    }
}

const SEPARATOR: &str = " · ";
const BRANCH: &str = "└─ ";
const DETAIL: &str = "│ ";
const INNER: &str = "  ";
const EVENT: &str = "event: ";
const LINK: &str = "link → ";
const NOT_RECEIVED: &str = "parent not received";
const NOT_ABOVE: &str = "parent not above";
const NO_TRACES: &str = "no traces";

/// How many columns one level is.
const STEP: usize = 3;

/// A name as it is if it can't be misread, else quoted.
fn word(name: &str) -> String {
    let plain = !name.is_empty()
        && name.trim() == name
        && !name
            .chars()
            .any(|c| is_unsafe(c) || matches!(c, '"' | '\\' | '·' | '(' | ')'));
    if plain { name.to_owned() } else { quote(name) }
}

/// A key as it is if it can't be misread, else quoted.
fn key_word(key: &str) -> String {
    let plain = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '@'));
    if plain { key.to_owned() } else { quote(key) }
}

impl fmt::Display for NormalAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", key_word(&self.key), self.value)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Parent => f.write_str("parent"),
            Target::Unknown => f.write_str("unknown"),
            Target::Span { trace, span, name } => {
                write!(f, "trace {trace} span {span} ({})", word(name))
            }
        }
    }
}

impl fmt::Display for Normalized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.traces.is_empty() {
            return writeln!(f, "{NO_TRACES}");
        }
        for (i, trace) in self.traces.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{trace}")?;
        }
        Ok(())
    }
}

impl fmt::Display for NormalTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "trace {}", self.number)?;
        for (depth, span) in self.spans() {
            let indent = STEP * depth;
            writeln!(f, "{:indent$}{BRANCH}{}", "", span.headline())?;
            let indent = indent + STEP;
            for line in span.details() {
                writeln!(f, "{:indent$}{DETAIL}{line}", "")?;
            }
        }
        Ok(())
    }
}

/// A line of a snapshot's text can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ParseError {
    /// Counts from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// Reads line by line. The spans that may still get children are a path from a
/// root downwards; a line at a lesser depth closes the deeper ones.
#[derive(Default)]
struct Parser {
    out: Normalized,
    path: Vec<NormalSpan>,
    spans: usize,
}

impl Parser {
    fn read(mut self, text: &str) -> Result<Normalized, ParseError> {
        for (i, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || (line == NO_TRACES && self.out.traces.is_empty()) {
                continue;
            }
            self.line(line).map_err(|problem| ParseError {
                line: i + 1,
                problem,
            })?;
        }
        self.close(0);
        Ok(self.out)
    }

    /// Puts the open spans below `depth` under their parents.
    fn close(&mut self, depth: usize) {
        while self.path.len() > depth {
            let Some(span) = self.path.pop() else { return };
            match (self.path.last_mut(), self.out.traces.last_mut()) {
                (Some(parent), _) => parent.children.push(span),
                (None, Some(trace)) => trace.roots.push(span),
                (None, None) => {}
            }
        }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(number) = line.strip_prefix("trace ") {
            self.close(0);
            self.spans = 0;
            self.out.traces.push(NormalTrace {
                number: number.parse().map_err(|_| "expected a trace number")?,
                roots: Vec::new(),
            });
            return Ok(());
        }
        let rest = line.trim_start_matches(' ');
        let indent = line.len() - rest.len();
        if self.out.traces.is_empty() {
            return Err("expected `trace 1`".to_owned());
        }
        if !indent.is_multiple_of(STEP) {
            return Err(format!("the indentation is no multiple of {STEP}"));
        }
        let depth = indent / STEP;
        if let Some(head) = rest.strip_prefix(BRANCH) {
            if depth > self.path.len() || depth >= MAX_DEPTH {
                return Err("the span is too far to the right".to_owned());
            }
            self.close(depth);
            self.spans += 1;
            let span = headline(head, depth > 0, self.spans)?;
            self.path.push(span);
            Ok(())
        } else if let Some(detail) = rest.strip_prefix(DETAIL) {
            let open = self.path.len();
            match self.path.last_mut() {
                Some(span) if depth > 0 => {
                    if depth != open {
                        return Err("the line does not belong to the span above it".to_owned());
                    }
                    read_detail(span, detail)
                }
                _ => Err("expected a span".to_owned()),
            }
        } else {
            Err("expected a trace, a span (`└─ …`) or what it holds (`│ …`)".to_owned())
        }
    }
}

/// Reads a [`word`] that ends at `end` or with the line; gives it and the rest.
fn read_word<'a>(input: &'a str, end: &str) -> Result<(String, &'a str), String> {
    let (word, rest) = if input.starts_with('"') {
        unquote(input)?
    } else {
        let at = input.find(end).unwrap_or(input.len());
        (input[..at].to_owned(), &input[at..])
    };
    if rest.is_empty() {
        return Ok((word, ""));
    }
    match rest.strip_prefix(end) {
        Some(rest) => Ok((word, rest)),
        None => Err(format!("expected `{end}` after {}", quote(&word))),
    }
}

fn headline(head: &str, has_parent: bool, number: usize) -> Result<NormalSpan, String> {
    let (name, rest) = read_word(head, SEPARATOR)?;
    let (kind, rest) = read_word(rest, SEPARATOR)?;
    let (service, rest) = read_word(rest, SEPARATOR)?;
    let (status, note) = read_word(rest, SEPARATOR)?;
    let parent = match (note, has_parent) {
        ("", true) => NormalParent::Above,
        ("", false) => NormalParent::None,
        (NOT_RECEIVED, false) => NormalParent::NotReceived,
        (NOT_ABOVE, false) => NormalParent::NotAbove,
        _ => return Err(format!("unexpected {}", quote(note))),
    };
    Ok(NormalSpan {
        number,
        name,
        kind: SpanKind::parse(&kind).ok_or_else(|| format!("{} is no kind", quote(&kind)))?,
        service,
        status: StatusCode::parse(&status)
            .ok_or_else(|| format!("{} is no status", quote(&status)))?,
        parent,
        ..NormalSpan::default()
    })
}

fn read_detail(span: &mut NormalSpan, line: &str) -> Result<(), String> {
    if let Some(line) = line.strip_prefix(INNER) {
        let attribute = read_attribute(line)?;
        // Links come after events: an inner line belongs to the last of them.
        if let Some(link) = span.links.last_mut() {
            link.attributes.push(attribute);
        } else if let Some(event) = span.events.last_mut() {
            event.attributes.push(attribute);
        } else {
            return Err("expected an event or a link above".to_owned());
        }
    } else if let Some(name) = line.strip_prefix(EVENT) {
        if !span.links.is_empty() {
            return Err("an event after a link".to_owned());
        }
        let (name, rest) = read_word(name, "\n")?;
        end(rest)?;
        span.events.push(NormalEvent {
            name,
            attributes: Vec::new(),
        });
    } else if let Some(target) = line.strip_prefix(LINK) {
        span.links.push(NormalLink {
            target: read_target(target)?,
            attributes: Vec::new(),
        });
    } else if span.events.is_empty() && span.links.is_empty() {
        span.attributes.push(read_attribute(line)?);
    } else {
        return Err("an attribute after an event or a link".to_owned());
    }
    Ok(())
}

fn end(rest: &str) -> Result<(), String> {
    if rest.is_empty() {
        Ok(())
    } else {
        Err(format!("unexpected {}", quote(rest)))
    }
}

fn read_target(text: &str) -> Result<Target, String> {
    match text {
        "parent" => return Ok(Target::Parent),
        "unknown" => return Ok(Target::Unknown),
        _ => {}
    }
    let problem = || format!("{} is no link target", quote(text));
    let rest = text.strip_prefix("trace ").ok_or_else(problem)?;
    let (trace, rest) = rest.split_once(" span ").ok_or_else(problem)?;
    let (span, rest) = rest.split_once(" (").ok_or_else(problem)?;
    let (name, rest) = read_word(rest, ")")?;
    end(rest)?;
    Ok(Target::Span {
        trace: trace.parse().map_err(|_| problem())?,
        span: span.parse().map_err(|_| problem())?,
        name,
    })
}

fn read_attribute(line: &str) -> Result<NormalAttribute, String> {
    let (key, rest) = read_word(line, " = ")?;
    let value = match rest.split_once(" <") {
        // No value starts like that: a string has its quote first.
        Some((type_name, placeholder)) if is_type_name(type_name) && placeholder.ends_with('>') => {
            Shown::Redacted {
                type_name: type_name.to_owned(),
                placeholder: format!("<{placeholder}"),
            }
        }
        _ => {
            let (value, rest) = read_value(rest, 0)?;
            end(rest)?;
            Shown::Verbatim(value)
        }
    };
    Ok(NormalAttribute { key, value })
}

fn is_type_name(text: &str) -> bool {
    matches!(
        text.trim_end_matches("[]"),
        "string" | "bool" | "int" | "double" | "bytes" | "map" | "empty" | "array"
    )
}

/// How deep values may nest in a text.
const MAX_NESTING: usize = 128;

/// Reads a value as [`Value`]'s `Display` writes it; gives it and the rest.
fn read_value(input: &str, nesting: usize) -> Result<(Value, &str), String> {
    if nesting > MAX_NESTING {
        return Err("the value nests too deeply".to_owned());
    }
    if input.starts_with('"') {
        let (text, rest) = unquote(input)?;
        return Ok((Value::Str(text), rest));
    }
    if let Some(mut rest) = input.strip_prefix('[') {
        let mut values = Vec::new();
        while !rest.starts_with(']') {
            if !values.is_empty() {
                rest = rest.strip_prefix(", ").ok_or("expected `, ` or `]`")?;
            }
            let (value, after) = read_value(rest, nesting + 1)?;
            values.push(value);
            rest = after;
        }
        return Ok((Value::Array(values), &rest[1..]));
    }
    if let Some(mut rest) = input.strip_prefix('{') {
        let mut entries = Vec::new();
        while !rest.starts_with('}') {
            if !entries.is_empty() {
                rest = rest.strip_prefix(", ").ok_or("expected `, ` or `}`")?;
            }
            let (key, after) = unquote(rest)?;
            let after = after.strip_prefix(": ").ok_or("expected `: `")?;
            let (value, after) = read_value(after, nesting + 1)?;
            entries.push(KeyValue { key, value });
            rest = after;
        }
        return Ok((Value::Map(entries), &rest[1..]));
    }
    let at = input.find([',', ']', '}']).unwrap_or(input.len());
    let (token, rest) = input.split_at(at);
    let value = match token {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "empty" => Value::Empty,
        "NaN" => Value::Double(f64::NAN),
        "Infinity" => Value::Double(f64::INFINITY),
        "-Infinity" => Value::Double(f64::NEG_INFINITY),
        _ => match token.strip_prefix("0x") {
            Some(hex) => crate::json::hex(hex).map(Value::Bytes),
            None => match token.parse() {
                Ok(number) => Some(Value::Int(number)),
                Err(_) => token
                    .parse()
                    .ok()
                    .filter(|_| {
                        token.contains(['.', 'e']) && token.contains(|c: char| c.is_ascii_digit())
                    })
                    .map(Value::Double),
            },
        }
        .ok_or_else(|| format!("{} is no value; a text needs quotes", quote(token)))?,
    };
    Ok((value, rest))
}
