//! One request to a program of its own, and what it left behind.

use std::time::Duration;

use crate::{Case, Failure, LabConfig, Recording, behaviour::body, contract::AROUND};

/// A caller's trace id, as the checks send it.
pub const CALLER_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A caller's span id, as the checks send it.
pub const CALLER_SPAN: &str = "00f067aa0ba902b7";

/// A `traceparent` of [`CALLER_SPAN`] with these flags.
pub fn traceparent(flags: &str) -> String {
    format!("00-{CALLER_TRACE}-{CALLER_SPAN}-{flags}")
}

/// Whether `service` is one of those around tier1, which have spans in each step.
pub fn is_around(service: &str) -> bool {
    AROUND.contains(&service)
}

/// How long a service that exports in the background is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request that a check makes. See [`Case::ask`].
pub struct Ask<'a> {
    case: &'a Case,
    config: LabConfig,
    method: &'a str,
    path: &'a str,
    headers: Vec<(&'a str, String)>,
    variables: Vec<(&'a str, &'a str)>,
    status: u16,
    body: Option<String>,
    patient: bool,
}

impl Case {
    /// A GET of `path` to a program of its own. It is to be answered 200 and, for
    /// `/fast` and `/slow`, with their text, unless said otherwise.
    pub fn ask<'a>(&'a self, path: &'a str) -> Ask<'a> {
        Ask {
            case: self,
            config: self.config(),
            method: "GET",
            path,
            headers: Vec::new(),
            variables: Vec::new(),
            status: 200,
            body: match path {
                "/fast" => Some(body("fast")),
                "/slow" => Some(body("slow")),
                _ => None,
            },
            patient: false,
        }
    }

    /// A GET of an unknown path to a program that is [`Case::alone`]. It is to be answered
    /// 404, and touches nobody else.
    pub fn ask_alone(&self) -> Ask<'_> {
        self.ask("/nope").status(404).config(self.alone())
    }
}

impl<'a> Ask<'a> {
    /// Another method than GET.
    #[must_use]
    pub fn method(mut self, method: &'a str) -> Self {
        self.method = method;
        self
    }

    /// A header more.
    #[must_use]
    pub fn header(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// A `traceparent` of [`CALLER_SPAN`] with these flags.
    #[must_use]
    pub fn caller(self, flags: &str) -> Self {
        self.header("traceparent", traceparent(flags))
    }

    /// A variable more for the program under test.
    #[must_use]
    pub fn variable(mut self, name: &'a str, value: &'a str) -> Self {
        self.variables.push((name, value));
        self
    }

    /// Another system.
    #[must_use]
    pub fn config(mut self, config: LabConfig) -> Self {
        self.config = config;
        self
    }

    /// Another answer than 200, whatever its text.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self.body = None;
        self
    }

    /// For a service that doesn't send its last spans when it ends: lets it export
    /// every 50 ms, and waits for the first export before it is told to end.
    #[must_use]
    pub fn patiently(mut self) -> Self {
        self.variables.push(("OTEL_BSP_SCHEDULE_DELAY", "50"));
        self.patient = true;
        self
    }

    /// Starts the program, makes the request, looks at the answer, ends the program, and
    /// answers what was exported. The system around it may be one that served another
    /// request of this check before: see [`Lab::finish_one`].
    ///
    /// [`Lab::finish_one`]: crate::Lab::finish_one
    ///
    /// # Errors
    /// The finding, if the answer is another; or what went wrong with the surroundings.
    pub fn record(self) -> Result<Recording, Failure> {
        let mut lab = self.case.idle(self.config)?;
        lab.spawn(self.case.program(), &self.variables)?;
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let response = lab.request(self.method, self.path, &headers)?;
        let request = format!("{} {}", self.method, self.path);
        match &self.body {
            Some(body) => {
                self.case
                    .expect_response(&request, self.status, body, &response)?;
            }
            None => self.case.expect(
                "STATUS",
                &format!("the status of {request}"),
                self.status,
                response.status,
            )?,
        }
        if self.patient {
            // If none comes, the comparison that follows says so.
            let _ = lab.wait_for("an export", PATIENCE, |snapshot| {
                let mut spans = snapshot.spans().iter();
                spans.find(|span| !is_around(span.service())).map(|_| ())
            });
        }
        let (recording, is_at_rest) = lab.finish_one()?;
        if is_at_rest {
            self.case.keep(lab);
        }
        Ok(recording)
    }
}
