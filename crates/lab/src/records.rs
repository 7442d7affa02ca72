//! The log records that came over OTLP.

use otlp::{LogRecord, Value};

use crate::{Case, Failure, Outcome, Recording, is_around};

/// Attribute names that would say once more what a record's own fields say: of this
/// course's lines, and of the Python distribution's records.
const REPEATED: [&str; 7] = [
    "trace_id",
    "span_id",
    "trace_flags",
    "otelTraceID",
    "otelSpanID",
    "otelTraceSampled",
    "otelServiceName",
];

impl Recording {
    /// The log records of the program under test, in the order of their arrival.
    pub fn records(&self) -> impl Iterator<Item = &LogRecord> {
        self.logs
            .iter()
            .filter(|record| !is_around(record.service()))
    }
}

impl Case {
    /// The only record whose body has `words` in it.
    ///
    /// # Errors
    /// The finding, if there is none or there are several.
    pub fn the_record<'a>(
        &self,
        words: &str,
        recording: &'a Recording,
    ) -> Result<&'a LogRecord, Failure> {
        let found: Vec<_> = recording
            .records()
            .filter(|record| body(record).contains(words))
            .collect();
        match found.as_slice() {
            [record] => Ok(record),
            _ => {
                let all: Vec<_> = recording.records().map(told).collect();
                let got = if all.is_empty() {
                    "no log record".to_owned()
                } else {
                    all.join("\n")
                };
                let sentence = format!("{} log records say {words:?}", found.len());
                Err(self.told("RECORDS", sentence, "one record", &got).into())
            }
        }
    }

    /// Whether the record in which `words` stand was written in the span `name`, with the
    /// severity `severity` (Logs data model, "SeverityNumber"), and names the span by its
    /// own fields, not by attributes.
    ///
    /// # Errors
    /// The finding, if it wasn't.
    pub fn expect_record_in(
        &self,
        words: &str,
        name: &str,
        severity: i32,
        recording: &Recording,
    ) -> Outcome {
        let record = self.the_record(words, recording)?;
        let span = self.the_span(name, recording)?;
        if (record.trace_id, record.span_id) != (Some(span.trace_id), Some(span.span_id)) {
            let sentence = format!("a log record is not of the span `{name}`");
            let expected = format!("trace_id {} span_id {}", span.trace_id, span.span_id);
            return Err(self
                .told("RECORD-IDS", sentence, &expected, &told(record))
                .into());
        }
        self.expect_severity(record, severity)?;
        let repeated = record.attributes.iter().map(|it| it.key.as_str());
        let repeated: Vec<_> = repeated.filter(|key| REPEATED.contains(key)).collect();
        if repeated.is_empty() {
            return Ok(());
        }
        let sentence = "a log record says its ids twice, in its own fields and as attributes";
        Err(self
            .told(
                "REPEATED",
                sentence,
                "no such attribute",
                &repeated.join(", "),
            )
            .into())
    }

    /// Whether the record has this severity number.
    ///
    /// # Errors
    /// The finding, if it hasn't.
    pub fn expect_severity(&self, record: &LogRecord, severity: i32) -> Outcome {
        if record.severity_number == severity {
            return Ok(());
        }
        let sentence = "a log record has another severity number";
        let got = format!("{}: {}", record.severity_number, told(record));
        Err(self
            .told("SEVERITY", sentence, &severity.to_string(), &got)
            .into())
    }

    /// Whether the record has the attribute, with this value and type.
    ///
    /// # Errors
    /// The finding, if it hasn't.
    pub fn expect_record_attribute(
        &self,
        record: &LogRecord,
        key: &str,
        expected: impl Into<Value>,
    ) -> Outcome {
        let expected = expected.into();
        if record.attribute(key) == Some(&expected) {
            return Ok(());
        }
        let sentence = format!("`{key}` of a log record is not as expected");
        let got = record.attribute(key);
        let got = got.map_or_else(|| "no such attribute".to_owned(), ToString::to_string);
        let got = format!("{got}, in {}", told(record));
        Err(self
            .told("RECORD-ATTRIBUTE", sentence, &expected.to_string(), &got)
            .into())
    }
}

