//! What several checks look at, besides the traces.

use std::time::Duration;

use otlp::{Span, Value};

use crate::{Case, Lab, LabConfig, Outcome, Part, Recording, behaviour::body};

impl Case {
    /// Shows the traces of `request` as a waterfall under the results, if all tests pass.
    pub fn show_traces(&self, request: &str, recording: &Recording) {
        let options = otlp::WaterfallOptions::default();
        let waterfall = otlp::waterfall(&recording.traces(), &[], &options);
        self.show(format!("{request}\n\n{waterfall}"));
    }

    /// The same with the log records of the program under test, each under its span.
    pub fn show_with_records(&self, request: &str, recording: &Recording) {
        let logs: Vec<_> = recording.records().cloned().collect();
        let options = otlp::WaterfallOptions::default();
        let waterfall = otlp::waterfall(&recording.traces(), &logs, &options);
        self.show(format!("{request}, with its log records\n\n{waterfall}"));
    }

    /// A system with nothing around tier1: an unknown path needs nothing.
    pub fn alone(&self) -> LabConfig {
        [Part::Tier2, Part::Saas, Part::Queue]
            .into_iter()
            .fold(self.config(), LabConfig::without)
    }

    /// Asks for `/fast` until it is answered 200: tier1 connects to the queue in the background.
    ///
    /// # Errors
    /// The finding, if that hasn't come about after ten seconds.
    pub fn connected(&self, lab: &Lab) -> Outcome {
        match lab.get_until_connected()? {
            response if response.status == 200 => Ok(()),
            response => self.expect_response("/fast", 200, &body("fast"), &response),
        }
    }

    /// The only span of that name.
    ///
    /// # Errors
    /// The finding, if there is none or there are several.
    pub fn the_span<'a>(
        &self,
        name: &str,
        recording: &'a Recording,
    ) -> Result<&'a Span, crate::Failure> {
        let named: Vec<_> = recording
            .spans
            .iter()
            .filter(|span| span.name == name)
            .collect();
        match named.as_slice() {
            [span] => Ok(span),
            _ => {
                let all: Vec<_> = recording
                    .spans
                    .iter()
                    .map(|span| span.name.as_str())
                    .collect();
                let sentence = format!("there are {} spans called `{name}`", named.len());
                let got = if all.is_empty() {
                    "no span".to_owned()
                } else {
                    all.join(", ")
                };
                Err(self
                    .told("SPANS", sentence, &format!("one span `{name}`"), &got)
                    .into())
            }
        }
    }

    /// Whether the span `name` took at least as long as `least`.
    ///
    /// # Errors
    /// The finding, if it didn't.
    pub fn expect_duration(&self, name: &str, least: Duration, recording: &Recording) -> Outcome {
        let took = Duration::from_nanos(self.the_span(name, recording)?.duration_nanos());
        if took >= least {
            return Ok(());
        }
        let sentence = format!("the span `{name}` ended before the work did");
        let expected = format!("{least:?} or more");
        Err(self
            .told("EARLY", sentence, &expected, &format!("{took:?}"))
            .into())
    }

    /// Whether the span has the attribute, with this value and type.
    ///
    /// # Errors
    /// The finding, if it hasn't.
    pub fn expect_attribute(&self, span: &Span, key: &str, expected: impl Into<Value>) -> Outcome {
        let expected = expected.into();
        let got = span.attribute(key);
        if got == Some(&expected) {
            return Ok(());
        }
        let sentence = format!("`{key}` of the span `{}` is not as expected", span.name);
        let got = got.map_or_else(|| "no such attribute".to_owned(), ToString::to_string);
        Err(self
            .told("ATTRIBUTE", sentence, &expected.to_string(), &got)
            .into())
    }
}
