//! What a program wrote on stdout, line by line, and what each line says of its trace.

use crate::{Case, Failure, Outcome, Recording};

/// One log line of tier1's, text or JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// As it was written, without its end.
    pub text: String,
    /// What it says of its trace, if it does.
    pub ids: Option<LineIds>,
}

/// The ids on a line, as they are written (specification, "Trace context in non-OTLP log
/// formats").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineIds {
    /// `trace_id`.
    pub trace_id: String,
    /// `span_id`.
    pub span_id: String,
    /// `trace_flags`.
    pub trace_flags: String,
}

impl LogLine {
    /// Reads `…[trace_id=… span_id=… trace_flags=…]…`, or a JSON object with these
    /// three on its top level. A line that has not all three, as text, has none.
    pub fn parse(line: &str) -> Self {
        let ids = if line.starts_with('{') {
            serde_json::from_str::<serde_json::Value>(line)
                .ok()
                .and_then(|object| ids(|name| object.get(name)?.as_str().map(ToOwned::to_owned)))
        } else {
            line.split_once("[trace_id=").and_then(|(_, rest)| {
                let (inside, _) = rest.split_once(']')?;
                let words = format!("trace_id={inside}");
                ids(|name| {
                    let mut pairs = words.split(' ').filter_map(|word| word.split_once('='));
                    pairs
                        .find(|(key, _)| *key == name)
                        .map(|(_, value)| value.to_owned())
                })
            })
        };
        Self {
            text: line.to_owned(),
            ids,
        }
    }
}

impl LogLine {
    /// Whether it speaks of a trace, but not by `trace_id` with 32 hexadecimal digits,
    /// `span_id` with 16 and `trace_flags` with 2.
    fn is_of_another_form(&self) -> bool {
        let Some(ids) = &self.ids else {
            let text = self.text.to_ascii_lowercase();
            return text.contains("trace_id") || text.contains("traceid");
        };
        let is_hex = |text: &str, length| {
            text.len() == length && text.bytes().all(|it| it.is_ascii_hexdigit())
        };
        !(is_hex(&ids.trace_id, 32) && is_hex(&ids.span_id, 16) && is_hex(&ids.trace_flags, 2))
    }
}

fn ids(value: impl Fn(&str) -> Option<String>) -> Option<LineIds> {
    Some(LineIds {
        trace_id: value("trace_id")?,
        span_id: value("span_id")?,
        trace_flags: value("trace_flags")?,
    })
}

impl Recording {
    /// The lines that the subject wrote on stdout.
    pub fn lines(&self) -> Vec<LogLine> {
        let stdout = self.exit.as_ref().map_or("", |exit| exit.stdout.as_str());
        stdout.lines().map(LogLine::parse).collect()
    }
}

impl Case {
    /// The only line in which `words` stand.
    ///
    /// # Errors
    /// The finding, if there is none or there are several.
    pub fn the_line<'a>(&self, words: &str, lines: &'a [LogLine]) -> Result<&'a LogLine, Failure> {
        let found: Vec<_> = lines
            .iter()
            .filter(|line| line.text.contains(words))
            .collect();
        match found.as_slice() {
            [line] => Ok(line),
            _ => {
                let all: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
                let sentence = format!("{} lines say {words:?}", found.len());
                Err(self
                    .told("LINES", sentence, "one line", &all.join("\n"))
                    .into())
            }
        }
    }

    /// Whether the line in which `words` stand names the span `name`, which is looked for
    /// among those that came.
    ///
    /// # Errors
    /// The finding, if it names another or none.
    pub fn expect_line_in(&self, words: &str, name: &str, recording: &Recording) -> Outcome {
        let lines = recording.lines();
        let line = self.the_line(words, &lines)?;
        let span = self.the_span(name, recording)?;
        let expected = LineIds {
            trace_id: span.trace_id.to_string(),
            span_id: span.span_id.to_string(),
            trace_flags: "01".to_owned(),
        };
        self.expect_ids(line, Some(&expected), &format!("of the span `{name}`"))
    }

    /// Whether the line has these ids; `whose` completes "the ids …" in the finding.
    ///
    /// # Errors
    /// The finding, if it hasn't.
    pub fn expect_ids(&self, line: &LogLine, ids: Option<&LineIds>, whose: &str) -> Outcome {
        if line.ids.as_ref() == ids {
            return Ok(());
        }
        let expected = ids.map_or_else(|| "no ids".to_owned(), told);
        if line.is_of_another_form() {
            let sentence =
                "the ids on a log line don't have the names and forms that are specified";
            return Err(self.told("FORM", sentence, &expected, &line.text).into());
        }
        let sentence = match (&line.ids, ids) {
            (None, _) => format!("a log line doesn't have the ids {whose}"),
            (Some(_), None) => format!("a log line has ids, but {whose}"),
            (Some(_), Some(_)) => format!("a log line has other ids than those {whose}"),
        };
        Err(self.told("IDS", sentence, &expected, &line.text).into())
    }

    /// Whether each line that has ids has those of a span that was exported.
    ///
    /// # Errors
    /// The finding, for the first that hasn't.
    pub fn expect_ids_of_spans(&self, recording: &Recording) -> Outcome {
        for line in recording.lines() {
            let Some(ids) = &line.ids else { continue };
            if ids.trace_id.bytes().all(|digit| digit == b'0') {
                let sentence = "a log line that was written outside of any span has ids of zeros";
                return Err(self.told("ZEROS", sentence, "no ids", &line.text).into());
            }
            let is_exported = recording.spans.iter().any(|span| {
                span.trace_id.to_string() == ids.trace_id && span.span_id.to_string() == ids.span_id
            });
            if !is_exported {
                let sentence = "a log line has the ids of a span that was not exported";
                let spans: Vec<_> = recording
                    .spans
                    .iter()
                    .map(|span| format!("{} {} {}", span.trace_id, span.span_id, span.name))
                    .collect();
                return Err(self
                    .told("IDS", sentence, &spans.join("\n"), &line.text)
                    .into());
            }
        }
        Ok(())
    }
}

fn told(ids: &LineIds) -> String {
    format!(
        "trace_id {} span_id {} trace_flags {}",
        ids.trace_id, ids.span_id, ids.trace_flags
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> LineIds {
        LineIds {
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            span_id: "00f067aa0ba902b7".to_owned(),
            trace_flags: "01".to_owned(),
        }
    }

    #[test]
    fn text_is_read() {
        let line = "2026 INFO [trace_id=4bf92f3577b34da6a3ce929d0e0e4736 \
                    span_id=00f067aa0ba902b7 trace_flags=01] tier1: message queued [x=1]";
        assert_eq!(LogLine::parse(line).ids, Some(ids()));
    }

    #[test]
    fn json_is_read_on_its_top_level_only() {
        let inner = r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7","trace_flags":"01""#;
        assert_eq!(LogLine::parse(&format!("{{{inner}}}")).ids, Some(ids()));
        let nested = format!("{{\"span\":{{{inner}}}}}");
        assert_eq!(LogLine::parse(&nested).ids, None);
    }

    #[test]
    fn two_of_three_are_none() {
        for line in [
            "INFO [trace_id=1 span_id=2] x",
            "INFO [trace_id=1 span_id=2 trace_flags=01",
            r#"{"trace_id":"1","span_id":"2"}"#,
            r#"{"trace_id":1,"span_id":2,"trace_flags":1}"#,
            "{not JSON",
        ] {
            assert_eq!(LogLine::parse(line).ids, None, "{line}");
        }
    }
}