/// SeverityNumber of ERROR (Logs data model): from here on it is an error.
const ERROR: i32 = 17;

/// An exception that is expected, once.
pub struct Exception<'a> {
    /// The span in which it is recorded.
    pub span: &'a str,
    /// The end of `exception.type`; what stands before is the program's own.
    pub kind: &'a str,
    /// In `exception.message`.
    pub message: &'a str,
}

impl Case {
    /// Whether there is one error among the log records, and it is this one (conventions,
    /// "Exceptions in logs").
    ///
    /// # Errors
    /// The finding, if there is another, several or none.
    pub fn expect_exception(&self, expected: &Exception<'_>, recording: &Recording) -> Outcome {
        let Exception {
            span,
            kind,
            message,
        } = expected;
        let record = self.the_error(&format!("in the span `{span}`: {message}"), recording)?;
        for (key, words) in [("exception.type", kind), ("exception.message", message)] {
            let got = record.attribute(key);
            let is_it = match got {
                Some(Value::Str(text)) if key == "exception.type" => text.ends_with(words),
                Some(Value::Str(text)) => text.contains(words),
                _ => false,
            };
            if !is_it {
                let sentence = format!("`{key}` of the log record is not as expected");
                let got = got.map_or_else(|| "no such attribute".to_owned(), ToString::to_string);
                return Err(self
                    .told("EXCEPTION", sentence, &format!("…{words}…"), &got)
                    .into());
            }
        }
        let span = self.the_span(span, recording)?;
        if (record.trace_id, record.span_id) == (Some(span.trace_id), Some(span.span_id)) {
            return Ok(());
        }
        let sentence = format!("the error is not recorded in the span `{}`", span.name);
        let expected = format!("trace_id {} span_id {}", span.trace_id, span.span_id);
        Err(self
            .told("EXCEPTION-SPAN", sentence, &expected, &told(record))
            .into())
    }

    /// The only log record of an error; `of_what` completes "one, …".
    ///
    /// # Errors
    /// The finding, if there is none or there are several.
    pub fn the_error<'a>(
        &self,
        of_what: &str,
        recording: &'a Recording,
    ) -> Result<&'a LogRecord, Failure> {
        let errors: Vec<_> = errors(recording).collect();
        if let [record] = errors[..] {
            return Ok(record);
        }
        let id = if errors.is_empty() {
            "EXCEPTIONS"
        } else {
            "RECORDED-TWICE"
        };
        let sentence = format!("there are {} log records of one error", errors.len());
        let expected = format!("one, {of_what}");
        Err(self.told(id, sentence, &expected, &all(&errors)).into())
    }

    /// Whether no log record is one of an error.
    ///
    /// # Errors
    /// The finding, if one is.
    pub fn expect_no_exception(&self, recording: &Recording) -> Outcome {
        let errors: Vec<_> = errors(recording).collect();
        if errors.is_empty() {
            return Ok(());
        }
        let sentence = "nothing failed, and a log record says something did";
        Err(self
            .told("EXCEPTIONS", sentence, "none", &all(&errors))
            .into())
    }
}

fn errors(recording: &Recording) -> impl Iterator<Item = &LogRecord> {
    let records = recording.records();
    records.filter(|record| record.severity_number >= ERROR)
}

fn all(records: &[&LogRecord]) -> String {
    if records.is_empty() {
        return "none".to_owned();
    }
    let records: Vec<_> = records.iter().map(|record| told(record)).collect();
    records.join("\n")
}

/// The body, if it is text.
fn body(record: &LogRecord) -> &str {
    match &record.body {
        Value::Str(text) => text,
        _ => "",
    }
}

/// A record in one line.
fn told(record: &LogRecord) -> String {
    let ids = match (record.trace_id, record.span_id) {
        (Some(trace), Some(span)) => format!("[trace_id={trace} span_id={span}] "),
        _ => String::new(),
    };
    let target = &record.scope.name;
    format!("{} {ids}{target}: {}", record.severity_text, body(record))
}
